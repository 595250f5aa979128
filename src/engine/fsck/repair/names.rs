// SPDX-License-Identifier: GPL-2.0

//! The fifth step: names.
//!
//! An entry is believed if its name can be one and leads to an inode that there is. The key must
//! be the hash of the name; if it is not, the name stays and gets the key that belongs to it. The
//! kind follows the inode. Of two entries with one name the first stays.
//!
//! A directory that is not perfect in all this, and in its tree, is written anew. Keys of good
//! entries stay: a `readdir` that goes on afterwards finds its place.
//!
//! # Hazard
//!
//! Directories are read twice: once to learn who has a name, and again when it is known which
//! names stay. Both readings must come to the same result; nothing that the first one looked at is
//! changed in between.

use zerocopy::IntoBytes;

use super::build::{nodes_for, Branch};
use super::records::NAMES;
use super::tree::{Leaf, NODE};
use super::{Action, Class, Repair};
use crate::engine::directory::{hash_of, key_of, NameHash};
use crate::engine::error::Result;
use crate::engine::format::directory::{
    EntryHeader, LeafSpecific, BITMAP_OFFSET, ENTRY_HEADER, FINGERPRINTS_OFFSET, HEAP_OFFSET,
    MAX_COLLISION, OFFSETS_OFFSET, SLOTS,
};
use crate::engine::format::inode::{InodeRecord, ROOT_DIRECTORY};
use crate::engine::format::node::DIRECTORY_LEAF_MAGIC;
use crate::engine::fsck::issue::EntryFault;
use crate::engine::fsck::leaf::{bitmap, entry, heap_adds_up, possible, Heap};
use crate::engine::fsck::table::{BROKEN, CONNECTED, KNOWN, NAMED, REWRITE, TAKEN, USED};
use crate::engine::fsck::tree::Owner;
use crate::engine::media::Media;
use crate::engine::types::{u32_of, u64_of, usize_of, Block, Ino, BLOCK_SIZE, MAX_NAME};
use crate::platform::{yield_now, Vec};
use zerocopy::little_endian::{U16, U64};

/// Bytes of a leaf's heap.
const HEAP: usize = (BLOCK_SIZE - HEAP_OFFSET) as usize;

/// An entry that stays.
#[derive(Clone, Copy)]
pub(super) struct Name {
    hash: u64,
    /// `None`: it gets a new one.
    collision: Option<u64>,
    /// Index of the inode that it leads to.
    pub(super) target: usize,
    /// Where its bytes are.
    at: usize,
    len: usize,
}

/// The entries of a directory.
pub(super) struct Names {
    pub(super) entries: Vec<Name>,
    bytes: Vec<u8>,
    nodes: Vec<Block>,
    /// Nothing has to be written.
    perfect: bool,
}

impl Names {
    /// The bytes of a name.
    pub(super) fn name(&self, name: &Name) -> &[u8] {
        self.bytes
            .get(name.at..name.at + name.len)
            .unwrap_or_default()
    }

    /// The index that a name leads to.
    pub(super) fn find(&self, hash: &NameHash, name: &[u8]) -> Option<usize> {
        let hash = hash.of(name);
        let first = self.entries.partition_point(|entry| entry.hash < hash);
        let rest = self.entries.get(first..).unwrap_or_default();
        rest.iter()
            .take_while(|entry| entry.hash == hash)
            .find(|entry| self.name(entry) == name)
            .map(|entry| entry.target)
    }

    fn add(&mut self, hash: u64, collision: Option<u64>, target: usize, name: &[u8]) -> Result {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(name)?;
        self.entries.push(Name {
            hash,
            collision,
            target,
            at,
            len: name.len(),
        })?;
        Ok(())
    }
}

/// Bytes that a name takes in a heap.
fn entry_size(len: usize) -> usize {
    (usize_of(ENTRY_HEADER) + len).next_multiple_of(8)
}

