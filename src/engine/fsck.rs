// SPDX-License-Identifier: GPL-2.0

//! The check: reads a whole image and names every inconsistency.
//!
//! What: [`check`] reads, through [`Media`], every structure that is reachable, and compares what
//! it finds with what the image notes about itself. It changes nothing, takes no lock and uses
//! nothing of the running filesystem but the format and the checksums: code that wrote a mistake
//! must not be the code that looks for it.
//!
//! How: in passes, each in a file of its own.
//!
//! 1. [`superblock`]: both superblocks, the journal's header;
//! 2. [`groups`]: headers and chunk maps; says which inodes there are;
//! 3. [`inodes`]: every record, its extents ([`extents`]) or target ([`symlinks`]);
//! 4. [`directories`]: every name;
//! 5. [`links`]: orphans, link counts, parents, loops;
//! 6. [`space`]: bitmaps and counters against the blocks that the passes met.
//!
//! Memory: a bit for each block of the device and 16 bytes for each record of an inode chunk. Each
//! block is claimed when it is met; meeting one twice is an issue, and a reason not to descend, so
//! a tree that leads back into itself ends.
//!
//! # Hazard
//!
//! The image must hold still and have an empty journal. Behind a running filesystem, or before the
//! replay of the journal, in-place structures are allowed to be half done, and the check would
//! name damage that is none. Its caller replays the journal first, into a copy if need be.
//!
//! After the first issue others are likely to follow from it: an inode that cannot be read leaks
//! its blocks and leaves its names without a target. All are reported; the first is the cause.

pub mod issue;
pub mod repair;

mod bitmap;
mod directories;
mod extents;
mod groups;
mod inodes;
mod leaf;
mod links;
mod remedy;
mod space;
mod superblock;
mod symlinks;
mod table;
mod tree;

use crate::engine::checksum::Keys;
use crate::engine::directory::NameHash;
use crate::engine::error::Result;
use crate::engine::format::superblock::Superblock;
use crate::engine::media::Media;
use crate::engine::types::{Block, Ino};

use bitmap::Bitmap;
use table::Table;

pub use issue::{Copy, EntryFault, Issue, NodeFault};
pub use repair::{can_repair, repair, Action, Class, Outcome, RepairOptions, Repairer};

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The image was unmounted: it must say so, and its counters must be right. Without it a
    /// mounted filesystem can be checked between two calls.
    pub unmounted: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { unmounted: true }
    }
}

/// What the check is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading group headers and chunk maps.
    Groups,
    /// Reading inodes and their extents.
    Inodes,
    /// Reading names.
    Directories,
    /// Comparing links.
    Links,
    /// Comparing bitmaps.
    Space,
}

/// Hears what the check finds, as it finds it.
pub trait Observer {
    /// One inconsistency.
    fn issue(&mut self, issue: &Issue);

    /// `done` of `total` units of a stage are behind us.
    fn progress(&mut self, _stage: Stage, _done: u64, _total: u64) {}
}

/// What the image holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Inconsistencies.
    pub issues: u64,
    /// False if a superblock or the groups were too damaged to go on.
    pub complete: bool,
    /// Inodes of all kinds.
    pub inodes: u64,
    /// Of these, directories.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Inodes in the orphan table.
    pub orphans: u64,
    /// Names in all directories.
    pub names: u64,
    /// Extents of all files.
    pub extents: u64,
    /// Extents of files with more than one.
    pub fragments: u64,
    /// Blocks of all groups.
    pub blocks: u64,
    /// Of these, blocks in use.
    pub used: u64,
    /// Bytes of memory that the check took.
    pub memory: u64,
}

/// The filesystem's shape and identity, from a superblock that passed.
struct Shape {
    superblock: Superblock,
    blocks: u64,
    ag_start: u64,
    ag_count: u32,
    uuid: [u8; 16],
    keys: Keys,
    hash: NameHash,
}

/// A check under way.
struct Check<'a, M: Media> {
    media: &'a M,
    options: Options,
    observer: &'a mut dyn Observer,
    shape: Shape,
    /// Blocks that something uses.
    claimed: Bitmap,
    table: Table,
    summary: Summary,
}

/// Checks the image on `media`.
///
/// # Errors
///
/// `WrongType` when there is no superblock at all, `UnknownFeatures` and `WrongVersion` when it is
/// one that this code does not know, `NoMemory`. Everything else is an issue.
pub fn check<M: Media>(
    media: &M,
    options: Options,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let mut summary = Summary::default();
    let Some(shape) = superblock::read(media, options, observer, &mut summary)? else {
        return Ok(summary);
    };
    let claimed = Bitmap::new(shape.blocks)?;
    let table = Table::new();
    let mut check = Check {
        media,
        options,
        observer,
        shape,
        claimed,
        table,
        summary,
    };
    check.groups()?;
    check.inodes()?;
    check.directories()?;
    check.links()?;
    check.space()?;
    check.summary.complete = true;
    check.summary.memory = check.claimed.memory() + check.table.memory();
    Ok(check.summary)
}

impl<M: Media> Check<'_, M> {
    fn report(&mut self, issue: Issue) {
        self.summary.issues += 1;
        self.observer.issue(&issue);
    }

    /// Claims one block of `ino` for a tree; false, after a report, if it cannot be followed.
    fn claim(&mut self, ino: Ino, block: Block) -> bool {
        if !self.shape.is_data(block, 1) {
            self.report(Issue::Pointer { ino, block });
            return false;
        }
        if !self.claimed.set(block) {
            self.report(Issue::BlockShared { block, ino });
            return false;
        }
        true
    }
}
