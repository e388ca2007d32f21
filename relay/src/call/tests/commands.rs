//! What somebody outside wants of a call, and what it says to that.

use link::message::{Command, Side};
use link::tool::Address;

use super::script::{Script, speech};
use crate::call::input::{Loss, Outcome, Slot};

fn say(text: &str) -> Command {
    Command::Say { text: text.into() }
}

#[test]
fn words_are_said_behind_the_answer_that_runs() {
    let mut t = Script::live();
    t.response_started("r1").command(&say("We close in ten minutes."));
    t.expect(["note: cmd_1 done"]);
    t.ended("r1", Outcome::Completed).expect(["say \"We close in ten minutes.\""]);
}

#[test]
fn words_that_were_asked_for_too_early_are_asked_for_again() {
    let mut t = Script::live();
    t.command(&say("One.")).response_started("r1").forget();
    // The answer that began is the service's own: it was faster.
    t.complained(crate::call::input::Severity::TooEarly, "active").forget();
    t.ended("r1", Outcome::Completed).expect(["say \"One.\""]);
}

#[test]
fn a_message_and_instructions_outlive_the_session() {
    let mut t = Script::live();
    t.command(&Command::Inject { text: "It rains.".into() });
    t.command(&Command::Instruct { instructions: "Speak Danish.".into() });
    t.expect([
        "note: cmd_1 done",
        "recall system \"It rains.\"",
        "note: cmd_1 done",
        "instruct \"Speak Danish.\"",
    ]);
    t.agent_lost(Loss::Closed, "1006").forget().on(Slot::B).opened();
    t.expect(["B: configure with \"Speak Danish.\""]);
    t.configured();
    assert_eq!(t.lines_with("B: recall system"), ["B: recall system \"It rains.\""]);
}

#[test]
fn a_muted_caller_is_silence_to_the_agent() {
    let mut t = Script::live();
    t.command(&Command::Mute { side: Side::Caller, on: true }).forget();
    t.caller_says(7).expect(["append 160"]);
    assert!(t.appended().iter().all(|byte| *byte == 0xFF));
    t.command(&Command::Mute { side: Side::Caller, on: false }).forget();
    t.caller_says(7).expect(["append 160 as it came"]);
}

#[test]
fn a_muted_agent_is_cut_and_its_answers_are_not_heard() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(500)).forget();
    t.command(&Command::Mute { side: Side::Agent, on: true });
    assert_eq!(t.lines()[..4], ["note: cmd_1 done", "clear", "cancel r1", "truncate i1.0 at 0"]);
    t.ended("r1", Outcome::Cancelled).response_started("r2").expect(["cancel r2"]);
    t.audio("r2", "i2", &speech(60)).expect(["note: tolerated LateAudio"]);
    t.ended("r2", Outcome::Cancelled).command(&Command::Mute { side: Side::Agent, on: false });
    t.forget().response_started("r3").audio("r3", "i3", &speech(60));
    assert_eq!(t.lines_with("play"), ["play 480"]);
}

#[test]
fn a_transfer_is_decided_at_once() {
    let mut t = Script::speaking(500);
    t.forget();
    t.command(&Command::Transfer { to: Address::new("sip:desk@example.com").unwrap() });
    t.expect([
        "note: cmd_1 done",
        "clear",
        "note: agent turn i1 \"\" 0/500 cut",
        "note: ending 1: transferred to sip:desk@example.com",
    ]);
}

#[test]
fn a_hang_up_is_answered_before_its_end() {
    let mut t = Script::live();
    t.command(&Command::HangUp).expect(["note: cmd_1 done", "note: ending 1: operator_hung_up"]);
}

#[test]
fn what_cannot_be_done_is_answered_with_why() {
    let mut t = Script::live();
    t.command(&say(" ")).expect(["note: cmd_1 refused: the text is empty"]);
    t.command(&say(&"x".repeat(9_000)));
    t.expect(["note: cmd_1 refused: the text is longer than 8 KiB"]);
    t.command(&Command::Unknown);
    t.expect(["note: cmd_1 refused: this relay does not know the command"]);
    t.command(&Command::Instruct { instructions: String::new() });
    t.expect(["note: cmd_1 refused: instructions must be 1 byte to 32 KiB"]);
    t.response_started("r1");
    for n in 0..8 {
        t.command(&say(&format!("{n}")));
    }
    t.forget().command(&say("9"));
    t.expect(["note: cmd_1 refused: too much is waiting to be said"]);
    t.hang_up().forget().command(&say("10"));
    t.expect(["note: cmd_1 refused: the call is ending"]);
}
