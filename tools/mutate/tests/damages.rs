// SPDX-License-Identifier: GPL-2.0

//! Single damages, each with what the engine must say of it. What random damage has found is kept here.

use ochre::engine::error::{Error, Result};
use ochre::engine::filesystem::{Filesystem, Inode, MountOptions, NewInode, Times};
use ochre::engine::format::extent::Extent;
use ochre::engine::media::Media;
use ochre::engine::types::{Block, FileBlock, FileKind, Ino, Timestamp};
use ochre_mutate::base::{deep, everything, Base, PLENTY};
use ochre_mutate::cow::CowMedia;
use ochre_mutate::damage::Mutator;
use ochre_mutate::image::{word_at, Kind, Known, Structure};
use zerocopy::IntoBytes;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

/// A base, a damaged medium over it, and names.
struct Sick {
    base: Base,
    media: CowMedia,
}

impl Sick {
    fn new() -> Self {
        ochre::platform::set_current_cpu(0);
        let base = everything();
        let media = base.media(PLENTY);
        Self { base, media }
    }

    /// With a directory whose index has two levels.
    fn deep() -> Self {
        ochre::platform::set_current_cpu(0);
        let base = deep();
        let media = base.media(PLENTY);
        Self { base, media }
    }

    fn ino(&self, name: &str) -> Ino {
        let fs =
            Filesystem::mount(self.base.media(PLENTY), &MountOptions { read_only: true }).unwrap();
        let mut dir = fs.iget(fs.root()).unwrap();
        for part in name.split('/') {
            dir = fs.iget(fs.lookup(&dir, part.as_bytes()).unwrap()).unwrap();
        }
        dir.ino()
    }

    fn known(&self, ino: Ino) -> &Known {
        &self.base.image.inodes[&ino.0]
    }

    fn structure(&self, kind: Kind, owner: Ino, n: usize) -> Structure {
        let mut all = self
            .base
            .image
            .structures
            .iter()
            .filter(|s| s.kind == kind && s.owner == owner);
        *all.nth(n).unwrap()
    }

    /// Changes a structure and makes its checksum right.
    fn edit(&self, structure: &Structure, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self.media.bytes(structure.address, structure.len);
        change(&mut bytes);
        Mutator::new(&self.base.image, &[]).seal(structure, &mut bytes);
        self.media.damage(structure.address, &bytes);
    }

    fn edit_inode(&self, ino: Ino, change: impl FnOnce(&mut [u8])) {
        self.edit(&self.structure(Kind::Inode, ino, 0), change);
    }

    fn try_mount(&self) -> Result<Filesystem<CowMedia>> {
        self.media.allow(2_000_000);
        Filesystem::mount(self.media.clone(), &MountOptions { read_only: false })
    }

    fn mount(&self) -> Filesystem<CowMedia> {
        self.try_mount().expect("a mount")
    }
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

fn put_extent(bytes: &mut [u8], at: usize, change: impl FnOnce(&mut Extent)) {
    let mut extent = ochre_mutate::image::extent_at(bytes, at);
    change(&mut extent);
    bytes[at..at + 16].copy_from_slice(extent.to_disk().as_bytes());
}

/// The result is damage, named so, and the filesystem is read-only.
#[track_caller]
fn says<T>(fs: &Filesystem<CowMedia>, result: Result<T>, what: &str) {
    match result {
        Err(Error::Corrupt(c)) => assert_eq!(c.what, what),
        Err(other) => panic!("says {other:?}"),
        Ok(_) => panic!("nothing was noticed"),
    }
    assert!(fs.read_only_error());
}

fn new_file() -> NewInode<'static> {
    NewInode::new(0o100644, NOW)
}

fn root(fs: &Filesystem<CowMedia>) -> Inode {
    fs.iget(fs.root()).expect("the root")
}

#[test]
fn an_extent_of_an_inode_never_leads_to_metadata() {
    let sick = Sick::new();
    let ino = sick.ino("file");
    let g = sick.base.image.info.geometry;
    let end = g.ag_base(0).plus(g.ag_blocks(0));
    for block in [
        Block(1),
        Block(9),
        g.orphans,
        g.ag_start,
        g.ag_start.plus(511),
        end,
        Block(1 << 62),
    ] {
        sick.edit_inode(ino, |bytes| {
            put_extent(bytes, 144, |extent| extent.block = block)
        });
        let fs = sick.mount();
        says(&fs, fs.iget(ino), "extent outside the data of its group");
    }
    sick.edit_inode(ino, |bytes| {
        put_extent(bytes, 144, |extent| {
            extent.block = end.plus(0);
            extent.block.0 -= 1;
        });
    });
    let fs = sick.mount();
    says(&fs, fs.iget(ino), "extent outside the data of its group");
}

