//! Subscriptions beside the main one: tables `[[app.webhook.subscription]]` of the file.

use std::ops::RangeInclusive;

use toml::de::{DeTable, DeValue};

use super::app::WebhookCommand;
use super::scope::within;
use super::secret::{Secret, Url};
use super::together::Delivery;
use super::value::Value;
use crate::domain::{FailurePolicy, Fallback, Format, MAIN, is_subscription_name};

/// One further subscriber of an app's events. Its fields mean what they mean in `[app.webhook]`.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSubscription {
    /// What it is called in its app: 1 to 32 of `a` to `z`, digits and `-`, and not `main`.
    pub name: String,
    /// Where deliveries go; one without is only pulled.
    pub url: Option<Url>,
    /// What signs deliveries.
    pub token: Option<Secret>,
    /// The same, newest first, during a change of secrets.
    pub secrets: Vec<Secret>,
    /// What deliveries look like.
    pub format: Format,
    /// What it hears of.
    pub commands: Vec<WebhookCommand>,
    /// Off: deliveries wait.
    pub enabled: bool,
    /// Headers beside those of the format are sent.
    pub headers: bool,
    /// How long one delivery attempt may take.
    pub timeout_ms: u64,
    /// The wait before the second attempt.
    pub retry_min_ms: u64,
    /// The longest wait between two attempts.
    pub retry_max_ms: u64,
    /// One attempt per delivery.
    pub call_once: bool,
    /// What happens to a delivery that fails again and again.
    pub policy: FailurePolicy,
    /// Attempts after which the policy speaks.
    pub attempts_max: u32,
    /// Deliveries in flight at most.
    pub in_flight_max: u32,
    /// Deliveries per second at most; 0 for no limit.
    pub per_second: u32,
    /// How long a question before the fact may take.
    pub before_timeout_ms: u64,
    /// What holds when it is not answered in time.
    pub before_on_timeout: Fallback,
    /// When nobody is reached.
    pub before_on_unreachable: Fallback,
    /// When the answer has another status than 200.
    pub before_on_status: Fallback,
    /// When the answer cannot be read.
    pub before_on_malformed: Fallback,
    /// When too many questions are open.
    pub before_on_busy: Fallback,
}

/// Reads the fields of one table, and knows which there are.
struct Fields<'t, 'a> {
    table: &'t DeTable<'a>,
    known: Vec<&'static str>,
}

impl Fields<'_, '_> {
    fn read<T: Value>(&mut self, name: &'static str, otherwise: T) -> Result<T, String> {
        self.limited(name, None, "", otherwise)
    }

    fn within<T: Value>(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
        unit: &'static str,
        otherwise: T,
    ) -> Result<T, String> {
        self.limited(name, Some(range), unit, otherwise)
    }

    fn limited<T: Value>(
        &mut self,
        name: &'static str,
        range: Option<RangeInclusive<u64>>,
        unit: &'static str,
        otherwise: T,
    ) -> Result<T, String> {
        self.known.push(name);
        let Some(value) = self.table.get(name) else { return Ok(otherwise) };
        let value = within(T::from_toml(value.get_ref()), range.as_ref(), unit);
        value.map_err(|reason| format!("{name}: {reason}"))
    }

    fn refuse_unknown(self) -> Result<(), String> {
        let unknown = self.table.iter().map(|(name, _)| name.get_ref());
        match unknown.into_iter().find(|name| !self.known.contains(&name.as_ref())) {
            Some(name) => Err(format!("there is no such setting: {name}")),
            None => Ok(()),
        }
    }
}

impl WebhookSubscription {
    fn of(table: &DeTable<'_>) -> Result<Self, String> {
        let mut fields = Fields { table, known: Vec::new() };
        let allow = Fallback::Allow;
        let read = Self {
            name: fields.read("name", String::new())?,
            url: fields.read("url", None)?,
            token: fields.read("token", None)?,
            secrets: fields.within("secrets", 0..=4, "secrets", Vec::new())?,
            format: fields.read("format", Format::Reference)?,
            commands: fields.read("commands", WebhookCommand::AFTER.to_vec())?,
            enabled: fields.read("enabled", true)?,
            headers: fields.read("headers", true)?,
            timeout_ms: fields.within("timeout_ms", 100..=30_000, "ms", 2000)?,
            retry_min_ms: fields.within("retry_min_ms", 10..=600_000, "ms", 500)?,
            retry_max_ms: fields.within("retry_max_ms", 10..=86_400_000, "ms", 60_000)?,
            call_once: fields.read("call_once", false)?,
            policy: fields.read("policy", FailurePolicy::HoldUser)?,
            attempts_max: fields.within("attempts_max", 1..=1000, "attempts", 20)?,
            in_flight_max: fields.within("in_flight_max", 1..=1024, "deliveries", 64)?,
            per_second: fields.within("per_second", 0..=100_000, "deliveries", 0)?,
            before_timeout_ms: fields.within("before_timeout_ms", 100..=5000, "ms", 2000)?,
            before_on_timeout: fields.read("before_on_timeout", allow)?,
            before_on_unreachable: fields.read("before_on_unreachable", allow)?,
            before_on_status: fields.read("before_on_status", allow)?,
            before_on_malformed: fields.read("before_on_malformed", allow)?,
            before_on_busy: fields.read("before_on_busy", allow)?,
        };
        fields.refuse_unknown()?;
        if !is_subscription_name(&read.name) {
            return Err("name: it is needed, with 1 to 32 of a to z, 0 to 9 and -".to_owned());
        }
        if read.name == MAIN {
            return Err("name: main is the one of [app.webhook] itself".to_owned());
        }
        let delivery = Delivery {
            url: &read.url,
            format: read.format,
            token: &read.token,
            secrets: &read.secrets,
            retry_ms: (read.retry_min_ms, read.retry_max_ms),
        };
        if let Some((setting, reason)) = delivery.conflicts().first() {
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
        match &self.url {
            Some(url) => format!("{} ({url})", self.name),
            None => self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

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
        let [audit, pulled] = &config.apps[0].webhook.subscription[..] else { panic!("two") };
        assert_eq!((audit.name.as_str(), audit.per_second), ("audit", 5));
        assert_eq!((audit.format, audit.policy), (Format::Standard, FailurePolicy::Skip));
        assert_eq!((audit.commands.len(), audit.secrets.len()), (1, 2));
        assert!(pulled.url.is_none() && pulled.enabled);
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
