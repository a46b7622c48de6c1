//! Reads the records that this program writes, byte for byte as `encode` writes them, in one pass.
//!
//! JSON may say the same in many ways, and [`decode`](super::record::decode) takes them all. Nearly
//! every record is written in one way, with the members in one order, and that one is read here
//! without buffering, without looking members up, and without copying a text that is held inline. A
//! record that is written in any other way, or is broken, gets no answer here, and the other reader
//! decides. So it can be wrong in one way only, and the tests hold the two equal.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde::de::value::{Error, StrDeserializer};
use uuid::Uuid;

use super::record::{Body, Cause, Commit, Origin, Record};
use super::{Epoch, Partition};
use crate::domain::{AppId, Card, EdgeId, Event, Settled, Timestamp, UserId, UserKey, Version};

/// About how many bytes an event takes, to make room for as many as there will be.
const EVENT_BYTES: usize = 128;
/// A number of so many digits always fits a u64.
const DIGITS_MAX: usize = 19;
/// A moment like `2026-11-22T10:00:00.123Z`.
const MOMENT_BYTES: usize = 24;
/// A UUID with its hyphens.
const UUID_BYTES: usize = 36;

/// The record that `bytes` are, if they are written as this program writes them.
pub(super) fn read(bytes: &[u8]) -> Option<Record> {
    let mut text = Text(bytes);
    text.take(b"{\"v\":1,\"e\":")?;
    let epoch = Epoch(text.number()?);
    text.take(b",\"n\":")?;
    let n = text.number()?;
    text.take(b",\"kind\":\"")?;
    let body = if text.has(b"commit\"") {
        Body::Commit(text.commit()?)
    } else if text.has(b"watermark\",\"in\":") {
        Body::Watermark { seen: text.places()? }
    } else if text.has(b"acknowledged\",\"out\":") {
        Body::Acknowledged { out: text.places()? }
    } else {
        return None;
    };
    text.take(b"}")?;
    text.0.is_empty().then_some(Record { epoch, n, body })
}

