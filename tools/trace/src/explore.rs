// SPDX-License-Identifier: GPL-2.0

//! At many moments of a trace cuts the power.
//!
//! At each fence, at each begin and return of a call, and at moments in between, images are formed as the
//! [rules](ochre_sim::persistency) allow, and each is recovered, checked and compared with what the calls that had returned, and
//! those that had not, allow. An image that was judged already, between the same two calls, is not judged again.

use crate::call::Call;
use crate::model::Model;
use crate::recovered::{recover, Tree};
use crate::walk::{Counts, Walk};
use ochre_crash::arena::Arena;
use ochre_sim::persistency::{States, Word};
use std::any::Any;
use std::cell::Cell;
use std::collections::HashSet;
use std::panic::{catch_unwind, AssertUnwindSafe};
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
    /// One of so many events between fences, begins and returns is a moment to cut the power at.
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

/// What came out.
#[derive(Debug, Default)]
pub struct Report {
    /// Images, each different from all others between the same calls.
    pub images: u64,
    /// What is wrong, one line each.
    pub violations: Vec<String>,
}

thread_local! {
    /// The engine is at work on an image: its panic is a violation, and no more need be said.
    static JUDGING: Cell<bool> = const { Cell::new(false) };
}

/// Lets panics of the engine be silent; those of the explorer itself are not.
pub fn hush_panics() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !JUDGING.get() {
            loud(info);
        }
    }));
}

impl Walk<'_> {
    /// Recovers an image of this moment, and compares it with what may be.
    pub fn judge(&self, words: &[Word]) -> Result<Tree, String> {
        let arena = self.arena();
        arena.push();
        arena.put(words);
        JUDGING.set(true);
        let recovered = catch_unwind(AssertUnwindSafe(|| recover(Arena::clone(arena))));
        JUDGING.set(false);
        arena.unwind(0);
        let tree =
            recovered.map_err(|panic| format!("the engine panicked: {}", said(&*panic)))??;
        let size = |model: &Model, id| tree.size(model, id);
        let mut allowed = vec![self.model().clone()];
        for call in self.open() {
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

    /// The states of this moment.
    pub fn states(&self, options: &Options) -> States {
        States::at_most(
            self.flight(),
            options.states,
            options.seed ^ self.at() as u64,
        )
    }

    fn place(&self) -> String {
        let calls: Vec<String> = self.open().map(Call::to_string).collect();
        match calls.is_empty() {
            true => "between calls".into(),
            false => format!("in {}", calls.join(" and in ")),
        }
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("?")
}

/// One worker: explores those moments whose number gives `number` when divided by `of`.
struct Worker<'a> {
    options: &'a Options,
    replay: &'a str,
    number: u64,
    of: u64,
    seen: HashSet<(u64, u64)>,
    report: Report,
}

impl Worker<'_> {
    fn run(
        &mut self,
        mut walk: Walk<'_>,
        each: &(impl Fn(&Walk<'_>, u64) -> Result<(), String> + Sync),
    ) -> Result<(), String> {
        let mut counts = Counts::default();
        while let Some(moment) = walk.next(self.options, &mut counts)? {
            if moment >= self.options.points {
                break;
            }
            if moment % self.of == self.number {
                self.moment(&walk);
                each(&walk, moment)?;
            }
        }
        Ok(())
    }

    fn moment(&mut self, walk: &Walk<'_>) {
        let states = walk.states(self.options);
        for state in 0..states.len() {
            if self.options.state.is_some_and(|only| only != state) {
                continue;
            }
            let words = states.state(state);
            if !self
                .seen
                .insert((walk.arena().hash_with(&words), walk.version()))
            {
                continue;
            }
            self.report.images += 1;
            if let Err(why) = walk.judge(&words) {
                self.report.violations.push(format!(
                    "event {at} state {state}, {}: {why}; again: {} --event {at} --state {state}",
                    walk.place(),
                    self.replay,
                    at = walk.at(),
                ));
            }
        }
    }
}

/// Explores on all processors. `walk` makes a walk at the beginning; `each` sees every moment, on the thread that explores it.
pub fn explore<'a>(
    walk: impl Fn() -> Result<Walk<'a>, String> + Sync,
    options: &Options,
    replay: &str,
    each: impl Fn(&Walk<'_>, u64) -> Result<(), String> + Sync,
) -> Result<Report, String> {
    let of = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let all = Mutex::new(Report::default());
    let all = &all;
    let (walk, each) = (&walk, &each);
    std::thread::scope(|scope| {
        let run = |number| -> Result<(), String> {
            let mut worker = Worker {
                options,
                replay,
                number,
                of,
                seen: HashSet::new(),
                report: Report::default(),
            };
            worker.run(walk()?, each)?;
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.images += worker.report.images;
            all.violations.append(&mut worker.report.violations);
            Ok(())
        };
        let threads: Vec<_> = (0..of)
            .map(|number| scope.spawn(move || run(number)))
            .collect();
        threads.into_iter().try_for_each(|t| {
            t.join()
                .map_err(|_| "a thread of the explorer died".to_string())?
        })
    })?;
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut all))
}
