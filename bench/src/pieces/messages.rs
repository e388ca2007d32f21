//! Messages through a call: read, decided and written, without sockets.

use std::hint::black_box;
use std::time::Duration;

use link::agent::AgentAudio;

use super::{Piece, Work, plain};
use crate::SPEECH;
use crate::line::{Line, Media, Texts, delta, delta_of, mark};

/// The pieces of this file.
pub(super) fn pieces() -> Vec<Piece> {
    vec![
        Piece {
            name: "messages/up_pass_through",
            what: "a caller's frame of 20 ms becomes an append",
            set_up: || up(AgentAudio::Mulaw),
        },
        Piece {
            name: "messages/up_transcoded",
            what: "the same, to PCM at 24 kHz",
            set_up: || up(AgentAudio::Pcm24k),
        },
        Piece {
            name: "messages/down_pass_through",
            what: "a delta of 20 ms leaves at once, its mark comes back",
            set_up: || down(AgentAudio::Mulaw),
        },
        Piece {
            name: "messages/down_transcoded",
            what: "the same, from PCM at 24 kHz",
            set_up: || down(AgentAudio::Pcm24k),
        },
        Piece {
            name: "messages/delta_held",
            what: "a delta of 60 ms waits, the lead being used up",
            set_up: || Box::new(Talk::before(Step::Delta)),
        },
        Piece {
            name: "messages/chunk_paced",
            what: "60 ms that waited leave at their deadline, with a mark",
            set_up: || Box::new(Talk::before(Step::Chunk)),
        },
        Piece {
            name: "messages/mark_back",
            what: "a mark comes back, long answer",
            set_up: || Box::new(Talk::before(Step::Mark)),
        },
        Piece {
            name: "messages/barge_in",
            what: "speech_started: clear, truncate, a turn that was cut",
            set_up: || Box::new(Interrupted::new()),
        },
        Piece {
            name: "messages/tick_without_work",
            what: "a tick, and nothing is due",
            set_up: tick,
        },
        Piece {
            name: "messages/next_timeout",
            what: "the first of a call's deadlines",
            set_up: || {
                let line = Line::up(AgentAudio::Mulaw);
                plain(move || {
                    black_box(black_box(&line).next_timeout());
                })
            },
        },
    ]
}

fn up(audio: AgentAudio) -> Box<dyn Work> {
    Box::new(Up { line: Line::up(audio), texts: Texts::default(), media: Media::new() })
}

/// A caller who speaks.
struct Up {
    line: Line,
    texts: Texts,
    media: Media,
}

impl Work for Up {
    fn ready(&mut self) {
        self.texts.clear();
        self.media.following();
    }

    fn work(&mut self) {
        self.line.caller_says(black_box(self.media.text()), &mut self.texts);
        assert!(!self.texts.agent.is_empty(), "nothing left for the agent");
    }
}

fn down(audio: AgentAudio) -> Box<dyn Work> {
    let (mut line, mut texts, said) = (Line::up(audio), Texts::default(), delta(audio));
    plain(move || {
        texts.clear();
        line.agent_says(black_box(&said), &mut texts);
        assert!(!texts.caller.is_empty(), "nothing left for the caller");
    })
}

fn tick() -> Box<dyn Work> {
    let (mut line, mut texts) = (Line::up(AgentAudio::Mulaw), Texts::default());
    plain(move || line.tick(black_box(&mut texts)))
}

/// What happens in 60 ms of a long answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Delta,
    Chunk,
    Mark,
}

/// A long answer in the middle: for each chunk of 60 ms that leaves, as much comes in.
struct Talk {
    line: Line,
    texts: Texts,
    delta: String,
    /// The mark that comes back next, and its message.
    mark: (u32, String),
    measured: Step,
}

/// Every chunk is as long; the lead is 400 ms.
const CHUNK: Duration = Duration::from_millis(60);
const CHUNK_BYTES: usize = 480;

