//! The page of threats names tests that are there, and those that had none are here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cordon::journal::embedded::{self, Settings};
use cordon::journal::{Journal as _, Offset, Partition, ReadJournal as _, Settlement, record};
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

use crate::support::{Caller, Identity, Random, Setup, TestNode, TestSubscriber, audit, command};

const PAGE: &str = include_str!("../../src/THREATS.md");

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The tests of each threat of a page: a threat has a heading, says *who* and which *defence*, and lists
/// its *tests*.
fn threats(page: &str) -> Vec<Vec<&str>> {
    let sections = page.split("\n## ").skip(1);
    sections
        .map(|section| {
            let (title, text) = section.split_once('\n').expect("a heading and a text");
            for label in ["Who", "Defence"] {
                let said = text.lines().filter_map(|line| line.strip_prefix("- **"));
                let mut said =
                    said.filter_map(|line| line.strip_prefix(label)?.strip_prefix(":** "));
                assert!(said.next().is_some_and(|word| !word.is_empty()), "{title}: no {label}");
            }
            let (_, list) = text.split_once("\n- **Tests:**\n").unwrap_or_default();
            let name = |line| named(line).unwrap_or_else(|| panic!("{title}: no test: {line}"));
            let tests: Vec<_> = list.lines().map(name).collect();
            assert!(!tests.is_empty(), "{title}: no test");
            tests
        })
        .collect()
}

fn named(line: &str) -> Option<&str> {
    line.strip_prefix("  - `")?.strip_suffix('`')
}

/// What a page calls a test and is none.
fn unknown<'p>(page: &'p str, tests: &BTreeSet<String>) -> Vec<&'p str> {
    let named = threats(page).into_iter().flatten();
    named.filter(|name| !tests.contains(*name)).collect()
}

/// The full names of all tests below `folder`, in front of which stands `prefix`.
fn tests_below(folder: &Path, prefix: &[String], tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let mut modules = prefix.to_vec();
        if !["mod", "lib", "main"].contains(&stem.as_str()) {
            modules.push(stem);
        }
        if path.is_dir() {
            tests_below(&path, &modules, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source is text");
            tests.extend(tests_of(&text, &modules));
        }
    }
}

/// The full names of the tests of one file.
fn tests_of(text: &str, modules: &[String]) -> Vec<String> {
    let (mut modules, mut is_test) = (modules.to_vec(), false);
    let mut tests = Vec::new();
    for line in text.lines() {
        if line == "mod tests {" {
            modules.push("tests".to_owned());
        }
        let line = line.trim_start();
        if line.starts_with("#[") {
            is_test |= line == "#[test]" || line.ends_with("::test]");
            // An ignored test proves nothing.
            is_test &= !line.starts_with("#[ignore");
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            let name = rest.split('(').next().unwrap_or_default();
            tests.push(format!("{}::{name}", modules.join("::")));
            is_test = false;
        }
    }
    tests
}

#[test]
fn a_test_is_found_where_it_stands_and_nothing_else_is_one() {
    let text = "#[test]\nfn a() {\n}\nfn no() {}\nmod tests {\n    #[actix_web::test]\n    \
                async fn b() {\n    #[test]\n    #[ignore = \"why\"]\n    fn c() {\n";
    assert_eq!(tests_of(text, &["room".to_owned()]), ["room::a", "room::tests::b"]);
}

#[test]
fn every_threat_names_tests_and_they_are_there() {
    let mut tests = BTreeSet::new();
    tests_below(&root("src"), &[], &mut tests);
    tests_below(&root("tests/it"), &["it".to_owned()], &mut tests);
    assert!(tests.len() > 500, "{} tests", tests.len());
    assert!(threats(PAGE).len() > 12, "{} threats", threats(PAGE).len());
    assert!(unknown(PAGE, &tests).is_empty(), "{:?}", unknown(PAGE, &tests));
}

#[test]
fn a_name_that_is_none_is_found_in_a_page() {
    let page = "# Page\n\n## Harm\n\n- **Who:** some\n- **Defence:** yes\n- **Tests:**\n  - `a::b`\n  \
                - `a::c`\n\n## More harm\n\n- **Who:** all\n- **Defence:** no\n- **Tests:**\n  - `d`\n";
    let tests = ["a::b", "d"].map(str::to_owned).into();
    assert_eq!(unknown(page, &tests), ["a::c"]);
    assert_eq!(threats(page).len(), 2);
}

const OTHER_APP: u32 = 1_400_000_002;
const OTHER_KEY: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

