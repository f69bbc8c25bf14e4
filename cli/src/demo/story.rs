//! What happens in the demo, step by step. Each step says what it does, waits for what must follow,
//! and fails when it does not.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use tidings_client::event::{MessageRef, Status};
use tidings_node::clock::Stopwatch;
use tidings_protocol::statement::Claim;

use super::{
    person::{Person, tick},
    proof,
};
use crate::server::Server;

/// Messages while bob's device is away.
const AWAY: usize = 5;
/// Messages while globex is away.
const STOPPED: usize = 3;
/// Messages in flight when a node is killed.
const KILLED: usize = 200;

/// The three nodes and the two people.
struct Cast {
    hub: Server,
    acme: Server,
    globex: Server,
    alice: Person,
    bob: Person,
    /// Everything that alice has sent, in order.
    sent: Vec<(MessageRef, String)>,
}

/// Tells the whole story.
pub(super) async fn tell(dir: &Path, keep: bool) -> anyhow::Result<()> {
    let mut cast = gather(dir).await?;
    cast.first_words().await?;
    cast.device_away().await?;
    cast.node_away().await?;
    cast.killed("acme").await?;
    cast.killed("globex").await?;
    cast.nothing_lost_or_doubled()?;
    cast.evidence().await?;
    say!("\nEverything was as told.");
    cast.alice.leave().await?;
    cast.bob.leave().await?;
    by_hand(dir, &cast, keep);
    if keep {
        say!("\nThe nodes are running. Ctrl-C stops them.");
        tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")?;
    }
    for server in [&mut cast.acme, &mut cast.globex, &mut cast.hub] {
        server.stop().await?;
    }
    Ok(())
}

pub(super) fn step(title: &str) {
    say!("\n== {title}");
}

async fn gather(dir: &Path) -> anyhow::Result<Cast> {
    step("Three nodes, each a process of its own");
    let mut hub = Server::make(dir, "hub", "")?;
    hub.start().await?;
    let known = hub.address().await?;
    say!("hub     {}", hub.id.to_text());
    let bootstrap = format!("bootstrap = [\"{known}\"]");
    let mut acme = Server::make(dir, "acme", &bootstrap)?;
    let mut globex = Server::make(dir, "globex", &bootstrap)?;
    for server in [&mut acme, &mut globex] {
        server.start().await?;
        say!("{:<7} {}  knows only {known}", server.name, server.id.to_text());
    }
    step("Two people");
    let alice = Person::join("alice", &acme, acme.invite(1).await?, dir.join("alice")).await?;
    say!("alice joined acme");
    let bob = Person::join("bob", &globex, globex.invite(1).await?, dir.join("bob")).await?;
    say!("bob joined globex");
    Ok(Cast { hub, acme, globex, alice, bob, sent: Vec::new() })
}

impl Cast {
    /// alice writes to bob; returns once it is on her own disk.
    async fn send(&mut self, texts: Vec<String>) -> anyhow::Result<Vec<MessageRef>> {
        let to = self.bob.peer.clone();
        let messages = self.alice.write(&to, &texts).await?;
        self.sent.extend(messages.iter().cloned().zip(texts));
        Ok(messages)
    }

    async fn send_many(&mut self, what: &str, count: usize) -> anyhow::Result<Vec<MessageRef>> {
        self.send((1..=count).map(|number| format!("{what} {number}")).collect()).await
    }

    /// The ticks of one message, as alice sees them grow.
    async fn first_words(&mut self) -> anyhow::Result<()> {
        step("A message, from the clock to the blue tick");
        let watch = Stopwatch::start();
        let hello = self.send(vec!["hello bob".to_owned()]).await?;
        say!("alice: hello bob                 clock");
        for status in [Status::Accepted, Status::Delivered] {
            self.alice.until_status(&hello, status).await?;
            say!("{:>36} after {} ms", tick(status), watch.elapsed().as_millis());
        }
        say!("(they found each other through Kademlia: both knew the hub alone)");
        self.bob.until_shown(1).await?;
        let shown = self.bob.shown.first().context("bob was shown nothing")?.message.clone();
        self.bob.read(&shown).await?;
        self.alice.until_status(&hello, Status::Read).await?;
        say!("{:>36} bob has read it", tick(Status::Read));
        let to = self.alice.peer.clone();
        let answer = self.bob.write(&to, &["hello alice".to_owned()]).await?;
        self.alice.until_shown(1).await?;
        self.bob.until_status(&answer, Status::Delivered).await?;
        say!("bob:   hello alice               {}", tick(Status::Delivered));
        for number in 1..=3 {
            let watch = Stopwatch::start();
            let message = self.send(vec![format!("once more {number}")]).await?;
            self.alice.until_status(&message, Status::Delivered).await?;
            say!(
                "alice: once more {number}               {} after {} ms",
                tick(Status::Delivered),
                watch.elapsed().as_millis()
            );
        }
        self.bob.until_shown(self.sent.len()).await
    }

    async fn device_away(&mut self) -> anyhow::Result<()> {
        step("bob's device goes away");
        let before = self.bob.shown.len();
        self.bob.leave().await?;
        let messages = self.send_many("while you were away", AWAY).await?;
        self.alice.until_status(&messages, Status::Accepted).await?;
        self.alice.watch(Duration::from_millis(500)).await?;
        self.ensure_waiting(&messages)?;
        say!("{AWAY} messages stay at {}", tick(Status::Accepted));
        self.bob.come_back()?;
        self.bob.until_shown(before + AWAY).await?;
        self.alice.until_status(&messages, Status::Delivered).await?;
        say!("bob is back: {AWAY} messages, {}", tick(Status::Delivered));
        Ok(())
    }

