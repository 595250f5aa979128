// SPDX-License-Identifier: GPL-2.0

//! What a file may hold after a power cut.
//!
//! Bytes that calls wrote are durable when the call returns. Words stored through a mapping are not until they are flushed: each
//! such word may have its value, or any that it had since the last flush. And a call that has not returned may have done a part
//! of its work: some bytes, but a block that was published by it wholly or not at all.

use crate::call::pattern;
use crate::probe;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a block of the filesystem.
pub const BLOCK: u64 = 4096;
/// A 2 MiB page.
pub const HUGE: u64 = 2 << 20;

/// A call in flight: bytes of a range are as before it or as after it.
#[derive(Clone, Debug)]
struct Mixed {
    after: Vec<u8>,
    range: Range<usize>,
    /// Blocks of which all bytes in the range are as before, or all as after.
    whole: BTreeSet<u64>,
}

/// The content of a regular file. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct File {
    bytes: Arc<Vec<u8>>,
    /// Words that were stored through a mapping and not flushed since: values that they had.
    loose: Arc<BTreeMap<u64, BTreeSet<u64>>>,
    /// Blocks that have been written to. Others are holes or preallocated.
    written: Arc<BTreeSet<u64>>,
    /// Blocks whose pages somebody holds, or may have held, by key: what would take them away zeroes them in place instead.
    held: Arc<BTreeMap<String, Range<u64>>>,
    /// It may have 2 MiB pages, so which of its blocks are holes cannot be told: a store brings as many as 512, and what cannot
    /// be taken from a held page is zeroed in place.
    vague: bool,
    mixed: Option<Arc<Mixed>>,
}

impl File {
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// A word of the file, zeros past its end.
    fn word(&self, index: u64) -> u64 {
        let mut word = [0; 8];
        let at = (index * 8) as usize;
        for (to, from) in word
            .iter_mut()
            .zip(self.bytes.get(at..).unwrap_or_default())
        {
            *to = *from;
        }
        u64::from_le_bytes(word)
    }

    /// Sets the size. What lies past a smaller one is gone.
    pub fn truncate(&mut self, size: u64) {
        Arc::make_mut(&mut self.bytes).resize(size as usize, 0);
        Arc::make_mut(&mut self.written).retain(|b| *b < size.div_ceil(BLOCK));
        let loose = Arc::make_mut(&mut self.loose);
        let _past = loose.split_off(&size.div_ceil(8));
        if size % 8 != 0 {
            let keep = u64::MAX >> (64 - 8 * (size % 8));
            if let Some(values) = loose.get_mut(&(size / 8)) {
                *values = values.iter().map(|v| v & keep).collect();
            }
        }
    }

    /// Overwrites bytes, extending the file if need be; durable.
    pub fn write(&mut self, offset: u64, len: u64, byte: impl Fn(u64) -> u8) {
        let end = offset + len;
        let bytes = Arc::make_mut(&mut self.bytes);
        if bytes.len() < end as usize {
            bytes.resize(end as usize, 0);
        }
        for at in offset..end {
            bytes[at as usize] = byte(at);
        }
        Arc::make_mut(&mut self.written).extend(offset / BLOCK..end.div_ceil(BLOCK));
        self.settle(offset, end, &byte);
    }

    /// Words that are wholly inside are durable; of those at the edges the bytes inside are.
    fn settle(&mut self, offset: u64, end: u64, byte: &dyn Fn(u64) -> u8) {
        let loose = Arc::make_mut(&mut self.loose);
        let inside: Vec<u64> = loose
            .range(offset / 8..end.div_ceil(8))
            .map(|(w, _)| *w)
            .collect();
        for word in inside {
            let bytes = word * 8..word * 8 + 8;
            if offset <= bytes.start && bytes.end <= end {
                loose.remove(&word);
            } else if let Some(values) = loose.get_mut(&word) {
                let over = |value: &u64| {
                    let mut old = value.to_le_bytes();
                    for at in bytes.clone().filter(|at| (offset..end).contains(at)) {
                        old[(at - bytes.start) as usize] = byte(at);
                    }
                    u64::from_le_bytes(old)
                };
                *values = values.iter().map(over).collect();
            }
        }
    }

