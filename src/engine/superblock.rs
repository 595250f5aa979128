// SPDX-License-Identifier: GPL-2.0

//! Reading and judging the superblock, and the geometry that it gives.
//!
//! A damaged primary is no reason to refuse: the copy in the device's last block is used instead, and the caller says so.
//! What the primary alone holds, the clean mark, is then taken to be "dirty", so that recovery runs.

use super::checksum;
use super::error::{Error, Result};
use super::format::ag;
use super::format::journal::{LANE_SEGMENTS, LANE_SIZE, MAX_LANES, MIN_LANES, SEGMENT_BLOCKS};
use super::format::superblock::*;
use super::media::Media;
use super::types::*;
use zerocopy::{FromBytes, IntoBytes};

/// Where everything lies. All of it was checked against the superblock's block count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks of the filesystem; the last one is the superblock's copy.
    pub blocks: u64,
    /// The journal's header; lane 0 starts in the next block.
    pub journal: Block,
    /// Lanes; a power of 2.
    pub lanes: u32,
    /// The orphan table.
    pub orphans: Block,
    /// Its entries.
    pub orphan_slots: u32,
    /// Allocation group 0.
    pub ag_start: Block,
    /// Number of groups; at least 1.
    pub ag_count: u32,
}

/// Blocks of the orphan table for a number of slots.
const fn orphan_blocks(slots: u32) -> u64 {
    (slots as u64 * 8).div_ceil(BLOCK_SIZE)
}

impl Geometry {
    /// The geometry that mkfs gives a device of `blocks` blocks whose byte 0 has the physical address `phase` modulo 2 MiB.
    /// `None` if it is too small.
    pub fn plan(blocks: u64, phase: u64, lanes: u32) -> Option<Self> {
        let orphan_slots = u32_of((blocks / 4).clamp(512, 65536));
        let journal = Block(1);
        let orphans = journal
            .plus(1)
            .plus(u64::from(lanes) * (LANE_SIZE / BLOCK_SIZE));
        let first = orphans.plus(orphan_blocks(orphan_slots)).0;
        // The first block at or after `first` whose physical address is a multiple of 2 MiB.
        let shift = (phase >> BLOCK_SHIFT) % SLOT_BLOCKS;
        let ag_start = (first + shift).next_multiple_of(SLOT_BLOCKS) - shift;
        let space = blocks.checked_sub(1)?.checked_sub(ag_start)?;
        let rest = space % AG_BLOCKS;
        let ag_count = space / AG_BLOCKS + u64::from(rest >= ag::MIN_BLOCKS);
        if ag_count == 0 {
            return None;
        }
        Some(Self {
            blocks,
            journal,
            lanes,
            orphans,
            orphan_slots,
            ag_start: Block(ag_start),
            ag_count: u32_of(ag_count),
        })
    }

    /// First block of group `ag`.
    pub const fn ag_base(&self, ag: u32) -> Block {
        Block(self.ag_start.0 + ag as u64 * AG_BLOCKS)
    }

    /// Blocks of group `ag`, which exists.
    pub fn ag_blocks(&self, ag: u32) -> u64 {
        let rest = (self.blocks - 1).saturating_sub(self.ag_base(ag).0);
        rest.min(AG_BLOCKS)
    }

    /// Group and block within it, for a block that lies in one.
    pub fn locate(&self, block: Block) -> Option<(u32, u64)> {
        let distance = block.0.checked_sub(self.ag_start.0)?;
        let ag = u32::try_from(distance / AG_BLOCKS).ok()?;
        let relative = distance % AG_BLOCKS;
        (ag < self.ag_count && relative < self.ag_blocks(ag)).then_some((ag, relative))
    }

    /// As [`Self::locate`] for a run that lies in one group and not in its metadata.
    pub fn locate_run(&self, run: Run) -> Option<(u32, u64)> {
        let (ag, relative) = self.locate(run.start)?;
        let end = relative.checked_add(run.len)?;
        (run.len > 0 && relative >= ag::METADATA_BLOCKS && end <= self.ag_blocks(ag))
            .then_some((ag, relative))
    }

