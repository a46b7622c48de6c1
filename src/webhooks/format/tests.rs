use std::sync::Arc;
use std::time::SystemTime;

use standardwebhooks::Webhook;

use super::*;
use crate::journal::{Offset, Origin, Partition};
use crate::tags::CallbackCommand;
use crate::webhooks::caller::Link;
use crate::webhooks::digest::DeliveryId;
use crate::webhooks::testing::origin;

const APP: AppId = AppId(1_400_000_001);
const NOW: Timestamp = Timestamp(1_669_872_112_999);
const BODY: &str = r#"{"CallbackCommand":"Sns.CallbackBlackListAdd","PairList":[{"From_Account":"amy","To_Account":"b\"ö"}]}"#;
/// 24, 33 and 64 bytes.
const KEYS: [&str; 3] = [
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY+",
    "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==",
];

fn id(offset: u64) -> DeliveryId {
    let command = CallbackCommand::BlackListAdd;
    DeliveryId { partition: Partition(3), offset: Offset(offset), command }
}

fn post() -> Post {
    Post {
        id: id(77).to_string().into(),
        command: CallbackCommand::BlackListAdd.name(),
        at: Timestamp(1_669_872_000_123),
        body: Bytes::from_static(BODY.as_bytes()),
        by: Arc::new(origin()),
        link: Some(Link { partition: Partition(3), seq: 12, prev: Some(id(70)) }),
        attempt: 2,
    }
}

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().map(|text| Secret::new(*text, None)).collect()
}

fn signer(format: Format, texts: &[&str]) -> Signer {
    Signer::new(format, &secrets(texts)).expect("secrets of a test")
}

fn dress(signer: &Signer, post: &Post, all_headers: bool, now: Timestamp) -> Dressed {
    let endpoint = Endpoint::parse("https://receiver.example/im?tenant=7").expect("a URL");
    signer.dress(APP, &endpoint, post, all_headers, now, &mut None).expect("a call")
}

fn names(dressed: &Dressed) -> Vec<&str> {
    let mut names: Vec<&str> = dressed.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

fn header<'d>(dressed: &'d Dressed, name: &str) -> &'d str {
    let found = dressed.headers.iter().find(|(known, _)| known.as_str() == name);
    found.map_or("", |(_, value)| value.to_str().expect("text"))
}

#[test]
fn the_token_s_signature_agrees_with_the_test_vectors() {
    let vectors = [
        ("xxxxyyyy", "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061"),
        ("xxxyyy", "e78a85473bed2cdc8d6fa8c4d5a4ba4735fd64156e15a99516b9890293e135de"),
    ];
    for (token, expected) in vectors {
        let dressed = dress(&signer(Format::Reference, &[token]), &post(), true, NOW);
        let end = format!("&OptPlatform=RESTAPI&Sign={expected}&RequestTime=1669872112");
        assert!(dressed.uri.to_string().ends_with(&end), "{}", dressed.uri);
        assert_eq!(dressed.body, BODY);
    }
}

#[test]
fn of_several_tokens_the_newest_signs() {
    let one = dress(&signer(Format::Reference, &["new"]), &post(), true, NOW);
    let both = dress(&signer(Format::Reference, &["new", "old"]), &post(), true, NOW);
    assert_eq!(one.uri, both.uri);
}

/// Fields of the API end in 2038; receivers compare these times with their own clocks.
#[test]
fn times_of_signatures_go_on_after_2038() {
    let now = Timestamp(4_102_444_800_000);
    let dressed = dress(&signer(Format::Reference, &["token"]), &post(), true, now);
    assert!(dressed.uri.to_string().ends_with("&RequestTime=4102444800"), "{}", dressed.uri);
    assert_eq!(header(&dressed, "webhook-timestamp"), "4102444800");
}

#[test]
fn without_a_token_nothing_is_signed() {
    let uri = dress(&Signer::unsigned(), &post(), true, NOW).uri.to_string();
    assert!(uri.contains("/im?tenant=7&SdkAppid=1400000001&") && !uri.contains("Sign"), "{uri}");
}

