// SPDX-License-Identifier: GPL-2.0

//! Directory leaves: a bitmap of slots, a fingerprint and an offset for each, a heap of entries.
//!
//! Why so: an insertion touches the entry, one word each of offsets and fingerprints, and the header's and bitmap's words,
//! which share a cache line. A sorted array would move half a leaf for each name, and each byte moved is journalled.
//!
//! # Hazard
//!
//! Entries have no order and the heap has holes where entries were removed. A leaf whose offsets are believed blindly
//! leads outside the block: every offset is checked against the heap's bounds before use, also in a leaf whose checksum
//! was right, since a checksum says that the bytes are those that were written, and not that they make sense.

use super::{hash_of, key_of, Target};
use crate::engine::btree::{self, Draft, Leaf, Reader, Tree};
use crate::engine::error::{Error, Result};
use crate::engine::format::directory::{
    BITMAP_OFFSET, ENTRY_HEADER, FINGERPRINTS_OFFSET, HEAP_OFFSET, OFFSETS_OFFSET, SLOTS,
};
use crate::engine::media::Media;
use crate::engine::transaction::Transaction;
use crate::engine::types::{u64_of, usize_of, Block, FileKind, Ino, BLOCK_SIZE, MAX_NAME};
use crate::platform::Vec;
use zerocopy::IntoBytes;

/// Offset of the header's words of a leaf: `heap_start` and `dead`.
const SPECIFIC_OFFSET: u64 = 56;
/// Header and bitmap as they are read and written at once.
const HEAD_BYTES: usize = FINGERPRINTS_OFFSET as usize;
/// Bytes of an entry with the longest name.
const LONGEST_ENTRY: usize = entry_size(MAX_NAME);
/// Bytes of an entry that is put together in a small place.
const SHORT_ENTRY: usize = 64;
/// Bytes of a leaf.
const LEAF: usize = 4096;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The byte of a hash by which slots are searched.
fn fingerprint(hash: u64) -> u8 {
    (hash & 0xff) as u8
}

/// Bytes of an entry with this name.
const fn entry_size(name_len: usize) -> usize {
    (name_len + ENTRY_HEADER as usize).next_multiple_of(8)
}

/// An entry that was found.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Where it leads.
    pub target: Target,
    slot: usize,
    offset: u64,
    name_len: usize,
    /// The word with length, kind and the first bytes of the name.
    third: u64,
}

/// What a search leaves behind for the change that follows it.
pub struct Found {
    /// The entry of this name.
    pub entry: Option<Entry>,
    /// A collision number that no name of this hash has.
    pub collision: u64,
    heap_start: usize,
    dead: usize,
    bitmap: [u64; 2],
    /// Header and bitmap.
    head: [u8; HEAD_BYTES],
    /// The first free slot; [`SLOTS`]: none.
    free: usize,
    /// The word of fingerprints that the first free slot is in.
    free_word: u64,
}

/// A word of a byte array; 0 outside.
fn word_in(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(from) = bytes.get(at..at.saturating_add(8)) {
        word.copy_from_slice(from);
    }
    u64::from_le_bytes(word)
}

/// A half-word of a byte array; 0 outside.
fn half_in(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at.saturating_add(2)) {
        Some(&[low, high]) => u16::from_le_bytes([low, high]),
        _ => 0,
    }
}

/// The leaf's specific word, as numbers: start of the heap, dead bytes.
fn specific(leaf: Block, word: u64) -> Result<(usize, usize)> {
    let heap_start = usize_of(word & 0xffff);
    let dead = usize_of((word >> 16) & 0xffff);
    if heap_start < usize_of(HEAP_OFFSET) || heap_start > LEAF || heap_start % 8 != 0 || dead > LEAF
    {
        return Err(Error::corrupt("heap of a directory leaf", leaf.address()));
    }
    Ok((heap_start, dead))
}

/// The reverse of [`specific`].
fn specific_word(heap_start: usize, dead: usize) -> u64 {
    u64_of(heap_start) | (u64_of(dead) << 16)
}

