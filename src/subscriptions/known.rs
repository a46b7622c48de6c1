//! What is known of the subscriptions of an app: as they are shown, and as they are served.

use std::collections::BTreeSet;

use super::SubscriptionError;
use super::terms::{Terms, Wire};
use crate::domain::{AppId, Format, MAIN, Replay, Subscription, Subscriptions};
use crate::tags::{BeforeCommand, CallbackCommand};
use crate::webhooks::{self, EndpointError, Guard, Secret, SecretError, Signer};

/// A subscription of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionSeen {
    /// What was set; of its secrets only how many there are and until when they sign is anybody's
    /// business.
    pub subscription: Subscription,
    /// Who set it.
    pub source: Source,
    /// What becomes of its deliveries.
    pub state: State,
    /// The term of the last move; 0 if there was none.
    pub term: u32,
}

/// Who set a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It stands in the settings of the node.
    Settings,
    /// An admin, by a call.
    Call,
}

/// What becomes of a subscription's deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They are made.
    Serving,
    /// They wait until it is switched on.
    Off,
    /// They are fetched.
    Pulled,
    /// They wait, because its secrets cannot be read with the keys that the app has now.
    Held,
}

/// What is known of an app's subscriptions, with what follows from it.
#[derive(Default)]
pub(super) struct Known {
    /// What was set by calls.
    pub(super) kept: Subscriptions,
    /// Every subscription, by name, also those of the settings.
    pub(super) all: Vec<One>,
    /// Those with secrets that are not sealed under each key of the app, by name.
    pub(super) half_sealed: Vec<Box<str>>,
    /// Where addresses may lead that were set by calls.
    pub(super) guard: Guard,
}

/// Why a subscription cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum UnservableError {
    /// Its address cannot be called.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A secret of it cannot sign.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Known {
    /// Every subscription as it is shown, by name.
    pub(super) fn seen(&self) -> Vec<SubscriptionSeen> {
        self.all.iter().map(|one| one.seen.clone()).collect()
    }

    /// One subscription, as it is shown and as it is served.
    pub(super) fn find(&self, name: &str) -> Option<(&SubscriptionSeen, &webhooks::Subscription)> {
        let found = self.all.iter().find(|one| *one.seen.subscription.name == *name);
        found.map(|one| (&one.seen, &one.served))
    }

    /// Those whose deliveries are made, as they were set and as they are served.
    pub(super) fn serving(&self) -> impl Iterator<Item = (&Subscription, &webhooks::Subscription)> {
        let serving = self.all.iter().filter(|one| one.seen.state == State::Serving);
        serving.map(|one| (&one.seen.subscription, &one.served))
    }

    /// Who is asked before the fact: `main` first, the others by name.
    pub(super) fn asked(&self) -> Vec<webhooks::Target> {
        let (main, others): (Vec<&One>, Vec<&One>) =
            self.all.iter().partition(|one| *one.seen.subscription.name == *MAIN);
        main.into_iter().chain(others).filter_map(One::asked).collect()
    }

    /// A replay as it is served: on the terms of its subscription as they are now. None without that.
    pub(super) fn replay(&self, replay: &Replay) -> Option<webhooks::Subscription> {
        let (seen, served) = self.find(&replay.subscription)?;
        let mut served = served.clone();
        if let Some(url) = &replay.url {
            served.endpoint = webhooks::Endpoint::parse(url).ok()?;
            // Replays are asked for by calls.
            served.guard = self.guard.clone();
            // What the settings say may have changed since.
            let may_go = may_go_elsewhere(seen).is_ok();
            served.enabled = seen.subscription.enabled && seen.state != State::Held && may_go;
        }
        if !replay.commands.is_empty() {
            let narrowed = seen.subscription.commands.iter();
            let narrowed = narrowed.filter(|name| replay.commands.contains(name));
            let narrowed = narrowed.filter_map(|name| CallbackCommand::from_name(name));
            served.commands = narrowed.collect();
        }
        served.seeks = Vec::new();
        served.replay = Some(replay.clone());
        Some(served)
    }
}

