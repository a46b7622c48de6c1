//! The way of a request's body from its bytes to the first user who would have to be asked: what
//! fuzzers and a property test feed. No part of the product.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use futures_util::FutureExt;
use serde::de::IgnoredAny;
use serde_json::Value;
use uuid::Uuid;

use super::answer::{Answer, Answered, Failure};
use super::call::Call;
use super::error_code as code;
use super::gate::Gate;
use super::query::Query;
use super::settings::{App, MessageRules, RateLimits, Settings};
use super::{Operation, body, handle, idempotency};
use crate::actors::Users;
use crate::clock::Clock;
use crate::domain::{AllowType, AppId, Timestamp};
use crate::subscriptions::Subscribers;
use crate::usersig;
use crate::webhooks::{Consultant, Desks, consult};

const APP: AppId = AppId(1_400_000_001);
const ADMIN: &str = "administrator";
const KEY: &str = "key";
const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Says that the call has an `Idempotency-Key`.
const KEYED: u8 = 0x80;

thread_local! {
    static DOOR: Door = Door::new();
}

/// Who is let in, and nobody behind it.
struct Door {
    gate: Gate,
    users: Users,
    subscribers: Subscribers,
    consultant: Consultant,
    usersig: String,
}

impl Door {
    fn new() -> Self {
        let app = App {
            id: APP,
            enabled: true,
            admins: vec![ADMIN.to_owned()],
            keys: vec![KEY.to_owned()],
            rate_limits: RateLimits::Off,
            delete_allowed: true,
            default_allow_type: AllowType::AllowAny,
            friend_fields: vec!["level".to_owned()],
            profile_fields: vec!["level".to_owned()],
            messages: MessageRules::default(),
        };
        let now_s = NOW.unix_seconds().into();
        let clock = Clock::fixed(NOW);
        let desks = Desks::new(clock.clone(), consult::Metrics::default());
        desks.serve(Vec::new(), &[]);
        Self {
            gate: Gate::new(&Settings { apps: vec![app], ..Settings::default() }),
            users: Users::nobody(),
            subscribers: Subscribers::nobody(clock, desks.clone()),
            consultant: Consultant::new(desks),
            usersig: usersig::sign(APP, KEY, ADMIN, 60, now_s),
        }
    }

    fn answer(&self, operation: Operation, keyed: bool, text: &str) -> Answered {
        let query = Query {
            sdkappid: "1400000001".into(),
            identifier: ADMIN.into(),
            usersig: self.usersig.as_str().into(),
            contenttype: None,
        };
        let caller = self.gate.admit(&query, NOW).map_err(Failure::Common)?;
        let call = Call {
            operation,
            caller,
            request: Uuid::nil(),
            peer: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            now: NOW,
            key: None,
            as_client: false,
            users: &self.users,
            deadline: Cell::new(Instant::now()),
            subscribers: &self.subscribers,
            consultant: &self.consultant,
        };
        let answered = if keyed {
            idempotency::carry_out(call, "key", text).now_or_never()
        } else {
            async { handle(&call, text).await }.now_or_never()
        };
        answered.expect("nobody is waited for")
    }
}

/// Takes `data` as a request: its first byte names the operation and says whether the call has a key
/// of its own, the others are the body. Panics if the answer is not as it has to be.
pub fn request(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let operation = Operation::ALL[usize::from(first & !KEYED) % Operation::ALL.len()];
    let keyed = first & KEYED != 0;
    let read = body::text(bytes).map_err(|code| Failure::Common(operation.common(code)));
    let answered = read.and_then(|text| DOOR.with(|door| door.answer(operation, keyed, text)));
    let refused = answered.as_ref().err().map(|failure| failure.code());
    let answer = answered.unwrap_or_else(|failure| Answer::failure(failure, Some(operation)));

    let shown: Value = serde_json::from_slice(&answer.body).expect("an answer is JSON");
    assert_eq!(shown["ErrorCode"], answer.code, "{shown}");
    assert_eq!(refused.map_or(0, |code| code.number), answer.code, "{shown}");
    assert!(answer.positions.is_empty(), "nobody changed anything");
    // A call with a key asks for its answer before its body is looked at.
    let Ok(text) = read else { return };
    if !keyed {
        let no_json = refused == Some(operation.common(code::BODY_NOT_JSON));
        if serde_json::from_str::<IgnoredAny>(text).is_err() {
            assert!(no_json, "what is no JSON is refused: {shown}");
        } else if serde_json::from_str::<Value>(text).is_ok_and(|body| body.is_object()) {
            assert!(!no_json, "what is a JSON object is read");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::{apply, changes};

    /// What is put into requests beside words of JSON.
    const WORDS: &[&str] = &["\"From_Account\":", "\"To_Account\":", "\"To_Account\":[7],"];

    /// The example of the operation with this number.
    fn example(operation: usize) -> Vec<u8> {
        let description: Value =
            serde_json::from_str(include_str!("../../schemas/openapi.json")).unwrap();
        let path = format!("/v4/{}", Operation::ALL[operation].command());
        let body = &description["paths"][path]["post"]["requestBody"]["content"];
        body["application/json"]["example"].to_string().into_bytes()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn a_request_that_was_changed_anywhere_is_answered(
            operation in 0..Operation::ALL.len(),
            keyed: bool,
            changes in changes(WORDS),
        ) {
            let mut data = example(operation);
            apply(&mut data, &changes);
            data.insert(0, operation as u8 | if keyed { KEYED } else { 0 });
            request(&data);
        }
    }
}
