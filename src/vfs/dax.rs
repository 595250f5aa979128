// SPDX-License-Identifier: GPL-2.0

//! Page faults on DAX files.
//!
//! What: [`Fault`] is one call of `fault`, `huge_fault`, `page_mkwrite` or `pfn_mkwrite`. It knows
//! what is asked for and offers the steps of the protocol: [`Fault::start_write`],
//! `invalidate_lock` (see [`mapping`](super::mapping)), [`Fault::resolve`], and
//! [`Fault::wait`] for a fault that meets a range in flight.
//!
//! Why waiting is a step of its own: inside `dax_iomap_fault` the DAX entry of the page is locked.
//! A fault that slept there would hold the entry, the one it waits for might need that entry for
//! its own progress, and neither would move again.
//!
//! Hazard: a fault that has given `mmap_lock` back must not touch the VMA any more, not even to
//! find its file: another thread may have unmapped it. So [`Fault::wait`] takes a reference to the
//! file first.
//!
//! C header: `include/linux/dax.h`.

use crate::bindings::c;
use crate::testing::{Protection, Taken};
use crate::vfs::inode::INode;
use crate::vfs::iomap::{self, Operations};
use crate::vfs::mapping::{InvalidateShared, PageRange};
use crate::vfs::FileSystem;
use kernel::prelude::*;

/// What a fault handler returns: `VM_FAULT_…` bits.
pub(crate) type FaultResult = c::vm_fault_t;

/// The access is not possible: the process gets `SIGBUS`.
pub(crate) const SIGBUS: FaultResult = c::vm_fault_reason_VM_FAULT_SIGBUS;
const RETRY: FaultResult = c::vm_fault_reason_VM_FAULT_RETRY;
const FALLBACK: FaultResult = c::vm_fault_reason_VM_FAULT_FALLBACK;

/// A fault that is being handled.
///
/// # Invariants
///
/// `vmf` is the argument of the handler that is running; `mmap_lock` or the VMA's lock is held.
/// The VMA maps a file whose mapping belongs to `inode`.
pub(crate) struct Fault<'a, T: FileSystem> {
    vmf: *mut c::vm_fault,
    order: u32,
    may_retry: bool,
    inode: &'a INode<T>,
}

/// How an attempt ended.
pub(crate) enum Outcome {
    /// Return this.
    Done(FaultResult),
    /// The range is in flight: wait, and try again.
    InFlight,
    /// There is no block left; if there never will be, return this.
    NoSpace(FaultResult),
}

/// What came of a wait.
pub(crate) enum Waited {
    /// Try again.
    Again,
    /// The locks that the handler was called with are gone, or the process is dying: return this.
    Return(FaultResult),
}

impl<'a, T: FileSystem> Fault<'a, T> {
    /// `may_retry`: the caller understands `VM_FAULT_RETRY`.
    ///
    /// # Safety
    ///
    /// As the invariants say, for `'a`.
    pub(super) unsafe fn from_raw(vmf: *mut c::vm_fault, order: u32, may_retry: bool) -> Self {
        // SAFETY: The VMA maps a file, by the caller's promise, and keeps it open.
        let inode = unsafe {
            let vma = (*vmf).__bindgen_anon_1.vma;
            INode::from_raw((*(*(*vma).vm_file).f_mapping).host)
        };
        // INVARIANT: The caller's promise.
        Self {
            vmf,
            order,
            may_retry,
            inode,
        }
    }

