// SPDX-License-Identifier: GPL-2.0

//! The journal: a header block with the checkpoint, then lanes of segments of records.
//!
//! A record is a [`RecordHeader`] and `words` 8-byte words of entries, padded to a multiple of 64 bytes. Records follow each
//! other from a segment's start for as long as they are valid and their numbers rise. An entry is a head word
//! `kind | length << 4 | address / 8 << 14`, and for [`WRITE`] that many words of content; see [`Head`].

use super::layout;
use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Journal header: `OJNL`.
pub const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"OJNL");
/// Record: `OREC`.
pub const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"OREC");
/// Blocks of a segment.
pub const SEGMENT_BLOCKS: u32 = 16;
/// Bytes of a segment.
pub const SEGMENT_SIZE: u64 = SEGMENT_BLOCKS as u64 * 4096;
/// Segments of a lane.
pub const LANE_SEGMENTS: usize = 4;
/// Bytes of a lane.
pub const LANE_SIZE: u64 = SEGMENT_SIZE * LANE_SEGMENTS as u64;
/// The fewest lanes.
pub const MIN_LANES: u32 = 4;
/// The most lanes.
pub const MAX_LANES: u32 = 64;
/// Records start at multiples of this.
pub const RECORD_ALIGN: u64 = 64;
/// Where the two checkpoint slots lie in the header block.
pub const CHECKPOINT_OFFSETS: [u64; 2] = [512, 1024];
/// Words of a record's header.
pub const RECORD_HEADER_WORDS: usize = 4;
/// The most words of a record with its header.
pub const MAX_RECORD_WORDS: usize = (SEGMENT_SIZE / 8) as usize;

/// The header block. Only the checkpoint slots change after mkfs.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct JournalHeader {
    /// [`HEADER_MAGIC`].
    pub magic: U32,
    /// Lanes, as in the superblock.
    pub lanes: U32,
    /// Over these 64 bytes without this field.
    pub checksum: U64,
    /// The block's own number.
    pub block: U64,
    /// The filesystem.
    pub uuid: [u8; 16],
    /// Zero.
    pub reserved: [u8; 24],
}

layout!(JournalHeader, 64; magic @ 0, lanes @ 4, checksum @ 8, block @ 16, uuid @ 24, reserved @ 40);

/// One of the two places for the checkpoint number; the valid one with the larger number counts.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CheckpointSlot {
    /// All records below this number are in place, durably.
    pub seq: U64,
    /// Keyed, over `seq` and the slot's number.
    pub checksum: U64,
}

layout!(CheckpointSlot, 16; seq @ 0, checksum @ 8);

/// Starts a record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RecordHeader {
    /// [`RECORD_MAGIC`].
    pub magic: U32,
    /// Words of entries after the header.
    pub words: U32,
    /// The transaction's number.
    pub seq: U64,
    /// Keyed; over magic, words, seq, the record's own address and the entries.
    pub checksum: U64,
    /// Zero.
    pub flags: U64,
}

layout!(RecordHeader, 32; magic @ 0, words @ 4, seq @ 8, checksum @ 16, flags @ 24);

/// Entry: `length` words of content for `address` follow.
pub const WRITE: u8 = 1;
/// Entry: `length` words from `address` become zero.
pub const ZERO: u8 = 2;
/// Entry: `address` is that of the first bit's bitmap *word*, `length` the first bit in it (0..64); the next word is
/// the number of bits. They become set.
pub const BITS_SET: u8 = 3;
/// Entry: as [`BITS_SET`]; they become clear.
pub const BITS_CLEAR: u8 = 4;
/// Entry: bit `length` of the chunk mask word at `address` becomes set.
pub const INODE_SET: u8 = 5;
/// Entry: as [`INODE_SET`]; it becomes clear.
pub const INODE_CLEAR: u8 = 6;

/// Entry: `length` words of masks follow, for as many words of a group's bitmap from `address` on. What is set in a mask becomes
/// clear in its word. For the blocks of data only.
pub const MASKS_CLEAR: u8 = 7;

/// Numbers of transactions stay below this; what says more is damaged. It leaves room for all that a medium lives to see.
pub const MAX_SEQ: u64 = 1 << 62;

/// Checkpoints stay below this. What is written next has higher numbers, which are to be below [`MAX_SEQ`] for as long as the
/// filesystem is mounted.
pub const MAX_CHECKPOINT: u64 = MAX_SEQ / 4 * 3;

/// The largest `length` of a head.
pub const MAX_ENTRY_WORDS: usize = 1023;
/// Addresses in the journal have 48 bits: 256 TiB.
pub const MAX_ADDRESS: u64 = 1 << 48;

/// The head word of an entry, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// [`WRITE`] and so on.
    pub kind: u8,
    /// Words, or a bit number.
    pub length: usize,
    /// Byte address, a multiple of 8.
    pub address: u64,
}

impl Head {
    /// Packs; `address` is below [`MAX_ADDRESS`], `length` at most [`MAX_ENTRY_WORDS`].
    pub const fn pack(self) -> u64 {
        self.kind as u64 | (self.length as u64 & 0x3ff) << 4 | (self.address >> 3) << 14
    }

    /// Unpacks.
    pub const fn unpack(word: u64) -> Self {
        Self {
            kind: (word & 15) as u8,
            length: ((word >> 4) & 0x3ff) as usize,
            address: (word >> 14 << 3) & (MAX_ADDRESS - 1),
        }
    }

    /// Words that follow the head.
    pub const fn content_words(self) -> usize {
        match self.kind {
            WRITE | MASKS_CLEAR => self.length,
            BITS_SET | BITS_CLEAR => 1,
            _ => 0,
        }
    }
}
