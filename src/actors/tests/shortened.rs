//! A journal that has lost records which were acknowledged: whoever knows of them halts, and says so.
//! Rule: cluster.md 7, row 21.

use super::leaving::{HOME, Office};
use super::shared::{Handle, Shared};
use super::*;
use crate::actors::ledger::Status;
use crate::actors::ownership::{Gap, judge_gap};
use crate::actors::recovery::{Recovered, RecoveryError, read_to_the_end};
use crate::actors::snapshot::Snapshots;
use crate::domain::{Event, Timestamp, Version};
use crate::journal::record::encode;
use crate::journal::{Body, Commit, Imprint, ReadJournal as _};

/// A claim, and behind it the accounts of `names`.
fn records(epoch: u64, names: &[&str]) -> Vec<Vec<u8>> {
    let claim = Body::Claim { node: format!("node {epoch}"), nonce: Uuid::from_u64_pair(epoch, 0) };
    let import = |name: &&str| {
        Body::Commit(Commit {
            id: Uuid::nil(),
            key: key(name),
            version: Version(1),
            at: Timestamp(1),
            by: Arc::new(origin()),
            cause: None,
            events: vec![Event::AccountImported {}],
        })
    };
    let bodies = std::iter::once(claim).chain(names.iter().map(import));
    let record = |(n, body)| {
        let mut bytes = Vec::new();
        encode(Epoch(epoch), n, &body, &mut bytes);
        bytes
    };
    (0..).zip(bodies).map(record).collect()
}

/// A journal, and a store that has read all of it.
struct World {
    shared: Shared,
    journal: Arc<Handle>,
    store: Store,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = store::Settings { dir: folder.path().into(), cache_bytes: 1 << 20 };
        let shared = Shared::new(1, Duration::from_secs(600));
        let journal = shared.handle();
        let store = Store::open(&settings).expect("the store opens");
        let world = Self { shared, journal, store, _folder: folder };
        world.push(records(1, names));
        world.read(None).expect("it is read");
        world
    }

    fn push(&self, records: Vec<Vec<u8>>) {
        for record in records {
            self.shared.log.push(HOME, record);
        }
    }

    fn read(&self, known: Option<Imprint>) -> Result<Recovered, RecoveryError> {
        let read = read_to_the_end(&*self.journal, None, self.store.tables(), &[HOME], 0, known);
        read.map(|mut states| states.pop().expect("one was asked for"))
    }
}

#[test]
fn what_has_grown_is_read_on() {
    let world = World::new(&["amy", "bob"]);
    world.push(records(2, &["carl"]));
    assert_eq!(world.read(None).expect("it is read").replayed, 2);
}

#[test]
fn a_recovery_that_is_over_reads_no_further() {
    let world = World::new(&["amy", "bob"]);
    world.push(records(2, &["carl"]));
    let (tables, archive) = (world.store.tables(), &super::snapshots::Shelf::default());
    let snapshots = Some(Snapshots { archive, is_over: &|| true });
    let read = read_to_the_end(&*world.journal, snapshots, tables, &[HOME], 0, None);
    assert!(matches!(read, Err(RecoveryError::CutShort { partition: HOME })));
}

#[test]
fn a_journal_that_ends_before_the_checkpoint_is_not_read() {
    let world = World::new(&["amy", "bob"]);
    world.shared.log.cut_off(HOME, 2);
    let refused = world.read(None).err().expect("a record is missing");
    let RecoveryError::JournalBehind { known, journal, .. } = refused else { panic!("{refused}") };
    assert_eq!((known, journal), (Offset(3), Offset(2)));
}

#[test]
fn a_journal_that_was_cut_off_and_has_grown_again_is_not_read() {
    let world = World::new(&["amy", "bob"]);
    world.shared.log.cut_off(HOME, 2);
    world.push(records(2, &["carl", "dora"]));
    let refused = world.read(None).err().expect("another record stands there");
    assert!(
        matches!(refused, RecoveryError::JournalDiffers { offset: Offset(2), .. }),
        "{refused}"
    );
    let followed = standby_of(&world);
    assert!(!followed, "a standby does not follow it either");
}

/// Reads what there is, with a reader of its own; answers whether the partition is followed then.
fn follows(follower: &mut standby::Follower) -> bool {
    follower.follow([HOME].into());
    while follower.step() {}
    follower.follows(HOME)
}

