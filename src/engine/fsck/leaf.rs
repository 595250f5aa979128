// SPDX-License-Identifier: GPL-2.0

//! One leaf of a directory: its bitmap, its heap, its names.

use zerocopy::FromBytes;

use crate::engine::directory::hash_of;
use crate::engine::format::directory::{
    EntryHeader, LeafSpecific, BITMAP_OFFSET, ENTRY_HEADER, FINGERPRINTS_OFFSET, HEAP_OFFSET,
    OFFSETS_OFFSET, SLOTS,
};
use crate::engine::format::node::BlockHeader;
use crate::engine::media::Media;
use crate::engine::types::{u32_of, u64_of, usize_of, Ino};

use super::table::KNOWN;
use super::tree::Leaf;
use super::{Check, EntryFault, Issue, NodeFault};

/// An entry and its place.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) key: u64,
    pub(super) ino: Ino,
    pub(super) kind: u8,
    pub(super) name: &'a [u8],
    /// Bytes in the heap, with padding.
    pub(super) start: usize,
    pub(super) len: usize,
}

/// Which 8-byte units of the leaf belong to an entry.
#[derive(Default)]
pub(super) struct Heap([u64; 8]);

impl Heap {
    /// Takes units; false if one was taken.
    pub(super) fn take(&mut self, start: usize, len: usize) -> bool {
        let mut free = true;
        for unit in start / 8..(start + len) / 8 {
            if let Some(word) = self.0.get_mut(unit / 64) {
                free &= *word >> (unit % 64) & 1 == 0;
                *word |= 1 << (unit % 64);
            }
        }
        free
    }
}

impl<M: Media> Check<'_, M> {
    /// Checks a leaf of the directory at index `dir`; returns the number of its names.
    pub(super) fn directory_leaf(&mut self, dir: usize, ino: Ino, leaf: &Leaf<'_>) -> u64 {
        let block = leaf.block;
        let bitmap = bitmap(leaf.bytes);
        let used = bitmap.count_ones();
        if used == 0 || u64::from(used) != u64_of(leaf.count) {
            self.report(Issue::Node {
                ino,
                block,
                fault: NodeFault::Count,
            });
        }
        let mut heap = Heap::default();
        let mut live = 0;
        let mut damaged = false;
        for slot in (0..SLOTS).filter(|slot| bitmap >> slot & 1 != 0) {
            let number = u32_of(u64_of(slot));
            let fault = match entry(leaf.bytes, slot) {
                Some(entry) if heap.take(entry.start, entry.len) => {
                    live += entry.len;
                    self.entry(dir, leaf, slot, &entry, bitmap)
                }
                _ => {
                    damaged = true;
                    Some(EntryFault::Place)
                }
            };
            if let Some(fault) = fault {
                self.report(Issue::Entry {
                    dir: ino,
                    block,
                    slot: number,
                    fault,
                });
            }
        }
        if !damaged && !heap_adds_up(leaf.bytes, live, bitmap) {
            self.report(Issue::DirectoryHeap { dir: ino, block });
        }
        u64::from(used)
    }

    /// Checks one entry and counts its link; returns the first thing that is wrong with it.
    fn entry(
        &mut self,
        dir: usize,
        leaf: &Leaf<'_>,
        slot: usize,
        entry: &Entry<'_>,
        bitmap: u128,
    ) -> Option<EntryFault> {
        let target = self.table.index(entry.ino);
        if let Some(target) = target {
            self.link_found(dir, target, entry.ino);
        }
        if !possible(entry.name) {
            return Some(EntryFault::Name);
        }
        let hash = self.shape.hash.of(entry.name);
        if hash_of(entry.key) != hash {
            return Some(EntryFault::Hash);
        }
        if entry.key < leaf.low || entry.key >= leaf.high {
            return Some(EntryFault::Range);
        }
        let fingerprint = leaf.bytes.get(usize_of(FINGERPRINTS_OFFSET) + slot);
        if fingerprint.copied().map(u64::from) != Some(hash & 0xff) {
            return Some(EntryFault::Fingerprint);
        }
        for other in (0..slot).filter(|other| bitmap >> other & 1 != 0) {
            let Some(other) = self::entry(leaf.bytes, other) else {
                continue;
            };
            if other.key == entry.key {
                return Some(EntryFault::DuplicateKey);
            }
            if other.name == entry.name {
                return Some(EntryFault::DuplicateName);
            }
        }
        let Some(target) = target else {
            return Some(EntryFault::Target);
        };
        let known = self.table.get(target);
        (known.is(KNOWN) && known.kind != entry.kind).then_some(EntryFault::Kind)
    }
}

pub(super) fn bitmap(bytes: &[u8]) -> u128 {
    let bits = bytes
        .get(usize_of(BITMAP_OFFSET)..)
        .and_then(<[u8]>::first_chunk::<16>);
    bits.map_or(0, |bits| u128::from_le_bytes(*bits))
}

/// The entry in a slot, if it lies wholly within the heap.
pub(super) fn entry(bytes: &[u8], slot: usize) -> Option<Entry<'_>> {
    let at = usize_of(OFFSETS_OFFSET).checked_add(slot.checked_mul(2)?)?;
    let start = usize::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk::<2>()?));
    if start < usize_of(HEAP_OFFSET) || start % 8 != 0 {
        return None;
    }
    let (header, rest) = EntryHeader::read_from_prefix(bytes.get(start..)?).ok()?;
    let name = rest.get(..usize::from(header.name_len))?;
    let len = (usize_of(ENTRY_HEADER) + name.len()).next_multiple_of(8);
    if start + len > bytes.len() {
        return None;
    }
    Some(Entry {
        key: header.key.get(),
        ino: Ino(header.ino.get()),
        kind: header.kind,
        name,
        start,
        len,
    })
}

pub(super) fn possible(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}

/// Live and dead entries together fill the heap from its start to the end of the block.
pub(super) fn heap_adds_up(bytes: &[u8], live: usize, bitmap: u128) -> bool {
    let Ok((header, _)) = BlockHeader::read_from_prefix(bytes) else {
        return false;
    };
    let Ok(specific) = LeafSpecific::read_from_bytes(&header.specific) else {
        return false;
    };
    let start = usize::from(specific.heap_start.get());
    let dead = usize::from(specific.dead.get());
    let lowest = (0..SLOTS)
        .filter(|slot| bitmap >> slot & 1 != 0)
        .filter_map(|slot| entry(bytes, slot).map(|entry| entry.start));
    let within = lowest.min().is_none_or(|lowest| lowest >= start);
    within && start >= usize_of(HEAP_OFFSET) && start + live + dead == bytes.len()
}
