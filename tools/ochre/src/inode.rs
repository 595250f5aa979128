// SPDX-License-Identifier: GPL-2.0

//! An inode: its record, and its extents or its target.

use ochre::engine::format::extent::{DiskExtent, Extent};
use ochre::engine::format::inode::{
    InodeRecord, MAGIC, ROOT_DIRECTORY, ROOT_EXTENT_TREE, ROOT_INLINE_EXTENTS, ROOT_INLINE_SYMLINK,
    ROOT_SYMLINK_BLOCKS,
};
use ochre::engine::format::node::{EXTENT_INDEX_MAGIC, EXTENT_LEAF_MAGIC, SYMLINK_MAGIC};
use ochre::engine::types::{Block, FileKind, Ino, Run};
use ochre::engine::verify::{self, inode_sum};
use serde_json::{json, Value};
use zerocopy::FromBytes;

use crate::reader::{count, magic, nodes, root_of, Reader};

/// The word for a kind.
pub fn kind(kind: Option<FileKind>) -> &'static str {
    match kind {
        Some(FileKind::Regular) => "file",
        Some(FileKind::Directory) => "directory",
        Some(FileKind::Symlink) => "symbolic link",
        Some(FileKind::CharDevice) => "character device",
        Some(FileKind::BlockDevice) => "block device",
        Some(FileKind::Fifo) => "fifo",
        Some(FileKind::Socket) => "socket",
        None => "unknown",
    }
}

/// A time as seconds since 1970 with nanoseconds.
pub fn time(nanoseconds: i64) -> String {
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    format!("{seconds}.{:09}", nanoseconds.rem_euclid(1_000_000_000))
}

/// One inode.
pub fn show(reader: &Reader<'_>, number: u64) -> Result<Value, String> {
    let (address, record, used) = reader.inode(Ino(number))?;
    let mut value = fields(reader, &record, address, used);
    let mut wrong = Vec::new();
    if used {
        if let Err(error) = verify::inode(
            &reader.keys,
            &reader.info.geometry,
            &record,
            Ino(number),
            address,
        ) {
            wrong.push(error.to_string());
        }
        hanging(reader, &record, &mut wrong);
    } else {
        wrong.push("the inode is not in use: what is shown means nothing".to_owned());
    }
    value["wrong"] = json!(wrong);
    Ok(value)
}

/// Says what is wrong with the trees, extents and targets of a record.
fn hanging(reader: &Reader<'_>, record: &InodeRecord, wrong: &mut Vec<String>) {
    let mut blocks = 0;
    let mut end = 0;
    let mut check = |bytes: &[u8], count: usize, wrong: &mut Vec<String>| {
        for disk in bytes.chunks_exact(16).take(count) {
            let Ok(disk) = DiskExtent::read_from_bytes(disk) else {
                continue;
            };
            let extent = Extent::from_disk(&disk);
            let at = extent.file_block.0;
            blocks += extent.len;
            if at < end || extent.len == 0 {
                wrong.push(format!(
                    "the extent at {at} is out of order, empty, or overlaps the one before"
                ));
            }
            end = at.saturating_add(extent.len);
            let run = Run {
                start: extent.block,
                len: extent.len,
            };
            if reader.info.geometry.locate_run(run).is_none() {
                wrong.push(format!(
                    "the extent at {at} has blocks from {} on, where no data can be",
                    extent.block
                ));
            }
        }
    };
    match record.root {
        ROOT_INLINE_EXTENTS => check(&record.inline, usize::from(record.count), wrong),
        ROOT_EXTENT_TREE => {
            let mut found = 0;
            for (block, bytes) in nodes(reader, record) {
                found += 1;
                match magic(&bytes) {
                    EXTENT_LEAF_MAGIC => {
                        wrong.extend(reader.faults(block, &bytes, Some(record), Some(0)));
                        check(&bytes[64..], count(&bytes), wrong);
                    }
                    EXTENT_INDEX_MAGIC => {
                        wrong.extend(reader.faults(block, &bytes, Some(record), None));
                    }
                    _ => wrong.push(format!(
                        "block {block}: it is no block of a tree of extents"
                    )),
                }
            }
            blocks += found;
        }
        ROOT_SYMLINK_BLOCKS => {
            for block in symlink_blocks(record) {
                blocks += 1;
                match reader.block(block) {
                    Ok(bytes) if magic(&bytes) == SYMLINK_MAGIC => {
                        wrong.extend(reader.faults(block, &bytes, Some(record), Some(0)));
                    }
                    Ok(_) => wrong.push(format!("block {block}: it is no target of a link")),
                    Err(error) => wrong.push(error),
                }
            }
        }
        // `inspect dir` counts these.
        ROOT_DIRECTORY => return,
        _ => {}
    }
    if record.blocks.get() != blocks {
        wrong.push(format!(
            "it counts {} blocks, {blocks} were found",
            record.blocks.get()
        ));
    }
}

