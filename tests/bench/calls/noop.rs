//! A server with the same door that keeps nothing: it checks the signature as the product does, reads
//! the body, and answers. No server behind this door can be faster.

use std::io::Write;
use std::sync::Mutex;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use cordon::usersig;
use serde::Deserialize;

use super::server::{ADMIN, APP, KEY};

/// Set in the environment of the process that is such a server: where it listens.
pub(super) const PORT: &str = "CORDON_BENCH_NOOP_PORT";

#[derive(Deserialize)]
struct Query {
    identifier: String,
    usersig: String,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "From_Account")]
    from: String,
    #[serde(rename = "To_Account", default)]
    to: Vec<String>,
}

/// The signature that was right last.
static KNOWN: Mutex<String> = Mutex::new(String::new());

fn is_right(query: &Query) -> bool {
    let mut known = KNOWN.lock().expect("nobody panics with it");
    if query.identifier == ADMIN && *known == query.usersig {
        return true;
    }
    let now = cordon::clock::Clock::system().now().0.div_euclid(1000);
    let document = usersig::decode(&query.usersig);
    let right = document.is_ok_and(|document| document.verify(APP, ADMIN, &[KEY], now).is_ok());
    if right {
        known.clone_from(&query.usersig);
    }
    right
}

async fn answer(request: HttpRequest, bytes: web::Bytes) -> HttpResponse {
    let query = web::Query::<Query>::from_query(request.query_string());
    let body: Result<Body, _> = serde_json::from_slice(&bytes);
    let (Ok(query), Ok(body)) = (query, body) else { return HttpResponse::BadRequest().finish() };
    if !is_right(&query) || body.from.is_empty() {
        return HttpResponse::Forbidden().finish();
    }
    let is_check = request.path().ends_with("black_list_check");
    let mut text = Vec::with_capacity(256);
    text.extend_from_slice(match is_check {
        true => br#"{"BlackListCheckItem":["#.as_slice(),
        false => br#"{"ResultItem":["#,
    });
    for (index, to) in body.to.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let relation = if is_check { r#""Relation":"BlackCheckResult_Type_NO","# } else { "" };
        write!(text, r#"{comma}{{"To_Account":"{to}",{relation}"ResultCode":0,"ResultInfo":""}}"#)
            .expect("memory takes it");
    }
    text.extend_from_slice(
        br#"],"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"","ErrorDisplay":""}"#,
    );
    HttpResponse::Ok().content_type("application/json").body(text)
}

/// Serves until it is killed.
pub(super) fn serve(port: u16) {
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(|| App::new().default_service(web::to(answer)));
        let server = server.workers(2).bind(("127.0.0.1", port)).expect("the port is free");
        println!("ready");
        server.run().await.expect("it serves");
    });
}
