// SPDX-License-Identifier: GPL-2.0

//! A QEMU plugin that records what a guest does to an NVDIMM.
//!
//! What: in order, each store into the NVDIMM's physical range with its value, each write-back of one of its lines, each fence,
//! per CPU; and markers, which a workload in the guest emits around its calls. So the explorer gets what the real module does on
//! a real kernel, the DAX paths of fs/dax.c and stores of user processes included.
//!
//! # Order
//!
//! QEMU calls back on the CPU's own thread: for a store right after it was done, for write-backs, fences and markers right
//! before. Both happen before the CPU's next instruction. So the order of one CPU is its program order; and if CPU 1 sees
//! something of CPU 2 through ordinary memory (it got a lock that CPU 2 released), all that CPU 2 did before is recorded
//! already. What is not ordered is two CPUs that store to, or read, one word of the NVDIMM itself without a lock; they could be
//! recorded the wrong way round. Two CPUs that store different values to one word would show when the replayed trace is
//! compared with what the NVDIMM holds at the end, which the explorer does first of all.
//!
//! # Arguments
//!
//! `out=FILE,base=ADDRESS,size=BYTES[,count=on[,profile=FILE]]`: the physical range, as numbers. With `count` the file gets a line
//! of sums at each marker instead of a trace; with `profile` a second file tells where the instructions between markers of the
//! kinds 1 and 2 were run.
//!
//! # Markers
//!
//! `nopl (MARKER | kind)(%rax)`: a no-operation of seven bytes, of which the compiler makes none with such a displacement. It
//! needs no privilege, changes nothing, and is still harmless without the plugin. RDI, RSI and RDX say more.

mod decode;
mod guest;
mod profile;
mod record;

use decode::{Address, Fence, Kind, decode, is_call};
use profile::{Block, Profile};
use qemu_plugin_sys::*;
use record::Recorder;
use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Of the plugin API.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "QEMU's name")]
pub static qemu_plugin_version: c_int = QEMU_PLUGIN_VERSION as c_int;

struct Plugin {
    base: u64,
    size: u64,
    counting: bool,
    /// Instructions by CPU, when counting; a pointer that QEMU owns.
    instructions: usize,
    profile: Option<Mutex<Profile>>,
    state: Mutex<State>,
}

struct State {
    recorder: Recorder,
    /// Where the guest's kernel maps physical address 0, once it has stored to the NVDIMM.
    map: Option<u64>,
    /// Huge pages of the kernel's map for which the page tables were compared with it.
    compared: HashSet<u64>,
    /// Addresses of write-backs; a callback's data is a place in here. They live as long as QEMU.
    addresses: HashSet<&'static Address>,
    stored: bool,
}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();

const KERNEL: u64 = 1 << 63;

impl Plugin {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn instructions(&self) -> qemu_plugin_u64 {
        qemu_plugin_u64 {
            score: self.instructions as *mut _,
            offset: 0,
        }
    }

