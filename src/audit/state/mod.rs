//! What one user's state was at a moment of the past, or is now.
//!
//! The user's own records, folded as a node folds them, up to the moment that is asked for. Kept in
//! memory are at most two copies of that one user; where the app is not named, the whole journal is
//! read once more before, and the apps are kept that know the user.

mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::ControlFlow;

pub use shape::{Blocked, Call, Friend, Offer, Request, Stage, State};
use shape::{write_json, write_table};

use super::walk::{Walk, all_partitions};
use super::{AuditError, Format, until_closed};
use crate::domain::{AppId, Timestamp, User, UserId, UserKey};
use crate::journal::{Commit, Offset, Partition, ReadJournal, partition_of};

/// Whose state, when, and how to write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The user's app; `None` for the only one in which the journal knows the user.
    pub app: Option<AppId>,
    /// The user.
    pub user: UserId,
    /// When; `None` for now, the end of the journal.
    pub at: Option<Moment>,
    /// How.
    pub format: Format,
}

/// A moment in the life of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After the last of the user's records that is not later than this time. Where a clock went
    /// backwards, the records before that one belong to it whatever time they have, so that the
    /// state is always one that the user really had.
    Time(Timestamp),
    /// After the record at this place, which has to lie in the user's own partition.
    Place(Partition, Offset),
}

/// What a look at a state came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records of the user's partition that count and cannot be read, up to the moment if that is a
    /// place: any of them may be the user's.
    pub unreadable: u64,
}

/// Writes the user's state at the moment: nothing of the user may be recorded by then, but something
/// has to be at some time. A closed pipe ends it without an error.
///
/// Errors: [`AuditError::UnknownUser`]; [`AuditError::SeveralApps`] without [`Options::app`];
/// [`AuditError::OtherPartition`] and [`AuditError::NoSuchOffset`] for a place.
pub fn run(
    journal: &dyn ReadJournal,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Summary, AuditError> {
    let app = match options.app {
        Some(app) => app,
        None => only_app(journal, options.user)?,
    };
    let key = UserKey { app, user: options.user };
    let home = partition_of(&key, journal.partitions());
    if let Some(Moment::Place(partition, offset)) = options.at {
        if partition != home {
            return Err(AuditError::OtherPartition { key, home, partition });
        }
        let end = journal.end(home)?;
        if offset >= end {
            return Err(AuditError::NoSuchOffset { partition, offset, end });
        }
    }
    let mut search = Search::new(key, options.at);
    let unreadable = search.read(&mut Walk::over(journal, &[home])?)?;
    let summary = Summary { unreadable };
    if !search.is_known() {
        let app = Some(app);
        return Err(AuditError::UnknownUser { user: options.user, app, unreadable });
    }
    let past = search.found();
    let state = State::of(app, &past.user, home, past.last);
    let written = match options.format {
        Format::Json => write_json(&state, out),
        Format::Table => write_table(&state, out),
    };
    until_closed(written, ())?;
    Ok(summary)
}

/// The app in which the journal knows `user`.
fn only_app(journal: &dyn ReadJournal, user: UserId) -> Result<AppId, AuditError> {
    let mut apps = BTreeSet::new();
    let mut walk = Walk::over(journal, &all_partitions(journal))?;
    let unreadable = walk.commits(None, |_, commit| {
        if commit.key.user == user {
            apps.insert(commit.key.app);
        }
        ControlFlow::Continue(())
    })?;
    match apps.pop_first() {
        None => Err(AuditError::UnknownUser { user, app: None, unreadable }),
        Some(app) if apps.is_empty() => Ok(app),
        Some(first) => {
            let apps = [first].into_iter().chain(apps).collect();
            Err(AuditError::SeveralApps { user, apps })
        }
    }
}

/// A user after one of their records.
#[derive(Clone)]
struct Past {
    user: User,
    last: Option<(Offset, Timestamp)>,
}

impl Past {
    fn take(&mut self, offset: Offset, commit: &Commit) {
        self.user.replay(commit.version, &commit.events, commit.at);
        self.last = Some((offset, commit.at));
    }
}

/// Looks for a user's state at a moment, record by record.
struct Search {
    key: UserKey,
    until: Option<Moment>,
    /// After the records so far.
    latest: Past,
    /// At the moment, as it looks so far, if records behind it were read.
    kept: Option<Past>,
}

impl Search {
    fn new(key: UserKey, until: Option<Moment>) -> Self {
        let latest = Past { user: User::new(key.user), last: None };
        Self { key, until, latest, kept: None }
    }

    /// Answers how many records cannot be read, up to the moment if that is a place.
    fn read(&mut self, walk: &mut Walk) -> Result<u64, AuditError> {
        let last = match self.until {
            Some(Moment::Place(_, last)) => Some(last),
            Some(Moment::Time(_)) | None => None,
        };
        walk.commits(last, |offset, commit| {
            let behind = last.is_some_and(|last| offset > last);
            if behind && self.is_known() {
                return ControlFlow::Break(());
            }
            if commit.key == self.key {
                self.take(offset, &commit, behind);
            }
            ControlFlow::Continue(())
        })
    }

    /// Takes a record of the user's; `behind` says that it lies behind the place asked for.
    fn take(&mut self, offset: Offset, commit: &Commit, behind: bool) {
        let later = matches!(self.until, Some(Moment::Time(time)) if commit.at > time);
        if !(later || behind) {
            self.kept = None;
        } else if self.kept.is_none() {
            self.kept = Some(self.latest.clone());
        }
        self.latest.take(offset, commit);
    }

    /// Whether any record of the user's was read.
    fn is_known(&self) -> bool {
        self.latest.last.is_some()
    }

    fn found(self) -> Past {
        self.kept.unwrap_or(self.latest)
    }
}
