//! Webhooks: who hears of an app's events, set, moved and replayed by its admins. Calls of this server's
//! own; the reference has a console for that.

mod deliveries;
mod replay;
mod subscription;

pub(super) use deliveries::{dead_letters, events, log, status};
pub(super) use replay::{end as replay_end, list as replay_list, start as replay_start};
pub(super) use subscription::{delete, list, seek, set, test};

use super::answer::Failure;
use super::call::Call;
use super::error_code as code;
use super::shape::{Malformed, Scalar, shape};
use crate::domain::{Timestamp, is_subscription_name};
use crate::subscriptions::SubscriptionError;

/// The longest id of a call, in bytes.
const ID_BYTES_MAX: usize = 80;
/// The largest moment that can be asked for, in seconds since 1970.
const SECONDS_MAX: i64 = 253_402_300_799;

shape! {
    /// The body of calls that name a subscription and no more.
    Named<'a> {
        name: Scalar<'a> = "Name",
    }
}

/// The name of a subscription, which is required.
fn name<'a>(field: &'a Scalar<'_>) -> Result<&'a str, Failure> {
    let name = field.text().ok().flatten().filter(|name| is_subscription_name(name));
    name.ok_or(Failure::Whole(code::WEBHOOK_NAME_WRONG))
}

/// The name of a subscription, for calls that are about all of them without one.
fn name_if_given<'a>(field: &'a Scalar<'_>) -> Result<Option<&'a str>, Failure> {
    match field {
        Scalar::Absent => Ok(None),
        given => name(given).map(Some),
    }
}

/// A switch.
fn switch(field: &Scalar<'_>, otherwise: bool) -> Result<bool, Failure> {
    let wrong = |Malformed| Failure::Whole(code::WEBHOOK_NUMBER_WRONG);
    Ok(field.flag().map_err(wrong)?.unwrap_or(otherwise))
}

/// A number that is required.
fn whole<T: TryFrom<i64>>(field: &Scalar<'_>) -> Option<T> {
    field.number().ok().flatten()
}

/// A moment, in seconds since 1970.
fn moment(field: &Scalar<'_>, wrong: code::ErrorCode) -> Result<Option<Timestamp>, Failure> {
    match field.integer() {
        Ok(None) => Ok(None),
        Ok(Some(seconds @ 0..=SECONDS_MAX)) => Ok(Some(Timestamp(seconds * 1000))),
        Ok(Some(_)) | Err(Malformed) => Err(Failure::Whole(wrong)),
    }
}

fn seconds(moment: Timestamp) -> i64 {
    moment.0.div_euclid(1000)
}

/// Waits for an answer of whoever knows. Without one the whole call fails.
///
/// What is asked is boxed: the future of every other call would have to be as large.
fn ask<T>(
    call: &Call<'_>,
    asked: impl Future<Output = Result<T, SubscriptionError>>,
) -> impl Future<Output = Result<T, Failure>> {
    let asked = Box::pin(asked);
    async move { asked.await.map_err(|error| failure(call, &error)) }
}

fn failure(call: &Call<'_>, error: &SubscriptionError) -> Failure {
    match error {
        SubscriptionError::Actors(error) => call.fault(error),
        SubscriptionError::Unknown => Failure::Whole(code::SUBSCRIPTION_UNKNOWN),
        SubscriptionError::OfSettings => Failure::Whole(code::SUBSCRIPTION_OF_SETTINGS),
        SubscriptionError::Url => Failure::Whole(code::WEBHOOK_URL_WRONG),
        SubscriptionError::Secret => Failure::Whole(code::WEBHOOK_SECRET_WRONG),
        SubscriptionError::Cursor => Failure::Whole(code::WEBHOOK_CURSOR_WRONG),
        SubscriptionError::Range => Failure::Whole(code::WEBHOOK_RANGE_WRONG),
        SubscriptionError::Broken => Failure::Whole(code::WEBHOOKS_BROKEN),
    }
}
