//! Real nodes over a bad network: cut, cut one way, flapping, lossy, slow. Every fault has a seed, and
//! every wait is for what must happen. `proxy.rs` is the network; people's devices are on good links.

use std::path::Path;

use tidings_client::event::Status;

use crate::{
    cluster::{Cluster, test},
    person::Person,
    proxy::{Carrier, Faults, Proxy, Way},
    server::{Server, until},
};

/// acme and globex, which reach each other through a proxy each, and a hub through which they found
/// each other. alice is at acme, bob at globex.
struct Bad {
    cluster: Cluster,
    before_acme: Proxy,
    before_globex: Proxy,
}

impl Bad {
    /// Everybody has found everybody, and the network is still good.
    async fn start(dir: &Path, carrier: Carrier, seed: u64) -> Self {
        let mut hub = Server::make("hub", dir.join("hub"), None, "").await;
        hub.start().await;
        let known = hub.address().await;
        let mut acme = Server::make("acme", dir.join("acme"), Some(&known), "").await;
        let mut globex = Server::make("globex", dir.join("globex"), Some(&known), "").await;
        let before_acme = Proxy::before(acme.ports[0], seed).await;
        let before_globex = Proxy::before(globex.ports[0], seed + 1).await;
        for (server, proxy) in [(&mut acme, &before_acme), (&mut globex, &before_globex)] {
            server.configure(Some(&known), &proxy.announced(carrier));
            server.start().await;
        }
        let alice = Person::join("alice", &acme, dir.join("alice")).await;
        let bob = Person::join("bob", &globex, dir.join("bob")).await;
        let cluster = Cluster { hub, acme, globex, alice, bob, sent: Vec::new() };
        let mut bad = Self { cluster, before_acme, before_globex };
        bad.cluster.send("hello", 1).await;
        bad.cluster.all_is_well().await;
        assert!(bad.opened() > 0, "the nodes found a way around the proxies");
        bad
    }

    /// What happens from acme to globex, whoever of the two has dialled.
    fn to_globex(&self, faults: &Faults) {
        self.before_globex.set(Way::In, faults);
        self.before_acme.set(Way::Out, faults);
    }

    /// What happens from globex to acme.
    fn to_acme(&self, faults: &Faults) {
        self.before_acme.set(Way::In, faults);
        self.before_globex.set(Way::Out, faults);
    }

    fn both_ways(&self, faults: &Faults) {
        self.to_globex(faults);
        self.to_acme(faults);
    }

    fn opened(&self) -> u64 {
        self.before_acme.opened() + self.before_globex.opened()
    }

    /// What a cut on the way to globex has held up.
    fn stopped_to_globex(&self) -> u64 {
        self.before_globex.stopped(Way::In) + self.before_acme.stopped(Way::Out)
    }

    fn stopped_to_acme(&self) -> u64 {
        self.before_acme.stopped(Way::In) + self.before_globex.stopped(Way::Out)
    }

    /// Waits until acme has given up its link to globex.
    async fn until_acme_is_alone(&self) {
        let globex = self.cluster.globex.id.to_text();
        let series = format!("tidings_peer_connected{{peer=\"{globex}\"}}");
        let acme = &self.cluster.acme;
        until("acme to find globex gone", async || acme.metric(&series).await == 0.0).await;
    }
}

/// F7: what was written during the cut arrives afterwards, by what the nodes do of themselves.
#[test]
fn what_was_written_while_two_nodes_were_cut_off_arrives_without_new_traffic() {
    test(async |dir| {
        let mut bad = Bad::start(dir, Carrier::Quic, 0x7000).await;
        bad.both_ways(&Faults::cut());
        bad.cluster.send("cut off", 20).await;
        let answers: Vec<String> = (1..=20).map(|number| format!("answer {number}")).collect();
        let (alice, bob) = (bad.cluster.alice.peer.clone(), &mut bad.cluster.bob);
        bob.write(&alice, &answers).await;
        bad.cluster.alice.until_reached(Status::Accepted, 21).await;
        bad.cluster.bob.until_reached(Status::Accepted, 20).await;
        bad.until_acme_is_alone().await;
        assert_eq!(bad.cluster.bob.shown().len(), 1, "nothing can have come through");
        assert_eq!(bad.cluster.alice.reached(Status::Delivered), 1, "nobody can have it");
        bad.both_ways(&Faults::default());
        let Cluster { alice, bob, sent, .. } = &bad.cluster;
        for (writer, reader, texts) in [(alice, bob, sent), (bob, alice, &answers)] {
            writer.until_reached(Status::Delivered, texts.len()).await;
            writer.until_nothing_waits().await;
            reader.until("all to be shown", |seen| seen.shown.len() >= texts.len()).await;
            assert_eq!(reader.shown(), *texts, "in order, and each once");
        }
        bad.cluster.end().await;
    });
}

