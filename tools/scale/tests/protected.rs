// SPDX-License-Identifier: GPL-2.0

//! Read-only mounts: what they store, what they refuse, and what a remount for writing finds to do.

use ochre::engine::error::{Error, Result};
use ochre::engine::filesystem::{Filesystem, MountOptions, NewInode};
use ochre::engine::fsck::{self, Issue, Observer, Options};
use ochre::engine::media::Media;
use ochre::engine::types::Timestamp;
use ochre::platform::fail_allocation_after;
use ochre_scale::wear::{worn, State};
use ochre_scale::{Counting, Sparse};

const SIZE: u64 = 1 << 30;
const TIME: Timestamp = Timestamp(1_700_000_001_000_000_000);

/// A write-protected medium: a store is a bug.
struct Protected(Sparse);

impl Media for Protected {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        self.0.read(address, buffer)
    }
    fn read_u64(&self, address: u64) -> Result<u64> {
        self.0.read_u64(address)
    }
    fn store(&self, address: u64, _bytes: &[u8]) {
        panic!("a store at {address:#x}");
    }
    fn store_u64(&self, address: u64, _value: u64) {
        panic!("a store at {address:#x}");
    }
    fn store_through(&self, address: u64, _bytes: &[u8]) {
        panic!("a store at {address:#x}");
    }
    fn zero(&self, address: u64, _len: u64) {
        panic!("a store at {address:#x}");
    }
    fn zero_through(&self, address: u64, _len: u64) {
        panic!("a store at {address:#x}");
    }
    fn write_back(&self, address: u64, _len: u64) {
        panic!("a write-back at {address:#x}");
    }
    fn fence(&self) {}
    fn drain(&self) {}
    fn is_synchronous(&self) -> bool {
        true
    }
    fn sync_device(&self) -> Result {
        Ok(())
    }
    fn phase(&self) -> u64 {
        0
    }
    fn is_write_protected(&self) -> bool {
        true
    }
}

fn mount<M: Media>(media: M, read_only: bool) -> Result<Filesystem<M>> {
    Filesystem::mount(media, &MountOptions { read_only })
}

fn names<M: Media>(fs: &Filesystem<M>) -> usize {
    let mut names = 0;
    let root = fs.iget(fs.root()).expect("root");
    let mut directories = Vec::new();
    fs.readdir(&root, 2, &mut |entry| {
        directories.push(entry.ino);
        true
    })
    .expect("readdir");
    for ino in directories {
        let directory = fs.iget(ino).expect("a directory");
        fs.readdir(&directory, 2, &mut |_| {
            names += 1;
            true
        })
        .expect("readdir");
    }
    names
}

#[derive(Default)]
struct Log(Vec<String>);

impl Observer for Log {
    fn issue(&mut self, issue: &Issue) {
        self.0.push(issue.to_string());
    }
}

fn issues<M: Media>(media: &M) -> Vec<String> {
    let mut log = Log::default();
    fsck::check(media, Options::default(), &mut log).expect("check");
    log.0
}

#[test]
fn what_was_unmounted_is_read_from_a_write_protected_medium() {
    let media = worn(SIZE, State::Clean).expect("a filesystem");
    let refused = mount(Protected(media.clone()), false).err();
    assert_eq!(refused, Some(Error::ReadOnly));
    let fs = mount(Protected(media), true).expect("mount");
    assert_eq!(names(&fs), 100);
    fs.statfs();
    assert_eq!(fs.remount(false), Err(Error::ReadOnly));
    assert!(fs.is_read_only());
    fs.unmount().expect("unmount");
}

#[test]
fn what_was_not_is_refused_there_until_it_was_replayed() {
    let media = worn(SIZE, State::Crashed).expect("a filesystem");
    let refused = mount(Protected(media.clone()), true).err();
    assert_eq!(refused, Some(Error::WriteProtected));
    assert_eq!(refused.map(|error| error.errno()), Some(30));
    let text = Error::WriteProtected.to_string();
    assert!(text.contains("blockdev --setrw"), "{text}");
    // Read-only, but not protected: the journal is replayed and nothing else is done.
    let fs = mount(media.clone(), true).expect("mount");
    assert!(fs.stats().replayed > 100);
    assert_eq!(names(&fs), 200);
    fs.unmount().expect("unmount");
    drop(fs);
    // Nothing is left to replay, so no store is needed, though the state is still dirty and counts are open.
    let fs = mount(Protected(media.clone()), true).expect("mount");
    assert_eq!((fs.stats().replayed, names(&fs)), (0, 200));
    let free = fs.statfs().free;
    drop(fs);
    let fs = mount(media.clone(), false).expect("mount");
    assert_eq!(fs.statfs().free, free);
    fs.unmount().expect("unmount");
    assert_eq!(issues(&media), Vec::<String>::new());
}

