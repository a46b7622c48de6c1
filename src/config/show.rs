//! The settings in force, for people.

use std::fmt::{self, Write};

use super::Config;
use super::scope::{Setting, Source};

const HEADINGS: [&str; 6] = ["setting", "value", "unit", "default", "from", "variable"];

/// The longest list that is shown whole.
const LIST_CHARACTERS_MAX: usize = 40;

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
        })
    }
}

impl Config {
    /// The settings in force as a table, a blank line between sections, secrets masked.
    pub fn table(&self) -> String {
        let rows: Vec<[String; 6]> = self.settings().iter().map(cells).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([HEADINGS[column].len()]).max().unwrap_or_default()
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        let mut table = line(&HEADINGS.map(str::to_owned), &widths);
        let mut section = "";
        for (setting, row) in self.settings().iter().zip(&rows) {
            let (of, _) = setting.path.rsplit_once('.').unwrap_or_default();
            if of != section {
                table.push('\n');
                section = of;
            }
            table.push_str(&line(row, &widths));
        }
        table
    }
}

fn cells(setting: &Setting) -> [String; 6] {
    let Setting { path, value, unit, default, source, variable, .. } = setting;
    let counts = value.bytes().all(|byte| byte.is_ascii_digit());
    let unit = if counts { unit } else { "" };
    let variable = variable.as_deref().unwrap_or_default();
    [path, &short(value), unit, &short(default), &source.to_string(), variable].map(str::to_owned)
}

/// A long list by its first item and its length: the table would be too wide to be read.
fn short(value: &str) -> String {
    match value.split_once(", ") {
        Some((first, rest)) if value.len() > LIST_CHARACTERS_MAX => {
            format!("{first}, and {} more", rest.split(", ").count())
        }
        _ => value.to_owned(),
    }
}

fn line(cells: &[String; 6], widths: &[usize; 6]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        write!(line, "{cell:width$}  ").expect("a text takes every character");
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}
