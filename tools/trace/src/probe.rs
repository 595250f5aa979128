// SPDX-License-Identifier: GPL-2.0

//! What the plugin must have recorded of one of each kind of instruction.
//!
//! tests/trace/calls.rs runs them in the guest on a block that is mapped with MAP_SYNC. So each run proves that the plugin knows
//! these instructions, that it finds the physical line behind a user's virtual address, and that a write-back that it cannot
//! follow is reported and not dropped.

use crate::events::{Event, Fence, Trace};

const VALUE: u64 = 0x0123_4567_89ab_cdef;

/// The aligned words that a probe leaves in the first block of the file: offset, value, and how many bytes of it it stores.
pub const WORDS: [(u64, u64, usize); 6] = [
    (0, VALUE, 8),
    (64, VALUE, 8),
    (128, VALUE, 8),
    (136, 0, 8),
    (192, 0x1122_3344, 4),
    (256, 0x55, 1),
];

/// The events of a probe whose block is at `block` of the NVDIMM.
fn expected(block: u64) -> Vec<Event> {
    let store = |offset, len, value: u64, through| Event::Store {
        address: block + offset,
        len,
        value: value.into(),
        through,
    };
    let back = |offset| Event::WriteBack {
        address: block + offset,
    };
    vec![
        store(0, 8, VALUE, false),
        back(0),
        Event::Fence(Fence::Explicit),
        store(64, 8, VALUE, true),
        Event::Fence(Fence::Explicit),
        store(128, 16, VALUE, true),
        Event::Fence(Fence::Locked),
        store(192, 4, 0x1122_3344, false),
        back(192),
        Event::Fence(Fence::Locked),
        store(256, 1, 0x55, false),
        back(256),
        Event::Fence(Fence::Explicit),
        Event::Trouble,
    ]
}

/// Checks the events of a probe, from the one after its begin.
pub fn check(trace: &Trace, cpu: usize, from: usize) -> Result<(), String> {
    let mut found = Vec::new();
    for index in from..trace.len() {
        match trace.get(index)? {
            (_, Event::End { .. } | Event::Begin { .. }) => break,
            // An interrupt may end in between.
            (_, Event::Fence(Fence::Serialising)) => {}
            (c, event) if c == cpu => found.push(event),
            _ => {}
        }
    }
    let block = match found.first() {
        Some(Event::Store { address, .. }) => *address,
        other => return Err(format!("a probe of the plugin begins with {other:?}")),
    };
    let expected = expected(block);
    if found == expected {
        return Ok(());
    }
    let at = found
        .iter()
        .zip(&expected)
        .position(|(is, should)| is != should)
        .unwrap_or(found.len().min(expected.len()));
    Err(format!(
        "the plugin recorded a probe as {:?} at its place {at}, not as {:?}",
        found.get(at),
        expected.get(at)
    ))
}
