// SPDX-License-Identifier: GPL-2.0

//! Inodes: the objects behind names.
//!
//! What: [`INode`] wraps `struct inode`, with the filesystem's own part ([`FileSystem::INodeData`])
//! in the same allocation. [`New`] is an inode that the cache has just made for a number that was
//! looked up, [`Fresh`] one that is about to get its number, [`Claimed`] one that has it and no
//! content yet, [`Created`] one that has all but its name.
//!
//! Why these four: the order in which an inode comes to life differs. A looked-up inode is in the
//! hash table *before* anyone knows whether its number is any good (others wait for `I_NEW`); a
//! created one must exist in memory *before* the medium changes, since afterwards nothing may
//! fail, gets its number while that change is prepared, and enters the hash table before it is
//! made. Later would be too late: a file handle that was guessed, or an old number that somebody
//! still looks for, would lead to what is on the medium, and there were two inodes. Each type can
//! only be consumed by the step that may follow, and dropping it at any time undoes what was done
//! so far.
//!
//! Hazard: the VFS evicts and destroys inodes that never got their data (a failed lookup, a create
//! on a full device). So every entry point of the super block looks at `Container::state` before
//! it makes an [`INode`] of the pointer; all other callbacks can be reached through initialised
//! inodes only, since the operation tables are set last.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{
    attributes, directory,
    inode_cache::{Container, State},
    super_block::SuperBlock,
    symlink, Complete, FileSystem,
};
use crate::bindings::c;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{self, NonNull},
    sync::atomic::Ordering,
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
    types::{NotThreadSafe, Opaque},
};

/// An inode of a filesystem of type `T`.
///
/// # Invariants
///
/// It is the first field of a [`Container`] whose `state` is [`State::Initialised`]: data and
/// operation tables are set. It is alive as long as a reference counts it or a callback's caller
/// holds one.
#[repr(transparent)]
pub(crate) struct INode<T: FileSystem> {
    inode: Opaque<c::inode>,
    _filesystem: PhantomData<T>,
}

// SAFETY: `struct inode` is made for use by all tasks; the methods only do what may be done
// concurrently, or ask for evidence of a lock. `INodeData` is `Send + Sync` by its bounds.
unsafe impl<T: FileSystem> Send for INode<T> {}
// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for INode<T> {}

// SAFETY: `ihold` and `iput` count references; an inode with references is not destroyed.
unsafe impl<T: FileSystem> AlwaysRefCounted for INode<T> {
    fn inc_ref(&self) {
        // SAFETY: A reference to it exists, so the count is not zero.
        unsafe { c::ihold(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference that it owns.
        unsafe { c::iput(obj.as_ptr().cast()) };
    }
}

impl<T: FileSystem> INode<T> {
    /// The inode behind a pointer that the VFS passed to a callback.
    ///
    /// # Safety
    ///
    /// `inode` belongs to a filesystem of type `T`, is initialised, and stays alive for `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(inode: *mut c::inode) -> &'a Self {
        // SAFETY: By the caller's promise; the type is transparent. INVARIANT: likewise.
        unsafe { &*inode.cast() }
    }

    /// The inode, if it was ever initialised: see the hazard at the top.
    ///
    /// # Safety
    ///
    /// `inode` belongs to a filesystem of type `T` and stays alive for `'a`.
    pub(super) unsafe fn from_raw_checked<'a>(inode: *mut c::inode) -> Option<&'a Self> {
        // SAFETY: All inodes of `T` are allocated as containers.
        let state = unsafe { *(*inode.cast::<Container<T>>()).state.get() };
        // SAFETY: Initialised, and alive by the caller's promise.
        (state == State::Initialised).then(|| unsafe { Self::from_raw(inode) })
    }

    /// The C object.
    #[inline]
    pub(super) fn as_ptr(&self) -> *mut c::inode {
        self.inode.get()
    }

    /// The filesystem's part.
    #[inline]
    pub(crate) fn data(&self) -> &T::INodeData {
        // SAFETY: By the invariants this is a container with data, which lives as long as `self`.
        unsafe { (*(*ptr::from_ref(self).cast::<Container<T>>()).data.get()).assume_init_ref() }
    }

    /// The super block.
    #[inline]
    pub(crate) fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: `i_sb` never changes and outlives its inodes; inodes are initialised only after
        // the super block has its data.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).i_sb) }
    }

