//! Telephone audio: G.711, PCM bytes, resampling, Opus, base64, levels, key tones.
//!
//! Pure: no clock, no socket, no lock, no log. Functions append to the caller's buffers, so that a
//! media path reuses its own.
//!
//! Suggested reading order: [`rate`], [`frame`], [`g711`], [`pcm`], [`base64`], [`resample`],
//! [`level`], [`dtmf`], [`opus`].

pub mod frame;
pub mod rate;

pub mod g711;
pub mod pcm;

pub mod base64;

pub mod resample;

pub mod dtmf;
pub mod level;
pub mod opus;
