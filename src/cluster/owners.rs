//! Who says that it owns a partition: the claims as they are posted on a board, one key a partition.
//!
//! The one with the highest epoch is believed, in whatever order they are read. What stands under the
//! key last may be another one, of an owner that did not know better; the true owner then posts its
//! own again. Rule: cluster.md 3.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::members::View;
use super::routes::Owner;
use crate::journal::{Epoch, Notice, Partition};

/// The longest notice that is read as a claim.
pub const TENURE_BYTES_MAX: usize = 4096;

/// A term of office over a partition, as the owner tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    /// The epoch that was claimed.
    pub epoch: Epoch,
    /// The owner's name.
    pub node: String,
    /// The start of it that made the claim: a later one owns nothing yet.
    pub incarnation: Uuid,
    /// Where other nodes reach it, `host:port`.
    pub address: String,
}

impl Tenure {
    /// The part that calls are sent by.
    pub fn owner(&self) -> Owner {
        Owner { epoch: self.epoch, node: self.node.clone(), address: self.address.clone() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    highest: Option<Tenure>,
    last: Option<Tenure>,
}

/// What the board says of all partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    told: Vec<Told>,
    whole: bool,
    unreadable: u64,
}

impl Owners {
    /// Nobody owns any of `partitions` yet.
    pub fn new(partitions: u16) -> Self {
        let told = vec![Told::default(); usize::from(partitions)];
        Self { told, whole: false, unreadable: 0 }
    }

    /// Takes the next notice of the board in; answers the claim, if it is one. Other
    /// notices are only counted.
    pub fn apply(&mut self, notice: &Notice) -> Option<(Partition, &Tenure)> {
        let Notice::Posted { key, value } = notice else {
            self.whole = true;
            return None;
        };
        let tenure = match value.len() {
            ..=TENURE_BYTES_MAX => serde_json::from_slice::<Tenure>(value).ok(),
            _ => None,
        };
        let partition = key.parse().ok().map(Partition);
        let slot = partition.and_then(|partition| self.told.get_mut(usize::from(partition.0)));
        let (Some(partition), Some(told), Some(tenure)) = (partition, slot, tenure) else {
            self.unreadable += 1;
            return None;
        };
        if told.highest.as_ref().is_none_or(|highest| highest.epoch < tenure.epoch) {
            told.highest = Some(tenure.clone());
        }
        Some((partition, told.last.insert(tenure)))
    }

    /// The claim with the highest epoch of all that were read.
    pub fn highest(&self, partition: Partition) -> Option<&Tenure> {
        self.told.get(usize::from(partition.0))?.highest.as_ref()
    }

    /// The claim that stands on the board: what a node that comes now would read.
    pub fn last(&self, partition: Partition) -> Option<&Tenure> {
        self.told.get(usize::from(partition.0))?.last.as_ref()
    }

    /// Whether everything that stood there at first has been read.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Notices that were no claims.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Whether the owner of `partition` lives, as the start that claimed it.
    pub fn is_held(&self, partition: Partition, view: &View) -> bool {
        let holder = self.highest(partition);
        holder.is_some_and(|holder| view.find_start(&holder.node, holder.incarnation).is_some())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged;

    fn tenure(node: &str, epoch: u64) -> Tenure {
        let address = format!("{node}:7000");
        Tenure { epoch: Epoch(epoch), node: node.into(), incarnation: Uuid::nil(), address }
    }

    fn notice(key: &str, value: &[u8]) -> Notice {
        Notice::Posted { key: key.into(), value: value.to_vec() }
    }

    fn posted(key: &str, tenure: &Tenure) -> Notice {
        notice(key, &serde_json::to_vec(tenure).expect("a claim is JSON"))
    }

    #[test]
    fn a_claim_stands_on_the_board_like_this() {
        let text = serde_json::to_string(&tenure("a", 3)).expect("a claim is JSON");
        let expected = concat!(
            r#"{"epoch":3,"node":"a","incarnation":"00000000-0000-0000-0000-000000000000","#,
            r#""address":"a:7000"}"#,
        );
        assert_eq!(text, expected);
        assert_eq!(tenure("a", 3).owner().address, "a:7000");
    }

    #[test]
    fn the_highest_epoch_is_believed_and_what_stands_there_is_known_too() {
        let mut owners = Owners::new(2);
        assert_eq!((owners.highest(Partition(1)), owners.last(Partition(1))), (None, None));
        assert_eq!(
            owners.apply(&posted("1", &tenure("a", 2))),
            Some((Partition(1), &tenure("a", 2)))
        );
        owners.apply(&posted("1", &tenure("b", 3)));
        owners.apply(&posted("1", &tenure("a", 2)));
        assert_eq!(owners.highest(Partition(1)), Some(&tenure("b", 3)));
        assert_eq!(owners.last(Partition(1)), Some(&tenure("a", 2)));
        // Of two claims of one epoch only the first can have taken effect.
        owners.apply(&posted("1", &tenure("c", 3)));
        assert_eq!(owners.highest(Partition(1)), Some(&tenure("b", 3)));
    }

    #[test]
    fn what_is_no_claim_of_a_partition_is_counted() {
        let mut owners = Owners::new(2);
        let long = vec![b' '; TENURE_BYTES_MAX + 1];
        for (key, value) in [("0", &b"{}"[..]), ("0", b""), ("0", &long)] {
            assert_eq!(owners.apply(&notice(key, value)), None);
        }
        for key in ["2", "-1", "x", ""] {
            assert_eq!(owners.apply(&posted(key, &tenure("a", 1))), None);
        }
        assert_eq!(owners.unreadable(), 7);
        assert!(!owners.is_whole());
        owners.apply(&Notice::CaughtUp);
        assert!(owners.is_whole());
    }

    proptest! {
        #[test]
        fn a_notice_that_was_damaged_is_a_claim_or_counted(
            key in prop_oneof!["[01]", ".*"],
            value in damaged(vec![serde_json::to_vec(&tenure("a", 3)).unwrap()]),
        ) {
            let mut owners = Owners::new(2);
            let read = owners.apply(&notice(&key, &value)).map(|(_, tenure)| tenure.clone());
            prop_assert_eq!(owners.unreadable(), u64::from(read.is_none()));
            if let Some(read) = read {
                let again = owners.apply(&posted(&key, &read)).map(|(_, tenure)| tenure.clone());
                prop_assert_eq!(again, Some(read));
            }
        }
    }
}
