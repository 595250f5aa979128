// SPDX-License-Identifier: GPL-2.0

//! Scopes in which memory allocation does not come back into a filesystem.
//!
//! What: [`NofsScope`] is a guard; while it lives, allocations of this task behave as `GFP_NOFS`.
//!
//! Hazard: without it, an allocation under an inode's lock may enter reclaim, reclaim may evict
//! another inode of the same filesystem, and evicting takes locks of the class that is already
//! held. It happens under memory pressure only, and then it deadlocks.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h).

use crate::bindings::c;
use kernel::types::NotThreadSafe;

/// While this value lives, the current task does not enter filesystem reclaim.
///
/// # Invariants
///
/// `flags` came from `memalloc_nofs_save` on the current task and is given back once.
pub(crate) struct NofsScope {
    flags: u32,
    _task: NotThreadSafe,
}

impl NofsScope {
    /// Opens a scope. Scopes nest like any other guards: last opened, first closed.
    #[inline]
    pub(crate) fn enter() -> Self {
        // SAFETY: Only changes flags of the current task. INVARIANT: as the type says.
        let flags = unsafe { c::ochre_nofs_enter() };
        Self {
            flags,
            _task: NotThreadSafe,
        }
    }
}

impl Drop for NofsScope {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the invariants the flags are this task's; the value cannot move to another.
        unsafe { c::ochre_nofs_leave(self.flags) };
    }
}
