//! The rules as tables, and as laws over random logs.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use uuid::Uuid;

use super::{Ack, Admitted, Body, Epoch, Offset, ReaderRule, Record, WriterRule};

fn claim(epoch: u64, node: &str) -> Record {
    let body = Body::Claim { node: node.to_owned(), nonce: Uuid::nil() };
    Record { epoch: Epoch(epoch), n: 0, body }
}

fn say(epoch: u64, n: u64, what: &str) -> Record {
    Record { epoch: Epoch(epoch), n, body: Body::Checkpoint { hash: what.to_owned() } }
}

/// The records of `log` that count.
fn valid(log: &[Record]) -> Vec<Record> {
    let mut rule = ReaderRule::default();
    log.iter().filter(|record| rule.admit(record) != Admitted::Void).cloned().collect()
}

#[test]
fn a_reader_judges_every_record_by_epoch_and_number() {
    use Admitted::{Claimed, Valid, Void};
    let log = [
        (say(0, 1, "before any claim, in epoch 0"), Valid),
        (say(1, 1, "epoch 1 is not claimed"), Void),
        (claim(0, "not higher"), Void),
        (claim(1, "first"), Claimed),
        (say(1, 2, "number 1 is missing"), Void),
        (say(1, 1, ""), Valid),
        (say(1, 1, "again"), Void),
        (claim(1, "same epoch"), Void),
        (say(1, 2, ""), Valid),
        (say(0, 2, "an older epoch"), Void),
        (say(2, 1, "a later epoch"), Void),
        (claim(5, "epochs may be skipped"), Claimed),
        (say(1, 3, "a zombie"), Void),
        (claim(4, "a late claim"), Void),
        (say(5, 0, "numbers start at 1"), Void),
        (say(5, 1, ""), Valid),
    ];
    let mut rule = ReaderRule::default();
    for (record, expected) in log {
        assert_eq!(rule.admit(&record), expected, "{record:?}");
    }
    assert_eq!((rule.epoch(), rule.n()), (Epoch(5), 1));
}

#[test]
fn a_writer_judges_every_acknowledgement_by_offset_and_count() {
    // An owner whose claim stands at 9, with three records sent: the next offset is 10.
    let cases = [
        (10, 1, Ack::Final { n: 1 }),
        (10, 3, Ack::Final { n: 3 }),
        (9, 1, Ack::Doubt),
        (0, 1, Ack::Doubt),
        (10, 4, Ack::Doubt),
        (11, 1, Ack::Gap { from: Offset(10), to: Offset(11) }),
        (90, 3, Ack::Gap { from: Offset(10), to: Offset(90) }),
        (90, 4, Ack::Doubt),
    ];
    for (first, count, expected) in cases {
        let mut rule = WriterRule::new(Epoch(3), Offset(9));
        assert_eq!([rule.send(), rule.send(), rule.send()], [1, 2, 3]);
        let before = rule;
        assert_eq!(rule.acknowledge(Offset(first), count), expected, "{count} at {first}");
        if let Ack::Final { n } = expected {
            assert_eq!(rule.acknowledged(), n);
            assert_eq!(rule.next_offset(), Offset(first + count));
        } else {
            assert_eq!(rule, before, "only what is final moves the writer on");
        }
    }
}

#[test]
fn a_gap_without_a_claim_is_stepped_over() {
    let mut rule = WriterRule::new(Epoch(3), Offset(9));
    rule.send();
    assert_eq!(rule.acknowledge(Offset(12), 1), Ack::Gap { from: Offset(10), to: Offset(12) });
    rule.gap_is_rubbish(Offset(12));
    assert_eq!(rule.acknowledge(Offset(12), 1), Ack::Final { n: 1 });
    assert_eq!((rule.next_offset(), rule.sent(), rule.epoch()), (Offset(13), 1, Epoch(3)));
}

/// A log as honest owners write it: by epoch, how many records each wrote.
fn honest(terms: &[u64]) -> Vec<Record> {
    let mut log = Vec::new();
    for (epoch, records) in (1..).zip(terms) {
        log.push(claim(epoch, "owner"));
        log.extend((1..=*records).map(|n| say(epoch, n, "valid")));
    }
    log
}

/// Something that may turn up late at any place: a copy of what stood before, or what a deposed
/// owner still sends.
#[derive(Clone, Copy, Debug)]
enum Noise {
    Copy { of: usize },
    Zombie { epochs_back: u64, n: u64 },
    LateClaim { epochs_back: u64 },
}

fn noise() -> impl Strategy<Value = Noise> {
    prop_oneof![
        any::<usize>().prop_map(|of| Noise::Copy { of }),
        (1..5_u64, 0..20_u64).prop_map(|(epochs_back, n)| Noise::Zombie { epochs_back, n }),
        (0..5_u64).prop_map(|epochs_back| Noise::LateClaim { epochs_back }),
    ]
}

fn with_noise(log: &[Record], noises: &[(usize, Noise)]) -> Vec<Record> {
    let mut noisy = Vec::new();
    let mut epoch = 0;
    for (index, record) in log.iter().enumerate() {
        noisy.push(record.clone());
        epoch = epoch.max(record.epoch.0);
        for (_, noise) in noises.iter().filter(|(place, _)| place % log.len() == index) {
            match *noise {
                Noise::Copy { of } => noisy.push(noisy[of % noisy.len()].clone()),
                Noise::Zombie { epochs_back, n } if epochs_back <= epoch => {
                    noisy.push(say(epoch - epochs_back, n, "zombie"));
                }
                Noise::LateClaim { epochs_back } if epochs_back <= epoch => {
                    noisy.push(claim(epoch - epochs_back, "late"));
                }
                Noise::Zombie { .. } | Noise::LateClaim { .. } => {}
            }
        }
    }
    noisy
}

