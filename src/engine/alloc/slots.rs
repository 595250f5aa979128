// SPDX-License-Identifier: GPL-2.0

//! The slot map: which blocks of a group can be handed out, counted by 2 MiB slots.
//!
//! Pure bookkeeping in memory, without locks and medium. A block is *taken* here while it is used on the medium, reserved by
//! a write in flight, freed but not yet applied, or quarantined.
//!
//! A slot that a growing file fills is *owned*: others leave it alone until nothing else is left, so that the file's next
//! piece lands where its offset says. Small requests share slots that are broken already, the fullest that fits first.

use super::super::error::Result;
use super::super::format::ag::BITMAP_WORDS;
use super::super::types::*;
use crate::platform::Vec;

const SLOT: u64 = SLOT_BLOCKS;
const SLOT_WORDS: usize = SLOT as usize / 64;

/// How hard a search may try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// Only places that the policy likes.
    Fitting,
    /// Any free run outside owned slots.
    Anywhere,
    /// Owned slots too.
    Broken,
}

/// The map of one group. Positions are relative to the group.
pub struct SlotMap {
    taken: Vec<u64>,
    free_in: Vec<u16>,
    owner: Vec<u64>,
    free: u64,
    /// Slots that are whole, so that a search passes over groups without any.
    whole: u64,
    /// Where the next small request continues: data, metadata.
    hints: [u64; 2],
}

/// Mask of bits `first..first + len` of a word; `first + len <= 64`, `len > 0`.
pub const fn mask(first: u64, len: u64) -> u64 {
    (u64::MAX >> (64 - len)) << first
}

/// Calls `f(word index, mask)` for each word of the bits `start..start + len`.
pub fn for_words(start: u64, len: u64, mut f: impl FnMut(usize, u64)) {
    let (mut at, end) = (start, start.saturating_add(len));
    while at < end {
        let bit = at % 64;
        let n = (64 - bit).min(end - at);
        f(usize_of(at / 64), mask(bit, n));
        at += n;
    }
}

impl SlotMap {
    /// The map for a group of `blocks` blocks whose bits on the medium are `bitmap`.
    pub fn new(bitmap: &[u64], blocks: u64) -> Result<Self> {
        let mut map = Self {
            taken: Vec::new(),
            free_in: Vec::new(),
            owner: Vec::new(),
            free: 0,
            whole: 0,
            hints: [0; 2],
        };
        map.taken.resize(BITMAP_WORDS, u64::MAX)?;
        map.free_in.resize(AG_SLOTS, 0)?;
        map.owner.resize(AG_SLOTS, 0)?;
        for_words(0, blocks.min(AG_BLOCKS), |i, m| {
            if let (Some(t), Some(b)) = (map.taken.get_mut(i), bitmap.get(i)) {
                *t = *b | !m;
            }
        });
        for (slot, words) in map.taken.chunks(SLOT_WORDS).enumerate() {
            let n: u32 = words.iter().map(|w| w.count_zeros()).sum();
            if let Some(f) = map.free_in.get_mut(slot) {
                *f = n as u16;
            }
            map.free += u64::from(n);
            map.whole += u64::from(u64::from(n) == SLOT);
        }
        Ok(map)
    }

    /// Blocks that can be handed out.
    pub fn free(&self) -> u64 {
        self.free
    }

    fn free_in(&self, slot: u64) -> u64 {
        self.free_in
            .get(usize_of(slot))
            .map_or(0, |n| u64::from(*n))
    }

    /// Whether all 512 blocks are free and nobody owns the slot.
    fn whole(&self, slot: u64) -> bool {
        self.free_in(slot) == SLOT && self.owner(slot) == 0
    }

    /// Whether some slot is whole.
    pub fn has_whole(&self) -> bool {
        self.whole > 0
    }

    /// The inode that fills this slot, or 0.
    pub fn owner(&self, slot: u64) -> u64 {
        self.owner.get(usize_of(slot)).copied().unwrap_or(0)
    }

    /// Makes `ino` (0: nobody) the owner.
    pub fn set_owner(&mut self, slot: u64, ino: u64) {
        let before = self.whole(slot);
        if let Some(o) = self.owner.get_mut(usize_of(slot)) {
            *o = ino;
        }
        self.whole = self.whole + u64::from(self.whole(slot)) - u64::from(before);
    }

    /// Whether all of the run is taken.
    pub fn all_taken(&self, start: u64, len: u64) -> bool {
        let mut all = true;
        for_words(start, len, |i, m| {
            all &= self.taken.get(i).is_some_and(|w| w & m == m)
        });
        all
    }

    /// Takes blocks out; those that are taken already stay so.
    pub fn take(&mut self, start: u64, len: u64) {
        self.change(start, len, true);
    }

    /// Makes blocks available again.
    pub fn give(&mut self, start: u64, len: u64) {
        self.change(start, len, false);
    }

    /// Makes the blocks of one word available that are set in `mask`.
    pub fn give_word(&mut self, word: usize, mask: u64) {
        self.change_word(word, mask, false);
    }

