// SPDX-License-Identifier: GPL-2.0

//! Collapse, insert and zero range, on the engine and on the model.

use crate::tree::Id;
use crate::world::World;
use ochre::engine::error::Error;
use ochre::engine::media::Media;
use ochre::engine::types::{FileBlock, BLOCK_SIZE};

pub fn collapse<M: Media + Clone>(world: &mut World<M>, id: Id, first: u64, len: u64) {
    let (times, inode) = (world.times(), world.inode(id));
    let done = world
        .fs()
        .collapse(&inode, FileBlock(first), len, None, &times);
    let bytes = world.bytes(id);
    let (from, to) = (first * BLOCK_SIZE, (first + len) * BLOCK_SIZE);
    if to >= bytes.len() as u64 {
        assert_eq!(done, Err(Error::Invalid));
        return;
    }
    bytes.drain(from as usize..to as usize);
    assert_eq!(done, Ok(bytes.len() as u64));
}

pub fn insert<M: Media + Clone>(world: &mut World<M>, id: Id, at: u64, len: u64) {
    let (times, inode) = (world.times(), world.inode(id));
    let done = world.fs().insert(&inode, FileBlock(at), len, &times);
    let bytes = world.bytes(id);
    let at = at * BLOCK_SIZE;
    if at >= bytes.len() as u64 {
        assert_eq!(done, Err(Error::Invalid));
        return;
    }
    let zeros = vec![0; (len * BLOCK_SIZE) as usize];
    bytes.splice(at as usize..at as usize, zeros);
    assert_eq!(done, Ok(bytes.len() as u64));
}

/// As the kernel glue does it: blocks for the holes, the edges, then the whole blocks and the size.
pub fn zero_range<M: Media + Clone>(
    world: &mut World<M>,
    id: Id,
    offset: u64,
    end: u64,
    keep: bool,
) {
    let (times, inode) = (world.times(), world.inode(id));
    let fs = world.fs();
    let (low, high) = (FileBlock::of(offset), FileBlock::after(end));
    let (first, last) = (FileBlock::after(offset), FileBlock::of(end));
    fs.preallocate(&inode, low, high.0 - low.0, None, &times)
        .expect("preallocate");
    if first > last {
        fs.zero_range_bytes(&inode, offset, end - offset)
            .expect("zero within a block");
    } else {
        fs.zero_range_bytes(&inode, offset, first.offset() - offset)
            .expect("zero the head");
        fs.zero_range_bytes(&inode, last.offset(), end - last.offset())
            .expect("zero the tail");
    }
    let size = (!keep).then_some(end);
    fs.zero_range(&inode, first, last.max(first), size, &times)
        .expect("zero range");
    for block in first.0..last.0 {
        let found = fs.map(&inode, FileBlock(block), 1).expect("map");
        assert!(
            matches!(
                found.state,
                ochre::engine::filesystem::MappingState::Unwritten(_)
            ),
            "{found:?}"
        );
    }
    let bytes = world.bytes(id);
    let size = bytes.len().max(size.unwrap_or(0) as usize);
    bytes.resize(size, 0);
    let (from, to) = (size.min(offset as usize), size.min(end as usize));
    bytes[from..to].fill(0);
}
