// SPDX-License-Identifier: GPL-2.0

//! Directories with other names in them.
//!
//! A name's place is given by its hash, so other names belong elsewhere. A directory that is whole is made anew from its
//! entries, in the blocks that it has. One that is damaged stays as it is, entry by entry, so that the copy shows the damage of the
//! original: where an entry's hash was right it is made right again, where something was wrong it stays wrong.
//!
//! Hazard: what an entry leaves behind when it is removed is a name, too. Everything that no entry in use holds is zeroed.

use ochre::engine::directory::{hash_of, key_of, NameHash};
use ochre::engine::format::directory::{
    EntryHeader, BITMAP_OFFSET, ENTRY_HEADER, FINGERPRINTS_OFFSET, HEAP_OFFSET, OFFSETS_OFFSET,
    SLOTS,
};
use zerocopy::FromBytes;

use super::scrambler::Scrambler;
use crate::reader::Bytes;

const FINGERPRINTS: usize = FINGERPRINTS_OFFSET as usize;
const OFFSETS: usize = OFFSETS_OFFSET as usize;
const HEAP: usize = HEAP_OFFSET as usize;
const HEADER: usize = ENTRY_HEADER as usize;

/// An entry as a leaf holds it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub slot: usize,
    pub start: usize,
    pub key: u64,
    pub ino: u64,
    pub kind: u8,
    pub fingerprint: u8,
    pub name: Vec<u8>,
}

/// Bytes of an entry in the heap.
pub fn entry_size(name: usize) -> usize {
    (HEADER + name).next_multiple_of(8)
}

/// The slots in use.
pub fn bitmap(bytes: &Bytes) -> u128 {
    let at = BITMAP_OFFSET as usize;
    bytes[at..]
        .first_chunk::<16>()
        .map_or(0, |bits| u128::from_le_bytes(*bits))
}

/// The entries in use that lie where entries can lie.
pub fn entries(bytes: &Bytes) -> Vec<Entry> {
    let bitmap = bitmap(bytes);
    let mut found = Vec::new();
    for slot in (0..SLOTS).filter(|slot| bitmap >> slot & 1 != 0) {
        let at = OFFSETS + slot * 2;
        let start = usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        if start < HEAP || start % 8 != 0 {
            continue;
        }
        let Some(Ok((header, rest))) = bytes.get(start..).map(EntryHeader::read_from_prefix) else {
            continue;
        };
        let Some(name) = rest.get(..usize::from(header.name_len)) else {
            continue;
        };
        if start + entry_size(name.len()) <= bytes.len() {
            found.push(Entry {
                slot,
                start,
                key: header.key.get(),
                ino: header.ino.get(),
                kind: header.kind,
                fingerprint: bytes[FINGERPRINTS + slot],
                name: name.to_vec(),
            });
        }
    }
    found
}

/// The hash of names before and after.
pub struct Hashes {
    pub old: NameHash,
    pub new: NameHash,
}

/// A leaf whose keys are from `low` on and below `high`, with other names in the same places.
pub fn in_place(
    bytes: &Bytes,
    (low, high): (u64, u64),
    hashes: &Hashes,
    names: &mut Scrambler,
) -> Box<Bytes> {
    let mut new = Box::new(*bytes);
    new[HEAP..].fill(0);
    let used = bitmap(bytes);
    for slot in (0..SLOTS).filter(|slot| used >> slot & 1 == 0) {
        new[FINGERPRINTS + slot] = 0;
        new[OFFSETS + 2 * slot..OFFSETS + 2 * slot + 2].fill(0);
    }
    for entry in entries(bytes) {
        let old_hash = hashes.old.of(&entry.name);
        let inside = (low..high).contains(&entry.key);
        let collision = entry.key - key_of(hash_of(entry.key));
        let (key, name) = if hash_of(entry.key) == old_hash {
            let key = |name: &[u8]| key_of(hashes.new.of(name)) | collision;
            let name = names.name_that(&entry.name, |name| {
                (low..high).contains(&key(name)) == inside
            });
            (key(&name), name)
        } else {
            (entry.key, names.name(&entry.name))
        };
        put(
            &mut new,
            &Entry {
                key,
                name,
                ..entry.clone()
            },
        );
        // A fingerprint that was wrong stays so, by as much.
        let wrong = entry.fingerprint ^ old_hash as u8;
        new[FINGERPRINTS + entry.slot] = hash_of(key) as u8 ^ wrong;
    }
    new
}

