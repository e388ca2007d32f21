//! What can be shown: each scene is a play with a script for both sides, an agent, and what must
//! be true at its end.

use clap::ValueEnum;

use super::checks::Check;
use super::follow::Seen;
use super::scenes::{hang_up, loss, move_on, roll_over, talk, tool, transfer};
use crate::carrier::Step;
use crate::model::Script;

/// What the demo shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Scene {
    /// One call from webhook to goodbye, with an interruption.
    #[default]
    Call,
    /// An interruption, and what everybody believes was heard of the interrupted answer.
    Interruption,
    /// The model's connection is cut in mid-call; the caller survives it.
    Loss,
    /// The model's session reaches its limit; the caller hears nothing of it.
    RollOver,
    /// The model asks a server of the agent's owner.
    Tool,
    /// The caller is connected to somebody else.
    Transfer,
    /// The agent hangs up, once its goodbye was heard.
    HangUp,
    /// The relay is killed in mid-call; the caller talks on at another one.
    KillNode,
    /// A new relay starts and the old one is asked to end; the caller talks on across.
    Deploy,
    /// All but those of two relays, one after the other.
    All,
}

impl Scene {
    /// The scenes that are meant.
    pub(crate) fn each(self) -> Vec<Self> {
        let single = |scene: &&Self| !matches!(scene, Self::All | Self::KillNode | Self::Deploy);
        match self {
            Self::All => Self::value_variants().iter().filter(single).copied().collect(),
            Self::Call
            | Self::Interruption
            | Self::Loss
            | Self::RollOver
            | Self::Tool
            | Self::Transfer
            | Self::HangUp
            | Self::KillNode
            | Self::Deploy => vec![self],
        }
    }

    /// What is played.
    pub(crate) fn play(self) -> Play {
        match self {
            Self::Call | Self::All => talk::call(),
            Self::Interruption => talk::interruption(),
            Self::Loss => loss::play(),
            Self::RollOver => roll_over::play(),
            Self::Tool => tool::play(),
            Self::Transfer => transfer::play(),
            Self::HangUp => hang_up::play(),
            Self::KillNode => move_on::kill_node(),
            Self::Deploy => move_on::deploy(),
        }
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// What happens to the relay in the middle of a call, when another one has just started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Twist {
    /// It is killed.
    Killed,
    /// It is asked to end.
    AskedToEnd,
}

/// A play.
#[derive(Debug, Clone)]
pub(crate) struct Play {
    /// What a person is told about it.
    pub(crate) about: &'static str,
    /// What the model says.
    pub(crate) script: Script,
    /// What the caller does.
    pub(crate) caller: Vec<Step>,
    /// The tools of the agent, as inline tables of its file; `{tools}` stands for the address of
    /// the demo's own tool server.
    pub(crate) tools: &'static str,
    /// More lines of the agent's file.
    pub(crate) agent: &'static str,
    /// How long the model lets a session last, in seconds.
    pub(crate) session_limit: Option<u64>,
    /// What happens to the relay once the agent answers; nothing does when `None`.
    pub(crate) twist: Option<Twist>,
    /// What must be true at the end.
    pub(crate) judge: fn(&Seen) -> Vec<Check>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Clip;
    use crate::demo::{Audio, call};

    fn singles() -> impl Iterator<Item = Scene> {
        Scene::value_variants().iter().copied().filter(|scene| *scene != Scene::All)
    }

    #[test]
    fn every_scene_has_an_agent_without_problems() {
        #[derive(serde::Deserialize)]
        struct File {
            agent: Vec<link::agent::AgentSpec>,
        }
        for scene in singles() {
            for (url, audio) in
                [(Some("ws://127.0.0.1:9/v1/realtime"), Audio::Pcm24k), (None, Audio::Mulaw)]
            {
                let text = call::agent_file(url, audio, &scene.play(), "127.0.0.1:8");
                let file: File = toml::from_str(&text).unwrap();
                assert_eq!(file.agent[0].problems(), [], "{scene:?}");
                assert!(!file.agent[0].tools.is_empty(), "{scene:?}");
            }
        }
    }

    #[test]
    fn every_sound_of_every_scene_is_there() {
        for scene in singles() {
            let play = scene.play();
            let answers = play.script.turns.iter().map(|turn| turn.answer.clip());
            let mut said = Vec::new();
            for step in &play.caller {
                if let Step::Say { clip, .. } | Step::Interrupt { clip, .. } = step {
                    said.push(clip.clone());
                }
            }
            let clips: Vec<Clip> = answers.chain(said).collect();
            assert!(clips.iter().all(|clip| clip.load().unwrap().ms() > 700), "{scene:?}");
        }
    }

    #[test]
    fn all_is_every_other_scene() {
        // Those of two relays need no account either, but more of the machine.
        assert_eq!(Scene::All.each().len(), singles().count() - 2);
        assert_eq!(Scene::KillNode.each(), [Scene::KillNode]);
        assert_eq!(Scene::RollOver.name(), "roll-over");
    }
}
