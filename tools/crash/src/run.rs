// SPDX-License-Identifier: GPL-2.0

//! A run: sequences of a plan, on several threads, until a number of images or a time is reached.

use crate::explore::{Counts, Effort, Explorer, Place, Seen, Sequence, Violation};
use crate::plan::Plan;
use crate::stage::{Kind, Stage};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// Images that a thread remembers; then it forgets all of them, to stay within memory.
const REMEMBER: usize = 12_000_000;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After so many distinct images.
    pub images: Option<u64>,
    /// After so long.
    pub time: Option<Duration>,
    /// After so many violations.
    pub violations: usize,
    /// Begin with this sequence of the plan.
    pub first: u64,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Numbers.
    pub counts: Counts,
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Sequences taken from the plan, whether they applied or not.
    pub planned: u64,
    /// How long it took.
    pub elapsed: Duration,
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

/// Runs a plan on `jobs` threads. `progress` is told the numbers once in a while, and each violation.
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
    let worker = || {
        let mut stages = Stages::default();
        let mut seen = Seen::default();
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let sequence = plan.sequence(number);
            if seen.len() > REMEMBER {
                seen.clear();
            }
            let mut explorer = Explorer {
                effort,
                seen: &mut seen,
                counts: Counts::default(),
                only: None,
            };
            let result = match stages.get(sequence.kind) {
                Ok(stage) => explorer.run(stage, &sequence),
                Err(what) => Err(Box::new(Violation {
                    sequence,
                    place: None,
                    what,
                    quick: effort.quick,
                })),
            };
            let counts = explorer.counts;
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            total.counts.add(&counts);
            total.planned += 1;
            if let Err(violation) = result {
                progress(&total.counts, Some(&violation));
                total.violations.push(*violation);
            }
            progress(&total.counts, None);
            let enough = limits.images.is_some_and(|n| total.counts.distinct >= n)
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
    let mut seen = Seen::default();
    let mut explorer = Explorer {
        effort,
        seen: &mut seen,
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
    }
}
