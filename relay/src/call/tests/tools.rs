//! What the agent does besides speaking.

use super::script::{Script, speech};
use crate::call::input::{CallerEvent, Command, Input, Outcome, ToolId, ToolResult};

#[test]
fn a_tool_runs_its_result_is_given_and_the_agent_goes_on_after_its_answer() {
    let mut t = Script::live();
    t.response_started("r1").tool_with("r1", "c1", "find_slot", "{\"day\":1}");
    t.expect(["run 1 c1: find_slot {\"day\":1}"]);
    t.after_ms(400)
        .tool_done(1, "{\"at\":\"10:00\"}")
        .expect(["note: tool find_slot c1: Done after 400", "result c1: {\"at\":\"10:00\"}"]);
    t.ended("r1", Outcome::Completed).expect(["respond"]);
}

#[test]
fn a_tool_with_effects_runs_once_that_is_recorded() {
    let mut t = Script::live();
    t.response_started("r1").tool_with("r1", "c1", "book_slot", "{\"day\":1}");
    t.expect(["note: intends 1 book_slot c1"]);
    t.after_ms(40).recorded(1).expect(["run 1 c1: book_slot {\"day\":1}"]);
    t.recorded(1).expect([]);
    t.after_ms(400)
        .tool_done(1, "{\"booked\":true}")
        .expect(["note: tool book_slot c1: Done after 440", "result c1: {\"booked\":true}"]);
}

#[test]
fn a_tool_with_effects_does_not_wait_for_a_control_that_is_away() {
    let mut t = Script::live();
    t.response_started("r1").tool("r1", "c1", "book_slot").ended("r1", Outcome::Completed).forget();
    t.after_ms(299).expect([]);
    t.after_ms(1).expect(["run 1 c1: book_slot {}"]);
    t.recorded(1).expect([]);
    t.after_ms(5_499).expect([]);
    t.after_ms(1).expect([
        "drop tool 1",
        "note: tool book_slot c1: TimedOut after 5800",
        "result c1: {\"error\":\"the tool took too long\"}",
        "respond",
    ]);
}

#[test]
fn a_tool_that_was_only_intended_when_the_call_ended_has_not_run() {
    let mut t = Script::live();
    t.response_started("r1").tool("r1", "c1", "book_slot").forget();
    t.put(Input::Command { id: None, command: &Command::Yield });
    let lines = t.lines();
    assert!(lines.contains(&"note: tool book_slot c1: Cancelled after 0".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("run ") || line.starts_with("drop tool")));
}

#[test]
fn the_agent_goes_on_once_all_tools_of_an_answer_have_their_results() {
    let mut t = Script::live();
    t.response_started("r1").tool("r1", "c1", "find_slot").tool("r1", "c2", "find_slot");
    t.ended("r1", Outcome::Completed).tool_done(2, "b").forget();
    t.tool_done(1, "a");
    assert_eq!(t.lines_with("res"), ["result c1: a", "respond"]);
}

#[test]
fn failures_and_time_outs_are_told_to_the_agent() {
    let mut t = Script::live();
    t.response_started("r1").tool("r1", "c1", "find_slot").tool("r1", "c2", "find_slot");
    t.ended("r1", Outcome::Completed).forget();
    t.put(Input::Tool(ToolId(1), ToolResult::Failed("status 500"))).expect([
        "note: tool find_slot c1: Failed after 0",
        "result c1: {\"error\":\"status 500\"}",
    ]);
    t.after_ms(5_499).expect([]);
    t.after_ms(1).expect([
        "drop tool 2",
        "note: tool find_slot c2: TimedOut after 5500",
        "result c2: {\"error\":\"the tool took too long\"}",
        "respond",
    ]);
    t.tool_done(2, "late").expect([]);
}

#[test]
fn a_caller_who_interrupts_does_not_stop_a_tool_and_has_the_word() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(500)).tool("r1", "c1", "find_slot");
    t.speech_started().ended("r1", Outcome::Cancelled).forget();
    t.tool_done(1, "10:00").expect(["note: tool find_slot c1: Done after 0", "result c1: 10:00"]);
    // The service answers what the caller says, and knows the result by then.
    t.speech_stopped().caller_turn("u1").response_started("r2");
    t.ended("r2", Outcome::Completed).expect([]);
}

