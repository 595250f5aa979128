// SPDX-License-Identifier: GPL-2.0

//! Targets of symbolic links that have blocks of their own.

use crate::engine::error::Result;
use crate::engine::format::inode::InodeRecord;
use crate::engine::format::node::{HEADER_SIZE, SYMLINK_MAGIC};
use crate::engine::format::symlink::{BLOCK_CAPACITY, MAX_TARGET};
use crate::engine::media::Media;
use crate::engine::types::{u64_of, usize_of, Block, Ino};
use crate::platform::Vec;

use super::tree::Owner;
use super::{Check, Issue, NodeFault};

impl<M: Media> Check<'_, M> {
    /// Checks the one or two blocks of a target; returns their number.
    pub(super) fn symlink_blocks(&mut self, ino: Ino, record: &InodeRecord) -> Result<u64> {
        let size = record.size.get();
        if size == 0 || size > u64_of(MAX_TARGET) {
            self.report(Issue::InodeSize { ino, size });
        }
        let owner = Owner::of(ino, record);
        let mut bytes: Vec<u8> = Vec::new();
        bytes.resize(4096, 0)?;
        let (mut claimed, mut length, mut whole) = (0, 0, true);
        for word in record.inline.chunks_exact(8).take(2) {
            let Some(word) = word.first_chunk::<8>() else {
                continue;
            };
            let block = Block(u64::from_le_bytes(*word));
            if block.0 == 0 {
                continue;
            }
            if !self.claim(ino, block) {
                whole = false;
                continue;
            }
            claimed += 1;
            let Some(header) = self.node(&owner, block, SYMLINK_MAGIC, 0, &mut bytes) else {
                whole = false;
                continue;
            };
            let count = usize::from(header.count.get());
            if count == 0 || count > BLOCK_CAPACITY {
                self.report(Issue::Node {
                    ino,
                    block,
                    fault: NodeFault::Count,
                });
                whole = false;
                continue;
            }
            let from = usize_of(HEADER_SIZE);
            if bytes
                .get(from..from + count)
                .is_none_or(|target| target.contains(&0))
            {
                self.report(Issue::SymlinkTarget { ino });
            }
            length += u64_of(count);
        }
        if whole && length != size {
            self.report(Issue::SymlinkTarget { ino });
        }
        Ok(claimed)
    }
}
