// SPDX-License-Identifier: GPL-2.0

//! An image is damaged in one way, and the check must name that very thing. Then it is repaired: a
//! second check must find nothing, and every file that no issue speaks of must have its bytes.

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
use ochre_testkit::contents::contents;
use ochre_testkit::{check, repair, sample, Sample};
use zerocopy::little_endian::U64;

/// Checks, and fails unless `expected` is among the issues.
#[track_caller]
fn finds(sample: &Sample, expected: Issue) {
    let issues = sample.issues();
    assert!(
        issues.contains(&expected),
        "expected {expected:?} among {issues:#?}"
    );
    repairs(sample, &issues);
}

/// As [`finds`], and nothing else may be found.
#[track_caller]
fn finds_only(sample: &Sample, expected: Issue) {
    assert_eq!(sample.issues(), [expected]);
    repairs(sample, &[expected]);
}

/// The inode that an issue speaks of.
fn subject(issue: &Issue) -> Option<Ino> {
    use Issue::*;
    match *issue {
        InodeUnreadable { ino }
        | InodeMagic { ino }
        | InodeChecksum { ino }
        | InodeNumber { ino, .. }
        | InodeMode { ino, .. }
        | InodeRoot { ino, .. }
        | InodeSize { ino, .. }
        | InodeField { ino, .. }
        | Node { ino, .. }
        | Pointer { ino, .. }
        | TreeHeight { ino, .. }
        | ExtentLength { ino, .. }
        | ExtentOrder { ino, .. }
        | ExtentOverlap { ino, .. }
        | ExtentBounds { ino, .. }
        | ExtentParked { ino, .. }
        | SymlinkTarget { ino } => Some(ino),
        _ => None,
    }
}

/// Repairs a copy of the image, checks it again, and compares the files.
#[track_caller]
fn repairs(sample: &Sample, issues: &[Issue]) {
    let media = sample.media.snapshot();
    let (actions, outcome) = repair(&media).expect("a repair");
    let (again, _) = check(&media);
    assert_eq!(again, [], "after {actions:#?} for {issues:#?}");
    assert_eq!((outcome.left, outcome.refused), (0, None), "{actions:#?}");
    assert_eq!(outcome.actions, actions.len() as u64);
    let whole = ochre_testkit::sample();
    let before = contents(whole.media).expect("the sample");
    let after = contents(media).expect("the repaired sample");
    for (ino, item) in before {
        if issues.iter().filter_map(subject).any(|it| it == Ino(ino)) {
            continue;
        }
        let found = after.get(&ino);
        let found = found.unwrap_or_else(|| panic!("{item:?} is gone: {actions:#?}"));
        assert_eq!(
            (found.kind, found.size, found.bytes),
            (item.kind, item.size, item.bytes),
            "{item:?}: {actions:#?}"
        );
    }
}

#[test]
fn a_repair_of_a_sound_image_changes_nothing() {
    let sample = sample();
    let before = contents(sample.media.clone()).expect("the sample");
    let (actions, outcome) = repair(&sample.media).expect("a repair");
    assert_eq!(actions, []);
    assert_eq!(outcome.actions, 0);
    assert_eq!(check(&sample.media).0, []);
    assert_eq!(contents(sample.media).expect("the sample"), before);
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
