// SPDX-License-Identifier: GPL-2.0

//! How the repair writes: through the journal, with records of its own.
//!
//! Changes are collected into one journal record, made durable, stored in place, and then the
//! checkpoint moves past the record. A machine that stops in between replays the record, by the
//! next repair: so an inode record or a block is changed whole or not at all, and several that
//! belong together are too. It is the order of the running filesystem with one lane and one record
//! at a time.
//!
//! What is not reachable yet (nodes of a new tree, copies of data) is stored directly and made
//! durable before the record that makes it reachable; what is made from the geometry alone
//! (superblocks, headers) is stored directly too: half of it is damage that the next repair finds.
//!
//! # Hazard
//!
//! What was collected is not on the medium yet. [`Log::pending`] says whether a range is, so that
//! a reader can flush first; all reads of the repair pass through that test.

use zerocopy::IntoBytes;

use crate::engine::checksum::Keys;
use crate::engine::error::Result;
use crate::engine::format::journal::{
    Head, LANE_SEGMENTS, MAX_RECORD_WORDS, RECORD_HEADER_WORDS, SEGMENT_SIZE, WRITE,
};
use crate::engine::journal::{
    entries_sum, record_size, record_sum, record_word0, store_checkpoint,
};
use crate::engine::media::Media;
use crate::engine::superblock::Geometry;
use crate::engine::types::{u64_of, usize_of};
use crate::platform::Vec;

/// One journal record under construction.
pub(super) struct Log {
    /// The record: header, then entries.
    words: Vec<u64>,
    /// Ranges that its entries write.
    ranges: Vec<(u64, u64)>,
    /// The number of the next record; the checkpoint is not above it.
    next: u64,
    /// The slot of the newer checkpoint.
    slot: usize,
}

impl Log {
    /// Continues behind a journal with nothing to replay.
    pub(super) fn new(next: u64, slot: usize) -> Result<Self> {
        let mut words = Vec::with_capacity(MAX_RECORD_WORDS)?;
        words.resize(RECORD_HEADER_WORDS, 0)?;
        Ok(Self {
            words,
            ranges: Vec::new(),
            next,
            slot,
        })
    }

    /// Whether a range is to be written.
    pub(super) fn pending(&self, address: u64, len: u64) -> bool {
        self.ranges
            .iter()
            .any(|&(start, end)| start < address.saturating_add(len) && address < end)
    }

    /// Whether `bytes` more, in so many pieces, fit the record under construction.
    pub(super) fn fits(&self, bytes: u64, pieces: u64) -> bool {
        u64_of(self.words.len()) + bytes / 8 + pieces <= u64_of(MAX_RECORD_WORDS)
    }

    /// Adds a change; whole words. The caller made sure that it fits.
    pub(super) fn add(&mut self, address: u64, bytes: &[u8]) -> Result {
        // An entry has at most 1023 words; the largest piece here is a block.
        let head = Head {
            kind: WRITE,
            length: bytes.len() / 8,
            address,
        };
        self.words.push(head.pack())?;
        for word in bytes.chunks_exact(8) {
            let word = word.first_chunk::<8>().copied().unwrap_or_default();
            self.words.push(u64::from_le_bytes(word))?;
        }
        let end = address.saturating_add(u64_of(bytes.len()));
        self.ranges.push((address, end))?;
        Ok(())
    }

    /// Makes everything stored directly durable, then what was collected, then stores it in place.
    pub(super) fn flush<M: Media>(&mut self, media: &M, g: &Geometry, keys: &Keys) -> Result {
        media.drain();
        media.sync_device()?;
        let used = self.words.len();
        if used <= RECORD_HEADER_WORDS {
            return Ok(());
        }
        let entries = self.words.get(RECORD_HEADER_WORDS..).unwrap_or_default();
        let word0 = record_word0(entries.len());
        let seq = self.next;
        let segment = seq % u64_of(LANE_SEGMENTS);
        let address = g.lane(0) + segment * SEGMENT_SIZE;
        let sum = record_sum(keys, address, word0, seq, 0, entries_sum(keys, entries));
        if let Some(header) = self.words.get_mut(..RECORD_HEADER_WORDS) {
            header.copy_from_slice(&[word0, seq, sum, 0]);
        }
        self.words.resize(usize_of(record_size(used) / 8), 0)?;
        media.store_through(address, self.words.as_bytes());
        media.drain();
        media.sync_device()?;
        self.words.truncate(used);
        let mut rest = self.words.get(RECORD_HEADER_WORDS..).unwrap_or_default();
        while let Some((&head, after)) = rest.split_first() {
            let head = Head::unpack(head);
            let (content, next) = after.split_at(head.length.min(after.len()));
            media.store(head.address, content.as_bytes());
            media.write_back(head.address, u64_of(content.len()) * 8);
            rest = next;
        }
        media.drain();
        media.sync_device()?;
        self.next = seq + 1;
        self.slot = 1 - (self.slot & 1);
        store_checkpoint(media, g, keys, self.slot, self.next);
        media.drain();
        media.sync_device()?;
        self.words.truncate(RECORD_HEADER_WORDS);
        self.ranges.clear();
        Ok(())
    }
}
