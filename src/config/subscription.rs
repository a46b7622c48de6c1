//! Subscriptions beside the main one: tables `[[app.webhook.subscription]]` of the file.

use toml::de::{DeTable, DeValue};

use super::scope::{Part, Rule, Settings, within};
use super::together::delivery_conflicts;
use super::value::Value;
use super::webhook::{Before, Delivery, Receiver};
use crate::domain::{MAIN, is_subscription_name};

/// One further subscriber of an app's events. Its fields mean what they mean in `[app.webhook]`.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSubscription {
    /// What it is called in its app: 1 to 32 of `a` to `z`, digits and `-`, and not `main`.
    pub name: String,
    /// Where deliveries go; one without an address is only pulled.
    pub receiver: Receiver,
    /// What is delivered, and how.
    pub delivery: Delivery,
    /// What is asked before the fact.
    pub before: Before,
}

/// Reads the fields of one table, and knows which there are.
struct Fields<'t, 'a> {
    table: &'t DeTable<'a>,
    known: Vec<&'static str>,
    /// The first that is wrong, and why.
    fault: Option<String>,
}

impl Settings for Fields<'_, '_> {
    fn setting<T: Value>(&mut self, rule: Rule<T>) -> T {
        self.known.push(rule.name);
        let Some(value) = self.table.get(rule.name) else { return rule.default };
        match within(T::from_toml(value.get_ref()), rule.range.as_ref(), rule.unit) {
            Ok(value) => value,
            Err(reason) => {
                self.fault.get_or_insert(format!("{}: {reason}", rule.name));
                rule.default
            }
        }
    }
}

impl Fields<'_, '_> {
    /// The name, which has no default.
    fn name(&mut self) -> String {
        self.setting(Rule {
            name: "name",
            about: &[],
            default: String::new(),
            range: None,
            unit: "",
            variable: None,
        })
    }

    /// Errors: what is wrong first; or a field that there is not.
    fn finish(self) -> Result<(), String> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let unknown = self.table.iter().map(|(name, _)| name.get_ref());
        match unknown.into_iter().find(|name| !self.known.contains(&name.as_ref())) {
            Some(name) => Err(format!("there is no such setting: {name}")),
            None => Ok(()),
        }
    }
}

impl WebhookSubscription {
    fn of(table: &DeTable<'_>) -> Result<Self, String> {
        let mut fields = Fields { table, known: Vec::new(), fault: None };
        let read = Self {
            name: fields.name(),
            receiver: Receiver::read(&mut fields),
            delivery: Delivery::read(&mut fields),
            before: Before::read(&mut fields),
        };
        fields.finish()?;
        if !is_subscription_name(&read.name) {
            return Err("name: it is needed, with 1 to 32 of a to z, 0 to 9 and -".to_owned());
        }
        if read.name == MAIN {
            return Err("name: main is the one of [app.webhook] itself".to_owned());
        }
        if let Some((setting, reason)) = delivery_conflicts(&read.receiver, &read.delivery).first()
        {
            return Err(format!("{setting}: {reason}"));
        }
        Ok(read)
    }
}

impl Value for WebhookSubscription {
    fn from_text(_: &str) -> Result<Self, String> {
        Err("further subscriptions stand in the file: [[app.webhook.subscription]]".to_owned())
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::Table(table) => Self::of(table),
            _ => Err("each is a table of its own: [[app.webhook.subscription]]".to_owned()),
        }
    }

    fn show(&self) -> String {
        match &self.receiver.url {
            Some(url) => format!("{} ({url})", self.name),
            None => self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::domain::{FailurePolicy, Format};

    fn parse(subscriptions: &str) -> Result<Config, String> {
        let text = format!("[[app]]\nid = 7\nkeys = [\"k\"]\n{subscriptions}");
        let parsed = Config::parse(Some(("cordon.toml", &text)), &[].into());
        parsed.map_err(|error| error.to_string())
    }

    #[test]
    fn further_subscriptions_have_the_fields_of_the_main_one() {
        let config = parse(
            "[[app.webhook.subscription]]\nname = \"audit\"\nurl = \"http://127.0.0.1:9/a\"\n\
             secrets = [\"whsec_b\", \"whsec_a\"]\nformat = \"standard\"\n\
             commands = [\"Sns.CallbackFriendAdd\"]\n\
             policy = \"skip\"\nper_second = 5\n\
             [[app.webhook.subscription]]\nname = \"pulled\"\n",
        )
        .expect("fine settings");
        let [audit, pulled] = &config.apps[0].webhook.others.subscription[..] else {
            panic!("two")
        };
        assert_eq!((audit.name.as_str(), audit.delivery.per_second), ("audit", 5));
        assert_eq!(
            (audit.receiver.format, audit.delivery.policy),
            (Format::Standard, FailurePolicy::Skip)
        );
        assert_eq!((audit.delivery.commands.len(), audit.receiver.secrets.len()), (1, 2));
        assert!(pulled.receiver.url.is_none() && pulled.delivery.enabled);
        let shown = config.settings().iter().find(|s| s.path.ends_with("webhook.subscription"));
        assert_eq!(shown.expect("it is shown").value, "audit (http://127.0.0.1:9/a), pulled");
    }

    #[test]
    fn what_is_wrong_with_a_subscription_is_said_with_its_place() {
        let table = "[[app.webhook.subscription]]\n";
        for (text, reason) in [
            ("url = \"http://a\"", "item 1: name: it is needed"),
            ("name = \"A\"", "item 1: name: it is needed"),
            ("name = \"main\"", "item 1: name: main is the one of [app.webhook] itself"),
            (
                "name = \"a\"\ntimeout_ms = 1",
                "timeout_ms: it is out of range; allowed: 100 to 30000 ms",
            ),
            ("name = \"a\"\nurl = \"x\"", "url: an address looks like"),
            ("name = \"a\"\ncolour = 1", "there is no such setting: colour"),
            ("name = \"a\"\nformat = \"x\"", "format: it is one of: reference, standard"),
            ("name = \"a\"\nretry_min_ms = 20\nretry_max_ms = 10", "larger than retry_max_ms"),
            ("name = \"a\"\n[[app.webhook.subscription]]\nname = \"a\"", "two subscriptions"),
        ] {
            let error = parse(&format!("{table}{text}\n")).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn what_signs_deliveries_is_under_the_rules_of_the_main_subscription() {
        let at_most = "secrets: it is out of range; allowed: 0 to 4 secrets";
        for (fields, reason) in [
            ("token = \"t\"", None),
            ("format = \"standard\"\nsecrets = [\"whsec_a\"]", None),
            ("format = \"standard\"", Some("secrets: the format standard needs one")),
            (
                "format = \"standard\"\nsecrets = \"whsec_a\"\ntoken = \"t\"",
                Some("token: it goes with the format reference"),
            ),
            ("secrets = \"whsec_a\"", Some("secrets: they go with the format standard")),
            ("format = \"standard\"\nsecrets = \"a, b, c, d, e\"", Some(at_most)),
            ("retry_min_ms = 600_000", Some("retry_min_ms: it is larger than retry_max_ms")),
        ] {
            let fields = format!("url = \"http://a\"\n{fields}\n");
            for table in ["[app.webhook]", "[[app.webhook.subscription]]\nname = \"a\""] {
                match (parse(&format!("{table}\n{fields}")), reason) {
                    (Ok(_), None) => {}
                    (Err(error), Some(reason)) => {
                        assert!(error.contains(reason), "{table} {fields}: {error}");
                    }
                    (parsed, _) => panic!("{table} {fields}: {:?}", parsed.err()),
                }
            }
        }
    }
}
