//! What the bridge tests share: both ends of a call, held by the test. Strict where the real ones
//! are, written from the wire formats and not from the relay's code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;

use codec::base64;
use futures_util::{SinkExt as _, StreamExt as _};
use link::id::{CallId, Gen};
use relay::stream::Stream;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::process_rig::{Alone, NODE, Relay, page, start, within};

/// The format on the agent's leg.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Format {
    Ulaw,
    Pcm24k,
}

impl Format {
    /// As the agent file says it.
    fn setting(self) -> &'static str {
        match self {
            Self::Ulaw => "mulaw",
            Self::Pcm24k => "pcm24k",
        }
    }

    /// Bytes for each byte of mu-law.
    pub(crate) fn bytes_per_sample(self) -> usize {
        match self {
            Self::Ulaw => 1,
            Self::Pcm24k => 6,
        }
    }

    /// As the service says it.
    fn json(self) -> Value {
        match self {
            Self::Ulaw => json!({"type": "audio/pcmu"}),
            Self::Pcm24k => json!({"type": "audio/pcm", "rate": 24_000}),
        }
    }
}

/// A relay by itself, and a model's door that the test opens.
pub(crate) struct Rig {
    alone: Alone,
    pub(crate) relay: Relay,
    door: TcpListener,
    format: Format,
}

impl Rig {
    /// A relay whose model is the test.
    pub(crate) async fn new(format: Format) -> Self {
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/v1/realtime", door.local_addr().unwrap());
        Self::start(door, &url, format, "", &[]).await
    }

    /// The same with more lines in the agent's table, and more settings.
    pub(crate) async fn with(more: &str, settings: &[(&str, &str)]) -> Self {
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/v1/realtime", door.local_addr().unwrap());
        Self::start(door, &url, Format::Ulaw, more, settings).await
    }

    /// A relay whose model is somebody else, and greets.
    pub(crate) async fn towards(url: &str, format: Format) -> Self {
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start(door, url, format, "greeting = \"Say hello.\"\n", &[]).await
    }

    async fn start(
        door: TcpListener,
        url: &str,
        format: Format,
        more: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut alone = Alone::new(door.local_addr().unwrap());
        let tools = match more.contains("tools = ") {
            true => "",
            false => "tools = [{ kind = \"end_call\" }]\n",
        };
        let agents = format!(
            "[[agent]]\nname = \"front-desk\"\ninstructions = \"You answer the phone.\"\n{more}\
             audio = \"{}\"\n{tools}\
             [agent.provider]\nkind = \"openai_realtime\"\nurl = \"{url}\"\n\
             model = \"a model\"\napi_key = \"sk-test\"\n",
            format.setting(),
        );
        let agents = alone.file("agents-here.toml", &agents);
        alone.set("RELAY_AGENT_FILE", &agents);
        for (name, value) in settings {
            alone.set(name, value);
        }
        let relay = alone.start().await;
        Self { alone, relay, door, format }
    }

    /// A caller whose stream has begun.
    pub(crate) async fn caller(&self) -> Caller {
        Caller::begin(self.relay.public, None, &self.alone.ticket(|_| {})).await
    }

    /// A caller whose stream is of this generation of a call.
    pub(crate) async fn caller_of(&self, call: &str, generation: u32) -> Caller {
        let ticket = self.alone.ticket(|claims| {
            claims.call = CallId::new(call).unwrap();
            claims.generation = Gen(generation);
        });
        Caller::begin(self.relay.public, None, &ticket).await
    }

    /// The connection that the relay opens to the model.
    pub(crate) async fn connection(&self) -> TcpStream {
        within(self.door.accept()).await.unwrap().0
    }

    /// The token of a session that a page of this origin may use.
    pub(crate) fn token(&self, origin: Option<&str>) -> String {
        self.alone.ticket(|claims| claims.bearer = page(origin))
    }

    /// The model's end, before it has said anything.
    pub(crate) async fn model(&self) -> Model {
        self.model_in(self.format).await
    }

