// SPDX-License-Identifier: GPL-2.0

//! Calls that move a part of a file: a power cut leaves it as it was or as it is to be.

use super::World;
use crate::model::{Cell, Tree};
use ochre::engine::types::{FileBlock, BLOCK_SIZE};

impl World {
    pub(super) fn collapse(&mut self, path: &str, first: u64, blocks: u64) {
        let Some(id) = self.file(path) else { return };
        let size = self.tree.get(id).size;
        if (first + blocks) * BLOCK_SIZE >= size {
            return;
        }
        let (inode, times) = (self.inode(id), self.times());
        self.call(
            Vec::new(),
            &[id],
            |fs| fs.collapse(&inode, FileBlock(first), blocks, None, &times),
            |tree| {
                let node = tree.edit(id);
                node.size = size - blocks * BLOCK_SIZE;
                node.renumber(|b| match b {
                    b if b < first => Some(b),
                    b if b < first + blocks => None,
                    b => Some(b - blocks),
                });
            },
        );
    }

    pub(super) fn insert(&mut self, path: &str, at: u64, blocks: u64) {
        let Some(id) = self.file(path) else { return };
        let size = self.tree.get(id).size;
        if at * BLOCK_SIZE >= size {
            return;
        }
        self.make_room(id, size + blocks * BLOCK_SIZE);
        let (inode, times) = (self.inode(id), self.times());
        self.call(
            Vec::new(),
            &[id],
            |fs| fs.insert(&inode, FileBlock(at), blocks, &times),
            |tree| {
                let node = tree.edit(id);
                node.size = size + blocks * BLOCK_SIZE;
                node.renumber(|b| Some(if b < at { b } else { b + blocks }));
            },
        );
    }

    /// One transaction: the pieces are few.
    pub(super) fn zero_range(&mut self, path: &str, first: u64, end: u64) {
        let Some(id) = self.file(path) else { return };
        let size = self.tree.get(id).size;
        let new_size = (end * BLOCK_SIZE).max(size);
        self.make_room(id, new_size);
        let (inode, times) = (self.inode(id), self.times());
        // What lies behind the end in the last block is zeroed before.
        let tail = |tree: &mut Tree| {
            if new_size > size {
                tree.edit(id).zero(size, size.next_multiple_of(BLOCK_SIZE));
            }
        };
        self.always(
            &[id],
            |fs| {
                let (first, end) = (FileBlock(first), FileBlock(end));
                fs.zero_range(&inode, first, end, Some(new_size), &times)
            },
            |tree| {
                tail(tree);
                let node = tree.edit(id);
                for (_, cell) in node.cells().range_mut(first..end) {
                    *cell = Cell::Unwritten;
                }
                node.loose.retain(|&b, _| b < first || b >= end);
                node.size = new_size;
            },
        );
    }
}
