//! A call's outbox: every wish is a frame in a buffer, or something done to a socket. Frames go
//! straight into the shard's write buffers.

use codec::frame::ULAW_FRAME_BYTES;
use link::event::EndReason;

use crate::call::input::{AgentEvent, Audio, CallerEvent, Slot};
use crate::call::output::{AgentMessage, CallerMessage, CloseWhy, Milestone, Outbox, Output};
use crate::wire::Frame;
use crate::ws::{CloseCode, WriteBuffer};

use super::agents::Speaker;
use super::legs::{Legs, Readiness};
use super::line::Line;

/// A call's outbox.
pub(super) struct Desk<'a> {
    legs: &'a mut Legs,
    to_caller: &'a mut WriteBuffer,
    to_agent: &'a mut [WriteBuffer; 2],
}

impl<'a> Desk<'a> {
    /// An outbox that writes into these buffers.
    pub(super) fn new(
        legs: &'a mut Legs,
        to_caller: &'a mut WriteBuffer,
        to_agent: &'a mut [WriteBuffer; 2],
    ) -> Self {
        Self { legs, to_caller, to_agent }
    }

    /// Whether what a socket says is still for the call.
    pub(super) fn hears(&self, speaker: Speaker) -> bool {
        self.legs.agents.hears(speaker)
    }

    /// Counts what the caller says.
    pub(super) fn heard_caller(&mut self, event: &CallerEvent<'_>) {
        self.legs.wake.frames_up += u64::from(is_voice(event));
    }

    /// Counts what an agent says.
    pub(super) fn heard_agent(&mut self, event: &AgentEvent<'_>) {
        self.legs.wake.deltas += u64::from(matches!(event, AgentEvent::Audio { .. }));
        // A socket that is open is not yet a session: the formats may be refused.
        if matches!(event, AgentEvent::Configured { .. }) {
            self.legs.readiness = Readiness::HasBeen;
        }
    }

    fn tell_caller(&mut self, message: &CallerMessage<'_>) {
        // Nothing is said to a caller who is not here; a call that does is caught by its tests.
        let Some(Line { socket, wire, .. }) = &mut self.legs.caller else { return };
        match wire.frame(message) {
            Frame::Text => socket.text(self.to_caller, |text| wire.write(message, text)),
            Frame::Bytes(bytes) => socket.binary(self.to_caller, bytes),
            Frame::None => {}
        }
        let wake = &mut self.legs.wake;
        wake.frames_down += u64::from(matches!(message, CallerMessage::Media(_)));
        // Every millisecond of it is speech that the caller has already interrupted.
        wake.is_urgent |= matches!(message, CallerMessage::Clear);
    }

    fn tell_agent(&mut self, slot: Slot, message: &AgentMessage<'_>) {
        let is_said = self.legs.agents.say(slot, message, &mut self.to_agent[slot as usize]);
        if let (true, AgentMessage::Audio(audio)) = (is_said, message) {
            self.legs.wake.appends += 1;
            // A lone frame is sent on as the text it came as, unless it is transcoded.
            self.legs.wake.joined += u64::from(is_joined(audio));
        }
    }

    fn note(&mut self, milestone: &Milestone<'_>) {
        self.legs.log.note(milestone);
        if let Some(Line { socket, wire, .. }) = &mut self.legs.caller
            && let Some(told) = wire.told(milestone)
        {
            socket.text(self.to_caller, |text| told.write(text));
        }
    }

    fn close_caller(&mut self, why: CloseWhy, reason: EndReason) {
        let Some(Line { socket, wire, .. }) = &mut self.legs.caller else { return };
        if let Some(farewell) = wire.farewell(reason) {
            socket.text(self.to_caller, |text| farewell.write(text));
        }
        socket.close(close_code(why), "");
    }
}

impl Outbox for Desk<'_> {
    fn put(&mut self, output: Output<'_>) {
        let Legs { agents, errands, ended, wake, .. } = &mut *self.legs;
        match output {
            Output::ToCaller(message) => self.tell_caller(&message),
            Output::ToAgent(slot, message) => self.tell_agent(slot, &message),
            Output::Dial(slot) => {
                agents.dial(slot, &mut self.to_agent[slot as usize]);
                wake.has_begun = true;
            }
            Output::Ping(slot) => agents.ping(slot),
            Output::CloseAgent(slot) => agents.close(slot, &mut self.to_agent[slot as usize]),
            Output::RunTool(id, request) => {
                errands.run(id, &request);
                wake.has_begun = true;
            }
            Output::DropTool(id) => errands.drop_one(id),
            Output::Note(milestone) => self.note(&milestone),
            Output::CloseCaller(why, reason) => self.close_caller(why, reason),
            Output::End(reason) => *ended = Some(reason),
        }
    }
}

/// Whether a caller's event is audio.
fn is_voice(event: &CallerEvent<'_>) -> bool {
    matches!(event, CallerEvent::Media { .. } | CallerEvent::Speech(_))
}

/// Whether audio for an agent is more than one frame of a caller, which is 20 ms.
fn is_joined(audio: &Audio<'_>) -> bool {
    match audio {
        // A page's pieces have any length.
        Audio::Base64(_) | Audio::PcmBytes(_) => false,
        Audio::Ulaw(bytes) => bytes.len() > ULAW_FRAME_BYTES,
        Audio::Pcm(samples) => samples.len() > 3 * ULAW_FRAME_BYTES,
    }
}

fn close_code(why: CloseWhy) -> CloseCode {
    match why {
        CloseWhy::Normal => CloseCode::NORMAL,
        CloseWhy::Protocol => CloseCode::PROTOCOL,
        CloseWhy::GoingAway => CloseCode::GOING_AWAY,
    }
}
