// SPDX-License-Identifier: GPL-2.0

//! Preallocation: blocks that a file is promised before it has anything to write.
//!
//! What: every hole of a range gets unwritten blocks. All of them are reserved in memory before the first transaction, so a
//! range for which there is no space fails before anything has changed. They are published in as few transactions as their
//! records allow: one, unless the range falls into many hundreds of pieces.
//!
//! # Hazard
//!
//! With several transactions, a later one can fail after an earlier one is durable, for want of a block for the extent tree
//! or of memory. Left so, the file would keep blocks from a call that failed, and on a full filesystem those may be all that
//! was left: so they are taken back. A crash in between leaves some of the range preallocated; it reads as zeros either way.

use crate::engine::alloc::policy::Purpose;
use crate::engine::error::{Error, Result};
use crate::engine::extent::{self, edit};
use crate::engine::filesystem::attributes::Times;
use crate::engine::filesystem::data::{check_range, goal, grow, MappingState};
use crate::engine::filesystem::Filesystem;
use crate::engine::format::extent::Extent;
use crate::engine::inode::{set_times, Inode};
use crate::engine::media::Media;
use crate::engine::types::{Block, FileBlock, Run};
use crate::platform::{yield_now, Vec};

/// Words of a record that one more piece may take, with a split of the tree's leaf, and of the nodes above it.
const ROOM: usize = 2500;

/// Blocks for a hole: where in the file, and which.
#[derive(Clone, Copy)]
struct Piece {
    at: FileBlock,
    run: Run,
}

/// What one call has reserved: the first `published` pieces are the file's, the others are in memory only.
struct Plan {
    pieces: Vec<Piece>,
    published: usize,
}

impl Plan {
    /// The pieces that are the file's.
    fn published(&self) -> &[Piece] {
        self.pieces.get(..self.published).unwrap_or(&[])
    }

    /// The others.
    fn waiting(&self) -> &[Piece] {
        self.pieces.get(self.published..).unwrap_or(&[])
    }
}

/// What is set with the last piece.
struct Finish<'a> {
    size: Option<u64>,
    times: &'a Times,
}

impl<M: Media> Filesystem<M> {
    /// Gives every hole of `[start, start + blocks)` unwritten blocks, then sets the size if one is given and larger. On an
    /// error nothing has changed.
    pub fn preallocate(
        &self,
        inode: &Inode,
        start: FileBlock,
        blocks: u64,
        new_size: Option<u64>,
        times: &Times,
    ) -> Result<()> {
        self.note(self.preallocate_inner(inode, start, blocks, new_size, times))
    }

    fn preallocate_inner(
        &self,
        inode: &Inode,
        start: FileBlock,
        blocks: u64,
        new_size: Option<u64>,
        times: &Times,
    ) -> Result {
        check_range(inode, start, blocks)?;
        if start.plus(blocks) > FileBlock::PARKED {
            return Err(Error::FileTooBig);
        }
        let old_size = inode.read().record.size.get();
        let finish = Finish {
            size: new_size.filter(|&size| size > old_size),
            times,
        };
        if let Some(size) = finish.size {
            self.lay_bare(inode, old_size, size)?;
        } else {
            self.allow_promise(inode, start.plus(blocks))?;
        }
        let mut plan = Plan {
            pieces: Vec::new(),
            published: 0,
        };
        let result = self.carry_out(inode, start, start.plus(blocks), &finish, &mut plan);
        if result.is_err() {
            self.release_waiting(&plan);
            self.take_back(inode, plan.published());
        }
        result
    }

