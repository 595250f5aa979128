// SPDX-License-Identifier: GPL-2.0

//! Super blocks: one mounted filesystem each.
//!
//! What: [`SuperBlock`] wraps `struct super_block` and leads to the filesystem's own data;
//! [`New`] is one that is being filled. [`Operations`] is what a filesystem does for the whole.
//!
//! # How a super block ends
//!
//! 1. `kill_sb` sees to it that nobody tells of memory failures any more ([`memory_failure`]), ends what works in the
//!    background (see [`background`]), and with it waits for pages that somebody holds.
//! 2. The kernel evicts all inodes.
//! 3. [`Operations::put`] gets the data by value, while the block device is still open: it unmounts
//!    the medium and gives the DAX device back.
//! 4. The kernel closes the block device.
//!
//! Hazard: when a mount fails after [`New::init`] but before there is a root, the kernel skips
//! step 3, and nobody would ever free the data. So `kill_sb` looks for data without a root itself.
//!
//! C header: [`include/linux/fs/super_types.h`](srctree/include/linux/fs/super_types.h).

use super::{
    background::{self, Background},
    dax_device::DaxDevice,
    fs_context::Log,
    inode,
    inode::INode,
    inode_cache,
    memalloc::NofsScope,
    memory_failure, Complete, FileSystem,
};
use crate::bindings::c;
use core::{marker::PhantomData, ptr, ptr::NonNull};
use kernel::{
    error::{from_result, to_result},
    prelude::*,
    seq_file::SeqFile,
    sync::aref::ARef,
    types::{ForeignOwnable, Opaque},
};

/// A mounted filesystem of type `T`.
///
/// # Invariants
///
/// `s_fs_info` is a `KBox<Holder<T>>` until [`Operations::put`]; `s_type` is `T`'s registration.
#[repr(transparent)]
pub(crate) struct SuperBlock<T: FileSystem> {
    super_block: Opaque<c::super_block>,
    _filesystem: PhantomData<T>,
}

// SAFETY: `struct super_block` is made for use by all tasks; `Data` is `Send + Sync`.
unsafe impl<T: FileSystem> Send for SuperBlock<T> {}
// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for SuperBlock<T> {}

/// What hangs on a super block.
struct Holder<T: FileSystem> {
    data: KBox<T::Data>,
    background: Background<T>,
}

impl<T: FileSystem> SuperBlock<T> {
    /// # Safety
    ///
    /// `sb` belongs to a filesystem of type `T`, has its data, and stays alive for `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(sb: *mut c::super_block) -> &'a Self {
        // SAFETY: By the caller's promise; the type is transparent. INVARIANT: likewise.
        unsafe { &*sb.cast() }
    }

    /// The C object.
    #[inline]
    pub(super) fn as_ptr(&self) -> *mut c::super_block {
        self.super_block.get()
    }

    #[inline]
    fn holder(&self) -> &Holder<T> {
        // SAFETY: By the invariants.
        unsafe { <KBox<Holder<T>> as ForeignOwnable>::borrow((*self.as_ptr()).s_fs_info) }
    }

    /// The filesystem's part.
    #[inline]
    pub(crate) fn data(&self) -> &T::Data {
        &self.holder().data
    }

    /// The thread in the background.
    pub(super) fn background(&self) -> &Background<T> {
        &self.holder().background
    }

    /// [`background::Operations::settle`] is to look at the inode until it is done. False: the
    /// mount is about to end.
    pub(crate) fn watch(&self, inode: &INode<T>) -> bool {
        self.background().watch(inode)
    }

    /// Waits until all that is done in the background and needs no waiting for strangers is done.
    /// `EINTR`: a fatal signal. Of all locks, the caller may hold only what the thread does not
    /// take, or only tries to.
    pub(crate) fn settle(&self) -> Result {
        self.background().settle()
    }

    /// [`background::Operations::work`] has something to do.
    pub(crate) fn work(&self) {
        self.background().work();
    }

    /// Whether it is mounted read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        // SAFETY: A word that changes under `s_umount`; a look without it may be late.
        let flags = unsafe { ptr::read_volatile(&raw const (*self.as_ptr()).s_flags) };
        flags & (c::ochre_flags_OCHRE_SB_RDONLY as usize) != 0
    }

    /// Marks it read-only for the VFS too, after an error.
    pub(crate) fn set_read_only(&self) {
        // SAFETY: Readers cope with a change at any time; the writers of other bits run at mount
        // and remount, which come before and after.
        unsafe {
            let flags = &raw mut (*self.as_ptr()).s_flags;
            ptr::write_volatile(
                flags,
                ptr::read_volatile(flags) | c::ochre_flags_OCHRE_SB_RDONLY as usize,
            );
        }
    }

    /// Name of the block device.
    pub(crate) fn id(&self) -> &str {
        // SAFETY: Set before the data, constant since.
        id(unsafe { &(*self.as_ptr()).s_id })
    }

    /// Holds off a freeze for a change that no system call asked for. Never over a wait.
    pub(crate) fn start_internal_write(&self) -> InternalWrite<'_, T> {
        // SAFETY: The super block is alive.
        unsafe { c::ochre_sb_start_intwrite(self.as_ptr()) };
        InternalWrite(self)
    }

    /// As [`Self::start_internal_write`], for one who would rather not than wait for a thaw.
    pub(crate) fn try_start_internal_write(&self) -> Option<InternalWrite<'_, T>> {
        // SAFETY: The super block is alive.
        let started = unsafe { c::ochre_sb_start_intwrite_trylock(self.as_ptr()) };
        // Made only then: its end is that of a write which has begun.
        started.then(|| InternalWrite(self))
    }
}

