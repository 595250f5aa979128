// SPDX-License-Identifier: GPL-2.0

//! The blocks of a directory, with the bounds of their keys, and whether all of it is as it should be.

use std::collections::HashSet;

use ochre::engine::directory::{check_name, hash_of};
use ochre::engine::format::inode::InodeRecord;
use ochre::engine::format::node::{
    DIRECTORY_INDEX_MAGIC, DIRECTORY_LEAF_MAGIC, INDEX_CAPACITY, MAX_HEIGHT,
};
use ochre::engine::types::{Block, FileKind, Ino};

use super::directory::{bitmap, entries, entry_size, Entry, Hashes};
use crate::reader::{children, root_of, Bytes, Reader};

/// An index node or a leaf.
pub struct Node {
    pub block: Block,
    pub is_leaf: bool,
    /// Bounds of its keys.
    pub range: (u64, u64),
    /// Leaves before it.
    pub first_leaf: usize,
    pub bytes: Box<Bytes>,
}

/// A directory's blocks, parents before children, from low keys to high ones.
pub struct Tree {
    pub nodes: Vec<Node>,
    /// The check would find nothing in it.
    pub sound: bool,
}

impl Tree {
    /// Walks the tree of `ino`. Blocks in `seen` are somebody's already.
    pub fn walk(
        reader: &Reader<'_>,
        ino: Ino,
        record: &InodeRecord,
        hashes: &Hashes,
        seen: &mut HashSet<u64>,
    ) -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            sound: true,
        };
        let root = root_of(record);
        if root == Block::NONE && record.height == 0 {
            return tree;
        }
        if root == Block::NONE || record.height == 0 || record.height > MAX_HEIGHT {
            tree.sound = false;
            return tree;
        }
        let mut leaves = 0;
        let (mut names, mut keys) = (HashSet::new(), HashSet::new());
        let mut pending = vec![(root, record.height, (0, u64::MAX))];
        while let Some((block, height, range)) = pending.pop() {
            let is_leaf = height == 1;
            let Some(bytes) = reader.block(block).ok().filter(|_| seen.insert(block.0)) else {
                tree.sound = false;
                continue;
            };
            if !is_node(&bytes, is_leaf) {
                // Not what was looked for: whatever it is, it is no part of this directory.
                seen.remove(&block.0);
                tree.sound = false;
                continue;
            }
            tree.sound &= header_is_right(reader, &bytes, block, ino, record, height);
            if is_leaf {
                let found = entries(&bytes);
                tree.sound &= leaf_is_sound(reader, &bytes, &found, range, hashes);
                tree.sound &= found
                    .into_iter()
                    .all(|entry| keys.insert(entry.key) && names.insert(entry.name));
            } else {
                tree.sound &= push_children(&bytes, height, range, &mut pending);
            }
            tree.nodes.push(Node {
                block,
                is_leaf,
                range,
                first_leaf: leaves,
                bytes,
            });
            leaves += usize::from(is_leaf);
        }
        tree
    }

    /// How many leaves there are.
    pub fn leaves(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_leaf).count()
    }
}

fn is_node(bytes: &Bytes, is_leaf: bool) -> bool {
    let magic = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    magic
        == if is_leaf {
            DIRECTORY_LEAF_MAGIC
        } else {
            DIRECTORY_INDEX_MAGIC
        }
}

fn header_is_right(
    reader: &Reader<'_>,
    bytes: &Bytes,
    block: Block,
    ino: Ino,
    record: &InodeRecord,
    height: u8,
) -> bool {
    reader.header(bytes).is_some_and(|(header, right)| {
        right
            && header.block.get() == block.0
            && header.owner.get() == ino.0
            && header.uuid == reader.info.uuid
            && header.generation.get() == record.generation.get()
            && header.level.get() == u16::from(height) - 1
    })
}

/// Puts the children on the stack, the first one on top; false if the node's keys are not in order.
fn push_children(
    bytes: &Bytes,
    height: u8,
    (low, high): (u64, u64),
    pending: &mut Vec<(Block, u8, (u64, u64))>,
) -> bool {
    let children = children(bytes);
    let mut bounds: Vec<u64> = vec![low];
    bounds.extend(children.iter().skip(1).map(|(key, _)| *key));
    bounds.push(high);
    for (index, (_, child)) in children.iter().enumerate().rev() {
        pending.push((*child, height - 1, (bounds[index], bounds[index + 1])));
    }
    !children.is_empty()
        && children.len() <= INDEX_CAPACITY
        && bounds.windows(2).all(|pair| pair[0] < pair[1])
}

fn leaf_is_sound(
    reader: &Reader<'_>,
    bytes: &Bytes,
    found: &[Entry],
    (low, high): (u64, u64),
    hashes: &Hashes,
) -> bool {
    let count = u16::from_le_bytes([bytes[6], bytes[7]]);
    let used = bitmap(bytes).count_ones();
    let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let (heap_start, dead) = (word(56), word(58));
    let live: usize = found.iter().map(|entry| entry_size(entry.name.len())).sum();
    let mut starts: Vec<(usize, usize)> = found
        .iter()
        .map(|entry| (entry.start, entry.start + entry_size(entry.name.len())))
        .collect();
    starts.sort_unstable();
    used != 0
        && used == u32::from(count)
        && found.len() == used as usize
        && heap_start + live + dead == bytes.len()
        && starts.first().is_none_or(|first| first.0 >= heap_start)
        && starts.windows(2).all(|pair| pair[0].1 <= pair[1].0)
        && found.iter().all(|entry| {
            let hash = hashes.old.of(&entry.name);
            check_name(&entry.name).is_ok()
                && hash_of(entry.key) == hash
                && (low..high).contains(&entry.key)
                && entry.fingerprint == hash as u8
                && leads_somewhere(reader, entry)
        })
}

/// Whether the entry's inode is in use and of the kind that the entry says.
fn leads_somewhere(reader: &Reader<'_>, entry: &Entry) -> bool {
    reader.inode(Ino(entry.ino)).is_ok_and(|(_, record, used)| {
        used && FileKind::from_mode(record.mode.get())
            .is_some_and(|kind| kind.to_disk() == entry.kind)
    })
}
