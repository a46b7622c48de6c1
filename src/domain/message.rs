//! A one-to-one message that is taken over, to be handed on. Rule: rest-api.md 8.

use serde::{Deserialize, Serialize};

use super::event::is_false;
use super::id::UserId;

/// A message as its sender's record keeps it. This server delivers none: whoever follows the journal
/// does.
///
/// Units: `time` is unix seconds, `life_time` seconds. The texts of JSON are those of the request,
/// byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The receivers, 1 to 500.
    pub to: Vec<UserId>,
    /// `MsgSeq`.
    pub seq: u32,
    /// `MsgRandom`.
    pub random: u32,
    /// `MsgTime`.
    pub time: u32,
    /// `MsgBody`, an array, as JSON in a text.
    pub body: Box<str>,
    /// `CloudCustomData`.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub custom_data: Box<str>,
    /// `OfflinePushInfo`, an object, as JSON in a text; empty for none.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub push: Box<str>,
    /// `MsgLifeTime`, at most 604800; 0 = only for receivers who are online. Absent: 7 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life_time: Option<u32>,
    /// `OnlineOnlyFlag` is 1: not to be stored.
    #[serde(default, skip_serializing_if = "is_false")]
    pub online_only: bool,
    /// `SyncOtherMachine` is 2: not to be stored for the sender.
    #[serde(default, skip_serializing_if = "is_false")]
    pub not_for_sender: bool,
    /// `SendMsgControl`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub control: Vec<Box<str>>,
    /// `IsNeedReadReceipt` is 1.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_receipt: bool,
    /// `SupportMessageExtension` is 1.
    #[serde(default, skip_serializing_if = "is_false")]
    pub extension: bool,
    /// Subscribers are not told: `ForbidAfterSendMsgCallback`, or one of a batch.
    #[serde(default, skip_serializing_if = "is_false")]
    pub untold: bool,
}

impl Message {
    /// `MsgKey`: names the message to its sender.
    pub fn key(&self) -> String {
        format!("{}_{}_{}", self.seq, self.random, self.time)
    }
}
