//! What the person on the phone does: a script of steps, followed 20 ms at a time.

use serde::{Deserialize, Serialize};

use crate::audio::{AudioError, Clip, FRAME_BYTES, Speech};

/// One thing that the caller does; the next begins when it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Listens until the agent has spoken and then been quiet. Gives up when patience is at its
    /// end.
    WaitForAgent {
        /// How long the agent must be quiet, in milliseconds.
        #[serde(default = "half_a_second")]
        quiet_ms: u64,
    },
    /// Says something.
    Say {
        /// How it sounds.
        clip: Clip,
        /// What it says, for those who watch.
        #[serde(default)]
        text: String,
    },
    /// Listens until the agent has been speaking for a while, and speaks into it. Whose patience
    /// is at its end speaks all the same.
    Interrupt {
        /// How much of the agent's speech is listened to, in milliseconds.
        after_ms: u64,
        /// How it sounds.
        clip: Clip,
        /// What it says, for those who watch.
        #[serde(default)]
        text: String,
    },
    /// Says nothing for a while.
    Wait {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Sets for how long the agent is waited for from here on; 30 s before.
    Patience {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Presses a key.
    Press {
        /// Which one.
        digit: char,
    },
    /// Hangs up.
    HangUp,
    /// The network between Twilio and the relay fails: the connection vanishes without a word,
    /// and the call goes on.
    LoseNetwork,
}

fn half_a_second() -> u64 {
    500
}

/// What the caller hears of the agent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ear {
    /// Speech since the agent's last pause, in milliseconds.
    pub(crate) utterance_ms: u64,
    /// Silence since the agent's last speech, in milliseconds.
    pub(crate) quiet_ms: u64,
}

/// What the caller does in one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Is silent.
    Silence,
    /// Begins to say this; the sound follows as [`Act::Sound`].
    Begin(String),
    /// Makes 20 ms of sound.
    Sound(Vec<u8>),
    /// Has said all of it.
    Finish,
    /// Presses a key.
    Press(char),
    /// Waited too long for the agent.
    GiveUp,
    /// Hangs up.
    HangUp,
    /// Loses the network.
    LoseNetwork,
}

/// A caller in the middle of a script.
#[derive(Debug)]
pub(crate) struct Caller {
    steps: std::vec::IntoIter<Loaded>,
    now: State,
    patience_ms: u64,
}

/// A step with its sound.
#[derive(Debug, Clone)]
enum Loaded {
    Say { speech: Speech, text: String },
    Interrupt { after_ms: u64, speech: Speech, text: String },
    Other(Step),
}

/// Where in a step the caller is.
#[derive(Debug)]
enum State {
    /// Between steps, or past the last one.
    Idle,
    Hearing {
        step: Loaded,
        waited_ms: u64,
        agent_spoke: bool,
    },
    Saying {
        speech: Speech,
        at: usize,
    },
    Waiting {
        ms: u64,
    },
}

impl Caller {
    /// Loads the sounds of a script.
    ///
    /// # Errors
    /// The first sound that cannot be loaded.
    pub(crate) fn new(steps: Vec<Step>) -> Result<Self, AudioError> {
        let load = |step| {
            Ok(match step {
                Step::Say { clip, text } => Loaded::Say { speech: clip.load()?, text },
                Step::Interrupt { after_ms, clip, text } => {
                    Loaded::Interrupt { after_ms, speech: clip.load()?, text }
                }
                Step::WaitForAgent { .. }
                | Step::Wait { .. }
                | Step::Patience { .. }
                | Step::Press { .. }
                | Step::HangUp
                | Step::LoseNetwork => Loaded::Other(step),
            })
        };
        let steps: Vec<Loaded> = steps.into_iter().map(load).collect::<Result<_, AudioError>>()?;
        Ok(Self { steps: steps.into_iter(), now: State::Idle, patience_ms: PATIENCE_MS })
    }

    /// Lives through 20 ms. What comes back holds at most one sound.
    pub(crate) fn frame(&mut self, ear: Ear) -> Vec<Act> {
        let mut acts = Vec::new();
        if let State::Idle = self.now
            && let Some(step) = self.steps.next()
        {
            self.begin(step, &mut acts);
        }
        if let State::Hearing { .. } = self.now {
            self.hear(ear, &mut acts);
        }
        match &mut self.now {
            State::Saying { speech, at } => {
                let end = (*at + FRAME_BYTES).min(speech.ulaw().len());
                let mut sound = speech.ulaw()[*at..end].to_vec();
                sound.resize(FRAME_BYTES, codec::g711::ULAW_SILENCE);
                *at = end;
                let over = end == speech.ulaw().len();
                acts.push(Act::Sound(sound));
                if over {
                    acts.push(Act::Finish);
                    self.now = State::Idle;
                }
            }
            State::Waiting { ms } => {
                *ms = ms.saturating_sub(FRAME_MS);
                if *ms == 0 {
                    self.now = State::Idle;
                }
                acts.push(Act::Silence);
            }
            State::Idle | State::Hearing { .. } => acts.push(Act::Silence),
        }
        acts
    }

