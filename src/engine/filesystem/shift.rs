// SPDX-License-Identifier: GPL-2.0

//! Calls that move a part of a file, and the one that zeroes a part without storing zeros.
//!
//! What: [`Filesystem::collapse`] takes blocks out of the middle of a file and closes the gap, [`Filesystem::insert`] opens a
//! gap, each in one transaction at any size: after a crash the file is as before or as after. [`Filesystem::zero_range`]
//! makes written blocks unwritten.
//!
//! Why a collapse never needs two transactions: blocks in very many pieces do not fit into the one that takes them out. They
//! move then, in that transaction, far behind the end of the file, with the intent on the orphan table: there they are like
//! blocks whose pages somebody holds ([`super::pending`]).
//!
//! The caller holds the file's `i_rwsem` and keeps faults out, has unmapped all that moves, and waited for its references.

use crate::engine::alloc::policy::Purpose;
use crate::engine::error::{Error, Result};
use crate::engine::extent::{self, edit, shift, shift::Plan};
use crate::engine::filesystem::attributes::Times;
use crate::engine::filesystem::data::{check_range, grow};
use crate::engine::filesystem::pending::pending_from;
use crate::engine::filesystem::Filesystem;
use crate::engine::format::inode::{InodeRecord, PENDING_PARKED};
use crate::engine::inode::{set_times, Inode};
use crate::engine::media::Media;
use crate::engine::orphan;
use crate::engine::transaction::Transaction;
use crate::engine::types::{FileBlock, BLOCK_SIZE, MAX_FILE_SIZE};
use crate::platform::yield_now;
use zerocopy::little_endian::U64;

/// Extents that are freed in the transaction which takes them out; more are moved away first.
const FREED_AT_ONCE: usize = 1024;

impl<M: Media> Filesystem<M> {
    /// Takes `blocks` blocks from `first` on out of the file; what follows moves up. Returns the new size. The range ends
    /// before the end of the file, else `Invalid`.
    ///
    /// `rescue`: somebody still holds pages of these blocks. They are not freed but begin there from now on, behind the end of
    /// the file, as with [`Filesystem::park`]; `Again`: that place is taken.
    pub fn collapse(
        &self,
        inode: &Inode,
        first: FileBlock,
        blocks: u64,
        rescue: Option<FileBlock>,
        times: &Times,
    ) -> Result<u64> {
        let size = self.note(self.collapse_inner(inode, first, blocks, rescue, times))?;
        self.zero_moved_tail(inode, size);
        Ok(size)
    }

    /// What a mapping stored behind the end of the file, in its last block, has moved along with it. It cannot become the file's, since
    /// growth zeroes it, but would be seen in the mapped page; zeros are what one may expect there after a change of size. A failure
    /// is none of the call, which has happened.
    fn zero_moved_tail(&self, inode: &Inode, size: u64) {
        let _ = self.zero_tail(inode, size);
    }

    fn collapse_inner(
        &self,
        inode: &Inode,
        first: FileBlock,
        blocks: u64,
        rescue: Option<FileBlock>,
        times: &Times,
    ) -> Result<u64> {
        check_range(inode, first, blocks)?;
        let source = first.plus(blocks);
        let mut tx = self.begin(Purpose::Removal)?;
        let mut edit = inode.edit();
        let was_truncating = edit.core().truncating;
        let record = edit.draft();
        let size = record.size.get();
        if source.offset() >= size {
            return Err(Error::Invalid);
        }
        let mut plan = Plan {
            from: first.0,
            source: source.0,
            target: first.0,
            limit: limit(was_truncating, record),
            rescue: rescue.map(|to| to.0),
        };
        if plan.rescue.is_none() && self.has_many(record, &plan)? {
            plan.rescue = Some(self.room_behind(record, blocks)?);
        }
        if let Some(to) = plan.rescue {
            self.check_rescue(record, to, blocks, was_truncating)?;
            if !was_truncating {
                record.pending = PENDING_PARKED;
            }
            orphan::enter(&mut tx, record)?;
        }
        shift::shift(&mut tx, record, &plan)?;
        let new_size = size - blocks * BLOCK_SIZE;
        record.size = U64::new(new_size);
        set_times(record, times);
        edit.emit(&mut tx)?;
        let seq = self.commit(tx)?;
        edit.settle(seq);
        edit.core().clean_to = FileBlock(0);
        if plan.rescue.is_some() {
            edit.core().truncating = true;
            edit.core().resumable &= rescue.is_none();
        }
        drop(edit);
        if let (None, Some(to)) = (rescue, plan.rescue) {
            self.free_rescued(inode, FileBlock(to), blocks, was_truncating)?;
        }
        Ok(new_size)
    }

