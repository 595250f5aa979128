// SPDX-License-Identifier: GPL-2.0

//! The contract between the engine and the world it runs in.
//!
//! The engine names only this module, `zerocopy` and `core`. Two files offer the same names: `platform/linux.rs` over the
//! kernel crate and `platform/host.rs` over the standard library. Nothing here takes an allocation flag: in the kernel
//! every call into the engine runs in a nofs scope, and nothing allocates under a [`SpinLock`].
//!
//! | name | what the engine relies on |
//! |---|---|
//! | `AllocError` | no memory; the engine turns it into `Error::NoMemory` |
//! | `Vec<T>` | `new()` and `Default` for any `T` (no allocation), `with_capacity(n)`, `reserve(n)`, `push(v)`, `insert(i, v)`, `extend_from_slice(s)`, `resize(n, v)` return `Result<_, AllocError>` and leave the vector unchanged on failure; `pop`, `truncate`, `clear`, `remove(i)` (returns the element; `i` must be in range), `capacity()`; `Deref<Target = [T]>`, `DerefMut`. Large ones come from kvmalloc. `push` within the capacity never allocates |
//! | `forbid_allocation()` | a guard; the host ends the program if this thread allocates while it lives |
//! | `Box<T>` | `new(v) -> Result`, `Deref`, `DerefMut` |
//! | `Lent<'_, T, L>` | `new(Box<T>, &L)`, `Deref`, `DerefMut`; dropping it calls `Lender::give_back` of `L` with the box, once |
//! | `Arc<T>` | `new(v) -> Result`, `Clone`, `Deref`, `ptr_eq(&a, &b)` |
//! | `Once<T>` | `const new()`, `get() -> Option<&T>` (acquire), `set(v) -> bool` (false and dropped when already set); `Sync` if `T: Send + Sync` |
//! | `lock_class!("name")` | a `&'static LockClass`, one per place in the source |
//! | `Mutex<T>`, `SpinLock<T>`, `RwLock<T>` | `new(value, class) -> Result<Self, AllocError>`; the values may be moved (the kernel's lock is boxed and pinned inside) |
//! | | `Mutex::lock()`, `SpinLock::lock()`, `RwLock::read()`, `write()`, `write_nested(subclass: u32)`, `RwLock::get_mut()`: guards that dereference to `T`, named `MutexGuard`, `SpinLockGuard`, `RwLockReadGuard`, `RwLockWriteGuard`, each with parameters `<'a, T>` |
//! | `SpinLock` | holding it disables preemption: two statements under it run on one CPU. No allocation, no sleep, no `Mutex` under it |
//! | `atomic` | `AtomicU64`, `AtomicU32`, `AtomicBool`, `Ordering` of `core::sync::atomic` |
//! | `current_cpu() -> usize` | a hint; the caller may have moved already |
//! | `random_u64() -> u64` | unpredictable |
//! | `yield_now()` | a point at which a long loop lets others run (`cond_resched`) |
//! | `log::{error, warn, info}(core::fmt::Arguments<'_>)` | one line; the platform adds prefix and newline |

#[cfg(CONFIG_RUST)]
mod linux;
#[cfg(CONFIG_RUST)]
pub use linux::*;

#[cfg(not(CONFIG_RUST))]
mod host;
#[cfg(not(CONFIG_RUST))]
pub use host::*;
