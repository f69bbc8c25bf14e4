//! Merkle trees over statements: RFC 6962 §2.1 shape and prefixes, with salted leaves, so that a
//! path given to one peer says nothing about the statements of another. Signs nothing itself.

use sha2::{Digest as _, Sha256};

use crate::id::Hash;

/// The hash of one leaf: `SHA-256(0x00 ‖ salt ‖ leaf)`.
#[must_use]
pub fn leaf_hash(salt: &[u8; 16], leaf: &[u8]) -> Hash {
    let mut state = Sha256::new();
    state.update([0]);
    state.update(salt);
    state.update(leaf);
    Hash(state.finalize().into())
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut state = Sha256::new();
    state.update([1]);
    state.update(left.0);
    state.update(right.0);
    Hash(state.finalize().into())
}

/// The root of a tree and the path of each leaf, nearest sibling first. `None` for no leaves.
#[must_use]
pub fn root_and_paths(leaves: &[Hash]) -> Option<(Hash, Vec<Vec<Hash>>)> {
    match leaves {
        [] => None,
        [only] => Some((*only, vec![Vec::new()])),
        _ => {
            let (left, right) = leaves.split_at(split_point(leaves.len()));
            let (left_root, mut paths) = root_and_paths(left)?;
            let (right_root, mut right_paths) = root_and_paths(right)?;
            paths.iter_mut().for_each(|path| path.push(right_root));
            right_paths.iter_mut().for_each(|path| path.push(left_root));
            paths.append(&mut right_paths);
            Some((node_hash(&left_root, &right_root), paths))
        }
    }
}

/// The root that a leaf at `index` of `size` leaves with this path leads to, or `None` when the
/// path cannot belong to such a tree.
#[must_use]
pub fn root_of_path(leaf: Hash, index: u32, size: u32, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    if size == 1 {
        return path.is_empty().then_some(leaf);
    }
    let (sibling, below) = path.split_last()?;
    let split = u32::try_from(split_point(usize::try_from(size).ok()?)).ok()?;
    if index < split {
        Some(node_hash(&root_of_path(leaf, index, split, below)?, sibling))
    } else {
        Some(node_hash(sibling, &root_of_path(leaf, index - split, size - split, below)?))
    }
}

/// The largest power of two below `len`; `len` is at least two.
const fn split_point(len: usize) -> usize {
    1 << (usize::BITS - 1 - (len - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::{leaf_hash, root_and_paths, root_of_path};

    #[test]
    fn every_leaf_leads_to_the_root_and_no_other_place_does() {
        for size in 1u32..40 {
            let leaves: Vec<_> = (0..size).map(|i| leaf_hash(&[7; 16], &i.to_be_bytes())).collect();
            let (root, paths) = root_and_paths(&leaves).unwrap();
            for (index, (leaf, path)) in (0u32..).zip(leaves.iter().zip(&paths)) {
                assert_eq!(root_of_path(*leaf, index, size, path), Some(root));
                for other in (0..size).filter(|other| *other != index) {
                    assert_ne!(root_of_path(*leaf, other, size, path), Some(root));
                }
                assert_ne!(root_of_path(*leaf, index, size + 40, path), Some(root));
            }
        }
    }
}
