// SPDX-License-Identifier: GPL-2.0

//! Giving blocks back in a transaction.
//!
//! Why runs of data are taken many at a time: a file that was written or punched here and there has thousands of short ones,
//! often a few blocks from each other. An entry for each, and the group's lock for each when it is applied, made their number
//! the cost of a truncate. Short runs that follow each other closely become masks over words of the bitmap, eight of them or
//! more in one word of the record.
//!
//! # Hazard
//!
//! A block that is free already must not be freed once more: the second owner's would vanish under it. So every run is looked
//! up in the bitmap before it is collected.

use super::{Class, Transaction, METADATA_RUN};
use crate::engine::alloc::slots::mask;
use crate::engine::error::{Error, Result};
use crate::engine::format::journal::*;
use crate::engine::media::Media;
use crate::engine::mutant::Mutant;
use crate::engine::types::*;
use crate::engine::volume::{bit_position, masks_position};

/// Runs of more blocks get an entry of their own.
const SHORT: u64 = 64;
/// Words without a bit that a row of masks goes on over.
const GAP: usize = 2;
/// Words of a record that a run takes at most: a head, its own one or two, and those that a row goes on over.
const MOST_WORDS: usize = 3 + GAP;
/// Runs that are collected at once.
const AT_ONCE: usize = 256;

impl<M: Media> Transaction<'_, M> {
    /// Frees blocks. They can be allocated again after this transaction was applied; metadata blocks only after the
    /// checkpoint has passed it.
    pub fn free(&mut self, run: Run, class: Class) -> Result {
        let mut flag = 0;
        if class == Class::Metadata {
            self.volume.reserve_quarantine()?;
            self.work.quarantined += 1;
            flag = METADATA_RUN;
        }
        self.work.room(2)?;
        // From here on until the entry is there nothing fails: dropping looks at the entries.
        let (agno, _) = self.group_of(&[run])?;
        if !self.took(run) {
            self.start_free(agno, &[run])?;
        }
        self.bits(BITS_CLEAR, run, flag)?;
        if Mutant::FreeBeforeApply.active() {
            self.volume.release(run);
        }
        Ok(())
    }

    /// Frees blocks of file data; runs that follow each other closely are best given in their order.
    pub fn free_data(&mut self, runs: &[Run]) -> Result {
        let mut rest = runs;
        while let Some(first) = rest.first() {
            // One at a time where some may be blocks that this transaction took.
            if rest.len() == 1 || self.has_taken() {
                self.free(*first, Class::Data)?;
                rest = rest.get(1..).unwrap_or(&[]);
                continue;
            }
            let (agno, n) = self.group_of(rest)?;
            let (same, next) = rest.split_at(n.min(AT_ONCE));
            rest = next;
            self.work.room(same.len() * MOST_WORDS)?;
            // As in `free`.
            self.start_free(agno, same)?;
            self.clear_many(agno, same)?;
            if Mutant::FreeBeforeApply.active() {
                for run in same {
                    self.volume.release(*run);
                }
            }
        }
        Ok(())
    }

    /// The group of the first run, and how many runs from there on are in it.
    fn group_of(&self, runs: &[Run]) -> Result<(u32, usize)> {
        let g = self.volume.geometry();
        let first = runs.first().ok_or(Error::Invalid)?;
        let (agno, _) = g.locate_run(*first).ok_or(Error::corrupt(
            "freed blocks outside their group",
            first.start.address(),
        ))?;
        let (low, high) = g.ag_data(agno);
        let inside = |run: &&Run| {
            let end = run.start.0.saturating_add(run.len);
            run.len > 0 && run.start.0 >= low && end <= high
        };
        Ok((agno, runs.iter().take_while(inside).count()))
    }

    /// Claims runs of one group for this transaction to free. Fails if one of them has a block that is free, or that is being
    /// freed already.
    fn start_free(&self, agno: u32, runs: &[Run]) -> Result {
        if self.volume.group(agno)?.start_free(runs) {
            return Ok(());
        }
        let address = runs.first().map_or(0, |run| run.start.address());
        Err(Error::corrupt("freed blocks are free already", address))
    }

    /// What was to be freed stays: for a transaction that is dropped.
    pub(super) fn cancel_frees(&self) {
        let g = self.volume.geometry();
        self.work.entries(self.work.used, |at, head| {
            let place = match head.kind {
                BITS_CLEAR => bit_position(g, head),
                MASKS_CLEAR => masks_position(g, head),
                _ => None,
            };
            let Some((agno, relative)) = place else {
                return;
            };
            // It was loaded when the entry was made.
            let Ok(ag) = self.volume.group(agno) else {
                return;
            };
            if head.kind == BITS_CLEAR {
                ag.cancel_free(relative, self.work.get(at + 1) & !METADATA_RUN);
            } else {
                let masks = self.work.words.get(at + 1..at + 1 + head.length);
                ag.cancel_masks(relative, masks.unwrap_or(&[]));
            }
        });
    }

    /// Collects clears of runs in a group: rows of masks for short ones, entries of their own for others.
    fn clear_many(&mut self, agno: u32, runs: &[Run]) -> Result {
        let g = self.volume.geometry();
        let base = g.ag_base(agno).0;
        let bitmap = g.bitmap_word(agno, 0);
        let mut row = Row {
            place: 0,
            first: 0,
            len: 0,
        };
        for run in runs {
            if run.len > SHORT {
                row.len = 0;
                self.bits(BITS_CLEAR, *run, 0)?;
                continue;
            }
            let relative = run.start.0.saturating_sub(base);
            let (word, bit) = (usize_of(relative / 64), relative % 64);
            let end = word + 1 + usize::from(bit + run.len > 64);
            let goes_on = row.len > 0
                && word >= row.first
                && word <= row.first + row.len + GAP
                && end - row.first <= MAX_ENTRY_WORDS;
            if !goes_on {
                self.work.room(1 + end - word)?;
                row = Row {
                    place: self.work.used,
                    first: word,
                    len: 0,
                };
                self.append(MASKS_CLEAR, bitmap + word as u64 * 8, 0);
            }
            if end > row.first + row.len {
                self.lengthen(&mut row, end)?;
            }
            let at = row.place + 1 + (word - row.first);
            let here = run.len.min(64 - bit);
            self.work.or(at, mask(bit, here));
            if here < run.len {
                self.work.or(at + 1, mask(0, run.len - here));
            }
        }
        Ok(())
    }

    /// Lets the row, which is the record's last entry, reach to the bitmap's word `end`.
    fn lengthen(&mut self, row: &mut Row, end: usize) -> Result {
        let more = end - (row.first + row.len);
        self.work.room(more)?;
        let work = &mut *self.work;
        for word in 0..more {
            work.put(work.used + word, 0);
        }
        work.used += more;
        row.len += more;
        let head = Head::unpack(self.work.get(row.place));
        let head = Head {
            length: row.len,
            ..head
        };
        self.work.put(row.place, head.pack());
        Ok(())
    }
}

/// An entry of masks at the end of the record.
struct Row {
    /// Where its head is.
    place: usize,
    /// Its first word of the bitmap.
    first: usize,
    /// Its words; 0: there is no row to go on with.
    len: usize,
}
