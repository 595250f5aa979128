// SPDX-License-Identifier: GPL-2.0

//! The third step: inode records, and the nodes of their trees.
//!
//! A record is kept if it says that it is this inode and its fields can be. One damaged word is
//! put back; with more damage than that, a record with possible fields gets a new checksum, and the
//! message says to look at the file. Its type stands in it twice, in the mode and in the kind of
//! its content, and a third time in the first node of its tree: two of them decide.
//!
//! A record whose bit in the mask is clear is used again if it is sound and has links: an inode is
//! freed only after its last link is gone, so the bit was lost.
//!
//! # Hazard
//!
//! Nodes are claimed here, before the data of any file: a damaged extent of an earlier inode must
//! not take a node from a sound tree of a later one.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::correct::{self, Verdict};
use super::tree::{header, Node, NODE};
use super::{Action, Class, Repair};
use crate::engine::checksum::Domain;
use crate::engine::error::Result;
use crate::engine::format::extent::{DiskExtent, Extent};
use crate::engine::format::inode::{
    InodeRecord, INLINE_EXTENTS, INLINE_SIZE, MAGIC, PENDING_ALL, PENDING_PARKED, RECORD_SIZE,
    ROOT_DIRECTORY, ROOT_EXTENT_TREE, ROOT_INLINE_EXTENTS, ROOT_INLINE_SYMLINK, ROOT_NONE,
    ROOT_SYMLINK_BLOCKS,
};
use crate::engine::format::node::{
    DIRECTORY_INDEX_MAGIC, DIRECTORY_LEAF_MAGIC, EXTENT_INDEX_MAGIC, EXTENT_LEAF_MAGIC,
    HEADER_SIZE, MAX_HEIGHT, SYMLINK_MAGIC,
};
use crate::engine::format::symlink::{BLOCK_CAPACITY, MAX_TARGET};
use crate::engine::fsck::table::{BROKEN, CLAIMS_ORPHAN, KNOWN, NEEDS_SIZE, USED};
use crate::engine::fsck::tree::{Kind, Owner};
use crate::engine::media::Media;
use crate::engine::types::{
    u32_of, u64_of, usize_of, Block, FileKind, Ino, BLOCK_SIZE, MAX_FILE_SIZE,
};
use crate::engine::verify;
use crate::platform::{yield_now, Vec};

/// The trees of files.
pub(super) const EXTENTS: Kind = Kind {
    index: EXTENT_INDEX_MAGIC,
    leaf: EXTENT_LEAF_MAGIC,
};
/// The trees of directories.
pub(super) const NAMES: Kind = Kind {
    index: DIRECTORY_INDEX_MAGIC,
    leaf: DIRECTORY_LEAF_MAGIC,
};

