// SPDX-License-Identifier: GPL-2.0

//! A mount does the same to a medium of 1 GiB and of 1 TiB, after an unmount and after a crash.

use ochre_scale::tree::mount;
use ochre_scale::wear::{worn, State};
use ochre_scale::{Accesses, Counting};

const GIB: u64 = 1 << 30;

/// What a mount does, how many records it replays, and what the next two calls of statfs do.
fn cost(size: u64, state: State) -> (Accesses, u64, Accesses, Accesses) {
    let media = worn(size, state).expect("a worn filesystem");
    let fs = mount(Counting::new(media)).expect("mount");
    let mounted = fs.media().accesses();
    let before = fs.statfs();
    let first = fs.media().accesses();
    assert_eq!(fs.statfs(), before);
    let second = fs.media().accesses();
    let replayed = fs.stats().replayed;
    // What recovery left open is made good: the check of an unmounted image counts everything.
    let mut orphans = 0;
    while let Some(orphan) = fs.next_orphan() {
        assert!(fs.take_orphan(orphan));
        let inode = fs.iget_orphan(orphan.ino).expect("an orphan");
        fs.evict(&inode).expect("evict");
        orphans += 1;
    }
    let expected = if state == State::Full { 10_000 } else { 100 };
    assert_eq!(orphans, expected);
    fs.unmount().expect("unmount");
    let mut issues = Vec::new();
    struct Log<'a>(&'a mut Vec<String>);
    impl ochre::engine::fsck::Observer for Log<'_> {
        fn issue(&mut self, issue: &ochre::engine::fsck::Issue) {
            self.0.push(issue.to_string());
        }
    }
    let options = ochre::engine::fsck::Options::default();
    ochre::engine::fsck::check(fs.media(), options, &mut Log(&mut issues)).expect("check");
    assert_eq!(issues, Vec::<String>::new(), "{state:?} of {size}");
    (
        mounted,
        replayed,
        first.since(&mounted),
        second.since(&first),
    )
}

fn near(small: u64, large: u64, what: &str) {
    let (less, more) = (small.min(large), small.max(large));
    assert!(
        more * 10 <= less * 11,
        "{what}: {small} at 1 GiB, {large} at 1 TiB"
    );
}

fn the_same(state: State) -> (Accesses, u64) {
    let (small, replayed, _, _) = cost(GIB, state);
    let (large, replayed_large, first, second) = cost(1024 * GIB, state);
    near(replayed, replayed_large, "records");
    near(small.reads, large.reads, "reads");
    near(small.read_bytes, large.read_bytes, "bytes read");
    near(small.stores, large.stores, "stores");
    near(small.store_bytes, large.store_bytes, "bytes stored");
    near(small.write_backs, large.write_backs, "lines written back");
    near(small.fences, large.fences, "fences");
    // The first statfs asks each group once, and counts those that recovery left open; later ones ask none.
    assert!(first.reads <= 1024 + 8 * 100, "statfs: {first:?}");
    assert_eq!(second.total(), 0, "statfs again: {second:?}");
    (large, replayed)
}

#[test]
fn after_an_unmount() {
    let (large, replayed) = the_same(State::Clean);
    assert_eq!(replayed, 0);
    // Superblock, journal header, two checkpoint slots; the dirty mark.
    assert!(large.total() <= 10, "{large:?}");
}

#[test]
fn after_a_crash() {
    let (_, replayed) = the_same(State::Crashed);
    assert!(replayed > 100, "{replayed}");
}

/// The most that a recovery can have to do, and what bounds it: the size of the journal.
#[test]
fn after_a_crash_with_a_full_journal_and_ten_thousand_orphans() {
    let (large, replayed) = the_same(State::Full);
    assert!(replayed > 9000, "{replayed}");
    let journal = 16 * 4 * (64 << 10);
    // Each record is read when it is found and when it is repeated; the words of bitmaps that it changes are read too.
    assert!(large.read_bytes < 2 * journal + (1 << 20), "{large:?}");
    assert!(large.store_bytes < journal, "{large:?}");
}
