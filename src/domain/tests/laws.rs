//! What holds for every history, also for one that no program would write.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use uuid::Uuid;

use super::*;

/// Short, so that different items are often about the same pair.
const NAMES: [&str; 4] = ["amy", "bob", "cyd", "dan"];

fn name() -> impl Strategy<Value = UserId> {
    select(&NAMES[..]).prop_map(id)
}

/// Someone other than amy, whose history this is.
fn peer() -> impl Strategy<Value = UserId> {
    select(&NAMES[1..]).prop_map(id)
}

fn any_edge() -> impl Strategy<Value = EdgeId> {
    (name(), 1..12_u64).prop_map(|(offerer, version)| EdgeId { offerer, version: Version(version) })
}

fn form() -> impl Strategy<Value = OfferForm> {
    select(vec![OfferForm::TwoWay, OfferForm::OneWay, OfferForm::Import])
}

fn card() -> impl Strategy<Value = Card> {
    let text = || select(vec!["", "x", "Bobby"]).prop_map(Into::into);
    let groups = vec(select(vec!["Work", "Climbing"]).prop_map(Into::into), 0..3);
    (text(), groups, text(), option::of(1..9_u32)).prop_map(
        |(remark, groups, wording, added_at)| Card {
            remark,
            groups,
            wording,
            added_at,
            ..Card::default()
        },
    )
}

fn change() -> impl Strategy<Value = ProfileChange> {
    let text = || option::of(select(vec!["", "Amy"]).prop_map(Into::into));
    (text(), text(), option::of(allow_type()), option::of(any::<bool>())).prop_map(
        |(nick, face_url, allow_type, requests_forbidden)| ProfileChange {
            nick,
            face_url,
            allow_type,
            requests_forbidden,
            ..ProfileChange::default()
        },
    )
}

fn allow_type() -> impl Strategy<Value = AllowType> {
    select(vec![AllowType::AllowAny, AllowType::NeedConfirm, AllowType::DenyAny])
}

fn why() -> impl Strategy<Value = Rejection> {
    select(vec![Rejection::BlockedByPeer, Rejection::AccountUnknown])
}

fn reason() -> impl Strategy<Value = RemovalReason> {
    select(vec![RemovalReason::Blocked, RemovalReason::DeletedByPeer, RemovalReason::Withdrawn])
}

fn yes() -> impl Strategy<Value = bool> {
    any::<bool>()
}

fn account_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::AccountImported {}),
        2 => change().prop_map(Event::ProfileChanged),
        1 => Just(Event::AccountDeleted {}),
        2 => name().prop_map(|peer| Event::PeerForgotten { peer }),
        3 => (name(), yes())
            .prop_map(|(target, remain_friends)| Event::UserBlocked { target, remain_friends }),
        3 => name().prop_map(|target| Event::UserUnblocked { target }),
    ]
}

fn friend_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (name(), any_edge(), card()).prop_map(|(peer, edge, card)| Event::FriendAdded {
            peer,
            edge,
            card
        }),
        (name(), any_edge()).prop_map(|(peer, edge)| Event::FriendLinked { peer, edge }),
        (name(), card()).prop_map(|(peer, card)| Event::FriendUpdated { peer, card }),
        (name(), any_edge(), reason(), yes()).prop_map(|(peer, edge, reason, announced)| {
            Event::FriendRemoved { peer, edge, reason, announced }
        }),
        name().prop_map(|peer| Event::UnfriendAsked { peer }),
        (name(), any_edge(), card()).prop_map(|(peer, edge, card)| Event::FriendRequested {
            peer,
            edge,
            card
        }),
        (name(), any_edge(), any_edge(), yes(), agreement(), yes()).prop_map(
            |(peer, offer, edge, added, agreement, despite_block)| Event::FriendAccepted {
                peer,
                offer,
                edge,
                added,
                agreement,
                despite_block
            }
        ),
        (name(), card_change()).prop_map(|(peer, change)| Event::FriendChanged { peer, change }),
        groups().prop_map(|names| Event::GroupsAdded { names }),
        (groups(), vec(name(), 1..3))
            .prop_map(|(names, peers)| Event::FriendsGrouped { names, peers }),
        groups().prop_map(|names| Event::GroupsRemoved { names }),
        (name(), any_edge(), why()).prop_map(|(peer, offer, why)| Event::FriendRefused {
            peer,
            offer,
            why
        }),
        (name(), any_edge()).prop_map(|(peer, edge)| Event::RequestDropped { peer, edge }),
    ]
}

