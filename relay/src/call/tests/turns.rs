//! Who has the word: answers, one at a time, and what was said in them.

use super::script::{Script, speech};
use crate::call::input::Outcome;

#[test]
fn a_turn_of_the_agent_is_complete_when_it_was_heard() {
    let mut t = Script::live();
    t.speech_started().speech_stopped().at_ms(600).response_started("r1");
    t.saying("r1", "i1", "Good").at_ms(700).audio("r1", "i1", &speech(100));
    t.saying("r1", "i1", " morning.").audio_ended("r1", "i1").forget();
    t.mark(2).expect([]);
    t.ended("r1", Outcome::Completed)
        .expect(["note: agent turn i1 \"Good morning.\" 100/100 after 600"]);
}

#[test]
fn only_the_first_answer_replies_to_what_was_said() {
    let mut t = Script::live();
    t.speech_started().speech_stopped().at_ms(600);
    for response in ["r1", "r2"] {
        t.response_started(response).audio(response, response, &speech(60));
        t.ended(response, Outcome::Completed).all_is_heard();
    }
    let turns = t.lines_with("note");
    let expected = ["note: agent turn r1 \"\" 60/60 after 500", "note: agent turn r2 \"\" 60/60"];
    assert_eq!(turns, expected);
}

#[test]
fn words_of_the_caller_make_a_turn_whenever_they_come() {
    let mut t = Script::live();
    t.caller_turn("u1").expect([]);
    t.response_started("r1").caller_said("u1", "Hello?");
    t.expect(["note: caller turn u1 \"Hello?\""]);
}

#[test]
fn words_are_told_for_the_moment_before_their_turn_is_complete() {
    let mut t = Script::live();
    t.speech_started().caller_saying("u1", "Are you").caller_saying("u1", " open?");
    assert_eq!(t.told_so_far(), ["Caller u1 \"Are you\"", "Caller u1 \" open?\""]);
    t.speech_stopped().caller_turn("u1").caller_said("u1", "Are you open?");
    t.response_started("r1").saying("r1", "i1", "Until").saying("r1", "i1", " six.");
    assert_eq!(t.told_so_far(), ["Agent i1 \"Until\"", "Agent i1 \" six.\""]);
    t.audio("r1", "i1", &speech(60)).speech_started();
    t.saying("r1", "i1", " On Sundays until four.");
    assert_eq!(t.told_so_far(), [""; 0], "what was cut is told to nobody");
}

#[test]
fn turns_whose_words_never_come_are_told_at_the_end() {
    let mut t = Script::live();
    t.caller_turn("u1").caller_turn("u2").caller_said("u1", "Hello?").forget();
    t.hang_up().expect(["note: caller turn u2 \"\"", "note: ending 1: operator_hung_up"]);
}

#[test]
fn only_so_many_turns_wait_for_their_words() {
    let mut t = Script::live();
    for n in 0..17 {
        t.caller_turn(&format!("u{n}"));
    }
    t.expect(["note: caller turn u0 \"\""]);
}

#[test]
fn a_tool_that_does_not_exist_is_answered_and_spoken_about_after_the_answer() {
    let mut t = Script::live();
    t.response_started("r1").tool("r1", "c1", "fly").expect([
        "note: tolerated UnknownTool",
        "note: tool fly c1: Failed after 0",
        "result c1: {\"error\":\"there is no such tool\"}",
    ]);
    t.tool("r1", "c2", "sing").forget();
    t.ended("r1", Outcome::Completed).expect(["respond"]);
    t.response_started("r2").ended("r2", Outcome::Completed).expect([]);
}

#[test]
fn an_answer_that_the_service_begins_by_itself_is_all_that_is_owed() {
    let mut t = Script::live();
    t.response_started("r1").tool("r1", "c1", "fly").speech_started();
    // The caller spoke: the service has begun another answer before it ended the first.
    t.response_started("r2").forget();
    t.ended("r1", Outcome::Cancelled).expect([]);
    t.ended("r2", Outcome::Completed).expect([]);
}

#[test]
fn an_item_without_audio_is_no_turn() {
    let mut t = Script::live();
    t.response_started("r1").saying("r1", "i1", "thinking").ended("r1", Outcome::Completed);
    t.all_is_heard().expect([]);
}

#[test]
fn an_item_of_which_only_the_beginning_has_room_keeps_its_place() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(59_900)).ended("r1", Outcome::Completed);
    t.response_started("r2").audio("r2", "i2", &speech(1_000)).caller_turn("u1").forget();
    t.speech_started().caller_said("u1", "Stop.");
    let orders: Vec<u32> = t.orders().to_vec();
    assert_eq!(orders, [1, 2, 3]);
}

#[test]
fn items_that_are_never_heard_are_not_remembered_for_ever() {
    let mut t = Script::live();
    for n in 0..200 {
        let (response, item) = (format!("r{n}"), format!("i{n}"));
        t.response_started(&response)
            .saying(&response, &item, "Well")
            .ended(&response, Outcome::Completed);
    }
}
