// SPDX-License-Identifier: GPL-2.0

//! Plain memory as a medium: every store is durable at once. Sparse, so that a test can have a volume of 1 TiB.

use ochre::engine::error::{Error, Result};
use ochre::engine::media::Media;
use ochre::engine::poison::Poison;
use ochre::engine::types::{Block, Run};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

const PAGE: u64 = 4096;

#[derive(Clone, Default)]
struct Pages {
    pages: HashMap<u64, Box<[u8; PAGE as usize]>>,
    poison: Vec<(u64, u64)>,
}

impl Pages {
    /// A store over all of a poisoned range makes it readable again, as the driver of a block device does.
    fn heal(&mut self, address: u64, len: u64) {
        self.poison
            .retain(|(p, n)| *p < address || p + n > address + len);
    }
}

/// Memory that tests look at from outside: clones share it.
#[derive(Clone)]
pub struct MemoryMedia {
    size: u64,
    phase: u64,
    synchronous: bool,
    pages: Arc<Mutex<Pages>>,
    known: Arc<OnceLock<Poison>>,
}

impl MemoryMedia {
    /// `size` bytes of zeros.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            phase: 0,
            synchronous: true,
            pages: Arc::default(),
            known: Arc::default(),
        }
    }

    /// The same with another physical address.
    pub fn with_phase(mut self, phase: u64) -> Self {
        self.phase = phase;
        self
    }

    /// Behave as an asynchronous device (virtio-pmem).
    pub fn asynchronous(mut self) -> Self {
        self.synchronous = false;
        self
    }

    /// The same memory with another size, as a device that shrank or grew.
    pub fn resized(mut self, size: u64) -> Self {
        self.size = size;
        self
    }

    /// A copy that shares nothing.
    pub fn snapshot(&self) -> Self {
        let pages = self.lock().clone();
        Self {
            pages: Arc::new(Mutex::new(pages)),
            known: Arc::default(),
            ..self.clone()
        }
    }

    /// Makes reads of `len` bytes from `address` fail, without anybody knowing before.
    pub fn poison(&self, address: u64, len: u64) {
        self.lock().poison.push((address, len));
    }

    /// Whether something between these addresses is poisoned: a store over all of it cures it.
    pub fn is_poisoned(&self, address: u64, len: u64) -> bool {
        let pages = self.lock();
        pages
            .poison
            .iter()
            .any(|(p, n)| address < p + n && *p < address + len)
    }

    /// The device lists what is poisoned, as it does when a machine starts anew.
    pub fn list_poison(&self) {
        for (address, len) in self.lock().poison.iter() {
            let start = Block::of(*address);
            let len = Block::of(address + len - 1).0 - start.0 + 1;
            self.known().add(Run { start, len }).expect("room");
        }
    }

    /// Marks stand at poisoned pages, which have to be looked for.
    pub fn suspect(&self) {
        self.known().set_suspect();
    }

    /// Changes bytes behind the engine's back.
    pub fn damage(&self, address: u64, bytes: &[u8]) {
        self.put(address, bytes);
    }

    /// Reads bytes for a test; panics outside the medium.
    pub fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        let mut buffer = vec![0; len];
        self.read(address, &mut buffer).expect("inside the medium");
        buffer
    }

    /// Pages that hold something.
    pub fn resident(&self) -> usize {
        self.lock().pages.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list, which allocates: not before something is lost, since copies of a medium are made where the engine allocates
    /// nothing.
    fn known(&self) -> &Poison {
        self.known.get_or_init(|| Poison::new().expect("memory"))
    }

    fn is_lost(&self, address: u64, len: u64) -> bool {
        self.known
            .get()
            .is_some_and(|known| known.touches(address, len))
    }

    fn put(&self, address: u64, bytes: &[u8]) {
        assert!(
            address + bytes.len() as u64 <= self.size,
            "store outside the medium at {address:#x}"
        );
        assert!(
            !self.is_lost(address, bytes.len() as u64),
            "store to lost memory at {address:#x}"
        );
        let mut pages = self.lock();
        pages.heal(address, bytes.len() as u64);
        let mut done = 0;
        while done < bytes.len() {
            let at = address + done as u64;
            let offset = (at % PAGE) as usize;
            let n = (PAGE as usize - offset).min(bytes.len() - done);
            let page = pages
                .pages
                .entry(at / PAGE)
                .or_insert_with(|| Box::new([0; PAGE as usize]));
            page[offset..offset + n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
    }

    fn clear(&self, address: u64, len: u64) {
        assert!(
            address + len <= self.size,
            "store outside the medium at {address:#x}"
        );
        assert!(
            !self.is_lost(address, len),
            "store to lost memory at {address:#x}"
        );
        let mut pages = self.lock();
        pages.heal(address, len);
        let mut at = address;
        let end = address + len;
        while at < end {
            let offset = at % PAGE;
            let n = (PAGE - offset).min(end - at);
            if n == PAGE {
                pages.pages.remove(&(at / PAGE));
            } else if let Some(page) = pages.pages.get_mut(&(at / PAGE)) {
                page[offset as usize..(offset + n) as usize].fill(0);
            }
            at += n;
        }
    }
}

impl Media for MemoryMedia {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        let len = buffer.len() as u64;
        if address.checked_add(len).is_none_or(|end| end > self.size) {
            return Err(Error::Io);
        }
        let pages = self.lock();
        if pages
            .poison
            .iter()
            .any(|(p, n)| address < p + n && *p < address + len)
        {
            return Err(Error::Unreadable(address));
        }
        let mut done = 0;
        while done < buffer.len() {
            let at = address + done as u64;
            let offset = (at % PAGE) as usize;
            let n = (PAGE as usize - offset).min(buffer.len() - done);
            match pages.pages.get(&(at / PAGE)) {
                Some(page) => buffer[done..done + n].copy_from_slice(&page[offset..offset + n]),
                None => buffer[done..done + n].fill(0),
            }
            done += n;
        }
        Ok(())
    }

    fn read_u64(&self, address: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn store(&self, address: u64, bytes: &[u8]) {
        assert!(
            address % 8 == 0 && bytes.len() % 8 == 0,
            "store of part of a word"
        );
        self.put(address, bytes);
    }

    fn store_u64(&self, address: u64, value: u64) {
        self.store(address, &value.to_le_bytes());
    }

    fn store_through(&self, address: u64, bytes: &[u8]) {
        self.store(address, bytes);
    }

    fn zero(&self, address: u64, len: u64) {
        self.clear(address, len);
    }

    fn zero_through(&self, address: u64, len: u64) {
        self.clear(address, len);
    }

    fn write_back(&self, _address: u64, _len: u64) {}

    fn fence(&self) {}

    fn drain(&self) {}

    fn is_synchronous(&self) -> bool {
        self.synchronous
    }

    fn sync_device(&self) -> Result {
        Ok(())
    }

    fn phase(&self) -> u64 {
        self.phase
    }

    fn poison(&self) -> Option<&Poison> {
        self.known.get()
    }

    fn lose(&self, run: Run) -> Result<bool> {
        self.known().add(run)
    }

    fn search_poison(&self, range: Run, found: &mut dyn FnMut(Run)) {
        let (from, to) = (range.start.address(), range.end().address());
        let poison = self.lock().poison.clone();
        for (address, len) in poison {
            let (first, last) = (address.max(from), (address + len).min(to));
            if first < last {
                let start = Block::of(first);
                let len = Block::of(last - 1).0 - start.0 + 1;
                found(Run { start, len });
            }
        }
    }
}
