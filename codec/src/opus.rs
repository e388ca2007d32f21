//! Opus for browsers: 20 ms frames, mono, forward error correction, loss concealment.

use audiopus::coder::{Decoder as RawDecoder, Encoder as RawEncoder, GenericCtl};
use audiopus::{Application, Bitrate, Channels, MutSignals, packet::Packet};

use crate::rate::SampleRate;

/// The longest packet that an encoder of ours makes, in bytes: RFC 6716's limit of one frame.
pub const PACKET_BYTES_MAX: usize = 1_275;

/// Why Opus did not work.
#[derive(Debug, thiserror::Error)]
pub enum OpusError {
    /// Opus has no such sample rate.
    #[error("opus does not run at {hz} Hz")]
    Rate {
        /// The rate, in samples a second.
        hz: u32,
    },
    /// The library refused.
    #[error("opus failed")]
    Library(#[from] audiopus::Error),
}

fn raw_rate(rate: SampleRate) -> Result<audiopus::SampleRate, OpusError> {
    match rate.hz() {
        8_000 => Ok(audiopus::SampleRate::Hz8000),
        16_000 => Ok(audiopus::SampleRate::Hz16000),
        24_000 => Ok(audiopus::SampleRate::Hz24000),
        48_000 => Ok(audiopus::SampleRate::Hz48000),
        hz => Err(OpusError::Rate { hz }),
    }
}

/// Makes packets.
#[derive(Debug)]
pub struct Encoder {
    raw: RawEncoder,
}

impl Encoder {
    /// An encoder for speech at 24 kbit/s, complexity 5: half of what complexity 10 costs.
    ///
    /// # Errors
    /// When Opus does not run at the rate.
    pub fn new(rate: SampleRate) -> Result<Self, OpusError> {
        let mut raw = RawEncoder::new(raw_rate(rate)?, Channels::Mono, Application::Voip)?;
        raw.set_bitrate(Bitrate::BitsPerSecond(24_000))?;
        raw.set_complexity(5)?;
        raw.set_inband_fec(true)?;
        raw.set_packet_loss_perc(5)?;
        Ok(Self { raw })
    }

    /// Appends one packet of one frame: 2.5, 5, 10, 20, 40 or 60 ms of samples.
    ///
    /// # Errors
    /// When the length is none of those.
    pub fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) -> Result<(), OpusError> {
        let before = out.len();
        out.resize(before + PACKET_BYTES_MAX, 0);
        let written = self.raw.encode(samples, &mut out[before..]);
        out.truncate(before + *written.as_ref().unwrap_or(&0));
        written?;
        Ok(())
    }
}

/// Plays packets.
#[derive(Debug)]
pub struct Decoder {
    raw: RawDecoder,
    frame_max: usize,
}

impl Decoder {
    /// A decoder that gives samples at a rate, whatever rate the packets were made at.
    ///
    /// # Errors
    /// When Opus does not run at the rate.
    pub fn new(rate: SampleRate) -> Result<Self, OpusError> {
        let raw = RawDecoder::new(raw_rate(rate)?, Channels::Mono)?;
        // A packet holds 120 ms at most (RFC 6716 section 3.2.5).
        Ok(Self { raw, frame_max: rate.hz() as usize * 120 / 1_000 })
    }

    /// Appends the packet's samples.
    ///
    /// # Errors
    /// When the packet is not Opus.
    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<i16>) -> Result<(), OpusError> {
        self.append(Some(packet), self.frame_max, out)
    }

    /// Appends so many samples in place of a packet that was lost, made up from what came before.
    ///
    /// # Errors
    /// When the length is no frame's.
    pub fn conceal(&mut self, samples: usize, out: &mut Vec<i16>) -> Result<(), OpusError> {
        self.append(None, samples.min(self.frame_max), out)
    }

    fn append(
        &mut self,
        packet: Option<&[u8]>,
        room: usize,
        out: &mut Vec<i16>,
    ) -> Result<(), OpusError> {
        let packet = packet.map(Packet::try_from).transpose()?;
        let before = out.len();
        out.resize(before + room, 0);
        let signals = MutSignals::try_from(&mut out[before..])?;
        let written = self.raw.decode(packet, signals, false);
        out.truncate(before + *written.as_ref().unwrap_or(&0));
        written?;
        Ok(())
    }
}

impl Decoder {
    /// Forgets what came before.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn reset(&mut self) -> Result<(), OpusError> {
        self.raw.reset_state()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::rms;

    fn tone(frame: usize) -> Vec<i16> {
        let at = |n: usize| {
            let phase = (frame * 480 + n) as f64 * 440.0 * std::f64::consts::TAU / 24_000.0;
            (phase.sin() * 12_000.0) as i16
        };
        (0..480).map(at).collect()
    }

    #[test]
    fn a_tone_survives_and_a_lost_packet_is_concealed() {
        let mut encoder = Encoder::new(SampleRate::HZ_24000).unwrap();
        let mut decoder = Decoder::new(SampleRate::HZ_24000).unwrap();
        let mut out = Vec::new();
        for frame in 0..50 {
            let mut packet = Vec::new();
            encoder.encode(&tone(frame), &mut packet).unwrap();
            assert!(!packet.is_empty() && packet.len() < 200);
            out.clear();
            if frame == 40 {
                decoder.conceal(480, &mut out).unwrap();
            } else {
                decoder.decode(&packet, &mut out).unwrap();
            }
            assert_eq!(out.len(), 480);
            // The coder starts up, and finds its feet again after a loss.
            if frame > 10 && !(41..44).contains(&frame) {
                let level = rms(&out) / rms(&tone(frame));
                assert!((0.5..1.5).contains(&level), "frame {frame} at {level}");
            }
        }
    }

    #[test]
    fn what_is_not_a_frame_or_a_packet_is_an_error_and_leaves_nothing() {
        let mut encoder = Encoder::new(SampleRate::HZ_24000).unwrap();
        let mut out = vec![1];
        assert!(encoder.encode(&[0; 481], &mut out).is_err());
        assert_eq!(out, [1]);
        let mut decoder = Decoder::new(SampleRate::HZ_24000).unwrap();
        let mut samples = vec![1];
        assert!(decoder.decode(&[0xFF; 3], &mut samples).is_err());
        assert_eq!(samples, [1]);
    }
}
