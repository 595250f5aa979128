// SPDX-License-Identifier: GPL-2.0

//! Carries out a list of calls on a filesystem and marks each for the trace plugin.
//!
//! Usage: calls LIST DEVICE MOUNTPOINT. Each line of the list is `THREAD CALL ARGUMENTS…`, as tools/trace/src/call.rs writes
//! them; a thread is a process thread bound to a CPU of its own, and carries out its lines in their order. The markers tell the
//! plugin the number of the line before the call, and after it the number and the result (a negative one is an errno).
//!
//! Built by scripts/crash-vm with nothing but rustc, hence the declarations of C functions here.

use std::arch::asm;
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void, CString};
use std::os::fd::RawFd;

extern "C" {
    fn mount(device: *const c_char, at: *const c_char, kind: *const c_char, flags: c_ulong, data: *const c_char) -> c_int;
    fn umount(at: *const c_char) -> c_int;
    fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn mkdir(path: *const c_char, mode: c_uint) -> c_int;
    fn rmdir(path: *const c_char) -> c_int;
    fn unlink(path: *const c_char) -> c_int;
    fn link(from: *const c_char, to: *const c_char) -> c_int;
    fn linkat(at: c_int, from: *const c_char, to_at: c_int, to: *const c_char, flags: c_int) -> c_int;
    fn symlink(target: *const c_char, path: *const c_char) -> c_int;
    fn renameat2(at: c_int, from: *const c_char, to_at: c_int, to: *const c_char, flags: c_uint) -> c_int;
    fn chmod(path: *const c_char, mode: c_uint) -> c_int;
    fn chown(path: *const c_char, uid: c_uint, gid: c_uint) -> c_int;
    fn ftruncate(fd: c_int, size: c_long) -> c_int;
    fn fallocate(fd: c_int, mode: c_int, offset: c_long, len: c_long) -> c_int;
    fn pwrite(fd: c_int, bytes: *const c_void, len: usize, offset: c_long) -> isize;
    fn fsync(fd: c_int) -> c_int;
    fn mmap(at: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: c_long) -> *mut c_void;
    fn munmap(at: *mut c_void, len: usize) -> c_int;
    fn msync(at: *mut c_void, len: usize, flags: c_int) -> c_int;
    fn pipe2(ends: *mut c_int, flags: c_int) -> c_int;
    fn vmsplice(fd: c_int, parts: *const Part, count: usize, flags: c_uint) -> isize;
    fn sched_setaffinity(pid: c_int, len: usize, mask: *const u64) -> c_int;
}

/// See qemu/plugin: a no-operation that the plugin knows.
macro_rules! marker {
    ($kind:literal, $number:expr, $result:expr) => {
        // SAFETY: a no-operation. As far as the compiler knows it reads all memory, so nothing moves across it.
        unsafe {
            asm!(concat!(".byte 0x0f, 0x1f, 0x80, ", $kind, ", 0x68, 0x63, 0x6f"),
                in("rdi") $number as u64, in("rsi") $result as i64, in("rdx") 0u64, options(nostack, preserves_flags))
        }
    };
}

/// What a write of this number leaves at a place of a file: never 0, different for each number and word.
fn pattern(fill: u64, at: u64) -> u8 {
    let word = (at / 8 + fill * 0x1_0001).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 0x0101_0101_0101_0101;
    (word >> (8 * (at % 8))) as u8
}

const AT_FDCWD: c_int = -100;
const RDWR: c_int = 2;
const CREATE_NEW: c_int = 0o300;
const TMPFILE: c_int = 0o20_200_000;

/// A 2 MiB page.
const HUGE: usize = 2 << 20;

#[repr(C)]
struct Part {
    at: *mut c_void,
    len: usize,
}

struct Slot {
    fd: RawFd,
    map: *mut u8,
    len: usize,
}

struct Thread {
    slots: HashMap<String, Slot>,
    /// Pipes that hold pages.
    holders: HashMap<String, [c_int; 2]>,
    device: CString,
    top: String,
}

fn done(rc: c_int) -> i64 {
    if rc >= 0 {
        return rc.into();
    }
    -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(5))
}

impl Thread {
    fn path(&self, name: &str) -> CString {
        CString::new(format!("{}/{name}", self.top)).unwrap()
    }

