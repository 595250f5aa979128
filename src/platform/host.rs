// SPDX-License-Identifier: GPL-2.0

//! The platform over the standard library, for the tools and the tests.
//!
//! It also checks what the kernel would punish: nothing allocates and nothing sleeps while a [`SpinLock`] is held; and
//! what the engine promises: nothing allocates while a commit is under way ([`forbid_allocation`]). And it can make an
//! allocation fail on purpose ([`fail_allocation_after`]).

extern crate std;

use core::cell::Cell;
use core::mem::size_of;
use core::ops::{Deref, DerefMut};
use std::sync::PoisonError;

/// The atomic types and orderings.
pub mod atomic {
    pub use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
}

std::thread_local! {
    static SPIN_DEPTH: Cell<u32> = const { Cell::new(0) };
    static FORBIDDEN: Cell<u32> = const { Cell::new(0) };
    static FAIL_AFTER: Cell<Option<u64>> = const { Cell::new(None) };
    static CPU: Cell<Option<usize>> = const { Cell::new(None) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// There is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

/// Makes the allocation after the next `count` ones of this thread fail, and only that one; `None` ends it.
pub fn fail_allocation_after(count: Option<u64>) {
    FAIL_AFTER.with(|f| f.set(count));
}

/// Whether a failure asked for by [`fail_allocation_after`] is still to come.
pub fn allocation_failure_pending() -> bool {
    FAIL_AFTER.with(|f| f.get().is_some())
}

/// Bytes of the largest piece of memory that a [`Vec`] of this thread has wanted since [`reset_largest_allocation`].
pub fn largest_allocation() -> usize {
    LARGEST.with(Cell::get)
}

/// Begins anew.
pub fn reset_largest_allocation() {
    LARGEST.with(|largest| largest.set(0));
}

/// While it lives, an allocation of this thread ends the program.
#[must_use = "it forbids for as long as it lives"]
pub struct NoAllocation(core::marker::PhantomData<*const ()>);

/// Says that what follows cannot fail, so must not ask for memory.
pub fn forbid_allocation() -> NoAllocation {
    FORBIDDEN.with(|f| f.set(f.get() + 1));
    NoAllocation(core::marker::PhantomData)
}

impl Drop for NoAllocation {
    fn drop(&mut self) {
        FORBIDDEN.with(|f| f.set(f.get() - 1));
    }
}

/// Every allocation of this platform passes here first.
fn allocate() -> Result<(), AllocError> {
    may_sleep("allocation");
    assert!(
        FORBIDDEN.with(Cell::get) == 0,
        "allocation where none may fail"
    );
    FAIL_AFTER.with(|f| match f.get() {
        Some(0) => {
            f.set(None);
            Err(AllocError)
        }
        Some(n) => {
            f.set(Some(n - 1));
            Ok(())
        }
        None => Ok(()),
    })
}

fn may_sleep(what: &str) {
    assert!(SPIN_DEPTH.with(Cell::get) == 0, "{what} under a spin lock");
}

/// A growable array whose growth can fail.
#[derive(Debug)]
pub struct Vec<T>(std::vec::Vec<T>);

impl<T> Default for Vec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Vec<T> {
    /// An empty vector; allocates nothing.
    pub const fn new() -> Self {
        Self(std::vec::Vec::new())
    }

    /// An empty vector with room for `capacity` elements.
    pub fn with_capacity(capacity: usize) -> Result<Self, AllocError> {
        let mut v = Self::new();
        v.reserve(capacity)?;
        Ok(v)
    }

    /// Makes room for `additional` more elements.
    pub fn reserve(&mut self, additional: usize) -> Result<(), AllocError> {
        if self.0.capacity() - self.0.len() < additional {
            allocate()?;
            let bytes = (self.0.len().saturating_add(additional)).saturating_mul(size_of::<T>());
            LARGEST.with(|largest| largest.set(largest.get().max(bytes)));
            self.0.try_reserve(additional).map_err(|_| AllocError)?;
        }
        Ok(())
    }

    /// How many elements fit without another allocation.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Appends an element.
    pub fn push(&mut self, value: T) -> Result<(), AllocError> {
        self.reserve(1)?;
        self.0.push(value);
        Ok(())
    }

    /// Removes the last element.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Inserts before `index`, which is at most the length.
    pub fn insert(&mut self, index: usize, value: T) -> Result<(), AllocError> {
        self.reserve(1)?;
        self.0.insert(index, value);
        Ok(())
    }

    /// Removes and returns the element at `index`, which is below the length.
    pub fn remove(&mut self, index: usize) -> T {
        self.0.remove(index)
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
        self.reserve(other.len())?;
        self.0.extend_from_slice(other);
        Ok(())
    }

    /// Shortens or fills up with copies of `value`.
    pub fn resize(&mut self, len: usize, value: T) -> Result<(), AllocError> {
        self.reserve(len.saturating_sub(self.0.len()))?;
        self.0.resize(len, value);
        Ok(())
    }
}

impl<T> Deref for Vec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Vec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// An owned heap value.
#[derive(Debug)]
pub struct Box<T>(std::boxed::Box<T>);

impl<T> Box<T> {
    /// Moves `value` to the heap.
    pub fn new(value: T) -> Result<Self, AllocError> {
        allocate()?;
        Ok(Self(std::boxed::Box::new(value)))
    }
}

impl<T> Deref for Box<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Box<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Where a [`Lent`] value goes back to.
pub trait Lender<T> {
    /// Takes it back.
    fn give_back(&self, value: Box<T>);
}

/// A heap value that goes back to its lender when it is dropped.
pub struct Lent<'a, T, L: Lender<T>> {
    /// There until the destructor takes it.
    value: Option<Box<T>>,
    lender: &'a L,
}

impl<'a, T, L: Lender<T>> Lent<'a, T, L> {
    /// Lends a value.
    pub fn new(value: Box<T>, lender: &'a L) -> Self {
        Self {
            value: Some(value),
            lender,
        }
    }
}

impl<T, L: Lender<T>> Deref for Lent<'_, T, L> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("lent until it is dropped")
    }
}

