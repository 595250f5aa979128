// SPDX-License-Identifier: GPL-2.0

//! A storm of writes and faults into every second block of preallocated space, on a full filesystem: each splits an extent,
//! and all of them must find their place.

use crate::scene::{new, Fs, NONE};
use crate::sound::assert_sound;
use crate::space::Taken;
use ochre::engine::error::Error;
use ochre::engine::filesystem::{Inode, MappingState, MountOptions, PublishArgs, WriteKind};
use ochre::engine::media::Media;
use ochre::engine::types::{FileBlock, FileKind, BLOCK_SIZE};
use ochre_sim::seed::{seed, Random};

/// Preallocated blocks; they make a thousand extents, so four leaves.
const BLOCKS: u64 = 2000;

/// Stores a block's pattern.
fn store(fs: &Fs, block: ochre::engine::types::Block, fill: u8) {
    fs.media()
        .store_through(block.address(), &[fill; BLOCK_SIZE as usize]);
}

/// A promised block gets bytes by a write, or zeros by a fault and bytes through its mapping.
fn use_block(fs: &Fs, file: &Inode, at: u64, fill: u8, write: bool) {
    let mapping = fs.map(file, FileBlock(at), 1).expect("map");
    if let MappingState::Written(block) = mapping.state {
        // Converted on another's way; it must have held zeros.
        assert_eq!(
            fs.media().bytes(block.address(), 4096),
            [0; 4096],
            "block {at}"
        );
        let widened = file.widened().expect("it says so");
        assert!(
            widened.contains(&FileBlock(at)),
            "block {at} is not in {widened:?}"
        );
        return store(fs, block, fill);
    }
    if write {
        let reserved = fs
            .reserve_write(file, FileBlock(at), 1, 0)
            .expect("reserve");
        assert_eq!(reserved.kind, WriteKind::Convert);
        store(fs, reserved.block, fill);
        fs.publish(file, reserved, 1, &PublishArgs::default())
            .expect("a promised block");
    } else {
        let mapping = fs
            .fault_allocate(file, FileBlock(at), 1)
            .expect("a promised block");
        let MappingState::Written(block) = mapping.state else {
            panic!("{mapping:?}");
        };
        assert_eq!(
            fs.media().bytes(block.address(), 4096),
            [0; 4096],
            "block {at}"
        );
        store(fs, block, fill);
    }
}

/// Every block has its bytes, and zeros where there are none.
fn check(fs: &Fs, file: &Inode, fills: &[u8]) {
    for (at, fill) in fills.iter().enumerate() {
        let found = fs.map(file, FileBlock(at as u64), 1).expect("map").state;
        let bytes = match found {
            MappingState::Written(block) => fs.media().bytes(block.address(), 4096),
            MappingState::Unwritten(_) => vec![0; 4096],
            MappingState::Hole => panic!("block {at} is gone"),
        };
        assert_eq!(bytes, [*fill; 4096], "block {at}, {found:?}");
    }
}

fn storm(name: &str, order: &[u64], left: u64) {
    let seed = seed(name);
    let mut random = Random::new(seed);
    let media = ochre_sim::image::formatted(24 << 20);
    let fs = Fs::mount(media, &MountOptions::default()).expect("mount");
    let root = fs.iget(fs.root()).expect("root");
    let file = fs
        .create(&root, b"file", &new(FileKind::Regular))
        .expect("create");
    fs.preallocate(&file, FileBlock(0), BLOCKS, None, &NONE)
        .expect("preallocate");
    // What was on these blocks before must not come up.
    for at in 0..BLOCKS {
        if let MappingState::Unwritten(block) = fs.map(&file, FileBlock(at), 1).expect("map").state
        {
            store(&fs, block, 0xee);
        }
    }
    let taken = Taken::all_but(&fs, left, true);
    let mut fills = vec![0u8; BLOCKS as usize];
    for (n, &at) in order.iter().enumerate() {
        let fill = (n % 250) as u8 + 1;
        use_block(&fs, &file, at, fill, random.below(2) == 0);
        fills[at as usize] = fill;
        if n % 200 == 0 {
            assert_sound(fs.media(), false);
            check(&fs, &file, &fills);
        }
    }
    assert_eq!(file.attributes().blocks / BLOCKS, 1);
    check(&fs, &file, &fills);
    // The next mount sees it no otherwise.
    let again = Fs::mount(fs.media().snapshot(), &MountOptions::default()).expect("mount");
    check(&again, &again.iget(file.ino()).expect("iget"), &fills);
    // Removal has not been left without.
    if left >= 8 {
        fs.punch(&file, FileBlock(1000), FileBlock(1001), &NONE)
            .expect("punch");
    }
    taken.give_back(&fs);
    fs.unmount().expect("unmount");
    assert_sound(fs.media(), true);
}

#[test]
fn a_storm_in_order() {
    let order: Vec<_> = (0..BLOCKS).step_by(2).collect();
    for left in [0, 3, 20, 40] {
        storm("a_storm_in_order", &order, left);
    }
}

#[test]
fn a_storm_backwards() {
    let order: Vec<_> = (0..BLOCKS / 2).rev().map(|n| n * 2).collect();
    storm("a_storm_backwards", &order, 0);
    storm("a_storm_backwards", &order, 12);
}

#[test]
fn a_storm_in_disorder() {
    let seed = seed("a_storm_in_disorder");
    let mut random = Random::new(seed);
    for left in [0, 1, 9, 33] {
        let mut order: Vec<_> = (0..BLOCKS).step_by(2).collect();
        for n in (1..order.len()).rev() {
            order.swap(n, random.below(n as u64 + 1) as usize);
        }
        storm("a_storm_in_disorder", &order, left);
    }
}

/// A fault that wants to zero its neighbours spares those into which a write copies.
#[test]
fn a_write_under_way_is_spared() {
    let media = ochre_sim::image::formatted(24 << 20);
    let fs = Fs::mount(media, &MountOptions::default()).expect("mount");
    let root = fs.iget(fs.root()).expect("root");
    let file = fs
        .create(&root, b"file", &new(FileKind::Regular))
        .expect("create");
    // Seven extents: full, without a tree.
    for n in 0..7 {
        fs.preallocate(&file, FileBlock(n * 100), 9, None, &NONE)
            .expect("preallocate");
    }
    let taken = Taken::all_but(&fs, 0, false);
    let reserved = fs
        .reserve_write(&file, FileBlock(105), 2, 0)
        .expect("reserve");
    store(&fs, reserved.block, 7);
    store(&fs, reserved.block.plus(1), 8);
    // In the same extent: its rest holds the write on one side.
    assert_eq!(
        fs.fault_allocate(&file, FileBlock(103), 1),
        Err(Error::Again),
        "all of the extent would have to be zeroed"
    );
    // In another.
    fs.fault_allocate(&file, FileBlock(203), 1).expect("fault");
    fs.publish(&file, reserved, 2, &PublishArgs::default())
        .expect("publish");
    fs.fault_allocate(&file, FileBlock(103), 1).expect("fault");
    let mut expected = [0; 9];
    expected[5..7].copy_from_slice(&[7, 8]);
    for (n, fill) in expected.iter().enumerate() {
        let state = fs
            .map(&file, FileBlock(100 + n as u64), 1)
            .expect("map")
            .state;
        let MappingState::Written(block) = state else {
            panic!("block {n}: {state:?}");
        };
        assert_eq!(
            fs.media().bytes(block.address(), 4096),
            [*fill; 4096],
            "block {n}"
        );
    }
    taken.give_back(&fs);
    fs.unmount().expect("unmount");
    assert_sound(fs.media(), true);
}
