// SPDX-License-Identifier: GPL-2.0

//! Whatever is on the medium: no panic, no endless loop, no memory without bound, no other file's bytes lost; and what is repaired is whole.
//!
//! This is the small share of what `make fuzz` does. `OCHRE_SEED` repeats a run.

use ochre_mutate::base;
use ochre_mutate::runner::{run, Limits};
use ochre_sim::seed::seed;
use std::time::Duration;

#[test]
fn damaged_images_do_no_harm() {
    let limits = Limits {
        images: 5000,
        time: Duration::from_secs(20),
        threads: 2,
        seed: seed("damaged_images_do_no_harm") >> 16,
        repair: true,
    };
    let bases = [base::everything(), base::dirty(), base::groups()];
    let tally = run(&bases, &base::foreign(), &limits);
    println!("{} images from {} on", tally.images, limits.seed);
    let first: Vec<&String> = tally.failures.iter().take(10).collect();
    assert!(first.is_empty(), "{first:#?}");
    assert!(tally.images > 100, "far too slow");
}
