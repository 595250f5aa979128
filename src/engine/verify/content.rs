// SPDX-License-Identifier: GPL-2.0

//! What stands behind a checksum: whether a block's content makes sense.
//!
//! A right checksum says that the bytes are those that someone wrote. It does not say that whoever wrote them was right, or
//! meant well: an image may be made on purpose. So at the first use of a block its entries are looked at as well: that they
//! are in order and within the bounds that led to the block, that pointers lead into the data of groups and nowhere else,
//! that names are names.
//!
//! # Hazard
//!
//! A damaged extent that leads to block 0 turns a user's `mmap` into a window on the superblock, and his store into its
//! end. Nothing behind this check looks at an extent's block again before it is mapped.

use super::super::directory::{self, hash_of, NameHash, FIRST_COOKIE};
use super::super::format::directory::{
    BITMAP_OFFSET, ENTRY_HEADER, FINGERPRINTS_OFFSET, HEAP_OFFSET, OFFSETS_OFFSET, SLOTS,
};
use super::super::format::extent::{DiskExtent, Extent, LEAF_CAPACITY};
use super::super::format::node::{self, HEADER_SIZE, INDEX_CAPACITY};
use super::super::superblock::Geometry;
use super::super::types::*;
use zerocopy::FromBytes;

/// What is wrong; `None`: nothing.
type Fault = Option<&'static str>;

/// Bytes of an index entry and of an extent.
const ENTRY: usize = 16;
/// Offset of the header's words of a directory leaf.
const SPECIFIC_OFFSET: usize = 56;
/// The largest key that an entry can have, since its cookie is below 2^63.
const MAX_KEY: u64 = (1 << 63) - 1 - FIRST_COOKIE;

/// What the content of a block is judged by.
pub struct Rules<'a> {
    /// Where blocks may lie.
    pub geometry: &'a Geometry,
    /// How names are hashed.
    pub hash: &'a NameHash,
    /// Whether the blocks of a run are in use, as far as that is known without reading.
    pub in_use: &'a dyn Fn(Run) -> bool,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at.saturating_add(8));
    word.and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

fn half(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at.saturating_add(2)) {
        Some(&[low, high]) => usize::from(u16::from_le_bytes([low, high])),
        _ => 0,
    }
}

