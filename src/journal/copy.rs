//! Copies a journal whole, byte for byte and offset for offset: how a team that began on one machine
//! moves to a cluster, and back.
//!
//! Offsets are kept, because cursors of webhooks name them; records that never counted are copied
//! like all others, because they hold offsets. So the copy is the same journal to every reader.
//!
//! An interrupted copy is resumed if what is there is the source's beginning; otherwise it is refused.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::{Entry, Journal, JournalError, Offset, Partition, ReadJournal, Settlement};

/// Bytes read from the source at once.
const READ_BYTES: usize = 1 << 20;
/// Records in flight to the target at most.
const IN_FLIGHT_MAX: usize = 10_000;
/// How long the target may take to say what became of a record.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a copy waits when the target has as much in flight as it takes.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of them were there before, from a copy that was broken off.
    pub found: u64,
    /// The digest of the source as it was read: see [`Digest`].
    pub digest: Digest,
}

/// A digest of a journal: equal for journals with the same records at the same places, whatever
/// order their partitions are read in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u128);

impl Digest {
    /// Adds a record.
    pub fn add(&mut self, entry: &Entry) {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&entry.partition.0.to_be_bytes());
        hasher.update(&entry.offset.0.to_be_bytes());
        hasher.update(&entry.bytes);
        self.0 ^= hasher.digest128();
    }

    /// The digest of everything that `journal` holds.
    ///
    /// Errors: a part of it cannot be read.
    pub fn of(journal: &dyn ReadJournal) -> Result<Self, JournalError> {
        let mut digest = Self::default();
        each(journal, |entry| digest.add(entry))?;
        Ok(digest)
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Why a journal cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the two cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Users live in other partitions there.
    #[error(
        "the source has {from} partitions and the target {to}: the numbers have to be the same"
    )]
    Partitions {
        /// The source's.
        from: u16,
        /// The target's.
        to: u16,
    },
    /// There is something already, and no copy of this source has left it.
    #[error(
        "the target is not empty: its partition {partition}, which ends at offset {end}, is not the beginning \
         of the source's; empty the target and begin again"
    )]
    NotEmpty {
        /// Where.
        partition: Partition,
        /// How much.
        end: Offset,
    },
    /// The target lost a record, or took one from somebody else meanwhile. What was copied so far is
    /// no journal: empty the target and begin again.
    #[error(
        "partition {partition}: the record of offset {expected} did not get there ({found}); empty \
         the target and begin again"
    )]
    Misplaced {
        /// Which partition.
        partition: Partition,
        /// Where the record stands in the source.
        expected: Offset,
        /// What became of it.
        found: String,
    },
}

fn from_start(journal: &dyn ReadJournal) -> Vec<(Partition, Offset)> {
    (0..journal.partitions()).map(|partition| (Partition(partition), Offset(0))).collect()
}

/// Reads all that `journal` holds.
fn each(journal: &dyn ReadJournal, mut take: impl FnMut(&Entry)) -> Result<(), JournalError> {
    let mut reader = journal.reader(&from_start(journal))?;
    loop {
        let entries = reader.next(READ_BYTES)?;
        if entries.is_empty() {
            return Ok(());
        }
        entries.iter().for_each(&mut take);
    }
}

/// What stands in front of `ends` in `journal`, and the digest of it in each partition.
fn beginning(
    journal: &dyn ReadJournal,
    ends: &[Offset],
) -> Result<(Copied, Vec<Digest>), JournalError> {
    let mut digests = vec![Digest::default(); ends.len()];
    let mut copied = Copied::default();
    if ends.iter().any(|end| *end > Offset(0)) {
        each(journal, |entry| {
            let partition = usize::from(entry.partition.0);
            if entry.offset < ends[partition] {
                digests[partition].add(entry);
                copied.add(entry);
            }
        })?;
    }
    Ok((Copied { found: copied.records, ..copied }, digests))
}

impl Copied {
    fn add(&mut self, entry: &Entry) {
        self.records += 1;
        self.bytes += entry.bytes.len() as u64;
        self.digest.add(entry);
    }
}

/// Kills the copy of a test of the whole program once so many records are there. Not in a release build.
#[cfg(debug_assertions)]
async fn told_to_die(
    records: u64,
    to: &dyn Journal,
    pipelines: &mut [Pipeline],
) -> Result<(), CopyError> {
    static TOLD: std::sync::LazyLock<Option<u64>> =
        std::sync::LazyLock::new(|| std::env::var("TEST_COPY_DIES").ok()?.parse().ok());
    if *TOLD == Some(records) {
        to.flush();
        settle_all(pipelines).await?;
        std::process::abort();
    }
    Ok(())
}

