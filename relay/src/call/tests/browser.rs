//! A browser calls: 24 kHz both ways, and nothing is made smaller on the way.

use std::time::Duration;

use link::message::Side as Muted;

use super::script::{Script, browser, speech};
use crate::call::CallSpec;
use crate::call::input::{
    AgentEvent, Audio, AudioFormat, Batch, CallerEvent, Command, Input, Outcome, Severity, Side,
    Slot,
};

/// A browser's call whose agent is ready at 100 ms, and has said nothing.
fn live() -> Script {
    let mut t = Script::new(browser());
    t.started().at_ms(100).opened().configured_as(Some(AudioFormat::Pcm24k)).forget();
    t
}

/// So many milliseconds by which every byte can be told apart from its neighbours.
fn pcm(ms: usize) -> Vec<u8> {
    speech(ms * 6)
}

#[test]
fn an_agent_that_speaks_mu_law_on_the_phone_speaks_pcm_to_a_browser() {
    let mut t = Script::new(browser());
    t.started().opened().configured_as(Some(AudioFormat::Ulaw));
    assert_eq!(t.lines_with("close A"), ["close A"], "a session in mu-law is not ours");
    live();
}

#[test]
fn what_the_person_says_passes_as_it_came() {
    let mut t = live();
    let audio = pcm(20);
    t.browser_audio(&audio).expect(["append pcm bytes 960"]);
    assert_eq!(t.appended(), audio);
    // Of any length: 128 samples are what a browser's audio thread has at once.
    t.browser_audio(&audio[..256]).expect(["append pcm bytes 256"]);
}

#[test]
fn two_seconds_of_the_person_are_held_while_the_agent_connects() {
    let mut t = Script::new(browser());
    t.started().opened().forget();
    for n in 0..101 {
        t.browser_says(20, n);
    }
    t.expect(["note: dropped 20 of Uplink"]);
    t.configured_as(Some(AudioFormat::Pcm24k)).forget();
    let expected: Vec<u8> = (1..101).flat_map(|n| [n; 960]).collect();
    assert_eq!(t.appended(), expected);
}

#[test]
fn held_audio_leaves_in_pieces_of_200_ms_and_a_stall_holds_one_second() {
    let mut t = live();
    t.stalled(Side::Agent(Slot::A)).browser_says(1_000, 1).expect([]);
    t.browser_says(20, 2).expect(["note: dropped 20 of Uplink"]);
    t.drained(Side::Agent(Slot::A));
    assert_eq!(t.lines_with("append"), ["append pcm bytes 9600"; 5]);
    assert_eq!(t.appended().len(), 48_000);
}

#[test]
fn half_a_sample_is_malformed_and_moves_nothing() {
    let mut t = live();
    t.browser_audio(&[1, 2, 3]).expect(["note: tolerated CallerMalformed"]);
    t.browser_audio(&[1, 2]).expect(["append pcm bytes 2"]);
    // A carrier's form of audio is nothing that a browser sends.
    t.stalled(Side::Agent(Slot::A));
    t.caller(CallerEvent::Speech(Audio::Base64("AAAA")));
    t.expect(["note: tolerated CallerMalformed"]);
}

#[test]
fn a_person_who_says_nothing_is_heard_as_silence_for_two_seconds() {
    let mut t = live();
    t.after_ms(5_000).expect([]);
    t.browser_says(20, 1).forget();
    t.after_ms(399).expect([]);
    t.after_ms(1).expect(["append pcm bytes 9600", "append pcm bytes 9600"]);
    t.after_ms(1_600).forget();
    t.after_ms(10_000).expect([]);
    t.browser_says(20, 1).expect(["append pcm bytes 960"]);
    t.after_ms(400);
    assert_eq!(t.lines_with("append"), ["append pcm bytes 9600"; 2], "each pause is filled");
    assert!(t.appended().iter().all(|byte| *byte == 0 || *byte == 1));
}

