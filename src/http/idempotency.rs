//! `Idempotency-Key`: a call that comes again under its key is done once and answered as the first
//! time, byte for byte, for 24 hours. Rule: extensions.md 1.
//!
//! What a call does is kept with the change itself, its answer before it is given, both by the user
//! whom the call is about; calls about many are kept by the administrator who makes them. Answers that
//! only tell of trouble are not kept: a repeat finds out what became of the call. Calls that only
//! look ignore the key.

use actix_web::dev::RequestHead;
use sha2::{Digest, Sha256};

use super::answer::{Answer, Answered, Failure};
use super::call::Call;
use super::edge::TROUBLE;
use super::error_code::{self as code, ErrorCode};
use super::shape::{Account, parse, shape};
use super::{Operation, handle};
use crate::actors::ExecuteError;
use crate::domain::{CallKey, Command, KeptAnswer, Rejection, UserId, UserKey};
use crate::journal::{Offset, Partition};

/// The header.
const HEADER: &str = "idempotency-key";
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 64;

shape! {
    /// Whom a call is about.
    About<'a> {
        from: Account<'a> = "From_Account",
        user: Account<'a> = "UserID",
        identifier: Account<'a> = "Identifier",
    }
}

/// The key of the request, if it has one that counts. Errors: 60002 for one that is empty, too long or
/// not printable.
pub(super) fn key(head: &RequestHead, operation: Operation) -> Result<Option<&str>, ErrorCode> {
    let Some(value) = head.headers().get(HEADER).filter(|_| operation.changes()) else {
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
    let asked = CallKey { key: hash(&[key]), asked: hash(&[command, "\n", body]) };
    let home = home(&call, body);
    if let Some(kept) = kept(&call, home, asked).await? {
        match kept.answer {
            Some(answer) => return Ok(again(*answer)),
            // Nobody was told what it came to: that is found out under the same id.
            None => call.request = kept.request,
        }
    }
    call.key = Some(asked);
    let answer = match handle(&call, body).await {
        Ok(answer) => answer,
        Err(failure @ Failure::Whole(code)) if !TROUBLE.contains(&code) => {
            Answer::failure(failure, Some(call.operation))
        }
        Err(failure) => return Err(failure),
    };
    if !answer.is_settled() {
        return Ok(answer);
    }
    let positions = answer.positions.iter().map(|(partition, offset)| (partition.0, offset.0));
    let keep = Command::KeepAnswer(KeptAnswer {
        code: answer.code,
        body: String::from_utf8_lossy(&answer.body).into(),
        positions: positions.collect(),
    });
    match call.users.execute_call(home, keep, call.origin(), Some(asked)).await {
        // It was answered meanwhile, to somebody who made the same call at the same time.
        Ok(executed) if executed.position.is_none() => {
            let first = kept(&call, home, asked).await?.and_then(|kept| kept.answer);
            Ok(first.map_or(answer, |first| again(*first)))
        }
        Ok(_) => Ok(answer),
        // Nobody is there to keep it, and there was nothing to change.
        Err(ExecuteError::Rejected(Rejection::AccountUnknown)) => Ok(answer),
        Err(error) => Err(call.fault(&error)),
    }
}

/// What `home` keeps of the call. Errors: 60002 if the key stands for another call.
async fn kept(
    call: &Call<'_>,
    home: UserKey,
    asked: CallKey,
) -> Result<Option<crate::domain::Kept>, Failure> {
    let kept = call.users.kept(home, asked.key).await.map_err(|error| call.fault(&error))?;
    match kept.filter(|kept| kept.is_fresh(call.now)) {
        Some(kept) if kept.call != asked => Err(Failure::Common(code::URL_UNREADABLE)),
        kept => Ok(kept),
    }
}

/// Who keeps the call.
fn home(call: &Call<'_>, body: &str) -> UserKey {
    let about = parse::<About<'_>>(body).unwrap_or_default();
    let names = [&about.from, &about.user, &about.identifier];
    let named = names.into_iter().find_map(Account::name).unwrap_or(call.caller.operator);
    // An illegal name changes nothing, whoever keeps that.
    call.key(UserId::parse(named).unwrap_or(hash(&[named])))
}

/// 32 hex digits, which can stand where a name can.
fn hash(parts: &[&str]) -> UserId {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let digest = hash.finalize();
    let digits: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    UserId::parse(&digits).expect("32 hex digits are a name")
}

fn again(kept: KeptAnswer) -> Answer {
    let positions = kept.positions.into_iter();
    let positions = positions.map(|(partition, offset)| (Partition(partition), Offset(offset)));
    Answer {
        body: kept.body.into_string().into_bytes(),
        code: kept.code,
        positions: positions.collect(),
    }
}
