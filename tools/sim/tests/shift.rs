// SPDX-License-Identifier: GPL-2.0

//! Collapse, insert and zero range of files in thousands of pieces, with power cuts, on full devices, and beside what is
//! pending behind the end of a file.

use ochre::engine::error::Error;
use ochre::engine::filesystem::{
    Filesystem, Inode, MappingState, MountOptions, NewInode, PublishArgs, Times,
};
use ochre::engine::media::Media;
use ochre::engine::types::{Block, FileBlock, FileKind, Timestamp, BLOCK_SIZE, MAX_FILE_SIZE};
use ochre_sim::image;
use ochre_sim::seed::{seed, Random};
use ochre_sim::{MemoryMedia, SimMedia};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[path = "model/sound.rs"]
mod sound;

use sound::assert_sound;

const NONE: Times = Times {
    atime: None,
    mtime: None,
    ctime: None,
};
/// Where blocks of held pages go.
const FAR: u64 = 1 << 43;

fn create<M: Media>(fs: &Filesystem<M>) -> Inode {
    let root = fs.iget(fs.root()).expect("root");
    let new = NewInode::new(FileKind::Regular.mode_bits() | 0o644, Timestamp(5));
    fs.create(&root, b"file", &new).expect("create")
}

fn write<M: Media>(fs: &Filesystem<M>, file: &Inode, block: u64) {
    let reserved = fs
        .reserve_write(file, FileBlock(block), 1, 0)
        .expect("reserve");
    let args = PublishArgs {
        new_size: Some((block + 1) * BLOCK_SIZE).filter(|s| *s > file.attributes().size),
        times: NONE,
    };
    fs.publish(file, reserved, 1, &args).expect("publish");
}

/// Where each block is, and whether it is written.
type Map = BTreeMap<u64, (Block, bool)>;

fn map<M: Media>(fs: &Filesystem<M>, file: &Inode) -> Map {
    let mut all = Map::new();
    let mut at = 0;
    while at < FileBlock::END.0 {
        let left = FileBlock::END.0 - at;
        let found = fs.map(file, FileBlock(at), left).expect("map");
        for n in 0..found.len {
            match found.state {
                MappingState::Hole => break,
                MappingState::Written(block) => all.insert(at + n, (block.plus(n), true)),
                MappingState::Unwritten(block) => all.insert(at + n, (block.plus(n), false)),
            };
        }
        at += found.len;
    }
    all
}

/// The map after a collapse.
fn collapsed(map: &Map, first: u64, len: u64) -> Map {
    let kept = map
        .iter()
        .filter(|(b, _)| **b < first || **b >= first + len);
    kept.map(|(&b, &v)| (if b < first { b } else { b - len }, v))
        .collect()
}

/// The map after an insertion.
fn inserted(map: &Map, at: u64, len: u64) -> Map {
    map.iter()
        .map(|(&b, &v)| (if b < at { b } else { b + len }, v))
        .collect()
}

fn mounted(size: u64) -> (Filesystem<MemoryMedia>, Inode) {
    let fs = Filesystem::mount(image::formatted(size), &MountOptions::default()).expect("mount");
    let file = create(&fs);
    (fs, file)
}

fn close<M: Media>(fs: &Filesystem<M>, file: &Inode) {
    fs.evict(file).expect("evict");
    fs.unmount().expect("unmount");
}

