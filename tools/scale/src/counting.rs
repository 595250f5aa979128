// SPDX-License-Identifier: GPL-2.0

//! A medium that counts what is done to it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ochre::engine::error::Result;
use ochre::engine::media::Media;

/// What was done to a medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accesses {
    /// Calls that read.
    pub reads: u64,
    /// Bytes that they read.
    pub read_bytes: u64,
    /// Calls that stored.
    pub stores: u64,
    /// Bytes that they stored.
    pub store_bytes: u64,
    /// Cache lines of which the write-back was asked for.
    pub write_backs: u64,
    /// Fences and drains.
    pub fences: u64,
}

impl Accesses {
    /// Reads, stores and fences.
    pub fn total(&self) -> u64 {
        self.reads + self.stores + self.fences
    }

    /// What came after `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            read_bytes: self.read_bytes - before.read_bytes,
            stores: self.stores - before.stores,
            store_bytes: self.store_bytes - before.store_bytes,
            write_backs: self.write_backs - before.write_backs,
            fences: self.fences - before.fences,
        }
    }
}

/// Counts, and passes on to `M`.
pub struct Counting<M> {
    under: M,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    stores: AtomicU64,
    store_bytes: AtomicU64,
    write_backs: AtomicU64,
    fences: AtomicU64,
}

impl<M: Media> Counting<M> {
    /// Counts from zero.
    pub fn new(under: M) -> Self {
        Self {
            under,
            reads: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            stores: AtomicU64::new(0),
            store_bytes: AtomicU64::new(0),
            write_backs: AtomicU64::new(0),
            fences: AtomicU64::new(0),
        }
    }

    /// What was done so far.
    pub fn accesses(&self) -> Accesses {
        Accesses {
            reads: self.reads.load(Relaxed),
            read_bytes: self.read_bytes.load(Relaxed),
            stores: self.stores.load(Relaxed),
            store_bytes: self.store_bytes.load(Relaxed),
            write_backs: self.write_backs.load(Relaxed),
            fences: self.fences.load(Relaxed),
        }
    }

    fn stored(&self, len: u64) {
        self.stores.fetch_add(1, Relaxed);
        self.store_bytes.fetch_add(len, Relaxed);
    }

    fn read_some(&self, len: u64) {
        self.reads.fetch_add(1, Relaxed);
        self.read_bytes.fetch_add(len, Relaxed);
    }
}

impl<M: Media> Media for Counting<M> {
    fn size(&self) -> u64 {
        self.under.size()
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        self.read_some(buffer.len() as u64);
        self.under.read(address, buffer)
    }

    fn read_u64(&self, address: u64) -> Result<u64> {
        self.read_some(8);
        self.under.read_u64(address)
    }

    fn store(&self, address: u64, bytes: &[u8]) {
        self.stored(bytes.len() as u64);
        self.under.store(address, bytes);
    }

    fn store_u64(&self, address: u64, value: u64) {
        self.stored(8);
        self.under.store_u64(address, value);
    }

    fn store_through(&self, address: u64, bytes: &[u8]) {
        self.stored(bytes.len() as u64);
        self.under.store_through(address, bytes);
    }

    fn zero(&self, address: u64, len: u64) {
        self.stored(len);
        self.under.zero(address, len);
    }

    fn zero_through(&self, address: u64, len: u64) {
        self.stored(len);
        self.under.zero_through(address, len);
    }

    fn write_back(&self, address: u64, len: u64) {
        let lines = (address % 64 + len).div_ceil(64);
        self.write_backs.fetch_add(lines, Relaxed);
        self.under.write_back(address, len);
    }

    fn fence(&self) {
        self.fences.fetch_add(1, Relaxed);
        self.under.fence();
    }

    fn drain(&self) {
        self.fences.fetch_add(1, Relaxed);
        self.under.drain();
    }

    fn is_synchronous(&self) -> bool {
        self.under.is_synchronous()
    }

    fn sync_device(&self) -> Result {
        self.under.sync_device()
    }

    fn is_write_protected(&self) -> bool {
        self.under.is_write_protected()
    }

    fn phase(&self) -> u64 {
        self.under.phase()
    }
}
