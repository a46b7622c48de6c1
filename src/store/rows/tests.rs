//! Rows and their hash, by hand.

use proptest::prelude::*;

use super::*;
use crate::damage::damaged;
use crate::domain::{Card, EdgeId, Timestamp, Version};
use crate::domain::{OfferForm, ProfileChange};

const AMY: &str = "amy";
const P: Partition = Partition(3);

fn id(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn edge(name: &str) -> EdgeId {
    EdgeId { offerer: id(name), version: Version(7) }
}

/// Cards with every field set, with each one alone, and with none.
fn cards() -> Vec<Card> {
    let whole = Card {
        remark: "Bobby".into(),
        groups: vec!["work".into(), "chess".into()],
        source: "AddSource_Type_test".into(),
        wording: "hello".into(),
        custom: vec![("Tag_SNS_Custom_a".into(), "b".into())],
        added_at: Some(1),
        remark_at: Some(2),
    };
    let none = Card::default;
    vec![
        Card { remark: whole.remark.clone(), ..none() },
        Card { groups: whole.groups.clone(), ..none() },
        Card { source: whole.source.clone(), ..none() },
        Card { wording: whole.wording.clone(), ..none() },
        Card { custom: whole.custom.clone(), ..none() },
        Card { added_at: whole.added_at, ..none() },
        Card { remark_at: whole.remark_at, ..none() },
        whole,
        none(),
    ]
}

#[test]
fn a_row_that_is_named_twice_counts_once() {
    let key = UserKey { app: AppId(1), user: id(AMY) };
    let blocked = |peers: &[&str]| {
        let mut user = User::new(id(AMY));
        let peers = peers.iter().map(|name| id(name)).collect();
        let mut scratch = Vec::new();
        let before = Before::look(P, key, RowHash::default(), &user, peers, &mut scratch);
        let event = Event::UserBlocked { target: id("bob"), remain_friends: false };
        user.replay(Version(1), &[event], Timestamp(0));
        let mut hash = RowHash::default();
        before.compare(&user, &mut hash, &mut RowChanges::default());
        hash
    };
    assert_eq!(blocked(&["bob", "carl", "bob"]), blocked(&["bob"]));
}

#[test]
fn a_user_who_was_never_written_is_written_whole_and_then_what_changes() {
    let key = UserKey { app: AppId(1), user: id(AMY) };
    let blocked = |name: &str| Event::UserBlocked { target: id(name), remain_friends: false };
    let unblocked = |name: &str| Event::UserUnblocked { target: id(name) };
    let card = Card::default;
    let added = |name: &str| Event::FriendAdded { peer: id(name), edge: edge(name), card: card() };
    let (mut user, mut head, mut hash) =
        (User::new(id(AMY)), RowHash::default(), RowHash::default());
    let mut version = Version(0);
    let mut kept = RowSet::default();
    // Two records are compared at once, the second time over rows that are written.
    for records in [
        [vec![blocked("bob"), blocked("carl")], vec![unblocked("bob"), added("dora")]],
        [vec![blocked("bob"), unblocked("carl")], vec![unblocked("bob"), blocked("eve")]],
    ] {
        let (mut scratch, mut changes) = (Vec::new(), RowChanges::default());
        let mut before: Option<Before> = None;
        for events in &records {
            match &mut before {
                Some(before) => before.look_also(&user, events, &mut scratch),
                None => {
                    let look = Before::look_for_events;
                    before = Some(look(P, key, head, &user, events, &mut scratch));
                }
            }
            version = version.next();
            user.replay(version, events, Timestamp(0));
        }
        head = before.expect("there are records").compare(&user, &mut hash, &mut changes);
        changes.iter().for_each(|(key, value)| kept.put(key, value));
        let mut whole = RowHash::default();
        let rows = rows(P, AppId(1), &user);
        rows.iter().for_each(|(key, value)| whole.toggle(RowHash::of(key, value)));
        assert_eq!(hash, whole);
        let mut kept: Vec<_> =
            kept.iter().filter_map(|(key, value)| Some((key.to_vec(), value?.to_vec()))).collect();
        kept.sort();
        let mut rows = rows;
        rows.sort();
        assert_eq!(kept, rows);
    }
}

#[test]
fn changes_leave_in_their_order_and_others_may_come_behind() {
    let rows: [(&[u8], Option<&[u8]>); 4] =
        [(b"a", Some(b"1")), (b"b", None), (b"cc", Some(b"")), (b"d", Some(b"22"))];
    for count in 0..=5 {
        let (mut changes, mut moved) = (RowChanges::default(), RowSet::default());
        rows.iter().for_each(|(key, value)| changes.push(key, *value));
        changes.move_first(count, &mut moved);
        changes.push(b"e", None);
        let count = count.min(rows.len());
        assert_eq!(moved.iter().collect::<Vec<_>>(), rows[..count], "{count}");
        let left: Vec<_> = changes.iter().collect();
        assert_eq!(left.len(), changes.len());
        assert_eq!(left[..left.len() - 1], rows[count..], "{count}");
        assert_eq!(left.last(), Some(&(&b"e"[..], None)));
    }
}

#[test]
fn a_hash_over_rows_of_another_layout_says_nothing() {
    let hash = RowHash(7);
    assert!(!hash.differs_from(&hash.to_string()));
    assert!(hash.differs_from(&RowHash(8).to_string()));
    for written in ["00000000000000000000000000000008", "1-00000000000000000000000000000008"] {
        assert!(!hash.differs_from(written), "{written}");
    }
}

/// A user with a friend, an offer, a request, a block, and `card` wherever there can be one.
fn whole(card: &Card) -> User {
    let mut user = User::new(id(AMY));
    let peers = ["bob", "carl", "dora"].map(id);
    let events = [
        Event::AccountImported {},
        Event::ProfileChanged(ProfileChange {
            nick: Some("Amy".into()),
            ..ProfileChange::default()
        }),
        Event::FriendAdded { peer: peers[0], edge: edge("bob"), card: card.clone() },
        Event::FriendOffered {
            peer: peers[1],
            edge: edge(AMY),
            form: OfferForm::TwoWay,
            forced: true,
            over: Some(edge("carl")),
            again: false,
            despite_block: false,
            card: card.clone(),
        },
        Event::FriendRequested { peer: peers[2], edge: edge("dora"), card: card.clone() },
        Event::UserBlocked { target: peers[2], remain_friends: true },
    ];
    user.replay(Version(9), &events, Timestamp(1_700_000_000_000));
    user
}

#[test]
fn a_user_is_read_from_rows_as_it_was_written() {
    for card in cards() {
        let user = whole(&card);
        let written = rows(P, AppId(1), &user);
        let head = decode_head(&written[0].1).unwrap();
        let relations: Vec<Relation> =
            written[1..].iter().map(|(_, row)| decode_relation(row).unwrap()).collect();
        assert_eq!(relations.len(), 3);
        let read = User::restore(id(AMY), head, relations);
        assert_eq!(read, user, "{card:?}");
        let friend = read.friends().next().expect("a friend");
        assert_eq!(friend.card().map(Card::from).unwrap_or_default(), card);
    }
}

/// Keys and values of rows.
fn examples() -> Vec<Vec<u8>> {
    let users = cards().into_iter().flat_map(|card| rows(P, AppId(1), &whole(&card)));
    users.flat_map(|(key, value)| [key, value]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_row_that_was_damaged_is_a_row_or_an_error(bytes in damaged(examples())) {
        if let Some((partition, key, peer)) = parse_key(&bytes) {
            match peer {
                Some(peer) => prop_assert_eq!(relation_key(partition, &key, &peer), bytes.clone()),
                None => prop_assert!(bytes.starts_with(&head_key(partition, &key))),
            }
        }
        let head = decode_head(&bytes).unwrap_or_default();
        let relations: Vec<Relation> = decode_relation(&bytes).into_iter().collect();
        let user = User::restore(id(AMY), head.clone(), relations);
        let written = rows(P, AppId(1), &user);
        prop_assert_eq!(decode_head(&written[0].1).ok(), Some(head));
        for (_, row) in &written[1..] {
            prop_assert!(decode_relation(row).is_ok());
        }
    }
}