    fn change(&mut self, start: u64, len: u64, take: bool) {
        let (mut at, end) = (start, start.saturating_add(len));
        while at < end {
            if at % SLOT == 0 && end - at >= SLOT {
                self.change_slot(at / SLOT, take);
                at += SLOT;
                continue;
            }
            let n = (64 - at % 64).min(end - at);
            self.change_word(usize_of(at / 64), mask(at % 64, n), take);
            at += n;
        }
    }

    /// Takes all of a slot, or makes all of it available.
    fn change_slot(&mut self, slot: u64, take: bool) {
        let first = usize_of(slot) * SLOT_WORDS;
        let owned = self.owner(slot) != 0;
        let (Some(words), Some(f)) = (
            self.taken.get_mut(first..first + SLOT_WORDS),
            self.free_in.get_mut(usize_of(slot)),
        ) else {
            return;
        };
        let before = u64::from(*f);
        let after = if take { 0 } else { SLOT };
        words.fill(if take { u64::MAX } else { 0 });
        *f = after as u16;
        self.free = (self.free + after).saturating_sub(before);
        if !owned {
            self.whole = self.whole + u64::from(after == SLOT) - u64::from(before == SLOT);
        }
    }

    fn change_word(&mut self, index: usize, mask: u64, take: bool) {
        let slot = index / SLOT_WORDS;
        let (Some(w), Some(f)) = (self.taken.get_mut(index), self.free_in.get_mut(slot)) else {
            return;
        };
        let changed = if take { mask & !*w } else { mask & *w };
        *w ^= changed;
        let n = changed.count_ones();
        let was_full = u64::from(*f) == SLOT;
        if take {
            *f = f.saturating_sub(n as u16);
            self.free = self.free.saturating_sub(u64::from(n));
        } else {
            *f = f.saturating_add(n as u16);
            self.free = self.free.saturating_add(u64::from(n));
        }
        let is_full = u64::from(*f) == SLOT;
        if was_full != is_full && self.owner.get(slot).is_some_and(|o| *o == 0) {
            self.whole = self.whole + u64::from(is_full) - u64::from(was_full);
        }
    }

    /// Free blocks in a row from `start` on, at most `max`.
    pub fn run_at(&self, start: u64, max: u64) -> u64 {
        let mut n = 0;
        while n < max {
            let at = start + n;
            let Some(word) = self.taken.get(usize_of(at / 64)) else {
                break;
            };
            let bit = at % 64;
            let zeros = u64::from((word >> bit).trailing_zeros()).min(64 - bit);
            n += zeros;
            if zeros < 64 - bit {
                break;
            }
        }
        n.min(max)
    }

