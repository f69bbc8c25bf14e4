//! The rules of the repository, as tests: arrows between packages, openings and sizes of files, links,
//! versions. Fast and without network; what a lint can see is left to the lints.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test, whose helpers stand outside of its test functions"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

/// Lines of a source file at most.
const LINES_MAX: usize = 600;
/// Lines of the map at most.
const MAP_LINES_MAX: usize = 300;

/// Packages: name, folder, and what of ours it may depend on.
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("tidings-protocol", "protocol", &[]),
    ("tidings-store", "store", &[]),
    ("tidings-core", "node/core", &["tidings-protocol", "tidings-store"]),
    ("tidings-node", "node", &["tidings-core", "tidings-protocol", "tidings-store"]),
    ("tidings-client", "client", &["tidings-protocol", "tidings-store"]),
    (
        "tidings",
        "cli",
        &["tidings-client", "tidings-core", "tidings-node", "tidings-protocol", "tidings-store"],
    ),
    (
        "tidings-tests",
        "tests",
        &["tidings-client", "tidings-core", "tidings-node", "tidings-protocol", "tidings-store"],
    ),
    (
        "tidings-fuzzed",
        "tests/fuzzed",
        &["tidings-client", "tidings-core", "tidings-node", "tidings-protocol", "tidings-store"],
    ),
];

/// Dependencies that one package alone may name, in its manifest and in its source.
const PRIVATE: &[(&str, &str)] = &[
    ("libp2p", "node"),
    ("libp2p-stream", "node"),
    ("ciborium", "protocol"),
    ("redb", "store"),
    ("vodozemac", "client"),
    ("axum", "node"),
    ("hickory-resolver", "node"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of the repository, by its path from the root, without what is built or fetched.
fn files() -> Vec<String> {
    let root = root();
    let mut folders = vec![root.clone()];
    let mut all = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().to_string();
            let is_hidden = name.starts_with('.') && name != ".cargo";
            if is_hidden || ["target", "node_modules"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let path = path.strip_prefix(&root).expect("below the root");
                all.push(path.to_string_lossy().to_string());
            }
        }
    }
    all.sort();
    assert!(all.len() > 100, "only {} files were found", all.len());
    all
}

fn sources() -> Vec<(String, String)> {
    let is_source = |path: &String| path.ends_with(".rs");
    files().into_iter().filter(is_source).map(|path| (path.clone(), read(&path))).collect()
}

/// Complaints of a rule, all at once.
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Names under `[dependencies]` and the like: section → names.
fn dependencies(manifest: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut sections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            // [dependencies.bytes] names its dependency itself.
            if let Some((kind, name)) = section.clone().rsplit_once("dependencies.") {
                let kind = format!("{kind}dependencies");
                sections.entry(kind).or_default().insert(name.to_owned());
            }
        } else if section.ends_with("dependencies")
            && !line.starts_with('#')
            && let Some((name, _)) = line.split_once(['.', '=', ' '])
        {
            sections.entry(section.clone()).or_default().insert(name.to_owned());
        }
    }
    sections
}

fn all_dependencies(folder: &str) -> BTreeSet<String> {
    dependencies(&read(&format!("{folder}/Cargo.toml"))).into_values().flatten().collect()
}

