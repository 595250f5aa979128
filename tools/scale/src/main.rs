// SPDX-License-Identifier: GPL-2.0

//! `ochre-scale`: makes large images, and mounts them to be measured. Run by `bench/scale`.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ochre::engine::filesystem::Filesystem;
use ochre_scale::tree::{format, mount, populate, Plan};
use ochre_scale::wear::{self, worn};
use ochre_scale::{Counting, Sparse};
use ochre_tools::units::parse_size;

/// Make large Ochre images, and measure mounts.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a sparse image with a tree in it
    Make {
        /// The image file; what is there is overwritten
        image: PathBuf,
        /// Size of the filesystem
        #[arg(long, default_value = "1T", value_parser = parse_size)]
        size: u64,
        /// Inodes
        #[arg(long, default_value_t = 1_000_000)]
        inodes: u64,
        /// Directories in the root
        #[arg(long, default_value_t = 1100)]
        top: u64,
        /// For the random numbers
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Print what a mount does to a medium of this size
    Mount {
        /// Size of the filesystem
        #[arg(long, value_parser = parse_size)]
        size: u64,
        /// What was done before, the same for every size
        #[arg(long, value_enum, default_value_t = State::Clean)]
        state: State,
    },
}

/// How the medium was left.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum State {
    /// Unmounted.
    Clean,
    /// Cut off in the middle of some hundred calls.
    Crashed,
    /// Cut off with the journal full and 10,000 orphans.
    Full,
}

impl From<State> for wear::State {
    fn from(state: State) -> Self {
        match state {
            State::Clean => Self::Clean,
            State::Crashed => Self::Crashed,
            State::Full => Self::Full,
        }
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Make {
            image,
            size,
            inodes,
            top,
            seed,
        } => make(
            &image,
            size,
            &Plan {
                inodes,
                top,
                orphans: 0,
                seed,
            },
        ),
        Command::Mount { size, state } => measure(size, state),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => ochre_tools::fail("ochre-scale", 1, message),
    }
}

fn make(image: &std::path::Path, size: u64, plan: &Plan) -> Result<(), String> {
    let engine = |error: ochre::engine::error::Error| error.to_string();
    let media = Sparse::new(size);
    format(&media, plan.seed).map_err(engine)?;
    let fs = mount(media.clone()).map_err(engine)?;
    let made = populate(&fs, plan).map_err(engine)?;
    fs.unmount().map_err(engine)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(image);
    file.and_then(|file| media.save(&file))
        .map_err(|error| format!("{}: {error}", image.display()))?;
    println!(
        "{} directories, {} files ({} in pieces, {} preallocated), {} symbolic links; {} MiB of metadata",
        made.directories,
        made.files,
        made.fragmented,
        made.preallocated,
        made.symlinks,
        media.pages() >> 8
    );
    Ok(())
}

fn measure(size: u64, state: State) -> Result<(), String> {
    let media = worn(size, state.into()).map_err(|error| error.to_string())?;
    let fs = measured_mount(Counting::new(media))?;
    let mounted = fs.media().accesses();
    fs.statfs();
    let statfs = fs.media().accesses().since(&mounted);
    fs.statfs();
    let again = fs.media().accesses().since(&mounted).reads - statfs.reads;
    let fields = [
        ("reads", mounted.reads),
        ("read_bytes", mounted.read_bytes),
        ("stores", mounted.stores),
        ("store_bytes", mounted.store_bytes),
        ("fences", mounted.fences),
        ("replayed", fs.stats().replayed),
        ("statfs_reads", statfs.reads),
        ("statfs_read_bytes", statfs.read_bytes),
        ("statfs_again_reads", again),
    ];
    let fields = fields.map(|(name, value)| format!("{name}={value}"));
    println!("{}", fields.join(" "));
    Ok(())
}

/// The mount alone: `bench/scale` lets callgrind count in here.
#[inline(never)]
fn measured_mount(media: Counting<Sparse>) -> Result<Filesystem<Counting<Sparse>>, String> {
    mount(media).map_err(|error| error.to_string())
}
