// SPDX-License-Identifier: GPL-2.0

//! A bounded share of what `make crash` does.

#![cfg(not(feature = "mutants"))]

use ochre_crash::explore::{parse, Counts, Effort, Violation};
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

/// One image of a sequence again is that image, and the sequence alone gives the same images each time.
#[test]
fn a_replay_repeats() {
    let token = "lived:95185436217355:0:93.98.96";
    let (sequence, place, _) = parse(token).expect("token");
    assert!(place.is_none());
    let once = replay(&sequence, None, Effort::default());
    let again = replay(&sequence, None, Effort::default());
    assert!(once.violations.is_empty() && once.counts.distinct > 100);
    assert_eq!(once.counts.formed, again.counts.formed);
    assert_eq!(once.counts.distinct, again.counts.distinct);
    for place in ["13.0", "5.0:w8.12"] {
        let (sequence, place, _) = parse(&format!("{token}:{place}")).expect("token");
        let one = replay(&sequence, place, Effort::default());
        assert!(one.violations.is_empty());
        assert!(one.counts.distinct >= 1);
    }
}
