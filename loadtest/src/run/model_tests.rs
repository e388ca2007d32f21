//! The lean model: its order of events, and the frames that it counts.

use super::reply::wide;
use super::*;
use crate::run::stamp::{BLOCK, Stamp, plain};

fn append(block: &[u8]) -> String {
    let audio = base64_simd::STANDARD.encode_to_string(block);
    format!("{{\"type\":\"input_audio_buffer.append\",\"audio\":\"{audio}\"}}")
}

fn stamp(block: u32, loud: bool) -> [u8; BLOCK] {
    Stamp { call: 3, reply: 0, block, loud }.write()
}

struct World {
    board: Board,
    figures: Figures,
    session: Session,
    out: Vec<String>,
}

fn world(audio: Audio) -> World {
    let mut out = Vec::new();
    let session = Session::new(audio, Pace::default(), &mut out);
    World { board: Board::new(8), figures: Figures::new(), session, out }
}

impl World {
    fn receive(&mut self, text: &str) {
        let World { board, figures, session, out } = self;
        session.receive(text, 0, board, figures, out);
    }

    fn kinds(&self) -> Vec<String> {
        let kind = |text: &String| serde_json::from_str::<Value>(text).unwrap()["type"].clone();
        let mut kinds: Vec<_> =
            self.out.iter().map(|text| kind(text).as_str().unwrap().to_owned()).collect();
        kinds.dedup();
        kinds
    }
}

#[test]
fn a_turn_is_answered_in_the_order_of_the_service() {
    let mut world = world(Audio::Mulaw);
    for block in 0..60 {
        world.receive(&append(&stamp(block, block < 30)));
    }
    for step in 0..10 {
        let World { board, session, out, .. } = &mut world;
        session.tick(1_000_000 + step * 100_000, board, out);
    }
    assert_eq!(world.board.reply(3), Some((1, 1_000_000)));
    let kinds = world.kinds();
    let wanted = [
        "session.created",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ];
    assert_eq!(kinds, wanted);
}

#[test]
fn speech_cuts_the_answer() {
    let mut world = world(Audio::Mulaw);
    for block in 0..60 {
        world.receive(&append(&stamp(block, block < 30)));
    }
    world.session.tick(1_000_000, &world.board, &mut world.out);
    world.receive(&append(&stamp(60, true)));
    let last: Value = serde_json::from_str(world.out.last().unwrap()).unwrap();
    assert_eq!(last["response"]["status"], "cancelled");
    assert_eq!(world.session.next_us(), None);
}

#[test]
fn lost_and_altered_frames_are_counted() {
    let mut world = world(Audio::Mulaw);
    world.receive(&append(&stamp(0, false)));
    world.receive(&append(&stamp(3, false)));
    let mut altered = stamp(4, false);
    altered[100] ^= 1;
    world.receive(&append(&altered));
    world.receive(&append(&stamp(5, false)));
    let counts = world.figures.counts;
    assert_eq!((counts.frames_lost_up, counts.frames_altered_up), (2, 1));
    assert_eq!(world.board.arrived(3), 6);
}

#[test]
fn frames_joined_or_cut_anywhere_are_the_same_frames() {
    let mut world = world(Audio::Mulaw);
    let all: Vec<u8> = (0..30).flat_map(|block| stamp(block, false)).collect();
    for piece in all.chunks(413) {
        world.receive(&append(piece));
    }
    let counts = world.figures.counts;
    assert_eq!((counts.frames_lost_up, counts.frames_altered_up), (0, 0));
    assert_eq!(world.board.arrived(3), 30);
}

#[test]
fn a_call_over_pcm_is_known_by_its_spelling() {
    let mut world = world(Audio::Pcm24k);
    for block in 0..25 {
        let loud = crate::run::stamp::spelling(5, block).unwrap_or(false);
        let mut bytes = Vec::new();
        wide(&plain(loud), &mut bytes);
        world.receive(&append(&bytes));
    }
    assert_eq!(world.session.ear.call, Some(5));
    assert_eq!(world.board.arrived(5), 25);
    assert_eq!(world.figures.counts.frames_altered_up, 0);
}

#[test]
fn a_partial_update_keeps_the_rest() {
    let mut world = world(Audio::Mulaw);
    let update = |session: Value| json!({"type": "session.update", "session": session}).to_string();
    let format = json!({"type": "audio/pcmu"});
    world.receive(&update(json!({"audio": {"input": {"format": format},
        "output": {"format": format}}, "instructions": "x"})));
    world.receive(&update(json!({"audio": {"input": {"turn_detection":
        {"create_response": false, "interrupt_response": false}}}})));
    let last: Value = serde_json::from_str(world.out.last().unwrap()).unwrap();
    assert_eq!(last["session"]["audio"]["input"]["format"], format);
    assert_eq!(last["session"]["instructions"], "x");
    for block in 0..60 {
        world.receive(&append(&stamp(block, block < 30)));
    }
    assert_eq!(world.session.next_us(), None);
    world.receive(&json!({"type": "response.create"}).to_string());
    assert!(world.session.next_us().is_some());
}

#[test]
fn a_truncate_is_compared_with_the_ear() {
    let mut world = world(Audio::Mulaw);
    world.receive(&append(&stamp(0, false)));
    world.receive(&json!({"type": "response.create"}).to_string());
    world.session.tick(1_000_000, &world.board, &mut world.out);
    let item = world.session.last_item.clone();
    let truncate = |ms: u64| {
        json!({"type": "conversation.item.truncate", "item_id": item, "content_index": 0,
               "audio_end_ms": ms})
        .to_string()
    };
    let _ = world.board.cut(3, Cut { end: End::Caller, reply: 1, ms: 500 });
    world.receive(&truncate(440));
    assert_eq!((world.figures.unclaimed_us.len(), world.figures.counts.overclaimed), (1, 0));
    assert!(world.figures.unclaimed_us.max().abs_diff(60_000) < 100);
    world.receive(&truncate(501));
    let found = world.board.cut(3, Cut { end: End::Caller, reply: 1, ms: 500 });
    assert!(found.is_some_and(|found| found.claimed_ms > found.played_ms));
}
