// SPDX-License-Identifier: GPL-2.0

//! The fifth pass: the orphan table, link counts, parents, loops.

use crate::engine::error::Result;
use crate::engine::media::Media;
use crate::engine::types::{u32_of, u64_of, usize_of, Block, FileKind, Ino, BLOCK_SIZE};
use crate::platform::{yield_now, Vec};

use super::table::{CLAIMS_ORPHAN, FOLLOWED, KNOWN, ON_PATH, ORPHAN, USED};
use super::{Check, Issue, Stage};

impl<M: Media> Check<'_, M> {
    /// Compares what the records say about links with the names and orphans that were found.
    pub(super) fn links(&mut self) -> Result {
        self.orphan_table()?;
        let root = self
            .table
            .index(Ino::ROOT)
            .map(|index| self.table.get(index));
        if root.is_none_or(|root| root.is(KNOWN) && root.kind != FileKind::Directory.to_disk()) {
            self.report(Issue::RootMissing);
        }
        let total = self.table.len();
        for index in 0..total {
            if index % 4096 == 0 {
                self.observer
                    .progress(Stage::Links, u64_of(index), u64_of(total));
                yield_now();
            }
            let entry = self.table.get(index);
            if entry.is(USED) && entry.is(KNOWN) {
                self.inode_links(index);
            }
        }
        self.observer
            .progress(Stage::Links, u64_of(total), u64_of(total));
        Ok(())
    }

    fn orphan_table(&mut self) -> Result {
        let mut bytes: Vec<u8> = Vec::new();
        bytes.resize(usize_of(BLOCK_SIZE), 0)?;
        let slots = self.shape.orphan_slots();
        let first = Block(self.shape.superblock.orphans.get()).address();
        let mut slot = 0;
        while slot < slots {
            if self
                .media
                .read(first + u64_of(slot) * 8, &mut bytes)
                .is_err()
            {
                self.report(Issue::OrphanUnreadable {
                    slot: u32_of(u64_of(slot)),
                });
            } else {
                for (at, word) in bytes.chunks_exact(8).take(slots - slot).enumerate() {
                    let ino = word
                        .first_chunk::<8>()
                        .map_or(0, |word| u64::from_le_bytes(*word));
                    if ino != 0 {
                        self.orphan(u32_of(u64_of(slot + at)), ino);
                    }
                }
            }
            slot += 512;
        }
        Ok(())
    }

    fn orphan(&mut self, slot: u32, ino: u64) {
        let Some(index) = self.table.index(Ino(ino)) else {
            self.report(Issue::OrphanTarget { slot, ino });
            return;
        };
        self.summary.orphans += 1;
        if let Some(entry) = self.table.get_mut(index) {
            entry.flags |= ORPHAN;
        }
        let Some(record) = self.record(index) else {
            return;
        };
        let stored = record.orphan.get();
        if self.table.get(index).is(KNOWN) && stored != slot + 1 {
            self.report(Issue::OrphanSlot {
                ino: Ino(ino),
                stored,
                slot,
            });
        }
    }

    fn inode_links(&mut self, index: usize) {
        let entry = self.table.get(index);
        let ino = self.table.ino(index);
        if entry.is(CLAIMS_ORPHAN) && !entry.is(ORPHAN) {
            let stored = self.record(index).map_or(0, |record| record.orphan.get());
            self.report(Issue::OrphanMissing { ino, stored });
        }
        let stored = entry.stored;
        let named = if entry.is_directory() {
            ino == Ino::ROOT || entry.parent != 0
        } else {
            entry.found != 0
        };
        let counted = match (entry.is_directory(), named) {
            (true, true) => entry.found.saturating_add(2),
            (true, false) => 0,
            (false, _) => entry.found,
        };
        if !named && (stored != 0 || !entry.is(ORPHAN)) {
            self.report(Issue::InodeUnreachable { ino });
        } else if stored != counted {
            self.report(Issue::InodeLinks {
                ino,
                stored,
                counted,
            });
        }
        if entry.is_directory() && named {
            self.parent(index, ino);
            self.follow(index);
        }
    }

    /// The parent that is noted is the directory that holds the name; the root's is itself.
    fn parent(&mut self, index: usize, ino: Ino) {
        let Some(record) = self.record(index) else {
            return;
        };
        let stored = record.parent.get();
        let found = match self.table.get(index).parent {
            0 => Ino::ROOT,
            parent => self.table.ino(usize_of(u64::from(parent)) - 1),
        };
        if stored != found.0 {
            self.report(Issue::DirectoryParent {
                ino,
                stored,
                found: found.0,
            });
        }
    }

    /// Follows the way up until it ends, joins one that was followed before, or meets itself.
    fn follow(&mut self, start: usize) {
        let mut at = start;
        loop {
            let entry = self.table.get(at);
            if entry.is(FOLLOWED) {
                break;
            }
            if entry.is(ON_PATH) {
                let ino = self.table.ino(at);
                self.report(Issue::DirectoryLoop { ino });
                break;
            }
            if let Some(entry) = self.table.get_mut(at) {
                entry.flags |= ON_PATH;
            }
            if entry.parent == 0 {
                break;
            }
            at = usize_of(u64::from(entry.parent)) - 1;
        }
        // The same way again, so that no later one goes it a third time.
        at = start;
        while self.table.get(at).is(ON_PATH) {
            let Some(entry) = self.table.get_mut(at) else {
                break;
            };
            entry.flags = (entry.flags & !ON_PATH) | FOLLOWED;
            if entry.parent == 0 {
                break;
            }
            at = usize_of(u64::from(entry.parent)) - 1;
        }
    }
}
