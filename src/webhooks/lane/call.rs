//! What a lane hands out for a user.

use std::sync::Arc;

use crate::journal::Offset;
use crate::webhooks::digest::CallId;
use crate::webhooks::feed::Calls;
use crate::webhooks::payload::Delivery;

/// A call to be made, the same on every try.
#[derive(Clone, Debug)]
pub(in crate::webhooks) struct Call {
    pub(in crate::webhooks) id: CallId,
    /// Its place in the chain of calls of this lane, from 1.
    pub(in crate::webhooks) seq: u64,
    /// The call before it in the chain.
    pub(in crate::webhooks) prev: Option<CallId>,
    /// Attempts at it so far.
    pub(in crate::webhooks) attempts: u32,
    /// Its record's calls, and which of them it is.
    pub(super) calls: Arc<Calls>,
    pub(super) index: usize,
}

/// What a ready user needs.
#[derive(Debug)]
pub(in crate::webhooks) enum Start {
    /// This call is to be made.
    Call(Call),
    /// The record at this offset is to be read again.
    Fetch(Offset),
    /// Nothing.
    Nothing,
}

impl Call {
    /// What is told.
    pub(in crate::webhooks) fn delivery(&self) -> &Delivery {
        &self.calls.calls[self.index]
    }

    /// The record that it is told of.
    pub(in crate::webhooks) fn record(&self) -> &Calls {
        &self.calls
    }
}
