// SPDX-License-Identifier: GPL-2.0

//! Making and opening volumes, and refusing to.

mod common;
use common::*;
use ochre::engine::error::Error;
use ochre::engine::media::Media;
use ochre::engine::mkfs::{mkfs, MIN_SIZE};
use ochre::engine::superblock;
use ochre::engine::types::*;
use ochre::engine::volume::Volume;
use ochre_sim::image::options;
use ochre_sim::MemoryMedia;

fn refuse(media: MemoryMedia) -> Error {
    match Volume::open(media, false) {
        Err(error) => error,
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn a_fresh_volume_opens_and_closes() {
    for size in [16, 17, 100, 1024, 1027, 3000] {
        let media = fresh(size * MIB);
        let v = open(media.clone());
        assert!(!v.recovered().ran, "clean after mkfs");
        assert!(v.inode_address(Ino::ROOT).is_ok());
        assert_eq!(v.inode_address(Ino(0)), Err(Error::Stale));
        assert_eq!(v.inode_address(Ino(2)), Err(Error::Stale));
        let usage = v.usage().unwrap();
        assert_eq!(usage.blocks - usage.free, 4, "the root's chunk");
        v.close().unwrap();
        check_counts(&v);
        drop(v);
        assert!(superblock::load(&media).unwrap().clean);
    }
}

#[test]
fn groups_start_on_physical_2_mib() {
    for phase in [0u64, 4096, 1 << 20, (2 << 20) - 4096] {
        let media = MemoryMedia::new(64 * MIB).with_phase(phase);
        let mut o = options(64 * MIB);
        o.phase = phase;
        let info = mkfs(&media, &o, |_, _| {}).unwrap();
        assert_eq!((info.geometry.ag_start.address() + phase) % (2 << 20), 0);
        open(media);
    }
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    let small = MemoryMedia::new(MIN_SIZE - 4096);
    assert!(matches!(
        mkfs(&small, &options(MIN_SIZE - 4096), |_, _| {}),
        Err(Error::TooSmall { .. })
    ));
    assert!(matches!(
        mkfs(&small, &options(MIN_SIZE), |_, _| {}),
        Err(Error::DeviceTooSmall { .. })
    ));
    let mut o = options(MIN_SIZE);
    o.lanes = Some(5);
    assert_eq!(
        mkfs(&MemoryMedia::new(MIN_SIZE), &o, |_, _| {}).err(),
        Some(Error::Invalid)
    );
    assert!(matches!(
        mkfs(&MemoryMedia::new(1 << 50), &options(1 << 50), |_, _| {}),
        Err(Error::TooBig { .. })
    ));
}

#[test]
fn each_wrong_superblock_has_its_error() {
    assert_eq!(refuse(MemoryMedia::new(MIN_SIZE)), Error::WrongType);
    let media = fresh(MIN_SIZE);
    assert!(matches!(
        refuse(media.clone().resized(MIN_SIZE - MIB)),
        Error::DeviceTooSmall { .. }
    ));

    let rewrite = |f: &dyn Fn(&mut superblock::SuperInfo)| {
        let media = fresh(MIN_SIZE);
        let mut info = superblock::load(&media).unwrap();
        f(&mut info);
        let sb = info.to_disk();
        media.damage(0, zerocopy_bytes(&sb));
        media
    };
    assert_eq!(
        refuse(rewrite(&|i| i.features[2] = 8)),
        Error::UnknownFeatures(8)
    );
    assert_eq!(
        refuse(rewrite(&|i| i.features[1] = 4)),
        Error::UnknownReadOnlyFeatures(4)
    );
    assert!(Volume::open(rewrite(&|i| i.features[1] = 4), true).is_ok());
    assert!(Volume::open(rewrite(&|i| i.features[0] = 4), false).is_ok());
}

fn zerocopy_bytes(sb: &ochre::engine::format::superblock::Superblock) -> &[u8] {
    // The structure is plain bytes; its length is asserted where it is defined.
    use ochre_bytes::IntoBytes;
    sb.as_bytes()
}
use zerocopy as ochre_bytes;

#[test]
fn a_damaged_primary_is_replaced_by_its_copy() {
    for (address, bytes) in [
        (0u64, &b"garbage!"[..]),
        (100, &b"x"[..]),
        (8, &[1, 2, 3, 4][..]),
    ] {
        let media = fresh(MIN_SIZE);
        media.damage(address, bytes);
        let v = open(media.clone());
        assert!(v.info().from_backup);
        assert!(
            v.recovered().ran,
            "the copy does not know whether the volume is clean"
        );
        v.close().unwrap();
        assert!(
            !superblock::load(&media).unwrap().from_backup,
            "the primary was restored"
        );
    }
    let media = fresh(MIN_SIZE);
    media.poison(0, 64);
    assert!(superblock::load(&media).unwrap().from_backup);
    let media = fresh(MIN_SIZE);
    media.damage(100, b"x");
    media.damage(MIN_SIZE - 4096 + 100, b"x");
    assert!(matches!(refuse(media), Error::Corrupt(_)));
}

#[test]
fn read_only_writes_nothing() {
    let media = fresh(MIN_SIZE);
    let before = media.bytes(0, MIN_SIZE as usize);
    let v = Volume::open(media.clone(), true).unwrap();
    assert_eq!(
        v.begin(ochre::engine::alloc::policy::Purpose::Data).err(),
        Some(Error::ReadOnly)
    );
    v.close().unwrap();
    drop(v);
    assert!(media.bytes(0, MIN_SIZE as usize) == before);
}

#[test]
fn opening_costs_the_same_for_any_size() {
    let pages = |size: u64| {
        let media = fresh(size);
        let v = open(media.clone());
        v.close().unwrap();
        media.read_u64(0).unwrap()
    };
    // Group headers are read at first use, so a volume of 1 TiB opens without reading 1024 of them.
    assert_eq!(pages(1 << 30), pages(64 << 30));
}
