// SPDX-License-Identifier: GPL-2.0

//! Calls that change or search names.
//!
//! What: each call locks the inodes it changes in ascending order of numbers, edits their drafts and the directories'
//! leaves in one transaction, and commits. The caller says which inodes the names lead to; that is checked again here,
//! against the leaves.
//!
//! # Hazard
//!
//! A rename over an existing file has two ends: the name leads to the new inode, the old one loses a link and may become
//! an orphan. In two transactions, a crash between them would leave an inode with a link count of 1 and no name: its
//! blocks would be lost until somebody ran a check. All of it, the orphan table's word included, is one record.

use crate::engine::alloc::policy::Purpose;
use crate::engine::directory::{self, Target};
use crate::engine::error::{Error, Result};
use crate::engine::filesystem::{Filesystem, Locked};
use crate::engine::format::inode::{
    InodeRecord, MAGIC, ROOT_DIRECTORY, ROOT_INLINE_EXTENTS, ROOT_NONE,
};
use crate::engine::inode::{add_links, create_record, set_changed, Inode, Place};
use crate::engine::media::Media;
use crate::engine::orphan;
use crate::engine::symlink;
use crate::engine::transaction::Transaction;
use crate::engine::types::{Block, FileKind, Ino, Seq, Timestamp};
use crate::platform::Vec;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::FromZeros;

/// What a new inode is to be.
#[derive(Clone, Copy, Debug)]
pub struct NewInode<'a> {
    /// Full `st_mode`: the type bits choose the kind.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a character or block device, as the caller encodes it; else 0.
    pub rdev: u64,
    /// Target of a symbolic link (1 to 4032 bytes); `None` for every other kind.
    pub symlink: Option<&'a [u8]>,
    /// Inode flags.
    pub flags: u32,
    /// Project id.
    pub project: u32,
    /// Birth, access, change and modification time; also the directory's new times.
    pub time: Timestamp,
}

impl NewInode<'_> {
    /// One of the superuser, with nothing special about it.
    pub const fn new(mode: u16, time: Timestamp) -> Self {
        Self {
            mode,
            uid: 0,
            gid: 0,
            rdev: 0,
            symlink: None,
            flags: 0,
            project: 0,
            time,
        }
    }
}

/// One name, as [`Filesystem::readdir`] hands it out.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry<'a> {
    /// The name, 1 to 255 bytes.
    pub name: &'a [u8],
    /// Inode it leads to.
    pub ino: Ino,
    /// Kind of that inode.
    pub kind: FileKind,
    /// Position of this entry.
    pub cookie: u64,
    /// Position behind this entry: what a later `readdir` continues from.
    pub next: u64,
}

/// The two places of a rename.
pub struct RenameArgs<'a> {
    /// Directory that holds `old_name`.
    pub old_dir: &'a Inode,
    /// Name to move.
    pub old_name: &'a [u8],
    /// The inode `old_name` leads to.
    pub inode: &'a Inode,
    /// Directory that is to hold `new_name`; may be `old_dir`.
    pub new_dir: &'a Inode,
    /// New name.
    pub new_name: &'a [u8],
    /// The inode that `new_name` leads to now, if any: replaced, or exchanged.
    pub target: Option<&'a Inode>,
    /// Exchange the two (`RENAME_EXCHANGE`); `target` must be given.
    pub exchange: bool,
    /// New times of the directories, new change time of the inodes.
    pub time: Timestamp,
}

/// Makes the record of a new inode in the transaction, linked `links` times.
struct Born {
    record: InodeRecord,
    ino: Ino,
    address: u64,
    kind: FileKind,
}

