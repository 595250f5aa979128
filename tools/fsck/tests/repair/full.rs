// SPDX-License-Identifier: GPL-2.0

//! Damage on a filesystem without a free block: what can be repaired in place is, and what has no
//! room is said and stays.

use super::*;

use ochre::engine::filesystem::NewInode;
use ochre::engine::format::ag::FREE_BLOCKS_OFFSET;
use ochre::engine::format::extent::Extent;
use ochre::engine::types::{Block, FileBlock, FileKind};
use ochre::engine::verify::inode_sum;
use ochre_mutate::base::PLENTY;
use ochre_mutate::cow::{CowMedia, Frozen};
use ochre_mutate::damage::Mutator;
use ochre_mutate::image::{Image, Kind};
use ochre_sim::seed::{seed, Random};
use ochre_sim::MemoryMedia;
use ochre_testkit::{make, Writer};
use zerocopy::IntoBytes;

/// A filesystem of 16 MiB, full to the last block: directories with leaves of their own, trees of
/// extents, and one file with all that is left.
fn full() -> MemoryMedia {
    let media = make(16 << 20);
    let mut writer = Writer::new(&media);
    let root = writer.root();
    let dir = writer.create(&root, "directory", 0o040755);
    for n in 0..150 {
        let name = format!("a name that fills a leaf soon, number {n}");
        let file = writer.create(&dir, &name, 0o100644);
        if n % 10 == 0 {
            writer.write(&file, 0, 1, 4000, b'a' + (n % 26) as u8);
        }
    }
    let sparse = writer.create(&root, "sparse", 0o100644);
    for n in 0..300 {
        writer.write(&sparse, n * 2, 1, n * 8192 + 4096, b'A' + (n % 26) as u8);
    }
    let rest = writer.create(&root, "rest", 0o100644);
    let times = writer.times();
    let mut at = 0;
    // Space that is kept for metadata cannot be had by data; a directory takes it.
    while let Ok(()) = writer.fs.preallocate(&rest, FileBlock(at), 1, None, &times) {
        at += 1;
    }
    let time = writer.now();
    let mut n = 0;
    loop {
        let name = format!("{n:0240}");
        if writer.fs.link(&dir, name.as_bytes(), &rest, time).is_err() {
            break;
        }
        n += 1;
    }
    // Single blocks: the last of them are targets of symbolic links.
    let mut new = NewInode {
        symlink: Some(&[b's'; 4000]),
        ..NewInode::new(0o120777, time)
    };
    for n in 0..64 {
        new.time = writer.now();
        let name = format!("{n}");
        if writer.fs.create(&root, name.as_bytes(), &new).is_err() {
            break;
        }
    }
    writer.unmount();
    fill(&media);
    media
}

/// Gives the blocks that the engine keeps for removals to empty files.
fn fill(media: &MemoryMedia) {
    let image = Image::read(media).expect("a sound image");
    let g = image.info.geometry;
    let mut empty = image.inodes.values().filter(|known| {
        known.kind == FileKind::Regular && known.extents.is_empty() && known.nodes.is_empty()
    });
    for relative in 512..g.ag_blocks(0) {
        let address = g.bitmap_word(0, relative);
        let word = media.read_u64(address).expect("a word");
        if word >> (relative % 64) & 1 != 0 {
            continue;
        }
        media.store_u64(address, word | 1 << (relative % 64));
        let known = empty.next().expect("an empty file");
        let mut record = known.record;
        let extent = Extent {
            file_block: FileBlock(0),
            len: 1,
            block: g.ag_base(0).plus(relative),
            unwritten: true,
        };
        record.count = 1;
        record.inline[..16].copy_from_slice(extent.to_disk().as_bytes());
        record.blocks.set(1);
        record.checksum.set(inode_sum(&image.keys, &record));
        media.store(known.address, record.as_bytes());
    }
    media.store_u64(g.ag_base(0).address() + FREE_BLOCKS_OFFSET, 0);
}

#[test]
fn there_is_always_something_that_can_be_done() {
    let media = full();
    assert_eq!(issues_of(&media, true), []);
    let frozen = Frozen::of(&media);
    let image = Image::read(&media).expect("a sound image");
    let before = contents(CowMedia::new(&frozen, PLENTY)).expect("a sound image");
    let seed = seed("there_is_always_something_that_can_be_done");
    let mut random = Random::new(seed);
    let (mut left, mut whole) = (0, 0);
    for case in 0..cases(150) {
        let media = CowMedia::new(&frozen, 1 << 26);
        let mutator = Mutator::new(&image, &[]);
        let mut touched = BTreeSet::new();
        let mut texts = Vec::new();
        let mut two_owners = false;
        let mut kinds = BTreeSet::new();
        for _ in 0..=random.below(3) {
            let damage = mutator.damage(&media, &mut random);
            if matches!(damage.kind, Kind::Superblock | Kind::SuperblockCopy) {
                continue;
            }
            for (address, bytes) in &damage.writes {
                media.damage(*address, bytes);
            }
            if matches!(damage.kind, Kind::Record | Kind::Checkpoint) {
                touched.extend(image.inodes.keys());
            }
            let extents = [Kind::Inode, Kind::ExtentIndex, Kind::ExtentLeaf];
            two_owners |= extents.contains(&damage.kind);
            // A chunk that neither its entry nor the count vouches for is gone, with its inodes.
            kinds.insert(damage.kind);
            if kinds.contains(&Kind::GroupCounts) && kinds.contains(&Kind::ChunkEntry) {
                touched.extend(image.inodes.keys());
            }
            touched.insert(damage.owner.0);
            texts.push(damage.text);
        }
        let what = format!("case {case}: {texts:?}");
        let (actions, outcome) = match repair(&media) {
            Ok(done) => done,
            Err(error) => panic!("{what}: {error}"),
        };
        if outcome.left != 0 {
            left += 1;
            // Named as what it is; the rest is sound.
            let issues = issues_of(&media, true);
            assert!(!issues.is_empty(), "{what}");
            continue;
        }
        whole += 1;
        // Where two files without a fault claim a block and there is no room for a copy, one of them loses it; that it is the right
        // one cannot be known. It is said.
        touched.extend(actions.iter().filter_map(|action| match action {
            Action::ExtentCut { ino, .. } if two_owners => Some(ino.0),
            _ => None,
        }));
        assert_eq!(issues_of(&media, true), [], "{what}");
        compare(media, &before, &touched, &actions, &what);
    }
    println!("full: {whole} repaired, {left} had too little room");
    assert!(left * 4 < whole, "{left} of {whole}");
}

#[test]
fn no_room_in_lost_found() {
    let media = full();
    let image = Image::read(&media).expect("a sound image");
    // The root directory loses its only leaf: all that it named is without a name, and while its
    // block is free again, one block is not enough for both `lost+found` and the root.
    let root = &image.inodes[&1];
    assert_eq!(root.nodes.len(), 1);
    let node: Block = root.nodes[0];
    media.damage(node.address(), &[0; 4096]);
    let (actions, outcome) = repair(&media).expect("a repair");
    assert_eq!(outcome.left, 1, "{actions:?}");
    assert!(actions
        .iter()
        .any(|action| matches!(action, Action::NotRelinked { .. })));
    let issues = issues_of(&media, true);
    assert!(issues
        .iter()
        .all(|issue| matches!(issue, Issue::InodeUnreachable { .. } | Issue::NotClean(_))));
    assert!(!issues.is_empty());
}
