//! Values that are handed on as the text that they are in the body.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess};
use serde_json::value::RawValue;

use super::shape::{AnyValue, Field, Lenient};

/// Any value, as the text that it is in the body. That text is a whole JSON value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Raw<'a>(Option<&'a RawValue>);

impl Field for Raw<'_> {}

impl<'a> Raw<'a> {
    /// The text, if given.
    pub(super) fn text(self) -> Option<&'a str> {
        self.0.map(RawValue::get)
    }
}

impl<'de> Deserialize<'de> for Raw<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw: &RawValue = Deserialize::deserialize(deserializer)?;
        // A raw value was passed over, not read: it may hold half of a surrogate pair, or a number
        // beyond all bounds. In a field that we look at such a thing is no JSON either.
        let _: Readable = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        Ok(Self((raw.get() != "null").then_some(raw)))
    }
}

/// Any value, read to its depth and forgotten.
struct Readable;

impl<'de> Lenient<'de> for Readable {
    const OTHER: Self = Self;

    fn of_list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(Self)
    }
    fn of_object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<Self, Self>()?.is_some() {}
        Ok(Self)
    }
}

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_text_and_null_is_none() {
        for text in [r#"{ "a" : [1e3, "\u00e4"] }"#, "7", "[]", r#""\ud83d\ude00""#, "1.5e308"] {
            let raw: Raw<'_> = serde_json::from_str(text).unwrap();
            assert_eq!(raw.text(), Some(text));
        }
        let null: Raw<'_> = serde_json::from_str("null").unwrap();
        assert_eq!(null.text(), None);
    }

    #[test]
    fn what_nobody_could_read_is_no_value() {
        for text in [r#"["\ud800"]"#, r#"{"\udc00":1}"#, "[[1e400]]", r#"{"a":{"b":-1e999}}"#] {
            assert!(serde_json::from_str::<Raw<'_>>(text).is_err(), "{text}");
        }
    }
}
