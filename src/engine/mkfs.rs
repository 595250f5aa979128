// SPDX-License-Identifier: GPL-2.0

//! Making a filesystem.
//!
//! The primary superblock is destroyed first and written last, so that a crash in between leaves no filesystem, rather than
//! one that is half old and half new. The caller has asked whether the device may be overwritten.

use super::alloc::chunks::record_offset;
use super::checksum::{Domain, Keys};
use super::error::{Error, Result};
use super::format::ag::*;
use super::format::inode::{InodeRecord, MAGIC as INODE_MAGIC, ROOT_DIRECTORY};
use super::format::journal::{JournalHeader, HEADER_MAGIC, MAX_ADDRESS, MAX_LANES, MIN_LANES};
use super::format::superblock::{COMPAT, INCOMPAT, LABEL_LEN, RO_COMPAT};
use super::journal::store_checkpoint;
use super::media::Media;
use super::superblock::{Geometry, SuperInfo};
use super::types::*;
use super::verify::inode_sum;
use crate::platform::{yield_now, Vec};
use zerocopy::{FromZeros, IntoBytes};

/// The smallest filesystem.
pub const MIN_SIZE: u64 = 16 << 20;

/// What mkfs is told.
#[derive(Clone, Copy, Debug)]
pub struct MkfsOptions {
    /// Bytes to use; rounded down to whole blocks, at most the medium's.
    pub size: u64,
    /// Physical address of byte 0 modulo 2 MiB.
    pub phase: u64,
    /// The filesystem's identity.
    pub uuid: [u8; 16],
    /// Label, padded with zeros.
    pub label: [u8; LABEL_LEN],
    /// Key of all checksums; fresh random numbers each time.
    pub secret: [u64; 2],
    /// Key of the hash of names; fresh random numbers each time.
    pub hash_key: [u64; 2],
    /// Journal lanes: a power of 2 from 4 to 64, or `None` for as many as the size suggests.
    pub lanes: Option<u32>,
    /// Now.
    pub time: Timestamp,
    /// Owner and group of the root directory.
    pub owner: (u32, u32),
}

impl MkfsOptions {
    fn lanes(&self) -> u32 {
        let few = self.size <= 256 << 20;
        self.lanes.unwrap_or(if few { 4 } else { 16 })
    }

    /// What will be where; `None`: the device is too small.
    pub fn geometry(&self) -> Option<Geometry> {
        let blocks = (self.size >= MIN_SIZE).then_some(self.size >> BLOCK_SHIFT)?;
        Geometry::plan(blocks, self.phase, self.lanes())
    }
}

/// Makes a filesystem on `media`; what was there is lost. `progress` is told the share that is done, in groups.
pub fn mkfs<M: Media>(
    media: &M,
    options: &MkfsOptions,
    mut progress: impl FnMut(u32, u32),
) -> Result<SuperInfo> {
    let blocks = options.size >> BLOCK_SHIFT;
    if options.size < MIN_SIZE {
        return Err(Error::TooSmall {
            size: options.size,
            minimum: MIN_SIZE,
        });
    }
    if options.size > MAX_ADDRESS {
        return Err(Error::TooBig {
            size: options.size,
            maximum: MAX_ADDRESS,
        });
    }
    if blocks > media.size() >> BLOCK_SHIFT {
        return Err(Error::DeviceTooSmall {
            filesystem: blocks,
            device: media.size() >> BLOCK_SHIFT,
        });
    }
    let lanes = options.lanes();
    let phase_ok = options.phase % BLOCK_SIZE == 0 && options.phase < SLOT_BLOCKS * BLOCK_SIZE;
    if !lanes.is_power_of_two() || !(MIN_LANES..=MAX_LANES).contains(&lanes) || !phase_ok {
        return Err(Error::Invalid);
    }
    let geometry = options.geometry().ok_or(Error::TooSmall {
        size: options.size,
        minimum: MIN_SIZE + u64::from(lanes) * (1 << 20),
    })?;
    let info = SuperInfo {
        geometry,
        uuid: options.uuid,
        label: options.label,
        secret: options.secret,
        hash_key: options.hash_key,
        phase: options.phase,
        created: options.time,
        features: [COMPAT, RO_COMPAT, INCOMPAT],
        clean: true,
        from_backup: false,
    };
    let keys = Keys::new(info.secret)?;
    media.zero_through(0, BLOCK_SIZE);
    media.fence();
    media.sync_device()?;

    // Journal and orphan table.
    let (start, end) = (geometry.journal.address(), geometry.ag_start.address());
    media.zero_through(start, end - start);
    let mut header = JournalHeader::new_zeroed();
    header.magic.set(HEADER_MAGIC);
    header.lanes.set(lanes);
    header.block.set(geometry.journal.0);
    header.uuid = info.uuid;
    header
        .checksum
        .set(keys.object(Domain::JournalHeader, header.as_bytes(), 8));
    media.store_through(start, header.as_bytes());
    media.fence();
    for slot in 0..2 {
        store_checkpoint(media, &geometry, &keys, slot, 1);
    }

    for agno in 0..geometry.ag_count {
        write_group(media, &info, &keys, agno)?;
        progress(agno + 1, geometry.ag_count);
        yield_now();
    }
    write_root(media, &info, &keys, options)?;

    let sb = info.to_disk();
    let copy = Block(blocks - 1).address();
    media.zero_through(copy, BLOCK_SIZE);
    media.store_through(copy, sb.as_bytes());
    media.drain();
    media.sync_device()?;
    media.store_through(0, sb.as_bytes());
    media.drain();
    media.sync_device()?;
    Ok(info)
}

