// SPDX-License-Identifier: GPL-2.0

//! `ochre owner`: which files a block belongs to, and by which names an inode can be reached.
//!
//! There is no way back from a block to its file on the medium, so all inodes are looked through, and then all directories
//! for the names. A filesystem that was not unmounted is looked at as its journal leaves it, in memory.

use std::collections::{BTreeMap, BTreeSet};

use ochre::engine::format::extent::{DiskExtent, Extent};
use ochre::engine::format::inode::{
    InodeRecord, ROOT_DIRECTORY, ROOT_EXTENT_TREE, ROOT_INLINE_EXTENTS, ROOT_SYMLINK_BLOCKS,
};
use ochre::engine::format::node::{EXTENT_INDEX_MAGIC, EXTENT_LEAF_MAGIC};
use ochre::engine::types::{Block, FileKind, Ino, BLOCK_SIZE};
use serde_json::{json, Value};
use zerocopy::FromBytes;

use crate::chunks::Chunks;
use crate::image::directory::entries;
use crate::inode::kind;
use crate::place::Places;
use crate::reader::{count, magic, nodes, Reader};

/// How a block is used by an inode.
struct Use {
    ino: Ino,
    kind: &'static str,
    role: &'static str,
    /// Of a file's data: block of the file, and whether it was written.
    data: Option<(u64, bool)>,
}

/// Calls `f` for every inode in use.
fn inodes(reader: &Reader<'_>, mut f: impl FnMut(Ino, &InodeRecord)) -> Result<(), String> {
    let chunks = Chunks::read(reader)?;
    let mut firsts: Vec<u64> = chunks.chunks.keys().copied().collect();
    firsts.sort_unstable();
    for block in firsts.into_iter().flat_map(|first| first..first + 4) {
        let (Some((first, used)), Ok(bytes)) = (chunks.of(block), reader.block(Block(block)))
        else {
            continue;
        };
        for at in (0..16usize).filter(|at| used >> at & 1 != 0) {
            let ino = Ino(first.0 + at as u64);
            match InodeRecord::read_from_bytes(&bytes[at * 256..at * 256 + 256]) {
                Ok(record) if record.ino.get() == ino.0 && ino != Ino::NONE => f(ino, &record),
                _ => {}
            }
        }
    }
    Ok(())
}

/// How an inode uses a block, if it does.
fn uses(
    reader: &Reader<'_>,
    record: &InodeRecord,
    block: Block,
) -> Vec<(&'static str, Option<(u64, bool)>)> {
    let mut found = Vec::new();
    let mut data = |bytes: &[u8], count: usize| {
        for disk in bytes.chunks_exact(16).take(count) {
            let Ok(disk) = DiskExtent::read_from_bytes(disk) else {
                continue;
            };
            let extent = Extent::from_disk(&disk);
            match block.0.checked_sub(extent.block.0) {
                Some(distance) if distance < extent.len => {
                    let at = extent.file_block.0.saturating_add(distance);
                    found.push(("data", Some((at, !extent.unwritten))));
                }
                _ => {}
            }
        }
    };
    match record.root {
        ROOT_INLINE_EXTENTS => data(&record.inline, usize::from(record.count).min(7)),
        ROOT_EXTENT_TREE | ROOT_DIRECTORY => {
            for (at, bytes) in nodes(reader, record) {
                if magic(&bytes) == EXTENT_LEAF_MAGIC {
                    data(&bytes[64..], count(&bytes));
                }
                if at == block {
                    let role = match (record.root, magic(&bytes)) {
                        (ROOT_DIRECTORY, _) => "names",
                        (_, EXTENT_INDEX_MAGIC | EXTENT_LEAF_MAGIC) => "tree of extents",
                        _ => "tree of extents (damaged)",
                    };
                    return vec![(role, None)];
                }
            }
        }
        ROOT_SYMLINK_BLOCKS => {
            let mut words = record.inline.chunks_exact(8).take(2);
            if block != Block::NONE && words.any(|word| word == block.0.to_le_bytes()) {
                found.push(("target of the link", None));
            }
        }
        _ => {}
    }
    if record.xattr_block.get() == block.0 && block != Block::NONE {
        found.push(("extended attributes", None));
    }
    found
}

