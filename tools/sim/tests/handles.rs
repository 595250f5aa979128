// SPDX-License-Identifier: GPL-2.0

//! File handles whose number has another owner by now: they are stale, however soon it came. While the owner is being made its record
//! is half stored when it is read; that is no damage, and must not turn the filesystem read-only.

use ochre::engine::error::{Error, Result};
use ochre::engine::filesystem::{Filesystem, Inode, MountOptions, NewInode, RenameArgs};
use ochre::engine::media::Media;
use ochre::engine::types::{FileKind, Generation, Ino, Timestamp};
use ochre_sim::{image, MemoryMedia};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// How far the store of the record has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Before,
    Half,
    Read,
}

/// A medium on which the first half of a record stays alone for as long as it takes somebody to read it.
struct Halfway {
    media: MemoryMedia,
    /// Address of the record; 0: none.
    record: AtomicU64,
    step: Mutex<Step>,
    changed: Condvar,
}

impl Halfway {
    fn set(&self, step: Step) {
        *self.step.lock().expect("lock") = step;
        self.changed.notify_all();
    }

    fn wait(&self, step: Step) {
        let guard = self.step.lock().expect("lock");
        let wait = self
            .changed
            .wait_timeout_while(guard, Duration::from_secs(60), |now| *now != step);
        let (_guard, timeout) = wait.expect("lock");
        assert!(!timeout.timed_out(), "never came to {step:?}");
    }
}

impl Media for Halfway {
    ochre_sim::delegate!(media: size read_u64 store_u64 store_through zero zero_through write_back);
    ochre_sim::delegate!(media: fence drain is_synchronous sync_device phase);

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        let result = self.media.read(address, buffer);
        if address == self.record.load(Ordering::SeqCst) {
            let mut step = self.step.lock().expect("lock");
            if *step == Step::Half {
                *step = Step::Read;
                self.changed.notify_all();
            }
        }
        result
    }

    fn store(&self, address: u64, bytes: &[u8]) {
        if address != self.record.load(Ordering::SeqCst) || bytes.len() < 128 {
            return self.media.store(address, bytes);
        }
        let (first, rest) = bytes.split_at(64);
        self.media.store(address, first);
        self.set(Step::Half);
        self.wait(Step::Read);
        self.media.store(address + 64, rest);
    }
}

fn create<M: Media>(fs: &Filesystem<M>, root: &Inode, name: &[u8], time: i64) -> Inode {
    let new = NewInode::new(FileKind::Regular.mode_bits() | 0o644, Timestamp(time));
    fs.create(root, name, &new).expect("create")
}

/// `used`: the number had an owner before. Else its record is of a chunk that has just been made.
fn half_stored(used: bool) {
    let media = Halfway {
        media: image::formatted(64 << 20),
        record: AtomicU64::new(0),
        step: Mutex::new(Step::Before),
        changed: Condvar::new(),
    };
    let fs = Filesystem::mount(media, &MountOptions::default()).expect("mount");
    let root = fs.iget(fs.root()).expect("root");
    let first = create(&fs, &root, b"first", 1000);
    let (ino, generation, address) = (first.ino(), first.generation(), first.address());
    let (wanted, address) = if used {
        fs.unlink(&root, b"first", &first, Timestamp(1001))
            .expect("unlink");
        fs.evict(&first).expect("evict");
        (ino, address)
    } else {
        (Ino(ino.0 + 1), address + 256)
    };
    assert_eq!(fs.iget_handle(wanted, generation).err(), Some(Error::Stale));
    fs.media().record.store(address, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let handle = scope.spawn(|| {
            fs.media().wait(Step::Half);
            fs.iget_handle(wanted, generation).err()
        });
        let second = create(&fs, &root, b"second", 2000);
        assert_eq!(second.ino(), wanted, "the test wants this number");
        assert_eq!(handle.join().expect("thread"), Some(Error::Stale));
    });
    assert!(!fs.is_read_only(), "an old handle is no damage");
    fs.iget(wanted).expect("the new file");
    let generation = Generation(generation.0 ^ 1);
    assert_eq!(fs.iget_handle(wanted, generation).err(), Some(Error::Stale));
}

#[test]
fn of_a_number_that_is_used_again() {
    half_stored(true);
}

#[test]
fn of_a_number_that_is_used_for_the_first_time() {
    half_stored(false);
}

/// The clock that stamps files stands still for milliseconds at a time.
#[test]
fn of_a_number_that_is_used_again_in_the_same_moment() {
    // All clones are one medium.
    let media = image::formatted(64 << 20);
    let (mut number, mut seen) = (None, HashSet::new());
    for mount in 0..3 {
        let fs = Filesystem::mount(media.clone(), &MountOptions::default()).expect("mount");
        let root = fs.iget(fs.root()).expect("root");
        for round in 0..1000 {
            let file = create(&fs, &root, b"file", 1000);
            assert_eq!(*number.get_or_insert(file.ino()), file.ino());
            assert!(
                seen.insert(file.generation().0),
                "mount {mount}, round {round}: a handle of another file"
            );
            fs.unlink(&root, b"file", &file, Timestamp(1000))
                .expect("unlink");
            fs.evict(&file).expect("evict");
        }
        // Not unmounted: the next mount recovers.
    }
}

fn fresh() -> (Filesystem<MemoryMedia>, Inode) {
    let media = image::formatted(64 << 20);
    let fs = Filesystem::mount(media, &MountOptions::default()).expect("mount");
    let root = fs.iget(fs.root()).expect("root");
    (fs, root)
}

