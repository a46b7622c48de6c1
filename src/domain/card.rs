//! A friend's record, also packed into a few bytes: most hold a source and nothing else.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::packed::{Unpack, pack_number, pack_text};

/// What sources begin with. Rule: rest-api.md 4.2.
const SOURCE_PREFIX: &str = "AddSource_Type_";

/// What a user keeps about one friend, or sends along with a request. Texts that people read leave
/// empty fields out.
///
/// Units: `added_at` and `remark_at` are unix seconds, absent = the record's own time or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Card {
    /// The remark, at most 96 bytes.
    pub remark: Box<str>,
    /// Friend groups that hold the friend.
    pub groups: Vec<Box<str>>,
    /// `AddSource_Type_…`.
    pub source: Box<str>,
    /// The words of the request, at most 256 bytes.
    pub wording: Box<str>,
    /// Custom fields: tag and value.
    pub custom: Vec<(Box<str>, Box<str>)>,
    /// When the friend was added, if not at the time of the record.
    pub added_at: Option<u32>,
    /// When the remark was made.
    pub remark_at: Option<u32>,
}

impl Serialize for Card {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { remark, groups, source, wording, custom, added_at, remark_at } = self;
        // The rows of the state store have no names of fields: a field left out there would be read
        // from the bytes of the next one.
        let whole = !serializer.is_human_readable();
        let mut card = serializer.serialize_struct("Card", 7)?;
        if whole || !remark.is_empty() {
            card.serialize_field("remark", remark)?;
        }
        if whole || !groups.is_empty() {
            card.serialize_field("groups", groups)?;
        }
        if whole || !source.is_empty() {
            card.serialize_field("source", source)?;
        }
        if whole || !wording.is_empty() {
            card.serialize_field("wording", wording)?;
        }
        if whole || !custom.is_empty() {
            card.serialize_field("custom", custom)?;
        }
        if whole || added_at.is_some() {
            card.serialize_field("added_at", added_at)?;
        }
        if whole || remark_at.is_some() {
            card.serialize_field("remark_at", remark_at)?;
        }
        card.end()
    }
}

impl Card {
    /// Whether no field is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// New values for fields of a friend's record; absent ones stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CardChange {
    /// The remark, at most 96 bytes; empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<Box<str>>,
    /// All friend groups that hold the friend from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Box<str>>>,
    /// Custom fields: tag and value; an empty value for none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom: Vec<(Box<str>, Box<str>)>,
}

/// Which fields follow.
mod field {
    pub(super) const ADDED_AT: u8 = 1;
    pub(super) const REMARK_AT: u8 = 1 << 1;
    pub(super) const GROUPS: u8 = 1 << 2;
    pub(super) const REMARK: u8 = 1 << 3;
    pub(super) const SOURCE: u8 = 1 << 4;
    /// The source begins with the prefix, which is left out.
    pub(super) const PREFIXED: u8 = 1 << 5;
    pub(super) const WORDING: u8 = 1 << 6;
    pub(super) const CUSTOM: u8 = 1 << 7;
}

/// A card, read where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardView<'a> {
    /// When the friend was added, if not at the time of the record.
    added_at: Option<u32>,
    /// When the remark was made.
    remark_at: Option<u32>,
    groups: Texts<'a>,
    remark: &'a str,
    source: Source<'a>,
    wording: &'a str,
    custom: Texts<'a>,
}

/// Some texts, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Texts<'a> {
    count: usize,
    packed: Unpack<'a>,
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.count = self.count.checked_sub(1)?;
        Some(self.packed.text())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Texts<'_> {}

/// A source, in two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source<'a>(&'static str, &'a str);

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        f.write_str(self.1)
    }
}

impl Serialize for Source<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Packs `card`; one that is empty takes nothing.
pub(super) fn pack(card: &Card, out: &mut Vec<u8>) {
    let Card { remark, groups, source, wording, custom, added_at, remark_at } = card;
    let short = source.strip_prefix(SOURCE_PREFIX);
    let rest = short.unwrap_or(source);
    let fields = [
        (added_at.is_some(), field::ADDED_AT),
        (remark_at.is_some(), field::REMARK_AT),
        (!groups.is_empty(), field::GROUPS),
        (!remark.is_empty(), field::REMARK),
        (!rest.is_empty(), field::SOURCE),
        (short.is_some(), field::PREFIXED),
        (!wording.is_empty(), field::WORDING),
        (!custom.is_empty(), field::CUSTOM),
    ];
    let fields =
        fields.into_iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, one)| all | one);
    if fields == 0 {
        return;
    }
    out.push(fields);
    for seconds in [added_at, remark_at].into_iter().flatten() {
        out.extend_from_slice(&seconds.to_le_bytes());
    }
    if !groups.is_empty() {
        pack_number(out, groups.len() as u64);
        groups.iter().for_each(|group| pack_text(out, group));
    }
    let texts = [remark, rest, wording].into_iter().filter(|text| !text.is_empty());
    texts.for_each(|text| pack_text(out, text));
    if !custom.is_empty() {
        pack_number(out, custom.len() as u64);
        for (tag, value) in custom {
            pack_text(out, tag);
            pack_text(out, value);
        }
    }
}