    /// Makes a hole: whole blocks of the range go, the edges become zeros. The size stays.
    pub fn punch(&mut self, offset: u64, len: u64) {
        let end = (offset + len).min(self.size());
        if offset < end {
            let bytes = Arc::make_mut(&mut self.bytes);
            bytes[offset as usize..end as usize].fill(0);
            self.settle(offset, end, &|_| 0);
        }
        let whole = offset.div_ceil(BLOCK)..(offset + len) / BLOCK;
        Arc::make_mut(&mut self.written).retain(|b| !whole.contains(b));
    }

    /// Makes a range read as zeros, and the file longer unless `keep`. Whole blocks that nobody holds become unwritten.
    pub fn zero(&mut self, offset: u64, len: u64, keep: bool) {
        let end = offset + len;
        if !keep && end > self.size() {
            self.truncate(end);
        }
        let inside = end.min(self.size());
        if offset < inside {
            let bytes = Arc::make_mut(&mut self.bytes);
            bytes[offset as usize..inside as usize].fill(0);
            self.settle(offset, inside, &|_| 0);
        }
        let whole = self.unheld(offset, len);
        Arc::make_mut(&mut self.written).retain(|b| !whole.contains(b));
    }

    /// Takes whole blocks out; what follows moves up.
    pub fn collapse(&mut self, offset: u64, len: u64) {
        let end = offset + len;
        Arc::make_mut(&mut self.bytes).drain(offset as usize..end as usize);
        let place = |unit: u64, at: u64| match at * unit {
            byte if byte < offset => Some(at),
            byte if byte < end => None,
            _ => Some(at - len / unit),
        };
        self.move_blocks(place);
    }

    /// Opens a hole of whole blocks; what follows moves on.
    pub fn insert(&mut self, offset: u64, len: u64) {
        let at = offset as usize;
        let hole = std::iter::repeat_n(0, len as usize);
        drop(Arc::make_mut(&mut self.bytes).splice(at..at, hole));
        let place = |unit: u64, at: u64| match at * unit < offset {
            true => Some(at),
            false => Some(at + len / unit),
        };
        self.move_blocks(place);
    }

    /// Gives what has a place in the file another one: `place` is told the bytes of a unit, and the unit's number.
    fn move_blocks(&mut self, place: impl Fn(u64, u64) -> Option<u64>) {
        let written = self.written.iter().filter_map(|b| place(BLOCK, *b));
        self.written = Arc::new(written.collect());
        let loose = self.loose.iter();
        let loose = loose.filter_map(|(w, values)| Some((place(8, *w)?, values.clone())));
        self.loose = Arc::new(loose.collect());
    }

    /// Somebody holds the pages of a range.
    pub fn hold(&mut self, key: &str, offset: u64, len: u64) {
        let huge = self.size() >= HUGE;
        self.vague |= huge;
        let grain = if huge { HUGE } else { BLOCK };
        let blocks = offset / grain * grain / BLOCK..(offset + len).next_multiple_of(grain) / BLOCK;
        Arc::make_mut(&mut self.held).insert(key.into(), blocks);
    }

    /// Nobody holds them any more.
    pub fn let_go(&mut self, key: &str) {
        Arc::make_mut(&mut self.held).remove(key);
    }

    /// The whole blocks of a range that nobody holds.
    fn unheld(&self, offset: u64, len: u64) -> BTreeSet<u64> {
        let whole = offset.div_ceil(BLOCK)..(offset + len) / BLOCK;
        let held = |block: &u64| self.held.values().any(|blocks| blocks.contains(block));
        whole.filter(|block| !held(block)).collect()
    }

