// SPDX-License-Identifier: GPL-2.0

//! The screen that mkfs ends with.

use std::fmt::Write;

use ochre::engine::format::journal::LANE_SIZE;
use ochre::engine::superblock::SuperInfo;
use ochre::engine::types::{AG_BLOCKS, BLOCK_SIZE};
use ochre_tools::units::show_size;
use uuid::Uuid;

/// What was made, in a few lines.
pub fn text(name: &str, info: &SuperInfo) -> String {
    let geometry = &info.geometry;
    let label = String::from_utf8_lossy(&info.label);
    let label = label.trim_end_matches('\0');
    let data: u64 = (0..geometry.ag_count)
        .map(|ag| geometry.ag_blocks(ag).saturating_sub(512))
        .sum();
    let journal = u64::from(geometry.lanes) * LANE_SIZE;
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "  {key:<8} {value}");
    };
    line("uuid", Uuid::from_bytes(info.uuid).to_string());
    if !label.is_empty() {
        line("label", label.to_owned());
    }
    line(
        "size",
        format!(
            "{} ({} blocks of 4 KiB)",
            show_size(geometry.size()),
            geometry.blocks
        ),
    );
    line(
        "for data",
        format!("{} ({data} blocks)", show_size(data * BLOCK_SIZE)),
    );
    line("groups", {
        let last = geometry.ag_blocks(geometry.ag_count.saturating_sub(1));
        let count = geometry.ag_count;
        let size = show_size(last * BLOCK_SIZE);
        match (count, last == AG_BLOCKS) {
            (1, _) => format!("1 of {size}"),
            (_, true) => format!("{count} of {size}"),
            (_, false) => format!("{count} of 1 GiB, the last one of {size}"),
        }
    });
    line(
        "journal",
        format!("{} in {} lanes", show_size(journal), geometry.lanes),
    );
    line("orphans", format!("{} at a time", geometry.orphan_slots));
    let aligned = if info.phase == 0 {
        "starts on a 2 MiB boundary of physical memory".to_owned()
    } else {
        format!(
            "starts {:#x} bytes behind a 2 MiB boundary of physical memory",
            info.phase
        )
    };
    line("memory", aligned);
    format!("{name}: Ochre filesystem made\n{text}")
}
