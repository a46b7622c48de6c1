//! What this node shall do now: a pure function of what it has read, what it has, and the time, which
//! is handed in. It waits for nothing and touches nothing.
//!
//! Nothing is judged before both boards were read whole, and before this start of the node has read a
//! beat of its own that it sent a moment ago: so all nodes judge by the same log, and one that is cut
//! off from it, or was paused, changes nothing until it has caught up. Rule: cluster.md 3.

mod beats;
mod duty;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use self::beats::Beats;
use self::duty::{Case, Duty, Holder, Post, Step};
use super::members::{Beat, NodeState, View};
use super::owners::{Owners, Tenure};
use super::placement::{Placement, StandbyMode};
use super::routes::Owner;
use crate::actors::Seat;
use crate::journal::{Notice, Partition};

/// How long a node that joins waits for the owners of partitions that have none: a partition that
/// nobody can serve must not keep nodes from being started anew.
pub const JOIN_PATIENCE: Duration = Duration::from_secs(60);

/// This node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Its name, unique in its cluster.
    pub node: String,
    /// This start of it.
    pub incarnation: Uuid,
    /// Where other nodes reach it, `host:port`.
    pub address: String,
}

/// How many partitions a node that joins waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Missing {
    /// Others serve them, and this node is to follow them and has not caught up.
    behind: usize,
    /// Nobody that lives is known to own them.
    unowned: usize,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Take these over.
    pub claim: Vec<Partition>,
    /// Hand these over, or give up claiming them.
    pub release: Vec<Partition>,
    /// Follow exactly these, as far as they are not owned.
    pub follow: BTreeSet<Partition>,
    /// Say on the owners' board that this node owns these.
    pub post: Vec<(Partition, Tenure)>,
    /// Partitions that this node serves while the board says otherwise, as far as that is news.
    pub mismatches: u64,
}

/// This node leaves.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    since: Duration,
    /// How long it waits for those who take over to be warm.
    patience: Duration,
}

/// What the node knows and remembers. `here` is always its own time since it was started.
#[derive(Clone, Debug)]
pub struct Planner {
    me: Me,
    dead_after: Duration,
    standby: StandbyMode,
    view: View,
    owners: Owners,
    placement: Placement,
    beats: Beats,
    duties: Vec<Duty>,
    follow: BTreeSet<Partition>,
    leaving: Option<Leaving>,
    /// The last beat of a node that leaves and holds nothing any more was sent.
    farewell: bool,
    judging_since: Option<Duration>,
    joined: bool,
    /// The store has refused rows, and takes none before the node is started again.
    cramped: bool,
}

/// Whether the node has an office in the partition, or is about to take or leave one.
fn is_held(seat: Seat) -> bool {
    match seat {
        Seat::Claiming | Seat::Serving { .. } | Seat::Leaving => true,
        Seat::Vacant | Seat::StandingBy { .. } => false,
    }
}

impl Planner {
    /// It has read nothing yet. A node is dead when it was silent for longer than `dead_after`.
    pub fn new(me: Me, partitions: u16, dead_after: Duration, standby: StandbyMode) -> Self {
        Self {
            beats: Beats::new(me.incarnation),
            me,
            dead_after,
            standby,
            view: View::new(dead_after),
            owners: Owners::new(partitions),
            placement: Placement::new(partitions),
            duties: vec![Duty::default(); usize::from(partitions)],
            follow: BTreeSet::new(),
            leaving: None,
            farewell: false,
            judging_since: None,
            joined: false,
            cramped: false,
        }
    }

    /// Takes the next notice of the members' board in.
    pub fn hear_member(&mut self, notice: &Notice, here: Duration) {
        if let Some(beat) = self.view.apply(notice, here)
            && beat.node == self.me.node
        {
            self.beats.read(beat, here);
        }
        if let Some(sent) = self.beats.seen_as_of() {
            self.view.advance(sent);
        }
    }

    /// Takes the next notice of the owners' board in; answers the owner that it tells of.
    pub fn hear_owner(&mut self, notice: &Notice) -> Option<(Partition, Owner)> {
        let (partition, tenure) = self.owners.apply(notice)?;
        Some((partition, tenure.owner()))
    }

    /// The node was asked to stop and has `patience` for it.
    pub fn leave(&mut self, here: Duration, patience: Duration) {
        // Half of the time for others to become warm, half of it to hand over whatever happens.
        self.leaving.get_or_insert(Leaving { since: here, patience: patience / 2 });
        self.beats.hurry(here);
    }

    /// Who is there, as far as was read.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Notices of both boards that could not be read.
    pub fn unreadable(&self) -> u64 {
        self.view.unreadable() + self.owners.unreadable()
    }

