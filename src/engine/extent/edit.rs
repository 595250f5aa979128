// SPDX-License-Identifier: GPL-2.0

//! Changes of a file's extents: insertion with merge, conversion of unwritten blocks, removal.
//!
//! Each works on a draft of the inode record and through a transaction; the caller commits both or drops both. Each looks
//! at one leaf at a time and leaves it in order, so a range over many leaves is a loop and not a special case.
//!
//! # Hazard
//!
//! Punching a hole into the middle of an extent makes two of it, and that can split a full leaf, which takes a block. On a
//! full filesystem the punch would fail for want of the space that it is about to give. The transaction of a removal or of
//! a conversion therefore may take the last blocks of a group, which no other may.

use super::{goes_on, replace, seek, Cursor, SIZE};
use crate::engine::error::{Error, Result};
use crate::engine::format::extent::{DiskExtent, Extent, MAX_LEN};
use crate::engine::format::inode::InodeRecord;
use crate::engine::media::Media;
use crate::engine::transaction::Transaction;
use crate::engine::types::{Block, FileBlock, Run};
use crate::platform::Vec;
use zerocopy::little_endian::U64;
use zerocopy::FromBytes;

/// Words of a record that a step of [`remove`] may take: the frees of a leaf's extents, the leaf's tail, an index node.
const ROOM: usize = 2500;

/// Extents of a leaf that may be moved for a merge.
const NEAR: usize = 8;

/// Whether `b` goes on where `a` ends and one extent can be both: in the file and on the medium, in the same state.
pub(super) fn joins(a: &Extent, b: &Extent) -> bool {
    goes_on(a, b) && a.len.saturating_add(b.len) <= MAX_LEN
}

/// The extents of a few neighbours being edited, in order, merged where they join.
struct Pieces {
    list: [Extent; 4],
    len: usize,
}

impl Pieces {
    fn new() -> Self {
        let none = Extent {
            file_block: FileBlock(0),
            len: 0,
            block: Block::NONE,
            unwritten: false,
        };
        Self {
            list: [none; 4],
            len: 0,
        }
    }

    fn push(&mut self, extent: Extent) -> Result {
        if extent.len == 0 {
            return Ok(());
        }
        if let Some(last) = self.len.checked_sub(1).and_then(|i| self.list.get_mut(i)) {
            if joins(last, &extent) {
                last.len += extent.len;
                return Ok(());
            }
        }
        *self.list.get_mut(self.len).ok_or(Error::Invalid)? = extent;
        self.len += 1;
        Ok(())
    }

    fn list(&self) -> &[Extent] {
        self.list.get(..self.len).unwrap_or(&[])
    }
}

/// The part of `extent` in `from..to`; length 0 when there is none.
pub(super) fn cut(extent: &Extent, from: u64, to: u64) -> Extent {
    let start = extent.file_block.0.clamp(from, to.max(from));
    let end = extent.file_end().0.clamp(start, to.max(start));
    Extent {
        file_block: FileBlock(start),
        len: end - start,
        block: extent.block.plus(start.saturating_sub(extent.file_block.0)),
        unwritten: extent.unwritten,
    }
}

/// Adds the extent's length to the inode's count of blocks.
fn add_blocks(record: &mut InodeRecord, blocks: u64) {
    record.blocks = U64::new(record.blocks.get().saturating_add(blocks));
}

/// Takes blocks off the inode's count.
fn sub_blocks(record: &mut InodeRecord, blocks: u64) {
    record.blocks = U64::new(record.blocks.get().saturating_sub(blocks));
}

/// Inserts `extent` into a hole. `Again`: some of the range is no hole; drop the transaction.
pub fn insert<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    extent: &Extent,
) -> Result {
    insert_at(tx, record, extent, None)
}

