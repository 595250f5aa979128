// SPDX-License-Identifier: GPL-2.0

//! Names: looking up, listing, making, linking, moving and removing them; file handles.
//!
//! How a change goes, each step here in this order:
//!
//! 1. Get all memory that the VFS's side will need.
//! 2. Choose the time: every inode that takes part moves its change time forward; the last value
//!    is the newest, and all get that one.
//! 3. Call the engine: one transaction, durable when it returns.
//! 4. Bring the VFS's inodes up to date (link counts, times), and the dentry. Cannot fail.
//!
//! Hazard: between two looks at a number it may become another inode's. What a handle or a directory's
//! parent number leads to is nobody's word for damage before it was looked at twice ([`export::Operations`]),
//! and a new inode enters the cache before its number is on the medium ([`Coming`]). If the cache has
//! one of that number even so, it was handed out twice, and nothing is created.

use super::{
    cached, engine, engine_of, errno, failed, iget, inner, params, timestamp, with_space, Ochre,
};
use crate::{
    engine::{
        error::Error as EngineError,
        filesystem::{NewInode, RenameArgs},
        types::{FileKind, Generation, Ino, MAX_NAME},
    },
    testing::{self, Point},
    vfs::{
        attributes::{self, MntIdmap},
        dentry::{Negative, Positive},
        directory::{self, Emitter, EntryKind, NewNode, Place},
        export,
        inode::{Claimed, Flags, Found, Fresh, Locked, Ownership},
        symlink, INode, SuperBlock,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// Inode flags on the medium, as `FS_IOC_GETFLAGS` has them.
const IMMUTABLE: u32 = 0x10;
const APPEND: u32 = 0x20;
const NODUMP: u32 = 0x40;
const NOATIME: u32 = 0x80;
/// All that can be set.
pub(super) const FLAGS: u32 = IMMUTABLE | APPEND | NODUMP | NOATIME;

/// Flags of the medium as the VFS acts on them.
pub(super) fn vfs_flags(flags: u32) -> Flags {
    let mut result = Flags::default();
    for (bit, flag) in [
        (IMMUTABLE, Flags::IMMUTABLE),
        (APPEND, Flags::APPEND),
        (NOATIME, Flags::NOATIME),
    ] {
        if flags & bit != 0 {
            result = result.with(flag);
        }
    }
    result
}

/// Flags of the medium as `statx` shows them.
pub(super) fn statx_flags(flags: u32) -> u64 {
    let mut result = 0;
    for (bit, attribute) in [
        (IMMUTABLE, attributes::ATTRIBUTE_IMMUTABLE),
        (APPEND, attributes::ATTRIBUTE_APPEND),
        (NODUMP, attributes::ATTRIBUTE_NODUMP),
    ] {
        if flags & bit != 0 {
            result |= attribute;
        }
    }
    result
}

/// What the engine is to make.
fn describe<'a>(
    dir: &INode<Ochre>,
    owner: &Ownership,
    rdev: u64,
    symlink: Option<&'a [u8]>,
    time: i64,
) -> NewInode<'a> {
    NewInode {
        uid: owner.uid,
        gid: owner.gid,
        rdev,
        symlink,
        flags: if dir.has_noatime() { NOATIME } else { 0 },
        ..NewInode::new(owner.mode, timestamp(time))
    }
}

/// How often the parent of a directory that is being moved about is looked for.
const PARENT_TRIES: usize = 16;

/// A new inode for which the engine is choosing a number.
struct Coming {
    fresh: Option<Fresh<Ochre>>,
    claimed: Option<Claimed<Ochre>>,
}

impl Coming {
    fn new(fresh: Fresh<Ochre>) -> Self {
        Self {
            fresh: Some(fresh),
            claimed: None,
        }
    }

    /// For the engine to call.
    fn claim(&mut self, ino: Ino) -> engine::Result {
        self.claimed = self.fresh.take().and_then(|it| it.claim(ino.0).ok());
        match self.claimed {
            Some(_) => Ok(()),
            None => Err(EngineError::corrupt("inode number handed out twice", ino.0)),
        }
    }

    /// The engine has made it.
    fn made(self) -> Result<Claimed<Ochre>> {
        self.claimed.ok_or(EIO)
    }
}

impl directory::Operations for Ochre {
    const NAME_MAX: usize = MAX_NAME;

    fn lookup(dir: &INode<Self>, name: &[u8]) -> Result<Option<ARef<INode<Self>>>> {
        match engine(dir).lookup(inner(dir), name) {
            Ok(ino) => {
                let child = iget(dir.super_block(), ino)?;
                engine(dir)
                    .check_child(inner(dir), inner(&child))
                    .map_err(|error| failed(dir.super_block(), error))?;
                Ok(Some(child))
            }
            Err(EngineError::NotFound) => Ok(None),
            Err(error) => Err(failed(dir.super_block(), error)),
        }
    }