impl Talk {
    fn before(measured: Step) -> Self {
        let mut talk = Self {
            line: Line::up(AgentAudio::Mulaw),
            texts: Texts::default(),
            delta: delta_of(1, &SPEECH[8_000..][..CHUNK_BYTES]),
            mark: (0, String::new()),
            measured,
        };
        // Two seconds wait, so that what is measured never runs dry.
        for _ in 0..33 {
            talk.line.hear_agent(&talk.delta, &mut talk.texts);
        }
        talk
    }

    /// What a step needs.
    fn prepare(&mut self, step: Step) {
        self.texts.clear();
        match step {
            Step::Delta => {}
            Step::Chunk => self.line.pass(CHUNK),
            Step::Mark => {
                self.mark.0 += 1;
                self.mark.1 = mark(self.mark.0);
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Delta => self.line.hear_agent(black_box(&self.delta), &mut self.texts),
            Step::Chunk => self.line.tick(&mut self.texts),
            Step::Mark => self.line.hear_caller(black_box(&self.mark.1), &mut self.texts),
        }
    }
}

impl Work for Talk {
    fn ready(&mut self) {
        let others = match self.measured {
            Step::Delta => [Step::Chunk, Step::Mark],
            Step::Chunk => [Step::Mark, Step::Delta],
            Step::Mark => [Step::Delta, Step::Chunk],
        };
        for step in others {
            self.prepare(step);
            self.take(step);
            // A delta waits, a chunk leaves, a mark makes room that is known already.
            assert_eq!(self.texts.caller.is_empty(), step != Step::Chunk, "{step:?}");
        }
        self.prepare(self.measured);
    }

    fn work(&mut self) {
        self.take(self.measured);
    }
}

/// A caller who interrupts every answer.
struct Interrupted {
    line: Line,
    texts: Texts,
    /// The answer that runs.
    answer: u32,
}

impl Interrupted {
    fn new() -> Self {
        Self { line: Line::up(AgentAudio::Mulaw), texts: Texts::default(), answer: 1 }
    }
}

impl Work for Interrupted {
    fn ready(&mut self) {
        let Self { line, texts, answer } = self;
        line.pass(Duration::from_millis(400));
        line.hear_agent(&ended(*answer), texts);
        line.hear_agent(STOPPED, texts);
        *answer += 1;
        line.hear_agent(&begun(*answer), texts);
        texts.clear();
        // 600 ms of speech, of which the lead leaves at once.
        line.hear_agent(&delta_of(*answer, &SPEECH[8_000..][..10 * CHUNK_BYTES]), texts);
        assert!(!texts.caller.is_empty(), "the answer is not heard");
        line.pass(2 * CHUNK);
        texts.clear();
    }

    fn work(&mut self) {
        self.line.hear_agent(black_box(STARTED), &mut self.texts);
    }
}

const STARTED: &str = r#"{"type":"input_audio_buffer.speech_started","event_id":"event_1","audio_start_ms":1000,"item_id":"item_0"}"#;
const STOPPED: &str = r#"{"type":"input_audio_buffer.speech_stopped","event_id":"event_1","audio_end_ms":1500,"item_id":"item_0"}"#;

fn begun(answer: u32) -> String {
    format!(
        r#"{{"type":"response.created","event_id":"event_1","response":{{"id":"resp_{answer}","status":"in_progress"}}}}"#
    )
}

fn ended(answer: u32) -> String {
    format!(
        r#"{{"type":"response.done","event_id":"event_1","response":{{"id":"resp_{answer}","status":"cancelled","output":[]}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_is_a_clear() {
        let mut interrupted = Interrupted::new();
        for _ in 0..3 {
            interrupted.ready();
            interrupted.work();
            let said = String::from_utf8_lossy(&interrupted.texts.caller);
            assert!(said.contains(r#""event":"clear""#), "{said}");
        }
    }

    #[test]
    fn a_long_answer_leaves_chunk_by_chunk() {
        let mut talk = Talk::before(Step::Chunk);
        for _ in 0..50 {
            talk.ready();
            talk.work();
            let said = String::from_utf8_lossy(&talk.texts.caller);
            assert_eq!(said.matches(r#""event":"media""#).count(), 1, "{said}");
            assert_eq!(said.matches(r#""event":"mark""#).count(), 1, "{said}");
        }
    }
}
