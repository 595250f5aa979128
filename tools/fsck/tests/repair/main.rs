// SPDX-License-Identifier: GPL-2.0

//! Whatever happened to an image: after a repair the check finds nothing, the engine mounts it, and
//! every file that was not damaged itself is there with its bytes.
//!
//! `OCHRE_SEED` repeats a run, `OCHRE_CASES=5000` makes it longer.

mod full;
mod identity;
mod interrupted;
mod random;

use std::collections::{BTreeMap, BTreeSet};

use ochre::engine::error::Error;
use ochre::engine::filesystem::{Filesystem, MountOptions};
use ochre::engine::fsck::{self, Action, Issue, Options, Outcome};
use ochre::engine::media::Media;
use ochre_testkit::contents::{contents, Item};
use ochre_testkit::{repair, Issues};

/// Cases of a random test: as many as asked for, else `default`.
fn cases(default: u64) -> u64 {
    let asked = std::env::var("OCHRE_CASES").ok();
    asked.map_or(default, |asked| asked.parse().expect("a number"))
}

fn issues_of<M: Media>(media: &M, unmounted: bool) -> Vec<Issue> {
    let mut issues = Issues::default();
    fsck::check(media, Options { unmounted }, &mut issues).expect("an Ochre image");
    issues.0
}

/// Files by number.
type Files = BTreeMap<u64, Item>;

/// Repairs, and holds the result against what it must be. `None`: there was no superblock to start
/// from, or one that says it is of another version.
fn repair_and_check<M: Media + Clone>(
    media: &M,
    before: &Files,
    touched: &BTreeSet<u64>,
    what: &str,
) -> Option<(Vec<Action>, Outcome)> {
    let (actions, outcome) = match repair(media) {
        Ok(done) => done,
        Err(
            Error::Corrupt(_)
            | Error::WrongVersion(_)
            | Error::UnknownFeatures(_)
            | Error::UnknownReadOnlyFeatures(_),
        ) => return None,
        Err(error) => panic!("{what}: {error}"),
    };
    if outcome.left == 0 {
        let again = issues_of(media, true);
        assert_eq!(again, [], "{what}: after {actions:?}");
    }
    compare(media.clone(), before, touched, &actions, what);
    if outcome.left == 0 {
        let (twice, _) = repair(media).expect("a second repair");
        assert_eq!(twice, [], "{what}: after {actions:?}");
        // The engine accepts it, finishes what was being removed, and leaves it sound.
        let options = MountOptions { read_only: false };
        let fs = Filesystem::mount(media.clone(), &options).expect("a mount");
        let finished = fs.finish_orphans();
        assert_eq!(finished, Ok(()), "{what}: after {actions:?}");
        fs.unmount().expect("an unmount");
        assert_eq!(issues_of(media, true), [], "{what}: after {actions:?}");
    }
    Some((actions, outcome))
}

/// Every file that was not touched has its bytes.
fn compare<M: Media>(
    media: M,
    before: &Files,
    touched: &BTreeSet<u64>,
    actions: &[Action],
    what: &str,
) {
    let after = contents(media);
    let after = after.unwrap_or_else(|error| panic!("{what}: {error}: after {actions:?}"));
    for (ino, item) in before {
        if touched.contains(ino) {
            continue;
        }
        let Some(found) = after.get(ino) else {
            panic!("{what}: inode {ino}, {item:?}, is gone: after {actions:?}");
        };
        assert_eq!(
            (found.kind, found.size, found.bytes),
            (item.kind, item.size, item.bytes),
            "{what}: inode {ino}, {item:?}: after {actions:?}"
        );
    }
}
