// SPDX-License-Identifier: GPL-2.0

//! A medium over a frozen base: what is stored to stays above it, so a new image costs nothing.
//!
//! It counts every access. A run that makes more than its budget allows is taken for an endless loop and ends in a panic,
//! so that the same seed ends at the same place on every machine.

use ochre::engine::error::{Error, Result};
use ochre::engine::media::Media;
use ochre_sim::MemoryMedia;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const PAGE: usize = 4096;

type Page = Box<[u8; PAGE]>;

/// The content of a medium that nobody changes any more.
pub struct Frozen {
    size: u64,
    pages: HashMap<u64, Page>,
}

impl Frozen {
    /// What is on `media` now.
    pub fn of(media: &MemoryMedia) -> Arc<Self> {
        Self::copy(media)
    }

    /// As [`Self::of`], of any medium.
    pub fn copy<M: Media>(media: &M) -> Arc<Self> {
        let mut pages = HashMap::new();
        let mut page = Box::new([0; PAGE]);
        for number in 0..media.size() / PAGE as u64 {
            if media.read(number * PAGE as u64, &mut page[..]).is_ok()
                && page.iter().any(|b| *b != 0)
            {
                pages.insert(number, page.clone());
            }
        }
        Arc::new(Self {
            size: media.size(),
            pages,
        })
    }

    /// Page numbers and bytes of all pages that are not zero, in ascending order.
    pub fn pages(&self) -> Vec<(u64, &[u8; PAGE])> {
        let mut all: Vec<_> = self.pages.iter().map(|(n, page)| (*n, &**page)).collect();
        all.sort_unstable_by_key(|(n, _)| *n);
        all
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

struct Inner {
    base: Arc<Frozen>,
    above: Mutex<HashMap<u64, Page>>,
    steps: AtomicU64,
    budget: AtomicU64,
}

/// A medium over a frozen one. Clones share what was stored.
#[derive(Clone)]
pub struct CowMedia(Arc<Inner>);

impl CowMedia {
    /// Nothing is changed yet, and `budget` accesses may be made.
    pub fn new(base: &Arc<Frozen>, budget: u64) -> Self {
        Self(Arc::new(Inner {
            base: base.clone(),
            above: Mutex::default(),
            steps: AtomicU64::new(0),
            budget: AtomicU64::new(budget),
        }))
    }

    /// Accesses so far.
    pub fn steps(&self) -> u64 {
        self.0.steps.load(Ordering::Relaxed)
    }

    /// Allows `budget` more accesses from here.
    pub fn allow(&self, budget: u64) {
        self.0
            .budget
            .store(self.steps() + budget, Ordering::Relaxed);
    }

    /// A copy that shares nothing but the base.
    pub fn snapshot(&self) -> Self {
        let above = self.above().clone();
        Self(Arc::new(Inner {
            base: self.0.base.clone(),
            above: Mutex::new(above),
            steps: AtomicU64::new(0),
            budget: AtomicU64::new(u64::MAX),
        }))
    }

    /// The numbers of the pages that were stored to, in ascending order.
    pub fn changed(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.above().keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// Changes bytes of any alignment, as no engine does.
    pub fn damage(&self, address: u64, bytes: &[u8]) {
        self.put(address, bytes);
    }

    /// Bytes for a test.
    ///
    /// # Panics
    ///
    /// Outside the medium.
    pub fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.get(address, &mut bytes).expect("inside the medium");
        bytes
    }

    fn above(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Page>> {
        self.0.above.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) {
        let steps = self.0.steps.fetch_add(1, Ordering::Relaxed);
        assert!(
            steps < self.0.budget.load(Ordering::Relaxed),
            "an endless loop: {steps} accesses to the medium"
        );
    }

    fn inside(&self, address: u64, len: u64) -> bool {
        address
            .checked_add(len)
            .is_some_and(|end| end <= self.0.base.size)
    }

    fn get(&self, address: u64, buffer: &mut [u8]) -> Result {
        if !self.inside(address, buffer.len() as u64) {
            return Err(Error::Io);
        }
        let above = self.above();
        let mut done = 0;
        while done < buffer.len() {
            let at = address + done as u64;
            let (page, offset) = (at / PAGE as u64, at as usize % PAGE);
            let n = (PAGE - offset).min(buffer.len() - done);
            let part = &mut buffer[done..done + n];
            match above.get(&page).or_else(|| self.0.base.pages.get(&page)) {
                Some(bytes) => part.copy_from_slice(&bytes[offset..offset + n]),
                None => part.fill(0),
            }
            done += n;
        }
        Ok(())
    }

    fn edit(&self, address: u64, len: u64, mut change: impl FnMut(&mut [u8], usize)) {
        assert!(
            self.inside(address, len),
            "a store of {len} bytes at {address:#x}, outside the medium"
        );
        let mut above = self.above();
        let mut done = 0;
        while done < len {
            let at = address + done;
            let (page, offset) = (at / PAGE as u64, at as usize % PAGE);
            let n = ((PAGE - offset) as u64).min(len - done);
            let bytes = above.entry(page).or_insert_with(|| {
                let old = self.0.base.pages.get(&page);
                old.cloned().unwrap_or_else(|| Box::new([0; PAGE]))
            });
            change(&mut bytes[offset..offset + n as usize], done as usize);
            done += n;
        }
    }

    fn put(&self, address: u64, bytes: &[u8]) {
        self.edit(address, bytes.len() as u64, |part, from| {
            part.copy_from_slice(&bytes[from..from + part.len()]);
        });
    }
}

impl Media for CowMedia {
    ochre::stores_are_immediate!();

    fn size(&self) -> u64 {
        self.0.base.size
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        self.step();
        self.get(address, buffer)
    }

    fn read_u64(&self, address: u64) -> Result<u64> {
        let mut word = [0; 8];
        self.read(address, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    fn store(&self, address: u64, bytes: &[u8]) {
        self.step();
        assert!(
            address % 8 == 0 && bytes.len() % 8 == 0,
            "a store of part of a word at {address:#x}"
        );
        self.put(address, bytes);
    }

    fn zero(&self, address: u64, len: u64) {
        self.step();
        self.edit(address, len, |part, _| part.fill(0));
    }

    fn phase(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_stay_above_the_base() {
        let memory = MemoryMedia::new(1 << 20);
        memory.damage(4090, &[7; 20]);
        let base = Frozen::of(&memory);
        let cow = CowMedia::new(&base, 100);
        cow.store(4096, &[1; 8]);
        cow.zero(8184, 16);
        assert_eq!(
            cow.bytes(4088, 24)[..],
            [0, 0, 7, 7, 7, 7, 7, 7, 1, 1, 1, 1, 1, 1, 1, 1, 7, 7, 7, 7, 7, 7, 0, 0]
        );
        assert_eq!(cow.changed(), [1, 2]);
        assert_eq!(
            CowMedia::new(&base, 1).read_u64(4096),
            Ok(u64::from_le_bytes([7; 8]))
        );
        assert_eq!(cow.read_u64(1 << 20), Err(Error::Io));
    }

    #[test]
    #[should_panic(expected = "endless")]
    fn a_budget_ends() {
        let cow = CowMedia::new(&Frozen::of(&MemoryMedia::new(1 << 20)), 10);
        loop {
            let _ = cow.read_u64(0);
        }
    }
}
