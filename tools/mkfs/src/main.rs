// SPDX-License-Identifier: GPL-2.0

//! `mkfs.ochre`: makes an Ochre filesystem on a persistent memory device or in an image file.
//!
//! What is here is what surrounds the engine's own mkfs: whether the device may be overwritten at
//! all ([`occupied`]), where it lies in physical memory, identity and secrets, and what a person
//! gets to see.

mod bad;
mod occupied;
mod summary;

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use ochre::engine::error::Error;
use ochre::engine::format::superblock::LABEL_LEN;
use ochre::engine::mkfs::{mkfs, MkfsOptions};
use ochre::engine::types::Timestamp;
use ochre_tools::device::{self, Access, Device};
use ochre_tools::image::Image;
use ochre_tools::units::{parse_size, show_size};
use uuid::Uuid;

/// Exit status for wrong usage.
const USAGE: u8 = 16;
/// Exit status for everything that went wrong.
const FAILED: u8 = 1;

/// Make an Ochre filesystem on a persistent memory device or in an image file.
#[derive(Parser)]
#[command(
    name = "mkfs.ochre",
    bin_name = "mkfs.ochre",
    version,
    disable_version_flag = true,
    after_help = "Examples:\n  \
        mkfs.ochre /dev/pmem0              on a persistent memory device in fsdax mode\n  \
        mkfs.ochre -L data /dev/pmem0p1    on a partition, with a label\n  \
        mkfs.ochre -s 1G test.img          in a new image file of 1 GiB"
)]
struct Arguments {
    /// Block device (such as /dev/pmem0) or image file
    #[arg(value_name = "DEVICE")]
    device: PathBuf,

    /// Overwrite another filesystem, or format what Linux cannot map
    #[arg(short, long)]
    force: bool,

    /// Volume label, at most 32 bytes
    #[arg(short = 'L', long, value_name = "LABEL", value_parser = parse_label)]
    label: Option<String>,

    /// Identity of the filesystem; a random one if not given
    #[arg(short = 'U', long, value_name = "UUID")]
    uuid: Option<Uuid>,

    /// Make the image file, or extend it to this size (512M, 2G, …)
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,

