//! Who hears of an app's events: what is set, moved and replayed.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::domain::subscription::{REPLAYS_MAX, SECRETS_MAX};

/// The stream that keeps an app's subscriptions; nobody imports it.
fn kept() -> Someone {
    Someone { user: User::new(keeper()), policy: Policy::default() }
}

fn audit() -> Subscription {
    Subscription {
        name: "audit".into(),
        url: Some("http://receiver.example".into()),
        commands: vec!["Sns.CallbackBlackListAdd".into()],
        enabled: true,
        format: Format::Reference,
        secrets: Vec::new(),
        headers: true,
        delivery: DeliveryTerms::default(),
        before: BeforeTerms::default(),
    }
}

fn named(name: &str) -> Subscription {
    Subscription { name: name.into(), ..audit() }
}

fn set(subscription: Subscription, secret: SecretChange) -> Command {
    Command::SetSubscription { subscription: Box::new(subscription), secret }
}

fn new_secret(sealed: &str, overlap_ms: u32) -> SecretChange {
    SecretChange::Replace { sealed: sealed.into(), overlap_ms }
}

fn seal_anew(name: &str, seals: &[(&str, &str)]) -> Command {
    let seals = seals.iter().map(|(old, new)| ((*old).into(), (*new).into())).collect();
    Command::SealAnew { name: name.into(), seals }
}

fn delete(name: &str) -> Command {
    Command::DeleteSubscription { name: name.into() }
}

fn to_end(name: &str, configured: bool) -> Command {
    Command::MoveSubscription { name: name.into(), to: SeekTo::End, configured }
}

fn moved(name: &str, term: u32, to: SeekTo) -> Seek {
    Seek { name: name.into(), term, to }
}

fn replay(name: &str) -> Replay {
    Replay {
        number: 0,
        subscription: name.into(),
        url: None,
        since: None,
        until: None,
        ranges: vec![(0, 0, 9)],
        users: Vec::new(),
        commands: Vec::new(),
        ids: Vec::new(),
    }
}

fn begin(name: &str) -> Command {
    Command::BeginReplay { replay: Box::new(replay(name)), configured: false }
}

fn end(number: u32) -> Command {
    Command::EndReplay { number, completed: false }
}

fn secrets(who: &Someone) -> Vec<(String, Option<i64>)> {
    let known = who.user.subscriptions().expect("something was set");
    let secrets = &known.get("audit").expect("it was set").secrets;
    secrets.iter().map(|s| (s.sealed.to_string(), s.until.map(|until| until.0))).collect()
}

#[test]
fn a_subscription_is_set_once_and_replaced_as_a_whole() {
    let mut kept = kept();
    let first = kept.events(&set(audit(), SecretChange::Keep));
    assert_eq!(first, [Event::SubscriptionSet(Box::new(audit()))]);
    assert_eq!(kept.events(&set(audit(), SecretChange::Keep)), []);
    let off = Subscription { enabled: false, url: None, ..audit() };
    kept.events(&set(off.clone(), SecretChange::Keep));
    let known = kept.user.subscriptions().expect("it was set");
    assert_eq!((known.set.as_slice(), known.sequence), (&[off][..], 2));
}

#[test]
fn an_app_has_as_many_subscriptions_as_it_may() {
    let mut kept = kept().under(|policy| policy.subscriptions_max = 2);
    for name in ["b", "a"] {
        assert_eq!(kept.outcomes(&set(named(name), SecretChange::Keep)), [Ok(Outcome::Recorded)]);
    }
    let refused = kept.when(&set(named("c"), SecretChange::Keep));
    assert_eq!(refused.outcomes, [Err(Rejection::TooManySubscriptions)]);
    assert_eq!(refused.events, []);
    let off = Subscription { enabled: false, ..named("a") };
    assert_eq!(kept.outcomes(&set(off, SecretChange::Keep)), [Ok(Outcome::Recorded)]);
    kept.events(&delete("b"));
    assert_eq!(kept.outcomes(&set(named("c"), SecretChange::Keep)), [Ok(Outcome::Recorded)]);
    let names = &kept.user.subscriptions().expect("some").set;
    let names: Vec<&str> = names.iter().map(|set| &*set.name).collect();
    assert_eq!(names, ["a", "c"]);
}

#[test]
fn a_new_secret_signs_at_once_and_those_before_it_for_the_time_that_was_said() {
    let mut kept = kept();
    kept.events(&set(audit(), new_secret("one", 0)));
    assert_eq!(secrets(&kept), [("one".to_owned(), None)]);
    kept.events(&set(audit(), new_secret("two", 1000)));
    assert_eq!(secrets(&kept), [("two".to_owned(), None), ("one".to_owned(), Some(NOW.0 + 1000))]);
    // A longer time that was said earlier is not prolonged by the next change, but may be cut.
    kept.events(&set(audit(), new_secret("three", 500)));
    let ends: Vec<Option<i64>> = secrets(&kept).into_iter().map(|(_, until)| until).collect();
    assert_eq!(ends, [None, Some(NOW.0 + 500), Some(NOW.0 + 500)]);
    assert_eq!(kept.events(&set(audit(), SecretChange::Keep)), []);
    kept.events(&set(audit(), new_secret("four", 0)));
    assert_eq!(secrets(&kept), [("four".to_owned(), None)]);
    kept.events(&set(audit(), SecretChange::Remove));
    assert_eq!(secrets(&kept), []);
}

