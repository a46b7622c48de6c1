//! An answer of the API, with what tests ask of it.

use serde_json::Value;

use super::wire::Message;

/// One answer: always HTTP 200 with a JSON object.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) body: Value,
    message: Message,
}

impl Answer {
    /// Holds the message to the rules that every answer keeps. Rule: rest-api.md 1.3.
    pub(crate) fn of(message: Message) -> Self {
        assert_eq!(message.status(), 200, "{}", message.text());
        assert_eq!(message.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_str(message.text()).expect("an answer is JSON");
        let fields = body.as_object().expect("an answer is an object");
        let code = fields["ErrorCode"].as_u64().expect("ErrorCode is a number");
        let succeeded = fields["ActionStatus"] != "FAIL";
        assert_eq!(succeeded, code == 0, "{body}");
        assert_eq!(fields["ErrorInfo"] == "", code == 0, "{body}");
        assert!(!message.text().contains("null"), "{body}");
        Self { body, message }
    }

    /// The value of a header, its name written in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.message.header(name)
    }

    /// The body as it came.
    pub(crate) fn text(&self) -> &str {
        self.message.text()
    }

    /// `ErrorCode`.
    pub(crate) fn code(&self) -> u64 {
        self.body["ErrorCode"].as_u64().expect("ErrorCode is a number")
    }

    /// Itself, if the call as a whole succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code(), 0, "{}", self.body);
        self
    }

    /// The list of the answer, whatever its name.
    pub(crate) fn items(&self) -> &[Value] {
        [
            "ResultItem",
            "InfoItem",
            "BlackListCheckItem",
            "BlackListItem",
            "UserDataItem",
            "UserProfileItem",
            "MessageCheckItem",
            "PendencyItem",
            "ErrorList",
        ]
        .into_iter()
        .find_map(|name| self.body.get(name)?.as_array())
        .unwrap_or_else(|| panic!("no list: {}", self.body))
    }

    /// The `ResultCode` of each entry.
    pub(crate) fn codes(&self) -> Vec<u64> {
        self.fields("ResultCode", Value::as_u64)
    }

    /// The `To_Account` of each entry.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.fields("To_Account", Value::as_str)
    }

    /// The `Relation` of each entry, without the words that all of them begin with.
    pub(crate) fn relations(&self) -> Vec<&str> {
        let relations = self.fields("Relation", Value::as_str);
        relations.into_iter().map(|name| name.rsplit('_').next().unwrap_or(name)).collect()
    }

    /// `Fail_Account`; empty if the key is not there. It is never an empty list.
    pub(crate) fn failed(&self) -> Vec<&str> {
        let Some(list) = self.body.get("Fail_Account") else { return Vec::new() };
        let list = list.as_array().expect("Fail_Account is a list");
        assert!(!list.is_empty(), "{}", self.body);
        list.iter().map(|name| name.as_str().expect("a name")).collect()
    }

    fn fields<'a, T>(&'a self, name: &str, read: impl Fn(&'a Value) -> Option<T>) -> Vec<T> {
        let field = |item: &'a Value| {
            read(&item[name]).unwrap_or_else(|| panic!("no {name} in {}", self.body))
        };
        self.items().iter().map(field).collect()
    }
}
