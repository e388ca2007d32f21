//! What needs a clock of its own, or a call that panics. The rest of a shard is tested from
//! outside, at the real process.

use link::event::{CallEvent, EndReason};
use link::id::{AgentName, NodeId, TenantId, WallTime};
use link::ticket::{Bearer, Claims};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::*;
use crate::admit::Admitted;
use crate::call::output::Milestone;
use crate::gate::Seat;
use crate::shard::door::Visitor;
use crate::telemetry::Noted;
use crate::wire::CallerDialect;
use crate::ws::{Limits, Role, Socket};
use link::guard::Allowed;

/// A shard by itself, and what it tells.
pub(crate) struct Bench {
    pub(crate) shard: Rc<Shard>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) events: mpsc::Receiver<Noted>,
    /// What is said to the shards of the node: this one, and one that does not answer.
    pub(crate) inboxes: [mpsc::Receiver<ToShard>; 2],
}

pub(crate) fn bench() -> Bench {
    bench_at(UplinkPace::Always(Batch::Off))
}

/// The same, with callers' audio sent on like this.
pub(crate) fn bench_at(uplink: UplinkPace) -> Bench {
    let (house, events) = mpsc::channel(64);
    let ((to_this, this), (to_other, other)) = (mpsc::channel(8), mpsc::channel(8));
    let (clock, gate) = (Clock::start(), Arc::new(Gate::new(8, crate::gate::room::Bounds::NONE)));
    gate.open();
    let setup = Setup {
        index: 0,
        clock,
        identity: Identity { node: NodeId::new("n1").unwrap(), started: WallTime(0) },
        known: Arc::new(Known::nothing()),
        gate: gate.clone(),
        post: Post::new(vec![to_this, to_other]),
        outlet: Outlet::new(0, Arc::default(), house, clock),
        gauge: Arc::default(),
        tls: None,
        front: Front::Plain,
        forward: None,
        agent_tls: tls::client_config(None).unwrap(),
        tools: Tools::new(Allowed::default(), tls::client_config(None).unwrap()),
        playout_lead: Duration::from_millis(400),
        uplink,
        spare_agents: 1,
        shards: 1,
    };
    Bench { shard: Rc::new(Shard::new(setup)), gate, events, inboxes: [this, other] }
}

/// A stream of this call, as admission gives it.
pub(crate) fn admitted(call: &str) -> Admitted {
    let spec = serde_json::json!({
        "name": "front-desk", "instructions": "x", "provider": {"kind": "openai_realtime"},
    });
    let claims = Claims {
        bearer: Bearer::Carrier { call_sid: "CA1".into() },
        call: CallId::new(call).unwrap(),
        tenant: TenantId::new("default").unwrap(),
        node: NodeId::new("n1").unwrap(),
        generation: Gen(0),
        agent: AgentName::new("front-desk").unwrap(),
        agent_version: 1,
        jti: call.into(),
        issued_at: 0,
        expires_at: 60,
    };
    let agent = Arc::new(serde_json::from_value(spec).unwrap());
    let dialect = CallerDialect::CARRIER;
    Admitted { claims, dialect, stream_sid: "MZ1".into(), agent, early: Vec::new() }
}

impl Bench {
    /// Enters a call and takes a seat, as admission does.
    fn enter(&self, call: &str) -> (Admitted, Seat) {
        let admitted = admitted(call);
        self.gate.register().enter(&admitted.claims, 0, WallTime(0)).unwrap();
        (admitted, self.gate.sit().unwrap())
    }

    fn told(&mut self) -> Vec<(Option<String>, CallEvent)> {
        let name = |noted: &Noted| noted.call.as_ref().map(|call| call.id.to_string());
        std::iter::from_fn(|| self.events.try_recv().ok())
            .map(|noted| (name(&noted), noted.event))
            .collect()
    }
}

