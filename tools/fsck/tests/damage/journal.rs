// SPDX-License-Identifier: GPL-2.0

//! The journal's header and its checkpoints.

use super::*;

#[test]
fn the_header() {
    let sample = sample();
    sample.flip(sample.info.geometry.journal.address() + 30, 1);
    finds_only(&sample, Issue::JournalHeader("wrong checksum"));
    let sample = ochre_testkit::sample();
    sample.flip(sample.info.geometry.journal.address(), 1);
    finds_only(&sample, Issue::JournalHeader("wrong magic number"));
}

#[test]
fn the_checkpoints() {
    let sample = sample();
    sample.flip(sample.info.geometry.journal.address() + 512, 0);
    assert_eq!(sample.issues(), [], "one of two slots may be torn");
    sample.flip(sample.info.geometry.journal.address() + 1024, 0);
    finds_only(&sample, Issue::NoCheckpoint);
}
