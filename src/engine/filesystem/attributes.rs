// SPDX-License-Identifier: GPL-2.0

//! Calls for attributes: owner, mode, times, flags.
//!
//! # Hazard
//!
//! Reading a file sets its access time, thousands of times a second; a transaction for each would cost more than the read.
//! So [`Filesystem::touch`] stores the word alone. It may do so only while no record that could still be replayed holds
//! this inode's times: a crash after the store would let recovery put the older time back, and a backup program that had
//! seen the newer one would never look at the file again.

use crate::engine::alloc::policy::Purpose;
use crate::engine::error::{Error, Result};
use crate::engine::filesystem::Filesystem;
use crate::engine::format::inode::TIMES_OFFSET;
use crate::engine::inode::{set_times, Inode};
use crate::engine::media::Media;
use crate::engine::mutant::Mutant;
use crate::engine::types::{FileKind, Timestamp};
use zerocopy::little_endian::{U16, U32};

/// What `stat` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Full `st_mode`, type bits included.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that lead here (a directory: 2 plus its subdirectories).
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// Blocks of 4 KiB that belong to the inode, tree nodes included.
    pub blocks: u64,
    /// Device number, as it was given to `create`.
    pub rdev: u64,
    /// Inode flags.
    pub flags: u32,
    /// Project id.
    pub project: u32,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the data.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Birth.
    pub btime: Timestamp,
}

/// Times to set; `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Last access.
    pub atime: Option<Timestamp>,
    /// Last change of the data.
    pub mtime: Option<Timestamp>,
    /// Last change of the inode.
    pub ctime: Option<Timestamp>,
}

/// Attributes to set; `None` stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// Full `st_mode`; the type bits must not change.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Inode flags.
    pub flags: Option<u32>,
    /// Project id.
    pub project: Option<u32>,
    /// Times.
    pub times: Times,
}

impl<M: Media> Filesystem<M> {
    /// Sets attributes in one transaction, durable on return. The size is not among them: see [`Filesystem::truncate`].
    pub fn set_attributes(&self, inode: &Inode, set: &SetAttributes) -> Result<()> {
        if let Some(mode) = set.mode {
            if FileKind::from_mode(mode) != Some(inode.kind()) {
                return Err(Error::Invalid);
            }
        }
        let done = self.change(inode, Purpose::Removal, |_, record| {
            if let Some(mode) = set.mode {
                record.mode = U16::new(mode);
            }
            if let Some(uid) = set.uid {
                record.uid = U32::new(uid);
            }
            if let Some(gid) = set.gid {
                record.gid = U32::new(gid);
            }
            if let Some(flags) = set.flags {
                record.flags = U32::new(flags);
            }
            if let Some(project) = set.project {
                record.project = U32::new(project);
            }
            set_times(record, &set.times);
            Ok(())
        });
        self.note(done)
    }

    /// Sets times by single stores where that is safe, else by a small transaction. Durable on return only with `fence`.
    pub fn touch(&self, inode: &Inode, times: &Times, fence: bool) -> Result<()> {
        self.touch_with(inode, || *times, fence)
    }

    /// As [`Self::touch`], for times that others may be changing: they are asked for when nobody else can store any, so that the
    /// last ones to be stored are not older than others that were.
    pub fn touch_with(&self, inode: &Inode, times: impl Fn() -> Times, fence: bool) -> Result<()> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let mut edit = inode.edit();
        let replayable = edit.core().times_seq >= self.volume().durable_checkpoint();
        if replayable && !Mutant::TouchEarly.active() {
            drop(edit);
            let done = self.change(inode, Purpose::Removal, |_, record| {
                set_times(record, &times());
                Ok(())
            });
            return self.note(done);
        }
        let times = times();
        let media = self.media();
        for (index, time) in [times.atime, times.mtime, times.ctime].iter().enumerate() {
            if let Some(time) = time {
                let offset = TIMES_OFFSET + index as u64 * 8;
                let address = inode.address().saturating_add(offset);
                media.store_u64(address, u64::from_le_bytes(time.0.to_le_bytes()));
                media.write_back(address, 8);
            }
        }
        set_times(&mut edit.core().record, &times);
        if fence {
            media.fence();
        }
        Ok(())
    }
}
