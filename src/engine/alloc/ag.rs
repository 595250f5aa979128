// SPDX-License-Identifier: GPL-2.0

//! One allocation group in memory, and how records are applied to it.
//!
//! Built from the medium at first use. It keeps a copy of the bitmap as it is on the medium, so that applying a record never
//! has to read, and so cannot fail; and the slot map, in which more is taken than on the medium.
//!
//! # Invariants
//!
//! * A bit that is set on the medium is taken in the slot map.
//! * A freed block becomes available only in [`Ag::apply_bits`], in the critical section that *stored* the cleared bit.
//!   Available at the record's fence would be too early: the next owner's "set" could be stored before the "clear", and the
//!   block of a live file would look free. Test: `freed_blocks_wait_for_their_clear`.
//! * The dirty mark that makes a checkpoint store the counts is set in the critical section that changes them.

use super::super::checksum::{Domain, Keys};
use super::super::error::{Error, Result};
use super::super::format::ag::*;
use super::super::format::node::CHECKSUM_OFFSET;
use super::super::media::Media;
use super::super::superblock::{Geometry, SuperInfo};
use super::super::types::*;
use super::chunks::{Chunk, ChunkMap, Page};
use super::slots::{for_words, SlotMap};
use crate::platform::atomic::{AtomicU64, Ordering};
use crate::platform::{lock_class, Mutex, SpinLock, Vec};
use zerocopy::IntoBytes;

/// What the spin lock protects.
pub struct AgState {
    /// What can be handed out.
    pub map: SlotMap,
    /// The bitmap as it is on the medium.
    pub used: Vec<u64>,
    /// Blocks that a transaction under way frees: no other may, and it only once.
    pub leaving: Vec<u64>,
    /// Clear bits of `used`.
    pub free_on_medium: u64,
    /// The inode chunks.
    pub chunks: ChunkMap,
    /// Set bits of the chunks' masks on the medium.
    pub used_inodes: u64,
}

/// A group.
pub struct Ag {
    /// Its number.
    pub agno: u32,
    /// Its first block.
    pub base: Block,
    /// Its blocks.
    pub blocks: u64,
    /// Bits and counts.
    pub state: SpinLock<AgState>,
    /// Held while a chunk is added, so that chunks come in order.
    pub grow: Mutex<()>,
    verified: Vec<AtomicU64>,
}

/// Whether block `relative` of a group is the group's own metadata, and in use as that.
pub const fn is_own(relative: u64) -> bool {
    relative < BITMAP_BLOCK + BITMAP_BLOCKS
        || (relative >= CHUNK_MAP_BLOCK && relative < CHUNK_MAP_BLOCK + CHUNK_MAP_BLOCKS)
}

/// `Unreadable` if some of the own metadata of the group at `base` is lost, also what would only be written one day.
pub fn check_intact<M: Media>(media: &M, base: Block) -> Result {
    let Some(poison) = media.poison().filter(|poison| !poison.is_clean()) else {
        return Ok(());
    };
    let mut result = Ok(());
    let run = Run {
        start: base,
        len: METADATA_BLOCKS,
    };
    poison.each_in(run, |lost| {
        for block in lost.start.0..lost.end().0 {
            if is_own(block - base.0) && result.is_ok() {
                result = Err(Error::Unreadable(Block(block).address()));
            }
        }
    });
    result
}

/// Reads and checks a group's header.
pub fn read_header<M: Media>(
    media: &M,
    info: &SuperInfo,
    keys: &Keys,
    agno: u32,
) -> Result<AgHeader> {
    let base = info.geometry.ag_base(agno);
    let mut bytes = [0u8; core::mem::size_of::<AgHeader>()];
    media.read(base.address(), &mut bytes)?;
    let header: AgHeader = zerocopy::transmute!(bytes);
    let sum = keys.object(
        Domain::AgHeader,
        bytes.get(..CHECKED).unwrap_or(&[]),
        CHECKSUM_OFFSET as usize,
    );
    let fault = if header.magic.get() != MAGIC {
        "allocation group magic"
    } else if header.checksum.get() != sum {
        "allocation group checksum"
    } else if header.block.get() != base.0 || header.agno.get() != agno || header.uuid != info.uuid
    {
        "allocation group identity"
    } else if header.blocks.get() != info.geometry.ag_blocks(agno) {
        "allocation group size"
    } else if header.chunks.get() > u64::from(MAX_CHUNKS)
        || header.chunks.get() > header.blocks.get() / CHUNK_BLOCKS
    {
        "allocation group chunk count"
    } else {
        return Ok(header);
    };
    Err(Error::corrupt(fault, base.address()))
}

