//! What a lane hands out for a user.

use std::sync::Arc;

use crate::journal::Offset;
use crate::webhooks::digest::DeliveryId;
use crate::webhooks::feed::Deliveries;
use crate::webhooks::payload::Payload;

/// A delivery to be made, the same on every try.
#[derive(Clone, Debug)]
pub(in crate::webhooks) struct Delivery {
    pub(in crate::webhooks) id: DeliveryId,
    /// Its place in the chain of deliveries of this lane, from 1.
    pub(in crate::webhooks) seq: u64,
    /// The delivery before it in the chain.
    pub(in crate::webhooks) prev: Option<DeliveryId>,
    /// Attempts at it so far.
    pub(in crate::webhooks) attempts: u32,
    /// Its record's deliveries, and which of them it is.
    pub(super) all: Arc<Deliveries>,
    pub(super) index: usize,
}

/// What a ready user needs.
#[derive(Debug)]
pub(in crate::webhooks) enum Start {
    /// This is to be delivered.
    Deliver(Delivery),
    /// The record at this offset is to be read again.
    Fetch(Offset),
    /// Nothing.
    Nothing,
}

impl Delivery {
    /// What is told.
    pub(in crate::webhooks) fn payload(&self) -> &Payload {
        &self.all.payloads[self.index]
    }

    /// The record that it is told of.
    pub(in crate::webhooks) fn record(&self) -> &Deliveries {
        &self.all
    }
}
