// SPDX-License-Identifier: GPL-2.0

//! Symbolic links.
//!
//! What: [`Target`] is a link's text. It moves into the inode (`i_link`) when the inode is
//! initialised and stays there, so that path walks read it without a call and without a lock.
//!
//! Hazard: such a walk happens under RCU, with no reference to the inode. The text must outlive
//! the inode's last user by a grace period, which is why `free_inode` frees it, not `evict`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{attributes, Complete, FileSystem};
use crate::bindings::c;
use core::marker::PhantomData;
use kernel::prelude::*;

/// The text of a symbolic link, NUL-terminated.
pub(crate) struct Target(KVec<u8>);

impl Target {
    /// Copies a text that holds no NUL.
    ///
    /// `EINVAL` if it does, or is empty.
    pub(crate) fn new(text: &[u8]) -> Result<Self> {
        if text.is_empty() || text.contains(&0) {
            return Err(EINVAL);
        }
        let mut target = KVec::with_capacity(text.len() + 1, GFP_KERNEL)?;
        target.extend_from_slice(text, GFP_KERNEL)?;
        target.push(0, GFP_KERNEL)?;
        Ok(Self(target))
    }

    /// The memory, to be given to `kfree`.
    pub(super) fn into_raw(self) -> *mut u8 {
        self.0.into_raw_parts().0
    }
}

/// Symbolic links need nothing from a filesystem but their attributes.
pub(crate) trait Operations: FileSystem {}

struct Tables<T>(PhantomData<T>);

impl<T: Complete> Tables<T> {
    const LINK: c::inode_operations = c::inode_operations {
        get_link: Some(c::simple_get_link),
        ..attributes::Tables::<T>::COMMON
    };
}

/// For inodes of this kind.
pub(super) fn inode_operations<T: Complete>() -> *const c::inode_operations {
    &Tables::<T>::LINK
}
