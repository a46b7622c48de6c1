//! The API edge: what callers over HTTP see.
//!
//! One server speaks the server API of rest-api.md: it checks who calls, parses a body into domain
//! types, asks [`Users`], and renders what came of it. A second one, in [`ops`], answers health
//! checks and metrics. The edge decides no rule of blocking or friendship, and knows no journal.
//!
//! Promises: the checks run in the order of rest-api.md 1.9; a body is read only for a caller with a
//! valid UserSig; every answer is HTTP 200 with the envelope; nothing secret is logged.

mod account;
mod acting;
mod answer;
mod batch;
mod beforehand;
mod blocklist;
mod body;
mod call;
mod card;
mod edge;
pub mod error_code;
mod frequency;
mod friend_list;
mod friendship;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gate;
mod group;
mod idempotency;
mod message;
mod message_check;
mod metrics;
pub mod ops;
mod page;
mod profile;
mod proxy;
mod query;
mod raw;
mod relation;
mod request;
pub mod settings;
mod shape;
#[cfg(test)]
mod tests;
mod webhook;

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol, Request};
use actix_service::{ServiceFactoryExt, fn_service};
use actix_web::dev::Server;
use actix_web::rt::net::TcpStream;

use self::answer::Answered;
use self::call::Call;
use self::edge::Edge;
use crate::actors::Users;
use crate::clock::Clock;
use crate::patience::{ConnectionState, Patience, Patient, READ_BYTES};
use crate::subscriptions::Subscribers;
use crate::webhooks::{Consultant, Desks};

pub use self::error_code::ErrorCode;
pub use self::metrics::Metrics;
pub use self::settings::{App, MessageRules, RateLimits, Settings};

/// Which service of the API a command belongs to; it decides the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `sns`: answers have `ErrorDisplay`.
    Relations,
    /// `im_open_login_svc`: answers have none.
    Accounts,
    /// `profile`: answers have `ErrorDisplay`.
    Profiles,
    /// `openim`: answers have none.
    Messages,
    /// `webhook`: answers have none.
    Webhooks,
}

/// Makes the route table what everything about routes comes from.
macro_rules! routes {
    ($($service:ident $path:literal {
        $($command:literal => $operation:ident, $handler:path, $per_second:literal;)*
    })*) => {
        /// One command of the API. Its name stands in the texts of rest-api.md 11.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Operation {
            $($(
                #[doc = concat!("`", $path, "/", $command, "`")]
                $operation,
            )*)*
        }

        /// How many operations there are.
        pub(crate) const OPERATIONS: usize = Operation::ALL.len();

        impl Operation {
            /// All of them, each at the place of its number.
            pub const ALL: &[Self] = &[$($(Self::$operation,)*)*];

            /// The operation at `path`, byte for byte.
            fn at(path: &str) -> Option<Self> {
                match path {
                    $($(concat!("/v4/", $path, "/", $command) => Some(Self::$operation),)*)*
                    _ => None,
                }
            }

            /// Service and command as in the path, for example `sns/black_list_add`.
            pub fn command(self) -> &'static str {
                match self {
                    $($(Self::$operation => concat!($path, "/", $command),)*)*
                }
            }

            /// The name in error texts, for example `BlackListAdd`.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Self::$operation => stringify!($operation),)*)*
                }
            }

            /// The service.
            pub fn service(self) -> Service {
                match self {
                    $($(Self::$operation => Service::$service,)*)*
                }
            }

            /// Calls per second and app, unless the app's settings say otherwise.
            pub fn calls_per_second(self) -> u32 {
                match self {
                    $($(Self::$operation => $per_second,)*)*
                }
            }
        }

        /// Lets the operation's handler answer.
        async fn handle(call: &Call<'_>, body: &str) -> Answered {
            match call.operation {
                $($(Operation::$operation => $handler(call, body).await,)*)*
            }
        }
    };
}

