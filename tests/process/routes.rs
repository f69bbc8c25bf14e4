//! acme and globex may speak to a gateway alone: neither knows the other's address, and acme listens
//! nowhere. How their routes are set and shown; what passes is tested in `core/tests/routes.rs`.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    binary,
    cluster::{Cluster, test},
    person::Person,
    server::{Server, text},
};

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
