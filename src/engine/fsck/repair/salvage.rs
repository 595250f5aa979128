// SPDX-License-Identifier: GPL-2.0

//! Leaves that lost their tree.
//!
//! A leaf says whose it is, and which block it is, under a checksum that nobody can make who does
//! not know the filesystem's secret: a user's bytes cannot imitate one. So if an index node is
//! damaged, the leaves below it are found by looking at the blocks themselves: at those that are
//! marked as used in the bitmap and that nothing claims. Freed blocks, which may hold leaves of
//! former times, are not looked at, unless the bitmap calls neighbours free that are in use.
//!
//! # Hazard
//!
//! The blocks of a file that was lost are among them, and may hold a leaf of before they were
//! written. Its extents lead to blocks that are in use elsewhere by now, or are free; both are
//! refused when the extents are judged.

use super::tree::{header, Leaf as TreeLeaf, NODE};
use super::Repair;
use crate::engine::checksum::Domain;
use crate::engine::error::Result;
use crate::engine::format::node::{DIRECTORY_LEAF_MAGIC, EXTENT_LEAF_MAGIC, HEADER_SIZE};
use crate::engine::fsck::table::{BROKEN, SUSPECT, USED};
use crate::engine::media::Media;
use crate::engine::types::{u32_of, u64_of, usize_of, Block, Ino, BLOCK_SIZE};
use crate::platform::{yield_now, Vec};

/// A leaf that was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leaf {
    /// Index of its owner.
    pub(super) owner: u32,
    pub(super) block: u64,
    pub(super) magic: u32,
}

impl<M: Media> Repair<'_, M> {
    /// Looks for leaves, if a tree has lost some.
    pub(super) fn salvage(&mut self) -> Result {
        let broken = (0..self.table.len()).any(|index| {
            let entry = self.table.get(index);
            entry.is(USED) && (entry.is(BROKEN) || entry.is(SUSPECT))
        });
        if !broken {
            return Ok(());
        }
        let g = self.geometry();
        for ag in 0..g.ag_count {
            let base = g.ag_base(ag);
            let mut at = 0;
            while at < g.ag_blocks(ag) {
                if at % 4096 == 0 {
                    yield_now();
                }
                // Whole words that are claimed are passed over at once.
                let claimed = self
                    .claimed
                    .run_of(base.plus(at), g.ag_blocks(ag) - at, true);
                at += claimed;
                let block = base.plus(at);
                if at < g.ag_blocks(ag) && (self.marked(block, 1) || self.bitmap_lies(block)) {
                    self.salvage_block(block)?;
                }
                at += 1;
            }
        }
        self.leaves.sort_unstable();
        for leaf in self.leaves.iter() {
            self.kept.push(leaf.block)?;
        }
        self.kept.sort_unstable();
        Ok(())
    }

    fn salvage_block(&mut self, block: Block) -> Result {
        let mut bytes = [0u8; NODE];
        let Some(start) = bytes.get_mut(..usize_of(HEADER_SIZE)) else {
            return Ok(());
        };
        if self.media.read(block.address(), start).is_err() {
            return Ok(());
        }
        let Some(header) = header(&bytes) else {
            return Ok(());
        };
        let magic = header.magic.get();
        if !matches!(magic, EXTENT_LEAF_MAGIC | DIRECTORY_LEAF_MAGIC)
            || header.block.get() != block.0
            || header.uuid != self.info.uuid
        {
            return Ok(());
        }
        let Some(owner) = self.table.index(Ino(header.owner.get())) else {
            return Ok(());
        };
        let entry = self.table.get(owner);
        if !(entry.is(BROKEN) || entry.is(SUSPECT))
            || self.read(block.address(), &mut bytes).is_err()
        {
            return Ok(());
        }
        if self.keys.object(Domain::Node, &bytes, 8) != header.checksum.get() {
            return Ok(());
        }
        let generation = self.record(owner).map(|record| record.generation.get());
        if generation == Some(header.generation.get()) {
            self.leaves.push(Leaf {
                owner: u32_of(u64_of(owner)),
                block: block.0,
                magic,
            })?;
        }
        Ok(())
    }

    /// The leaves that were found for an inode.
    pub(super) fn leaves_of(&self, index: usize, magic: u32) -> Result<Vec<Block>> {
        let owner = u32_of(u64_of(index));
        let from = self.leaves.partition_point(|leaf| leaf.owner < owner);
        let mut blocks = Vec::new();
        for leaf in self.leaves.iter().skip(from) {
            if leaf.owner != owner {
                break;
            }
            // It may have been given to somebody since.
            if leaf.magic == magic && !self.claimed.get(Block(leaf.block)) {
                blocks.push(Block(leaf.block))?;
            }
        }
        Ok(blocks)
    }

    /// Visits such a leaf as if it hung on its tree.
    pub(super) fn visit_salvaged(
        &mut self,
        block: Block,
        visit: &mut dyn FnMut(&mut Self, &TreeLeaf<'_>) -> Result,
    ) -> Result {
        let mut bytes = [0u8; BLOCK_SIZE as usize];
        if self.read(block.address(), &mut bytes).is_err() {
            return Ok(());
        }
        let count = header(&bytes).map_or(0, |header| usize::from(header.count.get()));
        visit(
            self,
            &TreeLeaf {
                bytes: &bytes,
                count,
                low: 0,
                high: u64::MAX,
                sound: true,
            },
        )
    }
}