fn offer_event() -> impl Strategy<Value = Event> {
    let offered = (name(), any_edge(), form(), yes(), option::of(any_edge()), yes(), yes(), card());
    prop_oneof![
        3 => offered.prop_map(|(peer, edge, form, forced, over, again, despite_block, card)| {
            Event::FriendOffered { peer, edge, form, forced, over, again, despite_block, card }
        }),
        1 => (name(), any_edge()).prop_map(|(peer, edge)| Event::OfferPending { peer, edge }),
        1 => (name(), any_edge(), yes(), yes(), agreement()).prop_map(
            |(peer, edge, mine, theirs, agreement)| {
                Event::OfferConfirmed { peer, edge, mine, theirs, agreement }
            }
        ),
        1 => (name(), any_edge(), why())
            .prop_map(|(peer, edge, why)| Event::OfferEnded { peer, edge, why }),
        1 => (name(), any_edge()).prop_map(|(peer, edge)| Event::OfferWithdrawn { peer, edge }),
        1 => (1..12_u64, yes(), yes()).prop_map(|(offered, forced, waited)| {
            Event::OffersSettled { offered: Version(offered), forced, waited, friends: vec![] }
        }),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![account_event(), friend_event(), offer_event()]
}

fn agreement() -> impl Strategy<Value = Option<Agreement>> {
    option::of(select(vec![Agreement::Both, Agreement::OneWay]))
}

fn groups() -> impl Strategy<Value = Vec<Box<str>>> {
    vec(select(vec!["Work", "Climbing", "Chess"]).prop_map(Into::into), 1..3)
}

fn card_change() -> impl Strategy<Value = CardChange> {
    let text = || select(vec!["", "x", "Bobby"]).prop_map(Box::<str>::from);
    let field = select(vec!["Tag_SNS_Custom_a", "Tag_SNS_Custom_b"]).prop_map(Into::into);
    (option::of(text()), option::of(groups()), vec((field, text()), 0..3))
        .prop_map(|(remark, groups, custom)| CardChange { remark, groups, custom })
}

fn command() -> impl Strategy<Value = Command> {
    let target = || {
        let imported = prop::bool::weighted(0.9);
        (name(), imported).prop_map(|(user, imported)| Target { user, imported })
    };
    let wanted = (name(), prop::bool::weighted(0.9), card())
        .prop_map(|(user, imported, card)| NewFriend { user, imported, card });
    let updated = (name(), card_change()).prop_map(|(user, change)| FriendUpdate { user, change });
    let answered = (name(), agreement(), groups()).prop_map(|(user, agreement, groups)| {
        RequestAnswer { user, agreement, remark: "Bobby".into(), groups }
    });
    let former = (name(), yes()).prop_map(|(user, has_me)| FormerFriend { user, has_me });
    prop_oneof![
        2 => change().prop_map(Command::ImportAccount),
        1 => Just(Command::DeleteAccount),
        6 => vec(target(), 1..4).prop_map(|targets| Command::Block { targets }),
        6 => vec(target(), 1..4).prop_map(|targets| Command::Unblock { targets }),
        9 => (vec(wanted, 1..4), form(), yes())
            .prop_map(|(items, form, forced)| Command::AddFriends { items, form, forced }),
        6 => (vec(former, 1..4), yes())
            .prop_map(|(targets, both)| Command::RemoveFriends { targets, both }),
        1 => yes().prop_map(|both| Command::ClearFriends { both }),
        3 => vec(updated, 1..4).prop_map(|items| Command::UpdateFriends { items }),
        6 => vec(answered, 1..4).prop_map(|items| Command::AnswerRequests { items }),
        3 => (groups(), vec(target(), 0..4))
            .prop_map(|(names, members)| Command::AddGroups { names, members }),
        2 => groups().prop_map(|names| Command::RemoveGroups { names }),
        2 => change().prop_map(Command::SetProfile),
    ]
}

fn effect() -> impl Strategy<Value = Effect> {
    let severance = select(vec![Severance::Blocked, Severance::Deleted, Severance::AccountDeleted]);
    let propose = (any_edge(), form(), yes(), yes(), prop::bool::weighted(0.2), card());
    prop_oneof![
        2 => (severance, yes(), yes()).prop_map(|(why, keep_friend, announced)| Effect::Sever {
            why,
            keep_friend,
            announced
        }),
        // Groups are the sender's own business and do not come along.
        4 => propose.prop_map(|(edge, form, forced, over, again, card)| Effect::Propose {
            edge,
            form,
            forced,
            over,
            again,
            card: Card { groups: Vec::new(), ..card }
        }),
        4 => (any_edge(), option::of(any_edge()), yes(), agreement()).prop_map(
            |(offer, other, added, agreement)| {
                Effect::Confirm { offer, edge: other.unwrap_or(offer), added, agreement }
            }
        ),
        2 => any_edge().prop_map(|offer| Effect::Pend { offer }),
        1 => (any_edge(), why()).prop_map(|(offer, why)| Effect::Refuse { offer, why }),
        1 => any_edge().prop_map(|offer| Effect::Withdraw { offer }),
    ]
}

/// With it, and what a call did, there is no room for another call.
const ANSWER: &str = "{\"ActionStatus\":\"OK\",\"ErrorCode\":0,\"ErrorInfo\":\"\",\"ErrorDisplay\":\"\",\
     \"ResultItem\":[{\"To_Account\":\"bob\",\"ResultCode\":0,\"ResultInfo\":\"\"},\
     {\"To_Account\":\"cyd\",\"ResultCode\":0,\"ResultInfo\":\"\"}]}";

fn call() -> impl Strategy<Value = CallKey> {
    let asked = || select(vec!["one", "two"]).prop_map(id);
    // Also one that reads like a peer's name.
    (select(vec!["k1", "k2", "bob"]).prop_map(id), asked())
        .prop_map(|(key, asked)| CallKey { key, asked })
}

/// One turn of a user.
#[derive(Clone, Debug)]
enum Turn {
    Run(Command),
    /// Under a key of the caller's.
    Keyed(CallKey, Command),
    Begin(CallKey),
    Answer(CallKey),
    Hear(UserId, Vec<Effect>),
    Forget(UserId),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        6 => command().prop_map(Turn::Run),
        2 => (call(), command()).prop_map(|(call, command)| Turn::Keyed(call, command)),
        1 => call().prop_map(Turn::Begin),
        2 => call().prop_map(Turn::Answer),
        6 => (peer(), vec(effect(), 1..4)).prop_map(|(peer, effects)| Turn::Hear(peer, effects)),
        1 => peer().prop_map(Turn::Forget),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    (1..4_usize, 1..4_usize, 1..3_usize, yes(), yes(), allow_type()).prop_map(
        |(blocks_max, friends_max, requests_max, remain, ignores, default_allow_type)| Policy {
            blocks_max,
            friends_max,
            requests_max,
            groups_max: 1,
            subscriptions_max: 1,
            remain_friends: remain,
            import_ignores_blocklist: ignores,
            default_allow_type,
        },
    )
}

/// The moment of the turn `count`: half a day lies between two, so that what is kept grows old.
fn later(count: i64) -> Timestamp {
    Timestamp(NOW.0 + 12 * 60 * 60 * 1000 * count)
}

/// A record: its version, its events and its time.
type Recorded = (Version, Vec<Event>, Timestamp);

impl Turn {
    fn scope(&self, user: &User, policy: &Policy, at: Timestamp) -> Vec<UserId> {
        match self {
            Self::Run(command) => user.scope(command),
            Self::Keyed(call, command) => {
                let mut scope = user.scope(command);
                scope.extend(user.scope_of_call(call, 0, at));
                // Looked at when the command was carried out.
                let events =
                    user.clone().perform(command, policy, at).map(|decision| decision.events);
                scope.extend(user.scope_of_done(call, &events.unwrap_or_default(), at));
                scope
            }
            Self::Begin(call) => user.scope_of_call(call, 0, at),
            Self::Answer(call) => user.scope_of_call(call, ANSWER.len(), at),
            Self::Hear(peer, effects) => user.scope_of_effects(*peer, effects.len()),
            Self::Forget(peer) => user.scope_of_effects(*peer, 1),
        }
    }

    fn take(&self, user: &mut User, policy: &Policy, at: Timestamp) -> Option<Recorded> {
        let events = match self {
            Self::Run(command) => user.perform(command, policy, at).ok()?.events,
            Self::Keyed(call, command) => {
                let mut events = user.perform(command, policy, at).ok()?.events;
                if !events.is_empty() {
                    user.keep_call(*call, Uuid::nil(), &mut events, at);
                }
                events
            }
            Self::Begin(call) => user.begin_call(*call, Uuid::nil(), at).ok()?,
            Self::Answer(call) => {
                let answer = KeptAnswer { code: 0, body: ANSWER.into(), positions: Vec::new() };
                user.keep_answer(*call, Uuid::nil(), answer, at)
            }
            Self::Hear(peer, effects) => user.react(*peer, effects, policy, at),
            Self::Forget(peer) => user.forget(*peer, at),
        };
        if events.is_empty() {
            return None;
        }
        user.recorded();
        Some((user.version(), events, at))
    }
}

/// Amy after these turns and her journal.
fn live(turns: &[Turn], policy: &Policy) -> (User, Vec<Recorded>) {
    let mut user = someone("amy").user;
    let import = (user.version(), vec![Event::AccountImported {}], NOW);
    let mut journal = vec![import];
    for (count, turn) in (1..).zip(turns) {
        let at = later(count);
        journal.extend(turn.take(&mut user, policy, at));
    }
    (user, journal)
}

fn replayed(mut user: User, journal: &[Recorded]) -> User {
    for (version, events, at) in journal {
        user.replay(*version, events, *at);
    }
    user
}

/// The user as put together from the rows that the store keeps.
fn restored(user: &User) -> User {
    let head = postcard::to_stdvec(&user.head()).expect("a head row");
    let rows = user.peers().into_iter().map(|peer| {
        let row = user.relation(&peer);
        let row = postcard::to_stdvec(&row).expect("a row");
        postcard::from_bytes::<Relation>(&row).expect("the row that was written")
    });
    let head = postcard::from_bytes(&head).expect("the head that was written");
    User::restore(user.id(), head, rows.collect())
}

/// Each peer's row, to compare.
fn rows(user: &User) -> Vec<(UserId, Vec<u8>)> {
    let row = |peer| {
        let row = user.relation(&peer);
        (peer, postcard::to_stdvec(&row).expect("a row"))
    };
    user.peers().into_iter().map(row).collect()
}

proptest! {
    #[test]
    fn evolve_is_total(
        records in vec((any_event(), prop_oneof![1..12_u64, any::<u64>()], any::<i64>()), 0..60),
    ) {
        let mut user = User::new(id("amy"));
        for (event, version, at) in &records {
            user.replay(Version(*version), std::slice::from_ref(event), Timestamp(*at));
        }
        prop_assert_eq!(restored(&user), user);
    }

    #[test]
    fn the_live_state_is_the_replay_of_the_journal(
        turns in vec(turn(), 0..30),
        policy in policy(),
        cut in any::<prop::sample::Index>(),
    ) {
        let (user, journal) = live(&turns, &policy);
        let versions: Vec<u64> = journal.iter().map(|(version, ..)| version.0).collect();
        prop_assert_eq!(versions, (1..=journal.len() as u64).collect::<Vec<_>>());
        prop_assert_eq!(&replayed(User::new(id("amy")), &journal), &user);
        let (before, after) = journal.split_at(cut.index(journal.len()));
        let checkpoint = restored(&replayed(User::new(id("amy")), before));
        prop_assert_eq!(&replayed(checkpoint, after), &user);
    }

    #[test]
    fn a_turn_changes_no_row_outside_its_scope(
        turns in vec(turn(), 1..20),
        policy in policy(),
    ) {
        let (turn, before) = turns.split_last().expect("one at least");
        let (mut user, _) = live(before, &policy);
        let at = later(turns.len() as i64);
        let scope = turn.scope(&user, &policy, at);
        let outside = |user: &User| {
            rows(user).into_iter().filter(|(peer, _)| !scope.contains(peer)).collect::<Vec<_>>()
        };
        let rows = outside(&user);
        let old = user.clone();
        let recorded = turn.take(&mut user, &policy, at);
        prop_assert_eq!(&outside(&user), &rows);
        if let Some((_, events, _)) = recorded {
            let scope = old.scope_of_events(&events);
            let row = |user: &User, peer| postcard::to_stdvec(&user.relation(&peer)).expect("a row");
            for peer in NAMES.into_iter().chain(["k1", "k2"]).map(id) {
                let changed = row(&old, peer) != row(&user, peer);
                prop_assert!(scope.contains(&peer) || !changed, "{} after {:?}", peer, events);
            }
        } else {
            prop_assert_eq!(old, user, "nothing recorded, nothing changed");
        }
    }

    #[test]
    fn the_same_command_twice_records_one_fact(
        turns in vec(turn(), 0..20),
        command in command(),
        policy in policy(),
    ) {
        // Whether a second import overwrites the record is what it is for.
        let overwrites = matches!(&command, Command::AddFriends { form: OfferForm::Import, .. });
        prop_assume!(!overwrites);
        // A friend who is named twice is changed twice, or asked for in other words, and so again by a
        // repeat.
        let named: Option<Vec<UserId>> = match &command {
            Command::UpdateFriends { items } => Some(items.iter().map(|item| item.user).collect()),
            Command::AddFriends { items, .. } => Some(items.iter().map(|item| item.user).collect()),
            _ => None,
        };
        if let Some(named) = named {
            prop_assume!(named.iter().collect::<BTreeSet<_>>().len() == named.len());
        }
        let (user, _) = live(&turns, &policy);
        let mut amy = Someone { user, policy };
        let _ = amy.user.perform(&command, &amy.policy, NOW).map(|first| amy.close(&first.events));
        let mut again = amy.user.perform(&command, &amy.policy, NOW).unwrap_or_default().events;
        // Whether the peer still has the user is the peer's to know, and looked up for each call.
        again.retain(|event| !matches!(event, Event::UnfriendAsked { .. }));
        prop_assert_eq!(again, []);
    }

    #[test]
    fn limits_hold_and_outcomes_match_items(
        turns in vec(turn(), 0..30),
        command in command(),
        policy in policy(),
    ) {
        let (mut user, _) = live(&turns, &policy);
        let items = match &command {
            Command::Block { targets } | Command::Unblock { targets } => targets.len(),
            Command::AddFriends { items, .. } => items.len(),
            Command::RemoveFriends { targets, .. } => targets.len(),
            Command::ClearFriends { .. } => user.friends_count().max(1),
            Command::UpdateFriends { items } => items.len(),
            Command::AnswerRequests { items } => items.len(),
            Command::AddGroups { members, .. } => members.len().max(1),
            Command::ImportAccount(_)
            | Command::DeleteAccount
            | Command::RemoveGroups { .. }
            | Command::SetProfile(_)
            | Command::Send(_)
            | Command::BeginCall
            | Command::KeepAnswer(_)
            | Command::SetSubscription { .. }
            | Command::SealAnew { .. }
            | Command::DeleteSubscription { .. }
            | Command::MoveSubscription { .. }
            | Command::BeginReplay { .. }
            | Command::EndReplay { .. }
            | Command::Judged(_) => 1,
        };
        if let Ok(decision) = user.perform(&command, &policy, NOW) {
            prop_assert_eq!(decision.outcomes.len(), items);
        }
        prop_assert!(user.blocked_count() <= policy.blocks_max);
        prop_assert!(user.requests().count() <= policy.requests_max);
        prop_assert!(user.friends_count() <= policy.friends_max);
        prop_assert!(user.groups(None).len() <= policy.groups_max);
        prop_assert!(!user.blocks(&user.id()) && !user.has_friend(&user.id()));
    }
}
