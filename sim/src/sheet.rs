//! The call sheet: what happened and what the call wanted done about it, a line each, for whoever
//! replays a seed.

use std::fmt::Debug;

use relay::call::input::{AgentEvent, CallerEvent, Input};
use relay::call::moment::Moment;
use relay::call::output::{AgentMessage, CallerMessage, Output};

/// The sheet of a call; blank when nobody reads it.
#[derive(Debug)]
pub(crate) struct Sheet {
    lines: Option<Vec<String>>,
    now: Moment,
}

impl Sheet {
    /// A sheet that is kept, or not.
    pub(crate) fn new(is_kept: bool) -> Self {
        Self { lines: is_kept.then(Vec::new), now: Moment::default() }
    }

    /// What was written.
    pub(crate) fn take(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }

    /// Something happens.
    pub(crate) fn happens(&mut self, input: &Input<'_>, now: Moment) {
        self.now = now;
        match input {
            // Fifty a second, all alike.
            Input::Caller(CallerEvent::Media { .. }) | Input::Tick => {}
            Input::Agent(slot, AgentEvent::Audio { response, item, audio, .. }) => {
                let relay::call::input::Audio::Base64(text) = audio else { return };
                let bytes = text.len() / 4 * 3;
                self.write("-> ", &format_args!("{slot:?} Audio {response} {item} ~{bytes} bytes"));
            }
            other => self.write("-> ", other),
        }
    }

    /// The call wants something done.
    pub(crate) fn wants(&mut self, output: &Output<'_>) {
        match output {
            Output::ToAgent(_, AgentMessage::Audio(_)) => {}
            Output::ToCaller(CallerMessage::Media(relay::call::input::Audio::Ulaw(bytes))) => {
                let first = bytes.first().copied().unwrap_or_default();
                self.write("    ", &format_args!("play {} of {first:#04x}", bytes.len()));
            }
            other => self.write("    ", other),
        }
    }

    /// Anything else.
    pub(crate) fn write(&mut self, mark: &str, what: &dyn Debug) {
        if let Some(lines) = &mut self.lines {
            let us = self.now.micros();
            lines.push(format!("{:>8}.{:03} {mark}{what:?}", us / 1_000, us % 1_000));
        }
    }
}