    /// A store of a word through a mapping: not durable yet.
    pub fn store(&mut self, offset: u64, value: u64) {
        self.vague |= self.size() >= HUGE;
        let old = self.word(offset / 8);
        Arc::make_mut(&mut self.loose)
            .entry(offset / 8)
            .or_default()
            .insert(old);
        let at = offset as usize;
        Arc::make_mut(&mut self.bytes)[at..at + 8].copy_from_slice(&value.to_le_bytes());
        Arc::make_mut(&mut self.written).insert(offset / BLOCK);
    }

    /// The stores of a probe through a mapping.
    pub fn probe(&mut self) {
        for (offset, value, len) in probe::WORDS {
            let mut word = self.word(offset / 8).to_le_bytes();
            word[..len].copy_from_slice(&value.to_le_bytes()[..len]);
            self.store(offset, u64::from_le_bytes(word));
        }
    }

    /// What was stored to a range is durable now.
    pub fn flush(&mut self, range: Range<u64>) {
        Arc::make_mut(&mut self.loose).retain(|word, _| !range.contains(&(word * 8)));
    }

    #[cfg(test)]
    fn is_loose(&self) -> bool {
        !self.loose.is_empty()
    }

    /// The states in which a write that has not returned may leave the file; `found` is the size that is there.
    pub fn writing(&self, offset: u64, len: u64, fill: u64, found: u64) -> Vec<Self> {
        let (old, end) = (self.size(), offset + len);
        let inside = old.min(end);
        let mut before = self.clone();
        if offset < inside {
            let mut after = self.clone();
            after.write(offset, inside - offset, |at| pattern(fill, at));
            let blocks = offset / BLOCK..inside.div_ceil(BLOCK);
            before.mix(
                &after,
                offset..inside,
                blocks.filter(|b| !self.written.contains(b)).collect(),
            );
        }
        let mut states = vec![before];
        // A size that moved says that all bytes before it are there: it is published after them, block by block or at once.
        if old < found && found <= end && offset < found && (found == end || found % BLOCK == 0) {
            let mut extended = self.clone();
            extended.write(offset, found - offset, |at| pattern(fill, at));
            states.push(extended);
        }
        states
    }

    /// The state in which a punch that has not returned may leave the file.
    pub fn punching(&self, offset: u64, len: u64) -> Self {
        let mut after = self.clone();
        after.punch(offset, len);
        let mut state = self.clone();
        let end = (offset + len).min(self.size());
        if offset < end {
            let whole = offset.div_ceil(BLOCK)..(offset + len) / BLOCK;
            state.mix(&after, offset..end, whole.collect());
        }
        state
    }

    /// The states in which a zeroing that has not returned may leave the file; the size moves last.
    pub fn zeroing(&self, offset: u64, len: u64, keep: bool) -> Vec<Self> {
        let mut after = self.clone();
        after.zero(offset, len, keep);
        let mut before = self.clone();
        let end = (offset + len).min(self.size());
        if offset < end {
            before.mix(&after, offset..end, self.unheld(offset, len));
        }
        let mut states = vec![before];
        if after.size() > self.size() {
            // Where blocks behind the end are pending, the size has to move first, so that new ones can be told from them.
            if !self.held.is_empty() && offset < end {
                let mut longer = self.clone();
                longer.truncate(after.size());
                longer.mix(&after, offset..end, self.unheld(offset, len));
                states.push(longer);
            }
            states.push(after);
        }
        states
    }

    fn mix(&mut self, after: &Self, range: Range<u64>, mut whole: BTreeSet<u64>) {
        // Preallocated blocks may lie past the end of the file.
        whole.retain(|block| block * BLOCK < range.end && !self.vague);
        self.mixed = Some(Arc::new(Mixed {
            after: after.bytes.to_vec(),
            range: range.start as usize..range.end as usize,
            whole,
        }));
    }

