// SPDX-License-Identifier: GPL-2.0

//! Dentries: names in the cache.
//!
//! What: three views of `struct dentry`, by what the VFS guarantees about it during a call.
//! [`Name`] is any name in a directory whose lock keeps it from changing; [`Negative`] has no
//! inode yet, and is consumed by getting one; [`Positive`] has one.
//!
//! Hazard: a dentry's name changes under a rename, and the old string may be freed. It may be read
//! as a slice only while the parent's `i_rwsem` is held, which the VFS does around every call that
//! passes one of these types; hence their lifetimes, and hence no type for dentries at large.
//!
//! C header: [`include/linux/dcache.h`](srctree/include/linux/dcache.h).

use super::{
    inode::{self, Created, INode, Locked},
    Complete, FileSystem,
};
use crate::bindings::c;
use core::{marker::PhantomData, slice};
use kernel::sync::aref::ARef;

/// A name whose directory is locked.
///
/// # Invariants
///
/// The dentry is alive and keeps its name and parent for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Name<'a> {
    dentry: *mut c::dentry,
    _borrow: PhantomData<&'a c::dentry>,
}

impl<'a> Name<'a> {
    /// # Safety
    ///
    /// As the invariants say.
    #[inline]
    pub(super) unsafe fn from_raw(dentry: *mut c::dentry) -> Self {
        Self {
            dentry,
            _borrow: PhantomData,
        }
    }

    /// The name's bytes: neither NUL nor slash, at least one.
    #[inline]
    pub(crate) fn bytes(self) -> &'a [u8] {
        // SAFETY: By the invariants the name stays as it is.
        unsafe {
            let name = &(*self.dentry).__bindgen_anon_1.d_name;
            slice::from_raw_parts(
                name.name.cast(),
                name.__bindgen_anon_1.__bindgen_anon_1.len as usize,
            )
        }
    }
}

/// A free name in a locked directory.
///
/// # Invariants
///
/// As for [`Name`]; the dentry has no inode, and only this call may give it one. The parent's
/// `i_rwsem` is held exclusively.
pub(crate) struct Negative<'a, T: FileSystem> {
    dentry: *mut c::dentry,
    _borrow: PhantomData<&'a INode<T>>,
}

impl<'a, T: FileSystem> Negative<'a, T> {
    /// # Safety
    ///
    /// As the invariants say.
    #[inline]
    pub(super) unsafe fn from_raw(dentry: *mut c::dentry) -> Self {
        Self {
            dentry,
            _borrow: PhantomData,
        }
    }

    /// The name.
    #[inline]
    pub(crate) fn name(&self) -> &'a [u8] {
        // SAFETY: By the invariants.
        unsafe { Name::from_raw(self.dentry) }.bytes()
    }

    /// Leads it to another inode that had no name in the cache so far, or others.
    pub(crate) fn instantiate_link(self, inode: ARef<INode<T>>) {
        // SAFETY: By the invariants; the dentry takes over the reference.
        unsafe { c::d_instantiate(self.dentry, inode::into_raw(inode)) };
    }
}

impl<T: Complete> Negative<'_, T> {
    /// Leads it to a new inode, which all may use from here on.
    pub(crate) fn instantiate(self, inode: Created<T>) {
        // SAFETY: By the invariants of both; the dentry takes over the reference.
        unsafe { c::d_instantiate_new(self.dentry, inode.into_raw()) };
    }
}

/// A name that leads to an inode, in a locked directory; both are locked.
///
/// # Invariants
///
/// As for [`Name`]; the dentry keeps its inode for `'a`. The `i_rwsem` of parent and inode are held
/// exclusively.
pub(crate) struct Positive<'a, T: FileSystem> {
    dentry: *mut c::dentry,
    _borrow: PhantomData<&'a INode<T>>,
}

impl<'a, T: FileSystem> Positive<'a, T> {
    /// # Safety
    ///
    /// As the invariants say.
    #[inline]
    pub(super) unsafe fn from_raw(dentry: *mut c::dentry) -> Self {
        Self {
            dentry,
            _borrow: PhantomData,
        }
    }

    /// The name.
    #[inline]
    pub(crate) fn name(&self) -> &'a [u8] {
        // SAFETY: By the invariants.
        unsafe { Name::from_raw(self.dentry) }.bytes()
    }

    /// The inode.
    #[inline]
    pub(crate) fn inode(&self) -> Locked<'a, INode<T>> {
        // SAFETY: By the invariants. Dentries lead to initialised inodes only.
        unsafe { Locked::new(INode::from_raw((*self.dentry).d_inode)) }
    }
}
