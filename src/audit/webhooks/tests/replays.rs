//! What a replay is to tell.

use super::*;
use crate::audit::verify;
use crate::domain::{MAIN, keeper};

/// All deliveries of the subscription of the settings.
fn everything() -> Selection {
    Selection {
        app: APP,
        subscription: MAIN.into(),
        range: Range::default(),
        users: Vec::new(),
        commands: Vec::new(),
        ids: Vec::new(),
    }
}

#[test]
fn a_replay_is_counted_before_it_is_made() {
    let mut book = three();
    book.block_and_unblock("bob");
    let selection = everything();
    let deliveries = |selection: &Selection| {
        let counted = count(&book.memory, selection).expect("memory is readable");
        (counted.calls, counted.records)
    };
    assert_eq!(deliveries(&selection), (5, 4));
    assert_eq!(deliveries(&Selection { users: vec![id("bob")], ..selection.clone() }), (3, 2));
    let commands = vec![CallbackCommand::BlackListDelete];
    assert_eq!(deliveries(&Selection { commands, ..selection.clone() }), (1, 1));
    let ids = vec!["0@3.Sns.CallbackBlackListAdd".parse().expect("an id")];
    assert_eq!(deliveries(&Selection { ids, ..selection.clone() }), (1, 1));
    let to = Some(Bound::Time(Timestamp(3_000)));
    let range = Range { from: None, to };
    assert_eq!(deliveries(&Selection { range, ..selection.clone() }), (2, 2));
    for other in [
        Selection { app: AppId(3), ..selection.clone() },
        Selection { subscription: "nope".into(), ..selection },
    ] {
        let counted = count(&book.memory, &other);
        assert!(matches!(counted, Err(AuditError::UnknownSubscription { .. })), "{counted:?}");
    }
}

#[test]
fn a_replay_that_nobody_knows_is_noted_and_its_calls_are_not_counted_as_checked() {
    let mut book = three();
    let cursor = book.cursor(&Done { next: 4, ..Done::default() });
    let subscription = format!("webhook/{APP}/replay/1");
    book.put(&Body::Cursor { subscription, cursor: Box::new(cursor) });
    assert_eq!(book.report().held, 3, "those of the subscription itself");
    let verified = verify::check(&book.memory, &verify::Options::default());
    let verified = verified.expect("memory is readable");
    assert_eq!(verified.notes.len(), 1, "{:?}", verified.notes);
    assert!(verified.notes[0].starts_with("main/replay/1 of app 1400000001 is not held"));
    let checked = &verified.promises[4].checked;
    assert!(checked.iter().any(|one| (one.what, one.count) == ("calls", 3)), "{checked:?}");
}

#[test]
fn records_that_count_and_cannot_be_read_are_counted_by_whoever_passes_over_them() {
    let mut book = three();
    for (epoch, n) in [(1, book.n + 1), (0, 9)] {
        let offset = book.put_as(epoch, n, &Body::Watermark { seen: Vec::new() });
        let bytes = &mut book.memory.entries[offset as usize].bytes;
        let text = String::from_utf8(std::mem::take(bytes)).expect("text");
        *bytes = text.replace(r#"{"v":1,"#, r#"{"v":99,"#).into_bytes();
        assert!(decode(bytes).is_err());
    }
    let selection = everything();
    let options = LogOptions::default();
    let unreadable = [
        book.report().unreadable,
        log(&book.memory, &options, &mut Vec::new()).expect("readable").unreadable,
        dead_letters(&book.memory, &options, &mut Vec::new()).expect("readable").unreadable,
        count(&book.memory, &selection).expect("readable").unreadable,
    ];
    assert_eq!(unreadable, [1; 4], "the other one counts for nobody");
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
        let mut cursor = book.cursor(&Done { next: 4, ..Done::default() });
        let deliveries = book.deliveries(1, 4);
        cursor.progress.delivered = Tally::default();
        cursor.progress.delivered.add(deliveries[0].2);
        if !skipped {
            cursor.progress.delivered.add(deliveries[2].2);
        }
        cursor.progress.seq = 2;
        let subscription = format!("webhook/{APP}/replay/1");
        let place = book.put(&Body::Cursor { subscription, cursor: Box::new(cursor) });
        // The word on it is in another partition, which is read later.
        book.memory.partitions = 2;
        let claim = Body::Claim { node: "a".into(), nonce: Uuid::nil() };
        let word = Book::commit(keeper().as_str(), vec![begun], 5_000);
        for (number, body) in [claim, word].iter().enumerate() {
            let (partition, offset, mut bytes) = (Partition(1), Offset(number as u64), Vec::new());
            encode(Epoch(1), number as u64, body, &mut bytes);
            book.memory.entries.push(Entry { partition, offset, bytes });
        }
        let report = book.report();
        assert_eq!(report.balanced, !skipped, "{:#?}", report.findings);
        if skipped {
            let finding = &report.findings.first[0];
            assert_eq!(finding.offset, Offset(place));
            let named = "0@3.Sns.CallbackBlackListAdd of amy is in none of them";
            assert!(finding.detail.contains(named), "{}", finding.detail);
        }
        let verified = verify::check(&book.memory, &verify::Options::default());
        let problems = verified.expect("memory is readable").problems.first;
        let lies = problems.iter().filter(|finding| finding.rule == verify::Rule::Deliveries);
        assert_eq!(lies.count(), usize::from(skipped));
        let replay = report.subscriptions.iter().find(|one| *one.name == *"main/replay/1");
        let counts = replay.expect("the replay").counts;
        assert_eq!((counts.calls, counts.filtered), (3, 1));
    }
}