    /// Whether the range is in more pieces than are freed at once.
    fn has_many(&self, record: &InodeRecord, plan: &Plan) -> Result<bool> {
        let mut count = 0;
        let counted = shift::for_each(self.volume(), record, plan.from, plan.source, |_| {
            count += 1;
            if count > FREED_AT_ONCE {
                return Err(Error::TooLarge);
            }
            Ok(())
        });
        match counted {
            Err(Error::TooLarge) => Ok(true),
            other => other.map(|()| false),
        }
    }

    /// A place for blocks that are taken out, behind all that are there already.
    fn room_behind(&self, record: &InodeRecord, blocks: u64) -> Result<u64> {
        let last = FileBlock(FileBlock::END.0 - 1);
        let (_, extent) = extent::find(self.volume(), record, last, 1)?;
        let end = extent.map_or(FileBlock(0), |extent| extent.file_end());
        let end = end.max(FileBlock::PARKED);
        if end.plus(blocks) > FileBlock::END {
            return Err(Error::FileTooBig);
        }
        Ok(end.0)
    }

    /// The place for what is taken out is free, and so is all behind it, unless that is known to be nobody's.
    fn check_rescue(
        &self,
        record: &InodeRecord,
        to: u64,
        blocks: u64,
        was_truncating: bool,
    ) -> Result {
        let end = FileBlock::END.0;
        if to < FileBlock::PARKED.0 || to.saturating_add(blocks) > end {
            return Err(Error::Invalid);
        }
        let free = if was_truncating { blocks } else { end - to };
        shift::for_each(self.volume(), record, to, to + free, |_| Err(Error::Again))
    }

