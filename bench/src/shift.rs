//! A whole shard with one call: the relay's own runtime, sockets on loopback, everything between
//! them. Its far ends are plain sockets of this thread, so that nothing runs but what a
//! [`turn`](Shift::turn) of the runtime runs; its clock stands still, so that every run is the same.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use link::agent::AgentSpec;
use link::guard::Allowed;
use link::id::{CallId, Gen, NodeId, WallTime};
use link::ticket::{Bearer, Claims, KeySet, SigningKey};
use relay::admit::Identity;
use relay::call::input::Batch;
use relay::clock::{self, Clock};
use relay::front::Front;
use relay::gate::Gate;
use relay::gate::room::Bounds;
use relay::known::{Known, Signatures};
use relay::shard::{Accepted, Gauge, Post, Setup, Shard, TO_SHARD_MAX, ToShard, UplinkPace};
use relay::telemetry::{Noted, Outlet};
use relay::tls;
use relay::tools::Tools;
use relay::ws::Role;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, yield_now};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::line::STREAM;
use crate::wires::framed;

/// One call on one shard, both of whose far ends are here.
pub struct Shift {
    phone: TcpStream,
    model: TcpStream,
    heard: Vec<u8>,
    /// Since the agent's service last said something.
    silent: Duration,
    /// What the call tells the house; thrown away.
    events: mpsc::Receiver<Noted>,
    /// Keeps the shard going.
    _post: Post,
    // In this order: tasks hold sockets of the runtime.
    local: LocalSet,
    runtime: Runtime,
}

impl Shift {
    /// Lets one call in and brings its agent up. So much of what the caller says is sent at once.
    ///
    /// # Panics
    /// When loopback does not work, or the call does not come up.
    #[must_use]
    pub fn begin(uplink: Batch) -> Self {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime of one thread");
        let agents = TcpListener::bind("127.0.0.1:0").expect("loopback works");
        agents.set_nonblocking(true).expect("a socket that does not wait");
        let address = agents.local_addr().expect("it listens");
        let spec = format!(
            r#"{{"name":"bench","provider":{{"kind":"openai_realtime","url":"ws://{address}"}},"instructions":"Talk.","audio":"mulaw","limits":{{"silence_seconds_max":0}}}}"#
        );
        let spec: AgentSpec =
            serde_json::from_str(&spec).expect("the bench's agent is a whole one");
        let (house, events) = mpsc::channel(1_024);
        let (to_shard, inbox) = mpsc::channel(TO_SHARD_MAX);
        let post = Post::new(vec![to_shard]);
        let entered = runtime.enter();
        let (known, ticket) = known(&spec);
        let outlet = Outlet::new(0, Arc::default(), house, Clock::start());
        let setup = setup(known, outlet, post.clone(), uplink);
        drop(entered);
        let gauge = setup.gauge.clone();
        let local = LocalSet::new();
        serve(&local, Rc::new(Shard::new(setup)), inbox);
        let (phone, relays) = pair();
        let peer = phone.local_addr().expect("it is connected");
        let accepted = Accepted { tcp: relays, peer, place: gauge.place() };
        post.send(0, ToShard::Connection(accepted)).expect("the shard takes a connection");
        // Filled in once the relay has dialled.
        let (model, _) = pair();
        let mut shift = Self {
            phone,
            model,
            heard: Vec::new(),
            silent: Duration::ZERO,
            events,
            _post: post,
            local,
            runtime,
        };
        shift.come_up(&agents, &ticket);
        shift
    }

    /// The caller's stream says something, in one frame.
    pub fn caller_says(&mut self, text: &str) {
        self.phone.write_all(&framed(text, Role::Client)).expect("loopback takes a frame");
    }

    /// The agent's service says something, in one frame.
    pub fn agent_says(&mut self, text: &str) {
        self.model.write_all(&framed(text, Role::Server)).expect("loopback takes a frame");
    }

    /// Time goes on; whatever is due happens in the next turn.
    pub fn pass(&mut self, span: Duration) {
        self.silent += span;
        // A service that is silent for long is taken for dead.
        if self.silent > SILENT_MAX {
            self.silent = Duration::ZERO;
            self.agent_says(
                r#"{"type":"rate_limits.updated","event_id":"event_1","rate_limits":[]}"#,
            );
            self.turn();
        }
        let _entered = self.runtime.enter();
        // The first poll moves the clock; the second would only be the scheduler's.
        let advance = pin!(tokio::time::advance(span));
        let _ = advance.poll(&mut Context::from_waker(Waker::noop()));
        while self.events.try_recv().is_ok() {}
    }

    /// One turn of the runtime: its driver is asked what has happened, then every task that was
    /// woken runs.
    pub fn turn(&mut self) {
        self.local.block_on(&self.runtime, async {
            yield_now().await;
            yield_now().await;
        });
    }

    /// What the caller was told since the last time, frames and all.
    pub fn heard_by_caller(&mut self) -> &[u8] {
        drain(&mut self.phone, &mut self.heard);
        &self.heard
    }

    /// What the agent was told since the last time, masked.
    pub fn heard_by_agent(&mut self) -> &[u8] {
        drain(&mut self.model, &mut self.heard);
        &self.heard
    }

