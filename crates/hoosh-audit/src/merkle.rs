//! The tree over the records between two checkpoints (RFC 6962, section 2.1, with SHA-256), so that one of them can be shown to be
//! there by a few digests and without the others.

use crate::Digest;
use crate::key::sha256;

const LEAF: &[u8] = &[0];
const NODE: &[u8] = &[1];

/// The digest of a record's line.
pub(crate) fn leaf(line: &[u8]) -> Digest {
    sha256(&[LEAF, line])
}

fn node(left: &Digest, right: &Digest) -> Digest {
    sha256(&[NODE, left, right])
}

/// The digest over all of them; of none that of nothing.
pub(crate) fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => sha256(&[]),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The digests beside the way from a leaf to the root, the lowest first.
pub(crate) fn path(leaves: &[Digest], index: usize) -> Vec<Digest> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, beside) = if index < left.len() {
        (path(left, index), root(right))
    } else {
        (self::path(right, index - left.len()), root(left))
    };
    path.push(beside);
    path
}

/// The root that a leaf leads to by a path. `None`: the path is no path of that place.
pub(crate) fn root_by_path(leaf: Digest, index: u64, count: u64, path: &[Digest]) -> Option<Digest> {
    if index >= count {
        return None;
    }
    // The way down first: on which side each level lies.
    let (mut index, mut count) = (index, count);
    let mut is_left = Vec::new();
    while count > 1 {
        let left = split(usize::try_from(count).ok()?) as u64;
        is_left.push(index < left);
        (index, count) = if index < left { (index, left) } else { (index - left, count - left) };
    }
    if is_left.len() != path.len() {
        return None;
    }
    let up = is_left.into_iter().rev().zip(path);
    Some(up.fold(leaf, |digest, (is_left, beside)| match is_left {
        true => node(&digest, beside),
        false => node(beside, &digest),
    }))
}

/// The largest power of two below a number of leaves.
fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the test vectors of RFC 9162's implementations: the leaves of the Certificate Transparency test tree.
    #[test]
    fn the_roots_are_those_of_the_rfc() {
        let leaves: Vec<Digest> = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
            .iter()
            .map(|text| leaf(&hex::decode(text).unwrap()))
            .collect();
        let check = |count: usize, expected: &str| {
            assert_eq!(hex::encode(root(&leaves[..count])), expected, "{count}")
        };
        check(1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        check(2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
        check(3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
        check(7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c");
    }

    #[test]
    fn each_leaf_of_each_tree_leads_to_its_root_and_from_no_other_place() {
        for count in 1..40_u64 {
            let leaves: Vec<Digest> = (0..count).map(|index| leaf(&index.to_be_bytes())).collect();
            let root = root(&leaves);
            for index in 0..count {
                let path = path(&leaves, index as usize);
                assert_eq!(root_by_path(leaves[index as usize], index, count, &path), Some(root));
                for other in (0..=count).filter(|other| *other != index) {
                    assert_ne!(root_by_path(leaves[index as usize], other, count, &path), Some(root));
                }
            }
        }
    }
}
