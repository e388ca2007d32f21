//! Control's event stream, as a web app would read it.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;

use super::web;

/// One event of the stream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Event {
    /// Its number.
    pub(crate) seq: u64,
    /// What happened.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// In which call.
    #[serde(default)]
    pub(crate) call: Option<String>,
    /// The details.
    #[serde(default)]
    pub(crate) data: Value,
}

impl Event {
    /// A number of the details.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.data[name].as_u64()
    }

    /// A text of the details.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.data[name].as_str().unwrap_or_default()
    }
}

/// An open stream of events.
pub(crate) struct Events {
    body: Incoming,
    reader: Reader,
}

impl Events {
    /// Opens the stream from its beginning.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) async fn open(address: SocketAddr, key: &str) -> anyhow::Result<Self> {
        Self::open_after(address, key, 0).await
    }

    /// Opens it behind the event with this number.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) async fn open_after(
        address: SocketAddr,
        key: &str,
        after: u64,
    ) -> anyhow::Result<Self> {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("accept", "text/event-stream")];
        let path = format!("/v1/events?after={after}");
        let response = web::send(address, Method::GET, &path, &headers, Bytes::new()).await?;
        if !response.status().is_success() {
            bail!("{path} answered {}", response.status());
        }
        Ok(Self { body: response.into_body(), reader: Reader::default() })
    }

    /// The next event.
    ///
    /// # Errors
    /// When the stream ends or holds something else.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Event> {
        loop {
            if let Some(event) = self.reader.next()? {
                return Ok(event);
            }
            let frame = self.body.frame().await.context("the event stream ended")??;
            if let Ok(bytes) = frame.into_data() {
                self.reader.push(&bytes);
            }
        }
    }
}

/// Cuts a stream of bytes into events.
#[derive(Debug, Default)]
struct Reader {
    bytes: Vec<u8>,
}

impl Reader {
    /// Adds what has arrived.
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next whole event, if there is one.
    fn next(&mut self) -> anyhow::Result<Option<Event>> {
        while let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
            let record: Vec<u8> = self.bytes.drain(..end + 2).collect();
            if let Some(event) = read(&String::from_utf8(record)?)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

/// Reads one record; `None` for one of comments alone.
fn read(record: &str) -> anyhow::Result<Option<Event>> {
    let field = |name: &str| {
        let found = record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(str::trim_start)
    };
    let Some(data) = field("data") else { return Ok(None) };
    let event: Event = serde_json::from_str(data).context("an event is not JSON")?;
    if field("id") != Some(&event.seq.to_string()) || field("event") != Some(&event.kind) {
        bail!("an event's id and name do not match its data: {record}");
    }
    Ok(Some(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_out_of_any_pieces() {
        let stream = ": ping\n\nid: 7\nevent: turn\ndata: {\"seq\":7,\"type\":\"turn\",\
                      \"call\":\"c_1\",\"data\":{\"role\":\"caller\",\"heard_ms\":5}}\n\n";
        for size in [1, 3, 1_000] {
            let mut reader = Reader::default();
            let mut events = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                reader.push(piece);
                events.extend(reader.next().unwrap());
            }
            assert_eq!(events.len(), 1);
            assert_eq!((events[0].text("role"), events[0].number("heard_ms")), ("caller", Some(5)));
        }
    }

    #[test]
    fn an_id_that_is_not_the_seq_is_an_error() {
        assert!(read("id: 8\nevent: turn\ndata: {\"seq\":7,\"type\":\"turn\"}\n\n").is_err());
    }
}
