//! Whole conversations with the strict fake model, which was written from the service's
//! documentation and lists everything that the real one would refuse.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::join_all;
use loadtest::audio::Speech;
use loadtest::model::{Answer, FakeModel, Fault, ModelSettings, Script, Turn};
use tokio::time::{MissedTickBehavior, interval};

use crate::bridge_rig::{Caller, Format, Rig, Told};

/// Speaks and plays in real time, 20 ms at a time: `spoken` from the given frame on, silence
/// around it. Gives the close code at the end of the call, and how many milliseconds were played.
async fn phone(caller: &mut Caller, spoken: &[u8], from: usize) -> (u16, usize) {
    let silence = [0xFF; 160];
    let mut frames = interval(Duration::from_millis(20));
    frames.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut queue = VecDeque::new();
    let (mut frame, mut played) = (0_usize, 0);
    loop {
        let tick = frames.tick().await;
        let said = frame.checked_sub(from).and_then(|n| spoken.chunks_exact(160).nth(n));
        caller.media(said.unwrap_or(&silence)).await;
        frame += 1;

        let mut room = 160;
        while let Some(next) = queue.front_mut() {
            match next {
                Told::Media(bytes) if room == 0 && !bytes.is_empty() => break,
                Told::Media(bytes) => {
                    let now = bytes.len().min(room);
                    bytes.drain(..now);
                    (room, played) = (room - now, played + now);
                    if !bytes.is_empty() {
                        break;
                    }
                }
                Told::Mark(name) => caller.mark(name).await,
                Told::Clear | Told::Closed(_) => unreachable!("not queued"),
            }
            queue.pop_front();
        }

        while let Some(told) = caller.next_until(tick + Duration::from_millis(15)).await {
            match told {
                Told::Closed(code) => return (code, played / 8),
                Told::Clear => {
                    for thrown in std::mem::take(&mut queue) {
                        if let Told::Mark(name) = thrown {
                            caller.mark(&name).await;
                        }
                    }
                }
                told @ (Told::Media(_) | Told::Mark(_)) => queue.push_back(told),
            }
        }
    }
}

fn script() -> Script {
    let answer = Answer::words("Goodbye then.").then_calls("hang_up");
    Script {
        greeting: Answer::words("Hello, this is the front desk of Harbor Bikes, how can I help?"),
        turns: vec![Turn { caller: "That was all.".into(), answer }],
        more: Answer::words("Is there anything else?"),
    }
}

/// The caller interrupts the greeting, is answered, and the agent hangs up.
async fn converse(format: Format) {
    let settings = ModelSettings { script: script(), ..ModelSettings::default() };
    let model = FakeModel::start(settings).await.unwrap();
    let rig = Rig::towards(&model.url(), format).await;
    let mut caller = rig.caller().await;
    let spoken = Speech::tone(800);
    let (code, played_ms) = phone(&mut caller, spoken.ulaw(), 60).await;
    assert_eq!(code, 1000);
    // A second of the greeting at least, and the goodbye; never all of the greeting.
    assert!((1_500..3_500).contains(&played_ms), "{played_ms} ms were played");

    let summary = model.summary();
    assert_eq!(summary.complaints, [], "the service refused something");
    rig.relay.until_metric("relay_barge_ins_total 1").await;
    rig.relay.until_metric("relay_streams_ended_total{reason=\"agent_hung_up\"} 1").await;
}

#[tokio::test]
async fn a_mu_law_conversation_breaks_no_rule_of_the_service() {
    converse(Format::Ulaw).await;
}

#[tokio::test]
async fn a_pcm_conversation_breaks_no_rule_of_the_service() {
    converse(Format::Pcm24k).await;
}

#[tokio::test]
async fn a_fault_that_lasts_ends_the_call_with_its_reason() {
    let faults = [
        (Fault::RefuseUpgrade, "agent_refused"),
        (Fault::Quota, "agent_refused"),
        (Fault::FailResponses, "agent_failed"),
        (Fault::Mute, "agent_unreachable"),
    ];
    join_all(faults.map(async |(fault, reason)| {
        let settings = ModelSettings { fault, ..ModelSettings::default() };
        let model = FakeModel::start(settings).await.unwrap();
        let rig = Rig::towards(&model.url(), Format::Ulaw).await;
        let mut caller = rig.caller().await;
        let (_, code) = caller.listen_to_the_end().await;
        assert_eq!(code, 1000, "{fault:?}");
        let metric = format!("relay_streams_ended_total{{reason=\"{reason}\"}} 1");
        rig.relay.until_metric(&metric).await;
    }))
    .await;
}

#[tokio::test]
async fn a_call_outlives_its_sessions() {
    join_all([Fault::CloseMidCall, Fault::Vanish].map(async |fault| {
        let settings = ModelSettings { fault, ..ModelSettings::default() };
        let model = FakeModel::start(settings).await.unwrap();
        let rig = Rig::towards(&model.url(), Format::Ulaw).await;
        let mut caller = rig.caller().await;
        let replaced = "relay_agents_replaced_total{because=\"lost\"} 2";
        tokio::select! {
            () = rig.relay.until_metric(replaced) => {}
            end = caller.listen_to_the_end() => panic!("{fault:?}: {end:?}"),
        }
        assert_eq!(model.summary().complaints, [], "{fault:?}: the service refused something");
        caller.hang_up().await;
        rig.relay.until_metric("relay_streams_ended_total{reason=\"caller_hung_up\"} 1").await;
    }))
    .await;
}
