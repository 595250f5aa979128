// SPDX-License-Identifier: GPL-2.0

//! A bounded share of what `make crash` does.

#![cfg(not(feature = "mutants"))]

use ochre_crash::explore::{parse, Counts, Effort, Explorer, Seen, Violation};
use ochre_crash::op::{number, Op, CATALOG};
use ochre_crash::plan::Plan;
use ochre_crash::run::{first_that_applies, replay, run, Limits, Stages};
use ochre_crash::stage::Kind;
use ochre_sim::persistency::Sampling;
use ochre_sim::seed::seed;
use std::collections::HashSet;
use std::ops::Range;

/// Of the plan's breadth, and as many of its depth.
const IMAGES: u64 = 25_000;

#[test]
fn no_cut_leaves_what_the_model_does_not_allow() {
    let seed = seed("no_cut_leaves_what_the_model_does_not_allow") >> 8;
    let plan = Plan::all(seed);
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let print = |_: &Counts, violation: Option<&Violation>| {
        if let Some(violation) = violation {
            println!("{violation}");
        }
    };
    for first in [seed % plan.breadth(), plan.breadth() + seed % 4000] {
        let limits = Limits {
            images: Some(IMAGES),
            whole_breadth: false,
            time: None,
            violations: 3,
            first,
        };
        let outcome = run(&plan, Effort::default(), limits, jobs, &print);
        println!("from {first} on: {:?}", outcome.counts);
        assert!(outcome.violations.is_empty());
        assert!(outcome.counts.distinct >= IMAGES);
    }
}

/// Of each of these numbers of a plan something applies, and a glance finds nothing wrong: the operations explored last.
fn glance(plan: &Plan, numbers: Range<u64>, all: bool) -> HashSet<usize> {
    let (seen, mut stages) = (Seen::default(), Stages::default());
    let mut last = HashSet::new();
    for n in numbers {
        let planned = plan.planned(n);
        let mut explorer = Explorer {
            effort: Effort {
                sampling: Sampling {
                    exhaustive: 0,
                    samples: 1,
                    singles: 0,
                },
                ..Effort::quick()
            },
            seen: &seen,
            counts: Counts::default(),
            only: None,
        };
        let (ops, result) = first_that_applies(&mut explorer, &mut stages, &planned);
        if let Err(violation) = result {
            panic!("{violation}");
        }
        assert!(!all || !ops.is_empty(), "does not apply: {planned:?}");
        last.extend(ops.last().copied());
    }
    last
}

#[test]
fn every_directed_sequence_applies() {
    let plan = Plan::all(6);
    glance(&plan, 0..plan.directed(), true);
}

/// What a summary says of the beginning of the breadth: each operation is met alone, or after the one that it needs.
#[test]
fn the_breadth_meets_every_operation() {
    let plan = Plan::new(5, &[Kind::Lived, Kind::Shattered]);
    let begin = plan.directed();
    let met = glance(&plan, begin..begin + plan.singles(), false);
    let missed: Vec<_> = (0..CATALOG.len()).filter(|n| !met.contains(n)).collect();
    assert!(missed.is_empty(), "never explored: {missed:?}");
}

/// A sequence alone gives the same images each time, and one image of it is had again by its token.
#[test]
fn a_replay_repeats() {
    let ops = [Op::SetAttributes("/foo"), Op::Checkpoint, Op::Touch("/foo")];
    let ops: Vec<_> = ops
        .iter()
        .map(|&op| number(op).expect("in the catalog").to_string())
        .collect();
    let token = format!("lived:95185436217355:0:{}", ops.join("."));
    let (sequence, place, effort) = parse(&token).expect("token");
    assert!(place.is_none());
    let once = replay(&sequence, None, effort);
    let again = replay(&sequence, None, effort);
    assert!(once.violations.is_empty() && once.counts.distinct > 100);
    assert_eq!(once.counts.formed, again.counts.formed);
    assert_eq!(once.counts.distinct, again.counts.distinct);
    for place in ["5.0", "5.0:r4.0", "5.0:w4.0"] {
        let (sequence, place, effort) = parse(&format!("{token}:{place}")).expect("token");
        let one = replay(&sequence, place, effort);
        assert!(one.violations.is_empty());
        assert_eq!(one.counts.distinct, 1, "{place:?}");
    }
    assert!(parse("lived:1:0:9999").is_none() && parse("nowhere:1:0:1").is_none());
}
