// SPDX-License-Identifier: GPL-2.0

//! Names that say nothing.
//!
//! A name becomes another one of the same length, chosen by a hash with a key that is drawn for one copy and forgotten with
//! it. So equal names stay equal, also between directories and the targets of symbolic links, and nobody can try
//! guesses.
//!
//! Two different short names may not become one: a directory would hold it twice. What short names became is therefore
//! remembered; for long ones the hash has room enough.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

/// From this length on two names do not meet (62 bits for eleven characters).
const LONG: usize = 12;
/// Tries with plain characters, before any byte that a name can have will do.
const PLAIN: u32 = 64;

const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The mapping of one copy.
#[derive(Default)]
pub struct Scrambler {
    key: RandomState,
    short: HashMap<Vec<u8>, Vec<u8>>,
    taken: HashSet<Vec<u8>>,
}

impl Scrambler {
    /// Two random words, for keys.
    pub fn random(&self) -> [u64; 2] {
        [self.key.hash_one(0u8), self.key.hash_one(1u8)]
    }

    /// The name for `name`. What no name can hold (a slash, a zero) stays where it is, for it is damage that is to be seen;
    /// so do `.` and `..`.
    pub fn name(&mut self, name: &[u8]) -> Vec<u8> {
        if matches!(name, b"" | b"." | b"..") {
            return name.to_vec();
        }
        if name.len() >= LONG {
            return self.candidate(name, 0);
        }
        if let Some(known) = self.short.get(name) {
            return known.clone();
        }
        let mut attempt = 0;
        let new = loop {
            let new = self.candidate(name, attempt);
            if !matches!(&new[..], b"." | b"..") && self.taken.insert(new.clone()) {
                break new;
            }
            attempt += 1;
        };
        self.short.insert(name.to_vec(), new.clone());
        new
    }

    /// As [`Self::name`], but another one if that does not please: for entries that have to stay where they are in a damaged
    /// directory. After some thousand tries the first is taken.
    pub fn name_that(&mut self, name: &[u8], pleases: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let first = self.name(name);
        if pleases(&first) || matches!(name, b"" | b"." | b"..") {
            return first;
        }
        (0..1 << 14)
            .map(|attempt| self.candidate(name, 1 << 20 | attempt))
            .find(|new| pleases(new))
            .unwrap_or(first)
    }

    /// The target of a symbolic link: each component as the name that it is, so that links lead where they led.
    pub fn target(&mut self, target: &[u8]) -> Vec<u8> {
        let components = target.split(|&byte| byte == b'/');
        let components: Vec<Vec<u8>> = components.map(|component| self.name(component)).collect();
        components.join(&b'/')
    }

    fn candidate(&self, name: &[u8], attempt: u32) -> Vec<u8> {
        let mut word = 0;
        let one = |at: usize| {
            // Ten characters from a word.
            if at % 10 == 0 {
                word = self.key.hash_one((name, attempt, at));
            }
            let old = name[at];
            let new = if attempt % (1 << 20) < PLAIN || attempt >> 20 != 0 {
                CHARACTERS[(word & 63) as usize]
            } else {
                (self.key.hash_one((name, attempt, at, 0u8)) % 256) as u8
            };
            word >>= 6;
            match (old, new) {
                (0 | b'/', _) => old,
                (_, 0 | b'/') => b'x',
                _ => new,
            }
        };
        (0..name.len()).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_length_and_differ() {
        let mut scrambler = Scrambler::default();
        let mut seen = HashSet::new();
        let mut names: Vec<Vec<u8>> = (1..=255u8)
            .filter(|byte| !b"/.".contains(byte))
            .map(|byte| vec![byte])
            .collect();
        names.extend((0..3000).map(|n| format!("{n:x}").into_bytes()));
        names.extend((0..3000).map(|n| format!("a long name of a file, number {n}").into_bytes()));
        names.sort();
        names.dedup();
        for name in &names {
            let new = scrambler.name(name);
            assert_eq!(new.len(), name.len());
            assert!(!new.contains(&0) && !new.contains(&b'/'));
            assert!(!matches!(&new[..], b"." | b".."));
            assert!(seen.insert(new), "{name:?} became another's name");
        }
        let new = scrambler.name(&names[7]);
        assert_eq!(new, scrambler.name(&names[7]), "the same each time");
        assert_ne!(new, Scrambler::default().name(&names[7]), "another key");
    }

    #[test]
    fn targets_lead_where_they_led_and_damage_stays() {
        let mut scrambler = Scrambler::default();
        let directory = scrambler.name(b"directory");
        let target = scrambler.target(b"../directory//./file of some length");
        assert_eq!(target.len(), 35);
        assert!(target.starts_with(&[b"../", &directory[..], b"//./"].concat()));
        let new = scrambler.name(b"a\0b/c");
        assert_eq!((new[1], new[3]), (0, b'/'));
        let fits = scrambler.name_that(b"some name", |new| new[0] == b'Q');
        assert_eq!((fits[0], fits.len()), (b'Q', 9));
    }
}
