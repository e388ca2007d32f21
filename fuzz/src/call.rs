//! Whole calls: any inputs in any order, and what must hold after each.
//!
//! The rig plays the bridge: it delivers nothing from a socket that the call has not opened, wakes
//! the call when it asks to be woken, and knows what was sent. Services and carriers may be as mad
//! as they like.

mod rig;
mod step;

use std::collections::{BTreeMap, VecDeque};

use arbitrary::{Arbitrary as _, Unstructured};
#[cfg(doc)]
use relay::call::Call;
use relay::call::input::{Answering, Audio, AudioFormat, MarkId, RecordId, Slot, ToolId};
use relay::call::output::{AgentMessage, CallerMessage, Milestone, Outbox, Output};

use self::rig::Rig;
use self::step::Script;

/// A script of inputs.
///
/// # Panics
/// When something does not hold: see [`Call::check`] and `Sent`.
pub fn call(bytes: &[u8]) {
    let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    let mut rig = Rig::new(&script.agent);
    rig.begin(script.begins);
    for step in script.steps.iter().take(STEPS_MAX) {
        if rig.sent.ended {
            break;
        }
        rig.step(step);
    }
    rig.finish();
}

/// Everything that the call has said, as far as it matters, and what must hold of it.
struct Sent {
    /// How the caller's leg is written.
    caller: AudioFormat,
    /// Audio that left for the caller so far, in pieces.
    pieces: u32,
    ended: bool,
    /// Whether there is a socket, or one being opened, in each slot.
    dialled: [bool; 2],
    /// Who was to answer, by the last statement of each session.
    asked: [Option<Answering>; 2],
    marks: VecDeque<MarkId>,
    records: VecDeque<RecordId>,
    tools: VecDeque<ToolId>,
    /// Milliseconds of audio that came for each part of each item.
    generated_ms: BTreeMap<(String, u32), u64>,
    /// Outputs of one input.
    outputs: usize,
}

impl Outbox for Sent {
    fn put(&mut self, output: Output<'_>) {
        assert!(!self.ended, "{output:?} follows the end");
        self.outputs += 1;
        assert!(self.outputs < OUTPUTS_MAX, "one input has no end");
        match output {
            Output::ToCaller(CallerMessage::Mark(mark)) => {
                assert_eq!(mark.0, self.pieces, "a mark has the number of its piece");
                self.marks.push_back(mark);
            }
            Output::ToCaller(CallerMessage::Media(audio)) => {
                self.pieces += 1;
                match (self.caller, audio) {
                    (AudioFormat::Ulaw, Audio::Ulaw(bytes)) => assert!(!bytes.is_empty()),
                    (AudioFormat::Pcm24k, Audio::PcmBytes(bytes)) => {
                        assert!(!bytes.is_empty() && bytes.len() % 2 == 0, "half a sample");
                    }
                    (_, other) => panic!("not what this caller is told: {other:?}"),
                }
            }
            Output::ToCaller(CallerMessage::Clear) => {}
            Output::ToAgent(slot, message) => self.told_agent(slot, &message),
            Output::Dial(slot) => {
                assert!(!self.dialled[slot as usize], "a socket is there already");
                self.dialled[slot as usize] = true;
            }
            Output::Ping(slot) => {
                assert!(self.dialled[slot as usize], "a ping to a socket that is not there");
            }
            Output::CloseAgent(slot) => self.dialled[slot as usize] = false,
            Output::RunTool(id, _) => self.tools.push_back(id),
            Output::DropTool(id) => self.tools.retain(|other| *other != id),
            Output::Note(
                Milestone::Ending { record, .. } | Milestone::ToolIntended { record, .. },
            ) => self.records.push_back(record),
            Output::Note(_) | Output::CloseCaller(..) => {}
            Output::End(_) => self.ended = true,
        }
    }
}

impl Sent {
    fn new(caller: AudioFormat) -> Self {
        Self {
            caller,
            pieces: 0,
            ended: false,
            dialled: [false; 2],
            asked: [None; 2],
            marks: VecDeque::new(),
            records: VecDeque::new(),
            tools: VecDeque::new(),
            generated_ms: BTreeMap::new(),
            outputs: 0,
        }
    }

    fn told_agent(&mut self, slot: Slot, message: &AgentMessage<'_>) {
        assert!(self.dialled[slot as usize], "{message:?} to a socket that is not there");
        match message {
            AgentMessage::Configure { answering, .. } => {
                self.asked[slot as usize] = Some(*answering);
            }
            AgentMessage::AnswerByYourself => {
                self.asked[slot as usize] = Some(Answering::ByService);
            }
            AgentMessage::Truncate { item, part, heard_ms } => {
                let came = self.generated_ms.get(&((*item).to_owned(), *part));
                let came = came.copied().unwrap_or(0);
                assert!(u64::from(*heard_ms) <= came, "{heard_ms} ms of {item}, {came} came");
            }
            AgentMessage::Instruct { .. }
            | AgentMessage::Audio(_)
            | AgentMessage::Respond
            | AgentMessage::Speak(_)
            | AgentMessage::Recall(_)
            | AgentMessage::Summarise
            | AgentMessage::Cancel { .. } => {}
        }
    }
}

/// Scripts longer than this find nothing that shorter ones do not.
const STEPS_MAX: usize = 400;
/// What one input may cause: a minute of held audio is a thousand chunks.
const OUTPUTS_MAX: usize = 20_000;
