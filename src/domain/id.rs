//! Names and positions that are parsed once and valid ever after.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use chrono::{DateTime, Datelike, SecondsFormat, Timelike};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest [`UserId`], in bytes. Rule: rest-api.md 1.4.
pub const USER_ID_BYTES_MAX: usize = 32;

/// The number of an app (SDKAppID), a decimal u32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AppId(pub u32);

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of an account inside its app.
///
/// Shape: 1 to 32 bytes of printable ASCII without the space (0x21 to 0x7E), compared bytewise.
/// Held inline, so that copying one never allocates.
/// Rule: rest-api.md 1.4 (the set of characters is unconfirmed there; this is its only place).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserId {
    len: u8,
    bytes: [u8; USER_ID_BYTES_MAX],
}

/// Why a text is no [`UserId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserIdError {
    /// The text has no byte.
    #[error("a UserID may not be empty")]
    Empty,
    /// The text has more than 32 bytes.
    #[error("a UserID has at most {USER_ID_BYTES_MAX} bytes")]
    TooLong,
    /// A byte lies outside 0x21 to 0x7E.
    #[error("a UserID has only printable ASCII characters and no space")]
    IllegalByte,
}

impl UserId {
    /// Checks `text`. Errors: see [`UserIdError`].
    pub fn parse(text: &str) -> Result<Self, UserIdError> {
        Self::parse_bytes(text.as_bytes())
    }

    /// The same, of bytes that nobody has looked at. Errors: see [`UserIdError`].
    pub fn parse_bytes(text: &[u8]) -> Result<Self, UserIdError> {
        if text.is_empty() {
            return Err(UserIdError::Empty);
        }
        if text.len() > USER_ID_BYTES_MAX {
            return Err(UserIdError::TooLong);
        }
        if !text.iter().all(|byte| (0x21..=0x7e).contains(byte)) {
            return Err(UserIdError::IllegalByte);
        }
        let mut bytes = [0; USER_ID_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Ok(Self { len: text.len() as u8, bytes })
    }

    /// The name that was `bytes` before.
    pub(super) fn of_valid(bytes: &[u8]) -> Self {
        let mut name = Self { len: bytes.len() as u8, bytes: [0; USER_ID_BYTES_MAX] };
        name.bytes[..bytes.len()].copy_from_slice(bytes);
        name
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("a UserId is printable ASCII")
    }

    /// The name as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Hash for UserId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
        state.write_u8(self.len);
    }
}

impl Ord for UserId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for UserId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for UserId {
    type Err = UserIdError;

    fn from_str(text: &str) -> Result<Self, UserIdError> {
        Self::parse(text)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = UserId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a UserID")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<UserId, E> {
                UserId::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// One user of one app: the key of a stream, written `<sdkappid>/<user_id>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserKey {
    /// The app.
    pub app: AppId,
    /// The account inside it.
    pub user: UserId,
}

impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.user)
    }
}

/// A place in one user's stream: 0 before the first record, then gap-free.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// The version of the next record.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of one friendship or one wish for it, written `<offerer>:<version>`.
///
/// Shape: who offered, and the version of the offerer's stream at the offer. Unique for a pair of
/// users and never used again. Rule: cluster.md 5.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeId {
    /// Who offered.
    pub offerer: UserId,
    /// The version of the offerer's record that holds the offer.
    pub version: Version,
}

impl fmt::Display for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.offerer, self.version)
    }
}

impl fmt::Debug for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EdgeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EdgeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = EdgeId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an edge id like amy:9")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<EdgeId, E> {
                // A UserID may hold colons itself, so the version stands behind the last one.
                let (offerer, version) =
                    text.rsplit_once(':').ok_or_else(|| E::custom("an edge id has a colon"))?;
                Ok(EdgeId {
                    offerer: UserId::parse(offerer).map_err(E::custom)?,
                    version: Version(version.parse().map_err(E::custom)?),
                })
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A moment, in milliseconds since 1970 in UTC; written as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The same as fields of the API have room for it: never negative, below 2^31.
    pub fn unix_seconds(self) -> u32 {
        self.seconds().clamp(0, i64::from(i32::MAX)) as u32
    }

    /// The moment `seconds` after 1970 began.
    pub fn from_unix_seconds(seconds: u32) -> Self {
        Self(i64::from(seconds) * 1000)
    }
}

impl Timestamp {
    /// Its text in RFC 3339, in the years from 0 to 9999. Each record has one, so it is not put together
    /// by chrono's formats.
    fn text(self) -> Option<[u8; 24]> {
        let moment = DateTime::from_timestamp_millis(self.0)?;
        let year = u32::try_from(moment.year()).ok().filter(|year| *year <= 9999)?;
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |last: usize, digits: usize, mut number: u32| {
            for place in (last + 1 - digits..=last).rev() {
                text[place] += (number % 10) as u8;
                number /= 10;
            }
        };
        put(3, 4, year);
        put(6, 2, moment.month());
        put(9, 2, moment.day());
        put(12, 2, moment.hour());
        put(15, 2, moment.minute());
        put(18, 2, moment.second());
        put(22, 3, moment.timestamp_subsec_millis());
        Some(text)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.text()
            && let Ok(text) = std::str::from_utf8(&text)
        {
            return f.write_str(text);
        }
        match DateTime::from_timestamp_millis(self.0) {
            Some(moment) => f.write_str(&moment.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{} ms", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Self, chrono::ParseError> {
        Ok(Self(DateTime::parse_from_rfc3339(text)?.timestamp_millis()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a moment in RFC 3339")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From the year -100 to 10100.
    const MOMENTS: std::ops::Range<i64> = -65_000_000_000_000..256_000_000_000_000;

    proptest! {
        #[test]
        fn a_moment_is_written_as_rfc_3339_has_it_and_read_again(ms in MOMENTS) {
            let moment = DateTime::from_timestamp_millis(ms).expect("chrono knows these years");
            let text = Timestamp(ms).to_string();
            prop_assert_eq!(&text, &moment.to_rfc3339_opts(SecondsFormat::Millis, true));
            if (0..=9999).contains(&moment.year()) {
                prop_assert_eq!(text.parse(), Ok(Timestamp(ms)));
            }
        }
    }
}
