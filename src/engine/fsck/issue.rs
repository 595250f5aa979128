// SPDX-License-Identifier: GPL-2.0

//! Every inconsistency that the check can find, by name.
//!
//! An [`Issue`] is a fact about the medium and its place, never a suspicion: whoever repairs, or
//! tests that a damage is found, matches on it. A new check gets a variant of its own.

use core::fmt;

use crate::engine::types::{Block, FileBlock, Ino};

/// Which of the two superblocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// Block 0.
    Primary,
    /// The last block.
    Backup,
}

/// What is wrong with a block that describes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFault {
    /// The device returned an error.
    Unreadable,
    /// The magic number is none that belongs here.
    Magic,
    /// The checksum does not match the content.
    Checksum,
    /// It says that it is another block.
    Number,
    /// It says that it belongs to another inode.
    Owner,
    /// It belongs to another filesystem.
    Uuid,
    /// It belongs to an earlier inode of the same number.
    Generation,
    /// Its level is not one less than its parent's.
    Level,
    /// More entries than fit, or none.
    Count,
    /// Its keys are not in order.
    Order,
    /// Its keys lie outside what its parent assigned to it.
    Range,
}

impl NodeFault {
    fn text(self) -> &'static str {
        match self {
            Self::Unreadable => "cannot be read",
            Self::Magic => "has a wrong magic number",
            Self::Checksum => "has a wrong checksum",
            Self::Number => "carries another block's number",
            Self::Owner => "carries another inode's number",
            Self::Uuid => "belongs to another filesystem",
            Self::Generation => "belongs to an earlier inode of this number",
            Self::Level => "has the wrong level",
            Self::Count => "has an impossible number of entries",
            Self::Order => "has keys that are out of order",
            Self::Range => "has keys outside its range",
        }
    }
}

/// What is wrong with a name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFault {
    /// It lies outside the leaf's heap, or overlaps another.
    Place,
    /// The name is empty, `.`, `..`, or holds `/` or a zero byte.
    Name,
    /// The key is not the hash of the name.
    Hash,
    /// The key is outside the leaf's range.
    Range,
    /// The fingerprint is not that of the key.
    Fingerprint,
    /// Another entry has the same key.
    DuplicateKey,
    /// Another entry has the same name.
    DuplicateName,
    /// It leads to an inode that does not exist.
    Target,
    /// Its kind is not the inode's.
    Kind,
}

impl EntryFault {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Place => "lies outside the heap or overlaps another",
            Self::Name => "has an impossible name",
            Self::Hash => "has a key that is not the hash of its name",
            Self::Range => "has a key outside its leaf's range",
            Self::Fingerprint => "has a wrong fingerprint",
            Self::DuplicateKey => "has the same key as another",
            Self::DuplicateName => "has the same name as another",
            Self::Target => "leads to an inode that does not exist",
            Self::Kind => "has another kind than its inode",
        }
    }
}

