// SPDX-License-Identifier: GPL-2.0

//! Calls that leave blocks behind the end of a file because somebody holds their pages, and calls that meet such blocks.
//!
//! For the model these blocks are gone at once: nobody can read them, and a crash gives them back.

use super::data::{node_size, truncate};
use super::World;
use crate::model::{Cell, Id};
use ochre::engine::error::Error;
use ochre::engine::filesystem::{Inode, MappingState, Times};
use ochre::engine::types::{FileBlock, BLOCK_SIZE};
use std::sync::Arc;

/// Nothing to set.
const NONE: Times = Times {
    atime: None,
    mtime: None,
    ctime: None,
};

impl World {
    pub(super) fn truncate_deferred(&mut self, path: &str, size: u64) {
        self.truncate_begin(path, size);
        self.truncate_finish(path);
    }

    pub(super) fn truncate_begin(&mut self, path: &str, size: u64) {
        let Some(id) = self.file(path) else { return };
        if size > self.tree.get(id).size {
            return;
        }
        let (inode, times) = (self.inode(id), self.times());
        // Recovery finishes it, so from here on it looks done to whoever comes after a crash.
        let begun = self.always(
            &[id],
            |fs| fs.truncate_size(&inode, size, &times),
            |tree| truncate(tree, id, size),
        );
        if begun.is_some() {
            self.always(&[], |fs| fs.zero_tail(&inode, size), |_| ());
        }
    }

    pub(super) fn truncate_finish(&mut self, path: &str) {
        let Some(id) = self.file(path) else { return };
        let inode = self.inode(id);
        let Some(from) = self.fs().pending_from(&inode) else {
            return;
        };
        self.always(
            &[],
            |fs| {
                while fs.free_beyond(&inode, from)? {}
                Ok(())
            },
            |_| (),
        );
    }

    pub(super) fn park(&mut self, path: &str, first: u64, blocks: u64) {
        let Some(id) = self.file(path) else { return };
        let inode = self.inode(id);
        if first + blocks <= FileBlock::after(self.tree.get(id).size).0 {
            self.park_blocks(id, &inode, first, blocks);
        }
    }

    /// False: there is no room, or they are not one run.
    fn park_blocks(&mut self, id: Id, inode: &Arc<Inode>, first: u64, blocks: u64) -> bool {
        // Of a block that was parked before the new place is taken: then the next one.
        for place in 0..8 {
            let to = FileBlock::PARKED.plus((place << 40) + first);
            let taken = self.fs().map(inode, to, blocks);
            if taken.is_ok_and(|m| m.state == MappingState::Hole && m.len == blocks) {
                let park = self.call(
                    Vec::new(),
                    &[],
                    |fs| match fs.park(inode, FileBlock(first), blocks, to) {
                        Err(Error::Again) => Err(Error::NoSpace),
                        other => other,
                    },
                    |tree| tree.edit(id).punch(first, first + blocks),
                );
                return park.is_some();
            }
        }
        false
    }

    pub(super) fn let_go(&mut self, path: &str) {
        let Some(id) = self.file(path) else { return };
        let inode = self.inode(id);
        self.keep_one(&inode);
    }

    /// Gives back what is pending in front of the parked blocks, but for the first written block, which is the result.
    fn keep_one(&mut self, inode: &Arc<Inode>) -> Option<u64> {
        let from = self.fs().pending_from(inode)?;
        let (mut at, mut held) = (from, None);
        while at < FileBlock::PARKED && held.is_none() {
            let found = self.fs().map(inode, at, FileBlock::PARKED.0 - at.0).ok()?;
            if matches!(found.state, MappingState::Written(_)) {
                held = Some(at.0);
            }
            at = at.plus(found.len);
        }
        let keep = held.unwrap_or(FileBlock::PARKED.0);
        for (first, end) in [(from.0, keep), (keep + 1, FileBlock::PARKED.0)] {
            if first < end {
                self.always(
                    &[],
                    |fs| fs.punch(inode, FileBlock(first), FileBlock(end), &NONE),
                    |_| (),
                );
            }
        }
        held
    }

    /// Before the file has `end` bytes, or is promised blocks up to there: moves what is in the way.
    pub(super) fn make_room(&mut self, id: Id, end: u64) {
        let inode = self.inode(id);
        if end <= self.tree.get(id).size || !self.fs().pending_before(&inode, end).unwrap_or(false)
        {
            return;
        }
        let moved = match self.keep_one(&inode) {
            Some(held) => self.park_blocks(id, &inode, held, 1),
            None => true,
        };
        if !moved {
            // Whoever waits, waits until it is let go.
            let from = self.fs().pending_from(&inode).unwrap_or(FileBlock::PARKED);
            let free = |fs: &crate::world::Engine| {
                while fs.free_beyond(&inode, from)? {}
                Ok(())
            };
            self.always(&[], free, |_| ());
        }
    }

    pub(super) fn grow_over(&mut self, path: &str) {
        let Some(id) = self.file(path) else { return };
        let (inode, times) = (self.inode(id), self.times());
        let size = self.tree.get(id).size;
        let block = FileBlock::after(size);
        if self.fs().pending_from(&inode) != Some(block) || self.keep_one(&inode) != Some(block.0) {
            return;
        }
        let end = block.plus(1);
        self.always(&[], |fs| fs.reclaim(&inode, end), |_| ());
        let larger = end.offset() - 7;
        self.always(
            &[id],
            |fs| fs.truncate(&inode, larger, &times),
            |tree| {
                truncate(tree, id, larger);
                let zeros = Arc::new(vec![0; BLOCK_SIZE as usize]);
                tree.edit(id).cells().insert(block.0, Cell::Data(zeros));
                node_size(tree, id, larger);
            },
        );
    }
}
