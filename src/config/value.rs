//! What a setting can be: each kind reads itself from the file or from a variable, and shows
//! itself.

use std::path::PathBuf;

use toml::de::DeValue;

use super::secret::{Secret, Url};
use crate::domain::{AllowType, AppId, FailurePolicy, Fallback, Format, UserId};
use crate::tags;

/// A kind of setting.
///
/// A refusal says what would be right and never repeats the text: it could be a secret.
pub(super) trait Value: Clone {
    /// Reads the text of a variable, or of a string in the file.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Reads a value of the file.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(text) => Self::from_text(text),
            DeValue::Integer(integer) => match whole_number(integer.as_str(), integer.radix()) {
                Some(number) => Self::from_text(&number.to_string()),
                None => Err("it is no whole number".to_owned()),
            },
            DeValue::Boolean(yes) => Self::from_text(if *yes { "true" } else { "false" }),
            other => Err(format!("it cannot be of the type {}", other.type_str())),
        }
    }

    /// The value for people, secrets masked.
    fn show(&self) -> String;

    /// What the limits of a setting count: a number itself, or the items of a list.
    fn size(&self) -> u64 {
        0
    }

    /// A limit for people, in the way in which [`Value::show`] writes.
    fn show_size(size: u64) -> String {
        size.to_string()
    }
}

/// Reads digits, with underscores between them if wanted.
pub(super) fn whole_number(text: &str, radix: u32) -> Option<u64> {
    u64::from_str_radix(&text.replace('_', ""), radix).ok()
}

macro_rules! whole_numbers {
    ($($number:ty),+) => {$(
        impl Value for $number {
            fn from_text(text: &str) -> Result<Self, String> {
                let number = whole_number(text, 10).ok_or("it is no whole number")?;
                number.try_into().map_err(|_| "it is no whole number that fits here".to_owned())
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn size(&self) -> u64 {
                *self as u64
            }
        }
    )+};
}

whole_numbers!(u16, u32, u64, usize);

impl Value for AppId {
    fn from_text(text: &str) -> Result<Self, String> {
        match whole_number(text, 10).map(u32::try_from) {
            Some(Ok(id)) if id > 0 => Ok(Self(id)),
            _ => Err("an SDKAppID is a number from 1 to 4294967295".to_owned()),
        }
    }

    fn show(&self) -> String {
        if self.0 == 0 { "none".to_owned() } else { self.to_string() }
    }
}

impl Value for UserId {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

impl Value for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path must not be empty".to_owned()) } else { Ok(text.into()) }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for Secret {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("a secret must not be empty".to_owned())
        } else {
            Ok(Self::new(text))
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn size(&self) -> u64 {
        self.reveal().len() as u64
    }
}

impl Value for Url {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "an address looks like https://host/path".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl<T: Value> Value for Option<T> {
    fn from_text(text: &str) -> Result<Self, String> {
        T::from_text(text).map(Some)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        T::from_toml(value).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), T::show)
    }

    fn size(&self) -> u64 {
        self.as_ref().map_or(0, T::size)
    }
}

/// A list: an array in the file, items with commas between them in a variable.
impl<T: Value> Value for Vec<T> {
    fn from_text(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        numbered(items.map(T::from_text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::Array(items) => {
                numbered(items.iter().map(|item| T::from_toml(item.get_ref())))
            }
            DeValue::String(text) => Self::from_text(text),
            other => Err(format!("it is a list, not of the type {}", other.type_str())),
        }
    }

    fn show(&self) -> String {
        if self.is_empty() {
            return "none".to_owned();
        }
        self.iter().map(T::show).collect::<Vec<_>>().join(", ")
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

/// All items, or what is wrong with the first wrong one, and which one that is.
fn numbered<T>(items: impl Iterator<Item = Result<T, String>>) -> Result<Vec<T>, String> {
    let items = items.zip(1..);
    items.map(|(item, n)| item.map_err(|reason| format!("item {n}: {reason}"))).collect()
}

/// A kind of setting that has a few values, each with a name.
pub(super) trait Choice: Clone + PartialEq + 'static {
    /// Every value with its name; a second name of the same value comes behind the first.
    const CHOICES: &'static [(&'static str, Self)];
}

impl<T: Choice> Value for T {
    fn from_text(text: &str) -> Result<Self, String> {
        match T::CHOICES.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(value.clone()),
            None => {
                let names: Vec<_> = T::CHOICES.iter().map(|(name, _)| *name).collect();
                Err(format!("it is one of: {}", names.join(", ")))
            }
        }
    }

    fn show(&self) -> String {
        let named = T::CHOICES.iter().find(|(_, value)| value == self);
        named.expect("every value has a name").0.to_owned()
    }
}

impl Choice for bool {
    const CHOICES: &'static [(&'static str, Self)] = &[("true", true), ("false", false)];
}

impl Choice for AllowType {
    const CHOICES: &'static [(&'static str, Self)] = &{
        let [a, b, c] = tags::ALLOW_TYPES;
        [
            ("allow_any", Self::AllowAny),
            ("need_confirm", Self::NeedConfirm),
            ("deny_any", Self::DenyAny),
            a,
            b,
            c,
        ]
    };
}

impl Choice for FailurePolicy {
    const CHOICES: &'static [(&'static str, Self)] = &tags::FAILURE_POLICIES;
}

impl Choice for Format {
    const CHOICES: &'static [(&'static str, Self)] = &tags::FORMATS;
}

impl Choice for Fallback {
    const CHOICES: &'static [(&'static str, Self)] = &tags::FALLBACKS;
}
