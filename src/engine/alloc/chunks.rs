// SPDX-License-Identifier: GPL-2.0

//! A group's inode chunks in memory: where they are, which records are used, which can be handed out.

use super::super::error::Result;
use super::super::format::ag::{CHUNK_BLOCKS, MAX_CHUNKS};
use super::super::types::*;
use crate::platform::{Box, Vec};

const PAGE: usize = 64;

/// One chunk.
#[derive(Clone, Copy, Default)]
pub struct Chunk {
    /// First block, relative to the group.
    pub start: u32,
    /// Records used on the medium.
    pub used: u64,
    /// Records that cannot be handed out: used, or reserved by a transaction.
    pub taken: u64,
}

/// A page of the map; allocated outside the group's spin lock.
pub struct Page([Chunk; PAGE]);

impl Page {
    /// An empty page.
    pub fn new() -> Result<Box<Self>> {
        Ok(Box::new(Self([Chunk::default(); PAGE]))?)
    }
}

/// All chunks of a group.
pub struct ChunkMap {
    pages: Vec<Box<Page>>,
    count: u32,
    /// No chunk below this one has a free record.
    hint: u32,
}

impl ChunkMap {
    /// No chunks, but room for the list of pages, so that [`Self::push`] never allocates.
    pub fn new() -> Result<Self> {
        Ok(Self {
            pages: Vec::with_capacity(MAX_CHUNKS as usize / PAGE)?,
            count: 0,
            hint: 0,
        })
    }

    /// Number of chunks.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether the next [`Self::push`] wants a page.
    pub fn needs_page(&self) -> bool {
        self.count as usize >= self.pages.len() * PAGE
    }

    /// Appends a chunk; `page` if [`Self::needs_page`]. Gives an unneeded page back.
    pub fn push(&mut self, chunk: Chunk, page: Option<Box<Page>>) -> Option<Box<Page>> {
        let mut rest = page;
        if self.needs_page() {
            if let Some(page) = rest.take() {
                // Within the capacity: cannot fail.
                let _ = self.pages.push(page);
            }
        }
        let index = self.count;
        self.count += 1;
        if let Some(c) = self.get_mut(index) {
            *c = chunk;
        }
        rest
    }

    /// Chunk `index`.
    pub fn get(&self, index: u32) -> Option<&Chunk> {
        let index = (index < self.count).then_some(index as usize)?;
        self.pages.get(index / PAGE)?.0.get(index % PAGE)
    }

    /// Chunk `index`.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Chunk> {
        let index = (index < self.count).then_some(index as usize)?;
        self.pages.get_mut(index / PAGE)?.0.get_mut(index % PAGE)
    }

    /// Whether a record can be taken.
    pub fn has_free(&mut self) -> bool {
        while self.hint < self.count {
            if self.get(self.hint).is_some_and(|c| c.taken != u64::MAX) {
                return true;
            }
            self.hint += 1;
        }
        false
    }

    /// Takes a record: chunk, slot in it.
    pub fn take(&mut self) -> Option<(u32, u32)> {
        if !self.has_free() {
            return None;
        }
        let hint = self.hint;
        let c = self.get_mut(hint)?;
        let slot = c.taken.trailing_ones();
        c.taken |= 1 << slot;
        Some((hint, slot))
    }

    /// Makes a record available.
    pub fn give(&mut self, index: u32, slot: u32) {
        if let Some(c) = self.get_mut(index) {
            c.taken &= !(1u64 << (slot & 63));
            self.hint = self.hint.min(index);
        }
    }

    /// Takes the records of lost blocks out, for ever. False: there are none in these blocks.
    pub fn withdraw(&mut self, first: u64, len: u64) -> bool {
        let records = BLOCK_SIZE / super::super::format::inode::RECORD_SIZE;
        let mut any = false;
        for index in 0..self.count {
            let Some(chunk) = self.get_mut(index) else {
                continue;
            };
            let start = u64::from(chunk.start);
            let from = first.max(start);
            let to = first.saturating_add(len).min(start + CHUNK_BLOCKS);
            if from < to {
                let (at, n) = ((from - start) * records, (to - from) * records);
                chunk.taken |= super::slots::mask(at, n);
                any = true;
            }
        }
        any
    }

    /// Sets or clears the bit that stands for the medium; says whether it changed, and the new mask.
    pub fn set_used(&mut self, index: u32, slot: u32, used: bool) -> (bool, u64) {
        let Some(c) = self.get_mut(index) else {
            return (false, 0);
        };
        let bit = 1u64 << (slot & 63);
        let before = c.used;
        if used {
            c.used |= bit;
            c.taken |= bit;
        } else {
            c.used &= !bit;
        }
        (c.used != before, c.used)
    }

    /// Address of the record of `ino` relative to its group, if it is used on the medium.
    pub fn locate(&self, ino: Ino) -> Option<u64> {
        let c = self.get(ino.chunk())?;
        (c.used >> ino.slot() & 1 == 1).then_some(record_offset(c.start, ino.slot()))
    }
}

/// Byte offset of a record from its group's start.
pub const fn record_offset(start: u32, slot: u32) -> u64 {
    start as u64 * BLOCK_SIZE + slot as u64 * super::super::format::inode::RECORD_SIZE
}
