//! What the parts of one call cost by themselves, without threads, sockets or a disk.
//!
//! `cargo bench --bench parts`; a part of a name behind it picks some. The hot path of a block is, in
//! this order: read the UserSig (once, then it is remembered), decide, write the record, write the rows.

use std::hint::black_box;
use std::sync::Arc;

use cordon::domain::{
    AppId, Card, Command, EdgeId, Event, Policy, Target, Timestamp, User, UserId, UserKey, Version,
};
use cordon::journal::record::{decode, encode};
use cordon::journal::{Body, Commit, Epoch, Origin, Partition};
use cordon::store::rows::{Before, RowChanges, RowHash};
use cordon::usersig;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const APP: AppId = AppId(1_400_000_001);
const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn id(index: usize) -> UserId {
    UserId::parse(&format!("user{index:07}")).expect("the name is legal")
}

/// A user with as many friends, all from the same source.
fn with_friends(count: usize) -> User {
    let card = Card { source: "AddSource_Type_bench".into(), ..Card::default() };
    let mut user = User::new(id(0));
    let friend = |index| Event::FriendAdded {
        peer: id(index),
        edge: EdgeId { offerer: id(0), version: Version(2) },
        card: card.clone(),
    };
    let mut events = vec![Event::AccountImported {}];
    events.extend((1..=count).map(friend));
    user.replay(Version(2), &events, NOW);
    user
}

fn block(peer: usize) -> Command {
    Command::Block { targets: vec![Target { user: id(peer), imported: true }] }
}

fn commit(events: Vec<Event>) -> Body {
    Body::Commit(Commit {
        id: Uuid::now_v7(),
        key: UserKey { app: APP, user: id(0) },
        version: Version(3),
        at: NOW,
        by: Arc::new(Origin {
            operator: "administrator".into(),
            request: Uuid::now_v7(),
            ip: "127.0.0.1".into(),
            platform: "RESTAPI".into(),
        }),
        cause: None,
        events,
    })
}

fn usersigs(criterion: &mut Criterion) {
    let now_s = NOW.0 / 1000;
    let signed = usersig::sign(APP, KEY, "administrator", 86_400, now_s);
    criterion.bench_function("UserSig: decode and verify", |bench| {
        bench.iter(|| {
            let document = usersig::decode(black_box(&signed)).expect("it is one");
            document.verify(APP, "administrator", &[KEY], now_s).expect("it is right")
        })
    });
}

fn turns(criterion: &mut Criterion) {
    let policy = Policy::default();
    for friends in [10, 1000] {
        let user = with_friends(friends);
        let command = block(friends / 2);
        criterion.bench_function(&format!("decide: block one of {friends} friends"), |bench| {
            let act = |mut user: User| {
                let decided = user.perform(black_box(&command), &policy, NOW);
                (user, decided.expect("it is done"))
            };
            bench.iter_batched(|| user.clone(), act, BatchSize::LargeInput)
        });
        criterion.bench_function(&format!("rows: block one of {friends} friends"), |bench| {
            let mut scratch = Vec::new();
            let mut rows = RowChanges::default();
            let key = UserKey { app: APP, user: id(0) };
            let mut after = user.clone();
            after.perform(&command, &policy, NOW).expect("it is done");
            bench.iter(|| {
                rows.clear();
                let peers = user.scope(&command);
                let head = RowHash::default();
                let before = Before::look(Partition(0), key, head, &user, peers, &mut scratch);
                before.compare(black_box(&after), &mut RowHash::default(), &mut rows)
            })
        });
    }
}

fn records(criterion: &mut Criterion) {
    let mut user = with_friends(10);
    let decided = user.perform(&block(5), &Policy::default(), NOW).expect("it is done");
    let body = commit(decided.events);
    let mut bytes = Vec::new();
    criterion.bench_function("record of a block: encode", |bench| {
        bench.iter(|| {
            bytes.clear();
            encode(Epoch(8), 412, black_box(&body), &mut bytes);
        })
    });
    criterion.bench_function("record of a block: decode", |bench| {
        bench.iter(|| decode(black_box(&bytes)).expect("it is one"))
    });
}

criterion_group!(parts, usersigs, turns, records);
criterion_main!(parts);