/// See [`SuperBlock::start_internal_write`].
pub(crate) struct InternalWrite<'a, T: FileSystem>(&'a SuperBlock<T>);

impl<T: FileSystem> Drop for InternalWrite<'_, T> {
    fn drop(&mut self) {
        // SAFETY: Started when `self` was made.
        unsafe { c::ochre_sb_end_intwrite(self.0.as_ptr()) };
    }
}

fn id(name: &[c_char; 32]) -> &str {
    // SAFETY: Bytes are bytes.
    let bytes: &[u8; 32] = unsafe { &*ptr::from_ref(name).cast() };
    CStr::from_bytes_until_nul(bytes)
        .ok()
        .and_then(|name| name.to_str().ok())
        .unwrap_or("?")
}

/// A super block that is being filled.
///
/// # Invariants
///
/// Its block device is open, it has no data, and only this task works on it.
pub(crate) struct New<'a, T: FileSystem> {
    sb: NonNull<c::super_block>,
    _borrow: PhantomData<&'a mut SuperBlock<T>>,
}

/// What a filesystem tells the VFS about itself.
pub(crate) struct Params {
    /// For `statfs` and for tools.
    pub(crate) magic: u32,
    /// Largest file.
    pub(crate) max_bytes: i64,
    /// Most names of an inode.
    pub(crate) max_links: u32,
    /// First and last second that a time can have.
    pub(crate) time_range: (i64, i64),
    /// Identifies the medium.
    pub(crate) uuid: [u8; 16],
}

impl<'a, T: Complete> New<'a, T> {
    /// # Safety
    ///
    /// As the invariants say, for `'a`.
    pub(super) unsafe fn from_raw(sb: NonNull<c::super_block>) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            sb,
            _borrow: PhantomData,
        }
    }

    /// Name of the block device.
    pub(crate) fn id(&self) -> &str {
        // SAFETY: Ours alone; set when it was made.
        id(unsafe { &(*self.sb.as_ptr()).s_id })
    }

    /// Whether it is to be mounted read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        // SAFETY: Ours alone.
        unsafe { (*self.sb.as_ptr()).s_flags & (c::ochre_flags_OCHRE_SB_RDONLY as usize) != 0 }
    }

    /// Makes it read-only: the medium allows no more.
    pub(crate) fn set_read_only(&mut self) {
        // SAFETY: Ours alone.
        unsafe { (*self.sb.as_ptr()).s_flags |= c::ochre_flags_OCHRE_SB_RDONLY as usize };
    }

    /// Becomes the holder of the memory behind the block device.
    ///
    /// Drop the result, at the latest, in [`Operations::put`].
    pub(crate) fn open_dax(&self, log: &Log<'_>) -> Result<DaxDevice> {
        // SAFETY: Ours alone.
        let bdev = NonNull::new(unsafe { (*self.sb.as_ptr()).s_bdev }).ok_or(ENODEV)?;
        // SAFETY: The device stays open until after `put`. No one else holds anything by the
        // address of this super block.
        unsafe {
            let operations = &memory_failure::Table::<T>::HOLDER;
            DaxDevice::open(bdev, self.sb.cast(), operations, &|reason| {
                log.error(reason)
            })
        }
    }

    /// Gives it its data. From here on it has inodes.
    pub(crate) fn init(self, params: Params, data: KBox<T::Data>) -> Result<&'a SuperBlock<T>> {
        let sb = self.sb.as_ptr();
        let background = Background::<T>::new(sb)?;
        let holder = KBox::new(Holder { data, background }, GFP_KERNEL)?;
        // SAFETY: Ours alone. INVARIANT: From here on the data is there.
        unsafe {
            if c::sb_set_blocksize(sb, 4096) == 0 {
                return Err(EINVAL);
            }
            (*sb).s_magic = params.magic as usize;
            (*sb).s_maxbytes = params.max_bytes;
            (*sb).s_max_links = params.max_links;
            (*sb).s_time_gran = 1;
            (*sb).s_time_min = params.time_range.0;
            (*sb).s_time_max = params.time_range.1;
            (*sb).s_op = &Tables::<T>::SUPER;
            (*sb).s_export_op = super::export::operations::<T>();
            // Extended attributes and ACLs will add `s_xattr` and SB_POSIXACL here.
            c::ochre_super_set_uuid(sb, params.uuid.as_ptr());
            (*sb).s_fs_info = holder.into_foreign();
            Ok(SuperBlock::from_raw(sb))
        }
    }
}

