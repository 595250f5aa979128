// SPDX-License-Identifier: GPL-2.0

//! Extents of a file: where each of its blocks lies.
//!
//! What: up to seven extents live in the inode record, more in a tree of leaves with 252 each. This module finds them
//! ([`lookup`]) and replaces some neighbours in one leaf by some others ([`replace`]); [`edit`] makes insertion with merge,
//! conversion and removal out of that, and [`shift`] moves all extents behind a place.
//!
//! The rule that lookups rest on: *no extent straddles a bound of the tree*. A leaf's extents end at or before the leaf's
//! limit, so that the leaf which the key of a block leads to is the only one that can hold it. Insertion cuts at bounds.
//!
//! # Hazard
//!
//! Two extents that overlap give one file block two homes. Were a write to publish over an extent that a page fault put
//! there a moment earlier, the bytes that were stored through the mapping would vanish with no error anywhere. So an
//! insertion looks at both neighbours under the extent lock and refuses with `Again`.

pub mod edit;
pub mod shift;
pub mod widen;

use crate::engine::btree::{self, Kind, Leaf, Reader, Tree};
use crate::engine::error::{Error, Result};
use crate::engine::filesystem::data::{Mapping, MappingState};
use crate::engine::format::extent::{DiskExtent, Extent, LEAF_CAPACITY, MAX_LEN};
use crate::engine::format::inode::{
    InodeRecord, INLINE_EXTENTS, ROOT_EXTENT_TREE, ROOT_INLINE_EXTENTS,
};
use crate::engine::format::node::HEADER_SIZE;
use crate::engine::media::Media;
use crate::engine::transaction::Transaction;
use crate::engine::types::{u64_of, Block, FileBlock, Generation, Ino};
use crate::platform::Vec;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of an extent.
const SIZE: usize = 16;

/// The tree in a record, of either kind.
pub fn tree_of(record: &InodeRecord, kind: Kind) -> Tree {
    Tree {
        kind,
        owner: Ino(record.ino.get()),
        generation: Generation(record.generation.get()),
        root: root_of(record),
        height: record.height,
        grown: 0,
    }
}

/// The first word of the inline area.
fn root_of(record: &InodeRecord) -> Block {
    let word = U64::read_from_prefix(record.inline.as_slice());
    Block(word.map_or(0, |(word, _)| word.get()))
}

/// Tells the record about a tree that changed: root, height, blocks.
pub fn store_tree(record: &mut InodeRecord, tree: &Tree) {
    if let Some(place) = record.inline.get_mut(..8) {
        place.copy_from_slice(&tree.root.0.to_le_bytes());
    }
    record.height = tree.height;
    let blocks = record.blocks.get().saturating_add_signed(tree.grown);
    record.blocks = U64::new(blocks);
}

/// A place between extents of one leaf, or of the inline area.
pub struct Cursor {
    /// `None`: inline.
    leaf: Option<Leaf>,
    /// Extents in the leaf.
    pub count: usize,
    /// How many of them start at or before the block that was sought.
    pub index: usize,
    /// No extent of this leaf starts below.
    pub floor: u64,
    /// All extents of this leaf end here or before.
    pub limit: u64,
}

impl Cursor {
    /// How many extents its leaf can hold.
    fn capacity(&self) -> usize {
        match self.leaf {
            Some(_) => LEAF_CAPACITY,
            None => INLINE_EXTENTS,
        }
    }

    /// Extent `index` of the leaf, checked for sense.
    pub fn get<R: Reader>(&self, reader: &R, record: &InodeRecord, index: usize) -> Result<Extent> {
        let extent = match &self.leaf {
            None => inline_extent(record, index)?,
            Some(leaf) => {
                let at = place(leaf.block, index);
                Extent::from_disk(&DiskExtent {
                    position: U64::new(reader.word(at)?),
                    target: U64::new(reader.word(at.saturating_add(8))?),
                })
            }
        };
        // A leaf that two parents lead to was judged by the bounds of the first only.
        let inside = extent.file_block.0 >= self.floor && extent.file_end().0 <= self.limit;
        if extent.len == 0 || extent.block == Block::NONE || !inside {
            return Err(Error::corrupt("extent of an inode", record.ino.get()));
        }
        Ok(extent)
    }

