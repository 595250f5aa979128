// SPDX-License-Identifier: GPL-2.0

//! The superblock and its copy.

use super::*;

#[test]
fn a_flipped_bit_in_the_primary() {
    let sample = sample();
    sample.flip(200, 3);
    let issues = sample.issues();
    assert_eq!(
        issues[0],
        Issue::SuperblockDamaged(Copy::Primary, "wrong checksum")
    );
    assert_eq!(issues.len(), 1, "{issues:?}");
}

#[test]
fn a_flipped_bit_in_the_copy() {
    let sample = sample();
    sample.flip(Block(sample.info.geometry.blocks - 1).address() + 100, 0);
    finds_only(
        &sample,
        Issue::SuperblockDamaged(Copy::Backup, "wrong checksum"),
    );
}

#[test]
fn an_erased_primary_and_an_erased_copy() {
    let sample = sample();
    sample.media.damage(0, &[0; 440]);
    finds_only(
        &sample,
        Issue::SuperblockDamaged(Copy::Primary, "is missing"),
    );
    let sample = ochre_testkit::sample();
    let copy = Block(sample.info.geometry.blocks - 1).address();
    sample.media.damage(copy, &[0; 512]);
    finds_only(
        &sample,
        Issue::SuperblockDamaged(Copy::Backup, "is missing"),
    );
}

#[test]
fn both_damaged_end_the_check() {
    let sample = sample();
    sample.flip(100, 0);
    sample.flip(Block(sample.info.geometry.blocks - 1).address() + 100, 0);
    let (issues, summary) = check(&sample.media);
    assert_eq!(issues.len(), 2);
    assert!(!summary.complete);
}

#[test]
fn a_stale_copy() {
    let sample = sample();
    let mut other = sample.info;
    other.uuid[0] ^= 1;
    let copy = Block(sample.info.geometry.blocks - 1).address();
    sample
        .media
        .damage(copy, zerocopy::IntoBytes::as_bytes(&other.to_disk()));
    finds_only(&sample, Issue::SuperblocksDiffer);
}

#[test]
fn a_geometry_that_cannot_be() {
    let sample = sample();
    let mut other = sample.info;
    other.geometry.ag_start = Block(other.geometry.ag_start.0 + 1);
    sample
        .media
        .damage(0, zerocopy::IntoBytes::as_bytes(&other.to_disk()));
    finds(&sample, Issue::Geometry("start of the groups"));
}

#[test]
fn not_unmounted() {
    let sample = sample();
    sample.put_u64(448, DIRTY);
    finds_only(&sample, Issue::NotClean(DIRTY));
}
