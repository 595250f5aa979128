// SPDX-License-Identifier: GPL-2.0

//! Allocation of blocks, inodes and orphan slots, in memory.
//!
//! Nothing here writes the medium by itself: what is taken becomes durable by a transaction's record and is stored when that
//! is applied. A crash before leaves nothing behind.
//!
//! Groups are read at first use. A search starts in the group that the caller names and goes round; each round tries harder
//! ([`slots::Effort`]). Groups that are not loaded and have no free blocks by their header's count are not loaded for it.

pub mod ag;
pub mod chunks;
pub mod orphans;
pub mod policy;
pub mod quarantine;
pub mod slots;

use super::checksum::Keys;
use super::error::{Error, Result};
use super::format::ag as format;
use super::media::Media;
use super::superblock::SuperInfo;
use super::types::*;
use crate::platform::atomic::{AtomicU64, Ordering};
use crate::platform::{lock_class, yield_now, Box, Mutex, Once, Vec};
use ag::{Ag, Counts};
use policy::{left_over, Purpose};
use slots::Effort;

pub use policy::{AllocRequest, Window};

/// Groups whose places are allocated together.
const SHELF: usize = 32;

/// What is kept for a group.
struct Place {
    ag: Once<Box<Ag>>,
    /// Free blocks and used inodes as a group's header has them, once they were asked for; [`format::UNCOUNTED`] before. A
    /// group that is not loaded does not change, so they stay true; of a loaded one they mean nothing.
    free: AtomicU64,
    inodes: AtomicU64,
}

/// [`SHELF`] places.
struct Shelf([Place; SHELF]);

impl Shelf {
    fn new() -> Self {
        Self(core::array::from_fn(|_| Place {
            ag: Once::new(),
            free: AtomicU64::new(format::UNCOUNTED),
            inodes: AtomicU64::new(format::UNCOUNTED),
        }))
    }
}

/// All groups of a volume. Opening a volume allocates a few words for 64 groups, so that it takes no longer for a large one.
pub struct Allocator {
    shelves: Vec<Once<Box<Shelf>>>,
    load: Mutex<()>,
    /// Groups whose counts changed since the last checkpoint.
    dirty: Vec<AtomicU64>,
    /// Freed metadata blocks.
    pub quarantine: quarantine::Quarantine,
    /// Free slots of the orphan table.
    pub orphans: orphans::OrphanSlots,
}

/// How full a volume is, in blocks and inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks of all groups, without the groups' own metadata.
    pub blocks: u64,
    /// Free ones, quarantined ones included.
    pub free: u64,
    /// Free ones that data cannot have.
    pub reserve: u64,
    /// Inodes in use.
    pub used_inodes: u64,
}

impl Allocator {
    /// For a volume of which no group was read yet.
    pub fn new(info: &SuperInfo) -> Result<Self> {
        let count = info.geometry.ag_count as usize;
        let mut shelves = Vec::with_capacity(count.div_ceil(SHELF))?;
        for _ in 0..count.div_ceil(SHELF) {
            shelves.push(Once::new())?;
        }
        let mut dirty = Vec::with_capacity(count.div_ceil(64))?;
        for _ in 0..count.div_ceil(64) {
            dirty.push(AtomicU64::new(0))?;
        }
        Ok(Self {
            shelves,
            load: Mutex::new((), lock_class!("ochre_ag_load"))?,
            dirty,
            quarantine: quarantine::Quarantine::new()?,
            orphans: orphans::OrphanSlots::new(&info.geometry)?,
        })
    }

    /// The place of group `agno`, if one was made.
    fn place(&self, agno: u32) -> Option<&Place> {
        let shelf = self.shelves.get(agno as usize / SHELF)?.get()?;
        shelf.0.get(agno as usize % SHELF)
    }

    /// The place of group `agno`.
    fn make_place(&self, agno: u32) -> Result<&Place> {
        let shelf = self
            .shelves
            .get(agno as usize / SHELF)
            .ok_or(Error::Invalid)?;
        if shelf.get().is_none() {
            // Another may be faster; then its shelf is the one.
            shelf.set(Box::new(Shelf::new())?);
        }
        self.place(agno).ok_or(Error::Invalid)
    }