    /// The first `count` extents of the leaf as bytes.
    fn load<R: Reader>(
        &self,
        reader: &R,
        record: &InodeRecord,
        count: usize,
        into: &mut Vec<u8>,
    ) -> Result {
        match &self.leaf {
            None => {
                let inline = record.inline.get(..count.saturating_mul(SIZE));
                into.clear();
                into.extend_from_slice(inline.unwrap_or(&[]))?;
                Ok(())
            }
            Some(leaf) => {
                // What a longer or shorter leaf before it left is overwritten: only what is missing is filled up.
                let len = count.min(LEAF_CAPACITY) * SIZE;
                into.truncate(len);
                into.resize(len, 0)?;
                reader.bytes(place(leaf.block, 0), into)
            }
        }
    }

    /// First file block of extent `index`.
    fn start<R: Reader>(&self, reader: &R, record: &InodeRecord, index: usize) -> Result<u64> {
        match &self.leaf {
            None => Ok(inline_extent(record, index)?.file_block.0),
            Some(leaf) => Ok(reader.word(place(leaf.block, index))? >> 20),
        }
    }
}

/// Extent `index` of the inline area.
fn inline_extent(record: &InodeRecord, index: usize) -> Result<Extent> {
    let at = index.saturating_mul(SIZE);
    record
        .inline
        .get(at..at.saturating_add(SIZE))
        .and_then(|bytes| DiskExtent::read_from_bytes(bytes).ok())
        .map(|disk| Extent::from_disk(&disk))
        .ok_or(Error::corrupt(
            "inline extents of an inode",
            record.ino.get(),
        ))
}

/// Address of extent `index` of a leaf.
fn place(leaf: Block, index: usize) -> u64 {
    let index = u64_of(index).min(u64_of(LEAF_CAPACITY));
    leaf.address().saturating_add(HEADER_SIZE + index * 16)
}

