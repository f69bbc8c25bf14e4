//! `tidings inbox` while messages keep coming, with more of them than one step takes, and on a disk
//! that is full.

use std::{fs, process::Stdio};

use serde_json::Value;
use tidings_client::event::Status;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{
    binary,
    cluster::{Cluster, in_time, test},
    full_disk::SmallDisk,
    person::Person,
    server::{Server, text, until},
};

/// Longer than any test takes, so that nothing is waited for in vain.
const SILENCE: &str = "200";

#[test]
fn messages_are_shown_while_others_keep_coming() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.bob.leave().await;
        let home = cluster.bob.home.clone();
        let mut inbox = binary::command(&["inbox", "--follow", "--json", "--home", text(&home)])
            .stdout(Stdio::piped())
            .spawn()
            .expect("running");
        let mut lines = BufReader::new(inbox.stdout.take().expect("its output")).lines();
        // The next one is written only once the one before was shown: it is never quiet for long.
        for number in 0..=20 {
            let line = in_time("a message", lines.next_line()).await.expect("reading");
            let shown: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
            let wanted = if number == 0 { "hello 1".to_owned() } else { format!("more {number}") };
            assert_eq!(shown["text"], wanted.as_str());
            let next = [format!("more {}", number + 1)];
            cluster.alice.write(&cluster.bob.peer, &next).await;
        }
        cluster.alice.until_reached(Status::Read, 21).await;
        inbox.kill().await.expect("ending");
    });
}

#[test]
fn a_backlog_is_shown_to_its_end_and_its_senders_learn_of_it() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.bob.leave().await;
        let home = cluster.bob.home.clone();
        let inbox = ["inbox", "--json", "--timeout", SILENCE, "--home", text(&home)];
        let first = in_time("the first", binary::run(&inbox)).await;
        assert_eq!(first.out.lines().count(), 1, "{first:?}");
        // More than the node pushes at once, and more than one step.
        cluster.send("backlog", 700).await;
        cluster.alice.until_reached(Status::AtDest, 701).await;
        let all = in_time("the backlog", binary::run(&inbox)).await;
        let texts: Vec<Value> = all
            .out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["text"].clone())
            .collect();
        assert_eq!(texts, cluster.sent[1..]);
        cluster.alice.until_reached(Status::Read, 701).await;
        let none = in_time("nothing", binary::run(&inbox)).await;
        assert_eq!((none.code, none.out.as_str()), (Some(0), ""), "{none:?}");
        assert!(none.err.contains("nothing new"), "{none:?}");
    });
}

#[test]
fn who_only_looks_in_sees_what_comes_after_a_message_that_failed() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.bob.leave().await;
        let home = cluster.bob.home.clone();
        let inbox = ["inbox", "--json", "--home", text(&home)];
        assert_eq!(in_time("the first", binary::run(&inbox)).await.out.lines().count(), 1);
        let (globex, folder) = (cluster.globex.id.to_text(), cluster.acme.folder.clone());
        for (word, what) in [("deny", "not to be"), ("allow", "after it")] {
            let admin = ["admin", "peers", word, &globex, "--data", text(&folder)];
            assert_eq!(binary::run(&admin).await.code, Some(0));
            cluster.alice.write(&cluster.bob.peer, &[what.to_owned()]).await;
            until("its end", async || {
                let views = cluster.alice.conversation(&cluster.bob.peer).await;
                let status = views.last().and_then(|view| view.statuses.first());
                status.is_some_and(|(_, status)| status.rank() >= Status::AtDest.rank())
            })
            .await;
        }
        let shown = in_time("what is there", binary::run(&inbox)).await;
        let lines: Vec<&str> = shown.out.lines().collect();
        let [line] = lines.as_slice() else { panic!("{shown:?}") };
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((&line["text"], &line["missing_before"]), (&"after it".into(), &1.into()));
    });
}

#[test]
fn an_output_that_takes_nothing_ends_it_and_says_why() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.bob.leave().await;
        let home = cluster.bob.home.clone();
        let args = ["inbox", "--timeout", SILENCE, "--home", text(&home)];
        assert_eq!(in_time("the first", binary::run(&args)).await.code, Some(0));
        cluster.send("to be fetched", 3).await;
        cluster.alice.until_reached(Status::AtDest, 4).await;
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let inbox = binary::command(&args).stdout(full).stderr(Stdio::piped()).spawn();
        let ended = in_time("an end", inbox.expect("running").wait_with_output()).await;
        let ended = ended.expect("waiting");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains("writing to standard output"), "{said}");
        let again = in_time("the rest", binary::run(&args)).await;
        assert_eq!(again.out.matches("to be fetched").count(), 3, "{again:?}");
    });
}

#[test]
fn a_full_disk_ends_it_and_says_why() {
    test(async |dir| {
        let Some(disk) = SmallDisk::mount(dir.join("small"), 8) else { return };
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let mut alice = Person::join("alice", &acme, dir.join("alice")).await;
        let mut bob = Person::join("bob", &acme, disk.0.join("bob")).await;
        bob.leave().await;
        let long = "x".repeat(15_000);
        let texts: Vec<String> = (0..150).map(|number| format!("{number} {long}")).collect();
        alice.write(&bob.peer, &texts).await;
        alice.until_reached(Status::Accepted, texts.len()).await;
        disk.fill(64 * 1024);
        let inbox = ["inbox", "--timeout", SILENCE, "--home", text(&bob.home)];
        let said = in_time("an end", binary::run(&inbox)).await;
        assert_eq!(said.code, Some(1), "{}", said.err);
        assert!(said.err.contains("writing the store of a device"), "{}", said.err);
        disk.make_space();
        let said = in_time("the rest", binary::run(&inbox)).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert!(fs::metadata(bob.home.join("device.redb")).is_ok());
        acme.stop().await;
    });
}