/// A crash after a recovery whose counts nobody asked for: they stay open until an unmount.
#[test]
fn open_counts_survive_a_second_crash() {
    let media = worn(8 * SIZE, State::Crashed).expect("a filesystem");
    let fs = mount(media.clone(), false).expect("mount");
    drop(fs);
    let fs = mount(media.clone(), false).expect("mount again");
    assert_eq!(fs.stats().replayed, 0);
    fs.unmount().expect("unmount");
    assert_eq!(issues(&media), Vec::<String>::new());
}

#[test]
fn a_remount_for_writing_finds_the_orphans_and_only_those() {
    let media = worn(SIZE, State::Crashed).expect("a filesystem");
    let fs = mount(Counting::new(media.clone()), true).expect("mount");
    let before = fs.statfs();
    fs.remount(false).expect("remount");
    // Files that are unlinked while open from now on belong to whoever has them open.
    let root = fs.iget(fs.root()).expect("root");
    let mut open = Vec::new();
    for n in 0..200 {
        let new = NewInode::new(0o100600, TIME);
        let name = format!("open {n}");
        let inode = fs.create(&root, name.as_bytes(), &new).expect("create");
        fs.unlink(&root, name.as_bytes(), &inode, TIME)
            .expect("unlink");
        open.push(inode);
    }
    let mut found = 0;
    while let Some(orphan) = fs.next_orphan() {
        let ino = orphan.ino;
        assert!(open.iter().all(|inode| inode.ino() != ino), "a file in use");
        assert!(fs.take_orphan(orphan));
        let inode = fs.iget_orphan(ino).expect("an orphan");
        fs.evict(&inode).expect("evict");
        found += 1;
    }
    assert_eq!(found, 100);
    assert_eq!(fs.stats().orphans, 100);
    for inode in open {
        fs.evict(&inode).expect("evict");
    }
    assert!(
        fs.statfs().free >= before.free + 100 - 20,
        "each had a block"
    );
    fs.unmount().expect("unmount");
    drop(fs);
    assert_eq!(issues(&media), Vec::<String>::new());
}

/// A newer version's features may allow reading only: then its journal cannot be replayed, and what it left cannot be shown.
#[test]
fn records_of_a_newer_version_are_not_passed_over() {
    use ochre::engine::checksum;
    use ochre::engine::format::superblock::CHECKED;
    for (state, expected) in [
        (State::Clean, None),
        (State::Crashed, Some(Error::UnknownFeatures(1 << 9))),
    ] {
        let media = worn(SIZE, state).expect("a filesystem");
        media.store_u64(32, 1 << 9);
        let mut covered = [0; CHECKED];
        media.read(0, &mut covered).expect("read");
        media.store_u64(8, checksum::superblock(&covered));
        let before = media.snapshot();
        assert_eq!(
            mount(media.clone(), false).err(),
            Some(Error::UnknownReadOnlyFeatures(1 << 9))
        );
        assert_eq!(mount(media.clone(), true).err(), expected);
        let (mut one, mut other) = ([0; 4096], [0; 4096]);
        for block in 0..2000u64 {
            before.read(block * 4096, &mut one).expect("read");
            media.read(block * 4096, &mut other).expect("read");
            assert!(one == other, "block {block} changed");
        }
    }
}

/// A remount to read-only counts what a recovery left uncounted; want of memory is no reason to refuse it.
#[test]
fn a_remount_to_read_only_wants_no_memory() {
    let media = worn(2 * SIZE, State::Crashed).expect("a filesystem");
    let fs = mount(media.clone(), false).expect("mount");
    fail_allocation_after(Some(0));
    let done = fs.remount(true);
    fail_allocation_after(None);
    done.expect("remount");
    assert!(fs.is_read_only());
    assert_eq!(issues(&media), Vec::<String>::new());
}

/// Damage that a remount to read-only meets leaves it read-only, for good.
#[test]
fn a_remount_that_meets_damage_leaves_it_read_only() {
    let media = worn(2 * SIZE, State::Crashed).expect("a filesystem");
    let fs = mount(media.clone(), false).expect("mount");
    let second = fs.volume().geometry().ag_base(1).address();
    media.store(second, &[0xaa; 64]);
    let done = fs.remount(true);
    assert!(matches!(done, Err(Error::Corrupt(_))), "{done:?}");
    assert!(fs.read_only_error());
    assert_eq!(fs.remount(true), Ok(()), "so it is");
    assert_eq!(fs.remount(false), Err(Error::ReadOnly));
}
