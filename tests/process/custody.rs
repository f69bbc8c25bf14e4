//! A whole node is away while somebody writes to it, and the sender's node is away when it returns: a
//! third one holds the mail.

use std::path::Path;

use serde_json::Value;
use tidings_client::event::Status;

use crate::{
    binary,
    cluster::{Cluster, test},
    person::Person,
    server::{Server, text, until},
};

const AWAY: usize = 20;

/// What `admin peers` of one node says about another one.
async fn peer(at: &Server, about: &Server, name: &str) -> u64 {
    let peers = at.ask("peers").await;
    let id = about.id.to_text();
    let row = peers.as_array().into_iter().flatten().find(|peer| peer["node"] == id.as_str());
    row.and_then(|peer| peer[name].as_u64()).unwrap_or(0)
}

/// alice at acme and bob at globex, for which the hub is the custodian.
async fn gather(dir: &Path) -> Cluster {
    let mut hub = Server::make("hub", dir.join("hub"), None, "").await;
    let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
    let mut globex = Server::make("globex", dir.join("globex"), None, "").await;
    let terms = format!("custody = [\"{} 1000 16 7\"]\n", globex.id.to_text());
    hub.configure(None, &terms);
    hub.start().await;
    let known = hub.address().await;
    let custodian = format!("custodians = [\"{}\"]\n", hub.id.to_text());
    globex.configure(Some(&known), &custodian);
    acme.configure(Some(&known), "");
    acme.start().await;
    globex.start().await;
    let alice = Person::join("alice", &acme, dir.join("alice")).await;
    let bob = Person::join("bob", &globex, dir.join("bob")).await;
    Cluster { hub, acme, globex, alice, bob, sent: Vec::new() }
}

#[test]
fn a_custodian_holds_for_a_node_that_is_away_and_hands_over_when_the_sender_is_away_too() {
    test(async |dir| {
        let mut cluster = gather(dir).await;
        cluster.send("hello", 1).await;
        cluster.all_is_well().await;
        let Cluster { hub, acme, globex, alice, bob, .. } = &mut cluster;
        until("the agreement to be known", async || peer(globex, hub, "consent_rows").await > 0)
            .await;
        globex.kill().await;
        let texts: Vec<String> = (1..=AWAY).map(|number| format!("held {number}")).collect();
        alice.write(&bob.peer, &texts).await;
        alice.until_reached(Status::Held, 1 + AWAY).await;
        assert_eq!(alice.reached(Status::Delivered), 1, "nobody can have received it");
        assert_eq!(peer(hub, globex, "in_custody").await, AWAY as u64);
        acme.stop().await;
        globex.start().await;
        bob.until("what was held", |seen| seen.shown.len() == 1 + AWAY).await;
        until("the custodian to be free", async || peer(hub, globex, "in_custody").await == 0)
            .await;
        acme.start().await;
        alice.until_reached(Status::Delivered, 1 + AWAY).await;
        cluster.sent.extend(texts);
        cluster.all_is_well().await;
        evidence_verifies(&mut cluster, dir).await;
        cluster.end().await;
    });
}