    fn create(
        idmap: &MntIdmap,
        dir: Locked<'_, INode<Self>>,
        entry: Negative<'_, Self>,
        node: NewNode<'_>,
    ) -> Result {
        let fresh = dir.super_block().fresh_inode()?;
        let owner = fresh.init_owner(idmap, &dir, node.mode());
        let (text, rdev) = match node {
            NewNode::Symlink(text) => (Some(text), 0),
            NewNode::Special(_, device) => (None, u64::from(device)),
            NewNode::Regular(_) | NewNode::Directory(_) => (None, 0),
        };
        let target = text.map(symlink::Target::new).transpose()?;

        let time = dir.set_ctime_current();
        let new = describe(&dir, &owner, rdev, text, time);
        let mut coming = Coming::new(fresh);
        let inode = with_space(dir.super_block(), || {
            let claim = &mut |ino| coming.claim(ino);
            engine(&dir).create_claimed(inner(&dir), entry.name(), &new, claim)
        })?;

        let params = params(engine(&dir), inode, target)?;
        let created = coming.made()?.init(params);
        dir.set_mctime(time);
        if matches!(node, NewNode::Directory(_)) {
            dir.inc_nlink();
        }
        entry.instantiate(created);
        Ok(())
    }

    fn create_unnamed(idmap: &MntIdmap, dir: &INode<Self>, mode: u16) -> Result<ARef<INode<Self>>> {
        let fresh = dir.super_block().fresh_inode()?;
        let owner = fresh.init_owner(idmap, dir, mode);
        let new = describe(dir, &owner, 0, None, fresh.now());
        let mut coming = Coming::new(fresh);
        let inode = with_space(dir.super_block(), || {
            engine(dir).tmpfile_claimed(&new, &mut |ino| coming.claim(ino))
        })?;
        let params = params(engine(dir), inode, None)?;
        Ok(coming.made()?.init_unlocked(params))
    }

    fn link(
        inode: Locked<'_, INode<Self>>,
        dir: Locked<'_, INode<Self>>,
        entry: Negative<'_, Self>,
    ) -> Result {
        let _ = dir.set_ctime_current();
        let time = inode.set_ctime_current();
        with_space(dir.super_block(), || {
            engine(&dir).link(inner(&dir), entry.name(), inner(&inode), timestamp(time))
        })?;
        inode.inc_nlink();
        dir.set_mctime(time);
        entry.instantiate_link(inode.grab());
        Ok(())
    }

    fn unlink(dir: Locked<'_, INode<Self>>, entry: Positive<'_, Self>) -> Result {
        let inode = entry.inode();
        let _ = dir.set_ctime_current();
        let time = inode.set_ctime_current();
        with_space(dir.super_block(), || {
            engine(&dir).unlink(inner(&dir), entry.name(), inner(&inode), timestamp(time))
        })?;
        dir.set_mctime(time);
        inode.drop_nlink();
        Ok(())
    }

    fn rmdir(dir: Locked<'_, INode<Self>>, entry: Positive<'_, Self>) -> Result {
        let inode = entry.inode();
        let _ = dir.set_ctime_current();
        let time = inode.set_ctime_current();
        with_space(dir.super_block(), || {
            engine(&dir).rmdir(inner(&dir), entry.name(), inner(&inode), timestamp(time))
        })?;
        dir.set_mctime(time);
        dir.drop_nlink();
        inode.clear_nlink();
        Ok(())
    }

    fn rename(
        inode: &INode<Self>,
        old: Place<'_, Self>,
        new: Place<'_, Self>,
        target: Option<Locked<'_, INode<Self>>>,
    ) -> Result {
        let time = rename(inode, &old, &new, target.map(Locked::get), false)?;
        if inode.is_directory() && !same(old.dir, new.dir) {
            old.dir.drop_nlink();
            new.dir.inc_nlink();
        }
        if let Some(target) = target {
            target.set_ctime(time);
            if target.is_directory() {
                target.clear_nlink();
                new.dir.drop_nlink();
            } else {
                target.drop_nlink();
            }
        }
        Ok(())
    }