    /// Number.
    #[inline]
    pub(crate) fn ino(&self) -> u64 {
        // SAFETY: Set before the inode became known, constant since.
        unsafe { (*self.as_ptr()).i_ino }
    }

    /// Generation: differs between two uses of a number.
    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        // SAFETY: As for `ino`.
        unsafe { (*self.as_ptr()).i_generation }
    }

    /// Size in bytes. May change at any time unless `i_rwsem` is held.
    #[inline]
    pub(crate) fn size(&self) -> u64 {
        // SAFETY: An aligned word that writers store at once.
        let size = unsafe { ptr::read_volatile(&raw const (*self.as_ptr()).i_size) };
        size.max(0) as u64
    }

    /// Number of names. May change at any time unless `i_rwsem` is held.
    #[inline]
    pub(crate) fn nlink(&self) -> u32 {
        // SAFETY: An aligned word that writers store at once.
        unsafe { ptr::read_volatile(&raw const (*self.as_ptr()).__bindgen_anon_1.i_nlink) }
    }

    /// Whether anybody can find it after a restart: it has a name, or is a file without a name that can get one.
    pub(crate) fn may_have_name(&self) -> bool {
        // SAFETY: The inode is alive, and its `i_lock` not held: that is the VFS's alone.
        unsafe { c::ochre_inode_may_have_name(self.as_ptr()) }
    }

    /// Type and permissions, as `st_mode`.
    #[inline]
    pub(crate) fn mode(&self) -> u16 {
        // SAFETY: An aligned word that writers store at once.
        unsafe { ptr::read_volatile(&raw const (*self.as_ptr()).i_mode) }
    }

    /// Whether it is a directory.
    #[inline]
    pub(crate) fn is_directory(&self) -> bool {
        u32::from(self.mode()) & c::S_IFMT == c::S_IFDIR
    }

    /// Whether it has [`Flags::NOATIME`], which new inodes take from their directory.
    pub(crate) fn has_noatime(&self) -> bool {
        // SAFETY: An aligned word that writers store at once.
        let flags = unsafe { ptr::read_volatile(&raw const (*self.as_ptr()).i_flags) };
        flags & c::S_NOATIME != 0
    }

    /// No change at all is allowed, or none but appending: [`Flags::IMMUTABLE`], [`Flags::APPEND`].
    pub(super) fn protection(&self) -> (bool, bool) {
        // SAFETY: An aligned word that writers store at once.
        let flags = unsafe { ptr::read_volatile(&raw const (*self.as_ptr()).i_flags) };
        (flags & c::S_IMMUTABLE != 0, flags & c::S_APPEND != 0)
    }

    /// Sets those of [`Flags`] that can change while an inode is in use.
    pub(super) fn replace_flags(&self, flags: Flags) {
        let mask = c::S_IMMUTABLE | c::S_APPEND | c::S_NOATIME;
        // SAFETY: Changes the word atomically.
        unsafe { c::inode_set_flags(self.as_ptr(), flags.0 & mask, mask) };
    }

    /// Owner and group as the medium has them.
    pub(crate) fn owner(&self) -> (u32, u32) {
        // SAFETY: Reads two aligned words and the (constant) user namespace.
        unsafe {
            (
                c::ochre_inode_uid(self.as_ptr()),
                c::ochre_inode_gid(self.as_ptr()),
            )
        }
    }

    /// Access, modification and change time, in nanoseconds since the epoch.
    pub(crate) fn times(&self) -> Times {
        // SAFETY: Readers of times take no lock; they may see a mix of two updates.
        unsafe {
            Times {
                atime: c::ochre_inode_atime(self.as_ptr()),
                mtime: c::ochre_inode_mtime(self.as_ptr()),
                ctime: c::ochre_inode_ctime(self.as_ptr()),
            }
        }
    }

    /// Moves the change time to now (to a value that differs from one that was looked at, where
    /// the clock is too coarse to do so by itself) and returns it.
    #[inline]
    pub(crate) fn set_ctime_current(&self) -> i64 {
        // SAFETY: Times are set without a lock all over the kernel: a reader may see seconds and
        // nanoseconds of two updates.
        unsafe { c::ochre_inode_set_ctime_current(self.as_ptr()) }
    }

    /// Sets the change time.
    #[inline]
    pub(crate) fn set_ctime(&self, time: i64) {
        // SAFETY: As for `set_ctime_current`.
        unsafe { c::ochre_inode_set_ctime(self.as_ptr(), time) };
    }

    fn container(&self) -> &Container<T> {
        // SAFETY: By the invariants it is the first field of one, whose other shared parts are
        // atomic or have their own rules.
        unsafe { &*ptr::from_ref(self).cast() }
    }

    /// Somebody has the file open, or mapped. May change at any time.
    pub(crate) fn is_open(&self) -> bool {
        self.container().openers.load(Ordering::Acquire) > 0
    }

    /// One more has it open.
    pub(super) fn opened(&self) {
        self.container().openers.fetch_add(1, Ordering::AcqRel);
    }

    /// One less has it open; true: that was the last.
    pub(super) fn closed(&self) -> bool {
        self.container().openers.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// A counted reference.
    pub(crate) fn grab(&self) -> ARef<Self> {
        self.into()
    }
}

