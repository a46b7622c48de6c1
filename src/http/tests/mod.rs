//! The edge from the outside: everything that is decided before the actors are asked, and how it
//! behaves on a real connection.

mod checks;
mod connection;

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::test::TestRequest;
use serde_json::Value;

use super::edge::Edge;
use super::settings::{App, MessageRules, RateLimits, Settings};
use super::{Metrics, Operation};
use crate::actors::Users;
use crate::clock::Clock;
use crate::domain::{AllowType, AppId, Timestamp};
use crate::subscriptions::Subscribers;
use crate::usersig;
use crate::webhooks::{Consultant, Desks, consult};

const APP: AppId = AppId(1_400_000_001);
const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SIGNED_AT: i64 = 1_700_000_000;
const NOW: Timestamp = Timestamp(1_700_000_100_000);

/// No test here gets as far as the actors.
fn users() -> Users {
    Users::nobody()
}

fn settings() -> Settings {
    let app = App {
        id: APP,
        enabled: true,
        admins: vec!["administrator".to_owned()],
        keys: vec![KEY.to_owned()],
        rate_limits: RateLimits::default(),
        delete_allowed: true,
        default_allow_type: AllowType::AllowAny,
        friend_fields: Vec::new(),
        profile_fields: Vec::new(),
        messages: MessageRules::default(),
    };
    let disabled = App { id: AppId(2), enabled: false, ..app.clone() };
    Settings { apps: vec![disabled, app], ..Settings::default() }
}

/// Nobody is asked.
fn desks(clock: &Clock) -> Arc<Desks> {
    let desks = Desks::new(clock.clone(), consult::Metrics::default());
    desks.serve(Vec::new(), &[]);
    desks
}

struct Node {
    consultant: Consultant,
    edge: Edge,
    clock: Clock,
}

impl Node {
    fn new(settings: Settings) -> Self {
        let clock = Clock::fixed(NOW);
        let desks = desks(&clock);
        let subscribers = Arc::new(Subscribers::nobody(clock.clone(), desks.clone()));
        let edge =
            Edge::new(settings, users(), subscribers, clock.clone(), Metrics::new()).unwrap();
        let consultant = Consultant::new(desks);
        Self { consultant, edge, clock }
    }

    async fn ask(&self, method: Method, target: &str, body: impl Into<Vec<u8>>) -> Value {
        let request = TestRequest::default().method(method).uri(target).set_payload(body.into());
        let response = self.edge.answer(request.to_request(), &self.consultant).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get("content-type").unwrap(), "application/json");
        assert_eq!(response.headers().get("access-control-allow-origin").unwrap(), "*");
        assert_eq!(response.headers().get("cordon-node").unwrap(), "cordon");
        let id = response.headers().get("cordon-request-id").unwrap().to_str().unwrap();
        assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
        serde_json::from_slice(response.body()).unwrap()
    }

    async fn code(&self, target: &str, body: impl Into<Vec<u8>>) -> u64 {
        self.ask(Method::POST, target, body).await["ErrorCode"].as_u64().unwrap()
    }
}

fn signature(app: AppId, key: &str, identifier: &str) -> String {
    usersig::sign(app, key, identifier, 86_400, SIGNED_AT)
}

/// The parameters of a good call, with some replaced or, by `None`, left out.
fn query(changes: &[(&str, Option<&str>)]) -> String {
    let signature = signature(APP, KEY, "administrator");
    let usual = [
        ("sdkappid", "1400000001"),
        ("identifier", "administrator"),
        ("usersig", &*signature),
        ("random", "42"),
        ("contenttype", "json"),
    ];
    let pairs = usual.iter().filter_map(|(name, value)| {
        let change = changes.iter().find(|(changed, _)| changed == name);
        let value = change.map_or(Some(*value), |(_, value)| *value)?;
        Some(format!("{name}={value}"))
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn target(command: &str, changes: &[(&str, Option<&str>)]) -> String {
    format!("/v4/{command}?{}", query(changes))
}

const ADD: &str = "sns/black_list_add";

/// A body that passes every check that all commands share, and fails in the command's own rules.
const NO_TARGETS: &str = r#"{"From_Account":"amy","To_Account":[]}"#;
