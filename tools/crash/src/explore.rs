// SPDX-License-Identifier: GPL-2.0

//! Exploring one sequence of calls: every moment at which the power may fail, and what that may leave.
//!
//! The sequence runs once, undisturbed, and is recorded. Then the record is walked through: the arena holds what is durable
//! for sure, [`Walk::flight`] what is open. A *point* is a moment that is looked at: before each fence, flush or drain, after
//! each call has returned, and at some places between stores. At each point the states of [`ochre_sim::persistency`] are
//! formed, put over the durable image, and judged.
//!
//! Of a share of the images the recovery is recorded too, and cut in the same way; and at some points the machine restarts
//! warm: it recovers from what the caches held, and the power goes during that.

use crate::arena::Arena;
use crate::judge::{judge, Depth};
use crate::model::Tree;
use crate::op::{Op, CATALOG};
use crate::stage::{Kind, Stage};
use crate::trace::{Event, Trace, Walk};
use crate::world::{Nested, Step, NESTED};
use ochre::engine::filesystem::{Filesystem, MountOptions};
use ochre_sim::persistency::{Flight, Sampling, States, Word};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};

/// A sequence of operations on a kind of filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Where it begins.
    pub kind: Kind,
    /// Numbers in the catalog.
    pub ops: Vec<usize>,
    /// Chooses CPUs, points between fences, and samples.
    pub seed: u64,
    /// Look only at operations from this one on.
    pub from: usize,
    /// The last operation runs in the midst of the one before: at this of the moments before and after its fences.
    pub moment: Option<u64>,
}

impl Sequence {
    /// The operations.
    pub fn operations(&self) -> impl Iterator<Item = Op> + '_ {
        self.ops.iter().filter_map(|&n| CATALOG.get(n).copied())
    }
}

/// One image: where it was cut, and what arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Events of the record before the cut.
    pub point: usize,
    /// Number of the state.
    pub state: usize,
    /// A second cut, in the recovery.
    pub second: Option<Second>,
}

/// A cut in a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Second {
    /// After a warm restart: the first cut left everything in the caches.
    pub warm: bool,
    /// Events of the recovery before the cut.
    pub point: usize,
    /// Number of the state.
    pub state: usize,
}

/// Something that must not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Sequence.
    pub sequence: Sequence,
    /// Image; `None`: it happened without a cut.
    pub place: Option<Place>,
    /// What is wrong.
    pub what: String,
    /// With [`Effort::quick`], which numbers states otherwise.
    pub quick: bool,
}

impl Violation {
    /// What `make crash REPLAY=` wants to know.
    pub fn token(&self) -> String {
        let s = &self.sequence;
        let ops: Vec<String> = s.ops.iter().map(usize::to_string).collect();
        let quick = if self.quick { "quick-" } else { "" };
        let kind = s.kind.name();
        let mut token = format!("{quick}{kind}:{}:{}:{}", s.seed, s.from, ops.join("."));
        if let Some(moment) = s.moment {
            token += &format!("+{moment}");
        }
        if let Some(place) = self.place {
            token += &format!(":{}.{}", place.point, place.state);
            if let Some(second) = place.second {
                let kind = if second.warm { "w" } else { "r" };
                token += &format!(":{kind}{}.{}", second.point, second.state);
            }
        }
        token
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ops: Vec<String> = self
            .sequence
            .operations()
            .map(|op| format!("{op:?}"))
            .collect();
        write!(
            f,
            "violation: {} on {}, seed {}: {}; replay: make crash REPLAY={}",
            ops.join(", "),
            self.sequence.kind.name(),
            self.sequence.seed,
            self.what,
            self.token()
        )
    }
}

