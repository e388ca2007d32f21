//! Audio over real sockets: bit for bit when both sides speak mu-law, nearly so through PCM.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use futures_util::future::join_all;
use loadtest::audio::Speech;

use crate::bridge_rig::{Caller, Format, Model, Rig};
use crate::snr::snr_db;

/// Bytes of every value, without a pattern that a lost or doubled piece would leave intact.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Cuts into pieces whose lengths take turns.
fn pieces<'a>(bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    lengths.iter().cycle().map_while(move |length| {
        let (piece, later) = rest.split_at((*length).min(rest.len()));
        rest = later;
        (!piece.is_empty()).then_some(piece)
    })
}

#[tokio::test]
async fn the_callers_voice_arrives_bit_for_bit() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, mut model) = rig.call().await;
    let spoken = noise(16_000);
    for frame in pieces(&spoken, &[160, 160, 1, 2, 3, 400, 160, 159]) {
        caller.media(frame).await;
    }
    assert!(model.hear(spoken.len()).await == spoken);
}

#[tokio::test]
async fn what_the_caller_says_before_the_agent_is_ready_is_not_lost() {
    let rig = Rig::new(Format::Ulaw).await;
    let mut caller = rig.caller().await;
    let spoken = noise(12_000);
    let (before, after) = spoken.split_at(8_000);
    for frame in pieces(before, &[160]) {
        caller.media(frame).await;
    }
    let mut model = rig.model().await;
    model.settle().await;
    for frame in pieces(after, &[160]) {
        caller.media(frame).await;
    }
    assert!(model.hear(spoken.len()).await == spoken);
}

#[tokio::test]
async fn the_agents_voice_arrives_bit_for_bit_for_every_split_of_deltas() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, mut model) = rig.call().await;
    let spoken = noise(12);
    let mut cuts = Vec::new();
    for first in 1..12 {
        for second in first..12 {
            for third in second..12 {
                cuts.push([first, second, third]);
            }
        }
    }
    for [first, second, third] in cuts {
        let parts =
            [&spoken[..first], &spoken[first..second], &spoken[second..third], &spoken[third..]];
        model.answer(parts.into_iter().filter(|part| !part.is_empty())).await;
        assert_eq!(caller.listen(spoken.len()).await, spoken, "{first} {second} {third}");
    }
}

#[tokio::test]
async fn long_answers_arrive_bit_for_bit_in_pieces_of_any_length() {
    let rig = Rig::new(Format::Ulaw).await;
    let (mut caller, mut model) = rig.call().await;
    let spoken = noise(4_801);
    let lengths: [&[usize]; 5] = [&[1], &[479, 1, 481], &[480], &[3_200], &[7, 1_001, 160]];
    for lengths in lengths {
        model.answer(pieces(&spoken, lengths)).await;
        assert!(caller.listen(spoken.len()).await == spoken, "{lengths:?}");
    }
}

#[tokio::test]
async fn the_demos_speech_keeps_33_db_through_pcm_both_ways() {
    let rig = Rig::new(Format::Pcm24k).await;
    let names =
        ["caller-1", "caller-2", "caller-3", "agent-greeting", "agent-1", "agent-2", "agent-3"];
    // All at once: a call that speaks takes as long as it speaks.
    let mut calls = Vec::new();
    for name in names {
        calls.push((name, rig.call().await));
    }
    let echoes = calls.into_iter().map(async |(name, (mut caller, mut model))| {
        (name, echo_db(name, &mut caller, &mut model).await)
    });
    for (name, db) in join_all(echoes).await {
        assert!(db >= 33.0, "{name}: {db:.1} dB");
    }
}

/// How much of a clip comes back to a caller from a model that says what it hears.
async fn echo_db(clip: &str, caller: &mut Caller, model: &mut Model) -> f64 {
    let path = format!("{}/../loadtest/assets/{clip}.wav", env!("CARGO_MANIFEST_DIR"));
    let speech = Speech::from_wav(&std::fs::read(path).unwrap()).unwrap();
    // Four seconds of each: a longer clip only takes longer.
    let ulaw = &speech.ulaw()[..speech.ulaw().len().min(32_000) / 160 * 160];
    let mut wide = Vec::new();
    for frame in ulaw.chunks(160) {
        caller.media(frame).await;
        wide.extend(model.hear(160 * Format::Pcm24k.bytes_per_sample()).await);
    }
    // Its pieces do not even keep samples whole.
    model.answer(pieces(&wide, &[4_801, 9_600])).await;
    snr_db(ulaw, &caller.listen(ulaw.len()).await)
}
