// SPDX-License-Identifier: GPL-2.0

//! What the check remembers of every inode.
//!
//! Numbers of inodes are sparse, so each chunk gets the next 64 places of some arrays. An inode's
//! place is its *index*.

use crate::engine::error::Result;
use crate::engine::format::ag::CHUNK_INODES;
use crate::engine::types::{u32_of, u64_of, usize_of, FileKind, Ino};
use crate::platform::Vec;

/// The record is in use.
pub(super) const USED: u16 = 1;
/// The record's link count and kind could be read.
pub(super) const KNOWN: u16 = 2;
/// The record says that it is in the orphan table.
pub(super) const CLAIMS_ORPHAN: u16 = 4;
/// The inode is in the orphan table.
pub(super) const ORPHAN: u16 = 8;
/// A directory on the way up that is being followed.
pub(super) const ON_PATH: u16 = 16;
/// A directory whose way up was followed.
pub(super) const FOLLOWED: u16 = 32;
/// Repair: something is wrong with the tree, and parts of it may be found elsewhere.
pub(super) const BROKEN: u16 = 64;
/// Repair: the count of blocks of this file is wrong.
pub(super) const SUSPECT: u16 = 8192;
/// Repair: the size is to be made from the content.
pub(super) const NEEDS_SIZE: u16 = 128;
/// Repair: a directory that hangs on the tree.
pub(super) const CONNECTED: u16 = 256;
/// Repair: some directory has a name for this directory.
pub(super) const NAMED: u16 = 512;
/// Repair: the name of this directory that stays was met.
pub(super) const TAKEN: u16 = 1024;
/// Repair: gets a name in `lost+found`.
pub(super) const LOST: u16 = 2048;
/// Repair: the directory's names are to be written anew.
pub(super) const REWRITE: u16 = 4096;

/// One record.
#[derive(Clone, Copy, Default)]
pub(super) struct Entry {
    /// The link count that is noted.
    pub(super) stored: u32,
    /// Names found; of a directory: subdirectories.
    pub(super) found: u32,
    /// 1 + the index of the directory that holds this one; 0 if none was found.
    pub(super) parent: u32,
    /// [`USED`] and so on.
    pub(super) flags: u16,
    /// As in a directory entry; 0 if unknown.
    pub(super) kind: u8,
}

impl Entry {
    pub(super) fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory.to_disk()
    }
}

/// One chunk of records.
#[derive(Clone, Copy)]
struct Chunk {
    ag: u32,
    number: u32,
    /// First block of the device; 0 if the chunk map's entry is damaged.
    block: u64,
    mask: u64,
}

/// All chunks and records.
pub(super) struct Table {
    /// For each group the number of the first of its chunks; one more at the end.
    groups: Vec<u32>,
    chunks: Vec<Chunk>,
    entries: Vec<Entry>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            groups: Vec::new(),
            chunks: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Starts the next group; groups come in order.
    pub(super) fn start_group(&mut self) -> Result {
        self.groups.push(u32_of(u64_of(self.chunks.len())))?;
        Ok(())
    }

    /// Adds the next chunk of the group that was started last.
    pub(super) fn add_chunk(&mut self, ag: u32, number: u32, block: u64, mask: u64) -> Result {
        self.chunks.push(Chunk {
            ag,
            number,
            block,
            mask,
        })?;
        for slot in 0..CHUNK_INODES {
            let flags = if mask >> slot & 1 != 0 { USED } else { 0u16 };
            self.entries.push(Entry {
                flags,
                ..Entry::default()
            })?;
        }
        Ok(())
    }

    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// First block and mask of a chunk, and the number of its first inode.
    pub(super) fn chunk(&self, chunk: usize) -> Option<(u64, u64, Ino)> {
        let chunk = self.chunks.get(chunk)?;
        Some((
            chunk.block,
            chunk.mask,
            Ino::from_parts(chunk.ag, chunk.number, 0),
        ))
    }

    /// The index of an inode that is in use.
    pub(super) fn index(&self, ino: Ino) -> Option<usize> {
        let ag = usize_of(u64::from(ino.ag()));
        let first = *self.groups.get(ag)?;
        let after = match self.groups.get(ag.checked_add(1)?) {
            Some(&after) => after,
            None => u32_of(u64_of(self.chunks.len())),
        };
        let chunk = first
            .checked_add(ino.chunk())
            .filter(|&chunk| chunk < after)?;
        let index = usize_of(u64::from(chunk) * u64::from(CHUNK_INODES) + u64::from(ino.slot()));
        self.entries
            .get(index)
            .filter(|entry| entry.is(USED))
            .map(|_| index)
    }

    /// The number of the inode at an index.
    pub(super) fn ino(&self, index: usize) -> Ino {
        let slot = u32_of(u64_of(index) % u64::from(CHUNK_INODES));
        match self.chunks.get(index / usize_of(u64::from(CHUNK_INODES))) {
            Some(chunk) => Ino::from_parts(chunk.ag, chunk.number, slot),
            None => Ino::NONE,
        }
    }

    /// Byte address of the record at an index.
    pub(super) fn address(&self, index: usize) -> Option<u64> {
        let chunk = self.chunks.get(index / usize_of(u64::from(CHUNK_INODES)))?;
        let slot = u64_of(index) % u64::from(CHUNK_INODES);
        (chunk.block != 0).then(|| chunk.block * 4096 + slot * 256)
    }

    pub(super) fn get(&self, index: usize) -> Entry {
        self.entries.get(index).copied().unwrap_or_default()
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Entry> {
        self.entries.get_mut(index)
    }

    /// Changes a chunk's mask; its entries are the caller's.
    pub(super) fn set_mask(&mut self, chunk: usize, mask: u64) {
        if let Some(chunk) = self.chunks.get_mut(chunk) {
            chunk.mask = mask;
        }
    }

    /// How many chunks a group has.
    pub(super) fn chunks_in_group(&self, ag: u32) -> u32 {
        u32_of(u64_of(
            self.chunks.iter().filter(|chunk| chunk.ag == ag).count(),
        ))
    }

    /// Set bits of the chunk masks of a group.
    pub(super) fn used_in_group(&self, ag: u32) -> u64 {
        let of_group = self.chunks.iter().filter(|chunk| chunk.ag == ag);
        of_group
            .map(|chunk| u64::from(chunk.mask.count_ones()))
            .sum()
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> u64 {
        let entry = u64_of(core::mem::size_of::<Entry>());
        let chunk = u64_of(core::mem::size_of::<Chunk>());
        u64_of(self.entries.len()) * entry + u64_of(self.chunks.len()) * chunk
    }
}
