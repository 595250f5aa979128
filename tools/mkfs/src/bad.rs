// SPDX-License-Identifier: GPL-2.0

//! Bad blocks of the device.
//!
//! The module leaves out what the device lists as bad where it may choose: file data, inodes and trees are put elsewhere. What it
//! cannot leave out is metadata of a fixed place. A device may cure a bad block when it is written, so that is tried first; if
//! it stays bad there, a filesystem made here could not be written, and so none is made.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use ochre::engine::alloc::ag::is_own;
use ochre::engine::format::ag::METADATA_BLOCKS;
use ochre::engine::superblock::Geometry;
use ochre::engine::types::{Block, BLOCK_SIZE};
use ochre_tools::device::Device;

/// Blocks of the first inodes, which mkfs makes right behind a group's metadata.
const FIRST_INODES: u64 = 4;

/// What of a filesystem has its fixed place in this block.
fn fixed(g: &Geometry, block: Block) -> Option<&'static str> {
    if block.0 == 0 || block.0 == g.blocks - 1 {
        return Some("a superblock");
    }
    if block < g.orphans {
        return Some("the journal");
    }
    if block < g.ag_start {
        let end = g
            .orphans
            .plus((u64::from(g.orphan_slots) * 8).div_ceil(BLOCK_SIZE));
        return (block < end).then_some("the table of orphans");
    }
    let (ag, relative) = g.locate(block)?;
    if relative < METADATA_BLOCKS {
        return is_own(relative).then_some("a group's bitmap or its map of inodes");
    }
    let first = ag == 0 && relative < METADATA_BLOCKS + FIRST_INODES;
    first.then_some("the root directory")
}

/// The bad blocks where something has its fixed place, and what.
fn in_the_way(g: &Geometry, bad: &[Range<u64>]) -> Vec<(Block, &'static str)> {
    let blocks = bad.iter().flat_map(|range| {
        let end = range.end.min(g.blocks * BLOCK_SIZE);
        range.start / BLOCK_SIZE..end.div_ceil(BLOCK_SIZE)
    });
    blocks
        .filter_map(|block| Some((Block(block), fixed(g, Block(block))?)))
        .collect()
}

/// Bad blocks that stay out of the filesystem's use.
///
/// # Errors
///
/// Some cannot be left out.
pub fn look(device: &Device, geometry: &Geometry) -> Result<u64, String> {
    let bad = device.bad_blocks();
    for (block, _) in in_the_way(geometry, &bad) {
        // It may be cured by that. If not, the list still has it.
        let zeros = [0; BLOCK_SIZE as usize];
        let _ = device.file.write_all_at(&zeros, block.address());
        let _ = device.file.sync_data();
    }
    judge(
        &device.path.display().to_string(),
        geometry,
        &device.bad_blocks(),
    )
}

fn judge(name: &str, geometry: &Geometry, bad: &[Range<u64>]) -> Result<u64, String> {
    let needed = in_the_way(geometry, bad);
    if let Some((block, what)) = needed.first() {
        return Err(format!(
            "{name} has a bad block at byte {:#x}, where {what} has to be ({} such blocks); \
             let ndctl clear-errors cure it, or use a partition or namespace without it",
            block.address(),
            needed.len()
        ));
    }
    let inside = |range: &Range<u64>| {
        let end = range.end.min(geometry.blocks * BLOCK_SIZE);
        end.div_ceil(BLOCK_SIZE)
            .saturating_sub(range.start / BLOCK_SIZE)
    };
    Ok(bad.iter().map(inside).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(n: Block) -> Range<u64> {
        n.address() + 512..n.address() + 1024
    }

    #[test]
    fn what_can_be_left_out_is_and_what_cannot_is_named() {
        let g = Geometry::plan(2 << 18, 0, 4).unwrap();
        let judge = |bad: &[Range<u64>]| judge("/dev/pmem7", &g, bad);
        let base = g.ag_base(1);
        let free = [
            g.ag_base(0).plus(12),
            g.ag_base(0).plus(600),
            base.plus(512),
        ];
        assert_eq!(judge(&[]), Ok(0));
        assert_eq!(judge(&free.map(block)), Ok(3));
        assert_eq!(judge(&[block(Block(g.blocks + 5))]), Ok(0));
        for (at, what) in [
            (Block(0), "a superblock"),
            (Block(g.blocks - 1), "a superblock"),
            (g.journal, "the journal"),
            (Block(g.orphans.0 - 1), "the journal"),
            (g.orphans, "the table of orphans"),
            (base, "a group's bitmap"),
            (base.plus(8), "a group's bitmap"),
            (base.plus(271), "map of inodes"),
            (g.ag_base(0).plus(512), "the root directory"),
        ] {
            let error = judge(&[block(free[1]), block(at)]).unwrap_err();
            assert!(error.contains(what), "{at}: {error}");
            assert!(error.contains(&format!("{:#x}", at.address())), "{error}");
        }
    }
}
