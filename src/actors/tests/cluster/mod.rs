//! Several rooms over one journal, as several nodes have it: who owns what, and what callers see
//! when that changes.

mod changing;
mod restoring;
mod silence;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, Weak};

use super::shared::{Handle, Shared};
use super::*;
use crate::actors::elsewhere::Asked;
use crate::domain::{Event, Ground, Matter, Refusal, Verdict};
use crate::journal::record::decode;
use crate::journal::{Admitted, Archive, Body, ReaderRule};

pub(super) const PARTITIONS: u16 = 4;
/// Short, so that waiting it out takes no time; long enough for a busy machine to keep it.
const LEASE: Duration = Duration::from_millis(400);
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// All rooms, each reachable by all others.
#[derive(Default)]
struct Network {
    rooms: Mutex<Vec<Users>>,
    /// Which of them say nothing to the others, and hear nothing of them.
    silent: Mutex<Vec<String>>,
    /// Questions under way, and the most that there were at a time.
    asked: AtomicUsize,
    asked_most: AtomicUsize,
}

impl Network {
    fn all(&self) -> Vec<Users> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The room that holds the seat with the highest epoch.
    fn owner(&self, partition: Partition) -> Option<Users> {
        let epoch = |users: &Users| match users.seats()[usize::from(partition.0)] {
            Seat::Serving { epoch, .. } => Some(epoch),
            _ => None,
        };
        self.all().into_iter().filter(|users| epoch(users).is_some()).max_by_key(epoch)
    }

    /// Its place among the rooms, as their name.
    fn name(&self, room: &Users) -> Option<String> {
        let is_it = |other: &Users| Arc::ptr_eq(&other.seats, &room.seats);
        self.all().iter().position(is_it).map(|place| place.to_string())
    }

    fn is_silent(&self, room: &Users) -> bool {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        self.name(room).is_some_and(|name| silent.contains(&name))
    }

    /// The same, or the room that hands it over: the others know of no later one.
    fn holder(&self, partition: Partition) -> Option<Users> {
        let leaves = |users: &Users| users.seats()[usize::from(partition.0)] == Seat::Leaving;
        self.owner(partition).or_else(|| self.all().into_iter().find(leaves))
    }
}

struct Others(Weak<Network>);

impl Elsewhere for Others {
    fn ask(&self, partition: Partition, question: Question, patience: Duration) -> Asked {
        let network = self.0.upgrade();
        Box::pin(async move {
            let Some(network) = network else { return Err(ExecuteError::Elsewhere) };
            let Some(owner) = network.owner(partition) else { return Err(ExecuteError::Elsewhere) };
            if network.is_silent(&owner) {
                tokio::time::sleep(patience).await;
                return Err(ExecuteError::Interrupted);
            }
            let asked = network.asked.fetch_add(1, Ordering::Relaxed) + 1;
            network.asked_most.fetch_max(asked, Ordering::Relaxed);
            let answer = owner.answer(partition, question, patience).await;
            network.asked.fetch_sub(1, Ordering::Relaxed);
            answer
        })
    }

    fn owner(&self, partition: Partition) -> Option<String> {
        let network = self.0.upgrade()?;
        network.name(&network.owner(partition)?)
    }

    fn send(&self, message: PairMessage) {
        let Some(network) = self.0.upgrade() else { return };
        if let Some(holder) = network.holder(message.to()).filter(|room| !network.is_silent(room)) {
            let _ = holder.deliver(message);
        }
    }
}

pub(super) struct Node {
    pub(super) users: Users,
    journal: Arc<Handle>,
    metrics: Metrics,
    store: Store,
    _folder: tempfile::TempDir,
}

