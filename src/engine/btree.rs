// SPDX-License-Identifier: GPL-2.0

//! Index nodes: what the trees of extents and of directories share.
//!
//! What: a tree maps a 64-bit key to a leaf. An index node holds up to [`INDEX_CAPACITY`] pairs of key and child, sorted.
//! Leaves belong to their own modules; this one finds them, puts a new leaf behind an old one, and takes an empty one away.
//!
//! The rule that all of it keeps: *every key at or below child `i` lies in `key[i]..key[i + 1]`*, where the first key of a
//! node is not looked at: its bound is the parent's. So a separator is a bound and no copy of a leaf's first key; leaves
//! change freely between their bounds, and the nodes above need no update.
//!
//! Why no recursion: the kernel's stack is 16 KiB. A [`Path`] is an array of at most [`MAX_HEIGHT`] steps, filled on the
//! way down and walked back on the way up.
//!
//! # Hazard
//!
//! A node is read before anyone knows that it is one. Were its count believed unverified, a count of 60000 in a damaged
//! block would lead the search past the block's end, into someone's file, whose bytes would then be taken for child
//! pointers. So a block is verified whole at its first use after mount, and each descent also checks magic, level and
//! count, which is one word.

pub mod build;

use crate::engine::error::{Error, Result};
use crate::engine::format::node::{
    BlockHeader, DIRECTORY_INDEX_MAGIC, DIRECTORY_LEAF_MAGIC, EXTENT_INDEX_MAGIC,
    EXTENT_LEAF_MAGIC, HEADER_SIZE, INDEX_CAPACITY, MAX_HEIGHT,
};
use crate::engine::media::Media;
use crate::engine::transaction::{Class, Object, Transaction};
use crate::engine::types::{u64_of, usize_of, Block, Generation, Ino, Run, AG_BLOCKS, BLOCK_SIZE};
use crate::engine::verify::Expected;
use crate::engine::volume::Volume;
use crate::platform::Vec;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::IntoBytes;

/// Bytes of one pair of key and child.
const ENTRY: u64 = 16;
/// Equal words that [`Draft::store`] writes rather than begins anew after.
const GAP: usize = 6;
/// Index levels of the highest tree.
const MAX_STEPS: usize = MAX_HEIGHT as usize;

/// Reads metadata: straight from the medium, or through a transaction, which sees its own changes.
pub trait Reader {
    /// The little-endian word at `address`, a multiple of 8.
    fn word(&self, address: u64) -> Result<u64>;
    /// The bytes from `address` on.
    fn bytes(&self, address: u64, into: &mut [u8]) -> Result;
    /// Verifies the metadata block if this is its first use since mount; of a tree's node also the content, which has to
    /// lie within `keys`: from and below. Every block number from the medium passes here before its address is computed.
    fn verify(&self, block: Block, expected: &Expected, keys: Option<(u64, u64)>) -> Result;
}

impl<M: Media> Reader for Volume<M> {
    fn word(&self, address: u64) -> Result<u64> {
        self.media().read_u64(address)
    }
    fn bytes(&self, address: u64, into: &mut [u8]) -> Result {
        self.media().read(address, into)
    }
    fn verify(&self, block: Block, expected: &Expected, keys: Option<(u64, u64)>) -> Result {
        self.verify_within(block, expected, keys)
    }
}

impl<M: Media> Reader for Transaction<'_, M> {
    fn word(&self, address: u64) -> Result<u64> {
        self.read_u64(address)
    }
    fn bytes(&self, address: u64, into: &mut [u8]) -> Result {
        self.read(address, into)
    }
    fn verify(&self, block: Block, expected: &Expected, keys: Option<(u64, u64)>) -> Result {
        self.verify_within(block, expected, keys)
    }
}

/// What a tree's leaves are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Extents of a file.
    Extents,
    /// Names.
    Directory,
}