/// The chunk of the root directory: behind the metadata of group 0.
const ROOT_CHUNK: u64 = METADATA_BLOCKS;

/// Header and bitmap of a group, and for group 0 the first entry of the chunk map.
fn write_group<M: Media>(media: &M, info: &SuperInfo, keys: &Keys, agno: u32) -> Result {
    let g = &info.geometry;
    let (base, blocks) = (g.ag_base(agno), g.ag_blocks(agno));
    let used = METADATA_BLOCKS + if agno == 0 { CHUNK_BLOCKS } else { 0 };
    let mut bitmap: Vec<u64> = Vec::new();
    bitmap.resize(BITMAP_WORDS, 0)?;
    let mut set = |start, len| {
        super::alloc::slots::for_words(start, len, |i, m| {
            if let Some(w) = bitmap.get_mut(i) {
                *w |= m;
            }
        });
    };
    set(0, used);
    // Blocks that the last group does not have are not free.
    set(blocks, AG_BLOCKS - blocks);
    media.store_through(g.bitmap_word(agno, 0), bitmap.as_bytes());

    let mut header = AgHeader::new_zeroed();
    header.magic.set(MAGIC);
    header.agno.set(agno);
    header.block.set(base.0);
    header.blocks.set(blocks);
    header.uuid = info.uuid;
    let covered = header.as_bytes().get(..CHECKED).unwrap_or(&[]);
    let sum = keys.object(Domain::AgHeader, covered, 8);
    header.checksum.set(sum);
    header.free_blocks.set(blocks - used);
    if agno == 0 {
        header.used_inodes.set(2);
        header.chunks.set(1);
        let mut entry = ChunkEntry::new_zeroed();
        entry.start.set(ROOT_CHUNK as u32);
        entry.check.set(keys.chunk(0, 0, ROOT_CHUNK as u32));
        // Number 0 is no inode, number 1 the root directory.
        entry.mask.set(0b11);
        media.store_through(g.chunk_entry(0, 0), entry.as_bytes());
    }
    media.zero_through(base.address(), BLOCK_SIZE);
    media.store_through(base.address(), header.as_bytes());
    Ok(())
}

/// The root directory: empty.
fn write_root<M: Media>(media: &M, info: &SuperInfo, keys: &Keys, options: &MkfsOptions) -> Result {
    let mut record = InodeRecord::new_zeroed();
    record.magic.set(INODE_MAGIC);
    record.mode.set(0o040755);
    record.root = ROOT_DIRECTORY;
    record.ino.set(Ino::ROOT.0);
    record.generation.set(1);
    record.nlink.set(2);
    record.uid.set(options.owner.0);
    record.gid.set(options.owner.1);
    record.parent.set(Ino::ROOT.0);
    for time in [
        &mut record.btime,
        &mut record.atime,
        &mut record.mtime,
        &mut record.ctime,
    ] {
        time.set(options.time.0);
    }
    record.checksum.set(inode_sum(keys, &record));
    let address = info.geometry.ag_base(0).address() + record_offset(ROOT_CHUNK as u32, 1);
    media.store_through(address, record.as_bytes());
    Ok(())
}
