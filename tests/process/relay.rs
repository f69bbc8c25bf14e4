//! A node that listens on nothing and is reached through a relay.

use std::{fs, path::Path};

use tidings_client::event::Status;

use crate::{
    cluster::test,
    person::Person,
    server::{Server, until},
};

/// A node with the hub as its only relay, and no address of its own.
async fn deaf(dir: &Path, hub: &str) -> Server {
    let globex = Server::make("globex", dir.join("globex"), Some(hub), "").await;
    let file = globex.folder.join("node.toml");
    let config = fs::read_to_string(&file).expect("the configuration");
    let listens = |line: &&str| line.starts_with("listen_peers");
    let mut config: Vec<&str> = config.lines().filter(|line| !listens(line)).collect();
    let relays = format!("relays = [\"{hub}\"]");
    config.extend(["listen_peers = []", &relays, ""]);
    fs::write(&file, config.join("\n")).expect("writing node.toml");
    globex
}

async fn writes(from: &mut Person, to: &mut Person, text: &str) {
    from.write(&to.peer, &[text.to_owned()]).await;
    from.until_reached(Status::Delivered, 1).await;
    assert_eq!(to.shown(), [text]);
}

#[test]
fn a_node_that_listens_on_nothing_is_reached_through_its_relay() {
    test(async |dir| {
        let anyone = "relay_for = \"anyone\"\n";
        let mut hub = Server::make("hub", dir.join("hub"), None, anyone).await;
        hub.start().await;
        let known = hub.address().await;
        let mut acme = Server::make("acme", dir.join("acme"), Some(&known), "").await;
        let mut globex = deaf(dir, &known).await;
        acme.start().await;
        globex.start().await;
        until("a reservation", async || globex.count("reservations").await == 1).await;
        let address = globex.address().await;
        assert!(address.starts_with(&format!("{known}/p2p-circuit/p2p/")), "{address}");
        let mut alice = Person::join("alice", &acme, dir.join("alice")).await;
        let mut bob = Person::join("bob", &globex, dir.join("bob")).await;
        // acme speaks first, so it is acme that finds its way through the relay.
        writes(&mut alice, &mut bob, "to a node that listens on nothing").await;
        writes(&mut bob, &mut alice, "and back").await;
        assert_eq!(hub.count("reservations_given").await, 1);
        let pages = [globex.page("/metrics").await, hub.page("/metrics").await];
        assert!(pages[0].contains("tidings_relay{what=\"reservations\"} 1"), "{}", pages[0]);
        assert!(pages[1].contains("tidings_relay{what=\"reservations_given\"} 1"), "{}", pages[1]);
        let peers = acme.ask("peers").await;
        let id = globex.id.to_text();
        let rows = peers.as_array().expect("peers");
        let row = rows.iter().find(|peer| peer["node"] == id.as_str()).expect("globex");
        // The link may have left the relay by then: globex can dial acme, once it knows of it.
        assert_eq!(row["connected"], true, "{row}");
        alice.leave().await;
        bob.leave().await;
        for server in [&mut acme, &mut globex, &mut hub] {
            server.stop().await;
        }
    });
}
