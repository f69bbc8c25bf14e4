//! What a node or a device claims about an envelope, and the proof that it claimed it.
//!
//! Statements of one commit and link are the salted leaves of one Merkle tree; its root is signed
//! once. Each statement travels with its path and so verifies alone. A statement begets none.

use std::collections::BTreeMap;

use bytes::Bytes;
use thiserror::Error;

use crate::{
    codec::{self, DecodeError, wire_code, wire_struct},
    id::{BootId, CopyId, DeviceId, Eid, Hash, NodeId, hash},
    key::{BadSignature, PublicKey, Purpose, SecretKey, Signature},
    limits::STATEMENTS_PER_BATCH_MAX,
    merkle,
};

wire_code! {
    /// What a statement claims.
    pub enum Claim {
        /// The sender's node has the envelope and all its siblings on disk: ✓.
        1 => Accepted,
        /// A custodian has it on disk until the time in `until_ms`.
        2 => Custody,
        /// The recipient's node has it on disk, in the inbox of every target.
        3 => AtDest,
        /// The recipient's device has the copy on disk: ✓✓. Signed by that device.
        4 => Delivered,
        /// It will not be delivered, for the reason given. Signed by the recipient's node.
        5 => Failed,
        /// Drop your copy, nothing more comes. Never a tick. Signed by the recipient's node.
        6 => Closed,
        /// The recipient's device has the copy but cannot open it. Signed by that device.
        7 => Undecryptable,
        /// The recipient's device displayed it: blue ✓✓. Travels inside the encryption.
        8 => Read,
    }
}

wire_code! {
    /// Why something failed or ended. Shown to the sender, counted, and kept in dead letters.
    pub enum Reason {
        /// Its time to live ran out.
        1 => Expired,
        /// The destination has no such user or device.
        2 => UnknownRecipient,
        /// The device was removed from its account.
        3 => DeviceRemoved,
        /// The destination's policy refuses this origin, or the own node's that destination.
        4 => Policy,
        /// It is larger than the destination takes.
        5 => TooLarge,
        /// The envelope broke a rule that retrying cannot mend.
        6 => Malformed,
        /// The account was deleted.
        7 => AccountDeleted,
        /// An administrator dropped it.
        8 => Dropped,
        /// The device set it aside after too many pushes without an answer.
        9 => Poison,
        /// The destination's node is gone for good.
        10 => Retired,
    }
}

impl Claim {
    /// True when only a device may claim it.
    #[must_use]
    pub const fn is_by_device(self) -> bool {
        match self {
            Self::Delivered | Self::Undecryptable | Self::Read => true,
            Self::Accepted | Self::Custody | Self::AtDest | Self::Failed | Self::Closed => false,
        }
    }

    /// True when the claim ends the duty of the sender's node for the copy or envelope it names.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Delivered | Self::Undecryptable | Self::Failed | Self::Closed => true,
            Self::Accepted | Self::Custody | Self::AtDest | Self::Read => false,
        }
    }
}

wire_struct! {
    /// One claim about one envelope or one copy of it.
    pub struct Statement {
        /// What is claimed.
        0 => claim: Claim,
        /// The envelope.
        1 => eid: Eid,
        /// The copy; absent when the claim is about every copy of the envelope.
        2 => copy: Option<CopyId>,
        /// When, in Unix ms by the signer's clock.
        3 => at_ms: u64,
        /// Why; with `Failed`, and optionally with `Closed`.
        4 => reason: Option<Reason>,
        /// Until when, in Unix ms; with `Custody`.
        5 => until_ms: Option<u64>,
    }
}

wire_struct! {
    /// Who signed a batch. A node when `node` is there, else the device whose key it is.
    pub struct Signer {
        /// The operational key of the node, or the signing key of the device.
        0 => key: PublicKey,
        /// The node that speaks.
        1 => node: Option<NodeId>,
        /// Serial of the delegation that names the key, or version of the device list.
        2 => version: u64,
    }
}

wire_struct! {
    /// The root that is signed for a batch of statements.
    pub struct BatchRoot {
        /// Who signs.
        0 => signer: Signer,
        /// The signer's store: redrawn whenever it was rolled back.
        1 => incarnation: u64,
        /// The boot of the signer's store.
        2 => boot: BootId,
        /// How many statements the tree has.
        3 => size: u32,
        /// The root hash.
        4 => root: Hash,
    }
}

wire_struct! {
    /// A statement with its place in a signed tree.
    pub struct Leaf {
        /// The statement, in canonical form.
        0 => statement: Bytes as Statement,
        /// The salt of the leaf.
        1 => salt: LeafSalt,
        /// Which leaf it is, from 0.
        2 => index: u32,
        /// The hashes beside the way to the root, nearest first.
        3 => path: Vec<Hash>,
    }
}