/// F8: first the way back is cut, so that what arrives is never acknowledged; then the way there.
#[test]
fn a_cut_in_one_direction_makes_no_false_tick_and_no_double() {
    test(async |dir| {
        let mut bad = Bad::start(dir, Carrier::Quic, 0x8000).await;
        bad.to_acme(&Faults::cut());
        bad.cluster.send("no way back", 5).await;
        let arrived = |seen: &crate::person::Seen| seen.shown.len() > 1;
        bad.cluster.bob.until("what came before the link ended", arrived).await;
        bad.until_acme_is_alone().await;
        assert!(bad.stopped_to_acme() > 0, "nothing was cut");
        assert_eq!(bad.cluster.alice.reached(Status::Delivered), 1, "no word can have come back");
        bad.both_ways(&Faults::default());
        bad.cluster.all_is_well().await;
        let again = bad.cluster.globex.metric("tidings_envelopes_total{what=\"duplicate\"}").await;
        assert!(again >= 1.0, "what was not acknowledged was not sent again");

        bad.to_globex(&Faults::cut());
        let stopped = bad.stopped_to_globex();
        bad.cluster.send("no way there", 5).await;
        bad.cluster.alice.until_reached(Status::Accepted, 11).await;
        bad.until_acme_is_alone().await;
        assert!(bad.stopped_to_globex() > stopped, "nothing was cut");
        assert_eq!(bad.cluster.bob.shown().len(), 6, "nothing can have come through");
        bad.both_ways(&Faults::default());
        bad.cluster.all_is_well().await;
        bad.cluster.end().await;
    });
}

/// F9: two seconds up, two seconds down. Over TCP each fall breaks all connections.
#[test]
fn a_link_that_flaps_makes_progress_and_few_attempts() {
    const FLAPS_MS: (u64, u64) = (2_000, 2_000);
    const ROUNDS: usize = 5;
    test(async |dir| {
        let mut bad = Bad::start(dir, Carrier::Tcp, 0x9000).await;
        bad.both_ways(&Faults { flaps_ms: Some(FLAPS_MS), ..Faults::default() });
        let (opened, downs) = (bad.opened(), bad.before_globex.downs(FLAPS_MS));
        for round in 0..ROUNDS {
            let falls = bad.before_globex.downs(FLAPS_MS);
            bad.cluster.send(&format!("round {round}"), 10).await;
            // It is still flapping: this is progress.
            let delivered = bad.cluster.sent.len();
            bad.cluster.alice.until_reached(Status::Delivered, delivered).await;
            let fell = async || bad.before_globex.downs(FLAPS_MS) > falls;
            until("the link to have been down", fell).await;
        }
        let falls = bad.before_globex.downs(FLAPS_MS) - downs;
        let attempts = bad.opened() - opened;
        assert!(falls >= ROUNDS as u64, "the link fell {falls} times");
        // Connections are opened twice each, one number for each direction; both nodes dial, and some
        // attempts meet a link that is down.
        assert!(attempts <= 16 * (falls + 1), "{attempts} in {falls} falls");
        bad.both_ways(&Faults::default());
        bad.cluster.all_is_well().await;
        bad.cluster.end().await;
    });
}