/// Writes an entry, without its fingerprint.
fn put(bytes: &mut Bytes, entry: &Entry) {
    let at = entry.start;
    bytes[at..at + 8].copy_from_slice(&entry.key.to_le_bytes());
    bytes[at + 8..at + 16].copy_from_slice(&entry.ino.to_le_bytes());
    bytes[at + 16] = entry.name.len() as u8;
    bytes[at + 17] = entry.kind;
    bytes[at + HEADER..at + HEADER + entry.name.len()].copy_from_slice(&entry.name);
}

/// Spreads the entries of a directory over `leaves` leaves, in the order of their new hashes. `None` if that many do not hold
/// them in this order.
pub fn spread(
    entries: &[Entry],
    leaves: usize,
    hashes: &Hashes,
    names: &mut Scrambler,
) -> Option<Vec<Vec<Entry>>> {
    let mut all: Vec<Entry> = entries
        .iter()
        .map(|entry| {
            let name = names.name(&entry.name);
            let key = key_of(hashes.new.of(&name));
            Entry {
                key,
                name,
                ..entry.clone()
            }
        })
        .collect();
    all.sort_by(|a, b| (a.key, &a.name).cmp(&(b.key, &b.name)));
    // Names of one hash get numbers, and stay together.
    let mut groups: Vec<Vec<Entry>> = Vec::new();
    for mut entry in all {
        match groups.last_mut() {
            Some(group) if hash_of(group[0].key) == hash_of(entry.key) => {
                entry.key += group.len() as u64;
                group.push(entry);
            }
            _ => groups.push(vec![entry]),
        }
    }
    let size = |group: &[Entry]| -> usize { group.iter().map(|e| entry_size(e.name.len())).sum() };
    let mut left: usize = groups.iter().map(|group| size(group)).sum();
    let mut groups = groups.into_iter().peekable();
    let mut made: Vec<Vec<Entry>> = Vec::new();
    for leaf in 0..leaves {
        let share = left.div_ceil(leaves - leaf);
        let (mut bytes, mut held) = (0, Vec::new());
        while let Some(group) = groups.peek() {
            let more = size(group);
            let fits = bytes + more <= 4096 - HEAP && held.len() + group.len() <= SLOTS;
            // The last group of a leaf goes to where less is off the share.
            let wanted = bytes == 0 || bytes + more / 2 <= share;
            if !fits || !wanted {
                break;
            }
            bytes += more;
            held.extend(groups.next().into_iter().flatten());
        }
        if held.is_empty() {
            return None;
        }
        left -= bytes;
        made.push(held);
    }
    groups.peek().is_none().then_some(made)
}

/// A leaf with these entries; header and owner are those of `bytes`.
pub fn leaf(bytes: &Bytes, entries: &[Entry]) -> Box<Bytes> {
    let mut new = Box::new([0; 4096]);
    new[..64].copy_from_slice(&bytes[..64]);
    let mut bits = 0u128;
    let mut start = new.len();
    for (slot, entry) in entries.iter().enumerate() {
        start -= entry_size(entry.name.len());
        put(
            &mut new,
            &Entry {
                start,
                ..entry.clone()
            },
        );
        bits |= 1 << slot;
        new[FINGERPRINTS + slot] = hash_of(entry.key) as u8;
        new[OFFSETS + 2 * slot..OFFSETS + 2 * slot + 2]
            .copy_from_slice(&(start as u16).to_le_bytes());
    }
    new[6..8].copy_from_slice(&(entries.len() as u16).to_le_bytes());
    new[56..58].copy_from_slice(&(start as u16).to_le_bytes());
    new[58..64].fill(0);
    let at = BITMAP_OFFSET as usize;
    new[at..at + 16].copy_from_slice(&bits.to_le_bytes());
    new
}
