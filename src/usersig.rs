//! UserSig tokens, version 2: sign and verify; pure.
//!
//! A UserSig says "this app's key holder lets `identifier` call until then". It is a zlib stream of
//! a small JSON document in a URL-safe base64. Keys and the time are arguments; this room knows no
//! clock, no settings and no error numbers. Reading ([`decode`]) and judging ([`Document::verify`])
//! are two steps, because the first depends on the text alone and can be remembered.
//!
//! Rule: rest-api.md 1.10; the order of the judgements is 1.9, checks 8 to 12.

use std::fmt;
use std::io::Write;

use base64::alphabet::{Alphabet, Symbol};
use base64::engine::general_purpose::{GeneralPurpose, PAD, STANDARD};
use base64::engine::{DecodePaddingMode, Engine};
use flate2::write::ZlibEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::Sha256;

use crate::domain::AppId;

/// The longest document that [`decode`] inflates, in bytes. Rule: rest-api.md 1.10.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024;

/// The longest text that [`decode`] looks at, in bytes: a document of [`DOCUMENT_BYTES_MAX`] that
/// was stored without compression, in base64, with room for the stream's own bytes.
pub const TEXT_BYTES_MAX: usize = 22 * 1024;

/// How far ahead of our clock `TLS.time` may lie, in seconds. Rule: rest-api.md 1.10.
pub const FUTURE_S_MAX: i64 = 15 * 60;

/// The one version that is spoken here. Version 1, an ECDSA key pair, is not.
const VERSION: &str = "2.0";

/// Base64 that needs no escaping in a URL: `*` for `+`, `-` for `/`, `_` for `=`. Libraries differ
/// in whether they pad, so a missing padding is accepted.
const URL_SAFE: GeneralPurpose = {
    let symbols = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*-";
    let padding = Symbol::new(b'_').expect("an underscore is printable");
    let Ok(alphabet) = Alphabet::new_with_padding(symbols, padding) else {
        panic!("64 different symbols, and the padding is none of them");
    };
    GeneralPurpose::new(&alphabet, PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent))
};

/// Why a UserSig does not open the door, in the order of the checks. Rule: rest-api.md 1.9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Check 8: the text is no UserSig of version 2, or it is dated too far ahead.
    #[error("the UserSig cannot be decoded")]
    Malformed,
    /// Check 9: it was made for another app.
    #[error("the UserSig was made for another SDKAppID")]
    WrongApp,
    /// Check 10: it was made for another account.
    #[error("the UserSig was made for another identifier")]
    WrongIdentifier,
    /// Check 11: none of the app's keys made it.
    #[error("the UserSig was not made with this app's key")]
    Forged,
    /// Check 12: its time is over.
    #[error("the UserSig has expired")]
    Expired,
}

/// A UserSig that passed every check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The last second in which it is valid, in seconds since 1970.
    pub expires_at: i64,
}

/// What a UserSig says, not yet believed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    #[serde(rename = "TLS.ver")]
    version: String,
    #[serde(rename = "TLS.identifier")]
    identifier: String,
    #[serde(rename = "TLS.sdkappid", deserialize_with = "integer_or_decimal")]
    sdkappid: i64,
    #[serde(rename = "TLS.expire", deserialize_with = "integer_or_decimal")]
    expire_s: i64,
    #[serde(rename = "TLS.time", deserialize_with = "integer_or_decimal")]
    time: i64,
    /// In base64, as signed.
    #[serde(rename = "TLS.userbuf", default, skip_serializing_if = "Option::is_none")]
    userbuf: Option<String>,
    /// In base64.
    #[serde(rename = "TLS.sig")]
    sig: String,
}

