//! What an administrator says of other nodes and of his own, while all of them run: who is kept out,
//! what waits, who is gone, and what the log of it says.

use serde_json::Value;
use tidings_client::event::Status;
use tidings_protocol::statement::Reason;

use crate::{
    binary::{self, Said},
    cluster::{Cluster, in_time, test},
    server::{Server, text, until},
};

async fn peers(at: &Server, words: &[&str]) -> Value {
    let folder = text(&at.folder);
    binary::json(&[&["admin", "peers"], words, &["--json", "--data", folder]].concat()).await
}

async fn about(at: &Server, about: &Server) -> Value {
    let rows = peers(at, &["list"]).await;
    let id = about.id.to_text();
    let row = rows.as_array().into_iter().flatten().find(|row| row["node"] == id.as_str());
    row.cloned().unwrap_or(Value::Null)
}

async fn say(at: &Server, words: &[&str]) -> Said {
    let folder = text(&at.folder);
    in_time("an administrator", binary::run(&[&["admin"], words, &["--data", folder]].concat()))
        .await
}

async fn last_status(cluster: &Cluster) -> Option<Status> {
    let views = cluster.alice.conversation(&cluster.bob.peer).await;
    views.last().and_then(|view| view.statuses.first()).map(|(_, status)| *status)
}

#[test]
fn who_is_denied_is_kept_out_and_its_mail_fails_with_the_reason_until_it_is_allowed() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        let globex = cluster.globex.id.to_text();
        let denied = peers(&cluster.acme, &["deny", &globex, "--note", "spam"]).await;
        assert_eq!((&denied["standing"], &denied["note"]), (&"denied".into(), &"spam".into()));
        until("the link to be gone", async || {
            about(&cluster.acme, &cluster.globex).await["connected"] == false
        })
        .await;
        cluster.alice.write(&cluster.bob.peer, &["not to be".to_owned()]).await;
        cluster.alice.until_nothing_waits().await;
        assert_eq!(last_status(&cluster).await, Some(Status::Failed(Some(Reason::Policy))));
        // What bob writes waits at his own node, which is told why.
        cluster.bob.write(&cluster.alice.peer, &["let me in".to_owned()]).await;
        until("globex to be told", async || {
            let said = peers(&cluster.globex, &["show", &cluster.acme.id.to_text()]).await;
            said["refuses_us"] == "Refused"
        })
        .await;
        assert_eq!(cluster.alice.shown().len(), 0);
        let allowed = say(&cluster.acme, &["peers", "allow", &globex]).await;
        assert_eq!(allowed.out, format!("{globex} is allowed\n"));
        // globex was refused for good, and would ask again by itself only much later: it is called.
        cluster.alice.until("what waited", |seen| seen.shown == ["let me in"]).await;
        let again = say(&cluster.globex, &["peers", "retry-now", &cluster.acme.id.to_text()]).await;
        assert_eq!(again.code, Some(0), "{again:?}");
        let refused = say(&cluster.acme, &["peers", "retry-now", "nobody"]).await;
        assert_eq!(refused.code, Some(4), "{refused:?}");
        cluster.end().await;
    });
}

#[test]
fn what_is_paused_is_kept_and_flows_when_it_is_resumed() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        let globex = cluster.globex.id.to_text();
        peers(&cluster.acme, &["pause", &globex]).await;
        cluster.send("paused", 20).await;
        cluster.alice.until_reached(Status::Accepted, 21).await;
        let row = about(&cluster.acme, &cluster.globex).await;
        assert_eq!((&row["standing"], &row["connected"]), (&"paused".into(), &false.into()));
        assert!(row["waiting"].as_u64() >= Some(20), "{row}");
        assert_eq!(cluster.bob.shown().len(), 1);
        peers(&cluster.acme, &["resume", &globex]).await;
        cluster.all_is_well().await;
        cluster.end().await;
    });
}

#[test]
fn who_asks_waits_for_an_administrator_and_an_address_alone_lets_a_node_in() {
    test(async |dir| {
        let mut hub =
            Server::make("hub", dir.join("hub"), None, "federation = \"request\"\n").await;
        hub.start().await;
        let known = hub.address().await;
        let lines = format!("pinned = [\"{} {known}\"]\n", hub.id.to_text());
        let mut acme = Server::make("acme", dir.join("acme"), None, &lines).await;
        acme.start().await;
        // acme has something to ask there, and that is how it asks to be let in.
        let alice = dir.join("alice");
        let invite = acme.invite(1).await;
        let joined = ["join", &invite, "--name", "alice", "--home", text(&alice)];
        assert_eq!(binary::run(&joined).await.code, Some(0));
        let to = format!("bob@{}", hub.id.to_text());
        let written = ["send", &to, "hello", "--timeout", "1", "--home", text(&alice)];
        in_time("a message that waits", binary::run(&written)).await;
        until("the request", async || about(&hub, &acme).await["standing"] == "requested").await;
        assert_eq!(hub.count("requests").await, 1);
        let folder = text(&hub.folder);
        let mode = binary::json(&["admin", "federation", "--json", "--data", folder]).await;
        assert_eq!(
            (&mode["federation"], &mode["federation_by_hand"]),
            (&"request".into(), &false.into())
        );
        let closed = say(&hub, &["federation", "closed"]).await;
        assert!(closed.out.starts_with("closed, set by hand"), "{closed:?}");
        let address = acme.address().await;
        let added = say(&hub, &["peers", "add", &address]).await;
        assert!(added.out.starts_with("dialled"), "{added:?}");
        until("the link", async || {
            let row = about(&hub, &acme).await;
            row["standing"] == "allowed" && row["connected"] == true
        })
        .await;
        acme.stop().await;
        hub.stop().await;
    });
}

