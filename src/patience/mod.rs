//! How long a connection may keep us waiting, beyond what the HTTP server sees to; and listeners whose
//! connections are [`Patient`].
//!
//! actix gives the head of a connection's first request its time, and an idle connection its own. The
//! head of a further request, and an answer that nobody takes, have no limit there: whoever was
//! answered once, and be it with a refusal, could hold a connection for ever with half a line.

mod listener;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

pub use self::listener::{Terms, serve};

/// How long the other side may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Between an answer and the next request, which the server sees to; here it is the last resort.
    pub idle: Duration,
    /// To take anything at all of an answer.
    pub answer: Duration,
}

/// What the connection and those who work on its requests know of each other.
#[derive(Debug)]
pub struct Standing {
    limits: Limits,
    /// Requests that are worked on: what they may take has limits of its own.
    in_hand: Cell<usize>,
    /// Something came that is no whole request.
    in_head: Cell<bool>,
    /// When the next head has to be whole.
    due: Cell<Instant>,
}

impl Standing {
    fn new(limits: Limits) -> Rc<Self> {
        let due = Cell::new(Instant::now() + limits.head);
        Rc::new(Self { limits, in_hand: Cell::new(0), in_head: Cell::new(false), due })
    }

    /// A head is whole: its request is in hand until what is answered here is dropped.
    pub fn take_in_hand(self: &Rc<Self>) -> InHand {
        self.in_hand.set(self.in_hand.get() + 1);
        InHand(Rc::clone(self))
    }

    fn heard(&self) {
        if self.in_hand.get() == 0 && !self.in_head.replace(true) {
            self.due.set(self.due.get().min(Instant::now() + self.limits.head));
        }
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.in_hand.get() == 0 && now >= self.due.get()
    }
}

/// A request that is worked on.
#[derive(Debug)]
pub struct InHand(Rc<Standing>);

impl Drop for InHand {
    fn drop(&mut self) {
        let Standing { limits, in_hand, in_head, due } = &*self.0;
        in_hand.set(in_hand.get() - 1);
        in_head.set(false);
        // A part of the next head may have come with this request, and nothing more may ever come.
        due.set(Instant::now() + limits.idle + limits.head);
    }
}

/// A connection that ends when the other side takes longer than its [`Limits`].
///
/// It is looked at once in the time of a head, whatever happens on it, so that a request costs no
/// timer. What is over time lasts up to that much longer.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    standing: Rc<Standing>,
    look: Pin<Box<Sleep>>,
    /// Since when the other side takes nothing of what it is to be given.
    stuck_since: Option<Instant>,
}

impl<S> Patient<S> {
    /// Must be called inside a runtime with timers.
    pub fn new(stream: S, limits: Limits) -> Self {
        let look = Box::pin(sleep_until(Instant::now() + limits.head));
        Self { stream, standing: Standing::new(limits), look, stuck_since: None }
    }

    /// What those who work on its requests have to know.
    pub fn standing(&self) -> Rc<Standing> {
        Rc::clone(&self.standing)
    }

    /// Whether the other side has taken too long. Called whenever there is nothing to do but wait.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let limits = self.standing.limits;
        while self.look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let stuck = self.stuck_since.is_some_and(|since| now >= since + limits.answer);
            if stuck || self.standing.is_overdue(now) {
                return true;
            }
            self.look.as_mut().reset(now + limits.head);
        }
        false
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match polled {
            Poll::Ready(_) => self.standing.heard(),
            // As if they had hung up: the server has an orderly end for that.
            Poll::Pending if self.is_over(cx) => return Poll::Ready(Ok(())),
            Poll::Pending => {}
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
            self.stuck_since = None;
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
