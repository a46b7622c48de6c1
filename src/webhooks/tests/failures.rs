//! Deliveries that fail, a receiver that is down, and one that asks for patience: who waits for whom.

use std::time::Instant;

use super::super::testing::Place;
use super::*;

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
    assert!(
        heard.iter().all(|delivery| delivery.body == heard[0].body && delivery.id == heard[0].id)
    );
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
    let began = Instant::now();
    owner.append(0, &blocks("amy", "bob")).await;
    scrape.until(&attempts("busy", 1)).await;
    owner.append(1, &blocks("carl", "dora")).await;
    receiver.until_accepted(2).await;
    // A little less than the pause, which began after that.
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    stop(handle).await;
    assert_eq!(receiver.heard().len(), 3, "nobody was called meanwhile");
}

/// Rule: what befalls one user alone keeps nobody else's events waiting, and the mark passes it.
#[actix_web::test]
async fn a_receiver_that_asks_for_patience_with_one_user_alone_fails_that_user_s_call() {
    let receiver = Receiver::start(|heard| match heard.user().as_str() {
        "amy" => Answer::Later(429, "0"),
        _ => Answer::Ok,
    });
    let owner = Owner::new(1).await;
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    let put_off = owner.append(0, &blocks("amy", "bob")).await;
    let parked = || owner.cursors(0, NAME).pop().is_some_and(|now| !now.progress.parked.is_empty());
    for name in names(100) {
        let told = receiver.accepted().len();
        let asked = receiver.heard().len();
        owner.append(0, &blocks("carl", &name)).await;
        receiver.until_accepted(told + 1).await;
        if parked() {
            break;
        }
        receiver.until("amy is tried again", |heard| heard.len() >= asked + 2 || parked()).await;
    }
    stop(handle).await;
    let cursor = owner.cursors(0, NAME).pop().expect("it was saved");
    let parked: Vec<_> = cursor.progress.parked.iter().map(|p| (p.user, p.first)).collect();
    assert_eq!(parked, [(id("amy"), put_off)]);
    assert!(cursor.place.next > put_off, "the mark has passed her: {cursor:?}");
}

/// Rule: receivers may fail for days, and the journal keeps every cursor.
#[actix_web::test]
async fn further_attempts_alone_are_no_reason_for_a_cursor_each() {
    let receiver = Receiver::start(|heard| match heard.user().as_str() {
        "amy" => Answer::Status(500),
        _ => Answer::Ok,
    });
    let owner = Owner::new(1).await;
    let handle = follow(&owner, &receiver.url(), &[0]).await;
    owner.append(0, &blocks("amy", "bob")).await;
    let tried = |heard: &[Heard]| heard.len() > 40;
    receiver.until("amy is tried on and on", tried).await;
    let saved = owner.cursors(0, NAME).len();
    assert!(saved <= 4, "{saved} cursors");
    stop(handle).await;
    let last = owner.cursors(0, NAME).pop().expect("it was saved");
    assert!(last.progress.parked[0].attempts > 20, "the last one tells all of them: {last:?}");
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
async fn however_much_a_failing_user_has_to_hear_others_are_told_and_their_own_order_stays() {
    a_failing_user_has_much_to_hear(&Owner::new(1).await).await;
}

#[actix_web::test]
async fn what_waits_is_read_again_over_a_network_too() {
    a_failing_user_has_much_to_hear(&Owner::afar(1).await).await;
}

async fn a_failing_user_has_much_to_hear(owner: &Owner) {
    let receiver =
        Receiver::start(
            |heard| if heard.user() == "amy" { Answer::Status(500) } else { Answer::Ok },
        );
    let handle = follow(owner, &receiver.url(), &[0]).await;
    let names = names(WINDOW_RECORDS_MAX + 20);
    for name in &names {
        owner.append(0, &blocks("amy", name)).await;
    }
    owner.append(0, &blocks("bob", "late")).await;
    receiver.until_accepted(1).await;
    assert_eq!(receiver.accepted()[0].target(), "late");
    // Over a restart, too: her records are found again behind the mark.
    stop(handle).await;
    let handle = follow(owner, &receiver.url(), &[0]).await;
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

/// A subscription whose receiver counts as down, with the deliveries that wait.
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