    fn ensure_waiting(&self, messages: &[MessageRef]) -> anyhow::Result<()> {
        for message in messages {
            let status = self.alice.status(message);
            ensure!(
                status.rank() < Status::Failed(None).rank(),
                "a message is at {} though nobody can have received it",
                tick(status)
            );
        }
        Ok(())
    }

    async fn node_away(&mut self) -> anyhow::Result<()> {
        step("globex is stopped");
        let before = self.bob.shown.len();
        self.globex.stop().await?;
        let messages = self.send_many("your node is away", STOPPED).await?;
        self.alice.until_status(&messages, Status::Accepted).await?;
        self.alice.watch(Duration::from_secs(2)).await?;
        self.ensure_waiting(&messages)?;
        let queued = self.acme.queued().await?;
        ensure!(queued >= STOPPED as u64, "acme has {queued} envelopes in its queue");
        say!("{STOPPED} messages stay at {}; acme keeps them", tick(Status::Accepted));
        let watch = Stopwatch::start();
        self.globex.start().await?;
        let (alice, bob) = (&mut self.alice, &mut self.bob);
        tokio::try_join!(
            bob.until_shown(before + STOPPED),
            alice.until_status(&messages, Status::Delivered)
        )?;
        say!(
            "globex is back: {STOPPED} messages, {} after {:.1} s, its start included",
            tick(Status::Delivered),
            watch.elapsed().as_secs_f64()
        );
        Ok(())
    }

    async fn killed(&mut self, who: &str) -> anyhow::Result<()> {
        step(&format!("{who} is killed with -9 while messages are in flight"));
        let before = self.bob.shown.len();
        // Some are accepted and some are not: that is where a careless node loses them.
        let messages = self.send_many("in flight", KILLED).await?;
        self.alice.until_status(messages.get(..1).unwrap_or_default(), Status::Accepted).await?;
        let server = if who == "acme" { &mut self.acme } else { &mut self.globex };
        server.kill().await?;
        let so_far = |status: Status| {
            let ranks = messages.iter().map(|message| self.alice.status(message).rank());
            ranks.filter(|rank| *rank >= status.rank()).count()
        };
        say!(
            "at that moment alice knew of {} {} and {} {} of {KILLED}",
            so_far(Status::Accepted),
            tick(Status::Accepted),
            so_far(Status::Delivered),
            tick(Status::Delivered)
        );
        server.start().await?;
        let (alice, bob) = (&mut self.alice, &mut self.bob);
        tokio::try_join!(
            bob.until_shown(before + KILLED),
            alice.until_status(&messages, Status::Delivered)
        )?;
        say!("{who} is back: all {KILLED} are {}", tick(Status::Delivered));
        Ok(())
    }

    fn nothing_lost_or_doubled(&self) -> anyhow::Result<()> {
        step("Nothing is lost, doubled or out of order");
        let sent: Vec<&str> = self.sent.iter().map(|(_, text)| text.as_str()).collect();
        let shown: Vec<&str> = self.bob.shown.iter().map(|message| message.text.as_str()).collect();
        ensure!(sent == shown, "alice sent {sent:?}\nbob was shown {shown:?}");
        say!("alice sent {} messages; bob was shown each once, in order", sent.len());
        Ok(())
    }

    async fn evidence(&mut self) -> anyhow::Result<()> {
        step("The receipts are verified, offline, and a forged one is refused");
        let (message, _) = self.sent.first().context("nothing was sent")?;
        let proved = proof::show(&self.alice, message, &[&self.acme, &self.globex]).await?;
        let by_bob = proof::by_device(&proved, &self.bob, &[Claim::Delivered, Claim::Read]);
        ensure!(by_bob >= 2, "bob's device has proved {by_bob} of delivered and read");
        Ok(())
    }
}

fn by_hand(dir: &Path, cast: &Cast, keep: bool) {
    let program = std::env::current_exe().unwrap_or_else(|_| "tidings".into());
    say!("\nBy hand (tidings is {}):", program.display());
    if keep {
        let dir = dir.display();
        let bob = cast.globex.id.to_text();
        say!(
            "  tidings inbox --home {dir}/bob --follow\n  \
             tidings send --home {dir}/alice bob@{bob} 'hello by hand' --wait delivered\n  \
             tidings admin peers --data {dir}/acme\n  \
             tidings admin status --data {dir}/globex"
        );
    } else {
        say!(
            "  tidings demo --keep     leaves the nodes running and shows how to speak to them\n\
             and from nothing, as README walks it:\n  \
             tidings init acme; echo 'allow_private_addresses = true' >> acme/node.toml\n  \
             tidings node --data acme &\n  \
             tidings admin status --data acme     shows where peers reach it\n  \
             tidings init globex     with other ports and that address in globex/node.toml:\n    \
             listen_peers = [\"/ip4/127.0.0.1/udp/7500/quic-v1\", \"/ip4/127.0.0.1/tcp/7500\"]\n    \
             listen_clients = \"127.0.0.1:7501\"\n    \
             listen_admin = \"127.0.0.1:7502\"\n    \
             allow_private_addresses = true\n    \
             bootstrap = [\"<an address of acme, /p2p/ included>\"]\n  \
             tidings node --data globex &\n  \
             tidings join \"$(tidings invite --data acme)\" --name alice --home alice\n  \
             tidings join \"$(tidings invite --data globex)\" --name bob --home bob\n  \
             tidings send bob@<node id of globex> 'hello bob' --home alice\n  \
             tidings inbox --home bob\n  \
             tidings status <message id> --home alice"
        );
    }
}
