// SPDX-License-Identifier: GPL-2.0

//! `fallocate`: blocks for a range, and away from a range.
//!
//! What: preallocation gives holes unwritten blocks (they read as zeros and never fail with
//! `ENOSPC` later); punching a hole takes whole blocks away and zeroes the ragged edges. So it does with
//! the part of a 2 MiB page that somebody holds: the page can neither go nor be split, and zeros are what
//! readers are promised; the blocks stay the file's.
//! Zeroing a range makes whole blocks unwritten. What moves a part of a file is in [`shift`].
//!
//! Hazard: a hole is punched in the middle of a file, where no size fences faults off. A fault
//! that looked the block up just before would map it after it was freed. So faults are locked out
//! from before the pages are unmapped until after the blocks are gone.

use super::dax::{device, BLOCK};
use super::{defer, engine, failed, inner, layout, shift, with_space, Ochre};
use crate::engine::filesystem::Times;
use crate::engine::types::FileBlock;
use crate::testing::{self, Failure, Point};
use crate::vfs::file_data::Allocation;
use crate::vfs::mapping::PageRange;
use crate::vfs::rwsem::Exclusive;
use crate::vfs::{trace, INode};
use kernel::prelude::*;

/// Whether a request makes sense.
pub(super) fn check(
    file: &Exclusive<'_, Ochre>,
    what: Allocation,
    offset: u64,
    len: u64,
) -> Result {
    match what {
        Allocation::CollapseRange => shift::check_collapse(file, offset, len),
        Allocation::InsertRange => shift::check_insert(file, offset, len).map(|_| ()),
        _ => Ok(()),
    }
}

/// Carries out an allocation request. The times are up to date already.
pub(super) fn allocate(
    file: &mut Exclusive<'_, Ochre>,
    what: Allocation,
    offset: u64,
    len: u64,
) -> Result {
    let end = offset.checked_add(len).ok_or(EFBIG)?;
    match what {
        Allocation::Preallocate { keep_size } => preallocate(file, offset, end, keep_size),
        Allocation::PunchHole => punch(file, offset, end),
        Allocation::ZeroRange { keep_size } => zero(file, offset, end, keep_size),
        Allocation::CollapseRange => shift::collapse(file, offset, len),
        Allocation::InsertRange => shift::insert(file, offset, len),
    }
}

fn preallocate(file: &mut Exclusive<'_, Ochre>, offset: u64, end: u64, keep_size: bool) -> Result {
    if keep_size {
        defer::make_room_for_promise(file, end)?;
    } else {
        defer::make_room(file, end, false)?;
    }
    let inode = file.inode();
    let old = inode.size();
    let new_size = (!keep_size && end > old).then_some(end);
    let mut times = Times::default();
    if new_size.is_some() {
        file.check_new_size(end)?;
        times = layout::now(file);
    }
    fill(inode, offset, end, new_size, &times)?;
    if let Some(size) = new_size {
        file.set_size(size);
    }
    Ok(())
}

/// Gives holes unwritten blocks.
fn fill(
    inode: &INode<Ochre>,
    offset: u64,
    end: u64,
    new_size: Option<u64>,
    times: &Times,
) -> Result {
    let first = offset / BLOCK;
    let blocks = end.div_ceil(BLOCK) - first;
    with_space(inode.super_block(), || {
        engine(inode).preallocate(inner(inode), FileBlock(first), blocks, new_size, times)
    })
}

