//! What every journal promises, each as a test over a [`Provider`].

use std::collections::BTreeMap;

use cordon::journal::{Ack, Admitted, Body, Durability, Epoch, ReaderRule, WriterRule, record};
use uuid::Uuid;

use super::*;

pub(super) fn a_new_journal_is_empty<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    assert_eq!(journal.partitions(), PARTITIONS);
    journal.writable().expect("a new journal can be written");
    assert!(read(&*journal, &whole()).is_empty());
    for partition in partitions() {
        assert_eq!(journal.end(partition).expect("an end"), Offset(0));
    }
}

pub(super) fn offsets_start_at_0_and_have_no_gaps<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    let mut settlements: Vec<_> =
        partitions().map(|partition| Settlements::of(&*journal, partition)).collect();
    let counts = [1_u64, 700, 0, 300];
    for index in 0..700 {
        for (partition, count) in partitions().zip(counts) {
            if index < count {
                append(&*journal, partition, text(partition, index).as_bytes());
                journal.flush();
            }
        }
    }
    for ((partition, count), settlements) in partitions().zip(counts).zip(&mut settlements) {
        let offsets = settlements.offsets(count as usize);
        assert_eq!(offsets, (0..count).collect::<Vec<_>>());
        settlements.expect_silence();
        assert_eq!(journal.end(partition).expect("an end"), Offset(count));
    }
}

pub(super) fn records_of_a_partition_keep_the_order_of_their_appends<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    fill(&*journal, 0, 500);
    let mut next: BTreeMap<Partition, u64> = BTreeMap::new();
    for entry in read(&*journal, &whole()) {
        let next = next.entry(entry.partition).or_default();
        assert_eq!(entry.offset, Offset(*next));
        expect_text(&entry);
        *next += 1;
    }
    assert_eq!(next, partitions().map(|partition| (partition, 500)).collect());
}

pub(super) fn each_append_is_settled_once_and_in_order<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    // One owner per partition, each with many records in flight, as the actors have.
    std::thread::scope(|scope| {
        for partition in partitions() {
            let journal = &*journal;
            scope.spawn(move || {
                let mut settlements = Settlements::of(journal, partition);
                for round in 0..20 {
                    for index in 0..25 {
                        append(journal, partition, text(partition, round * 25 + index).as_bytes());
                    }
                    journal.flush();
                    let offsets = settlements.offsets(25);
                    assert_eq!(offsets, (round * 25..round * 25 + 25).collect::<Vec<_>>());
                }
                settlements.expect_silence();
            });
        }
    });
    read(&*journal, &whole()).iter().for_each(expect_text);
}

pub(super) fn what_was_acknowledged_is_there_after_opening_again<P: Provider>() {
    let Some(mut provider) = P::create() else { return };
    for round in 0..3 {
        fill(&*provider.journal(), round * 100, 100);
        provider = provider.reopen();
        let journal = provider.journal();
        let entries = read(&*journal, &whole());
        assert_eq!(entries.len() as u64, (round + 1) * 100 * u64::from(PARTITIONS));
        entries.iter().for_each(expect_text);
        for partition in partitions() {
            assert_eq!(journal.end(partition).expect("an end"), Offset((round + 1) * 100));
        }
    }
}

pub(super) fn a_reader_starts_at_any_offset_of_any_partitions<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    fill(&*journal, 0, 200);
    for start in (0..=200).step_by(7).chain([199, 200]) {
        let from = [(Partition(3), Offset(start)), (Partition(1), Offset(200 - start))];
        let mut next: BTreeMap<_, _> = from.into_iter().collect();
        for entry in read(&*journal, &from) {
            let next = next.get_mut(&entry.partition).expect("only partitions asked for");
            assert_eq!(entry.offset, *next);
            expect_text(&entry);
            next.0 += 1;
        }
        assert!(next.values().all(|next| *next == Offset(200)));
    }
    assert!(read(&*journal, &[]).is_empty());
}