impl Kind {
    /// Magic of the nodes at `level`; 0 is the leaves.
    pub const fn magic(self, level: u8) -> u32 {
        match (self, level) {
            (Self::Extents, 0) => EXTENT_LEAF_MAGIC,
            (Self::Extents, _) => EXTENT_INDEX_MAGIC,
            (Self::Directory, 0) => DIRECTORY_LEAF_MAGIC,
            (Self::Directory, _) => DIRECTORY_INDEX_MAGIC,
        }
    }
}

/// A tree as its inode holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Leaves.
    pub kind: Kind,
    /// Whose tree it is.
    pub owner: Ino,
    /// That inode's generation.
    pub generation: Generation,
    /// Root block; 0: the tree is empty.
    pub root: Block,
    /// Levels: 1 when the root is a leaf, 0 when the tree is empty.
    pub height: u8,
    /// Blocks gained less blocks lost since this value was made.
    pub grown: i64,
}

/// One index node on the way to a leaf.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    block: Block,
    index: usize,
    count: usize,
}

/// A leaf that was found.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// Where it is.
    pub block: Block,
    /// What its header counts.
    pub count: usize,
    /// No key of it is below this.
    pub floor: u64,
    /// All its keys are below this; `u64::MAX`: it is the last one.
    pub limit: u64,
}

/// The way to a leaf, root first. Any change of the index nodes makes it useless.
///
/// Only changes of a tree's shape want one. It is far larger than a [`Leaf`], and is not made for each search.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    steps: [Step; MAX_STEPS],
    depth: usize,
    /// The leaf.
    pub leaf: Leaf,
}

impl Path {
    /// The index nodes on the way, root first.
    pub fn index_nodes(&self) -> impl Iterator<Item = Block> + '_ {
        self.steps.iter().take(self.depth).map(|step| step.block)
    }
}

/// Magic, level and count from a header's first word.
pub fn split_word(word: u64) -> (u32, u16, u16) {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u16::from_le_bytes([e, f]),
        u16::from_le_bytes([g, h]),
    )
}

/// The first word of a header.
pub fn header_word(magic: u32, level: u8, count: usize) -> u64 {
    u64::from(magic) | (u64::from(level) << 32) | ((u64_of(count) & 0xffff) << 48)
}

/// Verifies the node at its first use, with the keys that it may hold, checks its first word, and returns its count.
pub fn node_count<R: Reader>(
    reader: &R,
    tree: &Tree,
    block: Block,
    level: u8,
    keys: (u64, u64),
) -> Result<usize> {
    let magic = tree.kind.magic(level);
    let expected = Expected {
        magic,
        owner: tree.owner,
        generation: tree.generation,
    };
    reader.verify(block, &expected, Some(keys))?;
    let (found, at, count) = split_word(reader.word(block.address())?);
    if found != magic || at != u16::from(level) {
        return Err(Error::corrupt(
            "tree node's magic or level",
            block.address(),
        ));
    }
    Ok(usize::from(count))
}

/// Address of entry `index`, which is at most [`INDEX_CAPACITY`].
fn entry(block: Block, index: usize) -> u64 {
    let offset = u64_of(index).min(u64_of(INDEX_CAPACITY)) * ENTRY;
    block.address().saturating_add(HEADER_SIZE + offset)
}

/// Finds the leaf whose bounds hold `key`. The tree must not be empty.
pub fn descend<R: Reader>(reader: &R, tree: &Tree, key: u64) -> Result<Leaf> {
    walk(reader, tree, key, |_| {})
}

/// As [`descend`], with the way there.
pub fn path<R: Reader>(reader: &R, tree: &Tree, key: u64) -> Result<Path> {
    let mut steps = [Step::default(); MAX_STEPS];
    let mut depth = 0;
    let leaf = walk(reader, tree, key, |step| {
        if let Some(place) = steps.get_mut(depth) {
            *place = step;
        }
        depth += 1;
    })?;
    Ok(Path { steps, depth, leaf })
}

