//! The agent's voice on its way to the ear.

use std::time::Duration;

use super::script::{Script, pcm, quiet, speech};
use crate::call::CallSpec;
use crate::call::input::{AudioFormat, Outcome, Side};

#[test]
fn the_first_chunk_leaves_with_the_first_delta_and_each_has_its_mark() {
    let mut t = Script::live();
    t.response_started("r1").expect([]);
    t.audio("r1", "i1", &speech(40)).expect(["play 320", "mark 1"]);
    t.audio("r1", "i1", &speech(120)).expect(["play 480", "mark 2", "play 480", "mark 3"]);
}

#[test]
fn at_most_the_lead_is_ahead_of_the_ear() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(2_000));
    assert_eq!(t.lines_with("play").len(), 6, "six chunks of 60 ms fit into 400 ms");
    // There is room at 20, and a frame may take the chunk with it until 40.
    t.at_ms(100 + 39).expect([]);
    t.at_ms(100 + 40).expect(["play 480", "mark 7"]);
    t.at_ms(100 + 99).expect([]);
    t.at_ms(100 + 100).expect(["play 480", "mark 8"]);
}

#[test]
fn a_chunk_leaves_in_the_wake_of_a_callers_frame() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(2_000)).forget();
    t.at_ms(100 + 19).caller_says(7);
    assert!(t.lines_with("play").is_empty(), "the lead has no room yet");
    t.at_ms(100 + 25).caller_says(7);
    assert_eq!(t.lines_with("play"), ["play 480"]);
    t.at_ms(100 + 60).expect([]);
}

#[test]
fn another_lead_is_kept_as_well() {
    let mut t = Script::live_as(CallSpec { playout_lead: Duration::from_millis(1_000), ..quiet() });
    t.response_started("r1").audio("r1", "i1", &speech(2_000));
    assert_eq!(t.lines_with("play").len(), 16);
}

#[test]
fn the_last_samples_are_played_when_the_audio_ends() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(61)).expect(["play 480", "mark 1"]);
    t.audio_ended("r1", "i1").expect(["play 8", "mark 2"]);
}

#[test]
fn the_last_samples_are_played_when_only_the_answer_ends() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(61)).forget();
    t.ended("r1", Outcome::Completed).expect(["play 8", "mark 2"]);
}

#[test]
fn a_short_rest_leaves_before_the_ear_runs_dry() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(90)).expect(["play 480", "mark 1"]);
    t.at_ms(100 + 39).expect([]);
    t.at_ms(100 + 40).expect(["play 240", "mark 2"]);
}

#[test]
fn heard_is_what_marks_prove_and_nothing_else() {
    let mut t = Script::speaking(300);
    t.at_ms(200).mark(1).mark(2).forget();
    t.speech_started();
    assert_eq!(t.lines_with("truncate"), ["truncate i1.0 at 120"]);
}

#[test]
fn a_mark_proves_all_before_it() {
    let mut t = Script::speaking(300);
    t.at_ms(300).mark(3).forget();
    t.speech_started();
    assert_eq!(t.lines_with("truncate"), ["truncate i1.0 at 180"]);
}

#[test]
fn a_mark_that_nobody_set_is_counted() {
    let mut t = Script::speaking(120);
    t.forget().mark(77).expect(["note: tolerated StrayMark"]);
    t.mark(2).mark(1).expect(["note: agent turn i1 \"\" 120/120", "note: tolerated StrayMark"]);
}

#[test]
fn a_second_part_follows_the_first_and_is_counted_by_itself() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(70)).forget();
    t.audio("r1", "i2", &speech(100)).expect(["play 80", "mark 2", "play 480", "mark 3"]);
    t.mark(3).forget();
    t.speech_started();
    assert_eq!(t.lines_with("truncate"), ["truncate i2.0 at 60"], "i1 was heard in full");
}

#[test]
fn audio_of_a_part_that_another_has_followed_is_out_of_place() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(60)).audio("r1", "i2", &speech(60));
    t.forget().audio("r1", "i1", &speech(60)).expect(["note: tolerated AgentMalformed"]);
}

