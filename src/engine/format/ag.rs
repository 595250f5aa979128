// SPDX-License-Identifier: GPL-2.0

//! An allocation group's own metadata, in its first 2 MiB slot.
//!
//! | relative block | content |
//! |---|---|
//! | 0 | header |
//! | 1..9 | block bitmap, one bit a block, set = used |
//! | 16..272 | inode chunk map, 65536 entries of 16 bytes |
//!
//! All blocks of this slot are marked used in the bitmap. Bitmap and chunk masks change by logical records that many
//! transactions share, so no checksum covers them: between two stores of one apply it would be wrong, and a replay would
//! not make it right. They are checked by structure: see `docs/format.md`.

use super::layout;
use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `OAGH`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"OAGH");
/// Blocks at the start of a group that hold its metadata.
pub const METADATA_BLOCKS: u64 = 512;
/// The fewest blocks that a group is made of; a shorter rest of the device stays unused.
pub const MIN_BLOCKS: u64 = 1024;
/// First block of the bitmap, relative to the group.
pub const BITMAP_BLOCK: u64 = 1;
/// Blocks of a full group's bitmap.
pub const BITMAP_BLOCKS: u64 = 8;
/// Words of a full group's bitmap.
pub const BITMAP_WORDS: usize = 4096;
/// First block of the chunk map, relative to the group.
pub const CHUNK_MAP_BLOCK: u64 = 16;
/// Blocks of the chunk map.
pub const CHUNK_MAP_BLOCKS: u64 = 256;
/// Entries of the chunk map.
pub const MAX_CHUNKS: u32 = 65536;
/// Blocks of an inode chunk.
pub const CHUNK_BLOCKS: u64 = 4;
/// Inode records in a chunk.
pub const CHUNK_INODES: u32 = 64;

/// Offset of [`AgHeader::free_blocks`], and of the end of what the checksum covers.
pub const FREE_BLOCKS_OFFSET: u64 = 64;
/// In [`AgHeader::free_blocks`]: neither that nor `used_inodes` is known. Recovery leaves it in each group that it changed, and
/// never an unmount.
pub const UNCOUNTED: u64 = u64::MAX;
/// Offset of [`AgHeader::used_inodes`].
pub const USED_INODES_OFFSET: u64 = 72;
/// Offset of [`AgHeader::chunks`].
pub const CHUNKS_OFFSET: u64 = 80;
/// Bytes that the header's checksum covers.
pub const CHECKED: usize = 64;

/// The header of a group.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AgHeader {
    /// [`MAGIC`].
    pub magic: U32,
    /// The number of this group.
    pub agno: U32,
    /// Over bytes 0..64 without this field.
    pub checksum: U64,
    /// The number of the block that this header is in.
    pub block: U64,
    /// Blocks of this group.
    pub blocks: U64,
    /// The filesystem.
    pub uuid: [u8; 16],
    /// Zero.
    pub reserved: [u8; 16],
    /// Clear bits of the bitmap. Outside the checksum; stored by checkpoints, [`UNCOUNTED`] after a recovery.
    pub free_blocks: U64,
    /// Set bits of the chunk masks. As `free_blocks`.
    pub used_inodes: U64,
    /// Entries of the chunk map that mean something; those from here on are never read. Outside the checksum; changed by
    /// transactions.
    pub chunks: U64,
}

layout!(AgHeader, 88; magic @ 0, agno @ 4, checksum @ 8, block @ 16, blocks @ 24, uuid @ 32, reserved @ 48,
    free_blocks @ 64, used_inodes @ 72, chunks @ 80);

/// One entry of the chunk map.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ChunkEntry {
    /// First of the chunk's four blocks, relative to the group; a multiple of 4.
    pub start: U32,
    /// Keyed check of group, index and `start`.
    pub check: U32,
    /// One bit a record, set = used.
    pub mask: U64,
}

layout!(ChunkEntry, 16; start @ 0, check @ 4, mask @ 8);

/// Offset of the mask in a [`ChunkEntry`].
pub const CHUNK_MASK_OFFSET: u64 = 8;
