// SPDX-License-Identifier: GPL-2.0

//! The first step: superblocks, the mark of a repair under way, headers, the journal.
//!
//! Which superblock to believe: one whose checksum is right and whose numbers agree with each
//! other and with the device; the primary if both are. Then one whose single damaged word could be
//! put back. If neither is left, there is no secret to check anything with, and nothing to repair.
//!
//! The mark is an incompatible feature bit in both superblocks, so that no version of Ochre mounts
//! what is half repaired. It is set in the copy first and cleared in the primary first: whichever
//! store is torn, the superblock that counts then either has the bit, or the repair has not begun,
//! or it is complete.
//!
//! # Hazard
//!
//! The journal is replayed before anything else is judged, but its replay counts groups anew and
//! wants sound headers for that. So headers are made whole first, by direct stores: what they hold
//! follows from the superblock, so doing half of it, or doing it twice, does no harm. No record of
//! the repair's own may be written before the replay: it would overwrite what is to be replayed.

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::correct::{self, Verdict};
use super::tree::header;
use super::Action;
use crate::engine::alloc::chunks::record_offset;
use crate::engine::checksum::{self, Domain, Keys};
use crate::engine::error::{Error, Result};
use crate::engine::format::ag::{self, AgHeader, METADATA_BLOCKS};
use crate::engine::format::inode::{InodeRecord, RECORD_SIZE};
use crate::engine::format::journal::{
    JournalHeader, CHECKPOINT_OFFSETS, HEADER_MAGIC, MAX_CHECKPOINT, MAX_LANES, MIN_LANES,
    RECORD_ALIGN,
};
use crate::engine::format::node::{DIRECTORY_INDEX_MAGIC, DIRECTORY_LEAF_MAGIC, HEADER_SIZE};
use crate::engine::format::superblock::{
    Superblock, CHECKED, COMPAT, INCOMPAT, MAGIC, REPAIRING, RO_COMPAT, VERSION,
};
use crate::engine::fsck::issue::Copy;
use crate::engine::fsck::tree::Owner;
use crate::engine::journal::{check_header, read_checkpoint, store_checkpoint};
use crate::engine::media::Media;
use crate::engine::recovery;
use crate::engine::superblock::{self, Geometry, SuperInfo};
use crate::engine::types::{Block, Ino, Timestamp, BLOCK_SIZE, SLOT_BLOCKS};
use crate::engine::verify;
use zerocopy::little_endian::U64;

const _: () = assert!(
    INCOMPAT & REPAIRING == 0,
    "no filesystem is made with the mark"
);

/// A superblock as it was found.
struct Found {
    info: Option<SuperInfo>,
    verdict: Verdict,
    sound: bool,
}

fn look<M: Media>(media: &M, block: Block) -> Result<Found> {
    let mut bytes = [0u8; 512];
    let mut found = Found {
        info: None,
        verdict: Verdict::Damaged,
        sound: false,
    };
    if media.read(block.address(), &mut bytes).is_err() {
        return Ok(found);
    }
    if let Some(covered) = bytes.get_mut(..CHECKED) {
        found.verdict = correct::superblock(covered);
    }
    let Ok(superblock) = Superblock::read_from_bytes(&bytes) else {
        return Ok(found);
    };
    if superblock.magic.get() != MAGIC || superblock.version.get() != VERSION {
        return match superblock::parse(&superblock, block.address()) {
            Err(error @ Error::WrongVersion(_)) => Err(error),
            _ => Ok(found),
        };
    }
    if found.verdict == Verdict::Damaged {
        // Much of it may mean nothing; what counts is whether it opens the rest.
        found.info = mend(media, &superblock, block);
        return Ok(found);
    }
    let fits = |info: &SuperInfo| info.geometry.blocks <= media.size() / BLOCK_SIZE;
    match superblock::parse(&superblock, block.address()) {
        Ok(info) if fits(&info) => {
            found.sound = found.verdict == Verdict::Sound;
            found.info = Some(info);
        }
        Err(error @ (Error::WrongVersion(_) | Error::UnknownFeatures(_))) => return Err(error),
        _ => found.info = mend(media, &superblock, block),
    }
    Ok(found)
}

