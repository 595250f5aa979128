// SPDX-License-Identifier: GPL-2.0

//! The first pass: both superblocks, and the header of the journal.

use zerocopy::{FromBytes, IntoBytes};

use crate::engine::checksum::{self, Domain, Keys};
use crate::engine::directory::NameHash;
use crate::engine::error::{Error, Result};
use crate::engine::format::ag::{METADATA_BLOCKS, MIN_BLOCKS};
use crate::engine::format::journal::{self, CheckpointSlot, JournalHeader};
use crate::engine::format::superblock::{
    Superblock, CHECKED, CLEAN, INCOMPAT, MAGIC, REPAIRING, STATE_OFFSET, VERSION,
};
use crate::engine::media::Media;
use crate::engine::types::{usize_of, Block, Ino, AG_BLOCKS, BLOCK_SIZE, SLOT_BLOCKS};

use super::{Copy, Issue, Observer, Options, Shape, Summary};

/// What a superblock turned out to be.
#[expect(
    clippy::large_enum_variant,
    reason = "two of them, once, on the stack of a tool"
)]
enum Read {
    Good(Superblock),
    /// The magic number is there, the rest is not right.
    Bad(&'static str),
    Absent,
}

fn read_copy<M: Media>(media: &M, block: Block) -> Read {
    let mut bytes = [0u8; 512];
    if media.read(block.address(), &mut bytes).is_err() {
        return Read::Bad("cannot be read");
    }
    let Ok(superblock) = Superblock::read_from_bytes(&bytes) else {
        return Read::Absent;
    };
    if superblock.magic.get() != MAGIC {
        return Read::Absent;
    }
    if superblock.checksum.get() != checksum::superblock(&bytes[..CHECKED]) {
        return Read::Bad("wrong checksum");
    }
    Read::Good(superblock)
}

/// Reads both superblocks and the journal's header; `None`, after a report, if neither is usable.
pub(super) fn read<M: Media>(
    media: &M,
    options: Options,
    observer: &mut dyn Observer,
    summary: &mut Summary,
) -> Result<Option<Shape>> {
    let mut report = |issue: Issue| {
        summary.issues += 1;
        observer.issue(&issue);
    };
    let device_blocks = media.size() / BLOCK_SIZE;
    let primary = read_copy(media, Block(0));
    // A damaged primary cannot say where its copy is; mkfs put it at the end of the device.
    let end = match &primary {
        Read::Good(superblock) => superblock.blocks.get(),
        _ => device_blocks,
    };
    let backup = match end.checked_sub(1) {
        Some(last) if last < device_blocks => read_copy(media, Block(last)),
        _ => Read::Absent,
    };
    let superblock = match (primary, backup) {
        (Read::Good(primary), Read::Good(backup)) => {
            let (one, other) = (primary.as_bytes(), backup.as_bytes());
            if one.get(..CHECKED) != other.get(..CHECKED) {
                report(Issue::SuperblocksDiffer);
            }
            primary
        }
        (Read::Good(primary), other) => {
            let fault = match other {
                Read::Bad(fault) => fault,
                _ => "is missing",
            };
            report(Issue::SuperblockDamaged(Copy::Backup, fault));
            primary
        }
        (other, Read::Good(backup)) => {
            let fault = match other {
                Read::Bad(fault) => fault,
                _ => "is missing",
            };
            report(Issue::SuperblockDamaged(Copy::Primary, fault));
            backup
        }
        (Read::Absent, Read::Absent) => return Err(Error::WrongType),
        (primary, backup) => {
            for (copy, read) in [(Copy::Primary, primary), (Copy::Backup, backup)] {
                let fault = match read {
                    Read::Bad(fault) => fault,
                    _ => "is missing",
                };
                report(Issue::SuperblockDamaged(copy, fault));
            }
            return Ok(None);
        }
    };
    if superblock.version.get() != VERSION {
        return Err(Error::WrongVersion(superblock.version.get()));
    }
    let unknown = superblock.incompat.get() & !(INCOMPAT | REPAIRING);
    if unknown != 0 {
        return Err(Error::UnknownFeatures(unknown));
    }
    if superblock.incompat.get() & REPAIRING != 0 {
        report(Issue::UnfinishedRepair);
    }
    if superblock.blocks.get() > device_blocks {
        return Err(Error::DeviceTooSmall {
            filesystem: superblock.blocks.get(),
            device: device_blocks,
        });
    }
    if let Some(field) = impossible(&superblock) {
        report(Issue::Geometry(field));
        return Ok(None);
    }
    // The state is only kept in the primary.
    let state = media.read_u64(STATE_OFFSET).unwrap_or(0);
    if options.unmounted && state != CLEAN {
        report(Issue::NotClean(state));
    }
    let keys = Keys::new(superblock.secret.map(|word| word.get()))?;
    let shape = Shape {
        blocks: superblock.blocks.get(),
        ag_start: superblock.ag_start.get(),
        ag_count: superblock.ag_count.get(),
        uuid: superblock.uuid,
        hash: NameHash::new([superblock.hash_key[0].get(), superblock.hash_key[1].get()]),
        keys,
        superblock,
    };
    journal_header(media, &shape, &mut report);
    Ok(Some(shape))
}

/// The first number of the superblock that contradicts the others.
fn impossible(superblock: &Superblock) -> Option<&'static str> {
    let blocks = superblock.blocks.get();
    let start = superblock.ag_start.get();
    let lanes = superblock.lanes.get();
    if superblock.block_shift.get() != 12 {
        return Some("block size");
    }
    if u64::from(superblock.ag_blocks.get()) != AG_BLOCKS {
        return Some("group size");
    }
    if !lanes.is_power_of_two() || !(journal::MIN_LANES..=journal::MAX_LANES).contains(&lanes) {
        return Some("number of lanes");
    }
    let segments = u64::from(superblock.segment_blocks.get())
        .checked_mul(u64::from(superblock.lane_segments.get()))
        .and_then(|lane| lane.checked_mul(u64::from(lanes)));
    let journal_end =
        segments.and_then(|blocks| blocks.checked_add(superblock.journal.get())?.checked_add(1));
    if journal_end.is_none_or(|end| end > superblock.orphans.get()) {
        return Some("journal");
    }
    let orphan_blocks = u64::from(superblock.orphan_slots.get()).div_ceil(512);
    if superblock
        .orphans
        .get()
        .checked_add(orphan_blocks)
        .is_none_or(|end| end > start)
    {
        return Some("orphan table");
    }
    let phase = superblock.phase.get() / BLOCK_SIZE;
    let aligned = start
        .checked_add(phase)
        .is_some_and(|block| block % SLOT_BLOCKS == 0);
    if superblock.phase.get() % BLOCK_SIZE != 0 || phase >= SLOT_BLOCKS || !aligned {
        return Some("start of the groups");
    }
    if superblock.root.get() != Ino::ROOT.0 {
        return Some("root directory");
    }
    let count = u64::from(superblock.ag_count.get());
    let last = count
        .checked_sub(1)
        .and_then(|n| n.checked_mul(AG_BLOCKS)?.checked_add(start));
    // The copy of the superblock stands behind the last group.
    match last.and_then(|last| blocks.checked_sub(1)?.checked_sub(last)) {
        Some(rest) if rest >= MIN_BLOCKS.max(METADATA_BLOCKS) => {}
        _ => return Some("number of groups"),
    }
    None
}

