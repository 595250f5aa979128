// SPDX-License-Identifier: GPL-2.0

//! Which slots of the orphan table are free.
//!
//! The table itself is the truth; this bitmap is read from it when the first slot is asked for, so a mount need not. A slot
//! that a transaction cleared is free here only after that transaction was applied: the next user's store comes after.

use super::super::error::{Error, Result};
use super::super::media::Media;
use super::super::superblock::Geometry;
use crate::platform::{lock_class, Mutex, Once, SpinLock, Vec};

struct State {
    taken: Vec<u64>,
    hint: usize,
}

/// The free slots.
pub struct OrphanSlots {
    state: Once<SpinLock<State>>,
    load: Mutex<()>,
}

impl OrphanSlots {
    /// Not read yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            state: Once::new(),
            load: Mutex::new((), lock_class!("ochre_orphan_load"))?,
        })
    }

    fn state<M: Media>(&self, media: &M, g: &Geometry) -> Result<&SpinLock<State>> {
        if let Some(s) = self.state.get() {
            return Ok(s);
        }
        let guard = self.load.lock();
        if self.state.get().is_none() {
            let slots = g.orphan_slots as usize;
            let mut taken = Vec::new();
            taken.resize(slots.div_ceil(64), 0u64)?;
            let mut buffer = [0u8; 512];
            for (i, word) in taken.iter_mut().enumerate() {
                media.read(g.orphan_slot((i * 64) as u32), &mut buffer)?;
                for (bit, entry) in buffer.chunks_exact(8).enumerate() {
                    if i * 64 + bit >= slots || entry.iter().any(|b| *b != 0) {
                        *word |= 1 << bit;
                    }
                }
            }
            self.state.set(SpinLock::new(
                State { taken, hint: 0 },
                lock_class!("ochre_orphans"),
            )?);
        }
        drop(guard);
        self.state.get().ok_or(Error::NoMemory)
    }

    /// Takes a free slot.
    pub fn take<M: Media>(&self, media: &M, g: &Geometry) -> Result<u32> {
        let mut s = self.state(media, g)?.lock();
        let n = s.taken.len();
        for step in 0..n {
            let i = (s.hint + step) % n;
            if let Some(word) = s.taken.get_mut(i) {
                if *word != u64::MAX {
                    let bit = word.trailing_ones();
                    *word |= 1 << bit;
                    s.hint = i;
                    return Ok(i as u32 * 64 + bit);
                }
            }
        }
        Err(Error::NoSpace)
    }

    /// Makes a slot free.
    pub fn give(&self, slot: u32) {
        if let Some(state) = self.state.get() {
            let mut s = state.lock();
            let i = slot as usize / 64;
            if let Some(word) = s.taken.get_mut(i) {
                *word &= !(1 << (slot % 64));
                s.hint = i;
            }
        }
    }
}
