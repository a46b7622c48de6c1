//! Reads on in turns: from the hub, together with others that are behind, or by itself.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::away::{Away, Came, Fetched};
use super::{Dispatcher, READ_RETRY_MS, leave};
use crate::journal::{JournalError, Partition, Place};
use crate::webhooks::cursor::Cursors;
use crate::webhooks::feed::{Fed, Tail, Together};
use crate::webhooks::line::{Fetching, Line, Millis};

/// Pause before reading again in a partition whose last read found nothing new.
const FEED_PATIENCE_MS: Millis = 50;
/// Records of one partition that are read before the others have their turn.
const TURN_RECORDS: usize = 64;

/// A lane's turn of reading, behind which the others have theirs.
struct Turn<'a> {
    line: &'a mut Line,
    partition: Partition,
    left: usize,
}

impl<'a> Turn<'a> {
    fn new(line: &'a mut Line, partition: Partition) -> Self {
        Self { line, partition, left: TURN_RECORDS }
    }

    /// Takes a record. Answers whether it takes another one.
    fn take(&mut self, fed: &Fed) -> bool {
        self.left -= 1;
        self.line.take(self.partition, fed) && !self.is_over()
    }

    fn is_over(&self) -> bool {
        self.left == 0
    }
}

impl<C: Cursors> Dispatcher<C> {
    /// Reads on, as far as the windows allow. Answers whether more may be there already.
    pub(super) fn read(&mut self, now: Millis) -> bool {
        // What is read too early is memory that has grown cold when its turn comes.
        if self.line.has_enough() {
            return false;
        }
        let mut more = false;
        let hub = Rc::clone(&self.tools.hub);
        let mut behind = self.line.reads();
        behind.retain(|(partition, place)| {
            if self.pauses.get(partition).is_some_and(|at| *at > now) {
                return false;
            }
            let mut turn = Turn::new(&mut self.line, *partition);
            let is_near = hub.give(*partition, place.next, |fed| turn.take(fed));
            more |= turn.is_over();
            if is_near {
                self.tails.remove(partition);
                self.unreadable.remove(partition);
                self.pauses.remove(partition);
                leave(&mut self.together, *partition);
            }
            !is_near
        });
        self.together.take_if(|together| together.is_empty());
        let mut others: BTreeMap<Partition, Place> = behind.iter().copied().collect();
        let is_away = |partition| self.away.as_ref().is_some_and(|away| away.has(partition));
        others.retain(|partition, _| !self.tails.contains_key(partition) && !is_away(*partition));
        if self.together.is_none()
            && others.len() > 1
            && let Some(seat) = hub.seat()
        {
            let (journal, news) = (Arc::clone(&hub.journal), Arc::clone(&self.listener.news));
            self.together = Together::begin(journal, others, news, seat).ok();
        }
        for (partition, place) in behind {
            let mut turn = Turn::new(&mut self.line, partition);
            let take = |fed: &Fed| turn.take(fed);
            let together =
                self.together.as_mut().filter(|together| together.serves(partition, place.next));
            if let Some(together) = together {
                match together.give(partition, take) {
                    Ok(some) => {
                        more |= some;
                        continue;
                    }
                    // Whose error it is shows when each is read by itself.
                    Err(_) => self.together = None,
                }
            }
            more |= self.read_alone(partition, place, now);
        }
        more
    }

    /// Reads a partition by itself. Answers whether more may be there already.
    fn read_alone(&mut self, partition: Partition, place: Place, now: Millis) -> bool {
        leave(&mut self.together, partition);
        let tail = self.tails.remove(&partition).filter(|tail| tail.at() == place.next);
        let mut tail = tail.unwrap_or_else(|| Tail::new(partition, place));
        if tail.is_dry() {
            if let Some(away) = &mut self.away {
                if !away.has(partition) {
                    away.fill(partition, tail);
                }
                return false;
            }
            let some = tail.fill(&*self.tools.hub.journal);
            if !self.note_read(partition, some, now) {
                self.tails.insert(partition, tail);
                return false;
            }
        }
        let mut turn = Turn::new(&mut self.line, partition);
        tail.give(|fed| turn.take(fed));
        self.tails.insert(partition, tail);
        true
    }

    /// Takes note of a read. Answers whether there is something.
    fn note_read(
        &mut self,
        partition: Partition,
        some: Result<bool, JournalError>,
        now: Millis,
    ) -> bool {
        match some {
            Ok(some) => {
                self.unreadable.remove(&partition);
                some
            }
            Err(error) => {
                self.pauses.insert(partition, now + READ_RETRY_MS);
                if self.unreadable.insert(partition) {
                    tracing::error!(
                        webhook.subscription = &*self.name,
                        journal.partition = partition.0,
                        %error,
                        "the journal cannot be read for a webhook: trying again"
                    );
                }
                false
            }
        }
    }

    /// Takes note of all reads that have come back from their threads by now.
    pub(super) fn come(&mut self, first: Came, now: Millis) {
        let mut next = Some(first);
        while let Some(came) = next {
            match came {
                Came::Tail { partition, tail, some } if self.line.serves(partition) => {
                    let is_well = some.is_ok();
                    if !self.note_read(partition, some, now) && is_well {
                        self.pauses.insert(partition, now + FEED_PATIENCE_MS);
                    }
                    self.tails.insert(partition, tail);
                }
                Came::Again { deliveries, .. } => {
                    for (fetching, deliveries) in deliveries {
                        self.fetched(fetching, deliveries, now);
                    }
                }
                Came::Tail { .. } | Came::Broken { .. } => {}
            }
            next = self.away.as_mut().and_then(Away::now);
        }
    }

    /// A record was read again, or could not be.
    pub(super) fn fetched(&mut self, fetching: Fetching, deliveries: Fetched, now: Millis) {
        let deliveries = deliveries.unwrap_or_else(|error| {
            tracing::warn!(
                webhook.subscription = &*self.name,
                journal.partition = fetching.partition.0,
                journal.offset = fetching.offset.0,
                %error,
                "a record cannot be read again for a webhook"
            );
            None
        });
        self.line.fetched(fetching, deliveries, now);
    }
}
