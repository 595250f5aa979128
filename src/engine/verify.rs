// SPDX-License-Identifier: GPL-2.0

//! Whether structures read from the medium are what they claim to be.
//!
//! Each verifier names the first thing that is wrong. They run at first use: a metadata block that was verified once in this
//! mount is not summed again, since from then on only transactions change it. What stands behind the header of a block is
//! judged in [`content`].

pub mod content;

use super::checksum::{Domain, Keys};
use super::error::{Error, Result};
use super::format::inode::{self, InodeRecord};
use super::format::node::{self, BlockHeader, CHECKSUM_OFFSET, MAX_HEIGHT};
use super::superblock::Geometry;
use super::types::*;
use zerocopy::IntoBytes;

/// What a metadata block must say about itself.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// What it is.
    pub magic: u32,
    /// Whose it is.
    pub owner: Ino,
    /// The owner's generation.
    pub generation: Generation,
}

impl Expected {
    /// The fault of a block whose sum is wrong, by the name of what it should be.
    pub const fn checksum_fault(&self) -> &'static str {
        match self.magic {
            node::EXTENT_INDEX_MAGIC => "extent index checksum",
            node::EXTENT_LEAF_MAGIC => "extent leaf checksum",
            node::DIRECTORY_INDEX_MAGIC => "directory index checksum",
            node::DIRECTORY_LEAF_MAGIC => "directory leaf checksum",
            node::SYMLINK_MAGIC => "symbolic link checksum",
            node::XATTR_MAGIC => "extended attributes checksum",
            _ => "metadata block checksum",
        }
    }
}

/// Checks a block's header against where it was found and who led to it.
pub fn header(h: &BlockHeader, block: Block, uuid: &[u8; 16], expected: &Expected) -> Result {
    let fault = if h.magic.get() != expected.magic {
        "metadata block magic"
    } else if h.block.get() != block.0 {
        "metadata block's own number"
    } else if h.owner.get() != expected.owner.0 || h.generation.get() != expected.generation.0 {
        "metadata block owner"
    } else if h.uuid != *uuid {
        "metadata block uuid"
    } else if h.level.get() >= u16::from(MAX_HEIGHT) {
        "metadata block level"
    } else {
        return Ok(());
    };
    Err(Error::corrupt(fault, block.address()))
}

/// The checksum that an inode record should have.
pub fn inode_sum(keys: &Keys, record: &InodeRecord) -> u64 {
    let bytes = record.as_bytes();
    let (low, high) = (inode::TIMES_OFFSET as usize, inode::TIMES_END as usize);
    let mut sum = keys.start(Domain::Inode);
    for (first, end) in [(0, 8), (16, low), (high, inode::RECORD_SIZE as usize)] {
        sum = sum.wrapping_add(keys.bytes(first / 8, bytes.get(first..end).unwrap_or(&[])));
    }
    sum
}

/// Checks a record that was read from byte `address` as that of `ino`.
pub fn inode(
    keys: &Keys,
    geometry: &Geometry,
    record: &InodeRecord,
    ino: Ino,
    address: u64,
) -> Result {
    let fault = if record.magic.get() != inode::MAGIC {
        "inode magic"
    } else if record.ino.get() != ino.0 {
        "inode's own number"
    } else if inode_sum(keys, record) != record.checksum.get() {
        "inode checksum"
    } else if let Some(fault) = inode_fields(geometry, record) {
        fault
    } else {
        return Ok(());
    };
    Err(Error::corrupt(fault, address))
}

/// What is wrong with the fields of a record.
fn inode_fields(geometry: &Geometry, record: &InodeRecord) -> Option<&'static str> {
    let Some(kind) = FileKind::from_mode(record.mode.get()) else {
        return Some("inode mode");
    };
    let root = record.inline.first_chunk::<8>();
    let root = root.copied().map_or(0, u64::from_le_bytes);
    let tree = root != 0 && record.height > 0 && record.height <= MAX_HEIGHT;
    let suits = match (kind, record.root) {
        (FileKind::Regular, inode::ROOT_INLINE_EXTENTS) => {
            record.count as usize <= inode::INLINE_EXTENTS
        }
        (FileKind::Regular, inode::ROOT_EXTENT_TREE) => tree,
        (FileKind::Directory, inode::ROOT_DIRECTORY) => tree || (root == 0 && record.height == 0),
        (FileKind::Symlink, inode::ROOT_INLINE_SYMLINK | inode::ROOT_SYMLINK_BLOCKS) => true,
        (FileKind::Regular | FileKind::Directory | FileKind::Symlink, _) => false,
        (_, root) => root == inode::ROOT_NONE,
    };
    let links = record.nlink.get();
    if !suits {
        Some("inode's kind of content")
    } else if record.size.get() > MAX_FILE_SIZE {
        Some("inode size")
    } else if record.blocks.get() > geometry.blocks {
        Some("inode's count of blocks")
    } else if links > MAX_LINKS || (kind == FileKind::Directory && links == 1) {
        Some("link count of an inode")
    } else if record.orphan.get() > geometry.orphan_slots {
        Some("orphan slot of an inode")
    } else if links > 0 && record.orphan.get() != 0 && kind != FileKind::Regular {
        // With links it is there for an unfinished truncate, which only a file can have.
        Some("orphan slot of an inode")
    } else if links == 0 && record.orphan.get() == 0 {
        // Nobody would ever give it back.
        Some("inode without links")
    } else {
        None
    }
}

/// Whether word `index` of an object of this kind is covered by its checksum.
#[inline]
pub(super) const fn covered(domain: Domain, index: usize) -> bool {
    index != CHECKSUM_OFFSET as usize / 8
        && !(matches!(domain, Domain::Inode)
            && index >= inode::TIMES_OFFSET as usize / 8
            && index < inode::TIMES_END as usize / 8)
}
