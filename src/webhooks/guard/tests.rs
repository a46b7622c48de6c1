use proptest::prelude::*;

use super::*;

fn on(allowed: &[(&str, u8)]) -> Guard {
    let subnet = |(address, prefix): &(&str, u8)| {
        Subnet::new(address.parse().expect("an address"), *prefix).expect("a subnet")
    };
    Guard::On { allowed: allowed.iter().map(subnet).collect() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is an address"))
}

fn admits(guard: &Guard, address: IpAddr) -> bool {
    guard.judge(address).is_ok()
}

/// The first and the last address of each range that is nobody's on the public net, and what stands in
/// front of it and behind it, if that is public.
const EDGES: [(&str, &str, &str, &str); 13] = [
    ("", "0.0.0.0", "0.255.255.255", "1.0.0.0"),
    ("9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"),
    ("100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"),
    ("126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"),
    ("169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"),
    ("172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"),
    ("191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0"),
    ("192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"),
    ("192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0"),
    ("192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"),
    ("198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"),
    ("198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0"),
    ("203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"),
];

/// The same of IPv6, and single addresses that everybody knows.
const REFUSED: [&str; 36] = [
    // Multicast and reserved, up to the broadcast address.
    "224.0.0.0",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
    // The metadata of clouds.
    "169.254.169.254",
    "fd00:ec2::254",
    // Unspecified, loopback, private, link-local, site-local, multicast.
    "::",
    "::1",
    "fc00::",
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe80::1",
    "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fec0::1",
    "ff02::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    // To be discarded, segment routing, what belongs to nobody.
    "100::1",
    "5f00::1",
    "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "4000::",
    // Protocols: Teredo with public addresses inside, benchmarks, ORCHID.
    "2001::",
    "2001:0:808:808::f7f7:f7f7",
    "2001:2::1",
    "2001:20::1",
    "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
    // Documentation.
    "2001:db8::",
    "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "3fff::1",
    "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
    // IPv4 inside: compatible, whatever it is; mapped; behind translators, also a local one.
    "::8.8.8.8",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "64:ff9b:0:1::8.8.8.8",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::",
];

const PUBLIC: [&str; 11] = [
    "8.8.8.8",
    "223.255.255.255",
    "2000::",
    "2001:200::",
    "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db9::",
    "2606:4700:4700::1111",
    "3fff:1000::",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
];

#[test]
fn what_is_nobody_s_on_the_public_net_is_refused_and_its_neighbours_are_not() {
    let guard = on(&[]);
    for (before, first, last, behind) in EDGES {
        for address in [first, last] {
            assert!(!admits(&guard, ip(address)), "{address}");
        }
        for address in [before, behind].into_iter().filter(|text| !text.is_empty()) {
            assert!(admits(&guard, ip(address)), "{address}");
        }
    }
    for address in REFUSED {
        assert_eq!(guard.judge(ip(address)), Err(Guarded::Address(ip(address))));
    }
    for address in PUBLIC {
        assert_eq!(guard.judge(ip(address)), Ok(()), "{address}");
    }
}

#[test]
fn without_the_guard_everything_is_admitted() {
    for address in REFUSED {
        assert_eq!(Guard::Off.judge(ip(address)), Ok(()));
    }
    for url in ["http://127.1/", "http://localhost.", "http://0x7f000001"] {
        assert_eq!(Guard::Off.check(&Endpoint::parse(url).expect(url)), Ok(()));
    }
}

#[test]
fn an_allowed_subnet_opens_an_address_in_either_clothes_and_no_translator_to_it() {
    let guard = on(&[("10.1.0.0", 16), ("fd00:1::", 32)]);
    for address in ["10.1.2.3", "::ffff:10.1.2.3", "fd00:1::9"] {
        assert!(admits(&guard, ip(address)), "{address}");
    }
    for address in ["10.2.0.0", "64:ff9b::10.1.2.3", "2002:a01:203::", "::10.1.2.3", "fd00:2::"] {
        assert!(!admits(&guard, ip(address)), "{address}");
    }
    let translated = on(&[("64:ff9b::", 96)]);
    assert!(admits(&translated, ip("64:ff9b::10.1.2.3")), "it is named itself");
}

#[test]
fn a_subnet_has_zeros_behind_its_prefix_and_no_more_bits_than_an_address() {
    let new = |address, prefix| Subnet::new(ip(address), prefix);
    for (address, prefix) in [("0.0.0.0", 0), ("10.0.0.0", 8), ("1.2.3.4", 32), ("::1", 128)] {
        assert!(new(address, prefix).is_some(), "{address}/{prefix}");
    }
    for (address, prefix) in [("10.0.0.1", 8), ("10.0.0.0", 33), ("::1", 127), ("::", 129)] {
        assert_eq!(new(address, prefix), None, "{address}/{prefix}");
    }
}

/// What is said of a URL before anything is resolved.
fn checked(host: &str) -> Result<(), Guarded> {
    let url = format!("http://{host}/im");
    // What the parser refuses is refused, too.
    let endpoint = Endpoint::parse(&url).map_err(|_| Guarded::Host)?;
    on(&[]).check(&endpoint)
}

#[test]
fn a_host_is_a_plain_name_or_a_plain_address() {
    for host in [
        "receiver.example",
        "receiver.example:8080",
        "a",
        "my_service",
        "x-1.example",
        "1.example",
        "1.2.3.4.example",
        "xn--bcher-kva.example",
        // Whatever it resolves to is judged when it is.
        "localhost",
        "8.8.8.8",
        "[2606:4700:4700::1111]:8443",
    ] {
        assert_eq!(checked(host), Ok(()), "{host}");
    }
    for (host, address) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1:8080", "127.0.0.1"),
        ("169.254.169.254", "169.254.169.254"),
        ("[::1]", "::1"),
        ("[::ffff:7f00:1]", "::ffff:127.0.0.1"),
        ("[0:0:0:0:0:ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("[64:ff9b::a00:1]", "64:ff9b::10.0.0.1"),
    ] {
        assert_eq!(checked(host), Err(Guarded::Address(ip(address))), "{host}");
    }
}

/// Every way to write 127.0.0.1, or another address, that some resolver takes.
#[test]
fn an_address_in_any_other_notation_is_no_host() {
    let long = format!("{}.example", "a".repeat(LABEL_BYTES_MAX + 1));
    let longest = format!("{}example", "abcdefg.".repeat(32));
    for host in [
        // Decimal, octal, hexadecimal, short, mixed, with zeros in front.
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0X7F000001",
        "0x",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "0x7f.1",
        "0x7f.0x0.0x0.0x1",
        "127.0.0x1",
        "127.000.000.001",
        "0127.0.0.1",
        "1.2.3.4.5",
        "256.0.0.1",
        "99999999999",
        "receiver.0x7f",
        // A dot at the end, in front, twice.
        "127.0.0.1.",
        "localhost.",
        ".localhost",
        "a..b",
        ".",
        // Zones, brackets, things in brackets.
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[::1%251]",
        "[127.0.0.1]",
        "[v1.x]",
        "[]",
        "[::1",
        "::1",
        // Percent, full-width digits, dots of other scripts, soft hyphens.
        "127%2e0%2e0%2e1",
        "%31%32%37.0.0.1",
        "loc%61lhost",
        "１２７.0.0.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "lo\u{ad}calhost",
        // Another host in front of or behind what some take for its end.
        "receiver.example@127.0.0.1",
        "127.0.0.1@receiver.example",
        "receiver.example:80@127.0.0.1",
        "receiver.example\\@127.0.0.1",
        "127.0.0.1\\.receiver.example",
        "receiver.example#@127.0.0.1",
        "127.0.0.1\t",
        "127.0.0.1\r\nhost: x",
        "receiver example",
        "receiver.example:80:80",
        "receiver.example:0",
        "receiver.example:x",
        "",
        // Too long.
        &long,
        &longest,
    ] {
        assert_eq!(checked(host), Err(Guarded::Host), "{host:?}");
    }
}

/// Ranges of the standard library's own classification that nobody is called in.
fn is_special_v4(ip: Ipv4Addr) -> bool {
    ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_multicast()
        || ip.is_unspecified()
}

fn is_special_v6(ip: Ipv6Addr) -> bool {
    ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unique_local()
        || ip.is_unicast_link_local()
}

/// Any address, and often one near the edge of a range.
fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
    let edges: Vec<u32> = PRIVATE_V4.iter().map(|(base, _)| base.to_bits()).collect();
    let near = (prop::sample::select(edges), -2_i32..=2)
        .prop_map(|(base, step)| base.wrapping_add_signed(step));
    let inside = (prop::sample::select(PRIVATE_V4.to_vec()), any::<u32>())
        .prop_map(|((base, prefix), rest)| base.to_bits() | (rest & !mask_v4(prefix)));
    prop_oneof![any::<u32>(), near, inside].prop_map(Ipv4Addr::from_bits)
}

