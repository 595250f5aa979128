// SPDX-License-Identifier: GPL-2.0

//! An extent: consecutive blocks of a file in consecutive blocks of the device, 16 bytes.

use super::layout;
use crate::engine::types::{Block, FileBlock};
use zerocopy::little_endian::U64;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The most blocks of one extent.
pub const MAX_LEN: u64 = (1 << 20) - 1;
/// Extents of a leaf block.
pub const LEAF_CAPACITY: usize = 252;

/// As it lies on the medium.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DiskExtent {
    /// `file block << 20 | length`.
    pub position: U64,
    /// `device block << 1 | unwritten`.
    pub target: U64,
}

layout!(DiskExtent, 16; position @ 0, target @ 8);

/// As the engine uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First block of the file.
    pub file_block: FileBlock,
    /// Blocks; 1 to [`MAX_LEN`].
    pub len: u64,
    /// First block of the device.
    pub block: Block,
    /// Allocated but never written: reads as zeros.
    pub unwritten: bool,
}

impl Extent {
    /// Unpacks; says nothing about whether it makes sense.
    pub fn from_disk(disk: &DiskExtent) -> Self {
        let position = disk.position.get();
        let target = disk.target.get();
        Self {
            file_block: FileBlock(position >> 20),
            len: position & MAX_LEN,
            block: Block(target >> 1),
            unwritten: target & 1 != 0,
        }
    }

    /// Packs.
    pub fn to_disk(&self) -> DiskExtent {
        DiskExtent {
            position: U64::new((self.file_block.0 << 20) | (self.len & MAX_LEN)),
            target: U64::new((self.block.0 << 1) | u64::from(self.unwritten)),
        }
    }

    /// The file block after the last.
    pub const fn file_end(&self) -> FileBlock {
        self.file_block.plus(self.len)
    }

    /// The device block after the last.
    pub const fn end(&self) -> Block {
        self.block.plus(self.len)
    }
}
