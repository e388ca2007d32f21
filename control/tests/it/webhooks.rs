//! Webhooks: made with a key, told in order and signed, tried again, given up, and never told to an
//! inner address.

use base64_simd::STANDARD;
use control::events::Seq;
use control::store::call::Call;
use hmac::{Hmac, KeyInit as _, Mac as _};
use link::event::CallEvent;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::db::{fresh_call, in_time, tenant};
use super::web::Web;

/// A customer's server: says what a test lets it say, and shows what it got.
struct Receiver {
    url: String,
    status: watch::Sender<u16>,
    messages: mpsc::Receiver<Message>,
}

/// One message, as it came.
#[derive(Debug)]
struct Message {
    head: String,
    body: String,
    answered: u16,
}

impl Message {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    /// The places of its records.
    fn places(&self) -> Vec<u64> {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        let events = body["events"].as_array().unwrap();
        events.iter().map(|event| event["seq"].as_u64().unwrap()).collect()
    }
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (status, answers) = watch::channel(204);
        let (got, messages) = mpsc::channel(1_000);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(tcp, answers.clone(), got.clone()));
            }
        });
        Self { url, status, messages }
    }

    async fn next(&mut self) -> Message {
        self.messages.recv().await.unwrap()
    }
}

async fn serve(mut tcp: TcpStream, answers: watch::Receiver<u16>, got: mpsc::Sender<Message>) {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 65_536];
        let Ok(read @ 1..) = tcp.read(&mut piece).await else { return };
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase();
        let (_, length) = length.split_once("content-length: ").unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if body.len() < length {
            continue;
        }
        let answered = *answers.borrow();
        let answer = format!("HTTP/1.1 {answered} X\r\ncontent-length: 0\r\n\r\n");
        let message = Message { head: head.to_owned(), body: body.to_owned(), answered };
        got.send(message).await.ok();
        bytes.clear();
        if tcp.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn make(web: &Web, wish: &Value) -> (u16, Value) {
    web.api(web.http.post(web.url("/v1/webhooks")).body(wish.to_string())).await
}

async fn show(web: &Web, id: &str) -> Value {
    web.api(web.http.get(web.url(&format!("/v1/webhooks/{id}")))).await.1
}

fn digit(digit: char) -> CallEvent {
    CallEvent::Dtmf { digit }
}

/// Lets a relay say so many things about a call, from a number on.
async fn press(web: &Web, call: &Call, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        web.says("n1", n, call, digit('5')).await;
    }
}

#[tokio::test]
async fn events_are_told_in_order_signed_and_once() {
    in_time(async {
        let web = Web::start().await;
        let call = fresh_call(&web.plane.store, "c_1").await;
        press(&web, &call, 1..=3).await;
        let mut receiver = Receiver::start().await;
        let (status, made) = make(&web, &json!({"url": receiver.url})).await;
        assert_eq!((status, made["after"].as_u64()), (201, Some(3)), "{made}");
        let secret = made["secret"].as_str().unwrap().to_owned();
        press(&web, &call, 4..=60).await;
        let mut places = Vec::new();
        while places.len() < 57 {
            let message = receiver.next().await;
            assert_eq!(message.header("content-type"), "application/json");
            let (id, at) = (message.header("webhook-id"), message.header("webhook-timestamp"));
            let key = STANDARD.decode_to_vec(secret.strip_prefix("whsec_").unwrap()).unwrap();
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(format!("{id}.{at}.{}", message.body).as_bytes());
            let signature = STANDARD.encode_to_string(mac.finalize().into_bytes());
            assert_eq!(message.header("webhook-signature"), format!("v1,{signature}"));
            places.extend(message.places());
        }
        assert_eq!(places, (4..=60).collect::<Vec<_>>());
        let shown = show(&web, made["id"].as_str().unwrap()).await;
        assert!(shown.get("secret").is_none(), "it is shown once");
    })
    .await;
}