    /// The same where the session is to have another format than on the phone.
    pub(crate) async fn model_in(&self, format: Format) -> Model {
        #[expect(clippy::result_large_err, reason = "tungstenite's own signature")]
        let check = |request: &Request, response: Response| {
            assert_eq!(request.uri().to_string(), "/v1/realtime?model=a+model");
            assert_eq!(request.headers()["authorization"], "Bearer sk-test");
            assert!(!request.headers().contains_key("openai-beta"));
            Ok(response)
        };
        let stream = Stream::Plain(self.connection().await);
        let socket = within(tokio_tungstenite::accept_hdr_async(stream, check)).await.unwrap();
        Model { socket, format, responses: 0 }
    }

    /// A call that is up: both ends, and a frame of silence that has gone all the way.
    pub(crate) async fn call(&self) -> (Caller, Model) {
        let mut caller = self.caller().await;
        let mut model = self.model().await;
        model.settle().await;
        caller.media(&[0xFF; 160]).await;
        model.hear(160 * self.format.bytes_per_sample()).await;
        (caller, model)
    }
}

/// The carrier's end of a stream.
pub(crate) struct Caller {
    socket: WebSocketStream<TcpStream>,
    chunk: u64,
}

/// What a carrier is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Media(Vec<u8>),
    Mark(String),
    Clear,
    Closed(u16),
}