/// Reads a group's bitmap.
pub fn read_bitmap<M: Media>(media: &M, g: &Geometry, agno: u32) -> Result<Vec<u64>> {
    let mut words = Vec::new();
    words.resize(BITMAP_WORDS, 0u64)?;
    media.read(g.bitmap_word(agno, 0), words.as_mut_bytes())?;
    Ok(words)
}

/// Sets or clears bits; says how many changed.
fn change_bits(words: &mut [u64], start: u64, len: u64, set: bool) -> u64 {
    let (mut at, end) = (start, start.saturating_add(len));
    let mut changed = 0;
    while at < end {
        let index = usize_of(at / 64);
        let whole = (end - at) / 64;
        if at % 64 == 0 && whole > 0 {
            // Long runs: mostly all of a word changes.
            let (old, new) = if set { (0, u64::MAX) } else { (u64::MAX, 0) };
            let range = index..index.saturating_add(usize_of(whole));
            for word in words.get_mut(range).unwrap_or(&mut []) {
                changed += match *word ^ old {
                    0 => 64,
                    some => 64 - u64::from(some.count_ones()),
                };
                *word = new;
            }
            at += whole * 64;
            continue;
        }
        let n = (64 - at % 64).min(end - at);
        let mask = super::slots::mask(at % 64, n);
        if let Some(word) = words.get_mut(index) {
            let new = if set { *word | mask } else { *word & !mask };
            changed += u64::from((*word ^ new).count_ones());
            *word = new;
        }
        at += n;
    }
    changed
}

/// Clear bits among the first `blocks`.
pub fn count_free(words: &[u64], blocks: u64) -> u64 {
    let mut free = 0;
    for_words(0, blocks, |i, m| {
        free += words.get(i).map_or(0, |w| u64::from((!w & m).count_ones()));
    });
    free
}

/// How full a group is, as its header says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Clear bits of the bitmap, or [`UNCOUNTED`].
    pub free: u64,
    /// Set bits of the chunks' masks.
    pub inodes: u64,
}

impl Counts {
    /// Stores them into the header of the group at `base`.
    pub fn store<M: Media>(&self, media: &M, base: Block) {
        let address = base.address() + FREE_BLOCKS_OFFSET;
        media.store_u64(address, self.free);
        media.store_u64(address + 8, self.inodes);
        media.write_back(address, 16);
    }
}

/// Reads a header's counts.
pub fn read_counts<M: Media>(media: &M, g: &Geometry, agno: u32) -> Result<Counts> {
    let mut words = [0u64; 2];
    let address = g.ag_base(agno).address() + FREE_BLOCKS_OFFSET;
    media.read(address, words.as_mut_bytes())?;
    let [free, inodes] = words.map(u64::from_le);
    Ok(Counts { free, inodes })
}

/// Counts what a header's counts should be. Reads bitmap and chunk map piece by piece, for whoever only asks how much is free
/// should not need memory for it; the group may not change meanwhile.
pub fn count<M: Media>(media: &M, info: &SuperInfo, keys: &Keys, agno: u32) -> Result<Counts> {
    let g = &info.geometry;
    let header = read_header(media, info, keys, agno)?;
    let blocks = g.ag_blocks(agno);
    let (mut free, mut at) = (0, 0);
    let mut words = [0u64; 64];
    while at < blocks {
        media.read(g.bitmap_word(agno, at), words.as_mut_bytes())?;
        let n = (blocks - at).min(words.len() as u64 * 64);
        free += count_free(&words, n);
        at += n;
    }
    let mut inodes = 0u64;
    let mut piece = [0u8; 512];
    let chunks = u32_of(header.chunks.get().min(u64::from(MAX_CHUNKS)));
    for first in (0..chunks).step_by(32) {
        media.read(g.chunk_entry(agno, first), &mut piece)?;
        let entries = piece.chunks_exact(16);
        for entry in entries.take(usize_of(u64::from(chunks - first))) {
            let mask = entry.get(usize_of(CHUNK_MASK_OFFSET)..);
            let mask = mask.and_then(|mask| mask.first_chunk::<8>());
            inodes += mask.map_or(0, |mask| u64::from(u64::from_le_bytes(*mask).count_ones()));
        }
    }
    Ok(Counts { free, inodes })
}

