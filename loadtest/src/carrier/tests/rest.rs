//! The fake Twilio's REST API, and the calls that it makes.

use http::Method;

use super::*;

async fn rest(world: &World, method: Method, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let key = format!("{}:fake-twilio-auth-token", CarrierSettings::default().account);
    rest_as(world, &key, method, path, form).await
}

async fn rest_as(
    world: &World,
    key: &str,
    method: Method,
    path: &str,
    form: &[(&str, &str)],
) -> (u16, Value) {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let account = CarrierSettings::default().account;
    let request = http::Request::builder()
        .method(method)
        .uri(format!("/2010-04-01/Accounts/{account}/{path}"))
        .header("host", "api.twilio.com")
        .header("authorization", format!("Basic {}", base64_simd::STANDARD.encode_to_string(key)))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(http_body_util::Full::new(Bytes::from(body)))
        .unwrap();
    let stream = tokio::net::TcpStream::connect(world.twilio.address()).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

const NUMBERS: [(&str, &str); 2] = [("To", "+15551230002"), ("From", "+15551230001")];

#[tokio::test]
async fn a_call_is_dialled_by_rest_and_reported_as_asked() {
    let world = world(vec![document("<Hangup/>")], vanishes).await;
    let form = [
        &NUMBERS[..],
        &[
            ("Url", "https://linecard.test/voice"),
            ("StatusCallback", "https://linecard.test/status"),
        ],
        &["initiated", "ringing", "answered", "completed"].map(|e| ("StatusCallbackEvent", e)),
    ]
    .concat();
    let (status, call) = rest(&world, Method::POST, "Calls.json", &form).await;
    assert_eq!(
        (status, &call["status"], &call["queue_time"]),
        (201, &json!("queued"), &json!("0"))
    );
    let record = world.twilio.over(call["sid"].as_str().unwrap()).await.unwrap();
    assert_eq!(record.faults, []);
    let mut reported: Vec<_> = record
        .hooks
        .iter()
        .filter(|hook| hook.url.ends_with("/status"))
        .map(|hook| (hook.param("SequenceNumber").unwrap(), hook.param("CallStatus").unwrap()))
        .collect();
    reported.sort_unstable();
    let wanted = [("0", "initiated"), ("1", "ringing"), ("2", "in-progress"), ("3", "completed")];
    assert_eq!(reported, wanted);
    let path = format!("Calls/{}.json", record.sid);
    let (status, call) = rest(&world, Method::GET, &path, &[]).await;
    assert_eq!((status, &call["status"]), (200, &json!("completed")));
}

fn dialled<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let form = [&NUMBERS[..], &[("Url", "https://linecard.test/voice")], more];
    form.concat()
}