    /// The blocks of group `ag` behind its metadata: the first, and the one behind the last.
    pub fn ag_data(&self, ag: u32) -> (u64, u64) {
        let base = self.ag_base(ag).0;
        (base + ag::METADATA_BLOCKS, base + self.ag_blocks(ag))
    }

    /// Address of the bitmap word with the bit of block `relative` of group `ag`.
    pub const fn bitmap_word(&self, ag: u32, relative: u64) -> u64 {
        self.ag_base(ag).plus(ag::BITMAP_BLOCK).address() + relative / 64 * 8
    }

    /// Address of entry `index` of the chunk map of group `ag`.
    pub const fn chunk_entry(&self, ag: u32, index: u32) -> u64 {
        self.ag_base(ag).plus(ag::CHUNK_MAP_BLOCK).address() + index as u64 * 16
    }

    /// Address of lane `lane`.
    pub const fn lane(&self, lane: u32) -> u64 {
        self.journal.plus(1).address() + lane as u64 * LANE_SIZE
    }

    /// Address of entry `slot` of the orphan table.
    pub const fn orphan_slot(&self, slot: u32) -> u64 {
        self.orphans.address() + slot as u64 * 8
    }

    /// Bytes of the filesystem.
    pub const fn size(&self) -> u64 {
        self.blocks << BLOCK_SHIFT
    }
}

/// What a superblock says, checked.
#[derive(Clone, Copy, Debug)]
pub struct SuperInfo {
    /// Where everything lies.
    pub geometry: Geometry,
    /// Identity.
    pub uuid: [u8; 16],
    /// Label, padded with zeros.
    pub label: [u8; LABEL_LEN],
    /// Key of metadata checksums.
    pub secret: [u64; 2],
    /// Key of the hash of names.
    pub hash_key: [u64; 2],
    /// Physical address of byte 0 modulo 2 MiB that mkfs assumed.
    pub phase: u64,
    /// When mkfs ran.
    pub created: Timestamp,
    /// Feature words: compat, ro_compat, incompat.
    pub features: [u64; 3],
    /// Unmounted properly.
    pub clean: bool,
    /// The primary was damaged and the copy was used.
    pub from_backup: bool,
}

impl SuperInfo {
    /// A repair is under way, or was when it was interrupted.
    pub const fn repairing(&self) -> bool {
        self.features[2] & REPAIRING != 0
    }

    /// The superblock as it lies on the medium, with its checksum, in the state `clean`.
    pub fn to_disk(&self) -> Superblock {
        let g = &self.geometry;
        let mut sb = Superblock::read_from_bytes(&[0u8; 512])
            .unwrap_or_else(|_| zerocopy::transmute!([0u8; 512]));
        sb.magic.set(MAGIC);
        sb.version.set(VERSION);
        sb.block_shift.set(BLOCK_SHIFT);
        sb.compat.set(self.features[0]);
        sb.ro_compat.set(self.features[1]);
        sb.incompat.set(self.features[2]);
        sb.uuid = self.uuid;
        sb.label = self.label;
        sb.blocks.set(g.blocks);
        sb.phase.set(self.phase);
        sb.journal.set(g.journal.0);
        sb.lanes.set(g.lanes);
        sb.segment_blocks.set(SEGMENT_BLOCKS);
        sb.lane_segments.set(LANE_SEGMENTS as u32);
        sb.orphan_slots.set(g.orphan_slots);
        sb.orphans.set(g.orphans.0);
        sb.ag_start.set(g.ag_start.0);
        sb.ag_blocks.set(AG_BLOCKS as u32);
        sb.ag_count.set(g.ag_count);
        sb.root.set(Ino::ROOT.0);
        sb.created.set(self.created.0);
        for i in 0..2 {
            sb.secret[i].set(self.secret[i]);
            sb.hash_key[i].set(self.hash_key[i]);
        }
        sb.state.set(if self.clean { CLEAN } else { DIRTY });
        sb.checksum
            .set(checksum::superblock(&sb.as_bytes()[..CHECKED]));
        sb
    }
}

