//! What a call wanted done, a line each: the right-hand side of the call sheets.

use std::time::Duration;

use crate::call::input::{Answering, Audio, MarkId, Slot};
use crate::call::output::{
    AgentMessage, AgentTurn, CallerMessage, Cue, Milestone, Outbox, Output, Recalled,
};

/// What the call wanted done.
#[derive(Default)]
pub(super) struct Record {
    pub(super) lines: Vec<String>,
    pub(super) played: Vec<u8>,
    pub(super) appended: Vec<u8>,
    pub(super) marks: Vec<MarkId>,
    pub(super) pings: Vec<Slot>,
    pub(super) first_voice: Option<(Duration, bool)>,
    pub(super) orders: Vec<u32>,
    /// Words of turns that were not complete, told for the moment.
    pub(super) saying: Vec<String>,
    pub(super) ends: u32,
}

impl Outbox for Record {
    fn put(&mut self, output: Output<'_>) {
        assert_eq!(self.ends, 0, "nothing follows the end: {output:?}");
        let line = match output {
            Output::ToCaller(message) => self.tell_caller(&message),
            Output::Ping(slot) => {
                self.pings.push(slot);
                return;
            }
            Output::ToAgent(Slot::A, message) => self.tell_agent(&message),
            Output::ToAgent(Slot::B, message) => format!("B: {}", self.tell_agent(&message)),
            Output::Note(Milestone::FirstVoice { after, prepared }) => {
                self.first_voice = Some((after, prepared));
                return;
            }
            Output::Note(Milestone::Saying { role, item, text }) => {
                self.saying.push(format!("{role:?} {item} {text:?}"));
                return;
            }
            Output::RunTool(id, request) => {
                format!("run {} {}: {} {}", id.0, request.call, request.name, request.arguments)
            }
            Output::DropTool(id) => format!("drop tool {}", id.0),
            Output::Dial(slot) => format!("dial {slot:?}"),
            Output::CloseAgent(slot) => format!("close {slot:?}"),
            Output::Note(milestone) => {
                if let Milestone::CallerTurn { order, .. }
                | Milestone::AgentTurn(AgentTurn { order, .. }) = &milestone
                {
                    self.orders.push(*order);
                }
                format!("note: {}", told(&milestone))
            }
            Output::CloseCaller(why, _) => format!("close caller: {why:?}"),
            Output::End(reason) => {
                self.ends += 1;
                format!("end: {}", reason.as_str())
            }
        };
        self.lines.push(line);
    }
}

impl Record {
    fn tell_caller(&mut self, message: &CallerMessage<'_>) -> String {
        match message {
            CallerMessage::Media(Audio::Ulaw(bytes) | Audio::PcmBytes(bytes)) => {
                self.played.extend_from_slice(bytes);
                format!("play {}", bytes.len())
            }
            CallerMessage::Media(other) => panic!("not what a caller is told: {other:?}"),
            CallerMessage::Mark(mark) => {
                self.marks.push(*mark);
                format!("mark {}", mark.0)
            }
            CallerMessage::Clear => "clear".into(),
        }
    }

    fn tell_agent(&mut self, message: &AgentMessage<'_>) -> String {
        match message {
            AgentMessage::Configure { format: _, instructions, answering } => {
                let by = match answering {
                    Answering::ByRelay => ", answers when asked",
                    Answering::ByService => "",
                };
                let with = instructions.map(|with| format!(" with {with:?}")).unwrap_or_default();
                format!("configure{with}{by}")
            }
            AgentMessage::AnswerByYourself => "answer by yourself".into(),
            AgentMessage::Instruct { instructions } => format!("instruct {instructions:?}"),
            AgentMessage::Audio(Audio::Base64(text)) => {
                let before = self.appended.len();
                codec::base64::decode(text.as_bytes(), &mut self.appended).unwrap();
                format!("append {} as it came", self.appended.len() - before)
            }
            AgentMessage::Audio(Audio::Ulaw(bytes)) => {
                self.appended.extend_from_slice(bytes);
                format!("append {}", bytes.len())
            }
            AgentMessage::Audio(Audio::PcmBytes(bytes)) => {
                self.appended.extend_from_slice(bytes);
                format!("append pcm bytes {}", bytes.len())
            }
            AgentMessage::Audio(Audio::Pcm(samples)) => {
                codec::pcm::to_le_bytes(samples, &mut self.appended);
                format!("append pcm {}", samples.len())
            }
            AgentMessage::Respond => "respond".into(),
            AgentMessage::Speak(Cue::Greeting) => "greet".into(),
            AgentMessage::Speak(Cue::Words(words)) => format!("say {words:?}"),
            AgentMessage::Speak(Cue::StillThere) => "ask whether the caller is there".into(),
            AgentMessage::Speak(Cue::Farewell) => "say goodbye".into(),
            AgentMessage::Recall(recalled) => recall(recalled),
            AgentMessage::Summarise => "summarise".into(),
            AgentMessage::Cancel { response } => format!("cancel {response}"),
            AgentMessage::Truncate { item, part, heard_ms } => {
                format!("truncate {item}.{part} at {heard_ms}")
            }
        }
    }
}

