//! The heartbeat of one connection, on a stream of its own each way: a database that is slow holds
//! events up, and no beat. Between beats a relay asks for its certificate.

use base64_simd::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use link::beat::BEAT_EVERY;
use link::frame::Frame;
use link::id::NodeId;
use link::message::{ToControl, ToRelay};
use quinn::Connection;
use tokio::time::sleep_until;

use super::{Broken, Reader, Session, Writer};
use crate::clock;
use crate::error::chain;
use crate::fleet::nodes::Stay;
use crate::fleet::vital::Suspicion;

/// The frames of the stream that a relay beats on, from before it opens it.
struct Beats<'a> {
    connection: &'a Connection,
    reader: Option<Reader>,
}

impl Beats<'_> {
    /// The next frame. Nothing is lost when nobody waits for it any more.
    async fn next(&mut self) -> Result<Frame, Broken> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let receiver = self.connection.accept_uni().await?;
                self.reader.insert(Reader::new(receiver))
            }
        };
        reader.frame().await
    }
}

impl Session<'_> {
    /// Beats, and hears the node beat, as long as the connection lasts. A node that falls silent
    /// keeps its place, and gets no calls; the link's own time-out ends it.
    pub(super) async fn beat(&self, connection: &Connection, stay: &Stay) -> Result<(), Broken> {
        let sender = connection.open_uni().await?;
        // Before all that is told besides, on a line that takes little.
        sender.set_priority(1).map_err(|_| Broken::Closed)?;
        let mut writer = Writer(sender);
        let mut beats = Beats { connection, reader: None };
        let (mut due, mut suspected) = (clock::steady(), None);
        // One at most, beside the beats: it takes the database.
        let mut enrolling = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = sleep_until(due) => {
                    let now = clock::steady();
                    due = now + BEAT_EVERY;
                    let beat = stay.answer(clock::wall(), now).ok_or(Broken::Replaced)?;
                    writer.say(&ToRelay::Beat(beat)).await?;
                    let suspicion = stay.suspicion(now);
                    if suspicion != suspected {
                        tell(stay.node(), suspicion);
                        suspected = suspicion;
                    }
                }
                frame = beats.next() => {
                    let message = ToControl::read(&frame?);
                    if let Ok(ToControl::Beat(beat)) = &message {
                        stay.beat(beat, clock::wall(), clock::steady());
                    } else if let (Ok(ToControl::Enrol { key }), true) =
                        (message, enrolling.is_empty())
                    {
                        enrolling.push(self.enrol(stay.node(), key));
                    } else {
                        self.plane.metrics.link_unknown.inc();
                        tracing::debug!("a frame among a relay's beats is skipped");
                    }
                }
                Some(issued) = enrolling.next() => {
                    if let Some(certificate) = issued {
                        writer.say(&certificate).await?;
                    }
                }
            }
        }
    }

    /// Makes a certificate for the node and keeps it; `None` when that fails: the relay asks again.
    async fn enrol(&self, node: &NodeId, key: String) -> Option<ToRelay> {
        let now = clock::wall();
        let issued = match self.authority.certify(node, &key, now) {
            Ok(issued) => issued,
            Err(error) => {
                tracing::warn!(%node, error = chain(&error), "a relay gets no certificate");
                return None;
            }
        };
        match self.plane.store.keep_node_certificate(node, &issued, now).await {
            Ok(true) => {
                tracing::info!(%node, "a relay gets a certificate");
                let certificate = URL_SAFE_NO_PAD.encode_to_string(&issued.certificate);
                Some(ToRelay::Certificate { certificate, good_until: issued.good_until })
            }
            // Its link is cut within a moment.
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(%node, error = error.explain(), "a relay gets no certificate yet");
                None
            }
        }
    }
}

fn tell(node: &NodeId, suspicion: Option<Suspicion>) {
    match suspicion {
        Some(why) => {
            tracing::warn!(%node, why = why.as_str(), "a node is suspect and gets no new calls");
        }
        None => tracing::info!(%node, "a node is suspect no more"),
    }
}