impl Born {
    fn new<M: Media>(
        tx: &mut Transaction<'_, M>,
        filesystem: &Filesystem<M>,
        parent: Ino,
        new: &NewInode<'_>,
    ) -> Result<Self> {
        let kind = FileKind::from_mode(new.mode).ok_or(Error::Invalid)?;
        if (kind == FileKind::Symlink) != new.symlink.is_some() {
            return Err(Error::Invalid);
        }
        let (ino, address) =
            tx.allocate_inode(filesystem.group_for(parent, kind == FileKind::Directory))?;
        let mut record = InodeRecord::new_zeroed();
        record.magic = U32::new(MAGIC);
        record.mode = U16::new(new.mode);
        record.ino = U64::new(ino.0);
        record.generation = U32::new(generation(ino, filesystem.volume().next_seq()));
        record.uid = U32::new(new.uid);
        record.gid = U32::new(new.gid);
        record.project = U32::new(new.project);
        record.flags = U32::new(new.flags);
        record.btime = I64::new(new.time.0);
        record.atime = I64::new(new.time.0);
        set_changed(&mut record, new.time);
        record.root = match kind {
            FileKind::Regular => ROOT_INLINE_EXTENTS,
            FileKind::Directory => ROOT_DIRECTORY,
            _ => ROOT_NONE,
        };
        match kind {
            FileKind::Directory => {
                record.nlink = U32::new(2);
                record.parent = U64::new(parent.0);
            }
            FileKind::CharDevice | FileKind::BlockDevice => {
                record.nlink = U32::new(1);
                record.rdev = U64::new(new.rdev);
            }
            _ => record.nlink = U32::new(1),
        }
        if let Some(target) = new.symlink {
            symlink::create(tx, &mut record, target, Block::of(address))?;
        }
        Ok(Self {
            record,
            ino,
            address,
            kind,
        })
    }

    /// Writes the record and makes the in-core inode, which nobody sees before the commit.
    fn finish<M: Media>(&self, tx: &mut Transaction<'_, M>) -> Result<Inode> {
        create_record(tx, self.address, &self.record)?;
        Inode::new(self.ino, self.address, &self.record)
    }
}

/// A generation for a new use of a number, which was free by transaction `seq` at the latest. That it got free was a
/// transaction too, later than its last use began; so no two uses have the same `seq`, and the same generation only when
/// 2^32 transactions lie between them: all of this can be undone. (The time would not do: the kernel's clock for files stands
/// still for milliseconds.) Mixed, so that handles of neighbours do not look alike; not random, so that the same calls make
/// the same image.
fn generation(ino: Ino, seq: Seq) -> u32 {
    let [a, b, c, d, ..] = (seq.0 ^ ino.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes();
    let mut mixed = u32::from_le_bytes([a, b, c, d]);
    mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x85eb_ca6b);
    mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
    mixed ^ (mixed >> 16)
}

/// Fails unless `dir` is a directory that can still get names.
fn can_get_names(dir: &Inode, record: &InodeRecord) -> Result {
    if dir.kind() != FileKind::Directory {
        return Err(Error::NotDirectory);
    }
    if record.nlink.get() == 0 {
        return Err(Error::NotFound);
    }
    Ok(())
}

impl<M: Media> Filesystem<M> {
    /// The inode number behind `name` in `dir`; `NotFound` when there is none.
    pub fn lookup(&self, dir: &Inode, name: &[u8]) -> Result<Ino> {
        let core = dir.read();
        let found = directory::lookup(self.volume(), self.name_hash(), &core.record, name);
        drop(core);
        self.note(found).map(|target| target.ino)
    }

    /// Whether `child`, which a name in `dir` has just led to, can be what that name says: it has links, and a directory has
    /// no other parent. A second name of a directory would make a loop of the tree, in which `..` leads out somewhere else.
    /// The caller keeps `dir` locked since the lookup, at least shared.
    pub fn check_child(&self, dir: &Inode, child: &Inode) -> Result<()> {
        let core = child.read();
        let (links, parent) = (core.record.nlink.get(), core.record.parent.get());
        drop(core);
        let fault = if links == 0 {
            "name of an inode without links"
        } else if child.kind() == FileKind::Directory
            && (parent != dir.ino().0 || child.ino() == Ino::ROOT)
        {
            "name of a directory that is another's"
        } else {
            return Ok(());
        };
        self.note(Err(Error::corrupt(fault, child.address())))
    }

    /// Whether `found` is the directory that holds `dir`, having been looked up by the number in `place`; `None`: no inode with
    /// links was found. False: `dir` has been moved since, and that number may be anybody's: look again. `Stale`: `dir` was removed.
    ///
    /// The caller may keep nobody from any number: whoever makes an inode in `dir` waits for that with `dir` locked.
    pub fn check_parent(&self, dir: &Inode, place: Place, found: Option<&Inode>) -> Result<bool> {
        let core = dir.read();
        let (links, now) = (core.record.nlink.get(), Place::of(&core));
        drop(core);
        if links == 0 {
            return Err(Error::Stale);
        }
        if now.parent != place.parent {
            return Ok(false);
        }
        let fault = match found {
            Some(found) if found.kind() == FileKind::Directory => return Ok(true),
            // It may have left and come back, to another directory of that number.
            _ if now != place => return Ok(false),
            Some(_) => "parent of a directory that is none",
            None => "parent of a directory that is not in use",
        };
        self.note(Err(Error::corrupt(fault, dir.address())))
    }

