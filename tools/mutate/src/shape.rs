// SPDX-License-Identifier: GPL-2.0

//! Damage to the shape of a structure: order, duplicates, overlaps, sharing.

use crate::field::slots;
use crate::image::{word_at, Kind};
use ochre_sim::seed::Random;

fn put(bytes: &mut [u8], at: usize, word: u64) {
    if let Some(place) = bytes.get_mut(at..at + 8) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

fn put16(bytes: &mut [u8], at: usize, half: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&half.to_le_bytes());
    }
}

fn count_of(bytes: &[u8]) -> usize {
    (word_at(bytes, 0) >> 48) as usize
}

/// Changes the shape of a structure and says how; `None`: it has none that could be wrong.
pub fn damage(kind: Kind, bytes: &mut [u8], random: &mut Random) -> Option<String> {
    match kind {
        Kind::ExtentIndex | Kind::DirectoryIndex | Kind::ExtentLeaf => {
            let count = count_of(bytes).min(252);
            let text = array(bytes, 64, count, kind == Kind::ExtentLeaf, random)?;
            if let Some(change) = text.1 {
                put16(bytes, 6, change as u16);
            }
            Some(text.0)
        }
        Kind::Inode if bytes.get(6) == Some(&0) && bytes.get(7).is_some_and(|n| *n > 0) => {
            let count = usize::from(*bytes.get(7)?).min(7);
            let text = array(bytes, 144, count, true, random)?;
            if let Some(change) = text.1 {
                bytes[7] = change as u8;
            }
            Some(text.0)
        }
        Kind::Inode => {
            let mode = u16::from_le_bytes([bytes[4], bytes[5]]);
            let types = [
                0o100000,
                0o040000,
                0o120000,
                0o020000,
                0o010000,
                0o140000u16,
            ];
            let new = types[random.below(6) as usize] | mode & 0o7777;
            put16(bytes, 4, new);
            if random.below(2) == 0 {
                bytes[6] = random.below(6) as u8;
            }
            Some(format!("mode {mode:o} -> {new:o}, root {}", bytes[6]))
        }
        Kind::DirectoryLeaf => directory_leaf(bytes, random),
        _ => None,
    }
}

/// Damage to a sorted array of 16-byte entries; the new count, if it is another.
fn array(
    bytes: &mut [u8],
    start: usize,
    count: usize,
    extents: bool,
    random: &mut Random,
) -> Option<(String, Option<usize>)> {
    if count == 0 {
        return None;
    }
    let place = |n: usize| start + n * 16;
    let (a, b) = (
        random.below(count as u64) as usize,
        random.below(count as u64) as usize,
    );
    let entry = |bytes: &[u8], n: usize| (word_at(bytes, place(n)), word_at(bytes, place(n) + 8));
    let text = match random.below(6) {
        0 => {
            let (x, y) = (entry(bytes, a), entry(bytes, b));
            put(bytes, place(a), y.0);
            put(bytes, place(a) + 8, y.1);
            put(bytes, place(b), x.0);
            put(bytes, place(b) + 8, x.1);
            format!("entries {a} and {b} swapped")
        }
        1 => {
            let x = entry(bytes, a);
            put(bytes, place(b), x.0);
            put(bytes, place(b) + 8, x.1);
            format!("entry {a} copied over entry {b}")
        }
        2 => {
            // Both lead to the same place.
            put(bytes, place(b) + 8, entry(bytes, a).1);
            format!("target of entry {a} copied to entry {b}")
        }
        3 if extents => {
            // Reaches into whatever follows.
            let x = entry(bytes, a).0;
            put(bytes, place(a), x + 1 + random.below(64));
            format!("extent {a} longer")
        }
        4 => {
            let all = entry(bytes, a).1;
            for n in 0..count {
                put(bytes, place(n) + 8, all);
            }
            format!("all entries lead where entry {a} does")
        }
        _ => {
            let new = match random.below(4) {
                0 => count + 1,
                1 => count - 1,
                2 => 0,
                _ => (count + random.below(300) as usize).min(0xffff),
            };
            return Some((format!("count {count} -> {new}"), Some(new)));
        }
    };
    Some((text, None))
}

fn directory_leaf(bytes: &mut [u8], random: &mut Random) -> Option<String> {
    let slots = slots(bytes);
    let pick = |random: &mut Random| {
        slots
            .get(random.below(slots.len().max(1) as u64) as usize)
            .copied()
    };
    let (a, from) = pick(random)?;
    let (b, to) = pick(random)?;
    Some(match random.below(8) {
        0 => {
            put16(bytes, 208 + b * 2, from as u16);
            bytes[80 + b] = bytes[80 + a];
            format!("slots {a} and {b} share an entry")
        }
        1 => {
            // The same name twice, each with an entry of its own as far as they fit.
            let size = (usize::from(bytes[from + 16]) + 18).next_multiple_of(8);
            let have = (usize::from(bytes[to + 16]) + 18).next_multiple_of(8);
            let n = size.min(have).min(4096 - from.max(to));
            bytes.copy_within(from..from + n, to);
            bytes[80 + b] = bytes[80 + a];
            format!("the entry of slot {a} copied over that of slot {b}")
        }
        2 => {
            let bad = [b'/', 0, b'.'][random.below(3) as usize];
            bytes[from + 18] = bad;
            format!("name in slot {a} starts with byte {bad}")
        }
        3 => {
            let free = (0..128).find(|n| !slots.iter().any(|(slot, _)| slot == n))?;
            let at = 64 + free / 64 * 8;
            let word = word_at(bytes, at) | 1 << (free % 64);
            put(bytes, at, word);
            format!("slot {free} in use, though it was not")
        }
        4 => {
            let at = 64 + a / 64 * 8;
            let word = word_at(bytes, at) & !(1 << (a % 64));
            put(bytes, at, word);
            format!("slot {a} not in use, though it was")
        }
        5 => {
            put16(bytes, 208 + a * 2, (from + 8).min(4088) as u16);
            format!("the entry of slot {a} starts 8 bytes late")
        }
        6 => {
            // All names of the leaf become one hash's.
            let key = word_at(bytes, from) >> 15 << 15;
            let print = bytes[80 + a];
            for (n, (slot, at)) in slots.iter().enumerate() {
                put(bytes, *at, key | n as u64);
                bytes[80 + slot] = print;
            }
            "all keys have one hash".to_string()
        }
        _ => {
            bytes[from + 16] = 255;
            format!("name in slot {a} has 255 bytes")
        }
    })
}
