//! A call outlives its sessions: loss, rebuild, roll-over, summaries.

use super::script::{Script, spec, spec_with, speech};
use crate::call::input::{AgentEvent, Answering, AudioFormat, Loss, Outcome, Severity, Slot};

/// A call in which the caller asked something and the agent has answered.
fn conversation() -> Script {
    let mut t = Script::live_with(|agent| agent.limits.silence_seconds_max = 0);
    t.speech_started().speech_stopped().caller_turn("u1").caller_said("u1", "Are you open?");
    t.response_started("r1").saying("r1", "i1", "Until six.").audio("r1", "i1", &speech(120));
    t.audio_ended("r1", "i1").ended("r1", Outcome::Completed).all_is_heard().forget();
    t
}

/// Opens the session on the other socket.
fn reopened(t: &mut Script) -> &mut Script {
    t.on(Slot::B).opened().configured()
}

#[test]
fn a_lost_session_is_rebuilt_from_the_turns_and_nobody_is_greeted() {
    let mut t = conversation();
    t.agent_lost(Loss::Closed, "1011").expect(["note: agent lost: 1011", "dial B"]);
    t.after_ms(300).on(Slot::B).opened().expect(["B: configure"]);
    t.configured().expect([
        "B: recall caller \"Are you open?\"",
        "B: recall agent \"Until six.\"",
        "B: recall that the call continues",
        "note: agent replaced: Lost gap 300 turns 2 1011",
    ]);
    t.caller_says(1).expect(["B: append 160 as it came"]);
}

#[test]
fn an_answer_that_was_owed_is_asked_for_again() {
    let mut t = conversation();
    t.speech_started().speech_stopped().caller_turn("u2").caller_said("u2", "And on Sunday?");
    t.agent_lost(Loss::Closed, "1006").forget();
    reopened(&mut t);
    assert_eq!(t.lines().last().map(String::as_str), Some("B: respond"));
}

#[test]
fn what_the_caller_says_meanwhile_is_held_and_heard() {
    let mut t = conversation();
    t.agent_lost(Loss::Closed, "1006").caller_says(1).caller_says(2).forget();
    reopened(&mut t);
    assert_eq!(t.lines_with("B: append"), ["B: append 320"]);
}

#[test]
fn a_clip_is_heard_after_700_ms_without_an_agent_and_not_before() {
    let mut t = conversation();
    t.agent_lost(Loss::Closed, "1006").forget();
    t.after_ms(699).expect([]);
    t.after_ms(1).expect(["play 480", "mark 3"]);
    assert_eq!(t.played()[t.played().len() - 480..], *spec().moment);
}

#[test]
fn an_answer_that_is_here_is_heard_while_the_next_session_opens() {
    let mut t = Script::live();
    t.speech_started().speech_stopped().caller_turn("u1").caller_said("u1", "Tell me.");
    t.response_started("r1").saying("r1", "i1", "One two").audio("r1", "i1", &speech(600));
    t.agent_lost(Loss::Closed, "1006").forget();
    // No clip: there is speech. The new session is not asked before it is heard.
    reopened(&mut t).expect([
        "B: configure",
        "B: recall caller \"Tell me.\"",
        "B: recall that the call continues",
        "note: agent replaced: Lost gap 0 turns 1 1006",
    ]);
    t.after_ms(800).all_is_heard();
    let lines = t.lines();
    let told: Vec<&str> =
        lines.iter().map(String::as_str).filter(|l| l.starts_with("B:")).collect();
    assert_eq!(told, ["B: recall agent \"One two\"", "B: respond"]);
}

#[test]
fn who_interrupts_an_answer_of_a_session_that_is_gone_is_told_to_the_new_one() {
    let mut t = Script::live();
    t.response_started("r1").saying("r1", "i1", "one two three four");
    t.audio("r1", "i1", &speech(600)).at_ms(300).mark(5);
    t.agent_lost(Loss::Closed, "1006").forget();
    reopened(&mut t).forget();
    t.speech_started().expect([
        "clear",
        "note: barge-in at i1: heard 300 sent 600 generated 600",
        "note: agent turn i1 \"one two\" 300/600 cut",
        "B: recall agent \"one two\"",
    ]);
}