fn any_v6() -> impl Strategy<Value = Ipv6Addr> {
    let known: Vec<u128> = REFUSED
        .iter()
        .chain(&PUBLIC)
        .filter_map(|text| text.parse::<Ipv6Addr>().ok().map(Ipv6Addr::to_bits))
        .collect();
    let near = (prop::sample::select(known), any::<u64>())
        .prop_map(|(known, low)| known ^ u128::from(low));
    prop_oneof![any::<u128>(), near].prop_map(Ipv6Addr::from_bits)
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any_v4().prop_map(IpAddr::V4), any_v6().prop_map(IpAddr::V6)]
}

proptest! {
    #[test]
    fn an_ipv4_address_is_judged_alike_in_all_its_clothes(v4 in any_v4(), low in any::<u128>()) {
        let guard = on(&[]);
        let plain = admits(&guard, v4.into());
        let bits = u128::from(v4.to_bits());
        let six_to_four = (0x2002 << 112) | (bits << 80) | (low >> 48);
        let translated = (0x0064_ff9b << 96) | bits;
        for v6 in [v4.to_ipv6_mapped().to_bits(), six_to_four, translated] {
            let v6 = Ipv6Addr::from_bits(v6);
            prop_assert_eq!(admits(&guard, v6.into()), plain, "{} as {}", v4, v6);
        }
        prop_assert!(!admits(&guard, Ipv6Addr::from_bits(bits).into()));
    }

    #[test]
    fn what_the_standard_library_calls_special_is_refused(v4 in any_v4(), v6 in any_v6()) {
        let guard = on(&[]);
        prop_assert!(!(is_special_v4(v4) && admits(&guard, v4.into())), "{}", v4);
        prop_assert!(!(is_special_v6(v6) && admits(&guard, v6.into())), "{}", v6);
    }

    #[test]
    fn an_allowed_subnet_opens_its_members_and_nothing_else(
        base in any_ip(), width in 0_u8..=128, other in any_ip(),
    ) {
        // The first and the last member are counted out, not masked.
        let (bits, size) = match base {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let prefix = width.min(size);
        let members = 1_u128.checked_shl(u32::from(size - prefix));
        let first = members.map_or(0, |members| bits / members * members);
        let last = members.map_or(u128::MAX, |members| first + (members - 1));
        let address = |bits: u128| match base {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        };
        let subnet = Subnet::new(address(first), prefix).expect("its first address");
        let opened = Guard::On { allowed: [subnet].into() };
        let closed = on(&[]);
        for member in [address(first), address(last), base] {
            if member.to_canonical() == member {
                prop_assert!(admits(&opened, member), "{} in {:?}", member, subnet);
            }
        }
        let is_member = match (base, other.to_canonical()) {
            (IpAddr::V4(_), IpAddr::V4(v4)) => (first..=last).contains(&u128::from(v4.to_bits())),
            (IpAddr::V6(_), IpAddr::V6(v6)) => (first..=last).contains(&v6.to_bits()),
            _ => false,
        };
        prop_assert_eq!(admits(&opened, other), is_member || admits(&closed, other));
    }

    #[test]
    fn a_text_that_is_taken_for_a_host_leads_to_no_address_but_the_one_it_says(
        host in "(0x|0X)?[0-9a-fx.]{1,20}",
    ) {
        if checked(&host).is_ok() {
            // An address in the plain notation, or nothing that inet_aton could read.
            let number = host.rsplit('.').next().is_some_and(|last| {
                last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x")
            });
            prop_assert!(host.parse::<Ipv4Addr>().is_ok() || !number, "{}", host);
        }
    }
}