/// Reads [`Violation::token`]: what to look at, and with which effort.
pub fn parse(token: &str) -> Option<(Sequence, Option<Place>, Effort)> {
    let (token, effort) = match token.strip_prefix("quick-") {
        Some(token) => (token, Effort::quick()),
        None => (token, Effort::default()),
    };
    let mut parts = token.split(':');
    let kind = Kind::parse(parts.next()?)?;
    let seed = parts.next()?.parse().ok()?;
    let from = parts.next()?.parse().ok()?;
    let text = parts.next()?;
    let (text, moment) = match text.split_once('+') {
        Some((ops, moment)) => (ops, Some(moment.parse().ok()?)),
        None => (text, None),
    };
    let ops: Option<Vec<usize>> = text
        .split('.')
        .map(|n| n.parse().ok().filter(|&n| n < CATALOG.len()))
        .collect();
    let sequence = Sequence {
        kind,
        seed,
        from,
        ops: ops?,
        moment,
    };
    let pair = |s: &str| {
        let (a, b) = s.split_once('.')?;
        Some((a.parse().ok()?, b.parse().ok()?))
    };
    let Some(first) = parts.next() else {
        return Some((sequence, None, effort));
    };
    let (point, state) = pair(first)?;
    let second = match parts.next() {
        None => None,
        Some(text) => {
            let warm = text.starts_with('w');
            let (point, state) = pair(text.get(1..)?)?;
            Some(Second { warm, point, state })
        }
    };
    let place = Place {
        point,
        state,
        second,
    };
    Some((sequence, Some(place), effort))
}

/// How thoroughly to look.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// States at a point.
    pub sampling: Sampling,
    /// About so many places between the fences of a call are points, too.
    pub between: u64,
    /// The recovery of one image in so many is cut, too.
    pub recovery: u64,
    /// One point in so many is a warm restart, too.
    pub warm: u64,
    /// One image in so many is put to use, one in half as many unmounted and checked again.
    pub unmount: u64,
    /// Made by [`Effort::quick`].
    pub quick: bool,
}

impl Effort {
    /// Few states at a point, so that many sequences are seen: for breadth.
    pub fn quick() -> Self {
        Self {
            sampling: Sampling {
                exhaustive: 5,
                samples: 24,
                singles: 16,
            },
            between: 1,
            recovery: 400,
            warm: 4,
            quick: true,
            ..Self::default()
        }
    }
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            sampling: Sampling {
                singles: 128,
                ..Sampling::default()
            },
            between: 3,
            recovery: 4000,
            warm: 24,
            unmount: 16,
            quick: false,
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Sequences explored.
    pub sequences: u64,
    /// Calls in them.
    pub calls: u64,
    /// Moments looked at.
    pub points: u64,
    /// Of these, such whose states were formed without exception.
    pub exhaustive: u64,
    /// Images formed.
    pub formed: u64,
    /// Distinct ones, each recovered and checked.
    pub distinct: u64,
    /// Of these, cuts in a recovery.
    pub recovery: u64,
    /// Of these, cuts after a warm restart.
    pub warm: u64,
}

impl Counts {
    /// Adds.
    pub fn add(&mut self, other: &Self) {
        self.sequences += other.sequences;
        self.calls += other.calls;
        self.points += other.points;
        self.exhaustive += other.exhaustive;
        self.formed += other.formed;
        self.distinct += other.distinct;
        self.recovery += other.recovery;
        self.warm += other.warm;
    }
}

/// A mixing of numbers into one.
pub fn mix(a: u64, b: u64) -> u64 {
    let mut x = a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Which states are allowed now.
struct Situation<'a> {
    base: &'a Tree,
    steps: &'a [Step],
    names: Vec<u64>,
    synchronous: bool,
    /// Steps that have begun, and whether the last of them is still running.
    begun: usize,
    running: bool,
    /// The same of the steps that are nested in it.
    nested: (usize, bool),
}

impl<'a> Situation<'a> {
    fn new(base: &'a Tree, steps: &'a [Step], synchronous: bool) -> Self {
        let name = |step: &Step| {
            let states = step.during.iter().chain([&step.after]);
            states.fold(0, |n, tree| mix(n, tree.name()))
        };
        Self {
            base,
            steps,
            names: steps.iter().map(name).collect(),
            synchronous,
            begun: 0,
            running: false,
            nested: (0, false),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Begin(n) if n >= NESTED => self.nested = (n - NESTED + 1, true),
            Event::End(n) if n >= NESTED => self.nested.1 = false,
            Event::Begin(n) => {
                (self.begun, self.running) = (n + 1, true);
                self.nested = (0, false);
            }
            Event::End(_) => self.running = false,
            _ => {}
        }
    }

    /// Whether a call is under way.
    fn inside(&self) -> bool {
        self.running || self.nested.1
    }

    fn op(&self) -> Option<usize> {
        Some(self.steps.get(self.begun.checked_sub(1)?)?.op)
    }

