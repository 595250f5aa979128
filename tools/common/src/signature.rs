// SPDX-License-Identifier: GPL-2.0

//! Does a device hold something already? A small table of magic numbers.
//!
//! `mkfs.ochre` asks before it writes. The table covers what a Linux machine is likely to have:
//! filesystems, swap, volume managers, encryption, partition tables, and the info blocks with
//! which libnvdimm itself marks a namespace.

use std::io;

/// Reads `buf.len()` bytes at `offset`; the tests pass a slice, the tools a file.
pub trait ReadAt {
    /// Fills `buf` from `offset`, or fails.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for std::fs::File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buf, offset)
    }
}

/// Something recognised on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What it is, as a person would call it.
    pub what: &'static str,
    /// Where its magic number stands.
    pub offset: u64,
}

/// A magic number that stands at one of a few fixed offsets.
struct Magic {
    what: &'static str,
    offsets: &'static [u64],
    bytes: &'static [u8],
}

const fn magic(what: &'static str, offsets: &'static [u64], bytes: &'static [u8]) -> Magic {
    Magic {
        what,
        offsets,
        bytes,
    }
}

/// The fixed ones. Offsets count from the start of the device.
const MAGICS: &[Magic] = &[
    magic("an ext2, ext3 or ext4 filesystem", &[0x438], &[0x53, 0xef]),
    magic("an XFS filesystem", &[0], b"XFSB"),
    magic("a Btrfs filesystem", &[0x1_0040], b"_BHRfS_M"),
    magic(
        "a swap area",
        &[0xff6, 0x1ff6, 0x3ff6, 0xfff6],
        b"SWAPSPACE2",
    ),
    magic(
        "a swap area",
        &[0xff6, 0x1ff6, 0x3ff6, 0xfff6],
        b"SWAP-SPACE",
    ),
    magic("a FAT filesystem", &[0x36], b"FAT12   "),
    magic("a FAT filesystem", &[0x36], b"FAT16   "),
    magic("a FAT filesystem", &[0x52], b"FAT32   "),
    magic("an exFAT filesystem", &[3], b"EXFAT   "),
    magic("an NTFS filesystem", &[3], b"NTFS    "),
    magic(
        "an F2FS filesystem",
        &[0x400, 0x1400],
        &[0x10, 0x20, 0xf5, 0xf2],
    ),
    magic("an EROFS filesystem", &[0x400], &[0xe2, 0xe1, 0xf5, 0xe0]),
    magic("a SquashFS filesystem", &[0], b"hsqs"),
    magic("an ISO 9660 filesystem", &[0x8001], b"CD001"),
    magic("a UDF filesystem", &[0x8001, 0x8801, 0x9001], b"BEA01"),
    magic("a JFS filesystem", &[0x8000], b"JFS1"),
    magic("a ReiserFS filesystem", &[0x1_0034], b"ReIsEr"),
    magic("a GFS2 filesystem", &[0x1_0000], &[0x01, 0x16, 0x19, 0x70]),
    magic(
        "an OCFS2 filesystem",
        &[0x400, 0x800, 0x1000, 0x2000],
        b"OCFSV2",
    ),
    magic("a NILFS2 filesystem", &[0x406], &[0x34, 0x34]),
    magic(
        "a bcachefs filesystem or a bcache device",
        &[0x1018],
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba,
            0x6d, 0x81,
        ],
    ),
    magic(
        "a bcachefs filesystem or a bcache device",
        &[0x1018],
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d,
            0xf7, 0xef,
        ],
    ),
    magic(
        "an LVM physical volume",
        &[0, 0x200, 0x400, 0x600],
        b"LABELONE",
    ),
    magic("a LUKS encrypted volume", &[0, 0x4000], b"LUKS\xba\xbe"),
    magic(
        "a member of an md RAID",
        &[0, 0x1000],
        &[0xfc, 0x4e, 0x2b, 0xa9],
    ),
    magic("a GPT partition table", &[0x200, 0x1000], b"EFI PART"),
    magic(
        "a libnvdimm sector-mode (BTT) info block",
        &[0x1000],
        b"BTT_ARENA_INFO\0\0",
    ),
    magic(
        "a libnvdimm fsdax info block",
        &[0x1000],
        b"NVDIMM_PFN_INFO\0",
    ),
    magic(
        "a libnvdimm devdax info block",
        &[0x1000],
        b"NVDIMM_DAX_INFO\0",
    ),
];

/// Every signature found on a device of `size` bytes, in the order of their offsets.
///
/// # Errors
///
/// What reading the device returned.
pub fn probe(device: &impl ReadAt, size: u64) -> io::Result<Vec<Signature>> {
    let mut found = Vec::new();
    for magic in MAGICS {
        for &offset in magic.offsets {
            if holds(device, size, offset, magic.bytes)? {
                found.push(Signature {
                    what: magic.what,
                    offset,
                });
            }
        }
    }
    probe_end(device, size, &mut found)?;
    probe_zfs(device, size, &mut found)?;
    if found.is_empty() {
        probe_mbr(device, size, &mut found)?;
    }
    found.sort_by_key(|signature| signature.offset);
    Ok(found)
}

fn holds(device: &impl ReadAt, size: u64, offset: u64, bytes: &[u8]) -> io::Result<bool> {
    if offset
        .checked_add(bytes.len() as u64)
        .is_none_or(|end| end > size)
    {
        return Ok(false);
    }
    let mut buf = [0u8; 16];
    let buf = &mut buf[..bytes.len()];
    device.read_exact_at(buf, offset)?;
    Ok(buf == bytes)
}

