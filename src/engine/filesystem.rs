// SPDX-License-Identifier: GPL-2.0

//! The filesystem: the one type that the layers above call.
//!
//! What: [`Filesystem`] joins the volume (medium, journal, allocator) with inodes, extents,
//! directories and orphans, and offers the calls that a VFS needs, each by its usual name. Calls
//! are grouped by meaning: [`mount`], [`namespace`], [`data`],
//! [`promise`], [`removal`], [`shift`], [`attributes`], [`poison`].
//!
//! Why one type: every change of metadata is one transaction, begun and committed inside one call
//! here. A caller never sees a transaction, so it cannot forget to commit one, hold one over a
//! sleep, or nest two.
//!
//! # Locks
//!
//! Calls take the engine's own locks (an inode's extent lock and below). The caller holds what
//! the VFS holds: the directory's `i_rwsem` exclusively for calls that change names, the file's
//! `i_rwsem` exclusively for writes, truncation and attribute changes. [`Filesystem::map`] and
//! [`Filesystem::fault_allocate`] need neither.
//!
//! Every [`Inode`] is unique: the caller keeps at most one in-core [`Inode`] for a number (the
//! kernel's inode cache does that). Two of them would each believe their own copy of the record.
//!
//! # Hazard
//!
//! In-core state follows the medium, never leads it: a call changes a draft, commits the
//! transaction, and only then lets the draft replace what others see. If it were the other way
//! round, a transaction that fails for want of space would leave an inode that claims, say, a
//! size of 8192 with one block; the next commit of that inode would write the claim down, and
//! after a crash the file would end in bytes that nobody wrote.

pub mod attributes;
pub mod data;
pub mod mount;
pub mod namespace;
pub mod pending;
pub mod poison;
pub mod promise;
pub mod removal;
pub mod shift;

use crate::engine::alloc::policy::Purpose;
use crate::engine::directory::NameHash;
use crate::engine::error::{Error, Result};
use crate::engine::format::inode::InodeRecord;
use crate::engine::inode::{Core, Edit};
use crate::engine::media::Media;
use crate::engine::transaction::Transaction;
use crate::engine::types::{Ino, Seq};
use crate::engine::volume::Volume;
use crate::platform::atomic::{AtomicU32, AtomicU64, Ordering};

pub use crate::engine::alloc::orphans::Orphan;
pub use crate::engine::inode::Inode;
pub use crate::engine::poison::Condition;
pub use attributes::{Attributes, SetAttributes, Times};
pub use data::{Mapping, MappingState, PublishArgs, WriteKind, WriteReservation};
pub use mount::{MountOptions, Statfs, Stats, SuperInfo};
pub use namespace::{DirectoryEntry, NewInode, RenameArgs};

/// A mounted filesystem.
pub struct Filesystem<M: Media> {
    volume: Volume<M>,
    name_hash: NameHash,
    /// Orphans of an earlier mount that were handed out.
    orphans: AtomicU64,
    /// Number of the first transaction of this mount.
    first_seq: u64,
    /// Group for the next directory in the root.
    next_group: AtomicU32,
}

impl<M: Media> Filesystem<M> {
    /// The medium.
    pub fn media(&self) -> &M {
        self.volume.media()
    }

    /// What is below the trees.
    pub fn volume(&self) -> &Volume<M> {
        &self.volume
    }

    pub(crate) fn name_hash(&self) -> &NameHash {
        &self.name_hash
    }

    /// The root directory's number.
    pub fn root(&self) -> Ino {
        Ino::ROOT
    }

    /// Filesystem uuid.
    pub fn uuid(&self) -> [u8; 16] {
        self.volume.info().uuid
    }

    /// Label, padded with zeros.
    pub fn label(&self) -> [u8; 32] {
        self.volume.info().label
    }

    /// True: no call changes the medium.
    pub fn is_read_only(&self) -> bool {
        self.volume.is_read_only()
    }

