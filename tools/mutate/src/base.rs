// SPDX-License-Identifier: GPL-2.0

//! The sound filesystems that damage is done to: small, and with every kind of structure between them.

use crate::cow::{CowMedia, Frozen};
use crate::image::{Image, Kind, Use};
use ochre::engine::filesystem::{Filesystem, Inode, MountOptions};
use ochre::engine::format::journal::LANE_SIZE;
use ochre::engine::mkfs::{mkfs, MkfsOptions};
use ochre::engine::types::BLOCK_SIZE;
use ochre_sim::{image, MemoryMedia};
use ochre_testkit::{make, Writer};
use std::sync::Arc;

/// More accesses than any sound thing to do with a base takes.
pub const PLENTY: u64 = 1 << 32;

/// A sound filesystem.
pub struct Base {
    /// In one word.
    pub name: &'static str,
    /// As it is found; perhaps with a journal to replay.
    pub frozen: Arc<Frozen>,
    /// The same, taken apart.
    pub image: Image,
    /// As it is when it has been mounted.
    pub mounted: Arc<Frozen>,
    /// The same, taken apart.
    pub sound: Image,
    /// Pages that the mount changes.
    pub replayed: Vec<u64>,
}

impl Base {
    fn new(name: &'static str, media: &MemoryMedia) -> Self {
        let frozen = Frozen::of(media);
        let image = Image::read(media).expect("a sound image");
        let cow = CowMedia::new(&frozen, PLENTY);
        let fs =
            Filesystem::mount(cow.clone(), &MountOptions { read_only: false }).expect("a mount");
        drop(fs);
        let mounted = Frozen::copy(&cow);
        let sound = Image::read(&cow).expect("a sound image");
        Self {
            name,
            frozen,
            image,
            mounted,
            sound,
            replayed: cow.changed(),
        }
    }

    /// A fresh medium with this content.
    pub fn media(&self, budget: u64) -> CowMedia {
        CowMedia::new(&self.frozen, budget)
    }
}

/// One of everything, unmounted, with orphans and an unfinished truncation. 24 MiB.
pub fn everything() -> Base {
    Base::new("everything", &populated())
}

/// The same, stopped in the middle of work: much is in the journal only.
pub fn dirty() -> Base {
    let media = populated();
    let mut writer = Writer::new(&media);
    writer.fs.finish_orphans().expect("orphans");
    writer.fs.freeze().expect("a checkpoint");
    let before = media.snapshot();
    work(&mut writer);
    drop(writer);
    forget(&before, &media);
    Base::new("dirty", &media)
}

/// Trees of three levels. 512 MiB, sparse.
pub fn deep() -> Base {
    let media = make(512 << 20);
    let mut writer = Writer::new(&media);
    let root = writer.root();
    let names = writer.create(&root, "names", 0o040755);
    for n in 0..4200 {
        let name = format!("{n:0>240}");
        writer.create(&names, &name, 0o100644);
    }
    let extents = writer.create(&root, "extents", 0o100644);
    for n in 0..64_500 {
        writer.preallocate(&extents, n * 2, 1);
    }
    let plain = writer.create(&root, "plain", 0o100644);
    writer.write(&plain, 0, 9, 9 * BLOCK_SIZE - 100, b'p');
    writer.unmount();
    Base::new("deep", &media)
}

/// Two groups, with files in both.
pub fn groups() -> Base {
    let media = make((1 << 30) + (64 << 20));
    let mut writer = Writer::new(&media);
    let root = writer.root();
    for d in 0..4u8 {
        let dir = writer.create(&root, &format!("dir {d}"), 0o040755);
        for n in 0..12u8 {
            let file = writer.create(&dir, &format!("file {n}"), 0o100644);
            let blocks = 1 + u64::from(n % 5);
            writer.write(
                &file,
                u64::from(n % 3),
                blocks,
                (blocks + 2) * BLOCK_SIZE,
                b'a' + d * 4 + n % 4,
            );
        }
    }
    let large = writer.create(&root, "large", 0o100644);
    writer.write(&large, 0, 700, 700 * BLOCK_SIZE, b'L');
    writer.unmount();
    Base::new("groups", &media)
}

