// SPDX-License-Identifier: GPL-2.0

//! A copy with other names in it.
//!
//! Block by block, by what a block is: group metadata as it is, records of inodes with their targets changed, directories
//! as [`super::directory`] says, everything else by the magic number that it carries. A checksum that was right is made right
//! again, one that was wrong stays wrong by as much.

use std::collections::HashSet;

use ochre::engine::checksum::{self, Domain, Keys};
use ochre::engine::directory::{hash_of, key_of, NameHash};
use ochre::engine::format::inode::{
    InodeRecord, MAGIC, ROOT_DIRECTORY, ROOT_INLINE_SYMLINK, ROOT_SYMLINK_BLOCKS,
};
use ochre::engine::format::node::{
    DIRECTORY_INDEX_MAGIC, DIRECTORY_LEAF_MAGIC, EXTENT_INDEX_MAGIC, EXTENT_LEAF_MAGIC,
    SYMLINK_MAGIC,
};
use ochre::engine::format::superblock::{CHECKED, MAGIC as SUPERBLOCK_MAGIC};
use ochre::engine::media::Media;
use ochre::engine::types::{Block, Ino};
use ochre::engine::verify::inode_sum;
use zerocopy::{FromBytes, IntoBytes};

use super::directory::{entries, in_place, leaf, spread, Hashes};
use super::recording::Recording;
use super::scrambler::Scrambler;
use super::tree::Tree;
use super::Sink;
use crate::chunks::Chunks;
use crate::reader::{count, magic, Bytes, Reader};

const ALL: (u64, u64) = (0, u64::MAX);

struct Copier<'a, 'b> {
    reader: &'a Reader<'a>,
    /// The source itself, where `reader` may show it with its journal replayed.
    raw: &'a dyn Media,
    sink: &'a mut Sink<'b>,
    names: Scrambler,
    hashes: Hashes,
    hash_key: [u64; 2],
    /// Blocks that were written.
    done: HashSet<u64>,
}

/// Copies what `media` shows, of the blocks that were read from below it.
pub fn copy<M: Media, N: Media>(
    media: &M,
    recording: &Recording<N>,
    replayed: bool,
    sink: &mut Sink<'_>,
) -> Result<(), String> {
    let reader = Reader::new(media, "the source")?;
    let names = Scrambler::default();
    let hash_key = names.random();
    let mut copier = Copier {
        reader: &reader,
        raw: recording,
        sink,
        hashes: Hashes {
            old: NameHash::new(reader.info.hash_key),
            new: NameHash::new(hash_key),
        },
        hash_key,
        names,
        done: HashSet::new(),
    };
    let chunks = Chunks::read(&reader)?;
    let mut firsts: Vec<u64> = chunks.chunks.keys().copied().collect();
    firsts.sort_unstable();
    for first in firsts {
        for block in first..first + 4 {
            copier.records(&chunks, block)?;
        }
    }
    let mut blocks = recording.blocks();
    if replayed {
        // Replaying makes blocks that nothing had read.
        let g = &reader.info.geometry;
        blocks.extend((0..g.ag_count).map(|ag| g.ag_base(ag).0));
        blocks.sort_unstable();
        blocks.dedup();
    }
    for block in blocks {
        if !copier.done.contains(&block) {
            copier.block(&chunks, block)?;
        }
    }
    Ok(())
}

/// The checksum of `new`, wrong by as much as that of `old` was.
fn resum(keys: &Keys, old: &Bytes, new: &mut Bytes) {
    let stored = old[8..16]
        .first_chunk::<8>()
        .map_or(0, |word| u64::from_le_bytes(*word));
    let wrong = stored.wrapping_sub(keys.object(Domain::Node, old, 8));
    let sum = keys.object(Domain::Node, new, 8).wrapping_add(wrong);
    new[8..16].copy_from_slice(&sum.to_le_bytes());
}

impl Copier<'_, '_> {
    /// Writes a block, once.
    fn put(&mut self, block: u64, bytes: &Bytes) -> Result<(), String> {
        self.done.insert(block);
        self.sink.put(block, bytes)
    }

    /// As [`Self::put`], with a checksum that is as right as before.
    fn put_node(&mut self, block: Block, old: &Bytes, mut new: Box<Bytes>) -> Result<(), String> {
        resum(&self.reader.keys, old, &mut new);
        self.put(block.0, &new)
    }

