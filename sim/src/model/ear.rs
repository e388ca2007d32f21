//! The service's voice detection: hears what the relay really sends, 20 ms at a time.

/// What was heard in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Somebody began to speak.
    Started,
    /// Somebody has spoken.
    Stopped,
}

/// Hears one session's caller.
#[derive(Debug, Default)]
pub(super) struct Ear {
    loud_ms: u64,
    quiet_ms: u64,
    is_speaking: bool,
    rest: Vec<u8>,
}

impl Ear {
    /// Takes audio in the session's format, and says what it hears.
    pub(super) fn hear(&mut self, audio: &str, is_pcm: bool, mut heard: impl FnMut(Heard)) {
        codec::base64::decode(audio.as_bytes(), &mut self.rest).expect("the relay sends base64");
        let window = if is_pcm { WINDOW_MS * 48 } else { WINDOW_MS * 8 };
        let mut rest = std::mem::take(&mut self.rest);
        let windows = rest.chunks_exact(window);
        let left = windows.remainder().len();
        for window in windows {
            if let Some(change) = self.window(is_loud(window, is_pcm)) {
                heard(change);
            }
        }
        rest.drain(..rest.len() - left);
        self.rest = rest;
    }

    fn window(&mut self, is_loud: bool) -> Option<Heard> {
        if is_loud {
            self.quiet_ms = 0;
            self.loud_ms += WINDOW_MS as u64;
        } else {
            self.loud_ms = 0;
            self.quiet_ms += WINDOW_MS as u64;
        }
        if !self.is_speaking && self.loud_ms >= SPEECH_MS {
            self.is_speaking = true;
            return Some(Heard::Started);
        }
        if self.is_speaking && self.quiet_ms >= TURN_END_MS {
            self.is_speaking = false;
            return Some(Heard::Stopped);
        }
        None
    }
}

fn is_loud(window: &[u8], is_pcm: bool) -> bool {
    let middle = (window.len() / 2) & !1;
    if is_pcm {
        let sample = i16::from_le_bytes([window[middle], window[middle + 1]]);
        sample.unsigned_abs() > 1_000
    } else {
        window[middle] == LOUD
    }
}

const WINDOW_MS: usize = 20;

/// How the phone speaks.
pub(crate) const LOUD: u8 = 0x20;

/// So much speech is speech.
const SPEECH_MS: u64 = 60;

/// So much silence ends a turn.
const TURN_END_MS: u64 = 500;