/// Times in nanoseconds since the epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// Last access.
    pub(crate) atime: i64,
    /// Last change of the data.
    pub(crate) mtime: i64,
    /// Last change of the inode.
    pub(crate) ctime: i64,
}

/// Evidence that the current task holds the object's lock exclusively (an inode's `i_rwsem`)
/// until `'a` ends. It is copied freely; who took the lock gives it back.
pub(crate) struct Locked<'a, O> {
    object: &'a O,
    _task: NotThreadSafe,
}

impl<O> Clone for Locked<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for Locked<'_, O> {}

impl<'a, O> Locked<'a, O> {
    /// # Safety
    ///
    /// The current task holds the lock of `object` exclusively for `'a`.
    #[inline]
    pub(super) unsafe fn new(object: &'a O) -> Self {
        Self {
            object,
            _task: NotThreadSafe,
        }
    }

    /// The object, for as long as the lock is held.
    #[inline]
    pub(crate) fn get(self) -> &'a O {
        self.object
    }
}

impl<O> Deref for Locked<'_, O> {
    type Target = O;

    #[inline]
    fn deref(&self) -> &O {
        self.object
    }
}

impl<T: FileSystem> Locked<'_, INode<T>> {
    /// Sets modification and change time.
    #[inline]
    pub(crate) fn set_mctime(self, time: i64) {
        // SAFETY: The lock is held.
        unsafe { c::ochre_inode_set_mctime(self.as_ptr(), time) };
    }

    /// One more name.
    #[inline]
    pub(crate) fn inc_nlink(self) {
        // SAFETY: The lock is held.
        unsafe { c::inc_nlink(self.as_ptr()) };
    }

    /// One name less. The last one lets the inode be evicted once nobody uses it.
    #[inline]
    pub(crate) fn drop_nlink(self) {
        // SAFETY: The lock is held.
        unsafe { c::drop_nlink(self.as_ptr()) };
    }

    /// No name left.
    #[inline]
    pub(crate) fn clear_nlink(self) {
        // SAFETY: The lock is held.
        unsafe { c::clear_nlink(self.as_ptr()) };
    }
}

