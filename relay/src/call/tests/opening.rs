//! From the stream's start to the first word.

use link::message::Side as Muted;

use super::script::{Script, quiet, spec, speech};
use crate::call::input::{
    AgentEvent, Answering, AudioFormat, Command, Loss, Outcome, Retry, Severity, Slot,
};

#[test]
fn an_agent_is_dialled_configured_verified_and_then_greets() {
    let mut t = Script::new(spec());
    t.started().expect(["note: started", "dial A"]);
    t.at_ms(150).opened().expect(["configure, answers when asked"]);
    t.at_ms(180)
        .configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay)
        .expect(["note: agent ready after 180", "greet"]);
    t.response_started("r1").audio("r1", "i1", &[7; 480]).expect(["play 480", "mark 1"]);
}

#[test]
fn an_agent_that_waits_for_the_caller_does_not_greet() {
    let mut t = Script::new(quiet());
    t.started().opened().forget();
    t.configured().expect(["note: agent ready after 0"]);
}

#[test]
fn what_the_caller_said_meanwhile_is_heard_after_the_greeting_is_asked_for() {
    let mut t = Script::new(spec());
    t.started().caller_says(1).opened().caller_says(2).forget();
    t.configured().expect(["note: agent ready after 0", "greet", "append 320"]);
    t.caller_says(3).expect(["append 160 as it came"]);
}

#[test]
fn a_session_in_other_formats_is_refused() {
    for format in [None, Some(AudioFormat::Pcm24k)] {
        let mut t = Script::new(spec());
        t.started().opened().forget();
        t.configured_as(format).expect([
            "close A",
            "note: agent lost: audio_format",
            "play 480",
            "mark 1",
            "play 480",
            "mark 2",
        ]);
        t.mark(2).expect(["note: ending 1: agent_refused (audio_format)"]);
    }
}

#[test]
fn a_session_is_not_ours_unless_both_ways_are() {
    let mut t = Script::new(spec());
    t.started().opened().forget();
    let (uplink, playout) = (Some(AudioFormat::Ulaw), Some(AudioFormat::Pcm24k));
    t.agent(AgentEvent::Configured { uplink, playout, answering: Answering::ByService })
        .all_is_heard();
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: agent_refused (audio_format)"]);
}

#[test]
fn a_service_that_does_not_answer_is_given_up_after_eight_seconds() {
    let mut t = Script::new(spec());
    t.started().forget();
    t.at_ms(2_999);
    assert_eq!(t.lines(), ["play 480", "mark 1"], "after 2.5 s the caller hears the clip");
    t.at_ms(3_200).expect(["close A", "note: agent lost: connect_timeout", "dial A"]);
    t.at_ms(7_999);
    assert_eq!(t.lines_with("note: ending"), [""; 0]);
    t.at_ms(8_000).all_is_heard();
    let lines = t.lines_with("note: ending");
    assert_eq!(lines, ["note: ending 1: agent_unreachable (connect_timeout)"]);
}

#[test]
fn a_service_that_does_not_state_the_session_is_given_up_after_three_seconds() {
    let mut t = Script::new(spec());
    t.started().at_ms(1_000).opened().forget();
    t.at_ms(3_999);
    assert_eq!(t.lines_with("close"), [""; 0]);
    t.at_ms(4_200).expect(["close A", "note: agent lost: session_timeout", "dial A"]);
}

#[test]
fn a_complaint_before_the_session_is_ours_refuses_the_call() {
    for severity in [Severity::Refused, Severity::Fatal] {
        for is_open in [false, true] {
            let mut t = Script::new(spec());
            t.started();
            if is_open {
                t.opened();
            }
            t.complained(severity, "invalid_value").all_is_heard();
            let lines = t.lines_with("note: ending");
            assert_eq!(lines, ["note: ending 1: agent_refused (invalid_value)"]);
        }
    }
}

#[test]
fn a_socket_that_cannot_be_opened_ends_the_call_by_its_cause() {
    for (cause, reason) in [(Loss::Refused, "agent_refused"), (Loss::Dismissed, "agent_failed")] {
        let mut t = Script::new(spec());
        t.started().agent_lost(cause, "why").all_is_heard();
        let lines = t.lines_with("note: ending");
        assert_eq!(lines, [format!("note: ending 1: {reason} (why)")]);
    }
}

