// SPDX-License-Identifier: GPL-2.0

//! What the command-line tools share: opening devices and images safely, a [`Media`] over them, and
//! sizes and messages for people.
//!
//! [`Media`]: ochre::engine::media::Media

pub mod device;
pub mod image;
pub mod mounts;
pub mod overlay;
pub mod signature;
pub mod sysfs;
pub mod units;

use std::io::Write;
use std::process::ExitCode;

/// The program's arguments; or what to exit with, after the help text or what is wrong with them was printed.
pub fn arguments<A: clap::Parser>(usage: u8) -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        let _ = error.print();
        if error.use_stderr() {
            ExitCode::from(usage)
        } else {
            ExitCode::SUCCESS
        }
    })
}

/// Says `program: message` on the standard error stream. If that cannot be written to, there is nobody to tell: `eprintln!` would end
/// the program, in the midst of its work.
pub fn complain(program: &str, message: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{program}: {message}");
}

/// Says `program: message` on the standard error stream and gives the exit status.
pub fn fail(program: &str, status: u8, message: impl std::fmt::Display) -> ExitCode {
    complain(program, message);
    ExitCode::from(status)
}
