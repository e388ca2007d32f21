//! What the system allows: open files, memory, the kernel's settings.

use crate::config::Config;
use crate::gate::room::CALL_BYTES;
use crate::kernel::{Found, Needs, System, Verdict};
use crate::server::{files_limit, files_needed, memory_bound};
use link::finding::Finding;

/// Looks at the machine.
pub(super) fn look(needs: Needs, config: Option<&Config>) -> Vec<Finding> {
    let mut findings = vec![files(needs.calls_max)];
    findings.extend(config.map(memory));
    findings.extend(System::real().check(needs).into_iter().map(kernel));
    findings
}

fn files(calls_max: u32) -> Finding {
    let (what, needed) = ("open files", files_needed(calls_max));
    match files_limit() {
        Some(limit) if limit < needed => {
            let words = format!(
                "{limit} may be open (here; a service has a limit of its own), and {calls_max} \
                 calls may need {needed}: calls beyond it get 503"
            );
            let mend = "LimitNOFILE=1048576 in the unit, `ulimit -Hn 1048576` in a shell, or a \
                        smaller RELAY_CALLS_MAX";
            Finding::warning(what, words, mend)
        }
        Some(limit) => Finding::ok(what, format!("{limit} may be open, {needed} are needed")),
        None => Finding::ok(what, "no limit"),
    }
}

fn memory(config: &Config) -> Finding {
    const MIB: u64 = 1 << 20;
    let (what, bound) = ("memory", memory_bound(config.memory_max));
    let needed = u64::from(config.calls_max) * CALL_BYTES;
    let words = format!("{} MiB for calls, {} MiB are needed", bound / MIB, needed / MIB);
    match bound < needed {
        true => Finding::warning(
            what,
            format!("{words}: calls beyond it get 503"),
            "a smaller RELAY_CALLS_MAX, or more memory (RELAY_MEMORY_MAX_MIB, MemoryMax=)",
        ),
        false => Finding::ok(what, words),
    }
}

fn kernel(Found { name, verdict, mend }: Found) -> Finding {
    match verdict {
        Verdict::Fine(value) => Finding::ok(name, value),
        Verdict::Wrong(problem) => Finding::warning(
            name,
            problem,
            format!("{mend}\nto keep it: systemd/90-linecard.conf in /etc/sysctl.d/"),
        ),
        Verdict::Unseen => Finding::ok(name, "not to be seen from here"),
    }
}
