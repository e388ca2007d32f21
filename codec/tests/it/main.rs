//! Tests of the crate from outside: whole paths, real speech, and whatever a peer may send.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod anything;
mod delay;
mod keys;
mod speech;
