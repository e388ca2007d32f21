//! A server of the agents' owner with effects: it books, and knows what was booked twice. The number's
//! fallback document is here, too: it must not depend on anything that a scene takes away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use serde::Deserialize;

use crate::serve::{self, Answer, Asked, Server};

/// A running server.
pub(super) struct Bookings {
    server: Server,
    book: Arc<Book>,
}

/// What was booked: the keys of the requests for each booking. A request that comes again with its
/// key has no second effect.
#[derive(Default)]
struct Book(Mutex<BTreeMap<String, BTreeSet<String>>>);

/// What a tool's request says.
#[derive(Deserialize)]
struct Request {
    arguments: Arguments,
}

/// What is booked.
#[derive(Deserialize)]
struct Arguments {
    booking: String,
}

impl Bookings {
    /// Starts it on a free loopback port.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn start() -> std::io::Result<Self> {
        let book = Arc::new(Book::default());
        let server = Server::start((Ipv4Addr::LOCALHOST, 0).into(), Arc::clone(&book)).await?;
        Ok(Self { server, book })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Where the number's fallback document is.
    pub(super) fn fallback_url(&self) -> String {
        format!("http://{}{FALLBACK}", self.address())
    }

    /// How many keys each booking came with: more than one is an effect that was repeated.
    pub(super) fn effects(&self) -> BTreeMap<String, usize> {
        let book = self.book.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.iter().map(|(booking, keys)| (booking.clone(), keys.len())).collect()
    }
}

impl serve::Service for Book {
    async fn answer(self: Arc<Self>, asked: Asked) -> Answer {
        if asked.path() == FALLBACK {
            return serve::answer(StatusCode::OK, "text/xml", FALLBACK_DOCUMENT.into());
        }
        let key = asked.header("idempotency-key").unwrap_or_default().to_owned();
        let Ok(Request { arguments }) = serde_json::from_slice(&asked.body) else {
            return serve::text(StatusCode::BAD_REQUEST, "this books nothing");
        };
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.entry(arguments.booking.clone()).or_default().insert(key);
        serve::text(StatusCode::OK, &format!("number {}", arguments.booking))
    }
}

/// Where the fallback document is.
const FALLBACK: &str = "/fallback";

/// What it says.
const FALLBACK_DOCUMENT: &str =
    "<Response><Say>We cannot take your call. Please call again later.</Say><Hangup/></Response>";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::web;
    use bytes::Bytes;
    use http::Method;

    #[tokio::test]
    async fn a_repeated_key_is_one_effect_and_another_key_a_second() {
        let bookings = Bookings::start().await.unwrap();
        for key in ["a", "a", "b"] {
            let body = Bytes::from(r#"{"call":"c","tool":"book","arguments":{"booking":"1-2"}}"#);
            let headers = [("idempotency-key", key)];
            let answer = web::send(bookings.address(), Method::POST, "/book", &headers, body);
            assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
        }
        assert_eq!(bookings.effects(), BTreeMap::from([("1-2".to_owned(), 2)]));
    }
}
