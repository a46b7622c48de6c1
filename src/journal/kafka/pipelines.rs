//! The fate of each record: who is told, in which order, and once only.
//!
//! Acknowledgements arrive one by one, and those of a batch right after each other. The last one that
//! a partition waits for is told at once. While more are on their way, a second thread tells what has
//! come together meanwhile: an idle partition is woken without a detour, a busy one once per batch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::health::Health;
use super::metrics::Metrics;
use super::reader::Ends;
use crate::journal::{JournalError, Offset, Partition, Settlement};

/// Who is told what became of the records of each partition.
pub(super) struct Pipelines {
    pipelines: Vec<Mutex<Pipeline>>,
    due: Mutex<Due>,
    more_due: Condvar,
    pending_bytes: AtomicUsize,
    pending_bytes_max: usize,
    ends: Arc<Ends>,
    progress: watch::Sender<u64>,
    health: Health,
    metrics: Metrics,
}

/// One partition's records on their way.
#[derive(Default)]
struct Pipeline {
    /// Grows with each attachment: what was appended under an earlier one is nobody's concern.
    generation: u64,
    /// Nothing before the first attachment and after a loss.
    settlements: Option<UnboundedSender<Settlement>>,
    /// How many records of this generation were appended, and how many of them acknowledged.
    sent: u64,
    acknowledged: u64,
    /// Where the acknowledged records that nobody was told of begin, and how many they are.
    untold: Option<(Offset, u64)>,
    /// It stands among [`Due::partitions`].
    is_due: bool,
}

/// What the telling thread has to do.
#[derive(Default)]
struct Due {
    partitions: Vec<Partition>,
    closing: bool,
}

/// A record's place among those on their way; comes back with its acknowledgement.
pub(super) struct Ticket {
    partition: Partition,
    generation: u64,
    /// Its place in the generation, from 0.
    place: u64,
    bytes: usize,
    at: Instant,
}

/// The right to append the next record of a partition. While it is held nobody else appends to it.
pub(super) struct Turn<'a> {
    pipelines: &'a Pipelines,
    pipeline: MutexGuard<'a, Pipeline>,
    partition: Partition,
    bytes: usize,
}

impl Turn<'_> {
    /// What the record carries along.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket {
            partition: self.partition,
            generation: self.pipeline.generation,
            place: self.pipeline.sent,
            bytes: self.bytes,
            at: Instant::now(),
        }
    }

    /// The record is on its way.
    pub(super) fn taken(mut self) {
        self.pipeline.sent += 1;
    }

    /// The record was not taken.
    pub(super) fn refused(self) {
        self.pipelines.release(self.bytes);
    }
}

impl Pipeline {
    /// Tells what was acknowledged; answers how many records.
    fn tell(&mut self) -> u64 {
        let Some((first, count)) = self.untold.take() else { return 0 };
        if let Some(settlements) = &self.settlements {
            // An owner who is gone needs no answer.
            let _ = settlements.send(Settlement::Durable { first, count });
        }
        count
    }

