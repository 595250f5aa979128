// SPDX-License-Identifier: GPL-2.0

//! Looking into the guest: registers, and where a virtual address leads.
//!
//! A write-back names a virtual address, and QEMU's plugin API translates only addresses of accesses that happened. So the page
//! tables are walked here. They are read through the guest kernel's map of all memory, whose start is learned from its own
//! stores to the NVDIMM: of these both addresses are known.

use crate::decode::{Address, Segment};
use qemu_plugin_sys::*;
use std::ffi::CStr;
use std::sync::OnceLock;

unsafe extern "C" {
    fn g_byte_array_new() -> *mut GByteArray;
    fn g_byte_array_set_size(array: *mut GByteArray, len: u32) -> *mut GByteArray;
    fn g_array_free(array: *mut GArray, free_segment: i32) -> *mut u8;
}

/// Handles of registers by name. QEMU gives the same ones for each CPU of a machine.
struct Handles {
    general: [usize; 16],
    fs_base: usize,
    gs_base: usize,
    cr3: usize,
    cr4: usize,
}

static HANDLES: OnceLock<Handles> = OnceLock::new();

const GENERAL: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// Finds the registers. To be called on a CPU's thread when it is made.
pub fn find_registers() {
    HANDLES.get_or_init(|| {
        // SAFETY: On a CPU's thread QEMU returns an array of descriptors, which we own and free.
        let all: Vec<(String, usize)> = unsafe {
            let array = qemu_plugin_get_registers();
            let list = std::slice::from_raw_parts(
                (*array).data.cast::<qemu_plugin_reg_descriptor>(),
                (*array).len as usize,
            );
            let all = list
                .iter()
                .map(|d| {
                    (
                        CStr::from_ptr(d.name).to_string_lossy().into_owned(),
                        d.handle as usize,
                    )
                })
                .collect();
            g_array_free(array, 1);
            all
        };
        let find = |name: &str| {
            let found = all.iter().find(|(n, _)| n == name);
            found
                .unwrap_or_else(|| panic!("ochre trace: this QEMU shows no register {name}"))
                .1
        };
        Handles {
            general: GENERAL.map(find),
            fs_base: find("fs_base"),
            gs_base: find("gs_base"),
            cr3: find("cr3"),
            cr4: find("cr4"),
        }
    });
}

thread_local! {
    // One a CPU's thread, for its life.
    // SAFETY: Has no conditions.
    static BUFFER: *mut GByteArray = unsafe { g_byte_array_new() };
}

fn read(handle: usize) -> u64 {
    BUFFER.with(|&buffer| {
        // SAFETY: `buffer` is this thread's array; `handle` is one that QEMU gave. QEMU appends the register's bytes.
        unsafe {
            g_byte_array_set_size(buffer, 0);
            let len = qemu_plugin_read_register(handle as *mut qemu_plugin_register, buffer);
            if len < 8 {
                return 0;
            }
            (*buffer).data.cast::<u64>().read_unaligned()
        }
    })
}

/// A general register of this CPU, by its number in instructions.
pub fn general(number: u8) -> u64 {
    HANDLES
        .get()
        .map_or(0, |h| read(h.general[usize::from(number & 15)]))
}

/// The virtual address that an instruction about to run refers to.
pub fn effective(a: &Address) -> u64 {
    let Some(h) = HANDLES.get() else { return 0 };
    let mut sum = a.displacement;
    if let Some(base) = a.base {
        sum = sum.wrapping_add(general(base));
    }
    if let Some((index, shift)) = a.index {
        sum = sum.wrapping_add(general(index) << shift);
    }
    if a.short {
        sum &= 0xffff_ffff;
    }
    match a.segment {
        Some(Segment::Fs) => sum.wrapping_add(read(h.fs_base)),
        Some(Segment::Gs) => sum.wrapping_add(read(h.gs_base)),
        None => sum,
    }
}

fn read_memory(address: u64) -> Option<u64> {
    BUFFER.with(|&buffer| {
        // SAFETY: `buffer` is this thread's array, which QEMU makes as long as it needs.
        unsafe {
            qemu_plugin_read_memory_vaddr(address, buffer, 8)
                .then(|| (*buffer).data.cast::<u64>().read_unaligned())
        }
    })
}

/// The physical address behind a virtual one on this CPU now; `map` is where the kernel maps physical address 0.
pub fn translate(address: u64, map: u64) -> Option<u64> {
    const TABLE: u64 = 0x000f_ffff_ffff_f000;
    let h = HANDLES.get()?;
    let five_levels = read(h.cr4) & 1 << 12 != 0;
    let mut table = read(h.cr3) & TABLE;
    let mut shift = if five_levels { 48 } else { 39 };
    loop {
        let index = address >> shift & 511;
        let entry = read_memory(map.wrapping_add(table + index * 8))?;
        if entry & 1 == 0 {
            return None;
        }
        let leaf = shift == 12 || (shift <= 30 && entry & 1 << 7 != 0);
        if leaf {
            let inside = (1 << shift) - 1;
            return Some((entry & TABLE & !inside) | (address & inside));
        }
        table = entry & TABLE;
        shift -= 9;
    }
}
