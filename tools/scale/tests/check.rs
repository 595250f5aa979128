// SPDX-License-Identifier: GPL-2.0

//! What a check costs is a matter of the metadata, not of the size.

use ochre::engine::fsck::{self, Issue, Observer, Options, Summary};
use ochre_scale::tree::{format, mount, populate, Plan};
use ochre_scale::{Accesses, Counting, Sparse};

const GIB: u64 = 1 << 30;

#[derive(Default)]
struct Log(Vec<String>);

impl Observer for Log {
    fn issue(&mut self, issue: &Issue) {
        self.0.push(issue.to_string());
    }
}

/// Checks a filesystem of `size` bytes with `inodes` inodes: what it met, what it did to the medium, and the blocks of all metadata.
fn check(size: u64, inodes: u64) -> (Summary, Accesses, u64) {
    let media = Sparse::new(size);
    format(&media, 1).expect("mkfs");
    let fs = mount(media.clone()).expect("mount");
    let plan = Plan {
        inodes,
        top: 100,
        orphans: 50,
        seed: 7,
    };
    populate(&fs, &plan).expect("a tree");
    fs.unmount().expect("unmount");
    let blocks = media.pages();
    let counting = Counting::new(media);
    let mut log = Log::default();
    let summary = fsck::check(&counting, Options::default(), &mut log).expect("check");
    assert_eq!(log.0, Vec::<String>::new());
    assert_eq!(summary.inodes, inodes + 50 + 1);
    (summary, counting.accesses(), blocks)
}

#[test]
fn fifty_thousand_files_on_64_gib() {
    let (summary, accesses, blocks) = check(64 * GIB, 50_000);
    println!("{accesses:?}, {blocks} blocks of metadata, {summary:?}");
    // 2 MiB for the bitmap of 64 GiB, some tens of bytes for each inode.
    assert!(
        summary.memory < (2 << 20) + 50_000 * 100,
        "{} bytes of memory",
        summary.memory
    );
    // Each block of metadata is read once or twice, and nothing else is.
    assert!(
        accesses.reads < 2 * blocks,
        "{accesses:?} for {blocks} blocks"
    );
    assert!(
        accesses.read_bytes < 2 * blocks * 4096,
        "{accesses:?} for {blocks} blocks"
    );
    assert_eq!(accesses.stores, 0);
}

/// The same tree on sixteen times the space: what is added is that of the groups.
#[test]
fn sixteen_times_the_space_costs_its_groups() {
    let (small, small_cost, _) = check(64 * GIB, 10_000);
    let (large, large_cost, _) = check(1024 * GIB, 10_000);
    assert_eq!(small.names, large.names);
    let groups = 1024 - 64;
    let more = large_cost.reads - small_cost.reads;
    assert!(more <= groups * 8, "{more} reads more");
    let more = large_cost.read_bytes - small_cost.read_bytes;
    assert!(more <= groups * (40 << 10), "{more} bytes more");
    let more = large.memory - small.memory;
    assert!(more <= groups * (33 << 10), "{more} bytes of memory more");
}
