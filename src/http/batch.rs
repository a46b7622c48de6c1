//! The batch contract of the relationship calls: one result per entry, in request order; a failed
//! entry does not undo others. Rule: rest-api.md 2.2.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Operation;
use super::answer::{Answer, Failure, Info};
use super::beforehand;
use super::call::Call;
use super::error_code::{self as code, ErrorCode};
use super::idempotency;
use super::shape::{Account, List, Listed, Malformed};
use crate::actors::{Executed, ItemError};
use crate::domain::{Command, Refusal, Rejection, UserId, Verdict};

/// The most entries of one relationship call. Rule: rest-api.md 1.8.
pub(super) const ENTRIES_MAX: usize = 1000;

/// The entries of a request, with the verdicts on those that need no actor.
pub(super) struct Batch<'a> {
    /// `From_Account`.
    pub(super) owner: UserId,
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    /// As the request has it.
    name: &'a str,
    /// `None`: the actors decide.
    settled: Option<ErrorCode>,
}

/// Reads `From_Account`. Fails with 30001 when it is missing or empty, and with 30003 when it is no
/// legal UserID: such an account can never have been imported. Rule: rest-api.md 2.3.
pub(super) fn owner(from: &Account<'_>) -> Result<UserId, Failure> {
    match from.name() {
        None | Some("") => Err(Failure::Whole(code::REQUEST_INVALID)),
        Some(name) => UserId::parse(name).map_err(|_| Failure::Whole(code::ACCOUNT_NOT_IMPORTED)),
    }
}

/// Reads a required list: missing, not a list, empty or too long is 30001. Rule: rest-api.md 2.3.
pub(super) fn entries<T>(list: &List<T>) -> Result<&[T], Failure> {
    match list.items() {
        Ok(Some(items)) if !items.is_empty() && items.len() <= ENTRIES_MAX => Ok(items),
        Ok(Some(_) | None) | Err(Malformed) => Err(Failure::Whole(code::REQUEST_INVALID)),
    }
}

/// About whom the actors are asked to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Accounts that are known to be imported.
    Known,
    /// Everybody who is named. Nothing is done about those without an account; [`tell_unknown`] says so.
    Named,
}

/// Turns `refused` into `AccountUnknown` for targets that do not exist.
///
/// It asks about refused targets alone, so that an entry of a deleted account can still be removed. If an
/// owner does not answer, the refusal of its users stands: the rest of the call has been done. So does that of an entry
/// about whom a call with a key has done something, if they are gone when it comes again.
pub(super) async fn tell_unknown(
    call: &Call<'_>,
    owner: UserId,
    users: &[UserId],
    refused: Rejection,
    outcomes: &mut [Result<(), ItemError>],
) {
    let refused = Err(ItemError::Rejected(refused));
    let refused = outcomes.iter_mut().zip(users).filter(|(outcome, _)| **outcome == refused);
    let (outcomes, users): (Vec<_>, Vec<_>) = refused.unzip();
    if users.is_empty() {
        return;
    }
    let imported = idempotency::imported(call, call.behind(), owner, &users).await;
    for (outcome, _) in outcomes.into_iter().zip(imported).filter(|(_, is)| *is == Ok(false)) {
        *outcome = Err(ItemError::Rejected(Rejection::AccountUnknown));
    }
}

impl<'a> Batch<'a> {
    /// A batch without entries, to be filled with [`Batch::expect`] and [`Batch::settle`].
    pub(super) fn new(owner: UserId, entries_max: usize) -> Self {
        Self { owner, entries: Vec::with_capacity(entries_max) }
    }

