//! The rules of the whole room: file and environment together.

mod largest;

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::domain::{AllowType, AppId, Fallback};

const KEY: &str = "fde5c0de";

fn variables(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(file: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::parse(Some(("cordon.toml", file)), &variables(pairs))
}

/// Each fault as one line.
fn faults(file: &str, pairs: &[(&str, &str)]) -> Vec<String> {
    match load(file, pairs) {
        Err(ConfigError::Refused(faults)) => faults.iter().map(Fault::to_string).collect(),
        other => panic!("expected faults, got {other:?}"),
    }
}

fn setting<'c>(config: &'c Config, path: &str) -> &'c Setting {
    config.settings().iter().find(|setting| setting.path == path).unwrap()
}

const TWO_APPS: &str = r#"
listen = "0.0.0.0:80"

[http]
workers = 3
body_bytes_max = "2 MiB"

[[app]]
id = 1400000001
admins = ["administrator", "robot"]
keys = ["fde5c0de", "0ddba11"]
rate_limits = "off"

[app.block]
remain_friends = true

[app.friend]
default_allow_type = "AllowType_Type_NeedConfirm"

[app.webhook]
url = "https://me:pa55w0rd@example.org/hook"
token = "t0ken"
commands = ["Sns.CallbackBlackListAdd"]

[[app]]
id = 1400000002
enabled = false
keys = "c0ffee"

[app.rate_limits]
"sns/black_list_add" = 500
"profile/portrait_get" = "off"
app_per_second = 1000
"#;

#[test]
fn without_file_and_environment_all_is_default() {
    let config = Config::parse(None, &Environment::new()).unwrap();
    assert_eq!(config.server, Server::default());
    assert_eq!(config.http, Http::default());
    assert_eq!(config.server.listen.as_str(), "127.0.0.1:8080");
    assert_eq!(config.http.request_timeout_ms, 3000);
    assert_eq!(config.journal.kind, JournalKind::Embedded);
    assert!(config.apps.is_empty());
    assert!(config.settings().iter().all(|setting| setting.source == Source::Default));
}

#[test]
fn a_file_says_what_it_says_and_the_rest_is_default() {
    let config = load(TWO_APPS, &[]).unwrap();
    assert_eq!(config.server.listen.as_str(), "0.0.0.0:80");
    assert_eq!(config.http, Http { workers: 3, body_bytes_max: Bytes::mib(2), ..Http::default() });
    let [first, second] = &config.apps[..] else { panic!("two apps") };
    assert_eq!(first.id, AppId(1_400_000_001));
    assert_eq!(first.admins[1].as_str(), "robot");
    assert_eq!(first.keys[1].reveal(), "0ddba11");
    assert!(first.block.remain_friends);
    assert_eq!(first.friend.default_allow_type, AllowType::NeedConfirm);
    assert_eq!(
        first.webhook.receiver.url.as_ref().unwrap().reveal(),
        "https://me:pa55w0rd@example.org/hook"
    );
    assert_eq!(first.webhook.delivery.commands, [WebhookCommand::AFTER[0]]);
    assert_eq!(first.rate_limits, RateLimits::Off);
    assert!(!second.enabled);
    assert_eq!(second.admins[0].as_str(), "administrator");
    assert_eq!(second.limits, Limits::default());
    assert_eq!(second.webhook.delivery.commands, WebhookCommand::AFTER);
    let changed =
        [("profile/portrait_get".to_owned(), None), ("sns/black_list_add".to_owned(), Some(500))];
    let limits = RateLimits::On { app_per_second: Some(1000), changed: changed.into() };
    assert_eq!(second.rate_limits, limits);
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = "listen = \"0.0.0.0:80\"\n[http]\nworkers = 3\nkeep_alive_s = 9\n";
    let pairs = [("CORDON_LISTEN", "127.0.0.1:0"), ("CORDON_HTTP_WORKERS", "5")];
    let config = load(file, &pairs).unwrap();
    assert_eq!(config.server.listen.as_str(), "127.0.0.1:0");
    assert_eq!((config.http.workers, config.http.keep_alive_s), (5, 9));
    assert_eq!(setting(&config, "http.workers").source, Source::Environment);
    assert_eq!(setting(&config, "http.keep_alive_s").source, Source::File);
    assert_eq!(setting(&config, "http.body_bytes_max").source, Source::Default);
}

