// SPDX-License-Identifier: GPL-2.0

//! Ranges of a file that are about to get their blocks: *in flight*.
//!
//! What: a write copies its bytes into blocks that do not belong to the file yet, and publishes
//! them after. From before it reserves until after it has published, the range is claimed here
//! ([`InFlight::claim_write`]). A fault that has to allocate claims its page or pages likewise
//! ([`InFlight::claim_fault`]). Claims that overlap exclude each other.
//!
//! Why: were they to overlap, the same hole would get two blocks, or a fault would zero a
//! preallocated block into which the new bytes have already been copied.
//!
//! How: a claim is one word in a slot. It is entered first, then the other slots are looked at,
//! and it is withdrawn if one is in the way. Two that enter at once may both withdraw; then each
//! waits until the other is gone. Nothing is allocated, and no lock is taken.
//!
//! Who waits for whom: a writer (which holds `i_rwsem`, and nothing that a fault takes) waits for
//! faults; a fault gives back all that it holds, and waits for the writer. A writer with a claim
//! never waits for a fault, since it copies with page faults disabled. So nobody waits in a circle.
//!
//! Hazard: a fault that only reads needs no claim, but must look as well, *after* it has looked up
//! the block. Else it meets a block just published, enters its page, and the writer's removal of
//! stale entries deletes that entry under a mapped page (`WARN` in fs/dax.c; `races` found it).
//!
//! Hazard: the word is withdrawn *after* stale entries of the zero page are gone. Were it the
//! other way round, a fault could enter the new page, someone could pin it, and the removal of
//! entries would then hit a page that is in use.

use crate::engine::filesystem::{WriteKind, WriteReservation};
use crate::engine::types::{Block, FileBlock};
use crate::testing::{self, Protection};
use crate::vfs::mapping::PageRange;
use crate::vfs::wait;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use kernel::prelude::*;

/// Slot 0 is the writer's (there is one at a time); the others are for faults.
const SLOTS: usize = 6;

/// Low bits of a slot: the number of pages. The bits above are the first page.
const LEN_BITS: u32 = 20;

/// Claims on one file, and what its writer has reserved.
pub(crate) struct InFlight {
    slots: [AtomicU64; SLOTS],
    /// Somebody sleeps until a claim goes.
    waiting: AtomicBool,
    /// The reservation of the writer, who holds `i_rwsem`.
    reservation: [AtomicU64; 4],
    /// An errno that publishing met: fs/iomap would swallow it.
    failure: AtomicI32,
    /// Where the range starts that could not be published.
    failed_at: AtomicU64,
    /// Where the range ends that was published last.
    published: AtomicU64,
}

/// A fault's claim; ends when it is dropped.
pub(crate) struct FaultClaim<'a> {
    owner: &'a InFlight,
    slot: usize,
}

impl Drop for FaultClaim<'_> {
    fn drop(&mut self) {
        self.owner.release(self.slot);
    }
}

fn pack(pages: PageRange) -> u64 {
    let len = (pages.end.saturating_sub(pages.first)).clamp(1, (1 << LEN_BITS) - 1);
    pages.first << LEN_BITS | len
}

fn overlaps(word: u64, pages: PageRange) -> bool {
    let first = word >> LEN_BITS;
    let len = word & ((1 << LEN_BITS) - 1);
    len != 0 && first < pages.end && pages.first < first + len
}

impl InFlight {
    /// No claims.
    pub(crate) const fn new() -> Self {
        Self {
            slots: [const { AtomicU64::new(0) }; SLOTS],
            waiting: AtomicBool::new(false),
            reservation: [const { AtomicU64::new(0) }; 4],
            failure: AtomicI32::new(0),
            failed_at: AtomicU64::new(0),
            published: AtomicU64::new(0),
        }
    }

    /// A claim on some of `pages` exists, `own` apart.
    fn conflicts(&self, pages: PageRange, own: usize) -> bool {
        if testing::without(Protection::Claims) {
            return false;
        }
        let mut slots = self.slots.iter().enumerate();
        slots.any(|(slot, word)| slot != own && overlaps(word.load(Ordering::SeqCst), pages))
    }

    /// A claim on some of `pages` exists.
    pub(crate) fn is_claimed(&self, pages: PageRange) -> bool {
        self.conflicts(pages, SLOTS)
    }

