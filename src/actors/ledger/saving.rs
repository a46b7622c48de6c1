//! The rows that a turn changes, on their way to a checkpoint.

use std::time::Duration;

use super::Ledger;
use crate::actors::repeat::LATELY;
use crate::domain::{User, UserId, UserKey};
use crate::journal::Place;
use crate::pairing::Inbox;
use crate::store::row_set::RowSet;
use crate::store::rows::{Before, RowHash};
use crate::store::{CursorMark, Mark, OutboxMark};

/// A checkpoint to be written.
pub(in crate::actors) struct Checkpoint {
    pub(in crate::actors) rows: RowSet,
    pub(in crate::actors) mark: Mark,
}

impl Ledger {
    /// The hash of all rows, as of the last record appended.
    pub(in crate::actors) fn hash(&self) -> RowHash {
        self.state.borrow().hash
    }

    /// Looks at the rows about `peers` before `user` changes in a turn.
    pub(in crate::actors) fn look(
        &self,
        key: UserKey,
        head: RowHash,
        user: &User,
        peers: Vec<UserId>,
    ) -> Before {
        let mut scratch = self.scratch.borrow_mut();
        Before::look(self.partition, key, head, user, peers, &mut scratch)
    }

    /// Looks at the rows about more `peers`, before they change in the same turn.
    pub(in crate::actors) fn look_about(
        &self,
        before: &mut Before,
        user: &User,
        peers: Vec<UserId>,
    ) {
        before.look_about(user, peers, &mut self.scratch.borrow_mut());
    }

    /// Notes the rows that have changed since; answers the hash of the head row, the hash of all rows,
    /// and how many have changed. The turn's record has to follow.
    pub(in crate::actors) fn note_rows(
        &self,
        before: Before,
        user: &User,
    ) -> (RowHash, RowHash, usize) {
        before.peers().for_each(|(owner, peer)| self.context.known.forget_pair(owner, peer));
        let mut state = self.state.borrow_mut();
        let (mut hash, known) = (state.hash, state.changes.len());
        let head = before.compare(user, &mut hash, &mut state.changes);
        (head, hash, state.changes.len() - known)
    }

    /// Takes what a checkpoint holds, if there is enough to write one.
    pub(in crate::actors) fn checkpoint(&self, records_min: u64) -> Option<Checkpoint> {
        let mut state = self.state.borrow_mut();
        let n = state.writer.acknowledged();
        // A destination on another thread may have been told first that both its record and ours
        // are durable. Its acknowledgement speaks of a record that this checkpoint would leave out:
        // recovery would number that record's effects again, behind those acknowledged.
        if state.unsaved_records < records_min.max(1) || state.acked_n > n {
            return None;
        }
        state.unsaved_records = 0;
        let (next, epoch) = (state.writer.next_offset(), state.writer.epoch());
        let here = Place { next, epoch, n };
        let commands = if self.context.alone { Duration::ZERO } else { LATELY };
        let lately = state.lately.note(here, commands);
        let outbox = state.outbox.iter().map(|outbox| OutboxMark {
            acked: outbox.acked(),
            owed: outbox.owed(n).map(|owed| owed.effect.clone()).collect(),
        });
        let mark = Mark {
            next,
            epoch,
            n,
            lately,
            last: state.last,
            hash: state.final_hash.0,
            released: state.released,
            inbox: state.inbox.iter().map(Inbox::durable).collect(),
            outbox: outbox.collect(),
            cursors: state.cursors.iter().map(|(name, at)| CursorMark::new(name, at)).collect(),
        };
        Some(Checkpoint { rows: std::mem::take(&mut state.unsaved), mark })
    }

    /// A checkpoint could not be written: its rows go with the next one.
    pub(in crate::actors) fn keep_unsaved(&self, rows: RowSet) {
        let mut state = self.state.borrow_mut();
        state.unsaved.put_below(rows);
        state.unsaved_records += 1;
    }
}
