// SPDX-License-Identifier: GPL-2.0

//! Several threads at once, each in its own directory, all with links to one file and in the same groups, lanes and
//! orphan table: nothing deadlocks, and what they leave is sound.

#[path = "model/sound.rs"]
mod sound;

use ochre::engine::error::Error;
use ochre::engine::filesystem::{
    Filesystem, Inode, MountOptions, NewInode, PublishArgs, RenameArgs, Times,
};
use ochre::engine::types::{FileBlock, FileKind, Timestamp, BLOCK_SIZE};
use ochre::platform::set_current_cpu;
use ochre_sim::image;
use ochre_sim::seed::{seed, Random};
use ochre_sim::MemoryMedia;
use std::sync::Barrier;

const THREADS: usize = 4;
const ROUNDS: u64 = 2500;

fn new(kind: FileKind, time: i64) -> NewInode<'static> {
    NewInode::new(kind.mode_bits() | 0o755, Timestamp(time))
}

fn work(fs: &Filesystem<MemoryMedia>, dir: &Inode, shared: &Inode, random: &mut Random) {
    let mut files: Vec<(Vec<u8>, Inode)> = Vec::new();
    let mut linked = false;
    for round in 0..ROUNDS {
        let time = Timestamp(round as i64);
        let pick = random.below(files.len().max(1) as u64) as usize;
        match random.below(7) {
            0 | 1 => {
                let name = format!("file-{round}").into_bytes();
                let made = fs.create(dir, &name, &new(FileKind::Regular, round as i64));
                files.push((name, made.expect("create")));
            }
            2 if !files.is_empty() => {
                let (name, inode) = files.swap_remove(pick);
                fs.unlink(dir, &name, &inode, time).expect("unlink");
                fs.evict(&inode).expect("evict");
            }
            3 if !files.is_empty() => {
                let (_, inode) = &files[pick];
                let at = FileBlock(random.below(200));
                let reserved = fs.reserve_write(inode, at, 8, 0).expect("reserve");
                let len = reserved.len;
                let args = PublishArgs {
                    new_size: Some((at.0 + len) * BLOCK_SIZE),
                    times: Times::default(),
                };
                fs.publish(inode, reserved, len, &args).expect("publish");
            }
            4 if !files.is_empty() => {
                let (_, inode) = &files[pick];
                let size = random.below(300) * 1000;
                fs.truncate(inode, size, &Times::default())
                    .expect("truncate");
            }
            5 if !files.is_empty() => {
                let name = format!("moved-{round}").into_bytes();
                let (old, inode) = &mut files[pick];
                let args = RenameArgs {
                    old_dir: dir,
                    old_name: old,
                    inode,
                    new_dir: dir,
                    new_name: &name,
                    target: None,
                    exchange: false,
                    time,
                };
                fs.rename(&args).expect("rename");
                *old = name;
            }
            _ => {
                let done = if linked {
                    fs.unlink(dir, b"shared", shared, time)
                } else {
                    fs.link(dir, b"shared", shared, time)
                };
                done.expect("link of the shared file");
                linked = !linked;
                // Blocks of the shared file come and go too; another thread may be faster.
                let at = FileBlock(random.below(50));
                match fs.fault_allocate(shared, at, 1) {
                    Ok(_) | Err(Error::Again) => {}
                    Err(error) => panic!("{error:?}"),
                }
                fs.punch(shared, FileBlock(at.0 / 2), at, &Times::default())
                    .expect("punch");
            }
        }
    }
    for (name, inode) in &files {
        fs.unlink(dir, name, inode, Timestamp(0)).expect("unlink");
        fs.evict(inode).expect("evict");
    }
    if linked {
        fs.unlink(dir, b"shared", shared, Timestamp(0))
            .expect("unlink");
    }
}

#[test]
fn threads_leave_a_sound_filesystem() {
    let seed = seed("threads_leave_a_sound_filesystem");
    let fs = Filesystem::mount(image::formatted(128 << 20), &MountOptions::default());
    let fs = fs.expect("mount");
    let root = fs.iget(fs.root()).expect("root");
    let shared = fs
        .create(&root, b"shared", &new(FileKind::Regular, 1))
        .expect("create");
    let dirs: Vec<Inode> = (0..THREADS)
        .map(|n| {
            let name = format!("dir-{n}");
            let new = new(FileKind::Directory, 1);
            fs.create(&root, name.as_bytes(), &new).expect("mkdir")
        })
        .collect();
    std::thread::scope(|scope| {
        for (n, dir) in dirs.iter().enumerate() {
            let (fs, shared) = (&fs, &shared);
            scope.spawn(move || {
                set_current_cpu(n);
                work(fs, dir, shared, &mut Random::new(seed ^ n as u64));
            });
        }
    });
    assert_eq!(shared.attributes().nlink, 1);
    sound::assert_sound(fs.media(), false);
    for (n, dir) in dirs.iter().enumerate() {
        let name = format!("dir-{n}");
        fs.rmdir(&root, name.as_bytes(), dir, Timestamp(3))
            .expect("rmdir");
        fs.evict(dir).expect("evict");
    }
    fs.unmount().expect("unmount");
    sound::assert_sound(fs.media(), true);
}

/// A write and a fault in one file choose slots for its blocks at the same time: the file has one in the end, and none when it is
/// forgotten.
#[test]
fn no_slot_is_kept_for_a_file_that_is_gone() {
    const SLOT: u64 = 512;
    let seed = seed("no_slot_is_kept_for_a_file_that_is_gone");
    let fs = Filesystem::mount(image::formatted(512 << 20), &MountOptions::default());
    let fs = fs.expect("mount");
    let root = fs.iget(fs.root()).expect("root");
    for round in 0..3000 {
        let name = format!("file-{round}");
        let file = fs.create(&root, name.as_bytes(), &new(FileKind::Regular, round));
        let file = file.expect("create");
        let mut random = Random::new(seed ^ round as u64);
        let meet = Barrier::new(2);
        let (writes, faults): (Vec<_>, Vec<_>) = (0..20)
            .map(|n| (2 * n * SLOT + random.below(SLOT - 1), (2 * n + 1) * SLOT))
            .unzip();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                set_current_cpu(0);
                for at in writes {
                    meet.wait();
                    let reserved = fs
                        .reserve_write(&file, FileBlock(at), 1, 0)
                        .expect("reserve");
                    fs.publish(&file, reserved, 1, &PublishArgs::default())
                        .expect("publish");
                }
            });
            scope.spawn(|| {
                set_current_cpu(1);
                for at in faults {
                    meet.wait();
                    fs.fault_allocate(&file, FileBlock(at), 1).expect("fault");
                }
            });
        });
        fs.unlink(&root, name.as_bytes(), &file, Timestamp(round))
            .expect("unlink");
        fs.evict(&file).expect("evict");
        let group = fs.volume().group(0).expect("group");
        let map = &group.state.lock().map;
        let kept: Vec<_> = (0..255).filter(|&slot| map.owner(slot) != 0).collect();
        assert!(kept.is_empty(), "round {round}: slots {kept:?}");
    }
}
