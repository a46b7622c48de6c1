//! Whatever users do, a right history holds.

use proptest::prelude::*;

use super::*;
use crate::domain::Agreement;

/// One step of a random history; numbers pick users and channels.
#[derive(Clone, Debug)]
enum Step {
    Import(usize),
    Allow(usize, u8),
    Delete(usize),
    Block(usize, usize, usize),
    Unblock(usize, usize),
    Add(usize, usize, usize, u8, bool),
    Remove(usize, usize, bool),
    Clear(usize, bool),
    Answer(usize, usize, u8),
    Deliver(usize, usize),
    Drain,
    Checkpoint(u16),
    Claim(u16),
    KeepFriends(bool),
}

fn steps() -> impl Strategy<Value = Step> {
    let user = || 0..NAMES.len();
    prop_oneof![
        1 => user().prop_map(Step::Import),
        2 => (user(), 0..3_u8).prop_map(|(a, allow)| Step::Allow(a, allow)),
        1 => user().prop_map(Step::Delete),
        5 => (user(), user(), user()).prop_map(|(a, b, c)| Step::Block(a, b, c)),
        4 => (user(), user()).prop_map(|(a, b)| Step::Unblock(a, b)),
        9 => (user(), user(), user(), 0..5_u8, any::<bool>())
            .prop_map(|(a, b, c, form, forced)| Step::Add(a, b, c, form, forced)),
        4 => (user(), user(), any::<bool>()).prop_map(|(a, b, both)| Step::Remove(a, b, both)),
        1 => (user(), any::<bool>()).prop_map(|(a, both)| Step::Clear(a, both)),
        4 => (user(), user(), 0..3_u8).prop_map(|(a, b, answer)| Step::Answer(a, b, answer)),
        14 => (any::<usize>(), 1..4_usize).prop_map(|(channel, max)| Step::Deliver(channel, max)),
        1 => Just(Step::Drain),
        1 => (0..3_u16).prop_map(Step::Checkpoint),
        1 => (0..3_u16).prop_map(Step::Claim),
        1 => any::<bool>().prop_map(Step::KeepFriends),
    ]
}

fn take(world: &mut World, step: &Step) {
    match *step {
        Step::Import(a) => world.import(NAMES[a]),
        Step::Allow(a, allow) => {
            let types = [AllowType::AllowAny, AllowType::NeedConfirm, AllowType::DenyAny];
            world.allow(NAMES[a], types[usize::from(allow)]);
        }
        Step::Delete(a) => world.delete(NAMES[a]),
        Step::Block(a, b, c) => world.block(NAMES[a], &[NAMES[b], NAMES[c]]),
        Step::Unblock(a, b) => world.unblock(NAMES[a], &[NAMES[b]]),
        Step::Add(a, b, c, form, forced) => {
            let form = match form {
                0..3 => OfferForm::TwoWay,
                3 => OfferForm::OneWay,
                _ => OfferForm::Import,
            };
            world.add(NAMES[a], &[NAMES[b], NAMES[c]], form, forced);
        }
        Step::Remove(a, b, both) => world.remove(NAMES[a], NAMES[b], both),
        Step::Clear(a, both) => world.clear(NAMES[a], both),
        Step::Answer(a, b, answer) => {
            let answers = [None, Some(Agreement::Both), Some(Agreement::OneWay)];
            world.answer(NAMES[a], NAMES[b], answers[usize::from(answer)]);
        }
        Step::Deliver(channel, max) => {
            let busy = world.busy();
            if let Some(picked) = channel.checked_rem(busy.len()) {
                world.pump(busy[picked], max);
            }
        }
        Step::Drain => world.drain(),
        Step::Checkpoint(partition) => world.checkpoint(Partition(partition)),
        Step::Claim(partition) => world.claim(Partition(partition)),
        Step::KeepFriends(keep) => world.policy.remain_friends = keep,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_users_do_the_journal_holds_at_every_moment(
        history in prop::collection::vec(steps(), 0..80),
    ) {
        let mut world = World::of(3, &NAMES);
        for step in &history {
            take(&mut world, step);
        }
        for drained in [false, true] {
            if drained {
                world.drain();
            }
            let found = report(&world.memory);
            prop_assert!(found.holds, "{:#?}", found.problems);
            prop_assert_eq!(found.warnings.total, 0);
            prop_assert_eq!(found.owed, world.owed());
            for one in &found.partitions {
                prop_assert_eq!(&one.hash, &world.hash(one.partition).to_string());
            }
            // The same story, whatever the order between partitions.
            for backwards in [false, true] {
                let other = report(&world.memory.clone().sorted(backwards));
                let told = Report { duration_ms: found.duration_ms, ..other };
                prop_assert_eq!(&told, &found);
            }
        }
    }
}