fn recall(recalled: &Recalled<'_>) -> String {
    match recalled {
        Recalled::Summary(text) => format!("recall summary {text:?}"),
        Recalled::Caller(text) => format!("recall caller {text:?}"),
        Recalled::Agent(text) => format!("recall agent {text:?}"),
        Recalled::Call { call, name, arguments } => format!("recall {call}: {name} {arguments}"),
        Recalled::Result { call, output } => format!("result {call}: {output}"),
        Recalled::System(text) => format!("recall system {text:?}"),
        Recalled::CallContinues => "recall that the call continues".into(),
    }
}

fn told(milestone: &Milestone<'_>) -> String {
    match milestone {
        Milestone::Started => "started".into(),
        Milestone::AgentReady { after } => format!("agent ready after {}", after.as_millis()),
        Milestone::CallerTurn { order: _, item, text } => format!("caller turn {item} {text:?}"),
        Milestone::AgentTurn(turn) => told_turn(turn),
        Milestone::BargeIn(cut) => format!(
            "barge-in at {}: heard {} sent {} generated {}",
            cut.item, cut.heard_ms, cut.sent_ms, cut.generated_ms
        ),
        Milestone::Ending { record, reason, detail, transfer_to } => {
            let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
            let to = transfer_to.map(|to| format!(" to {}", to.as_str())).unwrap_or_default();
            format!("ending {}: {}{to}{detail}", record.0, reason.as_str())
        }
        Milestone::Leaving { record, to } => {
            let to = to.map(|to| format!(" for {to}")).unwrap_or_default();
            format!("leaving {}{to}", record.0)
        }
        Milestone::FirstVoice { .. } | Milestone::Saying { .. } => {
            unreachable!("kept apart from the lines")
        }
        Milestone::AgentLost { detail } => format!("agent lost: {detail}"),
        Milestone::AgentReplaced { because, gap, turns, detail } => {
            format!("agent replaced: {because:?} gap {} turns {turns} {detail}", gap.as_millis())
        }
        Milestone::Forgotten { turns } => format!("forgot {turns}"),
        Milestone::Key(key) => format!("key {key}"),
        Milestone::ToolIntended { record, name, request } => {
            format!("intends {} {name} {request}", record.0)
        }
        Milestone::Tool { name, request, outcome, after } => {
            format!("tool {name} {request}: {outcome:?} after {}", after.as_millis())
        }
        Milestone::CommandDone { id, refused: None } => format!("{id} done"),
        Milestone::CommandDone { id, refused: Some(why) } => format!("{id} refused: {why}"),
        Milestone::Dropped { flow, ms } => format!("dropped {ms} of {flow:?}"),
        Milestone::Tolerated(oddity) => format!("tolerated {oddity:?}"),
    }
}

fn told_turn(turn: &AgentTurn<'_>) -> String {
    let AgentTurn { order: _, item, text, heard_ms, generated_ms, interrupted, reply_after } = turn;
    let cut = if *interrupted { " cut" } else { "" };
    let after = reply_after.map(|after| format!(" after {}", after.as_millis()));
    format!(
        "agent turn {item} {text:?} {heard_ms}/{generated_ms}{cut}{}",
        after.unwrap_or_default()
    )
}
