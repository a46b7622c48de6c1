//! The room through its own door, over the embedded journal.

mod again;
mod cluster;
mod forgetting;
mod leaving;
mod memory;
mod play;
mod shared;
mod shortened;
mod snapshots;

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use uuid::Uuid;

use super::*;
use crate::clock::Clock;
use crate::domain::{
    AppId, Card, Command, FormerFriend, NewFriend, OfferForm, ProfileChange, Rejection, Target,
    UserId,
};
use crate::journal::{
    Cursor, Epoch, Journal as _, JournalError, Offset, Origin, Progress, Settlement, embedded,
};
use crate::store::{self, Store, rows};

const APP: AppId = AppId(1_400_000_001);

fn id(name: &str) -> UserId {
    UserId::parse(name).expect("test names are legal")
}

fn key(name: &str) -> UserKey {
    UserKey { app: APP, user: id(name) }
}

fn origin() -> Origin {
    Origin {
        operator: "administrator".into(),
        request: Uuid::now_v7(),
        ip: "127.0.0.1".into(),
        platform: "RESTAPI".into(),
    }
}

/// A running room over a folder.
struct Room {
    users: Users,
    store: Store,
}

impl std::ops::Deref for Room {
    type Target = Users;

    fn deref(&self) -> &Users {
        &self.users
    }
}

impl Room {
    fn arbiter(&self) -> actix::ArbiterHandle {
        let threads = self.users.threads.lock().expect("nobody panics with it");
        threads.arbiters[0].handle()
    }

    async fn stop(self) {
        self.users.stop().await;
        self.store.close();
    }
}

async fn start(dir: &Path) -> Room {
    start_with(dir, Settings::default()).await
}

async fn start_with(dir: &Path, limits: Settings) -> Room {
    let journal = embedded::Journal::open(embedded::Settings {
        partitions: 16,
        ..embedded::Settings::new(dir.join("journal"))
    })
    .expect("the journal opens");
    let settings = store::Settings { dir: dir.join("state"), cache_bytes: 8 << 20 };
    let store = Store::open(&settings).expect("the store opens");
    let users = Users::start(Parts {
        node: "test".into(),
        journal,
        store: store.clone(),
        clock: Clock::system(),
        policies: Policies::new(),
        settings: limits,
        metrics: Metrics::default(),
        followers: Vec::new(),
        elsewhere: Arc::new(Alone),
        archive: None,
    })
    .expect("the state is recovered");
    let health = users.ready(Duration::from_secs(60)).await;
    assert_eq!(health.serving, health.partitions);
    Room { users, store }
}

async fn run(users: &Users, name: &str, command: Command) -> Vec<Result<(), ItemError>> {
    let executed = users.asker().execute(key(name), command, origin()).await;
    executed.expect("the command is executed").outcomes
}

async fn import(users: &Users, names: &[&str]) {
    for name in names {
        run(users, name, Command::ImportAccount(ProfileChange::default())).await;
    }
}

fn block(name: &str) -> Command {
    Command::Block { targets: vec![Target { user: id(name), imported: true }] }
}

fn unblock(name: &str) -> Command {
    Command::Unblock { targets: vec![Target { user: id(name), imported: true }] }
}

fn add(name: &str) -> Command {
    let item = NewFriend { user: id(name), imported: true, card: Card::default() };
    Command::AddFriends { items: vec![item], form: OfferForm::TwoWay, forced: false }
}

#[actix::test]
async fn no_more_commands_wait_for_one_user_than_may() {
    const MAX: usize = 3;
    let dir = tempfile::tempdir().expect("a folder");
    let room = start_with(dir.path(), Settings { mailbox_max: MAX, ..Settings::default() }).await;
    import(&room, &["amy", "bob"]).await;
    // The thread of all partitions is busy until every command has come.
    let (go, busy) = std::sync::mpsc::channel::<()>();
    room.arbiter().spawn_fn(move || {
        let _ = busy.recv();
    });
    let calls =
        (0..2 * MAX).map(|_| room.users.asker().execute(key("amy"), block("bob"), origin()));
    let calls = join_all(calls);
    let free = async move {
        tokio::task::yield_now().await;
        drop(go);
    };
    let (answers, ()) = futures_util::future::join(calls, free).await;
    let refused = |answer: &&Result<Executed, _>| **answer == Err(ExecuteError::Overloaded);
    assert_eq!(answers.iter().filter(refused).count(), MAX, "{answers:?}");
    assert!(answers[..MAX].iter().all(Result::is_ok), "{answers:?}");
    room.stop().await;
}

