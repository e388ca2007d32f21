//! The dialler against a fake Twilio that refuses, loses answers, and calls back.

use std::sync::Arc;
use std::time::Duration;

use control::config::Account;
use control::dialer::plan::Plan;
use control::fleet::nodes::Stay;
use control::fleet::orders::Order;
use control::store::call::{CarrierIds, Direction, NewCall, Number};
use control::store::dials::{DialState, NewDial};
use control::store::{Pacing, Store};
use control::twilio::rest::{Placing, Rest};
use futures_util::future::join_all;
use link::id::{CallId, WallTime};
use link::secret::Secret;
use loadtest::carrier::{CallRecord, CarrierSettings, FakeTwilio, What, Whim};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::db::{in_time, key, new_call, tenant};
use super::web::{ACCOUNT, ORIGIN, TOKEN, Web, quick};

/// A control plane and the carrier that it calls with. No node takes calls: whoever picks up hears
/// that all lines are busy, and the call is over.
struct World {
    twilio: FakeTwilio,
    web: Web,
    full: Option<(Stay, mpsc::Receiver<Order>)>,
}

async fn twilio(settings: CarrierSettings) -> FakeTwilio {
    let settings = CarrierSettings { account: ACCOUNT.into(), token: TOKEN.into(), ..settings };
    FakeTwilio::start(settings).await.unwrap()
}

async fn world_of(twilio: FakeTwilio, folder: Arc<TempDir>) -> World {
    let web = Web::beside(folder, &twilio.url(), quick()).await;
    twilio.resolve(ORIGIN, web.address);
    let full = Some(web.node("fra-1", 10));
    World { twilio, web, full }
}

async fn world(whims: &[Whim]) -> World {
    let twilio = twilio(CarrierSettings::default()).await;
    twilio.plan(whims.iter().copied());
    world_of(twilio, Arc::new(tempfile::tempdir().unwrap())).await
}

impl World {
    async fn post(&self, body: Value) -> (u16, Value) {
        self.web.api(self.web.http.post(self.web.url("/v1/calls")).body(body.to_string())).await
    }

    /// Places a call, and gives the events' kinds once it has ended.
    async fn lived(&self, body: Value) -> Vec<String> {
        let (status, call) = self.post(body).await;
        assert_eq!(status, 201, "{call}");
        self.ended().await
    }

    /// The kinds of all events, once a call has ended.
    async fn ended(&self) -> Vec<String> {
        let mut many = 2;
        loop {
            let records = self.web.records(many).await;
            if records.iter().any(|record| record.kind == "call.ended") {
                return records.into_iter().map(|record| record.kind).collect();
            }
            many = records.len() + 1;
        }
    }

    /// The calls at the carrier once they are over.
    async fn over(&self) -> Vec<CallRecord> {
        let records = self.twilio.records();
        let over = records.iter().map(|record| self.twilio.over(&record.sid));
        join_all(over).await.into_iter().flatten().collect()
    }
}

fn wish() -> Value {
    json!({"to": "+15551230002", "from": "+15551230001"})
}

fn with(more: Value) -> Value {
    let mut wish = wish();
    wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    wish
}

const LIVED: [&str; 4] = ["call.queued", "call.dialled", "call.ringing", "call.ended"];

#[tokio::test]
async fn a_call_is_queued_dialled_and_told_step_by_step() {
    let world = world(&[]).await;
    in_time(async {
        assert_eq!(world.lived(wish()).await, LIVED);
        let calls = world.over().await;
        assert_eq!((calls.len(), calls[0].to.as_str()), (1, "+15551230002"));
        assert_eq!(calls[0].faults, []);
        let voice = calls[0].hooks.iter().find(|hook| hook.url.contains("/voice")).unwrap();
        assert!(voice.url.contains("?tenant=default&call=c_"), "{}", voice.url);
        assert!(voice.url.ends_with("&attempt=1"), "{}", voice.url);
    })
    .await;
}

