//! Who may import whom, and who does: the picture of the architecture cannot drift from the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each room imports, as `src/ARCHITECTURE.md` shows it, too. Arrows point inward: `domain` sees
/// nothing, only `app` and `cli` see everything.
const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("usersig", &["domain"]),
    ("clock", &["domain"]),
    ("tags", &["domain"]),
    ("patience", &[]),
    ("config", &["domain", "tags"]),
    ("telemetry", &["config"]),
    ("journal", &["domain"]),
    ("pairing", &["domain", "journal"]),
    // The store keeps what a checkpoint has to know of the channels.
    ("store", &["domain", "journal", "pairing"]),
    ("actors", &["clock", "domain", "journal", "pairing", "store"]),
    ("cluster", &["actors", "clock", "domain", "journal", "patience"]),
    ("webhooks", &["clock", "domain", "journal", "tags"]),
    // The audit folds the journal as a node does, channels, rows and calls included.
    ("audit", &["domain", "journal", "pairing", "store", "tags", "webhooks"]),
    ("subscriptions", &["actors", "audit", "clock", "domain", "journal", "tags", "webhooks"]),
    (
        "http",
        &[
            "actors",
            "clock",
            "domain",
            "journal",
            "patience",
            "subscriptions",
            "tags",
            "usersig",
            "webhooks",
        ],
    ),
    (
        "app",
        &[
            "actors",
            "clock",
            "cluster",
            "config",
            "domain",
            "http",
            "journal",
            "store",
            "subscriptions",
            "webhooks",
        ],
    ),
    (
        "cli",
        &[
            "app",
            "audit",
            "clock",
            "config",
            "domain",
            "journal",
            "store",
            "tags",
            "telemetry",
            "usersig",
            "webhooks",
        ],
    ),
];

/// Rooms that see a part of another one only: what they may name of it.
const PARTS: &[(&str, &str, &[&str])] = &[
    // The edge says who asked and where an answer stands; it reads and writes no journal.
    ("http", "journal", &["Offset", "Origin", "Partition"]),
    // Before some calls the edge has others asked; what they hear afterwards is no business of its own.
    (
        "http",
        "webhooks",
        &[
            "BEFORE_TIMEOUT_MAX_MS",
            "Consultant",
            "Desks",
            "Question",
            "RequestOverLimit",
            "Secret",
            "Signer",
            "Subnet",
            "Unreadable",
            "consult",
            "endpoint",
        ],
    ),
    // What admins ask of deliveries is looked up as an audit does it.
    ("subscriptions", "audit", &["AuditError", "webhooks"]),
    // The audit compares rows and never opens a store.
    ("audit", "store", &["rows"]),
    // It derives calls, knows their limits, and follows nothing.
    ("audit", "webhooks", &["CursorName", "PARKED_USERS_MAX", "Switches", "digest", "payload"]),
    // Settings are about the values of the core, not about its rules.
    (
        "config",
        "domain",
        &[
            "AllowType",
            "AppId",
            "BeforeTerms",
            "DeliveryTerms",
            "FailurePolicy",
            "Fallback",
            "Format",
            "MAIN",
            "SECRETS_MAX",
            "UserId",
            "is_subscription_name",
            "subscription",
        ],
    ),
    ("usersig", "domain", &["AppId"]),
    ("clock", "domain", &["Timestamp"]),
];

/// Words that stand in these rooms only: an adapter or a library that stays inside.
const WORDS: &[(&str, &[&str])] = &[
    ("kafka::", &["app", "cli", "journal"]),
    ("embedded::", &["app", "cli", "journal"]),
    ("fjall::", &["store"]),
    ("actix_http::", &["http", "patience"]),
    // Besides the edge and its connections: what nodes say to each other, and who starts and stops all that.
    ("actix_web", &["app", "cli", "cluster", "http", "patience"]),
    ("actix::", &["actors"]),
    ("awc::", &["cluster", "webhooks"]),
    ("rdkafka", &["journal"]),
    (
        "prometheus_client",
        &["actors", "app", "cluster", "http", "journal", "subscriptions", "webhooks"],
    ),
    ("clap::", &["cli"]),
    ("toml::", &["config"]),
    ("SystemTime::now", &["clock"]),
];

