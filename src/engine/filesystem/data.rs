// SPDX-License-Identifier: GPL-2.0

//! Calls for the blocks of a file.
//!
//! What: a write reserves blocks in memory ([`Filesystem::reserve_write`]), the caller copies the bytes into them, and
//! [`Filesystem::publish`] makes them the file's in one transaction. A fault gets a zeroed block at once
//! ([`Filesystem::fault_allocate`]). Blocks for later are the affair of [`super::promise`].
//!
//! # Hazard
//!
//! A record is valid by its checksum alone, without any order against other stores. So the bytes of a block must be durable
//! before the first byte of the record that gives the block to the file: else a crash could leave a file whose new block
//! holds what its last owner wrote there. Every transaction here that makes blocks readable says `publishes_data`.

use crate::engine::alloc::policy::Purpose;
use crate::engine::alloc::{AllocRequest, Window};
use crate::engine::error::{Error, Result};
use crate::engine::extent::{self, edit, widen};
use crate::engine::filesystem::attributes::Times;
use crate::engine::filesystem::pending::pending_from;
use crate::engine::filesystem::Filesystem;
use crate::engine::format::extent::{Extent, MAX_LEN};
use crate::engine::format::inode::InodeRecord;
use crate::engine::inode::{set_times, Inode};
use crate::engine::media::Media;
use crate::engine::poison::Condition;
use crate::engine::types::{
    Block, FileBlock, FileKind, Run, BLOCK_SIZE, MAX_FILE_SIZE, SLOT_BLOCKS,
};
use crate::platform::yield_now;
use core::ops::Range;
use zerocopy::little_endian::U64;

/// What is behind a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingState {
    /// Nothing: reads as zeros.
    Hole,
    /// Blocks with data, from this device block on.
    Written(Block),
    /// Blocks that belong to the file and read as zeros, from this device block on.
    Unwritten(Block),
}

/// A range of a file with one state; on the medium it is contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First block: the one that was asked for.
    pub start: FileBlock,
    /// Blocks, at least 1, at most as many as asked for.
    pub len: u64,
    /// What is there.
    pub state: MappingState,
}

/// Where the bytes of a write go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// Written blocks of the file: no transaction is needed, except for the size.
    InPlace,
    /// Preallocated blocks of the file: publishing converts them.
    Convert,
    /// Blocks reserved in memory only: publishing makes them the file's.
    Fresh,
    /// As `Fresh`, in the place of blocks of the file that are lost: publishing takes those out. The caller writes the blocks
    /// whole, since nothing is left of what they held.
    Replace,
}

impl WriteKind {
    /// The blocks are reserved in memory only.
    const fn is_reserved(self) -> bool {
        matches!(self, Self::Fresh | Self::Replace)
    }
}

/// Blocks to copy into before [`Filesystem::publish`]. Has no lifetime, so that it can travel
/// through `iomap.private`; end it with `publish` or [`Filesystem::cancel`]. One that is merely
/// dropped keeps its `Fresh` blocks out of use until the next mount; nothing worse.
#[must_use = "publish or cancel"]
#[derive(Debug)]
pub struct WriteReservation {
    /// First file block.
    pub start: FileBlock,
    /// Blocks.
    pub len: u64,
    /// First device block.
    pub block: Block,
    /// What publishing has to do.
    pub kind: WriteKind,
}

/// What a publish changes besides extents.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishArgs {
    /// The file's size from now on, in bytes, if the write extends it.
    pub new_size: Option<u64>,
    /// Times to set.
    pub times: Times,
}

/// A range of file blocks that exists.
pub(super) fn check_range(inode: &Inode, start: FileBlock, blocks: u64) -> Result {
    if inode.kind() != FileKind::Regular || blocks == 0 {
        return Err(Error::Invalid);
    }
    if start.plus(blocks) > FileBlock::END {
        return Err(Error::FileTooBig);
    }
    Ok(())
}

