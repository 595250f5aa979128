// SPDX-License-Identifier: GPL-2.0

//! Blocks that wait behind the end of a file, since somebody holds their pages: left there by a truncate, or moved there
//! from under a hole. A power cut at any fence gives them back, and nothing else.

use ochre::engine::error::Error;
use ochre::engine::filesystem::{
    Filesystem, Inode, MappingState, MountOptions, NewInode, PublishArgs, Times,
};
use ochre::engine::media::Media;
use ochre::engine::types::{Block, FileBlock, FileKind, Timestamp, BLOCK_SIZE};
use ochre::platform::{allocation_failure_pending, fail_allocation_after};
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

/// The bounds of the extent tree outlive the extents around them: a hole that ends at one is not the end of the hole.
#[test]
fn a_bound_of_the_tree_is_in_nobodys_way() {
    let (fs, file) = mounted();
    let far = 1398;
    for block in (102..=far).step_by(2) {
        write(&fs, &file, block, 1);
    }
    let held = at(&fs, &file, far).expect("a block");
    fs.truncate_size(&file, 100 * BLOCK_SIZE, &NONE)
        .expect("truncate");
    fs.punch(&file, FileBlock(100), FileBlock(far), &NONE)
        .expect("punch");
    let cut = fs.map(&file, FileBlock(100), far - 100).expect("map");
    assert_eq!(cut.state, MappingState::Hole);
    assert!(
        cut.len < far - 100,
        "no bound in the hole: it shows nothing"
    );
    assert!(fs
        .is_hole(&file, FileBlock(100), FileBlock(far))
        .expect("look"));
    assert!(!fs.pending_before(&file, far * BLOCK_SIZE).expect("look"));
    assert!(fs.may_grow(&file, far * BLOCK_SIZE).expect("look"));
    assert!(fs
        .pending_before(&file, far * BLOCK_SIZE + 1)
        .expect("look"));
    // With a block of the tree.
    with_cuts(&fs, &[(100, 101), (far, 101)], (far, 101), || {
        fs.truncate(&file, far * BLOCK_SIZE, &NONE).expect("growth");
    });
    assert_eq!(at(&fs, &file, far), Some(held));
    assert!(!fs.free_beyond(&file, FileBlock(far)).expect("free"));
}

/// A truncate that has no memory to free everything has happened all the same; what is left behind the end is not written to.
#[test]
fn what_a_truncate_had_no_memory_to_free_is_not_written_to() {
    let media = image::formatted(64 << 20);
    let mut left = 0;
    for allowed in 0..200 {
        let fs = Filesystem::mount(media.snapshot(), &MountOptions::default()).expect("mount");
        let file = create(&fs, b"file");
        for block in 0..2500 {
            write(&fs, &file, 2 * block, 1);
        }
        fail_allocation_after(Some(allowed));
        let done = fs.truncate(&file, 10 * BLOCK_SIZE, &NONE);
        let failed = !allocation_failure_pending();
        fail_allocation_after(None);
        if done.is_ok() && fs.is_truncating(&file) {
            left += 1;
            assert!(at(&fs, &file, 10).is_some(), "nothing is left at the end");
            let reserved = fs
                .reserve_write(&file, FileBlock(10), 1, 0)
                .expect("reserve");
            let block = reserved.block;
            fs.media().store(block.address(), &[7; BLOCK_SIZE as usize]);
            let args = PublishArgs {
                new_size: Some(11 * BLOCK_SIZE),
                times: NONE,
            };
            fs.publish(&file, reserved, 1, &args).expect("publish");
            assert_eq!(at(&fs, &file, 10), Some(block), "what was written is gone");
            // With a block of the tree.
            assert_eq!(file.attributes().blocks, 7);
        }
        fs.evict(&file).expect("evict");
        fs.unmount().expect("unmount");
        assert_sound(fs.media(), true);
        if !failed {
            break;
        }
    }
    assert!(
        left > 0,
        "no allocation failed between the two transactions"
    );
}

/// What was stored through a mapping whose page is no longer known as dirty.
#[test]
fn what_is_written_back_outlives_a_power_cut() {
    let (fs, file) = mounted();
    write(&fs, &file, 130, 5);
    let places = [at(&fs, &file, 3), at(&fs, &file, 132)].map(|block| block.expect("a block"));
    for block in places {
        fs.media().store(block.address() + 64, &[7; 96]);
    }
    let kept = |image: &MemoryMedia| {
        places.iter().all(|block| {
            let mut bytes = [0; 96];
            image.read(block.address() + 64, &mut bytes).expect("read");
            bytes == [7; 96]
        })
    };
    let before = fs.media().crash_images(&mut Random::new(9), 20);
    assert!(!before.iter().all(kept), "stores are durable by themselves");
    fs.write_back(&file, FileBlock(1), FileBlock(134))
        .expect("write back");
    let after = fs.media().crash_images(&mut Random::new(9), 20);
    assert!(after.iter().all(kept));
}

/// Written blocks behind the end, of an append that was never counted: whoever makes the file larger lays zeros bare.
#[test]
fn growth_shows_zeros_over_written_blocks_behind_the_end() {
    type Growth = fn(&Filesystem<MemoryMedia>, &Inode);
    let ways: [Growth; 4] = [
        |fs, file| {
            fs.truncate(file, 9 * BLOCK_SIZE + 5, &NONE)
                .expect("truncate")
        },
        |fs, file| {
            fs.preallocate(file, FileBlock(8), 1, Some(9 * BLOCK_SIZE + 5), &NONE)
                .expect("preallocate");
        },
        |fs, file| {
            fs.zero_range(
                file,
                FileBlock(8),
                FileBlock(9),
                Some(9 * BLOCK_SIZE),
                &NONE,
            )
            .expect("zero range");
        },
        |fs, file| {
            fs.lay_bare(file, 100, 8 * BLOCK_SIZE).expect("lay bare");
            write(fs, file, 8, 1);
        },
    ];
    for (way, grow) in ways.iter().enumerate() {
        let media = image::formatted(24 << 20);
        let fs = Filesystem::mount(media, &MountOptions::default()).expect("mount");
        let file = create(&fs, b"file");
        let reserved = fs
            .reserve_write(&file, FileBlock(0), 7, 0)
            .expect("reserve");
        assert_eq!(reserved.len, 7);
        let first = reserved.block.address();
        fs.media().store(first, &[7; 7 * BLOCK_SIZE as usize]);
        let args = PublishArgs {
            new_size: Some(100),
            times: NONE,
        };
        fs.publish(&file, reserved, 7, &args).expect("publish");
        grow(&fs, &file);
        let mut bytes = [1; 7 * BLOCK_SIZE as usize];
        fs.media().read(first, &mut bytes).expect("read");
        let (kept, bare) = bytes.split_at(100);
        assert!(kept.iter().all(|&byte| byte == 7), "way {way}");
        assert!(bare.iter().all(|&byte| byte == 0), "way {way}");
    }
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
