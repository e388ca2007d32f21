//! One line to one control: from its dialling to its break.

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use link::frame::{Channel, Decoder, Frame, FrameError};
use link::message::{
    ALPN, BATCH_EVENTS_MAX, BEAT_SINCE, EPHEMERAL_SINCE, Hello, LEASE_SINCE, Load, MOVES_SINCE,
    SERVER_NAME, SPOOL_SINCE, ToControl, ToRelay, VERSION,
};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig};
use quinn::{RecvStream, SendStream, TokioRuntime, TransportConfig, TransportErrorCode};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use socket2::{Domain, Socket, Type};
use tokio::time::timeout;

use super::Link;
use super::lines::LineId;
use super::passing::{Batch, Place};
use super::passport::Shows;
use crate::call::moment::Moment;
use crate::clock;
use crate::config::Joined;
use crate::gate::Door;
use crate::kernel;
use crate::metrics::labels::Attempt;

/// Why a connection ended, or never was.
pub(super) enum Broken {
    /// The process stops.
    Stopped,
    /// Control said no, and what to do.
    Refused(String),
    /// This control is reached already.
    Twin,
    /// Anything else.
    Failed(Box<dyn Error>),
}

/// How a line ended.
pub(super) struct Ended {
    /// Whether control had let us in.
    pub(super) was_up: bool,
    /// Why it ended.
    pub(super) broken: Broken,
}

/// A line that is up; dropped, it is over.
struct Line<'a> {
    link: &'a Link,
    id: LineId,
    /// Where it begins with what is told for the moment; `None` when its control is too old for it.
    seen: Option<Place>,
    /// Whether both sides beat.
    beats: bool,
    /// Whether its control takes events of earlier lives; an older one would skip them.
    takes_spooled: bool,
    /// Whether its control moves calls, and waits for the word that a session is ready.
    moves_calls: bool,
}

/// What a line is told beside events.
struct Beside {
    /// See [`Line::seen`].
    seen: Option<Place>,
    /// See [`Line::takes_spooled`].
    takes_spooled: bool,
    /// See [`Line::moves_calls`].
    moves_calls: bool,
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.link.lines.borrow_mut().end(self.id);
        self.link.choose_taker();
        self.link.show_lines();
    }
}

impl<E: Error + 'static> From<E> for Broken {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// What can go wrong with the link that no library has an error for.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the names in the join token have no address")]
    NoAddress,
    #[error("control did not answer in time")]
    Silent,
    #[error("control closed the stream")]
    Closed,
    #[error("control began with something else than a welcome")]
    NoWelcome,
}

/// From dialling to the QUIC handshake, for each address.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// From the hello to the welcome.
const WELCOME_WITHIN: Duration = Duration::from_secs(5);
/// Silence after which a connection is given up. Beats ([`link::beat`]) find a loss long before; a
/// control that does not beat asks for 1.5 s, and the smaller of both counts.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// How often silence is broken.
const KEEP_ALIVE: Duration = Duration::from_millis(300);
/// How often the load is told without a change.
const LOAD_EVERY: Duration = Duration::from_secs(1);
/// How long a change of the load waits for others, so that a herd of calls is one message.
const LOAD_GATHER: Duration = Duration::from_millis(20);
/// The TLS alert of a side that speaks none of the protocols that are offered (RFC 7301, 3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;
/// Controls that are linked to. More than a few share no database.
const ADDRESSES_MAX: usize = 16;
/// What is read at once.
const READ_BYTES: usize = 64 * 1024;

/// Whom the link trusts: control's own CA and nobody else.
///
/// # Errors
/// When it is not a certificate.
pub fn trust(ca_der: &[u8]) -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca_der.to_vec()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

fn quic_config(tls: Arc<rustls::ClientConfig>) -> Result<ClientConfig, Box<dyn Error>> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(IDLE_MAX.try_into()?)).keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Where controls are, by what their names say at this moment.
///
/// # Errors
/// When no name has an address.
pub(super) async fn addresses(joined: &Joined) -> io::Result<BTreeSet<SocketAddr>> {
    let mut found = BTreeSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, LinkError::NoAddress);
    for name in joined.token.addresses() {
        match tokio::net::lookup_host(name).await {
            Ok(addresses) => found.extend(addresses),
            Err(error) => failure = error,
        }
    }
    if found.is_empty() {
        return Err(failure);
    }
    Ok(found.into_iter().take(ADDRESSES_MAX).collect())
}

