// SPDX-License-Identifier: GPL-2.0

//! A block, whatever it is: by where it lies, and by what it says of itself.

use ochre::engine::directory::NameHash;
use ochre::engine::format::inode::{InodeRecord, MAGIC as INODE_MAGIC};
use ochre::engine::format::node::{
    DIRECTORY_INDEX_MAGIC, DIRECTORY_LEAF_MAGIC, EXTENT_INDEX_MAGIC, EXTENT_LEAF_MAGIC,
    SYMLINK_MAGIC,
};
use ochre::engine::types::Block;
use serde_json::{json, Value};
use uuid::Uuid;
use zerocopy::FromBytes;

use crate::place::Places;
use crate::reader::{children, Bytes, Reader};

/// One block.
pub fn show(reader: &Reader<'_>, number: u64) -> Result<Value, String> {
    let block = Block(number);
    let bytes = reader.block(block)?;
    let region = Places::new(reader)?.region(number);
    let mut value = json!({
        "structure": "block",
        "number": number,
        "address": format!("{:#x}", block.address()),
        "region": region,
    });
    if let Some((ag, relative)) = reader.info.geometry.locate(block) {
        let word = reader.word(reader.info.geometry.bitmap_word(ag, relative))?;
        value["group"] = json!(ag);
        value["marked_used"] = json!(word >> (relative % 64) & 1 != 0);
    }
    if !describe(reader, block, &bytes, &mut value) {
        value["content"] = json!(dump(&bytes));
    }
    Ok(value)
}

/// Adds what the block says of itself, if it looks like metadata.
fn describe(reader: &Reader<'_>, block: Block, bytes: &Bytes, value: &mut Value) -> bool {
    let Some((header, right)) = reader.header(bytes) else {
        return false;
    };
    let magic = header.magic.get();
    let content = match magic {
        EXTENT_INDEX_MAGIC => "index node of extents",
        EXTENT_LEAF_MAGIC => "leaf of extents",
        DIRECTORY_INDEX_MAGIC => "index node of a directory",
        DIRECTORY_LEAF_MAGIC => "leaf of a directory",
        SYMLINK_MAGIC => "target of a symbolic link",
        _ => return records(bytes, value),
    };
    value["content_kind"] = json!(content);
    value["checksum_right"] = json!(right);
    value["wrong"] = json!(reader.faults(block, bytes, None, None));
    value["own_number_right"] = json!(header.block.get() == block.0);
    value["uuid"] = json!(Uuid::from_bytes(header.uuid).to_string());
    value["owner"] = json!(header.owner.get());
    value["generation"] = json!(header.generation.get());
    value["level"] = json!(header.level.get());
    value["count"] = json!(header.count.get());
    match magic {
        EXTENT_INDEX_MAGIC | DIRECTORY_INDEX_MAGIC => {
            let rows = children(bytes).into_iter();
            let rows = rows.map(|(key, child)| json!({ "key": key, "child": child.0 }));
            value["children"] = Value::Array(rows.collect());
        }
        EXTENT_LEAF_MAGIC => {
            let count = usize::from(header.count.get());
            value["extents"] = crate::inode::extents(bytes[64..].chunks_exact(16).take(count));
        }
        DIRECTORY_LEAF_MAGIC => {
            let rows =
                crate::names::entries(block, bytes, Some(&NameHash::new(reader.info.hash_key)))
                    .into_iter();
            value["entries"] = Value::Array(rows.map(|(_, row)| row).collect());
        }
        _ => {
            let count = usize::from(header.count.get()).min(4032);
            value["target"] = json!(String::from_utf8_lossy(&bytes[64..64 + count]));
        }
    }
    true
}

/// Adds inode records, if the block holds some.
fn records(bytes: &Bytes, value: &mut Value) -> bool {
    let found: Vec<Value> = bytes
        .chunks_exact(256)
        .filter_map(|record| InodeRecord::read_from_bytes(record).ok())
        .filter(|record| record.magic.get() == INODE_MAGIC)
        .map(|record| {
            json!({
                "inode": record.ino.get(),
                "mode": format!("{:#o}", record.mode.get()),
                "links": record.nlink.get(),
                "size": record.size.get(),
            })
        })
        .collect();
    if found.is_empty() {
        return false;
    }
    value["content_kind"] = json!("inode records");
    value["records"] = Value::Array(found);
    true
}

/// The lines that are not zero: offset, hexadecimal, characters.
fn dump(bytes: &Bytes) -> Vec<String> {
    let lines = bytes.chunks_exact(16).enumerate();
    let lines = lines.filter(|(_, line)| line.iter().any(|&byte| byte != 0));
    lines
        .map(|(number, line)| {
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            let text: String = line
                .iter()
                .map(|&byte| {
                    if (32..127).contains(&byte) {
                        char::from(byte)
                    } else {
                        '.'
                    }
                })
                .collect();
            format!("{:04x}  {}  {text}", number * 16, hex.join(" "))
        })
        .collect()
}