/// As [`insert`]; `place` is where [`seek`] led for the extent's first block, in this same record.
pub fn insert_at<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    extent: &Extent,
    mut place: Option<Cursor>,
) -> Result {
    let mut rest = *extent;
    if rest.file_end() > FileBlock::END {
        return Err(Error::FileTooBig);
    }
    while rest.len > 0 {
        let cursor = match place.take() {
            Some(place) => place,
            None => seek(tx, record, rest.file_block)?,
        };
        let part = cut(&rest, rest.file_block.0, cursor.limit);
        if part.len == 0 {
            return Err(Error::corrupt("bounds of an extent leaf", record.ino.get()));
        }
        let (mut from, mut to) = (cursor.index, cursor.index);
        let mut pieces = Pieces::new();
        if let Some(before) = cursor.index.checked_sub(1) {
            let previous = cursor.get(tx, record, before)?;
            if previous.file_end() > part.file_block {
                return Err(Error::Again);
            }
            if joins(&previous, &part) {
                from = before;
                pieces.push(previous)?;
            }
        }
        pieces.push(part)?;
        if cursor.index < cursor.count {
            let next = cursor.get(tx, record, cursor.index)?;
            if part.file_end() > next.file_block {
                return Err(Error::Again);
            }
            // Merging with both sides moves all that follows in the leaf; if that is much, it can wait until the leaf is
            // full. Lookups do not mind.
            let near = cursor.count - cursor.index <= NEAR || from == cursor.index;
            if near && joins(&part, &next) {
                let before = pieces.len;
                pieces.push(next)?;
                if pieces.len == before {
                    to = cursor.index + 1;
                } else {
                    pieces.len = before;
                }
            }
        }
        if replace(tx, record, &cursor, from, to, pieces.list())? {
            add_blocks(record, part.len);
            rest = cut(&rest, part.file_end().0, rest.file_end().0);
        }
    }
    Ok(())
}

/// Makes the unwritten blocks of `[start, end)` written; all of the range belongs to the file, else `Again`.
pub fn convert<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    start: FileBlock,
    end: FileBlock,
) -> Result {
    let mut at = start;
    while at < end {
        let cursor = seek(tx, record, at)?;
        let Some(index) = cursor.index.checked_sub(1) else {
            return Err(Error::Again);
        };
        let extent = cursor.get(tx, record, index)?;
        if at >= extent.file_end() {
            return Err(Error::Again);
        }
        let stop = end.min(extent.file_end());
        if !extent.unwritten || restate(tx, record, &cursor, index, at, stop)? {
            at = stop;
        }
    }
    Ok(())
}

/// Makes the written blocks of `[start, end)` unwritten, so that they read as zeros, as many as a transaction takes. Returns
/// up to where it is done.
pub fn unwrite<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    start: FileBlock,
    end: FileBlock,
) -> Result<FileBlock> {
    let mut at = start;
    while at < end {
        if tx.room() < ROOM {
            return Ok(at);
        }
        let cursor = seek(tx, record, at)?;
        let mut index = cursor.index;
        if let Some(before) = index.checked_sub(1) {
            if cursor.get(tx, record, before)?.file_end() > at {
                index = before;
            }
        }
        if index == cursor.count {
            if cursor.limit <= at.0 {
                return Err(Error::corrupt("bounds of an extent leaf", record.ino.get()));
            }
            at = FileBlock(cursor.limit);
            continue;
        }
        let extent = cursor.get(tx, record, index)?;
        let (from, stop) = (at.max(extent.file_block), end.min(extent.file_end()));
        if from >= end {
            break;
        }
        if extent.unwritten || restate(tx, record, &cursor, index, from, stop)? {
            at = stop;
        }
    }
    Ok(end)
}

