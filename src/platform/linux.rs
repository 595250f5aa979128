// SPDX-License-Identifier: GPL-2.0

//! The platform over the kernel crate.
//!
//! Allocations are `GFP_KERNEL`: the VFS layer opens a nofs scope around every call that comes in
//! here. Locks are boxed and pinned inside, so that the engine may move them; lockdep gets one
//! class for each place in the engine's source that makes one.
//!
//! Hazard: a vector's memory may come from vmalloc, which must not be freed in atomic context. No
//! engine object that holds one is dropped under a [`SpinLock`] or in an RCU callback.

use crate::bindings::c;
use core::{
    alloc::Layout,
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    pin::Pin,
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering},
};
use kernel::{
    alloc::{allocator::Kmalloc, Allocator, Flags, KVVec, NumaNode},
    error::from_err_ptr,
    prelude::*,
    sync::{self, SetOnce},
    types::{NotThreadSafe, Opaque},
};

/// How all memory is asked for. The test build complains of who does so outside of a nofs scope.
#[inline(always)]
fn gfp() -> Flags {
    #[cfg(ochre_test)]
    // SAFETY: Looks at flags of this task.
    unsafe {
        c::ochre_test_in_nofs_scope()
    };
    GFP_KERNEL
}

/// There is no memory.
pub use kernel::alloc::AllocError;

/// The atomic types and orderings.
pub mod atomic {
    pub use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
}

/// Says that what follows asks for no memory. Checked on the host, where the same code runs; here it is nothing.
#[must_use = "it forbids for as long as it lives"]
pub struct NoAllocation(NotThreadSafe);

/// Says that what follows cannot fail, so must not ask for memory.
#[inline]
pub fn forbid_allocation() -> NoAllocation {
    NoAllocation(NotThreadSafe)
}

/// A growable array whose growth can fail.
pub struct Vec<T>(KVVec<T>);

impl<T> Vec<T> {
    /// An empty vector; allocates nothing.
    pub const fn new() -> Self {
        Self(KVVec::new())
    }

    /// An empty vector with room for `capacity` elements.
    pub fn with_capacity(capacity: usize) -> Result<Self, AllocError> {
        KVVec::with_capacity(capacity, gfp()).map(Self)
    }

    /// How many elements fit without another allocation.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Makes room for `additional` more elements.
    #[inline]
    pub fn reserve(&mut self, additional: usize) -> Result<(), AllocError> {
        self.0.reserve(additional, gfp())
    }

    /// Appends an element.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), AllocError> {
        self.0.push(value, gfp())
    }

    /// Removes the last element.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Inserts before `index`, which is at most the length.
    pub fn insert(&mut self, index: usize, value: T) -> Result<(), AllocError> {
        self.0.reserve(1, gfp())?;
        self.0
            .insert_within_capacity(index, value)
            .map_err(|_| AllocError)
    }

    /// Removes and returns the element at `index`, which is below the length.
    pub fn remove(&mut self, index: usize) -> T {
        // By the contract `index` is in range. (Where it is not, the kernel's bounds check is what
        // ends the wrong caller, as for any slice.)
        let last = self.0.len().saturating_sub(1);
        self.0[index..=last].rotate_left(1);
        match self.0.pop() {
            Some(value) => value,
            None => unreachable!(),
        }
    }

    /// Shortens to `len` elements; nothing happens if it is shorter already.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Removes all elements and keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<T: Clone> Vec<T> {
    /// Appends copies of all elements of `other`.
    pub fn extend_from_slice(&mut self, other: &[T]) -> Result<(), AllocError> {
        self.0.extend_from_slice(other, gfp())
    }

    /// Shortens or fills up with copies of `value`.
    pub fn resize(&mut self, len: usize, value: T) -> Result<(), AllocError> {
        let Some(more) = len.checked_sub(self.0.len()) else {
            self.0.truncate(len);
            return Ok(());
        };
        self.0.reserve(more, gfp())?;
        // Not the kernel crate's own, which asks for room again before each element.
        for place in self.0.spare_capacity_mut().iter_mut().take(more) {
            place.write(value.clone());
        }
        // SAFETY: So many were just set, in room that was there.
        unsafe { self.0.inc_len(more) };
        Ok(())
    }
}