/// Makes the UserSig with which `identifier` may call `app` from `now_s` on for `expire_s` seconds.
///
/// Shape: `key` is the app's secret as text, used as it is; `now_s` counts from 1970.
/// Rule: rest-api.md 1.10.
pub fn sign(app: AppId, key: &str, identifier: &str, expire_s: u64, now_s: i64) -> String {
    let mut document = Document {
        version: VERSION.to_owned(),
        identifier: identifier.to_owned(),
        sdkappid: app.0.into(),
        expire_s: expire_s.try_into().unwrap_or(i64::MAX),
        time: now_s,
        userbuf: None,
        sig: String::new(),
    };
    document.sig = STANDARD.encode(document.mac(key).finalize().into_bytes());
    let json = serde_json::to_vec(&document).expect("texts and numbers are always JSON");
    let mut stream = ZlibEncoder::new(Vec::new(), Compression::default());
    stream.write_all(&json).expect("a vector takes every byte");
    let stream = stream.finish().expect("a vector takes every byte");
    URL_SAFE.encode(stream)
}

/// Reads what `text` says, without believing it.
///
/// Errors: [`Error::Malformed`] only. Costs at most [`DOCUMENT_BYTES_MAX`] of memory, whatever the
/// text inflates to. Rule: rest-api.md 1.9, check 8.
pub fn decode(text: &str) -> Result<Document, Error> {
    let document = read(text).ok_or(Error::Malformed)?;
    // A line break inside a value would let one signed text be read as two different documents.
    let one_line = |value: &str| !value.contains('\n');
    let speakable = document.version == VERSION
        && one_line(&document.identifier)
        && document.userbuf.as_deref().is_none_or(one_line);
    if speakable { Ok(document) } else { Err(Error::Malformed) }
}

impl Document {
    /// Judges the document for a call by `identifier` on `app` at `now_s`, seconds since 1970.
    ///
    /// Each of `keys` is tried: an app has several during a change of keys. Errors: the first check
    /// that fails, in the order of [`Error`]; expiry comes last so that a forger learns nothing.
    /// Rule: rest-api.md 1.9, checks 8 to 12.
    pub fn verify(
        &self,
        app: AppId,
        identifier: &str,
        keys: &[impl AsRef<str>],
        now_s: i64,
    ) -> Result<Verified, Error> {
        if self.time > now_s.saturating_add(FUTURE_S_MAX) {
            return Err(Error::Malformed);
        }
        if self.sdkappid != i64::from(app.0) {
            return Err(Error::WrongApp);
        }
        if self.identifier != identifier {
            return Err(Error::WrongIdentifier);
        }
        let sig = STANDARD.decode(&self.sig).map_err(|_| Error::Forged)?;
        // `verify_slice` compares in constant time.
        if !keys.iter().any(|key| self.mac(key.as_ref()).verify_slice(&sig).is_ok()) {
            return Err(Error::Forged);
        }
        let expires_at = self.time.saturating_add(self.expire_s);
        if now_s > expires_at {
            return Err(Error::Expired);
        }
        Ok(Verified { expires_at })
    }

    fn mac(&self, key: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
        let Self { identifier, sdkappid, time, expire_s, .. } = self;
        mac.update(format!("TLS.identifier:{identifier}\n").as_bytes());
        mac.update(format!("TLS.sdkappid:{sdkappid}\n").as_bytes());
        mac.update(format!("TLS.time:{time}\nTLS.expire:{expire_s}\n").as_bytes());
        if let Some(userbuf) = &self.userbuf {
            mac.update(format!("TLS.userbuf:{userbuf}\n").as_bytes());
        }
        mac
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The signature stays out: with it, whoever reads the log could call.
        f.debug_struct("Document")
            .field("identifier", &self.identifier)
            .field("sdkappid", &self.sdkappid)
            .field("time", &self.time)
            .field("expire_s", &self.expire_s)
            .finish_non_exhaustive()
    }
}

fn read(text: &str) -> Option<Document> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let stream = URL_SAFE.decode(text).ok()?;
    serde_json::from_slice(&inflate(&stream)?).ok()
}

/// The whole content of `stream`, if it is one complete zlib stream of at most
/// [`DOCUMENT_BYTES_MAX`] bytes and nothing else.
fn inflate(stream: &[u8]) -> Option<Vec<u8>> {
    let mut document = Vec::with_capacity(DOCUMENT_BYTES_MAX);
    let mut inflater = Decompress::new(true);
    let status = inflater.decompress_vec(stream, &mut document, FlushDecompress::Finish).ok()?;
    let complete = status == Status::StreamEnd && inflater.total_in() == stream.len() as u64;
    complete.then_some(document)
}