/// Space and inodes, for `statfs`.
pub(crate) struct Statfs {
    /// Blocks of 4 KiB.
    pub(crate) blocks: u64,
    /// Free blocks.
    pub(crate) free: u64,
    /// Free blocks that may be used.
    pub(crate) available: u64,
    /// Inodes that are or could be.
    pub(crate) inodes: u64,
    /// Inodes that could be made.
    pub(crate) free_inodes: u64,
    /// Identifies the medium.
    pub(crate) uuid: [u8; 16],
    /// Longest name in bytes.
    pub(crate) name_max: u32,
}

/// What a filesystem does for the whole.
pub(crate) trait Operations: FileSystem {
    /// Unmounts. All inodes are gone; the block device is still open.
    fn put(data: KBox<Self::Data>);

    /// Makes all durable. `wait`: else only starts to.
    fn sync(sb: &SuperBlock<Self>, wait: bool) -> Result;

    /// Makes the medium clean and quiet; no writer is inside.
    fn freeze(sb: &SuperBlock<Self>) -> Result;

    /// Goes on after a freeze.
    fn thaw(sb: &SuperBlock<Self>) -> Result;

    /// Space and inodes.
    fn statfs(sb: &SuperBlock<Self>) -> Result<Statfs>;

    /// Prints the mount options, each with a comma before it.
    fn show_options(sb: &SuperBlock<Self>, out: &SeqFile);

    /// An inode leaves memory, its pages are gone: frees what it has on the medium if it has no
    /// name left.
    fn evict(inode: &INode<Self>);
}

/// The tables of C functions.
struct Tables<T>(PhantomData<T>);