/// Rule: extensions.md 6.
#[test]
fn the_names_of_the_contract_work() {
    let config = Config::parse(
        None,
        &variables(&[
            ("CORDON_LISTEN", "127.0.0.1:1"),
            ("CORDON_OPS_LISTEN", "127.0.0.1:2"),
            ("CORDON_DATA_DIR", "/srv/cordon"),
            ("CORDON_APP_ID", "1400000001"),
            ("CORDON_APP_KEY", KEY),
            ("CORDON_APP_ADMIN", "chief"),
            ("CORDON_WEBHOOK_URL", "http://127.0.0.1:9/hook"),
            ("CORDON_WEBHOOK_TOKEN", "t0ken"),
            ("CORDON_WEBHOOK_COMMANDS", "Sns.CallbackPrevFriendAdd, Sns.CallbackFriendAdd"),
            ("CORDON_RATE_LIMITS", "off"),
            ("CORDON_JOURNAL", "kafka"),
            ("CORDON_KAFKA_BROKERS", "one:9092,two:9092"),
            ("CORDON_KAFKA_PREFIX", "guard."),
            ("CORDON_NODE_NAME", "n-1"),
            ("CORDON_NODE_LISTEN", "0.0.0.0:7000"),
            ("CORDON_NODE_ADVERTISE", "n-1:7000"),
        ]),
    )
    .unwrap();
    assert_eq!(config.server.listen.as_str(), "127.0.0.1:1");
    assert_eq!(config.server.ops_listen.as_str(), "127.0.0.1:2");
    assert_eq!(config.server.data_dir, PathBuf::from("/srv/cordon"));
    assert_eq!(config.journal.kind, JournalKind::Kafka);
    assert_eq!(config.kafka.brokers[1].as_str(), "two:9092");
    assert_eq!(config.kafka.prefix.as_str(), "guard.");
    assert_eq!(config.node.name.as_str(), "n-1");
    assert_eq!(config.node.listen.unwrap().as_str(), "0.0.0.0:7000");
    assert_eq!(config.node.advertise.unwrap().as_str(), "n-1:7000");
    let [app] = &config.apps[..] else { panic!("one app") };
    assert_eq!((app.id, app.admins[0].as_str()), (AppId(1_400_000_001), "chief"));
    assert_eq!(app.keys, [Secret::new(KEY)]);
    assert_eq!(app.rate_limits, RateLimits::Off);
    assert_eq!(app.webhook.receiver.url.as_ref().unwrap().reveal(), "http://127.0.0.1:9/hook");
    assert_eq!(app.webhook.receiver.token, Some(Secret::new("t0ken")));
    assert_eq!(
        app.webhook.delivery.commands,
        [WebhookCommand::BEFORE[0], WebhookCommand::AFTER[2]]
    );
}

#[test]
fn an_app_of_the_environment_needs_an_id_and_a_key_and_no_more() {
    let id = ("CORDON_APP_ID", "1400000001");
    let config = load("", &[id, ("CORDON_APP_KEY", KEY)]).unwrap();
    assert_eq!(config.apps[0].admins[0].as_str(), "administrator");
    assert_eq!(config.apps[0].webhook.delivery.commands, WebhookCommand::AFTER);
    assert_eq!(
        faults("", &[id]),
        ["CORDON_APP_ID: app.keys: an app has at least one key; CORDON_APP_KEY can set it, too"]
    );
    assert_eq!(
        faults("", &[("CORDON_APP_KEY", KEY)]),
        ["CORDON_APP_KEY: CORDON_APP_ID is missing: whose key is it?"]
    );
    assert_eq!(
        faults("", &[("CORDON_APP_ID", "x"), ("CORDON_APP_KEY", KEY)]),
        ["CORDON_APP_ID: app.id: an SDKAppID is a number from 1 to 4294967295"]
    );
}