/// Makes an empty leaf.
pub fn create<M: Media>(
    tx: &mut Transaction<'_, M>,
    tree: &mut Tree,
    near: Block,
) -> Result<Block> {
    let leaf = btree::new_node(tx, tree, 0, near)?;
    btree::update(
        tx,
        leaf,
        SPECIFIC_OFFSET,
        &specific_word(LEAF, 0).to_le_bytes(),
    )?;
    Ok(leaf)
}

/// Offset of a slot's entry, checked against the heap.
fn offset_of<R: Reader>(reader: &R, leaf: Block, slot: usize, heap_start: usize) -> Result<u64> {
    let at = OFFSETS_OFFSET + u64_of(slot & !3) * 2;
    let word = reader.word(leaf.address() + at)?;
    let offset = (word >> ((slot & 3) * 16)) & 0xffff;
    if offset < u64_of(heap_start) || offset % 8 != 0 || offset + 24 > BLOCK_SIZE {
        return Err(Error::corrupt("entry of a directory leaf", leaf.address()));
    }
    Ok(offset)
}

impl Default for Found {
    /// Before a search: nothing.
    #[inline]
    fn default() -> Self {
        Self {
            entry: None,
            collision: 0,
            heap_start: 0,
            dead: 0,
            bitmap: [0; 2],
            head: [0; HEAD_BYTES],
            free: SLOTS,
            free_word: 0,
        }
    }
}

/// Searches a leaf for a name. `found` is new; it is large, so it is filled in its place.
pub fn find<R: Reader>(
    reader: &R,
    leaf: Block,
    hash: u64,
    name: &[u8],
    found: &mut Found,
) -> Result {
    reader.bytes(leaf.address(), &mut found.head)?;
    let mut prints = [0u64; SLOTS / 8];
    let at = leaf.address() + FINGERPRINTS_OFFSET;
    reader.bytes(at, prints.as_mut_bytes())?;
    let prints = prints.map(u64::from_le);
    let word = word_in(&found.head, usize_of(SPECIFIC_OFFSET));
    (found.heap_start, found.dead) = specific(leaf, word)?;
    let at = usize_of(BITMAP_OFFSET);
    let bitmap = [word_in(&found.head, at), word_in(&found.head, at + 8)];
    found.bitmap = bitmap;
    let free = match bitmap {
        [u64::MAX, high] => 64 + high.trailing_ones(),
        [low, _] => low.trailing_ones(),
    };
    found.free = free as usize;
    found.free_word = prints.get(found.free / 8).copied().unwrap_or(0);
    let pattern = u64::from(fingerprint(hash)) * ONES;
    for (number, word) in prints.iter().enumerate() {
        let differs = word ^ pattern;
        let mut hits = differs.wrapping_sub(ONES) & !differs & HIGHS;
        while hits != 0 {
            // Above a true match this test may claim others; the comparison of hashes sorts them out.
            let slot = number * 8 + (hits.trailing_zeros() / 8) as usize;
            hits &= hits - 1;
            if bitmap[slot / 64 % 2] & (1 << (slot % 64)) != 0 {
                check_slot(reader, leaf, slot, hash, name, found)?;
            }
        }
    }
    Ok(())
}

/// Compares one slot with the name that is sought.
fn check_slot<R: Reader>(
    reader: &R,
    leaf: Block,
    slot: usize,
    hash: u64,
    name: &[u8],
    found: &mut Found,
) -> Result {
    let offset = offset_of(reader, leaf, slot, found.heap_start)?;
    let address = leaf.address() + offset;
    let key = reader.word(address)?;
    if hash_of(key) != hash {
        return Ok(());
    }
    let third = reader.word(address + 16)?;
    let [name_len, kind, first @ ..] = third.to_le_bytes();
    let name_len = usize::from(name_len);
    if name_len == 0 || usize_of(offset) + entry_size(name_len) > LEAF {
        return Err(Error::corrupt("entry of a directory leaf", address));
    }
    if name_len != name.len() || !same(reader, address, &first, name)? {
        found.collision = found.collision.max((key - key_of(hash)) + 1);
        return Ok(());
    }
    found.entry = Some(Entry {
        target: Target {
            ino: Ino(reader.word(address + 8)?),
            kind: FileKind::from_disk(kind)
                .ok_or(Error::corrupt("kind in a directory entry", address))?,
        },
        slot,
        offset,
        name_len,
        third,
    });
    Ok(())
}

