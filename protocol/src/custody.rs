//! What passes through a custodian: its consent, which with the delegation that names it is the
//! agreement, and the proof of origin that goes along with an envelope. Who may appoint whom, and how
//! much is held, is decided in `node/core`.

use thiserror::Error;

use crate::{
    codec::wire_struct,
    descriptor::Delegation,
    id::{Eid, NodeId},
    key::Purpose,
    signed::{OpenSignedError, Sign, Signed},
    statement::{Claim, Proof, ProofError},
};

wire_struct! {
    /// A custodian's half of the agreement, signed by its operational key. The other half is its name
    /// in the delegation of the node. Zero rows take the consent back, for
    /// the users too.
    pub struct Consent {
        /// Who will hold envelopes.
        0 => custodian: NodeId,
        /// For whom.
        1 => node: NodeId,
        /// When it was signed, in Unix ms; the latest counts.
        2 => issued_ms: u64,
        /// Envelopes held at a time.
        3 => rows: u64,
        /// Their bytes.
        4 => bytes: u64,
        /// How long each is held, in ms.
        5 => life_ms: u64,
        /// Users of the node whose device lists and bundles are kept.
        6 => users: u64,
    }
}

impl Sign for Consent {
    const PURPOSE: Purpose = Purpose::Consent;
}

wire_struct! {
    /// Shows that the node in an envelope's header took it from one of its devices.
    pub struct Origin {
        /// The acceptance, signed by the origin's operational key: one statement.
        0 => accepted: Proof,
        /// By which the origin's root key appointed that key.
        1 => delegation: Signed<Delegation>,
    }
}

/// A proof of origin that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedOrigin {
    /// What came.
    pub origin: Origin,
    /// The delegation in it.
    pub delegation: Delegation,
    /// When the origin accepted, in Unix ms by its own clock.
    pub accepted_ms: u64,
}

/// Why a proof of origin was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OriginError {
    /// The proof does not hold.
    #[error("checking the acceptance by the origin")]
    Proof(#[from] ProofError),
    /// The delegation does not hold.
    #[error("checking the delegation of the origin")]
    Delegation(#[from] OpenSignedError),
    /// It is not one acceptance of this envelope.
    #[error("the statement is no acceptance of this envelope")]
    OtherStatement,
    /// Another node, or another key than the one that the delegation names, has signed.
    #[error("another than the origin has signed")]
    OtherSigner,
    /// The delegation had run out when the acceptance was signed.
    #[error("the delegation had run out")]
    Expired,
}

impl Origin {
    /// Checks that `node` has accepted the envelope. Pure. Whether a later delegation has replaced
    /// this one remains for the caller to check.
    ///
    /// # Errors
    /// [`OriginError`].
    pub fn check(&self, node: &NodeId, eid: &Eid) -> Result<CheckedOrigin, OriginError> {
        let delegation = self.delegation.open(&node.root_key())?;
        let checked = self.accepted.check()?;
        let [(statement, _)] = checked.statements.as_slice() else {
            return Err(OriginError::OtherStatement);
        };
        let is_acceptance = statement.claim == Claim::Accepted && statement.copy.is_none();
        if !is_acceptance || statement.eid != *eid {
            return Err(OriginError::OtherStatement);
        }
        let signer = &checked.root.signer;
        let is_origin = signer.node == Some(*node) && delegation.node == *node;
        if !is_origin || signer.key != delegation.operational {
            return Err(OriginError::OtherSigner);
        }
        if delegation.not_after_ms <= statement.at_ms {
            return Err(OriginError::Expired);
        }
        let accepted_ms = statement.at_ms;
        Ok(CheckedOrigin { origin: self.clone(), delegation, accepted_ms })
    }
}