#[test]
fn variables_are_about_the_app_that_the_id_names() {
    let pairs = [("CORDON_APP_ID", "1400000002"), ("CORDON_LIMITS_BLOCKS_MAX", "7")];
    let config = load(TWO_APPS, &pairs).unwrap();
    assert_eq!((config.apps[0].limits.blocks_max, config.apps[1].limits.blocks_max), (1000, 7));
    assert_eq!(config.apps[1].keys[0].reveal(), "c0ffee");

    let pairs = [("CORDON_APP_ID", "1400000003"), ("CORDON_APP_KEY", KEY)];
    let config = load(TWO_APPS, &pairs).unwrap();
    assert_eq!(config.apps[2].id, AppId(1_400_000_003));
    assert_eq!(config.apps[0].keys[0].reveal(), "fde5c0de");
}

#[test]
fn variables_are_about_the_only_app_and_never_about_one_of_several() {
    let only = "[[app]]\nid = 1400000001\n";
    let config = load(only, &[("CORDON_APP_KEY", KEY)]).unwrap();
    assert_eq!(config.apps[0].keys[0].reveal(), KEY);
    assert_eq!(
        faults(TWO_APPS, &[("CORDON_APP_KEY", KEY)]),
        ["CORDON_APP_KEY: there are several apps; CORDON_APP_ID says which one is meant"]
    );
}

#[test]
fn rate_limits_are_switched_off_for_every_app() {
    let config = load(TWO_APPS, &[("CORDON_RATE_LIMITS", "off")]).unwrap();
    assert!(config.apps.iter().all(|app| app.rate_limits == RateLimits::Off));
}

#[test]
fn what_counts_without_an_answer_is_set_for_each_failure() {
    let before = load(TWO_APPS, &[]).unwrap().apps[0].webhook.before.clone();
    assert_eq!((before.before_timeout_ms, before.before_on_timeout), (2000, Fallback::Allow));
    let file = TWO_APPS.replace("token =", "before_on_status = \"deny\"\ntoken =");
    let pairs = [
        ("CORDON_APP_ID", "1400000001"),
        ("CORDON_WEBHOOK_BEFORE_TIMEOUT_MS", "100"),
        ("CORDON_WEBHOOK_BEFORE_ON_BUSY", "deny"),
    ];
    let before = load(&file, &pairs).unwrap().apps[0].webhook.before.clone();
    assert_eq!(before.before_timeout_ms, 100);
    let fallbacks = [
        before.before_on_timeout,
        before.before_on_unreachable,
        before.before_on_status,
        before.before_on_malformed,
        before.before_on_busy,
    ];
    let (allow, deny) = (Fallback::Allow, Fallback::Deny);
    assert_eq!(fallbacks, [allow, allow, deny, allow, deny]);
    assert_eq!(
        faults(TWO_APPS, &[pairs[0], ("CORDON_WEBHOOK_BEFORE_ON_TIMEOUT", "maybe")]),
        [
            "CORDON_WEBHOOK_BEFORE_ON_TIMEOUT: app.1400000001.webhook.before_on_timeout: it is one of: allow, deny"
        ]
    );
}

#[test]
fn what_is_unknown_is_refused_with_its_line() {
    let file = "color = 1\n[http]\nwrokers = 3\n[htp]\n[[app]]\nid = 1\nkeys = \"k\"\n[app.limits]\nx = 1\n";
    assert_eq!(
        faults(file, &[]),
        [
            "cordon.toml:1: color: there is no such setting",
            "cordon.toml:3: http.wrokers: there is no such setting; did you mean workers?",
            "cordon.toml:4: htp: there is no such setting; did you mean http?",
            "cordon.toml:9: app.1.limits.x: there is no such setting",
        ]
    );
}