#[test]
fn audio_that_cannot_be_read_is_counted_and_leaves_nothing_behind() {
    let mut t = Script::live();
    t.response_started("r1")
        .base64_audio("r1", "i1", "!")
        .expect(["note: tolerated AgentMalformed"]);
    t.audio("r1", "i1", &speech(60)).audio_ended("r1", "i1");
    assert_eq!(t.played(), speech(60));
}

#[test]
fn audio_of_an_answer_that_never_began_is_late() {
    let mut t = Script::live();
    t.audio("r9", "i1", &speech(60)).expect(["note: tolerated LateAudio"]);
}

#[test]
fn nothing_leaves_while_the_callers_socket_is_stalled() {
    let mut t = Script::live();
    t.response_started("r1").stalled(Side::Caller);
    t.audio("r1", "i1", &speech(120)).at_ms(1_000).expect([]);
    t.drained(Side::Caller).expect(["play 480", "mark 1", "play 480", "mark 2"]);
}

#[test]
fn more_than_a_minute_is_cancelled_dropped_and_cut_where_it_was_heard() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(60_000)).forget();
    // 360 ms have left already.
    t.audio("r1", "i1", &speech(400)).expect(["cancel r1", "note: dropped 40 of Playout"]);
    t.audio("r1", "i1", &speech(400)).expect(["note: tolerated LateAudio"]);
    t.ended("r1", Outcome::Cancelled).all_is_heard();
    let mut kept = speech(60_000);
    kept.extend(speech(360));
    assert_eq!(t.played(), kept);
    let last = t.lines();
    let last: Vec<&str> = last.iter().map(String::as_str).rev().take(2).collect();
    let turn = "note: agent turn i1 \"\" 60360/60400 cut";
    assert_eq!(last, [turn, "truncate i1.0 at 60360"]);
}

#[test]
fn without_any_proof_playout_waits_for_a_mark() {
    let mut t = Script::live();
    t.response_started("r1").audio("r1", "i1", &speech(10_000)).at_ms(9_000);
    let sent = t.played().len() / 8;
    assert!((2_400..2_500).contains(&sent), "{sent} ms: the lead and two seconds");
    t.forget().mark(30);
    assert_eq!(t.lines_with("play").len(), 6, "the ear is dry by the clock");
}

#[test]
fn a_pcm_agent_is_heard_in_mu_law_for_as_long_as_it_spoke() {
    let mut t = Script::new(pcm());
    t.started().opened().configured_as(Some(AudioFormat::Pcm24k)).response_started("r1").forget();
    // 60 ms in halves that do not even keep samples whole.
    let pcm = [0_u8; 24 * 2 * 60];
    t.audio("r1", "i1", &pcm[..1_001]).audio("r1", "i1", &pcm[1_001..]);
    t.audio_ended("r1", "i1").ended("r1", Outcome::Completed).all_is_heard();
    let heard = t.played().len();
    assert!((480..=480 + 80).contains(&heard), "{heard} samples, a filter's delay at most");
    assert_eq!(t.lines_with("note"), ["note: agent turn i1 \"\" 60/60"]);
}

#[test]
fn half_a_sample_of_an_answer_that_was_too_long_is_not_heard_in_the_next() {
    let mut t = Script::new(pcm());
    t.started().opened().configured_as(Some(AudioFormat::Pcm24k));
    t.response_started("r1").audio("r1", "i1", &vec![0; 61_000 * 48 + 1]);
    t.ended("r1", Outcome::Cancelled).after_ms(60).all_is_heard();
    // Loud, of one level; off by a byte it would be next to silence.
    t.response_started("r2").audio("r2", "i2", &[0x00, 0x40].repeat(24 * 300));
    t.ended("r2", Outcome::Completed).all_is_heard();
    let middle = t.played()[t.played().len() - 1_200];
    assert_eq!(middle, t.played()[t.played().len() - 1_000]);
    let mut level = Vec::new();
    codec::g711::ulaw_decode(&[middle], &mut level);
    assert!(level[0] > 15_000, "{level:?}");
}
