//! Each lie, told once and found; and right histories, in which nothing is found.

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::audit::simulation::{APP, Memory, id};
use crate::domain::{UserKey, Version, keeper};
use crate::journal::record::encode;
use crate::journal::{Epoch, Filter, Origin, Place, Progress, Tally};
use crate::webhooks::digest::hash;
use crate::webhooks::payload::deliveries;
use crate::webhooks::{CallbackCommand, Switches};

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
    /// The records whose calls were given up.
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

    /// A record with two calls.
    fn block_and_unblock(&mut self, user: &str) -> u64 {
        let at = self.memory.entries.len() as i64 * 1000;
        let blocked = Event::UserBlocked { target: id("zoe"), remain_friends: false };
        let unblocked = Event::UserUnblocked { target: id("zoe") };
        self.put(&Self::commit(user, vec![blocked, unblocked], at))
    }

    /// Who, which call, and its hash, of every record from `since` up to `next`.
    fn calls(&self, since: u64, next: u64) -> Vec<(UserId, CallId, u128)> {
        let mut calls = Vec::new();
        for entry in &self.memory.entries[since as usize..next as usize] {
            let record = decode(&entry.bytes).expect("a record");
            let Body::Commit(commit) = record.body else { continue };
            for call in deliveries(&commit, Switches::ALL) {
                let id = CallId { partition: HERE, offset: entry.offset, command: call.command };
                calls.push((commit.key.user, id, hash(id, &call.body)));
            }
        }
        calls
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
        for (user, call, hash) in self.calls(1, done.next) {
            let waits = done
                .parked
                .iter()
                .any(|(name, first)| user == id(name) && call.offset >= Offset(*first));
            if start.is_none_or(|start| call.offset < Offset(start)) {
                progress.seq += 1;
                progress.last = Some(call.to_string().into());
            }
            if waits {
                continue;
            }
            if done.dead.contains(&call.offset.0) {
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
        let (user, call, _) = self.calls(offset, offset + 1)[0];
        DeadLetter {
            id: call.to_string().into(),
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

#[test]
fn what_is_told_parked_given_up_and_still_to_come_is_all_that_is_owed() {
    let mut book = three();
    book.block_and_unblock("bob");
    let done = Done { next: 6, parked: vec![("bob", 5)], dead: vec![3], letters: vec![3] };
    let cursor = book.cursor(&done);
    book.say(cursor);
    book.block("carl");
    let counts = book.counts();
    let told = (counts.calls, counts.filtered, counts.delivered, counts.dead);
    assert_eq!(told, (6, 0, 2, 1));
    assert_eq!((counts.parked, counts.waiting, counts.behind), (2, 1, 3));
    assert_eq!(counts.oldest, Some(Timestamp(5_000)));
}

#[test]
fn a_call_that_a_cursor_skips_is_named() {
    let mut book = three();
    let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
    let (_, _, hash) = book.calls(3, 4)[0];
    cursor.progress.delivered.count -= 1;
    cursor.progress.delivered.digest = cursor.progress.delivered.digest.wrapping_sub(hash);
    book.say(cursor);
    book.expect(5, Rule::Count, "0@3.Sns.CallbackBlackListAdd of amy is in none of them");
}

#[test]
fn a_lie_is_found_once_and_what_is_true_behind_it_is_not_blamed() {
    let mut book = three();
    let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
    cursor.progress.delivered.count += 2;
    book.say(cursor.clone());
    book.block("carl");
    let truth = book.cursor(&Done { next: 7, ..Done::default() });
    cursor.place = truth.place;
    cursor.progress.seq = truth.progress.seq;
    cursor.progress.last = truth.progress.last;
    cursor.progress.delivered.add(book.calls(6, 7)[0].2);
    book.say(cursor);
    book.expect(5, Rule::Count, "2 are counted too many");
}

#[test]
fn another_digest_is_another_call() {
    let mut book = three();
    let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
    cursor.progress.delivered.digest = cursor.progress.delivered.digest.wrapping_add(1);
    book.say(cursor);
    book.expect(5, Rule::Count, "others than those that were owed");
}

#[test]
fn changed_records_are_found_by_the_digest_of_what_was_told() {
    let mut book = three();
    let victim = (HERE, Offset(2));
    book.memory.recommit(victim, |commit| {
        commit.events = vec![Event::UserBlocked { target: id("yan"), remain_friends: false }];
    });
    book.expect(4, Rule::Count, "others than those that were owed");
}

#[test]
fn a_letter_for_what_was_never_owed_is_found() {
    let lies: [fn(&mut DeadLetter); 4] = [
        |letter| letter.user = id("bob"),
        |letter| letter.id = "0@3.Sns.CallbackFriendAdd".into(),
        |letter| letter.id = "0@99.Sns.CallbackBlackListAdd".into(),
        |letter| letter.id = "1@3.Sns.CallbackBlackListAdd".into(),
    ];
    for lie in lies {
        let mut book = three();
        let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
        let mut letter = book.letter(3);
        lie(&mut letter);
        cursor.progress.died.push(letter);
        book.say(cursor);
        book.expect(5, Rule::Dead, "which was never owed");
    }
}

#[test]
fn a_dead_call_without_a_letter_and_a_letter_that_is_not_counted_are_found() {
    let mut book = three();
    let cursor = book.cursor(&Done { next: 4, dead: vec![3], ..Done::default() });
    book.say(cursor);
    book.expect(5, Rule::Dead, "counts 1 more calls as dead, and letters tell of 0");
    let mut book = three();
    let cursor = book.cursor(&Done { next: 4, letters: vec![3], ..Done::default() });
    book.say(cursor);
    book.expect(5, Rule::Dead, "counts 0 more calls as dead, and letters tell of 1");
}

#[test]
fn a_letter_counts_once_its_call_is_passed_and_is_void_after_a_crash() {
    for crashed in [false, true] {
        let mut book = three();
        let ahead = Done { next: 3, letters: vec![3], ..Done::default() };
        let cursor = book.cursor(&ahead);
        // Told twice: the follower did not hear that the first one is durable.
        book.say(cursor.clone());
        book.say(cursor);
        let dead = if crashed { vec![] } else { vec![3] };
        let cursor = book.cursor(&Done { next: 4, dead, ..Done::default() });
        book.say(cursor);
        let counts = book.counts();
        assert_eq!((counts.delivered, counts.dead), if crashed { (3, 0) } else { (2, 1) });
    }
}

#[test]
fn a_cursor_goes_back_with_a_new_term_only() {
    let mut book = three();
    book.passed(4);
    book.passed(3);
    book.passed(4);
    book.expect(6, Rule::Forward, "goes back from 4 to 3 within term 0");
    let mut book = three();
    book.passed(4);
    let mut cursor = book.cursor(&Done { next: 3, ..Done::default() });
    cursor.term = 1;
    book.say(cursor);
    assert_eq!(book.counts().waiting, 1);
}

#[test]
fn a_cursor_ahead_of_itself_is_found() {
    let mut book = three();
    let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
    cursor.place.next = Offset(77);
    book.say(cursor);
    book.passed(4);
    book.expect(5, Rule::Ahead, "done with all before 77");
}

#[test]
fn a_parked_user_who_is_lost_is_named() {
    let mut book = Book::new();
    for _ in 0..2 {
        book.block("amy");
    }
    let parked = book.cursor(&Done { next: 3, parked: vec![("amy", 1)], ..Done::default() });
    book.say(parked.clone());
    let mut lie = parked;
    lie.progress.parked.clear();
    let truth = book.cursor(&Done { next: 3, ..Done::default() }).progress;
    (lie.progress.resume, lie.progress.seq, lie.progress.last) = (None, truth.seq, truth.last);
    book.say(lie);
    book.expect(4, Rule::Count, "amy was parked at 0@1, and those 2 are gone");
}

#[test]
fn a_user_is_parked_where_a_call_of_theirs_waits() {
    let mut book = Book::new();
    for user in ["amy", "bob", "amy"] {
        book.block(user);
    }
    let mut cursor = book.cursor(&Done { next: 4, parked: vec![("amy", 3)], ..Done::default() });
    cursor.progress.parked[0].first = Offset(2);
    cursor.progress.resume = Some(Place { next: Offset(3), epoch: Epoch(1), n: 2 });
    book.say(cursor);
    book.expect(4, Rule::Parked, "parks amy at call 0 of 2, and the first that waits is 0 of 3");
}

#[test]
fn the_count_of_a_term_begins_where_it_began() {
    let mut book = three();
    let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
    let (_, _, hash) = book.calls(1, 2)[0];
    cursor.progress.since = Offset(2);
    cursor.progress.delivered.count -= 1;
    cursor.progress.delivered.digest = cursor.progress.delivered.digest.wrapping_sub(hash);
    book.say(cursor);
    book.expect(5, Rule::Since, "counts from 2 on, and counted from 1");
}

#[test]
fn what_was_asked_for_cannot_be_said_otherwise_later() {
    let mut book = three();
    let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
    let name = CallbackCommand::BlackListAdd.name();
    cursor.progress.filters = vec![Filter { from: Offset(0), commands: vec![name.into()] }];
    book.say(cursor);
    book.expect(5, Rule::Filters, "says otherwise what was asked for from 0 on");
}

#[test]
fn what_is_not_asked_for_is_filtered_from_there_on() {
    let mut book = three();
    let cursor = book.cursor(&Done { next: 4, ..Done::default() });
    let mut later = cursor.clone();
    book.say(cursor);
    book.block("carl");
    later.place = Place { next: Offset(7), epoch: Epoch(1), n: 6 };
    later.progress.filters.push(Filter { from: Offset(5), commands: Vec::new() });
    book.say(later);
    let counts = book.counts();
    assert_eq!((counts.calls, counts.delivered, counts.filtered), (4, 3, 1));
}

#[test]
fn a_cursor_knows_the_call_before_its_place() {
    let lies: [fn(&mut Progress); 3] = [
        |progress| progress.seq += 1,
        |progress| progress.last = None,
        |progress| progress.resume = Some(Place { next: Offset(2), epoch: Epoch(1), n: 1 }),
    ];
    for lie in lies {
        let mut book = three();
        let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
        lie(&mut cursor.progress);
        book.say(cursor);
        book.expect(5, Rule::Chain, "where it is 4 behind call 3");
    }
}

#[test]
fn what_counts_for_nobody_owes_nothing() {
    let mut book = three();
    let event = Event::UserBlocked { target: id("zoe"), remain_friends: false };
    book.put_as(0, 9, &Book::commit("amy", vec![event], 5_000));
    // A late cursor of a former owner that claims everything.
    let mut lie = book.cursor(&Done { next: 4, ..Done::default() });
    lie.progress.delivered = Tally::default();
    let subscription = format!("webhook/{APP}");
    book.put_as(0, 10, &Body::Cursor { subscription, cursor: Box::new(lie) });
    let counts = book.counts();
    assert_eq!((counts.calls, counts.delivered, counts.waiting), (3, 2, 1));
}

#[test]
fn a_subscription_that_begins_owes_nothing_of_before() {
    let mut book = Book::new();
    book.block("amy");
    let begun = Cursor::begin(Place { next: Offset(2), epoch: Epoch(1), n: 1 });
    book.say(begun);
    book.block("bob");
    let counts = book.counts();
    assert_eq!(
        (counts.calls, counts.waiting, counts.filtered),
        (1, 0, 1),
        "nothing is asked for yet"
    );
    let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
    let first = book.calls(1, 2)[0].2;
    cursor.progress.since = Offset(2);
    cursor.progress.seq = 1;
    cursor.progress.delivered.count -= 1;
    cursor.progress.delivered.digest = cursor.progress.delivered.digest.wrapping_sub(first);
    book.say(cursor);
    let counts = book.counts();
    assert_eq!((counts.calls, counts.delivered), (1, 1));
    book.say(Cursor::ended());
    let report = book.report();
    assert!(report.balanced && report.subscriptions[0].ended);
}

#[test]
fn a_range_bounds_what_is_counted_and_not_what_is_held_against_the_records() {
    let mut book = three();
    book.passed(4);
    let range = |from, to| Range { from, to };
    let places = |offset| Some(Bound::Places(vec![(HERE, Offset(offset))]));
    let time = |ms| Some(Bound::Time(Timestamp(ms)));
    for (range, calls) in [
        (range(None, None), 3),
        (range(places(2), None), 2),
        (range(places(2), places(3)), 1),
        (range(time(3_000), None), 1),
        (range(None, time(3_000)), 2),
    ] {
        let options = Options { range, ..Options::default() };
        let report = reconcile(&book.memory, &options).expect("memory is readable");
        assert!(report.balanced);
        let counts = report.subscriptions[0].counts;
        assert_eq!((counts.calls, counts.delivered), (calls, calls), "{options:?}");
    }
}

#[test]
fn old_records_are_read_again_for_a_cursor_that_is_far_behind() {
    let mut book = Book::new();
    let n = 2_000;
    for _ in 0..n {
        book.block("amy");
    }
    // So few are kept that the first cursors speak of what is gone.
    let mut reckoning = Reckoning::new(&book.memory, Options::default());
    reckoning.keep_at_most(16);
    let mut walk = Walk::over(&book.memory, &[HERE]).expect("memory is readable");
    walk.run(|step, _| {
        let Step { partition, offset, reading, .. } = &step;
        reckoning.step((*partition, *offset), reading, &mut Quiet)?;
        Ok(ControlFlow::Continue(()))
    })
    .expect("memory is readable");
    for (index, next) in [2, 900, 1_990, n + 1].into_iter().enumerate() {
        let cursor = book.cursor(&Done { next, ..Done::default() });
        let place = (HERE, Offset(n + 1 + index as u64));
        let name = format!("webhook/{APP}");
        reckoning.cursor(place, &name, &cursor, &mut Quiet).expect("memory is readable");
    }
    let report = reckoning.finish(&mut Quiet).expect("memory is readable");
    assert!(report.balanced, "{:#?}", report.findings);
    assert_eq!(report.subscriptions[0].counts.delivered, 2_000);
}

#[test]
fn the_log_tells_of_each_call_what_became_of_it_and_since_where_that_is_known() {
    let mut book = three();
    book.block("bob");
    let done = Done { next: 6, parked: vec![("bob", 5)], dead: vec![3], letters: vec![3] };
    let cursor = book.cursor(&done);
    book.say(cursor);
    book.block("carl");
    let told = |options: LogOptions| {
        let mut out = Vec::new();
        log(&book.memory, &options, &mut out).expect("memory is readable");
        let text = String::from_utf8(out).expect("text");
        let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
        lines.collect::<Result<Vec<_>, _>>().expect("JSON")
    };
    let json = Options { format: Format::Json, ..Options::default() };
    let all = told(LogOptions { options: json.clone(), ..LogOptions::default() });
    let short: Vec<String> = all
        .iter()
        .map(|line| {
            format!("{} {} {} {}", line["id"], line["seq"], line["state"], line["known_at"])
        })
        .collect();
    assert_eq!(
        short.join("\n").replace('"', ""),
        "\
0@1.Sns.CallbackBlackListAdd 1 delivered 0@4
0@2.Sns.CallbackBlackListAdd 2 delivered 0@4
0@3.Sns.CallbackBlackListAdd 3 dead 0@6
0@5.Sns.CallbackBlackListAdd 4 parked 0@6
0@7.Sns.CallbackBlackListAdd 5 waiting null"
    );
    assert_eq!((&all[2]["error"], &all[2]["attempts"]), (&"400".into(), &3.into()));
    let of_amy = LogOptions {
        options: json.clone(),
        user: Some(id("amy")),
        state: Some("dead".into()),
        body: true,
        ..LogOptions::default()
    };
    let of_amy = told(of_amy);
    assert_eq!(of_amy.len(), 1);
    let body = of_amy[0]["body"].as_str().expect("a body");
    assert!(body.starts_with(r#"{"CallbackCommand":"Sns.CallbackBlackListAdd""#), "{body}");
    let wanted = "0@2.Sns.CallbackBlackListAdd".parse().ok();
    let one = told(LogOptions { options: json.clone(), id: wanted, ..LogOptions::default() });
    assert_eq!(one.len(), 1);
    let mut out = Vec::new();
    let options = LogOptions { options: json, ..LogOptions::default() };
    assert_eq!(dead_letters(&book.memory, &options, &mut out).expect("readable"), 1);
    assert!(String::from_utf8(out).expect("text").contains("0@3.Sns.CallbackBlackListAdd"));
}

#[test]
fn a_replay_is_counted_before_it_is_made() {
    let mut book = three();
    book.block_and_unblock("bob");
    let selection = Selection {
        app: APP,
        subscription: MAIN.into(),
        range: Range::default(),
        users: Vec::new(),
        commands: Vec::new(),
        ids: Vec::new(),
    };
    let calls = |selection: &Selection| {
        let counted = count(&book.memory, selection).expect("memory is readable");
        (counted.calls, counted.records)
    };
    assert_eq!(calls(&selection), (5, 4));
    assert_eq!(calls(&Selection { users: vec![id("bob")], ..selection.clone() }), (3, 2));
    let commands = vec![CallbackCommand::BlackListDelete];
    assert_eq!(calls(&Selection { commands, ..selection.clone() }), (1, 1));
    let ids = vec!["0@3.Sns.CallbackBlackListAdd".parse().expect("an id")];
    assert_eq!(calls(&Selection { ids, ..selection.clone() }), (1, 1));
    let to = Some(Bound::Time(Timestamp(3_000)));
    let range = Range { from: None, to };
    assert_eq!(calls(&Selection { range, ..selection.clone() }), (2, 2));
    assert_eq!(calls(&Selection { app: AppId(3), ..selection }), (0, 0));
}

#[test]
fn a_replay_is_held_against_what_it_was_to_tell() {
    for skipped in [false, true] {
        let mut book = three();
        let replay = Replay {
            number: 1,
            subscription: MAIN.into(),
            url: None,
            since: None,
            until: None,
            ranges: vec![(0, 1, 4)],
            users: vec![id("amy")],
            commands: Vec::new(),
            ids: Vec::new(),
        };
        let begun = Event::ReplayBegun(Box::new(replay));
        book.put(&Book::commit(keeper().as_str(), vec![begun], 5_000));
        let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
        let calls = book.calls(1, 4);
        cursor.progress.delivered = Tally::default();
        cursor.progress.delivered.add(calls[0].2);
        if !skipped {
            cursor.progress.delivered.add(calls[2].2);
        }
        cursor.progress.seq = 2;
        let subscription = format!("webhook/{APP}/replay/1");
        let place = book.put(&Body::Cursor { subscription, cursor: Box::new(cursor) });
        let report = book.report();
        assert_eq!(report.balanced, !skipped, "{:#?}", report.findings);
        if skipped {
            let finding = &report.findings.first[0];
            assert_eq!(finding.offset, Offset(place));
            let named = "0@3.Sns.CallbackBlackListAdd of amy is in none of them";
            assert!(finding.detail.contains(named), "{}", finding.detail);
        }
        let replay = report.subscriptions.iter().find(|one| *one.name == *"main/replay/1");
        let counts = replay.expect("the replay").counts;
        assert_eq!((counts.calls, counts.filtered), (3, 1));
    }
}

#[test]
fn names_of_cursors_say_whose_they_are() {
    assert_eq!(named("webhook/7"), Some((AppId(7), "main", None)));
    assert_eq!(named("webhook/7/crm"), Some((AppId(7), "crm", None)));
    assert_eq!(named("webhook/7/replay/3"), Some((AppId(7), "main", Some(3))));
    assert_eq!(named("webhook/7/crm/replay/3"), Some((AppId(7), "crm", Some(3))));
    for other in ["all", "webhook/", "webhook/x", "webhook/7/a/b", "webhook/7/a/replay/x"] {
        assert_eq!(named(other), None, "{other}");
    }
}