#[test]
fn a_bad_value_is_refused_with_its_line_and_what_is_allowed() {
    let file = "\n[http]\nrequest_timeout_ms = 99\nworkers = \"many\"\nbody_bytes_max = 1\n\n[journal]\npartitions = -1\nkind = \"paper\"\n[log]\nformat = 3.5\n";
    assert_eq!(
        faults(file, &[]),
        [
            "cordon.toml:3: http.request_timeout_ms: it is out of range; allowed: 100 to 8000 ms",
            "cordon.toml:4: http.workers: it is no whole number; allowed: 1 to 1024 threads",
            "cordon.toml:5: http.body_bytes_max: it is out of range; allowed: 1 KiB to 2 MiB",
            "cordon.toml:8: journal.partitions: it is no whole number; allowed: 1 to 4096 partitions",
            "cordon.toml:9: journal.kind: it is one of: embedded, kafka",
            "cordon.toml:11: log.format: it cannot be of the type float",
        ]
    );
}

#[test]
fn no_more_is_allowed_than_records_and_answers_have_room_for() {
    let app = format!("[[app]]\nid = 1\nkeys = [\"{KEY}\"]\n[app.limits]\n");
    let of_app = |line: &str| format!("{app}{line}");
    let http = |line: &str| format!("[http]\n{line}\n{app}");
    for (most, more, allowed) in [
        (http("body_bytes_max = \"2 MiB\""), http("body_bytes_max = 2097153"), "1 KiB to 2 MiB"),
        (of_app("friends_max = 5000"), of_app("friends_max = 5001"), "1 to 5000 users"),
        (of_app("requests_max = 5000"), of_app("requests_max = 5001"), "1 to 5000 requests"),
        (of_app("groups_max = 100"), of_app("groups_max = 101"), "1 to 100 groups"),
    ] {
        assert!(load(&most, &[]).is_ok(), "{most}");
        let faults = faults(&more, &[]);
        assert!(faults.len() == 1 && faults[0].ends_with(allowed), "{faults:?}");
    }
}

#[test]
fn a_bad_variable_is_refused_by_its_name_with_what_is_allowed() {
    let pairs = [
        ("CORDON_HTTP_WORKERS", "0"),
        ("CORDON_HTTP_WROKERS", "3"),
        ("CORDON_WEBHOOK_COMMANDS", "Sns.CallbackFriendAdd,Sns.CallbackBlacklistAdd"),
        ("CORDON_RATE_LIMITS", "sns/black_list_ad=3"),
    ];
    let faults = faults("", &pairs);
    assert_eq!(
        faults[0],
        "CORDON_HTTP_WORKERS: http.workers: it is out of range; allowed: 1 to 1024 threads"
    );
    assert_eq!(
        faults[1],
        "CORDON_HTTP_WROKERS: there is no such variable; did you mean CORDON_HTTP_WORKERS?"
    );
    assert!(faults[2].starts_with("CORDON_RATE_LIMITS: app.rate_limits: there is no command"));
    assert!(
        faults[3].starts_with(
            "CORDON_WEBHOOK_COMMANDS: app.webhook.commands: item 2: it is one of: Sns."
        )
    );
}

#[test]
fn variables_of_others_are_let_be() {
    let pairs = [
        ("PATH", "/bin"),
        ("CORDON_LISTEN", ""),
        ("CORDON_CONFIG", "elsewhere.toml"),
        ("CORDON_SERVICE_HOST", "10.0.0.1"),
        ("CORDON_SERVICE_PORT_HTTP", "80"),
        ("CORDON_PORT", "tcp://10.0.0.1:80"),
        ("CORDON_PORT_80_TCP_ADDR", "10.0.0.1"),
    ];
    let config = load("", &pairs).unwrap();
    assert_eq!(config.server.listen.as_str(), "127.0.0.1:8080");
    assert_eq!(faults("", &[("CORDON_PORT", "80")]), ["CORDON_PORT: there is no such variable"]);
}