/// Sets a larger size in a draft; a smaller one is not taken.
pub(super) fn grow(record: &mut InodeRecord, size: u64) -> Result {
    if size > MAX_FILE_SIZE {
        return Err(Error::FileTooBig);
    }
    if size > record.size.get() {
        record.size = U64::new(size);
    }
    Ok(())
}

/// Blocks that [`Filesystem::write_back`] writes back without a break.
const WRITE_BACK: u64 = 4096;

/// Where the block at `start` should lie: as far behind the file's last extent before it as in the file.
pub(super) fn goal(previous: Option<Extent>, start: FileBlock) -> Option<Block> {
    let extent = previous?;
    let distance = start.0.saturating_sub(extent.file_block.0);
    Some(extent.block.plus(distance))
}

impl<M: Media> Filesystem<M> {
    /// What is at `start`, for at most `max_blocks`. Takes only the extent lock, shared.
    pub fn map(&self, inode: &Inode, start: FileBlock, max_blocks: u64) -> Result<Mapping> {
        check_range(inode, start, 1)?;
        let core = inode.read();
        let mapping = extent::lookup(self.volume(), &core.record, start, max_blocks);
        drop(core);
        self.note(mapping)
    }

    /// The file has no blocks in `[from, to)`.
    pub fn is_hole(&self, inode: &Inode, from: FileBlock, to: FileBlock) -> Result<bool> {
        check_range(inode, from, 1)?;
        let core = inode.read();
        let hole = extent::is_hole(self.volume(), &core.record, from, to.min(FileBlock::END));
        drop(core);
        self.note(hole)
    }

    /// What was stored to the written blocks of `[from, to)` by whomever, durable. For who has lost sight of which of them that
    /// is.
    pub fn write_back(&self, inode: &Inode, from: FileBlock, to: FileBlock) -> Result<()> {
        let (mut at, to) = (from, to.min(FileBlock::END));
        while at < to {
            let mut found = self.map(inode, at, to.0.saturating_sub(at.0))?;
            match (self.condition(&found)?, found.state) {
                (Condition::Intact(len), MappingState::Written(block)) => {
                    found.len = len.min(WRITE_BACK);
                    let media = self.media();
                    media.write_back(block.address(), found.len.saturating_mul(BLOCK_SIZE));
                }
                // Nothing can be stored to what is lost.
                (Condition::Intact(len) | Condition::Lost(len), _) => found.len = len,
            }
            at = at.plus(found.len);
            yield_now();
        }
        self.media().fence();
        Ok(())
    }

    /// Blocks to write `[start, start + blocks)` to: the longest prefix of one kind that is contiguous on the medium.
    /// `_end_hint`: where, in bytes, the file will end as far as the caller knows.
    pub fn reserve_write(
        &self,
        inode: &Inode,
        start: FileBlock,
        blocks: u64,
        _end_hint: u64,
    ) -> Result<WriteReservation> {
        self.note(self.reserve_inner(inode, start, blocks))
    }

    fn reserve_inner(
        &self,
        inode: &Inode,
        start: FileBlock,
        blocks: u64,
    ) -> Result<WriteReservation> {
        check_range(inode, start, blocks)?;
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let mut core = inode.read();
        if core.resumable && start.plus(blocks) > pending_from(&core.record) {
            // Blocks that are to be freed are not there to be written to.
            let from = pending_from(&core.record);
            drop(core);
            self.free_all_beyond(inode, from)?;
            core = inode.read();
        }
        let (mut found, previous) = extent::find(self.volume(), &core.record, start, blocks)?;
        match self.condition(&found)? {
            Condition::Intact(len) => found.len = len,
            Condition::Lost(len) => {
                drop(core);
                return self.reserve_in_place_of(inode, &Mapping { len, ..found });
            }
        }
        let (kind, block) = match found.state {
            MappingState::Written(block) => (WriteKind::InPlace, block),
            MappingState::Unwritten(block) => {
                // Under the extent lock, so that no conversion of a neighbour is under way.
                inode.set_converting(start..start.plus(found.len));
                (WriteKind::Convert, block)
            }
            MappingState::Hole => {
                drop(core);
                let goal = goal(previous, start);
                let run = self.reserve_run(inode, goal, start, found.len)?;
                return Ok(WriteReservation {
                    start,
                    len: run.len,
                    block: run.start,
                    kind: WriteKind::Fresh,
                });
            }
        };
        Ok(WriteReservation {
            start,
            len: found.len,
            block,
            kind,
        })
    }

