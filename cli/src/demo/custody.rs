//! A whole node is away: a custodian holds its mail, hands it over when it returns, though the
//! sender's node is away by then, and the ticks find their way back. Each step fails when what must
//! follow does not.

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

/// Tells the story.
pub(super) async fn tell(dir: &Path) -> anyhow::Result<()> {
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
    let to = bob.peer.clone();
    let hello = alice.write(&to, &["hello bob".to_owned()]).await?;
    alice.until_status(&hello, Status::Delivered).await?;
    bob.until_shown(1).await?;
    globex.until_agreed(initech.id).await?;
    say!("alice at acme has written to bob at globex: {}", tick(Status::Delivered));

    step("globex is gone (kill -9), and alice goes on writing");
    globex.kill().await?;
    let texts: Vec<String> = (1..=AWAY).map(|number| format!("held {number}")).collect();
    let watch = Stopwatch::start();
    let held = alice.write(&to, &texts).await?;
    alice.until_status(&held, Status::Held).await?;
    say!(
        "{AWAY} messages {} after {:.1} s: acme tried three times, then handed them over",
        tick(Status::Held),
        watch.elapsed().as_secs_f64()
    );
    let first = held.first().context("nothing was sent")?.clone();
    say!("held by initech for {} days more, it signs", days_held(&alice, &first).await?);

    step("acme is stopped as well, and globex returns");
    acme.stop().await?;
    let watch = Stopwatch::start();
    globex.start().await?;
    bob.until_shown(1 + AWAY).await?;
    let shown = bob.shown.iter().skip(1).map(|message| message.text.clone());
    ensure!(shown.eq(texts), "bob was shown {:?}", bob.shown);
    say!(
        "bob has all {AWAY} from initech, in order, {:.1} s after globex was started; acme is still away",
        watch.elapsed().as_secs_f64()
    );

    step("acme returns, and the ticks with it");
    acme.start().await?;
    alice.until_status(&held, Status::Delivered).await?;
    say!("{AWAY} messages {}", tick(Status::Delivered));
    alice.watch(Duration::from_millis(500)).await?;
    ensure!(bob.shown.len() == 1 + AWAY, "bob was shown something twice: {:?}", bob.shown);

    step("The chain is verified, offline, and a forged receipt is refused");
    let proved = proof::show(&alice, &first, &[&acme, &globex, &initech]).await?;
    let has = |claim| proved.iter().any(|(statement, _)| statement.claim == claim);
    ensure!(has(Claim::Accepted) && has(Claim::Custody), "acceptance and custody are not proved");
    ensure!(
        proof::by_device(&proved, &bob, &[Claim::Delivered]) > 0,
        "bob's device has not proved that it has the message"
    );
    say!("\nEverything was as told.");
    alice.leave().await?;
    bob.leave().await?;
    for server in [&mut acme, &mut globex, &mut initech] {
        server.stop().await?;
    }
    Ok(())
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
