// SPDX-License-Identifier: GPL-2.0

//! Blocks that wait behind the end of a file, since somebody holds their pages: left there by a truncate, or moved there
//! from under a hole. A power cut at any fence gives them back, and nothing else.

use ochre::engine::error::Error;
use ochre::engine::filesystem::{
    Filesystem, Inode, MappingState, MountOptions, NewInode, PublishArgs, Times,
};
use ochre::engine::media::Media;
use ochre::engine::types::{Block, FileBlock, FileKind, Timestamp, BLOCK_SIZE};
use ochre_sim::image;
use ochre_sim::seed::Random;
use ochre_sim::{MemoryMedia, SimMedia};
use std::sync::{Arc, Mutex};

#[path = "model/sound.rs"]
mod sound;

use sound::assert_sound;

const NONE: Times = Times {
    atime: None,
    mtime: None,
    ctime: None,
};
/// Where moved blocks go.
const FAR: u64 = 1 << 43;

fn create<M: Media>(fs: &Filesystem<M>, name: &[u8]) -> Inode {
    let root = fs.iget(fs.root()).expect("root");
    let new = NewInode::new(FileKind::Regular.mode_bits() | 0o644, Timestamp(5));
    fs.create(&root, name, &new).expect("create")
}

fn write<M: Media>(fs: &Filesystem<M>, file: &Inode, start: u64, blocks: u64) {
    let mut at = start;
    while at < start + blocks {
        let reserved = fs
            .reserve_write(file, FileBlock(at), start + blocks - at, 0)
            .expect("reserve");
        let len = reserved.len;
        let args = PublishArgs {
            new_size: Some((at + len) * BLOCK_SIZE),
            times: NONE,
        };
        fs.publish(file, reserved, len, &args).expect("publish");
        at += len;
    }
}

fn at<M: Media>(fs: &Filesystem<M>, file: &Inode, block: u64) -> Option<Block> {
    match fs.map(file, FileBlock(block), 1).expect("map").state {
        MappingState::Written(block) => Some(block),
        _ => None,
    }
}

/// What is left after a power cut: the file has one of the sizes, one of the counts of blocks, and the check is content.
fn judge(image: MemoryMedia, allowed: &[(u64, u64)]) {
    let fs = Filesystem::mount(image, &MountOptions::default()).expect("mount");
    fs.finish_orphans().expect("orphans");
    let root = fs.iget(fs.root()).expect("root");
    let file = fs
        .iget(fs.lookup(&root, b"file").expect("name"))
        .expect("inode");
    let attributes = file.attributes();
    let state = (attributes.size / BLOCK_SIZE, attributes.blocks);
    assert!(allowed.contains(&state), "{state:?} is none of {allowed:?}");
    fs.evict(&file).expect("evict");
    fs.unmount().expect("unmount");
    assert_sound(fs.media(), true);
}

/// Runs a change of the file with power cuts at each of its fences, and after it.
fn with_cuts(
    fs: &Filesystem<SimMedia>,
    allowed: &[(u64, u64)],
    after: (u64, u64),
    change: impl FnOnce(),
) {
    let images = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&images);
    let mut random = Random::new(7);
    fs.media().on_fence(Some(Box::new(move |media| {
        kept.lock()
            .expect("images")
            .extend(media.crash_images(&mut random, 6));
    })));
    change();
    fs.media().on_fence(None);
    for image in images.lock().expect("images").drain(..) {
        judge(image, allowed);
    }
    for image in fs.media().crash_images(&mut Random::new(9), 6) {
        judge(image, &[after]);
    }
}

fn mounted() -> (Filesystem<SimMedia>, Inode) {
    let media = SimMedia::new(&image::formatted(24 << 20));
    let fs = Filesystem::mount(media, &MountOptions::default()).expect("mount");
    let file = create(&fs, b"file");
    write(&fs, &file, 0, 100);
    fs.freeze().expect("freeze");
    (fs, file)
}

