use proptest::prelude::*;

use super::*;

/// An outbox with the entries 1 to `count`, each from a record of its own.
fn outbox(count: u64) -> Outbox<u64> {
    let mut outbox = Outbox::default();
    for number in 1..=count {
        assert_eq!(outbox.push(number, number), number);
    }
    outbox
}

fn batch(outbox: &mut Outbox<u64>, n: u64, max: usize) -> Option<(u64, Vec<u64>)> {
    let batch = outbox.batch(n, max)?;
    Some((batch.prev, batch.entries.into_iter().copied().collect()))
}

fn answer(outbox: &mut Outbox<u64>, durable: u64, refused: Option<u64>) -> Vec<u64> {
    outbox.take_answer(Answer { durable, refused }).expect("known numbers").collect()
}

#[test]
fn what_is_sent_is_kept_until_it_is_acknowledged_and_then_handed_over_once() {
    let mut outbox = outbox(3);
    assert_eq!(batch(&mut outbox, u64::MAX, 10), Some((0, vec![1, 2, 3])));
    assert_eq!(batch(&mut outbox, u64::MAX, 10), None);
    assert_eq!((outbox.len(), outbox.in_flight()), (3, 3));
    assert_eq!(answer(&mut outbox, 2, None), [1, 2]);
    assert_eq!(answer(&mut outbox, 2, None), Vec::<u64>::new());
    assert_eq!((outbox.acked(), outbox.len(), outbox.in_flight()), (2, 1, 1));
    assert_eq!(answer(&mut outbox, 3, None), [3]);
    assert!(outbox.is_empty());
    assert_eq!(outbox.last(), 3);
}

