//! A standby that reads a large snapshot, and those who wait for it meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::journal::archive::KeyValue;

/// Whose snapshot has no end.
const LARGE: Partition = Partition(0);

#[derive(Default)]
struct Endless {
    begun: AtomicUsize,
    /// Somebody has read it until their patience was over.
    was_waited_for: AtomicBool,
}

impl Archive for Endless {
    fn publish(
        &self,
        _: Partition,
        _: &mut dyn Iterator<Item = KeyValue>,
    ) -> Result<(), JournalError> {
        Ok(())
    }

    fn read(
        &self,
        partition: Partition,
        is_over: &dyn Fn() -> bool,
        _: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), JournalError> {
        if partition == LARGE {
            self.begun.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            while !is_over() {
                if began.elapsed() >= PATIENCE {
                    self.was_waited_for.store(true, Ordering::Relaxed);
                    break;
                }
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}

impl Endless {
    async fn until_begun(&self, times: usize) {
        let begun = async {
            while self.begun.load(Ordering::Relaxed) < times {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, begun).await.expect("it is read");
    }
}

#[actix::test]
async fn a_claim_waits_for_no_snapshot_of_another_partition() {
    let cluster = Cluster::new();
    let archive = Arc::new(Endless::default());
    let (one, two) = (cluster.node("one"), cluster.node_with("two", Some(archive.clone())));
    one.claim_all().await;
    two.users.stand_by(partitions().collect());
    archive.until_begun(1).await;
    two.users.claim(Partition(1));
    two.until("another one is claimed", |seats| serves(&seats[1])).await;
    archive.until_begun(2).await;
    // Who serves it and is in doubt waits for nothing either.
    two.journal.lose_next(Partition(1));
    let name = (0..).map(|index| format!("user{index}"));
    let name = name.into_iter().find(|name| partition_of(&key(name), PARTITIONS) == Partition(1));
    import(&two.users, &[&name.expect("there is one")]).await;
    assert_eq!(archive.begun.load(Ordering::Relaxed), 2);
    two.stop().await;
    assert!(!archive.was_waited_for.load(Ordering::Relaxed));
    one.stop().await;
}

#[actix::test]
async fn a_stop_waits_for_no_snapshot() {
    // One that a standby reads, and one that a claim reads.
    for claims in [false, true] {
        let cluster = Cluster::new();
        let archive = Arc::new(Endless::default());
        let (one, two) = (cluster.node("one"), cluster.node_with("two", Some(archive.clone())));
        one.claim_all().await;
        if claims {
            two.users.claim(LARGE);
        } else {
            two.users.stand_by([LARGE].into());
        }
        archive.until_begun(1).await;
        two.stop().await;
        assert!(!archive.was_waited_for.load(Ordering::Relaxed), "claims: {claims}");
        one.stop().await;
    }
}
