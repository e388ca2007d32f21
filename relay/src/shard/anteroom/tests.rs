//! What needs a clock of its own: calls that nobody claims, shards that do not answer, spares that
//! grow old. Whole calls that were prepared are tested from outside, at the real process.

use std::cell::Cell;

use futures_util::{SinkExt as _, StreamExt as _};
use link::ticket::Claims;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::shard::tests::{Bench, admitted, bench};
use crate::stream::Leg;

/// A service that agrees to every session, and how many it has.
struct Service {
    url: String,
    open: Rc<Cell<u32>>,
    ever: Rc<Cell<u32>>,
}

impl Service {
    /// Serves on the test's own thread.
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/v1/realtime", listener.local_addr().unwrap());
        let (open, ever) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let service = Self { url, open: open.clone(), ever: ever.clone() };
        begin(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let open = open.clone();
                ever.set(ever.get() + 1);
                open.set(open.get() + 1);
                begin(async move {
                    let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
                    let created = json!({"type": "session.created", "session": {}});
                    socket.send(Message::text(created.to_string())).await.unwrap();
                    while let Some(Ok(message)) = socket.next().await {
                        let Message::Text(text) = message else { continue };
                        let said: Value = serde_json::from_str(&text).unwrap();
                        let updated =
                            json!({"type": "session.updated", "session": said["session"]});
                        socket.send(Message::text(updated.to_string())).await.unwrap();
                    }
                    open.set(open.get() - 1);
                });
            }
        });
        service
    }

    fn agent(&self, version: u32) -> AgentSpec {
        let spec = json!({
            "name": "front-desk", "version": version, "instructions": "x",
            "provider": {"kind": "openai_realtime", "url": self.url},
        });
        serde_json::from_value(spec).unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own tasks, ended with its LocalSet")]
fn begin(task: impl Future<Output = ()> + 'static) {
    drop(tokio::task::spawn_local(task));
}

impl Bench {
    fn announce(&self, claims: &Claims, shard: usize) -> Waits {
        let stream = (claims.call.clone(), claims.generation);
        self.gate.announce(stream, AgentKey::of_claims(claims), shard).unwrap()
    }

    fn prepared(&self, outcome: Prepared) -> u64 {
        self.shard.counters().prepared.of(outcome).total()
    }

    fn agents_open(&self) -> i64 {
        self.shard.counters().sockets[Leg::Agent as usize].now()
    }
}

/// Lets time pass, as the paused clock does whenever everybody waits.
async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_claims_ends_by_itself_and_leaves_nothing_behind() {
    let bench = bench();
    LocalSet::new()
        .run_until(async {
            let service = Service::start().await;
            let waits = bench.announce(&admitted("c_1").claims, 0);
            bench.shard.prepare(waits, &Arc::new(service.agent(1)), None);
            pass(Duration::from_secs(59)).await;
            assert_eq!((service.open.get(), bench.agents_open()), (1, 1));
            assert_eq!(bench.gate.lobby().announced(), 1);
            pass(Duration::from_secs(3)).await;
            assert_eq!((service.open.get(), bench.agents_open()), (0, 0));
            assert_eq!(bench.prepared(Prepared::Expired), 1);
            assert_eq!(bench.gate.lobby().announced(), 0);
            assert!(bench.shard.anteroom.borrow().waiting.is_empty());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_answer_in_time_is_not_waited_for() {
    let mut bench = bench();
    let stream = admitted("c_1");
    let _waits = bench.announce(&stream.claims, 1);
    let began = bench.shard.clock.now();
    let call = bench.shard.call_for(&stream).await;
    assert!(!call.has_been_ready());
    assert_eq!(bench.shard.clock.now().since(began).as_millis(), 40);
    assert_eq!(bench.prepared(Prepared::Missed), 1);
    let Ok(ToShard::Claim { to, .. }) = bench.inboxes[1].try_recv() else { panic!("no claim") };
    assert!(to.send(None).is_err(), "an answer that comes too late finds nobody");
}

#[tokio::test(start_paused = true)]
async fn a_spare_is_replaced_before_it_grows_old() {
    let bench = bench();
    LocalSet::new()
        .run_until(async {
            let service = Service::start().await;
            bench.shard.setup.known.keep_agent(service.agent(1)).unwrap();
            begin(bench.shard.clone().keep_spares());
            pass(Duration::from_secs(2)).await;
            assert_eq!((service.open.get(), bench.gate.lobby().spares()), (1, 1));
            pass(Duration::from_secs(270)).await;
            assert_eq!((service.open.get(), bench.gate.lobby().spares()), (2, 2));
            pass(Duration::from_secs(30)).await;
            assert_eq!((service.open.get(), service.ever.get()), (1, 2));
            assert_eq!(bench.gate.lobby().spares(), 1);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn spares_are_of_the_newest_version_only() {
    let bench = bench();
    LocalSet::new()
        .run_until(async {
            let service = Service::start().await;
            bench.shard.setup.known.keep_agent(service.agent(1)).unwrap();
            begin(bench.shard.clone().keep_spares());
            pass(Duration::from_secs(2)).await;
            bench.shard.setup.known.keep_agent(service.agent(2)).unwrap();
            pass(Duration::from_secs(2)).await;
            assert_eq!((service.open.get(), service.ever.get()), (1, 2));
            assert_eq!(bench.prepared(Prepared::Dismissed), 1);
            assert!(bench.gate.lobby().claim(&admitted("c_1").claims, 0).is_none());
            let mut stream = admitted("c_2");
            stream.claims.agent_version = 2;
            assert!(bench.shard.call_for(&stream).await.has_been_ready());
            bench.shard.empty_anteroom();
            pass(Duration::from_secs(2)).await;
            assert_eq!((service.open.get(), bench.agents_open()), (0, 0));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_had_is_not_dialled_in_a_tight_loop() {
    let bench = bench();
    LocalSet::new()
        .run_until(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let tries = Rc::new(Cell::new(0));
            let counted = tries.clone();
            let mut agent = Service::start().await.agent(1);
            let url = format!("ws://{}/", listener.local_addr().unwrap());
            let link::agent::Provider::OpenaiRealtime { url: to, .. } = &mut agent.provider;
            *to = url;
            begin(async move {
                // Hangs up on everybody.
                while listener.accept().await.is_ok() {
                    counted.set(counted.get() + 1);
                }
            });
            bench.shard.setup.known.keep_agent(agent).unwrap();
            begin(bench.shard.clone().keep_spares());
            pass(Duration::from_secs(60)).await;
            assert!((3..=40).contains(&tries.get()), "{} dials a minute", tries.get());
            assert_eq!(bench.gate.lobby().spares(), 0);
        })
        .await;
}
