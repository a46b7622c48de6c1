//! rest-api.md 6: accounts.

use super::*;

fn import(nick: &str, face_url: &str) -> Command {
    Command::ImportAccount(ProfileChange {
        nick: Some(nick.into()),
        face_url: Some(face_url.into()),
        ..ProfileChange::default()
    })
}

#[test]
fn importing_makes_an_account_once() {
    let mut amy = Someone { user: User::new(id("amy")), policy: Policy::default() };
    let plain = Command::ImportAccount(ProfileChange::default());
    let decision = amy.when(&plain);
    assert_eq!(decision.events, [Event::AccountImported {}]);
    assert_eq!(decision.outcomes, [Ok(Outcome::Recorded)]);
    assert!(amy.user.is_imported() && amy.user.profile().is_none());
    assert_eq!(amy.events(&plain), []);
}

#[test]
fn importing_again_replaces_what_is_given_and_nothing_else() {
    let mut amy = someone("amy");
    amy.when(&import("Amy", "http://a/1"));
    assert_eq!(amy.events(&import("Amy", "http://a/1")), [], "the same values");
    assert_eq!(amy.events(&import("", "")), [], "empty counts as not given");
    let changed = amy.events(&import("Amelia", ""));
    let nick = Some("Amelia".into());
    let change = ProfileChange { nick, by_import: true, ..Default::default() };
    assert_eq!(changed, [Event::ProfileChanged(change)]);
    let profile = amy.user.profile().expect("a profile");
    assert_eq!((&*profile.nick, &*profile.face_url), ("Amelia", "http://a/1"));
}

/// Amy with one of everything.
fn busy() -> Someone {
    let mut amy = someone("amy").with_friend("bob", edge("amy", 1));
    amy.when(&block(&["cyd"]));
    amy.when(&add(OfferForm::TwoWay, &["dan"]));
    amy.given(&[requested("eve", edge("eve", 6))])
}

#[test]
fn deleting_ends_friendships_takes_offers_back_and_refuses_requests() {
    let mut amy = busy();
    let offer = amy.user.offers().next().expect("an offer").edge;
    let decision = amy.when(&Command::DeleteAccount);
    let refused = Event::FriendRefused {
        peer: id("eve"),
        offer: edge("eve", 6),
        why: Rejection::AccountUnknown,
    };
    let expected = [
        removed("bob", edge("amy", 1), RemovalReason::AccountDeleted),
        Event::OfferWithdrawn { peer: id("dan"), edge: offer },
        refused,
        Event::AccountDeleted {},
    ];
    assert_eq!(decision.events, expected);
    assert_eq!(decision.outcomes, [Ok(Outcome::Forgetting)]);
}

#[test]
fn a_deleted_account_keeps_its_version_and_nothing_else() {
    let mut amy = busy();
    amy.when(&Command::DeleteAccount);
    let bare = User { version: amy.user.version(), ..User::new(id("amy")) };
    assert_eq!(amy.user, bare);
    let decided = amy.user.perform(&block(&["bob"]), &amy.policy, NOW);
    assert_eq!(decided, Err(Rejection::AccountUnknown));
    amy.when(&Command::ImportAccount(ProfileChange::default()));
    let again = amy.when(&add(OfferForm::TwoWay, &["bob"]));
    let [Ok(Outcome::Offering { edge: offer, .. })] = again.outcomes[..] else { panic!() };
    assert!(offer.version > edge("amy", 1).version, "no id is used again");
}

#[test]
fn what_reaches_a_deleted_account_is_refused_or_nothing() {
    let mut amy = someone("amy");
    amy.when(&add(OfferForm::TwoWay, &["bob"]));
    amy.when(&Command::DeleteAccount);
    let why = Rejection::AccountUnknown;
    let refused = Event::FriendRefused { peer: id("bob"), offer: edge("bob", 4), why };
    assert_eq!(amy.hears("bob", &[propose(edge("bob", 4), OfferForm::TwoWay)]), [refused]);
    assert_eq!(amy.hears("bob", &[confirm(edge("amy", 2)), sever(true)]), []);
}

#[test]
fn a_deleted_account_vanishes_from_every_list_that_names_it() {
    let mut amy = busy();
    let sequence = amy.sequence();
    for name in ["bob", "cyd", "eve"] {
        let peer = id(name);
        assert_eq!(amy.user.forget(peer, NOW), [Event::PeerForgotten { peer }]);
        amy.user.recorded();
        assert_eq!(amy.user.forget(peer, NOW), [], "{name} is named no more");
    }
    assert!(amy.sequence() > sequence, "the blocklist changed");
    assert_eq!(amy.user.peers(), [id("dan")], "an offer stays: its refusal is on the way");
}
