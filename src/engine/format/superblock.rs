// SPDX-License-Identifier: GPL-2.0

//! The superblock: block 0, with a copy in the device's last block.
//!
//! Its checksum is made with known keys, since the superblock holds the secret that all other checksums are keyed with.
//! The state word alone changes after mkfs without a transaction; it is outside the checksum and means nothing in the copy.

use super::layout;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `OCHREFS1` in the order of bytes.
pub const MAGIC: u64 = u64::from_le_bytes(*b"OCHREFS1");
/// The version of everything that feature words do not cover.
pub const VERSION: u32 = 1;
/// Compatible features that this code knows.
pub const COMPAT: u64 = 0;
/// Features that a kernel without them can read but not write.
pub const RO_COMPAT: u64 = 0;
/// Features that a kernel must know.
pub const INCOMPAT: u64 = 0;
/// In the word of incompatible features: a repair is under way. Nothing mounts such a filesystem, and no version that does
/// not know this bit does; `fsck.ochre` clears it when it is through.
pub const REPAIRING: u64 = 1;
/// State: everything is in place, the journal holds nothing to replay.
pub const CLEAN: u64 = u64::from_le_bytes(*b"clean   ");
/// State: mounted for writing, or not unmounted.
pub const DIRTY: u64 = u64::from_le_bytes(*b"dirty   ");
/// Bytes of a label, padded with zeros.
pub const LABEL_LEN: usize = 32;
/// Offset of the state word within the block.
pub const STATE_OFFSET: u64 = 448;

/// The superblock.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Superblock {
    /// [`MAGIC`].
    pub magic: U64,
    /// Over bytes 0..448 without this field.
    pub checksum: U64,
    /// [`VERSION`].
    pub version: U32,
    /// log2 of the block size: 12.
    pub block_shift: U32,
    /// Feature bits that may be ignored.
    pub compat: U64,
    /// Feature bits that forbid writing if unknown.
    pub ro_compat: U64,
    /// Feature bits that forbid mounting if unknown.
    pub incompat: U64,
    /// The filesystem's identity.
    pub uuid: [u8; 16],
    /// The volume label.
    pub label: [u8; LABEL_LEN],
    /// Blocks of the filesystem, from block 0 to the superblock's copy.
    pub blocks: U64,
    /// Physical address of byte 0 modulo 2 MiB that mkfs assumed.
    pub phase: U64,
    /// Block of the journal header.
    pub journal: U64,
    /// Journal lanes, a power of 2.
    pub lanes: U32,
    /// Blocks of a lane's segment.
    pub segment_blocks: U32,
    /// Segments of a lane.
    pub lane_segments: U32,
    /// Entries of the orphan table.
    pub orphan_slots: U32,
    /// First block of the orphan table.
    pub orphans: U64,
    /// First block of allocation group 0.
    pub ag_start: U64,
    /// Blocks of every group but the last.
    pub ag_blocks: U32,
    /// Number of groups.
    pub ag_count: U32,
    /// The root directory.
    pub root: U64,
    /// When mkfs ran, nanoseconds since 1970.
    pub created: I64,
    /// What metadata and record checksums are keyed with.
    pub secret: [U64; 2],
    /// Key of the hash of names.
    pub hash_key: [U64; 2],
    /// Zero.
    pub reserved: [u8; 240],
    /// [`CLEAN`] or [`DIRTY`]; outside the checksum, only meaningful in the primary.
    pub state: U64,
    /// Zero.
    pub padding: [u8; 56],
}

/// Bytes that the checksum covers.
pub const CHECKED: usize = STATE_OFFSET as usize;

layout!(Superblock, 512; magic @ 0, checksum @ 8, version @ 16, block_shift @ 20, compat @ 24, ro_compat @ 32,
    incompat @ 40, uuid @ 48, label @ 64, blocks @ 96, phase @ 104, journal @ 112, lanes @ 120, segment_blocks @ 124,
    lane_segments @ 128, orphan_slots @ 132, orphans @ 136, ag_start @ 144, ag_blocks @ 152, ag_count @ 156,
    root @ 160, created @ 168, secret @ 176, hash_key @ 192, reserved @ 208, state @ 448, padding @ 456);
