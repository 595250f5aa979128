// SPDX-License-Identifier: GPL-2.0

//! Truncates that do not wait: `layout=defer`.
//!
//! What: a file is made shorter while somebody holds a page of what goes. [`truncate`] makes the
//! new size durable, and with it the intent on the orphan table; unmaps what is beyond; frees what
//! nobody holds; and returns. The held pages stay where they are, behind the end of the file, with
//! their mapping entries and their blocks: *pending*. The mount's thread gives them back when they
//! are let go ([`settle`]); a crash leaves that to recovery.
//!
//! A hole that is punched over a held page goes the same way: [`park`] moves the page and its blocks
//! to a place far behind the end of the file, and there it is pending like the others. When a file
//! grows over pending pages, or is promised blocks there, they are parked too. A 2 MiB page that
//! reaches into what stays cannot be: growth zeroes its bytes in front of the new end and takes its
//! blocks back into the file. So nobody waits, except for a page that is locked just now, or that is
//! across the end when blocks are promised behind it.
//!
//! Why nobody can meet a pending block: it lies beyond the size, and reads, writes and faults end
//! there (faults look under `invalidate_lock`, which the truncate holds). Only a file that grows
//! could reach one. So whoever grows a file comes by [`make_room`], which gets the pending blocks in
//! front of the new end out of the way, and if it must, waits for them, killably and with no lock held,
//! and for no others.
//!
//! Why parking within the file, and not in a list beside it: a crash, an unmount, a deletion and the
//! count of the file's blocks find a parked page without a word being written for it, since what
//! lies behind the end while the intent stands is freed. And the page keeps a mapping: see
//! [`Move`](crate::vfs::mapping::Move).
//!
//! Which pages are pending is not written down anywhere: they are the mapping entries behind the
//! end of the file. `invalidate_lock` keeps them from becoming more.
//!
//! Hazard: `truncate_pagecache` deletes entries whatever their pages' references. While something
//! is pending it must not be called; copies in private mappings are unmapped by
//! `unmap_mapping_range` with `even_cows` instead.
//!
//! Hazard: a 2 MiB page across the new end cannot be split while it is held. It stays whole, and
//! its blocks beyond the end stay with it. The file's pages in it can be mapped again meanwhile
//! (one by one, since a 2 MiB page would reach beyond the end), and are unmapped whenever the
//! thread looks.

use super::dax::device;
use super::layout::{beyond, keep_edges, now, widen, WAIT_MILLISECONDS};
use super::options::Layout;
use super::{counters, engine, failed, inner, Ochre};
use crate::engine::filesystem::Times;
use crate::engine::types::{FileBlock, BLOCK_SIZE};
use crate::engine::Error as EngineError;
use crate::platform::{log, yield_now};
use crate::testing::{self, Failure, Point, Protection};
use crate::vfs::background::Settled;
use crate::vfs::mapping::{BusyPage, InvalidateExclusive, PageRange};
use crate::vfs::rwsem::Exclusive;
use crate::vfs::{trace, INode, SuperBlock};
use core::sync::atomic::Ordering;
use kernel::{
    prelude::*,
    time::{Instant, Monotonic},
};

/// What the mount does.
pub(super) fn policy(sb: &SuperBlock<Ochre>) -> Layout {
    Layout::from_u8(sb.data().layout.load(Ordering::Relaxed))
}

/// Something is pending.
pub(super) fn is_pending(inode: &INode<Ochre>) -> bool {
    inode.data().data.pending.load(Ordering::Acquire)
}

/// The pages that are, if any is. What lies between the end of the file and them is the user's.
pub(super) fn pending(inode: &INode<Ochre>) -> PageRange {
    match engine(inode).pending_from(inner(inode)) {
        Some(FileBlock(first)) => PageRange {
            first,
            end: u64::MAX,
        },
        None => beyond(inode.size()),
    }
}

/// Nothing is pending any more. The caller holds `i_rwsem`.
pub(super) fn finished(inode: &INode<Ochre>) {
    if is_pending(inode) && !engine(inode).is_truncating(inner(inode)) {
        inode.data().data.pending.store(false, Ordering::Release);
    }
}

/// The file has become shorter, and there may have been no memory to free all that is behind its end now. The thread does it
/// then, and whoever makes the file larger first: not a byte may be written to those blocks. The caller holds `i_rwsem`.
pub(super) fn left_behind(inode: &INode<Ochre>) {
    if engine(inode).is_truncating(inner(inode)) {
        inode.data().data.pending.store(true, Ordering::Release);
        inode.super_block().watch(inode);
    }
    finished(inode);
}

