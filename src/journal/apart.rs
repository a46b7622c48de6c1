//! Which of several partitions it is that cannot be read.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use super::{JournalError, Offset, Partition, ReadJournal};

/// How long a follower of several partitions waits for a record that is known to exist. One partition that
/// cannot be read must not hold up the others.
pub const FOLLOWER_PATIENCE: Duration = Duration::from_secs(2);
/// Partitions with an end that cannot be read all the same, behind which nobody else is looked at.
const SILENT_MAX: usize = 4;

/// Finds out, after a read of all of `from` has failed, which of them cannot be read from their places
/// on, and why. Blocks; bounded by a few times [`FOLLOWER_PATIENCE`].
pub fn unreadable(
    journal: &dyn ReadJournal,
    from: &[(Partition, Offset)],
) -> BTreeMap<Partition, JournalError> {
    let mut ill = BTreeMap::new();
    let partitions: Vec<Partition> = from.iter().map(|(partition, _)| *partition).collect();
    journal.each_end(&partitions, FOLLOWER_PATIENCE, &mut |partition, end| {
        if let Err(error) = end {
            ill.insert(partition, error);
        }
    });
    let silent_max = ill.len() + SILENT_MAX;
    for place in from {
        if ill.len() == silent_max {
            break;
        }
        if let Entry::Vacant(well) = ill.entry(place.0) {
            let read = journal.reader_within(&[*place], FOLLOWER_PATIENCE);
            if let Err(error) = read.and_then(|mut reader| reader.next(1)) {
                well.insert(error);
            }
        }
    }
    ill
}