#[test]
fn a_greeting_of_which_nobody_heard_a_word_is_spoken_once_by_the_next_session() {
    let mut t = Script::new(spec());
    t.started().opened().configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay);
    t.response_started("r1").audio("r1", "i1", &speech(600)).forget();
    t.agent_lost(Loss::Closed, "1006");
    t.forget().on(Slot::B).opened().expect(["B: configure, answers when asked"]);
    t.configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay);
    assert_eq!(t.lines_with("B:"), ["B: recall that the call continues", "B: greet"]);
}

#[test]
fn a_greeting_that_was_heard_in_part_is_not_spoken_again() {
    let mut t = Script::new(spec());
    t.started().opened().configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay);
    t.response_started("r1").saying("r1", "i1", "Welcome").audio("r1", "i1", &speech(600)).mark(1);
    t.agent_lost(Loss::Closed, "1006");
    t.forget().on(Slot::B).opened().expect(["B: configure"]);
    t.configured().after_ms(900).all_is_heard();
    let told = t.lines_with("B:");
    let expected =
        ["B: recall that the call continues", "B: recall agent \"Welcome\"", "B: respond"];
    assert_eq!(told, expected);
}

#[test]
fn a_tool_that_runs_is_told_as_a_call_and_its_result_follows() {
    let mut t = conversation();
    t.response_started("r2").tool_with("r2", "c1", "find_slot", "{\"day\":1}");
    t.ended("r2", Outcome::Completed).expect(["run 1 c1: find_slot {\"day\":1}"]);
    t.agent_lost(Loss::Closed, "1006").forget();
    reopened(&mut t);
    let told = t.lines_with("B: recall");
    assert_eq!(told[2], "B: recall c1: find_slot {\"day\":1}");
    t.tool_done(1, "10:00");
    let lines = t.lines_with("B:");
    assert_eq!(lines, ["B: result c1: 10:00", "B: respond"]);
}

#[test]
fn a_result_that_comes_while_nobody_is_there_is_told_with_its_call() {
    let mut t = conversation();
    t.response_started("r2").tool("r2", "c1", "find_slot").ended("r2", Outcome::Completed);
    t.agent_lost(Loss::Closed, "1006").tool_done(1, "10:00").forget();
    reopened(&mut t);
    let told = t.lines_with("B:");
    assert_eq!(
        told[3..],
        [
            "B: recall c1: find_slot {}",
            "B: result c1: 10:00",
            "B: recall that the call continues",
            "B: respond",
        ]
    );
}

#[test]
fn failed_dials_are_tried_again_with_growing_pauses_until_eight_seconds_are_over() {
    let mut t = conversation();
    t.agent_lost(Loss::Closed, "1006").forget();
    t.on(Slot::B).agent_lost(Loss::Unreachable, "refused");
    t.expect(["note: agent lost: refused"]);
    t.after_ms(199).expect([]);
    t.after_ms(1).expect(["dial A"]);
    t.on(Slot::A).agent_lost(Loss::Busy, "503").forget();
    t.after_ms(500);
    assert_eq!(t.lines_with("dial"), ["dial A"]);
    t.agent_lost(Loss::Unreachable, "refused").after_ms(1_000);
    assert_eq!(t.lines_with("dial"), ["dial A"]);
    // A dial that nobody answers takes three seconds.
    t.after_ms(3_000);
    assert_eq!(t.lines_with("note: agent lost"), ["note: agent lost: connect_timeout"]);
    t.after_ms(4_000).all_is_heard();
    let end = t.lines_with("note: ending");
    assert_eq!(end, ["note: ending 1: agent_unreachable (connect_timeout)"]);
}

#[test]
fn a_service_that_says_no_is_not_asked_again() {
    for (cause, reason) in [(Loss::Refused, "agent_refused"), (Loss::Dismissed, "agent_failed")] {
        let mut t = conversation();
        t.agent_lost(Loss::Closed, "1006").on(Slot::B).agent_lost(cause, "no").all_is_heard();
        let lines = t.lines_with("note: ending");
        assert_eq!(lines, [format!("note: ending 1: {reason} (no)")]);
    }
}

