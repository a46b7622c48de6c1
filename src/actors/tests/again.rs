//! A call whose answer nobody heard comes again, after another call has undone what it did: it is
//! answered from what it did, and does nothing.

use super::cluster::{Cluster, Node, PARTITIONS, PATIENCE};
use super::*;
use crate::domain::{
    Agreement, AllowType, CallKey, CardChange, FriendUpdate, Replay, RequestAnswer, SecretChange,
    SeekTo, Subscription, Version, keeper,
};

/// Users of one case; each case has its own.
struct People {
    amy: String,
    bob: String,
    cat: String,
}

/// What happens before, the call, and what undoes it.
struct Case {
    before: Vec<(UserId, Command)>,
    call: (UserId, Command),
    undo: Vec<(UserId, Command)>,
}

fn profile(change: ProfileChange) -> Command {
    Command::SetProfile(change)
}

fn nick(nick: &str) -> Command {
    profile(ProfileChange { nick: Some(nick.into()), ..ProfileChange::default() })
}

fn remark(peer: &str, remark: &str) -> Command {
    let change = CardChange { remark: Some(remark.into()), ..CardChange::default() };
    Command::UpdateFriends { items: vec![FriendUpdate { user: id(peer), change }] }
}

fn remove(peer: &str, both: bool) -> Command {
    let targets = vec![FormerFriend { user: id(peer), has_me: true }];
    Command::RemoveFriends { targets, both }
}

fn group(members: &[&str]) -> Command {
    let members = members.iter().map(|name| Target { user: id(name), imported: true }).collect();
    Command::AddGroups { names: vec!["g".into(), "h".into()], members }
}

fn ungroup() -> Command {
    Command::RemoveGroups { names: vec!["g".into(), "h".into()] }
}

fn import_friend(peer: &str, remark: &str) -> Command {
    let card = Card { remark: remark.into(), ..Card::default() };
    let item = NewFriend { user: id(peer), imported: true, card };
    Command::AddFriends { items: vec![item], form: OfferForm::Import, forced: false }
}

fn agree(peer: &str) -> Command {
    let agreement = Some(Agreement::Both);
    let item = RequestAnswer { user: id(peer), agreement, remark: "".into(), groups: Vec::new() };
    Command::AnswerRequests { items: vec![item] }
}

fn block_twice(peer: &str) -> Command {
    Command::Block { targets: vec![Target { user: id(peer), imported: true }; 2] }
}

fn import_account() -> Command {
    Command::ImportAccount(ProfileChange::default())
}

/// What an account or a friend is asked for, and what has undone it when that comes again.
fn of_users(People { amy, bob, cat }: &People) -> Vec<Case> {
    let me = |command| (id(amy), command);
    let case = |before: Vec<Command>, call, undo: Command| Case {
        before: before.into_iter().map(me).collect(),
        call: me(call),
        undo: vec![me(undo)],
    };
    let careful = || {
        let allow_type = Some(AllowType::NeedConfirm);
        profile(ProfileChange { allow_type, ..ProfileChange::default() })
    };
    let asked = || (id(cat), add(amy));
    let answered = Case {
        before: vec![me(careful()), asked()],
        call: me(agree(cat)),
        undo: vec![me(remove(cat, true)), asked()],
    };
    vec![
        case(vec![], block(bob), unblock(bob)),
        case(vec![], block_twice(bob), unblock(bob)),
        case(vec![block(bob)], unblock(bob), block(bob)),
        case(vec![add(bob)], remove(bob, false), add(bob)),
        case(vec![add(bob)], remove(bob, true), add(bob)),
        case(vec![add(bob)], Command::ClearFriends { both: false }, add(bob)),
        case(vec![add(bob)], Command::ClearFriends { both: true }, add(cat)),
        case(vec![add(bob)], remark(bob, "x"), remark(bob, "y")),
        case(vec![add(bob)], import_friend(bob, "x"), remark(bob, "y")),
        case(vec![add(bob)], group(&[bob, cat]), ungroup()),
        case(vec![], group(&[]), ungroup()),
        case(vec![add(bob), group(&[bob])], ungroup(), group(&[bob])),
        case(vec![], nick("x"), nick("y")),
        case(vec![], Command::DeleteAccount, import_account()),
        case(vec![Command::DeleteAccount], import_account(), Command::DeleteAccount),
        answered,
    ]
}

