//! Calls and answers signed with a key that all nodes share. Pure.
//!
//! A call's signature covers where it goes, who makes it, how long it counts, its nonce and the hash
//! of its body; it is checked before the body is read. An answer's signature covers the signature
//! of its call, so that no answer fits any other call. Only a call that was signed and whole, and
//! not taken before, gets a signed answer: somebody in between can forge neither an acknowledgement nor
//! a refusal.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The shortest key, in bytes: as long as what HMAC-SHA256 can make use of.
pub const KEY_BYTES_MIN: usize = 32;

/// The key that all nodes share, ready for use. Its text is not kept, and it is never printed.
#[derive(Clone)]
pub struct Key {
    /// Signs and is accepted.
    own: Hmac<Sha256>,
    /// Is accepted as well, while the nodes change from one to the other.
    other: Option<Box<Hmac<Sha256>>>,
}

/// A key has less than [`KEY_BYTES_MIN`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret that nodes share has less than {KEY_BYTES_MIN} bytes")]
pub struct KeyTooShort;

/// A signature that was made or checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    bytes: [u8; 32],
    /// Made with the other key; so is the answer then.
    by_other: bool,
}

/// What the signature of a call covers, as it stands in the call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Covered<'c> {
    pub(super) method: &'c str,
    pub(super) path: &'c str,
    pub(super) from: &'c str,
    pub(super) to: &'c str,
    pub(super) deadline_ms: &'c str,
    pub(super) hops: &'c str,
    pub(super) timestamp_ms: &'c str,
    pub(super) nonce: &'c str,
    pub(super) body_hash: &'c str,
}

impl Key {
    /// Takes the text of a secret. Errors: [`KeyTooShort`].
    pub fn new(secret: &str) -> Result<Self, KeyTooShort> {
        Ok(Self { own: keyed(secret)?, other: None })
    }

    /// Accepts calls that are signed with `secret`, too. Errors: [`KeyTooShort`].
    pub fn accepting(self, secret: &str) -> Result<Self, KeyTooShort> {
        Ok(Self { other: Some(Box::new(keyed(secret)?)), ..self })
    }

    pub(super) fn sign_call(&self, call: &Covered<'_>) -> Tag {
        let bytes = over_call(&self.own, call).finalize().into_bytes().into();
        Tag { bytes, by_other: false }
    }

    /// The signature, if it is the one of this call.
    pub(super) fn check_call(&self, call: &Covered<'_>, signature: &str) -> Option<Tag> {
        let by = |key, by_other| {
            let bytes = check(over_call(key, call), signature)?;
            Some(Tag { bytes, by_other })
        };
        by(&self.own, false).or_else(|| by(self.other.as_deref()?, true))
    }

    /// With the key that signed the call, which its caller knows.
    pub(super) fn sign_answer(&self, call: &Tag, status: u16, body: &[u8]) -> Tag {
        let bytes = self.over_answer(call, status, body).finalize().into_bytes().into();
        Tag { bytes, ..*call }
    }

    /// Whether the signature is the one of this answer to this call.
    pub(super) fn check_answer(
        &self,
        call: &Tag,
        status: u16,
        body: &[u8],
        signature: &str,
    ) -> bool {
        check(self.over_answer(call, status, body), signature).is_some()
    }

    fn over_answer(&self, call: &Tag, status: u16, body: &[u8]) -> Hmac<Sha256> {
        let key = self.other.as_deref().filter(|_| call.by_other).unwrap_or(&self.own);
        let mut mac = key.clone();
        mac.update(b"cordon answer 1\n");
        mac.update(&call.bytes);
        mac.update(&status.to_be_bytes());
        mac.update(&Sha256::digest(body));
        mac
    }
}

fn keyed(secret: &str) -> Result<Hmac<Sha256>, KeyTooShort> {
    if secret.len() < KEY_BYTES_MIN {
        return Err(KeyTooShort);
    }
    Ok(Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length"))
}

/// No part has a line break, since it stands in a header or in a request line; so no two different
/// calls have the same lines.
fn over_call(key: &Hmac<Sha256>, call: &Covered<'_>) -> Hmac<Sha256> {
    let Covered { method, path, from, to, deadline_ms, hops, timestamp_ms, nonce, body_hash } =
        call;
    let parts = [method, path, from, to, deadline_ms, hops, timestamp_ms, nonce, body_hash];
    let mut mac = key.clone();
    mac.update(b"cordon call 1");
    for part in parts {
        mac.update(b"\n");
        mac.update(part.as_bytes());
    }
    mac
}

/// The bytes of the signature, if it is this one.
fn check(mac: Hmac<Sha256>, signature: &str) -> Option<[u8; 32]> {
    let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(signature).ok()?.try_into().ok()?;
    // `verify_slice` compares in constant time.
    mac.verify_slice(&bytes).ok().map(|()| bytes)
}

impl Tag {
    /// As it stands in a header.
    pub(super) fn text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes)
    }
}

