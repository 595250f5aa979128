// SPDX-License-Identifier: GPL-2.0

//! A repair that is stopped after any store, and begun again, comes to the same end.

use super::*;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use ochre::engine::error::Result;
use ochre::engine::fsck::{Class, RepairOptions, Repairer};
use ochre_mutate::base::{self, PLENTY};
use ochre_mutate::cow::CowMedia;
use ochre_mutate::damage::Mutator;
use ochre_mutate::image::Kind;
use ochre_sim::seed::{seed, Random};

/// A medium on which the stores after the first `left` words do not happen any more.
#[derive(Clone)]
struct Stopping {
    under: CowMedia,
    left: Arc<AtomicU64>,
    stored: Arc<AtomicU64>,
}

impl Stopping {
    fn new(under: CowMedia, left: u64) -> Self {
        Self {
            under,
            left: Arc::new(AtomicU64::new(left)),
            stored: Arc::default(),
        }
    }

    /// How many of `words` words are still stored.
    fn take(&self, words: u64) -> u64 {
        self.stored.fetch_add(words, Ordering::Relaxed);
        let left = self.left.load(Ordering::Relaxed);
        let take = left.min(words);
        self.left.store(left - take, Ordering::Relaxed);
        take
    }
}

impl Media for Stopping {
    ochre::stores_are_immediate!();

    fn size(&self) -> u64 {
        self.under.size()
    }
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        self.under.read(address, buffer)
    }
    fn read_u64(&self, address: u64) -> Result<u64> {
        self.under.read_u64(address)
    }
    fn store(&self, address: u64, bytes: &[u8]) {
        let take = self.take(bytes.len() as u64 / 8) as usize * 8;
        if take != 0 {
            self.under.store(address, &bytes[..take]);
        }
    }
    fn zero(&self, address: u64, len: u64) {
        let take = self.take(len / 8) * 8;
        if take != 0 {
            self.under.zero(address, take);
        }
    }
    fn phase(&self) -> u64 {
        self.under.phase()
    }
}

/// What a repair that was not interrupted makes of the image.
fn expected(damaged: &CowMedia) -> Option<(Files, u64)> {
    let media = Stopping::new(damaged.snapshot(), u64::MAX);
    let stored = media.stored.clone();
    let (_, outcome) = repair(&media).ok()?;
    assert_eq!(outcome.left, 0);
    let files = contents(media).expect("a repaired image");
    Some((files, stored.load(Ordering::Relaxed)))
}

#[test]
fn stopped_anywhere() {
    let seed = seed("stopped_anywhere");
    let mut random = Random::new(seed);
    let base = base::everything();
    let foreign = base::foreign();
    let mutator = Mutator::new(&base.sound, &foreign);
    let mut stops = 0;
    for case in 0..cases(25) {
        let damaged = CowMedia::new(&base.mounted, PLENTY);
        let mut damages = Vec::new();
        for _ in 0..=random.below(3) {
            let damage = mutator.damage(&damaged, &mut random);
            // Of two superblocks with right checksums, one of them wrong, a store that is torn may
            // destroy the better one.
            if matches!(damage.kind, Kind::Superblock | Kind::SuperblockCopy) {
                continue;
            }
            for (address, bytes) in &damage.writes {
                damaged.damage(*address, bytes);
            }
            damages.push(damage.text);
        }
        let Some((files, stores)) = expected(&damaged) else {
            continue;
        };
        for _ in 0..12 {
            let stop = random.below(stores.max(1));
            let what = format!("case {case}: {damages:?} stopped after {stop} of {stores} words");
            let media = damaged.snapshot();
            let _ = repair(&Stopping::new(media.clone(), stop));
            // A second one is stopped as well.
            let _ = repair(&Stopping::new(media.clone(), random.below(stores.max(1))));
            let (actions, outcome) = repair(&media).expect("a repair");
            assert_eq!(outcome.left, 0, "{what}");
            assert_eq!(issues_of(&media, true), [], "{what}: after {actions:?}");
            let found = contents(media).expect("a repaired image");
            assert_eq!(found.len(), files.len(), "{what}: after {actions:?}");
            for (ino, item) in &files {
                let found = found.get(ino).unwrap_or_else(|| panic!("{what}: {item:?}"));
                assert_eq!(
                    (found.kind, found.size, found.bytes),
                    (item.kind, item.size, item.bytes),
                    "{what}: inode {ino}"
                );
            }
            stops += 1;
        }
    }
    println!("stopped_anywhere: {stops} repairs stopped twice");
}

