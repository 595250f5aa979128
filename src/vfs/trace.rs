// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: what an administrator can watch while it happens.
//!
//! What: one function for each event of `/sys/kernel/tracing/events/ochre`; what the fields mean
//! is said in `bindings/ochre_trace.h`.
//!
//! Hazard: a disabled event costs a call and a jump. They belong beside waits and faults, not into
//! loops over blocks.

use crate::bindings::c;
use crate::vfs::dax::FaultResult;
use crate::vfs::inode::INode;
use crate::vfs::mapping::PageRange;
use crate::vfs::FileSystem;
use kernel::prelude::*;

/// Blocks of these pages are to go.
pub(crate) fn layout_break<T: FileSystem>(inode: &INode<T>, pages: PageRange, held: bool) {
    // SAFETY: A live inode.
    unsafe {
        c::ochre_trace_layout_break(inode.as_ptr(), pages.first, pages.end, c_int::from(held))
    };
}

/// Somebody has slept for these pages.
pub(crate) fn layout_wait<T: FileSystem>(inode: &INode<T>, pages: PageRange, result: &Result) {
    let result = result.map_or_else(|error| error.to_errno(), |()| 0);
    // SAFETY: A live inode.
    unsafe { c::ochre_trace_layout_wait(inode.as_ptr(), pages.first, pages.end, result) };
}

/// These held pages stay behind the end of the file, or were moved there.
pub(crate) fn layout_defer<T: FileSystem>(inode: &INode<T>, pages: PageRange, moved: bool) {
    // SAFETY: A live inode.
    unsafe {
        c::ochre_trace_layout_defer(inode.as_ptr(), pages.first, pages.end, c_int::from(moved))
    };
}

/// A fault has been handled.
pub(crate) fn dax_fault<T: FileSystem>(
    inode: &INode<T>,
    pages: PageRange,
    write: bool,
    result: FaultResult,
) {
    let order = (pages.end - pages.first).trailing_zeros();
    // SAFETY: A live inode: the caller keeps the file open.
    unsafe { c::ochre_trace_dax_fault(inode.as_ptr(), pages.first, order, write, result) };
}
