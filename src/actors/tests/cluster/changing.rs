//! What an owner that leaves, or hangs, keeps from nobody.

use super::*;
use crate::actors::ownership::{HAND_OVER_PATIENCE, RETRY};

#[actix::test]
async fn a_hand_over_waits_for_what_is_owed_only_until_it_is_acknowledged() {
    // Between rooms, and between partitions of one.
    for apart in [true, false] {
        let cluster = Cluster::new();
        let (one, two) = (cluster.node("one"), cluster.node("two"));
        let [amy, bob] = ["amy", "bob"].map(|name| partition_of(&key(name), PARTITIONS));
        assert_ne!(amy, bob);
        let other = if apart { &two } else { &one };
        one.users.claim(amy);
        other.users.claim(bob);
        one.until("amy's is served", |seats| serves(&seats[usize::from(amy.0)])).await;
        other.until("bob's is served", |seats| serves(&seats[usize::from(bob.0)])).await;
        import(&one.users, &["amy", "bob"]).await;
        assert_eq!(run(&one.users, "amy", add("bob")).await, [Ok(())]);

        other.journal.hold(bob);
        let question = Question::Execute {
            key: key("amy"),
            command: Arc::new(block("bob")),
            origin: Arc::new(origin()),
            call: None,
        };
        let users = one.users.clone();
        let asked = actix::spawn(async move { users.answer(amy, question, PATIENCE).await });
        cluster.until_recorded(amy, "UserBlocked").await;
        let users = one.users.clone();
        let leaving = actix::spawn(async move { users.release(amy).await });
        one.until("it is handed over", |seats| seats[usize::from(amy.0)] == Seat::Leaving).await;
        let began = Instant::now();
        other.journal.heal();
        leaving.await.expect("it is handed over");
        assert!(began.elapsed() < HAND_OVER_PATIENCE, "{apart}: nobody listened");
        let answer = asked.await.expect("it is answered");
        let Ok(Reply::Executed(executed)) = answer else { panic!("{apart}: {answer:?}") };
        assert_eq!(executed.outcomes, [Ok(())]);
        one.stop().await;
        two.stop().await;
    }
}

#[actix::test]
async fn a_call_to_an_owner_that_hangs_is_answered_by_the_room_itself_once_it_has_taken_over() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node("one"), cluster.node("two"));
    two.claim_all().await;
    import(&two.users, &["amy", "bob"]).await;
    two.journal.cut();
    let users = one.users.clone();
    let asked = actix::spawn(async move { run(&users, "amy", block("bob")).await });
    tokio::task::yield_now().await;
    one.claim_all().await;
    assert_eq!(asked.await.expect("it is answered"), [Ok(())]);
    two.journal.heal();
    one.stop().await;
    two.stop().await;
}

#[actix::test]
async fn whoever_is_in_doubt_again_and_again_claims_no_more_often_than_once_in_a_while() {
    const DOUBTS: u32 = 4;
    let cluster = Cluster::new();
    let one = cluster.node("one");
    let amy = partition_of(&key("amy"), PARTITIONS);
    one.claim_all().await;
    import(&one.users, &["amy"]).await;
    let began = Instant::now();
    for index in 0..DOUBTS {
        one.journal.lose_next(amy);
        let peer = format!("peer{index}");
        assert_eq!(run(&one.users, "amy", block(&peer)).await, [Ok(())]);
    }
    assert!(began.elapsed() >= RETRY * (DOUBTS - 1), "{:?}", began.elapsed());
    one.stop().await;
}

#[actix::test]
async fn an_owner_without_a_lease_claims_again_although_nothing_is_in_flight() {
    let cluster = Cluster::new();
    let one = cluster.node("one");
    one.claim_all().await;
    one.journal.cut();
    let began = Instant::now();
    let mut ahead = Duration::ZERO;
    while one.users.seats().iter().any(serves) {
        assert!(began.elapsed() < PATIENCE, "it stays: {:?}", one.users.seats());
        ahead += Duration::from_secs(1);
        one.users.seats.set_ahead(ahead);
        tokio::time::sleep(READY_POLL).await;
    }
    assert!(one.users.seats().iter().all(|seat| *seat == Seat::Claiming));
    one.users.seats.set_ahead(Duration::ZERO);
    one.journal.heal();
    one.until("all is served again", |seats| seats.iter().all(serves)).await;
    one.stop().await;
}

/// Rule: cluster.md 7, row 21.
#[actix::test]
async fn an_owner_that_is_told_of_missing_records_halts_although_nothing_is_in_flight() {
    let cluster = Cluster::new();
    let one = cluster.node("one");
    one.claim_all().await;
    // Nothing else shows it.
    let seats = &one.users.seats;
    seats.extend_lease(Partition(0), Instant::now() + 10 * PATIENCE, LEASE);
    one.journal.shorten(Partition(0));
    one.until("it is found out", |seats| seats[0] == Seat::Claiming).await;
    let halted = async {
        while one.metrics.halted.get() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, halted).await.expect("it halts");
    assert!(one.users.seats()[1..].iter().all(serves));
    one.journal.heal();
    one.until("all is served again", |seats| seats.iter().all(serves)).await;
    assert_eq!(one.metrics.halted.get(), 0);
    one.stop().await;
}
