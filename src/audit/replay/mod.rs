//! Every record, or those that somebody asks for, in the order of the journal.
//!
//! A line per record as JSON: the record as stored, led by `partition` and `offset`, and by
//! `"void":true` if it never counted. Or a line per event for people. What cannot be read is shown
//! in any case. It keeps nothing but the place of each partition.

#[cfg(test)]
mod tests;

use std::io::Write;
use std::ops::ControlFlow;

use super::plain::Plain;
use super::story::sentence;
use super::walk::{Reading, Step, Walk, all_partitions};
use super::{AuditError, Filter, Format, until_closed};
use crate::domain::Timestamp;
use crate::journal::{Admitted, Body, Commit, Offset, Partition, ReadJournal, Record, RecordError};

/// What to replay, and how to write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Which events.
    pub filter: Filter,
    /// Only these partitions, each from its offset on; empty for all of all. What lies before an
    /// offset is read as well, because it says which records count.
    pub from: Vec<(Partition, Offset)>,
    /// At most so many records.
    pub limit: Option<u64>,
    /// Also the records that are about no user, and those that never counted.
    pub all: bool,
    /// How.
    pub format: Format,
}

/// What a replay came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records written.
    pub shown: u64,
    /// Records that could not be read; all of them are among those written.
    pub unreadable: u64,
}

/// Writes the records that `options` ask for. A closed pipe ends it without an error.
///
/// Errors: [`AuditError::UnknownUser`] if the whole journal says nothing of the user asked for.
pub fn run(
    journal: &dyn ReadJournal,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Summary, AuditError> {
    options.filter.check()?;
    let partitions = match options.from.as_slice() {
        [] => all_partitions(journal),
        some => some.iter().map(|(partition, _)| *partition).collect(),
    };
    if let Some(partition) = partitions.iter().find(|one| one.0 >= journal.partitions()) {
        let partitions = journal.partitions();
        return Err(AuditError::NoSuchPartition { partition: *partition, partitions });
    }
    let mut starts = vec![Offset(0); usize::from(journal.partitions())];
    for (partition, offset) in &options.from {
        starts[usize::from(partition.0)] = *offset;
    }
    let mut replay = Replay {
        options,
        times: vec![None; starts.len()],
        starts,
        summary: Summary::default(),
        known: false,
        line: Vec::new(),
    };
    let result = replay.write(&mut Walk::over(journal, &partitions)?, out);
    until_closed(result, ())?;
    match options.filter.user {
        // Only a read of the whole journal can say that a user is unknown; and a record that was shown
        // and cannot be read may be the user's.
        Some(user)
            if !replay.known
                && replay.summary.shown == 0
                && options.from.is_empty()
                && options.limit != Some(0) =>
        {
            let app = options.filter.app;
            Err(AuditError::UnknownUser { user, app, unreadable: 0 })
        }
        _ => Ok(replay.summary),
    }
}

struct Replay<'a> {
    options: &'a Options,
    starts: Vec<Offset>,
    /// The time of the last record that had one, per partition.
    times: Vec<Option<Timestamp>>,
    summary: Summary,
    /// The user asked for was met.
    known: bool,
    line: Vec<u8>,
}

