//! The process's limit of open files: every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside those of calls: listeners, runtimes, forwarded requests, the link.
const SPARE: u64 = 1_000;

/// Raises the limit as far as the system allows, and says when it is too low for the calls that
/// the node would take. Many systems start processes with 1,024, which is less than 500 calls.
pub(super) fn raise_limit(calls_max: u32) {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    // A caller's socket, an agent's, and another agent's while the call rolls over.
    let needed = 3 * u64::from(calls_max) + SPARE;
    // No limit at all is `None`.
    if let Some(files_max) = getrlimit(Resource::Nofile).current
        && files_max < needed
    {
        tracing::warn!(files_max, needed, calls_max, "open files may run out before calls do");
    }
}
