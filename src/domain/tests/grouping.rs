//! Friend groups and records of friends. Rule: rest-api.md 4.4, 5.

use super::*;

fn add(names: &[&str], members: &[&str]) -> Command {
    let names = names.iter().map(|name| (*name).into()).collect();
    Command::AddGroups { names, members: targets(members) }
}

fn remove(names: &[&str]) -> Command {
    Command::RemoveGroups { names: names.iter().map(|name| (*name).into()).collect() }
}

fn update(peer: &str, change: CardChange) -> Command {
    Command::UpdateFriends { items: vec![FriendUpdate { user: id(peer), change }] }
}

fn groups_of(who: &Someone, peer: &str) -> Vec<String> {
    let friend = who.user.friend(&id(peer)).expect("a friend");
    friend.groups().map(ToString::to_string).collect()
}

fn amy() -> Someone {
    someone("amy").with_friend("bob", edge("amy", 1)).with_friend("cyd", edge("amy", 2))
}

#[test]
fn only_new_groups_and_new_members_are_recorded() {
    let mut amy = amy();
    let events = amy.events(&add(&["work", "chess"], &["bob", "dan", "bob"]));
    let names: Vec<Box<str>> = vec!["work".into(), "chess".into()];
    let peers = vec![id("bob")];
    assert_eq!(
        events,
        [Event::GroupsAdded { names: names.clone() }, Event::FriendsGrouped { names, peers }]
    );
    assert_eq!(amy.events(&add(&["work"], &["bob"])), []);
    assert_eq!(
        amy.outcomes(&add(&["work"], &["bob", "dan"])),
        [Ok(Outcome::Recorded), Err(Rejection::NotFriend)]
    );
    assert_eq!(groups_of(&amy, "bob"), ["work", "chess"]);
    assert_eq!(groups_of(&amy, "cyd"), Vec::<String>::new());
}

#[test]
fn a_removed_group_leaves_every_record_and_an_unknown_one_nothing() {
    let mut amy = amy();
    amy.when(&add(&["work", "chess"], &["bob", "cyd"]));
    assert_eq!(amy.events(&remove(&["unknown"])), []);
    amy.when(&remove(&["work", "unknown"]));
    assert_eq!(
        (groups_of(&amy, "bob"), groups_of(&amy, "cyd")),
        (vec!["chess".into()], vec!["chess".into()])
    );
    assert_eq!(amy.user.groups(None).len(), 1);
}

#[test]
fn sequences_grow_with_what_they_count_and_with_nothing_else() {
    let mut amy = amy();
    let seen = |amy: &Someone| (amy.user.friends_sequences(), amy.user.groups_sequence());
    let ((standard, custom), groups) = seen(&amy);
    assert!(standard > 0 && custom == 0 && groups == 0);
    amy.when(&block(&["dan"]));
    assert_eq!(seen(&amy), ((standard, custom), groups));
    amy.when(&update("bob", CardChange { remark: Some("B".into()), ..CardChange::default() }));
    let ((after, custom), groups) = seen(&amy);
    assert!(after > standard && custom == 0 && groups == 0);
    let field = vec![("Tag_SNS_Custom_a".into(), "x".into())];
    amy.when(&update("bob", CardChange { custom: field, ..CardChange::default() }));
    let ((standard, custom), groups) = seen(&amy);
    assert!(custom == standard && standard > after && groups == 0);
    amy.when(&add(&["work"], &[]));
    let ((same, _), groups) = seen(&amy);
    assert!(groups > standard && same == standard);
    amy.when(&add(&["work"], &["bob"]));
    let ((after, _), grown) = seen(&amy);
    assert!(grown > groups && after == grown);
}

#[test]
fn an_update_records_what_is_new_about_friends_only() {
    let mut amy = amy();
    let change = CardChange {
        remark: Some("Bobby".into()),
        groups: Some(vec!["work".into()]),
        custom: vec![("Tag_SNS_Custom_a".into(), "x".into())],
    };
    let recorded = Event::FriendChanged { peer: id("bob"), change: change.clone() };
    assert_eq!(amy.events(&update("bob", change.clone())), [recorded]);
    assert_eq!(amy.events(&update("bob", change.clone())), []);
    let cleared = CardChange {
        remark: Some("".into()),
        groups: Some(Vec::new()),
        custom: vec![("Tag_SNS_Custom_a".into(), "".into())],
    };
    amy.when(&update("bob", cleared));
    let friend = amy.user.friend(&id("bob")).expect("a friend");
    assert_eq!(friend.card(), None, "an empty record takes no room");
    assert_eq!(amy.outcomes(&update("dan", change)), [Err(Rejection::NotFriend)]);
}

#[test]
fn of_several_values_for_one_field_the_last_counts() {
    let mut amy = amy();
    let field = |value: &str| ("Tag_SNS_Custom_a".into(), value.into());
    let twice = CardChange { custom: vec![field(""), field("x")], ..CardChange::default() };
    let once = CardChange { custom: vec![field("x")], ..CardChange::default() };
    let recorded = Event::FriendChanged { peer: id("bob"), change: once };
    assert_eq!(amy.events(&update("bob", twice.clone())), [recorded]);
    assert_eq!(amy.events(&update("bob", twice)), []);
}