/// What [`truncate`] came to.
pub(super) enum Truncated<'a> {
    /// It is done.
    Done,
    /// Nobody holds a page of what goes, and the entries are gone: the file can be cut as if it had never been mapped. Nothing else has changed.
    Idle(InvalidateExclusive<'a, Ochre>),
    /// Nothing has changed: the intent has no room on the orphan table, so somebody has to wait.
    NoRoom,
}

/// Makes a file shorter, if somebody holds a page of what goes.
pub(super) fn truncate<'a>(file: &mut Exclusive<'a, Ochre>, size: u64) -> Result<Truncated<'a>> {
    let inode: &'a INode<Ochre> = file.inode();
    let faults = inode.mapping().lock_invalidate();
    let pages = beyond(size);
    let wide = widen(inode, pages);
    let Some(held) = faults.busy_page(device(inode), wide) else {
        trace::layout_break(inode, wide, false);
        keep_edges(inode, pages, wide)?;
        faults.delete_entries(wide);
        return Ok(Truncated::Idle(faults));
    };
    if testing::fails(Failure::TruncateIntent) {
        return Ok(Truncated::NoRoom);
    }
    match engine(inode).truncate_size(inner(inode), size, &now(file)) {
        Ok(()) => {}
        Err(EngineError::NoSpace) => return Ok(Truncated::NoRoom),
        Err(error) => return Err(failed(inode.super_block(), error)),
    }
    // From here on the truncate has happened; what fails is tried again by the thread.
    inode.data().data.pending.store(true, Ordering::Release);
    inode.super_block().watch(inode);
    counters(inode).truncated();
    trace::layout_break(inode, wide, true);
    trace::layout_defer(inode, held.pages(), false);
    file.set_size(size);
    if testing::without(Protection::KeepHeldEntries) {
        faults.unmap_past(size);
    }
    faults.unmap_copies_past(size);
    if let Err(error) = engine(inode).zero_tail(inner(inode), size) {
        complain(inode, failed(inode.super_block(), error));
    }
    if let Err(error) = give_back(inode, &faults) {
        complain(inode, error);
    }
    Ok(Truncated::Done)
}

/// Where parked pages are: so many pages behind their place in the file.
pub(super) const PARKED: u64 = FileBlock::PARKED.0;

/// How many times the same page of a file can be parked.
pub(super) const PLACES: u64 = 8;

/// Gets a held page of `pages`, over which a hole is to be punched, out of the way: moves it, with
/// its blocks, far behind the end of the file, where it is pending like what a truncate leaves.
/// False: somebody has to wait for it; nothing has changed.
pub(super) fn park(
    inode: &INode<Ochre>,
    faults: &InvalidateExclusive<'_, Ochre>,
    page: &BusyPage<'_>,
    pages: PageRange,
) -> Result<bool> {
    let held = page.pages();
    let inside = held.first >= pages.first && held.end <= pages.end.min(PARKED);
    if policy(inode.super_block()) != Layout::Defer || !inside {
        return Ok(false);
    }
    for place in 0..PLACES {
        let to = PARKED + place * (PARKED / PLACES) + held.first;
        if to + (held.end - held.first) > FileBlock::END.0 {
            break;
        }
        let entry = match faults.begin_move(page, to) {
            Ok(entry) => entry,
            Err(EEXIST) => continue,
            Err(_) => return Ok(false),
        };
        let blocks = held.end - held.first;
        match engine(inode).park(inner(inode), FileBlock(held.first), blocks, FileBlock(to)) {
            Ok(()) => entry.finish(),
            // The blocks of a page that was parked there and let go, maybe.
            Err(EngineError::Again) => continue,
            Err(EngineError::NoSpace | EngineError::NoMemory) => return Ok(false),
            Err(error) => return Err(failed(inode.super_block(), error)),
        }
        parked(inode, held);
        return Ok(true);
    }
    Ok(false)
}

/// Held pages and their blocks have just moved behind the end of the file.
pub(super) fn parked(inode: &INode<Ochre>, held: PageRange) {
    inode.data().data.pending.store(true, Ordering::Release);
    inode.super_block().watch(inode);
    counters(inode).parked();
    trace::layout_defer(inode, held, true);
}

