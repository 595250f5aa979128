// SPDX-License-Identifier: GPL-2.0

//! A small filesystem in which every call finds its interesting cases, and how two states of it are compared.

use ochre::engine::error::Result;
use ochre::engine::filesystem::{
    Attributes, Filesystem, Inode, Mapping, MappingState, MountOptions, NewInode, PublishArgs,
    Statfs, Times,
};
use ochre::engine::media::Media;
use ochre::engine::types::{FileBlock, FileKind, Ino, Timestamp, BLOCK_SIZE};
use ochre_sim::image;
use ochre_sim::MemoryMedia;
use std::collections::BTreeMap;
use std::sync::OnceLock;

pub type Fs = Filesystem<MemoryMedia>;

/// Extents that fill a leaf.
const LEAF: u64 = 252;

/// Blocks of an inode chunk.
const CHUNK: u64 = 4;

/// Extents of the file `many`: more than a leaf has.
const SOME: u64 = 300;

/// More extents than one transaction takes out.
pub const MANY: u64 = 2100;

/// No times to set.
pub const NONE: Times = Times {
    atime: None,
    mtime: None,
    ctime: None,
};

pub fn new(kind: FileKind) -> NewInode<'static> {
    NewInode::new(kind.mode_bits() | 0o755, Timestamp(5))
}

/// Writes `len` blocks, each filled with its own pattern; the size follows.
pub fn write(fs: &Fs, file: &Inode, start: u64, len: u64) -> Result<()> {
    let mut at = start;
    while at < start + len {
        let reserved = fs.reserve_write(file, FileBlock(at), start + len - at, 0)?;
        for n in 0..reserved.len {
            let fill = (file.ino().0 * 31 + at + n) as u8 | 1;
            let bytes = [fill; BLOCK_SIZE as usize];
            fs.media()
                .store_through(reserved.block.plus(n).address(), &bytes);
        }
        let done = reserved.len;
        let args = PublishArgs {
            new_size: Some((at + done) * BLOCK_SIZE).filter(|s| *s > file.attributes().size),
            times: NONE,
        };
        fs.publish(file, reserved, done, &args)?;
        at += done;
    }
    Ok(())
}

/// The files that are kept open, by path.
const HELD: &[&str] = &[
    "",
    "dir",
    "dir/over",
    "dir/olddir",
    "dir/sub",
    "split",
    "empty",
    "seven",
    "leaf",
    "many",
    "written",
    "promised",
    "preleaf",
    "holes",
    "short",
    "long",
    "two",
    "window",
    "cut",
    "aligned",
    "fifo",
];

/// A mounted filesystem and its open files.
pub struct World {
    pub fs: Fs,
    held: BTreeMap<&'static str, Inode>,
}

impl World {
    /// Mounts the image and opens its files.
    pub fn open(media: MemoryMedia) -> Self {
        let fs = Fs::mount(media, &MountOptions::default()).expect("mount");
        let mut held = BTreeMap::new();
        for path in HELD {
            let mut at = fs.iget(fs.root()).expect("root");
            for name in path.split('/').filter(|n| !n.is_empty()) {
                let ino = fs.lookup(&at, name.as_bytes()).expect("lookup");
                at = fs.iget(ino).expect("iget");
            }
            held.insert(*path, at);
        }
        Self { fs, held }
    }

    /// An open file.
    pub fn get(&self, path: &str) -> &Inode {
        &self.held[path]
    }

    /// Inodes leave memory, then the filesystem is unmounted.
    pub fn close(self) -> MemoryMedia {
        for inode in self.held.values() {
            self.fs.evict(inode).expect("evict");
        }
        self.fs.unmount().expect("unmount");
        self.fs.media().clone()
    }

    /// What is in memory: attributes and extents of the open files, and the free space.
    pub fn in_memory(&self) -> InMemory {
        let held = self.held.iter();
        let files =
            held.map(|(path, inode)| (*path, (inode.attributes(), extents(&self.fs, inode))));
        InMemory {
            files: files.collect(),
            space: self.fs.statfs(),
        }
    }

    /// What a mount after a crash now would find.
    pub fn recovered(&self) -> BTreeMap<Ino, Entry> {
        tree(self.fs.media().snapshot())
    }
}

/// What a mounted filesystem believes.
pub struct InMemory {
    files: BTreeMap<&'static str, (Attributes, Vec<Mapping>)>,
    space: Statfs,
}

