//! One call that was let in: who made it, and how it asks the actors.

use std::cell::Cell;
use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use uuid::Uuid;

use super::Operation;
use super::answer::{Answer, Failure};
use super::error_code::{self as code, ErrorCode};
use super::gate::{App, Caller};
use super::shape::{self, Shape};
use crate::actors::{Asker, ExecuteError, Executed, Users};
use crate::domain::{CallKey, Command, Timestamp, UserId, UserKey};
use crate::journal::Origin;
use crate::subscriptions::Subscribers;
use crate::webhooks::Consultant;

/// The platform that stands in records and webhooks for calls of this API.
const PLATFORM: &str = "RESTAPI";

/// The one for calls that are made as by a client: which one it was, nobody says.
const CLIENT_PLATFORM: &str = "Unknown";

/// How long what is asked behind a change may take in any case: what was done is to be told. Three such
/// questions end before the edge does.
const BEHIND_MIN: Duration = Duration::from_millis(150);

/// A call after checks 1 to 15.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) caller: Caller<'a>,
    /// The request's own id.
    pub(super) request: Uuid,
    /// Where it comes from: the other end of the connection, or whom our proxies name there.
    pub(super) peer: Option<IpAddr>,
    /// When it was let in.
    pub(super) now: Timestamp,
    /// The caller's own key for the call.
    pub(super) key: Option<CallKey>,
    /// It is made in the name of a user, as by a client.
    pub(super) as_client: bool,
    pub(super) users: &'a Users,
    /// When all parts of the call are over.
    pub(super) deadline: Cell<Instant>,
    /// Who hears of the app's events.
    pub(super) subscribers: &'a Subscribers,
    /// Who asks others beforehand.
    pub(super) consultant: &'a Consultant,
}

impl Call<'_> {
    /// The app.
    pub(super) fn app(&self) -> &App {
        self.caller.app
    }

    /// Reads the body's fields. Fails with 60003, or 90001 in its place, or 60015.
    pub(super) fn parse<'b, S: Shape<'b>>(&self, body: &'b str) -> Result<S, Failure> {
        shape::parse(body).map_err(|code| Failure::Common(self.operation.common(code)))
    }

    /// The whole call fails with `code`.
    pub(super) fn fails<T>(&self, code: ErrorCode) -> Result<T, Failure> {
        Err(Failure::Whole(code))
    }

    /// A user of the app.
    pub(super) fn key(&self, user: UserId) -> UserKey {
        UserKey { app: self.app().id, user }
    }

    /// Asks the actors; all that a call asks is over at its deadline.
    pub(super) fn asker(&self) -> Asker<'_> {
        self.users.until(self.deadline.get())
    }

    /// Asks what has to be known before something is done, for which the other half of the time is left.
    pub(super) fn before(&self) -> Asker<'_> {
        self.asker().by_half()
    }

    /// Asks about what was done.
    pub(super) fn behind(&self) -> Asker<'_> {
        self.asker().at_least(BEHIND_MIN)
    }

    /// Waits for somebody outside, whose time has a limit of its own and is not the call's.
    pub(super) async fn outside<T>(&self, answer: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let answer = answer.await;
        self.deadline.set(self.deadline.get() + began.elapsed());
        answer
    }

    /// Executes `command` on `user`.
    pub(super) async fn execute(
        &self,
        user: UserId,
        command: Command,
    ) -> Result<Executed, ExecuteError> {
        self.asker().execute_call(self.key(user), command, self.origin(), self.key).await
    }

    /// Who asks.
    pub(super) fn origin(&self) -> Origin {
        Origin {
            operator: self.caller.operator.into(),
            request: self.request,
            ip: self.peer.map_or_else(Box::default, |ip| ip.to_string().into()),
            platform: if self.as_client { CLIENT_PLATFORM } else { PLATFORM }.into(),
        }
    }

    /// Whether each of `users` is imported. The call fails if that is not known of all.
    pub(super) async fn imported(
        &self,
        asker: Asker<'_>,
        users: &[UserId],
    ) -> Result<Vec<bool>, Failure> {
        self.all_known(asker.imported(self.app().id, users).await)
    }

    /// What each owner has said. The call fails if one has not.
    pub(super) fn all_known<T>(
        &self,
        each: Vec<Result<T, ExecuteError>>,
    ) -> Result<Vec<T>, Failure> {
        each.into_iter().map(|one| one.map_err(|error| self.fault(&error))).collect()
    }

    /// What an entry is answered whose owner had no answer, while others may have.
    pub(super) fn unheard(&self, error: &ExecuteError) -> ErrorCode {
        code::of_entry(self.operation, error)
    }

    /// The whole call fails because the actors had no answer.
    pub(super) fn fault(&self, error: &ExecuteError) -> Failure {
        code::of_call(self.operation, error)
    }

    /// Success, with the members of `data`.
    pub(super) fn success(&self, data: &impl Serialize) -> Answer {
        Answer::success(self.operation.service(), data)
    }

    /// Success, with nothing to say beside it.
    pub(super) fn done(&self) -> Answer {
        self.success(&Nothing {})
    }
}

#[derive(Serialize)]
struct Nothing {}
