// SPDX-License-Identifier: GPL-2.0

//! No space and no memory: a call that fails has changed nothing, and what gives space back never fails for want of it.

use ochre::engine::error::{Error, Result};
use ochre::engine::filesystem::{
    Filesystem, Inode, MappingState, MountOptions, NewInode, PublishArgs, RenameArgs,
    SetAttributes, Times, WriteKind,
};
use ochre::engine::types::{FileBlock, FileKind, Timestamp, BLOCK_SIZE};
use ochre::platform::{allocation_failure_pending, fail_allocation_after};
use ochre_sim::image;
use ochre_sim::MemoryMedia;

#[path = "model/sound.rs"]
mod sound;

use sound::assert_sound;

type Fs = Filesystem<MemoryMedia>;

fn new(kind: FileKind) -> NewInode<'static> {
    NewInode::new(kind.mode_bits() | 0o755, Timestamp(5))
}

fn write(fs: &Fs, file: &Inode, block: u64) -> Result<()> {
    let reserved = fs.reserve_write(file, FileBlock(block), 1, 0)?;
    let args = PublishArgs {
        new_size: Some((block + 1) * BLOCK_SIZE),
        times: Times::default(),
    };
    fs.publish(file, reserved, 1, &args)
}

/// Data, names and inodes until nothing fits, then everything away again; at each failure nothing has changed.
#[test]
fn full_is_full_cleanly() {
    let media = image::formatted(24 << 20);
    let fs = Fs::mount(media, &MountOptions::default()).expect("mount");
    let root = fs.iget(fs.root()).expect("root");
    let promised = fs
        .create(&root, b"promised", &new(FileKind::Regular))
        .expect("create");
    let none = Times::default();
    fs.preallocate(&promised, FileBlock(0), 700, None, &none)
        .expect("preallocate");
    let sparse = fs
        .create(&root, b"sparse", &new(FileKind::Regular))
        .expect("create");
    let mut data = 0;
    loop {
        match write(&fs, &sparse, data * 2) {
            Ok(()) => data += 1,
            Err(error) => break assert_eq!(error, Error::NoSpace),
        }
    }
    assert_sound(fs.media(), false);
    assert_eq!(
        fs.preallocate(&sparse, FileBlock(1 << 20), 9, None, &none),
        Err(Error::NoSpace)
    );
    let (size, blocks) = (sparse.attributes().size, sparse.attributes().blocks);
    assert_eq!(size, (data * 2 - 1) * BLOCK_SIZE);
    // Metadata may go a little further than data.
    let mut files = Vec::new();
    loop {
        let name = format!("{}-{:0>200}", files.len(), 0);
        match fs.create(&root, name.as_bytes(), &new(FileKind::Regular)) {
            Ok(inode) => files.push((name, inode)),
            Err(error) => break assert_eq!(error, Error::NoSpace),
        }
        assert!(files.len() < 100_000);
    }
    assert_sound(fs.media(), false);
    // What was promised is kept: every second block is converted, which splits the tree's leaves.
    for block in 0..350 {
        let reserved = fs
            .reserve_write(&promised, FileBlock(block * 2), 1, 0)
            .expect("promised");
        assert_eq!(reserved.kind, WriteKind::Convert);
        let args = PublishArgs {
            new_size: Some((block * 2 + 1) * BLOCK_SIZE),
            times: none,
        };
        fs.publish(&promised, reserved, 1, &args)
            .expect("a promised block");
    }
    for block in 0..200 {
        let mapping = fs
            .fault_allocate(&promised, FileBlock(block * 2 + 1), 1)
            .expect("a promised fault");
        assert!(matches!(mapping.state, MappingState::Written(_)));
    }
    assert_eq!(sparse.attributes().blocks, blocks);
    assert_sound(fs.media(), false);
    // And what gives space back works.
    fs.punch(&promised, FileBlock(100), FileBlock(103), &none)
        .expect("punch");
    fs.truncate(&sparse, size / 2, &none).expect("truncate");
    for (name, inode) in &files {
        fs.unlink(&root, name.as_bytes(), inode, Timestamp(6))
            .expect("unlink");
        fs.evict(inode).expect("evict");
    }
    for (name, inode) in [(&b"sparse"[..], &sparse), (b"promised", &promised)] {
        fs.unlink(&root, name, inode, Timestamp(6)).expect("unlink");
        fs.evict(inode).expect("evict");
    }
    assert_eq!(root.attributes().blocks, 0);
    fs.unmount().expect("unmount");
    assert_sound(fs.media(), true);
}

/// A punch in the middle of extents needs blocks for the tree; on a full filesystem it still works.
#[test]
fn punching_a_full_filesystem() {
    let media = image::formatted(24 << 20);
    let fs = Fs::mount(media, &MountOptions::default()).expect("mount");
    let root = fs.iget(fs.root()).expect("root");
    let file = fs
        .create(&root, b"file", &new(FileKind::Regular))
        .expect("create");
    let none = Times::default();
    let mut at = 0;
    while let Ok(reserved) = fs.reserve_write(&file, FileBlock(at), 64, 0) {
        let len = reserved.len;
        fs.publish(&file, reserved, len, &PublishArgs::default())
            .expect("publish");
        at += len;
    }
    assert!(at > 1000);
    let before = file.attributes().blocks;
    for block in (1..at).step_by(3) {
        fs.punch(&file, FileBlock(block), FileBlock(block + 1), &none)
            .expect("punch");
        if block < 40 {
            assert_sound(fs.media(), false);
        }
    }
    assert!(file.attributes().blocks < before);
    fs.unmount().expect("unmount");
    assert_sound(fs.media(), true);
}

