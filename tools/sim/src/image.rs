// SPDX-License-Identifier: GPL-2.0

//! New filesystems for tests, the same each time.

use crate::MemoryMedia;
use ochre::engine::mkfs::{mkfs, MkfsOptions};
use ochre::engine::types::Timestamp;

/// With keys that are no secret, made in November 2023.
pub const fn options(size: u64) -> MkfsOptions {
    MkfsOptions {
        size,
        phase: 0,
        uuid: *b"ochre test image",
        label: [0; 32],
        secret: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
        hash_key: [1, 2],
        lanes: None,
        time: Timestamp(1_700_000_000_000_000_000),
        owner: (0, 0),
    }
}

/// A new filesystem of `size` bytes.
pub fn formatted(size: u64) -> MemoryMedia {
    let media = MemoryMedia::new(size);
    mkfs(&media, &options(size), |_, _| ()).expect("mkfs");
    media
}
