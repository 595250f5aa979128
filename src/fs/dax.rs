// SPDX-License-Identifier: GPL-2.0

//! Where file data is: the engine's mappings as iomap extents, and page faults.
//!
//! What: [`ReadExtents`], [`WriteExtents`], [`ReadFaultExtents`], [`FaultExtents`],
//! [`SeekExtents`] and [`ReportExtents`] answer fs/iomap and fs/dax.c; [`fault`] is the protocol of a page fault.
//!
//! How a fault goes: note the write (freeze, time), take `invalidate_lock` shared, look whether the
//! range is in flight, let fs/dax.c do the work. It calls [`FaultExtents::begin`], which allocates,
//! zeroes and commits what is missing: when it returns, the block is durable and the file's, so
//! `MAP_SYNC` costs nothing extra. `i_rwsem` is never taken: a writer holds it while it faults its
//! own buffer in, and the buffer may be a mapping of this file.
//!
//! Hazard: a fault that waited for a range in flight inside fs/dax.c would hold the lock of the
//! page's DAX entry, for which the writer's invalidation waits before it ends its claim. So the
//! wait is outside: [`FaultExtents::begin`] says `EAGAIN`, and [`fault`] waits with nothing held.

use super::{defer, engine, failed, inner, poison, Ochre};
use crate::engine::filesystem::{Mapping, MappingState, WriteKind, WriteReservation};
use crate::engine::types::{FileBlock, BLOCK_SIZE};
use crate::testing::{self, Failure, Point, Protection};
use crate::vfs::dax::{Fault, FaultResult, Outcome, Waited, SIGBUS};
use crate::vfs::dax_device::DaxDevice;
use crate::vfs::iomap::{Extent, Operations, Place, Request};
use crate::vfs::mapping::PageRange;
use crate::vfs::rwsem::Shared;
use crate::vfs::{trace, INode};
use kernel::prelude::*;

/// Bytes in a block, which is also a page.
pub(super) const BLOCK: u64 = BLOCK_SIZE;

/// At most so many blocks are in flight at once: 16 MiB.
const MAX_IN_FLIGHT: u64 = 4096;

/// First block and number of blocks of a byte range.
fn blocks_of(request: &Request) -> (u64, u64) {
    let first = request.pos / BLOCK;
    let last = request.pos.saturating_add(request.len.saturating_sub(1)) / BLOCK;
    (first, last - first + 1)
}

/// A mapping as an extent.
fn extent_of(mapping: &Mapping) -> Extent {
    Extent {
        offset: mapping.start.0 * BLOCK,
        len: mapping.len * BLOCK,
        place: match mapping.state {
            MappingState::Hole => Place::Hole,
            MappingState::Unwritten(block) => Place::Unwritten(block.0 * BLOCK),
            MappingState::Written(block) => Place::Mapped(block.0 * BLOCK),
        },
        finish: false,
    }
}

/// What is at the start of a range, lost or not.
fn look(inode: &INode<Ochre>, request: &Request) -> Result<Mapping> {
    let (first, blocks) = blocks_of(request);
    engine(inode)
        .map(inner(inode), FileBlock(first), blocks)
        .map_err(|error| failed(inode.super_block(), error))
}

/// The device that all files are on.
pub(super) fn device(inode: &INode<Ochre>) -> &DaxDevice {
    engine(inode).media().device()
}

/// As [`look`], for a fault on `pages`: blocks that a writer has just published are not there yet.
///
/// The writer still has to drop entries of the zero page, and drops every clean entry that it
/// finds in its range. Were the new page entered now, and mapped, it would lose its entry. The
/// claim is looked at last: a publication that was seen and is no longer claimed is all done.
fn look_for_fault(inode: &INode<Ochre>, request: &Request) -> Result<Mapping> {
    let mapping = poison::clip(inode, look(inode, request)?)?.map_err(|lost| lost.fault())?;
    if let MappingState::Written(_) = mapping.state {
        let (first, blocks) = blocks_of(request);
        let pages = PageRange {
            first,
            end: first + blocks,
        };
        let look = !testing::without(Protection::LookAgain);
        if look && inode.data().data.in_flight.is_claimed(pages) {
            return Err(EAGAIN);
        }
    }
    Ok(mapping)
}

/// For reads.
pub(super) struct ReadExtents;

impl Operations<Ochre> for ReadExtents {
    fn begin(inode: &INode<Ochre>, request: &Request) -> Result<Extent> {
        let good = poison::clip(inode, look(inode, request)?)?;
        Ok(extent_of(&good.map_err(|lost| lost.io())?))
    }

    fn device(inode: &INode<Ochre>) -> &DaxDevice {
        device(inode)
    }
}

