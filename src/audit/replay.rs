//! Every record, or those that somebody asks for, in the order of the journal.
//!
//! A line per record as JSON: the record as stored, led by `partition` and `offset`, and by
//! `"void":true` if it never counted. Or a line per event for people. What cannot be read is shown
//! in any case. It keeps nothing but the place of each partition.

use std::io::Write;
use std::ops::ControlFlow;

use super::story::{Plain, sentence};
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
        line: Vec::new(),
    };
    let result = replay.write(&mut Walk::over(journal, &partitions)?, out);
    until_closed(result, ())?;
    Ok(replay.summary)
}

struct Replay<'a> {
    options: &'a Options,
    starts: Vec<Offset>,
    /// The time of the last record that had one, per partition.
    times: Vec<Option<Timestamp>>,
    summary: Summary,
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
            Body::Cursor { subscription, next, .. } => {
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

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::simulation::{APP, World, id};
    use super::*;
    use crate::domain::{AppId, Event, OfferForm};

    /// Amy blocks her friend bob; carl is somebody else.
    fn world() -> World {
        let mut world = World::of(2, &["amy", "bob", "carl"]);
        world.befriend("amy", "bob");
        world.block("amy", &["bob"]);
        world.drain();
        world
    }

    fn lines(world: &World, options: &Options) -> Vec<String> {
        let mut out = Vec::new();
        let summary = run(&world.memory, options, &mut out).expect("memory is readable");
        let lines: Vec<String> =
            String::from_utf8(out).expect("text").lines().map(str::to_owned).collect();
        if options.format == Format::Json {
            assert_eq!(summary.shown, lines.len() as u64);
        }
        lines
    }

    fn json(filter: Filter) -> Options {
        Options { filter, format: Format::Json, ..Options::default() }
    }

    /// Who, in which version, of each shown line.
    fn shown(world: &World, options: &Options) -> Vec<String> {
        let lines = lines(world, options);
        let name = |line: &String| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            match line["user"].as_str() {
                Some(user) => format!("{user}:{}", line["version"]),
                None => line["kind"].as_str().expect("a kind").to_owned(),
            }
        };
        lines.iter().map(name).collect()
    }

    #[test]
    fn a_table_tells_one_event_a_line() {
        insta::assert_snapshot!(lines(&world(), &Options::default()).join("\n"), @r#"
        2026-11-22T10:10:00.007Z  0@1           1400000001/amy        has an account from now on; by administrator from 10.0.0.7
        2026-11-22T10:10:00.014Z  1@1           1400000001/bob        has an account from now on; by administrator from 10.0.0.7
        2026-11-22T10:10:00.021Z  0@2           1400000001/carl       has an account from now on; by administrator from 10.0.0.7
        2026-11-22T10:10:00.028Z  0@3           1400000001/amy        offered bob a friendship, saying "hello"; by administrator from 10.0.0.7
        2026-11-22T10:10:00.031Z  1@2           1400000001/bob        has amy as a friend (edge amy:2); by administrator from 10.0.0.7, because of amy's record 2
        2026-11-22T10:10:00.031Z  1@2           1400000001/bob        accepted amy's offer; by administrator from 10.0.0.7, because of amy's record 2
        2026-11-22T10:10:00.034Z  0@4           1400000001/amy        has bob as a friend (edge amy:2); by administrator from 10.0.0.7, because of bob's record 2
        2026-11-22T10:10:00.034Z  0@4           1400000001/amy        got a yes from bob; by administrator from 10.0.0.7, because of bob's record 2
        2026-11-22T10:10:00.034Z  0@4           1400000001/amy        has every answer to the request of version 2: bob; by administrator from 10.0.0.7, because of bob's record 2
        2026-11-22T10:10:00.041Z  0@5           1400000001/amy        is no longer a friend of bob (blocked); by administrator from 10.0.0.7
        2026-11-22T10:10:00.041Z  0@5           1400000001/amy        blocked bob; by administrator from 10.0.0.7
        2026-11-22T10:10:00.044Z  1@3           1400000001/bob        is no longer a friend of amy (blocked by them); by administrator from 10.0.0.7, because of amy's record 4
        "#);
    }

    #[test]
    fn json_lines_are_the_records_as_stored_with_their_place() {
        let world = world();
        let options = Options { all: true, ..json(Filter::default()) };
        let lines = lines(&world, &options);
        assert_eq!(lines.len(), world.memory.entries.len());
        for (line, entry) in lines.iter().zip(&world.memory.entries) {
            let place = format!("{{\"partition\":{},\"offset\":{},", entry.partition, entry.offset);
            let stored = std::str::from_utf8(&entry.bytes).expect("text");
            assert_eq!(*line, format!("{place}{}", &stored[1..]));
        }
    }

    #[test]
    fn a_record_of_another_writer_comes_on_one_line() {
        let mut world = World::of(1, &[]);
        let commit = world.commit_of("amy", vec![Event::AccountImported {}]);
        world.append(Partition(0), &Body::Commit(commit));
        let entry = world.memory.entries.last_mut().expect("a record");
        let stored: serde_json::Value = serde_json::from_slice(&entry.bytes).expect("JSON");
        entry.bytes = serde_json::to_vec_pretty(&stored).expect("JSON");
        assert_eq!(shown(&world, &json(Filter::default())), ["amy:1"]);
    }

    #[test]
    fn filters_pick_events() {
        let world = world();
        let all = ["amy:1", "bob:1", "carl:1", "amy:2", "bob:2", "amy:3", "amy:4", "bob:3"];
        let none: [&str; 0] = [];
        let show = |filter| shown(&world, &json(filter));
        assert_eq!(show(Filter::default()), all);
        let app = |app| Filter { app: Some(app), ..Filter::default() };
        assert_eq!(show(app(APP)), all);
        assert_eq!(show(app(AppId(1))), none);
        let user = |name| Filter { user: Some(id(name)), ..Filter::default() };
        assert_eq!(show(user("carl")), ["carl:1"]);
        assert_eq!(show(user("bob")), ["bob:1", "amy:2", "bob:2", "amy:3", "amy:4", "bob:3"]);
        let pair = |a, b| Filter { pair: Some((id(a), id(b))), ..Filter::default() };
        assert_eq!(show(pair("bob", "amy")), ["amy:2", "bob:2", "amy:3", "amy:4", "bob:3"]);
        assert_eq!(show(pair("bob", "carl")), none);
        let types = |name: &str| Filter { types: vec![name.into()], ..Filter::default() };
        assert_eq!(show(types("FriendRemoved")), ["amy:4", "bob:3"]);
        let both = Filter { user: Some(id("amy")), ..types("AccountImported") };
        assert_eq!(show(both), ["amy:1"]);
    }

    #[test]
    fn an_event_has_to_meet_the_whole_filter_by_itself() {
        let mut world = World::of(1, &["amy", "bob", "carl"]);
        world.block("amy", &["bob", "carl"]);
        let options = Options {
            filter: Filter {
                app: Some(APP),
                pair: Some((id("amy"), id("carl"))),
                ..Filter::default()
            },
            ..Options::default()
        };
        let lines = lines(&world, &options);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(" amy ") && lines[0].contains("blocked carl"), "{lines:?}");
    }

    #[test]
    fn time_is_a_half_open_range() {
        let mut world = World::of(1, &["amy"]);
        let first = world.now;
        world.import("bob");
        let options = json(Filter { since: Some(world.now), ..Filter::default() });
        assert_eq!(shown(&world, &options), ["bob:1"]);
        let options = json(Filter { until: Some(world.now), ..Filter::default() });
        assert_eq!(shown(&world, &options), ["amy:1"]);
        let now = Some(first);
        let options = json(Filter { since: now, until: now, ..Filter::default() });
        assert!(shown(&world, &options).is_empty());
    }

    #[test]
    fn a_start_names_the_only_partitions_to_show() {
        let world = world();
        let home = world.home("amy");
        let from = |offset| Options {
            from: vec![(home, Offset(offset))],
            all: true,
            ..json(Filter::default())
        };
        let every = world.memory.entries.iter().filter(|entry| entry.partition == home).count();
        assert_eq!(lines(&world, &from(0)).len(), every);
        assert_eq!(lines(&world, &from(2)).len(), every - 2);
        let options = Options { from: vec![(Partition(7), Offset(0))], ..Options::default() };
        let refused = run(&world.memory, &options, &mut Vec::new());
        assert!(matches!(refused, Err(AuditError::NoSuchPartition { partitions: 2, .. })));
    }

    #[test]
    fn a_limit_counts_records() {
        let options = |limit| Options { limit: Some(limit), ..json(Filter::default()) };
        assert_eq!(shown(&world(), &options(2)), ["amy:1", "bob:1"]);
        assert!(shown(&world(), &options(0)).is_empty());
    }

    #[test]
    fn what_never_counted_is_shown_only_when_asked_for_and_marked() {
        let mut world = World::of(1, &["amy"]);
        let commit = world.commit_of("amy", vec![Event::UserUnblocked { target: id("bob") }]);
        world.append_void(Partition(0), &Body::Commit(commit));
        assert_eq!(lines(&world, &Options::default()).len(), 1);
        let all = lines(&world, &Options { all: true, ..Options::default() });
        assert!(all[0].contains("claimed by n1"), "{all:?}");
        assert!(all[2].contains("VOID unblocked bob"), "{all:?}");
        let all = lines(&world, &Options { all: true, ..json(Filter::default()) });
        assert!(all[2].starts_with("{\"partition\":0,\"offset\":2,\"void\":true,\"v\":1"));
    }

    #[test]
    fn what_cannot_be_read_is_always_shown() {
        let mut world = World::of(1, &["amy"]);
        world.append_bytes(Partition(0), b"{\"v\":1,\"e\":1,\"n\":2,\"kind\":\"odd\"}".to_vec());
        world.append_bytes(Partition(0), b"\x1b[2J".to_vec());
        let filter = || Filter { user: Some(id("bob")), ..Filter::default() };
        for options in [json(filter()), Options { filter: filter(), ..Options::default() }] {
            let mut out = Vec::new();
            let summary = run(&world.memory, &options, &mut out).expect("readable");
            assert_eq!(summary, Summary { shown: 2, unreadable: 2 });
            let out = String::from_utf8(out).expect("text");
            assert!(!out.contains('\u{1b}') && out.to_lowercase().contains("unreadable"), "{out}");
        }
    }

    #[test]
    fn an_unknown_event_type_is_refused() {
        let options = json(Filter { types: vec!["Blocked".into()], ..Filter::default() });
        let refused = run(&world().memory, &options, &mut Vec::new());
        assert!(matches!(refused, Err(AuditError::UnknownType { name }) if name == "Blocked"));
    }

    /// Takes some writes, then fails.
    struct Pipe(usize, io::ErrorKind);

    impl io::Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(self.1)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_ends_the_story_and_a_full_disk_is_an_error() {
        let world = world();
        let closed =
            run(&world.memory, &Options::default(), &mut Pipe(2, io::ErrorKind::BrokenPipe));
        assert_eq!(closed.expect("quiet").shown, 2);
        let full =
            run(&world.memory, &Options::default(), &mut Pipe(2, io::ErrorKind::StorageFull));
        assert!(matches!(full, Err(AuditError::Output(_))));
    }

    #[test]
    fn an_offer_of_one_way_reads_differently() {
        let mut world = World::of(1, &["amy", "bob"]);
        world.add("amy", &["bob"], OfferForm::OneWay, true);
        let lines = lines(&world, &Options::default());
        let said = "asked to have bob as a friend, forced, saying \"hello\"";
        assert!(lines[2].contains(said), "{lines:?}");
    }
}
