//! Who may call: checks 3 to 13 of rest-api.md 1.9, in that order; then check 14, how often.
//!
//! Everything here is decided from the request's head, before its body is read, so that nobody
//! without a UserSig can make the server hold a body.

use std::hash::Hash;
use std::sync::Arc;

use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use super::error_code::{self as code, ErrorCode};
use super::frequency::{Alarm, Bucket, Frequency};
use super::query::Query;
use super::settings::{self, MessageRules, RateLimits, Settings};
use super::{OPERATIONS, Operation};
use crate::domain::{AllowType, AppId, Timestamp};
use crate::tags;
use crate::usersig;

/// The longest UserSig that is remembered, in bytes. Usual ones have 200 to 400.
const REMEMBERED_BYTES_MAX: usize = 2048;

/// The apps, their limits, and the UserSigs that were verified.
pub(super) struct Gate {
    /// By id.
    apps: Vec<App>,
    verified: Cache<Signed, ExpiresAt>,
}

/// One app with its buckets.
pub(super) struct App {
    pub(super) id: AppId,
    pub(super) delete_allowed: bool,
    pub(super) default_allow_type: AllowType,
    pub(super) friend_fields: Vec<String>,
    profile_fields: Vec<String>,
    pub(super) messages: MessageRules,
    /// Receivers of messages to many.
    receivers: Option<Bucket>,
    enabled: bool,
    admins: Vec<String>,
    keys: Vec<String>,
    /// By [`Operation`]'s place in the route table.
    commands: [Option<Arc<Frequency>>; OPERATIONS],
    whole: Option<Bucket>,
}

/// Who was let in.
pub(super) struct Caller<'g> {
    pub(super) app: &'g App,
    /// The admin's identifier.
    pub(super) operator: &'g str,
}

/// The last second in which a UserSig is valid, in seconds since 1970.
type ExpiresAt = i64;

/// A UserSig and what it was verified for. The keys are not part of it: they do not change while
/// the gate lives.
#[derive(PartialEq, Eq, Hash)]
struct Signed {
    app: AppId,
    identifier: Box<str>,
    usersig: Box<str>,
}

/// The same, borrowed; it hashes alike.
#[derive(Clone, Copy, Hash)]
struct SignedRef<'a> {
    app: AppId,
    identifier: &'a str,
    usersig: &'a str,
}

impl Equivalent<Signed> for SignedRef<'_> {
    fn equivalent(&self, key: &Signed) -> bool {
        self.app == key.app && *self.identifier == *key.identifier && *self.usersig == *key.usersig
    }
}

impl Gate {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut apps: Vec<App> = settings.apps.iter().map(App::new).collect();
        apps.sort_by_key(|app| app.id);
        Self { apps, verified: Cache::new(settings.verified_signatures_max) }
    }

    /// Lets a caller in, or answers the code of the first check that fails. How often they call is for
    /// [`App::count`].
    pub(super) fn admit(&self, query: &Query<'_>, now: Timestamp) -> Result<Caller<'_>, ErrorCode> {
        if query.sdkappid.is_empty() {
            return Err(code::APP_ID_MISSING);
        }
        let id = app_id(&query.sdkappid).ok_or(code::APP_ID_INVALID)?;
        let json = query.contenttype.as_deref().is_none_or(|value| value == "json");
        if query.identifier.is_empty() || query.usersig.is_empty() || !json {
            return Err(code::PARAMETER_INVALID);
        }
        let found = self.apps.binary_search_by_key(&id, |app| app.id);
        let app = &self.apps[found.map_err(|_| code::APP_UNKNOWN)?];
        if !app.enabled {
            return Err(code::APP_DISABLED);
        }
        self.verify(app, query, now)?;
        let admin = app.admins.iter().find(|admin| **admin == *query.identifier);
        let operator = admin.ok_or(code::ADMIN_REQUIRED)?;
        Ok(Caller { app, operator })
    }

    /// Checks 8 to 12. A UserSig that passed once is only asked for its expiry again.
    fn verify(&self, app: &App, query: &Query<'_>, now: Timestamp) -> Result<(), ErrorCode> {
        let now_s = now.0.div_euclid(1000);
        let signed =
            SignedRef { app: app.id, identifier: &query.identifier, usersig: &query.usersig };
        if let Some(expires_at) = self.verified.get(&signed) {
            return if now_s <= expires_at { Ok(()) } else { Err(code::SIGNATURE_EXPIRED) };
        }
        let document = usersig::decode(signed.usersig)?;
        let verified = document.verify(app.id, signed.identifier, &app.keys, now_s)?;
        if signed.usersig.len() <= REMEMBERED_BYTES_MAX {
            let key = Signed {
                app: signed.app,
                identifier: signed.identifier.into(),
                usersig: signed.usersig.into(),
            };
            self.verified.insert(key, verified.expires_at);
        }
        Ok(())
    }
}

impl App {
    /// Whether `tag` is no custom field of profiles, or one that was declared.
    /// Rule: rest-api.md 7.1.
    pub(super) fn has_profile_field(&self, tag: &str) -> bool {
        tag.strip_prefix(tags::CUSTOM_PREFIX)
            .is_none_or(|name| self.profile_fields.iter().any(|known| known == name))
    }

    /// Counts the receivers of a message to many. Rule: rest-api.md 1.6.
    pub(super) fn count_receivers(&self, count: usize, now: Timestamp) -> bool {
        self.receivers.as_ref().is_none_or(|bucket| bucket.take_many(count, now))
    }

    fn new(app: &settings::App) -> Self {
        Self {
            id: app.id,
            delete_allowed: app.delete_allowed,
            default_allow_type: app.default_allow_type,
            friend_fields: app.friend_fields.clone(),
            profile_fields: app.profile_fields.clone(),
            messages: app.messages.clone(),
            receivers: (app.rate_limits != RateLimits::Off)
                .then(|| Bucket::per_minute(app.messages.batch_receivers_per_minute)),
            enabled: app.enabled,
            admins: app.admins.clone(),
            keys: app.keys.clone(),
            commands: std::array::from_fn(|place| {
                app.rate_limits.of(Operation::ALL[place]).map(Frequency::new)
            }),
            whole: app.rate_limits.of_whole_app().map(Bucket::new),
        }
    }

    /// Check 14; and what somebody is to be told of how often it is called.
    pub(super) fn count(
        &self,
        operation: Operation,
        now: Timestamp,
    ) -> (Result<(), ErrorCode>, Option<Alarm>) {
        let (mut passes, mut alarm) = (true, None);
        if let Some(frequency) = &self.commands[operation as usize] {
            let (may, told) = frequency.count(now);
            passes = may;
            alarm = told.map(|second| Alarm {
                operation,
                frequency: frequency.clone(),
                second,
                at: now,
            });
        }
        let counted = if !passes {
            Err(code::COMMAND_TOO_FREQUENT)
        } else if !self.whole.as_ref().is_none_or(|whole| whole.take(now)) {
            Err(code::APP_TOO_FREQUENT)
        } else {
            Ok(())
        };
        (counted, alarm)
    }
}

/// A decimal u32 without sign. Rule: rest-api.md 1.9, check 4.
fn app_id(text: &str) -> Option<AppId> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok().map(AppId) } else { None }
}
