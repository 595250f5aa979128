// SPDX-License-Identifier: GPL-2.0

//! Calls that change what is in an inode: bytes, blocks, attributes.

use super::World;
use crate::arena::Arena;
use crate::model::{Cell, Id, Tree};
use ochre::engine::error::Error;
use ochre::engine::filesystem::{
    Filesystem, Inode, MappingState, PublishArgs, SetAttributes, Times, WriteKind,
};
use ochre::engine::media::Media;
use ochre::engine::types::{Block, FileBlock, BLOCK_SIZE};
use std::sync::Arc;

impl World {
    /// What an unfinished call did to a file, as the engine shows it.
    pub(super) fn observe_cells(&mut self, id: Id) {
        let inode = self.inode(id);
        let fs = self.fs();
        let mut cells = std::collections::BTreeMap::new();
        let mut at = 0;
        let end = fs.pending_from(&inode).map_or(1 << 20, |from| from.0);
        let end = end.min(1 << 20);
        while at < end {
            let Ok(found) = fs.map(&inode, FileBlock(at), end - at) else {
                break;
            };
            for n in 0..found.len {
                let cell = match found.state {
                    MappingState::Hole => break,
                    MappingState::Unwritten(_) => Cell::Unwritten,
                    MappingState::Written(block) => {
                        let mut bytes = vec![0; BLOCK_SIZE as usize];
                        let _ = fs.media().read(block.plus(n).address(), &mut bytes);
                        Cell::Data(Arc::new(bytes))
                    }
                };
                cells.insert(at + n, cell);
            }
            at += found.len;
        }
        let size = inode.attributes().size;
        let node = self.tree.edit(id);
        node.cells = Arc::new(cells);
        node.size = size;
        if let Some(step) = self.steps.last_mut() {
            step.during.push(self.tree.clone());
            step.after = self.tree.clone();
        }
        self.observe_times(id);
    }

    /// Durable on the device, for a model of an asynchronous one.
    pub(super) fn after_fence(&mut self) {
        if self.arena.is_synchronous() {
            self.tree.settle();
            if let Some(step) = self.steps.last_mut() {
                step.amend(Tree::settle);
            }
        }
    }

    pub(super) fn write(&mut self, id: Id, offset: u64, len: u64) {
        let inode = self.inode(id);
        let times = self.times();
        let fill = self.fill_byte();
        self.make_room(id, offset + len);
        let size = self.tree.get(id).size;
        if offset > size {
            // Zeroes what no reader sees.
            let made = self.call(
                Vec::new(),
                &[],
                |fs| fs.zero_tail(&inode, size),
                |tree| zero_tail(tree, id, size),
            );
            if made.is_none() {
                return;
            }
        }
        let end = offset + len;
        let mut at = offset;
        while at < end {
            match self.write_piece(id, &inode, at, end, fill, &times) {
                Some(stop) => at = stop,
                None => return,
            }
        }
    }

    /// One piece of a write: reserve, copy, publish.
    pub(super) fn write_piece(
        &mut self,
        id: Id,
        inode: &Arc<Inode>,
        at: u64,
        end: u64,
        fill: u8,
        times: &Times,
    ) -> Option<u64> {
        let start = FileBlock::of(at);
        let blocks = FileBlock::after(end).0 - start.0;
        let size = self.tree.get(id).size;
        let mut mid = self.tree.clone();
        let fs = self.fs();
        self.choose_cpu();
        let reserved = match fs.reserve_write(inode, start, blocks, end) {
            Ok(reserved) => reserved,
            Err(Error::NoSpace) => return None,
            Err(error) => {
                self.fail(format!("reserve_write fails: {error}"));
                return None;
            }
        };
        let stop = start.plus(reserved.len).offset().min(end);
        let in_place = reserved.kind == WriteKind::InPlace;
        let mut during = Vec::new();
        if in_place {
            let node = mid.edit(id);
            node.loosen(at, stop);
            node.fill(at, stop - at, fill);
            during.push(mid.clone());
            if stop > size {
                node_size(&mut mid, id, stop);
                during.push(mid.clone());
            }
        }
        let args = PublishArgs {
            new_size: (stop > size).then_some(stop),
            times: *times,
        };
        let block = reserved.block;
        let done = FileBlock::after(stop).0 - start.0;
        let arena = self.arena.clone();
        let published = self.call(
            during,
            &[id],
            |fs| {
                copy_in(
                    &arena,
                    block,
                    at - start.offset(),
                    stop - at,
                    fill,
                    in_place,
                );
                fs.publish(inode, reserved, done, &args)
            },
            |tree| {
                if in_place {
                    *tree = mid;
                } else {
                    let cells = tree.edit(id).cells();
                    cells.retain(|&b, _| b < start.0 || b >= start.0 + done);
                    tree.edit(id).fill(at, stop - at, fill);
                }
                node_size(tree, id, stop.max(size));
            },
        );
        published?;
        if in_place && args.new_size.is_none() {
            // Its times are stored without a fence of their own.
            self.fence_times(id);
        }
        self.after_fence();
        Some(stop)
    }

