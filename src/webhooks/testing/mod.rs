//! What the tests of this room share: a real receiver, and an owner of a real journal.

mod afar;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::rt::net::TcpSocket;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use self::afar::Afar;
use super::{CursorError, Cursors, Endpoint, Guard, Signer, Subscription, Switches};
use crate::domain::{AppId, DeliveryTerms, Event, MAIN, Timestamp, UserId, UserKey, Version};
use crate::journal::embedded;
use crate::journal::{
    Ack, Admitted, Body, Commit, Cursor, Epoch, Journal, Offset, Origin, Partition, ReadJournal,
    ReaderRule, Settlement, WriterRule, record,
};

pub(super) const APP: AppId = AppId(1_400_000_001);

/// How long a test waits for what has to happen.
const DEADLINE: Duration = Duration::from_secs(20);

pub(super) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("it did not happen in time: {what}"),
    }
}

pub(super) fn id(name: &str) -> UserId {
    UserId::parse(name).expect("a name of a test")
}

/// Who asks for what happens in tests.
pub(super) fn origin() -> Origin {
    Origin {
        operator: "administrator".into(),
        request: Uuid::nil(),
        ip: "127.0.0.1".into(),
        platform: "RESTAPI".into(),
    }
}

pub(super) fn commit(user: &str, events: Vec<Event>) -> Body {
    commit_of(APP, user, events)
}

pub(super) fn commit_of(app: AppId, user: &str, events: Vec<Event>) -> Body {
    Body::Commit(Commit {
        id: Uuid::nil(),
        key: UserKey { app, user: id(user) },
        version: Version(1),
        at: Timestamp(0),
        by: Arc::new(origin()),
        cause: None,
        events,
    })
}

pub(super) fn blocks(user: &str, target: &str) -> Body {
    commit(user, vec![Event::UserBlocked { target: id(target), remain_friends: false }])
}

/// Everything that the app's users do, told at `url` as the reference tells it.
pub(super) fn subscription(url: &str) -> Subscription {
    Subscription {
        app: APP,
        name: MAIN.to_owned(),
        endpoint: Endpoint::parse(url).expect("an address"),
        guard: Guard::Off,
        certificate: None,
        signer: Signer::unsigned(),
        headers: true,
        commands: Switches::ALL,
        enabled: true,
        delivery: DeliveryTerms::default(),
        seeks: Vec::new(),
        replay: None,
    }
}

/// One request as the receiver got it.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) path: String,
    pub(super) query: String,
    pub(super) id: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) peer: String,
    /// How often the same id was heard before.
    pub(super) earlier: usize,
    /// It was answered with 200.
    pub(super) accepted: bool,
}

impl Heard {
    /// The value of a header, or nothing.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Whose list the first pair is about.
    pub(super) fn user(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).expect("a body is JSON");
        body["PairList"][0]["From_Account"].as_str().expect("a name").to_owned()
    }

    /// Who the first pair is about.
    pub(super) fn target(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).expect("a body is JSON");
        body["PairList"][0]["To_Account"].as_str().expect("a name").to_owned()
    }
}

/// What the receiver answers.
pub(super) enum Answer {
    Ok,
    Status(u16),
    Text(&'static str),
    /// A status, with this `Retry-After`.
    Later(u16, &'static str),
    /// A redirect to this path.
    Redirect(&'static str),
    Never,
}

type Behaviour = Arc<dyn Fn(&Heard) -> Answer + Send + Sync>;

struct Shared {
    heard: watch::Sender<Vec<Heard>>,
    behaviour: Mutex<Behaviour>,
}

/// A real HTTP server that keeps what it heard.
pub(super) struct Receiver {
    shared: Arc<Shared>,
    port: u16,
}

impl Receiver {
    pub(super) fn start(behaviour: impl Fn(&Heard) -> Answer + Send + Sync + 'static) -> Self {
        Place::reserve().open(behaviour)
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/im", self.port)
    }

    pub(super) fn behave(&self, behaviour: impl Fn(&Heard) -> Answer + Send + Sync + 'static) {
        let mut current = self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(behaviour);
    }

    pub(super) fn heard(&self) -> Vec<Heard> {
        self.shared.heard.borrow().clone()
    }

    pub(super) fn accepted(&self) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.accepted).collect()
    }

    pub(super) async fn until(&self, what: &str, condition: impl Fn(&[Heard]) -> bool) {
        let mut heard = self.shared.heard.subscribe();
        let waited = within(what, heard.wait_for(|heard| condition(heard))).await;
        assert!(waited.is_ok(), "the receiver has gone");
    }

    /// Waits until so many calls were accepted. Each next call may take as long as anything: a backlog of
    /// thousands takes longer on a busy machine.
    pub(super) async fn until_accepted(&self, count: usize) {
        let mut heard = self.shared.heard.subscribe();
        let (mut looked_at, mut accepted) = (0, 0);
        while accepted < count {
            let what = format!("{count} accepted calls, of which {accepted} came");
            let more = within(&what, heard.wait_for(|heard| heard.len() > looked_at)).await;
            let more = more.expect("the receiver is there");
            accepted += more[looked_at..].iter().filter(|heard| heard.accepted).count();
            looked_at = more.len();
        }
    }
}

/// An address that nobody else gets and where nobody listens yet.
pub(super) struct Place {
    socket: TcpSocket,
    port: u16,
}

impl Place {
    pub(super) fn reserve() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let port = socket.local_addr().expect("an address").port();
        Self { socket, port }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/im", self.port)
    }

