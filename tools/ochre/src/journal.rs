// SPDX-License-Identifier: GPL-2.0

//! The journal: checkpoints, and the records that could be replayed.

use ochre::engine::format::journal::{
    CheckpointSlot, Head, BITS_CLEAR, BITS_SET, CHECKPOINT_OFFSETS, INODE_CLEAR, INODE_SET,
    MASKS_CLEAR, WRITE, ZERO,
};
use ochre::engine::{journal, recovery};
use ochre_tools::image::Borrowed;
use serde_json::{json, Value};
use zerocopy::FromBytes;

use crate::place::Places;
use crate::reader::Reader;

/// Checkpoint slots and all valid records, oldest first; `whole`: with all that they write, for programs.
pub fn show(reader: &Reader<'_>, whole: bool) -> Result<Value, String> {
    let geometry = &reader.info.geometry;
    let mut slots = Vec::new();
    let mut wrong = Vec::new();
    if let Err(error) = journal::check_header(&Borrowed(reader.image), &reader.info, &reader.keys) {
        wrong.push(error.to_string());
    }
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
        } else {
            wrong.push(format!("checkpoint slot {slot}: the checksum is wrong"));
        }
        slots.push(json!({ "slot": slot, "number": seq, "checksum_right": right }));
    }

    let places = Places::new(reader)?;
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
                    records.push((
                        found.seq,
                        found.address,
                        found.words,
                        entries(&places, words, whole),
                    ));
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
        "wrong": wrong,
        "records": records,
    }))
}

/// What a record changes, entry by entry.
fn entries(places: &Places<'_>, words: &[u64], whole: bool) -> Value {
    let mut rows = Vec::new();
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        let head = Head::unpack(word);
        let len = head.length as u64 * 8;
        let content = words.get(at + 1..).unwrap_or_default();
        at += 1 + head.content_words();
        // The last line of a record is filled up with zeros.
        if head.kind == 0 {
            continue;
        }
        let count = content.first().copied().unwrap_or(0);
        let (blocks, metadata) = (count & !(1 << 63), count >> 63 != 0);
        let of_blocks = |what: &str| match (places.bits(head.address, head.length), blocks) {
            (Some(first), 1) => format!("{what} {first}"),
            (Some(first), blocks) => format!("{what} {first}, {blocks} of them"),
            (None, blocks) => format!("{blocks} bits at {:#x}, which is no bitmap", head.address),
        };
        let of_masks = || {
            let masks = content.get(..head.length).unwrap_or_default();
            let count: u32 = masks.iter().map(|mask| mask.count_ones()).sum();
            let before = masks.iter().take_while(|mask| **mask == 0).count();
            let bit = masks.get(before).map_or(0, |mask| mask.trailing_zeros());
            match places.bits(head.address + before as u64 * 8, bit as usize) {
                Some(first) => format!("{count} blocks here and there from {first} on"),
                None => format!("{count} bits at {:#x}, which is no bitmap", head.address),
            }
        };
        let of_inode = || match places.inode_bit(head.address, head.length) {
            Some(ino) => format!("inode {ino}"),
            None => format!("a bit at {:#x}, which is no chunk map", head.address),
        };
        let (does, what) = match head.kind {
            WRITE => ("write", places.bytes(head.address, len)),
            ZERO => ("zero", places.bytes(head.address, len)),
            BITS_SET => ("allocate", of_blocks("block")),
            BITS_CLEAR if metadata => ("free", of_blocks("metadata block")),
            BITS_CLEAR => ("free", of_blocks("block")),
            MASKS_CLEAR => ("free", of_masks()),
            INODE_SET => ("use", of_inode()),
            INODE_CLEAR => ("give up", of_inode()),
            other => ("unknown", format!("kind {other}")),
        };
        let written = match head.kind {
            WRITE => content.get(..head.length).unwrap_or_default(),
            _ => &[],
        };
        let shown = if whole { written.len() } else { 4 };
        let hex: Vec<String> = written
            .iter()
            .take(shown)
            .flat_map(|word| word.to_le_bytes())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        rows.push(json!({
            "does": does,
            "what": what,
            "address": format!("{:#x}", head.address),
            "bytes": match head.kind { WRITE | ZERO => json!(len), _ => Value::Null },
            "content": match head.kind { WRITE => json!(hex.concat() + if written.len() > shown { "…" } else { "" }), _ => Value::Null },
        }));
    }
    Value::Array(rows)
}
