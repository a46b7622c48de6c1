//! What a setting can be: each kind reads itself from the file or from a variable, and shows itself.

use std::fmt;
use std::path::PathBuf;

use toml::de::DeValue;

use super::secret::{Secret, Url};
use crate::domain::{AllowType, AppId, UserId};

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
fn whole_number(text: &str, radix: u32) -> Option<u64> {
    u64::from_str_radix(&text.replace('_', ""), radix).ok()
}

/// An amount of bytes, written as a number or like `64 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    const UNITS: [(&str, u64); 4] =
        [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

    /// `count` times 1024 bytes.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// `count` times 1024 KiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The amount as a length in memory, as far as this machine can have one.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |size: u64| size == 1 || self.0 > 0 && self.0.is_multiple_of(size);
        let unit = Self::UNITS.iter().find(|(_, size)| whole(*size));
        let (name, size) = unit.expect("every amount is a whole number of bytes");
        write!(f, "{} {name}", self.0 / size)
    }
}

impl Value for Bytes {
    fn from_text(text: &str) -> Result<Self, String> {
        let unit =
            Self::UNITS.iter().find_map(|(name, size)| Some((text.strip_suffix(name)?, size)));
        let (count, size) = unit.unwrap_or((text, &1));
        whole_number(count.trim(), 10)
            .and_then(|count| count.checked_mul(*size))
            .map(Self)
            .ok_or_else(|| "it is no amount like 1048576 or \"1 MiB\"".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn size(&self) -> u64 {
        self.0
    }

    fn show_size(size: u64) -> String {
        Self(size).to_string()
    }
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
        self.to_string()
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
        if text.is_empty() { Err("a path is not empty".to_owned()) } else { Ok(text.into()) }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for Secret {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a secret is not empty".to_owned()) } else { Ok(Self::new(text)) }
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

/// A listener's or peer's `host:port`; port 0 picks a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The address as text, for binding or connecting.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let one_host = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        let port_is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let fits = !host.is_empty() && one_host && port_is_number && port.parse::<u16>().is_ok();
        fits.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for Address {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "an address looks like 127.0.0.1:8080".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A name that goes into headers and topic names as it is: ASCII letters, digits, `.`, `_`, `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (!text.is_empty() && text.bytes().all(fits)).then(|| Self(text.to_owned()))
    }
}

impl Value for Name {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "a name has only letters, digits, and . _ -".to_owned())
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }
}

/// A directive for what is logged, like `info` or `info,cordon::webhooks=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Value for LogFilter {
    fn from_text(text: &str) -> Result<Self, String> {
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err("a filter looks like info or info,cordon::webhooks=debug".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
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
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("allow_any", Self::AllowAny),
        ("need_confirm", Self::NeedConfirm),
        ("deny_any", Self::DenyAny),
        ("AllowType_Type_AllowAny", Self::AllowAny),
        ("AllowType_Type_NeedConfirm", Self::NeedConfirm),
        ("AllowType_Type_DenyAny", Self::DenyAny),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_bytes_are_read_and_shown_in_the_largest_whole_unit() {
        for (text, bytes, shown) in [
            ("1048576", 1 << 20, "1 MiB"),
            ("64 MiB", 64 << 20, "64 MiB"),
            ("1_536KiB", 1536 << 10, "1536 KiB"),
            ("1000", 1000, "1000 B"),
            ("0 B", 0, "0 B"),
        ] {
            assert_eq!(Bytes::from_text(text), Ok(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).show(), shown);
        }
        for text in ["", "MiB", "1 MB", "-1", "18446744073709551615 KiB"] {
            assert!(Bytes::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_listener_has_a_host_and_a_port() {
        for text in ["127.0.0.1:8080", "localhost:0", "[::1]:80"] {
            assert!(Address::from_text(text).is_ok(), "{text}");
        }
        for text in ["8080", ":8080", "localhost", "localhost:", "::1:80", "host:65536", "host:+1"]
        {
            assert!(Address::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_filter_is_checked_when_it_is_read() {
        assert!(LogFilter::from_text("info,cordon::webhooks=debug").is_ok());
        assert!(LogFilter::from_text("info,cordon=loud").is_err());
    }
}
