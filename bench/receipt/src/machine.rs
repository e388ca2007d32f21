//! Where a receipt was made.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The machine and the build.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// The processor, as the kernel names it.
    pub processor: String,
    /// How many of its cores there are.
    pub cores: usize,
    /// Memory, in GiB.
    pub memory_gib: u64,
    /// The kernel.
    pub kernel: String,
    /// The compiler.
    pub compiler: String,
    /// The commit that was measured, with a `+` when the tree was changed.
    pub commit: String,
    /// The load average over one minute before the first run: what else ran.
    pub load_before: String,
}

impl Machine {
    /// Looks around. What cannot be found is empty.
    #[must_use]
    pub fn here() -> Self {
        let memory = field("/proc/meminfo", "MemTotal").replace("kB", "");
        let changed = !said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
        let mark = if changed { "+" } else { "" };
        Self {
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory.trim().parse::<u64>().unwrap_or_default() >> 20,
            kernel: read("/proc/sys/kernel/osrelease"),
            compiler: said("rustc", &["--version"]),
            commit: said("git", &["rev-parse", "--short", "HEAD"]) + mark,
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// The day it is, as `2026-11-24`.
#[must_use]
pub fn today() -> String {
    said("date", &["-u", "+%F"])
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The value behind a name and a colon, on its first line.
fn field(path: &str, name: &str) -> String {
    let text = read(path);
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    value.unwrap_or_default()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
