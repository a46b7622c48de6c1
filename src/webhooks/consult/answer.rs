//! How answers to questions are read; pure. Rule: webhooks.md 4, 8.3, 8.4 and 10.
//!
//! An answer is read with patience for what is missing, and none for what has another type: a receiver
//! that answers nonsense must not be taken at its word.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::domain::verdict::REFUSAL_BYTES_MAX;
use crate::domain::{Refusal, UserId};

/// The codes by which a message is refused with a text for the sender. Rule: webhooks.md 10.
const TOLD_CODES: RangeInclusive<i64> = 120_001..=130_000;

/// The answer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// What a receiver says to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Send it, in these words as far as some are given.
    Send {
        /// `MsgBody`, as JSON in a text.
        body: Option<Box<str>>,
        /// `CloudCustomData`.
        custom_data: Option<Box<str>>,
    },
    /// Do not send it, and say so.
    Refuse {
        /// The code; 1 stands for the one that the reference has for that.
        code: u32,
        /// Its text.
        info: Box<str>,
    },
    /// Do not send it, and say that it was sent.
    Hide,
}

/// An answer about friends. Codes of the whole are not looked at. Rule: webhooks.md 4.
#[derive(Deserialize)]
struct FriendsAnswer {
    #[serde(rename = "ActionStatus", default)]
    _status: Option<String>,
    #[serde(rename = "ErrorCode", default)]
    _code: Option<i64>,
    #[serde(rename = "ErrorInfo", default)]
    _info: Option<String>,
    #[serde(rename = "ResultItem", default)]
    results: Option<Vec<Box<RawValue>>>,
}

#[derive(Deserialize)]
struct ResultItem {
    #[serde(rename = "To_Account")]
    user: String,
    #[serde(rename = "ResultCode")]
    code: i64,
    #[serde(rename = "ResultInfo", default)]
    info: Option<String>,
}

#[derive(Deserialize)]
struct MessageAnswer {
    #[serde(rename = "ActionStatus", default)]
    _status: Option<String>,
    #[serde(rename = "ErrorCode")]
    code: i64,
    #[serde(rename = "ErrorInfo", default)]
    info: Option<String>,
    #[serde(rename = "MsgBody", default)]
    body: Option<Box<RawValue>>,
    #[serde(rename = "CloudCustomData", default)]
    custom_data: Option<String>,
}

/// Reads an answer about friends: who of `users` is refused, in their order.
///
/// A user that is not named is allowed, so an answer without results refuses nobody. A user that is named
/// twice is refused if one of the two says so. Errors: no JSON object, or a field of another type.
pub fn read_refusals(answer: &[u8], users: &[UserId]) -> Result<Vec<Refusal>, Unreadable> {
    let answer: FriendsAnswer = object(answer)?;
    let results = answer.results.unwrap_or_default();
    let results = results.iter().map(|item| object::<ResultItem>(item.get().as_bytes()));
    let results: Vec<ResultItem> = results.collect::<Result<_, Unreadable>>()?;
    let refusing = results.iter().filter(|item| item.code != 0);
    let refusing: BTreeMap<&str, &ResultItem> =
        refusing.map(|item| (item.user.as_str(), item)).collect();
    let refused = users.iter().filter_map(|user| {
        let item = refusing.get(user.as_str())?;
        let info = item.info.as_deref().unwrap_or_default();
        // A code outside our numbers counts as no code.
        let code = u32::try_from(item.code).unwrap_or(0);
        Some(Refusal { user: *user, code, info: cut(info).into() })
    });
    Ok(refused.collect())
}

/// Reads an answer about a message. Whether new words may stand in a message is for others to say.
///
/// Errors: no JSON object, a field of another type, or a code without a meaning.
pub fn read_reply(answer: &[u8]) -> Result<Reply, Unreadable> {
    let answer: MessageAnswer = object(answer)?;
    let info = || cut(answer.info.as_deref().unwrap_or_default()).into();
    match answer.code {
        0 => Ok(Reply::Send {
            body: answer.body.as_deref().map(|body| body.get().into()),
            custom_data: answer.custom_data.map(Into::into),
        }),
        1 => Ok(Reply::Refuse { code: 1, info: info() }),
        2 => Ok(Reply::Hide),
        code if TOLD_CODES.contains(&code) => {
            Ok(Reply::Refuse { code: u32::try_from(code).map_err(|_| Unreadable)?, info: info() })
        }
        _ => Err(Unreadable),
    }
}

/// Reads an object: a list of the same values in their order is none.
fn object<T: DeserializeOwned>(text: &[u8]) -> Result<T, Unreadable> {
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(Unreadable);
    }
    serde_json::from_slice(text).map_err(|_| Unreadable)
}

