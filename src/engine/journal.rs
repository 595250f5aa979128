// SPDX-License-Identifier: GPL-2.0

//! The redo journal: lanes of records, and the checkpoint that lets them be overwritten.
//!
//! A commit takes its CPU's lane, draws the next number of the whole filesystem, writes its record with non-temporal stores,
//! fences once, applies the record in place and lets the lane go. From the fence on the transaction is durable: recovery
//! would repeat it.
//!
//! # Invariants
//!
//! * Number and apply lie in one critical section of the lane. So once [`Journal::checkpoint`] has read `next` and then held
//!   each lane once, all records below that number are applied; `drain` makes their stores durable; then the number may be
//!   stored as the checkpoint C. Read after the sweep instead, C could pass a record that a lane is still applying.
//! * C only rises: one mutex covers reading `next` to storing C. An older C stored later would declare records replayable
//!   that are overwritten in part: with record 10 (size = 100) still there and record 11 (size = 200) gone, recovery would
//!   put 100 back.
//! * A segment is entered only when the largest number in it is below the *durable* C.
//! * The two checkpoint slots are written in turn, so a torn store leaves the older C, which is still true: no record at or
//!   above it has been overwritten.
//! * Numbers are not used twice: recovery goes on well above all that it saw, so a torn record of the last run can never be
//!   taken for part of a new one.
//! * A checksum covers the record's own address, so no copy of a record elsewhere in the journal is one.
//!
//! Each has a mutant ([`super::mutant`]) that breaks it; `tools/sim/tests/replay.rs` must notice every one.
//!
//! On an asynchronous device a mutex orders commits one after the other, and each flushes the device between its record and
//! the stores in place, since the host may write back in any order.

use super::checksum::{Domain, Keys};
use super::error::{Error, Result};
use super::format::journal::*;
use super::media::Media;
use super::mutant::Mutant;
use super::superblock::{Geometry, SuperInfo};
use super::types::*;
use crate::platform::atomic::{AtomicU64, Ordering};
use crate::platform::{current_cpu, lock_class, Mutex, SpinLock, Vec};
use zerocopy::IntoBytes;

/// Numbers that recovery leaves out, so that those of torn records are not drawn again.
pub const RECOVERY_GAP: u64 = 4096;

struct Lane {
    segment: usize,
    /// Where the next record goes, from the segment's start.
    head: u64,
    /// The largest number in each segment.
    newest: [u64; LANE_SEGMENTS],
}

/// The journal of a mounted volume.
pub struct Journal {
    geometry: Geometry,
    lanes: Vec<SpinLock<Lane>>,
    next: AtomicU64,
    durable: AtomicU64,
    /// Held over a commit on asynchronous devices.
    commit: Mutex<()>,
    /// The slot that holds the newer C.
    checkpoint: Mutex<usize>,
}

/// Bytes that a record with so many words, header included, takes up.
pub const fn record_size(words: usize) -> u64 {
    (words as u64 * 8).next_multiple_of(RECORD_ALIGN)
}

/// The checksum of a record at `address`, given its header's words and the sum of its entries.
pub fn record_sum(
    keys: &Keys,
    address: u64,
    word0: u64,
    seq: u64,
    flags: u64,
    entries: u64,
) -> u64 {
    keys.start(Domain::Record)
        .wrapping_add(keys.word(0, word0))
        .wrapping_add(keys.word(1, seq))
        .wrapping_add(keys.word(2, address))
        .wrapping_add(keys.word(3, flags))
        .wrapping_add(entries)
}

/// What a record's entries add to its checksum.
pub fn entries_sum(keys: &Keys, entries: &[u64]) -> u64 {
    let covered = if Mutant::ShortChecksum.active() {
        entries.len().saturating_sub(RECORD_ALIGN as usize / 8)
    } else {
        entries.len()
    };
    let entries = entries.get(..covered).unwrap_or(&[]);
    keys.words(RECORD_HEADER_WORDS, entries.iter().map(|word| word.to_le()))
}

/// The first word of a record's header.
pub const fn record_word0(entry_words: usize) -> u64 {
    RECORD_MAGIC as u64 | (entry_words as u64) << 32
}

