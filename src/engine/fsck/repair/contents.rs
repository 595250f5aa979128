// SPDX-License-Identifier: GPL-2.0

//! The fourth step: which blocks belong to which file.
//!
//! Files without a fault claim their blocks first. Then the others, in the order of their numbers,
//! get what is left of theirs:
//!
//! * extents of sound leaves come before those of leaves that were found, and these before those of
//!   doubtful leaves; where two overlap in the file, the former stays;
//! * what lies outside the data of a group is cut off;
//! * a block that another file has, if this file's leaf is sound, is copied: both files read what
//!   they read before. From a doubtful or found leaf it is cut off, and so is a block of metadata:
//!   a file does not get to see what was never its own;
//! * a block that the bitmap calls free is cut off if the leaf is doubtful.
//!
//! Copies are made when all have claimed what is theirs.
//!
//! # Hazard
//!
//! What is cut off reads as zeros, silently, if nobody says so: each cut is an action of its own.

use zerocopy::{FromBytes, IntoBytes};

use super::build::{nodes_for, Branch};
use super::records::EXTENTS;
use super::tree::{Leaf, NODE};
use super::{Action, Class, Repair};
use crate::engine::error::Result;
use crate::engine::format::extent::{DiskExtent, Extent, LEAF_CAPACITY, MAX_LEN};
use crate::engine::format::inode::{
    InodeRecord, INLINE_EXTENTS, ROOT_EXTENT_TREE, ROOT_INLINE_EXTENTS,
};
use crate::engine::format::node::{EXTENT_LEAF_MAGIC, HEADER_SIZE};
use crate::engine::fsck::table::{BROKEN, KNOWN, NEEDS_SIZE, SUSPECT, USED};
use crate::engine::fsck::tree::Owner;
use crate::engine::media::Media;
use crate::engine::types::{u64_of, usize_of, Block, FileBlock, FileKind, Ino, BLOCK_SIZE};
use crate::platform::{yield_now, Vec};

/// How much an extent can be believed; the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    Sound,
    Found,
    Doubtful,
}

/// An extent and its source.
#[derive(Clone, Copy)]
struct Piece {
    extent: Extent,
    trust: Trust,
    /// Its blocks are another file's: it gets copies.
    copy: bool,
}

/// What a file's record and tree say.
struct Mapping {
    pieces: Vec<Piece>,
    nodes: Vec<Block>,
    faults: bool,
}

/// A file whose extents are to be written anew.
struct Plan {
    index: usize,
    pieces: Vec<Piece>,
    nodes: Vec<Block>,
}

