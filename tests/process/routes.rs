//! acme and globex may speak to a gateway alone: neither knows the other's address, and acme listens
//! nowhere. All that alice and bob write goes through the gateway, and its ticks come back the same way.

use std::{fs, path::Path};

use serde_json::Value;
use tidings_client::event::Status;

use crate::{
    binary,
    cluster::{Cluster, test},
    person::Person,
    server::{Server, text, until},
};

/// What `admin peers` of one node says about another one.
async fn peer(at: &Server, about: &Server) -> Value {
    let peers = at.ask("peers").await;
    let id = about.id.to_text();
    let row = peers.as_array().into_iter().flatten().find(|peer| peer["node"] == id.as_str());
    row.cloned().unwrap_or(Value::Null)
}

/// Says through which node the others are reached, where that one is, and nothing else.
fn behind(gate: &Server, address: &str) -> String {
    let id = gate.id.to_text();
    format!("default_route = \"{id}\"\npinned = [\"{id} {address}\"]\n")
}

/// alice at acme and bob at globex, with a gateway between them.
async fn gather(dir: &Path) -> Cluster {
    let mut gate = Server::make("gate", dir.join("gate"), None, "").await;
    let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
    let mut globex = Server::make("globex", dir.join("globex"), None, "").await;
    let terms = [&acme, &globex].map(|leaf| format!("\"{} 1000 16 7\"", leaf.id.to_text()));
    gate.configure(None, &format!("gateway_for = [{}]\n", terms.join(", ")));
    gate.start().await;
    let address = gate.address().await;
    for leaf in [&acme, &globex] {
        leaf.configure(None, &behind(&gate, &address));
    }
    let config = acme.folder.join("node.toml");
    let lines = fs::read_to_string(&config).expect("reading node.toml");
    let listens = |line: &&str| line.starts_with("listen_peers");
    let deaf: Vec<&str> =
        lines.lines().map(|line| if listens(&line) { "listen_peers = []" } else { line }).collect();
    fs::write(&config, deaf.join("\n")).expect("writing node.toml");
    acme.start().await;
    globex.start().await;
    let alice = Person::join("alice", &acme, dir.join("alice")).await;
    let bob = Person::join("bob", &globex, dir.join("bob")).await;
    Cluster { hub: gate, acme, globex, alice, bob, sent: Vec::new() }
}

#[test]
fn two_nodes_that_may_speak_to_a_gateway_alone_have_all_of_it() {
    test(async |dir| {
        let mut cluster = gather(dir).await;
        cluster.send("hello", 2).await;
        cluster.all_is_well().await;
        let Cluster { hub, acme, globex, alice, bob, .. } = &mut cluster;
        bob.write(&alice.peer, &["and back".to_owned()]).await;
        bob.until_reached(Status::Delivered, 1).await;
        assert_eq!(alice.shown(), ["and back"]);
        // Blue: what is read comes back through the gateway too.
        bob.display(&alice.peer).await;
        alice.until_reached(Status::Read, 2).await;
        assert_eq!(peer(acme, globex).await["connected"], false, "they have never met");
        assert_eq!(peer(acme, globex).await["via"], hub.id.to_text().as_str());
        // What is on its way while the gateway is gone waits, and what it holds it still has.
        globex.stop().await;
        let texts: Vec<String> = (1..=5).map(|number| format!("kept {number}")).collect();
        alice.write(&bob.peer, &texts).await;
        alice.until_reached(Status::Held, 7).await;
        hub.kill().await;
        let later: Vec<String> = (1..=5).map(|number| format!("waiting {number}")).collect();
        alice.write(&bob.peer, &later).await;
        hub.start().await;
        globex.start().await;
        alice.until_reached(Status::Delivered, 12).await;
        until("the gateway to be free", async || peer(hub, globex).await["in_custody"] == 0).await;
        cluster.sent.extend(texts.into_iter().chain(later));
        cluster.all_is_well().await;
        the_way_is_proved(&mut cluster, dir).await;
        cluster.end().await;
    });
}

/// The chain of a message that passed through names the gateway.
async fn the_way_is_proved(cluster: &mut Cluster, dir: &Path) {
    let trace = cluster.chain_through_the_hub(dir).await;
    let steps = trace["devices"][0]["steps"].as_array().expect("steps");
    let held = steps.iter().find(|step| step["claim"] == "Custody").expect("the gateway's step");
    assert_eq!(held["proved"], true, "{trace}");
    assert!(held.to_string().contains(&cluster.hub.id.to_text()), "the gateway is named: {trace}");
}

/// `admin routes` of a running node.
async fn routes(at: &Server, args: &[&str]) -> Value {
    let mut all = vec!["admin", "routes"];
    all.extend(args);
    all.extend(["--json", "--data", text(&at.folder)]);
    binary::json(&all).await
}

#[test]
fn routes_are_set_and_taken_back_while_the_node_runs() {
    test(async |dir| {
        let cluster = gather(dir).await;
        let Cluster { hub, acme, globex, .. } = &cluster;
        let gate = hub.id.to_text();
        let listed = routes(acme, &["list"]).await;
        assert_eq!(listed[0]["via"], gate.as_str());
        assert_eq!((&listed[0]["to"], &listed[0]["source"]), (&Value::Null, &"config".into()));
        let to = globex.id.to_text();
        routes(acme, &["set", &to]).await;
        let listed = routes(acme, &["list"]).await;
        let own = |row: &&Value| row["to"] == to.as_str();
        let set = listed.as_array().expect("routes").iter().find(own).expect("the route");
        assert_eq!((&set["via"], &set["source"]), (&Value::Null, &"admin".into()));
        routes(acme, &["remove", &to]).await;
        assert_eq!(routes(acme, &["list"]).await.as_array().map(Vec::len), Some(1));
        cluster.end().await;
    });
}
