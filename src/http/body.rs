//! The request body: read it within its bounds, and refuse what cannot be JSON before a parser sees
//! it. Rule: rest-api.md 1.2, 1.8 and 1.9.

use std::time::Duration;

use actix_web::dev::RequestHead;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::answer::Failure;
use super::error_code::{self as code, ErrorCode};
use crate::patience::Body;

/// How many levels of arrays and objects a body may have, its own object included.
/// Rule: rest-api.md 1.9.
const DEPTH_MAX: usize = 64;

/// The bounds of reading one body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The longest body.
    pub(super) bytes_max: usize,
    /// How long it may take to arrive.
    pub(super) timeout: Duration,
}

/// Reads the whole body. Errors: [`Failure::Body`] when it is too long, too slow or broken off.
pub(super) async fn read(
    head: &RequestHead,
    mut payload: Body,
    bounds: Bounds,
) -> Result<Bytes, Failure> {
    if declared_bytes(head) > bounds.bytes_max {
        skip(head, payload, bounds).await;
        return Err(Failure::Body);
    }
    let read = timeout(bounds.timeout, collect(&mut payload, bounds.bytes_max));
    match read.await {
        Ok(Some(body)) => Ok(body),
        Ok(None) | Err(_) => Err(Failure::Body),
    }
}

/// Reads and drops the body of a call that is refused without it, so that the connection can be
/// used again and the caller, who may still be writing, comes to read the answer. Gives up, and so
/// lets the connection close, on bodies of more than twice the limit.
pub(super) async fn skip(head: &RequestHead, mut payload: Body, bounds: Bounds) {
    let mut left = bounds.bytes_max.saturating_mul(2);
    if declared_bytes(head) > left {
        return;
    }
    let drained = timeout(bounds.timeout, async {
        while let Some(Ok(chunk)) = payload.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    });
    // Whether it worked is the connection's business alone.
    let _ = drained.await;
}

fn declared_bytes(head: &RequestHead) -> usize {
    let length = head.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Without a copy if the body comes in one piece. `None`: too long or broken off.
async fn collect(payload: &mut Body, bytes_max: usize) -> Option<Bytes> {
    let fits = |bytes: usize| bytes <= bytes_max;
    let Some(first) = payload.next().await else { return Some(Bytes::new()) };
    let first = first.ok().filter(|chunk| fits(chunk.len()))?;
    let Some(second) = payload.next().await else { return Some(first) };
    let mut body = BytesMut::from(&*first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        let chunk = chunk.ok().filter(|chunk| fits(body.len() + chunk.len()))?;
        body.extend_from_slice(&chunk);
        next = payload.next().await;
    }
    Some(body.freeze())
}

/// The body as text, if a JSON parser may look at it: UTF-8, and at most [`DEPTH_MAX`] levels deep.
/// Errors: 60003.
pub(super) fn text(body: &[u8]) -> Result<&str, ErrorCode> {
    let text = std::str::from_utf8(body).map_err(|_| code::BODY_NOT_JSON)?;
    if is_too_deep(body) { Err(code::BODY_NOT_JSON) } else { Ok(text) }
}

/// Counts brackets outside of strings. What is no JSON anyway may be miscounted: the parser, which
/// stops at the first error, never gets deeper than what was counted up to there.
fn is_too_deep(json: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            bytes.next();
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        format!("{{\"x\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
    }

    #[test]
    fn sixty_four_levels_pass_and_one_more_does_not() {
        assert!(text(nested(64).as_bytes()).is_ok());
        assert_eq!(text(nested(65).as_bytes()), Err(code::BODY_NOT_JSON));
    }

    #[test]
    fn a_hundred_thousand_brackets_are_no_json() {
        assert_eq!(text(nested(100_000).as_bytes()), Err(code::BODY_NOT_JSON));
        assert_eq!(text("[".repeat(100_000).as_bytes()), Err(code::BODY_NOT_JSON));
        assert_eq!(text("{\"a\":".repeat(100_000).as_bytes()), Err(code::BODY_NOT_JSON));
    }

    #[test]
    fn many_levels_beside_each_other_are_not_deep() {
        let wide = format!("{{\"x\":[{}0]}}", "[[]],{},".repeat(1000));
        assert!(text(wide.as_bytes()).is_ok());
    }

    #[test]
    fn brackets_inside_strings_do_not_count() {
        let brackets = "[".repeat(1000);
        assert!(text(format!(r#"{{"x":"{brackets}\"{brackets}\\"}}"#).as_bytes()).is_ok());
        // The string ends behind the escaped backslash, so these count.
        let text_then_brackets = format!(r#"{{"x":"\\",{brackets}"#);
        assert_eq!(text(text_then_brackets.as_bytes()), Err(code::BODY_NOT_JSON));
    }

    #[test]
    fn invalid_utf8_is_no_json() {
        assert_eq!(text(b"{\"x\":\"\xff\"}"), Err(code::BODY_NOT_JSON));
    }
}