/// Turns written blocks into unwritten ones, or the other way: `[at, stop)` of the extent at `index`. False as of [`replace`].
fn restate<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    cursor: &Cursor,
    index: usize,
    at: FileBlock,
    stop: FileBlock,
) -> Result<bool> {
    let extent = cursor.get(tx, record, index)?;
    let mut pieces = Pieces::new();
    let (mut from, mut to) = (index, index + 1);
    let mut middle = cut(&extent, at.0, stop.0);
    middle.unwritten = !extent.unwritten;
    if middle.file_block == extent.file_block {
        if let Some(before) = index.checked_sub(1) {
            let previous = cursor.get(tx, record, before)?;
            if joins(&previous, &middle) {
                from = before;
                pieces.push(previous)?;
            }
        }
    }
    pieces.push(cut(&extent, extent.file_block.0, at.0))?;
    pieces.push(middle)?;
    pieces.push(cut(&extent, stop.0, extent.file_end().0))?;
    if stop == extent.file_end() && to < cursor.count {
        let next = cursor.get(tx, record, to)?;
        if joins(&middle, &next) {
            let before = pieces.len;
            pieces.push(next)?;
            if pieces.len == before {
                to += 1;
            } else {
                pieces.len = before;
            }
        }
    }
    replace(tx, record, cursor, from, to, pieces.list())
}

/// Takes the blocks of `[start, end)` out of the file and frees them, from the end, at most about `budget` extents.
/// Returns where it stopped: `start` when all is done, else the end of what is left to do.
pub fn remove<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    start: FileBlock,
    end: FileBlock,
    budget: usize,
) -> Result<FileBlock> {
    remove_from(tx, record, start, end, budget, Fate::Freed)
}

/// Takes the blocks of `[start, end)` out of the file and leaves them to the caller, who gives them another place in this
/// same transaction.
pub fn take<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    start: FileBlock,
    end: FileBlock,
) -> Result {
    match remove_from(tx, record, start, end, usize::MAX, Fate::Kept)? {
        reached if reached <= start => Ok(()),
        _ => Err(Error::TooLarge),
    }
}

/// What becomes of blocks that leave a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Freed,
    Kept,
}

fn remove_from<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    start: FileBlock,
    end: FileBlock,
    budget: usize,
    fate: Fate,
) -> Result<FileBlock> {
    let mut end = end.min(FileBlock::END).0;
    let start = start.0;
    let mut left = budget;
    let (mut bytes, mut runs) = (Vec::new(), Vec::new());
    while start < end {
        if left == 0 || tx.room() < ROOM {
            return Ok(FileBlock(end));
        }
        let cursor = seek(tx, record, FileBlock(end - 1))?;
        let to = cursor.index;
        // Only one extent is concerned when the last one reaches over the start; the others need not be read then.
        let mut from = to.saturating_sub(1);
        let single = to > 0 && {
            let last = cursor.get(tx, record, from)?;
            last.file_block.0 <= start && last.file_end().0 > start
        };
        if single {
            bytes.clear();
        } else {
            cursor.load(tx, record, to, &mut bytes)?;
            from = overlapping(&bytes, record, start, left)?;
        }
        if from == to {
            // Nothing of this leaf; the one before it ends at this leaf's floor.
            end = cursor.floor.min(end - 1).max(start);
            if cursor.floor == 0 {
                end = start;
            }
            continue;
        }
        let first = cursor.get(tx, record, from)?;
        let last = cursor.get(tx, record, to - 1)?;
        let mut pieces = Pieces::new();
        pieces.push(cut(&first, 0, start))?;
        pieces.push(cut(&last, end, u64::MAX))?;
        // Whoever grows may find the leaf full: then nothing has changed yet but the tree's shape.
        if pieces.len > to - from {
            if replace(tx, record, &cursor, from, to, pieces.list())? {
                let hole = cut(&first, start, end);
                sub_blocks(record, hole.len);
                if fate == Fate::Freed {
                    tx.free_data(&[run_of(&hole)])?;
                }
                end = start;
            }
            continue;
        }
        runs.clear();
        if single {
            runs.push(run_of(&cut(&first, start, end)))?;
        }
        let mut freed = runs.iter().map(|run: &Run| run.len).sum();
        for disk in bytes.chunks_exact(SIZE).skip(from) {
            let mut extent = parse(disk, record)?;
            if extent.file_block.0 < start || extent.file_end().0 > end {
                extent = cut(&extent, start, end);
            }
            freed += extent.len;
            match runs.last_mut() {
                Some(run) if run.end() == extent.block => run.len += extent.len,
                _ => runs.push(run_of(&extent))?,
            }
        }
        sub_blocks(record, freed);
        if fate == Fate::Freed {
            tx.free_data(&runs)?;
        }
        left = left.saturating_sub(to - from);
        let reached = first.file_block.0.max(start);
        replace(tx, record, &cursor, from, to, pieces.list())?;
        end = reached;
    }
    Ok(FileBlock(start))
}

