// SPDX-License-Identifier: GPL-2.0

//! A small filesystem in memory with one of everything, and ways to damage it.

#![expect(missing_docs, reason = "names of tests' helpers say what they do")]

pub mod contents;
pub mod golden;

use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use ochre::engine::checksum::{Domain, Keys};
use ochre::engine::error::Error;
use ochre::engine::filesystem::{
    Filesystem, Inode, MountOptions, NewInode, PublishArgs, Times, WriteReservation,
};
use ochre::engine::format::ag::ChunkEntry;
use ochre::engine::format::inode::InodeRecord;
use ochre::engine::fsck::{
    self, Action, Issue, Observer, Options, Outcome, RepairOptions, Repairer, Summary,
};
use ochre::engine::media::Media;
use ochre::engine::mkfs::{mkfs, MkfsOptions};
use ochre::engine::superblock::{self, SuperInfo};
use ochre::engine::types::{Block, FileBlock, Ino, Timestamp, BLOCK_SIZE};
use ochre::engine::verify::inode_sum;
use ochre_sim::{image, MemoryMedia};
use zerocopy::{FromBytes, IntoBytes};

/// Writes a medium to a sparse file.
pub fn save(media: &MemoryMedia, path: &Path) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.set_len(media.size())?;
    for block in 0..media.size() / BLOCK_SIZE {
        let bytes = media.bytes(block * BLOCK_SIZE, 4096);
        if bytes.iter().any(|&byte| byte != 0) {
            file.seek(SeekFrom::Start(block * BLOCK_SIZE))?;
            file.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// Collects issues.
#[derive(Default)]
pub struct Issues(pub Vec<Issue>);

impl Observer for Issues {
    fn issue(&mut self, issue: &Issue) {
        self.0.push(*issue);
    }
}

/// Repairs an image without asking; says what was done.
#[derive(Default)]
pub struct Actions(pub Vec<Action>);

impl Repairer for Actions {
    fn action(&mut self, action: &Action) {
        self.0.push(*action);
    }
}

/// Repairs an image, without asking.
pub fn repair<M: Media>(media: &M) -> Result<(Vec<Action>, Outcome), Error> {
    let mut actions = Actions::default();
    let options = RepairOptions {
        now: Timestamp(1_800_000_000_000_000_000),
    };
    let outcome = fsck::repair(media, options, &mut actions)?;
    Ok((actions.0, outcome))
}

/// Checks an unmounted image.
pub fn check(media: &MemoryMedia) -> (Vec<Issue>, Summary) {
    let mut issues = Issues::default();
    let summary = fsck::check(media, Options::default(), &mut issues).expect("an Ochre image");
    (issues.0, summary)
}

/// Makes a filesystem with known keys, so that two runs give the same bytes.
pub fn make(size: u64) -> MemoryMedia {
    ochre::platform::set_current_cpu(0);
    let media = MemoryMedia::new(size);
    let mut label = [0; 32];
    label[..6].copy_from_slice(b"golden");
    let options = MkfsOptions {
        uuid: *b"\x0c\x4e golden  image",
        label,
        hash_key: [0x1111_2222_3333_4444, 0x5555_6666_7777_8888],
        ..image::options(size)
    };
    mkfs(&media, &options, |_, _| {}).expect("mkfs");
    media
}

/// Mounts for writing.
pub fn mount(media: &MemoryMedia) -> Filesystem<MemoryMedia> {
    Filesystem::mount(media.clone(), &MountOptions { read_only: false }).expect("mount")
}

/// A mounted filesystem and a clock that goes on by a second with each call.
pub struct Writer {
    pub fs: Filesystem<MemoryMedia>,
    now: i64,
}

impl Writer {
    pub fn new(media: &MemoryMedia) -> Self {
        Self {
            fs: mount(media),
            now: 1_700_000_000_000_000_000,
        }
    }

    pub fn now(&mut self) -> Timestamp {
        self.now += 1_000_000_000;
        Timestamp(self.now)
    }

    pub fn times(&mut self) -> Times {
        let now = Some(self.now());
        Times {
            atime: None,
            mtime: now,
            ctime: now,
        }
    }

    pub fn root(&self) -> Inode {
        self.fs.iget(self.fs.root()).expect("root")
    }

    pub fn create(&mut self, dir: &Inode, name: &str, mode: u16) -> Inode {
        self.create_with(dir, name, mode, 0, None)
    }

    pub fn symlink(&mut self, dir: &Inode, name: &str, target: &[u8]) -> Inode {
        self.create_with(dir, name, 0o120777, 0, Some(target))
    }

    pub fn create_with(
        &mut self,
        dir: &Inode,
        name: &str,
        mode: u16,
        rdev: u64,
        symlink: Option<&[u8]>,
    ) -> Inode {
        let time = self.now();
        let new = NewInode {
            uid: 1000,
            gid: 100,
            rdev,
            symlink,
            ..NewInode::new(mode, time)
        };
        self.fs.create(dir, name.as_bytes(), &new).expect("create")
    }

    /// Writes whole blocks of `fill` at the file's `start` and sets the size to `size`.
    pub fn write(&mut self, inode: &Inode, start: u64, blocks: u64, size: u64, fill: u8) {
        let mut at = start;
        while at < start + blocks {
            let left = start + blocks - at;
            let reservation: WriteReservation = self
                .fs
                .reserve_write(inode, FileBlock(at), left, size)
                .expect("reserve");
            let (len, block) = (reservation.len, reservation.block);
            let bytes = vec![fill; usize::try_from(len * BLOCK_SIZE).expect("small")];
            self.fs.media().store_through(block.address(), &bytes);
            at += len;
            let new_size = (at >= start + blocks).then_some(size);
            let args = PublishArgs {
                new_size,
                times: self.times(),
            };
            self.fs
                .publish(inode, reservation, len, &args)
                .expect("publish");
        }
    }

    pub fn preallocate(&mut self, inode: &Inode, start: u64, blocks: u64) {
        let times = self.times();
        self.fs
            .preallocate(inode, FileBlock(start), blocks, None, &times)
            .expect("preallocate");
    }

    pub fn unmount(self) {
        self.fs.unmount().expect("unmount");
    }
}

/// An unmounted image with one of everything.
pub struct Sample {
    pub media: MemoryMedia,
    pub info: SuperInfo,
    pub keys: Keys,
    pub root: Ino,
    pub file: Ino,
    pub sparse: Ino,
    pub big: Ino,
    pub sub: Ino,
    pub deep: Ino,
    pub short_link: Ino,
    pub long_link: Ino,
    pub device: Ino,
    pub orphan: Ino,
}

/// Makes it.
pub fn sample() -> Sample {
    let media = make(64 << 20);
    let mut writer = Writer::new(&media);
    let root = writer.root();
    let file = writer.create(&root, "file", 0o100644);
    writer.write(&file, 0, 3, 10_000, b'x');
    let time = writer.now();
    writer
        .fs
        .link(&root, b"hard link", &file, time)
        .expect("link");
    let sparse = writer.create(&root, "sparse", 0o100600);
    for n in 0..600 {
        writer.preallocate(&sparse, n * 2, 1);
    }
    let big = writer.create(&root, "big", 0o040755);
    let sub = writer.create(&big, "sub", 0o040700);
    let deep = writer.create(&sub, "deep", 0o040700);
    for n in 0..400 {
        writer.create(
            &big,
            &format!("a name that fills a leaf soon, number {n}"),
            0o100644,
        );
    }
    let short_link = writer.symlink(&root, "short link", b"../target");
    let long_link = writer.symlink(&root, "long link", &[b'l'; 4090]);
    let device = writer.create_with(&root, "null", 0o020666, 0x103, None);
    writer.create(&root, "pipe", 0o010644);
    let orphan = writer.create(&root, "gone", 0o100644);
    writer.write(&orphan, 0, 2, 8192, b'o');
    let time = writer.now();
    writer
        .fs
        .unlink(&root, b"gone", &orphan, time)
        .expect("unlink");
    let inos = [
        &root,
        &file,
        &sparse,
        &big,
        &sub,
        &deep,
        &short_link,
        &long_link,
        &device,
        &orphan,
    ]
    .map(|inode| inode.ino());
    writer.unmount();
    let info = superblock::load(&media).expect("superblock");
    let keys = Keys::new(info.secret).expect("memory");
    let [root, file, sparse, big, sub, deep, short_link, long_link, device, orphan] = inos;
    Sample {
        media,
        info,
        keys,
        root,
        file,
        sparse,
        big,
        sub,
        deep,
        short_link,
        long_link,
        device,
        orphan,
    }
}

impl Sample {
    /// Writes the image to a sparse file.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        save(&self.media, path)
    }

    pub fn issues(&self) -> Vec<Issue> {
        check(&self.media).0
    }

    /// Flips one bit.
    pub fn flip(&self, address: u64, bit: u32) {
        let byte = self.media.bytes(address, 1)[0];
        self.media.damage(address, &[byte ^ 1 << bit]);
    }

    pub fn put_u64(&self, address: u64, value: u64) {
        self.media.damage(address, &value.to_le_bytes());
    }

    pub fn u64_at(&self, address: u64) -> u64 {
        self.media.read_u64(address).expect("inside")
    }

    pub fn record_address(&self, ino: Ino) -> u64 {
        let entry = self
            .media
            .bytes(self.info.geometry.chunk_entry(ino.ag(), ino.chunk()), 16);
        let entry = ChunkEntry::read_from_bytes(&entry).expect("16 bytes");
        let base = self.info.geometry.ag_base(ino.ag());
        base.plus(u64::from(entry.start.get())).address() + u64::from(ino.slot()) * 256
    }

    pub fn record(&self, ino: Ino) -> InodeRecord {
        let bytes = self.media.bytes(self.record_address(ino), 256);
        InodeRecord::read_from_bytes(&bytes).expect("256 bytes")
    }

    /// Changes a record and makes its checksum right again.
    pub fn edit(&self, ino: Ino, change: impl FnOnce(&mut InodeRecord)) {
        self.edit_at(self.record_address(ino), change);
    }

    /// As [`Self::edit`], for the record at an address.
    pub fn edit_at(&self, address: u64, change: impl FnOnce(&mut InodeRecord)) {
        let bytes = self.media.bytes(address, 256);
        let mut record = InodeRecord::read_from_bytes(&bytes).expect("256 bytes");
        change(&mut record);
        let sum = inode_sum(&self.keys, &record);
        record.checksum.set(sum);
        self.media.damage(address, record.as_bytes());
    }

    /// Changes a block with a header and makes its checksum right again.
    pub fn edit_node(&self, block: Block, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self.media.bytes(block.address(), 4096);
        change(&mut bytes);
        let sum = self.keys.object(Domain::Node, &bytes, 8);
        bytes[8..16].copy_from_slice(&sum.to_le_bytes());
        self.media.damage(block.address(), &bytes);
    }

    /// The root of an inode's tree, or its first symlink block.
    pub fn tree_root(&self, ino: Ino) -> Block {
        let record = self.record(ino);
        Block(u64::from_le_bytes(
            record.inline[..8].try_into().expect("8 bytes"),
        ))
    }

    /// Child `index` of an index node.
    pub fn child(&self, block: Block, index: u64) -> Block {
        Block(self.u64_at(block.address() + 64 + index * 16 + 8))
    }

    /// A block that is free.
    pub fn free_block(&self) -> Block {
        let geometry = &self.info.geometry;
        let blocks = geometry.ag_blocks(0);
        let free = (0..blocks)
            .rev()
            .find(|relative| !self.is_marked(*relative));
        geometry.ag_base(0).plus(free.expect("a free block"))
    }

    fn is_marked(&self, relative: u64) -> bool {
        self.u64_at(self.info.geometry.bitmap_word(0, relative)) >> (relative % 64) & 1 != 0
    }

    /// Changes the mark of a block in the bitmap of group 0.
    pub fn toggle_mark(&self, block: Block) {
        let relative = block.0 - self.info.geometry.ag_base(0).0;
        let address = self.info.geometry.bitmap_word(0, relative);
        self.put_u64(address, self.u64_at(address) ^ 1 << (relative % 64));
    }
}
