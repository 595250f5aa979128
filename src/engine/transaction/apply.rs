// SPDX-License-Identifier: GPL-2.0

//! Applying a record in place.
//!
//! Runs under the lane's spin lock, so on one CPU and without sleep, after the record's fence. No fence follows: until a
//! checkpoint has drained all CPUs the record stands for what these stores have not made durable yet.

use super::METADATA_RUN;
use crate::engine::format::journal::*;
use crate::engine::media::Media;
use crate::engine::mutant::Mutant;
use crate::engine::types::Seq;
use crate::engine::volume::Volume;
use zerocopy::IntoBytes;

/// Stores a record's entries in place. Under the lane's lock, so on one CPU and without sleep.
pub(super) fn apply<M: Media>(volume: &Volume<M>, seq: Seq, entries: &[u64]) {
    let media = volume.media();
    let mut lines = Lines::new();
    let mut rest = entries;
    while let Some((&head, after)) = rest.split_first() {
        let head = Head::unpack(head);
        let (content, next) = after.split_at(head.content_words().min(after.len()));
        rest = next;
        let len = head.length as u64 * 8;
        match head.kind {
            WRITE => {
                media.store(head.address, content.as_bytes());
                lines.add(media, head.address, len);
            }
            ZERO => {
                media.zero(head.address, len);
                lines.add(media, head.address, len);
            }
            BITS_SET | BITS_CLEAR => {
                let word = content.first().copied().unwrap_or(0);
                let (count, metadata) = (word & !METADATA_RUN, word & METADATA_RUN != 0);
                volume.apply_bits(seq, head, count, metadata);
                let bits = head.length as u64 + count;
                lines.add(media, head.address, bits.div_ceil(64) * 8);
            }
            MASKS_CLEAR => {
                volume.apply_masks(head, content);
                lines.add(media, head.address, len);
            }
            _ => {
                volume.apply_inode(head);
                lines.add(media, head.address, 8);
            }
        }
    }
    lines.finish(media);
}

/// Write-backs put off a little, so that a line that several entries share is written back once.
struct Lines {
    waiting: [u64; 8],
    count: usize,
}

impl Lines {
    const fn new() -> Self {
        Self {
            waiting: [0; 8],
            count: 0,
        }
    }

    fn add<M: Media>(&mut self, media: &M, address: u64, len: u64) {
        let (first, last) = (address >> 6, (address + len.max(1) - 1) >> 6);
        if last - first >= 2 {
            self.finish_range(media, first, last);
            return;
        }
        for line in first..=last {
            let count = self.count;
            let Some(known) = self.waiting.get(..count) else {
                return;
            };
            if known.contains(&line) {
                continue;
            }
            if count == self.waiting.len() {
                self.finish(media);
            }
            if let Some(place) = self.waiting.get_mut(self.count) {
                *place = line;
                self.count += 1;
            }
        }
    }

    fn finish_range<M: Media>(&mut self, media: &M, first: u64, last: u64) {
        if !Mutant::NoApplyWriteBack.active() {
            media.write_back(first << 6, (last - first + 1) << 6);
        }
    }

    fn finish<M: Media>(&mut self, media: &M) {
        let count = core::mem::take(&mut self.count);
        for line in self.waiting.get(..count).unwrap_or(&[]) {
            if !Mutant::NoApplyWriteBack.active() {
                media.write_back(line << 6, 64);
            }
        }
    }
}