pub(super) fn a_reader_takes_as_much_as_it_asks_for_and_at_least_one<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    fill(&*journal, 0, 50);
    let mut reader = journal.reader(&[(Partition(0), Offset(0))]).expect("a reader");
    assert_eq!(reader.next(0).expect("a record").len(), 1);
    assert_eq!(reader.next(1).expect("a record").len(), 1);
    let record_bytes = text(Partition(0), 10).len();
    let entries = reader.next(5 * record_bytes).expect("records");
    assert!((2..10).contains(&entries.len()), "{}", entries.len());
    assert_eq!(entries[0].offset, Offset(2));
}

pub(super) fn an_offset_behind_the_end_is_refused<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    fill(&*journal, 0, 3);
    let refused = journal.reader(&[(Partition(0), Offset(3)), (Partition(2), Offset(4))]).err();
    assert!(
        matches!(
            refused,
            Some(JournalError::NoSuchOffset {
                partition: Partition(2),
                offset: Offset(4),
                end: Offset(3)
            })
        ),
        "{refused:?}"
    );
    let unknown = Partition(PARTITIONS);
    assert!(journal.reader(&[(unknown, Offset(0))]).is_err());
    assert!(journal.end(unknown).is_err());
    assert!(journal.append(unknown, b"{}").is_err());
}

pub(super) fn a_reader_at_the_end_goes_on_when_progress_is_told<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    let mut reader = journal.reader(&whole()).expect("a reader");
    let mut progress = journal.progress();
    for index in 0..20 {
        assert!(reader.next(1000).expect("readable").is_empty());
        let before = *progress.borrow_and_update();
        fill(&*journal, index, 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let told = runtime
            .expect("a runtime")
            .block_on(async { tokio::time::timeout(DEADLINE, progress.changed()).await });
        told.expect("progress is told in time").expect("the journal lives");
        assert!(*progress.borrow() > before);
        let (mut entries, deadline) = (Vec::new(), Instant::now() + DEADLINE);
        while entries.len() < usize::from(PARTITIONS) {
            assert!(Instant::now() < deadline, "the records come in time");
            entries.extend(reader.next(1000).expect("readable"));
        }
        entries.iter().for_each(expect_text);
    }
}

pub(super) fn what_is_settled_can_be_read_and_what_is_read_lies_before_the_end<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    std::thread::scope(|scope| {
        let writing = &*journal;
        scope.spawn(move || {
            let mut settlements = Settlements::of(writing, Partition(0));
            for index in 0..400 {
                append(writing, Partition(0), text(Partition(0), index).as_bytes());
                writing.flush();
                let offset = settlements.offsets(1)[0];
                assert!(writing.end(Partition(0)).expect("an end") > Offset(offset));
                assert_eq!(read(writing, &[(Partition(0), Offset(offset))]).len(), 1);
            }
        });
        let mut reader = journal.reader(&[(Partition(0), Offset(0))]).expect("a reader");
        let (mut next, deadline) = (0, Instant::now() + DEADLINE);
        while next < 400 {
            assert!(Instant::now() < deadline, "the records come in time");
            for entry in reader.next(1000).expect("readable") {
                assert_eq!(entry.offset, Offset(next));
                assert!(entry.offset < journal.end(Partition(0)).expect("an end"));
                expect_text(&entry);
                next += 1;
            }
        }
    });
}

pub(super) fn a_prefix_is_durable_where_the_journal_promises_it<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    if journal.durability() != Durability::Prefix {
        return;
    }
    const COUNT: u64 = 3000;
    std::thread::scope(|scope| {
        let writing = &*journal;
        scope.spawn(move || {
            for index in 0..COUNT {
                // No pattern that a batch could hide.
                let partition = Partition((index * index % 7 % u64::from(PARTITIONS)) as u16);
                append(writing, partition, index.to_string().as_bytes());
                if index % 3 == 0 || index + 1 == COUNT {
                    writing.flush();
                }
            }
        });
        // At every moment, what is there is all that was appended up to some point.
        let mut reader = journal.reader(&whole()).expect("a reader");
        let (mut next, deadline) = (0, Instant::now() + DEADLINE);
        while next < COUNT {
            assert!(Instant::now() < deadline, "the records come in time");
            for entry in reader.next(100).expect("readable") {
                assert_eq!(String::from_utf8_lossy(&entry.bytes), next.to_string());
                next += 1;
            }
        }
    });
}

