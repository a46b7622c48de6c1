//! How settings are found: the file first, then the environment, everything checked and noted once.
//!
//! A [`Section`] is a struct whose fields are settings. The macro `section!` is the one table that
//! a setting stands in: its name, kind, default, limits, unit, variable and explanation. Reading,
//! refusing and printing all follow from there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Place, nearest};
use super::value::Value;

/// The variables of the process, or of a test.
pub type Environment = BTreeMap<String, String>;

/// What the names of all variables begin with.
pub(super) const PREFIX: &str = "CORDON_";

/// One line of the table of settings.
pub(super) struct Rule<T> {
    pub(super) name: &'static str,
    pub(super) about: &'static [&'static str],
    pub(super) default: T,
    pub(super) range: Option<RangeInclusive<u64>>,
    pub(super) unit: &'static str,
    pub(super) variable: Option<&'static str>,
}

/// Settings that stand together in one table of the file.
pub(super) trait Section: Sized {
    fn read(scope: &mut Scope<'_, '_>) -> Self;
}

/// Settings that stand in several tables of the file, among others.
pub(super) trait Part: Sized {
    fn read(table: &mut impl Settings) -> Self;
}

/// A table of the file while its settings are read.
pub(super) trait Settings {
    /// Reads one setting. A fault is noted, and the default stands in.
    fn setting<T: Value>(&mut self, rule: Rule<T>) -> T;
}

