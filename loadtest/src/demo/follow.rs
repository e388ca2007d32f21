//! Watches the call from both ends: control's events and the fake Twilio's notes.

use std::time::Duration;

use serde_json::Value;

use super::events::{Event, Events};
use super::screen::Screen;
use super::stage::Stage;
use super::{call, web};
use crate::carrier::CallRecord;

/// Everything that was seen of the call.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Control's events, in order.
    pub(crate) events: Vec<Event>,
    /// The fake Twilio's record.
    pub(crate) record: CallRecord,
    /// Whether the real model answered, of which less can be known.
    pub(crate) real_model: bool,
}

impl Seen {
    /// The events of one kind.
    pub(crate) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(move |event| event.kind == kind)
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
    stage: &Stage,
    screen: &Screen,
    real_model: bool,
) -> anyhow::Result<Seen> {
    let mut events = Events::open(stage.relay()?, stage.api_key()).await?;
    let body = web::post(stage.twilio()?, "/_fake/calls", &call::order()).await?;
    let answer: Value = serde_json::from_slice(&body)?;
    let sid = answer["sid"].as_str().unwrap_or_default();
    let mut seen = Seen { real_model, ..Seen::default() };
    let mut shown = 0;
    while !seen.is_over() {
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
    Ok(seen)
}

/// How long the end is listened to.
const AFTERWARDS: Duration = Duration::from_millis(300);
