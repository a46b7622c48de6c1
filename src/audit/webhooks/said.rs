//! What the streams that keep apps' subscriptions say, held against where the cursors stand.
//!
//! A term that nobody began is wrong, and so is an end without a deletion: behind either, a count begins
//! anew wherever the cursor says. What is asked for is only noted: the settings may hide a
//! subscription that was set, and no journal holds them. A partition without a place is lag.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::super::walk::{Walk, all_partitions};
use super::super::{AuditError, Findings};
use super::{Finding, Lane, Options, Rule};
use crate::domain::{AppId, Event, is_keeper};
use crate::journal::{Commit, Offset, Partition, ReadJournal};
use crate::tags::CallbackCommand;
use crate::webhooks::CursorName;

/// What was said of one subscription.
#[derive(Default)]
struct Said {
    /// The last move.
    term: u32,
    /// What it ever asked for after the fact.
    asked: Vec<Vec<Box<str>>>,
    /// It was set and not deleted since.
    is_set: bool,
    /// How often it was deleted.
    deletions: u64,
}

/// What was said of all of them.
#[derive(Default)]
pub(super) struct Streams(BTreeMap<(AppId, Box<str>), Said>);

/// All cursors, by name and partition.
type Lanes = BTreeMap<(Box<str>, Partition), Lane>;

/// Those of what is told for the first time.
fn first_told(lanes: &Lanes) -> impl Iterator<Item = ((AppId, Box<str>), &Lane)> {
    lanes.iter().filter_map(|((cursor, _), lane)| {
        let CursorName { app, subscription, replay } = CursorName::parse(cursor)?;
        replay.is_none().then(|| ((app, subscription.into()), lane))
    })
}

fn in_order(commands: &[Box<str>]) -> Vec<Box<str>> {
    let known = CallbackCommand::ALL.into_iter().map(CallbackCommand::name);
    let known = known.filter(|one| commands.iter().any(|c| **c == **one));
    known.map(Into::into).collect()
}

impl Streams {
    /// Takes a valid record into account.
    pub(super) fn hear(&mut self, commit: &Commit) {
        if !is_keeper(&commit.key.user) {
            return;
        }
        let app = commit.key.app;
        for event in &commit.events {
            match event {
                Event::SubscriptionSet(set) => {
                    let said = self.said_of(app, &set.name);
                    said.is_set = true;
                    said.asked.push(in_order(&set.commands));
                }
                Event::SubscriptionDeleted { name } => {
                    let said = self.said_of(app, name);
                    said.is_set = false;
                    said.deletions += 1;
                }
                // In journals of earlier versions terms begin anew with a subscription that was deleted.
                Event::SubscriptionMoved(seek) => {
                    let said = self.said_of(app, &seek.name);
                    said.term = said.term.max(seek.term);
                }
                // Replays have cursors of their own.
                Event::ReplayBegun(_)
                | Event::ReplayEnded { .. }
                // What no stream of subscriptions holds.
                | Event::AccountImported {}
                | Event::ProfileChanged(_)
                | Event::AccountDeleted {}
                | Event::UserBlocked { .. }
                | Event::UserUnblocked { .. }
                | Event::FriendOffered { .. }
                | Event::FriendRequested { .. }
                | Event::FriendAccepted { .. }
                | Event::FriendRefused { .. }
                | Event::FriendAdded { .. }
                | Event::FriendLinked { .. }
                | Event::FriendUpdated { .. }
                | Event::FriendChanged { .. }
                | Event::GroupsAdded { .. }
                | Event::FriendsGrouped { .. }
                | Event::GroupsRemoved { .. }
                | Event::FriendRemoved { .. }
                | Event::UnfriendAsked { .. }
                | Event::OfferPending { .. }
                | Event::OfferConfirmed { .. }
                | Event::OfferEnded { .. }
                | Event::OfferWithdrawn { .. }
                | Event::OffersSettled { .. }
                | Event::PeerForgotten { .. }
                | Event::RequestDropped { .. }
                | Event::MessageAccepted(_)
                | Event::VerdictGiven(_)
                | Event::CallBegun { .. }
                | Event::CallDone { .. }
                | Event::CallAnswered { .. }
                | Event::CallsForgotten { .. } => {}
            }
        }
    }

