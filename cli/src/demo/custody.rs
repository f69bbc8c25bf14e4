//! A whole node is away: a custodian holds its mail, also a stranger's, hands it over when it returns,
//! though the sender's node is away by then, and the ticks find their way back. And a custodian that has
//! lost what it signed for is found out. Each step fails when what must follow does not.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use tidings_client::event::{MessageRef, Status};
use tidings_node::clock::{self, Stopwatch};
use tidings_protocol::statement::Claim;

use super::{
    person::{Person, tick},
    proof,
    story::step,
};
use crate::server::Server;

/// Messages while globex is away.
const AWAY: usize = 5;

/// The three nodes and the people.
struct Cast {
    initech: Server,
    globex: Server,
    acme: Server,
    alice: Person,
    bob: Person,
    /// To whom nobody has written.
    dora: Person,
}

/// Tells the story.
pub(super) async fn tell(dir: &Path) -> anyhow::Result<()> {
    let mut cast = gather(dir).await?;
    let held = cast.held().await?;
    cast.handed_over(&held).await?;
    let first = held.first().context("nothing was sent")?;
    cast.proved(first).await?;
    cast.lost(dir).await?;
    say!("\nEverything was as told.");
    let Cast { mut initech, mut globex, mut acme, mut alice, mut bob, mut dora } = cast;
    for person in [&mut alice, &mut bob, &mut dora] {
        person.leave().await?;
    }
    for server in [&mut acme, &mut globex, &mut initech] {
        server.stop().await?;
    }
    Ok(())
}

async fn gather(dir: &Path) -> anyhow::Result<Cast> {
    step("Three nodes; initech is globex's custodian");
    let mut initech = Server::make(dir, "initech", "")?;
    let mut globex = Server::make(dir, "globex", "")?;
    let mut acme = Server::make(dir, "acme", "")?;
    // The agreement has two halves: initech consents, and globex names it.
    initech.configure(&format!("custody = [\"{} 1000 16 7\"]", globex.id.to_text()))?;
    globex.configure(&format!("custodians = [\"{}\"]", initech.id.to_text()))?;
    initech.start().await?;
    let bootstrap = format!("bootstrap = [\"{}\"]", initech.address().await?);
    for server in [&mut acme, &mut globex] {
        server.configure(&bootstrap)?;
        server.start().await?;
    }
    say!("initech consents to hold 1000 envelopes, 16 MiB, for 7 days");
    say!("globex  names initech in its delegation, signed by its root key");
    let mut alice = Person::join("alice", &acme, acme.invite(1).await?, dir.join("alice")).await?;
    let mut bob = Person::join("bob", &globex, globex.invite(1).await?, dir.join("bob")).await?;
    let dora = Person::join("dora", &globex, globex.invite(1).await?, dir.join("dora")).await?;
    let hello = alice.write(&bob.peer.clone(), &["hello bob".to_owned()]).await?;
    alice.until_status(&hello, Status::Delivered).await?;
    bob.until_shown(1).await?;
    globex.until_agreed(initech.id).await?;
    initech.until_users(2).await?;
    say!("alice at acme has written to bob at globex: {}", tick(Status::Delivered));
    say!(
        "globex has left with initech who its users are: bob, and dora, to whom nobody has written"
    );
    Ok(Cast { initech, globex, acme, alice, bob, dora })
}

fn texts() -> Vec<String> {
    (1..=AWAY).map(|number| format!("held {number}")).collect()
}

impl Cast {
    async fn held(&mut self) -> anyhow::Result<Vec<MessageRef>> {
        let Self { globex, alice, bob, dora, .. } = self;
        step("globex is gone (kill -9), and alice goes on writing");
        globex.kill().await?;
        let watch = Stopwatch::start();
        let held = alice.write(&bob.peer, &texts()).await?;
        alice.until_status(&held, Status::Held).await?;
        say!(
            "{AWAY} messages {} after {:.1} s: acme tried three times, then handed them over",
            tick(Status::Held),
            watch.elapsed().as_secs_f64()
        );
        let first = held.first().context("nothing was sent")?;
        say!("held by initech for {} days more, it signs", days_held(alice, first).await?);
        let watch = Stopwatch::start();
        let stranger = alice.write(&dora.peer, &["hello dora".to_owned()]).await?;
        alice.until_status(&stranger, Status::Held).await?;
        say!(
            "her first message to dora {} after {:.1} s: initech knew dora's devices, by globex's word",
            tick(Status::Held),
            watch.elapsed().as_secs_f64()
        );
        say!("(initech sees neither whose devices they are for, nor what is in them)");
        Ok(held.into_iter().chain(stranger).collect())
    }

