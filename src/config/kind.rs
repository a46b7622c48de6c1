//! Kinds of settings with a form of their own: amounts of bytes, addresses, names, log filters.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::value::{Value, whole_number};

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

/// A listener's or peer's `host:port`; port 0 picks a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The address as text, for binding or connecting.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let (_, port) = self.0.rsplit_once(':').expect("an address has a port");
        port.parse().expect("a port is a number")
    }

    /// The same host with another port.
    pub(super) fn with_port(&self, port: u16) -> Self {
        let (host, _) = self.0.rsplit_once(':').expect("an address has a port");
        Self(format!("{host}:{port}"))
    }

    /// Whether it stands for all addresses of a machine: right for a listener, and no way to reach
    /// it.
    pub(super) fn is_wildcard(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    /// Where this machine reaches the listener: one on all addresses is reached on the loopback one.
    pub fn from_here(&self) -> Self {
        let loopback: IpAddr = match self.ip() {
            Some(IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            Some(IpAddr::V6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            Some(_) | None => return self.clone(),
        };
        Self(SocketAddr::new(loopback, self.port()).to_string())
    }

    fn ip(&self) -> Option<IpAddr> {
        let (host, _) = self.0.rsplit_once(':').expect("an address has a port");
        host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// `text` as an address; none if it is no `host:port`.
    pub fn parse(text: &str) -> Option<Self> {
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

/// The name of a custom field: 1 to 8 ASCII letters. Rule: rest-api.md 4.1 and 7.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(pub String);

impl Value for FieldName {
    fn from_text(text: &str) -> Result<Self, String> {
        let fits = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphabetic());
        if fits { Ok(Self(text.to_owned())) } else { Err("a field has 1 to 8 letters".to_owned()) }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// A range of addresses, written like `10.0.0.0/8` or `fd00::/8`; an address alone stands for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The first address: the bits behind the prefix are zero.
    pub address: IpAddr,
    /// How many bits the addresses have in common.
    pub prefix: u8,
}

impl Value for Subnet {
    fn from_text(text: &str) -> Result<Self, String> {
        const LOOKS: &str = "a subnet looks like 10.0.0.0/8 or fd00::/8";
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| LOOKS)?;
        if address.to_canonical() != address {
            return Err("a subnet of IPv4 is written as one of IPv4".to_owned());
        }
        let (bits, width) = match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let prefix = match prefix {
            None => width,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| LOOKS)?
            }
            Some(_) => return Err(LOOKS.to_owned()),
        };
        if prefix > width {
            return Err(format!("such an address has {width} bits, and no more"));
        }
        if u32::from(width - prefix) > bits.trailing_zeros() {
            return Err(format!("behind its first {prefix} bits the address is not zero"));
        }
        Ok(Self { address, prefix })
    }

    fn show(&self) -> String {
        format!("{}/{}", self.address, self.prefix)
    }
}

/// How much may be logged, from nothing to everything.
const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A directive for what is logged, like `info` or `info,cordon::webhooks=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Value for LogFilter {
    fn from_text(text: &str) -> Result<Self, String> {
        // To the library a word that is no level is the name of a module, and all others are silent.
        let is_level = |word: &str| LOG_LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
        let mut words = text.split(',').map(str::trim);
        let known = words.all(|word| word.contains('=') || is_level(word));
        if known && tracing_subscriber::EnvFilter::try_new(text).is_ok() {
            return Ok(Self(text.to_owned()));
        }
        let levels = LOG_LEVELS.join(", ");
        Err(format!("a filter looks like info or info,cordon::webhooks=debug; levels are {levels}"))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
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
    fn a_listener_on_all_addresses_is_reached_on_the_loopback_one_and_no_other_is() {
        for (listener, reached) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("10.0.0.0:9090", "10.0.0.0:9090"),
            ("[fd00::]:9090", "[fd00::]:9090"),
            ("localhost:9090", "localhost:9090"),
        ] {
            assert_eq!(Address::from_text(listener).expect(listener).from_here().as_str(), reached);
        }
    }

    #[test]
    fn a_subnet_is_the_range_that_it_says() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("fd00::/8", "fd00::/8"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(Subnet::from_text(text).expect(text).show(), shown);
        }
        for text in ["", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/+8", "10/8"] {
            assert!(Subnet::from_text(text).is_err(), "{text}");
        }
        for text in ["fd00::/129", "fd00::1/8", "[::1]", "::ffff:10.0.0.0/104", "localhost"] {
            assert!(Subnet::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_filter_is_checked_when_it_is_read() {
        for text in ["info", "WARN", "off", "info,cordon::webhooks=debug", "cordon=info, error"] {
            assert!(LogFilter::from_text(text).is_ok(), "{text}");
        }
        for text in ["info,cordon=loud", "warning", "inof", "info,cordon", ""] {
            let refused = LogFilter::from_text(text).unwrap_err();
            assert!(refused.contains("off, error, warn, info, debug, trace"), "{text}: {refused}");
        }
    }
}
