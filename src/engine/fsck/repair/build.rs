// SPDX-License-Identifier: GPL-2.0

//! Writing a tree anew, from its leaves up, and finding the blocks for it.
//!
//! New nodes go to free blocks; they are stored directly and are durable before the record that
//! makes them the tree. If there are too few, the old tree's blocks are used again: their new
//! content then goes into the same journal record as the inode's, so that it is the old tree or
//! the new one after a crash as well. (A record holds 14 blocks. A tree that needs more of its own
//! blocks on a full filesystem is written in several records; a machine that stops between them
//! loses what the first of them overwrote.)
//!
//! # Hazard
//!
//! A block is given away only once: taking one claims it. Blocks that the bitmap calls free are
//! taken first; the others are unclaimed but may hold what a repair that begins again could find.

use zerocopy::{FromZeros, IntoBytes};

use super::tree::NODE;
use super::Repair;
use crate::engine::checksum::Domain;
use crate::engine::error::Result;
use crate::engine::format::ag::METADATA_BLOCKS;
use crate::engine::format::inode::InodeRecord;
use crate::engine::format::node::{BlockHeader, IndexEntry, HEADER_SIZE, INDEX_CAPACITY};
use crate::engine::fsck::tree::Kind;
use crate::engine::media::Media;
use crate::engine::types::{u64_of, usize_of, Block, AG_BLOCKS};
use crate::platform::Vec;

/// Blocks for nodes, in the order in which they are to be used.
pub(super) struct Pool {
    blocks: Vec<Block>,
    /// How many of them, at the end, are blocks of the old tree.
    own: usize,
    next: usize,
}

/// A node that was written: its least key and its place.
#[derive(Clone, Copy)]
pub(super) struct Branch {
    pub(super) key: u64,
    pub(super) block: Block,
}

/// Nodes of a tree with so many leaves.
pub(super) fn nodes_for(leaves: usize) -> usize {
    let (mut level, mut all) = (leaves, leaves);
    while level > 1 {
        level = level.div_ceil(INDEX_CAPACITY);
        all += level;
    }
    all
}