fn subscription(enabled: bool) -> Command {
    let subscription = Subscription {
        name: "s".into(),
        url: None,
        commands: Vec::new(),
        enabled,
        format: Default::default(),
        secrets: Vec::new(),
        headers: true,
        delivery: Default::default(),
        before: Default::default(),
    };
    Command::SetSubscription { subscription: Box::new(subscription), secret: SecretChange::Keep }
}

fn of_subscriptions() -> Vec<Case> {
    let case = |before: Vec<Command>, call, undo| {
        let of = |command| (keeper(), command);
        let delete = Command::DeleteSubscription { name: "s".into() };
        let before = [delete].into_iter().chain(before).map(of).collect();
        Case { before, call: of(call), undo: vec![of(undo)] }
    };
    let delete = || Command::DeleteSubscription { name: "s".into() };
    let seek = |to| Command::MoveSubscription { name: "s".into(), to, configured: false };
    let replay = Command::BeginReplay {
        replay: Box::new(Replay {
            number: 0,
            subscription: "s".into(),
            url: None,
            since: None,
            until: None,
            ranges: vec![(0, 0, 1)],
            users: Vec::new(),
            commands: Vec::new(),
            ids: Vec::new(),
        }),
        configured: false,
    };
    vec![
        case(vec![], subscription(true), subscription(false)),
        case(vec![subscription(true)], delete(), subscription(true)),
        case(vec![subscription(true)], seek(SeekTo::End), seek(SeekTo::Offsets(vec![(0, 0)]))),
        case(vec![subscription(true)], replay, Command::EndReplay { number: 1, completed: false }),
    ]
}

async fn ask(
    node: &Node,
    (owner, command): &(UserId, Command),
    origin: &Origin,
    call: Option<CallKey>,
) -> Vec<Result<(), ItemError>> {
    let key = UserKey { app: APP, user: *owner };
    let (command, origin) = (Arc::new(command.clone()), Arc::new(origin.clone()));
    let question = Question::Execute { key, command, origin, call };
    let answer = node.users.answer(partition_of(&key, PARTITIONS), question, PATIENCE).await;
    let Ok(Reply::Executed(executed)) = answer else { panic!("{answer:?}") };
    executed.outcomes
}

/// Asks, lets others undo it, and asks again: by the same request, or by the key alone.
async fn holds(cluster: &Cluster, node: &Node, case: &Case, call: Option<CallKey>) {
    for step in &case.before {
        ask(node, step, &origin(), None).await;
    }
    let first_origin = origin();
    let first = ask(node, &case.call, &first_origin, call).await;
    for step in &case.undo {
        ask(node, step, &origin(), None).await;
    }
    let facts = || -> Vec<Version> {
        let own = cluster.valid().into_iter().filter(|commit| commit.key.user == case.call.0);
        own.map(|commit| commit.version).collect()
    };
    let before = facts();
    let again = if call.is_some() { origin() } else { first_origin };
    let outcomes = ask(node, &case.call, &again, call).await;
    assert_eq!(facts(), before, "{:?} again", case.call);
    assert_eq!(outcomes, first, "{:?} again", case.call);
}

async fn people(node: &Node, number: usize) -> People {
    let name = |name: &str| format!("{name}{number}");
    let people = People { amy: name("amy"), bob: name("bob"), cat: name("cat") };
    import(&node.users, &[&people.amy, &people.bob, &people.cat]).await;
    people
}

fn call_key(number: usize) -> CallKey {
    CallKey { key: id(&format!("{number:032x}")), asked: id(&format!("{number:032x}")) }
}

