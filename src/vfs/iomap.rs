// SPDX-License-Identifier: GPL-2.0

//! iomap: where on the device a range of a file is.
//!
//! What: [`Operations`] is what a filesystem answers to the iterators of fs/iomap and fs/dax.c:
//! an [`Extent`] for a range, and what to do when the range has been worked on. One type for each
//! purpose (read, write, fault, report), so that no callback has to sort them out.
//!
//! Hazard: once bytes have moved, fs/iomap reports the bytes and swallows what
//! [`Operations::end`] returned. A write whose blocks could not be published would look like a
//! success; a filesystem keeps such an error elsewhere and looks for it after the transfer.
//!
//! Hazard: an [`Extent`] never says "new" (`IOMAP_F_NEW`): for it `dax_iomap_rw` drops the
//! range's entries *before* it copies, while a fault may still put the zero page there after.
//!
//! C header: `include/linux/iomap.h`.

use crate::bindings::c;
use crate::testing::{self, Protection};
use crate::vfs::dax_device::DaxDevice;
use crate::vfs::inode::INode;
use crate::vfs::memalloc::NofsScope;
use crate::vfs::rwsem::Shared;
use crate::vfs::FileSystem;
use core::ptr;
use kernel::error::to_result;
use kernel::prelude::*;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// First byte.
    pub(crate) pos: u64,
    /// Bytes, at least 1.
    pub(crate) len: u64,
    flags: u32,
}

impl Request {
    /// The caller must not be made to wait: answer `EAGAIN` instead.
    #[inline]
    pub(crate) fn is_nowait(&self) -> bool {
        self.flags & c::IOMAP_NOWAIT != 0
    }
}

/// Where an extent is: a byte offset on the block device.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// Nowhere: reads as zeros.
    Hole,
    /// At this offset; reads as zeros until it is written.
    Unwritten(u64),
    /// At this offset.
    Mapped(u64),
}

/// The answer: a range of the file that is in one place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// First byte in the file, a multiple of the block size; at or before the one asked for.
    pub(crate) offset: u64,
    /// Bytes; the range holds the first one that was asked for.
    pub(crate) len: u64,
    /// Where it is.
    pub(crate) place: Place,
    /// [`Operations::end`] has work to do for it.
    pub(crate) finish: bool,
}

/// What a filesystem knows about its files.
pub(crate) trait Operations<T: FileSystem>: Sized + 'static {
    /// [`Operations::end`] is to be called for extents that say so.
    const HAS_END: bool = false;

    /// The extent at the start of a range.
    fn begin(inode: &INode<T>, request: &Request) -> Result<Extent>;

    /// Of the range that an extent was asked for, the first `done` bytes were worked on.
    fn end(_inode: &INode<T>, _request: &Request, _done: u64) -> Result {
        Ok(())
    }

    /// The device that all extents are on.
    fn device(inode: &INode<T>) -> &DaxDevice;
}

/// The C table for `O`.
struct Table<T, O>(core::marker::PhantomData<(T, O)>);

impl<T: FileSystem, O: Operations<T>> Table<T, O> {
    const OPERATIONS: c::iomap_ops = c::iomap_ops {
        iomap_begin: Some(begin::<T, O>),
        iomap_end: if O::HAS_END { Some(end::<T, O>) } else { None },
        iomap_next: None,
    };
}

/// The C table for `O`.
pub(super) fn table<T: FileSystem, O: Operations<T>>() -> *const c::iomap_ops {
    &Table::<T, O>::OPERATIONS
}

unsafe extern "C" fn begin<T: FileSystem, O: Operations<T>>(
    inode: *mut c::inode,
    pos: c::loff_t,
    length: c::loff_t,
    flags: c_uint,
    iomap: *mut c::iomap,
    _srcmap: *mut c::iomap,
) -> c_int {
    // SAFETY: The table is only passed along with inodes of `T`, which live over the call.
    let inode = unsafe { INode::<T>::from_raw(inode) };
    let request = Request {
        pos: pos.max(0) as u64,
        len: length.max(0) as u64,
        flags,
    };
    let extent = match O::begin(inode, &request) {
        Ok(extent) => extent,
        Err(error) => return error.to_errno(),
    };
    let device = O::device(inode);
    // The DAX calls count from the start of the DAX device, reports from that of the partition.
    let start = if flags & c::IOMAP_DAX != 0 {
        device.start()
    } else {
        0
    };
    let (kind, addr) = match extent.place {
        Place::Hole => (c::IOMAP_HOLE, u64::MAX),
        Place::Unwritten(offset) => (c::IOMAP_UNWRITTEN, offset.wrapping_add(start)),
        Place::Mapped(offset) => (c::IOMAP_MAPPED, offset.wrapping_add(start)),
    };
    // SAFETY: fs/iomap passes an iomap of its own to fill in.
    unsafe {
        (*iomap).addr = addr;
        (*iomap).offset = extent.offset as c::loff_t;
        (*iomap).length = extent.len;
        (*iomap).type_ = kind as u16;
        (*iomap).flags = 0;
        if testing::without(Protection::NeverNew) && extent.finish {
            (*iomap).flags = c::IOMAP_F_NEW as u16;
        }
        (*iomap).bdev = device.block_device();
        (*iomap).dax_dev = device.as_ptr();
        // A mere mark for `end`: never dereferenced.
        (*iomap).private = if extent.finish {
            iomap.cast()
        } else {
            ptr::null_mut()
        };
    }
    0
}

unsafe extern "C" fn end<T: FileSystem, O: Operations<T>>(
    inode: *mut c::inode,
    pos: c::loff_t,
    length: c::loff_t,
    written: isize,
    flags: c_uint,
    iomap: *mut c::iomap,
) -> c_int {
    // SAFETY: fs/iomap passes the iomap that `begin` filled in.
    if unsafe { (*iomap).private.is_null() } {
        return 0;
    }
    // SAFETY: As in `begin`.
    let inode = unsafe { INode::<T>::from_raw(inode) };
    let request = Request {
        pos: pos.max(0) as u64,
        len: length.max(0) as u64,
        flags,
    };
    match O::end(inode, &request, written.max(0) as u64) {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// The first hole (`SEEK_HOLE`) at or after `offset`; the end of the file counts as one.
pub(super) fn seek_hole<T: FileSystem, O: Operations<T>>(file: &Shared<'_, T>, offset: i64) -> i64 {
    // SAFETY: The inode is live, the table belongs to its type.
    unsafe { c::iomap_seek_hole(file.inode().as_ptr(), offset, table::<T, O>()) }
}

/// The first data (`SEEK_DATA`) at or after `offset`.
pub(super) fn seek_data<T: FileSystem, O: Operations<T>>(file: &Shared<'_, T>, offset: i64) -> i64 {
    // SAFETY: As above.
    unsafe { c::iomap_seek_data(file.inode().as_ptr(), offset, table::<T, O>()) }
}

/// The `fiemap` inode operation.
pub(super) unsafe extern "C" fn fiemap<T: FileSystem, O: Operations<T>>(
    inode: *mut c::inode,
    info: *mut c::fiemap_extent_info,
    start: u64,
    len: u64,
) -> c_int {
    let _nofs = NofsScope::enter();
    // SAFETY: The VFS passes a live inode of this filesystem.
    let file = Shared::lock(unsafe { INode::<T>::from_raw(inode) });
    // SAFETY: As above; `info` is the VFS's.
    let result = unsafe { c::iomap_fiemap(inode, info, start, len, table::<T, O>()) };
    drop(file);
    match to_result(result) {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}