impl<M: Media> Repair<'_, M> {
    /// Judges all records.
    pub(super) fn records(&mut self) -> Result {
        let chunks = self.table.chunks();
        for chunk in 0..chunks {
            self.observer
                .progress(Class::Inodes, u64_of(chunk), u64_of(chunks));
            yield_now();
            self.chunk_records(chunk)?;
        }
        self.root_record()?;
        self.metadata = self.claimed.copy()?;
        self.dropped.sort_unstable();
        Ok(())
    }

    fn chunk_records(&mut self, chunk: usize) -> Result {
        let Some((block, mask, first)) = self.table.chunk(chunk) else {
            return Ok(());
        };
        if block == 0 {
            // Left without a place: nothing in it can be read.
            for slot in (0..64).filter(|slot| mask >> slot & 1 != 0) {
                let index = chunk * 64 + slot;
                self.clear_inode(index, "cannot be read")?;
            }
            return Ok(());
        }
        let mut bytes: Vec<u8> = Vec::new();
        bytes.resize(usize_of(64 * RECORD_SIZE), 0)?;
        let readable = self.read_chunk(Block(block), &mut bytes)?;
        for slot in 0..64usize {
            let ino = Ino(first.0 + u64_of(slot));
            if ino == Ino::NONE {
                continue;
            }
            let from = slot * usize_of(RECORD_SIZE);
            let record = bytes.get(from..from + usize_of(RECORD_SIZE));
            let Some(record) = record.and_then(<[u8]>::first_chunk::<256>).copied() else {
                continue;
            };
            let index = chunk * 64 + slot;
            let read = readable >> slot & 1 != 0;
            if mask >> slot & 1 == 0 {
                if !read || !self.is_live(ino, &record) || !self.act(Action::InodeRevived { ino }) {
                    continue;
                }
                self.set_used(index, true)?;
            }
            if read {
                self.record_found(index, ino, record)?;
            } else {
                self.clear_inode(index, "cannot be read")?;
            }
        }
        Ok(())
    }

    /// Reads a chunk; returns a mask of the records that could be read. Blocks of which a part
    /// cannot be are written anew, with zeros for the records that are lost.
    fn read_chunk(&mut self, block: Block, bytes: &mut [u8]) -> Result<u64> {
        if self.read(block.address(), bytes).is_ok() {
            return Ok(u64::MAX);
        }
        let mut mask = 0;
        for (slot, record) in bytes.chunks_exact_mut(usize_of(RECORD_SIZE)).enumerate() {
            let address = block.address() + u64_of(slot) * RECORD_SIZE;
            if self.read(address, record).is_ok() {
                mask |= 1 << slot;
            } else {
                record.fill(0);
            }
        }
        for (number, part) in bytes.chunks_exact(NODE).enumerate() {
            if mask >> (16 * number) & 0xffff != 0xffff {
                self.put(block.plus(u64_of(number)).address(), part)?;
            }
        }
        Ok(mask)
    }

    /// Whether a record whose bit is clear is one that must have been in use.
    fn is_live(&self, ino: Ino, bytes: &[u8; 256]) -> bool {
        InodeRecord::read_from_bytes(bytes).is_ok_and(|record| {
            record.magic.get() == MAGIC
                && record.ino.get() == ino.0
                && record.nlink.get() != 0
                && verify::inode_sum(&self.keys, &record) == record.checksum.get()
        })
    }

    fn clear_inode(&mut self, index: usize, why: &'static str) -> Result {
        let ino = self.table.ino(index);
        if self.act(Action::InodeCleared { ino, why }) {
            self.free_inode(index)?;
        }
        Ok(())
    }

    /// Marks a record as free, and lets it say so itself.
    pub(super) fn free_inode(&mut self, index: usize) -> Result {
        self.set_used(index, false)?;
        if let Some(mut record) = self.record(index) {
            let own = record.ino.get() == self.table.ino(index).0;
            if own && record.magic.get() == MAGIC && record.nlink.get() != 0 {
                record.nlink.set(0);
                self.put_record(index, &record)?;
            }
        }
        Ok(())
    }

    /// Judges one record, then its tree.
    fn record_found(&mut self, index: usize, ino: Ino, mut bytes: [u8; 256]) -> Result {
        let before = bytes;
        let verdict = correct::object(&self.keys, Domain::Inode, &mut bytes);
        let Ok(mut record) = InodeRecord::read_from_bytes(&bytes) else {
            return Ok(());
        };
        if record.magic.get() != MAGIC {
            return self.clear_inode(index, "no inode record");
        }
        if record.ino.get() != ino.0 {
            return self.clear_inode(index, "the record is another inode's");
        }
        let Some(kind) = self.kind_of(ino, &record)? else {
            return self.clear_inode(index, "its type is lost");
        };
        match verdict {
            Verdict::Sound => {}
            Verdict::Corrected => _ = self.act(Action::InodeCorrected { ino }),
            Verdict::Damaged => _ = self.act(Action::InodeKept { ino }),
        }
        let mut flags = USED | KNOWN;
        if verdict == Verdict::Damaged {
            flags |= BROKEN;
        }
        if !self.normalise(ino, kind, &mut record, &mut flags)? {
            return self.clear_inode(index, "the target of the symbolic link is lost");
        }
        if record.orphan.get() != 0 {
            flags |= CLAIMS_ORPHAN;
        }
        let parent = self.table.index(Ino(record.parent.get()));
        if let Some(entry) = self.table.get_mut(index) {
            entry.kind = kind.to_disk();
            entry.stored = record.nlink.get();
            entry.flags = flags;
            if kind == FileKind::Directory {
                entry.parent = parent.map_or(0, |parent| u32_of(u64_of(parent) + 1));
            }
        }
        record.checksum.set(verify::inode_sum(&self.keys, &record));
        if record.as_bytes() != before && self.outcome.refused.is_none() {
            if flags & BROKEN != 0 {
                self.hold(index, &record)?;
            } else {
                self.put_record(index, &record)?;
            }
        }
        Ok(())
    }

    /// Keeps a record for later: once it is stored, the medium no longer tells that its tree has
    /// lost something, and a repair that is interrupted before that was found would not look.
    pub(super) fn hold(&mut self, index: usize, record: &InodeRecord) -> Result {
        let at = self.held.partition_point(|held| held.0 < index);
        match self.held.get_mut(at).filter(|held| held.0 == index) {
            Some(held) => held.1 = *record,
            None => self.held.insert(at, (index, *record))?,
        }
        Ok(())
    }

    /// Stores what was kept and not written anew since.
    pub(super) fn put_held(&mut self) -> Result {
        while let Some((index, record)) = self.held.last().copied() {
            self.put_record(index, &record)?;
        }
        Ok(())
    }

    /// Adds a record, with its checksum, to what is to be written.
    pub(super) fn put_record(&mut self, index: usize, record: &InodeRecord) -> Result {
        if let Ok(at) = self.held.binary_search_by_key(&index, |held| held.0) {
            self.held.remove(at);
        }
        let Some(address) = self.table.address(index) else {
            return Ok(());
        };
        let mut record = *record;
        record.checksum.set(verify::inode_sum(&self.keys, &record));
        self.put(address, record.as_bytes())
    }

    /// Reads a record that was judged before.
    pub(super) fn record(&mut self, index: usize) -> Option<InodeRecord> {
        if let Ok(at) = self.held.binary_search_by_key(&index, |held| held.0) {
            return self.held.get(at).map(|held| held.1);
        }
        let mut bytes = [0u8; RECORD_SIZE as usize];
        let address = self.table.address(index)?;
        self.read(address, &mut bytes).ok()?;
        InodeRecord::read_from_bytes(&bytes).ok()
    }

    /// What the block that the inline area leads to says it is the root of, and of what level.
    fn first_node(&mut self, ino: Ino, record: &InodeRecord) -> Option<(FileKind, u8)> {
        let owner = Owner::of(ino, record);
        let block = Block(owner.root);
        let mut bytes = [0u8; HEADER_SIZE as usize];
        if !self.is_data(block, 1) || self.read(block.address(), &mut bytes).is_err() {
            return None;
        }
        let header = header(&bytes)?;
        let belongs = header.block.get() == block.0
            && header.owner.get() == ino.0
            && header.uuid == self.info.uuid
            && header.generation.get() == owner.generation;
        let kind = match header.magic.get() {
            EXTENT_INDEX_MAGIC | EXTENT_LEAF_MAGIC => FileKind::Regular,
            DIRECTORY_INDEX_MAGIC | DIRECTORY_LEAF_MAGIC => FileKind::Directory,
            SYMLINK_MAGIC => FileKind::Symlink,
            _ => return None,
        };
        let level = u8::try_from(header.level.get()).ok()?;
        (belongs && level < MAX_HEIGHT).then_some((kind, level))
    }

    /// The type of an inode: two of mode, kind of content and first node decide.
    fn kind_of(&mut self, ino: Ino, record: &InodeRecord) -> Result<Option<FileKind>> {
        if ino == Ino::ROOT {
            return Ok(Some(FileKind::Directory));
        }
        let mode = FileKind::from_mode(record.mode.get());
        let suits = match (mode, record.root) {
            (Some(FileKind::Regular), ROOT_INLINE_EXTENTS | ROOT_EXTENT_TREE)
            | (Some(FileKind::Directory), ROOT_DIRECTORY)
            | (Some(FileKind::Symlink), ROOT_INLINE_SYMLINK | ROOT_SYMLINK_BLOCKS) => true,
            (Some(FileKind::Regular | FileKind::Directory | FileKind::Symlink), _) => false,
            (Some(_), root) => root == ROOT_NONE,
            (None, _) => false,
        };
        if suits {
            return Ok(mode);
        }
        if let Some((kind, _)) = self.first_node(ino, record) {
            return Ok(Some(kind));
        }
        Ok(mode.or(match record.root {
            ROOT_INLINE_EXTENTS | ROOT_EXTENT_TREE => Some(FileKind::Regular),
            ROOT_DIRECTORY => Some(FileKind::Directory),
            ROOT_INLINE_SYMLINK | ROOT_SYMLINK_BLOCKS => Some(FileKind::Symlink),
            _ => None,
        }))
    }

    /// Makes the fields of a record such as suit its type, and claims its nodes; false if it
    /// cannot be kept.
    fn normalise(
        &mut self,
        ino: Ino,
        kind: FileKind,
        record: &mut InodeRecord,
        flags: &mut u16,
    ) -> Result<bool> {
        if FileKind::from_mode(record.mode.get()) != Some(kind) {
            self.field(ino, "type");
            record
                .mode
                .set(record.mode.get() & 0o7777 | kind.mode_bits());
        }
        if record.xattr_block.get() != 0 {
            self.field(ino, "block of extended attributes");
            record.xattr_block.set(0);
        }
        let most = match record.orphan.get() {
            0 => PENDING_ALL,
            _ => PENDING_PARKED,
        };
        if record.pending > most {
            self.field(ino, "kind of pending truncation");
            record.pending = PENDING_ALL;
        }
        let is_device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
        if record.rdev.get() != 0 && !is_device {
            self.field(ino, "device number");
            record.rdev.set(0);
        }
        match kind {
            FileKind::Regular => self.regular_record(ino, record, flags)?,
            FileKind::Directory => self.directory_record(ino, record, flags)?,
            FileKind::Symlink => {
                if !self.symlink_record(ino, record)? {
                    return Ok(false);
                }
            }
            _ => {
                if record.root != ROOT_NONE || record.size.get() != 0 || record.blocks.get() != 0 {
                    self.field(ino, "content");
                    record.root = ROOT_NONE;
                    record.size.set(0);
                    record.blocks.set(0);
                }
            }
        }
        // Where they mean nothing they still must be possible.
        if record.root != ROOT_INLINE_EXTENTS && usize::from(record.count) > INLINE_EXTENTS {
            self.field(ino, "number of extents");
            record.count = 0;
        }
        if !matches!(record.root, ROOT_EXTENT_TREE | ROOT_DIRECTORY) && record.height > MAX_HEIGHT {
            self.field(ino, "height");
            record.height = 0;
        }
        Ok(true)
    }

    fn field(&mut self, ino: Ino, field: &'static str) {
        self.act(Action::InodeField { ino, field });
    }

    fn regular_record(&mut self, ino: Ino, record: &mut InodeRecord, flags: &mut u16) -> Result {
        if record.size.get() > MAX_FILE_SIZE {
            self.field(ino, "size");
            record.size.set(MAX_FILE_SIZE);
            *flags |= NEEDS_SIZE;
        }
        let inline =
            record.root == ROOT_INLINE_EXTENTS && usize::from(record.count) <= INLINE_EXTENTS;
        if inline {
            return Ok(());
        }
        match self.first_node(ino, record) {
            Some((FileKind::Regular, level)) => {
                if record.root != ROOT_EXTENT_TREE || record.height != level + 1 {
                    self.field(ino, "root of the tree");
                    record.root = ROOT_EXTENT_TREE;
                    record.height = level + 1;
                }
                let owner = Owner::of(ino, record);
                let walked = self.walk(&owner, &EXTENTS, true, &mut |_, _| Ok(()))?;
                if walked.faults {
                    *flags |= BROKEN;
                }
            }
            _ => {
                self.field(ino, "root of the tree");
                *flags |= BROKEN;
                let count = record.inline.chunks_exact(16).take_while(|disk| {
                    DiskExtent::read_from_bytes(disk).is_ok_and(|disk| {
                        let extent = Extent::from_disk(&disk);
                        extent.len != 0 && self.is_data(extent.block, extent.len)
                    })
                });
                // What looks like extents may be: they are judged as such.
                let count = if record.root == ROOT_EXTENT_TREE {
                    0
                } else {
                    count.count()
                };
                record.root = ROOT_INLINE_EXTENTS;
                record.count = u8::try_from(count).unwrap_or(0);
                record.height = 0;
            }
        }
        Ok(())
    }

    fn directory_record(&mut self, ino: Ino, record: &mut InodeRecord, flags: &mut u16) -> Result {
        let owner = Owner::of(ino, record);
        let counted = if record.root == ROOT_DIRECTORY && owner.root == 0 && record.height == 0 {
            0
        } else {
            match self.first_node(ino, record) {
                Some((FileKind::Directory, level)) => {
                    if record.root != ROOT_DIRECTORY || record.height != level + 1 {
                        self.field(ino, "root of the tree");
                        record.root = ROOT_DIRECTORY;
                        record.height = level + 1;
                    }
                    let owner = Owner::of(ino, record);
                    let walked = self.walk(&owner, &NAMES, true, &mut |_, _| Ok(()))?;
                    if walked.faults {
                        *flags |= BROKEN;
                    }
                    u64_of(walked.nodes.len())
                }
                _ => {
                    self.field(ino, "root of the tree");
                    *flags |= BROKEN;
                    record.root = ROOT_DIRECTORY;
                    record.height = 0;
                    record.inline.fill(0);
                    0
                }
            }
        };
        let stored = record.blocks.get();
        if stored != counted {
            self.act(Action::BlocksCounted {
                ino,
                stored,
                counted,
            });
            record.blocks.set(counted);
            *flags |= BROKEN;
        }
        if record.size.get() != counted.saturating_mul(BLOCK_SIZE) {
            self.field(ino, "size");
            record.size.set(counted.saturating_mul(BLOCK_SIZE));
        }
        Ok(())
    }

    fn symlink_record(&mut self, ino: Ino, record: &mut InodeRecord) -> Result<bool> {
        if let Some((FileKind::Symlink, _)) = self.first_node(ino, record) {
            if record.root != ROOT_INLINE_SYMLINK {
                return self.symlink_blocks(ino, record);
            }
        }
        // The target ends at the first zero byte, whatever the size says.
        let len = record.inline.iter().position(|&byte| byte == 0);
        let len = u64_of(len.unwrap_or(INLINE_SIZE));
        let size = record.size.get();
        let size_fits = (1..=u64_of(INLINE_SIZE)).contains(&size);
        if record.root == ROOT_INLINE_SYMLINK && size_fits && len >= size {
            if record.blocks.get() != 0 {
                self.field(ino, "number of blocks");
                record.blocks.set(0);
            }
            return Ok(true);
        }
        let rest = record.inline.get(usize_of(len)..).unwrap_or_default();
        if record.root == ROOT_SYMLINK_BLOCKS || len == 0 || rest.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        self.field(ino, "size");
        record.root = ROOT_INLINE_SYMLINK;
        record.size.set(len);
        record.blocks.set(0);
        Ok(true)
    }

    /// A target in blocks of its own: all of it, or none.
    fn symlink_blocks(&mut self, ino: Ino, record: &mut InodeRecord) -> Result<bool> {
        let owner = Owner::of(ino, record);
        let mut bytes: Vec<u8> = Vec::new();
        bytes.resize(NODE, 0)?;
        let mut blocks = [Block(0); 2];
        let (mut length, mut number) = (0, 0);
        for (word, place) in record.inline.chunks_exact(8).zip(&mut blocks) {
            let word = word.first_chunk::<8>().copied().unwrap_or_default();
            let block = Block(u64::from_le_bytes(word));
            if block.0 == 0 {
                break;
            }
            if !self.is_data(block, 1) || self.claimed.get(block) {
                return Ok(false);
            }
            let node = self.judge_node(&owner, block, (SYMLINK_MAGIC, 0), true, &mut bytes)?;
            let count = header(&bytes).map_or(0, |header| usize::from(header.count.get()));
            let from = usize_of(HEADER_SIZE);
            let target = bytes.get(from..from + count).unwrap_or(&[0]);
            if node == Node::Lost
                || count == 0
                || count > BLOCK_CAPACITY
                || target.contains(&0)
                // Only the last block is not full.
                || length % u64_of(BLOCK_CAPACITY) != 0
            {
                return Ok(false);
            }
            if node == Node::Doubtful {
                let sum = self.keys.object(Domain::Node, &bytes, 8);
                if let Some(place) = bytes.get_mut(8..16) {
                    place.copy_from_slice(&sum.to_le_bytes());
                }
                self.put(block.address(), &bytes)?;
            }
            *place = block;
            length += u64_of(count);
            number += 1;
        }
        if length == 0 || length > u64_of(MAX_TARGET) {
            return Ok(false);
        }
        for &block in blocks.iter().filter(|block| block.0 != 0) {
            self.claimed.set(block);
        }
        if record.root != ROOT_SYMLINK_BLOCKS
            || record.size.get() != length
            || record.blocks.get() != number
        {
            self.field(ino, "size");
            record.root = ROOT_SYMLINK_BLOCKS;
            record.size.set(length);
            record.blocks.set(number);
        }
        Ok(true)
    }

    /// Makes a root directory if there is none.
    fn root_record(&mut self) -> Result {
        let index = 1;
        let entry = self.table.get(index);
        if entry.is(KNOWN) && entry.is_directory() {
            return Ok(());
        }
        if self.table.address(index).is_none() || !self.act(Action::RootMade) {
            return Ok(());
        }
        let record = self.new_directory(Ino::ROOT, Ino::ROOT, 1, 0o755);
        self.hold(index, &record)?;
        self.set_used(index, true)?;
        if let Some(entry) = self.table.get_mut(index) {
            // The leaves of the old one may be found.
            entry.flags = USED | KNOWN | BROKEN;
            entry.kind = FileKind::Directory.to_disk();
            entry.stored = 2;
        }
        Ok(())
    }

    /// The record of an empty directory.
    pub(super) fn new_directory(
        &self,
        ino: Ino,
        parent: Ino,
        generation: u32,
        permissions: u16,
    ) -> InodeRecord {
        let mut record = InodeRecord::new_zeroed();
        record.magic.set(MAGIC);
        record
            .mode
            .set(FileKind::Directory.mode_bits() | permissions);
        record.root = ROOT_DIRECTORY;
        record.ino.set(ino.0);
        record.generation.set(generation);
        record.nlink.set(2);
        record.parent.set(parent.0);
        for time in [
            &mut record.btime,
            &mut record.atime,
            &mut record.mtime,
            &mut record.ctime,
        ] {
            time.set(self.options.now.0);
        }
        record
    }
}
