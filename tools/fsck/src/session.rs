// SPDX-License-Identifier: GPL-2.0

//! One run: open, replay, check, finish orphans.
//!
//! Orphans are finished after the check and only if it found nothing: finishing one frees blocks,
//! and in a damaged image these may be someone else's too.

use ochre::engine::error::Error;
use ochre::engine::filesystem::{Filesystem, MountOptions};
use ochre::engine::fsck::{self, Copy, Issue, Observer, Options, Summary};
use ochre::engine::media::Media;
use ochre::engine::superblock;
use ochre::platform::log;
use ochre_tools::device::{self, Access};
use ochre_tools::image::{Borrowed, Image};
use ochre_tools::overlay::Overlay;
use ochre_tools::units::show_size;

use crate::output::Output;
use crate::{Arguments, CLEAN, CORRECTED, ERRORS_LEFT};

/// Checks, and says with which status to end.
///
/// # Errors
///
/// Why the check could not be made.
pub fn run(arguments: &Arguments, output: &mut Output) -> Result<u8, String> {
    let access = if arguments.no {
        Access::ReadExclusive
    } else {
        Access::Write
    };
    let device =
        device::open(&arguments.device, access, None).map_err(|error| error.to_string())?;
    let name = device.path.display().to_string();
    let facts_phase = device.facts.as_ref().and_then(|facts| facts.phase());
    // What the engine would log, the check says better.
    log::set_quiet(true);

    let probe = Image::new(device, 0);
    let info = match superblock::load(&probe) {
        Ok(info) => Some(info),
        // Both copies are damaged: the check names the faults.
        Err(Error::Corrupt(_)) => None,
        Err(error) => return Err(explain(&name, error)),
    };
    let phase = facts_phase.or(info.map(|info| info.phase)).unwrap_or(0);
    let image = probe.with_phase(phase);
    let Some(info) = info else {
        check(&image, Options::default(), output).map_err(|error| explain(&name, error))?;
        return Ok(ERRORS_LEFT);
    };
    output.identity(&name, &info);

    if arguments.preen && info.clean && !arguments.force {
        output.skipped();
        return Ok(CLEAN);
    }
    if arguments.no {
        if info.from_backup {
            // Recovery restores it from its copy, here in the overlay only.
            output.issue(&Issue::SuperblockDamaged(Copy::Primary, "cannot be used"));
        }
        let overlay = Overlay::new(Borrowed(&image));
        let (status, _) = recover_and_check(&name, &overlay, info.clean, output)?;
        return Ok(match status {
            _ if info.from_backup => ERRORS_LEFT,
            // In the overlay only: nothing was corrected.
            CORRECTED => CLEAN,
            other => other,
        });
    }
    if info.from_backup {
        output.superblock_restored();
    }
    let (mut status, summary) = recover_and_check(&name, &image, info.clean, output)?;
    if status != ERRORS_LEFT && summary.orphans != 0 {
        finish_orphans(&image).map_err(|error| explain(&name, error))?;
        output.orphans_finished(summary.orphans);
        let again = check(&image, Options::default(), output);
        let again = again.map_err(|error| explain(&name, error))?;
        status = if again.issues == 0 {
            CORRECTED
        } else {
            ERRORS_LEFT
        };
    }
    image
        .finish()
        .map_err(|error| format!("cannot write to {name}: {error}"))?;
    Ok(status)
}

/// Replays the journal if the filesystem was not unmounted, then checks.
fn recover_and_check<M: Media>(
    name: &str,
    media: &M,
    clean: bool,
    output: &mut Output,
) -> Result<(u8, Summary), String> {
    let mut options = Options::default();
    let mut replayed = None;
    if !clean {
        match replay(media) {
            Ok(records) => {
                replayed = Some(records);
                output.replayed(records);
            }
            Err(error @ (Error::NoMemory | Error::UnknownReadOnlyFeatures(_))) => {
                return Err(explain(name, error));
            }
            Err(error) => {
                // What recovery stumbled over is damage; the check goes on and finds it.
                options.unmounted = false;
                output.not_replayed(&error);
            }
        }
    }
    let summary = check(media, options, output).map_err(|error| explain(name, error))?;
    let status = if summary.issues != 0 || !options.unmounted {
        ERRORS_LEFT
    } else if replayed.is_some() {
        CORRECTED
    } else {
        CLEAN
    };
    Ok((status, summary))
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
