// SPDX-License-Identifier: GPL-2.0

//! Random sequences of calls, on the engine and on a model in a hash map: every result and, at the end and after each
//! remount, every name, attribute and byte is the same.
//!
//! A failing sequence is printed, shrunk, with its seed. `PROPTEST_CASES` sets how many sequences are tried.

#[path = "model/op.rs"]
mod op;
#[path = "model/shift.rs"]
mod shift;
#[path = "model/sound.rs"]
mod sound;
#[path = "model/tree.rs"]
mod tree;
#[path = "model/world.rs"]
mod world;

use op::op;
use proptest::prelude::*;
use world::World;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn engine_equals_model(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new(|image| image.clone());
        for op in &ops {
            world.apply(op);
        }
        // As if the machine went down here, with all its stores in the medium.
        world.compare_image(world.fs().media().snapshot());
        world.remount();
    }
}