#[actix::test]
async fn a_call_that_comes_again_after_it_was_undone_is_answered_from_what_it_did() {
    let cluster = Cluster::new();
    let node = cluster.node("one");
    node.claim_all().await;
    let cases = of_users(&people(&node, 0).await).len();
    for number in 0..cases {
        for by_key in [false, true] {
            let number = 2 * number + usize::from(by_key) + 1;
            let people = people(&node, number).await;
            let case = of_users(&people).swap_remove((number - 1) / 2);
            holds(&cluster, &node, &case, by_key.then(|| call_key(number))).await;
        }
    }
    for case in of_subscriptions() {
        holds(&cluster, &node, &case, None).await;
    }
    node.stop().await;
}

#[actix::test]
async fn an_offer_that_comes_again_after_the_friendship_ended_makes_none() {
    let cluster = Cluster::new();
    let node = cluster.node("one");
    node.claim_all().await;
    for (number, by_key) in [false, true].into_iter().enumerate() {
        let People { amy, bob, .. } = people(&node, number).await;
        let (call, first_origin) = ((id(&amy), add(&bob)), origin());
        let key = by_key.then(|| call_key(number));
        assert_eq!(ask(&node, &call, &first_origin, key).await, [Ok(())]);
        let end = (id(&amy), remove(&bob, true));
        assert_eq!(ask(&node, &end, &origin(), None).await, [Ok(())]);
        let again = if by_key { origin() } else { first_origin };
        assert_eq!(ask(&node, &call, &again, key).await, [Ok(())]);
        assert!(!standing(&node.users, &amy, &bob).await.has_friend);
    }
    node.stop().await;
}

/// The memory of requests knows nothing of these repeats: they come under other ids.
#[actix::test]
async fn an_offer_with_a_key_is_answered_by_what_came_of_it_and_never_made_again() {
    let cluster = Cluster::new();
    let node = cluster.node("one");
    node.claim_all().await;
    let People { amy, bob, cat } = people(&node, 0).await;
    let allow_type = Some(AllowType::DenyAny);
    run(&node.users, &cat, profile(ProfileChange { allow_type, ..ProfileChange::default() })).await;
    run(&node.users, &amy, import_friend(&bob, "x")).await;
    let refused = Err(ItemError::Rejected(Rejection::PeerAcceptsNobody));
    let calls = [(call_key(1), add(&bob), Ok(())), (call_key(2), add(&cat), refused)];
    for (key, call, expected) in &calls {
        let first = ask(&node, &(id(&amy), call.clone()), &origin(), Some(*key)).await;
        assert_eq!(first, [*expected]);
    }
    run(&node.users, &amy, remove(&bob, true)).await;
    let facts = cluster.valid().len();
    for (key, call, expected) in calls {
        let again = ask(&node, &(id(&amy), call), &origin(), Some(key)).await;
        assert_eq!(again, [expected]);
    }
    assert_eq!(cluster.valid().len(), facts);
    node.stop().await;
}

#[actix::test]
async fn an_offer_with_a_key_is_waited_for_while_it_is_open_and_owed_once_it_was_taken_back() {
    let cluster = Cluster::new();
    let node = cluster.node("one");
    node.claim_all().await;
    let home = partition_of(&key("amy"), PARTITIONS);
    let elsewhere = |name: &String| partition_of(&key(name), PARTITIONS) != home;
    let bob = (0..).map(|number| format!("bob{number}")).find(elsewhere).expect("there is one");
    let away = partition_of(&key(&bob), PARTITIONS);
    let beside = |name: &String| partition_of(&key(name), PARTITIONS) == away;
    let cat = (0..).map(|number| format!("cat{number}")).find(beside).expect("there is one");
    import(&node.users, &["amy", &bob, &cat]).await;
    run(&node.users, "amy", import_friend(&cat, "x")).await;
    node.users.release(away).await;

    let items = [&bob, &cat].map(|name| NewFriend {
        user: id(name),
        imported: true,
        card: Card::default(),
    });
    let form = OfferForm::TwoWay;
    let call = (id("amy"), Command::AddFriends { items: items.into(), form, forced: false });
    let owed = Err(ItemError::Owed);
    assert_eq!(ask(&node, &call, &origin(), Some(call_key(1))).await, [owed, owed]);
    run(&node.users, "amy", remove(&cat, false)).await;
    let (origin, comes_back) = (origin(), async { node.users.claim(away) });
    let again = ask(&node, &call, &origin, Some(call_key(1)));
    let (again, ()) = futures_util::future::join(again, comes_back).await;
    assert_eq!(again, [Ok(()), owed]);
    assert!(standing(&node.users, "amy", &bob).await.has_friend);
    assert!(!standing(&node.users, "amy", &cat).await.has_friend);
    node.stop().await;
}