/// Who uses a block.
pub fn of_block(reader: &Reader<'_>, number: u64) -> Result<Value, String> {
    let geometry = &reader.info.geometry;
    let block = Block(number);
    if number >= geometry.blocks {
        return Err(format!(
            "there is no block {number}: the last one is {}",
            geometry.blocks - 1
        ));
    }
    let places = Places::new(reader)?;
    let mut found = Vec::new();
    inodes(reader, |ino, record| {
        for (role, data) in uses(reader, record, block) {
            let kind = kind(FileKind::from_mode(record.mode.get()));
            found.push(Use {
                ino,
                kind,
                role,
                data,
            });
        }
    })?;
    let paths = paths(reader, found.iter().map(|usage| usage.ino))?;
    let owners = found.iter().map(|usage| {
        json!({
            "inode": usage.ino.0,
            "kind": usage.kind,
            "holds": usage.role,
            "file_block": usage.data.map(|(at, _)| at),
            "file_offset": usage.data.map(|(at, _)| at.saturating_mul(BLOCK_SIZE)),
            "state": usage.data.map(|(_, written)| if written { "written" } else { "unwritten" }),
            "paths": names(&paths, usage.ino),
        })
    });
    let mut value = json!({
        "structure": "owner",
        "block": number,
        "address": format!("{:#x}", block.address()),
        "region": places.region(number),
        "owners": owners.collect::<Vec<_>>(),
    });
    if let Some((ag, relative)) = geometry.locate(block) {
        // The bitmap may be what is lost.
        let word = reader.word(geometry.bitmap_word(ag, relative)).ok();
        value["marked_used"] = json!(word.map(|word| word >> (relative % 64) & 1 != 0));
    }
    Ok(value)
}

/// The names of an inode.
pub fn of_inode(reader: &Reader<'_>, number: u64) -> Result<Value, String> {
    let ino = Ino(number);
    let (_, record, used) = reader.inode(ino)?;
    let paths = paths(reader, [ino].into_iter())?;
    Ok(json!({
        "structure": "owner",
        "inode": number,
        "in_use": used,
        "kind": kind(FileKind::from_mode(record.mode.get())),
        "links": record.nlink.get(),
        "paths": names(&paths, ino),
    }))
}

fn names(paths: &BTreeMap<u64, Vec<String>>, ino: Ino) -> Vec<String> {
    paths.get(&ino.0).cloned().unwrap_or_default()
}

/// A name that a directory holds: directory, name.
type Link = (Ino, Vec<u8>);

/// All paths of some inodes.
fn paths(
    reader: &Reader<'_>,
    wanted: impl Iterator<Item = Ino>,
) -> Result<BTreeMap<u64, Vec<String>>, String> {
    let wanted: BTreeSet<u64> = wanted.map(|ino| ino.0).collect();
    let mut links: BTreeMap<u64, Vec<Link>> = BTreeMap::new();
    if !wanted.is_empty() {
        inodes(reader, |directory, record| {
            if record.root != ROOT_DIRECTORY {
                return;
            }
            for (ino, name) in names_in(reader, record) {
                if wanted.contains(&ino) {
                    links.entry(ino).or_default().push((directory, name));
                }
            }
        })?;
    }
    let mut paths = BTreeMap::new();
    for ino in wanted {
        let links = links.remove(&ino).unwrap_or_default();
        let mut found: Vec<String> = links
            .into_iter()
            .map(|(directory, name)| {
                let path = [&way_to(reader, directory)[..], &name].concat();
                String::from_utf8_lossy(&path).escape_debug().to_string()
            })
            .collect();
        if ino == Ino::ROOT.0 {
            found.push("/".to_owned());
        }
        found.sort_unstable();
        paths.insert(ino, found);
    }
    Ok(paths)
}

/// Names and inodes in a directory.
fn names_in(reader: &Reader<'_>, record: &InodeRecord) -> Vec<(u64, Vec<u8>)> {
    let leaves = nodes(reader, record)
        .into_iter()
        .filter(|(_, bytes)| bytes[4..6] == [0, 0]);
    leaves
        .flat_map(|(_, bytes)| entries(&bytes))
        .map(|entry| (entry.ino, entry.name))
        .collect()
}

/// The path of a directory with a slash at its end, by the parents that the directories note. Where that fails, it starts with the
/// number of the inode at which it failed.
fn way_to(reader: &Reader<'_>, directory: Ino) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut at = directory;
    let mut seen = BTreeSet::new();
    while at != Ino::ROOT {
        let name = (|| {
            let (_, record, _) = reader.inode(at).ok()?;
            let parent = Ino(record.parent.get());
            let (_, holder, _) = reader.inode(parent).ok()?;
            let mut names = names_in(reader, &holder).into_iter();
            let (_, name) = names.find(|(ino, _)| *ino == at.0)?;
            seen.insert(at.0).then_some((parent, name))
        })();
        let Some((parent, name)) = name else {
            parts.push(format!("<inode {at}>").into_bytes());
            break;
        };
        parts.push(name);
        at = parent;
    }
    if at == Ino::ROOT {
        parts.push(Vec::new());
    }
    parts.reverse();
    parts.push(Vec::new());
    parts.join(&b'/')
}
