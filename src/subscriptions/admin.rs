//! What admins ask of the subscriptions: set, list, delete, test and move them, and be told of a limit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::{spawn_blocking, spawn_local};

use super::known::{NOWHERE, State, SubscriptionSeen};
use super::seal::SealError;
use super::{Place, Subscribers, SubscriptionError};
use crate::actors::{ExecuteError, Executed, ItemError};
use crate::domain::{
    AppId, Command, SECRETS_MAX, SecretChange, SeekTo, Subscription, UserKey, keeper,
};
use crate::journal::{JournalError, Offset, Origin, Partition};
use crate::tags::REQUEST_OVER_LIMIT;
use crate::webhooks::{self, CursorName, Outcome, RequestOverLimit, Secret, SecretError, Signer};

/// How long a deletion waits for the other nodes to hear of it.
const GONE_PATIENCE: Duration = Duration::from_millis(1500);
/// How often it looks.
const GONE_POLL: Duration = Duration::from_millis(20);

/// A subscription as it shall be.
#[derive(Debug)]
pub struct SetSubscription {
    /// All of it but its secrets.
    pub subscription: Subscription,
    /// What becomes of those.
    pub secret: NewSecret,
}

/// What becomes of a subscription's secrets.
pub enum NewSecret {
    /// They stay.
    Keep,
    /// There are none any more.
    Remove,
    /// This one takes their place.
    Given {
        /// The text.
        text: String,
        /// How long those before it go on signing, in milliseconds.
        overlap_ms: u32,
    },
    /// One that is made up now takes their place.
    Generated {
        /// How long those before it go on signing, in milliseconds.
        overlap_ms: u32,
    },
}

impl std::fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep => "Keep",
            Self::Remove => "Remove",
            Self::Given { .. } => "Given",
            Self::Generated { .. } => "Generated",
        })
    }
}

/// What came of setting a subscription.
pub struct SubscriptionWasSet {
    /// The secret that was made up: it is never shown again.
    pub secret: Option<String>,
    /// Where the change stands, if there was one.
    pub position: Option<Place>,
}

/// What came of a call that tells nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// One word.
    pub result: &'static str,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// How long it took.
    pub took_ms: u64,
    /// What went wrong.
    pub info: String,
}

impl Subscribers {
    /// Sets a subscription, or changes it. Answered once every partition holds its place.
    ///
    /// Repeat: the same again changes nothing. Errors: [`SubscriptionError`].
    pub async fn set(
        &self,
        app: AppId,
        wanted: SetSubscription,
        by: Origin,
    ) -> Result<SubscriptionWasSet, SubscriptionError> {
        let SetSubscription { subscription, secret } = wanted;
        if self.terms(app)?.configures(&subscription.name) {
            return Err(SubscriptionError::OfSettings);
        }
        let (new, keeps) = match &secret {
            NewSecret::Keep => (None, true),
            NewSecret::Remove => (None, false),
            NewSecret::Given { text, .. } => (Some(text.as_str()), true),
            NewSecret::Generated { .. } => (None, true),
        };
        self.check(app, &subscription, new, keeps)?;
        let (change, shown) = self.sealed(app, &subscription, secret)?;
        let name = subscription.name.clone();
        let set = Command::SetSubscription { subscription: Box::new(subscription), secret: change };
        let position = self.change(app, set, by).await?;
        // It is answered with success once no event of any user can be missed.
        self.begin_everywhere(app, &name).await?;
        self.renew(app).await?;
        Ok(SubscriptionWasSet { secret: shown, position })
    }

    /// What becomes of the secrets, sealed; and the one that was made up, in clear.
    fn sealed(
        &self,
        app: AppId,
        subscription: &Subscription,
        secret: NewSecret,
    ) -> Result<(SecretChange, Option<String>), SubscriptionError> {
        let sealer = &self.terms(app)?.sealer;
        let name = &*subscription.name;
        let broken = |error: SealError| {
            tracing::error!(
                app.id = app.0,
                webhook.subscription = name,
                %error,
                "a secret could not be sealed"
            );
            SubscriptionError::Broken
        };
        let seal = |text: &str| sealer.seal(name, text).map_err(broken);
        match secret {
            NewSecret::Keep => Ok((SecretChange::Keep, None)),
            NewSecret::Remove => Ok((SecretChange::Remove, None)),
            NewSecret::Given { text, overlap_ms } => {
                let known = self.known(app);
                let newest = known.kept.get(name).and_then(|known| known.secrets.first());
                let same = newest.and_then(|newest| sealer.open(name, &newest.sealed));
                if same.as_deref() == Some(&text) {
                    return Ok((SecretChange::Keep, None));
                }
                Ok((SecretChange::Replace { sealed: seal(&text)?, overlap_ms }, None))
            }
            NewSecret::Generated { overlap_ms } => {
                let text = sealer.make_up().map_err(broken)?;
                Ok((SecretChange::Replace { sealed: seal(&text)?, overlap_ms }, Some(text)))
            }
        }
    }

