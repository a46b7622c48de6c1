//! The promises of the room, through its door: a real journal, a real receiver.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use prometheus_client::registry::Registry;
use tokio::sync::Notify;

use super::feed::{Readers, Together};
use super::testing::{Answer, Heard, Owner, Place, Receiver, blocks, commit_of, id, within};
use super::*;
use crate::domain::{AppId, DeliveryTerms, Event, FailurePolicy, Format, Seek, SeekTo, Timestamp};
use crate::journal::{self, Cursor};

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

fn begin(
    owner: &Owner,
    settings: impl IntoIterator<Item = Subscription>,
    metrics: Metrics,
) -> Handle {
    let journal = owner.journal();
    let settings = settings.into_iter().collect();
    start(settings, journal, owner.clone(), Clock::fixed(NOW), metrics).expect("the webhooks start")
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
    let handle = begin(owner, [settings], metrics);
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
async fn a_failed_call_counts_its_tries_and_a_receiver_s_patience_costs_none() {
    let receiver = Receiver::start(|heard| match heard.earlier {
        0 => Answer::Status(500),
        1 => Answer::Later(429, "0"),
        _ => Answer::Ok,
    });
    let owner = Owner::new(1).await;
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    owner.append(0, &blocks("amy", "bob")).await;
    receiver.until_accepted(1).await;
    stop(handle).await;
    let heard = receiver.heard();
    let attempts: Vec<&str> = heard.iter().map(|heard| heard.header("webhook-attempt")).collect();
    assert_eq!(attempts, ["1", "2", "2"]);
    assert!(heard.iter().all(|call| call.body == heard[0].body && call.id == heard[0].id));
}

#[actix_web::test]
async fn a_receiver_that_asks_for_patience_hears_nobody_s_call_until_it_is_over() {
    let receiver = Receiver::start(|heard| match (heard.user().as_str(), heard.earlier) {
        ("amy", 0) => Answer::Later(429, "1"),
        _ => Answer::Ok,
    });
    let owner = Owner::new(2).await;
    let scrape = Scrape::new(&owner);
    let settings = settings(&receiver.url(), None);
    let handle = follow_measured(&owner, settings, &[0, 1], scrape.metrics.clone()).await;
    owner.append(0, &blocks("amy", "bob")).await;
    scrape.until(&attempts("busy", 1)).await;
    let began = Instant::now();
    owner.append(1, &blocks("carl", "dora")).await;
    receiver.until_accepted(2).await;
    // The pause began when the answer was there, a little before the metric told of it.
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    stop(handle).await;
    assert_eq!(receiver.heard().len(), 3, "nobody was called meanwhile");
}

#[actix_web::test]
async fn where_calls_are_made_once_a_receiver_that_asks_for_patience_has_refused() {
    let receiver = Receiver::start(|heard| match heard.target().as_str() {
        "bob" => Answer::Later(429, "3600"),
        _ => Answer::Ok,
    });
    let owner = Owner::new(1).await;
    let once = DeliveryTerms { call_once: true, ..DeliveryTerms::default() };
    let settings = Subscription { delivery: once, ..settings(&receiver.url(), None) };
    let handle = follow_with(&owner, settings, &[0]).await;
    owner.append(0, &blocks("amy", "bob")).await;
    owner.append(0, &blocks("amy", "carl")).await;
    receiver.until_accepted(1).await;
    stop(handle).await;
    assert_eq!(receiver.heard().len(), 2);
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
async fn a_new_subscription_hears_everything_from_its_first_follow_on_and_nothing_before() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(1).await;
    owner.append(0, &blocks("amy", "before")).await;
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    assert_eq!(owner.cursors(0, NAME).len(), 1, "the first cursor is durable before serving");
    stop(handle).await;
    owner.append(0, &blocks("amy", "between")).await;
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    owner.append(0, &blocks("amy", "after")).await;
    receiver.until_accepted(2).await;
    stop(handle).await;
    let targets: Vec<String> = receiver.heard().iter().map(Heard::target).collect();
    assert_eq!(targets, ["between", "after"]);
}

#[actix_web::test]
async fn a_user_s_events_keep_their_order_when_first_tries_fail() {
    let receiver = Receiver::start(|heard| match heard.earlier {
        0 => Answer::Status(500),
        1 => Answer::Text("not JSON"),
        _ => Answer::Ok,
    });
    let owner = Owner::new(2).await;
    let handle = follow(&owner, &receiver.url(), &[0, 1]).await;
    let names = names(10);
    for name in &names {
        owner.append(0, &blocks("amy", name)).await;
        owner.append(1, &blocks("bob", name)).await;
    }
    receiver.until_accepted(20).await;
    stop(handle).await;
    for (user, targets) in targets_by_user(&receiver.heard()) {
        // Three tries each, none of which overtakes another event's.
        let expected: Vec<&String> = names.iter().flat_map(|name| [name; 3]).collect();
        assert_eq!(Vec::from_iter(&targets), expected, "{user}");
    }
    let bodies: BTreeMap<String, Vec<Heard>> =
        receiver.heard().into_iter().fold(BTreeMap::new(), |mut all, heard| {
            all.entry(heard.id.clone()).or_insert_with(Vec::new).push(heard);
            all
        });
    for tries in bodies.values() {
        assert!(tries.iter().all(|heard| heard.body == tries[0].body), "{tries:?}");
    }
}

#[actix_web::test]
async fn a_user_whose_events_fail_holds_back_nobody_else() {
    let receiver =
        Receiver::start(
            |heard| if heard.user() == "amy" { Answer::Status(500) } else { Answer::Ok },
        );
    let owner = Owner::new(1).await;
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    owner.append(0, &blocks("amy", "one")).await;
    owner.append(0, &blocks("amy", "two")).await;
    let names = names(40);
    for name in &names {
        owner.append(0, &blocks("bob", name)).await;
    }
    receiver.until_accepted(40).await;
    // The receiver counts as down when amy alone was heard for a while; others still get through.
    receiver
        .until("amy is tried on and on", |heard| {
            heard.iter().filter(|heard| heard.user() == "amy").count() > 40
        })
        .await;
    owner.append(0, &blocks("carl", "one")).await;
    receiver.until_accepted(41).await;
    assert!(receiver.heard().iter().all(|heard| heard.target() != "two"), "amy's second waits");
    receiver.behave(|_| Answer::Ok);
    receiver.until_accepted(43).await;
    stop(handle).await;
    let accepted = targets_by_user(&receiver.accepted());
    assert_eq!(accepted["amy"], ["one", "two"]);
    assert_eq!(accepted["bob"], names);
}

#[actix_web::test]
async fn an_outage_of_the_receiver_costs_lag_and_no_events() {
    let place = Place::reserve();
    let owner = Owner::new(2).await;
    let handle = follow(&owner, &place.url(), &[0, 1]).await;
    let names = names(10);
    for name in &names {
        for user in ["amy", "bob", "carl"] {
            owner.append(0, &blocks(user, name)).await;
        }
        owner.append(1, &blocks("dora", name)).await;
    }
    let receiver = place.open(|_| Answer::Ok);
    receiver.until_accepted(40).await;
    stop(handle).await;
    let heard = targets_by_user(&receiver.heard());
    assert_eq!(heard.len(), 4);
    for (user, targets) in heard {
        assert_eq!(targets, names, "{user}");
    }
}

#[actix_web::test]
async fn when_the_receiver_is_back_nobody_waits_for_the_end_of_a_backoff() {
    let receiver = Receiver::start(|_| Answer::Status(503));
    let owner = Owner::new(1).await;
    let mut settings = settings(&receiver.url(), None);
    settings.delivery.retry_min_ms = 600_000;
    settings.delivery.retry_max_ms = 600_000;
    let scrape = Scrape::new(&owner);
    let handle = follow_measured(&owner, settings, &[0], scrape.metrics.clone()).await;
    let users = names(2 * FAILURES_IN_A_ROW_MAX as usize);
    for user in &users {
        owner.append(0, &blocks(user, "one")).await;
    }
    assert_eq!(users.len(), 32);
    scrape.until("cordon_webhook_down{app=\"1400000001\",subscription=\"main\"} 1").await;
    receiver.behave(|_| Answer::Ok);
    owner.append(0, &blocks("amy", "probe")).await;
    receiver.until_accepted(users.len() + 1).await;
    stop(handle).await;
}

/// A subscription whose receiver counts as down, with the calls that wait.
async fn down(
    owner: &Owner,
    receiver: &Receiver,
    settings: Subscription,
    scrape: &Scrape,
) -> (Handle, usize) {
    let handle = follow_measured(owner, settings, &[0], scrape.metrics.clone()).await;
    let users = names(2 * FAILURES_IN_A_ROW_MAX as usize);
    for user in &users {
        owner.append(0, &blocks(user, "one")).await;
    }
    scrape.until("cordon_webhook_down{app=\"1400000001\",subscription=\"main\"} 1").await;
    assert!(receiver.accepted().is_empty());
    (handle, users.len())
}

#[actix_web::test]
async fn calls_that_are_to_be_made_once_do_not_wait_for_a_receiver_that_is_down() {
    let receiver = Receiver::start(|_| Answer::Status(503));
    let owner = Owner::new(1).await;
    let scrape = Scrape::new(&owner);
    let settings = settings(&receiver.url(), None);
    let (handle, _) = down(&owner, &receiver, settings.clone(), &scrape).await;
    let mut once = settings;
    once.delivery.call_once = true;
    within("to serve", handle.serve(vec![once])).await;
    // Each is tried once more at most, and done with.
    scrape.until("cordon_webhook_lag_records{app=\"1400000001\",subscription=\"main\"} 0").await;
    receiver.behave(|_| Answer::Ok);
    owner.append(0, &blocks("amy", "after")).await;
    receiver.until_accepted(1).await;
    stop(handle).await;
}

#[actix_web::test]
async fn a_new_address_does_not_pay_for_what_the_old_one_did() {
    let failing = Receiver::start(|_| Answer::Status(503));
    let owner = Owner::new(1).await;
    let mut patient = settings(&failing.url(), None);
    (patient.delivery.retry_min_ms, patient.delivery.retry_max_ms) = (600_000, 600_000);
    let (handle, users) = down(&owner, &failing, patient, &Scrape::new(&owner)).await;
    let other = Receiver::start(|_| Answer::Ok);
    let moved = settings(&other.url(), None);
    within("to serve", handle.serve(vec![moved.clone()])).await;
    other.until_accepted(users).await;

    other.behave(|_| Answer::Later(429, "3600"));
    owner.append(0, &blocks("amy", "later")).await;
    within("a call that is put off", async {
        while other.heard().len() == users {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let third = Receiver::start(|_| Answer::Ok);
    within("to serve", handle.serve(vec![settings(&third.url(), None)])).await;
    third.until_accepted(1).await;
    stop(handle).await;
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
async fn who_was_ready_before_a_move_does_not_keep_the_line_from_reading_after_it() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(1).await;
    let mut off = settings(&receiver.url(), None);
    off.enabled = false;
    off.delivery.in_flight_max = 1;
    let scrape = Scrape::new(&owner);
    let handle = follow_measured(&owner, off.clone(), &[0], scrape.metrics.clone()).await;
    for user in names(5) {
        owner.append(0, &blocks(&user, "one")).await;
    }
    let lag = "cordon_webhook_lag_records{app=\"1400000001\",subscription=\"main\"} 5";
    scrape.until(lag).await;
    let seek = Seek { name: MAIN.into(), term: 1, to: SeekTo::Offsets(vec![(0, 1)]) };
    let on = Subscription { enabled: true, seek: Some(seek), ..off };
    within("to serve", handle.serve(vec![on])).await;
    receiver.until_accepted(5).await;
    stop(handle).await;
}

#[actix_web::test]
async fn what_was_answered_before_a_restart_is_not_repeated_and_what_was_not_is() {
    let receiver =
        Receiver::start(
            |heard| if heard.target() == "bad" { Answer::Status(503) } else { Answer::Ok },
        );
    let owner = Owner::new(1).await;
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    owner.append(0, &blocks("amy", "good")).await;
    let bad = owner.append(0, &blocks("amy", "bad")).await;
    owner.append(0, &blocks("amy", "held-back")).await;
    receiver.until_accepted(1).await;
    receiver.until("the bad one is tried", |heard| heard.iter().any(|h| h.target() == "bad")).await;
    stop(handle).await;
    let cursor = owner.cursors(0, NAME).pop().expect("it was saved");
    let parked: Vec<_> = cursor.progress.parked.iter().map(|p| (p.user, p.first)).collect();
    assert_eq!(parked, [(id("amy"), bad)]);
    assert!(cursor.place.next > bad, "the mark has passed her: {cursor:?}");

    receiver.behave(|_| Answer::Ok);
    let tried = receiver.heard();
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    receiver.until_accepted(3).await;
    stop(handle).await;
    let targets: Vec<String> = receiver.accepted().iter().map(Heard::target).collect();
    assert_eq!(targets, ["good", "bad", "held-back"]);
    let again = &receiver.heard()[tried.len()];
    let before = tried.iter().find(|heard| heard.target() == "bad").expect("it was tried");
    assert_eq!((&again.id, &again.body), (&before.id, &before.body));
}

#[actix_web::test]
async fn a_crash_repeats_what_lies_behind_the_last_cursor_and_loses_nothing() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(1).await;
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    for name in names(5) {
        owner.append(0, &blocks("amy", &name)).await;
    }
    receiver.until_accepted(5).await;
    // Another process begins while this one has not said how far it came.
    let first = owner.cursors(0, NAME).swap_remove(0);
    let crashed = Crashed { owner: owner.clone(), first };
    let second = start(
        vec![settings(&receiver.url(), None)],
        owner.journal(),
        crashed,
        Clock::fixed(NOW),
        Metrics::default(),
    )
    .expect("the webhooks start");
    within("to follow", second.follow(&[Partition(0)])).await.expect("it is followed");
    receiver.until_accepted(10).await;
    stop(second).await;
    stop(handle).await;
    let heard = receiver.heard();
    let ids = |heard: &[Heard]| heard.iter().map(|heard| heard.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&heard[..5]), ids(&heard[5..]), "the same ids in the same order");
}

/// An owner whose cursors were lost but for the first.
#[derive(Clone)]
struct Crashed {
    owner: Owner,
    first: Cursor,
}

impl Cursors for Crashed {
    async fn load(
        &self,
        partition: Partition,
        subscription: &str,
    ) -> Result<(Option<Cursor>, journal::Place), CursorError> {
        let (_, end) = self.owner.load(partition, subscription).await?;
        Ok((Some(self.first.clone()), end))
    }

    async fn save(
        &self,
        partition: Partition,
        subscription: &str,
        cursor: Cursor,
    ) -> Result<(), CursorError> {
        self.owner.save(partition, subscription, cursor).await
    }
}

#[actix_web::test]
async fn however_much_a_failing_user_has_to_hear_others_are_told_and_their_own_order_stays() {
    let receiver =
        Receiver::start(
            |heard| if heard.user() == "amy" { Answer::Status(500) } else { Answer::Ok },
        );
    let owner = Owner::new(1).await;
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    let names = names(WINDOW_RECORDS_MAX + 20);
    for name in &names {
        owner.append(0, &blocks("amy", name)).await;
    }
    owner.append(0, &blocks("bob", "late")).await;
    receiver.until_accepted(1).await;
    assert_eq!(receiver.accepted()[0].target(), "late");
    // Over a restart, too: her records are found again behind the mark.
    stop(handle).await;
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    receiver.behave(|_| Answer::Ok);
    receiver.until_accepted(names.len() + 1).await;
    stop(handle).await;
    let accepted = targets_by_user(&receiver.accepted());
    assert_eq!(accepted["amy"], names);
    assert_eq!(accepted["bob"], ["late"]);
}

#[actix_web::test]
async fn call_once_goes_on_after_one_try_whatever_comes_of_it() {
    let receiver = Receiver::start(|_| Answer::Status(500));
    let owner = Owner::new(1).await;
    let mut settings = settings(&receiver.url(), None);
    settings.delivery.call_once = true;
    let handle = follow_with(&owner, settings, &[0]).await;
    let names = names(5);
    for name in &names {
        owner.append(0, &blocks("amy", name)).await;
    }
    receiver.until("five tries", |heard| heard.len() >= 5).await;
    stop(handle).await;
    let targets: Vec<String> = receiver.heard().iter().map(Heard::target).collect();
    assert_eq!(targets, names);
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
async fn a_partition_that_is_left_is_left_with_its_cursor() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(2).await;
    let handle = follow(&owner, &receiver.url(), &[0, 1]).await;
    let offset = owner.append(0, &blocks("amy", "one")).await;
    receiver.until_accepted(1).await;
    within("to leave", handle.leave(&[Partition(0)])).await;
    let cursor = owner.cursors(0, NAME).pop().expect("it was saved");
    assert!(cursor.place.next > offset, "{cursor:?}");
    owner.append(0, &blocks("amy", "two")).await;
    owner.append(1, &blocks("bob", "three")).await;
    receiver.until_accepted(2).await;
    assert_eq!(receiver.heard()[1].target(), "three", "a partition that was left is not read");
    within("to follow", handle.follow(&[Partition(0)])).await.expect("it is followed again");
    receiver.until_accepted(3).await;
    assert_eq!(receiver.heard()[2].target(), "two");
    stop(handle).await;
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
    stop(handle).await;
    let deliveries = "cordon_webhook_deliveries_total{app=\"1400000001\",subscription=\"main\",command=\"Sns.CallbackBlackListAdd\",delivered=\"true\"} 3";
    scrape.until(deliveries).await;
    assert!(!scrape.text().contains("lag_records{"), "a lane that was left has no lag");
}

#[actix_web::test]
async fn without_a_subscription_there_is_nothing_to_wait_for() {
    let owner = Owner::new(1).await;
    let handle = begin(&owner, [], Metrics::default());
    within("to follow", handle.follow(&[Partition(0)])).await.expect("nobody objects");
    stop(handle).await;
}

/// An owner who has no cursor for some partitions for now, and is slow to say so.
#[derive(Clone)]
struct Reluctant {
    owner: Owner,
    answers: tokio::sync::watch::Sender<bool>,
    refused: Arc<Mutex<Vec<Partition>>>,
}

impl Reluctant {
    fn new(owner: &Owner, answers: bool, refused: &[u16]) -> Self {
        let refused = refused.iter().copied().map(Partition).collect();
        Self {
            owner: owner.clone(),
            answers: tokio::sync::watch::Sender::new(answers),
            refused: Arc::new(Mutex::new(refused)),
        }
    }

    /// Webhooks that follow `partitions`, and serve `subscription` from then on.
    async fn serve(&self, subscription: Subscription, partitions: &[u16]) -> Handle {
        let (journal, clock) = (self.owner.journal(), Clock::fixed(NOW));
        let handle = start(Vec::new(), journal, self.clone(), clock, Metrics::default());
        let handle = handle.expect("the webhooks start");
        let partitions: Vec<Partition> = partitions.iter().copied().map(Partition).collect();
        within("to follow", handle.follow(&partitions)).await.expect("nobody is served yet");
        within("to serve", handle.serve(vec![subscription])).await;
        handle
    }

    async fn until_begun(&self, partition: u16) {
        while self.owner.cursors(partition, NAME).is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Cursors for Reluctant {
    async fn load(
        &self,
        partition: Partition,
        subscription: &str,
    ) -> Result<(Option<Cursor>, journal::Place), CursorError> {
        let mut answers = self.answers.subscribe();
        answers.wait_for(|answers| *answers).await.expect("it is here");
        let refused = self.refused.lock().expect("nobody panics").contains(&partition);
        if refused {
            return Err(CursorError::Unavailable("not now".to_owned()));
        }
        self.owner.load(partition, subscription).await
    }

    async fn save(
        &self,
        partition: Partition,
        subscription: &str,
        cursor: Cursor,
    ) -> Result<(), CursorError> {
        self.owner.save(partition, subscription, cursor).await
    }
}

#[actix_web::test]
async fn a_partition_that_is_left_before_its_cursor_came_is_not_followed() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(2).await;
    let slow = Reluctant::new(&owner, false, &[]);
    let handle = slow.serve(settings(&receiver.url(), None), &[0, 1]).await;
    within("to leave", handle.leave(&[Partition(0)])).await;
    slow.answers.send_replace(true);
    within("a beginning", slow.until_begun(1)).await;
    owner.append(0, &blocks("amy", "left")).await;
    owner.append(1, &blocks("bob", "one")).await;
    receiver.until_accepted(1).await;
    owner.append(1, &blocks("bob", "two")).await;
    receiver.until_accepted(2).await;
    stop(handle).await;
    let targets: Vec<String> = receiver.heard().iter().map(Heard::target).collect();
    assert_eq!(targets, ["one", "two"]);
}

#[actix_web::test]
async fn a_partition_whose_cursor_is_not_to_be_had_holds_up_no_other_and_is_asked_about_again() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(2).await;
    let shy = Reluctant::new(&owner, true, &[0]);
    let handle = shy.serve(settings(&receiver.url(), None), &[0, 1]).await;
    within("a beginning", shy.until_begun(1)).await;
    owner.append(1, &blocks("bob", "one")).await;
    receiver.until_accepted(1).await;
    shy.refused.lock().expect("nobody panics").clear();
    within("another beginning", shy.until_begun(0)).await;
    owner.append(0, &blocks("amy", "two")).await;
    receiver.until_accepted(2).await;
    stop(handle).await;
}

#[actix_web::test]
async fn a_backlog_of_several_partitions_is_told_in_order_though_one_of_them_falls_behind() {
    let receiver = Receiver::start(|heard| match heard.user().as_str() {
        "amy" => Answer::Status(500),
        _ => Answer::Ok,
    });
    let owner = Owner::new(3).await;
    let handle = follow(&owner, &receiver.url(), &[0, 1, 2]).await;
    stop(handle).await;
    // More than a window, and than what is read ahead for somebody who takes nothing.
    let count = WINDOW_RECORDS_MAX + 1_300;
    for name in names(count) {
        owner.append(0, &blocks("amy", &name)).await;
        owner.append(1, &blocks("bob", &name)).await;
    }
    owner.append(2, &blocks("carl", "one")).await;
    let terms = DeliveryTerms {
        // Amy's failures are not the receiver's, and she holds up the reading of her partition.
        policy: FailurePolicy::Halt,
        attempts_max: 1,
        ..settings(&receiver.url(), None).delivery
    };
    let halting = Subscription { delivery: terms, ..settings(&receiver.url(), None) };
    let handle = follow_with(&owner, halting.clone(), &[0, 1, 2]).await;
    receiver.until_accepted(count + 1).await;
    stop(handle).await;
    receiver.behave(|_| Answer::Ok);
    let moved = Seek { name: MAIN.into(), term: 1, to: SeekTo::Offsets(vec![(0, 1)]) };
    let moved = Subscription { seek: Some(moved), ..halting };
    let handle = follow_with(&owner, moved, &[0, 1, 2]).await;
    receiver.until_accepted(2 * count + 1).await;
    stop(handle).await;
    let told = targets_by_user(&receiver.accepted());
    for user in ["amy", "bob"] {
        assert_eq!(told[user], names(count), "{user}");
    }
}
