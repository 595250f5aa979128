// SPDX-License-Identifier: GPL-2.0

//! A run: sequences of a plan, on several threads, until a number of images or a time is reached.

use crate::explore::{Counts, Effort, Explorer, Place, Seen, Sequence, Violation};
use crate::plan::{Class, Plan, Planned};
use crate::stage::{Kind, Stage};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After so many distinct images …
    pub images: Option<u64>,
    /// … but not before all of the breadth was explored.
    pub whole_breadth: bool,
    /// After so long.
    pub time: Option<Duration>,
    /// After so many violations.
    pub violations: usize,
    /// Begin with this sequence of the plan.
    pub first: u64,
}

/// What a run did of a class of sequences.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Numbers of the plan, whether anything applied or not.
    pub planned: u64,
    /// Sequences explored.
    pub explored: u64,
    /// Of these, with the full effort.
    pub deep: u64,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Numbers.
    pub counts: Counts,
    /// The same by classes, in the order of [`CLASSES`](crate::plan::CLASSES).
    pub classes: [Tally; 6],
    /// Operations that were explored alone, by their numbers in the catalog.
    pub alone: BTreeSet<usize>,
    /// Operations that were explored after the one that they need.
    pub after_need: BTreeSet<usize>,
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Sequences taken from the plan, whether they applied or not.
    pub planned: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Outcome {
    fn add(&mut self, planned: &Planned, counts: &Counts, explored: &[usize]) {
        self.counts.add(counts);
        self.planned += 1;
        let tally = &mut self.classes[planned.class as usize];
        tally.planned += 1;
        tally.explored += counts.sequences;
        tally.deep += if planned.deep { counts.sequences } else { 0 };
        match (planned.class, explored) {
            (Class::Single, [op]) => self.alone.insert(*op),
            (Class::Single, [_, op]) => self.after_need.insert(*op),
            _ => false,
        };
    }
}

/// Keeps the engine's and the panic handler's messages back: images are meant to be hard, and a panic is reported as a
/// violation.
pub fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ochre::platform::log::set_quiet(true);
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let ours = std::thread::current()
                .name()
                .is_some_and(|name| name.starts_with("crash-"));
            if !ours {
                loud(info);
            }
        }));
    });
}

/// Runs a plan on `jobs` threads. `effort` is that of the depth; the breadth has [`Effort::quick`]. `progress` is told the
/// numbers once in a while, and each violation.
pub fn run(
    plan: &Plan,
    effort: Effort,
    limits: Limits,
    jobs: usize,
    progress: &(dyn Fn(&Counts, Option<&Violation>) + Sync),
) -> Outcome {
    quiet();
    let begin = Instant::now();
    let next = AtomicU64::new(limits.first);
    let stop = AtomicBool::new(false);
    let total: Mutex<Outcome> = Mutex::default();
    let seen = Seen::default();
    let worker = || {
        let mut stages = Stages::default();
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let planned = plan.planned(number);
            let effort = if planned.deep {
                effort
            } else {
                Effort::quick()
            };
            let mut explorer = Explorer {
                effort,
                seen: &seen,
                counts: Counts::default(),
                only: None,
            };
            let (explored, result) = first_that_applies(&mut explorer, &mut stages, &planned);
            let counts = explorer.counts;
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            total.add(&planned, &counts, explored);
            if let Err(violation) = result {
                progress(&total.counts, Some(&violation));
                total.violations.push(*violation);
            }
            progress(&total.counts, None);
            let images = limits.images.is_some_and(|n| total.counts.distinct >= n);
            let enough = (images && !(limits.whole_breadth && number < plan.breadth()))
                || limits.time.is_some_and(|t| begin.elapsed() >= t)
                || total.violations.len() >= limits.violations;
            if enough {
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for job in 0..jobs {
            let thread = std::thread::Builder::new().name(format!("crash-{job}"));
            if thread.spawn_scoped(scope, worker).is_err() {
                break;
            }
        }
    });
    let mut outcome = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.elapsed = begin.elapsed();
    outcome
}

/// Explores the first candidate that applies: its operations, and what came out.
pub fn first_that_applies<'a>(
    explorer: &mut Explorer<'_>,
    stages: &mut Stages,
    planned: &'a Planned,
) -> (&'a [usize], Result<(), Box<Violation>>) {
    for sequence in &planned.candidates {
        let result = match stages.get(sequence.kind) {
            Ok(stage) => explorer.run(stage, sequence),
            Err(what) => Err(Box::new(Violation {
                sequence: sequence.clone(),
                place: None,
                what,
                quick: explorer.effort.quick,
            })),
        };
        if result.is_err() {
            return (&[], result);
        }
        if explorer.counts.sequences > 0 {
            return (&sequence.ops, result);
        }
    }
    (&[], Ok(()))
}

/// Stages, each made at its first use.
#[derive(Default)]
pub struct Stages(Vec<Option<Stage>>);

impl Stages {
    /// The stage of a kind. It is made by a sound engine, also when a broken one is to be explored.
    pub fn get(&mut self, kind: Kind) -> Result<&Stage, String> {
        let index = kind as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        if self.0[index].is_none() {
            #[cfg(feature = "mutants")]
            let made = ochre::engine::mutant::suspended(|| Stage::new(kind));
            #[cfg(not(feature = "mutants"))]
            let made = Stage::new(kind);
            self.0[index] = Some(made?);
        }
        self.0[index].as_ref().ok_or_else(String::new)
    }
}

/// Explores one sequence, or one image of it, again.
pub fn replay(sequence: &Sequence, place: Option<Place>, effort: Effort) -> Outcome {
    quiet();
    let begin = Instant::now();
    let mut explorer = Explorer {
        effort,
        seen: &Seen::default(),
        counts: Counts::default(),
        only: place,
    };
    let mut violations = Vec::new();
    match Stages::default().get(sequence.kind) {
        Ok(stage) => {
            if let Err(violation) = explorer.run(stage, sequence) {
                violations.push(*violation);
            }
        }
        Err(what) => violations.push(Violation {
            sequence: sequence.clone(),
            place: None,
            what,
            quick: effort.quick,
        }),
    }
    Outcome {
        counts: explorer.counts,
        violations,
        planned: 1,
        elapsed: begin.elapsed(),
        ..Outcome::default()
    }
}
