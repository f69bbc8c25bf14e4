//! What a person can show to others about a message: statements with their paths, the delegations and
//! device lists that name the keys, and the check of it all, offline, with public keys alone.
//!
//! It proves who held which ciphertext and when he claimed so; not who wrote it, nor what it says.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{
    address::UserName,
    codec::wire_struct,
    descriptor::Delegation,
    device_list::{CheckedList, DeviceList},
    id::{AccountId, DeviceId, MsgId, NodeId},
    key::PublicKey,
    signed::Signed,
    statement::{BatchRoot, Proof, Statement},
};

/// Version of the bundle.
pub const EVIDENCE_VERSION: u8 = 1;

wire_struct! {
    /// The bundle that `tidings export` writes and `tidings verify` reads.
    pub struct Evidence {
        /// [`EVIDENCE_VERSION`].
        0 => version: u8,
        /// The message, as the exporter calls it. Nothing here proves it.
        1 => message: MsgId,
        /// Statements, those of one signed root together.
        2 => proofs: Vec<Proof>,
        /// Who may sign for which node.
        3 => delegations: Vec<Signed<Delegation>>,
        /// Segments of device lists, each in ascending order of version.
        4 => lists: Vec<Signed<DeviceList>>,
    }
}

/// Whom the reader trusts to be who they are: compared by other means than this bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustRoots {
    /// Nodes, which are their root keys.
    pub nodes: Vec<NodeId>,
    /// Account identity keys.
    pub accounts: Vec<PublicKey>,
}

/// Who signed a statement, once it is certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvedSigner {
    /// A node, by an operational key that its root key appointed.
    Node(NodeId),
    /// A device, by a key in a list that its account signed.
    Device {
        /// The device.
        device: DeviceId,
        /// Its account.
        account: AccountId,
        /// Where the account lives.
        node: NodeId,
        /// Its name there.
        name: UserName,
    },
}

/// Why a statement proves nothing to this reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Doubt {
    /// Signature or path do not hold: forged or damaged.
    #[error("its signature or its place under the signature does not hold")]
    Broken,
    /// The node is none of the trusted ones.
    #[error("it is signed for a node that you did not name as trusted")]
    UnknownNode,
    /// No delegation by the node's root key names the signing key.
    #[error("nothing here shows that the node's root key appointed the key that signed it")]
    NoDelegation,
    /// The delegation had run out when the statement was made.
    #[error("the key that signed it had run out by then")]
    DelegationOver,
    /// No list of a trusted account names the device.
    #[error("it is signed by a device that is in no list of an account that you trust")]
    UnknownDevice,
}

/// What one statement is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The statement; absent when it cannot be read.
    pub statement: Option<Statement>,
    /// Who proved to have made it, or why that is open.
    pub verdict: Result<ProvedSigner, Doubt>,
}

/// A part of a bundle that no proved statement rests on: damaged, or put there for another purpose. A
/// bundle whose every byte is to count has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdlePart {
    /// A delegation, by its place.
    #[error("delegation {0} supports no proved statement: it was changed, or does not belong here")]
    Delegation(usize),
    /// A device list, by its place.
    #[error(
        "device list {0} supports no proved statement: it was changed, or does not belong here"
    )]
    List(usize),
}

struct Known {
    delegations: Vec<Delegation>,
    devices: BTreeMap<DeviceId, ProvedSigner>,
}

/// Checks a bundle against trusted roots. Pure; asks nobody. One finding for each statement, in the
/// order of the bundle.
#[must_use]
pub fn verify(evidence: &Evidence, roots: &TrustRoots) -> Vec<Finding> {
    let known = Known {
        delegations: trusted_delegations(evidence, roots),
        devices: trusted_devices(evidence, roots),
    };
    let mut findings = Vec::new();
    for proof in &evidence.proofs {
        let Ok(checked) = proof.check() else {
            let broken = Finding { statement: None, verdict: Err(Doubt::Broken) };
            findings.extend(proof.leaves.iter().map(|_| broken.clone()));
            continue;
        };
        for (statement, _) in checked.statements {
            let verdict = known.judge(&checked.root, &statement, roots);
            findings.push(Finding { statement: Some(statement), verdict });
        }
    }
    findings
}

