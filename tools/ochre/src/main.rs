// SPDX-License-Identifier: GPL-2.0

//! `ochre`: looks into Ochre filesystems.
//!
//! `ochre inspect` shows any structure of an image, for people and as JSON. It believes nothing: a
//! damaged structure is shown as it is, with what is wrong about it. `ochre owner` leads from a block to files and names,
//! `ochre image` copies the metadata alone.

mod block;
mod chunks;
mod group;
mod image;
mod inode;
mod journal;
mod names;
mod orphans;
mod owner;
mod place;
mod print;
mod reader;
mod superblock;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ochre::engine::filesystem::{Filesystem, MountOptions};
use ochre::engine::media::Media;
use ochre_tools::device::{self, Access};
use ochre_tools::image::{Borrowed, Image};
use ochre_tools::overlay::Overlay;

use reader::Reader;

/// Exit status for everything that went wrong.
const FAILED: u8 = 1;
/// Exit status for wrong usage.
const USAGE: u8 = 2;

/// Look into Ochre filesystems.
#[derive(Parser)]
#[command(name = "ochre", bin_name = "ochre", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show a structure of an image or device
    #[command(after_help = "Examples:\n  \
        ochre inspect /dev/pmem0                   the superblock\n  \
        ochre inspect test.img inode 1 --json      the root directory's inode as JSON\n  \
        ochre inspect test.img dir 1               the names in the root directory")]
    Inspect {
        /// Block device (such as /dev/pmem0) or image file
        #[arg(value_name = "IMAGE")]
        image: PathBuf,

        /// What to show; the superblock if not given
        #[command(subcommand)]
        what: Option<What>,

        /// Print JSON
        #[arg(long, global = true)]
        json: bool,
    },
    /// Find out which files a block belongs to, or the names of an inode
    #[command(
        after_help = "A bad address that the kernel reports is a byte of the device: its block is the address / 4096.\n\n\
        Examples:\n  ochre owner /dev/pmem0 block 70000\n  ochre owner test.img inode 131 --json"
    )]
    Owner {
        /// Block device or image file
        #[arg(value_name = "IMAGE")]
        image: PathBuf,

        /// What to look for
        #[command(subcommand)]
        whose: Whose,

        /// Print JSON
        #[arg(long, global = true)]
        json: bool,
    },
    /// Copy the metadata alone, to be attached to a bug report
    #[command(
        after_help = "The copy is a sparse file of the same size without any file's data; it compresses well.\n\
        Names, targets of symbolic links and the label are in it: --scramble makes others of them.\n\
        Owners, times, sizes and the shape of the tree stay.\n\n\
        Example:\n  ochre image --scramble /dev/pmem0 pmem0.img && xz pmem0.img"
    )]
    Image {
        /// Block device or image file; it is not changed
        #[arg(value_name = "SOURCE")]
        source: PathBuf,

        /// The file to make
        #[arg(value_name = "COPY")]
        copy: PathBuf,

        /// Replace names, targets of symbolic links and the label by meaningless ones of the same length
        #[arg(long)]
        scramble: bool,

        /// Replace an existing COPY; copy a SOURCE that is mounted for writing
        #[arg(long)]
        force: bool,
    },
    /// Print the version and the format that it knows
    Version,
}

#[derive(Clone, Copy, Subcommand)]
enum What {
    /// The superblock and its copy
    Superblock,
    /// An allocation group: header, free space, inode chunks
    Ag {
        /// Its number, from 0
        number: u32,
    },
    /// An inode with its extents or its target
    Inode {
        /// Its number; 1 is the root directory
        number: u64,
    },
    /// The names in a directory
    Dir {
        /// The inode number of the directory
        number: u64,
    },
    /// A block of the device, whatever it is
    Block {
        /// Its number, in units of 4 KiB
        number: u64,
    },
    /// The journal: checkpoints, and records entry by entry
    Journal,
    /// The orphan table: inodes to be freed or cut to their size
    Orphans,
}

#[derive(Clone, Copy, Subcommand)]
enum Whose {
    /// A block of the device: which files hold it, where in them, and by which names
    Block {
        /// Its number, in units of 4 KiB
        number: u64,
    },
    /// An inode: its names
    Inode {
        /// Its number
        number: u64,
    },
}

fn main() -> ExitCode {
    let arguments: Arguments = match ochre_tools::arguments(USAGE) {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    let result = match arguments.command {
        Command::Inspect { image, what, json } => inspect(&image, what, json),
        Command::Owner { image, whose, json } => owner(&image, whose, json),
        Command::Image {
            source,
            copy,
            scramble,
            force,
        } => image::run(&image::Job {
            source,
            copy,
            scramble,
            force,
        })
        .map(|told| {
            let _ = writeln!(std::io::stdout(), "{told}");
        }),
        Command::Version => {
            let _ = writeln!(
                std::io::stdout(),
                "ochre {} (format version {})",
                env!("CARGO_PKG_VERSION"),
                ochre::engine::format::superblock::VERSION
            );
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => ochre_tools::fail("ochre", FAILED, message),
    }
}

fn inspect(path: &std::path::Path, what: Option<What>, json: bool) -> Result<(), String> {
    let device = device::open(path, Access::Inspect, None).map_err(|error| error.to_string())?;
    let name = device.path.display().to_string();
    let image = Image::new(device, 0);
    let what = what.unwrap_or(What::Superblock);
    let value = if matches!(what, What::Superblock) {
        superblock::show(&image, &name)?
    } else {
        let reader = Reader::new(&image, &name)?;
        match what {
            What::Superblock => return Ok(()),
            What::Ag { number } => group::show(&reader, number)?,
            What::Inode { number } => inode::show(&reader, number)?,
            What::Dir { number } => names::show(&reader, number)?,
            What::Block { number } => block::show(&reader, number)?,
            What::Journal => journal::show(&reader, json)?,
            What::Orphans => orphans::show(&reader)?,
        }
    };
    print::print(&value, json)
}

fn owner(path: &std::path::Path, whose: Whose, json: bool) -> Result<(), String> {
    ochre::platform::log::set_quiet(true);
    let device = device::open(path, Access::Inspect, None).map_err(|error| error.to_string())?;
    let name = device.path.display().to_string();
    let image = Image::new(device, 0);
    // Repeats the journal of what was not unmounted, in memory; what cannot be replayed is looked at as it is.
    let overlay = Overlay::new(Borrowed(&image));
    let clean = Reader::new(&image, &name)?.info.clean;
    let replayed = !clean
        && Filesystem::mount(Borrowed(&overlay), &MountOptions { read_only: false })
            .and_then(|filesystem| filesystem.unmount())
            .is_ok();
    let media: &dyn Media = if replayed { &overlay } else { &image };
    let reader = Reader::new(media, &name)?;
    let value = match whose {
        Whose::Block { number } => owner::of_block(&reader, number)?,
        Whose::Inode { number } => owner::of_inode(&reader, number)?,
    };
    print::print(&value, json)
}
