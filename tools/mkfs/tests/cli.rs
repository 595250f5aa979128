// SPDX-License-Identifier: GPL-2.0

//! What `mkfs.ochre` makes, and every reason for which it refuses.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use ochre::engine::fsck::{self, Issue, Observer, Options};
use ochre::engine::superblock::{self, SuperInfo};
use ochre_tools::device::{open, Access};
use ochre_tools::image::Image;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use tempfile::TempDir;

fn mkfs() -> Command {
    Command::cargo_bin("mkfs-ochre").expect("built by cargo")
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("test.img");
    (directory, path)
}

struct NoIssue;

impl Observer for NoIssue {
    fn issue(&mut self, issue: &Issue) {
        panic!("{issue}");
    }
}

/// Fails unless the image is whole.
fn whole(path: &Path) -> SuperInfo {
    let image = Image::new(open(path, Access::Inspect, None).expect("the image"), 0);
    let summary = fsck::check(&image, Options::default(), &mut NoIssue).expect("an image");
    assert!(summary.complete);
    superblock::load(&image).expect("a superblock")
}

/// An image file of 32 MiB with some bytes in it.
fn holding(path: &Path, offset: usize, bytes: &[u8]) {
    let mut content = vec![0; 32 << 20];
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).expect("an image file");
}

#[test]
fn a_new_image_file() {
    let (_directory, path) = place();
    let uuid = "12345678-9abc-def0-1234-56789abcdef0";
    mkfs()
        .args(["-s", "64M", "-L", "data", "-U", uuid, "--lanes", "8"])
        .arg(&path)
        .assert()
        .success()
        .stdout(
            contains(uuid)
                .and(contains("64 MiB"))
                .and(contains("2 MiB in 8 lanes")),
        );
    let info = whole(&path);
    assert_eq!(info.geometry.lanes, 8);
    assert_eq!(&info.label[..5], b"data\0");
    assert_eq!(fs::metadata(&path).expect("the image").len(), 64 << 20);
}

#[test]
fn secrets_and_identity_differ_each_time() {
    let (_directory, path) = place();
    let make = || {
        mkfs()
            .args(["-q", "-f", "-s", "16M"])
            .arg(&path)
            .assert()
            .success()
            .stdout("");
        whole(&path)
    };
    let (one, other) = (make(), make());
    assert_ne!(one.uuid, other.uuid);
    assert_ne!(one.secret, other.secret);
    assert_ne!(one.hash_key, other.hash_key);
    assert_eq!(one.uuid[6] >> 4, 4, "a random uuid is of version 4");
}

#[test]
fn an_image_of_a_tebibyte_is_sparse() {
    use std::os::unix::fs::MetadataExt;
    let (_directory, path) = place();
    mkfs()
        .args(["-q", "-s", "1T"])
        .arg(&path)
        .assert()
        .success();
    let metadata = fs::metadata(&path).expect("the image");
    assert_eq!(metadata.len(), 1 << 40);
    assert!(
        metadata.blocks() * 512 < 100 << 20,
        "{} sectors",
        metadata.blocks()
    );
}

#[test]
fn extends_an_image_and_leaves_no_old_copy() {
    let (_directory, path) = place();
    mkfs()
        .args(["-q", "-s", "16M"])
        .arg(&path)
        .assert()
        .success();
    mkfs()
        .args(["-q", "-s", "32M", "-f"])
        .arg(&path)
        .assert()
        .success();
    assert_eq!(whole(&path).geometry.blocks, 8192);
    let content = fs::read(&path).expect("the image");
    let old_copy = (16 << 20) - 4096;
    assert!(content[old_copy..old_copy + 512]
        .iter()
        .all(|&byte| byte == 0));
}

#[test]
fn what_a_device_holds_is_not_overwritten_without_force() {
    let cases: [(usize, &[u8], &str); 6] = [
        (0x438, &[0x53, 0xef], "an ext2, ext3 or ext4 filesystem"),
        (0, b"XFSB", "an XFS filesystem"),
        (0x200, b"EFI PART", "a GPT partition table"),
        (0x1_0040, b"_BHRfS_M", "a Btrfs filesystem"),
        (0xff6, b"SWAPSPACE2", "a swap area"),
        (
            (32 << 20) - 0x200,
            b"EFI PART",
            "a GPT partition table (second copy)",
        ),
    ];
    for (offset, bytes, what) in cases {
        let (_directory, path) = place();
        holding(&path, offset, bytes);
        let before = fs::read(&path).expect("the image");
        mkfs()
            .arg(&path)
            .assert()
            .code(1)
            .stderr(contains(what).and(contains("-f")));
        assert!(
            before == fs::read(&path).expect("the image"),
            "{what}: was written to"
        );
        mkfs().args(["-q", "-f"]).arg(&path).assert().success();
        whole(&path);
        let after = fs::read(&path).expect("the image");
        assert_ne!(
            &after[offset..offset + bytes.len()],
            bytes,
            "{what}: its mark must go"
        );
    }
}

