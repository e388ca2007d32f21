//! A call leaves a node between two turns, and goes on at another.

use link::event::Role;
use link::id::NodeId;

use super::script::{Script, spec, speech};
use crate::call::input::{CallerEvent, Command, Input, Outcome, Preparation, Said};

fn leave(within_ms: u32, anyway: bool) -> Command {
    Command::Leave { within_ms, anyway, to: Some(NodeId::new("n2").unwrap()) }
}

fn said(role: Role, text: &str) -> Said {
    Said { role, text: text.into(), cut: false }
}

/// Two seconds of speech are heard to their end.
fn hear_out(t: &mut Script) {
    for _ in 0..40 {
        t.after_ms(60).all_is_heard();
    }
}

/// A call that goes on here, and whose session is open.
fn continued(so_far: &[Said]) -> Script {
    let mut t = Script::new(spec());
    t.put(Input::Announced(Preparation::Continued)).expect(["dial A"]);
    t.put(Input::Continues(so_far)).expect([]);
    t.opened().configured().expect(["configure"]);
    t
}

#[test]
fn a_silent_call_leaves_at_once_and_closes_when_that_is_recorded() {
    let mut t = Script::live();
    t.command(&leave(1_000, false)).expect(["note: cmd_1 done", "note: leaving 1 for n2"]);
    t.recorded(1).expect(["close caller: GoingAway", "close A", "end: drained"]);
}

#[test]
fn a_call_that_leaves_waits_for_control_for_300_ms() {
    let mut t = Script::live();
    t.command(&leave(1_000, false)).forget();
    t.at_ms(399).expect([]);
    t.at_ms(400).expect(["close caller: GoingAway", "close A", "end: drained"]);
}

#[test]
fn what_the_agent_says_is_heard_before_the_call_leaves() {
    let mut t = Script::speaking(120);
    t.forget().command(&leave(5_000, false)).expect(["note: cmd_1 done"]);
    t.mark(1).expect([]);
    t.mark(2).expect(["note: agent turn i1 \"\" 120/120", "note: leaving 1 for n2"]);
}

#[test]
fn a_caller_who_speaks_is_answered_before_the_call_leaves() {
    let mut t = Script::live();
    t.speech_started().command(&leave(20_000, false)).speech_stopped().caller_turn("u1");
    t.caller_said("u1", "Are you open?").response_started("r1").audio("r1", "i1", &speech(60));
    t.audio_ended("r1", "i1").ended("r1", Outcome::Completed);
    assert_eq!(t.lines_with("note: leaving"), [""; 0]);
    t.mark(1);
    assert_eq!(t.lines_with("note: leaving"), ["note: leaving 1 for n2"]);
}

#[test]
fn a_tool_that_runs_and_what_follows_it_are_waited_for() {
    let mut t = Script::live();
    t.response_started("r1").tool("r1", "c1", "find_slot").ended("r1", Outcome::Completed);
    t.command(&leave(20_000, false)).tool_done(1, "{}").response_started("r2");
    t.audio("r2", "i2", &speech(60)).audio_ended("r2", "i2").ended("r2", Outcome::Completed);
    assert_eq!(t.lines_with("note: leaving"), [""; 0]);
    t.mark(1);
    assert_eq!(t.lines_with("note: leaving"), ["note: leaving 1 for n2"]);
}

#[test]
fn a_call_stays_when_no_moment_between_two_turns_comes_in_time() {
    let mut t = Script::speaking(2_000);
    t.command(&leave(500, false)).after_ms(500);
    hear_out(&mut t);
    assert_eq!(t.lines_with("note: leaving"), [""; 0]);
    // Until it is asked again.
    t.command(&leave(500, false)).expect(["note: cmd_1 done", "note: leaving 1 for n2"]);
}

#[test]
fn a_call_that_must_leave_does_so_in_mid_sentence() {
    let mut t = Script::speaking(2_000);
    t.mark(1).command(&leave(500, true)).after_ms(499);
    assert_eq!(t.lines_with("note: leaving"), [""; 0]);
    t.after_ms(1);
    let lines = t.lines();
    let last = ["clear", "note: agent turn i1 \"\" 60/2000 cut", "note: leaving 1 for n2"];
    assert_eq!(lines[lines.len() - 3..], last);
}

#[test]
fn the_latest_wish_to_leave_counts() {
    let mut t = Script::speaking(2_000);
    t.command(&leave(500, true)).command(&leave(0, false)).after_ms(600);
    hear_out(&mut t);
    assert_eq!(t.lines_with("note: leaving"), [""; 0]);
}

#[test]
fn a_goodbye_is_said_where_it_was_begun() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(120)).audio_ended("r1", "i1");
    t.command(&leave(50, true)).tool("r1", "c1", "hang_up").forget();
    t.command(&leave(50, true)).expect(["note: cmd_1 refused: the call is ending"]);
    t.after_ms(100).ended("r1", Outcome::Completed).mark(1).mark(2);
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: agent_hung_up"]);
}

#[test]
fn a_caller_who_hangs_up_as_the_call_leaves_has_hung_up() {
    let mut t = Script::live();
    t.command(&leave(1_000, false)).forget().caller(CallerEvent::Stopped);
    t.expect(["close caller: Normal", "close A", "end: caller_hung_up"]);
}

#[test]
fn a_session_is_told_what_was_said_when_its_caller_is_there_and_greets_nobody() {
    let mut t = continued(&[said(Role::Caller, "Hi.")]);
    // The last word counts.
    let so_far = [said(Role::Caller, "Hi."), said(Role::Agent, "Good morning.")];
    t.put(Input::Continues(&so_far)).expect([]);
    t.at_ms(900).started().expect([
        "note: started",
        "recall caller \"Hi.\"",
        "recall agent \"Good morning.\"",
        "recall that the call continues",
        "note: agent ready after 0",
    ]);
    // What comes too late is known already.
    t.put(Input::Continues(&[])).expect([]);
    t.speech_started().speech_stopped().caller_turn("u1").expect([]);
}

#[test]
fn a_caller_whose_turn_was_not_answered_is_answered_first() {
    let mut t = continued(&[said(Role::Caller, "Are you open?")]);
    t.at_ms(900).started().expect([
        "note: started",
        "recall caller \"Are you open?\"",
        "recall that the call continues",
        "note: agent ready after 0",
        "respond",
    ]);
    let mut t = continued(&[Said { cut: true, ..said(Role::Agent, "We are") }]);
    t.at_ms(900).started();
    assert_eq!(t.lines_with("respond"), ["respond"]);
}

#[test]
fn a_call_of_which_nothing_was_heard_begins_anew() {
    let mut t = continued(&[]);
    t.at_ms(900).started();
    t.expect(["note: started", "note: agent ready after 0", "greet"]);
}

#[test]
fn a_session_that_is_later_than_its_caller_is_told_when_it_is_ready() {
    let mut t = Script::new(spec());
    t.put(Input::Announced(Preparation::Continued));
    t.put(Input::Continues(&[said(Role::Caller, "Are you open?")])).expect(["dial A"]);
    t.at_ms(100).started().expect(["note: started"]);
    t.at_ms(300).opened().configured().expect([
        "configure",
        "recall caller \"Are you open?\"",
        "recall that the call continues",
        "note: agent ready after 200",
        "respond",
    ]);
}
