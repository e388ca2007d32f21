//! What is said in the demo's call, by both sides, and who answers.

use serde_json::json;

use super::Audio;
use crate::audio::Clip;
use crate::carrier::{CallOrder, Step};
use crate::model::{Answer, Script, Turn};

/// The public name of the demo's system; the fakes know where it really is.
pub(crate) const ORIGIN: &str = "https://linecard.test";

/// The caller's turns; `assets/caller-1.wav` and on say the same words.
const CALLER: [&str; 3] = [
    "Hi there. Could you tell me when you are open this weekend?",
    "Sorry to interrupt, just Saturday please.",
    "Great, that is all. Thank you, goodbye.",
];

/// What the agent answers the phone with.
const GREETING: &str = "Hello, this is Harbor Bikes. How can I help you?";

/// The agent's answers. The first lasts 14 s, so that there is something to interrupt.
const AGENT: [&str; 3] = [
    "We are open every day but Sunday. Monday to Thursday from nine in the morning until six in \
     the evening, Friday from nine until seven, and on Saturday from nine until five. The workshop \
     closes an hour earlier on each day.",
    "On Saturday we are open from nine to five.",
    "Thank you for calling. Goodbye!",
];

/// What the fake model says: the long answer is the one that is interrupted.
pub(crate) fn script() -> Script {
    let asset = |name: &str| Clip::Asset(name.to_owned());
    let answers = [
        Answer::spoken(AGENT[0], asset("agent-1")),
        Answer::spoken(AGENT[1], asset("agent-2")),
        Answer::spoken(AGENT[2], asset("agent-3")).then_calls("hang_up"),
    ];
    let turn = |(caller, answer): (&str, Answer)| Turn { caller: caller.to_owned(), answer };
    Script {
        greeting: Answer::spoken(GREETING, asset("agent-greeting")),
        turns: CALLER.into_iter().zip(answers).map(turn).collect(),
        more: Answer::words("Is there anything else?"),
    }
}

/// What the caller does.
pub(crate) fn order() -> CallOrder {
    let clip = |number: usize| Clip::Asset(format!("caller-{number}"));
    let text = |number: usize| CALLER[number - 1].to_owned();
    CallOrder {
        from: "+15551230001".into(),
        to: "+15551230002".into(),
        voice_url: format!("{ORIGIN}/v1/twilio/voice"),
        status_url: Some(format!("{ORIGIN}/v1/twilio/status")),
        caller: vec![
            Step::WaitForAgent { quiet_ms: 400 },
            Step::Say { clip: clip(1), text: text(1) },
            Step::Interrupt { after_ms: 2_600, clip: clip(2), text: text(2) },
            Step::WaitForAgent { quiet_ms: 400 },
            Step::Say { clip: clip(3), text: text(3) },
        ],
    }
}

/// The agent file of the demo.
pub(crate) fn agent_file(model_url: Option<&str>, audio: Audio) -> String {
    let url = model_url.map_or(String::new(), |url| format!("url = {}\n", json!(url)));
    format!(
        r#"default = "front-desk"

[[agent]]
name = "front-desk"
instructions = """
You answer the phone for Harbor Bikes, a bicycle shop. Keep every reply under two sentences.
Open Monday to Thursday nine to six, Friday nine to seven, Saturday nine to five, closed on Sunday.
The workshop closes an hour earlier. When the caller says goodbye, say goodbye and call hang_up.
"""
greeting = "Say exactly: {GREETING}"
voice = "marin"
audio = "{}"
tools = [{{ kind = "hang_up" }}]

[agent.provider]
kind = "openai_realtime"
{url}"#,
        audio.as_str()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_file_is_a_spec_without_problems() {
        let text = agent_file(Some("ws://127.0.0.1:9/v1/realtime"), Audio::Pcm24k);
        #[derive(serde::Deserialize)]
        struct File {
            agent: Vec<link::agent::AgentSpec>,
        }
        let file: File = toml::from_str(&text).unwrap();
        assert_eq!(file.agent[0].problems(), []);
        assert_eq!(file.agent[0].audio, link::agent::AgentAudio::Pcm24k);
        let file: File = toml::from_str(&agent_file(None, Audio::Mulaw)).unwrap();
        assert_eq!(file.agent[0].problems(), []);
    }

    #[test]
    fn every_sound_of_the_demo_is_built_in() {
        for turn in script().turns {
            turn.answer.clip.unwrap().load().unwrap();
        }
        for step in order().caller {
            if let Step::Say { clip, .. } | Step::Interrupt { clip, .. } = step {
                assert!(clip.load().unwrap().ms() > 1_000);
            }
        }
    }
}