fn journal_header<M: Media>(media: &M, shape: &Shape, report: &mut dyn FnMut(Issue)) {
    let block = Block(shape.superblock.journal.get());
    let mut bytes = [0u8; 64];
    if media.read(block.address(), &mut bytes).is_err() {
        return report(Issue::JournalHeader("cannot be read"));
    }
    let Ok(header) = JournalHeader::read_from_bytes(&bytes) else {
        return;
    };
    let fault = if header.magic.get() != journal::HEADER_MAGIC {
        "wrong magic number"
    } else if header.checksum.get() != shape.keys.object(Domain::JournalHeader, &bytes, 8) {
        "wrong checksum"
    } else if header.block.get() != block.0 {
        "carries another block's number"
    } else if header.uuid != shape.uuid {
        "belongs to another filesystem"
    } else if header.lanes.get() != shape.superblock.lanes.get() {
        "another number of lanes than in the superblock"
    } else {
        ""
    };
    if !fault.is_empty() {
        report(Issue::JournalHeader(fault));
    }
    let valid = (0..2)
        .filter(|&slot| checkpoint(media, shape, block, slot).is_some())
        .count();
    if valid == 0 {
        report(Issue::NoCheckpoint);
    }
}

fn checkpoint<M: Media>(media: &M, shape: &Shape, block: Block, slot: usize) -> Option<u64> {
    let offset = *journal::CHECKPOINT_OFFSETS.get(slot)?;
    let mut bytes = [0u8; 16];
    media.read(block.address() + offset, &mut bytes).ok()?;
    let read = CheckpointSlot::read_from_bytes(&bytes).ok()?;
    let expected = shape.keys.checkpoint(slot, read.seq.get());
    let possible = read.seq.get() < journal::MAX_CHECKPOINT;
    (possible && read.checksum.get() == expected).then(|| read.seq.get())
}

impl Shape {
    /// First block of a group.
    pub(super) fn ag_first(&self, ag: u32) -> u64 {
        self.ag_start + u64::from(ag) * AG_BLOCKS
    }

    /// Blocks of a group; the last one ends before the copy of the superblock.
    pub(super) fn ag_len(&self, ag: u32) -> u64 {
        AG_BLOCKS.min((self.blocks - 1).saturating_sub(self.ag_first(ag)))
    }

    /// Whether `len` blocks from `block` all lie in the data part of one group.
    pub(super) fn is_data(&self, block: Block, len: u64) -> bool {
        let Some(relative) = block.0.checked_sub(self.ag_start) else {
            return false;
        };
        let ag = relative / AG_BLOCKS;
        if ag >= u64::from(self.ag_count) {
            return false;
        }
        let within = relative % AG_BLOCKS;
        let end = within.checked_add(len);
        let limit = AG_BLOCKS.min((self.blocks - 1).saturating_sub(self.ag_start + ag * AG_BLOCKS));
        within >= METADATA_BLOCKS && end.is_some_and(|end| end <= limit)
    }

    /// Blocks of the orphan table, from [`Superblock::orphans`] on.
    pub(super) fn orphan_slots(&self) -> usize {
        usize_of(u64::from(self.superblock.orphan_slots.get()))
    }
}
