//! The few things that are asked of the system itself.

use std::str::FromStr;

use anyhow::Context as _;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Asks a process of ours to end. One that is gone already needs no asking.
pub(crate) fn ask_to_end(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Stops a process of ours where it stands, as a machine that hangs: its sockets stay open and
/// nobody reads them. Only a kill ends it then.
pub(crate) fn freeze(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::STOP);
    }
}

/// Raises the limit of open files as far as the system allows; gives the limit, `None` when there
/// is none.
pub(crate) fn raise_files_limit() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current
}

/// Cores that something is pinned to: `0`, `0,2` or `4-7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores(Vec<usize>);

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |_| format!("`{text}` is no list of cores: 0 or 0,2 or 4-7");
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) =
                (first.trim().parse().map_err(bad)?, last.trim().parse().map_err(bad)?);
            if first > last || last >= CpuSet::MAX_CPU {
                return Err(format!("`{part}` is no range of cores"));
            }
            cores.extend(first..=last);
        }
        cores.sort_unstable();
        cores.dedup();
        Ok(Self(cores))
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cores: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&cores.join(","))
    }
}

impl Cores {
    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether some of them are others, too.
    pub(crate) fn shares(&self, other: &Self) -> bool {
        self.0.iter().any(|core| other.0.contains(core))
    }

    /// Pins the calling thread, and with it whatever it starts from here on.
    ///
    /// # Errors
    /// When there is none of these cores.
    pub(crate) fn pin(&self) -> anyhow::Result<()> {
        self.pin_thread(None)
    }

    /// Pins every thread of a process.
    ///
    /// # Errors
    /// When there is no such process, or none of these cores.
    pub(crate) fn pin_process(&self, pid: u32) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let name = entry?.file_name();
            let thread = name.to_str().and_then(|name| name.parse().ok());
            self.pin_thread(thread.and_then(Pid::from_raw))?;
        }
        Ok(())
    }

    /// Pins one thread; the calling one when none is named.
    fn pin_thread(&self, thread: Option<Pid>) -> anyhow::Result<()> {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|core| set.set(*core));
        sched_setaffinity(thread, &set).with_context(|| format!("pinning to cores {:?}", self.0))
    }
}

/// The cores that the calling thread may use.
///
/// # Errors
/// When the system does not say.
pub(crate) fn allowed_cores() -> anyhow::Result<Cores> {
    let set = sched_getaffinity(None).context("reading the cores of this process")?;
    Ok(Cores((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_named_one_by_one_or_in_ranges() {
        let cores = |text: &str| text.parse::<Cores>();
        assert_eq!(cores("3,0-1,1"), Ok(Cores(vec![0, 1, 3])));
        assert_eq!(cores("3,0-1").unwrap().to_string(), "0,1,3");
        assert!(cores("0-1").unwrap().shares(&cores("1-2").unwrap()));
        for bad in ["", "a", "2-1", "0,", "99999"] {
            assert!(cores(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_thread_stays_where_it_is_pinned() {
        let first = Cores(vec![allowed_cores().unwrap().0[0]]);
        let pinned = first.clone();
        let thread = std::thread::Builder::new().spawn(move || {
            pinned.pin().unwrap();
            allowed_cores().unwrap()
        });
        assert_eq!(thread.unwrap().join().unwrap(), first);
    }

    #[test]
    fn a_process_that_is_asked_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        ask_to_end(child.id());
        assert!(!child.wait().unwrap().success());
        ask_to_end(child.id());
    }

    #[test]
    fn the_limit_of_files_is_never_lowered() {
        let before = getrlimit(Resource::Nofile).current;
        let after = raise_files_limit();
        assert!(after.is_none() || after >= before);
    }
}
