//! How calls end when nothing is wrong with the agent.

use super::script::{Script, speech};
use crate::call::input::{CallerEvent, Command, Input, Loss, Outcome};

/// The agent says goodbye in 120 ms and asks to hang up.
fn goodbye() -> Script {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(120)).audio_ended("r1", "i1");
    t.tool("r1", "c1", "hang_up");
    t
}

#[test]
fn a_goodbye_is_heard_recorded_and_then_the_line_is_closed() {
    let mut t = goodbye();
    t.ended("r1", Outcome::Completed).forget();
    t.at_ms(200).mark(1).expect([]);
    t.at_ms(260)
        .mark(2)
        .expect(["note: agent turn i1 \"\" 120/120", "note: ending 1: agent_hung_up"]);
    t.recorded(1).expect(["close caller: Normal", "close A", "end: agent_hung_up"]);
}

#[test]
fn a_goodbye_whose_answer_still_runs_is_waited_for() {
    let mut t = goodbye();
    t.forget().mark(2).at_ms(3_000).expect([]);
    t.ended("r1", Outcome::Completed);
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: agent_hung_up"]);
}

#[test]
fn a_goodbye_without_a_word_ends_with_its_answer() {
    let mut t = Script::live();
    t.response_started("r1").tool("r1", "c1", "hang_up").expect([]);
    t.ended("r1", Outcome::Completed).expect(["note: ending 1: agent_hung_up"]);
}

#[test]
fn a_last_mark_that_never_comes_is_waited_for_two_seconds() {
    let mut t = goodbye();
    t.ended("r1", Outcome::Completed).forget();
    t.at_ms(100 + 120 + 1_999).expect([]);
    t.at_ms(100 + 120 + 2_000).expect([
        "clear",
        "note: agent turn i1 \"\" 0/120 cut",
        "note: ending 1: agent_hung_up",
    ]);
}

#[test]
fn an_answer_that_never_ends_does_not_keep_a_goodbye_from_ending() {
    let mut t = goodbye();
    t.mark(2).forget();
    t.at_ms(100 + 120 + 9_999).expect([]);
    t.at_ms(100 + 120 + 10_000);
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: agent_hung_up"]);
}

#[test]
fn who_speaks_into_a_goodbye_calls_it_off() {
    let mut t = goodbye();
    t.ended("r1", Outcome::Completed).forget();
    t.speech_started().expect([
        "clear",
        "truncate i1.0 at 0",
        "note: barge-in at i1: heard 0 sent 120 generated 120",
        "note: agent turn i1 \"\" 0/120 cut",
        "result c1: {\"ended\":false,\"because\":\"the caller goes on speaking\"}",
    ]);
    t.at_ms(20_000).expect([]);
    t.response_started("r2").audio("r2", "i2", &speech(60)).expect(["play 480", "mark 3"]);
}

#[test]
fn a_goodbye_of_an_answer_that_was_cut_is_none() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(120)).speech_started().forget();
    t.tool("r1", "c1", "hang_up");
    assert_eq!(t.lines_with("result").len(), 1);
    t.ended("r1", Outcome::Cancelled).at_ms(20_000).expect([]);
}

#[test]
fn a_goodbye_stands_when_the_agent_is_gone() {
    let mut t = goodbye();
    t.forget().agent_lost(Loss::Closed, "1001").expect([]);
    t.mark(2).expect(["note: agent turn i1 \"\" 120/120", "note: ending 1: agent_hung_up"]);
}

#[test]
fn control_that_does_not_answer_is_waited_for_300_ms() {
    let mut t = Script::live();
    t.hang_up().expect(["note: ending 1: operator_hung_up"]);
    t.recorded(7).at_ms(399).expect([]);
    t.at_ms(400).expect(["close caller: Normal", "close A", "end: operator_hung_up"]);
}

#[test]
fn a_hang_up_is_silent_at_once() {
    let mut t = Script::speaking(2_000);
    t.forget().hang_up().expect([
        "clear",
        "note: agent turn i1 \"\" 0/2000 cut",
        "note: ending 1: operator_hung_up",
    ]);
    t.at_ms(200).hang_up().caller_says(1).mark(1).speech_started().expect([]);
}

#[test]
fn the_longest_call_ends() {
    let mut t = Script::live_with(|agent| agent.limits.call_seconds_max = 30);
    t.at_ms(29_999).forget();
    t.at_ms(30_000).expect(["say goodbye"]);
    t.response_started("r1").audio("r1", "i1", &speech(60)).ended("r1", Outcome::Completed);
    t.forget().mark(1).expect(["note: agent turn i1 \"\" 60/60", "note: ending 1: time_limit"]);
}

#[test]
fn a_stop_ends_the_stream_and_keeps_what_was_heard() {
    let mut t = Script::speaking(300);
    t.mark(1).forget();
    t.caller(CallerEvent::Stopped).expect([
        "note: agent turn i1 \"\" 60/300 cut",
        "close caller: Normal",
        "close A",
        "end: caller_hung_up",
    ]);
}

#[test]
fn a_lost_caller_is_not_closed_again() {
    let mut t = Script::live();
    t.caller(CallerEvent::Lost).expect(["close A", "end: caller_lost"]);
    let mut t = Script::live();
    t.caller(CallerEvent::Violated).expect(["close A", "end: caller_protocol"]);
}

#[test]
fn a_newer_generation_silences_without_finalising() {
    let mut t = Script::speaking(300);
    t.caller_turn("u1").forget();
    t.put(Input::Command { id: None, command: &Command::Yield });
    t.expect(["close caller: Normal", "close A", "end: superseded"]);
}

#[test]
fn a_drain_sends_the_stream_elsewhere_and_keeps_what_was_heard() {
    let mut t = Script::speaking(120);
    t.mark(1).forget();
    t.put(Input::Drain).expect([
        "note: agent turn i1 \"\" 60/120 cut",
        "close caller: GoingAway",
        "close A",
        "end: drained",
    ]);
}

#[test]
fn five_broken_messages_of_the_caller_are_tolerated() {
    let mut t = Script::live();
    for _ in 0..5 {
        t.caller(CallerEvent::Malformed).expect(["note: tolerated CallerMalformed"]);
    }
    t.caller(CallerEvent::Malformed).expect([
        "note: tolerated CallerMalformed",
        "close caller: Protocol",
        "close A",
        "end: caller_protocol",
    ]);
}

#[test]
fn what_was_decided_stands_when_the_caller_is_faster() {
    let mut t = Script::live();
    t.hang_up().forget();
    t.caller(CallerEvent::Stopped);
    t.expect(["close caller: Normal", "close A", "end: operator_hung_up"]);
}

#[test]
fn nothing_follows_the_end() {
    let mut t = Script::live();
    t.caller(CallerEvent::Stopped).forget();
    t.started().caller_says(1).mark(1).caller(CallerEvent::Lost).hang_up().recorded(1);
    t.opened().response_started("r1").audio("r1", "i1", &speech(60)).put(Input::Drain);
    t.at_ms(10_000_000).expect([]);
    assert_eq!(t.call.next_timeout(), None);
}

#[test]
fn nobody_hears_the_caller_in_a_goodbye_whose_agent_is_gone() {
    let mut t = goodbye();
    t.agent_lost(Loss::Closed, "1001").forget();
    t.caller_says(1).expect([]);
}