/// The parts of a bundle that no proved statement rests on, in the order of the bundle.
#[must_use]
pub fn idle_parts(evidence: &Evidence, roots: &TrustRoots) -> Vec<IdlePart> {
    let known = Known {
        delegations: trusted_delegations(evidence, roots),
        devices: trusted_devices(evidence, roots),
    };
    let mut keys = Vec::new();
    let mut accounts = Vec::new();
    for checked in evidence.proofs.iter().filter_map(|proof| proof.check().ok()) {
        for (statement, _) in &checked.statements {
            match known.judge(&checked.root, statement, roots) {
                Ok(ProvedSigner::Node(node)) => keys.push((node, checked.root.signer.key)),
                Ok(ProvedSigner::Device { account, .. }) => accounts.push(account),
                Err(_) => {}
            }
        }
    }
    let delegations = evidence.delegations.iter().enumerate().filter(|(_, signed)| {
        let opened = open_delegation(signed, roots);
        !opened.is_some_and(|it| keys.contains(&(it.node, it.operational)))
    });
    let lists = trusted_lists(evidence, roots)
        .into_iter()
        .enumerate()
        .filter(|(_, list)| !list.as_ref().is_some_and(|list| accounts.contains(&list.account())));
    delegations
        .map(|(place, _)| IdlePart::Delegation(place))
        .chain(lists.map(|(place, _)| IdlePart::List(place)))
        .collect()
}

impl Known {
    fn judge(
        &self,
        root: &BatchRoot,
        statement: &Statement,
        roots: &TrustRoots,
    ) -> Result<ProvedSigner, Doubt> {
        let Some(node) = root.signer.node else {
            let device = DeviceId::of(&root.signer.key);
            return self.devices.get(&device).cloned().ok_or(Doubt::UnknownDevice);
        };
        if !roots.nodes.contains(&node) {
            return Err(Doubt::UnknownNode);
        }
        let mut named = self
            .delegations
            .iter()
            .filter(|d| d.node == node && d.operational == root.signer.key)
            .peekable();
        if named.peek().is_none() {
            return Err(Doubt::NoDelegation);
        }
        if named.any(|delegation| delegation.not_after_ms > statement.at_ms) {
            Ok(ProvedSigner::Node(node))
        } else {
            Err(Doubt::DelegationOver)
        }
    }
}

fn trusted_delegations(evidence: &Evidence, roots: &TrustRoots) -> Vec<Delegation> {
    evidence.delegations.iter().filter_map(|signed| open_delegation(signed, roots)).collect()
}

fn open_delegation(signed: &Signed<Delegation>, roots: &TrustRoots) -> Option<Delegation> {
    let node = signed.peek().ok()?.node;
    let trusted = roots.nodes.contains(&node);
    trusted.then(|| signed.open(&node.root_key()).ok()).flatten()
}

/// Of each list, what it says if it holds, is of a trusted account, and continues the one before.
fn trusted_lists(evidence: &Evidence, roots: &TrustRoots) -> Vec<Option<CheckedList>> {
    let mut chains: BTreeMap<AccountId, CheckedList> = BTreeMap::new();
    let check = |signed: &Signed<DeviceList>| {
        let list = CheckedList::first_seen(signed).ok()?;
        if !roots.accounts.contains(&list.list.identity) {
            return None;
        }
        let account = list.account();
        // A segment may begin anywhere; from there on each list must continue the one before.
        if let Some(before) = chains.get(&account)
            && before.then(signed).is_err()
        {
            return None;
        }
        chains.insert(account, list.clone());
        Some(list)
    };
    evidence.lists.iter().map(check).collect()
}

