// SPDX-License-Identifier: GPL-2.0

//! Whatever the image holds, the check ends, without a panic, and with an answer.
//!
//! `OCHRE_SEED` repeats a run.

use ochre::engine::error::Error;
use ochre::engine::fsck::{self, Options};
use ochre::engine::types::{Block, Ino};
use ochre_sim::seed::{seed, Random};
use ochre_testkit::{sample, Issues, Sample};

/// Interesting values for a field.
const VALUES: [u64; 8] = [
    0,
    1,
    2,
    0x7fff_ffff,
    u32::MAX as u64,
    1 << 44,
    u64::MAX / 2,
    u64::MAX,
];

fn value(random: &mut Random) -> u64 {
    match random.below(3) {
        0 => VALUES[usize::try_from(random.below(8)).expect("small")],
        1 => random.below(70_000),
        _ => random.next(),
    }
}

/// Inodes with one of each kind of content.
fn inodes(sample: &Sample) -> [Ino; 10] {
    [
        sample.root,
        sample.file,
        sample.sparse,
        sample.big,
        sample.sub,
        sample.deep,
        sample.short_link,
        sample.long_link,
        sample.device,
        sample.orphan,
    ]
}

/// Damages something of `sample`, whose places are those of `whole`; checksums are made right again, so that what lies behind them is reached.
fn damage(whole: &Sample, sample: &Sample, random: &mut Random) {
    let geometry = &sample.info.geometry;
    let nodes = [
        whole.tree_root(sample.sparse),
        whole.child(whole.tree_root(sample.sparse), 1),
        whole.tree_root(sample.big),
        whole.child(whole.tree_root(sample.big), 0),
        whole.tree_root(sample.root),
        whole.tree_root(sample.long_link),
    ];
    let random_value = value(random);
    match random.below(6) {
        0 => {
            let inodes = inodes(whole);
            let ino = inodes[usize::try_from(random.below(10)).expect("small")];
            let at = usize::try_from(random.below(32) * 8).expect("small");
            sample.edit_at(whole.record_address(ino), |record| {
                let bytes = zerocopy::IntoBytes::as_mut_bytes(record);
                bytes[at..at + 8].copy_from_slice(&random_value.to_le_bytes());
            });
        }
        1 | 2 => {
            let node = nodes[usize::try_from(random.below(6)).expect("small")];
            let small = random.below(2) == 0;
            let at =
                usize::try_from(random.below(if small { 12 } else { 512 }) * 8).expect("small");
            let width = [1, 2, 8][usize::try_from(random.below(3)).expect("small")];
            sample.edit_node(node, |bytes| {
                bytes[at..at + width].copy_from_slice(&random_value.to_le_bytes()[..width]);
            });
        }
        3 => {
            // The chunk map, with its check value.
            let chunk = u32::try_from(random.below(8)).expect("small");
            let entry = geometry.chunk_entry(0, chunk);
            let start = u32::try_from(random.below(20_000)).expect("small");
            sample.media.damage(entry, &start.to_le_bytes());
            sample
                .media
                .damage(entry + 4, &sample.keys.chunk(0, chunk, start).to_le_bytes());
        }
        4 => {
            // Words that no checksum covers: group header, bitmap, orphan table, superblock state.
            let places = [
                geometry.ag_base(0).address() + 64 + random.below(3) * 8,
                geometry.bitmap_word(0, random.below(1 << 18)),
                geometry.orphan_slot(u32::try_from(random.below(64)).expect("small")),
                448,
            ];
            let place = places[usize::try_from(random.below(4)).expect("small")];
            sample.put_u64(place, random_value);
        }
        _ => {
            // Bytes anywhere in the first blocks of the data, and in the superblock.
            let block = match random.below(8) {
                0 => Block(0),
                _ => geometry.ag_base(0).plus(512 + random.below(600)),
            };
            sample.flip(block.address() + random.below(4096), 3);
        }
    }
}

#[test]
fn damaged_images_are_checked_to_the_end() {
    let seed = seed("damaged_images_are_checked_to_the_end");
    let mut random = Random::new(seed);
    let whole = sample();
    let mut found = 0;
    for _ in 0..1500 {
        let sample = Sample {
            media: whole.media.snapshot(),
            ..sample_like(&whole)
        };
        for _ in 0..=random.below(4) {
            damage(&whole, &sample, &mut random);
        }
        for unmounted in [true, false] {
            let mut issues = Issues::default();
            match fsck::check(&sample.media, Options { unmounted }, &mut issues) {
                Ok(summary) => {
                    assert_eq!(summary.issues, issues.0.len() as u64);
                    for issue in &issues.0 {
                        assert!(!issue.to_string().is_empty() && !issue.name().is_empty());
                    }
                    found += usize::from(!issues.0.is_empty());
                }
                Err(error) => assert_ne!(error, Error::NoMemory),
            }
        }
    }
    assert!(found > 2000, "{found} of 3000 checks found something");
}

/// All but the medium of a sample.
fn sample_like(whole: &Sample) -> Sample {
    let keys = ochre::engine::checksum::Keys::new(whole.info.secret).expect("memory");
    Sample {
        media: whole.media.clone(),
        keys,
        ..*whole
    }
}