fn integer_or_decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = i64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an integer, or one in a string")
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
            Ok(value)
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
            value.try_into().map_err(E::custom)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<i64, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Visitor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const APP: AppId = AppId(1_400_000_001);
    const ADMIN: &str = "administrator";
    const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const T0: i64 = 1_700_000_000;
    const DAY_S: i64 = 86_400;

    const LEVEL_6: &str = "eJyrVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwokpuZl5mcUlRYkl*UVQBcUp2YkFBZkpSlaGJgYQYAiRSa0oyCxKVbKyMANKQIRKMnOBAobmUIVQ0eLMdKDhoYHFFeluyVklZm4G7i4ZrhYGBkYWlVnhOQal*VmmEQbJfh7FhqEpQYU5ybZKtQC8ajPm";
    const STORED: &str = "eAEBrwBQ-3siVExTLnZlciI6IjIuMCIsIlRMUy5pZGVudGlmaWVyIjoiYWRtaW5pc3RyYXRvciIsIlRMUy5zZGthcHBpZCI6MTQwMDAwMDAwMSwiVExTLmV4cGlyZSI6ODY0MDAsIlRMUy50aW1lIjoxNzAwMDAwMDAwLCJUTFMuc2lnIjoiVVFzeGdGY2p0NkYwR0RoRTgwMDI4eWpXbDB1b2o1WDBjTkhzMVVkUnFsYz0ifQrwWjPw";
    const WITH_USERBUF: &str = "eJw1zd0KgkAQBeB3mVvDtMINwaswySQJRcG7tV1lCn9a17Kid29Rm7v5zmHmA3EQ6Q8uwIaVbsBi3JHxWmKBI1NWYY2dFFQ2Yi507EbbFhnY5saYxpwSPrQoONhbSwUTSawUmGQuztp3XOR9oR5kXiLzp*P8b2OpsIzjwzsgrkfcU3*x6vSeLa-hkWqvNAmGtRZG6U76pNn7Zwe*PyrzO1I_";

    fn check(text: &str, now_s: i64) -> Result<Verified, Error> {
        decode(text)?.verify(APP, ADMIN, &[KEY], now_s)
    }

    fn sign_at_t0() -> String {
        sign(APP, KEY, ADMIN, DAY_S as u64, T0)
    }

    fn pack(document: &str, level: u32) -> String {
        let mut stream = ZlibEncoder::new(Vec::new(), Compression::new(level));
        stream.write_all(document.as_bytes()).unwrap();
        URL_SAFE.encode(stream.finish().unwrap())
    }

    /// A rightly signed document as JSON, after `change`.
    fn changed(change: impl FnOnce(&mut Value)) -> String {
        let mut document = serde_json::to_value(decode(&sign_at_t0()).unwrap()).unwrap();
        change(&mut document);
        pack(&document.to_string(), 6)
    }

    #[test]
    fn signatures_equal_the_vectors() {
        let sig = |text: &str| decode(text).unwrap().sig;
        assert_eq!(sig(&sign_at_t0()), "UQsxgFcjt6F0GDhE80028yjWl0uoj5X0cNHs1UdRqlc=");
        assert_eq!(sig(WITH_USERBUF), "gTTIzL7EG7ENuc6nWqZ/jOKa+yWVLx3+OSWCtJ7oFJQ=");
    }

    #[test]
    fn complete_vectors_verify_until_their_last_second() {
        for text in [LEVEL_6, STORED, WITH_USERBUF] {
            let expires_at = T0 + DAY_S;
            assert_eq!(check(text, T0), Ok(Verified { expires_at }));
            assert_eq!(check(text, expires_at), Ok(Verified { expires_at }));
            assert_eq!(check(text, expires_at + 1), Err(Error::Expired));
        }
    }

    #[test]
    fn padding_may_be_missing() {
        let unpadded = WITH_USERBUF.strip_suffix('_').unwrap();
        assert!(check(unpadded, T0).is_ok());
    }

    #[test]
    fn every_compression_level_key_order_and_spacing_is_accepted() {
        let Document { sig, .. } = decode(LEVEL_6).unwrap();
        let document = format!(
            r#"{{ "TLS.sig" : "{sig}", "TLS.time": "1700000000", "TLS.expire":"86400",
                "TLS.sdkappid": "1400000001", "TLS.identifier": "administrator", "more": [1],
                "TLS.ver": "2.0" }}
            "#
        );
        for level in 0..=9 {
            assert!(check(&pack(&document, level), T0).is_ok(), "level {level}");
        }
    }

    #[test]
    fn each_failure_has_its_own_error_in_the_order_of_the_checks() {
        let document = decode(LEVEL_6).unwrap();
        let late = T0 + DAY_S + 1;
        let judge = |app, identifier, key, now_s| document.verify(app, identifier, &[key], now_s);
        assert_eq!(judge(AppId(7), "other", "wrong", T0 - 901), Err(Error::Malformed));
        assert_eq!(judge(AppId(7), "other", "wrong", late), Err(Error::WrongApp));
        assert_eq!(judge(APP, "other", "wrong", late), Err(Error::WrongIdentifier));
        assert_eq!(judge(APP, ADMIN, "wrong", late), Err(Error::Forged));
        assert_eq!(judge(APP, ADMIN, KEY, late), Err(Error::Expired));
    }

    #[test]
    fn any_of_the_keys_will_do_and_none_will_not() {
        let document = decode(LEVEL_6).unwrap();
        assert!(document.verify(APP, ADMIN, &["new", KEY], T0).is_ok());
        assert_eq!(document.verify(APP, ADMIN, &[] as &[&str], T0), Err(Error::Forged));
    }

    #[test]
    fn a_date_up_to_15_minutes_ahead_is_accepted() {
        assert!(check(LEVEL_6, T0 - FUTURE_S_MAX).is_ok());
        assert_eq!(check(LEVEL_6, T0 - FUTURE_S_MAX - 1), Err(Error::Malformed));
    }

    #[test]
    fn damaged_texts_are_malformed() {
        let truncated = &LEVEL_6[..LEVEL_6.len() - 4];
        let with_tail = URL_SAFE.encode([URL_SAFE.decode(LEVEL_6).unwrap(), vec![0]].concat());
        let two_documents = pack("{}{}", 6);
        let texts = ["", "xxx", "____", truncated, &with_tail, &two_documents, &pack("[]", 6)];
        for text in texts {
            assert_eq!(decode(text), Err(Error::Malformed), "{text}");
        }
    }

    #[test]
    fn documents_without_the_right_fields_are_malformed() {
        type Change = fn(&mut Value);
        let changes: [Change; 8] = [
            |document| document["TLS.ver"] = json!("1.0"),
            |document| document["TLS.ver"] = json!(2.0),
            |document| document["TLS.sdkappid"] = json!("14e8"),
            |document| document["TLS.time"] = json!(1.5),
            |document| document["TLS.expire"] = json!(u64::MAX),
            |document| document["TLS.identifier"] = json!("administrator\nTLS.sdkappid:1"),
            |document| document["TLS.userbuf"] = json!("ZA==\nTLS.userbuf:ZA=="),
            |document| drop(document.as_object_mut().unwrap().remove("TLS.sig")),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_eq!(decode(&changed(change)), Err(Error::Malformed), "change {index}");
        }
    }

    #[test]
    fn what_is_signed_cannot_be_changed() {
        type Change = fn(&mut Value);
        let changes: [Change; 5] = [
            |document| document["TLS.time"] = json!(T0 + 1),
            |document| document["TLS.expire"] = json!(DAY_S * 1000),
            |document| document["TLS.userbuf"] = json!("ZGVtbw=="),
            |document| document["TLS.sig"] = json!(""),
            |document| document["TLS.sig"] = json!("not base64"),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_eq!(check(&changed(change), T0), Err(Error::Forged), "change {index}");
        }
    }

    #[test]
    fn a_flipped_bit_opens_nothing() {
        for text in [LEVEL_6, STORED, WITH_USERBUF] {
            let original = decode(text).unwrap();
            for (position, bit) in (0..text.len()).flat_map(|at| (0..7).map(move |bit| (at, bit))) {
                let mut bytes = text.as_bytes().to_vec();
                bytes[position] ^= 1 << bit;
                let flipped = String::from_utf8(bytes).unwrap();
                // A compressed stream has a few bits without a meaning: those may flip.
                let meaningless = decode(&flipped).as_ref() == Ok(&original);
                assert!(meaningless || check(&flipped, T0).is_err(), "byte {position}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_document_may_have_16_kib_and_not_a_byte_more() {
        let document = serde_json::to_string(&decode(LEVEL_6).unwrap()).unwrap();
        let filled = |len: usize| document.clone() + &" ".repeat(len - document.len());
        for level in [0, 6] {
            assert!(check(&pack(&filled(DOCUMENT_BYTES_MAX), level), T0).is_ok());
            let one_more = pack(&filled(DOCUMENT_BYTES_MAX + 1), level);
            assert_eq!(decode(&one_more), Err(Error::Malformed));
        }
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let bomb = pack(&" ".repeat(16 * 1024 * 1024), 9);
        assert!(bomb.len() <= TEXT_BYTES_MAX, "the length alone would give it away");
        assert_eq!(decode(&bomb), Err(Error::Malformed));
        assert_eq!(decode(&"A".repeat(TEXT_BYTES_MAX + 1)), Err(Error::Malformed));
    }

    #[test]
    fn debug_output_has_no_signature() {
        let document = decode(LEVEL_6).unwrap();
        assert!(!format!("{document:?}").contains(&document.sig));
    }

    proptest! {
        #[test]
        fn what_was_signed_verifies(
            app: u32,
            key in ".{0,80}",
            identifier in "[!-~]{1,32}",
            expire_s in 0..u64::from(u32::MAX),
            now_s in 0..i64::from(u32::MAX),
        ) {
            let text = sign(AppId(app), &key, &identifier, expire_s, now_s);
            let document = decode(&text)?;
            let expires_at = now_s + expire_s as i64;
            let verdict = document.verify(AppId(app), &identifier, &[&key], expires_at);
            prop_assert_eq!(verdict, Ok(Verified { expires_at }));
            let other_key = key + "x";
            let verdict = document.verify(AppId(app), &identifier, &[other_key], expires_at);
            prop_assert_eq!(verdict, Err(Error::Forged));
        }

        #[test]
        fn a_signature_that_was_changed_anywhere_opens_no_door(
            original in prop::sample::select(&[LEVEL_6, STORED, WITH_USERBUF][..]),
            depth in 0..3_u8,
            at: prop::sample::Index,
            gone in 0..20_usize,
            put in ".{0,3}|[0-9]{1,19}|[\"\\\\{}\\[\\]:,]{1,3}",
        ) {
            let splice = |bytes: &[u8]| {
                let at = at.index(bytes.len());
                let behind = &bytes[(at + gone).min(bytes.len())..];
                [&bytes[..at], put.as_bytes(), behind].concat()
            };
            let stream = URL_SAFE.decode(original).unwrap();
            let text = match depth {
                0 => String::from_utf8_lossy(&splice(original.as_bytes())).into_owned(),
                1 => URL_SAFE.encode(splice(&stream)),
                _ => pack(&String::from_utf8_lossy(&splice(&inflate(&stream).unwrap())), 1),
            };
            match decode(&text) {
                Err(error) => prop_assert_eq!(error, Error::Malformed),
                // Unless it still says the same.
                Ok(document) if document == decode(original)? => {}
                Ok(document) => prop_assert!(document.verify(APP, ADMIN, &[KEY], T0).is_err()),
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text: String, bytes: Vec<u8>) {
            let _ = decode(&text);
            let _ = decode(&URL_SAFE.encode(bytes));
        }
    }
}
