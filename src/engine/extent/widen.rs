// SPDX-License-Identifier: GPL-2.0

//! Conversion of unwritten blocks when there is no block for the extent tree.
//!
//! What: a write into the middle of an unwritten extent makes three of it, and a leaf that is full has to be split for that.
//! When even the blocks that are set aside for this are short, the conversion goes another way: it converts *more* than it was
//! asked to. An unwritten extent beside a written one that it continues is zeroed and becomes a part of it, so the leaf gets
//! room instead of needing some. The smallest of them go first.
//!
//! Why it always finds one: what stands in the way is the extent that is being split, and the rest of it continues the blocks
//! that are being converted. In the worst case all of it is zeroed; then the leaf holds as many extents as before. Usually a
//! leaf becomes full by many such splits, and its smallest remainders are single blocks.
//!
//! Why not a reserve: to split every second block of a preallocated gigabyte takes about 2000 blocks of tree. They would have
//! to be set aside with each preallocation, in the file, durably, since a mount counts nothing; nearly all of them for nothing.
//!
//! # Hazard
//!
//! A neighbour may be where a write copies its bytes just now: zeroing it would destroy them. Such blocks are left alone, and
//! where no others will do the caller waits (`Again`).
//!
//! A neighbour may be mapped as a page of zeros by somebody who reads. That page stays right until the block is written by
//! `write`, which no longer sees that it was never written: hence [`Inode::widened`](crate::engine::inode::Inode::widened).

use super::edit::{cut, joins};
use super::{rewrite, seek, Cursor};
use crate::engine::error::{Error, Result};
use crate::engine::format::extent::Extent;
use crate::engine::format::inode::InodeRecord;
use crate::engine::media::Media;
use crate::engine::poison::Condition;
use crate::engine::transaction::Transaction;
use crate::engine::types::{FileBlock, Run, BLOCK_SIZE};
use crate::platform::{yield_now, Vec};
use core::ops::Range;

/// Blocks that are zeroed at a time.
const STEP: u64 = 4096;

/// Makes the blocks of `range`, which lie in unwritten extents of one leaf, written without changing the shape of the tree, and
/// with them as many others as that takes, which are zeroed. None of `busy` is among those. Returns a range with all that is
/// written now; the caller commits with `publishes_data`.
pub fn convert<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    range: Range<FileBlock>,
    busy: &Range<FileBlock>,
) -> Result<Range<FileBlock>> {
    let cursor = seek(tx, record, range.start)?;
    let mut list = pieces(tx, record, &cursor, &range)?;
    let mut written = range;
    while merged(&list) > cursor.capacity() {
        let chosen = cheapest(&list, busy).ok_or(Error::Again)?;
        let Some(extent) = list.get_mut(chosen) else {
            return Err(Error::Invalid);
        };
        zero(tx, extent)?;
        extent.unwritten = false;
        written.start = written.start.min(extent.file_block);
        written.end = written.end.max(extent.file_end());
    }
    let mut whole: Vec<Extent> = Vec::with_capacity(cursor.capacity())?;
    for extent in list.iter() {
        match whole.last_mut() {
            Some(last) if joins(last, extent) => last.len += extent.len,
            _ => whole.push(*extent)?,
        }
    }
    rewrite(tx, record, &cursor, &whole)?;
    Ok(written)
}

/// The extents of the leaf, with `range` cut out of its extents and written.
fn pieces<M: Media>(
    tx: &Transaction<'_, M>,
    record: &InodeRecord,
    cursor: &Cursor,
    range: &Range<FileBlock>,
) -> Result<Vec<Extent>> {
    let mut list = Vec::with_capacity(cursor.count + 4)?;
    let mut covered = 0;
    for index in 0..cursor.count {
        let extent = cursor.get(tx, record, index)?;
        let mut middle = cut(&extent, range.start.0, range.end.0);
        covered += middle.len;
        middle.unwritten = false;
        for piece in [
            cut(&extent, 0, range.start.0),
            middle,
            cut(&extent, range.end.0, u64::MAX),
        ] {
            if piece.len > 0 {
                list.push(piece)?;
            }
        }
    }
    // Somebody has taken blocks of the range away.
    if covered != range.end.0.saturating_sub(range.start.0) {
        return Err(Error::Again);
    }
    Ok(list)
}

/// How many extents they are once those that join are one.
fn merged(list: &[Extent]) -> usize {
    let mut count = list.len();
    let mut last: Option<Extent> = None;
    for extent in list {
        match &mut last {
            Some(last) if joins(last, extent) => {
                last.len += extent.len;
                count -= 1;
            }
            _ => last = Some(*extent),
        }
    }
    count
}

/// The smallest unwritten extent that continues a written one, or is continued by one, and is not busy.
fn cheapest(list: &[Extent], busy: &Range<FileBlock>) -> Option<usize> {
    let mut best: Option<(usize, u64)> = None;
    for (index, extent) in list.iter().enumerate() {
        let is_busy = extent.file_block < busy.end && busy.start < extent.file_end();
        if !extent.unwritten || is_busy || best.is_some_and(|(_, len)| len <= extent.len) {
            continue;
        }
        let mut written = *extent;
        written.unwritten = false;
        let before = index.checked_sub(1).and_then(|i| list.get(i));
        if before.is_some_and(|before| joins(before, &written))
            || list
                .get(index + 1)
                .is_some_and(|next| joins(&written, next))
        {
            best = Some((index, extent.len));
        }
    }
    best.map(|(index, _)| index)
}

/// Zeroes an extent; durable when the transaction is.
fn zero<M: Media>(tx: &Transaction<'_, M>, extent: &Extent) -> Result {
    let mut done = 0;
    while done < extent.len {
        let start = extent.block.plus(done);
        let len = STEP.min(extent.len - done);
        done += match tx.volume().condition(Run { start, len })? {
            Condition::Intact(blocks) => {
                let media = tx.volume().media();
                media.zero_through(start.address(), blocks * BLOCK_SIZE);
                blocks
            }
            // It cannot be read either way.
            Condition::Lost(blocks) => blocks,
        };
        yield_now();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::engine::types::Block;
    use std::vec::Vec;

    fn extent(file_block: u64, len: u64, unwritten: bool) -> Extent {
        Extent {
            file_block: FileBlock(file_block),
            len,
            block: Block(1000 + file_block),
            unwritten,
        }
    }

    const IDLE: Range<FileBlock> = FileBlock(0)..FileBlock(0);

    #[test]
    fn the_smallest_neighbour_goes_first() {
        let list = [
            extent(0, 1, false),
            extent(1, 7, true),
            extent(8, 1, false),
            extent(9, 3, true),
            extent(12, 1, false),
            extent(20, 1, true), // continues nothing
        ];
        assert_eq!(cheapest(&list, &IDLE), Some(3));
        assert_eq!(cheapest(&list, &(FileBlock(11)..FileBlock(12))), Some(1));
        assert_eq!(cheapest(&list, &(FileBlock(0)..FileBlock(99))), None);
    }

    #[test]
    fn joined_extents_count_once() {
        let list: Vec<_> = (0..5).map(|n| extent(n * 2, 2, n == 2)).collect();
        assert_eq!(merged(&list), 3);
        assert_eq!(merged(&[]), 0);
    }
}
