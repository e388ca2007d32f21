//! What was seen of a call at the carrier: its streams, and when who was to be heard in them.

use crate::audio::{BYTES_PER_MS, FRAME_BYTES, words};
use crate::carrier::{CallRecord, StreamEnd, StreamRecord, What};

/// A call.
#[derive(Debug, Clone, Default)]
pub(super) struct CallSeen {
    /// Its number among all calls.
    pub(super) number: u32,
    /// Its streams, in order.
    pub(super) streams: Vec<StreamSeen>,
    /// When the caller spoke: beginning and end of each sentence, in microseconds since 1970.
    pub(super) caller: Vec<(u64, u64)>,
    /// When the agent was heard: beginning and end.
    pub(super) agent: Vec<(u64, u64)>,
    /// What the carrier complains of.
    pub(super) faults: Vec<String>,
}

/// A stream of a call.
#[derive(Debug, Clone, Default)]
pub(super) struct StreamSeen {
    /// The node that it was opened at.
    pub(super) node: String,
    /// When it was open; 0 when it never was.
    pub(super) opened_us: u64,
    /// When it was over.
    pub(super) ended_us: u64,
    /// How.
    pub(super) end: Option<StreamEnd>,
    /// When the caller first heard anything in it.
    pub(super) first_sound_us: Option<u64>,
    /// When the caller first heard words of the agent in it.
    pub(super) first_speech_us: Option<u64>,
}

impl StreamSeen {
    /// Whether it was open at a moment.
    pub(super) fn lives_at(&self, at_us: u64) -> bool {
        self.opened_us > 0 && self.opened_us <= at_us && at_us < self.ended_us
    }
}

impl CallSeen {
    /// Reads a record of the carrier.
    pub(super) fn new(number: u32, record: &CallRecord) -> Self {
        let at = |wanted: fn(&What) -> bool| {
            let notes = record.notes.iter().filter(move |note| wanted(&note.what));
            notes.map(|note| note.at_us).collect::<Vec<u64>>()
        };
        let ended = at(|what| matches!(what, What::StreamEnded { .. }));
        let streams = record.streams.iter().zip(ended);
        Self {
            number,
            streams: streams.map(|(stream, ended_us)| stream_seen(stream, ended_us)).collect(),
            caller: spans(
                &at(|what| matches!(what, What::CallerSpeaks { .. })),
                &at(|what| *what == What::CallerFinished),
            ),
            agent: spans(
                &at(|what| *what == What::AgentHeard),
                &at(|what| *what == What::AgentQuiet),
            ),
            faults: record.faults.iter().map(ToString::to_string).collect(),
        }
    }

    /// The stream that was open at a moment, and those after it.
    pub(super) fn stream_at(&self, at_us: u64) -> Option<(&StreamSeen, &[StreamSeen])> {
        let place = self.streams.iter().position(|stream| stream.lives_at(at_us))?;
        let (here, later) = self.streams.get(place..)?.split_first()?;
        Some((here, later))
    }

    /// Whether the caller was in the middle of a sentence.
    pub(super) fn caller_speaks_at(&self, at_us: u64) -> bool {
        is_within(&self.caller, at_us)
    }

    /// Whether the agent was to be heard.
    pub(super) fn agent_speaks_at(&self, at_us: u64) -> bool {
        is_within(&self.agent, at_us)
    }

    /// From the end of each sentence to the agent's next sound, in microseconds, with the moment of
    /// that end.
    pub(super) fn replies(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.caller.iter().filter_map(|(_, finished)| {
            let next = self.agent.iter().find(|(heard, _)| heard >= finished)?;
            Some((*finished, next.0 - finished))
        })
    }
}

/// Whether a moment lies in one of them.
fn is_within(spans: &[(u64, u64)], at_us: u64) -> bool {
    spans.iter().any(|(from, to)| (*from..*to).contains(&at_us))
}

/// Pairs beginnings with the ends that follow them; one without an end goes on.
fn spans(begins: &[u64], ends: &[u64]) -> Vec<(u64, u64)> {
    let end_of = |begin: u64| ends.iter().copied().find(|end| *end >= begin).unwrap_or(u64::MAX);
    begins.iter().map(|begin| (*begin, end_of(*begin))).collect()
}