/// The superblock with the numbers that follow from its others, or from the device.
fn mend<M: Media>(media: &M, superblock: &Superblock, block: Block) -> Option<SuperInfo> {
    let device = media.size() / BLOCK_SIZE;
    let lanes = superblock.lanes.get();
    for (blocks, phase, lanes) in [
        (superblock.blocks.get(), superblock.phase.get(), lanes),
        (superblock.blocks.get(), media.phase(), lanes),
        (device, superblock.phase.get(), lanes),
        (superblock.blocks.get(), superblock.phase.get(), MIN_LANES),
        (superblock.blocks.get(), superblock.phase.get(), 16),
    ] {
        let possible =
            blocks <= device && phase % BLOCK_SIZE == 0 && phase < SLOT_BLOCKS * BLOCK_SIZE;
        let lanes_fit = lanes.is_power_of_two() && (MIN_LANES..=MAX_LANES).contains(&lanes);
        if !possible || !lanes_fit {
            continue;
        }
        let Some(geometry) = Geometry::plan(blocks, phase, lanes) else {
            continue;
        };
        let words = |pair: [U64; 2]| pair.map(|word| word.get());
        let info = SuperInfo {
            geometry,
            uuid: superblock.uuid,
            label: superblock.label,
            secret: words(superblock.secret),
            hash_key: words(superblock.hash_key),
            phase,
            created: Timestamp(superblock.created.get()),
            // Unknown ones would have been refused, or are part of the damage.
            features: [
                superblock.compat.get() & COMPAT,
                superblock.ro_compat.get() & RO_COMPAT,
                superblock.incompat.get() & (INCOMPAT | REPAIRING),
            ],
            clean: false,
            from_backup: false,
        };
        let here = block.0 == 0 || block.0 == blocks - 1;
        if here && witnesses(media, &info).is_ok_and(|count| count != 0) {
            return Some(info);
        }
    }
    None
}

/// How many structures that carry the identity, and that only this secret opens, agree.
fn witnesses<M: Media>(media: &M, info: &SuperInfo) -> Result<u32> {
    let keys = Keys::new(info.secret)?;
    let mut count = u32::from(check_header(media, info, &keys).is_ok());
    // The first group and the last, which may be the same: it has one vote then.
    let last = info.geometry.ag_count.checked_sub(1).filter(|&ag| ag > 0);
    for ag in [Some(0), last].into_iter().flatten() {
        let header = crate::engine::alloc::ag::read_header(media, info, &keys, ag);
        count += u32::from(header.is_ok());
    }
    // And the root directory's record, if it is where mkfs puts it, and the first node of its tree.
    let mut bytes = [0u8; RECORD_SIZE as usize];
    let base = info.geometry.ag_base(0).address();
    let first = base + record_offset(METADATA_BLOCKS as u32, 1);
    if media.read(first, &mut bytes).is_ok() {
        if let Ok(record) = InodeRecord::read_from_bytes(&bytes) {
            if verify::inode(&keys, &info.geometry, &record, Ino::ROOT, first).is_ok() {
                count += 1 + u32::from(node_agrees(media, info, &record));
            }
        }
    }
    Ok(count)
}

/// The root of a directory's tree says that it belongs to this filesystem.
fn node_agrees<M: Media>(media: &M, info: &SuperInfo, record: &InodeRecord) -> bool {
    let owner = Owner::of(Ino::ROOT, record);
    let block = Block(owner.root);
    let mut bytes = [0u8; HEADER_SIZE as usize];
    owner.height != 0
        && info.geometry.locate(block).is_some()
        && media.read(block.address(), &mut bytes).is_ok()
        && header(&bytes).is_some_and(|header| {
            matches!(
                header.magic.get(),
                DIRECTORY_LEAF_MAGIC | DIRECTORY_INDEX_MAGIC
            ) && header.block.get() == block.0
                && header.owner.get() == Ino::ROOT.0
                && header.uuid == info.uuid
        })
}

/// What the superblocks say, and what is wrong with them.
pub(super) struct Identity {
    pub(super) info: SuperInfo,
    /// What is to be done about the primary and the copy.
    pub(super) actions: [Option<Action>; 2],
}

