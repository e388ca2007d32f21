//! How much memory the process has, and how much it may have.

use std::fs;
use std::path::{Path, PathBuf};

/// Of what there is, this share is used before calls are refused. The rest is for what the
/// process's own figure leaves out (sockets' buffers in the kernel), for answers that wait in the
/// calls that are here already, and for the system.
const SHARE_PERCENT: u64 = 85;

/// The memory above which no call is taken: as set, or a share of what there is.
pub(crate) fn bound(set: Option<u64>) -> u64 {
    set.unwrap_or_else(|| match available() {
        Some(bytes) => bytes / 100 * SHARE_PERCENT,
        None => u64::MAX,
    })
}

/// What the tightest cgroup around the process allows, or what the machine has.
fn available() -> Option<u64> {
    let info = rustix::system::sysinfo();
    let machine = info.totalram.checked_mul(info.mem_unit.into());
    let group = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|groups| cgroup_limit(&groups, Path::new("/sys/fs/cgroup")));
    machine.into_iter().chain(group).min()
}

/// The lowest limit from the process's own cgroup up to the root. In a container the root is the
/// container's own, and its path may be one that only the host can see.
fn cgroup_limit(groups: &str, root: &Path) -> Option<u64> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let own = root.join(path);
    let above = own.ancestors().take_while(|folder| folder.starts_with(root));
    // Version 1, where memory has a tree of its own; only its root is looked at.
    let old = root.join("memory/memory.limit_in_bytes");
    let files = above.flat_map(|folder| [folder.join("memory.max"), folder.join("memory.high")]);
    let read = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse().ok();
    files.chain([old]).filter_map(read).min()
}

/// The resident bytes of the process; `None` where the system does not say.
pub(super) fn resident() -> Option<u64> {
    let pages = resident_pages(&fs::read_to_string("/proc/self/statm").ok()?)?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_its_own_size() {
        assert_eq!(resident_pages("10 7 3 1 0 5 0\n"), Some(7));
        assert!(resident().unwrap() > 1 << 20);
        assert!(bound(None) > 64 << 20);
        assert_eq!(bound(Some(5)), 5);
    }

    #[test]
    fn the_tightest_cgroup_counts() {
        let root = tempfile::TempDir::new().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(cgroup_limit("0::/\n", root.path()), None);
        write("memory/memory.limit_in_bytes", "900\n");
        assert_eq!(cgroup_limit("4:memory:/x\n", root.path()), Some(900));
        write("system.slice/memory.max", "max\n");
        write("system.slice/relay.service/memory.max", "800\n");
        write("system.slice/relay.service/memory.high", "700\n");
        assert_eq!(cgroup_limit("0::/system.slice/relay.service\n", root.path()), Some(700));
        // The host's path is of no use inside; the root's limit still counts.
        write("memory.max", "500\n");
        assert_eq!(cgroup_limit("0::/not/seen/here\n", root.path()), Some(500));
    }
}