impl Replay<'_> {
    fn write(&mut self, walk: &mut Walk, out: &mut dyn Write) -> Result<(), AuditError> {
        if self.options.limit == Some(0) {
            return Ok(());
        }
        walk.run(|step, progress| {
            self.line.clear();
            self.tell(&step)?;
            if self.line.is_empty() {
                return Ok(ControlFlow::Continue(()));
            }
            progress.clear();
            out.write_all(&self.line)?;
            self.summary.shown += 1;
            Ok(if self.options.limit.is_some_and(|limit| self.summary.shown >= limit) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        out.flush()?;
        Ok(())
    }

    /// Writes into `line` what is to be shown of `step`.
    fn tell(&mut self, step: &Step) -> Result<(), AuditError> {
        let index = usize::from(step.partition.0);
        if let Reading::Record(Record { body: Body::Commit(commit), .. }, _) = &step.reading {
            self.times[index] = Some(commit.at);
            self.known = self.known || self.options.filter.knows(commit);
        }
        if step.offset < self.starts[index] {
            return Ok(());
        }
        match &step.reading {
            Reading::Unreadable { error, admitted } => {
                self.summary.unreadable += 1;
                self.tell_unreadable(step, error, *admitted)
            }
            Reading::Record(_, Admitted::Void) if !self.options.all => Ok(()),
            Reading::Record(record, admitted) => {
                let void = *admitted == Admitted::Void;
                match &record.body {
                    Body::Commit(commit) => self.tell_commit(step, commit, void),
                    body => {
                        let filter = &self.options.filter;
                        let in_time = self.times[index].is_none_or(|at| filter.shows_time(at));
                        if !self.options.all || !filter.shows_control() || !in_time {
                            return Ok(());
                        }
                        self.tell_control(step, record, body, void)
                    }
                }
            }
        }
    }

    fn tell_commit(&mut self, step: &Step, commit: &Commit, void: bool) -> Result<(), AuditError> {
        let events = self.options.filter.events(commit);
        if events.is_empty() && !(commit.events.is_empty() && self.options.filter.shows_control()) {
            return Ok(());
        }
        if self.options.format == Format::Json {
            return self.tell_stored(step, void);
        }
        let mark = mark(void);
        for event in events {
            writeln!(
                self.line,
                "{at}  {place:<12}  {user:<20}  {mark}{sentence}; {by}",
                at = commit.at,
                place = place(step),
                user = self.user(commit),
                sentence = sentence(event),
                by = by(commit),
            )?;
        }
        Ok(())
    }

    fn user(&self, commit: &Commit) -> String {
        match self.options.filter.app {
            Some(_) => commit.key.user.to_string(),
            None => commit.key.to_string(),
        }
    }

    fn tell_control(
        &mut self,
        step: &Step,
        record: &Record,
        body: &Body,
        void: bool,
    ) -> Result<(), AuditError> {
        if self.options.format == Format::Json {
            return self.tell_stored(step, void);
        }
        let said = match body {
            Body::Commit(_) => return Ok(()),
            Body::Claim { node, .. } => format!("claimed by {}", Plain(node)),
            Body::Watermark { seen } => {
                let seen: Vec<String> =
                    seen.iter().map(|(partition, seq)| format!("{partition}:{seq}")).collect();
                format!("took effects that change nothing, up to {}", seen.join(", "))
            }
            Body::Acknowledged { out } => {
                let out: Vec<String> =
                    out.iter().map(|(partition, seq)| format!("{partition}:{seq}")).collect();
                format!("its effects are taken, up to {}", out.join(", "))
            }
            Body::Cursor { subscription, cursor } => {
                let next = cursor.place.next;
                format!("{} is done with all before offset {next}", Plain(subscription))
            }
            Body::Release { hash } => format!("released, row hash {}", Plain(hash)),
            Body::Checkpoint { hash } => format!("checkpoint, row hash {}", Plain(hash)),
        };
        writeln!(
            self.line,
            "{at:<24}  {place:<12}  {user:<20}  {mark}{said}; epoch {epoch}, number {n}",
            at = "-",
            place = place(step),
            user = "-",
            mark = mark(void),
            epoch = record.epoch,
            n = record.n,
        )?;
        Ok(())
    }

    fn tell_unreadable(
        &mut self,
        step: &Step,
        error: &RecordError,
        admitted: Admitted,
    ) -> Result<(), AuditError> {
        let void = admitted == Admitted::Void;
        if self.options.format == Format::Json {
            let line = serde_json::json!({
                "partition": step.partition, "offset": step.offset, "void": void,
                "unreadable": error.to_string(),
            });
            writeln!(self.line, "{line}")?;
            return Ok(());
        }
        writeln!(
            self.line,
            "{:<24}  {:<12}  {:<20}  {}UNREADABLE {}",
            "-",
            place(step),
            "-",
            mark(void),
            Plain(&error.to_string())
        )?;
        Ok(())
    }

    fn tell_stored(&mut self, step: &Step, void: bool) -> Result<(), AuditError> {
        write!(
            self.line,
            "{{\"partition\":{},\"offset\":{},{}",
            step.partition,
            step.offset,
            if void { "\"void\":true," } else { "" }
        )?;
        write_fields(&mut self.line, &step.bytes);
        self.line.push(b'\n');
        Ok(())
    }
}

/// Writes the fields of a stored record and the closing brace, on one line.
pub(super) fn write_fields(line: &mut Vec<u8>, stored: &[u8]) {
    // What this program writes is one line that begins with a brace. Another writer's JSON may be
    // spread over lines; a record that was decoded is valid JSON, so outside of strings its white
    // space means nothing, and inside of them there is no control character.
    let start = stored.iter().position(|byte| *byte == b'{').map_or(stored.len(), |at| at + 1);
    line.extend(stored[start..].iter().filter(|byte| !matches!(byte, b'\n' | b'\r' | b'\t')));
}

fn mark(void: bool) -> &'static str {
    if void { "VOID " } else { "" }
}

fn place(step: &Step) -> String {
    format!("{}@{}", step.partition, step.offset)
}

/// Who asked for a record, and from where.
fn by(commit: &Commit) -> String {
    let origin = &commit.by;
    let ip = if origin.ip.is_empty() { "-" } else { &origin.ip };
    let cause = match &commit.cause {
        Some(cause) => format!(", because of {}'s record {}", cause.user, cause.version),
        None => String::new(),
    };
    format!("by {} from {}{cause}", Plain(&origin.operator), Plain(ip))
}