    /// A block of inode records, and the directories and targets that hang on them.
    fn records(&mut self, chunks: &Chunks, block: u64) -> Result<(), String> {
        let Some((first, used)) = chunks.of(block) else {
            return Ok(());
        };
        let Ok(bytes) = self.reader.block(Block(block)) else {
            self.sink.unreadable();
            self.done.insert(block);
            return Ok(());
        };
        let mut new = Box::new([0; 4096]);
        for at in (0..16usize).filter(|at| used >> at & 1 != 0) {
            let ino = Ino(first.0 + at as u64);
            let Ok(record) = InodeRecord::read_from_bytes(&bytes[at * 256..at * 256 + 256]) else {
                continue;
            };
            if ino == Ino::NONE || record.magic.get() != MAGIC {
                continue;
            }
            let record = self.record(ino, record)?;
            new[at * 256..at * 256 + 256].copy_from_slice(record.as_bytes());
        }
        self.put(block, &new)
    }

    fn record(&mut self, ino: Ino, old: InodeRecord) -> Result<InodeRecord, String> {
        let mut record = old;
        match record.root {
            ROOT_DIRECTORY => self.directory(ino, &old)?,
            ROOT_SYMLINK_BLOCKS => self.long_target(&old)?,
            ROOT_INLINE_SYMLINK => {
                let size = usize::try_from(record.size.get()).unwrap_or(usize::MAX);
                let size = size.min(record.inline.len());
                let target = self.names.target(&record.inline[..size]);
                record.inline[..size].copy_from_slice(&target);
                record.inline[size..].fill(0);
            }
            _ => {}
        }
        let keys = &self.reader.keys;
        let wrong = old.checksum.get().wrapping_sub(inode_sum(keys, &old));
        record
            .checksum
            .set(inode_sum(keys, &record).wrapping_add(wrong));
        Ok(record)
    }

    fn directory(&mut self, ino: Ino, record: &InodeRecord) -> Result<(), String> {
        let tree = Tree::walk(self.reader, ino, record, &self.hashes, &mut self.done);
        let leaves = tree.leaves();
        if tree.sound && leaves > 1 {
            let all: Vec<_> = tree
                .nodes
                .iter()
                .filter(|node| node.is_leaf)
                .flat_map(|node| entries(&node.bytes))
                .collect();
            if let Some(made) = spread(&all, leaves, &self.hashes, &mut self.names) {
                return self.rebuilt(&tree, &made);
            }
        }
        for node in &tree.nodes {
            let new = if node.is_leaf {
                in_place(&node.bytes, node.range, &self.hashes, &mut self.names)
            } else {
                without_rest(&node.bytes)
            };
            self.put_node(node.block, &node.bytes, new)?;
        }
        Ok(())
    }

    /// Writes the blocks of a directory with the entries spread anew.
    fn rebuilt(
        &mut self,
        tree: &Tree,
        made: &[Vec<super::directory::Entry>],
    ) -> Result<(), String> {
        let place: std::collections::HashMap<u64, usize> = tree
            .nodes
            .iter()
            .map(|node| (node.block.0, node.first_leaf))
            .collect();
        for node in &tree.nodes {
            if node.is_leaf {
                let new = leaf(&node.bytes, &made[node.first_leaf]);
                self.put_node(node.block, &node.bytes, new)?;
                continue;
            }
            let mut new = without_rest(&node.bytes);
            for (index, (_, child)) in crate::reader::children(&node.bytes).into_iter().enumerate()
            {
                let at = place.get(&child.0).copied().unwrap_or(0);
                let low = match at {
                    0 => 0,
                    at => key_of(hash_of(made[at][0].key)),
                };
                new[64 + index * 16..72 + index * 16].copy_from_slice(&low.to_le_bytes());
            }
            self.put_node(node.block, &node.bytes, new)?;
        }
        Ok(())
    }

