//! Where a call is stopped, politely; and what is done about an agent that says nothing.

use super::script::{Script, spec, speech};
use crate::call::input::{AgentEvent, Loss, Outcome, Retry, Severity};

#[test]
fn a_silent_caller_is_asked_and_then_said_goodbye_to() {
    let mut t = Script::live();
    t.after_ms(59_899).forget();
    t.after_ms(1);
    assert_eq!(t.lines_with("ask"), ["ask whether the caller is there"]);
    t.response_started("r1").audio("r1", "i1", &speech(60)).ended("r1", Outcome::Completed);
    t.all_is_heard().after_ms(59_899).forget();
    t.agent(AgentEvent::Alive).after_ms(200);
    assert_eq!(t.lines_with("say"), ["say goodbye"]);
    t.response_started("r2").audio("r2", "i2", &speech(60)).ended("r2", Outcome::Completed);
    t.all_is_heard();
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: caller_silent"]);
}

#[test]
fn a_caller_who_speaks_is_not_asked_whether_it_is_there() {
    let mut t = Script::live();
    for n in 1..10 {
        t.at_ms(n * 30_000).speech_started().speech_stopped().caller_turn("u").forget();
        t.response_started("r").ended("r", Outcome::Completed);
    }
    assert_eq!(t.lines_with("ask"), [""; 0]);
}

#[test]
fn nobody_is_asked_when_the_spec_waits_for_ever() {
    let mut t = Script::live_with(|agent| agent.limits.silence_seconds_max = 0);
    for n in 1..60 {
        t.at_ms(n * 10_000).agent(AgentEvent::Alive);
    }
    assert_eq!(t.lines_with("ask"), [""; 0]);
}

#[test]
fn a_call_that_has_used_up_its_tokens_ends_politely() {
    let mut t = Script::live_with(|agent| agent.limits.call_tokens_max = 1_000);
    for (response, tokens) in [("r1", 600), ("r2", 400)] {
        t.response_started(response);
        t.agent(AgentEvent::ResponseEnded { response, outcome: Outcome::Completed, tokens });
    }
    t.expect(["say goodbye"]);
    // Who speaks into it does not call it off.
    t.response_started("r3").audio("r3", "i3", &speech(500)).speech_started();
    t.ended("r3", Outcome::Cancelled);
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: token_limit"]);
}

#[test]
fn a_goodbye_that_the_agent_does_not_say_is_waited_for_fifteen_seconds() {
    let mut t = Script::live_with(|agent| agent.limits.call_seconds_max = 30);
    t.at_ms(30_000).forget();
    t.at_ms(44_999);
    assert_eq!(t.lines_with("note: ending"), [""; 0]);
    t.at_ms(45_000);
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: time_limit"]);
}

#[test]
fn an_answer_that_fails_is_asked_for_again_after_a_clip() {
    let mut t = Script::live();
    let outcome = Outcome::Failed { code: "server_error", retry: Retry::MayHelp };
    t.response_started("r1").ended("r1", outcome);
    t.expect(["note: tolerated FailedAnswer", "play 480", "mark 1", "respond"]);
    assert_eq!(t.played(), spec().moment);
    t.response_started("r2").ended("r2", outcome).all_is_heard();
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: agent_failed (server_error)"]);
}

#[test]
fn an_answer_that_fails_for_good_is_not_asked_for_again() {
    let mut t = Script::live();
    let outcome = Outcome::Failed { code: "insufficient_quota", retry: Retry::IsUseless };
    t.response_started("r1").ended("r1", outcome).all_is_heard();
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: agent_failed (insufficient_quota)"]);
}

#[test]
fn an_answer_that_is_cut_off_by_a_limit_is_said_as_far_as_it_goes() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(60)).forget();
    t.ended("r1", Outcome::Incomplete).expect(["note: tolerated IncompleteAnswer"]);
    t.response_started("r2").ended("r2", Outcome::Incomplete);
    assert_eq!(t.lines_with("respond"), ["respond"], "nothing at all is a failure");
}

#[test]
fn a_model_that_stays_silent_is_cancelled_and_asked_once_more() {
    let mut t = Script::live();
    t.response_started("r1").after_ms(7_000).agent(AgentEvent::Ignored).after_ms(999).expect([]);
    t.after_ms(1).expect([
        "note: tolerated SilentAgent",
        "cancel r1",
        "play 480",
        "mark 1",
        "respond",
    ]);
    t.response_started("r2").after_ms(1_000).agent(AgentEvent::Ignored).after_ms(7_000);
    t.all_is_heard();
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: agent_failed (silent_model)"]);
}

#[test]
fn a_turn_of_the_caller_that_the_service_does_not_answer_is_answered_on_request() {
    let mut t = Script::live();
    t.speech_started().speech_stopped().caller_turn("u1").after_ms(1);
    t.agent(AgentEvent::Ignored).forget().after_ms(8_000);
    assert_eq!(t.lines_with("respond"), ["respond"]);
}

#[test]
fn a_socket_that_says_nothing_at_all_while_it_owes_an_answer_is_replaced() {
    let mut t = Script::live();
    t.deaf().response_started("r1").after_ms(8_000);
    // The caller has waited for long enough to be told so.
    t.expect(["close A", "note: agent lost: silent_socket", "dial B", "play 480", "mark 1"]);
}

#[test]
fn a_request_that_was_refused_is_given_up_soon() {
    let mut t = Script::live();
    t.response_started("r1").tool("r1", "c1", "fly").ended("r1", Outcome::Completed).after_ms(1);
    t.complained(Severity::Refused, "bad_response_create").forget();
    t.after_ms(500);
    assert_eq!(t.lines_with("respond"), ["respond"]);
}

#[test]
fn a_goodbye_is_not_waited_for_when_there_is_nobody_to_say_it() {
    let mut t = Script::live_with(|agent| agent.limits.call_seconds_max = 30);
    t.at_ms(29_900).agent_lost(Loss::Closed, "1006").forget().at_ms(30_000);
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: time_limit"]);
}
