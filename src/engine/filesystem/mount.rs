// SPDX-License-Identifier: GPL-2.0

//! Mount, unmount, and what concerns the whole filesystem.
//!
//! # Hazard
//!
//! What the orphan table names after a crash is finished in the background, while the filesystem is already in use. An
//! inode on it that still has its name may be opened before its turn comes, with old blocks beyond its size; a write that
//! extended the file would lay them bare. So [`Filesystem::iget`] finishes such a truncate before anyone sees the inode, or who looks it up keeps it from growing
//! over them.

use crate::engine::alloc::policy::Purpose;
use crate::engine::alloc::Window;
use crate::engine::directory::{self, NameHash};
use crate::engine::error::{Error, Result};
use crate::engine::extent::edit;
use crate::engine::filesystem::pending::pending_from;
use crate::engine::filesystem::{Filesystem, Orphan};
use crate::engine::format::ag::{CHUNK_BLOCKS, CHUNK_INODES};
use crate::engine::format::inode::{
    InodeRecord, RECORD_SIZE, ROOT_DIRECTORY, ROOT_EXTENT_TREE, ROOT_INLINE_EXTENTS,
};
use crate::engine::inode::Inode;
use crate::engine::media::Media;
use crate::engine::orphan;
use crate::engine::superblock;
use crate::engine::symlink;
use crate::engine::types::{FileBlock, Generation, Ino};
use crate::engine::verify;
use crate::engine::volume::Volume;
use crate::platform::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::platform::yield_now;
use zerocopy::FromBytes;

/// Extents that one transaction of an eviction takes out at most.
const EVICT_BUDGET: usize = 2048;

/// How to mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountOptions {
    /// No change of the medium, except for the replay of the journal.
    pub read_only: bool,
}

/// What the superblock says, without mounting.
#[derive(Clone, Copy, Debug)]
pub struct SuperInfo {
    /// Filesystem uuid.
    pub uuid: [u8; 16],
    /// Label, padded with zeros.
    pub label: [u8; 32],
    /// Size in 4 KiB blocks.
    pub blocks: u64,
    /// Physical address of byte 0 modulo 2 MiB that mkfs assumed.
    pub phase: u64,
    /// Feature words: unknown bits here do not matter.
    pub compat: u64,
    /// Feature words: unknown bits here allow reading only.
    pub ro_compat: u64,
    /// Feature words: unknown bits here allow nothing.
    pub incompat: u64,
    /// It was unmounted properly.
    pub clean: bool,
    /// The first superblock is damaged, this is the copy's content.
    pub from_backup: bool,
}

/// Space and inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statfs {
    /// Blocks of 4 KiB of all groups.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks less the metadata reserve.
    pub available: u64,
    /// Inodes in use plus those that could still be made.
    pub inodes: u64,
    /// Inodes that could still be made.
    pub free_inodes: u64,
    /// Filesystem uuid.
    pub uuid: [u8; 16],
}

/// Counters for debugging and for benchmarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records that recovery replayed at mount.
    pub replayed: u64,
    /// Orphans of an earlier mount that [`Filesystem::next_orphan`] handed out so far.
    pub orphans: u64,
    /// Transactions committed since mount.
    pub commits: u64,
}

impl<M: Media> Filesystem<M> {
    /// Reads and verifies the superblock (or its copy). `WrongType`: no Ochre image.
    pub fn probe(media: &M) -> Result<SuperInfo> {
        let info = superblock::load(media)?;
        let [compat, ro_compat, incompat] = info.features;
        Ok(SuperInfo {
            uuid: info.uuid,
            label: info.label,
            blocks: info.geometry.blocks,
            phase: info.phase,
            compat,
            ro_compat,
            incompat,
            clean: info.clean,
            from_backup: info.from_backup,
        })
    }

    /// Mounts: checks and recovers the journal. Orphans wait for [`Filesystem::next_orphan`], however many there are.
    pub fn mount(media: M, options: &MountOptions) -> Result<Self> {
        let volume = Volume::open(media, options.read_only)?;
        let first_seq = volume.next_seq().0;
        let name_hash = NameHash::new(volume.info().hash_key);
        super::poison::report(volume.media());
        Ok(Self {
            volume,
            name_hash,
            orphans: AtomicU64::new(0),
            first_seq,
            next_group: AtomicU32::new(0),
        })
    }

