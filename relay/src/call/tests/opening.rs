//! From the stream's start to the first word.

use super::script::{Script, spec};
use crate::call::input::{AgentEvent, AgentFormat, Loss, Severity, Slot};
use crate::call::{CallSpec, Opening};

#[test]
fn an_agent_is_dialled_configured_verified_and_then_greets() {
    let mut t = Script::new(spec());
    t.started().expect(["note: started", "dial A"]);
    t.at_ms(150).opened().expect(["configure"]);
    t.at_ms(180).configured().expect(["note: agent ready after 180", "greet"]);
    t.response_started("r1").audio("r1", "i1", &[7; 480]).expect(["play 480", "mark 1"]);
}

#[test]
fn an_agent_that_waits_for_the_caller_does_not_greet() {
    let mut t = Script::new(CallSpec { opening: Opening::CallerSpeaks, ..spec() });
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
    for format in [None, Some(AgentFormat::Pcm24k)] {
        let mut t = Script::new(spec());
        t.started().opened().forget();
        t.configured_as(format).expect(["close A", "play 480", "mark 1", "play 480", "mark 2"]);
        t.mark(2).expect(["note: ending 1: agent_refused (audio_format)"]);
    }
}

#[test]
fn a_session_is_not_ours_unless_both_ways_are() {
    let mut t = Script::new(spec());
    t.started().opened().forget();
    let (uplink, playout) = (Some(AgentFormat::Ulaw), Some(AgentFormat::Pcm24k));
    t.agent(AgentEvent::Configured {
        uplink,
        playout,
        answering: crate::call::input::Answering::ByService,
    })
    .all_is_heard();
    assert_eq!(t.lines_with("note: ending"), ["note: ending 1: agent_refused (audio_format)"]);
}

#[test]
fn a_service_that_does_not_answer_is_given_up_after_eight_seconds() {
    let mut t = Script::new(spec());
    t.started().forget();
    t.at_ms(7_999).expect([]);
    t.at_ms(8_000).all_is_heard();
    let lines = t.lines_with("note");
    assert_eq!(lines, ["note: ending 1: agent_unreachable (connect_timeout)"]);
}

#[test]
fn a_service_that_does_not_state_the_session_is_given_up_after_five() {
    let mut t = Script::new(spec());
    t.started().at_ms(7_000).opened().forget();
    t.at_ms(11_999).expect([]);
    t.at_ms(12_000).all_is_heard();
    let lines = t.lines_with("note");
    assert_eq!(lines, ["note: ending 1: agent_unreachable (session_timeout)"]);
}

#[test]
fn a_verified_session_has_no_deadline() {
    let mut t = Script::live(spec());
    t.at_ms(60_000).expect([]);
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
    for (cause, reason) in [
        (Loss::Unreachable, "agent_unreachable"),
        (Loss::Refused, "agent_refused"),
        (Loss::Closed, "agent_failed"),
    ] {
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
    let mut t = Script::live(spec());
    t.put(crate::call::input::Input::Agent(Slot::B, AgentEvent::Opened)).expect(["close B"]);
}

#[test]
fn a_stream_starts_once() {
    let mut t = Script::live(spec());
    t.started().expect(["note: tolerated CallerMalformed"]);
}
