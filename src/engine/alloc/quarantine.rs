// SPDX-License-Identifier: GPL-2.0

//! Freed metadata blocks that no one may have yet.
//!
//! Hazard: a directory leaf at block 700 is changed by record 10 and freed by record 11. If block 700 became a file's data
//! now, a crash would replay record 10 over that data. So the block waits until the checkpoint has passed 11: then neither
//! record is replayed again.
//!
//! Places in the list are reserved while a transaction collects, since its apply cannot fail.

use super::super::error::Result;
use super::super::types::*;
use crate::platform::{lock_class, SpinLock, Vec};

const CAPACITY: usize = 2048;

struct State {
    waiting: Vec<(Run, Seq)>,
    reserved: usize,
}

/// The list.
pub struct Quarantine(SpinLock<State>);

impl Quarantine {
    /// An empty list.
    pub fn new() -> Result<Self> {
        let state = State {
            waiting: Vec::with_capacity(CAPACITY)?,
            reserved: 0,
        };
        Ok(Self(SpinLock::new(state, lock_class!("ochre_quarantine"))?))
    }

    /// Reserves a place; false if the list is full: then a checkpoint helps.
    pub fn reserve(&self) -> bool {
        let mut s = self.0.lock();
        let room = s.waiting.len().saturating_add(s.reserved) < CAPACITY;
        if room {
            s.reserved += 1;
        }
        room
    }

    /// Gives `n` reserved places back.
    pub fn unreserve(&self, n: usize) {
        let mut s = self.0.lock();
        s.reserved = s.reserved.saturating_sub(n);
    }

    /// Puts a run that transaction `seq` freed into a reserved place.
    pub fn add(&self, run: Run, seq: Seq) {
        let mut s = self.0.lock();
        s.reserved = s.reserved.saturating_sub(1);
        // Within the capacity: cannot fail.
        let _ = s.waiting.push((run, seq));
    }

    /// Takes out one run that was freed below `checkpoint`.
    pub fn next(&self, checkpoint: Seq) -> Option<Run> {
        let mut s = self.0.lock();
        let i = s.waiting.iter().position(|(_, seq)| *seq < checkpoint)?;
        let last = s.waiting.len() - 1;
        s.waiting.swap(i, last);
        s.waiting.pop().map(|(run, _)| run)
    }

    /// Whether anything waits.
    pub fn is_empty(&self) -> bool {
        self.0.lock().waiting.is_empty()
    }
}