#[test]
fn thousands_of_extents_move() {
    let mut random = Random::new(seed("thousands_of_extents_move"));
    let (fs, file) = mounted(128 << 20);
    for n in 0..6000 {
        write(&fs, &file, n * 2);
    }
    fs.preallocate(&file, FileBlock(20_000), 30, None, &NONE)
        .expect("preallocate");
    let mut model = map(&fs, &file);
    for round in 0..120 {
        let size = file.attributes().size / BLOCK_SIZE;
        let len = 1 + random.below(if round % 8 == 0 { 5000 } else { 40 });
        match random.below(3) {
            0 => {
                let at = random.below(size);
                fs.insert(&file, FileBlock(at), len, &NONE).expect("insert");
                model = inserted(&model, at, len);
            }
            1 if size > len + 1 => {
                let first = random.below(size - len - 1);
                fs.collapse(&file, FileBlock(first), len, None, &NONE)
                    .expect("collapse");
                model = collapsed(&model, first, len);
            }
            _ => {
                let (at, end) = (random.below(size), size.min(random.below(size) + len));
                if at < end {
                    fs.zero_range(&file, FileBlock(at), FileBlock(end), None, &NONE)
                        .expect("zero");
                    for (_, (_, written)) in model.range_mut(at..end) {
                        *written = false;
                    }
                }
                // The tree takes what comes after, too.
                let block = random.below(size);
                write(&fs, &file, block);
                let found = map(&fs, &file);
                model.insert(block, found[&block]);
            }
        }
        assert!(map(&fs, &file) == model, "round {round}");
        assert!(!fs.is_truncating(&file));
        if round % 20 == 0 {
            assert_sound(fs.media(), false);
        }
    }
    close(&fs, &file);
    assert_sound(fs.media(), true);
}

/// A mapping can store behind the end of the file, up to the end of the page; that page moves.
#[test]
fn what_was_stored_behind_the_end_does_not_move_along() {
    let (fs, file) = mounted(24 << 20);
    for n in 0..9 {
        write(&fs, &file, n);
    }
    let ragged = 8 * BLOCK_SIZE + 1000;
    fs.truncate(&file, ragged, &NONE).expect("truncate");
    let tail = || {
        let last = map(&fs, &file)[&(file.attributes().size / BLOCK_SIZE)].0;
        last.address() + 1000
    };
    let junk = || fs.media().store(tail(), &[7; 3000]);
    let found = || {
        let mut bytes = [1; 3000];
        fs.media().read(tail(), &mut bytes).expect("read");
        bytes
    };
    junk();
    fs.insert(&file, FileBlock(3), 2, &NONE).expect("insert");
    assert!(found() == [0; 3000], "zeros behind the end");
    junk();
    fs.collapse(&file, FileBlock(1), 5, None, &NONE)
        .expect("collapse");
    assert!(found() == [0; 3000], "zeros behind the end");
    close(&fs, &file);
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let (fs, file) = mounted(24 << 20);
    for n in 0..40 {
        write(&fs, &file, n * 3);
    }
    let (before, size) = (map(&fs, &file), file.attributes().size);
    let blocks = size / BLOCK_SIZE;
    let collapse = |first, len| fs.collapse(&file, FileBlock(first), len, None, &NONE);
    let insert = |at, len| fs.insert(&file, FileBlock(at), len, &NONE);
    assert_eq!(collapse(3, blocks - 3), Err(Error::Invalid));
    assert_eq!(collapse(blocks, 1), Err(Error::Invalid));
    assert_eq!(collapse(3, 0), Err(Error::Invalid));
    assert_eq!(insert(blocks, 1), Err(Error::Invalid));
    assert_eq!(
        insert(0, MAX_FILE_SIZE / BLOCK_SIZE),
        Err(Error::FileTooBig)
    );
    assert_eq!(insert(5, u64::MAX / BLOCK_SIZE), Err(Error::FileTooBig));
    let far = FileBlock(FileBlock::PARKED.0 - 10);
    fs.preallocate(&file, far, 5, None, &NONE).expect("far");
    assert_eq!(insert(5, 6), Err(Error::FileTooBig));
    let farther = fs.preallocate(&file, far, 11, None, &NONE);
    assert_eq!(farther, Err(Error::FileTooBig));
    assert_eq!(insert(5, 5), Ok(size + 5 * BLOCK_SIZE));
    assert_eq!(collapse(5, 5), Ok(size));
    fs.punch(&file, far, FileBlock::END, &NONE).expect("punch");
    assert!(map(&fs, &file) == before);
    assert_eq!(file.attributes().size, size);
    close(&fs, &file);
    assert_sound(fs.media(), true);
}