pub(super) fn more_than_fits_is_refused_and_what_was_taken_is_kept<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    let partition = Partition(2);
    let mut settlements = Settlements::of(&*journal, partition);
    let record = vec![b'x'; 10 << 10];
    let deadline = Instant::now() + DEADLINE;
    let mut taken = 0;
    let refused = loop {
        match journal.append(partition, &record) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(Instant::now() < deadline, "the journal takes without end");
    };
    assert!(matches!(refused, JournalError::Full), "{refused}");
    journal.flush();
    assert_eq!(settlements.offsets(taken), (0..taken as u64).collect::<Vec<_>>());
    append(&*journal, partition, &record);
    journal.flush();
    assert_eq!(settlements.offsets(1), [taken as u64]);
    assert!(read(&*journal, &whole()).iter().all(|entry| entry.bytes == record));
}

pub(super) fn a_record_is_read_as_it_was_written<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    let mut settlements = Settlements::of(&*journal, Partition(1));
    let records: Vec<Vec<u8>> = vec![
        b"{}".to_vec(),
        b"\0".to_vec(),
        (0..=255).collect(),
        "\u{1f6e1} \u{10ffff}".into(),
        vec![0xff; 200 << 10],
        b"\xffgr\xfe and what follows".to_vec(),
    ];
    for record in &records {
        append(&*journal, Partition(1), record);
        journal.flush();
        settlements.offsets(1);
    }
    drop((journal, settlements));
    let provider = provider.reopen();
    let journal = provider.journal();
    let read: Vec<_> = read(&*journal, &whole()).into_iter().map(|entry| entry.bytes).collect();
    assert_eq!(read, records);
}

pub(super) fn the_later_claim_wins_and_a_zombie_counts_for_nobody<P: Provider>() {
    let Some(provider) = P::create() else { return };
    let journal = provider.journal();
    let partition = Partition(0);
    let mut settlements = Settlements::of(&*journal, partition);
    let mut put = |epoch: u64, n: u64, body: &Body| {
        let mut bytes = Vec::new();
        record::encode(Epoch(epoch), n, body, &mut bytes);
        append(&*journal, partition, &bytes);
        journal.flush();
        Offset(settlements.offsets(1)[0])
    };
    let claim = |node: &str| Body::Claim { node: node.to_owned(), nonce: Uuid::from_u128(7) };
    let say = |hash: &str| Body::Checkpoint { hash: hash.to_owned() };

    let mut old = WriterRule::new(Epoch(1), put(1, 0, &claim("old")));
    let at = put(1, old.send(), &say("old 1"));
    assert_eq!(old.acknowledge(at, 1), Ack::Final { n: 1 });
    let new_claim = put(2, 0, &claim("new"));
    let mut new = WriterRule::new(Epoch(2), new_claim);
    // The old owner does not know yet.
    let zombie = put(1, old.send(), &say("old 2"));
    assert_eq!(old.acknowledge(zombie, 1), Ack::Gap { from: new_claim, to: zombie });
    let at = put(2, new.send(), &say("new 1"));
    assert_eq!(new.acknowledge(at, 1), Ack::Gap { from: zombie, to: at });
    new.gap_is_rubbish(at);
    assert_eq!(new.acknowledge(at, 1), Ack::Final { n: 1 });
    put(1, 0, &claim("old, too late"));
    put(2, 1, &say("new 1, a duplicate"));
    put(2, 2, &say("new 2"));

    let mut rule = ReaderRule::default();
    let mut valid = Vec::new();
    for entry in read(&*journal, &[(partition, Offset(0))]) {
        let record = record::decode(&entry.bytes).expect("a record");
        match (rule.admit(&record), record.body) {
            (Admitted::Valid, Body::Checkpoint { hash }) => valid.push(hash),
            (Admitted::Claimed, Body::Claim { node, .. }) => valid.push(node),
            (Admitted::Void, _) => {}
            (admitted, body) => panic!("{admitted:?}: {body:?}"),
        }
    }
    assert_eq!(valid, ["old", "old 1", "new", "new 1", "new 2"]);
}