/// Judges one superblock that was read from byte `address`.
pub(super) fn parse(sb: &Superblock, address: u64) -> Result<SuperInfo> {
    if sb.magic.get() != MAGIC {
        return Err(Error::WrongType);
    }
    let covered = sb.as_bytes().get(..CHECKED).unwrap_or(&[]);
    if checksum::superblock(covered) != sb.checksum.get() {
        return Err(Error::corrupt("superblock checksum", address));
    }
    if sb.version.get() != VERSION {
        return Err(Error::WrongVersion(sb.version.get()));
    }
    let unknown = sb.incompat.get() & !(INCOMPAT | REPAIRING);
    if unknown != 0 {
        return Err(Error::UnknownFeatures(unknown));
    }
    let bad = Err(Error::corrupt("superblock geometry", address));
    let (blocks, lanes) = (sb.blocks.get(), sb.lanes.get());
    if !(MIN_LANES..=MAX_LANES).contains(&lanes) || !lanes.is_power_of_two() || blocks > 1 << 36 {
        return bad;
    }
    let phase = sb.phase.get();
    if phase % BLOCK_SIZE != 0 || phase >= SLOT_BLOCKS * BLOCK_SIZE {
        return bad;
    }
    let Some(geometry) = Geometry::plan(blocks, phase, lanes) else {
        return bad;
    };
    let told = (
        sb.block_shift.get(),
        sb.segment_blocks.get(),
        sb.lane_segments.get(),
        sb.journal.get(),
        sb.orphans.get(),
        sb.orphan_slots.get(),
        sb.ag_start.get(),
        u64::from(sb.ag_blocks.get()),
        sb.ag_count.get(),
        sb.root.get(),
    );
    let expected = (
        BLOCK_SHIFT,
        SEGMENT_BLOCKS,
        LANE_SEGMENTS as u32,
        geometry.journal.0,
        geometry.orphans.0,
        geometry.orphan_slots,
        geometry.ag_start.0,
        AG_BLOCKS,
        geometry.ag_count,
        Ino::ROOT.0,
    );
    if told != expected {
        return bad;
    }
    Ok(SuperInfo {
        geometry,
        uuid: sb.uuid,
        label: sb.label,
        secret: [sb.secret[0].get(), sb.secret[1].get()],
        hash_key: [sb.hash_key[0].get(), sb.hash_key[1].get()],
        phase: sb.phase.get(),
        created: Timestamp(sb.created.get()),
        features: [sb.compat.get(), sb.ro_compat.get(), sb.incompat.get()],
        clean: sb.state.get() == CLEAN,
        from_backup: false,
    })
}

fn read_at<M: Media>(media: &M, address: u64) -> Result<SuperInfo> {
    let mut sb: Superblock = zerocopy::transmute!([0u8; 512]);
    media.read(address, sb.as_mut_bytes())?;
    parse(&sb, address)
}

/// Finds the superblock of a medium: the primary, else the copy.
///
/// `WrongType` if neither place holds one; `Corrupt` if the primary is damaged and there is no copy; `DeviceTooSmall` if the
/// filesystem is larger than the medium; `WrongVersion`, `UnknownFeatures` if it is newer than this code.
pub fn load<M: Media>(media: &M) -> Result<SuperInfo> {
    let device = media.size() >> BLOCK_SHIFT;
    let info = match read_at(media, 0) {
        Ok(info) => info,
        Err(error @ (Error::WrongVersion(_) | Error::UnknownFeatures(_))) => return Err(error),
        Err(error) => {
            let copy = device.checked_sub(1).ok_or(Error::WrongType)?;
            match read_at(media, Block(copy).address()) {
                // A copy that belongs here says that it lies where it was found.
                Ok(info) if info.geometry.blocks == device => SuperInfo {
                    from_backup: true,
                    clean: false,
                    ..info
                },
                _ => return Err(error),
            }
        }
    };
    if info.geometry.blocks > device {
        return Err(Error::DeviceTooSmall {
            filesystem: info.geometry.blocks,
            device,
        });
    }
    Ok(info)
}
