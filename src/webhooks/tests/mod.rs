//! The promises of the room, through its door: a real journal, a real receiver.

mod afar;
mod cursors;
mod failures;

use std::collections::BTreeMap;

use prometheus_client::registry::Registry;
use tokio::sync::Notify;

use super::feed::{Readers, Together};
use super::testing::{Answer, Heard, Owner, Receiver, blocks, commit_of, id, within};
use super::*;
use crate::domain::{AppId, DeliveryTerms, Event, Format, MAIN, Timestamp};
use crate::journal;

const NOW: Timestamp = Timestamp(1_669_872_112_000);
const NAME: &str = "webhook/1400000001";

fn settings(url: &str, token: Option<&str>) -> Subscription {
    let secrets: Vec<Secret> = token.map(|token| Secret::new(token, None)).into_iter().collect();
    Subscription {
        signer: Signer::new(Format::Reference, &secrets).expect("a token"),
        delivery: DeliveryTerms { retry_min_ms: 2, retry_max_ms: 20, ..DeliveryTerms::default() },
        ..testing::subscription(url)
    }
}

async fn follow(owner: &Owner, url: &str, partitions: &[u16]) -> Handle {
    follow_with(owner, settings(url, None), partitions).await
}

async fn follow_with(owner: &Owner, settings: Subscription, partitions: &[u16]) -> Handle {
    follow_measured(owner, settings, partitions, Metrics::default()).await
}

async fn follow_measured(
    owner: &Owner,
    settings: Subscription,
    partitions: &[u16],
    metrics: Metrics,
) -> Handle {
    follow_by(owner, owner.clone(), [settings], partitions, metrics).await
}

/// Follows the partitions of `owner`; the places are those that `cursors` knows.
async fn follow_by(
    owner: &Owner,
    cursors: impl Cursors,
    settings: impl IntoIterator<Item = Subscription>,
    partitions: &[u16],
    metrics: Metrics,
) -> Handle {
    let settings = settings.into_iter().collect();
    let handle = start(settings, owner.journal(), cursors, Clock::fixed(NOW), metrics);
    let handle = handle.expect("the webhooks start");
    let partitions: Vec<Partition> = partitions.iter().copied().map(Partition).collect();
    within("to follow", handle.follow(&partitions)).await.expect("the partitions are followed");
    handle
}

async fn stop(handle: Handle) {
    within("to stop", handle.stop()).await;
}

/// The metrics of one node, as they are scraped.
struct Scrape {
    metrics: Metrics,
    registry: Registry,
}

impl Scrape {
    fn new(owner: &Owner) -> Self {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry, owner.journal(), Clock::fixed(NOW));
        Self { metrics, registry }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("it is text");
        text
    }

    async fn until(&self, line: &str) {
        within(line, async {
            while !self.text().lines().any(|found| found == line) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

fn targets_by_user(heard: &[Heard]) -> BTreeMap<String, Vec<String>> {
    let mut targets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for heard in heard {
        targets.entry(heard.user()).or_default().push(heard.target());
    }
    targets
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("t{index:03}")).collect()
}

#[actix_web::test]
async fn a_block_is_told_with_the_query_the_body_and_the_id_that_are_promised() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(3).await;
    let handle = follow_with(&owner, settings(&receiver.url(), Some("xxxxyyyy")), &[2]).await;
    let offset = owner.append(2, &blocks("amy", "bob")).await;
    receiver.until_accepted(1).await;
    stop(handle).await;
    let [heard] = &receiver.heard()[..] else { panic!("{:?}", receiver.heard()) };
    assert_eq!(heard.path, "/im");
    assert_eq!(
        heard.query,
        "SdkAppid=1400000001&CallbackCommand=Sns.CallbackBlackListAdd&contenttype=json&ClientIP=127.0.0.1&OptPlatform=RESTAPI&Sign=17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061&RequestTime=1669872112"
    );
    assert_eq!(heard.id, format!("2@{offset}.Sns.CallbackBlackListAdd"));
    assert_eq!(heard.header("content-type"), "application/json");
    assert_eq!(heard.header("webhook-timestamp"), "1669872112");
    assert_eq!(
        heard.body,
        r#"{"CallbackCommand":"Sns.CallbackBlackListAdd","PairList":[{"From_Account":"amy","To_Account":"bob"}]}"#
    );
}

#[actix_web::test]
async fn each_call_names_the_one_before_it_so_that_a_gap_shows() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(1).await;
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    for target in ["bob", "carl", "dora"] {
        owner.append(0, &blocks("amy", target)).await;
    }
    receiver.until_accepted(3).await;
    stop(handle).await;
    let heard = receiver.heard();
    let all = |name: &str| heard.iter().map(|heard| heard.header(name)).collect::<Vec<_>>();
    assert_eq!(all("webhook-seq"), ["0:1", "0:2", "0:3"]);
    assert_eq!(all("webhook-prev"), ["", &heard[0].id, &heard[1].id]);
    assert_eq!(all("webhook-attempt"), ["1"; 3]);
}