impl<M: Media> Repair<'_, M> {
    /// Settles whose each block is.
    pub(super) fn contents(&mut self) -> Result {
        let mut deferred: Vec<usize> = Vec::new();
        let total = self.table.len();
        for index in 0..total {
            if index % 4096 == 0 {
                self.observer
                    .progress(Class::Contents, u64_of(index), u64_of(total));
                yield_now();
            }
            if self.is_file(index) && !self.whole_file(index, false)? {
                deferred.push(index)?;
            }
        }
        self.salvage()?;
        let mut plans: Vec<Plan> = Vec::new();
        for &index in deferred.iter() {
            // If nothing was found that it lacks, and nobody else wants its blocks, then the count
            // was all that was wrong.
            if self.leaves_of(index, EXTENT_LEAF_MAGIC)?.is_empty()
                && self.whole_file(index, true)?
            {
                continue;
            }
            if let Some(plan) = self.plan(index)? {
                plans.push(plan)?;
            }
        }
        for number in 0..plans.len() {
            if let Some(plan) = plans.get_mut(number) {
                let plan = Plan {
                    index: plan.index,
                    pieces: core::mem::take(&mut plan.pieces),
                    nodes: core::mem::take(&mut plan.nodes),
                };
                self.carry_out(plan)?;
            }
        }
        Ok(())
    }

    fn is_file(&self, index: usize) -> bool {
        let entry = self.table.get(index);
        entry.is(USED) && entry.is(KNOWN) && entry.kind == FileKind::Regular.to_disk()
    }

    /// Claims the blocks of a file if all is well with it; false if not. `second`: others have
    /// claimed theirs, and a wrong count of blocks alone is corrected.
    fn whole_file(&mut self, index: usize, second: bool) -> Result<bool> {
        let Some(mut record) = self.record(index) else {
            return Ok(true);
        };
        let broken = self.table.get(index).is(BROKEN);
        let mapping = self.mapping(index, &record)?;
        if broken || mapping.faults {
            return Ok(false);
        }
        let (mut end, mut blocks) = (FileBlock(0), u64_of(mapping.nodes.len()));
        for piece in mapping.pieces.iter() {
            let extent = &piece.extent;
            if !self.possible(&record, extent)
                || extent.file_block < end
                || self.claimed.any(extent.block, extent.len)
            {
                return Ok(false);
            }
            end = extent.file_end();
            blocks = blocks.saturating_add(extent.len);
        }
        if blocks != record.blocks.get() && !second {
            // An extent may be longer than it was, or leaves may be missing: it comes last.
            if let Some(entry) = self.table.get_mut(index) {
                entry.flags |= SUSPECT;
            }
            return Ok(false);
        }
        // Only now: a file claims all its blocks or none, and twice the same is a fault as well.
        for (number, piece) in mapping.pieces.iter().enumerate() {
            let extent = &piece.extent;
            if self.claimed.set_run(extent.block, extent.len).is_some() {
                self.unclaim_pieces(mapping.pieces.get(..=number).unwrap_or_default());
                return Ok(false);
            }
        }
        self.counted(index, &mut record, blocks)?;
        Ok(true)
    }

    /// Blocks that this file claimed itself, one of them twice.
    fn unclaim_pieces(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            for block in 0..piece.extent.len {
                self.claimed.clear(piece.extent.block.plus(block));
            }
        }
    }

    /// Whether a file can have this extent. Where no file reaches lie blocks that wait to be freed, if the record says that
    /// there are such.
    fn possible(&self, record: &InodeRecord, extent: &Extent) -> bool {
        let limit = match record.orphan.get() {
            0 => FileBlock::PARKED,
            _ => FileBlock::END,
        };
        let end = extent.file_block.0.checked_add(extent.len);
        extent.len != 0
            && end.is_some_and(|end| end <= limit.0)
            && self.is_data(extent.block, extent.len)
    }

    /// Corrects the count of blocks of a file without a fault.
    fn counted(&mut self, index: usize, record: &mut InodeRecord, counted: u64) -> Result {
        let stored = record.blocks.get();
        if stored == counted {
            return Ok(());
        }
        let ino = Ino(record.ino.get());
        if self.act(Action::BlocksCounted {
            ino,
            stored,
            counted,
        }) {
            record.blocks.set(counted);
            self.put_record(index, record)?;
        }
        Ok(())
    }

    /// Reads what a file's record and tree say.
    fn mapping(&mut self, index: usize, record: &InodeRecord) -> Result<Mapping> {
        let mut pieces: Vec<Piece> = Vec::new();
        if record.root == ROOT_INLINE_EXTENTS {
            let doubtful = self.table.get(index).is(BROKEN);
            let count = usize::from(record.count).min(INLINE_EXTENTS);
            for disk in record.inline.chunks_exact(16).take(count) {
                if let Ok(disk) = DiskExtent::read_from_bytes(disk) {
                    pieces.push(Piece {
                        extent: Extent::from_disk(&disk),
                        trust: if doubtful {
                            Trust::Doubtful
                        } else {
                            Trust::Sound
                        },
                        copy: false,
                    })?;
                }
            }
            return Ok(Mapping {
                pieces,
                nodes: Vec::new(),
                faults: usize::from(record.count) > INLINE_EXTENTS,
            });
        }
        let owner = Owner::of(Ino(record.ino.get()), record);
        let mut faults = false;
        let walked = self.walk(&owner, &EXTENTS, false, &mut |_, leaf| {
            let trust = if leaf.sound {
                Trust::Sound
            } else {
                Trust::Doubtful
            };
            faults |= !leaf_pieces(leaf, trust, &mut pieces)?;
            Ok(())
        })?;
        Ok(Mapping {
            pieces,
            nodes: walked.nodes,
            faults: faults | walked.faults,
        })
    }

    /// Claims what a file with faults keeps; `None` if it has no content to speak of.
    fn plan(&mut self, index: usize) -> Result<Option<Plan>> {
        let Some(record) = self.record(index) else {
            return Ok(None);
        };
        let ino = Ino(record.ino.get());
        let mut mapping = self.mapping(index, &record)?;
        for &block in self.leaves_of(index, EXTENT_LEAF_MAGIC)?.iter() {
            self.act(Action::LeafSalvaged { ino, block });
            let pieces = &mut mapping.pieces;
            self.visit_salvaged(block, &mut |_, leaf| {
                leaf_pieces(leaf, Trust::Found, pieces).map(|_| ())
            })?;
        }
        let pieces = self.arrange(&record, &mut mapping.pieces)?;
        let mut kept = Vec::new();
        for piece in pieces.iter() {
            self.settle(ino, piece, &mut kept)?;
        }
        Ok(Some(Plan {
            index,
            pieces: kept,
            nodes: mapping.nodes,
        }))
    }

    /// Sorts pieces by file block, without overlaps: of two the better, else the former, stays.
    fn arrange(&mut self, record: &InodeRecord, pieces: &mut [Piece]) -> Result<Vec<Piece>> {
        let ino = Ino(record.ino.get());
        // Stable by construction: equals are ordered by where they lie.
        pieces.sort_unstable_by_key(|piece| {
            (piece.trust, piece.extent.file_block, piece.extent.block)
        });
        let mut taken: Vec<Piece> = Vec::new();
        for trust in [Trust::Sound, Trust::Found, Trust::Doubtful] {
            let mut merged: Vec<Piece> = Vec::new();
            let mut old = taken.iter().copied().peekable();
            let mut end = FileBlock(0);
            for piece in pieces.iter().filter(|piece| piece.trust == trust) {
                let (file_block, len) = (piece.extent.file_block, piece.extent.len);
                if !self.possible(record, &piece.extent) {
                    self.act(Action::ExtentCut {
                        ino,
                        file_block,
                        len,
                    });
                    continue;
                }
                let mut rest = piece.extent;
                trim_front(&mut rest, end);
                while rest.len != 0 {
                    // Better ones in front of it.
                    while let Some(before) =
                        old.next_if(|old| old.extent.file_end() <= rest.file_block)
                    {
                        merged.push(before)?;
                    }
                    let mut part = rest;
                    match old.peek() {
                        Some(next) if next.extent.file_block <= rest.file_block => {
                            trim_front(&mut rest, next.extent.file_end());
                            continue;
                        }
                        Some(next) => {
                            let room = next.extent.file_block.0 - part.file_block.0;
                            part.len = part.len.min(room);
                        }
                        None => {}
                    }
                    merged.push(Piece {
                        extent: part,
                        ..*piece
                    })?;
                    end = part.file_end();
                    trim_front(&mut rest, end);
                }
            }
            for before in old {
                merged.push(before)?;
            }
            taken = merged;
        }
        Ok(taken)
    }

    /// Claims the blocks of a piece that are free; what others have is copied or cut off.
    fn settle(&mut self, ino: Ino, piece: &Piece, kept: &mut Vec<Piece>) -> Result {
        let mut rest = piece.extent;
        while rest.len != 0 {
            let free = self.claimed.run_of(rest.block, rest.len, false);
            let mut part = rest;
            if free != 0 {
                part.len = self.believed(piece.trust, rest.block, free);
                if part.len == 0 {
                    part.len = 1;
                    self.cut(ino, &part);
                } else {
                    self.claimed.set_run(part.block, part.len);
                    kept.push(Piece {
                        extent: part,
                        ..*piece
                    })?;
                }
            } else {
                let shared = self.claimed.run_of(rest.block, rest.len, true);
                let node = self.metadata.run_of(rest.block, shared, true);
                let copy = node == 0 && piece.trust == Trust::Sound && !rest.unwritten;
                part.len = if node != 0 {
                    node
                } else {
                    self.metadata.run_of(rest.block, shared, false)
                };
                if copy {
                    kept.push(Piece {
                        extent: part,
                        copy: true,
                        ..*piece
                    })?;
                } else {
                    self.cut(ino, &part);
                }
            }
            let end = part.file_end();
            trim_front(&mut rest, end);
        }
        Ok(())
    }

    /// How many of the blocks can be this file's, judging by the bitmap if nothing else vouches.
    fn believed(&mut self, trust: Trust, block: Block, len: u64) -> u64 {
        if trust == Trust::Sound {
            return len;
        }
        let mut good = 0;
        while good < len && self.marked(block.plus(good), 1) {
            good += 1;
        }
        good
    }

    fn cut(&mut self, ino: Ino, part: &Extent) {
        self.act(Action::ExtentCut {
            ino,
            file_block: part.file_block,
            len: part.len,
        });
    }

    /// Makes the copies and writes a file's extents anew.
    fn carry_out(&mut self, plan: Plan) -> Result {
        let Some(mut record) = self.record(plan.index) else {
            return Ok(());
        };
        let ino = Ino(record.ino.get());
        let mut extents: Vec<Extent> = Vec::new();
        for piece in plan.pieces.iter() {
            if piece.copy {
                self.copy(ino, &piece.extent, &mut extents)?;
            } else {
                append(&mut extents, piece.extent)?;
            }
        }
        if self.outcome.refused.is_some() {
            return Ok(());
        }
        let data: u64 = extents.iter().map(|extent| extent.len).sum();
        if self.table.get(plan.index).is(NEEDS_SIZE) {
            let end = extents.last().map_or(0, |extent| extent.file_end().0);
            record
                .size
                .set(end.saturating_mul(BLOCK_SIZE).min(record.size.get()));
        }
        let inline = extents.len() <= INLINE_EXTENTS;
        let leaves = if inline {
            0
        } else {
            extents.len().div_ceil(LEAF_CAPACITY)
        };
        let Some(mut pool) = self.pool(nodes_for(leaves), &plan.nodes)? else {
            self.act(Action::NoRoom { ino });
            return Ok(());
        };
        if !self.act(Action::ExtentsRebuilt {
            ino,
            extents: u64_of(extents.len()),
        }) {
            return Ok(());
        }
        record.inline.fill(0);
        record.count = 0;
        record.height = 0;
        record.root = ROOT_INLINE_EXTENTS;
        if inline {
            record.count = u8::try_from(extents.len()).unwrap_or(0);
            for (place, extent) in record.inline.chunks_exact_mut(16).zip(extents.iter()) {
                place.copy_from_slice(extent.to_disk().as_bytes());
            }
        } else {
            let mut branches = Vec::new();
            for part in extents.chunks(LEAF_CAPACITY) {
                let mut node = [0u8; NODE];
                let body = node.get_mut(usize_of(HEADER_SIZE)..).unwrap_or_default();
                for (place, extent) in body.chunks_exact_mut(16).zip(part) {
                    place.copy_from_slice(extent.to_disk().as_bytes());
                }
                let shape = (EXTENTS.leaf, 0, part.len());
                let block = self.put_node(&mut pool, &record, shape, &mut node)?;
                let key = part.first().map_or(0, |extent| extent.file_block.0);
                branches.push(Branch { key, block })?;
            }
            let (root, height) = self.put_index(&mut pool, &record, &EXTENTS, branches)?;
            record.root = ROOT_EXTENT_TREE;
            record.height = height;
            if let Some(place) = record.inline.first_chunk_mut::<8>() {
                *place = root.0.to_le_bytes();
            }
        }
        record.blocks.set(data.saturating_add(pool.len()));
        self.put_record(plan.index, &record)?;
        self.retire(&plan.nodes, &pool)
    }

    /// Copies blocks that are another file's; what cannot be is cut off.
    fn copy(&mut self, ino: Ino, source: &Extent, extents: &mut Vec<Extent>) -> Result {
        let mut bytes = [0u8; NODE];
        let (mut copied, mut lost) = (0, 0);
        for at in 0..source.len {
            let from = source.block.plus(at);
            let target = if self.media.read(from.address(), &mut bytes).is_ok() {
                self.allocate()
            } else {
                None
            };
            let part = Extent {
                file_block: source.file_block.plus(at),
                len: 1,
                block: target.unwrap_or_default(),
                unwritten: false,
            };
            match target {
                Some(block) => {
                    self.media.store_through(block.address(), &bytes);
                    append(extents, part)?;
                    copied += 1;
                }
                None => lost += 1,
            }
        }
        let file_block = source.file_block;
        if copied != 0 {
            self.act(Action::ExtentCopied {
                ino,
                file_block,
                len: copied,
            });
        }
        if lost != 0 {
            self.act(Action::ExtentCut {
                ino,
                file_block,
                len: lost,
            });
        }
        Ok(())
    }
}

