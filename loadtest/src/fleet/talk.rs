//! What is said in the calls of the fleet: every sentence of every caller once in the world, so that
//! whoever hears or reads one knows whose it is.

use std::net::SocketAddr;

use crate::audio::Clip;
use crate::carrier::{CallOrder, Step};
use crate::events::control::PUBLIC_URL;
use crate::model::{Answer, Script, ToolCall, Turn};

/// A sentence of a caller.
pub(super) fn sentence(call: u32, number: u32) -> String {
    format!("Call {call}, line {number}.")
}

/// Whose sentence, or whose answer, a text is.
pub(super) fn call_of(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("Call ")?;
    rest.split_once(", line ")?.0.parse().ok()
}

/// What the model says to everybody: a greeting, an answer that repeats the sentence, and for some
/// sentences a tool with an effect.
pub(super) fn script(calls: u32) -> Script {
    let books = |call| (0..BOOKINGS_MAX).map(move |booking| (call, booking * BOOKS_EVERY + 2));
    let turn = |(call, number): (u32, u32)| {
        let mut answer = Answer::words("One moment.");
        answer.tool = Some(ToolCall {
            name: "book".into(),
            arguments: serde_json::json!({"booking": booking(call, number)}).to_string(),
            then: Some("Booked: {output}.".into()),
        });
        Turn { caller: sentence(call, number), answer }
    };
    Script {
        greeting: Answer::words(GREETING),
        turns: (0..calls).flat_map(books).map(turn).collect(),
        more: Answer::words(ANSWER),
    }
}

/// The name of what a sentence books.
fn booking(call: u32, number: u32) -> String {
    format!("{call}-{number}")
}

/// Whose booking it is.
pub(super) fn call_of_booking(booking: &str) -> Option<u32> {
    booking.split_once('-')?.0.parse().ok()
}

/// Somebody calls, and talks until the call is ended from outside.
pub(super) fn order(call: u32, sentences: u32) -> CallOrder {
    let mut caller = vec![Step::Patience { ms: PATIENCE_MS }];
    for number in 0..sentences {
        let text = sentence(call, number);
        let clip = Clip::Words(text.clone());
        caller.extend([Step::WaitForAgent { quiet_ms: 400 }, Step::Say { clip, text }]);
    }
    CallOrder {
        from: "+15551230001".into(),
        to: "+15551230002".into(),
        voice_url: format!("{PUBLIC_URL}/v1/twilio/voice{TRY_HARD}"),
        status_url: Some(format!("{PUBLIC_URL}/v1/twilio/status{TRY_HARD}")),
        caller,
    }
}

/// The agents' file.
pub(super) fn agent_file(model: SocketAddr, tools: SocketAddr) -> String {
    format!(
        r#"default = "front-desk"

[[agent]]
name = "front-desk"
instructions = "You answer whatever is said."
greeting = "Say exactly: {GREETING}"
tools = [{{ kind = "http", name = "book", description = "Books.", url = "http://{tools}/book" }}]

[agent.turn_detection]
silence_duration_ms = 300

[agent.provider]
kind = "openai_realtime"
url = "ws://{model}/v1/realtime"
"#
    )
}

/// What the agent answers the phone with.
pub(super) const GREETING: &str = "Hello, who is calling?";

/// What it answers to a sentence.
const ANSWER: &str = "I have heard you: {caller}";

/// As the number's URLs of an installation with two controls are configured.
const TRY_HARD: &str = "#rc=3&rp=all&ct=1000&rt=2500&tt=8000";

/// Every fourth sentence of a caller books something, so many times.
const BOOKS_EVERY: u32 = 4;
const BOOKINGS_MAX: u32 = 12;

/// Longer than an answer takes on a busy machine.
const PATIENCE_MS: u64 = 7_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_says_whose_it_is() {
        assert_eq!(call_of(&sentence(17, 3)), Some(17));
        assert_eq!(call_of(&ANSWER.replace("{caller}", &sentence(4, 0))), Some(4));
        assert_eq!(call_of(GREETING), None);
        assert_eq!(call_of_booking(&booking(17, 6)), Some(17));
    }

    #[test]
    fn some_sentences_book_and_others_do_not() {
        let script = script(2);
        let turn =
            |call, number| script.turns.iter().find(|turn| turn.caller == sentence(call, number));
        let tool = turn(1, 6).unwrap().answer.tool.as_ref().unwrap();
        assert_eq!(tool.arguments, r#"{"booking":"1-6"}"#);
        assert!(turn(1, 5).is_none());
    }

    #[test]
    fn the_agent_of_the_file_has_no_problems() {
        #[derive(serde::Deserialize)]
        struct File {
            agent: Vec<link::agent::AgentSpec>,
        }
        let [model, tools]: [SocketAddr; 2] =
            ["127.0.0.1:9", "127.0.0.1:8"].map(|text| text.parse().unwrap());
        let file: File = toml::from_str(&agent_file(model, tools)).unwrap();
        assert_eq!(file.agent[0].problems(), []);
        assert_eq!(file.agent[0].tools.len(), 1);
    }
}
