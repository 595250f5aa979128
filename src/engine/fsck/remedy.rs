// SPDX-License-Identifier: GPL-2.0

//! What the repair does about each issue, in words; `docs/fsck.md` holds the same as a table.

use super::issue::{EntryFault, Issue, NodeFault};

impl Issue {
    /// What the repair does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::SuperblockDamaged(..) => "corrected if one word is damaged, else written anew from the other",
            Self::SuperblocksDiffer => "the one that the rest of the medium agrees with is written over the other",
            Self::Geometry(_) => "taken from the other superblock, else from the device",
            Self::UnfinishedRepair => "begun again and finished",
            Self::NotClean(_) => "marked clean at the end",
            Self::JournalHeader(_) => "made anew from the superblock",
            Self::NoCheckpoint => "the journal is given up: its last changes may be lost",
            Self::GroupHeader { .. } => "made anew from the superblock",
            Self::GroupFreeBlocks { .. } | Self::GroupUsedInodes { .. } => "counted anew",
            Self::GroupChunks { .. } => "counted anew from the chunk map",
            Self::ChunkEntry { .. } => "its records are searched for; if they are lost, an empty chunk takes its place",
            Self::BlocksLeaked { .. } => "marked as free",
            Self::BlocksNotMarked { .. } | Self::BitmapEnd { .. } => "marked as used",
            Self::BlockShared { .. } => "the sound one keeps it, a file gets a copy, else it is cut off",
            Self::InodeUnreadable { .. } => "the inode is removed",
            Self::InodeMagic { .. } | Self::InodeChecksum { .. } => {
                "corrected if one word is damaged; else kept with a new checksum if it can be an inode, or removed"
            }
            Self::InodeNumber { .. } => "corrected if one word is damaged, else removed",
            Self::InodeMode { .. } => "the type follows the content; removed if that does not tell",
            Self::InodeRoot { .. } => "follows the first node of its tree; what lost its tree is searched for",
            Self::InodeSize { .. } => "made from the content",
            Self::InodeBlocks { .. } => "counted anew; if leaves are missing, they are searched for",
            Self::InodeField { .. } => "set to what it must be",
            Self::InodeLinks { .. } => "counted anew",
            Self::InodeUnreachable { .. } => "linked in /lost+found; with no links, put into the orphan table and removed",
            Self::InodeZeroFree => "marked as used",
            Self::RootMissing => "made anew; what it held is linked in it or in /lost+found",
            Self::Node { fault, .. } => match fault {
                NodeFault::Unreadable
                | NodeFault::Magic
                | NodeFault::Number
                | NodeFault::Owner
                | NodeFault::Uuid
                | NodeFault::Generation
                | NodeFault::Level => "cut off; leaves below it are searched for, the tree is written anew",
                NodeFault::Checksum => "corrected if one word is damaged; else the tree is written anew from what can be believed",
                NodeFault::Count | NodeFault::Order | NodeFault::Range => "the tree is written anew from its leaves",
            },
            Self::Pointer { .. } => "cut off; what was below it is searched for",
            Self::TreeHeight { .. } => "follows the root node; if there is none, leaves are searched for",
            Self::ExtentLength { .. } | Self::ExtentBounds { .. } => "cut off",
            Self::ExtentParked { .. } => "cut off: nobody could read it",
            Self::ExtentOrder { .. } | Self::ExtentOverlap { .. } => "the extents are written anew in order; of two the former stays",
            Self::Entry { fault, .. } => match fault {
                EntryFault::Place | EntryFault::Name | EntryFault::Target | EntryFault::DuplicateName => "the entry is removed",
                EntryFault::Hash | EntryFault::Range | EntryFault::Fingerprint | EntryFault::DuplicateKey => "the entry is put where its name belongs",
                EntryFault::Kind => "follows the inode",
            },
            Self::DirectoryHeap { .. } => "the directory is written anew",
            Self::DirectoryParent { .. } => "follows the name",
            Self::DirectoryLinkedTwice { .. } => "one name stays: the one its record agrees with",
            Self::DirectoryLoop { .. } => "broken, and linked in /lost+found",
            Self::OrphanNotEmpty { .. } => "linked in /lost+found",
            Self::SymlinkTarget { .. } => "cut at the first zero byte if that explains it, else removed",
            Self::OrphanUnreadable { .. } => "made anew from the inodes' records",
            Self::OrphanTarget { .. } => "cleared",
            Self::OrphanSlot { .. } => "the record follows the table",
            Self::OrphanMissing { .. } => "put into the table again",
        }
    }

    /// Whether the repair loses nothing and guesses nothing, so that it needs no question (`-p`).
    pub fn is_safe(&self) -> bool {
        matches!(
            self,
            Self::SuperblockDamaged(..)
                | Self::NotClean(_)
                | Self::JournalHeader(_)
                | Self::GroupFreeBlocks { .. }
                | Self::GroupUsedInodes { .. }
                | Self::BlocksLeaked { .. }
                | Self::BitmapEnd { .. }
        )
    }
}
