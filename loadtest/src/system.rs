//! The two things that are asked of the system itself.

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

/// Asks a process of ours to end. One that is gone already needs no asking.
pub(crate) fn ask_to_end(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
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

#[cfg(test)]
mod tests {
    use super::*;

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
