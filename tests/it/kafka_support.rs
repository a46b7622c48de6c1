//! The Kafka of the tests is one: it keeps records, outlives the loss of a broker, and leaves nothing
//! behind. What the tests on Kafka prove rests on this.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::support::kafka::{self, Cluster, Quiet};
use crate::support::{DEADLINE, block_on, eventually, soon};

/// The variable that makes a test process hold a broker until it is ended.
const HOLD: &str = "CORDON_TEST_HOLDS_A_BROKER";
/// What such a process prints before the address.
const HOLDS: &str = "holds a broker at ";

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("reconnect.backoff.max.ms", "200");
    config
}

/// A topic of one partition, with a name of its own.
fn topic(bootstrap: &str, copies: i32) -> String {
    let name = format!("support.{}", uuid::Uuid::now_v7());
    let admin: AdminClient<Quiet> = client(bootstrap).create_with_context(Quiet).expect("a client");
    let new = NewTopic::new(&name, 1, TopicReplication::Fixed(copies))
        .set("min.insync.replicas", if copies > 1 { "2" } else { "1" });
    let made = block_on(admin.create_topics([&new], &AdminOptions::new()));
    assert_eq!(made.expect("the broker answers"), [Ok(name.clone())]);
    name
}

/// Produces `text` and waits until every copy that has to be there is.
fn produce(bootstrap: &str, topic: &str, text: &str) {
    let mut config = client(bootstrap);
    let patience = DEADLINE.as_millis().to_string();
    let config = config.set("acks", "all").set("message.timeout.ms", &patience);
    let producer: FutureProducer<Quiet> = config.create_with_context(Quiet).expect("a client");
    let record = FutureRecord::<(), str>::to(topic).partition(0).payload(text);
    let sent = block_on(producer.send(record, Duration::ZERO)).map_err(|(error, _)| error);
    sent.unwrap_or_else(|error| panic!("{text:?} is not acknowledged: {error}"));
}

/// All records of a topic, as soon as there are `count`.
fn consume(bootstrap: &str, topic: &str, count: usize) -> Vec<String> {
    let mut config = client(bootstrap);
    let config = config.set("group.id", "none").set("enable.auto.commit", "false");
    let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet).expect("a client");
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).expect("a place");
    consumer.assign(&from).expect("a place to read from");
    let mut texts = Vec::new();
    eventually("the records come", || {
        if let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) {
            let text = record.payload_view::<str>().expect("a payload").expect("a text");
            texts.push(text.to_owned());
        }
        texts.len() >= count
    });
    texts
}

#[test]
fn what_the_shared_broker_acknowledged_is_read_back() {
    let Some(kafka) = kafka::shared() else { return };
    let topic = topic(kafka, 1);
    produce(kafka, &topic, "one");
    produce(kafka, &topic, "two");
    assert_eq!(consume(kafka, &topic, 2), ["one", "two"]);
}

#[test]
fn two_of_three_brokers_go_on_and_the_third_comes_back_with_everything() {
    let Some(mut kafka) = Cluster::start(Ipv4Addr::LOCALHOST, 3) else { return };
    let topic = topic(&kafka.bootstrap(), 3);
    produce(&kafka.bootstrap(), &topic, "of three");
    let killed = kafka.address(0);
    kafka.kill(0);
    assert!(TcpStream::connect(&killed).is_err(), "a killed broker does not listen");
    produce(&kafka.bootstrap(), &topic, "of two");
    kafka.restart(0);
    kafka.wait();
    // It is asked alone at first, and has to have caught up to be one of those that acknowledge.
    produce(&killed, &topic, "of three again");
    assert_eq!(consume(&killed, &topic, 3), ["of three", "of two", "of three again"]);

    // One that stands still says nothing, and goes on where it was.
    let heard = |patience| {
        let consumer: BaseConsumer<Quiet> =
            client(&killed).create_with_context(Quiet).expect("a client");
        consumer.fetch_metadata(Some(&topic), patience).is_ok()
    };
    kafka.pause(0);
    assert!(!heard(Duration::from_millis(500)));
    kafka.resume(0);
    assert!(heard(DEADLINE));
}

#[test]
fn no_broker_outlives_its_test_process() {
    if env::var_os(HOLD).is_some() {
        let kafka = Cluster::start(Ipv4Addr::LOCALHOST, 1).expect("the other one could");
        println!("{HOLDS}{}", kafka.bootstrap());
        // Until it is ended, and not much longer if nobody does.
        thread::sleep(DEADLINE);
        return;
    }
    if !Cluster::is_possible() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut holder = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "--nocapture", "kafka_support::no_broker_outlives_its_test_process"])
        .env(HOLD, "1")
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(holder.stdout.take().expect("it is piped")).lines();
    let address = loop {
        let line = lines.next().expect("it says so before it ends").expect("a text");
        if let Some((_, address)) = line.split_once(HOLDS) {
            break address.to_owned();
        }
    };
    TcpStream::connect(&address).expect("a broker listens");
    // As a user or an engine for continuous integration would: nothing is told to end.
    holder.kill().expect("it can be killed");
    holder.wait().expect("it has ended");
    eventually("the broker ends", || TcpStream::connect(&address).is_err());
    let left = || std::fs::read_dir(folder.path()).expect("the folder").count();
    assert!(soon(|| left() == 0), "{} folders are left behind", left());
}