    pub(super) fn open(
        self,
        behaviour: impl Fn(&Heard) -> Answer + Send + Sync + 'static,
    ) -> Receiver {
        let shared = Arc::new(Shared {
            heard: watch::Sender::default(),
            behaviour: Mutex::new(Arc::new(behaviour)),
        });
        let data = web::Data::from(Arc::clone(&shared));
        let listener = self.socket.listen(1024).expect("the port is ours");
        let server = HttpServer::new(move || {
            App::new().app_data(data.clone()).default_service(web::to(receive))
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(0)
        .listen(listener.into_std().expect("a listener"))
        .expect("a server");
        actix_web::rt::spawn(server.run());
        Receiver { shared, port: self.port }
    }
}

async fn receive(
    request: HttpRequest,
    body: web::Bytes,
    shared: web::Data<Shared>,
) -> HttpResponse {
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").to_owned()))
        .collect();
    let id = headers.iter().find(|(name, _)| name == "webhook-id").map(|(_, id)| id.clone());
    let mut heard = Heard {
        path: request.path().to_owned(),
        query: request.query_string().to_owned(),
        id: id.unwrap_or_default(),
        headers,
        body: String::from_utf8(body.to_vec()).expect("a body is text"),
        peer: request.peer_addr().map(|peer| peer.to_string()).unwrap_or_default(),
        earlier: 0,
        accepted: false,
    };
    heard.earlier = shared.heard.borrow().iter().filter(|h| h.id == heard.id).count();
    let behaviour = Arc::clone(&shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner));
    let answer = behaviour(&heard);
    heard.accepted = matches!(answer, Answer::Ok);
    shared.heard.send_modify(|all| all.push(heard));
    match answer {
        Answer::Ok => HttpResponse::Ok()
            .content_type("application/json")
            .body(r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}"#),
        Answer::Status(status) => {
            HttpResponse::build(StatusCode::from_u16(status).expect("a status")).body("{}")
        }
        Answer::Later(status, wait) => {
            let status = StatusCode::from_u16(status).expect("a status");
            HttpResponse::build(status).insert_header(("retry-after", wait)).body("{}")
        }
        Answer::Text(text) => HttpResponse::Ok().body(text),
        Answer::Redirect(to) => HttpResponse::Found().insert_header(("location", to)).body("{}"),
        Answer::Never => std::future::pending().await,
    }
}

/// The owner of all partitions of an embedded journal in a folder of its own.
#[derive(Clone)]
pub(super) struct Owner {
    journal: Arc<embedded::Journal>,
    /// The same, as it would be over a network.
    afar: Option<Afar>,
    partitions: Arc<Vec<tokio::sync::Mutex<Term>>>,
    _dir: Arc<TempDir>,
}

/// A term of office over one partition.
struct Term {
    writer: WriterRule,
    settlements: mpsc::UnboundedReceiver<Settlement>,
}

impl Owner {
    pub(super) async fn new(partitions: u16) -> Self {
        let dir = TempDir::new().expect("a folder");
        let settings = embedded::Settings { partitions, ..embedded::Settings::new(dir.path()) };
        let journal = embedded::Journal::open(settings).expect("a new journal opens");
        let mut terms = Vec::new();
        for partition in 0..partitions {
            let (sender, mut settlements) = mpsc::unbounded_channel();
            journal.attach(Partition(partition), sender);
            let claim = Body::Claim { node: "test".to_owned(), nonce: Uuid::nil() };
            let offset =
                put(&journal, Partition(partition), Epoch(1), 0, &claim, &mut settlements).await;
            let writer = WriterRule::new(Epoch(1), offset);
            terms.push(tokio::sync::Mutex::new(Term { writer, settlements }));
        }
        Self { journal, afar: None, partitions: Arc::new(terms), _dir: Arc::new(dir) }
    }

