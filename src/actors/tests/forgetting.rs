//! A deleted account that many users have to let go of.

use super::leaving::{HOME, Office, turns};
use super::*;

/// Users who name the account.
const USERS: usize = 12;
const IN_FLIGHT_MAX: usize = 8;

fn events(office: &Office, name: &str) -> usize {
    let records = office.shared.records(HOME);
    records.iter().filter(|bytes| String::from_utf8_lossy(bytes).contains(name)).count()
}

#[actix::test]
async fn the_records_of_a_deletion_leave_room_for_commands() {
    // Those whose records are in no checkpoint are told first, all others are found by a scan.
    for saved in [false, true] {
        let settings = Settings { in_flight_max: IN_FLIGHT_MAX, ..Settings::default() };
        let office = Office::open(settings);
        let ledger = &office.keeping.ledger;
        office.serve().await;
        for index in 0..USERS {
            let name = format!("user{index}");
            office.import(&name).await.expect("an answer").expect("it is done");
            office.ask(&name, block("bob")).await.expect("an answer").expect("it is done");
        }
        if saved {
            office.write_checkpoint();
            turns().await;
            office.hand.work();
            turns().await;
        }

        office.journal.cut();
        office.forget(&["bob"], USERS as u64);
        for _ in 0..USERS {
            turns().await;
            office.hand.work();
        }
        let in_flight = ledger.sent() - ledger.position().n;
        assert_eq!(in_flight, IN_FLIGHT_MAX as u64 / 2, "saved: {saved}");
        assert_eq!(ledger.admit(), Ok(()), "saved: {saved}");

        let watermarks = events(&office, "watermark");
        office.journal.heal();
        let forgotten = || events(&office, "PeerForgotten") == USERS;
        office.works_until("all have forgotten", forgotten).await;
        let is_said = || events(&office, "watermark") > watermarks && ledger.is_settled();
        office.works_until("that is recorded", is_said).await;
    }
}

/// One look for each of a hundred accounts that a call deletes held up everybody else for minutes.
#[actix::test]
async fn accounts_that_are_deleted_together_share_a_look_at_the_store() {
    let office = Office::open(Settings::default());
    office.serve().await;
    let deleted: Vec<String> = (0..USERS).map(|index| format!("gone{index}")).collect();
    let deleted: Vec<&str> = deleted.iter().map(String::as_str).collect();
    office.import("amy").await.expect("an answer").expect("it is done");
    for name in &deleted {
        office.ask("amy", block(name)).await.expect("an answer").expect("it is done");
    }
    office.write_checkpoint();
    turns().await;
    office.hand.work();
    turns().await;

    office.forget(&deleted, USERS as u64);
    let mut looks = 0;
    let forgotten = || events(&office, "PeerForgotten") == USERS;
    while !forgotten() {
        turns().await;
        looks += office.hand.work();
        assert!(looks <= 1, "one look finds all");
    }
}
