// SPDX-License-Identifier: GPL-2.0

//! Two images that were made once freeze the format.
//!
//! `tests/golden/clean.hex`: some operations, then an unmount. Making it again must give the same
//! bytes outside the journal, and the old one must mount and read. `tests/golden/dirty.hex`: the
//! same operations, but of what they changed only the journal's records and the file's data are on
//! the medium; replaying the old one must give the same tree.
//!
//! A change of the format is a new feature bit or version, and new images beside these. While the
//! format is not released, `OCHRE_GOLDEN=write cargo test -p ochre-testkit` makes them anew.

use std::path::PathBuf;

use ochre::engine::filesystem::{Filesystem, Inode, MappingState, SetAttributes};
use ochre::engine::format::journal::{CHECKPOINT_OFFSETS, LANE_SIZE};
use ochre::engine::format::superblock::DIRTY;
use ochre::engine::superblock;
use ochre::engine::types::{FileBlock, FileKind, Ino};
use ochre_sim::MemoryMedia;
use ochre_testkit::{check, golden, make, mount, Writer};

const SIZE: u64 = 16 << 20;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name)
}

fn writing() -> bool {
    std::env::var("OCHRE_GOLDEN").is_ok_and(|value| value == "write")
}

/// Whether an address lies in the journal's lanes.
fn in_lanes(media: &MemoryMedia) -> impl Fn(u64) -> bool + use<> {
    let geometry = superblock::load(media).expect("a superblock").geometry;
    let start = geometry.lane(0);
    let end = start + u64::from(geometry.lanes) * LANE_SIZE;
    move |address| (start..end).contains(&address)
}

/// The operations.
fn operate(writer: &mut Writer) {
    let root = writer.root();
    let file = writer.create(&root, "file", 0o100644);
    writer.write(&file, 0, 2, 5000, b'o');
    let dir = writer.create(&root, "dir", 0o040755);
    let inner = writer.create(&dir, "inner", 0o040700);
    let time = writer.now();
    writer
        .fs
        .link(&dir, b"another name", &file, time)
        .expect("link");
    writer.symlink(&root, "short", b"dir/inner");
    writer.symlink(&root, "long", &[b'l'; 200]);
    writer.create_with(&root, "null", 0o020666, 0x103, None);
    writer.create(&inner, "pipe", 0o010600);
    let sparse = writer.create(&inner, "sparse", 0o100600);
    for n in 0..9 {
        writer.preallocate(&sparse, n * 3, 1);
    }
    let set = SetAttributes {
        mode: Some(0o100640),
        uid: Some(7),
        ..SetAttributes::default()
    };
    writer
        .fs
        .set_attributes(&sparse, &set)
        .expect("set attributes");
    let brief = writer.create(&root, "brief", 0o100644);
    let time = writer.now();
    writer
        .fs
        .unlink(&root, b"brief", &brief, time)
        .expect("unlink");
    writer.fs.evict(&brief).expect("evict");
    let orphan = writer.create(&root, "orphan", 0o100644);
    let time = writer.now();
    writer
        .fs
        .unlink(&root, b"orphan", &orphan, time)
        .expect("unlink");
}

fn find(fs: &Filesystem<MemoryMedia>, names: &str) -> Inode {
    let mut inode = fs.iget(fs.root()).expect("root");
    for name in names.split('/') {
        let ino = fs.lookup(&inode, name.as_bytes()).expect(name);
        inode = fs.iget(ino).expect(name);
    }
    inode
}

fn names(fs: &Filesystem<MemoryMedia>, dir: &Inode) -> Vec<String> {
    let mut names = Vec::new();
    fs.readdir(dir, 0, &mut |entry| {
        names.push(String::from_utf8_lossy(entry.name).into_owned());
        true
    })
    .expect("readdir");
    names.sort();
    names
}

