// SPDX-License-Identifier: GPL-2.0

//! Calls that take blocks out of a file or zero bytes in it.
//!
//! What: truncate, punch, and the zeroing of what lies between the end of a file and the end of its last block. A removal
//! works in transactions of bounded size, from the end of the file; a truncate that needs more than one sets the size in the
//! first and leaves its intent on the orphan table. The caller has unmapped the pages and waited for their references.
//!
//! # Hazard
//!
//! The tail behind the end of a file is zeroed *after* the shrinking truncate is durable: zeroed first, a crash between the
//! two would leave the old size with a hole of zeros in data that was never given up. And it is zeroed *before* any
//! extension is durable, since a mapping may have stored there, or an extension would lay that bare.

use crate::engine::alloc::policy::Purpose;
use crate::engine::error::{Error, Result};
use crate::engine::extent::edit;
use crate::engine::filesystem::attributes::Times;
use crate::engine::filesystem::data::{check_range, MappingState};
use crate::engine::filesystem::pending::pending_from;
use crate::engine::filesystem::Filesystem;
use crate::engine::format::inode::PENDING_ALL;
use crate::engine::inode::{set_times, Inode};
use crate::engine::media::Media;
use crate::engine::mutant::Mutant;
use crate::engine::orphan;
use crate::engine::poison::Condition;
use crate::engine::types::{FileBlock, BLOCK_SIZE, MAX_FILE_SIZE};
use crate::platform::yield_now;
use zerocopy::little_endian::U64;

/// Extents that one transaction takes out at most.
const REMOVAL_BUDGET: usize = 2048;

impl<M: Media> Filesystem<M> {
    /// Sets the size, up or down, and frees what lies beyond it. The caller has unmapped and waited for every page beyond
    /// it. Growing zeroes the tail of the old last block first; shrinking zeroes the tail of the new one afterwards. The size
    /// that the file has already is a shrink too: it gives back what was preallocated behind the end.
    pub fn truncate(&self, inode: &Inode, new_size: u64, times: &Times) -> Result<()> {
        check_range(inode, FileBlock(0), 1)?;
        if new_size > MAX_FILE_SIZE {
            return Err(Error::FileTooBig);
        }
        let old_size = inode.read().record.size.get();
        if new_size > old_size {
            self.lay_bare(inode, old_size, new_size)?;
            return self.set_size_only(inode, new_size, times);
        }
        let from = FileBlock::after(new_size);
        // What the zeroing of the tail will look at: it comes when nothing may fail for want of memory any more.
        self.map(inode, FileBlock::of(new_size), 1)?;
        if self.shrink(inode, new_size, times, true)? {
            match self.free_all_beyond(inode, from) {
                // The size is set, durably, and the rest is on the orphan table: an error would be a lie. Whoever makes the
                // file larger frees it first, or whoever forgets the inode, or the next mount.
                Err(Error::NoMemory) => inode.edit().core().resumable = true,
                other => other?,
            }
        }
        self.zero_tail(inode, new_size)
    }

    pub(super) fn free_all_beyond(&self, inode: &Inode, from: FileBlock) -> Result {
        while self.free_beyond(inode, from)? {
            yield_now();
        }
        Ok(())
    }

    /// The first half of a shrinking truncate: size and intent durable, blocks still the file's.
    pub fn truncate_size(&self, inode: &Inode, new_size: u64, times: &Times) -> Result<()> {
        check_range(inode, FileBlock(0), 1)?;
        if new_size > inode.read().record.size.get() {
            return Err(Error::Invalid);
        }
        if Mutant::FreeBeforeSize.active() {
            self.free_all_beyond(inode, FileBlock::after(new_size))?;
        }
        self.shrink(inode, new_size, times, false).map(|_| ())
    }

    /// Sets a smaller size, and frees what one transaction can (`free`). True: something is left, the intent is on the
    /// orphan table.
    fn shrink(&self, inode: &Inode, new_size: u64, times: &Times, free: bool) -> Result<bool> {
        self.note(self.shrink_inner(inode, new_size, times, free))
    }

    fn shrink_inner(
        &self,
        inode: &Inode,
        new_size: u64,
        times: &Times,
        free: bool,
    ) -> Result<bool> {
        let from = FileBlock::after(new_size);
        let mut tx = self.begin(Purpose::Removal)?;
        let mut edit = inode.edit();
        let mut more = true;
        let record = edit.draft();
        record.size = U64::new(new_size);
        record.pending = PENDING_ALL;
        set_times(record, times);
        if free {
            more = edit::remove(&mut tx, record, from, FileBlock::END, REMOVAL_BUDGET)? > from;
        }
        if more {
            orphan::enter(&mut tx, record)?;
        }
        edit.emit(&mut tx)?;
        let seq = self.commit(tx)?;
        edit.settle(seq);
        edit.core().truncating |= more;
        edit.core().clean_to = FileBlock(0);
        // Blocks that are left on purpose are not for whoever comes by.
        edit.core().resumable &= free;
        Ok(more || edit.core().truncating)
    }