#[test]
fn dependencies_point_one_way() {
    let mut complaints = Vec::new();
    for (name, folder, allowed) in ARROWS {
        for dependency in all_dependencies(folder) {
            let is_ours = dependency == "tidings" || dependency.starts_with("tidings-");
            // A package may name itself, to give its tests a feature.
            if is_ours && dependency != *name && !allowed.contains(&dependency.as_str()) {
                complaints.push(format!("{name} may not depend on {dependency}"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn every_package_has_its_arrows_here() {
    let manifests: BTreeSet<String> = files()
        .into_iter()
        .filter_map(|path| path.strip_suffix("/Cargo.toml").map(str::to_owned))
        .filter(|folder| read(&format!("{folder}/Cargo.toml")).contains("[package]"))
        // A fuzz or web package is its own workspace and is built apart.
        .filter(|folder| !read(&format!("{folder}/Cargo.toml")).contains("[workspace]"))
        .collect();
    let known: BTreeSet<String> =
        ARROWS.iter().map(|(_, folder, _)| (*folder).to_owned()).collect();
    assert_eq!(manifests, known);
    for (name, folder, _) in ARROWS {
        let line = format!("name = \"{name}\"");
        assert!(read(&format!("{folder}/Cargo.toml")).contains(&line), "{folder} is not {name}");
    }
}

#[test]
fn the_node_never_links_the_client() {
    let mut reached = BTreeSet::from(["tidings-node".to_owned()]);
    loop {
        let more: BTreeSet<String> = ARROWS
            .iter()
            .filter(|(name, _, _)| reached.contains(*name))
            .flat_map(|(_, folder, _)| {
                dependencies(&read(&format!("{folder}/Cargo.toml")))
                    .remove("dependencies")
                    .unwrap_or_default()
            })
            .filter(|name| name.starts_with("tidings"))
            .collect();
        let before = reached.len();
        reached.extend(more);
        if reached.len() == before {
            break;
        }
    }
    assert!(reached.contains("tidings-core"), "{reached:?}");
    assert!(!reached.contains("tidings-client"), "{reached:?}");
}

#[test]
fn a_library_with_an_owner_is_named_there_alone() {
    let mut complaints = Vec::new();
    for (library, owner) in PRIVATE {
        for (name, folder, _) in ARROWS {
            if folder != owner && all_dependencies(folder).contains(*library) {
                complaints.push(format!("{name} names {library}, which belongs to {owner}"));
            }
        }
    }
    for (path, text) in sources() {
        let uses = |word: &str| text.contains(&format!("{word}::"));
        if uses("ciborium") && path != "protocol/src/codec.rs" {
            complaints.push(format!("{path} names ciborium; protocol/src/codec.rs alone may"));
        }
        if uses("libp2p") && !path.starts_with("node/") {
            complaints.push(format!("{path} names libp2p; the node alone may"));
        }
        if uses("redb") && !path.starts_with("store/") {
            complaints.push(format!("{path} names redb; the store alone may"));
        }
    }
    // This file says the words that it looks for.
    complaints.retain(|complaint| !complaint.starts_with("tests/tidy.rs"));
    none(&complaints);
}

#[test]
fn what_is_pure_names_no_runtime_socket_or_clock() {
    let mut complaints = Vec::new();
    for (path, text) in sources() {
        let is_pure = path.starts_with("protocol/src") || path.starts_with("node/core/src");
        for word in ["tokio::", "std::net::", "std::fs::", "Instant::now", "SystemTime::now"] {
            if is_pure && text.contains(word) {
                complaints.push(format!("{path} names {word}"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn every_file_opens_with_what_it_is() {
    let bad = |(path, text): (String, String)| (!text.starts_with("//! ")).then_some(path);
    none(&sources().into_iter().filter_map(bad).collect::<Vec<_>>());
}

#[test]
fn no_file_is_longer_than_a_sitting() {
    let mut complaints = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            complaints.push(format!("{path} has {lines} lines; look for the second noun in it"));
        }
    }
    let lines = read("ARCHITECTURE.md").lines().count();
    if lines > MAP_LINES_MAX {
        complaints.push(format!("ARCHITECTURE.md has {lines} lines of {MAP_LINES_MAX}"));
    }
    none(&complaints);
}

#[test]
fn nothing_is_left_for_later() {
    let mut complaints = Vec::new();
    for (path, text) in sources() {
        for (number, line) in (1..).zip(text.lines()) {
            for word in [concat!("to", "do!("), concat!("FIX", "ME"), concat!("TO", "DO")] {
                if line.contains(word) {
                    complaints.push(format!("{path}:{number}: {word}"));
                }
            }
        }
    }
    none(&complaints);
}

#[test]
fn no_test_sleeps_or_is_ignored() {
    let mut complaints = Vec::new();
    for (path, text) in sources() {
        // A program that runs simulations may wait for its threads; a test waits for events.
        let is_program = path.starts_with("tests/bin/");
        let mut is_test = !is_program && (path.starts_with("tests/") || path.contains("/tests/"));
        for (number, line) in (1..).zip(text.lines()) {
            is_test |= line.trim() == "#[cfg(test)]";
            if line.trim().starts_with(concat!("#[ign", "ore")) {
                complaints.push(format!("{path}:{number}: an ignored test"));
            }
            let sleeps = [concat!("thread::sle", "ep("), concat!("time::sle", "ep(")];
            if is_test && sleeps.iter().any(|sleep| line.contains(sleep)) {
                complaints.push(format!("{path}:{number}: a test that sleeps"));
            }
        }
    }
    none(&complaints);
}

/// Everything of `[text](target)` in a page, outside of code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        for piece in prose.split("](").skip(1) {
            if let Some((target, _)) = piece.split_once(')') {
                found.push(target.split(' ').next().unwrap_or_default().to_owned());
            }
        }
    }
    found
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn no_link_is_dead() {
    let mut complaints = Vec::new();
    for page in files().into_iter().filter(|path| path.ends_with(".md")) {
        let text = read(&page);
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (target, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let folder = Path::new(&page).parent().expect("a folder");
            let target = if target.is_empty() { PathBuf::from(&page) } else { folder.join(target) };
            let path = root().join(&target);
            let leaves = target.components().fold(0i32, |depth, part| match part {
                Component::ParentDir => depth - 1,
                Component::Normal(_) => depth + 1,
                Component::Prefix(_) | Component::RootDir | Component::CurDir => depth,
            }) < 0;
            if leaves || !path.exists() {
                complaints.push(format!("{page}: {link} leads nowhere"));
            } else if !fragment.is_empty() && path.extension().is_some_and(|e| e == "md") {
                let there = fs::read_to_string(&path).expect("a readable page");
                let headings = there.lines().filter(|line| line.starts_with('#'));
                if !headings.map(anchor).any(|anchor| anchor == fragment) {
                    complaints.push(format!("{page}: {link} names no heading"));
                }
            }
        }
    }
    none(&complaints);
}

#[test]
fn the_pages_that_a_newcomer_needs_exist() {
    for page in
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/protocol.md", "docs/protocol.cddl"]
    {
        assert!(root().join(page).is_file(), "{page} is missing");
    }
}

/// What stands between back-ticks in a page, line by line.
fn code_spans(text: &str) -> Vec<&str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Whether a function of this name stands in a file whose path ends so.
fn has_function(sources: &[(String, String)], file: &str, name: &str) -> bool {
    let is_there = |path: &str| path == file || path.ends_with(&format!("/{file}"));
    let opening = format!("fn {name}(");
    sources.iter().any(|(path, text)| is_there(path) && text.contains(&opening))
}

#[test]
fn what_the_pages_name_as_shown_exists() {
    let sources = sources();
    let (broken, options) = (read("tests/harness/sabotage.rs"), read("tests/harness/options.rs"));
    let mut complaints = Vec::new();
    for page in ["docs/faults.md", "docs/complaints.md"] {
        let text = read(page);
        let mut tests = 0;
        for span in code_spans(&text) {
            let exists = if let Some((file, name)) = span.split_once("::") {
                tests += 1;
                file.ends_with(".rs") && has_function(&sources, file, name)
            } else if let Some((_, name)) = span.split_once("--broken ") {
                broken.contains(&format!("(\"{name}\", "))
            } else if let Some(fault) = span.strip_prefix("sim.") {
                options.contains(&format!("pub {fault}: "))
            } else {
                true
            };
            if !exists {
                complaints.push(format!("{page} names {span}, which is not there"));
            }
        }
        assert!(tests > 10, "{page} names {tests} tests only; is it read rightly?");
    }
    none(&complaints);
}

/// The value of a key of the root manifest's `[workspace.package]`.
fn workspace_version() -> String {
    let manifest = read("Cargo.toml");
    let line = manifest.lines().find(|line| line.starts_with("version = ")).expect("a version");
    line.split('"').nth(1).expect("a version in quotes").to_owned()
}

#[test]
fn the_newest_version_of_the_changelog_is_the_version() {
    let changelog = read("CHANGELOG.md");
    let newest = changelog
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.trim_start_matches('[').to_owned())
        .find(|heading| heading.starts_with(|c: char| c.is_ascii_digit()))
        .expect("a heading with a version");
    let newest: String =
        newest.chars().take_while(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect();
    assert_eq!(newest, workspace_version());
}

#[test]
fn every_package_has_the_one_version() {
    for (name, folder, _) in ARROWS {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        assert!(manifest.contains("version.workspace = true"), "{name} has a version of its own");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name} has lints of its own");
    }
    let version = workspace_version();
    for line in read("Cargo.toml").lines().filter(|line| line.starts_with("tidings-")) {
        assert!(line.contains(&format!("\"={version}\"")), "{line}");
    }
}

#[test]
fn decisions_are_numbered_without_gaps() {
    let mut numbers = Vec::new();
    for path in files().into_iter().filter(|path| path.starts_with("docs/decisions/")) {
        let name = path.trim_start_matches("docs/decisions/");
        if name == "README.md" {
            continue;
        }
        let number = name.get(..4).and_then(|digits| digits.parse::<usize>().ok());
        let is_named = name.get(4..5) == Some("-") && name.ends_with(".md");
        assert!(is_named && number.is_some(), "{path} is not called NNNN-title.md");
        numbers.extend(number);
    }
    let first = numbers.first().copied().unwrap_or(1);
    assert!(first <= 1, "the first decision has the number {first}");
    let expected: Vec<usize> = (first..first + numbers.len()).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn only_the_agreed_folders_stand_at_the_top() {
    let agreed =
        [".cargo", "cli", "client", "deploy", "docs", "node", "protocol", "store", "tests"];
    let found: BTreeSet<String> = files()
        .iter()
        .filter_map(|path| path.split_once('/').map(|(folder, _)| folder.to_owned()))
        .filter(|folder| !agreed.contains(&folder.as_str()))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}