async fn standing(users: &Users, owner: &str, peer: &str) -> Standing {
    let answer = users.asker().standings(APP, &[(id(owner), id(peer))]).await.remove(0);
    answer.expect("the question is answered")
}

#[actix::test]
async fn a_block_ends_the_friendship_on_both_sides_before_it_is_answered() {
    let dir = tempfile::tempdir().expect("a folder");
    let users = start(dir.path()).await;
    import(&users, &["amy", "bob"]).await;
    assert_eq!(run(&users, "amy", add("bob")).await, [Ok(())]);
    assert!(standing(&users, "amy", "bob").await.has_friend);
    assert!(standing(&users, "bob", "amy").await.has_friend);

    assert_eq!(run(&users, "amy", block("bob")).await, [Ok(())]);
    let mine = Standing { owner_imported: true, blocks: true, has_friend: false };
    assert_eq!(standing(&users, "amy", "bob").await, mine);
    let theirs = Standing { owner_imported: true, blocks: false, has_friend: false };
    assert_eq!(standing(&users, "bob", "amy").await, theirs);
    let again = Err(ItemError::Rejected(Rejection::AlreadyBlocked));
    assert_eq!(run(&users, "amy", block("bob")).await, [again]);
    let refused = Err(ItemError::Rejected(Rejection::BlockedByPeer));
    assert_eq!(run(&users, "bob", add("amy")).await, [refused]);
    users.stop().await;
}

/// Rule: a move to the end is one to what is the end when the owner hears of it, whatever a follower that
/// has not heard of it yet does.
#[actix::test]
async fn a_follower_begins_each_term_once_and_at_the_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let room = start(dir.path()).await;
    let (home, name) = (partition_of(&key("amy"), 16), "webhook/1400000001");
    let begin = |term| room.asker().begin_cursor(home, name, term);
    let stands = async || room.cursor(home, name).await.expect("it is asked").0.expect("it began");
    begin(0).await.expect("it begins");
    let first = stands().await;
    import(&room, &["amy"]).await;
    let halted = Progress { halted: Some("failed".into()), ..Progress::default() };
    let halted = Cursor { progress: halted, ..first };
    room.save_cursor(home, name, halted.clone()).await.expect("it is saved");
    begin(0).await.expect("it has begun");
    assert_eq!(stands().await, halted);
    begin(7).await.expect("it begins anew");
    let anew = stands().await;
    assert!(anew.place.next > halted.place.next && anew.progress.halted.is_none(), "{anew:?}");
    assert_eq!(anew.term, 7);
    room.save_cursor(home, name, halted).await.expect("nobody waits for it");
    import(&room, &["amy", "bob"]).await;
    for term in [3, 7] {
        begin(term).await.expect("it has begun");
        assert_eq!(stands().await, anew, "term {term}");
    }
    room.stop().await;
}

#[actix::test]
async fn a_restart_finds_everything_as_it_was_with_and_without_the_store() {
    let dir = tempfile::tempdir().expect("a folder");
    let users = start(dir.path()).await;
    import(&users, &["amy", "bob", "carl"]).await;
    assert_eq!(run(&users, "amy", add("bob")).await, [Ok(())]);
    assert_eq!(run(&users, "bob", add("carl")).await, [Ok(())]);
    assert_eq!(run(&users, "carl", block("bob")).await, [Ok(())]);
    users.stop().await;
    for delete_store in [false, true] {
        if delete_store {
            std::fs::remove_dir_all(dir.path().join("state")).expect("the store is deleted");
        }
        let users = start(dir.path()).await;
        assert!(standing(&users, "amy", "bob").await.has_friend);
        assert!(standing(&users, "bob", "amy").await.has_friend);
        assert!(standing(&users, "carl", "bob").await.blocks);
        assert!(!standing(&users, "bob", "carl").await.has_friend);
        users.stop().await;
    }
}