    /// Reads `From_Account` and `To_Account`; answers the legal targets as well.
    pub(super) fn read(
        from: &Account<'_>,
        to: &'a List<Listed<'_>>,
    ) -> Result<(Self, Vec<UserId>), Failure> {
        let names = entries(to)?;
        let mut batch = Self::new(owner(from)?, names.len());
        let mut targets = Vec::with_capacity(names.len());
        for name in names.iter().map(Listed::name) {
            match UserId::parse(name) {
                Ok(user) => {
                    targets.push(user);
                    batch.expect(name);
                }
                Err(_) => batch.settle(name, code::ACCOUNT_ILLEGAL),
            }
        }
        Ok((batch, targets))
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Judges entries that say more than a name. Of each, the first check that fails counts: the
    /// account is legal, it is imported, the entry is well formed. An entry that names nobody is
    /// answered under the empty name. Answers what is left to the actors as well: of [`Who::Known`],
    /// without those whose owner does not say whether they are imported.
    pub(super) async fn judge<T>(
        call: &Call<'_>,
        owner: UserId,
        named: Vec<(Option<&'a str>, Result<T, Malformed>)>,
        left_to: Who,
    ) -> (Self, Vec<(UserId, T)>) {
        let legal = |name: &Option<&str>| name.and_then(|name| UserId::parse(name).ok());
        let is_asked = |asked: &Result<T, Malformed>| left_to == Who::Known || asked.is_err();
        let asked = named.iter().filter(|(_, asked)| is_asked(asked));
        let users: Vec<UserId> = asked.filter_map(|(name, _)| legal(name)).collect();
        let imported = idempotency::imported(call, call.before(), owner, &users).await;
        let mut imported = imported.into_iter();
        let mut batch = Self::new(owner, named.len());
        let mut left = Vec::with_capacity(users.len());
        for (name, asked) in named {
            let user = legal(&name);
            let imported = user.filter(|_| is_asked(&asked)).and_then(|_| imported.next());
            match (name, user, imported, asked) {
                (None, ..) => batch.settle("", code::REQUEST_INVALID),
                (Some(name), None, ..) => batch.settle(name, code::ACCOUNT_ILLEGAL),
                (Some(name), _, Some(Ok(false)), _) => {
                    batch.settle(name, code::ACCOUNT_NOT_IMPORTED);
                }
                (Some(name), _, _, Err(Malformed)) => batch.settle(name, code::REQUEST_INVALID),
                (Some(name), _, Some(Err(error)), _) => batch.settle(name, call.unheard(&error)),
                (Some(name), Some(user), _, Ok(asked)) => {
                    batch.expect(name);
                    left.push((user, asked));
                }
            }
        }
        (batch, left)
    }

    /// Adds an entry that the actors decide.
    pub(super) fn expect(&mut self, name: &'a str) {
        self.entries.push(Entry { name, settled: None });
    }

    /// Adds an entry that fails whatever the actors say.
    pub(super) fn settle(&mut self, name: &'a str, code: ErrorCode) {
        self.entries.push(Entry { name, settled: Some(code) });
    }

    /// Executes `command`, which has one item for each expected entry. Also without any: then it
    /// tells whether the owner is imported.
    pub(super) async fn execute(
        &self,
        call: &Call<'_>,
        command: Command,
    ) -> Result<Executed, Failure> {
        call.execute(self.owner, command).await.map_err(|error| call.fault(&error))
    }

    /// The same for a command about which somebody may have been asked. Answers what was said, too, if
    /// that matters for the answer.
    pub(super) async fn execute_judged(
        &self,
        call: &Call<'_>,
        command: Command,
    ) -> Result<(Executed, Option<Verdict>), Failure> {
        let verdict = command.parts().1.cloned();
        let executed = self.execute(call, command).await?;
        let forbidden = Err(ItemError::Rejected(Rejection::Forbidden));
        if !executed.outcomes.contains(&forbidden) {
            return Ok((executed, None));
        }
        let verdict = beforehand::standing(call, self.owner, verdict).await?;
        Ok((executed, verdict))
    }

    /// What all entries came to, given that of the expected ones, in order.
    pub(super) fn verdicts<T>(
        &self,
        operation: Operation,
        expected: impl IntoIterator<Item = Result<T, ErrorCode>>,
    ) -> impl Iterator<Item = (&'a str, Result<T, ErrorCode>)> {
        let mut expected = expected.into_iter();
        self.entries.iter().map(move |entry| {
            let verdict = match entry.settled {
                Some(code::ACCOUNT_ILLEGAL) => Err(code::illegal_account(operation)),
                Some(code) => Err(code),
                // The actors answer one outcome per item; a missing one would be their fault.
                None => expected.next().unwrap_or(Err(code::broken(operation))),
            };
            (entry.name, verdict)
        })
    }

    /// The answer of a call that changes: `ResultItem`, and `Fail_Account` with failures.
    pub(super) fn answer(&self, operation: Operation, executed: Executed) -> Answer {
        self.answer_under(operation, executed, None)
    }

    /// The same for a call about which somebody was asked, in the words of `verdict`.
    pub(super) fn answer_under(
        &self,
        operation: Operation,
        executed: Executed,
        verdict: Option<&Verdict>,
    ) -> Answer {
        let mut results = self.results(operation, executed.outcomes);
        let refused = verdict.iter().flat_map(|verdict| &verdict.refused);
        let refused: BTreeMap<&str, &Refusal> =
            refused.map(|refusal| (refusal.user.as_str(), refusal)).collect();
        for item in
            results.items.iter_mut().filter(|item| item.result.code == code::FORBIDDEN.number)
        {
            if let Some(refusal) = refused.get(item.name) {
                item.result.say(refusal);
            }
        }
        Answer::success(operation.service(), &results).at(executed.position)
    }

    /// What all entries came to, given the outcomes of the expected ones.
    pub(super) fn results(
        &self,
        operation: Operation,
        outcomes: Vec<Result<(), ItemError>>,
    ) -> Results<'a> {
        let outcomes = outcomes.into_iter();
        let expected =
            outcomes.map(|outcome| outcome.map_err(|error| code::of_item(operation, error)));
        let items: Vec<Item<'_>> = self
            .verdicts(operation, expected)
            .map(|(name, verdict)| Item { name, result: EntryResult::of(verdict, operation) })
            .collect();
        // Rule: rest-api.md 4.5.
        let failed = match operation {
            Operation::FriendDelete => Vec::new(),
            _ => {
                items.iter().filter(|item| item.result.is_failed()).map(|item| item.name).collect()
            }
        };
        Results { items, failed }
    }

    /// The entries of a call that only looks; the relation of a failed one is `none`.
    pub(super) fn relations(
        &self,
        operation: Operation,
        found: impl IntoIterator<Item = Result<&'static str, ErrorCode>>,
        none: &'static str,
    ) -> Relations<'a> {
        let items: Vec<RelationItem<'a>> = self
            .verdicts(operation, found)
            .map(|(name, found)| RelationItem {
                name,
                relation: found.unwrap_or(none),
                result: EntryResult::of(found.map(|_| ()), operation),
            })
            .collect();
        let failed = items.iter().filter(|item| item.result.is_failed());
        let failed = failed.map(|item| item.name).collect();
        Relations { items, failed }
    }
}