/// Who keeps a table of inodes by number must have the number before anybody can find it on the medium.
#[test]
fn of_a_number_that_is_being_claimed() {
    let (fs, root) = fresh();
    let new = NewInode::new(FileKind::Regular.mode_bits() | 0o644, Timestamp(1));
    let mut last = None;
    for round in 0..200 {
        let mut claimed = None;
        let claim = &mut |ino| {
            assert_eq!(fs.iget_number(ino).err(), Some(Error::Stale));
            claimed = Some(ino);
            Ok(())
        };
        let file = match round % 2 {
            0 => fs.create_claimed(&root, b"file", &new, claim),
            _ => fs.tmpfile_claimed(&new, claim),
        };
        let file = file.expect("create");
        assert_eq!(claimed, Some(file.ino()));
        let found = fs.iget_handle(file.ino(), file.generation());
        if round % 2 == 0 {
            found.expect("the file by its handle");
            fs.unlink(&root, b"file", &file, Timestamp(2))
                .expect("unlink");
        } else {
            assert_eq!(found.err(), Some(Error::Stale), "it has no name");
        }
        fs.evict(&file).expect("evict");
        assert_eq!(*last.get_or_insert(file.ino()), file.ino(), "used again");
    }
}

#[test]
fn a_refused_claim_leaves_nothing() {
    let (fs, root) = fresh();
    for kind in [FileKind::Regular, FileKind::Directory] {
        let new = NewInode::new(kind.mode_bits() | 0o755, Timestamp(1));
        let before = (fs.statfs(), root.attributes());
        let mut number = None;
        let refuse = &mut |ino| {
            number = Some(ino);
            Err(Error::Again)
        };
        let made = fs.create_claimed(&root, b"name", &new, refuse);
        assert_eq!(made.err(), Some(Error::Again));
        assert_eq!(fs.lookup(&root, b"name"), Err(Error::NotFound));
        if kind == FileKind::Regular {
            assert_eq!(fs.tmpfile_claimed(&new, refuse).err(), Some(Error::Again));
        }
        assert_eq!((fs.statfs(), root.attributes()), before);
        let made = fs.create(&root, b"name", &new).expect("create");
        assert_eq!(Some(made.ino()), number, "the number came back");
        match kind {
            FileKind::Directory => fs.rmdir(&root, b"name", &made, Timestamp(2)),
            _ => fs.unlink(&root, b"name", &made, Timestamp(2)),
        }
        .expect("remove");
        fs.evict(&made).expect("evict");
    }
    assert!(!fs.is_read_only());
}

/// A directory's parent is looked for with nobody kept from moving either: only what cannot be is damage.
#[test]
fn of_the_parent_of_a_directory_that_moves() {
    let (fs, root) = fresh();
    let mkdir = |dir: &Inode, name: &[u8]| {
        let new = NewInode::new(FileKind::Directory.mode_bits() | 0o755, Timestamp(1));
        fs.create(dir, name, &new).expect("mkdir")
    };
    let (p, q) = (mkdir(&root, b"P"), mkdir(&root, b"Q"));
    let d = mkdir(&p, b"d");
    let move_to = |from: &Inode, to: &Inode| {
        let args = RenameArgs {
            old_dir: from,
            old_name: b"d",
            inode: &d,
            new_dir: to,
            new_name: b"d",
            target: None,
            exchange: false,
            time: Timestamp(3),
        };
        fs.rename(&args).expect("rename");
    };

    let place = d.place();
    assert_eq!(place.parent, p.ino());
    assert_eq!(fs.check_parent(&d, place, Some(&p)), Ok(true));
    // Away and back: what was found in between may be another's.
    move_to(&p, &q);
    let file = create(&fs, &root, b"file", 1);
    assert_eq!(fs.check_parent(&d, place, Some(&file)), Ok(false));
    move_to(&q, &p);
    assert_eq!(fs.check_parent(&d, place, None), Ok(false));
    assert_eq!(fs.check_parent(&d, place, Some(&file)), Ok(false));
    // Away, and its parent's number free, and used again.
    let place = d.place();
    move_to(&p, &q);
    fs.rmdir(&root, b"P", &p, Timestamp(4)).expect("rmdir");
    assert_eq!(fs.iget_number(p.ino()).err(), Some(Error::Stale));
    fs.evict(&p).expect("evict");
    assert_eq!(fs.iget_number(p.ino()).err(), Some(Error::Stale));
    assert_eq!(fs.check_parent(&d, place, None), Ok(false));
    let next = mkdir(&root, b"next");
    assert_eq!(next.ino(), p.ino());
    let found = fs.iget_number(p.ino()).expect("the next owner");
    assert_eq!(fs.check_parent(&d, place, Some(&found)), Ok(false));
    // Removed: its record names its last parent, which may be gone.
    let place = d.place();
    fs.rmdir(&q, b"d", &d, Timestamp(5)).expect("rmdir");
    fs.rmdir(&root, b"Q", &q, Timestamp(5)).expect("rmdir");
    fs.evict(&q).expect("evict");
    assert_eq!(fs.check_parent(&d, place, None), Err(Error::Stale));
    fs.evict(&d).expect("evict");
    assert!(!fs.is_read_only());
    // Damage is what no such race explains.
    let e = mkdir(&next, b"e");
    let gone = fs.check_parent(&e, e.place(), None);
    assert!(matches!(gone, Err(Error::Corrupt(_))), "{gone:?}");
    assert!(fs.read_only_error());
    let file = fs.check_parent(&e, e.place(), Some(&file));
    assert!(matches!(file, Err(Error::Corrupt(_))), "{file:?}");
}
