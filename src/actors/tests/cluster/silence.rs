//! A room that says nothing to the others, and calls that need many answers.

use super::*;
use crate::actors::asking::ASKED_AT_ONCE;

/// More than a call may ask one room about at a time, by far.
const MANY: u16 = 96;
/// How long somebody waits who hears nothing. Others have answered long before, also on a busy machine.
const SHORT: Duration = Duration::from_secs(10);

fn users() -> Vec<UserId> {
    (0..400).map(|number| id(&format!("user{number}"))).collect()
}

/// So many partitions are claimed by each of the rooms, one behind the other.
async fn cluster_of(shares: &[u16]) -> (Cluster, Vec<Node>) {
    // Nobody is to lose it while another one is silent.
    let cluster = Cluster::of(shares.iter().sum(), PATIENCE);
    let nodes: Vec<Node> =
        (0..shares.len()).map(|place| cluster.node(&format!("n{place}"))).collect();
    let mut first = 0;
    for (node, share) in nodes.iter().zip(shares) {
        let own = usize::from(first)..usize::from(first + share);
        (first..first + share).for_each(|partition| node.users.claim(Partition(partition)));
        node.until("its share", |seats| seats[own.clone()].iter().all(serves)).await;
        first += share;
    }
    (cluster, nodes)
}

fn silence(cluster: &Cluster, place: usize) {
    let mut silent = cluster.network.silent.lock().unwrap_or_else(PoisonError::into_inner);
    silent.push(place.to_string());
}

/// Whose partition is `place`'s, if `shares` are claimed.
fn is_of(user: &UserId, shares: &[u16], place: usize) -> bool {
    let first: u16 = shares[..place].iter().sum();
    let home = partition_of(&UserKey { app: APP, user: *user }, shares.iter().sum()).0;
    (first..first + shares[place]).contains(&home)
}

#[actix::test]
async fn a_call_about_many_partitions_asks_one_room_about_a_few_at_a_time() {
    let (cluster, nodes) = cluster_of(&[MANY, 1]).await;
    let asked: Vec<UserId> = users();
    let imported = nodes[1].users.asker().imported(APP, &asked).await;
    assert!(imported.iter().all(|imported| *imported == Ok(false)), "{imported:?}");
    let most = cluster.network.asked_most.load(Ordering::Relaxed);
    assert!(most > 1 && most <= ASKED_AT_ONCE, "{most} at a time");
    for node in nodes {
        node.stop().await;
    }
}

#[actix::test]
async fn a_room_that_says_nothing_holds_up_nobody_elses_answers() {
    let shares = [MANY, 24, 24];
    let (cluster, nodes) = cluster_of(&shares).await;
    silence(&cluster, 0);
    let asked = users();
    let until = Instant::now() + SHORT;
    let imported = nodes[2].users.until(until).imported(APP, &asked).await;
    for (user, imported) in asked.iter().zip(imported) {
        let known = if is_of(user, &shares, 0) { Err(ExecuteError::TimedOut) } else { Ok(false) };
        assert_eq!(imported, known, "{user}");
    }
    for node in nodes {
        node.stop().await;
    }
}

#[actix::test]
async fn what_is_owed_at_the_deadline_of_whoever_asks_is_answered_as_owed() {
    let shares = [2, 2];
    let (cluster, nodes) = cluster_of(&shares).await;
    let users = users();
    let find = |place| users.iter().find(|user| is_of(user, &shares, place)).expect("one of many");
    let (amy, bob) = (find(0), find(1));
    import(&nodes[0].users, &[amy.as_str(), bob.as_str()]).await;
    silence(&cluster, 1);
    let executed = nodes[0].users.until(Instant::now() + SHORT).execute(
        UserKey { app: APP, user: *amy },
        block(bob.as_str()),
        origin(),
    );
    assert_eq!(executed.await.expect("it is recorded").outcomes, [Err(ItemError::Owed)]);
    assert!(standing(&nodes[0].users, amy.as_str(), bob.as_str()).await.blocks);
    for node in nodes {
        node.stop().await;
    }
}
