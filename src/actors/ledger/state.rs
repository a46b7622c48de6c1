//! What the ledger of a partition holds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::channels::RESEND_MIN;
use super::term::{Confirmation, Written};
use super::{After, Status};
use crate::actors::ItemError;
use crate::actors::repeat::{Done, Lately, Repeats};
use crate::actors::waiting::{Desk, Ticket};
use crate::journal::{Cursor, Epoch, Imprint, Offset, Partition, WriterRule};
use crate::pairing::{Inbox, Outbox, OwedEffect};
use crate::store::row_set::RowSet;
use crate::store::rows::{RowChanges, RowHash};

/// An effect in an outbox, with those who wait for its acknowledgement.
pub(super) struct Owed {
    /// The number of the record that it follows from, 0 for one of an earlier epoch.
    pub(super) n: u64,
    pub(super) effect: Arc<OwedEffect>,
    pub(super) waiters: SmallVec<[Ticket; 1]>,
}

/// A record that is appended and not final.
pub(super) struct InFlight {
    pub(super) written: Written,
    /// How many rows it changes: so many from the front of [`State::changes`] are unsaved once it is final.
    pub(super) rows: usize,
    /// Of all rows, with what it changes.
    pub(super) hash: RowHash,
    /// Up to which effect of each source it answers: that is acknowledged once it is final.
    pub(super) seen: SmallVec<[(Partition, u64); 1]>,
    /// The cursor that it keeps, and whose.
    pub(super) cursor: Option<(String, Box<Cursor>)>,
    /// It gives the partition up.
    pub(super) release: bool,
    /// What it did, taken back from the memory of repeats if its fate is unknown.
    pub(super) done: Option<Done>,
    /// Requests that wait for it, and whether it is their own record.
    pub(super) requests: SmallVec<[(u64, bool); 1]>,
    /// Items whose offers it answers, and how.
    pub(super) resolved: SmallVec<[(Ticket, Result<(), ItemError>); 1]>,
    /// What else waits for its fate.
    pub(super) after: SmallVec<[After; 1]>,
}

pub(super) struct State {
    pub(super) status: Status,
    pub(super) writer: WriterRule,
    /// An append was refused in this term: what the journal tells from then on is about other records than
    /// those counted here.
    pub(super) refused: bool,
    /// Records that are appended and not final, in order.
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) in_flight_bytes: usize,
    /// Of all rows, as of the last record appended: the next turn goes on from it.
    pub(super) hash: RowHash,
    /// The same as of the last final record: what a checkpoint says.
    pub(super) final_hash: RowHash,
    /// The last final record is a release.
    pub(super) released: bool,
    /// By source, how much was taken from it.
    pub(super) inbox: Vec<Inbox>,
    /// By source, up to which effect nothing changed here and no record says so yet. A watermark at the
    /// turn's end does, unless a record with a later cause comes first.
    pub(super) unmarked: BTreeMap<Partition, u64>,
    /// By destination, what is owed to it and not acknowledged.
    pub(super) outbox: Vec<Outbox<Owed>>,
    /// The destinations that something is to be sent to, once each.
    pub(super) stirred: Vec<u16>,
    /// By destination, when what it has not acknowledged is sent again, and how long the wait was: it
    /// doubles each time, and is the shortest again once the destination acknowledges something.
    pub(super) resend: Vec<(Instant, Duration)>,
    /// Effects in all outboxes.
    pub(super) owed: usize,
    /// The highest number of a record with an effect that its destination has acknowledged.
    pub(super) acked_n: u64,
    /// What each destination had acknowledged when that was recorded last.
    pub(super) recorded_acks: Vec<u64>,
    /// Effects acknowledged since then.
    pub(super) unrecorded_acks: usize,
    /// The final cursor of each follower, by its name.
    pub(super) cursors: BTreeMap<String, Cursor>,
    /// The rows that records in flight change.
    pub(super) changes: RowChanges,
    /// The rows that final records have changed and no checkpoint holds.
    pub(super) unsaved: RowSet,
    /// How many final records no checkpoint holds.
    pub(super) unsaved_records: u64,
    /// Who waits for an answer.
    pub(super) desk: Desk,
    /// What was done lately, in case it is asked again.
    pub(super) repeats: Repeats,
    /// How far back a recovery has to look for that.
    pub(super) lately: Lately,
    /// The last final record.
    pub(super) last: Option<Imprint>,
    /// The journal's end, asked for to keep the lease, while not all before it is known.
    pub(super) confirmation: Option<Confirmation>,
}

impl State {
    /// Of a partition among `count` whose state is still to be read.
    pub(super) fn new(count: usize) -> Self {
        Self {
            status: Status::Recovering,
            writer: WriterRule::new(Epoch(0), Offset(0)),
            refused: false,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            hash: RowHash::default(),
            final_hash: RowHash::default(),
            released: false,
            inbox: vec![Inbox::default(); count],
            unmarked: BTreeMap::new(),
            outbox: (0..count).map(|_| Outbox::default()).collect(),
            stirred: Vec::new(),
            resend: vec![(Instant::now(), RESEND_MIN); count],
            owed: 0,
            acked_n: 0,
            recorded_acks: vec![0; count],
            unrecorded_acks: 0,
            cursors: BTreeMap::new(),
            changes: RowChanges::default(),
            unsaved: RowSet::default(),
            unsaved_records: 0,
            desk: Desk::default(),
            repeats: Repeats::default(),
            lately: Lately::default(),
            last: None,
            confirmation: None,
        }
    }

    /// If something is to be sent to the destination `index`, the next turn looks at it.
    pub(super) fn stir(&mut self, index: usize) {
        let outbox = &self.outbox[index];
        if outbox.len() > outbox.in_flight() && !self.stirred.contains(&(index as u16)) {
            self.stirred.push(index as u16);
        }
    }

    /// The record `n` of this epoch, while it is in flight.
    pub(super) fn in_flight_at(&mut self, n: u64) -> Option<&mut InFlight> {
        let index = n.checked_sub(self.writer.acknowledged() + 1)?;
        self.in_flight.get_mut(usize::try_from(index).ok()?)
    }
}