#[test]
fn a_session_that_expired_is_replaced() {
    let mut t = conversation();
    t.complained(Severity::Over, "session_expired");
    t.expect(["close A", "note: agent lost: session_expired", "dial B"]);
}

#[test]
fn a_session_rolls_over_at_a_quiet_moment_and_the_caller_hears_nothing() {
    let mut t = conversation();
    t.at_ms(3_000_000).forget();
    t.at_ms(3_000_100).expect(["dial B"]);
    t.on(Slot::B).opened().expect(["B: configure"]);
    // Somebody speaks: the change waits.
    t.on(Slot::A).speech_started().on(Slot::B).configured().expect([]);
    t.caller_says(1).caller_says(2).forget();
    t.on(Slot::A).speech_stopped().caller_turn("u2").caller_said("u2", "Thanks.").forget();
    t.response_started("r2").ended("r2", Outcome::Completed).expect([
        "B: recall caller \"Are you open?\"",
        "B: recall agent \"Until six.\"",
        "B: recall caller \"Thanks.\"",
        "B: recall that the call continues",
        "B: append 320",
        "close A",
        "note: agent replaced: RolledOver gap 0 turns 3 ",
    ]);
    t.caller_says(3).expect(["B: append 160 as it came"]);
}

#[test]
fn a_session_that_is_lost_while_another_waits_is_replaced_at_once() {
    let mut t = conversation();
    t.at_ms(3_000_100).speech_started().on(Slot::B).opened().configured().forget();
    t.on(Slot::A).agent_lost(Loss::Closed, "1001");
    let lines = t.lines();
    assert_eq!(lines[0], "note: agent lost: 1001");
    assert_eq!(lines[lines.len() - 2], "note: agent replaced: Lost gap 0 turns 2 1001");
    // The caller was speaking, and the old session took the beginning with it.
    assert_eq!(lines[lines.len() - 1], "B: respond");
}

#[test]
fn a_loss_during_a_roll_over_waits_for_the_session_that_is_on_its_way() {
    let mut t = conversation();
    t.at_ms(3_000_100).forget();
    t.agent_lost(Loss::Closed, "1001").expect(["note: agent lost: 1001"]);
    reopened(&mut t);
    assert_eq!(t.lines_with("note: agent replaced").len(), 1);
}

#[test]
fn a_roll_over_that_fails_is_tried_again_and_the_call_goes_on() {
    let mut t = conversation();
    t.at_ms(3_000_100).on(Slot::B).agent_lost(Loss::Busy, "503").forget();
    t.after_ms(29_999);
    assert_eq!(t.lines_with("dial"), [""; 0]);
    t.after_ms(1);
    assert_eq!(t.lines_with("dial"), ["dial B"]);
}

#[test]
fn a_hedged_dial_takes_the_first_that_is_ready() {
    let mut t = Script::new(spec_with(|agent| {
        agent.greeting = None;
        agent.session.hedge_ms = 400;
    }));
    t.started().expect(["note: started", "dial A"]);
    t.at_ms(399).expect([]);
    t.at_ms(400).expect(["dial B"]);
    t.on(Slot::A).opened().on(Slot::B).opened().forget();
    t.configured().expect(["close A", "note: agent ready after 400"]);
}

#[test]
fn a_conversation_is_summed_up_and_the_summary_stands_for_what_it_sums_up() {
    let mut t = Script::live_with(|agent| agent.session.summary_turns = 2);
    t.caller_turn("u1").caller_said("u1", "Are you open?").response_started("r1");
    t.saying("r1", "i1", "Until six.").audio("r1", "i1", &speech(60));
    t.ended("r1", Outcome::Completed).forget();
    t.mark(1).expect(["note: agent turn i1 \"Until six.\" 60/60", "summarise"]);
    t.agent(AgentEvent::Summarised {
        summary: Some("The caller asked for the hours.".into()),
        tokens: 0,
    });
    t.caller_turn("u2").caller_said("u2", "Thanks.").agent_lost(Loss::Closed, "1006").forget();
    reopened(&mut t);
    assert_eq!(
        t.lines_with("B: recall"),
        [
            "B: recall summary \"The caller asked for the hours.\"",
            "B: recall caller \"Thanks.\"",
            "B: recall that the call continues",
        ]
    );
}

