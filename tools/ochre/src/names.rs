// SPDX-License-Identifier: GPL-2.0

//! The names in a directory.

use ochre::engine::directory::{check_name, hash_of, NameHash};
use ochre::engine::format::inode::ROOT_DIRECTORY;
use ochre::engine::format::node::{DIRECTORY_INDEX_MAGIC, DIRECTORY_LEAF_MAGIC};
use ochre::engine::types::{Block, FileKind, Ino};
use ochre::engine::verify;
use serde_json::{json, Value};

use crate::image::directory;
use crate::inode::kind;
use crate::reader::{magic, nodes, Bytes, Reader};

/// All names of a directory, in the order of their keys.
pub fn show(reader: &Reader<'_>, number: u64) -> Result<Value, String> {
    let (address, record, used) = reader.inode(Ino(number))?;
    if !used {
        return Err(format!("inode {number} is not in use"));
    }
    if record.root != ROOT_DIRECTORY {
        return Err(format!("inode {number} is no directory"));
    }
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    if let Err(error) = verify::inode(
        &reader.keys,
        &reader.info.geometry,
        &record,
        Ino(number),
        address,
    ) {
        wrong.push(error.to_string());
    }
    let hash = NameHash::new(reader.info.hash_key);
    let mut blocks = 0u64;
    for (block, bytes) in nodes(reader, &record) {
        blocks += 1;
        match magic(&bytes) {
            DIRECTORY_LEAF_MAGIC => {
                wrong.extend(reader.faults(block, &bytes, Some(&record), Some(0)));
                rows.extend(entries(block, &bytes, Some(&hash)));
            }
            DIRECTORY_INDEX_MAGIC => {
                wrong.extend(reader.faults(block, &bytes, Some(&record), None));
            }
            _ => wrong.push(format!("block {block}: it is no block of a directory")),
        }
    }
    if record.blocks.get() != blocks {
        wrong.push(format!(
            "the inode counts {} blocks, {blocks} were found",
            record.blocks.get()
        ));
    }
    rows.sort_by_key(|(key, _)| *key);
    Ok(json!({
        "structure": "directory",
        "inode": number,
        "parent": record.parent.get(),
        "height": record.height,
        "blocks": blocks,
        "wrong": wrong,
        "entries": rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>(),
    }))
}

/// The entries of one leaf with their keys, and what is wrong with them as far as one can tell.
pub fn entries(block: Block, bytes: &Bytes, hash: Option<&NameHash>) -> Vec<(u64, Value)> {
    let mut rows: Vec<(u64, Value)> = directory::entries(bytes)
        .into_iter()
        .map(|entry| {
            let key = entry.key;
            let of_name = hash.map(|hash| hash.of(&entry.name));
            let wrong = if check_name(&entry.name).is_err() {
                Some("no name can be this")
            } else if of_name.is_some_and(|hash| hash != hash_of(key)) {
                Some("the key is not the name's hash")
            } else if u64::from(entry.fingerprint) != hash_of(key) & 0xff {
                Some("the fingerprint is not the hash's")
            } else {
                None
            };
            let name = String::from_utf8_lossy(&entry.name);
            let row = json!({
                "inode": entry.ino,
                "kind": kind(FileKind::from_disk(entry.kind)),
                "key": format!("{key:#018x}"),
                "block": block.0,
                "slot": entry.slot,
                "wrong": wrong,
                "name": name.escape_debug().to_string(),
            });
            (key, row)
        })
        .collect();
    let placed: Vec<u64> = rows
        .iter()
        .filter_map(|(_, row)| row["slot"].as_u64())
        .collect();
    let used = directory::bitmap(bytes);
    for slot in (0..128u64).filter(|slot| used >> slot & 1 != 0 && !placed.contains(slot)) {
        let row = json!({
            "inode": null,
            "kind": "unknown",
            "key": null,
            "block": block.0,
            "slot": slot,
            "wrong": "its place is outside of the heap",
            "name": null,
        });
        rows.push((u64::MAX, row));
    }
    rows
}