/// The data of an answer to a call that changes.
#[derive(Serialize)]
pub(super) struct Results<'a> {
    #[serde(rename = "ResultItem")]
    items: Vec<Item<'a>>,
    #[serde(rename = "Fail_Account", skip_serializing_if = "Vec::is_empty")]
    failed: Vec<&'a str>,
}

/// What one entry came to.
#[derive(Serialize)]
struct Item<'a> {
    #[serde(rename = "To_Account")]
    name: &'a str,
    #[serde(flatten)]
    result: EntryResult,
}

/// Code and text of one entry: always both.
#[derive(Serialize)]
pub(super) struct EntryResult {
    #[serde(rename = "ResultCode")]
    code: u32,
    #[serde(rename = "ResultInfo")]
    info: Info,
}

impl EntryResult {
    pub(super) fn of(verdict: Result<(), ErrorCode>, operation: Operation) -> Self {
        let code = verdict.err().map_or(0, |code| code.number);
        Self { code, info: Info::of(verdict, operation) }
    }

    pub(super) fn is_failed(&self) -> bool {
        self.code != 0
    }

    /// Hands on with which code and text it was refused, as far as they are ours to hand on.
    fn say(&mut self, refusal: &Refusal) {
        if code::FRIENDS_REFUSED.contains(&refusal.code) {
            self.code = refusal.code;
        }
        if !refusal.info.is_empty() {
            self.info = Info::Said(refusal.info.clone());
        }
    }
}

/// What a call that only looks has found.
pub(super) struct Relations<'a> {
    pub(super) items: Vec<RelationItem<'a>>,
    /// `Fail_Account`.
    pub(super) failed: Vec<&'a str>,
}

