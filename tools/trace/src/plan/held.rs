// SPDX-License-Identifier: GPL-2.0

//! Calls on files of which a pipe holds pages.
//!
//! A call that takes a held page away does not wait for it (`layout=defer`): the page and its blocks stay, behind the end of the
//! file. Nobody sees them there, so the model knows nothing of it; after a power cut they must be free.
//!
//! Some calls do wait, for a page that would move or of which a part would go, and so would the list for ever: they are left out
//! while such a page is held ([`Held::live`]).

use super::Maker;
use crate::call::{Call, COLLAPSE, INSERT, KEEP_SIZE, PUNCH, ZERO, ZERO_KEEP};
use crate::file::{BLOCK, HUGE};
use std::ops::Range;

/// Pages held at once. The same page can be parked in eight places.
const MOST: usize = 4;

struct Held {
    file: String,
    slot: String,
    /// Bytes that are mapped.
    mapped: u64,
    /// The file becomes no longer.
    most: u64,
    /// Bytes of a page.
    grain: u64,
    /// Keys of all pipes.
    keys: Vec<String>,
    /// Held bytes that are in the file still, or across its end.
    live: Vec<(String, Range<u64>)>,
}

/// Pages of 4 KiB.
pub(super) fn small(m: &mut Maker, top: &str, size: u64) {
    run(m, top, size, BLOCK, 32 * BLOCK);
}

/// Pages of 2 MiB.
pub(super) fn huge(m: &mut Maker, top: &str, size: u64) {
    run(m, top, size, HUGE, 2 * HUGE);
}

fn run(m: &mut Maker, top: &str, size: u64, grain: u64, mapped: u64) {
    m.call(Call::Mkdir(top.into()));
    let mut held = Held {
        file: format!("{top}/f"),
        slot: top.into(),
        mapped,
        most: 2 * mapped,
        grain,
        keys: Vec::new(),
        live: Vec::new(),
    };
    m.mapped(&held.file, &held.slot, mapped, false);
    m.call(Call::Fallocate(held.file.clone(), 0, 0, mapped));
    held.once(m);
    for _ in 0..size {
        held.step(m);
    }
    m.call(Call::Unmap(held.slot.clone()));
    m.call(Call::Unlink(held.file.clone()));
    m.call(Call::Close(held.slot.clone()));
    for key in held.keys {
        m.call(Call::LetGo(key));
    }
    m.remove_all(top);
}

impl Held {
    fn fallocate(&self, m: &mut Maker, mode: u32, at: u64, len: u64) {
        m.call(Call::Fallocate(self.file.clone(), mode, at, len));
    }

    /// What each list has, however short: a page that is parked, a truncate that is put off, growth over what it left.
    fn once(&mut self, m: &mut Maker) {
        self.hold(m, self.mapped);
        for (_, page) in std::mem::take(&mut self.live) {
            self.fallocate(m, PUNCH, page.start, page.end - page.start);
        }
        self.hold(m, self.mapped);
        let start = self.live.first().map_or(0, |(_, page)| page.start);
        self.truncate(m, start);
        self.truncate(m, self.mapped);
    }

    fn step(&mut self, m: &mut Maker) {
        let size = m.size(&self.file);
        let (at, len) = self.range(m, size);
        match m.below(18) {
            0..=2 => self.store(m, size),
            3..=5 => self.hold(m, size),
            6 => self.let_go(m),
            7 | 8 => self.truncate(m, at),
            9 => self.truncate(m, (size + len).min(self.most)),
            10 | 11 => {
                self.fallocate(m, PUNCH, at, len);
                let whole = at.next_multiple_of(BLOCK)..(at + len) / BLOCK * BLOCK;
                self.live
                    .retain(|(_, r)| r.start < whole.start || r.end > whole.end);
            }
            12 | 13 => self.collapse(m, size, at, len),
            14 => self.insert(m, size, at, len),
            15 => self.zero(m, size, at, len),
            16 => {
                let len = len.min(20_000).min(self.most - at);
                m.write(&self.file.clone(), at, len);
            }
            _ => self.other(m, size, at, len),
        }
    }