    /// Whether `found` is what the file may hold; else says where it is not.
    pub fn allows(&self, found: &[u8]) -> Result<(), String> {
        if found.len() != self.bytes.len() {
            return Err(format!("{} bytes, not {}", found.len(), self.bytes.len()));
        }
        if *found == self.bytes[..] {
            return Ok(());
        }
        for (word, (is, should)) in found.chunks(8).zip(self.bytes.chunks(8)).enumerate() {
            if is != should && !self.allows_word(word, is, should) {
                let at = word * 8;
                return Err(format!(
                    "at byte {at} it holds {is:02x?}, not {should:02x?}{}",
                    self.also(word)
                ));
            }
        }
        self.allows_blocks(found)
    }

    fn also(&self, word: usize) -> String {
        match self.loose.get(&(word as u64)) {
            Some(values) => format!(" or one of {values:x?} of before the flush"),
            None => String::new(),
        }
    }

    fn allows_word(&self, word: usize, is: &[u8], should: &[u8]) -> bool {
        let mut value = [0; 8];
        value[..is.len()].copy_from_slice(is);
        if self
            .loose
            .get(&(word as u64))
            .is_some_and(|v| v.contains(&u64::from_le_bytes(value)))
        {
            return true;
        }
        let Some(mixed) = &self.mixed else {
            return false;
        };
        (0..is.len()).all(|i| {
            let at = word * 8 + i;
            is[i] == should[i] || (mixed.range.contains(&at) && is[i] == mixed.after[at])
        })
    }

    /// Whether a range holds what it held before the call that is in flight.
    fn is_before(&self, found: &[u8], range: Range<usize>) -> bool {
        let mut words = range.start / 8..range.end.div_ceil(8);
        words.all(|word| {
            let at = (word * 8).max(range.start)..(word * 8 + 8).min(range.end);
            let open = self.loose.get(&(word as u64)).into_iter().flatten();
            let inside = at.start - word * 8..at.end - word * 8;
            let mut values = open.map(|value| value.to_le_bytes());
            found[at.clone()] == self.bytes[at.clone()]
                || values.any(|value| value[inside.clone()] == found[at.clone()])
        })
    }

