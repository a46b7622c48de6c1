//! `Cordon-Acts-As: client`: a call that the app's own server makes in the name of a user, for whom the
//! rules of clients hold. It counts for the calls by which friendships are made. Rule: webhooks.md 13.

use actix_web::dev::RequestHead;

use super::Operation;
use super::error_code::{self as code, ErrorCode};

/// The header.
const HEADER: &str = "cordon-acts-as";
/// Its only value.
const CLIENT: &str = "client";

/// Whether the call counts as a client's. Errors: 60002 for another value than `client`.
pub(super) fn as_client(head: &RequestHead, operation: Operation) -> Result<bool, ErrorCode> {
    let counts = matches!(operation, Operation::FriendAdd | Operation::FriendResponse);
    match head.headers().get(HEADER).filter(|_| counts) {
        None => Ok(false),
        Some(value) if value == CLIENT => Ok(true),
        Some(_) => Err(code::URL_UNREADABLE),
    }
}
