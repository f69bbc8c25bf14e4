//! Every target on everything that is kept for it: the corpora, and the protocol's vectors. What a
//! fuzzer once found stays found.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test, whose helpers stand outside of its test functions"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER_PERMISSIVE;
use tidings_fuzzed::{TARGETS, Target};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

fn vectors(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folders = target.vectors.iter().map(|rule| root().join("vectors").join(rule));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let vector: serde_json::Value = serde_json::from_str(&text).unwrap();
        let hex = vector["hex"].as_str().unwrap();
        (path.display().to_string(), HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).unwrap())
    };
    folders.flat_map(|folder| files(&folder)).map(read).collect()
}

#[test]
fn every_target_holds_for_what_is_kept() {
    for target in TARGETS {
        let corpus = files(&root().join("fuzz/corpus").join(target.name));
        let kept = corpus.into_iter().map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path.display().to_string(), bytes)
        });
        let cases: Vec<(String, Vec<u8>)> = kept.chain(vectors(target)).collect();
        assert!(!cases.is_empty(), "{} is given nothing", target.name);
        for (path, bytes) in cases {
            // Rows begin with a byte that says which; so that vectors reach each of them.
            let is_row = target.name.ends_with("_rows") && path.ends_with(".json");
            let firsts = if is_row { 0..=63 } else { 0..=0_u8 };
            for first in firsts {
                let bytes =
                    if is_row { [&[first], bytes.as_slice()].concat() } else { bytes.clone() };
                let held = std::panic::catch_unwind(|| (target.body)(&bytes));
                assert!(held.is_ok(), "{} does not hold for {path}", target.name);
            }
        }
    }
}

#[test]
fn what_is_kept_is_small() {
    let folders = TARGETS.iter().map(|target| root().join("fuzz/corpus").join(target.name));
    let sizes = folders.flat_map(|folder| files(&folder)).map(|path| {
        let bytes = fs::metadata(path).unwrap().len();
        assert!(bytes <= 64 * 1024);
        bytes
    });
    assert!(sizes.sum::<u64>() < 1024 * 1024, "let `cargo fuzz cmin` make the corpora smaller");
}

#[test]
fn every_target_has_its_program_and_its_corpus() {
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    for target in TARGETS {
        let name = target.name;
        let program = fs::read_to_string(root().join(format!("fuzz/targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("run(\"{name}\", bytes)")), "{name}");
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    assert_eq!(files(&root().join("fuzz/targets")).len(), TARGETS.len());
}
