use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::domain::{Agreement, OfferForm, RemovalReason};
use crate::journal::record::{decode, encode};

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("a name of the right shape")
}

/// A record with these facts, as it is written.
fn written(events: Vec<Event>) -> (Record, String) {
    let body = Body::Commit(Commit {
        id: Uuid::from_u128(0x0193_1f5e_7c4b_7000_8000_0000_0000_0001),
        key: UserKey { app: AppId(u32::MAX), user: user("a:m/y") },
        version: Version(17),
        at: Timestamp(1_795_341_600_003),
        by: Arc::new(Origin {
            operator: "administrator".into(),
            request: Uuid::from_u128(1),
            ip: "".into(),
            platform: "RESTAPI".into(),
        }),
        cause: Some(Cause {
            partition: Partition(3),
            seq: 0,
            user: user("b"),
            version: Version(2),
        }),
        events,
    });
    let mut bytes = Vec::new();
    encode(Epoch(8), 412, &body, &mut bytes);
    let record = Record { epoch: Epoch(8), n: 412, body };
    (record, String::from_utf8(bytes).expect("JSON"))
}

fn events() -> Vec<Event> {
    let (peer, edge) = (user("b::7"), EdgeId { offerer: user("b::7"), version: Version(9) });
    let card = Card { remark: "Bö".into(), added_at: Some(3), ..Card::default() };
    let whole = Card {
        groups: vec!["a".into(), "b".into()],
        source: "s".into(),
        wording: "w".into(),
        custom: vec![("t".into(), "".into())],
        remark_at: Some(u32::MAX),
        ..card.clone()
    };
    vec![
        Event::AccountImported {},
        Event::UserBlocked { target: peer, remain_friends: true },
        Event::FriendAdded { peer, edge, card: card.clone() },
        Event::FriendOffered {
            peer,
            edge,
            form: OfferForm::OneWay,
            forced: true,
            over: Some(edge),
            again: true,
            despite_block: true,
            card: whole,
        },
        Event::FriendAccepted {
            peer,
            offer: edge,
            edge,
            added: false,
            agreement: Some(Agreement::OneWay),
            despite_block: true,
        },
        Event::FriendRemoved { peer, edge, reason: RemovalReason::Blocked, announced: true },
        Event::OffersSettled {
            offered: Version(0),
            forced: true,
            waited: true,
            friends: vec![Settled { peer, mine: true, theirs: false }],
        },
        // Not read member by member.
        Event::AccountDeleted {},
        Event::GroupsAdded { names: vec!["a, \"b\"".into()] },
    ]
}

#[test]
fn what_is_written_is_read_without_a_detour() {
    for events in [events(), Vec::new()] {
        let (record, text) = written(events);
        assert_eq!(read(text.as_bytes()), Some(record));
    }
    for body in [
        Body::Watermark { seen: vec![(Partition(0), 5), (Partition(7), u64::from(u32::MAX))] },
        Body::Acknowledged { out: Vec::new() },
    ] {
        let mut bytes = Vec::new();
        encode(Epoch(8), 412, &body, &mut bytes);
        assert_eq!(read(&bytes), Some(Record { epoch: Epoch(8), n: 412, body }));
    }
}

#[test]
fn what_is_written_in_another_way_is_left_to_the_other_reader() {
    let (record, text) = written(events());
    for (ours, theirs) in [
        ("{\"v\":1,", "{ \"v\":1,"),
        ("\"e\":8,\"n\":412", "\"n\":412,\"e\":8"),
        ("\"platform\"", "\"port\":1,\"platform\""),
        ("\"administrator\"", "\"\\u0061dministrator\""),
        (
            "\"target\":\"b::7\",\"remain_friends\":true",
            "\"remain_friends\":true,\"target\":\"b::7\"",
        ),
        ("Z\"", "+00:00\""),
        ("\"s\"", "\"\\u0073\""),
        ("\"source\":\"s\",\"wording\":\"w\"", "\"wording\":\"w\",\"source\":\"s\""),
        ("\"type\":\"AccountImported\"", "\"later\":{},\"type\":\"AccountImported\""),
    ] {
        let other = text.replacen(ours, theirs, 1);
        assert_ne!(other, text);
        assert_eq!(read(other.as_bytes()), None, "{other}");
        assert_eq!(decode(other.as_bytes()).expect("the same record"), record);
    }
}

#[test]
fn what_is_no_record_is_none_here_either() {
    let (_, text) = written(events());
    for (ours, wrong) in [
        ("\"n\":412", "\"n\":0412"),
        ("\"n\":412", "\"n\":18446744073709551616"),
        ("\"app\":4294967295", "\"app\":4294967296"),
        ("\"partition\":3", "\"partition\":65536"),
        ("T10:", "T24:"),
        ("-11-", "-13-"),
        ("b::7", ""),
        ("b::7", "a\u{7f}"),
        ("]}", "]}}"),
        ("]}", "]"),
        ("\"offered\":0", "\"offered\":-1"),
        ("blocked", "bored"),
        ("4294967295}", "4294967296}"),
    ] {
        let other = text.replacen(ours, wrong, 1);
        assert_ne!(other, text);
        assert_eq!(read(other.as_bytes()), None, "{other}");
        decode(other.as_bytes()).expect_err("it is no record");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_is_read_here_is_read_the_same_by_the_other_reader(
        (at, from, to) in any::<(Index, Index, Index)>(),
        change in 0..4_usize,
        byte in prop_oneof![any::<u8>(), select(br#"0123456789"\{}[],:-+.eZ tfn"#.to_vec())],
    ) {
        let mut bytes = written(events()).1.into_bytes();
        let places: Vec<usize> =
            (0..bytes.len()).filter(|at| b",{[]}".contains(&bytes[*at])).collect();
        let (from, to) = (*from.get(&places), *to.get(&places));
        let part = bytes[from.min(to)..from.max(to)].to_vec();
        match change {
            0 => *at.get_mut(&mut bytes) = byte,
            1 => bytes.insert(at.index(bytes.len()), byte),
            2 => drop(bytes.drain(from.min(to)..from.max(to))),
            _ => drop(bytes.splice(from..from, part)),
        }
        if let Some(record) = read(&bytes) {
            // With a space in front it is none of this reader's.
            let other = decode(&[b" ", &*bytes].concat());
            prop_assert_eq!(other.ok(), Some(record), "{}", String::from_utf8_lossy(&bytes));
        }
    }
}