codec::wire_bytes! {
    /// The salt of one leaf.
    pub struct LeafSalt([u8; 16]);
}

wire_struct! {
    /// Some statements of one signed tree. One statement alone is a batch with one leaf.
    pub struct Proof {
        /// The signed root, in canonical form.
        0 => root: Bytes as BatchRoot,
        /// The signature over it.
        1 => signature: Signature,
        /// The statements.
        2 => leaves: Vec<Leaf>,
    }
}

/// What a checked proof says: the root, and each statement together with a proof of it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The signed root.
    pub root: BatchRoot,
    /// The statements, each proved by the root.
    pub statements: Vec<(Statement, Proof)>,
}

/// Why a proof was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// Root or statement is no canonical value.
    #[error("reading a proof")]
    Decode(#[from] DecodeError),
    /// The root is signed by another key, or changed.
    #[error("checking the signature of a proof")]
    Signature(#[from] BadSignature),
    /// A statement with its path does not lead to the signed root.
    #[error("statement {index} does not lead to the signed root")]
    Path {
        /// Index of the leaf.
        index: u32,
    },
    /// A node claims what only a device may claim, or the reverse.
    #[error("{claim:?} may not be claimed by this kind of signer")]
    WrongSigner {
        /// The claim.
        claim: Claim,
    },
    /// A proof without statements, or a tree with more of them than one may have.
    #[error("a proof carries 1 to {STATEMENTS_PER_BATCH_MAX} statements")]
    Size,
}

impl Signer {
    /// The device that signs, unless a node does.
    #[must_use]
    pub fn device(&self) -> Option<DeviceId> {
        self.node.is_none().then(|| DeviceId::of(&self.key))
    }

    const fn purpose(&self) -> Purpose {
        if self.node.is_some() { Purpose::NodeStatements } else { Purpose::DeviceStatements }
    }
}

/// What a signer says about itself in every root of a boot.
#[derive(Clone, Debug)]
pub struct Stance {
    /// Who signs.
    pub signer: Signer,
    /// Incarnation of the signer's store.
    pub incarnation: u64,
    /// Boot of the signer's store.
    pub boot: BootId,
}

impl Proof {
    /// Signs statements as one tree. `salt_seed` must be fresh for each batch. `None` for none.
    /// Give it at most [`STATEMENTS_PER_BATCH_MAX`]: nobody accepts a larger tree.
    #[must_use]
    pub fn sign(
        statements: &[Statement],
        stance: &Stance,
        salt_seed: &[u8; 32],
        key: &SecretKey,
    ) -> Option<Self> {
        let mut leaves = Vec::with_capacity(statements.len());
        let mut hashes = Vec::with_capacity(statements.len());
        for (index, statement) in (0u32..).zip(statements) {
            let bytes = codec::encode(statement);
            let salt = LeafSalt(first_half(hash("leaf salt", &[salt_seed, &index.to_be_bytes()])));
            hashes.push(merkle::leaf_hash(&salt.0, &bytes));
            leaves.push(Leaf { statement: bytes.into(), salt, index, path: Vec::new() });
        }
        let (root, paths) = merkle::root_and_paths(&hashes)?;
        for (leaf, path) in leaves.iter_mut().zip(paths) {
            leaf.path = path;
        }
        let root = codec::encode(&BatchRoot {
            signer: stance.signer.clone(),
            incarnation: stance.incarnation,
            boot: stance.boot,
            size: u32::try_from(leaves.len()).ok()?,
            root,
        });
        let signature = key.sign(stance.signer.purpose(), &root);
        Some(Self { root: root.into(), signature, leaves })
    }

    /// Checks signature and paths; pure, for worker tasks. Whether the key is the one that the
    /// signer's delegation or device list names remains for the caller to check.
    ///
    /// # Errors
    /// [`ProofError`]; nothing of a proof that fails may be believed.
    pub fn check(&self) -> Result<Checked, ProofError> {
        if self.leaves.is_empty() || self.leaves.len() > STATEMENTS_PER_BATCH_MAX {
            return Err(ProofError::Size);
        }
        let root: BatchRoot = codec::decode_canonical(&self.root)?;
        // A larger tree would let a peer make every path, and so every stored proof, longer.
        if usize::try_from(root.size).map_or(true, |size| size > STATEMENTS_PER_BATCH_MAX) {
            return Err(ProofError::Size);
        }
        root.signer.key.verify(root.signer.purpose(), &self.root, &self.signature)?;
        let mut statements = Vec::with_capacity(self.leaves.len());
        for leaf in &self.leaves {
            let reached = merkle::root_of_path(
                merkle::leaf_hash(&leaf.salt.0, &leaf.statement),
                leaf.index,
                root.size,
                &leaf.path,
            );
            if reached != Some(root.root) {
                return Err(ProofError::Path { index: leaf.index });
            }
            let statement: Statement = codec::decode_canonical(&leaf.statement)?;
            if statement.claim.is_by_device() == root.signer.node.is_some() {
                return Err(ProofError::WrongSigner { claim: statement.claim });
            }
            statements.push((statement, self.alone(leaf)));
        }
        Ok(Checked { root, statements })
    }

    /// The node that the root names, before anything is checked; `None` for a device's.
    #[must_use]
    pub fn claimed_node(&self) -> Option<NodeId> {
        codec::decode::<BatchRoot>(&self.root).ok()?.signer.node
    }

    fn alone(&self, leaf: &Leaf) -> Self {
        Self { root: self.root.clone(), signature: self.signature, leaves: vec![leaf.clone()] }
    }

    /// Gathers proofs that share a signed root, so that it travels, and is checked, once.
    #[must_use]
    pub fn merge(proofs: Vec<Self>) -> Vec<Self> {
        let mut merged: Vec<Self> = Vec::new();
        let mut places = BTreeMap::new();
        for proof in proofs {
            let place = *places
                .entry((proof.signature.0, proof.root.clone()))
                .or_insert_with(|| merged.len());
            match merged.get_mut(place) {
                Some(known) => known.leaves.extend(proof.leaves),
                None => merged.push(proof),
            }
        }
        merged
    }
}

fn first_half(hash: Hash) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(hash.0) {
        *to = from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Claim, Proof, ProofError, Signer, Stance, Statement};
    use crate::id::{BootId, CopyId, Eid};
    use crate::key::SecretKey;

    fn delivered(n: u8) -> Statement {
        Statement {
            claim: Claim::Delivered,
            eid: Eid([n; 24]),
            copy: Some(CopyId([n; 32])),
            at_ms: 1_000,
            reason: None,
            until_ms: None,
        }
    }

    fn signed(count: u8) -> Proof {
        let key = SecretKey::from_seed(&[1; 32]);
        let signer = Signer { key: key.public(), node: None, version: 0 };
        let stance = Stance { signer, incarnation: 7, boot: BootId([2; 16]) };
        let statements: Vec<_> = (0..count).map(delivered).collect();
        Proof::sign(&statements, &stance, &[3; 32], &key).unwrap()
    }

    #[test]
    fn each_statement_of_a_batch_verifies_alone_and_together() {
        let proof = signed(5);
        let checked = proof.check().unwrap();
        assert_eq!(checked.statements.len(), 5);
        let alone: Vec<_> = checked.statements.iter().map(|(_, alone)| alone.clone()).collect();
        for (n, one) in (0..).zip(&alone) {
            assert_eq!(one.check().unwrap().statements[0].0, delivered(n));
        }
        assert_eq!(Proof::merge(alone), vec![proof]);
    }

    #[test]
    fn a_forged_statement_is_refused() {
        let mut proof = signed(3);
        let other = crate::codec::encode(&delivered(9));
        proof.leaves[1].statement = other.into();
        assert_eq!(proof.check(), Err(ProofError::Path { index: 1 }));
        let mut proof = signed(3);
        proof.signature.0[5] ^= 1;
        assert!(matches!(proof.check(), Err(ProofError::Signature(_))));
    }

    #[test]
    fn a_node_may_not_claim_a_delivery() {
        let key = SecretKey::from_seed(&[1; 32]);
        let node = Some(crate::id::NodeId([8; 32]));
        let signer = Signer { key: key.public(), node, version: 0 };
        let stance = Stance { signer, incarnation: 7, boot: BootId([2; 16]) };
        let proof = Proof::sign(&[delivered(1)], &stance, &[3; 32], &key).unwrap();
        assert_eq!(proof.check(), Err(ProofError::WrongSigner { claim: Claim::Delivered }));
    }

    #[test]
    fn the_largest_batch_is_taken_and_a_larger_tree_is_not() {
        let key = SecretKey::from_seed(&[1; 32]);
        let signer = Signer { key: key.public(), node: None, version: 0 };
        let stance = Stance { signer, incarnation: 7, boot: BootId([2; 16]) };
        let max = crate::limits::STATEMENTS_PER_BATCH_MAX;
        let largest = Proof::sign(&vec![delivered(1); max], &stance, &[3; 32], &key).unwrap();
        assert_eq!(largest.check().unwrap().statements.len(), max);
        assert!(largest.leaves.iter().all(|leaf| leaf.path.len() < 12));
        let mut larger =
            Proof::sign(&vec![delivered(1); max + 1], &stance, &[3; 32], &key).unwrap();
        larger.leaves.truncate(1);
        assert_eq!(larger.check(), Err(ProofError::Size));
        assert_eq!(Proof::sign(&[], &stance, &[3; 32], &key), None);
    }
}