#[test]
fn a_new_seal_replaces_the_one_it_is_for_and_changes_nothing_else() {
    let mut kept = kept();
    kept.events(&set(audit(), new_secret("one", 0)));
    kept.events(&set(Subscription { enabled: false, ..audit() }, new_secret("two", 1000)));
    let anew = seal_anew("audit", &[("one", "1"), ("two", "2"), ("gone", "3")]);
    assert_eq!(kept.events(&anew).len(), 1);
    assert_eq!(secrets(&kept), [("2".to_owned(), None), ("1".to_owned(), Some(NOW.0 + 1000))]);
    assert!(!kept.user.subscriptions().and_then(|known| known.get("audit")).expect("set").enabled);
    assert_eq!(kept.events(&anew), [], "no secret has such a seal any more");
    assert_eq!(kept.events(&seal_anew("other", &[("2", "3")])), []);
}

#[test]
fn the_standard_format_is_never_unsigned_unless_nothing_is_called() {
    let mut kept = kept();
    let standard = Subscription { format: Format::Standard, ..audit() };
    let refused = [Err(Rejection::SecretMissing)];
    assert_eq!(kept.outcomes(&set(standard.clone(), SecretChange::Keep)), refused);
    let pulled = Subscription { url: None, ..standard.clone() };
    assert_eq!(kept.outcomes(&set(pulled, SecretChange::Keep)), [Ok(Outcome::Recorded)]);
    kept.events(&set(standard.clone(), new_secret("one", 0)));
    assert_eq!(kept.outcomes(&set(standard, SecretChange::Remove)), refused);
}

#[test]
fn a_deleted_subscription_takes_its_replays_and_moves_with_it() {
    let mut kept = kept();
    assert_eq!(kept.events(&delete("audit")), [], "it is deleted already");
    kept.events(&set(audit(), SecretChange::Keep));
    kept.events(&set(named("other"), SecretChange::Keep));
    kept.events(&begin("audit"));
    kept.events(&begin("other"));
    kept.events(&to_end("audit", false));
    assert_eq!(
        kept.events(&delete("audit")),
        [
            Event::ReplayEnded { number: 1, completed: false },
            Event::SubscriptionDeleted { name: "audit".into() }
        ]
    );
    let known = kept.user.subscriptions().expect("some");
    assert_eq!((known.set.len(), known.replays.len(), known.seeks.len()), (1, 1, 0));
    assert_eq!(known.deleted, ["audit".into()]);
    kept.events(&set(audit(), SecretChange::Keep));
    assert!(kept.user.subscriptions().expect("some").deleted.is_empty());
}

/// Rule: places of the deleted one that are not given up yet hold back neither a move nor the new one.
#[test]
fn one_that_is_set_again_begins_at_the_ends_in_a_term_that_there_never_was() {
    let mut kept = kept();
    kept.events(&set(audit(), SecretChange::Keep));
    let first = |term| vec![Event::SubscriptionMoved(moved("audit", term, SeekTo::End))];
    assert_eq!(kept.events(&to_end("audit", false)), first(2));
    kept.events(&delete("audit"));
    let again = kept.events(&set(audit(), SecretChange::Keep));
    assert_eq!(again[1..], first(5));
    assert_eq!(kept.events(&to_end("audit", false)), first(6));
    let changed = Subscription { enabled: false, ..audit() };
    assert_eq!(kept.events(&set(changed, SecretChange::Keep)).len(), 1, "it goes on where it is");
}

#[test]
fn a_move_of_some_partitions_leaves_those_of_others_in_force() {
    let mut kept = kept();
    let to = |to| Command::MoveSubscription { name: "main".into(), to, configured: true };
    let known = |kept: &Someone| {
        let known = kept.user.subscriptions().expect("it was moved");
        known.moves("main").map(|seek| (seek.term, seek.to.clone())).collect::<Vec<_>>()
    };
    kept.events(&to_end("other", true));
    kept.events(&to(SeekTo::Offsets(vec![(0, 100), (2, 7)])));
    kept.events(&to_end("a", true));
    kept.events(&to(SeekTo::Offsets(vec![(1, 200)])));
    kept.events(&to(SeekTo::Offsets(vec![(0, 5)])));
    let some = |place| SeekTo::Offsets(vec![place]);
    assert_eq!(known(&kept), [(2, some((2, 7))), (4, some((1, 200))), (5, some((0, 5)))]);
    kept.events(&to(some((2, 8))));
    assert_eq!(known(&kept), [(4, some((1, 200))), (5, some((0, 5))), (6, some((2, 8)))]);
    kept.events(&to(SeekTo::Time(NOW)));
    kept.events(&to(some((2, 9))));
    assert_eq!(known(&kept), [(7, SeekTo::Time(NOW)), (8, some((2, 9)))]);
    let all = &kept.user.subscriptions().expect("it was moved").seeks;
    assert!(all.is_sorted_by_key(|seek| (&seek.name, seek.term)) && all.len() == 4, "{all:?}");
}

