// SPDX-License-Identifier: GPL-2.0

//! Blocks with the target of a symbolic link that is too long for the inode.
//!
//! A [`super::node::BlockHeader`] with `count` = bytes of the target in this block, then the bytes, then zeros. A target has
//! at most 4095 bytes, so one or two blocks.

/// The longest target in bytes.
pub const MAX_TARGET: usize = 4095;
/// Bytes of a target in one block.
pub const BLOCK_CAPACITY: usize = 4032;