/// Reads an entry of the chunk map; `None` if its check is wrong.
fn read_chunk<M: Media>(
    media: &M,
    g: &Geometry,
    keys: &Keys,
    agno: u32,
    index: u32,
) -> Result<Option<(u32, u64)>> {
    let mut bytes = [0u8; 16];
    media.read(g.chunk_entry(agno, index), &mut bytes)?;
    let entry: ChunkEntry = zerocopy::transmute!(bytes);
    let start = entry.start.get();
    let right = entry.check.get() == keys.chunk(agno, index, start);
    Ok(right.then_some((start, entry.mask.get())))
}

/// Reads a group's chunk map: the chunks, and how many inodes are in use.
fn load_chunks<M: Media>(
    media: &M,
    info: &SuperInfo,
    keys: &Keys,
    agno: u32,
    map: &SlotMap,
    header: &AgHeader,
) -> Result<(ChunkMap, u64)> {
    let g = &info.geometry;
    let blocks = g.ag_blocks(agno);
    let count = header.chunks.get() as u32;
    let mut chunks = ChunkMap::new()?;
    let mut used_inodes = 0;
    // Chunks start at multiples of their size, so a bit for each place finds those that share blocks.
    let mut places = Vec::new();
    places.resize(BITMAP_WORDS / usize_of(CHUNK_BLOCKS), 0u64)?;
    for index in 0..count {
        let fault = Error::corrupt("inode chunk entry", g.chunk_entry(agno, index));
        let (start, mask) = read_chunk(media, g, keys, agno, index)?.ok_or(fault)?;
        let first = u64::from(start);
        if first < METADATA_BLOCKS
            || first % CHUNK_BLOCKS != 0
            || first + CHUNK_BLOCKS > blocks
            || !map.all_taken(first, CHUNK_BLOCKS)
        {
            return Err(fault);
        }
        let place = first / CHUNK_BLOCKS;
        let bit = 1u64 << (place % 64);
        match places.get_mut(usize_of(place / 64)) {
            Some(word) if *word & bit == 0 => *word |= bit,
            _ => return Err(fault),
        }
        // Number 0 is nobody's, and may not become anybody's.
        if agno == 0 && index == 0 && mask & 1 == 0 {
            return Err(fault);
        }
        used_inodes += u64::from(mask.count_ones());
        let page = if chunks.needs_page() {
            Some(Page::new()?)
        } else {
            None
        };
        chunks.push(
            Chunk {
                start,
                used: mask,
                taken: mask,
            },
            page,
        );
    }
    // Chunks are never given back, so an entry behind the last one means that the count is too low, and a new chunk would
    // take the place of one that is in use.
    if count < MAX_CHUNKS && read_chunk(media, g, keys, agno, count)?.is_some() {
        return Err(Error::corrupt(
            "allocation group chunk count",
            g.ag_base(agno).address() + CHUNKS_OFFSET,
        ));
    }
    Ok((chunks, used_inodes))
}

impl AgState {
    /// Makes blocks available that were taken, but for those that are lost.
    pub fn give<M: Media>(&mut self, media: &M, base: Block, start: u64, len: u64) {
        self.map.give(start, len);
        self.withdraw(media, base, start, len);
    }

    /// Takes out what is lost of `len` blocks: it is not handed out any more. What is in use stays in use.
    pub fn withdraw<M: Media>(&mut self, media: &M, base: Block, start: u64, len: u64) {
        let Some(poison) = media.poison().filter(|poison| !poison.is_clean()) else {
            return;
        };
        let run = Run {
            start: base.plus(start),
            len,
        };
        poison.each_in(run, |lost| {
            let first = lost.start.0.saturating_sub(base.0);
            self.map.take(first, lost.len);
            self.chunks.withdraw(first, lost.len);
        });
    }