/// Checks the journal's header block.
pub fn check_header<M: Media>(media: &M, info: &SuperInfo, keys: &Keys) -> Result {
    let block = info.geometry.journal;
    let mut bytes = [0u8; core::mem::size_of::<JournalHeader>()];
    media.read(block.address(), &mut bytes)?;
    let header: JournalHeader = zerocopy::transmute!(bytes);
    let fault = if header.magic.get() != HEADER_MAGIC {
        "journal header magic"
    } else if keys.object(Domain::JournalHeader, &bytes, 8) != header.checksum.get() {
        "journal header checksum"
    } else if header.block.get() != block.0
        || header.uuid != info.uuid
        || header.lanes.get() != info.geometry.lanes
    {
        "journal header identity"
    } else {
        return Ok(());
    };
    Err(Error::corrupt(fault, block.address()))
}

/// Reads C: its value and the slot that holds it.
pub fn read_checkpoint<M: Media>(media: &M, g: &Geometry, keys: &Keys) -> Result<(u64, usize)> {
    let mut best = None;
    let mut failure = Error::corrupt("journal checkpoint", g.journal.address());
    for (slot, offset) in CHECKPOINT_OFFSETS.iter().enumerate() {
        let mut words = [0u64; 2];
        if let Err(error) = media.read(g.journal.address() + offset, words.as_mut_bytes()) {
            failure = error;
            continue;
        }
        let [seq, sum] = words.map(u64::from_le);
        // A number near the end of all numbers would let the next ones begin anew at 0.
        if seq < MAX_CHECKPOINT
            && sum == keys.checkpoint(slot, seq)
            && best.is_none_or(|(most, _)| seq > most)
        {
            best = Some((seq, slot));
        }
    }
    best.ok_or(failure)
}

/// Stores C into `slot`; durable after the next fence.
pub fn store_checkpoint<M: Media>(media: &M, g: &Geometry, keys: &Keys, slot: usize, seq: u64) {
    let offset = CHECKPOINT_OFFSETS
        .get(slot)
        .copied()
        .unwrap_or(CHECKPOINT_OFFSETS[0]);
    let words = [seq.to_le(), keys.checkpoint(slot, seq).to_le()];
    media.store_through(g.journal.address() + offset, words.as_bytes());
}

impl Journal {
    /// A journal in which nothing is to be replayed: C is `checkpoint`, held by `slot`, and above all numbers used.
    pub fn new(geometry: Geometry, checkpoint: u64, slot: usize) -> Result<Self> {
        let mut lanes = Vec::with_capacity(geometry.lanes as usize)?;
        for _ in 0..geometry.lanes {
            let lane = Lane {
                segment: 0,
                head: 0,
                newest: [0; LANE_SEGMENTS],
            };
            lanes.push(SpinLock::new(lane, lock_class!("ochre_lane"))?)?;
        }
        Ok(Self {
            geometry,
            lanes,
            next: AtomicU64::new(checkpoint),
            durable: AtomicU64::new(checkpoint),
            commit: Mutex::new((), lock_class!("ochre_commit"))?,
            checkpoint: Mutex::new(slot, lock_class!("ochre_checkpoint"))?,
        })
    }

    /// C: all below it is in place, durably.
    pub fn durable(&self) -> Seq {
        Seq(self.durable.load(Ordering::Acquire))
    }

    /// The number that the next transaction gets.
    pub fn next(&self) -> Seq {
        Seq(self.next.load(Ordering::Acquire))
    }

