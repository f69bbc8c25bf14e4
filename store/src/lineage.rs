//! Which boots a store has been through: how a rollback to an older image is noticed.
//! Draws no randomness: ids come from the caller.

use std::sync::Arc;

use crate::{StoreError, Table, Txn};

/// A random id of one opening of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub [u8; 16]);

/// The randomness that an opening needs; drawn by the caller.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Id of this boot. Must be fresh.
    pub boot: BootId,
    /// The incarnation of the store, used only if it is created by this opening.
    pub incarnation: u64,
}

/// One boot in the history of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Its id.
    pub id: BootId,
    /// The last commit number before it; its own commits are above.
    pub began_after: u64,
}

/// The history of a store, as it was when the store was opened (or renewed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Drawn when the store was created, and again by [`Lineage::renew`].
    pub incarnation: u64,
    /// The present boot.
    pub boot: BootId,
    /// The newest [`BOOTS_MAX`] boots, oldest first, the present one last.
    pub boots: Arc<[Boot]>,
}

/// Boots kept: three a day for a year. What a peer saw in an older one counts as not contained, so
/// the worst that forgetting costs is a needless repair.
pub const BOOTS_MAX: usize = 1_024;

impl Lineage {
    /// Whether `commit` of `boot` is in the history of this store, whose last commit is
    /// `current_commit`. A peer that rightly saw a (boot, commit) which is not contained proves that
    /// this store was rolled back to an older image.
    #[must_use]
    pub fn contains(&self, boot: BootId, commit: u64, current_commit: u64) -> bool {
        let Some(at) = self.boots.iter().rposition(|known| known.id == boot) else {
            return false;
        };
        let end = self.boots.get(at + 1).map_or(current_commit, |next| next.began_after);
        commit <= end
    }

    /// Sets a new incarnation; [`crate::Store::lineage`] shows it once the batch is committed.
    ///
    /// # Errors
    /// The engine failed.
    pub fn renew(txn: &mut dyn Txn, incarnation: u64) -> Result<(), StoreError> {
        txn.put(LINEAGE, b"incarnation", &incarnation.to_be_bytes())
    }
}

/// The table of this crate that stands in every store.
pub(crate) const LINEAGE: Table = Table::new("_lineage");
