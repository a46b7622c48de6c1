//! Several nodes, two boards and a journal, in steps that a seed chooses: who ends up with what.

mod world;

use proptest::prelude::*;

use self::world::{DEAD_AFTER_MS, NODES, PARTITIONS, World};
use super::*;

/// Nodes that run and have shared everything among them.
fn settled(running: &[usize]) -> World {
    let mut world = World::new(running);
    world.calm(30_000);
    world.check();
    world
}

#[test]
fn nodes_that_start_together_share_everything_and_then_nobody_claims_any_more() {
    let mut world = World::new(&[0, 1, 2, 3]);
    let claims = world.calm(30_000);
    world.check();
    assert!(claims <= 2 * usize::from(PARTITIONS), "{claims}");
    assert_eq!(world.calm(120_000), 0);
    world.check();
}

#[test]
fn a_crash_moves_only_what_the_dead_node_had_and_within_seconds() {
    let mut world = settled(&[0, 1, 2, 3]);
    let before = world.owners();
    let dead = before[0];
    world.nodes[dead].running = false;
    let gap = world.gap_within(30_000);
    world.check();
    for (owner, heir) in before.iter().zip(world.owners()) {
        assert!(*owner == dead || *owner == heir);
        assert_ne!(heir, dead);
    }
    // Until it is dead for the others, its last beat may be a beat old; then the lease.
    assert!((DEAD_AFTER_MS..DEAD_AFTER_MS + 3_000).contains(&gap), "{gap} ms");
}

#[test]
fn a_join_moves_partitions_to_the_joiner_alone_and_each_for_a_moment_only() {
    let mut world = settled(&[0, 1, 2]);
    let before = world.owners();
    world.start(3);
    let gap = world.gap_within(30_000);
    world.check();
    let after = world.owners();
    assert!(before.iter().zip(&after).all(|(owner, heir)| owner == heir || *heir == 3));
    assert!(after.contains(&3));
    assert!(gap <= 1_500, "{gap} ms");
}

#[test]
fn a_drain_leaves_no_partition_unserved_for_longer_than_a_hand_over_takes() {
    let mut world = settled(&[0, 1, 2, 3]);
    let before = world.owners();
    let leaving = before[0];
    world.leave(leaving);
    let gap = world.gap_within(5_000);
    assert!(!world.nodes[leaving].running, "it is done before its patience is over");
    assert!(gap <= 1_500, "{gap} ms");
    world.calm(10_000);
    world.check();
    assert!(before.iter().zip(world.owners()).all(|(was, is)| *was == leaving || *was == is));
}

#[test]
fn who_leaves_waits_until_others_are_warm() {
    let mut world = settled(&[0]);
    world.start(1);
    world.step(&[0; NODES]);
    world.leave(0);
    let gap = world.gap_within(10_000);
    assert!(!world.nodes[0].running);
    assert!(gap <= 1_500, "{gap} ms");
    world.check();
}

#[test]
fn the_last_node_may_leave() {
    let mut world = settled(&[2]);
    world.leave(2);
    world.calm(2_000);
    assert!(!world.nodes[2].running);
    assert!(world.journal.iter().all(|claim| claim.released));
}

#[test]
fn a_node_that_is_cut_off_from_the_boards_loses_everything_and_fights_for_nothing() {
    let mut world = settled(&[0, 1, 2, 3]);
    let cut = world.owners()[0];
    world.nodes[cut].deaf_since = Some(world.now);
    // That it claims nothing is checked at each step.
    world.calm(60_000);
    assert!(!world.owners().contains(&cut));
    let claims = world.claims;
    world.nodes[cut].deaf_since = None;
    world.calm(60_000);
    world.check();
    assert!(world.owners().contains(&cut), "it takes its share again");
    assert!(world.claims - claims <= usize::from(PARTITIONS), "{}", world.claims - claims);
}

#[test]
fn a_node_that_stood_still_comes_back_without_a_fight() {
    let mut world = settled(&[0, 1, 2, 3]);
    let before = world.owners();
    let paused = before[0];
    let share = before.iter().filter(|owner| **owner == paused).count();
    world.nodes[paused].paused = true;
    world.calm(8_000);
    world.nodes[paused].paused = false;
    let claims = world.calm(60_000);
    world.check();
    assert_eq!(world.owners(), before);
    // Each of its partitions is claimed by the standby and then, after a hand-over, by itself.
    assert!(claims <= 2 * share, "{claims} claims for {share} partitions");
}

