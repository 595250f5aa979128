// SPDX-License-Identifier: GPL-2.0

//! The journal: checkpoints, and the records that could be replayed.

use ochre::engine::format::journal::{
    CheckpointSlot, Head, BITS_CLEAR, BITS_SET, CHECKPOINT_OFFSETS, INODE_CLEAR, INODE_SET, WRITE,
    ZERO,
};
use ochre::engine::recovery;
use ochre_tools::image::Borrowed;
use serde_json::{json, Value};
use zerocopy::FromBytes;

use crate::reader::Reader;

/// Checkpoint slots and all valid records, oldest first.
pub fn show(reader: &Reader<'_>) -> Result<Value, String> {
    let geometry = &reader.info.geometry;
    let mut slots = Vec::new();
    let mut checkpoint = 0;
    for (slot, offset) in CHECKPOINT_OFFSETS.into_iter().enumerate() {
        let mut bytes = [0; 16];
        let read = reader
            .image
            .read(geometry.journal.address() + offset, &mut bytes);
        read.map_err(|error| format!("journal header: {error}"))?;
        let Ok(read) = CheckpointSlot::read_from_bytes(&bytes) else {
            continue;
        };
        let seq = read.seq.get();
        let right = read.checksum.get() == reader.keys.checkpoint(slot, seq);
        if right {
            checkpoint = checkpoint.max(seq);
        }
        slots.push(json!({ "slot": slot, "number": seq, "checksum_right": right }));
    }

    let mut records = Vec::new();
    let walked = (|| {
        let mut buffer = recovery::record_buffer()?;
        recovery::segments(geometry, |segment| {
            recovery::walk_segment(
                &Borrowed(reader.image),
                &reader.keys,
                segment,
                &mut buffer,
                |found, words| {
                    records.push((found.seq, found.address, found.words, entries(words)));
                    Ok(())
                },
            )
        })
    })();
    walked.map_err(|error| format!("journal: {error}"))?;
    records.sort_by_key(|record| record.0);
    let to_replay = records
        .iter()
        .filter(|record| record.0 >= checkpoint)
        .count();
    let records: Vec<Value> = records
        .into_iter()
        .map(|(seq, address, words, entries)| {
            json!({
                "number": seq,
                "address": format!("{address:#x}"),
                "words": words,
                "replayed": seq >= checkpoint,
                "entries": entries,
            })
        })
        .collect();
    Ok(json!({
        "structure": "journal",
        "block": geometry.journal.0,
        "lanes": geometry.lanes,
        "checkpoint": checkpoint,
        "checkpoint_slots": slots,
        "to_replay": to_replay,
        "records": records,
    }))
}

/// What a record changes, in one line.
fn entries(words: &[u64]) -> String {
    let mut text: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        let head = Head::unpack(word);
        let address = head.address;
        text.push(match head.kind {
            WRITE => format!("write {:#x}+{}", address, head.length * 8),
            ZERO => format!("zero {:#x}+{}", address, head.length * 8),
            BITS_SET | BITS_CLEAR => {
                let count = words.get(at + 1).copied().unwrap_or(0);
                let verb = if head.kind == BITS_SET {
                    "set"
                } else {
                    "clear"
                };
                format!("{verb} {count} bits at {address:#x}.{}", head.length)
            }
            INODE_SET => format!("use inode bit {address:#x}.{}", head.length),
            INODE_CLEAR => format!("free inode bit {address:#x}.{}", head.length),
            other => format!("unknown {other}"),
        });
        at += 1 + head.content_words();
    }
    text.join(", ")
}
