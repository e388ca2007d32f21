//! One caller in the chaos: a plan of sentences, and what was really heard of the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use super::stage::Fakes;
use crate::audio::{Clip, Speech, words};
use crate::carrier::{CallOrder, CallRecord, Step};
use crate::clock::wall_us;

/// What was seen of a call.
#[derive(Debug, Clone)]
pub(super) struct CallSeen {
    /// The caller's slot.
    pub(super) slot: u32,
    /// The number of the call in its slot.
    pub(super) number: u32,
    /// When it began and ended, in microseconds since 1970.
    pub(super) span_us: (u64, u64),
    /// The carrier's record, without the recordings.
    pub(super) record: CallRecord,
    /// What was heard of the agent, in order.
    pub(super) plays: Vec<Play>,
}

/// Something that the agent said, as far as the caller heard it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Play {
    /// The words in full.
    pub(super) text: String,
    /// When the last heard block of it was over, in microseconds since 1970.
    pub(super) until_us: u64,
    /// How much of it was heard, in milliseconds.
    pub(super) heard_ms: u64,
    /// How long it is, in milliseconds.
    pub(super) whole_ms: u64,
}

impl Play {
    /// Whether it was heard to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.heard_ms >= self.whole_ms
    }
}

/// Calls from one slot until enough was cut; gives what was seen of each call.
///
/// # Errors
/// When a call cannot even be placed.
pub(super) async fn one_after_the_other(
    slot: u32,
    fakes: Arc<Fakes>,
    enough: Arc<AtomicBool>,
) -> anyhow::Result<Vec<CallSeen>> {
    let mut calls = Vec::new();
    // Calls begin apart from each other, so that they are in different states at any time.
    tokio::time::sleep(Duration::from_millis(u64::from(slot) * 137)).await;
    for number in 0.. {
        if enough.load(Ordering::SeqCst) {
            break;
        }
        let began_us = wall_us();
        let sid = fakes.twilio.call(CallOrder {
            from: "+15551230001".into(),
            to: "+15551230002".into(),
            voice_url: fakes.voice_url(slot),
            status_url: None,
            caller: plan(slot, number),
        })?;
        let record = fakes.twilio.over(&sid).await.context("the call was placed")?;
        fakes.twilio.forget(&sid);
        calls.push(CallSeen::new((slot, number), (began_us, wall_us()), record));
    }
    Ok(calls)
}

impl CallSeen {
    /// Reads a record, and keeps what is needed of its recordings.
    fn new((slot, number): (u32, u32), span_us: (u64, u64), mut record: CallRecord) -> Self {
        let mut plays = Vec::new();
        for stream in &mut record.streams {
            plays.extend(plays_in(&stream.agent_audio, stream.opened_at_us));
            stream.agent_audio = Vec::new();
            stream.caller_audio = Vec::new();
            stream.received_audio = Vec::new();
        }
        Self { slot, number, span_us, record, plays }
    }
}

/// What was said in a recording that began at a moment.
fn plays_in(ulaw: &[u8], began_us: u64) -> Vec<Play> {
    let mut plays: Vec<Play> = Vec::new();
    for block in words::find(ulaw) {
        let end = block.at + crate::audio::FRAME_BYTES;
        let until_us = began_us + end as u64 * 1_000 / crate::audio::BYTES_PER_MS as u64;
        let heard_ms = block.end_ms();
        match plays.last_mut() {
            // The same speech goes on, perhaps behind a hole.
            Some(play) if play.text == block.text && play.heard_ms < heard_ms => {
                (play.until_us, play.heard_ms) = (until_us, heard_ms);
            }
            _ => {
                let whole_ms = u64::from(Speech::saying(&block.text).ms());
                plays.push(Play { text: block.text, until_us, heard_ms, whole_ms });
            }
        }
    }
    plays
}

/// What a caller does: eight sentences, two of them into an answer. An answer that does not come is
/// not waited for; whoever cuts a model off in the middle of a sentence has to expect it.
fn plan(slot: u32, number: u32) -> Vec<Step> {
    let mut steps = vec![Step::Patience { ms: PATIENCE_MS }];
    for sentence in 0..SENTENCES {
        let text = sentence_of(slot, number, sentence);
        let clip = Clip::Words(text.clone());
        if INTERRUPTING.contains(&sentence) {
            steps.push(Step::Interrupt { after_ms: 700, clip, text });
        } else {
            steps.extend([Step::WaitForAgent { quiet_ms: 400 }, Step::Say { clip, text }]);
        }
    }
    steps.extend([Step::WaitForAgent { quiet_ms: 600 }, Step::HangUp]);
    steps
}

/// A sentence that is said once in the world.
pub(super) fn sentence_of(slot: u32, call: u32, sentence: u32) -> String {
    format!("Call {slot}.{call}, line {sentence}.")
}

/// How many sentences a caller says.
pub(super) const SENTENCES: u32 = 8;

/// Those that interrupt an answer.
const INTERRUPTING: [u32; 2] = [3, 6];

/// Longer than an answer takes on a busy machine, and much shorter than a black hole lasts.
const PATIENCE_MS: u64 = 7_000;

/// What the agent answers the phone with.
pub(super) const GREETING: &str = "Hello, who is calling?";

/// What it answers to a sentence.
pub(super) const ANSWER: &str = "I have heard you: {caller}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_read_from_the_recording() {
        let (one, two) = (Speech::saying("One."), Speech::saying("Two."));
        let cut = &two.ulaw()[..1_000];
        let all = [&[0xFF; 800], one.ulaw(), &[0xFF; 160], cut, one.ulaw()].concat();
        let plays = plays_in(&all, 1_000_000);
        let said: Vec<_> =
            plays.iter().map(|play| (play.text.as_str(), play.heard_ms, play.is_whole())).collect();
        // A block is known by its first half, so a cut in the second half counts as heard.
        assert_eq!(said, [("One.", 240, true), ("Two.", 140, false), ("One.", 240, true)]);
        assert_eq!(plays[0].until_us, 1_000_000 + 100_000 + 240_000);
    }

    #[test]
    fn a_hole_in_an_answer_does_not_make_two_of_it() {
        let one = Speech::saying("One and only.");
        let all = [&one.ulaw()[..1_600], &[0xFF; 4_000], &one.ulaw()[1_600..]].concat();
        let plays = plays_in(&all, 0);
        assert_eq!(plays.len(), 1);
        assert!(plays[0].is_whole());
    }

    #[test]
    fn a_plan_says_every_sentence_once_and_hangs_up() {
        let steps = plan(3, 1);
        let said = steps
            .iter()
            .filter(|step| matches!(step, Step::Say { .. } | Step::Interrupt { .. }))
            .count();
        assert_eq!(said, SENTENCES as usize);
        assert_eq!(steps.last(), Some(&Step::HangUp));
    }
}
