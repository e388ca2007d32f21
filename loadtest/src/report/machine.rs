//! The machine that a load test ran on.

use serde::{Deserialize, Serialize};

/// What a reader has to know before comparing. What cannot be found out is empty or 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Machine {
    /// The processor, as the kernel names it.
    pub(crate) processor: String,
    /// Its cores, as far as this process may use them.
    pub(crate) cores: usize,
    /// Memory, in MiB.
    pub(crate) memory_mib: u64,
    /// The kernel.
    pub(crate) kernel: String,
    /// The system.
    pub(crate) system: String,
    /// The load average of the last minute before the test: what else ran.
    pub(crate) load_before: f64,
}

impl Machine {
    /// Looks around.
    pub(crate) fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory = field(&read("/proc/meminfo"), "MemTotal", ':');
        let kilobytes = memory.trim_end_matches("kB").trim().parse::<u64>().unwrap_or_default();
        let load = read("/proc/loadavg");
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name", ':'),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kilobytes / 1_024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: field(&read("/etc/os-release"), "PRETTY_NAME", '=').replace('"', ""),
            load_before: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }
}

/// The value behind a name, on its first line.
fn field(text: &str, name: &str, between: char) -> String {
    let value = text.lines().find_map(|line| {
        let (key, value) = line.split_once(between)?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let machine = Machine::here();
        assert!(machine.memory_mib > 0 && machine.cores > 0 && !machine.kernel.is_empty());
        assert_eq!(field("a\t: b: c\nx=\"y\"", "a", ':'), "b: c");
        assert_eq!(field("", "a", ':'), "");
    }
}
