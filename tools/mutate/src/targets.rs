// SPDX-License-Identifier: GPL-2.0

//! Entry points for a coverage-guided fuzzer: one for each structure, and one for the journal.
//!
//! Each takes bytes, puts them in the place of a structure of a sound image, makes the checksum right and uses the structure
//! as the engine does. `tools/fuzz` makes libFuzzer programs of them; the ordinary tests run them over [`corpus`].
//!
//! The first byte chooses which structure of the kind is replaced; the rest replaces it from its start.

use crate::base::{dirty, everything, Base};
use crate::cow::CowMedia;
use crate::damage::Mutator;
use crate::image::{word_at, Kind, Structure};
use ochre::engine::error::Error;
use ochre::engine::filesystem::{Filesystem, Inode, MappingState, MountOptions, NewInode, Times};
use ochre::engine::format::ag::METADATA_BLOCKS;
use ochre::engine::format::journal::{RECORD_MAGIC, SEGMENT_SIZE};
use ochre::engine::fsck;
use ochre::engine::journal::record_size;
use ochre::engine::types::{FileBlock, FileKind, Ino, Run, Timestamp};
use ochre::platform::Vec as EngineVec;
use ochre_testkit::Issues;
use std::sync::OnceLock;

/// Accesses that one input may take.
const BUDGET: u64 = 400_000;
const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

/// An entry point.
pub type Target = fn(&[u8]);

/// All entry points by name.
pub const ALL: [(&str, Target, Option<Kind>); 15] = [
    ("superblock", superblock, Some(Kind::Superblock)),
    ("journal_header", journal_header, Some(Kind::JournalHeader)),
    ("checkpoint", checkpoint, Some(Kind::Checkpoint)),
    ("journal", journal, None),
    ("orphan_table", orphan_table, Some(Kind::OrphanEntry)),
    ("group_header", group_header, Some(Kind::GroupHeader)),
    ("group_counts", group_counts, Some(Kind::GroupCounts)),
    ("block_bitmap", block_bitmap, Some(Kind::Bitmap)),
    ("chunk_map", chunk_map, Some(Kind::ChunkEntry)),
    ("inode", inode, Some(Kind::Inode)),
    ("extent_index", extent_index, Some(Kind::ExtentIndex)),
    ("extent_leaf", extent_leaf, Some(Kind::ExtentLeaf)),
    (
        "directory_index",
        directory_index,
        Some(Kind::DirectoryIndex),
    ),
    ("directory_leaf", directory_leaf, Some(Kind::DirectoryLeaf)),
    ("symlink", symlink, Some(Kind::Symlink)),
];

macro_rules! targets {
    ($($name:ident $kind:ident: $what:literal;)*) => {
        $(#[doc = $what]
        pub fn $name(data: &[u8]) {
            structure(Kind::$kind, data);
        })*
    };
}

targets! {
    superblock Superblock: "The superblock.";
    journal_header JournalHeader: "The journal's header.";
    checkpoint Checkpoint: "A checkpoint slot.";
    orphan_table OrphanEntry: "An entry of the orphan table.";
    group_header GroupHeader: "A group's header.";
    group_counts GroupCounts: "A group's counts.";
    chunk_map ChunkEntry: "An entry of the chunk map.";
    inode Inode: "An inode record.";
    extent_index ExtentIndex: "An index node of an extent tree.";
    extent_leaf ExtentLeaf: "A leaf of an extent tree.";
    directory_index DirectoryIndex: "An index node of a directory.";
    directory_leaf DirectoryLeaf: "A leaf of a directory.";
    symlink Symlink: "A block of a symbolic link.";
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    ochre::platform::log::set_quiet(true);
    ochre::platform::set_current_cpu(0);
    BASE.get_or_init(everything)
}

fn dirty_base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    ochre::platform::log::set_quiet(true);
    ochre::platform::set_current_cpu(0);
    BASE.get_or_init(dirty)
}

fn of_kind(base: &Base, kind: Kind) -> impl Iterator<Item = &Structure> {
    base.image.structures.iter().filter(move |s| s.kind == kind)
}

