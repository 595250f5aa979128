// SPDX-License-Identifier: GPL-2.0

//! The memory of inodes.
//!
//! What: [`Cache`] is the slab cache of a filesystem type's inodes. Each object is a [`Container`]:
//! the VFS's inode and the filesystem's own part in one piece, so that an inode costs one
//! allocation, and the way from one to the other is no load.
//!
//! Hazard: an inode ends in two steps. [`destroy_inode`] drops the filesystem's part at once, in
//! process context, since dropping may free what must not be freed elsewhere. The memory itself
//! goes an RCU grace period later, by [`free_inode`]: path walks may still look at the VFS's part
//! (and at a symbolic link's text). By then the super block may be gone.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{background::Link, inode::INode, registration, Complete, FileSystem};
use crate::bindings::c;
use core::{
    cell::UnsafeCell, marker::PhantomData, mem::MaybeUninit, ptr::NonNull, sync::atomic::AtomicU32,
};
use kernel::{error::from_err_ptr, prelude::*};

/// How far an inode has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Allocated; `data` is no value yet.
    Raw,
    /// `data` is a value, the operation tables are set.
    Initialised,
}

/// What the slab cache holds.
///
/// # Invariants
///
/// `data` is initialised exactly if `state` is [`State::Initialised`]; both change only while one
/// task alone knows the inode: before it is unlocked for others, and when it is destroyed.
#[repr(C)]
pub(super) struct Container<T: FileSystem> {
    pub(super) inode: INode<T>,
    pub(super) state: UnsafeCell<State>,
    /// How many have it open, mappings included.
    pub(super) openers: AtomicU32,
    /// For the background thread.
    pub(super) link: Link,
    pub(super) data: UnsafeCell<MaybeUninit<T::INodeData>>,
}

/// The slab cache of a filesystem type's inodes.
///
/// # Invariants
///
/// `cache` is a live cache of [`Container`]s.
pub(super) struct Cache<T: FileSystem> {
    cache: NonNull<c::kmem_cache>,
    _filesystem: PhantomData<T>,
}

// SAFETY: The slab allocator is made for use by all tasks.
unsafe impl<T: FileSystem> Send for Cache<T> {}
// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for Cache<T> {}

impl<T: FileSystem> Cache<T> {
    /// Makes the cache.
    pub(super) fn new() -> Result<Self> {
        // SAFETY: The name is static. The constructor treats objects of just this size.
        let cache = unsafe {
            c::ochre_inode_cache_create(
                T::INODE_CACHE.as_char_ptr(),
                size_of::<Container<T>>() as u32,
                align_of::<Container<T>>() as u32,
                Some(construct::<T>),
            )
        };
        // INVARIANT: Just made.
        Ok(Self {
            cache: NonNull::new(from_err_ptr(cache)?).ok_or(ENOMEM)?,
            _filesystem: PhantomData,
        })
    }

    /// The C object.
    pub(super) fn as_ptr(&self) -> *mut c::kmem_cache {
        self.cache.as_ptr()
    }
}

impl<T: FileSystem> Drop for Cache<T> {
    fn drop(&mut self) {
        // SAFETY: No super block is left, so no new inodes; the barrier waits for those that RCU
        // still has to free.
        unsafe {
            c::rcu_barrier();
            c::kmem_cache_destroy(self.cache.as_ptr());
        }
    }
}

/// Called when a slab is made: sets what an inode keeps from one use to the next.
///
/// # Safety
///
/// For the kernel to call, as the `construct` that it documents.
unsafe extern "C" fn construct<T: FileSystem>(object: *mut c_void) {
    let container = object.cast::<Container<T>>();
    // SAFETY: The slab allocator passes memory for a container that nobody uses.
    unsafe {
        c::inode_init_once(object.cast());
        (&raw mut (*container).state).write(UnsafeCell::new(State::Raw));
        (&raw mut (*container).openers).write(AtomicU32::new(0));
        (&raw mut (*container).link).write(Link::new());
    }
}

/// `alloc_inode` of the super block.
///
/// # Safety
///
/// For the kernel to call, as the `alloc_inode` that it documents.
pub(super) unsafe extern "C" fn alloc_inode<T: Complete>(sb: *mut c::super_block) -> *mut c::inode {
    // SAFETY: The super block belongs to `T`, whose registration outlives it.
    let cache = unsafe { registration::cache_of::<T>(sb) };
    // SAFETY: Both are alive.
    let inode = unsafe { c::ochre_alloc_inode(sb, cache) };
    if !inode.is_null() {
        // SAFETY: An object of our cache, ours alone.
        unsafe { *(*inode.cast::<Container<T>>()).state.get() = State::Raw };
    }
    inode
}

/// `destroy_inode` of the super block: in process context, nobody uses the inode any more, except
/// that path walks under RCU may still look at its C part.
///
/// # Safety
///
/// For the kernel to call, as the `destroy_inode` that it documents.
pub(super) unsafe extern "C" fn destroy_inode<T: Complete>(inode: *mut c::inode) {
    let container = inode.cast::<Container<T>>();
    // SAFETY: A container that only we work on. INVARIANT: state and data change together.
    unsafe {
        if *(*container).state.get() == State::Initialised {
            *(*container).state.get() = State::Raw;
            (*(*container).data.get()).assume_init_drop();
        }
    }
}

/// `free_inode` of the super block: after an RCU grace period, in softirq context.
///
/// # Safety
///
/// For the kernel to call, as the `free_inode` that it documents.
pub(super) unsafe extern "C" fn free_inode(inode: *mut c::inode) {
    // SAFETY: Nobody uses the inode. `i_link` of a symbolic link is ours or null. `kfree` takes
    // objects of any slab cache (the super block, and so the way to the cache, may be gone).
    unsafe {
        if u32::from((*inode).i_mode) & c::S_IFMT == c::S_IFLNK {
            c::kfree((*inode).__bindgen_anon_5.i_link.cast());
        }
        c::kfree(inode.cast());
    }
}