impl Operation {
    /// Whether it may change something.
    fn changes(self) -> bool {
        match self {
            Self::BlackListGet
            | Self::BlackListCheck
            | Self::FriendCheck
            | Self::FriendGet
            | Self::FriendGetList
            | Self::PendencyGet
            | Self::GroupGet
            | Self::MessageCheck
            | Self::AccountCheck
            | Self::PortraitGet
            | Self::SubscriptionList
            | Self::SubscriptionTest
            | Self::ReplayList
            | Self::EventsGet
            | Self::DeliveriesGet
            | Self::DeadLettersGet
            | Self::StatusGet => false,
            Self::BlackListAdd
            | Self::BlackListDelete
            | Self::FriendAdd
            | Self::FriendImport
            | Self::FriendUpdate
            | Self::FriendDelete
            | Self::FriendDeleteAll
            | Self::FriendResponse
            | Self::GroupAdd
            | Self::GroupDelete
            | Self::AccountImport
            | Self::MultiaccountImport
            | Self::AccountDelete
            | Self::PortraitSet
            | Self::Sendmsg
            | Self::Batchsendmsg
            | Self::SubscriptionSet
            | Self::SubscriptionDelete
            | Self::SubscriptionSeek
            | Self::ReplayStart
            | Self::ReplayEnd => true,
        }
    }

    /// Whether its answer may be kept under a key of the caller's: one that may show a secret never
    /// goes into the journal.
    fn takes_key(self) -> bool {
        self.changes() && self.service() != Service::Webhooks
    }

    /// Whether somebody may be asked before it is done.
    fn asks(self) -> bool {
        matches!(self, Self::FriendAdd | Self::FriendResponse | Self::Sendmsg)
    }

    /// What a failure of the common checks is called here. Rule: rest-api.md 1.9, check 15.
    fn common(self, code: ErrorCode) -> ErrorCode {
        match self.service() {
            Service::Messages if code == error_code::BODY_NOT_JSON => {
                error_code::MESSAGE_BODY_NOT_JSON
            }
            _ => code,
        }
    }
}

// Command, operation, handler, calls per second; in the order of rest-api.md. Every other path of
// the right form is answered 60009. Limits: rest-api.md 1.6.
routes! {
    Relations "sns" {
        "black_list_add" => BlackListAdd, blocklist::add, 200;
        "black_list_delete" => BlackListDelete, blocklist::delete, 200;
        "black_list_get" => BlackListGet, blocklist::get, 200;
        "black_list_check" => BlackListCheck, blocklist::check, 200;
        "friend_add" => FriendAdd, friendship::add, 200;
        "friend_import" => FriendImport, friendship::import, 200;
        "friend_update" => FriendUpdate, friend_list::update, 200;
        "friend_delete" => FriendDelete, friendship::delete, 200;
        "friend_delete_all" => FriendDeleteAll, friendship::delete_all, 200;
        "friend_check" => FriendCheck, friendship::check, 200;
        "friend_get" => FriendGet, friend_list::get, 200;
        "friend_get_list" => FriendGetList, friend_list::get_list, 200;
        "friend_response" => FriendResponse, request::respond, 200;
        "pendency_get" => PendencyGet, request::get, 200;
        "group_add" => GroupAdd, group::add, 200;
        "group_delete" => GroupDelete, group::delete, 200;
        "group_get" => GroupGet, group::get, 200;
        "message_check" => MessageCheck, message_check::check, 200;
    }
    Accounts "im_open_login_svc" {
        "account_import" => AccountImport, account::import, 200;
        "multiaccount_import" => MultiaccountImport, account::import_many, 100;
        "account_delete" => AccountDelete, account::delete, 100;
        "account_check" => AccountCheck, account::check, 200;
    }
    Profiles "profile" {
        "portrait_set" => PortraitSet, profile::set, 200;
        "portrait_get" => PortraitGet, profile::get, 200;
    }
    Messages "openim" {
        "sendmsg" => Sendmsg, message::send, 200;
        "batchsendmsg" => Batchsendmsg, message::send_many, 200;
    }
    Webhooks "webhook" {
        "subscription_set" => SubscriptionSet, webhook::set, 20;
        "subscription_list" => SubscriptionList, webhook::list, 20;
        "subscription_test" => SubscriptionTest, webhook::test, 20;
        "subscription_seek" => SubscriptionSeek, webhook::seek, 20;
        "replay_start" => ReplayStart, webhook::replay_start, 20;
        "replay_list" => ReplayList, webhook::replay_list, 20;
        "replay_end" => ReplayEnd, webhook::replay_end, 20;
        "events_get" => EventsGet, webhook::events, 20;
        "deliveries_get" => DeliveriesGet, webhook::log, 20;
        "dead_letters_get" => DeadLettersGet, webhook::dead_letters, 20;
        "status_get" => StatusGet, webhook::status, 20;
        "subscription_delete" => SubscriptionDelete, webhook::delete, 20;
    }
}

