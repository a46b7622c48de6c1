//! Where a partition is begun and gone on with: first cursors, restarts, moves, and partitions that are left.

use std::sync::Mutex;

use super::*;
use crate::domain::{FailurePolicy, MAIN, Seek, SeekTo};
use crate::journal::Cursor;

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
    let on = Subscription { enabled: true, seeks: vec![seek], ..off };
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
    let crashed = Troubled { only: Some(first), ..Troubled::new(&owner, true, &[]) };
    let again = settings(&receiver.url(), None);
    let second = follow_by(&owner, crashed, [again], &[0], Metrics::default()).await;
    receiver.until_accepted(10).await;
    stop(second).await;
    stop(handle).await;
    let heard = receiver.heard();
    let ids = |heard: &[Heard]| heard.iter().map(|heard| heard.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&heard[..5]), ids(&heard[5..]), "the same ids in the same order");
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

/// An owner who has no cursor for some partitions for now, is slow to say so, and may have lost all but
/// one of those that it had.
#[derive(Clone)]
struct Troubled {
    owner: Owner,
    only: Option<Cursor>,
    answers: tokio::sync::watch::Sender<bool>,
    refused: Arc<Mutex<Vec<Partition>>>,
    /// Has no room for the first cursor of one that is called so.
    full_for: Arc<Mutex<Option<String>>>,
}

impl Troubled {
    fn new(owner: &Owner, answers: bool, refused: &[u16]) -> Self {
        let refused = refused.iter().copied().map(Partition).collect();
        Self {
            owner: owner.clone(),
            only: None,
            answers: tokio::sync::watch::Sender::new(answers),
            refused: Arc::new(Mutex::new(refused)),
            full_for: Arc::default(),
        }
    }

    /// Webhooks that follow `partitions`, and serve `subscription` from then on.
    async fn serve(&self, subscription: Subscription, partitions: &[u16]) -> Handle {
        let nobody_yet = [];
        let metrics = Metrics::default();
        let handle = follow_by(&self.owner, self.clone(), nobody_yet, partitions, metrics).await;
        within("to serve", handle.serve(vec![subscription])).await;
        handle
    }

    async fn until_begun(&self, partition: u16) {
        while self.owner.cursors(partition, NAME).is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Cursors for Troubled {
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
        let (last, end) = self.owner.load(partition, subscription).await?;
        Ok((self.only.clone().or(last), end))
    }

    async fn save(
        &self,
        partition: Partition,
        subscription: &str,
        cursor: Cursor,
    ) -> Result<(), CursorError> {
        if self.full_for.lock().expect("nobody panics").as_deref() == Some(subscription) {
            return Err(CursorError::NoRoom);
        }
        self.owner.save(partition, subscription, cursor).await
    }
}

#[actix_web::test]
async fn a_partition_that_is_left_before_its_cursor_came_is_not_followed() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(2).await;
    let slow = Troubled::new(&owner, false, &[]);
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
    let shy = Troubled::new(&owner, true, &[0]);
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
    a_backlog_is_told_in_order(&Owner::new(3).await).await;
}

#[actix_web::test]
async fn a_backlog_that_is_read_over_a_network_is_told_in_order() {
    a_backlog_is_told_in_order(&Owner::afar(3).await).await;
}

async fn a_backlog_is_told_in_order(owner: &Owner) {
    let receiver = Receiver::start(|heard| match heard.user().as_str() {
        "amy" => Answer::Status(500),
        _ => Answer::Ok,
    });
    let handle = follow(owner, &receiver.url(), &[0, 1, 2]).await;
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
    let handle = follow_with(owner, halting.clone(), &[0, 1, 2]).await;
    receiver.until_accepted(count + 1).await;
    stop(handle).await;
    receiver.behave(|_| Answer::Ok);
    let moved = Seek { name: MAIN.into(), term: 1, to: SeekTo::Offsets(vec![(0, 1)]) };
    let moved = Subscription { seeks: vec![moved], ..halting };
    let handle = follow_with(owner, moved, &[0, 1, 2]).await;
    receiver.until_accepted(2 * count + 1).await;
    stop(handle).await;
    let told = targets_by_user(&receiver.accepted());
    for user in ["amy", "bob"] {
        assert_eq!(told[user], names(count), "{user}");
    }
}

#[actix_web::test]
async fn one_for_whose_cursor_there_is_no_room_keeps_no_other_from_following() {
    let receiver = Receiver::start(|_| Answer::Ok);
    let owner = Owner::new(1).await;
    let late = Subscription { name: "late".into(), ..settings(&receiver.url(), None) };
    let full = Troubled::new(&owner, true, &[]);
    *full.full_for.lock().expect("nobody panics") = Some(late.cursor_name());
    let both = [late.clone(), settings(&receiver.url(), None)];
    let handle = follow_by(&owner, full.clone(), both, &[0], Metrics::default()).await;
    owner.append(0, &blocks("amy", "one")).await;
    receiver.until_accepted(1).await;
    assert!(owner.cursors(0, &late.cursor_name()).is_empty());
    *full.full_for.lock().expect("nobody panics") = None;
    let begun = async {
        while owner.cursors(0, &late.cursor_name()).is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within("to begin once there is room", begun).await;
    stop(handle).await;
}

#[test]
fn a_move_of_one_partition_leaves_the_lanes_of_others_alone() {
    let before = settings("http://a", None);
    let seek = Seek { name: MAIN.into(), term: 1, to: SeekTo::Offsets(vec![(1, 0)]) };
    let moved = Subscription { seeks: vec![seek.clone()], ..before.clone() };
    assert!(before.goes_on_as(&moved, Partition(0)) && !before.goes_on_as(&moved, Partition(1)));
    let all = Seek { term: 2, to: SeekTo::End, ..seek };
    let all = Subscription { seeks: vec![all], ..before };
    assert!(!moved.goes_on_as(&all, Partition(0)));
}
