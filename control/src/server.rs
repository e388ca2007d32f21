//! The process from its settings to its end, in order: store, sequencer, link, HTTP, admin; and
//! backwards when it stops, so that what relays have sent is committed before the database closes.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::access::crowd::Crowd;
use crate::access::key::KeyId;
use crate::access::known::KnownKeys;
use crate::access::rates::Rates;
use crate::access::tenants::Tenants;
use crate::api::compat::Compat;
use crate::api::compat::search::Search;
use crate::config::{Config, Door};
use crate::dialer::{queue, waiting::Dialler};
use crate::directory::Directory;
use crate::fleet::authority::Authority;
use crate::fleet::link::Link;
use crate::fleet::mover;
use crate::fleet::moves::Moves;
use crate::fleet::nodes::Nodes;
use crate::fleet::openings::Openings;
use crate::http::serve::{raise_files_limit, serve};
use crate::hub::Hub;
use crate::keys::SealingKey;
use crate::metrics::Metrics;
use crate::plane::Plane;
use crate::sequencer::{Settings, sequencer};
use crate::standby::{self, Standby};
use crate::store::Store;
use crate::store::agents::Changed;
use crate::store::call::Number;
use crate::store::numbers::Route;
use crate::tokens::Tokens;
use crate::twilio::rescue;
use crate::twilio::rest::Rest;
use crate::webhooks::Post;
use crate::{access, admin, clock, http, plane};

/// Where the process listens.
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    /// Webhooks and the API.
    pub http: SocketAddr,
    /// Probes and metrics.
    pub admin: SocketAddr,
    /// The link, UDP.
    pub link: SocketAddr,
}

/// Runs the control plane until SIGTERM or SIGINT. `announce` is called once, when everything
/// listens.
///
/// # Errors
/// What keeps it from starting.
pub async fn run(config: Config, announce: impl FnOnce(Listening)) -> anyhow::Result<()> {
    // First of all: it changes the environment, and there are no threads yet.
    let passed_on = passed_on()?;
    raise_files_limit();
    let stop = CancellationToken::new();
    let signals = stop_on_signal(stop.clone())?;
    let work = async {
        let started = tokio::select! {
            started = start(config, passed_on, &stop) => started?,
            // A database that does not answer must not keep the process from stopping.
            () = stop.cancelled() => return Ok(()),
        };
        announce(started.listening);
        tell_systemd(&[NotifyState::Ready]);
        started.serve().await;
        Ok(())
    };
    tokio::select! {
        done = work => done,
        never = signals => match never {},
        never = watchdog() => match never {},
    }
}

/// A control plane that listens.
struct Started {
    listening: Listening,
    plane: Arc<Plane>,
    public: TcpListener,
    probes: TcpListener,
    link: Link,
    numbering: BoxFuture<'static, ()>,
    numbering_stop: CancellationToken,
}

