//! Each lie, told once and found; and right histories, in which nothing is found.

mod lies;
mod pages;
mod replays;
mod truths;

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::audit::simulation::{APP, Memory, id};
use crate::domain::{UserKey, Version};
use crate::journal::record::encode;
use crate::journal::{Epoch, Filter, Origin, Place, Progress, Tally};
use crate::tags::CallbackCommand;
use crate::webhooks::Switches;
use crate::webhooks::digest::hash;
use crate::webhooks::payload::payloads;

const HERE: Partition = Partition(0);

/// One partition, with a follower that tells the truth unless a test makes it lie.
struct Book {
    memory: Memory,
    n: u64,
}

/// What the follower has done, besides delivering all that its cursor passes.
#[derive(Clone, Default)]
struct Done {
    next: u64,
    /// Who is parked, and from which record on.
    parked: Vec<(&'static str, u64)>,
    /// The records whose deliveries were given up.
    dead: Vec<u64>,
    /// The letters that this cursor tells.
    letters: Vec<u64>,
}

impl Book {
    fn new() -> Self {
        let memory = Memory { partitions: 1, entries: Vec::new(), pauses: Vec::new() };
        let mut book = Self { memory, n: 0 };
        book.put(&Body::Claim { node: "a".into(), nonce: Uuid::nil() });
        book
    }

    fn put(&mut self, body: &Body) -> u64 {
        let claims = matches!(body, Body::Claim { .. });
        self.n = if claims { 0 } else { self.n + 1 };
        self.put_as(1, self.n, body)
    }

    fn put_as(&mut self, epoch: u64, n: u64, body: &Body) -> u64 {
        let offset = self.memory.entries.len() as u64;
        let mut bytes = Vec::new();
        encode(Epoch(epoch), n, body, &mut bytes);
        self.memory.entries.push(Entry { partition: HERE, offset: Offset(offset), bytes });
        offset
    }

    fn commit(user: &str, events: Vec<Event>, at: i64) -> Body {
        Body::Commit(Commit {
            id: Uuid::nil(),
            key: UserKey { app: APP, user: id(user) },
            version: Version(1),
            at: Timestamp(at),
            by: Arc::new(Origin {
                operator: "administrator".into(),
                request: Uuid::nil(),
                ip: "".into(),
                platform: "RESTAPI".into(),
            }),
            cause: None,
            events,
        })
    }

    /// `user` blocks somebody; the time is the offset in seconds.
    fn block(&mut self, user: &str) -> u64 {
        let at = self.memory.entries.len() as i64 * 1000;
        let event = Event::UserBlocked { target: id("zoe"), remain_friends: false };
        self.put(&Self::commit(user, vec![event], at))
    }

    /// A record with two deliveries.
    fn block_and_unblock(&mut self, user: &str) -> u64 {
        let at = self.memory.entries.len() as i64 * 1000;
        let blocked = Event::UserBlocked { target: id("zoe"), remain_friends: false };
        let unblocked = Event::UserUnblocked { target: id("zoe") };
        self.put(&Self::commit(user, vec![blocked, unblocked], at))
    }

    /// Who, which delivery, and its hash, of every record from `since` up to `next`.
    fn deliveries(&self, since: u64, next: u64) -> Vec<(UserId, DeliveryId, u128)> {
        let mut deliveries = Vec::new();
        for entry in &self.memory.entries[since as usize..next as usize] {
            let record = decode(&entry.bytes).expect("a record");
            let Body::Commit(commit) = record.body else { continue };
            for payload in payloads(&commit, Switches::ALL) {
                let id =
                    DeliveryId { partition: HERE, offset: entry.offset, command: payload.command };
                deliveries.push((commit.key.user, id, hash(id, &payload.body)));
            }
        }
        deliveries
    }

    /// A true cursor, of a follower that began at the first record.
    fn cursor(&self, done: &Done) -> Cursor {
        let mut progress = Progress {
            since: Offset(1),
            filters: vec![Filter {
                from: Offset(0),
                commands: Switches::ALL.names().map(Into::into).collect(),
            }],
            ..Progress::default()
        };
        let start = done.parked.iter().map(|(_, first)| *first).min();
        for (user, delivery, hash) in self.deliveries(1, done.next) {
            let waits = done
                .parked
                .iter()
                .any(|(name, first)| user == id(name) && delivery.offset >= Offset(*first));
            if start.is_none_or(|start| delivery.offset < Offset(start)) {
                progress.seq += 1;
                progress.last = Some(delivery.to_string().into());
            }
            if waits {
                continue;
            }
            if done.dead.contains(&delivery.offset.0) {
                progress.dead.add(hash);
            } else {
                progress.delivered.add(hash);
            }
        }
        let place = |next: u64| Place { next: Offset(next), epoch: Epoch(1), n: next - 1 };
        progress.resume = start.map(place);
        progress.parked = done
            .parked
            .iter()
            .map(|(user, first)| Parked {
                user: id(user),
                first: Offset(*first),
                done: 0,
                attempts: 4,
                since: Timestamp(9),
                error: "500".into(),
            })
            .collect();
        progress.died = done.letters.iter().map(|offset| self.letter(*offset)).collect();
        Cursor { place: place(done.next), term: 0, ended: false, progress }
    }

    fn letter(&self, offset: u64) -> DeadLetter {
        let (user, delivery, _) = self.deliveries(offset, offset + 1)[0];
        DeadLetter {
            id: delivery.to_string().into(),
            user,
            attempts: 3,
            at: Timestamp(7),
            error: "400".into(),
        }
    }

    fn say(&mut self, cursor: Cursor) -> u64 {
        let subscription = format!("webhook/{APP}");
        self.put(&Body::Cursor { subscription, cursor: Box::new(cursor) })
    }

    /// The follower tells the truth.
    fn passed(&mut self, next: u64) -> u64 {
        let cursor = self.cursor(&Done { next, ..Done::default() });
        self.say(cursor)
    }

    fn report(&self) -> Report {
        reconcile(&self.memory, &Options::default()).expect("memory is readable")
    }

    /// What became of everything, if nothing is wrong.
    #[track_caller]
    fn counts(&self) -> Counts {
        let report = self.report();
        assert!(report.balanced, "{:#?}", report.findings);
        let counts = report.subscriptions[0].counts;
        assert!(counts.balance(), "{counts:?}");
        counts
    }

    /// Exactly one difference is found: at this record, by this rule, with this said of it.
    #[track_caller]
    fn expect(&self, offset: u64, rule: Rule, said: &str) {
        let report = self.report();
        let found = &report.findings.first;
        assert_eq!(found.len(), 1, "{found:#?}");
        let finding = &found[0];
        assert_eq!((finding.partition, finding.offset), (HERE, Offset(offset)), "{finding:?}");
        assert_eq!(finding.rule, rule, "{finding:?}");
        assert_eq!(*finding.subscription, format!("webhook/{APP}"));
        assert!(finding.detail.contains(said), "{}", finding.detail);
        assert!(!report.balanced);
    }
}

/// Amy at 1 and 3, bob at 2; a true cursor behind 2 at 4.
fn three() -> Book {
    let mut book = Book::new();
    assert_eq!((book.block("amy"), book.block("bob"), book.block("amy")), (1, 2, 3));
    assert_eq!(book.passed(3), 4);
    book
}
