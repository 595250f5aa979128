// SPDX-License-Identifier: GPL-2.0

//! The repair: makes a damaged image one that the check finds nothing in.
//!
//! # What
//!
//! [`repair`] does not work off a list of issues. It goes through the structures from the
//! superblock up, decides of each what of it can be believed, and writes what follows from that:
//! what later steps need was made sound by the steps before. Whatever the check names, it names
//! because one of these steps would change it. So damage that hides behind other damage is met as
//! well, and a repair that was interrupted is begun again from the start.
//!
//! 1. [`identity`]: a superblock that can be believed; the mark of a repair; the headers of the
//!    journal and the groups, made anew where they differ; the journal replayed, or given up.
//! 2. [`groups`]: chunk maps. Says which records there are.
//! 3. [`records`]: each inode record is kept, corrected or given up; its tree is walked ([`tree`])
//!    and the blocks of nodes are claimed.
//! 4. [`contents`]: the data of files. First all files without a fault claim their blocks, then
//!    the others get what is left of theirs. Blocks that are marked as used and claimed by nobody
//!    are searched for leaves that lost their tree ([`salvage`]). No block is left to two files:
//!    the file without a fault keeps it; if neither has one, the later one gets a copy.
//! 5. [`names`]: directories whose leaves are not perfect are written anew from the entries that
//!    can be believed. An entry carries the hash of its name, so most of them can be.
//! 6. [`connect`]: the directories become one tree; what has no name gets one in `/lost+found`.
//! 7. [`links`]: link counts, parents, the orphan table.
//! 8. [`space`]: bitmaps and counters, from what was claimed.
//!
//! # Damage of one word
//!
//! The checksum tells more than right or wrong: damage confined to one 32-bit word is undone
//! ([`correct`]). So flipped bits in records, nodes and superblocks cost nothing at all.
//!
//! # How it writes
//!
//! Through the journal, see [`log`]. It does not use the engine's transactions and its mounted
//! filesystem: these believe the bitmaps, which are what this rebuilds last, and no operation of
//! theirs gives a name to a directory or a block to the right one of two files. It uses nothing of
//! the running filesystem but the format, the checksums and the replay, as the check does.
//!
//! New nodes and copies go to blocks that nothing claims; of these first to such as the bitmap
//! calls free, so that nothing is overwritten that a later repair might still find. Only if there
//! are none left does a tree reuse its own blocks. So a full filesystem can be repaired; what
//! cannot be placed is said, and stays.
//!
//! # Interrupted
//!
//! From the first change to the last the superblocks carry the feature bit `REPAIRING`, so that
//! nothing mounts what is half done. Each record of the [`log`] takes the image from one state
//! that this can start from to the next one.
//!
//! # Hazard
//!
//! Everything here reads what nobody vouches for. Numbers are checked before they become
//! addresses, trees are walked by claiming each block before it is read, so that one that leads
//! back into itself ends, and a block is written to only after it was claimed.

mod action;
mod build;
mod connect;
mod contents;
mod correct;
mod groups;
mod identity;
mod links;
mod log;
mod names;
mod records;
mod salvage;
mod space;
mod tree;

use crate::engine::checksum::Keys;
use crate::engine::directory::NameHash;
use crate::engine::error::Result;
use crate::engine::format::inode::InodeRecord;
use crate::engine::media::Media;
use crate::engine::superblock::{Geometry, SuperInfo};
use crate::engine::types::{u64_of, Block, Ino, Run, Timestamp};
use crate::platform::Vec;

use super::bitmap::Bitmap;
use super::table::Table;
use log::Log;

pub use action::{Action, Class};

/// Is asked and told what a repair does.
pub trait Repairer {
    /// Whether a step may be done; asked before its first change. Refused, the repair ends there.
    fn approve(&mut self, _class: Class, _first: &Action) -> bool {
        true
    }

    /// This was done, or left.
    fn action(&mut self, action: &Action);

    /// `done` of `total` units of a step are behind us.
    fn progress(&mut self, _class: Class, _done: u64, _total: u64) {}

    /// Whether to stop; asked between steps.
    fn cancelled(&mut self) -> bool {
        false
    }
}

/// How to repair.
#[derive(Clone, Copy, Debug, Default)]
pub struct RepairOptions {
    /// Now, for the times of directories that are made.
    pub now: Timestamp,
}

/// What a repair did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Changes.
    pub actions: u64,
    /// Things that had to be left for want of room.
    pub left: u64,
    /// The step that was refused.
    pub refused: Option<Class>,
    /// It was stopped; the image stays marked, and only another repair can go on.
    pub cancelled: bool,
    /// Bytes of memory that bitmaps and the table of inodes took.
    pub memory: u64,
}

/// A repair under way.
struct Repair<'a, M: Media> {
    media: &'a M,
    observer: &'a mut dyn Repairer,
    options: RepairOptions,
    info: SuperInfo,
    keys: Keys,
    hash: NameHash,
    log: Log,
    /// Blocks that something uses.
    claimed: Bitmap,
    /// Of these, blocks of metadata.
    metadata: Bitmap,
    table: Table,
    /// Leaves that were found without a tree.
    leaves: Vec<salvage::Leaf>,
    /// Their blocks, sorted: nothing is written to them until their names and extents are elsewhere.
    kept: Vec<u64>,
    /// Names of directories: index of the one that holds the name, index of the other.
    edges: Vec<(u32, u32)>,
    /// The block of a bitmap that was looked at last, and its bytes.
    marks: (u64, Vec<u8>),
    /// A line of a bitmap, by group and first block, and whether it calls something free that is not.
    line: ((u32, u64), bool),
    /// Records, by index, that are stored only when their trees have been.
    held: Vec<(usize, InodeRecord)>,
    /// Blocks that were cut off a tree, with its owner; sorted when all trees were walked.
    dropped: Vec<(Ino, Block)>,
    /// Blocks that cannot be read and that a tree has lost.
    unreadable: Vec<Block>,
    /// Where the search for a free block goes on.
    cursor: u64,
    /// Which classes were approved, a bit each.
    approved: u8,
    outcome: Outcome,
}

