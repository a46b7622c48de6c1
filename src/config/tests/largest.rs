//! The largest records that settings allow: one that the journal does not take would be a doubt about the
//! whole partition, again with each call.

use std::sync::Arc;

use uuid::Uuid;

use crate::config::app::{FRIENDS_MAX, REQUESTS_MAX};
use crate::config::node::BODY_BYTES_MAX;
use crate::domain::{
    AppId, CallKey, Card, Command, EdgeId, Event, NewFriend, OfferForm, Policy, Timestamp, User,
    UserId, UserKey, Version,
};
use crate::journal::record::encode;
use crate::journal::{Body, Commit, Epoch, Origin, RECORD_BYTES_MAX};

const NOW: Timestamp = Timestamp(u32::MAX as i64);

/// The most entries of one call. Rule: rest-api.md 1.8.
const ENTRIES_MAX: u64 = 1000;

/// As long as a name can be, and twice that in JSON.
fn name(number: u64) -> UserId {
    let letter = |bit: u32| if (number >> bit) & 1 == 0 { '"' } else { '\\' };
    UserId::parse(&(0..32).map(letter).collect::<String>()).expect("it is a UserID")
}

fn edge(offerer: UserId) -> EdgeId {
    EdgeId { offerer, version: Version(u32::MAX.into()) }
}

fn user() -> User {
    let mut user = User::new(name(0));
    user.evolve(&Event::AccountImported {}, NOW);
    user
}

/// The user has a friend, to whom no offer is made.
fn befriend(user: &mut User, peer: UserId) {
    let (edge, card) = (edge(peer), Card::default());
    user.evolve(&Event::FriendAdded { peer, edge, card }, NOW);
}

/// An offer of the user's waits for the peer, who may be a friend of one direction.
fn offer(user: &mut User, peer: UserId) {
    let over = user.has_friend(&peer).then(|| edge(peer));
    let (edge, form, card) = (edge(user.id()), OfferForm::TwoWay, Card::default());
    let (forced, again, despite_block) = (false, false, false);
    let offered =
        Event::FriendOffered { peer, edge, form, forced, over, again, despite_block, card };
    user.evolve(&offered, NOW);
    user.evolve(&Event::OfferPending { peer, edge }, NOW);
}

/// The bytes of the record of a call with a key that asks this of the user, and of how many events.
fn record_of(mut user: User, command: &Command) -> (usize, usize) {
    let policy = Policy { friends_max: FRIENDS_MAX as usize, ..Policy::default() };
    let mut events = user.perform(command, &policy, NOW).expect("it is done").events;
    let call = CallKey { key: user.id(), asked: user.id() };
    user.keep_call(call, Uuid::max(), &mut events, NOW);
    let count = events.len();
    let by = Origin {
        operator: user.id().as_str().into(),
        request: Uuid::max(),
        ip: "::1".into(),
        platform: "RESTAPI".into(),
    };
    let key = UserKey { app: AppId(u32::MAX), user: user.id() };
    let (version, by) = (edge(user.id()).version, Arc::new(by));
    let commit = Commit { id: Uuid::max(), key, version, at: NOW, by, cause: None, events };
    let mut record = Vec::new();
    encode(Epoch(u64::MAX), u64::MAX, &Body::Commit(commit), &mut record);
    (record.len(), count)
}

#[test]
fn an_account_with_as_much_as_it_may_have_is_deleted_by_one_record() {
    let mut user = user();
    for peer in (1..=FRIENDS_MAX).map(name) {
        befriend(&mut user, peer);
        offer(&mut user, peer);
    }
    for peer in (1..=REQUESTS_MAX).map(|number| name(FRIENDS_MAX + number)) {
        let (edge, card) = (edge(peer), Card::default());
        user.evolve(&Event::FriendRequested { peer, edge, card }, NOW);
    }
    let (bytes, events) = record_of(user, &Command::DeleteAccount);
    // Of each friend the end of the friendship and of the offer, of each request its refusal.
    assert!(events as u64 > 2 * FRIENDS_MAX + REQUESTS_MAX, "{events} events");
    assert!(bytes <= RECORD_BYTES_MAX, "{bytes} bytes");
}

/// Of all that a call may say the values of an import are the longest, and nothing that a body says is
/// longer in the record: each letter that is escaped there had to be escaped here.
#[test]
fn the_longest_call_is_one_record() {
    let mut user = user();
    let value = "x".repeat((BODY_BYTES_MAX / ENTRIES_MAX) as usize + 1);
    let custom = vec![("Tag_SNS_Custom_a".into(), value.into())];
    let source = "AddSource_Type_a".into();
    let card = Card { source, custom, ..Card::default() };
    let wanted = |user: UserId| NewFriend { user, imported: true, card: card.clone() };
    let items: Vec<NewFriend> = (1..=ENTRIES_MAX).map(|number| wanted(name(number))).collect();
    // Another offer to each of them is taken back.
    items.iter().for_each(|item| offer(&mut user, item.user));
    let command = Command::AddFriends { items, form: OfferForm::Import, forced: false };
    let (bytes, events) = record_of(user, &command);
    assert!(events as u64 > 2 * ENTRIES_MAX && bytes as u64 > BODY_BYTES_MAX, "{events} events");
    assert!(bytes <= RECORD_BYTES_MAX, "{bytes} bytes");
}