    /// Checkpoints and marks the image clean. Every inode has been evicted or dropped before.
    pub fn unmount(&self) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        self.note(self.volume().close())
    }

    /// Changes between read-only and read-write; after an error all is as before. After damage it stays read-only (`ReadOnly`).
    pub fn remount(&self, read_only: bool) -> Result<()> {
        if read_only == self.is_read_only() {
            return Ok(());
        }
        if read_only {
            self.volume().set_read_only(true);
            let clean = self.note(self.volume().mark_clean());
            if clean.is_err() {
                // Refused; after damage it is read-only all the same.
                self.volume().set_read_only(false);
            }
            return clean;
        }
        if self.read_only_error() {
            return Err(Error::ReadOnly);
        }
        self.volume().check_writable()?;
        self.note(self.volume().mark_dirty())?;
        self.volume().set_read_only(false);
        Ok(())
    }

    /// Space and inodes.
    pub fn statfs(&self) -> Statfs {
        let uuid = self.uuid();
        match self.note(self.volume().usage()) {
            Ok(usage) => {
                // Chunks are made of free blocks as they are wanted.
                let possible = usage.free / CHUNK_BLOCKS * u64::from(CHUNK_INODES);
                Statfs {
                    blocks: usage.blocks,
                    free: usage.free,
                    available: usage.free.saturating_sub(usage.reserve),
                    inodes: usage.used_inodes.saturating_add(possible),
                    free_inodes: possible,
                    uuid,
                }
            }
            // A group that cannot be read was reported; a caller who only asks for space gets none.
            Err(_) => Statfs {
                uuid,
                ..Statfs::default()
            },
        }
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats {
            replayed: self.volume().recovered().replayed,
            orphans: self.orphans.load(Ordering::Relaxed),
            commits: self.volume().next_seq().0.saturating_sub(self.first_seq),
        }
    }

    /// All that was returned from is on the medium, also on an asynchronous device.
    pub fn sync(&self) -> Result<()> {
        self.media().fence();
        self.note(self.media().sync_device())
    }

    /// As [`Filesystem::sync`], with nothing left to replay: for freeze.
    pub fn freeze(&self) -> Result<()> {
        if !self.is_read_only() {
            self.note(self.volume().checkpoint())?;
        }
        self.sync()
    }

    /// The inode behind a number that a directory entry or [`Filesystem::root`] gave.
    pub fn iget(&self, ino: Ino) -> Result<Inode> {
        let inode = self.iget_unfinished(ino)?;
        self.finish_truncate(&inode)?;
        Ok(inode)
    }

    /// As [`Self::iget`], for one who may not change the medium now: see [`Self::finish_truncate`].
    pub fn iget_unfinished(&self, ino: Ino) -> Result<Inode> {
        self.load_known(ino, "name of an inode that is not in use")
    }

    /// The inode behind a number that the medium itself holds; one that is not in use is damage of the kind `what`.
    fn load_known(&self, ino: Ino, what: &'static str) -> Result<Inode> {
        let loaded = match self.load(ino) {
            Err(Error::Stale) => Err(Error::corrupt(what, ino.0)),
            other => other,
        };
        self.note(loaded)
    }

    /// Finishes a truncate that a crash left. Who does not do so before anyone uses the inode treats its blocks as pending
    /// ([`super::pending`]): see [`Self::is_truncating`].
    pub fn finish_truncate(&self, inode: &Inode) -> Result<()> {
        if inode.read().truncating && !self.is_read_only() {
            self.evict(inode)?;
        }
        Ok(())
    }

    /// The inode behind a file handle; `Stale` for any number that leads to no such inode. The caller shuts others who look for
    /// this number out, and keeps one who has just created the inode from giving it back.
    ///
    /// A truncate of it may be unfinished: [`Self::finish_truncate`].
    ///
    /// A number that a handle has kept may be getting its next owner right now: in use already, its record half stored. What
    /// looks damaged is looked at again when all that was being stored is there. (A name leads to an inode only after that.)
    pub fn iget_handle(&self, ino: Ino, generation: Generation) -> Result<Inode> {
        let inode = self.iget_number(ino)?;
        if inode.generation() != generation {
            return Err(Error::Stale);
        }
        Ok(inode)
    }

    /// As [`Self::iget_handle`], whatever the generation: for a number that was good a moment ago, as that of a directory's parent
    /// ([`Self::check_parent`]).
    pub fn iget_number(&self, ino: Ino) -> Result<Inode> {
        let loaded = match self.load(ino) {
            Err(error) if error.is_damage() => {
                self.volume().journal().settle();
                self.load(ino)
            }
            other => other,
        };
        let inode = self.note(loaded)?;
        let links = inode.read().record.nlink.get();
        match links {
            0 => Err(Error::Stale),
            _ => Ok(inode),
        }
    }

    /// Reads and verifies a record; `Stale`: the number is not in use.
    fn load(&self, ino: Ino) -> Result<Inode> {
        let address = self.volume().inode_address(ino)?;
        let mut bytes = [0u8; RECORD_SIZE as usize];
        self.media().read(address, &mut bytes)?;
        let record = InodeRecord::read_from_bytes(&bytes)
            .map_err(|_| Error::corrupt("inode record", address))?;
        let volume = self.volume();
        verify::inode(volume.keys(), volume.geometry(), &record, ino, address)?;
        if record.root == ROOT_INLINE_EXTENTS {
            let extents = record.inline.get(..usize::from(record.count) * 16);
            volume.verify_extents(extents.unwrap_or(&[]), address)?;
        }
        let mut inode = Inode::new(ino, address, &record)?;
        // It may have been in memory before, and been changed: what holds its times may be replayed, and is not newer than this.
        inode.settled_before(volume.next_seq());
        Ok(inode)
    }

    /// Frees everything of an inode with link count 0, in bounded transactions, and takes it off the orphan table. No page
    /// of it is in use any more. Called for every inode that leaves memory: with links it gives back the slot that the
    /// file's next blocks were to come from, and finishes a truncate whose blocks are not freed yet.
    ///
    /// After an error, which want of memory may be, the rest stays on the orphan table, where the next mount finds it.
    pub fn evict(&self, inode: &Inode) -> Result<()> {
        self.leave_window(inode);
        let core = inode.read();
        let (links, truncating) = (core.record.nlink.get(), core.truncating);
        let size = core.record.size.get();
        let from = pending_from(&core.record);
        let orphan = core.record.orphan.get();
        drop(core);
        if self.is_read_only() || (links == 0 && orphan == 0) {
            return Ok(());
        }
        if links > 0 {
            if truncating {
                while self.free_beyond(inode, from)? {
                    yield_now();
                }
                self.zero_tail(inode, size)?;
            }
            return Ok(());
        }
        while self.note(self.evict_step(inode))? {
            yield_now();
        }
        Ok(())
    }

    /// Gives back the slot that the file's next blocks were to come from. Nothing on the medium changes.
    pub fn leave_window(&self, inode: &Inode) {
        let window = inode.replace_window(Window::NONE);
        if window != Window::NONE {
            self.volume().release_window(window, inode.ino());
        }
    }

    /// One transaction of an eviction; true: more to do.
    fn evict_step(&self, inode: &Inode) -> Result<bool> {
        let mut tx = self.begin(Purpose::Removal)?;
        let mut edit = inode.edit();
        let record = edit.draft();
        if matches!(record.root, ROOT_INLINE_EXTENTS | ROOT_EXTENT_TREE) {
            let start = FileBlock(0);
            let left = edit::remove(&mut tx, record, start, FileBlock::END, EVICT_BUDGET)?;
            if left > start {
                edit.emit(&mut tx)?;
                let seq = self.commit(tx)?;
                edit.settle(seq);
                return Ok(true);
            }
        }
        if record.root == ROOT_DIRECTORY && !directory::is_empty(record) {
            // Its blocks would be lost, and what they name with them.
            return Err(Error::corrupt(
                "removed directory that has names",
                inode.address(),
            ));
        }
        symlink::remove(&mut tx, record)?;
        orphan::leave(&mut tx, record)?;
        tx.free_inode(inode.ino())?;
        // The record itself is not written any more: nothing reads it before the next owner makes it anew.
        let seq = self.commit(tx)?;
        edit.settle(seq);
        edit.core().truncating = false;
        Ok(false)
    }

    /// The next inode that stood on the orphan table when this was mounted and that nobody has dealt with yet. The caller
    /// shuts everyone else out of the number, and asks [`Self::take_orphan`] whether this still holds. Nothing of what entered
    /// the table since is among them.
    pub fn next_orphan(&self) -> Option<Orphan> {
        loop {
            match self.volume().next_orphan() {
                Ok(orphan) => return orphan,
                Err(error) => self.report(&error),
            }
        }
    }

    /// Makes sure that [`Self::next_orphan`] does not name it again. False: it has been dealt with, and the number may be
    /// another file's by now.
    pub fn take_orphan(&self, orphan: Orphan) -> bool {
        let ours = self.volume().take_orphan(orphan);
        if ours {
            self.orphans.fetch_add(1, Ordering::Relaxed);
        }
        ours
    }

    /// The inode of an orphan that was just taken, its truncate finished. Without links, it is for
    /// [`Self::evict`] to free.
    pub fn iget_orphan(&self, ino: Ino) -> Result<Inode> {
        let inode = self.load_known(ino, "orphan entry of an inode that is not in use")?;
        self.finish_truncate(&inode)?;
        Ok(inode)
    }

    /// Finishes all orphans: for tools and tests, where nobody else has in-core inodes. On an error the one that it met is
    /// left for the next call.
    pub fn finish_orphans(&self) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        while let Some(orphan) = self.next_orphan() {
            if self.take_orphan(orphan) {
                let inode = self.iget_orphan(orphan.ino);
                let done = inode.and_then(|inode| self.evict(&inode));
                done.inspect_err(|error| {
                    if *error == Error::NoMemory {
                        self.volume().leave_orphan(orphan);
                    }
                })?;
            }
        }
        Ok(())
    }
}
