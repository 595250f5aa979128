// SPDX-License-Identifier: GPL-2.0

//! The second pass: headers of the groups and the chunk maps.

use zerocopy::FromBytes;

use crate::engine::checksum::Domain;
use crate::engine::error::Result;
use crate::engine::format::ag::{
    AgHeader, ChunkEntry, CHECKED, CHUNKS_OFFSET, CHUNK_BLOCKS, CHUNK_MAP_BLOCK, MAGIC, MAX_CHUNKS,
    METADATA_BLOCKS,
};
use crate::engine::media::Media;
use crate::engine::types::{u32_of, Block, Ino, BLOCK_SIZE};

use super::{Check, Issue, Stage};

/// Entries of the chunk map that are read at once.
const ENTRIES: usize = 256;

impl<M: Media> Check<'_, M> {
    /// Reads headers and chunk maps; fills the table of inodes.
    pub(super) fn groups(&mut self) -> Result {
        let count = self.shape.ag_count;
        for ag in 0..count {
            self.observer
                .progress(Stage::Groups, u64::from(ag), u64::from(count));
            self.summary.blocks += self.shape.ag_len(ag);
            self.claimed
                .set_run(Block(self.shape.ag_first(ag)), METADATA_BLOCKS);
            self.table.start_group()?;
            let chunks = self.group_header(ag);
            self.chunk_map(ag, chunks)?;
        }
        self.observer
            .progress(Stage::Groups, u64::from(count), u64::from(count));
        Ok(())
    }

    /// Checks a header; returns the number of chunks.
    fn group_header(&mut self, ag: u32) -> u32 {
        let first = self.shape.ag_first(ag);
        let mut bytes = [0u8; 88];
        if self.media.read(Block(first).address(), &mut bytes).is_err() {
            self.report(Issue::GroupHeader {
                ag,
                fault: "cannot be read",
            });
            return 0;
        }
        let Ok(header) = AgHeader::read_from_bytes(&bytes) else {
            return 0;
        };
        let sum = self
            .shape
            .keys
            .object(Domain::AgHeader, &bytes[..CHECKED], 8);
        let fault = if header.magic.get() != MAGIC {
            "wrong magic number"
        } else if header.checksum.get() != sum {
            "wrong checksum"
        } else if header.block.get() != first || header.agno.get() != ag {
            "carries another group's number"
        } else if header.uuid != self.shape.uuid {
            "belongs to another filesystem"
        } else if header.blocks.get() != self.shape.ag_len(ag) {
            "wrong number of blocks"
        } else {
            ""
        };
        if !fault.is_empty() {
            self.report(Issue::GroupHeader { ag, fault });
        }
        let chunks = self
            .media
            .read_u64(Block(first).address() + CHUNKS_OFFSET)
            .unwrap_or(0);
        if chunks > u64::from(MAX_CHUNKS) {
            self.report(Issue::GroupChunks { ag, chunks });
            return 0;
        }
        u32_of(chunks)
    }

    fn chunk_map(&mut self, ag: u32, chunks: u32) -> Result {
        let map = Block(self.shape.ag_first(ag) + CHUNK_MAP_BLOCK).address();
        let mut bytes = [0u8; ENTRIES * 16];
        let mut next = 0;
        while next < chunks {
            let address = map + u64::from(next) * 16;
            let readable = self.media.read(address, &mut bytes).is_ok();
            for entry in bytes.chunks_exact(16) {
                if next >= chunks {
                    break;
                }
                match ChunkEntry::read_from_bytes(entry) {
                    Ok(entry) if readable => self.chunk(ag, next, &entry)?,
                    _ => {
                        let fault = "cannot be read";
                        self.report(Issue::ChunkEntry {
                            ag,
                            chunk: next,
                            fault,
                        });
                        self.table.add_chunk(ag, next, 0, 0)?;
                    }
                }
                next += 1;
            }
        }
        self.behind_the_map(ag, chunks);
        Ok(())
    }

    /// Chunks are never given back: an entry behind the last one means that the count is too low.
    fn behind_the_map(&mut self, ag: u32, chunks: u32) {
        let map = Block(self.shape.ag_first(ag) + CHUNK_MAP_BLOCK).address();
        let mut bytes = [0u8; 16];
        let readable = chunks < MAX_CHUNKS
            && self
                .media
                .read(map + u64::from(chunks) * 16, &mut bytes)
                .is_ok();
        if let (true, Ok(entry)) = (readable, ChunkEntry::read_from_bytes(&bytes)) {
            if entry.check.get() == self.shape.keys.chunk(ag, chunks, entry.start.get()) {
                self.report(Issue::ChunkEntry {
                    ag,
                    chunk: chunks,
                    fault: "is behind the last one that is counted",
                });
            }
        }
    }

    fn chunk(&mut self, ag: u32, chunk: u32, entry: &ChunkEntry) -> Result {
        let start = u64::from(entry.start.get());
        let block = Block(self.shape.ag_first(ag) + start);
        let mask = entry.mask.get();
        let fault = if entry.check.get() != self.shape.keys.chunk(ag, chunk, entry.start.get()) {
            "wrong check value"
        } else if start % CHUNK_BLOCKS != 0 || !self.shape.is_data(block, CHUNK_BLOCKS) {
            "impossible place"
        } else {
            ""
        };
        if !fault.is_empty() {
            self.report(Issue::ChunkEntry { ag, chunk, fault });
            return self.table.add_chunk(ag, chunk, 0, mask);
        }
        if let Some(shared) = self.claimed.set_run(block, CHUNK_BLOCKS) {
            let ino = Ino::from_parts(ag, chunk, 0);
            self.report(Issue::BlockShared { block: shared, ino });
        }
        if ag == 0 && chunk == 0 && mask & 1 == 0 {
            self.report(Issue::InodeZeroFree);
        }
        // Number 0 is in use for ever, and is no inode.
        let mask = if ag == 0 && chunk == 0 {
            mask & !1
        } else {
            mask
        };
        self.table.add_chunk(ag, chunk, block.0, mask)
    }
}

const _: () = assert!(CHUNK_BLOCKS * BLOCK_SIZE == 64 * 256);
