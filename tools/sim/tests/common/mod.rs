// SPDX-License-Identifier: GPL-2.0

//! What the tests of the volume share.
#![allow(dead_code, reason = "each test program uses its share")]

use ochre::engine::alloc::policy::Purpose;
use ochre::engine::alloc::{AllocRequest, Window};
use ochre::engine::media::Media;
use ochre::engine::types::*;
use ochre::engine::volume::Volume;
pub use ochre_sim::image::formatted as fresh;

pub const MIB: u64 = 1 << 20;

pub fn open<M: Media>(media: M) -> Volume<M> {
    Volume::open(media, false).expect("open")
}

pub fn data(owner: u64, file_block: u64, max: u64) -> AllocRequest {
    AllocRequest {
        owner: Ino(owner),
        ag: 0,
        goal: None,
        file_block: FileBlock(file_block),
        min: 1,
        max,
        window: Window::NONE,
        purpose: Purpose::Data,
    }
}

/// The bitmap, the counts and what is in memory agree.
pub fn check_counts<M: Media>(volume: &Volume<M>) {
    let g = volume.geometry();
    for agno in 0..g.ag_count {
        let words = ochre::engine::alloc::ag::read_bitmap(volume.media(), g, agno).unwrap();
        let free = ochre::engine::alloc::ag::count_free(&words, g.ag_blocks(agno));
        let stored = volume
            .media()
            .read_u64(g.ag_base(agno).address() + 64)
            .unwrap();
        assert_eq!(free, stored, "free blocks of group {agno}");
    }
}
