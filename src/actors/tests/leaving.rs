//! A partition that is left while its rows are on their way to the store, and one that is lost while
//! effects wait in it. Nothing happens by itself: the store works when it is told to, and no tick comes.

use std::rc::Rc;

use futures_util::FutureExt;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::yield_now;

use super::shared::{Handle, Shared};
use super::*;
use crate::actors::checkpoint::write_checkpoint;
use crate::actors::context::Commons;
use crate::actors::incoming::Unheard;
use crate::actors::ledger::Status;
use crate::actors::ownership::{Keeping, drop_all, keep, leave, take_in};
use crate::actors::run::Run;
use crate::actors::user::Apply;
use crate::domain::{Effect, Severance, Version};
use crate::journal::record::decode;
use crate::journal::{Ack, Body, Epoch, WriterRule};
use crate::pairing::{Answer, OwedEffect};
use crate::store::rows::RowHash;
use crate::store::{Hand, Mark};

/// The only partition.
pub(super) const HOME: Partition = Partition(0);
/// A lease that lasts as long as a test.
const LEASE: Duration = Duration::from_secs(600);
/// How long a test waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Turns of the thread after which whoever does not wait has gone on.
const TURNS: usize = 100;

/// A partition of a node beside which there may be others.
pub(super) struct Office {
    pub(super) shared: Shared,
    pub(super) journal: Arc<Handle>,
    pub(super) store: Store,
    pub(super) hand: Hand,
    pub(super) keeping: Keeping,
    _folder: tempfile::TempDir,
}

impl Office {
    pub(super) fn open(settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let of_store = store::Settings { dir: folder.path().join("state"), cache_bytes: 1 << 20 };
        let (store, hand) = Store::by_hand(&of_store).expect("the store opens");
        let shared = Shared::new(1, LEASE);
        let journal = shared.handle();
        let context = Context::new(Commons {
            node: "one".into(),
            partitions: 1,
            journal: journal.clone(),
            store: store.clone(),
            clock: Clock::system(),
            policies: Arc::default(),
            settings,
            metrics: Metrics::default(),
            followers: Arc::default(),
            alone: false,
            known: Arc::new(Known::new(16, 1)),
            seats: Arc::new(Seats::new(1)),
            standby: None,
            archive: None,
            recovered: Arc::default(),
            recoveries: Arc::new(Semaphore::new(1)),
            elsewhere: Arc::new(Alone),
            directory: Arc::default(),
        });
        let keeping = PartitionActor::new(context, HOME).keeping();
        Self { shared, journal, store, hand, keeping, _folder: folder }
    }

    /// Waits for what the store has to do something for.
    pub(super) async fn works_until(&self, what: &str, holds: impl Fn() -> bool) {
        let work = || {
            self.hand.work();
            holds()
        };
        until(what, work).await;
    }

    /// Serves, and keeps serving until the answered task ends.
    pub(super) async fn serve(&self) -> tokio::task::JoinHandle<()> {
        let ledger = &self.keeping.ledger;
        ledger.wanted.set(true);
        ledger.ordered.notify_one();
        let kept = actix::spawn(keep(self.keeping.clone()));
        self.works_until("it is claimed", || ledger.status() == Status::Serving).await;
        kept
    }

    /// Asks for an account, and answers who hears of it.
    pub(super) fn import(&self, name: &str) -> oneshot::Receiver<Result<Executed, ExecuteError>> {
        self.ask(name, Command::ImportAccount(ProfileChange::default()))
    }

    /// Asks for something, and answers who hears of it.
    pub(super) fn ask(
        &self,
        name: &str,
        command: Command,
    ) -> oneshot::Receiver<Result<Executed, ExecuteError>> {
        let (reply, answer) = oneshot::channel();
        let reply = ReplyBy::new(reply, Instant::now() + PATIENCE);
        let run = Run { command: Arc::new(command), origin: Arc::new(origin()), call: None, reply };
        assert!(self.keeping.registry.send(key(name), run).is_ok());
        answer
    }

    /// The accounts `names` are deleted: tells this partition, as the effects behind `prev`.
    pub(super) fn forget(&self, names: &[&str], prev: u64) {
        let deleted = |name: &&str| Arc::new(effect(name, name, Effect::Forget));
        self.keeping.incoming.take(HOME, prev, names.iter().map(deleted).collect(), 0);
    }

    pub(super) fn write_checkpoint(&self) {
        let Keeping { ledger, registry, pace, .. } = &self.keeping;
        write_checkpoint(ledger, registry, pace, 1);
    }

    /// The mark of the last checkpoint, whose rows are all there.
    fn checkpoint(&self) -> Mark {
        let image = self.store.tables().image(HOME).expect("it is readable");
        let (mark, rows) = image.expect("there is one since the claim");
        let mut hash = RowHash::default();
        for row in rows {
            let (name, value) = row.expect("it is readable");
            hash.toggle(RowHash::of(&name, &value));
        }
        assert_eq!(hash, RowHash(mark.hash), "rows are missing");
        mark
    }