impl<'a> CardView<'a> {
    /// Reads what [`pack`] wrote; nothing if the card was empty.
    pub(super) fn read(mut packed: Unpack<'a>) -> Option<Self> {
        let fields = if packed.is_empty() { 0 } else { packed.byte() };
        let has = |field: u8| fields & field != 0;
        let mut card = Self {
            added_at: has(field::ADDED_AT).then(|| packed.fixed()),
            remark_at: has(field::REMARK_AT).then(|| packed.fixed()),
            groups: Texts::read(has(field::GROUPS), 1, &mut packed),
            remark: "",
            source: Source(if has(field::PREFIXED) { SOURCE_PREFIX } else { "" }, ""),
            wording: "",
            custom: Texts::NONE,
        };
        let texts = [
            (field::REMARK, &mut card.remark),
            (field::SOURCE, &mut card.source.1),
            (field::WORDING, &mut card.wording),
        ];
        for (field, text) in texts {
            if has(field) {
                *text = packed.text();
            }
        }
        card.custom = Texts::read(has(field::CUSTOM), 2, &mut packed);
        (fields != 0).then_some(card)
    }

    /// The remark.
    pub(super) fn remark(&self) -> &'a str {
        self.remark
    }

    /// The groups that hold the friend.
    pub(super) fn groups(&self) -> Texts<'a> {
        self.groups
    }

    /// Custom fields: tag and value.
    pub(super) fn custom(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut texts = self.custom;
        std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
    }
}

impl<'a> Texts<'a> {
    /// No text.
    pub(super) const NONE: Self = Self { count: 0, packed: Unpack::NOTHING };

    /// Reads so many times `each` texts as it says, if there are any.
    fn read(has_some: bool, each: usize, packed: &mut Unpack<'a>) -> Self {
        if !has_some {
            return Self::NONE;
        }
        let count = packed.number() as usize * each;
        let texts = Self { count, packed: *packed };
        for _ in 0..count {
            packed.text();
        }
        texts
    }
}

impl From<CardView<'_>> for Card {
    fn from(view: CardView<'_>) -> Self {
        Self {
            remark: view.remark.into(),
            groups: view.groups.map(Into::into).collect(),
            source: view.source.to_string().into(),
            wording: view.wording.into(),
            custom: view.custom().map(|(tag, value)| (tag.into(), value.into())).collect(),
            added_at: view.added_at,
            remark_at: view.remark_at,
        }
    }
}

/// As a whole [`Card`] is written into a row.
impl Serialize for CardView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut card = serializer.serialize_struct("Card", 7)?;
        card.serialize_field("remark", self.remark)?;
        card.serialize_field("groups", &self.groups.collect::<Vec<_>>())?;
        card.serialize_field("source", &self.source)?;
        card.serialize_field("wording", self.wording)?;
        card.serialize_field("custom", &self.custom().collect::<Vec<_>>())?;
        card.serialize_field("added_at", &self.added_at)?;
        card.serialize_field("remark_at", &self.remark_at)?;
        card.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = Box<str>> {
        prop_oneof![Just(""), Just("AddSource_Type_"), Just("AddSource_Type_Web"), Just("ö")]
            .prop_map(Into::into)
    }

    fn texts() -> impl Strategy<Value = Vec<Box<str>>> {
        prop::collection::vec(text(), 0..3)
    }

    proptest! {
        /// Whatever is set, a card is read and written as the one that was packed.
        #[test]
        fn a_card_is_read_as_it_was_packed(
            (remark, source, wording) in (text(), text(), text()),
            (groups, tags) in (texts(), texts()),
            (added_at, remark_at) in any::<(Option<u32>, Option<u32>)>(),
        ) {
            let custom = tags.iter().map(|tag| (tag.clone(), "value".into())).collect();
            let card = Card { remark, groups, source, wording, custom, added_at, remark_at };
            let mut packed = Vec::new();
            pack(&card, &mut packed);
            prop_assert_eq!(packed.is_empty(), card.is_empty());
            let view = CardView::read(Unpack::of(&packed));
            prop_assert_eq!(view.map(Card::from).unwrap_or_default(), card.clone());
            if let Some(view) = view {
                prop_assert_eq!(postcard::to_stdvec(&view), postcard::to_stdvec(&card));
            }
        }
    }
}
