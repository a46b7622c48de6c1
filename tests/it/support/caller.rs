//! Somebody who calls the API.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cordon::domain::AppId;
use cordon::usersig;
use serde_json::{Value, json};

use super::setup::{ADMIN, APP, KEY, SIGNED_AT_S};
use super::wire::Connection;
use super::{Answer, DEADLINE, setup};

/// Who calls: what stands in the query of each call.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) app: u32,
    pub(crate) identifier: String,
    pub(crate) usersig: String,
}

impl Identity {
    /// Who calls `app` as `identifier` with a UserSig made with `key`.
    pub(crate) fn new(app: u32, key: &str, identifier: &str) -> Self {
        let usersig = usersig::sign(AppId(app), key, identifier, setup::EXPIRE_S, SIGNED_AT_S);
        Self { app, identifier: identifier.to_owned(), usersig }
    }

    /// The query of a call.
    pub(crate) fn query(&self) -> String {
        format!(
            "sdkappid={}&identifier={}&usersig={}&random=42&contenttype=json",
            self.app, self.identifier, self.usersig
        )
    }
}

impl Default for Identity {
    /// The admin of the first app.
    fn default() -> Self {
        Self::new(APP, KEY, ADMIN)
    }
}

/// Calls the API on one connection, which is opened with the first call and kept open.
pub(crate) struct Caller {
    address: SocketAddr,
    identity: Identity,
    connection: Option<Connection>,
    patience: Duration,
    /// Answers that tell of trouble count as none.
    wary: bool,
}

/// What a node says that cannot do what it was asked: nobody knows whether it was done.
const TROUBLE: [u64; 4] = [60007, 60008, 30006, 30007];

impl Caller {
    pub(crate) fn new(address: SocketAddr, identity: Identity) -> Self {
        Self { address, identity, connection: None, patience: DEADLINE, wary: false }
    }

    /// Takes what a node in trouble says for no answer, in [`Self::try_call`].
    pub(crate) fn wary(self) -> Self {
        Self { wary: true, ..self }
    }

