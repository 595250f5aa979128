// SPDX-License-Identifier: GPL-2.0

//! Calls that fail: for want of memory, at each allocation in turn, and for want of space, at each level of what is left.
//!
//! The rule is the same for both: a call succeeds, or it fails with the one error that says why and has changed nothing, in
//! memory and on the medium; afterwards the same call, given what it wanted, succeeds. `calls` is the list of calls,
//! `scene` the filesystem that they meet, `memory` and `space` take something away from them.

mod calls;
mod memory;
mod scene;
mod space;
mod storm;

#[path = "../model/sound.rs"]
mod sound;

/// `ALL=1`: each allocation, and each level of space in both ways. Else a share of those that repeat themselves.
fn everything() -> bool {
    std::env::var_os("ALL").is_some()
}