    /// Whether another node has this one's name and was started later. Then this one gives way.
    pub fn gives_way(&self, here: Duration) -> bool {
        self.beats.have_namesake(here, self.dead_after)
    }

    /// Whether the node leaves, holds nothing any more, and has said so.
    pub fn has_left(&self, here: Duration, seats: &[Seat]) -> bool {
        let gone = self.farewell || self.gives_way(here);
        self.leaving.is_some() && gone && !seats.iter().copied().any(is_held)
    }

    fn judges(&self, here: Duration) -> bool {
        self.view.is_whole()
            && self.owners.is_whole()
            && self.beats.are_fresh(here, self.dead_after)
            && self.view.find_start(&self.me.node, self.me.incarnation).is_some()
            && !self.gives_way(here)
    }

    /// Decides. `seats` are this node's, by partition.
    pub fn look(&mut self, here: Duration, seats: &[Seat]) -> Orders {
        self.cramped |=
            seats.iter().any(|seat| matches!(seat, Seat::Serving { cramped: true, .. }));
        if self.view.suspects(self.beats.last_sent(), here) {
            self.beats.hurry(here);
        }
        self.placement.refresh(&self.view);
        let mut orders = Orders::default();
        let (now, judges) = (self.view.now(), self.judges(here));
        for (partition, seat) in (0..).map(Partition).zip(seats.iter().copied()) {
            let Some(duty) = self.duties.get_mut(usize::from(partition.0)) else { break };
            duty.observe(seat, now);
            let step = if self.leaving.is_some() || self.gives_way(here) {
                self.step_down(partition, seat, here, judges)
            } else if judges {
                let case = self.case(partition, seat);
                self.duties[usize::from(partition.0)].step(&case)
            } else {
                self.duties[usize::from(partition.0)].suspend();
                Step::Nothing
            };
            let duty = &mut self.duties[usize::from(partition.0)];
            match step {
                Step::Nothing => {}
                Step::Claim => orders.claim.push(partition),
                Step::Release if duty.may_order_release(here) => orders.release.push(partition),
                Step::Release => {}
            }
            self.post(partition, seat, here, judges, &mut orders);
        }
        if !orders.claim.is_empty() {
            self.beats.hurry(here);
        }
        if self.leaving.is_some() || self.gives_way(here) {
            self.follow.clear();
        } else if judges {
            self.follow = self.followed(seats.len());
            self.join(here, seats);
        }
        if self.leaving.is_some() && !self.farewell && !seats.iter().copied().any(is_held) {
            self.beats.hurry(here);
        }
        orders.follow.clone_from(&self.follow);
        orders
    }

    fn case(&self, partition: Partition, seat: Seat) -> Case {
        let (view, owners) = (&self.view, &self.owners);
        let owner = self.placement.heir(view, owners, partition, None);
        let is_me = |beat: &Beat| beat.node == self.me.node;
        let holder = match owners.highest(partition) {
            None => Holder::Unknown { alone: view.alive().all(is_me) },
            Some(tenure) if tenure.node == self.me.node => {
                if tenure.incarnation == self.me.incarnation { Holder::Mine } else { Holder::Gone }
            }
            Some(tenure) => match view.find_start(&tenure.node, tenure.incarnation) {
                Some(beat) => Holder::Living {
                    let_go: beat.state == NodeState::Leaving && !beat.warm.contains(&partition),
                },
                None => Holder::Gone,
            },
        };
        Case {
            seat,
            now: view.now(),
            rightful: owner.is_some_and(|(beat, _)| is_me(beat)),
            heir_is_fit: owner.is_some_and(|(_, fit)| fit),
            holder,
        }
    }

    /// The node gives up what it has, in order if it can: when the others know that it leaves, and each
    /// partition when whoever takes it over is warm for it.
    fn step_down(&self, partition: Partition, seat: Seat, here: Duration, judges: bool) -> Step {
        if !matches!(seat, Seat::Claiming | Seat::Serving { .. }) {
            return Step::Nothing;
        }
        let in_order =
            judges && self.leaving.is_some_and(|leaving| here < leaving.since + leaving.patience);
        if in_order {
            let told = self.view.find(&self.me.node);
            let is_known = told.is_some_and(|beat| beat.state == NodeState::Leaving);
            let (view, owners) = (&self.view, &self.owners);
            let heir = self.placement.heir(view, owners, partition, Some(&self.me.node));
            if !is_known || heir.is_some_and(|(_, fit)| !fit) {
                return Step::Nothing;
            }
        }
        Step::Release
    }

    fn followed(&self, partitions: usize) -> BTreeSet<Partition> {
        let (view, owners, node) = (&self.view, &self.owners, &self.me.node);
        let follows =
            |name: &Partition| self.placement.follows(view, owners, *name, node, self.standby);
        (0..).map(Partition).take(partitions).filter(follows).collect()
    }

