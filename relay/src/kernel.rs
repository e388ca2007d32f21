//! What the system should allow a node: the settings that the process cannot make itself, each
//! with its reason and the command that mends it. Looked at when a relay starts and by
//! [`doctor`](crate::doctor); a test holds `systemd/90-linecard.conf` to the same list.
//!
//! What the process can set it sets: open files (`server/files.rs`), the backlog of its listener
//! (`server/accept.rs`), the options of each leg ([`stream`](crate::stream)), the buffers of the
//! link (`node/session.rs`).

use std::fs;
use std::path::Path;

/// Connections that the kernel may hold before they are accepted: a herd after a deploy.
pub const BACKLOG: u32 = 8_192;
/// What the link's socket asks of the kernel, each way: a burst of events after a reconnect.
pub const LINK_BUFFER_BYTES: u32 = 1 << 20;

/// What is asked of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The most calls of the node.
    pub calls_max: u32,
    /// Whether it has a link to control, which is UDP.
    pub has_link: bool,
}

/// One setting, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The setting, as its manual calls it.
    pub name: &'static str,
    /// What it is.
    pub verdict: Verdict,
    /// The command that mends it.
    pub mend: &'static str,
}

/// What a setting is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be; its value.
    Fine(String),
    /// Not as it should be: what it is, and what comes of it.
    Wrong(String),
    /// This process cannot see it: a sandbox, or another system.
    Unseen,
}

/// One rule: where a setting stands, and what is wrong with a value of it.
struct Rule {
    name: &'static str,
    path: &'static str,
    wrong: fn(&str, Needs) -> Option<String>,
    mend: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        name: "net.core.somaxconn",
        path: "/proc/sys/net/core/somaxconn",
        wrong: |value, needs| herd(value, needs, "wait to be accepted"),
        mend: "sudo sysctl -w net.core.somaxconn=8192",
    },
    Rule {
        name: "net.ipv4.tcp_max_syn_backlog",
        path: "/proc/sys/net/ipv4/tcp_max_syn_backlog",
        wrong: |value, needs| herd(value, needs, "be half open"),
        mend: "sudo sysctl -w net.ipv4.tcp_max_syn_backlog=8192",
    },
    Rule {
        name: "net.ipv4.ip_local_port_range",
        path: "/proc/sys/net/ipv4/ip_local_port_range",
        wrong: local_ports,
        mend: "sudo sysctl -w net.ipv4.ip_local_port_range='10240 65000'",
    },
    Rule {
        name: "net.core.rmem_max",
        path: "/proc/sys/net/core/rmem_max",
        wrong: link_buffer,
        mend: "sudo sysctl -w net.core.rmem_max=7500000",
    },
    Rule {
        name: "net.core.wmem_max",
        path: "/proc/sys/net/core/wmem_max",
        wrong: link_buffer,
        mend: "sudo sysctl -w net.core.wmem_max=7500000",
    },
    Rule {
        name: "transparent_hugepage",
        path: "/sys/kernel/mm/transparent_hugepage/enabled",
        wrong: |value, _| {
            let problem = "huge pages for every process: memory grows in steps of 2 MiB, and the \
                kernel stops threads to make them";
            value.contains("[always]").then(|| problem.to_owned())
        },
        mend: "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
    },
];

fn herd(value: &str, Needs { calls_max, .. }: Needs, may: &str) -> Option<String> {
    let is: u32 = value.trim().parse().ok()?;
    let at_once = calls_max.min(BACKLOG);
    (is < at_once).then(|| {
        format!("{is} connections may {may}; after a restart {at_once} callers come at once")
    })
}