impl InMemory {
    /// Nothing differs, but for a chunk of inodes: added by a call that wanted one, it stays for the next one.
    pub fn assert_same(&self, now: &Self, name: &str) {
        for (path, before) in &self.files {
            let now = &now.files[path];
            assert_eq!(before.0, now.0, "{name}: {path}");
            assert!(before.1 == now.1, "{name}: extents of {path} differ");
        }
        let mut space = now.space;
        if self.space.free == space.free + CHUNK && name.contains("chunk") {
            space = self.space;
        }
        assert_eq!(self.space, space, "{name}");
    }
}

impl InMemory {
    /// As [`Self::assert_same`], but for blocks of extent trees.
    pub fn assert_same_content(&self, now: &Self, name: &str) {
        let mut more = 0;
        for (path, before) in &self.files {
            let now = &now.files[path];
            assert!(before.1 == now.1, "{name}: extents of {path} differ");
            more += now.0.blocks - before.0.blocks;
            let blocks = before.0.blocks;
            assert_eq!(before.0, Attributes { blocks, ..now.0 }, "{name}: {path}");
        }
        assert_eq!(self.space.free, now.space.free + more, "{name}");
    }
}

/// Two trees are the same.
pub fn assert_same(before: &BTreeMap<Ino, Entry>, now: &BTreeMap<Ino, Entry>, name: &str) {
    let inos = |tree: &BTreeMap<Ino, Entry>| tree.keys().copied().collect::<Vec<_>>();
    assert_eq!(inos(before), inos(now), "{name}");
    for (ino, before) in before {
        let now = &now[ino];
        assert_eq!(before.attributes, now.attributes, "{name}: inode {ino}");
        assert!(before == now, "{name}: inode {ino} differs");
    }
}

/// All extents of a file.
fn extents(fs: &Fs, inode: &Inode) -> Vec<Mapping> {
    let mut list = Vec::new();
    if inode.kind() != FileKind::Regular {
        return list;
    }
    let mut at = FileBlock(0);
    while at < FileBlock::END {
        let found = fs.map(inode, at, FileBlock::END.0 - at.0).expect("map");
        at = at.plus(found.len);
        if found.state != MappingState::Hole {
            list.push(found);
        }
    }
    list
}

/// One inode of a tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    attributes: Attributes,
    parent: Ino,
    target: Vec<u8>,
    names: Vec<(Vec<u8>, Ino, u64)>,
    extents: Vec<Mapping>,
    /// A sum over the bytes of the file.
    bytes: u64,
}

/// Mounts an image and looks at all of it.
pub fn tree(media: MemoryMedia) -> BTreeMap<Ino, Entry> {
    let fs = Fs::mount(media, &MountOptions::default()).expect("mount");
    fs.finish_orphans().expect("orphans");
    let mut found = BTreeMap::new();
    let mut todo = vec![fs.root()];
    while let Some(ino) = todo.pop() {
        if found.contains_key(&ino) {
            continue;
        }
        let inode = fs.iget(ino).expect("iget");
        let mut entry = Entry {
            attributes: inode.attributes(),
            parent: inode.parent(),
            target: Vec::new(),
            names: Vec::new(),
            extents: extents(&fs, &inode),
            bytes: 0,
        };
        match inode.kind() {
            FileKind::Directory => fs
                .readdir(&inode, 0, &mut |e| {
                    entry.names.push((e.name.to_vec(), e.ino, e.cookie));
                    true
                })
                .expect("readdir"),
            FileKind::Symlink => {
                let mut target = ochre::platform::Vec::new();
                fs.readlink(&inode, &mut target).expect("readlink");
                entry.target = target.to_vec();
            }
            _ => {}
        }
        todo.extend(entry.names.iter().map(|(_, ino, _)| *ino));
        for extent in &entry.extents {
            if let MappingState::Written(block) = extent.state {
                let end = entry.attributes.size;
                let from = extent.start.offset();
                let len = (extent.len * BLOCK_SIZE).min(end.saturating_sub(from));
                let bytes = fs.media().bytes(block.address(), len as usize);
                for (n, word) in bytes.chunks(8).enumerate() {
                    let word = word.iter().fold(0u64, |sum, b| sum << 8 | u64::from(*b));
                    let place = from + n as u64 + 1;
                    entry.bytes = entry.bytes.wrapping_add(word.wrapping_mul(place));
                }
            }
        }
        found.insert(ino, entry);
    }
    found
}

