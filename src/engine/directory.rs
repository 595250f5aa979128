// SPDX-License-Identifier: GPL-2.0

//! Directories: from names to inode numbers, in the order of a keyed hash.
//!
//! What: a tree whose leaves hold entries. An entry's key is 48 bits of SipHash of the name and a collision number of 15
//! bits that keeps apart names of one hash; it never changes while the entry lives, so key + 2 is the `readdir` cookie.
//! All names of one hash are in one leaf. An empty directory has no block.
//!
//! Why a keyed hash: whoever may create files could else choose names that all fall into one leaf, until no more fit. The
//! key is drawn by mkfs and never leaves the superblock.
//!
//! # Hazard
//!
//! The kind in an entry and the inode behind it are two places for one fact; a rename that replaced the inode number but
//! not the kind would show a directory as a file in `readdir`. Both are in one update here. And an insertion always looks
//! for the name itself first: two entries of one name would make `unlink` remove a file that `stat` goes on showing.

pub mod leaf;

use crate::engine::btree::{self, Kind, Reader, Tree};
use crate::engine::error::{Error, Result};
use crate::engine::extent::{store_tree, tree_of};
use crate::engine::format::directory::{COLLISION_BITS, MAX_COLLISION};
use crate::engine::format::inode::{InodeRecord, ROOT_DIRECTORY};
use crate::engine::media::Media;
use crate::engine::transaction::Transaction;
use crate::engine::types::{Block, FileKind, Ino, BLOCK_SIZE, MAX_NAME};
use crate::platform::Vec;
use core::hash::Hasher;
use zerocopy::little_endian::U64;

/// The largest hash; one less than 48 bits allow, so that a cookie stays below 2^63.
const MAX_HASH: u64 = (1 << 48) - 2;

/// What the cookies of `.` and `..` leave to the entries.
pub const FIRST_COOKIE: u64 = 2;

/// The hash of a name, by a filesystem's own key.
#[derive(Clone, Copy, Debug)]
pub struct NameHash {
    key: [u64; 2],
}

impl NameHash {
    /// From the superblock's key.
    pub const fn new(key: [u64; 2]) -> Self {
        Self { key }
    }

    /// 48 bits of the name's hash.
    pub fn of(&self, name: &[u8]) -> u64 {
        #[expect(
            deprecated,
            reason = "the stable name of SipHash-2-4 with a key of one's own is in std only"
        )]
        let mut hasher = core::hash::SipHasher::new_with_keys(self.key[0], self.key[1]);
        hasher.write(name);
        (hasher.finish() >> 16).min(MAX_HASH)
    }
}

/// The least key of a hash.
pub const fn key_of(hash: u64) -> u64 {
    hash << COLLISION_BITS
}

/// The hash in a key.
pub const fn hash_of(key: u64) -> u64 {
    key >> COLLISION_BITS
}

/// Where a name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: FileKind,
}

/// Fails for names that no entry can have.
pub fn check_name(name: &[u8]) -> Result {
    if name.len() > MAX_NAME {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|&b| b == b'/' || b == 0)
    {
        return Err(Error::Invalid);
    }
    Ok(())
}

/// The record's tree, if it is a directory's.
fn tree(record: &InodeRecord) -> Result<Tree> {
    if record.root != ROOT_DIRECTORY {
        return Err(Error::NotDirectory);
    }
    Ok(tree_of(record, Kind::Directory))
}

/// Tells the record about its tree; a directory's size is that of its blocks.
fn store(record: &mut InodeRecord, tree: &Tree) {
    store_tree(record, tree);
    record.size = U64::new(record.blocks.get().saturating_mul(BLOCK_SIZE));
}

/// Whether there is no entry.
pub fn is_empty(record: &InodeRecord) -> bool {
    tree_of(record, Kind::Directory).root == Block::NONE
}

/// Where `name` leads; `NotFound`.
pub fn lookup<R: Reader>(
    reader: &R,
    hash: &NameHash,
    record: &InodeRecord,
    name: &[u8],
) -> Result<Target> {
    let tree = tree(record)?;
    if name.len() > MAX_NAME {
        return Err(Error::NameTooLong);
    }
    if tree.root == Block::NONE {
        return Err(Error::NotFound);
    }
    let hash = hash.of(name);
    let at = btree::descend(reader, &tree, key_of(hash))?;
    let mut found = leaf::Found::default();
    leaf::find(reader, at.block, hash, name, &mut found)?;
    found.entry.map(|entry| entry.target).ok_or(Error::NotFound)
}

