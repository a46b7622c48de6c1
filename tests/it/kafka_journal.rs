//! What the journal in Kafka promises beyond the contract of all journals, on a real broker.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cordon::journal::kafka::{ClusterSettings, Journal, ReadOnly, Security, Settings};
use cordon::journal::{
    Ack, Board, Body, Epoch, Journal as _, JournalError, Notice, Offset, Partition, ReadJournal,
    Settlement, WriterRule, record,
};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, TopicPartitionList};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, unbounded_channel};
use uuid::Uuid;

use crate::support::{DEADLINE, eventually, kafka};

const PARTITION: Partition = Partition(0);

fn settings(brokers: &str) -> Settings {
    Settings {
        cluster: ClusterSettings {
            brokers: brokers.split(',').map(str::to_owned).collect(),
            prefix: format!("journal.{}.", Uuid::now_v7()),
            security: Security::default(),
            client_id: "test".into(),
        },
        partitions: 2,
        replication: 1,
        development: true,
        pending_bytes_max: 1 << 20,
    }
}

fn open(settings: &Settings) -> Arc<Journal> {
    Journal::open(settings.clone()).expect("the journal opens")
}

/// Runs `work`, which waits for something, up to the deadline.
#[track_caller]
fn within<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let waited = runtime.expect("a runtime").block_on(async {
        // Made in here, where there is a clock.
        tokio::time::timeout(DEADLINE, work).await
    });
    waited.expect("it happens in time")
}

/// The owner of a partition, as far as the journal sees it.
struct Owner {
    journal: Arc<Journal>,
    settlements: UnboundedReceiver<Settlement>,
}

impl Owner {
    fn attach(journal: &Arc<Journal>) -> Self {
        let (sender, settlements) = unbounded_channel();
        journal.attach(PARTITION, sender);
        Self { journal: journal.clone(), settlements }
    }

    fn settled(&mut self) -> Settlement {
        within(self.settlements.recv()).expect("the journal lives")
    }

    /// Appends and waits; answers the place.
    fn put(&mut self, bytes: &[u8]) -> Offset {
        self.journal.append(PARTITION, bytes).expect("it is taken");
        match self.settled() {
            Settlement::Durable { first, count: 1 } => first,
            other => panic!("{other:?}"),
        }
    }
}

fn read(journal: &dyn ReadJournal, from: Offset) -> Vec<Vec<u8>> {
    let mut reader = journal.reader(&[(PARTITION, from)]).expect("a reader");
    let mut records = Vec::new();
    loop {
        let entries = reader.next(1 << 20).expect("readable");
        if entries.is_empty() {
            return records;
        }
        records.extend(entries.into_iter().map(|entry| entry.bytes));
    }
}

fn encoded(epoch: u64, n: u64, body: &Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::encode(Epoch(epoch), n, body, &mut bytes);
    bytes
}

fn claim(node: &str) -> Body {
    Body::Claim { node: node.to_owned(), nonce: Uuid::now_v7() }
}

fn say(hash: &str) -> Body {
    Body::Checkpoint { hash: hash.to_owned() }
}

/// Makes the topic `name` behind the prefix of `settings` as somebody else may have made it.
fn make(settings: &Settings, name: &str, partitions: i32, config: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", settings.cluster.brokers.join(","))
        .create()
        .expect("an admin client");
    let name = format!("{}{name}", settings.cluster.prefix);
    let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    for (key, value) in config {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
    let made = within(admin.create_topics([&topic], &options)).expect("kafka answers");
    assert_eq!(made, [Ok(name)]);
}

/// Writes into the topic `name` behind the prefix of `settings`, as somebody whose clock is `ahead`.
fn write_ahead(settings: &Settings, name: &str, ahead: Duration) -> Result<(), KafkaError> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", settings.cluster.brokers.join(","))
        .create()
        .expect("a producer");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later");
    let name = format!("{}{name}", settings.cluster.prefix);
    let record = FutureRecord::to(&name)
        .partition(0)
        .key("key")
        .payload("void")
        .timestamp((now + ahead).as_millis() as i64);
    within(producer.send(record, DEADLINE)).map(drop).map_err(|(error, _)| error)
}

fn refusal(settings: &Settings) -> String {
    match Journal::open(settings.clone()) {
        Ok(_) => panic!("the topics are taken"),
        Err(error) => error.to_string(),
    }
}