    fn carry_out(
        &self,
        inode: &Inode,
        start: FileBlock,
        end: FileBlock,
        finish: &Finish<'_>,
        plan: &mut Plan,
    ) -> Result {
        loop {
            self.reserve_holes(inode, start, end, plan)?;
            let published = loop {
                match self.publish_pieces(inode, plan, finish) {
                    Ok(()) if plan.waiting().is_empty() => break true,
                    Ok(()) => yield_now(),
                    Err(Error::Again) => break false,
                    Err(error) => return Err(error),
                }
            };
            if published {
                return Ok(());
            }
            // A fault has filled a part of a hole since the look: look again.
            self.release_waiting(plan);
            plan.pieces.truncate(plan.published);
            yield_now();
        }
    }

    /// Reserves blocks for every hole of `[start, end)`.
    fn reserve_holes(
        &self,
        inode: &Inode,
        start: FileBlock,
        end: FileBlock,
        plan: &mut Plan,
    ) -> Result {
        let mut at = start;
        // Where the last piece ends: the next one goes on there.
        let mut last: Option<Extent> = None;
        while at < end {
            let core = inode.read();
            let (found, previous) = extent::find(self.volume(), &core.record, at, end.0 - at.0)?;
            drop(core);
            if found.state != MappingState::Hole {
                at = at.plus(found.len);
                continue;
            }
            plan.pieces.reserve(1)?;
            let previous = match (previous, last) {
                (Some(a), Some(b)) if a.file_block > b.file_block => Some(a),
                (a, b) => b.or(a),
            };
            let run = self.reserve_run(inode, goal(previous, at), at, found.len)?;
            plan.pieces.push(Piece { at, run })?;
            last = Some(extent_of(&Piece { at, run }));
            at = at.plus(run.len);
        }
        Ok(())
    }

    /// Makes the next pieces the file's, as many as one transaction takes; size and times with the last one.
    fn publish_pieces(&self, inode: &Inode, plan: &mut Plan, finish: &Finish<'_>) -> Result {
        let waiting = plan.waiting();
        // Without a piece it is a change of the inode only, for which there is always space.
        let purpose = match waiting {
            [] => Purpose::Removal,
            _ => Purpose::Data,
        };
        let count = self.change(inode, purpose, |tx, record| {
            let mut count = 0;
            for piece in waiting {
                if tx.room() < ROOM {
                    break;
                }
                tx.adopt(piece.run)?;
                edit::insert(tx, record, &extent_of(piece))?;
                count += 1;
            }
            if count == waiting.len() {
                if let Some(size) = finish.size {
                    grow(record, size)?;
                }
                set_times(record, finish.times);
            }
            Ok(count)
        })?;
        plan.published += count;
        Ok(())
    }

    /// Gives back what is reserved only.
    fn release_waiting(&self, plan: &Plan) {
        for piece in plan.waiting() {
            self.release_run(piece.run);
        }
    }

    /// Takes pieces out of the file again, but for blocks that a fault has written meanwhile. Where even that fails, for want
    /// of memory, the file keeps the rest.
    fn take_back(&self, inode: &Inode, pieces: &[Piece]) {
        for piece in pieces {
            let mut at = piece.at;
            let end = at.plus(piece.run.len);
            while at < end {
                let removed = self.change(inode, Purpose::Removal, |tx, record| {
                    let (found, _) = extent::find(tx, record, at, end.0 - at.0)?;
                    let next = at.plus(found.len);
                    if is_unwritten_at(found.state, piece, at) {
                        edit::remove(tx, record, at, next, usize::MAX)?;
                    }
                    Ok(next)
                });
                match self.note(removed) {
                    Ok(next) => at = next,
                    Err(_) => return,
                }
            }
            yield_now();
        }
    }
}

/// Whether the block at `at` is still the unwritten one of this piece.
fn is_unwritten_at(state: MappingState, piece: &Piece, at: FileBlock) -> bool {
    let block: Block = piece.run.start.plus(at.0 - piece.at.0);
    state == MappingState::Unwritten(block)
}

/// A piece as the extent that it is to be.
fn extent_of(piece: &Piece) -> Extent {
    Extent {
        file_block: piece.at,
        len: piece.run.len,
        block: piece.run.start,
        unwritten: true,
    }
}
