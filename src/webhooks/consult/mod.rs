//! Asks a subscriber before the fact. Rule: webhooks.md 1 to 4, 8.3, 8.4 and 10.
//!
//! One try, within one limit of time. Whatever does not come to an answer is settled by what the app has
//! set for that kind of failure. A subscriber that hangs must cost others nothing: each has a desk on
//! this node with room for a bounded number of open questions, and one that counts as down is not asked.
//!
//! [`Desks`] is what a node has; a [`Consultant`] is what each of its threads has, because the HTTP
//! client cannot leave its thread. [`question`] says what is asked, and [`answer`] how
//! answers are read.

pub mod answer;
mod metrics;
pub mod question;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::answer::{Reply, Unreadable, read_refusals, read_reply};
use self::metrics::Asked;
use self::question::Question;
use super::breaker::{Breaker, Fault};
use super::caller::{Bounds, Caller, Failure, Post, Tls};
use super::series::Counts;
use super::subscription::Subscription;
use crate::clock::Clock;
use crate::domain::{AppId, BeforeTerms, Fallback, Ground, Refusal, UserId, Verdict, Words};
use crate::journal::Origin;
use crate::tags::BeforeCommand;

pub use self::metrics::Metrics;

/// Questions to one subscriber that are open on a node, at most.
pub const QUESTIONS_OPEN_MAX: usize = 64;

/// The longest limit of time that a question may have, in milliseconds.
pub const BEFORE_TIMEOUT_MAX_MS: u64 = *BeforeTerms::TIMEOUT_MS.end();

/// Somebody who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The subscription: whose app it is about, where it is asked, and what calls to it look like.
    pub subscription: Subscription,
    /// What it is asked about.
    pub commands: BTreeSet<BeforeCommand>,
    /// For how long, and what counts without an answer.
    pub terms: BeforeTerms,
}

/// Where questions are put on this node.
pub struct Desks {
    /// None before anything is known.
    desks: RwLock<Option<Known>>,
    clock: Clock,
    metrics: Metrics,
    /// Read once somebody is asked over `https`.
    tls: OnceLock<Option<Tls>>,
    began: Instant,
}

/// What is known of who wants to be asked.
struct Known {
    /// By app; of several, the first that asks for a command is the one that is asked.
    desks: BTreeMap<AppId, Vec<Arc<Desk>>>,
    /// The apps whose subscriptions are not known yet.
    unknown: Vec<AppId>,
}

/// One subscriber, and how asking it goes.
struct Desk {
    target: Target,
    counts: Arc<Counts<Asked>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: usize,
    breaker: Breaker,
    /// Why the last question came to no answer.
    failed: Option<Failed>,
}