#[actix::test]
async fn a_call_about_groups_is_answered_with_the_number_that_they_had_after_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let users = start(dir.path()).await;
    import(&users, &["amy"]).await;
    let add = |name: &str| Command::AddGroups { names: vec![name.into()], members: Vec::new() };
    let remove = |name: &str| Command::RemoveGroups { names: vec![name.into()] };
    // Nobody waits for the answers before all are on the way.
    let calls = [add("work"), add("chess"), add("work"), remove("work"), remove("work")];
    let calls = calls.map(|command| users.asker().execute(key("amy"), command, origin()));
    let answers = futures_util::future::join_all(calls).await.into_iter();
    let numbers = answers.map(|answer| answer.expect("it is executed").groups_sequence);
    assert_eq!(numbers.collect::<Vec<_>>(), [2, 3, 3, 4, 4].map(Some));
    assert_eq!(users.asker().groups(key("amy"), None, false).await.expect("groups").sequence, 4);
    users.stop().await;
}

#[actix::test]
async fn a_removal_from_both_lists_reaches_a_peer_who_alone_has_the_friendship() {
    let dir = tempfile::tempdir().expect("a folder");
    let users = start(dir.path()).await;
    import(&users, &["amy", "bob"]).await;
    let item = NewFriend { user: id("amy"), imported: true, card: Card::default() };
    let import = Command::AddFriends { items: vec![item], form: OfferForm::Import, forced: false };
    assert_eq!(run(&users, "bob", import).await, [Ok(())]);
    let remove = |has_me| Command::RemoveFriends {
        targets: vec![FormerFriend { user: id("bob"), has_me }],
        both: true,
    };
    assert_eq!(run(&users, "amy", remove(true)).await, [Ok(())]);
    assert!(!standing(&users, "bob", "amy").await.has_friend);
    let refused = Err(ItemError::Rejected(Rejection::NotFriend));
    assert_eq!(run(&users, "amy", remove(false)).await, [refused]);
    users.stop().await;
}

#[actix::test]
async fn a_deleted_account_is_forgotten_by_all_who_name_it_before_that_is_answered() {
    let dir = tempfile::tempdir().expect("a folder");
    let users = start(dir.path()).await;
    let names = ["amy", "bob", "carl", "dora", "eve"];
    import(&users, &names).await;
    assert_eq!(run(&users, "amy", add("bob")).await, [Ok(())]);
    assert_eq!(run(&users, "carl", block("bob")).await, [Ok(())]);
    let item = NewFriend { user: id("bob"), imported: true, card: Card::default() };
    let one_way = Command::AddFriends { items: vec![item], form: OfferForm::Import, forced: false };
    assert_eq!(run(&users, "dora", one_way).await, [Ok(())]);

    assert_eq!(run(&users, "bob", Command::DeleteAccount).await, [Ok(())]);
    for name in names {
        let known = standing(&users, name, "bob").await;
        assert_eq!((known.blocks, known.has_friend), (false, false), "{name} names bob");
    }
    let imported = users.asker().imported(APP, &[id("bob"), id("amy")]).await;
    assert_eq!(imported, [Ok(false), Ok(true)]);

    import(&users, &["bob"]).await;
    assert_eq!(run(&users, "amy", block("bob")).await, [Ok(())]);
    assert!(standing(&users, "amy", "bob").await.blocks);
    users.stop().await;
}

