//! Pages of what cursors tell.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn letter(number: usize) -> DeadLetter {
    let id = format!("0@{number}.Sns.CallbackBlackListAdd").into();
    DeadLetter { id, user: super::id("amy"), attempts: 3, at: Timestamp(0), error: "".into() }
}

#[test]
fn a_page_goes_on_inside_a_record_however_much_that_tells() {
    const LETTERS: usize = 320;
    let mut book = Book::new();
    let mut cursor = book.cursor(&Done { next: 1, ..Done::default() });
    cursor.progress.died = (0..LETTERS).map(letter).collect();
    let subscription = format!("webhook/{APP}/main");
    book.put(&Body::Cursor { subscription, cursor: Box::new(cursor) });
    let mut place = ScanCursor::beginning(1, None);
    let mut told = Vec::new();
    for page in 0.. {
        assert!(page <= LETTERS / 50, "the same page comes again");
        let deadline = Instant::now() + Duration::from_secs(60);
        let reach = Reach { records: 100, items: 50, bytes: usize::MAX, deadline };
        let found = letters(&book.memory, APP, None, &mut place, reach).expect("readable");
        told.extend(found.items.into_iter().map(|one| one.letter));
        if found.complete {
            break;
        }
        // As a caller hands it back.
        place = ScanCursor::decode(&place.encode(), 1).expect("a cursor");
    }
    assert_eq!(told, (0..LETTERS).map(letter).collect::<Vec<_>>());
}

const ADD: CallbackCommand = CallbackCommand::BlackListAdd;
const DELETE: CallbackCommand = CallbackCommand::BlackListDelete;

/// A cursor that is done with all before `next`, and what was asked for from which offset on.
fn done(next: u64, filters: &[(u64, &[CallbackCommand])]) -> Cursor {
    let filter = |(from, commands): &(u64, &[CallbackCommand])| Filter {
        from: Offset(*from),
        commands: commands.iter().map(|command| command.name().into()).collect(),
    };
    let filters = filters.iter().map(filter).collect();
    let progress = Progress { since: Offset(1), filters, ..Progress::default() };
    let place = Place { next: Offset(next), epoch: Epoch(1), n: next - 1 };
    Cursor { place, progress, ..Cursor::default() }
}

/// What is told of the deliveries that are asked for, where the newest cursor is `newest`, of so many
/// records.
fn told(book: &Book, asked: &Asked, newest: &Cursor, records: usize) -> Vec<(String, String)> {
    let cursor = newest.clone();
    let newest = [Standpoint { subscription: "main".into(), partition: HERE, cursor }];
    let deadline = Instant::now() + Duration::from_secs(60);
    let reach = Reach { records, items: 50, bytes: usize::MAX, deadline };
    let mut place = match asked.id {
        Some(id) => match ScanCursor::in_front_of(&book.memory, id, &newest).expect("readable") {
            Some(place) => place,
            None => return Vec::new(),
        },
        None => ScanCursor::beginning(1, None),
    };
    let found = delivered(&book.memory, APP, asked, &newest, &mut place, reach).expect("readable");
    let short = |item: Delivered| {
        let id = item.id.to_string().replace("Sns.CallbackBlackList", "");
        (id, item.state.unwrap_or("passed").to_owned())
    };
    found.items.into_iter().map(short).collect()
}

fn each(told: &[(&str, &str)]) -> Vec<(String, String)> {
    told.iter().map(|(id, state)| ((*id).to_owned(), (*state).to_owned())).collect()
}

#[test]
fn what_was_asked_for_is_said_by_the_cursor_that_passed_the_call() {
    for (first, later) in [(&[ADD][..], &[ADD, DELETE][..]), (&[ADD, DELETE], &[ADD])] {
        let mut book = Book::new();
        assert_eq!(book.block_and_unblock("amy"), 1);
        book.say(done(2, &[(0, first)]));
        assert_eq!(book.block_and_unblock("amy"), 3);
        book.say(done(4, &[(0, first), (2, later)]));
        assert_eq!(book.block_and_unblock("amy"), 5);
        let newest = done(5, &[(2, later)]);
        book.say(newest.clone());
        let deliveries = |offset: u64, asked: &[CallbackCommand], state: &str| {
            let name = |command: &CallbackCommand| if *command == ADD { "Add" } else { "Delete" };
            let delivery = |command| (format!("0@{offset}.{}", name(command)), state.to_owned());
            asked.iter().map(delivery).collect::<Vec<_>>()
        };
        let expected = [
            deliveries(1, first, "delivered"),
            deliveries(3, later, "delivered"),
            deliveries(5, later, "waiting"),
        ];
        assert_eq!(told(&book, &Asked::default(), &newest, 100), expected.concat());
    }
}

