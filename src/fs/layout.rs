// SPDX-License-Identifier: GPL-2.0

//! Taking blocks away from a file: never under a page that someone still uses.
//!
//! What: [`break_layout`] unmaps a range, waits until none of its pages is held, and deletes their
//! entries; it returns with faults locked out, so that the caller can free the blocks. [`set_size`]
//! is truncate, up and down.
//!
//! The order, and why: lock out faults (or a page could come back), unmap, look for references (a
//! page under I/O has one, and no mapping), delete the entries, change the file, free. Whoever
//! waits, waits with *both* locks dropped: readers and writers of the file go on, and a fatal
//! signal ends the wait with nothing changed.
//!
//! Hazard: after a wait everything is looked at again. The page was held by a pipe; while we slept
//! the process read the pipe, wrote the page by mmap again, and it is mapped once more; the wake-up
//! may never come, since its count does not fall to zero. Hence the time limit of each sleep.
//!
//! Hazard: a 2 MiB page may cross the edge of the range. It is unmapped, checked and deleted as a
//! whole; its dirty mark goes with it, so the bytes that stay are written back before.

use super::dax::{device, BLOCK};
use super::defer::Truncated;
use super::options::Layout;
use super::{defer, engine, failed, inner, timestamp, Ochre};
use crate::engine::filesystem::Times;
use crate::engine::media::Media;
use crate::engine::types::FileBlock;
use crate::engine::Error as EngineError;
use crate::platform::log;
use crate::testing::{self, Failure, Point, Protection};
use crate::vfs::mapping::{BusyPage, InvalidateExclusive, PageRange, PAGE_SIZE, PMD_PAGES};
use crate::vfs::rwsem::Exclusive;
use crate::vfs::{trace, INode};
use kernel::{prelude::*, time::Instant};

/// How long one sleep for a busy page may be.
pub(super) const WAIT_MILLISECONDS: u32 = 50;

/// What becomes of a page that somebody holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// It is waited for.
    Stays,
    /// It moves out of the way, if it can.
    Moves,
    /// It moves, or stays where it is if it reaches over an edge of the range.
    MovesOrStays,
}

/// Clears `pages` of mappings, references and entries. Faults are locked out while the result
/// lives. `EINTR`: a fatal signal came while a page was busy; nothing has changed.
///
/// `i_rwsem` may be released and taken again in between.
pub(super) fn break_layout<'a>(
    file: &mut Exclusive<'a, Ochre>,
    pages: PageRange,
) -> Result<InvalidateExclusive<'a, Ochre>> {
    clear(file, pages, Held::Stays).map(|(faults, _)| faults)
}

/// The same for a range whose bytes are lost to the file in any case: held pages go out of the way with `layout=defer`, also
/// if it then has to wait for another one, and the signal comes.
pub(super) fn break_layout_of_lost<'a>(
    file: &mut Exclusive<'a, Ochre>,
    pages: PageRange,
) -> Result<InvalidateExclusive<'a, Ochre>> {
    clear(file, pages, Held::Moves).map(|(faults, _)| faults)
}

/// The same, but a 2 MiB page that somebody holds and that reaches over an edge of the range stays
/// where it is: the second result is what could be cleared. The rest, at both ends of the range, the
/// caller may only fill with zeros.
pub(super) fn break_layout_within<'a>(
    file: &mut Exclusive<'a, Ochre>,
    pages: PageRange,
) -> Result<(InvalidateExclusive<'a, Ochre>, PageRange)> {
    let held = match defer::policy(file.inode().super_block()) {
        Layout::Defer => Held::MovesOrStays,
        Layout::Wait => Held::Stays,
    };
    clear(file, pages, held)
}