    /// Frees blocks at and beyond `from` in one bounded transaction, the last ones first; true: call again. When it
    /// returns false the intent of [`Filesystem::truncate_size`] is done with, provided that `from` is [`Filesystem::pending_from`].
    pub fn free_beyond(&self, inode: &Inode, from: FileBlock) -> Result<bool> {
        self.note(self.free_beyond_inner(inode, from))
    }

    fn free_beyond_inner(&self, inode: &Inode, from: FileBlock) -> Result<bool> {
        let mut tx = self.begin(Purpose::Removal)?;
        let mut edit = inode.edit();
        let record = edit.draft();
        let reached = edit::remove(&mut tx, record, from, FileBlock::END, REMOVAL_BUDGET)?;
        let more = reached > from;
        let done = !more && from <= pending_from(record);
        if done && record.nlink.get() > 0 {
            orphan::leave(&mut tx, record)?;
        }
        edit.emit(&mut tx)?;
        let seq = self.commit(tx)?;
        edit.settle(seq);
        if done {
            edit.core().truncating = false;
            edit.core().resumable = false;
        }
        Ok(more)
    }

    /// Zeroes `[size, end of block)` durably if a written block is there.
    pub fn zero_tail(&self, inode: &Inode, size: u64) -> Result<()> {
        let len = size.next_multiple_of(BLOCK_SIZE).saturating_sub(size);
        if len == 0 || Mutant::NoTailZero.active() {
            return Ok(());
        }
        self.zero_range_bytes(inode, size, len)
    }

    /// Before a file that ends at `size` grows, and shows its bytes up to `new_end` that nobody has written: they are zeroed,
    /// durably, where written blocks are. Usually that is the rest of the last block. But blocks that were promised behind the
    /// end may have become written on the way of others (see [`crate::engine::extent::widen`]), and hold what an append stored
    /// there that a crash, or an error, kept from being counted. `Again`: see [`Self::set_size_only`].
    pub fn lay_bare(&self, inode: &Inode, size: u64, new_end: u64) -> Result<()> {
        if Mutant::NoTailZero.active() || new_end <= size {
            return Ok(());
        }
        // What somebody holds there is none of ours.
        self.allow_growth(inode, new_end)?;
        let end = new_end.max(size.next_multiple_of(BLOCK_SIZE));
        self.zero_range_bytes(inode, size, end.saturating_sub(size))
    }

    /// Frees the blocks of `[first, end)`. The caller has unmapped and waited for their pages. A range with very many
    /// extents takes several transactions; a crash may leave a part of it punched.
    pub fn punch(
        &self,
        inode: &Inode,
        first: FileBlock,
        end: FileBlock,
        times: &Times,
    ) -> Result<()> {
        check_range(inode, FileBlock(0), 1)?;
        let mut end = end.min(FileBlock::END);
        loop {
            let reached = self.change(inode, Purpose::Removal, |tx, record| {
                set_times(record, times);
                edit::remove(tx, record, first, end, REMOVAL_BUDGET)
            });
            let reached = self.note(reached)?;
            if reached <= first {
                return Ok(());
            }
            end = reached;
            yield_now();
        }
    }

    /// Zeroes the bytes `[offset, offset + len)` durably wherever they are in written blocks. Edges that are no multiples
    /// of 8 are read, changed and stored as whole words.
    pub fn zero_range_bytes(&self, inode: &Inode, offset: u64, len: u64) -> Result<()> {
        self.note(self.zero_range_inner(inode, offset, len))
    }

    fn zero_range_inner(&self, inode: &Inode, offset: u64, len: u64) -> Result {
        check_range(inode, FileBlock(0), 1)?;
        let end = offset.checked_add(len).ok_or(Error::FileTooBig)?;
        if end > FileBlock::END.offset() {
            return Err(Error::FileTooBig);
        }
        let mut at = offset;
        let mut changed = false;
        while at < end {
            let start = FileBlock::of(at);
            let last = FileBlock::after(end);
            let mut found = self.map(inode, start, last.0 - start.0)?;
            match self.condition(&found)? {
                Condition::Intact(len) => found.len = len,
                // What cannot be read needs no zeroes.
                Condition::Lost(len) => {
                    at = start.plus(len).offset();
                    continue;
                }
            }
            let stop = start.plus(found.len).offset().min(end);
            if let MappingState::Written(block) = found.state {
                if self.is_read_only() {
                    return Err(Error::ReadOnly);
                }
                self.media()
                    .zero_data(block.address() + (at - start.offset()), stop - at)?;
                changed = true;
            }
            at = stop;
        }
        if changed {
            self.media().fence();
        }
        Ok(())
    }
}