/// Metadata blocks of a filesystem with another secret.
pub fn foreign() -> Vec<Vec<u8>> {
    let media = MemoryMedia::new(24 << 20);
    let options = MkfsOptions {
        uuid: *b"other filesystem",
        secret: [3, 4],
        hash_key: [5, 6],
        ..image::options(24 << 20)
    };
    mkfs(&media, &options, |_, _| {}).expect("mkfs");
    populate(&media);
    let image = Image::read(&media).expect("a sound image");
    let nodes = image.structures.iter().filter(|s| s.kind.is_node());
    nodes
        .map(|s| media.bytes(s.address, s.len))
        .take(40)
        .collect()
}

fn populated() -> MemoryMedia {
    let media = make(24 << 20);
    populate(&media);
    media
}

fn populate(media: &MemoryMedia) {
    let mut writer = Writer::new(media);
    let root = writer.root();
    let file = writer.create(&root, "file", 0o100644);
    writer.write(&file, 0, 3, 10_000, b'x');
    let time = writer.now();
    writer
        .fs
        .link(&root, b"hard link", &file, time)
        .expect("link");
    for n in 0..8u8 {
        let small = writer.create(&root, &format!("small {n}"), 0o100644);
        let blocks = 1 + u64::from(n % 4);
        writer.write(
            &small,
            0,
            blocks,
            blocks * BLOCK_SIZE - u64::from(n),
            b'0' + n,
        );
    }
    let sparse = writer.create(&root, "sparse", 0o100600);
    for n in 0..560 {
        writer.preallocate(&sparse, n * 2, 1);
    }
    let mixed = writer.create(&root, "mixed", 0o100600);
    for n in 0..40 {
        writer.write(&mixed, n * 3, 1, (n * 3 + 1) * BLOCK_SIZE, b'm');
    }
    let inline = writer.create(&root, "inline", 0o100600);
    for n in 0..5 {
        writer.write(&inline, n * 2, 1, (n * 2 + 1) * BLOCK_SIZE, b'i');
    }
    writer.preallocate(&inline, 20, 30);
    directories(&mut writer, &root);
    writer.symlink(&root, "short link", b"../target");
    writer.symlink(&root, "link", &[b'k'; 200]);
    writer.symlink(&root, "long link", &[b'l'; 4090]);
    writer.create_with(&root, "null", 0o020666, 0x103, None);
    writer.create(&root, "pipe", 0o010644);
    writer.create(&root, "socket", 0o140644);
    orphans(&mut writer, &root);
    writer.unmount();
}

fn directories(writer: &mut Writer, root: &Inode) {
    let big = writer.create(root, "big", 0o040755);
    let sub = writer.create(&big, "sub", 0o040700);
    let deep = writer.create(&sub, "deep", 0o040700);
    let leaf = writer.create(&deep, "leaf", 0o100644);
    writer.write(&leaf, 0, 2, 5000, b'f');
    writer.create(root, "empty", 0o040755);
    for n in 0..240 {
        let name = format!("a name that fills a leaf soon, number {n}");
        let file = writer.create(&big, &name, 0o100644);
        if n % 16 == 0 {
            writer.write(&file, 0, 1, 100 + n, b'n');
        }
    }
}

