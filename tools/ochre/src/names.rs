// SPDX-License-Identifier: GPL-2.0

//! The names in a directory.

use ochre::engine::format::directory::{
    EntryHeader, BITMAP_OFFSET, ENTRY_HEADER, OFFSETS_OFFSET, SLOTS,
};
use ochre::engine::format::inode::ROOT_DIRECTORY;
use ochre::engine::types::{Block, FileKind, Ino};
use serde_json::{json, Value};
use zerocopy::FromBytes;

use crate::inode::kind;
use crate::reader::{leaves, Bytes, Reader};

/// All names of a directory, in the order of their keys.
pub fn show(reader: &Reader<'_>, number: u64) -> Result<Value, String> {
    let (_, record, used) = reader.inode(Ino(number))?;
    if !used {
        return Err(format!("inode {number} is not in use"));
    }
    if record.root != ROOT_DIRECTORY {
        return Err(format!("inode {number} is no directory"));
    }
    let mut rows = Vec::new();
    for (block, bytes) in leaves(reader, &record) {
        rows.extend(entries(block, &bytes));
    }
    rows.sort_by_key(|(key, _)| *key);
    Ok(json!({
        "structure": "directory",
        "inode": number,
        "parent": record.parent.get(),
        "height": record.height,
        "entries": rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>(),
    }))
}

/// The entries of one leaf with their keys.
pub fn entries(block: Block, bytes: &Bytes) -> Vec<(u64, Value)> {
    let at = usize::try_from(BITMAP_OFFSET).unwrap_or(0);
    let bitmap = bytes[at..]
        .first_chunk::<16>()
        .map_or(0, |bits| u128::from_le_bytes(*bits));
    let mut rows = Vec::new();
    for slot in (0..SLOTS).filter(|slot| bitmap >> slot & 1 != 0) {
        let at = usize::try_from(OFFSETS_OFFSET).unwrap_or(0) + slot * 2;
        let offset = usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let Some(Ok((header, _))) = bytes.get(offset..).map(EntryHeader::read_from_prefix) else {
            continue;
        };
        let start = offset + usize::try_from(ENTRY_HEADER).unwrap_or(0);
        let name = bytes
            .get(start..start + usize::from(header.name_len))
            .unwrap_or_default();
        let key = header.key.get();
        rows.push((
            key,
            json!({
                "inode": header.ino.get(),
                "kind": kind(FileKind::from_disk(header.kind)),
                "key": format!("{key:#018x}"),
                "block": block.0,
                "slot": slot,
                "name": String::from_utf8_lossy(name).escape_debug().to_string(),
            }),
        ));
    }
    rows
}
