//! Bodies that were damaged on the way, or made up, say something of the right form or nothing.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::cluster::peers::nonces::Nonce;
use crate::cluster::peers::wire::{Greeting, Hint};
use crate::cluster::routes::Owner;
use crate::damage::damaged;
use crate::domain::{
    AppId, Card, Command, EdgeId, Effect, OfferForm, Target, UserId, UserKey, Version,
};
use crate::journal::{Epoch, Origin};
use crate::pairing::OwedEffect;

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it has a form in JSON")
}

fn examples() -> Vec<Vec<u8>> {
    let user = |name| UserId::parse(name).expect("a name");
    let origin = Origin {
        operator: "administrator".into(),
        request: uuid::Uuid::nil(),
        ip: "10.0.0.7".into(),
        platform: "RESTAPI".into(),
    };
    let command = Command::Block { targets: vec![Target { user: user("bob"), imported: true }] };
    let execute = Question::Execute {
        key: UserKey { app: AppId(7), user: user("amy") },
        command: command.into(),
        origin: origin.clone().into(),
        call: None,
    };
    let effect = OwedEffect {
        app: AppId(7),
        from: user("amy"),
        version: Version(9),
        to: user("bob"),
        effect: Effect::Propose {
            edge: EdgeId { offerer: user("amy"), version: Version(9) },
            form: OfferForm::TwoWay,
            forced: true,
            over: false,
            again: false,
            card: Card { groups: vec!["work".into()], added_at: Some(3), ..Card::default() },
        },
        origin: origin.into(),
    };
    let (source, destination) = (Partition(0), Partition(1));
    let effects = vec![effect.into()];
    let effects = PairMessage::Effects { source, destination, prev: 4, effects, losses: 0 };
    let owner = Owner { epoch: Epoch(3), node: "b".into(), address: "b:1".into() };
    let hint = Hint { partition: source, owner };
    vec![
        asking().into_bytes(),
        json(&Asking { partition: destination, question: execute }),
        json(&[message(0, 1), effects]),
        json(&hint),
        json(&[hint]),
        json(&Ok::<_, ExecuteError>(reply(3))),
        json(&Err::<Reply, _>(ExecuteError::Overloaded)),
        json(&Greeting { start: 7, now_ms: -1 }),
        Nonce { session: uuid::Uuid::nil(), number: 7 }.text().into_bytes(),
    ]
}

/// What `bytes` say, if they say anything, is written as something that says the same.
fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(said) = serde_json::from_slice::<T>(bytes) else { return };
    let written = json(&said);
    let again: T = serde_json::from_slice(&written).expect("what was written is read");
    assert_eq!(json(&again), written);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_a_node_is_told_says_something_or_nothing(bytes in damaged(examples())) {
        read::<Asking>(&bytes);
        read::<Vec<PairMessage>>(&bytes);
        read::<Option<Hint>>(&bytes);
        read::<Vec<Hint>>(&bytes);
        read::<Result<Reply, ExecuteError>>(&bytes);
        read::<Greeting>(&bytes);
        if let Some(nonce) = Nonce::parse(&String::from_utf8_lossy(&bytes)) {
            prop_assert_eq!(Nonce::parse(&nonce.text()), Some(nonce));
        }
    }
}