#[test]
fn an_extent_in_a_leaf_never_leads_to_metadata() {
    let sick = Sick::new();
    let ino = sick.ino("mixed");
    let leaf = sick.structure(Kind::ExtentLeaf, ino, 0);
    sick.edit(&leaf, |bytes| {
        put_extent(bytes, 64 + 5 * 16, |extent| extent.block = Block(2))
    });
    let fs = sick.mount();
    let file = fs.iget(ino).expect("the record is whole");
    says(
        &fs,
        fs.map(&file, FileBlock(0), 1),
        "extent outside the data of its group",
    );
}

#[test]
fn extents_out_of_order_and_of_no_length() {
    for (change, what) in [
        (0u64, "order of extents"),
        (1, "length of an extent"),
        (2, "order of extents"),
    ] {
        let sick = Sick::new();
        let ino = sick.ino("inline");
        sick.edit_inode(ino, |bytes| {
            put_extent(bytes, 144 + 16, |extent| match change {
                0 => extent.file_block = FileBlock(0),
                1 => extent.len = 0,
                _ => extent.len = 3,
            });
        });
        let fs = sick.mount();
        says(&fs, fs.iget(ino), what);
    }
}

#[test]
fn blocks_in_use_that_are_marked_as_free_are_found_with_their_file() {
    let sick = Sick::new();
    let ino = sick.ino("file");
    let block = sick.known(ino).extents[0].block;
    let g = sick.base.image.info.geometry;
    let relative = block.0 - g.ag_base(0).0;
    let address = g.bitmap_word(0, relative);
    let word = sick.media.read_u64(address).unwrap() & !(1 << (relative % 64));
    sick.media.damage(address, &word.to_le_bytes());
    let fs = sick.mount();
    says(
        &fs,
        fs.iget(ino),
        "extent of blocks that are marked as free",
    );
}

#[test]
fn a_link_does_not_free_what_is_not_its_own() {
    let sick = Sick::new();
    let (link, file) = (sick.ino("link"), sick.ino("file"));
    let block = sick.known(file).extents[0].block;
    sick.edit_inode(link, |bytes| put(bytes, 144, block.0));
    let fs = sick.mount();
    let (dir, inode) = (root(&fs), fs.iget(link).expect("the record is whole"));
    fs.unlink(&dir, b"link", &inode, NOW).expect("unlink");
    says(&fs, fs.evict(&inode), "metadata block magic");
    let g = sick.base.image.info.geometry;
    let relative = block.0 - g.ag_base(0).0;
    let word = sick.media.read_u64(g.bitmap_word(0, relative)).unwrap();
    assert_eq!(
        word >> (relative % 64) & 1,
        1,
        "the file's block is still its own"
    );
}

#[test]
fn two_extents_of_one_place_are_not_freed_twice() {
    let sick = Sick::new();
    let ino = sick.ino("inline");
    sick.edit_inode(ino, |bytes| {
        let target = word_at(bytes, 152);
        put(bytes, 152 + 16, target);
    });
    let fs = sick.mount();
    let file = fs.iget(ino).expect("nothing says that two extents are one");
    let done = fs.truncate(&file, 0, &Times::default());
    says(&fs, done, "freed blocks are free already");
}

#[test]
fn an_inode_does_not_empty_anothers_place_in_the_orphan_table() {
    let sick = Sick::new();
    let ino = sick.ino("file");
    // It says that it has the place of the first orphan.
    sick.edit_inode(ino, |bytes| bytes[96] = 1);
    let fs = sick.mount();
    says(&fs, fs.iget(ino), "orphan slot of an inode");
    let slot = sick.base.image.info.geometry.orphan_slot(0);
    assert_ne!(sick.media.read_u64(slot).unwrap(), 0);
}

#[test]
fn an_orphan_entry_of_no_inode_is_damage() {
    let sick = Sick::new();
    let slot = sick.base.image.info.geometry.orphan_slot(0);
    let unused = (1..)
        .map(Ino)
        .find(|ino| !sick.base.image.inodes.contains_key(&ino.0))
        .unwrap();
    sick.media.damage(slot, &unused.0.to_le_bytes());
    let fs = sick.mount();
    says(
        &fs,
        fs.finish_orphans(),
        "orphan entry of an inode that is not in use",
    );
}