/// Whether the entry at `address` has this name, whose length is right.
fn same<R: Reader>(reader: &R, address: u64, first: &[u8; 6], name: &[u8]) -> Result<bool> {
    let short = name.len().min(6);
    if first.get(..short) != name.get(..short) {
        return Ok(false);
    }
    let Some(rest) = name.get(6..) else {
        return Ok(true);
    };
    for (number, part) in rest.chunks(8).enumerate() {
        let word = reader.word(address + 24 + u64_of(number) * 8)?;
        if word.to_le_bytes().get(..part.len()) != Some(part) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An entry as bytes in `into`, which are zeros; returns their number.
fn pack<const N: usize>(into: &mut [u8; N], key: u64, name: &[u8], target: Target) -> usize {
    let name_len = name.len().min(MAX_NAME);
    if let Some(first) = into.first_chunk_mut::<18>() {
        first[..8].copy_from_slice(&key.to_le_bytes());
        first[8..16].copy_from_slice(&target.ino.0.to_le_bytes());
        first[16] = (name_len & 0xff) as u8;
        first[17] = target.kind.to_disk();
    }
    if let (Some(place), Some(name)) = (into.get_mut(18..18 + name_len), name.get(..name_len)) {
        place.copy_from_slice(name);
    }
    entry_size(name_len)
}

/// Puts an entry into a leaf where [`find`] found none. False: it does not fit, nothing was changed; split.
#[expect(
    clippy::too_many_arguments,
    reason = "they are what a search and its caller know, and go nowhere else"
)]
pub fn insert<M: Media>(
    tx: &mut Transaction<'_, M>,
    tree: &Tree,
    leaf: Block,
    count: usize,
    found: &Found,
    key: u64,
    name: &[u8],
    target: Target,
) -> Result<bool> {
    // Most names are short, and to zero the room of the longest one would cost as much as the rest.
    let (mut short, mut long);
    let size = entry_size(name.len());
    let entry: &[u8] = if size <= SHORT_ENTRY {
        short = [0u8; SHORT_ENTRY];
        pack(&mut short, key, name, target);
        &short
    } else {
        long = [0u8; LONGEST_ENTRY];
        pack(&mut long, key, name, target);
        &long
    };
    if found.free >= SLOTS {
        return Ok(false);
    }
    let (mut heap_start, mut dead) = (found.heap_start, found.dead);
    if heap_start < usize_of(HEAP_OFFSET) + size {
        if heap_start + dead < usize_of(HEAP_OFFSET) + size {
            return Ok(false);
        }
        heap_start = compact(tx, leaf)?;
        dead = 0;
        if heap_start < usize_of(HEAP_OFFSET) + size {
            return Err(Error::corrupt(
                "dead bytes of a directory leaf",
                leaf.address(),
            ));
        }
    }
    let at = heap_start - size;
    let bytes = entry.get(..size).ok_or(Error::Invalid)?;
    btree::update(tx, leaf, u64_of(at), bytes)?;

    let slot = found.free;
    let offsets = OFFSETS_OFFSET + u64_of(slot & !3) * 2;
    let shift = (slot & 3) * 16;
    let word = tx.word(leaf.address() + offsets)? & !(0xffff << shift) | (u64_of(at) << shift);
    btree::update(tx, leaf, offsets, &word.to_le_bytes())?;

    let shift = (slot & 7) * 8;
    let print = u64::from(fingerprint(hash_of(key)));
    let word = found.free_word & !(0xff << shift) | (print << shift);
    let prints = FINGERPRINTS_OFFSET + u64_of(slot & !7);
    btree::update(tx, leaf, prints, &word.to_le_bytes())?;

    let mut bitmap = found.bitmap;
    if let Some(word) = bitmap.get_mut(slot / 64) {
        *word |= 1 << (slot % 64);
    }
    let mut head = found.head;
    btree::put_count(tree, 0, count + 1, &mut head);
    store_head(tx, leaf, &mut head, heap_start - size, dead, &bitmap)?;
    Ok(true)
}