/// Waits for all that is in flight.
async fn settle_all(pipelines: &mut [Pipeline]) -> Result<(), CopyError> {
    for pipeline in pipelines {
        while pipeline.settled < pipeline.sent {
            pipeline.settle().await?;
        }
    }
    Ok(())
}

/// One partition on its way.
struct Pipeline {
    partition: Partition,
    settlements: UnboundedReceiver<Settlement>,
    sent: u64,
    settled: u64,
}

impl Pipeline {
    /// Takes note of the next settlement.
    async fn settle(&mut self) -> Result<u64, CopyError> {
        let expected = Offset(self.settled);
        let misplaced =
            |found: String| CopyError::Misplaced { partition: self.partition, expected, found };
        match timeout(PATIENCE, self.settlements.recv()).await {
            Ok(Some(Settlement::Durable { first, count })) if first == expected => {
                self.settled += count;
                Ok(count)
            }
            Ok(Some(Settlement::Durable { first, .. })) => {
                Err(misplaced(format!("it stands at {first}")))
            }
            Ok(Some(Settlement::Lost) | None) => Err(misplaced("it was lost".into())),
            Err(_) => Err(misplaced("nothing was heard of it".into())),
        }
    }
}

/// Copies everything from `from` into the journal `to`, which is empty or holds what a copy of the same
/// has left; `progress` hears of the records so far.
///
/// Errors: [`CopyError`]. The source is read to the end that it has while it is read: nobody should
/// write it meanwhile.
pub async fn copy(
    from: &dyn ReadJournal,
    to: &dyn Journal,
    mut progress: impl FnMut(&Copied),
) -> Result<Copied, CopyError> {
    if from.partitions() != to.partitions() {
        return Err(CopyError::Partitions { from: from.partitions(), to: to.partitions() });
    }
    let mut places = from_start(from);
    for (partition, end) in &mut places {
        *end = to.end(*partition)?;
    }
    let ends: Vec<Offset> = places.iter().map(|(_, end)| *end).collect();
    let (mut copied, wanted) = beginning(from, &ends)?;
    let (_, found) = beginning(to, &ends)?;
    let mut pipelines = Vec::new();
    for ((partition, end), (wanted, found)) in places.iter().zip(wanted.iter().zip(&found)) {
        if wanted != found {
            return Err(CopyError::NotEmpty { partition: *partition, end: *end });
        }
        let (sender, settlements) = unbounded_channel();
        to.attach(*partition, sender);
        pipelines.push(Pipeline {
            partition: *partition,
            settlements,
            sent: end.0,
            settled: end.0,
        });
    }
    let mut in_flight = 0;
    let mut reader = from.reader(&places)?;
    loop {
        let entries = reader.next(READ_BYTES)?;
        if entries.is_empty() {
            break;
        }
        for entry in &entries {
            let pipeline = &mut pipelines[usize::from(entry.partition.0)];
            if entry.offset.0 != pipeline.sent {
                let (place, detail) = (
                    format!("partition {}, offset {}", entry.partition, pipeline.sent),
                    "the record is missing".to_owned(),
                );
                return Err(JournalError::Corrupt { place, detail }.into());
            }
            loop {
                match to.append(entry.partition, &entry.bytes) {
                    Ok(()) => break,
                    Err(JournalError::Full) => {
                        to.flush();
                        tokio::time::sleep(FULL_PAUSE).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            pipeline.sent += 1;
            in_flight += 1;
            copied.add(entry);
            #[cfg(debug_assertions)]
            told_to_die(copied.records, to, &mut pipelines).await?;
        }
        to.flush();
        while in_flight > IN_FLIGHT_MAX
            && let Some(pipeline) =
                pipelines.iter_mut().max_by_key(|pipeline| pipeline.sent - pipeline.settled)
        {
            in_flight -= pipeline.settle().await? as usize;
        }
        progress(&copied);
    }
    to.flush();
    settle_all(&mut pipelines).await?;
    progress(&copied);
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::journal::embedded;

    fn open(dir: &tempfile::TempDir, partitions: u16) -> Arc<embedded::Journal> {
        let settings = embedded::Settings {
            partitions,
            ..embedded::Settings::new(dir.path().join("journal"))
        };
        embedded::Journal::open(settings).expect("the journal opens")
    }

    async fn fill(journal: &dyn Journal, counts: &[u64]) {
        for (partition, count) in (0..).map(Partition).zip(counts) {
            let (sender, settlements) = unbounded_channel();
            journal.attach(partition, sender);
            let Offset(settled) = journal.end(partition).expect("it has an end");
            let sent = settled + count;
            for index in settled..sent {
                let text = format!("{{\"partition\":{partition},\"index\":{index}}}");
                journal.append(partition, text.as_bytes()).expect("there is room");
            }
            journal.flush();
            let mut pipeline = Pipeline { partition, settlements, sent, settled };
            while pipeline.settled < pipeline.sent {
                pipeline.settle().await.expect("it is settled");
            }
        }
    }

    #[tokio::test]
    async fn a_copy_has_every_record_at_its_place() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (open(&here, 4), open(&there, 4));
        fill(&*from, &[20_000, 0, 3, 700]).await;
        let mut heard = Vec::new();
        let copied = copy(&*from, &*to, |so_far| heard.push(so_far.records)).await.expect("a copy");
        assert_eq!(copied.records, 20_703);
        assert_eq!(heard.last(), Some(&20_703));
        assert!(heard.is_sorted());
        assert_eq!(copied.digest, Digest::of(&*to).unwrap());
        assert_eq!(copied.digest, Digest::of(&*from).unwrap());
        assert_eq!(to.end(Partition(3)).unwrap(), Offset(700));
    }

    #[tokio::test]
    async fn a_copy_that_was_broken_off_is_gone_on_with() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (open(&here, 4), open(&there, 4));
        fill(&*from, &[700, 0, 3, 9]).await;
        fill(&*to, &[100, 0, 3, 0]).await;
        let copied = copy(&*from, &*to, |_| ()).await.expect("a copy");
        assert_eq!((copied.records, copied.found), (712, 103));
        assert_eq!(copied.digest, Digest::of(&*to).unwrap());
        assert_eq!(copied.digest, Digest::of(&*from).unwrap());
        let again = copy(&*from, &*to, |_| ()).await.expect("nothing is left to copy");
        assert_eq!(again, Copied { found: 712, ..copied });
    }

    #[tokio::test]
    async fn nothing_is_copied_over_what_is_there_or_into_other_partitions() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (open(&here, 4), open(&there, 4));
        fill(&*to, &[0, 0, 1, 0]).await;
        let refused = copy(&*from, &*to, |_| ()).await;
        assert!(
            matches!(refused, Err(CopyError::NotEmpty { partition: Partition(2), end: Offset(1) })),
            "{refused:?}"
        );
        // The beginning of another one, and more than there is.
        fill(&*from, &[0, 0, 1, 0]).await;
        assert_eq!(copy(&*from, &*to, |_| ()).await.expect("a copy").found, 1);
        fill(&*to, &[0, 0, 1, 0]).await;
        let refused = copy(&*from, &*to, |_| ()).await;
        assert!(
            matches!(refused, Err(CopyError::NotEmpty { partition: Partition(2), end: Offset(2) })),
            "{refused:?}"
        );
        let elsewhere = tempfile::tempdir().unwrap();
        let refused = copy(&*from, &*open(&elsewhere, 8), |_| ()).await;
        assert!(matches!(refused, Err(CopyError::Partitions { from: 4, to: 8 })), "{refused:?}");
    }

    #[test]
    fn a_digest_is_of_places_and_bytes_and_of_no_order() {
        let entry = |partition, offset, text: &str| Entry {
            partition: Partition(partition),
            offset: Offset(offset),
            bytes: text.as_bytes().to_vec(),
        };
        let of = |entries: &[Entry]| {
            let mut digest = Digest::default();
            entries.iter().for_each(|entry| digest.add(entry));
            digest
        };
        let (a, b) = (entry(0, 0, "a"), entry(1, 0, "b"));
        assert_eq!(of(&[a.clone(), b.clone()]), of(&[b, a.clone()]));
        for other in [entry(1, 0, "a"), entry(0, 1, "a"), entry(0, 0, "b")] {
            assert_ne!(of(std::slice::from_ref(&a)), of(&[other]));
        }
    }
}