fn complain(inode: &INode<Ochre>, error: Error) {
    log::warn(format_args!(
        "{}: inode {}: {error:?} while the blocks of a truncate were given back",
        inode.super_block().id(),
        inode.ino()
    ));
}

/// One sleep for a held page, with no lock held; the call has been waiting since `since`. `EINTR`:
/// a fatal signal.
pub(super) fn sleep<'a>(
    file: &mut Exclusive<'a, Ochre>,
    page: &BusyPage<'_>,
    since: Instant<Monotonic>,
) -> Result {
    let inode: &'a INode<Ochre> = file.inode();
    let wait = || page.wait(WAIT_MILLISECONDS);
    let result =
        counters(inode).sleep(since, || match testing::without(Protection::WaitUnlocked) {
            true => wait(),
            false => file.relax(wait),
        });
    trace::layout_wait(inode, page.pages(), &result);
    result
}

/// Held pages of an inode, for who looks at debugfs.
pub(super) struct Seen {
    pages: PageRange,
    count: u64,
}

impl Seen {
    /// None.
    pub(super) const fn new() -> Self {
        let pages = PageRange { first: 0, end: 0 };
        Self { pages, count: 0 }
    }

    /// These are held too, behind the others.
    pub(super) fn add(&mut self, pages: PageRange) {
        if self.count == 0 {
            self.pages.first = pages.first;
        }
        self.pages.end = pages.end;
        self.count += pages.end - pages.first;
    }

    /// That was all.
    pub(super) fn report(&self, inode: &INode<Ochre>) {
        counters(inode).set_held(inode.ino(), self.pages, self.count, inode.nlink() == 0);
    }
}

/// Deletes the entries behind the end of the file that nobody holds, and frees the blocks there
/// that no entry is left for. The first page that is held is the result; without one, the truncate
/// is finished.
///
/// The caller holds `i_rwsem` exclusively, which keeps the end where it is.
fn give_back<'a>(
    inode: &'a INode<Ochre>,
    faults: &InvalidateExclusive<'a, Ochre>,
) -> Result<Option<BusyPage<'a>>> {
    let pages = pending(inode);
    let wide = widen(inode, pages);
    faults.unmap(wide);
    keep_edges(inode, pages, wide)?;
    let mut free_from = pages.first;
    let mut result = Ok(());
    let mut seen = Seen::new();
    let held = faults.delete_idle(device(inode), wide, |held| {
        seen.add(held);
        if result.is_ok() {
            result = free(inode, free_from, held.first);
        }
        free_from = free_from.max(held.end);
    });
    seen.report(inode);
    result?;
    if held.is_some() {
        free(inode, free_from, FileBlock::END.0)?;
        return Ok(held);
    }
    let from = FileBlock(pages.first);
    while engine(inode)
        .free_beyond(inner(inode), from)
        .map_err(|error| failed(inode.super_block(), error))?
    {
        yield_now();
    }
    finished(inode);
    Ok(None)
}

/// Frees the blocks of `[from, to)`, if there are any.
fn free(inode: &INode<Ochre>, from: u64, to: u64) -> Result {
    if from >= to {
        return Ok(());
    }
    let (engine, node) = (engine(inode), inner(inode));
    let failed = |error| failed(inode.super_block(), error);
    if engine
        .is_hole(node, FileBlock(from), FileBlock(to))
        .map_err(failed)?
    {
        return Ok(());
    }
    engine
        .punch(node, FileBlock(from), FileBlock(to), &Times::default())
        .map_err(failed)
}

/// Waits until the file may have `end` bytes. True: `i_rwsem` was released meanwhile, and what was
/// looked at before has to be looked at again.
pub(super) fn make_room(file: &mut Exclusive<'_, Ochre>, end: u64, nowait: bool) -> Result<bool> {
    clear_before(file, end, nowait, true)
}

/// The same for a call that lets the file's blocks move up to there: no page may stay in their way.
pub(super) fn make_room_to_move(file: &mut Exclusive<'_, Ochre>, end: u64) -> Result<bool> {
    clear_before(file, end, false, false)
}

/// Before blocks are promised to a range that ends at `end`, beyond the end of the file, which is to
/// stay where it is: waits until nothing is pending in front of the parked pages. The new blocks could
/// not be told from such.
pub(super) fn make_room_for_promise(file: &mut Exclusive<'_, Ochre>, end: u64) -> Result {
    while end > file.inode().size() && clear_before(file, PARKED * BLOCK_SIZE, false, false)? {}
    Ok(())
}

