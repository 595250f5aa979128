// SPDX-License-Identifier: GPL-2.0

//! Nanoseconds per operation on a mounted filesystem, one line each: `name figure`.
//!
//! Under QEMU's `-icount shift=0` the guest's clock counts executed instructions, so these are instructions per operation.
//! Usage: operations DIRECTORY GROUP...: of the groups of rows `names`, `appends`, `data`, and where there are huge pages and
//! fallocate (not on ramfs) `large` and `faults`.
//! Built by bench/instructions with nothing but rustc, hence the declarations of C functions here.

use std::ffi::{c_int, c_long, c_void, CString};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

extern "C" {
    fn mmap(at: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: c_long) -> *mut c_void;
    fn munmap(at: *mut c_void, len: usize) -> c_int;
    fn fallocate(fd: c_int, mode: c_int, offset: c_long, len: c_long) -> c_int;
    fn open(path: *const i8, flags: c_int, mode: c_int) -> c_int;
    fn close(fd: c_int) -> c_int;
}

const N: usize = 1000;
const MIB: usize = 1 << 20;
const HUGE: usize = 2 * MIB;
const PAGE: usize = 4096;
const SHARED: c_int = 1;
/// MAP_SHARED_VALIDATE | MAP_SYNC
const SYNC: c_int = 0x80003;

/// A no-operation that qemu/plugin knows: it sums up what happens between two of them.
macro_rules! marker {
    ($kind:literal, $count:expr) => {
        // SAFETY: changes nothing.
        unsafe {
            std::arch::asm!(concat!(".byte 0x0f, 0x1f, 0x80, ", $kind, ", 0x68, 0x63, 0x6f"),
                in("rdi") 0u64, in("rsi") $count as u64, in("rdx") 0u64, options(nostack, preserves_flags))
        }
    };
}

fn row(name: &str, count: usize, run: impl FnOnce()) {
    let start = Instant::now();
    marker!("1", count);
    run();
    marker!("2", count);
    println!("{name} {}", start.elapsed().as_nanos() / count as u128);
}

/// A mapping whose address is a multiple of 2 MiB.
struct Map(*mut u8, usize);

impl Map {
    fn new(file: &File, len: usize, flags: c_int) -> Self {
        // SAFETY: a fresh anonymous reservation is overlaid inside its own bounds.
        unsafe {
            let room = mmap(std::ptr::null_mut(), len + HUGE, 0, 0x22, -1, 0) as usize;
            let at = (room + HUGE - 1) / HUGE * HUGE;
            let p = mmap(at as *mut c_void, len, 3, flags | 0x10, file.as_raw_fd(), 0);
            assert!(p as usize == at, "mmap: {}", std::io::Error::last_os_error());
            Map(p.cast(), len)
        }
    }

    fn touch(&self, offset: usize, write: bool) {
        assert!(offset < self.1);
        // SAFETY: inside the mapping, whose file is as long.
        unsafe {
            let p = self.0.add(offset);
            if write {
                p.write_volatile(1);
            } else {
                p.read_volatile();
            }
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: ours.
        unsafe { munmap(self.0.cast(), self.1) };
    }
}

fn create(path: &str) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap()
}

fn preallocate(file: &File, mode: c_int, offset: usize, len: usize) {
    // SAFETY: a plain system call.
    let rc = unsafe { fallocate(file.as_raw_fd(), mode, offset as c_long, len as c_long) };
    assert!(rc == 0, "fallocate: {}", std::io::Error::last_os_error());
}

fn names(dir: &str, prefix: &str) -> Vec<String> {
    (0..N).map(|i| format!("{dir}/{prefix}{i}")).collect()
}

fn metadata(base: &str) {
    let dir = format!("{base}/meta");
    fs::create_dir(&dir).unwrap();
    let parent = File::open(&dir).unwrap();
    let files: Vec<CString> = names(&dir, "f").into_iter().map(|n| CString::new(n).unwrap()).collect();
    let (a, b) = (names(&dir, "f"), names(&dir, "r"));
    row("create", N, || {
        for f in &files {
            // SAFETY: system calls on a name that lives.
            unsafe { close(open(f.as_ptr().cast(), 0o101, 0o644)) };
        }
    });
    row("stat-warm", N, || a.iter().for_each(|f| drop(fs::metadata(f).unwrap())));
    row("rename", N, || a.iter().zip(&b).for_each(|(a, b)| fs::rename(a, b).unwrap()));
    row("unlink-empty", N, || b.iter().for_each(|f| fs::remove_file(f).unwrap()));
    row("create+fsync", N, || {
        for f in &a {
            let f = create(f);
            f.sync_all().unwrap();
            parent.sync_all().unwrap();
        }
    });
    row("unlink+fsync", N, || {
        for f in &a {
            fs::remove_file(f).unwrap();
            parent.sync_all().unwrap();
        }
    });
    row("mkdir", N, || a.iter().for_each(|f| fs::create_dir(f).unwrap()));
    row("rmdir", N, || a.iter().for_each(|f| fs::remove_dir(f).unwrap()));
    let data = vec![7u8; 16384];
    row("create+write16k+fsync", N, || {
        for f in &a {
            let f = create(f);
            f.write_at(&data, 0).unwrap();
            f.sync_all().unwrap();
            parent.sync_all().unwrap();
        }
    });
    row("unlink-16k", N, || a.iter().for_each(|f| fs::remove_file(f).unwrap()));
}

