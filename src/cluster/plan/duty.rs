//! What is due for one partition: a pure rule, and what has to be remembered for it.
//!
//! Two times, both handed in and both of this node's own clock: the board's, which stands still while
//! nothing is read from it, and the present, by which it repeats what may have been lost.

use std::time::Duration;

use crate::actors::Seat;
use crate::journal::Epoch;

/// How long, by the board's clock, the rightful owner of a partition waits for the release of an
/// owner that lives, in milliseconds. Claiming without one is safe; it only costs a lease.
pub(super) const HANDOVER_PATIENCE_MS: i64 = 10_000;
/// How long the rightful owner waits to hear of an owner when others live that may have claimed the
/// partition a moment ago, in milliseconds by the board's clock.
pub(super) const RUMOUR_PATIENCE_MS: i64 = 1_500;
/// The pauses after a partition was lost to somebody else or a claim came to nothing, in milliseconds
/// by the board's clock: the first one, doubling up to the last. Rule: cluster.md 2.4.
pub(super) const CLAIM_PAUSE_MS: (i64, i64) = (1_000, 30_000);
/// After this long in office, in milliseconds by the board's clock, earlier losses count no more.
pub(super) const SETTLED_MS: i64 = 30_000;
/// How long a claim may take, in milliseconds by the board's clock, before the node may not call
/// itself warm on its account.
pub(super) const CLAIMING_MS: i64 = 60_000;
/// This many claims that came to nothing, one after the other, and the node does not call itself warm
/// any more: somebody else may fare better.
pub(super) const VAIN_MAX: u32 = 2;
/// For this long, in milliseconds by the board's clock.
pub(super) const DISTRUST_MS: i64 = 300_000;
/// How often, by the node's own clock, an order to release is repeated while it shows no effect.
pub(super) const RELEASE_REPEAT: Duration = Duration::from_secs(1);
/// How often, by the node's own clock, owners say again what they own, so that a lost notice heals.
pub(super) const POST_REPEAT: Duration = Duration::from_secs(60);
/// How long, by the node's own clock, a notice may take to stand on the board before it is lost.
pub(super) const POST_PATIENCE: Duration = Duration::from_secs(2);

/// The owner of a partition as it was heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// Nobody was heard of.
    Unknown {
        /// Nobody else lives who could have claimed it.
        alone: bool,
    },
    /// It is dead, or was started anew: its claim is of an earlier life.
    Gone,
    /// This start of this node: it has released the partition since, or lost it.
    Mine,
    /// Another node, and it lives.
    Living {
        /// It leaves and says that it holds the partition no more.
        let_go: bool,
    },
}

/// How things stand with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) seat: Seat,
    /// The board's time.
    pub(super) now: Duration,
    /// This node should own it.
    pub(super) rightful: bool,
    /// The node that should own it instead could serve it at once.
    pub(super) heir_is_fit: bool,
    pub(super) holder: Holder,
}

/// What to do with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Claim,
    Release,
}

/// Whether an owner should post its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Post {
    No,
    Yes,
    /// Yes, because something else stands on the board.
    Again,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Held {
    #[default]
    No,
    Claiming,
    Serving,
}

/// What is remembered of a partition from one look to the next. Moments are the board's, but for those of
/// orders and posts.
#[derive(Clone, Debug, Default)]
pub(super) struct Duty {
    /// Since when this node should own what it does not have.
    rightful_since: Option<Duration>,
    last_claim: Option<Duration>,
    held: Held,
    claiming_since: Option<Duration>,
    serving_since: Option<Duration>,
    release_ordered: Option<Duration>,
    lost_at: Option<Duration>,
    /// Losses and claims that came to nothing since this node was last settled in office.
    failures: u32,
    /// Claims in a row that came to nothing.
    vain: u32,
    posted: Option<(Epoch, Duration)>,
    rival: Option<Epoch>,
}

fn since(now: Duration, then: Duration) -> i64 {
    now.saturating_sub(then).as_millis() as i64
}

impl Duty {
    /// Takes note of what became of the partition since the last look.
    pub(super) fn observe(&mut self, seat: Seat, now: Duration) {
        match seat {
            Seat::Claiming => {
                self.claiming_since.get_or_insert(now);
                if self.held == Held::No {
                    self.held = Held::Claiming;
                }
                self.serving_since = None;
            }
            Seat::Serving { .. } => {
                self.claiming_since = None;
                self.held = Held::Serving;
                self.vain = 0;
                self.lost_at = None;
                if since(now, *self.serving_since.get_or_insert(now)) >= SETTLED_MS {
                    self.failures = 0;
                }
            }
            Seat::Leaving => self.claiming_since = None,
            Seat::Vacant | Seat::StandingBy { .. } => {
                let held = std::mem::take(&mut self.held);
                let let_go = self.release_ordered.take().is_some();
                if held != Held::No && !let_go {
                    self.lost_at = Some(now);
                    self.failures = self.failures.saturating_add(1);
                    self.vain = self.vain.saturating_add(u32::from(held == Held::Claiming));
                }
                self.claiming_since = None;
                self.serving_since = None;
                self.posted = None;
            }
        }
        if self.last_claim.is_some_and(|last| since(now, last) >= DISTRUST_MS) {
            self.vain = 0;
        }
    }

