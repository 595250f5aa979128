// SPDX-License-Identifier: GPL-2.0

//! The kernel's view of Ochre: what joins `vfs` to the engine.
//!
//! What: [`Ochre`] implements the operation traits of `vfs` by calls of the engine. One file for
//! each group: [`super_block`] mounts, [`namei`] deals with names, [`attributes`] with `stat` and
//! `chmod`, [`file`] and its companions with data, [`background`] finishes what nobody waits for.
//!
//! The inode is there three times: as the VFS's `struct inode`, as the engine's in-core
//! [`Inode`] (kept in [`INodeData`], in the same allocation), and on the medium. The engine keeps
//! the latter two equal; this layer keeps the VFS's copy equal to the engine's. It follows the
//! medium: it changes after the engine's call succeeded. (Change times go first, since only the
//! VFS can make them; a failed call leaves a change time in memory that is too new, no more.)
//!
//! Hazard: between the engine's success and the end of a call nothing may fail, since the medium
//! has changed and the caller would be told otherwise. So whatever can fail (memory above all)
//! comes before the engine's call: see [`namei`].
#![forbid(unsafe_code)]

mod attributes;
mod background;
mod dax;
mod debugfs;
mod defer;
mod fallocate;
mod file;
mod inflight;
mod layout;
mod namei;
mod options;
mod poison;
mod shift;
mod super_block;

use crate::{
    engine::{
        self,
        filesystem::Filesystem,
        inode::Inode,
        types::{Ino, Timestamp},
    },
    media::DaxMedia,
    vfs::{
        inode::{Flags, Found, Kind, New, Params, Times},
        symlink, FileSystem, INode, SuperBlock,
    },
};
use core::sync::atomic::AtomicU8;
use debugfs::Counters;
use kernel::{
    debugfs::File,
    prelude::*,
    sync::{aref::ARef, Arc},
};

/// The type of filesystem.
pub(crate) struct Ochre;

/// What a mount holds.
pub(crate) struct Mount {
    /// The engine, over the medium.
    pub(crate) engine: Filesystem<DaxMedia>,
    /// What a truncate does with pages that somebody holds.
    pub(crate) layout: AtomicU8,
    /// Shows `counters`; goes before them.
    pub(crate) _debugfs: Option<Pin<KBox<File<Arc<Counters>>>>>,
    /// Who waits for whom.
    pub(crate) counters: Arc<Counters>,
}

/// What an inode holds besides the VFS's part.
pub(crate) struct INodeData {
    /// The engine's part.
    pub(crate) inode: Inode,
    /// Of a file's data path.
    pub(crate) data: file::Data,
}

impl FileSystem for Ochre {
    const NAME: &'static CStr = c"ochre";
    const INODE_CACHE: &'static CStr = c"ochre_inode";

    type Data = Mount;
    type INodeData = INodeData;
    type Options = options::Options;
}

impl crate::vfs::symlink::Operations for Ochre {}

/// The engine behind a super block.
#[inline]
pub(crate) fn engine_of(sb: &SuperBlock<Ochre>) -> &Filesystem<DaxMedia> {
    &sb.data().engine
}

/// The engine behind an inode.
#[inline]
pub(crate) fn engine(inode: &INode<Ochre>) -> &Filesystem<DaxMedia> {
    engine_of(inode.super_block())
}

/// Who waits for whom on the mount of an inode.
pub(crate) fn counters(inode: &INode<Ochre>) -> &Counters {
    &inode.super_block().data().counters
}

/// The engine's inode.
#[inline]
pub(crate) fn inner(inode: &INode<Ochre>) -> &Inode {
    &inode.data().inode
}

/// An engine's error as the kernel's.
pub(crate) fn errno(error: engine::Error) -> Error {
    Error::from_errno(-error.errno())
}

/// An engine's error as the kernel's, from a call on `sb`: if it turned the engine read-only, or something before it did, the
/// VFS is told, so that nothing is opened for writing any more.
pub(crate) fn failed(sb: &SuperBlock<Ochre>, error: engine::Error) -> Error {
    if error.is_damage() || error == engine::Error::ReadOnly {
        follow(sb);
    }
    errno(error)
}

/// A call of the engine that may need space: when there is none, it is made once more after the mount's
/// thread has given back what was just let go. Of all locks, the caller may hold only what the thread
/// only tries to take.
pub(crate) fn with_space<T>(
    sb: &SuperBlock<Ochre>,
    mut call: impl FnMut() -> engine::Result<T>,
) -> Result<T> {
    let mut result = call();
    if let Err(engine::Error::NoSpace) = result {
        sb.settle()?;
        result = call();
    }
    result.map_err(|error| failed(sb, error))
}

/// Tells the VFS if the engine has turned itself read-only.
fn follow(sb: &SuperBlock<Ochre>) {
    if engine_of(sb).read_only_error() && !sb.is_read_only() {
        sb.set_read_only();
    }
}

/// The inode for a number that a directory entry or the super block gave.
fn iget(sb: &SuperBlock<Ochre>, ino: Ino) -> Result<ARef<INode<Ochre>>> {
    match sb.inode(ino.0)? {
        Found::Cached(inode) => Ok(inode),
        Found::New(new) => {
            let inode = engine_of(sb).iget_unfinished(ino);
            cached(sb, new, inode.map_err(|error| failed(sb, error))?)
        }
    }
}

/// Puts an inode that was just loaded into the cache; a truncate that a crash left is finished first. Not so while the filesystem
/// is frozen: whoever copies the medium then must not see it change under him. The mount's thread finishes it after the thaw,
/// and until then the blocks behind the end are pending.
fn cached(sb: &SuperBlock<Ochre>, new: New<Ochre>, inode: Inode) -> Result<ARef<INode<Ochre>>> {
    let engine = engine_of(sb);
    if engine.is_truncating(&inode) {
        if let Some(_write) = sb.try_start_internal_write() {
            engine
                .finish_truncate(&inode)
                .map_err(|error| failed(sb, error))?;
        }
    }
    let pending = engine.is_truncating(&inode);
    let inode = new.init(params(engine, inode, None).inspect_err(|_| follow(sb))?);
    if pending && !engine.is_read_only() {
        sb.watch(&inode);
    }
    Ok(inode)
}

/// What the VFS is to know of an inode. `target` saves reading a symbolic link again.
fn params(
    engine: &Filesystem<DaxMedia>,
    inode: Inode,
    target: Option<symlink::Target>,
) -> Result<Params<Ochre>> {
    let attributes = inode.attributes();
    let mut flags = namei::vfs_flags(attributes.flags);
    let kind = match u32::from(attributes.mode) & TYPE {
        REGULAR => {
            flags = flags.with(Flags::DAX);
            Kind::Regular
        }
        DIRECTORY => Kind::Directory,
        SYMLINK => Kind::Symlink(match target {
            Some(target) => target,
            None => {
                let mut text = crate::platform::Vec::new();
                engine.readlink(&inode, &mut text).map_err(errno)?;
                symlink::Target::new(&text)?
            }
        }),
        _ => Kind::Special(attributes.rdev as u32),
    };
    let data = file::Data::new(engine.is_truncating(&inode));
    Ok(Params {
        generation: inode.generation().0,
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        nlink: attributes.nlink,
        size: attributes.size,
        times: Times {
            atime: attributes.atime.0,
            mtime: attributes.mtime.0,
            ctime: attributes.ctime.0,
        },
        flags,
        kind,
        data: INodeData { inode, data },
    })
}

/// Type bits of `st_mode`.
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

/// A time as the engine has it.
#[inline]
fn timestamp(time: i64) -> Timestamp {
    Timestamp(time)
}
