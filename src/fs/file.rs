// SPDX-License-Identifier: GPL-2.0

//! Reading and writing regular files.
//!
//! What: the [`FileData`] of Ochre. A read copies from the medium. A write copies to the medium:
//! into the file's own blocks where it has them, and into blocks that are not yet the file's where
//! it has a hole or preallocated blocks. The latter are published by one transaction after their
//! bytes are there: bitmap, extent and size at once.
//!
//! Why in this order: ext4 and XFS zero new blocks, publish them, and copy then, so that everything
//! is written twice. Here a crash before the transaction leaves nothing behind, and after it the
//! bytes are complete.
//!
//! Hazard: what the write does not cover of its first and last block is zeroed before they are
//! published; a deleted file's bytes would show there else. And the bytes between the old end of
//! the file and the end of its block are zeroed before the file grows over them: a process may
//! have stored something there through a mapping.

use super::dax::{self, ReadExtents, ReportExtents, SeekExtents, WriteExtents, BLOCK};
use super::inflight::InFlight;
use super::{defer, engine, failed, fallocate, inner, layout, poison, Ochre};
use crate::engine::filesystem::{PublishArgs, Times, WriteKind};
use crate::engine::media::Media;
use crate::engine::Error as EngineError;
use crate::testing::{self, Failure, Point, Protection};
use crate::vfs::dax::{Fault, FaultResult};
use crate::vfs::dax_device::DaxDevice;
use crate::vfs::file_data::{Allocation, FileData};
use crate::vfs::mapping::PageRange;
use crate::vfs::rwsem::{Exclusive, Shared};
use crate::vfs::transfer::Transfer;
use crate::vfs::INode;
use core::sync::atomic::AtomicBool;
use kernel::prelude::*;

pub(super) use super::layout::set_size;

/// How much of the user's buffer is faulted in at a time.
const FAULT_IN: u64 = 1 << 20;

/// What the data path keeps for an inode.
pub(crate) struct Data {
    /// Ranges that are getting their blocks.
    pub(super) in_flight: InFlight,
    /// Blocks beyond the end wait to be given back: see [`defer`].
    pub(super) pending: AtomicBool,
}

impl Data {
    /// For an inode that nobody uses yet. `pending`: a truncate of it is not finished.
    pub(crate) const fn new(pending: bool) -> Self {
        Self {
            in_flight: InFlight::new(),
            pending: AtomicBool::new(pending),
        }
    }
}

impl FileData for Ochre {
    type Seek = SeekExtents;
    type Report = ReportExtents;

    fn device(inode: &INode<Self>) -> &DaxDevice {
        dax::device(inode)
    }

    fn read(transfer: &mut Transfer<'_, Self>) -> Result<u64> {
        if transfer.remaining() == 0 {
            return Ok(0);
        }
        let inode = transfer.inode();
        let lock = if transfer.is_nowait() {
            Shared::try_lock(inode).ok_or(EAGAIN)?
        } else {
            Shared::lock(inode)
        };
        if transfer.position() >= inode.size() {
            // Whatever is there, or cannot be.
            drop(lock);
            transfer.accessed();
            return Ok(0);
        }
        let pass = transfer.read::<ReadExtents>(&lock);
        drop(lock);
        transfer.accessed();
        match pass.error {
            Some(error) => Err(error),
            None => Ok(pass.done),
        }
    }

    fn write(transfer: &mut Transfer<'_, Self>) -> Result<u64> {
        let inode = transfer.inode();
        let mut lock = if transfer.is_nowait() {
            Exclusive::try_lock(inode).ok_or(EAGAIN)?
        } else {
            Exclusive::lock(inode)
        };
        loop {
            if transfer.write_checks(&lock)? == 0 {
                return Ok(0);
            }
            let (start, nowait) = (transfer.position(), transfer.is_nowait());
            let end = start.saturating_add(transfer.remaining());
            if !defer::make_room(&mut lock, end, nowait)?
                && !poison::clear_way(&mut lock, start, end, nowait)?
            {
                break;
            }
        }
        transfer.modified(&lock)?;
        if !poison::is_clean(inode) {
            // A lost block is replaced as a whole, so that its bytes had better be there.
            transfer.fault_in(transfer.remaining().min(FAULT_IN));
        }
        let start = transfer.position();
        let old_size = inode.size();
        if start > old_size {
            engine(inode)
                .lay_bare(inner(inode), old_size, start)
                .map_err(|error| failed(inode.super_block(), error))?;
        }
        let result = copy(transfer, &lock);
        let end = finish(transfer, &lock, start);
        // Whatever came of it, bytes have been stored.
        unmap_widened(&lock);
        let end = end?;
        match result {
            // What was written counts; the error comes with the next call.
            _ if end > start => Ok(end - start),
            Err(error) => Err(error),
            Ok(()) => Ok(0),
        }
    }

    fn fault(fault: Fault<'_, Self>) -> FaultResult {
        dax::fault(fault)
    }

    fn check_allocation(
        file: &Exclusive<'_, Self>,
        what: Allocation,
        offset: u64,
        len: u64,
    ) -> Result {
        fallocate::check(file, what, offset, len)
    }

    fn allocate(file: &mut Exclusive<'_, Self>, what: Allocation, offset: u64, len: u64) -> Result {
        fallocate::allocate(file, what, offset, len)
    }

    fn last_close(inode: &INode<Self>) {
        // Pages that are held are dealt with when the inode leaves the cache; until then nobody waits for them.
        let _ = layout::drop_entries(inode, &mut defer::Seen::new());
    }

    fn sync_data(inode: &INode<Self>) -> Result {
        let media = engine(inode).media();
        media.fence();
        media
            .sync_device()
            .map_err(|error| failed(inode.super_block(), error))
    }
}