#[test]
fn each_move_counts_and_only_of_what_there_is() {
    let mut kept = kept();
    assert_eq!(kept.outcomes(&to_end("audit", false)), [Err(Rejection::SubscriptionUnknown)]);
    // One of the settings is known to the caller only.
    for term in 1..3 {
        let seek = Event::SubscriptionMoved(moved("main", term, SeekTo::End));
        assert_eq!(kept.events(&to_end("main", true)), [seek]);
    }
}

#[test]
fn replays_are_numbered_bounded_and_ended_once() {
    let mut kept = kept();
    assert_eq!(kept.outcomes(&begin("audit")), [Err(Rejection::SubscriptionUnknown)]);
    kept.events(&set(audit(), SecretChange::Keep));
    for number in 1..=REPLAYS_MAX as u32 {
        let begun = Replay { number, ..replay("audit") };
        assert_eq!(kept.events(&begin("audit")), [Event::ReplayBegun(Box::new(begun))]);
    }
    assert_eq!(kept.outcomes(&begin("audit")), [Err(Rejection::TooManyReplays)]);
    assert_eq!(kept.events(&end(3)), [Event::ReplayEnded { number: 3, completed: false }]);
    assert_eq!(kept.events(&end(3)), []);
    for unknown in [0, REPLAYS_MAX as u32 + 1] {
        assert_eq!(kept.outcomes(&end(unknown)), [Err(Rejection::ReplayUnknown)]);
    }
    // A number is never used again.
    kept.events(&begin("audit"));
    assert_eq!(kept.user.subscriptions().expect("some").last_replay, REPLAYS_MAX as u32 + 1);
}

fn any_command() -> impl Strategy<Value = Command> {
    let name = || select(vec!["a", "b", "c"]);
    let secret = prop_oneof![
        Just(SecretChange::Keep),
        Just(SecretChange::Remove),
        ("[a-z]{1,4}", 0..2000_u32)
            .prop_map(|(sealed, overlap_ms)| new_secret(&sealed, overlap_ms)),
    ];
    let url = option::of(Just("http://a"));
    prop_oneof![
        4 => (name(), url, any::<bool>(), secret).prop_map(|(name, url, enabled, secret)| {
            let url = url.map(Box::from);
            set(Subscription { url, enabled, ..named(name) }, secret)
        }),
        1 => (name(), "[a-z]", "[a-z]{1,4}").prop_map(|(name, old, new)| seal_anew(name, &[(&old, &new)])),
        2 => name().prop_map(delete),
        1 => (name(), any::<bool>()).prop_map(|(name, configured)| to_end(name, configured)),
        3 => name().prop_map(begin),
        2 => (0..40_u32).prop_map(end),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is asked: limits hold, the journal and the row say the same as the live state, the
    /// sequence grows with each fact, and an equal set is no fact.
    #[test]
    fn what_is_kept_is_what_was_recorded(steps in vec((any_command(), 0..3000_i64), 0..40)) {
        let policy = Policy { subscriptions_max: 2, ..Policy::default() };
        let mut live = User::new(keeper());
        let mut replayed = User::new(keeper());
        let mut at = NOW;
        for (command, pause) in steps {
            at = Timestamp(at.0 + pause);
            let before = live.subscriptions().map_or(0, |known| known.sequence);
            let decision = live.perform(&command, &policy, at).expect("nobody has to be imported");
            prop_assert_eq!(decision.outcomes.len(), 1);
            prop_assert!(decision.outcomes[0].is_ok() || decision.events.is_empty());
            if !decision.events.is_empty() {
                live.recorded();
                replayed.replay(live.version(), &decision.events, at);
            }
            let after = live.subscriptions().map_or(0, |known| known.sequence);
            prop_assert_eq!(after - before, decision.events.len() as u64);
            if let Command::SetSubscription { subscription, .. } = &command {
                let again = set((**subscription).clone(), SecretChange::Keep);
                let again = live.perform(&again, &policy, at).expect("nobody has to be imported");
                prop_assert_eq!(again.events, []);
            }
        }
        prop_assert_eq!(&live, &replayed);
        let head = postcard::to_allocvec(&live.head()).expect("a row");
        let head = postcard::from_bytes(&head).expect("a row is read");
        prop_assert_eq!(&User::restore(keeper(), head, Vec::new()), &live);
        if let Some(known) = live.subscriptions() {
            prop_assert!(known.set.len() <= 2 && known.replays.len() <= REPLAYS_MAX);
            prop_assert!(known.set.is_sorted_by_key(|set| &set.name));
            prop_assert!(known.set.iter().all(|set| set.secrets.len() <= SECRETS_MAX));
            prop_assert!(known.replays.iter().all(|replay| replay.number <= known.last_replay));
        }
    }
}