/// Lets a range read as zeros: unwritten blocks for holes, whole blocks become unwritten, the rest is
/// zeroed in place. The size is set last, with the last transaction.
///
/// A page that somebody holds is zeroed in place as well: its block stays the file's, so there is
/// nothing to wait for, and what a device stores there afterwards is the file's, as it would be
/// after a `write`.
fn zero(file: &mut Exclusive<'_, Ochre>, offset: u64, end: u64, keep_size: bool) -> Result {
    if keep_size {
        defer::make_room_for_promise(file, end)?;
    } else {
        defer::make_room(file, end, false)?;
    }
    let inode = file.inode();
    let new_size = (!keep_size && end > inode.size()).then_some(end);
    let mut times = Times::default();
    if new_size.is_some() {
        file.check_new_size(end)?;
        times = layout::now(file);
    }
    match fill(inode, offset, end, None, &Times::default()) {
        // Behind the end lie blocks that are pending: new ones have to be within the file at once.
        Err(EAGAIN) if new_size.is_some() => {
            fill(inode, offset, end, new_size, &times)?;
            file.set_size(end);
        }
        other => other?,
    }
    let in_place = |from: u64, to: u64| zero_bytes(inode, from, to);
    let (first, last) = (offset.div_ceil(BLOCK), end / BLOCK);
    let faults = inode.mapping().lock_invalidate();
    if first > last {
        in_place(offset, end)?;
    } else {
        in_place(offset, first * BLOCK)?;
        in_place(last * BLOCK, end)?;
    }
    let whole = PageRange {
        first,
        end: last.max(first),
    };
    let wide = layout::widen(inode, whole);
    let unwrite = |from: u64, to: u64, size: Option<u64>, times: &Times| {
        if testing::fails(Failure::Unwrite) {
            return Err(EIO);
        }
        engine(inode)
            .zero_range(inner(inode), FileBlock(from), FileBlock(to), size, times)
            .map_err(|error| failed(inode.super_block(), error))
    };
    let mut at = first;
    let mut result = Ok(());
    if !whole.is_empty() {
        faults.unmap(wide);
        layout::keep_edges(inode, whole, wide)?;
        let held = faults.delete_idle(device(inode), wide, |held| {
            let (from, to) = (held.first.max(at), held.end.min(whole.end));
            if result.is_ok() && at < from.min(whole.end) {
                result = unwrite(at, from.min(whole.end), None, &Times::default());
            }
            if result.is_ok() {
                result = in_place(from * BLOCK, to * BLOCK);
            }
            at = at.max(to);
        });
        trace::layout_break(inode, wide, held.is_some());
    }
    testing::pause(Point::LayoutBroken);
    if result.is_ok() && (at < whole.end || new_size.is_some()) {
        result = unwrite(at, whole.end, new_size, &times);
    }
    if result.is_err() {
        layout::keep(inode, &faults, whole);
    }
    result?;
    if let Some(size) = new_size {
        file.set_size(size);
    }
    drop(faults);
    Ok(())
}

fn punch(file: &mut Exclusive<'_, Ochre>, offset: u64, end: u64) -> Result {
    // What a truncate left behind the end is on its way back already.
    let end = defer::limit(file.inode(), end);
    if offset >= end {
        return Ok(());
    }
    let first = offset.div_ceil(BLOCK);
    let last = end / BLOCK;
    let (faults, whole) = layout::break_layout_within(file, PageRange { first, end: last })?;
    testing::pause(Point::LayoutBroken);
    let inode = file.inode();
    if first > last {
        // Within one block.
        return zero_bytes(inode, offset, end);
    }
    // With the parts of held 2 MiB pages.
    let result = zero_bytes(inode, offset, whole.first * BLOCK)
        .and_then(|()| zero_bytes(inode, whole.end * BLOCK, end))
        .and_then(|()| free(inode, whole));
    if result.is_err() {
        layout::keep(inode, &faults, whole);
    }
    testing::pause(Point::BlocksFreed);
    drop(faults);
    result
}

/// Frees blocks whose pages are unmapped and idle.
fn free(inode: &INode<Ochre>, pages: PageRange) -> Result {
    if pages.is_empty() {
        return Ok(());
    }
    if testing::fails(Failure::Punch) {
        return Err(ENOMEM);
    }
    let (first, end) = (FileBlock(pages.first), FileBlock(pages.end));
    engine(inode)
        .punch(inner(inode), first, end, &Times::default())
        .map_err(|error| failed(inode.super_block(), error))
}

/// Zeroes `[from, to)` where it is in written blocks.
fn zero_bytes(inode: &INode<Ochre>, from: u64, to: u64) -> Result {
    if from >= to {
        return Ok(());
    }
    engine(inode)
        .zero_range_bytes(inner(inode), from, to - from)
        .map_err(|error| failed(inode.super_block(), error))
}