    /// The first step whose effects may still be missing.
    fn first(&self) -> usize {
        let last = self.begun.saturating_sub(1);
        if self.synchronous {
            return last;
        }
        let done = if self.running { last } else { self.begun };
        self.steps[..done]
            .iter()
            .rposition(|s| s.durable)
            .unwrap_or(0)
    }

    fn allowed(&self) -> Vec<Cow<'a, Tree>> {
        let Some(last) = self.begun.checked_sub(1) else {
            return vec![Cow::Borrowed(self.base)];
        };
        let mut allowed: Vec<&Tree> = Vec::new();
        if self.synchronous {
            let step = &self.steps[last];
            if let Some(nested) = &step.nested {
                return self.combined(step, nested);
            }
            if self.running {
                allowed.extend(&step.during);
            } else {
                allowed.push(&step.after);
            }
            return allowed.into_iter().map(Cow::Borrowed).collect();
        }
        let first = self.first();
        if first == 0 && !self.steps[0].durable {
            allowed.push(self.base);
        }
        for (n, step) in self.steps.iter().enumerate().take(self.begun).skip(first) {
            let returned_durable = step.durable && (n < last || !self.running);
            if !returned_durable {
                allowed.extend(&step.during);
            }
            allowed.push(&step.after);
        }
        allowed.into_iter().rev().map(Cow::Borrowed).collect()
    }

    /// Two calls at once: each may be there or not, or be at a state in between.
    fn combined(&self, step: &'a Step, nested: &'a Nested) -> Vec<Cow<'a, Tree>> {
        let outer: Vec<&Tree> = if self.running {
            step.during.iter().collect()
        } else {
            vec![&nested.alone]
        };
        let inner: Vec<&Tree> = match self.nested {
            (0, _) => vec![&nested.before],
            (n, true) => nested.steps[n - 1].during.iter().collect(),
            (n, false) => vec![&nested.steps[n - 1].after],
        };
        let pairs = outer.iter().flat_map(|a| inner.iter().map(move |b| (a, b)));
        pairs
            .filter_map(|(a, b)| Tree::merged(&nested.before, a, b))
            .map(Cow::Owned)
            .collect()
    }

    /// Names the allowed states.
    fn name(&self) -> u64 {
        let Some(last) = self.begun.checked_sub(1) else {
            return 1;
        };
        let nested = self.nested.0 as u64 * 2 + u64::from(self.nested.1);
        let running = (nested << 2) + u64::from(self.running) + 2;
        self.names[self.first()..=last]
            .iter()
            .fold(running, |n, &step| mix(n, step))
    }
}

/// Images that were looked at, by names that are well mixed already. All threads share one, in parts with locks of their own.
pub struct Seen(Vec<Mutex<HashSet<u64, BuildHasherDefault<Mixed>>>>);

impl Seen {
    const PARTS: usize = 256;
    /// A part that has grown so large forgets all, to stay within memory.
    const REMEMBER: usize = 24_000_000 / Self::PARTS;

    /// Whether an image is new.
    fn insert(&self, name: u64) -> bool {
        let part = &self.0[(name >> 32) as usize % Self::PARTS];
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        if part.len() > Self::REMEMBER {
            part.clear();
        }
        part.insert(name)
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self((0..Self::PARTS).map(|_| Mutex::default()).collect())
    }
}

/// Takes a mixed number as its own hash.
#[derive(Default)]
pub struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = mix(self.0, byte.into());
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Explores sequences on one stage at a time.
pub struct Explorer<'a> {
    /// How thoroughly.
    pub effort: Effort,
    /// Images that were looked at.
    pub seen: &'a Seen,
    /// What was done.
    pub counts: Counts,
    /// Only this image.
    pub only: Option<Place>,
}