#[actix::test]
async fn rows_that_no_checkpoint_speaks_of_count_for_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let room = start(dir.path()).await;
    import(&room, &["amy", "bob", "carl"]).await;
    assert_eq!(run(&room, "amy", block("bob")).await, [Ok(())]);
    room.stop().await;

    // All that the store has is a row that was never true, and no mark.
    let settings = store::Settings { dir: dir.path().join("state"), cache_bytes: 8 << 20 };
    let home = partition_of(&key("amy"), 16);
    let row = |peer| rows::relation_key(home, &key("amy"), &id(peer));
    let store = Store::open(&settings).expect("the store opens");
    let known = store.tables().partition_rows(home).map(|row| row.expect("it is readable"));
    let (_, value) = known.into_iter().find(|known| known.0 == row("bob")).expect("it is there");
    store.close();
    drop(store);
    std::fs::remove_dir_all(&settings.dir).expect("the store can be deleted");
    let store = Store::open(&settings).expect("an empty store");
    let mut rows = rows::RowChanges::default();
    rows.push(&row("carl"), Some(&value));
    store.tables().fill(&rows).expect("it takes rows");
    store.close();
    drop(store);

    let room = start(dir.path()).await;
    assert!(standing(&room, "amy", "bob").await.blocks);
    assert!(!standing(&room, "amy", "carl").await.blocks);
    room.stop().await;
}

#[actix::test]
async fn who_follows_a_partition_may_write_a_checkpoint_behind_any_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let room = start(dir.path()).await;
    import(&room, &["amy", "bob"]).await;
    for command in [block("bob"), unblock("bob"), block("bob")] {
        assert_eq!(run(&room, "amy", command).await, [Ok(())]);
    }
    room.stop().await;

    let settings = embedded::Settings::new(dir.path().join("journal"));
    let journal = embedded::Journal::open(embedded::Settings { partitions: 16, ..settings })
        .expect("the journal opens again");
    let settings = store::Settings { dir: dir.path().join("other"), cache_bytes: 8 << 20 };
    let store = Store::open(&settings).expect("an empty store");
    let (tables, home) = (store.tables(), partition_of(&key("amy"), 16));
    let begun = recovery::Following::begin(&*journal, None, tables, &[home], 0);
    let (_, following) = begun.into_iter().next().expect("one was asked for");
    let mut following = following.expect("nothing is wrong with it");
    let mut reader =
        crate::journal::ReadJournal::reader(&*journal, &[(home, Offset(0))]).expect("a reader");
    while !following.caught_up() {
        for entry in reader.next(1 << 20).expect("entries") {
            following.apply(&entry, tables).expect("it follows from those before it");
            following.checkpoint(tables).expect("it is written");
        }
    }
    let row = tables.relation(home, &key("amy"), &id("bob")).expect("it is readable");
    assert!(row.is_some_and(|row| row.block.is_some()));
    store.close();
}

/// A store that stands before amy's block of bob, and the journal behind it.
async fn lagging(dir: &Path) -> (Store, Arc<embedded::Journal>) {
    let (state, other) = (dir.join("state"), dir.join("other"));
    let room = start(dir).await;
    import(&room, &["amy", "bob"]).await;
    room.stop().await;
    let copied = std::process::Command::new("cp").arg("-r").args([&state, &other]).status();
    assert!(copied.expect("cp runs").success());
    let room = start(dir).await;
    assert_eq!(run(&room, "amy", block("bob")).await, [Ok(())]);
    room.stop().await;
    let store = Store::open(&store::Settings { dir: other, cache_bytes: 8 << 20 }).expect("a copy");
    let settings = embedded::Settings::new(dir.join("journal"));
    let journal = embedded::Journal::open(embedded::Settings { partitions: 16, ..settings });
    (store, journal.expect("the journal opens again"))
}

fn standby(journal: &Arc<embedded::Journal>, store: &Store) -> standby::Follower {
    let seats = Arc::new(Seats::new(16));
    standby::Follower::new(journal.clone(), None, store.clone(), seats, &Settings::default())
}