/// How often a buffer may be made present and yet not be there for the copy. Each time somebody else took the page: by a
/// truncate or a punch of the file that it is mapped from, by a write that fills the hole there, or for want of memory. Lost
/// memory in it, which would be present for ever, ends the copy at once; the limit is for what else nobody has thought of.
const ROUNDS: u32 = 256;

/// Copies until the buffers are empty, or cannot be made present.
fn copy(transfer: &mut Transfer<'_, Ochre>, lock: &Exclusive<'_, Ochre>) -> Result {
    let in_flight = &lock.inode().data().data.in_flight;
    in_flight.reset();
    let mut idle = 0;
    let mut settled = false;
    loop {
        let pass = transfer.write::<WriteExtents>(lock);
        if let Some((error, _)) = in_flight.failure() {
            return Err(error);
        }
        if transfer.remaining() == 0 {
            return Ok(());
        }
        match pass.error {
            // There may be blocks whose last holder has just let go.
            Some(ENOSPC) if !settled && !transfer.is_nowait() => {
                settled = true;
                lock.inode().super_block().settle()?;
                continue;
            }
            Some(error) if error != EFAULT => return Err(error),
            _ => {}
        }
        idle = if pass.done == 0 { idle + 1 } else { 0 };
        if idle >= ROUNDS || transfer.met_lost_memory() {
            return Err(EFAULT);
        }
        if transfer.is_nowait() {
            return Err(EAGAIN);
        }
        // Nothing is in flight now; `i_rwsem` is all that is held.
        if !transfer.fault_in(transfer.remaining().min(FAULT_IN)) {
            return Err(EFAULT);
        }
        if lock.is_task_dying() {
            return Err(EINTR);
        }
    }
}

/// Makes the end of a write durable: in blocks of the file's own it has had no transaction yet.
/// Returns the position up to which the bytes count.
fn finish(
    transfer: &mut Transfer<'_, Ochre>,
    lock: &Exclusive<'_, Ochre>,
    start: u64,
) -> Result<u64> {
    let inode = lock.inode();
    let in_flight = &inode.data().data.in_flight;
    if let Some((_, at)) = in_flight.failure() {
        transfer.set_position(at.max(start));
    }
    let end = transfer.position();
    if end > inode.size() {
        let set = match testing::fails(Failure::Finish) {
            true => Err(EngineError::NoMemory),
            false => engine(inode).set_size_only(inner(inode), end, &Times::default()),
        };
        let reached = inode.size();
        match set {
            Ok(()) => lock.set_size(end),
            // What the file has grown by already is there for good.
            Err(_) if reached > start => {
                engine(inode).media().fence();
                transfer.set_position(reached);
                return Ok(reached);
            }
            Err(error) => return Err(failed(inode.super_block(), error)),
        }
    } else if end > start && in_flight.published() != end {
        engine(inode).media().fence();
    }
    Ok(end)
}

/// Where the engine made preallocated blocks written on its way, a page of zeros may be mapped still, which would not show what
/// a write has stored there in place. All such blocks are unmapped, once; faults that looked before are waited for.
fn unmap_widened(lock: &Exclusive<'_, Ochre>) {
    let node = inner(lock.inode());
    if node.widened().is_none() {
        return;
    }
    let faults = lock.inode().mapping().lock_invalidate();
    if let Some(blocks) = node.widened() {
        faults.unmap(PageRange {
            first: blocks.start.0,
            end: blocks.end.0,
        });
    }
    node.forget_widened();
}

/// The end of an extent in flight: of the range from `pos` on, `done` bytes have been stored.
///
/// Order: zero the edges, publish (fences the data, commits), let the new size be seen, drop
/// entries of the zero page. The claim ends after this.
pub(super) fn publish(inode: &INode<Ochre>, pos: u64, done: u64, short: bool) -> Result {
    let in_flight = &inode.data().data.in_flight;
    let reservation = in_flight.take_reservation();
    let engine = engine(inode);
    let failed = |error| failed(inode.super_block(), error);
    if done == 0 {
        let nothing = PublishArgs::default();
        return engine
            .publish(inner(inode), reservation, 0, &nothing)
            .map_err(failed);
    }
    let end = pos + done;
    if short && reservation.kind == WriteKind::Replace && end % BLOCK != 0 && end < inode.size() {
        // The user's buffer ended too early: what is missing of a lost block may not become zeros.
        engine.cancel(reservation);
        return Err(EFAULT);
    }
    let first = reservation.start.0;
    let blocks = end.div_ceil(BLOCK) - first;
    let place = |offset: u64| (reservation.block.0 * BLOCK) + (offset - first * BLOCK);
    let head = pos - first * BLOCK;
    if head > 0 {
        engine
            .media()
            .zero_data(place(first * BLOCK), head)
            .map_err(failed)?;
    }
    let tail = end.next_multiple_of(BLOCK) - end;
    if tail > 0 {
        engine.media().zero_data(place(end), tail).map_err(failed)?;
    }
    let new_size = (end > inode.size()).then_some(end);
    let args = PublishArgs {
        new_size,
        times: Times::default(),
    };
    if testing::fails(Failure::Publish) {
        let _ = engine.publish(inner(inode), reservation, 0, &args);
        return Err(EIO);
    }
    engine
        .publish(inner(inode), reservation, blocks, &args)
        .map_err(failed)?;
    if new_size.is_some() {
        inode.set_size_while_writing(end);
    }
    in_flight.set_published(end);
    if testing::without(Protection::ReleaseLast) {
        in_flight.release_write();
    }
    testing::pause(Point::WritePublished);
    inode.mapping().invalidate_clean(PageRange {
        first,
        end: first + blocks,
    });
    Ok(())
}
