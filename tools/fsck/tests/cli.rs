// SPDX-License-Identifier: GPL-2.0

//! What `fsck.ochre` says, its exit status, and that it changes only what it may.

use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use ochre::engine::types::Block;
use ochre_testkit::{check, make, sample, save, Writer};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::{contains, is_empty};
use tempfile::TempDir;

fn fsck() -> Command {
    Command::cargo_bin("fsck-ochre").expect("built by cargo")
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("test.img");
    (directory, path)
}

/// An image whose filesystem was in use when the machine stopped, with a file and an orphan.
fn crashed(path: &std::path::Path) {
    let media = make(32 << 20);
    let mut writer = Writer::new(&media);
    let root = writer.root();
    let file = writer.create(&root, "file", 0o100644);
    writer.write(&file, 0, 3, 10_000, b'x');
    let gone = writer.create(&root, "gone", 0o100644);
    writer.write(&gone, 0, 2, 8192, b'g');
    let time = writer.now();
    writer
        .fs
        .unlink(&root, b"gone", &gone, time)
        .expect("unlink");
    save(&media, path).expect("an image file");
}

#[test]
fn a_clean_image() {
    let (_directory, path) = place();
    let media = make(32 << 20);
    save(&media, &path).expect("an image file");
    let before = fs::read(&path).expect("the image");
    fsck()
        .arg(&path)
        .assert()
        .code(0)
        .stdout(contains("no errors"));
    fsck()
        .args(["-f", "-y"])
        .arg(&path)
        .assert()
        .code(0)
        .stdout(contains("no errors"));
    fsck()
        .arg("-q")
        .arg(&path)
        .assert()
        .code(0)
        .stdout(is_empty());
    fsck()
        .arg("-p")
        .arg(&path)
        .assert()
        .code(0)
        .stdout(contains("clean"));
    fsck()
        .arg("-a")
        .arg(&path)
        .assert()
        .code(0)
        .stdout(contains("clean"));
    fsck()
        .args(["-p", "-f"])
        .arg(&path)
        .assert()
        .code(0)
        .stdout(contains("no errors"));
    fsck().args(["-n", "-C=0"]).arg(&path).assert().code(0);
    assert!(
        before == fs::read(&path).expect("the image"),
        "a clean image was written to"
    );
}

#[test]
fn after_a_crash_the_journal_is_replayed_and_orphans_are_finished() {
    let (_directory, path) = place();
    crashed(&path);
    let before = fs::read(&path).expect("the image");
    fsck()
        .arg("-n")
        .arg(&path)
        .assert()
        .code(0)
        .stdout(contains("journal replayed").and(contains("no errors")));
    assert!(
        before == fs::read(&path).expect("the image"),
        "-n wrote to the image"
    );
    fsck()
        .arg("-p")
        .arg(&path)
        .assert()
        .code(1)
        .stdout(contains("journal replayed").and(contains("1 orphan finished")));
    fsck()
        .arg("-f")
        .arg(&path)
        .assert()
        .code(0)
        .stdout(contains("1 file,"));
}

#[test]
fn damage_is_named_and_left() {
    let (_directory, path) = place();
    let sample = sample();
    sample.flip(sample.record_address(sample.file) + 32, 0);
    sample.save(&path).expect("an image file");
    let before = fs::read(&path).expect("the image");
    let message = format!("inode {}: wrong checksum", sample.file);
    for option in ["-n", "-y", "-p", "-f"] {
        let mut command = fsck();
        if option == "-p" {
            command.arg("-f");
        }
        command.arg(option).arg(&path).assert().code(4).stdout(
            contains(message.clone())
                .and(contains("1 error;"))
                .and(contains("errors left")),
        );
    }
    assert!(
        before == fs::read(&path).expect("the image"),
        "a damaged image was written to"
    );
}

#[test]
fn json() {
    let (_directory, path) = place();
    let sample = sample();
    sample.flip(sample.tree_root(sample.sparse).address() + 4000, 5);
    sample.save(&path).expect("an image file");
    let output = fsck()
        .args(["-n", "--json"])
        .arg(&path)
        .assert()
        .code(4)
        .get_output()
        .clone();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["status"], 4);
    assert_eq!(report["issues"][0]["issue"], "Node");
    assert_eq!(report["issues"].as_array().map(Vec::len), Some(1));
    assert_eq!(report["directories"], 4);
    assert_eq!(report["symlinks"], 2);
}

