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