    /// Lost blocks among `len` from `start` on that nobody uses.
    pub fn quarantined<M: Media>(&self, media: &M, base: Block, start: u64, len: u64) -> u64 {
        let mut free = 0;
        let run = Run {
            start: base.plus(start),
            len,
        };
        if let Some(poison) = media.poison() {
            poison.each_in(run, |lost| {
                for_words(lost.start.0.saturating_sub(base.0), lost.len, |i, m| {
                    free += self
                        .used
                        .get(i)
                        .map_or(0, |w| u64::from((!w & m).count_ones()));
                });
            });
        }
        free
    }
}

impl Ag {
    /// Reads group `agno`.
    pub fn load<M: Media>(media: &M, info: &SuperInfo, keys: &Keys, agno: u32) -> Result<Self> {
        let g = &info.geometry;
        let header = read_header(media, info, keys, agno)?;
        let (base, blocks) = (g.ag_base(agno), g.ag_blocks(agno));
        let used = read_bitmap(media, g, agno)?;
        let map = SlotMap::new(&used, blocks)?;
        if !map.all_taken(0, METADATA_BLOCKS) {
            return Err(Error::corrupt(
                "allocation group bitmap",
                g.bitmap_word(agno, 0),
            ));
        }
        let (chunks, used_inodes) = load_chunks(media, info, keys, agno, &map, &header)?;
        let mut verified = Vec::with_capacity(BITMAP_WORDS)?;
        for _ in 0..BITMAP_WORDS {
            verified.push(AtomicU64::new(0))?;
        }
        let mut leaving = Vec::new();
        leaving.resize(BITMAP_WORDS, 0u64)?;
        let state = AgState {
            leaving,
            free_on_medium: count_free(&used, blocks),
            map,
            used,
            chunks,
            used_inodes,
        };
        Ok(Self {
            agno,
            base,
            blocks,
            state: SpinLock::new(state, lock_class!("ochre_ag"))?,
            grow: Mutex::new((), lock_class!("ochre_ag_grow"))?,
            verified,
        })
    }

    /// Whether the metadata block was verified in this mount.
    pub fn is_verified(&self, relative: u64) -> bool {
        self.verified
            .get(usize_of(relative / 64))
            .is_some_and(|w| w.load(Ordering::Relaxed) >> (relative % 64) & 1 == 1)
    }

    /// Notes whether a metadata block was verified.
    pub fn set_verified(&self, relative: u64, yes: bool) {
        if let Some(w) = self.verified.get(usize_of(relative / 64)) {
            let bit = 1u64 << (relative % 64);
            if yes {
                w.fetch_or(bit, Ordering::Relaxed);
            } else {
                w.fetch_and(!bit, Ordering::Relaxed);
            }
        }
    }

    /// Whether all blocks of the run are used on the medium.
    pub fn all_used(&self, start: u64, len: u64) -> bool {
        let state = self.state.lock();
        let mut all = true;
        for_words(start, len, |i, m| {
            all &= state.used.get(i).is_some_and(|w| w & m == m)
        });
        all
    }

    /// Notes that a transaction frees these runs, which lie in this group. False, and nothing noted: a part of one is not used
    /// on the medium, or is being freed already.
    pub fn start_free(&self, runs: &[Run]) -> bool {
        let mut state = self.state.lock();
        let s = &mut *state;
        let (mut noted, mut mine) = (0, true);
        for run in runs {
            let start = run.start.0.saturating_sub(self.base.0);
            for_words(start, run.len, |i, m| {
                let (Some(used), Some(leaving)) = (s.used.get(i), s.leaving.get_mut(i)) else {
                    mine = false;
                    return;
                };
                mine &= used & !*leaving & m == m;
                if mine {
                    *leaving |= m;
                    noted += 1;
                }
            });
        }
        if !mine {
            // The words that were noted are the first ones.
            for run in runs {
                let start = run.start.0.saturating_sub(self.base.0);
                for_words(start, run.len, |i, m| {
                    if let Some(leaving) = s.leaving.get_mut(i).filter(|_| noted > 0) {
                        *leaving &= !m;
                        noted -= 1;
                    }
                });
            }
        }
        mine
    }

