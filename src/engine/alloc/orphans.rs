// SPDX-License-Identifier: GPL-2.0

//! Which slots of the orphan table are free, and which were in use when the volume was opened.
//!
//! The table itself is the truth. It is read in pieces of 64 slots, each when it is first wanted, so that a mount reads none of
//! it, however many orphans a crash left. A slot that a transaction cleared is free here only after that transaction was
//! applied: the next user's store comes after.
//!
//! # Hazard
//!
//! What stood in the table at the open waits to be finished; what entered it since belongs to somebody who has the file open.
//! If the two were mixed up, a file in use would be finished under its user. So a piece is read before its first slot is
//! handed out, what it holds then is noted as *left*, and giving a slot back takes the note away.

use super::super::error::{Error, Result};
use super::super::media::Media;
use super::super::superblock::Geometry;
use super::super::types::*;
use crate::platform::{lock_class, SpinLock, Vec};

/// An inode that stood in the table at the open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its slot.
    slot: u32,
    /// Its number.
    pub ino: Ino,
}

impl Orphan {
    /// Which slot it stood in.
    pub fn slot(&self) -> u32 {
        self.slot
    }
}

/// Sixty-four slots.
#[derive(Clone, Copy, Default)]
struct Piece {
    /// Slots in use.
    taken: u64,
    /// Of these, slots that were in use at the open and have not been asked for yet.
    left: u64,
    /// The other fields say what the table said.
    read: bool,
}

impl Piece {
    /// Reads the piece if that was not done; a table's rest of less than 64 slots has no others to hand out.
    fn load<M: Media>(&mut self, media: &M, g: &Geometry, index: usize) -> Result {
        if self.read {
            return Ok(());
        }
        let first = u32_of(u64_of(index) * 64);
        let mut entries = [0u8; 512];
        media.read(g.orphan_slot(first), &mut entries)?;
        for (bit, entry) in entries.chunks_exact(8).enumerate() {
            if u64::from(first) + u64_of(bit) >= u64::from(g.orphan_slots) {
                self.taken |= 1 << bit;
            } else if entry.iter().any(|b| *b != 0) {
                self.taken |= 1 << bit;
                self.left |= 1 << bit;
            }
        }
        self.read = true;
        Ok(())
    }
}

struct State {
    pieces: Vec<Piece>,
    /// Where a free slot is looked for first.
    hint: usize,
    /// Pieces before this one have nothing left.
    next: usize,
}

/// The slots.
pub struct OrphanSlots(SpinLock<State>);

impl OrphanSlots {
    /// Nothing is read yet.
    pub fn new(g: &Geometry) -> Result<Self> {
        let mut pieces = Vec::new();
        pieces.resize(
            usize_of(u64::from(g.orphan_slots).div_ceil(64)),
            Piece::default(),
        )?;
        let state = State {
            pieces,
            hint: 0,
            next: 0,
        };
        Ok(Self(SpinLock::new(state, lock_class!("ochre_orphans"))?))
    }

    /// Takes a free slot.
    pub fn take<M: Media>(&self, media: &M, g: &Geometry) -> Result<u32> {
        let mut s = self.0.lock();
        let n = s.pieces.len();
        for step in 0..n {
            let i = (s.hint + step) % n;
            let Some(piece) = s.pieces.get_mut(i) else {
                continue;
            };
            piece.load(media, g, i)?;
            if piece.taken != u64::MAX {
                let bit = piece.taken.trailing_ones();
                piece.taken |= 1 << bit;
                s.hint = i;
                return Ok(u32_of(u64_of(i)) * 64 + bit);
            }
        }
        Err(Error::NoSpace)
    }

    /// Reads the piece of a slot that is about to become free. Later would be too late: between the store that empties the slot
    /// and [`Self::give`] somebody else could read it there, take it, and then be robbed of it.
    pub fn know<M: Media>(&self, media: &M, g: &Geometry, slot: u32) -> Result {
        let i = usize_of(u64::from(slot) / 64);
        match self.0.lock().pieces.get_mut(i) {
            Some(piece) => piece.load(media, g, i),
            None => Err(Error::Invalid),
        }
    }

    /// Makes a slot free.
    pub fn give(&self, slot: u32) {
        let mut s = self.0.lock();
        let i = usize_of(u64::from(slot) / 64);
        if let Some(piece) = s.pieces.get_mut(i).filter(|piece| piece.read) {
            let bit = 1 << (slot % 64);
            piece.taken &= !bit;
            piece.left &= !bit;
            s.hint = i;
        }
    }

    /// The next slot that was in use at the open and was neither given back nor taken since. A piece that cannot be read is an
    /// error once, and passed over by the next call.
    pub fn next_left<M: Media>(&self, media: &M, g: &Geometry) -> Result<Option<Orphan>> {
        loop {
            // One piece at a time under the lock, for there may be a thousand.
            let mut s = self.0.lock();
            let i = s.next;
            let Some(piece) = s.pieces.get_mut(i) else {
                return Ok(None);
            };
            let loaded = piece.load(media, g, i);
            if loaded.is_err() || piece.left == 0 {
                s.next = i + 1;
                loaded?;
                continue;
            }
            let bit = piece.left.trailing_zeros();
            let slot = u32_of(u64_of(i)) * 64 + bit;
            // Under the lock still: a moment later the slot may be another's.
            match media.read_u64(g.orphan_slot(slot)).map(Ino) {
                Ok(ino) if ino != Ino::NONE => return Ok(Some(Orphan { slot, ino })),
                other => {
                    piece.left &= !(1 << bit);
                    other?;
                }
            }
        }
    }

    /// Puts the note back: whoever took it could not finish the orphan.
    pub fn leave(&self, slot: u32) {
        let mut s = self.0.lock();
        let i = usize_of(u64::from(slot) / 64);
        let bit = 1u64 << (slot % 64);
        if let Some(piece) = s.pieces.get_mut(i).filter(|p| p.taken & bit != 0) {
            piece.left |= bit;
            s.next = s.next.min(i);
        }
    }

    /// Takes away the note that the slot was in use at the open; false: it was given back since.
    pub fn take_left(&self, slot: u32) -> bool {
        let mut s = self.0.lock();
        let bit = 1u64 << (slot % 64);
        match s.pieces.get_mut(usize_of(u64::from(slot) / 64)) {
            Some(piece) if piece.left & bit != 0 => {
                piece.left &= !bit;
                true
            }
            _ => false,
        }
    }
}