    /// Makes the first `done` blocks of the reservation the file's (all their bytes have been stored, with cache-bypassing
    /// stores or write-back; the fence is here) and gives the rest back. Durable on return. `InPlace` with a new size is a
    /// size change only. `Again`: a part of the range got a block meanwhile; nothing has changed.
    pub fn publish(
        &self,
        inode: &Inode,
        reservation: WriteReservation,
        done: u64,
        args: &PublishArgs,
    ) -> Result<()> {
        let result = if done > reservation.len {
            Err(Error::Invalid)
        } else if done == 0 {
            Ok(())
        } else {
            self.publish_inner(inode, &reservation, done, args)
        };
        if reservation.kind == WriteKind::Convert {
            inode.set_converting(FileBlock(0)..FileBlock(0));
        }
        if reservation.kind.is_reserved() {
            let used = if result.is_ok() { done } else { 0 };
            self.release_run(Run {
                start: reservation.block.plus(used),
                len: reservation.len.saturating_sub(used),
            });
        }
        self.note(result)
    }

    fn publish_inner(
        &self,
        inode: &Inode,
        reservation: &WriteReservation,
        done: u64,
        args: &PublishArgs,
    ) -> Result {
        let end = reservation.start.plus(done);
        let purpose = match reservation.kind {
            WriteKind::InPlace => {
                return match args.new_size {
                    Some(size) => self.set_size_only(inode, size, &args.times),
                    None => {
                        self.media().fence();
                        if args.times == Times::default() {
                            return Ok(());
                        }
                        self.touch(inode, &args.times, false)
                    }
                };
            }
            WriteKind::Convert => Purpose::Conversion,
            WriteKind::Fresh | WriteKind::Replace => Purpose::Data,
        };
        if let Some(size) = args.new_size {
            self.allow_growth(inode, size)?;
        }
        let finish = |record: &mut InodeRecord| {
            if let Some(size) = args.new_size {
                grow(record, size)?;
            }
            set_times(record, &args.times);
            Ok(())
        };
        let done = self.change(inode, purpose, |tx, record| {
            tx.publishes_data();
            match reservation.kind {
                WriteKind::Fresh | WriteKind::Replace => {
                    let run = Run {
                        start: reservation.block,
                        len: done,
                    };
                    if reservation.kind == WriteKind::Replace {
                        edit::remove(tx, record, reservation.start, end, usize::MAX)?;
                    }
                    tx.adopt(run)?;
                    let extent = Extent {
                        file_block: reservation.start,
                        len: done,
                        block: reservation.block,
                        unwritten: false,
                    };
                    edit::insert(tx, record, &extent)?;
                }
                _ => edit::convert(tx, record, reservation.start, end)?,
            }
            finish(record)
        });
        if done == Err(Error::NoSpace) && reservation.kind == WriteKind::Convert {
            // What is being written is this reservation itself.
            let busy = FileBlock(0)..FileBlock(0);
            return self.convert_widely(inode, reservation.start..end, false, Some(busy), finish);
        }
        done
    }

