// SPDX-License-Identifier: GPL-2.0

//! The inode record, 256 bytes.
//!
//! The three times lie outside the checksum: they are also changed by single aligned stores without a transaction, and a
//! crash between such a store and that of a checksum would make the record look damaged.

use super::layout;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `OINO`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"OINO");
/// Bytes of a record.
pub const RECORD_SIZE: u64 = 256;
/// Records in a block.
pub const RECORDS_PER_BLOCK: u64 = 16;
/// Where the times start; each is 8 bytes: access, modification, change.
pub const TIMES_OFFSET: u64 = 120;
/// Where the times end.
pub const TIMES_END: u64 = 144;
/// Where the inline area starts.
pub const INLINE_OFFSET: u64 = 144;
/// Bytes of the inline area.
pub const INLINE_SIZE: usize = 112;
/// Extents that fit the inline area.
pub const INLINE_EXTENTS: usize = 7;

/// [`InodeRecord::root`]: `count` extents in the inline area.
pub const ROOT_INLINE_EXTENTS: u8 = 0;
/// [`InodeRecord::root`]: the first word of the inline area is the root of an extent tree of `height` levels.
pub const ROOT_EXTENT_TREE: u8 = 1;
/// [`InodeRecord::root`]: the first word of the inline area is the root of a directory tree, 0 if it is empty.
pub const ROOT_DIRECTORY: u8 = 2;
/// [`InodeRecord::root`]: the inline area holds a symbolic link's target of `size` bytes.
pub const ROOT_INLINE_SYMLINK: u8 = 3;
/// [`InodeRecord::root`]: the first two words of the inline area are the symlink blocks; the second may be 0.
pub const ROOT_SYMLINK_BLOCKS: u8 = 4;
/// [`InodeRecord::root`]: a device node, fifo or socket: nothing.
pub const ROOT_NONE: u8 = 5;

/// [`InodeRecord::pending`]: what lies behind the end of the file is to be freed.
pub const PENDING_ALL: u8 = 0;
/// [`InodeRecord::pending`]: only what lies from [`FileBlock::PARKED`](crate::engine::types::FileBlock::PARKED) on is.
pub const PENDING_PARKED: u8 = 1;

/// An inode.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct InodeRecord {
    /// [`MAGIC`].
    pub magic: U32,
    /// Type and permissions as in `st_mode`.
    pub mode: U16,
    /// One of the `ROOT_*`.
    pub root: u8,
    /// Extents in the inline area.
    pub count: u8,
    /// Over bytes 0..120 and 144..256 without this field.
    pub checksum: U64,
    /// The record's own number.
    pub ino: U64,
    /// Differs between two uses of one number.
    pub generation: U32,
    /// Links; 0 for one that is on the orphan list.
    pub nlink: U32,
    /// Owner.
    pub uid: U32,
    /// Group.
    pub gid: U32,
    /// Project quota id.
    pub project: U32,
    /// Flags as in `FS_IOC_GETFLAGS`.
    pub flags: U32,
    /// Bytes.
    pub size: U64,
    /// Blocks of data and of trees.
    pub blocks: U64,
    /// When it was made.
    pub btime: I64,
    /// A directory's parent.
    pub parent: U64,
    /// A device node's number, in the kernel's encoding of 32 + 32 bits: major, minor.
    pub rdev: U64,
    /// Block of extended attributes, or 0.
    pub xattr_block: U64,
    /// 1 + the slot in the orphan table that holds this inode, or 0.
    pub orphan: U32,
    /// Levels of the tree: 1 = the root is a leaf.
    pub height: u8,
    /// With links and a place in the orphan table: one of the `PENDING_*`.
    pub pending: u8,
    /// Zero.
    pub reserved: [u8; 18],
    /// Last access; outside the checksum, as the next two.
    pub atime: I64,
    /// Last change of content.
    pub mtime: I64,
    /// Last change of the inode.
    pub ctime: I64,
    /// Extents, root or target, as `root` says.
    pub inline: [u8; INLINE_SIZE],
}

layout!(InodeRecord, 256; magic @ 0, mode @ 4, root @ 6, count @ 7, checksum @ 8, ino @ 16, generation @ 24, nlink @ 28,
    uid @ 32, gid @ 36, project @ 40, flags @ 44, size @ 48, blocks @ 56, btime @ 64, parent @ 72, rdev @ 80,
    xattr_block @ 88, orphan @ 96, height @ 100, pending @ 101, reserved @ 102, atime @ 120, mtime @ 128, ctime @ 136, inline @ 144);
