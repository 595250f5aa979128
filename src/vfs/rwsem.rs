// SPDX-License-Identifier: GPL-2.0

//! `i_rwsem`: who may change a file, and who may read it.
//!
//! What: [`Exclusive`] and [`Shared`] are *evidence* that this task holds the semaphore of an
//! inode. A function that needs it takes a reference to the evidence instead of a comment that
//! says "caller must hold".
//!
//! Why [`Exclusive::relax`]: the VFS calls `->setattr` with `i_rwsem` held, and a truncate may
//! have to wait for a page that a stranger holds, for as long as the stranger likes. ext4 and XFS
//! keep the semaphore for that time, and every reader of the file waits with them.
//!
//! Hazard: after `relax` nothing that was looked up before is true any more. Another task may
//! have truncated the file to zero; code that then went on with its old size would bring blocks
//! back that are someone else's. So it is with what the kernel's own code has found out for us before or
//! under the lock: permissions, limits, set-id bits that have to go. [`Exclusive::ready_again_with`]
//! repeats that each time that the lock was let go of.
//!
//! C header: `include/linux/fs.h`.

use crate::bindings::c;
use crate::vfs::inode::INode;
use crate::vfs::inode::Locked;
use crate::vfs::FileSystem;
use core::marker::PhantomData;
use kernel::error::to_result;
use kernel::prelude::*;

/// What has to hold, or be done, before a call changes a file.
pub(super) type Ready<'a, T> = dyn Fn(&Exclusive<'_, T>) -> Result + 'a;

/// Evidence that this task holds `i_rwsem` exclusively.
///
/// # Invariants
///
/// The semaphore of `inode` is held for write by this task; if `owned`, it is released on drop.
pub(crate) struct Exclusive<'a, T: FileSystem> {
    inode: &'a INode<T>,
    owned: bool,
    again: Option<&'a Ready<'a, T>>,
    /// The semaphore is released by the task that took it.
    _not_send: PhantomData<*mut ()>,
}

impl<'a, T: FileSystem> Exclusive<'a, T> {
    /// Takes the semaphore.
    pub(crate) fn lock(inode: &'a INode<T>) -> Self {
        // SAFETY: A reference to an inode is to a live one.
        unsafe { c::ochre_inode_lock(inode.as_ptr()) };
        // INVARIANT: Just locked.
        Self {
            inode,
            owned: true,
            again: None,
            _not_send: PhantomData,
        }
    }

    /// Takes the semaphore if that is possible at once.
    pub(crate) fn try_lock(inode: &'a INode<T>) -> Option<Self> {
        // SAFETY: A reference to an inode is to a live one.
        if unsafe { c::ochre_inode_trylock(inode.as_ptr()) } == 0 {
            return None;
        }
        // INVARIANT: Just locked.
        Some(Self {
            inode,
            owned: true,
            again: None,
            _not_send: PhantomData,
        })
    }

    /// Evidence for a semaphore that the VFS took before it called us and releases after.
    ///
    /// # Safety
    ///
    /// This task holds `i_rwsem` of `inode` exclusively, and whoever took it does not release it
    /// while the result lives.
    pub(super) unsafe fn held_by_caller(inode: &'a INode<T>) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            inode,
            owned: false,
            again: None,
            _not_send: PhantomData,
        }
    }

    /// Has `ready` called each time that the semaphore was let go of and taken again. What it refuses then, the call that
    /// waited fails with.
    pub(super) fn ready_again_with(&mut self, ready: &'a Ready<'a, T>) {
        self.again = Some(ready);
    }

    /// The inode.
    pub(crate) fn inode(&self) -> &'a INode<T> {
        self.inode
    }

    /// The same evidence in the form that most of the VFS layer asks for.
    pub(crate) fn locked(&self) -> Locked<'_, INode<T>> {
        // SAFETY: Held by the invariant for as long as `self` is borrowed: `relax` needs it
        // exclusively.
        unsafe { Locked::new(self.inode) }
    }

    /// Sets the size that everybody sees.
    pub(crate) fn set_size(&self, size: u64) {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        // SAFETY: The semaphore is held, which orders the writers of the size.
        unsafe { c::ochre_i_size_write(self.inode.as_ptr(), size) };
    }

    /// A fatal signal is pending.
    pub(crate) fn is_task_dying(&self) -> bool {
        // SAFETY: Looks at the current task.
        unsafe { c::ochre_fatal_signal_pending() }
    }

    /// Whether the file may have this size: the process's limit, the filesystem's maximum.
    pub(crate) fn check_new_size(&self, size: u64) -> Result {
        let size = i64::try_from(size).map_err(|_| EFBIG)?;
        // SAFETY: The inode is live and locked.
        to_result(unsafe { c::inode_newsize_ok(self.inode.as_ptr(), size) })
    }

    /// Releases the semaphore while `f` runs, and takes it again. An error is that of `f`, or says that what the call is
    /// about to do may not be done any more.
    pub(crate) fn relax(&mut self, f: impl FnOnce() -> Result) -> Result {
        // SAFETY: Held by the invariant, which the exclusive borrow keeps anyone from relying on.
        unsafe { c::ochre_inode_unlock(self.inode.as_ptr()) };
        let result = f();
        // SAFETY: The inode is live. INVARIANT: Locked again.
        unsafe { c::ochre_inode_lock(self.inode.as_ptr()) };
        result.and_then(|()| self.again.map_or(Ok(()), |ready| ready(self)))
    }
}

impl<T: FileSystem> Drop for Exclusive<'_, T> {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: Held by the invariant.
            unsafe { c::ochre_inode_unlock(self.inode.as_ptr()) };
        }
    }
}

impl<T: FileSystem> INode<T> {
    /// Sets the size that everybody sees, in a callback of fs/iomap: the write that it works for
    /// holds `i_rwsem` exclusively.
    pub(crate) fn set_size_while_writing(&self, size: u64) {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        // SAFETY: On 64 bits this is one store; the semaphore orders the writers.
        unsafe { c::ochre_i_size_write(self.as_ptr(), size) };
    }
}

/// Evidence that this task holds `i_rwsem` shared.
///
/// # Invariants
///
/// The semaphore of `inode` is held for read by this task, and is released on drop.
pub(crate) struct Shared<'a, T: FileSystem> {
    inode: &'a INode<T>,
    _not_send: PhantomData<*mut ()>,
}

impl<'a, T: FileSystem> Shared<'a, T> {
    /// Takes the semaphore.
    pub(crate) fn lock(inode: &'a INode<T>) -> Self {
        // SAFETY: A reference to an inode is to a live one.
        unsafe { c::ochre_inode_lock_shared(inode.as_ptr()) };
        // INVARIANT: Just locked.
        Self {
            inode,
            _not_send: PhantomData,
        }
    }

    /// Takes the semaphore if that is possible at once.
    pub(crate) fn try_lock(inode: &'a INode<T>) -> Option<Self> {
        // SAFETY: A reference to an inode is to a live one.
        if unsafe { c::ochre_inode_trylock_shared(inode.as_ptr()) } == 0 {
            return None;
        }
        // INVARIANT: Just locked.
        Some(Self {
            inode,
            _not_send: PhantomData,
        })
    }

    /// The inode.
    pub(crate) fn inode(&self) -> &'a INode<T> {
        self.inode
    }
}

impl<T: FileSystem> Drop for Shared<'_, T> {
    fn drop(&mut self) {
        // SAFETY: Held by the invariant.
        unsafe { c::ochre_inode_unlock_shared(self.inode.as_ptr()) };
    }
}
