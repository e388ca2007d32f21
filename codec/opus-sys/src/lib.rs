//! The C interface of libopus, as `audiopus` expects to find it.
//!
//! `audiopus` binds to `audiopus_sys`, which is unmaintained (RUSTSEC-2026-0150) and bundles
//! an unversioned libopus of 2021. This crate takes its place through `[patch.crates-io]` and
//! re-exports the maintained `opusic-sys`, which builds libopus 1.6.1 with cmake.

pub use opusic_sys::*;
