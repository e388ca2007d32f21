//! What the system says of a process: CPU time and memory.

use anyhow::Context as _;

/// A reading.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// User and system time since the process began, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub(crate) resident_bytes: u64,
    /// Threads.
    pub(crate) threads: u32,
}

/// Reads a process's usage.
///
/// # Errors
/// When there is no such process.
pub(crate) fn usage(pid: u32) -> anyhow::Result<Usage> {
    let file = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    };
    parse(&file("stat")?, &file("status")?).context("the process's figures")
}

/// Reads the two files of `/proc`; see proc(5), fields 14 and 15 of `stat`.
fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The name stands in brackets and may hold anything, brackets included.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes: u64 = field("VmRSS:")?.trim().trim_end_matches("kB").trim().parse().ok()?;
    let threads = field("Threads:")?.trim().parse().ok()?;
    let resident_bytes = kilobytes * 1_024;
    Some(Usage { cpu_seconds: ticks / TICKS_A_SECOND, resident_bytes, threads })
}

/// Linux counts process time in hundredths of a second on every platform of ours.
const TICKS_A_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_strange_name_is_read() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 9 1 2";
        let usage = parse(stat, "Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t3\n").unwrap();
        assert_eq!(usage, Usage { cpu_seconds: 3.0, resident_bytes: 2_097_152, threads: 3 });
        assert_eq!(parse("42 S", ""), None);
    }

    #[test]
    fn this_process_has_figures() {
        assert!(usage(std::process::id()).unwrap().resident_bytes > 0);
    }
}