#[test]
fn a_truncate_leaves_held_blocks_and_growth_goes_up_to_them() {
    let (fs, file) = mounted();
    with_cuts(&fs, &[(100, 100), (10, 10)], (10, 10), || {
        fs.truncate_size(&file, 10 * BLOCK_SIZE, &NONE)
            .expect("truncate");
    });
    assert!(fs.is_truncating(&file));
    // Block 50 is held; what is before and behind it is free.
    with_cuts(&fs, &[(10, 10)], (10, 10), || {
        fs.punch(&file, FileBlock(10), FileBlock(50), &NONE)
            .expect("punch");
        fs.punch(&file, FileBlock(51), FileBlock::END, &NONE)
            .expect("punch");
    });
    assert_eq!(file.attributes().blocks, 11);
    assert!(!fs.pending_before(&file, 50 * BLOCK_SIZE).expect("look"));
    assert!(fs.pending_before(&file, 50 * BLOCK_SIZE + 1).expect("look"));
    let refused = fs.set_size_only(&file, 51 * BLOCK_SIZE, &NONE);
    assert_eq!(refused.expect_err("growth over a held block"), Error::Again);
    with_cuts(&fs, &[(10, 10), (50, 10)], (50, 10), || {
        fs.set_size_only(&file, 50 * BLOCK_SIZE, &NONE)
            .expect("growth");
    });
    with_cuts(&fs, &[(50, 10)], (50, 10), || {
        assert!(!fs.free_beyond(&file, FileBlock(50)).expect("free"));
    });
    assert!(!fs.is_truncating(&file));
    assert_eq!(file.attributes().blocks, 10);
    fs.set_size_only(&file, 80 * BLOCK_SIZE, &NONE)
        .expect("growth");
}

#[test]
fn a_held_block_under_a_hole_moves_behind_the_end() {
    let (fs, file) = mounted();
    let held = at(&fs, &file, 30).expect("a block");
    with_cuts(&fs, &[(100, 100), (100, 99)], (100, 99), || {
        fs.park(&file, FileBlock(30), 1, FileBlock(FAR + 30))
            .expect("park");
    });
    assert_eq!(at(&fs, &file, 30), None);
    assert_eq!(at(&fs, &file, FAR + 30), Some(held));
    assert_eq!(file.attributes().blocks, 100);
    // Its place can be used again, moved again, and the file can grow.
    write(&fs, &file, 30, 1);
    assert_ne!(at(&fs, &file, 30), Some(held));
    let taken = fs.park(&file, FileBlock(30), 1, FileBlock(FAR + 30));
    assert_eq!(taken.expect_err("a place that is taken"), Error::Again);
    let hole = fs.park(&file, FileBlock(200), 1, FileBlock(FAR + 200));
    assert_eq!(hole.expect_err("a hole"), Error::Again);
    fs.park(&file, FileBlock(30), 1, FileBlock(FAR + 1030))
        .expect("park");
    write(&fs, &file, 100, 50);
    // A run in the middle of an extent, as a 2 MiB page has it.
    with_cuts(&fs, &[(150, 149), (150, 109)], (150, 109), || {
        fs.park(&file, FileBlock(40), 40, FileBlock(FAR + 40))
            .expect("park");
    });
    // Let go, one by one.
    with_cuts(&fs, &[(150, 109)], (150, 109), || {
        fs.punch(&file, FileBlock(FAR), FileBlock(FAR + 40), &NONE)
            .expect("punch");
    });
    assert!(fs.is_truncating(&file));
    while fs.free_beyond(&file, FileBlock(150)).expect("free") {}
    assert!(!fs.is_truncating(&file));
    assert_eq!(file.attributes().blocks, 109);
    fs.evict(&file).expect("evict");
    fs.unmount().expect("unmount");
    assert_sound(&fs.media().visible(), true);
}

#[test]
fn moved_blocks_of_a_deleted_file_go_with_it() {
    let (fs, file) = mounted();
    fs.park(&file, FileBlock(5), 10, FileBlock(FAR))
        .expect("park");
    let root = fs.iget(fs.root()).expect("root");
    fs.unlink(&root, b"file", &file, Timestamp(9))
        .expect("unlink");
    let before = fs.statfs().free;
    fs.evict(&file).expect("evict");
    assert_eq!(fs.statfs().free, before + 100);
    fs.evict(&root).expect("evict");
    fs.unmount().expect("unmount");
    assert_sound(&fs.media().visible(), true);
}