/// The chain of a message that was held, as its sender sees it.
async fn evidence_verifies(cluster: &mut Cluster, dir: &Path) {
    let trace = cluster.chain_through_the_hub(dir).await;
    let way = &trace["devices"][0];
    let steps: Vec<&str> = way["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|step| step["proved"] == true)
        .filter_map(|step| step["claim"].as_str())
        .collect();
    // globex's own word may come after its device's, and is no tick.
    let told: Vec<&str> = steps.iter().copied().filter(|step| *step != "AtDest").collect();
    assert_eq!(told.first_chunk(), Some(&["Accepted", "Custody", "Delivered"]), "{trace}");
    assert_eq!((way["ended"].as_str(), way["gaps"][0].as_str()), (steps.last().copied(), None));
}

/// A row of what a node says about custody.
async fn custody(at: &Server, side: &str, name: &str) -> Value {
    at.ask("custody list").await[side][0][name].clone()
}

#[test]
fn a_stranger_writes_to_somebody_whose_node_is_away_through_its_custodian() {
    test(async |dir| {
        let mut cluster = gather(dir).await;
        let Cluster { hub, globex, alice, bob, .. } = &mut cluster;
        until("the hub to know bob", async || {
            custody(hub, "held_for", "users_kept").await.as_u64() == Some(1)
        })
        .await;
        bob.leave().await;
        globex.kill().await;
        // acme has never met globex, nor alice bob.
        let texts = vec!["hello stranger".to_owned()];
        alice.write(&bob.peer, &texts).await;
        alice.until_reached(Status::Held, 1).await;
        assert_eq!(alice.reached(Status::Delivered), 0, "nobody can have received it");
        globex.start().await;
        bob.come_back();
        alice.until_reached(Status::Delivered, 1).await;
        cluster.sent.extend(texts);
        cluster.all_is_well().await;
        cluster.end().await;
    });
}

#[test]
fn what_a_custodian_has_lost_is_found_out_and_sent_again() {
    test(async |dir| {
        let mut cluster = gather(dir).await;
        cluster.send("hello", 1).await;
        cluster.all_is_well().await;
        let backup = dir.join("backup");
        let Cluster { hub, acme, globex, alice, bob, .. } = &mut cluster;
        until("the agreement to be known", async || peer(globex, hub, "consent_rows").await > 0)
            .await;
        globex.kill().await;
        alice.write(&bob.peer, &["kept".to_owned()]).await;
        alice.until_reached(Status::Held, 2).await;
        hub.stop().await;
        hub.back_up(&backup);
        hub.start().await;
        alice.write(&bob.peer, &["lost".to_owned()]).await;
        alice.until_reached(Status::Held, 3).await;
        acme.stop().await;
        hub.stop().await;
        hub.restore(&backup);
        hub.start().await;
        let trace = trace_of_last(alice, bob).await;
        let way = &trace["devices"][0];
        assert_eq!(way["holder_node"], hub.id.to_text().as_str(), "{trace}");
        globex.start().await;
        bob.until("what was kept", |seen| seen.shown.len() == 2).await;
        acme.start().await;
        bob.until("what was lost", |seen| seen.shown.len() == 3).await;
        let missed = acme.metric("tidings_envelopes_total{what=\"audit_unknown\"}").await;
        assert!(missed >= 1.0, "acme did not miss it");
        cluster.sent.extend(["kept".to_owned(), "lost".to_owned()]);
        cluster.all_is_well().await;
        cluster.end().await;
    });
}

/// What alice can prove of the message that she wrote last.
async fn trace_of_last(alice: &mut Person, bob: &Person) -> Value {
    let views = alice.conversation(&bob.peer).await;
    let last = views.last().expect("a message").message.msg.to_string();
    alice.leave().await;
    let trace = binary::json(&["trace", &last, "--home", text(&alice.home), "--json"]).await;
    alice.come_back();
    trace
}

#[test]
fn an_agreement_is_granted_and_taken_back_while_the_node_runs() {
    test(async |dir| {
        let mut cluster = gather(dir).await;
        let Cluster { hub, globex, .. } = &mut cluster;
        until("the agreement to be known", async || peer(globex, hub, "consent_rows").await > 0)
            .await;
        let id = globex.id.to_text();
        let data = text(&hub.folder).to_owned();
        let said = binary::run(&["admin", "custody", "revoke", "--data", &data, &id]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        until("globex to hear it", async || peer(globex, hub, "consent_rows").await == 0).await;
        let again = binary::run(&["admin", "custody", "revoke", "--data", &data, &id]).await;
        assert!(again.code != Some(0) && again.err.contains("custody list"), "{again:?}");
        // It outlives a start, though the configuration still says otherwise.
        hub.stop().await;
        hub.start().await;
        assert_eq!(custody(hub, "held_for", "rows").await, 0);
        let grant = ["admin", "custody", "grant", "--data", &data, "--rows", "7", &id, "--json"];
        binary::json(&grant).await;
        until("globex to hear it", async || peer(globex, hub, "consent_rows").await == 7).await;
        assert_eq!(custody(globex, "held_by", "rows").await, 7);
        let list = binary::run(&["admin", "custody", "list", "--data", &data]).await;
        assert!(list.out.contains("HELD FOR") && list.out.contains("0 of 7"), "{list:?}");
        // What is not named stays.
        let grant = ["admin", "custody", "grant", "--data", &data, "--days", "3", &id];
        let said = binary::run(&grant).await;
        assert!(said.out.contains(": 7 envelopes, 1024 MiB, 3 days, 10000 users"), "{said:?}");
        cluster.end().await;
    });
}