/// One step of two nodes that fight over a partition.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Reads the log, but for its last few records, and claims with the next epoch.
    Claim { node: usize, blind: usize },
    /// Sends a record.
    Send { node: usize },
    /// The log takes the next thing that the node sent.
    Land { node: usize },
    /// The node hears where its next record stands.
    Hear { node: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..2_usize;
    prop_oneof![
        1 => (node(), 0..4_usize).prop_map(|(node, blind)| Step::Claim { node, blind }),
        4 => node().prop_map(|node| Step::Send { node }),
        4 => node().prop_map(|node| Step::Land { node }),
        4 => node().prop_map(|node| Step::Hear { node }),
    ]
}

#[derive(Default)]
struct Node {
    rule: Option<WriterRule>,
    on_the_way: VecDeque<Record>,
    landed: VecDeque<(Epoch, Offset)>,
}

/// Plays `steps`; answers the log, and what each owner took for final.
fn play(steps: &[Step]) -> (Vec<Record>, Vec<(Epoch, u64, usize)>) {
    let mut log: Vec<Record> = Vec::new();
    let mut finals = Vec::new();
    let mut nodes = [Node::default(), Node::default()];
    for step in steps {
        match *step {
            Step::Claim { node, blind } => {
                let seen = &log[..log.len().saturating_sub(blind)];
                let mut rule = ReaderRule::default();
                for record in seen {
                    rule.admit(record);
                }
                let mine = claim(rule.epoch().0 + 1, &node.to_string());
                log.push(mine.clone());
                // Reads back to its claim: somebody may have been faster.
                let mut rule = ReaderRule::default();
                let last = log.iter().map(|record| rule.admit(record)).last();
                nodes[node].rule = (last == Some(Admitted::Claimed))
                    .then(|| WriterRule::new(mine.epoch, Offset(log.len() as u64 - 1)));
            }
            Step::Send { node } => {
                let Node { rule: Some(rule), on_the_way, .. } = &mut nodes[node] else { continue };
                let n = rule.send();
                on_the_way.push_back(say(rule.epoch().0, n, &node.to_string()));
            }
            Step::Land { node } => {
                let Some(record) = nodes[node].on_the_way.pop_front() else { continue };
                nodes[node].landed.push_back((record.epoch, Offset(log.len() as u64)));
                log.push(record);
            }
            Step::Hear { node } => {
                let Node { rule, landed, .. } = &mut nodes[node];
                let Some((epoch, first)) = landed.pop_front() else { continue };
                let Some(writer) = rule.as_mut().filter(|writer| writer.epoch() == epoch) else {
                    continue;
                };
                let mut ack = writer.acknowledge(first, 1);
                if let Ack::Gap { from, to } = ack {
                    let gap = &log[from.0 as usize..to.0 as usize];
                    let is_fenced = gap.iter().any(|record| {
                        matches!(record.body, Body::Claim { .. }) && record.epoch > epoch
                    });
                    if is_fenced {
                        *rule = None;
                        continue;
                    }
                    writer.gap_is_rubbish(to);
                    ack = writer.acknowledge(first, 1);
                }
                match ack {
                    Ack::Final { n } => finals.push((epoch, n, node)),
                    Ack::Doubt | Ack::Gap { .. } => *rule = None,
                }
            }
        }
    }
    (log, finals)
}

proptest! {
    #[test]
    fn duplicates_and_zombies_change_nothing(
        terms in vec(0..6_u64, 1..6),
        noises in vec((any::<usize>(), noise()), 0..30),
    ) {
        let log = honest(&terms);
        prop_assert_eq!(valid(&log), log.clone());
        prop_assert_eq!(valid(&with_noise(&log, &noises)), log);
    }

    #[test]
    fn reading_on_from_anywhere_is_reading_from_the_start(
        terms in vec(0..6_u64, 1..6),
        noises in vec((any::<usize>(), noise()), 0..30),
        split in any::<prop::sample::Index>(),
    ) {
        let log = with_noise(&honest(&terms), &noises);
        let (before, behind) = log.split_at(split.index(log.len()));
        let mut rule = ReaderRule::default();
        for record in before {
            rule.admit(record);
        }
        let mut resumed = ReaderRule::resume(rule.epoch(), rule.n());
        for record in behind {
            prop_assert_eq!(resumed.admit(record), rule.admit(record));
        }
    }

    #[test]
    fn what_a_writer_takes_for_final_every_reader_applies(steps in vec(step(), 0..80)) {
        let (log, finals) = play(&steps);
        let valid = valid(&log);
        for (epoch, n, node) in finals {
            prop_assert!(
                valid.contains(&say(epoch.0, n, &node.to_string())),
                "{} of node {} in epoch {} is lost in {:#?}", n, node, epoch, log
            );
        }
    }
}

#[test]
fn the_two_nodes_of_the_law_do_get_records_through_and_do_fence_each_other() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut finals, mut voided) = (0, 0);
    for _ in 0..100 {
        let steps = vec(step(), 80).new_tree(&mut runner).expect("steps").current();
        let (log, through) = play(&steps);
        finals += through.len();
        voided += log.len() - valid(&log).len();
    }
    assert!(finals > 100 && voided > 100, "{finals} final, {voided} void");
}