/// As much of a text as is kept.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(REFUSAL_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn id(name: &str) -> UserId {
        UserId::parse(name).expect("a name of a test")
    }

    fn refusals(answer: &Value) -> Result<Vec<(String, u32, String)>, Unreadable> {
        let users = [id("bob"), id("carl"), id("dora")];
        let read = read_refusals(answer.to_string().as_bytes(), &users)?;
        let told = |refusal: Refusal| (refusal.user.to_string(), refusal.code, refusal.info.into());
        Ok(read.into_iter().map(told).collect())
    }

    fn result(name: &str, code: i64, info: &str) -> Value {
        json!({"To_Account": name, "ResultCode": code, "ResultInfo": info})
    }

    #[test]
    fn friends_are_refused_one_by_one_and_who_is_not_named_is_allowed() {
        let answer = |results: Value| json!({"ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": "", "ResultItem": results});
        let refused = |name: &str, code, info: &str| (name.to_owned(), code, info.to_owned());
        for (results, expected) in [
            (json!([]), vec![]),
            (json!([result("bob", 0, ""), result("carl", 0, "fine")]), vec![]),
            (
                json!([result("carl", 38_001, "no"), result("eve", 38_002, "not asked")]),
                vec![refused("carl", 38_001, "no")],
            ),
            (
                json!([result("dora", 1, ""), result("bob", -7, "x"), result("bob", 0, "")]),
                vec![refused("bob", 0, "x"), refused("dora", 1, "")],
            ),
            (json!([result("bob", 0, ""), result("bob", 5, "")]), vec![refused("bob", 5, "")]),
            (json!([{"To_Account": "bob", "ResultCode": 9}]), vec![refused("bob", 9, "")]),
        ] {
            assert_eq!(refusals(&answer(results.clone())), Ok(expected), "{results}");
        }
    }

    #[test]
    fn a_code_of_the_whole_refuses_no_friend() {
        for answer in [
            json!({}),
            json!({"ActionStatus": "FAIL", "ErrorCode": 38_000, "ErrorInfo": "broken"}),
            json!({"ErrorCode": 1, "ResultItem": null}),
        ] {
            assert_eq!(refusals(&answer), Ok(Vec::new()), "{answer}");
        }
    }

    #[test]
    fn an_answer_about_friends_of_another_shape_is_none() {
        for answer in [
            json!([]),
            json!("OK"),
            json!({"ErrorCode": "0"}),
            json!({"ActionStatus": 1}),
            json!({"ResultItem": {}}),
            json!({"ResultItem": ["bob"]}),
            json!({"ResultItem": [["bob", 0, ""]]}),
            json!({"ResultItem": [{"To_Account": "bob"}]}),
            json!({"ResultItem": [{"ResultCode": 0}]}),
            json!({"ResultItem": [{"To_Account": "bob", "ResultCode": "38001"}]}),
            json!({"ResultItem": [{"To_Account": 7, "ResultCode": 0}]}),
        ] {
            assert_eq!(refusals(&answer), Err(Unreadable), "{answer}");
        }
        assert_eq!(read_refusals(b"{", &[]), Err(Unreadable));
    }

    #[test]
    fn a_text_is_cut_between_letters() {
        let long = "ä".repeat(REFUSAL_BYTES_MAX);
        let read = refusals(&json!({"ResultItem": [result("bob", 1, &long)]})).expect("an answer");
        assert_eq!(read[0].2, "ä".repeat(REFUSAL_BYTES_MAX / 2));
    }

    #[test]
    fn a_message_is_sent_changed_refused_or_hidden() {
        let reply = |answer: Value| read_reply(answer.to_string().as_bytes());
        let send = |body: Option<&str>, custom_data: Option<&str>| {
            let (body, custom_data) = (body.map(Into::into), custom_data.map(Into::into));
            Ok(Reply::Send { body, custom_data })
        };
        let refuse = |code, info: &str| Ok(Reply::Refuse { code, info: info.into() });
        for (answer, expected) in [
            (json!({"ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": ""}), send(None, None)),
            (json!({"ErrorCode": 0, "MsgBody": null, "CloudCustomData": null}), send(None, None)),
            (json!({"ErrorCode": 0, "MsgBody": [{}]}), send(Some("[{}]"), None)),
            (json!({"ErrorCode": 0, "CloudCustomData": ""}), send(None, Some(""))),
            (json!({"ErrorCode": 1, "ErrorInfo": "no", "MsgBody": []}), refuse(1, "no")),
            (json!({"ErrorCode": 2, "ErrorInfo": "psst"}), Ok(Reply::Hide)),
            (json!({"ErrorCode": 120_001, "ErrorInfo": "spam"}), refuse(120_001, "spam")),
            (json!({"ErrorCode": 130_000}), refuse(130_000, "")),
            (json!({"ErrorCode": 120_000}), Err(Unreadable)),
            (json!({"ErrorCode": 130_001}), Err(Unreadable)),
            (json!({"ErrorCode": 3}), Err(Unreadable)),
            (json!({"ErrorCode": -1}), Err(Unreadable)),
            (json!({"ErrorCode": "0"}), Err(Unreadable)),
            (json!({"ErrorCode": 0, "CloudCustomData": {}}), Err(Unreadable)),
            (json!({"ErrorCode": 0, "ErrorInfo": 7}), Err(Unreadable)),
            (json!({}), Err(Unreadable)),
            (json!([]), Err(Unreadable)),
        ] {
            assert_eq!(reply(answer.clone()), expected, "{answer}");
        }
        assert_eq!(read_reply(br#"{"ErrorCode":0} x"#), Err(Unreadable));
    }

    proptest! {
        /// Whatever comes is an answer or none, and what is kept of it has its bound.
        #[test]
        fn any_bytes_are_an_answer_or_none(
            noise in vec(any::<u8>(), 0..64),
            code in any::<i64>(),
            info in ".{0,200}",
        ) {
            let users = [id("bob")];
            let answer = json!({"ErrorCode": code, "ErrorInfo": info, "ResultItem":
                [{"To_Account": "bob", "ResultCode": code, "ResultInfo": info}]});
            for bytes in [noise, answer.to_string().into_bytes()] {
                let refused = read_refusals(&bytes, &users).unwrap_or_default();
                prop_assert!(refused.iter().all(|one| one.info.len() <= REFUSAL_BYTES_MAX));
                if let Ok(Reply::Refuse { code, info }) = read_reply(&bytes) {
                    prop_assert!(info.len() <= REFUSAL_BYTES_MAX);
                    prop_assert!(code == 1 || TOLD_CODES.contains(&i64::from(code)));
                }
            }
            let refused = read_refusals(answer.to_string().as_bytes(), &users);
            prop_assert_eq!(refused.map(|refused| refused.len()), Ok(usize::from(code != 0)));
        }
    }
}