impl Rules<'_> {
    /// Judges a whole block of a kind, whose header and sum are right. `keys`: what may be in it, from and below.
    pub fn node(&self, magic: u32, bytes: &[u8], block: Block, keys: (u64, u64)) -> Fault {
        let count = half(bytes, 6);
        match magic {
            node::EXTENT_INDEX_MAGIC | node::DIRECTORY_INDEX_MAGIC => {
                self.index(bytes, count, block, keys)
            }
            node::EXTENT_LEAF_MAGIC => {
                if count == 0 || count > LEAF_CAPACITY {
                    return Some("count of an extent leaf");
                }
                let from = usize_of(HEADER_SIZE);
                let entries = bytes.get(from..from.saturating_add(count * ENTRY));
                self.extents(entries.unwrap_or(&[]), keys)
            }
            node::DIRECTORY_LEAF_MAGIC => self.names(bytes, count, keys),
            _ => None,
        }
    }

    fn index(&self, bytes: &[u8], count: usize, block: Block, (low, high): (u64, u64)) -> Fault {
        if count == 0 || count > INDEX_CAPACITY {
            return Some("count of an index node");
        }
        let entry = |n: usize| {
            let at = usize_of(HEADER_SIZE).saturating_add(n.saturating_mul(ENTRY));
            (word(bytes, at), word(bytes, at.saturating_add(8)))
        };
        let mut last = low;
        for n in 0..count {
            let (key, child) = entry(n);
            // The first key is not looked at: its bound is the parent's.
            if n > 0 && (key <= last || key >= high) {
                return Some("keys of an index node");
            }
            if n > 0 {
                last = key;
            }
            let run = Run {
                start: Block(child),
                len: 1,
            };
            if child == block.0 || self.geometry.locate_run(run).is_none() {
                return Some("child of an index node");
            }
            if (0..n).any(|before| entry(before).1 == child) {
                return Some("child of an index node, named twice");
            }
        }
        None
    }

    /// Judges extents in a row: the bytes of a leaf's, or of an inode's inline area.
    pub fn extents(&self, bytes: &[u8], (low, high): (u64, u64)) -> Fault {
        let mut end = low;
        for disk in bytes.chunks_exact(ENTRY) {
            let Ok(disk) = DiskExtent::read_from_bytes(disk) else {
                return Some("extent");
            };
            let extent = Extent::from_disk(&disk);
            let run = Run {
                start: extent.block,
                len: extent.len,
            };
            if extent.file_block.0 < end {
                return Some("order of extents");
            }
            end = extent.file_end().0;
            if extent.len == 0 || end > high.min(FileBlock::END.0) {
                return Some("length of an extent");
            }
            if self.geometry.locate_run(run).is_none() {
                return Some("extent outside the data of its group");
            }
            if !(self.in_use)(run) {
                return Some("extent of blocks that are marked as free");
            }
        }
        None
    }

    fn names(&self, bytes: &[u8], count: usize, keys: (u64, u64)) -> Fault {
        let (heap_start, dead) = (
            half(bytes, SPECIFIC_OFFSET),
            half(bytes, SPECIFIC_OFFSET + 2),
        );
        let bitmap = usize_of(BITMAP_OFFSET);
        let lives = [word(bytes, bitmap), word(bytes, bitmap + 8)];
        let used = lives[0].count_ones().saturating_add(lives[1].count_ones());
        if count == 0 || u64_of(count) != u64::from(used) {
            return Some("count of a directory leaf");
        }
        let mut heap = Heap([0; 8]);
        let mut live_bytes = 0usize;
        for slot in (0..SLOTS).filter(|slot| is_live(&lives, *slot)) {
            let at = half(bytes, usize_of(OFFSETS_OFFSET).saturating_add(slot * 2));
            if at < heap_start.max(usize_of(HEAP_OFFSET)) || at % 8 != 0 {
                return Some("entry of a directory leaf");
            }
            match self.name(bytes, slot, at, keys) {
                Ok(len) if heap.take(at, len) => live_bytes = live_bytes.saturating_add(len),
                Ok(_) => return Some("overlapping entries of a directory leaf"),
                Err(fault) => return Some(fault),
            }
        }
        let sum = heap_start.saturating_add(dead).saturating_add(live_bytes);
        if u64_of(sum) != BLOCK_SIZE || heap_start < usize_of(HEAP_OFFSET) {
            return Some("heap of a directory leaf");
        }
        self.distinct(bytes, &lives)
    }

    /// One entry; its bytes with padding.
    fn name(
        &self,
        bytes: &[u8],
        slot: usize,
        at: usize,
        (low, high): (u64, u64),
    ) -> Result<usize, &'static str> {
        let key = word(bytes, at);
        let Some((name, target)) = directory::leaf::entry_at(bytes, at) else {
            return Err("entry of a directory leaf");
        };
        if directory::check_name(name).is_err() {
            return Err("name in a directory leaf");
        }
        if key < low || key >= high || key > MAX_KEY || self.hash.of(name) != hash_of(key) {
            return Err("key of a name");
        }
        let print = bytes.get(usize_of(FINGERPRINTS_OFFSET).saturating_add(slot));
        if print.copied().map(u64::from) != Some(hash_of(key) & 0xff) {
            return Err("fingerprint of a name");
        }
        if target.ino.0 <= Ino::ROOT.0 || target.ino.ag() >= self.geometry.ag_count {
            return Err("inode of a name");
        }
        Ok(usize_of(ENTRY_HEADER)
            .saturating_add(name.len())
            .next_multiple_of(8))
    }

    /// No two entries have one key. That no two have one name follows only for those that a search compares, of one hash.
    fn distinct(&self, bytes: &[u8], lives: &[u64; 2]) -> Fault {
        let place = |slot: usize| half(bytes, usize_of(OFFSETS_OFFSET).saturating_add(slot * 2));
        let print = |slot: usize| {
            bytes
                .get(usize_of(FINGERPRINTS_OFFSET).saturating_add(slot))
                .copied()
        };
        for slot in (0..SLOTS).filter(|slot| is_live(lives, *slot)) {
            let (key, mine) = (word(bytes, place(slot)), print(slot));
            for before in 0..slot {
                if !is_live(lives, before) || print(before) != mine {
                    continue;
                }
                let other = word(bytes, place(before));
                if other == key {
                    return Some("two names of one key");
                }
                let name = |slot| directory::leaf::entry_at(bytes, place(slot)).map(|(n, _)| n);
                if hash_of(other) == hash_of(key) && name(before) == name(slot) {
                    return Some("one name twice");
                }
            }
        }
        None
    }
}

fn is_live(lives: &[u64; 2], slot: usize) -> bool {
    lives
        .get(slot / 64)
        .is_some_and(|word| word >> (slot % 64) & 1 == 1)
}

/// Which 8-byte units of a leaf belong to an entry.
struct Heap([u64; 8]);

impl Heap {
    /// Takes units; false if one was taken, or lies outside.
    fn take(&mut self, start: usize, len: usize) -> bool {
        let mut free = true;
        for unit in start / 8..start.saturating_add(len) / 8 {
            match self.0.get_mut(unit / 64) {
                Some(word) => {
                    free &= *word >> (unit % 64) & 1 == 0;
                    *word |= 1 << (unit % 64);
                }
                None => free = false,
            }
        }
        free
    }
}
