// SPDX-License-Identifier: GPL-2.0

//! A medium that remembers which of its blocks were read.

use std::sync::{Mutex, PoisonError};

use ochre::engine::error::{Error, Result};
use ochre::engine::media::Media;
use ochre::engine::types::BLOCK_SIZE;

/// `under`, read-only, with a bit for each block.
pub struct Recording<M> {
    under: M,
    read: Mutex<Vec<u64>>,
}

impl<M: Media> Recording<M> {
    /// Nothing was read yet.
    pub fn new(under: M) -> Self {
        let words = under.size().div_ceil(BLOCK_SIZE * 64);
        Self {
            read: Mutex::new(vec![0; usize::try_from(words).unwrap_or(0)]),
            under,
        }
    }

    /// The blocks that were read, in order.
    pub fn blocks(&self) -> Vec<u64> {
        let words = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut blocks = Vec::new();
        for (index, &word) in words.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                blocks.push(index as u64 * 64 + u64::from(rest.trailing_zeros()));
                rest &= rest - 1;
            }
        }
        blocks
    }

    fn note(&self, address: u64, len: usize) {
        let mut words = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let last = address.saturating_add(len.max(1) as u64 - 1) / BLOCK_SIZE;
        for block in address / BLOCK_SIZE..=last {
            let index = usize::try_from(block / 64).unwrap_or(usize::MAX);
            if let Some(word) = words.get_mut(index) {
                *word |= 1 << (block % 64);
            }
        }
    }
}

impl<M: Media> Media for Recording<M> {
    ochre::stores_are_immediate!();

    fn size(&self) -> u64 {
        self.under.size()
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        if address
            .checked_add(buffer.len() as u64)
            .is_none_or(|end| end > self.size())
        {
            return Err(Error::Io);
        }
        self.note(address, buffer.len());
        self.under.read(address, buffer)
    }

    fn read_u64(&self, address: u64) -> Result<u64> {
        self.note(address, 8);
        self.under.read_u64(address)
    }

    // Nothing is stored here: what replays a journal stores into an overlay above.
    fn store(&self, _address: u64, _bytes: &[u8]) {}
    fn zero(&self, _address: u64, _len: u64) {}

    fn is_write_protected(&self) -> bool {
        true
    }

    fn phase(&self) -> u64 {
        self.under.phase()
    }
}
