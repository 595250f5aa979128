// SPDX-License-Identifier: GPL-2.0

//! Damaged images as a file for the guest: each base once, each image as what it changes.
//!
//! The guest is slow where everything is emulated, so all that needs thought is done here. A pack is little endian:
//!
//! | field | content |
//! |---|---|
//! | 8 bytes | `OBADIMG1` |
//! | u32 | number of bases; for each: u64 bytes, u64 end of the part to restore whole, u32 pages, pages as u64 number and 4096 bytes |
//! | u32 | number of images; for each: u32 base, u64 seed, text, u32 paths, texts, u32 writes, writes as u64 address, u32 length and bytes |
//!
//! A text is a u16 length and bytes. Paths are those of the files that the damage belongs to.

use crate::base::{Base, PLENTY};
use crate::cow::CowMedia;
use crate::image::Kind;
use crate::trial;
use ochre::engine::filesystem::{Filesystem, MountOptions};
use ochre::engine::format::ag::METADATA_BLOCKS;
use ochre::engine::types::{FileKind, Ino, BLOCK_SIZE};
use ochre_sim::seed::Random;
use std::collections::BTreeMap;

fn u32_of(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("small").to_le_bytes()
}

fn text(into: &mut Vec<u8>, text: &[u8]) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    into.extend_from_slice(&len.to_le_bytes());
    into.extend_from_slice(&text[..usize::from(len)]);
}

/// A pack of `count` images, with seeds from `first` on. Damage to file data alone is left out: there is nothing to see.
pub fn write(bases: &[Base], foreign: &[Vec<u8>], first: u64, count: usize) -> Vec<u8> {
    let mut pack = b"OBADIMG1".to_vec();
    pack.extend_from_slice(&u32_of(bases.len()));
    for base in bases {
        let g = base.image.info.geometry;
        pack.extend_from_slice(&base.frozen.size().to_le_bytes());
        let whole = g.ag_start.plus(METADATA_BLOCKS).0 * BLOCK_SIZE;
        pack.extend_from_slice(&whole.to_le_bytes());
        let pages = base.frozen.pages();
        pack.extend_from_slice(&u32_of(pages.len()));
        for (number, bytes) in pages {
            pack.extend_from_slice(&number.to_le_bytes());
            pack.extend_from_slice(bytes);
        }
    }
    let names: Vec<_> = bases.iter().map(paths).collect();
    pack.extend_from_slice(&u32_of(count));
    let (mut seed, mut written) = (first, 0);
    while written < count {
        let number = usize::from(seed % 3 == 0) % bases.len();
        let base = &bases[number];
        let media = base.media(PLENTY);
        let damages = trial::damage(base, foreign, &media, &mut Random::new(seed));
        if damages.iter().any(|damage| damage.kind != Kind::Data) {
            written += 1;
            pack.extend_from_slice(&u32_of(number));
            pack.extend_from_slice(&seed.to_le_bytes());
            let texts: Vec<&str> = damages.iter().map(|damage| &damage.text[..]).collect();
            text(&mut pack, texts.join("; ").as_bytes());
            let owners = damages
                .iter()
                .filter_map(|damage| names[number].get(&damage.owner));
            let owners: Vec<&Vec<u8>> = owners.collect();
            pack.extend_from_slice(&u32_of(owners.len()));
            for path in owners {
                text(&mut pack, path);
            }
            let writes: Vec<_> = damages.iter().flat_map(|damage| &damage.writes).collect();
            pack.extend_from_slice(&u32_of(writes.len()));
            for (address, bytes) in writes {
                pack.extend_from_slice(&address.to_le_bytes());
                pack.extend_from_slice(&u32_of(bytes.len()));
                pack.extend_from_slice(bytes);
            }
        }
        seed += 1;
    }
    pack
}

/// A path to each inode that has one.
fn paths(base: &Base) -> BTreeMap<Ino, Vec<u8>> {
    let media = CowMedia::new(&base.frozen, PLENTY);
    let fs = Filesystem::mount(media, &MountOptions { read_only: true }).expect("a sound image");
    let mut paths = BTreeMap::from([(fs.root(), Vec::new())]);
    let mut todo = vec![fs.root()];
    while let Some(ino) = todo.pop() {
        let dir = fs.iget(ino).expect("a sound image");
        let above = paths.get(&ino).cloned().unwrap_or_default();
        fs.readdir(&dir, 0, &mut |entry| {
            let mut path = above.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(entry.name);
            if paths.insert(entry.ino, path).is_none() && entry.kind == FileKind::Directory {
                todo.push(entry.ino);
            }
            true
        })
        .expect("a sound image");
    }
    paths
}
