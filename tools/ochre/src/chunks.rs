// SPDX-License-Identifier: GPL-2.0

//! Which inode records and map entries mean something. What lies beside them may be anything: mkfs does not clear it.

use std::collections::HashMap;

use ochre::engine::format::ag::{
    ChunkEntry, CHUNKS_OFFSET, CHUNK_BLOCKS, CHUNK_MAP_BLOCK, FREE_BLOCKS_OFFSET, MAX_CHUNKS,
    METADATA_BLOCKS,
};
use ochre::engine::superblock::Geometry;
use ochre::engine::types::{Block, Ino};
use zerocopy::FromBytes;

use crate::reader::{Bytes, Reader};

/// The chunks of an image.
#[derive(Default)]
pub struct Chunks {
    /// Entries of each group's map.
    entries: Vec<u64>,
    /// By first block: first inode, and the records in use.
    pub chunks: HashMap<u64, (Ino, u64)>,
}

impl Chunks {
    /// Reads all chunk maps.
    pub fn read(reader: &Reader<'_>) -> Result<Self, String> {
        let mut chunks = Self::default();
        chunks.add(reader)?;
        Ok(chunks)
    }

    /// Adds what another state of the image has in use.
    pub fn add(&mut self, reader: &Reader<'_>) -> Result<(), String> {
        let g = &reader.info.geometry;
        self.entries.resize(g.ag_count as usize, 0);
        for ag in 0..g.ag_count {
            let count = reader.word(g.ag_base(ag).address() + CHUNKS_OFFSET);
            let count = count.unwrap_or(0);
            if count > u64::from(MAX_CHUNKS) {
                continue;
            }
            let entries = &mut self.entries[ag as usize];
            *entries = count.max(*entries);
            let mut map = vec![0; count as usize * 16];
            if reader.image.read(g.chunk_entry(ag, 0), &mut map).is_err() {
                continue;
            }
            for (index, entry) in map.chunks_exact(16).enumerate() {
                let Ok(entry) = ChunkEntry::read_from_bytes(entry) else {
                    continue;
                };
                let (index, start) = (index as u32, entry.start.get());
                let block = g.ag_base(ag).plus(u64::from(start));
                let inside = g.locate(block).is_some_and(|(found, at)| {
                    found == ag && at >= METADATA_BLOCKS && at + CHUNK_BLOCKS <= g.ag_blocks(ag)
                });
                if inside && entry.check.get() == reader.keys.chunk(ag, index, start) {
                    let first = Ino::from_parts(ag, index, 0);
                    self.chunks.entry(block.0).or_insert((first, 0)).1 |= entry.mask.get();
                }
            }
        }
        Ok(())
    }

    /// The chunk that a block belongs to: the first inode in this block, and which of its sixteen records are in use.
    pub fn of(&self, block: u64) -> Option<(Ino, u16)> {
        (0..CHUNK_BLOCKS).find_map(|distance| {
            let (first, mask) = self.chunks.get(&block.checked_sub(distance)?)?;
            let ino = Ino(first.0 + distance * 16);
            Some((ino, (mask >> (distance * 16)) as u16))
        })
    }

    /// Clears what means nothing in a block of group metadata or of inode records.
    pub fn mask(&self, g: &Geometry, block: u64, bytes: &mut Bytes) {
        let Some((ag, relative)) = g.locate(Block(block)) else {
            return;
        };
        if relative == 0 {
            bytes[FREE_BLOCKS_OFFSET as usize + 24..].fill(0);
        } else if let Some(first) = relative
            .checked_sub(CHUNK_MAP_BLOCK)
            .filter(|_| relative < METADATA_BLOCKS)
        {
            let entries = self.entries.get(ag as usize).copied().unwrap_or(0);
            let here = entries.saturating_sub(first * 256).min(256) as usize;
            bytes[here * 16..].fill(0);
        } else if let Some((_, used)) = self.of(block) {
            for record in (0..16).filter(|record| used >> record & 1 == 0) {
                bytes[record * 256..record * 256 + 256].fill(0);
            }
        }
    }
}
