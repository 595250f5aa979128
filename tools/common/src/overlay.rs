// SPDX-License-Identifier: GPL-2.0

//! A medium that may be written to while what is under it stays as it is.
//!
//! `fsck.ochre -n` must not change the image, and yet it has to see it as recovery would leave it.
//! So the journal is replayed into an [`Overlay`], which keeps the blocks that were stored to in
//! memory: as many as the journal's records touch, a few megabytes at most.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ochre::engine::error::{Error, Result};
use ochre::engine::media::Media;
use ochre::engine::types::BLOCK_SIZE;

const BLOCK: usize = BLOCK_SIZE as usize;

/// A copy-on-write view of `under`.
pub struct Overlay<M> {
    under: M,
    blocks: Mutex<HashMap<u64, Box<[u8; BLOCK]>>>,
}

impl<M: Media> Overlay<M> {
    /// A view without changes.
    pub fn new(under: M) -> Self {
        Self {
            under,
            blocks: Mutex::new(HashMap::new()),
        }
    }

    /// How many blocks were stored to.
    pub fn changed(&self) -> usize {
        self.blocks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Calls `f` for each part of a range that lies in one block: its number, the first byte in
    /// it, and the part of the range.
    fn parts(address: u64, len: usize, mut f: impl FnMut(u64, usize, std::ops::Range<usize>)) {
        let mut done = 0;
        while done < len {
            let at = address + done as u64;
            let within = (at % BLOCK_SIZE) as usize;
            let part = (BLOCK - within).min(len - done);
            f(at / BLOCK_SIZE, within, done..done + part);
            done += part;
        }
    }

    fn inside(&self, address: u64, len: usize) -> bool {
        address
            .checked_add(len as u64)
            .is_some_and(|end| end <= self.under.size())
    }
}

impl<M: Media> Media for Overlay<M> {
    ochre::stores_are_immediate!();

    fn size(&self) -> u64 {
        self.under.size()
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        if !self.inside(address, buffer.len()) {
            return Err(Error::Io);
        }
        let blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all_changed = true;
        Self::parts(address, buffer.len(), |block, _, _| {
            all_changed &= blocks.contains_key(&block)
        });
        if !all_changed {
            self.under.read(address, buffer)?;
        }
        Self::parts(address, buffer.len(), |block, within, range| {
            if let Some(changed) = blocks.get(&block) {
                let len = range.len();
                buffer[range].copy_from_slice(&changed[within..within + len]);
            }
        });
        Ok(())
    }

    fn read_u64(&self, address: u64) -> Result<u64> {
        let mut word = [0; 8];
        self.read(address, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    fn store(&self, address: u64, bytes: &[u8]) {
        if !self.inside(address, bytes.len()) {
            return;
        }
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        Self::parts(address, bytes.len(), |block, within, range| {
            let changed = blocks.entry(block).or_insert_with(|| {
                let mut copy = Box::new([0; BLOCK]);
                // A block that cannot be read is as good as empty to whoever stores to it.
                let _ = self.under.read(block * BLOCK_SIZE, &mut copy[..]);
                copy
            });
            changed[within..within + range.len()].copy_from_slice(&bytes[range]);
        });
    }

    fn zero(&self, address: u64, len: u64) {
        let zeros = [0; BLOCK];
        let mut done = 0;
        while done < len {
            let part = BLOCK_SIZE.min(len - done);
            self.store(address + done, &zeros[..part as usize]);
            done += part;
        }
    }

    fn phase(&self) -> u64 {
        self.under.phase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{open, Access};
    use crate::image::Image;

    #[test]
    fn stores_stay_above() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let image = Image::new(open(&path, Access::Write, Some(1 << 20)).unwrap(), 0);
        image.store(0, &[1; 3 * BLOCK]);
        let overlay = Overlay::new(image);
        overlay.store(4088, &[2; 16]);
        overlay.zero(9000, 2000);
        let mut bytes = vec![0; 3 * BLOCK];
        overlay.read(0, &mut bytes).unwrap();
        assert_eq!(
            (bytes[4087], bytes[4088], bytes[4103], bytes[4104]),
            (1, 2, 2, 1)
        );
        assert_eq!(
            (bytes[8999], bytes[9000], bytes[10_999], bytes[11_000]),
            (1, 0, 0, 1)
        );
        assert_eq!(overlay.changed(), 3);
        assert_eq!(overlay.read_u64(8), Ok(u64::from_le_bytes([1; 8])));
        assert_eq!(overlay.read_u64(1 << 20), Err(Error::Io));
        drop(overlay);
        assert!(std::fs::read(path).unwrap()[..3 * BLOCK]
            .iter()
            .all(|&byte| byte == 1));
    }
}