#[test]
fn without_a_summary_the_oldest_turns_are_forgotten_and_counted() {
    let mut t = Script::live_with(|agent| agent.session.summary_turns = 0);
    for n in 0..120 {
        t.caller_turn(&format!("u{n}")).caller_said(&format!("u{n}"), &format!("{n}"));
    }
    let forgotten = t.lines_with("note: forgot");
    assert_eq!(forgotten.len(), 120 - 96);
    t.agent_lost(Loss::Closed, "1006").forget();
    reopened(&mut t);
    assert_eq!(t.lines_with("B: recall caller")[0], "B: recall caller \"24\"");
}

#[test]
fn a_socket_that_gives_no_sign_of_life_is_pinged_and_then_given_up() {
    let mut t = Script::live_with(|agent| agent.limits.silence_seconds_max = 0);
    t.at_ms(100 + 20_000).expect([]);
    t.deaf().after_ms(11_999).expect([]);
    t.after_ms(1).expect(["close A", "note: agent lost: no_sign_of_life", "dial B"]);
}

#[test]
fn a_summary_that_is_late_stands_for_no_more_than_it_sums_up() {
    let mut t = Script::live_with(|agent| {
        agent.session.summary_turns = 2;
        agent.limits.silence_seconds_max = 0;
    });
    for item in ["u1", "u2"] {
        t.caller_turn(item).caller_said(item, item).response_started(item);
        t.ended(item, Outcome::Completed);
    }
    assert_eq!(t.lines_with("summarise"), ["summarise"]);
    t.after_ms(90_000);
    for item in ["u3", "u4"] {
        t.caller_turn(item).caller_said(item, item).response_started(item);
        t.ended(item, Outcome::Completed);
    }
    assert_eq!(t.lines_with("summarise"), [""; 0], "nobody could tell one from the other");
    t.agent(AgentEvent::Summarised { summary: Some("So far.".into()), tokens: 0 });
    assert_eq!(t.lines_with("summarise"), ["summarise"], "of what came after it");
    t.agent_lost(Loss::Closed, "1006").forget();
    reopened(&mut t);
    assert_eq!(
        t.lines_with("B: recall"),
        [
            "B: recall summary \"So far.\"",
            "B: recall caller \"u3\"",
            "B: recall caller \"u4\"",
            "B: recall that the call continues",
        ]
    );
}

#[test]
fn a_greeting_that_is_still_owed_comes_before_an_answer() {
    let mut t = Script::new(spec());
    t.started().opened().configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay);
    // It stays silent, and the caller speaks when it is given up.
    t.response_started("r1").after_ms(7_000).speech_started().after_ms(1_000);
    t.agent_lost(Loss::Closed, "1006").forget();
    t.on(Slot::B).opened().configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay);
    assert_eq!(t.lines_with("B: "), ["B: configure, answers when asked", "B: greet"]);
}

#[test]
fn who_waits_for_an_answer_hears_a_clip_when_the_next_session_takes_long_as_well() {
    let mut t = conversation();
    t.speech_started().speech_stopped().caller_turn("u2").response_started("r2");
    t.after_ms(5_000).agent_lost(Loss::Closed, "1006").forget();
    reopened(&mut t);
    assert_eq!(t.lines_with("B: respond"), ["B: respond"]);
    t.response_started("r3").after_ms(2_499).expect([]);
    t.after_ms(1).expect(["play 480", "mark 3"]);
}

#[test]
fn a_roll_over_whose_dial_hangs_is_given_up_and_tried_again() {
    let mut t = conversation();
    t.at_ms(3_000_100).forget();
    t.after_ms(2_999).expect([]);
    t.after_ms(1).expect(["close B", "note: agent lost: connect_timeout"]);
    t.after_ms(30_000);
    assert_eq!(t.lines_with("dial"), ["dial B"]);
}
