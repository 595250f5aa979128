// SPDX-License-Identifier: GPL-2.0

//! Every structure that `ochre inspect` can show, as text and as JSON.

use std::path::PathBuf;

use assert_cmd::Command;
use ochre_testkit::{sample, Sample};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;
use tempfile::TempDir;

struct Saved {
    _directory: TempDir,
    path: PathBuf,
    sample: Sample,
}

fn saved(damage: impl FnOnce(&Sample)) -> Saved {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("test.img");
    let sample = sample();
    damage(&sample);
    sample.save(&path).expect("an image file");
    Saved {
        _directory: directory,
        path,
        sample,
    }
}

fn ochre() -> Command {
    Command::cargo_bin("ochre").expect("built by cargo")
}

impl Saved {
    fn json(&self, what: &[&str]) -> Value {
        let mut command = ochre();
        command
            .arg("inspect")
            .arg(&self.path)
            .args(what)
            .arg("--json");
        let output = command.assert().success().get_output().stdout.clone();
        serde_json::from_slice(&output).expect("JSON")
    }

    fn text(&self, what: &[&str], message: &str) {
        let mut command = ochre();
        command.arg("inspect").arg(&self.path).args(what);
        command
            .assert()
            .success()
            .stdout(contains(message.to_owned()));
    }

    fn refused(&self, what: &[&str], message: &str) {
        let mut command = ochre();
        command.arg("inspect").arg(&self.path).args(what);
        command
            .assert()
            .code(1)
            .stderr(contains(message.to_owned()));
    }
}

#[test]
fn the_superblock() {
    let saved = saved(|_| {});
    let value = saved.json(&[]);
    assert_eq!(value, saved.json(&["superblock"]));
    assert_eq!(value["label"], "golden");
    assert_eq!(value["state"], "clean");
    assert_eq!(
        (&value["primary"], &value["copy"]),
        (&"right".into(), &"same".into())
    );
    assert_eq!(value["blocks"], 16384);
    assert!(!value.to_string().contains("secret"), "secrets stay secret");
    saved.text(&[], "label               golden");
}

#[test]
fn a_damaged_superblock() {
    let saved = saved(|sample| sample.flip(100, 0));
    let value = saved.json(&[]);
    assert_eq!(value["primary"], "wrong checksum");
    assert_eq!(value["copy"], "different");
    // Everything else is found through the copy, which is at the end of the device.
    let value = self::saved(|sample| sample.media.damage(0, &[0; 512])).json(&["inode", "1"]);
    assert_eq!(value["kind"], "directory");
}

#[test]
fn groups() {
    let saved = saved(|_| {});
    let value = saved.json(&["ag", "0"]);
    assert_eq!(value["free_blocks_noted"], value["free_blocks_counted"]);
    assert_eq!(value["checksum_right"], true);
    assert_eq!(value["chunks"][0]["first_inode"], 0);
    assert_eq!(value["chunks"][0]["check_right"], true);
    saved.text(&["ag", "0"], "first inode");
    saved.refused(&["ag", "1"], "there is no group 1: the last one is 0");
}

#[test]
fn inodes() {
    let saved = saved(|_| {});
    let of = |ino: ochre::engine::types::Ino| saved.json(&["inode", &ino.to_string()]);
    let file = of(saved.sample.file);
    assert_eq!(
        (&file["kind"], &file["size"]),
        (&"file".into(), &10_000.into())
    );
    assert_eq!(file["links"], 2);
    assert_eq!(file["extents"][0]["blocks"], 3);
    assert_eq!(file["checksum_right"], true);
    let sparse = of(saved.sample.sparse);
    assert_eq!(sparse["extents"].as_array().map(Vec::len), Some(600));
    assert_eq!(sparse["extents"][599]["file_block"], 1198);
    assert_eq!(sparse["extents"][599]["state"], "unwritten");
    assert_eq!(of(saved.sample.short_link)["target"], "../target");
    assert_eq!(of(saved.sample.long_link)["target"], "l".repeat(4090));
    assert_eq!(of(saved.sample.device)["device"], "0x103");
    assert_eq!(of(saved.sample.orphan)["orphan_slot"], 0);
    assert_eq!(of(saved.sample.file)["orphan_slot"], Value::Null);
    saved.refused(&["inode", "99999999"], "there is no inode 99999999");
}

