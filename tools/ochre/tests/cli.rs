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
    let mut entries = records
        .iter()
        .flat_map(|record| record["entries"].as_array().expect("a list"));
    // The last file's size, and the orphan's entry in the table.
    let orphan = format!("inode {}: generation, links", saved.sample.orphan);
    assert!(entries.clone().any(|entry| entry["what"]
        .as_str()
        .is_some_and(|what| what.starts_with(&orphan))));
    assert!(entries
        .clone()
        .any(|entry| entry["what"] == "orphan table, entry 0"));
    assert!(entries
        .clone()
        .any(|entry| entry["does"] == "use"
            && entry["what"] == format!("inode {}", saved.sample.orphan)));
    assert!(entries.any(|entry| entry["does"] == "allocate"));
    assert_eq!(value["wrong"], serde_json::json!([]));
    saved.text(&["journal"], "checkpoint slots");
}

#[test]
fn orphans() {
    let saved = saved(|_| {});
    let value = saved.json(&["orphans"]);
    assert_eq!(value["used"], 1);
    let entry = &value["entries"][0];
    assert_eq!(entry["inode"], saved.sample.orphan.0);
    assert_eq!(
        (&entry["why"], &entry["wrong"]),
        (&"to be freed".into(), &Value::Null)
    );
    saved.text(&["orphans"], "to be freed");
    let value =
        self::saved(|sample| sample.put_u64(sample.info.geometry.orphan_slot(3), sample.file.0))
            .json(&["orphans"]);
    assert_eq!(
        value["entries"][1]["wrong"],
        "the inode does not name this slot"
    );
}

/// What is damaged is shown, and what is wrong about it said.
#[test]
fn damage() {
    let wrong = |damage: fn(&Sample), what: &dyn Fn(&Sample) -> Vec<String>, message: &str| {
        let saved = saved(damage);
        let what = what(&saved.sample);
        let what: Vec<&str> = what.iter().map(String::as_str).collect();
        let value = saved.json(&what);
        assert!(value["wrong"].to_string().contains(message), "{value:#}");
        saved.text(&what, message);
    };
    let inode = |ino: ochre::engine::types::Ino| vec!["inode".to_owned(), ino.to_string()];
    wrong(
        |s| s.flip(s.record_address(s.file) + 33, 0),
        &|s| inode(s.file),
        "inode checksum",
    );
    wrong(
        |s| s.edit(s.file, |r| r.blocks.set(9)),
        &|s| inode(s.file),
        "it counts 9 blocks, 3 were found",
    );
    wrong(
        |s| {
            s.edit(s.file, |r| {
                r.inline[8..16].copy_from_slice(&6u64.to_le_bytes())
            })
        },
        &|s| inode(s.file),
        "where no data can be",
    );
    wrong(
        |s| s.flip(s.tree_root(s.sparse).address() + 70, 1),
        &|s| inode(s.sparse),
        "the checksum is wrong",
    );
    wrong(
        |s| s.edit_node(s.child(s.tree_root(s.sparse), 0), |b| b[24] ^= 1),
        &|s| inode(s.sparse),
        "it says that it belongs to inode",
    );
    wrong(
        |s| s.edit_node(s.tree_root(s.long_link), |b| b[0] = 0),
        &|s| inode(s.long_link),
        "it is no target of a link",
    );
    let dir = |ino: ochre::engine::types::Ino| vec!["dir".to_owned(), ino.to_string()];
    wrong(
        |s| s.flip(s.child(s.tree_root(s.big), 1).address() + 4090, 0),
        &|s| dir(s.big),
        "the checksum is wrong",
    );
    wrong(
        |s| s.toggle_mark(s.free_block()),
        &|_| vec!["ag".into(), "0".into()],
        "not what bitmap and masks say",
    );
    wrong(
        |s| s.flip(s.info.geometry.chunk_entry(0, 1), 2),
        &|_| vec!["ag".into(), "0".into()],
        "chunk 1: the check value",
    );
    wrong(
        |s| s.flip(100, 0),
        &|_| vec!["superblock".into()],
        "the superblock: wrong checksum",
    );
    wrong(
        |s| s.flip(4096 + 512, 0),
        &|_| vec!["journal".into()],
        "checkpoint slot 0: the checksum is wrong",
    );
    let saved = saved(|s| {
        s.edit_node(s.child(s.tree_root(s.big), 0), |b| {
            let at = usize::from(u16::from_le_bytes([b[208], b[209]]));
            b[at + 20] ^= 1;
            b[210..212].copy_from_slice(&9u16.to_le_bytes());
        });
    });
    let entries = saved.json(&["dir", &saved.sample.big.to_string()])["entries"].to_string();
    assert!(entries.contains("the key is not the name's hash"));
    assert!(entries.contains("its place is outside of the heap"));
    // An inode that nobody uses is shown, and said to mean nothing.
    let value = saved.json(&["inode", "63"]);
    if value["in_use"] == false {
        assert!(value["wrong"].to_string().contains("not in use"));
    }
}