/// The leaf for `block`, and the place behind the last extent that starts at or before it.
pub fn seek<R: Reader>(reader: &R, record: &InodeRecord, block: FileBlock) -> Result<Cursor> {
    let mut cursor = match record.root {
        ROOT_INLINE_EXTENTS => Cursor {
            leaf: None,
            count: usize::from(record.count),
            index: 0,
            floor: 0,
            limit: FileBlock::END.0,
        },
        ROOT_EXTENT_TREE => {
            let leaf = btree::descend(reader, &tree_of(record, Kind::Extents), block.0)?;
            Cursor {
                count: leaf.count,
                index: 0,
                floor: leaf.floor,
                limit: leaf.limit.min(FileBlock::END.0),
                leaf: Some(leaf),
            }
        }
        _ => return Err(Error::Invalid),
    };
    if cursor.count > cursor.capacity() {
        return Err(Error::corrupt("count of extents", record.ino.get()));
    }
    // The first extent that starts behind the block; appends find it at the end, so look there first.
    let (mut low, mut high) = (0, cursor.count);
    if high > 0 && cursor.start(reader, record, high - 1)? <= block.0 {
        low = high;
    }
    while low < high {
        let middle = (low + high) / 2;
        if cursor.start(reader, record, middle)? <= block.0 {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    cursor.index = low;
    Ok(cursor)
}

/// Whether `b` goes on where `a` ends, in the file and on the medium, in the same state.
fn goes_on(a: &Extent, b: &Extent) -> bool {
    a.file_end() == b.file_block && a.end() == b.block && a.unwritten == b.unwritten
}

/// What is at `block`, for at most `max` blocks. A hole may be cut short at a bound of the tree.
pub fn lookup<R: Reader>(
    reader: &R,
    record: &InodeRecord,
    block: FileBlock,
    max: u64,
) -> Result<Mapping> {
    if record.root == ROOT_INLINE_EXTENTS && usize::from(record.count) <= INLINE_EXTENTS {
        if let Some(mapping) = lookup_inline(record, block, max) {
            return Ok(mapping);
        }
    }
    find(reader, record, block, max).map(|(mapping, _)| mapping)
}

/// Nothing is in `[from, to)`. One look does not say so: the bounds of the tree, where it ends, stay when the extents around
/// them go.
pub fn is_hole<R: Reader>(
    reader: &R,
    record: &InodeRecord,
    from: FileBlock,
    to: FileBlock,
) -> Result<bool> {
    let mut at = from;
    while at < to {
        let found = lookup(reader, record, at, to.0.saturating_sub(at.0))?;
        if found.state != MappingState::Hole {
            return Ok(false);
        }
        at = at.plus(found.len);
    }
    Ok(true)
}

/// Where the `blocks` blocks from `first` on lie, if they are written, and contiguous on the medium. Extents that go on where
/// others end may be unmerged, with a bound between them.
pub fn written_run<R: Reader>(
    reader: &R,
    record: &InodeRecord,
    first: FileBlock,
    blocks: u64,
) -> Result<Option<Block>> {
    let mut start = None;
    let mut done = 0;
    while done < blocks {
        let found = lookup(reader, record, first.plus(done), blocks - done)?;
        let MappingState::Written(block) = found.state else {
            return Ok(None);
        };
        if start.get_or_insert(block).plus(done) != block {
            return Ok(None);
        }
        done += found.len;
    }
    Ok(start)
}

/// The common case of [`lookup`] without its cursor: a written extent of the inline area that serves at least `max` blocks
/// alone. `None`: anything else.
#[inline]
fn lookup_inline(record: &InodeRecord, block: FileBlock, max: u64) -> Option<Mapping> {
    for index in 0..usize::from(record.count) {
        let at = index * SIZE;
        let disk = DiskExtent::ref_from_bytes(record.inline.get(at..at + SIZE)?).ok()?;
        let extent = Extent::from_disk(disk);
        let skip = block.0.wrapping_sub(extent.file_block.0);
        if skip < extent.len {
            if extent.unwritten || extent.len - skip < max || extent.block == Block::NONE {
                return None;
            }
            return Some(Mapping {
                start: block,
                len: max,
                state: MappingState::Written(extent.block.plus(skip)),
            });
        }
    }
    None
}

/// As [`lookup`]; with the last extent of the same leaf that starts at or before `block`: from its place an allocation
/// goes on.
pub fn find<R: Reader>(
    reader: &R,
    record: &InodeRecord,
    block: FileBlock,
    max: u64,
) -> Result<(Mapping, Option<Extent>)> {
    let cursor = seek(reader, record, block)?;
    find_at(reader, record, &cursor, block, max)
}

/// As [`find`], from where [`seek`] led for the same block of the same record.
pub fn find_at<R: Reader>(
    reader: &R,
    record: &InodeRecord,
    cursor: &Cursor,
    block: FileBlock,
    max: u64,
) -> Result<(Mapping, Option<Extent>)> {
    if block >= FileBlock::END || max == 0 {
        return Err(Error::Invalid);
    }
    let previous = match cursor.index.checked_sub(1) {
        Some(before) => Some(cursor.get(reader, record, before)?),
        None => None,
    };
    if let Some(mut extent) = previous.filter(|extent| block < extent.file_end()) {
        let skip = block.0.saturating_sub(extent.file_block.0);
        let target = extent.block.plus(skip);
        // Neighbours that go on where this one ends may be unmerged still.
        for index in cursor.index..cursor.count {
            if extent.len.saturating_sub(skip) >= max {
                break;
            }
            let next = cursor.get(reader, record, index)?;
            if !goes_on(&extent, &next) {
                break;
            }
            extent.len += next.len;
        }
        let mapping = Mapping {
            start: block,
            len: extent.len.saturating_sub(skip).min(max),
            state: if extent.unwritten {
                MappingState::Unwritten(target)
            } else {
                MappingState::Written(target)
            },
        };
        return Ok((mapping, previous));
    }
    let end = if cursor.index < cursor.count {
        cursor.start(reader, record, cursor.index)?
    } else {
        cursor.limit
    };
    let mapping = Mapping {
        start: block,
        len: end.saturating_sub(block.0).clamp(1, max),
        state: MappingState::Hole,
    };
    Ok((mapping, previous))
}

/// Puts `new` in the place of the extents `from..to` of the cursor's leaf. False: the leaf was full; the tree has grown
/// instead and nothing was replaced: seek again. At most 4 new ones.
fn replace<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    cursor: &Cursor,
    from: usize,
    to: usize,
    new: &[Extent],
) -> Result<bool> {
    let mut packed = [0u8; 4 * SIZE];
    for (extent, place) in new.iter().zip(packed.chunks_exact_mut(SIZE)) {
        place.copy_from_slice(extent.to_disk().as_bytes());
    }
    let packed = packed.get(..new.len() * SIZE).ok_or(Error::Invalid)?;
    if from > to || to > cursor.count {
        return Err(Error::Invalid);
    }
    let count = cursor.count - (to - from) + new.len();
    match &cursor.leaf {
        None => {
            if count > INLINE_EXTENTS {
                grow_tree(tx, record)?;
                return Ok(false);
            }
            let at = from * SIZE;
            record
                .inline
                .copy_within(to * SIZE..cursor.count * SIZE, at + packed.len());
            if let Some(place) = record.inline.get_mut(at..at + packed.len()) {
                place.copy_from_slice(packed);
            }
            if let Some(rest) = record.inline.get_mut(count * SIZE..) {
                rest.fill(0);
            }
            record.count = u8::try_from(count).unwrap_or(0);
            Ok(true)
        }
        Some(leaf) => {
            let mut tree = tree_of(record, Kind::Extents);
            if count > LEAF_CAPACITY {
                if merge_leaf(tx, &tree, leaf, cursor.count)? {
                    return Ok(false);
                }
                split(tx, &mut tree, leaf, cursor, from)?;
                store_tree(record, &tree);
                return Ok(false);
            }
            if count == 0 {
                btree::remove_leaf(tx, &mut tree, leaf)?;
                store_tree(record, &tree);
                if tree.root == Block::NONE {
                    record.root = ROOT_INLINE_EXTENTS;
                    record.count = 0;
                    record.inline.fill(0);
                }
                return Ok(true);
            }
            let at = place(leaf.block, from) - leaf.block.address();
            if count == cursor.count {
                btree::update(tx, leaf.block, at, packed)?;
                return Ok(true);
            }
            if to == cursor.count {
                if !packed.is_empty() {
                    btree::update(tx, leaf.block, at, packed)?;
                }
            } else {
                let mut bytes = Vec::new();
                bytes.extend_from_slice(packed)?;
                bytes.resize(packed.len() + (cursor.count - to) * SIZE, 0)?;
                if let Some(tail) = bytes.get_mut(packed.len()..) {
                    use_reader(tx, place(leaf.block, to), tail)?;
                }
                btree::update(tx, leaf.block, at, &bytes)?;
            }
            btree::set_count(tx, &tree, leaf.block, 0, count)?;
            Ok(true)
        }
    }
}

/// Lets the cursor's leaf hold exactly these extents, which are no more than it can.
fn rewrite<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    cursor: &Cursor,
    list: &[Extent],
) -> Result {
    let mut packed = Vec::new();
    for extent in list {
        packed.extend_from_slice(extent.to_disk().as_bytes())?;
    }
    let Some(leaf) = &cursor.leaf else {
        record.inline.fill(0);
        let place = record.inline.get_mut(..packed.len());
        place.ok_or(Error::Invalid)?.copy_from_slice(&packed);
        record.count = u8::try_from(list.len()).map_err(|_| Error::Invalid)?;
        return Ok(());
    };
    let tree = tree_of(record, Kind::Extents);
    btree::update(tx, leaf.block, HEADER_SIZE, &packed)?;
    btree::set_count(tx, &tree, leaf.block, 0, list.len())
}

