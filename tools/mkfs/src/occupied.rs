// SPDX-License-Identifier: GPL-2.0

//! What is on the device already, and where its traces must be erased.

use std::io;

use ochre::engine::format::superblock::MAGIC;
use ochre_tools::device::Device;
use ochre_tools::signature::{self, ReadAt, Signature};

/// Where the superblock notes its number of blocks.
const BLOCKS_OFFSET: u64 = 96;

/// Everything recognised on the device; the first is what it holds in the first place.
pub fn find(device: &Device) -> io::Result<Vec<Signature>> {
    let mut found = Vec::new();
    for offset in own(&device.file, device.size)? {
        let what = if offset == 0 {
            "an Ochre filesystem"
        } else {
            "what is left of an Ochre filesystem (the copy of its superblock)"
        };
        found.push(Signature { what, offset });
    }
    found.extend(signature::probe(&device.file, device.size)?);
    Ok(found)
}

/// Addresses of 4 KiB blocks with signatures of others, or with an old copy of our superblock.
pub fn places(found: &[Signature], size: u64) -> Vec<u64> {
    let mut places: Vec<u64> = found
        .iter()
        .map(|signature| signature.offset & !0xfff)
        .collect();
    places.retain(|&place| place < size);
    places.sort_unstable();
    places.dedup();
    places
}

/// The superblock, the copy where it says it is, and one in the device's last block.
fn own(device: &impl ReadAt, size: u64) -> io::Result<Vec<u64>> {
    let word = |offset: u64| -> io::Result<Option<u64>> {
        if offset.checked_add(8).is_none_or(|end| end > size) {
            return Ok(None);
        }
        let mut word = [0; 8];
        device.read_exact_at(&mut word, offset)?;
        Ok(Some(u64::from_le_bytes(word)))
    };
    let mut candidates = vec![0];
    if word(0)? == Some(MAGIC) {
        let copy = word(BLOCKS_OFFSET)?.and_then(|blocks| blocks.checked_sub(1)?.checked_mul(4096));
        candidates.extend(copy);
    }
    candidates.extend((size / 4096).checked_sub(1).map(|last| last * 4096));
    candidates.dedup();
    let mut found = Vec::new();
    for candidate in candidates {
        if word(candidate)? == Some(MAGIC) && !found.contains(&candidate) {
            found.push(candidate);
        }
    }
    Ok(found)
}
