// SPDX-License-Identifier: GPL-2.0

//! The file that the QEMU plugin writes: see qemu/plugin/src/record.rs for its format.

use std::path::Path;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes were stored.
    Store {
        /// Offset in the NVDIMM.
        address: u64,
        /// How many bytes of `value` count.
        len: u8,
        /// They, little endian.
        value: u128,
        /// By a non-temporal store.
        through: bool,
    },
    /// The write-back of a line began.
    WriteBack {
        /// Offset in the NVDIMM.
        address: u64,
    },
    /// A fence.
    Fence(Fence),
    /// A call begins.
    Begin {
        /// Its number.
        call: u64,
    },
    /// A call has returned.
    End {
        /// Its number.
        call: u64,
        /// What it returned.
        result: i64,
    },
    /// A write-back that the plugin could not follow.
    Trouble,
}

/// Kinds of fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// `sfence` or `mfence`
    Explicit,
    /// A locked instruction.
    Locked,
    /// A serialising instruction, such as the `iret` that ends an interrupt.
    Serialising,
}

const RECORD: usize = 32;

/// A whole trace.
pub struct Trace(Vec<u8>);

impl Trace {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        if bytes.is_empty() || bytes.len() % RECORD != 0 {
            return Err(format!(
                "{}: {} bytes are no trace: did QEMU end by itself?",
                path.display(),
                bytes.len()
            ));
        }
        Ok(Self(bytes))
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.0.len() / RECORD
    }

    /// An event and the CPU it is of.
    pub fn get(&self, index: usize) -> Result<(usize, Event), String> {
        let r = &self.0[index * RECORD..][..RECORD];
        let event = match (r[0], r[2]) {
            (1, len) if len <= 16 => Event::Store {
                address: word(r, 8),
                len,
                value: u128::from(word(r, 16)) | u128::from(word(r, 24)) << 64,
                through: r[3] != 0,
            },
            (2, _) => Event::WriteBack {
                address: word(r, 8),
            },
            (3, 0 | 1) => Event::Fence(Fence::Explicit),
            (3, 2) => Event::Fence(Fence::Locked),
            (3, 3) => Event::Fence(Fence::Serialising),
            (4, 1) => Event::Begin { call: word(r, 8) },
            (4, 2) => Event::End {
                call: word(r, 8),
                result: word(r, 16) as i64,
            },
            (5, _) => Event::Trouble,
            (kind, code) => {
                return Err(format!(
                "event {index}: kind {kind}, code {code}: made by another version of the plugin?"
            ))
            }
        };
        Ok((r[1].into(), event))
    }
}

impl Trace {
    /// The words that go with trouble.
    pub fn trouble(&self, index: usize) -> String {
        let r = &self.0[index * RECORD..][..RECORD];
        format!(
            "event {index}: {} at {:#x}",
            String::from_utf8_lossy(&r[16..]).trim(),
            word(r, 8)
        )
    }
}

fn word(record: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&record[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let mut bytes = vec![0; 64];
        bytes[..4].copy_from_slice(&[1, 3, 16, 1]);
        bytes[8] = 9;
        bytes[16] = 1;
        bytes[31] = 2;
        bytes[32..35].copy_from_slice(&[4, 0, 2]);
        bytes[48..56].copy_from_slice(&(-2i64).to_le_bytes());
        let trace = Trace(bytes);
        let value = 1 | 2 << 120;
        let event = Event::Store {
            address: 9,
            len: 16,
            value,
            through: true,
        };
        assert_eq!(trace.get(0), Ok((3, event)));
        assert_eq!(
            trace.get(1),
            Ok((
                0,
                Event::End {
                    call: 0,
                    result: -2
                }
            ))
        );
    }
}
