// SPDX-License-Identifier: GPL-2.0

//! Where a request lands within one group.
//!
//! A file that grows past 16 blocks, or is written there, gets a *window*: a whole slot in which file offset and device
//! address agree modulo 2 MiB. Its next pieces continue in that slot, so that a file written in 128 KiB pieces ends up in
//! 2 MiB-aligned extents. Everything smaller shares broken slots.

use super::slots::{Effort, SlotMap};
use crate::engine::types::*;

/// Requests of this many blocks, or from this file block on, get a window.
pub const WINDOW_FROM: u64 = 16;

/// The slot that a growing file fills; the in-core inode remembers it between calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Window {
    /// First block of the slot, or [`Block::NONE`].
    pub slot: Block,
    /// The file block that belongs there; a multiple of 512.
    pub file_base: FileBlock,
}

impl Window {
    /// No window.
    pub const NONE: Self = Self {
        slot: Block::NONE,
        file_base: FileBlock(0),
    };
}

/// What a transaction is for; says how much of a group's reserve it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// New data.
    Data,
    /// Names and other metadata.
    Metadata,
    /// Converting space that was promised (unwritten extents): this must work on a full filesystem, and can do without
    /// blocks once they are short (see `extent::widen`), so that it leaves some to removal.
    Conversion,
    /// Giving space back: this must work on a full filesystem.
    Removal,
}

/// A wish for blocks of file data.
#[derive(Clone, Copy, Debug)]
pub struct AllocRequest {
    /// The file.
    pub owner: Ino,
    /// The group to look in first.
    pub ag: u32,
    /// Where `file_block` would lie if the file's previous extent went on, also over a gap.
    pub goal: Option<Block>,
    /// The first block of the file that wants a block.
    pub file_block: FileBlock,
    /// Fewer are of no use. `min = max = 512` at a multiple of 512 asks for one aligned slot.
    pub min: u64,
    /// More are not wanted.
    pub max: u64,
    /// The file's window.
    pub window: Window,
    /// What for.
    pub purpose: Purpose,
}

/// The blocks of a group that only metadata can have, and of those the ones that only removal can have.
pub const fn reserve(blocks: u64) -> u64 {
    let share = blocks / 1024;
    if share < 32 {
        32
    } else {
        share
    }
}

/// What must stay free after a request is served.
pub const fn left_over(blocks: u64, purpose: Purpose, metadata: bool) -> u64 {
    match (purpose, metadata) {
        (Purpose::Removal, _) => 0,
        (Purpose::Conversion, _) => reserve(blocks) / 4,
        (_, true) => reserve(blocks) / 2,
        (_, false) => reserve(blocks),
    }
}

/// A place: first block and number, relative to the group, and the slot that is the file's window now, if it is in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First block.
    pub start: u64,
    /// Blocks.
    pub len: u64,
    /// Slot of the window.
    pub window: Option<u64>,
}

/// Finds and takes a place for data. `base` is the group's first block; `limit` the most blocks that may be taken now.
pub fn place_data(
    map: &mut SlotMap,
    base: Block,
    r: &AllocRequest,
    limit: u64,
    effort: Effort,
) -> Option<Place> {
    let max = r.max.min(limit);
    let min = r.min.max(1);
    if max < min {
        return None;
    }
    let place = if r.max >= WINDOW_FROM || r.file_block.0 >= WINDOW_FROM {
        find_large(map, base, r, min, max)
    } else {
        find_shared_goal(map, base, r, min, max)
    };
    let place = place.or_else(|| find_shared(map, r, min, max, effort))?;
    map.take(place.start, place.len);
    if let Some(slot) = place.window {
        // A slot that is full needs no owner.
        let full = map.free_blocks_in(slot) == 0;
        map.set_owner(slot, if full { 0 } else { r.owner.0 });
    }
    Some(place)
}

fn relative(base: Block, block: Block) -> Option<u64> {
    block.0.checked_sub(base.0).filter(|n| *n < AG_BLOCKS)
}

/// Continues the window or the previous extent, else opens a new window.
fn find_large(map: &SlotMap, base: Block, r: &AllocRequest, min: u64, max: u64) -> Option<Place> {
    let offset = r.file_block.0 % SLOT_BLOCKS;
    let mine = |slot| map.owner(slot) == r.owner.0;
    if r.window != Window::NONE && r.window.file_base.0 == r.file_block.0 - offset {
        if let Some(at) = relative(base, r.window.slot).map(|s| s + offset) {
            if mine(at / SLOT_BLOCKS) {
                if let Some(place) = extend(map, at, min, max) {
                    return Some(place);
                }
            }
        }
    }
    if let Some(at) = r.goal.and_then(|g| relative(base, g)) {
        let slot = at / SLOT_BLOCKS;
        let usable = if offset == 0 {
            map.whole_from(slot, 1) == 1
        } else {
            map.owner(slot) == 0 || mine(slot)
        };
        if at % SLOT_BLOCKS == offset && usable {
            if let Some(place) = extend(map, at, min, max) {
                return Some(place);
            }
        }
    }
    let (slot, n) = map.find_whole((offset + max).div_ceil(SLOT_BLOCKS))?;
    let len = max.min(n * SLOT_BLOCKS - offset);
    (len >= min).then_some(Place {
        start: slot * SLOT_BLOCKS + offset,
        len,
        window: Some((slot * SLOT_BLOCKS + offset + len - 1) / SLOT_BLOCKS),
    })
}

/// The free run from `at` on to the end of its slot, and on through whole slots.
fn extend(map: &SlotMap, at: u64, min: u64, max: u64) -> Option<Place> {
    let rest = SLOT_BLOCKS - at % SLOT_BLOCKS;
    let mut len = map.run_at(at, max.min(rest));
    if len == rest && len < max {
        let more = map.whole_from(at / SLOT_BLOCKS + 1, (max - len).div_ceil(SLOT_BLOCKS));
        len = max.min(len + more * SLOT_BLOCKS);
    }
    (len >= min && len > 0).then_some(Place {
        start: at,
        len,
        window: Some((at + len - 1) / SLOT_BLOCKS),
    })
}

/// Behind the file's previous block, in a slot that is shared already.
fn find_shared_goal(
    map: &SlotMap,
    base: Block,
    r: &AllocRequest,
    min: u64,
    max: u64,
) -> Option<Place> {
    let at = relative(base, r.goal?)?;
    let slot = at / SLOT_BLOCKS;
    if map.owner(slot) != 0 || !map.is_broken(slot) {
        return None;
    }
    let len = map.run_at(at, max.min(SLOT_BLOCKS - at % SLOT_BLOCKS));
    (len >= min && len > 0).then_some(Place {
        start: at,
        len,
        window: None,
    })
}

/// In a shared slot: all in one piece if that can be had; with more effort, the longest piece there is.
fn find_shared(
    map: &mut SlotMap,
    r: &AllocRequest,
    min: u64,
    max: u64,
    effort: Effort,
) -> Option<Place> {
    let large = r.max >= WINDOW_FROM || r.file_block.0 >= WINDOW_FROM;
    if r.min >= SLOT_BLOCKS || (large && effort == Effort::Fitting) {
        return None;
    }
    if !large {
        if let Some(start) = map.find_small(max, 1, 0, effort) {
            return Some(Place {
                start,
                len: max,
                window: None,
            });
        }
    }
    if effort == Effort::Fitting {
        return None;
    }
    let (start, len) = map.find_longest(max, effort)?;
    (len >= min).then_some(Place {
        start,
        len,
        window: None,
    })
}
