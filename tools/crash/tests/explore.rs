// SPDX-License-Identifier: GPL-2.0

//! A bounded share of what `make crash` does.

#![cfg(not(feature = "mutants"))]

use ochre_crash::explore::{parse, Counts, Effort, Violation};
use ochre_crash::op::{number, Op};
use ochre_crash::plan::Plan;
use ochre_crash::run::{replay, run, Limits};
use ochre_sim::seed::seed;

const IMAGES: u64 = 50_000;

#[test]
fn no_cut_leaves_what_the_model_does_not_allow() {
    let seed = seed("no_cut_leaves_what_the_model_does_not_allow") >> 8;
    let limits = Limits {
        images: Some(IMAGES),
        time: None,
        violations: 3,
        first: seed % 4000,
    };
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let print = |_: &Counts, violation: Option<&Violation>| {
        if let Some(violation) = violation {
            println!("{violation}");
        }
    };
    let outcome = run(&Plan::all(seed), Effort::default(), limits, jobs, &print);
    println!("{:?}", outcome.counts);
    assert!(outcome.violations.is_empty());
    assert!(outcome.counts.distinct >= IMAGES);
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
