//! The command line as scripts and people meet it: `doctor`, `inspect`, what `--json` says against
//! `docs/cli.md`, and that nothing but a terminal gets colours.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::{
    binary::{self, Said},
    cluster::{in_time, test},
    server::{Server, text},
};

/// An id that no message has.
const NO_MESSAGE: &str = "0199c0ffee0000112233445566778899";

/// Longer than a node takes.
const LONG_LABEL: &str = "the telephone on the desk at home, the second one from the left side";

const PAGE: &str = include_str!("../../docs/cli.md");

/// The fields that the page names for a command, in order of appearance; nested ones too.
fn fields(command: &str) -> BTreeSet<String> {
    let begin = format!("| `{command}` | ");
    let line = PAGE.split("\n## JSON").nth(1).and_then(|part| {
        part.lines().find_map(|line| line.strip_prefix(&begin)).map(str::to_owned)
    });
    let line = line.unwrap_or_else(|| panic!("{command} is not on the page"));
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every key of a value that the command made itself, wherever it stands.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                found.insert(key.clone());
                // What a value of the protocol says is not the command's.
                if !["value", "key", "signer"].contains(&key.as_str()) {
                    keys(value, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Runs a command and holds its JSON to the page: all of its keys are there.
async fn as_told(command: &str, args: &[&str]) -> Value {
    let mut all: Vec<&str> = command.split(' ').skip(1).collect();
    all.extend(args);
    all.push("--json");
    let said = in_time(command, binary::run(&all)).await;
    let value: Value =
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let mut found = BTreeSet::new();
    keys(&value, &mut found);
    let told = fields(command);
    assert!(found.is_subset(&told), "{command} says {found:?}; the page names {told:?}");
    value
}

fn check<'a>(report: &'a Value, name: &str) -> Vec<&'a Value> {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().filter(|check| check["check"] == name).collect()
}

fn result<'a>(report: &'a Value, name: &str) -> &'a str {
    let checks = check(report, name);
    let worst = ["failed", "warning", "ok"]
        .into_iter()
        .find(|word| checks.iter().any(|check| check["result"] == *word));
    worst.unwrap_or_else(|| panic!("no check is called {name}: {report}"))
}

async fn doctor(args: &[&str]) -> (Value, Said) {
    let all: Vec<&str> = [&["doctor", "--json"], args].concat();
    let said = in_time("doctor", binary::run(&all)).await;
    (serde_json::from_str(&said.out).expect("one line of JSON"), said)
}

