//! A broker of several that is gone takes its own partitions along, and no others.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use cordon::domain::{AppId, UserId, UserKey};
use cordon::journal::partition_of;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;

use crate::support::{APP, Caller, DEADLINE, Setup, TestProcess, eventually, kafka};

const BROKERS: usize = 3;
const PARTITIONS: u16 = 6;
/// How long those that are led are called: many leases.
const CALLED_FOR: Duration = Duration::from_secs(6);

/// Who leads each partition of each topic of `setup`.
fn leaders(bootstrap: &str, prefix: &str) -> BTreeMap<String, Vec<i32>> {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("a client");
    let metadata = client.fetch_metadata(None, DEADLINE).expect("metadata");
    let topics = metadata.topics().iter().filter_map(|topic| {
        let leaders = topic.partitions().iter().map(|partition| partition.leader()).collect();
        Some((topic.name().strip_prefix(prefix)?.to_owned(), leaders))
    });
    topics.collect()
}

fn user_in(partition: u16) -> String {
    let names = (0..).map(|index| format!("user{index}"));
    let mut names = names.filter(|name| {
        let user = UserId::parse(name).expect("it is a UserID");
        partition_of(&UserKey { app: AppId(APP), user }, PARTITIONS).0 == partition
    });
    names.next().expect("there are enough")
}

fn rename(caller: &mut Caller, user: &str) -> u64 {
    let item = json!([{"Tag": "Tag_Profile_IM_Nick", "Value": user}]);
    caller.call("profile/portrait_set", &json!({"From_Account": user, "ProfileItem": item})).code()
}

/// Rule: cluster.md 7, rows 16 and 32. The partitions have one copy here, so a broker's are gone with it.
#[test]
fn a_broker_that_is_gone_silences_its_own_partitions_alone() {
    let Some(mut kafka) = kafka::Cluster::start(Ipv4Addr::LOCALHOST, BROKERS) else { return };
    let prefix = "brokers.";
    let setup = Setup::cluster(&kafka.bootstrap(), 1).pop().expect("one");
    let setup = setup
        .set("KAFKA_PREFIX", prefix)
        .set("JOURNAL_PARTITIONS", &PARTITIONS.to_string())
        .set("HTTP_REQUEST_TIMEOUT_MS", "8000");
    let node = TestProcess::start(&setup);
    let mut caller = node.caller();
    let users: Vec<String> = (0..PARTITIONS).map(user_in).collect();
    caller.import(&users.iter().map(String::as_str).collect::<Vec<_>>());

    let leaders = leaders(&kafka.bootstrap(), prefix);
    let boards = [leaders["members"][0], leaders["owners"][0]];
    let led_by = |broker: usize| {
        // Brokers are numbered from 1.
        let is_led = move |(_, leader): &(&String, &i32)| **leader == broker as i32 + 1;
        users.iter().zip(&leaders["journal"]).partition::<Vec<_>, _>(is_led)
    };
    let gone = (0..BROKERS).find(|broker| !boards.contains(&(*broker as i32 + 1)));
    let gone = gone.expect("two boards have two leaders at most");
    let (silenced, led) = led_by(gone);
    assert!(!silenced.is_empty() && !led.is_empty(), "{leaders:?}");

    kafka.kill(gone);
    let began = Instant::now();
    while began.elapsed() < CALLED_FOR {
        for (user, leader) in &led {
            assert_eq!(rename(&mut caller, user), 0, "broker {leader} leads {user}'s partition");
        }
    }
    let (user, _) = silenced[0];
    assert_ne!(rename(&mut caller, user), 0, "nobody leads {user}'s partition");
    kafka.restart(gone);
    kafka.wait();
    for (user, _) in silenced {
        eventually("the partition answers again", || rename(&mut caller, user) == 0);
    }
}