#[test]
fn nothing_mounts_what_is_half_repaired() {
    let base = base::everything();
    let damaged = CowMedia::new(&base.mounted, PLENTY);
    // A link count: the last but one step.
    let known = &base.sound.inodes[&2];
    damaged.damage(known.address + 28, &[7]);
    let (_, stores) = expected(&damaged).expect("a repair");
    let mut refused = 0;
    for stop in 0..stores {
        let media = damaged.snapshot();
        let _ = repair(&Stopping::new(media.clone(), stop));
        let options = MountOptions { read_only: true };
        match Filesystem::mount(media.clone(), &options) {
            Err(Error::UnfinishedRepair) => {
                refused += 1;
                if let Ok(issues) = std::panic::catch_unwind(|| issues_of(&media, false)) {
                    assert!(issues.contains(&Issue::UnfinishedRepair), "{issues:?}");
                }
            }
            Ok(_) => {}
            Err(error) => panic!("stopped after {stop} words: {error}"),
        }
    }
    assert!(refused > stores / 4, "{refused} of {stores}");
}

/// Refuses a step, or stops before it.
struct Until {
    class: Class,
    stop: bool,
    asked: Vec<Class>,
    steps: u32,
}

impl Repairer for Until {
    fn approve(&mut self, class: Class, _first: &Action) -> bool {
        self.asked.push(class);
        self.stop || class < self.class
    }

    fn action(&mut self, action: &Action) {
        assert!(self.stop || action.class() < self.class, "{action}");
        assert!(self.asked.contains(&action.class()), "{action}");
    }

    fn cancelled(&mut self) -> bool {
        self.steps += 1;
        self.stop && self.steps >= self.class as u32
    }
}

#[test]
fn refused_and_cancelled() {
    let seed = seed("refused_and_cancelled");
    let mut random = Random::new(seed);
    let base = base::everything();
    let mutator = Mutator::new(&base.sound, &[]);
    let classes = [
        Class::Superblock,
        Class::Groups,
        Class::Inodes,
        Class::Contents,
        Class::Directories,
        Class::Links,
        Class::Space,
    ];
    for case in 0..cases(60) {
        let media = CowMedia::new(&base.mounted, PLENTY);
        let mut damages = Vec::new();
        for _ in 0..3 {
            let damage = mutator.damage(&media, &mut random);
            if matches!(damage.kind, Kind::Superblock | Kind::SuperblockCopy) {
                continue;
            }
            for (address, bytes) in &damage.writes {
                media.damage(*address, bytes);
            }
            damages.push(damage.text);
        }
        let what = format!("case {case}: {damages:?}");
        let class = classes[usize::try_from(random.below(7)).expect("small")];
        let stop = random.below(2) == 0;
        let mut until = Until {
            class,
            stop,
            asked: Vec::new(),
            steps: 0,
        };
        let options = RepairOptions::default();
        let outcome = fsck::repair(&media, options, &mut until).expect("a repair");
        let mut once = until.asked.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), until.asked.len(), "{what}: {:?}", until.asked);
        let mount = Filesystem::mount(media.clone(), &MountOptions { read_only: true });
        if stop {
            assert!(outcome.cancelled && outcome.refused.is_none(), "{what}");
            assert_eq!(mount.err(), Some(Error::UnfinishedRepair), "{what}");
        } else {
            assert!(!outcome.cancelled, "{what}");
            let refused = until.asked.last().filter(|&&last| last >= class);
            assert_eq!(outcome.refused.as_ref(), refused, "{what}");
            assert_ne!(mount.err(), Some(Error::UnfinishedRepair), "{what}");
        }
        let (actions, outcome) = repair(&media).expect("a repair");
        assert_eq!(outcome.left, 0, "{what}");
        assert_eq!(issues_of(&media, true), [], "{what}: after {actions:?}");
    }
}
