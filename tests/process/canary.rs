//! What a node says about people: nothing, neither in its log nor in its metrics. Node ids are said:
//! the own one in the log, peers' in the metrics, which `docs/operate.md` keeps inside.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use crate::{
    cluster::{Cluster, test},
    server::Server,
};

/// A text that must be nowhere but at the two people.
const CANARY: &str = "canary-6f1d2c-tweet";

/// More than a node says unasked: whatever our own code has to say, the event log too.
const SAYING: &str =
    "warn,tidings_node=debug,tidings_core=debug,tidings::event=info,libp2p_kad=error";

#[test]
fn neither_logs_nor_metrics_name_people_or_hold_texts() {
    test(async |dir| {
        let mut cluster = Cluster::start_with(dir, &[("TIDINGS_LOG", SAYING)]).await;
        cluster.send(CANARY, 20).await;
        cluster.all_is_well().await;
        // A rough life says more than a quiet one.
        cluster.globex.kill().await;
        cluster.send(CANARY, 20).await;
        let waiting = cluster.acme.ask("queue").await;
        let mut ids: Vec<String> = waiting
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| item["eid"].as_str().map(str::to_owned))
            .collect();
        assert!(!ids.is_empty(), "nothing waits, so no envelope's id is known");
        cluster.globex.start().await;
        cluster.all_is_well().await;
        let views = cluster.alice.conversation(&cluster.bob.peer).await;
        ids.extend(views.iter().flat_map(|view| &view.statuses).map(|(id, _)| id.to_string()));
        ids.push(views[0].message.msg.to_string());
        for server in [&cluster.hub, &cluster.acme, &cluster.globex] {
            let log = fs::read_to_string(server.log()).expect("reading a log");
            assert!(log.contains("the node runs"), "{} logs nothing", server.name);
            for id in &ids {
                assert!(!log.contains(id), "the log of {} says {id}", server.name);
            }
            says_nothing(&cluster, server, &log, "log").await;
            let metrics = server.page("/metrics").await;
            assert!(metrics.contains("tidings_node{"), "{metrics}");
            says_nothing(&cluster, server, &metrics, "metrics").await;
        }
        let log = fs::read_to_string(cluster.acme.log()).expect("reading a log");
        assert!(log.contains("link up"), "nothing is said of links, so nothing was looked at");
        // The steps of one envelope can be joined all the same, at each node by its own names.
        has_steps(&cluster.acme, &["accepted", "handed_over", "ticked"]);
        has_steps(&cluster.globex, &["stored", "delivered"]);
        // The node's own files hold ciphertext.
        for server in [&cluster.acme, &cluster.globex] {
            let store = fs::read(server.folder.join("node.redb")).expect("reading a store");
            let is_there = store.windows(CANARY.len()).any(|bytes| bytes == CANARY.as_bytes());
            assert!(!is_there, "the store of {} holds a text", server.name);
        }
        cluster.end().await;
    });
}

/// The event log tells these of one envelope, in this order.
fn has_steps(server: &Server, wanted: &[&str]) {
    let log = fs::read_to_string(server.log()).expect("reading a log");
    let mut steps: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        if line["target"] == "tidings::event" {
            let field = |name: &str| line["fields"][name].as_str().expect("a field").to_owned();
            steps.entry(field("envelope")).or_default().push(field("step"));
        }
    }
    let tells = |told: &Vec<String>| {
        let mut told = told.iter();
        wanted.iter().all(|wanted| told.any(|step| step == wanted))
    };
    assert!(steps.values().any(tells), "{} tells {steps:?}", server.name);
}

async fn says_nothing(cluster: &Cluster, server: &Server, text: &str, what: &str) {
    let secret = |name: &str| {
        let key = fs::read_to_string(server.folder.join(name)).expect("reading a key");
        key.trim().to_owned()
    };
    let mut forbidden = vec![CANARY.to_owned(), "alice".to_owned(), "bob".to_owned()];
    forbidden.extend(["root.key", "operational.key", "sealing.key", "transport.key"].map(secret));
    for other in [&cluster.hub, &cluster.acme, &cluster.globex] {
        if what == "log" && other.id != server.id {
            forbidden.push(other.id.to_text());
        }
        // What the transport calls it: its key, and so as good as a name.
        let address = other.address().await;
        let (_, peer_id) = address.rsplit_once("/p2p/").expect("a peer id in an address");
        forbidden.push(peer_id.to_owned());
    }
    // Everybody here has this address, and most of them a port of the system's choice.
    forbidden.extend(["127.0.0.1", "/ip4/"].map(str::to_owned));
    for word in forbidden {
        let line = text.lines().find(|line| line.contains(&word));
        assert_eq!(line, None, "the {what} of {} says {word:?}", server.name);
    }
}