pub(crate) async fn socket_and_peer() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (peer, ours) = tokio::join!(TcpStream::connect(address), listener.accept());
    let stream = Stream::Plain(ours.unwrap().0);
    (Socket::new(stream, Role::Server, Limits::CALLER, Vec::new()), peer.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_begin_is_closed_after_five_seconds() {
    let mut bench = bench();
    let (socket, mut peer) = socket_and_peer().await;
    let visitor = Visitor::Carrier(bench.gate.sit().unwrap());
    let began = bench.shard.clock.now();
    let mut bytes = Vec::new();
    let read = async {
        peer.read_to_end(&mut bytes).await.unwrap();
        drop(peer);
    };
    tokio::join!(bench.shard.stream(socket, visitor), read);
    let took = bench.shard.clock.now().since(began);
    assert!((Duration::from_secs(5)..Duration::from_secs(7)).contains(&took), "{took:?}");
    assert_eq!(bytes[0], 0x88, "a close frame");
    assert_eq!(u16::from_be_bytes([bytes[2], bytes[3]]), 1008);
    let why = "no valid `start` in five seconds".into();
    assert_eq!(bench.told(), [(None, CallEvent::StreamRefused { why })]);
    assert_eq!(bench.gate.occupancy().calls, 0);
}

#[tokio::test]
async fn a_panic_in_one_call_costs_that_call_only() {
    let mut bench = bench();
    let local = LocalSet::new();
    let (broken, seat) = bench.enter("c_broken");
    let shard = bench.shard.clone();
    let broken = local.spawn_local(async move {
        let _seat = seat;
        shard
            .carry(broken, async |_, _, mut log| {
                log.note(&Milestone::Started);
                panic!("provoked by a test");
            })
            .await;
    });
    let (healthy, seat) = bench.enter("c_healthy");
    let shard = bench.shard.clone();
    let healthy = local.spawn_local(async move {
        let _seat = seat;
        shard
            .carry(healthy, async |_, mailbox, log| {
                let letter = poll_fn(|cx| mailbox.poll_take(cx)).await;
                assert_eq!(letter, Letter::Drain);
                log.end(EndReason::Drained);
            })
            .await;
    });

    let ended = local.run_until(broken).await;
    assert!(ended.unwrap_err().is_panic());
    assert_eq!(bench.gate.occupancy().calls, 1);
    assert_eq!(bench.gate.register().find(&CallId::new("c_broken").unwrap()), None);
    let told = bench.told();
    assert!(matches!(told[0].1, CallEvent::StreamStarted { .. }), "{told:?}");
    let (call, CallEvent::StreamEnded { reason, .. }) = &told[1] else { panic!("{told:?}") };
    assert_eq!((call.as_deref(), *reason), (Some("c_broken"), EndReason::RelayFault));

    bench.shard.drain();
    local.run_until(healthy).await.unwrap();
    assert_eq!(bench.gate.occupancy().calls, 0);
    let told = bench.told();
    assert_eq!(told[0].0.as_deref(), Some("c_healthy"));
    assert!(bench.shard.mailboxes.borrow().is_empty());
}

#[tokio::test]
async fn a_letter_reaches_only_the_generation_that_it_is_meant_for() {
    let bench = bench();
    let (admitted, _seat) = bench.enter("c_1");
    let call = admitted.claims.call.clone();
    let shard = bench.shard.clone();
    bench
        .shard
        .carry(admitted, async |_, mailbox, log| {
            shard.deliver((call.clone(), Gen(1)), Letter::Drain);
            shard.deliver((call.clone(), Gen(0)), Letter::Drain);
            let mut taken = 0;
            poll_fn(|cx| {
                while mailbox.poll_take(cx).is_ready() {
                    taken += 1;
                }
                Poll::Ready(())
            })
            .await;
            assert_eq!(taken, 1);
            log.end(EndReason::Drained);
        })
        .await;
}

#[tokio::test]
async fn a_call_keeps_nothing_of_the_http_that_brought_it() {
    use std::mem::size_of_val;

    let bench = bench();
    let (socket, peer) = socket_and_peer().await;
    let tcp = peer.into_std().unwrap();
    let (peer, place) = (tcp.local_addr().unwrap(), bench.shard.setup.gauge.place());
    let connection = size_of_val(&bench.shard.clone().connection(Accepted { tcp, peer, place }));
    let visitor = Visitor::Carrier(bench.gate.sit().unwrap());
    let stream = size_of_val(&bench.shard.stream(socket, visitor));
    let parts = format!("connection {connection}, stream {stream}");
    // Whoever makes it grow knows: it is there for every call, for as long as the call is.
    assert!(connection <= 8 << 10, "{parts}");
    assert!(connection <= stream + 512, "{parts}");
}

#[test]
fn a_call_has_the_size_that_the_architecture_says() {
    // The table "A call's memory" in ARCHITECTURE.md; a little above what they were (2026-11-24).
    let sizes = [
        ("call", size_of::<crate::call::Call>(), 1_280),
        ("bridge, the call in it", size_of::<crate::bridge::Bridge>(), 2_048),
        ("socket", size_of::<Socket>(), 320),
        ("mailbox", size_of::<Mailbox>(), 64),
        ("admitted", size_of::<Admitted>(), 256),
    ];
    for (name, size, size_max) in sizes {
        assert!(size <= size_max, "{name}: {size} bytes, {size_max} at most");
    }
}
