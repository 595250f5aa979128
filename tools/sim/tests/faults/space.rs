// SPDX-License-Identifier: GPL-2.0

//! No space: each call at each level of what is left, from nothing on.
//!
//! The space is taken away by reserving it in memory, so that the medium is sound at every level, and in two ways: what is
//! left is in one piece, or in single blocks far apart.

use crate::calls::{Call, Promise, CALLS};
use crate::everything;
use crate::scene::{self, assert_same, Entry, Fs, InMemory, World};
use crate::sound::assert_sound;
use ochre::engine::alloc::policy::Purpose;
use ochre::engine::alloc::{AllocRequest, Window};
use ochre::engine::error::Error;
use ochre::engine::types::{FileBlock, FileKind, Ino, Run, Timestamp};
use std::collections::BTreeMap;

/// The most blocks that are left.
const MOST: u64 = 40;

/// All space but a few blocks.
pub struct Taken(Vec<Run>);

impl Taken {
    /// Takes all but `left` blocks, which are apart if `apart`.
    pub fn all_but(fs: &Fs, left: u64, apart: bool) -> Self {
        let volume = fs.volume();
        let request = AllocRequest {
            owner: Ino(1 << 40),
            ag: 0,
            goal: None,
            file_block: FileBlock(0),
            min: 1,
            max: 1 << 18,
            window: Window::NONE,
            purpose: Purpose::Removal,
        };
        let mut runs = Vec::new();
        while let Ok(reserved) = volume.reserve(&request) {
            runs.push(reserved.detach());
        }
        let single = |block| Run {
            start: block,
            len: 1,
        };
        let blocks = runs
            .iter()
            .flat_map(|run| (0..run.len).map(|n| run.start.plus(n)));
        let mut blocks: Vec<_> = blocks.map(single).collect();
        blocks.sort_by_key(|run| run.start);
        let step = if apart {
            blocks.len() / (left as usize + 1)
        } else {
            1
        };
        for n in (0..left as usize).rev() {
            volume.release(blocks.remove(n * step));
        }
        Self(blocks)
    }

    pub fn give_back(self, fs: &Fs) {
        for run in self.0 {
            fs.volume().release(run);
        }
    }
}

/// What a call that fails has to leave: in memory, and on the medium.
type Expected = (InMemory, BTreeMap<Ino, Entry>);

/// One call at one level; whether it succeeded.
fn at_level(call: &Call, left: u64, apart: bool, expected: &mut Option<Expected>) -> bool {
    let name = format!("{}, {left} blocks left, apart: {apart}", call.name);
    let world = World::open(scene::clean());
    (call.before)(&world);
    // The same at each level.
    let (before, recovered) =
        expected.get_or_insert_with(|| (world.in_memory(), world.recovered()));
    let taken = Taken::all_but(&world.fs, left, apart);
    let done = (call.run)(&world);
    assert_sound(world.fs.media(), false);
    assert!(!world.fs.is_read_only(), "{name}");
    if call.always {
        assert_eq!(done, Ok(()), "{name}");
    }
    if done.is_err() {
        assert_eq!(done, Err(Error::NoSpace), "{name}");
        let now = world.in_memory();
        match call.promise {
            Promise::Whole => {
                before.assert_same(&now, &name);
                assert_same(recovered, &world.recovered(), &name);
            }
            Promise::Shape => before.assert_same_content(&now, &name),
            Promise::Steps => {}
        }
        taken.give_back(&world.fs);
        (call.run)(&world).unwrap_or_else(|error| panic!("{name}, again: {error}"));
    } else {
        taken.give_back(&world.fs);
    }
    let media = world.close();
    assert_sound(&media, true);
    done.is_ok()
}

/// Blocks that wait for the checkpoint count as free: a call that finds no others makes one. Here it wants a chunk of inodes.
#[test]
fn quarantined_blocks_are_space() {
    let world = World::open(scene::clean());
    let (fs, dir, file) = (&world.fs, world.get("empty"), world.get("two"));
    let names = || (0..500).map(scene::long_name);
    for name in names() {
        fs.link(dir, name.as_bytes(), file, Timestamp(9))
            .expect("link");
    }
    for n in 0.. {
        let name = format!("{n}");
        let fifo = fs.create(
            world.get("dir"),
            name.as_bytes(),
            &scene::new(FileKind::Fifo),
        );
        if fifo.expect("create").ino().slot() == 63 {
            break;
        }
    }
    let taken = Taken::all_but(fs, 0, false);
    for name in names() {
        fs.unlink(dir, name.as_bytes(), file, Timestamp(9))
            .expect("unlink");
    }
    fs.create(world.get(""), b"new", &scene::new(FileKind::Fifo))
        .expect("there is space in the quarantine");
    taken.give_back(fs);
    assert_sound(&world.close(), true);
}

/// Levels where something changes, or all of them.
fn levels() -> Vec<u64> {
    if everything() {
        return (0..=MOST).collect();
    }
    vec![0, 1, 2, 4, 8, 9, 12, 16, 18, 32, 33, 36]
}

fn all(part: usize, parts: usize) {
    for call in CALLS.iter().skip(part).step_by(parts) {
        let (mut succeeded, mut expected) = (0, None);
        for (n, left) in levels().into_iter().enumerate() {
            succeeded += u64::from(at_level(call, left, n % 2 == 0, &mut expected));
            if everything() {
                at_level(call, left, n % 2 != 0, &mut expected);
            }
        }
        let hungry = ["fault of 2 MiB", "preallocate", "window"];
        assert!(
            succeeded > 0 || hungry.iter().any(|word| call.name.contains(word)),
            "{} never succeeds",
            call.name
        );
    }
}

#[test]
fn no_space_for_calls_1() {
    all(0, 2);
}

#[test]
fn no_space_for_calls_2() {
    all(1, 2);
}
