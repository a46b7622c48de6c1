//! Subscriptions: set, list, delete, test, seek.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::{Named, ask, moment, name, name_if_given, seconds, switch, whole};
use crate::domain::{BeforeTerms, DeliveryTerms, Format, SealedSecret, SeekTo, Subscription};
use crate::http::answer::{Answered, Failure};
use crate::http::call::Call;
use crate::http::error_code::{self as code, ErrorCode};
use crate::http::shape::{List, Malformed, Object, Scalar, shape};
use crate::subscriptions::{NewSecret, SetSubscription, Source, State, SubscriptionSeen};
use crate::tags::{self, ASKED_COMMANDS, TOLD_COMMANDS};
use crate::webhooks::endpoint::URL_BYTES_MAX;
use crate::webhooks::{Secret, Signer};

/// The longest secret, in bytes. Rule: webhooks.md 5.
const SECRET_BYTES_MAX: usize = 128;
/// How long former secrets go on signing unless the call says otherwise, in seconds.
const OVERLAP_S: u32 = 86_400;
/// How long they may at most.
const OVERLAP_S_MAX: u32 = 30 * 86_400;
/// Partitions that one call may name.
pub(super) const OFFSETS_MAX: usize = 1000;

shape! {
    /// The body of `subscription_set`.
    Set<'a> {
        name: Scalar<'a> = "Name",
        url: Scalar<'a> = "Url",
        commands: List<Scalar<'a>> = "Commands",
        enabled: Scalar<'a> = "Enabled",
        format: Scalar<'a> = "Format",
        secret: Scalar<'a> = "Secret",
        generate: Scalar<'a> = "GenerateSecret",
        overlap_s: Scalar<'a> = "OverlapSeconds",
        headers: Scalar<'a> = "ExtraHeaders",
        timeout_ms: Scalar<'a> = "TimeoutMs",
        retry_min_ms: Scalar<'a> = "RetryMinMs",
        retry_max_ms: Scalar<'a> = "RetryMaxMs",
        call_once: Scalar<'a> = "CallOnce",
        policy: Scalar<'a> = "FailurePolicy",
        attempts_max: Scalar<'a> = "AttemptsMax",
        in_flight_max: Scalar<'a> = "InFlightMax",
        per_second: Scalar<'a> = "PerSecond",
        before_timeout_ms: Scalar<'a> = "BeforeTimeoutMs",
        on_timeout: Scalar<'a> = "BeforeOnTimeout",
        on_unreachable: Scalar<'a> = "BeforeOnUnreachable",
        on_status: Scalar<'a> = "BeforeOnStatus",
        on_malformed: Scalar<'a> = "BeforeOnMalformed",
        on_busy: Scalar<'a> = "BeforeOnBusy",
    }
}

shape! {
    /// The body of `subscription_seek`.
    Seek<'a> {
        name: Scalar<'a> = "Name",
        offsets: List<Object<Place<'a>>> = "Offsets",
        time: Scalar<'a> = "Time",
        end: Scalar<'a> = "End",
    }
}

shape! {
    /// An offset of a partition.
    Place<'a> {
        partition: Scalar<'a> = "Partition",
        offset: Scalar<'a> = "Offset",
    }
}

/// `subscription_set`. The terms are replaced as a whole: what is not given has its default. Only the
/// secrets stay unless the call says something about them.
pub(in crate::http) async fn set(call: &Call<'_>, body: &str) -> Answered {
    let asked: Set<'_> = call.parse(body)?;
    let secret = secret(&asked)?;
    let subscription = subscription(&asked)?;
    if subscription.format == Format::Standard
        && let NewSecret::Given { text, .. } = &secret
        && Signer::new(Format::Standard, &[Secret::new(text.as_str(), None)]).is_err()
    {
        return call.fails(code::WEBHOOK_SECRET_WRONG);
    }
    let wanted = SetSubscription { subscription, secret };
    let set = ask(call, call.subscribers.set(call.app().id, wanted, call.origin())).await?;
    Ok(call.success(&WasSet { secret: set.secret }).at(set.position))
}