impl<T, L: Lender<T>> DerefMut for Lent<'_, T, L> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("lent until it is dropped")
    }
}

impl<T, L: Lender<T>> Drop for Lent<'_, T, L> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.lender.give_back(value);
        }
    }
}

/// A shared, counted heap value.
#[derive(Debug)]
pub struct Arc<T>(std::sync::Arc<T>);

impl<T> Arc<T> {
    /// Moves `value` to the heap.
    pub fn new(value: T) -> Result<Self, AllocError> {
        allocate()?;
        Ok(Self(std::sync::Arc::new(value)))
    }

    /// Whether both lead to the same value.
    pub fn ptr_eq(a: &Self, b: &Self) -> bool {
        std::sync::Arc::ptr_eq(&a.0, &b.0)
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// A value that is set once and then only read.
#[derive(Debug)]
pub struct Once<T>(std::sync::OnceLock<T>);

impl<T> Once<T> {
    /// Not set yet.
    pub const fn new() -> Self {
        Self(std::sync::OnceLock::new())
    }

    /// The value, once it is set.
    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }

    /// Sets the value; false (and `value` dropped) when another was faster.
    pub fn set(&self, value: T) -> bool {
        self.0.set(value).is_ok()
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// What lockdep tells locks apart by.
#[derive(Debug)]
pub struct LockClass(&'static str);

impl LockClass {
    /// For [`lock_class!`] only.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name that was given.
    pub fn name(&self) -> &'static str {
        self.0
    }
}

/// A lock class of its own for the place where it stands.
macro_rules! lock_class {
    ($name:literal) => {{
        static CLASS: $crate::platform::LockClass = $crate::platform::LockClass::new($name);
        &CLASS
    }};
}
pub(crate) use lock_class;

/// The guard of a [`Mutex`].
pub type MutexGuard<'a, T> = std::sync::MutexGuard<'a, T>;
/// The shared guard of an [`RwLock`].
pub type RwLockReadGuard<'a, T> = std::sync::RwLockReadGuard<'a, T>;
/// The exclusive guard of an [`RwLock`].
pub type RwLockWriteGuard<'a, T> = std::sync::RwLockWriteGuard<'a, T>;

/// A sleeping lock.
#[derive(Debug)]
pub struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A free lock around `value`.
    pub fn new(value: T, _class: &'static LockClass) -> Result<Self, AllocError> {
        allocate()?;
        Ok(Self(std::sync::Mutex::new(value)))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        may_sleep("mutex");
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sleeping lock, shared or exclusive.
#[derive(Debug)]
pub struct RwLock<T>(std::sync::RwLock<T>);

impl<T> RwLock<T> {
    /// A free lock around `value`.
    pub fn new(value: T, _class: &'static LockClass) -> Result<Self, AllocError> {
        allocate()?;
        Ok(Self(std::sync::RwLock::new(value)))
    }

    /// Waits for shared use.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        may_sleep("rwlock");
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for exclusive use.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        may_sleep("rwlock");
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, without the lock: nobody else knows of it.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Self::write`], when another lock of this class is held already; `subclass` is its rank in lockdep.
    pub fn write_nested(&self, _subclass: u32) -> RwLockWriteGuard<'_, T> {
        self.write()
    }
}

/// A lock that is held for a few hundred instructions, without sleep or allocation.
#[derive(Debug)]
pub struct SpinLock<T>(std::sync::Mutex<T>);

/// The guard of a [`SpinLock`].
pub struct SpinLockGuard<'a, T>(std::sync::MutexGuard<'a, T>);

impl<T> SpinLock<T> {
    /// A free lock around `value`.
    pub fn new(value: T, _class: &'static LockClass) -> Result<Self, AllocError> {
        allocate()?;
        Ok(Self(std::sync::Mutex::new(value)))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        SPIN_DEPTH.with(|d| d.set(d.get() + 1));
        SpinLockGuard(guard)
    }
}

impl<T> Drop for SpinLockGuard<'_, T> {
    fn drop(&mut self) {
        SPIN_DEPTH.with(|d| d.set(d.get() - 1));
    }
}

impl<T> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// The number of this CPU; on the host the number of the thread, counted from its first call, or what
/// [`set_current_cpu`] said.
pub fn current_cpu() -> usize {
    static NEXT: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);
    CPU.with(|cpu| match cpu.get() {
        Some(n) => n,
        None => {
            let n = NEXT.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
            cpu.set(Some(n));
            n
        }
    })
}

/// Makes this thread the CPU `number`, so that a test chooses lanes.
pub fn set_current_cpu(number: usize) {
    CPU.with(|cpu| cpu.set(Some(number)));
}

/// An unpredictable number.
pub fn random_u64() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// Lets others run: really so once in a while only, since the scheduler preempts a program anyway, and tools and tests that
/// mount hundreds of thousands of images would spend half their time in the system call.
pub fn yield_now() {
    std::thread_local! {
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }
    may_sleep("yield");
    let calls = CALLS.with(|calls| calls.replace(calls.get().wrapping_add(1)));
    if calls % 1024 == 1023 {
        std::thread::yield_now();
    }
}

/// Messages for the administrator; on the host they go to the standard error stream.
pub mod log {
    extern crate std;
    use core::fmt::Arguments;
    use core::sync::atomic::{AtomicBool, Ordering};

    static QUIET: AtomicBool = AtomicBool::new(false);

    /// Keeps messages back, for programs that provoke many of them.
    pub fn set_quiet(quiet: bool) {
        QUIET.store(quiet, Ordering::Relaxed);
    }

    fn line(level: &str, message: Arguments<'_>) {
        if !QUIET.load(Ordering::Relaxed) {
            std::eprintln!("ochre: {level}{message}");
        }
    }

    /// Something failed.
    pub fn error(message: Arguments<'_>) {
        line("error: ", message);
    }

    /// Something is odd.
    pub fn warn(message: Arguments<'_>) {
        line("warning: ", message);
    }

    /// Something is worth knowing.
    pub fn info(message: Arguments<'_>) {
        line("", message);
    }
}