impl<T> Default for Vec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: core::fmt::Debug> core::fmt::Debug for Vec<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

impl<T> Deref for Vec<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Vec<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// An owned heap value.
pub struct Box<T>(KVBox<T>);

impl<T> Box<T> {
    /// Moves `value` to the heap.
    pub fn new(value: T) -> Result<Self, AllocError> {
        KVBox::new(value, gfp()).map(Self)
    }
}

impl<T> Deref for Box<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Box<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Where a [`Lent`] value goes back to.
pub trait Lender<T> {
    /// Takes it back.
    fn give_back(&self, value: Box<T>);
}

/// A heap value that goes back to its lender when it is dropped. Moving it moves a pointer.
pub struct Lent<'a, T, L: Lender<T>> {
    /// There until the destructor takes it.
    value: ManuallyDrop<Box<T>>,
    lender: &'a L,
}

impl<'a, T, L: Lender<T>> Lent<'a, T, L> {
    /// Lends a value.
    pub fn new(value: Box<T>, lender: &'a L) -> Self {
        Self {
            value: ManuallyDrop::new(value),
            lender,
        }
    }
}

impl<T, L: Lender<T>> Deref for Lent<'_, T, L> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T, L: Lender<T>> DerefMut for Lent<'_, T, L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T, L: Lender<T>> Drop for Lent<'_, T, L> {
    fn drop(&mut self) {
        // SAFETY: The only place that takes it, run once; nobody looks at it afterwards.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        self.lender.give_back(value);
    }
}

/// A shared, counted heap value.
pub struct Arc<T>(sync::Arc<T>);

impl<T> Arc<T> {
    /// Moves `value` to the heap.
    pub fn new(value: T) -> Result<Self, AllocError> {
        sync::Arc::new(value, gfp()).map(Self)
    }

