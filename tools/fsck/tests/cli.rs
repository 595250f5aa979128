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

/// An image with an inode whose checksum is wrong beyond one word, and its message.
fn damaged(path: &std::path::Path) -> String {
    let sample = sample();
    let record = sample.record_address(sample.file);
    sample.flip(record + 32, 0);
    sample.flip(record + 36, 0);
    sample.save(path).expect("an image file");
    format!("inode {}: wrong checksum", sample.file)
}

#[test]
fn damage_is_shown_and_left_without_a_yes() {
    let (_directory, path) = place();
    let message = damaged(&path);
    let before = fs::read(&path).expect("the image");
    fsck().arg("-n").arg(&path).assert().code(4).stdout(
        contains(message.clone())
            .and(contains("would be done: inode"))
            .and(contains("1 error;"))
            .and(contains("nothing was changed; fsck.ochre -y does")),
    );
    fsck()
        .args(["-p", "-f"])
        .arg(&path)
        .assert()
        .code(4)
        .stdout(contains(message.clone()).and(contains("run fsck.ochre manually")));
    fsck().arg(&path).assert().code(4).stdout(
        contains(message).and(contains("errors left: to repair them use -y").and(contains("-p"))),
    );
    let output = fsck().arg("--json").arg(&path).assert().code(4);
    let report: serde_json::Value =
        serde_json::from_slice(&output.get_output().stdout).expect("JSON");
    assert_eq!(report["result"], "errors left");
    assert_eq!(report["issues"].as_array().map(Vec::len), Some(1));
    assert!(
        before == fs::read(&path).expect("the image"),
        "a damaged image was written to"
    );
}

#[test]
fn damage_is_repaired() {
    let (_directory, path) = place();
    let message = damaged(&path);
    fsck().arg("-y").arg(&path).assert().code(1).stdout(
        contains(message)
            .and(contains("done: inode"))
            .and(contains("1 error, corrected;")),
    );
    fsck()
        .args(["-n", "-f"])
        .arg(&path)
        .assert()
        .code(0)
        .stdout(contains("no errors"));
}

#[test]
fn preening_repairs_what_is_safe() {
    let (_directory, path) = place();
    let sample = sample();
    let block = sample.free_block();
    sample.toggle_mark(block);
    sample.save(&path).expect("an image file");
    fsck()
        .args(["-p", "-f"])
        .arg(&path)
        .assert()
        .code(1)
        .stdout(contains("1 blocks freed"));
    fsck().args(["-p", "-f"]).arg(&path).assert().code(0);
}

#[test]
fn questions() {
    // script(1) makes a terminal.
    if std::process::Command::new("script")
        .arg("-V")
        .output()
        .is_err()
    {
        return;
    }
    let ask = |path: &std::path::Path, answers: &'static str| {
        let binary = assert_cmd::cargo::cargo_bin("fsck-ochre");
        Command::new("script")
            .args(["-qefc", &format!("{} {}", binary.display(), path.display())])
            .arg("/dev/null")
            .write_stdin(answers)
            .assert()
    };
    let (_directory, path) = place();
    damaged(&path);
    ask(&path, "n\n").code(4).stdout(
        contains("Repair inode records?").and(contains("repair ended before inode records")),
    );
    fsck().arg("-n").arg(&path).assert().code(4);
    ask(&path, "maybe\ny\na\n")
        .code(1)
        .stdout(contains("error, corrected"));
    fsck().args(["-n", "-f"]).arg(&path).assert().code(0);
}

#[test]
fn progress_in_numbers() {
    let (directory, path) = place();
    save(&make(32 << 20), &path).expect("an image file");
    let numbers = directory.path().join("numbers");
    let binary = assert_cmd::cargo::cargo_bin("fsck-ochre");
    let script = format!(
        "{} -f -n -C5 {} 5>{}",
        binary.display(),
        path.display(),
        numbers.display()
    );
    Command::new("sh").args(["-c", &script]).assert().code(0);
    let text = fs::read_to_string(numbers).expect("numbers");
    let last = text.lines().last().expect("a line");
    assert_eq!(last, format!("5 1 1 {}", path.display()));
    assert!(text.starts_with("1 0 1 "), "{text}");
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
    assert_eq!(report["result"], "errors left");
    assert_eq!(report["dry_run"], true);
    assert_eq!(report["actions"][0]["action"], "NodeCorrected");
    assert_eq!(report["actions"][0]["step"], "contents of files");
    let remedy = report["issues"][0]["remedy"].as_str();
    assert!(remedy.is_some_and(|remedy| remedy.contains("corrected if one word")));
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
    fsck()
        .arg("-y")
        .arg(&path)
        .assert()
        .code(1)
        .stdout(contains("superblock: the damaged word was put back"));
    fsck().args(["-n", "-f"]).arg(&path).assert().code(0);
    // The secret is gone: nothing can be told from nothing any more.
    for at in [0, copy] {
        sample.media.damage(at + 176, &[9; 32]);
    }
    sample.save(&path).expect("an image file");
    fsck()
        .arg("-y")
        .arg(&path)
        .assert()
        .code(4)
        .stdout(contains("this cannot be repaired"));
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
fn whatever_comes_of_it_json_is_json() {
    let (directory, path) = place();
    let json = |path: &std::path::Path, options: &[&str], code: i32| {
        let mut command = fsck();
        let output = command.args(options).arg("--json").arg(path).assert();
        let output = output.code(code).get_output().stdout.clone();
        let report: serde_json::Value = serde_json::from_slice(&output).expect("JSON");
        assert_eq!(report["status"], code);
        assert_eq!(report["device"], path.display().to_string());
        report
    };
    let report = json(&path, &["-n"], 8);
    assert_eq!(report["result"], "failed");
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("does not exist"), "{error}");
    json(directory.path(), &["-y"], 8);
    fs::write(&path, b"short").expect("a file");
    json(&path, &["-y"], 8);
    crashed(&path);
    assert_eq!(json(&path, &["-n"], 0)["dry_run"], false);
    damaged(&path);
    assert_eq!(json(&path, &["-p", "-f"], 4)["result"], "errors left");
    assert_eq!(json(&path, &["-y"], 1)["result"], "corrected");
    assert_eq!(json(&path, &["-p"], 0)["result"], "clean");
}

#[test]
fn a_repair_does_not_depend_on_who_reads_its_output() {
    let (_directory, path) = place();
    let binary = assert_cmd::cargo::cargo_bin("fsck-ochre");
    for output in [">/dev/full 2>&1", ">&- 2>&-", "2>/dev/full | true"] {
        damaged(&path);
        let script = format!(
            "sleep 0; {} -y {} {output}",
            binary.display(),
            path.display()
        );
        // Of the pipe's status the shell tells only that of its end.
        let code = if output.ends_with("true") { 0 } else { 1 };
        Command::new("sh").args(["-c", &script]).assert().code(code);
        fsck().args(["-n", "-f"]).arg(&path).assert().code(0);
    }
}

#[test]
fn options_that_exclude_each_other() {
    for options in [["-a", "-y"], ["-a", "-n"], ["-p", "-n"]] {
        let both = fsck().args(options).arg("x").assert();
        both.code(16).stderr(contains("cannot be used with"));
    }
    fsck().args(["a", "b"]).assert().code(16);
    fsck().args(["-C", "x", "a"]).assert().code(16);
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
