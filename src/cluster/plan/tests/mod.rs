//! When a node claims, waits, hands over, follows, posts and gives way.

mod joining;

use super::beats::{BEAT, BEAT_WITH_NEWS};
use super::duty::{
    CLAIMING_MS, DISTRUST_MS, HANDOVER_PATIENCE_MS, POST_PATIENCE, POST_REPEAT, RELEASE_REPEAT,
    RUMOUR_PATIENCE_MS, SETTLED_MS,
};
use super::*;
use crate::journal::Epoch;

const PARTITIONS: u16 = 8;
const DEAD_AFTER: Duration = Duration::from_secs(5);
const SERVING: Seat = Seat::Serving { epoch: Epoch(4), cramped: false };
const CRAMPED: Seat = Seat::Serving { epoch: Epoch(4), cramped: true };
const RELEASED: Seat = Seat::StandingBy { caught_up: true, released: true };
const WARM: Seat = Seat::StandingBy { caught_up: true, released: false };
const BEHIND: Seat = Seat::StandingBy { caught_up: false, released: false };
/// The start of the node under test; others have [`Uuid::nil`].
const ME: Uuid = Uuid::from_u128(7);

fn all() -> BTreeSet<Partition> {
    (0..PARTITIONS).map(Partition).collect()
}

fn everything() -> Vec<Partition> {
    all().into_iter().collect()
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

/// The node "me". Times are its own, in milliseconds; the stamps on the board are of no account.
struct Mind {
    planner: Planner,
    seats: Vec<Seat>,
}

impl Mind {
    /// It has read two empty boards and nothing else.
    fn new() -> Self {
        let me = Me { node: "me".into(), incarnation: ME, address: "me:7000".into() };
        let planner = Planner::new(me, PARTITIONS, DEAD_AFTER, StandbyMode::One);
        let mut mind = Self { planner, seats: vec![Seat::Vacant; usize::from(PARTITIONS)] };
        mind.planner.hear_member(&Notice::CaughtUp, Duration::ZERO);
        mind.planner.hear_owner(&Notice::CaughtUp);
        mind
    }

    fn seated(seat: Seat) -> Self {
        Self { seats: vec![seat; usize::from(PARTITIONS)], ..Self::new() }
    }

    fn hear(&mut self, beat: &Beat, at: i64) {
        let value = serde_json::to_vec(beat).expect("a beat is JSON");
        let notice = Notice::Posted { key: beat.node.clone(), value };
        self.planner.hear_member(&notice, millis(at));
    }

    /// Its own beat goes out and comes back.
    fn beats(&mut self, at: i64) -> Beat {
        let beat = self.planner.beat(millis(at), &self.seats);
        self.hear(&beat, at);
        beat
    }

    fn other(&mut self, node: &str, state: NodeState, warm: BTreeSet<Partition>, at: i64) {
        let (node, address) = (node.to_owned(), format!("{node}:7000"));
        let incarnation = Uuid::nil();
        let beat = Beat { node, incarnation, number: 1, address, state, warm, cramped: false };
        self.hear(&beat, at);
    }

    fn owned_by(&mut self, node: &str, incarnation: Uuid, epoch: u64) {
        for partition in all() {
            let (epoch, node, address) = (Epoch(epoch), node.to_owned(), format!("{node}:7000"));
            let tenure = Tenure { epoch, node, incarnation, address };
            let value = serde_json::to_vec(&tenure).expect("a claim is JSON");
            let notice = Notice::Posted { key: partition.to_string(), value };
            assert!(self.planner.hear_owner(&notice).is_some());
        }
    }

    fn look(&mut self, at: i64) -> Orders {
        self.planner.look(millis(at), &self.seats)
    }
}

#[test]
fn a_node_that_is_alone_claims_everything_at_once() {
    let mut mind = Mind::new();
    mind.beats(0);
    assert_eq!(mind.look(0).claim, everything());
}

#[test]
fn nothing_is_judged_before_both_boards_were_read_whole() {
    let whole = Mind::new();
    let unread = |members: bool, owners: bool| {
        let mut mind = Mind::new();
        mind.planner.view = View::new(DEAD_AFTER);
        mind.planner.owners = Owners::new(PARTITIONS);
        if members {
            mind.planner.view = whole.planner.view.clone();
        }
        if owners {
            mind.planner.owners = whole.planner.owners.clone();
        }
        mind.beats(0);
        mind.look(0).claim.len()
    };
    assert_eq!([unread(false, false), unread(true, false), unread(false, true)], [0; 3]);
    assert_eq!(unread(true, true), usize::from(PARTITIONS));
}

#[test]
fn nothing_is_judged_before_a_beat_of_this_very_start_was_read_back() {
    let mut mind = Mind::seated(WARM);
    assert_eq!(mind.look(0), Orders::default());
    mind.other("other", NodeState::Active, all(), 0);
    assert_eq!(mind.look(0), Orders::default());
    // What an earlier start has left behind is not this one.
    mind.other("me", NodeState::Active, all(), 0);
    assert_eq!(mind.look(0), Orders::default());
    assert!(mind.planner.unready(millis(0), &mind.seats).is_some());
    mind.beats(0);
    assert!(!mind.look(0).follow.is_empty());
}

#[test]
fn a_node_that_has_not_read_a_recent_beat_of_its_own_changes_nothing() {
    let mut mind = Mind::seated(WARM);
    mind.beats(0);
    let followed = mind.look(0).follow;
    mind.seats = vec![WARM; usize::from(PARTITIONS)];
    // By its own clock: the board's stands still.
    let orders = mind.look(DEAD_AFTER.as_millis() as i64);
    assert_eq!(orders, Orders { follow: followed, ..Orders::default() });
    // Old beats that are read late say nothing about the present.
    let late = mind.planner.beat(millis(6_000), &mind.seats);
    mind.hear(&late, 12_000);
    assert_eq!(mind.look(12_000).claim, []);
    mind.beats(12_500);
    assert_eq!(mind.look(12_500).claim, everything());
}

#[test]
fn a_living_owner_is_waited_for_and_not_for_ever() {
    let mut mind = Mind::seated(WARM);
    mind.owned_by("old", Uuid::nil(), 3);
    // It leaves, so this node is the rightful owner; but it has not released anything yet.
    for at in (0..HANDOVER_PATIENCE_MS).step_by(1000) {
        mind.beats(at);
        mind.other("old", NodeState::Leaving, all(), at);
        assert_eq!(mind.look(at).claim, [], "{at}");
    }
    mind.beats(HANDOVER_PATIENCE_MS);
    mind.other("old", NodeState::Leaving, all(), HANDOVER_PATIENCE_MS);
    assert_eq!(mind.look(HANDOVER_PATIENCE_MS).claim, everything());
}

#[test]
fn a_release_is_answered_by_a_claim_at_once() {
    let mut mind = Mind::seated(RELEASED);
    mind.owned_by("old", Uuid::nil(), 3);
    mind.beats(0);
    mind.other("old", NodeState::Leaving, all(), 0);
    assert_eq!(mind.look(0).claim, everything());
    // A claim that comes to nothing is not repeated in the same breath.
    assert_eq!(mind.look(0).claim, []);
}

#[test]
fn who_leaves_and_says_that_it_holds_a_partition_no_more_is_not_waited_for() {
    let mut mind = Mind::seated(BEHIND);
    mind.owned_by("old", Uuid::nil(), 3);
    mind.beats(0);
    mind.other("old", NodeState::Leaving, BTreeSet::from([Partition(2)]), 0);
    let claim = mind.look(0).claim;
    assert_eq!((claim.len(), claim.contains(&Partition(2))), (7, false));
}

#[test]
fn a_release_that_was_read_before_the_end_is_no_release() {
    let mut mind = Mind::seated(Seat::StandingBy { caught_up: false, released: true });
    mind.owned_by("old", Uuid::nil(), 3);
    mind.beats(0);
    mind.other("old", NodeState::Leaving, all(), 0);
    assert_eq!(mind.look(0).claim, []);
}

#[test]
fn a_dead_owner_and_one_that_began_anew_are_not_waited_for() {
    let mut mind = Mind::seated(WARM);
    mind.owned_by("old", Uuid::nil(), 3);
    mind.other("old", NodeState::Active, all(), 0);
    mind.beats(6_000);
    assert_eq!(mind.look(6_000).claim, everything(), "dead");

    let mut mind = Mind::seated(WARM);
    mind.owned_by("old", Uuid::max(), 3);
    mind.beats(0);
    mind.other("old", NodeState::Joining, BTreeSet::new(), 0);
    assert_eq!(mind.look(0).claim, everything(), "its name and address are the same");

    let mut mind = Mind::seated(WARM);
    mind.owned_by("me", Uuid::nil(), 3);
    mind.beats(0);
    assert_eq!(mind.look(0).claim, everything(), "an earlier start of this node");
}

#[test]
fn who_may_be_dead_is_found_out_by_a_beat_at_once() {
    let mut mind = Mind::seated(WARM);
    mind.owned_by("old", Uuid::nil(), 3);
    mind.other("old", NodeState::Active, all(), 0);
    mind.beats(4_900);
    mind.look(5_000);
    assert!(!mind.planner.beat_is_due(millis(5_001)));
    // Its own last beat came back before.
    assert_eq!(mind.look(5_001).claim, []);
    assert!(!mind.planner.beat_is_due(millis(5_001)), "not so soon after the last one");
    assert!(mind.planner.beat_is_due(millis(4_900) + BEAT_WITH_NEWS));
    mind.beats(5_100);
    assert_eq!(mind.look(5_100).claim, everything());
}

#[test]
fn what_nobody_is_known_to_own_is_claimed_when_rumours_have_had_their_time() {
    let mut mind = Mind::seated(WARM);
    mind.beats(0);
    mind.other("other", NodeState::Active, BTreeSet::new(), 0);
    assert_eq!(mind.look(0).claim, []);
    mind.beats(RUMOUR_PATIENCE_MS);
    assert_eq!(mind.look(RUMOUR_PATIENCE_MS).claim, everything());
}

#[test]
fn a_partition_that_was_lost_is_claimed_again_more_and_more_rarely() {
    let mut mind = Mind::new();
    let mut claims = Vec::new();
    let mut at = 0;
    while claims.len() < 9 {
        mind.beats(at);
        // Each claim takes effect and is lost in the next moment.
        let claimed = !mind.look(at).claim.is_empty();
        if claimed {
            claims.push(at);
            mind.seats.fill(Seat::Claiming);
            mind.look(at);
            mind.seats.fill(SERVING);
            mind.look(at);
            mind.seats.fill(Seat::Vacant);
            mind.look(at);
        }
        at += 250;
    }
    let pauses: Vec<i64> = claims.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    // Whoever was in office for long enough begins with the shortest pause again.
    mind.seats.fill(SERVING);
    mind.look(at);
    for _ in 0..=SETTLED_MS / 1_000 {
        at += 1_000;
        mind.beats(at);
        mind.look(at);
    }
    mind.seats.fill(Seat::Vacant);
    assert_eq!(mind.look(at).claim, []);
    mind.beats(at + 1_000);
    assert_eq!(mind.look(at + 1_000).claim, everything());
}

#[test]
fn who_claims_in_vain_does_not_call_itself_warm_for_a_while() {
    let mut mind = Mind::seated(WARM);
    mind.beats(0);
    for at in [0, 1_000] {
        assert_eq!(mind.beats(at).warm, all());
        assert_eq!(mind.look(at).claim, everything(), "{at}");
        // It has come to nothing.
        mind.look(at);
    }
    assert_eq!(mind.beats(2_000).warm, BTreeSet::new());
    mind.beats(1_000 + DISTRUST_MS);
    mind.look(1_000 + DISTRUST_MS);
    assert_eq!(mind.beats(1_000 + DISTRUST_MS).warm, all());
}

#[test]
fn what_somebody_else_should_own_and_can_serve_is_handed_over() {
    let mut mind = Mind::seated(SERVING);
    mind.owned_by("me", ME, 4);
    mind.beats(0);
    mind.other("new", NodeState::Joining, BTreeSet::new(), 0);
    assert_eq!(mind.look(0).release, [], "it is cold");
    mind.other("new", NodeState::Active, all(), 0);
    let release = mind.look(0).release;
    assert!(!release.is_empty() && release.len() < usize::from(PARTITIONS), "{release:?}");
    // Said again only when it shows no effect.
    assert_eq!(mind.look(100).release, []);
    assert_eq!(mind.look(RELEASE_REPEAT.as_millis() as i64).release, release);
}

#[test]
fn who_has_no_room_hands_over_to_whoever_is_warm_and_wants_nothing_back() {
    let mut mind = Mind::seated(SERVING);
    mind.owned_by("me", ME, 4);
    mind.beats(0);
    mind.other("new", NodeState::Active, BTreeSet::new(), 0);
    mind.seats[3] = CRAMPED;
    mind.look(0);
    assert!(mind.beats(0).cramped);
    assert_eq!(mind.look(0).release, [], "nobody fares better");
    mind.other("new", NodeState::Active, all(), 1_000);
    assert_eq!(mind.look(1_000).release, everything());
    mind.seats.fill(RELEASED);
    mind.other("new", NodeState::Active, all(), 2_000);
    mind.beats(2_000);
    assert_eq!(mind.look(2_000).claim, [], "it would be the same again");
    // But better than nobody.
    mind.beats(8_000);
    assert_eq!(mind.look(8_000).claim, everything());
}

#[test]
fn an_owner_that_nobody_has_heard_of_yet_stays_in_office() {
    let mut mind = Mind::new();
    mind.beats(0);
    mind.seats.fill(SERVING);
    mind.other("new", NodeState::Joining, BTreeSet::new(), 0);
    assert_eq!(mind.look(0).release, [], "nobody is fit, and this node serves");
}

#[test]
fn a_claim_that_is_somebody_elses_by_now_is_given_up() {
    let mut mind = Mind::seated(Seat::Claiming);
    mind.beats(0);
    mind.look(0);
    // Its claim makes it warm, so a cold node does not come before it, for a while.
    assert_eq!(mind.beats(0).warm, all());
    mind.other("new", NodeState::Joining, BTreeSet::new(), 0);
    assert_eq!(mind.look(0).release, []);
    mind.other("new", NodeState::Active, all(), CLAIMING_MS);
    mind.beats(CLAIMING_MS);
    assert_eq!(mind.beats(CLAIMING_MS).warm, BTreeSet::new());
    assert_eq!(mind.look(CLAIMING_MS).release, everything());
}

#[test]
fn who_leaves_says_so_first_and_hands_over_when_somebody_is_warm() {
    let mut mind = Mind::new();
    mind.seats = vec![SERVING, WARM, Seat::Vacant, RELEASED, Seat::Claiming, SERVING, WARM, WARM];
    mind.beats(0);
    let cold = [0, 3, 4].map(Partition);
    let warm: BTreeSet<_> = all().into_iter().filter(|name| !cold.contains(name)).collect();
    mind.other("heir", NodeState::Active, warm, 0);
    mind.look(0);
    mind.planner.leave(millis(0), millis(10_000));
    assert_eq!(mind.look(0).release, [], "nobody knows yet that it leaves");
    assert!(mind.planner.beat_is_due(BEAT_WITH_NEWS));
    let beat = mind.beats(200);
    assert_eq!((beat.state, beat.warm), (NodeState::Leaving, [0, 4, 5].map(Partition).into()));
    let orders = mind.look(200);
    assert_eq!((orders.release, orders.claim), (vec![Partition(5)], vec![]));
    assert_eq!(orders.follow, BTreeSet::new());
    // Nobody became warm for the others, so they are handed over cold.
    assert_eq!(mind.look(1_000).release, []);
    mind.seats[5] = Seat::Vacant;
    assert_eq!(mind.look(5_000).release, [Partition(0), Partition(4)]);
    assert!(!mind.planner.has_left(millis(5_000), &mind.seats));
    mind.seats.fill(Seat::Vacant);
    mind.look(5_000);
    assert!(!mind.planner.has_left(millis(5_000), &mind.seats), "the others do not know yet");
    assert!(mind.planner.beat_is_due(millis(5_000)));
    assert_eq!(mind.beats(5_000).warm, BTreeSet::new());
    assert!(mind.planner.has_left(millis(5_000), &mind.seats));
}

#[test]
fn who_leaves_and_is_cut_off_waits_for_nobody() {
    let mut mind = Mind::seated(SERVING);
    mind.beats(0);
    mind.planner.leave(millis(9_000), millis(60_000));
    assert_eq!(mind.look(9_000).release, everything());
}

#[test]
fn of_two_nodes_with_one_name_the_one_that_was_started_first_gives_way() {
    let namesake = |incarnation: Uuid| Beat {
        node: "me".into(),
        incarnation,
        number: 1,
        address: "other:7000".into(),
        state: NodeState::Joining,
        warm: BTreeSet::new(),
        cramped: false,
    };
    let mut mind = Mind::seated(SERVING);
    // What stood there before this start is an earlier one, whatever its clock showed.
    mind.hear(&namesake(Uuid::max()), 0);
    mind.beats(0);
    assert!(mind.planner.beat_is_due(BEAT));
    // An earlier start that still beats gives way itself.
    mind.hear(&namesake(Uuid::nil()), 100);
    assert!(!mind.planner.gives_way(millis(100)));
    mind.seats.fill(WARM);
    assert_eq!(mind.look(100).claim, [], "what stands under the name is not this start's");
    mind.beats(200);
    assert_eq!(mind.look(200).claim, everything());
    mind.seats.fill(SERVING);
    mind.hear(&namesake(Uuid::max()), 300);
    assert!(mind.planner.gives_way(millis(300)));
    assert_eq!(mind.look(300).release, everything());
    assert!(!mind.planner.beat_is_due(millis(2_000)));
    assert!(mind.planner.unready(millis(300), &mind.seats).is_some());
    // When it is gone, this one lives on.
    assert!(mind.planner.beat_is_due(millis(5_300)));
}

#[test]
fn an_owner_posts_its_claim_once_and_again_where_it_is_missing_and_rarely_anyway() {
    let mut mind = Mind::seated(SERVING);
    mind.beats(0);
    let tenures = mind.look(0).post;
    let (partition, tenure) = &tenures[3];
    assert_eq!((tenures.len(), *partition), (usize::from(PARTITIONS), Partition(3)));
    assert_eq!((tenure.epoch, &*tenure.node, tenure.incarnation), (Epoch(4), "me", ME));
    assert_eq!(mind.look(100).post, []);
    // The notices were lost.
    let late = POST_PATIENCE.as_millis() as i64;
    mind.beats(late);
    let orders = mind.look(late);
    assert_eq!((orders.post.len(), orders.mismatches), (8, 8));
    mind.owned_by("me", ME, 4);
    let later = late + POST_REPEAT.as_millis() as i64 - 1;
    mind.beats(later);
    assert_eq!(mind.look(later).post, []);
    assert_eq!(mind.look(later + 1).post.len(), 8);
    // Somebody deposed says that it owns them.
    mind.owned_by("old", Uuid::nil(), 3);
    mind.beats(later + late + 1);
    assert_eq!(mind.look(later + late + 1).post.len(), 8);
    // A new term is told at once.
    mind.seats.fill(Seat::Serving { epoch: Epoch(5), cramped: false });
    assert_eq!(mind.look(later + late + 2).post.len(), 8);
}

#[test]
fn who_was_deposed_and_does_not_know_it_posts_nothing_and_is_not_warm() {
    let mut mind = Mind::seated(SERVING);
    mind.beats(0);
    mind.owned_by("new", Uuid::nil(), 5);
    let orders = mind.look(0);
    assert_eq!((orders.post, orders.mismatches), (vec![], 8));
    assert_eq!(mind.look(1).mismatches, 0, "it is no news any more");
    assert_eq!(mind.beats(1).warm, BTreeSet::new());
}
