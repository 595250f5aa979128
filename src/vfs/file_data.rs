// SPDX-License-Identifier: GPL-2.0

//! Regular files: the tables through which the kernel reads, writes, maps and syncs their data.
//!
//! What: [`FileData`] is what a DAX filesystem implements; [`operations`],
//! [`address_space_operations`] and [`fiemap`] are the C tables for it.
//!
//! Why there is no page cache here: a mapped page *is* the medium. `writepages` does not write
//! pages, it flushes the CPU cache lines that were stored through mappings, and `fsync` is that
//! and a fence.
//!
//! Hazard: `page_mkwrite` and `pfn_mkwrite` may not answer `VM_FAULT_RETRY`: their caller does not
//! know that `mmap_lock` is gone then, and releases it a second time. They wait with it held.
//!
//! C headers: `include/linux/fs.h`, `include/linux/mm.h`.

use crate::bindings::c;
use crate::testing::{self, Failure};
use crate::vfs::dax::{Fault, FaultResult};
use crate::vfs::dax_device::DaxDevice;
use crate::vfs::inode::INode;
use crate::vfs::iomap::{self, Operations};
use crate::vfs::memalloc::NofsScope;
use crate::vfs::rwsem::{Exclusive, Shared};
use crate::vfs::transfer::Transfer;
use crate::vfs::FileSystem;
use core::marker::PhantomData;
use kernel::error::{from_result, to_result};
use kernel::prelude::*;

/// What `fallocate` is to do with a range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocation {
    /// Give it blocks; the file grows if the range ends beyond it, unless `keep_size`.
    Preallocate {
        /// The size stays.
        keep_size: bool,
    },
    /// Take its blocks away; it reads as zeros. The size stays.
    PunchHole,
    /// Let it read as zeros, and give it blocks; the file grows as with `Preallocate`.
    ZeroRange {
        /// The size stays.
        keep_size: bool,
    },
    /// Take it out of the file: what follows moves up.
    CollapseRange,
    /// Put a hole of its length in front of what is there.
    InsertRange,
}

impl Allocation {
    /// What a `fallocate` mode asks for. `FALLOC_FL_WRITE_ZEROES` is for devices that store zeros
    /// by themselves. `FALLOC_FL_UNSHARE_RANGE` promises that writes to the range find space: where no
    /// blocks are shared, that is what a preallocation gives.
    fn from_mode(mode: u32) -> Option<Self> {
        let keep_size = mode & c::OCHRE_FALLOC_FL_KEEP_SIZE != 0;
        match mode & !c::OCHRE_FALLOC_FL_KEEP_SIZE {
            0 | c::OCHRE_FALLOC_FL_UNSHARE_RANGE => Some(Self::Preallocate { keep_size }),
            c::OCHRE_FALLOC_FL_ZERO_RANGE => Some(Self::ZeroRange { keep_size }),
            c::OCHRE_FALLOC_FL_PUNCH_HOLE if keep_size => Some(Self::PunchHole),
            c::OCHRE_FALLOC_FL_COLLAPSE_RANGE if !keep_size => Some(Self::CollapseRange),
            c::OCHRE_FALLOC_FL_INSERT_RANGE if !keep_size => Some(Self::InsertRange),
            _ => None,
        }
    }
}

impl Allocation {
    /// Not allowed where data may only be added.
    fn changes_content(self) -> bool {
        !matches!(self, Self::Preallocate { .. })
    }
}

/// What a filesystem does with the data of its regular files.
pub(crate) trait FileData: FileSystem {
    /// Extents for `SEEK_DATA`, `SEEK_HOLE`.
    type Seek: Operations<Self>;
    /// Extents for `FIEMAP`.
    type Report: Operations<Self>;

    /// The device that the data is on.
    fn device(inode: &INode<Self>) -> &DaxDevice;

