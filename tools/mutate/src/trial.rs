// SPDX-License-Identifier: GPL-2.0

//! The engine on a damaged image: mount, read everything, work, unmount, check; and what must hold meanwhile.
//!
//! * nothing panics, and nothing goes on for ever (the medium counts accesses) or allocates without bound;
//! * what is wrong is said as damage or as a media error, and the filesystem goes read-only;
//! * no mapping and no store of file data leads outside the groups' data;
//! * files that the damage did not touch, and the work did not either, keep every byte ([`touched`]).

mod touched;
mod walk;
mod work;

use crate::base::Base;
use crate::cow::CowMedia;
use crate::damage::{Damage, Mutator};
use crate::image::Kind;
use ochre::engine::error::Error;
use ochre::engine::filesystem::{Filesystem, MountOptions};
use ochre::engine::fsck;
use ochre::engine::types::Ino;
use ochre_sim::seed::Random;
use ochre_testkit::Issues;
use std::collections::BTreeSet;
use walk::World;

/// Accesses that a mount, a walk and the work on a damaged image may take; sound ones take less than a tenth.
const BUDGET: u64 = 3_000_000;
/// Repairs that may follow each other.
const ROUNDS: usize = 3;

/// The longest vector that a base of this size is worth, in bytes.
const MOST_MEMORY: usize = 8 << 20;

/// What came of a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The filesystem does not mount.
    Refused,
    /// An error while all was read.
    Walk,
    /// An error while things were changed.
    Change,
    /// Only the check sees it.
    CheckOnly,
    /// Nobody does: the bytes meant nothing, were data or times, or a copy replaced them.
    Unnoticed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Refused,
        Self::Walk,
        Self::Change,
        Self::CheckOnly,
        Self::Unnoticed,
    ];

    /// As the head of a column.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "mount refused",
            Self::Walk => "error at reading",
            Self::Change => "error at a change",
            Self::CheckOnly => "found by fsck only",
            Self::Unnoticed => "harmless",
        }
    }
}

