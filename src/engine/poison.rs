// SPDX-License-Identifier: GPL-2.0

//! Blocks of the medium that are known to be lost.
//!
//! What: [`Poison`] is a medium's list of blocks that cannot be read any more: those that the device listed when it was opened,
//! and those that failed since. [`Condition`] is what it says of a range.
//!
//! Why a list in memory, and nothing on the medium: the device keeps its own list of bad blocks, and the kernel keeps a mark
//! at each page, so every mount can ask; a second list of ours would be wrong as soon as the memory is replaced.
//!
//! Why it is asked before every access, and not only after one that failed: a load from a poisoned line is a machine check
//! each time, and the kernel takes the page of one that has failed out of its own map, so that even a store to it faults.
//!
//! Its cost where nothing is lost is one word that is zero. With something lost, a filter of one bit for each 2 MiB (modulo
//! its size) spares nearly all accesses the lock.
//!
//! Hazard: the list has an end. A device with more pieces of lost memory than that is not one to write to: who adds one too
//! many is told, and the volume turns read-only.

use super::error::{Error, Result};
use super::types::*;
use crate::platform::atomic::{AtomicU64, Ordering};
use crate::platform::{lock_class, SpinLock, Vec};

/// Pieces that the list holds. The kernel's list of bad blocks of a device has 512.
pub const CAPACITY: usize = 1024;

const FILTER_WORDS: usize = 16;
const FILTER_BITS: u64 = FILTER_WORDS as u64 * 64;

/// Something is lost.
const KNOWN: u64 = 1;
/// There may be more that nobody has looked for yet.
const SUSPECT: u64 = 2;

/// The lost blocks of a medium.
pub struct Poison {
    state: AtomicU64,
    filter: [AtomicU64; FILTER_WORDS],
    /// In ascending order, neither overlapping nor adjacent.
    runs: SpinLock<Vec<Run>>,
}

/// What can be done with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// So many blocks from its start can be read.
    Intact(u64),
    /// So many blocks from its start are lost.
    Lost(u64),
}

impl Poison {
    /// Nothing is lost.
    pub fn new() -> Result<Self> {
        let runs = Vec::with_capacity(CAPACITY)?;
        Ok(Self {
            state: AtomicU64::new(0),
            filter: [const { AtomicU64::new(0) }; FILTER_WORDS],
            runs: SpinLock::new(runs, lock_class!("ochre_poison"))?,
        })
    }

    /// Nothing is lost, and nothing has to be looked for.
    #[inline]
    pub fn is_clean(&self) -> bool {
        self.state.load(Ordering::Acquire) == 0
    }

    /// Blocks may be lost that are not in the list: each group is to be looked through when it is first used.
    pub fn set_suspect(&self) {
        self.state.fetch_or(SUSPECT, Ordering::AcqRel);
    }

    /// See [`Self::set_suspect`].
    pub fn is_suspect(&self) -> bool {
        self.state.load(Ordering::Acquire) & SUSPECT != 0
    }

    /// Adds blocks. True: some of them were not known. `NoSpace`: the list is full. Does not sleep.
    pub fn add(&self, run: Run) -> Result<bool> {
        if run.len == 0 {
            return Ok(false);
        }
        let mut runs = self.runs.lock();
        // Those that the new one overlaps or touches become one with it.
        let from = runs.partition_point(|r| r.end() < run.start);
        let to = runs.partition_point(|r| r.start <= run.end());
        let (mut start, mut end) = (run.start, run.end());
        if let (Some(first), Some(last)) = (runs.get(from), runs.get(to.wrapping_sub(1))) {
            if from < to {
                if first.start <= run.start && run.end() <= first.end() {
                    return Ok(false);
                }
                start = start.min(first.start);
                end = end.max(last.end());
            }
        }
        let whole = Run {
            start,
            len: end.0 - start.0,
        };
        if from < to {
            for _ in from + 1..to {
                runs.remove(from);
            }
            if let Some(place) = runs.get_mut(from) {
                *place = whole;
            }
        } else {
            if runs.len() >= CAPACITY {
                return Err(Error::NoSpace);
            }
            // Within the capacity: allocates nothing.
            runs.insert(from, whole)?;
        }
        self.filter_in(run);
        self.state.fetch_or(KNOWN, Ordering::AcqRel);
        Ok(true)
    }

    fn filter_in(&self, run: Run) {
        let (first, last) = (run.start.0 / SLOT_BLOCKS, (run.end().0 - 1) / SLOT_BLOCKS);
        for slot in first..=last.min(first.saturating_add(FILTER_BITS)) {
            let bit = slot % FILTER_BITS;
            if let Some(word) = self.filter.get(usize_of(bit / 64)) {
                word.fetch_or(1 << (bit % 64), Ordering::AcqRel);
            }
        }
    }

