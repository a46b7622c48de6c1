//! The figures: kept one by one, printed as medians and ratios.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

/// One load on one server.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    pub(super) round: usize,
    pub(super) server: String,
    pub(super) work: String,
    pub(super) connections: usize,
    pub(super) calls: u64,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Processor time of the server per call, in microseconds.
    pub(super) cpu_us: Option<f64>,
}

/// A figure that is no load.
#[derive(Clone, Debug, Serialize)]
struct Fact {
    name: String,
    value: f64,
    unit: &'static str,
}

/// See the module.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    #[serde(skip)]
    out: PathBuf,
    /// The median `fdatasync` of each round, in microseconds.
    sync_us: Vec<f64>,
    figures: Vec<Figure>,
    facts: Vec<Fact>,
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    if values.is_empty() { f64::NAN } else { values[values.len() / 2] }
}

fn range(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.2} ({low:.2}–{high:.2})", median(values.iter().copied()))
}

impl Table {
    pub(super) fn new(out: &Path) -> Self {
        Self { out: out.to_owned(), sync_us: Vec::new(), figures: Vec::new(), facts: Vec::new() }
    }

    pub(super) fn note_sync(&mut self, took: Duration) {
        self.sync_us.push(took.as_secs_f64() * 1e6);
    }

    pub(super) fn note(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Prints a figure that is no load, and keeps it.
    pub(super) fn tell(&mut self, name: &str, value: f64, unit: &'static str) {
        println!("{name}: {value:.0} {unit}");
        self.facts.push(Fact { name: name.to_owned(), value, unit });
    }

    fn of<'a>(&'a self, server: &'a str, like: &'a Figure) -> impl Iterator<Item = &'a Figure> {
        self.figures.iter().filter(move |figure| {
            figure.server == server
                && figure.work == like.work
                && figure.connections == like.connections
        })
    }

    /// Ratios of the rates of `server` to those of `other`, round by round.
    fn ratios(&self, like: &Figure, other: &str) -> Vec<f64> {
        let pairs = self.of("cordon", like).filter_map(|figure| {
            let beside = self.of(other, like).find(|beside| beside.round == figure.round)?;
            Some(figure.per_second / beside.per_second)
        });
        pairs.collect()
    }

    /// Prints the loads, each with the median of its rounds, and how it stands to the others: the
    /// median of the ratios, and their range.
    pub(super) fn print(&self) {
        let mut others: Vec<&str> = Vec::new();
        for figure in &self.figures {
            if figure.server != "cordon" && !others.contains(&figure.server.as_str()) {
                others.push(&figure.server);
            }
        }
        let sync = median(self.sync_us.iter().copied());
        println!("one append and fdatasync: {sync:.0} us\n");
        print!("| load | connections | calls/s | p50 ms | p99 ms | CPU us |");
        others.iter().for_each(|other| print!(" to {other} | CPU to {other} |"));
        print!("\n| --- | --- | --- | --- | --- | --- |");
        others.iter().for_each(|_| print!(" --- | --- |"));
        println!();
        let mut seen: Vec<(&str, usize)> = Vec::new();
        for like in self.figures.iter().filter(|figure| figure.server == "cordon") {
            let load = (like.work.as_str(), like.connections);
            if seen.contains(&load) {
                continue;
            }
            seen.push(load);
            let of = |value: fn(&Figure) -> f64| median(self.of("cordon", like).map(value));
            let cpu = |server: &str| {
                median(self.of(server, like).map(|figure| figure.cpu_us.unwrap_or(f64::NAN)))
            };
            print!(
                "| {} | {} | {:.0} | {:.2} | {:.2} | {:.1} |",
                like.work,
                like.connections,
                of(|figure| figure.per_second),
                of(|figure| figure.p50_ms),
                of(|figure| figure.p99_ms),
                cpu("cordon"),
            );
            for other in &others {
                let ratios = self.ratios(like, other);
                if ratios.is_empty() {
                    print!(" | |");
                } else {
                    print!(" {} | {:.2} |", range(&ratios), cpu("cordon") / cpu(other));
                }
            }
            println!();
        }
        println!();
    }

    /// Keeps every figure.
    pub(super) fn keep(&self) {
        let file = File::create(&self.out).expect("the figures can be kept");
        serde_json::to_writer_pretty(file, self).expect("the figures can be kept");
        println!("all figures: {}", self.out.display());
    }
}
