//! The room's settings.

use std::time::Duration;

/// What the room needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Threads that partitions share.
    pub arbiters: usize,
    /// Resident actors per partition at most.
    pub residents_max: usize,
    /// Bytes that the resident actors of a partition take at most, about.
    pub resident_bytes_max: usize,
    /// How long an actor stays without being used.
    pub idle_max: Duration,
    /// Messages that wait for one user at most.
    pub mailbox_max: usize,
    /// Messages that wait for one partition at most.
    pub partition_mailbox_max: usize,
    /// Records of a partition in flight at most.
    pub in_flight_max: usize,
    /// Bytes of a partition in flight at most; all partitions together stay under what the journal
    /// takes.
    pub in_flight_bytes_max: usize,
    /// Effects that a partition owes to others before it refuses commands.
    pub outbox_max: usize,
    /// How long a request waits for the other side.
    pub time_limit: Duration,
    /// Time between two checkpoints of a partition at most, while it changes.
    pub checkpoint_interval: Duration,
    /// Records between two checkpoints of a partition at most.
    pub checkpoint_records: u64,
    /// Accounts whose existence is remembered, over all partitions.
    pub accounts_max: usize,
    /// Records after which a partition's owner writes a snapshot; 0 for never.
    pub snapshot_records: u64,
    /// Time after which it does, if anything changed.
    pub snapshot_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            arbiters: 1,
            residents_max: 12_500,
            resident_bytes_max: 32 << 20,
            idle_max: Duration::from_secs(300),
            mailbox_max: 1024,
            partition_mailbox_max: 10_000,
            in_flight_max: 20_000,
            in_flight_bytes_max: 2 << 20,
            outbox_max: 200_000,
            time_limit: Duration::from_secs(3),
            checkpoint_interval: Duration::from_secs(10),
            checkpoint_records: 10_000,
            accounts_max: 1_000_000,
            snapshot_records: 1_000_000,
            snapshot_interval: Duration::from_secs(86_400),
        }
    }
}
