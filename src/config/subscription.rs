//! Subscriptions beside the main one: tables `[[app.webhook.subscription]]` of the file.

use toml::de::{DeTable, DeValue};

use super::app::WebhookCommand;
use super::secret::{Secret, Url};
use super::value::{Choice, Value};

/// One further subscriber of an app's events. Its fields mean what they mean in `[app.webhook]`.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSubscription {
    /// What it is called in its app: 1 to 32 of `a` to `z`, digits and `-`, and not `main`.
    pub name: String,
    /// Where deliveries go; one without is only pulled.
    pub url: Option<Url>,
    /// What signs deliveries.
    pub token: Option<Secret>,
    /// What deliveries look like.
    pub format: WebhookFormat,
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
    pub policy: WebhookPolicy,
    /// Attempts after which the policy speaks.
    pub attempts_max: u32,
    /// Deliveries in flight at most.
    pub in_flight_max: u32,
    /// Deliveries per second at most; 0 for no limit.
    pub per_second: u32,
    /// How long a question before the fact may take.
    pub before_timeout_ms: u64,
    /// What holds when it is not answered in time.
    pub before_on_timeout: WebhookFallback,
    /// When nobody is reached.
    pub before_on_unreachable: WebhookFallback,
    /// When the answer has another status than 200.
    pub before_on_status: WebhookFallback,
    /// When the answer cannot be read.
    pub before_on_malformed: WebhookFallback,
    /// When too many questions are open.
    pub before_on_busy: WebhookFallback,
}

/// What deliveries look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// As the reference makes them.
    Reference,
    /// As Standard Webhooks has them.
    Standard,
}

impl Choice for WebhookFormat {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("reference", Self::Reference), ("standard", Self::Standard)];
}

/// What happens to a delivery that fails again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookPolicy {
    /// Its user's deliveries wait.
    HoldUser,
    /// It is given up.
    Skip,
    /// The subscription stops.
    Halt,
}

impl Choice for WebhookPolicy {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("hold-user", Self::HoldUser), ("skip", Self::Skip), ("halt", Self::Halt)];
}

/// What a question without an answer counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFallback {
    /// The operation goes on.
    Allow,
    /// The operation is refused.
    Deny,
}

impl Choice for WebhookFallback {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("allow", Self::Allow), ("deny", Self::Deny)];
}

/// Reads the fields of one table, and knows which there are.
struct Fields<'t, 'a> {
    table: &'t DeTable<'a>,
    known: Vec<&'static str>,
}

impl Fields<'_, '_> {
    fn read<T: Value>(&mut self, name: &'static str, otherwise: T) -> Result<T, String> {
        self.known.push(name);
        match self.table.get(name) {
            Some(value) => {
                T::from_toml(value.get_ref()).map_err(|reason| format!("{name}: {reason}"))
            }
            None => Ok(otherwise),
        }
    }

    fn within<T: Value>(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<u64>,
        otherwise: T,
    ) -> Result<T, String> {
        let value = self.read(name, otherwise)?;
        if range.contains(&value.size()) {
            Ok(value)
        } else {
            Err(format!(
                "{name}: it is out of range; allowed: {} to {}",
                range.start(),
                range.end()
            ))
        }
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
        let allow = WebhookFallback::Allow;
        let read = Self {
            name: fields.read("name", String::new())?,
            url: fields.read("url", None)?,
            token: fields.read("token", None)?,
            format: fields.read("format", WebhookFormat::Reference)?,
            commands: fields.read("commands", WebhookCommand::AFTER.to_vec())?,
            enabled: fields.read("enabled", true)?,
            headers: fields.read("headers", true)?,
            timeout_ms: fields.within("timeout_ms", 100..=30_000, 2000)?,
            retry_min_ms: fields.within("retry_min_ms", 10..=600_000, 500)?,
            retry_max_ms: fields.within("retry_max_ms", 10..=86_400_000, 60_000)?,
            call_once: fields.read("call_once", false)?,
            policy: fields.read("policy", WebhookPolicy::HoldUser)?,
            attempts_max: fields.within("attempts_max", 1..=1000, 20)?,
            in_flight_max: fields.within("in_flight_max", 1..=1024, 64)?,
            per_second: fields.within("per_second", 0..=100_000, 0)?,
            before_timeout_ms: fields.within("before_timeout_ms", 100..=5000, 2000)?,
            before_on_timeout: fields.read("before_on_timeout", allow)?,
            before_on_unreachable: fields.read("before_on_unreachable", allow)?,
            before_on_status: fields.read("before_on_status", allow)?,
            before_on_malformed: fields.read("before_on_malformed", allow)?,
            before_on_busy: fields.read("before_on_busy", allow)?,
        };
        fields.refuse_unknown()?;
        if !is_name(&read.name) {
            return Err("name: it is needed, with 1 to 32 of a to z, 0 to 9 and -".to_owned());
        }
        if read.name == MAIN {
            return Err("name: main is the one of [app.webhook] itself".to_owned());
        }
        if read.retry_min_ms > read.retry_max_ms {
            return Err("retry_min_ms: it is larger than retry_max_ms".to_owned());
        }
        if read.format == WebhookFormat::Standard && read.url.is_some() && read.token.is_none() {
            return Err("token: the standard format needs one to sign with".to_owned());
        }
        Ok(read)
    }
}

/// The name of the subscription that `[app.webhook]` itself is.
const MAIN: &str = "main";

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&name.len()) && name.bytes().all(fits)
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
    use crate::config::{Config, WebhookFormat, WebhookPolicy};

    fn parse(subscriptions: &str) -> Result<Config, String> {
        let text = format!("[[app]]\nid = 7\nkeys = [\"k\"]\n{subscriptions}");
        let parsed = Config::parse(Some(("cordon.toml", &text)), &[].into());
        parsed.map_err(|error| error.to_string())
    }

    #[test]
    fn further_subscriptions_have_the_fields_of_the_main_one() {
        let config = parse(
            "[[app.webhook.subscription]]\nname = \"audit\"\nurl = \"http://127.0.0.1:9/a\"\n\
             token = \"t0ken\"\nformat = \"standard\"\ncommands = [\"Sns.CallbackFriendAdd\"]\n\
             policy = \"skip\"\nper_second = 5\n\
             [[app.webhook.subscription]]\nname = \"pulled\"\n",
        )
        .expect("fine settings");
        let [audit, pulled] = &config.apps[0].webhook.subscription[..] else { panic!("two") };
        assert_eq!((audit.name.as_str(), audit.per_second), ("audit", 5));
        assert_eq!((audit.format, audit.policy), (WebhookFormat::Standard, WebhookPolicy::Skip));
        assert_eq!(audit.commands.len(), 1);
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
                "timeout_ms: it is out of range; allowed: 100 to 30000",
            ),
            ("name = \"a\"\nurl = \"x\"", "url: an address looks like"),
            ("name = \"a\"\ncolour = 1", "there is no such setting: colour"),
            ("name = \"a\"\nformat = \"x\"", "format: it is one of: reference, standard"),
            (
                "name = \"a\"\nurl = \"http://a\"\nformat = \"standard\"",
                "the standard format needs",
            ),
            ("name = \"a\"\nretry_min_ms = 20\nretry_max_ms = 10", "larger than retry_max_ms"),
            ("name = \"a\"\n[[app.webhook.subscription]]\nname = \"a\"", "two subscriptions"),
        ] {
            let error = parse(&format!("{table}{text}\n")).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