#[actix::test]
async fn a_record_that_nobody_can_read_is_passed_over_by_no_owner_and_no_standby() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, journal) = lagging(dir.path()).await;
    let home = partition_of(&key("amy"), 16);
    let before = store.tables().mark(home).expect("a mark").expect("there is one");
    let (told, mut settlements) = tokio::sync::mpsc::unbounded_channel();
    journal.attach(home, told);
    journal.append(home, b"no record").expect("it is taken");
    journal.flush();
    let Some(Settlement::Durable { first, count: 1 }) = settlements.recv().await else {
        panic!("it is durable");
    };
    // It may be the claim of a later version, which an owner must not pass over.
    let (from, to) = (first, Offset(first.0 + 1));
    let judged = ownership::judge_gap(&*journal, home, (Epoch(1), 0), from, to);
    assert!(matches!(judged, Err(JournalError::Corrupt { .. })), "{judged:?}");
    let mut standby = standby(&journal, &store);
    standby.follow(BTreeSet::from([home]));
    while standby.step() {}
    assert!(!standby.follows(home));
    assert_eq!(store.tables().mark(home).expect("a mark"), Some(before));
    store.close();
}

#[actix::test]
async fn rows_that_cannot_be_read_or_have_lost_their_head_are_made_anew() {
    let home = partition_of(&key("amy"), 16);
    let head = rows::head_key(home, &key("amy"));
    let of_nobody = rows::relation_key(home, &key("amy"), &id("carl"));
    let unreadable = vec![(&head, Some([0xff; 3]))];
    let headless = vec![(&of_nobody, Some([0; 3])), (&head, None)];
    let rows_of = |store: &Store| {
        let rows = store.tables().partition_rows(home);
        rows.collect::<Result<Vec<_>, _>>().expect("readable rows")
    };
    for spoilt in [unreadable, headless] {
        let spoil = |store: &Store| {
            let mut changes = rows::RowChanges::default();
            spoilt
                .iter()
                .for_each(|(key, value)| changes.push(key, value.as_ref().map(|v| &v[..])));
            store.tables().fill(&changes).expect("a row can be spoilt");
        };
        // By a standby, which begins again later.
        let dir = tempfile::tempdir().expect("a folder");
        let (store, journal) = lagging(dir.path()).await;
        spoil(&store);
        let mut first = standby(&journal, &store);
        first.follow(BTreeSet::from([home]));
        while first.step() {}
        assert_eq!(store.tables().mark(home).expect("readable"), None, "they are gone");
        let mut again = standby(&journal, &store);
        again.follow(BTreeSet::from([home]));
        while again.step() {}
        again.checkpoint_all();
        let anew = rows_of(&store);
        assert!(store.tables().relation(home, &key("amy"), &id("bob")).unwrap().is_some());
        store.close();
        // By a recovery, at once.
        let dir = tempfile::tempdir().expect("a folder");
        let (store, journal) = lagging(dir.path()).await;
        spoil(&store);
        recover(&*journal, store.tables(), &[home], 0).expect("a state");
        assert_eq!(rows_of(&store).len(), anew.len());
        assert!(store.tables().relation(home, &key("amy"), &id("bob")).unwrap().is_some());
        store.close();
    }
}

#[actix::test]
async fn a_store_that_has_lost_a_row_in_silence_is_found_out_and_rebuilt() {
    let dir = tempfile::tempdir().expect("a folder");
    let room = start(dir.path()).await;
    import(&room, &["amy", "bob"]).await;
    assert_eq!(run(&room, "amy", block("bob")).await, [Ok(())]);
    let journal = dir.path().join("journal");
    room.stop().await;

    // The row of amy's block goes; the mark says that all is well.
    let settings = store::Settings { dir: dir.path().join("state"), cache_bytes: 8 << 20 };
    let store = Store::open(&settings).expect("the store opens");
    let home = partition_of(&key("amy"), 16);
    let row = rows::relation_key(home, &key("amy"), &id("bob"));
    let mut gone = rows::RowChanges::default();
    gone.push(&row, None);
    store.tables().fill(&gone).expect("a row can be lost");
    // And a checkpoint of before the release, so that the owner's hash is read again.
    let mut mark = store.tables().mark(home).expect("a mark").expect("there is one");
    mark.hash ^= 1;
    mark.next = Offset(mark.next.0 - 1);
    mark.n -= 1;
    store.tables().write(home, &Default::default(), &mark).expect("the mark is written");
    store.close();
    drop(store);
    assert!(journal.exists());

    let room = start(dir.path()).await;
    assert!(standing(&room, "amy", "bob").await.blocks, "rebuilt from the journal");
    room.stop().await;
}