    /// Makes preallocated blocks written where there is no block left for the extent tree. Those of `range` are zeroed too if
    /// the caller has not stored into them (`zero`). `busy`: see [`widen::convert`], by default what a write is copying into.
    fn convert_widely(
        &self,
        inode: &Inode,
        range: Range<FileBlock>,
        zero: bool,
        busy: Option<Range<FileBlock>>,
        finish: impl FnOnce(&mut InodeRecord) -> Result,
    ) -> Result {
        self.change_core(inode, Purpose::Conversion, |tx, core| {
            let len = range.end.0.saturating_sub(range.start.0);
            let (found, _) = extent::find(tx, &core.record, range.start, len)?;
            let record = core.draft();
            match found.state {
                // Somebody else's conversion has come by.
                MappingState::Written(_) if found.len == len => {}
                MappingState::Unwritten(block) if found.len == len => {
                    if zero {
                        self.media().zero_through(block.address(), len * BLOCK_SIZE);
                    }
                    let busy = busy.unwrap_or_else(|| inode.converting());
                    let written = widen::convert(tx, record, range, &busy)?;
                    tx.publishes_data();
                    // Before the commit: a write that finds these blocks written must find this too.
                    inode.add_widened(written);
                }
                _ => return Err(Error::Again),
            }
            finish(record)
        })
    }

    /// Gives a reservation back unused. One of preallocated blocks is better ended by a [`Filesystem::publish`] of nothing:
    /// else they count as being written into until the next reservation.
    pub fn cancel(&self, reservation: WriteReservation) {
        if reservation.kind.is_reserved() {
            self.release_run(Run {
                start: reservation.block,
                len: reservation.len,
            });
        }
    }

    /// Sets a larger size when the bytes went into blocks that are already written. Fences them first.
    pub fn set_size_only(&self, inode: &Inode, new_size: u64, times: &Times) -> Result<()> {
        let done = self.allow_growth(inode, new_size).and_then(|()| {
            self.change(inode, Purpose::Removal, |tx, record| {
                tx.publishes_data();
                grow(record, new_size)?;
                set_times(record, times);
                Ok(())
            })
        });
        self.note(done)
    }

    /// For a write fault at `start`: a written block there, zeroed and durable if it is new.
    ///
    /// `want` is 1, or 512 for an aligned 2 MiB range, which succeeds only with one aligned, contiguous run for the whole
    /// range; `Again` means: fall back to single blocks.
    pub fn fault_allocate(&self, inode: &Inode, start: FileBlock, want: u64) -> Result<Mapping> {
        self.note(self.fault_inner(inode, start, want))
    }

    /// Whether a run can back a 2 MiB page.
    fn is_aligned(&self, block: Block) -> bool {
        let physical = self.media().phase().wrapping_add(block.address());
        physical % (SLOT_BLOCKS * BLOCK_SIZE) == 0
    }