pub(super) struct Cluster {
    shared: Shared,
    network: Arc<Network>,
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self::with_lease(LEASE)
    }

    fn with_lease(lease: Duration) -> Self {
        Self::of(PARTITIONS, lease)
    }

    fn of(partitions: u16, lease: Duration) -> Self {
        Self { shared: Shared::new(partitions, lease), network: Arc::default() }
    }

    pub(super) fn node(&self, name: &str) -> Node {
        self.node_with(name, None)
    }

    /// A node whose snapshots are in `archive`.
    fn node_with(&self, name: &str, archive: Option<Arc<dyn Archive>>) -> Node {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = store::Settings { dir: folder.path().join("state"), cache_bytes: 1 << 20 };
        let store = Store::open(&settings).expect("the store opens");
        let (journal, metrics) = (self.shared.handle(), Metrics::default());
        let users = Users::start(Parts {
            node: name.into(),
            journal: journal.clone(),
            store: store.clone(),
            clock: Clock::system(),
            policies: Policies::new(),
            settings: Settings::default(),
            metrics: metrics.clone(),
            followers: Vec::new(),
            elsewhere: Arc::new(Others(Arc::downgrade(&self.network))),
            archive,
        })
        .expect("the room opens");
        self.network.rooms.lock().unwrap_or_else(PoisonError::into_inner).push(users.clone());
        Node { users, journal, metrics, store, _folder: folder }
    }

    /// Waits until an event of this name stands in `partition`.
    async fn until_recorded(&self, partition: Partition, event: &str) {
        let is_it = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).contains(event);
        let recorded = async {
            while !self.shared.records(partition).iter().any(is_it) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, recorded).await.expect("it is recorded");
    }

    /// The valid records of all users, in order per partition.
    pub(super) fn valid(&self) -> Vec<crate::journal::Commit> {
        let mut commits = Vec::new();
        for partition in partitions() {
            let mut rule = ReaderRule::default();
            for bytes in self.shared.records(partition) {
                let record = decode(&bytes).expect("a record");
                if rule.admit(&record) == Admitted::Valid
                    && let Body::Commit(commit) = record.body
                {
                    commits.push(commit);
                }
            }
        }
        commits
    }
}

fn partitions() -> impl Iterator<Item = Partition> {
    (0..PARTITIONS).map(Partition)
}

impl Node {
    pub(super) async fn claim_all(&self) {
        partitions().for_each(|partition| self.users.claim(partition));
        self.until("all is served", |seats| seats.iter().all(serves)).await;
    }

    async fn until(&self, what: &str, holds: impl Fn(&[Seat]) -> bool) {
        let mut changes = self.users.seat_changes();
        let waiting = async {
            while !holds(&self.users.seats()) {
                changes.changed().await.expect("the room is open");
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.users.seats());
    }

    pub(super) async fn stop(self) {
        self.users.stop().await;
        self.store.close();
    }
}

fn serves(seat: &Seat) -> bool {
    matches!(seat, Seat::Serving { .. })
}

fn caught_up(seat: &Seat) -> bool {
    matches!(seat, Seat::StandingBy { caught_up: true, .. })
}

#[actix::test]
async fn any_room_answers_for_every_user_and_effects_cross_from_room_to_room() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node("one"), cluster.node("two"));
    [0, 2].into_iter().for_each(|p| one.users.claim(Partition(p)));
    [1, 3].into_iter().for_each(|p| two.users.claim(Partition(p)));
    one.until("half of it", |seats| serves(&seats[0]) && serves(&seats[2])).await;
    two.until("half of it", |seats| serves(&seats[1]) && serves(&seats[3])).await;

    let names = ["amy", "bob", "cat", "dan", "eve", "fay"];
    import(&one.users, &names).await;
    for (owner, peer) in [("amy", "bob"), ("cat", "dan"), ("eve", "fay"), ("amy", "fay")] {
        assert_eq!(run(&two.users, owner, add(peer)).await, [Ok(())]);
        assert!(standing(&one.users, peer, owner).await.has_friend);
        assert_eq!(run(&one.users, peer, block(owner)).await, [Ok(())]);
        assert!(!standing(&two.users, owner, peer).await.has_friend, "{owner}, {peer}");
        assert!(standing(&two.users, peer, owner).await.blocks);
    }
    one.stop().await;
    two.stop().await;
}

