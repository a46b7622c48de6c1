//! Where a call comes from, if it came through proxies of ours.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{HeaderMap, X_FORWARDED_FOR};

use crate::webhooks::Subnet;

/// Proxies that are looked behind, one after the other, at most.
const PROXIES_MAX: usize = 16;

/// The address that a call comes from: that of the connection, or, if it lies in one of the `trusted`
/// subnets, the last one in `X-Forwarded-For` that does not. What stands before that one is the caller's
/// own word.
pub(super) fn origin(peer: IpAddr, headers: &HeaderMap, trusted: &[Subnet]) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|subnet| subnet.holds(ip));
    let mut origin = peer.to_canonical();
    // Each proxy puts the one that called it behind the others.
    let lines = headers.get_all(X_FORWARDED_FOR);
    // What cannot be read is a word that is no address, and not a line that was never there.
    let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    let named = lines.iter().rev().flat_map(|line| line.rsplit(','));
    for text in named.take(PROXIES_MAX) {
        if !is_trusted(origin) {
            break;
        }
        match address(text.trim()) {
            Some(ip) => origin = ip.to_canonical(),
            None => break,
        }
    }
    origin
}

/// Some proxies name the port as well.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse().ok().map(|whole: SocketAddr| whole.ip()))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn origin_of(peer: &str, lines: &[&str]) -> String {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        origin_of_bytes(peer, &lines)
    }

    fn origin_of_bytes(peer: &str, lines: &[&[u8]]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line).expect("a header"));
        }
        let subnet = |base: &str, prefix| {
            Subnet::new(base.parse().expect("an address"), prefix).expect("a subnet")
        };
        let trusted = [subnet("10.0.0.0", 8), subnet("fd00::", 8)];
        origin(peer.parse().expect("an address"), &headers, &trusted).to_string()
    }

    #[test]
    fn a_call_comes_from_the_last_address_that_is_no_proxy_of_ours() {
        assert_eq!(origin_of("10.0.0.1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(origin_of("10.0.0.1", &["1.2.3.4, 203.0.113.7, 10.0.0.2"]), "203.0.113.7");
        assert_eq!(origin_of("10.0.0.1", &["1.2.3.4", "203.0.113.7,10.0.0.2"]), "203.0.113.7");
        assert_eq!(origin_of("::ffff:10.0.0.1", &["203.0.113.7:4711"]), "203.0.113.7");
        assert_eq!(origin_of("fd00::1", &["[2001:db8::7]:4711"]), "2001:db8::7");
    }

    #[test]
    fn nobody_else_is_believed_and_no_word_that_is_no_address() {
        assert_eq!(origin_of("203.0.113.7", &["1.2.3.4"]), "203.0.113.7");
        assert_eq!(origin_of("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(origin_of("10.0.0.1", &["1.2.3.4, unknown"]), "10.0.0.1");
        assert_eq!(origin_of("10.0.0.1", &["1.2.3.4, , 10.0.0.2"]), "10.0.0.2");
        assert_eq!(origin_of("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        for line in
            [&b"\xff, 203.0.113.7"[..], b"\xff203.0.113.8, 203.0.113.7", b"\xc3\xa4,203.0.113.7"]
        {
            assert_eq!(origin_of_bytes("10.0.0.1", &[line]), "203.0.113.7");
            assert_eq!(origin_of_bytes("10.0.0.1", &[b"1.2.3.4", line]), "203.0.113.7");
        }
        assert_eq!(origin_of_bytes("10.0.0.1", &[b"1.2.3.4", b"\xff"]), "10.0.0.1");
        let many = ["10.0.0.2"; PROXIES_MAX].join(",");
        assert_eq!(origin_of("10.0.0.1", &["1.2.3.4", &many]), "10.0.0.2");
    }
}
