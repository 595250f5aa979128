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
use crate::engine::format::inode::InodeRecord;
use crate::engine::media::Media;
use crate::engine::transaction::Transaction;
use crate::engine::types::{u64_of, usize_of, Ino, BLOCK_SIZE};
use crate::engine::volume::Volume;
use crate::platform::{lock_class, Mutex, Vec};
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
    record.orphan = U32::new(0);
    tx.free_orphan_slot(slot)
}

/// What was on the table at mount, and has not been dealt with yet.
pub struct Found(Mutex<Vec<Ino>>);

impl Found {
    /// Reads the table. Takes the same time for every large filesystem, since the table's size is bounded.
    pub fn load<M: Media>(volume: &Volume<M>) -> Result<Self> {
        let mut found = Vec::new();
        let mut buffer = Vec::new();
        buffer.resize(usize_of(BLOCK_SIZE), 0u8)?;
        let bytes = u64::from(volume.orphan_count()) * 8;
        let table = volume.info().geometry.orphans.address();
        let mut at = 0;
        while at < bytes {
            let part = usize_of(bytes - at).min(buffer.len());
            let part = buffer.get_mut(..part).ok_or(Error::Invalid)?;
            volume.media().read(table.saturating_add(at), part)?;
            for entry in part.chunks_exact(8) {
                let ino = entry.try_into().map_or(0, u64::from_le_bytes);
                if ino != 0 {
                    found.push(Ino(ino))?;
                }
            }
            at += u64_of(part.len());
        }
        Ok(Self(Mutex::new(found, lock_class!("ochre_orphans_found"))?))
    }

    /// The next one; each once.
    pub fn next(&self) -> Option<Ino> {
        self.0.lock().pop()
    }

    /// How many are left.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }
}
