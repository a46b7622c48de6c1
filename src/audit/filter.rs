//! Which records and events somebody wants to see.

use super::AuditError;
use super::story::{EVENT_TYPES, event_type, names};
use crate::domain::{AppId, Event, Timestamp, UserId};
use crate::journal::Commit;

/// What an event has to be to be shown. An empty filter shows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this app.
    pub app: Option<AppId>,
    /// Only events of this user's stream, and events of others that name the user.
    pub user: Option<UserId>,
    /// Only events between these two: in the stream of one and naming the other.
    pub pair: Option<(UserId, UserId)>,
    /// Only events with one of these stored names; empty for all.
    pub types: Vec<String>,
    /// Only at this time or later.
    pub since: Option<Timestamp>,
    /// Only before this time.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Errors: [`AuditError::UnknownType`] for a name that no event has.
    pub fn check(&self) -> Result<(), AuditError> {
        match self.types.iter().find(|name| !EVENT_TYPES.contains(&name.as_str())) {
            Some(name) => Err(AuditError::UnknownType { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// Whether `commit` is of the user, or names them, in the app: whatever else is asked for.
    pub fn knows(&self, commit: &Commit) -> bool {
        let Some(user) = self.user else { return true };
        self.app.is_none_or(|app| commit.key.app == app)
            && (commit.key.user == user || commit.events.iter().any(|event| names(event, &user)))
    }

    /// Whether a time lies in the range. A record without a time of its own has that of the last
    /// one before it.
    pub fn shows_time(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }

    /// Whether records that are about no user are asked for.
    pub fn shows_control(&self) -> bool {
        self.app.is_none() && self.user.is_none() && self.pair.is_none() && self.types.is_empty()
    }

    /// The events of `commit` that are to be shown; none if the record is not.
    pub fn events<'a>(&self, commit: &'a Commit) -> Vec<&'a Event> {
        if self.app.is_some_and(|app| commit.key.app != app) || !self.shows_time(commit.at) {
            return Vec::new();
        }
        commit.events.iter().filter(|event| self.shows(commit.key.user, event)).collect()
    }

    fn shows(&self, owner: UserId, event: &Event) -> bool {
        if !self.types.is_empty() && !self.types.iter().any(|name| name == event_type(event)) {
            return false;
        }
        if self.user.is_some_and(|user| owner != user && !names(event, &user)) {
            return false;
        }
        self.pair.is_none_or(|(a, b)| {
            (owner == a && names(event, &b)) || (owner == b && names(event, &a))
        })
    }
}
