// SPDX-License-Identifier: GPL-2.0

//! The medium: persistent memory as loads, stores, write-backs and fences.
//!
//! What: [`DaxMedia`] implements the engine's [`Media`] over one directly mapped range of
//! persistent memory. Offsets count from the start of the block device.
//!
//! Why the engine sees offsets and copies, never references: the bytes change under other CPUs
//! and under user processes, which no `&[u8]` may; and a load from a poisoned line is a machine
//! check. Reads go through instructions that have an entry in the exception table, so that poison
//! comes back as `EIO`. (`copy_mc_to_kernel` promises this only where the CPU has ERMS; elsewhere
//! it is `memcpy`, since such CPUs cannot recover.) Memory that is known to be lost is not touched at all.
//!
//! # What makes a store durable
//!
//! * ordinary store, then write-back of its line (`clwb`), then `sfence` *on the same CPU*;
//! * or a non-temporal store, then `sfence` on the same CPU.
//!
//! Hazard: the last words. A thread stores and writes back on CPU 0, moves to CPU 1 and fences
//! there. The fence orders nothing of CPU 0. With preemption this takes no more than bad luck
//! between two statements, and is invisible until power fails. Moving to another CPU passes
//! through the scheduler, whose locked instructions order a `clwb` as well, on x86; that is what
//! makes a thread's own sequence safe. It does not help a thread that relies on the stores of
//! *another* one: for this there is [`Media::drain`], which fences on every CPU.
//!
//! Hazard: a non-temporal copy is non-temporal only for its aligned words. Its head and tail are
//! ordinary stores, and need the write-back that [`DaxMedia::store_through`] gives them.

use crate::bindings::c;
use crate::engine::error::{Error, Result};
use crate::engine::media::{Block, Media, Poison, Run};
use crate::testing::{self, Protection};
use crate::vfs::dax_device::DaxDevice;
use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

/// Reads up to this many bytes are done word by word; longer ones by the kernel's own copy.
const WORD_READ_MAX: usize = 256;

/// Bytes in a cache line.
const LINE: usize = 64;

/// Persistent memory, mapped.
///
/// # Invariants
///
/// `base` is the start of `len` bytes that stay mapped while `device` lives; this value owns it.
pub(crate) struct DaxMedia {
    base: *mut u8,
    len: u64,
    /// `len`, and 0 once something is lost: then each access is looked at (see [`DaxMedia::at_slowly`]).
    limit: AtomicU64,
    poison: Poison,
    phase: u64,
    synchronous: bool,
    careful: bool,
    device: DaxDevice,
}

// SAFETY: The memory is shared by nature: all accesses are volatile, atomic words, or
// instructions in assembly. No reference into it is ever made.
unsafe impl Send for DaxMedia {}
// SAFETY: As above.
unsafe impl Sync for DaxMedia {}

impl DaxMedia {
    /// The medium of a device.
    ///
    /// # Errors
    ///
    /// `NoMemory`; `Unreadable`: the device lists more bad blocks than can be kept in mind.
    pub(crate) fn new(device: DaxDevice) -> Result<Self> {
        let range = device.direct_range();
        // INVARIANT: `DirectRange` says so of its range, and `device` moves in here.
        let media = Self {
            base: range.base().as_ptr(),
            len: range.len(),
            limit: AtomicU64::new(range.len()),
            poison: Poison::new()?,
            phase: range.physical() % (2 << 20),
            synchronous: device.is_synchronous(),
            // SAFETY: Has no conditions.
            careful: unsafe { c::ochre_reads_need_care() },
            device,
        };
        let mut result = Ok(());
        media.device.bad_ranges(|start, len| {
            let (first, last) = (Block::of(start), Block::of(start + len - 1));
            let run = Run {
                start: first,
                len: last.0 - first.0 + 1,
            };
            if media.lose(run).is_err() {
                result = Err(Error::Unreadable(start));
            }
        });
        result?;
        if media.device.may_have_marks() {
            media.poison.set_suspect();
        }
        Ok(media)
    }

    /// The device below.
    pub(crate) fn device(&self) -> &DaxDevice {
        &self.device
    }

    /// Where `[addr, addr + len)` is, if all of it is on the medium.
    #[inline]
    fn at(&self, addr: u64, len: usize) -> Option<*mut u8> {
        let end = addr.checked_add(len as u64)?;
        if end > self.limit.load(Ordering::Relaxed) {
            return self.at_slowly(addr, end);
        }
        // SAFETY: `addr` is within the mapped range.
        Some(unsafe { self.base.add(addr as usize) })
    }

