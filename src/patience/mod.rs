//! How long a connection may keep us waiting and how much of it we take in, beyond what the HTTP server
//! sees to; and listeners whose connections are [`Patient`].
//!
//! actix gives the head of a connection's first request its time, and an idle connection its own. The
//! head of a further request, and an answer that nobody takes, have no limit there: a client that was
//! answered once, even with a refusal, could hold a connection for ever with half a line.
//!
//! It also reads up to 128 KiB, makes a request of each head in it at once, at some 7 KiB, and lets them
//! wait until the answers before them are taken: a connection could hold tens of MiB.

mod body;
mod listener;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_http::Request;
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

pub use self::body::Body;
pub use self::listener::{Terms, Tls, serve};

/// Bytes that are taken in at once where calls are many: as many as actix has room for, so that none is
/// read in two pieces that would not have been anyway.
pub const READ_BYTES: usize = 8 << 10;

/// How long the other side may take, and how much is taken in of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Between an answer and the next request, which the server sees to; here it is the last resort.
    pub idle: Duration,
    /// To take anything at all of an answer.
    pub answer: Duration,
    /// Bytes read ahead, beyond the body of the request that is worked on. All waiting requests of a
    /// connection fit in that many bytes.
    pub read_bytes: usize,
}

/// What the connection and those who work on its requests know of each other.
#[derive(Debug)]
pub struct ConnectionState {
    patience: Patience,
    /// Requests that are worked on: what they may take has limits of its own.
    in_hand: Cell<usize>,
    /// Something came that is no whole request.
    in_head: Cell<bool>,
    /// When the next head has to be whole.
    due: Cell<Instant>,
    /// How much may be read.
    room: Cell<Room>,
    /// Who wants to read once there is room.
    waiting: RefCell<Option<Waker>>,
}

/// How much may be read of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// So many bytes, and more when they have been looked at.
    Next(usize),
    /// So much of a body whose reader waits, and nothing behind it before its request is answered.
    Body(usize),
}

impl ConnectionState {
    fn new(patience: Patience) -> Rc<Self> {
        let due = Cell::new(Instant::now() + patience.head);
        let room = Cell::new(Room::Next(patience.read_bytes));
        let (in_hand, in_head, waiting) = (Cell::new(0), Cell::new(false), RefCell::default());
        Rc::new(Self { patience, in_hand, in_head, due, room, waiting })
    }

    /// Takes `request` in hand, if its connection is a [`Patient`] one. Its body is that of [`Body::of`].
    pub fn take(request: &Request) -> Option<InHand> {
        let state = Rc::clone(request.conn_data::<Rc<Self>>()?);
        Some(state.take_in_hand())
    }

    /// The head of a request is whole: it is in hand until what is answered here is dropped.
    fn take_in_hand(self: Rc<Self>) -> InHand {
        self.in_hand.set(self.in_hand.get() + 1);
        self.read_no_body();
        InHand(self)
    }

    /// The reader of a body waits, of which so many bytes are missing, if that is known.
    fn read_body(&self, missing: Option<usize>) {
        // Where a body of unknown length ends, only its reader learns.
        let portion = Room::Next(self.patience.read_bytes);
        self.room.set(missing.map_or(portion, Room::Body));
        self.wake();
    }

    /// Nobody waits for more of a body.
    fn read_no_body(&self) {
        self.room.set(Room::Body(0));
    }

