// SPDX-License-Identifier: GPL-2.0

//! Walks through a trace: what the medium holds for certain, what is in flight, what the calls so far should have done.

use crate::call::{Call, Line};
use crate::events::{Event, Fence, Trace};
use crate::explore::{Deaf, Options};
use crate::model::Model;
use crate::probe;
use ochre::engine::media::Media;
use ochre_crash::arena::Arena;
use ochre_sim::persistency::{Flight, Word};
use ochre_sim::seed::Random;
use std::collections::BTreeMap;

/// What a walk met.
#[derive(Debug, Default)]
pub struct Counts {
    /// Calls whose begin and return are in the trace.
    pub calls: u64,
    /// Probes of the plugin, all passed.
    pub probes: u64,
    /// Moments to cut the power at.
    pub moments: u64,
    /// Into the filesystem's part.
    pub stores: u64,
    /// Of lines of it.
    pub write_backs: u64,
    /// Those that somebody wrote as such.
    pub fences: u64,
}

/// A walk; it stands before an event.
pub struct Walk<'a> {
    trace: &'a Trace,
    lines: &'a [Option<Line>],
    /// Where the filesystem begins in the NVDIMM.
    start: u64,
    durable: Arena,
    flight: Flight,
    model: Model,
    open: BTreeMap<u64, Call>,
    /// Begins and returns so far. From the first on there is a filesystem.
    version: u64,
    changed: bool,
    at: usize,
    /// The event before which the walk stands was a moment already.
    stood: bool,
    random: Random,
}

impl<'a> Walk<'a> {
    /// At the beginning. `durable`: what the filesystem's part of the NVDIMM held then.
    pub fn new(
        trace: &'a Trace,
        lines: &'a [Option<Line>],
        start: u64,
        durable: Arena,
        seed: u64,
    ) -> Self {
        Self {
            trace,
            lines,
            start,
            durable,
            flight: Flight::new(),
            model: Model::default(),
            open: BTreeMap::new(),
            version: 0,
            changed: false,
            at: 0,
            stood: false,
            random: Random::new(seed),
        }
    }

    /// What has arrived for certain.
    pub fn arena(&self) -> &Arena {
        &self.durable
    }

    /// What may have arrived.
    pub fn flight(&self) -> &Flight {
        &self.flight
    }

    /// What the calls that have returned should have done.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The calls that have not returned.
    pub fn open(&self) -> impl Iterator<Item = &Call> {
        self.open.values()
    }

    /// Changes with each begin and return of a call.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The number of the event before which the walk stands.
    pub fn at(&self) -> usize {
        self.at
    }

    /// A store's or line's place in the filesystem, if it is there.
    fn inside(&self, address: u64, len: u64) -> Option<u64> {
        let at = address.checked_sub(self.start)?;
        (at + len <= self.durable.size()).then_some(at)
    }

    /// Goes to the next moment; returns its number, from 0, if there is one.
    pub fn next(&mut self, options: &Options, counts: &mut Counts) -> Result<Option<u64>, String> {
        while self.at < self.trace.len() {
            let (cpu, event) = self.trace.get(self.at)?;
            if !self.stood && self.is_moment(&event, options) {
                self.stood = true;
                self.changed = false;
                counts.moments += 1;
                return Ok(Some(counts.moments - 1));
            }
            self.stood = false;
            self.step(cpu, &event, options, counts)?;
            self.at += 1;
        }
        Ok(None)
    }

    /// To the end. Returns what the CPUs see then.
    pub fn finish(mut self, options: &Options, counts: &mut Counts) -> Result<Arena, String> {
        while self.next(options, counts)?.is_some() {}
        self.durable.put(&self.flight.visible());
        Ok(self.durable)
    }

    fn is_moment(&mut self, event: &Event, options: &Options) -> bool {
        // The more is in flight, the more an image costs: while 2 MiB are zeroed the moments become rare.
        let between = options.between * (1 + self.flight.lines() / 64);
        let chance = between > 0 && self.random.below(between) == 0;
        if let Some(only) = options.event {
            return only == self.at;
        }
        let here = match event {
            // After the return of a call the next event is the moment: its caller knows by then.
            Event::Fence(Fence::Explicit) | Event::Begin { .. } => true,
            Event::Fence(_) => false,
            _ => chance,
        };
        self.version > 0 && self.changed && here
    }

    fn counts(&mut self, fence: Fence, options: &Options) -> bool {
        let heard = options.without != Some(Deaf::HalfOfFences)
            || self.version == 0
            || self.random.below(2) == 0;
        heard && (fence != Fence::Locked || options.locked)
    }

    /// A probe of the plugin is being carried out.
    fn probing(&self) -> bool {
        self.open
            .values()
            .any(|call| matches!(call, Call::Probe(_)))
    }

    fn step(
        &mut self,
        cpu: usize,
        event: &Event,
        options: &Options,
        counts: &mut Counts,
    ) -> Result<(), String> {
        match *event {
            Event::Store {
                address,
                len,
                value,
                through,
            } => {
                let Some(at) = self.inside(address, len.into()) else {
                    return Ok(());
                };
                self.flight
                    .store(cpu, at, &value.to_le_bytes()[..usize::from(len)], through);
                counts.stores += 1;
                self.changed = true;
            }
            Event::WriteBack { .. } if options.without == Some(Deaf::WriteBacks) => {}
            Event::WriteBack { address } => {
                let Some(at) = self.inside(address, 64) else {
                    return Ok(());
                };
                self.flight.write_back(cpu, at, 64);
                counts.write_backs += 1;
            }
            Event::Fence(fence) if self.counts(fence, options) => {
                let arrived: Vec<Word> = self.flight.fence(cpu);
                self.changed |= !arrived.is_empty();
                self.durable.put(&arrived);
                counts.fences += u64::from(fence == Fence::Explicit);
            }
            Event::Trouble if !self.probing() => {
                return Err(format!(
                    "the plugin lost track: {}",
                    self.trace.trouble(self.at)
                ));
            }
            Event::Fence(_) | Event::Trouble => {}
            Event::Begin { call } => self.begin(cpu, call, counts)?,
            Event::End { call, result } => self.end(call, result, counts)?,
        }
        Ok(())
    }

    fn begin(&mut self, cpu: usize, number: u64, counts: &mut Counts) -> Result<(), String> {
        let line = self.lines.get(number as usize).and_then(Option::as_ref);
        let line = line.ok_or(format!(
            "the trace has a call {number} that the list has not: do they belong together?"
        ))?;
        if matches!(line.call, Call::Probe(_)) {
            probe::check(self.trace, cpu, self.at + 1)?;
            counts.probes += 1;
        }
        self.open.insert(number, line.call.clone());
        self.version += 1;
        self.changed = true;
        Ok(())
    }

    fn end(&mut self, number: u64, result: i64, counts: &mut Counts) -> Result<(), String> {
        let call = self
            .open
            .remove(&number)
            .ok_or(format!("call {number} returned and had not begun"))?;
        let should = self
            .model
            .apply(&call)
            .map_err(|e| format!("call {number}, {call}: {e}"))?;
        if result != should {
            return Err(format!(
                "call {number}, {call}: returned {result} in the guest, not {should}"
            ));
        }
        counts.calls += 1;
        self.version += 1;
        self.changed = true;
        Ok(())
    }
}