    /// A descriptor for `@slot` or a path; and whether to close it.
    fn file(&self, name: &str) -> (RawFd, bool) {
        match name.strip_prefix('@') {
            Some(slot) => (self.slots[slot].fd, false),
            // SAFETY: a system call on a string that lives.
            None => (unsafe { open(self.path(name).as_ptr(), if name == "." { 0 } else { RDWR }, 0) }, true),
        }
    }

    fn with_file(&self, number: u64, name: &str, call: impl FnOnce(RawFd) -> i64) -> i64 {
        let (fd, ours) = self.file(name);
        assert!(fd >= 0, "line {number}: open {name}: {}", std::io::Error::last_os_error());
        let result = marked(number, || call(fd));
        if ours {
            // SAFETY: opened here.
            unsafe { close(fd) };
        }
        result
    }

    fn slot(&self, name: &str) -> &Slot {
        &self.slots[name.trim_start_matches('@')]
    }

    /// One line.
    fn run(&mut self, number: u64, words: &[&str]) -> i64 {
        let n = |i: usize| words[i].parse::<u64>().unwrap_or_else(|e| panic!("line {number}: {}: {e}", words[i]));
        let p = |i: usize| self.path(words[i]);
        // SAFETY, for all of these: plain system calls on strings that live during the call, and stores inside live mappings.
        match words[0] {
            "mount" => {
                let at = CString::new(self.top.as_str()).unwrap();
                marked(number, || unsafe { done(mount(self.device.as_ptr(), at.as_ptr(), c"ochre".as_ptr(), 0, c"dax".as_ptr())) })
            }
            "umount" => {
                counters();
                let at = CString::new(self.top.as_str()).unwrap();
                marked(number, || unsafe { done(umount(at.as_ptr())) })
            }
            "create" => {
                let path = p(1);
                let mut fd = -1;
                let result = marked(number, || {
                    fd = unsafe { open(path.as_ptr(), RDWR | CREATE_NEW, 0o644) };
                    done(fd).min(0)
                });
                unsafe { close(fd) };
                result
            }
            "mkdir" => {
                let path = p(1);
                marked(number, || unsafe { done(mkdir(path.as_ptr(), 0o755)) })
            }
            "rmdir" => {
                let path = p(1);
                marked(number, || unsafe { done(rmdir(path.as_ptr())) })
            }
            "unlink" => {
                let path = p(1);
                marked(number, || unsafe { done(unlink(path.as_ptr())) })
            }
            "link" => {
                let (a, b) = (p(1), p(2));
                marked(number, || unsafe { done(link(a.as_ptr(), b.as_ptr())) })
            }
            "symlink" => {
                let (a, b) = (CString::new(words[1]).unwrap(), p(2));
                marked(number, || unsafe { done(symlink(a.as_ptr(), b.as_ptr())) })
            }
            "rename" | "exchange" => {
                let (a, b) = (p(1), p(2));
                let flags = if words[0] == "exchange" { 2 } else { 0 };
                marked(number, || unsafe { done(renameat2(AT_FDCWD, a.as_ptr(), AT_FDCWD, b.as_ptr(), flags)) })
            }
            "chmod" => {
                let (path, mode) = (p(1), n(2) as c_uint);
                marked(number, || unsafe { done(chmod(path.as_ptr(), mode)) })
            }
            "chown" => {
                let (path, uid) = (p(1), n(2) as c_uint);
                marked(number, || unsafe { done(chown(path.as_ptr(), uid, c_uint::MAX)) })
            }
            "truncate" => self.with_file(number, words[1], |fd| unsafe { done(ftruncate(fd, n(2) as c_long)) }),
            "fallocate" => self.with_file(number, words[1], |fd| unsafe { done(fallocate(fd, n(2) as c_int, n(3) as c_long, n(4) as c_long)) }),
            "write" => {
                let (offset, len, fill) = (n(2), n(3), n(4));
                let bytes: Vec<u8> = (offset..offset + len).map(|at| pattern(fill, at)).collect();
                self.with_file(number, words[1], |fd| unsafe { pwrite(fd, bytes.as_ptr().cast(), bytes.len(), offset as c_long) } as i64)
            }
            "fsync" => self.with_file(number, words[1], |fd| unsafe { done(fsync(fd)) }),
            "open" => {
                let path = p(2);
                let slot = words[1].to_string();
                let mut fd = -1;
                let result = marked(number, || {
                    fd = unsafe { open(path.as_ptr(), RDWR, 0) };
                    done(fd).min(0)
                });
                self.slots.insert(slot, Slot { fd, map: std::ptr::null_mut(), len: 0 });
                result
            }
            "tmpfile" => {
                let path = p(2);
                let slot = words[1].to_string();
                let mut fd = -1;
                let result = marked(number, || {
                    fd = unsafe { open(path.as_ptr(), RDWR | TMPFILE, 0o644) };
                    done(fd).min(0)
                });
                self.slots.insert(slot, Slot { fd, map: std::ptr::null_mut(), len: 0 });
                result
            }
            "linkfd" => {
                let from = CString::new(format!("/proc/self/fd/{}", self.slot(words[1]).fd)).unwrap();
                let to = p(2);
                marked(number, || unsafe { done(linkat(AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), 0x400)) })
            }
            "close" => {
                let slot = self.slots.remove(words[1]).unwrap();
                marked(number, || unsafe { done(close(slot.fd)) })
            }
            "map" => {
                // MAP_SHARED, or MAP_SHARED_VALIDATE | MAP_SYNC
                let (len, flags) = (n(2) as usize, if words[3] == "sync" { 0x80003 } else { 1 });
                let slot = self.slots.get_mut(words[1]).unwrap();
                // At a multiple of 2 MiB where such pages are possible: the place is taken first.
                let (mut place, mut fixed) = (std::ptr::null_mut(), 0);
                if len >= HUGE {
                    let taken = unsafe { mmap(std::ptr::null_mut(), len + HUGE, 0, 0x22, -1, 0) };
                    place = taken.map_addr(|at| at.next_multiple_of(HUGE));
                    fixed = 0x10;
                }
                marked(number, || {
                    slot.map = unsafe { mmap(place, len, 3, flags | fixed, slot.fd, 0) }.cast();
                    slot.len = len;
                    done(if slot.map as isize == -1 { -1 } else { 0 })
                })
            }
            "store" => {
                let (at, value) = (n(2) as usize, n(3));
                let slot = self.slot(words[1]);
                assert!(at % 8 == 0 && at + 8 <= slot.len);
                marked(number, || {
                    unsafe { slot.map.add(at).cast::<u64>().write_volatile(value) };
                    0
                })
            }
            "flush" => {
                let (at, len) = (n(2) as usize, n(3) as usize);
                let slot = self.slot(words[1]);
                assert!(at + len <= slot.len);
                marked(number, || {
                    for line in at / 64..(at + len).div_ceil(64) {
                        // A processor faults at a clwb of a page that is not mapped; QEMU's does nothing there. A load makes it
                        // the same on both.
                        unsafe { slot.map.add(line * 64).read_volatile() };
                        unsafe { asm!("clwb [{}]", in(reg) slot.map.add(line * 64), options(nostack, preserves_flags)) };
                    }
                    unsafe { asm!("sfence", options(nostack, preserves_flags)) };
                    0
                })
            }
            "msync" => {
                let (at, len) = (n(2) as usize, n(3) as usize);
                let slot = self.slot(words[1]);
                marked(number, || unsafe { done(msync(slot.map.add(at).cast(), len, 4)) })
            }
            "hold" => {
                let (at, len) = (n(3) as usize, n(4) as usize);
                let slot = self.slot(words[2]);
                assert!(at + len <= slot.len);
                let mut ends = [-1; 2];
                assert_eq!(unsafe { pipe2(ends.as_mut_ptr(), 0) }, 0, "line {number}: no pipe");
                let part = Part { at: unsafe { slot.map.add(at) }.cast(), len };
                let result = marked(number, || match unsafe { vmsplice(ends[1], &part, 1, 2) } {
                    all if all == len as isize => 0,
                    less => done(less.min(-1) as c_int),
                });
                self.holders.insert(words[1].into(), ends);
                result
            }
            "letgo" => {
                let ends = self.holders.remove(words[1]).unwrap();
                marked(number, || unsafe { done(close(ends[0]).min(close(ends[1]))) })
            }
            "probe" => {
                let slot = self.slot(words[1]);
                assert!(slot.len >= 4096);
                let nowhere = unsafe { mmap(std::ptr::null_mut(), 4096, 3, 0x22, -1, 0) };
                marked(number, || {
                    unsafe { probe(slot.map, nowhere.cast()) };
                    0
                })
            }
            "unmap" => {
                let slot = self.slot(words[1]);
                marked(number, || unsafe { done(munmap(slot.map.cast(), slot.len)) })
            }
            other => panic!("line {number}: no such call: {other}"),
        }
    }
}

