//! How a user is named on the command line.

use anyhow::bail;

use super::app_id;
use crate::domain::{AppId, UserId, UserKey};

/// A user as people name one: `USER`, or `APP/USER` as this program prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserArg {
    /// The text as a whole, if it can be a UserID.
    whole: Option<UserId>,
    /// What stands around its first slash, if that can be an app and a UserID.
    parts: Option<UserKey>,
}

impl UserArg {
    /// The user, and the app if one is named. A UserID may look like an app and a user itself: beside
    /// another `app` it is taken as it stands. Errors: then it is too long.
    pub fn beside(self, app: Option<AppId>) -> anyhow::Result<(Option<AppId>, UserId)> {
        match (self.parts, self.whole) {
            (Some(key), _) if app.is_none_or(|app| app == key.app) => Ok((Some(key.app), key.user)),
            (_, Some(whole)) => Ok((app, whole)),
            (_, None) => bail!("--app and the app in front of the user are not the same"),
        }
    }
}

pub(super) fn user(text: &str) -> Result<UserArg, String> {
    let parts = || {
        let (app, user) = text.split_once('/')?;
        Some(UserKey { app: app_id(app).ok()?, user: UserId::parse(user).ok()? })
    };
    match (UserId::parse(text), parts()) {
        (Err(error), None) => Err(error.to_string()),
        (whole, parts) => Ok(UserArg { whole: whole.ok(), parts }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_alone_or_behind_an_app() {
        let id = |text| UserId::parse(text).unwrap();
        let long = "x".repeat(32);
        let seven = Some(AppId(7));
        for (text, app, named) in [
            ("amy", None, Some((None, id("amy")))),
            ("amy", seven, Some((seven, id("amy")))),
            ("7/amy", None, Some((seven, id("amy")))),
            ("7/amy", seven, Some((seven, id("amy")))),
            // The UserID of somebody in another app.
            ("7/amy", Some(AppId(8)), Some((Some(AppId(8)), id("7/amy")))),
            ("7/7/amy", seven, Some((seven, id("7/amy")))),
            ("0/amy", None, Some((None, id("0/amy")))),
            (&format!("7/{long}"), None, Some((seven, id(&long)))),
            (&format!("7/{long}"), Some(AppId(8)), None),
        ] {
            assert_eq!(user(text).unwrap().beside(app).ok(), named, "{text} of {app:?}");
        }
        assert!(user("").is_err() && user(&format!("{long}x")).is_err());
    }
}
