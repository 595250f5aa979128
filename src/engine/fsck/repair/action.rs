// SPDX-License-Identifier: GPL-2.0

//! What the repair does, by name.
//!
//! An [`Action`] is one change of the image, or one thing that had to be left. A [`Class`] is a step
//! of the repair; steps build on each other, so whoever refuses one refuses those behind it too.

use core::fmt;

use crate::engine::fsck::issue::{Copy, EntryFault};
use crate::engine::types::{Block, FileBlock, Ino};

/// The steps of a repair, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Superblocks, headers of groups, journal.
    Superblock,
    /// Chunk maps.
    Groups,
    /// Inode records.
    Inodes,
    /// Trees, extents, targets of symbolic links.
    Contents,
    /// Names.
    Directories,
    /// Link counts, orphans, what lost its name.
    Links,
    /// Bitmaps and counters.
    Space,
}

impl Class {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Superblock => "superblock, headers and journal",
            Self::Groups => "allocation groups",
            Self::Inodes => "inode records",
            Self::Contents => "contents of files",
            Self::Directories => "directories",
            Self::Links => "links",
            Self::Space => "free space",
        }
    }
}

/// One change.
#[expect(
    missing_docs,
    reason = "the fields are what the variants' own lines speak of"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A superblock is written anew from the other one.
    SuperblockRestored(Copy),
    /// The one damaged word of a superblock is put back.
    SuperblockCorrected(Copy),
    /// The journal's header is made from the superblock.
    JournalHeaderRestored,
    /// Records that may not have been in place are given up.
    JournalDropped { records: u64 },
    /// Records are repeated.
    JournalReplayed { records: u64 },
    /// A group's header is made from the superblock.
    GroupHeaderRestored { ag: u32 },
    /// The count of inode chunks follows the chunk map.
    ChunksCounted { ag: u32, stored: u64, counted: u64 },
    /// An entry of the chunk map leads to its records again.
    ChunkFound { ag: u32, chunk: u32, block: Block },
    /// A chunk's records are lost; an empty chunk takes its place.
    ChunkReplaced { ag: u32, chunk: u32 },
    /// A chunk's records are lost, and there is no room for an empty one.
    ChunkLeft { ag: u32, chunk: u32 },
    /// Number 0 is marked as used.
    InodeZeroMarked,
    /// The one damaged word of a record is put back.
    InodeCorrected { ino: Ino },
    /// A record with possible fields gets a new checksum.
    InodeKept { ino: Ino },
    /// An inode is given up.
    InodeCleared { ino: Ino, why: &'static str },
    /// A whole record with links is marked as used again.
    InodeRevived { ino: Ino },
    /// A field gets a possible value.
    InodeField { ino: Ino, field: &'static str },
    /// A new root directory is made.
    RootMade,
    /// The one damaged word of a block is put back.
    NodeCorrected { ino: Ino, block: Block },
    /// A block with possible content gets a new checksum.
    NodeKept { ino: Ino, block: Block },
    /// A block, and what hangs on it, is cut off its tree.
    NodeDropped { ino: Ino, block: Block },
    /// A leaf that had lost its tree is put back.
    LeafSalvaged { ino: Ino, block: Block },
    /// A part of a file loses its blocks and reads as zeros.
    ExtentCut {
        ino: Ino,
        file_block: FileBlock,
        len: u64,
    },
    /// Blocks of two files: this one gets copies.
    ExtentCopied {
        ino: Ino,
        file_block: FileBlock,
        len: u64,
    },
    /// A file's extents are written anew.
    ExtentsRebuilt { ino: Ino, extents: u64 },
    /// There is no room to write a file's extents or a directory's names anew.
    NoRoom { ino: Ino },
    /// The count of blocks follows what was counted.
    BlocksCounted { ino: Ino, stored: u64, counted: u64 },
    /// A name is removed.
    NameRemoved { dir: Ino, fault: EntryFault },
    /// A name is put where its hash belongs.
    NameMoved { dir: Ino },
    /// A name's kind follows its inode.
    NameCorrected { dir: Ino },
    /// A directory's second name, or one that closes a loop, is removed.
    DirectoryUnlinked { dir: Ino, ino: Ino },
    /// A directory's names are written anew.
    DirectoryRebuilt { dir: Ino, names: u64 },
    /// `lost+found` is made.
    LostFoundMade { ino: Ino },
    /// An inode without a name gets one in `lost+found`.
    Relinked { ino: Ino },
    /// There is no room in `lost+found`.
    NotRelinked { count: u64 },
    /// A directory's parent follows its name.
    ParentCorrected { ino: Ino, parent: Ino },
    /// A link count follows what was counted.
    LinksCounted { ino: Ino, stored: u32, counted: u32 },
    /// An entry of the orphan table is cleared.
    OrphanCleared { slot: u32 },
    /// An unlinked inode is put into the orphan table.
    OrphanAdded { ino: Ino, slot: u32 },
    /// The record names its place in the orphan table.
    OrphanCorrected { ino: Ino },
    /// A bitmap follows what is in use.
    BitmapCorrected { ag: u32, freed: u64, marked: u64 },
    /// A group's counters follow its bitmap and masks.
    CountersCorrected { ag: u32 },
}

impl Action {
    /// Name, step and whether the damage stays.
    fn facts(&self) -> (&'static str, Class) {
        use Class::*;
        match self {
            Self::SuperblockRestored(_) => ("SuperblockRestored", Superblock),
            Self::SuperblockCorrected(_) => ("SuperblockCorrected", Superblock),
            Self::JournalHeaderRestored => ("JournalHeaderRestored", Superblock),
            Self::JournalDropped { .. } => ("JournalDropped", Superblock),
            Self::JournalReplayed { .. } => ("JournalReplayed", Superblock),
            Self::GroupHeaderRestored { .. } => ("GroupHeaderRestored", Superblock),
            Self::ChunksCounted { .. } => ("ChunksCounted", Groups),
            Self::ChunkFound { .. } => ("ChunkFound", Groups),
            Self::ChunkReplaced { .. } => ("ChunkReplaced", Groups),
            Self::ChunkLeft { .. } => ("ChunkLeft", Groups),
            Self::InodeZeroMarked => ("InodeZeroMarked", Groups),
            Self::InodeCorrected { .. } => ("InodeCorrected", Inodes),
            Self::InodeKept { .. } => ("InodeKept", Inodes),
            Self::InodeCleared { .. } => ("InodeCleared", Inodes),
            Self::InodeRevived { .. } => ("InodeRevived", Inodes),
            Self::InodeField { .. } => ("InodeField", Inodes),
            Self::RootMade => ("RootMade", Inodes),
            Self::NodeCorrected { .. } => ("NodeCorrected", Contents),
            Self::NodeKept { .. } => ("NodeKept", Contents),
            Self::NodeDropped { .. } => ("NodeDropped", Contents),
            Self::LeafSalvaged { .. } => ("LeafSalvaged", Contents),
            Self::ExtentCut { .. } => ("ExtentCut", Contents),
            Self::ExtentCopied { .. } => ("ExtentCopied", Contents),
            Self::ExtentsRebuilt { .. } => ("ExtentsRebuilt", Contents),
            Self::NoRoom { .. } => ("NoRoom", Contents),
            Self::BlocksCounted { .. } => ("BlocksCounted", Contents),
            Self::NameRemoved { .. } => ("NameRemoved", Directories),
            Self::NameMoved { .. } => ("NameMoved", Directories),
            Self::NameCorrected { .. } => ("NameCorrected", Directories),
            Self::DirectoryUnlinked { .. } => ("DirectoryUnlinked", Directories),
            Self::DirectoryRebuilt { .. } => ("DirectoryRebuilt", Directories),
            Self::LostFoundMade { .. } => ("LostFoundMade", Links),
            Self::Relinked { .. } => ("Relinked", Links),
            Self::NotRelinked { .. } => ("NotRelinked", Links),
            Self::ParentCorrected { .. } => ("ParentCorrected", Links),
            Self::LinksCounted { .. } => ("LinksCounted", Links),
            Self::OrphanCleared { .. } => ("OrphanCleared", Links),
            Self::OrphanAdded { .. } => ("OrphanAdded", Links),
            Self::OrphanCorrected { .. } => ("OrphanCorrected", Links),
            Self::BitmapCorrected { .. } => ("BitmapCorrected", Space),
            Self::CountersCorrected { .. } => ("CountersCorrected", Space),
        }
    }

    /// The variant's name, for programs.
    pub fn name(&self) -> &'static str {
        self.facts().0
    }

    /// The step that it belongs to.
    pub fn class(&self) -> Class {
        self.facts().1
    }

    /// Whether this says that damage stays because there is no room to repair it.
    pub fn is_left(&self) -> bool {
        matches!(
            self,
            Self::NoRoom { .. } | Self::NotRelinked { .. } | Self::ChunkLeft { .. }
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SuperblockRestored(Copy::Primary) => {
                f.write_str("superblock: restored from its copy")
            }
            Self::SuperblockRestored(Copy::Backup) => {
                f.write_str("copy of the superblock: written anew")
            }
            Self::SuperblockCorrected(Copy::Primary) => {
                f.write_str("superblock: the damaged word was put back")
            }
            Self::SuperblockCorrected(Copy::Backup) => {
                f.write_str("copy of the superblock: the damaged word was put back")
            }
            Self::JournalHeaderRestored => {
                f.write_str("journal: header made anew from the superblock")
            }
            Self::JournalDropped { records } => write!(
                f,
                "journal: cannot be replayed; up to {records} of the last changes may be lost"
            ),
            Self::JournalReplayed { records } => write!(f, "journal: {records} records replayed"),
            Self::GroupHeaderRestored { ag } => {
                write!(f, "group {ag}: header made anew from the superblock")
            }
            Self::ChunksCounted {
                ag,
                stored,
                counted,
            } => write!(
                f,
                "group {ag}: {stored} inode chunks were noted, now {counted}"
            ),
            Self::ChunkFound { ag, chunk, block } => write!(
                f,
                "group {ag}: inode chunk {chunk}: its records were found in block {block}"
            ),
            Self::ChunkReplaced { ag, chunk } => write!(
                f,
                "group {ag}: inode chunk {chunk}: its records are lost; replaced by an empty chunk"
            ),
            Self::ChunkLeft { ag, chunk } => write!(
                f,
                "group {ag}: inode chunk {chunk}: its records are lost, and there are no four free \
                 blocks for an empty chunk; left"
            ),
            Self::InodeZeroMarked => f.write_str("inode number 0: marked as used"),
            Self::InodeCorrected { ino } => {
                write!(f, "inode {ino}: the damaged word was put back")
            }
            Self::InodeKept { ino } => {
                write!(f, "inode {ino}: kept, with a new checksum: look at the file")
            }
            Self::InodeCleared { ino, why } => write!(f, "inode {ino}: {why}; removed"),
            Self::InodeRevived { ino } => write!(f, "inode {ino}: marked as used again"),
            Self::InodeField { ino, field } => write!(f, "inode {ino}: {field} corrected"),
            Self::RootMade => f.write_str("a new root directory was made"),
            Self::NodeCorrected { ino, block } => write!(
                f,
                "inode {ino}: block {block}: the damaged word was put back"
            ),
            Self::NodeKept { ino, block } => write!(
                f,
                "inode {ino}: block {block}: kept what is possible in it: look at the file"
            ),
            Self::NodeDropped { ino, block } => {
                write!(f, "inode {ino}: block {block}: cut off its tree")
            }
            Self::LeafSalvaged { ino, block } => {
                write!(f, "inode {ino}: block {block}: found and put back into its tree")
            }
            Self::ExtentCut {
                ino,
                file_block,
                len,
            } => write!(
                f,
                "inode {ino}: {len} blocks from file block {}: cut off, they read as zeros now",
                file_block.0
            ),
            Self::ExtentCopied {
                ino,
                file_block,
                len,
            } => write!(
                f,
                "inode {ino}: {len} blocks from file block {}: copied, they were another file's too",
                file_block.0
            ),
            Self::ExtentsRebuilt { ino, extents } => {
                write!(f, "inode {ino}: {extents} extents written anew")
            }
            Self::NoRoom { ino } => write!(
                f,
                "inode {ino}: too few free blocks to write its tree anew; left"
            ),
            Self::BlocksCounted {
                ino,
                stored,
                counted,
            } => write!(
                f,
                "inode {ino}: {stored} blocks were noted, now {counted}"
            ),
            Self::NameRemoved { dir, fault } => {
                write!(f, "directory {dir}: an entry that {}: removed", fault.text())
            }
            Self::NameMoved { dir } => {
                write!(f, "directory {dir}: an entry was put where its name belongs")
            }
            Self::NameCorrected { dir } => {
                write!(f, "directory {dir}: the kind of an entry was corrected")
            }
            Self::DirectoryUnlinked { dir, ino } => write!(
                f,
                "directory {dir}: a second name of directory {ino} was removed"
            ),
            Self::DirectoryRebuilt { dir, names } => {
                write!(f, "directory {dir}: {names} names written anew")
            }
            Self::LostFoundMade { ino } => write!(f, "/lost+found was made, inode {ino}"),
            Self::Relinked { ino } => write!(f, "inode {ino}: linked as /lost+found/#{ino}"),
            Self::NotRelinked { count } => write!(
                f,
                "/lost+found: no room for {count} inodes without a name; left"
            ),
            Self::ParentCorrected { ino, parent } => {
                write!(f, "directory {ino}: its parent is {parent} now")
            }
            Self::LinksCounted {
                ino,
                stored,
                counted,
            } => write!(f, "inode {ino}: {stored} links were noted, now {counted}"),
            Self::OrphanCleared { slot } => write!(f, "orphan table: slot {slot} cleared"),
            Self::OrphanAdded { ino, slot } => {
                write!(f, "inode {ino}: put into slot {slot} of the orphan table")
            }
            Self::OrphanCorrected { ino } => {
                write!(f, "inode {ino}: its place in the orphan table corrected")
            }
            Self::BitmapCorrected { ag, freed, marked } => write!(
                f,
                "group {ag}: bitmap: {freed} blocks freed, {marked} marked as used"
            ),
            Self::CountersCorrected { ag } => write!(f, "group {ag}: counters corrected"),
        }
    }
}