#[test]
fn speech_before_the_session_is_ours_is_out_of_place() {
    let mut t = Script::new(spec());
    t.started().opened().forget();
    t.response_started("r1").expect(["note: tolerated AgentMalformed"]);
    t.audio("r1", "i1", &[7; 480]).expect(["note: tolerated AgentMalformed"]);
}

#[test]
fn a_socket_that_nobody_dialled_is_closed() {
    let mut t = Script::live();
    t.put(crate::call::input::Input::Agent(Slot::B, AgentEvent::Opened)).expect(["close B"]);
}

#[test]
fn a_stream_starts_once() {
    let mut t = Script::live();
    t.started().expect(["note: tolerated CallerMalformed"]);
}

/// A call whose greeting is asked for and has 600 ms, none of which was heard.
fn greeting() -> Script {
    let mut t = Script::new(spec());
    t.started().opened().configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay);
    t.response_started("r1").audio("r1", "i1", &speech(600)).forget();
    t
}

#[test]
fn the_floor_is_open_once_something_of_the_greeting_was_heard() {
    let mut t = greeting();
    t.mark(1).expect(["answer by yourself"]);
    t.mark(2).expect([]);
    t.configured().forget();
    // From here on the service stops by itself.
    t.speech_started();
    assert_eq!(t.lines()[..2], ["clear", "truncate i1.0 at 120"]);
}

#[test]
fn a_greeting_that_is_interrupted_before_the_service_answers_by_itself_is_cancelled_by_us() {
    let mut t = greeting();
    t.mark(1).forget().speech_started();
    assert_eq!(t.lines()[..3], ["clear", "cancel r1", "truncate i1.0 at 60"]);
    // It did not hear that it should answer in time: we ask.
    t.speech_stopped().caller_turn("u1").ended("r1", Outcome::Cancelled).expect(["respond"]);
}

#[test]
fn a_hello_before_the_greeting_is_heard_interrupts_nothing_and_is_answered_by_the_greeting() {
    let mut t = greeting();
    t.speech_started().expect([]);
    t.after_ms(400).mark(1);
    assert_eq!(t.lines_with("answer"), [""; 0], "nobody would answer the hello's end");
    t.speech_stopped().caller_turn("u1").expect(["answer by yourself"]);
    t.ended("r1", Outcome::Completed).expect([]);
}

#[test]
fn who_says_more_than_hello_over_the_greeting_is_answered_after_it() {
    let mut t = greeting();
    t.speech_started().forget().after_ms(2_500).forget();
    t.speech_stopped().caller_turn("u1");
    t.ended("r1", Outcome::Completed);
    assert_eq!(t.lines_with("respond"), ["respond"]);
}

#[test]
fn a_greeting_that_fails_is_asked_for_once_more() {
    let mut t = greeting();
    let mut t2 = Script::new(spec());
    t2.started().opened().configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay);
    let outcome = Outcome::Failed { code: "server_error", retry: Retry::MayHelp };
    t2.response_started("r1").ended("r1", outcome);
    assert_eq!(t2.lines_with("greet"), ["greet", "greet"]);
    t.ended("r1", Outcome::Completed).expect(["answer by yourself"]);
}

#[test]
fn the_time_to_the_first_word_is_told() {
    let mut t = Script::new(spec());
    t.started().at_ms(300).opened().configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay);
    t.at_ms(650).response_started("r1").audio("r1", "i1", &speech(60));
    let told = t.first_voice().map(|(after, prepared)| (after.as_millis(), prepared));
    assert_eq!(told, Some((650, false)));
}

#[test]
fn a_clip_that_is_heard_before_the_greeting_does_not_open_the_floor() {
    let mut t = Script::new(spec());
    t.started().at_ms(2_500).expect(["note: started", "dial A", "play 480", "mark 1"]);
    t.opened().configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay).forget();
    t.mark(1).expect([]);
    t.response_started("r1").audio("r1", "i1", &speech(60)).forget();
    t.mark(2).expect(["answer by yourself"]);
}

#[test]
fn a_greeting_with_nothing_to_say_is_asked_for_once_more() {
    let mut t = Script::new(spec());
    t.started().opened().configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay);
    t.response_started("r1").ended("r1", Outcome::Completed);
    assert_eq!(t.lines_with("greet"), ["greet", "greet"]);
}

#[test]
fn a_greeting_that_is_muted_opens_the_floor() {
    let mut t = greeting();
    t.command(&Command::Mute { side: Muted::Agent, on: true }).forget();
    t.ended("r1", Outcome::Cancelled).expect(["answer by yourself"]);
}