    fn allows_blocks(&self, found: &[u8]) -> Result<(), String> {
        let Some(mixed) = &self.mixed else {
            return Ok(());
        };
        for block in &mixed.whole {
            let from = (block * BLOCK) as usize;
            let range = from.max(mixed.range.start)..(from + BLOCK as usize).min(mixed.range.end);
            let is = &found[range.clone()];
            if !self.is_before(found, range.clone()) && *is != mixed.after[range.clone()] {
                return Err(format!(
                    "block {block} is published in part (bytes {range:?})"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(size: u64, fill: u64) -> Vec<u8> {
        (0..size).map(|at| pattern(fill, at)).collect()
    }

    fn file(size: u64) -> File {
        let mut f = File::default();
        f.write(0, size, |at| pattern(1, at));
        f
    }

    #[test]
    fn a_returned_write_is_there() {
        let f = file(5000);
        assert_eq!(f.allows(&bytes(5000, 1)), Ok(()));
        assert!(f.allows(&bytes(4999, 1)).is_err());
        assert!(f
            .allows(&bytes(5000, 2))
            .unwrap_err()
            .starts_with("at byte 0"));
    }

    #[test]
    fn an_append_is_there_up_to_a_block() {
        let f = file(5000);
        let mut longer = bytes(5000, 1);
        longer.extend((5000..8192).map(|at| pattern(2, at)));
        let fits = |found: &[u8]| {
            f.writing(5000, 5000, 2, found.len() as u64)
                .iter()
                .any(|s| s.allows(found).is_ok())
        };
        assert!(fits(&bytes(5000, 1)));
        assert!(fits(&longer));
        longer.push(pattern(2, 8192));
        assert!(!fits(&longer));
        longer.truncate(8192);
        longer[6000] = 0;
        assert!(!fits(&longer));
    }

    #[test]
    fn an_overwrite_may_be_mixed_but_a_new_block_not() {
        let mut f = file(4096);
        f.truncate(12288);
        let state = &f.writing(4000, 5000, 2, 12288)[0];
        let mut found = bytes(4096, 1);
        found.resize(12288, 0);
        assert_eq!(state.allows(&found), Ok(()));
        found[4010] = pattern(2, 4010);
        assert_eq!(state.allows(&found), Ok(()));
        found[3999] = 7;
        assert!(state.allows(&found).is_err());
        found[3999] = pattern(1, 3999);
        found[4096..4104]
            .copy_from_slice(&(4096..4104).map(|at| pattern(2, at)).collect::<Vec<_>>());
        assert!(state.allows(&found).unwrap_err().contains("in part"));
    }

    #[test]
    fn a_punch_may_reach_past_the_end() {
        let f = file(10_000);
        let state = f.punching(100, 50_000);
        let mut found = bytes(10_000, 1);
        assert_eq!(state.allows(&found), Ok(()));
        found[4096..8192].fill(0);
        found[200] = 0;
        assert_eq!(state.allows(&found), Ok(()));
        found[4096] = pattern(1, 4096);
        assert!(state.allows(&found).unwrap_err().contains("in part"));
    }

    #[test]
    fn a_block_with_open_stores_goes_as_a_whole_all_the_same() {
        let mut f = file(12_288);
        f.store(4104, 77);
        f.store(8192, 78);
        let state = f.punching(0, 12_288);
        // Of one block the store has not arrived, the next is gone.
        let mut found = bytes(12_288, 1);
        found[8192..].fill(0);
        assert_eq!(state.allows(&found), Ok(()));
        found[5000] = 0;
        assert!(state.allows(&found).unwrap_err().contains("in part"));
    }

    #[test]
    fn what_moves_takes_its_open_stores_along() {
        let mut f = file(20_000);
        f.store(8192 + 16, 77);
        f.collapse(4096, 4096);
        assert_eq!(f.size(), 20_000 - 4096);
        assert_eq!(f.word(514), 77);
        let mut found = bytes(20_000, 1);
        found.drain(4096..8192);
        assert_eq!(f.allows(&found), Ok(()));
        f.insert(0, 8192);
        let mut longer = vec![0; 8192];
        longer.extend(found);
        assert_eq!(f.allows(&longer), Ok(()));
        f.flush(0..u64::MAX);
        assert!(f.allows(&longer).is_err());
        assert!(!f.written.contains(&1) && f.written.contains(&2));
    }

    #[test]
    fn a_zeroing_goes_block_by_block_and_sets_the_size_last() {
        let mut f = file(10_000);
        let fits = |f: &File, found: &[u8]| {
            let states = f.zeroing(4000, 10_000, false);
            states.iter().any(|s| s.allows(found).is_ok())
        };
        let mut found = bytes(10_000, 1);
        found[4000..8192].fill(0);
        assert!(fits(&f, &found));
        found[5000] = pattern(1, 5000);
        assert!(!fits(&f, &found));
        // A held block is zeroed in place.
        f.hold("k", 4096, 100);
        assert!(fits(&f, &found));
        found[5000] = 0;
        found.resize(14_000, 0);
        f.let_go("k");
        assert!(!fits(&f, &found));
        found[8192..].fill(0);
        assert!(fits(&f, &found));
    }

    #[test]
    fn stores_are_open_until_a_flush() {
        let mut f = file(4096);
        f.store(8, 77);
        f.store(8, 78);
        let mut found = bytes(4096, 1);
        for value in [None, Some(77u64), Some(78)] {
            if let Some(value) = value {
                found[8..16].copy_from_slice(&value.to_le_bytes());
            }
            assert_eq!(f.allows(&found), Ok(()));
        }
        found[8] = 79;
        assert!(f.allows(&found).is_err());
        f.flush(0..64);
        found[8] = 77;
        assert!(f.allows(&found).is_err());
        assert!(!f.is_loose());
    }
}
