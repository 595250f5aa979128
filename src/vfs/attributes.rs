// SPDX-License-Identifier: GPL-2.0

//! Attributes of inodes: `stat`, `chmod`, `chown`, `utimensat`, `truncate`, `chattr`.
//!
//! What: [`Operations`] is what a filesystem does when attributes are asked for or change;
//! [`Change`] is a change that the VFS has checked already. [`MntIdmap`] says how owners look
//! through a mount.
//!
//! How a change goes: the VFS's copy in the inode is set first, by the kernel's own rules (which
//! know about ID-mapped mounts, set-group-id and multigrain times), then the filesystem stores
//! what is there now. If that fails the former values come back: [`Change`] remembers them.
//! Nobody else changes them meanwhile, since `i_rwsem` is held.
//!
//! Hazard: a size is not an attribute in this sense. It changes through
//! [`Operations::set_size`] alone, which has pages to unmap and blocks to free, and may drop and
//! retake the lock; so it goes first, and the rest is worked out after it. What `notify_change` has
//! worked out before it called us, it has for the inode of that moment: a mode without
//! set-id bits would undo a `chmod` made while the lock was gone, and set-id bits given in that time would
//! survive the change of the content. [`prepare_again`] works it out anew.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{
    inode::{Flags, INode, Locked, Times},
    memalloc::NofsScope,
    rwsem::Exclusive,
    Complete, FileSystem,
};
use crate::bindings::c;
use core::marker::PhantomData;
use kernel::{
    error::{from_result, to_result},
    prelude::*,
    types::Opaque,
};

/// How a mount maps owners.
#[repr(transparent)]
pub(crate) struct MntIdmap(Opaque<c::mnt_idmap>);

impl MntIdmap {
    /// # Safety
    ///
    /// `idmap` is alive for `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(idmap: *mut c::mnt_idmap) -> &'a Self {
        // SAFETY: By the caller's promise; the type is transparent.
        unsafe { &*idmap.cast() }
    }

    /// The C object.
    #[inline]
    pub(super) fn as_ptr(&self) -> *mut c::mnt_idmap {
        self.0.get()
    }
}

/// What only the filesystem knows of an inode.
pub(crate) struct Details {
    /// Birth, in nanoseconds since the epoch.
    pub(crate) btime: i64,
    /// Allocated bytes in units of 512.
    pub(crate) sectors: u64,
    /// `STATX_ATTR_*` that are set…
    pub(crate) attributes: u64,
    /// …among those that could be.
    pub(crate) attributes_mask: u64,
}

/// Bits for [`Details::attributes`].
pub(crate) const ATTRIBUTE_IMMUTABLE: u64 = c::STATX_ATTR_IMMUTABLE as u64;
/// Bits for [`Details::attributes`].
pub(crate) const ATTRIBUTE_APPEND: u64 = c::STATX_ATTR_APPEND as u64;
/// Bits for [`Details::attributes`].
pub(crate) const ATTRIBUTE_NODUMP: u64 = c::STATX_ATTR_NODUMP as u64;

/// Which attributes changed; their new values are in the inode.
#[derive(Clone, Copy)]
pub(crate) struct Changed {
    valid: u32,
}

impl Changed {
    /// Type and permissions did.
    pub(crate) fn mode(self) -> bool {
        self.valid & c::ATTR_MODE != 0
    }

    /// The owner did.
    pub(crate) fn uid(self) -> bool {
        self.valid & c::ATTR_UID != 0
    }

    /// The group did.
    pub(crate) fn gid(self) -> bool {
        self.valid & c::ATTR_GID != 0
    }

    /// The access time did.
    pub(crate) fn atime(self) -> bool {
        self.valid & c::ATTR_ATIME != 0
    }

    /// The modification time did.
    pub(crate) fn mtime(self) -> bool {
        self.valid & c::ATTR_MTIME != 0
    }

    /// The change time did.
    pub(crate) fn ctime(self) -> bool {
        self.valid & c::ATTR_CTIME != 0
    }

    /// Nothing did that a change of size does not store as well.
    fn is_covered_by_size(self) -> bool {
        const STORED: u32 = c::ATTR_MODE
            | c::ATTR_UID
            | c::ATTR_GID
            | c::ATTR_ATIME
            | c::ATTR_ATIME_SET
            | c::ATTR_MTIME_SET;
        self.valid & STORED == 0
    }
}

/// What a filesystem does about attributes.
pub(crate) trait Operations: FileSystem {
    /// What `stat` cannot find in the inode.
    fn details(inode: &INode<Self>) -> Details;

