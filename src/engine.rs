// SPDX-License-Identifier: GPL-2.0

//! The filesystem proper.
//!
//! Compiled twice from the same files: into the kernel module, and with cargo into the tools and tests. It has no unsafe
//! code and knows neither the kernel nor the standard library: it names only [`crate::platform`], `zerocopy` and `core`.
//!
//! # Layers, lowest first
//!
//! * [`types`], [`error`]: numbers and failures. [`media`]: what a persistent memory can do. [`poison`]: what of it is lost.
//! * [`format`]: the shapes on the medium. [`checksum`], [`verify`]: whether to believe them.
//! * [`superblock`], [`mkfs`]: identity and geometry. [`volume`]: a medium with its superblock, keys, journal and
//!   allocator: all that transactions need.
//! * [`journal`], [`recovery`], [`alloc`], [`transaction`]: every change of metadata is a transaction, and there is no
//!   other way to change any.
//! * [`btree`], [`extent`], [`directory`], [`symlink`], [`inode`], [`orphan`]: trees and inodes on top, and [`filesystem`], the one type that outer layers call.
//!
//! # Locks, outermost first
//!
//! 1. `Inode.core`, an inode's extent lock: protects the whole record and its trees. Several: ascending by number.
//! 2. `alloc::ag`'s chunk mutex (growing the inodes of a group) and load mutex (first use of a group).
//! 3. The journal's mutexes: `commit` on asynchronous devices, then `checkpoint`.
//! 4. A lane's spin lock. 5. A group's spin lock, alone or under a lane's. 6. The quarantine's spin lock, the pool's
//!    and that of the list of lost blocks.
//!
//! Under 4 to 6 nothing sleeps and nothing allocates.
//!
//! # Hazard
//!
//! The medium is shared with user mappings and survives crashes at any store. So nothing is believed because it was written
//! by us, nothing is changed in place before its record is durable, and no arithmetic on what was read may overflow.
#![forbid(unsafe_code)]

pub mod alloc;
pub mod btree;
pub mod checksum;
pub mod directory;
pub mod error;
pub mod extent;
pub mod filesystem;
pub mod format;
#[cfg(not(CONFIG_RUST))]
pub mod fsck;
pub mod inode;
pub mod journal;
pub mod media;
pub mod mkfs;
pub mod mutant;
pub mod orphan;
pub mod poison;
pub mod recovery;
pub mod superblock;
pub mod symlink;
pub mod transaction;
pub mod types;
pub mod verify;
pub mod volume;

pub use error::{Corruption, Error, Result};
