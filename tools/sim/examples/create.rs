// SPDX-License-Identifier: GPL-2.0

//! Creates and unlinks files in one directory, then gives blocks to a file and takes them away, on flat memory: what a
//! profiler (callgrind) is pointed at. Each call has a function of its own that is not inlined.

use ochre::engine::error::{Error, Result};
use ochre::engine::filesystem::{Filesystem, Inode, MountOptions, NewInode, PublishArgs, Times};
use ochre::engine::media::Media;
use ochre::engine::mkfs::{mkfs, MkfsOptions};
use ochre::engine::types::{FileBlock, Ino, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Flat memory, word by word, as cheap as the kernel's.
struct Flat(Box<[AtomicU64]>);

impl Media for Flat {
    ochre::stores_are_immediate!();

    fn size(&self) -> u64 {
        self.0.len() as u64 * 8
    }
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        let (mut at, mut rest) = (address, buffer);
        while !rest.is_empty() {
            let word = self
                .0
                .get(at as usize / 8)
                .ok_or(Error::Io)?
                .load(Relaxed)
                .to_le_bytes();
            let skip = at as usize % 8;
            if let (0, Some(whole)) = (skip, rest.first_chunk_mut::<8>()) {
                *whole = word;
                rest = &mut rest[8..];
                at += 8;
                continue;
            }
            let n = (8 - skip).min(rest.len());
            rest[..n].copy_from_slice(&word[skip..skip + n]);
            rest = &mut rest[n..];
            at += n as u64;
        }
        Ok(())
    }
    fn read_u64(&self, address: u64) -> Result<u64> {
        Ok(self
            .0
            .get(address as usize / 8)
            .ok_or(Error::Io)?
            .load(Relaxed))
    }
    fn store(&self, address: u64, bytes: &[u8]) {
        for (word, chunk) in self.0[address as usize / 8..]
            .iter()
            .zip(bytes.chunks_exact(8))
        {
            word.store(
                u64::from_le_bytes(chunk.try_into().expect("8 bytes")),
                Relaxed,
            );
        }
    }
    fn zero(&self, address: u64, len: u64) {
        for word in &self.0[address as usize / 8..(address + len) as usize / 8] {
            word.store(0, Relaxed);
        }
    }
    fn phase(&self) -> u64 {
        0
    }
}

fn main() {
    let count: u64 = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(10_000);
    let size = 256 << 20;
    let media = Flat((0..size / 8).map(|_| AtomicU64::new(0)).collect());
    let options = MkfsOptions {
        size,
        phase: 0,
        uuid: [1; 16],
        label: [0; 32],
        secret: [1, 2],
        hash_key: [3, 4],
        lanes: None,
        time: Timestamp(0),
        owner: (0, 0),
    };
    mkfs(&media, &options, |_, _| {}).expect("mkfs");
    let fs = Filesystem::mount(media, &MountOptions::default()).expect("mount");
    let root = fs.iget(Ino::ROOT).expect("root");
    let new = |n: u64| NewInode::new(0o100644, Timestamp(n as i64));
    let inodes: Vec<_> = (0..count).map(|n| create(&fs, &root, n, &new(n))).collect();
    for (n, inode) in inodes.iter().enumerate() {
        unlink(&fs, &root, n as u64, inode);
    }
    let file = create(&fs, &root, 0, &new(0));
    preallocate(&fs, &file);
    for n in 0..PAGES / 8 {
        punch(&fs, &file, n * 8);
    }
    truncate(&fs, &file);
    fs.truncate(&file, PAGES * 4096, &Times::default())
        .expect("truncate");
    for n in (0..PAGES / 8).step_by(2) {
        write(&fs, &file, n);
    }
    for n in (0..PAGES / 8).step_by(2) {
        fault(&fs, &file, n + 1);
    }
}

/// Pages of the file: 64 MiB.
const PAGES: u64 = 16384;

#[inline(never)]
fn preallocate<M: Media>(fs: &Filesystem<M>, file: &Inode) {
    let size = Some(PAGES * 4096);
    fs.preallocate(file, FileBlock(0), PAGES, size, &Times::default())
        .expect("preallocate");
}

#[inline(never)]
fn punch<M: Media>(fs: &Filesystem<M>, file: &Inode, at: u64) {
    fs.punch(file, FileBlock(at), FileBlock(at + 1), &Times::default())
        .expect("punch");
}

#[inline(never)]
fn truncate<M: Media>(fs: &Filesystem<M>, file: &Inode) {
    fs.truncate(file, 0, &Times::default()).expect("truncate");
}

#[inline(never)]
fn write<M: Media>(fs: &Filesystem<M>, file: &Inode, at: u64) {
    let reserved = fs
        .reserve_write(file, FileBlock(at), 1, 0)
        .expect("reserve");
    fs.publish(file, reserved, 1, &PublishArgs::default())
        .expect("publish");
}

#[inline(never)]
fn fault<M: Media>(fs: &Filesystem<M>, file: &Inode, at: u64) {
    fs.fault_allocate(file, FileBlock(at), 1).expect("fault");
}

#[inline(never)]
fn create<M: Media>(fs: &Filesystem<M>, root: &Inode, n: u64, new: &NewInode<'_>) -> Inode {
    fs.create(root, format!("file-{n:06}").as_bytes(), new)
        .expect("create")
}

#[inline(never)]
fn unlink<M: Media>(fs: &Filesystem<M>, root: &Inode, n: u64, inode: &Inode) {
    fs.unlink(root, format!("file-{n:06}").as_bytes(), inode, Timestamp(0))
        .expect("unlink");
    fs.evict(inode).expect("evict");
}