/// The way to a leaf that was found before; no node on it has changed since.
fn path_to<R: Reader>(reader: &R, tree: &Tree, leaf: &Leaf) -> Result<Path> {
    let path = path(reader, tree, leaf.floor)?;
    if path.leaf.block != leaf.block {
        return Err(Error::corrupt(
            "bounds of a tree's leaf",
            leaf.block.address(),
        ));
    }
    Ok(path)
}

/// From the root to the leaf.
#[inline]
fn walk<R: Reader>(reader: &R, tree: &Tree, key: u64, mut visit: impl FnMut(Step)) -> Result<Leaf> {
    if tree.root == Block::NONE || tree.height == 0 || tree.height > MAX_HEIGHT {
        return Err(Error::corrupt("height of a tree", tree.owner.0));
    }
    let (mut floor, mut limit) = (0, u64::MAX);
    let mut block = tree.root;
    for level in (1..tree.height).rev() {
        let count = node_count(reader, tree, block, level, (floor, limit))?;
        if count == 0 || count > INDEX_CAPACITY {
            return Err(Error::corrupt("count of an index node", block.address()));
        }
        let (mut low, mut high) = (0, count);
        while high - low > 1 {
            let middle = (low + high) / 2;
            let found = reader.word(entry(block, middle))?;
            if found <= key {
                low = middle;
                floor = found;
            } else {
                high = middle;
                limit = found;
            }
        }
        visit(Step {
            block,
            index: low,
            count,
        });
        block = Block(reader.word(entry(block, low) + 8)?);
    }
    let count = node_count(reader, tree, block, 0, (floor, limit))?;
    Ok(Leaf {
        block,
        count,
        floor,
        limit,
    })
}

/// Overwrites bytes of a metadata block; `offset` and length are multiples of 8 and avoid the checksum.
pub fn update<M: Media>(
    tx: &mut Transaction<'_, M>,
    block: Block,
    offset: u64,
    bytes: &[u8],
) -> Result {
    tx.update(Object::Node(block.address()), offset, bytes)
}

/// Puts a new first word with this count into the first bytes of a node.
pub fn put_count(tree: &Tree, level: u8, count: usize, header: &mut [u8]) {
    if let Some(place) = header.get_mut(..8) {
        let word = header_word(tree.kind.magic(level), level, count);
        place.copy_from_slice(&word.to_le_bytes());
    }
}

/// Writes a header's first word.
pub fn set_count<M: Media>(
    tx: &mut Transaction<'_, M>,
    tree: &Tree,
    block: Block,
    level: u8,
    count: usize,
) -> Result {
    let word = header_word(tree.kind.magic(level), level, count);
    update(tx, block, 0, &word.to_le_bytes())
}

/// A new node with everything in its header but the count, and zeros behind it.
pub fn new_node<M: Media>(
    tx: &mut Transaction<'_, M>,
    tree: &mut Tree,
    level: u8,
    near: Block,
) -> Result<Block> {
    let expected = Expected {
        magic: tree.kind.magic(level),
        owner: tree.owner,
        generation: tree.generation,
    };
    let block = create_block(tx, near, level, &expected)?;
    tree.grown += 1;
    Ok(block)
}

/// A new metadata block: a header that counts 0, and zeros behind it.
pub fn create_block<M: Media>(
    tx: &mut Transaction<'_, M>,
    near: Block,
    level: u8,
    expected: &Expected,
) -> Result<Block> {
    let block = tx.allocate_block(near)?;
    let header = BlockHeader {
        magic: U32::new(expected.magic),
        level: U16::new(u16::from(level)),
        count: U16::new(0),
        checksum: U64::new(0),
        block: U64::new(block.0),
        owner: U64::new(expected.owner.0),
        uuid: tx.volume().info().uuid,
        generation: U32::new(expected.generation.0),
        reserved: U32::new(0),
        specific: [0; 8],
    };
    tx.create_object(Object::Node(block.address()), header.as_bytes())?;
    Ok(block)
}

