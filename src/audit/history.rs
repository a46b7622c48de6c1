//! Who did what to whom, when, from where and why: one user's stream, with the causes.
//!
//! A record that another user's fact caused names that fact and where it stands. Facts that ask
//! something of the user are remembered on the way, at most [`CAUSES_MAX`] of them; where a journal
//! gives its partitions out of step, lines wait for their cause, at most [`LINES_WAITING_MAX`].

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::ops::ControlFlow;

use serde_json::json;

use super::plain::Plain;
use super::replay::write_fields;
use super::story::{demand, sentence};
use super::walk::{Reading, Walk, all_partitions};
use super::{AuditError, Format, until_closed};
use crate::domain::{AppId, Timestamp, UserId, UserKey, Version};
use crate::journal::{Admitted, Body, Commit, Offset, Partition, ReadJournal};

/// How many facts of others about the user are remembered; the oldest are forgotten first. A record that
/// a forgotten fact caused names it without its place.
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
///
/// Errors: [`AuditError::UnknownUser`].
pub fn run(
    journal: &dyn ReadJournal,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Summary, AuditError> {
    let mut history = History {
        options,
        causes: Causes::default(),
        waiting: VecDeque::new(),
        summary: Summary::default(),
        known: false,
    };
    let result = history.write(&mut Walk::over(journal, &all_partitions(journal))?, out);
    until_closed(result, ())?;
    if !history.known {
        let (user, app, unreadable) = (options.user, options.app, history.summary.unreadable);
        return Err(AuditError::UnknownUser { user, app, unreadable });
    }
    Ok(history.summary)
}

struct History<'a> {
    options: &'a Options,
    causes: Causes,
    waiting: VecDeque<HistoryLine>,
    summary: Summary,
    /// The user was met.
    known: bool,
}

