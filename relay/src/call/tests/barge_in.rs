//! The caller speaks while the agent does.

use super::script::{Script, speech};
use crate::call::input::{Answering, AudioFormat, Outcome};

#[test]
fn clear_comes_first_then_the_cut_at_what_was_heard() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(2_000));
    t.saying("r1", "i1", "one two three four five six seven eight");
    t.at_ms(300).mark(1).mark(2).mark(3).forget();
    t.speech_started().expect([
        "clear",
        "truncate i1.0 at 180",
        "note: barge-in at i1: heard 180 sent 600 generated 2000",
        "note: agent turn i1 \"one\" 180/2000 cut",
    ]);
}

#[test]
fn words_that_were_heard_are_kept() {
    let mut t = Script::live();
    t.response_started("r1").saying("r1", "i1", "Harbor Bikes,");
    t.audio("r1", "i1", &speech(600)).saying("r1", "i1", " how can I");
    t.audio("r1", "i1", &speech(600)).saying("r1", "i1", " help?");
    t.audio("r1", "i1", &speech(300));
    for mark in 1..=16 {
        t.after_ms(60).mark(mark);
    }
    t.forget().speech_started();
    let lines = t.lines_with("note: agent turn");
    assert_eq!(lines, ["note: agent turn i1 \"Harbor Bikes, how\" 960/1500 cut"]);
}

#[test]
fn the_relay_cancels_only_when_the_service_does_not() {
    let mut t = Script::live();
    t.configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay);
    t.response_started("r1").audio("r1", "i1", &speech(500)).forget();
    t.speech_started();
    assert_eq!(t.lines()[..3], ["clear", "cancel r1", "truncate i1.0 at 0"]);

    let mut t = Script::live();
    t.configured_to(Some(AudioFormat::Ulaw), Answering::ByRelay);
    t.response_started("r1").audio("r1", "i1", &speech(500)).ended("r1", Outcome::Completed);
    t.forget().speech_started();
    assert_eq!(t.lines_with("cancel"), [""; 0], "an answer that is over is not cancelled");
}

#[test]
fn marks_that_a_clear_throws_back_prove_nothing() {
    let mut t = Script::speaking(300);
    t.mark(1).speech_started().forget();
    for dead in 2..=5 {
        t.mark(dead);
    }
    t.expect([]);
    t.response_started("r2").audio("r2", "i2", &speech(60)).expect(["play 480", "mark 6"]);
    t.mark(3).speech_started();
    assert_eq!(t.lines_with("truncate"), ["truncate i2.0 at 0"]);
}

#[test]
fn late_deltas_are_dropped_after_barge_in() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(500)).speech_started().forget();
    t.audio("r1", "i1", &speech(500)).expect(["note: tolerated LateAudio"]);
    t.saying("r1", "i1", "late").audio_ended("r1", "i1").expect([]);
    t.ended("r1", Outcome::Cancelled).expect([]);
    t.response_started("r2").audio("r2", "i2", &speech(60)).expect(["play 480", "mark 7"]);
}

#[test]
fn an_answer_that_is_cut_before_its_first_sample_is_late_from_there_on() {
    let mut t = Script::live();
    t.response_started("r1").speech_started().expect([]);
    t.audio("r1", "i1", &speech(60)).expect(["note: tolerated LateAudio"]);
}

#[test]
fn parts_that_were_heard_in_full_are_not_cut() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(60)).audio_ended("r1", "i1");
    t.audio("r1", "i2", &speech(120)).audio_ended("r1", "i2");
    t.audio("r1", "i3", &speech(60)).forget();
    t.mark(1).mark(2).speech_started().expect([
        "clear",
        "truncate i2.0 at 60",
        "truncate i3.0 at 0",
        "note: barge-in at i2: heard 60 sent 120 generated 120",
        "note: agent turn i1 \"\" 60/60",
        "note: agent turn i2 \"\" 60/120 cut",
        "note: agent turn i3 \"\" 0/60 cut",
    ]);
}

#[test]
fn who_speaks_into_silence_interrupts_nothing() {
    let mut t = Script::live();
    t.speech_started().expect([]);
    let mut t = Script::speaking(120);
    t.mark(2).forget();
    t.speech_started().expect([]);
}

#[test]
fn what_was_heard_in_full_but_is_not_over_is_cut_where_it_is() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(120)).mark(2).forget();
    t.speech_started().expect([
        "truncate i1.0 at 120",
        "note: barge-in at i1: heard 120 sent 120 generated 120",
        "note: agent turn i1 \"\" 120/120 cut",
    ]);
}

#[test]
fn playout_begins_at_once_after_a_cut() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(2_000)).speech_started();
    t.ended("r1", Outcome::Cancelled).response_started("r2").forget();
    t.audio("r2", "i2", &speech(2_000));
    assert_eq!(t.lines_with("play").len(), 6, "the cleared lead is free again");
}
