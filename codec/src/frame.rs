//! The carrier's frame: 20 ms of audio.

/// Length of a frame, in milliseconds. Observed, not promised: Twilio sends 20 ms in each message
/// but documents no size. Source: Twilio Media Streams, read 2026-11-20.
pub const FRAME_MS: u32 = 20;

/// Bytes of a frame in G.711: one byte a sample at 8 kHz.
pub const ULAW_FRAME_BYTES: usize = 160;
