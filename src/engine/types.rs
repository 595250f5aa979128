// SPDX-License-Identifier: GPL-2.0

//! Numbers that must not be mixed up, each a type of its own, and lossless conversions between plain ones.

/// Bytes in a block.
pub const BLOCK_SIZE: u64 = 4096;
/// log2 of [`BLOCK_SIZE`].
pub const BLOCK_SHIFT: u32 = 12;
/// Blocks in a slot, the 2 MiB unit that a PMD can map.
pub const SLOT_BLOCKS: u64 = 512;
/// Blocks in a full allocation group: 1 GiB.
pub const AG_BLOCKS: u64 = 262_144;
/// Slots in a full allocation group.
pub const AG_SLOTS: usize = 512;
/// The largest file size in bytes.
pub const MAX_FILE_SIZE: u64 = FileBlock::PARKED.offset();
/// The longest name of a directory entry in bytes.
pub const MAX_NAME: usize = 255;
/// The most links that one inode can have.
pub const MAX_LINKS: u32 = 1 << 30;

/// The number of an inode: `group << 22 | chunk << 6 | slot`. 0 is no inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ino(pub u64);

impl Ino {
    /// No inode.
    pub const NONE: Self = Self(0);
    /// The root directory.
    pub const ROOT: Self = Self(1);

    /// Joins the three parts; the caller keeps `chunk < 65536` and `slot < 64`.
    pub const fn from_parts(ag: u32, chunk: u32, slot: u32) -> Self {
        Self(((ag as u64) << 22) | ((chunk as u64 & 0xffff) << 6) | (slot as u64 & 63))
    }

    /// The allocation group; `u32::MAX`, which no filesystem has, if the number is out of all range.
    pub const fn ag(self) -> u32 {
        let ag = self.0 >> 22;
        if ag > u32::MAX as u64 {
            u32::MAX
        } else {
            ag as u32
        }
    }

    /// The index into the group's chunk map.
    pub const fn chunk(self) -> u32 {
        ((self.0 >> 6) & 0xffff) as u32
    }

    /// The record within the chunk.
    pub const fn slot(self) -> u32 {
        (self.0 & 63) as u32
    }
}

impl core::fmt::Display for Ino {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a block of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Block(pub u64);

impl Block {
    /// The superblock's place, and so never a block of a file or a tree.
    pub const NONE: Self = Self(0);

    /// Byte address on the device. Numbers from the medium are checked against the device's size before.
    pub const fn address(self) -> u64 {
        self.0 << BLOCK_SHIFT
    }

    /// The block that holds the byte `address`.
    pub const fn of(address: u64) -> Self {
        Self(address >> BLOCK_SHIFT)
    }

    /// The block `n` further; stays at the end of numbers instead of wrapping.
    pub const fn plus(self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }
}

impl core::fmt::Display for Block {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a block within a file; below 2^44.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileBlock(pub u64);

impl FileBlock {
    /// One past the last file block.
    pub const END: Self = Self(1 << 44);
    /// No file is so large. From here on are blocks that were taken out of the file while somebody held their pages.
    pub const PARKED: Self = Self(1 << 43);

    /// The block that holds the byte at `offset`.
    pub const fn of(offset: u64) -> Self {
        Self(offset >> BLOCK_SHIFT)
    }

    /// The first block that starts at or after `offset`.
    pub const fn after(offset: u64) -> Self {
        Self((offset >> BLOCK_SHIFT) + if offset & (BLOCK_SIZE - 1) != 0 { 1 } else { 0 })
    }

    /// Byte offset in the file.
    pub const fn offset(self) -> u64 {
        self.0 << BLOCK_SHIFT
    }

    /// The block `n` further; stays at the end of numbers instead of wrapping.
    pub const fn plus(self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }
}

/// Tells apart the inodes that have had the same number, for handles that outlive them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Generation(pub u32);

/// The number of a transaction: all records of all lanes are ordered by it. 0 is before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Seq(pub u64);

/// Nanoseconds since the epoch, 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

/// Consecutive blocks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Run {
    /// The first one.
    pub start: Block,
    /// How many.
    pub len: u64,
}

impl Run {
    /// The block after the last.
    pub const fn end(self) -> Block {
        self.start.plus(self.len)
    }
}

/// What an inode is, as in the type bits of `st_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Bytes.
    Regular,
    /// Names.
    Directory,
    /// A path.
    Symlink,
    /// A character device node.
    CharDevice,
    /// A block device node.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

impl FileKind {
    /// From the type bits of `st_mode`.
    pub const fn from_mode(mode: u16) -> Option<Self> {
        Some(match mode & 0o170000 {
            0o100000 => Self::Regular,
            0o040000 => Self::Directory,
            0o120000 => Self::Symlink,
            0o020000 => Self::CharDevice,
            0o060000 => Self::BlockDevice,
            0o010000 => Self::Fifo,
            0o140000 => Self::Socket,
            _ => return None,
        })
    }

    /// The type bits of `st_mode`.
    pub const fn mode_bits(self) -> u16 {
        match self {
            Self::Regular => 0o100000,
            Self::Directory => 0o040000,
            Self::Symlink => 0o120000,
            Self::CharDevice => 0o020000,
            Self::BlockDevice => 0o060000,
            Self::Fifo => 0o010000,
            Self::Socket => 0o140000,
        }
    }

    /// The value in a directory entry, which is also the `DT_*` of readdir.
    pub const fn to_disk(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }

    /// From a directory entry.
    pub const fn from_disk(kind: u8) -> Option<Self> {
        if kind > 15 {
            return None;
        }
        Self::from_mode((kind as u16) << 12)
    }
}

/// `usize` to `u64`, which loses nothing on any machine that Ochre runs on.
pub const fn u64_of(n: usize) -> u64 {
    n as u64
}

/// `u64` to `usize` on a 64-bit machine.
pub const fn usize_of(n: u64) -> usize {
    n as usize
}

/// The low 32 bits; for numbers that are known to fit.
pub const fn u32_of(n: u64) -> u32 {
    debug_assert!(n <= u32::MAX as u64);
    n as u32
}

const _: () = assert!(usize::BITS == 64, "Ochre is for 64-bit machines");