/// Rule: cluster.md 7, row 27.
#[test]
fn a_node_whose_clock_is_hours_ahead_of_the_brokers_can_write() {
    let Some(brokers) = kafka::shared() else { return };
    let settings = self::settings(brokers);
    let _journal = open(&settings);
    let ahead = Duration::from_secs(2 * 3600);
    for name in ["journal", "snapshots", "owners", "members"] {
        write_ahead(&settings, name, ahead).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // Without that setting the brokers refuse it.
    make(&settings, "other", 1, &[]);
    write_ahead(&settings, "other", ahead).expect_err("from the future");
}

/// Rule: cluster.md 10.1.
#[test]
fn topics_that_break_a_promise_are_refused_with_what_is_needed() {
    let Some(brokers) = kafka::shared() else { return };
    let kept = [("retention.ms", "-1"), ("retention.bytes", "-1")];

    let settings = self::settings(brokers);
    make(&settings, "journal", 3, &kept);
    let told = "the journal has 3 partitions, the settings say 2: set journal.partitions to 3";
    assert_eq!(refusal(&settings), told);

    let settings = self::settings(brokers);
    make(&settings, "journal", 2, &[]);
    let refused = refusal(&settings);
    assert!(refused.contains("journal: retention.ms is 604800000, and has to be -1"), "{refused}");

    let settings = self::settings(brokers);
    make(&settings, "journal", 2, &[("cleanup.policy", "compact")]);
    let refused = refusal(&settings);
    assert!(refused.contains("cleanup.policy is compact, and has to be delete"), "{refused}");

    let settings = self::settings(brokers);
    let large = [kept[0], kept[1], ("max.message.bytes", "4194304")];
    make(&settings, "journal", 2, &large);
    make(&settings, "members", 1, &[]);
    let refused = refusal(&settings);
    assert!(refused.contains("members: cleanup.policy is delete, and has to be"), "{refused}");

    // One copy is for development only, whoever made the topics.
    let settings = self::settings(brokers);
    drop(open(&settings));
    let refused = refusal(&Settings { development: false, ..settings });
    assert!(refused.contains("journal: it has 1 copy of each record; 2 or more"), "{refused}");

    let settings = Settings { replication: 3, ..self::settings(brokers) };
    let refused = refusal(&settings);
    assert!(refused.contains("kafka does not create it with 3 copies"), "{refused}");
}

/// Rule: an empty journal in place of a lost one is an empty world, in which nobody blocks anybody.
#[test]
fn a_journal_that_is_missing_beside_its_other_topics_is_not_made_anew() {
    let Some(brokers) = kafka::shared() else { return };
    let settings = settings(brokers);
    make(&settings, "members", 1, &[("cleanup.policy", "compact")]);
    let refused = refusal(&settings);
    let prefix = &settings.cluster.prefix;
    let says = format!("the topic {prefix}journal: it does not exist, but {prefix}members does");
    assert!(refused.starts_with(&says), "{refused}");
}

#[test]
fn nodes_that_start_together_all_find_the_topics() {
    let Some(brokers) = kafka::shared() else { return };
    let settings = settings(brokers);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| open(&settings));
        }
    });
}

/// Rule: cluster.md 2.3; 7, row 10 and 12.
#[test]
fn a_zombie_of_another_node_is_found_in_the_gap_and_counts_for_nobody() {
    let Some(brokers) = kafka::shared() else { return };
    let settings = settings(brokers);
    let (one, two) = (open(&settings), open(&settings));
    let (mut old, mut new) = (Owner::attach(&one), Owner::attach(&two));

    let mut old_rule = WriterRule::new(Epoch(1), old.put(&encoded(1, 0, &claim("one"))));
    let place = old.put(&encoded(1, old_rule.send(), &say("one 1")));
    assert_eq!(old_rule.acknowledge(place, 1), Ack::Final { n: 1 });

    // The other node takes the partition over; the first one does not know yet.
    let new_claim = new.put(&encoded(2, 0, &claim("two")));
    let mut new_rule = WriterRule::new(Epoch(2), new_claim);
    let zombie = old.put(&encoded(1, old_rule.send(), &say("one 2")));
    let Ack::Gap { from, to } = old_rule.acknowledge(zombie, 1) else {
        panic!("the zombie does not notice");
    };
    assert_eq!((from, to), (new_claim, zombie));
    // What the other node wrote is read here although this node was never told of it.
    let gap = &read(&*one, from)[..(to.0 - from.0) as usize];
    let found = record::decode(&gap[0]).expect("a record");
    assert!(matches!(found.body, Body::Claim { node, .. } if node == "two"));

    let place = new.put(&encoded(2, new_rule.send(), &say("two 1")));
    let Ack::Gap { from, to } = new_rule.acknowledge(place, 1) else {
        panic!("the new owner does not notice the zombie");
    };
    assert_eq!(read(&*two, from)[0], encoded(1, 2, &say("one 2")));
    new_rule.gap_is_rubbish(to);
    assert_eq!(new_rule.acknowledge(place, 1), Ack::Final { n: 1 });
    assert_eq!(one.ends(&[PARTITION]).expect("ends"), two.ends(&[PARTITION]).expect("ends"));
    assert_eq!(read(&*one, Offset(0)), read(&*two, Offset(0)));
}