    /// Journal lanes: a power of 2 from 4 to 64; chosen by size if not given
    #[arg(long, value_name = "N", value_parser = parse_lanes)]
    lanes: Option<u32>,

    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,

    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

fn parse_label(text: &str) -> Result<String, String> {
    if text.len() > LABEL_LEN {
        return Err(format!(
            "{} bytes are too long: at most {LABEL_LEN}",
            text.len()
        ));
    }
    Ok(text.to_owned())
}

fn parse_lanes(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(lanes) if (4..=64).contains(&lanes) && lanes.is_power_of_two() => Ok(lanes),
        _ => Err("give 4, 8, 16, 32 or 64".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments: Arguments = match ochre_tools::arguments(USAGE) {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => ochre_tools::fail("mkfs.ochre", FAILED, message),
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let path = &arguments.device;
    let is_new = !path.exists();
    if is_new && path.starts_with("/dev") && arguments.size.is_some() {
        // A mistyped device must not become a file in a memory filesystem.
        return Err(device::Refusal::Missing(path.clone()).to_string());
    }
    let device =
        device::open(path, Access::Write, arguments.size).map_err(|refusal| match refusal {
            device::Refusal::Missing(path) => format!(
                "{} does not exist; check the name, or make an image file with --size",
                path.display()
            ),
            other => other.to_string(),
        })?;
    let result = format(arguments, device);
    if result.is_err() && is_new {
        // Nothing that was not there before stays behind.
        let _ = std::fs::remove_file(path);
    }
    result
}

fn format(arguments: &Arguments, device: Device) -> Result<(), String> {
    let name = device.path.display().to_string();
    if device.is_block && arguments.size.is_some() {
        return Err(format!(
            "--size is for image files, and {name} is a block device"
        ));
    }
    if let Some(problem) = device::not_mappable(&device) {
        if !arguments.force {
            return Err(problem);
        }
        ochre_tools::complain("mkfs.ochre: warning", problem);
    }
    let phase = phase_of(&device, &name);
    let found = occupied::find(&device).map_err(|error| {
        let bad = match device.bad_blocks().len() {
            0 => "",
            _ => " (the device lists bad blocks; ndctl clear-errors may cure them)",
        };
        format!("cannot read {name}: {error}{bad}")
    })?;
    if !arguments.force {
        if let Some(what) = found.first() {
            return Err(format!(
                "{name} holds {}; use -f to overwrite it",
                what.what
            ));
        }
    }
    let size = device.size;
    let old = occupied::places(&found, size);
    let eraser = device
        .file
        .try_clone()
        .map_err(|error| format!("{name}: {error}"))?;

    let options = options(arguments, size, phase)?;
    // A device that is too small or too large is refused below.
    let bad = match options.geometry() {
        Some(geometry) => bad::look(&device, &geometry)?,
        None => 0,
    };
    let image = Image::new(device, phase);
    for place in &old {
        let zeros = [0; 4096];
        let len = usize::try_from((size - place).min(4096)).unwrap_or(0);
        let written = eraser.write_all_at(&zeros[..len], *place);
        written.map_err(|error| format!("cannot write to {name}: {error}"))?;
    }
    drop(eraser);
    let progress = |_done, _total| {};
    let info = mkfs(&image, &options, progress).map_err(|error| explain(&name, size, error))?;
    image
        .finish()
        .map_err(|error| format!("cannot write to {name}: {error}"))?;
    if !arguments.quiet {
        let mut text = summary::text(&name, &info);
        if bad != 0 {
            text += &format!("{bad} bad blocks of 4 KiB are left out\n");
        }
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
    Ok(())
}

/// Where the device starts in physical memory, modulo 2 MiB; an image file is taken to be aligned.
fn phase_of(device: &Device, name: &str) -> u64 {
    let Some(facts) = &device.facts else { return 0 };
    if facts.dax && facts.phase().is_none() {
        let text = format!(
            "the physical address of {name} is not known; files get 2 MiB pages only if it is a \
             multiple of 2 MiB"
        );
        ochre_tools::complain("mkfs.ochre: warning", text);
    }
    facts.phase().unwrap_or(0)
}

fn options(arguments: &Arguments, size: u64, phase: u64) -> Result<MkfsOptions, String> {
    let mut random = [0; 48];
    getrandom::fill(&mut random).map_err(|error| format!("no random numbers: {error}"))?;
    let word = |index: usize| {
        let bytes = random[index * 8..].first_chunk::<8>();
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let uuid = arguments.uuid.unwrap_or_else(|| {
        let bytes = random[32..]
            .first_chunk::<16>()
            .copied()
            .unwrap_or_default();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    });
    let mut label = [0; LABEL_LEN];
    let text = arguments.label.as_deref().unwrap_or_default();
    label[..text.len()].copy_from_slice(text.as_bytes());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(MkfsOptions {
        size,
        phase,
        uuid: uuid.into_bytes(),
        label,
        secret: [word(0), word(1)],
        hash_key: [word(2), word(3)],
        lanes: arguments.lanes,
        time: Timestamp(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)),
        owner: (
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw(),
        ),
    })
}

fn explain(name: &str, size: u64, error: Error) -> String {
    match error {
        Error::TooSmall { minimum, .. } => format!(
            "{name} has {}, and the smallest filesystem needs {}; use a larger device, or --size \
             for an image file",
            show_size(size),
            show_size(minimum)
        ),
        Error::TooBig { maximum, .. } => format!(
            "{name} has {}, and the largest filesystem has {}",
            show_size(size),
            show_size(maximum)
        ),
        other => format!("cannot write to {name}: {other}"),
    }
}