#[test]
fn what_is_pending_stays_where_it_is() {
    let (fs, file) = mounted(24 << 20);
    for n in 0..100 {
        write(&fs, &file, n);
    }
    fs.park(&file, FileBlock(90), 1, FileBlock(FAR + 90))
        .expect("park");
    fs.truncate_size(&file, 80 * BLOCK_SIZE, &NONE)
        .expect("truncate");
    let before = map(&fs, &file);
    fs.collapse(&file, FileBlock(10), 5, None, &NONE)
        .expect("collapse");
    let mut expected = collapsed(&before, 10, 5);
    expected.retain(|&b, _| b < 75);
    expected.extend(before.range(80..));
    assert!(map(&fs, &file) == expected);
    // Over held pages: what is taken out is pending too.
    fs.collapse(&file, FileBlock(20), 4, Some(FileBlock(FAR + 20)), &NONE)
        .expect("collapse");
    let held: Map = (0..4)
        .map(|n| (FAR + 20 + n, expected[&(20 + n)]))
        .collect();
    let mut after = collapsed(&expected, 20, 4);
    after.retain(|&b, _| b < 71);
    after.extend(expected.range(80..));
    after.extend(held);
    assert!(map(&fs, &file) == after);
    // An insertion goes up to what is pending and not over it.
    fs.insert(&file, FileBlock(3), 9, &NONE).expect("insert");
    let over = fs.insert(&file, FileBlock(3), 1, &NONE);
    assert_eq!(over, Err(Error::Again));
    let taken = fs.collapse(&file, FileBlock(20), 4, Some(FileBlock(FAR + 22)), &NONE);
    assert_eq!(taken, Err(Error::Again));
    assert!(fs.is_truncating(&file));
    while fs.free_beyond(&file, FileBlock(80)).expect("free") {}
    assert_eq!(map(&fs, &file).len(), 80 - 9);
    close(&fs, &file);
    assert_sound(fs.media(), true);
}

#[test]
fn blocks_that_were_reclaimed_for_growth_are_in_the_way_of_what_moves() {
    let (fs, file) = mounted(24 << 20);
    for n in 0..100 {
        write(&fs, &file, n);
    }
    fs.truncate_size(&file, 60 * BLOCK_SIZE, &NONE)
        .expect("truncate");
    fs.reclaim(&file, FileBlock(80)).expect("reclaim");
    let before = map(&fs, &file);
    // The file may grow over them: they hold zeros.
    assert_eq!(fs.may_grow(&file, 70 * BLOCK_SIZE), Ok(true));
    // What lies at their place would get there, and two extents cannot have one place.
    for blocks in [1, 10, 20, 30] {
        let over = fs.insert(&file, FileBlock(3), blocks, &NONE);
        assert_eq!(over, Err(Error::Again));
    }
    assert!(map(&fs, &file) == before);
    assert_eq!(file.attributes().size, 60 * BLOCK_SIZE);
    // The file grew over some: those are its own, and move; the rest is pending as before.
    fs.reclaim(&file, FileBlock(70)).expect("reclaim");
    fs.set_size_only(&file, 70 * BLOCK_SIZE, &NONE)
        .expect("growth");
    fs.collapse(&file, FileBlock(65), 2, None, &NONE)
        .expect("collapse");
    fs.insert(&file, FileBlock(0), 2, &NONE).expect("insert");
    let over = fs.insert(&file, FileBlock(0), 1, &NONE);
    assert_eq!(over, Err(Error::Again));
    assert!(fs.is_truncating(&file));
    while fs.free_beyond(&file, FileBlock(70)).expect("free") {}
    assert_eq!(map(&fs, &file).len(), 68);
    assert!(!fs.is_truncating(&file));
    close(&fs, &file);
    assert_sound(fs.media(), true);
}

