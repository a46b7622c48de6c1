//! Pages of what cursors tell.

use std::time::{Duration, Instant};

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