/// What was put off for held pages, for scripts/crash-vm: it must have been some.
fn counters() {
    let Ok(all) = std::fs::read_dir("/sys/kernel/debug") else { return };
    let ours = all.flatten().filter(|d| d.file_name().to_string_lossy().starts_with("ochre-"));
    for counters in ours.filter_map(|d| std::fs::read_to_string(d.path().join("layout")).ok()) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open("/out/layout").expect("/out/layout");
        std::io::Write::write_all(&mut file, counters.as_bytes()).expect("/out/layout");
    }
}

/// One of each kind of instruction that the plugin has to know. tools/trace/src/probe.rs has what it must record.
///
/// # Safety
///
/// `map` is a page of a file that was stored to before, `nowhere` one that nothing was ever done to.
unsafe fn probe(map: *mut u8, nowhere: *mut u8) {
    let mut word = 1u64;
    // SAFETY: the caller's promise; the rest is on the stack.
    unsafe {
        asm!(
            // An ordinary store, clwb, sfence.
            "mov [{map}], {value}",
            "clwb [{map}]",
            "sfence",
            // Non-temporal ones, mfence, a locked instruction.
            "movnti [{map} + 64], {value}",
            "mfence",
            "movq {vector}, {value}",
            "movntdq [{map} + 128], {vector}",
            "lock add qword ptr [{word}], 0",
            // clflushopt by base and index, xchg.
            "mov dword ptr [{map} + 192], 0x11223344",
            "mov {value}, 24",
            "clflushopt [{map} + {value} * 8]",
            "xchg [{word}], {value}",
            // clflush; a line of ordinary memory; a page that is not there.
            "mov byte ptr [{map} + 256], 0x55",
            "clflush [{map} + 256]",
            "clwb [{word}]",
            "sfence",
            "clwb [{nowhere}]",
            map = in(reg) map,
            word = in(reg) &raw mut word,
            nowhere = in(reg) nowhere,
            value = inout(reg) 0x0123_4567_89ab_cdefu64 => _,
            vector = out(xmm_reg) _,
            options(nostack),
        );
    }
}

