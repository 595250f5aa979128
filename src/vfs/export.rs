// SPDX-License-Identifier: GPL-2.0

//! File handles: how NFS and `open_by_handle_at(2)` name inodes.
//!
//! What: a handle is a 64-bit number and a generation, and for a file that is to be found with its
//! place, the same of its directory. [`Operations`] turns them back into inodes.
//!
//! Hazard: a handle comes from outside, years old or made up. Whatever is wrong with it, the
//! answer is `ESTALE`, and nothing may be concluded about the medium.
//!
//! C header: [`include/linux/exportfs.h`](srctree/include/linux/exportfs.h).

use super::{
    inode::{self, INode},
    memalloc::NofsScope,
    super_block::SuperBlock,
    Complete, FileSystem,
};
use crate::bindings::c;
use core::{marker::PhantomData, slice};
use kernel::{prelude::*, sync::aref::ARef};

/// Words of an inode's part of a handle.
const WORDS: usize = 3;
/// `FILEID_INO64_GEN`
const PLAIN: c_int = 0x81;
/// `FILEID_INO64_GEN_PARENT`
const WITH_PARENT: c_int = 0x82;
/// `FILEID_INVALID`
const INVALID: c_int = 0xff;

/// What a filesystem does about handles.
pub(crate) trait Operations: FileSystem {
    /// The inode with this number and generation.
    fn by_handle(sb: &SuperBlock<Self>, ino: u64, generation: u32) -> Result<ARef<INode<Self>>>;

    /// The directory that holds a directory.
    fn parent(dir: &INode<Self>) -> Result<ARef<INode<Self>>>;
}

struct Tables<T>(PhantomData<T>);

impl<T: Complete> Tables<T> {
    const EXPORT: c::export_operations = c::export_operations {
        encode_fh: Some(Self::encode_fh),
        fh_to_dentry: Some(Self::fh_to_dentry),
        fh_to_parent: Some(Self::fh_to_parent),
        get_parent: Some(Self::get_parent),
        get_name: None,
        commit_metadata: None,
        permission: None,
        open: None,
        flags: 0,
        #[cfg(CONFIG_EXPORTFS_BLOCK_OPS)] // the field depends on it
        block_ops: core::ptr::null(),
    };

    /// # Safety
    ///
    /// For the kernel to call, as the `encode_fh` that it documents.
    unsafe extern "C" fn encode_fh(
        inode: *mut c::inode,
        handle: *mut u32,
        max_len: *mut c_int,
        parent: *mut c::inode,
    ) -> c_int {
        let words = if parent.is_null() { WORDS } else { 2 * WORDS };
        // SAFETY: The caller holds the inodes; `handle` has room for `max_len` words.
        unsafe {
            let room = *max_len;
            *max_len = words as c_int;
            if room < words as c_int {
                return INVALID;
            }
            let handle = slice::from_raw_parts_mut(handle, words);
            put(handle, inode);
            if parent.is_null() {
                return PLAIN;
            }
            put(handle.get_mut(WORDS..).unwrap_or_default(), parent);
            WITH_PARENT
        }
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `fh_to_dentry` that it documents.
    unsafe extern "C" fn fh_to_dentry(
        sb: *mut c::super_block,
        fid: *mut c::fid,
        len: c_int,
        kind: c_int,
    ) -> *mut c::dentry {
        // SAFETY: The caller holds the super block; the handle has `len` words.
        unsafe { Self::dentry(sb, fid.cast(), len, kind, 0) }
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `fh_to_parent` that it documents.
    unsafe extern "C" fn fh_to_parent(
        sb: *mut c::super_block,
        fid: *mut c::fid,
        len: c_int,
        kind: c_int,
    ) -> *mut c::dentry {
        // SAFETY: The caller holds the super block; the handle has `len` words.
        unsafe { Self::dentry(sb, fid.cast(), len, kind, WORDS) }
    }

    /// # Safety
    ///
    /// `sb` is mounted; `fid` has `len` words.
    unsafe fn dentry(
        sb: *mut c::super_block,
        fid: *const u32,
        len: c_int,
        kind: c_int,
        at: usize,
    ) -> *mut c::dentry {
        let _scope = NofsScope::enter();
        let wanted = match (kind, at) {
            (PLAIN, 0) => WORDS,
            (WITH_PARENT, _) => 2 * WORDS,
            _ => return core::ptr::null_mut(),
        };
        if (len.max(0) as usize) < wanted {
            return core::ptr::null_mut();
        }
        // SAFETY: As long as was just checked.
        let words = unsafe { slice::from_raw_parts(fid, wanted) };
        let Some(&[low, high, generation]) = words.get(at..at + WORDS) else {
            return core::ptr::null_mut();
        };
        let ino = u64::from(low) | u64::from(high) << 32;
        // SAFETY: Mounted, by the caller's promise.
        let sb = unsafe { SuperBlock::<T>::from_raw(sb) };
        alias(T::by_handle(sb, ino, generation))
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `get_parent` that it documents.
    unsafe extern "C" fn get_parent(dentry: *mut c::dentry) -> *mut c::dentry {
        let _scope = NofsScope::enter();
        // SAFETY: The caller holds the dentry, which leads to a directory.
        alias(T::parent(unsafe {
            INode::<T>::from_raw((*dentry).d_inode)
        }))
    }
}

/// # Safety
///
/// `inode` is alive.
unsafe fn put(words: &mut [u32], inode: *const c::inode) {
    // SAFETY: By the caller's promise. Others may change the rest of it, so no reference to the whole; these two are constant.
    let (ino, of) = unsafe { ((*inode).i_ino, (*inode).i_generation) };
    if let [low, high, generation, ..] = words {
        *low = ino as u32;
        *high = (ino >> 32) as u32;
        *generation = of;
    }
}

fn alias<T: FileSystem>(inode: Result<ARef<INode<T>>>) -> *mut c::dentry {
    match inode {
        // SAFETY: The call takes over the reference.
        Ok(inode) => unsafe { c::d_obtain_alias(inode::into_raw(inode)) },
        Err(error) => error.to_ptr(),
    }
}

/// For super blocks.
pub(super) fn operations<T: Complete>() -> *const kernel::bindings::export_operations {
    (&raw const *Tables::<T>::REF).cast()
}

impl<T: Complete> Tables<T> {
    const REF: &'static c::export_operations = &Self::EXPORT;
}