/// Writes header and bitmap in one piece. The checksum's word is among them: the record then needs no entry for it.
fn store_head<M: Media>(
    tx: &mut Transaction<'_, M>,
    leaf: Block,
    head: &mut [u8; HEAD_BYTES],
    heap_start: usize,
    dead: usize,
    bitmap: &[u64; 2],
) -> Result {
    let words = [specific_word(heap_start, dead), bitmap[0], bitmap[1]];
    if let Some(places) = head.get_mut(usize_of(SPECIFIC_OFFSET)..) {
        for (place, word) in places.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }
    btree::update(tx, leaf, 0, head)
}

/// Removes an entry from a leaf that holds others too.
pub fn remove<M: Media>(
    tx: &mut Transaction<'_, M>,
    tree: &Tree,
    leaf: Block,
    count: usize,
    found: &Found,
    entry: &Entry,
) -> Result {
    let size = entry_size(entry.name_len);
    let (mut heap_start, mut dead) = (found.heap_start, found.dead);
    if usize_of(entry.offset) == heap_start {
        heap_start += size;
    } else {
        dead += size;
    }
    let mut bitmap = found.bitmap;
    if let Some(word) = bitmap.get_mut(entry.slot / 64) {
        *word &= !(1 << (entry.slot % 64));
    }
    let mut head = found.head;
    btree::put_count(tree, 0, count.saturating_sub(1), &mut head);
    store_head(tx, leaf, &mut head, heap_start, dead, &bitmap)
}

/// Lets an entry lead elsewhere.
pub fn retarget<M: Media>(
    tx: &mut Transaction<'_, M>,
    leaf: Block,
    entry: &Entry,
    new: Target,
) -> Result {
    let third = entry.third & !0xff00 | (u64::from(new.kind.to_disk()) << 8);
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&new.ino.0.to_le_bytes());
    bytes[8..].copy_from_slice(&third.to_le_bytes());
    btree::update(tx, leaf, entry.offset + 8, &bytes)
}

/// Name and target of the entry at an offset of a leaf in memory; `None` if that is no entry.
pub fn entry_at(leaf: &[u8], offset: usize) -> Option<(&[u8], Target)> {
    let name_len = usize::from(*leaf.get(offset.checked_add(16)?)?);
    let kind = FileKind::from_disk(*leaf.get(offset.checked_add(17)?)?)?;
    let start = offset.checked_add(18)?;
    let name = leaf.get(start..start.checked_add(name_len)?)?;
    let target = Target {
        ino: Ino(word_in(leaf, offset.checked_add(8)?)),
        kind,
    };
    (name_len > 0).then_some((name, target))
}

/// Collects key and offset of the entries with keys from `key` on, sorted. All keys of the leaf lie within `keys`, from and
/// below: were it otherwise, a leaf that two parents lead to would be read for ever, or split into what no search finds.
pub fn order(
    bytes: &[u8],
    leaf: Block,
    key: u64,
    keys: (u64, u64),
    into: &mut Vec<(u64, u16)>,
) -> Result {
    let (heap_start, _) = specific(leaf, word_in(bytes, usize_of(SPECIFIC_OFFSET)))?;
    for slot in 0..SLOTS {
        let live = word_in(bytes, usize_of(BITMAP_OFFSET) + slot / 64 * 8);
        if live & (1 << (slot % 64)) == 0 {
            continue;
        }
        let offset = half_in(bytes, usize_of(OFFSETS_OFFSET) + slot * 2);
        let at = usize::from(offset);
        if at < heap_start || at % 8 != 0 || entry_at(bytes, at).is_none() {
            return Err(Error::corrupt("entry of a directory leaf", leaf.address()));
        }
        let found = word_in(bytes, at);
        if found < keys.0 || found >= keys.1 {
            return Err(Error::corrupt("key of a name", leaf.address()));
        }
        if found >= key {
            into.push((found, offset))?;
        }
    }
    sort(into);
    Ok(())
}

/// Sorts by Shell's method: at most [`SLOTS`] items, and no recursion, which the library's sort has.
fn sort(list: &mut [(u64, u16)]) {
    for gap in [57, 23, 10, 4, 1] {
        for end in gap..list.len() {
            let mut at = end;
            while at >= gap && list.get(at - gap) > list.get(at) {
                list.swap(at - gap, at);
                at -= gap;
            }
        }
    }
}

