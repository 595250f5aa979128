// SPDX-License-Identifier: GPL-2.0

//! The last step: bitmaps and counters, from what was claimed.
//!
//! # Hazard
//!
//! If a step before was refused, blocks may have owners that the repair did not get to know. Then
//! bits are only set and none is cleared: a block too many that is not free is no danger, one too
//! few is.

use super::{Action, Class, Repair};
use crate::engine::error::Result;
use crate::engine::format::ag::{
    BITMAP_BLOCK, BITMAP_WORDS, FREE_BLOCKS_OFFSET, USED_INODES_OFFSET,
};
use crate::engine::media::Media;
use crate::engine::types::{u64_of, usize_of, Block, BLOCK_SIZE};
use crate::platform::{yield_now, Vec};

/// Words of a bitmap in a block.
const WORDS: usize = (BLOCK_SIZE / 8) as usize;
/// Blocks whose bits are in one cache line.
const LINE: u64 = 512;
/// From so many changed words on a block is written in whole.
const MANY: usize = 64;

impl<M: Media> Repair<'_, M> {
    /// Whether one of these blocks of one group is marked as used on the medium, as it was when
    /// the repair began; true if that cannot be read.
    pub(super) fn marked(&mut self, block: Block, len: u64) -> bool {
        let g = self.geometry();
        (0..len).any(|n| {
            let Some((ag, relative)) = g.locate(block.plus(n)) else {
                return true;
            };
            let word = g.bitmap_word(ag, relative);
            let address = word & !(BLOCK_SIZE - 1);
            if self.marks.0 != address || self.marks.1.is_empty() {
                self.marks.0 = address;
                if self.marks.1.resize(usize_of(BLOCK_SIZE), 0).is_err()
                    || self.media.read(address, &mut self.marks.1).is_err()
                {
                    self.marks.1.fill(0xff);
                }
            }
            let byte = self
                .marks
                .1
                .get(usize_of(word - address + relative % 64 / 8));
            byte.is_none_or(|byte| byte >> (relative % 8) & 1 != 0)
        })
    }

    /// Whether the cache line of the bitmap with this block's bit calls a block free that is in use.
    pub(super) fn bitmap_lies(&mut self, block: Block) -> bool {
        let g = self.geometry();
        let Some((ag, relative)) = g.locate(block) else {
            return false;
        };
        let first = relative / LINE * LINE;
        if self.line.0 != (ag, first) {
            let base = g.ag_base(ag);
            let end = g.ag_blocks(ag).min(first + LINE);
            let lies = (first..end).any(|at| {
                let block = base.plus(at);
                self.claimed.get(block) && !self.marked(block, 1)
            });
            self.line = ((ag, first), lies);
        }
        self.line.1
    }

    /// Stores what differs. `all`: also clears what nothing uses.
    pub(super) fn space(&mut self, all: bool) -> Result {
        let count = self.geometry().ag_count;
        for ag in 0..count {
            self.observer
                .progress(Class::Space, u64::from(ag), u64::from(count));
            yield_now();
            let used = self.bitmap(ag, all)?;
            self.counters(ag, used, all)?;
        }
        if all && self.outcome.refused.is_none() {
            for block in core::mem::take(&mut self.unreadable).iter() {
                // Overwriting a block makes it readable again, for its next owner.
                if !self.claimed.get(*block) {
                    self.media.zero_through(block.address(), BLOCK_SIZE);
                }
            }
        }
        Ok(())
    }

    /// Compares and stores a group's bitmap; returns the number of used blocks.
    fn bitmap(&mut self, ag: u32, all: bool) -> Result<u64> {
        let g = self.geometry();
        let (base, blocks) = (g.ag_base(ag), g.ag_blocks(ag));
        let mut noted: Vec<u64> = Vec::new();
        let mut lost = 0u32;
        for number in 0..BITMAP_WORDS / WORDS {
            let mut bytes = [0u8; BLOCK_SIZE as usize];
            let block = base.plus(BITMAP_BLOCK + u64_of(number));
            if self.read(block.address(), &mut bytes).is_err() {
                lost |= 1 << number;
                bytes.fill(0);
            }
            for word in bytes.chunks_exact(8) {
                let word = word.first_chunk::<8>().copied().unwrap_or_default();
                noted.push(u64::from_le_bytes(word))?;
            }
        }
        let mut wanted: Vec<u64> = Vec::new();
        let (mut freed, mut marked, mut used, mut end) = (0, 0, 0, false);
        for (index, &noted) in noted.iter().enumerate() {
            let at = u64_of(index) * 64;
            let inside = match blocks.saturating_sub(at).min(64) {
                0 => 0,
                len => u64::MAX >> (64 - len),
            };
            let met = self.claimed.word(base.plus(at)) & inside;
            let kept = if all { met } else { met | noted & inside };
            freed += u64::from((noted & inside & !kept).count_ones());
            marked += u64::from((kept & !noted).count_ones());
            used += u64::from(kept.count_ones());
            end |= noted | inside != u64::MAX;
            wanted.push(kept | !inside)?;
        }
        if freed == 0 && marked == 0 && !end && lost == 0 {
            return Ok(used);
        }
        if all && !self.act(Action::BitmapCorrected { ag, freed, marked }) {
            return Ok(used);
        }
        let parts = noted.chunks(WORDS).zip(wanted.chunks(WORDS));
        for (number, (noted, wanted)) in parts.enumerate() {
            let address = base.plus(BITMAP_BLOCK + u64_of(number)).address();
            self.bitmap_block(address, noted, wanted, lost >> number & 1 != 0)?;
        }
        Ok(used)
    }

    fn bitmap_block(&mut self, address: u64, noted: &[u64], wanted: &[u64], lost: bool) -> Result {
        let pairs = || noted.iter().zip(wanted).enumerate();
        let changed = pairs()
            .filter(|(_, (noted, wanted))| noted != wanted)
            .count();
        if lost || changed > MANY {
            let mut bytes = [0u8; BLOCK_SIZE as usize];
            for (place, word) in bytes.chunks_exact_mut(8).zip(wanted) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            return self.put(address, &bytes);
        }
        for (index, (noted, wanted)) in pairs() {
            if noted != wanted {
                self.put_u64(address + u64_of(index) * 8, *wanted)?;
            }
        }
        Ok(())
    }

    fn counters(&mut self, ag: u32, used: u64, all: bool) -> Result {
        let g = self.geometry();
        let header = g.ag_base(ag).address();
        // Number 0 counts as used, but is not in the table.
        let inodes = self.table.used_in_group(ag) + u64::from(ag == 0);
        let free = g.ag_blocks(ag) - used;
        let mut wrong = false;
        for (offset, counted) in [(FREE_BLOCKS_OFFSET, free), (USED_INODES_OFFSET, inodes)] {
            let mut word = [0; 8];
            let readable = self.read(header + offset, &mut word).is_ok();
            wrong |= !readable || u64::from_le_bytes(word) != counted;
        }
        if wrong && (!all || self.act(Action::CountersCorrected { ag })) {
            self.put_u64(header + FREE_BLOCKS_OFFSET, free)?;
            self.put_u64(header + USED_INODES_OFFSET, inodes)?;
        }
        Ok(())
    }
}
