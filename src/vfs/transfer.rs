// SPDX-License-Identifier: GPL-2.0

//! One `read_iter` or `write_iter`: position, flags, and the user's buffers.
//!
//! What: [`Transfer`] joins `struct kiocb` and `struct iov_iter`, and moves bytes between the
//! buffers and the medium with `dax_iomap_rw`.
//!
//! Hazard: the user's buffer may be a mapping of the very file that is written. If the copy could
//! take page faults, it might fault on the range that it has just reserved, and wait for itself.
//! So [`Transfer::write`] copies with page faults disabled: it comes back short where a page is
//! missing, the caller finishes what it has, and calls [`Transfer::fault_in`] with nothing held
//! but `i_rwsem`.
//!
//! C headers: `include/linux/fs.h`, `include/linux/uio.h`.

use crate::bindings::c;
use crate::testing::{Protection, Taken};
use crate::vfs::inode::INode;
use crate::vfs::iomap::{self, Operations};
use crate::vfs::rwsem::{Exclusive, Shared};
use crate::vfs::FileSystem;
use core::marker::PhantomData;
use kernel::error::to_result;
use kernel::prelude::*;

/// A read or write that a process asked for.
///
/// # Invariants
///
/// Both pointers are those of the running `read_iter` or `write_iter`; the file belongs to a
/// filesystem of type `T`.
pub(crate) struct Transfer<'a, T: FileSystem> {
    iocb: *mut c::kiocb,
    iter: *mut c::iov_iter,
    _file: PhantomData<&'a INode<T>>,
}

/// What one pass of a copy achieved.
pub(crate) struct Pass {
    /// Bytes.
    pub(crate) done: u64,
    /// Why it ended, if no byte moved.
    pub(crate) error: Option<Error>,
}

impl<'a, T: FileSystem> Transfer<'a, T> {
    /// # Safety
    ///
    /// As the invariants say, for `'a`.
    pub(super) unsafe fn from_raw(iocb: *mut c::kiocb, iter: *mut c::iov_iter) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            iocb,
            iter,
            _file: PhantomData,
        }
    }

    /// The file's inode.
    pub(crate) fn inode(&self) -> &'a INode<T> {
        // SAFETY: By the invariants; the open file keeps its inode.
        unsafe { INode::from_raw((*(*(*self.iocb).ki_filp).f_mapping).host) }
    }

    /// Where in the file the next byte goes, or comes from.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        // SAFETY: By the invariants.
        unsafe { (*self.iocb).ki_pos }.max(0) as u64
    }

    /// Bytes that are left.
    #[inline]
    pub(crate) fn remaining(&self) -> u64 {
        // SAFETY: By the invariants; the union's arms all have the count here.
        unsafe {
            (*self.iter)
                .__bindgen_anon_1
                .__bindgen_anon_1
                .as_ref()
                .count as u64
        }
    }

    /// The caller must not be made to wait.
    #[inline]
    pub(crate) fn is_nowait(&self) -> bool {
        // SAFETY: By the invariants.
        let flags = unsafe { (*self.iocb).ki_flags } as u32;
        flags & c::ochre_flags_OCHRE_NOWAIT != 0
    }

    /// What must hold before a write: limits, append mode, swap files. The number of bytes that
    /// may be written from [`Transfer::position`] on, which is set here for `O_APPEND`.
    pub(crate) fn write_checks(&mut self, _lock: &Exclusive<'_, T>) -> Result<u64> {
        // SAFETY: By the invariants; `i_rwsem` is held.
        let count = unsafe { c::generic_write_checks(self.iocb, self.iter) };
        u64::try_from(count).map_err(|_| errno(count))
    }

    /// Drops set-id bits and notes the time of a modification.
    pub(crate) fn modified(&mut self, _lock: &Exclusive<'_, T>) -> Result {
        // SAFETY: By the invariants; `i_rwsem` is held.
        to_result(unsafe { c::kiocb_modified(self.iocb) })
    }

    /// Copies from the medium to the buffers, up to the end of the file.
    pub(crate) fn read<O: Operations<T>>(&mut self, _lock: &Shared<'_, T>) -> Pass {
        // SAFETY: By the invariants; `i_rwsem` is held shared, as `dax_iomap_rw` wants it.
        let count = unsafe { c::dax_iomap_rw(self.iocb, self.iter, iomap::table::<T, O>()) };
        Pass::new(count)
    }

    /// Copies from the buffers to the medium as far as the buffers' pages are there.
    pub(crate) fn write<O: Operations<T>>(&mut self, _lock: &Exclusive<'_, T>) -> Pass {
        // SAFETY: Undone below.
        let disable = || unsafe { c::ochre_pagefault_disable() };
        let disabled = Taken::unless_without(Protection::CopyWithoutFaults, disable);
        // SAFETY: By the invariants; `i_rwsem` is held exclusively.
        let count = unsafe { c::dax_iomap_rw(self.iocb, self.iter, iomap::table::<T, O>()) };
        if disabled.yes() {
            // SAFETY: Disabled above.
            unsafe { c::ochre_pagefault_enable() };
        }
        Pass::new(count)
    }

    /// Makes the pages of the next `len` bytes of the buffers present; false: none of them.
    pub(crate) fn fault_in(&mut self, len: u64) -> bool {
        let len = len as usize;
        // SAFETY: By the invariants.
        unsafe { c::fault_in_iov_iter_readable(self.iter, len) != len }
    }

    /// The last pass met lost memory in a buffer. The kernel takes that page away on the way back to user space; who goes on
    /// before meets it again, and after some times, or with another such page, that is a panic.
    pub(crate) fn met_lost_memory(&self) -> bool {
        // SAFETY: Looks at the current task.
        unsafe { c::ochre_machine_check_pending() }
    }

    /// Notes the time of an access.
    pub(crate) fn accessed(&self) {
        // SAFETY: By the invariants.
        unsafe { c::ochre_file_accessed((*self.iocb).ki_filp) };
    }

    /// Goes back to where the transfer started when its bytes do not count after all.
    pub(crate) fn set_position(&mut self, position: u64) {
        // SAFETY: By the invariants.
        unsafe { (*self.iocb).ki_pos = position as c::loff_t };
    }
}

impl Pass {
    fn new(count: isize) -> Self {
        match u64::try_from(count) {
            Ok(done) => Self { done, error: None },
            Err(_) => Self {
                done: 0,
                error: Some(errno(count)),
            },
        }
    }
}

/// The error in a negative count.
fn errno(count: isize) -> Error {
    to_result(count as c_int).err().unwrap_or(EIO)
}
