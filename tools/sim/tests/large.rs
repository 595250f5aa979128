// SPDX-License-Identifier: GPL-2.0

//! Files of thousands of extents and directories of thousands of names: trees with several levels, which short sequences
//! of calls never reach.

use ochre::engine::error::Error;
use ochre::engine::filesystem::{
    Filesystem, Inode, MappingState, MountOptions, NewInode, PublishArgs, Times,
};
use ochre::engine::types::{FileBlock, FileKind, Timestamp, BLOCK_SIZE};
use ochre_sim::image;
use ochre_sim::seed::{seed, Random};
use ochre_sim::MemoryMedia;
use std::collections::{BTreeMap, BTreeSet};

type Fs = Filesystem<MemoryMedia>;

fn new(kind: FileKind) -> NewInode<'static> {
    NewInode::new(kind.mode_bits() | 0o755, Timestamp(5))
}

fn mount(size: u64) -> Fs {
    let media = image::formatted(size);
    Filesystem::mount(media, &MountOptions::default()).expect("mount")
}

/// What the model says of one file block.
#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Written,
    Unwritten,
}

fn check(fs: &Fs, file: &Inode, model: &BTreeMap<u64, State>, end: u64) {
    let mut at = 0;
    let mut seen = BTreeSet::new();
    while at < end {
        let mapping = fs.map(file, FileBlock(at), end - at).expect("map");
        assert!(mapping.len > 0);
        for block in at..at + mapping.len {
            let expected = match mapping.state {
                MappingState::Hole => None,
                MappingState::Written(_) => Some(State::Written),
                MappingState::Unwritten(_) => Some(State::Unwritten),
            };
            assert_eq!(model.get(&block).copied(), expected, "block {block}");
            if let MappingState::Written(b) | MappingState::Unwritten(b) = mapping.state {
                assert!(
                    seen.insert(b.0 + block - at),
                    "block of the device used twice"
                );
            }
        }
        at += mapping.len;
    }
}

#[test]
fn file_of_thousands_of_extents() {
    let mut random = Random::new(seed("file_of_thousands_of_extents"));
    let fs = mount(192 << 20);
    let root = fs.iget(fs.root()).expect("root");
    let file = fs
        .create(&root, b"file", &new(FileKind::Regular))
        .expect("create");
    let empty = fs.statfs().free;
    let mut model = BTreeMap::new();
    const END: u64 = 12_000;
    for round in 0..9000u64 {
        let at = match random.below(3) {
            0 => round % END,
            _ => random.below(END),
        };
        let len = 1 + random.below(3);
        match random.below(8) {
            0..=3 => {
                let reserved = fs
                    .reserve_write(&file, FileBlock(at), 1, 0)
                    .expect("reserve");
                let args = PublishArgs {
                    new_size: Some((at + 1) * BLOCK_SIZE),
                    times: Times::default(),
                };
                fs.publish(&file, reserved, 1, &args).expect("publish");
                model.insert(at, State::Written);
            }
            4 | 5 => {
                let done = fs.preallocate(&file, FileBlock(at), len, None, &Times::default());
                done.expect("preallocate");
                for block in at..at + len {
                    model.entry(block).or_insert(State::Unwritten);
                }
            }
            6 => {
                let mapping = fs.fault_allocate(&file, FileBlock(at), 1).expect("fault");
                assert!(matches!(mapping.state, MappingState::Written(_)));
                model.insert(at, State::Written);
            }
            _ => {
                let len = if random.below(40) == 0 { 900 } else { len };
                let end = FileBlock(at + len);
                fs.punch(&file, FileBlock(at), end, &Times::default())
                    .expect("punch");
                for block in at..at + len {
                    model.remove(&block);
                }
            }
        }
        if round % 1500 == 0 {
            check(&fs, &file, &model, END + 1000);
        }
    }
    check(&fs, &file, &model, END + 1000);
    let data = model.len() as u64;
    let blocks = file.attributes().blocks;
    assert!(
        blocks > data && blocks < data + data / 50,
        "{blocks} of {data}"
    );

    fs.truncate(&file, END / 2 * BLOCK_SIZE, &Times::default())
        .expect("truncate");
    model.retain(|&block, _| block < END / 2);
    check(&fs, &file, &model, END + 1000);
    fs.freeze().expect("checkpoint");
    assert_eq!(fs.statfs().free + file.attributes().blocks, empty);
    fs.truncate(&file, 0, &Times::default()).expect("truncate");
    assert_eq!(file.attributes().blocks, 0);
    fs.freeze().expect("checkpoint");
    assert_eq!(fs.statfs().free, empty);
}

