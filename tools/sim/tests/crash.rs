// SPDX-License-Identifier: GPL-2.0

//! Random sequences of calls on a medium that knows which stores have reached it.
//!
//! After each call, every image that a power cut may leave recovers to exactly what the model says: the call is there,
//! whole, and so are all before it. At fences within calls, images recover to something that the check finds sound.

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

use ochre_sim::seed::Random;
use ochre_sim::SimMedia;
use op::op;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use world::World;

/// Images after each call.
const AFTER: usize = 3;
/// Images at a fence within a call.
const WITHIN: usize = 2;
/// One fence in so many is looked at.
const STRIDE: u64 = 7;

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_returned_from_is_there(ops in prop::collection::vec(op(), 1..40), seed in any::<u64>()) {
        let mut world = World::new(SimMedia::new);
        let mut random = Random::new(seed);
        let mut count = seed % STRIDE;
        for op in &ops {
            let mut inner = Random::new(random.next());
            let from = count;
            let mut fences = from;
            let images = Arc::new(Mutex::new(Vec::new()));
            let kept = Arc::clone(&images);
            world.fs().media().on_fence(Some(Box::new(move |media| {
                fences += 1;
                if fences % STRIDE == 0 {
                    // Only taken here, under the engine's locks; looked at afterwards.
                    kept.lock().expect("images").extend(media.crash_images(&mut inner, WITHIN));
                }
            })));
            let before = world.fs().media().counts().fences;
            world.apply(op);
            let media = world.fs().media().clone();
            media.on_fence(None);
            count = from + media.counts().fences - before;
            for image in images.lock().expect("images").drain(..) {
                world::finish(world::recovered(image));
            }
            for image in media.crash_images(&mut random, AFTER) {
                world.compare_image(image);
            }
        }
    }
}
