// SPDX-License-Identifier: GPL-2.0

//! Memory that goes back to an earlier state cheaply, and that remembers what was done to it.
//!
//! An explorer tries hundreds of thousands of images that differ from each other in a few words. Copying 16 MiB for each would
//! be all it does. So there is one flat memory with *levels*: [`Arena::push`] opens one, and the first store to a page after
//! it keeps the page's content; [`Arena::pop`] puts back what was kept. A crash image is a level with some words, its recovery
//! and the check run in it, and then it is gone.
//!
//! With [`Arena::record`] every store, write-back and fence goes into a [`Trace`] as well, with the CPU that issued it.

use crate::trace::{Event, Trace};
use ochre::engine::error::{Error, Result};
use ochre::engine::media::Media;
use ochre::platform::current_cpu;
use ochre_sim::persistency::Word;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const PAGE: usize = 4096;
/// Accesses to one image after which its recovery counts as endless.
const ENDLESS: u64 = 20_000_000;

struct Saved {
    page: usize,
    owner: u8,
    content: Box<[u8; PAGE]>,
}

/// Called before and after each fence, with the number of such moments since [`Arena::interrupt`].
pub type Interrupt = Box<dyn FnMut(u64) + Send>;

#[derive(Default)]
struct Inner {
    bytes: Vec<u8>,
    /// Level in which each page was last kept, or that it was written in.
    owner: Vec<u8>,
    saved: Vec<Saved>,
    /// Where each level's pages begin in `saved`.
    levels: Vec<usize>,
    pool: Vec<Box<[u8; PAGE]>>,
    trace: Option<Trace>,
    accesses: u64,
    /// Changes with every word stored, and comes back when it does: names the content.
    hash: u64,
    hashes: Vec<u64>,
    interrupt: Option<Interrupt>,
    moments: u64,
}

/// The memory. Clones share it.
#[derive(Clone)]
pub struct Arena {
    size: u64,
    synchronous: bool,
    inner: Arc<Mutex<Inner>>,
}

/// A number for a word at a place; 0 for a word of zeros.
fn name(address: u64, value: u64) -> u64 {
    if value == 0 {
        return 0;
    }
    let mut x = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ value.rotate_left(17);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ (x >> 29) ^ value).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 32)
}

impl Inner {
    /// Keeps what the pages of a range hold, once a level.
    fn keep(&mut self, address: u64, len: usize) {
        let level = self.levels.len() as u8;
        if level == 0 || len == 0 {
            return;
        }
        let first = address as usize / PAGE;
        let last = (address as usize + len - 1) / PAGE;
        for page in first..=last {
            if self.owner[page] == level {
                continue;
            }
            let mut content = self.pool.pop().unwrap_or_else(|| Box::new([0; PAGE]));
            content.copy_from_slice(&self.bytes[page * PAGE..(page + 1) * PAGE]);
            self.saved.push(Saved {
                page,
                owner: self.owner[page],
                content,
            });
            self.owner[page] = level;
        }
    }

    fn word(&self, address: u64) -> u64 {
        let at = address as usize;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_le_bytes(bytes)
    }