#[test]
fn damaged_superblocks() {
    let (_directory, path) = place();
    let sample = sample();
    sample.flip(100, 0);
    sample.save(&path).expect("an image file");
    fsck()
        .arg("-n")
        .arg(&path)
        .assert()
        .code(4)
        .stdout(contains("superblock: cannot be used"));
    let restored = contains("restored from its copy").and(contains("no errors"));
    fsck()
        .arg("-p")
        .arg(&path)
        .assert()
        .code(1)
        .stdout(restored);
    fsck().arg("-f").arg(&path).assert().code(0);
    let copy = Block(sample.info.geometry.blocks - 1).address();
    sample.flip(copy + 100, 0);
    sample.save(&path).expect("an image file");
    fsck()
        .arg("-n")
        .arg(&path)
        .assert()
        .code(4)
        .stdout(contains("copy of the superblock: wrong checksum").and(contains("ended early")));
}

#[test]
fn what_cannot_be_checked() {
    let (directory, path) = place();
    let fails = |message: &str| {
        fsck()
            .arg("-n")
            .arg(&path)
            .assert()
            .code(8)
            .stderr(contains(message.to_owned()));
    };
    fails("does not exist");
    fs::write(&path, vec![0; 1 << 20]).expect("a file");
    fails("holds no Ochre filesystem");
    save(&make(32 << 20), &path).expect("an image file");
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(31 << 20))
        .expect("a shorter file");
    fails("has 31 MiB, but its filesystem has 32 MiB");
    fsck()
        .arg(directory.path())
        .assert()
        .code(8)
        .stderr(contains("is a directory"));
    fsck()
        .arg("/dev/null")
        .assert()
        .code(8)
        .stderr(contains("is a character device"));
}

#[test]
fn newer_formats() {
    let (_directory, path) = place();
    let media = make(32 << 20);
    let mut info = ochre::engine::superblock::load(&media).expect("a superblock");
    info.features[2] = 1 << 40;
    media.damage(0, zerocopy::IntoBytes::as_bytes(&info.to_disk()));
    save(&media, &path).expect("an image file");
    fsck()
        .arg("-n")
        .arg(&path)
        .assert()
        .code(8)
        .stderr(contains("features 0x10000000000").and(contains("the version that made it")));
}

#[test]
fn wrong_usage() {
    fsck().assert().code(16).stderr(contains("DEVICE"));
    fsck()
        .args(["-n", "-y", "x"])
        .assert()
        .code(16)
        .stderr(contains("cannot be used with"));
    fsck()
        .args(["-p", "-y", "x"])
        .assert()
        .code(16)
        .stderr(contains("cannot be used with"));
    fsck().args(["--nonsense", "x"]).assert().code(16);
    fsck()
        .arg("--help")
        .assert()
        .success()
        .stdout(contains("Exit status"));
    fsck()
        .arg("-V")
        .assert()
        .success()
        .stdout(contains("fsck.ochre "));
}

#[test]
fn an_image_that_a_tool_is_writing_to() {
    let (_directory, path) = place();
    save(&make(32 << 20), &path).expect("an image file");
    let held = ochre_tools::device::open(&path, ochre_tools::device::Access::Write, None);
    fsck()
        .arg("-n")
        .arg(&path)
        .assert()
        .code(8)
        .stderr(contains("is being worked on"));
    drop(held);
    fsck().arg("-n").arg(&path).assert().code(0);
}

#[test]
fn the_sample_saved_is_the_sample() {
    let (_directory, path) = place();
    let sample = sample();
    assert_eq!(check(&sample.media).0, []);
    sample.save(&path).expect("an image file");
    // It was unmounted with an orphan, which is no error, and is finished.
    fsck().arg("-n").arg(&path).assert().code(0);
    fsck()
        .arg(&path)
        .assert()
        .code(1)
        .stdout(contains("1 orphan finished"));
    fsck().arg(&path).assert().code(0);
}
