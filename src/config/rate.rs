//! How often each command may be called.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::value::Value;

/// The name under which the table limits an app as a whole.
const WHOLE_APP: &str = "app_per_second";

/// The largest limit that can be set: the buckets of the edge hold no more.
const PER_SECOND_MAX: u32 = 1_000_000;

/// The commands that can have a limit of their own, `service/command`, in the order of the edge's
/// route table. Their limits where nobody sets one stand there.
pub const COMMANDS: [&str; 38] = [
    "sns/black_list_add",
    "sns/black_list_delete",
    "sns/black_list_get",
    "sns/black_list_check",
    "sns/friend_add",
    "sns/friend_import",
    "sns/friend_update",
    "sns/friend_delete",
    "sns/friend_delete_all",
    "sns/friend_check",
    "sns/friend_get",
    "sns/friend_get_list",
    "sns/friend_response",
    "sns/pendency_get",
    "sns/group_add",
    "sns/group_delete",
    "sns/group_get",
    "sns/message_check",
    "im_open_login_svc/account_import",
    "im_open_login_svc/multiaccount_import",
    "im_open_login_svc/account_delete",
    "im_open_login_svc/account_check",
    "profile/portrait_set",
    "profile/portrait_get",
    "openim/sendmsg",
    "openim/batchsendmsg",
    "webhook/subscription_set",
    "webhook/subscription_list",
    "webhook/subscription_test",
    "webhook/subscription_seek",
    "webhook/replay_start",
    "webhook/replay_list",
    "webhook/replay_end",
    "webhook/events_get",
    "webhook/deliveries_get",
    "webhook/dead_letters_get",
    "webhook/status_get",
    "webhook/subscription_delete",
];

/// How often an app may call: not limited, or so often per second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateLimits {
    /// No limits at all.
    Off,
    /// The limits that the commands have by themselves, and what was set instead of them.
    On {
        /// All calls of the app together, per second; no limit by default.
        app_per_second: Option<u32>,
        /// Other limits of some [`COMMANDS`], per second; none for a command that is not limited.
        changed: BTreeMap<String, Option<u32>>,
    },
}

impl Default for RateLimits {
    fn default() -> Self {
        Self::On { app_per_second: None, changed: BTreeMap::new() }
    }
}

impl RateLimits {
    fn with<'t>(
        entries: impl Iterator<Item = (&'t str, Result<Limit, String>)>,
    ) -> Result<Self, String> {
        let (mut app_per_second, mut changed) = (None, BTreeMap::new());
        for (name, limit) in entries {
            let limit = limit.map_err(|reason| format!("{name}: {reason}"))?;
            if name == WHOLE_APP {
                app_per_second = limit.0;
            } else if COMMANDS.contains(&name) {
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

    #[test]
    fn limits_in_a_variable_are_read_as_they_are_shown() {
        for text in ["on", "off", "app_per_second=9, openim/sendmsg=off, sns/friend_add=400"] {
            assert_eq!(RateLimits::from_text(text).unwrap().show(), text);
        }
        for text in [
            "yes",
            "sns/friend_add=0",
            "sns/friend_add=-1",
            "sns/friend_add=1000001",
            "friend_add=3",
            "=",
            "",
        ] {
            assert!(RateLimits::from_text(text).is_err(), "{text}");
        }
    }
}
