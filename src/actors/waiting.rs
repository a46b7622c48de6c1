//! Those who wait for an answer: a reply leaves only when all that it speaks of is durable, or says
//! at its deadline which items are owed.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{ExecuteError, Executed, ItemError};
use crate::domain::{UserId, UserKey, Version};
use crate::journal::{Offset, Partition};

/// The caller's end of an answer.
pub(super) type ReplyTo = oneshot::Sender<Result<Executed, ExecuteError>>;

/// A caller, and until when they wait.
pub(super) struct ReplyBy {
    pub(super) reply: ReplyTo,
    pub(super) deadline: Instant,
    /// See [`Executed::groups_sequence`].
    pub(super) groups_sequence: Option<u32>,
}

impl ReplyBy {
    pub(super) fn new(reply: ReplyTo, deadline: Instant) -> Self {
        Self { reply, deadline, groups_sequence: None }
    }
}

/// One item of one waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) request: u64,
    pub(super) slot: u32,
}

/// What one item of a request waits for beside the record itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Nothing more.
    Done(Result<(), ItemError>),
    /// This many acknowledgements of others.
    Open(u32),
}

/// An offer that somebody waits for: the asker, the peer, and the version of the offer's record.
pub(super) type OfferKey = (UserKey, UserId, Version);

struct Request {
    reply: ReplyTo,
    slots: Vec<Slot>,
    open: usize,
    recorded: bool,
    position: Option<Offset>,
    groups_sequence: Option<u32>,
}

/// All who wait at one partition.
#[derive(Default)]
pub(super) struct Desk {
    requests: HashMap<u64, Request, RandomState>,
    last: u64,
    deadlines: VecDeque<(Instant, u64)>,
    offers: HashMap<OfferKey, SmallVec<[Ticket; 1]>>,
}

impl Desk {
    /// Takes a request in. It is answered after [`Desk::recorded`], once no slot is open, or at its
    /// deadline.
    pub(super) fn open(&mut self, reply: ReplyBy, slots: Vec<Slot>) -> u64 {
        let ReplyBy { reply, deadline, groups_sequence } = reply;
        self.last += 1;
        let open = slots.iter().filter(|slot| matches!(slot, Slot::Open(_))).count();
        let request =
            Request { reply, slots, open, recorded: false, position: None, groups_sequence };
        self.requests.insert(self.last, request);
        // Nearly always the latest: only what is a later part of a call has less time than the ones before.
        let later = self.deadlines.iter().rev().take_while(|known| known.0 > deadline).count();
        self.deadlines.insert(self.deadlines.len() - later, (deadline, self.last));
        self.last
    }

    /// Lets `ticket` hear of the answer to an offer.
    pub(super) fn await_offer(&mut self, offer: OfferKey, ticket: Ticket) {
        self.offers.entry(offer).or_default().push(ticket);
    }

    /// Whoever waits for `offer`, once it is answered.
    pub(super) fn offer_answered(&mut self, offer: &OfferKey) -> SmallVec<[Ticket; 1]> {
        if self.offers.is_empty() {
            return SmallVec::new();
        }
        self.offers.remove(offer).unwrap_or_default()
    }

    /// Everything that `request` was judged on is final; its own record, if any, stands at
    /// `position`.
    pub(super) fn recorded(&mut self, request: u64, position: Option<Offset>, here: Partition) {
        if let Some(known) = self.requests.get_mut(&request) {
            known.recorded = true;
            known.position = known.position.or(position);
            self.answer_if_complete(request, here);
        }
    }

    /// What `ticket` waited for has come.
    pub(super) fn fill(&mut self, ticket: Ticket, result: Result<(), ItemError>, here: Partition) {
        let Some(request) = self.requests.get_mut(&ticket.request) else { return };
        let Some(slot) = request.slots.get_mut(ticket.slot as usize) else { return };
        match slot {
            Slot::Open(more @ 2..) if result.is_ok() => *more -= 1,
            Slot::Open(_) => {
                *slot = Slot::Done(result);
                request.open -= 1;
                self.answer_if_complete(ticket.request, here);
            }
            Slot::Done(_) => {}
        }
    }

    fn answer_if_complete(&mut self, request: u64, here: Partition) {
        let complete = |known: &Request| known.recorded && known.open == 0;
        if self.requests.get(&request).is_some_and(complete)
            && let Some(known) = self.requests.remove(&request)
        {
            known.answer(here);
        }
    }

    /// Answers those whose deadline has passed: with what they have if their own record is final,
    /// else with [`ExecuteError::TimedOut`].
    pub(super) fn expire(&mut self, now: Instant, here: Partition) {
        while let Some((deadline, request)) = self.deadlines.front().copied() {
            // Those answered long ago are swept away with the ones that are late.
            if deadline > now && self.requests.contains_key(&request) {
                break;
            }
            self.deadlines.pop_front();
            match self.requests.remove(&request) {
                Some(late) if late.recorded => late.answer(here),
                Some(late) => late.refuse(ExecuteError::TimedOut),
                None => {}
            }
        }
        let requests = &self.requests;
        self.offers.retain(|_, tickets| {
            tickets.retain(|ticket| requests.contains_key(&ticket.request));
            !tickets.is_empty()
        });
    }

    /// Answers everybody with `error`.
    pub(super) fn abandon(&mut self, error: &ExecuteError) {
        self.deadlines.clear();
        self.offers.clear();
        for request in std::mem::take(&mut self.requests).into_values() {
            request.refuse(error.clone());
        }
    }
}

impl Request {
    fn answer(self, here: Partition) {
        let outcomes = self
            .slots
            .into_iter()
            .map(|slot| match slot {
                Slot::Done(result) => result,
                Slot::Open(_) => Err(ItemError::Owed),
            })
            .collect();
        let position = self.position.map(|offset| (here, offset));
        let groups_sequence = self.groups_sequence;
        let executed = Executed { outcomes, position, sent_at: None, groups_sequence };
        // A caller who has gone away is answered in vain.
        let _ = self.reply.send(Ok(executed));
    }

    fn refuse(self, error: ExecuteError) {
        let _ = self.reply.send(Err(error));
    }
}
