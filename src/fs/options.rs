// SPDX-License-Identifier: GPL-2.0

//! Mount options.
//!
//! What: `dax` and `dax=always`, which mean the same and are the only way that Ochre works: every
//! regular file's pages are the medium. They exist because scripts pass them. `layout=wait` and
//! `layout=defer` say what a truncate does with pages that somebody else holds: see
//! [`defer`](super::defer).
//!
//! Hazard: `dax=inode` and `dax=never` are valid for ext4 and XFS. Taking them silently would let
//! a program believe that it has page cache semantics.

use crate::vfs::fs_context::{Log, Parameter, ParameterKind, Value};
use kernel::prelude::*;

/// What a truncate does with pages that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Layout {
    /// Waits, killably.
    Wait,
    /// Leaves them, with their blocks, behind the end of the file until they are let go.
    Defer,
}

impl Layout {
    /// What it is without the option.
    pub(crate) const DEFAULT: Self = Self::Defer;

    /// From the number of a variant.
    pub(crate) fn from_u8(value: u8) -> Self {
        if value == Self::Defer as u8 {
            Self::Defer
        } else {
            Self::Wait
        }
    }

    /// As the option has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Defer => "defer",
        }
    }
}

/// What was asked for.
#[derive(Default)]
pub(crate) struct Options {
    /// `None`: the default at mount, no change at remount.
    pub(crate) layout: Option<Layout>,
}

const DAX: u8 = 0;
const LAYOUT: u8 = 1;

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
    Parameter {
        name: c"layout",
        token: LAYOUT,
        kind: ParameterKind::String,
    },
];

/// Takes one option.
pub(super) fn parse(options: &mut Options, token: u8, value: Value<'_>, log: &Log<'_>) -> Result {
    if token == LAYOUT {
        options.layout = Some(parse_layout(value, log)?);
        return Ok(());
    }
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

fn parse_layout(value: Value<'_>, log: &Log<'_>) -> Result<Layout> {
    match value {
        Value::String(b"wait") => Ok(Layout::Wait),
        Value::String(b"defer") => Ok(Layout::Defer),
        Value::String(other) => {
            log.error(fmt!(
                "layout={} is not known; it can be layout=wait or layout=defer",
                kernel::str::BStr::from_bytes(other)
            ));
            Err(EINVAL)
        }
        Value::Flag => Err(EINVAL),
    }
}
