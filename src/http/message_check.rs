//! May one user write to others? Rule: extensions.md 4.

use serde::Serialize;

use super::answer::Answered;
use super::batch::{Batch, EntryResult};
use super::call::Call;
use super::error_code as code;
use super::relation::{self, Sides};
use super::settings::MessageRules;
use super::shape::{Account, List, Listed, shape};
use crate::actors::Standing;

shape! {
    /// The body of `message_check`.
    Check<'a> {
        from: Account<'a> = "From_Account",
        to: List<Listed<'a>> = "To_Account",
    }
}

/// `message_check`.
pub(super) async fn check(call: &Call<'_>, body: &str) -> Answered {
    let asked: Check<'_> = call.parse(body)?;
    let (batch, targets) = Batch::read(&asked.from, &asked.to)?;
    let found = relation::between(call, call.asker(), batch.owner, &targets, Sides::Both).await?;
    let rules = &call.app().messages;
    let expected =
        found.into_iter().map(|found| found.map(|(ours, theirs)| Verdict::of(ours, theirs, rules)));
    let items = batch.verdicts(call.operation, expected).map(|(name, verdict)| Item {
        name,
        // A caller that reads the verdict alone must not let an unchecked message through.
        verdict: verdict.unwrap_or(Verdict::Strangers),
        sender_code: verdict.unwrap_or(Verdict::Strangers).code(rules),
        result: EntryResult::of(verdict.map(|_| ()), call.operation),
    });
    let items: Vec<Item<'_>> = items.collect();
    let failed = items.iter().filter(|item| item.result.is_failed());
    let failed = failed.map(|item| item.name).collect();
    Ok(call.success(&Checked { items, failed }))
}

/// What holds for a message of one user to another. Rule: rest-api.md 3.1 and 9; blocks are looked
/// at before friendships.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Verdict {
    Allowed,
    BlockedByReceiver,
    BlockedBySender,
    #[serde(rename = "NotFriend")]
    Strangers,
    /// The receiver does not have the sender as a friend.
    #[serde(rename = "NotFriend")]
    NotReceiversFriend,
    /// The sender does not have the receiver as a friend.
    #[serde(rename = "NotFriend")]
    NotSendersFriend,
}

impl Verdict {
    fn of(sender: Standing, receiver: Standing, rules: &MessageRules) -> Self {
        if receiver.blocks {
            return Self::BlockedByReceiver;
        }
        if sender.blocks && rules.block_stops_both {
            return Self::BlockedBySender;
        }
        match (sender.has_friend, receiver.has_friend) {
            _ if !rules.require_friend => Self::Allowed,
            (true, true) => Self::Allowed,
            (false, false) => Self::Strangers,
            (true, false) => Self::NotReceiversFriend,
            (false, true) => Self::NotSendersFriend,
        }
    }

    /// What the sender's client is told.
    fn code(self, rules: &MessageRules) -> u32 {
        match self {
            Self::Allowed => 0,
            Self::BlockedByReceiver if rules.blocked_send_looks_ok => 0,
            Self::BlockedByReceiver | Self::BlockedBySender => code::BLOCKED_SEND,
            Self::Strangers => code::SEND_TO_STRANGER,
            Self::NotReceiversFriend => code::SEND_BY_NO_FRIEND,
            Self::NotSendersFriend => code::SEND_TO_NO_FRIEND,
        }
    }
}

#[derive(Serialize)]
struct Checked<'a> {
    #[serde(rename = "MessageCheckItem")]
    items: Vec<Item<'a>>,
    #[serde(rename = "Fail_Account", skip_serializing_if = "Vec::is_empty")]
    failed: Vec<&'a str>,
}

#[derive(Serialize)]
struct Item<'a> {
    #[serde(rename = "To_Account")]
    name: &'a str,
    #[serde(rename = "Verdict")]
    verdict: Verdict,
    #[serde(rename = "ErrorCodeForSender")]
    sender_code: u32,
    #[serde(flatten)]
    result: EntryResult,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(blocks: bool, has_friend: bool) -> Standing {
        Standing { owner_imported: true, blocks, has_friend }
    }

    fn told(sender: Standing, receiver: Standing, rules: &MessageRules) -> (Verdict, u32) {
        let verdict = Verdict::of(sender, receiver, rules);
        (verdict, verdict.code(rules))
    }

    #[test]
    fn a_block_stops_the_blocked_side_only_and_two_stop_both() {
        let rules = MessageRules { blocked_send_looks_ok: false, ..MessageRules::default() };
        let (blocks, not) = (standing(true, false), standing(false, false));
        assert_eq!(told(not, not, &rules), (Verdict::Allowed, 0));
        assert_eq!(told(blocks, not, &rules), (Verdict::Allowed, 0));
        assert_eq!(told(not, blocks, &rules), (Verdict::BlockedByReceiver, 20007));
        assert_eq!(told(blocks, blocks, &rules), (Verdict::BlockedByReceiver, 20007));
    }

    #[test]
    fn by_default_the_blocked_writer_is_not_told() {
        let rules = MessageRules::default();
        let (not, blocks) = (standing(false, false), standing(true, false));
        assert_eq!(told(not, blocks, &rules), (Verdict::BlockedByReceiver, 0));
    }

    #[test]
    fn by_choice_a_block_stops_both() {
        let rules = MessageRules { block_stops_both: true, ..MessageRules::default() };
        let (blocks, not) = (standing(true, true), standing(false, true));
        assert_eq!(told(blocks, not, &rules), (Verdict::BlockedBySender, 20007));
    }

    #[test]
    fn by_choice_only_friends_write_and_the_code_says_what_is_missing() {
        let rules = MessageRules { require_friend: true, ..MessageRules::default() };
        let (has, not) = (standing(false, true), standing(false, false));
        assert_eq!(told(has, has, &rules), (Verdict::Allowed, 0));
        assert_eq!(told(not, not, &rules), (Verdict::Strangers, 20009));
        assert_eq!(told(has, not, &rules), (Verdict::NotReceiversFriend, 20010));
        assert_eq!(told(not, has, &rules), (Verdict::NotSendersFriend, 20011));
        assert_eq!(told(has, standing(true, true), &rules).0, Verdict::BlockedByReceiver);
        let names = [Verdict::Strangers, Verdict::NotReceiversFriend, Verdict::NotSendersFriend];
        for verdict in names {
            assert_eq!(serde_json::to_value(verdict).unwrap(), "NotFriend");
        }
    }
}
