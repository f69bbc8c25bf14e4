//! The same flows with the real client: full encryption, a store on disk for each device, every
//! signature checked. Its figures stand apart from those of the load clients.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tidings_client::driver::{Driver, Place, Running, Trust, new_account};
use tidings_client::event::{
    ClientEffect, ClientEvent, MessageRef, Peer, SendText, Settings, Status,
};
use tidings_protocol::address::UserName;
use tidings_protocol::client_frame::InviteSecret;
use tidings_protocol::limits::MESSAGE_LIFE_MS_MAX;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Context;
use super::device::Phase;
use super::ledger::{Ledger, Stage};
use super::report::Report;
use super::run::share;
use super::stage::Meter;
use super::world::{Node, Shape, World};
use crate::server::Server;

/// How long a whole run may take without anything moving.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);
/// Messages of each pair before those that count: the handshake is done then.
const WARM_UP: usize = 3;

/// One run with real clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Real {
    name: &'static str,
    pairs: usize,
    messages: usize,
    window: usize,
}

/// Somebody with a real device.
struct Person {
    peer: Peer,
    running: Running,
    /// What other people it will write to, and which numbers.
    to: Option<(Peer, Range<u64>)>,
}

impl Real {
    pub(super) fn latency(messages: Option<usize>, full: bool) -> Self {
        let messages = messages.unwrap_or(if full { 2_000 } else { 300 });
        Self { name: "latency-real", pairs: 1, messages, window: 1 }
    }

    pub(super) fn throughput(
        messages: Option<usize>,
        full: bool,
        pairs: usize,
        window: usize,
    ) -> Self {
        let messages = messages.unwrap_or(if full { 50_000 } else { 5_000 });
        Self { name: "throughput-real", pairs, messages, window }
    }

    pub(super) async fn run(&self, context: &Context<'_>) -> anyhow::Result<Report> {
        let dir = context.folder(self.name)?;
        let mut world = World::start(&dir, Shape::Federated, "").await?;
        let bobs = people(world.globex()?, &dir, "bob", self.pairs).await?;
        let mut alices = people(world.acme()?, &dir, "alice", self.pairs).await?;
        let peers: Vec<Peer> = bobs.iter().map(|bob| bob.peer.clone()).collect();
        let warm = self.pairs * WARM_UP;
        let assign = |alices: &mut [Person], messages: usize| {
            let ranges = share(messages, self.pairs);
            for ((alice, to), range) in alices.iter_mut().zip(&peers).zip(ranges) {
                alice.to = Some((to.clone(), range));
            }
        };
        assign(&mut alices, warm);
        let (bobs, mut alices, _) =
            play(Arc::new(Ledger::new(0, warm)), bobs, alices, self.window).await?;
        world.settle().await?;
        assign(&mut alices, self.messages);
        let ledger = Arc::new(Ledger::new(1, self.messages));
        let meter = Meter::start(&world).await?;
        let (bobs, alices, ledger) = play(ledger, bobs, alices, self.window).await?;
        world.settle().await?;
        let used = meter.stop(&world).await?;
        let what = format!(
            "{} at acme → {} at globex with full encryption and a store for each; {} texts of 100 \
             bytes, {} of each sender on their way",
            self.pairs, self.pairs, self.messages, self.window
        );
        let report = Report::new(self.name, what, &ledger, &used);
        for person in bobs.into_iter().chain(alices) {
            person.running.stop().await?;
        }
        world.stop().await?;
        Ok(report)
    }
}

async fn people(node: &Node, dir: &Path, name: &str, count: usize) -> anyhow::Result<Vec<Person>> {
    let invite = node.server.invite(u32::try_from(count)?).await?;
    let mut people = Vec::with_capacity(count);
    for number in 0..count {
        people.push(join(&node.server, invite, dir, &format!("{name}{number}")).await?);
    }
    Ok(people)
}

async fn join(
    server: &Server,
    invite: InviteSecret,
    dir: &Path,
    name: &str,
) -> anyhow::Result<Person> {
    let settings = Settings {
        node: server.id,
        name: UserName::parse(name)?,
        read_receipts: false,
        message_life_ms: MESSAGE_LIFE_MS_MAX,
    };
    let peer = Peer { node: server.id, name: settings.name.clone() };
    let identity = new_account(&settings, "bench")?;
    let path = dir.join(format!("{name}.redb"));
    let place = Place { path, store_key: crate::home::draw()?, settings };
    let mut running = Driver::create(&place, &identity)?.start(&server.url, &Trust::default())?;
    running.handle().event(ClientEvent::Join { invite }).await?;
    let linked = async {
        while let Some(effect) = running.effect().await {
            if matches!(effect, ClientEffect::Linked) {
                return Ok(());
            }
        }
        bail!("the device of {name} has ended")
    };
    tokio::time::timeout(PATIENCE, linked).await.context("waiting for an account")??;
    Ok(Person { peer, running, to: None })
}

type Played = (Vec<Person>, Vec<Person>, Arc<Ledger>);

