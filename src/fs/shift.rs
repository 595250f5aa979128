// SPDX-License-Identifier: GPL-2.0

//! Collapse and insert: what lies behind a place of a file gets another offset.
//!
//! What: the blocks stay where they are on the medium, and their pages with them; it is their index
//! in the file that changes, and with it that of every mapping entry from the place on. So all of
//! that is unmapped, written back and deleted, private copies too, while faults are locked out.
//!
//! A page that somebody holds cannot change its index, since its entry cannot go. If it would move,
//! the call waits, killably and with no lock held: readers and writers of the file go on, and after
//! each sleep everything is looked at again, the arguments too, since the file may have any size. If
//! it lies in what a collapse takes out, nobody waits (`layout=defer`): entries and blocks of all
//! that is taken out move behind the end of the file, where they are pending like what a truncate
//! leaves ([`defer`]), in the one transaction that closes the gap. A held page before the place
//! concerns nobody.
//!
//! Hazard: what is pending behind the end of the file is not the file's. It keeps its index.
//!
//! Hazard: an entry that goes takes its dirty mark along, for bytes that stay. They are written back
//! first, after the pages were unmapped, so that none is stored in between.

use super::dax::{device, BLOCK};
use super::options::Layout;
use super::{defer, engine, failed, inner, layout, Ochre};
use crate::engine::filesystem::Times;
use crate::engine::media::Media;
use crate::engine::types::{FileBlock, MAX_FILE_SIZE};
use crate::engine::Error as EngineError;
use crate::testing::{self, Point, Protection};
use crate::vfs::mapping::{BusyPage, InvalidateExclusive, Move, PageRange, PAGE_SIZE};
use crate::vfs::rwsem::Exclusive;
use crate::vfs::{trace, INode};
use kernel::{prelude::*, time::Instant};

/// Held pages that a collapse takes out of the way; of more it waits for one.
const MOST_HELD: usize = 64;

/// Whole blocks that end before the end of the file.
pub(super) fn check_collapse(file: &Exclusive<'_, Ochre>, offset: u64, len: u64) -> Result {
    let end = offset.checked_add(len).ok_or(EFBIG)?;
    if offset % BLOCK != 0 || len % BLOCK != 0 || end >= file.inode().size() {
        return Err(EINVAL);
    }
    Ok(())
}

/// Whole blocks, at a place before the end of the file, which does not become too large: the new
/// size.
pub(super) fn check_insert(file: &Exclusive<'_, Ochre>, offset: u64, len: u64) -> Result<u64> {
    let size = file.inode().size();
    if offset % BLOCK != 0 || len % BLOCK != 0 {
        return Err(EINVAL);
    }
    let new_size = size.checked_add(len).ok_or(EFBIG)?;
    if new_size > MAX_FILE_SIZE {
        return Err(EFBIG);
    }
    if offset >= size {
        return Err(EINVAL);
    }
    file.check_new_size(new_size)?;
    Ok(new_size)
}

/// Takes `[offset, offset + len)` out of the file.
pub(super) fn collapse(file: &mut Exclusive<'_, Ochre>, offset: u64, len: u64) -> Result {
    let gap = PageRange {
        first: offset / BLOCK,
        end: (offset + len) / BLOCK,
    };
    let mut settled = false;
    loop {
        let (faults, held) = clear(file, gap, |file| check_collapse(file, offset, len))?;
        testing::pause(Point::LayoutBroken);
        let inode = file.inode();
        let result = match held.is_empty() {
            true => take_out(inode, gap, None),
            false => match collapse_held(inode, &faults, gap, &held)? {
                Some(size) => Ok(size),
                None => {
                    // A lock that is held just now, or no place: as for a page that moves.
                    drop(faults);
                    if let Some(page) = held.first() {
                        defer::sleep(file, page, Instant::now())?;
                    }
                    continue;
                }
            },
        };
        match result {
            Err(EngineError::NoSpace) if !settled => {
                // There may be blocks whose last holder has just let go.
                settled = true;
                drop(faults);
                inode.super_block().settle()?;
            }
            Err(error) => return Err(failed(inode.super_block(), error)),
            Ok(size) => {
                moved(file, &faults, size, offset);
                return Ok(());
            }
        }
    }
}

/// Opens a hole of `len` bytes at `offset`.
pub(super) fn insert(file: &mut Exclusive<'_, Ochre>, offset: u64, len: u64) -> Result {
    let at = offset / BLOCK;
    let nothing = PageRange { first: at, end: at };
    let mut settled = false;
    loop {
        // What is pending behind the end must not come to lie before it.
        let new_size = check_insert(file, offset, len)?;
        if defer::make_room_to_move(file, new_size)? {
            continue;
        }
        let (faults, _) = clear(file, nothing, |file| {
            check_insert(file, offset, len).map(|_| ())
        })?;
        testing::pause(Point::LayoutBroken);
        let inode = file.inode();
        let (first, blocks) = (FileBlock(at), len / BLOCK);
        match engine(inode).insert(inner(inode), first, blocks, &Times::default()) {
            // While this waited, something has become pending, or the file longer.
            Err(EngineError::Again) if !file.is_task_dying() => continue,
            Err(EngineError::NoSpace) if !settled => {
                settled = true;
                drop(faults);
                inode.super_block().settle()?;
            }
            Err(error) => return Err(failed(inode.super_block(), error)),
            Ok(size) => {
                moved(file, &faults, size, offset);
                return Ok(());
            }
        }
    }
}