/// Chooses a superblock; `Corrupt` if there is none to choose.
pub(super) fn choose<M: Media>(media: &M) -> Result<Identity> {
    let mut primary = look(media, Block(0))?;
    // A damaged primary cannot say where its copy is; mkfs put it at the end of the device.
    let device = media.size() / BLOCK_SIZE;
    let mut end = primary.info.map_or(device, |info| info.geometry.blocks);
    let mut backup = look(media, Block(end.saturating_sub(1)))?;
    if !backup.sound && end != device {
        // The number of blocks may be what is damaged: then the copy is where mkfs put it.
        let other = look(media, Block(device.saturating_sub(1)))?;
        if other.sound {
            (backup, end) = (other, device);
        }
    }
    let last = Block(end.saturating_sub(1));
    let backup_info = backup
        .info
        .filter(|info| info.geometry.blocks == end && last.0 != 0);
    if backup_info.is_some() && primary.info.is_some_and(|info| info.geometry.blocks != end) {
        primary.info = None;
        primary.sound = false;
        primary.verdict = Verdict::Damaged;
    }
    let primary_sound = primary.sound || !backup.sound;
    let (info, from_copy) = match (primary.info, backup_info) {
        (Some(primary), Some(copy)) => {
            // An impossible one that was mended does not beat a sound one for nothing.
            let votes = |info| witnesses(media, info).map(|count| 2 * count);
            let primary_votes = votes(&primary)? + u32::from(primary_sound);
            if votes(&copy)? > primary_votes {
                (copy, true)
            } else {
                (primary, false)
            }
        }
        (Some(primary), None) => (primary, false),
        (None, Some(copy)) => (copy, true),
        (None, None) => return Err(Error::corrupt("both superblocks", 0)),
    };
    // A superblock that opens nothing would make everything else look like garbage.
    if witnesses(media, &info)? == 0 {
        return Err(Error::corrupt("both superblocks", 0));
    }
    let action = |found: &Found, copy, chosen: bool| match (found.sound, found.verdict) {
        (true, _) => None,
        (_, Verdict::Corrected) if chosen => Some(Action::SuperblockCorrected(copy)),
        _ => Some(Action::SuperblockRestored(copy)),
    };
    let mut actions = [
        action(&primary, Copy::Primary, !from_copy),
        action(&backup, Copy::Backup, from_copy),
    ];
    // Both whole and different: the one that was not chosen is written anew.
    if let (Some(one), Some(other), [None, None]) = (primary.info, backup_info, actions) {
        if covered(&one) != covered(&other) {
            actions = if from_copy {
                [Some(Action::SuperblockRestored(Copy::Primary)), None]
            } else {
                [None, Some(Action::SuperblockRestored(Copy::Backup))]
            };
        }
    } else if backup_info.is_none() && actions[1].is_none() {
        actions[1] = Some(Action::SuperblockRestored(Copy::Backup));
    }
    let clean = info.clean && !from_copy && primary.sound;
    Ok(Identity {
        info: SuperInfo { clean, ..info },
        actions,
    })
}

/// The checksum of what both copies share, the mark of a repair left out.
fn covered(info: &SuperInfo) -> u64 {
    let mut info = *info;
    info.features[2] &= !REPAIRING;
    let superblock = info.to_disk();
    checksum::superblock(superblock.as_bytes().get(..CHECKED).unwrap_or_default())
}

/// Writes one superblock; durable on return.
fn write<M: Media>(media: &M, info: &SuperInfo, copy: Copy) -> Result {
    let block = match copy {
        Copy::Primary => Block(0),
        Copy::Backup => Block(info.geometry.blocks - 1),
    };
    // The whole block: a medium that cannot read it can only be written to in whole.
    let mut bytes = [0u8; BLOCK_SIZE as usize];
    let superblock = info.to_disk();
    if let Some(place) = bytes.get_mut(..512) {
        place.copy_from_slice(superblock.as_bytes());
    }
    media.store_through(block.address(), &bytes);
    media.drain();
    media.sync_device()
}

/// Marks the image as being repaired, in both superblocks.
pub(super) fn begin<M: Media>(media: &M, info: &mut SuperInfo) -> Result {
    info.features[2] |= REPAIRING;
    info.clean = false;
    write(media, info, Copy::Backup)?;
    write(media, info, Copy::Primary)
}

/// Takes the mark away.
pub(super) fn end<M: Media>(media: &M, info: &mut SuperInfo, clean: bool) -> Result {
    info.features[2] &= !REPAIRING;
    info.clean = clean;
    write(media, info, Copy::Primary)?;
    // The state means nothing in the copy; as mkfs leaves it.
    write(
        media,
        &SuperInfo {
            clean: true,
            ..*info
        },
        Copy::Backup,
    )
}

/// Features that forbid writing, and this code does not know.
pub(super) fn check_writable(info: &SuperInfo) -> Result {
    match info.features[1] & !RO_COMPAT {
        0 => Ok(()),
        unknown => Err(Error::UnknownReadOnlyFeatures(unknown)),
    }
}

/// Makes the journal's header and those of the groups whole.
pub(super) fn headers<M: Media>(
    media: &M,
    info: &SuperInfo,
    keys: &Keys,
    may: &mut dyn FnMut(Action) -> bool,
) -> Result {
    if check_header(media, info, keys).is_err() && may(Action::JournalHeaderRestored) {
        let mut header = JournalHeader::new_zeroed();
        header.magic.set(HEADER_MAGIC);
        header.lanes.set(info.geometry.lanes);
        header.block.set(info.geometry.journal.0);
        header.uuid = info.uuid;
        let sum = keys.object(Domain::JournalHeader, header.as_bytes(), 8);
        header.checksum.set(sum);
        rewrite(media, info.geometry.journal, header.as_bytes());
    }
    for ag in 0..info.geometry.ag_count {
        group_header(media, info, keys, ag, may)?;
    }
    media.drain();
    media.sync_device()
}