impl Caller {
    /// Opens a stream at a relay and begins it with a ticket.
    pub(crate) async fn begin(relay: SocketAddr, signature: Option<&str>, ticket: &str) -> Self {
        let tcp = TcpStream::connect(relay).await.unwrap();
        let mut request = format!("ws://relay.test/v1/m/{NODE}").into_client_request().unwrap();
        if let Some(signature) = signature {
            request.headers_mut().insert("x-twilio-signature", signature.parse().unwrap());
        }
        let (socket, _) = within(tokio_tungstenite::client_async(request, tcp)).await.unwrap();
        let mut caller = Self { socket, chunk: 0 };
        caller.say(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#).await;
        caller.say(&start(ticket)).await;
        caller
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn media(&mut self, ulaw: &[u8]) {
        self.chunk += 1;
        let media = json!({
            "track": "inbound", "chunk": self.chunk.to_string(),
            "timestamp": (self.chunk * 20).to_string(), "payload": encode(ulaw),
        });
        let sequence = (self.chunk + 1).to_string();
        // The order of fields that Twilio's messages have.
        let text = format!(
            r#"{{"event":"media","sequenceNumber":"{sequence}","streamSid":"MZ1","media":{media}}}"#
        );
        self.say(&text).await;
    }

    pub(crate) async fn mark(&mut self, name: &str) {
        let mark = json!({"event": "mark", "streamSid": "MZ1", "mark": {"name": name}});
        self.say(&mark.to_string()).await;
    }

    /// The next thing that the relay says, checked to be exactly one of the documented messages.
    pub(crate) async fn next(&mut self) -> Told {
        let text = loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => break text,
                Some(Ok(Message::Close(frame))) => {
                    return Told::Closed(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("not what a carrier is told: {other:?}"),
            }
        };
        let message: Value = serde_json::from_str(&text).unwrap();
        let name = &message["mark"]["name"];
        let payload = &message["media"]["payload"];
        if message == json!({"event": "media", "streamSid": "MZ1", "media": {"payload": payload}}) {
            Told::Media(decode(payload.as_str().unwrap()))
        } else if message == json!({"event": "mark", "streamSid": "MZ1", "mark": {"name": name}}) {
            Told::Mark(name.as_str().unwrap().to_owned())
        } else {
            assert_eq!(message, json!({"event": "clear", "streamSid": "MZ1"}));
            Told::Clear
        }
    }

    /// Listens until so many bytes have come, and plays them at once: every mark goes back.
    pub(crate) async fn listen(&mut self, bytes: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut open_marks = 0;
        while heard.len() < bytes || open_marks > 0 {
            match self.next().await {
                Told::Media(more) => {
                    heard.extend(more);
                    open_marks += 1;
                }
                Told::Mark(name) => {
                    open_marks -= 1;
                    self.mark(&name).await;
                }
                told @ (Told::Clear | Told::Closed(_)) => panic!("{told:?} in mid-speech"),
            }
        }
        heard
    }

    /// Listens until the relay closes, playing at once. Gives what was heard, and the code.
    pub(crate) async fn listen_to_the_end(&mut self) -> (Vec<u8>, u16) {
        let mut heard = Vec::new();
        loop {
            match self.next().await {
                Told::Media(more) => heard.extend(more),
                Told::Mark(name) => self.mark(&name).await,
                Told::Clear => {}
                Told::Closed(code) => return (heard, code),
            }
        }
    }

    /// What the relay says, if it says it before the deadline.
    pub(crate) async fn next_until(&mut self, deadline: Instant) -> Option<Told> {
        timeout_at(deadline, self.next()).await.ok()
    }

    pub(crate) async fn hang_up(&mut self) {
        let ids = json!({"accountSid": "AC1", "callSid": "CA1"});
        self.say(&json!({"event": "stop", "streamSid": "MZ1", "stop": ids}).to_string()).await;
    }
}

/// The model's end of a session.
pub(crate) struct Model {
    socket: WebSocketStream<Stream>,
    format: Format,
    responses: u64,
}

impl Model {
    /// The model's end of a connection, whatever is asked for.
    pub(crate) async fn meet(stream: Stream) -> Self {
        let socket = within(tokio_tungstenite::accept_async(stream)).await.unwrap();
        Self { socket, format: Format::Ulaw, responses: 0 }
    }

    pub(crate) async fn say(&mut self, event: Value) {
        self.socket.send(Message::text(event.to_string())).await.unwrap();
    }

    /// The next thing that the relay says; `None` when it has closed.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return None,
                Some(other) => panic!("not what a service is told: {other:?}"),
            }
        }
    }

    /// The next thing that is not the caller's audio.
    pub(crate) async fn next_event(&mut self) -> Option<Value> {
        loop {
            match self.next().await {
                Some(event) if event["type"] == "input_audio_buffer.append" => {}
                other => return other,
            }
        }
    }

    /// Introduces the session and states it as the relay wants it.
    pub(crate) async fn settle(&mut self) {
        self.say(json!({"type": "session.created", "session": {"id": "s1"}})).await;
        let update = self.next().await.unwrap();
        assert_eq!(update["type"], "session.update", "nothing else before the session is ours");
        let session = &update["session"];
        assert_eq!(session["audio"]["input"]["format"], self.format.json());
        assert_eq!(session["audio"]["output"]["format"], self.format.json());
        self.say(json!({"type": "session.updated", "session": session})).await;
    }

    /// Hears so many bytes of the caller, as they were appended.
    pub(crate) async fn hear(&mut self, bytes: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while heard.len() < bytes {
            let event = self.next().await.unwrap();
            assert_eq!(event["type"], "input_audio_buffer.append");
            assert_eq!(event.as_object().unwrap().len(), 2, "{event}");
            heard.extend(decode(event["audio"].as_str().unwrap()));
        }
        heard
    }

    /// Begins an answer, and gives its number.
    pub(crate) async fn begin(&mut self) -> u64 {
        self.responses += 1;
        let response = json!({"id": format!("r{}", self.responses), "status": "in_progress"});
        self.say(json!({"type": "response.created", "response": response})).await;
        self.responses
    }

    pub(crate) async fn delta(&mut self, answer: u64, bytes: &[u8]) {
        // The order of fields that the service's messages have.
        let text = format!(
            r#"{{"type":"response.output_audio.delta","event_id":"e1","response_id":"r{answer}","item_id":"i{answer}","output_index":0,"content_index":0,"delta":"{}"}}"#,
            encode(bytes)
        );
        self.socket.feed(Message::text(text)).await.unwrap();
    }

    /// Ends an answer.
    pub(crate) async fn end(&mut self, answer: u64, status: &str) {
        let (response_id, item_id) = (format!("r{answer}"), format!("i{answer}"));
        self.say(json!({
            "type": "response.output_audio.done", "response_id": response_id, "item_id": item_id,
            "output_index": 0, "content_index": 0,
        }))
        .await;
        let response = json!({"id": response_id, "status": status});
        self.say(json!({"type": "response.done", "response": response})).await;
    }

    /// One whole answer, in these pieces.
    pub(crate) async fn answer<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) {
        let answer = self.begin().await;
        for piece in pieces {
            self.delta(answer, piece).await;
        }
        self.end(answer, "completed").await;
    }

    /// Closes with a code.
    pub(crate) async fn close_with(&mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.socket.close(Some(frame)).await.unwrap();
    }
}

fn encode(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    base64::encode(bytes, &mut text);
    String::from_utf8(text).unwrap()
}

fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    base64::decode(text.as_bytes(), &mut bytes).unwrap();
    bytes
}