/// Rooms that compute and touch nothing: no task, no file, no socket, no thread.
const PURE: &[&str] = &["domain", "pairing", "tags", "usersig"];
/// Files of other rooms that compute and touch nothing: what the cluster judges by.
const PURE_FILES: &[&str] = &[
    "cluster/members.rs",
    "cluster/owners.rs",
    "cluster/placement.rs",
    "cluster/plan/beats.rs",
    "cluster/plan/duty.rs",
    "cluster/plan/mod.rs",
];
const IMPURE: &[&str] = &["tokio", "actix", "std::fs", "std::net", "std::thread", "async fn"];

/// The code of one source file: without comments, and without the tests at its end.
struct Source {
    path: PathBuf,
    room: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the sources") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            if path.is_dir() {
                if !["tests", "testing", "play"].contains(&name) {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") && !["tests.rs", "testing.rs"].contains(&name) {
                let inside = path.strip_prefix(&root).expect("it lies there");
                let first = inside.iter().next().and_then(|part| part.to_str()).expect("a part");
                let room = first.trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).expect("a source is text");
                sources.push(Source { path, room, code: code(&text) });
            }
        }
    }
    sources.retain(|source| !["lib", "main"].contains(&source.room.as_str()));
    assert!(sources.len() > 60, "{} files", sources.len());
    sources
}

fn code(text: &str) -> String {
    let (text, _) = text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((text, ""));
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths behind each `crate::`, with the branches of `{a, b::c}` written out.
fn paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // A macro's own room.
        if !code[..at].ends_with('$') {
            read_tree(&code[at + "crate::".len()..], "", &mut paths);
        }
    }
    paths
}

/// Reads one path or tree of paths from the front of `text`; answers what is behind it.
fn read_tree<'t>(text: &'t str, before: &str, paths: &mut Vec<String>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if let Some(behind) = rest.strip_prefix('}') {
                return behind;
            }
            rest = read_tree(rest, before, paths);
            if let Some((_, behind)) =
                rest.trim_start().split_once("as ").filter(|(gap, _)| gap.is_empty())
            {
                rest = behind.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
            }
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = if before.is_empty() { name.to_owned() } else { format!("{before}::{name}") };
    match rest.strip_prefix("::") {
        Some(rest) if !rest.starts_with('<') && end > 0 => read_tree(rest, &path, paths),
        _ => {
            paths.push(path);
            // A character that is none of ours would never be passed otherwise.
            if end == 0 { rest.get(1..).unwrap_or("") } else { rest }
        }
    }
}

#[test]
fn trees_of_paths_are_written_out() {
    let code = "use crate::{a, b::{self, c::D, e as f}, g};\nlet x = crate::h::i(); $crate::j::k";
    assert_eq!(paths(code), ["a", "b::self", "b::c::D", "b::e", "g", "h::i"]);
}

#[test]
fn every_room_stands_in_the_table() {
    let declared: BTreeSet<&str> = include_str!("../../src/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let known: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    assert_eq!(declared, known);
}

#[test]
fn the_map_shows_the_rooms_and_what_they_import() {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim);
    let shown: Vec<(&str, Vec<&str>)> = include_str!("../../src/ARCHITECTURE.md")
        .lines()
        .skip_while(|line| !line.starts_with("| room | imports |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = cells(line).map(|cell| cell.split('`').skip(1).step_by(2));
            let room = cells.next().and_then(|mut names| names.next()).expect("a room");
            (room, cells.next().expect("its imports").collect())
        })
        .collect();
    let known: Vec<_> = ROOMS.iter().map(|(room, imports)| (*room, imports.to_vec())).collect();
    assert_eq!(shown, known);
}

#[test]
fn rooms_import_what_the_table_says_and_nothing_else() {
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        let imports = arrows.entry(source.room.clone()).or_default();
        for path in paths(&source.code) {
            let room = path.split("::").next().expect("a path has a first part");
            if room != source.room {
                imports.insert(room.to_owned());
            }
        }
    }
    for (room, expected) in ROOMS {
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(arrows[*room], expected, "{room}");
    }
    // Inward only: every room imports rooms above it in the table.
    for (at, (room, imports)) in ROOMS.iter().enumerate() {
        for import in *imports {
            let place = ROOMS.iter().position(|(known, _)| known == import);
            assert!(place.is_some_and(|place| place < at), "{room} imports {import}");
        }
    }
}