/// Every call, with every allocation of memory failing in turn.
#[test]
fn no_memory_changes_nothing() {
    type Call = fn(&Fs, &[Inode]) -> Result<()>;
    let target = [b't'; 2000];
    let calls: &[(&str, Call)] = &[
        ("create", |fs, i| {
            fs.create(&i[0], b"new", &new(FileKind::Regular)).map(drop)
        }),
        ("mkdir", |fs, i| {
            fs.create(&i[1], b"new", &new(FileKind::Directory))
                .map(drop)
        }),
        ("link", |fs, i| fs.link(&i[1], b"link", &i[2], Timestamp(9))),
        ("unlink", |fs, i| {
            fs.unlink(&i[0], b"file", &i[2], Timestamp(9))
        }),
        ("rename", |fs, i| {
            fs.rename(&RenameArgs {
                old_dir: &i[0],
                old_name: b"file",
                inode: &i[2],
                new_dir: &i[1],
                new_name: b"over",
                target: Some(&i[3]),
                exchange: false,
                time: Timestamp(9),
            })
        }),
        ("write", |fs, i| write(fs, &i[2], 5000)),
        ("fault", |fs, i| {
            fs.fault_allocate(&i[2], FileBlock(77), 1).map(drop)
        }),
        ("preallocate", |fs, i| {
            fs.preallocate(&i[2], FileBlock(9000), 3, None, &Times::default())
        }),
        ("punch", |fs, i| {
            fs.punch(&i[2], FileBlock(40), FileBlock(60), &Times::default())
        }),
        ("truncate", |fs, i| {
            fs.truncate(&i[2], 10_000, &Times::default())
        }),
        ("attributes", |fs, i| {
            let set = SetAttributes {
                uid: Some(3),
                ..SetAttributes::default()
            };
            fs.set_attributes(&i[2], &set)
        }),
        ("readdir", |fs, i| fs.readdir(&i[0], 0, &mut |_| true)),
    ];
    for (name, call) in calls {
        for allowed in 0.. {
            let media = image::formatted(24 << 20);
            let fs = Fs::mount(media, &MountOptions::default()).expect("mount");
            let root = fs.iget(fs.root()).expect("root");
            let long = NewInode {
                symlink: Some(&target),
                ..new(FileKind::Symlink)
            };
            fs.create(&root, b"long", &long).expect("symlink");
            let dir = fs
                .create(&root, b"dir", &new(FileKind::Directory))
                .expect("mkdir");
            let file = fs
                .create(&root, b"file", &new(FileKind::Regular))
                .expect("create");
            let over = fs
                .create(&dir, b"over", &new(FileKind::Regular))
                .expect("create");
            for n in 0..30 {
                write(&fs, &file, n * 5).expect("write");
            }
            let inodes = [root, dir, file, over];
            let state = || inodes.each_ref().map(Inode::attributes);
            let before = (state(), fs.statfs());
            fail_allocation_after(Some(allowed));
            let done = call(&fs, &inodes);
            let reached = !allocation_failure_pending();
            fail_allocation_after(None);
            assert_sound(fs.media(), false);
            if !reached {
                done.expect("nothing failed");
                break;
            }
            if done.is_ok() {
                // It could do without.
                continue;
            }
            assert_eq!(
                done,
                Err(Error::NoMemory),
                "{name}, {allowed} allocations allowed"
            );
            assert_eq!(
                (state(), fs.statfs()),
                before,
                "{name}, {allowed} allocations allowed"
            );
            assert!(!fs.is_read_only());
            call(&fs, &inodes).expect("the same call with memory");
            for inode in &inodes {
                fs.evict(inode).expect("evict");
            }
            fs.unmount().expect("unmount");
            assert_sound(fs.media(), true);
        }
    }
}

/// ftruncate to the size that a file has is how a program gives back what it had preallocated behind the end.
#[test]
fn a_truncate_to_the_same_size_gives_back_what_lies_behind_it() {
    let fs = Fs::mount(image::formatted(24 << 20), &MountOptions::default()).expect("mount");
    let root = fs.iget(fs.root()).expect("root");
    let none = Times::default();
    for (name, size) in [
        (&b"empty"[..], 0),
        (b"whole", 10 * BLOCK_SIZE),
        (b"ragged", 10 * BLOCK_SIZE - 100),
    ] {
        let file = fs
            .create(&root, name, &new(FileKind::Regular))
            .expect("create");
        for block in 0..size.div_ceil(BLOCK_SIZE) {
            write(&fs, &file, block).expect("write");
        }
        fs.truncate(&file, size, &none).expect("truncate");
        let (blocks, free) = (file.attributes().blocks, fs.statfs().free);
        // In pieces, so that the extents become a tree.
        for n in 0..40 {
            fs.preallocate(&file, FileBlock(20 + n * 3), 2, None, &none)
                .expect("preallocate");
        }
        assert!(file.attributes().blocks >= blocks + 80);
        fs.truncate(&file, size, &none).expect("truncate");
        assert_eq!(file.attributes().size, size);
        // The tree may keep its last leaf.
        assert!(file.attributes().blocks <= blocks + 1);
        assert!(fs.statfs().free + 1 >= free);
        assert!(!fs.is_truncating(&file));
    }
    assert_sound(fs.media(), false);
}
