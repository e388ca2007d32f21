//! Instructions of each piece, counted by callgrind and compared with the committed baseline.
//!
//! On a machine that others use, times vary by tens of per cent; the number of instructions that a
//! piece needs does not. What is fixed so that it is the same on any x86-64 machine with AVX2:
//!
//! - Valgrind shows the program one processor, whatever the real one is: with AVX2 and without
//!   AVX-512. So base64, memchr, the Fourier transform and the C library choose the same code.
//! - The build is the release profile, without `target-cpu`; the compiler is the one of
//!   `rust-toolchain.toml`. The allocator is the relay's.
//! - The environment is empty, so that the stack begins at the same place.
//!
//! What is not counted: the kernel, and the time that an instruction takes. A change may cost no
//! instruction and yet a cache miss; `benches/` and the load test see that.

mod baseline;
mod callgrind;

pub use self::baseline::{Baseline, Machine, Verdict};
pub use self::callgrind::{UNDER_CALLGRIND, count, under_callgrind};