    fn exchange(
        first: &INode<Self>,
        old: Place<'_, Self>,
        second: &INode<Self>,
        new: Place<'_, Self>,
    ) -> Result {
        let time = rename(first, &old, &new, Some(second), true)?;
        second.set_ctime(time);
        if !same(old.dir, new.dir) {
            match (first.is_directory(), second.is_directory()) {
                (true, false) => {
                    old.dir.drop_nlink();
                    new.dir.inc_nlink();
                }
                (false, true) => {
                    new.dir.drop_nlink();
                    old.dir.inc_nlink();
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn list(dir: &INode<Self>, emitter: &mut Emitter<'_>) -> Result {
        let mut full = false;
        engine(dir)
            .readdir(inner(dir), emitter.position(), &mut |entry| {
                let taken = emitter.emit(
                    entry.name,
                    entry.ino.0,
                    entry_kind(entry.kind),
                    entry.cookie,
                    entry.next,
                );
                full |= !taken;
                taken
            })
            .map_err(|error| failed(dir.super_block(), error))?;
        if !full {
            emitter.finish();
        }
        Ok(())
    }

    fn sync_directory(dir: &INode<Self>) -> Result {
        // Durable on return already, except where the device says otherwise.
        let engine = engine(dir);
        if crate::engine::media::Media::is_synchronous(engine.media()) {
            return Ok(());
        }
        engine
            .sync()
            .map_err(|error| failed(dir.super_block(), error))
    }
}

/// Whether both are the same directory.
fn same(a: Locked<'_, INode<Ochre>>, b: Locked<'_, INode<Ochre>>) -> bool {
    core::ptr::eq(a.get(), b.get())
}

/// The part that renaming and exchanging share; returns the time that all got.
fn rename(
    inode: &INode<Ochre>,
    old: &Place<'_, Ochre>,
    new: &Place<'_, Ochre>,
    target: Option<&INode<Ochre>>,
    exchange: bool,
) -> Result<i64> {
    let _ = old.dir.set_ctime_current();
    if !same(old.dir, new.dir) {
        let _ = new.dir.set_ctime_current();
    }
    if let Some(target) = target {
        let _ = target.set_ctime_current();
    }
    let time = inode.set_ctime_current();
    let args = RenameArgs {
        old_dir: inner(&old.dir),
        old_name: old.name,
        inode: inner(inode),
        new_dir: inner(&new.dir),
        new_name: new.name,
        target: target.map(inner),
        exchange,
        time: timestamp(time),
    };
    with_space(inode.super_block(), || engine(inode).rename(&args))?;
    old.dir.set_mctime(time);
    new.dir.set_mctime(time);
    Ok(time)
}

fn entry_kind(kind: FileKind) -> EntryKind {
    match kind {
        FileKind::Regular => EntryKind::Regular,
        FileKind::Directory => EntryKind::Directory,
        FileKind::Symlink => EntryKind::Symlink,
        FileKind::CharDevice => EntryKind::CharDevice,
        FileKind::BlockDevice => EntryKind::BlockDevice,
        FileKind::Fifo => EntryKind::Fifo,
        FileKind::Socket => EntryKind::Socket,
    }
}

impl export::Operations for Ochre {
    fn by_handle(sb: &SuperBlock<Self>, ino: u64, generation: u32) -> Result<ARef<INode<Self>>> {
        match sb.inode(ino)? {
            // One without names is there for those who have it open, and not because a page of it is held.
            Found::Cached(inode)
                if inode.generation() == generation && (inode.nlink() > 0 || inode.is_open()) =>
            {
                Ok(inode)
            }
            Found::Cached(_) => Err(errno(EngineError::Stale)),
            Found::New(new) => {
                let inode = engine_of(sb)
                    .iget_handle(Ino(ino), Generation(generation))
                    .map_err(|error| failed(sb, error))?;
                cached(sb, new, inode)
            }
        }
    }

    /// No lock is held: the directory may move while its parent is looked for, which may be removed, its number another's.
    fn parent(dir: &INode<Self>) -> Result<ARef<INode<Self>>> {
        let sb = dir.super_block();
        for _ in 0..PARENT_TRIES {
            let place = inner(dir).place();
            testing::pause(Point::ParentRead);
            let found = by_number(sb, place.parent)?;
            let checked = engine(dir).check_parent(inner(dir), place, found.as_deref().map(inner));
            if checked.map_err(|error| failed(sb, error))? {
                return found.ok_or(EIO);
            }
        }
        Err(errno(EngineError::Stale))
    }
}

/// The inode with this number, if there is one with links and it is not just being made. Nobody is kept from the number when this returns.
fn by_number(sb: &SuperBlock<Ochre>, ino: Ino) -> Result<Option<ARef<INode<Ochre>>>> {
    let new = match sb.inode(ino.0) {
        Ok(Found::Cached(inode)) => return Ok(Some(inode)),
        Ok(Found::New(new)) => new,
        Err(error) if error == errno(EngineError::Stale) => return Ok(None),
        Err(error) => return Err(error),
    };
    testing::pause(Point::ParentNew);
    match engine_of(sb).iget_number(ino) {
        Ok(inode) => cached(sb, new, inode).map(Some),
        Err(EngineError::Stale) => Ok(None),
        Err(error) => Err(failed(sb, error)),
    }
}