    fn profile(&self) -> Option<MutexGuard<'_, Profile>> {
        let profile = self.profile.as_ref()?;
        Some(profile.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn store(&self, cpu: c_uint, info: qemu_plugin_meminfo_t, address: u64, through: bool) {
        // SAFETY: `info` is of the callback that we are in, so QEMU's answers are about its access.
        let (physical, value) = unsafe {
            let place = qemu_plugin_get_hwaddr(info, address);
            if place.is_null() {
                return self
                    .state()
                    .recorder
                    .trouble(cpu, address, "store to nowhere");
            }
            if qemu_plugin_hwaddr_is_io(place) {
                return;
            }
            let physical = qemu_plugin_hwaddr_phys_addr(place);
            if physical.wrapping_sub(self.base) >= self.size {
                return;
            }
            (physical, qemu_plugin_mem_get_value(info))
        };
        // SAFETY: The type says which field is meant.
        let (len, value) = unsafe {
            use qemu_plugin_mem_value_type::*;
            match value.type_ {
                QEMU_PLUGIN_MEM_VALUE_U8 => (1, value.data.u8_.into()),
                QEMU_PLUGIN_MEM_VALUE_U16 => (2, value.data.u16_.into()),
                QEMU_PLUGIN_MEM_VALUE_U32 => (4, value.data.u32_.into()),
                QEMU_PLUGIN_MEM_VALUE_U64 => (8, u128::from(value.data.u64_)),
                QEMU_PLUGIN_MEM_VALUE_U128 => (
                    16,
                    u128::from(value.data.u128_.high) << 64 | u128::from(value.data.u128_.low),
                ),
            }
        };
        let mut state = self.state();
        state.stored = true;
        if address >= KERNEL {
            match state.map {
                None => state.map = Some(address.wrapping_sub(physical)),
                Some(map) if map == address.wrapping_sub(physical) => {}
                Some(_) => state.recorder.trouble(cpu, address, "a 2nd kernel map"),
            }
        }
        let offset = physical - self.base;
        let here = 4096 - address % 4096;
        if u64::from(len) <= here {
            return state.recorder.store(cpu, offset, len, value, through);
        }
        // The access crosses into a page that may lie elsewhere.
        let first = 8 * here as u32;
        state
            .recorder
            .store(cpu, offset, here as u8, value & ((1 << first) - 1), through);
        match state
            .map
            .and_then(|map| guest::translate(address + here, map))
        {
            Some(p) if p.wrapping_sub(self.base) < self.size => {
                state.recorder.store(
                    cpu,
                    p - self.base,
                    len - here as u8,
                    value >> first,
                    through,
                );
            }
            Some(_) => {}
            None => state.recorder.trouble(cpu, address, "half is not there"),
        }
    }

    fn write_back(&self, cpu: c_uint, address: &Address) {
        let address = guest::effective(address);
        let mut state = self.state();
        let Some(map) = state.map else {
            if state.stored {
                state.recorder.trouble(cpu, address, "no kernel map");
            }
            return;
        };
        let mapped = address.wrapping_sub(map);
        let linear = address >= KERNEL && mapped.wrapping_sub(self.base) < self.size;
        let physical = if linear && state.compared.contains(&(mapped >> 21)) {
            Some(mapped)
        } else {
            let walked = guest::translate(address, map);
            if linear {
                if walked != Some(mapped) {
                    state.recorder.trouble(cpu, address, "map is not plain");
                }
                state.compared.insert(mapped >> 21);
            }
            walked
        };
        match physical {
            Some(p) if p.wrapping_sub(self.base) < self.size => {
                state.recorder.write_back(cpu, p - self.base)
            }
            Some(_) => {}
            None => state.recorder.trouble(cpu, address, "clwb of no page"),
        }
    }

    fn marker(&self, cpu: c_uint, kind: u8) {
        let registers = [7, 6, 2].map(guest::general);
        // SAFETY: The scoreboard was made when the plugin was installed.
        let instructions = if self.counting {
            unsafe { qemu_plugin_u64_sum(self.instructions()) }
        } else {
            0
        };
        self.state()
            .recorder
            .marker(cpu, kind, registers, instructions);
        match (kind, self.profile()) {
            (1, Some(mut profile)) => profile.start(),
            (2, Some(mut profile)) => profile.end(registers[1]),
            _ => {}
        }
    }

    /// A place for an address that outlives the callback; equal ones share it.
    fn keep(&self, address: Address) -> &'static Address {
        let mut state = self.state();
        if let Some(&kept) = state.addresses.get(&address) {
            return kept;
        }
        let kept: &'static Address = Box::leak(Box::new(address));
        state.addresses.insert(kept);
        kept
    }

    fn translate(&self, tb: *mut qemu_plugin_tb) {
        use qemu_plugin_cb_flags::QEMU_PLUGIN_CB_NO_REGS;
        // SAFETY: `tb` and its instructions live during this callback; what is registered has a static lifetime.
        unsafe {
            let count = qemu_plugin_tb_n_insns(tb);
            let mut call = None;
            for i in 0..count {
                let insn = qemu_plugin_tb_get_insn(tb, i);
                let mut bytes = [0; 16];
                let len = qemu_plugin_insn_data(insn, bytes.as_mut_ptr().cast(), bytes.len())
                    .min(bytes.len());
                let next = qemu_plugin_insn_vaddr(insn) + qemu_plugin_insn_size(insn) as u64;
                call = is_call(&bytes[..len]).then_some(next);
                self.instrument(insn, decode(&bytes[..len], next));
            }
            if self.profile.is_some() {
                // Never freed: it is used for as long as QEMU keeps the translation.
                let block = Box::leak(Box::new(Block {
                    start: qemu_plugin_tb_vaddr(tb),
                    instructions: count as u64,
                    call,
                }));
                qemu_plugin_register_vcpu_tb_exec_cb(
                    tb,
                    Some(on_block),
                    QEMU_PLUGIN_CB_NO_REGS,
                    std::ptr::from_mut(block).cast(),
                );
            }
            if self.counting {
                let op = qemu_plugin_op::QEMU_PLUGIN_INLINE_ADD_U64;
                qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
                    tb,
                    op,
                    self.instructions(),
                    count as u64,
                );
            }
        }
    }

    /// # Safety
    ///
    /// `insn` is an instruction of the block being translated.
    unsafe fn instrument(&self, insn: *mut qemu_plugin_insn, kind: Kind) {
        use qemu_plugin_cb_flags::*;
        let before = |callback: unsafe extern "C" fn(c_uint, *mut c_void), flags, data: usize| {
            // SAFETY: The caller's promise; the callbacks know what their data is.
            unsafe {
                qemu_plugin_register_vcpu_insn_exec_cb(
                    insn,
                    Some(callback),
                    flags,
                    data as *mut c_void,
                )
            }
        };
        match kind {
            Kind::WriteBack(address) => {
                let kept = self.keep(address);
                return before(
                    on_write_back,
                    QEMU_PLUGIN_CB_R_REGS,
                    std::ptr::from_ref(kept) as usize,
                );
            }
            Kind::Marker(kind) => return before(on_marker, QEMU_PLUGIN_CB_R_REGS, kind.into()),
            Kind::Fence(fence) => before(on_fence, QEMU_PLUGIN_CB_NO_REGS, fence as usize),
            Kind::NonTemporal | Kind::Other => {}
        }
        let through = usize::from(kind == Kind::NonTemporal);
        let stores = qemu_plugin_mem_rw::QEMU_PLUGIN_MEM_W;
        // SAFETY: As above.
        unsafe {
            qemu_plugin_register_vcpu_mem_cb(
                insn,
                Some(on_store),
                QEMU_PLUGIN_CB_NO_REGS,
                stores,
                through as *mut c_void,
            )
        };
    }
}

