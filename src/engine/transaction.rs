// SPDX-License-Identifier: GPL-2.0

//! Transactions: the only way to change metadata.
//!
//! A transaction collects entries right into the buffer that will be its journal record: bytes for structures that the
//! caller has locked, and logical set and clear entries for bitmaps that many share. It reads through what it has collected.
//! Collecting may fail, and dropping a transaction undoes what it took in memory; [`Transaction::commit`] cannot fail.
//!
//! Changes of checksummed objects go through [`Transaction::update`], which keeps the sum by differences, so nothing is read
//! or copied but the words that change. The new sum is one word in the record.
//!
//! # Invariants
//!
//! * No store in place before the record's fence ([`super::journal`]).
//! * Data that a transaction publishes is durable before the first byte of its record, for the record is valid without any
//!   order against other stores: [`Transaction::publishes_data`]. Test: mutant `NoDataFence`.
//! * Two transactions that touch the same bytes hold the same lock in turn, from before they read to after their commit.
//! * What a transaction frees (blocks, inodes, orphan slots) becomes available only after its apply. Tests:
//!   `freed_blocks_wait_for_their_clear`, `nothing_is_handed_out_twice`.

mod apply;
mod free;
mod workspace;

use super::alloc::chunks::Page;
use super::alloc::policy::Purpose;
use super::alloc::{AllocRequest, Window};
use super::checksum::Domain;
use super::error::{Error, Result};
use super::format::ag::{CHUNKS_OFFSET, CHUNK_BLOCKS, MAX_CHUNKS};
use super::format::inode::{InodeRecord, MAGIC as INODE_MAGIC, RECORD_SIZE};
use super::format::journal::*;
use super::format::node::CHECKSUM_OFFSET;
use super::media::Media;
use super::mutant::Mutant;
use super::types::*;
use super::verify::{covered, inode_sum, Expected};
use super::volume::Volume;
use crate::platform::{forbid_allocation, Box, Lent};
use apply::apply;
use workspace::{bloom, bloom_bit, patched};
use zerocopy::IntoBytes;

pub use workspace::Workspace;

/// Words that a fresh buffer has; larger ones are not kept.
const BUFFER_WORDS: usize = 1024;
/// Flag in the word that follows a [`BITS_CLEAR`] head: the blocks held metadata.
const METADATA_RUN: u64 = 1 << 63;

/// What blocks are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// File data.
    Data,
    /// Trees, symlink blocks, attributes: whatever records write into.
    Metadata,
}

/// A checksummed object, by its byte address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// An inode record.
    Inode(u64),
    /// A metadata block.
    Node(u64),
}

impl Object {
    /// Its byte address.
    pub const fn address(self) -> u64 {
        match self {
            Self::Inode(address) | Self::Node(address) => address,
        }
    }

    /// Its bytes.
    pub const fn size(self) -> u64 {
        match self {
            Self::Inode(_) => RECORD_SIZE,
            Self::Node(_) => BLOCK_SIZE,
        }
    }

    const fn domain(self) -> Domain {
        match self {
            Self::Inode(_) => Domain::Inode,
            Self::Node(_) => Domain::Node,
        }
    }
}

#[derive(Clone, Copy)]
struct Touched {
    object: Object,
    sum: u64,
    /// Where in the record the checksum word lies; 0: nowhere yet.
    place: usize,
    created: bool,
}

/// What is given back if the transaction is dropped.
#[derive(Clone, Copy)]
enum Undo {
    Blocks(Run),
    Inode(Ino),
    OrphanSlot(u32),
}

/// A change of metadata that is being put together.
pub struct Transaction<'a, M: Media> {
    volume: &'a Volume<M>,
    work: Lent<'a, Workspace, Volume<M>>,
    purpose: Purpose,
    committed: bool,
}

impl<'a, M: Media> Transaction<'a, M> {
    /// Starts with a used or fresh workspace. Called by [`Volume::begin`].
    pub(super) fn new(
        volume: &'a Volume<M>,
        mut work: Lent<'a, Workspace, Volume<M>>,
        purpose: Purpose,
    ) -> Result<Self> {
        work.reset();
        work.room(BUFFER_WORDS - RECORD_HEADER_WORDS)?;
        Ok(Self {
            volume,
            work,
            purpose,
            committed: false,
        })
    }