/// A file of its own for each interesting shape.
fn build(fs: &Fs) {
    let root = fs.iget(fs.root()).expect("root");
    let file = |name: &str| {
        fs.create(&root, name.as_bytes(), &new(FileKind::Regular))
            .expect("create")
    };
    let dir = |parent: &Inode, name: &str| {
        fs.create(parent, name.as_bytes(), &new(FileKind::Directory))
            .expect("mkdir")
    };
    let sub = dir(&root, "dir");
    fs.create(&sub, b"over", &new(FileKind::Regular))
        .expect("create");
    dir(&sub, "olddir");
    dir(&sub, "sub");
    dir(&root, "empty");
    let split = dir(&root, "split");
    fill_leaf(fs, &split);
    let seven = file("seven");
    for n in 0..7 {
        write(fs, &seven, n * 3, 1).expect("write");
    }
    let leaf = file("leaf");
    for n in 0..LEAF {
        write(fs, &leaf, n * 3, 1).expect("write");
    }
    let preleaf = file("preleaf");
    for n in 0..LEAF {
        let len = if n == 100 { 9 } else { 1 };
        if n == 100 {
            fs.preallocate(&preleaf, FileBlock(n * 20), len, None, &NONE)
                .expect("preallocate");
        } else {
            write(fs, &preleaf, n * 20, len).expect("write");
        }
    }
    let many = file("many");
    for n in 0..SOME {
        write(fs, &many, n * 2, 1).expect("write");
    }
    write(fs, &file("written"), 0, 64).expect("write");
    fs.preallocate(&file("promised"), FileBlock(0), 64, None, &NONE)
        .expect("preallocate");
    fs.preallocate(&file("aligned"), FileBlock(0), 512, None, &NONE)
        .expect("preallocate");
    let holes = file("holes");
    for n in 0..10 {
        write(fs, &holes, n * 2, 1).expect("write");
    }
    let link = |name: &str, target: &[u8]| {
        let new = NewInode {
            symlink: Some(target),
            ..new(FileKind::Symlink)
        };
        fs.create(&root, name.as_bytes(), &new).expect("symlink");
    };
    link("short", b"target");
    link("long", &[b'l'; 4090]);
    fs.create(&root, b"fifo", &new(FileKind::Fifo))
        .expect("mkfifo");
    let two = file("two");
    write(fs, &two, 0, 3).expect("write");
    fs.link(&root, b"two-b", &two, Timestamp(6)).expect("link");
    let window = file("window");
    write(fs, &window, 0, 32).expect("write");
    let cut = file("cut");
    write(fs, &cut, 0, 20).expect("write");
}

/// Gives the file `many` more extents than one transaction takes out.
pub fn lengthen(world: &World) {
    for n in SOME..MANY {
        write(&world.fs, world.get("many"), n * 2, 1).expect("write");
    }
}

/// Fills the first leaf of a directory until the next name of 200 bytes would split it.
fn fill_leaf(fs: &Fs, dir: &Inode) {
    for n in 0.. {
        let name = long_name(n);
        fs.create(dir, name.as_bytes(), &new(FileKind::Regular))
            .expect("create");
        if dir.attributes().blocks > 1 {
            break;
        }
    }
    // One more than fits was needed to see it: start over with one less, in a leaf of the same names.
    let ino = dir.ino();
    let mut names = Vec::new();
    fs.readdir(dir, 0, &mut |e| {
        names.push((e.name.to_vec(), e.ino));
        true
    })
    .expect("readdir");
    let count = names.len() - 1;
    for (name, ino) in names {
        let inode = fs.iget(ino).expect("iget");
        fs.unlink(dir, &name, &inode, Timestamp(6)).expect("unlink");
        fs.evict(&inode).expect("evict");
    }
    assert_eq!(dir.attributes().blocks, 0, "directory {ino}");
    for n in 0..count {
        fs.create(dir, long_name(n).as_bytes(), &new(FileKind::Regular))
            .expect("create");
    }
    assert_eq!(dir.attributes().blocks, 1);
}

/// A name of 200 bytes.
pub fn long_name(n: usize) -> String {
    format!("{n:0>200}")
}

/// The image, unmounted.
pub fn clean() -> MemoryMedia {
    static IMAGE: OnceLock<MemoryMedia> = OnceLock::new();
    IMAGE
        .get_or_init(|| {
            let media = image::formatted(64 << 20);
            let fs = Fs::mount(media, &MountOptions::default()).expect("mount");
            build(&fs);
            fs.unmount().expect("unmount");
            fs.media().clone()
        })
        .snapshot()
}

/// The image as a crash left it: with records to replay, an unlinked file, and a truncation that is not finished.
pub fn crashed() -> MemoryMedia {
    let world = World::open(clean());
    let fs = &world.fs;
    for name in ["many", "long", "two"] {
        let inode = world.get(name);
        fs.unlink(world.get(""), name.as_bytes(), inode, Timestamp(7))
            .expect("unlink");
    }
    fs.truncate_size(world.get("cut"), 5000, &NONE)
        .expect("truncate");
    world.fs.media().snapshot()
}