    /// A range of the file: often that of a held page, or a little more.
    fn range(&mut self, m: &mut Maker, size: u64) -> (u64, u64) {
        if let Some((_, held)) = m.pick(&self.live).filter(|_| m.below(3) != 0) {
            let more = if m.below(2) == 0 { 0 } else { self.grain };
            let at = held.start.saturating_sub(m.below(more / 2 + 1));
            return (at, held.end - at + m.below(more + 1));
        }
        let at = m.below(size.max(1));
        (at, 1 + m.below(self.mapped / 2))
    }

    /// A store through the mapping, where the file is.
    fn store(&self, m: &mut Maker, size: u64) {
        let words = size.min(self.mapped) / 8;
        if words > 0 {
            m.store(&self.slot, words * 8);
        }
    }

    fn hold(&mut self, m: &mut Maker, size: u64) {
        let inside = size.min(self.mapped) / 8 * 8;
        if inside == 0 || self.keys.len() >= MOST {
            return;
        }
        // A hole would have the page of zeros held, which is nobody's.
        let at = m.store(&self.slot, inside);
        let key = format!("k{}", m.serial());
        m.call(Call::Hold(key.clone(), self.slot.clone(), at, 8));
        let start = at / self.grain * self.grain;
        self.live.push((key.clone(), start..start + self.grain));
        self.keys.push(key);
    }

    fn let_go(&mut self, m: &mut Maker) {
        if let Some(key) = m.pick(&self.keys) {
            self.keys.retain(|k| *k != key);
            self.live.retain(|(k, _)| *k != key);
            m.call(Call::LetGo(key));
        }
    }

    fn truncate(&mut self, m: &mut Maker, size: u64) {
        m.call(Call::Truncate(self.file.clone(), size));
        self.live
            .retain(|(_, r)| r.start < size.next_multiple_of(BLOCK));
    }

    fn collapse(&mut self, m: &mut Maker, size: u64, at: u64, len: u64) {
        let at = at / BLOCK * BLOCK;
        let gap = at..at + len.next_multiple_of(BLOCK);
        let inside = |r: &Range<u64>| gap.start <= r.start && r.end <= gap.end;
        let waits = |r: &Range<u64>| r.end > gap.start && !inside(r);
        if gap.end < size && !self.live.iter().any(|(_, r)| waits(r)) {
            self.fallocate(m, COLLAPSE, at, gap.end - at);
            self.live.retain(|(_, r)| !inside(r));
        }
    }

    fn insert(&mut self, m: &mut Maker, size: u64, at: u64, len: u64) {
        let (at, len) = (at.next_multiple_of(BLOCK), len.next_multiple_of(BLOCK));
        let waits = self.live.iter().any(|(_, r)| r.end > at);
        if at < size && size + len <= self.most && !waits {
            self.fallocate(m, INSERT, at, len);
        }
    }

    fn zero(&mut self, m: &mut Maker, size: u64, at: u64, len: u64) {
        if m.below(2) == 0 {
            let len = len.min(self.most - at);
            self.fallocate(m, ZERO, at, len);
        } else {
            let len = self.promised(size, at, len);
            self.fallocate(m, ZERO_KEEP, at, len);
        }
    }

    /// Blocks behind the end are promised only where no 2 MiB page can be across it.
    fn promised(&self, size: u64, at: u64, len: u64) -> u64 {
        match self.grain == BLOCK || at >= size {
            true => len,
            false => len.min(size - at),
        }
    }

    fn other(&mut self, m: &mut Maker, size: u64, at: u64, len: u64) {
        match m.below(4) {
            0 => m.call(Call::Fsync(self.file.clone())),
            1 => m.call(Call::Msync(self.slot.clone(), 0, self.mapped)),
            2 => {
                let len = len.min(self.most - at);
                self.fallocate(m, 0, at, len);
            }
            _ => {
                let len = self.promised(size, at, len);
                self.fallocate(m, KEEP_SIZE, at, len);
            }
        }
    }
}