#[test]
fn the_standard_format_wraps_the_reference_s_body_and_adds_nothing_to_the_url() {
    let signer = signer(Format::Standard, &KEYS[..1]);
    let dressed = dress(&signer, &post(), true, NOW);
    assert_eq!(dressed.uri.to_string(), "https://receiver.example/im?tenant=7");
    let expected = format!(
        r#"{{"type":"Sns.CallbackBlackListAdd","timestamp":"2022-12-01T05:20:00.123Z","data":{BODY}}}"#
    );
    assert_eq!(dressed.body, expected);
    let value: serde_json::Value = serde_json::from_slice(&dressed.body).expect("JSON");
    assert_eq!(value["data"], serde_json::from_str::<serde_json::Value>(BODY).expect("JSON"));
    let later = dress(&signer, &Post { attempt: 9, ..post() }, true, Timestamp(NOW.0 + 99_000));
    assert_eq!(later.body, dressed.body, "the same bytes on every try");
}

/// What an independent implementation of the specification makes of a call.
fn verify(dressed: &Dressed, secret: &str) -> bool {
    let mut headers = http_1::HeaderMap::new();
    for (name, value) in &dressed.headers {
        let value = http_1::HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        let name: http_1::HeaderName = name.as_str().parse().expect("a name");
        headers.insert(name, value);
    }
    Webhook::new(secret).expect("a secret").verify(&dressed.body, &headers).is_ok()
}

fn today() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp(since.as_millis() as i64)
}

#[test]
fn an_independent_receiver_verifies_the_standard_signature_with_every_secret_in_use() {
    let now = today();
    for key in KEYS {
        let dressed = dress(&signer(Format::Standard, &[key]), &post(), false, now);
        assert!(verify(&dressed, key), "{key}");
        assert!(!KEYS.iter().any(|other| *other != key && verify(&dressed, other)));
        let other = Dressed { body: Bytes::from_static(b"{}"), ..dressed };
        assert!(!verify(&other, key), "another body");
    }
    let dressed = dress(&signer(Format::Standard, &KEYS), &post(), true, now);
    assert!(KEYS.iter().all(|key| verify(&dressed, key)));
    assert_eq!(header(&dressed, "webhook-signature").split(' ').count(), 3);
}

#[test]
fn a_replaced_secret_signs_until_its_time_is_over_and_the_newest_always_does() {
    let now = today();
    let until = |ms: i64| Some(Timestamp(now.0 + ms));
    let cases = [
        ([None, until(1)], [true, true]),
        ([None, until(0)], [true, false]),
        ([None, None], [true, true]),
        ([until(-5), until(-5)], [true, false]),
    ];
    for (untils, expected) in cases {
        let secrets = [0, 1].map(|index| Secret::new(KEYS[index], untils[index]));
        let signer = Signer::new(Format::Standard, &secrets).expect("secrets");
        let dressed = dress(&signer, &post(), true, now);
        assert_eq!([0, 1].map(|index| verify(&dressed, KEYS[index])), expected, "{untils:?}");
    }
}

#[test]
fn the_headers_say_where_a_call_stands_unless_they_are_switched_off() {
    let all = ["webhook-attempt", "webhook-id", "webhook-prev", "webhook-seq"];
    let reference = Signer::unsigned();
    let standard = signer(Format::Standard, &KEYS[..1]);
    let dressed = dress(&reference, &post(), true, NOW);
    assert_eq!(names(&dressed), [&all[..], &["webhook-timestamp"]].concat());
    assert_eq!(header(&dressed, "webhook-id"), "3@77.Sns.CallbackBlackListAdd");
    assert_eq!(header(&dressed, "webhook-seq"), "3:12");
    assert_eq!(header(&dressed, "webhook-prev"), "3@70.Sns.CallbackBlackListAdd");
    assert_eq!(header(&dressed, "webhook-attempt"), "2");
    assert_eq!(header(&dressed, "webhook-timestamp"), "1669872112");
    assert_eq!(names(&dress(&reference, &post(), false, NOW)), [""; 0]);

    let signed = ["webhook-signature", "webhook-timestamp"];
    assert_eq!(names(&dress(&standard, &post(), true, NOW)), [&all[..], &signed].concat());
    let required = ["webhook-id", "webhook-signature", "webhook-timestamp"];
    assert_eq!(names(&dress(&standard, &post(), false, NOW)), required);
}