#[derive(Serialize)]
struct WasSet {
    #[serde(rename = "Secret", skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

fn subscription(asked: &Set<'_>) -> Result<Subscription, Failure> {
    let url = match asked.url.text() {
        Ok(None) => None,
        Ok(Some("")) => None,
        Ok(Some(url)) if url.len() <= URL_BYTES_MAX => Some(Box::from(url)),
        Ok(Some(_)) | Err(Malformed) => return Err(Failure::Whole(code::WEBHOOK_URL_WRONG)),
    };
    let delivery = delivery(asked)?;
    if delivery.retry_min_ms > delivery.retry_max_ms {
        return Err(Failure::Whole(code::WEBHOOK_NUMBER_WRONG));
    }
    Ok(Subscription {
        name: name(&asked.name)?.into(),
        url,
        commands: commands(&asked.commands)?
            .unwrap_or_else(|| TOLD_COMMANDS.map(Box::from).to_vec()),
        enabled: switch(&asked.enabled, true)?,
        format: word(&asked.format, &tags::FORMATS, Format::default(), code::WEBHOOK_FORMAT_WRONG)?,
        secrets: Vec::new(),
        headers: switch(&asked.headers, true)?,
        delivery,
        before: before(asked)?,
    })
}

/// What is asked for, if anything is said, in the order in which commands are named elsewhere.
pub(super) fn commands(list: &List<Scalar<'_>>) -> Result<Option<Vec<Box<str>>>, Failure> {
    let wrong = Failure::Whole(code::WEBHOOK_COMMANDS_WRONG);
    let Some(items) = list.items().map_err(|Malformed| wrong)? else { return Ok(None) };
    let names: Result<Vec<&str>, Failure> =
        items.iter().map(|item| item.text().ok().flatten().ok_or(wrong)).collect();
    let names = names?;
    let known = || TOLD_COMMANDS.into_iter().chain(ASKED_COMMANDS);
    let too_many = names.len() > known().count();
    if names.is_empty() || too_many || names.iter().any(|name| !known().any(|known| known == *name))
    {
        return Err(wrong);
    }
    Ok(Some(known().filter(|known| names.contains(known)).map(Box::from).collect()))
}

fn number<T: TryFrom<u64>>(
    field: &Scalar<'_>,
    range: RangeInclusive<u64>,
    otherwise: T,
) -> Result<T, Failure> {
    let wrong = Failure::Whole(code::WEBHOOK_NUMBER_WRONG);
    match field.number::<u64>().map_err(|Malformed| wrong)? {
        None => Ok(otherwise),
        Some(value) if range.contains(&value) => T::try_from(value).map_err(|_| wrong),
        Some(_) => Err(wrong),
    }
}

/// What one of `words` means.
fn word<T: Copy>(
    field: &Scalar<'_>,
    words: &[(&str, T)],
    otherwise: T,
    wrong: ErrorCode,
) -> Result<T, Failure> {
    let wrong = Failure::Whole(wrong);
    match field.text().map_err(|Malformed| wrong)? {
        None => Ok(otherwise),
        Some(text) => tags::meaning(words, text).ok_or(wrong),
    }
}

fn delivery(asked: &Set<'_>) -> Result<DeliveryTerms, Failure> {
    type Terms = DeliveryTerms;
    let usual = Terms::DEFAULT;
    let per_second = number(&asked.per_second, Terms::PER_SECOND, 0)?;
    let wrong = code::WEBHOOK_NUMBER_WRONG;
    Ok(Terms {
        timeout_ms: number(&asked.timeout_ms, Terms::TIMEOUT_MS, usual.timeout_ms)?,
        retry_min_ms: number(&asked.retry_min_ms, Terms::RETRY_MIN_MS, usual.retry_min_ms)?,
        retry_max_ms: number(&asked.retry_max_ms, Terms::RETRY_MAX_MS, usual.retry_max_ms)?,
        call_once: switch(&asked.call_once, usual.call_once)?,
        policy: word(&asked.policy, &tags::FAILURE_POLICIES, usual.policy, wrong)?,
        attempts_max: number(&asked.attempts_max, Terms::ATTEMPTS_MAX, usual.attempts_max)?,
        in_flight_max: number(&asked.in_flight_max, Terms::IN_FLIGHT_MAX, usual.in_flight_max)?,
        per_second: (per_second > 0).then_some(per_second),
    })
}

fn before(asked: &Set<'_>) -> Result<BeforeTerms, Failure> {
    let usual = BeforeTerms::DEFAULT;
    let fallback = |field: &Scalar<'_>, otherwise| {
        word(field, &tags::FALLBACKS, otherwise, code::WEBHOOK_NUMBER_WRONG)
    };
    Ok(BeforeTerms {
        timeout_ms: number(&asked.before_timeout_ms, BeforeTerms::TIMEOUT_MS, usual.timeout_ms)?,
        on_timeout: fallback(&asked.on_timeout, usual.on_timeout)?,
        on_unreachable: fallback(&asked.on_unreachable, usual.on_unreachable)?,
        on_status: fallback(&asked.on_status, usual.on_status)?,
        on_malformed: fallback(&asked.on_malformed, usual.on_malformed)?,
        on_busy: fallback(&asked.on_busy, usual.on_busy)?,
    })
}

