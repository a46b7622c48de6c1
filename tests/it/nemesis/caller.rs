//! A caller who works on users that all callers share, through all nodes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cordon::domain::UserId;

use crate::history::{Call, Deed, Outcome, Recorder};
use crate::support::{Caller, Identity, Random};

/// Users of all callers together.
const USERS: usize = 24;
/// The longest pause between two calls of a caller.
const PAUSE_MS: usize = 15;
/// How long a caller waits for an answer: longer than a node that lives takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// How calls went.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) answered: u64,
    pub(super) unanswered: u64,
    /// The longest time in which a caller had no answer at all.
    pub(super) longest: Duration,
    /// How long each answered call took.
    pub(super) took: Vec<Duration>,
}

pub(super) struct Worker {
    number: usize,
    nodes: Vec<Caller>,
    random: Random,
    pub(super) tally: Tally,
    silent_since: Option<Instant>,
}

/// The users that calls are about.
pub(super) fn users() -> Vec<String> {
    (0..USERS).map(|index| format!("user{index}")).collect()
}

impl Worker {
    pub(super) fn new(number: usize, addresses: &[SocketAddr], seed: u64) -> Self {
        let caller = |at: &SocketAddr| Caller::new(*at, Identity::default()).patient_for(PATIENCE);
        Self {
            number,
            nodes: addresses.iter().map(caller).collect(),
            random: Random::new(seed),
            tally: Tally::default(),
            silent_since: None,
        }
    }

    fn user(&mut self) -> UserId {
        let name = format!("user{}", self.random.below(USERS));
        UserId::parse(&name).expect("a name of a test")
    }

    /// One call, whatever comes of it.
    pub(super) fn step(&mut self, recorder: &Recorder) {
        let deed = match self.random.below(12) {
            0..=2 => Deed::Block,
            3 | 4 => Deed::Unblock,
            5 | 6 => Deed::Befriend,
            7 => Deed::Unfriend,
            8 | 9 => Deed::Friends,
            10 => Deed::Blocks,
            _ => Deed::Blocklist,
        };
        let owner = self.user();
        let mut targets = Vec::new();
        while deed != Deed::Blocklist && targets.len() < 1 + self.random.below(2) {
            let target = self.user();
            if target != owner && !targets.contains(&target) {
                targets.push(target);
            }
        }
        let node = self.random.below(self.nodes.len());
        let began = Instant::now();
        let call = Call::new(deed, owner, &targets);
        match recorder.ask(self.number, node, &mut self.nodes[node], call) {
            Outcome::Unknown | Outcome::Failed => {
                self.tally.unanswered += 1;
                self.silent_since.get_or_insert(began);
            }
            _ => {
                self.tally.answered += 1;
                self.tally.took.push(began.elapsed());
                if let Some(since) = self.silent_since.take() {
                    self.tally.longest = self.tally.longest.max(since.elapsed());
                }
            }
        }
        std::thread::sleep(Duration::from_millis(self.random.below(PAUSE_MS) as u64));
    }
}