/// Everybody plays; returns when everything is ticked.
async fn play(
    ledger: Arc<Ledger>,
    bobs: Vec<Person>,
    alices: Vec<Person>,
    window: usize,
) -> anyhow::Result<Played> {
    let (phase, _) = watch::channel(Phase::Go);
    let (mut receiving, mut sending) = (JoinSet::new(), JoinSet::new());
    for bob in bobs {
        receiving.spawn(receive(bob, Arc::clone(&ledger), phase.subscribe()));
    }
    for alice in alices {
        sending.spawn(send(alice, Arc::clone(&ledger), window));
    }
    let mut alices = Vec::new();
    let mut bobs = Vec::new();
    let all_sent = async {
        while let Some(alice) = sending.join_next().await {
            alices.push(alice.context("a client has ended")??);
        }
        anyhow::Ok(())
    };
    tokio::select! {
        sent = all_sent => sent?,
        stuck = stands_still(&ledger) => stuck?,
    }
    phase.send_replace(Phase::Stop);
    while let Some(bob) = receiving.join_next().await {
        bobs.push(bob.context("a client has ended")??);
    }
    // They are handed back in the order in which they ended.
    alices.sort_by(|one, other| one.peer.cmp(&other.peer));
    bobs.sort_by(|one, other| one.peer.cmp(&other.peer));
    Ok((bobs, alices, ledger))
}

/// Ends, with an error, when nothing has moved for long.
async fn stands_still(ledger: &Ledger) -> anyhow::Result<()> {
    let (mut before, mut still) = (0, Duration::ZERO);
    while still < PATIENCE {
        let now = ledger.count(Stage::Accepted) + ledger.count(Stage::Ticked);
        still = if now == before { still + LOOK } else { Duration::ZERO };
        before = now;
        tokio::time::sleep(LOOK).await;
    }
    bail!("nothing has moved for {} s: see the nodes' logs", PATIENCE.as_secs())
}

async fn send(mut alice: Person, ledger: Arc<Ledger>, window: usize) -> anyhow::Result<Person> {
    let Some((to, mut numbers)) = alice.to.take() else { return Ok(alice) };
    let handle = alice.running.handle();
    let mut known: BTreeMap<MessageRef, u64> = BTreeMap::new();
    let (mut on_their_way, mut left) = (0, numbers.clone().count());
    while left > 0 {
        while on_their_way < window
            && let Some(number) = numbers.next()
        {
            let text = text_of(ledger.run, number);
            ledger.sent(number);
            on_their_way += 1;
            let send = SendText { to: to.clone(), text, reply_to: None, token: number };
            handle.event(ClientEvent::Send(send)).await?;
        }
        match alice.running.effect().await.context("a device has ended")? {
            ClientEffect::Composed { token, message } => {
                known.insert(message, token);
            }
            ClientEffect::NotComposed { why, .. } => bail!("{why}"),
            ClientEffect::StatusChanged { message, status, .. } => {
                let Some(number) = known.get(&message).copied() else { continue };
                if status.rank() >= Status::Accepted.rank() {
                    ledger.accepted(number);
                }
                if let Status::Failed(_) = status {
                    ledger.failed();
                }
                if status.rank() > Status::AtDest.rank() && known.remove(&message).is_some() {
                    ledger.ticked(number);
                    on_their_way -= 1;
                    left -= 1;
                }
            }
            ClientEffect::Stopped(why) => bail!("{why}"),
            ClientEffect::ToNode { .. }
            | ClientEffect::CloseLink(_)
            | ClientEffect::Linked
            | ClientEffect::Joined
            | ClientEffect::JoinRefused(_)
            | ClientEffect::Resolved { .. }
            | ClientEffect::Show(_)
            | ClientEffect::ReadElsewhere { .. }
            | ClientEffect::Warn(_) => {}
        }
    }
    Ok(alice)
}

async fn receive(
    mut bob: Person,
    ledger: Arc<Ledger>,
    mut phase: watch::Receiver<Phase>,
) -> anyhow::Result<Person> {
    // Whatever is shown a second time has another count, and so is doubled.
    let mut shown = 0;
    loop {
        let effect = tokio::select! {
            effect = bob.running.effect() => effect.context("a device has ended")?,
            _ = phase.wait_for(|phase| *phase == Phase::Stop) => return Ok(bob),
        };
        if let ClientEffect::Show(message) = effect
            && let Some((run, number)) = number_of(&message.text)
            && run == ledger.run
        {
            shown += 1;
            ledger.shown(number, shown);
        }
    }
}

/// A text of 100 bytes that begins with the numbers of the run and of the message.
fn text_of(run: u64, number: u64) -> String {
    format!("{:<100}", format!("{run} {number} is what this text says."))
}

fn number_of(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{number_of, text_of};

    #[test]
    fn a_text_names_its_message() {
        assert_eq!(text_of(1, 42).len(), 100);
        assert_eq!(number_of(&text_of(1, 42)), Some((1, 42)));
        assert_eq!(number_of("hello"), None);
    }
}
