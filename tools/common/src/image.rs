// SPDX-License-Identifier: GPL-2.0

//! The medium of the tools: an image file or a block device, read and written with system calls.
//!
//! Such a medium is *asynchronous* in the sense of [`Media`]: a store is durable when the file was
//! synced, and only then. The engine takes care of the rest, as it does for a virtio-pmem device:
//! it asks for a sync between a record and what the record describes. So a tool that is killed, or
//! whose machine stops, leaves an image that recovers.
//!
//! Stores cannot fail in the engine's eyes. An error is kept, and [`Image::finish`] returns it, as
//! does the next sync.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use ochre::engine::error::{Error, Result};
use ochre::engine::media::Media;
use ochre::engine::types::BLOCK_SIZE;
use rustix::fs::{fadvise, fallocate, Advice, FallocateFlags};

use crate::device::Device;

/// From here on zeros are punched into an image file instead of written.
const PUNCH: u64 = 64 << 10;

/// The error of a place that cannot be read or written.
const EIO: i32 = 5;

/// A [`Media`] over an open file or block device.
#[derive(Debug)]
pub struct Image {
    file: File,
    size: u64,
    phase: u64,
    is_block: bool,
    error: Mutex<Option<io::Error>>,
}

impl Image {
    /// The medium of an open device. `phase`: the physical address of its first byte modulo 2 MiB.
    pub fn new(device: Device, phase: u64) -> Self {
        let Device {
            file,
            size,
            is_block,
            ..
        } = device;
        Self {
            file,
            size,
            phase,
            is_block,
            error: Mutex::new(None),
        }
    }

    /// The same medium at another place in physical memory.
    pub fn with_phase(self, phase: u64) -> Self {
        Self { phase, ..self }
    }

    /// Makes everything durable, and drops what the page cache holds of a block device, so that
    /// neither a mount nor a later look at the device meets an older state.
    ///
    /// # Errors
    ///
    /// The first error of a store or of the sync.
    pub fn finish(self) -> io::Result<()> {
        if let Some(error) = self.take_error() {
            return Err(error);
        }
        self.file.sync_all()?;
        if self.is_block {
            fadvise(&self.file, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }

    fn take_error(&self) -> Option<io::Error> {
        self.error
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
    }

    /// Keeps the first error, with its place.
    fn note(&self, address: u64, result: io::Result<()>) {
        if let Err(error) = result {
            let error = io::Error::new(error.kind(), format!("at byte {address:#x}: {error}"));
            let mut first = self
                .error
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            first.get_or_insert(error);
        }
    }

    /// Stores whole blocks. The system reads a block before it changes a part of it, and of a bad block it cannot; one that is
    /// written as a whole is cured, if the device can do that. What else was in it is lost, and becomes zeros.
    fn replace_blocks(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let at = address + done as u64;
            let within = usize::try_from(at % BLOCK_SIZE).unwrap_or(0);
            let mut block = [0; BLOCK_SIZE as usize];
            if self
                .file
                .read_exact_at(&mut block, at - at % BLOCK_SIZE)
                .is_err()
            {
                block.fill(0);
            }
            let part = (block.len() - within).min(bytes.len() - done);
            block[within..within + part].copy_from_slice(&bytes[done..done + part]);
            self.file.write_all_at(&block, at - at % BLOCK_SIZE)?;
            done += part;
        }
        Ok(())
    }

    fn write_zeros(&self, mut address: u64, mut len: u64) -> io::Result<()> {
        if !self.is_block && len >= PUNCH {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if fallocate(&self.file, flags, address, len).is_ok() {
                return Ok(());
            }
        }
        let zeros = vec![0; usize::try_from(len.min(1 << 20)).unwrap_or(0)];
        while len != 0 {
            let part = usize::try_from(len).map_or(zeros.len(), |len| len.min(zeros.len()));
            self.file.write_all_at(&zeros[..part], address)?;
            address += part as u64;
            len -= part as u64;
        }
        Ok(())
    }
}

impl Media for Image {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        self.file
            .read_exact_at(buffer, address)
            .map_err(|_| Error::Io)
    }

