//! Answers that are asked for in so many words: `response.create` with a body.
//!
//! Its instructions replace the session's for this one answer, so the standing ones are repeated
//! in front of them; no tool can be called from it.

use link::agent::AgentSpec;
use serde_json::{Value, json};

use super::{SUMMARY, push};
use crate::call::output::Cue;

/// Writes what is to be said.
pub(super) fn write_cue(agent: &AgentSpec, standing: &str, cue: Cue<'_>, text: &mut Vec<u8>) {
    let response = match cue {
        Cue::Greeting => {
            spoken("greeting", standing, agent.greeting.as_deref().unwrap_or_default())
        }
        Cue::Words(words) => spoken("say", standing, &format!("{EXACTLY} \"{words}\"")),
        Cue::StillThere => spoken("still_there", standing, STILL_THERE),
        Cue::Farewell => spoken("farewell", standing, FAREWELL),
    };
    push(&response, text);
}

/// Writes the wish for a summary: text, beside the conversation, which it reads and leaves as it
/// is. It may run while an answer is spoken.
pub(super) fn write_summary(text: &mut Vec<u8>) {
    push(
        &json!({
            "conversation": "none",
            "output_modalities": ["text"],
            "instructions": SUM_UP,
            "tools": [],
            "tool_choice": "none",
            "max_output_tokens": SUMMARY_TOKENS_MAX,
            "metadata": {"kind": SUMMARY},
        }),
        text,
    );
}

fn spoken(kind: &str, standing: &str, task: &str) -> Value {
    json!({
        "instructions": format!("{standing}\n\n{task}"),
        "tool_choice": "none",
        "metadata": {"kind": kind},
    })
}

const EXACTLY: &str = "Say exactly these words to the caller, as they are, and nothing else:";
const STILL_THERE: &str = "The caller has been silent for a while. Ask in one short sentence, in \
                           the language of the conversation, whether somebody is still there.";
const FAREWELL: &str = "The call must end now. Say goodbye in one short, friendly sentence, in the \
                        language of the conversation. Ask nothing and begin nothing new.";
const SUM_UP: &str = "Sum up this phone call so far, for a colleague who takes it over without a \
                      word to the caller: who calls, what for, what was said and agreed, names, \
                      numbers and dates as they were said, and what is still open. Plain text, at \
                      most 150 words, in the language of the conversation.";

/// 150 words in a language that needs many tokens a word. Each later session pays for the text
/// again with every turn.
const SUMMARY_TOKENS_MAX: u32 = 600;