/// What becomes of the secrets: they stay if nothing is said, and an empty one is none.
fn secret(asked: &Set<'_>) -> Result<NewSecret, Failure> {
    let wrong = Failure::Whole(code::WEBHOOK_SECRET_WRONG);
    let overlap_s = asked.overlap_s.number().map_err(|Malformed| wrong)?.unwrap_or(OVERLAP_S);
    if overlap_s > OVERLAP_S_MAX {
        return Err(wrong);
    }
    let overlap_ms = overlap_s * 1000;
    let generated = switch(&asked.generate, false)?;
    match (asked.secret.text().map_err(|Malformed| wrong)?, generated) {
        (None, true) => Ok(NewSecret::Generated { overlap_ms }),
        (None, false) => Ok(NewSecret::Keep),
        (Some(_), true) => Err(wrong),
        (Some(""), false) => Ok(NewSecret::Remove),
        (Some(text), false) => {
            let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
            if text.len() > SECRET_BYTES_MAX || !printable {
                return Err(wrong);
            }
            Ok(NewSecret::Given { text: text.to_owned(), overlap_ms })
        }
    }
}

/// `subscription_list`: all, or the one that is named.
pub(in crate::http) async fn list(call: &Call<'_>, body: &str) -> Answered {
    let asked: Named<'_> = call.parse(body)?;
    let wanted = name_if_given(&asked.name)?;
    let mut seen = ask(call, call.subscribers.list(call.app().id)).await?;
    if let Some(wanted) = wanted {
        seen.retain(|seen| *seen.subscription.name == *wanted);
        if seen.is_empty() {
            return call.fails(code::SUBSCRIPTION_UNKNOWN);
        }
    }
    Ok(call.success(&Listed { items: seen.iter().map(Item::from).collect() }))
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(rename = "SubscriptionItem")]
    items: Vec<Item<'a>>,
}

/// A subscription as it is shown; the fields are those of `subscription_set`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    name: &'a str,
    source: &'static str,
    state: &'static str,
    url: &'a str,
    commands: &'a [Box<str>],
    enabled: u8,
    format: &'static str,
    secret_item: Vec<SecretItem>,
    extra_headers: u8,
    timeout_ms: u64,
    retry_min_ms: u64,
    retry_max_ms: u64,
    call_once: u8,
    failure_policy: &'static str,
    attempts_max: u32,
    in_flight_max: u32,
    per_second: u32,
    before_timeout_ms: u64,
    before_on_timeout: &'static str,
    before_on_unreachable: &'static str,
    before_on_status: &'static str,
    before_on_malformed: &'static str,
    before_on_busy: &'static str,
    moves: u32,
}

/// A secret as it is shown.
#[derive(Serialize)]
struct SecretItem {
    #[serde(rename = "Secret")]
    secret: &'static str,
    /// 0 for the one in use.
    #[serde(rename = "Until")]
    until: i64,
}

impl From<&SealedSecret> for SecretItem {
    fn from(secret: &SealedSecret) -> Self {
        Self { secret: "********", until: secret.until.map_or(0, seconds) }
    }
}