/// Opens, binds and puts together, in the order in which one needs the other. When it returns,
/// every address is taken: whoever connects waits in a queue and is not refused.
async fn start(
    config: Config,
    passed_on: Option<TcpListener>,
    stop: &CancellationToken,
) -> anyhow::Result<Started> {
    // Migrated before anything listens: a request never meets the tables of another version.
    let store = open_store(&config.door).await?;
    let authority = Arc::new(Authority::load(&store).await?);
    let tokens = Tokens::load(&store, clock::wall()).await?;
    let keys = KnownKeys::load(store.clone()).await?;
    let tenants = Tenants::load(store.clone()).await?.with_pages(config.pages);
    let search = config.places.map(Search::new).transpose();
    let search = search.context("the service that looks businesses up cannot be used")?;
    let compat = Compat::load(&store, config.compat_origins, search).await?;
    if let Some(from) = &config.from {
        first_number(&store, from).await?;
    }
    let directory = Directory::load(config.agents, config.provider_keys, &store).await?;
    let numbering_stop = CancellationToken::new();
    let (hub, nodes) = (Hub::new(), Nodes::in_regions(config.regions));
    // Before the first relay is there: one of no weight must not get a call meanwhile.
    nodes.weigh(&store).await?;
    let settings = Settings { keep_days: config.keep_days, ..Settings::default() };
    let (sequencer, numbering) =
        sequencer(store.clone(), hub.clone(), settings, numbering_stop.clone());
    // All addresses before the join token is written: whoever finds the file may dial at once.
    let link = Link::bind(config.door.link_listen, Arc::clone(&authority))?;
    let public = or_listen(passed_on, config.listen).await?;
    let probes = listen(config.admin_listen).await?;
    let listening = Listening {
        http: public.local_addr()?,
        admin: probes.local_addr()?,
        link: link.local_addr()?,
    };
    if let Some(path) = &config.join_token_file {
        let token = authority.join_token(&config.door.address(listening.link)).to_line();
        write_private(path, token.reveal())
            .with_context(|| format!("the join token cannot be written to {}", path.display()))?;
    }
    let post = Post::new(config.webhooks_allow).context("webhooks cannot be told")?;
    let plane = Arc::new(Plane {
        metrics: Metrics::new(nodes.clone(), sequencer.clone(), hub.clone()),
        store,
        sequencer,
        hub,
        nodes,
        standby: Standby::default(),
        openings: Openings::new(config.survival.openings_per_second),
        survival: config.survival,
        moves: Moves::new(config.moving),
        directory,
        tokens,
        auth_tokens: config.carrier.auth_tokens.clone(),
        carrier: Rest::new(config.carrier).context("the carrier's API cannot be used")?,
        post: post.clone(),
        public: config.public,
        rules: config.rules,
        dialler: Dialler::default(),
        operators: config.operators,
        keys,
        tenants,
        crowd: Crowd::default(),
        rates: Rates::default(),
        proxies: config.proxies,
        from: config.from,
        carrier_voice: config.carrier_voice,
        compat,
        shutdown: stop.clone(),
    });
    // Boxed, since the future's type cannot be written into a struct.
    // Told for as long as events are numbered.
    let telling =
        post.deliver(plane.store.clone(), plane.sequencer.state(), numbering_stop.clone());
    let numbering = Box::pin(async move {
        tokio::join!(numbering, telling);
    });
    Ok(Started { listening, plane, public, probes, link, numbering, numbering_stop })
}

/// The number of the settings is one like those that were made with the API, so that it is listed
/// and a share of its calls can go to an old backend. Once it is there, it stays as it is.
async fn first_number(store: &Store, from: &Number) -> anyhow::Result<()> {
    let actor = KeyId::new(SETTINGS_KEY).context("the word is no id")?;
    let wish = (from.clone(), Route { agent: None, legacy: None });
    match store.create_number(&plane::tenant(), wish, None, &actor, clock::wall()).await? {
        Changed::InUse => {
            tracing::warn!("another tenant has the number of CONTROL_FROM_NUMBER and its calls");
        }
        Changed::TooMany => {
            tracing::warn!("the number of CONTROL_FROM_NUMBER is one too many; it is not listed");
        }
        Changed::Done(_) | Changed::Exists | Changed::Absent | Changed::Stale(_) => {}
    }
    Ok(())
}

/// Who has made the first number, in the audit log.
const SETTINGS_KEY: &str = "settings";

impl Started {
    /// Serves until the plane stops, then ends one after the other: requests, relays, numbers,
    /// probes, the database.
    async fn serve(self) {
        let Self { plane, public, probes, link, numbering, numbering_stop, .. } = self;
        let (link_stop, admin_stop) = (CancellationToken::new(), CancellationToken::new());
        // Each stage stops the next one when it is done: no event is taken in that could not be
        // numbered, and no number is given that could not be stored.
        let requests = async {
            serve(public, http::routes(&plane), plane.shutdown.clone()).await;
            link_stop.cancel();
        };
        let relays = async {
            link.serve(Arc::clone(&plane), link_stop.clone()).await;
            numbering_stop.cancel();
        };
        let numbers = async {
            numbering.await;
            admin_stop.cancel();
        };
        let probed = serve(probes, admin::routes(&plane), admin_stop.clone());
        let dialling = queue::run(Arc::clone(&plane));
        let moving = mover::run(Arc::clone(&plane));
        let fresh = access::keep_fresh(&plane);
        let followed = plane.directory.follow(&plane.store, &plane.nodes, plane.shutdown.clone());
        let survival = async { tokio::join!(standby::keep_up(&plane), rescue::keep_watch(&plane)) };
        tokio::join!(
            requests, relays, numbers, probed, dialling, moving, fresh, followed, survival
        );
        // Last of all: everything above may still have written.
        plane.store.close().await;
    }
}