/// Reads through a transaction; spares the callers the trait's name.
fn use_reader<R: Reader>(reader: &R, address: u64, into: &mut [u8]) -> Result {
    reader.bytes(address, into)
}

/// Moves the inline extents into a first leaf.
fn grow_tree<M: Media>(tx: &mut Transaction<'_, M>, record: &mut InodeRecord) -> Result {
    let count = usize::from(record.count).min(INLINE_EXTENTS);
    let mut tree = tree_of(record, Kind::Extents);
    tree.root = Block::NONE;
    tree.height = 0;
    let near = inline_extent(record, 0)?.block;
    let leaf = btree::new_node(tx, &mut tree, 0, near)?;
    if let Some(bytes) = record.inline.get(..count * SIZE) {
        btree::update(tx, leaf, HEADER_SIZE, bytes)?;
    }
    btree::set_count(tx, &tree, leaf, 0, count)?;
    tree.root = leaf;
    tree.height = 1;
    record.inline.fill(0);
    record.count = 0;
    record.root = ROOT_EXTENT_TREE;
    store_tree(record, &tree);
    Ok(())
}

/// Merges what insertions left unmerged in a leaf; false if that gains too little to be worth a rewritten leaf.
fn merge_leaf<M: Media>(
    tx: &mut Transaction<'_, M>,
    tree: &Tree,
    leaf: &Leaf,
    count: usize,
) -> Result<bool> {
    let mut bytes = Vec::new();
    bytes.resize(count * SIZE, 0)?;
    use_reader(tx, place(leaf.block, 0), &mut bytes)?;
    let mut merged = Vec::new();
    let mut last: Option<Extent> = None;
    for disk in bytes.chunks_exact(SIZE) {
        let Ok(disk) = DiskExtent::read_from_bytes(disk) else {
            continue;
        };
        let extent = Extent::from_disk(&disk);
        match &mut last {
            Some(last) if goes_on(last, &extent) && last.len + extent.len <= MAX_LEN => {
                last.len += extent.len;
            }
            _ => {
                if let Some(done) = last.replace(extent) {
                    merged.extend_from_slice(done.to_disk().as_bytes())?;
                }
            }
        }
    }
    if let Some(done) = last {
        merged.extend_from_slice(done.to_disk().as_bytes())?;
    }
    let left = merged.len() / SIZE;
    if left + LEAF_CAPACITY / 8 > count {
        return Ok(false);
    }
    btree::update(tx, leaf.block, HEADER_SIZE, &merged)?;
    btree::set_count(tx, tree, leaf.block, 0, left)?;
    Ok(true)
}

/// Splits a full leaf: in the middle, or before its last extent when the change is at its end.
fn split<M: Media>(
    tx: &mut Transaction<'_, M>,
    tree: &mut Tree,
    leaf: &Leaf,
    cursor: &Cursor,
    at: usize,
) -> Result {
    let count = cursor.count;
    let keep = if at.saturating_add(1) >= count {
        count.saturating_sub(1)
    } else {
        count / 2
    };
    if keep == 0 {
        return Err(Error::corrupt("extent leaf", leaf.block.address()));
    }
    let mut bytes = Vec::new();
    bytes.resize((count - keep) * SIZE, 0)?;
    use_reader(tx, place(leaf.block, keep), &mut bytes)?;
    let key = U64::read_from_prefix(&bytes).map_or(0, |(word, _)| word.get() >> 20);
    let new = btree::new_node(tx, tree, 0, leaf.block)?;
    btree::update(tx, new, HEADER_SIZE, &bytes)?;
    btree::set_count(tx, tree, new, 0, count - keep)?;
    btree::set_count(tx, tree, leaf.block, 0, keep)?;
    btree::insert_child(tx, tree, leaf, key, new)
}
