// SPDX-License-Identifier: GPL-2.0

//! Extents in a record.

use super::*;
use ochre::engine::filesystem::{Filesystem, MountOptions};

/// Changes the words of extent `index` in the record of `file`.
fn edit_inline(sample: &Sample, index: usize, position: u64, target: u64) {
    sample.edit(sample.file, |record| {
        record.inline[index * 16..index * 16 + 8].copy_from_slice(&position.to_le_bytes());
        record.inline[index * 16 + 8..index * 16 + 16].copy_from_slice(&target.to_le_bytes());
        record.count = record.count.max(u8::try_from(index + 1).expect("small"));
    });
}

fn words(sample: &Sample) -> (u64, u64) {
    let at = sample.record_address(sample.file) + 144;
    (sample.u64_at(at), sample.u64_at(at + 8))
}

#[test]
fn an_empty_one() {
    let sample = sample();
    edit_inline(&sample, 0, 0, words(&sample).1);
    finds(
        &sample,
        Issue::ExtentLength {
            ino: sample.file,
            file_block: FileBlock(0),
        },
    );
}

#[test]
fn one_behind_the_largest_file() {
    let sample = sample();
    let last = (1 << 44) - 1;
    edit_inline(&sample, 0, last << 20 | 3, words(&sample).1);
    finds(
        &sample,
        Issue::ExtentLength {
            ino: sample.file,
            file_block: FileBlock(last),
        },
    );
}

#[test]
fn outside_the_data() {
    for block in [0, 513, sample().info.geometry.ag_base(0).0, 16383, 1 << 40] {
        let sample = sample();
        edit_inline(&sample, 0, 3, block << 1);
        let issue = Issue::ExtentBounds {
            ino: sample.file,
            file_block: FileBlock(0),
            block: Block(block),
        };
        finds(&sample, issue);
    }
}

#[test]
fn order_and_overlap() {
    let sample = sample();
    let (position, target) = words(&sample);
    assert_eq!(position, 3, "one extent of three blocks");
    let free = sample.free_block().0;
    edit_inline(&sample, 1, 2 << 20 | 1, free << 1);
    finds(
        &sample,
        Issue::ExtentOverlap {
            ino: sample.file,
            file_block: FileBlock(2),
        },
    );
    edit_inline(&sample, 0, 5 << 20 | 3, target);
    finds(
        &sample,
        Issue::ExtentOrder {
            ino: sample.file,
            file_block: FileBlock(2),
        },
    );
}

#[test]
fn a_block_of_two_files() {
    let sample = sample();
    let other = sample.u64_at(sample.record_address(sample.orphan) + 152) >> 1;
    edit_inline(&sample, 1, 9 << 20 | 1, other << 1);
    let issues = sample.issues();
    let shared = issues
        .iter()
        .any(|issue| matches!(issue, Issue::BlockShared { block, .. } if block.0 == other));
    assert!(shared, "{issues:?}");
}

#[test]
fn one_where_no_file_reaches() {
    let sample = sample();
    let free = sample.free_block().0;
    let parked = FileBlock::PARKED.0 + 7;
    edit_inline(&sample, 1, parked << 20 | 1, free << 1);
    let issue = Issue::ExtentParked {
        ino: sample.file,
        file_block: FileBlock(parked),
    };
    finds(&sample, issue);
}

/// What a crash leaves of a file whose held pages were punched: its intent is on the orphan table.
fn with_parked(damage: fn(&Sample)) -> Vec<Issue> {
    let mut sample = sample();
    let fs = Filesystem::mount(sample.media.snapshot(), &MountOptions::default()).expect("a mount");
    let file = fs.iget(sample.file).expect("the file");
    fs.park(&file, FileBlock(1), 1, FileBlock::PARKED.plus(1))
        .expect("parked");
    fs.unmount().expect("an unmount");
    sample.media = fs.media().snapshot();
    damage(&sample);
    let issues = sample.issues();
    let media = sample.media.snapshot();
    repair(&media).expect("a repair");
    assert_eq!(check(&media).0, [], "after {issues:#?}");
    let fs = Filesystem::mount(media, &MountOptions::default()).expect("a mount");
    fs.finish_orphans().expect("orphans");
    fs.unmount().expect("an unmount");
    assert_eq!(check(fs.media()).0, [], "finished, after {issues:#?}");
    issues
}

#[test]
fn parked_ones_belong_to_a_file_that_is_on_the_orphan_table() {
    assert_eq!(with_parked(|_| ()), []);
    let lost = with_parked(|sample| {
        let slot = sample.record(sample.file).orphan.get() - 1;
        sample.put_u64(sample.info.geometry.orphan_slot(slot), 0);
    });
    assert!(
        matches!(lost[..], [Issue::OrphanMissing { .. }]),
        "{lost:?}"
    );
    let unsaid = with_parked(|sample| {
        sample.edit(sample.file, |record| {
            record.orphan.set(0);
            record.pending = 0;
        });
    });
    let parked = |issue: &Issue| matches!(issue, Issue::ExtentParked { .. });
    assert!(unsaid.iter().any(parked), "{unsaid:?}");
    // The links are lost as well, so that it looks like one that was being removed.
    let unlinked = with_parked(|sample| {
        sample.edit(sample.file, |record| record.nlink.set(0));
    });
    assert!(!unlinked.iter().any(parked), "{unlinked:?}");
}