    /// Writes the record `words` (header first, padded with zeros to a multiple of 8 words, `used` of them meant), makes it
    /// durable and calls `apply` under the lane's lock. `flush` is called when there is no room: it must do a checkpoint. The
    /// second result is that of the device's own flush: after an error the record may be missing while what it describes is in
    /// place, and nothing more may be changed.
    pub fn commit<M: Media>(
        &self,
        media: &M,
        keys: &Keys,
        words: &mut [u64],
        used: usize,
        mut flush: impl FnMut(&Self),
        apply: impl FnOnce(Seq, &[u64]),
    ) -> (Seq, Result) {
        let entries = words.get(RECORD_HEADER_WORDS..used).unwrap_or(&[]);
        let sum = entries_sum(keys, entries);
        let word0 = record_word0(entries.len());
        let exclusive = (!media.is_synchronous()).then(|| self.commit.lock());
        let size = record_size(used);
        let mut flushed = Ok(());
        let mut seq = 0;
        let mut write = |address: u64, number: u64, words: &mut [u64]| {
            seq = number;
            let header = [
                word0,
                number,
                record_sum(keys, address, word0, number, 0, sum),
                0,
            ];
            if let Some(place) = words.get_mut(..RECORD_HEADER_WORDS) {
                place.copy_from_slice(&header);
            }
            if let Some(record) = words.get(..usize_of(size / 8)) {
                media.store_through(address, record.as_bytes());
            }
        };
        loop {
            let index = current_cpu() & (self.lanes.len().wrapping_sub(1));
            let Some(lock) = self.lanes.get(index) else {
                break;
            };
            let mut lane = lock.lock();
            let Some(address) = self.place(index, &mut lane, size) else {
                drop(lane);
                flush(self);
                continue;
            };
            let number = self.next.fetch_add(1, Ordering::AcqRel);
            let segment = lane.segment;
            if let Some(newest) = lane.newest.get_mut(segment) {
                *newest = number;
            }
            if Mutant::ApplyBeforeRecord.active() {
                apply(Seq(number), words);
                write(address, number, words);
                media.fence();
                break;
            }
            write(address, number, words);
            if !Mutant::NoCommitFence.active() {
                media.fence();
            }
            if exclusive.is_some() {
                // No other commit and no checkpoint can come between: the mutex is held.
                drop(lane);
                if !Mutant::NoDeviceFlush.active() {
                    flushed = media.sync_device();
                }
                let _lane = lock.lock();
                apply(Seq(number), words);
            } else {
                apply(Seq(number), words);
            }
            break;
        }
        (Seq(seq), flushed)
    }

    /// The address for a record of `size` bytes in this lane, or `None` if the next segment is still needed.
    fn place(&self, index: usize, lane: &mut Lane, size: u64) -> Option<u64> {
        if lane.head + size > SEGMENT_SIZE {
            let next = (lane.segment + 1) % LANE_SEGMENTS;
            let newest = lane.newest.get_mut(next)?;
            if *newest >= self.durable.load(Ordering::Acquire) && !Mutant::ReclaimEarly.active() {
                return None;
            }
            *newest = 0;
            lane.segment = next;
            lane.head = 0;
        }
        let address =
            self.geometry.lane(index as u32) + lane.segment as u64 * SEGMENT_SIZE + lane.head;
        lane.head += size;
        Some(address)
    }

    /// Waits until every record that was drawn before this call is applied: each is, under the lock under which it was drawn. May
    /// sleep.
    pub fn settle(&self) {
        let _exclusive = self.commit.lock();
        for lane in self.lanes.iter() {
            drop(lane.lock());
        }
    }

    /// Moves C up to all that was committed before this call. `counts` stores what only checkpoints store. May sleep.
    pub fn checkpoint<M: Media>(
        &self,
        media: &M,
        keys: &Keys,
        counts: impl FnOnce(),
    ) -> Result<Seq> {
        let _exclusive = (!media.is_synchronous()).then(|| self.commit.lock());
        self.checkpoint_exclusive(media, keys, counts)
    }

    /// As [`Self::checkpoint`], from inside a commit on an asynchronous device.
    pub fn checkpoint_exclusive<M: Media>(
        &self,
        media: &M,
        keys: &Keys,
        counts: impl FnOnce(),
    ) -> Result<Seq> {
        let mut slot = self.checkpoint.lock();
        let mut target = self.next.load(Ordering::Acquire);
        for lane in self.lanes.iter() {
            drop(lane.lock());
        }
        if Mutant::CheckpointTooFar.active() {
            target = self.next.load(Ordering::Acquire) + 1;
        }
        if target <= self.durable.load(Ordering::Acquire) {
            return Ok(self.durable());
        }
        counts();
        if !Mutant::NoDrain.active() {
            media.drain();
        }
        let flushed = media.sync_device();
        let other = 1 - (*slot & 1);
        if flushed.is_ok() {
            store_checkpoint(media, &self.geometry, keys, other, target);
            media.fence();
            *slot = other;
            if Mutant::CheckpointBack.active() {
                let late = self.durable().0;
                for slot in 0..2 {
                    store_checkpoint(media, &self.geometry, keys, slot, late);
                }
                media.fence();
            }
        }
        let flushed = flushed.and_then(|()| media.sync_device());
        // A device that does not flush has lost its promise already: commits must not wait for it for ever. The caller
        // turns the filesystem read-only.
        self.durable.store(target, Ordering::Release);
        flushed.map(|()| Seq(target))
    }
}
