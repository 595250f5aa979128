// SPDX-License-Identifier: GPL-2.0

//! Repeating the journal after a crash.
//!
//! 1. The journal is written back and fenced. After a warm restart its records may still be in CPU caches only; replaying one
//!    that a second crash then loses would leave half a transaction.
//! 2. Every segment of every lane is walked from its start for as long as records are valid and their numbers rise. Records
//!    below the checkpoint C are in place and are passed over.
//! 3. The others are sorted by number and repeated. Doing it twice does no harm, so a crash in here only means that it is
//!    done again.
//! 4. The counts of every group that a record touched are marked as not known, for the words that hold them are stored only by
//!    checkpoints. Whoever loads the group counts, or the next unmount. Counting here would make a mount read 32 KiB and more
//!    for each group, and a large volume has more groups for the same records to touch.
//! 5. Everything is fenced; then C moves past all numbers seen, with a gap, so that none is drawn twice.
//!
//! The cost is bounded by the journal's size, whatever the size of the volume. With nothing to repeat nothing is stored, so that
//! what lies on a write-protected medium can be read.

use super::alloc::ag::Counts;
use super::checksum::Keys;
use super::error::{Error, Result};
use super::format::ag::{METADATA_BLOCKS, UNCOUNTED};
use super::format::journal::*;
use super::format::superblock::RO_COMPAT;
use super::journal::{
    entries_sum, read_checkpoint, record_size, record_sum, record_word0, store_checkpoint,
    RECOVERY_GAP,
};
use super::media::Media;
use super::mutant::Mutant;
use super::superblock::{Geometry, SuperInfo};
use super::types::*;
use super::volume::{bit_position, mask_position, masks_position};
use crate::platform::{yield_now, Vec};
use zerocopy::IntoBytes;

/// What a recovery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// It ran.
    pub ran: bool,
    /// Records repeated.
    pub replayed: u64,
    /// Valid records that were in place already.
    pub passed_over: u64,
    /// The largest number seen.
    pub newest: u64,
}

/// A record that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub seq: u64,
    /// Where it lies.
    pub address: u64,
    /// Words of entries.
    pub words: usize,
}

/// Reads the record at `address`, at most `room` bytes long, into `buffer`. `None` if there is no valid one.
pub fn read_record<M: Media>(
    media: &M,
    keys: &Keys,
    address: u64,
    room: u64,
    buffer: &mut [u64],
) -> Result<Option<Found>> {
    let mut header = [0u64; RECORD_HEADER_WORDS];
    media.read(address, header.as_mut_bytes())?;
    let [word0, seq, sum, flags] = header.map(u64::from_le);
    let words = usize_of(word0 >> 32);
    let fits = words > 0
        && words <= MAX_RECORD_WORDS - RECORD_HEADER_WORDS
        && seq < MAX_SEQ
        && record_size(words + RECORD_HEADER_WORDS) <= room;
    if !fits || word0 != record_word0(words) {
        return Ok(None);
    }
    let Some(entries) = buffer.get_mut(..words) else {
        return Ok(None);
    };
    media.read(
        address + RECORD_HEADER_WORDS as u64 * 8,
        entries.as_mut_bytes(),
    )?;
    let entry_sum = entries_sum(keys, entries);
    let valid = record_sum(keys, address, word0, seq, flags, entry_sum) == sum;
    Ok((valid || Mutant::AcceptForged.active()).then_some(Found {
        seq,
        address,
        words,
    }))
}

/// Walks one segment and calls `f` for each valid record in order.
pub fn walk_segment<M: Media>(
    media: &M,
    keys: &Keys,
    segment: u64,
    buffer: &mut [u64],
    mut f: impl FnMut(Found, &[u64]) -> Result,
) -> Result {
    let (mut at, mut newest) = (0, 0);
    while at + RECORD_ALIGN <= SEGMENT_SIZE {
        let Some(found) = read_record(media, keys, segment + at, SEGMENT_SIZE - at, buffer)? else {
            break;
        };
        if found.seq <= newest {
            break;
        }
        newest = found.seq;
        f(found, buffer.get(..found.words).unwrap_or(&[]))?;
        at += record_size(found.words + RECORD_HEADER_WORDS);
    }
    Ok(())
}

/// A buffer for the entries of any record.
pub fn record_buffer() -> Result<Vec<u64>> {
    let mut buffer = Vec::new();
    buffer.resize(MAX_RECORD_WORDS, 0u64)?;
    Ok(buffer)
}

/// Calls `f` for the address of each segment of the journal.
pub fn segments(g: &Geometry, mut f: impl FnMut(u64) -> Result) -> Result {
    for lane in 0..g.lanes {
        for segment in 0..LANE_SEGMENTS as u64 {
            f(g.lane(lane) + segment * SEGMENT_SIZE)?;
        }
    }
    Ok(())
}