    /// Tells the loss of everything that was not acknowledged; answers how many were told before.
    fn lose(&mut self) -> u64 {
        let told = self.tell();
        if let Some(settlements) = self.settlements.take() {
            let _ = settlements.send(Settlement::Lost);
        }
        told
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipelines {
    pub(super) fn new(
        partitions: u16,
        pending_bytes_max: usize,
        ends: Arc<Ends>,
        metrics: Metrics,
    ) -> Self {
        Self {
            pipelines: (0..partitions).map(|_| Mutex::default()).collect(),
            due: Mutex::default(),
            more_due: Condvar::new(),
            pending_bytes: AtomicUsize::new(0),
            pending_bytes_max,
            ends,
            progress: watch::Sender::new(0),
            health: Health::new(metrics.clone()),
            metrics,
        }
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    pub(super) fn attach(&self, partition: Partition, settlements: UnboundedSender<Settlement>) {
        let Some(pipeline) = self.pipelines.get(usize::from(partition.0)) else { return };
        let mut pipeline = lock(pipeline);
        let told = pipeline.tell();
        let (generation, is_due) = (pipeline.generation + 1, pipeline.is_due);
        *pipeline =
            Pipeline { generation, settlements: Some(settlements), is_due, ..Pipeline::default() };
        drop(pipeline);
        self.grow(told);
    }

    /// Admits the next record of `partition`, of `bytes` bytes.
    pub(super) fn turn(
        &self,
        partition: Partition,
        bytes: usize,
    ) -> Result<Turn<'_>, JournalError> {
        let Some(pipeline) = self.pipelines.get(usize::from(partition.0)) else {
            let end = Offset(0);
            return Err(JournalError::NoSuchOffset { partition, offset: end, end });
        };
        let pipeline = lock(pipeline);
        if pipeline.settlements.is_none() {
            let reason = "the partition's owner has not attached since a loss".into();
            return Err(JournalError::Unavailable { reason });
        }
        let pending = self.pending_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if pending > self.pending_bytes_max {
            self.release(bytes);
            return Err(JournalError::Full);
        }
        self.metrics.pending_bytes.inc_by(bytes as i64);
        Ok(Turn { pipelines: self, pipeline, partition, bytes })
    }

    fn release(&self, bytes: usize) {
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.pending_bytes.dec_by(bytes as i64);
    }

    /// The record stands at `offset`.
    pub(super) fn acknowledged(&self, ticket: &Ticket, offset: Offset) {
        self.release(ticket.bytes);
        self.metrics.records.inc();
        self.metrics.bytes.inc_by(ticket.bytes as u64);
        self.metrics.produce_seconds.observe(ticket.at.elapsed().as_secs_f64());
        self.ends.note(ticket.partition, Offset(offset.0 + 1));
        let mut pipeline = lock(&self.pipelines[usize::from(ticket.partition.0)]);
        if pipeline.generation != ticket.generation || pipeline.settlements.is_none() {
            drop(pipeline);
            return self.grow(1);
        }
        if pipeline.acknowledged != ticket.place {
            // A record before it has no place that anybody knows: its owner would take this place
            // for that one's.
            tracing::warn!(
                journal.partition = ticket.partition.0,
                "an earlier record has no acknowledgement: the partition is re-read"
            );
            let told = pipeline.lose();
            drop(pipeline);
            return self.grow(told + 1);
        }
        pipeline.acknowledged += 1;
        let mut told = 0;
        pipeline.untold = match pipeline.untold {
            Some((first, count)) if first.0 + count == offset.0 => Some((first, count + 1)),
            // A foreign record lies in between.
            _ => {
                told = pipeline.tell();
                Some((offset, 1))
            }
        };
        if pipeline.acknowledged == pipeline.sent {
            told += pipeline.tell();
        } else if !std::mem::replace(&mut pipeline.is_due, true) {
            drop(pipeline);
            self.note_due(ticket.partition);
        }
        self.grow(told);
    }

    /// Nobody knows what became of the record.
    pub(super) fn lost(&self, ticket: &Ticket, reason: &dyn std::fmt::Display) {
        self.release(ticket.bytes);
        self.metrics.failures.inc();
        let mut pipeline = lock(&self.pipelines[usize::from(ticket.partition.0)]);
        if pipeline.generation != ticket.generation || pipeline.settlements.is_none() {
            return;
        }
        tracing::warn!(
            error = %reason,
            journal.partition = ticket.partition.0,
            "a record was not acknowledged: the partition is re-read"
        );
        let told = pipeline.lose();
        drop(pipeline);
        self.grow(told);
    }

    /// Every owner hears that nobody knows what became of its records.
    pub(super) fn lose_all(&self) {
        let told = self.pipelines.iter().map(|pipeline| lock(pipeline).lose()).sum();
        self.grow(told);
    }

    /// More records are durable, and their owners know.
    fn grow(&self, records: u64) {
        if records > 0 {
            self.progress.send_modify(|progress| *progress += records);
        }
    }

    fn note_due(&self, partition: Partition) {
        let mut due = lock(&self.due);
        due.partitions.push(partition);
        if due.partitions.len() == 1 {
            drop(due);
            self.more_due.notify_one();
        }
    }

    /// Tells what is due until the pipelines are closed; the telling thread's work.
    pub(super) fn tell_what_is_due(&self) {
        let mut partitions = Vec::new();
        loop {
            {
                let due = lock(&self.due);
                let idle = |due: &mut Due| due.partitions.is_empty() && !due.closing;
                let waited = self.more_due.wait_while(due, idle);
                let mut due = waited.unwrap_or_else(PoisonError::into_inner);
                if due.partitions.is_empty() {
                    return;
                }
                std::mem::swap(&mut due.partitions, &mut partitions);
            }
            let tell = |partition: Partition| {
                let mut pipeline = lock(&self.pipelines[usize::from(partition.0)]);
                pipeline.is_due = false;
                pipeline.tell()
            };
            let told = partitions.drain(..).map(tell).sum();
            self.grow(told);
        }
    }

    /// Ends the telling thread.
    pub(super) fn close(&self) {
        lock(&self.due).closing = true;
        self.more_due.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    const PARTITION: Partition = Partition(1);

    fn pipelines() -> Pipelines {
        Pipelines::new(2, 100, Arc::new(Ends::new(2)), Metrics::new())
    }

    fn attach(pipelines: &Pipelines) -> UnboundedReceiver<Settlement> {
        let (sender, receiver) = unbounded_channel();
        pipelines.attach(PARTITION, sender);
        receiver
    }

    fn append(pipelines: &Pipelines) -> Ticket {
        let turn = pipelines.turn(PARTITION, 10).expect("it is taken");
        let ticket = turn.ticket();
        turn.taken();
        ticket
    }

    /// Lets the telling thread do its work, and end.
    fn tell(pipelines: &Pipelines) {
        lock(&pipelines.due).closing = true;
        pipelines.tell_what_is_due();
        lock(&pipelines.due).closing = false;
    }

    fn durable(first: u64, count: u64) -> Settlement {
        Settlement::Durable { first: Offset(first), count }
    }

    fn heard(settlements: &mut UnboundedReceiver<Settlement>) -> Vec<Settlement> {
        std::iter::from_fn(|| settlements.try_recv().ok()).collect()
    }

    #[test]
    fn the_last_one_on_its_way_is_told_at_once_with_all_before_it() {
        let pipelines = pipelines();
        let mut settlements = attach(&pipelines);
        let tickets = [append(&pipelines), append(&pipelines), append(&pipelines)];
        for (ticket, offset) in tickets.iter().zip(5..7) {
            pipelines.acknowledged(ticket, Offset(offset));
        }
        assert_eq!(heard(&mut settlements), []);
        pipelines.acknowledged(&tickets[2], Offset(7));
        assert_eq!(heard(&mut settlements), [durable(5, 3)]);
        tell(&pipelines);
        assert_eq!(heard(&mut settlements), []);
        assert_eq!(*pipelines.progress().borrow(), 3);
    }

    #[test]
    fn what_came_together_while_more_is_on_its_way_is_told_together() {
        let pipelines = pipelines();
        let mut settlements = attach(&pipelines);
        let tickets = [append(&pipelines), append(&pipelines), append(&pipelines)];
        pipelines.acknowledged(&tickets[0], Offset(0));
        pipelines.acknowledged(&tickets[1], Offset(1));
        tell(&pipelines);
        assert_eq!(heard(&mut settlements), [durable(0, 2)]);
        pipelines.acknowledged(&tickets[2], Offset(2));
        assert_eq!(heard(&mut settlements), [durable(2, 1)]);
    }

    #[test]
    fn a_foreign_record_in_between_parts_the_runs() {
        let pipelines = pipelines();
        let mut settlements = attach(&pipelines);
        let tickets = [append(&pipelines), append(&pipelines)];
        pipelines.acknowledged(&tickets[0], Offset(3));
        pipelines.acknowledged(&tickets[1], Offset(5));
        assert_eq!(heard(&mut settlements), [durable(3, 1), durable(5, 1)]);
    }

    /// Rule: nothing is told after a loss, and nothing taken, until the owner attaches again.
    #[test]
    fn a_loss_is_told_once_behind_what_was_acknowledged_before_it() {
        let pipelines = pipelines();
        let mut settlements = attach(&pipelines);
        let tickets =
            [append(&pipelines), append(&pipelines), append(&pipelines), append(&pipelines)];
        pipelines.acknowledged(&tickets[0], Offset(0));
        pipelines.lost(&tickets[1], &"a test");
        pipelines.lost(&tickets[2], &"a test");
        pipelines.acknowledged(&tickets[3], Offset(1));
        tell(&pipelines);
        assert_eq!(heard(&mut settlements), [durable(0, 1), Settlement::Lost]);
        assert!(matches!(pipelines.turn(PARTITION, 1), Err(JournalError::Unavailable { .. })));
        let mut settlements = attach(&pipelines);
        let ticket = append(&pipelines);
        pipelines.acknowledged(&ticket, Offset(2));
        assert_eq!(heard(&mut settlements), [durable(2, 1)]);
    }

    /// Rule: cluster.md 7, row 20. The place of the second must not pass for the first one's.
    #[test]
    fn an_acknowledgement_out_of_order_is_a_loss() {
        let pipelines = pipelines();
        let mut settlements = attach(&pipelines);
        let tickets = [append(&pipelines), append(&pipelines)];
        pipelines.acknowledged(&tickets[1], Offset(0));
        assert_eq!(heard(&mut settlements), [Settlement::Lost]);
        pipelines.acknowledged(&tickets[0], Offset(1));
        assert_eq!(heard(&mut settlements), []);
    }

    #[test]
    fn an_earlier_attachment_is_no_concern_of_a_later_one() {
        let pipelines = pipelines();
        let mut earlier = attach(&pipelines);
        let tickets = [append(&pipelines), append(&pipelines), append(&pipelines)];
        pipelines.acknowledged(&tickets[0], Offset(0));
        let mut later = attach(&pipelines);
        let own = append(&pipelines);
        pipelines.acknowledged(&tickets[1], Offset(1));
        pipelines.lost(&tickets[2], &"a test");
        tell(&pipelines);
        assert_eq!(heard(&mut earlier), [durable(0, 1)]);
        assert_eq!(heard(&mut later), []);
        pipelines.acknowledged(&own, Offset(3));
        assert_eq!(heard(&mut later), [durable(3, 1)]);
        assert_eq!(*pipelines.progress().borrow(), 3);
    }

    #[test]
    fn bytes_on_their_way_are_bounded_and_given_back() {
        let pipelines = pipelines();
        let mut settlements = attach(&pipelines);
        let tickets: Vec<Ticket> = (0..10).map(|_| append(&pipelines)).collect();
        assert!(matches!(pipelines.turn(PARTITION, 1), Err(JournalError::Full)));
        pipelines.acknowledged(&tickets[0], Offset(0));
        pipelines.turn(PARTITION, 10).expect("there is room").refused();
        append(&pipelines);
        for ticket in &tickets[1..] {
            pipelines.lost(ticket, &"a test");
        }
        assert_eq!(heard(&mut settlements), [durable(0, 1), Settlement::Lost]);
        attach(&pipelines);
        pipelines.turn(PARTITION, 90).expect("there is room").refused();
        assert!(matches!(pipelines.turn(PARTITION, 91), Err(JournalError::Full)));
    }
}
