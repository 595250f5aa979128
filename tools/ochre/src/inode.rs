// SPDX-License-Identifier: GPL-2.0

//! An inode: its record, and its extents or its target.

use ochre::engine::format::extent::{DiskExtent, Extent};
use ochre::engine::format::inode::{
    InodeRecord, MAGIC, ROOT_EXTENT_TREE, ROOT_INLINE_EXTENTS, ROOT_INLINE_SYMLINK,
    ROOT_SYMLINK_BLOCKS,
};
use ochre::engine::types::{Block, FileKind, Ino};
use ochre::engine::verify::inode_sum;
use serde_json::{json, Value};
use zerocopy::FromBytes;

use crate::reader::{leaves, root_of, Reader};

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
    Ok(fields(reader, &record, address, used))
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
            let leaves = leaves(reader, record);
            value["extents"] = extents(leaves.iter().flat_map(|(_, bytes)| {
                let count = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
                bytes[64..].chunks_exact(16).take(count)
            }));
        }
        ROOT_INLINE_SYMLINK => {
            let size = usize::try_from(record.size.get()).unwrap_or(0);
            let target = &record.inline[..size.min(record.inline.len())];
            value["target"] = json!(String::from_utf8_lossy(target));
        }
        ROOT_SYMLINK_BLOCKS => {
            let mut target = Vec::new();
            for word in record.inline.chunks_exact(8).take(2) {
                let block = word
                    .first_chunk::<8>()
                    .map_or(0, |word| u64::from_le_bytes(*word));
                let Ok(bytes) = reader.block(Block(block)) else {
                    continue;
                };
                if block != 0 {
                    let count = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
                    target.extend_from_slice(&bytes[64..64 + count.min(4032)]);
                }
            }
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
