// SPDX-License-Identifier: GPL-2.0

//! Filesystem types: what `/proc/filesystems` lists.
//!
//! What: [`Registration`] makes a [`FileSystem`](super::FileSystem) known to the kernel for as
//! long as it lives, and owns the slab cache of its inodes.
//!
//! Hazard: inodes are freed after an RCU grace period, by code of this module, long after their
//! super block is gone. The cache's `drop` waits for all of them; it must run after the type is
//! unregistered and before the module's text goes, which is what the field order below is for.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use super::{fs_context, inode_cache::Cache, super_block, Complete};
use crate::bindings::c;
use kernel::{error::to_result, prelude::*, types::Opaque};

/// A registered filesystem type.
///
/// # Invariants
///
/// `fs_type` is registered from the time the value is initialised until it is dropped.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Complete> {
    // Dropped in the order of declaration, after `drop` has unregistered the type.
    #[pin]
    fs_type: Opaque<c::file_system_type>,
    cache: Cache<T>,
}

// SAFETY: The kernel's list of types has its own lock; nothing else changes.
unsafe impl<T: Complete> Send for Registration<T> {}
// SAFETY: As above.
unsafe impl<T: Complete> Sync for Registration<T> {}

impl<T: Complete> Registration<T> {
    /// Registers the type; mounts keep `module` loaded.
    pub(crate) fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            cache: Cache::new()?,
            fs_type <- Opaque::try_ffi_init(|slot: *mut c::file_system_type| {
                // SAFETY: `slot` is memory for the type, pinned; zeros are a valid start for it.
                // The name and the tables are static. INVARIANT: registered if this succeeds.
                unsafe {
                    slot.write(pin_init::zeroed());
                    (*slot).name = T::NAME.as_char_ptr();
                    (*slot).fs_flags =
                        (c::FS_REQUIRES_DEV | c::FS_ALLOW_IDMAP | c::FS_MGTIME) as c_int;
                    (*slot).init_fs_context = Some(fs_context::init_fs_context::<T>);
                    (*slot).parameters = fs_context::parameters::<T>().cast();
                    (*slot).kill_sb = Some(super_block::kill_sb::<T>);
                    (*slot).owner = module.as_ptr();
                    to_result(c::register_filesystem(slot))
                }
            }),
        })
    }
}

#[pinned_drop]
impl<T: Complete> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by the invariants; mounts hold the module, so none is left.
        unsafe { c::unregister_filesystem(self.fs_type.get()) };
    }
}

/// The slab cache of the inodes of a super block.
///
/// # Safety
///
/// `sb` is alive and of type `T`.
pub(super) unsafe fn cache_of<T: Complete>(sb: *mut c::super_block) -> *mut c::kmem_cache {
    // SAFETY: All super blocks of `T` have the type inside its (only) registration.
    unsafe {
        let fs_type = Opaque::cast_from((*sb).s_type);
        let registration = kernel::container_of!(fs_type, Registration<T>, fs_type);
        (*registration).cache.as_ptr()
    }
}
