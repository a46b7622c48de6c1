//! The promises of every journal, once, run against each adapter.
//!
//! An adapter joins with a [`Provider`] and one line `journal_contract!(…)` at the end.

mod promises;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cordon::journal::{
    Entry, Journal, JournalError, Offset, Partition, ReadJournal, Settlement, embedded, kafka,
};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// How long anything may take before the test gives up.
const DEADLINE: Duration = Duration::from_secs(30);

/// How many partitions the journals of these tests have.
const PARTITIONS: u16 = 4;

/// How many bytes of records wait for the disk at most, in the journals of these tests.
const PENDING_BYTES_MAX: usize = 256 << 10;

/// Makes journals of one adapter, with [`PARTITIONS`] and [`PENDING_BYTES_MAX`].
trait Provider: Sized {
    /// A new, empty journal; nothing where the adapter cannot run, which it has said then.
    fn create() -> Option<Self>;
    /// The journal.
    fn journal(&self) -> Arc<dyn Journal>;
    /// Leaves the journal and opens it again.
    fn reopen(self) -> Self;
}

struct Embedded {
    journal: Arc<embedded::Journal>,
    dir: TempDir,
}

impl Embedded {
    fn open(dir: TempDir) -> Self {
        let settings = embedded::Settings {
            partitions: PARTITIONS,
            // Small, so that every promise is kept over the border of segments.
            segment_bytes: 64 << 10,
            pending_bytes_max: PENDING_BYTES_MAX,
            ..embedded::Settings::new(dir.path().join("journal"))
        };
        Self { journal: embedded::Journal::open(settings).expect("the journal opens"), dir }
    }
}

impl Provider for Embedded {
    fn create() -> Option<Self> {
        Some(Self::open(tempfile::tempdir().expect("a folder for the test")))
    }

    fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.journal) as Arc<dyn Journal>
    }

    fn reopen(self) -> Self {
        let Self { journal, dir } = self;
        drop(journal);
        Self::open(dir)
    }
}

struct Kafka {
    journal: Arc<kafka::Journal>,
    settings: kafka::Settings,
}

impl Provider for Kafka {
    fn create() -> Option<Self> {
        let settings = kafka::Settings {
            cluster: kafka::ClusterSettings {
                brokers: vec![crate::support::kafka::shared()?.to_owned()],
                prefix: format!("contract.{}.", uuid::Uuid::now_v7()),
                security: kafka::Security::default(),
                client_id: "contract".into(),
            },
            partitions: PARTITIONS,
            replication: 1,
            development: true,
            pending_bytes_max: PENDING_BYTES_MAX,
        };
        let journal = kafka::Journal::open(settings.clone()).expect("the journal opens");
        Some(Self { journal, settings })
    }

    fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.journal) as Arc<dyn Journal>
    }

    fn reopen(self) -> Self {
        let Self { journal, settings } = self;
        drop(journal);
        let journal = kafka::Journal::open(settings.clone()).expect("the journal opens");
        Self { journal, settings }
    }
}

/// The other end of [`Journal::attach`].
struct Settlements(UnboundedReceiver<Settlement>);

impl Settlements {
    fn of(journal: &dyn Journal, partition: Partition) -> Self {
        let (sender, receiver) = unbounded_channel();
        journal.attach(partition, sender);
        Self(receiver)
    }

    fn next(&mut self) -> Settlement {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let waited = runtime
            .expect("a runtime")
            .block_on(async { tokio::time::timeout(DEADLINE, self.0.recv()).await });
        waited.expect("a settlement comes in time").expect("the journal lives")
    }

    /// The offsets of the next `count` records, all durable.
    fn offsets(&mut self, count: usize) -> Vec<u64> {
        let mut offsets = Vec::new();
        while offsets.len() < count {
            match self.next() {
                Settlement::Durable { first, count } => {
                    assert!(count >= 1);
                    offsets.extend(first.0..first.0 + count);
                }
                Settlement::Lost => panic!("lost on a healthy disk"),
            }
        }
        assert_eq!(offsets.len(), count, "as many records are settled as were appended");
        offsets
    }

    fn expect_silence(&mut self) {
        assert!(self.0.try_recv().is_err(), "each record is settled once");
    }
}

fn partitions() -> impl Iterator<Item = Partition> {
    (0..PARTITIONS).map(Partition)
}

fn text(partition: Partition, index: u64) -> String {
    format!("{{\"partition\":{partition},\"index\":{index}}}")
}

/// Appends `count` records to every partition in turn, numbered from `first`, and waits for them.
fn fill(journal: &dyn Journal, first: u64, count: u64) {
    let mut settlements: Vec<_> =
        partitions().map(|partition| Settlements::of(journal, partition)).collect();
    for index in first..first + count {
        for partition in partitions() {
            append(journal, partition, text(partition, index).as_bytes());
        }
    }
    journal.flush();
    for settlements in &mut settlements {
        settlements.offsets(count as usize);
    }
}

/// Appends, and lets the journal get on with it while it has too much in flight.
fn append(journal: &dyn Journal, partition: Partition, record: &[u8]) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match journal.append(partition, record) {
            Ok(()) => return,
            Err(JournalError::Full) => journal.flush(),
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "the journal stays full");
        std::thread::yield_now();
    }
}

fn read(journal: &dyn ReadJournal, from: &[(Partition, Offset)]) -> Vec<Entry> {
    let mut reader = journal.reader(from).expect("a reader");
    let mut entries = Vec::new();
    loop {
        let more = reader.next(1000).expect("readable records");
        if more.is_empty() {
            return entries;
        }
        entries.extend(more);
    }
}

fn whole() -> Vec<(Partition, Offset)> {
    partitions().map(|partition| (partition, Offset(0))).collect()
}

fn expect_text(entry: &Entry) {
    let expected = text(entry.partition, entry.offset.0);
    assert_eq!(String::from_utf8_lossy(&entry.bytes), expected);
}

/// Runs every promise against one provider; the attributes go to each test.
macro_rules! journal_contract {
    ($room:ident, $provider:ident $(, #[$attribute:meta])*) => {
        journal_contract!(@promises $room, $provider, [$(#[$attribute])*],
            a_new_journal_is_empty,
            offsets_start_at_0_and_have_no_gaps,
            records_of_a_partition_keep_the_order_of_their_appends,
            each_append_is_settled_once_and_in_order,
            what_was_acknowledged_is_there_after_opening_again,
            a_reader_starts_at_any_offset_of_any_partitions,
            a_reader_takes_as_much_as_it_asks_for_and_at_least_one,
            an_offset_behind_the_end_is_refused,
            a_reader_at_the_end_goes_on_when_progress_is_told,
            what_is_settled_can_be_read_and_what_is_read_lies_before_the_end,
            a_prefix_is_durable_where_the_journal_promises_it,
            more_than_fits_is_refused_and_what_was_taken_is_kept,
            a_record_is_read_as_it_was_written,
            the_later_claim_wins_and_a_zombie_counts_for_nobody,
        );
    };
    (@promises $room:ident, $provider:ident, $attributes:tt, $($promise:ident,)*) => {
        mod $room {
            $(journal_contract!(@one $provider, $attributes, $promise);)*
        }
    };
    (@one $provider:ident, [$($attribute:tt)*], $promise:ident) => {
        #[test]
        $($attribute)*
        fn $promise() {
            super::promises::$promise::<super::$provider>();
        }
    };
}

journal_contract!(embedded_journal, Embedded);
journal_contract!(kafka_journal, Kafka);