    /// Stores the changed attributes, durably.
    fn store(inode: Locked<'_, INode<Self>>, changed: Changed) -> Result;

    /// Flags that can be set, as `FS_IOC_SETFLAGS` has them.
    const FLAGS: u32;

    /// Those of them that are set.
    fn flags(inode: &INode<Self>) -> u32;

    /// Stores other ones, and the inode's change time, durably. Returns what the VFS acts on.
    fn set_flags(inode: Locked<'_, INode<Self>>, flags: u32) -> Result<Flags>;

    /// Sets the size of a regular file, with the inode's modification and change time.
    fn set_size(inode: &mut Exclusive<'_, Self>, size: u64) -> Result;

    /// Stores times of the inode that an access changed: `atime` only, or all but `atime`. Others may change them at the same
    /// time. Need not be durable.
    fn store_times(inode: &INode<Self>, access: bool) -> Result;
}

/// The tables of C functions.
pub(super) struct Tables<T>(PhantomData<T>);

impl<T: Complete> Tables<T> {
    /// What all kinds of inodes have.
    pub(super) const COMMON: c::inode_operations = c::inode_operations {
        getattr: Some(Self::getattr),
        setattr: Some(Self::setattr),
        update_time: Some(Self::update_time),
        fileattr_get: Some(Self::fileattr_get),
        fileattr_set: Some(Self::fileattr_set),
        // Extended attributes will add `listxattr`, `get_inode_acl` and `set_acl` here.
        ..pin_init::zeroed()
    };

    const REGULAR: c::inode_operations = c::inode_operations {
        fiemap: super::file_data::fiemap::<T>(),
        ..Self::COMMON
    };

    const SPECIAL: c::inode_operations = Self::COMMON;

    /// # Safety
    ///
    /// For the kernel to call, as the `getattr` that it documents.
    unsafe extern "C" fn getattr(
        idmap: *mut c::mnt_idmap,
        path: *const c::path,
        stat: *mut c::kstat,
        request: u32,
        _flags: c_uint,
    ) -> c_int {
        // SAFETY: The VFS holds the path; the dentry is positive. `stat` is this task's.
        unsafe {
            let raw = (*(*path).dentry).d_inode;
            let details = T::details(INode::from_raw(raw));
            c::generic_fillattr(idmap, request, raw, stat);
            (*stat).blocks = details.sectors;
            (*stat).attributes |= details.attributes;
            (*stat).attributes_mask |= details.attributes_mask;
            if request & c::STATX_BTIME != 0 {
                (*stat).result_mask |= c::STATX_BTIME;
                (*stat).btime = c::timespec64 {
                    tv_sec: details.btime.div_euclid(1_000_000_000),
                    tv_nsec: details.btime.rem_euclid(1_000_000_000) as isize,
                };
            }
        }
        0
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `setattr` that it documents.
    unsafe extern "C" fn setattr(
        idmap: *mut c::mnt_idmap,
        dentry: *mut c::dentry,
        attr: *mut c::iattr,
    ) -> c_int {
        let _scope = NofsScope::enter();
        // SAFETY: The VFS holds the dentry, and `i_rwsem` of its inode exclusively. `attr` is this
        // task's.
        from_result(|| unsafe {
            let inode = INode::<T>::from_raw((*dentry).d_inode);
            to_result(c::setattr_prepare(idmap, dentry, attr))?;
            let sized = (*attr).ia_valid & c::ATTR_SIZE != 0;
            if sized {
                let size = (*attr).ia_size.max(0) as u64;
                let ready = |_: &Exclusive<'_, T>| prepare_again(inode, idmap, dentry, attr);
                let mut lock = Exclusive::held_by_caller(inode);
                lock.ready_again_with(&ready);
                T::set_size(&mut lock, size)?;
            }
            let changed = Changed {
                valid: (*attr).ia_valid,
            };
            if sized && changed.is_covered_by_size() {
                return Ok(0);
            }
            let locked = Locked::new(inode);
            let undo = Former::of(inode);
            c::setattr_copy(idmap, inode.as_ptr(), attr);
            if let Err(error) = T::store(locked, changed) {
                undo.restore(locked);
                return Err(error);
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `update_time` that it documents.
    unsafe extern "C" fn update_time(
        inode: *mut c::inode,
        kind: c::fs_update_time,
        flags: c_uint,
    ) -> c_int {
        let _scope = NofsScope::enter();
        // SAFETY: The VFS holds a reference.
        from_result(|| unsafe {
            if flags & c::ochre_flags_OCHRE_NOWAIT != 0 {
                return Err(EAGAIN);
            }
            // With lazytime too the times are stored at once: it costs a few stores, and nothing
            // is dirty that an unmount or a crash would have to care about.
            let dirty = c::inode_update_time(inode, kind, flags);
            if dirty <= 0 {
                return to_result(dirty).map(|()| 0);
            }
            let inode = INode::<T>::from_raw(inode);
            T::store_times(inode, kind == c::fs_update_time_FS_UPD_ATIME)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `fileattr_get` that it documents.
    unsafe extern "C" fn fileattr_get(dentry: *mut c::dentry, fa: *mut c::file_kattr) -> c_int {
        // SAFETY: The VFS holds the dentry, which is positive. `fa` is this task's.
        unsafe {
            let inode = INode::<T>::from_raw((*dentry).d_inode);
            c::ochre_fileattr_fill(fa, T::flags(inode));
        }
        0
    }

    /// Who may change which flag has been looked at by the VFS.
    ///
    /// # Safety
    ///
    /// For the kernel to call, as the `fileattr_set` that it documents.
    unsafe extern "C" fn fileattr_set(
        _idmap: *mut c::mnt_idmap,
        dentry: *mut c::dentry,
        fa: *mut c::file_kattr,
    ) -> c_int {
        let _scope = NofsScope::enter();
        // SAFETY: The VFS holds the dentry, and `i_rwsem` of its inode exclusively. `fa` is this
        // task's.
        from_result(|| unsafe {
            let flags = c::ochre_fileattr_flags(fa);
            if flags & !T::FLAGS != 0 {
                return to_result(-(c::EOPNOTSUPP as c_int)).map(|()| 0);
            }
            let inode = INode::<T>::from_raw((*dentry).d_inode);
            let locked = Locked::new(inode);
            let undo = Former::of(inode);
            let _ = inode.set_ctime_current();
            match T::set_flags(locked, flags) {
                Ok(flags) => locked.replace_flags(flags),
                Err(error) => {
                    undo.restore(locked);
                    return Err(error);
                }
            }
            Ok(0)
        })
    }
}

/// What `notify_change` and its callers do under `i_rwsem`, and before it, once more, since it was let go of: a change of
/// size is about to go on. A mode that the caller asked for stays; one that `notify_change` made by taking set-id bits
/// away, which the bits `ATTR_KILL_*` tell, is made again.
///
/// # Safety
///
/// `i_rwsem` is held exclusively; `dentry` is the inode's, and `attr` this task's.
unsafe fn prepare_again<T: FileSystem>(
    inode: &INode<T>,
    idmap: *mut c::mnt_idmap,
    dentry: *mut c::dentry,
    attr: *mut c::iattr,
) -> Result {
    const KILL: u32 = c::ATTR_KILL_SUID | c::ATTR_KILL_SGID;
    let (immutable, append) = inode.protection();
    if immutable || append {
        return Err(EPERM);
    }
    // SAFETY: By the caller's promise.
    unsafe {
        let asked = (*attr).ia_valid & KILL;
        let derived = asked != 0 || (*attr).ia_valid & c::ATTR_MODE == 0;
        if derived {
            (*attr).ia_valid &= !c::ATTR_MODE;
        }
        to_result(c::setattr_prepare(idmap, dentry, attr))?;
        if derived {
            let kill = asked | c::setattr_should_drop_suidgid(idmap, inode.as_ptr()) as u32 & KILL;
            let now = inode.mode();
            let mut mode = now;
            if kill & c::ATTR_KILL_SUID != 0 {
                mode &= !(c::S_ISUID as u16);
            }
            if kill & c::ATTR_KILL_SGID != 0 {
                mode &= !(c::S_ISGID as u16);
            }
            if mode != now {
                (*attr).ia_valid |= kill | c::ATTR_MODE;
                (*attr).ia_mode = mode;
            }
        }
    }
    Ok(())
}

/// What an inode's attributes were before a change.
struct Former {
    mode: u16,
    owner: (u32, u32),
    times: Times,
}

impl Former {
    fn of<T: FileSystem>(inode: &INode<T>) -> Self {
        Self {
            mode: inode.mode(),
            owner: inode.owner(),
            times: inode.times(),
        }
    }

    fn restore<T: FileSystem>(self, inode: Locked<'_, INode<T>>) {
        let raw = inode.as_ptr();
        // SAFETY: The lock is held.
        unsafe {
            (*raw).i_mode = self.mode;
            c::ochre_inode_set_uid_gid(raw, self.owner.0, self.owner.1);
            c::ochre_inode_set_times(raw, self.times.atime, self.times.mtime, self.times.ctime);
        }
    }
}

/// For regular files.
pub(super) fn regular_operations<T: Complete>() -> *const c::inode_operations {
    &Tables::<T>::REGULAR
}

/// For devices, pipes and sockets.
pub(super) fn special_operations<T: Complete>() -> *const c::inode_operations {
    &Tables::<T>::SPECIAL
}