/// Declares sections. A setting may limit its numbers (`in 1..=9`), name its unit (`unit "ms"`),
/// and have a variable that does not follow from its name (`env "CORDON_…"`). Behind its settings come the
/// tables inside its own (`with`), or the parts that it is made of (`flat`).
macro_rules! section {
    ($(
        $(#[doc = $about:literal])+
        pub struct $section:ident {
            $(
                $(#[doc = $doc:literal])+
                $name:ident: $kind:ty = $default:expr
                $(, in $range:expr)? $(, unit $unit:literal)? $(, env $variable:literal)?;
            )*
        } $(with {
            $( $(#[doc = $nested_doc:literal])+ $nested:ident: $nested_section:ty; )*
        })? $(flat {
            $( $(#[doc = $part_doc:literal])+ $part:ident: $part_kind:ty; )*
        })?
    )+) => {$(
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $section {
            $( $(#[doc = $doc])+ pub $name: $kind, )*
            $($( $(#[doc = $nested_doc])+ pub $nested: $nested_section, )*)?
            $($( $(#[doc = $part_doc])+ pub $part: $part_kind, )*)?
        }

        impl $crate::config::scope::Section for $section {
            fn read(scope: &mut $crate::config::scope::Scope<'_, '_>) -> Self {
                Self {
                    $( $name: $crate::config::scope::Settings::setting(scope, $crate::config::scope::Rule {
                        name: stringify!($name),
                        about: &[$($doc),+],
                        default: $default,
                        range: [$($range)?].into_iter().next(),
                        unit: concat!($($unit)?),
                        variable: [$($variable)?].into_iter().next(),
                    }), )*
                    $($( $nested: scope.section(stringify!($nested)), )*)?
                    $($( $part: $crate::config::scope::Part::read(scope), )*)?
                }
            }
        }

        impl Default for $section {
            fn default() -> Self {
                Self {
                    $( $name: $default, )*
                    $($( $nested: <$nested_section>::default(), )*)?
                    $($( $part: <$part_kind>::default(), )*)?
                }
            }
        }
    )+};
}
pub(super) use section;

/// Declares parts, each setting as in a section.
macro_rules! part {
    ($(
        $(#[doc = $about:literal])+
        pub struct $part:ident {
            $(
                $(#[doc = $doc:literal])+
                $name:ident: $kind:ty = $default:expr
                $(, in $range:expr)? $(, unit $unit:literal)?;
            )*
        }
    )+) => {$(
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $part {
            $( $(#[doc = $doc])+ pub $name: $kind, )*
        }

        impl $crate::config::scope::Part for $part {
            fn read(table: &mut impl $crate::config::scope::Settings) -> Self {
                Self {
                    $( $name: table.setting($crate::config::scope::Rule {
                        name: stringify!($name),
                        about: &[$($doc),+],
                        default: $default,
                        range: [$($range)?].into_iter().next(),
                        unit: concat!($($unit)?),
                        variable: None,
                    }), )*
                }
            }
        }

        impl Default for $part {
            fn default() -> Self {
                Self { $( $name: $default, )* }
            }
        }
    )+};
}
pub(super) use part;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The file.
    File,
    /// A variable.
    Environment,
}

/// One setting as it is in force, for people: secrets are masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its place in the file, like `http.workers`.
    pub path: String,
    /// What is in force.
    pub value: String,
    /// The unit of the limits; empty if there are none.
    pub unit: &'static str,
    /// What holds when nobody sets it.
    pub default: String,
    /// The limits, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// Where the value came from.
    pub source: Source,
    /// The variable that sets it, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// What it is for.
    pub about: String,
    /// Where the value stands.
    #[serde(skip)]
    pub place: Place,
}

/// Which variables a scope listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listens {
    /// To the variable of each setting.
    All,
    /// To none but this one.
    Only(&'static str),
}

/// What is known while settings are read.
pub(super) struct Loader<'a> {
    file: Option<(&'a str, &'a str)>,
    environment: &'a Environment,
    variables: BTreeSet<String>,
    heard: BTreeSet<String>,
    unheard: BTreeSet<String>,
    pub(super) settings: Vec<Setting>,
    pub(super) faults: Vec<Fault>,
}

impl<'a> Loader<'a> {
    /// Reads `file`, its name and text, beside `environment`.
    pub(super) fn new(file: Option<(&'a str, &'a str)>, environment: &'a Environment) -> Self {
        Self {
            file,
            environment,
            variables: BTreeSet::new(),
            heard: BTreeSet::new(),
            unheard: BTreeSet::new(),
            settings: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// The variable `name`. An empty one counts as not set: that is how compose files and units
    /// leave one out.
    pub(super) fn variable(&mut self, name: &str) -> Option<&'a str> {
        self.variables.insert(name.to_owned());
        self.environment.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The variables that are set, that some app could listen to, and that none did.
    pub(super) fn unheard(&self) -> Vec<String> {
        self.unheard.difference(&self.heard).cloned().collect()
    }

    /// The line of the file at which the byte `at` stands.
    pub(super) fn line(&self, at: usize) -> Place {
        let (name, text) = self.file.expect("only a file has bytes to point at");
        let before = text.as_bytes().iter().take(at);
        Place::Line(name.to_owned(), 1 + before.filter(|byte| **byte == b'\n').count())
    }

    pub(super) fn refuse(&mut self, place: Place, setting: &str, reason: impl Into<String>) {
        self.faults.push(Fault { place, setting: setting.to_owned(), reason: reason.into() });
    }

    /// Refuses every variable of ours that no setting asked for.
    pub(super) fn refuse_unknown_variables(&mut self) {
        for (name, value) in self.environment {
            let ours = name.starts_with(PREFIX) && !is_service_link(name, value);
            if ours && !self.variables.contains(name) {
                let known = self.variables.iter().map(String::as_str);
                let reason = unknown(name, known, "variable");
                self.refuse(Place::Variable(name.clone()), "", reason);
            }
        }
    }
}

/// Kubernetes puts the address of each service into every container: of one called `cordon`,
/// `CORDON_SERVICE_HOST`, `CORDON_PORT_8080_TCP` and more. Nobody meant those as settings.
fn is_service_link(name: &str, value: &str) -> bool {
    let numbered = name.split("_PORT_").skip(1).any(|rest| rest.starts_with(char::is_numeric));
    let link = name.ends_with("_PORT") && (value.contains("://"));
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || link || numbered
}

fn unknown<'n>(name: &str, known: impl Iterator<Item = &'n str>, what: &str) -> String {
    match nearest(name, known) {
        Some(nearest) => format!("there is no such {what}; did you mean {nearest}?"),
        None => format!("there is no such {what}"),
    }
}

/// One table of the file while its settings are read.
pub(super) struct Scope<'l, 'a> {
    loader: &'l mut Loader<'a>,
    path: String,
    prefix: String,
    table: Option<&'a DeTable<'a>>,
    listens: Listens,
    known: Vec<&'static str>,
}

impl<'l, 'a> Scope<'l, 'a> {
    /// The scope of `table`, which stands at `path` and whose variables begin with `prefix`.
    pub(super) fn new(
        loader: &'l mut Loader<'a>,
        path: String,
        prefix: String,
        table: Option<&'a DeTable<'a>>,
        listens: Listens,
    ) -> Self {
        Self { loader, path, prefix, table, listens, known: Vec::new() }
    }

    /// Reads the section `name` inside this one.
    pub(super) fn section<S: Section>(&mut self, name: &'static str) -> S {
        let path = self.path_of(name);
        let table = self.entry(name).and_then(|value| {
            if value.get_ref().as_table().is_none() {
                let place = self.loader.line(value.span().start);
                self.loader.refuse(place, &path, format!("it is a table: [{path}]"));
            }
            value.get_ref().as_table()
        });
        let prefix = format!("{PREFIX}{}_", name.to_uppercase());
        let mut scope = Scope::new(self.loader, path, prefix, table, self.listens);
        let section = S::read(&mut scope);
        scope.refuse_unknown();
        section
    }

    /// The entry `name` as it stands in the file.
    pub(super) fn entry(&mut self, name: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(name);
        self.table?.get(name)
    }

    /// Refuses whatever in the table is not a setting.
    pub(super) fn refuse_unknown(self) {
        for (name, _) in self.table.into_iter().flatten() {
            if !self.known.contains(&name.get_ref().as_ref()) {
                let reason = unknown(name.get_ref(), self.known.iter().copied(), "setting");
                let place = self.loader.line(name.span().start);
                let path = self.path_of(name.get_ref());
                self.loader.refuse(place, &path, reason);
            }
        }
    }

    /// What is known so far, for a look at the file beyond this table.
    pub(super) fn loader(&mut self) -> &mut Loader<'a> {
        self.loader
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// All faults are found in one go.
impl Settings for Scope<'_, '_> {
    fn setting<T: Value>(&mut self, rule: Rule<T>) -> T {
        let path = self.path_of(rule.name);
        let systematic = || format!("{}{}", self.prefix, rule.name.to_uppercase());
        let variable = rule.variable.map_or_else(systematic, str::to_owned);
        let mut found = (rule.default.clone(), Source::Default);
        let mut stands = Place::Nowhere;

        if let Some(value) = self.entry(rule.name) {
            let place = self.loader.line(value.span().start);
            match within(T::from_toml(value.get_ref()), rule.range.as_ref(), rule.unit) {
                Ok(value) => (found, stands) = ((value, Source::File), place),
                Err(reason) => self.loader.refuse(place, &path, reason),
            }
        }
        let heard = match self.listens {
            Listens::All => true,
            Listens::Only(name) => name == variable,
        };
        match self.loader.variable(&variable) {
            Some(text) if heard => {
                self.loader.heard.insert(variable.clone());
                let place = Place::Variable(variable.clone());
                match within(T::from_text(text.trim()), rule.range.as_ref(), rule.unit) {
                    Ok(value) => (found, stands) = ((value, Source::Environment), place),
                    Err(reason) => self.loader.refuse(place, &path, reason),
                }
            }
            Some(_) => drop(self.loader.unheard.insert(variable.clone())),
            None => {}
        }

        let (value, source) = found;
        self.loader.settings.push(Setting {
            path,
            value: value.show(),
            unit: rule.unit,
            default: rule.default.show(),
            allowed: rule.range.as_ref().map(limits::<T>),
            source,
            variable: heard.then_some(variable),
            about: rule.about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "),
            place: stands,
        });
        value
    }
}

/// A value that was read, if it is within its limits; otherwise what is allowed.
pub(super) fn within<T: Value>(
    value: Result<T, String>,
    range: Option<&RangeInclusive<u64>>,
    unit: &str,
) -> Result<T, String> {
    let Some(range) = range else { return value };
    let allowed = || format!("allowed: {} {unit}", limits::<T>(range)).trim_end().to_owned();
    match value {
        Ok(value) if range.contains(&value.size()) => Ok(value),
        Ok(_) => Err(format!("it is out of range; {}", allowed())),
        Err(reason) => Err(format!("{reason}; {}", allowed())),
    }
}

fn limits<T: Value>(range: &RangeInclusive<u64>) -> String {
    format!("{} to {}", T::show_size(*range.start()), T::show_size(*range.end()))
}