/// Gives a metadata block back.
pub fn free_block<M: Media>(tx: &mut Transaction<'_, M>, block: Block) -> Result {
    tx.free(
        Run {
            start: block,
            len: 1,
        },
        Class::Metadata,
    )
}

/// The first block of the group that an inode is in: where to look for blocks when nothing better is known.
pub fn home<M: Media>(volume: &Volume<M>, ino: Ino) -> Block {
    let geometry = &volume.info().geometry;
    let ag = ino.ag().min(geometry.ag_count.saturating_sub(1));
    geometry.ag_start.plus(u64::from(ag) * AG_BLOCKS)
}

/// Gives a node back.
fn free_node<M: Media>(tx: &mut Transaction<'_, M>, tree: &mut Tree, block: Block) -> Result {
    free_block(tx, block)?;
    tree.grown -= 1;
    Ok(())
}

/// Loads the entries `from..count` of an index node as bytes.
fn load<R: Reader>(reader: &R, block: Block, from: usize, count: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let len = count.saturating_sub(from) * usize_of(ENTRY);
    bytes.resize(len, 0)?;
    reader.bytes(entry(block, from), &mut bytes)?;
    Ok(bytes)
}

/// One entry as bytes.
fn pair(key: u64, child: Block) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes[8..].copy_from_slice(&child.0.to_le_bytes());
    bytes
}

/// Puts `child`, which holds the keys from `key` on, behind `leaf`.
///
/// Splits full nodes on the way up; [`Error::NoSpace`] when there is no block for that, or the tree is as high as one may
/// be. The caller drops the transaction on an error.
pub fn insert_child<M: Media>(
    tx: &mut Transaction<'_, M>,
    tree: &mut Tree,
    leaf: &Leaf,
    key: u64,
    child: Block,
) -> Result {
    let path = path_to(tx, tree, leaf)?;
    let (mut key, mut child) = (key, child);
    let mut level = 0;
    for step in path.steps.iter().take(path.depth).rev() {
        level += 1;
        let at = step.index + 1;
        if at == 1 && tx.word(entry(step.block, 0))? >= key {
            // The first key is no bound of anything, but a reader may expect keys to ascend.
            update(tx, step.block, HEADER_SIZE, &0u64.to_le_bytes())?;
        }
        if step.count < INDEX_CAPACITY {
            let mut tail = Vec::new();
            tail.extend_from_slice(&pair(key, child))?;
            tail.extend_from_slice(&load(tx, step.block, at, step.count)?)?;
            update(tx, step.block, HEADER_SIZE + u64_of(at) * ENTRY, &tail)?;
            return set_count(tx, tree, step.block, level, step.count + 1);
        }
        // Split. Keys that only grow leave full nodes behind, others half-full ones.
        let new = new_node(tx, tree, level, step.block)?;
        let keep = if at == step.count { at } else { step.count / 2 };
        let mut right = load(tx, step.block, keep, step.count)?;
        let mut left_count = keep;
        if at >= keep && !(at == keep && keep < step.count) {
            let offset = (at - keep) * usize_of(ENTRY);
            let mut joined = Vec::new();
            joined.extend_from_slice(right.get(..offset).unwrap_or(&[]))?;
            joined.extend_from_slice(&pair(key, child))?;
            joined.extend_from_slice(right.get(offset..).unwrap_or(&[]))?;
            right = joined;
        } else {
            let mut tail = Vec::new();
            tail.extend_from_slice(&pair(key, child))?;
            tail.extend_from_slice(&load(tx, step.block, at, keep)?)?;
            update(tx, step.block, HEADER_SIZE + u64_of(at) * ENTRY, &tail)?;
            left_count += 1;
        }
        update(tx, new, HEADER_SIZE, &right)?;
        set_count(tx, tree, new, level, right.len() / usize_of(ENTRY))?;
        set_count(tx, tree, step.block, level, left_count)?;
        key = tx.word(entry(new, 0))?;
        child = new;
    }
    // The root itself was split, or was a leaf.
    if tree.height >= MAX_HEIGHT {
        return Err(Error::NoSpace);
    }
    let root = new_node(tx, tree, tree.height, tree.root)?;
    let mut entries = [0; 32];
    entries[..16].copy_from_slice(&pair(0, tree.root));
    entries[16..].copy_from_slice(&pair(key, child));
    update(tx, root, HEADER_SIZE, &entries)?;
    set_count(tx, tree, root, tree.height, 2)?;
    tree.root = root;
    tree.height += 1;
    Ok(())
}