    /// Calls `emit` for each entry at or after `cookie` in the order of cookies, until it returns false (that entry was
    /// not taken) or the directory ends. `.` and `..` are not among them: cookies 0 and 1 are left for them, the first
    /// entry has 2 or more.
    ///
    /// No lock is held during `emit`: it may fault and sleep.
    pub fn readdir(
        &self,
        dir: &Inode,
        cookie: u64,
        emit: &mut dyn FnMut(&DirectoryEntry<'_>) -> bool,
    ) -> Result<()> {
        let mut key = cookie.saturating_sub(directory::FIRST_COOKIE);
        loop {
            let core = dir.read();
            let batch = directory::read(self.volume(), &core.record, key);
            drop(core);
            let batch = self.note(batch)?;
            for index in 0..batch.len() {
                let Some((key, name, target)) = batch.get(index) else {
                    break;
                };
                let cookie = key.saturating_add(directory::FIRST_COOKIE);
                let entry = DirectoryEntry {
                    name,
                    ino: target.ino,
                    kind: target.kind,
                    cookie,
                    next: cookie.saturating_add(1),
                };
                if !emit(&entry) {
                    return Ok(());
                }
            }
            match batch.next {
                Some(next) if next > key => key = next,
                _ => return Ok(()),
            }
        }
    }

    /// Makes an inode of any kind and links it as `name`. A new directory adds a link to `dir`.
    pub fn create(&self, dir: &Inode, name: &[u8], new: &NewInode<'_>) -> Result<Inode> {
        self.create_claimed(dir, name, new, &mut |_| Ok(()))
    }

    /// As [`Self::create`], for one who keeps a table of inodes by number. `claim` is told the number when nothing can fail any
    /// more, and before anything of this use of it is on the medium. From then on the caller lets nobody else look it up, so
    /// that no handle, guessed or not, leads to the inode before its maker has it. An error of `claim` ends the call.
    ///
    /// `dir`'s lock is held meanwhile: whom `claim` waits for takes the lock of no inode but that number's last.
    pub fn create_claimed(
        &self,
        dir: &Inode,
        name: &[u8],
        new: &NewInode<'_>,
        claim: &mut dyn FnMut(Ino) -> Result,
    ) -> Result<Inode> {
        self.note(self.create_inner(dir, name, new, claim))
    }

    fn create_inner(
        &self,
        dir: &Inode,
        name: &[u8],
        new: &NewInode<'_>,
        claim: &mut dyn FnMut(Ino) -> Result,
    ) -> Result<Inode> {
        directory::check_name(name)?;
        let mut tx = self.begin(Purpose::Metadata)?;
        let mut edit = dir.edit();
        can_get_names(dir, edit.record())?;
        let born = Born::new(&mut tx, self, dir.ino(), new)?;
        let target = Target {
            ino: born.ino,
            kind: born.kind,
        };
        let parent = edit.draft();
        directory::insert(&mut tx, self.name_hash(), parent, name, target)?;
        set_changed(parent, new.time);
        if born.kind == FileKind::Directory {
            add_links(parent, 1)?;
        }
        let mut inode = born.finish(&mut tx)?;
        edit.emit(&mut tx)?;
        claim(born.ino)?;
        let seq = self.commit(tx)?;
        edit.settle(seq);
        inode.born_in(seq);
        Ok(inode)
    }

    /// Makes an inode without a name; [`Filesystem::link`] may give it one.
    pub fn tmpfile(&self, new: &NewInode<'_>) -> Result<Inode> {
        self.tmpfile_claimed(new, &mut |_| Ok(()))
    }

    /// As [`Self::tmpfile`], with `claim` as in [`Self::create_claimed`].
    pub fn tmpfile_claimed(
        &self,
        new: &NewInode<'_>,
        claim: &mut dyn FnMut(Ino) -> Result,
    ) -> Result<Inode> {
        self.note(self.tmpfile_inner(new, claim))
    }

    fn tmpfile_inner(
        &self,
        new: &NewInode<'_>,
        claim: &mut dyn FnMut(Ino) -> Result,
    ) -> Result<Inode> {
        let mut tx = self.begin(Purpose::Metadata)?;
        let mut born = Born::new(&mut tx, self, self.root(), new)?;
        if born.kind == FileKind::Directory {
            return Err(Error::Invalid);
        }
        born.record.nlink = U32::new(0);
        orphan::enter(&mut tx, &mut born.record)?;
        let mut inode = born.finish(&mut tx)?;
        claim(born.ino)?;
        let seq = self.commit(tx)?;
        inode.born_in(seq);
        Ok(inode)
    }

    /// Adds `name` in `dir` as another link to `inode`.
    pub fn link(&self, dir: &Inode, name: &[u8], inode: &Inode, time: Timestamp) -> Result<()> {
        self.note(self.link_inner(dir, name, inode, time))
    }

    fn link_inner(&self, dir: &Inode, name: &[u8], inode: &Inode, time: Timestamp) -> Result {
        if inode.kind() == FileKind::Directory {
            return Err(Error::NotPermitted);
        }
        directory::check_name(name)?;
        let mut tx = self.begin(Purpose::Metadata)?;
        let mut locked = Locked::new([Some(dir), Some(inode), None, None]);
        can_get_names(dir, locked.get(dir)?.record())?;
        let target = Target {
            ino: inode.ino(),
            kind: inode.kind(),
        };
        let parent = locked.get(dir)?.draft();
        directory::insert(&mut tx, self.name_hash(), parent, name, target)?;
        set_changed(parent, time);
        let edit = locked.get(inode)?;
        let was_orphan = edit.record().nlink.get() == 0;
        let truncating = edit.core().truncating;
        let record = edit.draft();
        add_links(record, 1)?;
        record.ctime = I64::new(time.0);
        if was_orphan {
            // Without a slot it is a deleted inode that only a stale reference still names.
            if record.orphan.get() == 0 {
                return Err(Error::NotFound);
            }
            if !truncating {
                orphan::leave(&mut tx, record)?;
            }
        }
        locked.commit(self, tx)
    }

    /// Removes `name`, which leads to `inode` (no directory). At link count 0 the inode is an orphan from here on, until
    /// [`Filesystem::evict`].
    pub fn unlink(&self, dir: &Inode, name: &[u8], inode: &Inode, time: Timestamp) -> Result<()> {
        if inode.kind() == FileKind::Directory {
            return Err(Error::IsDirectory);
        }
        self.note(self.remove_name(dir, name, inode, time))
    }

    /// Removes the empty directory `inode`, called `name` in `dir`.
    pub fn rmdir(&self, dir: &Inode, name: &[u8], inode: &Inode, time: Timestamp) -> Result<()> {
        if inode.kind() != FileKind::Directory {
            return Err(Error::NotDirectory);
        }
        self.note(self.remove_name(dir, name, inode, time))
    }

    fn remove_name(&self, dir: &Inode, name: &[u8], inode: &Inode, time: Timestamp) -> Result {
        let is_directory = inode.kind() == FileKind::Directory;
        let mut tx = self.begin(Purpose::Removal)?;
        let mut locked = Locked::new([Some(dir), Some(inode), None, None]);
        if dir.ino() == inode.ino() {
            return Err(Error::Invalid);
        }
        if is_directory && !directory::is_empty(locked.get(inode)?.record()) {
            return Err(Error::NotEmpty);
        }
        let parent = locked.get(dir)?.draft();
        directory::remove(&mut tx, self.name_hash(), parent, name, inode.ino())?;
        set_changed(parent, time);
        if is_directory {
            add_links(parent, -1)?;
        }
        let links = if is_directory { -2 } else { -1 };
        let record = locked.get(inode)?.draft();
        drop_links(&mut tx, record, links, time)?;
        locked.commit(self, tx)
    }

    /// Moves, replaces or exchanges names in one transaction.
    pub fn rename(&self, args: &RenameArgs<'_>) -> Result<()> {
        self.note(self.rename_inner(args))
    }

    fn rename_inner(&self, args: &RenameArgs<'_>) -> Result {
        directory::check_name(args.old_name)?;
        directory::check_name(args.new_name)?;
        let same_dir = args.old_dir.ino() == args.new_dir.ino();
        if same_dir && args.old_name == args.new_name {
            return Ok(());
        }
        if let Some(target) = args.target {
            if target.ino() == args.inode.ino() {
                return Ok(());
            }
        }
        let mut tx = self.begin(Purpose::Metadata)?;
        let mut locked = Locked::new([
            Some(args.old_dir),
            Some(args.new_dir),
            Some(args.inode),
            args.target,
        ]);
        can_get_names(args.old_dir, locked.get(args.old_dir)?.record())?;
        can_get_names(args.new_dir, locked.get(args.new_dir)?.record())?;
        if args.inode.ino() == args.new_dir.ino() || args.inode.ino() == args.old_dir.ino() {
            return Err(Error::Invalid);
        }
        if args.exchange {
            self.exchange(&mut tx, &mut locked, args)?;
        } else {
            self.move_name(&mut tx, &mut locked, args)?;
        }
        for dir in [args.old_dir, args.new_dir] {
            set_changed(locked.get(dir)?.draft(), args.time);
        }
        locked.get(args.inode)?.draft().ctime = I64::new(args.time.0);
        locked.commit(self, tx)
    }

    /// Lets both names lead to each other's inode.
    fn exchange(
        &self,
        tx: &mut Transaction<'_, M>,
        locked: &mut Locked<'_>,
        args: &RenameArgs<'_>,
    ) -> Result {
        let other = args.target.ok_or(Error::NotFound)?;
        let (a, b) = (target_of(args.inode), target_of(other));
        let hash = self.name_hash();
        let old_dir = locked.get(args.old_dir)?.draft();
        directory::replace(tx, hash, old_dir, args.old_name, a.ino, b)?;
        let new_dir = locked.get(args.new_dir)?.draft();
        directory::replace(tx, hash, new_dir, args.new_name, b.ino, a)?;
        if args.old_dir.ino() != args.new_dir.ino() {
            if other.ino() == args.old_dir.ino() || other.ino() == args.new_dir.ino() {
                return Err(Error::Invalid);
            }
            move_parent(locked, args.inode, args.old_dir, args.new_dir)?;
            move_parent(locked, other, args.new_dir, args.old_dir)?;
        }
        locked.get(other)?.draft().ctime = I64::new(args.time.0);
        Ok(())
    }

    /// Lets the new name lead to the inode, removes the old one.
    fn move_name(
        &self,
        tx: &mut Transaction<'_, M>,
        locked: &mut Locked<'_>,
        args: &RenameArgs<'_>,
    ) -> Result {
        let hash = self.name_hash();
        let is_directory = args.inode.kind() == FileKind::Directory;
        if let Some(target) = args.target {
            let target_directory = target.kind() == FileKind::Directory;
            if target_directory && !is_directory {
                return Err(Error::IsDirectory);
            }
            if is_directory && !target_directory {
                return Err(Error::NotDirectory);
            }
            if target_directory && !directory::is_empty(locked.get(target)?.record()) {
                return Err(Error::NotEmpty);
            }
            let dir = locked.get(args.new_dir)?.draft();
            let new = target_of(args.inode);
            directory::replace(tx, hash, dir, args.new_name, target.ino(), new)?;
            if target_directory {
                add_links(dir, -1)?;
            }
            let links = if target_directory { -2 } else { -1 };
            drop_links(tx, locked.get(target)?.draft(), links, args.time)?;
        } else {
            let dir = locked.get(args.new_dir)?.draft();
            directory::insert(tx, hash, dir, args.new_name, target_of(args.inode))?;
        }
        let dir = locked.get(args.old_dir)?.draft();
        directory::remove(tx, hash, dir, args.old_name, args.inode.ino())?;
        if args.old_dir.ino() != args.new_dir.ino() {
            move_parent(locked, args.inode, args.old_dir, args.new_dir)?;
        }
        Ok(())
    }

    /// Puts the target of the symbolic link into `target` (cleared first).
    pub fn readlink(&self, inode: &Inode, target: &mut Vec<u8>) -> Result<()> {
        if inode.kind() != FileKind::Symlink {
            return Err(Error::Invalid);
        }
        target.clear();
        let core = inode.read();
        let read = symlink::read(self.volume(), &core.record, target);
        drop(core);
        self.note(read)
    }
}

/// Takes links away; at 0 the inode goes onto the orphan table.
fn drop_links<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    links: i32,
    time: Timestamp,
) -> Result {
    add_links(record, links)?;
    record.ctime = I64::new(time.0);
    if record.nlink.get() == 0 {
        orphan::enter(tx, record)?;
    }
    Ok(())
}

/// What an entry for this inode says.
fn target_of(inode: &Inode) -> Target {
    Target {
        ino: inode.ino(),
        kind: inode.kind(),
    }
}

/// A directory has moved: its parent, and the link that its `..` was.
fn move_parent(locked: &mut Locked<'_>, inode: &Inode, from: &Inode, to: &Inode) -> Result {
    if inode.kind() != FileKind::Directory {
        return Ok(());
    }
    locked.get(inode)?.draft().parent = U64::new(to.ino().0);
    add_links(locked.get(to)?.draft(), 1)?;
    add_links(locked.get(from)?.draft(), -1)
}
