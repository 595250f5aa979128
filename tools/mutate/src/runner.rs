// SPDX-License-Identifier: GPL-2.0

//! Many trials: on several threads, with panics caught, counted by what was damaged and what came of it.

use crate::base::Base;
use crate::damage::Way;
use crate::image::Kind;
use crate::trial::{self, Outcome, Report};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What is counted together.
pub type Class = (Kind, Way);

/// What many trials gave.
#[derive(Debug, Default)]
pub struct Tally {
    /// Images.
    pub images: u64,
    /// Images of one damage, by what it was and what came of it.
    pub classes: BTreeMap<Class, BTreeMap<Outcome, u64>>,
    /// One line for each image on which something happened that must not.
    pub failures: Vec<String>,
    /// How often an operation failed for another reason than damage, with a seed that shows it.
    pub odd: BTreeMap<(String, String), (u64, u64)>,
    /// What the errors said: how often, and a seed.
    pub messages: BTreeMap<String, (u64, u64)>,
    /// The most accesses that one image took.
    pub most_steps: u64,
}

impl Tally {
    fn add(&mut self, name: &str, seed: u64, result: Result<Report, String>) {
        self.images += 1;
        let report = match result {
            Ok(report) => report,
            Err(panic) => {
                self.failures.push(format!("{name} {seed}: {panic}"));
                return;
            }
        };
        self.most_steps = self.most_steps.max(report.steps);
        if let [damage] = &report.damages[..] {
            let class = self.classes.entry((damage.kind, damage.way)).or_default();
            *class.entry(report.outcome).or_default() += 1;
        }
        if let Some(error) = report.error {
            let what = match error {
                ochre::engine::error::Error::Corrupt(c) => c.what.to_string(),
                other => other.to_string(),
            };
            self.messages.entry(what).or_insert((0, seed)).0 += 1;
        }
        for (what, error) in &report.odd {
            let key = (what.to_string(), error.to_string());
            self.odd.entry(key).or_insert((0, seed)).0 += 1;
        }
        if let Some(first) = report.problems.first() {
            let damages: Vec<&str> = report.damages.iter().map(|d| &d.text[..]).collect();
            let line = format!("{name} {seed}: {first}  <- {}", damages.join("; "));
            self.failures.push(line);
        }
    }

    fn join(&mut self, other: Self) {
        self.images += other.images;
        for (class, outcomes) in other.classes {
            let mine = self.classes.entry(class).or_default();
            for (outcome, n) in outcomes {
                *mine.entry(outcome).or_default() += n;
            }
        }
        self.failures.extend(other.failures);
        for (key, (n, seed)) in other.odd {
            self.odd.entry(key).or_insert((0, seed)).0 += n;
        }
        for (key, (n, seed)) in other.messages {
            self.messages.entry(key).or_insert((0, seed)).0 += n;
        }
        self.most_steps = self.most_steps.max(other.most_steps);
    }

    /// A table of classes and outcomes, in Markdown.
    pub fn table(&self) -> String {
        let mut text = String::from("| structure | damage | images |");
        for outcome in Outcome::ALL {
            let _ = write!(text, " {} |", outcome.name());
        }
        text.push_str("\n|---|---|---:|---:|---:|---:|---:|---:|\n");
        for ((kind, way), outcomes) in &self.classes {
            let all: u64 = outcomes.values().sum();
            let _ = write!(text, "| {} | {} | {all} |", kind.name(), way.name());
            for outcome in Outcome::ALL {
                let n = outcomes.get(&outcome).copied().unwrap_or(0);
                let _ = write!(text, " {n} |");
            }
            text.push('\n');
        }
        text
    }
}

/// One trial; a panic becomes its message and place.
///
/// # Errors
///
/// The panic.
pub fn one(base: &Base, foreign: &[Vec<u8>], seed: u64, repair: bool) -> Result<Report, String> {
    quiet_panics();
    let run = if repair {
        trial::run_and_repair
    } else {
        trial::run
    };
    panic::catch_unwind(AssertUnwindSafe(|| run(base, foreign, seed)))
        .map_err(|_| LAST_PANIC.with(|last| last.borrow().clone()))
}

/// Keeps the message of a panic instead of printing it.
pub fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if std::thread::current()
                .name()
                .is_some_and(|name| name.starts_with("trial"))
            {
                LAST_PANIC.with(|last| *last.borrow_mut() = info.to_string().replace('\n', " "));
            } else {
                usual(info);
            }
        }));
    });
}

/// How much to try.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At most so many images.
    pub images: u64,
    /// And for so long.
    pub time: Duration,
    /// Threads.
    pub threads: usize,
    /// The first seed.
    pub seed: u64,
    /// Repair each image at the end, and check it again.
    pub repair: bool,
}

/// Tries images of all bases in turn, until a limit is reached.
pub fn run(bases: &[Base], foreign: &[Vec<u8>], limits: &Limits) -> Tally {
    ochre::platform::log::set_quiet(true);
    let (next, end) = (AtomicU64::new(0), Instant::now() + limits.time);
    let all = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for thread in 0..limits.threads {
            let work = || {
                let mut tally = Tally::default();
                while Instant::now() < end {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= limits.images {
                        break;
                    }
                    let seed = limits.seed.wrapping_add(number);
                    let base = base_of(bases, seed);
                    tally.add(base.name, seed, one(base, foreign, seed, limits.repair));
                }
                all.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .join(tally);
            };
            let builder = std::thread::Builder::new().name(format!("trial {thread}"));
            builder.spawn_scoped(scope, work).expect("a thread");
        }
    });
    let mut tally = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.failures.sort_unstable();
    tally
}

/// The base that a seed damages: mostly small ones.
pub fn base_of(bases: &[Base], seed: u64) -> &Base {
    let n = match seed % 20 {
        0..=9 => 0,
        10..=16 => 1,
        17 | 18 => 2,
        _ => 3,
    };
    &bases[n.min(bases.len() - 1)]
}
