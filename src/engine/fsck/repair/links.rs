// SPDX-License-Identifier: GPL-2.0

//! The seventh step: link counts, parents, and the orphan table.
//!
//! The table and the records say the same thing twice: which inodes are about to go. Where they
//! agree they are believed. A table that cannot be read is made from the records.
//!
//! # Hazard
//!
//! An inode in the table with a link count of zero is deleted when the repair is through. So one
//! that has a name, whatever its count said, must not be left there.

use super::{Action, Class, Repair};
use crate::engine::error::Result;
use crate::engine::format::inode::PENDING_ALL;
use crate::engine::fsck::table::{Entry, CLAIMS_ORPHAN, CONNECTED, KNOWN, LOST, ORPHAN, USED};
use crate::engine::media::Media;
use crate::engine::types::{u32_of, u64_of, usize_of, FileKind, Ino, BLOCK_SIZE};
use crate::platform::{yield_now, Vec};

/// Entries of the table in a block.
const ENTRIES: usize = (BLOCK_SIZE / 8) as usize;

/// Whether an inode has a name.
fn named(entry: &Entry) -> bool {
    if entry.is_directory() {
        entry.is(CONNECTED)
    } else {
        entry.found != 0
    }
}

/// Whether a truncation of it may be unfinished.
fn can_truncate(entry: &Entry) -> bool {
    entry.kind == FileKind::Regular.to_disk() && !entry.is(LOST)
}

impl<M: Media> Repair<'_, M> {
    /// Makes links and orphans agree with the names.
    pub(super) fn links(&mut self) -> Result {
        let mut slots = self.orphan_slots()?;
        for slot in 0..slots.len() {
            self.orphan_slot(&mut slots, slot)?;
        }
        self.flush()?;
        let total = self.table.len();
        for index in 0..total {
            if index % 4096 == 0 {
                self.observer
                    .progress(Class::Links, u64_of(index), u64_of(total));
                yield_now();
            }
            let entry = self.table.get(index);
            if entry.is(USED) && entry.is(KNOWN) {
                self.inode_links(index, &mut slots)?;
            }
        }
        Ok(())
    }

    /// Reads the table; blocks that cannot be read are written over with zeros.
    fn orphan_slots(&mut self) -> Result<Vec<u64>> {
        let g = self.geometry();
        let total = usize_of(u64::from(g.orphan_slots));
        let mut slots: Vec<u64> = Vec::new();
        let mut bytes = [0u8; BLOCK_SIZE as usize];
        while slots.len() < total {
            let address = g.orphans.address() + u64_of(slots.len()) * 8;
            if self.read(address, &mut bytes).is_err() {
                bytes.fill(0);
                let slot = u32_of(u64_of(slots.len()));
                if self.act(Action::OrphanCleared { slot }) {
                    self.put(address, &bytes)?;
                    self.flush()?;
                }
            }
            for word in bytes
                .chunks_exact(8)
                .take((total - slots.len()).min(ENTRIES))
            {
                let word = word.first_chunk::<8>().copied().unwrap_or_default();
                slots.push(u64::from_le_bytes(word))?;
            }
        }
        Ok(slots)
    }

    fn put_slot(&mut self, slots: &mut [u64], slot: usize, ino: u64) -> Result {
        if let Some(place) = slots.get_mut(slot) {
            *place = ino;
        }
        let address = self.geometry().orphan_slot(u32_of(u64_of(slot)));
        self.put_u64(address, ino)
    }

    /// Judges an entry of the table.
    fn orphan_slot(&mut self, slots: &mut [u64], slot: usize) -> Result {
        let ino = slots.get(slot).copied().unwrap_or(0);
        if ino == 0 {
            return Ok(());
        }
        let number = u32_of(u64_of(slot));
        let index = self.table.index(Ino(ino));
        let mut stays = None;
        if let Some(index) = index {
            let entry = self.table.get(index);
            if let Some(record) = self.record(index).filter(|_| entry.is(KNOWN)) {
                let noted = record.orphan.get();
                let own = usize_of(u64::from(noted));
                let elsewhere =
                    noted != number + 1 && own != 0 && slots.get(own - 1).copied() == Some(ino);
                // With a name, a place in the table is believed only if the record says so, and
                // then means a truncation that is not finished.
                let truncating = noted != 0 && can_truncate(&entry);
                if !entry.is(ORPHAN) && !elsewhere && (!named(&entry) || truncating) {
                    stays = Some((index, record));
                }
            }
        }
        let Some((index, mut record)) = stays else {
            if self.act(Action::OrphanCleared { slot: number }) {
                self.put_slot(slots, slot, 0)?;
            }
            return Ok(());
        };
        if record.orphan.get() != number + 1 && self.act(Action::OrphanCorrected { ino: Ino(ino) })
        {
            record.orphan.set(number + 1);
            self.put_record(index, &record)?;
        }
        if let Some(entry) = self.table.get_mut(index) {
            entry.flags |= ORPHAN;
        }
        Ok(())
    }

    /// Makes a record agree with its names and with the table.
    fn inode_links(&mut self, index: usize, slots: &mut [u64]) -> Result {
        let entry = self.table.get(index);
        let Some(mut record) = self.record(index) else {
            return Ok(());
        };
        let ino = self.table.ino(index);
        let mut changed = false;
        let named = named(&entry);
        if !named && entry.stored != 0 {
            // There was no room for a name; it was said.
            return Ok(());
        }
        let truncating = named && entry.is(CLAIMS_ORPHAN) && can_truncate(&entry);
        let wanted = !named || truncating;
        if wanted && !entry.is(ORPHAN) {
            let own = usize_of(u64::from(record.orphan.get()));
            let free = |slot: &usize| slots.get(*slot) == Some(&0);
            let slot = own
                .checked_sub(1)
                .filter(free)
                .or_else(|| slots.iter().position(|&word| word == 0));
            let Some(slot) = slot else {
                self.act(Action::NoRoom { ino });
                return Ok(());
            };
            let number = u32_of(u64_of(slot));
            if self.act(Action::OrphanAdded { ino, slot: number }) {
                self.put_slot(slots, slot, ino.0)?;
                changed |= record.orphan.get() != number + 1;
                record.orphan.set(number + 1);
            }
        } else if !wanted && !entry.is(ORPHAN) && record.orphan.get() != 0 {
            changed |= self.act(Action::OrphanCorrected { ino });
            record.orphan.set(0);
            record.pending = PENDING_ALL;
        }
        let counted = match (named, entry.is_directory()) {
            (false, _) => 0,
            (true, true) => entry.found.saturating_add(2),
            (true, false) => entry.found,
        };
        let stored = record.nlink.get();
        if stored != counted {
            changed |= self.act(Action::LinksCounted {
                ino,
                stored,
                counted,
            });
            record.nlink.set(counted);
        }
        if entry.is_directory() && named {
            let parent = usize_of(u64::from(entry.parent)).saturating_sub(1);
            let parent = self.table.ino(parent);
            if record.parent.get() != parent.0 {
                changed |= self.act(Action::ParentCorrected { ino, parent });
                record.parent.set(parent.0);
            }
        }
        if changed {
            self.put_record(index, &record)?;
        }
        Ok(())
    }
}
