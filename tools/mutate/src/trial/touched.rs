// SPDX-License-Identifier: GPL-2.0

//! Which files a damage has to do with, and whether the others are as they were.
//!
//! No filesystem without a map from blocks to owners can know that a damaged extent leads into another file, or that a
//! block whose bit is lost is in use. So the files that a damaged structure leads into count as touched. The judgement uses
//! nothing of the engine: it compares bytes, and takes every word of a damaged structure for a pointer.

use crate::base::Base;
use crate::cow::CowMedia;
use crate::image::{extent_at, word_at, Image, Kind, Use};
use ochre::engine::format::ag::{BITMAP_BLOCK, CHUNK_BLOCKS, CHUNK_MAP_BLOCK};
use ochre::engine::types::{Block, FileKind, Ino, Run, AG_BLOCKS};
use std::collections::BTreeSet;

const PAGE: u64 = 4096;

/// The inodes that the damage has to do with: what differs from the sound image after the mount, and where that leads.
pub fn find(base: &Base, media: &CowMedia) -> BTreeSet<Ino> {
    let mut touched = BTreeSet::new();
    let mut pages: BTreeSet<u64> = media.changed().into_iter().collect();
    pages.extend(base.replayed.iter().copied());
    let sound = CowMedia::new(&base.mounted, u64::MAX);
    for page in pages {
        let (old, new) = (
            sound.bytes(page * PAGE, 4096),
            media.bytes(page * PAGE, 4096),
        );
        if old != new {
            block(&base.sound, page, &old, &new, &mut touched);
        }
    }
    touched
}

fn block(image: &Image, page: u64, old: &[u8], new: &[u8], touched: &mut BTreeSet<Ino>) {
    let g = &image.info.geometry;
    match image.uses.get(&page) {
        Some(Use::Data(ino)) => {
            touched.insert(*ino);
        }
        Some(Use::Node(ino, kind)) => {
            touched.insert(*ino);
            follow(image, new, touched);
            if *kind == Kind::DirectoryLeaf {
                for at in (0..4096).step_by(8) {
                    touched.insert(Ino(word_at(new, at)));
                    touched.insert(Ino(word_at(old, at)));
                }
            }
        }
        Some(Use::Chunk(agno, index)) => {
            let start = image.chunks.get(&(*agno, *index)).map_or(0, |b| b.0);
            for record in 0..16 {
                let part = record * 256..(record + 1) * 256;
                if old[part.clone()] != new[part.clone()] {
                    let slot = (page - start) as u32 * 16 + record as u32;
                    touched.insert(Ino::from_parts(*agno, *index, slot));
                    follow(image, &new[part.start + 144..part.end], touched);
                    for at in (part.start..part.end).step_by(8) {
                        touched.insert(Ino(word_at(new, at)));
                    }
                }
            }
        }
        None if (g.orphans.0..g.ag_start.0).contains(&page) => {
            for at in (0..4096).step_by(8) {
                if word_at(old, at) != word_at(new, at) {
                    touched.insert(Ino(word_at(old, at)));
                    touched.insert(Ino(word_at(new, at)));
                }
            }
        }
        None => {
            if let Some((agno, relative)) = g.locate(Block(page)) {
                group(image, agno, relative, old, new, touched);
            }
        }
    }
}

/// A block of a group's own metadata.
fn group(
    image: &Image,
    agno: u32,
    relative: u64,
    old: &[u8],
    new: &[u8],
    touched: &mut BTreeSet<Ino>,
) {
    let base = image.info.geometry.ag_base(agno);
    if (BITMAP_BLOCK..BITMAP_BLOCK + 8).contains(&relative) {
        for at in (0..4096).step_by(8) {
            let lost = word_at(old, at) & !word_at(new, at);
            let first = (relative - BITMAP_BLOCK) * 4096 * 8 + at as u64 * 8;
            for bit in (0..64).filter(|bit| lost >> bit & 1 == 1) {
                let start = base.plus(first + bit);
                touched.extend(image.owners(Run { start, len: 1 }));
            }
        }
    } else if (CHUNK_MAP_BLOCK..CHUNK_MAP_BLOCK + 256).contains(&relative) {
        for at in (0..4096).step_by(16) {
            if old[at..at + 16] == new[at..at + 16] {
                continue;
            }
            let index = ((relative - CHUNK_MAP_BLOCK) * 256 + at as u64 / 16) as u32;
            touched.extend((0..64).map(|slot| Ino::from_parts(agno, index, slot)));
            let start = word_at(new, at) & 0xffff_ffff;
            if start < AG_BLOCKS {
                let start = base.plus(start);
                let len = CHUNK_BLOCKS;
                touched.extend(image.owners(Run { start, len }));
            }
        }
    } else if relative == 0 && old[80..88] != new[80..88] {
        // Chunks that the group has lost.
        for index in word_at(new, 80).min(1 << 16)..word_at(old, 80) {
            touched.extend((0..64).map(|slot| Ino::from_parts(agno, index as u32, slot)));
        }
    }
}

/// Where the pairs of words lead, taken for extents, for children, and for blocks of a target.
fn follow(image: &Image, bytes: &[u8], touched: &mut BTreeSet<Ino>) {
    for at in (0..bytes.len()).step_by(16) {
        let extent = extent_at(bytes, at);
        for run in [
            Run {
                start: extent.block,
                len: extent.len,
            },
            Run {
                start: Block(word_at(bytes, at)),
                len: 1,
            },
            Run {
                start: Block(word_at(bytes, at + 8)),
                len: 1,
            },
        ] {
            if run.start.0 < image.info.geometry.blocks {
                touched.extend(image.owners(run));
            }
        }
    }
}

/// The files, links and their bytes that are neither touched nor modified, and yet not what they were.
pub fn changed(
    base: &Base,
    media: &CowMedia,
    touched: &BTreeSet<Ino>,
    modified: &BTreeSet<Ino>,
) -> Vec<String> {
    let pages: BTreeSet<u64> = media.changed().into_iter().collect();
    let sound = CowMedia::new(&base.mounted, u64::MAX);
    let differs = |address: u64, len: usize| {
        pages.contains(&(address / PAGE)) && sound.bytes(address, len) != media.bytes(address, len)
    };
    let mut wrong = Vec::new();
    for page in &pages {
        let (what, ino) = match base.sound.uses.get(page) {
            Some(Use::Data(ino)) => ("data", *ino),
            Some(Use::Node(ino, _)) => ("a tree block", *ino),
            _ => continue,
        };
        if untouched(base, ino, touched, modified) && differs(page * PAGE, 4096) {
            wrong.push(format!("block {page}, {what} of inode {ino}, has changed"));
        }
    }
    for (ino, known) in &base.sound.inodes {
        let at = known.address;
        if untouched(base, Ino(*ino), touched, modified)
            && (differs(at, 120) || differs(at + 144, 112))
        {
            wrong.push(format!("the record of inode {ino} has changed"));
        }
    }
    wrong.truncate(5);
    wrong
}

fn untouched(base: &Base, ino: Ino, touched: &BTreeSet<Ino>, modified: &BTreeSet<Ino>) -> bool {
    let Some(known) = base.sound.inodes.get(&ino.0) else {
        return false;
    };
    matches!(known.kind, FileKind::Regular | FileKind::Symlink)
        && known.record.orphan.get() == 0
        && !touched.contains(&ino)
        && !modified.contains(&ino)
}
