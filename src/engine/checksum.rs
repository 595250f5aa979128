// SPDX-License-Identifier: GPL-2.0

//! Keyed checksums of metadata and journal records.
//!
//! The sum of an object is `D + Σ K(i) · w(i)` modulo 2^64 over its 32-bit words `w(i)`. The keys `K(i)` are odd 64-bit
//! numbers drawn from the filesystem's secret; `D` is drawn from the secret and the kind of object, so that one kind never
//! passes for another. The checksum's own word counts as zero.
//!
//! Why this function: it is linear, so a change of a few bytes changes the sum by a difference that needs only the old and
//! the new bytes ([`Keys::word`]); a CRC over 4 KiB at each insert of a name would cost more than the insert. It is a
//! universal hash: whoever does not know the secret, as no user of a mounted filesystem does, can make bytes that pass for
//! a record with a chance of about 2^-63 at each try. And since the keys are odd, damage to one word is always found.

use super::error::Result;
use crate::platform::Vec;

/// Pairs of keys that are computed once a mount: enough for a block.
const TABLE: usize = 512;

/// Kinds of object; each has an additive constant of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// An inode record.
    Inode = 1,
    /// A block with a header.
    Node = 2,
    /// The header of an allocation group.
    AgHeader = 3,
    /// A journal record.
    Record = 4,
    /// A checkpoint slot.
    Checkpoint = 5,
    /// An entry of a chunk map.
    Chunk = 6,
    /// The superblock, with known keys.
    Superblock = 7,
    /// The journal's header.
    JournalHeader = 8,
}

/// The keys of one filesystem.
pub struct Keys {
    secret: [u64; 2],
    /// The keys of the low and the high half of each 64-bit word.
    table: Vec<[u64; 2]>,
    inode: u64,
    node: u64,
    record: u64,
}

/// The finalizer of splitmix64.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Key number `index` of a secret.
const fn derive(secret: [u64; 2], index: u64) -> u64 {
    let step = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mix(mix(secret[0].wrapping_add(step)) ^ secret[1]) | 1
}

/// The additive constant of a domain.
const fn constant(secret: [u64; 2], domain: Domain) -> u64 {
    derive(secret, (1 << 32) + domain as u64)
}

impl Keys {
    /// The keys that `secret` gives.
    pub fn new(secret: [u64; 2]) -> Result<Self> {
        let mut table = Vec::with_capacity(TABLE)?;
        for i in 0..TABLE as u64 {
            table.push([derive(secret, 2 * i), derive(secret, 2 * i + 1)])?;
        }
        Ok(Self {
            secret,
            table,
            inode: constant(secret, Domain::Inode),
            node: constant(secret, Domain::Node),
            record: constant(secret, Domain::Record),
        })
    }

    /// Where the sum of an object of this kind starts.
    pub fn start(&self, domain: Domain) -> u64 {
        match domain {
            Domain::Inode => self.inode,
            Domain::Node => self.node,
            Domain::Record => self.record,
            _ => constant(self.secret, domain),
        }
    }

    /// What the 64-bit word number `index` of an object adds to its sum.
    #[inline(always)]
    pub fn word(&self, index: usize, value: u64) -> u64 {
        let [low, high] = match self.table.get(index) {
            Some(pair) => *pair,
            None => self.beyond(index),
        };
        low.wrapping_mul(value & 0xffff_ffff)
            .wrapping_add(high.wrapping_mul(value >> 32))
    }

    /// Keys that are not in the table.
    #[cold]
    fn beyond(&self, index: usize) -> [u64; 2] {
        let first = 2 * index as u64;
        [derive(self.secret, first), derive(self.secret, first + 1)]
    }

    /// By how much the sum changes when word `index` changes.
    #[inline]
    pub fn change(&self, index: usize, old: u64, new: u64) -> u64 {
        if old == new {
            return 0;
        }
        self.word(index, new).wrapping_sub(self.word(index, old))
    }