/// Replaces a structure of a kind and uses it.
fn structure(kind: Kind, data: &[u8]) {
    let base = base();
    let Some((choice, content)) = data.split_first() else {
        return;
    };
    let count = of_kind(base, kind).count();
    let Some(structure) = of_kind(base, kind).nth(usize::from(*choice) % count.max(1)) else {
        return;
    };
    let media = base.media(BUDGET);
    let mut bytes = media.bytes(structure.address, structure.len);
    let n = content.len().min(bytes.len());
    bytes[..n].copy_from_slice(&content[..n]);
    Mutator::new(&base.image, &[]).seal(structure, &mut bytes);
    media.damage(structure.address, &bytes);
    attempt(base, &media, &[structure.owner]);
}

/// A group's bitmap. It has no checksum: what it may say is bounded by what the group's structures and the trees say. With the
/// highest bit of the first byte the bits of the group's own structures may be clear, too, at which the group is refused at once.
pub fn block_bitmap(data: &[u8]) {
    let base = base();
    let Some((choice, content)) = data.split_first() else {
        return;
    };
    let count = of_kind(base, Kind::Bitmap).count();
    let which = usize::from(*choice & 0x7f) % count.max(1);
    let Some(bitmap) = of_kind(base, Kind::Bitmap).nth(which) else {
        return;
    };
    let media = base.media(BUDGET);
    let mut bytes = media.bytes(bitmap.address, bitmap.len);
    for (n, (byte, new)) in bytes.iter_mut().zip(content).enumerate() {
        let own = METADATA_BLOCKS.saturating_sub(n as u64 * 8).min(8);
        let own = if *choice < 0x80 { (1u16 << own) - 1 } else { 0 };
        *byte = new | own as u8;
    }
    media.damage(bitmap.address, &bytes);
    // Whoever takes or frees blocks: a few of each kind, the root first.
    let inodes = &base.image.inodes;
    let mut owners: Vec<Ino> = inodes.keys().map(|&ino| Ino(ino)).collect();
    owners.retain(|ino| {
        let known = &inodes[&ino.0];
        known.record.nlink.get() > 0 && known.kind != FileKind::Symlink
    });
    let step = owners.len() / 6 + 1;
    let owners: Vec<Ino> = owners.into_iter().step_by(step).collect();
    attempt(base, &media, &owners);
}

/// The content of a journal segment: records get a magic and a checksum, so that all of them are looked at.
pub fn journal(data: &[u8]) {
    let base = dirty_base();
    let media = base.media(BUDGET);
    let g = base.image.info.geometry;
    let Some((choice, content)) = data.split_first() else {
        return;
    };
    let segment = g.lane(u32::from(*choice) % g.lanes) + u64::from(*choice >> 6) * SEGMENT_SIZE;
    let mut bytes = content.to_vec();
    bytes.truncate(SEGMENT_SIZE as usize);
    bytes.resize(bytes.len().next_multiple_of(64), 0);
    let mut at = 0;
    while at + 64 <= bytes.len() {
        let room = (bytes.len() - at - 32) / 8;
        let words = (word_at(&bytes, at) >> 32) as usize % room + 1;
        let word0 = u64::from(RECORD_MAGIC) | (words as u64) << 32;
        bytes[at..at + 8].copy_from_slice(&word0.to_le_bytes());
        let size = record_size(words + 4) as usize;
        let record = Structure {
            kind: Kind::Record,
            address: segment + at as u64,
            len: (words + 4) * 8,
            owner: Ino::NONE,
            index: 0,
            extra: words as u32,
            parent: ochre::engine::types::Block::NONE,
        };
        let end = at + record.len;
        Mutator::new(&base.image, &[]).seal(&record, &mut bytes[at..end]);
        at += size;
    }
    media.damage(segment, &bytes);
    attempt(base, &media, &[Ino::ROOT]);
}