    /// As [`Self::at`], where something is lost: `None` also if a part of the range is. So nothing loads from a poisoned line,
    /// and nothing stores to a page that the kernel may have unmapped for it.
    #[cold]
    fn at_slowly(&self, addr: u64, end: u64) -> Option<*mut u8> {
        if end > self.len || self.poison.touches(addr, end - addr) {
            return None;
        }
        // SAFETY: `addr` is within the mapped range.
        Some(unsafe { self.base.add(addr as usize) })
    }

    /// Why [`Self::at`] gave nothing.
    #[cold]
    fn denied(&self, addr: u64, len: usize) -> Error {
        if self.poison.touches(addr, len as u64) {
            Error::Unreadable(addr)
        } else {
            Error::Io
        }
    }

    /// A store to lost memory is left undone. (What it belonged to is gone; if that was metadata, the engine has turned itself
    /// read-only.) One outside of the medium is an error of the engine: it is said and left undone.
    #[cold]
    fn outside(&self, addr: u64, len: usize) {
        if self.poison.touches(addr, len as u64) {
            return;
        }
        kernel::pr_err!("store of {len} bytes at {addr:#x} is outside of the medium: ignored\n");
        debug_assert!(false);
    }
}

impl Media for DaxMedia {
    fn size(&self) -> u64 {
        self.len
    }

    #[inline]
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        let len = buf.len();
        let Some(from) = self.at(addr, len) else {
            return Err(self.denied(addr, len));
        };
        let to = buf.as_mut_ptr();
        if len <= WORD_READ_MAX && (addr | len as u64) % 8 == 0 {
            if !self.careful {
                for word in 0..len / 8 {
                    // SAFETY: `from` has `len` mapped bytes and is aligned (the base is a page
                    // boundary); `to` has `len` bytes.
                    unsafe {
                        let value = from.cast::<u64>().add(word).read_volatile();
                        to.cast::<u64>().add(word).write_unaligned(value);
                    }
                }
                return Ok(());
            }
            // SAFETY: As above; x86 does not mind an unaligned destination.
            let whole = unsafe { c::ochre_read_words(to.cast(), from.cast(), len / 8) };
            return if whole {
                Ok(())
            } else {
                Err(Error::Unreadable(addr))
            };
        }
        let Ok(short) = u32::try_from(len) else {
            return Err(Error::Invalid);
        };
        // SAFETY: `from` has `len` mapped bytes, `to` as many of a slice.
        let left = unsafe { c::copy_mc_to_kernel(to.cast(), from.cast(), short) };
        if left == 0 {
            Ok(())
        } else {
            Err(Error::Unreadable(addr))
        }
    }

    #[inline]
    fn read_u64(&self, addr: u64) -> Result<u64> {
        let (Some(from), 0) = (self.at(addr, 8), addr % 8) else {
            return Err(self.denied(addr, 8));
        };
        if self.careful {
            let mut value = 0;
            // SAFETY: `from` is 8 mapped, aligned bytes.
            if !unsafe { c::ochre_read_words(&mut value, from.cast(), 1) } {
                return Err(Error::Unreadable(addr));
            }
            return Ok(value);
        }
        // SAFETY: As above.
        Ok(unsafe { from.cast::<u64>().read_volatile() })
    }

    #[inline]
    fn store(&self, addr: u64, bytes: &[u8]) {
        let len = bytes.len();
        let Some(to) = self.at(addr, len) else {
            return self.outside(addr, len);
        };
        debug_assert!(addr % 8 == 0 && len % 8 == 0);
        for word in 0..len / 8 {
            // SAFETY: Both sides have `len` bytes; the destination is aligned when `addr` is.
            // A word that is not aligned would still be stored, only not atomically.
            unsafe {
                let value = bytes.as_ptr().cast::<u64>().add(word).read_unaligned();
                ptr::write_volatile(to.cast::<u64>().add(word), value);
            }
        }
    }

    #[inline]
    fn store_u64(&self, addr: u64, value: u64) {
        let (Some(to), 0) = (self.at(addr, 8), addr % 8) else {
            return self.outside(addr, 8);
        };
        // SAFETY: 8 mapped, aligned bytes.
        unsafe { ptr::write_volatile(to.cast::<u64>(), value) };
    }

    #[inline]
    fn store_through(&self, addr: u64, bytes: &[u8]) {
        let len = bytes.len();
        let Some(to) = self.at(addr, len) else {
            return self.outside(addr, len);
        };
        // SAFETY: Both sides have `len` bytes and do not overlap. What cannot be stored past the
        // cache at the ragged ends is written back by the callee.
        unsafe { c::__memcpy_flushcache(to.cast(), bytes.as_ptr().cast(), len) };
    }

    #[inline]
    fn zero(&self, addr: u64, len: u64) {
        let len = len as usize;
        let Some(to) = self.at(addr, len) else {
            return self.outside(addr, len);
        };
        // SAFETY: `to` has `len` mapped bytes; nobody has a reference to them.
        unsafe { ptr::write_bytes(to, 0, len) };
    }

    fn zero_through(&self, addr: u64, len: u64) {
        if testing::without(Protection::Zero) {
            return;
        }
        let len = len as usize;
        let Some(to) = self.at(addr, len) else {
            return self.outside(addr, len);
        };
        let head = to.align_offset(LINE).min(len);
        let lines = (len - head) / LINE;
        let tail = (len - head) % LINE;
        // SAFETY: The three parts make up the `len` mapped bytes from `to`.
        unsafe {
            zero_ragged(to, head);
            zero_lines(to.add(head), lines);
            zero_ragged(to.add(head + lines * LINE), tail);
        }
    }

    fn zero_data(&self, addr: u64, len: u64) -> Result {
        // Byte-exact at the edges, unlike what the trait has.
        self.zero_through(addr, len);
        Ok(())
    }

    #[inline]
    fn write_back(&self, addr: u64, len: u64) {
        let len = len as usize;
        let Some(to) = self.at(addr, len) else {
            return self.outside(addr, len);
        };
        // SAFETY: The bytes are mapped.
        unsafe { c::arch_wb_cache_pmem(to.cast(), len) };
    }

    #[inline]
    fn fence(&self) {
        // SAFETY: An sfence has no conditions. It is a compiler barrier for memory as well.
        unsafe { asm!("sfence", options(nostack, preserves_flags)) };
    }

    fn drain(&self) {
        // SAFETY: May sleep, as the trait's callers know.
        unsafe { c::ochre_fence_all_cpus() };
    }

    fn is_synchronous(&self) -> bool {
        self.synchronous
    }

    fn sync_device(&self) -> Result<()> {
        if self.synchronous {
            return Ok(());
        }
        self.device.flush().map_err(|_| Error::Io)
    }

    fn is_write_protected(&self) -> bool {
        self.device.is_read_only()
    }

    fn name(&self) -> &str {
        self.device.name()
    }

    fn phase(&self) -> u64 {
        self.phase
    }

    #[inline]
    fn poison(&self) -> Option<&Poison> {
        Some(&self.poison)
    }

    fn lose(&self, run: Run) -> Result<bool> {
        let new = self.poison.add(run)?;
        self.limit.store(0, Ordering::Release);
        Ok(new)
    }

    fn search_poison(&self, range: Run, found: &mut dyn FnMut(Run)) {
        let (start, end) = (range.start.address(), range.end().address());
        self.device.marked_pages(start, end, |at| {
            found(Run {
                start: Block::of(at),
                len: 1,
            });
        });
    }
}

