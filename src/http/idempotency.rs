//! `Idempotency-Key`: a call that comes again under its key is done once and answered as the first
//! time, byte for byte, for 24 hours. Rule: extensions.md 1.
//!
//! First the key is entered in its book, so that it stands for one path and body in the whole app;
//! what the call does is kept with the change itself; its answer is entered in the book before it is
//! given. Answers that only tell of trouble are not kept: a repeat finds out what became of the call.
//! Calls that only look ignore the key, and so do those about webhooks.

use std::collections::BTreeSet;

use actix_web::dev::RequestHead;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::answer::{Answer, Answered, Failure};
use super::call::Call;
use super::edge::is_trouble;
use super::error_code::{self as code, ErrorCode};
use super::{Operation, handle};
use crate::actors::{Asker, ExecuteError};
use crate::domain::{CallKey, Command, Kept, KeptAnswer, Traces, UserId, UserKey, book_of};
use crate::journal::{Offset, Partition};

/// The header.
const HEADER: &str = "idempotency-key";
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 64;
/// The longest answer that is kept, in bytes; a repeat of a call with a longer one is judged anew, on
/// what the call did.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// The key of the request, if it has one that counts. Errors: 60002 for one that is empty, too long or
/// not printable.
pub(super) fn key(head: &RequestHead, operation: Operation) -> Result<Option<&str>, ErrorCode> {
    let Some(value) = head.headers().get(HEADER).filter(|_| operation.takes_key()) else {
        return Ok(None);
    };
    // Printable is what may stand in a text of a header.
    let key = value.to_str().map_err(|_| code::URL_UNREADABLE)?;
    if (1..=KEY_BYTES_MAX).contains(&key.len()) && !key.contains('\t') {
        Ok(Some(key))
    } else {
        Err(code::URL_UNREADABLE)
    }
}

/// Carries out a call with a key, or answers what it was answered before.
pub(super) async fn carry_out(mut call: Call<'_>, key: &str, body: &str) -> Answered {
    let command = call.operation.command();
    let how = if call.as_client { " as client\n" } else { "\n" };
    let asked = CallKey { key: hash(&[key]), asked: hash(&[command, how, body]) };
    let book = call.key(book_of(&asked.key));
    let begun =
        call.before().execute_call(book, Command::BeginCall, call.origin(), Some(asked)).await;
    if begun.map_err(|error| call.fault(&error))?.position.is_none()
        && let Some(kept) = kept_by_book(&call, book, asked).await?
    {
        match kept.answer {
            Some(answer) => return Ok(again(*answer, kept.request)),
            // Nobody was told what it came to: that is found out under the same id.
            None => call.request = kept.request,
        }
    }
    call.key = Some(asked);
    let mut answer = match handle(&call, body).await {
        Ok(answer) => answer,
        Err(failure @ Failure::Whole(code)) if !is_passing(code) => {
            Answer::failure(failure, Some(call.operation))
        }
        Err(failure) => return Err(failure),
    };
    answer.request = Some(call.request);
    if !answer.is_settled() || answer.body.len() > ANSWER_BYTES_MAX {
        return Ok(answer);
    }
    let positions = answer.positions.iter().map(|(partition, offset)| (partition.0, offset.0));
    let keep = Command::KeepAnswer(KeptAnswer {
        code: answer.code,
        body: String::from_utf8_lossy(&answer.body).into(),
        positions: positions.collect(),
    });
    let keeping = call.behind().execute_call(book, keep, call.origin(), Some(asked)).await;
    if keeping.map_err(|error| call.fault(&error))?.position.is_none() {
        // It was answered meanwhile, to somebody who made the same call at the same time.
        let first = kept_by_book(&call, book, asked).await?;
        if let Some(Kept { answer: Some(first), request, .. }) = first {
            return Ok(again(*first, request));
        }
    }
    Ok(answer)
}

