// SPDX-License-Identifier: GPL-2.0

//! The header that every metadata block starts with, and the index node that extent and directory trees share.

use super::layout;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Index node of an extent tree: `OXIX`.
pub const EXTENT_INDEX_MAGIC: u32 = u32::from_le_bytes(*b"OXIX");
/// Leaf of an extent tree: `OXLF`.
pub const EXTENT_LEAF_MAGIC: u32 = u32::from_le_bytes(*b"OXLF");
/// Index node of a directory: `ODIX`.
pub const DIRECTORY_INDEX_MAGIC: u32 = u32::from_le_bytes(*b"ODIX");
/// Leaf of a directory: `ODLF`.
pub const DIRECTORY_LEAF_MAGIC: u32 = u32::from_le_bytes(*b"ODLF");
/// A symbolic link's target: `OSYM`.
pub const SYMLINK_MAGIC: u32 = u32::from_le_bytes(*b"OSYM");
/// Extended attributes: `OXAT`.
pub const XATTR_MAGIC: u32 = u32::from_le_bytes(*b"OXAT");

/// Bytes of a [`BlockHeader`].
pub const HEADER_SIZE: u64 = 64;
/// Where the checksum lies, in a block as in an inode record.
pub const CHECKSUM_OFFSET: u64 = 8;
/// Entries of an index node.
pub const INDEX_CAPACITY: usize = 252;
/// The most levels of a tree, leaves included; what is higher is damage.
pub const MAX_HEIGHT: u8 = 8;

/// Starts every metadata block. The checksum covers the whole block without the checksum itself.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BlockHeader {
    /// What the block is.
    pub magic: U32,
    /// Distance from the leaves; 0 = leaf.
    pub level: U16,
    /// Entries; of a symlink block: bytes of the target.
    pub count: U16,
    /// Over the block.
    pub checksum: U64,
    /// The block's own number.
    pub block: U64,
    /// The inode that it belongs to.
    pub owner: U64,
    /// The filesystem.
    pub uuid: [u8; 16],
    /// The owner's generation.
    pub generation: U32,
    /// Zero.
    pub reserved: U32,
    /// What the kind of block says; else zero.
    pub specific: [u8; 8],
}

layout!(BlockHeader, 64; magic @ 0, level @ 4, count @ 6, checksum @ 8, block @ 16, owner @ 24, uuid @ 32,
    generation @ 48, reserved @ 52, specific @ 56);

/// Entry of an index node; sorted by `key`. The child holds keys from `key` to the next entry's.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IndexEntry {
    /// The least key in the child; of the first entry it is taken to be 0.
    pub key: U64,
    /// The child's block.
    pub child: U64,
}

layout!(IndexEntry, 16; key @ 0, child @ 8);

const _: () = assert!(HEADER_SIZE as usize + INDEX_CAPACITY * 16 == 4096);
