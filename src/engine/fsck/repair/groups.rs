// SPDX-License-Identifier: GPL-2.0

//! The second step: which inode chunks there are.
//!
//! The count of chunks and the masks have no checksum; an entry has a keyed check of group, index
//! and place. And every record of a chunk carries its own number, under a checksum. So:
//!
//! * entries behind the count that check, and whose chunk holds records with the right numbers,
//!   belong to the map, and the count was too small;
//! * a damaged entry's chunk is searched for by its records' numbers, among the blocks of the group
//!   that are marked as used;
//! * at the end of the map, damaged entries whose chunk cannot be found are a count that was too
//!   large. Elsewhere an empty chunk takes the place, since entries cannot be removed.
//!
//! # Hazard
//!
//! A chunk's blocks are claimed as soon as its entry is believed, before those of any tree. An
//! entry that checks but leads to blocks without any of its records, while its mask says that it
//! has some, is not believed: it would claim what belongs to others.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{Action, Repair};
use crate::engine::error::Result;
use crate::engine::format::ag::{
    ChunkEntry, BITMAP_BLOCK, BITMAP_WORDS, CHUNKS_OFFSET, CHUNK_BLOCKS, CHUNK_INODES,
    CHUNK_MAP_BLOCK, CHUNK_MASK_OFFSET, MAX_CHUNKS, METADATA_BLOCKS,
};
use crate::engine::format::inode::{InodeRecord, MAGIC, RECORD_SIZE};
use crate::engine::fsck::table::USED;
use crate::engine::media::Media;
use crate::engine::types::{u32_of, u64_of, usize_of, Block, Ino, BLOCK_SIZE};
use crate::engine::verify;
use crate::platform::{yield_now, Vec};

use super::Class;

/// Bytes of a chunk.
const CHUNK_SIZE: usize = (CHUNK_BLOCKS * BLOCK_SIZE) as usize;
/// Entries that are looked at behind the last good one.
const BEYOND: u32 = 64;
/// Entries in a block of the map.
const ENTRIES: u32 = 256;

/// An entry of a group's chunk map.
#[derive(Clone, Copy)]
struct Slot {
    start: u32,
    mask: u64,
    /// Its check is right, so it was an entry once.
    keyed: bool,
    /// And its place is possible.
    checks: bool,
    /// It is believed.
    valid: bool,
}