/// Fills a leaf in memory with entries of another (or of its own old content); returns the start of its heap.
fn rebuild(new: &mut [u8], old: &[u8], entries: &[(u64, u16)]) -> Result<usize> {
    let wrong = Error::corrupt("entry of a directory leaf", 0);
    new.get_mut(usize_of(SPECIFIC_OFFSET)..)
        .ok_or(wrong)?
        .fill(0);
    let mut heap_start = LEAF;
    let mut bitmap = [0u64; 2];
    for (slot, &(key, offset)) in entries.iter().enumerate() {
        let from = usize::from(offset);
        let (name, _) = entry_at(old, from).ok_or(wrong)?;
        let size = entry_size(name.len());
        heap_start = heap_start
            .checked_sub(size)
            .filter(|&start| start >= usize_of(HEAP_OFFSET))
            .ok_or(wrong)?;
        let entry = old.get(from..from + size).ok_or(wrong)?;
        new.get_mut(heap_start..heap_start + size)
            .ok_or(wrong)?
            .copy_from_slice(entry);
        *new.get_mut(usize_of(FINGERPRINTS_OFFSET) + slot)
            .ok_or(wrong)? = fingerprint(hash_of(key));
        let place = usize_of(OFFSETS_OFFSET) + slot * 2;
        new.get_mut(place..place + 2)
            .ok_or(wrong)?
            .copy_from_slice(&(heap_start as u16).to_le_bytes());
        *bitmap.get_mut(slot / 64).ok_or(wrong)? |= 1 << (slot % 64);
    }
    let mut put = |at: usize, word: u64| -> Result {
        new.get_mut(at..at + 8)
            .ok_or(wrong)?
            .copy_from_slice(&word.to_le_bytes());
        Ok(())
    };
    put(usize_of(SPECIFIC_OFFSET), specific_word(heap_start, 0))?;
    put(usize_of(BITMAP_OFFSET), bitmap[0])?;
    put(usize_of(BITMAP_OFFSET) + 8, bitmap[1])?;
    Ok(heap_start)
}

/// Moves the live entries together; keeps each in its slot, so that what a search found stays true.
fn compact<M: Media>(tx: &mut Transaction<'_, M>, leaf: Block) -> Result<usize> {
    let wrong = Error::corrupt("entry of a directory leaf", leaf.address());
    let mut draft = Draft::load(tx, leaf)?;
    let old = draft.old()?;
    let mut heap_start = LEAF;
    for slot in 0..SLOTS {
        let live = word_in(&old, usize_of(BITMAP_OFFSET) + slot / 64 * 8);
        if live & (1 << (slot % 64)) == 0 {
            continue;
        }
        let place = usize_of(OFFSETS_OFFSET) + slot * 2;
        let from = usize::from(half_in(&old, place));
        let (name, _) = entry_at(&old, from).ok_or(wrong)?;
        let size = entry_size(name.len());
        heap_start = heap_start
            .checked_sub(size)
            .filter(|&start| start >= usize_of(HEAP_OFFSET))
            .ok_or(wrong)?;
        let entry = old.get(from..from + size).ok_or(wrong)?;
        let new = &mut draft.new;
        new.get_mut(heap_start..heap_start + size)
            .ok_or(wrong)?
            .copy_from_slice(entry);
        new.get_mut(place..place + 2)
            .ok_or(wrong)?
            .copy_from_slice(&(heap_start as u16).to_le_bytes());
    }
    let word = specific_word(heap_start, 0).to_le_bytes();
    draft
        .new
        .get_mut(usize_of(SPECIFIC_OFFSET)..usize_of(BITMAP_OFFSET))
        .ok_or(wrong)?
        .copy_from_slice(&word);
    draft.store(tx)?;
    Ok(heap_start)
}

