// SPDX-License-Identifier: GPL-2.0

//! One run: open, replay, check, repair, check again, finish orphans.
//!
//! With `-n` all of it happens in memory, above the image: what would be done is found out by doing
//! it there. Orphans are finished at the end and only if nothing is wrong any more: finishing one
//! frees blocks, and in a damaged image these may be someone else's too.

use std::io::{stdin, stdout, IsTerminal};
use std::time::{SystemTime, UNIX_EPOCH};

use ochre::engine::error::Error;
use ochre::engine::filesystem::{Filesystem, MountOptions};
use ochre::engine::fsck::{self, Copy, Issue, Observer, Options, RepairOptions, Summary};
use ochre::engine::media::Media;
use ochre::engine::superblock::{self, SuperInfo};
use ochre::engine::types::Timestamp;
use ochre::platform::log;
use ochre_tools::device::{self, Access};
use ochre_tools::image::{Borrowed, Image};
use ochre_tools::overlay::Overlay;
use ochre_tools::units::show_size;

use crate::output::{Mode, Output};
use crate::{Arguments, CANCELLED, CLEAN, CORRECTED, ERRORS_LEFT};

/// Repairs that follow each other at most; the second finds what the first one uncovered.
const ROUNDS: usize = 3;

/// Checks and repairs, and says with which status to end.
///
/// # Errors
///
/// Why it could not be done.
pub fn run(arguments: &Arguments, output: &mut Output) -> Result<u8, String> {
    let access = if arguments.no {
        Access::ReadExclusive
    } else {
        Access::Write
    };
    let device =
        device::open(&arguments.device, access, None).map_err(|error| error.to_string())?;
    let name = device.path.display().to_string();
    let bad = device.bad_blocks();
    let facts_phase = device.facts.as_ref().and_then(|facts| facts.phase());
    // What the engine would log, the check says better.
    log::set_quiet(true);

    let probe = Image::new(device, 0);
    let info = match superblock::load(&probe) {
        Ok(info) => Some(info),
        // Both copies are damaged: the check names the faults.
        Err(Error::Corrupt(_)) => None,
        Err(Error::WrongType) if fsck::can_repair(&probe) => None,
        Err(error) => return Err(explain(&name, error)),
    };
    let phase = facts_phase.or(info.map(|info| info.phase)).unwrap_or(0);
    let image = probe.with_phase(phase);
    output.identity(&name, info.as_ref());
    output.bad_blocks(&bad);

    let clean = info.is_some_and(|info| info.clean && !info.repairing());
    if arguments.preen && clean && !arguments.force {
        output.skipped();
        return Ok(CLEAN);
    }
    let session = Session {
        name: &name,
        mode: mode(arguments),
        info,
    };
    if arguments.no {
        let overlay = Overlay::new(Borrowed(&image));
        let status = session.all(&overlay, output)?;
        // In the overlay only: nothing was corrected.
        let wrong = output.issues() != 0 || info.is_none_or(|info| info.from_backup);
        return Ok(match status {
            CORRECTED if wrong => ERRORS_LEFT,
            CORRECTED => CLEAN,
            other => other,
        });
    }
    let status = session.all(&image, output)?;
    image
        .finish()
        .map_err(|error| format!("cannot write to {name}: {error}"))?;
    Ok(status)
}

fn mode(arguments: &Arguments) -> Mode {
    if arguments.no {
        Mode::No
    } else if arguments.yes {
        Mode::Yes
    } else if arguments.preen {
        Mode::Preen
    } else if stdin().is_terminal() && stdout().is_terminal() && !arguments.json {
        Mode::Ask
    } else {
        Mode::Nobody
    }
}

/// What the steps have in common.
struct Session<'a> {
    name: &'a str,
    mode: Mode,
    info: Option<SuperInfo>,
}

