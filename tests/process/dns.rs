//! Addresses with domains, by a real DNS server on 127.0.0.1 whose records the test changes: first use,
//! both ways, a record that somebody replaces, a node that does not claim the domain, a server that is
//! down, and an alias. What may be pinned when is in `node/core/tests/names.rs`.

use std::{path::Path, sync::Arc, time::Duration};

use hickory_server::{
    Server as DnsServer,
    proto::rr::{
        Name, RData, Record, RecordType, RrKey,
        rdata::{SOA, TXT},
    },
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType},
};
use serde_json::Value;
use tidings_protocol::name_record::record_text;
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    binary::{self, Said},
    cluster::{in_time, test},
    server::{Server, free_port, text, until},
};

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

/// The zone `example.`, served on one port by UDP and TCP.
struct Dns {
    zone: Arc<InMemoryZoneHandler>,
    port: u16,
    server: Option<DnsServer<Catalog>>,
}

impl Dns {
    async fn start() -> Self {
        let origin = name("example.");
        let mut zone: InMemoryZoneHandler =
            InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
        let soa = SOA::new(name("ns.example."), name("admin.example."), 1, 60, 60, 60, 60);
        zone.upsert_mut(Record::from_rdata(origin, 60, RData::SOA(soa)), 1);
        let mut dns = Self { zone: Arc::new(zone), port: free_port(), server: None };
        dns.go_up().await;
        dns
    }

    async fn go_up(&mut self) {
        let udp = UdpSocket::bind(("127.0.0.1", self.port)).await.expect("a port");
        let tcp = TcpListener::bind(("127.0.0.1", self.port)).await.expect("the same port");
        let mut catalog = Catalog::new();
        catalog
            .upsert(name("example.").into(), vec![Arc::clone(&self.zone) as Arc<dyn ZoneHandler>]);
        let mut server = DnsServer::new(catalog);
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 32);
        self.server = Some(server);
    }

    async fn go_down(&mut self) {
        let mut server = self.server.take().expect("a server");
        server.shutdown_gracefully().await.expect("the end of a server");
    }

    /// The one record of a domain, or none.
    async fn set(&self, domain: &str, text: Option<String>) {
        let at = name(&format!("_tidings.{domain}."));
        let key = RrKey::new(at.clone().into(), RecordType::TXT);
        self.zone.records_mut().await.remove(&key);
        if let Some(text) = text {
            let record = Record::from_rdata(at, 60, RData::TXT(TXT::new(vec![text])));
            assert!(self.zone.upsert(record, 2).await);
        }
    }

    fn line(&self, domains: &str) -> String {
        format!("dns_servers = [\"127.0.0.1:{}\"]\ndomains = {domains}\n", self.port)
    }
}

async fn run(args: &[&str], home: &Path) -> Said {
    let all = [args, &["--home", text(home)]].concat();
    in_time("a command", binary::run(&all)).await
}

async fn names(server: &Server, args: &[&str]) -> Value {
    let all = [&["admin", "names"], args, &["--json", "--data", text(&server.folder)]].concat();
    in_time("an answer about names", binary::json(&all)).await
}

/// Until a node finds both halves of what binds a domain.
async fn found(at: &Server, domain: &str) {
    let is_bound = async || names(at, &["check", domain]).await["found"] == "bound";
    until("a domain to be found", is_bound).await;
}

async fn join(who: &str, server: &Server, home: &Path) -> Value {
    let invite = server.invite(1).await;
    binary::json(&["join", &invite, "--name", who, "--home", text(home), "--json"]).await
}

/// Waits until a message has come to a home.
async fn comes(home: &Path, said: &str) {
    until("a message", async || {
        let got = run(&["inbox", "--json"], home).await;
        assert_eq!(got.code, Some(0), "{got:?}");
        got.out.lines().any(|line| {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            line["text"] == said
        })
    })
    .await;
}

struct World {
    dns: Dns,
    hub: Server,
    acme: Server,
    globex: Server,
    /// Another node that claims the domain of globex.
    other: Server,
}