unsafe extern "C" fn on_store(
    cpu: c_uint,
    info: qemu_plugin_meminfo_t,
    address: u64,
    through: *mut c_void,
) {
    if let Some(plugin) = PLUGIN.get() {
        plugin.store(cpu, info, address, !through.is_null());
    }
}

unsafe extern "C" fn on_block(_cpu: c_uint, block: *mut c_void) {
    if let Some(mut profile) = PLUGIN.get().and_then(Plugin::profile) {
        // SAFETY: `translate` gave a block that is never freed.
        profile.run(unsafe { &*block.cast::<Block>() });
    }
}

unsafe extern "C" fn on_write_back(cpu: c_uint, address: *mut c_void) {
    if let Some(plugin) = PLUGIN.get() {
        // SAFETY: `instrument` gave a place that is never freed.
        plugin.write_back(cpu, unsafe { &*address.cast::<Address>() });
    }
}

unsafe extern "C" fn on_fence(cpu: c_uint, kind: *mut c_void) {
    let kind = match kind as usize {
        0 => Fence::Store,
        1 => Fence::Full,
        2 => Fence::Locked,
        _ => Fence::Serialising,
    };
    if let Some(plugin) = PLUGIN.get() {
        plugin.state().recorder.fence(cpu, kind);
    }
}

unsafe extern "C" fn on_marker(cpu: c_uint, kind: *mut c_void) {
    if let Some(plugin) = PLUGIN.get() {
        plugin.marker(cpu, kind as usize as u8);
    }
}

unsafe extern "C" fn on_cpu(_id: qemu_plugin_id_t, _cpu: c_uint) {
    guest::find_registers();
}

unsafe extern "C" fn on_translation(_id: qemu_plugin_id_t, tb: *mut qemu_plugin_tb) {
    if let Some(plugin) = PLUGIN.get() {
        plugin.translate(tb);
    }
}

unsafe extern "C" fn on_exit(_id: qemu_plugin_id_t, _data: *mut c_void) {
    if let Some(plugin) = PLUGIN.get() {
        plugin.state().recorder.finish();
    }
}

/// The plugin that these arguments ask for.
fn configure(arguments: &[String]) -> Result<Plugin, String> {
    let value = |name: &str| {
        arguments
            .iter()
            .find_map(|a| a.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |name: &str| {
        let text = value(name).ok_or(format!("{name}= is missing"))?;
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map_err(|e| format!("{name}={text}: {e}"))
    };
    let out = value("out").ok_or("out= is missing")?;
    let counting = value("count") == Some("on");
    let profile = match value("profile") {
        Some(path) => Some(Mutex::new(
            Profile::create(path).map_err(|e| format!("{path}: {e}"))?,
        )),
        None => None,
    };
    let recorder = Recorder::create(out, counting).map_err(|e| format!("{out}: {e}"))?;
    Ok(Plugin {
        base: number("base")?,
        size: number("size")?,
        counting,
        profile,
        // SAFETY: Has no conditions.
        instructions: unsafe { qemu_plugin_scoreboard_new(8) } as usize,
        state: Mutex::new(State {
            recorder,
            map: None,
            compared: HashSet::new(),
            addresses: HashSet::new(),
            stored: false,
        }),
    })
}

/// QEMU's entry.
///
/// # Safety
///
/// QEMU calls it once, with `count` strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: qemu_plugin_id_t,
    _info: *const qemu_info_t,
    count: c_int,
    strings: *const *const c_char,
) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: The caller's promise.
    let arguments: Vec<String> = (0..count)
        .map(|i| {
            unsafe { CStr::from_ptr(*strings.add(i)) }
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    match configure(&arguments) {
        Ok(plugin) => drop(PLUGIN.set(plugin)),
        Err(error) => {
            eprintln!("ochre trace: {error}");
            return 1;
        }
    }
    // SAFETY: `id` is ours; the callbacks live as long as the plugin.
    unsafe {
        qemu_plugin_register_vcpu_init_cb(id, Some(on_cpu));
        qemu_plugin_register_vcpu_tb_trans_cb(id, Some(on_translation));
        qemu_plugin_register_atexit_cb(id, Some(on_exit), std::ptr::null_mut());
    }
    0
}
