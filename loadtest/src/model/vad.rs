//! Server-side voice activity detection by energy. Time is counted in *appended audio*, as the
//! real service counts it: audio that never comes is time that never passes.

/// How the ends of a turn are found; from the session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct VadSettings {
    /// 0 to 1; 0.5 hears speech from -35 dBFS.
    pub(crate) threshold: f64,
    /// Audio that is counted to a turn from before its detected start, in milliseconds.
    pub(crate) prefix_padding_ms: u64,
    /// Silence that ends a turn, in milliseconds.
    pub(crate) silence_duration_ms: u64,
}

/// What the detector noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noticed {
    /// Speech began at this position, prefix padding included.
    Started {
        /// Position in appended audio, in milliseconds.
        audio_start_ms: u64,
    },
    /// Speech ended; the silence that proved it is included.
    Stopped {
        /// Position in appended audio, in milliseconds.
        audio_end_ms: u64,
    },
}

/// A detector.
#[derive(Debug)]
pub(crate) struct Vad {
    settings: VadSettings,
    /// Samples in 20 ms.
    frame: usize,
    waiting: Vec<i16>,
    frames: u64,
    state: State,
}

/// What was heard last.
#[derive(Debug, Clone, Copy)]
enum State {
    /// So many loud frames in a row.
    Quiet { loud: u64 },
    /// So many quiet frames in a row.
    Speech { quiet: u64 },
}

impl Vad {
    /// A detector for audio of this many samples a second.
    pub(crate) fn new(settings: VadSettings, rate_hz: usize) -> Self {
        Self {
            settings,
            frame: rate_hz / 50,
            waiting: Vec::new(),
            frames: 0,
            state: State::Quiet { loud: 0 },
        }
    }

    /// Changes the settings between frames; what was heard so far stays.
    pub(crate) fn set(&mut self, settings: VadSettings) {
        self.settings = settings;
    }

    /// Hears appended audio of any length.
    pub(crate) fn hear(&mut self, samples: &[i16]) -> Vec<Noticed> {
        self.waiting.extend_from_slice(samples);
        let whole = self.waiting.len() / self.frame * self.frame;
        let frames: Vec<i16> = self.waiting.drain(..whole).collect();
        frames.chunks_exact(self.frame).filter_map(|frame| self.frame(frame)).collect()
    }

    /// Hears 20 ms.
    fn frame(&mut self, frame: &[i16]) -> Option<Noticed> {
        let loud_enough = f64::from(codec::level::dbfs(frame)) > self.floor_dbfs();
        self.frames += 1;
        match (&mut self.state, loud_enough) {
            (State::Quiet { loud }, true) => {
                *loud += 1;
                if *loud < LOUD_FRAMES {
                    return None;
                }
                self.state = State::Speech { quiet: 0 };
                let began = (self.frames - LOUD_FRAMES) * FRAME_MS;
                let start = began.saturating_sub(self.settings.prefix_padding_ms);
                Some(Noticed::Started { audio_start_ms: start })
            }
            (State::Quiet { loud }, false) => {
                *loud = 0;
                None
            }
            (State::Speech { quiet }, true) => {
                *quiet = 0;
                None
            }
            (State::Speech { quiet }, false) => {
                *quiet += 1;
                if *quiet * FRAME_MS < self.settings.silence_duration_ms {
                    return None;
                }
                self.state = State::Quiet { loud: 0 };
                Some(Noticed::Stopped { audio_end_ms: self.frames * FRAME_MS })
            }
        }
    }

    /// The level above which a frame is loud: -50 dBFS for a threshold of 0, -20 dBFS for
    /// 1.
    fn floor_dbfs(&self) -> f64 {
        self.settings.threshold.mul_add(30.0, -50.0)
    }
}

/// The detector's step.
const FRAME_MS: u64 = 20;

/// A click is shorter than 60 ms, a syllable is longer.
const LOUD_FRAMES: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Speech;

    const PHONE: VadSettings =
        VadSettings { threshold: 0.5, prefix_padding_ms: 300, silence_duration_ms: 500 };

    fn pcm(speech: &Speech) -> Vec<i16> {
        let mut samples = Vec::new();
        codec::g711::ulaw_decode(speech.ulaw(), &mut samples);
        samples
    }

    fn heard(pieces: &[&[i16]]) -> Vec<Noticed> {
        let mut vad = Vad::new(PHONE, 8_000);
        pieces.iter().flat_map(|piece| vad.hear(piece)).collect()
    }

    #[test]
    fn a_turn_begins_before_its_first_sound_and_ends_after_the_silence() {
        let noticed = heard(&[&[0; 8_000], &pcm(&Speech::tone(160)), &[0; 8_000]]);
        assert_eq!(
            noticed,
            [Noticed::Started { audio_start_ms: 700 }, Noticed::Stopped { audio_end_ms: 1_660 }]
        );
    }

    #[test]
    fn time_is_appended_audio_only() {
        let noticed = heard(&[&pcm(&Speech::tone(160)), &[0; 3_999]]);
        assert_eq!(noticed, [Noticed::Started { audio_start_ms: 0 }]);
    }

    #[test]
    fn a_click_and_a_whisper_are_not_speech() {
        assert_eq!(heard(&[&[0; 160], &[9_000; 160], &[0; 1_600]]), []);
        assert_eq!(heard(&[&[100; 8_000]]), []);
    }

    #[test]
    fn pieces_of_any_length_are_heard_alike() {
        let all = [pcm(&Speech::tone(1_000)), vec![0; 8_000]].concat();
        let pieces: Vec<&[i16]> = all.chunks(37).collect();
        assert_eq!(heard(&pieces), heard(&[&all]));
    }
}