#[test]
fn rooms_see_only_parts_of_some_others() {
    for source in sources() {
        for path in paths(&source.code) {
            let mut parts = path.split("::");
            let (room, item) = (parts.next().unwrap_or_default(), parts.next());
            let rule = PARTS.iter().find(|(from, to, _)| source.room == *from && room == *to);
            let Some((_, _, allowed)) = rule else { continue };
            let seen = item.is_some_and(|item| allowed.contains(&item));
            assert!(seen, "{}: {path}", source.path.display());
        }
    }
}

#[test]
fn adapters_and_libraries_stay_in_their_rooms() {
    for source in sources() {
        for (word, rooms) in WORDS {
            let found = source.code.contains(word);
            let allowed = rooms.contains(&source.room.as_str());
            assert!(!found || allowed, "{}: {word}", source.path.display());
        }
        let is_pure = PURE.contains(&source.room.as_str())
            || PURE_FILES.iter().any(|file| source.path.ends_with(file));
        for word in IMPURE.iter().filter(|_| is_pure) {
            assert!(!source.code.contains(word), "{}: {word}", source.path.display());
        }
    }
    for file in PURE_FILES {
        assert!(sources().iter().any(|source| source.path.ends_with(file)), "{file}");
    }
    // A word that nobody uses guards nothing.
    let sources = sources();
    for (word, _) in WORDS {
        assert!(sources.iter().any(|source| source.code.contains(word)), "{word}");
    }
}

#[test]
fn nothing_of_a_room_is_reached_around_the_table() {
    for source in sources() {
        let inside = source.path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let depth = inside.expect("it lies there").iter().count();
        let is_root = depth == 1 || depth == 2 && source.path.ends_with("mod.rs");
        // From a room's root, `super` is the crate.
        assert!(!is_root || !source.code.contains("super::"), "{}", source.path.display());
        assert!(!source.code.contains("use cordon::"), "{}", source.path.display());
    }
}

/// The fields of each log line in `code`: what stands in the macro before `=`, or alone.
fn fields_logged(code: &str) -> Vec<String> {
    let levels = ["trace", "debug", "info", "warn", "error", "$level"];
    let calls = levels.map(|level| format!("tracing::{level}!("));
    let mut fields = Vec::new();
    for (at, call) in calls.iter().flat_map(|call| code.match_indices(call.as_str())) {
        let (mut depth, mut quoted, mut escaped) = (0, false, false);
        let mut arguments = vec![String::new()];
        for c in code[at + call.len()..].chars() {
            let is_quote = c == '"' && !escaped;
            escaped = quoted && c == '\\' && !escaped;
            quoted ^= is_quote;
            match c {
                _ if quoted => {}
                '(' | '[' | '{' => depth += 1,
                ')' if depth == 0 => break,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => arguments.push(String::new()),
                _ => {}
            }
            arguments.last_mut().expect("there is one").push(c);
        }
        let name = |argument: &String| {
            let argument = argument.trim_start_matches(|c: char| ", \n%?".contains(c));
            let end = argument.find(|c: char| !(c.is_alphanumeric() || "._".contains(c)));
            argument[..end.unwrap_or(argument.len())].to_owned()
        };
        // Behind the message stands what it is made of.
        let is_message = |one: &&String| one.trim_start_matches([',', ' ', '\n']).starts_with('"');
        let before = arguments.iter().take_while(|one| !is_message(one));
        fields.extend(before.map(name).filter(|name| !name.is_empty()));
    }
    fields
}

#[test]
fn fields_of_the_log_have_the_names_of_the_table() {
    let table = include_str!("../../src/telemetry.rs").lines();
    let rows = table.filter_map(|line| line.strip_prefix("//! | `")?.split(" |").next());
    let known: BTreeSet<&str> = rows.flat_map(|row| row.trim_matches('`').split("`, `")).collect();
    let sources = sources();
    let logged: BTreeSet<String> =
        sources.iter().flat_map(|source| fields_logged(&source.code)).collect();
    assert_eq!(logged, known.into_iter().map(str::to_owned).collect());
}
