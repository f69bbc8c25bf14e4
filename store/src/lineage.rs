//! Which boots a store has been through: how a rollback to an older image is noticed.
//! Draws no randomness: ids come from the caller.

use std::sync::Arc;

use crate::{StoreError, Table, Txn, prefix_end};

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
    /// this store was rolled back to an older image. What it cannot notice is a machine whose memory
    /// is put back along with its disk, until that machine hears of a commit it has not made.
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
        txn.put(LINEAGE, INCARNATION, &incarnation.to_be_bytes())
    }
}

/// The table of this crate that stands in every store.
pub(crate) const LINEAGE: Table = Table::new("_lineage");

/// Number of the last commit; 0 in an empty store.
pub(crate) fn last_commit(txn: &dyn Txn) -> Result<u64, StoreError> {
    Ok(number(txn, COMMIT)?.unwrap_or(0))
}

/// Writes the number of the commit under way; part of every commit.
pub(crate) fn set_last_commit(txn: &mut dyn Txn, commit: u64) -> Result<(), StoreError> {
    txn.put(LINEAGE, COMMIT, &commit.to_be_bytes())
}

/// The schema version of the store; `None` in an empty one.
pub(crate) fn schema_version(txn: &dyn Txn) -> Result<Option<u64>, StoreError> {
    number(txn, VERSION)
}

pub(crate) fn set_schema_version(txn: &mut dyn Txn, version: u32) -> Result<(), StoreError> {
    txn.put(LINEAGE, VERSION, &u64::from(version).to_be_bytes())
}

/// Appends a boot that begins after `began_after` and forgets the oldest ones.
pub(crate) fn append_boot(
    txn: &mut dyn Txn,
    boot: BootId,
    began_after: u64,
) -> Result<(), StoreError> {
    let end = prefix_end(BOOT);
    let ordinal = match txn.last(LINEAGE, BOOT, &end)? {
        Some((key, _)) => boot_ordinal(&key)? + 1,
        None => 0,
    };
    let mut value = began_after.to_be_bytes().to_vec();
    value.extend_from_slice(&boot.0);
    txn.put(LINEAGE, &boot_key(ordinal), &value)?;
    let oldest_kept = (ordinal + 1).saturating_sub(BOOTS_MAX as u64);
    for (key, _) in txn.range(LINEAGE, BOOT, &boot_key(oldest_kept), BOOTS_MAX)? {
        txn.delete(LINEAGE, &key)?;
    }
    Ok(())
}

/// Reads the whole history; the newest boot is the present one.
pub(crate) fn load(txn: &dyn Txn) -> Result<Lineage, StoreError> {
    let mut boots = Vec::new();
    for (_, value) in txn.range(LINEAGE, BOOT, &prefix_end(BOOT), BOOTS_MAX)? {
        let Some((began_after, id)) = value.split_first_chunk::<8>() else {
            return Err(StoreError::corrupt("a boot of the lineage is too short"));
        };
        let id = BootId(id.try_into().map_err(|_| StoreError::corrupt("a boot id"))?);
        boots.push(Boot { id, began_after: u64::from_be_bytes(*began_after) });
    }
    let incarnation = number(txn, INCARNATION)?;
    match (incarnation, boots.last().map(|newest| newest.id)) {
        (Some(incarnation), Some(boot)) => Ok(Lineage { incarnation, boot, boots: boots.into() }),
        (None, _) | (_, None) => Err(StoreError::corrupt("the lineage has no incarnation or boot")),
    }
}

const COMMIT: &[u8] = b"commit";
const INCARNATION: &[u8] = b"incarnation";
const VERSION: &[u8] = b"version";
const BOOT: &[u8] = b"boot:";

fn boot_key(ordinal: u64) -> Vec<u8> {
    let mut key = BOOT.to_vec();
    key.extend_from_slice(&ordinal.to_be_bytes());
    key
}

fn boot_ordinal(key: &[u8]) -> Result<u64, StoreError> {
    key.strip_prefix(BOOT)
        .and_then(|ordinal| ordinal.try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or_else(|| StoreError::corrupt("the key of a boot"))
}

fn number(txn: &dyn Txn, key: &[u8]) -> Result<Option<u64>, StoreError> {
    let Some(value) = txn.get(LINEAGE, key)? else {
        return Ok(None);
    };
    match value.try_into() {
        Ok(bytes) => Ok(Some(u64::from_be_bytes(bytes))),
        Err(_) => Err(StoreError::corrupt("a number of the lineage")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Boot, BootId, Lineage};

    #[test]
    fn a_commit_past_the_end_of_its_boot_is_not_contained() {
        let [first, second, foreign] = [1, 2, 3].map(|byte| BootId([byte; 16]));
        let lineage = Lineage {
            incarnation: 7,
            boot: second,
            boots: [Boot { id: first, began_after: 0 }, Boot { id: second, began_after: 10 }]
                .into(),
        };
        assert!(lineage.contains(first, 10, 12));
        assert!(!lineage.contains(first, 11, 12), "written after the image was taken");
        assert!(lineage.contains(second, 12, 12));
        assert!(!lineage.contains(second, 13, 12), "not yet written");
        assert!(!lineage.contains(foreign, 1, 12), "a boot that this image never saw");
    }
}