    fn is_released(&self) -> bool {
        let last = self.shared.records(HOME).pop().map(|bytes| decode(&bytes).expect("a record"));
        last.is_some_and(|record| matches!(record.body, Body::Release { .. }))
    }
}

fn effect(from: &str, to: &str, effect: Effect) -> OwedEffect {
    let (from, to, origin) = (id(from), id(to), Arc::new(origin()));
    OwedEffect { app: APP, from, version: Version(1), to, effect, origin }
}

pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it did not happen in time: {what}");
        tokio::time::sleep(READY_POLL).await;
    }
}

pub(super) async fn turns() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

#[actix::test]
async fn rows_whose_checkpoint_fails_while_the_partition_is_left_are_in_the_last_one() {
    let office = Office::open(Settings::default());
    let ledger = &office.keeping.ledger;
    office.serve().await;
    office.import("amy").await.expect("an answer").expect("it is done");
    office.write_checkpoint();

    ledger.wanted.set(false);
    let leaving = actix::spawn(leave(office.keeping.clone(), ledger.era()));
    until("it is released", || office.is_released() && ledger.is_settled()).await;
    turns().await;
    office.store.tables().set_full(true);
    office.hand.work();
    office.store.tables().set_full(false);
    office.works_until("it is left", || leaving.is_finished()).await;
    office.hand.work();

    assert!(office.checkpoint().released);
    let (amy, _) = office.store.tables().user(HOME, &key("amy")).expect("it is readable");
    assert!(amy.is_imported());
}

/// Rule: cluster.md 3. Whoever read something behind a release would wait for the lease.
#[actix::test]
async fn nothing_stands_behind_a_release() {
    let office = Office::open(Settings::default());
    let Keeping { ledger, registry, incoming, .. } = &office.keeping;
    office.serve().await;
    for name in ["amy", "bob", "carl"] {
        office.import(name).await.expect("an answer").expect("it is done");
    }
    // Two effects each: the offer, and what is said to it.
    for name in ["bob", "carl"] {
        office.ask("amy", add(name)).await.expect("an answer").expect("it is done");
    }
    office.write_checkpoint();
    turns().await;
    office.hand.work();
    turns().await;
    let holders = Rc::strong_count(incoming);
    office.forget(&["bob"], 4);
    turns().await;
    assert_eq!(Rc::strong_count(incoming), holders + 1, "the scan waits for the store");

    office.journal.cut();
    ledger.wanted.set(false);
    let leaving = actix::spawn(leave(office.keeping.clone(), ledger.era()));
    until("its release is under way", || ledger.status() == Status::Released).await;
    office.hand.work();
    let (source, seq, unheard) = (HOME, 6, Unheard(Some(ledger.lost.clone())));
    let why = Severance::Blocked;
    let sever = Effect::Sever { why, keep_friend: false, announced: false };
    let effects = vec![Arc::new(effect("carl", "amy", sever))];
    assert!(registry.tell(key("amy"), Apply { source, effects, seq, unheard }));
    ledger.mark_seen(HOME, seq);
    turns().await;
    assert_eq!(Rc::strong_count(incoming), holders + 1, "only who leaves holds it");
    office.journal.heal();
    office.works_until("it is left", || leaving.is_finished()).await;
    office.hand.work();

    assert!(office.is_released());
    assert!(office.checkpoint().released, "and its last checkpoint is written");
}

#[actix::test]
async fn of_a_claim_that_comes_to_nothing_and_is_not_wanted_any_more_nothing_is_kept() {
    let office = Office::open(Settings::default());
    let Keeping { ledger, registry, .. } = &office.keeping;
    let metrics = &ledger.context.metrics;
    let kept = office.serve().await;
    office.import("amy").await.expect("an answer").expect("it is done");
    // The record is there, and nobody has heard of its effect.
    office.journal.lose_next(HOME);
    let _lost = office.ask("amy", block("bob"));
    until("it is in doubt", || metrics.doubts.get() == 1).await;
    office.journal.lose_next(HOME);
    office.works_until("its claim has failed", || metrics.halted.get() == 1).await;
    let _refused = office.ask("amy", block("carl"));
    assert_eq!((ledger.status(), ledger.owed(), registry.len()), (Status::ReadOnly, 1, 1));

    ledger.wanted.set(false);
    let is_vacant = || ledger.context.seats.get(HOME) == Seat::Vacant;
    office.works_until("it is let go of", is_vacant).await;
    assert_eq!((ledger.status(), ledger.owed(), registry.len()), (Status::Recovering, 0, 0));
    // What somebody says late about what was owed is no doubt.
    ledger.take_answer(HOME, Answer { durable: 1, refused: None });
    assert!(ledger.lost.notified().now_or_never().is_none());
    kept.abort();
}

