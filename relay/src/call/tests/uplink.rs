//! The caller's voice on its way to the agent.

use super::script::{Script, pcm, spec, speech};
use std::time::Duration;

use crate::call::input::{Audio, AudioFormat, Batch, CallerEvent, Input, Side, Slot};

#[test]
fn audio_passes_as_the_text_that_it_came_as() {
    let mut t = Script::live();
    t.caller_audio(&[9; 160]).expect(["append 160 as it came"]);
    t.caller_audio(&[9; 37]).expect(["append 37 as it came"]);
}

#[test]
fn two_seconds_are_held_while_the_agent_connects_and_the_oldest_go_first() {
    let mut t = Script::new(spec());
    t.started().opened().forget();
    for n in 0..100 {
        t.caller_says(n);
    }
    t.expect([]);
    t.caller_says(100).expect(["note: dropped 20 of Uplink"]);
    t.caller_says(101).expect(["note: dropped 20 of Uplink"]);
    t.configured().forget();
    let expected: Vec<u8> = (2..=101).flat_map(|n| [n; 160]).collect();
    assert_eq!(t.appended(), expected);
}

#[test]
fn held_audio_leaves_in_pieces_of_200_ms() {
    let mut t = Script::new(spec());
    t.started().opened().caller_audio(&speech(500)).forget();
    t.configured();
    assert_eq!(t.lines_with("append"), ["append 1600", "append 1600", "append 800"]);
    assert_eq!(t.appended(), speech(500));
}

#[test]
fn one_second_is_held_while_the_agents_socket_is_stalled() {
    let mut t = Script::live();
    t.stalled(Side::Agent(Slot::A));
    for n in 0..50 {
        t.caller_says(n);
    }
    t.expect([]);
    t.caller_says(50).expect(["note: dropped 20 of Uplink"]);
    t.drained(Side::Agent(Slot::A));
    let expected: Vec<u8> = (1..=50).flat_map(|n| [n; 160]).collect();
    assert_eq!(t.appended(), expected);
    t.forget().caller_says(51).expect(["append 160 as it came"]);
}

#[test]
fn a_stall_before_the_session_is_ours_changes_nothing() {
    let mut t = Script::new(spec());
    t.started().opened().stalled(Side::Agent(Slot::A)).caller_says(1);
    t.drained(Side::Agent(Slot::A)).forget();
    t.configured();
    assert_eq!(t.lines_with("append"), ["append 160"]);
}

#[test]
fn media_that_comes_twice_or_out_of_order_is_dropped() {
    let mut t = Script::live();
    t.caller_chunk(4, &[1; 160]).expect(["append 160 as it came"]);
    t.caller_chunk(4, &[1; 160]).expect(["note: tolerated StrayMedia"]);
    t.caller_chunk(3, &[1; 160]).expect(["note: tolerated StrayMedia"]);
    t.caller_chunk(5, &[1; 160]).expect(["append 160 as it came"]);
}

#[test]
fn audio_that_cannot_be_read_counts_as_malformed() {
    let mut t = Script::new(spec());
    t.started().opened().forget();
    let audio = Audio::Base64("not base64!");
    t.caller(CallerEvent::Media { at_ms: 20, chunk: 1, audio });
    t.expect(["note: tolerated CallerMalformed"]);
    t.caller_chunk(2, &[1; 160]).configured();
    assert_eq!(t.appended(), [1; 160]);
}

#[test]
fn a_pcm_agent_gets_three_samples_for_one() {
    let mut t = Script::new(pcm());
    t.started().opened().caller_says(0xFF).forget();
    t.configured_as(Some(AudioFormat::Pcm24k));
    assert_eq!(t.lines_with("append"), ["append pcm 480"]);
    t.caller_says(0xFF).caller_says(0xFF).expect(["append pcm 480", "append pcm 480"]);
    assert!(t.appended().iter().all(|byte| *byte == 0), "silence stays silence");
}