/// Somebody who lives in another partition than amy, and that partition.
fn someone_away(name: &str) -> (String, Partition) {
    let home = |name: &str| partition_of(&key(name), PARTITIONS);
    let mut names = (0..).map(|number| format!("{name}{number}"));
    let away = names.find(|name| home(name) != home("amy")).expect("there is one");
    let partition = home(&away);
    (away, partition)
}

/// Asks while the peer's partition has no owner, twice, and again while it gets one: the first answers
/// say that the peer's side is owed, the last one waits for it.
async fn waits_for(node: &Node, away: Partition, call: (UserId, Command)) {
    node.users.release(away).await;
    for _ in 0..2 {
        assert_eq!(ask(node, &call, &origin(), None).await, [Err(ItemError::Owed)]);
    }
    let origin = origin();
    let (again, ()) = futures_util::future::join(ask(node, &call, &origin, None), async {
        node.users.claim(away);
    })
    .await;
    assert_eq!(again, [Ok(())]);
}

#[actix::test]
async fn a_list_that_is_cleared_again_is_clear_once_nobody_has_the_user() {
    let cluster = Cluster::new();
    let node = cluster.node("one");
    node.claim_all().await;
    let (bob, away) = someone_away("bob");
    import(&node.users, &["amy", &bob]).await;
    run(&node.users, "amy", add(&bob)).await;
    waits_for(&node, away, (id("amy"), Command::ClearFriends { both: true })).await;
    assert!(!standing(&node.users, &bob, "amy").await.has_friend);
    node.stop().await;
}

#[actix::test]
async fn a_request_that_is_taken_back_is_gone_at_the_peer_before_that_is_answered() {
    let cluster = Cluster::new();
    let node = cluster.node("one");
    node.claim_all().await;
    let (bob, away) = someone_away("bob");
    import(&node.users, &["amy", &bob]).await;
    let allow_type = Some(AllowType::NeedConfirm);
    run(&node.users, &bob, profile(ProfileChange { allow_type, ..ProfileChange::default() })).await;
    run(&node.users, "amy", add(&bob)).await;
    let targets = vec![FormerFriend { user: id(&bob), has_me: false }];
    let take_back = (id("amy"), Command::RemoveFriends { targets, both: false });
    waits_for(&node, away, take_back.clone()).await;
    let refused = |why| [Err(ItemError::Rejected(why))];
    let agreed = run(&node.users, &bob, agree("amy")).await;
    assert_eq!(agreed, refused(Rejection::RequestUnknown));
    let again = ask(&node, &take_back, &origin(), None).await;
    assert_eq!(again, refused(Rejection::NotFriend));
    node.stop().await;
}

#[actix::test]
async fn what_no_record_of_the_call_speaks_of_is_done_when_it_comes_again() {
    let cluster = Cluster::new();
    let node = cluster.node("one");
    node.claim_all().await;
    let People { amy, bob, cat } = people(&node, 0).await;
    run(&node.users, &amy, add(&bob)).await;
    let (call, origin) = ((id(&amy), group(&[&bob, &cat])), origin());
    let stranger = Err(ItemError::Rejected(Rejection::NotFriend));
    assert_eq!(ask(&node, &call, &origin, None).await, [Ok(()), stranger]);
    run(&node.users, &amy, add(&cat)).await;
    assert_eq!(ask(&node, &call, &origin, None).await, [Ok(()), Ok(())]);
    let grouped = cluster.valid().into_iter().flat_map(|commit| commit.events).filter_map(
        |event| match event {
            crate::domain::Event::FriendsGrouped { names, peers } => Some((names.len(), peers)),
            _ => None,
        },
    );
    assert_eq!(grouped.collect::<Vec<_>>(), [(2, vec![id(&bob)]), (2, vec![id(&cat)])]);
    node.stop().await;
}