    fn wake(&self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// How many bytes may be read now of a stream that `may_be_readable`. `None`: whoever asks is woken
    /// when there are any.
    fn room(
        &self,
        cx: &mut Context<'_>,
        may_be_readable: impl FnOnce(&mut Context<'_>) -> bool,
    ) -> Option<usize> {
        match self.room.get() {
            Room::Next(0) => {
                self.room.set(Room::Next(self.patience.read_bytes));
                cx.waker().wake_by_ref();
                None
            }
            Room::Body(0) => {
                if may_be_readable(cx) {
                    self.waiting.replace(Some(cx.waker().clone()));
                }
                None
            }
            Room::Next(bytes) | Room::Body(bytes) => Some(bytes),
        }
    }

    /// There is nothing more to be read at present, so what was read is looked at.
    fn silent(&self) {
        if let Room::Next(_) = self.room.get() {
            self.room.set(Room::Next(self.patience.read_bytes));
        }
    }

    fn heard(&self, bytes: usize) {
        self.room.set(match self.room.get() {
            Room::Next(room) => Room::Next(room - bytes),
            Room::Body(room) => Room::Body(room - bytes),
        });
        if self.in_hand.get() == 0 && !self.in_head.replace(true) {
            self.due.set(self.due.get().min(Instant::now() + self.patience.head));
        }
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.in_hand.get() == 0 && now >= self.due.get()
    }
}

/// A request that is worked on.
#[derive(Debug)]
pub struct InHand(Rc<ConnectionState>);

impl Drop for InHand {
    fn drop(&mut self) {
        let ConnectionState { patience, in_hand, in_head, due, room, .. } = &*self.0;
        in_hand.set(in_hand.get() - 1);
        in_head.set(false);
        room.set(Room::Next(patience.read_bytes));
        self.0.wake();
        // A part of the next head may have come with this request, and nothing more may ever come.
        due.set(Instant::now() + patience.idle + patience.head);
    }
}

/// A stream that can tell whether there is something to read.
pub trait Readable: AsyncRead {
    /// Whether there may be something. If not, whoever asks is woken once there is.
    fn may_be_readable(&self, cx: &mut Context<'_>) -> bool;
}

impl Readable for TcpStream {
    fn may_be_readable(&self, cx: &mut Context<'_>) -> bool {
        self.poll_read_ready(cx).is_ready()
    }
}

impl Readable for TlsStream<TcpStream> {
    /// What it has deciphered already is not seen from the outside.
    fn may_be_readable(&self, _: &mut Context<'_>) -> bool {
        true
    }
}

/// A connection that ends when the other side takes longer than its [`Patience`].
///
/// It is looked at once in the time of a head, whatever happens on it, so that a request costs no
/// timer. What is over time lasts up to that much longer.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    state: Rc<ConnectionState>,
    look: Pin<Box<Sleep>>,
    /// Since when the other side takes nothing of what it is to be given.
    stuck_since: Option<Instant>,
}

impl<S> Patient<S> {
    /// Must be called inside a runtime with timers.
    pub fn new(stream: S, patience: Patience) -> Self {
        let look = Box::pin(sleep_until(Instant::now() + patience.head));
        Self { stream, state: ConnectionState::new(patience), look, stuck_since: None }
    }

    /// What those who work on its requests have to know.
    pub fn state(&self) -> Rc<ConnectionState> {
        Rc::clone(&self.state)
    }

    /// Whether the other side has taken too long. Called whenever there is nothing to do but wait.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let patience = self.state.patience;
        while self.look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let stuck = self.stuck_since.is_some_and(|since| now >= since + patience.answer);
            if stuck || self.state.is_overdue(now) {
                return true;
            }
            self.look.as_mut().reset(now + patience.head);
        }
        false
    }
}

impl<S: Readable + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Who takes no answer is not listened to. The write that waits wakes us.
        if self.stuck_since.is_some() {
            return Poll::Pending;
        }
        let may_be_readable = |cx: &mut Context<'_>| self.stream.may_be_readable(cx);
        let Some(room) = self.state.room(cx, may_be_readable) else { return Poll::Pending };
        let before = buffer.filled().len();
        let polled = if buffer.remaining() <= room {
            Pin::new(&mut self.stream).poll_read(cx, buffer)
        } else {
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
            let polled = Pin::new(&mut self.stream).poll_read(cx, &mut part);
            let read = part.filled().len();
            buffer.advance(read);
            polled
        };
        if polled.is_ready() {
            self.state.heard(buffer.filled().len() - before);
        } else {
            self.state.silent();
            if self.is_over(cx) {
                // As if they had hung up: the server has an orderly end for that.
                return Poll::Ready(Ok(()));
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    /// Notes how a write went.
    fn wrote<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            if self.stuck_since.take().is_some() {
                // What they say may be read again.
                cx.waker().wake_by_ref();
            }
            return polled;
        }
        self.stuck_since.get_or_insert_with(Instant::now);
        if self.is_over(cx) { Poll::Ready(Err(ErrorKind::TimedOut.into())) } else { polled }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.wrote(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