struct HistoryLine {
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
                self.known = true;
                if self.shows(commit.at) {
                    self.waiting.push_back(HistoryLine {
                        partition,
                        offset,
                        bytes: step.bytes,
                        commit,
                    });
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

    fn is_ready(&self, line: &HistoryLine) -> bool {
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
        line: &HistoryLine,
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
fn write_json(
    line: &HistoryLine,
    found: Option<Found>,
    out: &mut dyn Write,
) -> Result<(), AuditError> {
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

#[cfg(test)]
mod tests {
    use super::super::simulation::{APP, Memory, World, id};
    use super::*;
    use crate::domain::OfferForm;

    fn options(name: &str, format: Format) -> Options {
        Options { app: Some(APP), user: id(name), since: None, until: None, format }
    }

    fn told(memory: &Memory, options: &Options) -> String {
        let mut out = Vec::new();
        let summary = run(memory, options, &mut out).expect("memory is readable");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(summary.shown, text.lines().count() as u64);
        text
    }

    fn world() -> World {
        let mut world = World::of(3, &["amy", "bob", "carl"]);
        world.befriend("amy", "bob");
        world.add("carl", &["bob"], OfferForm::OneWay, false);
        world.drain();
        world.block("amy", &["bob", "carl"]);
        world.drain();
        world
    }

    #[test]
    fn a_history_says_who_did_what_when_from_where_and_why() {
        let world = world();
        insta::assert_snapshot!(told(&world.memory, &options("bob", Format::Table)), @r"
        #1      2026-11-22T10:10:00.014Z  2@1           has an account from now on; by administrator from 10.0.0.7 (RESTAPI)
        #2      2026-11-22T10:10:00.031Z  2@2           has amy as a friend (edge amy:2); accepted amy's offer; by administrator from 10.0.0.7 (RESTAPI); because of amy's offer (1@3)
        #3      2026-11-22T10:10:00.044Z  2@3           accepted carl's offer; by administrator from 10.0.0.7 (RESTAPI); because of carl's offer (1@5)
        #4      2026-11-22T10:10:00.060Z  2@4           is no longer a friend of amy (blocked by them); by administrator from 10.0.0.7 (RESTAPI); because of amy's block (1@7)
        ");
        insta::assert_snapshot!(told(&world.memory, &options("amy", Format::Table)), @r#"
        #1      2026-11-22T10:10:00.007Z  1@1           has an account from now on; by administrator from 10.0.0.7 (RESTAPI)
        #2      2026-11-22T10:10:00.028Z  1@3           offered bob a friendship, saying "hello"; by administrator from 10.0.0.7 (RESTAPI)
        #3      2026-11-22T10:10:00.034Z  1@4           has bob as a friend (edge amy:2); got a yes from bob; has every answer to the request of version 2: bob; by administrator from 10.0.0.7 (RESTAPI); because of bob's accept (2@2)
        #4      2026-11-22T10:10:00.054Z  1@7           is no longer a friend of bob (blocked); blocked bob; blocked carl; by administrator from 10.0.0.7 (RESTAPI)
        "#);
    }

    #[test]
    fn json_has_the_record_its_sentences_and_where_its_cause_stands() {
        let world = world();
        let text = told(&world.memory, &options("bob", Format::Json));
        let line: serde_json::Value =
            serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!(line["says"][0], "is no longer a friend of amy (blocked by them)");
        assert_eq!(line["because"]["user"], "amy");
        assert_eq!(line["because"]["what"], "block");
        let cause = world.memory.places(|record| match &record.body {
            Body::Commit(commit) => commit.key.user == id("amy") && commit.version == Version(4),
            _ => false,
        });
        assert_eq!(line["because"]["partition"], cause[0].0.0);
        assert_eq!(line["because"]["offset"], cause[0].1.0);
        assert_eq!((&line["kind"], &line["user"]), (&json!("commit"), &json!("bob")));
    }

    #[test]
    fn the_order_between_partitions_makes_no_difference() {
        let world = world();
        let straight = told(&world.memory, &options("bob", Format::Table));
        for backwards in [false, true] {
            let memory = world.memory.clone().sorted(backwards);
            assert_eq!(told(&memory, &options("bob", Format::Table)), straight);
        }
    }

    #[test]
    fn a_cause_that_is_not_there_is_still_named() {
        let mut world = world();
        let home = world.home("amy");
        world.memory.entries.retain(|entry| entry.partition != home);
        let text = told(&world.memory, &options("bob", Format::Table));
        let said = format!("because of amy's record 4 in partition {home}\n");
        assert!(text.ends_with(&said), "{text}");
    }

    #[test]
    fn a_time_range_leaves_the_numbers_as_they_are() {
        let mut world = world();
        world.unblock("amy", &["bob"]);
        let options = Options { since: Some(world.now), ..options("amy", Format::Table) };
        let text = told(&world.memory, &options);
        assert!(text.starts_with("#5 ") && text.lines().count() == 1, "{text}");
        let options = Options { until: Some(Timestamp(0)), since: None, ..options };
        assert_eq!(told(&world.memory, &options), "");
    }

    #[test]
    fn without_an_app_every_line_names_its_own() {
        let world = world();
        let options = Options { app: None, ..options("carl", Format::Table) };
        let text = told(&world.memory, &options);
        assert!(text.lines().all(|line| line.contains("  1400000001/carl  ")), "{text}");
    }

    #[test]
    fn of_whom_nothing_is_recorded_there_is_no_history() {
        let world = world();
        let elsewhere = Options { app: Some(AppId(2)), ..options("carl", Format::Table) };
        for unknown in [options("zoe", Format::Table), elsewhere] {
            let result = run(&world.memory, &unknown, &mut Vec::new());
            assert!(matches!(result, Err(AuditError::UnknownUser { .. })), "{result:?}");
        }
    }

    #[test]
    fn what_never_counted_is_no_history_and_what_cannot_be_read_is_counted() {
        let mut world = world();
        let commit = world.commit_of("amy", vec![crate::domain::Event::AccountDeleted {}]);
        world.append_void(world.home("amy"), &Body::Commit(commit));
        world.append_bytes(Partition(0), b"nonsense".to_vec());
        let mut out = Vec::new();
        let summary = run(&world.memory, &options("amy", Format::Table), &mut out);
        assert_eq!(summary.expect("readable"), Summary { shown: 4, unreadable: 1 });
    }

    #[test]
    fn old_facts_about_the_user_are_forgotten_first() {
        let mut causes = Causes::default();
        let key = super::super::simulation::key("amy");
        let found = Found { partition: Partition(0), offset: Offset(0), what: "block" };
        for version in 0..=CAUSES_MAX as u64 {
            causes.remember(key, Version(version), found);
        }
        assert_eq!(causes.found.len(), CAUSES_MAX);
        assert!(!causes.found.contains_key(&(key, Version(0))));
        assert!(causes.found.contains_key(&(key, Version(1))));
    }
}
