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
fn what_a_restored_node_has_forgotten_of_accounts_its_people_bring_back() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let [alice, old, carol, backup] =
            ["alice", "old", "carol", "backup"].map(|name| dir.join(name));
        let run = async |args: &[&str], home: &Path| {
            let args = [args, &["--home", text(home)]].concat();
            in_time("an answer", binary::run(&args)).await
        };
        let first = acme.invite(1).await;
        assert_eq!(run(&["join", &first, "--name", "alice"], &alice).await.code, Some(0));
        acme.stop().await;
        acme.back_up(&backup);
        acme.start().await;
        // After the backup alice's device gets a new id, since it is put back itself, and carol joins.
        copy(&alice, &old);
        assert_eq!(run(&["inbox"], &alice).await.code, Some(0));
        fs::remove_dir_all(&alice).expect("removing a home");
        copy(&old, &alice);
        let renewed = run(&["inbox"], &alice).await;
        assert!(renewed.code == Some(0) && renewed.err.contains("takes a new id"), "{renewed:?}");
        let second = acme.invite(1).await;
        assert_eq!(run(&["join", &second, "--name", "carol"], &carol).await.code, Some(0));
        acme.stop().await;
        acme.restore(&backup);
        acme.start().await;
        let doctor = run(&["doctor"], &alice).await;
        assert!(doctor.out.contains("does not list this device"), "{doctor:?}");
        let listed = run(&["inbox"], &alice).await;
        assert_eq!(listed.code, Some(0), "{listed:?}");
        let doctor = run(&["doctor"], &alice).await;
        assert!(doctor.out.contains("the node lists this device"), "{doctor:?}");
        // Put back once more, to a copy whose mark the restored node still has.
        let again = run(&["inbox"], &old).await;
        assert!(again.code == Some(0) && again.err.contains("takes a new id"), "{again:?}");
        for args in [&["inbox"][..], &["join", &second, "--name", "carol"]] {
            let forgotten = run(args, &carol).await;
            assert_eq!(forgotten.code, Some(4), "{forgotten:?}");
            assert!(forgotten.err.contains("`tidings join`"), "{forgotten:?}");
        }
        let account = carol.join("account.json");
        let moved = fs::read_to_string(&account).expect("an account").replace("ws://", "ws://x");
        fs::write(&account, moved).expect("another address");
        let third = acme.invite(1).await;
        let back = run(&["join", &third, "--name", "carol"], &carol).await;
        assert_eq!(back.code, Some(0), "{back:?}");
        assert_eq!(run(&["inbox"], &carol).await.code, Some(0));
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