    /// Says what this node owns: at first, when something else stands there, and from time to time.
    fn post(
        &mut self,
        partition: Partition,
        seat: Seat,
        here: Duration,
        judges: bool,
        orders: &mut Orders,
    ) {
        let duty = &mut self.duties[usize::from(partition.0)];
        let Seat::Serving { epoch, .. } = seat else {
            duty.rivalled(None);
            return;
        };
        let Me { node, incarnation, address } = &self.me;
        let is_mine = |tenure: &Tenure| tenure.node == *node && tenure.incarnation == *incarnation;
        let highest = self.owners.highest(partition);
        let rival = highest.filter(|highest| highest.epoch > epoch && !is_mine(highest));
        orders.mismatches += u64::from(duty.rivalled(rival.map(|rival| rival.epoch)));
        if rival.is_some() {
            // It was deposed and is about to find out.
            return;
        }
        let last = self.owners.last(partition);
        let stands = last.is_some_and(|last| last.epoch == epoch && is_mine(last));
        let post = duty.post(epoch, stands, judges, here);
        orders.mismatches += u64::from(post == Post::Again);
        if post != Post::No {
            let (node, address) = (node.clone(), address.clone());
            orders
                .post
                .push((partition, Tenure { epoch, node, incarnation: *incarnation, address }));
        }
    }

    /// A node has joined when it knows a living owner of every partition, itself included, or after
    /// [`JOIN_PATIENCE`], and has caught up with what it follows of others, however long that takes:
    /// whoever stops nodes one after the other stops the next one then.
    fn join(&mut self, here: Duration, seats: &[Seat]) {
        let began = *self.judging_since.get_or_insert(here);
        let late = here.saturating_sub(began) >= JOIN_PATIENCE;
        let missing = self.missing(seats);
        self.joined |= missing.behind == 0 && (missing.unowned == 0 || late);
    }

    /// What keeps this node from having joined.
    fn missing(&self, seats: &[Seat]) -> Missing {
        let mut missing = Missing::default();
        for (partition, seat) in (0..).map(Partition).zip(seats) {
            if matches!(seat, Seat::Serving { .. }) {
                continue;
            }
            let is_behind =
                matches!(seat, Seat::Vacant | Seat::StandingBy { caught_up: false, .. });
            if !self.owners.is_held(partition, &self.view) {
                missing.unowned += 1;
            } else if is_behind && self.follow.contains(&partition) {
                missing.behind += 1;
            }
        }
        missing
    }

    /// Why the node does not take part, if it does not. Once it has joined, it takes part until it
    /// leaves: a board that stands still, or a partition without an owner, is nothing that another node
    /// would do better with.
    pub fn unready(&self, here: Duration, seats: &[Seat]) -> Option<String> {
        if self.leaving.is_some() {
            Some("the node is leaving the cluster".into())
        } else if !self.view.is_whole() || !self.owners.is_whole() {
            Some("the cluster's notice boards are being read".into())
        } else if self.gives_way(here) {
            Some("another node with the same name was started later".into())
        } else if !self.beats.were_seen() || self.view.find(&self.me.node).is_none() {
            Some("the cluster does not see this node".into())
        } else if !self.joined {
            let (Missing { behind, unowned }, all) = (self.missing(seats), seats.len());
            Some(format!(
                "of {all} partitions this node has not caught up with {behind}, and {unowned} have \
                 no owner yet"
            ))
        } else {
            None
        }
    }

    /// Whether the node should show that it lives, if it is well.
    pub fn beat_is_due(&self, here: Duration) -> bool {
        self.beats.is_due(here) && !self.gives_way(here)
    }

    /// The sign of life that is posted now.
    pub fn beat(&mut self, here: Duration, seats: &[Seat]) -> Beat {
        let now = self.view.now();
        let all = (0..).map(Partition).zip(seats.iter().copied()).zip(&self.duties);
        let warm: BTreeSet<Partition> = all
            .filter(|((_, seat), duty)| match self.leaving {
                Some(_) => is_held(*seat),
                None => duty.is_warm(*seat, now),
            })
            .map(|((partition, _), _)| partition)
            .collect();
        let state = match (self.leaving, self.joined) {
            (Some(_), _) => NodeState::Leaving,
            (None, true) => NodeState::Active,
            (None, false) => NodeState::Joining,
        };
        self.farewell = self.leaving.is_some() && warm.is_empty();
        let cramped = self.cramped;
        let Me { node, incarnation, address } = self.me.clone();
        Beat { node, incarnation, number: self.beats.send(here), address, state, warm, cramped }
    }
}