/// Finds the records that are to be repeated, in the order of their numbers.
fn collect<M: Media>(
    media: &M,
    g: &Geometry,
    keys: &Keys,
    checkpoint: u64,
    buffer: &mut [u64],
    summary: &mut Summary,
) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    segments(g, |segment| {
        yield_now();
        walk_segment(media, keys, segment, buffer, |record, _| {
            if record.seq >= checkpoint || Mutant::ReplayBelowCheckpoint.active() {
                found.push(record)?;
            } else {
                summary.passed_over += 1;
            }
            Ok(())
        })
    })?;
    if !Mutant::UnorderedReplay.active() {
        sort(&mut found);
    }
    Ok(found)
}

/// Repeats the journal of a volume. Returns C, the slot that holds it, and what was done. If there is something to repeat:
/// `WriteProtected` when the medium may not be stored to, `UnknownFeatures` when a version made the records that allows this one
/// only to read.
pub fn run<M: Media>(media: &M, info: &SuperInfo, keys: &Keys) -> Result<(u64, usize, Summary)> {
    let g = &info.geometry;
    let refusal = match info.features[1] & !RO_COMPAT {
        _ if media.is_write_protected() => Some(Error::WriteProtected),
        0 => None,
        unknown => Some(Error::UnknownFeatures(unknown)),
    };
    if !Mutant::NoJournalWriteBack.active() && refusal.is_none() {
        media.write_back(
            g.journal.address(),
            g.orphans.address() - g.journal.address(),
        );
        media.drain();
        media.sync_device()?;
    }
    let (checkpoint, slot) = read_checkpoint(media, g, keys)?;
    let mut summary = Summary {
        ran: true,
        newest: checkpoint,
        ..Summary::default()
    };
    let mut buffer = record_buffer()?;
    let found = collect(media, g, keys, checkpoint, &mut buffer, &mut summary)?;
    if let Some(refusal) = refusal {
        return match found.is_empty() {
            true => Ok((checkpoint, slot, summary)),
            false => Err(refusal),
        };
    }
    if let Some(record) = found
        .iter()
        .find(|found| after(found.seq) >= MAX_CHECKPOINT)
    {
        return Err(Error::corrupt("journal record number", record.address));
    }
    let mut touched = Touched::new(g)?;
    let mut last = 0;
    for record in found.iter() {
        if record.seq == last {
            return Err(Error::corrupt(
                "two journal records with one number",
                record.address,
            ));
        }
        last = record.seq;
        summary.newest = summary.newest.max(record.seq);
        let again = read_record(media, keys, record.address, SEGMENT_SIZE, &mut buffer)?;
        if again != Some(*record) {
            return Err(Error::corrupt("journal record", record.address));
        }
        let entries = buffer.get(..record.words).unwrap_or(&[]);
        replay(media, g, record.address, entries, &mut touched)?;
        summary.replayed += 1;
        yield_now();
    }
    media.drain();
    media.sync_device()?;
    let (next, slot) = (after(summary.newest), 1 - (slot & 1));
    store_checkpoint(media, g, keys, slot, next);
    media.drain();
    media.sync_device()?;
    Ok((next, slot, summary))
}

/// The checkpoint of a recovery that has found the number `newest`.
pub fn after(newest: u64) -> u64 {
    newest.saturating_add(1 + RECOVERY_GAP)
}

/// Groups whose counts were marked as not known; a bit each.
struct Touched(Vec<u64>);

impl Touched {
    fn new(g: &Geometry) -> Result<Self> {
        let mut bits = Vec::new();
        bits.resize(usize_of(u64::from(g.ag_count).div_ceil(64)), 0u64)?;
        Ok(Self(bits))
    }

    /// Marks a group's counts, once.
    fn mark<M: Media>(&mut self, media: &M, g: &Geometry, agno: u32) {
        let word = self.0.get_mut(usize_of(u64::from(agno) / 64));
        let bit = 1u64 << (agno % 64);
        if let Some(word) = word.filter(|word| **word & bit == 0) {
            *word |= bit;
            let unknown = Counts {
                free: UNCOUNTED,
                inodes: UNCOUNTED,
            };
            unknown.store(media, g.ag_base(agno));
        }
    }
}

/// Heap sort by number: `core`'s sorts may use more stack than the kernel has.
fn sort(found: &mut [Found]) {
    let sift = |found: &mut [Found], mut root: usize| loop {
        let mut child = 2 * root + 1;
        let key = |i: usize| found.get(i).map_or(0, |r| r.seq);
        if child >= found.len() {
            break;
        }
        if child + 1 < found.len() && key(child) < key(child + 1) {
            child += 1;
        }
        if key(root) >= key(child) {
            break;
        }
        found.swap(root, child);
        root = child;
    };
    for root in (0..found.len() / 2).rev() {
        sift(found, root);
    }
    for end in (1..found.len()).rev() {
        found.swap(0, end);
        if let Some(head) = found.get_mut(..end) {
            sift(head, 0);
        }
    }
}

