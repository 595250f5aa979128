// SPDX-License-Identifier: GPL-2.0

//! Files with lost blocks, towards the kernel.
//!
//! What: [`clip`] keeps mappings of lost blocks from fs/dax.c, which would touch them; [`covered`] says which a write
//! replaces; [`clear_way`] takes the page of one out of the file's mapping before that. And what Ochre does when it is told of a
//! memory failure.
//!
//! Why a write must bring whole blocks: what it does not cover is gone, and zeros in its place would be a lie. A write of a part
//! fails with `EIO`, like a read; the file is cured by writing the block, or by punching it out.
//!
//! Why the page goes before the write, and stays away: faults on a lost block fail, so no new entry can come; and with none
//! there, the write into the new block is like one into a hole. A block may be lost after that, though, when its page is mapped
//! or a fault is on its way to it. So the write looks again when it has its claim, which keeps faults out, and if there is an
//! entry then (of a fault under way, too: it locks the entry first), it stops with `EIO`, for the next write to clear the way.

use super::dax::BLOCK;
use super::{engine, engine_of, failed, follow, inner, layout, Ochre};
use crate::engine::filesystem::{Condition, Mapping, MappingState};
use crate::engine::media::Media;
use crate::engine::types::{Block, FileBlock, Run};
use crate::engine::Error as EngineError;
use crate::platform::log;
use crate::vfs::dax_device::DaxDevice;
use crate::vfs::iomap::Request;
use crate::vfs::mapping::PageRange;
use crate::vfs::memory_failure::{self, hwpoison};
use crate::vfs::rwsem::Exclusive;
use crate::vfs::{INode, SuperBlock};
use kernel::prelude::*;

impl memory_failure::Operations for Ochre {
    fn failing_device(sb: &SuperBlock<Self>) -> &DaxDevice {
        engine_of(sb).media().device()
    }

    fn memory_failed(
        sb: &SuperBlock<Self>,
        offset: u64,
        len: u64,
        page: Option<(&INode<Self>, u64)>,
    ) {
        let run = Run {
            start: Block(offset / BLOCK),
            len: len / BLOCK,
        };
        let page = page.map(|(inode, page)| (inner(inode).ino(), FileBlock(page)));
        // What fails has been said, and has turned the engine read-only.
        let _ = engine_of(sb).lose(run, page);
        follow(sb);
    }

    fn device_leaves(sb: &SuperBlock<Self>) {
        log::error(format_args!(
            "{}: the device is being removed under the mounted filesystem; unmount it first",
            sb.id()
        ));
    }
}

/// Nothing of the medium is lost.
pub(super) fn is_clean(inode: &INode<Ochre>) -> bool {
    let poison = engine(inode).media().poison();
    poison.is_none_or(|poison| poison.is_clean())
}

/// Lost blocks at the start of a mapping.
pub(super) struct Lost(pub(super) Mapping);

impl Lost {
    /// For reads and writes.
    pub(super) const fn io(&self) -> Error {
        EIO
    }

    /// For faults.
    pub(super) fn fault(&self) -> Error {
        hwpoison()
    }
}

/// The part of a mapping before the first lost block. Unwritten blocks count as good: nobody touches them to read zeros.
pub(super) fn clip(
    inode: &INode<Ochre>,
    mapping: Mapping,
) -> Result<core::result::Result<Mapping, Lost>> {
    let condition = engine(inode)
        .condition(&mapping)
        .map_err(|error| failed(inode.super_block(), error))?;
    Ok(match (condition, mapping.state) {
        (Condition::Intact(len), _) => Ok(Mapping { len, ..mapping }),
        (Condition::Lost(len), MappingState::Written(_)) => Err(Lost(Mapping { len, ..mapping })),
        (Condition::Lost(len), _) => Ok(Mapping { len, ..mapping }),
    })
}

/// How many blocks of a lost mapping a write replaces: those that it covers to their end, or to the end of the file.
pub(super) fn covered(inode: &INode<Ochre>, request: &Request, lost: &Lost) -> Result<u64> {
    let end = request.pos.saturating_add(request.len);
    let blocks = whole(inode, request.pos, end, lost.0.start.0);
    if request.pos % BLOCK != 0 || blocks == 0 {
        return Err(lost.io());
    }
    Ok(blocks.min(lost.0.len))
}

/// Blocks from `first` on that a write up to byte `end` covers.
fn whole(inode: &INode<Ochre>, pos: u64, end: u64, first: u64) -> u64 {
    let last = if end >= inode.size() {
        end.div_ceil(BLOCK)
    } else {
        end / BLOCK
    };
    last.saturating_sub(first.max(pos.div_ceil(BLOCK)))
}

/// Before a write to `[pos, end)`: takes the pages of lost blocks that it replaces out of the file. True: locks may have been
/// released meanwhile, and what was looked at before has to be looked at again.
pub(super) fn clear_way(
    file: &mut Exclusive<'_, Ochre>,
    pos: u64,
    end: u64,
    nowait: bool,
) -> Result<bool> {
    let inode = file.inode();
    if is_clean(inode) || inode.mapping().is_empty() {
        return Ok(false);
    }
    let mut at = pos.div_ceil(BLOCK);
    let last = at + whole(inode, pos, end, at);
    while at < last {
        let mapping = engine(inode)
            .map(inner(inode), FileBlock(at), last - at)
            .map_err(|error| failed(inode.super_block(), error))?;
        let lost = match clip(inode, mapping)? {
            Ok(good) => {
                at += good.len;
                continue;
            }
            Err(Lost(lost)) => lost,
        };
        let pages = PageRange {
            first: at,
            end: at + lost.len,
        };
        at = pages.end;
        if inode.mapping().has_entries(pages) {
            if nowait {
                return Err(EAGAIN);
            }
            drop(layout::break_layout_of_lost(file, pages)?);
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a fault says of an error of the engine.
pub(super) fn fault_error(inode: &INode<Ochre>, error: EngineError) -> Error {
    if error == EngineError::Poisoned {
        return hwpoison();
    }
    failed(inode.super_block(), error)
}