/// A standby's reader: at the end, of a partition that only others write.
#[test]
fn a_reader_at_the_end_sees_what_other_nodes_write() {
    let Some(brokers) = kafka::shared() else { return };
    let settings = settings(brokers);
    let (one, two) = (open(&settings), open(&settings));
    let mut owner = Owner::attach(&one);
    let mut reader = two.reader(&[(PARTITION, Offset(0))]).expect("a reader");
    for index in 0..20_u64 {
        owner.put(index.to_string().as_bytes());
        let mut entries = Vec::new();
        eventually("the standby reads", || {
            entries.extend(reader.next(1 << 20).expect("readable"));
            !entries.is_empty()
        });
        assert_eq!((entries.len(), entries[0].offset), (1, Offset(index)));
    }
}

/// Rule: design.md 3.
#[test]
fn consumers_outside_find_keys_and_headers() {
    let Some(brokers) = kafka::shared() else { return };
    let settings = settings(brokers);
    let mut owner = Owner::attach(&open(&settings));
    owner.put(&encoded(1, 0, &claim("one")));
    let fixture = include_bytes!("../fixtures/records/UserBlocked.json");
    owner.put(fixture);
    let fixture: serde_json::Value = serde_json::from_slice(fixture).expect("JSON");

    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "outside")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let topic = format!("{}journal", settings.cluster.prefix);
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(&topic, 0, rdkafka::Offset::Beginning).expect("a place");
    consumer.assign(&assignment).expect("an assignment");
    let mut seen = Vec::new();
    eventually("both records are read", || {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let headers: BTreeMap<String, String> = message
                .headers()
                .into_iter()
                .flat_map(|headers| headers.iter())
                .map(|header| {
                    let value = String::from_utf8_lossy(header.value.unwrap_or_default());
                    (header.key.to_owned(), value.into_owned())
                })
                .collect();
            seen.push((message.key().map(<[u8]>::to_vec), headers));
        }
        seen.len() == 2
    });
    let (key, headers) = &seen[0];
    assert_eq!((key, headers["kind"].as_str(), headers["e"].as_str()), (&None, "claim", "1"));
    let (key, headers) = &seen[1];
    let user = fixture["user"].as_str().expect("a name");
    assert_eq!(key.as_deref(), Some(format!("{}/{user}", fixture["app"]).as_bytes()));
    assert_eq!(headers["types"], "FriendRemoved,UserBlocked");
    assert_eq!(headers["id"], fixture["id"].as_str().expect("an id"));
}

#[test]
fn an_audit_reads_beside_the_nodes_and_creates_nothing() {
    let Some(brokers) = kafka::shared() else { return };
    let settings = settings(brokers);
    for _ in 0..2 {
        let refused = ReadOnly::open(settings.cluster.clone()).err().expect("there is no journal");
        assert!(refused.to_string().contains("it does not exist"), "{refused}");
    }
    let mut owner = Owner::attach(&open(&settings));
    owner.put(b"one");
    let audit = ReadOnly::open(settings.cluster).expect("there is a journal");
    assert_eq!(audit.partitions(), 2);
    assert_eq!(read(&audit, Offset(0)), [b"one"]);
    owner.put(b"two");
    assert_eq!(audit.end(PARTITION).expect("an end"), Offset(2));
    assert_eq!(read(&audit, Offset(1)), [b"two"]);
}

/// The next notice that is one.
fn posted(notices: &mut Receiver<Notice>) -> (String, String) {
    match within(notices.recv()).expect("the board is read") {
        Notice::Posted { key, value } => (key, String::from_utf8(value).expect("a text")),
        Notice::CaughtUp => panic!("it was caught up before"),
    }
}