    fn read_u64(&self, address: u64) -> Result<u64> {
        let mut word = [0; 8];
        self.read(address, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    fn store(&self, address: u64, bytes: &[u8]) {
        let end = address.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            self.note(address, Err(io::Error::other("a store outside the device")));
            return;
        }
        let stored = self.file.write_all_at(bytes, address);
        let stored = stored.or_else(|error| match error.raw_os_error() {
            Some(EIO) => self.replace_blocks(address, bytes),
            _ => Err(error),
        });
        self.note(address, stored);
    }

    fn store_u64(&self, address: u64, value: u64) {
        self.store(address, &value.to_le_bytes());
    }

    fn store_through(&self, address: u64, bytes: &[u8]) {
        self.store(address, bytes);
    }

    fn zero(&self, address: u64, len: u64) {
        if address.checked_add(len).is_none_or(|end| end > self.size) {
            self.note(address, Err(io::Error::other("a store outside the device")));
            return;
        }
        self.note(address, self.write_zeros(address, len));
    }

    fn zero_through(&self, address: u64, len: u64) {
        self.zero(address, len);
    }

    fn write_back(&self, _address: u64, _len: u64) {}

    fn fence(&self) {}

    fn drain(&self) {}

    fn is_synchronous(&self) -> bool {
        false
    }

    fn sync_device(&self) -> Result {
        let failed = self
            .error
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .is_some();
        if failed || self.file.sync_data().is_err() {
            return Err(Error::Io);
        }
        Ok(())
    }

    fn phase(&self) -> u64 {
        self.phase
    }
}

/// A medium that someone else owns, for the engine to mount.
pub struct Borrowed<'a, M: ?Sized>(pub &'a M);

impl<M: Media + ?Sized> Media for Borrowed<'_, M> {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        self.0.read(address, buffer)
    }
    fn read_u64(&self, address: u64) -> Result<u64> {
        self.0.read_u64(address)
    }
    fn store(&self, address: u64, bytes: &[u8]) {
        self.0.store(address, bytes);
    }
    fn store_u64(&self, address: u64, value: u64) {
        self.0.store_u64(address, value);
    }
    fn store_through(&self, address: u64, bytes: &[u8]) {
        self.0.store_through(address, bytes);
    }
    fn zero(&self, address: u64, len: u64) {
        self.0.zero(address, len);
    }
    fn zero_through(&self, address: u64, len: u64) {
        self.0.zero_through(address, len);
    }
    fn write_back(&self, address: u64, len: u64) {
        self.0.write_back(address, len);
    }
    fn fence(&self) {
        self.0.fence();
    }
    fn drain(&self) {
        self.0.drain();
    }
    fn is_synchronous(&self) -> bool {
        self.0.is_synchronous()
    }
    fn sync_device(&self) -> Result {
        self.0.sync_device()
    }
    fn is_write_protected(&self) -> bool {
        self.0.is_write_protected()
    }
    fn phase(&self) -> u64 {
        self.0.phase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{open, Access};

    #[test]
    fn stores_reach_the_file_and_errors_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let image = Image::new(open(&path, Access::Write, Some(1 << 20)).unwrap(), 4096);
        assert_eq!((image.size(), image.phase()), (1 << 20, 4096));
        image.store(0, &[7; 200_000]);
        image.zero(8192, 131_072);
        image.store_u64(16, u64::from_le_bytes(*b"OCHREFS1"));
        // As if the system could not change parts of blocks.
        image.replace_blocks(4090, &[8; 4000]).unwrap();
        let mut part = [0; 4002];
        image.read(4089, &mut part).unwrap();
        assert_eq!((part[0], part[1], part[4000], part[4001]), (7, 8, 8, 7));
        image.replace_blocks(4090, &[7; 4000]).unwrap();
        let mut bytes = vec![0; 200_000];
        image.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes[16..24], b"OCHREFS1");
        assert!(bytes[8192..8192 + 131_072].iter().all(|&byte| byte == 0));
        assert!(bytes[8192 + 131_072..].iter().all(|&byte| byte == 7));
        image.sync_device().unwrap();
        assert_eq!(image.read(1 << 20, &mut [0; 8]), Err(Error::Io));
        image.store((1 << 20) - 8, &[0; 16]);
        assert_eq!(image.sync_device(), Err(Error::Io));
        assert!(image.finish().is_err());
        assert_eq!(std::fs::metadata(path).unwrap().len(), 1 << 20);
    }
}