#[test]
fn a_number_that_is_in_use_is_not_handed_out() {
    let sick = Sick::new();
    let ino = sick.ino("small 2");
    let g = sick.base.image.info.geometry;
    let mask = g.chunk_entry(ino.ag(), ino.chunk()) + 8;
    let word = sick.media.read_u64(mask).unwrap() & !(1 << ino.slot());
    sick.media.damage(mask, &word.to_le_bytes());
    let fs = sick.mount();
    let made = fs.create(&root(&fs), b"new", &new_file());
    says(&fs, made, "inode in use that is marked as free");
}

#[test]
fn chunks_do_not_overlap_and_none_is_forgotten() {
    let sick = Sick::new();
    let g = sick.base.image.info.geometry;
    let chunk = |index| {
        *sick
            .base
            .image
            .structures
            .iter()
            .find(|s| s.kind == Kind::ChunkEntry && s.index == index)
            .unwrap()
    };
    let count = g.ag_base(0).address() + 80;
    let chunks = sick.media.read_u64(count).unwrap();
    sick.media.damage(count, &(chunks - 1).to_le_bytes());
    let fs = sick.mount();
    says(&fs, fs.iget(fs.root()), "allocation group chunk count");

    sick.media.damage(count, &chunks.to_le_bytes());
    let start = sick.media.bytes(chunk(0).address, 4);
    sick.edit(&chunk(1), |bytes| bytes[..4].copy_from_slice(&start));
    let fs = sick.mount();
    says(&fs, fs.iget(fs.root()), "inode chunk entry");

    let sick = Sick::new();
    sick.edit(&chunk(0), |bytes| bytes[8] &= !1);
    let media = sick.media.bytes(chunk(0).address, 16);
    let sick = Sick::new();
    sick.media.damage(chunk(0).address, &media);
    let fs = sick.mount();
    says(&fs, fs.iget(fs.root()), "inode chunk entry");
}

#[test]
fn a_checkpoint_at_the_end_of_all_numbers_is_none() {
    // Commits would have waited for ever for a checkpoint to pass what cannot be passed.
    for number in [u64::MAX - 3, (1 << 62) - 1] {
        let sick = Sick::new();
        for structure in sick
            .base
            .image
            .structures
            .iter()
            .filter(|s| s.kind == Kind::Checkpoint)
        {
            sick.edit(structure, |bytes| put(bytes, 0, number));
        }
        assert!(
            matches!(sick.try_mount(), Err(Error::Corrupt(c)) if c.what == "journal checkpoint")
        );
        // Nor does the repair count on from there.
        ochre_testkit::repair(&sick.media).expect("a repair");
        assert!(sick.try_mount().is_ok());
    }
}

#[test]
fn a_record_with_a_wrong_entry_is_not_replayed_by_half() {
    let base = ochre_mutate::base::dirty();
    let media = base.media(PLENTY);
    let g = base.image.info.geometry;
    let records = base
        .image
        .structures
        .iter()
        .filter(|s| s.kind == Kind::Record);
    // The last one; its second entry goes to the superblock.
    let record = records
        .max_by_key(|s| word_at(&media.bytes(s.address, 16), 8))
        .unwrap();
    let mut bytes = media.bytes(record.address, record.len);
    let first = word_at(&bytes, 32);
    let words = if first & 15 == 1 {
        first >> 4 & 0x3ff
    } else {
        u64::from(matches!(first & 15, 3 | 4))
    };
    let at = 32 + 8 + words as usize * 8;
    let second = word_at(&bytes, at) & 0x3fff;
    put(&mut bytes, at, second);
    Mutator::new(&base.image, &[]).seal(record, &mut bytes);
    media.damage(record.address, &bytes);
    // What the first entry would change.
    let address = first >> 14 << 3;
    assert!(address >= g.orphans.address());
    let without = media.snapshot();
    put(&mut bytes, 16, 0);
    without.damage(record.address, &bytes);
    let mounted = Filesystem::mount(without.clone(), &MountOptions { read_only: true });
    drop(mounted.expect("all but the last record"));
    let mounted = Filesystem::mount(media.clone(), &MountOptions { read_only: true });
    assert!(matches!(mounted.err(), Some(Error::Corrupt(c)) if c.what == "journal record's entry"));
    assert_eq!(media.bytes(address, 8), without.bytes(address, 8));
}