fn trusted_devices(evidence: &Evidence, roots: &TrustRoots) -> BTreeMap<DeviceId, ProvedSigner> {
    let mut devices = BTreeMap::new();
    for list in trusted_lists(evidence, roots).into_iter().flatten() {
        for device in &list.list.devices {
            let signer = ProvedSigner::Device {
                device: device.id(),
                account: list.account(),
                node: list.list.node,
                name: list.list.name.clone(),
            };
            devices.entry(device.id()).or_insert(signer);
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::{
        Doubt, EVIDENCE_VERSION, Evidence, IdlePart, ProvedSigner, TrustRoots, idle_parts, verify,
    };
    use crate::{
        address::UserName,
        codec,
        descriptor::Delegation,
        device_list::{Device, DeviceList},
        id::{BootId, CopyId, DeviceId, Eid, MsgId, NodeId},
        key::{SecretKey, X25519Key},
        signed::Signed,
        statement::{Claim, Proof, Signer, Stance, Statement},
    };

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn node() -> NodeId {
        NodeId::of(&key(1).public())
    }

    fn statement(claim: Claim) -> Statement {
        let copy = claim.is_by_device().then_some(CopyId([4; 32]));
        Statement { claim, eid: Eid([3; 24]), copy, at_ms: 50, reason: None, until_ms: None }
    }

    fn proof(claim: Claim, signer: &SecretKey, node: Option<NodeId>) -> Proof {
        let signer_name = Signer { key: signer.public(), node, version: 0 };
        let stance = Stance { signer: signer_name, incarnation: 1, boot: BootId([1; 16]) };
        Proof::sign(&[statement(claim)], &stance, &[5; 32], signer).unwrap()
    }

    fn evidence() -> Evidence {
        let delegation = Delegation {
            node: node(),
            serial: 1,
            operational: key(2).public(),
            sealing: X25519Key([0; 32]),
            custodians: Vec::new(),
            domains: Vec::new(),
            not_after_ms: 100,
        };
        let device = Device {
            key: key(4).public(),
            identity: X25519Key([1; 32]),
            added_ms: 0,
            label: String::new(),
        };
        let list = DeviceList {
            identity: key(3).public(),
            node: node(),
            name: UserName::parse("bob").unwrap(),
            version: 0,
            previous: None,
            devices: vec![device],
            issued_ms: 0,
            signer: None,
        };
        Evidence {
            version: EVIDENCE_VERSION,
            message: MsgId([9; 16]),
            proofs: vec![
                proof(Claim::Accepted, &key(2), Some(node())),
                proof(Claim::Delivered, &key(4), None),
            ],
            delegations: vec![Signed::new(&delegation, &key(1))],
            lists: vec![Signed::new(&list, &key(3))],
        }
    }

    fn roots() -> TrustRoots {
        TrustRoots { nodes: vec![node()], accounts: vec![key(3).public()] }
    }

    fn verdicts(evidence: &Evidence, roots: &TrustRoots) -> Vec<Option<Doubt>> {
        verify(evidence, roots).into_iter().map(|finding| finding.verdict.err()).collect()
    }

    #[test]
    fn acceptance_and_delivery_are_proved_by_two_roots_alone() {
        let bytes = codec::encode(&evidence());
        let evidence: Evidence = codec::decode_canonical(&bytes).unwrap();
        let findings = verify(&evidence, &roots());
        assert_eq!(findings[0].verdict, Ok(ProvedSigner::Node(node())));
        let Ok(ProvedSigner::Device { device, name, .. }) = &findings[1].verdict else {
            panic!("{findings:?}");
        };
        assert_eq!(*device, DeviceId::of(&key(4).public()));
        assert_eq!(name.as_str(), "bob");
    }

    #[test]
    fn without_its_root_a_statement_proves_nothing() {
        let all = evidence();
        let doubts = verdicts(&all, &TrustRoots::default());
        assert_eq!(doubts, [Some(Doubt::UnknownNode), Some(Doubt::UnknownDevice)]);
        let bare = Evidence { delegations: Vec::new(), lists: Vec::new(), ..all };
        let doubts = verdicts(&bare, &roots());
        assert_eq!(doubts, [Some(Doubt::NoDelegation), Some(Doubt::UnknownDevice)]);
    }

    #[test]
    fn forged_and_outdated_evidence_is_told_apart() {
        let mut forged = evidence();
        forged.proofs[1].signature.0[0] ^= 1;
        assert_eq!(verdicts(&forged, &roots()), [None, Some(Doubt::Broken)]);
        // A delegation that the root key did not sign.
        let mut other = evidence();
        let mut delegation = other.delegations[0].peek().unwrap();
        delegation.not_after_ms = 10;
        other.delegations = vec![Signed::new(&delegation, &key(7))];
        assert_eq!(verdicts(&other, &roots()), [Some(Doubt::NoDelegation), None]);
        other.delegations = vec![Signed::new(&delegation, &key(1))];
        assert_eq!(verdicts(&other, &roots()), [Some(Doubt::DelegationOver), None]);
    }

    /// Whether a reader of these bytes would say that all of them are proved.
    fn is_whole(bytes: &[u8]) -> bool {
        codec::decode_canonical::<Evidence>(bytes).is_ok_and(|evidence| {
            verdicts(&evidence, &roots()).iter().all(Option::is_none)
                && idle_parts(&evidence, &roots()).is_empty()
        })
    }

    #[test]
    fn every_changed_byte_is_found_but_those_of_the_label() {
        let whole = evidence();
        let bytes = codec::encode(&whole);
        assert!(is_whole(&bytes));
        let label = bytes.windows(16).position(|part| part == whole.message.0).unwrap();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                let is_label = (label..label + 16).contains(&place);
                let is_version = codec::decode_canonical::<Evidence>(&changed)
                    .is_ok_and(|evidence| evidence.version != EVIDENCE_VERSION);
                assert_eq!(is_whole(&changed), is_label || is_version, "bit {bit} of byte {place}");
            }
        }
    }

    #[test]
    fn what_supports_nothing_is_named() {
        let mut padded = evidence();
        let list = DeviceList { identity: key(8).public(), ..padded.lists[0].peek().unwrap() };
        padded.lists.push(Signed::new(&list, &key(8)));
        padded.delegations.push(padded.delegations[0].clone());
        let delegation = padded.delegations[0].peek().unwrap();
        let other = Delegation { operational: key(9).public(), ..delegation };
        padded.delegations[0] = Signed::new(&other, &key(1));
        assert_eq!(verdicts(&padded, &roots()), [None, None]);
        assert_eq!(idle_parts(&padded, &roots()), [IdlePart::Delegation(0), IdlePart::List(1)]);
    }
}
