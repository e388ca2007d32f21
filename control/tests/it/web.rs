//! A whole control plane for one test, behind its real accept loop on loopback, and the two sides
//! that talk to it: a carrier that signs, and a web application with a key.

use std::net::SocketAddr;
use std::sync::Arc;

use base64_simd::STANDARD;
use control::api::auth::ApiKeys;
use control::config::{Account, agents};
use control::events::{Record, Seq};
use control::fleet::nodes::{Arrival, Nodes, Stay};
use control::fleet::orders::Order;
use control::hub::Hub;
use control::metrics::Metrics;
use control::plane::Plane;
use control::sequencer::{Settings, sequencer};
use control::store::Source;
use control::store::call::{Call, CarrierIds, Number};
use control::tokens::Tokens;
use control::twilio::rest::Rest;
use control::twilio::signature::PublicOrigin;
use hmac::{Hmac, KeyInit as _, Mac as _};
use link::event::{CallEvent, CallRef, NodeEvent};
use link::id::{CallId, Epoch, EventNumber, NodeId};
use link::message::Load;
use link::secret::Secret;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use sha1::Sha1;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::db::{key, tenant};

pub(crate) const ORIGIN: &str = "https://hooks.example";
pub(crate) const TOKEN: &str = "auth-token-of-the-account";
pub(crate) const ACCOUNT: &str = "AC00000000000000000000000000000001";
pub(crate) const API_KEY: &str = "key-0123456789abcdef01234567";
pub(crate) const AGENTS: &str = r#"
default = "front-desk"
[[agent]]
name = "front-desk"
version = 3
instructions = "You answer the phone."
provider = { kind = "openai_realtime", url = "ws://127.0.0.1:9/v1/realtime", api_key = "sk-agent" }
[[agent]]
name = "sales"
instructions = "You sell."
provider = { kind = "openai_realtime", url = "ws://127.0.0.1:9/v1/realtime" }
"#;

/// A control plane that serves HTTP.
pub(crate) struct Web {
    pub(crate) plane: Arc<Plane>,
    pub(crate) address: SocketAddr,
    pub(crate) http: Client,
    _folder: TempDir,
    stop: CancellationToken,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.plane.shutdown.cancel();
        self.stop.cancel();
    }
}

impl Web {
    /// Without relays; nothing listens where the carrier's API should be.
    pub(crate) async fn start() -> Self {
        Self::with_carrier("http://127.0.0.1:1").await
    }

