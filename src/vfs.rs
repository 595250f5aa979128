// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over the kernel's virtual filesystem.
//!
//! What: one file for each kernel object. A filesystem is a type that implements [`FileSystem`]
//! and the operation traits of the objects it offers; [`registration::Registration`] hands it to
//! the kernel. Nothing in here knows which filesystem that is.
//!
//! How the unsafe parts stay small:
//!
//! * The kernel's objects appear as `#[repr(transparent)]` wrappers around
//!   [`Opaque`](kernel::types::Opaque), and only as references that a callback's caller keeps
//!   valid, or as counted references ([`ARef`](kernel::sync::aref::ARef)).
//! * What is half built is its own type. [`inode::New`] and [`inode::Fresh`] are inodes that
//!   nobody may look into yet: dropping one is its failure path. [`super_block::New`] likewise.
//! * A rule of the kind "the caller holds this lock" is an argument: [`inode::Locked`] is evidence
//!   of `i_rwsem`, [`dentry::Negative`] of a name that stays free until the call returns.
//! * Each callback opens a [`memalloc::NofsScope`] before it calls the filesystem, those apart that ask for
//!   no memory (`getattr`, `drop_inode` and the like).
//!
//! Hazard: the C structures with operations (`inode_operations` and so on) are constants of
//! generic types. A callback's C signature is checked by the compiler, its *meaning* is not: what
//! the kernel holds and guarantees at a call is in `Documentation/filesystems/locking.rst`, and
//! each `SAFETY` comment names the part that it relies on.

#![expect(
    clippy::missing_safety_doc,
    reason = "callbacks in C tables: the kernel's documentation says what holds at a call"
)]

use kernel::prelude::*;

pub(crate) mod attributes;
pub(crate) mod background;
pub(crate) mod dax;
pub(crate) mod dax_device;
pub(crate) mod dentry;
pub(crate) mod directory;
pub(crate) mod export;
pub(crate) mod file_data;
pub(crate) mod fs_context;
pub(crate) mod inode;
mod inode_cache;
pub(crate) mod iomap;
pub(crate) mod mapping;
pub(crate) mod memalloc;
pub(crate) mod memory_failure;
pub(crate) mod registration;
pub(crate) mod rwsem;
pub(crate) mod super_block;
pub(crate) mod symlink;
pub(crate) mod trace;
pub(crate) mod transfer;
pub(crate) mod wait;

use file_data::FileData;

pub(crate) use inode::INode;
pub(crate) use super_block::SuperBlock;

/// A type of filesystem.
///
/// The implementing type is never instantiated; it names the parts that belong together.
pub(crate) trait FileSystem: Sized + Send + Sync + 'static {
    /// What `mount -t` calls it.
    const NAME: &'static CStr;

    /// Name of the slab cache for inodes.
    const INODE_CACHE: &'static CStr;

    /// What a mount holds; lives from [`super_block::New::init`] until all inodes are evicted.
    type Data: Send + Sync;

    /// What an inode holds; embedded with it, dropped in process context when it is destroyed.
    type INodeData: Send + Sync;

    /// Mount options while they are being collected.
    type Options: Default + Send;
}

/// A filesystem that offers all operations that this layer knows: what can be registered.
pub(crate) trait Complete:
    super_block::Operations
    + background::Operations
    + fs_context::Operations
    + attributes::Operations
    + directory::Operations
    + symlink::Operations
    + export::Operations
    + memory_failure::Operations
    + FileData
{
}

impl<T> Complete for T where
    T: super_block::Operations
        + background::Operations
        + fs_context::Operations
        + attributes::Operations
        + directory::Operations
        + symlink::Operations
        + export::Operations
        + memory_failure::Operations
        + FileData
{
}