    /// Group `agno` if it was loaded.
    pub fn loaded(&self, agno: u32) -> Option<&Ag> {
        Some(&**self.place(agno)?.ag.get()?)
    }

    /// Group `agno`, read if need be. May sleep.
    pub fn group<M: Media>(
        &self,
        media: &M,
        info: &SuperInfo,
        keys: &Keys,
        agno: u32,
    ) -> Result<&Ag> {
        if let Some(ag) = self.loaded(agno) {
            return Ok(ag);
        }
        if agno >= info.geometry.ag_count {
            return Err(Error::Invalid);
        }
        let place = self.make_place(agno)?;
        let guard = self.load.lock();
        if place.ag.get().is_none() {
            let (base, blocks) = (info.geometry.ag_base(agno), info.geometry.ag_blocks(agno));
            search_poison(media, base, blocks)?;
            ag::check_intact(media, base)?;
            place.ag.set(Box::new(Ag::load(media, info, keys, agno)?)?);
            // After the group can be found: whoever loses a block from now on takes it out himself.
            if let (Some(ag), Some(_)) = (place.ag.get(), media.poison()) {
                ag.state.lock().withdraw(media, base, 0, blocks);
            }
        }
        drop(guard);
        self.loaded(agno).ok_or(Error::NoMemory)
    }