    /// What words add that are the object's from number `first` on.
    #[inline]
    pub fn words(&self, first: usize, words: impl ExactSizeIterator<Item = u64>) -> u64 {
        let mut sum = 0u64;
        let known = self.table.get(first..).unwrap_or(&[]);
        if words.len() <= known.len() {
            for ([low, high], word) in known.iter().zip(words) {
                sum = sum
                    .wrapping_add(low.wrapping_mul(word & 0xffff_ffff))
                    .wrapping_add(high.wrapping_mul(word >> 32));
            }
            return sum;
        }
        for (i, word) in words.enumerate() {
            sum = sum.wrapping_add(self.word(first + i, word));
        }
        sum
    }

    /// As [`Self::words`], of bytes; a rest of less than 8 is not counted.
    pub fn bytes(&self, first: usize, bytes: &[u8]) -> u64 {
        let word = |chunk: &[u8]| <[u8; 8]>::try_from(chunk).map_or(0, u64::from_le_bytes);
        self.words(first, bytes.chunks_exact(8).map(word))
    }

    /// The sum of an object whose bytes are all covered, except the 8 from `hole` on.
    pub fn object(&self, domain: Domain, bytes: &[u8], hole: usize) -> u64 {
        let mut sum = self.start(domain).wrapping_add(self.bytes(0, bytes));
        if let Some(Ok(word)) = bytes.get(hole..hole + 8).map(<[u8; 8]>::try_from) {
            sum = sum.wrapping_sub(self.word(hole / 8, u64::from_le_bytes(word)));
        }
        sum
    }

    /// The check of a chunk map entry.
    pub fn chunk(&self, ag: u32, index: u32, start: u32) -> u32 {
        let sum = self
            .start(Domain::Chunk)
            .wrapping_add(self.word(0, u64::from(ag) | u64::from(index) << 32))
            .wrapping_add(self.word(1, u64::from(start)));
        (sum >> 32) as u32
    }

    /// The checksum of checkpoint slot `slot` with number `seq`.
    pub fn checkpoint(&self, slot: usize, seq: u64) -> u64 {
        self.start(Domain::Checkpoint)
            .wrapping_add(self.word(0, seq))
            .wrapping_add(self.word(1, slot as u64))
    }
}

/// The key of 32-bit word number `index` of a superblock.
#[cfg(not(CONFIG_RUST))]
pub fn superblock_key(index: u64) -> u64 {
    derive([0, 0], index)
}

/// The superblock's checksum over `bytes`, whose word 1 is the checksum itself.
pub fn superblock(bytes: &[u8]) -> u64 {
    let secret = [0, 0];
    let mut sum = constant(secret, Domain::Superblock);
    for (i, chunk) in bytes.chunks_exact(4).enumerate() {
        if let (Ok(word), false) = (<[u8; 4]>::try_from(chunk), i == 2 || i == 3) {
            let value = u64::from(u32::from_le_bytes(word));
            sum = sum.wrapping_add(derive(secret, i as u64).wrapping_mul(value));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_gives_what_a_new_sum_gives() {
        let keys = Keys::new([3, 4]).unwrap();
        let mut bytes = [7u8; 4096];
        let mut sum = keys.object(Domain::Node, &bytes, 8);
        for at in [0usize, 16, 808, 4088] {
            let old = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            let new = old.wrapping_mul(31).wrapping_add(at as u64);
            bytes[at..at + 8].copy_from_slice(&new.to_le_bytes());
            sum = sum.wrapping_add(keys.change(at / 8, old, new));
            assert_eq!(sum, keys.object(Domain::Node, &bytes, 8));
        }
        bytes[8..16].fill(1);
        assert_eq!(
            sum,
            keys.object(Domain::Node, &bytes, 8),
            "the checksum's own word does not count"
        );
    }

    #[test]
    fn every_single_word_counts() {
        let keys = Keys::new([5, 6]).unwrap();
        let zero = [0u8; 256];
        let sum = keys.object(Domain::Inode, &zero, 8);
        for bit in (0..2048).filter(|b| !(64..128).contains(b)) {
            let mut bytes = zero;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum, keys.object(Domain::Inode, &bytes, 8));
        }
    }

    #[test]
    fn keys_past_the_table_continue_it() {
        let keys = Keys::new([9, 9]).unwrap();
        let beyond = keys.word(TABLE, 1);
        assert_eq!(beyond, derive([9, 9], 2 * TABLE as u64));
        assert_ne!(keys.start(Domain::Inode), keys.start(Domain::Node));
    }
}
