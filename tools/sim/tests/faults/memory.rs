// SPDX-License-Identifier: GPL-2.0

//! No memory: each call, with each of its allocations failing in turn.
//!
//! That nothing allocates after a commit has begun is not tested here but asserted by the platform wherever tests commit.

use crate::calls::{Call, Promise, CALLS};
use crate::everything;
use crate::scene::{self, assert_same, tree, Fs, World};
use crate::sound::assert_sound;
use ochre::engine::error::{Error, Result};
use ochre::engine::filesystem::MountOptions;
use ochre::engine::fsck;
use ochre::platform::{allocation_failure_pending, fail_allocation_after};

/// Runs `call` with the allocation after the next `allowed` ones failing; whether it came to that.
fn starved<T>(allowed: u64, call: impl FnOnce() -> T) -> (T, bool) {
    fail_allocation_after(Some(allowed));
    let result = call();
    let reached = !allocation_failure_pending();
    fail_allocation_after(None);
    (result, reached)
}

/// A call with every allocation failing in turn: how many there were.
fn each_allocation(call: &Call) -> u64 {
    let mut expected = None;
    let mut allowed = 0;
    loop {
        let name = format!("{}, {allowed} allocations allowed", call.name);
        let world = World::open(scene::clean());
        (call.before)(&world);
        // The same each time.
        let (in_memory, recovered) =
            expected.get_or_insert_with(|| (world.in_memory(), world.recovered()));
        let (done, reached) = starved(allowed, || (call.run)(&world));
        assert_sound(world.fs.media(), false);
        if !reached {
            done.unwrap_or_else(|error| panic!("{name}: {error}"));
            world.close();
            return allowed;
        }
        assert!(!world.fs.is_read_only(), "{name}");
        if done.is_err() {
            assert_eq!(done, Err(Error::NoMemory), "{name}");
            let (now, again) = (world.in_memory(), world.recovered());
            match call.promise {
                Promise::Whole => {
                    in_memory.assert_same(&now, &name);
                    assert_same(recovered, &again, &name);
                }
                Promise::Shape => in_memory.assert_same_content(&now, &name),
                Promise::Steps => {}
            }
            (call.run)(&world).unwrap_or_else(|error| panic!("{name}, again: {error}"));
        }
        let media = world.close();
        assert_sound(&media, true);
        // Of calls that allocate very often, which repeat themselves, a share.
        allowed += if everything() { 1 } else { 1 + allowed / 32 };
    }
}

fn all(part: usize, parts: usize) {
    let mut total = 0;
    for call in CALLS.iter().skip(part).step_by(parts) {
        total += each_allocation(call);
    }
    assert!(total > 30, "{total} allocations failed: too few to be true");
}

#[test]
fn no_memory_for_calls_1() {
    all(0, 2);
}

#[test]
fn no_memory_for_calls_2() {
    all(1, 2);
}

/// Mounting: the image is mounted as well as before when there is memory again. After a crash that includes the replay and
/// the unfinished truncations and removals.
#[test]
fn no_memory_for_mounts() {
    for (image, clean) in [(scene::clean(), true), (scene::crashed(), false)] {
        let expected = tree(image.snapshot());
        for allowed in 0.. {
            let media = image.snapshot();
            let (mounted, reached) = starved(allowed, || {
                Fs::mount(media.clone(), &MountOptions::default())
            });
            if !reached {
                mounted.expect("mount");
                assert!(allowed > 9, "{allowed}");
                break;
            }
            assert_eq!(mounted.err(), Some(Error::NoMemory), "{allowed} allowed");
            assert_sound(&media, clean);
            assert_same(&expected, &tree(media), &format!("{allowed} allowed"));
        }
    }
}

/// What recovery found is finished in steps, each of which may want memory; nothing of it is forgotten.
#[test]
fn no_memory_for_orphans() {
    let image = scene::crashed();
    let expected = tree(image.snapshot());
    for allowed in 0.. {
        let media = image.snapshot();
        let fs = Fs::mount(media.clone(), &MountOptions::default()).expect("mount");
        let (done, reached) = starved(allowed, || fs.finish_orphans());
        assert_sound(&media, false);
        if !reached {
            done.expect("orphans");
            break;
        }
        if done.is_err() {
            assert_eq!(done, Err(Error::NoMemory));
        }
        fs.finish_orphans().expect("orphans");
        fs.unmount().expect("unmount");
        assert_sound(&media, true);
        // Without another mount: all was finished in this one.
        let orphans = Fs::mount(media.clone(), &MountOptions::default())
            .expect("mount")
            .stats()
            .orphans;
        assert_eq!(orphans, 0, "{allowed} allowed");
        assert_same(&expected, &tree(media), &format!("{allowed} allowed"));
    }
}

/// Getting an inode whose truncation a crash left unfinished finishes it first.
#[test]
fn no_memory_for_an_unfinished_truncation() {
    let image = scene::crashed();
    for allowed in 0.. {
        let media = image.snapshot();
        let fs = Fs::mount(media.clone(), &MountOptions::default()).expect("mount");
        let root = fs.iget(fs.root()).expect("root");
        let ino = fs.lookup(&root, b"cut").expect("lookup");
        let (got, reached) = starved(allowed, || fs.iget(ino).map(|inode| inode.attributes()));
        assert_sound(&media, false);
        if !reached {
            assert_eq!(got.expect("iget").blocks, 2);
            break;
        }
        if got.is_err() {
            assert_eq!(got, Err(Error::NoMemory));
            assert_eq!(fs.iget(ino).expect("iget").attributes().blocks, 2);
        }
        fs.unmount().expect("unmount");
        assert_sound(&media, true);
    }
}

/// Unmounting wants no memory, and the check says so when it has none.
#[test]
fn no_memory_for_unmount_and_check() {
    let world = World::open(scene::clean());
    scene::write(&world.fs, world.get("two"), 50, 3).expect("write");
    let (done, reached) = starved(0, || world.fs.unmount());
    done.expect("unmount");
    assert!(!reached, "unmount allocates");
    let media = world.fs.media().clone();
    struct Nothing;
    impl fsck::Observer for Nothing {
        fn issue(&mut self, issue: &fsck::Issue) {
            panic!("{issue:?}");
        }
    }
    let step = if everything() { 1 } else { 17 };
    for allowed in (0..10).chain((10..).step_by(step)) {
        let (done, reached): (Result<_>, _) = starved(allowed, || {
            fsck::check(&media, fsck::Options { unmounted: true }, &mut Nothing).map(drop)
        });
        if !reached {
            done.expect("check");
            break;
        }
        assert_eq!(done, Err(Error::NoMemory), "{allowed} allowed");
    }
}
