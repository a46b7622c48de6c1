//! How a connection comes about: the name is resolved once, all that it leads to is judged, and the
//! connection goes to what was judged and nowhere else.
//!
//! The client asks this for every connection, so there is no way around it: its own resolver would take
//! an address in the URL without asking anybody.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use actix_service::{Service, always_ready};
use actix_tls::connect::{ConnectError, ConnectInfo, Connection, Resolve};
use awc::http::Uri;
use futures_util::future::{LocalBoxFuture, Shared};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::webhooks::guard::{Guard, Guarded, literal};

/// Addresses of a name that are tried, at most.
const ADDRESSES_MAX: usize = 16;
/// How long an address is tried alone before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// The names of the system, as every other program sees them.
pub(super) struct SystemNames;

impl Resolve for SystemNames {
    fn lookup<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> LocalBoxFuture<'a, Result<Vec<SocketAddr>, Box<dyn std::error::Error>>> {
        let host = host.to_owned();
        async move {
            let lookup = move || io::Result::Ok((&*host, port).to_socket_addrs()?.collect());
            Ok(tokio::task::spawn_blocking(lookup).await??)
        }
        .boxed_local()
    }
}

type Found = Result<Rc<[SocketAddr]>, Rc<str>>;
type Lookup = Shared<LocalBoxFuture<'static, Found>>;

/// Makes the connections of one client to one host.
#[derive(Clone)]
pub(super) struct Door(Rc<Inside>);

struct Inside {
    guard: Guard,
    names: Rc<dyn Resolve>,
    /// The lookup that is under way. Other connections wait for it, so that a name server that does not
    /// answer holds at most one thread per client.
    looking: RefCell<Option<Lookup>>,
}

impl Door {
    pub(super) fn new(guard: Guard, names: Rc<dyn Resolve>) -> Self {
        Self(Rc::new(Inside { guard, names, looking: RefCell::new(None) }))
    }
}

impl Service<ConnectInfo<Uri>> for Door {
    type Response = Connection<Uri, TcpStream>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ConnectError>>;

    always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let inside = Rc::clone(&self.0);
        async move {
            let stream = inside.connect(info.hostname(), info.port()).await?;
            Ok(Connection::new(info.request().clone(), stream))
        }
        .boxed_local()
    }
}

impl Inside {
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let addresses: Rc<[SocketAddr]> = match literal(host) {
            Some(ip) => [SocketAddr::new(ip, port)].into(),
            None => self.lookup(host, port).await?,
        };
        // Not some of them: a name that leads to the inside at all is a trap.
        for address in &*addresses {
            self.guard.judge(address.ip()).map_err(guarded)?;
        }
        let tried = &addresses[..addresses.len().min(ADDRESSES_MAX)];
        let stream = dial(tried).await.map_err(ConnectError::Io)?;
        // The system may lead a connection elsewhere: 0.0.0.0 is this host.
        let peer = stream.peer_addr().map_err(ConnectError::Io)?;
        self.guard.judge(peer.ip()).map_err(guarded)?;
        stream.set_nodelay(true).map_err(ConnectError::Io)?;
        Ok(stream)
    }

    async fn lookup(&self, host: &str, port: u16) -> Result<Rc<[SocketAddr]>, ConnectError> {
        let begin = || {
            let (names, host) = (Rc::clone(&self.names), host.to_owned());
            let lookup = async move {
                let found = names.lookup(&host, port).await;
                found.map(Rc::from).map_err(|error| Rc::from(error.to_string()))
            };
            lookup.boxed_local().shared()
        };
        let known = self.looking.borrow().clone();
        if known.is_some_and(|known| known.now_or_never().is_some()) {
            // It ended when nobody waited for it any more: what it found may be hours old.
            self.looking.take();
        }
        let mine = self.looking.borrow_mut().get_or_insert_with(begin).clone();
        let found: Found = mine.clone().await;
        self.looking.borrow_mut().take_if(|known| known.ptr_eq(&mine));
        match found {
            Ok(addresses) if addresses.is_empty() => Err(ConnectError::NoRecords),
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(ConnectError::Resolver(Box::from(&*error))),
        }
    }
}

fn guarded(guarded: Guarded) -> ConnectError {
    ConnectError::Resolver(Box::new(guarded))
}

/// Connects to the first address that takes the connection: each is tried once the one before it has
/// failed, or has had its head start.
async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut rest = addresses.iter();
    let mut dialing = FuturesUnordered::new();
    let mut error = io::ErrorKind::AddrNotAvailable.into();
    loop {
        dialing.extend(rest.next().map(TcpStream::connect));
        tokio::select! {
            Some(dialed) = dialing.next() => match dialed {
                Ok(stream) => return Ok(stream),
                Err(failed) => error = failed,
            },
            () = sleep(HEAD_START), if rest.len() > 0 => {}
            else => return Err(error),
        }
    }
}