/// Compares the tree with what [`operate`] made.
fn verify(fs: &Filesystem<MemoryMedia>) {
    let root = fs.iget(Ino::ROOT).expect("root");
    assert_eq!(names(fs, &root), ["dir", "file", "long", "null", "short"]);
    assert_eq!(root.attributes().nlink, 3);
    let file = find(fs, "file");
    let attributes = file.attributes();
    assert_eq!(
        (attributes.size, attributes.nlink, attributes.mode),
        (5000, 2, 0o100644)
    );
    assert_eq!(
        (attributes.uid, attributes.gid, attributes.blocks),
        (1000, 100, 2)
    );
    assert!(attributes.mtime > attributes.btime);
    let mapping = fs.map(&file, FileBlock(0), 2).expect("map");
    let MappingState::Written(block) = mapping.state else {
        panic!("{mapping:?}")
    };
    assert_eq!(mapping.len, 2);
    assert_eq!(fs.media().bytes(block.address(), 5000), [b'o'; 5000]);
    assert_eq!(find(fs, "dir/another name").ino(), file.ino());
    assert_eq!(names(fs, &find(fs, "dir/inner")), ["pipe", "sparse"]);
    assert_eq!(find(fs, "dir/inner").parent(), find(fs, "dir").ino());
    assert_eq!(find(fs, "dir/inner/pipe").kind(), FileKind::Fifo);
    let mut target = ochre::platform::Vec::new();
    fs.readlink(&find(fs, "short"), &mut target)
        .expect("readlink");
    assert_eq!(&target[..], b"dir/inner");
    fs.readlink(&find(fs, "long"), &mut target)
        .expect("readlink");
    assert_eq!(&target[..], [b'l'; 200]);
    assert_eq!(find(fs, "null").attributes().rdev, 0x103);
    let sparse = find(fs, "dir/inner/sparse");
    assert_eq!(
        (sparse.attributes().mode, sparse.attributes().uid),
        (0o100640, 7)
    );
    for n in 0..27 {
        let mapping = fs.map(&sparse, FileBlock(n), 1).expect("map");
        match mapping.state {
            MappingState::Unwritten(_) => assert_eq!(n % 3, 0),
            MappingState::Hole => assert_ne!(n % 3, 0),
            MappingState::Written(_) => panic!("{mapping:?}"),
        }
    }
}

/// The two images as this code makes them.
fn images() -> (MemoryMedia, MemoryMedia) {
    let media = make(SIZE);
    let dirty = media.snapshot();
    let mut writer = Writer::new(&media);
    operate(&mut writer);
    let lanes = in_lanes(&media);
    for row in (0..SIZE).step_by(64).filter(|&address| lanes(address)) {
        dirty.damage(row, &media.bytes(row, 64));
    }
    dirty.damage(448, &DIRTY.to_le_bytes());
    let file = find(&writer.fs, "file");
    let mapping = writer.fs.map(&file, FileBlock(0), 2).expect("map");
    if let MappingState::Written(block) = mapping.state {
        dirty.damage(block.address(), &media.bytes(block.address(), 8192));
    }
    writer.unmount();
    (media, dirty)
}

fn frozen(name: &str, now: &str, what: &str) -> String {
    let path = path(name);
    if writing() {
        let text = format!("# {what}\n# See tools/testkit/tests/golden.rs.\n{now}");
        std::fs::write(&path, text).expect("a golden image");
    }
    std::fs::read_to_string(&path).expect("a golden image")
}

/// The lines that must be the same. How often there was a checkpoint is not the format's business.
fn comparable(text: &str) -> Vec<&str> {
    let checkpoints = CHECKPOINT_OFFSETS.map(|offset| format!("{:x}: ", 4096 + offset));
    let is_checkpoint = |line: &str| checkpoints.iter().any(|slot| line.starts_with(slot));
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !is_checkpoint(line));
    lines.collect()
}

#[test]
fn the_clean_image_is_made_again_and_reads() {
    let (clean, _) = images();
    let now = golden::dump(&clean, in_lanes(&clean));
    let text = frozen(
        "clean.hex",
        &now,
        "An Ochre image after an unmount, without its records.",
    );
    let (old, new) = (comparable(&text), comparable(&now));
    for (old, new) in old.iter().zip(&new) {
        assert_eq!(old, new, "the format changed");
    }
    assert_eq!(old.len(), new.len(), "the format changed");
    let old = golden::load(&text);
    let (issues, summary) = check(&old);
    assert_eq!(issues, []);
    assert_eq!(
        (summary.files, summary.directories, summary.orphans),
        (3, 3, 1)
    );
    let fs = mount(&old);
    assert_eq!(fs.stats().replayed, 0);
    verify(&fs);
    fs.finish_orphans().expect("orphans");
    fs.unmount().expect("unmount");
    assert_eq!(check(&old).0, []);
}

#[test]
fn the_dirty_image_is_replayed_and_reads() {
    let (_, dirty) = images();
    let now = golden::dump(&dirty, |_| false);
    let text = frozen(
        "dirty.hex",
        &now,
        "An Ochre image whose changes are in the journal only.",
    );
    let old = golden::load(&text);
    let fs = mount(&old);
    assert!(fs.stats().replayed > 20, "{:?}", fs.stats());
    verify(&fs);
    fs.unmount().expect("unmount");
    assert_eq!(check(&old).0, []);
}
