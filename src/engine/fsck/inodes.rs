// SPDX-License-Identifier: GPL-2.0

//! The third pass: every inode record, and what hangs on it.

use zerocopy::FromBytes;

use crate::engine::error::Result;
use crate::engine::format::inode::{
    InodeRecord, INLINE_EXTENTS, INLINE_SIZE, MAGIC, PENDING_ALL, PENDING_PARKED, RECORD_SIZE,
    ROOT_DIRECTORY, ROOT_EXTENT_TREE, ROOT_INLINE_EXTENTS, ROOT_INLINE_SYMLINK, ROOT_NONE,
    ROOT_SYMLINK_BLOCKS,
};
use crate::engine::format::node::MAX_HEIGHT;
use crate::engine::media::Media;
use crate::engine::types::{u64_of, usize_of, FileKind, Ino, BLOCK_SIZE, MAX_FILE_SIZE};
use crate::engine::verify;
use crate::platform::{yield_now, Vec};

use super::table::{CLAIMS_ORPHAN, KNOWN};
use super::{Check, Issue, Stage};

/// Bytes of a chunk of records.
const CHUNK_SIZE: u64 = 64 * RECORD_SIZE;

impl<M: Media> Check<'_, M> {
    /// Reads all records that are in use.
    pub(super) fn inodes(&mut self) -> Result {
        let mut bytes: Vec<u8> = Vec::new();
        bytes.resize(usize_of(CHUNK_SIZE), 0)?;
        let chunks = self.table.chunks();
        for chunk in 0..chunks {
            self.observer
                .progress(Stage::Inodes, u64_of(chunk), u64_of(chunks));
            yield_now();
            let Some((block, mask, first)) = self.table.chunk(chunk) else {
                continue;
            };
            if mask == 0 {
                continue;
            }
            let address = block * BLOCK_SIZE;
            let whole = block != 0 && self.media.read(address, &mut bytes).is_ok();
            for slot in 0..64u64 {
                if mask >> slot & 1 == 0 {
                    continue;
                }
                let ino = Ino(first.0 + slot);
                let from = usize_of(slot * RECORD_SIZE);
                let to = usize_of((slot + 1) * RECORD_SIZE);
                let Some(record) = bytes.get_mut(from..to) else {
                    continue;
                };
                let at = address + slot * RECORD_SIZE;
                let readable = whole || (block != 0 && self.media.read(at, record).is_ok());
                self.summary.inodes += 1;
                match InodeRecord::read_from_bytes(record) {
                    Ok(parsed) if readable => self.inode(ino, &parsed)?,
                    _ => self.report(Issue::InodeUnreadable { ino }),
                }
            }
        }
        self.observer
            .progress(Stage::Inodes, u64_of(chunks), u64_of(chunks));
        Ok(())
    }

    /// Reads a record again that passed before.
    pub(super) fn record(&self, index: usize) -> Option<InodeRecord> {
        let mut bytes = [0u8; RECORD_SIZE as usize];
        self.media
            .read(self.table.address(index)?, &mut bytes)
            .ok()?;
        InodeRecord::read_from_bytes(&bytes).ok()
    }

    fn inode(&mut self, ino: Ino, record: &InodeRecord) -> Result {
        if record.magic.get() != MAGIC {
            self.report(Issue::InodeMagic { ino });
            return Ok(());
        }
        if verify::inode_sum(&self.shape.keys, record) != record.checksum.get() {
            self.report(Issue::InodeChecksum { ino });
            // A flipped bit: the rest is worth a look. Another inode's record: it is not.
            if record.ino.get() != ino.0 {
                return Ok(());
            }
        } else if record.ino.get() != ino.0 {
            self.report(Issue::InodeNumber {
                ino,
                found: record.ino.get(),
            });
            return Ok(());
        }
        let Some(kind) = FileKind::from_mode(record.mode.get()) else {
            self.report(Issue::InodeMode {
                ino,
                mode: record.mode.get(),
            });
            return Ok(());
        };
        if let Some(entry) = self
            .table
            .index(ino)
            .and_then(|index| self.table.get_mut(index))
        {
            entry.flags |= KNOWN;
            entry.kind = kind.to_disk();
            entry.stored = record.nlink.get();
            if record.orphan.get() != 0 {
                entry.flags |= CLAIMS_ORPHAN;
            }
        }
        if record.xattr_block.get() != 0 {
            self.report(Issue::InodeField {
                ino,
                field: "block of extended attributes",
            });
        }
        let is_device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
        if record.rdev.get() != 0 && !is_device {
            self.report(Issue::InodeField {
                ino,
                field: "device number",
            });
        }
        // With links a place in the table means a truncation that is not finished.
        if record.orphan.get() != 0 && record.nlink.get() != 0 && kind != FileKind::Regular {
            self.report(Issue::InodeField {
                ino,
                field: "place in the orphan table",
            });
        }
        let pends = record.orphan.get() != 0 && record.pending <= PENDING_PARKED;
        if record.pending != PENDING_ALL && !pends {
            self.report(Issue::InodeField {
                ino,
                field: "kind of pending truncation",
            });
        }
        if record.root != ROOT_INLINE_EXTENTS && usize::from(record.count) > INLINE_EXTENTS {
            self.report(Issue::InodeField {
                ino,
                field: "number of extents",
            });
        }
        let has_tree = matches!(record.root, ROOT_EXTENT_TREE | ROOT_DIRECTORY);
        if !has_tree && record.height > MAX_HEIGHT {
            self.report(Issue::InodeField {
                ino,
                field: "height",
            });
        }
        let counted = match kind {
            FileKind::Regular => self.regular(ino, record)?,
            FileKind::Symlink => self.symlink(ino, record)?,
            FileKind::Directory => {
                self.summary.directories += 1;
                if record.root != ROOT_DIRECTORY {
                    self.report(Issue::InodeRoot {
                        ino,
                        root: record.root,
                    });
                }
                // Its blocks are counted when its names are read.
                return Ok(());
            }
            _ => {
                if record.root != ROOT_NONE {
                    self.report(Issue::InodeRoot {
                        ino,
                        root: record.root,
                    });
                }
                if record.size.get() != 0 {
                    self.report(Issue::InodeSize {
                        ino,
                        size: record.size.get(),
                    });
                }
                0
            }
        };
        self.block_count(ino, record, counted);
        Ok(())
    }

    /// Compares the count of blocks that is noted with the one that was met.
    pub(super) fn block_count(&mut self, ino: Ino, record: &InodeRecord, counted: u64) {
        let stored = record.blocks.get();
        if stored != counted {
            self.report(Issue::InodeBlocks {
                ino,
                stored,
                counted,
            });
        }
    }

    fn regular(&mut self, ino: Ino, record: &InodeRecord) -> Result<u64> {
        self.summary.files += 1;
        if record.size.get() > MAX_FILE_SIZE {
            self.report(Issue::InodeSize {
                ino,
                size: record.size.get(),
            });
        }
        match record.root {
            ROOT_INLINE_EXTENTS if usize::from(record.count) <= INLINE_EXTENTS => {
                Ok(self.inline_extents(ino, record))
            }
            ROOT_EXTENT_TREE => self.extent_tree(ino, record),
            root => {
                self.report(Issue::InodeRoot { ino, root });
                Ok(0)
            }
        }
    }

    fn symlink(&mut self, ino: Ino, record: &InodeRecord) -> Result<u64> {
        self.summary.symlinks += 1;
        match record.root {
            ROOT_INLINE_SYMLINK => {
                let size = record.size.get();
                match record.inline.get(..usize_of(size)) {
                    Some(target) if size != 0 && size <= u64_of(INLINE_SIZE) => {
                        if target.contains(&0) {
                            self.report(Issue::SymlinkTarget { ino });
                        }
                    }
                    _ => self.report(Issue::InodeSize { ino, size }),
                }
                Ok(0)
            }
            ROOT_SYMLINK_BLOCKS => self.symlink_blocks(ino, record),
            root => {
                self.report(Issue::InodeRoot { ino, root });
                Ok(0)
            }
        }
    }
}