fn marked(number: u64, call: impl FnOnce() -> i64) -> i64 {
    marker!("1", number, 0);
    let result = call();
    marker!("2", number, result);
    result
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let list = std::fs::read_to_string(&arguments[1]).expect("the list of calls");
    let mut threads: Vec<(usize, Vec<(u64, String)>)> = Vec::new();
    for (number, line) in list.lines().enumerate() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        if thread.starts_with('#') {
            continue;
        }
        let thread: usize = thread.parse().expect("a thread's number");
        // Lines of thread 0 wait for all others before them, and the others for them.
        match threads.last_mut() {
            Some((t, lines)) if *t == thread => lines.push((number as u64, call.into())),
            _ => threads.push((thread, vec![(number as u64, call.into())])),
        }
    }
    let mut at = 0;
    while at < threads.len() {
        // Neighbouring pieces of threads other than 0 run at once; 0 runs alone.
        let mut end = at + 1;
        if threads[at].0 != 0 {
            while end < threads.len() && threads[end].0 != 0 {
                end += 1;
            }
        }
        let mut lines: HashMap<usize, Vec<(u64, String)>> = HashMap::new();
        for (thread, part) in &threads[at..end] {
            lines.entry(*thread).or_default().extend(part.iter().cloned());
        }
        let (device, top) = (&arguments[2], &arguments[3]);
        std::thread::scope(|scope| {
            for (thread, lines) in &lines {
                scope.spawn(move || {
                    let mask = 1u64 << (*thread).saturating_sub(1);
                    // SAFETY: a system call on a word that lives. It fails on a machine with fewer CPUs, which is no harm.
                    unsafe { sched_setaffinity(0, 8, &mask) };
                    let mut thread = Thread {
                        slots: HashMap::new(),
                        holders: HashMap::new(),
                        device: CString::new(device.as_str()).unwrap(),
                        top: top.clone(),
                    };
                    for (number, line) in lines {
                        let words: Vec<&str> = line.split_whitespace().collect();
                        let result = thread.run(*number, &words);
                        if result < 0 {
                            println!("line {number}: {line}: error {}", -result);
                        }
                    }
                });
            }
        });
        at = end;
    }
}