/// Rule: cluster.md 6.
#[actix::test]
async fn an_owner_is_in_doubt_once_it_has_had_no_lease_for_a_while() {
    let office = Office::open(Settings::default());
    let ledger = &office.keeping.ledger;
    let kept = office.serve().await;
    // Whoever would hear of the doubt.
    kept.abort();
    turns().await;
    let seats = &ledger.context.seats;
    let second = Duration::from_secs(1);
    let in_doubt = |behind: Duration| {
        seats.set_ahead(behind);
        ledger.watch_lease();
        ledger.lost.notified().now_or_never().is_some()
    };
    assert!(!in_doubt(Duration::ZERO) && !in_doubt(LEASE / 2), "its lease holds");
    assert!(!in_doubt(2 * LEASE) && !in_doubt(2 * LEASE + 9 * second), "not for long");
    // It counts anew behind a lease.
    seats.extend_lease(HOME, seats.now(), LEASE);
    assert!(!in_doubt(2 * LEASE + 11 * second));
    assert!(!in_doubt(4 * LEASE) && !in_doubt(4 * LEASE + 9 * second), "not for long");
    assert!(in_doubt(4 * LEASE + 11 * second));
    ledger.leave();
    assert!(!in_doubt(6 * LEASE) && !in_doubt(6 * LEASE + 11 * second), "it has given it up");
}

/// Rule: cluster.md 6. A journal that answers no question takes no lease from whoever is still heard.
#[actix::test]
async fn a_record_that_becomes_final_is_a_lease_from_when_it_was_sent_on() {
    let office = Office::open(Settings::default());
    let ledger = &office.keeping.ledger;
    office.serve().await;
    let sent = Instant::now();
    office.import("amy").await.expect("an answer").expect("it is done");
    let until = ledger.context.seats.lease_until(HOME).expect("it has a lease");
    // Leases are counted in whole milliseconds.
    let whole = Duration::from_millis(1);
    assert!(until + whole >= sent + LEASE && until <= Instant::now() + LEASE, "{until:?}");

    office.journal.cut();
    let answer = office.import("bob");
    turns().await;
    ledger.leave();
    office.journal.heal();
    answer.await.expect("an answer").expect("it is done");
    assert_eq!(ledger.context.seats.lease_until(HOME), None, "who leaves has given it up");
}

#[actix::test]
async fn a_partition_whose_rows_the_store_does_not_take_says_so_until_they_are_written() {
    let office = Office::open(Settings::default());
    office.serve().await;
    let is_cramped = || {
        let seat = office.keeping.ledger.context.seats.get(HOME);
        matches!(seat, Seat::Serving { cramped: true, .. })
    };
    office.import("amy").await.expect("an answer").expect("it is done");
    for full in [true, false] {
        office.store.tables().set_full(full);
        office.write_checkpoint();
        office.works_until("the checkpoint ends", || is_cramped() == full).await;
    }
}

#[actix::test]
async fn behind_a_checkpoint_that_the_store_has_no_time_for_none_is_written_in_its_place() {
    let office = Office::open(Settings::default());
    let kept = office.serve().await;
    let before = office.checkpoint();
    office.import("amy").await.expect("an answer").expect("it is done");
    // Whoever would read the partition anew is busy, too.
    kept.abort();
    while office.store.run(|_| {}).is_ok() {}
    office.write_checkpoint();
    office.hand.work();
    turns().await;
    let answer = office.import("bob");
    turns().await;
    let last = Offset(office.shared.records(HOME).len() as u64 - 1);
    assert!(matches!(take_in(&office.keeping.ledger, last, 1), Ack::Final { .. }));
    answer.await.expect("an answer").expect("it is done");
    office.write_checkpoint();
    office.hand.work();
    assert_eq!(office.checkpoint(), before);
}

#[actix::test]
async fn effects_that_wait_for_room_wait_no_longer_than_the_partition_is_held() {
    // Lost before the waiting task has had a turn, and behind it.
    for turns_before in [0, TURNS] {
        let office = Office::open(Settings { in_flight_max: 1, ..Settings::default() });
        let Keeping { ledger, incoming, .. } = &office.keeping;
        let (told, _settlements) = unbounded_channel();
        ledger.attach(told);
        ledger.claimed(WriterRule::new(Epoch(1), Offset(0)));
        office.journal.cut();
        ledger.append_control(&Body::Checkpoint { hash: String::new() }, None);

        let holders = Rc::strong_count(incoming);
        office.forget(&["bob"], 0);
        assert_eq!(Rc::strong_count(incoming), holders + 1, "it waits");
        for _ in 0..turns_before {
            yield_now().await;
        }
        assert_eq!(Rc::strong_count(incoming), holders + 1, "it still waits");
        drop_all(&office.keeping);
        turns().await;
        assert_eq!(Rc::strong_count(incoming), holders, "lost after {turns_before} turns");
    }
}
