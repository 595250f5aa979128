// SPDX-License-Identifier: GPL-2.0

//! An image is damaged in one way, and the check must name that very thing.

mod directories;
mod extents;
mod groups;
mod inodes;
mod journal;
mod orphans;
mod superblocks;
mod symlinks;
mod trees;

use ochre::engine::format::ag;
use ochre::engine::format::superblock::DIRTY;
use ochre::engine::fsck::{Copy, EntryFault, Issue, NodeFault};
use ochre::engine::types::{Block, FileBlock, Ino};
use ochre_testkit::{check, sample, Sample};
use zerocopy::little_endian::U64;

/// Checks, and fails unless `expected` is among the issues.
#[track_caller]
fn finds(sample: &Sample, expected: Issue) {
    let issues = sample.issues();
    assert!(
        issues.contains(&expected),
        "expected {expected:?} among {issues:#?}"
    );
}

/// As [`finds`], and nothing else may be found.
#[track_caller]
fn finds_only(sample: &Sample, expected: Issue) {
    assert_eq!(sample.issues(), [expected]);
}

#[test]
fn the_sample_is_whole() {
    let sample = sample();
    let (issues, summary) = check(&sample.media);
    assert_eq!(issues, []);
    assert!(summary.complete);
    assert_eq!(
        (summary.directories, summary.symlinks, summary.orphans),
        (4, 2, 1)
    );
    assert_eq!(summary.files, 403);
    assert_eq!(summary.names, 8 + 401 + 1);
    assert!(summary.extents >= 602, "{summary:?}");
    let record = sample.record(sample.sparse);
    assert_eq!(
        record.height, 2,
        "the sample must have an index node of extents"
    );
    assert!(sample.record(sample.big).height >= 2, "and one of names");
}