#[test]
fn names_are_judged_when_their_leaf_is_read() {
    for (change, what) in [
        (0usize, "name in a directory leaf"),
        (1, "key of a name"),
        (2, "fingerprint of a name"),
        (3, "count of a directory leaf"),
        (4, "heap of a directory leaf"),
        (5, "inode of a name"),
        (6, "entry of a directory leaf"),
        (7, "overlapping entries of a directory leaf"),
    ] {
        let sick = Sick::new();
        let ino = sick.ino("big");
        let leaf = sick.structure(Kind::DirectoryLeaf, ino, 1);
        sick.edit(&leaf, |bytes| {
            let slots = ochre_mutate::field::slots(bytes);
            let ((slot, at), (other, place)) = (slots[0], slots[1]);
            match change {
                0 => bytes[at + 18] = b'/',
                1 => bytes[at + 18] ^= 1,
                2 => bytes[80 + slot] ^= 1,
                3 => bytes[6] += 1,
                4 => bytes[58] ^= 8,
                5 => put(bytes, at + 8, 1),
                6 => bytes[at + 17] = 3,
                _ => {
                    bytes[208 + slot * 2..210 + slot * 2]
                        .copy_from_slice(&(place as u16).to_le_bytes());
                    bytes[80 + slot] = bytes[80 + other];
                }
            }
        });
        let fs = sick.mount();
        let dir = fs.iget(ino).expect("the record is whole");
        says(&fs, fs.readdir(&dir, 0, &mut |_| true), what);
    }
}

#[test]
fn a_node_has_one_parent_and_keys_within_its_bounds() {
    for (change, what) in [
        (0, "child of an index node, named twice"),
        (1, "keys of an index node"),
        (2, "child of an index node"),
        (3, "key of a name"),
    ] {
        let sick = Sick::new();
        let ino = sick.ino("big");
        let index = sick.structure(Kind::DirectoryIndex, ino, 0);
        sick.edit(&index, |bytes| match change {
            0 => put(bytes, 64 + 24, word_at(bytes, 64 + 8)),
            1 => put(bytes, 64 + 16, u64::MAX / 2 + 1),
            2 => put(bytes, 64 + 24, Block::of(index.address).0),
            _ => {
                let (a, b) = (word_at(bytes, 64 + 8), word_at(bytes, 64 + 24));
                put(bytes, 64 + 8, b);
                put(bytes, 64 + 24, a);
            }
        });
        let fs = sick.mount();
        let dir = fs.iget(ino).expect("the record is whole");
        says(&fs, fs.readdir(&dir, 0, &mut |_| true), what);
    }
}

#[test]
fn one_repair_gives_back_a_node_that_was_met_in_a_wrong_place_first() {
    let sick = Sick::deep();
    let root = Ino(2);
    let lower: Vec<_> = sick
        .base
        .image
        .structures
        .iter()
        .filter(|s| s.kind == Kind::DirectoryIndex && s.owner == root && s.parent.0 != 0)
        .copied()
        .collect();
    let [first, second, ..] = lower[..] else {
        panic!("a directory with two index nodes below its root");
    };
    // The first leaf of one index node becomes the next index node.
    for (node, other) in [(&first, &second), (&second, &first)] {
        let media = sick.base.media(PLENTY);
        let mut bytes = media.bytes(node.address, node.len);
        put(&mut bytes, 64 + 8, Block::of(other.address).0);
        Mutator::new(&sick.base.image, &[]).seal(node, &mut bytes);
        media.damage(node.address, &bytes);
        ochre_testkit::repair(&media).expect("a repair");
        let mut issues = ochre_testkit::Issues::default();
        let options = ochre::engine::fsck::Options::default();
        ochre::engine::fsck::check(&media, options, &mut issues).expect("a check");
        let texts: Vec<_> = issues.0.iter().map(ToString::to_string).collect();
        assert!(texts.is_empty(), "{texts:?}");
    }
}

#[test]
fn what_a_record_says_suits_its_kind() {
    for (at, value, what) in [
        (6usize, 2u8, "inode's kind of content"),
        (7, 200, "inode's kind of content"),
        (28, 0, "inode without links"),
        (31, 0x80, "link count of an inode"),
        (55, 0xff, "inode size"),
        (62, 1, "inode's count of blocks"),
        (98, 1, "orphan slot of an inode"),
    ] {
        let sick = Sick::new();
        let ino = sick.ino("small 3");
        sick.edit_inode(ino, |bytes| bytes[at] = value);
        let fs = sick.mount();
        says(&fs, fs.iget(ino), what);
    }
}

