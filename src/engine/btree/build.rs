// SPDX-License-Identifier: GPL-2.0

//! Building a tree beside the old one.
//!
//! What: entries are given in order; nodes fill up from the leaves, each is stored when it is full, and its key and place go
//! to the level above. One block of memory a level is all that it takes, however large the tree.
//!
//! Why beside: a change that concerns every key of a tree does not fit into a record. The new nodes are in blocks that
//! nothing leads to yet, so they are stored directly, as file data is, and the record holds only the inode's new root and
//! the bits of the blocks that come and go. After a crash it is the old tree or the new one.
//!
//! # Hazard
//!
//! The record is valid by its checksum, without any order against other stores. A root that is durable before its nodes
//! leads into whatever lay in these blocks before. So the transaction says `publishes_data`. Test: mutant `NoNodeFence`.

use super::{pair, put_count, Tree, ENTRY};
use crate::engine::checksum::Domain;
use crate::engine::error::{Error, Result};
use crate::engine::format::node::{
    BlockHeader, CHECKSUM_OFFSET, HEADER_SIZE, INDEX_CAPACITY, MAX_HEIGHT,
};
use crate::engine::media::Media;
use crate::engine::mutant::Mutant;
use crate::engine::transaction::Transaction;
use crate::engine::types::{usize_of, Block, BLOCK_SIZE};
use crate::platform::Vec;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::IntoBytes;

/// A node that is being filled.
struct Level {
    bytes: Vec<u8>,
    count: usize,
    /// The lower bound of its first entry.
    key: u64,
}

/// A tree whose leaves hold entries of 16 bytes, being built.
pub struct Builder {
    levels: Vec<Level>,
    /// Where the next block is sought.
    near: Block,
}

impl Builder {
    /// Nothing yet; the nodes come to lie near a block.
    pub fn new(near: Block) -> Self {
        Self {
            levels: Vec::new(),
            near,
        }
    }

    /// Appends a leaf that is there already, all of whose keys are at or above `key`. All such come before any entry.
    pub fn push_leaf<M: Media>(
        &mut self,
        tx: &mut Transaction<'_, M>,
        tree: &mut Tree,
        key: u64,
        leaf: Block,
    ) -> Result {
        self.push_at(tx, tree, 1, key, pair(key, leaf))
    }

    /// Appends an entry of a leaf, with its key.
    pub fn push<M: Media>(
        &mut self,
        tx: &mut Transaction<'_, M>,
        tree: &mut Tree,
        key: u64,
        entry: [u8; 16],
    ) -> Result {
        self.push_at(tx, tree, 0, key, entry)
    }

    fn push_at<M: Media>(
        &mut self,
        tx: &mut Transaction<'_, M>,
        tree: &mut Tree,
        level: usize,
        key: u64,
        entry: [u8; 16],
    ) -> Result {
        let (mut level, mut key, mut entry) = (level, key, entry);
        loop {
            if self.level(level)?.append(key, &entry) {
                return Ok(());
            }
            let (full_key, full) = self.store(tx, tree, level)?;
            self.level(level)?.append(key, &entry);
            (level, key, entry) = (level + 1, full_key, pair(full_key, full));
        }
    }

    fn level(&mut self, level: usize) -> Result<&mut Level> {
        if level >= usize::from(MAX_HEIGHT) {
            return Err(Error::NoSpace);
        }
        while self.levels.len() <= level {
            let mut bytes = Vec::new();
            bytes.resize(usize_of(BLOCK_SIZE), 0)?;
            self.levels.push(Level {
                bytes,
                count: 0,
                key: 0,
            })?;
        }
        self.levels.get_mut(level).ok_or(Error::Invalid)
    }

    /// Stores a level's node into a new block and begins the next: the key and the place of the one that was stored.
    fn store<M: Media>(
        &mut self,
        tx: &mut Transaction<'_, M>,
        tree: &mut Tree,
        level: usize,
    ) -> Result<(u64, Block)> {
        let block = tx.allocate_block(self.near)?;
        self.near = block;
        tree.grown += 1;
        let volume = tx.volume();
        let height = u8::try_from(level).map_err(|_| Error::NoSpace)?;
        let node = self.level(level)?;
        let header = BlockHeader {
            magic: U32::new(tree.kind.magic(height)),
            level: U16::new(u16::from(height)),
            count: U16::new(0),
            checksum: U64::new(0),
            block: U64::new(block.0),
            owner: U64::new(tree.owner.0),
            uuid: volume.info().uuid,
            generation: U32::new(tree.generation.0),
            reserved: U32::new(0),
            specific: [0; 8],
        };
        let bytes = &mut node.bytes;
        if let Some(place) = bytes.get_mut(..usize_of(HEADER_SIZE)) {
            place.copy_from_slice(header.as_bytes());
        }
        put_count(tree, height, node.count, bytes);
        let at = usize_of(CHECKSUM_OFFSET);
        let sum = volume.keys().object(Domain::Node, bytes, at);
        if let Some(place) = bytes.get_mut(at..at + 8) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        volume.media().store_through(block.address(), bytes);
        if !Mutant::NoNodeFence.active() {
            tx.publishes_data();
        }
        let key = node.key;
        node.bytes.fill(0);
        node.count = 0;
        Ok((key, block))
    }

    /// The entries of the only leaf, if there is just one and it was not stored yet; empty if there is nothing at all.
    pub fn only_leaf(&self) -> Option<&[u8]> {
        if self.levels.iter().skip(1).any(|level| level.count > 0) {
            return None;
        }
        let Some(leaf) = self.levels.first() else {
            return Some(&[]);
        };
        let from = usize_of(HEADER_SIZE);
        leaf.bytes
            .get(from..from + leaf.count.min(INDEX_CAPACITY) * usize_of(ENTRY))
    }

    /// Stores what is left and gives the tree its root and height.
    pub fn finish<M: Media>(mut self, tx: &mut Transaction<'_, M>, tree: &mut Tree) -> Result {
        tree.root = Block::NONE;
        tree.height = 0;
        let mut level = 0;
        while let Some(node) = self.levels.get(level) {
            let count = node.count;
            let only_child = node.child();
            let is_top = !self.levels.iter().skip(level + 1).any(|l| l.count > 0);
            if count > 0 {
                let height = u8::try_from(level).map_err(|_| Error::NoSpace)?;
                if is_top && level > 0 && count == 1 {
                    tree.root = only_child;
                    tree.height = height;
                    return Ok(());
                }
                let (key, block) = self.store(tx, tree, level)?;
                if is_top {
                    tree.root = block;
                    tree.height = height + 1;
                    return Ok(());
                }
                self.push_at(tx, tree, level + 1, key, pair(key, block))?;
            }
            level += 1;
        }
        Ok(())
    }
}

impl Level {
    /// False: it is full.
    fn append(&mut self, key: u64, entry: &[u8; 16]) -> bool {
        if self.count >= INDEX_CAPACITY {
            return false;
        }
        let at = usize_of(HEADER_SIZE) + self.count * usize_of(ENTRY);
        if let Some(place) = self.bytes.get_mut(at..at + entry.len()) {
            place.copy_from_slice(entry);
        }
        if self.count == 0 {
            self.key = key;
        }
        self.count += 1;
        true
    }

    /// The first child of an index node.
    fn child(&self) -> Block {
        let at = usize_of(HEADER_SIZE) + 8;
        let word = self.bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
        Block(word.map_or(0, u64::from_le_bytes))
    }
}