    async fn handed_over(&mut self, held: &[MessageRef]) -> anyhow::Result<()> {
        let Self { globex, acme, alice, bob, dora, .. } = self;
        step("acme is stopped as well, and globex returns");
        acme.stop().await?;
        let watch = Stopwatch::start();
        globex.start().await?;
        bob.until_shown(1 + AWAY).await?;
        dora.until_shown(1).await?;
        let shown = bob.shown.iter().skip(1).map(|message| message.text.clone());
        ensure!(shown.eq(texts()), "bob was shown {:?}", bob.shown);
        say!(
            "bob has all {AWAY} from initech, in order, and dora has hers, {:.1} s after globex was \
             started; acme is still away",
            watch.elapsed().as_secs_f64()
        );

        step("acme returns, and the ticks with it");
        acme.start().await?;
        alice.until_status(held, Status::Delivered).await?;
        say!("{} messages {}", held.len(), tick(Status::Delivered));
        alice.watch(Duration::from_millis(500)).await?;
        ensure!(bob.shown.len() == 1 + AWAY, "bob was shown something twice: {:?}", bob.shown);
        Ok(())
    }

    async fn proved(&self, message: &MessageRef) -> anyhow::Result<()> {
        step("The chain is verified, offline, and a forged receipt is refused");
        let Self { initech, globex, acme, alice, bob, .. } = self;
        let proved = proof::show(alice, message, &[acme, globex, initech]).await?;
        let has = |claim| proved.iter().any(|(statement, _)| statement.claim == claim);
        ensure!(
            has(Claim::Accepted) && has(Claim::Custody),
            "acceptance and custody are not proved"
        );
        ensure!(
            proof::by_device(&proved, bob, &[Claim::Delivered]) > 0,
            "bob's device has not proved that it has the message"
        );
        Ok(())
    }

    async fn lost(&mut self, dir: &Path) -> anyhow::Result<()> {
        let Self { initech, globex, acme, alice, bob, .. } = self;
        step("initech loses a message for which it had signed");
        let copy = dir.join("initech.copy");
        let before = bob.shown.len();
        globex.kill().await?;
        let kept = alice.write(&bob.peer, &["kept".to_owned()]).await?;
        alice.until_status(&kept, Status::Held).await?;
        initech.stop().await?;
        initech.copy_to(&copy)?;
        initech.start().await?;
        let lost = alice.write(&bob.peer, &["lost".to_owned()]).await?;
        alice.until_status(&lost, Status::Held).await?;
        acme.stop().await?;
        initech.stop().await?;
        initech.put_back(&copy)?;
        initech.start().await?;
        say!("an older copy of initech's folder was put back, while acme and globex were away");
        let message = lost.first().context("nothing was sent")?.msg.to_string();
        alice.leave().await?;
        let trace = trace(&dir.join("alice"), &message).await?;
        alice.come_back()?;
        ensure!(trace.contains(&initech.id.to_text()), "trace does not name initech: {trace}");
        say!("tidings trace names who provably had it last:\n{}", trace.trim_end());
        globex.start().await?;
        bob.until_shown(before + 1).await?;
        say!("globex is back: initech hands over what it still has, and nothing else");
        let watch = Stopwatch::start();
        acme.start().await?;
        bob.until_shown(before + 2).await?;
        alice.until_status(&lost, Status::Delivered).await?;
        say!(
            "acme is back, asks globex what it has, misses one, and sends it: {} after {:.1} s",
            tick(Status::Delivered),
            watch.elapsed().as_secs_f64()
        );
        Ok(())
    }
}

/// What `tidings trace` says of a message.
async fn trace(home: &Path, message: &str) -> anyhow::Result<String> {
    let program = std::env::current_exe().context("looking for the path of this program")?;
    let said = tokio::process::Command::new(program)
        .args(["trace", message, "--home"])
        .arg(home)
        .output()
        .await
        .context("running tidings trace")?;
    ensure!(said.status.success(), "tidings trace: {}", String::from_utf8_lossy(&said.stderr));
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

/// How many days a message is held, by the custodian's word.
async fn days_held(alice: &Person, message: &MessageRef) -> anyhow::Result<u64> {
    const DAY_MS: u64 = 24 * 3600 * 1000;
    let evidence = alice.evidence(message).await?;
    let checked = evidence.proofs.iter().filter_map(|proof| proof.check().ok());
    let statements = checked.flat_map(|checked| checked.statements);
    let until_ms = statements.filter_map(|(statement, _)| statement.until_ms).max();
    let left_ms = until_ms.context("nobody says that he holds it")?.saturating_sub(clock::now_ms());
    Ok(left_ms.div_ceil(DAY_MS))
}