/// One inconsistency and its place.
#[expect(
    missing_docs,
    reason = "the fields are what the variants' own lines speak of"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issue {
    /// A superblock cannot be used.
    SuperblockDamaged(Copy, &'static str),
    /// Both superblocks are whole and do not say the same.
    SuperblocksDiffer,
    /// The superblock's numbers contradict each other or the device.
    Geometry(&'static str),
    /// A repair was begun and not finished.
    UnfinishedRepair,
    /// The filesystem was not unmounted.
    NotClean(u64),
    /// The journal's header block cannot be used.
    JournalHeader(&'static str),
    /// None of the checkpoint slots is valid.
    NoCheckpoint,
    /// The header of an allocation group is damaged.
    GroupHeader { ag: u32, fault: &'static str },
    /// The count of free blocks is wrong.
    GroupFreeBlocks { ag: u32, stored: u64, counted: u64 },
    /// The count of inodes is wrong.
    GroupUsedInodes { ag: u32, stored: u64, counted: u64 },
    /// More inode chunks than a group can have.
    GroupChunks { ag: u32, chunks: u64 },
    /// An entry of the chunk map is damaged.
    ChunkEntry {
        ag: u32,
        chunk: u32,
        fault: &'static str,
    },
    /// Blocks that are marked as used and that nothing uses.
    BlocksLeaked { start: Block, len: u64 },
    /// Blocks in use that are marked as free.
    BlocksNotMarked { start: Block, len: u64 },
    /// Bits of the bitmap behind the group's last block are clear.
    BitmapEnd { ag: u32 },
    /// A block that something else uses already; `ino` is the later one.
    BlockShared { block: Block, ino: Ino },
    /// The blocks of an inode chunk cannot be read.
    InodeUnreadable { ino: Ino },
    /// A record that is marked as used is none.
    InodeMagic { ino: Ino },
    /// The checksum of a record is wrong.
    InodeChecksum { ino: Ino },
    /// The record says that it is another inode.
    InodeNumber { ino: Ino, found: u64 },
    /// The type bits of the mode are no type.
    InodeMode { ino: Ino, mode: u16 },
    /// The way in which the record holds its content is unknown or does not suit its type.
    InodeRoot { ino: Ino, root: u8 },
    /// The size is impossible for its type.
    InodeSize { ino: Ino, size: u64 },
    /// The count of blocks is wrong.
    InodeBlocks { ino: Ino, stored: u64, counted: u64 },
    /// A field that must be zero here is not.
    InodeField { ino: Ino, field: &'static str },
    /// The link count is wrong.
    InodeLinks { ino: Ino, stored: u32, counted: u32 },
    /// The inode has no name and is no orphan.
    InodeUnreachable { ino: Ino },
    /// The record of inode number 0, which must not be handed out, is marked as free.
    InodeZeroFree,
    /// There is no root directory.
    RootMissing,
    /// A block of an inode's tree, or of a symbolic link, is damaged.
    Node {
        ino: Ino,
        block: Block,
        fault: NodeFault,
    },
    /// A pointer to a block leads outside the data of all groups.
    Pointer { ino: Ino, block: Block },
    /// A tree is higher than any can be, or has no root.
    TreeHeight { ino: Ino, height: u8 },
    /// An extent has no blocks or ends behind the largest file.
    ExtentLength { ino: Ino, file_block: FileBlock },
    /// An extent starts before the one in front of it.
    ExtentOrder { ino: Ino, file_block: FileBlock },
    /// An extent starts within the one in front of it.
    ExtentOverlap { ino: Ino, file_block: FileBlock },
    /// An extent's blocks lie outside the data of one group.
    ExtentBounds {
        ino: Ino,
        file_block: FileBlock,
        block: Block,
    },
    /// Blocks lie where none of a file can, but only such as wait to be freed; and nothing says that these do.
    ExtentParked { ino: Ino, file_block: FileBlock },
    /// A name in a directory is damaged. `slot` is its place in the leaf.
    Entry {
        dir: Ino,
        block: Block,
        slot: u32,
        fault: EntryFault,
    },
    /// The leaf's account of its heap is wrong.
    DirectoryHeap { dir: Ino, block: Block },
    /// The directory's record names another parent than the one that holds it.
    DirectoryParent { ino: Ino, stored: u64, found: u64 },
    /// A directory has more than one name.
    DirectoryLinkedTwice { ino: Ino },
    /// A directory is its own ancestor.
    DirectoryLoop { ino: Ino },
    /// An unlinked directory still has entries.
    OrphanNotEmpty { ino: Ino },
    /// A symbolic link's target is damaged.
    SymlinkTarget { ino: Ino },
    /// The orphan table cannot be read there.
    OrphanUnreadable { slot: u32 },
    /// An entry of the orphan table leads to no inode.
    OrphanTarget { slot: u32, ino: u64 },
    /// The inode does not know of its place in the orphan table, or knows another.
    OrphanSlot { ino: Ino, stored: u32, slot: u32 },
    /// The inode says that it is in the orphan table, but is not.
    OrphanMissing { ino: Ino, stored: u32 },
}

impl Issue {
    /// The variant's name, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SuperblockDamaged(..) => "SuperblockDamaged",
            Self::SuperblocksDiffer => "SuperblocksDiffer",
            Self::Geometry(_) => "Geometry",
            Self::UnfinishedRepair => "UnfinishedRepair",
            Self::NotClean(_) => "NotClean",
            Self::JournalHeader(_) => "JournalHeader",
            Self::NoCheckpoint => "NoCheckpoint",
            Self::GroupHeader { .. } => "GroupHeader",
            Self::GroupFreeBlocks { .. } => "GroupFreeBlocks",
            Self::GroupUsedInodes { .. } => "GroupUsedInodes",
            Self::GroupChunks { .. } => "GroupChunks",
            Self::ChunkEntry { .. } => "ChunkEntry",
            Self::BlocksLeaked { .. } => "BlocksLeaked",
            Self::BlocksNotMarked { .. } => "BlocksNotMarked",
            Self::BitmapEnd { .. } => "BitmapEnd",
            Self::BlockShared { .. } => "BlockShared",
            Self::InodeUnreadable { .. } => "InodeUnreadable",
            Self::InodeMagic { .. } => "InodeMagic",
            Self::InodeChecksum { .. } => "InodeChecksum",
            Self::InodeNumber { .. } => "InodeNumber",
            Self::InodeMode { .. } => "InodeMode",
            Self::InodeRoot { .. } => "InodeRoot",
            Self::InodeSize { .. } => "InodeSize",
            Self::InodeBlocks { .. } => "InodeBlocks",
            Self::InodeField { .. } => "InodeField",
            Self::InodeLinks { .. } => "InodeLinks",
            Self::InodeUnreachable { .. } => "InodeUnreachable",
            Self::InodeZeroFree => "InodeZeroFree",
            Self::RootMissing => "RootMissing",
            Self::Node { .. } => "Node",
            Self::Pointer { .. } => "Pointer",
            Self::TreeHeight { .. } => "TreeHeight",
            Self::ExtentLength { .. } => "ExtentLength",
            Self::ExtentOrder { .. } => "ExtentOrder",
            Self::ExtentOverlap { .. } => "ExtentOverlap",
            Self::ExtentBounds { .. } => "ExtentBounds",
            Self::ExtentParked { .. } => "ExtentParked",
            Self::Entry { .. } => "Entry",
            Self::DirectoryHeap { .. } => "DirectoryHeap",
            Self::DirectoryParent { .. } => "DirectoryParent",
            Self::DirectoryLinkedTwice { .. } => "DirectoryLinkedTwice",
            Self::DirectoryLoop { .. } => "DirectoryLoop",
            Self::OrphanNotEmpty { .. } => "OrphanNotEmpty",
            Self::SymlinkTarget { .. } => "SymlinkTarget",
            Self::OrphanUnreadable { .. } => "OrphanUnreadable",
            Self::OrphanTarget { .. } => "OrphanTarget",
            Self::OrphanSlot { .. } => "OrphanSlot",
            Self::OrphanMissing { .. } => "OrphanMissing",
        }
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SuperblockDamaged(Copy::Primary, fault) => write!(f, "superblock: {fault}"),
            Self::SuperblockDamaged(Copy::Backup, fault) => {
                write!(f, "copy of the superblock: {fault}")
            }
            Self::SuperblocksDiffer => f.write_str("the superblock and its copy differ"),
            Self::Geometry(field) => write!(f, "superblock: impossible {field}"),
            Self::UnfinishedRepair => f.write_str("a repair was begun and not finished"),
            Self::NotClean(state) => {
                write!(f, "the filesystem was not unmounted (state {state:#x})")
            }
            Self::JournalHeader(fault) => write!(f, "journal header: {fault}"),
            Self::NoCheckpoint => f.write_str("journal: no valid checkpoint"),
            Self::GroupHeader { ag, fault } => write!(f, "group {ag}: header: {fault}"),
            Self::GroupFreeBlocks {
                ag,
                stored,
                counted,
            } => {
                write!(
                    f,
                    "group {ag}: {stored} free blocks noted, {counted} counted"
                )
            }
            Self::GroupUsedInodes {
                ag,
                stored,
                counted,
            } => {
                write!(f, "group {ag}: {stored} inodes noted, {counted} counted")
            }
            Self::GroupChunks { ag, chunks } => {
                write!(
                    f,
                    "group {ag}: {chunks} inode chunks are more than there can be"
                )
            }
            Self::ChunkEntry { ag, chunk, fault } => {
                write!(f, "group {ag}: inode chunk {chunk}: {fault}")
            }
            Self::BlocksLeaked { start, len } => {
                write!(
                    f,
                    "{len} blocks from {start}: marked as used, but nothing uses them"
                )
            }
            Self::BlocksNotMarked { start, len } => {
                write!(f, "{len} blocks from {start}: in use, but marked as free")
            }
            Self::BitmapEnd { ag } => {
                write!(f, "group {ag}: blocks behind the end are marked as free")
            }
            Self::BlockShared { block, ino } => {
                write!(
                    f,
                    "block {block} of inode {ino} also belongs to something else"
                )
            }
            Self::InodeUnreadable { ino } => write!(f, "inode {ino}: cannot be read"),
            Self::InodeMagic { ino } => write!(f, "inode {ino}: no inode record"),
            Self::InodeChecksum { ino } => write!(f, "inode {ino}: wrong checksum"),
            Self::InodeNumber { ino, found } => {
                write!(f, "inode {ino}: the record says it is inode {found}")
            }
            Self::InodeMode { ino, mode } => write!(f, "inode {ino}: impossible mode {mode:#o}"),
            Self::InodeRoot { ino, root } => {
                write!(
                    f,
                    "inode {ino}: content of kind {root} does not suit its type"
                )
            }
            Self::InodeSize { ino, size } => write!(f, "inode {ino}: impossible size {size}"),
            Self::InodeBlocks {
                ino,
                stored,
                counted,
            } => {
                write!(f, "inode {ino}: {stored} blocks noted, {counted} counted")
            }
            Self::InodeField { ino, field } => write!(f, "inode {ino}: impossible {field}"),
            Self::InodeLinks {
                ino,
                stored,
                counted,
            } => {
                write!(f, "inode {ino}: {stored} links noted, {counted} counted")
            }
            Self::InodeUnreachable { ino } => {
                write!(f, "inode {ino}: has no name and is no orphan")
            }
            Self::InodeZeroFree => f.write_str("inode number 0 is marked as free"),
            Self::RootMissing => f.write_str("there is no root directory"),
            Self::Node { ino, block, fault } => {
                write!(f, "inode {ino}: block {block} {}", fault.text())
            }
            Self::Pointer { ino, block } => {
                write!(
                    f,
                    "inode {ino}: pointer to block {block}, which can hold no data"
                )
            }
            Self::TreeHeight { ino, height } => {
                write!(f, "inode {ino}: impossible tree of height {height}")
            }
            Self::ExtentLength { ino, file_block } => {
                write!(
                    f,
                    "inode {ino}: extent at file block {}: impossible length",
                    file_block.0
                )
            }
            Self::ExtentOrder { ino, file_block } => {
                write!(
                    f,
                    "inode {ino}: extent at file block {}: out of order",
                    file_block.0
                )
            }
            Self::ExtentOverlap { ino, file_block } => {
                write!(
                    f,
                    "inode {ino}: extent at file block {}: overlaps",
                    file_block.0
                )
            }
            Self::ExtentBounds {
                ino,
                file_block,
                block,
            } => write!(
                f,
                "inode {ino}: extent at file block {}: blocks from {block} can hold no data",
                file_block.0
            ),
            Self::ExtentParked { ino, file_block } => write!(
                f,
                "inode {ino}: extent at file block {}: behind the end of any file, and no truncation is pending",
                file_block.0
            ),
            Self::Entry {
                dir,
                block,
                slot,
                fault,
            } => {
                write!(
                    f,
                    "directory {dir}: block {block}: entry {slot} {}",
                    fault.text()
                )
            }
            Self::DirectoryHeap { dir, block } => {
                write!(
                    f,
                    "directory {dir}: block {block}: wrong account of its heap"
                )
            }
            Self::DirectoryParent { ino, stored, found } => {
                write!(f, "directory {ino}: parent {stored} noted, {found} found")
            }
            Self::DirectoryLinkedTwice { ino } => {
                write!(f, "directory {ino}: has more than one name")
            }
            Self::DirectoryLoop { ino } => write!(f, "directory {ino}: is its own ancestor"),
            Self::OrphanNotEmpty { ino } => {
                write!(f, "directory {ino}: unlinked, but has entries")
            }
            Self::SymlinkTarget { ino } => write!(f, "symbolic link {ino}: impossible target"),
            Self::OrphanUnreadable { slot } => {
                write!(f, "orphan table: slot {slot} cannot be read")
            }
            Self::OrphanTarget { slot, ino } => {
                write!(
                    f,
                    "orphan table: slot {slot} leads to inode {ino}, which does not exist"
                )
            }
            Self::OrphanSlot { ino, stored, slot } => write!(
                f,
                "inode {ino}: is in slot {slot} of the orphan table, but says {stored}"
            ),
            Self::OrphanMissing { ino, stored } => write!(
                f,
                "inode {ino}: says it is in slot {stored} of the orphan table, but is not"
            ),
        }
    }
}