/// The line that lets relays join.
///
/// # Errors
/// When the store cannot be opened.
pub async fn join_token(door: &Door) -> anyhow::Result<link::secret::Secret> {
    let store = open_store(door).await?;
    let authority = Authority::load(&store).await?;
    store.close().await;
    Ok(authority.join_token(&door.address(door.link_listen)).to_line())
}

/// Opens the database and what seals its secrets.
pub(crate) async fn open_store(door: &Door) -> anyhow::Result<Store> {
    make_private_dir(&door.data_dir)
        .with_context(|| format!("the folder {} is of no use", door.data_dir.display()))?;
    let sealing = match &door.sealing_key {
        Some(key) => key.clone(),
        None => SealingKey::load_or_create(&door.data_dir.join("secret.key"))?,
    };
    let store = Store::open(door.database_url.reveal(), sealing).await;
    store.map_err(|error| anyhow::anyhow!(error.explain()))
}

/// Makes the folder for its owner alone; one that is open to others is closed.
fn make_private_dir(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mut permissions = path.metadata()?.permissions();
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(0o700);
        std::fs::set_permissions(path, permissions)?;
    }
    Ok(())
}

/// Writes beside and renames, so that whoever waits for the file never reads half of it.
fn write_private(path: &Path, line: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // A rest of a process that was killed; `create_new` would stumble over it.
    match std::fs::remove_file(beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    file.write_all(line.as_bytes())?;
    file.write_all(b"\n")?;
    // Before the rename, or a power cut could leave an empty file under the final name.
    file.sync_all()?;
    std::fs::rename(beside, path)
}

/// The port of webhooks and the API when a service manager holds it (socket activation): connections
/// wait there while the process is started again, and nobody is refused.
fn passed_on() -> anyhow::Result<Option<TcpListener>> {
    let mut sockets = ListenFd::from_env();
    if sockets.len() > 1 {
        tracing::warn!(sockets = sockets.len(), "of the sockets passed on only the first is used");
    }
    let taken = sockets.take_tcp_listener(0).and_then(|socket| {
        let Some(socket) = socket else { return Ok(None) };
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket).map(Some)
    });
    taken.context("the socket that was passed on is no TCP socket")
}

/// What was passed on, or else an address.
async fn or_listen(
    passed_on: Option<TcpListener>,
    address: SocketAddr,
) -> anyhow::Result<TcpListener> {
    match passed_on {
        Some(listener) => Ok(listener),
        None => listen(address).await,
    }
}

/// Takes an address, and names it when it cannot.
async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("TCP {address} cannot be listened on"))
}

/// Cancels `stop` at the first signal, and runs for ever.
fn stop_on_signal(stop: CancellationToken) -> std::io::Result<impl Future<Output = Infallible>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        tell_systemd(&[NotifyState::Stopping]);
        stop.cancel();
        std::future::pending().await
    })
}

/// Tells systemd that this loop turns, for ever; at half of the time it allows.
async fn watchdog() -> Infallible {
    // Without a watchdog nobody listens; this future must still never end.
    let Some(allowed) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(allowed / 2);
    loop {
        ticks.tick().await;
        tell_systemd(&[NotifyState::Watchdog]);
    }
}

/// Says something to systemd; without one (a shell, a container) says nothing.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd does not listen");
    }
}
