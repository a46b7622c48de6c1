//! What the edge asks of the room that knows the subscriptions, their secrets and the journal.

use std::future::Future;
use std::pin::Pin;

use super::deliveries::Deliveries;
use crate::actors::ExecuteError;
use crate::domain::{AppId, Replay, SeekTo, Subscription};
use crate::http::Alarm;
use crate::journal::{Offset, Origin, Partition};

/// An answer to come, on the thread that asked.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, DeskError>> + 'a>>;

/// The subscriptions of all apps, as far as the edge has to do with them.
pub trait Webhooks: Deliveries + Send + Sync + 'static {
    /// Sets a subscription, or changes it. Answered once every partition holds its place.
    fn set(&self, app: AppId, wanted: SetSubscription, by: Origin)
    -> Asked<'_, SubscriptionWasSet>;

    /// All subscriptions of the app, by name, also those of the settings.
    fn list(&self, app: AppId) -> Asked<'_, Vec<SubscriptionSeen>>;

    /// Deletes a subscription. Answers where that stands, if there was one.
    fn delete(&self, app: AppId, name: Box<str>, by: Origin) -> Asked<'_, Option<Place>>;

    /// Tells the subscribers who want to know that calls like the one of `by` are close to their limit.
    /// Returns at once.
    fn alert(&self, alarm: Alarm, by: Origin);

    /// Makes one call that tells nothing, now.
    fn test(&self, app: AppId, name: Box<str>, by: Origin) -> Asked<'_, Tested>;

    /// Lets a subscription go on from another place. Answers the term of the move.
    fn seek(
        &self,
        app: AppId,
        name: Box<str>,
        to: SeekTo,
        by: Origin,
    ) -> Asked<'_, (u32, Option<Place>)>;

    /// Counts what a replay would tell. No ranges mean all that there is.
    fn count(&self, app: AppId, wanted: Replay) -> Asked<'_, Counted>;

    /// Begins a replay; no ranges mean all that there is by now. Answers its number.
    fn start_replay(
        &self,
        app: AppId,
        wanted: Replay,
        by: Origin,
    ) -> Asked<'_, (u32, Option<Place>)>;

    /// The replays that run.
    fn replays(&self, app: AppId) -> Asked<'_, Vec<ReplaySeen>>;

    /// Ends a replay, whatever it has not told.
    fn end_replay(&self, app: AppId, number: u32, by: Origin) -> Asked<'_, Option<Place>>;
}

/// Where a change stands in the journal.
type Place = (Partition, Offset);

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// The actors refused, or had no answer.
    #[error(transparent)]
    Actors(#[from] ExecuteError),
    /// There is no such subscription.
    #[error("there is no such subscription")]
    Unknown,
    /// It stands in the settings, and is changed there.
    #[error("the subscription stands in the settings")]
    OfSettings,
    /// Nothing can be called there.
    #[error("the address cannot be called")]
    Url,
    /// It cannot sign the calls of the format.
    #[error("the secret cannot sign the calls of the format")]
    Secret,
    /// There is no such partition, or an id that no call has.
    #[error("the range lies outside the journal")]
    Range,
    /// The place is none of the journal.
    #[error("the cursor is not of this journal")]
    Cursor,
    /// The journal could not be read, or a secret not be sealed.
    #[error("it cannot be done at present")]
    Broken,
}

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

/// A subscription of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionSeen {
    /// What was set; of its secrets only how many there are and until when they sign is anybody's
    /// business.
    pub subscription: Subscription,
    /// Who set it.
    pub source: Source,
    /// What becomes of its calls.
    pub state: State,
    /// The term of the last move; 0 if there was none.
    pub term: u32,
}

/// Who set a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It stands in the settings of the node.
    Settings,
    /// An admin, by a call.
    Call,
}

/// What becomes of a subscription's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They are made.
    Serving,
    /// They wait until it is switched on.
    Off,
    /// They are fetched.
    Pulled,
    /// They wait, because its secrets cannot be read with the keys that the app has now.
    Held,
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

/// How much a replay would tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Calls.
    pub calls: u64,
    /// Everything was looked at; there may be more otherwise.
    pub complete: bool,
}

/// A replay that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplaySeen {
    /// What was asked for.
    pub replay: Replay,
    /// Calls that were delivered.
    pub delivered: u64,
    /// Calls that were given up.
    pub dead: u64,
    /// Users whose calls wait.
    pub parked: u64,
}

/// Nobody knows anything, for tests of what happens before anybody is asked.
#[cfg(any(test, fuzzing))]
pub(in crate::http) struct Nobody;

#[cfg(any(test, fuzzing))]
impl Nobody {
    pub(super) fn refuse<T: 'static>() -> Asked<'static, T> {
        Box::pin(std::future::ready(Err(DeskError::Actors(ExecuteError::Unavailable))))
    }
}

#[cfg(any(test, fuzzing))]
impl Webhooks for Nobody {
    fn set(&self, _: AppId, _: SetSubscription, _: Origin) -> Asked<'_, SubscriptionWasSet> {
        Self::refuse()
    }
    fn list(&self, _: AppId) -> Asked<'_, Vec<SubscriptionSeen>> {
        Self::refuse()
    }
    fn delete(&self, _: AppId, _: Box<str>, _: Origin) -> Asked<'_, Option<Place>> {
        Self::refuse()
    }
    fn alert(&self, _: Alarm, _: Origin) {}
    fn test(&self, _: AppId, _: Box<str>, _: Origin) -> Asked<'_, Tested> {
        Self::refuse()
    }
    fn seek(&self, _: AppId, _: Box<str>, _: SeekTo, _: Origin) -> Asked<'_, (u32, Option<Place>)> {
        Self::refuse()
    }
    fn count(&self, _: AppId, _: Replay) -> Asked<'_, Counted> {
        Self::refuse()
    }
    fn start_replay(&self, _: AppId, _: Replay, _: Origin) -> Asked<'_, (u32, Option<Place>)> {
        Self::refuse()
    }
    fn replays(&self, _: AppId) -> Asked<'_, Vec<ReplaySeen>> {
        Self::refuse()
    }
    fn end_replay(&self, _: AppId, _: u32, _: Origin) -> Asked<'_, Option<Place>> {
        Self::refuse()
    }
}
