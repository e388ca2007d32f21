//! The fake model over real sockets: who is let in, and what goes wrong on purpose.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::*;

type Socket = WebSocketStream<TcpStream>;

async fn model(fault: Fault) -> FakeModel {
    FakeModel::start(ModelSettings { fault, ..ModelSettings::default() }).await.unwrap()
}

async fn dial(
    model: &FakeModel,
    query: &str,
    headers: &[(&'static str, &str)],
) -> Result<Socket, u16> {
    let url = format!("{}{query}", model.url());
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let address = model.url().split('/').nth(2).unwrap().to_owned();
    let stream = TcpStream::connect(address).await.unwrap();
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

const KEY: (&str, &str) = ("authorization", "Bearer sk-x");

async fn connect(model: &FakeModel) -> Socket {
    dial(model, "?model=gpt-realtime-2.1", &[KEY]).await.unwrap()
}

/// The next event, or the code of the close.
async fn next(socket: &mut Socket) -> Result<Value, u16> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                return Ok(serde_json::from_str(text.as_str()).unwrap());
            }
            Some(Ok(Message::Close(frame))) => {
                return Err(frame.map_or(1005, |frame| frame.code.into()));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(1006),
        }
    }
}

async fn configure(socket: &mut Socket) {
    assert_eq!(next(socket).await.unwrap()["type"], "session.created");
    let format = json!({"type": "audio/pcmu"});
    let update = json!({"type": "session.update", "session": {"type": "realtime",
        "audio": {"input": {"format": format}, "output": {"format": format}}}});
    socket.send(Message::text(update.to_string())).await.unwrap();
    assert_eq!(next(socket).await.unwrap()["type"], "session.updated");
}

#[tokio::test]
async fn only_a_key_and_a_model_open_the_door() {
    let model = model(Fault::None).await;
    assert_eq!(dial(&model, "?model=x", &[]).await.err(), Some(401));
    assert_eq!(dial(&model, "?model=x", &[("authorization", "Bearer ")]).await.err(), Some(401));
    assert_eq!(dial(&model, "?model=x", &[("authorization", "Basic x")]).await.err(), Some(401));
    assert_eq!(dial(&model, "", &[KEY]).await.err(), Some(400));
    assert_eq!(dial(&model, "?model=", &[KEY]).await.err(), Some(400));
    assert_eq!(model.summary().complaints.len(), 5);
    let mut socket = connect(&model).await;
    let created = next(&mut socket).await.unwrap();
    assert_eq!(created["session"]["model"], "gpt-realtime-2.1");
    assert_eq!(model.summary().sessions, 1);
}

#[tokio::test]
async fn a_client_of_the_beta_is_told_and_closed() {
    let model = model(Fault::None).await;
    let headers = [KEY, ("openai-beta", "realtime=v1")];
    let mut socket = dial(&model, "?model=x", &headers).await.unwrap();
    let event = next(&mut socket).await.unwrap();
    assert_eq!(event["error"]["code"], "beta_api_shape_disabled");
    assert_eq!(next(&mut socket).await, Err(1008));
    assert_eq!(model.summary().complaints[0].code, "beta_api_shape_disabled");
}

#[tokio::test]
async fn a_binary_frame_is_an_error_and_a_complaint() {
    let model = model(Fault::None).await;
    let mut socket = connect(&model).await;
    configure(&mut socket).await;
    socket.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap()["error"]["code"], "invalid_event");
    assert_eq!(model.summary().complaints[0].event, "(binary)");
}

#[tokio::test]
async fn a_wanted_refusal_is_no_complaint() {
    let model = model(Fault::RefuseUpgrade).await;
    assert_eq!(dial(&model, "?model=x", &[KEY]).await.err(), Some(401));
    assert_eq!(model.summary(), Summary::default());
}

#[tokio::test]
async fn an_exhausted_quota_is_said_after_the_upgrade() {
    let model = model(Fault::Quota).await;
    let mut socket = connect(&model).await;
    assert_eq!(next(&mut socket).await.unwrap()["error"]["code"], "insufficient_quota");
    assert_eq!(next(&mut socket).await, Err(1008));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_leaves_closes_or_vanishes() {
    for (fault, code) in [(Fault::CloseMidCall, 1011), (Fault::Vanish, 1006)] {
        let model = model(fault).await;
        let mut socket = connect(&model).await;
        configure(&mut socket).await;
        assert_eq!(next(&mut socket).await, Err(code), "{fault:?}");
    }
}

#[tokio::test]
async fn a_ping_is_answered() {
    let model = model(Fault::None).await;
    let mut socket = connect(&model).await;
    configure(&mut socket).await;
    socket.send(Message::Ping(vec![7].into())).await.unwrap();
    loop {
        if let Message::Pong(payload) = socket.next().await.unwrap().unwrap() {
            assert_eq!(payload.as_ref(), [7]);
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_expires_at_its_limit() {
    let session_limit = Some(Duration::from_secs(9));
    let settings = ModelSettings { session_limit, ..ModelSettings::default() };
    let model = FakeModel::start(settings).await.unwrap();
    let mut socket = connect(&model).await;
    configure(&mut socket).await;
    assert_eq!(next(&mut socket).await.unwrap()["error"]["code"], "session_expired");
    assert_eq!(next(&mut socket).await, Err(1001));
    assert_eq!(model.summary().expired, 1);
}

#[tokio::test]
async fn a_session_is_ended_on_demand_and_written_down() {
    for (how, code) in
        [(Leave::Reset, 1006), (Leave::Close(1013), 1013), (Leave::Close(1001), 1001)]
    {
        let model = model(Fault::None).await;
        let mut socket = connect(&model).await;
        configure(&mut socket).await;
        let record = model.sessions().remove(0);
        assert!(record.configured_at_us.is_some() && record.end.is_none());
        assert_eq!(record.peer, socket.get_ref().local_addr().unwrap().to_string());
        assert!(model.end(&record.id, how));
        assert_eq!(next(&mut socket).await, Err(code));
        drop(socket);
        while model.summary().open > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(model.sessions()[0].end, Some(SessionEnd::Left));
        assert!(!model.end(&record.id, how));
    }
}

#[tokio::test]
async fn a_client_that_closes_is_written_down() {
    let model = model(Fault::None).await;
    let mut socket = connect(&model).await;
    configure(&mut socket).await;
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    while model.sessions()[0].end.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(model.sessions()[0].end, Some(SessionEnd::Closed(1005)));
}

#[tokio::test]
async fn whoever_is_away_lets_nobody_in() {
    let model = model(Fault::None).await;
    model.go_away(Duration::from_secs(60));
    assert_eq!(dial(&model, "?model=x", &[KEY]).await.err(), Some(503));
    model.go_away(Duration::ZERO);
    assert!(dial(&model, "?model=x", &[KEY]).await.is_ok());
}

#[tokio::test]
async fn what_was_on_the_wire_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("openai.jsonl");
    let settings = ModelSettings { capture: Some(path.clone()), ..ModelSettings::default() };
    let model = FakeModel::start(settings).await.unwrap();
    configure(&mut connect(&model).await).await;
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let who: Vec<_> = lines.iter().map(|line| line["from"].as_str().unwrap()).collect();
    assert_eq!(who, ["server", "client", "server"]);
    assert_eq!(lines[1]["event"]["type"], "session.update");
    assert_eq!(lines[1]["provider"], "openai");
}