    fn fault_inner(&self, inode: &Inode, start: FileBlock, want: u64) -> Result<Mapping> {
        check_range(inode, start, want)?;
        if want != 1 && (want != SLOT_BLOCKS || start.0 % SLOT_BLOCKS != 0) {
            return Err(Error::Invalid);
        }
        let fits = |mapping: &Mapping, block: Block| {
            want == 1 || (mapping.len == want && self.is_aligned(block))
        };
        let core = inode.read();
        let place = extent::seek(self.volume(), &core.record, start)?;
        let (found, previous) = extent::find_at(self.volume(), &core.record, &place, start, want)?;
        let version = core.version;
        drop(core);
        // Lost blocks that hold nothing yet are replaced; 2 MiB pages are not worth it.
        let lost = match (self.condition(&found)?, found.state) {
            (Condition::Intact(len), _) if len == found.len || want == 1 => false,
            (Condition::Lost(_), MappingState::Written(_)) if want == 1 => {
                return Err(Error::Poisoned)
            }
            (Condition::Lost(_), _) if want == 1 => true,
            _ => return Err(Error::Again),
        };
        if let MappingState::Written(block) = found.state {
            return if fits(&found, block) {
                Ok(found)
            } else {
                Err(Error::Again)
            };
        }
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let purpose = match found.state {
            MappingState::Hole => Purpose::Data,
            _ => Purpose::Conversion,
        };
        let written = |block: Block| Mapping {
            start,
            len: want,
            state: MappingState::Written(block),
        };
        let done = self.change_core(inode, purpose, |tx, core| {
            let mut place = Some(place);
            let (now, previous) = if core.version == version {
                (found, previous)
            } else {
                place = None;
                extent::find(tx, &core.record, start, want)?
            };
            let record = core.draft();
            if now.state != found.state || (want > 1 && now.len != want) {
                return match now.state {
                    MappingState::Written(block) if want == 1 => Ok(written(block)),
                    _ => Err(Error::Again),
                };
            }
            match now.state {
                MappingState::Written(block) => Ok(written(block)),
                MappingState::Unwritten(block) if !lost => {
                    if !fits(&now, block) {
                        return Err(Error::Again);
                    }
                    self.media()
                        .zero_through(block.address(), want * BLOCK_SIZE);
                    tx.publishes_data();
                    edit::convert(tx, record, start, start.plus(want))?;
                    Ok(written(block))
                }
                MappingState::Unwritten(_) | MappingState::Hole => {
                    let request = AllocRequest {
                        min: want,
                        ..self.request(inode, goal(previous, start), start, want)
                    };
                    let (run, window) = match tx.allocate(&request) {
                        Err(Error::NoSpace) if want > 1 => return Err(Error::Again),
                        other => other?,
                    };
                    self.keep_window(inode, request.window, window);
                    let block = run.start;
                    if want > 1 && !self.is_aligned(block) {
                        return Err(Error::Again);
                    }
                    self.media()
                        .zero_through(block.address(), want * BLOCK_SIZE);
                    tx.publishes_data();
                    if lost {
                        place = None;
                        edit::remove(tx, record, start, start.plus(want), usize::MAX)?;
                    }
                    let extent = Extent {
                        file_block: start,
                        len: want,
                        block,
                        unwritten: false,
                    };
                    edit::insert_at(tx, record, &extent, place)?;
                    Ok(written(block))
                }
            }
        });
        match (done, found.state) {
            (Err(Error::NoSpace), MappingState::Unwritten(block)) if !lost => self
                .convert_widely(inode, start..start.plus(want), true, None, |_| Ok(()))
                .map(|()| written(block)),
            (done, _) => done,
        }
    }

    /// What to ask the allocator for: 1 to `len` blocks for file blocks from `start` on.
    pub(super) fn request(
        &self,
        inode: &Inode,
        goal: Option<Block>,
        start: FileBlock,
        len: u64,
    ) -> AllocRequest {
        AllocRequest {
            owner: inode.ino(),
            ag: inode.ino().ag(),
            goal,
            file_block: start,
            min: 1,
            max: len.min(MAX_LEN),
            window: inode.window(),
            purpose: Purpose::Data,
        }
    }

    /// Reserves blocks in memory.
    pub(super) fn reserve_run(
        &self,
        inode: &Inode,
        goal: Option<Block>,
        start: FileBlock,
        len: u64,
    ) -> Result<Run> {
        let request = self.request(inode, goal, start, len);
        let reservation = self.volume().reserve(&request)?;
        self.keep_window(inode, request.window, reservation.window());
        Ok(reservation.detach())
    }

    /// The slot that an allocation has chosen, which began with the one in `before`. A write and a fault may both choose one: that
    /// of the first is given back then.
    fn keep_window(&self, inode: &Inode, before: Window, new: Window) {
        let other = inode.replace_window(new);
        if other.slot != before.slot && other.slot != new.slot {
            self.volume().release_window(other, inode.ino());
        }
    }

    /// Gives reserved blocks back.
    pub(super) fn release_run(&self, run: Run) {
        if run.len > 0 {
            self.volume().release(run);
        }
    }
}
