// SPDX-License-Identifier: GPL-2.0

//! What a volume does about lost blocks.
//!
//! What: [`Volume::lose`] notes that blocks were lost, and [`Volume::condition`] says which of a range are. The allocator hands
//! none of them out: a group's map is looked through when it is loaded, when a block is lost, and whenever blocks are given
//! back to it. So nothing looks for them on the way of an allocation.
//!
//! Lost metadata ends all changes. That a block *is* metadata is known of the fixed structures, of inode chunks, and of nodes
//! that were verified in this mount; other nodes are found when they are first read.
//!
//! Hazard: a block may be lost while it is being given back, or handed out. The list comes first, the group's map second; who
//! gives back changes the map first and looks at the list second, under the same lock. So one of them takes it out.

use super::super::alloc::ag::is_own;
use super::super::alloc::search_poison;
use super::super::error::{Error, Result};
use super::super::format::ag::METADATA_BLOCKS;
use super::super::media::Media;
use super::super::poison::Condition;
use super::super::superblock::{self, SuperInfo};
use super::super::types::*;
use super::Volume;

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nothing that was not lost before.
    Known,
    /// Metadata: the volume is read-only now.
    Metadata,
    /// Blocks of files, free blocks, or nodes that nobody has read yet.
    Other,
}

/// Finds the superblock of a medium that may be suspect, and what is lost of the structures in front of the groups.
pub(super) fn load_superblock<M: Media>(media: &M) -> Result<SuperInfo> {
    search_poison(media, Block(0), 1)?;
    let last = Block::of(media.size().saturating_sub(BLOCK_SIZE));
    search_poison(media, last, 1)?;
    let info = superblock::load(media)?;
    search_poison(media, Block(1), info.geometry.ag_start.0.saturating_sub(1))?;
    Ok(info)
}

impl<M: Media> Volume<M> {
    /// Notes that blocks are lost. An error, and the volume is read-only: there are more than can be noted.
    pub fn lose(&self, run: Run) -> Result<Lost> {
        let end = run.end().min(Block(self.media.size() >> BLOCK_SHIFT));
        let run = Run {
            len: end.0.saturating_sub(run.start.0),
            ..run
        };
        if run.len == 0 {
            return Ok(Lost::Known);
        }
        let new = self.media.lose(run).inspect_err(|_| {
            self.fail(&Error::Unreadable(run.start.address()));
        })?;
        if !new {
            return Ok(Lost::Known);
        }
        self.withdraw(run);
        let metadata = (run.start.0..end.0).find(|at| self.is_metadata(Block(*at)));
        let Some(at) = metadata else {
            return Ok(Lost::Other);
        };
        self.fail(&Error::Unreadable(Block(at).address()));
        Ok(Lost::Metadata)
    }

    /// At mount: a journal or an orphan table with lost blocks can be read at best, not written.
    pub(super) fn check_fixed(&self) {
        let Some(poison) = self.media.poison().filter(|poison| !poison.is_clean()) else {
            return;
        };
        let run = Run {
            start: Block(0),
            len: self.info.geometry.ag_start.0,
        };
        poison.each_in(run, |lost| {
            let mut blocks = lost.start.0..lost.end().0;
            if let Some(at) = blocks.find(|at| self.is_metadata(Block(*at))) {
                self.fail(&Error::Unreadable(Block(at).address()));
            }
        });
    }

    /// There is only the superblock's copy, whose state says nothing: each mount replays the journal.
    pub(super) fn has_lost_superblock(&self) -> bool {
        let poison = self.media.poison();
        poison.is_some_and(|poison| !poison.is_clean() && poison.touches(0, BLOCK_SIZE))
    }

    /// Takes blocks that are lost out of the groups that are loaded.
    fn withdraw(&self, run: Run) {
        let g = &self.info.geometry;
        for agno in 0..g.ag_count {
            let (base, end) = (g.ag_base(agno), g.ag_base(agno).plus(g.ag_blocks(agno)));
            let (first, last) = (run.start.max(base), run.end().min(end));
            if first >= last {
                continue;
            }
            if let Some(ag) = self.alloc.loaded(agno) {
                let len = last.0 - first.0;
                let mut state = ag.state.lock();
                state.withdraw(&self.media, base, first.0 - base.0, len);
            }
        }
    }

    /// Whether the block is known to hold metadata that cannot be done without. (Of the superblock there is a copy.)
    fn is_metadata(&self, block: Block) -> bool {
        let g = &self.info.geometry;
        let Some((agno, relative)) = g.locate(block) else {
            let orphans = (u64::from(g.orphan_slots) * 8).div_ceil(BLOCK_SIZE);
            return block >= g.journal && block < g.orphans.plus(orphans);
        };
        if relative < METADATA_BLOCKS {
            return is_own(relative);
        }
        self.alloc.loaded(agno).is_some_and(|ag| {
            ag.is_verified(relative) || ag.state.lock().chunks.withdraw(relative, 1)
        })
    }

    /// What can be done with blocks of file data.
    #[inline]
    pub fn condition(&self, run: Run) -> Result<Condition> {
        match self.media.poison() {
            Some(poison) if !poison.is_clean() => self.look_at(run),
            _ => Ok(Condition::Intact(run.len)),
        }
    }

    #[cold]
    fn look_at(&self, run: Run) -> Result<Condition> {
        let Some(poison) = self.media.poison() else {
            return Ok(Condition::Intact(run.len));
        };
        if poison.is_suspect() {
            if let Some((agno, _)) = self.info.geometry.locate(run.start) {
                // Looks for what is lost in it.
                self.group(agno)?;
            }
        }
        Ok(poison.condition(run))
    }
}