/// What kind of inode to make of a half-built one.
pub(crate) enum Kind {
    /// A file with data.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(symlink::Target),
    /// A device, pipe or socket. The number is as [`encode_device`] makes it; 0 for the latter.
    Special(u32),
}

/// What an inode shows to the VFS.
pub(crate) struct Params<T: FileSystem> {
    /// Generation of the number.
    pub(crate) generation: u32,
    /// Full `st_mode`.
    pub(crate) mode: u16,
    /// Owner as the medium has it.
    pub(crate) uid: u32,
    /// Group as the medium has it.
    pub(crate) gid: u32,
    /// Number of names.
    pub(crate) nlink: u32,
    /// Bytes.
    pub(crate) size: u64,
    /// Times.
    pub(crate) times: Times,
    /// `S_IMMUTABLE`, `S_APPEND` and the like.
    pub(crate) flags: Flags,
    /// Kind.
    pub(crate) kind: Kind,
    /// The filesystem's part.
    pub(crate) data: T::INodeData,
}

/// Flags of an inode that change what the VFS allows.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flags(u32);

impl Flags {
    /// File data is mapped from the medium itself.
    pub(crate) const DAX: Self = Self(c::S_DAX);
    /// No change at all.
    pub(crate) const IMMUTABLE: Self = Self(c::S_IMMUTABLE);
    /// Data can only be added.
    pub(crate) const APPEND: Self = Self(c::S_APPEND);
    /// No access times.
    pub(crate) const NOATIME: Self = Self(c::S_NOATIME);

    /// Both.
    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A device number in the form that Linux filesystems store.
pub(crate) fn encode_device(device: c::dev_t) -> u32 {
    // SAFETY: Plain arithmetic.
    unsafe { c::ochre_new_encode_dev(device) }
}

/// Sets everything that an inode needs to be used.
///
/// # Safety
///
/// `inode` is a container in state [`State::Raw`] that only the caller works on.
unsafe fn initialise<T: Complete>(inode: NonNull<c::inode>, params: Params<T>) {
    let raw = inode.as_ptr();
    let container = raw.cast::<Container<T>>();
    // SAFETY: Only we work on it, by the caller's promise.
    unsafe {
        (*(*container).data.get()).write(params.data);
        // INVARIANT: `data` is set, and the tables below before anybody sees the inode.
        *(*container).state.get() = State::Initialised;
        (*raw).i_mode = params.mode;
        (*raw).i_generation = params.generation;
        (*raw).i_size = params.size as i64;
        (*raw).i_flags |= params.flags.0;
        c::ochre_inode_set_uid_gid(raw, params.uid, params.gid);
        c::ochre_inode_set_times(
            raw,
            params.times.atime,
            params.times.mtime,
            params.times.ctime,
        );
        c::set_nlink(raw, params.nlink);
    }
    // SAFETY: As above; the tables are static and belong to `T`.
    unsafe {
        match params.kind {
            Kind::Regular => {
                (*raw).i_op = attributes::regular_operations::<T>();
                (*raw).__bindgen_anon_3.i_fop = super::file_data::operations::<T>();
                (*(*raw).i_mapping).a_ops = super::file_data::address_space_operations::<T>();
            }
            Kind::Directory => {
                (*raw).i_op = directory::inode_operations::<T>();
                (*raw).__bindgen_anon_3.i_fop = directory::file_operations::<T>();
            }
            Kind::Symlink(target) => {
                (*raw).i_op = symlink::inode_operations::<T>();
                (*raw).__bindgen_anon_5.i_link = target.into_raw().cast();
            }
            Kind::Special(device) => {
                (*raw).i_op = attributes::special_operations::<T>();
                c::init_special_inode(raw, params.mode, c::ochre_new_decode_dev(device));
            }
        }
    }
}

/// An inode that the cache made for a number; others who want it wait until it is initialised.
///
/// # Invariants
///
/// A container in state [`State::Raw`], hashed, with `I_NEW` set and one reference that is ours.
pub(crate) struct New<T: FileSystem> {
    inode: NonNull<c::inode>,
    _filesystem: PhantomData<T>,
}

impl<T: Complete> New<T> {
    /// Initialises it and lets the others go on.
    pub(crate) fn init(self, params: Params<T>) -> ARef<INode<T>> {
        let inode = ManuallyDrop::new(self).inode;
        // SAFETY: By the invariants; `I_NEW` keeps others away. The reference moves to the result.
        unsafe {
            initialise(inode, params);
            c::unlock_new_inode(inode.as_ptr());
            ARef::from_raw(inode.cast())
        }
    }
}

impl<T: FileSystem> Drop for New<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants. Wakes the waiters, who find it unhashed and look again.
        unsafe { c::iget_failed(self.inode.as_ptr()) };
    }
}