/// What is in a folder, byte for byte.
fn image(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let files = entries.filter(|entry| entry.file_type().expect("a type").is_file());
    let mut all: Vec<_> = files
        .map(|file| {
            let name = file.file_name().into_string().expect("UTF-8");
            (name, fs::read(file.path()).expect("a file"))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_conversation_in_json_is_as_the_page_says() {
    test(async |dir| {
        let folder = dir.join("acme");
        as_told("tidings init", &[text(&folder)]).await;
        fs::remove_dir_all(&folder).expect("removing");
        let mut acme = Server::make("acme", folder, None, "").await;
        acme.start().await;
        let folder = acme.folder.clone();
        let data = ["--data", text(&folder)];
        as_told("tidings admin status", &data).await;
        as_told("tidings admin peers list", &data).await;
        let other = tidings_protocol::id::NodeId([7; 32]).to_text();
        let allow = ["admin", "peers", "allow", &other, "--json", data[0], data[1]];
        binary::json(&allow).await;
        as_told("tidings admin peers show", &[&other, data[0], data[1]]).await;
        as_told("tidings admin federation", &data).await;
        as_told("tidings admin log list", &data).await;
        as_told("tidings admin log verify", &data).await;
        as_told("tidings admin reload", &data).await;
        as_told("tidings admin queue", &data).await;
        let invite = as_told("tidings invite", &["--uses", "2", data[0], data[1]]).await;
        let invite = invite["invite"].as_str().expect("an invite");
        let [alice, bob] = ["alice", "bob"].map(|name| dir.join(name));
        for (home, name) in [(&alice, "alice"), (&bob, "bob")] {
            as_told("tidings join", &[invite, "--name", name, "--home", text(home)]).await;
        }
        let sent = ["bob", "hello\u{1b}[2J", "--home", text(&alice)];
        let sent = as_told("tidings send", &sent).await;
        let message = sent["message"].as_str().expect("an id").to_owned();
        let shown = as_told("tidings inbox", &["--home", text(&bob)]).await;
        assert_eq!(shown["text"], "hello\u{1b}[2J");
        let plain = binary::run(&["inbox", "--all", "--home", text(&bob)]).await;
        assert!(
            plain.out.contains("hello\u{fffd}[2J") && !plain.out.contains('\u{1b}'),
            "{plain:?}"
        );
        let fetched = binary::run(&["inbox", "--home", text(&alice)]).await;
        assert_eq!(fetched.code, Some(0), "{fetched:?}");
        as_told("tidings status", &[&message, "--home", text(&alice)]).await;
        // What was received has ticks for its sender alone.
        let received = binary::run(&["status", &message, "--home", text(&bob)]).await;
        assert!(received.out.starts_with("from alice@"), "{received:?}");
        let none = binary::run(&["export", &message, "--home", text(&bob)]).await;
        assert!(none.code == Some(1) && none.err.contains("nothing is proved"), "{none:?}");
        for (args, hint) in [
            (&["send", "bob", "", "--home", text(&alice)][..], "the text is empty"),
            (
                &["send", "bob", "yes", "--reply-to", NO_MESSAGE, "--home", text(&alice)],
                "--reply-to",
            ),
        ] {
            let said = binary::run(args).await;
            assert!(said.code == Some(1) && said.err.contains(hint), "{said:?}");
        }
        let evidence = dir.join("hello.evidence");
        let export = [message.as_str(), "--home", text(&alice), "--out", text(&evidence)];
        as_told("tidings export", &export).await;
        as_told("tidings verify", &[text(&evidence)]).await;
        let seen = as_told("tidings inspect", &[text(&evidence)]).await;
        assert_eq!(seen["kind"], "evidence");
        assert_eq!(seen["items"][0]["value"]["message"], message.as_str());
        assert!(seen["items"][0]["remarks"][0]["holds"].as_bool() == Some(true), "{seen}");
        let report = as_told("tidings doctor", &data).await;
        assert_eq!((result(&report, "node"), report["ok"].as_bool()), ("ok", Some(true)));
        acme.stop().await;
    });
}

#[test]
fn a_doctor_finds_what_is_wrong_and_changes_nothing() {
    test(async |dir| {
        let mut hub = Server::make("hub", dir.join("hub"), None, "").await;
        hub.start().await;
        let known = hub.address().await;
        let mut acme = Server::make("acme", dir.join("acme"), Some(&known), "").await;
        let folder = acme.folder.clone();
        let data = ["--data", text(&folder)];

        // One that never ran.
        let before = image(&acme.folder);
        let (report, said) = doctor(&data).await;
        assert_eq!((said.code, report["ok"].as_bool()), (Some(0), Some(true)), "{report}");
        for name in ["config", "keys", "permissions", "fsync", "node", "port", "store", "peers"] {
            assert_eq!(result(&report, name), "ok", "{name}: {report}");
        }
        assert_eq!(image(&acme.folder), before, "the doctor changed something");

        // One that runs, with a device.
        acme.start().await;
        let invite = acme.invite(1).await;
        let home = dir.join("alice");
        let join = ["join", &invite, "--name", "alice", "--home", text(&home)];
        assert_eq!(binary::run(&join).await.code, Some(0));
        let (report, said) = doctor(&data).await;
        assert_eq!(said.code, Some(0), "{report}");
        assert_eq!(check(&report, "port").len(), 4);
        for name in ["port", "link", "clock", "peers"] {
            assert_eq!(result(&report, name), "ok", "{name}: {report}");
        }
        let before = image(&home);
        let (report, said) = doctor(&["--home", text(&home)]).await;
        assert_eq!(said.code, Some(0), "{report}");
        for name in ["account", "keys", "permissions", "store", "link", "clock"] {
            assert_eq!(result(&report, name), "ok", "{name}: {report}");
        }
        assert_eq!(image(&home), before, "the doctor changed something");
        let inspect = binary::run(&["inspect", "--store", text(&acme.folder)]).await;
        assert!(inspect.err.contains("stop the node first"), "{inspect:?}");

        // A stopped one again, now with a store; then with all that can be wrong.
        acme.stop().await;
        hub.stop().await;
        let (report, said) = doctor(&data).await;
        assert_eq!((said.code, result(&report, "store")), (Some(7), "ok"), "{report}");
        assert_eq!(result(&report, "peers"), "failed", "the hub is gone: {report}");
        let (report, said) = doctor(&["--home", text(&home)]).await;
        assert_eq!((said.code, result(&report, "link")), (Some(7), "failed"), "{report}");

        acme.configure(None, "");
        let taken = std::net::TcpListener::bind(("127.0.0.1", acme.ports[1])).expect("a port");
        let key = acme.folder.join("operational.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("chmod");
        let (report, said) = doctor(&data).await;
        assert_eq!(said.code, Some(7), "{report}");
        assert_eq!((result(&report, "port"), result(&report, "keys")), ("failed", "failed"));
        let failed = report["checks"].as_array().expect("checks").iter();
        for check in failed.filter(|check| check["result"] != "ok") {
            assert!(check["next"].as_str().is_some_and(|next| next.len() > 10), "{check}");
        }
        drop(taken);
        acme.configure(None, "nonsense = 1\n");
        let (report, said) = doctor(&data).await;
        assert_eq!((said.code, result(&report, "config")), (Some(7), "failed"), "{report}");
    });
}

#[test]
fn a_store_is_shown_table_by_table() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let invite = acme.invite(1).await;
        let home = dir.join("alice");
        let join = ["join", &invite, "--name", "alice", "--home", text(&home)];
        assert_eq!(binary::run(&join).await.code, Some(0));
        acme.stop().await;
        let folder = text(&acme.folder);
        let tables = as_told("tidings inspect", &["--store", folder]).await;
        let names: Vec<&str> = tables["tables"]
            .as_array()
            .expect("tables")
            .iter()
            .filter_map(|table| table["table"].as_str())
            .collect();
        assert!(names.contains(&"accounts") && names.contains(&"one_time"), "{names:?}");
        for name in &names {
            let rows = as_told("tidings inspect", &["--store", folder, name, "--limit", "3"]).await;
            for row in rows["rows"].as_array().expect("rows") {
                assert!(row["broken"].is_null() && row["key"]["rest"].is_null(), "{name}: {row}");
            }
        }
        let accounts = as_told("tidings inspect", &["--store", folder, "accounts"]).await;
        assert_eq!(accounts["rows"][0]["key"]["name"], "\"alice\"");
        let one =
            as_told("tidings inspect", &["--store", folder, "one_time", "--limit", "1"]).await;
        assert_eq!(
            (one["rows"].as_array().map(Vec::len), &one["more"]),
            (Some(1), &Value::Bool(true))
        );
        // Of a device, nothing that is sealed.
        let own = as_told("tidings inspect", &["--store", text(&home), "self"]).await;
        assert!(own["rows"][0]["sealed_bytes"].as_u64().is_some_and(|bytes| bytes > 40), "{own}");
        let absent = binary::run(&["inspect", "--store", folder, "letters"]).await;
        assert!(absent.code == Some(1) && absent.err.contains("accounts"), "{absent:?}");
    });
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    test(async |dir| {
        let server = Server::make("acme", dir.join("acme"), None, "").await;
        let delegation = server.folder.join("delegation.cbor");
        let inspect = ["inspect", text(&delegation)];
        let plain = binary::run(&inspect).await;
        assert!(plain.code == Some(0) && !plain.out.contains('\u{1b}'), "{plain:?}");
        let run = async |set: &[(&str, &str)]| {
            let mut command = binary::command(&inspect);
            for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
                command.env_remove(name);
            }
            command.envs(set.iter().copied());
            let done = command.output().await.expect("running");
            String::from_utf8(done.stdout).expect("UTF-8").contains('\u{1b}')
        };
        assert!(!run(&[]).await);
        assert!(run(&[("CLICOLOR_FORCE", "1")]).await);
        assert!(!run(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).await);
        let root = server.folder.join("root.key");
        let secret = fs::read_to_string(&root).expect("a key");
        let refused = binary::run(&["inspect", text(&root)]).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(!(refused.out + &refused.err).contains(secret.trim()), "a private key was shown");
    });
}

