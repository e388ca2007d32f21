//! The caller is connected to somebody else, once it has heard so.

use super::super::call;
use super::super::checks::{Check, check, common, ended, heard_whole, in_order, resume};
use super::super::follow::Seen;
use super::super::scene::Play;
use crate::carrier::What;
use crate::model::{Answer, Script, ToolCall, Turn};

/// A caller who wants the workshop.
pub(crate) fn play() -> Play {
    let mut answer = Answer::words("I am putting you through to the workshop.");
    answer.tool = Some(ToolCall {
        name: "transfer".into(),
        arguments: r#"{"destination":"workshop"}"#.into(),
        then: None,
    });
    Play {
        about: "the caller is connected to somebody else",
        script: Script {
            greeting: call::greeting(),
            turns: vec![Turn { caller: WISH.into(), answer }],
            more: Answer::words("Is there anything else?"),
        },
        caller: vec![call::listen(400), call::say_words(WISH)],
        tools: r#"{ kind = "hang_up" }, { kind = "transfer", destinations = [{ name = "workshop", description = "Repairs.", to = "+15551230003" }] }"#,
        agent: "",
        session_limit: None,
        twist: None,
        judge,
    }
}

/// The claims of the scene.
fn judge(seen: &Seen) -> Vec<Check> {
    let order = ["call.answered", "turn", "call.transferred", "call.ended"];
    let mut checks = vec![
        check("events in order: answered, turns, transferred, ended", in_order(seen, &order)),
        check("the announcement was heard to its end", heard_whole(seen)),
        check("resume was asked and answered <Dial>", resume(seen, "<Dial ")),
        check("the phone was connected to the workshop's number", dialled(seen)),
        check("what follows the other leg was asked", followed(seen)),
        check("the call ended as transferred", ended(seen, "transferred")),
    ];
    checks.extend(common(seen));
    checks
}

/// The carrier dialled the number of the destination, which the model never saw.
fn dialled(seen: &Seen) -> Result<(), String> {
    let mut to = Vec::new();
    for what in seen.record.what() {
        if let What::Dialled { to: number } = what {
            to.push(number.as_str());
        }
    }
    if to == ["+15551230003"] { Ok(()) } else { Err(format!("dialled: {to:?}")) }
}

/// The action of `<Dial>` was asked and let the call end.
fn followed(seen: &Seen) -> Result<(), String> {
    let asked = |hook: &&crate::carrier::Hook| hook.param("DialCallStatus") == Some("completed");
    let hook = seen.record.hooks.iter().find(asked).ok_or("nobody asked")?;
    let twiml = hook.twiml.as_deref().unwrap_or_default();
    if twiml.contains("<Hangup/>") { Ok(()) } else { Err(format!("answered: {twiml}")) }
}

/// What the caller asks for.
const WISH: &str = "Could you put me through to the workshop?";
