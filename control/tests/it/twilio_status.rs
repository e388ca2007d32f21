//! What the carrier says about calls and streams without asking.

use super::web::{ACCOUNT, Web};

fn word<'a>(call_sid: &'a str, status: &'a str, seq: &'a str) -> [(&'static str, &'a str); 5] {
    [
        ("AccountSid", ACCOUNT),
        ("CallSid", call_sid),
        ("CallStatus", status),
        ("SequenceNumber", seq),
        ("CallbackSource", "call-progress-events"),
    ]
}

#[tokio::test]
async fn the_last_word_ends_a_call_whatever_comes_after_it() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    web.begun("CA1").await;
    for (status, seq) in [("in-progress", "2"), ("ringing", "1"), ("completed", "3"), ("busy", "4")]
    {
        let (answered, body) = web.hook("/v1/twilio/status", &word("CA1", status, seq)).await;
        assert_eq!((answered, body.as_str()), (204, ""));
    }
    let call = web.call("CA1").await.unwrap();
    assert_eq!(call.end_reason.as_deref(), Some("caller_hung_up"));
    let kinds: Vec<_> = web.records(2).await.into_iter().map(|record| record.kind).collect();
    assert_eq!(kinds, ["call.started", "call.ended"]);
}

#[tokio::test]
async fn each_way_not_to_get_through_has_its_reason() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    let ways = [
        ("busy", "busy"),
        ("no-answer", "no_answer"),
        ("canceled", "canceled"),
        ("failed", "carrier_failed"),
    ];
    for (status, reason) in ways {
        let call_sid = format!("CA{reason}");
        web.begun(&call_sid).await;
        web.hook("/v1/twilio/status", &word(&call_sid, status, "1")).await;
        let call = web.call(&call_sid).await.unwrap();
        assert_eq!(call.end_reason.as_deref(), Some(reason));
    }
}

#[tokio::test]
async fn the_first_word_on_an_outbound_call_names_it() {
    let web = Web::start().await;
    let new = super::db::new_call("c_out");
    let new = control::store::call::NewCall { carrier: None, ..new };
    web.plane.store.create_call(new, control::clock::wall()).await.unwrap();
    web.hook("/v1/twilio/status?call=c_out", &word("CA1", "no-answer", "2")).await;
    let call = web.call("CA1").await.unwrap();
    assert_eq!((call.id.as_str(), call.end_reason.as_deref()), ("c_out", Some("no_answer")));
    let (status, _) = web.hook("/v1/twilio/status", &word("CA9", "completed", "1")).await;
    assert_eq!(status, 204, "a call of somebody else");
}

#[tokio::test]
async fn a_stream_that_failed_is_an_event_of_its_call() {
    let web = Web::start().await;
    let _node = web.node("fra-1", 0);
    web.begun("CA1").await;
    let mut fields = vec![
        ("AccountSid", ACCOUNT),
        ("CallSid", "CA1"),
        ("StreamSid", "MZ1"),
        ("StreamEvent", "stream-started"),
    ];
    assert_eq!(web.hook("/v1/twilio/stream", &fields).await.0, 204);
    fields[3].1 = "stream-error";
    fields.push(("StreamError", "handshake: 403"));
    assert_eq!(web.hook("/v1/twilio/stream", &fields).await.0, 204);
    let records = web.records(2).await;
    assert_eq!(records[1].kind, "stream.error");
    assert_eq!(records[1].data, r#"{"why":"handshake: 403"}"#);
}

#[tokio::test]
async fn status_hooks_are_signed_too() {
    let web = Web::start().await;
    for target in ["/v1/twilio/status", "/v1/twilio/stream", "/v1/twilio/resume/x"] {
        let response = web.http.post(web.url(target)).form(&word("CA1", "completed", "1"));
        assert_eq!(super::web::answer(response).await.0, 403, "{target}");
    }
}
