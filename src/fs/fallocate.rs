// SPDX-License-Identifier: GPL-2.0

//! `fallocate`: blocks for a range, and away from a range.
//!
//! What: preallocation gives holes unwritten blocks (they read as zeros and never fail with
//! `ENOSPC` later); punching a hole takes whole blocks away and zeroes the ragged edges. So it does with
//! the part of a 2 MiB page that somebody holds: the page can neither go nor be split, and zeros are what
//! readers are promised; the blocks stay the file's.
//!
//! Hazard: a hole is punched in the middle of a file, where no size fences faults off. A fault
//! that looked the block up just before would map it after it was freed. So faults are locked out
//! from before the pages are unmapped until after the blocks are gone.

use super::dax::BLOCK;
use super::{defer, engine, errno, inner, layout, with_space, Ochre};
use crate::engine::filesystem::Times;
use crate::engine::types::FileBlock;
use crate::testing::{self, Point};
use crate::vfs::file_data::Allocation;
use crate::vfs::mapping::PageRange;
use crate::vfs::rwsem::Exclusive;
use kernel::prelude::*;

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
    }
}

fn preallocate(file: &mut Exclusive<'_, Ochre>, offset: u64, end: u64, keep_size: bool) -> Result {
    if keep_size {
        defer::make_room_for_promise(file, end)?;
    } else {
        defer::make_room(file, end, false)?;
    }
    let inode = file.inode();
    let (engine, node) = (engine(inode), inner(inode));
    let old = inode.size();
    let new_size = (!keep_size && end > old).then_some(end);
    let mut times = Times::default();
    if new_size.is_some() {
        file.check_new_size(end)?;
        times = layout::now(file);
    }
    let first = offset / BLOCK;
    let blocks = end.div_ceil(BLOCK) - first;
    with_space(inode.super_block(), || {
        engine.preallocate(node, FileBlock(first), blocks, new_size, &times)
    })?;
    if let Some(size) = new_size {
        file.set_size(size);
    }
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
    let (engine, node) = (engine(inode), inner(inode));
    let zero = |from: u64, to: u64| {
        if from < to {
            engine
                .zero_range_bytes(node, from, to - from)
                .map_err(errno)
        } else {
            Ok(())
        }
    };
    if first > last {
        // Within one block.
        return zero(offset, end);
    }
    // With the parts of held 2 MiB pages.
    zero(offset, whole.first * BLOCK)?;
    zero(whole.end * BLOCK, end)?;
    if !whole.is_empty() {
        let (first, last) = (FileBlock(whole.first), FileBlock(whole.end));
        engine
            .punch(node, first, last, &Times::default())
            .map_err(errno)?;
        testing::pause(Point::BlocksFreed);
    }
    drop(faults);
    Ok(())
}