impl<'a> From<&'a SubscriptionSeen> for Item<'a> {
    fn from(seen: &'a SubscriptionSeen) -> Self {
        let SubscriptionSeen { subscription: set, source, state, term } = seen;
        let fallback = |fallback| tags::name(&tags::FALLBACKS, &fallback);
        Self {
            name: &set.name,
            source: match source {
                Source::Settings => "settings",
                Source::Call => "call",
            },
            state: match state {
                State::Serving => "serving",
                State::Off => "off",
                State::Pulled => "pulled",
                State::Held => "held",
            },
            url: set.url.as_deref().unwrap_or_default(),
            commands: &set.commands,
            enabled: set.enabled.into(),
            format: tags::name(&tags::FORMATS, &set.format),
            secret_item: set.secrets.iter().map(SecretItem::from).collect(),
            extra_headers: set.headers.into(),
            timeout_ms: set.delivery.timeout_ms,
            retry_min_ms: set.delivery.retry_min_ms,
            retry_max_ms: set.delivery.retry_max_ms,
            call_once: set.delivery.call_once.into(),
            failure_policy: tags::name(&tags::FAILURE_POLICIES, &set.delivery.policy),
            attempts_max: set.delivery.attempts_max,
            in_flight_max: set.delivery.in_flight_max,
            per_second: set.delivery.per_second.unwrap_or(0),
            before_timeout_ms: set.before.timeout_ms,
            before_on_timeout: fallback(set.before.on_timeout),
            before_on_unreachable: fallback(set.before.on_unreachable),
            before_on_status: fallback(set.before.on_status),
            before_on_malformed: fallback(set.before.on_malformed),
            before_on_busy: fallback(set.before.on_busy),
            moves: *term,
        }
    }
}

/// `subscription_delete`. Repeat: one that is not there is deleted already.
pub(in crate::http) async fn delete(call: &Call<'_>, body: &str) -> Answered {
    let asked: Named<'_> = call.parse(body)?;
    let name = name(&asked.name)?;
    let position = ask(call, call.subscribers.delete(call.app().id, name, call.origin())).await?;
    Ok(call.done().at(position))
}

/// `subscription_test`: makes a call that tells nothing, and answers what came of it.
pub(in crate::http) async fn test(call: &Call<'_>, body: &str) -> Answered {
    let asked: Named<'_> = call.parse(body)?;
    let name = name(&asked.name)?;
    let tested = ask(call, call.subscribers.test(call.app().id, name, call.origin())).await?;
    Ok(call.success(&TestedItem {
        result: tested.result,
        status: tested.status.unwrap_or(0),
        took_ms: tested.took_ms,
        info: tested.info,
    }))
}

#[derive(Serialize)]
struct TestedItem {
    #[serde(rename = "Result")]
    result: &'static str,
    #[serde(rename = "Status")]
    status: u16,
    #[serde(rename = "TookMs")]
    took_ms: u64,
    #[serde(rename = "Info")]
    info: String,
}

/// `subscription_seek`: exactly one of `Offsets`, `Time` and `End` says where to.
pub(in crate::http) async fn seek(call: &Call<'_>, body: &str) -> Answered {
    let asked: Seek<'_> = call.parse(body)?;
    let name = name(&asked.name)?.into();
    let to = destination(&asked)?;
    let (term, position) =
        ask(call, call.subscribers.seek(call.app().id, name, to, call.origin())).await?;
    Ok(call.success(&Moved { term }).at(position))
}

#[derive(Serialize)]
struct Moved {
    #[serde(rename = "Moves")]
    term: u32,
}

fn destination(asked: &Seek<'_>) -> Result<SeekTo, Failure> {
    let wrong = Failure::Whole(code::WEBHOOK_PLACE_WRONG);
    let offsets = asked.offsets.items().map_err(|Malformed| wrong)?;
    let time = moment(&asked.time, code::WEBHOOK_PLACE_WRONG)?;
    let end = asked.end.flag().map_err(|Malformed| wrong)?.unwrap_or(false);
    match (offsets, time, end) {
        (Some(places), None, false) => {
            if places.is_empty() || places.len() > OFFSETS_MAX {
                return Err(wrong);
            }
            let place = |place: &Object<Place<'_>>| {
                let place = place.given().map_err(|Malformed| wrong)?;
                whole(&place.partition).zip(whole(&place.offset)).ok_or(wrong)
            };
            let mut places = places.iter().map(place).collect::<Result<Vec<(u16, u64)>, _>>()?;
            places.sort_unstable();
            if places.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return Err(wrong);
            }
            Ok(SeekTo::Offsets(places))
        }
        (None, Some(time), false) => Ok(SeekTo::Time(time)),
        (None, None, true) => Ok(SeekTo::End),
        _ => Err(wrong),
    }
}
