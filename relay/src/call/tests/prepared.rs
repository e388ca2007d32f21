//! A call that is known before its caller is there.

use super::script::{Script, quiet, spec, speech};
use crate::call::input::{
    Answering, AudioFormat, CallerEvent, Command, Input, Loss, Outcome, Preparation,
};

fn announced(preparation: Preparation) -> Script {
    let mut t = Script::new(spec());
    t.put(Input::Announced(preparation)).expect(["dial A"]);
    t.opened().configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay);
    t
}

#[test]
fn the_greeting_of_an_announced_call_waits_for_its_caller() {
    let mut t = announced(Preparation::Greeting);
    t.expect(["configure, answers when asked", "greet"]);
    t.response_started("r1").audio("r1", "i1", &speech(500)).expect([]);
    t.at_ms(900).started();
    let lines = t.lines();
    assert_eq!(lines[..3], ["note: started", "note: agent ready after 0", "play 480"]);
    assert_eq!(
        t.first_voice().map(|(after, prepared)| (after.as_millis(), prepared)),
        Some((0, true))
    );
}

#[test]
fn a_spare_session_says_nothing_before_its_caller_is_there() {
    let mut t = announced(Preparation::Session);
    t.expect(["configure, answers when asked"]);
    t.at_ms(900).started().expect(["note: started", "note: agent ready after 0", "greet"]);
}

#[test]
fn nobody_waits_for_a_caller_for_longer_than_a_ticket_lives() {
    let mut t = announced(Preparation::Greeting);
    t.response_started("r1").audio("r1", "i1", &speech(60)).ended("r1", Outcome::Completed);
    t.forget().at_ms(59_999).forget();
    t.at_ms(60_000).expect(["close A", "end: caller_lost"]);
}

#[test]
fn a_spare_session_is_kept_for_five_minutes() {
    let mut t = announced(Preparation::Session);
    for minute in 1..=4 {
        t.at_ms(minute * 60_000).agent(crate::call::input::AgentEvent::Alive);
        t.at_ms(minute * 60_000 + 20_000).agent(crate::call::input::AgentEvent::Alive);
        t.at_ms(minute * 60_000 + 40_000).agent(crate::call::input::AgentEvent::Alive);
    }
    t.forget().at_ms(299_999).forget();
    t.at_ms(300_000).expect(["close A", "end: caller_lost"]);
}

#[test]
fn a_caller_who_is_faster_than_its_agent_waits_for_the_dial_that_runs() {
    let mut t = Script::new(quiet());
    t.put(Input::Announced(Preparation::Greeting)).forget();
    t.at_ms(200).started().expect(["note: started"]);
    t.at_ms(300).opened().configured();
    t.expect(["configure", "note: agent ready after 100"]);
}

#[test]
fn an_announced_call_whose_agent_cannot_be_had_ends_without_a_word() {
    let mut t = Script::new(spec());
    t.put(Input::Announced(Preparation::Greeting)).forget();
    t.agent_lost(Loss::Refused, "401").expect(["note: agent lost: 401", "end: agent_refused"]);
}

#[test]
fn an_announced_call_can_be_drained_and_hung_up() {
    let mut t = announced(Preparation::Greeting);
    t.forget().put(Input::Drain);
    assert_eq!(t.lines_with("end"), ["end: drained"]);
    let mut t = announced(Preparation::Greeting);
    t.forget().hang_up();
    assert_eq!(t.lines_with("end"), ["end: operator_hung_up"]);
    let mut t = announced(Preparation::Greeting);
    t.forget().command(&Command::Say { text: "Hello.".into() });
    t.expect(["note: cmd_1 refused: the caller is not there yet"]);
    t.caller(CallerEvent::Lost);
    assert_eq!(t.lines_with("end"), ["end: caller_lost"]);
}

#[test]
fn a_spare_session_that_cannot_be_had_is_left_to_its_keeper() {
    let mut t = Script::new(spec());
    t.put(Input::Announced(Preparation::Session)).forget();
    t.agent_lost(Loss::Unreachable, "refused");
    t.expect(["note: agent lost: refused", "end: agent_unreachable"]);
}

#[test]
fn a_greeting_that_is_made_ahead_can_do_nothing_but_speak() {
    for name in ["hang_up", "transfer", "send_dtmf", "find_slot"] {
        let mut t = announced(Preparation::Greeting);
        t.response_started("r1").forget();
        t.tool("r1", "c1", name).expect([
            &format!("note: tool {name} c1: Failed after 0"),
            "result c1: {\"error\":\"the caller is not here yet\"}",
        ]);
    }
}
