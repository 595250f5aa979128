// SPDX-License-Identifier: GPL-2.0

//! The orphan table.

use super::*;

#[test]
fn garbage_in_the_table() {
    let sample = sample();
    let slot = sample.info.geometry.orphan_slot(9);
    sample.put_u64(slot, 0x1234_5678);
    finds_only(
        &sample,
        Issue::OrphanTarget {
            slot: 9,
            ino: 0x1234_5678,
        },
    );
}

#[test]
fn the_wrong_slot() {
    let sample = sample();
    let stored = sample.record(sample.orphan).orphan.get();
    let slot = stored - 1;
    sample.edit(sample.orphan, |record| record.orphan.set(stored + 5));
    finds_only(
        &sample,
        Issue::OrphanSlot {
            ino: sample.orphan,
            stored: stored + 5,
            slot,
        },
    );
}

#[test]
fn an_orphan_that_is_not_in_the_table() {
    let sample = sample();
    let stored = sample.record(sample.orphan).orphan.get();
    sample.put_u64(sample.info.geometry.orphan_slot(stored - 1), 0);
    finds(
        &sample,
        Issue::OrphanMissing {
            ino: sample.orphan,
            stored,
        },
    );
    finds(&sample, Issue::InodeUnreachable { ino: sample.orphan });
}

#[test]
fn an_unlinked_directory_with_entries() {
    let sample = sample();
    sample.edit(sample.sub, |record| record.nlink.set(0));
    finds(&sample, Issue::OrphanNotEmpty { ino: sample.sub });
}

#[test]
fn an_unreadable_table() {
    let sample = sample();
    sample.media.poison(sample.info.geometry.orphan_slot(0), 8);
    finds(&sample, Issue::OrphanUnreadable { slot: 0 });
}