/// An extent from a leaf's bytes, checked for sense.
#[inline]
fn parse(disk: &[u8], record: &InodeRecord) -> Result<Extent> {
    match DiskExtent::read_from_bytes(disk).map(|disk| Extent::from_disk(&disk)) {
        Ok(extent) if extent.len != 0 && extent.block != Block::NONE => Ok(extent),
        _ => Err(Error::corrupt("extent of an inode", record.ino.get())),
    }
}

/// The first of the last `most` of these extents that reach beyond `start`; their number if none does.
fn overlapping(bytes: &[u8], record: &InodeRecord, start: u64, most: usize) -> Result<usize> {
    let count = bytes.len() / SIZE;
    let extent = |index: usize| {
        let at = index * SIZE;
        parse(bytes.get(at..at + SIZE).unwrap_or(&[]), record)
    };
    // The first that starts at or beyond `start`; the one before it may reach over.
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = (low + high) / 2;
        if extent(middle)?.file_block.0 < start {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if let Some(before) = low.checked_sub(1) {
        if extent(before)?.file_end().0 > start {
            low = before;
        }
    }
    Ok(low.max(count.saturating_sub(most)))
}

/// The blocks of an extent.
fn run_of(extent: &Extent) -> Run {
    Run {
        start: extent.block,
        len: extent.len,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(file_block: u64, len: u64, block: u64, unwritten: bool) -> Extent {
        Extent {
            file_block: FileBlock(file_block),
            len,
            block: Block(block),
            unwritten,
        }
    }

    #[test]
    fn a_cut_keeps_file_and_device_in_step() {
        let whole = extent(10, 10, 100, true);
        assert_eq!(cut(&whole, 0, u64::MAX), whole);
        assert_eq!(cut(&whole, 12, 15), extent(12, 3, 102, true));
        assert_eq!(cut(&whole, 0, 12), extent(10, 2, 100, true));
        assert_eq!(cut(&whole, 18, 90), extent(18, 2, 108, true));
        assert_eq!(cut(&whole, 0, 5).len, 0);
        assert_eq!(cut(&whole, 30, 40).len, 0);
    }

    #[test]
    fn pieces_join_only_what_goes_on() {
        let mut pieces = Pieces::new();
        for piece in [
            extent(0, 2, 50, false),
            extent(2, 0, 0, false),
            extent(2, 3, 52, false),
            extent(5, 1, 55, true),
            extent(6, 1, 90, true),
        ] {
            pieces.push(piece).expect("room");
        }
        let expected = [
            extent(0, 5, 50, false),
            extent(5, 1, 55, true),
            extent(6, 1, 90, true),
        ];
        assert_eq!(pieces.list(), expected);
    }

    #[test]
    fn an_extent_never_outgrows_its_field() {
        let a = extent(0, MAX_LEN, 1000, false);
        let b = extent(MAX_LEN, 1, 1000 + MAX_LEN, false);
        assert!(!joins(&a, &b));
        assert!(joins(&cut(&a, 1, MAX_LEN), &b));
    }
}
