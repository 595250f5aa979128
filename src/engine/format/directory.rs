// SPDX-License-Identifier: GPL-2.0

//! A directory leaf: 4 KiB with up to 128 entries, in no order.
//!
//! | bytes | content |
//! |---|---|
//! | 0..64 | [`super::node::BlockHeader`]; `specific` is a [`LeafSpecific`]; `count` = set bits of the bitmap |
//! | 64..80 | bitmap of the slots in use |
//! | 80..208 | a byte of the hash for each slot |
//! | 208..464 | offset of each slot's entry, u16 |
//! | 464..4096 | heap of entries, filled downwards from the end |
//!
//! An entry is an [`EntryHeader`] and the name, padded to a multiple of 8.

use super::layout;
use zerocopy::little_endian::{U16, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Slots of a leaf.
pub const SLOTS: usize = 128;
/// Where the bitmap lies.
pub const BITMAP_OFFSET: u64 = 64;
/// Where the fingerprints lie.
pub const FINGERPRINTS_OFFSET: u64 = 80;
/// Where the entries' offsets lie.
pub const OFFSETS_OFFSET: u64 = 208;
/// The lowest byte of the heap.
pub const HEAP_OFFSET: u64 = 464;
/// Bytes of an entry before its name.
pub const ENTRY_HEADER: u64 = 18;
/// Bits of a key that hold the hash of the name; the rest is the collision number.
pub const COLLISION_BITS: u32 = 15;
/// The largest collision number.
pub const MAX_COLLISION: u64 = (1 << COLLISION_BITS) - 1;

/// What a directory leaf keeps in its header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LeafSpecific {
    /// Offset of the lowest entry in the heap; 4096 when it is empty.
    pub heap_start: U16,
    /// Bytes of the heap that removed entries hold.
    pub dead: U16,
    /// Zero.
    pub reserved: [u8; 4],
}

layout!(LeafSpecific, 8; heap_start @ 0, dead @ 2, reserved @ 4);

/// The fixed part of an entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct EntryHeader {
    /// `hash << 15 | collision number`.
    pub key: U64,
    /// The inode.
    pub ino: U64,
    /// Bytes of the name; 1 to 255.
    pub name_len: u8,
    /// As `DT_*`.
    pub kind: u8,
}

layout!(EntryHeader, 18; key @ 0, ino @ 8, name_len @ 16, kind @ 17);

const _: () = assert!(BITMAP_OFFSET as usize + SLOTS / 8 == FINGERPRINTS_OFFSET as usize);
const _: () = assert!(FINGERPRINTS_OFFSET as usize + SLOTS == OFFSETS_OFFSET as usize);
const _: () = assert!(OFFSETS_OFFSET as usize + 2 * SLOTS == HEAP_OFFSET as usize);
