//! Server-sent events over HTTP.

use link::event::{
    CallEvent, EndReason, Replaced, ReplacedBecause, ToolIntent, ToolOutcome, ToolUse,
};
use link::id::CommandId;
use reqwest::Response;
use serde_json::{Value, json};

use super::db::{ending, stream_started};
use super::web::{API_KEY, Web};

/// Reads messages of an event stream.
pub(crate) struct Reader {
    response: Response,
    text: String,
}

impl Reader {
    pub(crate) async fn open(web: &Web, target: &str, last: Option<&str>) -> Self {
        let mut request = web.http.get(web.url(target)).bearer_auth(API_KEY);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        let mut reader = Self { response, text: String::new() };
        assert!(reader.message().await.unwrap().contains("retry:1000"));
        reader
    }

    /// The next message; `None` at the end.
    pub(crate) async fn message(&mut self) -> Option<String> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let (message, rest) = (message.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(message);
            }
            let piece = self.response.chunk().await.unwrap()?;
            self.text += std::str::from_utf8(&piece).unwrap();
        }
    }

    /// The next event's id, type and data.
    pub(crate) async fn event(&mut self) -> (u64, String, Value) {
        let message = self.message().await.unwrap();
        let line = |name: &str| {
            let line = message.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {message}")).trim().to_owned()
        };
        let data = serde_json::from_str(&line("data:")).unwrap();
        (line("id:").parse().unwrap(), line("event:"), data)
    }
}

#[tokio::test]
async fn events_arrive_with_ids_and_a_client_that_comes_back_misses_nothing() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let mut live = Reader::open(&web, "/v1/events", None).await;
    let (first, target) = web.begun("CA1").await;
    let (id, kind, data) = live.event().await;
    assert_eq!((id, kind.as_str()), (1, "call.started"));
    assert_eq!((&data["seq"], &data["type"]), (&1.into(), &"call.started".into()));
    assert_eq!((&data["call"], &data["generation"]), (&first.id.as_str().into(), &0.into()));
    assert_eq!(data["data"]["agent"], "front-desk");
    drop(live);

    let mut fields = super::web::inbound("CA1");
    fields[3].1 = "completed";
    web.hook(&target, &fields).await;
    web.begun("CA2").await;
    web.records(3).await;
    let mut back = Reader::open(&web, "/v1/events", Some("1")).await;
    let (id, kind, data) = back.event().await;
    assert_eq!((id, kind.as_str()), (2, "call.ended"));
    assert_eq!(data["data"]["reason"], "caller_hung_up");
    assert_eq!(back.event().await.0, 3);

    let mut by_address = Reader::open(&web, "/v1/events?after=2", None).await;
    assert_eq!(by_address.event().await.0, 3);
    let one = format!("/v1/events?after=0&call={}", first.id);
    let mut one_call = Reader::open(&web, &one, None).await;
    assert_eq!((one_call.event().await.0, one_call.event().await.0), (1, 2));
}

#[tokio::test]
async fn a_stop_ends_event_streams_with_a_word() {
    let web = Web::start().await;
    let mut live = Reader::open(&web, "/v1/events", None).await;
    web.plane.shutdown.cancel();
    assert!(live.message().await.unwrap().contains("this server stops"));
    assert_eq!(live.message().await, None);
}

#[tokio::test]
async fn an_id_that_is_none_is_a_problem() {
    let web = Web::start().await;
    for (target, code) in
        [("/v1/events?call=c_none", "call_not_found"), ("/v1/events?run=run_none", "run_not_found")]
    {
        let (status, problem) = web.get(target).await;
        assert_eq!((status, problem["code"].as_str()), (404, Some(code)), "{target}");
    }
    let request = web.http.get(web.url("/v1/events")).header("Last-Event-ID", "yesterday");
    let (status, problem) = web.api(request).await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("event_id_malformed")));
    let (status, problem) = web.get("/v1/events?ephemeral=perhaps").await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("ephemeral_malformed")));
}

#[tokio::test]
async fn what_happens_in_a_call_is_shown_under_its_own_names() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let (call, _) = web.begun("CA1").await;
    let mut live = Reader::open(&web, "/v1/events?after=0", None).await;
    assert_eq!(live.event().await.1, "call.started");
    let happened = [
        stream_started(),
        CallEvent::Dtmf { digit: '*' },
        CallEvent::ToolIntended(ToolIntent { name: "find_slot".into(), request: "call_1".into() }),
        CallEvent::Tool(ToolUse {
            name: "find_slot".into(),
            request: "call_1".into(),
            outcome: ToolOutcome::Done,
            after_ms: 340,
        }),
        CallEvent::AgentReplaced(Replaced {
            because: ReplacedBecause::Lost,
            gap_ms: 820,
            turns: 4,
            detail: Some("closed with 1011".into()),
        }),
        CallEvent::CommandDone { id: CommandId::new("cmd_1").unwrap(), refused: None },
        ending(EndReason::AgentFailed),
    ];
    for (n, event) in (1..).zip(happened) {
        web.says("fra-1", n, &call, event).await;
    }
    let shown = [
        ("call.answered", json!({})),
        ("stream.started", json!({"stream_sid": "MZ1"})),
        ("dtmf", json!({"digit": "*"})),
        ("tool.intended", json!({"name": "find_slot", "request": "call_1"})),
        (
            "tool",
            json!({"name": "find_slot", "request": "call_1", "outcome": "done", "after_ms": 340}),
        ),
        (
            "agent.replaced",
            json!({"because": "lost", "gap_ms": 820, "turns": 4, "detail": "closed with 1011"}),
        ),
        ("command.done", json!({"id": "cmd_1"})),
        (
            "call.ended",
            json!({"reason": "agent_failed", "blame": "provider", "detail": "nul  inside"}),
        ),
    ];
    for (name, data) in shown {
        let (_, kind, record) = live.event().await;
        assert_eq!((kind.as_str(), &record["type"]), (name, &json!(name)));
        assert_eq!((&record["data"], &record["call"]), (&data, &json!(call.id.as_str())));
    }
}