fn local_ports(value: &str, Needs { calls_max, .. }: Needs) -> Option<String> {
    let mut ends = value.split_ascii_whitespace().map(str::parse::<u32>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else { return None };
    let ports = last.saturating_sub(first) + 1;
    // A port is busy for a minute after its connection; calls that roll over have two.
    let needed = calls_max.saturating_mul(2).saturating_add(1_000);
    (ports < needed).then(|| {
        format!("{ports} ports for sockets to one service; {calls_max} calls may need {needed}")
    })
}

fn link_buffer(value: &str, needs: Needs) -> Option<String> {
    let is: u32 = value.trim().parse().ok()?;
    let is_short = needs.has_link && is < LINK_BUFFER_BYTES;
    is_short.then(|| {
        format!("{is} bytes; the link asks for {LINK_BUFFER_BYTES}, and loses datagrams in a burst")
    })
}

/// The system as a check sees it.
#[derive(Debug, Clone, Copy)]
pub struct System<'a> {
    root: &'a Path,
}

impl System<'static> {
    /// This machine.
    #[must_use]
    pub fn real() -> Self {
        Self { root: Path::new("/") }
    }
}

impl System<'_> {
    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Looks at every setting.
    #[must_use]
    pub fn check(&self, needs: Needs) -> Vec<Found> {
        let judge = |rule: &Rule| {
            let verdict = match self.read(rule.path) {
                None => Verdict::Unseen,
                Some(value) => match (rule.wrong)(&value, needs) {
                    Some(problem) => Verdict::Wrong(problem),
                    None => Verdict::Fine(value.split_whitespace().collect::<Vec<_>>().join(" ")),
                },
            };
            Found { name: rule.name, verdict, mend: rule.mend }
        };
        RULES.iter().map(judge).chain([self.swap(), self.time()]).collect()
    }

    /// Whether calls may find themselves on a disk.
    fn swap(&self) -> Found {
        let verdict = match (self.read("/proc/swaps"), self.read("/proc/sys/vm/swappiness")) {
            (Some(swaps), _) if swaps.lines().count() < 2 => Verdict::Fine("no swap".to_owned()),
            (Some(_), Some(value)) => match value.trim().parse::<u32>() {
                Ok(is) if is > SWAPPINESS_MAX => Verdict::Wrong(format!(
                    "{is} and swap is on: a call whose memory is on a disk stops for as long as \
                     the disk takes"
                )),
                _ => Verdict::Fine(value.trim().to_owned()),
            },
            _ => Verdict::Unseen,
        };
        Found { name: "vm.swappiness", verdict, mend: "sudo sysctl -w vm.swappiness=1" }
    }

    /// Whether something keeps the clock right. Asked of whole systems only: in a container the
    /// host does it.
    fn time(&self) -> Found {
        let keeper = TIME_KEPT_BY.iter().find(|path| self.at(path).exists());
        let verdict = match keeper {
            Some(path) => Verdict::Fine((*path).to_owned()),
            None if !self.at("/run/systemd/system").exists() => Verdict::Unseen,
            None => Verdict::Wrong(
                "nothing keeps the clock right; a few seconds off, tickets are refused".to_owned(),
            ),
        };
        Found { name: "time synchronisation", verdict, mend: "sudo timedatectl set-ntp true" }
    }
}

const SWAPPINESS_MAX: u32 = 10;

/// What is there while a service keeps the time: systemd-timesyncd, chrony, ntpd, OpenNTPD.
const TIME_KEPT_BY: [&str; 6] = [
    "/run/systemd/timesync/synchronized",
    "/run/chrony/chronyd.pid",
    "/run/chronyd.pid",
    "/run/ntpd.pid",
    "/run/ntp/ntpd.pid",
    "/run/ntpd.sock",
];

