//! The settings of subscriptions: the main one of an app, `[app.webhook]`, and what each has.

use std::path::PathBuf;

use super::scope::{part, section};
use super::secret::{Secret, Url};
use super::subscription::WebhookSubscription;
use super::value::Choice;
use crate::domain::subscription::SUBSCRIPTIONS_MAX;
use crate::domain::{BeforeTerms, DeliveryTerms, FailurePolicy, Fallback, Format, SECRETS_MAX};
use crate::tags::{ASKED_COMMANDS, STATE_CHANGE, TOLD_COMMANDS};

/// What holds for deliveries unless settings say otherwise.
const DELIVERY: DeliveryTerms = DeliveryTerms::DEFAULT;
/// What holds for questions before the fact unless settings say otherwise.
const BEFORE: BeforeTerms = BeforeTerms::DEFAULT;

section! {
    /// The subscriber of an app's events.
    pub struct Webhook {
    } flat {
        /// Where deliveries go.
        receiver: Receiver;
        /// What is shown to receivers over https, whoever set their addresses.
        certificate: ClientCertificate;
        /// What is delivered, and how.
        delivery: Delivery;
        /// The subscriptions beside this one.
        others: Others;
        /// What is asked before the fact.
        before: Before;
    }
}

part! {
    /// Where the deliveries of a subscription go, and what they look like.
    pub struct Receiver {
        /// Where deliveries go; without it there are none.
        url: Option<Url> = None;
        /// What deliveries look like: `reference`, or `standard` for Standard Webhooks.
        format: Format = Format::Reference;
        /// The token that deliveries of the reference's format are signed with; without it they are
        /// not signed.
        token: Option<Secret> = None;
        /// What deliveries of the standard format are signed with, `whsec_` and base64, newest first;
        /// several during a change of secrets: each of them signs.
        secrets: Vec<Secret> = Vec::new(), in 0..=SECRETS_MAX as u64, unit "secrets";
        /// Headers that tell a delivery's id, its place among the others and the number of the try.
        headers: bool = true;
    }

    /// A certificate with its key.
    pub struct ClientCertificate {
        /// A certificate that is shown to receivers over https, as a PEM file, and what leads to its
        /// authority.
        client_certificate: Option<PathBuf> = None;
        /// Its private key, as a PEM file.
        client_key: Option<PathBuf> = None;
    }

    /// What a subscription hears of, and how deliveries are made and repeated.
    pub struct Delivery {
        /// What the subscriber hears of.
        commands: Vec<WebhookCommand> = WebhookCommand::AFTER.to_vec();
        /// How long one delivery attempt may take.
        timeout_ms: u64 = DELIVERY.timeout_ms, in DeliveryTerms::TIMEOUT_MS, unit "ms";
        /// The wait before the second attempt; each further wait is longer.
        retry_min_ms: u64 = DELIVERY.retry_min_ms, in DeliveryTerms::RETRY_MIN_MS, unit "ms";
        /// The longest wait between two attempts.
        retry_max_ms: u64 = DELIVERY.retry_max_ms, in DeliveryTerms::RETRY_MAX_MS, unit "ms";
        /// One attempt per delivery, as the reference does it: what fails is lost.
        call_once: bool = DELIVERY.call_once;
        /// Off: deliveries wait.
        enabled: bool = true;
        /// What happens to a delivery that fails while others come through: hold-user, skip or halt.
        policy: FailurePolicy = DELIVERY.policy;
        /// Attempts after which the policy speaks; only those count that fail while others come through.
        attempts_max: u32 = DELIVERY.attempts_max, in DeliveryTerms::ATTEMPTS_MAX, unit "attempts";
        /// Deliveries in flight at most.
        in_flight_max: u32 = DELIVERY.in_flight_max, in DeliveryTerms::IN_FLIGHT_MAX, unit "deliveries";
        /// Deliveries per second at most; 0 for no limit.
        per_second: u32 = DELIVERY.per_second.unwrap_or(0), in DeliveryTerms::PER_SECOND, unit "deliveries";
    }

    /// The subscriptions of an app beside its main one.
    pub struct Others {
        /// How many subscriptions the admins may set by calls, beside those that stand here.
        subscriptions_max: usize = 100, in 0..=SUBSCRIPTIONS_MAX as u64, unit "subscriptions";
        /// Further subscribers, each a table `[[app.webhook.subscription]]` with a name.
        subscription: Vec<WebhookSubscription> = Vec::new(), in 0..=100, unit "subscriptions";
    }

    /// How long is asked before the fact, and what holds without an answer.
    pub struct Before {
        /// How long a question before the fact may take in all.
        before_timeout_ms: u64 = BEFORE.timeout_ms, in BeforeTerms::TIMEOUT_MS, unit "ms";
        /// What a question counts as that was not answered in time: allow or deny.
        before_on_timeout: Fallback = BEFORE.on_timeout;
        /// What it counts as without a connection, or with one that broke: allow or deny.
        before_on_unreachable: Fallback = BEFORE.on_unreachable;
        /// What it counts as when it was answered with another status than 200: allow or deny.
        before_on_status: Fallback = BEFORE.on_status;
        /// What it counts as when the answer was no JSON, of another shape, or too long: allow or deny.
        before_on_malformed: Fallback = BEFORE.on_malformed;
        /// What it counts as when it was not asked, because too many questions are open or the subscriber
        /// counts as down: allow or deny.
        before_on_busy: Fallback = BEFORE.on_busy;
    }
}