/// Stores the start of a block, or, if the block cannot be read, all of it.
fn rewrite<M: Media>(media: &M, block: Block, start: &[u8]) {
    let mut bytes = [0u8; BLOCK_SIZE as usize];
    if media.read(block.address(), &mut bytes).is_err() {
        bytes.fill(0);
        if let Some(place) = bytes.get_mut(..start.len()) {
            place.copy_from_slice(start);
        }
        media.store_through(block.address(), &bytes);
    } else {
        media.store_through(block.address(), start);
    }
}

fn group_header<M: Media>(
    media: &M,
    info: &SuperInfo,
    keys: &Keys,
    ag: u32,
    may: &mut dyn FnMut(Action) -> bool,
) -> Result {
    let base = info.geometry.ag_base(ag);
    let mut bytes = [0u8; 88];
    let readable = media.read(base.address(), &mut bytes).is_ok();
    let mut wanted = AgHeader::new_zeroed();
    wanted.magic.set(ag::MAGIC);
    wanted.agno.set(ag);
    wanted.block.set(base.0);
    wanted.blocks.set(info.geometry.ag_blocks(ag));
    wanted.uuid = info.uuid;
    let covered = wanted.as_bytes().get(..ag::CHECKED).unwrap_or_default();
    let sum = keys.object(Domain::AgHeader, covered, 8);
    wanted.checksum.set(sum);
    let covered = wanted.as_bytes().get(..ag::CHECKED).unwrap_or_default();
    let found = bytes.get(..ag::CHECKED).unwrap_or_default();
    if readable && found == covered {
        return Ok(());
    }
    if may(Action::GroupHeaderRestored { ag }) {
        // The counts stand behind what the checksum covers, and are looked at later.
        rewrite(media, base, covered);
    }
    Ok(())
}

/// Replays the journal, or gives it up. Returns the checkpoint and its slot: nothing is left to
/// replay.
pub(super) fn journal<M: Media>(
    media: &M,
    info: &SuperInfo,
    keys: &Keys,
    may: &mut dyn FnMut(Action) -> bool,
) -> Result<(u64, usize)> {
    let checkpoint = read_checkpoint(media, &info.geometry, keys).map(|(seq, _)| seq);
    let checkpoint = checkpoint
        .ok()
        .filter(|&seq| recovery::after(seq) < MAX_CHECKPOINT);
    if checkpoint.is_some() {
        match recovery::run(media, info, keys) {
            Ok((next, slot, summary)) if next < MAX_CHECKPOINT => {
                if summary.replayed != 0 {
                    may(Action::JournalReplayed {
                        records: summary.replayed,
                    });
                }
                return Ok((next, slot));
            }
            Err(Error::NoMemory) => return Err(Error::NoMemory),
            _ => {}
        }
    }
    drop_journal(media, info, keys, checkpoint.unwrap_or(0), may)
}

/// Which records are in place cannot be told, and an old one must not be repeated over a newer
/// one that is gone. So none is: what they changed is judged as it stands.
fn drop_journal<M: Media>(
    media: &M,
    info: &SuperInfo,
    keys: &Keys,
    checkpoint: u64,
    may: &mut dyn FnMut(Action) -> bool,
) -> Result<(u64, usize)> {
    let mut buffer = recovery::record_buffer()?;
    let (mut newest, mut records) = (checkpoint, 0);
    recovery::segments(&info.geometry, |segment| {
        // A segment that cannot be read ends at that place.
        let _ = recovery::walk_segment(media, keys, segment, &mut buffer, |found, _| {
            if recovery::after(found.seq) >= MAX_CHECKPOINT {
                media.zero_through(found.address, RECORD_ALIGN);
                return Ok(());
            }
            newest = newest.max(found.seq);
            records += u64::from(found.seq >= checkpoint);
            Ok(())
        });
        Ok(())
    })?;
    if !may(Action::JournalDropped { records }) {
        return Ok((newest, 0));
    }
    let next = recovery::after(newest);
    let g = &info.geometry;
    for slot in 0..CHECKPOINT_OFFSETS.len() {
        store_checkpoint(media, g, keys, slot, next);
    }
    // Lanes that cannot be read would stop the next recovery: they are written over.
    let mut bytes = [0u8; BLOCK_SIZE as usize];
    for block in g.journal.0 + 1..g.orphans.0 {
        if media.read(Block(block).address(), &mut bytes).is_err() {
            media.zero_through(Block(block).address(), BLOCK_SIZE);
        }
    }
    media.drain();
    media.sync_device()?;
    Ok((next, 1))
}