    fn said_of(&mut self, app: AppId, name: &str) -> &mut Said {
        self.0.entry((app, name.into())).or_default()
    }

    /// Whether anything was said of a subscription that `options` want.
    pub(super) fn know(&self, options: &Options) -> bool {
        self.0.keys().any(|(app, name)| options.wants(*app, name))
    }

    /// Finds cursors of terms that nobody began, and ends that no deletion asked for. What moved or
    /// ended one is durable before its cursor, but may have come behind the reader's back: then the
    /// journal is read once more.
    pub(super) fn check(
        &mut self,
        journal: &dyn ReadJournal,
        lanes: &Lanes,
        findings: &mut Findings<Finding>,
    ) -> Result<(), AuditError> {
        if !first_told(lanes).any(|(key, lane)| self.unasked(&key, lane).is_some()) {
            return Ok(());
        }
        *self = Self::default();
        Walk::over(journal, &all_partitions(journal))?.commits(None, |_, commit| {
            self.hear(&commit);
            ControlFlow::Continue(())
        })?;
        for (key, lane) in first_told(lanes) {
            if let Some((rule, offset, detail)) = self.unasked(&key, lane) {
                findings.add(Finding {
                    rule,
                    subscription: lane.whose.cursor.clone(),
                    partition: lane.whose.partition,
                    offset,
                    detail,
                });
            }
        }
        Ok(())
    }

    /// What a lane was not asked to do, by all that was heard.
    fn unasked(&self, key: &(AppId, Box<str>), lane: &Lane) -> Option<(Rule, Offset, String)> {
        let said = self.0.get(key);
        let (moved, deleted) = said.map_or((0, 0), |said| (said.term, said.deletions));
        let (term, ends) = (lane.cursor.term, lane.ends());
        if ends > deleted {
            let detail = format!("was given up {ends} times, and deleted {deleted} times");
            return Some((Rule::Ended, lane.ended_at, detail));
        }
        (!lane.cursor.ended && term > moved).then(|| {
            let detail = format!("is of term {term}, and the last that was begun is {moved}");
            (Rule::Term, lane.said_at, detail)
        })
    }

    /// What the journal alone does not decide, of what `options` ask for.
    pub(super) fn notes(&self, partitions: u16, options: &Options, lanes: &Lanes) -> Vec<String> {
        let mut notes = Vec::new();
        let set =
            self.0.iter().filter(|((app, name), said)| said.is_set && options.wants(*app, name));
        for ((app, name), said) in set {
            let cursor = CursorName::of(*app, name).to_string();
            let here = |partition| lanes.get(&(cursor.as_str().into(), Partition(partition)));
            let lane = |partition: u16| here(partition).filter(|lane| !lane.cursor.ended);
            let without = (0..partitions).filter(|partition| lane(*partition).is_none()).count();
            if without > 0 {
                notes.push(format!(
                    "{name} of app {app} was set and has no place in {without} of {partitions} partitions"
                ));
            }
            let asks = |lane: &Lane| {
                let last = lane.cursor.progress.filters.last();
                last.map(|filter| in_order(&filter.commands))
            };
            let asked = |commands: &Vec<Box<str>>| said.asked.contains(commands);
            let other = (0..partitions).filter_map(|partition| asks(lane(partition)?));
            let other = other.filter(|commands| !asked(commands)).count();
            if other > 0 {
                notes.push(format!(
                    "{name} of app {app} asks in {other} partitions for what it was never set to; the \
                     settings may say so"
                ));
            }
        }
        notes
    }
}
