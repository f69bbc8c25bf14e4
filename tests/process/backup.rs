//! `tidings backup` of a node that runs, `tidings restore` into an empty folder, and what becomes of
//! messages in between. Backups that are wrong in any way, and places where none belongs.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tidings_client::event::Status;

use crate::{
    binary::{self, Said},
    cluster::{Cluster, test},
    server::{Server, text, until},
};

pub(crate) const PASSPHRASE: &str = "correct horse battery";

/// A file with a passphrase that its user alone may read.
pub(crate) fn passphrase_in(dir: &Path, name: &str, passphrase: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("{passphrase}\n")).expect("writing a passphrase");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    path
}

pub(crate) async fn backup(server: &Server, file: &Path, passphrase: &Path, more: &[&str]) -> Said {
    let mut args = vec!["backup", text(file), "--data", text(&server.folder)];
    args.extend(["--passphrase-file", text(passphrase), "--json"]);
    args.extend(more);
    binary::run(&args).await
}

pub(crate) async fn restore(file: &Path, to: &Path, passphrase: &Path) -> Said {
    let passphrase = text(passphrase);
    let args =
        ["restore", text(file), "--data", text(to), "--passphrase-file", passphrase, "--json"];
    binary::run(&args).await
}

#[track_caller]
pub(crate) fn done(said: &Said) -> serde_json::Value {
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.out).expect("one line of JSON")
}

#[track_caller]
fn refused(said: &Said, word: &str) {
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains(word), "{word:?} is not in {said:?}");
}

/// The node of `server` from a backup, in the folder of the one that is gone.
async fn put_back(server: &Server, file: &Path, passphrase: &Path) {
    let gone = server.folder.with_extension("gone");
    fs::rename(&server.folder, &gone).expect("moving a node's folder away");
    let said = done(&restore(file, &server.folder, passphrase).await);
    assert_eq!(said["node"], server.id.to_text());
    assert_eq!(said["config_fits"], true);
}

#[test]
fn a_backup_of_globex_while_messages_flow_is_put_back_and_nothing_is_lost_or_shown_twice() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        let (file, passphrase) =
            (dir.join("globex.backup"), passphrase_in(dir, "word", PASSPHRASE));
        // In the midst of it: some before, some during, some after.
        cluster.send("around", 200).await;
        let said = done(&backup(&cluster.globex, &file, &passphrase, &[]).await);
        assert_eq!(said["running"], true);
        assert_eq!(said["root_key"], false);
        assert!(said["rows"].as_u64().is_some_and(|rows| rows > 0), "{said}");
        cluster.all_is_well().await;
        // Taken by globex after the backup, acknowledged to acme, and delivered to nobody.
        cluster.bob.leave().await;
        cluster.send("taken", 20).await;
        cluster.alice.until_reached(Status::AtDest, 221).await;
        cluster.globex.kill().await;
        put_back(&cluster.globex, &file, &passphrase).await;
        assert!(!cluster.globex.folder.join("root.key").exists());
        cluster.globex.start().await;
        cluster.bob.come_back();
        cluster.send("afterwards", 20).await;
        cluster.all_is_well().await;
        let noticed = cluster.globex.metric("tidings_envelopes_total{what=\"rolled_back\"}").await;
        assert!(noticed >= 1.0, "globex did not notice that it was put back");
        cluster.end().await;
    });
}

#[test]
fn a_backup_of_acme_is_put_back_and_what_it_had_accepted_since_is_sent_again() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        let (file, passphrase) = (dir.join("acme.backup"), passphrase_in(dir, "word", PASSPHRASE));
        done(&backup(&cluster.acme, &file, &passphrase, &["--with-root-key"]).await);
        // Acknowledged to alice, and on no other disk.
        cluster.globex.stop().await;
        cluster.send("accepted", 20).await;
        cluster.alice.until_reached(Status::Accepted, 21).await;
        until("acme to keep them", async || cluster.acme.count("queued").await == 20).await;
        cluster.acme.kill().await;
        put_back(&cluster.acme, &file, &passphrase).await;
        assert!(cluster.acme.folder.join("root.key").exists(), "it was asked for");
        cluster.acme.start().await;
        cluster.globex.start().await;
        cluster.send("afterwards", 20).await;
        cluster.all_is_well().await;
        let odd = cluster.alice.seen().odd.clone();
        assert!(odd.iter().any(|odd| odd.contains("NodeRolledBack")), "{odd:?}");
        cluster.end().await;
    });
}