    /// Whether `set` could be served, with these secrets before those that it has.
    ///
    /// Errors: no; [`SubscriptionError::Url`] or [`SubscriptionError::Secret`].
    fn check(
        &self,
        app: AppId,
        set: &Subscription,
        new: Option<&str>,
        keeps: bool,
    ) -> Result<(), SubscriptionError> {
        let terms = self.terms(app)?;
        let url = set.url.as_deref().unwrap_or(NOWHERE);
        terms.check_url(url)?;
        let new = new.map(|text| Secret::new(text, None));
        let known = self.known(app);
        let kept = known.kept.get(&set.name).filter(|_| keeps);
        let kept = kept.and_then(|known| terms.open(known, self.clock.now())).unwrap_or_default();
        let all: Vec<Secret> = new.into_iter().chain(kept).take(SECRETS_MAX).collect();
        match Signer::new(set.format, &all) {
            // Whether it has any is for its own stream to say.
            Ok(_) | Err(SecretError::Missing) => Ok(()),
            Err(_) => Err(SubscriptionError::Secret),
        }
    }

    /// All subscriptions of the app, by name, also those of the settings.
    ///
    /// Errors: what was set by calls is not known at present.
    pub async fn list(&self, app: AppId) -> Result<Vec<SubscriptionSeen>, SubscriptionError> {
        self.refresh(app).await?;
        Ok(self.known(app).seen())
    }

    /// Deletes a subscription. Answers where that stands, if there was one.
    ///
    /// Errors: [`SubscriptionError`]. One that is only slow leaves it deleted: the same again waits for the
    /// rest.
    pub async fn delete(
        &self,
        app: AppId,
        name: &str,
        by: Origin,
    ) -> Result<Option<Place>, SubscriptionError> {
        if self.terms(app)?.configures(name) {
            return Err(SubscriptionError::OfSettings);
        }
        let command = Command::DeleteSubscription { name: name.into() };
        let position = self.change(app, command, by).await?;
        self.renew(app).await?;
        self.wait_until_gone(app, name).await?;
        Ok(position)
    }

    /// Waits until no partition holds a place of the subscription any more, so that one that is set
    /// under the same name begins anew. Errors: it takes longer, or a partition is out of reach; the
    /// subscription is deleted, and the same call may be made again to wait for the rest.
    async fn wait_until_gone(&self, app: AppId, name: &str) -> Result<(), SubscriptionError> {
        let cursor = CursorName::of(app, name).to_string();
        let all: Vec<Partition> = (0..self.users.partitions()).map(Partition).collect();
        let deadline = Instant::now() + GONE_PATIENCE;
        while !self.cursors(&cursor, &all).await?.is_empty() {
            if Instant::now() >= deadline {
                return Err(ExecuteError::TimedOut.into());
            }
            tokio::time::sleep(GONE_POLL).await;
        }
        Ok(())
    }

    /// Makes one call that tells nothing, now.
    ///
    /// Errors: there is no such subscription, or it is not known at present.
    pub async fn test(
        &self,
        app: AppId,
        name: &str,
        by: Origin,
    ) -> Result<Tested, SubscriptionError> {
        self.refresh(app).await?;
        let known = self.known(app);
        let (seen, served) = known.find(name).ok_or(SubscriptionError::Unknown)?;
        let none =
            |result, info: &str| Tested { result, status: None, took_ms: 0, info: info.to_owned() };
        match seen.state {
            State::Serving | State::Off => {}
            State::Pulled => return Ok(none("pulled", "it has no address")),
            State::Held => {
                return Ok(none(
                    "held",
                    "its secrets cannot be read with the keys that the app has",
                ));
            }
        }
        let began = Instant::now();
        let outcome = webhooks::test(served, by, &self.clock).await;
        let status = match outcome {
            Outcome::Delivered | Outcome::Malformed { .. } => Some(200),
            Outcome::Refused { status } => Some(status),
            // 503 with a time counts as this, too.
            Outcome::Busy { .. } => Some(429),
            Outcome::TimedOut | Outcome::Unreachable { .. } | Outcome::Guarded(_) => None,
        };
        Ok(Tested {
            result: outcome.word(),
            status,
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            info: if outcome.is_delivered() { String::new() } else { outcome.to_string() },
        })
    }

