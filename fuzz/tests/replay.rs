//! Replays the inputs that are kept, without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz::TARGETS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it is there").path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_kept_input_passes() {
    for target in TARGETS {
        let inputs = entries(&corpus().join(target.name));
        assert!(!inputs.is_empty(), "{} has no inputs", target.name);
        for path in inputs {
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            // A panic below names the input.
            println!("{}", path.display());
            (target.run)(&bytes);
        }
    }
}

#[test]
fn inputs_cut_short_or_flipped_pass() {
    for target in TARGETS {
        for path in entries(&corpus().join(target.name)) {
            let mut bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            println!("{}", path.display());
            // Some twenty of each, spread over the input.
            let step = bytes.len() / 20 + 1;
            for at in (0..bytes.len()).step_by(step) {
                (target.run)(&bytes[..at]);
                bytes[at] ^= 0x41;
                (target.run)(&bytes);
                bytes[at] ^= 0x41;
            }
        }
    }
}

#[test]
fn every_target_has_a_binary_and_a_folder() {
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let stem = |path: &PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let folders: BTreeSet<_> = entries(&corpus()).iter().filter_map(stem).collect();
    assert_eq!(folders, names);
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("targets");
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "rs");
    let binaries: BTreeSet<_> =
        entries(&targets).iter().filter(|p| is_rust(p)).filter_map(stem).collect();
    assert_eq!(binaries, names);
    let manifest = fs::read_to_string(targets.join("Cargo.toml")).expect("the manifest");
    for name in &names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
    }
}
