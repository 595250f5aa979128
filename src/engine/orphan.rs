// SPDX-License-Identifier: GPL-2.0

//! The orphan table: inodes that something remains to be done for.
//!
//! What: a table of inode numbers on the medium. An inode is on it while it has no links but may be open, or while a
//! truncate has set its size but not freed its blocks. The record holds the slot's number plus one, so that taking an inode
//! off needs no search. Which slots are free the allocator knows.
//!
//! Why a table and no chain through the inodes: a chain makes each unlink write into a neighbour's record and puts one
//! lock around all of them.
//!
//! # Hazard
//!
//! The entry and the record's link count change in one transaction. Were the entry written first, by itself, a crash
//! between the two would let recovery evict a file that still has its name.

use crate::engine::error::{Error, Result};
use crate::engine::format::inode::{InodeRecord, PENDING_ALL};
use crate::engine::media::Media;
use crate::engine::transaction::Transaction;
use crate::engine::types::Ino;
use zerocopy::little_endian::U32;

/// Puts the inode on the table, unless it is there.
pub fn enter<M: Media>(tx: &mut Transaction<'_, M>, record: &mut InodeRecord) -> Result {
    if record.orphan.get() == 0 {
        let slot = tx.allocate_orphan_slot(Ino(record.ino.get()))?;
        record.orphan = U32::new(slot.saturating_add(1));
    }
    Ok(())
}

/// Takes the inode off the table, if it is there.
pub fn leave<M: Media>(tx: &mut Transaction<'_, M>, record: &mut InodeRecord) -> Result {
    let Some(slot) = record.orphan.get().checked_sub(1) else {
        return Ok(());
    };
    if slot >= tx.volume().orphan_count() {
        return Err(Error::corrupt("orphan slot of an inode", record.ino.get()));
    }
    let place = tx.volume().info().geometry.orphan_slot(slot);
    if tx.read_u64(place)? != record.ino.get() {
        // Another inode's entry, which is all that keeps its blocks from being lost.
        return Err(Error::corrupt("orphan slot of an inode", place));
    }
    record.orphan = U32::new(0);
    record.pending = PENDING_ALL;
    tx.free_orphan_slot(slot)
}