#[actix::test]
async fn a_partition_that_is_handed_over_goes_on_elsewhere_without_waiting_for_a_lease() {
    // Whoever waited for it would be too late.
    let cluster = Cluster::with_lease(10 * PATIENCE);
    let (one, two) = (cluster.node("one"), cluster.node("two"));
    one.claim_all().await;
    import(&one.users, &["amy", "bob"]).await;
    two.users.stand_by(partitions().collect());
    two.until("it has caught up", |seats| seats.iter().all(caught_up)).await;

    join_all(partitions().map(|partition| one.users.release(partition))).await;
    let released = |seat: &Seat| matches!(seat, Seat::StandingBy { released: true, .. });
    two.until("it has seen the release", |seats| seats.iter().all(released)).await;
    two.claim_all().await;
    assert_eq!(run(&one.users, "amy", block("bob")).await, [Ok(())]);
    assert!(standing(&two.users, "amy", "bob").await.blocks);
    one.stop().await;
    two.stop().await;
}

#[actix::test]
async fn a_partition_that_is_being_handed_over_has_nothing_to_say_at_the_door() {
    // None of it is over because its lease is.
    let cluster = Cluster::with_lease(PATIENCE);
    let one = cluster.node("one");
    one.claim_all().await;
    let home = Partition(0);
    assert!(one.users.may_know(home));
    // What is known would count for another lease, and the next owner need not wait for that.
    one.journal.cut();
    let users = one.users.clone();
    let leaving = actix::spawn(async move { users.release(home).await });
    one.until("it is being handed over", |seats| seats[0] == Seat::Leaving).await;
    assert!(!one.users.may_know(home));
    one.journal.heal();
    leaving.await.expect("it is handed over");
    one.stop().await;
}

#[actix::test]
async fn whoever_takes_over_without_a_release_waits_until_the_former_owner_is_silent() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node("one"), cluster.node("two"));
    one.claim_all().await;
    import(&one.users, &["amy"]).await;
    one.journal.cut();
    let began = Instant::now();
    two.claim_all().await;
    assert!(began.elapsed() >= LEASE, "{:?}", began.elapsed());
    let amy = partition_of(&key("amy"), PARTITIONS);
    let question = Question::Standings { app: APP, pairs: vec![(id("amy"), id("bob"))] };
    let answer = one.users.answer(amy, question, PATIENCE).await;
    assert_eq!(answer, Err(ExecuteError::Elsewhere), "its lease is over");
    one.journal.heal();
    one.until("it finds out", |seats| seats.iter().all(|seat| *seat == Seat::Vacant)).await;
    assert!(standing(&one.users, "amy", "bob").await.owner_imported);
    one.stop().await;
    two.stop().await;
}

#[actix::test]
async fn what_a_deposed_owner_writes_late_counts_for_nobody_and_is_done_once_by_the_new_one() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node("one"), cluster.node("two"));
    one.claim_all().await;
    import(&one.users, &["amy", "bob"]).await;
    one.journal.cut();
    // Taken by the deposed owner within its lease, stored behind the claim of the next one.
    let users = one.users.clone();
    let late = actix::spawn(async move { run(&users, "amy", block("bob")).await });
    tokio::task::yield_now().await;
    two.claim_all().await;
    one.journal.heal();
    assert_eq!(late.await.expect("it is answered"), [Ok(())]);
    let blocks = cluster.valid().into_iter().filter(|commit| {
        commit.events.iter().any(|event| matches!(event, crate::domain::Event::UserBlocked { .. }))
    });
    assert_eq!(blocks.count(), 1);
    assert!(standing(&one.users, "amy", "bob").await.blocks);
    one.stop().await;
    two.stop().await;
}