/// Connects to whichever control answers first, and says nothing yet.
pub(super) async fn reach_any(joined: &Joined) -> Result<(Endpoint, Connection), Broken> {
    let mut failure = Broken::from(LinkError::NoAddress);
    for address in addresses(joined).await? {
        match reach(&joined.tls, address).await {
            Ok(reached) => return Ok(reached),
            Err(broken) => failure = broken,
        }
    }
    Err(failure)
}

/// Connects to the control at an address, and says nothing yet.
async fn reach(
    tls: &Arc<rustls::ClientConfig>,
    address: SocketAddr,
) -> Result<(Endpoint, Connection), Broken> {
    let config = quic_config(tls.clone()).map_err(Broken::Failed)?;
    let from: SocketAddr = match address {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = endpoint(from)?;
    let connecting = endpoint.connect_with(config, address, SERVER_NAME)?;
    let connected = timeout(CONNECT_WITHIN, connecting).await;
    match connected.map_err(|_| LinkError::Silent)? {
        Ok(connection) => Ok((endpoint, connection)),
        Err(error) if has_no_protocol(&error) => {
            let words = "control speaks another major version of the link; run the same release of \
                relay and control";
            Err(Broken::Refused(words.to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether control has broken the handshake off because it speaks none of our protocols.
fn has_no_protocol(error: &ConnectionError) -> bool {
    let ConnectionError::ConnectionClosed(close) = error else { return false };
    close.error_code == TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL)
}

/// A socket of this side, with room for a burst. What the system gives less of is told at start.
fn endpoint(from: SocketAddr) -> io::Result<Endpoint> {
    let socket = Socket::new(Domain::for_address(from), Type::DGRAM, None)?;
    let bytes = usize::try_from(kernel::LINK_BUFFER_BYTES).unwrap_or(usize::MAX);
    socket.set_recv_buffer_size(bytes)?;
    socket.set_send_buffer_size(bytes)?;
    socket.bind(&from.into())?;
    Endpoint::new(EndpointConfig::default(), None, socket.into(), Arc::new(TokioRuntime))
}

impl Link {
    /// One line, as long as it lasts.
    pub(super) async fn connect_and_serve(&self, address: SocketAddr) -> Ended {
        let (tls, shows) = self.passport.borrow().dressed(&self.joined.tls, clock::wall());
        let connected = tokio::select! {
            connected = reach(&tls, address) => connected,
            () = self.stop.cancelled() => Err(Broken::Stopped),
        };
        let (endpoint, connection) = match connected {
            Ok(connected) => connected,
            Err(broken) => return Ended { was_up: false, broken },
        };
        let mut line = None;
        let broken = tokio::select! {
            Err(broken) = self.serve(&connection, &mut line) => broken,
            () = self.stop.cancelled() => Broken::Stopped,
        };
        let was_up = line.is_some();
        // A handshake that control breaks off looks like any other break behind it.
        if shows == Shows::Certificate && !was_up && matches!(broken, Broken::Failed(_)) {
            self.passport.borrow_mut().forget();
        }
        if !matches!(broken, Broken::Stopped) {
            // Another control may take over at once.
            line = None;
        }
        connection.close(0_u32.into(), b"");
        // Gives the close a chance to leave; without it control would wait for the time-out.
        let _ = timeout(KEEP_ALIVE, endpoint.wait_idle()).await;
        // The process ends when no line is up any more.
        drop(line);
        Ended { was_up, broken }
    }

    /// Serves a connection. The line stands in `line` once control has let us in.
    async fn serve<'a>(
        &'a self,
        connection: &Connection,
        line: &mut Option<Line<'a>>,
    ) -> Result<(), Broken> {
        let (mut sender, receiver) = connection.open_bi().await?;
        let mut reader = Reader::new(receiver);
        send(&mut sender, &self.hello()).await?;
        let welcome = timeout(WELCOME_WITHIN, reader.frame()).await;
        let up = line.insert(self.welcomed(&welcome.map_err(|_| LinkError::Silent)??)?);
        let Line { id, seen, beats, takes_spooled, moves_calls, .. } = *up;
        let beside = Beside { seen, takes_spooled, moves_calls };
        let beating = async {
            match beats {
                true => self.beat(connection).await,
                // One that does not beat is not judged by it either.
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            read = self.read(id, &mut reader) => read,
            written = self.write(id, beside, &mut sender) => written,
            beaten = beating => beaten,
        }
    }

    fn hello(&self) -> ToControl {
        ToControl::Hello(Hello {
            version: VERSION,
            secret: self.joined.token.secret.clone(),
            node: self.around.identity.node.clone(),
            epoch: self.around.epoch,
            public_url: self.joined.public_url.clone(),
            software: concat!("linecard-relay ", env!("CARGO_PKG_VERSION")).into(),
            region: self.joined.region.clone(),
        })
    }

    fn welcomed(&self, frame: &Frame) -> Result<Line<'_>, Broken> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is not an answer")]
        match ToRelay::read(frame)? {
            ToRelay::Welcome { acked, control, version } => {
                let Some(minor) = VERSION.agreed(version) else {
                    let (theirs, ours) = (version.major, VERSION.major);
                    let words =
                        format!("control speaks version {theirs} of the link, this relay {ours}");
                    return Err(Broken::Refused(words));
                };
                // An older one is the only one, and takes events without a word.
                let term = (minor < LEASE_SINCE).then_some(0);
                let begun = self.lines.borrow_mut().begin(control, term);
                let seen = self.passing.borrow().end();
                let seen = (minor >= EPHEMERAL_SINCE).then_some(seen);
                let (id, beats) = (begun.map_err(|_| Broken::Twin)?, minor >= BEAT_SINCE);
                let (takes_spooled, moves_calls) = (minor >= SPOOL_SINCE, minor >= MOVES_SINCE);
                let line = Line { link: self, id, seen, beats, takes_spooled, moves_calls };
                self.committed(acked);
                self.choose_taker();
                self.around.counters.link_attempts.of(Attempt::Welcome).one();
                self.show_lines();
                tracing::info!("the link is up");
                Ok(line)
            }
            ToRelay::Refused { why } => Err(Broken::Refused(why)),
            _ => Err(LinkError::NoWelcome.into()),
        }
    }

    async fn read(&self, line: LineId, reader: &mut Reader) -> Result<(), Broken> {
        loop {
            let frame = reader.frame().await?;
            match (frame.channel, ToRelay::read(&frame)) {
                (Channel::Other(_), _) | (_, Err(_)) => {
                    self.around.counters.link_unknown.one();
                    tracing::debug!(channel = ?frame.channel, "a frame of control is skipped");
                }
                (_, Ok(message)) => self.hear(line, message)?,
            }
        }
    }

    /// Sends events when there are some and this control takes them, what is told for the moment, that a
    /// session is ready, and the load when it changes and each second.
    async fn write(
        &self,
        line: LineId,
        beside: Beside,
        sender: &mut SendStream,
    ) -> Result<(), Broken> {
        let Beside { mut seen, takes_spooled, moves_calls } = beside;
        let mut prepared = self.around.gate.watch_prepared();
        let clock = self.around.clock;
        let mut news = self.news.subscribe();
        let mut occupancy = self.around.gate.watch();
        // With its first word a node takes its place. One that takes no calls only because it has not
        // been told everything would be taken for a full one, and callers would be refused.
        occupancy.wait_for(|now| now.door != Door::NotYetOpen).await?;
        let mut load_due = Moment::default();
        loop {
            // Words before the turn that has them all.
            if let Some(seen) = &mut seen {
                self.write_passing(line, seen, sender).await?;
            }
            self.write_events(line, sender).await?;
            if takes_spooled {
                self.write_spooled(line, sender).await?;
            }
            let soon = clock.now() + LOAD_GATHER;
            tokio::select! {
                // The sender is ours.
                _ = news.changed() => {}
                ready = prepared.recv(), if moves_calls => {
                    // One that this line was too slow for is awaited by control's own clock.
                    if let Ok((call, generation)) = ready {
                        send(sender, &ToControl::Prepared { call, generation }).await?;
                    }
                }
                changed = occupancy.changed(), if load_due > soon => {
                    changed?;
                    load_due = soon;
                }
                () = tokio::time::sleep_until(clock.instant(load_due)) => {
                    occupancy.mark_unchanged();
                    send(sender, &ToControl::Load(self.load())).await?;
                    load_due = clock.now() + LOAD_EVERY;
                }
            }
        }
    }

    /// Sends what is told for the moment. Where more than a batch of events waits for this line, it is
    /// dropped: they go first.
    async fn write_passing(
        &self,
        line: LineId,
        seen: &mut Place,
        sender: &mut SendStream,
    ) -> Result<(), Broken> {
        loop {
            let is_behind =
                self.takes_events(line) && self.ring.borrow().unsent() > BATCH_EVENTS_MAX;
            if is_behind {
                let dropped = self.passing.borrow().skip(seen);
                self.around.counters.ephemeral_dropped.add(dropped);
                return Ok(());
            }
            let Batch { events, missed } = self.passing.borrow().batch(seen);
            self.around.counters.ephemeral_dropped.add(missed);
            if events.is_empty() {
                return Ok(());
            }
            send(sender, &ToControl::Ephemeral { events }).await?;
        }
    }

    /// Whether this line's control is the one that numbers events.
    pub(super) fn takes_events(&self, line: LineId) -> bool {
        self.taker.get().is_some_and(|(taker, _)| taker == line)
    }

    async fn write_events(&self, line: LineId, sender: &mut SendStream) -> Result<(), Broken> {
        // Asked before each batch: another control may have taken over while one was sent.
        while self.takes_events(line) {
            let events = self.ring.borrow_mut().batch();
            if events.is_empty() {
                break;
            }
            send(sender, &ToControl::Events { events }).await?;
        }
        Ok(())
    }

    /// Sends what an earlier life has left; what happens meanwhile goes first.
    async fn write_spooled(&self, line: LineId, sender: &mut SendStream) -> Result<(), Broken> {
        while self.takes_events(line) {
            let batch = self.replayed.borrow_mut().batch();
            let Some((epoch, events)) = batch else { break };
            send(sender, &ToControl::Spooled { epoch, events }).await?;
            self.write_events(line, sender).await?;
        }
        Ok(())
    }

    /// How the node is doing.
    pub(super) fn load(&self) -> Load {
        let (_, measured) = self.around.gate.usage();
        let occupancy = self.around.gate.occupancy();
        Load {
            calls: occupancy.calls,
            calls_max: self.around.gate.calls_max(),
            ready: occupancy.takes_calls(),
            draining: occupancy.is_draining(),
            late_us: u64::try_from(measured.lateness.as_micros()).ok(),
        }
    }
}

pub(super) async fn send(sender: &mut SendStream, message: &ToControl) -> Result<(), Broken> {
    let mut bytes = Vec::new();
    message.write(&mut bytes)?;
    sender.write_all(&bytes).await?;
    Ok(())
}

/// Frames off the stream.
pub(super) struct Reader {
    receiver: RecvStream,
    decoder: Decoder,
    bytes: Vec<u8>,
}

impl Reader {
    pub(super) fn new(receiver: RecvStream) -> Self {
        Self { receiver, decoder: Decoder::default(), bytes: vec![0; READ_BYTES] }
    }

    /// The next frame. Nothing is lost when nobody waits for it any more.
    pub(super) async fn frame(&mut self) -> Result<Frame, Broken> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(fatal)? {
                return Ok(frame);
            }
            let read = self.receiver.read(&mut self.bytes).await?;
            let read = read.ok_or(LinkError::Closed)?;
            self.decoder.push(&self.bytes[..read]);
        }
    }
}

fn fatal(error: FrameError) -> Broken {
    Broken::Failed(Box::new(error))
}
