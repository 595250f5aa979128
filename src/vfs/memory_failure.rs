// SPDX-License-Identifier: GPL-2.0

//! Memory failures: what happens when the memory below a mounted filesystem is found to be bad.
//!
//! What: the kernel's `memory_failure` asks the holder of a DAX device, that is, us. [`Operations::memory_failed`] is told which
//! bytes of the block device are lost, and which page of which file they are, if a file in memory has them mapped; then the
//! processes that map the page get their `SIGBUS`, and the page leaves all page tables.
//!
//! Why not the kernel's own way (which `EOPNOTSUPP` would choose): it takes the first page of a 2 MiB page for the bad one,
//! looks for processes there, leaves the page mapped if none of them asked for a signal, and tells nobody which block it was.
//!
//! # The order, and why
//!
//! 1. The page's folio names its mapping and index (a folio of ours belongs to one file). A page that is just being moved in its
//!    file has no mapping for a moment, while its folio is locked: then the lock is waited for.
//! 2. `invalidate_lock` for write, and a second look: nobody takes the page out of the file, or maps it, until the end. Else a
//!    page of another file could be marked, and its processes killed.
//! 3. The filesystem notes the loss. From here on faults and reads fail.
//! 4. Signals, by `mf_dax_kill_procs`: to the process that met the failure, and to those that asked to be told early.
//! 5. The page is unmapped everywhere: all others get `SIGBUS` when they touch it.
//!
//! Hazard: the call may come at any time, also while the mount ends, when the super block is freed under it. So a mount is
//! known here by its address from its last step to the first of `kill_sb`, and the call runs under a mutex that the latter
//! takes: [`start`], [`stop`].

use super::{
    dax_device::{self, DaxDevice},
    memalloc::NofsScope,
    Complete, FileSystem, INode, SuperBlock,
};
use crate::bindings::c;
use crate::testing::{self, Point};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{error::to_result, prelude::*, sync::aref::ARef};

const PAGE_SIZE: u64 = super::mapping::PAGE_SIZE;

/// More than this at once is not a failure of some memory but the end of the device.
const MOST: u64 = 1 << 30;

/// What a filesystem does about lost memory.
pub(crate) trait Operations: FileSystem {
    /// The device that the filesystem is on.
    fn failing_device(sb: &SuperBlock<Self>) -> &DaxDevice;

    /// `len` bytes from `offset` of the block device are lost; whole pages. They are the page `page` of a file, if one is given:
    /// then it is one page, and its faults are locked out.
    fn memory_failed(
        sb: &SuperBlock<Self>,
        offset: u64,
        len: u64,
        page: Option<(&INode<Self>, u64)>,
    );

    /// The device is about to go away with all of its memory.
    fn device_leaves(sb: &SuperBlock<Self>);
}

/// The table of C functions for the holder of a device.
pub(super) struct Table<T>(PhantomData<T>);

impl<T: Complete> Table<T> {
    /// For `fs_dax_get_by_bdev` with the super block as holder.
    pub(super) const HOLDER: c::dax_holder_operations = c::dax_holder_operations {
        notify_failure: Some(Self::notify_failure),
    };

    /// # Safety
    ///
    /// For the kernel to call, as the `notify_failure` that it documents.
    unsafe extern "C" fn notify_failure(
        device: *mut c::dax_device,
        offset: u64,
        len: u64,
        flags: c_int,
    ) -> c_int {
        let _scope = NofsScope::enter();
        let failure = c::ochre_failure { offset, len, flags };
        // SAFETY: The device is live during the call. The callback is given holders of this table only.
        unsafe { c::ochre_failure_tell(device, &failure, Some(Self::tell)) }
    }