impl Delivery {
    /// How deliveries are made and repeated.
    pub fn terms(&self) -> DeliveryTerms {
        DeliveryTerms {
            timeout_ms: self.timeout_ms,
            retry_min_ms: self.retry_min_ms,
            retry_max_ms: self.retry_max_ms,
            call_once: self.call_once,
            policy: self.policy,
            attempts_max: self.attempts_max,
            in_flight_max: self.in_flight_max,
            per_second: (self.per_second > 0).then_some(self.per_second),
        }
    }
}

impl Before {
    /// How long is asked, and what holds without an answer.
    pub fn terms(&self) -> BeforeTerms {
        BeforeTerms {
            timeout_ms: self.before_timeout_ms,
            on_timeout: self.before_on_timeout,
            on_unreachable: self.before_on_unreachable,
            on_status: self.before_on_status,
            on_malformed: self.before_on_malformed,
            on_busy: self.before_on_busy,
        }
    }
}

/// A kind of delivery, by the name that the subscriber sees.
///
/// Rule: webhooks.md 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebhookCommand(pub &'static str);

impl WebhookCommand {
    /// What is said after the fact. On unless settings say otherwise.
    pub const AFTER: [Self; TOLD_COMMANDS.len()] = Self::all(TOLD_COMMANDS);

    /// A client comes or goes. There are no clients here, so the name is accepted and nothing is ever sent.
    /// Off unless settings name it, so that nobody expects it.
    pub const UNSENT: Self = Self(STATE_CHANGE);

    /// What is asked before the fact. Off unless settings say otherwise.
    pub const BEFORE: [Self; ASKED_COMMANDS.len()] = Self::all(ASKED_COMMANDS);

    const fn all<const N: usize>(names: [&'static str; N]) -> [Self; N] {
        let mut all = [Self(""); N];
        let mut at = 0;
        while at < N {
            all[at] = Self(names[at]);
            at += 1;
        }
        all
    }
}

impl Choice for WebhookCommand {
    const CHOICES: &'static [(&'static str, Self)] = &{
        const AFTER: usize = WebhookCommand::AFTER.len();
        let mut all = [(STATE_CHANGE, Self::UNSENT); AFTER + 1 + Self::BEFORE.len()];
        let mut at = 0;
        while at < all.len() {
            if at != AFTER {
                let command =
                    if at < AFTER { Self::AFTER[at] } else { Self::BEFORE[at - AFTER - 1] };
                all[at] = (command.0, command);
            }
            at += 1;
        }
        all
    };
}