#[test]
fn whoever_has_no_room_hands_over_what_others_have_room_for_and_keeps_the_rest() {
    let mut world = settled(&[0, 1, 2, 3]);
    let cramped = world.owners()[0];
    world.nodes[cramped].cramped = true;
    let gap = world.gap_within(60_000);
    assert!(gap <= 1_500, "{gap} ms");
    assert!(!world.owners().contains(&cramped));
    world.check();
    (0..NODES).for_each(|node| world.nodes[node].cramped = true);
    world.calm(60_000);
    world.check();
    assert_eq!(world.calm(duty::DISTRUST_MS * 2), 0, "nobody fares better");
}

#[test]
fn a_node_that_was_started_anew_at_once_is_cold_and_its_standby_takes_over() {
    let mut world = settled(&[0, 1, 2, 3]);
    let restarted = world.owners()[0];
    world.start(restarted);
    let gap = world.gap_within(30_000);
    assert!(gap <= 3_000, "nobody waits for a death: {gap} ms");
    world.check();
    assert_eq!(world.owners()[0], restarted, "it has what it had when it is warm");
}

#[test]
fn a_whole_cluster_may_be_started_anew_after_any_time() {
    let mut world = settled(&[0, 1, 2, 3]);
    (0..NODES).for_each(|node| world.nodes[node].running = false);
    world.calm(3_600_000);
    (0..NODES).for_each(|node| world.start(node));
    world.calm(30_000);
    world.check();
}

#[derive(Clone, Debug)]
enum Event {
    Steps(usize, [usize; NODES]),
    Crash(usize),
    Start(usize),
    Pause(usize),
    Cut(usize),
    Heal(usize),
    Drain(usize),
    Fill(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let steps = (1..40_usize, prop::array::uniform(0..4_usize));
    prop_oneof![
        6 => steps.prop_map(|(count, lags)| Event::Steps(count, lags)),
        1 => (0..NODES).prop_map(Event::Crash),
        2 => (0..NODES).prop_map(Event::Start),
        1 => (0..NODES).prop_map(Event::Pause),
        1 => (0..NODES).prop_map(Event::Cut),
        2 => (0..NODES).prop_map(Event::Heal),
        1 => (0..NODES).prop_map(Event::Drain),
        1 => (0..NODES).prop_map(Event::Fill),
    ]
}

impl World {
    fn happen(&mut self, event: Event) {
        match event {
            Event::Steps(count, lags) => (0..count).for_each(|_| self.step(&lags)),
            Event::Crash(node) => self.nodes[node].running = false,
            Event::Start(node) if self.nodes[node].running => {}
            Event::Start(node) => self.start(node),
            Event::Pause(node) => self.nodes[node].paused = true,
            Event::Cut(node) => {
                let now = self.now;
                self.nodes[node].deaf_since.get_or_insert(now);
            }
            Event::Heal(node) => {
                self.nodes[node].paused = false;
                self.nodes[node].deaf_since = None;
            }
            Event::Drain(node) if self.nodes[node].is_up() => self.leave(node),
            Event::Drain(_) => {}
            Event::Fill(node) => self.nodes[node].cramped = true,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happened_each_partition_has_one_owner_that_all_know_once_it_is_calm(
        events in prop::collection::vec(event(), 1..40),
        running in prop::collection::btree_set(0..NODES, 1..=NODES),
        claim_ms in prop::array::uniform(prop::sample::select(vec![250, 750, 3_000])),
    ) {
        let mut world = World::new(&running.into_iter().collect::<Vec<_>>());
        world.claim_ms = claim_ms;
        let troubles = events.iter().filter(|event| !matches!(event, Event::Steps(..))).count();
        events.into_iter().for_each(|event| world.happen(event));
        (0..NODES).for_each(|node| world.happen(Event::Heal(node)));
        // Whoever was asked to stop has stopped by now, and one has to be there.
        world.calm(20_000);
        world.happen(Event::Start(0));
        world.calm(duty::DISTRUST_MS + 60_000);
        world.check();
        let bound = usize::from(PARTITIONS) * 3 * (troubles + 3);
        prop_assert!(world.claims <= bound, "{} claims, {troubles} troubles", world.claims);
        prop_assert_eq!(world.calm(60_000), 0, "claims come to an end");
        world.check();
    }
}