    /// With the carrier's API at an address.
    pub(crate) async fn with_carrier(api_url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/linecard.db", folder.path().display());
        let store = control::store::Store::open(&url, key()).await.unwrap();
        let (hub, stop, nodes) = (Hub::new(), CancellationToken::new(), Nodes::new());
        let (sequencer, numbering) =
            sequencer(store.clone(), hub.clone(), Settings::default(), stop.clone());
        tokio::spawn(numbering);
        let carrier = Account {
            sid: ACCOUNT.into(),
            auth_token: Secret::new(TOKEN),
            api_url: api_url.into(),
        };
        let plane = Arc::new(Plane {
            metrics: Metrics::new(nodes.clone(), sequencer.clone(), hub.clone()),
            tokens: Tokens::load(&store).await.unwrap(),
            store,
            sequencer,
            hub,
            nodes,
            agents: agents::read(AGENTS, |_| None).unwrap(),
            auth_token: carrier.auth_token.clone(),
            carrier: Rest::new(carrier).unwrap(),
            public: PublicOrigin::parse(ORIGIN).unwrap(),
            api_keys: ApiKeys::parse(API_KEY).unwrap(),
            from: Some(Number("+15550100".into())),
            shutdown: CancellationToken::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = control::http::routes(&plane);
        tokio::spawn(control::http::serve::serve(listener, routes, plane.shutdown.clone()));
        Self { plane, address, http: Client::new(), _folder: folder, stop }
    }

    /// A relay that is ready, with so many calls.
    pub(crate) fn node(&self, name: &str, calls: u32) -> (Stay, mpsc::Receiver<Order>) {
        let (stay, orders) = self.plane.nodes.join(Arrival {
            node: NodeId::new(name).unwrap(),
            epoch: Epoch(1),
            public_url: "wss://media.example".into(),
            software: "test".into(),
        });
        stay.set_load(Load { calls, calls_max: 10, ready: true });
        (stay, orders)
    }

    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// The carrier asks, signed as it signs.
    pub(crate) async fn hook(&self, target: &str, fields: &[(&str, &str)]) -> (u16, String) {
        let signature = sign(&format!("{ORIGIN}{target}"), fields);
        let request = self.http.post(self.url(target)).form(fields);
        answer(request.header("X-Twilio-Signature", signature)).await
    }

    /// The carrier asks what to do with a call, for the first time.
    pub(crate) async fn voice(&self, call_sid: &str) -> (u16, String) {
        self.hook("/v1/twilio/voice", &inbound(call_sid)).await
    }

    /// The web application asks.
    pub(crate) async fn api(&self, request: RequestBuilder) -> (u16, Value) {
        let response = request.bearer_auth(API_KEY).send().await.unwrap();
        json(response).await
    }

    pub(crate) async fn call(&self, call_sid: &str) -> Option<Call> {
        let carrier = CarrierIds { account_sid: ACCOUNT.into(), call_sid: call_sid.into() };
        self.plane.store.call_by_carrier(&tenant(), &carrier).await.unwrap()
    }

    pub(crate) async fn call_by_id(&self, id: &str) -> Call {
        let id = CallId::new(id).unwrap();
        self.plane.store.call(&tenant(), &id).await.unwrap().unwrap()
    }

    /// A call that the carrier has been told to open a stream for, and its resume target.
    pub(crate) async fn begun(&self, call_sid: &str) -> (Call, String) {
        let (status, twiml) = self.voice(call_sid).await;
        assert_eq!(status, 200, "{twiml}");
        (self.call(call_sid).await.unwrap(), resume_target(&twiml))
    }

    /// A relay says something about a call, and it is committed.
    pub(crate) async fn says(&self, node: &str, n: u64, call: &Call, event: CallEvent) {
        let source = Source { node: NodeId::new(node).unwrap(), epoch: Epoch(7) };
        let call = CallRef {
            id: call.id.clone(),
            tenant: call.tenant.clone(),
            generation: call.generation,
        };
        let at = control::clock::wall();
        let event = NodeEvent { n: EventNumber(n), at, call: Some(call), event };
        self.plane.sequencer.submit(source, vec![event]).await.unwrap().await.unwrap();
    }

    /// The first records, once there are so many.
    pub(crate) async fn records(&self, many: usize) -> Vec<Record> {
        let mut stream = std::pin::pin!(control::sse::stream(
            self.plane.store.clone(),
            &self.plane.hub,
            control::sse::Watch { tenant: tenant(), after: Some(Seq(0)), call: None },
            CancellationToken::new(),
        ));
        let mut records = Vec::new();
        while records.len() < many {
            match futures_util::StreamExt::next(&mut stream).await.unwrap() {
                control::sse::Item::Record(record) => records.push((*record).clone()),
                control::sse::Item::Ping => {}
                control::sse::Item::End(end) => panic!("{end:?}"),
            }
        }
        records
    }
}

/// The next thing to do that a node is told; what it is only told of is passed over.
pub(crate) async fn next_command(orders: &mut mpsc::Receiver<Order>) -> Order {
    loop {
        match orders.recv().await.expect("the node is in") {
            Order::Announce(_) => {}
            order @ Order::Do { .. } => return order,
        }
    }
}

/// What the carrier posts for a call that rings.
pub(crate) fn inbound(call_sid: &str) -> [(&'static str, &str); 7] {
    [
        ("AccountSid", ACCOUNT),
        ("ApiVersion", "2010-04-01"),
        ("CallSid", call_sid),
        ("CallStatus", "ringing"),
        ("Direction", "inbound"),
        ("From", "+15550101"),
        ("To", "+15550102"),
    ]
}

/// The carrier's signature, written down a second time so that it can disagree with ours.
pub(crate) fn sign(url: &str, fields: &[(&str, &str)]) -> String {
    let mut fields = fields.to_vec();
    fields.sort_by_key(|(name, _)| *name);
    let mut text = url.split('#').next().unwrap().to_owned();
    for (name, value) in fields {
        text += name;
        text += value;
    }
    let mut mac = Hmac::<Sha1>::new_from_slice(TOKEN.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    STANDARD.encode_to_string(mac.finalize().into_bytes())
}

pub(crate) async fn answer(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

pub(crate) async fn json(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

/// The text between two texts.
pub(crate) fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let start = text.find(before).unwrap_or_else(|| panic!("no {before} in {text}"));
    let rest = &text[start + before.len()..];
    &rest[..rest.find(after).unwrap()]
}

/// Where the document says to ask next: path and query, without what is not sent.
pub(crate) fn resume_target(twiml: &str) -> String {
    let url = between(twiml, r#"<Redirect method="POST">"#, "</Redirect>");
    let url = url.strip_prefix(ORIGIN).unwrap();
    url.split('#').next().unwrap().replace("&amp;", "&")
}

/// The ticket of the document's stream.
pub(crate) fn ticket(twiml: &str) -> String {
    between(twiml, r#"<Parameter name="ticket" value=""#, "\"").to_owned()
}
