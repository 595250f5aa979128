// SPDX-License-Identifier: GPL-2.0

//! Mount options.
//!
//! What: `dax` and `dax=always`, which mean the same and are the only way that Ochre works: every
//! regular file's pages are the medium. They exist because scripts pass them.
//!
//! Hazard: `dax=inode` and `dax=never` are valid for ext4 and XFS. Taking them silently would let
//! a program believe that it has page cache semantics.

use crate::vfs::fs_context::{Log, Parameter, ParameterKind, Value};
use kernel::prelude::*;

/// What was asked for.
#[derive(Default)]
pub(crate) struct Options;

const DAX: u8 = 0;

/// The options, for the kernel's parser.
pub(super) const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: c"dax",
        token: DAX,
        kind: ParameterKind::Flag,
    },
    Parameter {
        name: c"dax",
        token: DAX,
        kind: ParameterKind::String,
    },
];

/// Takes one option.
pub(super) fn parse(_options: &mut Options, _token: u8, value: Value<'_>, log: &Log<'_>) -> Result {
    match value {
        Value::Flag | Value::String(b"always") => Ok(()),
        Value::String(other @ (b"inode" | b"never")) => {
            log.error(fmt!(
                "dax={} is not possible: files are always mapped from the medium (dax=always)",
                kernel::str::BStr::from_bytes(other)
            ));
            Err(EINVAL)
        }
        Value::String(other) => {
            log.error(fmt!(
                "dax={} is not known; it can only be dax=always",
                kernel::str::BStr::from_bytes(other)
            ));
            Err(EINVAL)
        }
    }
}