    /// The transaction of a [`Self::start_free`] was dropped.
    pub fn cancel_free(&self, start: u64, len: u64) {
        change_bits(&mut self.state.lock().leaving, start, len, false);
    }

    /// As [`Self::cancel_free`], for masks over the bitmap's words from that of block `first` on.
    pub fn cancel_masks(&self, first: u64, masks: &[u64]) {
        let mut s = self.state.lock();
        let first = usize_of(first / 64);
        let words = s.leaving.get_mut(first..).unwrap_or(&mut []);
        for (word, mask) in words.iter_mut().zip(masks) {
            *word &= !mask;
        }
    }

    /// Applies a record's set or clear of `len` bits. `available`: cleared blocks can be handed out at once (else the caller
    /// quarantines them). `dirty` is called under the lock.
    pub fn apply_bits<M: Media>(
        &self,
        media: &M,
        g: &Geometry,
        (start, len): (u64, u64),
        set: bool,
        available: bool,
        dirty: impl FnOnce(),
    ) {
        let mut state = self.state.lock();
        let s = &mut *state;
        let changed = change_bits(&mut s.used, start, len, set);
        s.free_on_medium = if set {
            s.free_on_medium.saturating_sub(changed)
        } else {
            change_bits(&mut s.leaving, start, len, false);
            s.free_on_medium.saturating_add(changed)
        };
        let last = start.saturating_add(len.saturating_sub(1));
        if let Some(words) = s.used.get(usize_of(start / 64)..=usize_of(last / 64)) {
            media.store(g.bitmap_word(self.agno, start), words.as_bytes());
        }
        if !set && available {
            s.give(media, self.base, start, len);
        }
        dirty();
    }

    /// Applies a record's masks for the bitmap's words from `address` on, the first of which has the bit of block `first`. The
    /// blocks can be handed out at once.
    pub fn apply_masks<M: Media>(
        &self,
        media: &M,
        address: u64,
        first: u64,
        masks: &[u64],
        dirty: impl FnOnce(),
    ) {
        let mut state = self.state.lock();
        let s = &mut *state;
        let first = usize_of(first / 64);
        let Some(words) = s.used.get_mut(first..first.saturating_add(masks.len())) else {
            return;
        };
        let mut cleared = 0;
        for (i, (word, mask)) in words.iter_mut().zip(masks).enumerate() {
            let changed = *mask & *word;
            *word ^= changed;
            cleared += u64::from(changed.count_ones());
            if let Some(leaving) = s.leaving.get_mut(first + i) {
                *leaving &= !mask;
            }
            s.map.give_word(first + i, *mask);
        }
        // A word whose mask is 0 gets what it holds.
        media.store(address, words.as_bytes());
        s.free_on_medium = s.free_on_medium.saturating_add(cleared);
        s.withdraw(
            media,
            self.base,
            u64_of(first) * 64,
            u64_of(masks.len()) * 64,
        );
        dirty();
    }

    /// Applies a record's set or clear of an inode bit; a cleared one can be handed out at once.
    pub fn apply_inode<M: Media>(
        &self,
        media: &M,
        g: &Geometry,
        (index, slot): (u32, u32),
        set: bool,
        dirty: impl FnOnce(),
    ) {
        let mut s = self.state.lock();
        let (changed, mask) = s.chunks.set_used(index, slot, set);
        media.store_u64(g.chunk_entry(self.agno, index) + CHUNK_MASK_OFFSET, mask);
        if changed {
            s.used_inodes = if set {
                s.used_inodes.saturating_add(1)
            } else {
                s.used_inodes.saturating_sub(1)
            };
        }
        if !set {
            s.chunks.give(index, slot);
        }
        dirty();
    }

    /// How full the group is on the medium.
    pub fn counts(&self) -> Counts {
        let s = self.state.lock();
        Counts {
            free: s.free_on_medium,
            inodes: s.used_inodes,
        }
    }

    /// Stores the counts, for a checkpoint.
    pub fn store_counts<M: Media>(&self, media: &M) {
        let s = self.state.lock();
        let counts = Counts {
            free: s.free_on_medium,
            inodes: s.used_inodes,
        };
        counts.store(media, self.base);
    }
}