    /// Makes times durable that were stored alone.
    pub(super) fn fence_times(&mut self, id: Id) {
        let Some(step) = self.steps.last_mut() else {
            return;
        };
        let before = step.during[0].get(id).times;
        step.amend(|tree| tree.edit(id).loose_times.push(before));
        // Without a fence the words may be lost as long as the machine runs; the kernel's next fence comes soon.
        let arena = self.arena.clone();
        self.tree.edit(id).loose_times.push(before);
        let drain = |_: &Filesystem<Arena>| {
            arena.drain();
            Ok(())
        };
        self.call(Vec::new(), &[], drain, |_| ());
        self.after_fence();
    }

    /// Stores through a mapping, then `msync`.
    pub(super) fn map_write(&mut self, path: &str, block: u64) {
        let Some(id) = self.file(path) else { return };
        let size = self.tree.get(id).size;
        if block >= FileBlock::after(size).0 {
            return;
        }
        let Some(at) = self.fault_one(id, block, 1) else {
            return;
        };
        self.now();
        let fill = self.fill_byte();
        let base = block * BLOCK_SIZE;
        let len = 1000u64.min(size - base) & !7;
        let mut mid = self.tree.clone();
        let node = mid.edit(id);
        node.loosen(base, base + len);
        node.fill(base, len, fill);
        let arena = self.arena.clone();
        let during = vec![mid.clone()];
        let store = |_: &Filesystem<Arena>| {
            arena.store(at.address(), &vec![fill; len as usize]);
            Ok(())
        };
        self.call(during, &[], store, |tree| *tree = mid);
        let arena = self.arena.clone();
        let sync = |fs: &Filesystem<Arena>| {
            arena.write_back(at.address(), len);
            fs.sync()
        };
        self.volume_call(sync);
    }

    pub(super) fn fault_in(&mut self, path: &str, block: u64, want: u64) {
        let Some(id) = self.file(path) else { return };
        if block < FileBlock::after(self.tree.get(id).size).0 {
            self.fault_one(id, block, want);
        }
    }

    pub(super) fn fault_one(&mut self, id: Id, block: u64, want: u64) -> Option<Block> {
        let inode = self.inode(id);
        let mut again = false;
        let mapping = self.call(
            Vec::new(),
            &[id],
            |fs| match fs.fault_allocate(&inode, FileBlock(block), want) {
                Err(Error::Again) => {
                    again = true;
                    Err(Error::NoSpace)
                }
                other => other,
            },
            |tree| {
                let zeros = Arc::new(vec![0; BLOCK_SIZE as usize]);
                let cells = tree.edit(id).cells();
                for n in block..block + want {
                    if !matches!(cells.get(&n), Some(Cell::Data(_))) {
                        cells.insert(n, Cell::Data(Arc::clone(&zeros)));
                    }
                }
            },
        )?;
        match mapping.state {
            MappingState::Written(at) => Some(at),
            _ => None,
        }
    }

    pub(super) fn preallocate(&mut self, path: &str, first: u64, blocks: u64, keep: bool) {
        let Some(id) = self.file(path) else { return };
        let (inode, times) = (self.inode(id), self.times());
        let size = self.tree.get(id).size;
        let end = (first + blocks) * BLOCK_SIZE;
        let new_size = (!keep).then_some(end);
        if keep && end > size {
            self.make_room(id, FileBlock::PARKED.offset());
        } else {
            self.make_room(id, end);
        }
        let change = |tree: &mut Tree| {
            if new_size.is_some_and(|new| new > size) {
                zero_tail(tree, id, size);
            }
            let cells = tree.edit(id).cells();
            for n in first..first + blocks {
                cells.entry(n).or_insert(Cell::Unwritten);
            }
        };
        let mut mid = self.tree.clone();
        change(&mut mid);
        mid.edit(id).partly = Some((first, first + blocks));
        let done = self.call(
            vec![mid],
            &[id],
            |fs| fs.preallocate(&inode, FileBlock(first), blocks, new_size, &times),
            |tree| {
                change(tree);
                node_size(tree, id, new_size.unwrap_or(0).max(size));
            },
        );
        if done.is_none() {
            self.observe_cells(id);
        }
    }

    pub(super) fn truncate(&mut self, path: &str, size: u64) {
        let Some(id) = self.file(path) else { return };
        let (inode, times) = (self.inode(id), self.times());
        self.make_room(id, size);
        self.always(
            &[id],
            |fs| fs.truncate(&inode, size, &times),
            |tree| truncate(tree, id, size),
        );
    }