fn clear<'a>(
    file: &mut Exclusive<'a, Ochre>,
    pages: PageRange,
    held: Held,
) -> Result<(InvalidateExclusive<'a, Ochre>, PageRange)> {
    let inode: &'a INode<Ochre> = file.inode();
    let since = Instant::now();
    loop {
        let faults = inode.mapping().lock_invalidate();
        let mut left = pages;
        let page = loop {
            if left.is_empty() || inode.mapping().is_empty() {
                return Ok((faults, left));
            }
            if testing::without(Protection::OnlyTheRange) {
                if let Some(page) = faults.busy_page(device(inode), PageRange::ALL) {
                    break page;
                }
            }
            let wide = widen(inode, left);
            let found = faults.busy_page(device(inode), wide);
            trace::layout_break(inode, wide, found.is_some());
            let Some(page) = found else {
                keep_edges(inode, left, wide)?;
                faults.delete_entries(wide);
                return Ok((faults, left));
            };
            let (whole, within) = match testing::without(Protection::ParkInside) {
                true => (PageRange::ALL, false),
                false => (left, held == Held::MovesOrStays),
            };
            match without(left, page.pages()).filter(|_| within) {
                Some(less) => left = less,
                None if held != Held::Stays && defer::park(inode, &faults, &page, whole)? => {}
                None => break page,
            }
        };
        drop(faults);
        defer::sleep(file, &page, since)?;
        if testing::without(Protection::LookAfterWait) {
            let faults = inode.mapping().lock_invalidate();
            faults.delete_entries(left);
            return Ok((faults, left));
        }
    }
}

/// `pages` without the end of it that lies in a page of which the rest is outside; `None`: all of that page is inside.
fn without(pages: PageRange, page: PageRange) -> Option<PageRange> {
    let PageRange { first, end } = pages;
    if page.first < first {
        let first = page.end.min(end);
        Some(PageRange { first, end })
    } else if page.end > end {
        let end = page.first.max(first);
        Some(PageRange { first, end })
    } else {
        None
    }
}

/// Drops the entries of a file that nobody has open, those of pages that somebody holds apart; one
/// of these is the result, and `seen` gets them all.
///
/// An inode with entries is no prey for memory reclaim: with many files that were mapped once, all
/// memory would end as inodes. It costs what the faults cost that made the entries, and nothing
/// where there was none. What was stored through a mapping is written back before its dirty mark
/// goes with the entry; a file that has no name and can get none has nothing to keep.
pub(super) fn drop_entries<'a>(
    inode: &'a INode<Ochre>,
    seen: &mut defer::Seen,
) -> Option<BusyPage<'a>> {
    let mapping = inode.mapping();
    if testing::without(Protection::DropIdle) {
        return None;
    }
    if mapping.is_empty() {
        if mapping.has_nodes() {
            // Of faults that lacked memory: they would keep the inode from reclaim as well.
            mapping.lock_invalidate().free_empty_nodes();
        }
        return None;
    }
    let faults = mapping.lock_invalidate();
    if inode.may_have_name() {
        // It may just have been opened again: no store after the write-back.
        faults.unmap(PageRange::ALL);
        if let Err(error) = mapping.write_back(0, u64::MAX) {
            not_written_back(inode, error);
        }
        engine(inode).media().fence();
    }
    let held = faults.delete_idle(device(inode), PageRange::ALL, |pages| seen.add(pages));
    faults.free_empty_nodes();
    held
}

/// Rounds out to 2 MiB where an entry crosses an edge.
pub(super) fn widen(inode: &INode<Ochre>, pages: PageRange) -> PageRange {
    let mapping = inode.mapping();
    let mut wide = pages;
    if testing::without(Protection::RoundOut) {
        return wide;
    }
    if pages.first % PMD_PAGES != 0 && mapping.entry_pages(pages.first) > 1 {
        wide.first -= pages.first % PMD_PAGES;
    }
    if pages.end != u64::MAX && pages.end % PMD_PAGES != 0 && mapping.entry_pages(pages.end) > 1 {
        wide.end = pages.end - pages.end % PMD_PAGES + PMD_PAGES;
    }
    wide
}

/// Makes durable what was stored by mmap to the parts of `wide` that stay.
pub(super) fn keep_edges(inode: &INode<Ochre>, pages: PageRange, wide: PageRange) -> Result {
    if wide == pages || testing::without(Protection::KeepEdges) {
        return Ok(());
    }
    if wide.first < pages.first {
        inode
            .mapping()
            .write_back(wide.first * PAGE_SIZE, pages.first * PAGE_SIZE - 1)?;
    }
    if wide.end > pages.end {
        inode
            .mapping()
            .write_back(pages.end * PAGE_SIZE, wide.end * PAGE_SIZE - 1)?;
    }
    engine(inode).media().fence();
    Ok(())
}