#[test]
fn a_gap_in_the_carriers_time_is_filled_with_silence() {
    let mut t = Script::live();
    t.caller_at(1, 0).caller_at(2, 20).forget();
    t.caller_at(3, 140).expect([
        "note: tolerated FilledGap",
        "append 800",
        "append 160 as it came",
    ]);
    t.caller_at(4, 160).expect(["append 160 as it came"]);
    // Less than two frames is jitter of the stamps, and a stamp that goes back moves nothing.
    t.caller_at(5, 219)
        .caller_at(6, 210)
        .expect(["append 160 as it came", "append 160 as it came"]);
}

#[test]
fn a_long_gap_is_filled_with_two_seconds() {
    let mut t = Script::live();
    t.caller_at(1, 0).forget().caller_at(2, 60_020);
    assert_eq!(t.appended().len(), 160 + 16_000 + 160);
}

#[test]
fn a_carrier_that_sends_nothing_is_heard_as_silence_for_two_seconds() {
    let mut t = Script::live();
    t.caller_at(1, 0).forget();
    t.after_ms(399).expect([]);
    t.after_ms(1).expect(["append 1600", "append 1600"]);
    t.after_ms(1_600).forget();
    t.after_ms(10_000).expect([]);
    // What was put in meanwhile is not put in again.
    t.caller_at(2, 12_020);
    assert_eq!(t.lines_with("append"), ["append 160 as it came"]);
}

const SIXTY: Duration = Duration::from_millis(60);

#[test]
fn three_frames_are_joined_when_writes_are_batched() {
    let mut t = Script::live();
    t.put(Input::Batch(Batch::Writes(SIXTY))).expect([]);
    t.caller_says(1).caller_says(2).expect([]);
    t.caller_says(3).expect(["append 480"]);
    t.caller_says(4).expect([]);
    let expected: Vec<u8> = (1..=3).flat_map(|n| [n; 160]).collect();
    assert_eq!(t.appended(), expected);
    assert_eq!(t.call.reads_caller_at(), None);
    t.put(Input::Batch(Batch::Off)).expect(["append 160"]);
    t.caller_says(5).expect(["append 160 as it came"]);
}

#[test]
fn what_waits_for_more_does_not_wait_for_a_carrier_that_pauses() {
    let mut t = Script::live();
    t.put(Input::Batch(Batch::Writes(SIXTY)));
    t.caller_says(1).expect([]);
    t.after_ms(400);
    assert_eq!(t.lines_with("append")[0], "append 160");
}

#[test]
fn a_caller_that_is_read_at_a_pace_is_sent_on_at_that_pace() {
    let mut t = Script::live();
    t.put(Input::Batch(Batch::Reads(SIXTY))).expect([]);
    t.after_ms(59).expect([]);
    // All that came meanwhile is read at once; then the deadline comes.
    t.caller_says(1).caller_says(2).expect([]);
    t.after_ms(1).expect(["append 320"]);
    t.after_ms(60).expect([]);
    t.caller_says(3).after_ms(60).expect(["append 160"]);
    assert!(t.call.reads_caller_at().is_some());
    t.put(Input::Batch(Batch::Off));
    assert_eq!(t.call.reads_caller_at(), None);
}

#[test]
fn a_call_that_nobody_listens_to_is_read_as_it_comes() {
    let mut t = Script::new(spec());
    t.put(Input::Batch(Batch::Reads(SIXTY)));
    assert_eq!(t.call.reads_caller_at(), None, "there is no stream yet");
    t.started();
    assert!(t.call.reads_caller_at().is_some());
    t.hang_up().after_ms(20_000);
    assert_eq!(t.call.reads_caller_at(), None, "it is over");
}

#[test]
fn joined_frames_are_transcoded_at_once() {
    let mut t = Script::new(pcm());
    t.started().opened().configured_as(Some(AudioFormat::Pcm24k)).forget();
    t.put(Input::Batch(Batch::Writes(SIXTY)));
    t.caller_says(0xFF).caller_says(0xFF).expect([]);
    t.caller_says(0xFF).expect(["append pcm 1440"]);
}

#[test]
fn joining_survives_the_loss_of_the_agent() {
    let mut t = Script::live();
    t.put(Input::Batch(Batch::Writes(SIXTY)));
    t.caller_says(1).stalled(Side::Agent(Slot::A)).caller_says(2).caller_says(3).caller_says(4);
    t.forget().drained(Side::Agent(Slot::A)).expect(["append 640"]);
}