/// Signatures that are placed from the end: md's older superblocks, the second GPT.
fn probe_end(device: &impl ReadAt, size: u64, found: &mut Vec<Signature>) -> io::Result<()> {
    const MD: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];
    let candidates = [
        // Version 0.90: the last whole 64 KiB but one. Version 1.0: 8 KiB before the end, on 4 KiB.
        (
            (size & !0xffff).checked_sub(0x1_0000),
            MD,
            "a member of an md RAID",
        ),
        (
            size.checked_sub(0x2000).map(|at| at & !0xfff),
            MD,
            "a member of an md RAID",
        ),
        (
            size.checked_sub(0x200),
            b"EFI PART".as_slice(),
            "a GPT partition table (second copy)",
        ),
        (
            size.checked_sub(0x1000),
            b"EFI PART".as_slice(),
            "a GPT partition table (second copy)",
        ),
    ];
    for (offset, bytes, what) in candidates {
        let Some(offset) = offset else { continue };
        if holds(device, size, offset, bytes)? && !found.iter().any(|known| known.offset == offset)
        {
            found.push(Signature { what, offset });
        }
    }
    Ok(())
}

/// ZFS writes a ring of uberblocks into four labels, two at each end of the device.
fn probe_zfs(device: &impl ReadAt, size: u64, found: &mut Vec<Signature>) -> io::Result<()> {
    const LABEL: u64 = 256 << 10;
    const RING: u64 = 128 << 10;
    let end = size & !(LABEL - 1);
    let labels = [
        Some(0),
        Some(LABEL),
        end.checked_sub(2 * LABEL),
        end.checked_sub(LABEL),
    ];
    let mut ring = vec![0u8; RING as usize];
    for label in labels.into_iter().flatten() {
        let start = label + RING;
        if start + RING > size {
            continue;
        }
        device.read_exact_at(&mut ring, start)?;
        let hit = ring.chunks_exact(1024).position(|block| {
            let word: [u8; 8] = block[..8].try_into().unwrap_or_default();
            u64::from_le_bytes(word) == 0x00ba_b10c || u64::from_be_bytes(word) == 0x00ba_b10c
        });
        if let Some(index) = hit {
            let offset = start + 1024 * index as u64;
            if !found.iter().any(|known| known.offset == offset) {
                found.push(Signature {
                    what: "a member of a ZFS pool",
                    offset,
                });
            }
        }
    }
    Ok(())
}

/// An MBR has the same last two bytes as any boot sector; only a sane partition entry makes it one.
fn probe_mbr(device: &impl ReadAt, size: u64, found: &mut Vec<Signature>) -> io::Result<()> {
    let mut sector = [0u8; 512];
    if size < 512 {
        return Ok(());
    }
    device.read_exact_at(&mut sector, 0)?;
    if sector[510..] != [0x55, 0xaa] {
        return Ok(());
    }
    let entries = sector[446..510].chunks_exact(16);
    let sane = entries.clone().all(|entry| entry[0] & 0x7f == 0);
    let used = entries
        .clone()
        .any(|entry| entry[4] != 0 && entry[12..16] != [0; 4]);
    if sane && used {
        found.push(Signature {
            what: "a DOS (MBR) partition table",
            offset: 510,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(Vec<u8>);

    impl ReadAt for Bytes {
        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            let start = usize::try_from(offset).unwrap();
            buf.copy_from_slice(&self.0[start..start + buf.len()]);
            Ok(())
        }
    }

    const SIZE: usize = 2 << 20;

    fn probe_with(offset: usize, bytes: &[u8]) -> Vec<Signature> {
        let mut device = Bytes(vec![0; SIZE]);
        device.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        probe(&device, SIZE as u64).unwrap()
    }

    #[test]
    fn an_empty_device_holds_nothing() {
        assert_eq!(probe_with(0, &[]), []);
        assert_eq!(probe(&Bytes(vec![0; 100]), 100).unwrap(), []);
    }

    #[test]
    fn every_magic_is_found_at_each_of_its_places() {
        for magic in MAGICS {
            for &offset in magic.offsets {
                let found = probe_with(usize::try_from(offset).unwrap(), magic.bytes);
                assert!(
                    found.contains(&Signature {
                        what: magic.what,
                        offset
                    }),
                    "{} at {offset:#x}",
                    magic.what
                );
            }
        }
    }

    #[test]
    fn what_stands_at_the_end_is_found() {
        let md = [0xfc, 0x4e, 0x2b, 0xa9];
        for (offset, bytes, word) in [
            (SIZE - 0x1_0000, md.as_slice(), "md RAID"),
            (SIZE - 0x2000, md.as_slice(), "md RAID"),
            (SIZE - 0x200, b"EFI PART".as_slice(), "GPT"),
            (
                SIZE - (128 << 10) + 5 * 1024,
                &0x00ba_b10c_u64.to_le_bytes(),
                "ZFS",
            ),
        ] {
            let found = probe_with(offset, bytes);
            assert_eq!(found.len(), 1, "{word}: {found:?}");
            assert!(found[0].what.contains(word), "{word}: {found:?}");
        }
    }

    #[test]
    fn a_boot_sector_without_partitions_is_no_partition_table() {
        assert_eq!(probe_with(510, &[0x55, 0xaa]), []);
        let mut sector = [0u8; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector[446 + 4] = 0x83;
        sector[446 + 12] = 8;
        assert_eq!(
            probe_with(0, &sector)[0].what,
            "a DOS (MBR) partition table"
        );
    }
}