#[test]
fn an_app_sees_and_moves_no_subscription_or_event_of_another() {
    let subscriber = TestSubscriber::start();
    let setup = Setup::new();
    let file =
        format!("[[app]]\nid = {OTHER_APP}\nkeys = [\"{OTHER_KEY}\"]\nadmins = [\"chief\"]\n");
    let node = setup.file(&file).start();
    let (mut first, mut second) =
        (node.caller(), node.caller_as(Identity::new(OTHER_APP, OTHER_KEY, "chief")));
    first.import(&["amy", "bob"]);
    second.import(&["amy", "zoe"]);
    let terms = json!({"Name": "audit", "Url": subscriber.url(), "RetryMinMs": 20});
    first.call("webhook/subscription_set", &terms).ok();
    first.block("amy", &["bob"]);
    second.block("amy", &["zoe"]);
    subscriber.until_accepted(1);

    // What the other one has is not there.
    for command in ["subscription_list", "replay_list", "status_get", "dead_letters_get"] {
        let answer = second.call(&format!("webhook/{command}"), &json!({})).ok();
        assert!(
            !answer.text().contains("audit") && !answer.text().contains("bob"),
            "{}",
            answer.body
        );
    }
    for (command, more) in [
        ("subscription_test", json!({})),
        ("subscription_seek", json!({"To": "End"})),
        ("replay_start", json!({})),
        ("deliveries_get", json!({"From_Account": "amy"})),
    ] {
        let mut body = more;
        body["Name"] = json!("audit");
        let answer = second.call(&format!("webhook/{command}"), &body);
        assert_ne!(answer.code(), 0, "{command}: {}", answer.body);
    }
    second.call("webhook/subscription_delete", &json!({"Name": "audit"}));
    let listed = first.call("webhook/subscription_list", &json!({})).ok();
    assert!(listed.text().contains("audit"), "{}", listed.body);

    // A cursor is a place in the journal, not a pass to what stands there.
    let events = |caller: &mut Caller, body: &Value| {
        let answer = caller.call("webhook/events_get", body).ok();
        let pairs = answer.text().matches("zoe").count();
        (pairs, answer.text().contains("bob"), answer.body["Cursor"].clone())
    };
    let start = json!({});
    let (_, hears_bob, cursor) = events(&mut first, &start);
    assert!(hears_bob && !cursor.is_null());
    let from_the_other = json!({ "Cursor": cursor });
    first.unblock("amy", &["bob"]);
    second.unblock("amy", &["zoe"]);
    for body in [start, from_the_other] {
        let (own, hears_bob, _) = events(&mut second, &body);
        assert!(own > 0 && !hears_bob, "{body}");
    }
    node.settle();
}

/// Whether any file below `folder` has these bytes in it.
fn has_bytes(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).expect("a folder").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return has_bytes(&path, bytes);
        }
        fs::read(&path).expect("a file").windows(bytes.len()).any(|window| window == bytes)
    })
}

#[test]
fn a_receivers_secret_lies_in_no_file_of_the_node() {
    let subscriber = TestSubscriber::start();
    let node = Setup::new().set("STORE_CHECKPOINT_INTERVAL_MS", "10").start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    let terms = json!({"Name": "audit", "Url": subscriber.url(), "Secret": "s3cret-0f-a-receiver"});
    caller.call("webhook/subscription_set", &terms).ok();
    caller.block("amy", &["bob"]);
    subscriber.until_accepted(1);
    drop(caller);
    let stopped = node.stop();
    let folder = stopped.setup.data_dir();
    assert!(has_bytes(folder, subscriber.url().as_bytes()), "the subscription lies there");
    assert!(!has_bytes(folder, b"s3cret-0f-a-receiver"));
}

/// Appends bytes to the journal of a node that does not run, as whoever may write the folder can.
fn append(setup: &Setup, bytes: &[u8]) {
    let partitions = 4;
    let settings = Settings { partitions, ..Settings::new(setup.data_dir().join("journal")) };
    let journal = embedded::Journal::open(settings).expect("nobody else has it");
    let (sender, mut settlements) = unbounded_channel();
    journal.attach(Partition(0), sender);
    journal.append(Partition(0), bytes).expect("it is taken");
    journal.flush();
    let settled = settlements.blocking_recv();
    assert!(matches!(settled, Some(Settlement::Durable { .. })), "{settled:?}");
}

/// Everything that stands in the journal, in the order of its file: where it is, and its bytes.
fn stored(folder: &Path) -> Vec<((Partition, Offset), Vec<u8>)> {
    let journal = embedded::ReadOnly::open(folder).expect("it is there");
    let from: Vec<_> = (0..journal.partitions()).map(|p| (Partition(p), Offset(0))).collect();
    let mut reader = journal.reader(&from).expect("it is whole");
    let read = std::iter::repeat_with(|| reader.next(1 << 20).expect("it is whole"));
    let entries = read.take_while(|entries| !entries.is_empty()).flatten();
    entries.map(|entry| ((entry.partition, entry.offset), entry.bytes)).collect()
}

