// SPDX-License-Identifier: GPL-2.0

//! `fsck.ochre`: replays the journal of an Ochre filesystem, checks all of it, and repairs it.
//!
//! Check and repair are the engine's ([`ochre::engine::fsck`]). Here is what fsck(8) wants of its
//! helpers: options, exit status, a progress bar, and that a filesystem is never checked while
//! something else can change it.

mod output;
mod session;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use output::Output;

/// Nothing was wrong.
pub const CLEAN: u8 = 0;
/// Something was wrong and was put right.
pub const CORRECTED: u8 = 1;
/// Something is wrong and was left.
pub const ERRORS_LEFT: u8 = 4;
/// The check could not be made.
pub const OPERATIONAL: u8 = 8;
/// The command line makes no sense.
pub const USAGE: u8 = 16;
/// The user stopped it.
pub const CANCELLED: u8 = 32;

/// Check and repair an Ochre filesystem, after replaying its journal.
#[derive(Parser)]
#[command(
    name = "fsck.ochre",
    bin_name = "fsck.ochre",
    version,
    disable_version_flag = true,
    after_help = "Exit status: 0 no errors, 1 errors corrected (or journal replayed, orphans finished),\n\
        4 errors left, 8 the check could not be made, 16 wrong usage, 32 interrupted.\n\n\
        Without -n, -y and -p it asks on the terminal before each step of a repair.\n\
        With -n journal and repair happen in memory only: it shows what would be done."
)]
struct Arguments {
    /// Block device (such as /dev/pmem0) or image file
    #[arg(value_name = "DEVICE")]
    device: PathBuf,

    /// Change nothing; show what would be done
    #[arg(short = 'n', long = "no", conflicts_with_all = ["yes", "preen"])]
    no: bool,

    /// Repair without asking
    #[arg(short = 'y', long = "yes", conflicts_with = "preen")]
    yes: bool,

    /// Repair what is safe, without asking; skip the check after a proper unmount unless -f
    #[arg(short = 'p', long = "preen", short_alias = 'a')]
    preen: bool,

    /// Check also what was properly unmounted
    #[arg(short, long)]
    force: bool,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    /// Show progress: 0 as a bar, else in numbers on this descriptor (fsck(8) passes it)
    #[arg(
        short = 'C',
        value_name = "FD",
        allow_negative_numbers = true,
        hide = true
    )]
    progress: Option<i32>,

    /// Print no summary if nothing is wrong
    #[arg(short, long)]
    quiet: bool,

    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

fn main() -> ExitCode {
    let arguments: Arguments = match ochre_tools::arguments(USAGE) {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    let mut output = Output::new(&arguments);
    match session::run(&arguments, &mut output) {
        Ok(status) => {
            output.finish(status);
            ExitCode::from(status)
        }
        Err(message) => {
            output.abandon(&arguments.device, &message);
            ochre_tools::fail("fsck.ochre", OPERATIONAL, message)
        }
    }
}
