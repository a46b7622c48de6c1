//! Writes down what clients ask and what they are answered.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use cordon::domain::UserId;
use cordon::journal::{Offset, Partition};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Call, Deed, Nanos, Operation, Outcome, Place, Relation};
use crate::support::{Answer, Caller};

/// The largest page of a blocklist, which holds every blocklist. Rule: rest-api.md 2.1, 3.4.
const PAGE_MAX: u64 = 1000;

/// The codes of a whole call after which it was surely not done: the call was refused before anybody
/// was asked. Every other failure leaves it open.
fn surely_not_done(code: u64) -> bool {
    matches!(code, 30001 | 30003 | 60002 | 60003 | 60006 | 60007 | 60009..=60012 | 60015 | 60025)
        || (70000..71000).contains(&code)
}

/// A history in the making. Shared by the threads of all clients; what it costs is one lock per call.
#[derive(Debug)]
pub(crate) struct Recorder {
    began: Instant,
    operations: Mutex<Vec<Operation>>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), operations: Mutex::default() }
    }

    fn now(&self) -> Nanos {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(Nanos::MAX - 1)
    }

    /// Notes that `client` asks `node` from now on. Whoever never says what became of it does not
    /// know.
    pub(crate) fn invoke(&self, client: usize, node: usize, call: Call) -> Invocation<'_> {
        let operation = Operation {
            client,
            node,
            call,
            invoked_at: self.now(),
            answered_at: None,
            outcome: Outcome::Unknown,
            request: None,
            positions: Vec::new(),
        };
        Invocation { recorder: self, operation }
    }

    /// Asks over HTTP, and notes what becomes of it; answers that, too.
    pub(crate) fn ask(
        &self,
        client: usize,
        node: usize,
        caller: &mut Caller,
        call: Call,
    ) -> Outcome {
        let (command, body) = call.request();
        let invocation = self.invoke(client, node, call);
        invocation.settle(caller.try_call(command, &body))
    }

    /// Everything that has been settled or given up, in the order in which it was asked.
    pub(crate) fn into_operations(self) -> Vec<Operation> {
        let mut operations = self.operations.into_inner().unwrap_or_else(PoisonError::into_inner);
        operations.sort_by_key(|operation| operation.invoked_at);
        operations
    }
}

/// A call under way. Dropped without a word, nobody knows what became of it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Invocation<'r> {
    recorder: &'r Recorder,
    operation: Operation,
}

impl Invocation<'_> {
    /// It came to this.
    pub(crate) fn end(mut self, outcome: Outcome, request: Option<Uuid>, positions: Vec<Place>) {
        let answered_at = Some(self.recorder.now());
        let operation = &mut self.operation;
        *operation = Operation { answered_at, outcome, request, positions, ..operation.clone() };
    }

    /// It was answered like this, or the connection broke.
    pub(crate) fn settle(self, answer: io::Result<Answer>) -> Outcome {
        let Ok(answer) = answer else {
            self.end(Outcome::Unknown, None, Vec::new());
            return Outcome::Unknown;
        };
        let outcome = self.operation.call.outcome(&answer);
        let request = answer.header("cordon-request-id").and_then(|id| id.parse().ok());
        let positions = answer.header("cordon-position").map(places).unwrap_or_default();
        self.end(outcome.clone(), request, positions);
        outcome
    }
}

impl Drop for Invocation<'_> {
    fn drop(&mut self) {
        let mut operations =
            self.recorder.operations.lock().unwrap_or_else(PoisonError::into_inner);
        operations.push(self.operation.clone());
    }
}

/// The places of a `Cordon-Position`. Rule: extensions.md 1.
fn places(text: &str) -> Vec<Place> {
    let place = |text: &str| {
        let (partition, offset) = text.split_once('@')?;
        Some((Partition(partition.parse().ok()?), Offset(offset.parse().ok()?)))
    };
    text.split(',').map(|text| place(text).expect("a place is <partition>@<offset>")).collect()
}

impl Call {
    pub(crate) fn new(deed: Deed, owner: UserId, targets: &[UserId]) -> Self {
        Self { deed, owner, targets: targets.to_vec() }
    }

    /// The command and the body that ask for it.
    pub(crate) fn request(&self) -> (&'static str, Value) {
        let Self { deed, owner, targets } = self;
        let about = |more: Value| {
            let mut body = json!({"From_Account": owner, "To_Account": targets});
            let more = more.as_object().into_iter().flatten();
            more.for_each(|(name, value)| body[name] = value.clone());
            body
        };
        match deed {
            Deed::Block => ("sns/black_list_add", about(json!({}))),
            Deed::Unblock => ("sns/black_list_delete", about(json!({}))),
            Deed::Befriend => {
                let wanted = targets.iter().map(
                    |target| json!({"To_Account": target, "AddSource": "AddSource_Type_test"}),
                );
                let wanted: Vec<Value> = wanted.collect();
                let body = json!({"From_Account": owner, "AddFriendItem": wanted,
                    "AddType": "Add_Type_Both"});
                ("sns/friend_add", body)
            }
            Deed::Unfriend => {
                ("sns/friend_delete", about(json!({"DeleteType": "Delete_Type_Both"})))
            }
            Deed::Blocklist => {
                let body = json!({"From_Account": owner, "StartIndex": 0,
                    "MaxLimited": PAGE_MAX, "LastSequence": 0});
                ("sns/black_list_get", body)
            }
            Deed::Blocks => {
                ("sns/black_list_check", about(json!({"CheckType": "BlackCheckResult_Type_Both"})))
            }
            Deed::Friends => {
                ("sns/friend_check", about(json!({"CheckType": "CheckResult_Type_Both"})))
            }
        }
    }

    /// What an answer to it says.
    fn outcome(&self, answer: &Answer) -> Outcome {
        match answer.code() {
            0 => {}
            code if surely_not_done(code) => return Outcome::Failed,
            _ => return Outcome::Unknown,
        }
        match self.deed {
            Deed::Block | Deed::Unblock | Deed::Befriend | Deed::Unfriend => {
                Outcome::Codes(answer.codes())
            }
            Deed::Blocklist => {
                let names = answer.names().into_iter().map(UserId::parse);
                Outcome::Names(names.collect::<Result<_, _>>().expect("names of accounts"))
            }
            Deed::Blocks | Deed::Friends => {
                let relation = |(code, relation): (u64, &str)| {
                    let (mine, theirs) = match relation {
                        "AWithB" => (true, false),
                        "BWithA" => (false, true),
                        "BothWay" => (true, true),
                        _ => (false, false),
                    };
                    (code == 0).then_some(Relation { mine, theirs })
                };
                let relations = answer.codes().into_iter().zip(answer.relations());
                Outcome::Relations(relations.map(relation).collect())
            }
        }
    }
}