    /// # Safety
    ///
    /// `sb` is a super block of `T` that [`start`] was called for, and stays so.
    unsafe extern "C" fn tell(sb: *mut c_void, failure: *const c::ochre_failure) -> c_int {
        // SAFETY: By the caller's promise.
        let (sb, failure) = unsafe { (SuperBlock::<T>::from_raw(sb.cast()), &*failure) };
        match handle(sb, failure) {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }
}

/// From here on the mount is told of failures.
///
/// # Safety
///
/// `sb` belongs to a `T`, has its data, and keeps both until [`stop`].
pub(super) unsafe fn start<T: Complete>(sb: NonNull<c::super_block>) -> Result {
    // SAFETY: By the caller's promise.
    to_result(unsafe { c::ochre_failure_start(sb.as_ptr().cast()) })
}

/// From here on it is not. Waits for one that is being dealt with.
pub(super) fn stop(sb: NonNull<c::super_block>) {
    // SAFETY: Only compares the address.
    unsafe { c::ochre_failure_stop(sb.as_ptr().cast()) };
}

/// Deals with a failure, page by page.
fn handle<T: Complete>(sb: &SuperBlock<T>, failure: &c::ochre_failure) -> Result {
    if failure.flags & c::OCHRE_MF_PRE_REMOVE as c_int != 0 {
        T::device_leaves(sb);
        return Ok(());
    }
    let device = T::failing_device(sb);
    let range = device.direct_range();
    // A partition may start, and end, in the middle of what failed.
    let end = failure.offset.saturating_add(failure.len);
    let first = failure.offset.max(device.start()) & !(PAGE_SIZE - 1);
    let end = end.min(device.start().saturating_add(range.len()));
    if first >= end || end - first > MOST {
        return Err(ENXIO);
    }
    let first = first - device.start();
    let end = (end - device.start()).next_multiple_of(PAGE_SIZE);
    let mut result = Ok(());
    for offset in (first..end).step_by(PAGE_SIZE as usize) {
        let pfn = (range.physical() + offset) / PAGE_SIZE;
        let told = match owner::<T>(sb, pfn) {
            Some((inode, page)) => {
                let told = told_with(sb, &inode, page, pfn, offset, failure.flags);
                testing::pause(Point::FailureTold);
                // An eviction waits for a thaw if it has to, and this is under the failure mutex.
                sb.background().put(inode);
                told
            }
            None => {
                T::memory_failed(sb, offset, PAGE_SIZE, None);
                Ok(())
            }
        };
        // SAFETY: A page of the device, which we hold.
        unsafe { c::ochre_page_set_poisoned(pfn as usize) };
        result = result.and(told);
    }
    result
}

/// The file that has the page, and which of its pages it is, with the inode held. It may change at once.
fn owner<T: Complete>(sb: &SuperBlock<T>, pfn: u64) -> Option<(ARef<INode<T>>, u64)> {
    let mut index = 0;
    // SAFETY: A page of the device, which we hold; the result comes with a reference.
    let inode = unsafe { c::ochre_page_owner(pfn as usize, sb.as_ptr(), &mut index) };
    // SAFETY: An inode of this super block, of which the reference is ours now.
    let inode = unsafe { ARef::from_raw(NonNull::new(inode)?.cast::<INode<T>>()) };
    Some((inode, index as u64))
}

/// Steps 2 to 5.
fn told_with<T: Complete>(
    sb: &SuperBlock<T>,
    inode: &INode<T>,
    page: u64,
    pfn: u64,
    offset: u64,
    flags: c_int,
) -> Result {
    let faults = inode.mapping().lock_invalidate();
    let mut index = 0;
    // SAFETY: A page of the device, which we hold; the inode is live.
    let mine = unsafe { c::ochre_page_belongs(pfn as usize, inode.as_ptr(), &mut index) };
    if !mine || index as u64 != page {
        // It left the file, or moved in it, since: unmapped, so there is nobody to tell.
        T::memory_failed(sb, offset, PAGE_SIZE, None);
        return Ok(());
    }
    T::memory_failed(sb, offset, PAGE_SIZE, Some((inode, page)));
    faults.kill(page, pfn, flags)
}

/// Pages of a device that were marked as bad before.
pub(super) fn next_marked(first: u64, end: u64) -> Option<u64> {
    // SAFETY: The caller's pages are those of a device that is held.
    let found = unsafe { c::ochre_next_poisoned(first as usize, end as usize) } as u64;
    (found < end).then_some(found)
}

/// Some memory of this machine failed since it was started, so that pages may be marked.
pub(super) fn any_seen() -> bool {
    // SAFETY: Has no conditions.
    unsafe { c::ochre_failures_seen() }
}

/// `EHWPOISON`, by which a fault says that a page is lost: the process gets `SIGBUS` with `BUS_MCEERR_AR`.
pub(crate) fn hwpoison() -> Error {
    Error::from_errno(-dax_device::EHWPOISON_NUMBER)
}