impl Desk {
    /// Who is refused for the want of an answer. Of one who counts as down, as if it had been asked.
    fn fallen_back(&self, ground: Ground, users: &[UserId]) -> Vec<Refusal> {
        let terms = &self.target.terms;
        let state = self.state();
        let down = state.failed.filter(|_| state.breaker.is_open());
        let fallback = match down.filter(|_| ground == Ground::Busy).unwrap_or(ground) {
            Ground::Answered => Fallback::Allow,
            Ground::TimedOut => terms.on_timeout,
            Ground::Unreachable => terms.on_unreachable,
            Ground::Status => terms.on_status,
            Ground::Malformed => terms.on_malformed,
            Ground::Busy => terms.on_busy,
        };
        let refusal = |user: &UserId| Refusal { user: *user, code: 0, info: "".into() };
        match fallback {
            Fallback::Allow => Vec::new(),
            Fallback::Deny => users.iter().map(refusal).collect(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desks {
    /// It is not known who wants to be asked until [`Self::serve`] says it.
    pub fn new(clock: Clock, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            desks: RwLock::default(),
            clock,
            metrics,
            tls: OnceLock::new(),
            began: Instant::now(),
        })
    }

    /// Asks exactly `targets` from now on; of the apps `unknown` it is not known yet who wants to be
    /// asked. Those that stay as they are keep their open questions and what is known of how they are.
    /// Without certificates of the system, those over `https` are unreachable.
    pub fn serve(&self, targets: Vec<Target>, unknown: &[AppId]) {
        let mut desks = self.desks.write().unwrap_or_else(PoisonError::into_inner);
        let before = desks.take().map(|known| known.desks).unwrap_or_default();
        if targets.iter().any(|target| target.subscription.endpoint.is_secure()) {
            self.tls.get_or_init(|| Tls::system().ok());
        }
        let mut now: BTreeMap<AppId, Vec<Arc<Desk>>> = BTreeMap::new();
        for target in targets {
            let mut known = before.get(&target.subscription.app).into_iter().flatten();
            let desk = match known.find(|desk| desk.target == target) {
                Some(desk) => Arc::clone(desk),
                None => {
                    let counts = self.metrics.counts(&target.subscription);
                    Arc::new(Desk { target, counts, state: Mutex::default() })
                }
            };
            now.entry(desk.target.subscription.app).or_default().push(desk);
        }
        *desks = Some(Known { desks: now, unknown: unknown.to_vec() });
    }

    fn find(&self, app: AppId, command: BeforeCommand) -> Option<Arc<Desk>> {
        let desks = self.desks.read().unwrap_or_else(PoisonError::into_inner);
        let mut of_app = desks.as_ref()?.desks.get(&app)?.iter();
        of_app.find(|desk| desk.target.commands.contains(&command)).cloned()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Asks from one thread.
pub struct Consultant {
    desks: Arc<Desks>,
    /// The connections of this thread to each subscriber.
    callers: RefCell<Vec<(Weak<Desk>, Rc<Caller>)>>,
}

/// What the want of an answer is due to.
type Failed = Ground;

impl Consultant {
    /// One for this thread, with no connection yet.
    pub fn new(desks: Arc<Desks>) -> Self {
        Self { desks, callers: RefCell::default() }
    }

    /// Whether anybody of `app` wants to be asked about `command`; none while that is not known.
    pub fn is_asked(&self, app: AppId, command: BeforeCommand) -> Option<bool> {
        let desks = self.desks.desks.read().unwrap_or_else(PoisonError::into_inner);
        let is_known = desks.as_ref().is_some_and(|known| !known.unknown.contains(&app));
        drop(desks);
        is_known.then(|| self.desks.find(app, command).is_some())
    }

    /// Asks about friends, for a caller of `app` who is known as `by`. None: nobody wants to be asked.
    pub async fn about_friends(
        &self,
        app: AppId,
        question: &Question<'_>,
        by: &Origin,
    ) -> Option<Verdict> {
        let desk = self.desks.find(app, question.command())?;
        let users = question.users();
        let read = |answer: &[u8]| read_refusals(answer, &users);
        let said = self.ask(&desk, question, by, read, |refused| !refused.is_empty()).await;
        let (ground, refused) = match said {
            Ok(refused) => (Ground::Answered, refused),
            Err(ground) => (ground, desk.fallen_back(ground, &users)),
        };
        let mut verdict = verdict(&desk, question, ground);
        let is_refused: BTreeSet<UserId> = refused.iter().map(|refusal| refusal.user).collect();
        verdict.allowed = users.into_iter().filter(|user| !is_refused.contains(user)).collect();
        verdict.refused = refused;
        Some(verdict)
    }

    /// Asks about a message, for a caller of `app` who is known as `by`; `reword` gives the message
    /// other words, as far as some are said, and fails if they may not stand in a message. None: nobody
    /// wants to be asked.
    pub async fn about_message(
        &self,
        app: AppId,
        question: &Question<'_>,
        by: &Origin,
        reword: impl FnOnce(Option<&str>, Option<&str>) -> Result<Option<Words>, Unreadable>,
    ) -> Option<Verdict> {
        let desk = self.desks.find(app, question.command())?;
        let users = question.users();
        let read = |answer: &[u8]| match read_reply(answer)? {
            Reply::Send { body, custom_data } => {
                Ok(Said::Send(reword(body.as_deref(), custom_data.as_deref())?))
            }
            Reply::Refuse { code, info } => Ok(Said::Refuse { code, info }),
            Reply::Hide => Ok(Said::Hide),
        };
        let refuses = |said: &Said| !matches!(said, Said::Send(_));
        let said = self.ask(&desk, question, by, read, refuses).await;
        let mut verdict = verdict(&desk, question, Ground::Answered);
        let refuse = |code, info: &str| {
            let refusal = |user| Refusal { user, code, info: info.into() };
            users.iter().copied().map(refusal).collect::<Vec<_>>()
        };
        match said {
            Ok(Said::Send(before)) => {
                verdict.before = before.map(Box::new);
                verdict.allowed = users;
            }
            Ok(Said::Refuse { code, info }) => verdict.refused = refuse(code, &info),
            Ok(Said::Hide) => {
                verdict.refused = refuse(0, "");
                verdict.hidden = true;
            }
            Err(ground) => {
                verdict.ground = ground;
                verdict.refused = desk.fallen_back(ground, &users);
                if verdict.refused.is_empty() {
                    verdict.allowed = users;
                }
            }
        }
        Some(verdict)
    }

    /// Puts one question, and counts it.
    async fn ask<T>(
        &self,
        desk: &Arc<Desk>,
        question: &Question<'_>,
        by: &Origin,
        read: impl FnOnce(&[u8]) -> Result<T, Unreadable>,
        refuses: impl FnOnce(&T) -> bool,
    ) -> Result<T, Failed> {
        let command = question.command();
        let began = Instant::now();
        let said = match Open::new(&self.desks, desk) {
            None => Err(Ground::Busy),
            Some(open) => {
                let answer = self.send(desk, question, by).await;
                let said = answer.and_then(|answer| read(&answer).map_err(|_| Ground::Malformed));
                open.close(question.from(), said.as_ref().err().copied());
                said
            }
        };
        let word = match &said {
            Ok(said) if refuses(said) => "refused",
            Ok(_) => "allowed",
            Err(ground) => word(*ground),
        };
        desk.counts.add(Asked { command: command.name(), answer: word });
        self.desks.metrics.took(began.elapsed().as_secs_f64());
        said
    }

    /// Makes the call: the only place that knows how.
    async fn send(
        &self,
        desk: &Arc<Desk>,
        question: &Question<'_>,
        by: &Origin,
    ) -> Result<Bytes, Failed> {
        let now = self.desks.clock.now();
        let command = question.command().name();
        let post = Post {
            id: format!("{}.{command}", by.request).into(),
            command,
            at: now,
            body: question.body(now).into(),
            by: Arc::new(by.clone()),
            link: None,
            attempt: 1,
        };
        self.caller(desk).ask(&post, now).await.map_err(|failure| match failure {
            Failure::TimedOut => Ground::TimedOut,
            Failure::Unreachable { .. } | Failure::Guarded(_) => Ground::Unreachable,
            Failure::Status(_) => Ground::Status,
            Failure::Malformed { .. } => Ground::Malformed,
        })
    }

    fn caller(&self, desk: &Arc<Desk>) -> Rc<Caller> {
        let mut callers = self.callers.borrow_mut();
        let known = callers.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(desk));
        if let Some((_, caller)) = known {
            return Rc::clone(caller);
        }
        callers.retain(|(known, _)| known.strong_count() > 0);
        let target = &desk.target;
        let limit = Duration::from_millis(target.terms.timeout_ms.min(BEFORE_TIMEOUT_MAX_MS));
        let tls = self.desks.tls.get().and_then(Option::as_ref);
        let bounds = Bounds::within(limit);
        let caller = Caller::new(&target.subscription, bounds, QUESTIONS_OPEN_MAX, tls);
        let caller = Rc::new(caller);
        callers.push((Arc::downgrade(desk), Rc::clone(&caller)));
        caller
    }
}

/// What is said to a message, its new words looked at: with those, the old ones.
enum Said {
    Send(Option<Words>),
    Refuse { code: u32, info: Box<str> },
    Hide,
}

fn verdict(desk: &Desk, question: &Question<'_>, ground: Ground) -> Verdict {
    Verdict {
        about: question.matter(),
        by: desk.target.subscription.name.as_str().into(),
        ground,
        allowed: Vec::new(),
        refused: Vec::new(),
        hidden: false,
        before: None,
    }
}

/// One word for metrics.
fn word(ground: Ground) -> &'static str {
    match ground {
        Ground::Answered => "answered",
        Ground::TimedOut => "timed_out",
        Ground::Unreachable => "unreachable",
        Ground::Status => "status",
        Ground::Malformed => "malformed",
        Ground::Busy => "busy",
    }
}

/// A question that is open. One whose asker goes away says nothing about the subscriber.
struct Open<'a> {
    desks: &'a Desks,
    desk: &'a Desk,
    closed: bool,
}

impl<'a> Open<'a> {
    /// None: there is no room for it, or the subscriber counts as down.
    fn new(desks: &'a Desks, desk: &'a Desk) -> Option<Self> {
        let mut state = desk.state();
        if state.open >= QUESTIONS_OPEN_MAX
            || state.breaker.allows(desks.now_ms(), QUESTIONS_OPEN_MAX) == 0
        {
            return None;
        }
        state.open += 1;
        state.breaker.sent();
        drop(state);
        desks.metrics.opened();
        Some(Self { desks, desk, closed: false })
    }