/// The blocks of a long target.
fn symlink_blocks(record: &InodeRecord) -> Vec<Block> {
    let words = record.inline.chunks_exact(8).take(2);
    let words = words.filter_map(|word| word.first_chunk::<8>());
    words
        .map(|word| Block(u64::from_le_bytes(*word)))
        .filter(|block| *block != Block::NONE)
        .collect()
}

/// The fields of a record, with what hangs on it.
pub fn fields(reader: &Reader<'_>, record: &InodeRecord, address: u64, used: bool) -> Value {
    let mut value = json!({
        "structure": "inode",
        "number": record.ino.get(),
        "address": format!("{address:#x}"),
        "in_use": used,
        "magic_right": record.magic.get() == MAGIC,
        "checksum_right": inode_sum(&reader.keys, record) == record.checksum.get(),
        "kind": kind(FileKind::from_mode(record.mode.get())),
        "mode": format!("{:#o}", record.mode.get()),
        "links": record.nlink.get(),
        "uid": record.uid.get(),
        "gid": record.gid.get(),
        "project": record.project.get(),
        "flags": format!("{:#x}", record.flags.get()),
        "generation": record.generation.get(),
        "size": record.size.get(),
        "blocks": record.blocks.get(),
        "born": time(record.btime.get()),
        "accessed": time(record.atime.get()),
        "modified": time(record.mtime.get()),
        "changed": time(record.ctime.get()),
        "parent": record.parent.get(),
        "device": format!("{:#x}", record.rdev.get()),
        "xattr_block": record.xattr_block.get(),
        "orphan_slot": record.orphan.get().checked_sub(1),
        "pending": record.pending,
        "root": record.root,
        "height": record.height,
    });
    match record.root {
        ROOT_INLINE_EXTENTS => {
            let count = usize::from(record.count);
            value["extents"] = extents(record.inline.chunks_exact(16).take(count));
        }
        ROOT_EXTENT_TREE => {
            value["tree"] = json!(root_of(record).0);
            let nodes = nodes(reader, record);
            let leaves = nodes
                .iter()
                .filter(|(_, bytes)| magic(bytes) == EXTENT_LEAF_MAGIC);
            value["tree_blocks"] =
                json!(nodes.iter().map(|(block, _)| block.0).collect::<Vec<_>>());
            value["extents"] = extents(
                leaves.flat_map(|(_, bytes)| bytes[64..].chunks_exact(16).take(count(bytes))),
            );
        }
        ROOT_INLINE_SYMLINK => {
            let size = usize::try_from(record.size.get()).unwrap_or(0);
            let target = &record.inline[..size.min(record.inline.len())];
            value["target"] = json!(String::from_utf8_lossy(target));
        }
        ROOT_SYMLINK_BLOCKS => {
            let mut target = Vec::new();
            for block in symlink_blocks(record) {
                if let Ok(bytes) = reader.block(block) {
                    target.extend_from_slice(&bytes[64..64 + count(&bytes).min(4032)]);
                }
            }
            value["target_blocks"] = json!(symlink_blocks(record)
                .iter()
                .map(|block| block.0)
                .collect::<Vec<_>>());
            value["target"] = json!(String::from_utf8_lossy(&target));
        }
        _ => value["tree"] = json!(root_of(record).0),
    }
    value
}

/// A list of extents.
pub fn extents<'a>(disk: impl Iterator<Item = &'a [u8]>) -> Value {
    let rows = disk.filter_map(|bytes| {
        let extent = Extent::from_disk(&DiskExtent::read_from_bytes(bytes).ok()?);
        Some(json!({
            "file_block": extent.file_block.0,
            "blocks": extent.len,
            "device_block": extent.block.0,
            "state": if extent.unwritten { "unwritten" } else { "written" },
        }))
    });
    Value::Array(rows.collect())
}