/// Unlinked and not yet freed: a file, one with a tree, a symbolic link, a directory; and a truncation that has not ended.
fn orphans(writer: &mut Writer, root: &Inode) {
    let gone = writer.create(root, "gone", 0o100644);
    writer.write(&gone, 0, 2, 8192, b'o');
    let tree = writer.create(root, "gone tree", 0o100644);
    for n in 0..30 {
        writer.preallocate(&tree, n * 2, 1);
    }
    let link = writer.symlink(root, "gone link", &[b'g'; 300]);
    for (name, inode) in [("gone", &gone), ("gone tree", &tree), ("gone link", &link)] {
        let time = writer.now();
        writer
            .fs
            .unlink(root, name.as_bytes(), inode, time)
            .expect("unlink");
    }
    let dir = writer.create(root, "gone dir", 0o040755);
    let time = writer.now();
    writer
        .fs
        .rmdir(root, b"gone dir", &dir, time)
        .expect("rmdir");
    let cut = writer.create(root, "cut", 0o100644);
    for n in 0..12 {
        writer.write(&cut, n * 2, 1, (n * 2 + 1) * BLOCK_SIZE, b'c');
    }
    let times = writer.times();
    writer
        .fs
        .truncate_size(&cut, 5000, &times)
        .expect("truncate");
}

/// Work of all kinds, little enough that no checkpoint comes.
fn work(writer: &mut Writer) {
    let root = writer.root();
    let get = |writer: &Writer, dir: &Inode, name: &str| {
        let ino = writer.fs.lookup(dir, name.as_bytes()).expect("a name");
        writer.fs.iget(ino).expect("an inode")
    };
    for n in 0..6u8 {
        let new = writer.create(&root, &format!("new {n}"), 0o100644);
        writer.write(&new, 0, 2, 6000, b'N');
    }
    let made = writer.create(&root, "made", 0o040755);
    writer.create(&made, "within", 0o100644);
    let small = get(writer, &root, "small 1");
    let time = writer.now();
    writer
        .fs
        .unlink(&root, b"small 1", &small, time)
        .expect("unlink");
    writer.fs.evict(&small).expect("evict");
    let mixed = get(writer, &root, "mixed");
    let times = writer.times();
    writer
        .fs
        .truncate(&mixed, 30_000, &times)
        .expect("truncate");
    let big = get(writer, &root, "big");
    for n in 0..20 {
        let name = format!("a name that fills a leaf soon, number {n}");
        let file = get(writer, &big, &name);
        let time = writer.now();
        writer
            .fs
            .unlink(&big, name.as_bytes(), &file, time)
            .expect("unlink");
        writer.fs.evict(&file).expect("evict");
    }
    let sparse = get(writer, &root, "sparse");
    writer.write(&sparse, 100, 3, 103 * BLOCK_SIZE, b's');
    writer.symlink(&root, "new link", &[b'w'; 300]);
}

/// Takes back some of what happened between the two states, as a power cut would: metadata in place, never the journal or
/// data.
fn forget(before: &MemoryMedia, media: &MemoryMedia) {
    let image = Image::read(media).expect("a sound image");
    let g = image.info.geometry;
    let journal = g.lane(0) + u64::from(g.lanes) * LANE_SIZE;
    for block in journal / BLOCK_SIZE..g.blocks - 1 {
        if matches!(image.uses.get(&block), Some(Use::Data(_))) || block % 3 == 0 {
            continue;
        }
        let address = block * BLOCK_SIZE;
        let old = before.bytes(address, 4096);
        if old != media.bytes(address, 4096) {
            media.damage(address, &old);
        }
    }
    // Whatever else is not replayed.
    debug_assert!(image.kinds().contains(&Kind::Record));
}

#[cfg(test)]
mod tests {
    use super::*;
    use ochre::engine::fsck::{check, Options};
    use ochre_testkit::Issues;

    #[test]
    fn the_bases_are_sound_and_have_every_structure() {
        let mut kinds = Vec::new();
        for base in [everything(), dirty(), groups()] {
            kinds.extend(base.image.kinds());
            let media = CowMedia::new(&base.frozen, PLENTY);
            let fs = Filesystem::mount(media.clone(), &MountOptions { read_only: false })
                .expect("mount");
            fs.finish_orphans().expect("orphans");
            fs.unmount().expect("unmount");
            let mut issues = Issues::default();
            check(&media, Options::default(), &mut issues).expect("check");
            assert_eq!(issues.0, [], "{}", base.name);
        }
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), 17, "{kinds:?}");
    }
}
