// SPDX-License-Identifier: GPL-2.0

//! Targets of symbolic links: in the inode record up to 112 bytes, else in one or two blocks of their own.
//!
//! # Hazard
//!
//! A target is the user's bytes. In a block they stand behind a header with magic, own number, owner and checksum, so that
//! a damaged pointer is found out and does not turn some file's content into a path that the kernel then walks.

use crate::engine::btree::{self, Reader};
use crate::engine::error::{Error, Result};
use crate::engine::format::inode::{
    InodeRecord, INLINE_SIZE, ROOT_INLINE_SYMLINK, ROOT_SYMLINK_BLOCKS,
};
use crate::engine::format::node::{HEADER_SIZE, SYMLINK_MAGIC};
use crate::engine::format::symlink::{BLOCK_CAPACITY, MAX_TARGET};
use crate::engine::media::Media;
use crate::engine::transaction::Transaction;
use crate::engine::types::{u64_of, Block, Generation, Ino};
use crate::engine::verify::Expected;
use crate::platform::Vec;
use zerocopy::little_endian::U64;

/// Block `index` (0 or 1) of the record.
fn block_of(record: &InodeRecord, index: usize) -> Block {
    let at = index * 8;
    let bytes = record.inline.get(at..at + 8);
    Block(
        bytes
            .and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_le_bytes),
    )
}

/// What a block of this inode says of itself.
fn expected(record: &InodeRecord) -> Expected {
    Expected {
        magic: SYMLINK_MAGIC,
        owner: Ino(record.ino.get()),
        generation: Generation(record.generation.get()),
    }
}

/// Puts the target into the record of a new inode.
pub fn create<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    target: &[u8],
    near: Block,
) -> Result {
    if target.is_empty() || target.contains(&0) {
        return Err(Error::Invalid);
    }
    if target.len() > MAX_TARGET {
        return Err(Error::NameTooLong);
    }
    record.size = U64::new(u64_of(target.len()));
    if let Some(place) = record.inline.get_mut(..target.len()) {
        place.copy_from_slice(target);
        record.root = ROOT_INLINE_SYMLINK;
        return Ok(());
    }
    record.root = ROOT_SYMLINK_BLOCKS;
    for (index, part) in target.chunks(BLOCK_CAPACITY).enumerate() {
        let block = btree::create_block(tx, near, 0, &expected(record))?;
        let mut padded = Vec::new();
        padded.extend_from_slice(part)?;
        padded.resize(part.len().next_multiple_of(8), 0)?;
        btree::update(tx, block, HEADER_SIZE, &padded)?;
        let word = btree::header_word(SYMLINK_MAGIC, 0, part.len());
        btree::update(tx, block, 0, &word.to_le_bytes())?;
        if let Some(place) = record.inline.get_mut(index * 8..index * 8 + 8) {
            place.copy_from_slice(&block.0.to_le_bytes());
        }
        record.blocks = U64::new(record.blocks.get().saturating_add(1));
    }
    Ok(())
}

/// Appends the target to `into`.
pub fn read<R: Reader>(reader: &R, record: &InodeRecord, into: &mut Vec<u8>) -> Result {
    let wrong = Error::corrupt("size of a symbolic link", record.ino.get());
    let size = usize::try_from(record.size.get()).map_err(|_| wrong)?;
    if size == 0 || size > MAX_TARGET {
        return Err(wrong);
    }
    match record.root {
        ROOT_INLINE_SYMLINK if size <= INLINE_SIZE => {
            into.extend_from_slice(record.inline.get(..size).ok_or(wrong)?)?;
            Ok(())
        }
        ROOT_SYMLINK_BLOCKS => {
            let mut done = 0;
            while done < size {
                let block = block_of(record, done / BLOCK_CAPACITY);
                reader.verify(block, &expected(record), None)?;
                let (magic, _, count) = btree::split_word(reader.word(block.address())?);
                let part = (size - done).min(BLOCK_CAPACITY);
                if magic != SYMLINK_MAGIC || usize::from(count) != part {
                    return Err(Error::corrupt("symbolic link block", block.address()));
                }
                let start = into.len();
                into.resize(start + part, 0)?;
                let place = into.get_mut(start..).ok_or(wrong)?;
                reader.bytes(block.address() + HEADER_SIZE, place)?;
                done += part;
            }
            Ok(())
        }
        _ => Err(wrong),
    }
}

/// Frees the blocks of a target.
pub fn remove<M: Media>(tx: &mut Transaction<'_, M>, record: &mut InodeRecord) -> Result {
    if record.root != ROOT_SYMLINK_BLOCKS {
        return Ok(());
    }
    for index in 0..2 {
        let block = block_of(record, index);
        if block != Block::NONE {
            // A damaged pointer must not free what is someone else's.
            tx.verify_node(block, &expected(record))?;
            btree::free_block(tx, block)?;
        }
    }
    record.inline.fill(0);
    record.root = ROOT_INLINE_SYMLINK;
    record.blocks = U64::new(0);
    Ok(())
}