    /// Whether both lead to the same value.
    pub fn ptr_eq(a: &Self, b: &Self) -> bool {
        sync::Arc::ptr_eq(&a.0, &b.0)
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// A value that is set once and then only read.
pub struct Once<T>(SetOnce<T>);

impl<T> Once<T> {
    /// Not set yet.
    pub const fn new() -> Self {
        Self(SetOnce::new())
    }

    /// The value, once it is set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// Sets the value; false (and `value` dropped) when another was faster.
    pub fn set(&self, value: T) -> bool {
        self.0.populate(value)
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// What lockdep tells locks apart by.
pub struct LockClass {
    name: &'static CStr,
    /// Never dropped: lockdep keeps looking at it.
    key: ManuallyDrop<sync::LockClassKey>,
}

impl LockClass {
    /// For [`lock_class!`].
    pub const fn new(name: &'static CStr) -> Self {
        // SAFETY: The key is used through [`Self::key`] only, which wants it in static memory; the
        // destructor never runs.
        let key = ManuallyDrop::new(unsafe { sync::LockClassKey::new_static() });
        Self { name, key }
    }

    fn key(&'static self) -> Pin<&'static sync::LockClassKey> {
        Pin::static_ref(&*self.key)
    }
}

/// A lock class of its own for the place where it stands.
macro_rules! lock_class {
    ($name:literal) => {{
        static CLASS: $crate::platform::LockClass =
            $crate::platform::LockClass::new(::kernel::c_str!($name));
        &CLASS
    }};
}
pub(crate) use lock_class;

/// A sleeping lock.
pub struct Mutex<T>(Pin<KBox<sync::Mutex<T>>>);

/// The guard of a [`Mutex`].
pub type MutexGuard<'a, T> = sync::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    /// A free lock around `value`.
    pub fn new(value: T, class: &'static LockClass) -> Result<Self, AllocError> {
        KBox::pin_init(sync::Mutex::new(value, class.name, class.key()), gfp())
            .map(Self)
            .map_err(|_| AllocError)
    }

    /// Waits for the lock.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }
}

/// A lock that is held for a few hundred instructions, without sleep or allocation.
pub struct SpinLock<T>(Pin<KBox<sync::SpinLock<T>>>);

/// The guard of a [`SpinLock`].
pub type SpinLockGuard<'a, T> = sync::SpinLockGuard<'a, T>;

impl<T> SpinLock<T> {
    /// A free lock around `value`.
    pub fn new(value: T, class: &'static LockClass) -> Result<Self, AllocError> {
        KBox::pin_init(sync::SpinLock::new(value, class.name, class.key()), gfp())
            .map(Self)
            .map_err(|_| AllocError)
    }

    /// Waits for the lock.
    #[inline]
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        self.0.lock()
    }
}

/// The kernel's semaphore and what it protects.
///
/// # Invariants
///
/// `semaphore` is initialised. `value` is reached through the guards only.
#[pin_data]
struct Semaphore<T> {
    #[pin]
    semaphore: Opaque<c::rw_semaphore>,
    value: UnsafeCell<T>,
}

/// Bytes of the objects of [`Cores`]: an inode's lock, and what is beneath it.
const CORE_SIZE: usize = 640;

/// The cache of [`Cores`], while there is one.
static CORES: AtomicPtr<c::kmem_cache> = AtomicPtr::new(ptr::null_mut());

/// The slab cache that inodes' locks come from.
///
/// Why one: each inode has such a lock. `kmalloc` would round their size up to 1 KiB, and kernels that clear what they give
/// (`init_on_alloc`, the default in distributions) would clear all of that, which costs more than filling it. A cache with
/// a constructor is left alone.
///
/// # Invariants
///
/// [`CORES`] is this cache, from which nothing is allocated when it goes.
pub(crate) struct Cores(());

impl Cores {
    /// Makes the cache. There is one at a time, as long as there are inodes.
    pub(crate) fn new() -> Result<Self> {
        /// What each object keeps from one use to the next: nothing.
        ///
        /// # Safety
        ///
        /// None.
        unsafe extern "C" fn construct(_object: *mut c_void) {}
        let align = align_of::<c::rw_semaphore>() as u32;
        // SAFETY: The name is static.
        let cache = unsafe {
            c::ochre_inode_cache_create(
                c"ochre_core".as_char_ptr(),
                CORE_SIZE as u32,
                align,
                Some(construct),
            )
        };
        CORES.store(from_err_ptr(cache)?, Ordering::Release);
        // INVARIANT: Just made.
        Ok(Self(()))
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        // SAFETY: By the invariants.
        unsafe { c::kmem_cache_destroy(CORES.swap(ptr::null_mut(), Ordering::AcqRel)) };
    }
}

/// Memory from [`Cores`], and from `kmalloc` for what does not fit there. `kfree` takes both.
struct CoreMemory;

// SAFETY: What is allocated stays until `kfree`, which takes objects of any slab cache; nothing is ever resized, since the only
// user is a box; sizes and alignments beyond those of the cache are left to `Kmalloc`.
unsafe impl Allocator for CoreMemory {
    const MIN_ALIGN: usize = Kmalloc::MIN_ALIGN;

    #[inline]
    unsafe fn realloc(
        old: Option<NonNull<u8>>,
        layout: Layout,
        old_layout: Layout,
        flags: Flags,
        nid: NumaNode,
    ) -> Result<NonNull<[u8]>, AllocError> {
        let cache = CORES.load(Ordering::Acquire);
        let fits = layout.size() > CORE_SIZE / 2
            && layout.size() <= CORE_SIZE
            && layout.align() <= align_of::<c::rw_semaphore>();
        if old.is_none() && fits && !cache.is_null() {
            // SAFETY: The cache lives as long as there are inodes.
            let object = unsafe { c::ochre_cache_alloc(cache) };
            let object = NonNull::new(object.cast()).ok_or(AllocError)?;
            return Ok(NonNull::slice_from_raw_parts(object, layout.size()));
        }
        // SAFETY: The caller's promise; to be freed, an object of the cache is as good as any.
        unsafe { Kmalloc::realloc(old, layout, old_layout, flags, nid) }
    }
}

/// A sleeping lock, shared or exclusive: `struct rw_semaphore`.
pub struct RwLock<T>(Pin<kernel::alloc::Box<Semaphore<T>, CoreMemory>>);

// SAFETY: The semaphore may be used by any task; the value moves along.
unsafe impl<T: Send> Send for RwLock<T> {}
// SAFETY: Guards give several tasks `&T` (hence `Sync`), or one task `&mut T` (hence `Send`).
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    /// A free lock around `value`.
    pub fn new(value: T, class: &'static LockClass) -> Result<Self, AllocError> {
        kernel::alloc::Box::pin_init(
            pin_init!(Semaphore {
                // SAFETY: `slot` is memory for a semaphore, pinned; name and key are static.
                semaphore <- Opaque::ffi_init(|slot| unsafe {
                    c::ochre_init_rwsem(slot, class.name.as_char_ptr(), class.key().as_ptr())
                }),
                value: UnsafeCell::new(value),
            }),
            gfp(),
        )
        .map(Self)
        .map_err(|_| AllocError)
    }

    /// Waits for shared use.
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        // SAFETY: Initialised by the invariants.
        unsafe { c::down_read(self.0.semaphore.get()) };
        RwLockReadGuard {
            lock: &self.0,
            _task: NotThreadSafe,
        }
    }

    /// Waits for exclusive use.
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        // SAFETY: Initialised by the invariants.
        unsafe { c::down_write(self.0.semaphore.get()) };
        RwLockWriteGuard {
            lock: &self.0,
            _task: NotThreadSafe,
        }
    }

