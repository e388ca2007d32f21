//! Messages through a call: read, decided and written, without sockets.

use std::hint::black_box;
use std::time::Duration;

use link::agent::AgentAudio;

use super::calls::{Interrupted, Rig, Step, Talk, Up};
use super::{Piece, Work, plain};
use crate::line::{Line, Texts, delta};

/// The pieces of this file.
pub(super) fn pieces() -> Vec<Piece> {
    vec![
        Piece {
            name: "messages/up_pass_through",
            what: "a caller's frame of 20 ms becomes an append",
            set_up: || Box::new(Up::new(Bare::up(AgentAudio::Mulaw), 1)),
        },
        Piece {
            name: "messages/up_transcoded",
            what: "the same, to PCM at 24 kHz",
            set_up: || Box::new(Up::new(Bare::up(AgentAudio::Pcm24k), 1)),
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
            set_up: || Box::new(Talk::before(Step::Delta, Bare::up(AgentAudio::Mulaw))),
        },
        Piece {
            name: "messages/chunk_paced",
            what: "60 ms that waited leave at their deadline, with a mark",
            set_up: || Box::new(Talk::before(Step::Chunk, Bare::up(AgentAudio::Mulaw))),
        },
        Piece {
            name: "messages/mark_back",
            what: "a mark comes back, long answer",
            set_up: || Box::new(Talk::before(Step::Mark, Bare::up(AgentAudio::Mulaw))),
        },
        Piece {
            name: "messages/barge_in",
            what: "speech_started: clear, truncate, a turn that was cut",
            set_up: || Box::new(Interrupted::new(Bare::up(AgentAudio::Mulaw))),
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

/// A call without sockets: what is said is text, and waits until it is acted on.
struct Bare {
    line: Line,
    texts: Texts,
    waits: Waits,
}

/// What a call is to act on.
enum Waits {
    /// The time.
    Tick,
    Caller(String),
    Agent(String),
}

impl Bare {
    fn up(audio: AgentAudio) -> Self {
        Self { line: Line::up(audio), texts: Texts::default(), waits: Waits::Tick }
    }
}

impl Rig for Bare {
    fn caller_says(&mut self, text: &str) {
        self.waits = Waits::Caller(text.to_owned());
    }

    fn agent_says(&mut self, text: &str) {
        self.waits = Waits::Agent(text.to_owned());
    }

    fn pass(&mut self, span: Duration) {
        self.line.pass(span);
        self.waits = Waits::Tick;
    }

    fn act(&mut self) {
        match black_box(&self.waits) {
            Waits::Tick => self.line.tick(&mut self.texts),
            Waits::Caller(text) => self.line.hear_caller(text, &mut self.texts),
            Waits::Agent(text) => self.line.hear_agent(text, &mut self.texts),
        }
    }

    fn take_said_to_caller(&mut self) -> usize {
        let said = self.texts.caller.len();
        self.texts.caller.clear();
        said
    }

    fn take_said_to_agent(&mut self) -> usize {
        let said = self.texts.agent.len();
        self.texts.agent.clear();
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_is_a_clear() {
        let mut interrupted = Interrupted::new(Bare::up(AgentAudio::Mulaw));
        for _ in 0..3 {
            interrupted.ready();
            interrupted.work();
            let said = String::from_utf8_lossy(&interrupted.rig.texts.caller);
            assert!(said.contains(r#""event":"clear""#), "{said}");
        }
    }

    #[test]
    fn a_long_answer_leaves_chunk_by_chunk() {
        let mut talk = Talk::before(Step::Chunk, Bare::up(AgentAudio::Mulaw));
        for _ in 0..50 {
            talk.ready();
            talk.work();
            let said = String::from_utf8_lossy(&talk.rig.texts.caller);
            assert_eq!(said.matches(r#""event":"media""#).count(), 1, "{said}");
            assert_eq!(said.matches(r#""event":"mark""#).count(), 1, "{said}");
        }
    }
}
