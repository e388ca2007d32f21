//! Watches the call from both ends: control's events and the fake Twilio's notes.

use std::time::Duration;

use serde_json::Value;

use super::events::{Event, Events};
use super::screen::Screen;
use super::stage::Stage;
use super::tools::ToolRequest;
use super::{Audio, call, web};
use crate::audio::right_channel;
use crate::carrier::{CallRecord, Step, What};
use crate::model::{SessionRecord, Summary};

/// Everything that was seen of the call.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Control's events, in order.
    pub(crate) events: Vec<Event>,
    /// The fake Twilio's record.
    pub(crate) record: CallRecord,
    /// Whether the real model answered, of which less can be known.
    pub(crate) real_model: bool,
    /// The audio format between relay and model.
    pub(crate) audio: Audio,
    /// What the fake model saw; `None` with the real one.
    pub(crate) summary: Option<Summary>,
    /// What the fake model's sessions were told and said.
    pub(crate) sessions: Vec<SessionRecord>,
    /// What the demo's tool server was asked.
    pub(crate) tool_requests: Vec<ToolRequest>,
    /// How a relay ended that was asked to, or killed; `None` while it runs, and of all others.
    pub(crate) relay_ended: Option<String>,
    /// What the phone played.
    pub(crate) recording: Recording,
}

/// The recording of a call.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// When it began, in microseconds since 1970.
    pub(crate) began_us: u64,
    /// What the caller heard: 8 samples a millisecond.
    pub(crate) agent: Vec<i16>,
}

impl Recording {
    /// How much of the agent's side between two moments is sound, in milliseconds.
    pub(crate) fn agent_loud_ms(&self, from_us: u64, to_us: u64) -> usize {
        let at = |us: u64| {
            let sample = us.saturating_sub(self.began_us) * 8 / 1_000;
            usize::try_from(sample).unwrap_or(usize::MAX).min(self.agent.len())
        };
        let (from, to) = (at(from_us), at(to_us));
        let heard = self.agent.get(from..to).unwrap_or_default();
        heard.chunks(8 * 20).filter(|frame| codec::level::dbfs(frame) > -50.0).count() * 20
    }
}

impl Seen {
    /// The events of one kind.
    pub(crate) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(move |event| event.kind == kind)
    }

    /// Whether the agent has greeted and answers: the middle of a call.
    fn is_answered(&self) -> bool {
        self.record.what().filter(|what| **what == What::AgentHeard).count() > 1
    }

    /// Whether both ends say that the call is over. A stream's end may be told before or
    /// after its call's.
    fn is_over(&self) -> bool {
        self.record.over
            && self.of("call.ended").next().is_some()
            && self.of("stream.ended").next().is_some()
    }
}

/// Lets the caller call, and watches until the call is over on both ends.
///
/// # Errors
/// When one of the ends cannot be watched.
pub(crate) async fn follow(
    stage: &mut Stage,
    screen: &Screen,
    caller: Vec<Step>,
    mut seen: Seen,
) -> anyhow::Result<Seen> {
    let mut events = Events::open(stage.front()?, stage.api_key()).await?;
    let body = web::post(stage.twilio()?, "/_fake/calls", &call::order(caller)).await?;
    let answer: Value = serde_json::from_slice(&body)?;
    let sid = answer["sid"].as_str().unwrap_or_default();
    let mut shown = 0;
    while !seen.is_over() {
        if seen.is_answered() {
            stage.twist(screen).await?;
        }
        let path = format!("/_fake/calls/{sid}?after={shown}");
        tokio::select! {
            event = events.next() => {
                let event = event?;
                screen.event(&event);
                seen.events.push(event);
            }
            record = web::get(stage.twilio()?, &path, &[]), if !seen.record.over => {
                seen.record = serde_json::from_slice(&record?)?;
                for at in shown..seen.record.notes.len() {
                    screen.note(&seen.record, at);
                }
                shown = seen.record.notes.len();
            }
        }
    }
    // Nothing more is expected; what comes all the same would be a mistake to be shown.
    while let Ok(event) = tokio::time::timeout(AFTERWARDS, events.next()).await {
        let event = event?;
        screen.event(&event);
        seen.events.push(event);
    }
    seen.recording = recording(stage, &seen.record).await?;
    Ok(seen)
}

/// Fetches what the phone played.
async fn recording(stage: &Stage, record: &CallRecord) -> anyhow::Result<Recording> {
    let path = format!("/_fake/calls/{}/audio", record.sid);
    let wav = web::get(stage.twilio()?, &path, &[]).await?;
    let began_us = record.streams.first().map_or(0, |stream| stream.opened_at_us);
    Ok(Recording { began_us, agent: right_channel(&wav)? })
}

/// How long the end is listened to.
const AFTERWARDS: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_is_found_where_it_is() {
        let mut agent = vec![0; 8 * 1_000];
        agent.extend([3_000, -3_000].repeat(4 * 200));
        agent.extend([0; 8 * 500]);
        let recording = Recording { began_us: 5_000_000, agent };
        assert_eq!(recording.agent_loud_ms(5_000_000, 6_000_000), 0);
        assert_eq!(recording.agent_loud_ms(5_900_000, 9_000_000), 200);
        assert_eq!(recording.agent_loud_ms(6_100_000, 6_140_000), 40);
        assert_eq!(recording.agent_loud_ms(9_000_000, 6_000_000), 0);
    }
}