#[test]
fn directory_of_thousands_of_names() {
    let mut random = Random::new(seed("directory_of_thousands_of_names"));
    let fs = mount(192 << 20);
    let root = fs.iget(fs.root()).expect("root");
    let dir = fs
        .create(&root, b"dir", &new(FileKind::Directory))
        .expect("mkdir");
    let file = fs
        .create(&root, b"file", &new(FileKind::Regular))
        .expect("create");
    let empty = fs.statfs().free;
    let mut names = BTreeSet::new();
    let name = |n: u64| -> Vec<u8> {
        let tail = "x".repeat((n * 7 % 200) as usize);
        format!("{n}-{tail}").into_bytes()
    };
    for _ in 0..14_000 {
        let n = random.below(9000);
        let time = Timestamp(9);
        if names.contains(&n) && random.below(3) == 0 {
            fs.unlink(&dir, &name(n), &file, time).expect("unlink");
            names.remove(&n);
        } else {
            let done = fs.link(&dir, &name(n), &file, time);
            let expected = if names.insert(n) {
                Ok(())
            } else {
                Err(Error::Exists)
            };
            assert_eq!(done, expected);
        }
    }
    assert_eq!(file.attributes().nlink as usize, names.len() + 1);
    for n in 0..9000 {
        let found = fs.lookup(&dir, &name(n));
        let expected = if names.contains(&n) {
            Ok(file.ino())
        } else {
            Err(Error::NotFound)
        };
        assert_eq!(found, expected);
    }
    // A reader that goes on while half of the names are removed sees each survivor once.
    let (mut seen, mut cookie) = (BTreeMap::new(), 0);
    let mut doomed: Vec<u64> = names.iter().copied().filter(|n| n % 2 == 0).collect();
    loop {
        let (mut left, mut next) = (100, cookie);
        let mut emit = |entry: &ochre::engine::filesystem::DirectoryEntry<'_>| {
            if left == 0 {
                return false;
            }
            left -= 1;
            next = entry.next;
            *seen.entry(entry.name.to_vec()).or_insert(0) += 1;
            true
        };
        fs.readdir(&dir, cookie, &mut emit).expect("readdir");
        if left == 100 {
            break;
        }
        cookie = next;
        for _ in 0..60 {
            if let Some(n) = doomed.pop() {
                fs.unlink(&dir, &name(n), &file, Timestamp(9))
                    .expect("unlink");
                names.remove(&n);
            }
        }
    }
    for n in &names {
        assert_eq!(seen.get(&name(*n)), Some(&1), "name {n}");
    }
    for n in names.clone() {
        assert_eq!(
            fs.rmdir(&root, b"dir", &dir, Timestamp(9)),
            Err(Error::NotEmpty)
        );
        fs.unlink(&dir, &name(n), &file, Timestamp(9))
            .expect("unlink");
        names.remove(&n);
    }
    assert_eq!(dir.attributes().blocks, 0);
    fs.freeze().expect("checkpoint");
    assert_eq!(fs.statfs().free, empty);
    fs.rmdir(&root, b"dir", &dir, Timestamp(9)).expect("rmdir");
    fs.evict(&dir).expect("evict");
}

/// Every other block, first upwards and then downwards: hundreds of leaves, so that index nodes split too.
#[test]
fn file_of_hundreds_of_leaves() {
    const COUNT: u64 = 50_000;
    let fs = mount(640 << 20);
    let root = fs.iget(fs.root()).expect("root");
    let file = fs
        .create(&root, b"file", &new(FileKind::Regular))
        .expect("create");
    fs.freeze().expect("checkpoint");
    let empty = fs.statfs().free;
    let order = (COUNT / 2..COUNT).chain((0..COUNT / 2).rev());
    for n in order {
        let reserved = fs
            .reserve_write(&file, FileBlock(n * 2), 1, 0)
            .expect("reserve");
        let args = PublishArgs {
            new_size: Some((n * 2 + 1) * BLOCK_SIZE),
            times: Times::default(),
        };
        fs.publish(&file, reserved, 1, &args).expect("publish");
    }
    for n in 0..COUNT {
        let mapping = fs.map(&file, FileBlock(n * 2), 2).expect("map");
        assert!(mapping.len == 1 && matches!(mapping.state, MappingState::Written(_)));
    }
    // Out of the middle first, so that leaves vanish on both sides of what stays.
    let (a, b) = (FileBlock(COUNT / 2), FileBlock(COUNT / 2 * 3));
    fs.punch(&file, a, b, &Times::default()).expect("punch");
    assert_eq!(fs.map(&file, FileBlock(a.0 - 2), 1).expect("map").len, 1);
    for n in 0..COUNT {
        let hole = n * 2 >= a.0 && n * 2 < b.0;
        let mapping = fs.map(&file, FileBlock(n * 2), 1).expect("map");
        assert_eq!(mapping.state == MappingState::Hole, hole);
    }
    fs.truncate(&file, 0, &Times::default()).expect("truncate");
    assert_eq!(file.attributes().blocks, 0);
    fs.freeze().expect("checkpoint");
    assert_eq!(fs.statfs().free, empty);
}