    /// The file.
    pub(crate) fn inode(&self) -> &'a INode<T> {
        self.inode
    }

    fn flags(&self) -> c::fault_flag {
        // SAFETY: By the invariants.
        unsafe { (*self.vmf).flags }
    }

    fn vma(&self) -> *mut c::vm_area_struct {
        // SAFETY: By the invariants.
        unsafe { (*self.vmf).__bindgen_anon_1.vma }
    }

    /// The file is to be written: a write, and not to a private copy.
    pub(crate) fn is_file_write(&self) -> bool {
        // SAFETY: The VMA is live by the invariants.
        let vm_flags = unsafe { (*self.vma()).__bindgen_anon_2.vm_flags };
        self.flags() & c::fault_flag_FAULT_FLAG_WRITE != 0 && vm_flags & c::VM_SHARED != 0
    }

    /// The pages that would be mapped.
    pub(crate) fn pages(&self) -> PageRange {
        // SAFETY: By the invariants.
        let page = unsafe { (*self.vmf).__bindgen_anon_1.pgoff } as u64;
        let pages = 1u64 << self.order.min(18);
        let first = page & !(pages - 1);
        PageRange {
            first,
            end: first + pages,
        }
    }

    /// Holds off a freeze, and notes that the file was modified.
    pub(crate) fn start_write(&self) -> PagefaultWrite<'a, T> {
        let sb = self.inode.super_block().as_ptr();
        // SAFETY: The super block lives as long as its inode.
        let start = || unsafe { c::ochre_start_pagefault(sb) };
        let taken = Taken::unless_without(Protection::HoldFreeze, start);
        // SAFETY: The file is kept open by the VMA.
        unsafe { c::file_update_time((*self.vma()).vm_file) };
        PagefaultWrite {
            taken,
            inode: self.inode,
        }
    }

    /// Maps the page or pages, with the extents that `O` finds (or makes).
    ///
    /// `EAGAIN` from [`Operations::begin`] comes back as [`Outcome::InFlight`], `ENOSPC` as
    /// [`Outcome::NoSpace`].
    pub(crate) fn resolve<O: Operations<T>>(&mut self, _lock: &InvalidateShared<'_, T>) -> Outcome {
        let mut error: c_int = 0;
        // SAFETY: `vmf` by the invariants; the lock keeps extents from going away; the table is
        // of this type. No pointer for a pfn: without IOMAP_F_DIRTY no sync fault arises.
        let result = unsafe {
            c::dax_iomap_fault(
                self.vmf,
                self.order,
                core::ptr::null_mut(),
                &mut error,
                iomap::table::<T, O>(),
            )
        };
        if error == EAGAIN.to_errno() {
            return Outcome::InFlight;
        }
        if error == ENOSPC.to_errno() {
            return Outcome::NoSpace(result);
        }
        Outcome::Done(result)
    }

    /// The result means that smaller pages are to be tried.
    pub(crate) fn is_fallback(result: FaultResult) -> bool {
        result & FALLBACK != 0
    }

    /// Waits outside of all locks of ours, and outside of `mmap_lock` where the caller allows it.
    ///
    /// `sleep` waits killably for what is in the way, with `EINTR` for a fatal signal.
    pub(crate) fn wait(&mut self, sleep: impl FnOnce(&INode<T>) -> Result) -> Waited {
        let flags = self.flags();
        let may_retry = self.may_retry
            && flags & c::fault_flag_FAULT_FLAG_ALLOW_RETRY != 0
            && flags & c::fault_flag_FAULT_FLAG_TRIED == 0;
        if !may_retry {
            return match sleep(self.inode) {
                Ok(()) => Waited::Again,
                Err(_) => Waited::Return(SIGBUS),
            };
        }
        if flags & c::fault_flag_FAULT_FLAG_RETRY_NOWAIT != 0 {
            return Waited::Return(RETRY);
        }
        // SAFETY: The VMA keeps its file open until the lock goes; our reference takes over, and
        // keeps the inode. After the release nothing of `vmf` is used: the caller returns RETRY.
        unsafe {
            let file = c::ochre_get_file((*self.vma()).vm_file);
            c::ochre_release_fault_lock(self.vmf);
            // A fatal signal is dealt with by the caller of the handler when it retries.
            let _ = sleep(self.inode);
            c::fput(file);
        }
        Waited::Return(RETRY)
    }
}

/// Holds off a freeze of the filesystem while a page is made writable.
pub(crate) struct PagefaultWrite<'a, T: FileSystem> {
    taken: Taken,
    inode: &'a INode<T>,
}

impl<T: FileSystem> Drop for PagefaultWrite<'_, T> {
    fn drop(&mut self) {
        if self.taken.yes() {
            // SAFETY: Started in `start_write`.
            unsafe { c::ochre_end_pagefault(self.inode.super_block().as_ptr()) };
        }
    }
}