    /// The volume that it changes.
    pub fn volume(&self) -> &'a Volume<M> {
        self.volume
    }

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Words that can still be collected.
    pub fn room(&self) -> usize {
        MAX_RECORD_WORDS.saturating_sub(self.work.used + 2 * self.work.pending)
    }

    /// Nothing was collected.
    pub fn is_empty(&self) -> bool {
        self.work.used == RECORD_HEADER_WORDS
    }

    /// Reads the medium as it will be after this transaction.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        self.volume.media().read(address, buffer)?;
        if self.work.bloom & bloom(address, buffer.len() as u64) != 0 {
            self.work.overlay(self.work.used, address, buffer);
        }
        Ok(())
    }

    /// Reads one word, as [`Self::read`]; `address` is a multiple of 8.
    pub fn read_u64(&self, address: u64) -> Result<u64> {
        if self.work.bloom & bloom_bit(address >> BLOCK_SHIFT) == 0 {
            return self.volume.media().read_u64(address);
        }
        let mut bytes = [0u8; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Whether this transaction created the object.
    pub fn is_new(&self, object: Object) -> bool {
        self.work
            .objects
            .iter()
            .any(|t| t.created && t.object == object)
    }

    /// Checks a metadata block before its first use; those that this transaction made need none.
    pub fn verify_node(&self, block: Block, expected: &Expected) -> Result {
        self.verify_within(block, expected, None)
    }

    /// As [`Volume::verify_within`].
    pub fn verify_within(
        &self,
        block: Block,
        expected: &Expected,
        keys: Option<(u64, u64)>,
    ) -> Result {
        if self.is_new(Object::Node(block.address())) {
            return Ok(());
        }
        self.volume.verify_within(block, expected, keys)
    }

    /// Says that data which was stored before, but perhaps not fenced, becomes part of a file by this transaction.
    pub fn publishes_data(&mut self) {
        self.work.data = true;
    }

    fn object(&mut self, object: Object) -> Result<usize> {
        if let Some(i) = self.work.objects.iter().position(|t| t.object == object) {
            return Ok(i);
        }
        let sum = self
            .volume
            .media()
            .read_u64(object.address() + CHECKSUM_OFFSET)?;
        self.register(object, sum, false)
    }

    fn register(&mut self, object: Object, sum: u64, created: bool) -> Result<usize> {
        self.work.pending += 1;
        let touched = Touched {
            object,
            sum,
            place: 0,
            created,
        };
        if let Err(error) = self
            .work
            .room(0)
            .and_then(|()| Ok(self.work.objects.push(touched)?))
        {
            self.work.pending -= 1;
            return Err(error);
        }
        Ok(self.work.objects.len() - 1)
    }

    /// Changes bytes of an object and keeps its checksum. The object was verified before.
    pub fn update(&mut self, object: Object, offset: u64, bytes: &[u8]) -> Result {
        if bytes.is_empty() {
            return Ok(());
        }
        let len = bytes.len() as u64;
        if offset
            .checked_add(len)
            .is_none_or(|end| end > object.size())
        {
            return Err(Error::Invalid);
        }
        let index = self.object(object)?;
        let first = offset / 8;
        let n = usize_of((offset + len).div_ceil(8) - first);
        let address = object.address() + first * 8;
        self.work.room(n + 1)?;
        // The old words, read to where the new entry will be.
        let at = self.work.used + 1;
        let media = self.volume.media();
        let mut known = self.work.bloom & bloom(address, n as u64 * 8) != 0;
        let mut place = 0;
        if known {
            (place, known) = self.work.covering(self.work.used, address, n);
        }
        if place != 0 {
            for i in 0..n {
                let word = self.work.get(place + i);
                self.work.put(at + i, word);
            }
        } else {
            if let Some(words) = self.work.words.get_mut(at..at + n) {
                media.read(address, words.as_mut_bytes())?;
            }
            if known {
                self.overlay_tail(at, n, address);
            }
        }
        // The new ones, and what they change.
        let mut change = 0u64;
        let (skip, first) = (usize_of(offset % 8), usize_of(first));
        let (domain, keys) = (object.domain(), self.volume.keys());
        let words = self.work.words.get_mut(at..at + n).unwrap_or(&mut []);
        for (i, word) in words.iter_mut().enumerate() {
            let old = *word;
            // Where this word starts in `bytes`; the first and the last may be there in part only.
            let whole = (i * 8)
                .checked_sub(skip)
                .and_then(|from| bytes.get(from..from + 8));
            let new = match whole.map(<[u8; 8]>::try_from) {
                Some(Ok(whole)) => u64::from_le_bytes(whole),
                _ => patched(old, i * 8, skip, bytes),
            };
            *word = new;
            if old != new && covered(domain, first + i) {
                change = change.wrapping_add(keys.change(first + i, old, new));
            }
        }
        let sum_place = (CHECKSUM_OFFSET as usize / 8)
            .checked_sub(first)
            .filter(|i| *i < n)
            .map_or(0, |i| at + i);
        if place != 0 {
            for i in 0..n {
                let word = self.work.get(at + i);
                self.work.put(place + i, word);
            }
        } else {
            self.append(WRITE, address, n);
            if sum_place != 0 {
                self.set_place(index, sum_place);
            }
        }
        if let Some(t) = self.work.objects.get_mut(index) {
            t.sum = t.sum.wrapping_add(change);
        }
        Ok(())
    }

    /// Notes that the checksum word of an object lies at `place` of the record.
    fn set_place(&mut self, index: usize, place: usize) {
        let work = &mut *self.work;
        if let Some(t) = work.objects.get_mut(index) {
            if t.place == 0 {
                work.pending -= 1;
            }
            t.place = place;
        }
    }

    /// Lays earlier entries over the `n` words at `at`, which were read from `address`.
    fn overlay_tail(&mut self, at: usize, n: usize, address: u64) {
        // Split, so that the entries are read while the tail is written.
        let end = self.work.used;
        let mut position = RECORD_HEADER_WORDS;
        let last = address + n as u64 * 8;
        while position < end {
            let head = Head::unpack(self.work.get(position));
            let (low, high) = (head.address, head.address + head.length as u64 * 8);
            if matches!(head.kind, WRITE | ZERO) && high > address && low < last {
                let mut a = low.max(address);
                while a < high.min(last) {
                    let word = if head.kind == ZERO {
                        0
                    } else {
                        self.work.get(position + 1 + usize_of((a - low) / 8))
                    };
                    self.work.put(at + usize_of((a - address) / 8), word);
                    a += 8;
                }
            }
            position += 1 + head.content_words();
        }
    }

    /// Puts a head before words that are in place already; `room` was called.
    fn append(&mut self, kind: u8, address: u64, length: usize) {
        let head = Head {
            kind,
            length,
            address,
        };
        let work = &mut *self.work;
        work.put(work.used, head.pack());
        work.used += 1 + head.content_words();
        if matches!(kind, WRITE | ZERO) {
            work.touch(address, length as u64 * 8);
        }
    }

    /// Starts a new object with `prefix` (a multiple of 8 bytes, from byte 0; its checksum word does not count) and zeros.
    pub fn create_object(&mut self, object: Object, prefix: &[u8]) -> Result {
        let (n, total) = (prefix.len() / 8, usize_of(object.size() / 8));
        if prefix.len() % 8 != 0 || n > total {
            return Err(Error::Invalid);
        }
        self.work.room(n + 4)?;
        let domain = object.domain();
        let mut sum = self.volume.keys().start(domain);
        let at = self.work.used + 1;
        let places = self.work.words.get_mut(at..at + n).unwrap_or(&mut []);
        let words = prefix.chunks_exact(8).zip(places).enumerate();
        for (i, (chunk, place)) in words {
            let word = <[u8; 8]>::try_from(chunk).map_or(0, u64::from_le_bytes);
            *place = word;
            if covered(domain, i) {
                sum = sum.wrapping_add(self.volume.keys().word(i, word));
            }
        }
        let index = self.register(object, sum, true)?;
        if n > 0 {
            self.append(WRITE, object.address(), n);
            if n > CHECKSUM_OFFSET as usize / 8 {
                self.set_place(index, at + CHECKSUM_OFFSET as usize / 8);
            }
        }
        if n < total {
            self.append(ZERO, object.address() + n as u64 * 8, total - n);
        }
        Ok(())
    }

    /// Writes words outside all checksums; address and length are multiples of 8.
    pub fn write_raw(&mut self, address: u64, bytes: &[u8]) -> Result {
        let n = bytes.len() / 8;
        if bytes.len() % 8 != 0 || address % 8 != 0 || n > MAX_ENTRY_WORDS {
            return Err(Error::Invalid);
        }
        self.work.room(n + 1)?;
        let mut place = 0;
        if self.work.bloom & bloom(address, bytes.len() as u64) != 0 {
            (place, _) = self.work.covering(self.work.used, address, n);
        }
        let at = if place != 0 {
            place
        } else {
            self.work.used + 1
        };
        if let Some(words) = self.work.words.get_mut(at..at + n) {
            words.as_mut_bytes().copy_from_slice(bytes);
        }
        if place == 0 && n > 0 {
            self.append(WRITE, address, n);
        }
        Ok(())
    }

    /// Appends a bit entry for a run that lies in one group.
    fn bits(&mut self, kind: u8, run: Run, flag: u64) -> Result {
        let g = self.volume.geometry();
        let (agno, relative) = g.locate_run(run).ok_or(Error::corrupt(
            "block run outside its group",
            run.start.address(),
        ))?;
        self.work.room(2)?;
        let at = self.work.used + 1;
        self.work.put(at, run.len | flag);
        self.work.last_bits = self.work.used;
        self.append(kind, g.bitmap_word(agno, relative), usize_of(relative % 64));
        Ok(())
    }

    /// Takes blocks for data and sets their bits.
    pub fn allocate(&mut self, request: &AllocRequest) -> Result<(Run, Window)> {
        self.expect_blocks()?;
        let (run, window) = self.volume.take_data(request)?;
        self.keep_blocks(run)?;
        Ok((run, window))
    }

    /// Takes one block for metadata, in the group of `near` if possible.
    pub fn allocate_block(&mut self, near: Block) -> Result<Block> {
        let agno = self
            .volume
            .geometry()
            .locate(near)
            .map_or(0, |(agno, _)| agno);
        self.expect_blocks()?;
        let run = self.volume.take_metadata(agno, 1, self.purpose)?;
        self.keep_blocks(run)?;
        Ok(run.start)
    }

    /// Makes room for what [`Self::keep_blocks`] notes. Before the blocks are taken, since taking them may also have made a
    /// slot a file's window, which nothing would undo.
    fn expect_blocks(&mut self) -> Result {
        self.work.undo.reserve(1)?;
        self.work.room(2)
    }

    fn keep_blocks(&mut self, run: Run) -> Result {
        if self.lengthen_taken(run) {
            return Ok(());
        }
        let kept = self.work.undo.push(Undo::Blocks(run)).map_err(Error::from);
        if kept.is_err() {
            self.volume.release(run);
            return kept;
        }
        self.bits(BITS_SET, run, 0)
    }

    /// Lets the record's last entry set the bits of `run` too, if that entry is for blocks of the same group that end where
    /// these begin, and were taken last.
    fn lengthen_taken(&mut self, run: Run) -> bool {
        let g = self.volume.geometry();
        let at = self.work.used.saturating_sub(2);
        let Some(Undo::Blocks(last)) = self.work.undo.last().copied() else {
            return false;
        };
        let same_group = || {
            g.locate_run(Run {
                start: last.start,
                len: last.len + run.len,
            })
        };
        if last.end() != run.start || at < RECORD_HEADER_WORDS || same_group().is_none() {
            return false;
        }
        let expected = g.locate_run(last).map(|(agno, relative)| Head {
            kind: BITS_SET,
            length: usize_of(relative % 64),
            address: g.bitmap_word(agno, relative),
        });
        let is_last = self.work.last_bits == at && self.work.get(at + 1) == last.len;
        if !is_last || expected != Some(Head::unpack(self.work.get(at))) {
            return false;
        }
        let longer = Run {
            start: last.start,
            len: last.len + run.len,
        };
        if let Some(undo) = self.work.undo.last_mut() {
            *undo = Undo::Blocks(longer);
        }
        self.work.put(at + 1, longer.len);
        true
    }

    /// Sets the bits of blocks that the caller has reserved before and still holds if the transaction is dropped.
    pub fn adopt(&mut self, run: Run) -> Result {
        self.bits(BITS_SET, run, 0)
    }

    /// Whether this transaction itself took any blocks.
    fn has_taken(&self) -> bool {
        self.work.undo.iter().any(|u| matches!(u, Undo::Blocks(_)))
    }

    /// Whether this transaction itself took the blocks that it frees.
    fn took(&self, run: Run) -> bool {
        let within = |taken: &Run| taken.start <= run.start && run.end() <= taken.end();
        let undo = self.work.undo.iter();
        undo.filter_map(|undo| match undo {
            Undo::Blocks(taken) => Some(taken),
            _ => None,
        })
        .any(within)
    }

    /// Takes a free inode number, in group `agno` if possible: the number and the address of its record. Adds a chunk, in a
    /// transaction of its own, if there is none free.
    pub fn allocate_inode(&mut self, agno: u32) -> Result<(Ino, u64)> {
        match self.take_inode(agno) {
            Err(Error::NoSpace) if self.volume.has_quarantine() => {
                self.volume.checkpoint()?;
                self.take_inode(agno)
            }
            other => other,
        }
    }

    fn take_inode(&mut self, agno: u32) -> Result<(Ino, u64)> {
        let g = self.volume.geometry();
        let count = g.ag_count;
        for step in 0..count {
            let agno = ((u64::from(agno % count) + u64::from(step)) % u64::from(count)) as u32;
            let ag = self.volume.group(agno)?;
            loop {
                let taken = {
                    let mut s = ag.state.lock();
                    s.chunks.take().and_then(|(chunk, slot)| {
                        let start = s.chunks.get(chunk)?.start;
                        Some((chunk, slot, start))
                    })
                };
                if let Some((chunk, slot, start)) = taken {
                    let ino = Ino::from_parts(agno, chunk, slot);
                    if self.work.undo.push(Undo::Inode(ino)).is_err() {
                        self.volume.give_inode(ino);
                        return Err(Error::NoMemory);
                    }
                    let address =
                        ag.base.address() + super::alloc::chunks::record_offset(start, slot);
                    self.check_unused(ino, address)?;
                    self.inode_bit(INODE_SET, ino)?;
                    return Ok((ino, address));
                }
                match self.volume.grow_inodes(agno, self.purpose) {
                    Ok(()) => continue,
                    Err(Error::NoSpace) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Err(Error::NoSpace)
    }

    /// Fails if the record at `address`, which the chunk map calls free, is that of a file with links: the map lies, and a
    /// new inode would wipe that file out. Before a number is given back its record has no links any more.
    fn check_unused(&self, ino: Ino, address: u64) -> Result {
        let media = self.volume.media();
        let magic = media.read_u64(address)? & 0xffff_ffff;
        if magic != u64::from(INODE_MAGIC) || media.read_u64(address + 16)? != ino.0 {
            return Ok(());
        }
        // The words with generation and links: of a number that was in use there are none left.
        const LINKS: u64 = core::mem::offset_of!(InodeRecord, nlink) as u64;
        if media.read_u64(address + LINKS / 8 * 8)? >> (LINKS % 8 * 8) & 0xffff_ffff == 0 {
            return Ok(());
        }
        let mut bytes = [0u8; RECORD_SIZE as usize];
        media.read(address, &mut bytes)?;
        let record: InodeRecord = zerocopy::transmute!(bytes);
        // Without the right sum it is what a file once held that lay here.
        if inode_sum(self.volume.keys(), &record) != record.checksum.get() {
            return Ok(());
        }
        Err(Error::corrupt(
            "inode in use that is marked as free",
            address,
        ))
    }

    fn inode_bit(&mut self, kind: u8, ino: Ino) -> Result {
        let entry = self.volume.geometry().chunk_entry(ino.ag(), ino.chunk());
        self.work.room(1)?;
        self.append(
            kind,
            entry + super::format::ag::CHUNK_MASK_OFFSET,
            ino.slot() as usize,
        );
        Ok(())
    }

    /// Frees an inode number; it can be taken again after this transaction was applied.
    pub fn free_inode(&mut self, ino: Ino) -> Result {
        self.volume.inode_address(ino)?;
        self.inode_bit(INODE_CLEAR, ino)
    }

    /// Puts an inode on the orphan list: the slot that it got.
    pub fn allocate_orphan_slot(&mut self, ino: Ino) -> Result<u32> {
        let slot = self.volume.take_orphan_slot()?;
        if self.work.undo.push(Undo::OrphanSlot(slot)).is_err() {
            self.volume.give_orphan_slot(slot);
            return Err(Error::NoMemory);
        }
        if !Mutant::NoOrphan.active() {
            self.write_raw(
                self.volume.geometry().orphan_slot(slot),
                &ino.0.to_le_bytes(),
            )?;
        }
        Ok(slot)
    }

    /// Takes an inode off the orphan list.
    pub fn free_orphan_slot(&mut self, slot: u32) -> Result {
        if slot >= self.volume.geometry().orphan_slots {
            return Err(Error::Invalid);
        }
        self.volume.know_orphan_slot(slot)?;
        self.work.freed_slots.push(slot)?;
        self.write_raw(self.volume.geometry().orphan_slot(slot), &[0; 8])
    }

    /// Makes the transaction durable and applies it. On an asynchronous device it becomes durable with the next flush.
    pub fn commit(mut self) -> Seq {
        // From here on nothing may fail, so nothing may want memory.
        let _guard = forbid_allocation();
        self.committed = true;
        let volume = self.volume;
        let media = volume.media();
        if self.work.data && !Mutant::NoDataFence.active() {
            media.fence();
            if !media.is_synchronous() {
                volume.check(media.sync_device());
            }
        }
        if self.is_empty() {
            return Seq(volume.journal().next().0.saturating_sub(1));
        }
        // The checksums: into the words that carry them, or as entries of their own.
        for i in 0..self.work.objects.len() {
            let Some(t) = self.work.objects.get(i).copied() else {
                break;
            };
            let place = if t.place != 0 {
                t.place
            } else {
                let place = self.work.used + 1;
                self.append(WRITE, t.object.address() + CHECKSUM_OFFSET, 1);
                place
            };
            self.work.put(place, t.sum);
        }
        let used = self.work.used;
        // The record is padded with zeros to whole lines; the buffer's length is a multiple of 8 words.
        let padded = used.next_multiple_of(RECORD_ALIGN as usize / 8);
        if let Some(rest) = self.work.words.get_mut(used..padded) {
            rest.fill(0);
        }
        let (seq, flushed) = volume.journal().commit(
            media,
            volume.keys(),
            &mut self.work.words,
            used,
            |_| volume.make_room(),
            |seq, words| {
                apply(
                    volume,
                    seq,
                    words.get(RECORD_HEADER_WORDS..used).unwrap_or(&[]),
                )
            },
        );
        volume.check(flushed);
        for t in self.work.objects.iter() {
            if let (true, Object::Node(address)) = (t.created, t.object) {
                volume.set_verified(Block::of(address), true);
            }
        }
        for slot in self.work.freed_slots.iter() {
            volume.give_orphan_slot(*slot);
        }
        seq
    }
}

impl<M: Media> Drop for Transaction<'_, M> {
    fn drop(&mut self) {
        if !self.committed {
            self.cancel_frees();
            for undo in self.work.undo.iter() {
                match *undo {
                    Undo::Blocks(run) => self.volume.release(run),
                    Undo::Inode(ino) => self.volume.give_inode(ino),
                    Undo::OrphanSlot(slot) => self.volume.give_orphan_slot(slot),
                }
            }
            self.volume.unreserve_quarantine(self.work.quarantined);
        }
    }
}

impl<M: Media> Volume<M> {
    /// Adds a chunk of inodes to a group, in a transaction of its own. A crash afterwards leaves an empty chunk.
    pub(super) fn grow_inodes(&self, agno: u32, purpose: Purpose) -> Result {
        let ag = self.group(agno)?;
        let growing = ag.grow.lock();
        let (index, full, wants_page) = {
            let mut s = ag.state.lock();
            (
                s.chunks.count(),
                !s.chunks.has_free(),
                s.chunks.needs_page(),
            )
        };
        // Another may have added one while this waited.
        if !full {
            return Ok(());
        }
        if index >= MAX_CHUNKS {
            return Err(Error::NoSpace);
        }
        let page: Option<Box<Page>> = if wants_page { Some(Page::new()?) } else { None };
        let mut tx = self.begin(purpose)?;
        tx.expect_blocks()?;
        let run = self.take_metadata_in(ag, CHUNK_BLOCKS, purpose)?;
        tx.keep_blocks(run)?;
        let start = u32_of(run.start.0 - ag.base.0);
        let check = self.keys().chunk(agno, index, start);
        let entry = [u64::from(start) | u64::from(check) << 32, 0];
        tx.write_raw(
            self.geometry().chunk_entry(agno, index),
            entry.map(u64::to_le).as_bytes(),
        )?;
        tx.write_raw(
            ag.base.address() + CHUNKS_OFFSET,
            &(u64::from(index) + 1).to_le_bytes(),
        )?;
        tx.commit();
        let rest = ag.state.lock().chunks.push(
            super::alloc::chunks::Chunk {
                start,
                used: 0,
                taken: 0,
            },
            page,
        );
        drop(growing);
        drop(rest);
        Ok(())
    }
}