    /// It came to an answer, or to `failed`.
    fn close(mut self, from: UserId, failed: Option<Failed>) {
        self.closed = true;
        let now_ms = self.desks.now_ms();
        let mut state = self.desk.state();
        state.failed = failed.or(state.failed);
        let target = &self.desk.target.subscription;
        let turned = match failed.map(fault) {
            None => state.breaker.succeeded(),
            Some(fault) => state.breaker.failed(now_ms, from, fault),
        };
        drop(state);
        let (app, name) = (target.app.0, target.name.as_str());
        match failed {
            _ if !turned => {}
            None => tracing::info!(
                app.id = app,
                webhook.subscription = name,
                "the before-webhook receiver answers again"
            ),
            Some(_) => tracing::warn!(
                app.id = app,
                webhook.subscription = name,
                "the before-webhook receiver counts as down: before_on_busy decides until it is back"
            ),
        }
    }
}

fn fault(ground: Ground) -> Fault {
    match ground {
        Ground::TimedOut | Ground::Unreachable => Fault::Silence,
        Ground::Answered | Ground::Status | Ground::Malformed | Ground::Busy => Fault::Answer,
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut state = self.desk.state();
        state.open -= 1;
        if !self.closed {
            state.breaker.put_off();
        }
        drop(state);
        self.desks.metrics.closed();
    }
}

#[cfg(test)]
mod tests;