    /// Waits for nothing longer than `patience`.
    pub(crate) fn patient_for(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Calls `command`, written `service/command`, and waits for the answer.
    pub(crate) fn call(&mut self, command: &str, body: &Value) -> Answer {
        self.call_with(command, &self.identity.query(), body.to_string().as_bytes())
    }

    /// The same with another query and any body.
    pub(crate) fn call_with(&mut self, command: &str, query: &str, body: &[u8]) -> Answer {
        let target = format!("/v4/{command}?{query}");
        Answer::of(self.ask("POST", &target, body).expect("the node answers"))
    }

    /// Calls `command` with an `Idempotency-Key`.
    pub(crate) fn call_keyed(&mut self, command: &str, key: &str, body: &Value) -> Answer {
        self.try_call_keyed(command, key, body).expect("the node answers")
    }

    /// The same for a node that may be killed meanwhile.
    pub(crate) fn try_call_keyed(
        &mut self,
        command: &str,
        key: &str,
        body: &Value,
    ) -> io::Result<Answer> {
        let target = format!("/v4/{command}?{}", self.identity.query());
        let mut connection = Connection::open_within(self.address, self.patience)?;
        let line = format!("Idempotency-Key: {key}\r\n");
        let answer = connection.ask_with("POST", &target, &line, body.to_string().as_bytes())?;
        Ok(Answer::of(answer))
    }

    /// Calls `command` in the name of a user, as by a client, with further lines in the head.
    pub(crate) fn call_as_client(&mut self, command: &str, lines: &str, body: &Value) -> Answer {
        let lines = format!("Cordon-Acts-As: client\r\n{lines}");
        self.call_with_lines(command, &lines, body)
    }

    /// Calls `command` with further lines in the head, each with its end.
    pub(crate) fn call_with_lines(&mut self, command: &str, lines: &str, body: &Value) -> Answer {
        let target = format!("/v4/{command}?{}", self.identity.query());
        let mut connection =
            Connection::open_within(self.address, self.patience).expect("the node listens");
        let answer = connection.ask_with("POST", &target, lines, body.to_string().as_bytes());
        Answer::of(answer.expect("the node answers"))
    }

    /// Gives fields of a profile new values.
    pub(crate) fn set_profile(&mut self, owner: &str, fields: &[(&str, Value)]) -> Answer {
        let items = fields.iter().map(|(tag, value)| json!({"Tag": tag, "Value": value}));
        let items: Vec<Value> = items.collect();
        let body = json!({"From_Account": owner, "ProfileItem": items});
        self.call("profile/portrait_set", &body)
    }

    /// Lets `account` be added in this way only: `AllowAny`, `NeedConfirm` or `DenyAny`.
    pub(crate) fn allow(&mut self, account: &str, allow_type: &str) {
        let value = json!(format!("AllowType_Type_{allow_type}"));
        self.set_profile(account, &[("Tag_Profile_IM_AllowType", value)]).ok();
    }

    /// The same for a node that may be killed meanwhile: an error means that nobody knows.
    pub(crate) fn try_call(&mut self, command: &str, body: &Value) -> io::Result<Answer> {
        let target = format!("/v4/{command}?{}", self.identity.query());
        let message = self.ask("POST", &target, body.to_string().as_bytes())?;
        match message.status() {
            200 => match Answer::of(message) {
                answer if self.wary && TROUBLE.contains(&answer.code()) => {
                    Err(io::Error::other(format!("code {}", answer.code())))
                }
                answer => Ok(answer),
            },
            // A node that was stopped in the middle of reading it.
            status => Err(io::Error::other(format!("HTTP status {status}"))),
        }
    }

    /// Any request.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        target: &str,
        body: &[u8],
    ) -> io::Result<super::wire::Message> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open_within(self.address, self.patience)?,
        };
        let answer = connection.ask(method, target, body)?;
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    pub(crate) fn import(&mut self, names: &[&str]) {
        for hundred in names.chunks(100) {
            let answer =
                self.call("im_open_login_svc/multiaccount_import", &json!({ "Accounts": hundred }));
            assert_eq!(answer.ok().body["FailAccounts"], json!([]));
        }
    }

    pub(crate) fn block(&mut self, owner: &str, targets: &[&str]) -> Answer {
        let body = json!({"From_Account": owner, "To_Account": targets});
        self.call("sns/black_list_add", &body).ok()
    }

    pub(crate) fn unblock(&mut self, owner: &str, targets: &[&str]) -> Answer {
        let body = json!({"From_Account": owner, "To_Account": targets});
        self.call("sns/black_list_delete", &body).ok()
    }

    /// A page of a blocklist: the names, and where the next page starts.
    pub(crate) fn blocklist(&mut self, owner: &str, start: u64, max: u64) -> (Vec<String>, u64) {
        let body = json!({"From_Account": owner, "StartIndex": start, "MaxLimited": max,
            "LastSequence": 0});
        let answer = self.call("sns/black_list_get", &body).ok();
        let names = answer.names().into_iter().map(str::to_owned).collect();
        (names, answer.body["StartIndex"].as_u64().expect("a number"))
    }

    /// How `owner` and each of `targets` block each other.
    pub(crate) fn blocks(&mut self, owner: &str, targets: &[&str]) -> Answer {
        let body = json!({"From_Account": owner, "To_Account": targets,
            "CheckType": "BlackCheckResult_Type_Both"});
        self.call("sns/black_list_check", &body).ok()
    }

    /// Adds friends in both directions.
    pub(crate) fn befriend(&mut self, owner: &str, targets: &[&str]) -> Answer {
        self.add_friends(owner, targets, &json!({"AddType": "Add_Type_Both"}))
    }

    /// Adds friends; `how` has the fields beside the list.
    pub(crate) fn add_friends(&mut self, owner: &str, targets: &[&str], how: &Value) -> Answer {
        let mut body = how.clone();
        body["From_Account"] = json!(owner);
        body["AddFriendItem"] = wanted(targets);
        self.call("sns/friend_add", &body).ok()
    }

    pub(crate) fn import_friends(&mut self, owner: &str, targets: &[&str]) -> Answer {
        let body = json!({"From_Account": owner, "AddFriendItem": wanted(targets)});
        self.call("sns/friend_import", &body).ok()
    }

    pub(crate) fn unfriend(&mut self, owner: &str, targets: &[&str], how: &str) -> Answer {
        let body = json!({"From_Account": owner, "To_Account": targets, "DeleteType": how});
        self.call("sns/friend_delete", &body).ok()
    }

    /// How `owner` and each of `targets` have each other as friends.
    pub(crate) fn friends(&mut self, owner: &str, targets: &[&str]) -> Answer {
        let body = json!({"From_Account": owner, "To_Account": targets,
            "CheckType": "CheckResult_Type_Both"});
        self.call("sns/friend_check", &body).ok()
    }

    pub(crate) fn delete_accounts(&mut self, names: &[&str]) -> Answer {
        let items: Vec<Value> = names.iter().map(|name| json!({ "UserID": name })).collect();
        self.call("im_open_login_svc/account_delete", &json!({ "DeleteItem": items })).ok()
    }

    /// The `AccountStatus` of each of `names`.
    pub(crate) fn account_statuses(&mut self, names: &[&str]) -> Vec<String> {
        let items: Vec<Value> = names.iter().map(|name| json!({ "UserID": name })).collect();
        let answer = self.call("im_open_login_svc/account_check", &json!({ "CheckItem": items }));
        let status = |item: &Value| item["AccountStatus"].as_str().expect("a status").to_owned();
        answer.ok().items().iter().map(status).collect()
    }
}

fn wanted(targets: &[&str]) -> Value {
    let item = |name: &&str| json!({"To_Account": name, "AddSource": "AddSource_Type_test"});
    targets.iter().map(item).collect()
}

/// The names `<prefix>0000` and so on.
pub(crate) fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|index| {
            let mut name = prefix.to_owned();
            write!(name, "{index:04}").expect("a text takes every byte");
            name
        })
        .collect()
}
