//! What readiness is judged by.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::journal::Journal;

/// How long a node may be without a look before it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How the node is.
pub(super) struct State {
    /// Once it is open.
    journal: OnceLock<Arc<dyn Journal>>,
    phase: Mutex<(Phase, Instant)>,
}

pub(super) enum Phase {
    /// Not ready yet, or not any more, for this reason.
    Unready(String),
    Ready,
    Draining,
}

impl State {
    pub(super) fn starting() -> Self {
        let phase = Phase::Unready("the node is starting".into());
        Self { journal: OnceLock::new(), phase: Mutex::new((phase, Instant::now())) }
    }

    /// The journal is open; from now on the node is ready only while it can be written. Once.
    pub(super) fn judge_by(&self, journal: Arc<dyn Journal>) {
        let judged = self.journal.set(journal);
        assert!(judged.is_ok(), "a node has one journal");
    }

    fn writable(&self) -> Result<(), String> {
        let writable = self.journal.get().map(|journal| journal.writable());
        writable.unwrap_or(Ok(())).map_err(|error| error.to_string())
    }

    /// Takes note of a look at the node. Once it is draining that is not taken back.
    pub(super) fn set(&self, phase: Phase) {
        let mut known = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(known.0, Phase::Draining) {
            *known = (phase, Instant::now());
        }
    }

    pub(super) fn ready(&self) -> Result<(), String> {
        let known = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        match &known.0 {
            Phase::Draining => Err("the node is stopping".into()),
            // A full disk explains why partitions take no commands.
            Phase::Unready(reason) => Err(match self.writable() {
                Ok(()) => reason.clone(),
                Err(error) => format!("{reason}: {error}"),
            }),
            Phase::Ready if known.1.elapsed() > STUCK_AFTER => {
                Err("the node has not looked after itself for a while".into())
            }
            Phase::Ready => self.writable(),
        }
    }
}
