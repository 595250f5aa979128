// SPDX-License-Identifier: GPL-2.0

//! One bit a block of the device: the check's memory.

use crate::engine::error::Result;
use crate::engine::types::{u64_of, usize_of, Block};
use crate::platform::Vec;

/// Bits 0 to `len`, all clear at first. Bits outside are never set.
pub(super) struct Bitmap {
    words: Vec<u64>,
    len: u64,
}

impl Bitmap {
    /// `len` clear bits: 32 MiB for a device of 1 TiB.
    pub(super) fn new(len: u64) -> Result<Self> {
        let mut words = Vec::new();
        words.resize(usize_of(len.div_ceil(64)), 0)?;
        Ok(Self { words, len })
    }

    /// Sets a bit; says whether it was clear.
    pub(super) fn set(&mut self, block: Block) -> bool {
        if block.0 >= self.len {
            return false;
        }
        let bit = 1u64 << (block.0 & 63);
        match self.words.get_mut(usize_of(block.0 >> 6)) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Whether a bit is set.
    pub(super) fn get(&self, block: Block) -> bool {
        let word = self.words.get(usize_of(block.0 >> 6));
        word.is_some_and(|word| word >> (block.0 & 63) & 1 != 0)
    }

    /// Sets `len` bits; returns the first one that was set before.
    pub(super) fn set_run(&mut self, start: Block, len: u64) -> Option<Block> {
        let mut first = None;
        let mut at = start.0;
        let end = start.0.saturating_add(len).min(self.len);
        while at < end {
            let take = (64 - (at & 63)).min(end - at);
            let mask = (u64::MAX >> (64 - take)) << (at & 63);
            if let Some(word) = self.words.get_mut(usize_of(at >> 6)) {
                let before = *word & mask;
                if before != 0 && first.is_none() {
                    first = Some(Block((at & !63) | u64::from(before.trailing_zeros())));
                }
                *word |= mask;
            }
            at += take;
        }
        first
    }

    /// Clears a bit; says whether it was set.
    pub(super) fn clear(&mut self, block: Block) -> bool {
        let bit = 1u64 << (block.0 & 63);
        match self.words.get_mut(usize_of(block.0 >> 6)) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                true
            }
            _ => false,
        }
    }

    /// Whether any of `len` bits is set.
    pub(super) fn any(&self, start: Block, len: u64) -> bool {
        self.run_of(start, len, false) != len
    }

    /// How many of `len` bits from `start` on have this value, up to the first that has the other.
    pub(super) fn run_of(&self, start: Block, len: u64, value: bool) -> u64 {
        let mut at = 0;
        while at < len {
            let word = self.word(start.plus(at));
            let other = if value { !word } else { word };
            let same = u64::from(other.trailing_zeros());
            at += same;
            if same < 64 {
                break;
            }
        }
        at.min(len)
    }

    /// A copy.
    pub(super) fn copy(&self) -> Result<Self> {
        let mut words = Vec::new();
        words.extend_from_slice(&self.words)?;
        Ok(Self {
            words,
            len: self.len,
        })
    }

    /// The 64 bits from `start` on, which may be any bit; those outside are 0.
    pub(super) fn word(&self, start: Block) -> u64 {
        let index = usize_of(start.0 >> 6);
        let shift = start.0 & 63;
        let at = |index| self.words.get(index).copied().unwrap_or(0);
        if shift == 0 {
            at(index)
        } else {
            at(index) >> shift | at(index.saturating_add(1)) << (64 - shift)
        }
    }

    /// How many bits are set.
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.words
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> u64 {
        8 * u64_of(self.words.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_words() {
        let mut map = Bitmap::new(1000).unwrap();
        assert_eq!(map.set_run(Block(60), 200), None);
        assert_eq!(map.count(), 200);
        assert!(!map.get(Block(59)) && map.get(Block(60)));
        assert!(map.get(Block(259)) && !map.get(Block(260)));
        assert_eq!(map.set_run(Block(0), 61), Some(Block(60)));
        assert!(!map.set(Block(70)) && map.set(Block(999)) && !map.set(Block(1000)));
        assert_eq!(map.word(Block(258)), 0b11);
        assert_eq!(map.word(Block(990)), 1 << 9);
        assert_eq!(map.set_run(Block(990), u64::MAX), Some(Block(999)));
        assert!(map.memory() >= 125);
        assert_eq!(map.run_of(Block(60), 500, true), 200);
        assert_eq!(map.run_of(Block(260), 500, false), 500);
        assert_eq!(map.run_of(Block(260), 5000, false), 730);
        assert!(map.any(Block(250), 64) && !map.any(Block(260), 64));
        assert!(map.clear(Block(70)) && !map.clear(Block(70)));
        assert_eq!(map.run_of(Block(60), 500, true), 10);
    }
}