/// For faults that read.
pub(super) struct ReadFaultExtents;

impl Operations<Ochre> for ReadFaultExtents {
    fn begin(inode: &INode<Ochre>, request: &Request) -> Result<Extent> {
        let mapping = look_for_fault(inode, request)?;
        testing::pause(Point::FaultLookedUp);
        Ok(extent_of(&mapping))
    }

    fn device(inode: &INode<Ochre>) -> &DaxDevice {
        device(inode)
    }
}

/// For `SEEK_DATA` and `SEEK_HOLE`: what was never written is a hole.
pub(crate) struct SeekExtents;

impl Operations<Ochre> for SeekExtents {
    fn begin(inode: &INode<Ochre>, request: &Request) -> Result<Extent> {
        let mut extent = extent_of(&look(inode, request)?);
        if let Place::Unwritten(_) = extent.place {
            extent.place = Place::Hole;
        }
        Ok(extent)
    }

    fn device(inode: &INode<Ochre>) -> &DaxDevice {
        device(inode)
    }
}

/// For `FIEMAP`.
pub(crate) struct ReportExtents;

impl Operations<Ochre> for ReportExtents {
    fn begin(inode: &INode<Ochre>, request: &Request) -> Result<Extent> {
        // What is pending behind the end is on its way out of the file.
        let end = defer::limit(inode, u64::MAX);
        if request.pos >= end {
            return Ok(Extent {
                offset: request.pos,
                len: request.len,
                place: Place::Hole,
                finish: false,
            });
        }
        let mut extent = extent_of(&look(inode, request)?);
        extent.len = extent.len.min(end.saturating_sub(extent.offset));
        Ok(extent)
    }

    fn device(inode: &INode<Ochre>) -> &DaxDevice {
        device(inode)
    }
}

/// Blocks were lost after the write had cleared its way: their pages may be mapped, or held, and so they are not replaced now.
/// The next write clears the way. The claim keeps more pages from coming.
fn is_in_the_way(inode: &INode<Ochre>, reservation: &WriteReservation) -> bool {
    let first = reservation.start.0;
    let end = first + reservation.len;
    reservation.kind == WriteKind::Replace && inode.mapping().has_entries(PageRange { first, end })
}

/// For writes: blocks of the file where it has them, blocks in flight where not.
pub(super) struct WriteExtents;

impl Operations<Ochre> for WriteExtents {
    const HAS_END: bool = true;

    fn begin(inode: &INode<Ochre>, request: &Request) -> Result<Extent> {
        let in_flight = &inode.data().data.in_flight;
        if let Some((error, _)) = in_flight.failure() {
            return Err(error);
        }
        let mapping = match poison::clip(inode, look(inode, request)?)? {
            Ok(good) => {
                if let MappingState::Written(_) = good.state {
                    return Ok(extent_of(&good));
                }
                good
            }
            Err(lost) => Mapping {
                len: poison::covered(inode, request, &lost)?,
                ..lost.0
            },
        };
        if request.is_nowait() {
            return Err(EAGAIN);
        }
        let first = mapping.start.0;
        let blocks = mapping.len.min(MAX_IN_FLIGHT);
        // A fault may have given the range blocks before the claim; the engine looks again.
        in_flight.claim_write(PageRange {
            first,
            end: first + blocks,
        })?;
        let end = inode.size().max(request.pos.saturating_add(request.len));
        match engine(inode).reserve_write(inner(inode), mapping.start, blocks, end) {
            Ok(reservation) => {
                testing::pause(Point::WriteReserved);
                if is_in_the_way(inode, &reservation) {
                    engine(inode).cancel(reservation);
                    in_flight.release_write();
                    return Err(EIO);
                }
                let in_place = reservation.kind == WriteKind::InPlace;
                let extent = Extent {
                    offset: reservation.start.0 * BLOCK,
                    len: reservation.len * BLOCK,
                    place: Place::Mapped(reservation.block.0 * BLOCK),
                    finish: !in_place,
                };
                if in_place {
                    engine(inode).cancel(reservation);
                    in_flight.release_write();
                } else {
                    in_flight.put_reservation(&reservation);
                }
                Ok(extent)
            }
            Err(error) => {
                in_flight.release_write();
                Err(failed(inode.super_block(), error))
            }
        }
    }

    fn end(inode: &INode<Ochre>, request: &Request, done: u64) -> Result {
        let in_flight = &inode.data().data.in_flight;
        testing::pause(Point::WriteCopied);
        let result = super::file::publish(inode, request.pos, done, done < request.len);
        // Only now: see the hazard in `inflight`.
        in_flight.release_write();
        testing::pause(Point::WriteReleased);
        if let Err(error) = result {
            if !testing::without(Protection::CarryErrors) {
                in_flight.fail(error, request.pos);
            }
        }
        result
    }

