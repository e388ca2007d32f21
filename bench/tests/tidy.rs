//! Checks of the tree itself: what ARCHITECTURE.md says must be true.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let full = root().join(path);
    std::fs::read_to_string(&full).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every `.rs` file below a folder, as a path from the root of the tree.
fn rust_files(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let path = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.insert(path);
            }
        }
    }
    assert!(!found.is_empty(), "{folder} holds no Rust");
    found
}

/// The file's lines of production code: no comments, nothing from `mod tests` on.
fn code(path: &str) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let line = |line: &&str| !line.trim_start().starts_with("//");
    text.lines().filter(line).collect::<Vec<_>>().join("\n")
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Files of `folders` outside tests in which one of `words` stands, `except` those.
fn offenders(folders: &[&str], words: &[&str], except: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in folders.iter().flat_map(|folder| rust_files(folder)) {
        if is_test(&file) || except.contains(&file.as_str()) {
            continue;
        }
        let code = code(&file);
        let hits = words.iter().filter(|word| code.contains(**word));
        found.extend(hits.map(|word| format!("{file}: {word}")));
    }
    found
}

#[test]
fn the_code_map_names_every_file_and_nothing_else() {
    let text = read("ARCHITECTURE.md");
    let map = text.split("## Code map").nth(1).unwrap().split("\n## ").next().unwrap();
    let named: BTreeSet<String> = map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|path| path.ends_with(".rs"))
        .map(str::to_owned)
        .collect();
    let sources = [
        "codec/src",
        "link/src",
        "relay/src",
        "control/src",
        "loadtest/src",
        "sim/src",
        "fuzz/src",
    ];
    let real: BTreeSet<String> = sources
        .iter()
        .flat_map(|folder| rust_files(folder))
        .filter(|path| !is_test(path))
        .collect();
    let missing: Vec<_> = real.difference(&named).collect();
    let gone: Vec<_> = named.difference(&real).collect();
    assert!(missing.is_empty(), "not in ARCHITECTURE.md's code map: {missing:#?}");
    assert!(gone.is_empty(), "in ARCHITECTURE.md's code map, but not in the tree: {gone:#?}");
}

#[test]
fn paths_in_the_documents_exist() {
    for document in ["README.md", "ARCHITECTURE.md", "systemd/README.md"] {
        let text = read(document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            assert!(root().join(link).exists(), "{document}: {link} does not exist");
        }
    }
}

#[test]
fn the_pure_crates_hold_no_async_no_socket_no_clock_no_lock_no_log() {
    let pure = ["codec/src", "link/src", "relay/src/call", "relay/src/wire"];
    let words = [
        "async ",
        ".await",
        "TcpStream",
        "UdpSocket",
        "Instant::now",
        "SystemTime",
        "Mutex<",
        "RwLock<",
        "tracing::",
        "println!",
        "HashMap",
        "HashSet",
    ];
    assert_eq!(offenders(&pure, &words, &[]), [""; 0]);
}

#[test]
fn only_the_named_files_of_relay_read_clocks_start_tasks_and_read_the_environment() {
    let relay = ["relay/src"];
    let clocks = ["Instant::now", "SystemTime::now", ".elapsed()"];
    assert_eq!(offenders(&relay, &clocks, &["relay/src/clock.rs"]), [""; 0]);
    let spawns = ["spawn(", "spawn_local(", "spawn_blocking("];
    let may =
        ["relay/src/main.rs", "relay/src/server.rs", "relay/src/shard.rs", "relay/src/node.rs"];
    assert_eq!(offenders(&relay, &spawns, &may), [""; 0]);
    let environment = ["env::var", "env::vars"];
    assert_eq!(offenders(&relay, &environment, &["relay/src/config.rs"]), [""; 0]);
}

#[test]
fn vendors_are_named_at_the_edges_only() {
    let folders = ["codec/src", "relay/src", "control/src", "link/src"];
    let words = ["openai", "OpenAi", "Openai", "Twilio", "twilio"];
    let edge = |path: &str| {
        path.starts_with("relay/src/wire/")
            || path.starts_with("control/src/twilio/")
            || path.contains("/src/config")
            || path == "link/src/agent.rs"
    };
    for hit in offenders(&folders, &words, &[]) {
        let (file, _) = hit.split_once(':').unwrap();
        assert!(edge(file) || JOINTS.contains(&file), "{hit}: a vendor's name outside the edges");
    }
}

/// Files of control that join the carrier's edge to the rest: they name its module, its paths and
/// its settings, and none of its words.
const JOINTS: [&str; 11] = [
    "control/src/lib.rs",
    "control/src/server.rs",
    "control/src/http.rs",
    "control/src/plane.rs",
    "control/src/dialer.rs",
    "control/src/fleet/mover.rs",
    "control/src/doctor.rs",
    "control/src/dialer/queue.rs",
    "control/src/metrics.rs",
    "control/src/metrics/labels.rs",
    "control/src/fleet/link/session.rs",
];

#[test]
fn no_file_outgrows_a_reader() {
    for folder in ["codec/src", "link/src", "relay/src", "control/src", "loadtest/src", "bench"] {
        for file in rust_files(folder) {
            let lines = code(&file).lines().count();
            assert!(lines <= 500, "{file} has {lines} lines of code; a file ends at 500");
        }
    }
}

#[test]
fn documents_name_only_make_targets_that_exist() {
    let makefile = read("Makefile");
    for document in ["README.md", "ARCHITECTURE.md"] {
        let text = read(document);
        let named = text.split("make ").skip(1).filter_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-')?;
            Some(&rest[..end])
        });
        for target in named.filter(|target| !target.is_empty()) {
            let known = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            let command = text.contains(&format!("`make {target}"))
                || text.lines().any(|line| line.starts_with(&format!("make {target}")));
            assert!(known || !command, "{document}: `make {target}` is not a target");
        }
    }
}