#[test]
fn what_was_promised_behind_the_end_stays_when_parked_blocks_go() {
    let (fs, file) = mounted();
    fs.preallocate(&file, FileBlock(100), 20, None, &NONE)
        .expect("preallocate");
    with_cuts(&fs, &[(100, 120), (100, 119)], (100, 119), || {
        fs.park(&file, FileBlock(30), 1, FileBlock(FAR + 30))
            .expect("park");
    });
    assert_eq!(fs.pending_from(&file), Some(FileBlock::PARKED));
    // More of it, while the block is held; and growth over it.
    with_cuts(&fs, &[(100, 119), (100, 124)], (100, 124), || {
        fs.preallocate(&file, FileBlock(120), 5, None, &NONE)
            .expect("preallocate");
    });
    with_cuts(&fs, &[(100, 124), (110, 124)], (110, 124), || {
        fs.truncate(&file, 110 * BLOCK_SIZE, &NONE).expect("growth");
    });
    while fs.free_beyond(&file, FileBlock::PARKED).expect("free") {}
    assert_eq!(fs.pending_from(&file), None);
    assert_eq!(file.attributes().blocks, 124);
    fs.evict(&file).expect("evict");
    fs.unmount().expect("unmount");
    assert_sound(&fs.media().visible(), true);
}

#[test]
fn a_promise_behind_the_end_waits_for_what_a_truncate_left_there() {
    let (fs, file) = mounted();
    fs.truncate_size(&file, 10 * BLOCK_SIZE, &NONE)
        .expect("truncate");
    let refused = fs.preallocate(&file, FileBlock(150), 5, None, &NONE);
    assert_eq!(refused.expect_err("a held block"), Error::Again);
    // Block 50 is held, and moves; the others are free.
    fs.punch(&file, FileBlock(10), FileBlock(50), &NONE)
        .expect("punch");
    fs.punch(&file, FileBlock(51), FileBlock::END, &NONE)
        .expect("punch");
    with_cuts(&fs, &[(10, 10)], (10, 10), || {
        fs.park(&file, FileBlock(50), 1, FileBlock(FAR))
            .expect("park");
    });
    with_cuts(&fs, &[(10, 10), (10, 15)], (10, 15), || {
        fs.preallocate(&file, FileBlock(150), 5, None, &NONE)
            .expect("preallocate");
    });
    // A truncate takes all of it.
    with_cuts(&fs, &[(10, 15), (9, 9)], (9, 9), || {
        fs.truncate_size(&file, 9 * BLOCK_SIZE, &NONE)
            .expect("truncate");
    });
    assert_eq!(fs.pending_from(&file), Some(FileBlock(9)));
    fs.evict(&file).expect("evict");
    assert_eq!(file.attributes().blocks, 9);
    fs.unmount().expect("unmount");
    assert_sound(&fs.media().visible(), true);
}

#[test]
fn a_file_grows_over_held_blocks_that_cannot_move() {
    let (fs, file) = mounted();
    let held = at(&fs, &file, 12).expect("a block");
    fs.media().store(held.address(), &[7; BLOCK_SIZE as usize]);
    fs.truncate_size(&file, 10 * BLOCK_SIZE, &NONE)
        .expect("truncate");
    let refused = fs.set_size_only(&file, 13 * BLOCK_SIZE, &NONE);
    assert_eq!(refused.expect_err("growth over a held block"), Error::Again);
    with_cuts(&fs, &[(10, 10), (13, 13)], (13, 13), || {
        fs.reclaim(&file, FileBlock(13)).expect("zero");
        fs.set_size_only(&file, 13 * BLOCK_SIZE, &NONE)
            .expect("growth");
    });
    assert_eq!(at(&fs, &file, 12), Some(held));
    let mut bytes = [1; BLOCK_SIZE as usize];
    fs.media().read(held.address(), &mut bytes).expect("read");
    assert_eq!(bytes, [0; BLOCK_SIZE as usize]);
    // Not further than was zeroed, and not after the next truncate.
    let refused = fs.set_size_only(&file, 14 * BLOCK_SIZE, &NONE);
    assert_eq!(refused.expect_err("growth over a held block"), Error::Again);
    fs.reclaim(&file, FileBlock(20)).expect("zero");
    fs.truncate_size(&file, 5 * BLOCK_SIZE, &NONE)
        .expect("truncate");
    let refused = fs.set_size_only(&file, 14 * BLOCK_SIZE, &NONE);
    assert_eq!(refused.expect_err("growth over a held block"), Error::Again);
}
