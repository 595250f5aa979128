// SPDX-License-Identifier: GPL-2.0

//! Putting a damaged word back.
//!
//! What: the checksum of an object is a sum of its 32-bit words, each times an odd key of its place
//! (see `checksum.rs`). If one word is damaged, the difference between the sum that is stored and
//! the sum of what is there is *key times the word's difference*. Odd keys have inverses modulo
//! 2^64, so for each place the word that would explain the difference can be computed; at the
//! place that was damaged it is a number below 2^32, at any other it is one by chance only, with a
//! probability of 2^-32. So whatever happened to one aligned 32-bit word, a flipped bit first of
//! all, is undone exactly: nothing is lost and nothing has to be guessed.
//!
//! If instead half of the checksum itself agrees, the other half was what got damaged: that, too,
//! has a chance of 2^-32 to be something else.
//!
//! # Hazard
//!
//! Two places might explain a difference. Then nothing is changed: it is damage like any other.

use crate::engine::checksum::{superblock_key, Domain, Keys};
use crate::engine::types::u64_of;
use crate::engine::verify::covered;

/// What can be said about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The checksum is right.
    Sound,
    /// It is right now: one word was put back.
    Corrected,
    /// More than one word is damaged.
    Damaged,
}

/// The inverse of an odd number modulo 2^64: each step doubles the bits that are right.
fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    for _ in 0..5 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
    }
    x
}

/// A little-endian word of 64 bits.
fn word_at(bytes: &[u8], index: usize) -> u64 {
    let at = index.saturating_mul(8);
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>);
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

fn put_word(bytes: &mut [u8], index: usize, word: u64) {
    let at = index.saturating_mul(8);
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<8>) {
        *place = word.to_le_bytes();
    }
}

/// Looks for the one half of a word that explains why the sum is `actual` and not `stored`, and
/// puts it back. `key` gives the keys of a word's halves, `None` for words outside the checksum.
fn solve(
    bytes: &mut [u8],
    stored: u64,
    actual: u64,
    key: impl Fn(usize) -> Option<[u64; 2]>,
) -> Verdict {
    if stored == actual {
        return Verdict::Sound;
    }
    let difference = stored.wrapping_sub(actual);
    if difference_is_half(stored, actual) {
        put_word(bytes, 1, actual);
        return Verdict::Corrected;
    }
    let mut answer = None;
    for index in 0..bytes.len() / 8 {
        let Some(keys) = key(index) else {
            continue;
        };
        let word = word_at(bytes, index);
        for (half, key) in keys.into_iter().enumerate() {
            let shift = 32 * half;
            let old = word >> shift & 0xffff_ffff;
            let new = old.wrapping_add(difference.wrapping_mul(inverse(key)));
            if new >> 32 != 0 {
                continue;
            }
            if answer.is_some() {
                return Verdict::Damaged;
            }
            answer = Some((index, word & !(0xffff_ffff << shift) | new << shift));
        }
    }
    match answer {
        Some((index, word)) => {
            put_word(bytes, index, word);
            Verdict::Corrected
        }
        None => Verdict::Damaged,
    }
}

fn difference_is_half(stored: u64, actual: u64) -> bool {
    let wrong = stored ^ actual;
    wrong >> 32 == 0 || wrong & 0xffff_ffff == 0
}

/// Judges, and if possible corrects, an object whose checksum is its second word.
pub(super) fn object(keys: &Keys, domain: Domain, bytes: &mut [u8]) -> Verdict {
    let mut actual = keys.start(domain);
    for index in (0..bytes.len() / 8).filter(|&index| covered(domain, index)) {
        actual = actual.wrapping_add(keys.word(index, word_at(bytes, index)));
    }
    let stored = word_at(bytes, 1);
    solve(bytes, stored, actual, |index| {
        covered(domain, index).then(|| [keys.word(index, 1), keys.word(index, 1 << 32)])
    })
}

/// The same for the part of a superblock that its checksum covers.
pub(super) fn superblock(bytes: &mut [u8]) -> Verdict {
    let stored = word_at(bytes, 1);
    let actual = crate::engine::checksum::superblock(bytes);
    solve(bytes, stored, actual, |index| {
        let first = 2 * u64_of(index);
        (index != 1).then(|| [superblock_key(first), superblock_key(first + 1)])
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn any_damage_of_one_word_is_undone() {
        let keys = Keys::new([11, 12]).unwrap();
        for (domain, len) in [
            (Domain::Node, 4096),
            (Domain::Inode, 256),
            (Domain::AgHeader, 64),
        ] {
            let mut whole = std::vec![0u8; len];
            for (at, byte) in whole.iter_mut().enumerate() {
                *byte = (at * at / 7) as u8;
            }
            // Whatever the checksum says, it is the one of the bytes now.
            while object(&keys, domain, &mut whole) == Verdict::Damaged {
                let mut sum = keys.start(domain);
                for index in (0..len / 8).filter(|&index| covered(domain, index)) {
                    sum = sum.wrapping_add(keys.word(index, word_at(&whole, index)));
                }
                put_word(&mut whole, 1, sum);
            }
            for at in (0..len / 4).filter(|at| covered(domain, at / 2) || at / 2 == 1) {
                for value in [0u32, 1, u32::MAX, 0x1234_5678] {
                    let mut bytes = whole.clone();
                    bytes[at * 4..at * 4 + 4].copy_from_slice(&value.to_le_bytes());
                    let changed = bytes != whole;
                    let verdict = object(&keys, domain, &mut bytes);
                    let expected = [Verdict::Sound, Verdict::Corrected][usize::from(changed)];
                    assert_eq!(verdict, expected, "{domain:?} word {at}");
                    assert!(bytes == whole, "{domain:?} word {at}");
                }
            }
        }
    }

    #[test]
    fn damage_of_two_words_is_left() {
        let keys = Keys::new([13, 14]).unwrap();
        let mut bytes = [3u8; 256];
        let sum = keys.start(Domain::Inode);
        put_word(&mut bytes, 1, sum);
        let before = bytes;
        assert_eq!(object(&keys, Domain::Inode, &mut bytes), Verdict::Damaged);
        assert_eq!(before, bytes);
    }

    #[test]
    fn a_superblock() {
        let mut whole = [5u8; 448];
        let sum = crate::engine::checksum::superblock(&whole);
        put_word(&mut whole, 1, sum);
        for at in 0..448 {
            let mut bytes = whole;
            bytes[at] ^= 0x81;
            assert_eq!(superblock(&mut bytes), Verdict::Corrected, "byte {at}");
            assert_eq!(bytes, whole);
        }
    }
}
