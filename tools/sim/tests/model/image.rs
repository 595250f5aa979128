// SPDX-License-Identifier: GPL-2.0

//! Images for tests.

use ochre::engine::mkfs::{mkfs, MkfsOptions};
use ochre::engine::types::Timestamp;
use ochre_sim::MemoryMedia;

/// A new filesystem of `size` bytes, the same each time.
pub fn formatted(size: u64) -> MemoryMedia {
    let media = MemoryMedia::new(size);
    let options = MkfsOptions {
        size,
        phase: 0,
        uuid: *b"ochre test image",
        label: [0; 32],
        secret: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
        hash_key: [1, 2],
        lanes: None,
        time: Timestamp(1_700_000_000_000_000_000),
        owner: (0, 0),
    };
    mkfs(&media, &options, |_, _| ()).expect("mkfs");
    media
}