impl Explorer<'_> {
    /// Explores one sequence.
    pub fn run(&mut self, stage: &Stage, sequence: &Sequence) -> Result<(), Box<Violation>> {
        let arena = &stage.arena;
        let depth = arena.depth();
        let result = self.sequence(stage, sequence);
        arena.interrupt(None);
        drop(arena.recorded());
        arena.unwind(depth);
        result.map_err(|(place, what)| {
            Box::new(Violation {
                sequence: sequence.clone(),
                place,
                what,
                quick: self.effort.quick,
            })
        })
    }

    fn sequence(&mut self, stage: &Stage, sequence: &Sequence) -> Result<(), Fault> {
        let arena = &stage.arena;
        let recorded = guard(|| {
            let mut world = stage.enter(sequence.seed)?;
            let base = world.tree.clone();
            let mut applied = 0;
            let ops: Vec<Op> = sequence.operations().collect();
            let mut plain = ops.len();
            if let (Some(moment), [.., op, other]) = (sequence.moment, &ops[..]) {
                plain -= 2;
                for (number, &op) in ops[..plain].iter().enumerate() {
                    world.run(number, op);
                }
                applied = usize::from(world.run_overlapped(plain, *op, *other, moment));
                plain = 0;
            }
            for (number, &op) in ops[..plain].iter().enumerate() {
                applied += usize::from(world.run(number, op));
            }
            // One of a few does not apply here: nothing that a shorter sequence would not show.
            if plain <= 3 && applied < plain {
                applied = 0;
            }
            let fault = world.fault.take();
            let steps = std::mem::take(&mut world.steps);
            drop(world);
            match fault {
                Some(fault) => Err(fault),
                None => Ok((base, steps, applied)),
            }
        });
        let trace = arena.recorded();
        arena.pop();
        let (base, steps, applied) = recorded.map_err(|what| (None, what))?;
        if applied == 0 {
            return Ok(());
        }
        self.counts.sequences += 1;
        self.counts.calls += steps.len() as u64;
        self.walk(stage, sequence, &trace, &base, &steps)
    }

    fn walk(
        &mut self,
        stage: &Stage,
        sequence: &Sequence,
        trace: &Trace,
        base: &Tree,
        steps: &[Step],
    ) -> Result<(), Fault> {
        let synchronous = stage.kind != Kind::Asynchronous;
        let mut situation = Situation::new(base, steps, synchronous);
        let mut walk = Walk::new(&stage.arena, trace, synchronous, Flight::new());
        let mut visited = (usize::MAX, u64::MAX);
        let mut sparse = 2;
        loop {
            let last = walk.last();
            if let Some(event) = last {
                situation.event(event);
            }
            let Some(next) = walk.next() else { break };
            let seed = mix(sequence.seed, walk.at as u64);
            let looked_at = situation.op().is_some_and(|op| op >= sequence.from);
            let returned = matches!(last, Some(Event::End(_)));
            if let Some(Event::Begin(_)) = last {
                let rest = trace.events[walk.at..].iter();
                let inside = rest.take_while(|e| !matches!(e, Event::End(_))).count() as u64;
                sparse = (inside / self.effort.between).max(2);
            }
            let between = situation.inside()
                && matches!(next, Event::Store { .. } | Event::WriteBack { .. })
                && seed % sparse == 0;
            let wanted = match self.only {
                Some(only) => only.point == walk.at,
                None => looked_at && (next.completes() || returned || between),
            };
            let here = (walk.flight.len(), situation.name());
            if wanted && (here != visited || self.only.is_some()) {
                visited = here;
                self.point(stage, &walk, &situation, seed)?;
                if self.only.is_some() {
                    return Ok(());
                }
            }
            walk.step();
        }
        // After the last call.
        let seed = mix(sequence.seed, walk.at as u64);
        self.point(stage, &walk, &situation, seed)
    }

    /// Forms the images of one moment.
    fn point(
        &mut self,
        stage: &Stage,
        walk: &Walk<'_>,
        situation: &Situation<'_>,
        seed: u64,
    ) -> Result<(), Fault> {
        let arena = &stage.arena;
        let allowed = situation.allowed();
        let allowed: Vec<&Tree> = allowed.iter().map(|tree| &**tree).collect();
        let name = mix(situation.name(), stage.kind as u64);
        let states = States::new(&walk.flight, &self.effort.sampling, seed);
        self.counts.points += 1;
        self.counts.exhaustive += u64::from(states.is_exhaustive());
        let begin = Place {
            point: walk.at,
            state: 0,
            second: None,
        };
        for state in 0..states.len() {
            let second = match self.only {
                Some(only) if only.state != state => continue,
                Some(only) => only.second,
                None => None,
            };
            let words = states.state(state);
            let place = Place { state, ..begin };
            if second.is_none() {
                self.image(arena, situation.base, &words, &allowed, name)
                    .map_err(|what| (Some(place), what))?;
            }
            let chosen = mix(seed, state as u64) % self.effort.recovery == 0;
            if second.is_some_and(|s| !s.warm) || (chosen && self.only.is_none()) {
                arena.push();
                arena.put(&words);
                let flight = Flight::new();
                let result =
                    self.recovery(arena, situation, &allowed, name, (place, false), flight);
                arena.pop();
                result?;
            }
        }
        let warm = seed / 64 % self.effort.warm == 0 && self.only.is_none();
        if warm || self.only.is_some_and(|o| o.second.is_some_and(|s| s.warm)) {
            let mut flight = walk.flight.clone();
            flight.restart();
            arena.push();
            let result = self.recovery(arena, situation, &allowed, name, (begin, true), flight);
            arena.pop();
            result?;
        }
        Ok(())
    }

    /// Forms one image and judges it, unless that was done before.
    fn image(
        &mut self,
        arena: &Arena,
        base: &Tree,
        words: &[Word],
        allowed: &[&Tree],
        name: u64,
    ) -> Result<(), String> {
        self.counts.formed += 1;
        arena.push();
        arena.put(words);
        let key = mix(arena.hash(), name);
        if !self.seen.insert(key) && self.only.is_none() {
            arena.pop();
            return Ok(());
        }
        self.counts.distinct += 1;
        let share = |of: u64, n| self.counts.distinct % of == n || self.only.is_some();
        let depth = Depth {
            all_blocks: share(16 * self.effort.unmount, 1),
            using: share(self.effort.unmount, 2),
            unmount: share(self.effort.unmount / 2, 2),
            read_only: share(2 * self.effort.unmount, 3),
            early: share(self.effort.unmount, 4),
        };
        let level = arena.depth();
        let result = guard(|| judge(arena, base, allowed, depth));
        arena.unwind(level);
        arena.pop();
        result
    }

    /// Cuts the recovery of what the arena holds; on top of it is what is in flight.
    fn recovery(
        &mut self,
        arena: &Arena,
        situation: &Situation<'_>,
        allowed: &[&Tree],
        name: u64,
        (place, warm): (Place, bool),
        flight: Flight,
    ) -> Result<(), Fault> {
        arena.push();
        arena.put(&flight.visible());
        arena.record();
        let level = arena.depth();
        let mounted = guard(|| {
            let fs = Filesystem::mount(arena.clone(), &MountOptions::default())
                .map_err(|e| format!("mount fails: {e}"))?;
            fs.finish_orphans()
                .map_err(|e| format!("finishing orphans fails: {e}"))
        });
        let trace = arena.recorded();
        arena.unwind(level);
        arena.pop();
        let at = |point, state| {
            let second = Some(Second { warm, point, state });
            Some(Place { second, ..place })
        };
        mounted.map_err(|what| (at(0, 0), what))?;
        let mut walk = Walk::new(arena, &trace, situation.synchronous, flight);
        let fences = trace.events.iter().filter(|e| e.completes()).count() as u64 + 1;
        while walk.at <= trace.events.len() {
            let seed = mix(
                mix(name, place.state as u64),
                mix(place.point as u64, walk.at as u64),
            );
            let fence = walk.next().is_none_or(|e| e.completes());
            let wanted = match self.only.and_then(|o| o.second) {
                Some(second) => second.point == walk.at,
                // Two or three moments of each recovery.
                None => fence && seed % fences < 3,
            };
            if wanted {
                let states = States::new(&walk.flight, &self.effort.sampling, seed);
                self.counts.points += 1;
                for state in 0..states.len() {
                    if self
                        .only
                        .is_some_and(|o| o.second.is_some_and(|s| s.state != state))
                    {
                        continue;
                    }
                    let before = self.counts.distinct;
                    self.image(arena, situation.base, &states.state(state), allowed, name)
                        .map_err(|what| {
                            let when = if warm { "a warm restart and " } else { "" };
                            (
                                at(walk.at, state),
                                format!("after {when}a cut in recovery: {what}"),
                            )
                        })?;
                    let new = self.counts.distinct - before;
                    if warm {
                        self.counts.warm += new;
                    } else {
                        self.counts.recovery += new;
                    }
                }
            }
            if walk.next().is_none() {
                break;
            }
            walk.step();
        }
        Ok(())
    }
}

/// What is wrong, and where.
type Fault = (Option<Place>, String);

/// Runs something; a panic is an error like any other.
fn guard<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", text.unwrap_or("?")))
        }
    }
}