impl Session<'_> {
    /// Everything, on the image or above it.
    fn all<M: Media>(&self, media: &M, output: &mut Output) -> Result<u8, String> {
        let mut status = CLEAN;
        let mut options = Options::default();
        if let Some(info) = self.info {
            if info.from_backup && !info.repairing() {
                if self.mode == Mode::No {
                    // Recovery restores it from its copy, here in the overlay only.
                    output.issue(&Issue::SuperblockDamaged(Copy::Primary, "cannot be used"));
                } else {
                    output.superblock_restored();
                }
            }
            if !info.clean || info.repairing() {
                match replay(media) {
                    Ok(records) => {
                        output.replayed(records);
                        status = CORRECTED;
                    }
                    Err(error @ (Error::NoMemory | Error::UnknownReadOnlyFeatures(_))) => {
                        return Err(explain(self.name, error));
                    }
                    Err(error) => {
                        // What recovery stumbled over is damage; the check goes on and finds it,
                        // and the repair replays what can be.
                        options.unmounted = false;
                        output.not_replayed(&error);
                    }
                }
            }
        }
        let mut summary = match check(media, options, output) {
            // Nothing that looks like a superblock, and yet there is one.
            Err(Error::WrongType) => Summary::default(),
            other => other.map_err(|error| explain(self.name, error))?,
        };
        let wrong = |summary: &Summary, options: &Options| {
            summary.issues != 0 || !summary.complete || !options.unmounted
        };
        if wrong(&summary, &options) {
            if self.mode == Mode::Nobody {
                output.nobody();
                return Ok(ERRORS_LEFT);
            }
            if self.mode == Mode::Preen && !(summary.complete && output.all_safe()) {
                output.not_safe();
                return Ok(ERRORS_LEFT);
            }
            for _ in 0..ROUNDS {
                match self.repair(media, output)? {
                    CORRECTED => {}
                    other => return Ok(other),
                }
                options = Options::default();
                output.again();
                summary =
                    check(media, options, output).map_err(|error| explain(self.name, error))?;
                if !wrong(&summary, &options) {
                    break;
                }
            }
            if wrong(&summary, &options) {
                return Ok(ERRORS_LEFT);
            }
            status = CORRECTED;
        }
        if summary.orphans != 0 && self.mode != Mode::No {
            finish_orphans(media).map_err(|error| explain(self.name, error))?;
            output.orphans_finished(summary.orphans);
            let again = check(media, Options::default(), output);
            let again = again.map_err(|error| explain(self.name, error))?;
            status = if again.issues == 0 {
                CORRECTED
            } else {
                ERRORS_LEFT
            };
        }
        Ok(status)
    }

    /// One repair: corrected, left, or cancelled.
    fn repair<M: Media>(&self, media: &M, output: &mut Output) -> Result<u8, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
        let options = RepairOptions {
            now: Timestamp(now),
        };
        output.repairing(self.mode);
        match fsck::repair(media, options, output) {
            Ok(outcome) => {
                output.repaired(&outcome);
                Ok(if outcome.cancelled {
                    CANCELLED
                } else if outcome.left != 0 || outcome.refused.is_some() {
                    ERRORS_LEFT
                } else {
                    CORRECTED
                })
            }
            Err(Error::Corrupt(_)) => {
                output.hopeless();
                Ok(ERRORS_LEFT)
            }
            Err(error) => Err(explain(self.name, error)),
        }
    }
}

fn check<M: Media>(media: &M, options: Options, output: &mut Output) -> Result<Summary, Error> {
    let summary = fsck::check(media, options, output)?;
    output.checked(&summary);
    Ok(summary)
}

/// Lets the engine recover, as a mount would; returns the number of records that were replayed.
fn replay<M: Media>(media: &M) -> Result<u64, Error> {
    let filesystem = Filesystem::mount(Borrowed(media), &MountOptions { read_only: false })?;
    let replayed = filesystem.stats().replayed;
    filesystem.unmount()?;
    Ok(replayed)
}

fn finish_orphans<M: Media>(media: &M) -> Result<(), Error> {
    let filesystem = Filesystem::mount(Borrowed(media), &MountOptions { read_only: false })?;
    filesystem.finish_orphans()?;
    filesystem.unmount()
}

fn explain(name: &str, error: Error) -> String {
    match error {
        Error::WrongType => {
            format!("{name} holds no Ochre filesystem; blkid {name} says what it holds")
        }
        Error::WrongVersion(_) | Error::UnknownFeatures(_) | Error::UnknownReadOnlyFeatures(_) => {
            format!("{name}: {error}; use the tools of the version that made it")
        }
        Error::DeviceTooSmall { filesystem, device } => format!(
            "{name} has {}, but its filesystem has {}; if this is a copy, make it again whole",
            show_size(device.saturating_mul(4096)),
            show_size(filesystem.saturating_mul(4096))
        ),
        other => format!("{name}: {other}"),
    }
}
