// SPDX-License-Identifier: GPL-2.0

//! What lies on the medium: structures, sizes, offsets, magic numbers. `docs/format.md` describes every byte in prose.
//!
//! All numbers are little endian. A structure here is only a shape to read into and write from; nothing ever refers into
//! the medium. Sizes and offsets are asserted at compile time. A value read from the medium is believed only after a
//! verifier ([`crate::engine::verify`]) has looked at it.

pub mod ag;
pub mod directory;
pub mod extent;
pub mod inode;
pub mod journal;
pub mod node;
pub mod superblock;
pub mod symlink;

/// Fails to compile unless `$type` has `$size` bytes and each field lies at its offset.
macro_rules! layout {
    ($type:ty, $size:expr; $($field:ident @ $offset:expr),* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)*
        };
    };
}
pub(crate) use layout;
