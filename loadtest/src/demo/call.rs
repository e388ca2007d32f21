//! What all scenes have in common: who calls whom, who answers, and the words that have a sound.

use serde_json::json;

use super::Audio;
use super::scene::Play;
use crate::audio::Clip;
use crate::carrier::{CallOrder, Step};
use crate::model::{Answer, Turn};

/// The public name of the demo's system; the fakes know where it really is.
pub(crate) const ORIGIN: &str = "https://linecard.test";

/// The caller's turns; `assets/caller-1.wav` and on say the same words.
const CALLER: [&str; 3] = [
    "Hi there. Could you tell me when you are open this weekend?",
    "Sorry to interrupt, just Saturday please.",
    "Great, that is all. Thank you, goodbye.",
];

/// What the agent answers the phone with.
pub(crate) const GREETING: &str = "Hello, this is Harbor Bikes. How can I help you?";

/// The agent's answers. The first lasts 14 s, so that there is something to interrupt.
const AGENT: [&str; 3] = [
    "We are open every day but Sunday. Monday to Thursday from nine in the morning until six in \
     the evening, Friday from nine until seven, and on Saturday from nine until five. The workshop \
     closes an hour earlier on each day.",
    "On Saturday we are open from nine to five.",
    "Thank you for calling. Goodbye!",
];

/// The agent's greeting, spoken.
pub(crate) fn greeting() -> Answer {
    Answer::spoken(GREETING, Clip::Asset("agent-greeting".into()))
}

/// The agent's answer with this number, from 1, spoken.
pub(crate) fn agent(number: usize) -> Answer {
    Answer::spoken(AGENT[number - 1], Clip::Asset(format!("agent-{number}")))
}

/// What the caller says in a turn, from 1.
pub(crate) fn words(number: usize) -> String {
    CALLER[number - 1].to_owned()
}

/// The caller's turn with this number, from 1, and what is answered.
pub(crate) fn turn(number: usize, answer: Answer) -> Turn {
    Turn { caller: words(number), answer }
}

/// The caller says the turn with this number, from 1.
pub(crate) fn say(number: usize) -> Step {
    Step::Say { clip: Clip::Asset(format!("caller-{number}")), text: words(number) }
}

/// The caller says something that has no sound of its own.
pub(crate) fn say_words(text: &str) -> Step {
    Step::Say { clip: Clip::Words(text.to_owned()), text: text.to_owned() }
}

/// The caller says the turn with this number, from 1, into what the agent is saying.
pub(crate) fn interrupt(after_ms: u64, number: usize) -> Step {
    let clip = Clip::Asset(format!("caller-{number}"));
    Step::Interrupt { after_ms, clip, text: words(number) }
}

/// The caller waits for the agent to finish.
pub(crate) fn listen(quiet_ms: u64) -> Step {
    Step::WaitForAgent { quiet_ms }
}

/// Somebody calls.
pub(crate) fn order(caller: Vec<Step>) -> CallOrder {
    CallOrder {
        from: "+15551230001".into(),
        to: "+15551230002".into(),
        voice_url: format!("{ORIGIN}/v1/twilio/voice"),
        status_url: Some(format!("{ORIGIN}/v1/twilio/status")),
        caller,
    }
}

/// The agent file of a scene.
pub(crate) fn agent_file(
    model_url: Option<&str>,
    audio: Audio,
    play: &Play,
    tools_address: &str,
) -> String {
    let url = model_url.map_or(String::new(), |url| format!("url = {}\n", json!(url)));
    let tools = play.tools.replace("{tools}", tools_address);
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
tools = [{tools}]
{}
[agent.provider]
kind = "openai_realtime"
{url}"#,
        audio.as_str(),
        play.agent,
    )
}