/// Serves the API on `listener`, asking at `desks` where somebody wants to be asked, until the handle of
/// the answered server stops it: gracefully, it accepts no more connections and lets running calls
/// finish.
///
/// Must be called inside an actix system; the answered server is a future to be awaited or spawned.
/// It handles no signals. Errors: the listener cannot be used, or the node's name has bytes that may
/// not stand in a header.
pub fn serve(
    settings: Settings,
    users: Users,
    subscribers: Arc<Subscribers>,
    clock: Clock,
    metrics: Metrics,
    desks: Arc<Desks>,
    listener: TcpListener,
) -> io::Result<Server> {
    let keep_alive = settings.keep_alive;
    let head_timeout = settings.head_timeout;
    let disconnect_timeout = settings.disconnect_timeout;
    let patience = Patience {
        head: head_timeout,
        idle: keep_alive,
        answer: settings.body_timeout,
        read_bytes: READ_BYTES,
    };
    let mut server = Server::build()
        .max_concurrent_connections(settings.connections_max)
        .shutdown_timeout(settings.shutdown_timeout_s)
        .disable_signals();
    if let Some(workers) = settings.workers {
        server = server.workers(workers);
    }
    let stopping = server.graceful_shutdown_signal();
    let malformed = metrics.malformed.clone();
    let edge = Arc::new(Edge::new(settings, users, subscribers, clock, metrics)?);
    // The edge is the whole service: actix's router would match decoded paths by regex, and its
    // requests and responses cost several allocations that a table of literal paths does not need.
    let server = server.listen("api", listener, move || {
        // Each worker counts its requests' references for itself: threads do not contend for it.
        let worker = Rc::new((Arc::clone(&edge), Consultant::new(Arc::clone(&desks))));
        let (stopping, malformed) = (stopping.clone(), malformed.clone());
        let http = HttpService::build()
            .keep_alive(keep_alive)
            .client_request_timeout(head_timeout)
            .client_disconnect_timeout(disconnect_timeout)
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .on_connect_ext(|connection: &Patient<TcpStream>, data| {
                data.insert(connection.state());
            })
            .finish(fn_service(move |request: Request| {
                let worker = Rc::clone(&worker);
                let in_hand = ConnectionState::take(&request);
                async move {
                    let (edge, consultant) = &*worker;
                    let answer = edge.answer(request, consultant).await;
                    drop(in_hand);
                    Ok::<_, actix_http::Error>(answer)
                }
            }));
        fn_service(move |stream: TcpStream| async move {
            // Without it answers wait for each other; a connection that is gone already may refuse.
            let _ = stream.set_nodelay(true);
            let peer = stream.peer_addr().ok();
            Ok((Patient::new(stream, patience), Protocol::Http1, peer))
        })
        .and_then(http)
        .map_err(move |error| {
            if matches!(error, DispatchError::Parse(_)) {
                malformed.inc();
            }
            error
        })
    })?;
    Ok(server.run())
}