    /// Frees what a collapse has moved behind the end of the file, and takes back the intent. As with a truncate, want of
    /// memory is no error: whoever makes the file larger frees it first.
    fn free_rescued(&self, inode: &Inode, from: FileBlock, blocks: u64, pending: bool) -> Result {
        let freed = self.punch(inode, from, from.plus(blocks), &Times::default());
        let done = match freed {
            // What else is pending behind the end has its own end.
            Ok(()) if pending => return Ok(()),
            Ok(()) => self.change_core(inode, Purpose::Removal, |tx, core| {
                let draft = core.draft();
                if draft.nlink.get() > 0 {
                    orphan::leave(tx, draft)?;
                }
                Ok(())
            }),
            Err(error) => Err(error),
        };
        let mut edit = inode.edit();
        match self.note(done) {
            Ok(()) => edit.core().truncating = false,
            Err(Error::NoMemory) if !pending => edit.core().resumable = true,
            Err(Error::NoMemory) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Opens a hole of `blocks` blocks at `at`; what lies there moves back. Returns the new size. `at` is before the end of the
    /// file, else `Invalid`. `Again`: what is pending behind the end is in the way.
    pub fn insert(&self, inode: &Inode, at: FileBlock, blocks: u64, times: &Times) -> Result<u64> {
        let size = self.note(self.insert_inner(inode, at, blocks, times))?;
        self.zero_moved_tail(inode, size);
        Ok(size)
    }

    fn insert_inner(
        &self,
        inode: &Inode,
        at: FileBlock,
        blocks: u64,
        times: &Times,
    ) -> Result<u64> {
        check_range(inode, at, blocks)?;
        let size = inode.read().record.size.get();
        if at.offset() >= size {
            return Err(Error::Invalid);
        }
        let more = blocks.checked_mul(BLOCK_SIZE).ok_or(Error::FileTooBig)?;
        let new_size = size.checked_add(more).ok_or(Error::FileTooBig)?;
        if new_size > MAX_FILE_SIZE {
            return Err(Error::FileTooBig);
        }
        self.allow_growth(inode, new_size)?;
        if self.pending_before(inode, new_size)? {
            // Growth can do with reclaimed blocks there, blocks that move cannot.
            return Err(Error::Again);
        }
        self.change_core(inode, Purpose::Metadata, |tx, core| {
            let truncating = core.truncating;
            core.clean_to = FileBlock(0);
            let record = core.draft();
            let limit = limit(truncating, record);
            // What was preallocated there would come to lie where parked blocks are.
            let top = FileBlock::PARKED.0;
            let low = top.saturating_sub(blocks);
            shift::for_each(self.volume(), record, low, limit.min(top), |_| {
                Err(Error::FileTooBig)
            })?;
            let plan = Plan {
                from: at.0,
                source: at.0,
                target: at.0.saturating_add(blocks),
                limit,
                rescue: None,
            };
            shift::shift(tx, record, &plan)?;
            record.size = U64::new(new_size);
            set_times(record, times);
            Ok(new_size)
        })
    }

    /// Lets the written blocks of `[first, end)` read as zeros, by making them unwritten, and sets the size if one is given and
    /// larger; times too. Holes stay. A range in very many pieces takes several transactions, of which the last one sets
    /// the size; a crash may leave the end of the range as it was.
    ///
    /// Where there is no block for the extent tree, zeros are stored instead.
    pub fn zero_range(
        &self,
        inode: &Inode,
        first: FileBlock,
        end: FileBlock,
        new_size: Option<u64>,
        times: &Times,
    ) -> Result<()> {
        self.note(self.zero_range_blocks(inode, first, end, new_size, times))
    }

    fn zero_range_blocks(
        &self,
        inode: &Inode,
        first: FileBlock,
        end: FileBlock,
        new_size: Option<u64>,
        times: &Times,
    ) -> Result {
        check_range(inode, first, 1)?;
        let old_size = inode.read().record.size.get();
        let new_size = new_size.filter(|&size| size > old_size);
        if let Some(size) = new_size {
            self.lay_bare(inode, old_size, size)?;
        }
        let finish = |record: &mut InodeRecord| {
            if let Some(size) = new_size {
                grow(record, size)?;
            }
            set_times(record, times);
            Ok(())
        };
        let end = end.min(FileBlock::END);
        let mut at = first;
        let unwrite = |tx: &mut Transaction<'_, M>, record: &mut InodeRecord, at| {
            let reached = edit::unwrite(tx, record, at, end)?;
            if reached >= end {
                finish(record)?;
            }
            Ok(reached)
        };
        loop {
            let done = self.change(inode, Purpose::Conversion, |tx, record| {
                unwrite(tx, record, at)
            });
            match done {
                Ok(reached) if reached >= end => return Ok(()),
                Ok(reached) => at = reached,
                Err(Error::NoSpace) => break,
                Err(error) => return Err(error),
            }
            yield_now();
        }
        self.zero_range_bytes(inode, at.offset(), end.offset() - at.offset())?;
        self.change(inode, Purpose::Removal, |_, record| finish(record))
    }
}

/// From where on extents stay: what is pending behind the end of the file is nobody's.
fn limit(truncating: bool, record: &InodeRecord) -> u64 {
    if truncating {
        pending_from(record).0
    } else {
        FileBlock::PARKED.0
    }
}
