//! What the subscriber has heard, held against what the callers know.

use std::collections::{BTreeMap, BTreeSet};

use super::{BLOCK_ADD, BLOCK_DELETE, FRIEND_ADD, FRIEND_DELETE, Mind};
use crate::support::{Heard, TestSubscriber, soon};

/// What the subscriber has heard, each delivery once, in the order in which it was heard first.
#[derive(Default)]
pub(super) struct Ears {
    known: BTreeSet<String>,
    /// What was heard of each user.
    news: BTreeMap<String, Vec<(&'static str, String)>>,
    /// How often each was blocked by each.
    blocks: BTreeMap<(String, String), usize>,
    /// Where in the journal the last news of each user stands.
    places: BTreeMap<String, u64>,
}

impl Ears {
    /// Takes calls into account. What a user did is heard in the order of the journal, however often
    /// the node is killed.
    pub(super) fn listen(&mut self, heard: Vec<Heard>) {
        for heard in heard.into_iter().filter(|heard| heard.accepted) {
            if !self.known.insert(heard.id().to_owned()) {
                continue;
            }
            let (_, rest) = heard.id().split_once('@').expect("an id has a place");
            let place = rest.split('.').next().and_then(|text| text.parse().ok());
            let place: u64 = place.expect("a place has an offset");
            let user = whose(&heard);
            let before = self.places.insert(user.clone(), place);
            assert!(before.is_none_or(|before| before <= place), "{user}: {before:?}, {place}");

            let commands = [FRIEND_ADD, FRIEND_DELETE, BLOCK_ADD, BLOCK_DELETE];
            let command = commands.into_iter().find(|command| *command == heard.command());
            let command = command.expect("a command that is known");
            let pairs = heard.pairs();
            self.news.entry(user).or_default().push((command, pairs[0].1.clone()));
            if command == BLOCK_ADD {
                for pair in pairs {
                    *self.blocks.entry(pair).or_default() += 1;
                }
            }
        }
    }

    /// What the callers know of and was not heard, or not as they know it.
    pub(super) fn missing(&self, minds: &[Mind]) -> Vec<String> {
        let mut missing = Vec::new();
        for mind in minds {
            for (name, news) in mind.own.names.iter().zip(&mind.own.news) {
                let told = |(command, target): &(&'static str, usize)| {
                    (*command, mind.own.names[*target].clone())
                };
                let expected: Vec<_> = news.iter().map(told).collect();
                let heard = self.news.get(name).map_or(&[][..], Vec::as_slice);
                if heard != expected {
                    let same = heard.iter().zip(&expected).take_while(|(a, b)| a == b).count();
                    missing.push(format!(
                        "{name}, number {same} of {}: {:?} instead of {:?}",
                        expected.len(),
                        heard.get(same),
                        expected.get(same)
                    ));
                }
            }
            for (pair, count) in &mind.shared.blocked {
                let heard = self.blocks.get(pair).copied().unwrap_or_default();
                if heard < *count {
                    missing.push(format!("{pair:?}: {heard} of {count} blocks"));
                }
            }
        }
        missing
    }

    /// Waits until the subscriber has heard all that the callers know of.
    pub(super) fn catch_up(&mut self, subscriber: &TestSubscriber, minds: &[Mind]) {
        let mut missing = Vec::new();
        let caught_up = soon(|| {
            self.listen(subscriber.take());
            missing = self.missing(minds);
            missing.is_empty()
        });
        assert!(caught_up, "{missing:?}");
    }
}

/// Whose record a call tells of. The one who asked for a friendship may have had their half of it
/// already; otherwise the record's owner comes first.
fn whose(heard: &Heard) -> String {
    match heard.body["PairList"][0]["Initiator_Account"].as_str() {
        Some(initiator) => initiator.to_owned(),
        None => heard.pairs()[0].0.clone(),
    }
}
