//! How often each command may be called.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::value::Value;

/// The name under which the table limits an app as a whole.
const WHOLE_APP: &str = "app_per_second";

/// The largest limit that can be set.
const PER_SECOND_MAX: u32 = 10_000_000;

/// The commands of the API, `service/command`, with the calls per second that an app may make.
///
/// Rule: rest-api.md 1.6.
pub const COMMANDS: [(&str, u32); 34] = [
    ("sns/black_list_add", 200),
    ("sns/black_list_delete", 200),
    ("sns/black_list_get", 200),
    ("sns/black_list_check", 200),
    ("sns/friend_add", 200),
    ("sns/friend_import", 200),
    ("sns/friend_update", 200),
    ("sns/friend_delete", 200),
    ("sns/friend_delete_all", 200),
    ("sns/friend_check", 200),
    ("sns/friend_get", 200),
    ("sns/friend_get_list", 200),
    ("sns/friend_response", 200),
    ("sns/group_add", 200),
    ("sns/group_delete", 200),
    ("sns/group_get", 200),
    ("sns/pendency_get", 200),
    ("sns/message_check", 200),
    ("im_open_login_svc/account_import", 200),
    ("im_open_login_svc/multiaccount_import", 100),
    ("im_open_login_svc/account_delete", 100),
    ("im_open_login_svc/account_check", 200),
    ("profile/portrait_set", 200),
    ("profile/portrait_get", 200),
    ("openim/sendmsg", 200),
    ("openim/batchsendmsg", 200),
    ("webhook/subscription_set", 20),
    ("webhook/subscription_list", 20),
    ("webhook/subscription_test", 20),
    ("webhook/subscription_seek", 20),
    ("webhook/replay_start", 20),
    ("webhook/replay_list", 20),
    ("webhook/replay_end", 20),
    ("webhook/subscription_delete", 20),
];

/// How often an app may call: not limited, or so often per second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateLimits {
    /// No limits at all.
    Off,
    /// The limits of [`COMMANDS`], and what was set instead of them.
    On {
        /// All calls of the app together, per second; no limit by default.
        app_per_second: Option<u32>,
        /// Other limits than those of the table, per second; none for a command that is not
        /// limited.
        changed: BTreeMap<String, Option<u32>>,
    },
}

impl Default for RateLimits {
    fn default() -> Self {
        Self::On { app_per_second: None, changed: BTreeMap::new() }
    }
}

impl RateLimits {
    /// How often `command`, written `service/command`, may be called per second, if that is
    /// limited.
    pub fn per_second(&self, command: &str) -> Option<u32> {
        let Self::On { changed, .. } = self else { return None };
        let default =
            || COMMANDS.iter().find(|(name, _)| *name == command).map(|(_, limit)| *limit);
        changed.get(command).copied().unwrap_or_else(default)
    }

    /// How often the app as a whole may call per second, if that is limited.
    pub fn app_per_second(&self) -> Option<u32> {
        match self {
            Self::Off => None,
            Self::On { app_per_second, .. } => *app_per_second,
        }
    }

    fn with<'t>(
        entries: impl Iterator<Item = (&'t str, Result<Limit, String>)>,
    ) -> Result<Self, String> {
        let (mut app_per_second, mut changed) = (None, BTreeMap::new());
        for (name, limit) in entries {
            let limit = limit.map_err(|reason| format!("{name}: {reason}"))?;
            if name == WHOLE_APP {
                app_per_second = limit.0;
            } else if COMMANDS.iter().any(|(known, _)| *known == name) {
                changed.insert(name.to_owned(), limit.0);
            } else {
                return Err(format!(
                    "there is no command {name}; a limit is for one like sns/friend_add, or \
                     {WHOLE_APP} for all together"
                ));
            }
        }
        Ok(Self::On { app_per_second, changed })
    }
}

impl Value for RateLimits {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::default()),
            limits if limits.contains('=') => {
                let entries =
                    limits.split(',').map(|entry| entry.split_once('=').unwrap_or((entry, "")));
                Self::with(
                    entries.map(|(name, limit)| (name.trim(), Limit::from_text(limit.trim()))),
                )
            }
            _ => Err("it is on, off, or limits like sns/friend_add=400".to_owned()),
        }
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::Table(table) => {
                Self::with(table.iter().map(|(name, limit)| {
                    (name.get_ref().as_ref(), Limit::from_toml(limit.get_ref()))
                }))
            }
            DeValue::String(text) => Self::from_text(text),
            _ => Err("it is \"on\", \"off\", or a table of limits".to_owned()),
        }
    }

    fn show(&self) -> String {
        let Self::On { app_per_second, changed } = self else { return "off".to_owned() };
        let app = app_per_second.map(|limit| (WHOLE_APP, Limit(Some(limit))));
        let changed = changed.iter().map(|(name, limit)| (name.as_str(), Limit(*limit)));
        let shown: Vec<_> = app
            .into_iter()
            .chain(changed)
            .map(|(name, limit)| format!("{name}={}", limit.show()))
            .collect();
        if shown.is_empty() { "on".to_owned() } else { shown.join(", ") }
    }
}

/// One limit per second, or none.
#[derive(Clone, Copy)]
struct Limit(Option<u32>);

impl Value for Limit {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(limit) if (1..=PER_SECOND_MAX).contains(&limit) => Ok(Self(Some(limit))),
            _ if text == "off" => Ok(Self(None)),
            _ => Err(format!("a limit is \"off\", or 1 to {PER_SECOND_MAX} per second")),
        }
    }

    fn show(&self) -> String {
        self.0.map_or_else(|| "off".to_owned(), |limit| limit.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule: rest-api.md 1.6.
    #[test]
    fn limits_are_those_of_the_reference_unless_set() {
        let limits = RateLimits::default();
        assert_eq!(limits.per_second("sns/black_list_add"), Some(200));
        assert_eq!(limits.per_second("im_open_login_svc/multiaccount_import"), Some(100));
        assert_eq!(limits.per_second("no/such_command"), None);
        assert_eq!(limits.app_per_second(), None);
        assert_eq!(RateLimits::Off.per_second("sns/black_list_add"), None);
    }

    #[test]
    fn limits_in_a_variable_are_read_as_they_are_shown() {
        for text in ["on", "off", "app_per_second=9, openim/sendmsg=off, sns/friend_add=400"] {
            assert_eq!(RateLimits::from_text(text).unwrap().show(), text);
        }
        for text in ["yes", "sns/friend_add=0", "sns/friend_add=-1", "friend_add=3", "=", ""] {
            assert!(RateLimits::from_text(text).is_err(), "{text}");
        }
    }
}