impl<M: Media> Repair<'_, M> {
    /// Judges all chunk maps and fills the table of inodes.
    pub(super) fn groups(&mut self) -> Result {
        let count = self.geometry().ag_count;
        for ag in 0..count {
            self.observer
                .progress(Class::Groups, u64::from(ag), u64::from(count));
            yield_now();
            let base = self.geometry().ag_base(ag);
            self.claimed.set_run(base, METADATA_BLOCKS);
            self.table.start_group()?;
            self.group(ag)?;
        }
        Ok(())
    }

    fn group(&mut self, ag: u32) -> Result {
        let base = self.geometry().ag_base(ag);
        let address = base.address() + CHUNKS_OFFSET;
        let mut word = [0; 8];
        let stored = match self.read(address, &mut word) {
            Ok(()) => u64::from_le_bytes(word),
            Err(_) => u64::MAX,
        };
        let mut slots: Vec<Slot> = Vec::new();
        self.read_map(ag, stored, &mut slots)?;
        self.find_chunks(ag, &mut slots)?;
        // An entry behind the count that checks would say that the count is too low.
        let mut ended = Vec::new();
        while slots.last().is_some_and(|slot| !slot.valid) {
            if slots.pop().is_some_and(|slot| slot.keyed) {
                ended.push(u32_of(u64_of(slots.len())))?;
            }
        }
        let counted = u64_of(slots.len());
        if counted != stored || !ended.is_empty() {
            let action = Action::ChunksCounted {
                ag,
                stored,
                counted,
            };
            if self.act(action) {
                self.put_u64(address, counted)?;
                for &chunk in ended.iter() {
                    let entry = self.geometry().chunk_entry(ag, chunk);
                    self.put(entry, &[0; 16])?;
                }
            }
        }
        for index in 0..slots.len() {
            let Some(slot) = slots.get(index).copied() else {
                break;
            };
            let chunk = u32_of(u64_of(index));
            let block = if slot.valid {
                base.plus(u64::from(slot.start)).0
            } else {
                0
            };
            let mask = if slot.valid { slot.mask } else { 0 };
            if ag == 0 && chunk == 0 && slot.valid && mask & 1 == 0 {
                let mask_address = self.geometry().chunk_entry(ag, chunk) + CHUNK_MASK_OFFSET;
                if self.act(Action::InodeZeroMarked) {
                    self.put_u64(mask_address, mask | 1)?;
                }
            }
            // Number 0 is in use for ever, and is no inode.
            let mask = if ag == 0 && chunk == 0 {
                mask & !1
            } else {
                mask
            };
            self.table.add_chunk(ag, chunk, block, mask)?;
        }
        Ok(())
    }

    /// Reads the entries up to the count that is noted, and those behind it that belong to it.
    fn read_map(&mut self, ag: u32, stored: u64, slots: &mut Vec<Slot>) -> Result {
        let noted = match stored > u64::from(MAX_CHUNKS) {
            true => 0,
            // The root directory is in the first chunk, whatever is noted.
            false => u32_of(stored).max(u32::from(ag == 0)),
        };
        let mut beyond = 0;
        let map = self.geometry().ag_base(ag).plus(CHUNK_MAP_BLOCK);
        let mut bytes: Vec<u8> = Vec::new();
        bytes.resize(usize_of(BLOCK_SIZE), 0)?;
        for index in 0..MAX_CHUNKS {
            if index % ENTRIES == 0 {
                let block = map.plus(u64::from(index / ENTRIES));
                if self.read(block.address(), &mut bytes).is_err() {
                    bytes.fill(0);
                    if index < noted {
                        self.rewrite_map_block(block)?;
                    }
                }
            }
            let at = usize_of(u64::from(index % ENTRIES) * 16);
            let entry = bytes.get(at..at.saturating_add(16)).unwrap_or_default();
            let Ok(entry) = ChunkEntry::read_from_bytes(entry) else {
                break;
            };
            let slot = self.judge(ag, index, &entry)?;
            slots.push(slot)?;
            beyond = match index >= noted && !slot.keyed {
                true => beyond + 1,
                false => 0,
            };
            if beyond >= BEYOND {
                break;
            }
        }
        // A count that can be is not exceeded without a reason.
        let noted = usize_of(u64::from(noted));
        if stored <= u64::from(MAX_CHUNKS) {
            while slots.len() > noted && slots.last().is_some_and(|slot| !slot.keyed) {
                slots.pop();
            }
        }
        Ok(())
    }

    /// A block of the map that cannot be read is written over, so that its entries can be stored.
    fn rewrite_map_block(&mut self, block: Block) -> Result {
        self.put(block.address(), &[0; BLOCK_SIZE as usize])?;
        self.flush()
    }

    /// Judges an entry by its check and by the records it leads to; claims its blocks.
    fn judge(&mut self, ag: u32, index: u32, entry: &ChunkEntry) -> Result<Slot> {
        let start = entry.start.get();
        let mut slot = Slot {
            start,
            mask: entry.mask.get(),
            keyed: entry.check.get() == self.keys.chunk(ag, index, start),
            checks: false,
            valid: false,
        };
        let block = self.geometry().ag_base(ag).plus(u64::from(start));
        let placed = u64::from(start) % CHUNK_BLOCKS == 0 && self.is_data(block, CHUNK_BLOCKS);
        if !placed || !slot.keyed {
            return Ok(slot);
        }
        slot.checks = true;
        // The records vouch for a chunk; one that never had any is believed if nothing is found.
        let found = self.records_at(block, ag, index)?;
        slot.valid =
            (found != 0 || self.unreadable(block)) && !self.claimed.any(block, CHUNK_BLOCKS);
        if slot.valid {
            self.claimed.set_run(block, CHUNK_BLOCKS);
        }
        Ok(slot)
    }

    /// Whether part of a chunk cannot be read.
    fn unreadable(&mut self, block: Block) -> bool {
        let mut bytes = [0u8; 256];
        (0..64).any(|slot| self.read(block.address() + slot * 256, &mut bytes).is_err())
    }

    /// Which records of a chunk stand in the four blocks from `block`, as a mask: those with magic
    /// and number right, whatever their checksums.
    fn records_at(&mut self, block: Block, ag: u32, chunk: u32) -> Result<u64> {
        let mut bytes = [0u8; 24];
        let mut mask = 0;
        for slot in 0..CHUNK_INODES {
            let address = block.address() + u64::from(slot) * RECORD_SIZE;
            if self.read(address, &mut bytes).is_err() {
                continue;
            }
            let magic = bytes.first_chunk::<4>().map(|m| u32::from_le_bytes(*m));
            let number = bytes
                .get(16..)
                .and_then(<[u8]>::first_chunk::<8>)
                .map(|n| u64::from_le_bytes(*n));
            let own = number == Some(Ino::from_parts(ag, chunk, slot).0);
            mask |= u64::from(magic == Some(MAGIC) && own) << slot;
        }
        Ok(mask)
    }

    /// Finds the chunks of entries that cannot be believed.
    fn find_chunks(&mut self, ag: u32, slots: &mut Vec<Slot>) -> Result {
        if slots.iter().all(|slot| slot.valid) {
            return Ok(());
        }
        // Chunks are never given back, so a bitmap that calls theirs free is damaged as well.
        for marked in [true, false] {
            if !slots.iter().all(|slot| slot.valid) {
                self.search(ag, marked, slots)?;
            }
        }
        // Nothing better was found than what the entry says.
        let base = self.geometry().ag_base(ag);
        for slot in slots.iter_mut() {
            let block = base.plus(u64::from(slot.start));
            if !slot.valid && slot.checks && !self.claimed.any(block, CHUNK_BLOCKS) {
                self.claimed.set_run(block, CHUNK_BLOCKS);
                slot.valid = true;
            }
        }
        let last = slots.iter().rposition(|slot| slot.valid);
        for index in 0..last.map_or(0, |last| last.saturating_add(1)) {
            if slots.get(index).is_some_and(|slot| !slot.valid) {
                self.replace_chunk(ag, index, slots)?;
            }
        }
        // Group 0 has its first chunk in any case: the root directory is in it.
        if ag == 0 && last.is_none() {
            slots.truncate(1);
            if slots.is_empty() {
                slots.push(Slot {
                    start: 0,
                    mask: 0,
                    keyed: false,
                    checks: false,
                    valid: false,
                })?;
            }
            self.replace_chunk(ag, 0, slots)?;
        }
        Ok(())
    }

    /// Looks through the blocks of a group that are marked as used, or those that are not, for
    /// records of missing chunks.
    fn search(&mut self, ag: u32, used: bool, slots: &mut [Slot]) -> Result {
        let g = self.geometry();
        let base = g.ag_base(ag);
        let mut bitmap: Vec<u8> = Vec::new();
        bitmap.resize(BITMAP_WORDS * 8, 0xff)?;
        if self
            .read(base.plus(BITMAP_BLOCK).address(), &mut bitmap)
            .is_err()
        {
            bitmap.fill(0xff);
        }
        let mut bytes: Vec<u8> = Vec::new();
        bytes.resize(CHUNK_SIZE, 0)?;
        for start in (METADATA_BLOCKS..g.ag_blocks(ag)).step_by(usize_of(CHUNK_BLOCKS)) {
            let block = base.plus(start);
            let marked = bitmap
                .get(usize_of(start / 8))
                .is_some_and(|byte| byte >> (start % 8) & 0xf == 0xf);
            if marked != used
                || !self.is_data(block, CHUNK_BLOCKS)
                || self.claimed.any(block, CHUNK_BLOCKS)
                || self.read(block.address(), &mut bytes).is_err()
            {
                continue;
            }
            let Some((chunk, mask)) = self.chunk_in(ag, &bytes) else {
                continue;
            };
            let index = usize_of(u64::from(chunk));
            if slots.get(index).is_some_and(|slot| !slot.valid) {
                self.found_chunk(ag, chunk, (block, u32_of(start), mask), slots)?;
            }
        }
        Ok(())
    }

    /// The chunk whose sound records these bytes hold, and a mask of those with links.
    fn chunk_in(&self, ag: u32, bytes: &[u8]) -> Option<(u32, u64)> {
        let (mut chunk, mut mask) = (None, 0);
        for (slot, record) in bytes.chunks_exact(usize_of(RECORD_SIZE)).enumerate() {
            let Ok(record) = InodeRecord::read_from_bytes(record) else {
                continue;
            };
            let ino = Ino(record.ino.get());
            let sound = record.magic.get() == MAGIC
                && ino.ag() == ag
                && u64::from(ino.slot()) == u64_of(slot)
                && verify::inode_sum(&self.keys, &record) == record.checksum.get();
            if sound && *chunk.get_or_insert(ino.chunk()) == ino.chunk() {
                mask |= u64::from(record.nlink.get() != 0 || record.orphan.get() != 0) << slot;
            }
        }
        Some((chunk?, mask))
    }

    fn found_chunk(
        &mut self,
        ag: u32,
        chunk: u32,
        (block, start, mask): (Block, u32, u64),
        slots: &mut [Slot],
    ) -> Result {
        let Some(slot) = slots.get_mut(usize_of(u64::from(chunk))) else {
            return Ok(());
        };
        // The mask is believed as far as it goes; what it lacks is found by the records' step.
        let zero = u64::from(ag == 0 && chunk == 0);
        *slot = Slot {
            start,
            mask: if slot.mask == 0 { mask } else { slot.mask } | zero,
            keyed: true,
            checks: true,
            valid: true,
        };
        let mask = slot.mask;
        self.claimed.set_run(block, CHUNK_BLOCKS);
        if self.act(Action::ChunkFound { ag, chunk, block }) {
            self.put_entry(ag, chunk, start, mask)?;
        }
        Ok(())
    }

    /// Puts an empty chunk into the place of one that is lost.
    fn replace_chunk(&mut self, ag: u32, index: usize, slots: &mut [Slot]) -> Result {
        let chunk = u32_of(u64_of(index));
        let base = self.geometry().ag_base(ag);
        let Some(block) = self.allocate_chunk(ag)? else {
            self.act(Action::ChunkLeft { ag, chunk });
            return Ok(());
        };
        let start = u32_of(block.0 - base.0);
        let mask = u64::from(ag == 0 && chunk == 0);
        if !self.act(Action::ChunkReplaced { ag, chunk }) {
            return Ok(());
        }
        self.media
            .zero_through(block.address(), CHUNK_BLOCKS * BLOCK_SIZE);
        self.put_entry(ag, chunk, start, mask)?;
        if let Some(slot) = slots.get_mut(index) {
            *slot = Slot {
                start,
                mask,
                keyed: true,
                checks: true,
                valid: true,
            };
        }
        Ok(())
    }

    fn put_entry(&mut self, ag: u32, chunk: u32, start: u32, mask: u64) -> Result {
        let mut entry = ChunkEntry::new_zeroed();
        entry.start.set(start);
        entry.check.set(self.keys.chunk(ag, chunk, start));
        entry.mask.set(mask);
        let address = self.geometry().chunk_entry(ag, chunk);
        self.put(address, entry.as_bytes())
    }

    /// Four free blocks for a chunk of this group, claimed. Trees are not known yet: only what the
    /// bitmap calls free can be.
    fn allocate_chunk(&mut self, ag: u32) -> Result<Option<Block>> {
        let g = self.geometry();
        let base = g.ag_base(ag);
        let end = g.ag_blocks(ag);
        for start in (METADATA_BLOCKS..end).step_by(usize_of(CHUNK_BLOCKS)) {
            let block = base.plus(start);
            if !self.is_data(block, CHUNK_BLOCKS) || self.claimed.any(block, CHUNK_BLOCKS) {
                continue;
            }
            if self.marked(block, CHUNK_BLOCKS) {
                continue;
            }
            self.claimed.set_run(block, CHUNK_BLOCKS);
            return Ok(Some(block));
        }
        Ok(None)
    }

    /// Adds an empty chunk to the last group; returns the index of its first record.
    pub(super) fn add_chunk(&mut self) -> Result<Option<usize>> {
        let g = self.geometry();
        let ag = g.ag_count.saturating_sub(1);
        let chunk = self.table.chunks_in_group(ag);
        if chunk >= MAX_CHUNKS {
            return Ok(None);
        }
        let Some(block) = self.allocate_chunk(ag)? else {
            return Ok(None);
        };
        self.media
            .zero_through(block.address(), CHUNK_BLOCKS * BLOCK_SIZE);
        let start = u32_of(block.0 - g.ag_base(ag).0);
        self.put_entry(ag, chunk, start, 0)?;
        let address = g.ag_base(ag).address() + CHUNKS_OFFSET;
        self.put_u64(address, u64::from(chunk) + 1)?;
        let first = self.table.len();
        self.table.add_chunk(ag, chunk, block.0, 0)?;
        Ok(Some(first))
    }

    /// Marks a record as used or free, in the chunk's mask and in the table.
    pub(super) fn set_used(&mut self, index: usize, used: bool) -> Result {
        let ino = self.table.ino(index);
        let chunk = index / usize_of(u64::from(CHUNK_INODES));
        let Some((_, mask, _)) = self.table.chunk(chunk) else {
            return Ok(());
        };
        let bit = 1u64 << ino.slot();
        let mask = if used { mask | bit } else { mask & !bit };
        self.table.set_mask(chunk, mask);
        if let Some(entry) = self.table.get_mut(index) {
            entry.flags = if used { USED } else { 0 };
        }
        let zero = u64::from(ino.ag() == 0 && ino.chunk() == 0);
        let address = self.geometry().chunk_entry(ino.ag(), ino.chunk()) + CHUNK_MASK_OFFSET;
        self.put_u64(address, mask | zero)
    }
}