fn appends(base: &str) {
    for (name, size, sync) in [("append4k", 4096, false), ("append1000+fsync", 1000, true), ("append4k+fsync", 4096, true)] {
        let f = create(&format!("{base}/append"));
        let data = vec![7u8; size];
        row(name, N, || {
            for i in 0..N {
                f.write_at(&data, (i * size) as u64).unwrap();
                if sync {
                    f.sync_all().unwrap();
                }
            }
        });
        fs::remove_file(format!("{base}/append")).unwrap();
    }
}

fn faults(base: &str) {
    const LEN: usize = 64 * MIB;
    let path = format!("{base}/faults");
    let f = create(&path);
    row("fallocate-64m", 1, || preallocate(&f, 0, 0, LEN));
    let every = |map: &Map, step: usize, from: usize, write: bool| {
        for o in (from..LEN).step_by(step) {
            map.touch(o, write);
        }
    };
    let huge = |name: &str, flags: c_int, write: bool| {
        let map = Map::new(&f, LEN, flags);
        row(name, LEN / HUGE, || every(&map, HUGE, 0, write));
    };
    huge("fault-write-unwritten-2m", SHARED, true);
    huge("fault-write-written-2m", SHARED, true);
    huge("fault-read-written-2m", SHARED, false);
    drop(f);
    fs::remove_file(&path).unwrap();

    let f = create(&path);
    f.set_len(LEN as u64).unwrap();
    {
        let map = Map::new(&f, LEN, SHARED);
        row("fault-read-hole-4k", LEN / PAGE, || every(&map, PAGE, 0, false));
    }
    drop(f);
    fs::remove_file(&path).unwrap();

    for (name, flags) in [("fault-write-4k-mixed", SHARED), ("fault-write-4k-mixed-SYNC", SYNC)] {
        let len = 8 * MIB;
        let f = create(&path);
        f.set_len(len as u64).unwrap();
        let block = [1u8; PAGE];
        for o in (0..len).step_by(2 * PAGE) {
            f.write_at(&block, o as u64).unwrap();
        }
        f.sync_all().unwrap();
        let map = Map::new(&f, len, flags);
        row(name, len / PAGE, || {
            for o in (0..len).step_by(PAGE) {
                map.touch(o, true);
            }
        });
        drop(map);
        drop(f);
        fs::remove_file(&path).unwrap();
    }
    let f = create(&path);
    preallocate(&f, 0, 0, LEN);
    {
        let map = Map::new(&f, LEN, SYNC);
        row("fault-write-unwr-2m-SYNC", LEN / HUGE, || every(&map, HUGE, 0, true));
    }
    const PUNCH_KEEP: c_int = 3;
    let holes = LEN / PAGE / 8;
    row("punch4k", holes, || {
        for i in 0..holes {
            preallocate(&f, PUNCH_KEEP, i * 8 * PAGE, PAGE);
        }
    });
    row("truncate-64m", 1, || f.set_len(0).unwrap());
    drop(f);
    fs::remove_file(&path).unwrap();
}

fn data(base: &str, big: bool) {
    let f = create(&format!("{base}/data"));
    let mut block = vec![9u8; HUGE];
    for i in 0..4 {
        f.write_at(&block, (i * HUGE) as u64).unwrap();
    }
    f.sync_all().unwrap();
    let at = |i: usize| (i % 2000 * PAGE) as u64;
    row("pwrite4k-overwrite", N, || (0..N).for_each(|i| assert!(f.write_at(&block[..PAGE], at(i)).unwrap() == PAGE)));
    row("pwrite4k+fdatasync", N, || {
        for i in 0..N {
            f.write_at(&block[..PAGE], at(i)).unwrap();
            f.sync_data().unwrap();
        }
    });
    row("pread4k", N, || (0..N).for_each(|i| assert!(f.read_at(&mut block[..PAGE], at(i)).unwrap() == PAGE)));
    row("pread64", N, || (0..N).for_each(|i| assert!(f.read_at(&mut block[..64], at(i)).unwrap() == 64)));
    if big {
        row("pread2m", 8, || (0..8).for_each(|i| assert!(f.read_at(&mut block, (i % 4 * HUGE) as u64).unwrap() == HUGE)));
        row("pwrite2m", 8, || (0..8).for_each(|i| assert!(f.write_at(&block, (i % 4 * HUGE) as u64).unwrap() == HUGE)));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let base = &arguments[1];
    let wanted = |group: &str| arguments[2..].iter().any(|a| a == group);
    if wanted("names") {
        metadata(base);
    }
    if wanted("appends") {
        appends(base);
    }
    if wanted("data") {
        data(base, wanted("large"));
    }
    if wanted("faults") {
        faults(base);
    }
}