    /// False: none of the blocks is lost, as far as is known.
    fn may_hold(&self, run: Run) -> bool {
        if self.state.load(Ordering::Acquire) & KNOWN == 0 || run.len == 0 {
            return false;
        }
        let (first, last) = (
            run.start.0 / SLOT_BLOCKS,
            run.end().0.saturating_sub(1) / SLOT_BLOCKS,
        );
        if last.saturating_sub(first) >= FILTER_BITS {
            return true;
        }
        (first..=last).any(|slot| {
            let bit = slot % FILTER_BITS;
            let word = self.filter.get(usize_of(bit / 64));
            word.is_some_and(|w| w.load(Ordering::Acquire) >> (bit % 64) & 1 == 1)
        })
    }

    /// The first lost blocks of `run`.
    pub fn first_in(&self, run: Run) -> Option<Run> {
        if !self.may_hold(run) {
            return None;
        }
        let runs = self.runs.lock();
        let found = *runs.get(runs.partition_point(|r| r.end() <= run.start))?;
        let start = found.start.max(run.start);
        let end = found.end().min(run.end());
        (start < end).then(|| Run {
            start,
            len: end.0 - start.0,
        })
    }

    /// What there is at the start of `run`.
    pub fn condition(&self, run: Run) -> Condition {
        match self.first_in(run) {
            None => Condition::Intact(run.len),
            Some(lost) if lost.start == run.start => Condition::Lost(lost.len),
            Some(lost) => Condition::Intact(lost.start.0 - run.start.0),
        }
    }

    /// How many blocks are lost.
    pub fn blocks(&self) -> u64 {
        self.runs.lock().iter().map(|run| run.len).sum()
    }

    /// Whether one of the `len` bytes from `address` is lost.
    pub fn touches(&self, address: u64, len: u64) -> bool {
        let start = Block::of(address);
        let last = Block::of(address.saturating_add(len.saturating_sub(1)));
        let len = (last.0 - start.0).saturating_add(1);
        self.first_in(Run { start, len }).is_some()
    }

    /// Calls `f` for all lost pieces of `run`, each with the list unlocked.
    pub fn each_in(&self, run: Run, mut f: impl FnMut(Run)) {
        let mut rest = run;
        while let Some(lost) = self.first_in(rest) {
            f(lost);
            rest = Run {
                start: lost.end(),
                len: run.end().0.saturating_sub(lost.end().0),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn run(start: u64, len: u64) -> Run {
        let start = Block(start);
        Run { start, len }
    }

    #[test]
    fn a_full_list_says_so_and_still_joins() {
        let poison = Poison::new().unwrap();
        for n in 0..CAPACITY as u64 {
            assert_eq!(poison.add(run(n * 3, 1)), Ok(true));
        }
        assert_eq!(poison.add(run(1_000_000, 1)), Err(Error::NoSpace));
        assert_eq!(poison.add(run(1, 2)), Ok(true), "joins two pieces");
        assert_eq!(poison.add(run(1_000_000, 1)), Ok(true));
        assert_eq!(poison.condition(run(0, 9)), Condition::Lost(4));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(adds in prop::collection::vec((0u64..3000, 1u64..700), 0..40), asks in prop::collection::vec((0u64..4000, 1u64..900), 1..40)) {
            let poison = Poison::new().unwrap();
            let mut model = [false; 5000];
            for (start, len) in adds {
                let part = &mut model[start as usize..(start + len) as usize];
                prop_assert_eq!(poison.add(run(start, len)).unwrap(), part.iter().any(|lost| !lost));
                part.fill(true);
            }
            prop_assert_eq!(poison.is_clean(), !model.contains(&true));
            for (start, len) in asks {
                let part = &model[start as usize..(start + len) as usize];
                let same = part.iter().take_while(|lost| **lost == part[0]).count() as u64;
                let told = if part[0] { Condition::Lost(same) } else { Condition::Intact(same) };
                prop_assert_eq!(poison.condition(run(start, len)), told);
                prop_assert_eq!(poison.touches(start * 4096 + 8, len * 4096 - 8), part.contains(&true));
                let mut seen = Vec::new();
                poison.each_in(run(start, len), |lost| seen.extend(lost.start.0..lost.end().0));
                let lost: Vec<u64> = (start..start + len).filter(|n| model[*n as usize]).collect();
                prop_assert_eq!(seen, lost);
            }
        }
    }
}
