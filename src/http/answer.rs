//! What goes back: the envelope around every answer. Rule: rest-api.md 1.3.
//!
//! Answers are written straight into the bytes that are sent: the data first, then the envelope.
//! Nothing in an answer is ever `null`.

use serde::ser::{Serialize, Serializer};
use smallvec::SmallVec;
use uuid::Uuid;

use super::edge::is_trouble;
use super::error_code::{self as code, ErrorCode, Text};
use super::{Operation, Service};
use crate::journal::{Offset, Partition};

/// What a call came to: an answer, or the code of why there is none.
pub(super) type Answered = Result<Answer, Failure>;

/// Why a call as a whole failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// In one of the checks that all commands share: the bare envelope, without `ErrorDisplay`.
    Common(ErrorCode),
    /// In the body, which is too long or did not come: as [`Self::Common`], and nothing of ours.
    Body,
    /// In the command itself: the envelope of its service.
    Whole(ErrorCode),
}

impl Failure {
    /// Its code.
    pub(super) fn code(self) -> ErrorCode {
        match self {
            Self::Common(code) | Self::Whole(code) => code,
            Self::Body => code::TIMED_OUT,
        }
    }
}

/// The body of an answer, and what its headers and the log say about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// JSON.
    pub(super) body: Vec<u8>,
    /// The envelope's code.
    pub(super) code: u32,
    /// Where the changes stand in the journal.
    pub(super) positions: SmallVec<[(Partition, Offset); 1]>,
    /// The id of the request that was answered, if it was an earlier one.
    pub(super) request: Option<Uuid>,
    /// Something in it may be answered otherwise when the call comes again.
    pub(super) unsettled: bool,
}

/// What stands before the code of an entry.
const ENTRY_CODE: &[u8] = br#""ResultCode":"#;

/// The bytes of an ordinary answer without data, so that it takes one allocation.
const BODY_BYTES: usize = 256;

impl Answer {
    /// Success, with the members of `data`, which is an object.
    pub(super) fn success(service: Service, data: &impl Serialize) -> Self {
        let mut body = Vec::with_capacity(BODY_BYTES);
        serde_json::to_writer(&mut body, data).expect("texts and numbers are always JSON");
        // The closing brace gives way to the envelope.
        body.pop();
        if body.len() > 1 {
            body.push(b',');
        }
        body.extend_from_slice(match service {
            Service::Relations | Service::Profiles => {
                br#""ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"","ErrorDisplay":""}"#
            }
            Service::Accounts | Service::Messages | Service::Webhooks => {
                br#""ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}"#
            }
        });
        Self { body, ..Self::default() }
    }

    /// An answer with an envelope of its own: all of `data`, which is an object with `code` in it.
    pub(super) fn own(data: &impl Serialize, code: u32) -> Self {
        let body = serde_json::to_vec(data).expect("texts and numbers are always JSON");
        Self { body, code, ..Self::default() }
    }

    /// Failure of a call of `operation`, or of one that names no operation.
    pub(super) fn failure(failure: Failure, operation: Option<Operation>) -> Self {
        let code = failure.code();
        let display = match (failure, operation.map(Operation::service)) {
            (Failure::Whole(_), Some(Service::Relations | Service::Profiles)) => Some(""),
            (
                Failure::Whole(_),
                Some(Service::Accounts | Service::Messages | Service::Webhooks) | None,
            )
            | (Failure::Common(_) | Failure::Body, _) => None,
        };
        let info = code.text(operation);
        let mut body = Vec::with_capacity(BODY_BYTES);
        let envelope = Envelope { status: "FAIL", code: code.number, info, display };
        serde_json::to_writer(&mut body, &envelope).expect("texts and numbers are always JSON");
        Self { body, code: code.number, ..Self::default() }
    }

    /// Failure of a call of a service without `ErrorDisplay`, with a code and a text of others' choice.
    pub(super) fn refusal(code: u32, info: &str) -> Self {
        Self::own(&Envelope { status: "FAIL", code, info, display: None }, code)
    }

    /// Whether the answer is the last word on every entry: none of them tells of trouble. Names and
    /// texts cannot be mistaken for a code, because quotes in them are escaped.
    pub(super) fn is_settled(&self) -> bool {
        let mut entries = self.body.windows(ENTRY_CODE.len() + 6);
        let trouble = |code: &[u8]| {
            let code = std::str::from_utf8(code.get(..5).unwrap_or_default());
            let number = code.ok().and_then(|code| code.parse().ok());
            number.is_some_and(is_trouble)
        };
        !self.unsettled && !entries.any(|bytes| bytes.strip_prefix(ENTRY_CODE).is_some_and(trouble))
    }

    /// Tells where a change stands.
    pub(super) fn at(mut self, position: impl IntoIterator<Item = (Partition, Offset)>) -> Self {
        self.positions.extend(position);
        self
    }
}

#[derive(serde::Serialize)]
struct Envelope<T> {
    #[serde(rename = "ActionStatus")]
    status: &'static str,
    #[serde(rename = "ErrorCode")]
    code: u32,
    #[serde(rename = "ErrorInfo")]
    info: T,
    #[serde(rename = "ErrorDisplay", skip_serializing_if = "Option::is_none")]
    display: Option<&'static str>,
}

/// `ResultInfo`: empty on success. Rule: rest-api.md 2.2.
pub(super) enum Info {
    Success,
    /// That of the catalogue.
    Code(Text),
    /// One of others' choice.
    Said(Box<str>),
}

impl Info {
    /// The text for an entry of a call of `operation`.
    pub(super) fn of(verdict: Result<(), ErrorCode>, operation: Operation) -> Self {
        verdict.err().map_or(Self::Success, |code| Self::Code(code.text(Some(operation))))
    }
}

impl Serialize for Info {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Success => serializer.serialize_str(""),
            Self::Code(text) => text.serialize(serializer),
            Self::Said(text) => serializer.serialize_str(text),
        }
    }
}
