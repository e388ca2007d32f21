//! Commands to running calls, through the real routes.

use std::time::Duration;

use control::fleet::orders::Order;
use control::store::call::Call;
use link::event::{CallEvent, EndReason};
use link::id::{CommandId, Gen};
use link::message::{Command, Side};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::db::{ending, stream_ended, stream_started, transferring};
use super::web::{Web, next_command};

const SAY: &str = r#"{"do": "say", "text": "One moment, please."}"#;

async fn command(web: &Web, call: &str, body: &str) -> (u16, Value) {
    let url = web.url(&format!("/v1/calls/{call}/commands"));
    web.api(web.http.post(url).body(body.to_owned())).await
}

/// A call with a stream.
async fn active(web: &Web) -> Call {
    let (call, _) = web.begun("CA1").await;
    web.says("fra-1", 1, &call, stream_started()).await;
    call
}

/// The relay gets the next command and answers it; what it got.
async fn answered(
    web: &Web,
    orders: &mut mpsc::Receiver<Order>,
    n: u64,
    call: &Call,
    refused: Option<&str>,
) -> (CommandId, Command) {
    let Order::Do { call: told, generation, id, command } = next_command(orders).await else {
        panic!("nothing to do")
    };
    assert_eq!((told, generation), (call.id.clone(), call.generation));
    let id = id.expect("its answer is waited for");
    let done = CallEvent::CommandDone { id: id.clone(), refused: refused.map(str::to_owned) };
    web.says("fra-1", n, call, done).await;
    (id, command)
}

