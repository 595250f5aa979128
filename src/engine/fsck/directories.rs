// SPDX-License-Identifier: GPL-2.0

//! The fourth pass: every directory's tree, and who is linked from where.

use crate::engine::error::Result;
use crate::engine::format::inode::{InodeRecord, ROOT_DIRECTORY};
use crate::engine::format::node::{DIRECTORY_INDEX_MAGIC, DIRECTORY_LEAF_MAGIC};
use crate::engine::media::Media;
use crate::engine::types::{u32_of, u64_of, Ino, BLOCK_SIZE};
use crate::platform::yield_now;

use super::table::{KNOWN, USED};
use super::tree::{Kind, Owner};
use super::{Check, Issue, Stage};

impl<M: Media> Check<'_, M> {
    /// Reads the names of all directories.
    pub(super) fn directories(&mut self) -> Result {
        let total = self.summary.directories;
        let mut done = 0;
        for index in 0..self.table.len() {
            let entry = self.table.get(index);
            if !entry.is(USED) || !entry.is(KNOWN) || !entry.is_directory() {
                continue;
            }
            self.observer.progress(Stage::Directories, done, total);
            yield_now();
            done += 1;
            let Some(record) = self.record(index) else {
                continue;
            };
            if record.root == ROOT_DIRECTORY {
                self.directory(index, &record)?;
            }
        }
        self.observer.progress(Stage::Directories, done, total);
        Ok(())
    }

    fn directory(&mut self, index: usize, record: &InodeRecord) -> Result {
        let ino = self.table.ino(index);
        let owner = Owner::of(ino, record);
        let mut names = 0;
        let kind = Kind {
            index: DIRECTORY_INDEX_MAGIC,
            leaf: DIRECTORY_LEAF_MAGIC,
        };
        let counted = self.walk(&owner, &kind, &mut |check, leaf| {
            names += check.directory_leaf(index, ino, leaf);
            Ok(())
        })?;
        self.summary.names += names;
        if names != 0 && record.nlink.get() == 0 {
            self.report(Issue::OrphanNotEmpty { ino });
        }
        self.block_count(ino, record, counted);
        let size = record.size.get();
        if size != record.blocks.get().saturating_mul(BLOCK_SIZE) {
            self.report(Issue::InodeSize { ino, size });
        }
        Ok(())
    }

    /// Counts a name in the directory at index `dir` that leads to the inode at index `target`.
    pub(super) fn link_found(&mut self, dir: usize, target: usize, ino: Ino) {
        let Some(entry) = self.table.get_mut(target) else {
            return;
        };
        if !entry.is_directory() {
            entry.found = entry.found.saturating_add(1);
            return;
        }
        let twice = entry.parent != 0 || ino == Ino::ROOT;
        if entry.parent == 0 {
            entry.parent = u32_of(u64_of(dir) + 1);
        }
        if twice {
            self.report(Issue::DirectoryLinkedTwice { ino });
        }
        if let Some(parent) = self.table.get_mut(dir) {
            parent.found = parent.found.saturating_add(1);
        }
    }
}
