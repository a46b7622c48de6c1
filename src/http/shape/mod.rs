//! Request bodies as they come in: every field may be missing or of a wrong type, and the commands
//! decide what that means.
//!
//! A type error must not end the parse: a body is first of all JSON or not (60003), then its account
//! fields are strings or not (60015), and only then do the command's own rules count. So a field
//! takes any JSON value and remembers whether it is one it can use. Texts are borrowed from the body.
//! `null` counts as not given, unknown fields are ignored, of a repeated field the last one counts.
//! Rule: rest-api.md 1.2 and 1.9, checks 15 and 16.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error_code::{self as code, ErrorCode};

/// How many entries of a list are kept: more than any command takes, so that a list that is too long is
/// seen to be, without holding it; and more elements than a message of 64 KiB can have.
pub(super) const KEPT_MAX: usize = 1_700;

/// The fields of one JSON object. Made by [`shape!`].
pub(super) trait Shape<'a>: Sized {
    /// Reads all members of the object.
    fn read<A: MapAccess<'a>>(members: A) -> Result<Self, A::Error>;
    /// Whether every account in it is a string.
    fn accounts_are_text(&self) -> bool;
}

/// Reads `body` as an object. Errors: 60003, 60015.
pub(super) fn parse<'a, S: Shape<'a>>(body: &'a str) -> Result<S, ErrorCode> {
    let shape = match serde_json::from_str(body) {
        Ok(Object::Given(shape)) => shape,
        Ok(Object::Other) | Err(_) => return Err(code::BODY_NOT_JSON),
    };
    let shape: S = shape;
    if shape.accounts_are_text() { Ok(shape) } else { Err(code::ACCOUNT_NOT_TEXT) }
}

/// A field has not the type or the form that it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A value that a field of a [`Shape`], or an entry of a list, can have.
pub(super) trait Field {
    /// Whether every account in it is a string.
    fn accounts_are_text(&self) -> bool {
        true
    }
}

/// A text or an integer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Integer(i64),
    Other,
}

impl Field for Scalar<'_> {}

impl Scalar<'_> {
    /// The text, if given.
    pub(super) fn text(&self) -> Result<Option<&str>, Malformed> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            Self::Integer(_) | Self::Other => Err(Malformed),
        }
    }

    /// The integer, if given.
    pub(super) fn integer(&self) -> Result<Option<i64>, Malformed> {
        match self {
            Self::Absent => Ok(None),
            Self::Integer(value) => Ok(Some(*value)),
            Self::Text(_) | Self::Other => Err(Malformed),
        }
    }

    /// The integer, if given, which has to be one of `T`.
    pub(super) fn number<T: TryFrom<i64>>(&self) -> Result<Option<T>, Malformed> {
        self.integer()?.map(|value| T::try_from(value).map_err(|_| Malformed)).transpose()
    }

    /// 1 for yes or 0 for no, if given.
    pub(super) fn flag(&self) -> Result<Option<bool>, Malformed> {
        match self.integer()? {
            None => Ok(None),
            Some(value @ 0..=1) => Ok(Some(value == 1)),
            Some(_) => Err(Malformed),
        }
    }
}

/// A field that names an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account<'a>(Scalar<'a>);

impl Field for Account<'_> {
    fn accounts_are_text(&self) -> bool {
        matches!(self.0, Scalar::Absent | Scalar::Text(_))
    }
}

impl Account<'_> {
    /// The name, if given. One of a wrong type does not get past [`parse`].
    pub(super) fn name(&self) -> Option<&str> {
        self.0.text().unwrap_or_default()
    }
}

/// An account that is an entry of a list itself. There `null` is no account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed<'a>(Scalar<'a>);

impl Field for Listed<'_> {
    fn accounts_are_text(&self) -> bool {
        matches!(self.0, Scalar::Text(_))
    }
}

impl Listed<'_> {
    /// The name. One of a wrong type does not get past [`parse`].
    pub(super) fn name(&self) -> &str {
        self.0.text().ok().flatten().unwrap_or_default()
    }
}

/// One value, or a list of them.
#[derive(Debug)]
pub(super) enum TextOrTexts<'a> {
    One(Scalar<'a>),
    Many(List<Scalar<'a>>),
}

impl Default for TextOrTexts<'_> {
    fn default() -> Self {
        Self::One(Scalar::Absent)
    }
}

impl Field for TextOrTexts<'_> {}

impl<'de> Lenient<'de> for TextOrTexts<'de> {
    const OTHER: Self = Self::One(Scalar::Other);

    fn of_null() -> Self {
        Self::default()
    }
    fn of_text(text: Cow<'de, str>) -> Self {
        Self::One(Scalar::Text(text))
    }
    fn of_integer(value: i64) -> Self {
        Self::One(Scalar::Integer(value))
    }
    fn of_list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        List::of_list(list).map(Self::Many)
    }
}

impl<'de> Deserialize<'de> for TextOrTexts<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue::new())
    }
}