#[test]
fn bytes_come_from_standard_input_and_a_reader_may_leave() {
    test(async |dir| {
        let server = Server::make("acme", dir.join("acme"), None, "").await;
        let bytes = fs::read(server.folder.join("delegation.cbor")).expect("a delegation");
        let mut child = binary::command(&["inspect", "-", "--json"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("running");
        let mut input = child.stdin.take().expect("standard input");
        input.write_all(&bytes).await.expect("writing");
        drop(input);
        let done = in_time("inspect", child.wait_with_output()).await.expect("waiting");
        let value: Value = serde_json::from_slice(&done.stdout).expect("JSON");
        assert_eq!(value["kind"], "delegation");
        // A reader that is gone before the first line.
        let mut child = binary::command(&["completions", "bash"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("running");
        drop(child.stdout.take());
        let done = in_time("completions", child.wait_with_output()).await.expect("waiting");
        assert_eq!((done.status.code(), done.stderr.as_slice()), (Some(141), &[][..]), "{done:?}");
        // A disk without space.
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let spawned = binary::command(&["completions", "bash"])
            .stdout(full)
            .stderr(std::process::Stdio::piped())
            .spawn();
        let done = in_time("completions", spawned.expect("running").wait_with_output()).await;
        let done = done.expect("waiting");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(
            said.contains("writing to standard output") && !said.contains("panicked"),
            "{said}"
        );
    });
}

/// Wrong input to every command: a code that says so, one message, and no panic.
#[test]
fn every_mistake_is_answered_with_the_next_step() {
    test(async |dir| {
        let none = dir.join("none");
        let none = text(&none);
        let id = "0199c0ffee0000112233445566778899";
        let file = dir.join("letter");
        fs::write(&file, "Dear Bob").expect("writing");
        let file = text(&file);
        let cases: &[(&[&str], i32, &str)] = &[
            (&["init", "/proc/none"], 1, "making the folder"),
            (&["node", "--data", none], 1, "tidings init"),
            (&["invite", "--data", none], 3, "tidings node"),
            (&["admin", "status", "--data", none], 3, "tidings node"),
            (&["admin", "queue", "--data", none, "--peer", "x"], 3, "tidings node"),
            (&["join", "tidings:x", "--name", "alice", "--home", none], 2, "copy"),
            (&["join", "hello", "--name", "alice", "--home", none], 2, "tidings:"),
            (&["join", "--label", LONG_LABEL, "hello", "--name", "alice"], 2, "64 bytes"),
            (&["invite", "--days", "0"], 2, "1.."),
            (&["send", "bob", "hello", "--home", none], 1, "invite"),
            (&["inbox", "--home", none], 1, "invite"),
            (&["status", id, "--home", none], 1, "invite"),
            (&["status", "1", "--home", none], 2, "32 characters"),
            (&["export", id, "--home", none], 1, "invite"),
            (&["verify", none], 1, "export"),
            (&["verify", file], 1, "tidings inspect"),
            (&["verify", file, "--node", "x"], 2, "56 characters"),
            (&["inspect", none], 1, "no file"),
            (&["inspect", file], 1, "--kind"),
            (&["inspect", file, "--kind", "letter"], 2, "possible values"),
            (&["inspect", "--store", none], 1, "folder"),
            (&["doctor"], 1, "--data"),
            (&["doctor", "--data", none], 7, "says what to do"),
            (&["completions", "sh"], 2, "possible values"),
            (&["man", "--dir", "/proc/none"], 1, "--dir"),
            (&["letter"], 2, "--help"),
            (&[], 2, "Usage"),
        ];
        for (args, code, hint) in cases {
            let said = in_time("an answer", binary::run(args)).await;
            assert_eq!(said.code, Some(*code), "{args:?}: {said:?}");
            assert!(said.err.contains(hint), "{args:?} does not say {hint:?}: {}", said.err);
            assert!(!said.err.contains("panicked"), "{args:?}: {said:?}");
        }
    });
}
