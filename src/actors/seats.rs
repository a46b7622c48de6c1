//! What this node does with each partition: read by the steward and by the door.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::journal::{Epoch, Partition};

/// What this node has to do with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// Nothing.
    Vacant,
    /// It follows what the owner records.
    StandingBy {
        /// Everything that was there has been read once.
        caught_up: bool,
        /// The last valid record is the former owner's release.
        released: bool,
    },
    /// It is taking the partition over.
    Claiming,
    /// It owns the partition.
    Serving {
        /// Its term of office.
        epoch: Epoch,
        /// The store takes no rows: they stay in memory, which has no room for ever.
        cramped: bool,
    },
    /// It is handing the partition over.
    Leaving,
}

impl Seat {
    /// Whether the partition is told what others answer to its effects: also while it is handed over,
    /// because that is what it waits for.
    pub(super) fn hears_answers(self) -> bool {
        matches!(self, Self::Serving { .. } | Self::Leaving)
    }
}

/// All seats of the node, written by the partitions and the standby, read by everybody.
#[derive(Debug)]
pub(super) struct Seats {
    seats: Mutex<Vec<Seat>>,
    changes: watch::Sender<u64>,
    /// Until when each partition may answer questions, in milliseconds since `began`.
    leases: Vec<AtomicU64>,
    began: Instant,
    /// How far plays have moved the moment, in milliseconds.
    #[cfg(test)]
    ahead_ms: AtomicU64,
    closed: Mutex<bool>,
    closing: Condvar,
}

impl Seats {
    pub(super) fn new(partitions: u16) -> Self {
        let count = usize::from(partitions);
        Self {
            seats: Mutex::new(vec![Seat::Vacant; count]),
            changes: watch::Sender::new(0),
            leases: (0..count).map(|_| AtomicU64::new(0)).collect(),
            began: Instant::now(),
            #[cfg(test)]
            ahead_ms: AtomicU64::new(0),
            closed: Mutex::new(false),
            closing: Condvar::new(),
        }
    }

    pub(super) fn all(&self) -> Vec<Seat> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn get(&self, partition: Partition) -> Seat {
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.get(usize::from(partition.0)).copied().unwrap_or(Seat::Vacant)
    }

    pub(super) fn set(&self, partition: Partition, seat: Seat) {
        self.change(partition, |known| *known = seat);
    }

    /// The standby reports its state of a partition. Ignored once this node has begun to claim it.
    pub(super) fn stand_by(&self, partition: Partition, seat: Seat) {
        self.change(partition, |known| {
            if matches!(known, Seat::Vacant | Seat::StandingBy { .. }) {
                *known = seat;
            }
        });
    }

    /// The store takes no rows of a partition, or takes them again.
    pub(super) fn cramp(&self, partition: Partition, is_so: bool) {
        self.change(partition, |known| {
            if let Seat::Serving { cramped, .. } = known {
                *cramped = is_so;
            }
        });
    }

    fn change(&self, partition: Partition, change: impl FnOnce(&mut Seat)) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = seats.get_mut(usize::from(partition.0)) else { return };
        let before = *known;
        change(known);
        let changed = *known != before;
        drop(seats);
        if changed {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The node is stopping: no lease is kept any more.
    pub(super) fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.closing.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `pause`, or until the node is stopping. Answers whether it is.
    pub(super) fn closes_within(&self, pause: Duration) -> bool {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.closing.wait_timeout_while(closed, pause, |closed| !*closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The partitions that are served.
    pub(super) fn serving(&self) -> Vec<Partition> {
        let all = self.all().into_iter().enumerate();
        all.filter(|(_, seat)| matches!(seat, Seat::Serving { .. }))
            .map(|(index, _)| Partition(index as u16))
            .collect()
    }

    /// The moment by which leases are kept.
    pub(super) fn now(&self) -> Instant {
        let now = Instant::now();
        #[cfg(test)]
        let now = now + Duration::from_millis(self.ahead_ms.load(Ordering::Acquire));
        now
    }

    /// Moves the moment to so long behind the real one.
    #[cfg(test)]
    pub(super) fn set_ahead(&self, ahead: Duration) {
        self.ahead_ms.store(ahead.as_millis() as u64, Ordering::Release);
    }

    /// `partition` may answer questions for `lease` from `confirmed` on; a later confirmation stays.
    pub(super) fn extend_lease(&self, partition: Partition, confirmed: Instant, lease: Duration) {
        let until = (confirmed + lease).saturating_duration_since(self.began).as_millis() as u64;
        if let Some(known) = self.leases.get(usize::from(partition.0)) {
            known.fetch_max(until, Ordering::Release);
        }
    }

    pub(super) fn end_lease(&self, partition: Partition) {
        if let Some(known) = self.leases.get(usize::from(partition.0)) {
            known.store(0, Ordering::Release);
        }
    }

    /// Until when `partition` may answer questions; nothing if its lease has ended.
    #[cfg(test)]
    pub(super) fn lease_until(&self, partition: Partition) -> Option<Instant> {
        let until = self.leases[usize::from(partition.0)].load(Ordering::Acquire);
        (until > 0).then(|| self.began + Duration::from_millis(until))
    }

    /// Whether `partition` may answer questions now.
    pub(super) fn lease_holds(&self, partition: Partition) -> bool {
        let until = self.leases.get(usize::from(partition.0));
        let until = until.map_or(0, |until| until.load(Ordering::Acquire));
        let now = self.now().saturating_duration_since(self.began);
        until > 0 && (now.as_millis() as u64) < until
    }
}