/// Whether what a subscription is told may be told to an address that somebody asks for, signed alike.
///
/// Errors: [`SubscriptionError::Secret`]: it has none, because it was only pulled so far.
/// [`SubscriptionError::OfSettings`]: a secret of the settings would make a `Sign` that says nothing
/// about the body, so whoever is told it could say anything to the receiver that the settings name.
pub(super) fn may_go_elsewhere(seen: &SubscriptionSeen) -> Result<(), SubscriptionError> {
    let set = &seen.subscription;
    match (set.format, set.secrets.is_empty()) {
        (Format::Standard, true) => Err(SubscriptionError::Secret),
        (Format::Reference, false) if seen.source == Source::Settings => {
            Err(SubscriptionError::OfSettings)
        }
        (Format::Standard, false) | (Format::Reference, _) => Ok(()),
    }
}

/// A subscription as it is shown and as it is served.
pub(super) struct One {
    pub(super) seen: SubscriptionSeen,
    pub(super) served: webhooks::Subscription,
}

impl One {
    /// `secrets` are those of the subscription, if they can be read.
    pub(super) fn of(
        app: AppId,
        set: &Subscription,
        secrets: Option<&[Secret]>,
        terms: &Terms,
        known: &Subscriptions,
        source: Source,
    ) -> Result<Self, UnservableError> {
        let mut served = served(app, set, secrets, &terms.wire, source)?;
        served.seeks = known.moves(&set.name).cloned().collect();
        let state = match set {
            _ if secrets.is_none() => State::Held,
            Subscription { url: None, .. } => State::Pulled,
            Subscription { enabled: false, .. } => State::Off,
            _ => State::Serving,
        };
        served.enabled = state == State::Serving;
        let term = known.last_move(&set.name).map_or(0, |seek| seek.term);
        let seen = SubscriptionSeen { subscription: set.clone(), source, state, term };
        Ok(Self { seen, served })
    }

    /// Who is asked before the fact, if it asks for that.
    fn asked(&self) -> Option<webhooks::Target> {
        let set = &self.seen.subscription;
        let commands = set.commands.iter();
        let commands: BTreeSet<_> =
            commands.filter_map(|name| BeforeCommand::from_name(name)).collect();
        (self.seen.state == State::Serving && !commands.is_empty()).then(|| webhooks::Target {
            subscription: webhooks::Subscription { seeks: Vec::new(), ..self.served.clone() },
            commands,
            terms: set.before,
        })
    }
}

/// Where the deliveries of a subscription would go that is only pulled: none are made.
pub(super) const NOWHERE: &str = "http://nowhere.invalid/";

