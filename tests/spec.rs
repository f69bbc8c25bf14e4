//! Holds four tellings of the protocol together: the code, the grammar `docs/protocol.cddl`, the page
//! `docs/protocol.md` and the vectors. Knows no node and no client; what they do is tested elsewhere.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test, whose helpers stand outside of its test functions"
)]

#[path = "bin/vectors/cases/mod.rs"]
mod cases;
#[path = "spec/grammar.rs"]
mod grammar;
#[path = "spec/judge.rs"]
mod judge;
#[path = "spec/mutated.rs"]
mod mutated;
#[path = "spec/page.rs"]
mod page;
#[path = "spec/source.rs"]
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use serde::Deserialize;

/// A vector as it lies on disk.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vector {
    expect: String,
    why: String,
    #[serde(default)]
    given: BTreeMap<String, String>,
    #[serde(default)]
    result: BTreeMap<String, String>,
    hex: String,
}

impl Vector {
    fn bytes(&self) -> Vec<u8> {
        HEXLOWER.decode(self.hex.as_bytes()).expect("lower-case hex")
    }

    /// True when a sender may send it.
    fn is_ok(&self) -> bool {
        self.expect == "ok"
    }
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every vector with its rule and reason.
pub(crate) fn vectors() -> Vec<(String, String, Vector)> {
    let mut all = Vec::new();
    for rule in fs::read_dir(root().join("tests/vectors")).expect("the vectors") {
        let rule = rule.expect("an entry").path();
        if !rule.is_dir() {
            continue;
        }
        for file in fs::read_dir(&rule).expect("a folder") {
            let file = file.expect("an entry").path();
            let text = fs::read_to_string(&file).expect("a readable vector");
            let vector = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let name =
                |path: &Path| path.file_stem().expect("a name").to_string_lossy().to_string();
            all.push((name(&rule), name(&file), vector));
        }
    }
    all.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
    assert!(all.len() > 500, "only {} vectors were found", all.len());
    all
}

#[test]
fn the_generator_makes_exactly_the_committed_vectors() {
    let made: BTreeMap<String, String> =
        cases::all().iter().map(|case| (case.path(), case.to_json())).collect();
    let committed: BTreeSet<String> =
        vectors().iter().map(|(rule, reason, _)| format!("{rule}/{reason}.json")).collect();
    let names: BTreeSet<String> = made.keys().cloned().collect();
    assert_eq!(names, committed, "run `cargo run -p tidings-tests --bin vectors`");
    for (path, json) in made {
        let there = fs::read_to_string(root().join("tests/vectors").join(&path)).expect("a vector");
        assert_eq!(json, there, "{path}: run `cargo run -p tidings-tests --bin vectors`");
    }
}

#[test]
fn the_code_finds_in_each_vector_what_it_says() {
    let mut wrong = Vec::new();
    for (rule, reason, vector) in vectors() {
        let found = judge::judge(&rule, &vector);
        let complaint = match (vector.expect.as_str(), found) {
            ("ok" | "lenient", Err(kind)) => Some(format!("refused: {kind}")),
            ("ok", Ok(seen)) if seen.canonical != vector.bytes() => {
                Some("is written back with other bytes".to_owned())
            }
            ("lenient", Ok(seen)) if seen.canonical == vector.bytes() => {
                Some("is in canonical form".to_owned())
            }
            ("ok" | "lenient", Ok(seen)) => vector
                .result
                .iter()
                .filter(|(name, _)| *name != "canonical")
                .find(|(name, value)| seen.result.get(*name) != Some(value))
                .map(|(name, _)| format!("{name} is {:?}", seen.result.get(name)))
                .or_else(|| {
                    let canonical = vector.result.get("canonical")?;
                    (*canonical != HEXLOWER.encode(&seen.canonical))
                        .then(|| "is written back otherwise".to_owned())
                }),
            (expected, Err(kind)) => (kind != expected).then(|| format!("refused: {kind}")),
            (_, Ok(_)) => Some("taken".to_owned()),
        };
        if let Some(complaint) = complaint {
            wrong.push(format!("{rule}/{reason}: {} expected, but {complaint}", vector.expect));
        }
    }
    assert!(wrong.is_empty(), "{}\n", wrong.join("\n"));
}

#[test]
fn most_vectors_are_refused_and_each_says_why() {
    let all = vectors();
    let good = all.iter().filter(|(_, _, vector)| vector.is_ok()).count();
    assert!(good * 2 < all.len(), "{good} of {} are positive", all.len());
    for (rule, reason, vector) in &all {
        assert!(vector.why.ends_with(['.', '?']), "{rule}/{reason}: why is no sentence");
    }
    for rule in all.iter().map(|(rule, _, _)| rule).collect::<BTreeSet<_>>() {
        assert!(
            all.iter().any(|(r, _, vector)| r == rule && vector.is_ok()),
            "{rule} has no positive vector"
        );
    }
}

#[test]
fn the_readme_of_the_vectors_explains_every_rule_and_kind() {
    let readme = fs::read_to_string(root().join("tests/vectors/README.md")).expect("the README");
    for (rule, reason, vector) in vectors() {
        for word in [&rule, &vector.expect] {
            assert!(
                readme.contains(&format!("`{word}`")),
                "{word} of {rule}/{reason} is not there"
            );
        }
        for word in vector.given.keys().chain(vector.result.keys()) {
            assert!(
                readme.contains(&format!("`{word}`")),
                "{word} of {rule}/{reason} is not there"
            );
        }
    }
}
