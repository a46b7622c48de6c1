//! What a call looks like: its address, its bytes, its headers, its signature; pure.
//!
//! Two formats. `reference` is the one of webhooks.md 2: the query of the reference, its body, and
//! `Sign` if there is a token. `standard` is the one of the Standard Webhooks specification: the plain
//! URL, the body `{"type":<CallbackCommand>,"timestamp":<of the event>,"data":<body of the reference>}`,
//! and a signature over id, time of the attempt and body. Either way the body is the same on every try.
//! That the id of a call has full stops in it makes nothing ambiguous: nobody chooses it, and what
//! stands between the last of them and the body is digits.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use awc::http::Uri;
use awc::http::header::{HeaderName, HeaderValue, InvalidHeaderValue};
use awc::http::uri::InvalidUri;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::caller::Post;
use super::endpoint::Endpoint;
use crate::domain::{AppId, Format, SECRETS_MAX, Timestamp};
use crate::journal::Origin;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// `<partition>:<number>` of a call in the chain of its subscription's calls, from 1.
const SEQ: HeaderName = HeaderName::from_static("webhook-seq");
/// The id of the call before it in the chain.
const PREV: HeaderName = HeaderName::from_static("webhook-prev");
/// The number of the try, from 1.
const ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");

/// What a secret of the standard format begins with.
pub const STANDARD_PREFIX: &str = "whsec_";
/// How many bytes such a secret stands for.
pub const KEY_BYTES_MIN: usize = 24;
/// At most.
pub const KEY_BYTES_MAX: usize = 64;

/// A secret that can be read. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: Box<str>,
    until: Option<Timestamp>,
}

impl Secret {
    /// A secret that signs, for ever or, if another one has replaced it, until then.
    pub fn new(text: impl Into<Box<str>>, until: Option<Timestamp>) -> Self {
        Self { text: text.into(), until }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("until", &self.until).finish_non_exhaustive()
    }
}

/// Why secrets cannot sign the calls of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The standard format has no unsigned calls.
    #[error("the standard format needs a secret")]
    Missing,
    /// More than a change of secrets needs.
    #[error("there are more than {SECRETS_MAX} secrets")]
    TooMany,
    /// A token of no characters proves nothing.
    #[error("a secret must not be empty")]
    Empty,
    /// Not as the specification writes it.
    #[error(
        "a secret of the standard format is whsec_ and {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes in base64"
    )]
    Shape,
}

/// A format, with the secrets that sign its calls, newest first. They are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Signer(Keys);

#[derive(Clone, PartialEq, Eq)]
enum Keys {
    Reference(Option<Secret>),
    Standard(Vec<Key>),
}

/// A secret of the standard format, ready for use.
#[derive(Clone)]
struct Key {
    bytes: Box<[u8]>,
    mac: Hmac<Sha256>,
    until: Option<Timestamp>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (&self.bytes, self.until) == (&other.bytes, other.until)
    }
}

impl Eq for Key {}

impl Key {
    fn new(secret: &Secret) -> Result<Self, SecretError> {
        let text = secret.text.strip_prefix(STANDARD_PREFIX).ok_or(SecretError::Shape)?;
        let bytes = STANDARD.decode(text).map_err(|_| SecretError::Shape)?;
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&bytes.len()) {
            return Err(SecretError::Shape);
        }
        let mac = Hmac::new_from_slice(&bytes).expect("HMAC takes keys of any length");
        Ok(Self { bytes: bytes.into(), mac, until: secret.until })
    }
}

/// One call as it goes over the wire.
#[derive(Debug)]
pub(super) struct Dressed {
    pub(super) uri: Uri,
    pub(super) body: Bytes,
    pub(super) headers: SmallVec<[(HeaderName, HeaderValue); 6]>,
}

/// Where the last call went, for the next one that goes there.
pub(super) struct Address {
    command: &'static str,
    by: Arc<Origin>,
    signed_at: Option<i64>,
    uri: Uri,
}

impl Address {
    fn fits(&self, post: &Post, signed_at: Option<i64>) -> bool {
        let same =
            |one: &Origin, other: &Origin| (&one.ip, &one.platform) == (&other.ip, &other.platform);
        (self.command, self.signed_at) == (post.command, signed_at) && same(&self.by, &post.by)
    }
}

