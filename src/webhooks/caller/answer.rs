//! What a receiver's answer says; pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::de::IgnoredAny;

use crate::domain::Timestamp;

/// The wait that a busy receiver is given if it names none, and the shortest one.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// The longest that is granted: whoever asks for more is asked again then.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// How long a receiver asks to be left alone: the value of its `Retry-After`, which is a number of
/// seconds or a moment.
pub(super) fn retry_after(value: Option<&[u8]>, now: Timestamp) -> Duration {
    let text = value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default().trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large for a number is too long for a wait.
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        until(text, now).unwrap_or_default()
    };
    wait.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
}

fn until(text: &str, now: Timestamp) -> Option<Duration> {
    let moment = httpdate::parse_http_date(text).ok()?;
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(now.0).ok()?);
    moment.duration_since(now).ok()
}

/// Whether this is a JSON object and nothing else. `ErrorCode` is not looked at: for what has happened
/// already, the reference ignores it. Rule: webhooks.md 1 and 3.
pub(super) fn is_object(body: &[u8]) -> bool {
    // A map of nothing checks the whole syntax and keeps no value.
    serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(body).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_receiver_is_left_alone_as_long_as_it_asks_within_bounds() {
        // Thu, 01 Dec 2022 05:21:52 GMT
        const NOW: Timestamp = Timestamp(1_669_872_112_000);
        let hour = 3600;
        let cases = [
            (None, 1),
            (Some(""), 1),
            (Some("0"), 1),
            (Some("7"), 7),
            (Some(" 7 "), 7),
            (Some("3600"), hour),
            (Some("3601"), hour),
            (Some("99999999999999999999999"), hour),
            (Some("-7"), 1),
            (Some("+7"), 1),
            (Some("soon"), 1),
            (Some("Thu, 01 Dec 2022 05:22:52 GMT"), 60),
            (Some("Thursday, 01-Dec-22 05:22:52 GMT"), 60),
            (Some("Thu, 01 Dec 2022 05:20:00 GMT"), 1),
            (Some("Fri, 01 Dec 2023 05:20:00 GMT"), hour),
        ];
        for (value, seconds) in cases {
            let wait = retry_after(value.map(str::as_bytes), NOW);
            assert_eq!(wait, Duration::from_secs(seconds), "{value:?}");
        }
        assert_eq!(retry_after(Some(b"\xff"), NOW), RETRY_AFTER_MIN);
        let text = b"Thu, 01 Dec 2022 05:22:52 GMT";
        assert_eq!(retry_after(Some(text), Timestamp(-1)), RETRY_AFTER_MIN);
    }

    #[test]
    fn a_json_object_is_one_whatever_it_says_and_nothing_else_is() {
        for text in ["{}", r#"{"ActionStatus":"FAIL","ErrorCode":1}"#, " {\"a\":[1,{}]}\n"] {
            assert!(is_object(text.as_bytes()), "{text}");
        }
        for text in ["", "OK", "[]", "null", "{", "{} {}", "{\"a\":}"] {
            assert!(!is_object(text.as_bytes()), "{text}");
        }
    }
}