/// A subscription as the webhooks serve it. The one place where what was set becomes what is served.
/// Without `secrets` it cannot be signed, and is not to be enabled.
pub(super) fn served(
    app: AppId,
    set: &Subscription,
    secrets: Option<&[Secret]>,
    wire: &Wire,
    source: Source,
) -> Result<webhooks::Subscription, UnservableError> {
    let names = set.commands.iter();
    Ok(webhooks::Subscription {
        app,
        name: set.name.to_string(),
        endpoint: webhooks::Endpoint::parse(set.url.as_deref().unwrap_or(NOWHERE))?,
        guard: match source {
            // Who writes the settings may delivery whom they like.
            Source::Settings => Guard::Off,
            Source::Call => wire.guard.clone(),
        },
        certificate: wire.certificate.clone(),
        signer: match secrets {
            Some(secrets) => match Signer::new(set.format, secrets) {
                // Nothing goes there.
                Err(SecretError::Missing) if set.url.is_none() => Signer::unsigned(),
                signer => signer?,
            },
            None => Signer::unsigned(),
        },
        headers: set.headers,
        commands: names.filter_map(|name| CallbackCommand::from_name(name)).collect(),
        enabled: set.enabled && set.url.is_some() && secrets.is_some(),
        delivery: set.delivery,
        seeks: Vec::new(),
        replay: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{BeforeTerms, DeliveryTerms, SealedSecret};
    use crate::subscriptions::deliveries::Looks;
    use crate::subscriptions::seal::Sealer;

    const ASKED: &str = "Sns.CallbackPrevFriendAdd";

    fn named(name: &str) -> Subscription {
        Subscription {
            name: name.into(),
            url: Some(format!("http://{name}.example").into()),
            commands: vec![ASKED.into()],
            enabled: true,
            format: Format::Reference,
            secrets: Vec::new(),
            headers: true,
            delivery: DeliveryTerms::default(),
            before: BeforeTerms::default(),
        }
    }

    /// What is known of these, of which the one named `held` is held.
    fn known(set: &[Subscription], held: &str) -> Known {
        known_of(Source::Call, set, held)
    }

    fn known_of(source: Source, set: &[Subscription], held: &str) -> Known {
        let kept = Subscriptions::default();
        let wire = Wire { guard: Guard::default(), certificate: None };
        let terms = Terms {
            sealer: Sealer::new(AppId(7), ["k"].into_iter()),
            configured: Vec::new(),
            wire,
            looks: Looks::default(),
        };
        let one = |set: &Subscription| {
            let secrets = (*set.name != *held).then_some(&[][..]);
            One::of(AppId(7), set, secrets, &terms, &kept, source)
        };
        let all = set.iter().map(one).collect::<Result<_, _>>().expect("addresses");
        Known { all, guard: terms.wire.guard, ..Known::default() }
    }

    #[test]
    fn a_question_goes_to_the_main_subscription_before_the_others_by_name() {
        let asked = |set: &[Subscription], held| {
            known(set, held).asked().into_iter().next().map(|target| target.subscription.name)
        };
        let off = Subscription { enabled: false, ..named("a") };
        let pulled = Subscription { url: None, ..named("b") };
        let deaf = Subscription { commands: Vec::new(), ..named("c") };
        let all = [off, pulled, deaf, named("d"), named("e"), named(MAIN)];
        assert_eq!(asked(&all, "").as_deref(), Some(MAIN));
        assert_eq!(asked(&all, MAIN).as_deref(), Some("d"), "one that is held asks nobody");
        assert_eq!(asked(&all[..3], ""), None);
    }

    /// A replay to an address of its own.
    fn elsewhere() -> Replay {
        Replay {
            number: 3,
            subscription: "a".into(),
            url: Some("http://elsewhere.example".into()),
            since: None,
            until: None,
            ranges: vec![(0, 0, 1)],
            users: Vec::new(),
            commands: Vec::new(),
            ids: Vec::new(),
        }
    }

    #[test]
    fn a_sign_with_a_secret_of_the_settings_goes_nowhere_else_whenever_the_replay_began() {
        let secrets = vec![SealedSecret { sealed: "".into(), until: None }];
        let signed = [Subscription { secrets, ..named("a") }];
        for (source, goes) in [(Source::Call, true), (Source::Settings, false)] {
            let known = known_of(source, &signed, "");
            assert_eq!(known.replay(&elsewhere()).map(|served| served.enabled), Some(goes));
            let where_it_stands = Replay { url: None, ..elsewhere() };
            assert_eq!(known.replay(&where_it_stands).map(|served| served.enabled), Some(true));
        }
    }

    #[test]
    fn a_replay_has_the_terms_of_its_subscription_but_for_its_own_address_and_commands() {
        let add = "Sns.CallbackBlackListAdd";
        let both = vec![add.into(), "Sns.CallbackBlackListDelete".into()];
        let known = known(&[Subscription { commands: both, url: None, ..named("a") }], "");
        let commands = vec![add.into(), "Sns.CallbackFriendAdd".into()];
        let replay = Replay { commands, ..elsewhere() };
        let served = known.replay(&replay).expect("there is such a subscription");
        assert_eq!(served.cursor_name(), "webhook/7/a/replay/3");
        assert!(served.enabled, "it has an address of its own");
        assert_eq!(served.commands.names().collect::<Vec<_>>(), [add]);
        let of_nobody = Replay { subscription: "b".into(), ..replay };
        assert_eq!(known.replay(&of_nobody), None);
    }
}