    /// The blocks of a target that does not fit the record.
    fn long_target(&mut self, record: &InodeRecord) -> Result<(), String> {
        let mut blocks = Vec::new();
        let mut target = Vec::new();
        for word in record.inline.chunks_exact(8).take(2) {
            let block = word
                .first_chunk::<8>()
                .map_or(0, |word| u64::from_le_bytes(*word));
            if block == 0 || self.done.contains(&block) {
                continue;
            }
            let Ok(bytes) = self.reader.block(Block(block)) else {
                continue;
            };
            if magic(&bytes) != SYMLINK_MAGIC {
                continue;
            }
            let count = count(&bytes).min(4032);
            target.extend_from_slice(&bytes[64..64 + count]);
            blocks.push((block, bytes, count));
        }
        let target = self.names.target(&target);
        let mut rest = &target[..];
        for (block, bytes, count) in blocks {
            let (part, after) = rest.split_at(count);
            rest = after;
            let mut new = Box::new([0; 4096]);
            new[..64].copy_from_slice(&bytes[..64]);
            new[64..64 + count].copy_from_slice(part);
            self.put_node(Block(block), &bytes, new)?;
        }
        Ok(())
    }

    /// Any block that was not written with its owner.
    fn block(&mut self, chunks: &Chunks, block: u64) -> Result<(), String> {
        let g = &self.reader.info.geometry;
        let Ok(mut bytes) = self.reader.block(Block(block)) else {
            if block < g.blocks {
                self.sink.unreadable();
            }
            return Ok(());
        };
        let group = g.locate(Block(block));
        if block == 0 || block == g.blocks - 1 {
            if self.reader.info.from_backup || block != 0 {
                // A replay repairs the superblock; the copy is to show the damage.
                let _ = self.raw.read(Block(block).address(), &mut bytes[..]);
            }
            let bytes = self.superblock(&bytes);
            return self.put(block, &bytes);
        }
        if block == g.journal.0 {
            // The header, and the two checkpoints behind it.
            bytes[64..512].fill(0);
            bytes[528..1024].fill(0);
            bytes[1040..].fill(0);
            return self.put(block, &bytes);
        }
        if block < g.orphans.0 || (group.is_none() && block >= g.ag_start.0) {
            return Ok(());
        }
        match group {
            None => self.put(block, &bytes),
            Some((_, relative)) if relative < ochre::engine::format::ag::METADATA_BLOCKS => {
                chunks.mask(g, block, &mut bytes);
                self.put(block, &bytes)
            }
            Some(_) => self.stray(Block(block), &bytes),
        }
    }

    /// A block that nothing sound leads to: what its magic number says, or nothing.
    fn stray(&mut self, block: Block, bytes: &Bytes) -> Result<(), String> {
        let new = match magic(bytes) {
            EXTENT_INDEX_MAGIC | EXTENT_LEAF_MAGIC | DIRECTORY_INDEX_MAGIC => without_rest(bytes),
            DIRECTORY_LEAF_MAGIC => in_place(bytes, ALL, &self.hashes, &mut self.names),
            SYMLINK_MAGIC => {
                let count = count(bytes).min(4032);
                let mut new = Box::new([0; 4096]);
                new[..64].copy_from_slice(&bytes[..64]);
                new[64..64 + count].copy_from_slice(&self.names.target(&bytes[64..64 + count]));
                new
            }
            _ => return Ok(()),
        };
        self.put_node(block, bytes, new)
    }

    /// A superblock with another label and another key of the names' hash.
    fn superblock(&mut self, bytes: &Bytes) -> Box<Bytes> {
        let mut new = Box::new([0; 4096]);
        let word = |at: usize| {
            bytes[at..]
                .first_chunk::<8>()
                .map_or(0, |word| u64::from_le_bytes(*word))
        };
        if word(0) != SUPERBLOCK_MAGIC {
            return new;
        }
        new[..512].copy_from_slice(&bytes[..512]);
        let label = bytes[64..96]
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default();
        let scrambled = self.names.name(label);
        new[64..96].fill(0);
        new[64..64 + label.len()].copy_from_slice(&scrambled);
        new[192..200].copy_from_slice(&self.hash_key[0].to_le_bytes());
        new[200..208].copy_from_slice(&self.hash_key[1].to_le_bytes());
        let wrong = word(8).wrapping_sub(checksum::superblock(&bytes[..CHECKED]));
        let sum = checksum::superblock(&new[..CHECKED]).wrapping_add(wrong);
        new[8..16].copy_from_slice(&sum.to_le_bytes());
        new
    }
}

/// A block of entries of 16 bytes, without what lies behind the last.
fn without_rest(bytes: &Bytes) -> Box<Bytes> {
    let mut new = Box::new(*bytes);
    let end = (64 + count(bytes) * 16).min(new.len());
    new[end..].fill(0);
    new
}