#[test]
fn a_muted_person_is_heard_as_silence_of_the_same_length() {
    let mut t = live();
    t.command(&Command::Mute { side: Muted::Caller, on: true }).forget();
    t.browser_says(20, 7).expect(["append pcm bytes 960"]);
    assert_eq!(t.appended(), [0; 960]);
}

#[test]
fn frames_are_joined_when_writes_are_batched() {
    let mut t = live();
    t.put(Input::Batch(Batch::Writes(Duration::from_millis(60)))).expect([]);
    t.browser_says(20, 1).browser_says(20, 2).expect([]);
    t.browser_says(20, 3).expect(["append pcm bytes 2880"]);
}

#[test]
fn what_the_agent_says_is_heard_byte_for_byte_in_chunks_of_60_ms() {
    let mut t = live();
    let said = pcm(1_000);
    t.response_started("r1");
    // A service may cut its stream of bytes between the two of a sample.
    t.audio("r1", "i1", &said[..4_001]).audio("r1", "i1", &said[4_001..]);
    let first = t.lines();
    assert_eq!(first[..4], ["play 2880", "mark 1", "play 2880", "mark 2"], "{first:?}");
    t.audio_ended("r1", "i1").ended("r1", Outcome::Completed).all_is_heard();
    assert_eq!(t.played(), said);
    assert_eq!(t.lines_with("note: agent"), ["note: agent turn i1 \"\" 1000/1000"]);
}

#[test]
fn each_chunk_is_followed_by_the_mark_of_its_number() {
    let mut t = live();
    t.response_started("r1").audio("r1", "i1", &pcm(300)).after_ms(20).speech_started();
    t.response_started("r2").audio("r2", "i2", &pcm(300)).audio_ended("r2", "i2");
    let (mut chunks, mut last) = (0, 0);
    for line in t.lines() {
        if line.starts_with("play") {
            chunks += 1;
        }
        if let Some(number) = line.strip_prefix("mark ") {
            last = number.parse().unwrap();
            assert_eq!(last, chunks, "a page counts what it is given");
        }
    }
    assert!(last > 6, "{last}");
}

#[test]
fn the_lead_is_as_long_as_a_phones() {
    let mut t = live();
    t.response_started("r1").audio("r1", "i1", &pcm(5_000));
    assert_eq!(t.played().len(), 360 * 48, "six chunks fit into 400 ms");
    t.at_ms(1_000);
    let ms = t.played().len() / 48;
    assert!((1_200..=1_300).contains(&ms), "{ms} ms after 900 ms");
}

#[test]
fn an_interruption_cuts_at_what_the_page_has_heard() {
    let mut t = live();
    t.response_started("r1").audio("r1", "i1", &pcm(3_000)).forget();
    t.at_ms(400).forget();
    t.mark(1).mark(2).speech_started();
    t.expect([
        "clear",
        "truncate i1.0 at 120",
        "note: barge-in at i1: heard 120 sent 660 generated 3000",
        "note: agent turn i1 \"\" 120/3000 cut",
    ]);
}

#[test]
fn a_minute_is_held_and_the_rest_is_dropped() {
    let mut t = live();
    t.response_started("r1").audio("r1", "i1", &vec![1; 61_000 * 48]);
    assert_eq!(t.lines_with("note: dropped"), ["note: dropped 1000 of Playout"]);
}

#[test]
fn our_recordings_are_heard_as_long_as_on_the_phone() {
    let mut t = Script::new(CallSpec { sorry: &[0xFF; 960], ..browser() });
    t.started().opened().forget();
    t.agent(AgentEvent::Complained { severity: Severity::Fatal, code: "invalid_api_key" });
    t.all_is_heard();
    let ms = t.played().len() / 48;
    assert!((120..130).contains(&ms), "{ms} ms, a filter's delay at most");
    assert!(t.played().iter().all(|byte| *byte == 0), "silence stays silence");
}
