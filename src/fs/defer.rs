// SPDX-License-Identifier: GPL-2.0

//! Truncates that do not wait: `layout=defer`.
//!
//! What: a file is made shorter while somebody holds a page of what goes. [`truncate`] makes the
//! new size durable, and with it the intent on the orphan table; unmaps what is beyond; frees what
//! nobody holds; and returns. The held pages stay where they are, behind the end of the file, with
//! their mapping entries and their blocks: *pending*. The mount's thread gives them back when they
//! are let go ([`settle`]); a crash leaves that to recovery.
//!
//! Why nobody can meet a pending block: it lies beyond the size, and reads, writes and faults end
//! there (faults look under `invalidate_lock`, which the truncate holds). Only a file that grows
//! could reach one. So whoever grows a file comes by [`make_room`], which waits for the pending
//! blocks in front of the new end, killably and with no lock held, and for no others.
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
use super::{engine, errno, failed, inner, Ochre};
use crate::engine::filesystem::{MappingState, Times};
use crate::engine::types::{FileBlock, BLOCK_SIZE};
use crate::engine::Error as EngineError;
use crate::platform::{log, yield_now};
use crate::vfs::background::Settled;
use crate::vfs::mapping::{BusyPage, InvalidateExclusive};
use crate::vfs::rwsem::Exclusive;
use crate::vfs::{INode, SuperBlock};
use core::sync::atomic::Ordering;
use kernel::prelude::*;

/// What the mount does.
pub(super) fn policy(sb: &SuperBlock<Ochre>) -> Layout {
    Layout::from_u8(sb.data().layout.load(Ordering::Relaxed))
}

/// Something is pending.
fn is_pending(inode: &INode<Ochre>) -> bool {
    inode.data().data.pending.load(Ordering::Acquire)
}

/// Nothing is pending any more. The caller holds `i_rwsem`.
pub(super) fn finished(inode: &INode<Ochre>) {
    if is_pending(inode) && !engine(inode).is_truncating(inner(inode)) {
        inode.data().data.pending.store(false, Ordering::Release);
    }
}

/// Makes a file shorter. False, and nothing has changed: no page of what goes is held, or the
/// intent has no room on the orphan table.
pub(super) fn truncate(file: &mut Exclusive<'_, Ochre>, size: u64) -> Result<bool> {
    let inode = file.inode();
    let mapping = inode.mapping();
    if mapping.is_empty() {
        return Ok(false);
    }
    let faults = mapping.lock_invalidate();
    let wide = widen(inode, beyond(size));
    if faults.busy_page(device(inode), wide).is_none() {
        return Ok(false);
    }
    match engine(inode).truncate_size(inner(inode), size, &now(file)) {
        Ok(()) => {}
        Err(EngineError::NoSpace) => return Ok(false),
        Err(error) => return Err(failed(inode.super_block(), error)),
    }
    // From here on the truncate has happened; what fails is tried again by the thread.
    inode.data().data.pending.store(true, Ordering::Release);
    inode.super_block().watch(inode);
    file.set_size(size);
    faults.unmap_copies_past(size);
    if let Err(error) = engine(inode).zero_tail(inner(inode), size) {
        complain(inode, errno(error));
    }
    if let Err(error) = give_back(inode, &faults) {
        complain(inode, error);
    }
    Ok(true)
}

fn complain(inode: &INode<Ochre>, error: Error) {
    log::warn(format_args!(
        "{}: inode {}: {error:?} while the blocks of a truncate were given back",
        inode.super_block().id(),
        inode.ino()
    ));
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
    let pages = beyond(inode.size());
    let wide = widen(inode, pages);
    faults.unmap(wide);
    keep_edges(inode, pages, wide)?;
    let mut free_from = pages.first;
    let mut result = Ok(());
    let held = faults.delete_idle(device(inode), wide, |held| {
        if result.is_ok() {
            result = free(inode, free_from, held.first);
        }
        free_from = free_from.max(held.end);
    });
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
    let found = engine
        .map(node, FileBlock(from), to - from)
        .map_err(failed)?;
    if found.state == MappingState::Hole && found.len >= to - from {
        return Ok(());
    }
    engine
        .punch(node, FileBlock(from), FileBlock(to), &Times::default())
        .map_err(failed)
}

/// Waits until the file may have `end` bytes. True: `i_rwsem` was released meanwhile, and what was
/// looked at before has to be looked at again.
pub(super) fn make_room(file: &mut Exclusive<'_, Ochre>, end: u64, nowait: bool) -> Result<bool> {
    let inode = file.inode();
    if end <= inode.size() || !is_pending(inode) {
        return Ok(false);
    }
    wait_while(file, nowait, |inode| {
        engine(inode)
            .pending_before(inner(inode), end)
            .map_err(|error| failed(inode.super_block(), error))
    })
}

/// Before blocks are given to a range that ends at `end`, beyond the end of the file: waits until
/// nothing at all is pending. The new blocks could not be told from pending ones.
pub(super) fn wait_all(file: &mut Exclusive<'_, Ochre>, end: u64) -> Result<bool> {
    if end <= file.inode().size() {
        return Ok(false);
    }
    wait_while(file, false, |inode| Ok(is_pending(inode)))
}

fn wait_while<'a>(
    file: &mut Exclusive<'a, Ochre>,
    nowait: bool,
    pending: impl Fn(&INode<Ochre>) -> Result<bool>,
) -> Result<bool> {
    let inode: &'a INode<Ochre> = file.inode();
    let mut waited = false;
    while pending(inode)? {
        if nowait {
            return Err(EAGAIN);
        }
        let faults = inode.mapping().lock_invalidate();
        let held = give_back(inode, &faults)?;
        drop(faults);
        if let Some(page) = held {
            file.relax(|| page.wait(WAIT_MILLISECONDS))?;
            waited = true;
        }
    }
    Ok(waited)
}

/// Where a range ends for one who takes blocks away: what is pending is none of his.
pub(super) fn limit(inode: &INode<Ochre>, end: u64) -> u64 {
    if is_pending(inode) {
        end.min(inode.size().next_multiple_of(BLOCK_SIZE))
    } else {
        end
    }
}

/// The thread's look at an inode. Waits for nobody.
pub(super) fn settle(inode: &INode<Ochre>) -> Settled<'_> {
    let sb = inode.super_block();
    if !is_pending(inode) {
        return Settled::Done;
    }
    let Some(_write) = sb.try_start_internal_write() else {
        return Settled::Later;
    };
    let Some(_lock) = Exclusive::try_lock(inode) else {
        return Settled::Later;
    };
    let faults = inode.mapping().lock_invalidate();
    if engine(inode).is_read_only() {
        // The blocks stay for the next mount; the pages have to be idle all the same.
        let wide = widen(inode, beyond(inode.size()));
        return match faults.busy_page(device(inode), wide) {
            Some(page) => Settled::Held(page),
            None => Settled::Done,
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
