//! The body of a request in hand.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::error::PayloadError;
use actix_http::{HttpMessage, Payload, Request};
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::Bytes;
use futures_util::Stream;

use super::ConnectionState;

/// The body of a request, of whose connection is read what is missing of it, and only while its reader
/// waits.
///
/// Others may wait behind it. actix takes the unfinished body of one of them for that of the request that it
/// answers, and closes the connection.
pub struct Body {
    payload: Payload,
    connection: Option<Rc<ConnectionState>>,
    /// Bytes that are missing, if the head says how many there are.
    missing: Option<usize>,
}

impl Body {
    /// Takes the body out of `request`. If that is in hand, this is the only way to read it.
    pub fn of(request: &mut Request) -> Self {
        let payload = request.take_payload();
        let connection = request.conn_data::<Rc<ConnectionState>>().map(Rc::clone);
        Self::new(payload, declared_bytes(request), connection)
    }

    pub(super) fn new(
        payload: Payload,
        missing: Option<usize>,
        connection: Option<Rc<ConnectionState>>,
    ) -> Self {
        Self { payload, connection, missing }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.payload).poll_next(cx);
        if let (Poll::Ready(Some(Ok(chunk))), Some(missing)) = (&polled, &mut self.missing) {
            *missing = missing.saturating_sub(chunk.len());
        }
        if let Some(connection) = &self.connection {
            match polled {
                // All that was read has been handed on.
                Poll::Pending => connection.read_body(self.missing),
                Poll::Ready(_) => connection.read_no_body(),
            }
        }
        polled
    }
}

/// How long the body of `request` is, if its head says so. The server has looked at the number.
fn declared_bytes(request: &Request) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