#[test]
fn the_first_call_of_a_chain_has_none_before_it_and_a_question_has_no_chain() {
    let first = Link { partition: Partition(3), seq: 1, prev: None };
    let dressed = dress(&Signer::unsigned(), &Post { link: Some(first), ..post() }, true, NOW);
    assert_eq!(header(&dressed, "webhook-seq"), "3:1");
    assert!(!names(&dressed).contains(&"webhook-prev"));
    let dressed = dress(&Signer::unsigned(), &Post { link: None, ..post() }, true, NOW);
    assert_eq!(names(&dressed), ["webhook-attempt", "webhook-id", "webhook-timestamp"]);
}

#[test]
fn what_cannot_sign_is_refused() {
    let encode = |len: usize| format!("whsec_{}", STANDARD.encode(vec![7; len]));
    for len in [KEY_BYTES_MIN, KEY_BYTES_MAX] {
        assert!(Signer::new(Format::Standard, &secrets(&[&encode(len)])).is_ok());
    }
    let long = encode(KEY_BYTES_MAX + 1);
    let short = encode(KEY_BYTES_MIN - 1);
    let shapes = ["token", "whsec_", "whsec_?", "WHSEC_AAAA", &KEYS[0][6..], &short, &long];
    for text in shapes {
        let refused = Signer::new(Format::Standard, &secrets(&[KEYS[0], text]));
        assert_eq!(refused, Err(SecretError::Shape), "{text}");
    }
    let refused = |format, texts: &[&str]| Signer::new(format, &secrets(texts)).unwrap_err();
    assert_eq!(refused(Format::Standard, &[]), SecretError::Missing);
    assert_eq!(refused(Format::Reference, &[""]), SecretError::Empty);
    assert_eq!(refused(Format::Reference, &["x"; SECRETS_MAX + 1]), SecretError::TooMany);
}

#[test]
fn a_secret_is_never_printed() {
    let secret = Secret::new("hush", None);
    assert!(!format!("{secret:?}").contains("hush"));
    let printed = format!("{:?}", signer(Format::Reference, &["hush"]));
    assert_eq!(printed, "Signer { format: Reference, secrets: 1 }");
    let printed = format!("{:?}", signer(Format::Standard, &KEYS));
    assert_eq!(printed, "Signer { format: Standard, secrets: 3 }");
}

#[test]
fn the_address_of_the_last_call_is_used_again_only_where_it_is_the_same() {
    let endpoint = Endpoint::parse("https://receiver.example/im?tenant=7").expect("a URL");
    let post = post();
    let other_command = Post { command: "Sns.CallbackFriendAdd", ..post.clone() };
    let by = |ip: &str, platform: &str| {
        Arc::new(Origin { ip: ip.into(), platform: platform.into(), ..(*post.by).clone() })
    };
    let other_ip = Post { by: by("10.9.8.7", &post.by.platform), ..post.clone() };
    let other_platform = Post { by: by(&post.by.ip, "Web"), ..post.clone() };
    let later = Timestamp(NOW.0 + 1_000);
    for signer in [Signer::unsigned(), signer(Format::Reference, &["token"])] {
        let mut last = None;
        for (post, now) in [
            (&post, NOW),
            (&post, NOW),
            (&other_command, NOW),
            (&other_ip, NOW),
            (&other_platform, NOW),
            (&post, later),
        ] {
            let uri = signer.dress(APP, &endpoint, post, true, now, &mut last).expect("a call").uri;
            assert_eq!(uri, dress(&signer, post, true, now).uri);
        }
    }
}