/// An entry with the relation between the two.
#[derive(Serialize)]
pub(super) struct RelationItem<'a> {
    #[serde(rename = "To_Account")]
    name: &'a str,
    #[serde(rename = "Relation")]
    relation: &'static str,
    #[serde(flatten)]
    result: EntryResult,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::shape::{parse, shape};
    use crate::journal::{Offset, Partition};

    shape! {
        Body<'a> {
            from: Account<'a> = "From_Account",
            to: List<Listed<'a>> = "To_Account",
        }
    }

    fn executed(outcomes: Vec<Result<(), ItemError>>) -> Executed {
        Executed {
            outcomes,
            position: Some((Partition(3), Offset(7))),
            sent_at: None,
            groups_sequence: None,
        }
    }

    fn answer(body: &str, operation: Operation, outcomes: Vec<Result<(), ItemError>>) -> Value {
        let body: Body<'_> = parse(body).unwrap();
        let (batch, _) = Batch::read(&body.from, &body.to).map_err(Failure::code).unwrap();
        let answer = batch.answer(operation, executed(outcomes));
        assert_eq!(answer.positions.as_slice(), [(Partition(3), Offset(7))]);
        serde_json::from_slice(&answer.body).unwrap()
    }

    fn whole(body: &str) -> Option<Failure> {
        let body: Body<'_> = parse(body).unwrap();
        Batch::read(&body.from, &body.to).err()
    }

    #[test]
    fn every_entry_has_its_result_in_request_order_and_the_failed_are_named() {
        let answer = answer(
            r#"{"From_Account":"amy","To_Account":["bob","a b","carl","bob",""]}"#,
            Operation::BlackListAdd,
            vec![Ok(()), Err(ItemError::Owed), Err(ItemError::Rejected(Rejection::AlreadyBlocked))],
        );
        let entry = |name: &str, code: u32, reason: &str| {
            let info =
                if code == 0 { String::new() } else { format!("Err_SNS_BlackListAdd_{reason}") };
            json!({"To_Account": name, "ResultCode": code, "ResultInfo": info})
        };
        let expected = json!({
            "ResultItem": [
                entry("bob", 0, ""),
                entry("a b", 30002, "SdkAppId_Illegal"),
                entry("carl", 30007, "Timeout"),
                entry("bob", 30001, "Already_Exist"),
                entry("", 30002, "SdkAppId_Illegal"),
            ],
            "Fail_Account": ["a b", "carl", "bob", ""],
            "ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": "", "ErrorDisplay": "",
        });
        assert_eq!(answer, expected);
    }

    #[test]
    fn fail_account_is_absent_without_failures_and_always_from_friend_delete() {
        let body = r#"{"From_Account":"amy","To_Account":["bob"]}"#;
        let succeeded = answer(body, Operation::BlackListAdd, vec![Ok(())]);
        assert_eq!(succeeded.get("Fail_Account"), None);
        let stranger = Err(ItemError::Rejected(Rejection::NotFriend));
        let failed = answer(body, Operation::FriendDelete, vec![stranger]);
        assert_eq!(failed.get("Fail_Account"), None);
        assert_eq!(failed["ResultItem"][0]["ResultCode"], 31704);
    }

    #[test]
    fn a_missing_outcome_is_an_internal_error_of_its_entry() {
        let body = r#"{"From_Account":"amy","To_Account":["bob","carl"]}"#;
        let answer = answer(body, Operation::BlackListAdd, vec![Ok(())]);
        assert_eq!(answer["ResultItem"][1]["ResultCode"], 30006);
    }

    #[test]
    fn the_relation_of_a_failed_entry_is_none() {
        let body = r#"{"From_Account":"amy","To_Account":["", "bob", "carl"]}"#;
        let body: Body<'_> = parse(body).unwrap();
        let (batch, _) = Batch::read(&body.from, &body.to).map_err(Failure::code).unwrap();
        let found = [Ok("BOTH"), Err(code::ACCOUNT_NOT_IMPORTED)];
        let Relations { items, failed } = batch.relations(Operation::FriendCheck, found, "NONE");
        let relations: Vec<_> =
            items.iter().map(|item| (item.relation, item.result.code)).collect();
        assert_eq!(relations, [("NONE", 30002), ("BOTH", 0), ("NONE", 30003)]);
        assert_eq!(failed, ["", "carl"]);
    }

    #[test]
    fn whole_request_failures_follow_2_3() {
        let invalid = Some(Failure::Whole(code::REQUEST_INVALID));
        for body in [
            r#"{"To_Account":["bob"]}"#,
            r#"{"From_Account":null,"To_Account":["bob"]}"#,
            r#"{"From_Account":"","To_Account":["bob"]}"#,
            r#"{"From_Account":"amy"}"#,
            r#"{"From_Account":"amy","To_Account":null}"#,
            r#"{"From_Account":"amy","To_Account":"bob"}"#,
            r#"{"From_Account":"amy","To_Account":7}"#,
            r#"{"From_Account":"amy","To_Account":[]}"#,
            // An illegal account can never have been imported, but a malformed list comes first.
            r#"{"From_Account":"a my","To_Account":[]}"#,
        ] {
            assert_eq!(whole(body), invalid, "{body}");
        }
        let unknown = Some(Failure::Whole(code::ACCOUNT_NOT_IMPORTED));
        assert_eq!(whole(r#"{"From_Account":"a my","To_Account":["bob"]}"#), unknown);
    }

    #[test]
    fn a_list_has_at_most_a_thousand_entries() {
        let body = |entries: usize| {
            format!(
                r#"{{"From_Account":"amy","To_Account":["b"{}]}}"#,
                ",\"b\"".repeat(entries - 1)
            )
        };
        assert_eq!(whole(&body(1000)), None);
        assert_eq!(whole(&body(1001)), Some(Failure::Whole(code::REQUEST_INVALID)));
        assert_eq!(whole(&body(5000)), Some(Failure::Whole(code::REQUEST_INVALID)));
    }
}