#[tokio::test]
async fn each_command_reaches_the_relay_and_its_answer_the_one_who_asked() {
    let web = Web::start().await;
    let (_stay, mut orders) = web.node("fra-1", 0);
    let call = active(&web).await;
    let text = |text: &str| text.to_owned();
    let mute = Command::Mute { side: Side::Caller, on: true };
    let to = link::tool::Address::new("+4930123456").unwrap();
    for (n, (body, wanted)) in (2..).zip([
        (SAY, Command::Say { text: text("One moment, please.") }),
        (r#"{"do":"inject","text":"VIP"}"#, Command::Inject { text: text("VIP") }),
        (
            r#"{"do":"instruct","instructions":"Be brief."}"#,
            Command::Instruct { instructions: text("Be brief.") },
        ),
        (r#"{"do":"mute","side":"caller","on":true}"#, mute),
        (r#"{"do":"transfer","to":"+4930123456"}"#, Command::Transfer { to }),
        (r#"{"do":"hang_up"}"#, Command::HangUp),
    ]) {
        let ((status, answer), (id, told)) = tokio::join!(
            command(&web, call.id.as_str(), body),
            answered(&web, &mut orders, n, &call, None),
        );
        assert_eq!((status, &told), (200, &wanted), "{answer}");
        assert_eq!(answer, json!({"id": id.as_str(), "done": true}));
        assert!(id.as_str().starts_with("cmd_") && id.as_str().len() == 36, "{id}");
    }
    let page = web.plane.metrics.scrape().unwrap();
    let counted = r#"control_commands_total{command="transfer",outcome="done"} 1"#;
    assert!(page.contains(counted), "{page}");
}

#[tokio::test]
async fn a_relay_that_does_not_do_it_says_why() {
    let web = Web::start().await;
    let (_stay, mut orders) = web.node("fra-1", 0);
    let call = active(&web).await;
    let why = Some("the call is ending");
    let ((status, problem), _) = tokio::join!(
        command(&web, call.id.as_str(), SAY),
        answered(&web, &mut orders, 2, &call, why),
    );
    assert_eq!((status, &problem["code"]), (409, &json!("command_refused")));
    assert!(problem["detail"].as_str().unwrap().contains("the call is ending"), "{problem}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_promised_as_an_event() {
    let web = Web::start().await;
    let (_stay, mut orders) = web.node("fra-1", 0);
    let call = active(&web).await;
    let begun = std::time::Instant::now();
    let (status, answer) = command(&web, call.id.as_str(), SAY).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "it waits");
    assert_eq!((status, &answer["done"]), (202, &Value::Null));
    assert!(answer["detail"].as_str().unwrap().contains("command.done"), "{answer}");
    let (id, _) = answered(&web, &mut orders, 2, &call, None).await;
    assert_eq!(answer["id"], id.as_str());
    let last = web.records(4).await.pop().unwrap();
    assert_eq!((last.kind.as_str(), last.data), ("command.done", format!(r#"{{"id":"{id}"}}"#)));
}

#[tokio::test]
async fn many_commands_at_once_get_each_its_own_answer() {
    let web = Web::start().await;
    let (_stay, mut orders) = web.node("fra-1", 0);
    let call = active(&web).await;
    let asked = (0..20).map(|n| {
        let (web, id) = (&web, call.id.as_str());
        async move { command(web, id, &format!(r#"{{"do":"say","text":"number {n}"}}"#)).await }
    });
    let relay = async {
        let mut refused = Vec::new();
        for n in 2..22 {
            // Every third one, by its text, so that answers can be told apart.
            let order = next_command(&mut orders).await;
            let Order::Do { id: Some(id), command: Command::Say { text }, .. } = order else {
                panic!("nothing to say")
            };
            let number: u32 = text.strip_prefix("number ").unwrap().parse().unwrap();
            let why = number.is_multiple_of(3).then(|| format!("no {text}"));
            refused.extend(why.clone());
            web.says("fra-1", n, &call, CallEvent::CommandDone { id, refused: why }).await;
        }
        refused.len()
    };
    let (answers, refused) = tokio::join!(futures_util::future::join_all(asked), relay);
    for (n, (status, answer)) in answers.iter().enumerate() {
        let expected = if n.is_multiple_of(3) { 409 } else { 200 };
        assert_eq!(*status, expected, "{n}: {answer}");
        if n.is_multiple_of(3) {
            let detail = answer["detail"].as_str().unwrap();
            assert!(detail.ends_with(&format!("no number {n}.")), "{detail}");
        }
    }
    assert_eq!(refused, 7);
}

#[tokio::test]
async fn only_a_call_with_a_stream_takes_commands() {
    let web = Web::start().await;
    let (_stay, mut orders) = web.node("fra-1", 0);
    let refused = async |id: &str| {
        let (status, problem) = command(&web, id, SAY).await;
        (status, problem["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused("c_none").await, (404, "call_not_found".into()));
    assert_eq!(refused("a%20b").await, (404, "call_not_found".into()));
    let (starting, _) = web.begun("CA1").await;
    let id = starting.id.as_str();
    assert_eq!(refused(id).await, (409, "call_without_stream".into()));
    web.says("fra-1", 1, &starting, stream_started()).await;
    web.says("fra-1", 2, &starting, stream_ended(EndReason::CallerLost)).await;
    assert_eq!(refused(id).await, (409, "call_without_stream".into()));
    web.says("fra-1", 3, &starting, transferring("+15550177")).await;
    assert_eq!(refused(id).await, (409, "call_transferred".into()));
    let (ended, _) = web.begun("CA2").await;
    web.says("fra-1", 4, &ended, stream_started()).await;
    web.says("fra-1", 5, &ended, ending(EndReason::AgentHungUp)).await;
    assert_eq!(refused(ended.id.as_str()).await, (409, "call_ended".into()));
    while let Ok(order) = orders.try_recv() {
        let is_no_command = matches!(order, Order::Announce(_) | Order::Agent(_));
        assert!(is_no_command, "a call without a stream was told: {order:?}");
    }
}

#[tokio::test]
async fn a_command_goes_to_the_stream_that_carries_the_call_now() {
    let web = Web::start().await;
    let (old, _orders) = web.node("fra-1", 0);
    let (call, target) = web.begun("CA1").await;
    web.says("fra-1", 1, &call, stream_started()).await;
    old.set_load(link::message::Load {
        calls: 0,
        calls_max: 10,
        ready: false,
        ..Default::default()
    });
    let (_stay, mut orders) = web.node("fra-2", 0);
    web.hook(&target, &super::web::inbound("CA1")).await;
    let call = web.call_by_id(call.id.as_str()).await;
    assert_eq!(call.generation, Gen(1));
    web.says("fra-2", 1, &call, stream_started()).await;
    let asked = command(&web, call.id.as_str(), SAY);
    let told = async {
        // An answer of another call's stream, or to something else, is not this one's.
        let Order::Do { id: Some(id), generation, .. } = next_command(&mut orders).await else {
            panic!("nothing to do")
        };
        assert_eq!(generation, Gen(1));
        let other = CommandId::new("cmd_other").unwrap();
        let stray = CallEvent::CommandDone { id: other, refused: Some("stray".into()) };
        web.says("fra-2", 2, &call, stray).await;
        web.says("fra-2", 3, &call, CallEvent::CommandDone { id, refused: None }).await;
    };
    let ((status, answer), ()) = tokio::join!(asked, told);
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_node_that_cannot_be_told_is_a_problem_at_once() {
    let web = Web::start().await;
    let (stay, orders) = web.node("fra-1", 0);
    let call = active(&web).await;
    drop(orders);
    let (status, problem) = command(&web, call.id.as_str(), SAY).await;
    assert_eq!((status, &problem["code"]), (503, &json!("node_unreachable")));
    drop(stay);
    let (status, problem) = command(&web, call.id.as_str(), SAY).await;
    assert_eq!((status, &problem["code"]), (503, &json!("node_unreachable")));
    let page = web.plane.metrics.scrape().unwrap();
    assert!(page.contains(r#"control_commands_total{command="say",outcome="unsent"} 2"#), "{page}");
}

#[tokio::test]
async fn a_command_that_is_wrong_is_refused_before_anything_is_looked_up_or_sent() {
    let web = Web::start().await;
    let (_stay, mut orders) = web.node("fra-1", 0);
    let call = active(&web).await;
    let long = format!(r#"{{"do":"say","text":"{}"}}"#, "x".repeat(9_000));
    for (body, status, code) in [
        ("say hello", 400, "body_malformed"),
        (r#"{"do":"sing"}"#, 422, "command_unknown"),
        (r#"{"do":"say","txt":"hello"}"#, 422, "command_malformed"),
        (r#"{"do":"say","text":""}"#, 422, "text_empty"),
        (&long, 422, "text_too_long"),
        (r#"{"do":"transfer","to":"tel:+15550177"}"#, 422, "address_malformed"),
    ] {
        let (answered, problem) = command(&web, call.id.as_str(), body).await;
        assert_eq!((answered, problem["code"].as_str()), (status, Some(code)), "{body:.40}");
        assert!(!problem["detail"].as_str().unwrap().contains("555"), "{problem}");
    }
    let huge = format!(r#"{{"do":"say","text":"{}"}}"#, "x".repeat(70_000));
    let (answered, problem) = command(&web, call.id.as_str(), &huge).await;
    assert_eq!((answered, problem["code"].as_str()), (413, Some("body_too_long")));
    while let Ok(order) = orders.try_recv() {
        assert!(matches!(order, Order::Announce(_) | Order::Agent(_)), "{order:?}");
    }
}
