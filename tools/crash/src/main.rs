// SPDX-License-Identifier: GPL-2.0

//! `crash`: runs the explorer from the command line. `make crash` is this.

use clap::Parser;
use ochre_crash::explore::{parse, Counts, Effort, Violation};
use ochre_crash::op::CATALOG;
use ochre_crash::plan::{Plan, CLASSES};
use ochre_crash::run::{replay, run, Limits, Outcome};
use ochre_crash::stage::{Kind, KINDS};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Distinct images of a run that nothing else is said of.
const IMAGES: u64 = 2_000_000;

/// Cuts the power of a simulated machine at every moment that matters, and checks what Ochre makes of what is left.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Stop after so many distinct images, or so long: 1000000, 90s, 10m, 2h. Without it: after the breadth of the plan, and
    /// 2000000 images.
    #[arg(long)]
    budget: Option<String>,
    /// Repeats a run; a fresh one is drawn and printed without it.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads; as many as there are CPUs without it.
    #[arg(long)]
    jobs: Option<usize>,
    /// Only these kinds of filesystems, separated by commas.
    #[arg(long)]
    on: Option<String>,
    /// Stop after so many violations.
    #[arg(long, default_value_t = 10)]
    violations: usize,
    /// Begin with this sequence of the seed's plan.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Look again at the image (or sequence) that the line of a violation names.
    #[arg(long)]
    replay: Option<String>,
    /// Fewer states at each point, so that more sequences are seen in the same time.
    #[arg(long)]
    quick: bool,
    /// No lines of progress.
    #[arg(long)]
    silent: bool,
    /// Break this ordering of the engine first.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutant: Option<String>,
}

/// A number of images or a time.
fn budget(text: &str) -> Option<(Option<u64>, Option<Duration>)> {
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "" => return Some((Some(number), None)),
        "s" => number,
        "m" => number * 60,
        "h" => number * 3600,
        _ => return None,
    };
    Some((None, Some(Duration::from_secs(seconds))))
}

fn kinds(text: Option<&str>) -> Result<Vec<Kind>, String> {
    let Some(text) = text else {
        return Ok(KINDS.to_vec());
    };
    let names: Vec<_> = KINDS.iter().map(|k| k.name()).collect();
    text.split(',')
        .map(|name| Kind::parse(name).ok_or(format!("--on {name}: one of {}", names.join(", "))))
        .collect()
}

/// What this process has used of the CPUs, in user mode and in the kernel.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) as f64 / 100.0)
}

fn report(outcome: &Outcome) {
    let c = &outcome.counts;
    let seconds = outcome.elapsed.as_secs_f64();
    println!(
        "sequences   {:>12}  of {} planned",
        c.sequences, outcome.planned
    );
    for (class, tally) in CLASSES.iter().zip(&outcome.classes) {
        if tally.planned > 0 {
            println!(
                "  {:<14}{:>8}  of {} planned; {} of them with all effort",
                class.name(),
                tally.explored,
                tally.planned,
                tally.deep
            );
        }
    }
    if !outcome.alone.is_empty() {
        let after = outcome.after_need.difference(&outcome.alone).count();
        println!(
            "operations  {:>12}  of {} alone, {after} after the one that they need",
            outcome.alone.len(),
            CATALOG.len()
        );
    }
    println!("calls       {:>12}", c.calls);
    println!(
        "crash points{:>12}  {} of them with every state",
        c.points, c.exhaustive
    );
    println!("images      {:>12}  formed", c.formed);
    println!(
        "            {:>12}  distinct: recovered, checked, compared",
        c.distinct
    );
    println!(
        "            {:>12}  of these after a cut in recovery",
        c.recovery
    );
    println!(
        "            {:>12}  of these after a warm restart and a cut",
        c.warm
    );
    println!("violations  {:>12}", outcome.violations.len());
    let rate = c.distinct as f64 / seconds;
    println!("time        {seconds:>11.1}s  {rate:.0} distinct images a second");
    if let Some(cpu) = cpu_seconds() {
        let each = cpu * 1e6 / c.distinct.max(1) as f64;
        println!("CPU time    {cpu:>11.1}s  {each:.0} us an image");
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(feature = "mutants")]
    if let Some(name) = &arguments.mutant {
        let Some(mutant) = ochre_crash::mutants::parse(name) else {
            eprintln!("crash: --mutant {name}: there is none of this name");
            return ExitCode::from(2);
        };
        ochre::engine::mutant::choose(Some(mutant));
    }
    if let Some(token) = &arguments.replay {
        let Some((sequence, place, effort)) = parse(token) else {
            eprintln!("crash: --replay {token}: this is not what a line of a violation says");
            return ExitCode::from(2);
        };
        let outcome = replay(&sequence, place, effort);
        for violation in &outcome.violations {
            println!("{violation}");
        }
        report(&outcome);
        return ExitCode::from(u8::from(!outcome.violations.is_empty()));
    }
    let limit = match &arguments.budget {
        Some(text) => budget(text),
        None => Some((Some(IMAGES), None)),
    };
    let Some((images, time)) = limit else {
        eprintln!(
            "crash: --budget {}: a number of images, or a time like 10m",
            arguments.budget.unwrap_or_default()
        );
        return ExitCode::from(2);
    };
    let kinds = match kinds(arguments.on.as_deref()) {
        Ok(kinds) => kinds,
        Err(what) => {
            eprintln!("crash: {what}");
            return ExitCode::from(2);
        }
    };
    let jobs = arguments.jobs.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    let seed = arguments
        .seed
        .unwrap_or_else(|| ochre::platform::random_u64() >> 8);
    println!("seed {seed}, {jobs} threads");
    let plan = Plan::new(seed, &kinds);
    let plan = if arguments.quick {
        plan.quick()
    } else {
        let breadth = plan.breadth();
        println!(
            "first {breadth} sequences with few states at a point, then others with all effort"
        );
        plan
    };
    let limits = Limits {
        images,
        whole_breadth: arguments.budget.is_none(),
        time,
        violations: arguments.violations,
        first: arguments.first,
    };
    let last = Mutex::new((Instant::now(), 0));
    let progress = |counts: &Counts, violation: Option<&Violation>| {
        if let Some(violation) = violation {
            println!("{violation}");
        }
        let mut last = last
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if !arguments.silent && last.0.elapsed() > Duration::from_secs(20) {
            println!(
                "... {} sequences, {} points, {} images formed, {} distinct",
                counts.sequences, counts.points, counts.formed, counts.distinct
            );
            *last = (Instant::now(), counts.distinct);
        }
    };
    let outcome = run(&plan, Effort::default(), limits, jobs, &progress);
    report(&outcome);
    ExitCode::from(u8::from(!outcome.violations.is_empty()))
}
