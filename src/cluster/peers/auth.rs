//! Signed calls: who does not know the shared key can neither ask nor answer.
//!
//! A call is signed over everything that matters in it and carries a time and a number used once;
//! its answer is signed over the number of the call, so that nobody can answer in a node's place.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::Timestamp;

/// How far the clocks of two nodes may be apart.
pub const SKEW_MAX: Duration = Duration::from_secs(30);
/// Calls whose numbers are remembered, so that none is taken twice.
const NUMBERS_MAX: usize = 1 << 17;
/// The header of a signature.
pub const SIGNATURE: &str = "x-cordon-signature";

/// What is signed of a call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The path.
    pub path: &'a str,
    /// The remaining time, as its header says it.
    pub deadline: &'a str,
    /// The nodes passed, as the header says it.
    pub hops: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// Why a call is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// There is no signature, or none of the right form.
    #[error("the call is not signed")]
    Unsigned,
    /// Another key, or something was changed.
    #[error("the signature is wrong")]
    Wrong,
    /// The clocks are too far apart, or the call is old.
    #[error("the call is {0} ms away from this node's time")]
    Skewed(i64),
    /// The very same call was taken before.
    #[error("the call was made before")]
    Repeated,
}

/// The shared key, and the numbers of the calls that were taken.
pub struct Signer {
    key: Vec<u8>,
    numbers: Cache<u128, ()>,
}

type Code = Hmac<Sha256>;

impl Signer {
    /// A signer with this key.
    pub fn new(key: &[u8]) -> Self {
        Self { key: key.to_vec(), numbers: Cache::new(NUMBERS_MAX) }
    }

    fn code(&self, parts: &[&[u8]]) -> Code {
        let mut code = Code::new_from_slice(&self.key).expect("a key of any length will do");
        for part in parts {
            // With their lengths, so that no two lists of parts are the same bytes.
            code.update(&(part.len() as u64).to_be_bytes());
            code.update(part);
        }
        code
    }

    fn call_code(&self, node: &str, at: &str, number: &str, call: Call<'_>) -> Code {
        let body = Sha256::digest(call.body);
        self.code(&[
            b"call",
            node.as_bytes(),
            at.as_bytes(),
            number.as_bytes(),
            call.path.as_bytes(),
            call.deadline.as_bytes(),
            call.hops.as_bytes(),
            &body,
        ])
    }

    /// Signs a call of `node`; answers the header and the call's number.
    pub fn sign(&self, node: &str, now: Timestamp, call: Call<'_>) -> (String, Uuid) {
        let number = Uuid::now_v7();
        let (at, shown) = (now.0.to_string(), number.to_string());
        let code = self.call_code(node, &at, &shown, call).finalize().into_bytes();
        (format!("{node} {at} {shown} {}", STANDARD_NO_PAD.encode(code)), number)
    }