#[test]
fn broken_toml_is_refused_with_its_line_and_without_its_text() {
    let faults = faults("listen = \"127.0.0.1:1\"\n[[app]]\nkeys = [\"fde5c0de\"\n", &[]);
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("cordon.toml:"), "{faults:?}");
    assert!(!faults[0].contains(KEY));
}

#[test]
fn apps_are_complete_and_different() {
    let file = "[[app]]\nkeys = \"a\"\n[[app]]\nid = 7\n[[app]]\nid = 7\nkeys = \"b\"\n[app.webhook]\nretry_min_ms = 20\nretry_max_ms = 10\n";
    let faults = faults(file, &[]);
    assert!(faults[0].starts_with("cordon.toml:1: app.id: an app has an SDKAppID"), "{faults:?}");
    assert!(faults[1].starts_with("cordon.toml:3: app.keys: an app has at least one key"));
    assert!(
        faults[2].starts_with("cordon.toml:5: app.id: there is an app with this SDKAppID already")
    );
    assert_eq!(
        faults[3],
        "cordon.toml:5: app.webhook.retry_min_ms: it is larger than retry_max_ms"
    );
    assert_eq!(faults.len(), 4);
}

#[test]
fn an_app_is_a_table_of_its_own() {
    for file in ["[app]\nid = 7\n", "app = [1]\n"] {
        assert_eq!(
            faults(file, &[]),
            ["cordon.toml:1: app: each app is a table of its own: [[app]]"]
        );
    }
    assert_eq!(faults("http = 5\n", &[]), ["cordon.toml:1: http: it is a table: [http]"]);
}

#[test]
fn kafka_needs_brokers() {
    let faults = faults("[journal]\nkind = \"kafka\"\n", &[]);
    assert_eq!(faults, ["kafka.brokers: a journal in Kafka needs some"]);
}

#[test]
fn what_nodes_need_of_each_other_is_set_as_a_whole() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.node.listen_or_default().as_str(), "127.0.0.1:0");
    assert_eq!(config.node.reached_at(7001).as_str(), "127.0.0.1:7001");
    assert!(config.node.tls().is_none() && config.node.secret.is_none());
    assert_eq!((config.node.dead_after_ms, config.node.standby), (5000, Standby::One));

    let file = "[node]\nlisten = \"0.0.0.0:7000\"\nadvertise = \"n-1:0\"\nstandby = \"all\"\n\
                tls_ca_file = \"ca.pem\"\ntls_certificate_file = \"n.pem\"\n";
    let config = load(file, &[("CORDON_NODE_TLS_KEY_FILE", "n.key")]).unwrap();
    assert_eq!(config.node.reached_at(7000).as_str(), "n-1:7000");
    assert_eq!(config.node.standby, Standby::All);
    let tls = config.node.tls().unwrap();
    assert_eq!(tls.certificate.to_str(), Some("n.pem"));
    assert_eq!(
        faults(file, &[("CORDON_NODE_SECRET", &"s".repeat(32))]),
        [
            "node.secret: nodes use a secret or TLS, not both",
            "node.tls_key_file: TLS between nodes needs all three files",
        ]
    );
    assert_eq!(
        faults("", &[("CORDON_NODE_SECRET", &"s".repeat(31)), ("CORDON_NODE_DEAD_AFTER_MS", "10")]),
        [
            "CORDON_NODE_DEAD_AFTER_MS: node.dead_after_ms: it is out of range; allowed: 2000 to 60000 ms",
            "CORDON_NODE_SECRET: node.secret: it is out of range; allowed: 32 to 4096 bytes",
        ]
    );
}

