//! Lies of a cursor.

use super::*;
use crate::audit::verify;
use crate::domain::{BeforeTerms, DeliveryTerms, Format, Seek, SeekTo, Subscription};

#[test]
fn a_call_that_a_cursor_skips_is_named() {
    let mut book = three();
    let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
    let (_, _, hash) = book.deliveries(3, 4)[0];
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
    cursor.progress.delivered.add(book.deliveries(6, 7)[0].2);
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
    let (_, _, hash) = book.deliveries(1, 2)[0];
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

fn keeper(event: Event) -> Body {
    Book::commit("~webhooks", vec![event], 0)
}

#[test]
fn a_term_that_nobody_began_is_found() {
    let moved = |term| {
        let name = "main".into();
        keeper(Event::SubscriptionMoved(Seek { name, term, to: SeekTo::End }))
    };
    // Without it, the deliveries before the new beginning would be counted nowhere.
    let hidden = |book: &Book| {
        let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
        cursor.term = 1;
        let filters = cursor.progress.filters;
        cursor.progress = Progress { since: Offset(4), filters, ..Progress::default() };
        cursor
    };
    let mut book = three();
    let cursor = hidden(&book);
    book.say(cursor.clone());
    book.expect(5, Rule::Term, "is of term 1, and the last that was begun is 0");
    // Wherever it is read.
    book.put(&moved(1));
    assert!(book.report().balanced);
    let mut later = hidden(&book);
    (later.term, later.place.next, later.place.n) = (3, Offset(5), 4);
    later.progress.since = Offset(5);
    book.put(&moved(2));
    book.say(later);
    book.expect(8, Rule::Term, "is of term 3, and the last that was begun is 2");
}

#[test]
fn an_end_without_a_deletion_is_found_and_hides_nothing() {
    let deleted = || keeper(Event::SubscriptionDeleted { name: "main".into() });
    let begin = |next| Cursor::begin(Place { next: Offset(next), epoch: Epoch(1), n: next - 1 });
    let mut book = three();
    book.say(Cursor::ended());
    book.expect(5, Rule::Ended, "was given up 1 times, and deleted 0 times");
    // The delivery of the third record is told nowhere.
    book.say(begin(6));
    book.expect(5, Rule::Ended, "was given up 1 times, and deleted 0 times");
    let problems = verify::check(&book.memory, &verify::Options::default());
    let promises = problems.expect("memory is readable").promises;
    assert!(!promises[4].kept, "{promises:#?}");
    // Wherever the deletion is read.
    book.put(&deleted());
    assert!(book.report().balanced);
    book.say(Cursor::ended());
    book.say(begin(9));
    book.expect(8, Rule::Ended, "was given up 2 times, and deleted 1 times");
}

#[test]
fn whoever_goes_on_behind_an_end_has_not_begun_anew() {
    let mut book = three();
    book.put(&keeper(Event::SubscriptionDeleted { name: "main".into() }));
    book.say(Cursor::ended());
    // It was on its way when the place was given up.
    book.passed(4);
    book.say(Cursor::ended());
    assert!(book.report().balanced);
    // Where a delivery is in neither cursor, nothing was gone on with.
    let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
    cursor.progress.delivered = Tally::default();
    book.say(cursor);
    book.say(Cursor::ended());
    let found = book.report().findings.first;
    assert!(found.iter().any(|one| one.rule == Rule::Ended), "{found:#?}");
}

#[test]
fn what_the_journal_does_not_decide_is_noted() {
    let add = CallbackCommand::BlackListAdd.name();
    let set = |commands: &[&str]| {
        let set = Subscription {
            name: "crm".into(),
            url: None,
            commands: commands.iter().map(|one| (*one).into()).collect(),
            enabled: true,
            format: Format::Reference,
            secrets: Vec::new(),
            headers: true,
            delivery: DeliveryTerms::default(),
            before: BeforeTerms::default(),
        };
        keeper(Event::SubscriptionSet(Box::new(set)))
    };
    let mut book = three();
    book.put(&set(&[add]));
    let notes = book.report().notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("crm of app 1400000001 was set and has no place in 1 of 1"));
    let verified = verify::check(&book.memory, &verify::Options::default());
    assert_eq!(verified.expect("memory is readable").notes, notes);
    for (app, subscription, noted) in
        [(None, Some("crm"), 1), (Some(APP), None, 1), (None, Some("main"), 0)]
    {
        let subscription = subscription.map(str::to_owned);
        let options = Options { app, subscription, ..Options::default() };
        let notes = reconcile(&book.memory, &options).expect("memory is readable").notes;
        assert_eq!(notes.len(), noted, "{options:?}");
    }
    let say = |book: &mut Book, commands: &[&str]| {
        let commands = commands.iter().map(|one| (*one).into()).collect();
        let place = Place { next: Offset(5), epoch: Epoch(1), n: 4 };
        let filters = vec![Filter { from: Offset(0), commands }];
        let progress = Progress { since: Offset(5), filters, ..Progress::default() };
        let cursor = Box::new(Cursor { place, progress, ..Cursor::default() });
        book.put(&Body::Cursor { subscription: format!("webhook/{APP}/crm"), cursor });
    };
    let mut right = Book { memory: book.memory.clone(), ..book };
    say(&mut right, &[add]);
    assert_eq!(right.report().notes, [""; 0]);
    say(&mut book, &[]);
    let notes = book.report().notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("crm of app 1400000001 asks in 1 partitions"), "{notes:?}");
}
