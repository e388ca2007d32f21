//! `pieces`: counts the instructions of the hot path, and compares them with the baseline.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of the command line")]

use std::path::Path;
use std::process::{Command, ExitCode};

use bench::counts::{self, Baseline, Machine};
use bench::pieces;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml");

const USAGE: &str = "\
usage: pieces check      counts, and fails when a piece costs 5 % more than bench/instructions.toml says
       pieces baseline   counts, and writes bench/instructions.toml
       pieces list       says what the pieces are";

fn main() -> ExitCode {
    let word = std::env::args().nth(1);
    let done = match word.as_deref() {
        Some(counts::UNDER_CALLGRIND) => {
            counts::under_callgrind();
            return ExitCode::SUCCESS;
        }
        Some("check") => check(),
        Some("baseline") => write_baseline(),
        Some("list") => {
            for piece in pieces::all() {
                println!("{:<28} {}", piece.name, piece.what);
            }
            return ExitCode::SUCCESS;
        }
        Some(_) | None => Err(USAGE.to_owned()),
    };
    done.unwrap_or_else(|why| {
        eprintln!("{why}");
        ExitCode::FAILURE
    })
}

fn check() -> Result<ExitCode, String> {
    if !can_compare() {
        println!(
            "pieces: no baseline for this processor (it is of x86-64 with AVX2): not compared"
        );
        return Ok(ExitCode::SUCCESS);
    }
    let text = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
    let baseline: Baseline = toml::from_str(&text).map_err(|error| format!("{FILE}: {error}"))?;
    let verdict = baseline.judge(&count()?);
    println!("{:<28} {:>8} {:>8}", "instructions a round", "baseline", "now");
    verdict.lines.iter().for_each(|line| println!("{line}"));
    let machine = machine()?;
    if machine != baseline.machine {
        println!("pieces: counted by {machine:?}, the baseline by {:?}", baseline.machine);
    }
    if verdict.is_cheaper {
        println!(
            "pieces: some cost over 5 % less than they did; `make bench-baseline` keeps it so"
        );
    }
    if verdict.complaints.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let complaints = verdict.complaints.join("\n  ");
    Err(format!(
        "pieces of the hot path have changed:\n  {complaints}\n\
         If that is on purpose, `make bench-baseline` writes the new counts into \
         bench/instructions.toml; say in the commit what they buy."
    ))
}

fn write_baseline() -> Result<ExitCode, String> {
    if !can_compare() {
        return Err("pieces: a baseline is counted on x86-64 with AVX2".to_owned());
    }
    let counted = count()?;
    let instructions = counted.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    let baseline = Baseline { machine: machine()?, instructions };
    let text = baseline.text().map_err(|error| error.to_string())?;
    std::fs::write(FILE, text).map_err(|error| format!("{FILE}: {error}"))?;
    for (name, n) in counted {
        println!("{name:<28} {n:>8}");
    }
    Ok(ExitCode::SUCCESS)
}

fn count() -> Result<Vec<(&'static str, u64)>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let scratch = std::env::temp_dir().join(format!("linecard-pieces-{}", std::process::id()));
    let counted = counts::count(&program, &scratch).map_err(|error| format!("pieces: {error}"));
    let _ = std::fs::remove_dir_all(&scratch);
    counted
}

/// Valgrind shows a processor with AVX2 only where there is one.
fn can_compare() -> bool {
    #[cfg(target_arch = "x86_64")]
    let can = std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let can = false;
    can
}

fn machine() -> Result<Machine, String> {
    Ok(Machine {
        architecture: std::env::consts::ARCH.to_owned(),
        compiler: version("rustc")?,
        valgrind: version("valgrind")?,
    })
}

fn version(program: &str) -> Result<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(program).arg("--version").current_dir(root).output();
    let output = output.map_err(|error| format!("{program} --version: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