/// Repairs the image on `media`. Afterwards [`super::check`] says whether it is whole.
///
/// # Errors
///
/// `Corrupt` if there is no superblock to start from, `WrongVersion` and so on as a mount, `Io` if
/// the medium cannot be written to, `NoMemory`.
pub fn repair<M: Media>(
    media: &M,
    options: RepairOptions,
    observer: &mut dyn Repairer,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let identity = identity::choose(media)?;
    let mut info = identity.info;
    identity::check_writable(&info)?;
    let mut may = |action: Action| {
        if outcome.refused.is_none()
            && outcome.actions == 0
            && !observer.approve(Class::Superblock, &action)
        {
            outcome.refused = Some(Class::Superblock);
        }
        if outcome.refused.is_none() {
            outcome.actions += 1;
            observer.action(&action);
        }
        outcome.refused.is_none()
    };
    for action in identity.actions.into_iter().flatten() {
        if !may(action) {
            return Ok(outcome);
        }
    }
    let keys = Keys::new(info.secret)?;
    identity::begin(media, &mut info)?;
    identity::headers(media, &info, &keys, &mut may)?;
    let (next, slot) = identity::journal(media, &info, &keys, &mut may)?;
    let approved = u8::from(outcome.actions != 0) << Class::Superblock as u8;
    if outcome.refused.is_some() {
        identity::end(media, &mut info, false)?;
        return Ok(outcome);
    }
    let mut repair = Repair {
        media,
        options,
        hash: NameHash::new(info.hash_key),
        log: Log::new(next, slot)?,
        claimed: Bitmap::new(info.geometry.blocks)?,
        metadata: Bitmap::new(0)?,
        table: Table::new(),
        leaves: Vec::new(),
        kept: Vec::new(),
        edges: Vec::new(),
        marks: (0, Vec::new()),
        line: ((u32::MAX, 0), false),
        held: Vec::new(),
        dropped: Vec::new(),
        unreadable: Vec::new(),
        cursor: 0,
        approved,
        observer,
        info,
        keys,
        outcome,
    };
    let done = repair.steps()?;
    repair.flush()?;
    let (mut info, mut outcome) = (repair.info, repair.outcome);
    outcome.memory = repair.claimed.memory() + repair.metadata.memory() + repair.table.memory();
    if !outcome.cancelled {
        identity::end(media, &mut info, done && outcome.left == 0)?;
    }
    Ok(outcome)
}

/// Whether there is a superblock that a repair can start from.
pub fn can_repair<M: Media>(media: &M) -> bool {
    identity::choose(media).is_ok()
}

impl<M: Media> Repair<'_, M> {
    /// All steps; true if none was refused.
    fn steps(&mut self) -> Result<bool> {
        let steps: [fn(&mut Self) -> Result; 7] = [
            Self::groups,
            Self::records,
            Self::contents,
            Self::directories,
            Self::connect,
            Self::links,
            |repair| repair.space(true),
        ];
        for step in steps {
            if self.observer.cancelled() {
                self.outcome.cancelled = true;
            }
            if self.outcome.cancelled || self.outcome.refused.is_some() {
                // Blocks that were given to somebody must not look free.
                self.space(false)?;
                return Ok(false);
            }
            step(self)?;
            self.flush()?;
        }
        Ok(self.outcome.refused.is_none())
    }

    /// Whether a change may be made; if so it is told. The caller makes it.
    fn act(&mut self, action: Action) -> bool {
        let class = action.class();
        if self.outcome.refused.is_some() {
            return false;
        }
        if self.approved >> class as u8 & 1 == 0 {
            if !self.observer.approve(class, &action) {
                self.outcome.refused = Some(class);
                return false;
            }
            self.approved |= 1 << class as u8;
        }
        self.observer.action(&action);
        if action.is_left() {
            self.outcome.left += 1;
        } else {
            self.outcome.actions += 1;
        }
        true
    }

    fn geometry(&self) -> Geometry {
        self.info.geometry
    }

    /// Whether `len` blocks from `block` all lie in the data part of one group.
    fn is_data(&self, block: Block, len: u64) -> bool {
        let run = Run { start: block, len };
        self.info.geometry.locate_run(run).is_some()
    }

    /// Reads what is on the medium or about to be.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result {
        if self.log.pending(address, u64_of(bytes.len())) {
            self.flush()?;
        }
        self.media.read(address, bytes)
    }

    /// Adds a change to the record under construction.
    fn put(&mut self, address: u64, bytes: &[u8]) -> Result {
        if !self.log.fits(u64_of(bytes.len()), 1) {
            self.flush()?;
        }
        self.log.add(address, bytes)
    }

    fn put_u64(&mut self, address: u64, word: u64) -> Result {
        self.put(address, &word.to_le_bytes())
    }

    /// Makes all changes so far durable.
    fn flush(&mut self) -> Result {
        self.log.flush(self.media, &self.info.geometry, &self.keys)
    }
}
