//! What proves a message: every statement checked offline, and a forged one refused.

use anyhow::{Context as _, bail, ensure};
use tidings_client::event::MessageRef;
use tidings_protocol::{
    evidence::{ProvedSigner, TrustRoots, verify},
    statement::{Claim, Statement},
};

use super::person::Person;
use crate::server::Server;

/// A statement that is proved, and by whom.
pub(super) type Proved = (Statement, ProvedSigner);

/// Prints who has proved what of an own message, trusting these nodes, and tries a forgery.
pub(super) async fn show(
    owner: &Person,
    message: &MessageRef,
    servers: &[&Server],
) -> anyhow::Result<Vec<Proved>> {
    let mut evidence = owner.evidence(message).await?;
    let nodes = servers.iter().map(|server| server.id).collect();
    let roots = TrustRoots { nodes, accounts: owner.account_keys().await? };
    let mut all = Vec::new();
    for finding in verify(&evidence, &roots) {
        let claim = finding.statement.as_ref().map_or("a statement", |said| said.claim.name());
        match &finding.verdict {
            Ok(ProvedSigner::Device { name, .. }) => {
                say!("{claim:<10} proved: signed by a device of {name}");
            }
            Ok(ProvedSigner::Node(node)) => {
                let server = servers.iter().find(|server| server.id == *node);
                say!("{claim:<10} proved: signed by {}", server.map_or("a node", |s| s.name));
            }
            Err(doubt) => {
                say!("{claim:<10} not proved: {doubt}");
                bail!("a statement of the evidence is not proved");
            }
        }
        if let (Some(statement), Ok(signer)) = (finding.statement, finding.verdict) {
            all.push((statement, signer));
        }
    }
    let proof = evidence.proofs.iter_mut().last().context("there is no proof")?;
    let leaf = proof.leaves.first_mut().context("there is no statement")?;
    let mut bytes = leaf.statement.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    leaf.statement = bytes.into();
    // All were proved before.
    let is_refused = verify(&evidence, &roots).iter().any(|finding| finding.verdict.is_err());
    ensure!(is_refused, "a forged receipt was believed");
    say!("one bit of a receipt changed: refused");
    Ok(all)
}

/// How many of the statements are of this kind and by a device of somebody.
pub(super) fn by_device(proved: &[Proved], of: &Person, claims: &[Claim]) -> usize {
    let is_theirs = |(statement, signer): &&Proved| {
        claims.contains(&statement.claim)
            && matches!(signer, ProvedSigner::Device { name, .. } if *name == of.peer.name)
    };
    proved.iter().filter(is_theirs).count()
}
