//! The process's limit of open files: every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside those of calls: connections before their upgrade, forwarded requests, the link.
const SPARE: u64 = 1_000;

/// What calls leave of the limit for everything else, at most. A process with a tiny limit keeps
/// an eighth of it.
const RESERVE: u64 = 64;

/// Raises the limit as far as the system allows, and says when it is too low for the calls that
/// the node would take. Many systems start processes with 1,024, which is less than 500 calls.
pub(super) fn raise_limit(calls_max: u32) {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let needed = needed(calls_max);
    if let Some(files_max) = limit()
        && files_max < needed
    {
        tracing::warn!(
            files_max,
            needed,
            calls_max,
            "open files run out before calls do: set LimitNOFILE= of the unit, or `ulimit -Hn`"
        );
    }
}

/// Open files that so many calls may need, everything else included.
pub(crate) fn needed(calls_max: u32) -> u64 {
    crate::gate::room::CALL_FILES * u64::from(calls_max) + SPARE
}

/// How many files the process may have open; no limit at all is `None`.
fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many files a relay that starts here could have open: it raises its limit to this.
pub(crate) fn limit_raised() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// What calls and their connections may use of the limit, once the process has opened its own.
pub(super) fn for_calls() -> u64 {
    let Some(files_max) = limit() else { return u64::MAX };
    let own = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let own = u64::try_from(own).unwrap_or(u64::MAX);
    files_max.saturating_sub(own).saturating_sub(RESERVE.min(files_max / 8))
}
