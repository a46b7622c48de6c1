//! Which apps there are, and which of them the variables are about.
//!
//! The variables are about the app that `CORDON_APP_ID` names, whether it stands in the file or
//! not; without it, about the only app of the file; without any app, about the development app.

use std::collections::BTreeSet;

use toml::de::DeTable;

use super::app::App;
use super::fault::Place;
use super::scope::{Environment, Listens, Loader, PREFIX, Scope, Section};
use super::value::Value;
use crate::domain::AppId;

const ID_VARIABLE: &str = "CORDON_APP_ID";
const KEY_VARIABLE: &str = "CORDON_APP_KEY";
/// The one variable that every app listens to.
const SHARED_VARIABLE: &str = "CORDON_RATE_LIMITS";

/// The app that the variables of `environment` are about, if one of them says so.
pub fn meant_app(environment: &Environment) -> Option<AppId> {
    AppId::from_text(environment.get(ID_VARIABLE)?.trim()).ok()
}

/// The table of one app, and the line it begins at.
pub(super) struct AppTable<'a> {
    table: &'a DeTable<'a>,
    place: Place,
}

/// The tables `[[app]]` of the file.
pub(super) fn tables<'a>(root: &mut Scope<'_, 'a>) -> Vec<AppTable<'a>> {
    let Some(value) = root.entry("app") else { return Vec::new() };
    let loader = root.loader();
    let item = |at: usize, table: Option<&'a DeTable<'a>>| {
        Some(AppTable { table: table?, place: loader.line(at) })
    };
    let tables = value.get_ref().as_array().and_then(|items| {
        items.iter().map(|each| item(each.span().start, each.get_ref().as_table())).collect()
    });
    tables.unwrap_or_else(|| {
        let place = loader.line(value.span().start);
        loader.refuse(place, "app", "each app is a table of its own: [[app]]");
        Vec::new()
    })
}

/// Reads the apps of the file and the one of the environment; and what the environment says about
/// an app that has no id yet.
pub(super) fn read<'a>(loader: &mut Loader<'a>, tables: &[AppTable<'a>]) -> (Vec<App>, App) {
    let named = loader.variable(ID_VARIABLE).map(str::trim);
    let meant = match named {
        Some(text) => {
            tables.iter().position(|table| id_of(table).is_some_and(|id| id.to_string() == text))
        }
        None => (tables.len() == 1).then_some(0),
    };
    let mut apps = Vec::new();
    for (index, AppTable { table, place }) in tables.iter().enumerate() {
        let listens =
            if meant == Some(index) { Listens::All } else { Listens::Only(SHARED_VARIABLE) };
        apps.push((read_app(loader, id_of(&tables[index]), Some(table), listens), place.clone()));
    }
    let mut nameless = App::default();
    if let Some(text) = named.filter(|_| meant.is_none()) {
        let app = read_app(loader, AppId::from_text(text).ok(), None, Listens::All);
        apps.push((app, Place::Variable(ID_VARIABLE.to_owned())));
    } else if tables.is_empty() {
        nameless = read_app(loader, None, None, Listens::All);
    }
    refuse_unheard(loader);
    // What is missing is looked for only where nothing is wrong already: a default may stand in.
    if loader.faults.is_empty() {
        check(loader, &apps, &nameless);
    }
    (apps.into_iter().map(|(app, _)| app).collect(), nameless)
}

fn read_app<'a>(
    loader: &mut Loader<'a>,
    id: Option<AppId>,
    table: Option<&'a DeTable<'a>>,
    listens: Listens,
) -> App {
    let path = id.map_or_else(|| "app".to_owned(), |id| format!("app.{id}"));
    let mut scope = Scope::new(loader, path, format!("{PREFIX}APP_"), table, listens);
    let app = App::read(&mut scope);
    scope.refuse_unknown();
    app
}

fn id_of(app: &AppTable<'_>) -> Option<AppId> {
    AppId::from_toml(app.table.get("id")?.get_ref()).ok()
}

/// Refuses variables that no app listens to, because there are several and none was named.
fn refuse_unheard(loader: &mut Loader<'_>) {
    for name in loader.unheard() {
        let reason = format!("there are several apps; {ID_VARIABLE} says which one is meant");
        loader.refuse(Place::Variable(name), "", reason);
    }
}

fn check(loader: &mut Loader<'_>, apps: &[(App, Place)], nameless: &App) {
    if !nameless.keys.is_empty() {
        let place = Place::Variable(KEY_VARIABLE.to_owned());
        loader.refuse(place, "", format!("{ID_VARIABLE} is missing: whose key is it?"));
    }
    let mut ids = BTreeSet::new();
    for (app, place) in apps {
        let mut refuse = |setting: &str, reason: &str| {
            loader.refuse(place.clone(), &format!("app.{setting}"), reason);
        };
        if app.id == AppId(0) {
            refuse("id", "an app has an SDKAppID");
        } else if !ids.insert(app.id) {
            refuse("id", "there is an app with this SDKAppID already");
        }
        if app.keys.is_empty() {
            refuse("keys", &format!("an app has at least one key; {KEY_VARIABLE} can set it, too"));
        }
        for (setting, reason) in app.webhook.conflicts() {
            refuse(&format!("webhook.{setting}"), reason);
        }
        let names = app.webhook.others.subscription.iter().map(|subscription| &subscription.name);
        let distinct: BTreeSet<_> = names.collect();
        if distinct.len() < app.webhook.others.subscription.len() {
            refuse("webhook.subscription", "two subscriptions have the same name");
        }
    }
}
