//! The catalogue against the text of the contract: whoever changes one notices the other.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use cordon::http::error_code as code;

const SPECIFICATION: &str = include_str!("../../spec/rest-api.md");

/// Numbers that are codes of the API: those of a webhook's own choice are the last.
const CODES: RangeInclusive<u32> = 20_001..=130_000;

/// Codes of calls that only this server has; the contract does not name them.
const OWN: RangeInclusive<u32> = 97_001..=97_999;

const NO_ADMIN: &str = "who is no admin gets no further than 60010";
const WHOSE: &str = "90003 and 90008 say which account it is";
const INNER: &str = "inner faults are 90994 and 91000";
const UNASKED: &str = "no webhook is asked beforehand";
const UNJUDGED: &str = "nobody judges what a text or an image shows";
const UNLIMITED: &str = "no security policy, no edition and no plan limits anybody";
const OF_CLIENTS: &str = "for calls of clients, of which there are none";
const OLD: &str = "older numbers, which current pages have replaced";

/// What the contract names besides, and why it is not answered.
const RESERVED: [(RangeInclusive<u32>, &str); 41] = [
    (20_002..=20_002, "90001 and 70003 say what is wrong"),
    (20_003..=20_003, WHOSE),
    (20_004..=20_005, INNER),
    (20_006..=20_006, UNASKED),
    (20_007..=20_012, OF_CLIENTS),
    (30_004..=30_004, NO_ADMIN),
    (30_005..=30_005, UNJUDGED),
    (30_008..=30_008, "writes of one user follow one another"),
    (30_520..=30_520, OLD),
    (30_540..=30_540, UNLIMITED),
    (31_211..=31_211, OLD),
    (31_307..=31_307, OLD),
    (31_707..=31_707, UNLIMITED),
    (31_804..=31_804, OF_CLIENTS),
    (32_216..=32_216, OLD),
    (38_000..=39_000, OF_CLIENTS),
    (40_004..=40_004, NO_ADMIN),
    (40_005..=40_005, UNJUDGED),
    (40_007..=40_008, "an admin may read and write every field"),
    (60_004..=60_005, "70003 to 70020 say what is wrong with account or signature"),
    (60_013..=60_014, "no inner service is asked by JSON"),
    (60_017..=60_028, UNLIMITED),
    (70_002..=70_005, "60025 and 70003 say it"),
    (70_016..=70_016, "version 1 of UserSig is out of scope"),
    (70_032..=70_032, OLD),
    (70_050..=70_052, "optional: wrong signatures are not counted, right ones not revoked"),
    (70_114..=70_114, UNLIMITED),
    (70_202..=70_202, "70169 says it"),
    (70_206..=70_206, "70402 says it"),
    (70_346..=70_346, OLD),
    (70_398..=70_399, UNLIMITED),
    (70_403..=70_403, NO_ADMIN),
    (70_404..=70_404, OF_CLIENTS),
    (72_000..=72_012, UNLIMITED),
    (80_001..=80_005, UNJUDGED),
    (90_009..=90_009, NO_ADMIN),
    (90_026..=90_026, "a longer life time counts as seven days"),
    (90_048..=90_048, WHOSE),
    (90_992..=90_995, INNER),
    (93_000..=93_000, "80002 and 90055 say it"),
    (120_001..=130_000, UNASKED),
];

/// Every code that the sections about calls name, in tables, lists and sentences; of a row of codes
/// like "30001 to 30012" all that lie in it.
fn named() -> BTreeSet<u32> {
    let part = |from: &str, to: &str| {
        let (_, rest) = SPECIFICATION.split_once(from).expect(from);
        rest.split_once(to).expect(to).0
    };
    // Numbers of other things stand in 1.1 to 1.3 (apps) and in 1.10 (signatures).
    let parts = [part("\n### 1.4 ", "\n### 1.10 "), part("\n### 1.11 ", "\n## 9. ")];
    let mut named = BTreeSet::new();
    for part in parts {
        let mut before = None;
        for word in part.split([' ', '\n']).filter(|word| !word.is_empty()) {
            let number = number(word);
            match (before, number) {
                (Some((from, "to")), Some(to)) => named.extend(from..=to),
                (_, Some(number)) => drop(named.insert(number)),
                (_, None) => {}
            }
            before = match (before, number) {
                (_, Some(number)) => Some((number, "")),
                (Some((number, "")), None) if word == "to" => Some((number, "to")),
                (_, None) => None,
            };
        }
    }
    named
}

/// The code that a word is, whatever stands around it.
fn number(word: &str) -> Option<u32> {
    let word = word.trim_matches(|letter: char| !letter.is_alphanumeric());
    let number = word.split(['/', ',']).next()?.parse().ok();
    number.filter(|number| CODES.contains(number))
}

fn answered() -> BTreeSet<u32> {
    code::ALL.iter().map(|row| row.number).collect()
}

#[test]
fn every_code_that_is_answered_stands_in_the_contract() {
    let named = named();
    let unknown =
        answered().into_iter().filter(|code| !named.contains(code) && !OWN.contains(code));
    let unknown: Vec<u32> = unknown.collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_code_of_the_contract_is_answered_or_reserved_for_a_reason() {
    let answered = answered();
    let reserved = |code: &u32| RESERVED.iter().any(|(codes, _)| codes.contains(code));
    let missing: Vec<u32> =
        named().into_iter().filter(|code| !answered.contains(code) && !reserved(code)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_codes_of_own_calls_are_free_in_the_contract() {
    assert!(named().into_iter().all(|code| !OWN.contains(&code)));
}

#[test]
fn nothing_is_reserved_that_the_contract_does_not_name() {
    let (answered, named) = (answered(), named());
    for (codes, reason) in RESERVED {
        for end in [codes.start(), codes.end()] {
            assert!(named.contains(end), "{end}: {reason}");
            assert!(!answered.contains(end), "{end} is answered: {reason}");
        }
    }
}

#[test]
fn codes_are_found_wherever_they_stand_in_the_text() {
    let named = named();
    // In a list, a row of codes, a cell, a cell with two, behind a mark, and in a sentence.
    for code in [30_014, 30_006, 60_012, 60_005, 90_012, 31_211, 40_610, 71_000] {
        assert!(named.contains(&code), "{code}");
    }
    assert!(!named.contains(&30_100) && !named.contains(&604_800));
    assert_eq!(number("(`90001`)."), Some(90_001));
    assert_eq!(number("20190419"), None);
}
