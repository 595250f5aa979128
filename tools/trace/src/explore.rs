// SPDX-License-Identifier: GPL-2.0

//! Walks through a trace, and at many of its moments cuts the power.
//!
//! At each fence, at each return of a call, and at moments in between, images are formed as the
//! [rules](ochre_sim::persistency) allow, and each is recovered, checked and compared with what the calls that had returned, and
//! those that had not, allow.

use crate::call::{Call, Line};
use crate::events::{Event, Fence, Trace};
use crate::model::Model;
use crate::recovered::{recover, Tree};
use ochre::engine::media::Media;
use ochre_sim::persistency::{Flight, States, Word};
use ochre_sim::seed::Random;
use ochre_sim::MemoryMedia;
use ochre_tools::overlay::Overlay;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, Receiver};
use std::sync::{Mutex, PoisonError};

/// Events that are left out, to see that their lack is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Deaf {
    /// All write-backs.
    WriteBacks,
    /// Half of the fences, chosen by the seed.
    HalfOfFences,
}

/// How to explore.
#[derive(Clone, Debug)]
pub struct Options {
    /// Images at one moment at most.
    pub states: usize,
    /// One of so many events between fences and returns is a moment to cut the power at.
    pub between: u64,
    /// So many moments at most.
    pub points: u64,
    /// Seed of samples.
    pub seed: u64,
    /// Locked instructions count as fences, as they do on x86. Without it only fences that somebody wrote as such count, and
    /// serialising instructions, since a thread that moves to another CPU passes through some.
    pub locked: bool,
    /// What to leave out.
    pub without: Option<Deaf>,
    /// Only this moment: the number of the event before which the power is cut.
    pub event: Option<usize>,
    /// Only this image of it.
    pub state: Option<usize>,
}

/// What was explored.
#[derive(Debug, Default)]
pub struct Report {
    /// Calls whose begin and return are in the trace.
    pub calls: u64,
    /// Moments.
    pub points: u64,
    /// Images.
    pub images: u64,
    /// Events by kind: stores, write-backs, explicit fences.
    pub events: [u64; 3],
    /// What is wrong, one line each.
    pub violations: Vec<String>,
}

/// A moment.
pub struct Point {
    /// The power is cut before this event.
    pub event: usize,
    base: MemoryMedia,
    states: States,
    model: Model,
    calls: Vec<Call>,
}

impl Point {
    /// How many images there are.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// An image.
    pub fn image(&self, state: usize) -> Overlay<MemoryMedia> {
        let image = Overlay::new(self.base.clone());
        for word in self.states.state(state) {
            let old = image.read_u64(word.address).unwrap_or(0);
            image.store_u64(word.address, word.over(old));
        }
        image
    }

    /// Recovers an image, and compares it with what may be.
    pub fn judge(&self, state: usize) -> Result<Tree, String> {
        let image = self.image(state);
        let recovered = catch_unwind(AssertUnwindSafe(|| recover(image)));
        let tree = recovered.map_err(|_| "the engine panicked".to_string())??;
        let size = |model: &Model, id| tree.size(model, id);
        let mut allowed = vec![self.model.clone()];
        for call in &self.calls {
            allowed = allowed
                .iter()
                .flat_map(|model| model.in_flight(call, &size))
                .collect();
        }
        let mut why = String::new();
        for (i, model) in allowed.iter().enumerate() {
            match tree.equals(model) {
                Ok(()) => return Ok(tree),
                Err(error) if i == 0 => why = error,
                Err(error) => why = format!("{why}; or {error}"),
            }
        }
        Err(why)
    }

    fn place(&self) -> String {
        let calls: Vec<String> = self.calls.iter().map(Call::to_string).collect();
        match calls.is_empty() {
            true => "between calls".into(),
            false => format!("in {}", calls.join(" and in ")),
        }
    }
}

/// A trace being walked through.
pub struct Walk<'a> {
    trace: &'a Trace,
    lines: &'a [Option<Line>],
    /// Where the filesystem begins in the NVDIMM.
    start: u64,
    durable: MemoryMedia,
    flight: Flight,
    model: Model,
    open: BTreeMap<u64, Call>,
    /// A call has begun: from here on there is a filesystem.
    began: bool,
    changed: bool,
    at: usize,
    random: Random,
}

