//! One connection to control: from its dialling to its break.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use link::frame::{Channel, Decoder, Frame, FrameError};
use link::message::{ALPN, Hello, Load, SERVER_NAME, ToControl, ToRelay, VERSION};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream};
use quinn::{TokioRuntime, TransportConfig};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use socket2::{Domain, Socket, Type};
use tokio::time::timeout;

use super::{Link, Phase};
use crate::call::moment::Moment;
use crate::config::Joined;
use crate::kernel;
use crate::metrics::labels::Attempt;

/// Why a connection ended, or never was.
pub(super) enum Broken {
    /// The process stops.
    Stopped,
    /// Control said no, and what to do.
    Refused(String),
    /// Anything else.
    Failed(Box<dyn Error>),
}

impl<E: Error + 'static> From<E> for Broken {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// What can go wrong with the link that no library has an error for.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the name in the join token has no address")]
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
/// Silence after which a connection is given up. Measured with a black hole: 1.8 s both ways,
/// 3.2 s one way; with quinn's defaults half a minute (2026-11-20).
const IDLE_MAX: Duration = Duration::from_millis(1_500);
/// How often silence is broken.
const KEEP_ALIVE: Duration = Duration::from_millis(300);
/// How often the load is told without a change.
const LOAD_EVERY: Duration = Duration::from_secs(1);
/// How long a change of the load waits for others, so that a herd of calls is one message.
const LOAD_GATHER: Duration = Duration::from_millis(20);
/// Addresses of control's name that are tried.
const ADDRESSES_MAX: usize = 3;
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

/// Connects to control, and says nothing yet.
pub(super) async fn reach(joined: &Joined) -> Result<(Endpoint, Connection), Broken> {
    let config = quic_config(joined.tls.clone()).map_err(Broken::Failed)?;
    let mut failure = Broken::from(LinkError::NoAddress);
    // Looked up at each try: control's address may change with every start of it.
    let addresses = tokio::net::lookup_host(&joined.token.address).await?;
    for address in addresses.take(ADDRESSES_MAX) {
        let from: SocketAddr = match address {
            SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let endpoint = endpoint(from)?;
        let connecting = endpoint.connect_with(config.clone(), address, SERVER_NAME)?;
        match timeout(CONNECT_WITHIN, connecting).await {
            Ok(Ok(connection)) => return Ok((endpoint, connection)),
            Ok(Err(error)) => failure = error.into(),
            Err(_) => failure = LinkError::Silent.into(),
        }
    }
    Err(failure)
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
    /// One connection, as long as it lasts.
    pub(super) async fn connect_and_serve(&self) -> Broken {
        let connected = tokio::select! {
            connected = self.connect() => connected,
            () = self.stop.cancelled() => return Broken::Stopped,
        };
        let (endpoint, connection) = match connected {
            Ok(connected) => connected,
            Err(broken) => return broken,
        };
        let broken = tokio::select! {
            Err(broken) = self.serve(&connection) => broken,
            () = self.stop.cancelled() => Broken::Stopped,
        };
        connection.close(0_u32.into(), b"");
        // Gives the close a chance to leave; without it control would wait for the time-out.
        let _ = timeout(KEEP_ALIVE, endpoint.wait_idle()).await;
        broken
    }

    async fn connect(&self) -> Result<(Endpoint, Connection), Broken> {
        reach(&self.joined).await
    }

    async fn serve(&self, connection: &Connection) -> Result<(), Broken> {
        let (mut sender, receiver) = connection.open_bi().await?;
        let mut reader =
            Reader { receiver, decoder: Decoder::default(), bytes: vec![0; READ_BYTES] };
        send(&mut sender, &self.hello()).await?;
        let welcome = timeout(WELCOME_WITHIN, reader.frame()).await;
        self.welcomed(&welcome.map_err(|_| LinkError::Silent)??)?;
        tokio::select! {
            read = self.read(&mut reader) => read,
            written = self.write(&mut sender) => written,
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
        })
    }

    fn welcomed(&self, frame: &Frame) -> Result<(), Broken> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is not an answer")]
        match ToRelay::read(frame)? {
            ToRelay::Welcome { version, .. } if version.major != VERSION.major => {
                let (theirs, ours) = (version.major, VERSION.major);
                let words =
                    format!("control speaks version {theirs} of the link, this relay {ours}");
                Err(Broken::Refused(words))
            }
            ToRelay::Welcome { acked, .. } => {
                self.committed(acked);
                self.ring.borrow_mut().rewind();
                self.around.counters.link_attempts.of(Attempt::Welcome).one();
                self.show(Phase::Up);
                tracing::info!("the link is up");
                Ok(())
            }
            ToRelay::Refused { why } => Err(Broken::Refused(why)),
            _ => Err(LinkError::NoWelcome.into()),
        }
    }

    async fn read(&self, reader: &mut Reader) -> Result<(), Broken> {
        loop {
            let frame = reader.frame().await?;
            match (frame.channel, ToRelay::read(&frame)) {
                (Channel::Other(_), _) | (_, Err(_)) => {
                    self.around.counters.link_unknown.one();
                    tracing::debug!(channel = ?frame.channel, "a frame of control is skipped");
                }
                (_, Ok(message)) => self.hear(message)?,
            }
        }
    }

    /// Sends events when there are some, and the load when it changes and each second.
    async fn write(&self, sender: &mut SendStream) -> Result<(), Broken> {
        let clock = self.around.clock;
        let mut occupancy = self.around.gate.watch();
        let mut load_due = Moment::default();
        loop {
            self.write_events(sender).await?;
            let soon = clock.now() + LOAD_GATHER;
            tokio::select! {
                () = self.unsent.notified() => {}
                changed = occupancy.changed(), if load_due > soon => {
                    changed?;
                    load_due = soon;
                }
                () = tokio::time::sleep_until(clock.instant(load_due)) => {
                    occupancy.mark_unchanged();
                    send(sender, &self.load()).await?;
                    load_due = clock.now() + LOAD_EVERY;
                }
            }
        }
    }

    async fn write_events(&self, sender: &mut SendStream) -> Result<(), Broken> {
        loop {
            let events = self.ring.borrow_mut().batch();
            if events.is_empty() {
                return Ok(());
            }
            send(sender, &ToControl::Events { events }).await?;
        }
    }

    fn load(&self) -> ToControl {
        let occupancy = self.around.gate.occupancy();
        ToControl::Load(Load {
            calls: occupancy.calls,
            calls_max: self.around.gate.calls_max(),
            ready: occupancy.takes_calls(),
        })
    }
}

async fn send(sender: &mut SendStream, message: &ToControl) -> Result<(), Broken> {
    let mut bytes = Vec::new();
    message.write(&mut bytes)?;
    sender.write_all(&bytes).await?;
    Ok(())
}

/// Frames off the stream.
struct Reader {
    receiver: RecvStream,
    decoder: Decoder,
    bytes: Vec<u8>,
}

impl Reader {
    async fn frame(&mut self) -> Result<Frame, Broken> {
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