/// Adds the extents of a leaf; false if its count or bounds are wrong.
fn leaf_pieces(leaf: &Leaf<'_>, trust: Trust, pieces: &mut Vec<Piece>) -> Result<bool> {
    let mut right = (1..=LEAF_CAPACITY).contains(&leaf.count);
    let body = leaf.bytes.get(usize_of(HEADER_SIZE)..).unwrap_or_default();
    for disk in body.chunks_exact(16).take(leaf.count) {
        let Ok(disk) = DiskExtent::read_from_bytes(disk) else {
            continue;
        };
        let extent = Extent::from_disk(&disk);
        right &= extent.file_block.0 >= leaf.low && extent.file_end().0 <= leaf.high;
        // A count that is too large leads to old bytes, zeros at first.
        let empty = disk.as_bytes() == [0; 16];
        right &= !empty;
        if !empty {
            pieces.push(Piece {
                extent,
                trust,
                copy: false,
            })?;
        }
    }
    Ok(right)
}

/// Removes what lies before `end`.
fn trim_front(extent: &mut Extent, end: FileBlock) {
    let gone = end.0.saturating_sub(extent.file_block.0).min(extent.len);
    extent.file_block = extent.file_block.plus(gone);
    extent.block = extent.block.plus(gone);
    extent.len -= gone;
}

/// Adds an extent, joined with the last one if it continues that.
fn append(extents: &mut Vec<Extent>, extent: Extent) -> Result {
    if let Some(last) = extents.last_mut() {
        if last.file_end() == extent.file_block
            && last.end() == extent.block
            && last.unwritten == extent.unwritten
            && last.len + extent.len <= MAX_LEN
        {
            last.len += extent.len;
            return Ok(());
        }
    }
    extents.push(extent)?;
    Ok(())
}
