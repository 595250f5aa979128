// SPDX-License-Identifier: GPL-2.0

//! The superblock and its copy.

use ochre::engine::checksum;
use ochre::engine::format::superblock::{Superblock, CHECKED, CLEAN, DIRTY, MAGIC};
use ochre::engine::media::Media;
use ochre::engine::types::BLOCK_SIZE;
use ochre_tools::image::Image;
use ochre_tools::units::show_size;
use serde_json::{json, Value};
use uuid::Uuid;
use zerocopy::FromBytes;

/// Both superblocks; where the copy is, the primary says, or else the size of the device.
pub fn show(image: &Image, name: &str) -> Result<Value, String> {
    let primary = read(image, 0)?;
    let device = image.size() / BLOCK_SIZE;
    let blocks = primary
        .as_ref()
        .map_or(device, |(superblock, _)| superblock.blocks.get());
    let last = blocks
        .checked_sub(1)
        .filter(|last| *last < device)
        .unwrap_or(device.max(1) - 1);
    let copy = read(image, last)?;
    if primary.is_none() && copy.is_none() {
        return Err(format!("{name} holds no Ochre filesystem"));
    }
    let same = match (&primary, &copy) {
        (Some((one, _)), Some((other, _))) => {
            let bytes = zerocopy::IntoBytes::as_bytes;
            bytes(one)[..CHECKED] == bytes(other)[..CHECKED]
        }
        _ => false,
    };
    let mut value = match primary.as_ref().or(copy.as_ref()) {
        Some((superblock, right)) => fields(superblock, *right),
        None => json!({}),
    };
    value["primary"] = json!(state(primary.as_ref()));
    value["copy"] = json!(match state(copy.as_ref()) {
        "right" if same => "same",
        "right" => "different",
        other => other,
    });
    value["copy_block"] = json!(last);
    let mut wrong = Vec::new();
    if value["primary"] != "right" {
        wrong.push(format!(
            "the superblock: {}",
            value["primary"].as_str().unwrap_or_default()
        ));
    }
    if value["copy"] != "same" {
        wrong.push(format!(
            "its copy: {}",
            value["copy"].as_str().unwrap_or_default()
        ));
    }
    value["wrong"] = json!(wrong);
    Ok(value)
}

fn state(read: Option<&(Superblock, bool)>) -> &'static str {
    match read {
        None => "missing",
        Some((_, true)) => "right",
        Some((_, false)) => "wrong checksum",
    }
}

fn read(image: &Image, block: u64) -> Result<Option<(Superblock, bool)>, String> {
    let mut bytes = [0; 512];
    let address = block * BLOCK_SIZE;
    if address + 512 > image.size() {
        return Ok(None);
    }
    image
        .read(address, &mut bytes)
        .map_err(|error| format!("block {block}: {error}"))?;
    let Ok(superblock) = Superblock::read_from_bytes(&bytes) else {
        return Ok(None);
    };
    if superblock.magic.get() != MAGIC {
        return Ok(None);
    }
    let right = superblock.checksum.get() == checksum::superblock(&bytes[..CHECKED]);
    Ok(Some((superblock, right)))
}

/// The fields of a superblock; the secrets are not among them.
pub fn fields(superblock: &Superblock, right: bool) -> Value {
    let state = superblock.state.get();
    let label = String::from_utf8_lossy(&superblock.label);
    json!({
        "structure": "superblock",
        "checksum_right": right,
        "version": superblock.version.get(),
        "uuid": Uuid::from_bytes(superblock.uuid).to_string(),
        "label": label.trim_end_matches('\0'),
        "state": match state {
            CLEAN => "clean".to_owned(),
            DIRTY => "dirty".to_owned(),
            other => format!("{other:#x}"),
        },
        "size": show_size(superblock.blocks.get().saturating_mul(BLOCK_SIZE)),
        "blocks": superblock.blocks.get(),
        "block_size": 1u64.checked_shl(superblock.block_shift.get()).unwrap_or(0),
        "phase": superblock.phase.get(),
        "journal_block": superblock.journal.get(),
        "lanes": superblock.lanes.get(),
        "orphan_table_block": superblock.orphans.get(),
        "orphan_slots": superblock.orphan_slots.get(),
        "groups_from_block": superblock.ag_start.get(),
        "group_blocks": superblock.ag_blocks.get(),
        "groups": superblock.ag_count.get(),
        "root_inode": superblock.root.get(),
        "created": crate::inode::time(superblock.created.get()),
        "features_compat": format!("{:#x}", superblock.compat.get()),
        "features_ro_compat": format!("{:#x}", superblock.ro_compat.get()),
        "features_incompat": format!("{:#x}", superblock.incompat.get()),
    })
}