#[test]
fn a_node_tells_an_address_that_leads_to_it() {
    for (listen, advertise, port, told) in [
        ("10.0.0.7:7000", None, 7000, "10.0.0.7:7000"),
        ("10.0.0.7:0", None, 7003, "10.0.0.7:7003"),
        ("[::1]:0", None, 7003, "[::1]:7003"),
        ("0.0.0.0:7000", Some("n-1:9000"), 7000, "n-1:9000"),
    ] {
        let mut pairs = vec![("CORDON_NODE_LISTEN", listen)];
        pairs.extend(advertise.map(|advertise| ("CORDON_NODE_ADVERTISE", advertise)));
        assert_eq!(load("", &pairs).unwrap().node.reached_at(port).as_str(), told);
    }
    let fault = ["node.advertise: other nodes need an address that leads to this one"];
    for pairs in [
        &[("CORDON_NODE_LISTEN", "0.0.0.0:7000")][..],
        &[("CORDON_NODE_LISTEN", "[::]:7000")],
        &[("CORDON_NODE_LISTEN", "10.0.0.7:7000"), ("CORDON_NODE_ADVERTISE", "0.0.0.0:7000")],
    ] {
        assert_eq!(faults("", pairs), fault);
    }
}

#[test]
fn secrets_are_never_printed() {
    let config = load(
        TWO_APPS,
        &[
            ("CORDON_APP_ID", "1400000002"),
            ("CORDON_WEBHOOK_TOKEN", "5e5ame"),
            ("CORDON_NODE_SECRET", "h0rseh0rseh0rseh0rseh0rseh0rseh0rse"),
        ],
    );
    let config = config.unwrap();
    let json = serde_json::to_string(config.settings()).unwrap();
    for printed in [config.table(), json, format!("{config:?}"), format!("{config:#?}")] {
        for secret in ["fde5c0de", "0ddba11", "c0ffee", "t0ken", "5e5ame", "pa55w0rd", "h0rse"] {
            assert!(!printed.contains(secret), "{secret} in {printed}");
        }
    }
    let refused =
        load("[[app]]\nid = 1\nkeys = [[\"fde5c0de\"]]\nwebhook.url = \"pa55w0rd\"\n", &[]);
    let refused = refused.unwrap_err();
    for printed in [refused.to_string(), format!("{refused:?}")] {
        assert!(!printed.contains(KEY) && !printed.contains("pa55w0rd"), "{printed}");
    }
}

#[test]
fn every_setting_has_a_variable_of_its_own_and_an_explanation() {
    let config = load("", &[]).unwrap();
    let mut variables: Vec<_> =
        config.settings().iter().map(|s| s.variable.clone().unwrap()).collect();
    variables.sort();
    let count = variables.len();
    variables.dedup();
    assert_eq!(variables.len(), count);
    assert!(config.settings().iter().all(|setting| setting.about.ends_with('.')));
}

#[test]
fn the_development_app_stands_in_for_a_missing_one_and_hears_the_variables() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let pairs = [("CORDON_DATA_DIR", data_dir), ("CORDON_WEBHOOK_URL", "http://localhost/")];
    let mut config = Config::parse(None, &variables(&pairs)).unwrap();
    let app = config.ensure_app().unwrap().unwrap().clone();
    assert_eq!(app.keys, development_app(folder.path()).unwrap().keys);
    assert!(app.webhook.receiver.url.is_some());
    assert_eq!(config.apps, [app]);
    assert_eq!(config.ensure_app().unwrap(), None);
}

proptest! {
    #[test]
    fn a_file_of_any_text_is_read_or_refused(
        at: Index,
        length in 0..20_usize,
        noise in "([\\[\\]{}\"'=.,#\n]|true|-1|1e9|\\[\\[app\\]\\]|[a-z_]{1,8}|.){0,12}",
    ) {
        let mut text: Vec<char> = TWO_APPS.chars().collect();
        let at = at.index(text.len());
        text.splice(at..(at + length).min(text.len()), noise.chars());
        let text: String = text.into_iter().collect();
        match load(&text, &[]) {
            Ok(config) => prop_assert!(!config.apps.is_empty()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