#[test]
fn directories() {
    let saved = saved(|_| {});
    let root = saved.json(&["dir", "1"]);
    let names: Vec<&str> = root["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|e| e["name"].as_str())
        .collect();
    assert_eq!(names.len(), 8, "{names:?}");
    assert!(names.contains(&"hard link"));
    let big = saved.json(&["dir", &saved.sample.big.to_string()]);
    assert_eq!(big["entries"].as_array().map(Vec::len), Some(401));
    saved.text(&["dir", "1"], "hard link");
    saved.refused(&["dir", &saved.sample.file.to_string()], "is no directory");
}

#[test]
fn blocks() {
    let saved = saved(|_| {});
    let geometry = &saved.sample.info.geometry;
    let region = |block: u64| saved.json(&["block", &block.to_string()])["region"].clone();
    assert_eq!(region(0), "superblock");
    assert_eq!(region(1), "journal header");
    assert_eq!(region(2), "journal");
    assert_eq!(region(geometry.orphans.0), "orphan table");
    assert_eq!(region(geometry.ag_start.0), "group header");
    assert_eq!(region(geometry.ag_start.0 + 1), "block bitmap");
    assert_eq!(region(geometry.ag_start.0 + 16), "inode chunk map");
    assert_eq!(region(geometry.blocks - 1), "copy of the superblock");
    let show = |block: ochre::engine::types::Block| saved.json(&["block", &block.to_string()]);
    let root = show(saved.sample.tree_root(saved.sample.sparse));
    assert_eq!(root["content_kind"], "index node of extents");
    assert_eq!(
        (&root["checksum_right"], &root["marked_used"]),
        (&true.into(), &true.into())
    );
    let leaf = root["children"][0]["child"].as_u64().expect("a number");
    assert_eq!(
        saved.json(&["block", &leaf.to_string()])["content_kind"],
        "leaf of extents"
    );
    assert_eq!(
        show(saved.sample.tree_root(saved.sample.root))["content_kind"],
        "leaf of a directory"
    );
    assert_eq!(
        show(saved.sample.tree_root(saved.sample.long_link))["content_kind"],
        "target of a symbolic link"
    );
    let records = show(ochre::engine::types::Block(geometry.ag_start.0 + 512));
    assert_eq!(records["content_kind"], "inode records");
    assert_eq!(records["records"][0]["inode"], 1);
    saved.text(&["block", "0"], "OCHREFS1");
    saved.refused(&["block", "16384"], "there is no block 16384");
}

#[test]
fn the_journal() {
    let saved = saved(|_| {});
    let value = saved.json(&["journal"]);
    assert_eq!(value["to_replay"], 0, "it was unmounted");
    let records = value["records"].as_array().expect("a list");
    assert!(!records.is_empty());
    assert!(records.iter().any(|record| record["entries"]
        .as_str()
        .is_some_and(|e| e.contains("write"))));
    saved.text(&["journal"], "checkpoint slots");
}

#[test]
fn errors_and_help() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("none.img");
    let inspect = |message: &str| {
        ochre()
            .arg("inspect")
            .arg(&path)
            .assert()
            .code(1)
            .stderr(contains(message.to_owned()));
    };
    inspect("does not exist");
    std::fs::write(&path, vec![0; 1 << 20]).expect("a file");
    inspect("holds no Ochre filesystem");
    ochre()
        .arg("inspect")
        .arg(&path)
        .args(["ag", "0"])
        .assert()
        .code(1);
    ochre().assert().code(2);
    ochre()
        .args(["inspect", "x", "ag", "minus"])
        .assert()
        .code(2);
    ochre()
        .arg("--help")
        .assert()
        .success()
        .stdout(contains("inspect"));
    ochre()
        .args(["inspect", "--help"])
        .assert()
        .success()
        .stdout(contains("Examples"));
    ochre()
        .arg("version")
        .assert()
        .success()
        .stdout(contains("format version 1").and(contains("ochre ")));
}
