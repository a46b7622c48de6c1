//! Subscriptions of no app, for tests of what happens before anybody is asked.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};

use super::{Metrics, Subscribers};
use crate::actors::Users;
use crate::clock::Clock;
use crate::journal::{JournalError, Offset, Partition, ReadJournal, Reader};
use crate::webhooks::Desks;

/// Nothing was ever recorded, and nobody asks.
struct Nothing;

impl ReadJournal for Nothing {
    fn partitions(&self) -> u16 {
        0
    }

    fn reader(&self, _: &[(Partition, Offset)]) -> Result<Box<dyn Reader>, JournalError> {
        unreachable!("an app that nobody knows is refused before")
    }

    fn end(&self, _: Partition) -> Result<Offset, JournalError> {
        unreachable!("there is no partition")
    }
}

impl Subscribers {
    /// Those of no app: whatever is asked of them is refused at once.
    pub(crate) fn nobody(clock: Clock, desks: Arc<Desks>) -> Self {
        Self {
            users: Users::nobody(),
            journal: Arc::new(Nothing),
            clock,
            webhooks: Weak::new(),
            desks,
            apps: BTreeMap::new(),
            known: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            untold: AtomicBool::new(false),
            loaded: AtomicBool::new(false),
            metrics: Metrics::default(),
        }
    }
}