#[test]
fn a_cursor_of_another_count_says_nothing_of_what_the_newest_has_told() {
    let mut book = Book::new();
    book.block("amy");
    // It began behind the record; then it was moved to the beginning.
    let mut behind = done(2, &[(0, &[ADD])]);
    behind.progress.since = Offset(2);
    book.say(behind);
    let mut newest = done(2, &[(0, &[ADD])]);
    newest.term = 1;
    newest.progress.died = vec![letter(1)];
    book.say(newest.clone());
    assert_eq!(told(&book, &Asked::default(), &newest, 100), each(&[("0@1.Add", "dead")]));
}

#[test]
fn a_call_of_which_too_little_was_looked_at_may_be_in_the_state_that_is_asked_for() {
    let mut book = Book::new();
    book.block("amy");
    book.block("bob");
    let mut newest = done(3, &[(0, &[ADD])]);
    newest.progress.died = vec![letter(1)];
    book.say(newest.clone());
    let asked = |state: &str| Asked { state: Some(state.into()), ..Asked::default() };
    assert_eq!(told(&book, &asked("dead"), &newest, 2), each(&[("0@1.Add", "passed")]));
    assert_eq!(told(&book, &asked("dead"), &newest, 4), each(&[("0@1.Add", "dead")]));
    assert_eq!(told(&book, &asked("delivered"), &newest, 4), each(&[("0@2.Add", "delivered")]));
}

#[test]
fn a_call_of_a_record_that_counts_for_nobody_is_not_there() {
    // Where reading begins at the first record, at a cursor near it, and with the second look back.
    for (before, next) in [(1, 1), (300, 300), (300, 1)] {
        let mut book = Book::new();
        for _ in 0..before {
            book.block("amy");
        }
        let newest = done(next, &[(0, &[ADD])]);
        book.say(newest.clone());
        let event = Event::UserBlocked { target: super::id("zoe"), remain_friends: false };
        let void = book.put_as(0, 9, &Book::commit("amy", vec![event.clone()], 0));
        let again = book.put_as(1, book.n, &Book::commit("amy", vec![event], 0));
        let counts = book.block("amy");
        let asked = |offset: u64| {
            let id = format!("0@{offset}.Sns.CallbackBlackListAdd").parse().ok();
            told(&book, &Asked { id, ..Asked::default() }, &newest, 100_000)
        };
        assert_eq!((asked(void), asked(again)), (Vec::new(), Vec::new()), "{before} {next}");
        let there = format!("0@{counts}.Add");
        assert_eq!(asked(counts), each(&[(&there, "waiting")]), "{before} {next}");
    }
}

proptest! {
    #[test]
    fn a_text_is_the_cursor_that_it_was_made_of_or_none(
        places in vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..4),
        since: Option<u32>,
        noise in "[A-Za-z0-9_-]{0,60}",
        partitions in 0..5_u16,
    ) {
        let place = |(next, epoch, n)| Place { next: Offset(next), epoch: Epoch(epoch), n };
        let count = places.len() as u16;
        let beginning = ScanCursor::beginning(count, since.map(|since| Timestamp(since.into())));
        prop_assert_eq!(ScanCursor::decode(&beginning.encode(), count), Ok(beginning));
        let cursor = ScanCursor::at(places.into_iter().map(place));
        let text = cursor.encode();
        prop_assert_eq!(ScanCursor::decode(&text, count), Ok(cursor));
        if partitions != count {
            prop_assert!(ScanCursor::decode(&text, partitions).is_err());
        }
        prop_assert!(ScanCursor::decode(&noise, partitions).is_err());
        prop_assert!(ScanCursor::decode(&(text + &noise), partitions).is_err() || noise.is_empty());
    }
}