impl<M: Media> Repair<'_, M> {
    /// Reads all directories: who has a name, and which of them are to be written anew.
    pub(super) fn directories(&mut self) -> Result {
        let total = self.table.len();
        for index in 0..total {
            let entry = self.table.get(index);
            if !entry.is(USED) || !entry.is(KNOWN) || !entry.is_directory() {
                continue;
            }
            self.observer
                .progress(Class::Directories, u64_of(index), u64_of(total));
            yield_now();
            let Some(record) = self.record(index) else {
                continue;
            };
            let names = self.names_of(index, &record, false)?;
            if !names.perfect {
                self.rewrite_later(index);
            }
            for name in names.entries.iter() {
                let Some(target) = self.table.get_mut(name.target) else {
                    continue;
                };
                if target.is_directory() {
                    target.flags |= NAMED;
                    let edge = (u32_of(u64_of(index)), u32_of(u64_of(name.target)));
                    self.edges.push(edge)?;
                } else {
                    target.found = target.found.saturating_add(1);
                }
            }
        }
        Ok(())
    }

    pub(super) fn rewrite_later(&mut self, index: usize) {
        if let Some(entry) = self.table.get_mut(index) {
            entry.flags |= REWRITE;
        }
    }

    /// The entries of a directory that stay, sorted, each with a key of its own. `tell`: says what
    /// becomes of the others.
    pub(super) fn names_of(
        &mut self,
        index: usize,
        record: &InodeRecord,
        tell: bool,
    ) -> Result<Names> {
        let ino = self.table.ino(index);
        let mut names = Names {
            entries: Vec::new(),
            bytes: Vec::new(),
            nodes: Vec::new(),
            perfect: true,
        };
        let owner = Owner::of(ino, record);
        let walked = self.walk(&owner, &NAMES, false, &mut |repair, leaf| {
            repair.leaf_names(ino, leaf, tell, &mut names)
        })?;
        names.nodes = walked.nodes;
        names.perfect &= !walked.faults;
        if self.table.get(index).is(BROKEN) {
            for &block in self.leaves_of(index, DIRECTORY_LEAF_MAGIC)?.iter() {
                names.perfect = false;
                if tell {
                    self.act(Action::LeafSalvaged { ino, block });
                }
                self.visit_salvaged(block, &mut |repair, leaf| {
                    repair.leaf_names(ino, leaf, tell, &mut names)
                })?;
            }
        }
        self.arrange_names(ino, &mut names, tell)?;
        Ok(names)
    }

    fn leaf_names(&mut self, dir: Ino, leaf: &Leaf<'_>, tell: bool, names: &mut Names) -> Result {
        let used = bitmap(leaf.bytes);
        names.perfect &=
            leaf.sound && used != 0 && u64::from(used.count_ones()) == u64_of(leaf.count);
        let mut heap = Heap::default();
        let mut live = 0;
        for slot in (0..SLOTS).filter(|slot| used >> slot & 1 != 0) {
            let fault = match entry(leaf.bytes, slot) {
                Some(entry) if heap.take(entry.start, entry.len) => {
                    live += entry.len;
                    let hash = self.hash.of(entry.name);
                    let print = leaf.bytes.get(usize_of(FINGERPRINTS_OFFSET) + slot);
                    let target = self.table.index(entry.ino);
                    let target = target.filter(|&target| self.table.get(target).is(KNOWN));
                    if !possible(entry.name) {
                        Some(EntryFault::Name)
                    } else if let Some(target) = target {
                        let right = hash_of(entry.key) == hash;
                        names.perfect &= right
                            && (leaf.low..leaf.high).contains(&entry.key)
                            && print.copied().map(u64::from) == Some(hash & 0xff);
                        if tell && !right {
                            self.act(Action::NameMoved { dir });
                        }
                        if self.table.get(target).kind != entry.kind {
                            names.perfect = false;
                            if tell {
                                self.act(Action::NameCorrected { dir });
                            }
                        }
                        let collision = right.then_some(entry.key & MAX_COLLISION);
                        names.add(hash, collision, target, entry.name)?;
                        None
                    } else {
                        Some(EntryFault::Target)
                    }
                }
                _ => Some(EntryFault::Place),
            };
            if let Some(fault) = fault {
                names.perfect = false;
                if tell {
                    self.act(Action::NameRemoved { dir, fault });
                }
            }
        }
        names.perfect &= heap_adds_up(leaf.bytes, live, used);
        Ok(())
    }

    /// Sorts entries, removes the second of two with one name, gives each a key of its own.
    fn arrange_names(&mut self, dir: Ino, names: &mut Names, tell: bool) -> Result {
        names.entries.sort_unstable_by_key(|name| {
            (name.hash, name.collision.is_none(), name.collision, name.at)
        });
        let entries = core::mem::take(&mut names.entries);
        let mut from = 0;
        while let Some(first) = entries.get(from) {
            let hash = first.hash;
            let rest = entries.get(from..).unwrap_or_default();
            let count = rest.partition_point(|name| name.hash == hash);
            let group = rest.get(..count).unwrap_or_default();
            let start = names.entries.len();
            let (mut size, mut next) = (0, 0);
            for name in group {
                let before = names.entries.get(start..).unwrap_or_default();
                let twice = before
                    .iter()
                    .any(|other| names.name(other) == names.name(name));
                // A collision number that was drawn once more is drawn anew.
                let mut name = *name;
                let key_taken = name.collision.is_none()
                    || before
                        .last()
                        .is_some_and(|last| last.collision >= name.collision);
                if key_taken && !twice {
                    names.perfect = false;
                    name.collision = Some(next);
                }
                size += entry_size(name.len);
                if twice || size > HEAP || before.len() >= SLOTS {
                    names.perfect = false;
                    if tell {
                        let fault = EntryFault::DuplicateName;
                        self.act(Action::NameRemoved { dir, fault });
                    }
                    continue;
                }
                next = name.collision.map_or(next, |collision| collision + 1);
                names.entries.push(name)?;
            }
            from += count;
        }
        Ok(())
    }

    /// Keeps those entries that lead to files, and of each directory the name that stays.
    fn keep_chosen(&mut self, index: usize, names: &mut Names) -> Result {
        let dir = self.table.ino(index);
        let parent = u32_of(u64_of(index) + 1);
        let entries = core::mem::take(&mut names.entries);
        for name in entries.iter() {
            let target = self.table.get(name.target);
            if target.is_directory() {
                let chosen = target.is(CONNECTED) && target.parent == parent && !target.is(TAKEN);
                let ino = self.table.ino(name.target);
                if !chosen || ino == Ino::ROOT {
                    self.act(Action::DirectoryUnlinked { dir, ino });
                    continue;
                }
                if let Some(target) = self.table.get_mut(name.target) {
                    target.flags |= TAKEN;
                }
            }
            names.entries.push(*name)?;
        }
        for name in names.entries.iter() {
            if let Some(target) = self.table.get_mut(name.target) {
                target.flags &= !TAKEN;
            }
        }
        Ok(())
    }

    /// Writes a directory anew with these names more; false if there is no room for it.
    pub(super) fn rewrite_directory(
        &mut self,
        index: usize,
        more: &[(&[u8], usize)],
        tell: bool,
    ) -> Result<bool> {
        let Some(mut record) = self.record(index) else {
            return Ok(false);
        };
        let ino = self.table.ino(index);
        let mut names = self.names_of(index, &record, tell)?;
        self.keep_chosen(index, &mut names)?;
        for &(name, target) in more {
            let hash = self.hash.of(name);
            names.add(hash, None, target, name)?;
        }
        self.arrange_names(ino, &mut names, false)?;
        if self.outcome.refused.is_some() {
            return Ok(false);
        }
        // Room for names to come, if there is some.
        let mut leaves = split(&names, HEAP * 3 / 4, SLOTS * 3 / 4)?;
        let mut pool = self.pool(nodes_for(leaves.len()), &[])?;
        if pool.is_none() {
            leaves = split(&names, HEAP, SLOTS)?;
            pool = self.pool(nodes_for(leaves.len()), &names.nodes)?;
        }
        let Some(mut pool) = pool else {
            return Ok(false);
        };
        let count = u64_of(names.entries.len());
        if tell
            && !self.act(Action::DirectoryRebuilt {
                dir: ino,
                names: count,
            })
        {
            return Ok(false);
        }
        let mut branches = Vec::new();
        let mut from = 0;
        for &end in leaves.iter() {
            let part = names.entries.get(from..end).unwrap_or_default();
            let mut node = [0u8; NODE];
            self.pack_leaf(&names, part, &mut node);
            let shape = (NAMES.leaf, 0, part.len());
            let block = self.put_node(&mut pool, &record, shape, &mut node)?;
            let key = part.first().map_or(0, |name| key_of(name.hash));
            branches.push(Branch { key, block })?;
            from = end;
        }
        let (root, height) = self.put_index(&mut pool, &record, &NAMES, branches)?;
        record.root = ROOT_DIRECTORY;
        record.height = height;
        record.count = 0;
        record.inline.fill(0);
        if let Some(place) = record.inline.first_chunk_mut::<8>() {
            *place = root.0.to_le_bytes();
        }
        record.blocks.set(pool.len());
        record.size.set(pool.len().saturating_mul(BLOCK_SIZE));
        self.put_record(index, &record)?;
        self.retire(&names.nodes, &pool)?;
        if let Some(entry) = self.table.get_mut(index) {
            // Whatever was found elsewhere is in it now.
            entry.flags &= !BROKEN;
        }
        Ok(true)
    }

    /// Fills a leaf, but for its header's first 56 bytes.
    fn pack_leaf(&self, names: &Names, part: &[Name], node: &mut [u8; NODE]) {
        let mut start = NODE;
        let mut used = 0u128;
        for (slot, name) in part.iter().take(SLOTS).enumerate() {
            let bytes = names.name(name);
            let size = entry_size(bytes.len());
            if start < usize_of(HEAP_OFFSET) + size {
                break;
            }
            start -= size;
            let key = key_of(name.hash) | name.collision.unwrap_or(0);
            let header = EntryHeader {
                key: U64::new(key),
                ino: U64::new(self.table.ino(name.target).0),
                name_len: u8::try_from(bytes.len()).unwrap_or(0),
                kind: self.table.get(name.target).kind,
            };
            let offset = u16::try_from(start).unwrap_or(0);
            let print = u8::try_from(name.hash & 0xff).unwrap_or(0);
            let name_at = start + usize_of(ENTRY_HEADER);
            put(node, start, header.as_bytes());
            put(node, name_at, bytes);
            put(
                node,
                usize_of(OFFSETS_OFFSET) + 2 * slot,
                &offset.to_le_bytes(),
            );
            put(node, usize_of(FINGERPRINTS_OFFSET) + slot, &[print]);
            used |= 1 << slot;
        }
        put(node, usize_of(BITMAP_OFFSET), &used.to_le_bytes());
        let specific = LeafSpecific {
            heap_start: U16::new(u16::try_from(start).unwrap_or(0)),
            dead: U16::new(0),
            reserved: [0; 4],
        };
        put(node, 56, specific.as_bytes());
    }
}

fn put(node: &mut [u8; NODE], at: usize, bytes: &[u8]) {
    if let Some(place) = node.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Where each leaf ends, if a leaf holds so many bytes and entries; names of one hash stay
/// together.
fn split(names: &Names, bytes: usize, slots: usize) -> Result<Vec<usize>> {
    let mut ends = Vec::new();
    let (mut size, mut count, mut from) = (0, 0, 0);
    let entries = &names.entries;
    debug_assert!(entry_size(MAX_NAME) < bytes);
    while let Some(first) = entries.get(from) {
        let rest = entries.get(from..).unwrap_or_default();
        let group = rest.partition_point(|name| name.hash == first.hash);
        let of_group = rest.get(..group).unwrap_or_default();
        let more: usize = of_group.iter().map(|name| entry_size(name.len)).sum();
        if count != 0 && (size + more > bytes || count + group > slots) {
            ends.push(from)?;
            (size, count) = (0, 0);
        }
        size += more;
        count += group;
        from += group;
    }
    if count != 0 {
        ends.push(from)?;
    }
    Ok(ends)
}