#[tokio::test]
async fn whims_come_in_order_and_only_a_made_call_is_listed() {
    let world = world(vec![document("<Hangup/>"), document("<Hangup/>")], vanishes).await;
    world.twilio.plan([Whim::Throttled, Whim::RequestLost, Whim::AnswerLost, Whim::Busy]);
    for (status, code) in [(429, 20429), (500, 20500), (500, 20500)] {
        let (answered, error) = rest(&world, Method::POST, "Calls.json", &dialled(&[])).await;
        assert_eq!((answered, &error["code"]), (status, &json!(code)));
    }
    let (status, busy) = rest(&world, Method::POST, "Calls.json", &dialled(&[])).await;
    assert_eq!(status, 201);
    let busy = busy["sid"].as_str().unwrap();
    assert_eq!(world.twilio.over(busy).await.unwrap().status, "busy");
    let (_, other) = rest(
        &world,
        Method::POST,
        "Calls.json",
        &[("To", "+15551230009"), NUMBERS[1], ("Url", "https://linecard.test/voice")],
    )
    .await;
    world.twilio.over(other["sid"].as_str().unwrap()).await.unwrap();
    // The one whose answer was lost is there, behind the newer one; to another number is another.
    let path = "Calls.json?To=%2B15551230002&From=%2B15551230001&PageSize=50";
    let (status, page) = rest(&world, Method::GET, path, &[]).await;
    assert_eq!(status, 200);
    let calls = page["calls"].as_array().unwrap();
    assert_eq!((calls.len(), calls[0]["sid"].as_str()), (2, Some(busy)));
    let (_, page) = rest(&world, Method::GET, "Calls.json?Status=busy&PageSize=1", &[]).await;
    assert_eq!(page["calls"].as_array().unwrap().len(), 1);
    let (status, _) = rest(&world, Method::GET, "Calls.json?StartTime=2026-11-28", &[]).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn who_has_picked_up_is_said_beside_the_call() {
    let world = world(vec![document("<Pause length=\"1\"/>")], vanishes).await;
    let machine = [
        ("MachineDetection", "Enable"),
        ("AsyncAmd", "true"),
        ("AsyncAmdStatusCallback", "https://linecard.test/status?machine=1"),
    ];
    let (_, call) = rest(&world, Method::POST, "Calls.json", &dialled(&machine)).await;
    let record = world.twilio.over(call["sid"].as_str().unwrap()).await.unwrap();
    assert_eq!(record.faults, []);
    let said: Vec<_> = record.hooks.iter().filter_map(|hook| hook.param("AnsweredBy")).collect();
    assert_eq!(said, ["human"]);
    let (status, _) = rest(&world, Method::POST, "Calls.json", &dialled(&machine[..1])).await;
    assert_eq!(status, 400);
    let (_, silent) = rest(&world, Method::POST, "Calls.json", &dialled(&machine[..2])).await;
    let record = world.twilio.over(silent["sid"].as_str().unwrap()).await.unwrap();
    assert_eq!(record.faults[0].code, 21262);
}

#[tokio::test]
async fn rest_refuses_with_twilios_codes() {
    let world = world(Vec::new(), vanishes).await;
    let url = ("Url", "https://linecard.test/voice");
    for (form, code) in [
        (vec![NUMBERS[1], url], 21201),
        (vec![NUMBERS[0], url], 21213),
        (vec![("To", "12"), NUMBERS[1], url], 21211),
        (vec![NUMBERS[0], ("From", "Bob"), url], 21212),
        (NUMBERS.to_vec(), 21205),
        (vec![NUMBERS[0], NUMBERS[1], ("Url", "/voice")], 21205),
        (vec![NUMBERS[0], NUMBERS[1], url, ("Twiml", "<Response/>")], 20001),
    ] {
        let (status, error) = rest(&world, Method::POST, "Calls.json", &form).await;
        assert_eq!((status, &error["code"]), (400, &json!(code)), "{form:?}");
    }
    let (status, error) = rest_as(&world, "AC:x", Method::GET, "Calls.json", &[]).await;
    assert_eq!((status, &error["code"]), (401, &json!(20003)));
    let (status, error) = rest(&world, Method::GET, "Calls/CA0.json", &[]).await;
    assert_eq!((status, &error["code"]), (404, &json!(20404)));
}

#[tokio::test]
async fn events_in_one_text_make_a_call_without_callbacks() {
    let world = world(vec![document("<Hangup/>")], vanishes).await;
    let form = [
        &NUMBERS[..],
        &[
            ("Url", "https://linecard.test/voice"),
            ("StatusCallback", "https://linecard.test/status"),
        ],
        &[("StatusCallbackEvent", "initiated ringing")],
    ]
    .concat();
    let (status, call) = rest(&world, Method::POST, "Calls.json", &form).await;
    assert_eq!(status, 201);
    let record = world.twilio.over(call["sid"].as_str().unwrap()).await.unwrap();
    assert_eq!(record.faults[0].code, 21626);
    assert!(!record.hooks.iter().any(|hook| hook.url.ends_with("/status")));
}

#[tokio::test]
async fn a_live_call_is_ended_or_moved_by_rest_and_a_dead_one_is_not() {
    let world = world(vec![document(CONNECT)], listens).await;
    let sid = world.twilio.call(order(Vec::new())).unwrap();
    let path = format!("Calls/{sid}.json");
    let opened =
        |record: &CallRecord| record.what().any(|w| matches!(w, What::StreamOpened { .. }));
    world.twilio.until(&sid, opened).await;
    let moved = [("Twiml", "<Response><Dial>+15550001111</Dial></Response>")];
    assert_eq!(rest(&world, Method::POST, &path, &moved).await.0, 200);
    let record = world.twilio.over(&sid).await.unwrap();
    assert_eq!(record.streams[0].end, Some(StreamEnd::Replaced));
    assert!(record.what().any(|what| *what == What::Dialled { to: "+15550001111".into() }));
    assert!(!record.hooks.iter().any(|hook| hook.url.ends_with("/resume")));
    let (status, error) = rest(&world, Method::POST, &path, &[("Status", "completed")]).await;
    assert_eq!((status, &error["code"]), (400, &json!(21220)));
}