#[actix::test]
async fn a_call_whose_record_is_in_the_journal_although_nobody_said_so_is_answered_as_done() {
    let cluster = Cluster::new();
    let one = cluster.node("one");
    one.claim_all().await;
    import(&one.users, &["amy", "bob"]).await;
    assert_eq!(run(&one.users, "amy", add("bob")).await, [Ok(())]);
    let amy = partition_of(&key("amy"), PARTITIONS);
    for (command, holds) in [(block("bob"), true), (unblock("bob"), false)] {
        one.journal.lose_next(amy);
        assert_eq!(run(&one.users, "amy", command).await, [Ok(())]);
        assert_eq!(standing(&one.users, "amy", "bob").await.blocks, holds);
    }
    // A friendship is made by two records, of which the second one is lost here.
    import(&one.users, &["cat"]).await;
    for _ in 0..20 {
        one.journal.lose_next(partition_of(&key("amy"), PARTITIONS));
        assert_eq!(run(&one.users, "amy", add("cat")).await, [Ok(())]);
        assert!(standing(&one.users, "amy", "cat").await.has_friend);
        assert_eq!(run(&one.users, "amy", block("cat")).await, [Ok(())]);
        assert_eq!(run(&one.users, "amy", unblock("cat")).await, [Ok(())]);
    }
    repeated_after_it_was_done(&one).await;
    let versions: Vec<u64> = cluster
        .valid()
        .iter()
        .filter(|commit| commit.key == key("amy"))
        .map(|commit| commit.version.0)
        .collect();
    assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>());
    one.stop().await;
}

/// A call whose answer was lost on the way, so that it is asked again when all of it is done.
async fn repeated_after_it_was_done(node: &Node) {
    let amy = partition_of(&key("amy"), PARTITIONS);
    import(&node.users, &["dan", "eve"]).await;
    let item = |name: &str| NewFriend { user: id(name), imported: true, card: Card::default() };
    let items = vec![item("dan"), item("eve")];
    let command = Arc::new(Command::AddFriends { items, form: OfferForm::TwoWay, forced: false });
    let question =
        Question::Execute { key: key("amy"), command, origin: Arc::new(origin()), call: None };
    for _ in 0..2 {
        let answer = node.users.answer(amy, question.clone(), PATIENCE).await;
        let Ok(Reply::Executed(executed)) = answer else { panic!("{answer:?}") };
        assert_eq!(executed.outcomes, [Ok(()), Ok(())]);
    }
    // Of a friendship that was there before, the call has made nothing, however often it is asked.
    let items = vec![item("eve")];
    let command = Arc::new(Command::AddFriends { items, form: OfferForm::TwoWay, forced: false });
    let question =
        Question::Execute { key: key("amy"), command, origin: Arc::new(origin()), call: None };
    for _ in 0..2 {
        let answer = node.users.answer(amy, question.clone(), PATIENCE).await;
        let Ok(Reply::Executed(executed)) = answer else { panic!("{answer:?}") };
        assert_eq!(executed.outcomes, [Err(ItemError::Rejected(Rejection::AlreadyFriend))]);
    }
}

#[actix::test]
async fn a_verdict_whose_call_is_asked_again_is_recorded_once() {
    let cluster = Cluster::new();
    let one = cluster.node("one");
    one.claim_all().await;
    import(&one.users, &["amy", "bob", "cat"]).await;
    let amy = partition_of(&key("amy"), PARTITIONS);
    let item = |name: &str| NewFriend { user: id(name), imported: true, card: Card::default() };
    let items = vec![item("bob"), item("cat")];
    let verdict = Verdict {
        about: Matter::FriendAdd,
        by: "main".into(),
        ground: Ground::Answered,
        allowed: vec![id("cat")],
        refused: vec![Refusal { user: id("bob"), code: 38_001, info: "no".into() }],
        hidden: false,
        before: None,
    };
    let add = Command::AddFriends { items, form: OfferForm::TwoWay, forced: false };
    let command = Arc::new(add.under(verdict));
    let question =
        Question::Execute { key: key("amy"), command, origin: Arc::new(origin()), call: None };
    for _ in 0..3 {
        let answer = one.users.answer(amy, question.clone(), PATIENCE).await;
        let Ok(Reply::Executed(executed)) = answer else { panic!("{answer:?}") };
        assert_eq!(executed.outcomes, [Err(ItemError::Rejected(Rejection::Forbidden)), Ok(())]);
    }
    let given = |event: &Event| matches!(event, Event::VerdictGiven(_));
    let records = cluster.valid();
    assert_eq!(records.iter().flat_map(|record| &record.events).filter(|e| given(e)).count(), 1);
    one.stop().await;
}