/// Calls `f` for each entry of a record: its head and what follows it. They carry a valid checksum, but one that leads outside
/// of what records may change would still be wrong.
fn entries<'a>(
    g: &Geometry,
    record: u64,
    entries: &'a [u64],
    mut f: impl FnMut(Head, &'a [u64]) -> Result,
) -> Result {
    let fault = Error::corrupt("journal record's entry", record);
    let mut rest = entries;
    while let Some((&head, after)) = rest.split_first() {
        let head = Head::unpack(head);
        let (content, next) = after.split_at_checked(head.content_words()).ok_or(fault)?;
        rest = next;
        let sound = match head.kind {
            WRITE | ZERO => {
                // The orphan table and the groups; never superblock or journal.
                let end = head.address.saturating_add(head.length as u64 * 8);
                head.address >= g.orphans.address() && end <= g.size() - BLOCK_SIZE
            }
            BITS_SET | BITS_CLEAR => {
                let end = |start: u64| start.checked_add(bit_count(content));
                bit_position(g, head).is_some_and(|(agno, start)| {
                    head.length < 64 && end(start).is_some_and(|end| end <= g.ag_blocks(agno))
                })
            }
            MASKS_CLEAR => masks_position(g, head).is_some_and(|(agno, start)| {
                let last = content.iter().rposition(|mask| *mask != 0);
                last.is_none_or(|i| {
                    let top = content.get(i).map_or(0, |mask| mask.leading_zeros());
                    start + u64_of(i) * 64 + 63 - u64::from(top) < g.ag_blocks(agno)
                })
            }),
            INODE_SET | INODE_CLEAR => head.length < 64 && mask_position(g, head.address).is_some(),
            _ => false,
        };
        if !sound {
            return Err(fault);
        }
        f(head, content)?;
    }
    Ok(())
}

/// The count of bits in the word behind a head.
fn bit_count(content: &[u64]) -> u64 {
    content.first().copied().unwrap_or(0) & !(1 << 63)
}

/// Stores a record's entries in place, all of them or, if one of them is damaged, none.
fn replay<M: Media>(
    media: &M,
    g: &Geometry,
    record: u64,
    words: &[u64],
    touched: &mut Touched,
) -> Result {
    entries(g, record, words, |_, _| Ok(()))?;
    entries(g, record, words, |head, content| {
        let len = head.length as u64 * 8;
        match head.kind {
            WRITE | ZERO => {
                if head.kind == WRITE {
                    media.store(head.address, content.as_bytes());
                } else {
                    media.zero(head.address, len);
                }
                media.write_back(head.address, len);
                // A chunk that was added changes the count of inodes.
                match g.locate(Block::of(head.address)) {
                    Some((agno, relative)) if relative < METADATA_BLOCKS => {
                        touched.mark(media, g, agno);
                    }
                    _ => {}
                }
            }
            MASKS_CLEAR => {
                if let Some((agno, _)) = masks_position(g, head) {
                    for (i, mask) in content.iter().enumerate().filter(|(_, mask)| **mask != 0) {
                        let address = head.address + u64_of(i) * 8;
                        media.store_u64(address, media.read_u64(address)? & !mask);
                    }
                    media.write_back(head.address, len);
                    touched.mark(media, g, agno);
                }
            }
            BITS_SET | BITS_CLEAR => {
                if let Some((agno, start)) = bit_position(g, head) {
                    let run = (start, bit_count(content));
                    replay_bits(media, g, agno, run, head.kind == BITS_SET)?;
                    touched.mark(media, g, agno);
                }
            }
            _ => {
                let mask = media.read_u64(head.address)?;
                let bit = 1u64 << head.length;
                let new = if head.kind == INODE_SET {
                    mask | bit
                } else {
                    mask & !bit
                };
                media.store_u64(head.address, new);
                media.write_back(head.address, 8);
                if let Some((agno, _)) = mask_position(g, head.address) {
                    touched.mark(media, g, agno);
                }
            }
        }
        Ok(())
    })
}

fn replay_bits<M: Media>(
    media: &M,
    g: &Geometry,
    agno: u32,
    (start, count): (u64, u64),
    set: bool,
) -> Result {
    let mut at = start;
    let end = start + count;
    while at < end {
        let n = (64 - at % 64).min(end - at);
        let mask = super::alloc::slots::mask(at % 64, n);
        let address = g.bitmap_word(agno, at);
        let word = media.read_u64(address)?;
        media.store_u64(address, if set { word | mask } else { word & !mask });
        media.write_back(address, 8);
        at += n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn sorts_by_number() {
        let mut state = 88172645463325252u64;
        for n in 0..60 {
            let mut v: std::vec::Vec<Found> = (0..n)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    Found {
                        seq: state % 50,
                        address: 0,
                        words: 0,
                    }
                })
                .collect();
            let mut expected: std::vec::Vec<u64> = v.iter().map(|r| r.seq).collect();
            expected.sort_unstable();
            sort(&mut v);
            assert!(v.iter().map(|r| r.seq).eq(expected));
        }
    }
}