/// What happened on one image.
#[derive(Debug)]
pub struct Report {
    /// The damages, in order.
    pub damages: Vec<Damage>,
    /// What came of them.
    pub outcome: Outcome,
    /// The first error.
    pub error: Option<Error>,
    /// What must not be.
    pub problems: Vec<String>,
    /// Errors that say something else than damage: operation and error.
    pub odd: Vec<(&'static str, Error)>,
    /// Accesses to the medium.
    pub steps: u64,
}

/// The damages of a seed, done to `media`. One, mostly; sometimes up to three.
pub fn damage(
    base: &Base,
    foreign: &[Vec<u8>],
    media: &CowMedia,
    random: &mut Random,
) -> Vec<Damage> {
    let mutator = Mutator::new(&base.image, foreign);
    let many = match random.below(10) {
        0 => 3,
        1 => 2,
        _ => 1,
    };
    (0..many)
        .map(|_| {
            let damage = mutator.damage(media, random);
            for (address, bytes) in &damage.writes {
                media.damage(*address, bytes);
            }
            damage
        })
        .collect()
}

/// Damages the base by `seed` and tries what there is to try.
pub fn run(base: &Base, foreign: &[Vec<u8>], seed: u64) -> Report {
    let mut random = Random::new(seed);
    let media = base.media(BUDGET);
    let damages = damage(base, foreign, &media, &mut random);
    on(base, damages, &media, &mut random)
}

/// As [`run`], then repairs what is left and checks it again.
pub fn run_and_repair(base: &Base, foreign: &[Vec<u8>], seed: u64) -> Report {
    let mut random = Random::new(seed);
    let media = base.media(BUDGET);
    let damages = damage(base, foreign, &media, &mut random);
    let mut report = on(base, damages, &media, &mut random);
    media.allow(20 * BUDGET);
    if fsck::can_repair(&media) {
        if let Some(problem) = repair(&media) {
            report.problems.push(problem);
        }
    }
    report
}

/// Repairs as `fsck.ochre -y` does, which goes on while a check finds something, three times at most. What is wrong then.
fn repair(media: &CowMedia) -> Option<String> {
    let mut left = String::new();
    for _ in 0..ROUNDS {
        match ochre_testkit::repair(media) {
            Ok(_) => {}
            Err(error) if refusal(&error) => return None,
            Err(error) => return Some(format!("the repair says: {error}")),
        }
        let mut issues = Issues::default();
        let _ = fsck::check(media, fsck::Options::default(), &mut issues);
        left = format!("after the repair: {}", issues.0.first()?);
    }
    Some(left)
}

/// As [`run`], on a medium that is damaged already.
pub fn on(base: &Base, damages: Vec<Damage>, media: &CowMedia, random: &mut Random) -> Report {
    media.allow(BUDGET);
    ochre::platform::set_current_cpu(0);
    ochre::platform::reset_largest_allocation();
    let mut report = Report {
        damages,
        outcome: Outcome::Refused,
        error: None,
        problems: Vec::new(),
        odd: Vec::new(),
        steps: 0,
    };
    let read_only = random.below(10) == 0;
    match Filesystem::mount(media.clone(), &MountOptions { read_only }) {
        Ok(fs) => mounted(base, &fs, media, random, &mut report),
        Err(error) => {
            report.error = Some(error);
            memory(&mut report);
            if !refusal(&error) {
                report.problems.push(format!("the mount says: {error}"));
            }
        }
    }
    report.steps = media.steps();
    if report.steps > BUDGET {
        report.problems.push(format!("{} accesses", report.steps));
    }
    report
}

/// Whether a vector was larger than there is a reason for.
fn memory(report: &mut Report) {
    let largest = ochre::platform::largest_allocation();
    if largest > MOST_MEMORY {
        report
            .problems
            .push(format!("{largest} bytes of memory in one piece"));
    }
}

/// Whether a mount may fail so.
fn refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::Corrupt(_)
            | Error::Io
            | Error::WrongType
            | Error::WrongVersion(_)
            | Error::UnknownFeatures(_)
            | Error::UnfinishedRepair
            | Error::UnknownReadOnlyFeatures(_)
            | Error::DeviceTooSmall { .. }
    )
}

fn mounted(
    base: &Base,
    fs: &Filesystem<CowMedia>,
    media: &CowMedia,
    random: &mut Random,
    report: &mut Report,
) {
    let touched = touched::find(base, media);
    let owners: BTreeSet<Ino> = report.damages.iter().map(|damage| damage.owner).collect();
    let mut world = World::new(fs);
    world.orphans();
    world.walk();
    let at_walk = world.error;
    world.work(&owners, random);
    world.statfs();
    world.forget();
    let at_change = world.error;
    let failed = fs.read_only_error();
    if world.error.is_some() && !failed {
        world
            .problems
            .push("an error of the medium, and the filesystem is still for writing".into());
    }
    let unmount = fs.unmount();
    if let Err(error) = unmount {
        world.problems.push(format!("the unmount says: {error}"));
    }
    let World {
        problems,
        odd,
        modified,
        ..
    } = world;
    report.problems.extend(problems);
    report.odd.extend(odd);
    report.error = at_walk.or(at_change);
    let sound = !report.damages.is_empty() && report.damages.iter().all(|d| d.kind == Kind::Data);
    if let (true, Some(error)) = (sound, report.error) {
        report.problems.push(format!(
            "an error, \"{error}\", though only bytes of files are damaged"
        ));
    }
    report
        .problems
        .extend(touched::changed(base, media, &touched, &modified));
    memory(report);
    media.allow(BUDGET);
    let clean = !failed && !fs.is_read_only();
    let mut issues = Issues::default();
    let checked = fsck::check(media, fsck::Options { unmounted: clean }, &mut issues);
    report.outcome = match (at_walk, at_change, checked) {
        (Some(_), ..) => Outcome::Walk,
        (None, Some(_), _) => Outcome::Change,
        (None, None, Ok(_)) if issues.0.is_empty() => Outcome::Unnoticed,
        _ => Outcome::CheckOnly,
    };
}
