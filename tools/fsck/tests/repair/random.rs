// SPDX-License-Identifier: GPL-2.0

//! Several damages at once, of every structure, with checksums made right again.

use super::*;

use ochre_mutate::base::{self, Base, PLENTY};
use ochre_mutate::cow::CowMedia;
use ochre_mutate::damage::{Damage, Mutator};
use ochre_mutate::image::Kind;
use ochre_sim::seed::{seed, Random};

/// Accesses that a repair of a small image never needs.
const BUDGET: u64 = 1 << 26;

/// Damages a copy of the base; returns it, what was done, and the inodes that it was done to.
fn damaged(
    base: &Base,
    foreign: &[Vec<u8>],
    random: &mut Random,
) -> (CowMedia, Vec<Damage>, BTreeSet<u64>) {
    let media = CowMedia::new(&base.mounted, BUDGET);
    let mutator = Mutator::new(&base.sound, foreign);
    let mut damages = Vec::new();
    let mut touched = BTreeSet::new();
    for _ in 0..=random.below(5) {
        let damage = mutator.damage(&media, random);
        for (address, bytes) in &damage.writes {
            media.damage(*address, bytes);
        }
        touched.insert(damage.owner.0);
        if matches!(damage.kind, Kind::Record | Kind::Checkpoint) {
            // A forged record or checkpoint may put back any old state of anything.
            touched.extend(base.sound.inodes.keys());
        }
        damages.push(damage);
    }
    let hit = |kind| damages.iter().any(|damage: &Damage| damage.kind == kind);
    if hit(Kind::Superblock) && hit(Kind::SuperblockCopy) {
        // Identity and keys may be gone, under a right checksum: then nothing can be told.
        touched.extend(base.sound.inodes.keys());
    }
    if hit(Kind::GroupCounts) && hit(Kind::ChunkEntry) {
        // The last chunk is found neither by its entry nor by the count.
        touched.extend(base.sound.inodes.keys());
    }
    (media, damages, touched)
}

fn run(base: &Base, test: &str, default: u64) {
    let seed = seed(test);
    let foreign = base::foreign();
    let before = contents(CowMedia::new(&base.mounted, PLENTY)).expect("a sound image");
    let cases = cases(default);
    let (mut repaired, mut hopeless) = (0, 0);
    for case in 0..cases {
        let mut random = Random::new(seed ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (media, damages, touched) = damaged(base, &foreign, &mut random);
        let text: Vec<_> = damages.iter().map(|damage| damage.text.clone()).collect();
        let what = format!("case {case}: {text:?}");
        match repair_and_check(&media, &before, &touched, &what) {
            Some((_, outcome)) => {
                assert_eq!(outcome.left, 0, "{what}");
                repaired += 1;
            }
            None => {
                let superblock = |damage: &Damage| {
                    matches!(damage.kind, Kind::Superblock | Kind::SuperblockCopy)
                };
                assert!(damages.iter().any(superblock), "{what}");
                hopeless += 1;
            }
        }
    }
    println!("{test}: {cases} cases, {repaired} repaired, {hopeless} without a superblock");
    assert!(hopeless * 4 < cases.max(20));
}

#[test]
fn one_group_with_everything() {
    run(&base::everything(), "one_group_with_everything", 300);
}

#[test]
fn several_groups() {
    run(&base::groups(), "several_groups", 40);
}

#[test]
fn large_trees() {
    run(&base::deep(), "large_trees", 15);
}
