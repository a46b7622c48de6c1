//! The files under `compose/` say nothing that the product does not know. No container engine is
//! needed: they are read, and what they say is held against the product itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cordon::config::{Config, Environment, JournalKind};
use serde_yaml_ng::Value;

use crate::support::{Setup, TestNode, TestSubscriber, kafka};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compose")
}

fn text(name: &str) -> String {
    let path = folder().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(name: &str) -> Value {
    let mut value: Value =
        serde_yaml_ng::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    value.apply_merge().expect("anchors that are there");
    value
}

pub(crate) fn services(name: &str) -> BTreeMap<String, Value> {
    let file = yaml(name);
    let services = file["services"].as_mapping().expect("services");
    services.iter().map(|(name, it)| (name.as_str().unwrap().to_owned(), it.clone())).collect()
}

/// The variables of a service, with those of the shell filled in as a user would.
pub(crate) fn environment(service: &Value) -> BTreeMap<String, String> {
    let Some(variables) = service["environment"].as_mapping() else { return BTreeMap::new() };
    let filled = |value: &str| match value.strip_prefix("${").and_then(|it| it.strip_suffix('}')) {
        None => value.to_owned(),
        Some(variable) => match variable.split_once(":-") {
            Some((_, default)) => default.to_owned(),
            None => "0123456789abcdef".repeat(4),
        },
    };
    variables
        .iter()
        .map(|(name, value)| {
            let value = value.as_str().unwrap_or_else(|| panic!("{name:?} is no text"));
            (name.as_str().expect("a name").to_owned(), filled(value))
        })
        .collect()
}

fn ours(service: &Value) -> Environment {
    let known = environment(service).into_iter();
    known.filter(|(name, _)| name.starts_with("CORDON_")).collect()
}

/// The nodes of a file, with the settings that they would have.
fn nodes(name: &str) -> BTreeMap<String, Config> {
    let nodes = services(name).into_iter().filter(|(_, service)| !ours(service).is_empty());
    let config = |(node, service): (String, Value)| {
        let config = Config::parse(None, &ours(&service));
        (node.clone(), config.unwrap_or_else(|error| panic!("{name}, {node}: {error}")))
    };
    nodes.map(config).collect()
}

const FILES: [&str; 2] = ["dev.yml", "cluster.yml"];

/// How long a node that leaves waits for others to take over, in seconds.
const LEAVE_S: u64 = 15;

#[test]
fn every_variable_of_a_node_is_a_setting_of_the_product_with_a_value_that_it_takes() {
    for (name, count) in [("dev.yml", 1), ("cluster.yml", 3)] {
        let nodes = nodes(name);
        assert_eq!(nodes.len(), count);
        for config in nodes.values() {
            assert_eq!(config.journal.kind, JournalKind::Kafka);
        }
        let names: BTreeSet<&str> = nodes.values().map(|node| node.node.name.as_str()).collect();
        assert_eq!(names.len(), count, "every node has its own name");
    }
}

#[test]
fn a_cluster_survives_the_loss_of_a_broker_or_a_node() {
    let services = services("cluster.yml");
    let brokers: Vec<&Value> = services
        .values()
        .filter(|service| service["image"].as_str().is_some_and(|image| image.contains("kafka")))
        .collect();
    assert_eq!(brokers.len(), 3);
    for broker in brokers {
        let environment = environment(broker);
        assert_eq!(environment["KAFKA_MIN_INSYNC_REPLICAS"], "2");
        assert_eq!(environment["KAFKA_DEFAULT_REPLICATION_FACTOR"], "3");
        assert_eq!(environment["KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR"], "3");
        assert_eq!(environment["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"], "false");
        assert_eq!(environment["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(',').count(), 3);
    }
    for (node, config) in nodes("cluster.yml") {
        assert_eq!(config.kafka.brokers.len(), 3, "{node}");
        assert_eq!(config.kafka.replication, 3, "{node}");
        assert!(!config.kafka.development, "{node}");
        assert!(config.node.secret.is_some(), "{node}: calls between nodes are signed");
        let advertised = config.node.advertise.expect("others find it");
        assert_eq!(advertised.as_str(), format!("{node}:7000"));
    }
}

#[test]
fn a_node_has_the_time_to_leave_and_what_is_kept_is_kept_together() {
    for name in FILES {
        for (node, config) in nodes(name) {
            let service = &services(name)[&node];
            let grace = service["stop_grace_period"].as_str().expect("a time, as for the brokers");
            let grace: u64 = grace.trim_end_matches('s').parse().expect("seconds");
            assert!(grace > config.server.shutdown_grace_s + LEAVE_S, "{name}, {node}: {grace} s");
        }
        // A node's state is never ahead of the journal: if one outlives its container, so does the
        // other.
        for (service, it) in services(name) {
            let keeps = it["volumes"].as_sequence().into_iter().flatten();
            let keeps: Vec<&str> = keeps.filter_map(Value::as_str).collect();
            let kept = if service.starts_with("kafka") {
                environment(&it)["KAFKA_LOG_DIRS"].clone()
            } else if service.starts_with("node") {
                "/data".to_owned()
            } else {
                continue;
            };
            assert_eq!(keeps, [format!("{service}:{kept}")], "{name}");
        }
    }
}

#[test]
fn every_service_is_pinned_watched_and_started_again() {
    for name in FILES {
        for (service, it) in services(name) {
            let image = it["image"].as_str().expect("an image");
            let (what, tag) = image.rsplit_once(':').expect("a version");
            assert!(tag.contains(|letter: char| letter.is_ascii_digit()), "{service}: {image}");
            match what {
                "cordon" => assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{name}, {service}"),
                "apache/kafka" => {
                    let tested = format!("<kafka.version>{tag}</kafka.version>");
                    assert!(include_str!("../kafka/pom.xml").contains(&tested), "{tag}");
                }
                _ => {}
            }
            assert!(it["healthcheck"]["test"].is_sequence(), "{name}, {service}");
            for (needed, how) in it["depends_on"].as_mapping().into_iter().flatten() {
                let needed = needed.as_str().expect("a name");
                assert!(services(name).contains_key(needed), "{name}, {service}: {needed}");
                assert_eq!(how["condition"].as_str(), Some("service_healthy"), "{service}");
            }
            assert_eq!(it["restart"].as_str(), Some("unless-stopped"), "{name}, {service}");
            for volume in it["volumes"].as_sequence().into_iter().flatten() {
                let (from, _) = volume.as_str().unwrap().split_once(':').expect("from:to");
                if from.starts_with('.') {
                    assert!(folder().join(from).exists(), "{name}, {service}: {from}");
                } else {
                    assert!(yaml(name)["volumes"].get(from).is_some(), "{name}: {from}");
                }
            }
        }
    }
}

#[test]
fn no_secret_lies_in_a_file() {
    for name in FILES {
        for (service, it) in services(name) {
            for (variable, value) in it["environment"].as_mapping().into_iter().flatten() {
                let variable = variable.as_str().expect("a name");
                if ["SECRET", "KEY", "PASSWORD", "TOKEN"].iter().any(|it| variable.ends_with(it)) {
                    let value = value.as_str().expect("a text");
                    assert!(value.starts_with("${"), "{name}, {service}: {variable}");
                }
            }
        }
    }
}

#[test]
fn the_balancer_and_the_scraper_know_the_nodes() {
    let port = |address: &str| address.rsplit_once(':').expect("host:port").1.to_owned();
    let nodes = nodes("cluster.yml");
    let balanced = text("nginx.conf");
    let scraped = yaml("prometheus/prometheus.yml");
    let targets = &scraped["scrape_configs"][0]["static_configs"][0]["targets"];
    let targets: Vec<&str> =
        targets.as_sequence().unwrap().iter().map(|target| target.as_str().unwrap()).collect();
    assert_eq!(targets.len(), nodes.len());
    for (node, config) in &nodes {
        let server = format!("server {node}:{} ", port(config.server.listen.as_str()));
        assert!(balanced.contains(&server), "{server}");
        let target = format!("{node}:{}", port(config.server.ops_listen.as_str()));
        assert!(targets.contains(&target.as_str()), "{target}");
    }
}

#[test]
fn the_balancer_keeps_no_usersig_and_says_where_calls_come_from() {
    let balanced = text("nginx.conf");
    let set = |line: &str| balanced.lines().filter(|given| given.trim().starts_with(line)).count();
    // In a request line stands a UserSig; only what is worse than any failed request is logged.
    assert_eq!((set("access_log"), set("access_log off;")), (1, 1));
    assert_eq!((set("error_log"), set("error_log /dev/stderr emerg;")), (1, 1));
    assert!(balanced.contains("X-Forwarded-For $proxy_add_x_forwarded_for;"));
    // Whoever else is believed says where they are themselves.
    let balancer = &services("cluster.yml")["balancer"]["networks"]["default"]["ipv4_address"];
    let balancer = balancer.as_str().and_then(|ip| ip.parse().ok()).expect("a fixed address");
    for (node, config) in nodes("cluster.yml") {
        let [only] = config.http.trusted_proxies[..] else { panic!("{node}") };
        assert_eq!((only.address, only.prefix), (balancer, 32), "{node}");
    }
}

#[test]
fn what_the_readme_calls_worth_an_alarm_has_a_rule() {
    let (readme, alerts) = (text("../README.md"), text("prometheus/alerts.yml"));
    let (_, worth) = readme.split_once("Worth an alarm:").expect("the tables");
    let (worth, _) = worth.split_once("\nLogs go to").expect("their end");
    let metrics = worth.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let metrics = metrics.flat_map(|cell| cell.split('`')).filter(|it| it.starts_with("cordon_"));
    let metrics: Vec<&str> = metrics.filter_map(|it| it.split('{').next()).collect();
    assert!(metrics.len() > 20, "{metrics:?}");
    for metric in metrics {
        assert!(alerts.contains(metric), "{metric}");
    }
}

#[test]
fn webhooks_are_signed_for_a_receiver_that_looks() {
    let services = services("cluster.yml");
    let token = &services["receiver"]["environment"]["WEBHOOK_TOKEN"];
    for node in nodes("cluster.yml").keys() {
        assert_eq!(&services[node]["environment"]["CORDON_WEBHOOK_TOKEN"], token, "{node}");
    }
    assert!(text("receiver.py").contains("WEBHOOK_TOKEN"));
}

#[test]
fn the_alerts_know_how_many_nodes_and_partitions_there_are() {
    let nodes = nodes("cluster.yml");
    let partitions = nodes["node-1"].journal.partitions;
    let alerts = text("prometheus/alerts.yml");
    assert!(alerts.contains(&format!("sum(cordon_partitions_serving) < {partitions}\n")));
    // Without a node there is nothing to compare, and one that is alone counts for all that it knows.
    assert!(alerts.contains("absent(up{job=\"cordon\"} == 1)\n"));
    assert!(alerts.contains("(cordon_journal_writable) == 0\n"));
    assert!(alerts.contains(&format!("min(cordon_members_alive) < {}\n", nodes.len())));
}

#[test]
fn the_dashboard_asks_the_source_that_is_provisioned() {
    let source = &yaml("grafana/provisioning/datasources/prometheus.yml")["datasources"][0];
    let dashboard: serde_json::Value =
        serde_json::from_str(&text("grafana/dashboards/cordon.json")).expect("JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert_eq!(panel["datasource"]["uid"], source["uid"].as_str().unwrap(), "{panel}");
    }
}

#[test]
fn the_image_runs_without_rights_and_with_the_products_own_health_check() {
    let file = text("Dockerfile");
    // A number, because Kubernetes cannot tell of a name that it is not root.
    assert!(file.contains("\nUSER 65532:65532\n"));
    assert!(file.contains("STOPSIGNAL SIGTERM"));
    let check = r#"CMD ["/usr/local/bin/cordon", "health"]"#;
    assert!(file.contains("HEALTHCHECK") && file.contains(check));
    let version = format!(r#"image.version="{}""#, env!("CARGO_PKG_VERSION"));
    assert!(file.contains(&version), "{version}");
    let mut environment = Environment::new();
    for line in file.lines() {
        let words = line.split_whitespace().filter(|word| word.starts_with("CORDON_"));
        for word in words {
            let (name, value) = word.split_once('=').expect("NAME=value");
            environment.insert(name.to_owned(), value.to_owned());
        }
    }
    assert_eq!(environment.len(), 3);
    Config::parse(None, &environment).expect("settings that the product takes");
}

#[test]
fn the_image_is_built_from_everything_that_the_build_reads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = text("Dockerfile");
    let copies = file.lines().filter_map(|line| line.strip_prefix("COPY ")?.rsplit_once(' '));
    let copied: BTreeSet<&str> = copies
        .filter(|(from, _)| !from.starts_with("--from"))
        .flat_map(|(from, _)| from.split(' '))
        .collect();
    let ignored = fs::read_to_string(root.join(".dockerignore")).expect("it is there");
    let sent: BTreeSet<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"), "nothing else is sent, above all no target/");
    assert_eq!(copied, sent);
    for part in &copied {
        assert!(root.join(part).exists(), "{part}");
    }
    // Cargo wants every target's file, also of those that are not built.
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("it is there");
    let paths = manifest.lines().filter_map(|line| line.strip_prefix("path = \""));
    for path in paths.chain(["src/main.rs", ".cargo/config.toml", "Cargo.lock", "Cargo.toml"]) {
        let first = path.trim_end_matches('"').split('/').next().expect("a part");
        assert!(copied.contains(first), "{path}");
    }
}

/// What the dashboard, the alerts and the tables of the README ask for.
fn asked() -> BTreeSet<String> {
    let mut asked = BTreeSet::new();
    for name in ["grafana/dashboards/cordon.json", "prometheus/alerts.yml", "../README.md"] {
        let text = text(name);
        let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        for found in text.split(|letter: char| !word(letter)) {
            if found.starts_with("cordon_") {
                let ends = ["_bucket", "_total"];
                let base = ends.iter().find_map(|end| found.strip_suffix(end)).unwrap_or(found);
                asked.insert(base.to_owned());
            }
        }
    }
    asked
}

fn measured(node: &TestNode) -> BTreeSet<String> {
    let text = node.ops("/metrics");
    let names = text.text().lines().filter_map(|line| line.strip_prefix("# TYPE "));
    names.filter_map(|rest| rest.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_dashboard_the_alerts_and_the_readme_ask_only_for_what_a_node_measures() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::cluster(kafka, 1).remove(0);
    let node = setup.start();
    // Some are only there once there is something to count.
    let subscriber = TestSubscriber::start();
    let commands = "Sns.CallbackBlackListAdd,C2C.CallbackBeforeSendMsg";
    let other = Setup::new().webhook(&subscriber).set("WEBHOOK_COMMANDS", commands).start();
    let mut caller = other.caller();
    caller.import(&["amy", "bob"]);
    let body = serde_json::json!({"From_Account": "amy", "To_Account": "bob", "MsgSeq": 7, "MsgRandom": 8,
        "MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "Hi"}}]});
    caller.call("openim/sendmsg", &body).ok();
    caller.block("amy", &["bob"]);
    other.settle();
    let measured = &measured(&node) | &measured(&other);
    let unknown: Vec<String> =
        asked().into_iter().filter(|name| !measured.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} of {measured:?}");
    assert!(asked().len() > 15);
}