    /// The first free block in `from..end`.
    fn next_free(&self, from: u64, end: u64) -> Option<u64> {
        let mut at = from;
        while at < end {
            let word = !*self.taken.get(usize_of(at / 64))? >> (at % 64);
            if word != 0 {
                let found = at + u64::from(word.trailing_zeros());
                return (found < end).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }

    /// A free run of at least `want` in `from..end`, starting at a multiple of `align`; else `None`.
    fn find_in(&self, from: u64, end: u64, want: u64, align: u64) -> Option<u64> {
        let mut at = from;
        while let Some(start) = self.next_free(at, end) {
            let start = start.next_multiple_of(align);
            let n = self.run_at(start, want.min(end.saturating_sub(start)));
            if n >= want && n > 0 {
                return Some(start);
            }
            at = start + n + 1;
        }
        None
    }

    /// A place for `want` blocks in a shared slot. `kind` chooses the hint: 0 data, 1 metadata.
    pub fn find_small(
        &mut self,
        want: u64,
        align: u64,
        kind: usize,
        effort: Effort,
    ) -> Option<u64> {
        let hint = self.hints.get(kind).copied().unwrap_or(0);
        let slot = hint / SLOT;
        let end = (slot + 1) * SLOT;
        let usable = |m: &Self, s: u64| effort == Effort::Broken || m.owner(s) == 0;
        if hint > 0 && self.free_in(slot) >= want && usable(self, slot) {
            let found = self
                .find_in(hint, end, want, align)
                .or_else(|| self.find_in(slot * SLOT, end, want, align));
            if let Some(at) = found {
                self.remember(kind, at + want);
                return Some(at);
            }
        }
        // The fullest broken slot that fits; those that are free in too small pieces are passed over, a few times.
        let mut floor = (want, 0);
        let tries = if effort == Effort::Fitting {
            8
        } else {
            AG_SLOTS
        };
        for _ in 0..tries {
            let mut best: Option<(u64, u64)> = None;
            for s in 0..AG_SLOTS as u64 {
                let key = (self.free_in(s), s);
                if key >= floor && key.0 < SLOT && usable(self, s) && best.is_none_or(|b| key < b) {
                    best = Some(key);
                }
            }
            let Some((free, s)) = best else { break };
            if let Some(at) = self.find_in(s * SLOT, (s + 1) * SLOT, want, align) {
                self.remember(kind, at + want);
                return Some(at);
            }
            floor = (free, s + 1);
        }
        let s = (0..AG_SLOTS as u64).find(|&s| self.free_in(s) == SLOT && usable(self, s))?;
        self.remember(kind, s * SLOT + want);
        Some(s * SLOT)
    }

    fn remember(&mut self, kind: usize, at: u64) {
        if let Some(h) = self.hints.get_mut(kind) {
            *h = at;
        }
    }

    /// The longest free run outside owned slots (with [`Effort::Broken`]: anywhere), at most `max`: for when nothing fits.
    pub fn find_longest(&self, max: u64, effort: Effort) -> Option<(u64, u64)> {
        let mut best: Option<(u64, u64)> = None;
        for s in 0..AG_SLOTS as u64 {
            if self.free_in(s) == 0 || (effort != Effort::Broken && self.owner(s) != 0) {
                continue;
            }
            let end = (s + 1) * SLOT;
            let mut at = s * SLOT;
            while let Some(start) = self.next_free(at, end) {
                let n = self.run_at(start, max.min(end - start));
                if best.is_none_or(|(_, len)| n > len) {
                    best = Some((start, n));
                }
                if n >= max {
                    return best;
                }
                at = start + n;
            }
        }
        best
    }

    /// `count` whole slots in a row, else as many as there are in a row: first slot and number.
    pub fn find_whole(&self, count: u64) -> Option<(u64, u64)> {
        if self.whole == 0 {
            return None;
        }
        let (mut best, mut start, mut n) = (None, 0, 0);
        for s in 0..AG_SLOTS as u64 {
            if self.whole(s) {
                if n == 0 {
                    start = s;
                }
                n += 1;
                if best.is_none_or(|(_, most)| n > most) {
                    best = Some((start, n));
                }
                if n >= count {
                    return best;
                }
            } else {
                n = 0;
            }
        }
        best
    }

    /// How many whole slots follow from `slot` on, at most `max`.
    pub fn whole_from(&self, slot: u64, max: u64) -> u64 {
        (slot..slot.saturating_add(max))
            .take_while(|s| self.whole(*s))
            .count() as u64
    }

    /// Blocks of a slot that can be handed out.
    pub fn free_blocks_in(&self, slot: u64) -> u64 {
        self.free_in(slot)
    }

    /// Whether a slot is partly used.
    pub fn is_broken(&self, slot: u64) -> bool {
        self.free_in(slot) < SLOT
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    fn empty() -> SlotMap {
        SlotMap::new(&[0; BITMAP_WORDS], AG_BLOCKS).unwrap()
    }

    #[test]
    fn the_fullest_slot_that_fits_comes_first() {
        let mut m = empty();
        m.take(0, 512);
        m.take(512, 500); // slot 1: 12 free
        m.take(1024, 400); // slot 2: 112 free
        assert_eq!(m.find_small(20, 1, 0, Effort::Fitting), Some(1424));
        assert_eq!(m.find_small(4, 1, 1, Effort::Fitting), Some(1012));
        m.set_owner(1, 77);
        let mut other = empty();
        other.take(0, 512);
        other.take(512, 10);
        other.set_owner(1, 77);
        assert_eq!(
            other.find_small(4, 1, 0, Effort::Fitting),
            Some(1024),
            "an owned slot is left alone"
        );
    }

    #[test]
    fn a_short_group_has_no_blocks_past_its_end() {
        let m = SlotMap::new(&[0; BITMAP_WORDS], 1030).unwrap();
        assert_eq!(m.free(), 1030);
        assert_eq!(m.find_whole(3), Some((0, 2)));
        assert_eq!(m.run_at(1024, 100), 6);
    }

    proptest! {
        #[test]
        fn counts_agree_with_the_bits(ops in prop::collection::vec((0u64..4000, 1u64..700, any::<bool>()), 1..60)) {
            let mut m = empty();
            let mut model = vec![false; 5000];
            for (start, len, take) in ops {
                if take { m.take(start, len) } else { m.give(start, len) }
                m.set_owner(start / 512, len % 3);
                for b in &mut model[start as usize..(start + len) as usize] { *b = take; }
            }
            let taken = model.iter().filter(|t| **t).count() as u64;
            prop_assert_eq!(m.free(), AG_BLOCKS - taken);
            for s in 0..9 {
                let free = model[s * 512..(s + 1) * 512].iter().filter(|t| !**t).count() as u64;
                prop_assert_eq!(m.free_in(s as u64), free);
            }
            prop_assert_eq!(m.whole, (0..512).filter(|s| m.whole(*s)).count() as u64);
            for want in [1u64, 3, 15] {
                if let Some(at) = m.find_small(want, 1, 0, Effort::Anywhere) {
                    prop_assert!(m.run_at(at, want) == want);
                    prop_assert!((at..at + want).all(|b| b >= 5000 || !model[b as usize]));
                }
            }
        }
    }
}
