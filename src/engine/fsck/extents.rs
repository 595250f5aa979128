// SPDX-License-Identifier: GPL-2.0

//! Extents of a file: in the record, or in a tree.

use zerocopy::FromBytes;

use crate::engine::error::Result;
use crate::engine::format::extent::{DiskExtent, Extent, LEAF_CAPACITY};
use crate::engine::format::inode::InodeRecord;
use crate::engine::format::node::{EXTENT_INDEX_MAGIC, EXTENT_LEAF_MAGIC, HEADER_SIZE};
use crate::engine::media::Media;
use crate::engine::types::{usize_of, FileBlock, Ino};

use super::tree::{Kind, Owner};
use super::{Check, Issue, NodeFault};

/// What one extent after the other builds up.
#[derive(Default)]
struct Sequence {
    /// First file block of the last extent.
    start: FileBlock,
    /// The file block behind it.
    end: FileBlock,
    /// Blocks of the device.
    blocks: u64,
    extents: u64,
    /// Something behind the end of the file waits to be freed.
    pending: bool,
}

impl Sequence {
    fn of(record: &InodeRecord) -> Self {
        Self {
            pending: record.orphan.get() != 0,
            ..Self::default()
        }
    }
}

impl<M: Media> Check<'_, M> {
    /// Checks the extents in a record; returns their blocks.
    pub(super) fn inline_extents(&mut self, ino: Ino, record: &InodeRecord) -> u64 {
        let mut sequence = Sequence::of(record);
        for disk in record
            .inline
            .chunks_exact(16)
            .take(usize::from(record.count))
        {
            if let Ok(disk) = DiskExtent::read_from_bytes(disk) {
                self.extent(ino, &mut sequence, &Extent::from_disk(&disk));
            }
        }
        self.end_of_extents(&sequence);
        sequence.blocks
    }

    /// Checks a tree of extents; returns its blocks and those of the extents.
    pub(super) fn extent_tree(&mut self, ino: Ino, record: &InodeRecord) -> Result<u64> {
        let mut sequence = Sequence::of(record);
        let owner = Owner::of(ino, record);
        let kind = Kind {
            index: EXTENT_INDEX_MAGIC,
            leaf: EXTENT_LEAF_MAGIC,
        };
        let nodes = self.walk(&owner, &kind, &mut |check, leaf| {
            if leaf.count == 0 || leaf.count > LEAF_CAPACITY {
                check.report(Issue::Node {
                    ino,
                    block: leaf.block,
                    fault: NodeFault::Count,
                });
            }
            let body = leaf.bytes.get(usize_of(HEADER_SIZE)..).unwrap_or_default();
            for disk in body.chunks_exact(16).take(leaf.count) {
                let Ok(disk) = DiskExtent::read_from_bytes(disk) else {
                    continue;
                };
                let extent = Extent::from_disk(&disk);
                let at = extent.file_block.0;
                // No extent straddles a bound, or a lookup beyond it would miss its tail.
                if at < leaf.low || extent.file_end().0 > leaf.high {
                    check.report(Issue::Node {
                        ino,
                        block: leaf.block,
                        fault: NodeFault::Range,
                    });
                }
                check.extent(ino, &mut sequence, &extent);
            }
            Ok(())
        })?;
        self.end_of_extents(&sequence);
        Ok(nodes.saturating_add(sequence.blocks))
    }

    fn extent(&mut self, ino: Ino, sequence: &mut Sequence, extent: &Extent) {
        let file_block = extent.file_block;
        sequence.extents += 1;
        let end = file_block.0.checked_add(extent.len);
        if extent.len == 0 || end.is_none_or(|end| end > FileBlock::END.0) {
            self.report(Issue::ExtentLength { ino, file_block });
            return;
        }
        if extent.file_end() > FileBlock::PARKED && !sequence.pending {
            self.report(Issue::ExtentParked { ino, file_block });
        }
        if sequence.extents > 1 && file_block <= sequence.start {
            self.report(Issue::ExtentOrder { ino, file_block });
        } else if file_block < sequence.end {
            self.report(Issue::ExtentOverlap { ino, file_block });
        }
        sequence.start = file_block;
        sequence.end = sequence.end.max(extent.file_end());
        if !self.shape.is_data(extent.block, extent.len) {
            self.report(Issue::ExtentBounds {
                ino,
                file_block,
                block: extent.block,
            });
            return;
        }
        sequence.blocks = sequence.blocks.saturating_add(extent.len);
        if let Some(block) = self.claimed.set_run(extent.block, extent.len) {
            self.report(Issue::BlockShared { block, ino });
        }
    }

    fn end_of_extents(&mut self, sequence: &Sequence) {
        self.summary.extents += sequence.extents;
        if sequence.extents > 1 {
            self.summary.fragments += sequence.extents;
        }
    }
}