/// Zeroes fewer bytes than a line with ordinary stores, and writes them back.
///
/// # Safety
///
/// `to` has `len` mapped bytes.
#[inline]
unsafe fn zero_ragged(to: *mut u8, len: usize) {
    if len != 0 {
        // SAFETY: The caller's promise.
        unsafe {
            ptr::write_bytes(to, 0, len);
            c::arch_wb_cache_pmem(to.cast(), len);
        }
    }
}

/// Zeroes whole lines with non-temporal stores.
///
/// # Safety
///
/// `to` is at a line boundary and has `lines` mapped lines.
#[inline]
unsafe fn zero_lines(to: *mut u8, lines: usize) {
    if lines == 0 {
        return;
    }
    // SAFETY: Stores the lines that the caller named, nothing else.
    unsafe {
        asm!(
            "2:",
            "movnti qword ptr [{to}], {zero}",
            "movnti qword ptr [{to} + 8], {zero}",
            "movnti qword ptr [{to} + 16], {zero}",
            "movnti qword ptr [{to} + 24], {zero}",
            "movnti qword ptr [{to} + 32], {zero}",
            "movnti qword ptr [{to} + 40], {zero}",
            "movnti qword ptr [{to} + 48], {zero}",
            "movnti qword ptr [{to} + 56], {zero}",
            "add {to}, 64",
            "dec {lines}",
            "jnz 2b",
            to = inout(reg) to => _,
            lines = inout(reg) lines => _,
            zero = in(reg) 0u64,
            options(nostack),
        );
    }
}