impl<'a> Walk<'a> {
    /// At the beginning. `durable`: what the filesystem's part of the NVDIMM held then.
    pub fn new(
        trace: &'a Trace,
        lines: &'a [Option<Line>],
        start: u64,
        durable: MemoryMedia,
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
            began: false,
            changed: false,
            at: 0,
            random: Random::new(seed),
        }
    }

    fn put(&self, words: Vec<Word>) -> Result<(), String> {
        for word in words {
            let old = self
                .durable
                .read_u64(word.address)
                .map_err(|e| format!("{:#x}: {e:?}", word.address))?;
            self.durable.store_u64(word.address, word.over(old));
        }
        Ok(())
    }

    /// A store's or line's place in the filesystem, if it is there.
    fn inside(&self, address: u64, len: u64) -> Option<u64> {
        let at = address.checked_sub(self.start)?;
        (at + len <= self.durable.size()).then_some(at)
    }

    fn counts(&mut self, fence: Fence, options: &Options) -> bool {
        let heard = match options.without {
            Some(Deaf::HalfOfFences) => !self.began || self.random.below(2) == 0,
            _ => true,
        };
        heard && (fence != Fence::Locked || options.locked)
    }

    /// The next moment, if there is one.
    pub fn next(
        &mut self,
        options: &Options,
        report: &mut Report,
    ) -> Result<Option<Point>, String> {
        while self.at < self.trace.len() {
            let index = self.at;
            let (cpu, event) = self.trace.get(index)?;
            let wanted = self.wanted(index, &event, options);
            let point = wanted.then(|| self.point(index, options));
            self.step(cpu, &event, options, report)?;
            self.at += 1;
            if wanted {
                self.changed = false;
                return Ok(point);
            }
        }
        Ok(None)
    }

    fn wanted(&mut self, index: usize, event: &Event, options: &Options) -> bool {
        let chance = options.between > 0 && self.random.below(options.between) == 0;
        if let Some(only) = options.event {
            return only == index;
        }
        self.began
            && self.changed
            && match event {
                Event::Fence(Fence::Explicit) | Event::Begin { .. } => true,
                Event::Fence(_) => false,
                // After a return the next event is the moment; the caller of the call knows by then.
                _ => chance,
            }
    }

    fn point(&self, event: usize, options: &Options) -> Point {
        let states = States::at_most(&self.flight, options.states, options.seed ^ event as u64);
        Point {
            event,
            base: self.durable.snapshot(),
            states,
            model: self.model.clone(),
            calls: self.open.values().cloned().collect(),
        }
    }

    fn step(
        &mut self,
        cpu: usize,
        event: &Event,
        options: &Options,
        report: &mut Report,
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
                report.events[0] += 1;
                self.changed = true;
            }
            Event::WriteBack { .. } if options.without == Some(Deaf::WriteBacks) => {}
            Event::WriteBack { address } => {
                let Some(at) = self.inside(address, 64) else {
                    return Ok(());
                };
                self.flight.write_back(cpu, at, 64);
                report.events[1] += 1;
            }
            Event::Fence(fence) if self.counts(fence, options) => {
                let arrived = self.flight.fence(cpu);
                self.changed |= !arrived.is_empty();
                self.put(arrived)?;
                report.events[2] += u64::from(fence == Fence::Explicit);
            }
            Event::Fence(_) => {}
            Event::Begin { call } => {
                let line = self.line(call)?;
                self.open.insert(call, line.call.clone());
                self.began = true;
                self.changed = true;
            }
            Event::End { call, result } => {
                let Some(open) = self.open.remove(&call) else {
                    return Err(format!("call {call} returned and had not begun"));
                };
                let should = self
                    .model
                    .apply(&open)
                    .map_err(|e| format!("call {call}, {open}: {e}"))?;
                if result != should {
                    return Err(format!(
                        "call {call}, {open}: returned {result} in the guest, not {should}"
                    ));
                }
                report.calls += 1;
                self.changed = true;
            }
        }
        Ok(())
    }

    fn line(&self, call: u64) -> Result<&Line, String> {
        let line = self.lines.get(call as usize).and_then(Option::as_ref);
        line.ok_or(format!(
            "the trace has a call {call} that the list has not: do they belong together?"
        ))
    }

    /// To the end, without moments. Returns what the CPUs see then.
    pub fn finish(&mut self, options: &Options) -> Result<MemoryMedia, String> {
        let mut report = Report::default();
        let none = Options {
            event: Some(usize::MAX),
            ..options.clone()
        };
        while self.next(&none, &mut report)?.is_some() {}
        self.put(self.flight.visible())?;
        Ok(self.durable.snapshot())
    }
}

/// Explores a walk on all processors. `each` sees every moment before it is explored.
pub fn explore(
    walk: &mut Walk<'_>,
    options: &Options,
    replay: &str,
    mut each: impl FnMut(&Point) -> Result<(), String>,
) -> Result<Report, String> {
    let mut report = Report::default();
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let (send, receive) = sync_channel::<Point>(workers);
    let receive = Mutex::new(receive);
    let images = AtomicU64::new(0);
    let violations = Mutex::new(Vec::new());
    let result = std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(point) = take(&receive) {
                    judge_all(&point, options, replay, &images, &violations);
                }
            });
        }
        let result = loop {
            match walk.next(options, &mut report) {
                Ok(Some(point)) => {
                    report.points += 1;
                    if report.points > options.points {
                        report.points -= 1;
                        break Ok(());
                    }
                    if let Err(error) = each(&point) {
                        break Err(error);
                    }
                    if send.send(point).is_err() {
                        break Err("the explorer's threads are gone".to_string());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        drop(send);
        result
    });
    result?;
    report.images = images.into_inner();
    report.violations = violations
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    Ok(report)
}

fn take(receive: &Mutex<Receiver<Point>>) -> Option<Point> {
    receive
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
        .ok()
}

fn judge_all(
    point: &Point,
    options: &Options,
    replay: &str,
    images: &AtomicU64,
    violations: &Mutex<Vec<String>>,
) {
    for state in 0..point.len() {
        if options.state.is_some_and(|only| only != state) {
            continue;
        }
        images.fetch_add(1, Ordering::Relaxed);
        if let Err(why) = point.judge(state) {
            let line = format!(
                "event {} state {state}, {}: {why}; again: {replay} --event {} --state {state}",
                point.event,
                point.place(),
                point.event
            );
            violations
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    }
}
