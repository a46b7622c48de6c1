//! Which addresses a subscriber's URL may lead to; pure.
//!
//! Whoever may set a URL could have this node call what only this node reaches: a database beside it,
//! the metadata of its cloud, itself. So such a URL is called only if every address that its host leads
//! to is a public one, or lies in a subnet that the operator has opened. The judgement falls three
//! times: on the host as it is written, on everything that its name resolves to, and on the peer of the
//! connection that came about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::endpoint::Endpoint;

/// The longest name of a host, and the longest part of one.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// IPv4 addresses that are nobody's on the public net.
const PRIVATE_V4: [(Ipv4Addr, u8); 16] = [
    // This network; its first address is this host.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    // Private.
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Shared by the customers of a carrier.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    // Loopback.
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local, with the metadata of clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // What machines on Azure are told by the one below them.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    // Private.
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    // Assigned to protocols.
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Documentation.
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    // Former relays of 6to4.
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    // Private.
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Benchmarks.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    // Documentation.
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    // Reserved, with the broadcast address.
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// What is handed out on the public IPv6 net. Everything outside is loopback, link-local, private,
/// multicast, or belongs to nobody yet.
const UNICAST_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What is nobody's in there.
const PRIVATE_V6: [(Ipv6Addr, u8); 3] = [
    // Assigned to protocols: Teredo, benchmarks, identifiers that are no addresses.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// An IPv4 address follows these bits, and packets go to it.
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const SIX_TO_FOUR: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

/// A range of addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// The addresses that have their first `prefix` bits in common with `address`, whose other bits
    /// are zero. `None` if they are not, or if no address has so many.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let zero = match address {
            IpAddr::V4(v4) => prefix <= 32 && v4.to_bits() & !mask_v4(prefix) == 0,
            IpAddr::V6(v6) => prefix <= 128 && v6.to_bits() & !mask_v6(prefix) == 0,
        };
        zero.then_some(Self { address, prefix })
    }

    /// Whether the address lies in it. An IPv4 address never lies in a subnet of IPv6, however it is
    /// written.
    pub fn holds(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => holds_v4((base, self.prefix), ip),
            (IpAddr::V6(base), IpAddr::V6(ip)) => holds_v6((base, self.prefix), ip),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn mask_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

fn holds_v4((base, prefix): (Ipv4Addr, u8), ip: Ipv4Addr) -> bool {
    (base.to_bits() ^ ip.to_bits()) & mask_v4(prefix) == 0
}

fn holds_v6((base, prefix): (Ipv6Addr, u8), ip: Ipv6Addr) -> bool {
    (base.to_bits() ^ ip.to_bits()) & mask_v6(prefix) == 0
}

/// Why a URL is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Guarded {
    /// The host is written in a way that not everybody reads alike.
    #[error("its host is neither a plain name nor a plain address")]
    Host,
    /// It leads to this address. People are not told which: it would let them look up names that
    /// only this node can.
    #[error("it leads to an address that is neither public nor in an allowed subnet")]
    Address(IpAddr),
}

/// Whether addresses are judged, and which are allowed besides public ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The URL is the operator's own.
    Off,
    /// Everybody else's.
    On {
        /// Subnets that the operator has opened.
        allowed: Arc<[Subnet]>,
    },
}

impl Default for Guard {
    /// Public addresses only.
    fn default() -> Self {
        Self::On { allowed: Arc::default() }
    }
}

impl Guard {
    /// Judges a URL as it is written. The name of a host is judged once it is resolved.
    /// Errors: [`Guarded`].
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), Guarded> {
        match self {
            Self::Off => Ok(()),
            Self::On { .. } => match literal(endpoint.host()) {
                Some(ip) => self.judge(ip),
                None if is_name(endpoint.host()) => Ok(()),
                None => Err(Guarded::Host),
            },
        }
    }

    /// Judges an address. Errors: [`Guarded::Address`].
    pub fn judge(&self, ip: IpAddr) -> Result<(), Guarded> {
        let Self::On { allowed } = self else { return Ok(()) };
        // An IPv4 address in the clothes of IPv6 is connected to as what it is.
        let plain = ip.to_canonical();
        if allowed.iter().any(|subnet| subnet.holds(plain)) || is_public(plain) {
            Ok(())
        } else {
            Err(Guarded::Address(ip))
        }
    }
}

/// The host of a URL, if it is an address in the one notation that everybody reads alike.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

/// Whether a host is a name that no resolver takes for an address: letters, digits, `-` and `_`, and
/// the last part is no number. `2130706433`, `0x7f.1` and `127.1` are addresses to some.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(fits)
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case("0x"));
    host.len() <= NAME_BYTES_MAX && host.split('.').all(is_label) && !is_number
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) if holds_v6(NAT64, v6) => is_public_v4(embedded(v6, 0)),
        IpAddr::V6(v6) if holds_v6(SIX_TO_FOUR, v6) => is_public_v4(embedded(v6, 80)),
        IpAddr::V6(v6) => {
            holds_v6(UNICAST_V6, v6) && !PRIVATE_V6.iter().any(|range| holds_v6(*range, v6))
        }
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !PRIVATE_V4.iter().any(|range| holds_v4(*range, ip))
}

/// The IPv4 address that has `behind` bits behind it.
fn embedded(ip: Ipv6Addr, behind: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((ip.to_bits() >> behind) as u32)
}

#[cfg(test)]
mod tests;
