//! `kill -9` of nodes and devices while messages are in flight, and nodes that are away. Nothing is
//! lost, doubled or out of order.

use std::{path::Path, process::Stdio};

use tidings_client::event::Status;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{
    binary,
    cluster::{Cluster, Side, in_time, test},
    server::{text, until},
};

/// Messages in flight when something is killed.
const LOAD: usize = 200;

#[test]
fn a_killed_acme_loses_and_doubles_nothing() {
    test(async |dir| kill_under_load(dir, Side::Acme).await);
}

#[test]
fn a_killed_globex_loses_and_doubles_nothing() {
    test(async |dir| kill_under_load(dir, Side::Globex).await);
}

/// Killed once with the first ticks, and once in the middle.
async fn kill_under_load(dir: &Path, side: Side) {
    let mut cluster = Cluster::acquainted(dir).await;
    for (round, wanted) in [("first", 1), ("middle", LOAD / 2)] {
        let before = cluster.alice.reached(Status::Accepted);
        cluster.send(round, LOAD).await;
        cluster.alice.until_reached(Status::Accepted, before + wanted).await;
        cluster.side(side).kill().await;
        cluster.side(side).start().await;
        cluster.all_is_well().await;
    }
    cluster.end().await;
}

#[test]
fn a_device_that_crashes_goes_on_where_it_was() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        for round in 0..3 {
            let accepted = cluster.alice.reached(Status::Accepted);
            cluster.send(&format!("round {round}"), LOAD / 2).await;
            cluster.alice.until_reached(Status::Accepted, accepted + 1).await;
            cluster.alice.crash().await;
            cluster.alice.come_back();
        }
        cluster.all_is_well().await;
        cluster.end().await;
    });
}

#[test]
fn a_killed_command_loses_nothing_that_it_has_said() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.alice.leave().await;
        let to = format!("bob@{}", cluster.globex.id.to_text());
        let home = text(&cluster.alice.home).to_owned();
        for number in 0..8 {
            let words = format!("by hand {number}");
            let args = ["send", &to, &words, "--home", &home, "--wait", "delivered"];
            let mut command = binary::command(&args);
            command.stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().expect("starting a command");
            let mut lines = BufReader::new(child.stdout.take().expect("its words")).lines();
            // Its first line is the message's id: from here on it must not be lost. Later lines are
            // ticks; each round is killed a little later.
            for _ in 0..=number % 3 {
                let said = in_time("a command to speak", lines.next_line()).await;
                assert!(said.expect("reading").is_some(), "the command ended too early");
            }
            child.kill().await.expect("killing a command");
            cluster.sent.push(words);
        }
        cluster.alice.come_back();
        cluster.all_is_well().await;
        cluster.end().await;
    });
}

#[test]
fn what_was_sent_while_globex_was_away_arrives_in_order() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        cluster.globex.stop().await;
        cluster.send("before the restart", 20).await;
        cluster.alice.until_reached(Status::Accepted, 21).await;
        // The queue and its schedule are on acme's disk.
        cluster.acme.stop().await;
        cluster.acme.start().await;
        cluster.send("after the restart", 20).await;
        cluster.alice.until_reached(Status::Accepted, 41).await;
        until("acme to keep them", async || cluster.acme.count("queued").await == 40).await;
        assert_eq!(cluster.alice.reached(Status::Delivered), 1);
        cluster.globex.start().await;
        cluster.all_is_well().await;
        until("the queue to be empty", async || cluster.acme.count("queued").await == 0).await;
        cluster.end().await;
    });
}