/// Gets what is pending in front of `end` out of the way. True: it took a wait. `over`: the file is
/// about to grow up to there, so that a page which cannot be moved may stay in it.
fn clear_before<'a>(
    file: &mut Exclusive<'a, Ochre>,
    end: u64,
    nowait: bool,
    over: bool,
) -> Result<bool> {
    let inode: &'a INode<Ochre> = file.inode();
    let mut waited = false;
    let since = Instant::now();
    let look = |error| failed(inode.super_block(), error);
    while end > inode.size()
        && is_pending(inode)
        && engine(inode)
            .pending_before(inner(inode), end)
            .map_err(look)?
    {
        if nowait {
            return Err(EAGAIN);
        }
        let faults = inode.mapping().lock_invalidate();
        let page = clear_way(inode, &faults, end.div_ceil(BLOCK_SIZE), over)?;
        drop(faults);
        if let Some(page) = page {
            sleep(file, &page, since)?;
            waited = true;
        } else if engine(inode).may_grow(inner(inode), end).map_err(look)? {
            break;
        } else if file.is_task_dying() {
            return Err(EINTR);
        } else {
            yield_now();
        }
    }
    Ok(waited)
}

/// Moves what is held in front of page `end`, and gives back what is not. A page that somebody has to
/// wait for is the result.
fn clear_way<'a>(
    inode: &'a INode<Ochre>,
    faults: &InvalidateExclusive<'a, Ochre>,
    end: u64,
    over: bool,
) -> Result<Option<BusyPage<'a>>> {
    let pages = pending(inode);
    let mut held = give_back(inode, faults)?;
    while let Some(page) = held {
        let found = page.pages();
        if found.first >= end {
            break;
        }
        let across = found.first < pages.first;
        let done = if across && over {
            reclaim(inode, found.end.min(end))?
        } else {
            park(inode, faults, &page, pages)?
        };
        if !done {
            return Ok(Some(page));
        }
        let first = found.end;
        held = faults.busy_page(device(inode), PageRange { first, end });
    }
    Ok(None)
}

/// A 2 MiB page across the end of the file is held, and the file grows within it, up to page `end`: the
/// blocks there are zeroed, and become the file's again. False: somebody waits.
fn reclaim(inode: &INode<Ochre>, end: u64) -> Result<bool> {
    if policy(inode.super_block()) != Layout::Defer {
        return Ok(false);
    }
    engine(inode)
        .reclaim(inner(inode), FileBlock(end))
        .map_err(|error| failed(inode.super_block(), error))?;
    Ok(true)
}

/// Where a range ends for one who takes blocks away: what is pending, or will be parked, is none
/// of his.
pub(super) fn limit(inode: &INode<Ochre>, end: u64) -> u64 {
    let first = match is_pending(inode) {
        true => pending(inode).first,
        false => PARKED,
    };
    end.min(first.saturating_mul(BLOCK_SIZE))
}

/// The thread's look at an inode. Waits for nobody.
pub(super) fn settle(inode: &INode<Ochre>) -> Settled<'_> {
    let sb = inode.super_block();
    if !is_pending(inode) {
        return Settled::Done;
    }
    testing::pause(Point::Settle);
    let Some(_write) = sb.try_start_internal_write() else {
        return Settled::Later;
    };
    let Some(_lock) = Exclusive::try_lock(inode) else {
        return Settled::Later;
    };
    if !engine(inode).is_truncating(inner(inode)) {
        // Somebody was faster, and what is behind the end by now is the user's.
        finished(inode);
        return Settled::Done;
    }
    let faults = inode.mapping().lock_invalidate();
    if engine(inode).is_read_only() {
        // The blocks stay until it is writable, or for the next mount; the pages have to be idle all
        // the same.
        let wide = widen(inode, pending(inode));
        return match faults.busy_page(device(inode), wide) {
            Some(page) => Settled::Held(page),
            None => Settled::ReadOnly,
        };
    }
    match give_back(inode, &faults) {
        Ok(Some(page)) => Settled::Held(page),
        Ok(None) => Settled::Done,
        Err(ENOMEM) => Settled::Later,
        Err(error) => {
            complain(inode, error);
            Settled::Done
        }
    }
}
