//! A whole control plane for one test, behind its real accept loop on loopback, and the two sides
//! that talk to it: a carrier that signs, and a web application with a key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64_simd::STANDARD;
use control::access::address::Proxies;
use control::access::crowd::Crowd;
use control::access::key::{ApiKey, KeyId};
use control::access::known::KnownKeys;
use control::access::origin::Origin;
use control::access::rates::Rates;
use control::access::scope::Scopes;
use control::access::tenants::Tenants;
use control::api::auth::OperatorKeys;
use control::api::compat::Compat;
use control::api::compat::search::Search;
use control::config::agents::{Agents, ProviderKeys};
use control::config::{Account, PlacesAccount, agents};
use control::dialer::rules::Rules;
use control::dialer::waiting::Dialler;
use control::directory::Directory;
use control::events::{Record, Seq};
use control::fleet::moves::{Moves, Pace};
use control::fleet::nodes::{Arrival, Nodes, Stay};
use control::fleet::openings::{Openings, Survival};
use control::fleet::orders::Order;
use control::fleet::regions::Regions;
use control::hub::Hub;
use control::metrics::Metrics;
use control::plane::Plane;
use control::sequencer::{Settings, sequencer};
use control::standby::Standby;
use control::store::call::{Call, CarrierIds, Number};
use control::store::{Added, Pacing, Source, StoredKey};
use control::tokens::Tokens;
use control::twilio::rest::Rest;
use control::twilio::signature::{AuthTokens, PublicOrigin};
use control::webhooks::Post;
use hmac::{Hmac, KeyInit as _, Mac as _};
use link::event::{CallEvent, CallRef, NodeEvent};
use link::guard::Allowed;
use link::id::{CallId, Epoch, EventNumber, NodeId, TenantId};
use link::message::Load;
use link::secret::Secret;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use sha1::Sha1;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::db::{key, tenant};
use super::described;

pub(crate) const ORIGIN: &str = "https://hooks.example";
pub(crate) const TOKEN: &str = "auth-token-of-the-account";
pub(crate) const NEXT_TOKEN: &str = "auth-token-to-be-promoted";
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
machine = { do = "continue" }
provider = { kind = "openai_realtime", url = "ws://127.0.0.1:9/v1/realtime" }
"#;

/// What of its settings a test may choose.
pub(crate) struct Chosen {
    pub(crate) agents: Agents,
    pub(crate) provider_keys: ProviderKeys,
    pub(crate) operators: OperatorKeys,
    pub(crate) pages: Vec<Origin>,
    pub(crate) compat_origins: Vec<Origin>,
    pub(crate) places: Option<PlacesAccount>,
    pub(crate) carrier_voice: Option<String>,
    pub(crate) regions: Regions,
    pub(crate) survival: Survival,
    pub(crate) pace: Pace,
}

impl Default for Chosen {
    fn default() -> Self {
        let provider_keys = [("OPENAI_API_KEY".to_owned(), Secret::new("sk-environment"))];
        Self {
            agents: agents::read(AGENTS, |_| None).unwrap(),
            provider_keys: provider_keys.into_iter().collect(),
            operators: OperatorKeys::parse(API_KEY).unwrap(),
            pages: Vec::new(),
            compat_origins: Vec::new(),
            places: None,
            carrier_voice: None,
            regions: Regions::default(),
            survival: Survival::default(),
            pace: Pace::default(),
        }
    }
}

