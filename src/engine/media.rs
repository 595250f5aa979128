// SPDX-License-Identifier: GPL-2.0

//! What the engine needs of a persistent memory.
//!
//! The engine never holds a reference into the medium: it copies. So another CPU's store through a mapping cannot change a
//! value between its check and its use, and a poisoned line is an error return, not a machine check.
//!
//! The rules of persistence are those of x86: a store may reach the medium at any time after it was issued. It must have
//! reached it when a [`Media::write_back`] of its line (or the store itself, if it is a `*_through` one) was followed by a
//! [`Media::fence`] **on the same CPU**, or by a [`Media::drain`] on any. Each aligned 8-byte word is atomic; nothing
//! larger is. On an asynchronous device all of this holds only up to the host's memory, and [`Media::sync_device`] is needed.

use super::error::Result;

pub use super::poison::Poison;
pub use super::types::{Block, Run};

/// A persistent memory of [`Self::size`] bytes.
pub trait Media: Send + Sync {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// Copies from the medium. `Unreadable` for poison, `Io` for addresses outside.
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result;

    /// Reads one little-endian word; `address` is a multiple of 8.
    fn read_u64(&self, address: u64) -> Result<u64>;

    /// Ordinary stores, word by word in ascending order. `address` and length are multiples of 8 and inside the medium.
    fn store(&self, address: u64, bytes: &[u8]);

    /// One ordinary store of a little-endian word; `address` is a multiple of 8.
    fn store_u64(&self, address: u64, value: u64);

    /// Non-temporal stores: like [`Self::store`], but a fence alone makes them durable.
    fn store_through(&self, address: u64, bytes: &[u8]);

    /// Ordinary stores of zeros; multiples of 8.
    fn zero(&self, address: u64, len: u64);

    /// Non-temporal stores of zeros; multiples of 8.
    fn zero_through(&self, address: u64, len: u64);

    /// Zeroes bytes of file data, of any alignment; durable after the next [`Self::fence`].
    ///
    /// A process may store to the bytes beside them through a mapping at the same time, so a medium that is mapped zeroes
    /// exactly these bytes. What is here rewrites the words at the edges and is for media that nobody maps.
    fn zero_data(&self, address: u64, len: u64) -> Result {
        let end = address.saturating_add(len);
        let mut at = address;
        while at < end {
            let word = at & !7;
            if at == word && end - at >= 8 {
                let whole = (end - at) & !7;
                self.zero_through(at, whole);
                at += whole;
                continue;
            }
            let stop = (word + 8).min(end);
            // The bits of the bytes `at..stop` of the word.
            let low = u64::MAX << (8 * (at - word));
            let high = u64::MAX >> (8 * (word + 8 - stop));
            self.store_u64(word, self.read_u64(word)? & !(low & high));
            self.write_back(word, 8);
            at = stop;
        }
        Ok(())
    }

    /// Starts the write-back of the cache lines that hold `len` bytes from `address`.
    fn write_back(&self, address: u64, len: u64);

    /// Waits for this CPU's write-backs and non-temporal stores.
    fn fence(&self);

    /// A [`Self::fence`] on every CPU. May sleep.
    fn drain(&self);

    /// Whether a fence makes data durable (`dax_synchronous`). Else [`Self::sync_device`] is needed.
    fn is_synchronous(&self) -> bool;

    /// Flushes an asynchronous device; nothing to do on a synchronous one. May sleep.
    fn sync_device(&self) -> Result;

    /// Whether nothing may be stored here at all (`blockdev --setro`). A volume that needs no recovery can be read.
    fn is_write_protected(&self) -> bool {
        false
    }

    /// What is known of blocks that are lost; `None`: this medium loses none. Those that were lost before are in it from the
    /// start, or [`Poison::is_suspect`] and [`Self::search_poison`] finds them. Reads of lost blocks fail, stores to them are
    /// left undone.
    fn poison(&self) -> Option<&Poison> {
        None
    }

    /// Adds lost blocks to [`Self::poison`]: see [`Poison::add`].
    fn lose(&self, run: Run) -> Result<bool> {
        self.poison().map_or(Ok(false), |poison| poison.add(run))
    }

    /// Looks through a range of a medium that is suspect, and calls `found` for what is lost there.
    fn search_poison(&self, _range: Run, _found: &mut dyn FnMut(Run)) {}

    /// The physical address of byte 0, modulo 2 MiB.
    fn phase(&self) -> u64;

    /// The device's name, for messages; empty if it has none.
    fn name(&self) -> &str {
        ""
    }
}

/// What a message begins with: the name of the medium that it is about.
pub struct About<'a, M: Media>(pub &'a M);

impl<M: Media> core::fmt::Display for About<'_, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0.name() {
            "" => Ok(()),
            name => write!(f, "{name}: "),
        }
    }
}
