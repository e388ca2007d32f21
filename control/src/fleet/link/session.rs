//! One connection of a relay: hello, what it needs to know, then events in and orders out until
//! either side ends it.
//!
//! Four loops in one task: reading, waiting for commits, writing, beating. An acknowledgement is
//! written only after the commit; whatever was not acknowledged comes again on the next connection,
//! and the sequencer drops what it has.

use std::sync::Arc;
use std::time::Duration;

use link::agent::AgentSpec;
use link::event::NodeEvent;
use link::frame::{Channel, Decoder, Frame, FrameError};
use link::id::{Epoch, EventNumber};
use link::message::{
    BATCH_EVENTS_MAX, BEAT_SINCE, EPHEMERAL_EVENTS_MAX, Hello, LEASE_SINCE, ToControl, ToRelay,
    VERSION,
};
use quinn::{Incoming, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::intake::Intake;
use super::super::authority::{Authority, fingerprint};
use super::super::moves::Outcome;
use super::super::nodes::{Arrival, Stay, stream_url};
use super::super::orders::Order;
use crate::clock;
use crate::error::chain;
use crate::metrics::{Hearing, Moving};
use crate::plane::Plane;
use crate::sequencer::{Receipt, Refused};
use crate::store::Source;
use crate::tokens::KeyChanges;
use crate::twilio::signature::expected_upgrade_values;

mod beats;
mod intake;

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
    #[error(transparent)]
    Events(#[from] Refused),
    #[error("events came while the database was away; the relay is to send them again")]
    Behind,
    #[error("another connection took the node's place")]
    Replaced,
    #[error("an operator has revoked the node")]
    Revoked,
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
        let proof = self.proof(connection, &hello).await;
        let minor = match self.check(&hello, proof) {
            Ok(minor) => minor,
            Err((hearing, why)) => {
                self.plane.metrics.hello(hearing);
                return writer.refuse(why).await;
            }
        };
        self.plane.metrics.hello(Hearing::Welcome);
        // Before they are told: what changes meanwhile is told again.
        let keys = self.plane.tokens.changes();
        let told = self.welcome(&hello, &mut writer).await?;
        // Only a node that has everything takes its place, and with it a predecessor's: one that
        // finds this control at a second address leaves again without a word.
        let next = timeout(HELLO_WITHIN, reader.frame()).await??;
        let knows_lease = minor >= LEASE_SINCE;
        let beats = (minor >= BEAT_SINCE).then_some(connection);
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
        let place = Place { source, stay, orders, knows_lease, keys, beats };
        let ended = self.serve(place, next, reader, writer).await;
        if let Err(error) = &ended {
            tracing::info!(%node, error = chain(error), "a relay has left");
        }
        ended
    }

    /// Whether the relay has shown a certificate of the node that it says it is. A database that does
    /// not answer leaves the word to the join secret.
    async fn proof(&self, connection: &quinn::Connection, hello: &Hello) -> Proof {
        let Some(fingerprint) = shown(connection) else { return Proof::Nothing };
        match self.plane.store.node_of_certificate(&fingerprint, clock::wall()).await {
            Ok(Some(node)) if node == hello.node => Proof::Certificate,
            Ok(_) => Proof::Nothing,
            Err(error) => {
                tracing::warn!(error = error.explain(), "a relay's certificate is not looked up");
                Proof::Nothing
            }
        }
    }

    /// Whether the relay is let in: the minor version that both sides know; if not, what to tell it.
    fn check(&self, hello: &Hello, proof: Proof) -> Result<u16, (Hearing, &'static str)> {
        let Some(minor) = VERSION.agreed(hello.version) else {
            let why = "this control speaks another version of the link; \
                run the same release of relay and control";
            return Err((Hearing::Version, why));
        };
        if self.plane.nodes.is_revoked(&hello.node) {
            let why = "this node is revoked; `control node admit` with its name lets it in again";
            return Err((Hearing::Revoked, why));
        }
        if proof == Proof::Nothing && !self.authority.opens(&hello.secret) {
            let why = "the join token's secret is not this control's; \
                `control join-token` prints the right one";
            return Err((Hearing::Secret, why));
        }
        if !is_wss_origin(&hello.public_url) {
            let why = "the node's public URL must be wss://host[:port] without a path";
            return Err((Hearing::Address, why));
        }
        Ok(minor)
    }

    /// Tells the relay how far its events are committed and everything that a call needs. The
    /// provider keys travel here, inside the agents, and nowhere else. Says which agents it was.
    async fn welcome(
        &self,
        hello: &Hello,
        writer: &mut Writer,
    ) -> Result<Vec<Arc<AgentSpec>>, Broken> {
        let source = Source { node: hello.node.clone(), epoch: hello.epoch };
        // Without the database the relay is let in all the same, and tells everything that it has: what
        // was committed is found out then.
        let marked = timeout(MARK_WITHIN, self.plane.store.mark(&source)).await;
        let acked = marked.ok().and_then(Result::ok).unwrap_or_else(|| {
            tracing::warn!(node = %hello.node, "a relay comes in while the database is away");
            EventNumber(0)
        });
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

    /// The four loops; the first to end ends the connection, and with it the place.
    async fn serve(
        &self,
        place: Place<'_>,
        next: Frame,
        reader: Reader,
        writer: Writer,
    ) -> Result<(), Broken> {
        let Place { source, stay, orders, knows_lease, keys, beats } = place;
        let (replaced, revoked) = (stay.replaced(), stay.revoked());
        let (receipts, waiting) = mpsc::channel(RECEIPTS_MAX);
        let (acks, committed) = watch::channel(EventNumber(0));
        let (spool_acks, spooled) = watch::channel((Epoch(0), EventNumber(0)));
        let acks = Acks { own: acks, spooled: spool_acks };
        let mut term = self.plane.sequencer.term();
        // The first word about it comes at once.
        term.mark_changed();
        let news = News { orders, committed, spooled, term: knows_lease.then_some(term) };
        let heard = Heard { source, stay: &stay, knows_lease };
        let beating = async {
            match beats {
                Some(connection) => self.beat(connection, &stay).await,
                None => std::future::pending().await,
            }
        };
        // No event is lost with the other loops: what was not acknowledged comes again.
        tokio::select! {
            read = self.read(heard, next, reader, receipts) => read,
            waited = await_commits(waiting, acks, knows_lease) => waited,
            written = self.write(news, keys, writer) => written,
            beaten = beating => beaten,
            () = replaced.cancelled() => Err(Broken::Replaced),
            () = revoked.cancelled() => Err(Broken::Revoked),
        }
    }

    /// Takes what the relay says.
    async fn read(
        &self,
        heard: Heard<'_>,
        next: Frame,
        mut reader: Reader,
        receipts: mpsc::Sender<(Life, Receipt)>,
    ) -> Result<(), Broken> {
        let Heard { source, stay, knows_lease } = heard;
        let term = self.plane.sequencer.term();
        let mut intake = Intake::new(self.plane, source, knows_lease, receipts);
        let mut next = Some(next);
        loop {
            let frame = match next.take() {
                Some(frame) => frame,
                None => tokio::select! {
                    frame = reader.frame() => frame?,
                    behind = intake.until_behind() => return Err(behind),
                },
            };
            match (frame.channel, ToControl::read(&frame)) {
                (Channel::Other(_), _) | (_, Err(_) | Ok(ToControl::Unknown)) => {
                    self.plane.metrics.link_unknown.inc();
                    tracing::debug!(channel = ?frame.channel, "a frame of a relay is skipped");
                }
                // Once is enough, a second one changes nothing; and a beat has a stream of its own,
                // on which it is not late.
                (_, Ok(ToControl::Hello(_) | ToControl::Beat(_) | ToControl::Enrol { .. })) => {
                    self.plane.metrics.link_unknown.inc();
                }
                (_, Ok(ToControl::Load(load))) => stay.set_load(load),
                (_, Ok(ToControl::Prepared { call, generation })) => {
                    self.plane.moves.prepared(&call, generation);
                }
                (_, Ok(ToControl::Ephemeral { events })) if events.len() > EPHEMERAL_EVENTS_MAX => {
                    return Err(Broken::TooMany);
                }
                // Shown at once and by every instance: nobody keeps it.
                (_, Ok(ToControl::Ephemeral { events })) => {
                    self.plane.standby.hear_decided(stay.node(), &events);
                    self.plane.hub.pass(&events);
                }
                (_, Ok(ToControl::Events { events } | ToControl::Spooled { events, .. }))
                    if events.len() > BATCH_EVENTS_MAX =>
                {
                    return Err(Broken::TooMany);
                }
                (_, Ok(ToControl::Events { events })) => {
                    // Whoever numbers events moves calls.
                    if !knows_lease || term.borrow().is_some() {
                        self.hear_moves(&events);
                    }
                    intake.take(stay, events).await?;
                }
                (_, Ok(ToControl::Spooled { epoch, events })) => {
                    intake.take_spooled(epoch, events).await?;
                }
            }
        }
    }

    /// Notes how moves of calls go on.
    fn hear_moves(&self, events: &[NodeEvent]) {
        for event in events {
            let Some(call) = &event.call else { continue };
            let Some(outcome) = self.plane.moves.hear(call, &event.event) else { continue };
            let moving = match outcome {
                Outcome::Moved => Moving::Moved,
                Outcome::Forced => Moving::Forced,
                Outcome::Ended => Moving::Ended,
            };
            self.plane.metrics.moving(moving, 1);
            tracing::debug!(call = %call.id, ?outcome, "a move is over");
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
        let News { mut orders, mut committed, mut spooled, mut term } = news;
        loop {
            // None waits behind another for long: all are small frames.
            let message = tokio::select! {
                changed = committed.changed() => {
                    changed.map_err(|_| Broken::Closed)?;
                    ToRelay::Ack { through: *committed.borrow_and_update() }
                }
                changed = spooled.changed() => {
                    changed.map_err(|_| Broken::Closed)?;
                    let (epoch, through) = *spooled.borrow_and_update();
                    ToRelay::SpoolAck { epoch, through }
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

/// What a relay has shown in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// A certificate of its node.
    Certificate,
    /// Nothing that counts.
    Nothing,
}

/// What the certificate is known by that the relay has shown; it is one of ours, or the handshake had
/// failed.
fn shown(connection: &quinn::Connection) -> Option<String> {
    let shown = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    shown.first().map(fingerprint)
}

/// A node's place in the fleet, while its connection lasts.
struct Place<'a> {
    source: Source,
    stay: Stay,
    orders: mpsc::Receiver<Order>,
    keys: KeyChanges,
    /// Where both sides beat; `None` for a relay that does not.
    beats: Option<&'a quinn::Connection>,
    /// Whether the relay asks who takes events; an older one tells everybody.
    knows_lease: bool,
}

/// Whom the reading loop hears.
struct Heard<'a> {
    source: Source,
    stay: &'a Stay,
    knows_lease: bool,
}

/// What the writing loop tells.
struct News {
    orders: mpsc::Receiver<Order>,
    committed: watch::Receiver<EventNumber>,
    spooled: watch::Receiver<(Epoch, EventNumber)>,
    /// `None` for a relay that does not ask.
    term: Option<watch::Receiver<Option<u64>>>,
}

/// Whose events a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Those of the process that is connected.
    This,
    /// Those that a process before it left on file. One life is told at a time.
    Earlier(Epoch),
}

/// Where it is told what is committed.
struct Acks {
    own: watch::Sender<EventNumber>,
    spooled: watch::Sender<(Epoch, EventNumber)>,
}

/// Waits for the commits in the order of the batches. A batch that does not follow what was
/// committed ends the connection: the next one begins with what is missing. One that another
/// instance is to be told does not, unless the relay knows no other; nor does one of an earlier life,
/// whose relay has nothing else: it is told what is committed, and sees that it will never fit.
async fn await_commits(
    mut waiting: mpsc::Receiver<(Life, Receipt)>,
    acks: Acks,
    knows_lease: bool,
) -> Result<(), Broken> {
    while let Some((life, receipt)) = waiting.recv().await {
        match (life, receipt.await) {
            (Life::This, Err(Refused::NotHolder)) if knows_lease => {}
            (Life::This, committed) => {
                acks.own.send_replace(committed?);
            }
            (Life::Earlier(_), Err(Refused::NotHolder)) => {}
            (Life::Earlier(epoch), Err(Refused::Gap(gap))) => {
                let through = EventNumber(gap.expected.0.saturating_sub(1));
                acks.spooled.send_replace((epoch, through));
            }
            (Life::Earlier(epoch), committed) => {
                acks.spooled.send_replace((epoch, committed?));
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

/// How long the database may take to say what a relay has told: far less than the relay waits.
const MARK_WITHIN: Duration = Duration::from_secs(1);

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
