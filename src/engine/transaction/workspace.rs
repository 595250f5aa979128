// SPDX-License-Identifier: GPL-2.0

//! The memory of a transaction: the record that is being put together, and what to undo if it is dropped.
//!
//! Entries are collected right where the record will be written from. A small filter over block addresses tells reads that
//! touch nothing of this transaction, which are most, from those that have to look through its entries.

use super::{Touched, Undo, BUFFER_WORDS};
use crate::engine::error::{Error, Result};
use crate::engine::format::journal::*;
use crate::engine::types::*;
use crate::platform::Vec;
use zerocopy::IntoBytes;

/// The memory of a transaction; pooled.
#[derive(Default)]
pub struct Workspace {
    pub(super) words: Vec<u64>,
    pub(super) used: usize,
    /// One bit for each block address, hashed, that an entry touches.
    pub(super) bloom: u64,
    pub(super) objects: Vec<Touched>,
    /// Objects whose checksum still wants two words.
    pub(super) pending: usize,
    pub(super) undo: Vec<Undo>,
    pub(super) freed_slots: Vec<u32>,
    pub(super) quarantined: usize,
    /// Where the last entry of bits begins; 0: there is none.
    pub(super) last_bits: usize,
    pub(super) data: bool,
}

impl Workspace {
    pub(super) fn reset(&mut self) {
        self.used = RECORD_HEADER_WORDS;
        self.bloom = 0;
        self.pending = 0;
        self.quarantined = 0;
        self.last_bits = 0;
        self.data = false;
        self.objects.clear();
        self.undo.clear();
        self.freed_slots.clear();
    }

    /// Whether it is worth keeping.
    pub fn is_small(&self) -> bool {
        self.words.len() <= BUFFER_WORDS
    }

    /// Makes sure that `n` words can be appended, and all pending checksums after them.
    pub(super) fn room(&mut self, n: usize) -> Result {
        let need = self.used + n + 2 * self.pending;
        if need > MAX_RECORD_WORDS {
            return Err(Error::TooLarge);
        }
        if need > self.words.len() {
            let target = need
                .next_power_of_two()
                .clamp(BUFFER_WORDS, MAX_RECORD_WORDS);
            self.words.resize(target, 0)?;
        }
        Ok(())
    }

    pub(super) fn put(&mut self, at: usize, word: u64) {
        if let Some(w) = self.words.get_mut(at) {
            *w = word;
        }
    }

    pub(super) fn or(&mut self, at: usize, mask: u64) {
        if let Some(w) = self.words.get_mut(at) {
            *w |= mask;
        }
    }

    pub(super) fn get(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or(0)
    }

    pub(super) fn touch(&mut self, address: u64, len: u64) {
        self.bloom |= bloom(address, len);
    }

    /// Calls `f(position of the head, head)` for each entry below position `end`.
    pub(super) fn entries(&self, end: usize, mut f: impl FnMut(usize, Head)) {
        let mut at = RECORD_HEADER_WORDS;
        while at < end {
            let head = Head::unpack(self.get(at));
            f(at, head);
            at += 1 + head.content_words();
        }
    }

    /// Lays what entries below `end` write over `buffer`, which was read from `address`.
    pub(super) fn overlay(&self, end: usize, address: u64, buffer: &mut [u8]) {
        let last = address + buffer.len() as u64;
        self.entries(end, |at, head| {
            let (low, high) = (head.address, head.address + head.length as u64 * 8);
            if !matches!(head.kind, WRITE | ZERO) || high <= address || low >= last {
                return;
            }
            let (from, to) = (low.max(address), high.min(last));
            let Some(target) = buffer.get_mut(usize_of(from - address)..usize_of(to - address))
            else {
                return;
            };
            if head.kind == ZERO {
                target.fill(0);
                return;
            }
            let content = self.words.get(at + 1..at + 1 + head.length).unwrap_or(&[]);
            if let Some(source) = content
                .as_bytes()
                .get(usize_of(from - low)..usize_of(to - low))
            {
                target.copy_from_slice(source);
            }
        });
    }

    /// The position of the word for `address` in the one WRITE entry that is the last to touch these `n` words and has all
    /// of them, 0 if there is none; and whether any entry touches them.
    pub(super) fn covering(&self, end: usize, address: u64, n: usize) -> (usize, bool) {
        let last = address + n as u64 * 8;
        let (mut found, mut touched) = (0, false);
        self.entries(end, |at, head| {
            let (low, high) = (head.address, head.address + head.length as u64 * 8);
            if !matches!(head.kind, WRITE | ZERO) || high <= address || low >= last {
                return;
            }
            touched = true;
            found = if head.kind == WRITE && low <= address && high >= last {
                at + 1 + usize_of((address - low) / 8)
            } else {
                0
            };
        });
        (found, touched)
    }
}

/// The word `old`, which lies `from` bytes behind the start of a range, with the bytes that go `skip` behind that start.
pub(super) fn patched(old: u64, from: usize, skip: usize, bytes: &[u8]) -> u64 {
    let mut word = old.to_le_bytes();
    for (b, byte) in word.iter_mut().enumerate() {
        if let Some(new) = (from + b).checked_sub(skip).and_then(|p| bytes.get(p)) {
            *byte = *new;
        }
    }
    u64::from_le_bytes(word)
}

/// The filter's bits for a range.
pub(super) fn bloom(address: u64, len: u64) -> u64 {
    let (first, last) = (
        address >> BLOCK_SHIFT,
        (address + len.max(1) - 1) >> BLOCK_SHIFT,
    );
    if last - first > 1 {
        return u64::MAX;
    }
    bloom_bit(first) | bloom_bit(last)
}

/// The filter's bit for a block.
#[inline]
pub(super) const fn bloom_bit(block: u64) -> u64 {
    1 << (block.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}