fn take_out(
    inode: &INode<Ochre>,
    gap: PageRange,
    rescue: Option<FileBlock>,
) -> Result<u64, EngineError> {
    let blocks = gap.end - gap.first;
    let (engine, node) = (engine(inode), inner(inode));
    engine.collapse(
        node,
        FileBlock(gap.first),
        blocks,
        rescue,
        &Times::default(),
    )
}

/// The blocks have moved: the size, and the copies in private mappings, which are those of other
/// offsets now.
fn moved(
    file: &Exclusive<'_, Ochre>,
    faults: &InvalidateExclusive<'_, Ochre>,
    size: u64,
    offset: u64,
) {
    file.set_size(size);
    faults.unmap_copies_past(offset);
    defer::left_behind(file.inode());
}

/// Faults locked out, and the held pages of the gap.
type Cleared<'a> = (InvalidateExclusive<'a, Ochre>, KVec<BusyPage<'a>>);

/// Locks faults out and deletes all mapping entries from the gap on, but for those of held pages in
/// the gap, which are the result; waits for other held pages. `check` is repeated after each wait.
fn clear<'a>(
    file: &mut Exclusive<'a, Ochre>,
    gap: PageRange,
    check: impl Fn(&Exclusive<'a, Ochre>) -> Result,
) -> Result<Cleared<'a>> {
    let inode: &'a INode<Ochre> = file.inode();
    let since = Instant::now();
    let may_park = defer::policy(inode.super_block()) == Layout::Defer;
    loop {
        check(file)?;
        let faults = inode.mapping().lock_invalidate();
        let mut inside = KVec::new();
        if inode.mapping().is_empty() {
            return Ok((faults, inside));
        }
        let mut pages = layout::beyond(gap.first * BLOCK);
        if testing::without(Protection::OnlyTheRange) {
            pages.first = 0;
        }
        if defer::is_pending(inode) {
            pages.end = defer::pending(inode).first;
        }
        let wide = layout::widen(inode, pages);
        faults.unmap(wide);
        let last = wide.end.saturating_mul(PAGE_SIZE).saturating_sub(1);
        inode.mapping().write_back(wide.first * PAGE_SIZE, last)?;
        engine(inode).media().fence();
        let mut held: [PageRange; MOST_HELD] = [PageRange { first: 0, end: 0 }; MOST_HELD];
        let mut count = 0;
        let first = faults.delete_idle(device(inode), wide, |pages| {
            if let Some(place) = held.get_mut(count) {
                *place = pages;
            }
            count += 1;
        });
        trace::layout_break(inode, wide, first.is_some());
        let Some(first) = first else {
            return Ok((faults, inside));
        };
        let mut waits = (count > MOST_HELD).then_some(first);
        let mut released = false;
        for &pages in held.iter().take(count) {
            // Its entry is there still, whether it is held now or not.
            let Some(page) = faults.busy_page(device(inode), pages) else {
                released = true;
                break;
            };
            if pages.first >= gap.first && pages.end <= gap.end && may_park {
                inside.push(page, GFP_KERNEL)?;
            } else {
                waits = Some(page);
                break;
            }
        }
        if let (None, false) = (&waits, released) {
            return Ok((faults, inside));
        }
        drop(faults);
        if let Some(page) = waits {
            defer::sleep(file, &page, since)?;
        }
    }
}

/// A collapse over held pages: all that it takes out goes behind the end of the file. `None`: not
/// now; nothing has changed.
fn collapse_held(
    inode: &INode<Ochre>,
    faults: &InvalidateExclusive<'_, Ochre>,
    gap: PageRange,
    held: &[BusyPage<'_>],
) -> Result<Option<u64>> {
    for place in 0..defer::PLACES {
        let base = defer::PARKED + place * (defer::PARKED / defer::PLACES);
        if base + gap.end > FileBlock::END.0 {
            break;
        }
        let Some(entries) = begin(faults, held, base)? else {
            continue;
        };
        if entries.len() < held.len() {
            return Ok(None);
        }
        match take_out(inode, gap, Some(FileBlock(base + gap.first))) {
            Ok(size) => {
                for entry in entries {
                    entry.finish();
                }
                for page in held {
                    defer::parked(inode, page.pages());
                }
                return Ok(Some(size));
            }
            Err(EngineError::Again) => {}
            Err(EngineError::NoSpace) => return Ok(None),
            Err(error) => return Err(failed(inode.super_block(), error)),
        }
    }
    Ok(None)
}

/// Gives the entries of held pages second places. `None`: a place is taken. Fewer than there are
/// pages: something is locked.
fn begin<'l, 'a>(
    faults: &'l InvalidateExclusive<'a, Ochre>,
    held: &[BusyPage<'_>],
    base: u64,
) -> Result<Option<KVec<Move<'l, 'a, Ochre>>>> {
    let mut entries = KVec::with_capacity(held.len(), GFP_KERNEL)?;
    for page in held {
        match faults.begin_move(page, base + page.pages().first) {
            Ok(entry) => entries.push(entry, GFP_KERNEL)?,
            Err(EEXIST) => return Ok(None),
            Err(_) => break,
        }
    }
    Ok(Some(entries))
}
