// SPDX-License-Identifier: GPL-2.0

//! What bases and preludes are made of: much at once, not explored.

use crate::model::Cell;
use crate::op::Op;
use crate::world::{World, CPUS};
use ochre::engine::filesystem::Statfs;
use ochre::engine::types::{FileBlock, FileKind, BLOCK_SIZE};
use ochre::platform::set_current_cpu;

impl World {
    /// How full it is.
    pub fn statfs(&self) -> Statfs {
        self.fs().statfs()
    }

    /// Gives a file `count` extents of one block each, with holes between them; every tenth is written.
    pub fn many_extents(&mut self, path: &'static str, count: u64) {
        let Some(id) = self.file(path) else { return };
        let (inode, times) = (self.inode(id), self.times());
        let fs = self.fs();
        for n in 0..count {
            let block = 2 * n;
            let size = Some((block + 1) * BLOCK_SIZE);
            let done = fs.preallocate(&inode, FileBlock(block), 1, size, &times);
            if let Err(error) = done {
                return self.fail(format!("preallocating {path}: {error}"));
            }
        }
        let node = self.tree.edit(id);
        node.size = (2 * count - 1) * BLOCK_SIZE;
        for n in 0..count {
            node.cells().insert(2 * n, Cell::Unwritten);
        }
        for n in 0..count / 10 {
            self.run(0, Op::Write(path, 20 * n * BLOCK_SIZE, 4000));
        }
        self.observe_times(id);
    }

    /// Links a file under many long names into a directory.
    pub fn many_names(&mut self, dir: &str, file: &str, count: usize) {
        let (Some(dir), Some(id)) = (self.tree.find(dir), self.tree.find(file)) else {
            return;
        };
        for n in 0..count {
            let name = format!("name-{n:03}-{}", "x".repeat(30));
            self.add_link(dir, name.as_bytes(), id);
        }
    }

    /// A file of so many preallocated blocks, which the model does not follow.
    pub fn filler(&mut self, path: &'static str, blocks: u64) {
        self.run(0, Op::Create(path));
        let Some(id) = self.file(path) else { return };
        let (inode, times) = (self.inode(id), self.times());
        let size = blocks * BLOCK_SIZE;
        let done = self
            .fs()
            .preallocate(&inode, FileBlock(0), blocks, Some(size), &times);
        if let Err(error) = done {
            return self.fail(format!("filling {path}: {error}"));
        }
        let node = self.tree.edit(id);
        node.size = size;
        node.opaque = true;
        self.observe_times(id);
    }

    /// Frees `count` single blocks of a filler, each with neighbours that stay.
    pub fn perforate(&mut self, path: &'static str, count: u64) {
        let Some(id) = self.file(path) else { return };
        let (inode, times) = (self.inode(id), self.times());
        for n in 0..count {
            let block = FileBlock(3 * n);
            let done = self.fs().punch(&inode, block, block.plus(1), &times);
            if let Err(error) = done {
                return self.fail(format!("perforating {path}: {error}"));
            }
        }
        self.observe_times(id);
    }

    /// Makes and removes long symbolic links on all CPUs in turn, so that lanes fill up.
    pub(crate) fn burn(&mut self, count: usize) {
        let fs = self.fs();
        let root = self.inode(0);
        for n in 0..count {
            set_current_cpu(n % CPUS as usize);
            let target = vec![b'b'; 4000];
            let new = self.new_inode(FileKind::Symlink.mode_bits() | 0o777, Some(&target));
            let name = b"burn".as_slice();
            let done = fs.create(&root, name, &new).and_then(|inode| {
                set_current_cpu((n + 1) % CPUS as usize);
                fs.unlink(&root, name, &inode, new.time)?;
                fs.evict(&inode)
            });
            if let Err(error) = done {
                return self.fail(format!("burn {n} fails: {error}"));
            }
        }
        self.observe_times(0);
    }
}