#[test]
fn what_is_not_final_is_not_sent() {
    let mut outbox = outbox(3);
    assert_eq!(batch(&mut outbox, 0, 10), None);
    assert_eq!(batch(&mut outbox, 2, 10), Some((0, vec![1, 2])));
    assert_eq!(outbox.owed(2).copied().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(batch(&mut outbox, 3, 10), Some((2, vec![3])));
}

#[test]
fn a_batch_is_bounded_and_the_next_one_follows() {
    let mut outbox = outbox(3);
    assert_eq!(batch(&mut outbox, 3, 2), Some((0, vec![1, 2])));
    assert_eq!(batch(&mut outbox, 3, 2), Some((2, vec![3])));
}

#[test]
fn a_refusal_moves_the_source_to_where_the_destination_reads() {
    let mut outbox = outbox(5);
    batch(&mut outbox, 5, 4);
    assert_eq!(answer(&mut outbox, 1, Some(2)), [1]);
    assert_eq!(batch(&mut outbox, 5, 10), Some((2, vec![3, 4, 5])), "a gap: back");
    outbox.rewind();
    assert_eq!(answer(&mut outbox, 1, Some(4)), Vec::<u64>::new());
    assert_eq!(batch(&mut outbox, 5, 10), Some((4, vec![5])), "a repetition: on");
}

#[test]
fn an_old_refusal_never_moves_the_source_before_what_is_acknowledged() {
    let mut outbox = outbox(3);
    batch(&mut outbox, 3, 3);
    answer(&mut outbox, 2, None);
    assert_eq!(answer(&mut outbox, 0, Some(0)), Vec::<u64>::new());
    assert_eq!(batch(&mut outbox, 3, 3), Some((2, vec![3])));
}

#[test]
fn a_rewind_sends_again_what_is_not_acknowledged() {
    let mut outbox = outbox(3);
    batch(&mut outbox, 3, 3);
    answer(&mut outbox, 1, None);
    outbox.rewind();
    assert_eq!(batch(&mut outbox, 3, 3), Some((1, vec![2, 3])));
}

#[test]
fn a_destination_that_has_taken_what_was_never_numbered_stops_the_source() {
    let mut outbox = outbox(2);
    batch(&mut outbox, 2, 2);
    let before = outbox.clone();
    let answer = Answer { durable: 3, refused: None };
    assert_eq!(outbox.take_answer(answer).err(), Some(Overtaken { last: 2, durable: 3 }));
    assert_eq!(outbox, before);
}

#[test]
fn a_checkpoint_numbers_on_where_it_ended() {
    let mut before = outbox(4);
    batch(&mut before, 4, 4);
    answer(&mut before, 2, None);
    let mut after = Outbox::restore(before.acked());
    for entry in before.owed(3) {
        after.push(0, *entry);
    }
    assert_eq!(after.push(1, 4), 4);
    assert_eq!(batch(&mut after, 1, 9), Some((2, vec![3, 4])));
    assert_eq!(after.iter_mut().rev().position(|entry| *entry == 3), Some(1));
}

#[test]
fn a_destination_takes_only_what_begins_where_it_ended() {
    let mut inbox = Inbox::restore(4);
    assert_eq!(inbox.take(4, 2), Ok(()));
    let refusal = Err(Answer { durable: 4, refused: Some(6) });
    assert_eq!(inbox.take(4, 2), refusal, "repeated");
    assert_eq!(inbox.take(5, 2), refusal, "overlapping");
    assert_eq!(inbox.take(7, 2), refusal, "a gap");
    assert_eq!(inbox.take(6, usize::MAX), refusal, "beyond every number");
    assert_eq!(inbox.seen(), 6);
}

#[test]
fn a_destination_answers_only_what_is_durable() {
    let mut inbox = Inbox::default();
    assert_eq!(inbox.take(0, 3), Ok(()));
    assert_eq!(inbox.durable(), 0);
    assert_eq!(inbox.note_durable(2), Answer { durable: 2, refused: None });
    assert_eq!(inbox.note_durable(1), Answer { durable: 2, refused: None });
}

#[derive(Clone, Debug)]
enum Step {
    Push,
    MakeFinal,
    Send(usize),
    /// Delivers the batch at this place of those under way, and keeps it there.
    Deliver(prop::sample::Index),
    LoseBatch(prop::sample::Index),
    MakeDurable,
    DeliverAnswer(prop::sample::Index),
    LoseAnswer(prop::sample::Index),
    Rewind,
    Checkpoint,
    SourceCrash,
    DestinationCrash,
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    prop_oneof![
        4 => Just(Push),
        4 => Just(MakeFinal),
        6 => (1..4_usize).prop_map(Send),
        8 => any::<prop::sample::Index>().prop_map(Deliver),
        2 => any::<prop::sample::Index>().prop_map(LoseBatch),
        4 => Just(MakeDurable),
        6 => any::<prop::sample::Index>().prop_map(DeliverAnswer),
        2 => any::<prop::sample::Index>().prop_map(LoseAnswer),
        1 => Just(Rewind),
        2 => Just(Checkpoint),
        1 => Just(SourceCrash),
        1 => Just(DestinationCrash),
    ]
}

/// Both ends over a bad network, with what each side's journal holds.
#[derive(Default)]
struct Channel {
    outbox: Outbox<u64>,
    /// How many records the source has appended, and how many of them are final.
    appended: u64,
    finals: u64,
    /// The source's checkpoint: what was acknowledged then.
    checkpoint: u64,
    inbox: Inbox,
    /// What the destination has appended; the first `inbox.durable()` are final.
    taken: Vec<u64>,
    batches: Vec<(u64, Vec<u64>)>,
    answers: Vec<Answer>,
    /// The numbers that were handed over as acknowledged since the last crash of the source.
    released: Vec<u64>,
}

impl Channel {
    fn send(&mut self, max: usize) {
        self.batches.extend(batch(&mut self.outbox, self.finals, max));
    }

    fn deliver(&mut self, at: usize) {
        let (prev, entries) = self.batches[at].clone();
        match self.inbox.take(prev, entries.len()) {
            Ok(()) => self.taken.extend(entries),
            Err(refusal) => self.answers.push(refusal),
        }
    }

    fn deliver_answer(&mut self, at: usize) {
        let answer = self.answers[at];
        self.released.extend(self.outbox.take_answer(answer).expect("one owner"));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Push => {
                self.appended += 1;
                self.outbox.push(self.appended, self.appended);
            }
            Step::MakeFinal => self.finals = (self.finals + 1).min(self.appended),
            Step::Send(max) => self.send(*max),
            Step::Deliver(at) if !self.batches.is_empty() => {
                self.deliver(at.index(self.batches.len()));
            }
            Step::LoseBatch(at) if !self.batches.is_empty() => {
                self.batches.swap_remove(at.index(self.batches.len()));
            }
            Step::MakeDurable => {
                let seq = (self.inbox.durable() + 1).min(self.inbox.seen());
                self.answers.push(self.inbox.note_durable(seq));
            }
            Step::DeliverAnswer(at) if !self.answers.is_empty() => {
                self.deliver_answer(at.index(self.answers.len()));
            }
            Step::LoseAnswer(at) if !self.answers.is_empty() => {
                self.answers.swap_remove(at.index(self.answers.len()));
            }
            Step::Rewind => self.outbox.rewind(),
            Step::Checkpoint => self.checkpoint = self.outbox.acked(),
            Step::SourceCrash => {
                // What was not final is void, and its numbers are given to other records.
                self.appended = self.finals;
                self.outbox = Outbox::restore(self.checkpoint);
                for number in self.checkpoint + 1..=self.finals {
                    self.outbox.push(number, number);
                }
                self.released.clear();
            }
            Step::DestinationCrash => {
                self.taken.truncate(self.inbox.durable() as usize);
                self.inbox = Inbox::restore(self.inbox.durable());
            }
            Step::Deliver(_)
            | Step::LoseBatch(_)
            | Step::DeliverAnswer(_)
            | Step::LoseAnswer(_) => {}
        }
    }

    fn check(&self) {
        let numbers: Vec<u64> = (1..=self.taken.len() as u64).collect();
        assert_eq!(self.taken, numbers, "each entry once, in order");
        assert!(self.taken.len() as u64 <= self.finals, "only final records have effects");
        assert!(self.outbox.acked() <= self.inbox.durable(), "acknowledged is durable");
        assert!(self.released.windows(2).all(|pair| pair[0] < pair[1]), "handed over once");
    }
}

proptest! {
    #[test]
    fn effects_arrive_once_in_order_over_a_bad_network(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut channel = Channel::default();
        for step in &steps {
            channel.step(step);
            channel.check();
        }
        // The network gets better: everything arrives, and a resend after silence is enough.
        channel.finals = channel.appended;
        for _ in 0..4 {
            channel.outbox.rewind();
            channel.send(usize::MAX);
            if let Some(last) = channel.batches.len().checked_sub(1) {
                channel.deliver(last);
            }
            let seen = channel.inbox.seen();
            channel.answers.push(channel.inbox.note_durable(seen));
            channel.deliver_answer(channel.answers.len() - 1);
            channel.check();
        }
        prop_assert_eq!(channel.taken.len() as u64, channel.finals);
        prop_assert!(channel.outbox.is_empty());
    }
}