    /// Enters a claim; false: another is in the way.
    fn enter(&self, slot: usize, pages: PageRange) -> bool {
        let word = &self.slots[slot];
        if word
            .compare_exchange(0, pack(pages), Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
        {
            return false;
        }
        if self.conflicts(pages, slot) {
            self.release(slot);
            return false;
        }
        true
    }

    fn release(&self, slot: usize) {
        self.slots[slot].store(0, Ordering::SeqCst);
        if self.waiting.swap(false, Ordering::SeqCst) {
            wait::wake(&self.waiting);
        }
    }

    /// Sleeps until nothing is in the way of a fault's claim. `EINTR`: a fatal signal.
    pub(crate) fn wait(&self, pages: PageRange) -> Result {
        wait::wait_killable(&self.waiting, || {
            // First the flag, then the look: a claim that goes after the look sees the flag.
            self.waiting.store(true, Ordering::SeqCst);
            let free = |word: &AtomicU64| word.load(Ordering::SeqCst) == 0;
            !self.is_claimed(pages) && self.slots[1..].iter().any(free)
        })
    }

    /// Claims `pages` for a fault, if nothing is in the way.
    pub(crate) fn claim_fault(&self, pages: PageRange) -> Option<FaultClaim<'_>> {
        for slot in 1..SLOTS {
            if self.slots[slot].load(Ordering::SeqCst) == 0 {
                if self.enter(slot, pages) {
                    return Some(FaultClaim { owner: self, slot });
                }
                if self.conflicts(pages, SLOTS) {
                    return None;
                }
            }
        }
        None
    }

    /// Claims `pages` for the writer, who holds `i_rwsem`. Sleeps while a fault is in the way.
    pub(crate) fn claim_write(&self, pages: PageRange) -> Result {
        while !self.enter(0, pages) {
            wait::wait_killable(&self.waiting, || {
                self.waiting.store(true, Ordering::SeqCst);
                !self.conflicts(pages, 0)
            })?;
        }
        Ok(())
    }

    /// Ends the writer's claim.
    pub(crate) fn release_write(&self) {
        self.release(0);
    }

    /// Keeps the writer's reservation from `begin` to `end`.
    pub(crate) fn put_reservation(&self, reservation: &WriteReservation) {
        let kind = match reservation.kind {
            WriteKind::InPlace => 0,
            WriteKind::Convert => 1,
            WriteKind::Fresh => 2,
            WriteKind::Replace => 3,
        };
        let words = [
            reservation.start.0,
            reservation.len,
            reservation.block.0,
            kind,
        ];
        for (slot, word) in self.reservation.iter().zip(words) {
            slot.store(word, Ordering::Relaxed);
        }
    }

    /// The reservation, for its one and only end.
    pub(crate) fn take_reservation(&self) -> WriteReservation {
        let [start, len, block, kind] =
            [0, 1, 2, 3].map(|word: usize| self.reservation[word].load(Ordering::Relaxed));
        WriteReservation {
            start: FileBlock(start),
            len,
            block: Block(block),
            kind: match kind {
                0 => WriteKind::InPlace,
                1 => WriteKind::Convert,
                2 => WriteKind::Fresh,
                _ => WriteKind::Replace,
            },
        }
    }

    /// Begins a write: nothing failed yet, nothing published.
    pub(crate) fn reset(&self) {
        self.failure.store(0, Ordering::Relaxed);
        self.published.store(u64::MAX, Ordering::Relaxed);
    }

    /// Notes that the range from `at` on could not be published.
    pub(crate) fn fail(&self, error: Error, at: u64) {
        self.failed_at.store(at, Ordering::Relaxed);
        self.failure.store(error.to_errno(), Ordering::Relaxed);
    }

    /// What could not be published: the error, and where it starts.
    pub(crate) fn failure(&self) -> Option<(Error, u64)> {
        match self.failure.load(Ordering::Relaxed) {
            0 => None,
            errno => Some((
                Error::from_errno(errno),
                self.failed_at.load(Ordering::Relaxed),
            )),
        }
    }

    /// Notes how far the file was published.
    pub(crate) fn set_published(&self, end: u64) {
        self.published.store(end, Ordering::Relaxed);
    }

    /// Where the last published range ended; `u64::MAX` if there was none.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }
}