/// The hash of a body as it stands in a header.
pub(super) fn hash(body: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(body))
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(********)")
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With it, whoever reads the log could repeat the call.
        f.write_str("Tag(********)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn key(secret: &str) -> Key {
        Key::new(secret).expect("a key")
    }

    fn call() -> Covered<'static> {
        Covered {
            method: "POST",
            path: "/internal/v1/ask",
            from: "a",
            to: "b",
            deadline_ms: "100",
            hops: "1",
            timestamp_ms: "5",
            nonce: "n.1",
            body_hash: "h",
        }
    }

    #[test]
    fn a_key_has_32_bytes_at_least_and_is_never_printed() {
        assert_eq!(Key::new(&SECRET[1..]).unwrap_err(), KeyTooShort);
        assert_eq!(format!("{:?}", key(SECRET)), "Key(********)");
    }

    #[test]
    fn a_signature_covers_every_part_of_a_call() {
        let key = key(SECRET);
        let signature = key.sign_call(&call()).text();
        assert!(key.check_call(&call(), &signature).is_some());
        let others = [
            Covered { method: "GET", ..call() },
            Covered { path: "/internal/v1/pairing", ..call() },
            Covered { from: "c", ..call() },
            Covered { to: "c", ..call() },
            Covered { deadline_ms: "1000", ..call() },
            Covered { hops: "2", ..call() },
            Covered { timestamp_ms: "6", ..call() },
            Covered { nonce: "n.2", ..call() },
            Covered { body_hash: "i", ..call() },
        ];
        for other in others {
            assert!(key.check_call(&other, &signature).is_none(), "{other:?}");
        }
    }

    #[test]
    fn parts_of_a_call_cannot_be_shifted_into_each_other() {
        let key = key(SECRET);
        let signature = key.sign_call(&Covered { from: "ab", to: "c", ..call() }).text();
        let shifted = Covered { from: "a", to: "bc", ..call() };
        assert!(key.check_call(&shifted, &signature).is_none());
    }

    #[test]
    fn another_key_and_what_is_no_signature_are_refused() {
        let other = key("abcdef0123456789abcdef0123456789");
        let signature = other.sign_call(&call()).text();
        for signature in [&*signature, "", "AAAA", "?", &"A".repeat(43)] {
            assert!(key(SECRET).check_call(&call(), signature).is_none(), "{signature}");
        }
    }

    #[test]
    fn nodes_change_from_one_key_to_another_one_step_after_the_other() {
        const NEXT: &str = "abcdef0123456789abcdef0123456789";
        let both = |own, other| key(own).accepting(other).expect("a key");
        let steps = [key(SECRET), both(SECRET, NEXT), both(NEXT, SECRET), key(NEXT)];
        let understand = |asker: &Key, owner: &Key| {
            let asked = asker.sign_call(&call());
            let known = owner.check_call(&call(), &asked.text());
            known.is_some_and(|known| {
                let answer = owner.sign_answer(&known, 200, b"yes").text();
                asker.check_answer(&asked, 200, b"yes", &answer)
            })
        };
        for (step, next) in steps.iter().zip(&steps[1..]) {
            assert!(understand(step, next) && understand(next, step));
        }
        assert!(!understand(&steps[2], &steps[0]), "not every node knows the next key yet");
        assert_eq!(key(SECRET).accepting("short").unwrap_err(), KeyTooShort);
    }

    #[test]
    fn an_answer_belongs_to_its_call_status_and_body() {
        let key = key(SECRET);
        let tag = key.sign_call(&call());
        let other = key.sign_call(&Covered { nonce: "n.2", ..call() });
        let signature = key.sign_answer(&tag, 200, b"yes").text();
        assert!(key.check_answer(&tag, 200, b"yes", &signature));
        assert!(!key.check_answer(&tag, 200, b"no", &signature));
        assert!(!key.check_answer(&tag, 421, b"yes", &signature));
        assert!(!key.check_answer(&other, 200, b"yes", &signature));
        assert!(!key.check_answer(&tag, 200, b"yes", &tag.text()));
    }
}
