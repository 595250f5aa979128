// SPDX-License-Identifier: GPL-2.0

//! An allocation group.

use ochre::engine::alloc::ag::read_header;
use ochre::engine::checksum::Domain;
use ochre::engine::format::ag::{AgHeader, CHECKED, MAGIC, MAX_CHUNKS, UNCOUNTED};
use ochre::engine::types::SLOT_BLOCKS;
use ochre_tools::image::Borrowed;
use serde_json::{json, Value};
use zerocopy::FromBytes;

use crate::reader::Reader;

/// Header, free space as the bitmap has it, and inode chunks of a group.
pub fn show(reader: &Reader<'_>, ag: u32) -> Result<Value, String> {
    let geometry = &reader.info.geometry;
    if ag >= geometry.ag_count {
        return Err(format!(
            "there is no group {ag}: the last one is {}",
            geometry.ag_count - 1
        ));
    }
    let base = geometry.ag_base(ag);
    let block = reader.block(base)?;
    let (header, _) = AgHeader::read_from_prefix(&block[..]).map_err(|_| "group header")?;
    let right = reader.keys.object(Domain::AgHeader, &block[..CHECKED], 8) == header.checksum.get();

    let blocks = geometry.ag_blocks(ag);
    let mut free = 0;
    let (mut run, mut longest, mut runs, mut whole_slots) = (0u64, 0u64, 0u64, 0u64);
    let mut slot_free = 0;
    let mut word = 0;
    for relative in 0..blocks {
        if relative % 64 == 0 {
            word = reader.word(geometry.bitmap_word(ag, relative))?;
        }
        if relative % SLOT_BLOCKS == 0 {
            slot_free = 0;
        }
        if word >> (relative % 64) & 1 == 0 {
            free += 1;
            slot_free += 1;
            run += 1;
            runs += u64::from(run == 1);
            longest = longest.max(run);
        } else {
            run = 0;
        }
        whole_slots += u64::from(slot_free == SLOT_BLOCKS);
    }

    let mut chunks = Vec::new();
    let count = header.chunks.get().min(u64::from(MAX_CHUNKS));
    for chunk in 0..u32::try_from(count).unwrap_or(0) {
        let Some(entry) = reader.chunk(ag, chunk)? else {
            break;
        };
        let start = entry.start.get();
        chunks.push(json!({
            "chunk": chunk,
            "first_inode": u64::from(ag) << 22 | u64::from(chunk) << 6,
            "block": base.0 + u64::from(start),
            "used": entry.mask.get().count_ones(),
            "mask": format!("{:#018x}", entry.mask.get()),
            "check_right": entry.check.get() == reader.keys.chunk(ag, chunk, start),
        }));
    }
    let mut wrong = Vec::new();
    if let Err(error) = read_header(&Borrowed(reader.image), &reader.info, &reader.keys, ag) {
        wrong.push(error.to_string());
    }
    let used: u64 = chunks
        .iter()
        .filter_map(|chunk| chunk["used"].as_u64())
        .sum();
    let unknown = header.free_blocks.get() == UNCOUNTED;
    if reader.info.clean && (header.free_blocks.get() != free || header.used_inodes.get() != used) {
        wrong.push(
            "the counts of free blocks and used inodes are not what bitmap and masks say"
                .to_owned(),
        );
    }
    for chunk in chunks.iter().filter(|chunk| chunk["check_right"] == false) {
        wrong.push(format!(
            "chunk {}: the check value is wrong",
            chunk["chunk"]
        ));
    }
    let noted = |count: u64| if unknown { Value::Null } else { json!(count) };
    Ok(json!({
        "structure": "allocation group",
        "number": ag,
        "magic_right": header.magic.get() == MAGIC,
        "checksum_right": right,
        "first_block": base.0,
        "blocks": header.blocks.get(),
        "free_blocks_noted": noted(header.free_blocks.get()),
        "free_blocks_counted": free,
        "free_runs": runs,
        "longest_free_run": longest,
        "free_2m_slots": whole_slots,
        "used_inodes_noted": noted(header.used_inodes.get()),
        "used_inodes_counted": used,
        "wrong": wrong,
        "chunks": chunks,
    }))
}