/// Something in a call cannot be said in HTTP.
#[derive(Debug, thiserror::Error)]
pub(super) enum DressError {
    #[error(transparent)]
    Uri(#[from] InvalidUri),
    #[error(transparent)]
    Header(#[from] InvalidHeaderValue),
}

impl Signer {
    /// Takes the secrets of a format, newest first.
    ///
    /// The reference's format has room for one signature: the newest makes it, and without any there
    /// is none. In the standard format all sign whose time is not over, so that a receiver may know
    /// either. Errors: [`SecretError`].
    pub fn new(format: Format, secrets: &[Secret]) -> Result<Self, SecretError> {
        if secrets.len() > SECRETS_MAX {
            return Err(SecretError::TooMany);
        }
        if secrets.iter().any(|secret| secret.text.is_empty()) {
            return Err(SecretError::Empty);
        }
        match format {
            Format::Reference => Ok(Self(Keys::Reference(secrets.first().cloned()))),
            Format::Standard if secrets.is_empty() => Err(SecretError::Missing),
            Format::Standard => {
                let keys: Result<_, _> = secrets.iter().map(Key::new).collect();
                Ok(Self(Keys::Standard(keys?)))
            }
        }
    }

    /// The reference's format without a signature.
    pub fn unsigned() -> Self {
        Self(Keys::Reference(None))
    }

    /// What calls look like.
    pub fn format(&self) -> Format {
        match self.0 {
            Keys::Reference(_) => Format::Reference,
            Keys::Standard(_) => Format::Standard,
        }
    }

    /// One call as it goes over the wire at `now`, with all headers or only those of its format.
    pub(super) fn dress(
        &self,
        app: AppId,
        endpoint: &Endpoint,
        post: &Post,
        all_headers: bool,
        now: Timestamp,
        last: &mut Option<Address>,
    ) -> Result<Dressed, DressError> {
        let time = now.seconds();
        let mut headers = SmallVec::new();
        let (uri, body) = match &self.0 {
            Keys::Reference(secret) => {
                let signed_at = secret.as_ref().map(|_| time);
                let known = last.as_ref().filter(|last| last.fits(post, signed_at));
                let uri = match known {
                    Some(known) => known.uri.clone(),
                    None => {
                        let sign = secret.as_ref().map(|secret| sign(&secret.text, time));
                        let signed = sign.as_deref().map(|sign| (sign, time));
                        let uri = endpoint.address(app, post.command, &post.by, signed)?;
                        let (command, by) = (post.command, Arc::clone(&post.by));
                        *last = Some(Address { command, by, signed_at, uri: uri.clone() });
                        uri
                    }
                };
                (uri, post.body.clone())
            }
            Keys::Standard(keys) => {
                let body = wrapped(post);
                let signatures = signatures(keys, &post.id, time, &body, now);
                headers.push((SIGNATURE, HeaderValue::try_from(signatures)?));
                (endpoint.uri(), body)
            }
        };
        if all_headers || self.format() == Format::Standard {
            headers.push((ID, HeaderValue::try_from(&*post.id)?));
            headers.push((TIMESTAMP, HeaderValue::from(time)));
        }
        if all_headers {
            headers.push((ATTEMPT, HeaderValue::from(post.attempt)));
            if let Some(link) = &post.link {
                let seq = format!("{}:{}", link.partition, link.seq);
                headers.push((SEQ, HeaderValue::try_from(seq)?));
                if let Some(prev) = &link.prev {
                    headers.push((PREV, HeaderValue::try_from(prev.to_string())?));
                }
            }
        }
        Ok(Dressed { uri, body, headers })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secrets = match &self.0 {
            Keys::Reference(secret) => usize::from(secret.is_some()),
            Keys::Standard(keys) => keys.len(),
        };
        f.debug_struct("Signer").field("format", &self.format()).field("secrets", &secrets).finish()
    }
}

/// The signature of the reference for a call at `request_time`: the SHA-256 of the token and the
/// time, in lower-case hex. Rule: webhooks.md 5.
fn sign(token: &str, request_time: i64) -> String {
    use fmt::Write;
    let mut hash = Sha256::new_with_prefix(token);
    write!(HashText(&mut hash), "{request_time}").expect("a hash takes everything");
    let hash = hash.finalize();
    let mut hex = String::with_capacity(2 * hash.len());
    for byte in hash {
        write!(hex, "{byte:02x}").expect("a String takes everything");
    }
    hex
}

/// Text that goes into a hash or a MAC.
struct HashText<'h, H>(&'h mut H);

impl<H: sha2::digest::Update> fmt::Write for HashText<'_, H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

/// The body of the standard format.
fn wrapped(post: &Post) -> Bytes {
    const AROUND: usize = r#"{"type":"","timestamp":"2026-11-22T10:00:00.123Z","data":}"#.len();
    let mut body = Vec::with_capacity(AROUND + post.command.len() + post.body.len());
    // Neither a command nor a time has a character that JSON would write otherwise.
    write!(body, r#"{{"type":"{}","timestamp":"{}","data":"#, post.command, post.at)
        .expect("a Vec takes everything");
    body.extend_from_slice(&post.body);
    body.push(b'}');
    body.into()
}

/// The signatures of all keys whose time is not over, with blanks between them. The newest key has
/// none that could be over: a call without a signature would help nobody.
fn signatures(keys: &[Key], id: &str, time: i64, body: &[u8], now: Timestamp) -> String {
    use fmt::Write;
    let mut text = String::with_capacity(48 * keys.len());
    for (index, key) in keys.iter().enumerate() {
        if index > 0 && key.until.is_some_and(|until| until <= now) {
            continue;
        }
        let mut mac = key.mac.clone();
        write!(HashText(&mut mac), "{id}.{time}.").expect("a MAC takes everything");
        Mac::update(&mut mac, body);
        text.push_str(if text.is_empty() { "v1," } else { " v1," });
        STANDARD.encode_string(mac.finalize().into_bytes(), &mut text);
    }
    text
}

#[cfg(test)]
mod tests;