/// An inode for a number.
pub(crate) enum Found<T: FileSystem> {
    /// It was in the cache.
    Cached(ARef<INode<T>>),
    /// It was not; make it one.
    New(New<T>),
}

impl<T: FileSystem> SuperBlock<T> {
    /// The inode for `ino`, from the cache or to be made. May wait for somebody who makes it.
    ///
    /// `ESTALE` while a file with this number is being created: nobody can have been told of it.
    pub(crate) fn inode(&self, ino: u64) -> Result<Found<T>> {
        let mut tries = 2;
        let inode = loop {
            // SAFETY: The super block is alive.
            if let Some(inode) = NonNull::new(unsafe { c::iget_locked(self.as_ptr(), ino) }) {
                break inode;
            }
            // SAFETY: As above.
            if unsafe { c::ochre_inode_being_created(self.as_ptr(), ino) } {
                return Err(Error::from_errno(-(c::ESTALE as c_int)));
            }
            tries -= 1; // It may have come to be between the two looks.
            if tries == 0 {
                return Err(ENOMEM);
            }
        };
        // SAFETY: We own a reference.
        if unsafe { c::ochre_inode_is_new(inode.as_ptr()) } {
            // INVARIANT: `iget_locked` says so.
            return Ok(Found::New(New {
                inode,
                _filesystem: PhantomData,
            }));
        }
        // SAFETY: The reference is ours. Failed inodes are unhashed before they are unlocked, so
        // this one was initialised.
        Ok(Found::Cached(unsafe { ARef::from_raw(inode.cast()) }))
    }

    /// Memory for an inode that is about to be created.
    pub(crate) fn fresh_inode(&self) -> Result<Fresh<T>> {
        // SAFETY: The super block is alive.
        let inode = NonNull::new(unsafe { c::new_inode(self.as_ptr()) }).ok_or(ENOMEM)?;
        // INVARIANT: Just allocated, and not hashed.
        Ok(Fresh {
            inode,
            _filesystem: PhantomData,
        })
    }
}

/// An inode without number.
///
/// # Invariants
///
/// A container in state [`State::Raw`] that only its owner knows, with one reference.
pub(crate) struct Fresh<T: FileSystem> {
    inode: NonNull<c::inode>,
    _filesystem: PhantomData<T>,
}

/// Owner and mode of a new inode.
pub(crate) struct Ownership {
    /// Full `st_mode`, set-group-id inherited or cleared as it has to be.
    pub(crate) mode: u16,
    /// Owner as the medium is to have it.
    pub(crate) uid: u32,
    /// Group as the medium is to have it.
    pub(crate) gid: u32,
}

impl<T: FileSystem> Fresh<T> {
    /// Works out who owns what `dir` is to hold, as seen through `idmap`.
    pub(crate) fn init_owner(
        &self,
        idmap: &attributes::MntIdmap,
        dir: &INode<T>,
        mode: u16,
    ) -> Ownership {
        let inode = self.inode.as_ptr();
        // SAFETY: Only we know the inode; the directory is alive.
        unsafe {
            c::inode_init_owner(idmap.as_ptr(), inode, dir.as_ptr(), mode);
            Ownership {
                mode: (*inode).i_mode,
                uid: c::ochre_inode_uid(inode),
                gid: c::ochre_inode_gid(inode),
            }
        }
    }
}

