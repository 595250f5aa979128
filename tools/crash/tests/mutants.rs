// SPDX-License-Identifier: GPL-2.0

//! The explorer finds bugs: it must notice every ordering that the engine can be told to break.
//!
//! `cargo test --release -p ochre-crash --features mutants --test mutants`

#![cfg(feature = "mutants")]

use ochre::engine::mutant::{choose, Mutant};
use ochre_crash::explore::{parse, Counts, Effort, Explorer, Seen, Violation};
use ochre_crash::mutants::ALL;
use ochre_crash::plan::Plan;
use ochre_crash::run::{first_that_applies, quiet, replay, Stages};
use ochre_crash::stage::Kind;

/// So many numbers of the plan's singles, and twice as many of its mixture, are tried.
const NUMBERS: u64 = 260;

/// The kinds of filesystems that they are tried on.
const KINDS: [Kind; 3] = [Kind::Lived, Kind::Full, Kind::Wrapped];

/// The first violation, and how many images it took.
fn hunt(stages: &mut Stages, effort: Effort) -> (Option<Box<Violation>>, u64) {
    let seen = Seen::default();
    // First those made for a condition, then one operation alone after the other, the mixture between.
    let (all, plan) = (Plan::all(1), Plan::new(1, &KINDS));
    let mixture = plan.directed() + plan.singles();
    let mixed = |n| {
        [
            plan.directed() + 3 * n,
            mixture + 2 * n,
            mixture + 2 * n + 1,
        ]
    };
    let directed = (0..all.directed()).map(|n| all.planned(n));
    let mut images = 0;
    for planned in directed.chain((0..NUMBERS).flat_map(mixed).map(|n| plan.planned(n))) {
        let mut explorer = Explorer {
            effort,
            seen: &seen,
            counts: Counts::default(),
            only: None,
        };
        let (_, result) = first_that_applies(&mut explorer, stages, &planned);
        images += explorer.counts.distinct;
        if let Err(violation) = result {
            return (Some(violation), images);
        }
    }
    (None, images)
}

#[test]
fn every_broken_ordering_is_found() {
    quiet();
    let mut stages = Stages::default();
    let mut missed: Vec<Mutant> = Vec::new();
    // With less of everything: what is broken shows soon. One with all effort, since its states have other numbers.
    let quick = ALL.into_iter().map(|mutant| (mutant, Effort::quick()));
    for (mutant, effort) in quick.chain([(Mutant::CheckpointBack, Effort::default())]) {
        choose(Some(mutant));
        let (found, images) = std::thread::scope(|scope| {
            let hunt = || {
                let (found, images) = hunt(&mut stages, effort);
                // What the line of a violation names is found again.
                if let Some(violation) = &found {
                    let token = violation.token();
                    let (sequence, place, effort) = parse(&token).expect("token");
                    let again = replay(&sequence, place, effort);
                    assert_eq!(again.violations.len(), 1, "{token}");
                    assert_eq!(again.violations[0].token(), token);
                }
                (found, images)
            };
            let thread = std::thread::Builder::new().name("crash-hunt".into());
            let handle = thread.spawn_scoped(scope, hunt).expect("thread");
            handle.join().expect("hunt")
        });
        choose(None);
        match found {
            Some(violation) => {
                println!("{mutant:?} after {images} images: {violation}");
            }
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
