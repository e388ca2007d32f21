//! The counting itself: this program, run by callgrind, which collects only inside [`collect_instructions`].

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::pieces::{self, Work};

/// How often a piece is done while it is counted.
const MEASURED_TIMES: u64 = 400;

/// How often before that: longer than any memory of a call, so that it is full.
const WARM_UP_TIMES: u64 = 200;

/// The word that makes the program do the pieces and nothing else.
pub const UNDER_CALLGRIND: &str = "under-callgrind";

/// Counts all pieces; instructions of one round each, in the order of [`pieces::all`].
///
/// # Errors
/// When valgrind is missing, or fails, or gives something else than one count a piece.
pub fn count(program: &Path, scratch: &Path) -> io::Result<Vec<(&'static str, u64)>> {
    if scratch.exists() {
        fs::remove_dir_all(scratch)?;
    }
    fs::create_dir_all(scratch)?;
    let out = scratch.join("out");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        // Callgrind matches one wildcard at each end and none between, so the names are long.
        .args(["--toggle-collect=*collect_instructions*", "--dump-after=*dump_instructions*"])
        .arg(program)
        .arg(UNDER_CALLGRIND)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("valgrind: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("valgrind failed: {said}")));
    }
    let counted = |(number, piece): (usize, pieces::Piece)| {
        let part = scratch.join(format!("out.{}", number + 1));
        let text = fs::read_to_string(&part).map_err(|error| {
            io::Error::new(error.kind(), format!("no count of {}: {error}", piece.name))
        })?;
        let total = total(&text).ok_or_else(|| {
            io::Error::other(format!("{} has no total: {}", part.display(), piece.name))
        })?;
        Ok((piece.name, (total + MEASURED_TIMES / 2) / MEASURED_TIMES))
    };
    pieces::all().into_iter().enumerate().map(counted).collect()
}

/// Does every piece, each with one dump behind it: what callgrind runs.
pub fn under_callgrind() {
    for piece in pieces::all() {
        let mut work = (piece.set_up)();
        for _ in 0..WARM_UP_TIMES {
            work.ready();
            work.work();
        }
        for _ in 0..MEASURED_TIMES {
            work.ready();
            collect_instructions(&mut *work);
        }
        dump_instructions();
    }
}

/// Callgrind collects from here to its end. Its own call is some five instructions.
#[inline(never)]
fn collect_instructions(work: &mut dyn Work) {
    black_box(work).work();
}

/// Callgrind writes what it has collected when this returns.
#[inline(never)]
fn dump_instructions() {
    black_box(());
}

/// The instructions of one dump.
fn total(dump: &str) -> Option<u64> {
    dump.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_says_its_total() {
        let dump = "version: 1\nevents: Ir\nsummary: 77\n\nfn=(1)\n0 3\n\ntotals: 1234\n";
        assert_eq!(total(dump), Some(1_234));
        assert_eq!(total("events: Ir\n"), None);
    }
}