impl<T: FileSystem> Fresh<T> {
    /// The time at which it is made.
    pub(crate) fn now(&self) -> i64 {
        // SAFETY: Only we know the inode.
        unsafe { c::ochre_inode_set_ctime_current(self.inode.as_ptr()) }
    }
}

impl<T: FileSystem> Fresh<T> {
    /// Gives it its number and enters it into the cache. Whoever looks for this number already is
    /// waited for, and who still evicts its last use.
    ///
    /// `EBUSY`: an inode with this number is in the cache, which means that it was handed out twice.
    pub(crate) fn claim(self, ino: u64) -> Result<Claimed<T>> {
        // SAFETY: Only we know it until it is hashed, which is last; `I_NEW` is set then.
        unsafe {
            (*self.inode.as_ptr()).i_ino = ino;
            to_result(c::insert_inode_locked(self.inode.as_ptr()))?;
        }
        // INVARIANT: Just made so.
        Ok(Claimed {
            inode: ManuallyDrop::new(self).inode,
            _filesystem: PhantomData,
        })
    }
}

impl<T: FileSystem> Drop for Fresh<T> {
    fn drop(&mut self) {
        // SAFETY: The reference is ours; without data, evicting it does nothing.
        unsafe { c::iput(self.inode.as_ptr()) };
    }
}

/// An inode that has its number, and nothing else yet. Whoever looks for the number is told `ESTALE`.
///
/// # Invariants
///
/// A container in state [`State::Raw`], hashed, with `I_NEW` and `I_CREATING` set and one reference
/// that is ours.
pub(crate) struct Claimed<T: FileSystem> {
    inode: NonNull<c::inode>,
    _filesystem: PhantomData<T>,
}

impl<T: Complete> Claimed<T> {
    /// Gives it its content; it stays locked.
    pub(crate) fn init(self, params: Params<T>) -> Created<T> {
        let inode = ManuallyDrop::new(self).inode;
        // SAFETY: By the invariants; `I_NEW` keeps others away.
        unsafe { initialise(inode, params) };
        // INVARIANT: Just made so.
        Created {
            inode,
            _filesystem: PhantomData,
        }
    }

    /// As [`Claimed::init`], for an inode that has no name yet and need not be found by one.
    pub(crate) fn init_unlocked(self, params: Params<T>) -> ARef<INode<T>> {
        let created = ManuallyDrop::new(self.init(params));
        // SAFETY: By the invariants of `Created`; the reference moves to the result.
        unsafe {
            c::unlock_new_inode(created.inode.as_ptr());
            ARef::from_raw(created.inode.cast())
        }
    }
}

impl<T: FileSystem> Drop for Claimed<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants. Without data, evicting it does nothing.
        unsafe { c::iget_failed(self.inode.as_ptr()) };
    }
}

/// An initialised inode that nobody else can use yet. [`Negative::instantiate`](super::dentry::Negative::instantiate) gives it
/// its name and unlocks it.
///
/// # Invariants
///
/// Initialised, hashed, with `I_NEW` set and one reference that is ours.
pub(crate) struct Created<T: FileSystem> {
    inode: NonNull<c::inode>,
    _filesystem: PhantomData<T>,
}

impl<T: FileSystem> Created<T> {
    /// Hands over the reference, and the duty to unlock.
    pub(super) fn into_raw(self) -> *mut c::inode {
        ManuallyDrop::new(self).inode.as_ptr()
    }
}

impl<T: FileSystem> Drop for Created<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants.
        unsafe { c::discard_new_inode(self.inode.as_ptr()) };
    }
}

/// A counted reference as the VFS wants to be given it.
pub(super) fn into_raw<T: FileSystem>(inode: ARef<INode<T>>) -> *mut c::inode {
    ARef::into_raw(inode).as_ptr().cast()
}