/// A control plane that serves HTTP.
pub(crate) struct Web {
    pub(crate) plane: Arc<Plane>,
    pub(crate) address: SocketAddr,
    pub(crate) http: Client,
    pub(crate) folder: Arc<TempDir>,
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
        Self::with_from(api_url, Some(Number("+15550100".into()))).await
    }

    /// The same, with another number that calls when nobody says.
    pub(crate) async fn with_from(api_url: &str, from: Option<Number>) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let url = format!("sqlite://{}/linecard.db", folder.path().display());
        Self::on(&url, folder, api_url, (quick(), from)).await
    }

    /// With the database of that folder, which another one may have left, and these rules.
    pub(crate) async fn beside(folder: Arc<TempDir>, api_url: &str, rules: Rules) -> Self {
        let url = format!("sqlite://{}/linecard.db", folder.path().display());
        Self::on(&url, folder, api_url, (rules, Some(Number("+15550100".into())))).await
    }

    /// One of several on a database.
    pub(crate) async fn one_of(url: &str) -> Self {
        let (folder, from) = (Arc::new(tempfile::tempdir().unwrap()), Number("+15550100".into()));
        Self::on(url, folder, "http://127.0.0.1:1", (quick(), Some(from))).await
    }

    /// With settings of its own, and the carrier's API at an address.
    pub(crate) async fn with(
        api_url: &str,
        dialling: (Rules, Option<Number>),
        chosen: Chosen,
    ) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let url = format!("sqlite://{}/linecard.db", folder.path().display());
        Self::on_with(&url, folder, api_url, dialling, chosen).await
    }

    async fn on(
        url: &str,
        folder: Arc<TempDir>,
        api_url: &str,
        dialling: (Rules, Option<Number>),
    ) -> Self {
        Self::on_with(url, folder, api_url, dialling, Chosen::default()).await
    }

    async fn on_with(
        url: &str,
        folder: Arc<TempDir>,
        api_url: &str,
        (rules, from): (Rules, Option<Number>),
        chosen: Chosen,
    ) -> Self {
        let store = control::store::Store::open(url, key()).await.unwrap();
        let (hub, stop) = (Hub::new(), CancellationToken::new());
        let nodes = Nodes::in_regions(chosen.regions);
        tokio::spawn(keep_heard(nodes.clone(), stop.clone()));
        let (sequencer, numbering) =
            sequencer(store.clone(), hub.clone(), Settings::default(), stop.clone());
        tokio::spawn(numbering);
        let keys = KnownKeys::load(store.clone()).await.unwrap();
        let tenants = Tenants::load(store.clone()).await.unwrap().with_pages(chosen.pages);
        let search = chosen.places.map(|places| Search::new(places).unwrap());
        let compat = Compat::load(&store, chosen.compat_origins, search).await.unwrap();
        let carrier = Account {
            sid: ACCOUNT.into(),
            auth_tokens: AuthTokens {
                primary: Secret::new(TOKEN),
                next: Some(Secret::new(NEXT_TOKEN)),
            },
            api_url: api_url.into(),
        };
        let post = Post::new(Allowed::parse("127.0.0.1").unwrap()).unwrap();
        let directory = Directory::load(chosen.agents, chosen.provider_keys, &store).await.unwrap();
        let plane = Arc::new(Plane {
            metrics: Metrics::new(nodes.clone(), sequencer.clone(), hub.clone()),
            tokens: Tokens::load(&store, control::clock::wall()).await.unwrap(),
            store,
            sequencer,
            hub,
            nodes,
            standby: Standby::default(),
            openings: Openings::new(chosen.survival.openings_per_second),
            survival: chosen.survival,
            moves: Moves::new(chosen.pace),
            directory,
            auth_tokens: carrier.auth_tokens.clone(),
            carrier: Rest::new(carrier).unwrap(),
            post: post.clone(),
            public: PublicOrigin::parse(ORIGIN).unwrap(),
            operators: chosen.operators,
            keys,
            tenants,
            crowd: Crowd::default(),
            rates: Rates::default(),
            proxies: Proxies::parse("127.0.0.1").unwrap(),
            rules,
            dialler: Dialler::default(),
            from,
            carrier_voice: chosen.carrier_voice,
            compat,
            shutdown: CancellationToken::new(),
        });
        let fresh = Arc::clone(&plane);
        tokio::spawn(async move { control::access::keep_fresh(&fresh).await });
        let late = Arc::clone(&plane);
        tokio::spawn(async move { control::standby::keep_up(&late).await });
        let (told, state) = (plane.store.clone(), plane.sequencer.state());
        tokio::spawn(post.deliver(told, state, stop.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = control::http::routes(&plane);
        tokio::spawn(control::http::serve::serve(listener, routes, plane.shutdown.clone()));
        tokio::spawn(control::dialer::queue::run(Arc::clone(&plane)));
        tokio::spawn(control::fleet::mover::run(Arc::clone(&plane)));
        Self { plane, address, http: Client::new(), folder, stop }
    }

    /// Changes rows of its SQLite file behind its back.
    pub(crate) async fn change(&self, sql: &'static str) {
        let url = format!("sqlite://{}/linecard.db", self.folder.path().display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// A relay that is ready, with so many calls.
    pub(crate) fn node(&self, name: &str, calls: u32) -> (Stay, mpsc::Receiver<Order>) {
        self.join(arrival(name), calls)
    }

    /// The same, of which a test says more.
    pub(crate) fn join(&self, arrival: Arrival, calls: u32) -> (Stay, mpsc::Receiver<Order>) {
        let (stay, orders) = self.plane.nodes.join(arrival);
        stay.set_load(Load { calls, calls_max: 10, ready: true, ..Load::default() });
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

    /// The carrier asks, as one of the attempts that have this token.
    pub(crate) async fn hook_as(
        &self,
        token: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> (u16, String) {
        let signature = sign(&format!("{ORIGIN}{target}"), fields);
        let request = self.http.post(self.url(target)).form(fields);
        let request = request.header("I-Twilio-Idempotency-Token", token);
        answer(request.header("X-Twilio-Signature", signature)).await
    }

    /// The carrier asks, and says which of its regions handles the call.
    pub(crate) async fn hook_from(
        &self,
        region: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> (u16, String) {
        let signature = sign(&format!("{ORIGIN}{target}"), fields);
        let request = self.http.post(self.url(target)).form(fields);
        let request = request.header("X-Home-Region", region);
        answer(request.header("X-Twilio-Signature", signature)).await
    }

    /// The carrier asks what to do with a call, for the first time.
    pub(crate) async fn voice(&self, call_sid: &str) -> (u16, String) {
        self.hook("/v1/twilio/voice", &inbound(call_sid)).await
    }

    /// The web application asks.
    pub(crate) async fn api(&self, request: RequestBuilder) -> (u16, Value) {
        self.api_as(API_KEY, request).await
    }

    /// Another web application asks, with its own key.
    pub(crate) async fn api_as(&self, key: &str, request: RequestBuilder) -> (u16, Value) {
        let request = request.bearer_auth(key).build().unwrap();
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let response = self.http.execute(request).await.unwrap();
        // An answer without a body has no type.
        let kind = response.headers().get("content-type");
        let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let (status, body) = json(response).await;
        described::check(&method, &path, status, &kind, &body);
        (status, body)
    }

    /// A key of a tenant, which is made when it is not there.
    pub(crate) async fn key_for(&self, name: &str, scopes: &[&str]) -> String {
        let tenant = TenantId::new(name).unwrap();
        self.plane.store.ensure_tenant(&tenant, control::clock::wall()).await.unwrap();
        add_key(&self.plane, &tenant, scopes).await
    }

    /// The web application sends JSON.
    pub(crate) async fn post(&self, target: &str, body: &Value) -> (u16, Value) {
        self.api(self.http.post(self.url(target)).json(body)).await
    }

    /// The web application reads.
    pub(crate) async fn get(&self, target: &str) -> (u16, Value) {
        self.api(self.http.get(self.url(target))).await
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
        self.records_of(tenant(), many).await
    }

    /// The first records of a tenant, once there are so many.
    pub(crate) async fn records_of(&self, tenant: TenantId, many: usize) -> Vec<Record> {
        let mut stream = std::pin::pin!(control::sse::stream(
            self.plane.store.clone(),
            &self.plane.hub,
            control::sse::Watch {
                tenant,
                after: Some(Seq(0)),
                call: None,
                run: None,
                ephemeral: false
            },
            CancellationToken::new(),
        ));
        let mut records = Vec::new();
        while records.len() < many {
            match futures_util::StreamExt::next(&mut stream).await.unwrap() {
                control::sse::Item::Record(record) => records.push((*record).clone()),
                control::sse::Item::Passing(_) | control::sse::Item::Ping => {}
                control::sse::Item::Reset(reset) => panic!("{reset:?}"),
                control::sse::Item::End(end) => panic!("{end:?}"),
            }
        }
        records
    }
}

/// A relay that comes in.
pub(crate) fn arrival(name: &str) -> Arrival {
    Arrival {
        node: NodeId::new(name).unwrap(),
        epoch: Epoch(1),
        public_url: "wss://media.example".into(),
        software: "test".into(),
        region: None,
        version: link::message::VERSION,
    }
}

/// Relays of tests say once how they are; a real one says it again and again, and one that does not
/// gets no calls after a few seconds.
async fn keep_heard(nodes: Nodes, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        for state in nodes.list() {
            nodes.heard(&state.node, control::clock::wall());
        }
    }
}

/// A fresh key of a tenant that is there.
pub(crate) async fn add_key(plane: &Plane, tenant: &TenantId, scopes: &[&str]) -> String {
    let key = ApiKey::generate().unwrap();
    let stored = StoredKey {
        id: key.id.clone(),
        tenant: tenant.clone(),
        name: "test".into(),
        hash: plane.keys.pepper().hash(&key),
        scopes: Scopes::read(scopes.iter().copied()).unwrap(),
        created_at: control::clock::wall(),
        expires_at: None,
        used_at: None,
        revoked_at: None,
    };
    let operator = KeyId::new("test").unwrap();
    assert_eq!(plane.store.add_api_key(&stored, &operator).await.unwrap(), Added::Done);
    key.to_text().reveal().to_owned()
}

/// Rules that hold nothing up: tests call one after the other.
pub(crate) fn quick() -> Rules {
    let pacing =
        Pacing { account_every: Duration::ZERO, number_every: Duration::ZERO, ..Pacing::default() };
    let soon = Duration::from_millis(50);
    Rules { pacing, settled: soon, pause: soon, ..Rules::default() }
}

/// The next thing to do that a node is told; what it is only told of is passed over.
pub(crate) async fn next_command(orders: &mut mpsc::Receiver<Order>) -> Order {
    loop {
        match orders.recv().await.expect("the node is in") {
            Order::Announce(_) | Order::Agent(_) | Order::Intake(_) => {}
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
    sign_with(TOKEN, url, fields)
}

pub(crate) fn sign_with(token: &str, url: &str, fields: &[(&str, &str)]) -> String {
    let mut fields = fields.to_vec();
    fields.sort_by_key(|(name, _)| *name);
    let mut text = url.split('#').next().unwrap().to_owned();
    for (name, value) in fields {
        text += name;
        text += value;
    }
    let mut mac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    STANDARD.encode_to_string(mac.finalize().into_bytes())
}

pub(crate) async fn answer(request: RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

pub(crate) async fn json(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    // What was deleted leaves nothing to show.
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    (status, body)
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