/// Takes `leaf` out of the tree and frees it, with every node that loses its last child.
pub fn remove_leaf<M: Media>(tx: &mut Transaction<'_, M>, tree: &mut Tree, leaf: &Leaf) -> Result {
    let path = path_to(tx, tree, leaf)?;
    free_node(tx, tree, leaf.block)?;
    let mut level = 0;
    for step in path.steps.iter().take(path.depth).rev() {
        level += 1;
        if step.count <= 1 {
            free_node(tx, tree, step.block)?;
            continue;
        }
        let tail = load(tx, step.block, step.index + 1, step.count)?;
        if !tail.is_empty() {
            let offset = HEADER_SIZE + u64_of(step.index) * ENTRY;
            update(tx, step.block, offset, &tail)?;
        }
        set_count(tx, tree, step.block, level, step.count - 1)?;
        return lower_root(tx, tree);
    }
    tree.root = Block::NONE;
    tree.height = 0;
    Ok(())
}

/// Drops roots with a single child.
fn lower_root<M: Media>(tx: &mut Transaction<'_, M>, tree: &mut Tree) -> Result {
    while tree.height > 1 {
        let root = tree.root;
        if node_count(tx, tree, root, tree.height - 1, (0, u64::MAX))? != 1 {
            break;
        }
        tree.root = Block(tx.word(entry(root, 0) + 8)?);
        tree.height -= 1;
        free_node(tx, tree, root)?;
    }
    Ok(())
}

/// A whole metadata block in memory, edited there, and written back where it differs: for the rare, large changes.
pub struct Draft {
    block: Block,
    old: Vec<u8>,
    /// The bytes to edit.
    pub new: Vec<u8>,
}

impl Draft {
    /// Loads a block.
    pub fn load<R: Reader>(reader: &R, block: Block) -> Result<Self> {
        let mut old = Vec::new();
        old.resize(usize_of(BLOCK_SIZE), 0)?;
        reader.bytes(block.address(), &mut old)?;
        let mut new = Vec::new();
        new.extend_from_slice(&old)?;
        Ok(Self { block, old, new })
    }

    /// A copy of what the block held, to build the new content from.
    pub fn old(&self) -> Result<Vec<u8>> {
        let mut copy = Vec::new();
        copy.extend_from_slice(&self.old)?;
        Ok(copy)
    }

    /// Writes the words that changed, the checksum apart.
    pub fn store<M: Media>(&self, tx: &mut Transaction<'_, M>) -> Result {
        let differs = |word: usize| -> bool {
            let at = word * 8;
            word != 1 && self.old.get(at..at + 8) != self.new.get(at..at + 8)
        };
        let words = self.new.len() / 8;
        let mut word = 0;
        while word < words {
            if !differs(word) {
                word += 1;
                continue;
            }
            // Short stretches that are the same cost less than an entry of their own.
            let first = word;
            let mut end = word + 1;
            while word < words && word < end + GAP {
                if differs(word) {
                    end = word + 1;
                }
                word += 1;
            }
            word = end;
            if let Some(bytes) = self.new.get(first * 8..end * 8) {
                update(tx, self.block, u64_of(first * 8), bytes)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_a_header() {
        let word = header_word(EXTENT_LEAF_MAGIC, 3, 252);
        assert_eq!(split_word(word), (EXTENT_LEAF_MAGIC, 3, 252));
        assert_eq!(&word.to_le_bytes()[..4], b"OXLF");
    }
}
