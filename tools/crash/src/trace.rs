// SPDX-License-Identifier: GPL-2.0

//! What a machine did to its persistent memory, in order; and walking through it.
//!
//! [`Walk`] repeats a trace on an [`Arena`]: the arena holds what is durable in any case, a [`Flight`] what may have arrived
//! besides. Between any two events the caller can look.

use crate::arena::Arena;
use ochre_sim::persistency::Flight;

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A store of the bytes `at .. at + len` of [`Trace::bytes`].
    Store {
        /// By this CPU.
        cpu: usize,
        /// To this address.
        address: u64,
        /// Where its bytes begin.
        at: usize,
        /// How many.
        len: usize,
        /// Non-temporal.
        through: bool,
    },
    /// Write-back of the lines of a range.
    WriteBack {
        /// By this CPU.
        cpu: usize,
        /// First byte.
        address: u64,
        /// Bytes.
        len: u64,
    },
    /// A fence.
    Fence {
        /// On this CPU.
        cpu: usize,
    },
    /// A fence on all CPUs.
    Drain,
    /// A flush of an asynchronous device.
    Flush,
    /// A call begins.
    Begin(usize),
    /// It has returned.
    End(usize),
}

impl Event {
    /// Whether it can make something durable.
    pub fn completes(&self) -> bool {
        matches!(self, Self::Fence { .. } | Self::Drain | Self::Flush)
    }
}

/// A record of events.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// What was stored.
    pub bytes: Vec<u8>,
}

impl Trace {
    /// Adds a store.
    pub fn store(&mut self, cpu: usize, address: u64, bytes: &[u8], through: bool) {
        let (at, len) = (self.bytes.len(), bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.events.push(Event::Store {
            cpu,
            address,
            at,
            len,
            through,
        });
    }

    /// Adds a store of zeros.
    pub fn zeros(&mut self, cpu: usize, address: u64, len: usize, through: bool) {
        let at = self.bytes.len();
        self.bytes.resize(at + len, 0);
        self.events.push(Event::Store {
            cpu,
            address,
            at,
            len,
            through,
        });
    }
}

/// A walk through a trace.
pub struct Walk<'a> {
    arena: &'a Arena,
    trace: &'a Trace,
    synchronous: bool,
    /// What is in flight.
    pub flight: Flight,
    /// Events that have happened.
    pub at: usize,
}

impl<'a> Walk<'a> {
    /// From the first event on; the arena holds what is durable then, `flight` what is in flight already.
    pub fn new(arena: &'a Arena, trace: &'a Trace, synchronous: bool, flight: Flight) -> Self {
        Self {
            arena,
            trace,
            synchronous,
            flight,
            at: 0,
        }
    }

    /// What happens next.
    pub fn next(&self) -> Option<Event> {
        self.trace.events.get(self.at).copied()
    }

    /// What happened last.
    pub fn last(&self) -> Option<Event> {
        self.trace.events.get(self.at.checked_sub(1)?).copied()
    }

    /// Lets it happen.
    pub fn step(&mut self) {
        let Some(event) = self.next() else { return };
        self.at += 1;
        let arrived = match event {
            Event::Store {
                cpu,
                address,
                at,
                len,
                through,
            } => {
                let bytes = &self.trace.bytes[at..at + len];
                self.flight.store(cpu, address, bytes, through);
                return;
            }
            Event::WriteBack { cpu, address, len } => {
                self.flight.write_back(cpu, address, len);
                return;
            }
            Event::Fence { cpu } if self.synchronous => self.flight.fence(cpu),
            Event::Drain if self.synchronous => self.flight.drain(),
            Event::Flush => self.flight.complete_all(),
            _ => return,
        };
        self.arena.put(&arrived);
    }
}