    /// The value, without the lock: nobody else knows of it.
    #[inline]
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: Guards borrow the lock, so that there are none; `self` is borrowed exclusively.
        unsafe { &mut *self.0.value.get() }
    }

    /// As [`Self::write`], when another lock of this class is held already; `subclass` is its rank
    /// in lockdep.
    #[inline]
    pub fn write_nested(&self, subclass: u32) -> RwLockWriteGuard<'_, T> {
        // SAFETY: Initialised by the invariants.
        unsafe { c::ochre_down_write_nested(self.0.semaphore.get(), subclass as c_int) };
        RwLockWriteGuard {
            lock: &self.0,
            _task: NotThreadSafe,
        }
    }
}

/// The shared guard of an [`RwLock`].
pub struct RwLockReadGuard<'a, T> {
    lock: &'a Semaphore<T>,
    _task: NotThreadSafe,
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: The semaphore is held shared: nobody has `&mut`.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Held, by this task.
        unsafe { c::up_read(self.lock.semaphore.get()) };
    }
}

/// The exclusive guard of an [`RwLock`].
pub struct RwLockWriteGuard<'a, T> {
    lock: &'a Semaphore<T>,
    _task: NotThreadSafe,
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: The semaphore is held exclusively, and `self` is borrowed.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: The semaphore is held exclusively, and `self` is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Held, by this task.
        unsafe { c::up_write(self.lock.semaphore.get()) };
    }
}

/// The number of this CPU; the caller may have moved already.
#[inline]
pub fn current_cpu() -> usize {
    // SAFETY: Reads a per-CPU variable.
    unsafe { c::ochre_current_cpu() as usize }
}

/// An unpredictable number.
pub fn random_u64() -> u64 {
    // SAFETY: Has no conditions.
    unsafe { c::get_random_u64() }
}

/// Lets others run.
#[inline]
pub fn yield_now() {
    // SAFETY: The contract says that the caller may sleep.
    unsafe { c::ochre_cond_resched() };
}

/// Messages for the administrator, in the kernel log.
pub mod log {
    use kernel::{pr_err, pr_info, pr_warn};

    /// Something failed.
    pub fn error(message: core::fmt::Arguments<'_>) {
        pr_err!("{message}\n");
    }

    /// Something is odd.
    pub fn warn(message: core::fmt::Arguments<'_>) {
        pr_warn!("{message}\n");
    }

    /// Something is worth knowing.
    pub fn info(message: core::fmt::Arguments<'_>) {
        pr_info!("{message}\n");
    }
}