#[tokio::test]
async fn only_the_types_that_are_wanted_are_told() {
    in_time(async {
        let web = Web::start().await;
        let call = fresh_call(&web.plane.store, "c_1").await;
        let mut receiver = Receiver::start().await;
        let wish = json!({"url": receiver.url, "types": ["stream.refused"]});
        assert_eq!(make(&web, &wish).await.0, 201);
        press(&web, &call, 1..=300).await;
        web.says("n1", 301, &call, CallEvent::StreamRefused { why: "x".into() }).await;
        assert_eq!(receiver.next().await.places(), [301]);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_taken_is_tried_again_and_then_in_order() {
    in_time(async {
        let web = Web::start().await;
        let call = fresh_call(&web.plane.store, "c_1").await;
        let mut receiver = Receiver::start().await;
        receiver.status.send_replace(500);
        let (_, made) = make(&web, &json!({"url": receiver.url})).await;
        let id = made["id"].as_str().unwrap();
        press(&web, &call, 1..=2).await;
        let first = receiver.next().await;
        assert_eq!((first.answered, first.places()[0]), (500, 1));
        let failing = async {
            loop {
                let shown = show(&web, id).await;
                if shown["attempts"] == 1 {
                    return shown;
                }
            }
        };
        let shown = failing.await;
        assert_eq!(shown["problem"], "the receiver answered 500; a 2xx takes a message");
        assert!(shown["next_attempt_at"].is_string());
        receiver.status.send_replace(200);
        press(&web, &call, 3..=3).await;
        let mut places = Vec::new();
        while places.last() != Some(&3) {
            let message = receiver.next().await;
            if message.answered == 200 {
                places.extend(message.places());
            }
        }
        assert_eq!(places, [1, 2, 3]);
    })
    .await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_told_no_more() {
    in_time(async {
        let web = Web::start().await;
        let call = fresh_call(&web.plane.store, "c_1").await;
        let mut receiver = Receiver::start().await;
        receiver.status.send_replace(410);
        let (_, made) = make(&web, &json!({"url": receiver.url})).await;
        press(&web, &call, 1..=1).await;
        receiver.next().await;
        let id = made["id"].as_str().unwrap();
        while show(&web, id).await["disabled_at"].is_null() {}
        let path = format!("/v1/webhooks/{id}");
        let (status, _) = web.api(web.http.delete(web.url(&path))).await;
        assert_eq!(status, 200);
        let (status, problem) = web.api(web.http.delete(web.url(&path))).await;
        assert_eq!((status, &problem["code"]), (404, &json!("webhook_not_found")));
    })
    .await;
}

#[tokio::test]
async fn what_is_given_up_is_shown_and_the_rest_goes_on() {
    in_time(async {
        let web = Web::start().await;
        let call = fresh_call(&web.plane.store, "c_1").await;
        let mut receiver = Receiver::start().await;
        receiver.status.send_replace(500);
        let (_, made) = make(&web, &json!({"url": receiver.url})).await;
        let id = made["id"].as_str().unwrap();
        press(&web, &call, 1..=1).await;
        receiver.next().await;
        while show(&web, id).await["attempts"] != 1 {}
        // As if it had been tried for a day.
        web.change("UPDATE webhooks SET attempts = 10, due_us = 0").await;
        let path = format!("/v1/webhooks/{id}/dead_letters");
        let letters = loop {
            let (status, shown) = web.api(web.http.get(web.url(&path))).await;
            assert_eq!(status, 200);
            let letters = shown["dead_letters"].as_array().unwrap().clone();
            if !letters.is_empty() {
                break letters;
            }
        };
        assert_eq!((&letters[0]["first"], &letters[0]["last"]), (&json!(1), &json!(1)));
        assert_eq!(letters[0]["attempts"], 11);
        receiver.status.send_replace(200);
        press(&web, &call, 2..=2).await;
        let told = loop {
            let message = receiver.next().await;
            if message.answered == 200 {
                break message.places();
            }
        };
        assert_eq!(told, [2]);
        // It is still where all events are.
        let records = web.plane.store.events_after(&tenant(), Seq(0), None, 10).await.unwrap();
        assert_eq!(records.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_wish_that_cannot_be_is_refused_with_its_field() {
    let web = Web::start().await;
    let types = vec!["turn"; 33];
    for (wish, status, code) in [
        (json!({}), 400, "body_malformed"),
        (json!({"url": "https://a.example/", "typs": []}), 400, "body_malformed"),
        (json!({"url": "http://a.example/"}), 422, "url_refused"),
        (json!({"url": "https://10.0.0.1/"}), 422, "url_refused"),
        (json!({"url": "https://[fd00::1]/"}), 422, "url_refused"),
        (json!({"url": "https://a.example/", "types": ["no type"]}), 422, "types_malformed"),
        (json!({"url": "https://a.example/", "types": types}), 422, "types_malformed"),
    ] {
        let (got, problem) = make(&web, &wish).await;
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{wish}");
    }
    for n in 0..16 {
        assert_eq!(make(&web, &json!({"url": format!("https://a.example/{n}")})).await.0, 201);
    }
    let (status, problem) = make(&web, &json!({"url": "https://a.example/"})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("webhooks_too_many")));
    let (status, listed) = web.api(web.http.get(web.url("/v1/webhooks"))).await;
    assert_eq!((status, listed["webhooks"].as_array().unwrap().len()), (200, 16));
    for path in ["/v1/webhooks/wh_none", "/v1/webhooks/wh_none/dead_letters"] {
        assert_eq!(web.api(web.http.get(web.url(path))).await.0, 404, "{path}");
    }
}