#[tokio::test]
async fn a_carrier_that_has_too_much_to_do_is_asked_again_and_places_one_call() {
    // Four are tried at once by the client; the fifth after a pause.
    let world = world(&[Whim::Throttled; 5]).await;
    in_time(async {
        assert_eq!(world.lived(wish()).await, LIVED);
        assert_eq!(world.over().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_is_not_placed_twice() {
    let world = world(&[Whim::AnswerLost]).await;
    in_time(async {
        assert_eq!(world.lived(wish()).await, LIVED);
        assert_eq!(world.over().await.len(), 1);
        let dials = world.web.plane.metrics.scrape().unwrap();
        assert!(dials.contains(r#"control_dials_total{outcome="unsure"} 1"#), "{dials}");
    })
    .await;
}

#[tokio::test]
async fn a_call_that_never_got_there_is_placed_once_it_is_known_to_be_absent() {
    let world = world(&[Whim::RequestLost]).await;
    in_time(async {
        assert_eq!(world.lived(wish()).await, LIVED);
        let calls = world.over().await;
        assert_eq!(calls.len(), 1);
        let voice = calls[0].hooks.iter().find(|hook| hook.url.contains("/voice")).unwrap();
        assert!(voice.url.ends_with("&attempt=2"), "{}", voice.url);
        let dials = world.web.plane.metrics.scrape().unwrap();
        assert!(dials.contains(r#"control_dials_total{outcome="absent"} 1"#), "{dials}");
    })
    .await;
}

/// A call that a process has taken from the queue a minute ago, and then died.
async fn left_behind(folder: &Arc<TempDir>) -> String {
    let url = format!("sqlite://{}/linecard.db", folder.path().display());
    let store = Store::open(&url, key()).await.unwrap();
    let new = NewCall {
        carrier: None,
        direction: Direction::Outbound,
        from: Number("+15551230001".into()),
        to: Number("+15551230002".into()),
        ..new_call("c_left")
    };
    let now = control::clock::wall();
    let dial = NewDial {
        account: ACCOUNT.into(),
        plan: Plan { within_s: 600, ..Plan::default() },
        not_before: WallTime(0),
        until: now.plus_us(600_000_000),
    };
    let call = store.enqueue(new, dial, None, now).await.unwrap();
    let before = now.plus_us(-60_000_000);
    let pacing = Pacing { account_every: Duration::ZERO, ..Pacing::default() };
    let claimed = store.claim(&pacing, 1, before).await.unwrap();
    assert_eq!(claimed.ask.len(), 1);
    store.close().await;
    call.id.to_string()
}

#[tokio::test]
async fn after_a_restart_a_call_that_was_not_placed_is() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    in_time(async {
        left_behind(&folder).await;
        let world = world_of(twilio(CarrierSettings::default()).await, folder).await;
        assert_eq!(world.ended().await, LIVED);
        let calls = world.over().await;
        assert_eq!(calls.len(), 1);
        assert!(calls[0].hooks.iter().any(|hook| hook.url.ends_with("&attempt=2")));
    })
    .await;
}

#[tokio::test]
async fn after_a_restart_a_call_that_was_placed_is_found_and_not_placed_again() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    in_time(async {
        let id = left_behind(&folder).await;
        let twilio = twilio(CarrierSettings::default()).await;
        // The dead process has asked for it; nobody heard what the carrier said since then.
        twilio.plan([Whim::NoAnswer]);
        let rest = Rest::new(Account {
            sid: ACCOUNT.into(),
            auth_tokens: Secret::new(TOKEN).into(),
            api_url: twilio.url(),
        });
        let placing = Placing {
            to: &Number("+15551230002".into()),
            from: &Number("+15551230001".into()),
            url: "https://gone.example/voice".into(),
            status_callback: "https://gone.example/status".into(),
            listening: None,
        };
        let placed = rest.unwrap().create(&placing).await.unwrap();
        twilio.over(&placed.call_sid).await.unwrap();

        let world = world_of(twilio, folder).await;
        assert_eq!(world.ended().await, ["call.queued", "call.dialled", "call.ended"]);
        assert_eq!(world.twilio.records().len(), 1);
        let call = world.web.call_by_id(&id).await;
        assert_eq!(call.carrier.map(|carrier| carrier.call_sid), Some(placed.call_sid));
        assert_eq!(call.end_reason.as_deref(), Some("no_answer"));
    })
    .await;
}

#[tokio::test]
async fn a_busy_line_is_dialled_again_and_the_run_of_it_is_told() {
    let world = world(&[Whim::Busy]).await;
    in_time(async {
        let retry = json!({"retry": {"on": ["busy"], "times": 1, "after_s": 10}});
        let (status, call) = world.post(with(retry)).await;
        assert_eq!(status, 201, "{call}");
        let kinds = world.web.records(4).await.into_iter().map(|record| record.kind);
        let wanted = ["call.queued", "call.dialled", "call.ringing", "call.retrying"];
        assert_eq!(kinds.collect::<Vec<_>>(), wanted);
        let id = CallId::new(call["id"].as_str().unwrap()).unwrap();
        let dial = world.web.plane.store.dial(&tenant(), &id).await.unwrap().unwrap();
        assert_eq!((dial.state, dial.tries), (DialState::Waiting, 1));
        // Its time comes.
        let now = control::clock::wall();
        world.web.plane.store.move_dial(&dial, DialState::Waiting, now).await.unwrap();
        world.web.plane.dialler.wake();
        world.ended().await;
        assert_eq!(world.over().await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_machine_that_picks_up_is_told_and_hung_up_on_or_left_a_message() {
    for (plan, by, said) in [
        (json!({"do": "hang_up"}), "machine_start", None),
        (
            json!({"do": "leave_message", "text": "Call back."}),
            "machine_end_beep",
            Some("Call back."),
        ),
    ] {
        let settings = CarrierSettings { answered_by: by.into(), ..CarrierSettings::default() };
        let twilio = twilio(settings).await;
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let mut world = world_of(twilio, folder).await;
        // Nobody is there yet who could talk: the call waits while the carrier listens.
        world.full = None;
        in_time(async {
            let kinds = world.lived(with(json!({"machine": plan}))).await;
            assert!(kinds.contains(&"call.answered_by".to_owned()), "{kinds:?}");
            let calls = world.over().await;
            assert_eq!(calls[0].faults, []);
            let spoken: Vec<_> =
                calls[0]
                    .what()
                    .filter_map(|what| {
                        if let What::Said { text } = what { Some(text.as_str()) } else { None }
                    })
                    .collect();
            assert_eq!(spoken, said.into_iter().collect::<Vec<_>>());
            let (_, page) = world.web.api(world.web.http.get(world.web.url("/v1/calls"))).await;
            let call = &page["calls"][0];
            assert_eq!(call["end_reason"], "answering_machine", "{call}");
            assert_eq!(call["answered_by"], "machine");
        })
        .await;
    }
}

#[tokio::test]
async fn the_carrier_is_never_asked_more_at_once_than_it_takes() {
    let settings = CarrierSettings {
        requests_max: 16,
        rest_delay: Duration::from_millis(30),
        ..CarrierSettings::default()
    };
    let twilio = twilio(settings).await;
    let world = world_of(twilio, Arc::new(tempfile::tempdir().unwrap())).await;
    in_time(async {
        // Each ends a call that is not there, which is well ended.
        let ids = CarrierIds { account_sid: ACCOUNT.into(), call_sid: "CA1".into() };
        let asked = (0..64).map(|_| world.web.plane.carrier.complete(&ids));
        assert!(join_all(asked).await.iter().all(Result::is_ok));
        assert_eq!(world.twilio.requests_at_once(), 16);
    })
    .await;
}
