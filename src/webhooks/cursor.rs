//! Where cursors are kept, and under which names: by whoever owns the partitions and appends to them.
//!
//! A cursor moves only after the subscriber answered: a crash in between repeats deliveries, which the
//! receiver drops by `webhook-id`. The other order would lose some in silence.

use std::fmt;
use std::future::Future;

use crate::domain::{AppId, MAIN};
use crate::journal::{Cursor, Partition, Place};

/// What the names of the cursors of all subscriptions begin with.
pub const CURSORS: &str = "webhook/";

/// The name of a subscription's cursors, or of those of a replay: `webhook/<app>`, `/<subscription>`
/// behind it unless that is [`MAIN`], and `/replay/<number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorName<'a> {
    /// The app.
    pub app: AppId,
    /// The subscription's name in it.
    pub subscription: &'a str,
    /// Which replay of it.
    pub replay: Option<u32>,
}

impl<'a> CursorName<'a> {
    /// The name for the subscription itself.
    pub fn of(app: AppId, subscription: &'a str) -> Self {
        Self { app, subscription, replay: None }
    }

    /// Whose cursors are called `name`, if they are those of a subscription.
    pub fn parse(name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix(CURSORS)?;
        let (rest, replay) = match rest.rsplit_once("/replay/") {
            Some((rest, number)) => (rest, Some(number.parse().ok()?)),
            None => (rest, None),
        };
        let (app, subscription) = rest.split_once('/').unwrap_or((rest, MAIN));
        let app = AppId(app.parse().ok()?);
        (!subscription.contains('/')).then_some(Self { app, subscription, replay })
    }

    /// What it is called where the app is known.
    pub fn label(&self) -> String {
        match self.replay {
            Some(number) => format!("{}/replay/{number}", self.subscription),
            None => self.subscription.to_owned(),
        }
    }
}

impl fmt::Display for CursorName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CURSORS}{}", self.app)?;
        if self.subscription != MAIN {
            write!(f, "/{}", self.subscription)?;
        }
        self.replay.map_or(Ok(()), |number| write!(f, "/replay/{number}"))
    }
}

/// Why a cursor could not be read or saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// The journal takes nothing at present. Try again later.
    #[error("the cursor cannot be saved at present: {0}")]
    Unavailable(String),
    /// As many others are kept as can be. Nobody was told that a subscription has a place that has none.
    #[error("there is no room for the cursor")]
    NoRoom,
}

/// The keeper of cursors.
///
/// The futures are awaited on the thread of the followers and need not be `Send`.
pub trait Cursors: Clone + Send + 'static {
    /// The last durable cursor of `subscription` in `partition`, `None` if there never was one; and
    /// the end of the partition at present, where a subscription that is new there begins.
    fn load(
        &self,
        partition: Partition,
        subscription: &str,
    ) -> impl Future<Output = Result<(Option<Cursor>, Place), CursorError>>;

    /// Makes a cursor durable; resolves once it is.
    fn save(
        &self,
        partition: Partition,
        subscription: &str,
        cursor: Cursor,
    ) -> impl Future<Output = Result<(), CursorError>>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged;

    #[test]
    fn a_cursors_name_tells_whose_it_is() {
        let app = AppId(7);
        for (text, subscription, replay) in [
            ("webhook/7", MAIN, None),
            ("webhook/7/crm", "crm", None),
            ("webhook/7/replay", "replay", None),
            ("webhook/7/replay/3", MAIN, Some(3)),
            ("webhook/7/crm/replay/3", "crm", Some(3)),
            ("webhook/7/replay/replay/3", "replay", Some(3)),
        ] {
            let name = CursorName { app, subscription, replay };
            assert_eq!(CursorName::parse(text), Some(name), "{text}");
            assert_eq!(name.to_string(), text);
        }
        for other in ["audit/7", "webhook/", "webhook/x", "webhook/7/a/b", "webhook/7/a/replay/x"] {
            assert_eq!(CursorName::parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_was_damaged_is_a_name_or_none(
            name in damaged(vec![b"webhook/7".into(), b"webhook/7/crm/replay/3".into()]),
        ) {
            let text = String::from_utf8_lossy(&name);
            if let Some(name) = CursorName::parse(&text) {
                let again = name.to_string();
                prop_assert_eq!(CursorName::parse(&again), Some(name));
            }
        }
    }
}