/// Half a million extents in leaves that are nobody's neighbours: more runs of nodes come free than may wait for a checkpoint.
#[test]
fn more_nodes_than_one_transaction_can_free_are_an_error_before_anything_changed() {
    const EXTENTS: u64 = 122_000;
    let (fs, file) = mounted(3 << 30);
    let root = fs.iget(fs.root()).expect("root");
    let new = NewInode::new(FileKind::Regular.mode_bits() | 0o644, Timestamp(5));
    let other = fs.create(&root, b"other", &new).expect("create");
    for file in [&file, &other] {
        let blocks = EXTENTS * 2;
        let size = Some(blocks * BLOCK_SIZE);
        fs.preallocate(file, FileBlock(0), blocks, size, &NONE)
            .expect("preallocate");
    }
    // Each takes two extents more; the trees grow in turn.
    for n in (0..EXTENTS).rev() {
        write(&fs, &file, n * 2);
        write(&fs, &other, n * 2);
    }
    assert_eq!(Error::TooLarge.errno(), Error::NoSpace.errno());
    let before = (file.attributes(), fs.statfs().free, map(&fs, &file));
    let state = || (file.attributes(), fs.statfs().free, map(&fs, &file));
    let collapse = |first, len| fs.collapse(&file, FileBlock(first), len, None, &NONE);
    assert_eq!(collapse(1, 7), Err(Error::TooLarge));
    let rescue = fs.collapse(&file, FileBlock(1), 7, Some(FileBlock(FAR + 1)), &NONE);
    assert_eq!(rescue, Err(Error::TooLarge));
    let insert = |at, len| fs.insert(&file, FileBlock(at), len, &NONE);
    assert_eq!(insert(1, 7), Err(Error::TooLarge));
    assert!(state() == before);
    // Nearer to its end there are fewer, and those are neighbours afterwards.
    let mut model = before.2;
    for at in [EXTENTS, 1] {
        insert(at, 7).expect("insert");
        model = inserted(&model, at, 7);
    }
    assert!(map(&fs, &file) == model);
    fs.evict(&other).expect("evict");
    close(&fs, &file);
    assert_sound(fs.media(), true);
}

/// Runs a change with power cuts at its fences; afterwards the file is as it was or as it is now.
fn with_cuts(file: &Inode, fs: &Filesystem<SimMedia>, change: impl FnOnce()) {
    let images = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&images);
    let mut random = Random::new(seed("with_cuts"));
    let state = |fs: &Filesystem<SimMedia>, file: &Inode| (file.attributes().size, map(fs, file));
    let before = state(fs, file);
    fs.media().on_fence(Some(Box::new(move |media| {
        kept.lock()
            .expect("images")
            .extend(media.crash_images(&mut random, 4));
    })));
    change();
    fs.media().on_fence(None);
    let after = state(fs, file);
    let judge = |image: MemoryMedia, allowed: &[&(u64, Map)]| {
        let fs = Filesystem::mount(image, &MountOptions::default()).expect("mount");
        fs.finish_orphans().expect("orphans");
        let root = fs.iget(fs.root()).expect("root");
        let file = fs
            .iget(fs.lookup(&root, b"file").expect("name"))
            .expect("inode");
        let found = (file.attributes().size, map(&fs, &file));
        assert!(allowed.contains(&&found), "neither before nor after");
        fs.evict(&root).expect("evict");
        close(&fs, &file);
        assert_sound(fs.media(), true);
    };
    for image in images.lock().expect("images").drain(..) {
        judge(image, &[&before, &after]);
    }
    for image in fs.media().crash_images(&mut Random::new(9), 4) {
        judge(image, &[&after]);
    }
}

#[test]
fn a_power_cut_leaves_the_file_before_or_after() {
    let media = SimMedia::new(&image::formatted(64 << 20));
    let fs = Filesystem::mount(media, &MountOptions::default()).expect("mount");
    let file = create(&fs);
    for n in 0..3000 {
        write(&fs, &file, n * 2);
    }
    fs.freeze().expect("freeze");
    with_cuts(&file, &fs, || {
        fs.insert(&file, FileBlock(2000), 7, &NONE).expect("insert");
    });
    with_cuts(&file, &fs, || {
        fs.collapse(&file, FileBlock(100), 20, None, &NONE)
            .expect("collapse");
    });
    // More pieces than one transaction frees.
    with_cuts(&file, &fs, || {
        fs.collapse(&file, FileBlock(10), 4000, None, &NONE)
            .expect("collapse");
    });
    assert!(!fs.is_truncating(&file));
    with_cuts(&file, &fs, || {
        fs.zero_range(&file, FileBlock(3), FileBlock(500), None, &NONE)
            .expect("zero");
    });
    close(&fs, &file);
    assert_sound(&fs.media().visible(), true);
}