    /// The same with a journal that is read over a network.
    pub(super) async fn afar(partitions: u16) -> Self {
        let owner = Self::new(partitions).await;
        Self { afar: Some(Afar::new(owner.journal.clone())), ..owner }
    }

    pub(super) fn journal(&self) -> Arc<dyn Journal> {
        match &self.afar {
            Some(afar) => Arc::new(afar.clone()),
            None => self.journal.clone(),
        }
    }

    /// From now on nobody answers for `cut`, and for all others.
    pub(super) fn cut(&self, cut: &[u16]) {
        self.afar.as_ref().expect("what is near cannot be cut off").cut(cut);
    }

    /// Appends a record and waits until it is durable.
    pub(super) async fn append(&self, partition: u16, body: &Body) -> Offset {
        let mut term = self.partitions[usize::from(partition)].lock().await;
        let n = term.writer.send();
        let epoch = term.writer.epoch();
        let partition = Partition(partition);
        let offset = put(&self.journal, partition, epoch, n, body, &mut term.settlements).await;
        assert_eq!(term.writer.acknowledge(offset, 1), Ack::Final { n });
        offset
    }

    /// Appends bytes that are no record.
    pub(super) async fn append_rubbish(&self, partition: u16) {
        let mut term = self.partitions[usize::from(partition)].lock().await;
        self.journal.append(Partition(partition), b"rubbish").expect("it is taken");
        self.journal.flush();
        let offset = settled(&mut term.settlements).await;
        term.writer.gap_is_rubbish(Offset(offset.0 + 1));
    }

    /// All cursors of a subscription, in order, read from the journal.
    pub(super) fn cursors(&self, partition: u16, name: &str) -> Vec<Cursor> {
        let mut reader =
            self.journal.reader(&[(Partition(partition), Offset(0))]).expect("a reader");
        let mut rule = ReaderRule::default();
        let mut cursors = Vec::new();
        loop {
            let entries = reader.next(1 << 20).expect("the journal is readable");
            if entries.is_empty() {
                return cursors;
            }
            for entry in entries {
                // The rubbish of a test counts for nobody.
                let Ok(record) = record::decode(&entry.bytes) else { continue };
                let admitted = rule.admit(&record);
                if let (Admitted::Valid, Body::Cursor { subscription, cursor }) =
                    (admitted, record.body)
                    && subscription == name
                {
                    cursors.push(*cursor);
                }
            }
        }
    }
}

impl Cursors for Owner {
    async fn load(
        &self,
        partition: Partition,
        subscription: &str,
    ) -> Result<(Option<Cursor>, crate::journal::Place), CursorError> {
        let term = self.partitions[usize::from(partition.0)].lock().await;
        let rule = ReaderRule::resume(term.writer.epoch(), term.writer.acknowledged());
        let end = crate::journal::Place::new(term.writer.next_offset(), rule);
        Ok((self.cursors(partition.0, subscription).pop(), end))
    }

    async fn save(
        &self,
        partition: Partition,
        subscription: &str,
        cursor: Cursor,
    ) -> Result<(), CursorError> {
        let (subscription, cursor) = (subscription.to_owned(), Box::new(cursor));
        self.append(partition.0, &Body::Cursor { subscription, cursor }).await;
        Ok(())
    }
}

async fn put(
    journal: &embedded::Journal,
    partition: Partition,
    epoch: Epoch,
    n: u64,
    body: &Body,
    settlements: &mut mpsc::UnboundedReceiver<Settlement>,
) -> Offset {
    let mut bytes = Vec::new();
    record::encode(epoch, n, body, &mut bytes);
    journal.append(partition, &bytes).expect("the journal takes a record");
    journal.flush();
    settled(settlements).await
}

async fn settled(settlements: &mut mpsc::UnboundedReceiver<Settlement>) -> Offset {
    match settlements.recv().await {
        Some(Settlement::Durable { first, count: 1 }) => first,
        other => panic!("the record is not durable: {other:?}"),
    }
}