    fn device(inode: &INode<Ochre>) -> &DaxDevice {
        device(inode)
    }
}

/// For faults that write: every page gets a block.
pub(super) struct FaultExtents;

impl Operations<Ochre> for FaultExtents {
    fn begin(inode: &INode<Ochre>, request: &Request) -> Result<Extent> {
        let mapping = look_for_fault(inode, request)?;
        if let MappingState::Written(_) = mapping.state {
            testing::pause(Point::FaultLookedUp);
            // Shorter than a 2 MiB page: fs/dax.c sees it, and falls back.
            return Ok(extent_of(&mapping));
        }
        let (first, blocks) = blocks_of(request);
        let in_flight = &inode.data().data.in_flight;
        let Some(_claim) = in_flight.claim_fault(PageRange {
            first,
            end: first + blocks,
        }) else {
            if testing::without(Protection::WaitOutside) {
                let pages = PageRange {
                    first,
                    end: first + blocks,
                };
                in_flight.wait(pages)?;
            }
            return Err(EAGAIN);
        };
        let mapping = engine(inode)
            .fault_allocate(inner(inode), FileBlock(first), blocks)
            .map_err(|error| poison::fault_error(inode, error))?;
        testing::pause(Point::FaultAllocated);
        if testing::fails(Failure::FaultAfterAllocation) {
            return Err(EIO);
        }
        Ok(extent_of(&mapping))
    }

    fn device(inode: &INode<Ochre>) -> &DaxDevice {
        device(inode)
    }
}

/// Handles a fault.
pub(super) fn fault(fault: Fault<'_, Ochre>) -> FaultResult {
    let (inode, pages, write) = (fault.inode(), fault.pages(), fault.is_file_write());
    let handled = handle(fault);
    if let Handled::Here(result) = handled {
        trace::dax_fault(inode, pages, write, result);
    }
    handled.result()
}

/// How a fault ended.
enum Handled {
    /// With the locks that it was called with.
    Here(FaultResult),
    /// They are gone, and the inode may be.
    Elsewhere(FaultResult),
}

impl Handled {
    fn result(self) -> FaultResult {
        match self {
            Self::Here(result) | Self::Elsewhere(result) => result,
        }
    }
}

fn handle(mut fault: Fault<'_, Ochre>) -> Handled {
    let inode = fault.inode();
    let pages = fault.pages();
    let in_flight = &inode.data().data.in_flight;
    let write = fault.is_file_write();
    let mut settled = false;
    loop {
        let freeze = write.then(|| fault.start_write());
        let outcome = {
            let Ok(_rwsem) = rwsem_of_a_test(inode) else {
                return Handled::Here(SIGBUS);
            };
            let lock = inode.mapping().lock_invalidate_shared();
            if in_flight.is_claimed(pages) {
                Outcome::InFlight
            } else if write {
                testing::pause(Point::FaultChecked);
                fault.resolve::<FaultExtents>(&lock)
            } else {
                testing::pause(Point::FaultChecked);
                fault.resolve::<ReadFaultExtents>(&lock)
            }
        };
        // A freeze must not have to wait for whom this fault waits.
        let _freeze = freeze.filter(|_| testing::without(Protection::LetFreeze));
        match outcome {
            // A fallback because of a range in flight is not worth giving a 2 MiB page up for.
            Outcome::Done(result)
                if !(Fault::<Ochre>::is_fallback(result) && in_flight.is_claimed(pages)) =>
            {
                return Handled::Here(result);
            }
            Outcome::NoSpace(result) => {
                // There may be blocks whose last holder has just let go.
                if core::mem::replace(&mut settled, true) {
                    return Handled::Here(result);
                }
                match fault.wait(|inode| inode.super_block().settle()) {
                    Waited::Again => continue,
                    Waited::Return(result) => return Handled::Elsewhere(result),
                }
            }
            _ => {}
        }
        match fault.wait(|_| in_flight.wait(pages)) {
            Waited::Again => {}
            Waited::Return(result) => return Handled::Elsewhere(result),
        }
    }
}

/// What a fault must not take, since a writer has it while it faults its buffer in: for the test that shows it.
/// (First in a way that a signal ends; then so that lockdep sees it.)
#[inline(always)]
fn rwsem_of_a_test(inode: &INode<Ochre>) -> Result<Option<Shared<'_, Ochre>>> {
    if !testing::without(Protection::NoRwsemInFaults) {
        return Ok(None);
    }
    testing::poll(|| Shared::try_lock(inode).is_some())?;
    Ok(Some(Shared::lock(inode)))
}
