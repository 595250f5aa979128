// SPDX-License-Identifier: GPL-2.0

//! Waiting for a condition, by the address of what the condition is about.
//!
//! What: [`wait_killable`] sleeps until a condition holds or a fatal signal arrives; [`wake`]
//! makes the sleepers on an address look again. The wait queues are the kernel's hashed table of
//! "var" queues, so no object pays for a queue head of its own.
//!
//! Hazard: a waker must store first and call [`wake`] then (it contains the full barrier). The
//! other way round the sleeper may look between the two, find the condition false, and sleep on
//! for ever, since nobody will call again.
//!
//! C header: `include/linux/wait_bit.h`.

use crate::bindings::c;
use core::ffi::c_void;
use kernel::error::to_result;
use kernel::prelude::*;

/// Sleeps until `condition` holds. `EINTR`: a fatal signal came first.
///
/// `key` only names the wait: it is never dereferenced.
pub(crate) fn wait_killable<K, F: FnMut() -> bool>(key: *const K, mut condition: F) -> Result {
    unsafe extern "C" fn holds<F: FnMut() -> bool>(context: *mut c_void) -> bool {
        // SAFETY: `context` is the closure of the frame below, which waits for us and does not
        // touch it meanwhile.
        unsafe { (*context.cast::<F>())() }
    }
    // SAFETY: The callee calls `holds::<F>` with `context` only before it returns.
    to_result(unsafe {
        c::ochre_wait_var_killable(
            key.cast_mut().cast(),
            Some(holds::<F>),
            (&raw mut condition).cast(),
        )
    })
}

/// Sleeps until `condition` holds, whatever comes. Only for what is sure to come.
pub(crate) fn wait_idle<K, F: FnMut() -> bool>(key: *const K, mut condition: F) {
    unsafe extern "C" fn holds<F: FnMut() -> bool>(context: *mut c_void) -> bool {
        // SAFETY: As in `wait_killable`.
        unsafe { (*context.cast::<F>())() }
    }
    // SAFETY: The callee calls `holds::<F>` with `context` only before it returns.
    unsafe {
        c::ochre_wait_var_idle(
            key.cast_mut().cast(),
            Some(holds::<F>),
            (&raw mut condition).cast(),
        )
    };
}

/// Makes all that wait on `key` look at their conditions again.
pub(crate) fn wake<K>(key: *const K) {
    // SAFETY: The address is a name, and is not dereferenced.
    unsafe { c::ochre_wake_var(key.cast_mut().cast()) };
}
