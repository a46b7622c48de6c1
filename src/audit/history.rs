//! Who did what to whom, when, from where and why: one user's stream, with the causes.
//!
//! A record that another user's fact caused names that fact and where it stands. Facts that ask
//! something of the user are remembered on the way, at most [`CAUSES_MAX`] of them; where a journal
//! gives its partitions out of step, lines wait for their cause, at most [`LINES_WAITING_MAX`].

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::ops::ControlFlow;

use serde_json::json;

use super::replay::write_fields;
use super::source::{Reading, Walk, all_partitions};
use super::story::{Plain, demand, sentence};
use super::{AuditError, Format, Source, until_closed};
use crate::domain::{AppId, Timestamp, UserId, UserKey, Version};
use crate::journal::{Admitted, Body, Commit, Offset, Partition};

/// How many facts of others about the user are remembered; the oldest are forgotten first, and a
/// record caused by one of those names it without its place.
pub const CAUSES_MAX: usize = 1 << 20;
/// How many lines wait for a cause that was not read yet.
pub const LINES_WAITING_MAX: usize = 1 << 14;

/// Whose history, and how to write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Only the user of this app; `None` for the users of that name in all apps.
    pub app: Option<AppId>,
    /// The user.
    pub user: UserId,
    /// Only at this time or later.
    pub since: Option<Timestamp>,
    /// Only before this time.
    pub until: Option<Timestamp>,
    /// How.
    pub format: Format,
}

/// What a history came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records written.
    pub shown: u64,
    /// Records of the whole journal that could not be read: any of them may belong to the history.
    pub unreadable: u64,
}

/// Writes the user's history. A closed pipe ends it without an error.
pub fn run(
    source: &dyn Source,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Summary, AuditError> {
    let mut history = History {
        options,
        causes: Causes::default(),
        waiting: VecDeque::new(),
        summary: Summary::default(),
    };
    let result = history.write(&mut Walk::over(source, &all_partitions(source))?, out);
    until_closed(result, ())?;
    Ok(history.summary)
}

struct History<'a> {
    options: &'a Options,
    causes: Causes,
    waiting: VecDeque<Line>,
    summary: Summary,
}

struct Line {
    partition: Partition,
    offset: Offset,
    bytes: Vec<u8>,
    commit: Commit,
}

/// Where a fact stands, and what it asks of the user.
#[derive(Clone, Copy)]
struct Found {
    partition: Partition,
    offset: Offset,
    what: &'static str,
}

/// Facts of others that ask something of the user.
#[derive(Default)]
struct Causes {
    found: HashMap<(UserKey, Version), Found>,
    order: VecDeque<(UserKey, Version)>,
}

impl Causes {
    fn remember(&mut self, key: UserKey, version: Version, found: Found) {
        if self.found.insert((key, version), found).is_none() {
            self.order.push_back((key, version));
        }
        if self.order.len() > CAUSES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.found.remove(&oldest);
        }
    }

    fn of(&self, commit: &Commit) -> Option<Found> {
        let cause = commit.cause?;
        let key = UserKey { app: commit.key.app, user: cause.user };
        self.found.get(&(key, cause.version)).copied()
    }
}

impl History<'_> {
    fn write(&mut self, walk: &mut Walk, out: &mut dyn Write) -> Result<(), AuditError> {
        walk.run(|step, progress| {
            let Reading::Record(record, admitted) = step.reading else {
                self.summary.unreadable += 1;
                return Ok(ControlFlow::Continue(()));
            };
            let Body::Commit(commit) = record.body else {
                return Ok(ControlFlow::Continue(()));
            };
            if admitted == Admitted::Void || self.options.app.is_some_and(|a| a != commit.key.app) {
                return Ok(ControlFlow::Continue(()));
            }
            let (partition, offset) = (step.partition, step.offset);
            if commit.key.user == self.options.user {
                if self.shows(commit.at) {
                    self.waiting.push_back(Line { partition, offset, bytes: step.bytes, commit });
                }
            } else if let Some(what) = demand(&commit.events, self.options.user) {
                let found = Found { partition, offset, what };
                self.causes.remember(commit.key, commit.version, found);
            }
            while self.waiting.front().is_some_and(|line| self.is_ready(line))
                || self.waiting.len() > LINES_WAITING_MAX
            {
                progress.clear();
                self.tell_next(out)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        while !self.waiting.is_empty() {
            self.tell_next(out)?;
        }
        out.flush()?;
        Ok(())
    }

    fn shows(&self, at: Timestamp) -> bool {
        self.options.since.is_none_or(|since| at >= since)
            && self.options.until.is_none_or(|until| at < until)
    }

    fn is_ready(&self, line: &Line) -> bool {
        line.commit.cause.is_none() || self.causes.of(&line.commit).is_some()
    }

    fn tell_next(&mut self, out: &mut dyn Write) -> Result<(), AuditError> {
        let Some(line) = self.waiting.pop_front() else { return Ok(()) };
        let found = self.causes.of(&line.commit);
        match self.options.format {
            Format::Json => write_json(&line, found, out)?,
            Format::Table => self.write_table(&line, found, out)?,
        }
        self.summary.shown += 1;
        Ok(())
    }

    fn write_table(
        &self,
        line: &Line,
        found: Option<Found>,
        out: &mut dyn Write,
    ) -> Result<(), AuditError> {
        let commit = &line.commit;
        let said: Vec<String> = commit.events.iter().map(sentence).collect();
        let app = match self.options.app {
            Some(_) => String::new(),
            None => format!("{}  ", commit.key),
        };
        let origin = &commit.by;
        let why = match (&commit.cause, found) {
            (None, _) => String::new(),
            (Some(cause), Some(Found { partition, offset, what })) => {
                format!("; because of {}'s {what} ({partition}@{offset})", cause.user)
            }
            (Some(cause), None) => format!(
                "; because of {}'s record {} in partition {}",
                cause.user, cause.version, cause.partition
            ),
        };
        writeln!(
            out,
            "{version:<6}  {at}  {place:<12}  {app}{said}; by {operator} from {ip} ({platform}){why}",
            version = format!("#{}", commit.version),
            at = commit.at,
            place = format!("{}@{}", line.partition, line.offset),
            said = said.join("; "),
            operator = Plain(&origin.operator),
            ip = Plain(if origin.ip.is_empty() { "-" } else { &origin.ip }),
            platform = Plain(&origin.platform),
        )?;
        Ok(())
    }
}

/// The record as stored, led by its place, its sentences and its cause.
fn write_json(line: &Line, found: Option<Found>, out: &mut dyn Write) -> Result<(), AuditError> {
    let says: Vec<String> = line.commit.events.iter().map(sentence).collect();
    let because = line.commit.cause.map(|cause| {
        json!({
            "user": cause.user,
            "version": cause.version,
            "partition": found.map_or(cause.partition, |found| found.partition),
            "offset": found.map(|found| found.offset),
            "what": found.map(|found| found.what),
        })
    });
    let mut text = format!(
        "{{\"partition\":{},\"offset\":{},\"says\":{},\"because\":{},",
        line.partition,
        line.offset,
        json!(says),
        json!(because),
    )
    .into_bytes();
    write_fields(&mut text, &line.bytes);
    text.push(b'\n');
    out.write_all(&text)?;
    Ok(())
}