    /// Copies into blocks that are then given back. Only into such as are not the file's yet.
    pub(super) fn write_aborted(&mut self, path: &str, offset: u64, len: u64) {
        let Some(id) = self.file(path) else { return };
        let inode = self.inode(id);
        self.make_room(id, offset + len);
        let start = FileBlock::of(offset);
        let blocks = FileBlock::after(offset + len).0 - start.0;
        let arena = self.arena.clone();
        let abort = |fs: &Filesystem<Arena>| {
            let reserved = fs.reserve_write(&inode, start, blocks, offset + len)?;
            if reserved.kind != WriteKind::InPlace {
                let bytes = vec![0xab; (reserved.len * BLOCK_SIZE) as usize];
                arena.store_through(reserved.block.address(), &bytes);
            }
            fs.cancel(reserved);
            Ok(())
        };
        self.call(Vec::new(), &[], abort, |_| ());
    }

    pub(super) fn punch(&mut self, path: &str, first: u64, end: u64) {
        let Some(id) = self.file(path) else { return };
        let (inode, times) = (self.inode(id), self.times());
        // What is pending behind the end is on its way back already.
        let end = match self.fs().pending_from(&inode) {
            Some(from) => end.min(from.0),
            None => end,
        };
        if first >= end {
            return;
        }
        let mut mid = self.tree.clone();
        mid.edit(id).partly = Some((first, end));
        let done = self.call(
            vec![mid],
            &[id],
            |fs| fs.punch(&inode, FileBlock(first), FileBlock(end), &times),
            |tree| tree.edit(id).punch(first, end),
        );
        if done.is_none() {
            self.fail(format!("punch of {path} fails for want of space"));
        }
    }

    pub(super) fn zero(&mut self, path: &str, offset: u64, len: u64) {
        let Some(id) = self.file(path) else { return };
        let end = (offset + len).min(self.tree.get(id).size);
        if offset >= end {
            return;
        }
        let inode = self.inode(id);
        let mut mid = self.tree.clone();
        let node = mid.edit(id);
        node.loosen(offset, end);
        node.zero(offset, end);
        self.call(
            vec![mid.clone()],
            &[],
            |fs| fs.zero_range_bytes(&inode, offset, end - offset),
            |tree| *tree = mid,
        );
        self.after_fence();
    }

    pub(super) fn set_attributes(&mut self, path: &str) {
        let Some(id) = self.tree.find(path) else {
            return;
        };
        let (inode, times) = (self.inode(id), self.times());
        let uid = 1000 + self.steps.len() as u32;
        let mode = self.tree.get(id).mode & 0o170000 | 0o711;
        let set = SetAttributes {
            mode: Some(mode),
            uid: Some(uid),
            times: Times {
                atime: times.mtime,
                ..times
            },
            ..SetAttributes::default()
        };
        self.always(
            &[id],
            |fs| fs.set_attributes(&inode, &set),
            |tree| {
                let node = tree.edit(id);
                node.uid = uid;
                node.mode = mode;
            },
        );
    }

    pub(super) fn touch(&mut self, path: &str) {
        let Some(id) = self.tree.find(path) else {
            return;
        };
        let inode = self.inode(id);
        let times = Times {
            atime: Some(self.now()),
            ..self.times()
        };
        let mut mid = self.tree.clone();
        let node = mid.edit(id);
        node.loose_times.push(node.times);
        node.times = [&times.atime, &times.mtime, &times.ctime].map(|t| t.map_or(0, |t| t.0));
        self.call(
            vec![mid.clone()],
            &[id],
            |fs| fs.touch(&inode, &times, true),
            |tree| *tree = mid,
        );
        self.after_fence();
    }
}

pub(super) fn node_size(tree: &mut Tree, id: Id, size: u64) {
    tree.edit(id).size = size;
}

/// What lies behind the end of a file in its last block becomes zeros.
pub(super) fn zero_tail(tree: &mut Tree, id: Id, size: u64) {
    let end = size.next_multiple_of(BLOCK_SIZE);
    if end > size {
        tree.edit(id).zero(size, end);
    }
}

pub(super) fn truncate(tree: &mut Tree, id: Id, size: u64) {
    let old = tree.get(id).size;
    if size > old {
        zero_tail(tree, id, old);
    } else {
        let first = FileBlock::after(size).0;
        tree.edit(id).punch(first, u64::MAX);
        zero_tail(tree, id, size);
    }
    node_size(tree, id, size);
}

/// Copies bytes as the kernel's cache-bypassing copy does: whole words with non-temporal stores. In place the words at the
/// edges are changed by ordinary ones; in blocks that are not yet the file's, what is not written is zeroed.
fn copy_in(arena: &Arena, block: Block, skip: u64, len: u64, fill: u8, in_place: bool) {
    let (start, end) = (block.address() + skip, block.address() + skip + len);
    let (first, last) = (start & !7, end.next_multiple_of(8));
    let mut bytes = vec![0; (last - first) as usize];
    if in_place {
        let _ = arena.read(first, &mut bytes);
    }
    bytes[(start - first) as usize..(end - first) as usize].fill(fill);
    if !in_place {
        arena.zero_through(block.address(), first - block.address());
        let tail = end.next_multiple_of(BLOCK_SIZE);
        arena.store_through(first, &bytes);
        arena.zero_through(last, tail - last);
        return;
    }
    arena.store_through(first, &bytes);
}