/// A list of what `T` is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum List<T> {
    #[default]
    Absent,
    Given {
        /// The first [`KEPT_MAX`].
        items: Vec<T>,
        /// Also of those that were not kept.
        accounts_are_text: bool,
    },
    Other,
}

impl<T> Field for List<T> {
    fn accounts_are_text(&self) -> bool {
        match self {
            Self::Given { accounts_are_text, .. } => *accounts_are_text,
            Self::Absent | Self::Other => true,
        }
    }
}

impl<T> List<T> {
    /// The entries, if given: at most [`KEPT_MAX`] of them.
    pub(super) fn items(&self) -> Result<Option<&[T]>, Malformed> {
        match self {
            Self::Absent => Ok(None),
            Self::Given { items, .. } => Ok(Some(items)),
            Self::Other => Err(Malformed),
        }
    }
}

/// An entry of a list that should be an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Object<S> {
    Given(S),
    Other,
}

impl<'a, S: Shape<'a>> Object<S> {
    /// The object.
    pub(super) fn given(&self) -> Result<&S, Malformed> {
        match self {
            Self::Given(shape) => Ok(shape),
            Self::Other => Err(Malformed),
        }
    }
}

impl<'a, S: Shape<'a>> Field for Object<S> {
    fn accounts_are_text(&self) -> bool {
        match self {
            Self::Given(shape) => shape.accounts_are_text(),
            Self::Other => true,
        }
    }
}

/// Declares the fields of an object, each with its name in JSON.
macro_rules! shape {
    ($(#[$about:meta])* $shape:ident<$life:lifetime> {
        $($(#[$note:meta])* $field:ident: $type:ty = $name:literal,)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        pub(super) struct $shape<$life> {
            $($(#[$note])* pub(super) $field: $type,)*
        }

        impl<$life> $crate::http::shape::Shape<$life> for $shape<$life> {
            fn read<A: serde::de::MapAccess<$life>>(mut members: A) -> Result<Self, A::Error> {
                let mut shape = Self::default();
                while let Some(name) = members.next_key::<$crate::http::shape::Name<'_>>()? {
                    match name.as_str() {
                        $($name => shape.$field = members.next_value()?,)*
                        _ => {
                            members.next_value::<serde::de::IgnoredAny>()?;
                        }
                    }
                }
                Ok(shape)
            }

            fn accounts_are_text(&self) -> bool {
                use $crate::http::shape::Field;
                true $(&& self.$field.accounts_are_text())*
            }
        }
    };
}
pub(super) use shape;

/// The name of a member, borrowed unless it has escapes.
pub(super) struct Name<'a>(Cow<'a, str>);

impl Name<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Makes a type of any JSON value: what it is made of from the kinds it has a use for, and from the
/// others what `other` says, after reading past them.
pub(super) trait Lenient<'de>: Sized {
    const OTHER: Self;

    fn of_null() -> Self {
        Self::OTHER
    }
    fn of_text(_: Cow<'de, str>) -> Self {
        Self::OTHER
    }
    fn of_integer(_: i64) -> Self {
        Self::OTHER
    }
    fn of_list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::OTHER)
    }
    fn of_object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::OTHER)
    }
}

/// Reads whatever comes.
pub(super) struct AnyValue<T>(PhantomData<T>);

impl<T> AnyValue<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: Lenient<'de>> Visitor<'de> for AnyValue<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::of_null())
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<T, E> {
        Ok(T::OTHER)
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        Ok(T::of_integer(value))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        Ok(i64::try_from(value).map_or(T::OTHER, T::of_integer))
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<T, E> {
        Ok(T::OTHER)
    }
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<T, E> {
        Ok(T::of_text(Cow::Borrowed(text)))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok(T::of_text(Cow::Owned(text.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        T::of_list(list)
    }
    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<T, A::Error> {
        T::of_object(object)
    }
}

impl<'de> Lenient<'de> for Scalar<'de> {
    const OTHER: Self = Self::Other;

    fn of_null() -> Self {
        Self::Absent
    }
    fn of_text(text: Cow<'de, str>) -> Self {
        Self::Text(text)
    }
    fn of_integer(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl<'de, T: Deserialize<'de> + Field> Lenient<'de> for List<T> {
    const OTHER: Self = Self::Other;

    fn of_null() -> Self {
        Self::Absent
    }
    fn of_list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut items = Vec::new();
        let mut accounts_are_text = true;
        while let Some(item) = list.next_element::<T>()? {
            accounts_are_text &= item.accounts_are_text();
            if items.len() < KEPT_MAX {
                items.push(item);
            }
        }
        Ok(Self::Given { items, accounts_are_text })
    }
}

impl<'de, S: Shape<'de>> Lenient<'de> for Object<S> {
    const OTHER: Self = Self::Other;

    fn of_object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        S::read(object).map(Self::Given)
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue::new())
    }
}

impl<'de> Deserialize<'de> for Account<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Listed<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).map(Self)
    }
}

impl<'de, T: Deserialize<'de> + Field> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue::new())
    }
}

impl<'de, S: Shape<'de>> Deserialize<'de> for Object<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue::new())
    }
}

#[cfg(test)]
mod tests;
