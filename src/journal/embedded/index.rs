//! Where the durable part of the journal ends, and places in it from which a reader may start.

use std::collections::VecDeque;

use super::scan::{Place, starts_before};
use crate::journal::{Offset, Partition};

/// The bytes between two marks.
const MARK_BYTES: u64 = 1 << 20;

/// How many marks are kept; a reader of something older starts at a segment's begin.
const MARKS_MAX: usize = 256;

/// The durable end and the marks before it.
#[derive(Debug)]
pub(super) struct Index {
    end: Place,
    marks: VecDeque<Place>,
}

impl Index {
    pub(super) fn new(end: Place) -> Self {
        Self { end, marks: VecDeque::new() }
    }

    /// The scan that passed the other places ended at `end`.
    pub(super) fn end_at(&mut self, end: &Place) {
        self.end.clone_from(end);
    }

    /// The place behind the last durable group.
    pub(super) fn end(&self) -> &Place {
        &self.end
    }

    /// The next offset of `partition`, none if there is no such partition.
    pub(super) fn next(&self, partition: Partition) -> Option<u64> {
        self.end.next.get(usize::from(partition.0)).copied()
    }

    /// One more group is durable, with so many records of each partition.
    pub(super) fn advance(&mut self, position: u64, counts: &[(Partition, u64)]) {
        for (partition, count) in counts {
            self.end.next[usize::from(partition.0)] += count;
        }
        self.end.position = position;
        self.end.group += 1;
        mark(&mut self.marks, &self.end);
    }

    /// A scan came to `place`, which is durable.
    pub(super) fn pass(&mut self, place: &Place) {
        mark(&mut self.marks, place);
    }

    /// The next group will stand in a new segment.
    pub(super) fn enter_segment(&mut self, segment: u64, position: u64) {
        self.end.segment = segment;
        self.end.position = position;
    }

    /// The last known place at or before each of `from`.
    pub(super) fn start(&self, from: &[(Partition, Offset)]) -> Option<Place> {
        std::iter::once(&self.end)
            .chain(self.marks.iter().rev())
            .find(|place| starts_before(&place.next, from))
            .cloned()
    }
}

/// Keeps `place` if the last mark is far from it.
fn mark(marks: &mut VecDeque<Place>, place: &Place) {
    let is_far = marks.back().is_none_or(|last| {
        last.segment != place.segment || last.position + MARK_BYTES <= place.position
    });
    if is_far {
        if marks.len() == MARKS_MAX {
            marks.pop_front();
        }
        marks.push_back(place.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_starts_at_the_last_mark_before_all_its_offsets() {
        let end = Place { segment: 1, position: 100, group: 1, next: Box::new([0, 0]) };
        let mut index = Index::new(end);
        for group in 1..=3 {
            index.advance(100 + group * MARK_BYTES, &[(Partition(0), 1)]);
        }
        index.advance(100 + 4 * MARK_BYTES, &[(Partition(1), 1)]);
        let start = |zero, one| {
            let from = [(Partition(0), Offset(zero)), (Partition(1), Offset(one))];
            index.start(&from).map(|place| place.group)
        };
        assert_eq!(start(0, 0), None);
        assert_eq!(start(2, 1), Some(3));
        assert_eq!(start(3, 0), Some(4));
        assert_eq!(start(3, 1), Some(5));
    }

    #[test]
    fn marks_are_bounded() {
        let end = Place { segment: 1, position: 0, group: 1, next: Box::new([0]) };
        let mut index = Index::new(end);
        for group in 0..2 * MARKS_MAX as u64 {
            index.advance(group * MARK_BYTES, &[(Partition(0), 1)]);
        }
        assert_eq!(index.marks.len(), MARKS_MAX);
    }
}