    fn come_up(&mut self, agents: &TcpListener, ticket: &str) {
        let upgrade = "GET /v1/m/bench HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        self.phone.write_all(upgrade.as_bytes()).expect("loopback takes a request");
        self.until("the upgrade", |shift| shift.heard_by_caller().ends_with(b"\r\n\r\n"));
        self.caller_says(&format!(
            r#"{{"event":"start","sequenceNumber":"1","start":{{"streamSid":"{STREAM}","callSid":"{CALL_SID}","customParameters":{{"ticket":"{ticket}"}},"mediaFormat":{{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}},"streamSid":"{STREAM}"}}"#
        ));
        self.until("the relay's dialling", |shift| match agents.accept() {
            Ok((model, _)) => {
                ready(&model);
                shift.model = model;
                true
            }
            Err(_) => false,
        });
        let mut request = Vec::new();
        self.until("the relay's upgrade", |shift| {
            request.extend_from_slice(shift.heard_by_agent());
            request.ends_with(b"\r\n\r\n")
        });
        let request = String::from_utf8(request).expect("a request is text");
        let key = request.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
        });
        let accept = derive_accept_key(key.expect("an upgrade has a key").as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.model.write_all(answer.as_bytes()).expect("loopback takes an answer");
        self.agent_says(r#"{"type":"session.created","event_id":"event_1","session":{}}"#);
        self.until("the session", |shift| !shift.heard_by_agent().is_empty());
        self.agent_says(
            r#"{"type":"session.updated","event_id":"event_1","session":{"audio":{"input":{"format":{"type":"audio/pcmu"},"turn_detection":{"type":"server_vad"}},"output":{"format":{"type":"audio/pcmu"}}}}}"#,
        );
        for _ in 0..5 {
            self.turn();
        }
        self.heard_by_agent();
    }

    /// Turns until something is there.
    fn until(&mut self, what: &str, mut is_there: impl FnMut(&mut Self) -> bool) {
        for _ in 0..10_000 {
            self.turn();
            if is_there(self) {
                return;
            }
        }
        panic!("{what} does not come");
    }
}

fn serve(local: &LocalSet, shard: Rc<Shard>, inbox: mpsc::Receiver<ToShard>) {
    drop(local.spawn_local(shard.serve(inbox)));
}

/// A node that knows one agent, and a ticket for it.
fn known(spec: &AgentSpec) -> (Known, String) {
    let key = SigningKey::generate("k1").expect("the system has randomness");
    let known = Known::nothing();
    known.set_keys(KeySet::new(&[key.verifying()]).expect("a key that was made is one"));
    known.set_signatures(Signatures::NotAsked);
    known.keep_agent(spec.clone()).expect("there is room for one");
    known.set_synced();
    let now = clock::wall();
    let claims = Claims {
        bearer: Bearer::Carrier { call_sid: CALL_SID.into() },
        call: CallId::new("c_bench").expect("a sound name"),
        tenant: spec.tenant.clone(),
        node: NodeId::new("bench").expect("a sound name"),
        generation: Gen(0),
        agent: spec.name.clone(),
        agent_version: spec.version,
        jti: "0123456789abcdef0123456789abcdef".into(),
        issued_at: now.seconds(),
        expires_at: now.seconds() + 60,
    };
    let ticket = key.issue(&claims).expect("the claims fit a ticket");
    (known, ticket)
}

fn setup(known: Known, outlet: Outlet, post: Post, uplink: Batch) -> Setup {
    let gate = Arc::new(Gate::new(1, Bounds::NONE));
    gate.open();
    let agent_tls = tls::client_config(None).expect("the system has roots");
    Setup {
        index: 0,
        clock: Clock::start(),
        identity: Identity {
            node: NodeId::new("bench").expect("a sound name"),
            started: WallTime(0),
        },
        known: Arc::new(known),
        gate,
        post,
        outlet,
        gauge: Arc::<Gauge>::default(),
        tls: None,
        front: Front::Plain,
        forward: None,
        agent_tls: agent_tls.clone(),
        tools: Tools::new(Allowed::default(), agent_tls),
        playout_lead: Duration::from_millis(400),
        uplink: UplinkPace::Always(uplink),
        spare_agents: 0,
        shards: 1,
    }
}

/// Two ends of one connection: the far one, and the relay's.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback works");
    let address = listener.local_addr().expect("it listens");
    let far = TcpStream::connect(address).expect("loopback works");
    let (near, _) = listener.accept().expect("loopback works");
    ready(&far);
    near.set_nonblocking(true).expect("a socket that does not wait");
    (far, near)
}

fn ready(socket: &TcpStream) {
    socket.set_nonblocking(true).expect("a socket that does not wait");
    socket.set_nodelay(true).expect("a socket that does not collect");
}

fn drain(socket: &mut TcpStream, heard: &mut Vec<u8>) {
    heard.clear();
    match socket.read_to_end(heard) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => panic!("the relay is gone: {error}"),
        Ok(_) => panic!("the relay hung up"),
    }
}

/// The relay asks for a sign of life after five seconds.
const SILENT_MAX: Duration = Duration::from_secs(4);

const CALL_SID: &str = "CA0123456789abcdef0123456789abcdef";