    /// Checks a call that came with this header; answers its number.
    pub fn verify(
        &self,
        header: Option<&str>,
        now: Timestamp,
        call: Call<'_>,
    ) -> Result<Uuid, Distrust> {
        let mut parts = header.unwrap_or_default().split(' ');
        let (Some(node), Some(at), Some(number), Some(code), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Distrust::Unsigned);
        };
        let code = STANDARD_NO_PAD.decode(code).map_err(|_| Distrust::Unsigned)?;
        let expected = self.call_code(node, at, number, call);
        expected.verify_slice(&code).map_err(|_| Distrust::Wrong)?;
        // Only who knows the key comes as far as this.
        let at: i64 = at.parse().map_err(|_| Distrust::Unsigned)?;
        let number: Uuid = number.parse().map_err(|_| Distrust::Unsigned)?;
        let apart = now.0 - at;
        if apart.unsigned_abs() > SKEW_MAX.as_millis() as u64 {
            return Err(Distrust::Skewed(apart));
        }
        if self.numbers.get(&number.as_u128()).is_some() {
            return Err(Distrust::Repeated);
        }
        self.numbers.insert(number.as_u128(), ());
        Ok(number)
    }

    fn answer_code(&self, number: Uuid, status: u16, body: &[u8]) -> Code {
        let body = Sha256::digest(body);
        self.code(&[b"answer", number.as_bytes(), &status.to_be_bytes(), &body])
    }

    /// Signs the answer to the call with this number.
    pub fn sign_answer(&self, number: Uuid, status: u16, body: &[u8]) -> String {
        let code = self.answer_code(number, status, body).finalize().into_bytes();
        STANDARD_NO_PAD.encode(code)
    }

    /// Whether an answer that came with this header is the one to the call with this number.
    pub fn is_answer(&self, header: Option<&str>, number: Uuid, status: u16, body: &[u8]) -> bool {
        let code = header.and_then(|header| STANDARD_NO_PAD.decode(header).ok());
        code.is_some_and(|code| self.answer_code(number, status, body).verify_slice(&code).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn call(body: &[u8]) -> Call<'_> {
        Call { path: "/internal/v1/ask", deadline: "3000", hops: "1", body }
    }

    #[test]
    fn a_signed_call_is_believed_once() {
        let (signer, other) = (Signer::new(b"key"), Signer::new(b"key"));
        let (header, number) = signer.sign("n1", NOW, call(b"{}"));
        assert_eq!(other.verify(Some(&header), NOW, call(b"{}")), Ok(number));
        assert_eq!(other.verify(Some(&header), NOW, call(b"{}")), Err(Distrust::Repeated));
    }

    #[test]
    fn nothing_of_a_call_can_be_changed() {
        let signer = Signer::new(b"key");
        let (header, _) = signer.sign("n1", NOW, call(b"{}"));
        let changed = [
            Call { path: "/internal/v1/pairing", ..call(b"{}") },
            Call { deadline: "30000", ..call(b"{}") },
            Call { hops: "2", ..call(b"{}") },
            call(b"[]"),
        ];
        for changed in changed {
            assert_eq!(signer.verify(Some(&header), NOW, changed), Err(Distrust::Wrong));
        }
        for (from, to) in [("n1", "n2"), ("1700000000000", "1700000000001")] {
            let header = header.replacen(from, to, 1);
            assert_eq!(signer.verify(Some(&header), NOW, call(b"{}")), Err(Distrust::Wrong));
        }
        let stranger = Signer::new(b"another key");
        assert_eq!(stranger.verify(Some(&header), NOW, call(b"{}")), Err(Distrust::Wrong));
    }

    #[test]
    fn an_old_call_and_one_of_the_future_are_not_believed() {
        let signer = Signer::new(b"key");
        for (apart, believed) in
            [(30_000, true), (30_001, false), (-30_000, true), (-30_001, false)]
        {
            let (header, number) = signer.sign("n1", NOW, call(b"{}"));
            let then = Timestamp(NOW.0 + apart);
            let expected = if believed { Ok(number) } else { Err(Distrust::Skewed(apart)) };
            assert_eq!(signer.verify(Some(&header), then, call(b"{}")), expected);
        }
    }

    #[test]
    fn what_is_no_signature_is_refused_without_a_panic() {
        let signer = Signer::new(b"key");
        for header in
            [None, Some(""), Some("a b c"), Some("a b c d"), Some("a b c d e"), Some("n1 1 2 ")]
        {
            assert!(signer.verify(header, NOW, call(b"{}")).is_err(), "{header:?}");
        }
    }

    #[test]
    fn an_answer_belongs_to_its_call_alone() {
        let signer = Signer::new(b"key");
        let (number, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let header = signer.sign_answer(number, 200, b"{}");
        assert!(signer.is_answer(Some(&header), number, 200, b"{}"));
        assert!(!signer.is_answer(Some(&header), other, 200, b"{}"));
        assert!(!signer.is_answer(Some(&header), number, 421, b"{}"));
        assert!(!signer.is_answer(Some(&header), number, 200, b"[]"));
        assert!(!signer.is_answer(None, number, 200, b"{}"));
        assert!(!Signer::new(b"other").is_answer(Some(&header), number, 200, b"{}"));
    }
}