    /// Nothing is judged at present: whoever waits begins anew afterwards.
    pub(super) fn suspend(&mut self) {
        self.rightful_since = None;
    }

    /// What is due. Rule: cluster.md 3.
    pub(super) fn step(&mut self, case: &Case) -> Step {
        let Case { seat, now, rightful, heir_is_fit, holder } = *case;
        let released = match seat {
            Seat::Serving { .. } if !rightful && heir_is_fit => return Step::Release,
            // Whether somebody fit is there or not: who gives up before the claim has taken effect
            // keeps two cold nodes from claiming against each other.
            Seat::Claiming if !rightful => return Step::Release,
            Seat::Serving { .. } | Seat::Claiming | Seat::Leaving => {
                self.rightful_since = None;
                return Step::Nothing;
            }
            Seat::Vacant => false,
            Seat::StandingBy { caught_up, released } => caught_up && released,
        };
        if !rightful {
            self.rightful_since = None;
            return Step::Nothing;
        }
        let waited_ms = since(now, *self.rightful_since.get_or_insert(now));
        let clean = released || holder == Holder::Living { let_go: true };
        let may = clean
            || match holder {
                Holder::Unknown { alone } => alone || waited_ms >= RUMOUR_PATIENCE_MS,
                Holder::Gone | Holder::Mine => true,
                Holder::Living { .. } => waited_ms >= HANDOVER_PATIENCE_MS,
            };
        if !may || !self.has_paused(now, clean) {
            return Step::Nothing;
        }
        self.last_claim = Some(now);
        self.held = Held::Claiming;
        Step::Claim
    }

    /// Whether the partition was claimed or lost long enough ago. After an orderly hand-over there is
    /// nobody to fight with.
    fn has_paused(&self, now: Duration, clean: bool) -> bool {
        let (first, last) = CLAIM_PAUSE_MS;
        let pause = first.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(last);
        let rested = |then: Option<Duration>, pause| then.is_none_or(|t| since(now, t) >= pause);
        rested(self.last_claim, first) && (clean || rested(self.lost_at, pause))
    }

    /// Whether a release should be ordered now; takes note of it if so.
    pub(super) fn may_order_release(&mut self, here: Duration) -> bool {
        let ordered = self.release_ordered;
        if ordered.is_some_and(|ordered| here.saturating_sub(ordered) < RELEASE_REPEAT) {
            return false;
        }
        self.release_ordered = Some(here);
        true
    }

    /// Whether this node may call itself warm for the partition: it could serve it at once, or is about
    /// to. Who claims is warm too: otherwise its own claim would make it unfit for what it claims.
    pub(super) fn is_warm(&self, seat: Seat, now: Duration) -> bool {
        match seat {
            Seat::Serving { .. } => self.rival.is_none(),
            Seat::StandingBy { caught_up, .. } => caught_up && self.vain < VAIN_MAX,
            Seat::Claiming => {
                self.claiming_since.is_none_or(|began| since(now, began) < CLAIMING_MS)
            }
            Seat::Vacant | Seat::Leaving => false,
        }
    }

    /// Whether the owner of `epoch` should post it. `stands`: its claim is what was last read on the
    /// board; `current`: the board is read without delay, so that what is missing there is missing.
    pub(super) fn post(
        &mut self,
        epoch: Epoch,
        stands: bool,
        current: bool,
        here: Duration,
    ) -> Post {
        let post = match self.posted {
            Some((posted, at)) if posted == epoch => {
                let age = here.saturating_sub(at);
                match stands {
                    true if age >= POST_REPEAT => Post::Yes,
                    false if age >= POST_PATIENCE && current => Post::Again,
                    _ => Post::No,
                }
            }
            _ => Post::Yes,
        };
        if post != Post::No {
            self.posted = Some((epoch, here));
        }
        post
    }

    /// Another node owns the partition under `epoch`, a higher one than that of this node, which seems
    /// to serve it. Answers whether that is news.
    pub(super) fn rivalled(&mut self, epoch: Option<Epoch>) -> bool {
        let before = std::mem::replace(&mut self.rival, epoch);
        epoch.is_some() && before != epoch
    }
}