#[test]
fn a_damaged_file_is_a_finding_with_file_and_byte_and_the_first_record_that_is_lost() {
    let node = Setup::new().start();
    let mut caller = node.caller();
    caller.import(&["amy", "bob"]);
    caller.block("amy", &["bob"]);
    caller.import(&["carl"]);
    drop(caller);
    let setup = node.stop().setup;
    let folder = setup.data_dir().join("journal");
    let path = folder.join(format!("{:020}.log", 1));
    let (entries, mut file) = (stored(&folder), fs::read(&path).expect("the first segment"));
    let place_of = |bytes: &[u8]| {
        file.windows(bytes.len()).position(|window| window == bytes).expect("it is in the file")
    };
    let places: Vec<_> = entries.iter().map(|(at, bytes)| (*at, place_of(bytes))).collect();
    let is_block = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("UserBlocked");
    let block = entries.iter().position(|(_, bytes)| is_block(bytes)).expect("a block");
    let flipped = places[block].1 + entries[block].1.len() / 2;
    file[flipped] ^= 1;
    fs::write(&path, &file).expect("it can be written");

    let program = command(&setup).args(["verify", "--json"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&program.stdout);
    assert_eq!(program.status.code(), Some(1), "{text}");
    let report: Value = serde_json::from_str(&text).expect("the report is JSON");
    let first = &report["promises"][0]["first"];
    assert_eq!((&report["holds"], &first["rule"]), (&json!(false), &json!("undamaged")), "{text}");
    let detail = first["detail"].as_str().expect("a text");
    let (named, rest) = detail.split_once(" byte ").expect("the byte is named");
    assert_eq!(Path::new(named), path);
    let byte: usize = rest.split(':').next().and_then(|byte| byte.parse().ok()).expect("a number");
    // The damage is that of a whole group, in front of which everything is read.
    let lost = places.iter().position(|(_, place)| *place > byte).expect("something is lost");
    let (partition, offset) = places[lost].0;
    assert_eq!((&first["partition"], &first["offset"]), (&json!(partition), &json!(offset)));
    assert!(lost <= block && places[lost].1 <= flipped, "{lost} of {block}: {detail}");
    assert_eq!(report["records"], json!(lost), "{text}");
    let (code, text) = audit(&setup, &["verify"]);
    let line = format!("PROBLEM {partition}@{offset} against undamaged: {}", path.display());
    assert!(code == 1 && text.contains(&line), "{text}");
    assert!(text.contains("restore it from a backup"), "{text}");
    let reason = TestNode::try_start(setup, 1_700_000_200).err().expect("it is damaged");
    assert!(reason.contains("restore the journal from a backup"), "{reason}");
}

#[test]
fn a_record_that_is_none_is_named_and_the_node_does_not_start_over_it() {
    let deep = "[".repeat(200_000);
    let huge = format!(r#"{{"v":1,"kind":"commit","user":"{}"}}"#, "x".repeat(1 << 20));
    for bytes in [&b""[..], b"\xff\xfe", b"{}", b"null", deep.as_bytes(), huge.as_bytes()] {
        let node = Setup::new().start();
        let mut caller = node.caller();
        caller.import(&["amy", "bob"]);
        caller.block("amy", &["bob"]);
        drop(caller);
        let setup = node.stop().setup;
        append(&setup, bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(30)]).into_owned();
        let (code, report) = audit(&setup, &["verify", "--json"]);
        assert_ne!(code, 0, "{shown}: {report}");
        let report: Value = serde_json::from_str(&report).expect("the report is JSON");
        assert_eq!(report["holds"], false, "{shown}: {report}");
        let reason = TestNode::try_start(setup, 1_700_000_200).err().expect("it is no record");
        assert!(reason.contains("record"), "{shown}: {reason}");
        assert!(reason.len() < 1000, "{} bytes of reason", reason.len());
    }
}

#[test]
fn a_record_that_was_changed_anywhere_is_read_or_refused() {
    let mut random = Random::new(0x7EA7);
    let golden = root("tests/fixtures/records");
    let (mut read, mut refused) = (0, 0);
    for entry in fs::read_dir(golden).expect("a folder of the tests") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("it is text");
        let whole: Value = serde_json::from_str(&text).expect("it is JSON");
        let whole = whole.to_string().into_bytes();
        record::decode(&whole).expect("it is a record");
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                match random.below(4) {
                    0 => bytes[at] = random.below(256) as u8,
                    1 => bytes.truncate(at + 1),
                    2 => bytes.insert(at, b"0\"[{}-e\\"[random.below(8)]),
                    // A number or a text becomes a much longer one.
                    _ => bytes.splice(at..at, [b'9'; 40]).for_each(drop),
                }
            }
            match record::decode(&bytes) {
                Ok(record) => {
                    // Whatever was read can be written, and is the same then.
                    let mut again = Vec::new();
                    record::encode(record.epoch, record.n, &record.body, &mut again);
                    assert_eq!(record::decode(&again).expect("it is a record"), record);
                    read += 1;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
}