/// Mounts, uses the inodes that the structure belongs to, unmounts, checks.
fn attempt(base: &Base, media: &CowMedia, owners: &[Ino]) {
    if let Ok(fs) = Filesystem::mount(media.clone(), &MountOptions { read_only: false }) {
        for &owner in owners {
            let owner = if owner == Ino::NONE { fs.root() } else { owner };
            let orphan = base
                .image
                .inodes
                .get(&owner.0)
                .is_some_and(|known| known.record.nlink.get() == 0);
            if orphan {
                let _ = fs.finish_orphans();
            } else if let Ok(inode) = fs.iget(owner) {
                apply(&fs, &inode);
                let _ = fs.evict(&inode);
            }
        }
        fs.statfs();
        fs.unmount()
            .expect("an unmount fails for the medium's sake only");
    }
    media.allow(BUDGET);
    let mut issues = Issues::default();
    let _ = fsck::check(media, fsck::Options::default(), &mut issues);
}

fn apply(fs: &Filesystem<CowMedia>, inode: &Inode) {
    let times = Times::default();
    match inode.kind() {
        FileKind::Directory => {
            let mut names = Vec::new();
            let _ = fs.readdir(inode, 0, &mut |entry| {
                names.push(entry.name.to_vec());
                names.len() < 300
            });
            for name in &names {
                let _ = fs.lookup(inode, name);
            }
            let new = NewInode::new(0o100644, NOW);
            for name in [&b"a"[..], &[b'n'; 200]] {
                let _ = fs.create(inode, name, &new);
            }
            // Away with the first ones; one that is a directory stays.
            for name in names.iter().take(3) {
                let found = fs.lookup(inode, name).and_then(|ino| fs.iget(ino));
                if let Ok(child) = found {
                    if child.ino() != inode.ino() && fs.unlink(inode, name, &child, NOW).is_ok() {
                        let _ = fs.evict(&child);
                    }
                }
            }
        }
        FileKind::Regular => {
            read(fs, inode);
            let _ = fs.fault_allocate(inode, FileBlock(1), 1);
            let _ = fs.preallocate(inode, FileBlock(7), 9, None, &times);
            let _ = fs.punch(inode, FileBlock(2), FileBlock(9), &times);
            let _ = fs.truncate(inode, 5000, &times);
            let _ = fs.truncate(inode, 0, &times);
        }
        FileKind::Symlink => {
            let _ = fs.readlink(inode, &mut EngineVec::new());
        }
        _ => {}
    }
}

fn read(fs: &Filesystem<CowMedia>, inode: &Inode) {
    let mut at = FileBlock(0);
    for _ in 0..700 {
        let mapping = match fs.map(inode, at, 1 << 40) {
            Ok(mapping) => mapping,
            Err(Error::Corrupt(_) | Error::Io | Error::Invalid) => return,
            Err(other) => panic!("map says {other:?}"),
        };
        if let MappingState::Written(start) | MappingState::Unwritten(start) = mapping.state {
            let run = Run {
                start,
                len: mapping.len,
            };
            assert!(
                fs.volume().geometry().locate_run(run).is_some(),
                "{mapping:?} is no data"
            );
        }
        assert!(mapping.len > 0);
        at = at.plus(mapping.len);
        if at >= FileBlock::END {
            return;
        }
    }
}

/// Inputs to begin with: the structures of a sound image, as they are.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let Some((_, _, kind)) = ALL.iter().find(|(known, ..)| *known == name) else {
        return Vec::new();
    };
    let Some(kind) = kind else {
        let base = dirty_base();
        let media = base.media(crate::base::PLENTY);
        let segment = media.bytes(base.image.info.geometry.lane(0), 8192);
        return [256, 1024, 8192]
            .map(|n| [&[0], &segment[..n]].concat())
            .to_vec();
    };
    let base = base();
    let media = base.media(crate::base::PLENTY);
    let all = of_kind(base, *kind).take(8).enumerate();
    all.map(|(n, s)| [&[n as u8], &media.bytes(s.address, s.len)[..]].concat())
        .collect()
}
