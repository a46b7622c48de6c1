//! Whether a subscriber heard of everything. Rule: design.md 2, promise 5; webhooks.md 14.

use std::collections::{BTreeMap, HashMap};

use cordon::domain::{AppId, UserId};
use cordon::journal::{Offset, Partition};
use cordon::webhooks::{Switches, payload};

use super::{Log, Report, Violation, Violations};
use crate::support::Heard;

/// One try to tell the subscriber something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Callback {
    /// `webhook-id`.
    pub(crate) id: String,
    pub(crate) body: Vec<u8>,
    /// The subscriber took it.
    pub(crate) accepted: bool,
}

impl From<&Heard> for Callback {
    fn from(heard: &Heard) -> Self {
        let (id, body) = (heard.id().to_owned(), heard.message.body.clone());
        Self { id, body, accepted: heard.accepted }
    }
}

/// Who is told, and what.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    pub(crate) app: AppId,
    pub(crate) switches: Switches,
    /// Where it began to follow each partition; 0 for those that are not named.
    pub(crate) since: BTreeMap<Partition, Offset>,
}

impl Subscriber {
    /// Of everything about `app`, from the beginning.
    pub(crate) fn of_all(app: AppId) -> Self {
        Self { app, switches: Switches::ALL, since: BTreeMap::new() }
    }
}

/// Holds what the subscriber got, in the order of arrival, against the journal. Errors: what it never
/// took, what has no record, a body that is not its record's, first arrivals about one user out of
/// order.
pub(crate) fn check_callbacks(
    callbacks: &[Callback],
    subscriber: &Subscriber,
    log: &Log,
) -> Result<Report, Violations> {
    let mut violations = Vec::new();
    let owed = owed(subscriber, log);
    let places: HashMap<&str, usize> =
        owed.iter().enumerate().map(|(place, owed)| (owed.id.as_str(), place)).collect();
    let mut accepted = vec![false; owed.len()];
    let mut arrived = vec![false; owed.len()];
    let mut last: HashMap<UserId, usize> = HashMap::new();
    for callback in callbacks {
        let Some(&place) = places.get(callback.id.as_str()) else {
            violations.push(Violation::CallbackUnfounded { id: callback.id.clone() });
            continue;
        };
        let Owed { id, user, body } = &owed[place];
        if callback.body != *body {
            let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
            let (body, expected) = (text(&callback.body), text(body));
            violations.push(Violation::CallbackChanged { id: id.clone(), body, expected });
        }
        accepted[place] |= callback.accepted;
        if !std::mem::replace(&mut arrived[place], true)
            && let Some(before) = last.insert(*user, place)
            && before > place
        {
            let before = owed[before].id.clone();
            violations.push(Violation::CallbackOutOfOrder { user: *user, before, id: id.clone() });
        }
    }
    for (Owed { id, user, .. }, _) in owed.iter().zip(&accepted).filter(|(_, accepted)| !**accepted)
    {
        violations.push(Violation::CallbackMissing { id: id.clone(), user: *user });
    }
    Violations::or(Report { callbacks: owed.len(), ..Report::default() }, violations)
}

/// A call that the subscriber is owed.
struct Owed {
    id: String,
    user: UserId,
    body: Vec<u8>,
}

/// In the order of the journal.
fn owed(subscriber: &Subscriber, log: &Log) -> Vec<Owed> {
    let commits = log.commits().filter(|((partition, offset), commit)| {
        let since = subscriber.since.get(partition).copied().unwrap_or_default();
        commit.key.app == subscriber.app && *offset >= since
    });
    let owed = commits.flat_map(|((partition, offset), commit)| {
        let deliveries = payload::payloads(commit, subscriber.switches).into_iter();
        deliveries.map(move |delivery| Owed {
            id: format!("{partition}@{offset}.{}", delivery.command),
            user: commit.key.user,
            body: delivery.body.into(),
        })
    });
    owed.collect()
}