impl<T: Complete> Tables<T> {
    const SUPER: c::super_operations = c::super_operations {
        alloc_inode: Some(inode_cache::alloc_inode::<T>),
        destroy_inode: Some(inode_cache::destroy_inode::<T>),
        free_inode: Some(inode_cache::free_inode),
        evict_inode: Some(Self::evict_inode),
        put_super: Some(Self::put_super),
        sync_fs: Some(Self::sync_fs),
        freeze_fs: Some(Self::freeze_fs),
        unfreeze_fs: Some(Self::unfreeze_fs),
        statfs: Some(Self::statfs),
        show_options: Some(Self::show_options),
        drop_inode: Some(background::drop_inode::<T>),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// For the kernel to call, as the `evict_inode` that it documents.
    unsafe extern "C" fn evict_inode(inode: *mut c::inode) {
        let _scope = NofsScope::enter();
        // SAFETY: The VFS passes an inode that nobody else uses, with I_FREEING set. The calls are
        // what it asks of `evict_inode`, `clear_inode` last. Where pages of DAX files may still be
        // held, which is at unmount only, they are waited for before their entries go.
        unsafe {
            let ours = INode::<T>::from_raw_checked(inode);
            if let Some(ours) = ours {
                background::wait_at_evict(ours);
                ours.mapping().delete_all_at_evict();
            }
            c::truncate_inode_pages_final(&raw mut (*inode).i_data);
            if let Some(ours) = ours {
                T::evict(ours);
            }
            c::clear_inode(inode);
        }
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `put_super` that it documents.
    unsafe extern "C" fn put_super(sb: *mut c::super_block) {
        let _scope = NofsScope::enter();
        // SAFETY: All inodes are gone, and this task alone works on the super block.
        unsafe { put_data::<T>(sb) };
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `sync_fs` that it documents.
    unsafe extern "C" fn sync_fs(sb: *mut c::super_block, wait: c_int) -> c_int {
        let _scope = NofsScope::enter();
        from_result(|| {
            // SAFETY: Mounted, and kept so by `s_umount`.
            T::sync(unsafe { SuperBlock::from_raw(sb) }, wait != 0)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `freeze_fs` that it documents.
    unsafe extern "C" fn freeze_fs(sb: *mut c::super_block) -> c_int {
        let _scope = NofsScope::enter();
        from_result(|| {
            // SAFETY: Mounted, and kept so by `s_umount`.
            T::freeze(unsafe { SuperBlock::from_raw(sb) })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `unfreeze_fs` that it documents.
    unsafe extern "C" fn unfreeze_fs(sb: *mut c::super_block) -> c_int {
        let _scope = NofsScope::enter();
        from_result(|| {
            // SAFETY: Mounted, and kept so by `s_umount`.
            T::thaw(unsafe { SuperBlock::from_raw(sb) })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `statfs` that it documents.
    unsafe extern "C" fn statfs(
        dentry: *mut c::dentry,
        out: *mut kernel::bindings::kstatfs,
    ) -> c_int {
        let _scope = NofsScope::enter();
        let out = out.cast::<c::kstatfs>();
        from_result(|| {
            // SAFETY: The VFS holds the dentry, and so its super block.
            let sb = unsafe { SuperBlock::<T>::from_raw((*dentry).d_sb) };
            let statfs = T::statfs(sb)?;
            // SAFETY: `out` is the VFS's to be filled (it was zeroed).
            unsafe {
                (*out).f_type = (*sb.as_ptr()).s_magic as isize;
                (*out).f_bsize = 4096;
                (*out).f_frsize = 4096;
                (*out).f_blocks = statfs.blocks;
                (*out).f_bfree = statfs.free;
                (*out).f_bavail = statfs.available;
                (*out).f_files = statfs.inodes;
                (*out).f_ffree = statfs.free_inodes;
                (*out).f_namelen = statfs.name_max as isize;
                c::ochre_super_fsid(out, statfs.uuid.as_ptr());
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// For the kernel to call, as the `show_options` that it documents.
    unsafe extern "C" fn show_options(seq: *mut c::seq_file, dentry: *mut c::dentry) -> c_int {
        // SAFETY: The VFS holds the dentry, and so its super block; the seq_file is this task's.
        unsafe {
            T::show_options(SuperBlock::from_raw((*dentry).d_sb), SeqFile::from_raw(seq));
        }
        0
    }
}

/// Hands the data to [`Operations::put`], if it is still there.
///
/// # Safety
///
/// Nothing uses the data of this super block, which belongs to `T`, any more.
unsafe fn put_data<T: Complete>(sb: *mut c::super_block) {
    // SAFETY: By the caller's promise; taken out just once.
    unsafe {
        let data = ptr::replace(&raw mut (*sb).s_fs_info, ptr::null_mut());
        if !data.is_null() {
            let holder = KBox::into_inner(<KBox<Holder<T>> as ForeignOwnable>::from_foreign(data));
            T::put(holder.data);
        }
    }
}

/// `kill_sb` of the filesystem type.
///
/// # Safety
///
/// For the kernel to call, as the `kill_sb` that it documents.
pub(super) unsafe extern "C" fn kill_sb<T: Complete>(sb: *mut c::super_block) {
    // SAFETY: The last user of the super block is gone, and this task alone works on it. Without a
    // root there are no inodes either, so that the data may go now: see the hazard at the top.
    unsafe {
        if let Some(sb) = NonNull::new(sb) {
            memory_failure::stop(sb);
        }
        if (*sb).s_root.is_null() {
            let _scope = NofsScope::enter();
            put_data::<T>(sb);
        } else {
            SuperBlock::<T>::from_raw(sb).background().stop();
        }
        c::kill_block_super(sb);
    }
}

/// Fills a super block that `get_tree_bdev` made.
///
/// # Safety
///
/// As for [`New`].
pub(super) unsafe fn fill<T: Complete>(
    sb: NonNull<c::super_block>,
    fill: impl FnOnce(New<'_, T>) -> Result<ARef<INode<T>>>,
) -> Result {
    // SAFETY: By the caller's promise.
    let root = fill(unsafe { New::from_raw(sb) })?;
    // SAFETY: `d_make_root` takes over the reference, also when it fails.
    unsafe {
        let root = c::d_make_root(inode::into_raw(root));
        (*sb.as_ptr()).s_root = root;
        if root.is_null() {
            return Err(ENOMEM);
        }
        // Last: with a root the kernel ends the super block in the usual way if this fails.
        let name = (*sb.as_ptr()).s_id.as_ptr();
        SuperBlock::<T>::from_raw(sb.as_ptr())
            .background()
            .start(name)?;
        memory_failure::start::<T>(sb)
    }
}

/// Writes back what the VFS knows to be dirty.
///
/// # Safety
///
/// `s_umount` is held.
pub(super) unsafe fn sync_filesystem(sb: *mut c::super_block) -> Result {
    // SAFETY: By the caller's promise.
    to_result(unsafe { c::sync_filesystem(sb) })
}
