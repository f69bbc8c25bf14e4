//! Rewrites `tests/vectors/`: one file per case, from fixed keys and no randomness, so that a run
//! without a change of the protocol changes no file. What the files mean is in their README; what
//! the code makes of them is checked by `spec.rs`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a tool that makes test data and may stop at the first surprise"
)]

mod cases;

use std::{collections::BTreeSet, fs, path::Path};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let cases = cases::all();
    let mut wanted = BTreeSet::new();
    for case in &cases {
        let path = root.join(case.path());
        fs::create_dir_all(path.parent().expect("a case lies in a folder")).expect("a folder");
        fs::write(&path, case.to_json()).expect("a writable folder");
        assert!(wanted.insert(path), "two cases are called {}", case.path());
    }
    let mut gone = 0;
    for folder in fs::read_dir(&root).expect("the folder of vectors") {
        let folder = folder.expect("an entry").path();
        if !folder.is_dir() {
            continue;
        }
        for file in fs::read_dir(&folder).expect("a folder") {
            let file = file.expect("an entry").path();
            if !wanted.contains(&file) {
                fs::remove_file(&file).expect("a file that may be removed");
                gone += 1;
            }
        }
    }
    println!("{} vectors written, {gone} old ones removed", cases.len());
}