    /// Tells the subscribers who want to know that calls like the one of `by` are close to their limit, once
    /// it is known `how` close. Returns at once.
    pub fn alert(
        &self,
        app: AppId,
        how: impl Future<Output = RequestOverLimit> + 'static,
        by: Origin,
    ) {
        let wants = |names: &[Box<str>]| names.iter().any(|name| **name == *REQUEST_OVER_LIMIT);
        let known = self.known(app);
        let told = known.serving().filter(|(set, _)| wants(&set.commands));
        let told: Vec<_> = told.map(|(_, served)| served.clone()).collect();
        let clock = self.clock.clone();
        spawn_local(async move {
            let near = how.await;
            let RequestOverLimit { command, requests, limit } = near;
            tracing::warn!(
                app.id = app.0,
                command,
                requests,
                limit,
                "calls of a command are close to the limit for a second, or above it"
            );
            let calls = told.iter().map(|served| webhooks::alert(served, near, by.clone(), &clock));
            for (served, outcome) in told.iter().zip(join_all(calls).await) {
                if !outcome.is_delivered() {
                    let name = &*served.name;
                    tracing::warn!(
                        app.id = app.0, webhook.subscription = name, %outcome,
                        "a subscriber was not told that a limit is near"
                    );
                }
            }
        });
    }

    /// Lets a subscription go on from another place. Answers the term of the move.
    ///
    /// Errors: [`SubscriptionError`].
    pub async fn seek(
        &self,
        app: AppId,
        name: Box<str>,
        to: SeekTo,
        by: Origin,
    ) -> Result<(u32, Option<Place>), SubscriptionError> {
        let configured = self.terms(app)?.configures(&name);
        if let SeekTo::Offsets(offsets) = &to {
            let ends = self.ends().await?;
            let fits = |(partition, offset): &(u16, u64)| {
                ends.get(&Partition(*partition)).is_some_and(|end| Offset(*offset) <= *end)
            };
            if !offsets.iter().all(fits) {
                return Err(SubscriptionError::Range);
            }
        }
        let to_end = to == SeekTo::End;
        let command = Command::MoveSubscription { name: name.clone(), to, configured };
        let position = self.change(app, command, by).await?;
        if to_end {
            // It is answered with success once no event from then on can be left out.
            self.begin_everywhere(app, &name).await?;
        }
        self.renew(app).await?;
        let term = self.known(app).kept.last_move(&name).map_or(0, |seek| seek.term);
        Ok((term, position))
    }

    /// The ends of all partitions.
    pub(super) async fn ends(&self) -> Result<BTreeMap<Partition, Offset>, SubscriptionError> {
        let journal = self.journal.clone();
        let ends = spawn_blocking(move || {
            let all: Vec<Partition> = (0..journal.partitions()).map(Partition).collect();
            let ends = journal.ends(&all)?;
            Ok::<_, JournalError>(all.into_iter().zip(ends).collect())
        });
        ends.await.ok().and_then(Result::ok).ok_or(SubscriptionError::Broken)
    }

    /// Has the app's stream carry out `command`. Answers where that stands, if something changed.
    pub(super) async fn change(
        &self,
        app: AppId,
        command: Command,
        by: Origin,
    ) -> Result<Option<Place>, SubscriptionError> {
        let key = UserKey { app, user: keeper() };
        let executed = self.users.asker().execute(key, command, by).await?;
        let Executed { outcomes, position, .. } = executed;
        match outcomes.into_iter().find_map(Result::err) {
            Some(ItemError::Rejected(rejection)) => {
                return Err(SubscriptionError::Actors(rejection.into()));
            }
            Some(ItemError::Owed) | None => {}
        }
        Ok(position)
    }
}
