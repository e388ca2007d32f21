//! One connection of a relay: hello, what it needs to know, then events in and orders out until
//! either side ends it.
//!
//! Three loops in one task: reading, waiting for commits, writing. An acknowledgement is written
//! only after the commit; whatever was not acknowledged comes again on the next connection, and
//! the sequencer drops what it has.

use std::sync::Arc;
use std::time::Duration;

use link::agent::AgentSpec;
use link::event::{CallEvent, NodeEvent};
use link::frame::{Channel, Decoder, Frame, FrameError};
use link::id::EventNumber;
use link::message::{
    BATCH_EVENTS_MAX, EPHEMERAL_EVENTS_MAX, Hello, LEASE_SINCE, ToControl, ToRelay, VERSION,
};
use quinn::{Incoming, RecvStream, SendStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::super::authority::Authority;
use super::super::nodes::{Arrival, Stay, stream_url};
use super::super::orders::Order;
use crate::error::chain;
use crate::metrics::Hearing;
use crate::plane::Plane;
use crate::sequencer::{Receipt, Refused};
use crate::store::{Source, StoreError};
use crate::tokens::KeyChanges;
use crate::twilio::signature::expected_upgrade_values;

/// Why a connection ends. None of these ends a call.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the connection was lost")]
    Connection(#[from] quinn::ConnectionError),
    #[error("the relay's stream was lost")]
    Read(#[from] quinn::ReadError),
    #[error("the relay does not take what it is told")]
    Write(#[from] quinn::WriteError),
    #[error("the relay breaks the framing")]
    Frame(#[from] FrameError),
    #[error("the relay says nothing, or does not read")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("the relay closed its stream")]
    Closed,
    #[error("the relay did not begin with a hello")]
    NoHello,
    #[error("the relay sends more events at once than is allowed")]
    TooMany,
    #[error("the database does not answer")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Events(#[from] Refused),
    #[error("another connection took the node's place")]
    Replaced,
    #[error("refused: {0}")]
    Refused(&'static str),
    #[error("control stops")]
    Stopped,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    plane: Arc<Plane>,
    authority: Arc<Authority>,
    incoming: Incoming,
    stop: CancellationToken,
) {
    let peer = incoming.remote_address();
    let session = Session { plane: &plane, authority: &authority };
    match session.run(incoming, &stop).await {
        Err(Broken::Refused(why)) => tracing::warn!(%peer, why, "a relay is refused"),
        Err(error) => tracing::debug!(%peer, error = chain(&error), "a connection ended"),
        Ok(()) => {}
    }
}

/// What a connection needs of the process.
struct Session<'a> {
    plane: &'a Plane,
    authority: &'a Authority,
}

impl Session<'_> {
    /// From the first packet to the last; a stop of the process ends it in between.
    async fn run(&self, incoming: Incoming, stop: &CancellationToken) -> Result<(), Broken> {
        // A stranger that stalls in the handshake holds a task, nothing else, and not for long.
        let connection = timeout(HELLO_WITHIN, incoming.accept()?).await??;
        let ended = tokio::select! {
            ended = self.talk(&connection) => ended,
            () = stop.cancelled() => Err(Broken::Stopped),
        };
        connection.close(0_u32.into(), b"");
        ended
    }

    /// Hello, welcome or refusal, then as long as it lasts.
    async fn talk(&self, connection: &quinn::Connection) -> Result<(), Broken> {
        let (sender, receiver) = timeout(HELLO_WITHIN, connection.accept_bi()).await??;
        let mut reader = Reader::new(receiver);
        let mut writer = Writer(sender);
        let first = timeout(HELLO_WITHIN, reader.frame()).await??;
        let Ok(ToControl::Hello(hello)) = ToControl::read(&first) else {
            self.plane.metrics.hello(Hearing::NoHello);
            return Err(Broken::NoHello);
        };
        // Refused with words: whoever runs the relay reads them in its log.
        if let Err((hearing, why)) = self.check(&hello) {
            self.plane.metrics.hello(hearing);
            return writer.refuse(why).await;
        }
        self.plane.metrics.hello(Hearing::Welcome);
        // Before they are told: what changes meanwhile is told again.
        let keys = self.plane.tokens.changes();
        let told = self.welcome(&hello, &mut writer).await?;
        // Only a node that has everything takes its place, and with it a predecessor's: one that
        // finds this control at a second address leaves again without a word.
        let next = timeout(HELLO_WITHIN, reader.frame()).await??;
        let knows_lease = hello.version.minor >= LEASE_SINCE;
        let Hello { node, epoch, public_url, software, region, version, .. } = hello;
        let source = Source { node: node.clone(), epoch };
        let arrival = Arrival { node, epoch, public_url, software, region, version };
        let (stay, orders) = self.plane.nodes.join(arrival);
        let node = stay.node().clone();
        self.plane.nodes.was_told(&node, &told);
        // What was made while the others were written.
        for spec in self.plane.directory.all() {
            // One that cannot be told now is told before a stream needs it.
            let _ = self.plane.nodes.tell(&node, &spec);
        }
        tracing::info!(%node, "a relay is in");
        let place = Place { source, stay, orders, knows_lease, keys };
        let ended = self.serve(place, next, reader, writer).await;
        if let Err(error) = &ended {
            tracing::info!(%node, error = chain(error), "a relay has left");
        }
        ended
    }

    /// Whether the relay is let in; if not, what to tell it.
    fn check(&self, hello: &Hello) -> Result<(), (Hearing, &'static str)> {
        if hello.version.major != VERSION.major {
            let why = "this control speaks another version of the link; \
                run the same release of relay and control";
            return Err((Hearing::Version, why));
        }
        if !self.authority.opens(&hello.secret) {
            let why = "the join token's secret is not this control's; \
                `control join-token` prints the right one";
            return Err((Hearing::Secret, why));
        }
        if !is_wss_origin(&hello.public_url) {
            let why = "the node's public URL must be wss://host[:port] without a path";
            return Err((Hearing::Address, why));
        }
        Ok(())
    }

    /// Tells the relay how far its events are committed and everything that a call needs. The
    /// provider keys travel here, inside the agents, and nowhere else. Says which agents it was.
    async fn welcome(
        &self,
        hello: &Hello,
        writer: &mut Writer,
    ) -> Result<Vec<Arc<AgentSpec>>, Broken> {
        let source = Source { node: hello.node.clone(), epoch: hello.epoch };
        let acked = self.plane.store.mark(&source).await?;
        let control = Some(self.plane.sequencer.control().clone());
        writer.say(&ToRelay::Welcome { version: VERSION, acked, control }).await?;
        writer.say(&ToRelay::TicketKeys { keys: self.plane.tokens.verifying() }).await?;
        let url = stream_url(&hello.public_url, &hello.node);
        let values = expected_upgrade_values(&url, &self.plane.auth_tokens);
        writer.say(&ToRelay::Signatures { values }).await?;
        let agents = self.plane.directory.all();
        for spec in &agents {
            writer.say_what_fits(&ToRelay::Agent(Box::new(AgentSpec::clone(spec)))).await?;
        }
        writer.say(&ToRelay::Synced).await?;
        Ok(agents)
    }

    /// The three loops; the first to end ends the connection, and with it the place.
    async fn serve(
        &self,
        place: Place,
        next: Frame,
        reader: Reader,
        writer: Writer,
    ) -> Result<(), Broken> {
        let Place { source, stay, orders, knows_lease, keys } = place;
        let replaced = stay.replaced();
        let (receipts, waiting) = mpsc::channel(RECEIPTS_MAX);
        let (acks, committed) = watch::channel(EventNumber(0));
        let mut term = self.plane.sequencer.term();
        // The first word about it comes at once.
        term.mark_changed();
        let news = News { orders, committed, term: knows_lease.then_some(term) };
        let heard = Heard { source, stay, knows_lease };
        // No event is lost with the other loops: what was not acknowledged comes again.
        tokio::select! {
            read = self.read(heard, next, reader, receipts) => read,
            waited = await_commits(waiting, acks, knows_lease) => waited,
            written = self.write(news, keys, writer) => written,
            () = replaced.cancelled() => Err(Broken::Replaced),
        }
    }

    /// Takes what the relay says. Waiting for the sequencer keeps frames in QUIC's window, which
    /// is bounded, and so the relay's ring fills instead of our memory.
    async fn read(
        &self,
        heard: Heard,
        next: Frame,
        mut reader: Reader,
        receipts: mpsc::Sender<Receipt>,
    ) -> Result<(), Broken> {
        let Heard { source, stay, knows_lease } = heard;
        let term = self.plane.sequencer.term();
        let mut next = Some(next);
        loop {
            let frame = match next.take() {
                Some(frame) => frame,
                None => reader.frame().await?,
            };
            match (frame.channel, ToControl::read(&frame)) {
                (Channel::Other(_), _) | (_, Err(_) | Ok(ToControl::Unknown)) => {
                    self.plane.metrics.link_unknown.inc();
                    tracing::debug!(channel = ?frame.channel, "a frame of a relay is skipped");
                }
                // Once is enough; a second one changes nothing.
                (_, Ok(ToControl::Hello(_))) => {
                    self.plane.metrics.link_unknown.inc();
                }
                (_, Ok(ToControl::Load(load))) => stay.set_load(load),
                (_, Ok(ToControl::Ephemeral { events })) if events.len() > EPHEMERAL_EVENTS_MAX => {
                    return Err(Broken::TooMany);
                }
                // Shown at once and by every instance: nobody keeps it.
                (_, Ok(ToControl::Ephemeral { events })) => self.plane.hub.pass(&events),
                (_, Ok(ToControl::Events { events })) if events.len() > BATCH_EVENTS_MAX => {
                    return Err(Broken::TooMany);
                }
                (_, Ok(ToControl::Events { events })) => {
                    settle(&stay, &events);
                    // The relay keeps them, and tells whoever says next that it holds the lease.
                    if knows_lease && term.borrow().is_none() {
                        continue;
                    }
                    // Waits while the sequencer is behind: the relay then keeps its events.
                    let receipt = self.plane.sequencer.submit(source.clone(), events).await?;
                    receipts.send(receipt).await.map_err(|_| Broken::Closed)?;
                }
            }
        }
    }

    /// Tells the relay what is committed, what to do, whether it tells the right one, and which keys
    /// sign. Commits that come while it does not read are told as one.
    async fn write(
        &self,
        news: News,
        mut keys: KeyChanges,
        mut writer: Writer,
    ) -> Result<(), Broken> {
        let News { mut orders, mut committed, mut term } = news;
        loop {
            // None waits behind another for long: all are small frames.
            let message = tokio::select! {
                changed = committed.changed() => {
                    changed.map_err(|_| Broken::Closed)?;
                    ToRelay::Ack { through: *committed.borrow_and_update() }
                }
                order = orders.recv() => order.ok_or(Broken::Replaced)?.into(),
                term = changed(&mut term) => ToRelay::Lease { term: term? },
                changed = keys.changed() => {
                    // The plane outlives every session.
                    changed.map_err(|_| Broken::Stopped)?;
                    ToRelay::TicketKeys { keys: self.plane.tokens.verifying() }
                }
            };
            writer.say(&message).await?;
        }
    }
}

/// A node's place in the fleet, while its connection lasts.
struct Place {
    source: Source,
    stay: Stay,
    orders: mpsc::Receiver<Order>,
    keys: KeyChanges,
    /// Whether the relay asks who takes events; an older one tells everybody.
    knows_lease: bool,
}

/// Whom the reading loop hears.
struct Heard {
    source: Source,
    stay: Stay,
    knows_lease: bool,
}

/// What the writing loop tells.
struct News {
    orders: mpsc::Receiver<Order>,
    committed: watch::Receiver<EventNumber>,
    /// `None` for a relay that does not ask.
    term: Option<watch::Receiver<Option<u64>>>,
}

/// Streams that have begun or were refused are no longer only promised.
fn settle(stay: &Stay, events: &[NodeEvent]) {
    for event in events {
        let is_settled = matches!(
            event.event,
            CallEvent::StreamStarted { .. } | CallEvent::StreamRefused { .. }
        );
        if let (true, Some(call)) = (is_settled, &event.call) {
            stay.settle(&call.id);
        }
    }
}

/// Waits for the commits in the order of the batches. A batch that does not follow what was
/// committed ends the connection: the next one begins with what is missing. One that another
/// instance is to be told does not, unless the relay knows no other.
async fn await_commits(
    mut waiting: mpsc::Receiver<Receipt>,
    acks: watch::Sender<EventNumber>,
    knows_lease: bool,
) -> Result<(), Broken> {
    while let Some(receipt) = waiting.recv().await {
        match receipt.await {
            Err(Refused::NotHolder) if knows_lease => {}
            committed => {
                acks.send_replace(committed?);
            }
        }
    }
    Err(Broken::Closed)
}

/// The next change of what is watched; never, when nothing is.
async fn changed(term: &mut Option<watch::Receiver<Option<u64>>>) -> Result<Option<u64>, Broken> {
    let Some(term) = term else { return std::future::pending().await };
    term.changed().await.map_err(|_| Broken::Closed)?;
    Ok(*term.borrow_and_update())
}

/// Whether the carrier can be sent there: `wss://host[:port]` as it is written, since it signs
/// exactly that text.
fn is_wss_origin(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let has_user = !url.username().is_empty() || url.password().is_some();
    let is_bare =
        !text.ends_with('/') && !text.contains(['?', '#']) && matches!(url.path(), "" | "/");
    url.scheme() == "wss" && url.host_str().is_some() && is_bare && !has_user
}

/// Frames to the relay.
struct Writer(SendStream);

impl Writer {
    /// Writes one message. A relay that does not read is given up, never waited for.
    async fn say(&mut self, message: &ToRelay) -> Result<(), Broken> {
        let mut bytes = Vec::new();
        message.write(&mut bytes)?;
        Ok(timeout(WRITE_WITHIN, self.0.write_all(&bytes)).await??)
    }

    /// The same; what is longer than a frame costs its own calls, and not the link.
    async fn say_what_fits(&mut self, message: &ToRelay) -> Result<(), Broken> {
        match self.say(message).await {
            Err(Broken::Frame(error)) => {
                tracing::error!(%error, "an agent does not fit the link");
                Ok(())
            }
            said => said,
        }
    }

    /// Says no and lets the word arrive.
    async fn refuse(mut self, why: &'static str) -> Result<(), Broken> {
        self.say(&ToRelay::Refused { why: why.to_owned() }).await?;
        // Nothing was written after it, so finishing cannot fail.
        let _ = self.0.finish();
        let _ = timeout(HELLO_WITHIN, self.0.stopped()).await;
        Err(Broken::Refused(why))
    }
}

/// Frames off the relay's stream.
struct Reader {
    receiver: RecvStream,
    decoder: Decoder,
    bytes: Vec<u8>,
}

impl Reader {
    fn new(receiver: RecvStream) -> Self {
        Self { receiver, decoder: Decoder::default(), bytes: vec![0; READ_BYTES] }
    }

    /// The next whole frame. What is too long or empty cannot be trusted any more.
    async fn frame(&mut self) -> Result<Frame, Broken> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            let read = self.receiver.read(&mut self.bytes).await?;
            self.decoder.push(&self.bytes[..read.ok_or(Broken::Closed)?]);
        }
    }
}

/// From the connection to its stream, and from the stream to the hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// A relay that does not read for so long is not well; it comes back when it is.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// Batches that wait for their commit. When full, nothing more is read.
const RECEIPTS_MAX: usize = 16;

/// What is read at once.
const READ_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_reached_at_a_wss_origin() {
        for good in ["wss://a.example", "wss://a.example:8443", "wss://[::1]:9"] {
            assert!(is_wss_origin(good), "{good}");
        }
        for bad in
            ["ws://a", "https://a", "wss://a/", "wss://a/x", "wss://a?x", "wss://u@a", "wss://"]
        {
            assert!(!is_wss_origin(bad), "{bad}");
        }
    }
}