/// Splits a leaf between two hashes, near the middle of its bytes. `NoSpace`: all names in it have one hash.
pub fn split<M: Media>(tx: &mut Transaction<'_, M>, tree: &mut Tree, at: &Leaf) -> Result {
    let mut left = Draft::load(tx, at.block)?;
    let old = left.old()?;
    let mut entries = Vec::new();
    order(&old, at.block, 0, (at.floor, at.limit), &mut entries)?;
    let size_at = |&(_, offset): &(u64, u16)| -> usize {
        entry_at(&old, usize::from(offset)).map_or(0, |(name, _)| entry_size(name.len()))
    };
    let total: usize = entries.iter().map(size_at).sum();
    let (mut bytes, mut best) = (0, None);
    for (index, pair) in entries.windows(2).enumerate() {
        let [a, b] = pair else { continue };
        bytes += size_at(a);
        let off = bytes.abs_diff(total / 2);
        if hash_of(a.0) != hash_of(b.0) && best.is_none_or(|(least, _)| off < least) {
            best = Some((off, index + 1));
        }
    }
    let (_, middle) = best.ok_or(Error::NoSpace)?;
    let (low, high) = entries.split_at(middle);
    let &(first, _) = high.first().ok_or(Error::NoSpace)?;

    let leaf = btree::new_node(tx, tree, 0, at.block)?;
    let mut right = Draft::load(tx, leaf)?;
    rebuild(&mut right.new, &old, high)?;
    right.store(tx)?;
    btree::set_count(tx, tree, leaf, 0, high.len())?;
    rebuild(&mut left.new, &old, low)?;
    left.store(tx)?;
    btree::set_count(tx, tree, at.block, 0, low.len())?;
    btree::insert_child(tx, tree, at, key_of(hash_of(first)), leaf)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::String;
    use std::vec;

    #[test]
    fn the_smallest_entry_has_room_for_what_is_read_of_it() {
        assert_eq!(entry_size(1), 24);
        assert_eq!(entry_size(6), 24);
        assert_eq!(entry_size(7), 32);
        assert_eq!(entry_size(MAX_NAME), 280);
    }

    #[test]
    fn a_rebuilt_leaf_holds_what_the_old_one_held() {
        let mut old = vec![0u8; LEAF];
        let mut entries: std::vec::Vec<(u64, u16)> = vec![];
        let mut at = LEAF;
        for n in 0..40u64 {
            let mut bytes = [0; LONGEST_ENTRY];
            let name = "n".repeat(1 + n as usize);
            let target = Target {
                ino: Ino(n + 1),
                kind: FileKind::Regular,
            };
            let size = pack(&mut bytes, key_of(n * 3), name.as_bytes(), target);
            at -= size;
            old[at..at + size].copy_from_slice(&bytes[..size]);
            entries.push((key_of(n * 3), at as u16));
        }
        let mut new = vec![0u8; LEAF];
        let heap_start = rebuild(&mut new, &old, &entries[10..]).expect("rebuild");
        let mut found = Vec::new();
        order(&new, Block(9), 0, (0, u64::MAX), &mut found).expect("order");
        assert_eq!(found.len(), 30);
        assert!(found
            .iter()
            .all(|&(_, offset)| usize::from(offset) >= heap_start));
        for (n, &(key, offset)) in found.iter().enumerate() {
            let (name, target) = entry_at(&new, usize::from(offset)).expect("entry");
            assert_eq!(key, key_of((n as u64 + 10) * 3));
            assert_eq!(String::from_utf8_lossy(name).len(), n + 11);
            assert_eq!(target.ino, Ino(n as u64 + 11));
        }
    }

    #[test]
    fn a_leaf_that_makes_no_sense_is_refused() {
        let mut bytes = vec![0u8; LEAF];
        let mut found = Vec::new();
        assert!(order(&bytes, Block(9), 0, (0, u64::MAX), &mut found).is_err());
        bytes[56..58].copy_from_slice(&4096u16.to_le_bytes());
        assert!(order(&bytes, Block(9), 0, (0, u64::MAX), &mut found).is_ok());
        // A live slot whose offset leads past the end.
        bytes[64] = 1;
        bytes[208..210].copy_from_slice(&4088u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&464u16.to_le_bytes());
        assert!(order(&bytes, Block(9), 0, (0, u64::MAX), &mut found).is_err());
        assert!(entry_at(&bytes, usize::MAX).is_none());
    }
}