async fn gather(dir: &Path) -> World {
    let dns = Dns::start().await;
    let mut hub = Server::make("hub", dir.join("hub"), None, "").await;
    hub.start().await;
    let known = hub.address().await;
    let mut made = Vec::new();
    for (who, domains) in [
        ("acme", r#"["acme.example"]"#),
        ("globex", r#"["globex.example"]"#),
        ("other", r#"["globex.example"]"#),
    ] {
        let server = Server::make(who, dir.join(who), Some(&known), &dns.line(domains)).await;
        made.push(server);
    }
    let [mut acme, mut globex, mut other] = made.try_into().ok().expect("three nodes");
    dns.set("acme.example", Some(record_text(&acme.id))).await;
    dns.set("globex.example", Some(record_text(&globex.id))).await;
    for server in [&mut acme, &mut globex, &mut other] {
        server.start().await;
    }
    for server in [&acme, &globex] {
        until("a node to find itself in the DNS", async || {
            server.ask("status").await["domains"][0]["found"] == "bound"
        })
        .await;
    }
    // What the DHT knows comes with time.
    for (at, domain) in [(&acme, "globex.example"), (&globex, "acme.example")] {
        until("a domain to be bound", async || {
            names(at, &["check", domain]).await["found"] == "bound"
        })
        .await;
    }
    World { dns, hub, acme, globex, other }
}

impl World {
    async fn end(mut self) {
        for server in [&mut self.acme, &mut self.globex, &mut self.other, &mut self.hub] {
            server.stop().await;
        }
    }
}

#[test]
fn people_write_to_domains_and_a_changed_record_waits_for_people() {
    test(async |dir| {
        let world = gather(dir).await;
        let World { dns, acme, globex, other, .. } = &world;
        let [alice, bob, twin] = ["alice", "bob", "twin"].map(|who| dir.join(who));
        let joined = join("alice", acme, &alice).await;
        assert_eq!(joined["domain_addresses"], serde_json::json!(["alice@acme.example"]));
        join("bob", globex, &bob).await;
        join("bob", other, &twin).await;
        // A node that has just started is not in the DHT at once.
        found(acme, "globex.example").await;
        found(globex, "acme.example").await;
        // Both ways.
        let sent = run(&["send", "bob@globex.example", "hello bob"], &alice).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
        comes(&bob, "hello bob").await;
        let sent = run(&["send", "alice@ACME.example", "hello alice"], &bob).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
        comes(&alice, "hello alice").await;
        let shown = run(&["contacts", "bob@globex.example", "--json"], &alice).await;
        let shown: Value = serde_json::from_str(&shown.out).expect("JSON");
        assert_eq!(shown[0]["domain"], "globex.example");
        assert_eq!(shown[0]["domain_source"], "Dns");
        // Somebody replaces the record.
        dns.set("globex.example", Some(record_text(&other.id))).await;
        let mut seen = Value::Null;
        until("the other node to be found", async || {
            seen = names(acme, &["check", "globex.example"]).await;
            seen["found"] == "bound"
        })
        .await;
        assert_eq!(seen["pinned"]["change"], "moved");
        assert_eq!(acme.count("names_changed").await, 1);
        assert!(acme.metric("tidings_node{what=\"names_changed\"}").await > 0.0);
        let sent = run(&["send", "bob@globex.example", "still you"], &alice).await;
        assert_eq!((sent.code, sent.err.as_str()), (Some(0), ""), "{sent:?}");
        comes(&bob, "still you").await;
        // The administrator accepts it; the device asks its person.
        names(acme, &["accept", "globex.example"]).await;
        let listed = names(acme, &["list"]).await;
        assert_eq!(listed[0]["node"], other.id.to_text());
        let sent = run(&["send", "bob@globex.example", "you still"], &alice).await;
        assert!(sent.code == Some(0) && sent.err.contains("--accept-node"), "{sent:?}");
        comes(&bob, "you still").await;
        let accept = |node: String| {
            let alice = alice.clone();
            async move { run(&["contacts", "bob@globex.example", "--accept-node", &node], &alice).await }
        };
        assert_eq!(accept(acme.id.to_text()).await.code, Some(1), "not what was offered");
        let accepted = accept(other.id.to_text()).await;
        assert_eq!(accepted.code, Some(0), "{accepted:?}");
        let sent = run(&["send", "bob@globex.example", "the new one"], &alice).await;
        assert_eq!((sent.code, sent.err.as_str()), (Some(0), ""), "{sent:?}");
        comes(&twin, "the new one").await;
        world.end().await;
    });
}

#[test]
fn a_domain_that_is_not_bound_is_refused_and_an_alias_needs_no_dns() {
    test(async |dir| {
        let mut world = gather(dir).await;
        let [alice, bob] = ["alice", "bob"].map(|who| dir.join(who));
        join("alice", &world.acme, &alice).await;
        join("bob", &world.globex, &bob).await;
        let node = record_text(&world.globex.id);
        world.dns.set("initech.example", Some(node.clone())).await;
        world.dns.set("typo.example", Some(node.replace('a', "b"))).await;
        for (domain, found, code, hint) in [
            ("initech.example", "unclaimed", 4, "does not claim it"),
            ("typo.example", "unreadable", 4, "does not claim it"),
            ("nobody.example", "absent", 4, "names no node"),
        ] {
            let sent = run(&["send", &format!("bob@{domain}"), "hello"], &alice).await;
            assert!(sent.code == Some(code) && sent.err.contains(hint), "{domain}: {sent:?}");
            assert_eq!(names(&world.acme, &["check", domain]).await["found"], found, "{domain}");
        }
        let sent = run(&["send", "bob@gl\u{f6}bex.example", "hello"], &alice).await;
        assert!(sent.code == Some(1) && sent.err.contains("xn--"), "{sent:?}");
        found(&world.acme, "globex.example").await;
        let sent = run(&["send", "bob@globex.example", "while it is up"], &alice).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
        world.dns.set("acme.example", None).await;
        let looked = ["doctor", "--json", "--timeout", "1", "--data", text(&world.acme.folder)];
        let looked = in_time("a look", binary::run(&looked)).await;
        let looked: Value = serde_json::from_str(&looked.out).expect("JSON");
        let mut checks = looked["checks"].as_array().expect("checks").iter();
        let own = checks.find(|check| check["check"] == "domain").expect("a check of the domain");
        assert_eq!(own["result"], "failed", "{own}");
        assert!(own["next"].as_str().expect("a step").contains(&record_text(&world.acme.id)));
        // The DNS is down: the pin serves, nobody new is found, and an alias is.
        world.dns.go_down().await;
        let sent = run(&["send", "bob@globex.example", "while it is down"], &alice).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
        comes(&bob, "while it is down").await;
        let sent = run(&["send", "bob@late.example", "hello"], &alice).await;
        assert_eq!(sent.code, Some(3), "{sent:?}");
        let id = world.globex.id.to_text();
        names(&world.acme, &["alias", "initech.example", &id]).await;
        let sent = run(&["send", "bob@initech.example", "by an alias"], &alice).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
        comes(&bob, "by an alias").await;
        world.dns.go_up().await;
        assert_eq!(names(&world.acme, &["check", "globex.example"]).await["found"], "bound");
        assert_eq!(world.acme.count("names_changed").await, 0);
        world.end().await;
    });
}