    /// Begins a step.
    fn begin(&mut self, step: Loaded, acts: &mut Vec<Act>) {
        match step {
            Loaded::Say { speech, text } => {
                acts.push(Act::Begin(text));
                self.now = State::Saying { speech, at: 0 };
            }
            Loaded::Interrupt { .. } | Loaded::Other(Step::WaitForAgent { .. }) => {
                self.now = State::Hearing { step, waited_ms: 0, agent_spoke: false };
            }
            Loaded::Other(Step::Wait { ms }) => self.now = State::Waiting { ms },
            Loaded::Other(Step::Patience { ms }) => self.patience_ms = ms,
            Loaded::Other(Step::Press { digit }) => acts.push(Act::Press(digit)),
            Loaded::Other(Step::HangUp) => acts.push(Act::HangUp),
            Loaded::Other(Step::LoseNetwork) => acts.push(Act::LoseNetwork),
            Loaded::Other(Step::Say { .. } | Step::Interrupt { .. }) => {}
        }
    }

    /// Listens, and goes on when enough was heard or patience is at its end.
    fn hear(&mut self, ear: Ear, acts: &mut Vec<Act>) {
        let State::Hearing { step, waited_ms, agent_spoke } = &mut self.now else { return };
        *waited_ms += FRAME_MS;
        *agent_spoke |= ear.quiet_ms < FRAME_MS && ear.utterance_ms > 0;
        let too_long = *waited_ms >= self.patience_ms;
        let heard = match step {
            Loaded::Interrupt { after_ms, .. } => ear.utterance_ms >= *after_ms,
            Loaded::Other(Step::WaitForAgent { quiet_ms }) => {
                *agent_spoke && ear.quiet_ms >= *quiet_ms
            }
            Loaded::Say { .. } | Loaded::Other(_) => true,
        };
        if !heard && !too_long {
            return;
        }
        if !heard {
            acts.push(Act::GiveUp);
        }
        match std::mem::replace(&mut self.now, State::Idle) {
            State::Hearing { step: Loaded::Interrupt { speech, text, .. }, .. } => {
                acts.push(Act::Begin(text));
                self.now = State::Saying { speech, at: 0 };
            }
            State::Hearing { .. } | State::Idle | State::Saying { .. } | State::Waiting { .. } => {}
        }
    }
}

/// A caller's step.
const FRAME_MS: u64 = 20;

/// Whoever hears nothing for half a minute goes on.
const PATIENCE_MS: u64 = 30_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(json: &str) -> Caller {
        Caller::new(serde_json::from_str(json).unwrap()).unwrap()
    }

    const SPEAKING: Ear = Ear { utterance_ms: 500, quiet_ms: 0 };
    const QUIET: Ear = Ear { utterance_ms: 0, quiet_ms: 600 };

    #[test]
    fn the_caller_waits_until_the_agent_has_spoken_and_stopped() {
        let mut caller =
            caller(r#"[{"do":"wait_for_agent"},{"do":"say","clip":{"tone_ms":30},"text":"Hi"}]"#);
        assert_eq!(caller.frame(QUIET), [Act::Silence]);
        assert_eq!(caller.frame(SPEAKING), [Act::Silence]);
        assert_eq!(caller.frame(QUIET), [Act::Silence]);
        let acts = caller.frame(QUIET);
        assert_eq!(acts[0], Act::Begin("Hi".into()));
        assert!(matches!(&acts[1], Act::Sound(sound) if sound.len() == 160));
        let acts = caller.frame(QUIET);
        assert!(matches!(&acts[0], Act::Sound(sound) if sound[80..] == [0xFF; 80]));
        assert_eq!(acts[1], Act::Finish);
        assert_eq!(caller.frame(QUIET), [Act::Silence]);
    }

    #[test]
    fn an_interruption_waits_for_enough_of_the_agents_speech() {
        let mut caller = caller(r#"[{"do":"interrupt","after_ms":500,"clip":{"tone_ms":20}}]"#);
        assert_eq!(caller.frame(Ear { utterance_ms: 480, quiet_ms: 0 }), [Act::Silence]);
        assert_eq!(caller.frame(SPEAKING).len(), 3);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let mut caller = caller(r#"[{"do":"wait_for_agent"},{"do":"hang_up"}]"#);
        let acts: Vec<Act> = (0..1_501).flat_map(|_| caller.frame(QUIET)).collect();
        assert!(acts.contains(&Act::GiveUp));
        assert!(acts.contains(&Act::HangUp));
        let mut hasty = self::caller(r#"[{"do":"patience","ms":60},{"do":"wait_for_agent"}]"#);
        let acts: Vec<Act> = (0..4).flat_map(|_| hasty.frame(QUIET)).collect();
        assert!(acts.contains(&Act::GiveUp));
    }

    #[test]
    fn a_misspelt_step_is_refused() {
        assert!(serde_json::from_str::<Step>(r#"{"do":"sing"}"#).is_err());
        assert!(serde_json::from_str::<Step>(r#"{"do":"wait","ms":1,"s":1}"#).is_err());
    }
}