#[test]
fn a_tool_of_an_answer_that_was_cut_does_not_run() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(500)).speech_started().forget();
    t.tool("r1", "c1", "find_slot").expect([
        "note: tool find_slot c1: Cancelled after 0",
        "result c1: {\"done\":false,\"because\":\"the caller interrupted\"}",
    ]);
}

#[test]
fn an_answer_to_a_tool_can_be_interrupted_like_any_other() {
    let mut t = Script::live();
    t.response_started("r1").tool("r1", "c1", "find_slot").ended("r1", Outcome::Completed);
    t.tool_done(1, "10:00").response_started("r2").audio("r2", "i2", &speech(500)).mark(1);
    t.forget().speech_started();
    assert_eq!(t.lines()[..2], ["clear", "truncate i2.0 at 60"]);
}

#[test]
fn a_transfer_happens_after_its_announcement_was_heard() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(120)).audio_ended("r1", "i1").forget();
    t.tool_with("r1", "c1", "transfer", "{\"destination\":\"sales\"}")
        .expect(["note: tool transfer c1: Done after 0", "result c1: {\"transferring\":true}"]);
    t.ended("r1", Outcome::Completed).mark(1).expect([]);
    t.mark(2)
        .expect(["note: agent turn i1 \"\" 120/120", "note: ending 1: transferred to +4930123456"]);
    t.recorded(1).expect(["close caller: Normal", "close A", "end: transferred"]);
}

#[test]
fn who_speaks_into_a_transfer_is_transferred() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(120));
    t.tool_with("r1", "c1", "transfer", "{\"destination\":\"sales\"}");
    t.ended("r1", Outcome::Completed).forget().speech_started();
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: transferred to +4930123456"]);
}

#[test]
fn a_model_cannot_choose_an_address() {
    for arguments in ["{\"destination\":\"+15005550006\"}", "{}", "not json"] {
        let mut t = Script::live();
        t.response_started("r1").tool_with("r1", "c1", "transfer", arguments).expect([
            "note: tool transfer c1: Failed after 0",
            "result c1: {\"error\":\"there is no such destination\"}",
        ]);
        t.ended("r1", Outcome::Completed).expect(["respond"]);
    }
}

#[test]
fn key_tones_are_played_to_the_caller() {
    let mut t = Script::live();
    t.response_started("r1").tool_with("r1", "c1", "send_dtmf", "{\"digits\":\"12\"}");
    t.ended("r1", Outcome::Completed);
    assert_eq!(t.lines_with("result"), ["result c1: {\"sent\":true}"]);
    t.all_is_heard();
    let mut pcm = Vec::new();
    codec::g711::ulaw_decode(t.played(), &mut pcm);
    assert_eq!(codec::dtmf::detect(&pcm), ['1', '2']);
}

#[test]
fn digits_that_no_telephone_has_are_refused() {
    let mut t = Script::live();
    t.response_started("r1").tool_with("r1", "c1", "send_dtmf", "{\"digits\":\"1x\"}");
    assert_eq!(t.lines_with("result").len(), 1);
    assert_eq!(t.played(), [0_u8; 0]);
}

#[test]
fn only_so_many_tools_run_at_once() {
    let mut t = Script::live();
    t.response_started("r1");
    for n in 0..9 {
        t.tool("r1", &format!("c{n}"), "find_slot");
    }
    assert_eq!(t.lines_with("result"), ["result c8: {\"error\":\"too many tools run at once\"}"]);
}

#[test]
fn tools_are_dropped_when_the_call_ends() {
    let mut t = Script::live();
    t.response_started("r1").tool("r1", "c1", "find_slot").forget();
    t.caller(CallerEvent::Stopped);
    t.expect(["close caller: Normal", "drop tool 1", "close A", "end: caller_hung_up"]);
}

#[test]
fn what_is_typed_on_the_keys_reaches_the_agent_after_a_pause_or_a_hash() {
    let mut t = Script::live();
    t.caller(CallerEvent::Key('4')).after_ms(1_000).caller(CallerEvent::Key('2'));
    t.expect(["note: key 4", "note: key 2"]);
    t.after_ms(1_500)
        .expect(["recall system \"The caller typed on the telephone's keys: 42\"", "respond"]);
    t.response_started("r1").caller(CallerEvent::Key('7')).caller(CallerEvent::Key('#')).expect([
        "note: key 7",
        "note: key #",
        "recall system \"The caller typed on the telephone's keys: 7#\"",
    ]);
    t.ended("r1", Outcome::Completed).expect(["respond"]);
}
