// SPDX-License-Identifier: GPL-2.0

//! The orphan table: inodes that wait to be freed, or to be cut to their size.

use ochre::engine::types::Ino;
use serde_json::{json, Value};

use crate::reader::Reader;

/// All entries in use, with what their inodes say.
pub fn show(reader: &Reader<'_>) -> Result<Value, String> {
    let g = &reader.info.geometry;
    let mut bytes = vec![0; g.orphan_slots as usize * 8];
    let read = reader.image.read(g.orphans.address(), &mut bytes);
    read.map_err(|error| format!("orphan table: {error}"))?;
    let mut entries = Vec::new();
    for (slot, word) in bytes.chunks_exact(8).enumerate() {
        let ino = word
            .first_chunk::<8>()
            .map_or(0, |word| u64::from_le_bytes(*word));
        if ino != 0 {
            entries.push(entry(reader, slot, Ino(ino)));
        }
    }
    Ok(json!({
        "structure": "orphan table",
        "block": g.orphans.0,
        "slots": g.orphan_slots,
        "used": entries.len(),
        "entries": entries,
    }))
}

fn entry(reader: &Reader<'_>, slot: usize, ino: Ino) -> Value {
    let mut row = json!({
        "slot": slot,
        "inode": ino.0,
        "links": null,
        "size": null,
        "blocks": null,
        "why": null,
        "wrong": null,
    });
    match reader.inode(ino) {
        Err(error) => row["wrong"] = json!(error),
        Ok((_, record, used)) => {
            row["links"] = json!(record.nlink.get());
            row["size"] = json!(record.size.get());
            row["blocks"] = json!(record.blocks.get());
            row["why"] = json!(match record.nlink.get() {
                0 => "to be freed",
                _ => "to be cut to its size",
            });
            if !used {
                row["wrong"] = json!("the inode is not in use");
            } else if u64::from(record.orphan.get()) != slot as u64 + 1 {
                row["wrong"] = json!("the inode does not name this slot");
            }
        }
    }
    row
}