/// Whether the code says nothing about the call itself, so that a repeat may have another answer.
fn is_passing(code: ErrorCode) -> bool {
    is_trouble(code.number) || code == code::TOO_MANY_MESSAGES
}

/// What the book has about the call.
async fn kept_by_book(
    call: &Call<'_>,
    book: UserKey,
    asked: CallKey,
) -> Result<Option<Kept>, Failure> {
    kept(call, call.behind(), book, asked).await.map_err(|error| call.fault(&error))
}

/// What `keeper`, a book or a user, has about the call.
async fn kept(
    call: &Call<'_>,
    asker: Asker<'_>,
    keeper: UserKey,
    asked: CallKey,
) -> Result<Option<Kept>, ExecuteError> {
    let kept = asker.kept(keeper, asked.key).await?;
    Ok(kept.filter(|kept| kept.call == asked && kept.is_fresh(call.now)))
}

/// What this call, if it has a key and was made before, did about `owner`.
pub(super) async fn traces(
    call: &Call<'_>,
    asker: Asker<'_>,
    owner: UserId,
) -> Result<Option<Traces>, ExecuteError> {
    let Some(asked) = call.key else { return Ok(None) };
    Ok(kept(call, asker, call.key(owner), asked).await?.map(|kept| kept.traces))
}

/// Whether each of `users` is imported, as far as their owners say. Users that an earlier try of this
/// call changed something about were imported then, and are not checked again.
pub(super) async fn imported(
    call: &Call<'_>,
    asker: Asker<'_>,
    owner: UserId,
    users: &[UserId],
) -> Vec<Result<bool, ExecuteError>> {
    let mut imported = asker.imported(call.app().id, users).await;
    if call.key.is_none() || imported.iter().all(|imported| *imported == Ok(true)) {
        return imported;
    }
    match traces(call, asker, owner).await {
        Ok(None) => {}
        Ok(Some(Traces { peers, wanted, .. })) => {
            let done: BTreeSet<UserId> =
                peers.into_iter().chain(wanted.iter().map(|wanted| wanted.peer)).collect();
            let known = imported.iter_mut().zip(users).filter(|(_, user)| done.contains(user));
            known.for_each(|(imported, _)| *imported = Ok(true));
        }
        // Who is not may have been.
        Err(error) => {
            let unknown = imported.iter_mut().filter(|imported| **imported == Ok(false));
            unknown.for_each(|imported| *imported = Err(error.clone()));
        }
    }
    imported
}

/// 32 hex digits, which can stand where a name can.
fn hash(parts: &[&str]) -> UserId {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let digest = hash.finalize();
    let digits: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    UserId::parse(&digits).expect("32 hex digits are a name")
}

fn again(kept: KeptAnswer, request: Uuid) -> Answer {
    let positions = kept.positions.into_iter();
    let positions = positions.map(|(partition, offset)| (Partition(partition), Offset(offset)));
    Answer {
        body: kept.body.into_string().into_bytes(),
        code: kept.code,
        positions: positions.collect(),
        request: Some(request),
        ..Answer::default()
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_a_short_printable_text_as_it_was_sent(
            bytes in vec(prop_oneof![60 => 32..127_u8, 1 => Just(b'\t'), 1 => any::<u8>()], 0..80),
        ) {
            let mut head = RequestHead::default();
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            head.headers.insert(HeaderName::from_static(HEADER), value);
            let is_key = (1..=KEY_BYTES_MAX).contains(&bytes.len())
                && bytes.iter().all(|byte| (32..127).contains(byte));
            let keyed = Operation::ALL.iter().copied().find(|operation| operation.takes_key());
            match key(&head, keyed.expect("some calls take a key")) {
                Ok(Some(key)) => prop_assert!(is_key && key.as_bytes() == bytes),
                Ok(None) => prop_assert!(false, "there is a header"),
                Err(code) => prop_assert!(!is_key && code == code::URL_UNREADABLE),
            }
        }
    }
}
