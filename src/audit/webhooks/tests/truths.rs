//! Right histories.

use super::*;
use crate::domain::{Seek, SeekTo, keeper};

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
    let moved = Seek { name: "main".into(), term: 1, to: SeekTo::End };
    book.put(&Book::commit("~webhooks", vec![Event::SubscriptionMoved(moved)], 0));
    let mut cursor = book.cursor(&Done { next: 3, ..Done::default() });
    cursor.term = 1;
    book.say(cursor);
    assert_eq!(book.counts().waiting, 1);
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
    let first = book.deliveries(1, 2)[0].2;
    cursor.progress.since = Offset(2);
    cursor.progress.seq = 1;
    cursor.progress.delivered.count -= 1;
    cursor.progress.delivered.digest = cursor.progress.delivered.digest.wrapping_sub(first);
    book.say(cursor);
    let counts = book.counts();
    assert_eq!((counts.calls, counts.delivered), (1, 1));
    let deleted = Event::SubscriptionDeleted { name: "main".into() };
    book.put(&Book::commit("~webhooks", vec![deleted], 0));
    book.say(Cursor::ended());
    let report = book.report();
    assert!(report.balanced && report.subscriptions[0].ended);
}

#[test]
fn a_subscription_that_is_named_and_unknown_is_an_error_whatever_is_asked_of_it() {
    let mut book = three();
    let known = Event::SubscriptionDeleted { name: "gone".into() };
    book.put(&Book::commit(keeper().as_str(), vec![known], 9_000));
    let named = |app, name: Option<&str>| Options {
        app,
        subscription: name.map(Into::into),
        ..Options::default()
    };
    for (options, is_known) in [
        (named(None, None), true),
        (named(Some(APP), None), true),
        (named(Some(APP), Some("main")), true),
        // No cursor speaks of it, but somebody did.
        (named(Some(APP), Some("gone")), true),
        (named(None, Some("nope")), false),
        (named(Some(AppId(3)), None), false),
        (named(Some(AppId(3)), Some("main")), false),
    ] {
        let letters = LogOptions { options: options.clone(), ..LogOptions::default() };
        let mut out = Vec::new();
        for result in [
            audit(&book.memory, &options, &mut out).map(|_| ()),
            list(&book.memory, &options, &mut out).map(|_| ()),
            log(&book.memory, &letters, &mut out).map(|_| ()),
            dead_letters(&book.memory, &letters, &mut out).map(|_| ()),
        ] {
            let unknown = matches!(result, Err(AuditError::UnknownSubscription { .. }));
            assert_eq!(unknown, !is_known, "{options:?}: {result:?}");
            assert!(result.is_ok() || out.is_empty(), "{options:?}");
        }
    }
}

#[test]
fn a_range_bounds_what_is_counted_and_not_what_is_held_against_the_records() {
    let mut book = three();
    book.passed(4);
    let range = |from, to| Range { from, to };
    let places = |offset| Some(Bound::Places(vec![(HERE, Offset(offset))]));
    let time = |ms| Some(Bound::Time(Timestamp(ms)));
    for (range, deliveries) in [
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
        assert_eq!((counts.calls, counts.delivered), (deliveries, deliveries), "{options:?}");
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
    let summary = dead_letters(&book.memory, &options, &mut out).expect("readable");
    assert_eq!(summary, Summary { shown: 1, unreadable: 0 });
    assert!(String::from_utf8(out).expect("text").contains("0@3.Sns.CallbackBlackListAdd"));
}