/// A standby over the same store.
fn follower_of(world: &World) -> standby::Follower {
    let (seats, settings) = (Arc::new(Seats::new(1)), Settings::default());
    standby::Follower::new(world.journal.clone(), None, world.store.clone(), seats, &settings)
}

fn standby_of(world: &World) -> bool {
    follows(&mut follower_of(world))
}

#[test]
fn a_standby_that_reads_anew_does_not_follow_what_was_cut_off_and_has_grown_again() {
    let world = World::new(&["amy", "bob"]);
    world.push(records(1, &["amy", "bob", "carl"]).split_off(3));
    let mut follower = follower_of(&world);
    for _ in 0..3 {
        assert!(follows(&mut follower), "nothing is missing");
    }
    // Not in a checkpoint yet: the standby alone knows of it.
    world.shared.log.cut_off(HOME, 3);
    world.push(records(2, &["dora", "eve"]));
    assert!(!follows(&mut follower));
}

#[test]
fn a_standby_follows_what_has_grown() {
    let world = World::new(&["amy", "bob"]);
    world.push(records(2, &["carl"]));
    assert!(standby_of(&world));
}

#[test]
fn what_was_acknowledged_since_the_checkpoint_has_to_be_there_too() {
    let world = World::new(&["amy"]);
    let later = records(1, &["amy", "bob", "carl"]).split_off(2);
    let known = Imprint::of(Offset(3), &later[1]);
    let refused = world.read(Some(known)).err().expect("two records are missing");
    assert!(
        matches!(
            refused,
            RecoveryError::JournalBehind { known: Offset(4), journal: Offset(2), .. }
        ),
        "{refused}"
    );
    world.push(later);
    world.read(Some(known)).expect("it is read");

    let world = World::new(&["amy"]);
    world.push(records(2, &["dora", "eve"]));
    let refused = world.read(Some(known)).err().expect("another record stands there");
    assert!(
        matches!(refused, RecoveryError::JournalDiffers { offset: Offset(3), .. }),
        "{refused}"
    );
}

/// What stands from `from` on to an owner of term 1 who knows of `n` records.
fn gap_of(world: &World, from: u64, n: u64) -> Gap {
    let (from, to) = (Offset(from), world.journal.end(HOME).expect("an end"));
    judge_gap(&*world.journal, HOME, (Epoch(1), n), from, to).expect("it is readable")
}

#[test]
fn a_record_of_a_later_term_is_no_rubbish_although_its_claim_is_not_seen() {
    let world = World::new(&["amy", "bob"]);
    world.shared.log.cut_off(HOME, 1);
    world.push(records(2, &["carl", "dora"]));
    assert_eq!(gap_of(&world, 1, 2), Gap::Claim);
    // Where the claim stands, this owner had records of its own.
    assert_eq!(gap_of(&world, 3, 2), Gap::Unforeseen);
}

#[test]
fn a_record_that_counts_and_was_told_of_as_its_copy_is_no_rubbish() {
    let world = World::new(&["amy", "bob"]);
    world.push(records(1, &["amy", "bob"]));
    assert_eq!(gap_of(&world, 3, 2), Gap::Rubbish, "copies of what is known");
    assert_eq!(gap_of(&world, 3, 1), Gap::Unforeseen, "bob's record was not known");
}

#[actix::test]
async fn an_owner_whose_records_are_lost_halts_until_they_are_back() {
    let office = Office::open(Settings::default());
    let ledger = &office.keeping.ledger;
    let kept = office.serve().await;
    office.import("amy").await.expect("an answer").expect("it is done");
    let halted = &ledger.context.metrics.halted;
    assert_eq!(halted.get(), 0);
    // The checkpoint of the claim does not know of it, this owner does.
    let lost = office.shared.log.cut_off(HOME, 1);
    ledger.lost.notify_one();
    office.works_until("it halts", || halted.get() == 1).await;
    assert_ne!(ledger.status(), Status::Serving);
    for record in lost {
        office.shared.log.push(HOME, record);
    }
    office.works_until("it serves again", || ledger.status() == Status::Serving).await;
    assert_eq!(halted.get(), 0);
    kept.abort();
}