    /// Stores one word, with its share in the hash.
    fn put(&mut self, address: u64, value: u64) {
        let old = self.word(address);
        if old == value {
            return;
        }
        self.keep(address, 8);
        self.hash ^= name(address, old) ^ name(address, value);
        self.bytes[address as usize..address as usize + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn access(&mut self) {
        self.accesses += 1;
        assert!(
            self.accesses < ENDLESS,
            "{ENDLESS} accesses to one image: an endless loop"
        );
    }
}

impl Arena {
    /// `size` bytes of zeros.
    pub fn new(size: u64, synchronous: bool) -> Self {
        let inner = Inner {
            bytes: vec![0; size as usize],
            owner: vec![0; size as usize / PAGE],
            ..Inner::default()
        };
        Self {
            size,
            synchronous,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Opens a level.
    pub fn push(&self) {
        let mut s = self.lock();
        let (at, hash) = (s.saved.len(), s.hash);
        s.levels.push(at);
        s.hashes.push(hash);
        s.accesses = 0;
    }

    /// Closes the last level: everything is as it was when it was opened.
    pub fn pop(&self) {
        let mut s = self.lock();
        let Some(from) = s.levels.pop() else { return };
        s.hash = s.hashes.pop().unwrap_or_default();
        while s.saved.len() > from {
            let Some(kept) = s.saved.pop() else { break };
            let at = kept.page * PAGE;
            s.bytes[at..at + PAGE].copy_from_slice(&kept.content[..]);
            s.owner[kept.page] = kept.owner;
            s.pool.push(kept.content);
        }
    }

    /// How many levels are open.
    pub fn depth(&self) -> usize {
        self.lock().levels.len()
    }

    /// Closes levels until `depth` are open.
    pub fn unwind(&self, depth: usize) {
        while self.depth() > depth {
            self.pop();
        }
    }

    /// Puts words onto the memory. Not recorded.
    pub fn put(&self, words: &[Word]) {
        let mut s = self.lock();
        for w in words {
            let old = if w.mask == u64::MAX {
                0
            } else {
                s.word(w.address)
            };
            s.put(w.address, w.over(old));
        }
    }

    /// Names the content, as far as [`Self::put`] made it: equal words give equal numbers.
    pub fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// The number that [`Self::hash`] would give after [`Self::put`] of the words.
    pub fn hash_with(&self, words: &[Word]) -> u64 {
        self.push();
        self.put(words);
        let hash = self.hash();
        self.pop();
        hash
    }

    /// Records from now on what is done to the memory.
    pub fn record(&self) {
        self.lock().trace = Some(Trace::default());
    }

    /// What was recorded; recording ends.
    pub fn recorded(&self) -> Trace {
        self.lock().trace.take().unwrap_or_default()
    }

    /// Puts a mark into the record.
    pub fn mark(&self, event: Event) {
        if let Some(trace) = &mut self.lock().trace {
            trace.events.push(event);
        }
    }

    /// Calls `interrupt` before and after each fence, outside of any lock of the arena.
    pub fn interrupt(&self, interrupt: Option<Interrupt>) {
        let mut s = self.lock();
        s.interrupt = interrupt;
        s.moments = 0;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issue(&self, address: u64, bytes: &[u8], through: bool) {
        assert!(
            address % 8 == 0 && bytes.len() % 8 == 0,
            "store of a part of a word at {address:#x}"
        );
        let mut s = self.lock();
        let end = address as usize + bytes.len();
        assert!(end <= s.bytes.len(), "store outside at {address:#x}");
        s.access();
        s.keep(address, bytes.len());
        s.bytes[address as usize..end].copy_from_slice(bytes);
        if let Some(trace) = &mut s.trace {
            trace.store(current_cpu(), address, bytes, through);
        }
    }

    fn fill(&self, address: u64, len: u64, through: bool) {
        let mut s = self.lock();
        let end = (address + len) as usize;
        assert!(end <= s.bytes.len(), "store outside at {address:#x}");
        s.access();
        s.keep(address, len as usize);
        s.bytes[address as usize..end].fill(0);
        if let Some(trace) = &mut s.trace {
            trace.zeros(current_cpu(), address, len as usize, through);
        }
    }

    fn event(&self, event: Event) {
        self.moment();
        self.mark(event);
        self.moment();
    }

    fn moment(&self) {
        let hook = {
            let mut s = self.lock();
            s.moments += 1;
            s.interrupt.take().map(|hook| (hook, s.moments - 1))
        };
        if let Some((mut hook, number)) = hook {
            hook(number);
            self.lock().interrupt.get_or_insert(hook);
        }
    }
}

impl Media for Arena {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        let mut s = self.lock();
        s.access();
        let end = address.checked_add(buffer.len() as u64);
        let range = match end {
            Some(end) if end <= self.size => address as usize..end as usize,
            _ => return Err(Error::Io),
        };
        buffer.copy_from_slice(&s.bytes[range]);
        Ok(())
    }

    fn read_u64(&self, address: u64) -> Result<u64> {
        let mut s = self.lock();
        s.access();
        if address.checked_add(8).is_none_or(|end| end > self.size) {
            return Err(Error::Io);
        }
        Ok(s.word(address))
    }

    fn store(&self, address: u64, bytes: &[u8]) {
        self.issue(address, bytes, false);
    }

    fn store_u64(&self, address: u64, value: u64) {
        self.issue(address, &value.to_le_bytes(), false);
    }

    fn store_through(&self, address: u64, bytes: &[u8]) {
        self.issue(address, bytes, true);
    }

    fn zero(&self, address: u64, len: u64) {
        self.fill(address, len, false);
    }

    fn zero_through(&self, address: u64, len: u64) {
        self.fill(address, len, true);
    }

    fn write_back(&self, address: u64, len: u64) {
        let cpu = current_cpu();
        self.mark(Event::WriteBack { cpu, address, len });
    }

    fn fence(&self) {
        self.event(Event::Fence { cpu: current_cpu() });
    }

    fn drain(&self) {
        self.event(Event::Drain);
    }

    fn is_synchronous(&self) -> bool {
        self.synchronous
    }

    fn sync_device(&self) -> Result {
        if !self.synchronous {
            self.event(Event::Flush);
        }
        Ok(())
    }

    fn phase(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_come_back() {
        let arena = Arena::new(64 << 10, true);
        arena.put(&[Word::whole(8, 1)]);
        let hash = arena.hash();
        arena.push();
        arena.put(&[Word::whole(8, 2), Word::whole(4096, 3)]);
        arena.push();
        arena.store_u64(4096, 4);
        arena.zero(8, 8);
        arena.pop();
        assert_eq!(arena.read_u64(8), Ok(2));
        assert_eq!(arena.read_u64(4096), Ok(3));
        arena.pop();
        assert_eq!(arena.read_u64(8), Ok(1));
        assert_eq!(arena.read_u64(4096), Ok(0));
        assert_eq!(arena.hash(), hash);
        let words = [Word::whole(8, 2), Word::whole(16, 0)];
        let expected = arena.hash_with(&words);
        assert_eq!(arena.hash(), hash);
        arena.put(&words);
        assert_eq!(arena.hash(), expected);
        assert_ne!(expected, hash);
        arena.put(&[Word::whole(8, 1)]);
        assert_eq!(arena.hash(), hash);
    }
}