    /// True once an error turned the filesystem read-only.
    pub fn read_only_error(&self) -> bool {
        self.volume.failed()
    }

    /// Logs damage or a media error and turns the filesystem read-only; other errors are nothing to it. Calls of this type
    /// do it themselves for what they return; layers above do it for errors that they meet on the medium on their own.
    pub fn report(&self, error: &Error) {
        if error.is_damage() {
            self.volume.fail(error);
        }
    }

    /// Passes a result on, reporting what it says about the medium.
    pub(crate) fn note<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.report(error);
        }
        result
    }

    /// Begins a transaction, unless the filesystem is read-only.
    pub(crate) fn begin(&self, purpose: Purpose) -> Result<Transaction<'_, M>> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        self.volume.begin(purpose)
    }

    /// Commits.
    pub(crate) fn commit(&self, tx: Transaction<'_, M>) -> Result<Seq> {
        Ok(tx.commit())
    }

    /// The group for a new inode: its parent's; directories in the root take turns, so that trees spread.
    pub(crate) fn group_for(&self, parent: Ino, directory: bool) -> u32 {
        if directory && parent == Ino::ROOT {
            let groups = self.volume.info().geometry.ag_count.max(1);
            return self.next_group.fetch_add(1, Ordering::Relaxed) % groups;
        }
        parent.ag()
    }

    /// As [`Self::change`], for a change that looks at the state beside the record.
    pub(crate) fn change_core<T>(
        &self,
        inode: &Inode,
        purpose: Purpose,
        change: impl FnOnce(&mut Transaction<'_, M>, &mut Core) -> Result<T>,
    ) -> Result<T> {
        let mut tx = self.begin(purpose)?;
        let mut edit = inode.edit();
        let value = change(&mut tx, edit.core())?;
        edit.emit(&mut tx)?;
        let seq = self.commit(tx)?;
        edit.settle(seq);
        Ok(value)
    }

    /// One transaction that changes one inode: begins, lets `change` work on the draft, commits, settles.
    pub(crate) fn change<T>(
        &self,
        inode: &Inode,
        purpose: Purpose,
        change: impl FnOnce(&mut Transaction<'_, M>, &mut InodeRecord) -> Result<T>,
    ) -> Result<T> {
        self.change_core(inode, purpose, |tx, core| change(tx, core.draft()))
    }
}

/// Up to four inodes being changed, locked in ascending order of numbers; one that is named twice is locked once.
pub(crate) struct Locked<'a> {
    edits: [Option<Edit<'a>>; 4],
}

impl<'a> Locked<'a> {
    /// Locks.
    pub(crate) fn new(inodes: [Option<&'a Inode>; 4]) -> Self {
        let mut edits = [None, None, None, None];
        let mut last = Ino::NONE;
        for (order, place) in edits.iter_mut().enumerate() {
            let next = inodes
                .iter()
                .flatten()
                .filter(|inode| inode.ino() > last)
                .min_by_key(|inode| inode.ino());
            let Some(inode) = next else { break };
            last = inode.ino();
            *place = Some(inode.edit_nested(order as u32));
        }
        Self { edits }
    }

    /// One of them.
    pub(crate) fn get(&mut self, inode: &Inode) -> Result<&mut Edit<'a>> {
        self.edits
            .iter_mut()
            .flatten()
            .find(|edit| edit.inode().ino() == inode.ino())
            .ok_or(Error::Invalid)
    }

    /// Puts all changes into the transaction, commits it, and lets the drafts become the records.
    pub(crate) fn commit<M: Media>(
        &mut self,
        filesystem: &Filesystem<M>,
        mut tx: Transaction<'_, M>,
    ) -> Result {
        for edit in self.edits.iter_mut().flatten() {
            edit.emit(&mut tx)?;
        }
        let seq = filesystem.commit(tx)?;
        for edit in self.edits.iter_mut().flatten() {
            edit.settle(seq);
        }
        Ok(())
    }
}