/// F12: datagrams overtake each other, come twice, and late.
#[test]
fn datagrams_that_come_twice_late_and_in_another_order_change_nothing() {
    test(async |dir| {
        let mut bad = Bad::start(dir, Carrier::Quic, 0x12000).await;
        let faults = Faults { delay_ms: (0, 60), doubled: 100, ..Faults::default() };
        bad.both_ways(&faults);
        bad.cluster.send("shaken", 100).await;
        bad.cluster.all_is_well().await;
        bad.cluster.end().await;
    });
}

async fn check_loss(dir: &Path, carrier: Carrier) {
    let mut bad = Bad::start(dir, carrier, 0x5000).await;
    let faults =
        Faults { lost: 50, delay_ms: (5, 15), piece_bytes: Some(600), ..Faults::default() };
    bad.both_ways(&faults);
    bad.cluster.send("lossy", 100).await;
    bad.cluster.all_is_well().await;
    bad.cluster.end().await;
}

#[test]
fn one_in_twenty_datagrams_lost_loses_nothing() {
    test(async |dir| check_loss(dir, Carrier::Quic).await);
}

/// TCP comes in small pieces here, and one in twenty holds up what follows.
#[test]
fn a_lossy_link_of_tcp_loses_nothing() {
    test(async |dir| check_loss(dir, Carrier::Tcp).await);
}

/// F13: the link stands and nothing moves on it; then it breaks.
#[test]
fn a_link_of_tcp_that_stalls_and_is_reset_loses_nothing() {
    test(async |dir| {
        let mut bad = Bad::start(dir, Carrier::Tcp, 0x13000).await;
        bad.to_globex(&Faults::cut());
        bad.cluster.send("stalled", 20).await;
        bad.cluster.alice.until_reached(Status::Accepted, 21).await;
        until("something to be held up", async || bad.stopped_to_globex() > 0).await;
        assert_eq!(bad.cluster.alice.reached(Status::Delivered), 1, "nothing moves");
        for proxy in [&bad.before_acme, &bad.before_globex] {
            proxy.reset();
        }
        bad.both_ways(&Faults::default());
        bad.cluster.all_is_well().await;
        bad.cluster.end().await;
    });
}

/// F14: what waits for a slow peer stands in nobody's way. It is the order of events that is looked at.
#[test]
fn a_slow_link_to_one_peer_does_not_slow_another_one() {
    const TEXTS: usize = 40;
    test(async |dir| {
        let mut bad = Bad::start(dir, Carrier::Quic, 0x14000).await;
        let known = bad.cluster.hub.address().await;
        let mut initech = Server::make("initech", dir.join("initech"), Some(&known), "").await;
        initech.start().await;
        let mut carol = Person::join("carol", &initech, dir.join("carol")).await;
        bad.cluster.alice.write(&carol.peer, &["hello carol".to_owned()]).await;
        bad.cluster.alice.until_reached(Status::Delivered, 2).await;

        // Of the link alone: what acme says to initech does not pass before globex.
        let slow =
            Faults { bytes_per_second: Some(2_000), delay_ms: (300, 300), ..Faults::default() };
        bad.both_ways(&slow);
        let long = "slow ".repeat(400);
        let slowly: Vec<String> = (0..TEXTS).map(|number| format!("{long}{number}")).collect();
        let texts: Vec<String> = (0..TEXTS).map(|number| format!("quick {number}")).collect();
        let (alice, bob) = (&mut bad.cluster.alice, &bad.cluster.bob);
        alice.write(&bob.peer, &slowly).await;
        alice.until_reached(Status::Accepted, 2 + TEXTS).await;
        alice.write(&carol.peer, &texts).await;
        carol.until("what was sent last", |seen| seen.shown.len() > TEXTS).await;
        let arrived = bob.shown().len() - 1;
        assert!(arrived < TEXTS, "the slow link was not slow");
        assert_eq!(carol.shown()[1..], texts);
        bad.both_ways(&Faults::default());
        bad.cluster.alice.until_nothing_waits().await;
        assert_eq!(bad.cluster.bob.shown()[1..], slowly);
        carol.leave().await;
        initech.stop().await;
        bad.cluster.end().await;
    });
}
