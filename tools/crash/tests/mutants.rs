// SPDX-License-Identifier: GPL-2.0

//! The explorer finds bugs: it must notice every ordering that the engine can be told to break.
//!
//! `cargo test --release -p ochre-crash --features mutants --test mutants`

#![cfg(feature = "mutants")]

use ochre::engine::mutant::{choose, Mutant};
use ochre_crash::explore::{Counts, Effort, Explorer, Seen, Violation};
use ochre_crash::mutants::ALL;
use ochre_crash::plan::{Plan, DIRECTED};
use ochre_crash::run::{quiet, Stages};
use ochre_crash::stage::Kind;

/// Sequences of the plan's systematic part and beyond that are tried.
const SEQUENCES: u64 = 260;

/// The first violation, and how many images it took.
fn hunt(stages: &mut Stages, plan: &Plan, only: Option<u64>) -> (Option<Box<Violation>>, Counts) {
    let mut seen = Seen::default();
    let mut explorer = Explorer {
        // Less of everything: what is broken shows soon.
        effort: Effort::quick(),
        seen: &mut seen,
        counts: Counts::default(),
        only: None,
    };
    // First those made for a condition, then pairs at once, then one operation alone after the other.
    let directed = DIRECTED.len() as u64;
    let order = (0..directed).chain((0..SEQUENCES).flat_map(|n| [directed + 3 * n, 2000 + n]));
    for number in order.filter(|n| only.is_none_or(|only| only == *n)) {
        let sequence = plan.sequence(number);
        let stage = stages.get(sequence.kind).expect("stage");
        if let Err(violation) = explorer.run(stage, &sequence) {
            return (Some(violation), explorer.counts);
        }
    }
    (None, explorer.counts)
}

#[test]
fn every_broken_ordering_is_found() {
    quiet();
    let mut stages = Stages::default();
    let plan = Plan::new(1, &[Kind::Lived, Kind::Full, Kind::Wrapped]);
    let mut missed: Vec<Mutant> = Vec::new();
    for mutant in ALL {
        choose(Some(mutant));
        let (found, counts) = std::thread::scope(|scope| {
            let hunt = || hunt(&mut stages, &plan, None);
            let thread = std::thread::Builder::new().name("crash-hunt".into());
            let handle = thread.spawn_scoped(scope, hunt).expect("thread");
            handle.join().expect("hunt")
        });
        choose(None);
        match found {
            Some(violation) => {
                println!("{mutant:?} after {} images: {violation}", counts.distinct);
            }
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