impl<M: Media> Repair<'_, M> {
    /// Takes a block that nothing claims; 0 if there is none. `strict`: only such as the bitmap
    /// calls free.
    fn find_free(&mut self, strict: bool) -> Option<Block> {
        let g = self.geometry();
        let span = u64::from(g.ag_count).checked_mul(AG_BLOCKS)?;
        let mut left = span;
        let mut at = self.cursor % span.max(1);
        while left != 0 {
            let ag = u32::try_from(at / AG_BLOCKS).ok()?;
            let (relative, len) = (at % AG_BLOCKS, g.ag_blocks(ag));
            let relative = relative.max(METADATA_BLOCKS);
            let rest = len.saturating_sub(relative);
            let start = g.ag_base(ag).plus(relative);
            let mut skip = self.claimed.run_of(start, rest, true);
            while skip < rest {
                let block = start.plus(skip);
                let kept = self.kept.binary_search(&block.0).is_ok();
                if !kept && (!strict || !self.marked(block, 1)) {
                    self.cursor = at / AG_BLOCKS * AG_BLOCKS + relative + skip + 1;
                    return Some(block);
                }
                skip += 1;
                skip += self.claimed.run_of(start.plus(skip), rest - skip, true);
            }
            let to_end = AG_BLOCKS - at % AG_BLOCKS;
            left = left.saturating_sub(to_end);
            at = (at + to_end) % span;
        }
        None
    }

    /// Takes a free block and claims it.
    pub(super) fn allocate(&mut self) -> Option<Block> {
        let block = match self.find_free(true) {
            Some(block) => block,
            None => self.find_free(false)?,
        };
        self.claimed.set(block);
        Some(block)
    }

    /// Gives blocks back that were taken.
    pub(super) fn release(&mut self, blocks: &[Block]) {
        for &block in blocks {
            self.claimed.clear(block);
            self.metadata.clear(block);
        }
    }

    /// Takes `count` blocks for a tree whose old blocks are `own`; `None` if there are too few.
    pub(super) fn pool(&mut self, count: usize, own: &[Block]) -> Result<Option<Pool>> {
        let mut blocks = Vec::new();
        while blocks.len() < count {
            match self.allocate() {
                Some(block) => blocks.push(block)?,
                None => break,
            }
        }
        let missing = count - blocks.len();
        if missing > own.len() {
            self.release(&blocks);
            return Ok(None);
        }
        for &block in own.iter().take(missing) {
            blocks.push(block)?;
        }
        Ok(Some(Pool {
            blocks,
            own: missing,
            next: 0,
        }))
    }

    /// Stores a node into the pool's next block.
    pub(super) fn put_node(
        &mut self,
        pool: &mut Pool,
        record: &InodeRecord,
        (magic, level, count): (u32, usize, usize),
        node: &mut [u8; NODE],
    ) -> Result<Block> {
        let block = pool.blocks.get(pool.next).copied().unwrap_or_default();
        let fresh = pool.next + pool.own < pool.blocks.len();
        pool.next += 1;
        let mut header = BlockHeader::new_zeroed();
        header.magic.set(magic);
        header.level.set(u16::try_from(level).unwrap_or(0));
        header.count.set(u16::try_from(count).unwrap_or(0));
        header.block.set(block.0);
        header.owner.set(record.ino.get());
        header.uuid = self.info.uuid;
        header.generation.set(record.generation.get());
        // The specific bytes are the caller's.
        let specific = node.get(56..64).and_then(<[u8]>::first_chunk::<8>);
        header.specific = specific.copied().unwrap_or_default();
        if let Some(place) = node.get_mut(..usize_of(HEADER_SIZE)) {
            place.copy_from_slice(header.as_bytes());
        }
        let sum = self.keys.object(Domain::Node, node, 8);
        if let Some(place) = node.get_mut(8..16) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        if block.0 == 0 {
            return Ok(block);
        }
        self.metadata.set(block);
        if fresh {
            self.media.store_through(block.address(), node);
        } else {
            self.put(block.address(), node)?;
        }
        Ok(block)
    }

    /// Writes the index nodes above a level of nodes; returns the root and the tree's height.
    pub(super) fn put_index(
        &mut self,
        pool: &mut Pool,
        record: &InodeRecord,
        kind: &Kind,
        mut below: Vec<Branch>,
    ) -> Result<(Block, u8)> {
        let mut height = 1;
        while below.len() > 1 {
            let nodes = below.len().div_ceil(INDEX_CAPACITY);
            let share = below.len().div_ceil(nodes);
            let mut above = Vec::new();
            for part in below.chunks(share) {
                let mut node = [0u8; NODE];
                let body = node.get_mut(usize_of(HEADER_SIZE)..).unwrap_or_default();
                for (place, branch) in body.chunks_exact_mut(16).zip(part) {
                    let mut entry = IndexEntry::new_zeroed();
                    entry.key.set(branch.key);
                    entry.child.set(branch.block.0);
                    place.copy_from_slice(entry.as_bytes());
                }
                let level = usize::from(height);
                let block =
                    self.put_node(pool, record, (kind.index, level, part.len()), &mut node)?;
                let key = part.first().map_or(0, |branch| branch.key);
                above.push(Branch { key, block })?;
            }
            below = above;
            height += 1;
        }
        let root = below.first().map_or(Block(0), |branch| branch.block);
        Ok((root, if root.0 == 0 { 0 } else { height }))
    }

    /// After the record that made a new tree the tree: the blocks that the old one no longer has.
    pub(super) fn retire(&mut self, old: &[Block], pool: &Pool) -> Result {
        self.flush()?;
        let reused = pool.blocks.len() - pool.own;
        let reused = pool.blocks.get(reused..).unwrap_or_default();
        for &block in old.iter().filter(|block| !reused.contains(block)) {
            self.claimed.clear(block);
            self.metadata.clear(block);
        }
        Ok(())
    }
}

impl Pool {
    /// Blocks of the pool.
    pub(super) fn len(&self) -> u64 {
        u64_of(self.blocks.len())
    }
}