#[test]
fn only_a_file_has_an_unfinished_truncate() {
    let sick = Sick::new();
    let ino = sick.ino("big");
    sick.edit_inode(ino, |bytes| bytes[96] = 3);
    let fs = sick.mount();
    says(&fs, fs.iget(ino), "orphan slot of an inode");
}

#[test]
fn free_space_is_never_more_than_there_is() {
    let sick = Sick::new();
    let counts = sick
        .base
        .image
        .structures
        .iter()
        .find(|s| s.kind == Kind::GroupCounts)
        .unwrap();
    sick.media.damage(counts.address, &[0xff; 16]);
    let fs = sick.mount();
    let s = fs.statfs();
    assert!(s.free <= s.blocks && s.available <= s.free, "{s:?}");
}

#[test]
fn a_directory_has_one_name_and_what_has_a_name_has_links() {
    for (from, to, what) in [
        ("file", "big", "name of a directory that is another's"),
        ("file", "empty", ""),
        ("file", "gone", "name of an inode without links"),
    ] {
        let sick = Sick::new();
        let owner = Ino::ROOT;
        let gone = sick
            .base
            .image
            .inodes
            .iter()
            .find(|(_, known)| known.record.nlink.get() == 0);
        let target = match to {
            "gone" => Ino(*gone.unwrap().0),
            "big" => sick.ino("big/sub"),
            name => sick.ino(name),
        };
        let ino = sick.ino(from);
        let leaf = sick.structure(Kind::DirectoryLeaf, owner, 0);
        sick.edit(&leaf, |bytes| {
            let slots = ochre_mutate::field::slots(bytes);
            let (_, at) = slots
                .into_iter()
                .find(|(_, at)| word_at(bytes, at + 8) == ino.0)
                .unwrap();
            put(bytes, at + 8, target.0);
        });
        let fs = sick.mount();
        let dir = root(&fs);
        let child = fs.iget(target).expect("an inode");
        let checked = fs.check_child(&dir, &child);
        if what.is_empty() {
            assert_eq!(checked, Ok(()));
        } else {
            says(&fs, checked, what);
        }
    }
}

#[test]
fn a_directory_never_has_fewer_than_two_links() {
    let sick = Sick::new();
    let ino = sick.ino("big/sub");
    sick.edit_inode(ino, |bytes| bytes[28] = 2);
    let fs = sick.mount();
    let dir = fs.iget(ino).expect("the record is whole");
    let deep = fs.iget(fs.lookup(&dir, b"deep").unwrap()).unwrap();
    let leaf = fs.iget(fs.lookup(&deep, b"leaf").unwrap()).unwrap();
    fs.unlink(&deep, b"leaf", &leaf, NOW).expect("unlink");
    says(
        &fs,
        fs.rmdir(&dir, b"deep", &deep, NOW),
        "link count of an inode",
    );
}

#[test]
fn a_removed_directory_that_has_names_is_not_lost() {
    let sick = Sick::new();
    let full = sick.known(sick.ino("big/sub")).record;
    let (ino, _) = sick
        .base
        .image
        .inodes
        .iter()
        .find(|(_, k)| k.record.nlink.get() == 0 && k.kind == FileKind::Directory)
        .unwrap();
    sick.edit_inode(Ino(*ino), |bytes| {
        bytes[144..152].copy_from_slice(&full.inline[..8]);
        bytes[100] = full.height;
    });
    let fs = sick.mount();
    says(&fs, fs.finish_orphans(), "removed directory that has names");
}

/// The fuzzer's entry points on what they begin with, and on simple changes of it.
#[test]
fn fuzz_targets_run_over_their_corpus() {
    for (name, target, _) in ochre_mutate::targets::ALL {
        let corpus = ochre_mutate::targets::corpus(name);
        assert!(!corpus.is_empty(), "{name}");
        for input in corpus {
            target(&input);
            for at in [1, 5, 9, 70] {
                let mut changed = input.clone();
                if let Some(byte) = changed.get_mut(at) {
                    *byte ^= 0xff;
                }
                target(&changed);
            }
        }
        target(&[]);
        target(&[7; 100]);
    }
}
