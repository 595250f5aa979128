// SPDX-License-Identifier: GPL-2.0

//! What becomes of the events: a trace file, or counters between markers.
//!
//! # The trace
//!
//! Records of 32 bytes, little endian, in the order of the events:
//!
//! | bytes | what |
//! |---|---|
//! | 0 | kind: 1 store, 2 write-back, 3 fence, 4 marker, 5 trouble |
//! | 1 | CPU |
//! | 2 | store: length; fence: its kind (0 `sfence`, 1 `mfence`, 2 locked, 3 serialising); marker: its kind |
//! | 3 | store: 1 if non-temporal |
//! | 8..16 | store, write-back: offset in the NVDIMM; marker: RDI; trouble: the address |
//! | 16..32 | store: the value; marker: RSI and RDX; trouble: text |
//!
//! Locked and serialising instructions run by the million and mean something only after a write-back or a non-temporal store
//! of the same CPU: the others are left out.

use crate::decode::Fence;
use std::fs::File;
use std::io::{BufWriter, Write};

/// More CPUs than any test has.
pub const CPUS: usize = 64;

/// Sums since the last marker.
#[derive(Clone, Copy, Default)]
struct Sums {
    fences: u64,
    locked: u64,
    written_back: u64,
    stored: u64,
    through: u64,
    lines: u64,
    last_line: u64,
}

/// Where events go.
pub struct Recorder {
    out: BufWriter<File>,
    counting: bool,
    sums: Sums,
    /// By CPU: something waits for a locked, or for a serialising instruction.
    open: [(bool, bool); CPUS],
}

fn record(kind: u8, cpu: u32, code: u8, flag: u8, address: u64, value: u128) -> [u8; 32] {
    let mut r = [0; 32];
    r[..4].copy_from_slice(&[kind, cpu as u8, code, flag]);
    r[8..16].copy_from_slice(&address.to_le_bytes());
    r[16..].copy_from_slice(&value.to_le_bytes());
    r
}

impl Recorder {
    /// Writes to a new file: a trace, or with `counting` one line of text at each second marker.
    pub fn create(path: &str, counting: bool) -> std::io::Result<Self> {
        Ok(Self {
            out: BufWriter::with_capacity(1 << 20, File::create(path)?),
            counting,
            sums: Sums::default(),
            open: [(false, false); CPUS],
        })
    }

    fn put(&mut self, r: [u8; 32]) {
        self.out.write_all(&r).expect("writing the trace");
    }

    /// A store of `len` bytes.
    pub fn store(&mut self, cpu: u32, offset: u64, len: u8, value: u128, through: bool) {
        if through {
            self.open[cpu as usize % CPUS] = (true, true);
        }
        if !self.counting {
            return self.put(record(1, cpu, len, through.into(), offset, value));
        }
        self.sums.stored += u64::from(len);
        if through {
            self.sums.through += u64::from(len);
            // A line that is filled by one store after another leaves as one.
            if self.sums.last_line != offset / 64 + 1 {
                self.sums.lines += 1;
                self.sums.last_line = offset / 64 + 1;
            }
        }
    }

    /// The write-back of a line.
    pub fn write_back(&mut self, cpu: u32, offset: u64) {
        self.open[cpu as usize % CPUS] = (true, true);
        if !self.counting {
            return self.put(record(2, cpu, 0, 0, offset & !63, 0));
        }
        self.sums.written_back += 1;
    }

    /// A fence.
    pub fn fence(&mut self, cpu: u32, kind: Fence) {
        let open = &mut self.open[cpu as usize % CPUS];
        let wanted = match kind {
            Fence::Store | Fence::Full => true,
            Fence::Locked => open.0,
            Fence::Serialising => open.1,
        };
        *open = match kind {
            Fence::Locked => (false, open.1),
            _ => (false, false),
        };
        if self.counting {
            match kind {
                Fence::Store | Fence::Full => self.sums.fences += 1,
                Fence::Locked | Fence::Serialising => self.sums.locked += u64::from(wanted),
            }
        } else if wanted {
            self.put(record(3, cpu, kind as u8, 0, 0, 0));
        }
    }

    /// A marker with three registers. `instructions`: how many ran so far.
    pub fn marker(&mut self, cpu: u32, kind: u8, registers: [u64; 3], instructions: u64) {
        if !self.counting {
            let value = u128::from(registers[2]) << 64 | u128::from(registers[1]);
            self.put(record(4, cpu, kind, 0, registers[0], value));
            return self.out.flush().expect("writing the trace");
        }
        let s = std::mem::take(&mut self.sums);
        writeln!(
            self.out,
            "{kind} {} of {} instructions {instructions} fences {} locked {} written-back {} lines {} stored {} through {}",
            registers[0], registers[1], s.fences, s.locked, s.written_back, s.lines, s.stored, s.through
        )
        .expect("writing the counters");
    }

    /// Something that the plugin could not follow: the explorer refuses such a trace.
    pub fn trouble(&mut self, cpu: u32, address: u64, text: &str) {
        eprintln!("ochre trace: {text} at {address:#x}");
        if !self.counting {
            let mut short = [b' '; 16];
            short
                .iter_mut()
                .zip(text.bytes())
                .for_each(|(to, from)| *to = from);
            self.put(record(5, cpu, 0, 0, address, u128::from_le_bytes(short)));
        }
    }

    /// The end.
    pub fn finish(&mut self) {
        self.out.flush().expect("writing the trace");
    }
}