#[test]
fn a_goodbye_stops_all_retries_and_is_said_to_those_who_were_away() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        // globex says it while acme is away: acme finds it in the DHT, where the hub keeps it.
        cluster.acme.stop().await;
        let early = say(&cluster.globex, &["goodbye"]).await;
        assert_eq!(early.code, Some(2), "{early:?}");
        let said = cluster.globex.ask("goodbye --yes").await;
        assert_eq!(
            (&said["published"], said["retired_ms"].is_u64()),
            (&true.into(), true),
            "{said}"
        );
        cluster.bob.leave().await;
        cluster.globex.stop().await;
        cluster.acme.start().await;
        cluster.alice.write(&cluster.bob.peer, &["too late".to_owned()]).await;
        cluster.alice.until_nothing_waits().await;
        assert_eq!(last_status(&cluster).await, Some(Status::Failed(Some(Reason::Retired))));
        let row = about(&cluster.acme, &cluster.globex).await;
        assert_eq!(row["standing"], "retired", "{row}");
        assert!(row["next_try_ms"].is_null() && row["waiting"] == 0, "{row}");
        // It comes back all the same, and says so.
        cluster.globex.start().await;
        let back = say(&cluster.globex, &["goodbye", "--take-back"]).await;
        assert_eq!(back.code, Some(0), "{back:?}");
        let globex = cluster.globex.id.to_text();
        peers(&cluster.acme, &["allow", &globex]).await;
        until("acme to know", async || {
            about(&cluster.acme, &cluster.globex).await["standing"] == "allowed"
        })
        .await;
        cluster.bob.come_back();
        cluster.alice.write(&cluster.bob.peer, &["in time".to_owned()]).await;
        cluster
            .bob
            .until("what was written", |seen| seen.shown.iter().any(|s| s == "in time"))
            .await;
        cluster.end().await;
    });
}

#[test]
fn a_domain_stands_for_a_node_by_either_word() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let globex = tidings_protocol::id::NodeId([7; 32]).to_text();
        assert_eq!(peers(&acme, &["alias", "globex.example", &globex]).await, Value::Null);
        let said = say(&acme, &["peers", "alias", "initech.example", &globex]).await;
        assert_eq!(said.out, format!("initech.example stands for {globex}\n"), "{said:?}");
        let names = acme.ask("names list").await;
        let pins: Vec<_> = names.as_array().into_iter().flatten().collect();
        assert_eq!(pins.len(), 2, "{names}");
        for (pin, domain) in pins.iter().zip(["globex.example", "initech.example"]) {
            assert_eq!((&pin["domain"], &pin["node"]), (&domain.into(), &globex.as_str().into()));
        }
        let refused = say(&acme, &["peers", "alias", "globex.example", "nobody"]).await;
        assert_eq!(refused.code, Some(4), "{refused:?}");
        acme.stop().await;
    });
}

#[test]
fn the_log_of_what_was_changed_is_one_chain_and_its_end_is_in_the_systems_log() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let folder = acme.folder.clone();
        let data = ["--json", "--data", text(&folder)];
        let globex = tidings_protocol::id::NodeId([7; 32]).to_text();
        acme.invite(2).await;
        peers(&acme, &["deny", &globex]).await;
        peers(&acme, &["limits", &globex, "--envelopes", "5"]).await;
        let entries = binary::json(&[&["admin", "log", "list"][..], &data].concat()).await;
        let what: Vec<&str> = entries
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["what"].as_str())
            .collect();
        assert_eq!(what, ["invite", "peers deny", "peers limits"]);
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(entries[1]["who"], own, "{entries}");
        let verified = binary::json(&[&["admin", "log", "verify"][..], &data].concat()).await;
        assert_eq!((&verified["holds"], &verified["entries"]), (&true.into(), &3.into()));
        acme.stop().await;
        acme.start().await;
        let head = verified["hash"].as_str().expect("a hash");
        let log = std::fs::read_to_string(acme.log()).expect("the log");
        assert!(log.contains(head), "the end of the chain is not in the log: {log}");
        let first = entries[0]["hash"].as_str().expect("a hash");
        let held = say(&acme, &["log", "verify", "--holds", first]).await;
        assert_eq!(held.code, Some(0), "{held:?}");
        let other = say(&acme, &["log", "verify", "--holds", &"0".repeat(64)]).await;
        assert_eq!(other.code, Some(6), "{other:?}");
        acme.stop().await;
    });
}

#[test]
fn a_live_picture_of_a_node_is_printed_once_or_as_json() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let picture = say(&acme, &["top", "--once"]).await;
        assert_eq!(picture.code, Some(0), "{picture:?}");
        assert!(picture.out.starts_with(&format!("tidings  {}", acme.id.to_text())), "{picture:?}");
        assert!(picture.out.contains("a second  accepted 0"), "{picture:?}");
        assert!(picture.out.lines().all(|line| line.chars().count() <= 80), "{picture:?}");
        let folder = text(&acme.folder);
        let line = ["admin", "top", "--once", "--json", "--data", folder];
        let value = binary::json(&line).await;
        assert!(value["counts"]["accepted"].is_u64() && value["peers"].is_array(), "{value}");
        acme.stop().await;
    });
}
