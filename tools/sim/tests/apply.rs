// SPDX-License-Identifier: GPL-2.0

//! What others may meet while a transaction is being applied, and what becomes of one whose record did not reach the device.

use ochre::engine::error::{Error, Result};
use ochre::engine::filesystem::{Filesystem, MountOptions, NewInode, PublishArgs, Times};
use ochre::engine::media::Media;
use ochre::engine::types::{FileBlock, FileKind, Timestamp, BLOCK_SIZE};
use ochre::platform::set_current_cpu;
use ochre_sim::{image, MemoryMedia};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Mutex;
use std::time::Duration;

#[path = "model/sound.rs"]
mod sound;

use sound::assert_sound;

/// A medium that stops when a place is written back, once, and whose flushes can fail.
struct Watched {
    media: MemoryMedia,
    /// Address of the place; 0: none.
    place: AtomicU64,
    came: Mutex<Sender<()>>,
    go_on: Mutex<Receiver<()>>,
    broken: AtomicBool,
}

impl Media for Watched {
    ochre_sim::delegate!(media: size read read_u64 store store_u64 store_through zero zero_through);
    ochre_sim::delegate!(media: fence drain is_synchronous phase);

    fn write_back(&self, address: u64, len: u64) {
        self.media.write_back(address, len);
        let place = self.place.load(Ordering::SeqCst);
        if place != 0 && (address..address + len).contains(&place) {
            self.place.store(0, Ordering::SeqCst);
            let _ = self.came.lock().expect("came").send(());
            let patience = Duration::from_secs(60);
            let told = self.go_on.lock().expect("go on").recv_timeout(patience);
            told.expect("nobody lets the apply go on");
        }
    }

    fn sync_device(&self) -> Result {
        match self.broken.load(Ordering::SeqCst) {
            true => Err(Error::Io),
            false => Ok(()),
        }
    }
}

/// With what tells that the apply has come to the place, and lets it go on.
fn watched(media: MemoryMedia) -> (Watched, Receiver<()>, Sender<()>) {
    let ((came, has_come), (go, go_on)) = (channel(), channel());
    let media = Watched {
        media,
        place: AtomicU64::new(0),
        came: Mutex::new(came),
        go_on: Mutex::new(go_on),
        broken: AtomicBool::new(false),
    };
    (media, has_come, go)
}

fn new() -> NewInode<'static> {
    NewInode::new(FileKind::Regular.mode_bits() | 0o644, Timestamp(5))
}

/// The slot of an inode whose truncate a crash left is emptied by one, and taken by another before the first is done.
#[test]
fn a_slot_of_the_orphan_table_has_one_owner() {
    let media = image::formatted(24 << 20);
    {
        let fs = Filesystem::mount(media.clone(), &MountOptions::default()).expect("mount");
        let root = fs.iget(fs.root()).expect("root");
        let file = fs.create(&root, b"file", &new()).expect("create");
        let reserved = fs
            .reserve_write(&file, FileBlock(0), 9, 0)
            .expect("reserve");
        let args = PublishArgs {
            new_size: Some(9 * BLOCK_SIZE),
            times: Times::default(),
        };
        fs.publish(&file, reserved, 9, &args).expect("publish");
        fs.truncate_size(&file, BLOCK_SIZE, &Times::default())
            .expect("truncate");
    }
    let (media, has_come, go) = watched(media);
    let fs = Filesystem::mount(media, &MountOptions::default()).expect("mount");
    let root = fs.iget(fs.root()).expect("root");
    let ino = fs.lookup(&root, b"file").expect("lookup");
    let slot = fs.volume().geometry().orphan_slot(0);
    fs.media().place.store(slot, Ordering::SeqCst);
    let first = std::thread::scope(|scope| {
        let opener = scope.spawn(|| {
            set_current_cpu(1);
            fs.iget(ino).expect("iget")
        });
        has_come
            .recv_timeout(Duration::from_secs(60))
            .expect("the slot was never emptied");
        set_current_cpu(0);
        let first = fs.tmpfile(&new()).expect("tmpfile");
        go.send(()).expect("go on");
        opener.join().expect("opener");
        first
    });
    let second = fs.tmpfile(&new()).expect("tmpfile");
    for (what, inode) in [("first", first), ("second", second)] {
        fs.evict(&inode)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    assert!(!fs.read_only_error());
    fs.evict(&root).expect("evict");
    fs.unmount().expect("unmount");
    assert_sound(&fs.media().media, true);
}

/// The record may be missing while what it describes is in place: nothing more is changed.
#[test]
fn a_device_that_does_not_flush_a_record_is_read_only() {
    let media = image::formatted(24 << 20).asynchronous();
    let (media, _has_come, _go) = watched(media);
    let fs = Filesystem::mount(media, &MountOptions::default()).expect("mount");
    let root = fs.iget(fs.root()).expect("root");
    fs.create(&root, b"before", &new()).expect("create");
    assert!(!fs.read_only_error());
    fs.media().broken.store(true, Ordering::SeqCst);
    // It has happened in memory; whoever wants it durable calls fsync, which fails.
    let _ = fs.create(&root, b"lost", &new());
    assert!(fs.read_only_error());
    fs.media().broken.store(false, Ordering::SeqCst);
    assert_eq!(
        fs.create(&root, b"after", &new()).err(),
        Some(Error::ReadOnly)
    );
}
