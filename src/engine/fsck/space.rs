// SPDX-License-Identifier: GPL-2.0

//! The last pass: bitmaps and counters against the blocks that the others met.
//!
//! Bitmaps have no checksum (see `format/ag.rs`), so this comparison is all that vouches for them.

use crate::engine::error::Result;
use crate::engine::format::ag::{
    BITMAP_BLOCK, BITMAP_WORDS, FREE_BLOCKS_OFFSET, USED_INODES_OFFSET,
};
use crate::engine::media::Media;
use crate::engine::types::{u64_of, Block};
use crate::platform::{yield_now, Vec};

use super::{Check, Issue, Stage};

/// Joins neighbouring blocks with the same fault into one issue.
#[derive(Default)]
struct Run {
    start: u64,
    len: u64,
}

impl Run {
    /// Adds a block; returns the run before it if it does not continue that.
    fn add(&mut self, block: u64) -> Option<(Block, u64)> {
        if self.len != 0 && self.start + self.len == block {
            self.len += 1;
            return None;
        }
        let done = self.take();
        *self = Self {
            start: block,
            len: 1,
        };
        done
    }

    fn take(&mut self) -> Option<(Block, u64)> {
        let done = (self.len != 0).then_some((Block(self.start), self.len));
        self.len = 0;
        done
    }
}

impl<M: Media> Check<'_, M> {
    /// Compares every group's bitmap and counters.
    pub(super) fn space(&mut self) -> Result {
        let mut bytes: Vec<u8> = Vec::new();
        bytes.resize(BITMAP_WORDS * 8, 0)?;
        let count = self.shape.ag_count;
        for ag in 0..count {
            self.observer
                .progress(Stage::Space, u64::from(ag), u64::from(count));
            yield_now();
            let first = self.shape.ag_first(ag);
            if self
                .media
                .read(Block(first + BITMAP_BLOCK).address(), &mut bytes)
                .is_err()
            {
                self.report(Issue::GroupHeader {
                    ag,
                    fault: "the bitmap cannot be read",
                });
                continue;
            }
            let used = self.bitmap(ag, &bytes);
            self.summary.used += used;
            self.counters(ag, used);
        }
        self.observer
            .progress(Stage::Space, u64::from(count), u64::from(count));
        Ok(())
    }

    /// Compares a bitmap; returns the number of its set bits.
    fn bitmap(&mut self, ag: u32, bytes: &[u8]) -> u64 {
        let first = self.shape.ag_first(ag);
        let blocks = self.shape.ag_len(ag);
        let (mut leaked, mut unmarked) = (Run::default(), Run::default());
        let (mut used, mut whole) = (0, true);
        for (index, word) in bytes.chunks_exact(8).enumerate() {
            let at = u64_of(index) * 64;
            let noted = word
                .first_chunk::<8>()
                .map_or(0, |w| u64::from_le_bytes(*w));
            if at >= blocks {
                // All that a short group has: most of the bitmap.
                whole &= noted == u64::MAX;
                continue;
            }
            let inside = u64::MAX >> (64 - (blocks - at).min(64));
            whole &= noted | inside == u64::MAX;
            let noted = noted & inside;
            let met = self.claimed.word(Block(first + at)) & inside;
            used += u64::from(noted.count_ones());
            let mut wrong = noted ^ met;
            while wrong != 0 {
                let bit = wrong.trailing_zeros();
                wrong &= wrong - 1;
                let block = first + at + u64::from(bit);
                if noted >> bit & 1 != 0 {
                    if let Some((start, len)) = leaked.add(block) {
                        self.report(Issue::BlocksLeaked { start, len });
                    }
                } else if let Some((start, len)) = unmarked.add(block) {
                    self.report(Issue::BlocksNotMarked { start, len });
                }
            }
        }
        if let Some((start, len)) = leaked.take() {
            self.report(Issue::BlocksLeaked { start, len });
        }
        if let Some((start, len)) = unmarked.take() {
            self.report(Issue::BlocksNotMarked { start, len });
        }
        if !whole {
            self.report(Issue::BitmapEnd { ag });
        }
        used
    }

    /// The counters are absolutes that are written at a checkpoint: right after an unmount.
    fn counters(&mut self, ag: u32, used: u64) {
        if !self.options.unmounted {
            return;
        }
        let header = Block(self.shape.ag_first(ag)).address();
        let counted = self.shape.ag_len(ag) - used;
        let stored = self
            .media
            .read_u64(header + FREE_BLOCKS_OFFSET)
            .unwrap_or(u64::MAX);
        if stored != counted {
            self.report(Issue::GroupFreeBlocks {
                ag,
                stored,
                counted,
            });
        }
        // Number 0 counts as used, but is not in the table.
        let counted = self.table.used_in_group(ag) + u64::from(ag == 0);
        let stored = self
            .media
            .read_u64(header + USED_INODES_OFFSET)
            .unwrap_or(u64::MAX);
        if stored != counted {
            self.report(Issue::GroupUsedInodes {
                ag,
                stored,
                counted,
            });
        }
    }
}