/// Adds `name`; `Exists` if it is there.
pub fn insert<M: Media>(
    tx: &mut Transaction<'_, M>,
    hash: &NameHash,
    record: &mut InodeRecord,
    name: &[u8],
    target: Target,
) -> Result {
    let mut tree = tree(record)?;
    check_name(name)?;
    let hash = hash.of(name);
    if tree.root == Block::NONE {
        let near = btree::home(tx.volume(), tree.owner);
        let root = leaf::create(tx, &mut tree, near)?;
        tree.root = root;
        tree.height = 1;
    }
    loop {
        let at = btree::descend(tx, &tree, key_of(hash))?;
        let mut found = leaf::Found::default();
        leaf::find(tx, at.block, hash, name, &mut found)?;
        if found.entry.is_some() {
            return Err(Error::Exists);
        }
        if found.collision > MAX_COLLISION {
            return Err(Error::NoSpace);
        }
        let key = key_of(hash) | found.collision;
        if leaf::insert(tx, &tree, at.block, at.count, &found, key, name, target)? {
            break;
        }
        leaf::split(tx, &mut tree, &at)?;
    }
    store(record, &tree);
    Ok(())
}

/// Removes `name`, which leads to `ino`; `NotFound` if it leads elsewhere or nowhere.
pub fn remove<M: Media>(
    tx: &mut Transaction<'_, M>,
    hash: &NameHash,
    record: &mut InodeRecord,
    name: &[u8],
    ino: Ino,
) -> Result {
    let mut tree = tree(record)?;
    if tree.root == Block::NONE {
        return Err(Error::NotFound);
    }
    let hash = hash.of(name);
    let at = btree::descend(tx, &tree, key_of(hash))?;
    let mut found = leaf::Found::default();
    leaf::find(tx, at.block, hash, name, &mut found)?;
    let entry = found.entry.as_ref().ok_or(Error::NotFound)?;
    if entry.target.ino != ino {
        return Err(Error::NotFound);
    }
    if at.count <= 1 {
        btree::remove_leaf(tx, &mut tree, &at)?;
        store(record, &tree);
        return Ok(());
    }
    leaf::remove(tx, &tree, at.block, at.count, &found, entry)
}

/// Lets `name`, which leads to `old`, lead to `new`.
pub fn replace<M: Media>(
    tx: &mut Transaction<'_, M>,
    hash: &NameHash,
    record: &InodeRecord,
    name: &[u8],
    old: Ino,
    new: Target,
) -> Result {
    let tree = tree(record)?;
    if tree.root == Block::NONE {
        return Err(Error::NotFound);
    }
    let hash = hash.of(name);
    let at = btree::descend(tx, &tree, key_of(hash))?;
    let mut found = leaf::Found::default();
    leaf::find(tx, at.block, hash, name, &mut found)?;
    let entry = found.entry.ok_or(Error::NotFound)?;
    if entry.target.ino != old {
        return Err(Error::NotFound);
    }
    leaf::retarget(tx, at.block, &entry, new)
}

/// One leaf's entries from a key on, in the order of keys.
pub struct Batch {
    leaf: Vec<u8>,
    /// Key and offset in the leaf.
    order: Vec<(u64, u16)>,
    /// Where the next leaf starts; `None`: there is none.
    pub next: Option<u64>,
}

impl Batch {
    /// Entries.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Entry `index`: key, name, target.
    pub fn get(&self, index: usize) -> Option<(u64, &[u8], Target)> {
        let &(key, offset) = self.order.get(index)?;
        let (name, target) = leaf::entry_at(&self.leaf, usize::from(offset))?;
        Some((key, name, target))
    }
}

/// Copies the entries with keys from `key` on out of the leaf that holds it.
pub fn read<R: Reader>(reader: &R, record: &InodeRecord, key: u64) -> Result<Batch> {
    let tree = tree(record)?;
    let mut batch = Batch {
        leaf: Vec::new(),
        order: Vec::new(),
        next: None,
    };
    if tree.root == Block::NONE {
        return Ok(batch);
    }
    let at = btree::descend(reader, &tree, key)?;
    batch.leaf.resize(BLOCK_SIZE as usize, 0)?;
    reader.bytes(at.block.address(), &mut batch.leaf)?;
    let keys = (at.floor, at.limit);
    leaf::order(&batch.leaf, at.block, key, keys, &mut batch.order)?;
    batch.next = (at.limit != u64::MAX).then_some(at.limit);
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash is part of the format: another value here would lose every name of every directory.
    #[test]
    fn the_hash_is_frozen() {
        let hash = NameHash::new([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        // The published vectors of SipHash-2-4 for the inputs of no byte and of the bytes 0 to 14.
        assert_eq!(hash.of(b""), 0x726f_db47_dd0e_0e31 >> 16);
        let bytes: [u8; 15] = core::array::from_fn(|n| n as u8);
        assert_eq!(hash.of(&bytes), 0xa129_ca61_49be_45e5 >> 16);
    }

    #[test]
    fn cookies_stay_positive_offsets() {
        let last = key_of(MAX_HASH) | MAX_COLLISION;
        assert!(last + FIRST_COOKIE < 1 << 63);
        assert_eq!(hash_of(last), MAX_HASH);
    }

    #[test]
    fn names_that_cannot_be() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
            assert_eq!(check_name(name), Err(Error::Invalid));
        }
        assert_eq!(check_name(&[b'x'; 256]), Err(Error::NameTooLong));
        assert_eq!(check_name(&[b'x'; 255]), Ok(()));
        assert_eq!(check_name(b"..."), Ok(()));
    }
}