#[actix::test]
async fn a_call_that_a_dead_owner_has_recorded_is_answered_as_done_by_the_one_that_takes_over() {
    for (follows, checkpointed) in [(true, false), (true, true), (false, false)] {
        let cluster = Cluster::new();
        let (one, two) = (cluster.node("one"), cluster.node("two"));
        one.claim_all().await;
        import(&one.users, &["amy", "bob"]).await;
        if follows {
            two.users.stand_by(partitions().collect());
            two.until("it has caught up", |seats| seats.iter().all(caught_up)).await;
        }
        let amy = partition_of(&key("amy"), PARTITIONS);
        one.journal.lose_next_and_cut(amy);
        let users = one.users.clone();
        let asked = actix::spawn(async move { run(&users, "amy", block("bob")).await });
        cluster.until_recorded(amy, "UserBlocked").await;
        if checkpointed {
            // Two standbys one after the other: the later one finds the record in its store.
            two.users.stand_by(BTreeSet::new());
            two.until("nothing is followed", |seats| {
                seats.iter().all(|seat| *seat == Seat::Vacant)
            })
            .await;
        }
        two.claim_all().await;
        assert_eq!(asked.await.expect("it is answered"), [Ok(())], "{follows} {checkpointed}");
        assert!(standing(&two.users, "amy", "bob").await.blocks);
        one.journal.heal();
        one.stop().await;
        two.stop().await;
    }
}

#[actix::test]
async fn an_owner_that_nobody_calls_finds_out_that_it_was_deposed() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node("one"), cluster.node("two"));
    one.claim_all().await;
    two.claim_all().await;
    one.until("it finds out", |seats| seats.iter().all(|seat| *seat == Seat::Vacant)).await;
    assert_eq!(one.users.health().await.serving, 0);
    one.stop().await;
    two.stop().await;
}

#[actix::test]
async fn a_node_that_stops_does_not_wait_for_its_next_look_at_the_leases() {
    // Looks are a quarter of it apart.
    let cluster = Cluster::with_lease(Duration::from_secs(240));
    let one = cluster.node("one");
    one.claim_all().await;
    let began = Instant::now();
    one.stop().await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[actix::test]
async fn a_standby_holds_the_same_rows_as_the_owner() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node("one"), cluster.node("two"));
    one.claim_all().await;
    two.users.stand_by(partitions().collect());
    import(&one.users, &["amy", "bob", "cat"]).await;
    for peer in ["bob", "cat"] {
        assert_eq!(run(&one.users, "amy", add(peer)).await, [Ok(())]);
    }
    assert_eq!(run(&one.users, "cat", block("amy")).await, [Ok(())]);
    join_all(partitions().map(|partition| one.users.release(partition))).await;
    let released = |seat: &Seat| matches!(seat, Seat::StandingBy { released: true, .. });
    two.until("it has seen the release", |seats| seats.iter().all(released)).await;
    one.users.stop().await;
    two.users.stop().await;
    one.store.close();
    two.store.close();
    for partition in partitions() {
        let rows = |node: &Node| -> Vec<(Vec<u8>, Vec<u8>)> {
            let rows = node.store.tables().partition_rows(partition);
            rows.collect::<Result<_, _>>().expect("readable rows")
        };
        assert_eq!(rows(&one), rows(&two));
        let hash = |node: &Node| {
            let mark = node.store.tables().mark(partition).expect("a mark");
            mark.map(|mark| (mark.hash, mark.released))
        };
        assert_eq!(hash(&one), hash(&two));
    }
}
