//! Secrets of subscriptions, sealed before they go into the journal: who reads the journal cannot sign
//! as this server.
//!
//! The sealing keys are derived from the app's secret keys, so there is no other secret to keep. An app
//! has several during a change: a secret is sealed under each of them, and any of them opens it. So nodes
//! that have only the old key, or only the new one, read it alike. What is sealed under none of the keys
//! cannot be opened any more; its subscription is held then.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::domain::AppId;
use crate::webhooks::format::STANDARD_PREFIX;

/// What tells this use of an app's key from every other.
const SALT: &[u8] = b"cordon: secrets of webhook subscriptions";
/// What each seal of a secret begins with.
const VERSION: &str = "v1.";
/// What stands between them.
const BETWEEN: char = ' ';
/// Bytes of chance in a secret that is made up.
const SECRET_BYTES: usize = 32;

/// Why a secret cannot be sealed or made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    /// The machine has no chance to give.
    #[error("the system gives no random bytes")]
    NoChance,
    /// Nobody could open what it seals.
    #[error("the app has no key")]
    NoKey,
}

/// Seals and opens the secrets of one app.
pub(super) struct Sealer {
    app: AppId,
    keys: Vec<LessSafeKey>,
    chance: SystemRandom,
}

impl Sealer {
    /// With the secret keys of `app`, as they stand in the settings.
    pub(super) fn new<'k>(app: AppId, keys: impl Iterator<Item = &'k str>) -> Self {
        let derive = |key: &str| {
            let derived = Salt::new(HKDF_SHA256, SALT).extract(key.as_bytes());
            let id = app.0.to_be_bytes();
            let info = [&id[..]];
            let key = derived.expand(&info, &CHACHA20_POLY1305).map(UnboundKey::from);
            LessSafeKey::new(key.expect("a key is short enough to be derived"))
        };
        Self { app, keys: keys.map(derive).collect(), chance: SystemRandom::new() }
    }

    /// Seals `secret`, which belongs to the subscription `name` and cannot be opened for another one.
    pub(super) fn seal(&self, name: &str, secret: &str) -> Result<Box<str>, SealError> {
        let mut seals = String::new();
        for key in &self.keys {
            let nonce = self.chance()?;
            let mut sealed = secret.as_bytes().to_vec();
            let with = Nonce::assume_unique_for_key(nonce);
            key.seal_in_place_append_tag(with, self.place(name), &mut sealed)
                .expect("a secret is short enough to be sealed");
            if !seals.is_empty() {
                seals.push(BETWEEN);
            }
            seals.push_str(VERSION);
            URL_SAFE_NO_PAD.encode_string([&nonce[..], &sealed].concat(), &mut seals);
        }
        if seals.is_empty() { Err(SealError::NoKey) } else { Ok(seals.into()) }
    }

    /// Opens what was sealed for the subscription `name`; none if no key of the app opens it.
    pub(super) fn open(&self, name: &str, sealed: &str) -> Option<String> {
        self.keys.iter().find_map(|key| self.open_with(key, name, sealed))
    }

    /// Whether each of the app's keys opens it.
    pub(super) fn is_whole(&self, name: &str, sealed: &str) -> bool {
        self.keys.iter().all(|key| self.open_with(key, name, sealed).is_some())
    }

    fn open_with(&self, key: &LessSafeKey, name: &str, seals: &str) -> Option<String> {
        seals.split(BETWEEN).find_map(|seal| {
            let bytes = URL_SAFE_NO_PAD.decode(seal.strip_prefix(VERSION)?).ok()?;
            let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
            let mut sealed = sealed.to_vec();
            let with = Nonce::assume_unique_for_key(*nonce);
            let opened = key.open_in_place(with, self.place(name), &mut sealed).ok()?;
            String::from_utf8(opened.to_vec()).ok()
        })
    }

    /// A secret that nobody has seen.
    pub(super) fn make_up(&self) -> Result<String, SealError> {
        let bytes: [u8; SECRET_BYTES] = self.chance()?;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        Ok(format!("{STANDARD_PREFIX}{text}"))
    }

    fn chance<const BYTES: usize>(&self) -> Result<[u8; BYTES], SealError> {
        let mut bytes = [0; BYTES];
        self.chance.fill(&mut bytes).map_err(|_| SealError::NoChance)?;
        Ok(bytes)
    }

    fn place(&self, name: &str) -> Aad<Vec<u8>> {
        Aad::from(format!("{}/{name}", self.app).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged;

    fn sealer(app: u32, keys: &[&str]) -> Sealer {
        Sealer::new(AppId(app), keys.iter().copied())
    }

    #[test]
    fn what_is_sealed_is_opened_with_the_same_key_for_the_same_subscription_alone() {
        let sealed = sealer(7, &["old"]).seal("audit", "s3cret").expect("chance");
        assert!(!sealed.contains("s3cret"));
        assert_eq!(sealer(7, &["old"]).open("audit", &sealed).as_deref(), Some("s3cret"));
        assert_eq!(sealer(7, &["old"]).open("other", &sealed), None);
        assert_eq!(sealer(8, &["old"]).open("audit", &sealed), None);
        assert_eq!(sealer(7, &["new"]).open("audit", &sealed), None);
    }

    #[test]
    fn without_a_key_nothing_is_sealed_and_that_is_said() {
        let refused = sealer(7, &[]).seal("audit", "s3cret");
        assert_eq!(refused, Err(SealError::NoKey));
    }

    #[test]
    fn during_a_change_of_keys_both_open_and_both_seal() {
        let before = sealer(7, &["old"]).seal("audit", "s3cret").expect("chance");
        let both = sealer(7, &["new", "old"]);
        assert_eq!(both.open("audit", &before).as_deref(), Some("s3cret"));
        assert!(!both.is_whole("audit", &before));
        let during = both.seal("audit", "s3cret").expect("chance");
        assert!(both.is_whole("audit", &during));
        for one in ["new", "old"] {
            assert_eq!(
                sealer(7, &[one]).open("audit", &during).as_deref(),
                Some("s3cret"),
                "{one}"
            );
            assert!(sealer(7, &[one]).is_whole("audit", &during), "{one}");
        }
    }

    #[test]
    fn the_same_secret_is_sealed_differently_each_time_and_damage_is_noticed() {
        let sealer = sealer(7, &["key"]);
        let sealed = sealer.seal("audit", "s3cret").expect("chance");
        assert_ne!(sealer.seal("audit", "s3cret").expect("chance"), sealed);
        for at in VERSION.len()..sealed.len() {
            let mut damaged = sealed.clone().into_string().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).expect("ASCII");
            assert_eq!(sealer.open("audit", &damaged), None, "{at}");
        }
        for text in ["", "v1.", "v2.AAAA", "v1.AAAA", "v1.***"] {
            assert_eq!(sealer.open("audit", text), None, "{text}");
        }
    }

    /// A secret under two keys.
    fn both() -> String {
        sealer(7, &["new", "old"]).seal("audit", "s3cret").expect("chance").into_string()
    }

    proptest! {
        #[test]
        fn a_seal_that_was_damaged_is_opened_to_what_was_sealed_or_not_at_all(
            seal in damaged(vec![both().into_bytes()]),
        ) {
            let sealer = sealer(7, &["old"]);
            let opened = sealer.open("audit", &String::from_utf8_lossy(&seal));
            prop_assert!(opened.is_none_or(|secret| secret == "s3cret"));
        }
    }

    #[test]
    fn a_secret_that_is_made_up_has_the_form_of_the_standard() {
        let sealer = sealer(7, &["key"]);
        let (one, other) = (sealer.make_up().expect("chance"), sealer.make_up().expect("chance"));
        assert_ne!(one, other);
        assert!(one.starts_with(STANDARD_PREFIX) && one.len() == STANDARD_PREFIX.len() + 44);
    }
}