#[actix_web::test]
async fn a_guarded_url_costs_lag_and_no_attempt() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(1).await;
    let scrape = Scrape::new(&owner);
    let guard = Guard::On { allowed: [].into() };
    let guarded = Subscription { guard, ..settings(&receiver.url(), None) };
    let handle = follow_measured(&owner, guarded, &[0], scrape.metrics.clone()).await;
    owner.append(0, &blocks("amy", "bob")).await;
    scrape.until(&attempts("guarded", FAILURES_IN_A_ROW_MAX)).await;
    assert_eq!(receiver.heard().len(), 0);
    // The operator opens the way.
    within("to be served", handle.serve(vec![settings(&receiver.url(), None)])).await;
    receiver.until_accepted(1).await;
    stop(handle).await;
}

fn attempts(outcome: &str, count: u32) -> String {
    format!(
        r#"cordon_webhook_attempts_total{{app="1400000001",subscription="main",outcome="{outcome}"}} {count}"#
    )
}

#[actix_web::test]
async fn who_reads_ahead_for_others_says_when_the_journal_cannot_be_read() {
    let owner = Owner::new(1).await;
    let nowhere =
        [(Partition(0), journal::Place::default()), (Partition(7), journal::Place::default())];
    let seat = Readers::new().seat().expect("nobody has one");
    let news = Arc::new(Notify::new());
    let together = Together::begin(owner.journal(), nowhere.into(), Arc::clone(&news), seat);
    let mut together = together.expect("a thread");
    within("news", news.notified()).await;
    assert!(together.give(Partition(0), |_| true).is_err());
}

#[actix_web::test]
async fn a_record_that_is_none_stops_its_partition_and_is_never_skipped() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(2).await;
    let handle = follow(&owner, &receiver.url(), &[0, 1]).await;
    owner.append(0, &blocks("amy", "before")).await;
    receiver.until_accepted(1).await;
    owner.append_rubbish(0).await;
    owner.append(1, &blocks("bob", "elsewhere")).await;
    receiver.until_accepted(2).await;
    stop(handle).await;
    let targets: Vec<String> = receiver.heard().iter().map(Heard::target).collect();
    assert_eq!(targets, ["before", "elsewhere"]);
}

#[actix_web::test]
async fn other_apps_and_silent_records_cause_no_call() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(1).await;
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    let blocked = Event::UserBlocked { target: id("bob"), remain_friends: false };
    owner.append(0, &commit_of(AppId(7), "amy", vec![blocked])).await;
    owner.append(0, &commit_of(testing::APP, "amy", vec![Event::AccountImported {}])).await;
    owner.append(0, &blocks("amy", "told")).await;
    receiver.until_accepted(1).await;
    stop(handle).await;
    assert_eq!(receiver.heard().len(), 1);
    assert_eq!(receiver.heard()[0].target(), "told");
}

#[actix_web::test]
async fn the_lag_counts_the_records_that_are_not_done_with() {
    let receiver = Receiver::start(|_| Answer::Status(500));
    let owner = Owner::new(1).await;
    let scrape = Scrape::new(&owner);
    let settings = settings(&receiver.url(), None);
    let handle = follow_measured(&owner, settings, &[0], scrape.metrics.clone()).await;
    for name in names(3) {
        owner.append(0, &blocks("amy", &name)).await;
    }
    let lag = |records: u64| {
        format!("cordon_webhook_lag_records{{app=\"1400000001\",subscription=\"main\"}} {records}")
    };
    scrape.until(&lag(3)).await;
    receiver.behave(|_| Answer::Ok);
    scrape.until(&lag(0)).await;
    scrape.until(&delivered(MAIN, 3)).await;
    stop(handle).await;
    assert!(!scrape.text().contains("lag_records{"), "a lane that was left has no lag");
}

fn delivered(subscription: &str, count: u32) -> String {
    format!(
        r#"cordon_webhook_deliveries_total{{app="1400000001",subscription="{subscription}",command="Sns.CallbackBlackListAdd",delivered="true"}} {count}"#
    )
}

#[actix_web::test]
async fn the_series_of_a_subscription_end_with_it_and_those_of_others_go_on() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(1).await;
    let scrape = Scrape::new(&owner);
    let main = settings(&receiver.url(), None);
    let second = Subscription { name: "second".to_owned(), ..main.clone() };
    let both = [main.clone(), second];
    let handle = follow_by(&owner, owner.clone(), both, &[0], scrape.metrics.clone()).await;
    let is_told_of = |name: &str| scrape.text().contains(&format!("subscription=\"{name}\""));
    owner.append(0, &blocks("amy", "bob")).await;
    scrape.until(&delivered(MAIN, 1)).await;
    scrape.until(&delivered("second", 1)).await;
    within("to serve", handle.serve(vec![main])).await;
    within("the series end", async {
        while is_told_of("second") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    owner.append(0, &blocks("amy", "carl")).await;
    scrape.until(&delivered(MAIN, 2)).await;
    stop(handle).await;
}

#[actix_web::test]
async fn without_a_subscription_there_is_nothing_to_wait_for() {
    let owner = Owner::new(1).await;
    stop(follow_by(&owner, owner.clone(), [], &[0], Metrics::default()).await).await;
}