/// Sets the size of a file, and its modification and change time, durably.
///
/// Both ways may have to wait for a page, with no lock held, and whoever ran meanwhile may have
/// left the file on the other side of `size`: each wait is followed by a new look at which way to
/// go. (A shrink taken for growth would free blocks under mapped pages.)
pub(super) fn set_size(file: &mut Exclusive<'_, Ochre>, size: u64) -> Result {
    loop {
        if size > file.inode().size() {
            if defer::make_room(file, size, false)? {
                continue;
            }
            return grow(file, size);
        }
        let faults = match defer::policy(file.inode().super_block()) {
            Layout::Wait => break_layout(file, beyond(size))?,
            Layout::Defer => match defer::truncate(file, size)? {
                Truncated::Done => return Ok(()),
                // In one go: between two looks somebody could take a page, and there would be waited for him.
                Truncated::Idle(faults) => faults,
                Truncated::NoRoom => break_layout(file, beyond(size))?,
            },
        };
        testing::pause(Point::LayoutBroken);
        if size <= file.inode().size() {
            return shrink(file, size, &faults);
        }
    }
}

/// One transaction, unless the file is in very many pieces. Its pages are unmapped and faults are
/// locked out, so that nobody can meet the blocks that it frees before the size is set.
fn shrink(
    file: &Exclusive<'_, Ochre>,
    size: u64,
    faults: &InvalidateExclusive<'_, Ochre>,
) -> Result {
    let inode = file.inode();
    let result = if testing::fails(Failure::Truncate) {
        Err(EngineError::NoMemory)
    } else if testing::fails(Failure::FreeBehind) {
        engine(inode).truncate_size(inner(inode), size, &now(file))
    } else {
        engine(inode).truncate(inner(inode), size, &now(file))
    };
    testing::pause(Point::BlocksFreed);
    if result.is_ok() || inner(inode).attributes().size == size {
        file.set_size(size);
        faults.unmap_past(size);
        defer::left_behind(inode);
    } else {
        keep(inode, faults, beyond(size));
    }
    result.map_err(|error| failed(inode.super_block(), error))
}

/// After a call that has failed with the entries of `pages` gone: what was stored through them, and stays in the file, is made
/// durable. The entries' dirty marks went with them, so that no later `fsync` would do it. Faults are locked out since.
pub(super) fn keep(
    inode: &INode<Ochre>,
    faults: &InvalidateExclusive<'_, Ochre>,
    pages: PageRange,
) {
    if !faults.has_deleted() {
        return;
    }
    let (from, to) = (FileBlock(pages.first), FileBlock(pages.end));
    let to = to.min(FileBlock::after(inode.size()));
    if let Err(error) = engine(inode).write_back(inner(inode), from, to) {
        not_written_back(inode, failed(inode.super_block(), error));
    }
    testing::pause(Point::WrittenBack);
}

fn not_written_back(inode: &INode<Ochre>, error: Error) {
    log::warn(format_args!(
        "{}: inode {}: {error:?} while its pages were written back",
        inode.super_block().id(),
        inode.ino()
    ));
}

/// Pages from the first that is beyond `size` entirely.
pub(super) fn beyond(size: u64) -> PageRange {
    PageRange {
        first: size.div_ceil(BLOCK),
        end: u64::MAX,
    }
}

/// The new part is a hole; the engine zeroes the rest of the block that was the last.
fn grow(file: &Exclusive<'_, Ochre>, size: u64) -> Result {
    let inode = file.inode();
    engine(inode)
        .truncate(inner(inode), size, &now(file))
        .map_err(|error| failed(inode.super_block(), error))?;
    file.set_size(size);
    Ok(())
}

/// Moves the modification and change time forward, and gives them for the medium.
pub(super) fn now(file: &Exclusive<'_, Ochre>) -> Times {
    let now = file.locked().set_ctime_current();
    file.locked().set_mctime(now);
    Times {
        atime: None,
        mtime: Some(timestamp(now)),
        ctime: Some(timestamp(now)),
    }
}