#[test]
fn an_ochre_filesystem_is_not_overwritten_without_force() {
    let (_directory, path) = place();
    mkfs()
        .args(["-q", "-s", "16M"])
        .arg(&path)
        .assert()
        .success();
    mkfs()
        .arg(&path)
        .assert()
        .code(1)
        .stderr(contains("holds an Ochre filesystem"));
    // Its copy alone is enough to ask.
    let mut content = fs::read(&path).expect("the image");
    content[..4096].fill(0);
    fs::write(&path, content).expect("the image");
    mkfs()
        .arg(&path)
        .assert()
        .code(1)
        .stderr(contains("the copy of its superblock"));
}

#[test]
fn too_small() {
    let (_directory, path) = place();
    mkfs()
        .args(["-s", "15M"])
        .arg(&path)
        .assert()
        .code(1)
        .stderr(
            contains("has 15 MiB")
                .and(contains("16 MiB"))
                .and(contains("--size")),
        );
    assert!(
        !path.exists(),
        "a file that could not be made into an image stays behind"
    );
}

#[test]
fn wrong_things_to_format() {
    let (directory, path) = place();
    mkfs()
        .arg(&path)
        .assert()
        .code(1)
        .stderr(contains("does not exist").and(contains("--size")));
    mkfs()
        .args(["-s", "1G", "/dev/there-is-no-such-device"])
        .assert()
        .code(1)
        .stderr(contains("does not exist"));
    mkfs()
        .arg(directory.path())
        .assert()
        .code(1)
        .stderr(contains("is a directory"));
    mkfs()
        .arg("/dev/null")
        .assert()
        .code(1)
        .stderr(contains("is a character device"));
}

#[test]
fn no_permission() {
    let (_directory, path) = place();
    fs::write(&path, vec![0; 16 << 20]).expect("an image file");
    let mut permissions = fs::metadata(&path).expect("the image").permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).expect("chmod");
    if fs::OpenOptions::new().write(true).open(&path).is_ok() {
        return; // root may write everywhere
    }
    mkfs()
        .arg(&path)
        .assert()
        .code(1)
        .stderr(contains("no permission to write"));
}

#[test]
fn wrong_usage() {
    let usage = |arguments: &[&str], message: &str| {
        mkfs()
            .args(arguments)
            .assert()
            .code(16)
            .stderr(contains(message.to_owned()));
    };
    usage(&[], "DEVICE");
    usage(&["-s", "7q", "x"], "unknown unit 'q'");
    usage(&["--lanes", "5", "x"], "4, 8, 16, 32 or 64");
    usage(
        &["-L", "a label that is much too long for 32 bytes", "x"],
        "too long",
    );
    usage(&["-U", "no-uuid", "x"], "UUID");
    mkfs()
        .arg("--help")
        .assert()
        .success()
        .stdout(contains("Examples"));
    mkfs()
        .arg("-V")
        .assert()
        .success()
        .stdout(contains("mkfs.ochre "));
}

#[test]
fn an_image_in_use_by_another_tool() {
    let (_directory, path) = place();
    fs::write(&path, vec![0; 16 << 20]).expect("an image file");
    let held = open(&path, Access::Write, None).expect("the image");
    mkfs()
        .arg(&path)
        .assert()
        .code(1)
        .stderr(contains("is being worked on"));
    drop(held);
    mkfs().arg("-q").arg(&path).assert().success();
}

/// A loop device, where the machine lets us have one.
struct Loop(String);

impl Loop {
    fn new(path: &Path) -> Option<Self> {
        let output = std::process::Command::new("losetup")
            .args(["-f", "--show"])
            .arg(path)
            .output();
        let output = output.ok().filter(|output| output.status.success())?;
        let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Path::new(&name).exists().then_some(Self(name))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup")
            .args(["-d", &self.0])
            .status();
    }
}

#[test]
fn a_block_device_that_cannot_be_mapped() {
    let (_directory, path) = place();
    fs::write(&path, vec![0; 32 << 20]).expect("an image file");
    let Some(device) = Loop::new(&path) else {
        println!("skipped: no loop device to be had");
        return;
    };
    let refuses = |arguments: &[&str], message: &str| {
        mkfs()
            .args(arguments)
            .assert()
            .code(1)
            .stderr(contains(message.to_owned()));
    };
    refuses(&[&device.0], "no DAX");
    refuses(&["-f", "-s", "64M", &device.0], "--size is for image files");
    let path = path.display().to_string();
    refuses(&["-f", &path], &format!("is in use as {}", device.0));
    mkfs()
        .args(["-q", "-f", &device.0])
        .assert()
        .success()
        .stderr(contains("warning"));
    let set = |option: &str| {
        let mut command = std::process::Command::new("blockdev");
        command
            .args([option, &device.0])
            .status()
            .is_ok_and(|status| status.success())
    };
    if set("--setro") {
        refuses(&["-f", &device.0], "is read-only");
        set("--setrw");
    }
    drop(device);
    whole(Path::new(&path));
}