/// Says once at start what the process cannot set itself.
pub(crate) fn warn(needs: Needs) {
    for Found { name, verdict, mend } in System::real().check(needs) {
        if let Verdict::Wrong(problem) = verdict {
            tracing::warn!(name, problem, mend, "the system holds this node back");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NEEDS: Needs = Needs { calls_max: 20_000, has_link: true };

    /// A system with these files; the verdicts by name.
    fn verdicts(files: &[(&str, &str)], needs: Needs) -> BTreeMap<&'static str, Verdict> {
        let root = tempfile::TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = System { root: root.path() }.check(needs);
        found.into_iter().map(|found| (found.name, found.verdict)).collect()
    }

    #[test]
    fn every_setting_that_is_short_is_named_with_its_reason_and_a_command() {
        let files = [
            ("/proc/sys/net/core/somaxconn", "4096\n"),
            ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "2048\n"),
            ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("/proc/sys/net/core/rmem_max", "212992\n"),
            ("/proc/sys/net/core/wmem_max", "212992\n"),
            ("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
            ("/proc/swaps", "Filename Type\n/dev/sda2 partition\n"),
            ("/proc/sys/vm/swappiness", "60\n"),
            ("/run/systemd/system/x", ""),
        ];
        let found = verdicts(&files, NEEDS);
        assert_eq!(found.len(), 8);
        for (name, verdict) in found {
            assert!(matches!(verdict, Verdict::Wrong(_)), "{name}: {verdict:?}");
        }
    }

    #[test]
    fn a_small_node_on_an_ordinary_machine_is_not_bothered() {
        let files = [
            ("/proc/sys/net/core/somaxconn", "4096\n"),
            ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "2048\n"),
            ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("/proc/sys/net/core/rmem_max", "212992\n"),
            ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("/proc/swaps", "Filename Type\n"),
            ("/run/systemd/system/x", ""),
            ("/run/chrony/chronyd.pid", "1"),
        ];
        let found = verdicts(&files, Needs { calls_max: 1_000, has_link: false });
        for (name, verdict) in &found {
            assert!(!matches!(verdict, Verdict::Wrong(_)), "{name}: {verdict:?}");
        }
        assert_eq!(found["net.core.wmem_max"], Verdict::Unseen);
        assert_eq!(found["net.ipv4.ip_local_port_range"], Verdict::Fine("32768 60999".into()));
    }

    /// `name = value` of every line of the file that is deployed.
    fn deployed() -> BTreeMap<&'static str, &'static str> {
        let lines = include_str!("../../systemd/90-linecard.conf").lines();
        let lines = lines.filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        lines.map(|line| line.split_once(" = ").unwrap()).collect()
    }

    #[test]
    fn the_deployed_settings_satisfy_every_rule_for_the_largest_node() {
        let (settings, mut names) = (deployed(), Vec::new());
        let largest = Needs { calls_max: 25_000, has_link: true };
        for rule in RULES.iter().filter(|rule| rule.path.starts_with("/proc/sys/")) {
            let value =
                settings.get(rule.name).unwrap_or_else(|| panic!("{} is missing", rule.name));
            assert_eq!((rule.wrong)(value, largest), None, "{}", rule.name);
            names.push(rule.name);
        }
        assert!(settings["vm.swappiness"].parse::<u32>().unwrap() <= SWAPPINESS_MAX);
        names.push("vm.swappiness");
        names.sort_unstable();
        assert_eq!(
            settings.keys().copied().collect::<Vec<_>>(),
            names,
            "nothing that no rule asks for"
        );
    }

    #[test]
    fn every_command_sets_what_is_deployed() {
        for (name, value) in deployed() {
            let command = System::real().check(NEEDS).into_iter().find(|found| found.name == name);
            let command = command.unwrap().mend.replace('\'', "");
            assert_eq!(command, format!("sudo sysctl -w {name}={value}"));
        }
    }

    #[test]
    fn the_unit_allows_the_files_of_the_largest_node_and_bounds_its_memory() {
        let unit = include_str!("../../systemd/linecard-relay.service");
        let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        let files: u64 = value("LimitNOFILE=").parse().unwrap();
        assert!(files >= crate::server::files_needed(100_000));
        let percent = |key| value(key).strip_suffix('%').unwrap().parse::<u32>().unwrap();
        // Calls are refused at 85 % of it, before the kernel takes memory back by force.
        assert!(percent("MemoryHigh=") < percent("MemoryMax="));
        assert_eq!(value("MemorySwapMax="), "0");
        assert!(value("TasksMax=").parse::<u32>().unwrap() >= 256, "a thread for each shard");
    }
}
