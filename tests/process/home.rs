//! A person's home: joined twice, copied, and named in bytes that are no text; and a node that ends
//! with the program that started it.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, path::Path, process::Stdio};

use crate::{
    binary,
    cluster::{in_time, test},
    server::{Server, text},
};

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("making a folder");
    for entry in fs::read_dir(from).expect("a home") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copying");
    }
}

#[test]
fn who_has_joined_is_told_so_and_a_second_name_is_refused() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let invite = acme.invite(1).await;
        let home = dir.join("alice");
        let join = ["join", &invite, "--name", "alice", "--home", text(&home)];
        let first = in_time("joining", binary::run(&join)).await;
        let again = in_time("joining again", binary::run(&join)).await;
        assert_eq!((first.code, again.code), (Some(0), Some(0)), "{again:?}");
        assert_eq!(first.out, again.out);
        let other = ["join", &invite, "--name", "carol", "--home", text(&home)];
        let other = in_time("joining as another", binary::run(&other)).await;
        assert!(other.code == Some(1) && other.err.contains("--home"), "{other:?}");
        acme.stop().await;
    });
}

#[test]
fn of_two_copies_of_a_home_one_is_told_that_it_is_no_longer_listed() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let invite = acme.invite(1).await;
        let [home, twin] = ["alice", "twin"].map(|name| dir.join(name));
        let join = ["join", &invite, "--name", "alice", "--home", text(&home)];
        assert_eq!(in_time("joining", binary::run(&join)).await.code, Some(0));
        copy(&home, &twin);
        for home in [&home, &twin] {
            let used = ["inbox", "--home", text(home)];
            assert_eq!(in_time("fetching", binary::run(&used)).await.code, Some(0));
        }
        for args in [&["inbox"][..], &["send", "bob", "hello"]] {
            let all = [args, &["--home", text(&home)]].concat();
            let lost = in_time("a verdict", binary::run(&all)).await;
            assert_eq!(lost.code, Some(4), "{lost:?}");
            assert_eq!(lost.err.matches("no longer listed").count(), 1, "{lost:?}");
        }
        acme.stop().await;
    });
}

#[test]
fn a_path_may_be_any_bytes() {
    test(async |dir| {
        let folder = dir.join(OsStr::from_bytes(b"acme\xff"));
        let args = [OsStr::new("init"), folder.as_os_str(), OsStr::new("--json")];
        let said = in_time("init", binary::run(&args)).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(folder.join("node.toml").exists());
    });
}

#[test]
fn a_node_that_was_started_for_another_program_ends_with_it() {
    test(async |dir| {
        let acme = Server::make("acme", dir.join("acme"), None, "").await;
        let mut node =
            binary::command(&["node", "--while-input", "--json", "--data", text(&acme.folder)])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("running");
        drop(node.stdin.take());
        let ended = in_time("its end", node.wait()).await.expect("waiting");
        assert!(ended.success(), "{ended}");
    });
}