/// What is left to read.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Whether `literal` comes next; then it is behind us.
    fn has(&mut self, literal: &[u8]) -> bool {
        match self.0.strip_prefix(literal) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn take(&mut self, literal: &[u8]) -> Option<()> {
        self.has(literal).then_some(())
    }

    fn exactly(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number without a sign, as JSON allows it: a zero leads only alone.
    fn number(&mut self) -> Option<u64> {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = self.exactly(count)?;
        if count > 1 && digits[0] == b'0' {
            return None;
        }
        digits_of(digits)
    }

    fn bool(&mut self) -> Option<bool> {
        if self.has(b"true") {
            return Some(true);
        }
        self.take(b"false").map(|()| false)
    }

    /// What stands up to the next quote, which is taken along; nothing if something is escaped.
    fn unquoted(&mut self) -> Option<&'a [u8]> {
        let plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
        let count = self.0.iter().take_while(|byte| plain(byte)).count();
        let text = self.exactly(count)?;
        self.take(b"\"")?;
        Some(text)
    }

    fn quoted(&mut self) -> Option<Box<str>> {
        self.take(b"\"")?;
        self.str().map(Into::into)
    }

    fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.unquoted()?).ok()
    }

    fn user(&mut self) -> Option<UserId> {
        UserId::parse_bytes(self.unquoted()?).ok()
    }

    fn edge(&mut self) -> Option<EdgeId> {
        let text = self.unquoted()?;
        // A UserID may hold colons itself, so the version stands behind the last one.
        let colon = text.iter().rposition(|byte| *byte == b':')?;
        let version = Version(digits_of(&text[colon + 1..])?);
        Some(EdgeId { offerer: UserId::parse_bytes(&text[..colon]).ok()?, version })
    }

    fn uuid(&mut self) -> Option<Uuid> {
        let text = self.exactly(UUID_BYTES)?;
        self.take(b"\"")?;
        Uuid::try_parse_ascii(text).ok()
    }

    fn moment(&mut self) -> Option<Timestamp> {
        let text = self.exactly(MOMENT_BYTES)?;
        self.take(b"\"")?;
        let marks =
            [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')];
        if marks.iter().any(|(at, mark)| text[*at] != *mark) {
            return None;
        }
        let part = |from: usize, to: usize| digits_of(&text[from..to]).map(|value| value as u32);
        let year = part(0, 4)?.cast_signed();
        let day = chrono::NaiveDate::from_ymd_opt(year, part(5, 7)?, part(8, 10)?)?;
        let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
        let moment = day.and_hms_milli_opt(hour, minute, second, part(20, 23)?)?;
        Some(Timestamp(moment.and_utc().timestamp_millis()))
    }

    /// One of a few words, by the names under which they are stored.
    fn word<T: Deserialize<'a>>(&mut self) -> Option<T> {
        T::deserialize(StrDeserializer::<Error>::new(self.str()?)).ok()
    }

    /// Any object, read in the way that all JSON is.
    fn object<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut objects = serde_json::Deserializer::from_slice(self.0).into_iter::<T>();
        let object = objects.next()?.ok()?;
        self.exactly(objects.byte_offset())?;
        Some(object)
    }

    /// The rest of a list that has begun.
    fn list<T>(
        &mut self,
        mut items: Vec<T>,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        if self.has(b"]") {
            return Some(items);
        }
        loop {
            items.push(item(self)?);
            if self.has(b"]") {
                return Some(items);
            }
            self.take(b",")?;
        }
    }

    fn places(&mut self) -> Option<Vec<(Partition, u64)>> {
        self.take(b"[")?;
        self.list(Vec::new(), |text| {
            text.take(b"[")?;
            let partition = text.number()?.try_into().ok()?;
            text.take(b",")?;
            let seq = text.number()?;
            text.take(b"]")?;
            Some((Partition(partition), seq))
        })
    }

    fn commit(&mut self) -> Option<Commit> {
        self.take(b",\"id\":\"")?;
        let id = self.uuid()?;
        self.take(b",\"app\":")?;
        let app = AppId(self.number()?.try_into().ok()?);
        self.take(b",\"user\":\"")?;
        let user = self.user()?;
        self.take(b",\"version\":")?;
        let version = Version(self.number()?);
        self.take(b",\"at\":\"")?;
        let at = self.moment()?;
        self.take(b",\"by\":{\"operator\":\"")?;
        let operator = self.str()?.into();
        self.take(b",\"request\":\"")?;
        let request = self.uuid()?;
        self.take(b",\"ip\":\"")?;
        let ip = self.str()?.into();
        self.take(b",\"platform\":\"")?;
        let platform = self.str()?.into();
        self.take(b"}")?;
        let by = Arc::new(Origin { operator, request, ip, platform });
        let cause =
            if self.has(b",\"cause\":{\"partition\":") { Some(self.cause()?) } else { None };
        self.take(b",\"events\":[")?;
        let room = Vec::with_capacity(self.0.len() / EVENT_BYTES + 1);
        let events = self.list(room, Self::event)?;
        let key = UserKey { app, user };
        Some(Commit { id, key, version, at, by, cause, events })
    }

    fn cause(&mut self) -> Option<Cause> {
        let partition = Partition(self.number()?.try_into().ok()?);
        self.take(b",\"seq\":")?;
        let seq = self.number()?;
        self.take(b",\"user\":\"")?;
        let user = self.user()?;
        self.take(b",\"version\":")?;
        let version = Version(self.number()?);
        self.take(b"}")?;
        Some(Cause { partition, seq, user, version })
    }

    fn event(&mut self) -> Option<Event> {
        let begun = self.0;
        self.take(b"{\"type\":\"")?;
        let event = match self.unquoted()? {
            b"AccountImported" => Event::AccountImported {},
            b"UserBlocked" => {
                let target = self.named(b",\"target\":\"")?;
                Event::UserBlocked { target, remain_friends: self.has(b",\"remain_friends\":true") }
            }
            b"UserUnblocked" => Event::UserUnblocked { target: self.named(b",\"target\":\"")? },
            b"FriendOffered" => Event::FriendOffered {
                peer: self.peer()?,
                edge: self.edge_named(b",\"edge\":\"")?,
                form: {
                    self.take(b",\"form\":\"")?;
                    self.word()?
                },
                forced: self.has(b",\"forced\":true"),
                over: if self.has(b",\"over\":\"") { Some(self.edge()?) } else { None },
                again: self.has(b",\"again\":true"),
                despite_block: self.has(b",\"despite_block\":true"),
                card: self.card()?,
            },
            b"FriendRequested" => Event::FriendRequested {
                peer: self.peer()?,
                edge: self.edge_named(b",\"edge\":\"")?,
                card: self.card()?,
            },
            b"FriendAccepted" => Event::FriendAccepted {
                peer: self.peer()?,
                offer: self.edge_named(b",\"offer\":\"")?,
                edge: self.edge_named(b",\"edge\":\"")?,
                added: self.bool_named(b",\"added\":")?,
                agreement: self.agreement()?,
                despite_block: self.has(b",\"despite_block\":true"),
            },
            b"FriendRefused" => Event::FriendRefused {
                peer: self.peer()?,
                offer: self.edge_named(b",\"offer\":\"")?,
                why: self.why()?,
            },
            b"FriendAdded" => Event::FriendAdded {
                peer: self.peer()?,
                edge: self.edge_named(b",\"edge\":\"")?,
                card: self.card()?,
            },
            b"FriendLinked" => {
                Event::FriendLinked { peer: self.peer()?, edge: self.edge_named(b",\"edge\":\"")? }
            }
            b"FriendRemoved" => Event::FriendRemoved {
                peer: self.peer()?,
                edge: self.edge_named(b",\"edge\":\"")?,
                reason: {
                    self.take(b",\"reason\":\"")?;
                    self.word()?
                },
                announced: self.has(b",\"announced\":true"),
            },
            b"UnfriendAsked" => Event::UnfriendAsked { peer: self.peer()? },
            b"OfferPending" => {
                Event::OfferPending { peer: self.peer()?, edge: self.edge_named(b",\"edge\":\"")? }
            }
            b"OfferConfirmed" => Event::OfferConfirmed {
                peer: self.peer()?,
                edge: self.edge_named(b",\"edge\":\"")?,
                mine: self.bool_named(b",\"mine\":")?,
                theirs: self.bool_named(b",\"theirs\":")?,
                agreement: self.agreement()?,
            },
            b"OfferEnded" => Event::OfferEnded {
                peer: self.peer()?,
                edge: self.edge_named(b",\"edge\":\"")?,
                why: self.why()?,
            },
            b"OfferWithdrawn" => Event::OfferWithdrawn {
                peer: self.peer()?,
                edge: self.edge_named(b",\"edge\":\"")?,
            },
            b"OffersSettled" => {
                self.take(b",\"offered\":")?;
                let offered = Version(self.number()?);
                let forced = self.has(b",\"forced\":true");
                let waited = self.has(b",\"waited\":true");
                self.take(b",\"friends\":[")?;
                let friends = self.list(Vec::new(), Self::settled)?;
                Event::OffersSettled { offered, forced, waited, friends }
            }
            b"PeerForgotten" => Event::PeerForgotten { peer: self.peer()? },
            b"RequestDropped" => Event::RequestDropped {
                peer: self.peer()?,
                edge: self.edge_named(b",\"edge\":\"")?,
            },
            // The others are rare, or long.
            _ => {
                self.0 = begun;
                return self.object();
            }
        };
        self.take(b"}")?;
        Some(event)
    }

    fn named(&mut self, name: &[u8]) -> Option<UserId> {
        self.take(name)?;
        self.user()
    }

    fn peer(&mut self) -> Option<UserId> {
        self.named(b",\"peer\":\"")
    }

    fn edge_named(&mut self, name: &[u8]) -> Option<EdgeId> {
        self.take(name)?;
        self.edge()
    }

    fn bool_named(&mut self, name: &[u8]) -> Option<bool> {
        self.take(name)?;
        self.bool()
    }

    fn why<T: Deserialize<'a>>(&mut self) -> Option<T> {
        self.take(b",\"why\":\"")?;
        self.word()
    }

    fn agreement<T: Deserialize<'a>>(&mut self) -> Option<Option<T>> {
        if self.has(b",\"agreement\":\"") { self.word().map(Some) } else { Some(None) }
    }

    fn card(&mut self) -> Option<Card> {
        let mut card = Card::default();
        if !self.has(b",\"card\":{") {
            return Some(card);
        }
        let mut first = true;
        if self.member(&mut first, b"\"remark\":") {
            card.remark = self.quoted()?;
        }
        if self.member(&mut first, b"\"groups\":[") {
            card.groups = self.list(Vec::new(), Self::quoted)?;
        }
        if self.member(&mut first, b"\"source\":") {
            card.source = self.quoted()?;
        }
        if self.member(&mut first, b"\"wording\":") {
            card.wording = self.quoted()?;
        }
        if self.member(&mut first, b"\"custom\":[") {
            card.custom = self.list(Vec::new(), |text| {
                text.take(b"[")?;
                let tag = text.quoted()?;
                text.take(b",")?;
                let value = text.quoted()?;
                text.take(b"]")?;
                Some((tag, value))
            })?;
        }
        if self.member(&mut first, b"\"added_at\":") {
            card.added_at = Some(self.number()?.try_into().ok()?);
        }
        if self.member(&mut first, b"\"remark_at\":") {
            card.remark_at = Some(self.number()?.try_into().ok()?);
        }
        self.take(b"}")?;
        Some(card)
    }

    /// Whether the object goes on with this member.
    fn member(&mut self, first: &mut bool, name: &[u8]) -> bool {
        let begun = self.0;
        if (*first || self.has(b",")) && self.has(name) {
            *first = false;
            return true;
        }
        self.0 = begun;
        false
    }

    fn settled(&mut self) -> Option<Settled> {
        self.take(b"{\"peer\":\"")?;
        let peer = self.user()?;
        let mine = self.bool_named(b",\"mine\":")?;
        let theirs = self.bool_named(b",\"theirs\":")?;
        self.take(b"}")?;
        Some(Settled { peer, mine, theirs })
    }
}

fn digits_of(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    digits.iter().try_fold(0, |value: u64, digit| {
        digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests;