    /// Reads; the number of bytes.
    fn read(transfer: &mut Transfer<'_, Self>) -> Result<u64>;

    /// Writes; the number of bytes, all durable on a synchronous device.
    fn write(transfer: &mut Transfer<'_, Self>) -> Result<u64>;

    /// Maps a page, or pages.
    fn fault(fault: Fault<'_, Self>) -> FaultResult;

    /// Whether such a request makes sense for the file as it is: nothing of a file changes for one
    /// that does not, its times neither.
    fn check_allocation(
        file: &Exclusive<'_, Self>,
        what: Allocation,
        offset: u64,
        len: u64,
    ) -> Result;

    /// Changes which parts of a file have blocks.
    fn allocate(file: &mut Exclusive<'_, Self>, what: Allocation, offset: u64, len: u64) -> Result;

    /// Nobody has the file open or mapped any more (somebody may just open it again).
    fn last_close(inode: &INode<Self>);

    /// Makes durable what is not yet so. The lines that were stored through mappings have been
    /// written back, but not fenced. Neither `i_rwsem` nor `invalidate_lock` may be taken.
    fn sync_data(inode: &INode<Self>) -> Result;
}

/// The tables of C functions.
struct Tables<T>(PhantomData<T>);

impl<T: FileData> Tables<T> {
    const FILE: c::file_operations = c::file_operations {
        fop_flags: c::OCHRE_FOP_FLAGS,
        llseek: Some(Self::llseek),
        read_iter: Some(Self::read_iter),
        write_iter: Some(Self::write_iter),
        mmap_prepare: Some(Self::mmap_prepare),
        open: Some(Self::open),
        release: Some(Self::release),
        fsync: Some(Self::fsync),
        get_unmapped_area: Some(c::thp_get_unmapped_area),
        splice_read: Some(c::copy_splice_read),
        splice_write: Some(c::iter_file_splice_write),
        fallocate: Some(Self::fallocate),
        ..pin_init::zeroed()
    };

    const ADDRESS_SPACE: c::address_space_operations = c::address_space_operations {
        writepages: Some(Self::writepages),
        dirty_folio: Some(c::noop_dirty_folio),
        ..pin_init::zeroed()
    };

    const MAPPED: c::vm_operations_struct = c::vm_operations_struct {
        fault: Some(Self::fault),
        huge_fault: Some(Self::huge_fault),
        page_mkwrite: Some(Self::make_writable),
        pfn_mkwrite: Some(Self::make_writable),
        ..pin_init::zeroed()
    };

    unsafe extern "C" fn llseek(file: *mut c::file, offset: c::loff_t, whence: c_int) -> c::loff_t {
        // SAFETY: The VFS passes an open file of this filesystem, which keeps its inode.
        unsafe {
            let hole = match whence as u32 {
                c::SEEK_HOLE => true,
                c::SEEK_DATA => false,
                _ => return c::generic_file_llseek(file, offset, whence),
            };
            let _scope = NofsScope::enter();
            let inode = INode::<T>::from_raw((*file).f_inode);
            let lock = Shared::lock(inode);
            let found = if hole {
                iomap::seek_hole::<T, T::Seek>(&lock, offset)
            } else {
                iomap::seek_data::<T, T::Seek>(&lock, offset)
            };
            drop(lock);
            if found < 0 {
                return found;
            }
            c::vfs_setpos(file, found, (*(*inode.as_ptr()).i_sb).s_maxbytes)
        }
    }

    unsafe extern "C" fn read_iter(iocb: *mut c::kiocb, iter: *mut c::iov_iter) -> isize {
        let _scope = NofsScope::enter();
        // SAFETY: The VFS passes both for the time of this call; the file is of this filesystem.
        let mut transfer = unsafe { Transfer::<T>::from_raw(iocb, iter) };
        match T::read(&mut transfer) {
            Ok(count) => count as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    unsafe extern "C" fn write_iter(iocb: *mut c::kiocb, iter: *mut c::iov_iter) -> isize {
        let scope = NofsScope::enter();
        // SAFETY: As in `read_iter`.
        let mut transfer = unsafe { Transfer::<T>::from_raw(iocb, iter) };
        let count = match T::write(&mut transfer) {
            Ok(count) => count as isize,
            Err(error) => return error.to_errno() as isize,
        };
        drop(scope);
        if count == 0 || T::device(transfer.inode()).is_synchronous() {
            return count;
        }
        // SAFETY: As above. For O_SYNC and the like; nothing for others.
        unsafe { c::ochre_generic_write_sync(iocb, count) }
    }

    unsafe extern "C" fn mmap_prepare(description: *mut c::vm_area_desc) -> c_int {
        // SAFETY: The VFS passes a description of a mapping-to-be of an open file of ours. The
        // table is static.
        unsafe {
            let inode = INode::<T>::from_raw((*(*description).file).f_inode);
            let device = T::device(inode).as_ptr();
            c::ochre_dax_mmap_prepare(description, device, &Self::MAPPED)
        }
    }

    unsafe extern "C" fn open(inode: *mut c::inode, file: *mut c::file) -> c_int {
        // SAFETY: The VFS is opening this file, and nobody else knows it yet.
        unsafe {
            c::ochre_file_allow_direct_and_nowait(file);
            let result = c::generic_file_open(inode, file);
            if result == 0 {
                INode::<T>::from_raw(inode).opened();
                if testing::fails(Failure::Dontcache) {
                    c::ochre_inode_set_dontcache(inode);
                }
            }
            result
        }
    }

    unsafe extern "C" fn release(inode: *mut c::inode, _file: *mut c::file) -> c_int {
        // SAFETY: The VFS closes a file that `open` opened; the file still keeps the inode.
        let inode = unsafe { INode::<T>::from_raw(inode) };
        if inode.closed() {
            let _scope = NofsScope::enter();
            T::last_close(inode);
        }
        0
    }

    unsafe extern "C" fn fsync(
        file: *mut c::file,
        start: c::loff_t,
        end: c::loff_t,
        _datasync: c_int,
    ) -> c_int {
        let _scope = NofsScope::enter();
        from_result(|| {
            // SAFETY: The VFS passes an open file of this filesystem.
            let inode = unsafe {
                to_result(c::file_write_and_wait_range(file, start, end))?;
                INode::<T>::from_raw((*file).f_inode)
            };
            T::sync_data(inode)?;
            Ok(0)
        })
    }

    unsafe extern "C" fn fallocate(
        file: *mut c::file,
        mode: c_int,
        offset: c::loff_t,
        len: c::loff_t,
    ) -> isize {
        let Some(what) = Allocation::from_mode(mode as u32) else {
            return -(c::EOPNOTSUPP as isize);
        };
        let (offset, len) = (offset.max(0) as u64, len.max(0) as u64);
        let _scope = NofsScope::enter();
        let result: c_int = from_result(|| {
            // SAFETY: The VFS passes an open file of this filesystem.
            let inode = unsafe { INode::<T>::from_raw((*file).f_inode) };
            let ready = |lock: &Exclusive<'_, T>| {
                // As the VFS has looked, without a lock.
                let (immutable, append) = inode.protection();
                if immutable || (append && what.changes_content()) {
                    return Err(EPERM);
                }
                T::check_allocation(lock, what, offset, len)?;
                // SAFETY: As above; `i_rwsem` is held.
                to_result(unsafe { c::file_modified(file) })
            };
            let mut lock = Exclusive::lock(inode);
            ready(&lock)?;
            lock.ready_again_with(&ready);
            T::allocate(&mut lock, what, offset, len)?;
            Ok(0)
        });
        result as isize
    }

    unsafe extern "C" fn writepages(
        mapping: *mut c::address_space,
        control: *mut c::writeback_control,
    ) -> c_int {
        // SAFETY: Called for mappings that have this table, whose host is a live inode of ours.
        unsafe {
            let inode = INode::<T>::from_raw((*mapping).host);
            c::dax_writeback_mapping_range(mapping, T::device(inode).as_ptr(), control)
        }
    }

    unsafe extern "C" fn fault(vmf: *mut c::vm_fault) -> c::vm_fault_t {
        let _scope = NofsScope::enter();
        // SAFETY: Called for VMAs with this table, which map files of this filesystem.
        T::fault(unsafe { Fault::from_raw(vmf, 0, true) })
    }

    unsafe extern "C" fn huge_fault(vmf: *mut c::vm_fault, order: c_uint) -> c::vm_fault_t {
        let _scope = NofsScope::enter();
        // SAFETY: As above.
        T::fault(unsafe { Fault::from_raw(vmf, order, true) })
    }

    unsafe extern "C" fn make_writable(vmf: *mut c::vm_fault) -> c::vm_fault_t {
        let _scope = NofsScope::enter();
        // SAFETY: As above. See the hazard at the top for why it may not retry.
        T::fault(unsafe { Fault::from_raw(vmf, 0, false) })
    }
}

/// The file operations of regular files.
pub(super) fn operations<T: FileData>() -> *const c::file_operations {
    &Tables::<T>::FILE
}

/// The address space operations of regular files.
pub(super) fn address_space_operations<T: FileData>() -> *const c::address_space_operations {
    &Tables::<T>::ADDRESS_SPACE
}

type Fiemap = unsafe extern "C" fn(*mut c::inode, *mut c::fiemap_extent_info, u64, u64) -> c_int;

/// The `fiemap` inode operation of regular files.
pub(super) const fn fiemap<T: FileData>() -> Option<Fiemap> {
    Some(iomap::fiemap::<T, T::Report>)
}
