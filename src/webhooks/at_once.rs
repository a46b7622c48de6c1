//! Calls of which no record speaks: made once, at the moment that they are about, and owed to nobody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::caller::{Bounds, Caller, Outcome, Post, Tls};
use super::subscription::Subscription;
use crate::clock::Clock;
use crate::journal::Origin;
use crate::tags::{CallbackCommand, REQUEST_OVER_LIMIT};

/// How long such a call may take at most.
pub const AT_ONCE_PATIENCE: Duration = Duration::from_secs(3);

/// A command of the API was called nearly as often as it may be, or more often. Rule: the reference, "API
/// Overclocking Alarm Callbacks"; rest-api.md 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestOverLimit {
    /// The command with its service, like `sns/friend_add`.
    pub command: &'static str,
    /// The calls of one second, refused ones too.
    pub requests: u32,
    /// How many a second may have.
    pub limit: u32,
}

/// As it stands on the wire.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    callback_command: &'static str,
    service_name: &'static str,
    command: &'static str,
    request: u32,
    limit: u32,
}

impl RequestOverLimit {
    fn body(self) -> String {
        let (service_name, command) = self.command.split_once('/').unwrap_or(("", self.command));
        let shown = Shown {
            callback_command: REQUEST_OVER_LIMIT,
            service_name,
            command,
            request: self.requests,
            limit: self.limit,
        };
        serde_json::to_string(&shown).expect("texts and numbers are JSON")
    }
}

/// Makes one call that tells nothing, with the terms of `subscription`, and answers what came of it.
///
/// Must be called inside an actix system. The id is one that no event has.
pub async fn test(subscription: &Subscription, by: Origin, clock: &Clock) -> Outcome {
    let command = CallbackCommand::Test.name();
    let body = format!(r#"{{"CallbackCommand":"{command}","EventTime":{}}}"#, clock.now().0);
    let id = format!("test-{}", by.request);
    call(subscription, &id, command, body.into(), by, clock).await
}

/// Tells a subscriber that a limit is near, for calls like the one that was made by `by`; answers what
/// came of it. As [`test()`] otherwise.
pub async fn alert(
    subscription: &Subscription,
    near: RequestOverLimit,
    by: Origin,
    clock: &Clock,
) -> Outcome {
    let id = format!("alert-{}", by.request);
    call(subscription, &id, REQUEST_OVER_LIMIT, near.body().into(), by, clock).await
}

async fn call(
    subscription: &Subscription,
    id: &str,
    command: &'static str,
    body: Bytes,
    by: Origin,
    clock: &Clock,
) -> Outcome {
    let tls = match subscription.endpoint.is_secure().then(Tls::kept).transpose() {
        Ok(tls) => tls,
        Err(error) => return Outcome::Unreachable { reason: error.to_string() },
    };
    let patience = Duration::from_millis(subscription.delivery.timeout_ms).min(AT_ONCE_PATIENCE);
    let caller = Caller::new(subscription, Bounds::within(patience), 1, tls.as_ref());
    let (id, by, at) = (id.into(), Arc::new(by), clock.now());
    caller.attempt(&Post { id, command, at, body, by, link: None, attempt: 1 }, at).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_names_service_and_command_and_how_often_they_were_called() {
        let near = RequestOverLimit { command: "openim/batchsendmsg", requests: 510, limit: 200 };
        let body = near.body();
        assert_eq!(
            body,
            r#"{"CallbackCommand":"Alert.RequestOverLimit","ServiceName":"openim","Command":"batchsendmsg","Request":510,"Limit":200}"#
        );
        let schema = include_str!("../../schemas/webhooks/Alert.RequestOverLimit.json");
        let schema = serde_json::from_str(schema).expect("a schema is JSON");
        let body = serde_json::from_str(&body).expect("a body is JSON");
        let verdict = jsonschema::validate(&schema, &body);
        assert!(verdict.is_ok(), "{verdict:?}");
    }
}