fn owner(saved: &Saved, what: &[&str]) -> Value {
    let mut command = ochre();
    command
        .arg("owner")
        .arg(&saved.path)
        .args(what)
        .arg("--json");
    let output = command.assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).expect("JSON")
}

#[test]
fn owners() {
    let saved = saved(|_| {});
    let sample = &saved.sample;
    let of = |block: u64| owner(&saved, &["block", &block.to_string()]);
    let file = saved.json(&["inode", &sample.file.to_string()]);
    let first = file["extents"][0]["device_block"]
        .as_u64()
        .expect("a block");
    let value = of(first + 2);
    let only = &value["owners"][0];
    assert_eq!(value["owners"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&only["inode"], &only["holds"]),
        (&sample.file.0.into(), &"data".into())
    );
    assert_eq!(
        (&only["file_block"], &only["file_offset"]),
        (&2.into(), &8192.into())
    );
    assert_eq!(only["paths"], serde_json::json!(["/file", "/hard link"]));
    assert_eq!(value["marked_used"], true);
    let role = |block: ochre::engine::types::Block| {
        let value = of(block.0);
        (
            value["owners"][0]["holds"].clone(),
            value["owners"][0]["paths"][0].clone(),
        )
    };
    assert_eq!(
        role(sample.tree_root(sample.sparse)),
        ("tree of extents".into(), "/sparse".into())
    );
    assert_eq!(
        role(sample.child(sample.tree_root(sample.big), 1)),
        ("names".into(), "/big".into())
    );
    assert_eq!(
        role(sample.tree_root(sample.root)),
        ("names".into(), "/".into())
    );
    assert_eq!(
        role(sample.tree_root(sample.long_link)),
        ("target of the link".into(), "/long link".into())
    );
    let orphan = saved.json(&["inode", &sample.orphan.to_string()]);
    let value = of(orphan["extents"][0]["device_block"]
        .as_u64()
        .expect("a block"));
    assert_eq!(
        value["owners"][0]["paths"],
        serde_json::json!([]),
        "it has no name"
    );
    assert_eq!(of(sample.free_block().0)["owners"], serde_json::json!([]));
    assert_eq!(of(1)["region"], "journal header");
    assert_eq!(
        of(sample.info.geometry.ag_start.0 + 512)["region"],
        "inode records"
    );
    let deep = owner(&saved, &["inode", &sample.deep.to_string()]);
    assert_eq!(deep["paths"], serde_json::json!(["/big/sub/deep"]));
    let mut command = ochre();
    command
        .arg("owner")
        .arg(&saved.path)
        .args(["block", "16384"]);
    command
        .assert()
        .code(1)
        .stderr(contains("there is no block 16384"));
    let mut command = ochre();
    command
        .arg("owner")
        .arg(&saved.path)
        .args(["block", &(first + 2).to_string()]);
    command.assert().success().stdout(contains("/hard link"));
}

/// Two files with one block: both are named.
#[test]
fn owners_of_a_shared_block() {
    let saved = saved(|s| {
        let file = s.record(s.file).inline;
        s.edit(s.sparse, |r| {
            r.root = 0;
            r.count = 1;
            r.inline = file;
        });
    });
    let file = saved.json(&["inode", &saved.sample.file.to_string()]);
    let block = file["extents"][0]["device_block"].to_string();
    let value = owner(&saved, &["block", &block]);
    assert_eq!(
        value["owners"].as_array().map(Vec::len),
        Some(2),
        "{value:#}"
    );
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
    ochre().arg("--help").assert().success().stdout(
        contains("inspect")
            .and(contains("owner"))
            .and(contains("image")),
    );
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