#[test]
fn what_is_no_whole_backup_is_refused_with_the_next_step_and_leaves_nothing_behind() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        acme.invite(3).await;
        let (file, right) = (dir.join("acme.backup"), passphrase_in(dir, "word", PASSPHRASE));
        done(&backup(&acme, &file, &right, &[]).await);
        acme.stop().await;
        let mode = fs::metadata(&file).expect("the backup").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let whole = fs::read(&file).expect("the backup");
        assert!(!whole.windows(9).any(|window| window == b"data = \".\""), "it is not sealed");

        let to = dir.join("new");
        let wrong = passphrase_in(dir, "wrong", "another passphrase");
        refused(&restore(&file, &to, &wrong).await, "this passphrase does not open it");
        let damaged = dir.join("damaged");
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        // There is one piece and no more; the passphrase is told from damage all the same.
        for (bytes, word) in [
            (bytes, "changed on the way"),
            (whole[..whole.len() - 40].to_vec(), "changed on the way"),
            (whole[..30].to_vec(), "this is no backup"),
            (b"something else".to_vec(), "this is no backup"),
        ] {
            fs::write(&damaged, bytes).expect("writing");
            refused(&restore(&damaged, &to, &right).await, word);
        }
        assert!(!to.exists(), "something was left");
        refused(&restore(&dir.join("absent"), &to, &right).await, "absent");

        // Never over what is there.
        refused(&restore(&file, &acme.folder, &right).await, "is not empty");
        refused(&backup(&acme, &file, &right, &[]).await, "no backup is replaced");
        assert_eq!(fs::read(&file).expect("the backup"), whole);
        let short = passphrase_in(dir, "short", "short");
        refused(&backup(&acme, &dir.join("b"), &short, &[]).await, "is guessed");
        fs::set_permissions(&right, fs::Permissions::from_mode(0o644)).expect("its mode");
        refused(&backup(&acme, &dir.join("b"), &right, &[]).await, "chmod 600");
        refused(&restore(&file, &to, &right).await, "chmod 600");
        fs::set_permissions(&right, fs::Permissions::from_mode(0o600)).expect("its mode");
        let nowhere = dir.join("nowhere").join("b");
        refused(&backup(&acme, &nowhere, &right, &[]).await, "nowhere");

        // A node that is stopped is backed up as well, and the same rows are in both.
        let second = dir.join("second.backup");
        let said = done(&backup(&acme, &second, &right, &[]).await);
        assert_eq!(said["running"], false);
        done(&restore(&second, &to, &right).await);
        let rows = async |folder: &Path| {
            let args = ["inspect", "--store", text(folder), "--json"];
            binary::json(&args).await["tables"].clone()
        };
        assert_eq!(rows(&to).await, rows(&acme.folder).await);
    });
}

#[test]
fn the_storage_report_is_the_same_of_a_node_that_runs_and_one_that_does_not() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.globex.stop().await;
        cluster.send("waits", 5).await;
        cluster.alice.until_reached(Status::Accepted, 6).await;
        cluster.alice.leave().await;
        until("acme to keep them", async || cluster.acme.count("queued").await == 5).await;
        let folder = cluster.acme.folder.clone();
        let args = ["storage", "report", "--json", "--data", text(&folder)];
        let running = binary::json(&args).await;
        assert_eq!(running["running"], true);
        let tables = running["tables"].as_array().expect("tables");
        let table = |name: &str| {
            tables.iter().find(|table| table["table"] == name).expect("a table").clone()
        };
        assert_eq!(table("outbox")["rows"], 5);
        assert!(table("out")["oldest_ms"].as_u64().is_some(), "{tables:?}");
        assert!(table("accounts")["oldest_ms"].is_null());
        let doctor = binary::run(&["doctor", "--json", "--data", text(&folder)]).await;
        assert!(doctor.out.contains("rows were read while the node runs"), "{doctor:?}");
        cluster.acme.stop().await;
        let stopped = binary::json(&args).await;
        assert_eq!(stopped["running"], false);
        let rows = |report: &serde_json::Value, name: &str| {
            let tables = report["tables"].as_array().expect("tables").clone();
            tables.iter().find(|table| table["table"] == name).expect("a table")["rows"].clone()
        };
        for name in ["accounts", "devices", "outbox", "out", "submits"] {
            assert_eq!(rows(&stopped, name), rows(&running, name), "{name}");
        }
        // What is free in the file goes back to the disk, while nobody has it open.
        let compact = ["storage", "compact", "--json", "--data", text(&folder)];
        let given = binary::json(&compact).await;
        let (before, after) = (given["before_bytes"].as_u64(), given["file_bytes"].as_u64());
        assert!(after.is_some() && after <= before, "{given}");
        assert_eq!(rows(&binary::json(&args).await, "outbox"), 5);
        cluster.acme.start().await;
        let refused = binary::run(&compact).await;
        assert_ne!(refused.code, Some(0));
        assert!(refused.err.contains("stop it first"), "{refused:?}");
        cluster.globex.start().await;
        cluster.alice.come_back();
        cluster.all_is_well().await;
        cluster.end().await;
    });
}
