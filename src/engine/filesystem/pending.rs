// SPDX-License-Identifier: GPL-2.0

//! Blocks behind the end of a file that are on their way out of it.
//!
//! What: somebody still holds pages of what a truncate or a punch takes away. The blocks stay the file's meanwhile, where
//! nobody can read them: behind its end. A truncate leaves them where they are ([`Filesystem::truncate_size`]); a punch moves
//! them to [`FileBlock::PARKED`] or beyond, where no file reaches ([`Filesystem::park`]). The intent is on the orphan table, so
//! that a crash frees them, and the record says how far it goes: to the end of the file, or to the parked blocks only, since
//! what is in front of those may be blocks that the user was promised there.
//!
//! # Hazard
//!
//! A file that grew over such blocks would show their old bytes, and the intent, carried out after a crash, would take away
//! what was promised since. So growth comes by [`Filesystem::allow_growth`], and a promise behind the end by
//! [`Filesystem::allow_promise`].

use crate::engine::alloc::policy::Purpose;
use crate::engine::error::{Error, Result};
use crate::engine::extent::{self, edit};
use crate::engine::filesystem::data::check_range;
use crate::engine::filesystem::Filesystem;
use crate::engine::format::extent::Extent;
use crate::engine::format::inode::{InodeRecord, PENDING_PARKED};
use crate::engine::inode::Inode;
use crate::engine::media::Media;
use crate::engine::mutant::Mutant;
use crate::engine::orphan;
use crate::engine::types::FileBlock;

/// What the intent of a file on the orphan table is about: blocks from here on.
pub(super) fn pending_from(record: &InodeRecord) -> FileBlock {
    let end = FileBlock::after(record.size.get());
    if record.pending == PENDING_PARKED {
        end.max(FileBlock::PARKED)
    } else {
        end
    }
}

impl<M: Media> Filesystem<M> {
    /// Moves `blocks` blocks from `first` to `to`, [`FileBlock::PARKED`] or behind it, in one transaction: a hole is punched
    /// there, and somebody still holds the page. From then on they are like what [`Filesystem::truncate_size`] leaves: a crash
    /// frees them, and `punch` or `free_beyond` do when they are let go. `Again`: they are not one written run, or `to` is taken.
    pub fn park(&self, inode: &Inode, first: FileBlock, blocks: u64, to: FileBlock) -> Result<()> {
        self.note(self.park_inner(inode, first, blocks, to))
    }

    fn park_inner(&self, inode: &Inode, first: FileBlock, blocks: u64, to: FileBlock) -> Result {
        check_range(inode, first, blocks)?;
        check_range(inode, to, blocks)?;
        if to < FileBlock::PARKED || first.plus(blocks) > FileBlock::PARKED {
            return Err(Error::Invalid);
        }
        let mut tx = self.begin(Purpose::Removal)?;
        let mut edit = inode.edit();
        let truncating = edit.core().truncating;
        let record = edit.draft();
        let Some(block) = extent::written_run(&tx, record, first, blocks)? else {
            return Err(Error::Again);
        };
        edit::take(&mut tx, record, first, first.plus(blocks))?;
        let parked = Extent {
            file_block: to,
            len: blocks,
            block,
            unwritten: false,
        };
        edit::insert(&mut tx, record, &parked)?;
        if !truncating && !Mutant::ParkAll.active() {
            record.pending = PENDING_PARKED;
        }
        if !Mutant::ParkOnly.active() {
            orphan::enter(&mut tx, record)?;
        }
        edit.emit(&mut tx)?;
        let seq = self.commit(tx)?;
        edit.settle(seq);
        edit.core().truncating = true;
        edit.core().resumable = false;
        Ok(())
    }

    /// Something behind the end of the file has not been given back yet.
    pub fn is_truncating(&self, inode: &Inode) -> bool {
        inode.read().truncating
    }

    /// From here on all blocks of the file are pending; `None`: nothing is.
    pub fn pending_from(&self, inode: &Inode) -> Option<FileBlock> {
        let core = inode.read();
        core.truncating.then(|| pending_from(&core.record))
    }

    /// Between the end of the file and byte `end` lie blocks that have not been given back yet: a file that grew over them
    /// would show their old bytes.
    pub fn pending_before(&self, inode: &Inode, end: u64) -> Result<bool> {
        self.is_in_the_way(inode, FileBlock(0), end)
    }

    /// No blocks are in the way of growth to `end` bytes, or of blocks promised there, but such as were reclaimed.
    pub fn may_grow(&self, inode: &Inode, end: u64) -> Result<bool> {
        let clean = inode.read().clean_to;
        self.is_in_the_way(inode, clean, end).map(|found| !found)
    }

    /// The same of blocks from `from` on.
    fn is_in_the_way(&self, inode: &Inode, from: FileBlock, end: u64) -> Result<bool> {
        let core = inode.read();
        let (from, to) = (pending_from(&core.record).max(from), FileBlock::after(end));
        if !core.truncating || from >= to {
            return Ok(false);
        }
        let hole = extent::is_hole(self.volume(), &core.record, from, to);
        drop(core);
        self.note(hole).map(|hole| !hole)
    }

    /// Pending blocks between the end of the file and `end` become the file's own again, with zeros in them: the file is about
    /// to grow over them, and they cannot be moved. Nobody has them mapped. To be called again before each growth, since
    /// whoever holds the page may have stored there since.
    pub fn reclaim(&self, inode: &Inode, end: FileBlock) -> Result<()> {
        let size = inode.attributes().size;
        self.zero_range_bytes(inode, size, end.offset().saturating_sub(size))?;
        inode.edit().core().clean_to = end;
        Ok(())
    }

    /// Before a file grows to `new_size`: blocks that an earlier truncate did not come to free are freed. `Again`: such blocks
    /// lie in front of the new end, may be in use still, and somebody waits for them ([`Filesystem::truncate_size`]).
    pub(super) fn allow_growth(&self, inode: &Inode, new_size: u64) -> Result {
        if self.is_read_only() {
            // Nobody frees them any more: to wait would be to wait for ever.
            return Err(Error::ReadOnly);
        }
        let core = inode.read();
        let (truncating, resumable) = (core.truncating, core.resumable);
        let (from, clean) = (pending_from(&core.record), core.clean_to);
        drop(core);
        match (truncating, resumable) {
            (false, _) => Ok(()),
            (true, false) if self.is_in_the_way(inode, clean, new_size)? => Err(Error::Again),
            (true, false) => Ok(()),
            (true, true) => self.free_all_beyond(inode, from),
        }
    }

    /// Before blocks are promised to a file up to `end`, behind its end: they must not be taken for pending ones. `Again`: there
    /// are such in front of [`FileBlock::PARKED`].
    pub(super) fn allow_promise(&self, inode: &Inode, end: FileBlock) -> Result {
        let core = inode.read();
        let (truncating, resumable) = (core.truncating, core.resumable);
        let from = pending_from(&core.record);
        drop(core);
        if !truncating || end <= from {
            return Ok(());
        }
        if resumable {
            return self.free_all_beyond(inode, from);
        }
        if self.is_in_the_way(inode, FileBlock(0), FileBlock::PARKED.offset())? {
            return Err(Error::Again);
        }
        self.change(inode, Purpose::Removal, |_, record| {
            record.pending = PENDING_PARKED;
            Ok(())
        })
    }
}