    /// Notes that the counts of a group changed; under the group's lock.
    pub fn mark_dirty(&self, agno: u32) {
        if let Some(w) = self.dirty.get(agno as usize / 64) {
            let bit = 1 << (agno % 64);
            if w.load(Ordering::Relaxed) & bit == 0 {
                w.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// Stores the counts of all groups that changed.
    pub fn store_counts<M: Media>(&self, media: &M) {
        for (i, word) in self.dirty.iter().enumerate() {
            let mut bits = if word.load(Ordering::Relaxed) == 0 {
                0
            } else {
                word.swap(0, Ordering::Relaxed)
            };
            while bits != 0 {
                if let Some(ag) = self.loaded(i as u32 * 64 + bits.trailing_zeros()) {
                    ag.store_counts(media);
                }
                bits &= bits - 1;
            }
        }
    }

    /// Makes quarantined blocks available that were freed below `checkpoint`.
    pub fn release_quarantine<M: Media>(
        &self,
        media: &M,
        g: &super::superblock::Geometry,
        checkpoint: Seq,
    ) {
        while let Some(run) = self.quarantine.next(checkpoint) {
            self.give(media, g, run);
        }
    }

    /// Makes blocks available that were taken in memory only.
    pub fn give<M: Media>(&self, media: &M, g: &super::superblock::Geometry, run: Run) {
        if let Some((agno, relative)) = g.locate_run(run) {
            if let Some(ag) = self.loaded(agno) {
                ag.state.lock().give(media, ag.base, relative, run.len);
            }
        }
    }

    /// Blocks that are free on the medium and can never be had: what a [`Usage`] counts as free too much. Groups that cannot
    /// be read say so to whoever wants something of them.
    fn quarantined<M: Media>(&self, media: &M, info: &SuperInfo, keys: &Keys) -> u64 {
        let Some(poison) = media.poison().filter(|poison| !poison.is_clean()) else {
            return 0;
        };
        let mut blocks = 0;
        for agno in 0..info.geometry.ag_count {
            let (start, len) = (info.geometry.ag_base(agno), info.geometry.ag_blocks(agno));
            if poison.first_in(Run { start, len }).is_some() {
                if let Ok(ag) = self.group(media, info, keys, agno) {
                    blocks += ag.state.lock().quarantined(media, start, 0, len);
                }
            }
        }
        blocks
    }

    /// The group's free blocks, without loading it. Many if nobody counted them: then it is worth being loaded.
    fn free_hint<M: Media>(&self, media: &M, info: &SuperInfo, agno: u32) -> u64 {
        match self.loaded(agno) {
            Some(ag) => ag.state.lock().map.free(),
            None => self
                .noted(media, info, agno)
                .map_or(0, |counts| counts.free),
        }
    }

    /// What the header of a group that is not loaded says, from memory if it was asked for before.
    fn noted<M: Media>(&self, media: &M, info: &SuperInfo, agno: u32) -> Result<Counts> {
        if let Some(place) = self.place(agno) {
            let free = place.free.load(Ordering::Acquire);
            if free != format::UNCOUNTED {
                let inodes = place.inodes.load(Ordering::Relaxed);
                return Ok(Counts { free, inodes });
            }
        }
        let counts = ag::read_counts(media, &info.geometry, agno)?;
        self.note(agno, &counts);
        Ok(counts)
    }

    /// Keeps a group's counts. Without memory they are read again the next time: no reason to say that nothing is free.
    fn note(&self, agno: u32, counts: &Counts) {
        if let Ok(place) = self.make_place(agno) {
            place.inodes.store(counts.inodes, Ordering::Relaxed);
            place.free.store(counts.free, Ordering::Release);
        }
    }

    /// A group's free blocks and used inodes as they are on the medium, counted if need be.
    fn counts<M: Media>(
        &self,
        media: &M,
        info: &SuperInfo,
        keys: &Keys,
        agno: u32,
    ) -> Result<Counts> {
        if let Some(ag) = self.loaded(agno) {
            return Ok(ag.counts());
        }
        let noted = self.noted(media, info, agno)?;
        if noted.free != format::UNCOUNTED {
            return Ok(noted);
        }
        let _guard = self.load.lock();
        if let Some(ag) = self.loaded(agno) {
            return Ok(ag.counts());
        }
        let counts = ag::count(media, info, keys, agno)?;
        self.note(agno, &counts);
        Ok(counts)
    }

    /// Stores the counts of all groups of which recovery left them open. The caller may write, and fences.
    pub fn settle_counts<M: Media>(&self, media: &M, info: &SuperInfo, keys: &Keys) -> Result {
        for agno in 0..info.geometry.ag_count {
            yield_now();
            if ag::read_counts(media, &info.geometry, agno)?.free != format::UNCOUNTED {
                continue;
            }
            let counts = self.counts(media, info, keys, agno)?;
            let _guard = self.load.lock();
            match self.loaded(agno) {
                Some(ag) => ag.store_counts(media),
                None => counts.store(media, info.geometry.ag_base(agno)),
            }
        }
        Ok(())
    }

    /// Goes through all groups from `first` on, with rising effort, until `f` finds something there.
    fn search<M: Media, R>(
        &self,
        media: &M,
        info: &SuperInfo,
        keys: &Keys,
        first: u32,
        efforts: &[Effort],
        mut f: impl FnMut(&Ag, Effort) -> Option<R>,
    ) -> Result<R> {
        let count = info.geometry.ag_count;
        for effort in efforts {
            for step in 0..count {
                let agno = ((u64::from(first % count) + u64::from(step)) % u64::from(count)) as u32;
                if step > 0 && self.free_hint(media, info, agno) == 0 {
                    continue;
                }
                let ag = self.group(media, info, keys, agno)?;
                if let Some(found) = f(ag, *effort) {
                    return Ok(found);
                }
            }
        }
        Err(Error::NoSpace)
    }

    /// Takes blocks for data. `last` is the last try: then owned slots are broken too.
    pub fn take_data<M: Media>(
        &self,
        media: &M,
        info: &SuperInfo,
        keys: &Keys,
        r: &AllocRequest,
        last: bool,
    ) -> Result<(Run, Window)> {
        let efforts: &[Effort] = if last {
            &[Effort::Broken]
        } else {
            &[Effort::Fitting, Effort::Anywhere]
        };
        let g = &info.geometry;
        let near = r.goal.and_then(|b| g.locate(b)).map_or(r.ag, |(ag, _)| ag);
        let found = self.search(media, info, keys, near, efforts, |ag, effort| {
            let mut s = ag.state.lock();
            let limit = s
                .map
                .free()
                .saturating_sub(left_over(ag.blocks, r.purpose, false));
            let place = policy::place_data(&mut s.map, ag.base, r, limit, effort)?;
            let window = place.window.map_or(Window::NONE, |slot| {
                let slot_start = slot * SLOT_BLOCKS;
                // The file block that lies at the slot's first block.
                let base = (r.file_block.0 + slot_start).saturating_sub(place.start);
                Window {
                    slot: ag.base.plus(slot_start),
                    file_base: FileBlock(base),
                }
            });
            Some((
                Run {
                    start: ag.base.plus(place.start),
                    len: place.len,
                },
                window,
            ))
        })?;
        // A piece in a shared slot does not end the window; a new window does.
        if found.1 == Window::NONE {
            return Ok((found.0, r.window));
        }
        if found.1.slot != r.window.slot {
            self.release_window(g, r.window, r.owner);
        }
        Ok(found)
    }

    /// Gives up a window: its slot is free for all.
    pub fn release_window(&self, g: &super::superblock::Geometry, window: Window, owner: Ino) {
        if window == Window::NONE {
            return;
        }
        if let Some((agno, relative)) = g.locate(window.slot) {
            if let Some(ag) = self.loaded(agno) {
                let mut s = ag.state.lock();
                let slot = relative / SLOT_BLOCKS;
                if s.map.owner(slot) == owner.0 {
                    s.map.set_owner(slot, 0);
                }
            }
        }
    }

    /// Takes `count` blocks in a row for metadata, the first at a multiple of `count`.
    pub fn take_metadata<M: Media>(
        &self,
        media: &M,
        info: &SuperInfo,
        keys: &Keys,
        first: u32,
        count: u64,
        purpose: Purpose,
    ) -> Result<Run> {
        let efforts = [Effort::Fitting, Effort::Anywhere, Effort::Broken];
        self.search(media, info, keys, first, &efforts, |ag, effort| {
            let mut s = ag.state.lock();
            if s.map
                .free()
                .saturating_sub(left_over(ag.blocks, purpose, true))
                < count
            {
                return None;
            }
            let at = s.map.find_small(count, count, 1, effort)?;
            s.map.take(at, count);
            Some(Run {
                start: ag.base.plus(at),
                len: count,
            })
        })
    }

    /// Sums up all groups. Groups that are not loaded are counted by their headers, which are read once.
    pub fn usage<M: Media>(&self, media: &M, info: &SuperInfo, keys: &Keys) -> Result<Usage> {
        let g = &info.geometry;
        let mut usage = Usage::default();
        for agno in 0..g.ag_count {
            let blocks = g.ag_blocks(agno);
            let most = blocks.saturating_sub(format::METADATA_BLOCKS);
            usage.blocks += most;
            let Counts { free, inodes } = self.counts(media, info, keys, agno)?;
            // No checksum covers the counts.
            let free = free.min(most);
            usage.free = usage.free.saturating_add(free);
            usage.reserve += policy::reserve(blocks).min(free);
            usage.used_inodes = usage.used_inodes.saturating_add(inodes.min(1 << 22));
        }
        let quarantined = self.quarantined(media, info, keys);
        usage.free = usage.free.saturating_sub(quarantined);
        Ok(usage)
    }
}

/// Looks a range of a suspect medium through, and adds what is lost to its list.
pub fn search_poison<M: Media>(media: &M, start: Block, len: u64) -> Result {
    if !media.poison().is_some_and(|poison| poison.is_suspect()) {
        return Ok(());
    }
    let mut result = Ok(());
    media.search_poison(Run { start, len }, &mut |lost| {
        if let Err(error) = media.lose(lost) {
            result = Err(error);
        }
    });
    // More than the list holds: too much to go on with.
    result.map_err(|_| Error::Unreadable(start.address()))
}