/// Reads one stream.
fn stream_seen(stream: &StreamRecord, ended_us: u64) -> StreamSeen {
    let at = |byte: usize| stream.opened_at_us + (byte * 1_000 / BYTES_PER_MS) as u64;
    let sound = stream.agent_audio.chunks_exact(FRAME_BYTES).position(is_loud);
    let speech = words::find(&stream.agent_audio).first().map(|block| block.at);
    StreamSeen {
        node: stream.url.rsplit('/').next().unwrap_or_default().to_owned(),
        opened_us: stream.opened_at_us,
        ended_us,
        end: stream.end.clone(),
        first_sound_us: sound.map(|frame| at(frame * FRAME_BYTES)),
        first_speech_us: speech.map(at),
    }
}

/// Whether anybody would hear it.
fn is_loud(frame: &[u8]) -> bool {
    let mut samples = Vec::new();
    codec::g711::ulaw_decode(frame, &mut samples);
    codec::level::dbfs(&samples) > LOUD_DBFS
}

/// Quieter than this is a whisper of the line.
const LOUD_DBFS: f32 = -50.0;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::audio::Speech;
    use crate::carrier::Note;

    /// A call that talked on one node, lost it at a moment and went on with another.
    pub(in crate::fleet) fn moved(number: u32, lost_us: u64) -> CallSeen {
        let stream = |node: &str, opened_us, ended_us, end| StreamSeen {
            node: node.into(),
            opened_us,
            ended_us,
            end: Some(end),
            first_sound_us: Some(opened_us + 200_000),
            first_speech_us: Some(opened_us + 400_000),
        };
        let later_us = lost_us + 600_000;
        CallSeen {
            number,
            streams: vec![
                stream("node-1", 1, lost_us, StreamEnd::Lost),
                stream("node-2", later_us, lost_us + 60_000_000, StreamEnd::HungUp),
            ],
            caller: vec![(lost_us - 2_000_000, lost_us - 1_000_000)],
            agent: vec![(lost_us - 500_000, lost_us), (later_us + 200_000, later_us + 900_000)],
            faults: Vec::new(),
        }
    }

    #[test]
    fn sound_and_words_of_a_stream_are_timed_in_the_callers_ear() {
        let tone = Speech::tone(100);
        let words = Speech::saying("Well.");
        let audio = [&[0xFF; 1_600], tone.ulaw(), &[0xFF; 800], words.ulaw()].concat();
        let stream = StreamRecord {
            url: "wss://node-2.linecard.test/v1/m/node-2".into(),
            opened_at_us: 1_000_000,
            agent_audio: audio,
            ..StreamRecord::default()
        };
        let seen = stream_seen(&stream, 9_000_000);
        assert_eq!(seen.node, "node-2");
        assert_eq!(seen.first_sound_us, Some(1_200_000));
        assert_eq!(seen.first_speech_us, Some(1_400_000));
        assert!(seen.lives_at(8_999_999) && !seen.lives_at(9_000_000));
    }

    #[test]
    fn a_record_says_who_spoke_when() {
        let note = |at_us, what| Note { at_us, what };
        let record = CallRecord {
            notes: vec![
                note(1, What::CallerSpeaks { text: String::new() }),
                note(5, What::CallerFinished),
                note(8, What::AgentHeard),
                note(12, What::AgentQuiet),
                note(20, What::CallerSpeaks { text: String::new() }),
            ],
            ..CallRecord::default()
        };
        let seen = CallSeen::new(3, &record);
        assert!(seen.caller_speaks_at(4) && !seen.caller_speaks_at(5));
        assert!(seen.agent_speaks_at(8) && !seen.agent_speaks_at(12));
        assert!(seen.caller_speaks_at(1_000), "a sentence without an end goes on");
        assert_eq!(seen.replies().collect::<Vec<_>>(), [(5, 3)]);
    }

    #[test]
    fn a_stream_is_followed_by_those_after_it() {
        let call = moved(1, 10_000_000);
        let (here, later) = call.stream_at(9_000_000).unwrap();
        assert_eq!((here.node.as_str(), later.len()), ("node-1", 1));
        assert!(call.stream_at(10_100_000).is_none());
    }
}