#[test]
fn all_readers_of_a_board_hear_the_same_in_the_same_order_and_are_told_once_where_it_began() {
    let Some(brokers) = kafka::shared() else { return };
    let settings = settings(brokers);
    let (one, two) = (open(&settings), open(&settings));
    let (board, mut first) = one.board("members").expect("a board");
    assert_eq!(within(first.recv()), Some(Notice::CaughtUp), "an empty board is read at once");
    let (other, _) = two.board("members").expect("a board");
    for index in 0..10 {
        let (who, board): (_, &dyn Board) =
            if index % 2 == 0 { ("even", &*board) } else { ("odd", &*other) };
        board.post(who, index.to_string().as_bytes());
    }
    let heard: Vec<_> = (0..10).map(|_| posted(&mut first)).collect();
    for (who, start) in [("even", 0), ("odd", 1)] {
        let said = heard.iter().filter(|(key, _)| key == who).map(|(_, value)| value.clone());
        let expected: Vec<String> = (start..10).step_by(2).map(|index| index.to_string()).collect();
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }

    let (_, mut late) = two.board("members").expect("a board");
    assert_eq!((0..10).map(|_| posted(&mut late)).collect::<Vec<_>>(), heard);
    assert_eq!(within(late.recv()), Some(Notice::CaughtUp));
    board.post("even", b"10");
    assert_eq!(posted(&mut late), posted(&mut first));
}

#[test]
fn an_archive_hands_out_in_order_what_was_put_there_durably() {
    let Some(brokers) = kafka::shared() else { return };
    let settings = settings(brokers);
    let archive = open(&settings).archive();
    let entry = |index: usize| (format!("key {}", index % 50).into_bytes(), vec![index as u8; 500]);
    let everything = || {
        let mut seen = Vec::new();
        archive
            .read(PARTITION, &|| false, &mut |key, value| seen.push((key.to_vec(), value.to_vec())))
            .expect("readable");
        seen
    };
    assert!(everything().is_empty());
    archive.publish(PARTITION, &mut (0..200).map(entry)).expect("published");
    assert_eq!(everything(), (0..200).map(entry).collect::<Vec<_>>());
    let too_large = (b"key".to_vec(), vec![0; 5 << 20]);
    let refused = archive.publish(PARTITION, &mut [too_large].into_iter());
    assert!(matches!(refused, Err(JournalError::Unavailable { .. })), "{refused:?}");
}

/// Rule: cluster.md 7, rows 14 and 17.
#[test]
fn a_broker_that_comes_back_finds_everything_where_it_was() {
    let Some(mut cluster) = kafka::Cluster::start(Ipv4Addr::LOCALHOST, 1) else { return };
    let journal = open(&settings(&cluster.bootstrap()));
    let (board, mut notices) = journal.board("owners").expect("a board");
    assert_eq!(within(notices.recv()), Some(Notice::CaughtUp));
    let mut owner = Owner::attach(&journal);
    owner.put(b"before");
    let mut reader = journal.reader(&[(PARTITION, Offset(0))]).expect("a reader");
    assert_eq!(reader.next(1 << 20).expect("readable").len(), 1);

    cluster.kill(0);
    eventually("the journal notices", || journal.writable().is_err());
    journal.end(PARTITION).expect_err("nobody answers");
    // Nobody can say whether it will be there; the journal says what became of it, once.
    journal.append(PARTITION, b"meanwhile").expect("it is taken");
    cluster.restart(0);
    cluster.wait();
    let mut expected = vec![b"before".to_vec()];
    match owner.settled() {
        Settlement::Durable { first: Offset(1), count: 1 } => expected.push(b"meanwhile".to_vec()),
        Settlement::Lost => {
            owner = Owner::attach(&journal);
            expected = read(&*journal, Offset(0));
            assert!(expected.len() <= 2 && expected[0] == b"before");
        }
        other => panic!("{other:?}"),
    }
    eventually("the journal notices", || journal.writable().is_ok());
    owner.put(b"after");
    expected.push(b"after".to_vec());
    assert_eq!(read(&*journal, Offset(0)), expected);

    // A reader and a board that were open all the time go on.
    let mut seen = 1;
    eventually("the reader goes on", || {
        seen += reader.next(1 << 20).expect("readable").len();
        seen == expected.len()
    });
    board.post("0", b"one");
    assert_eq!(posted(&mut notices).1, "one");
}
