// SPDX-License-Identifier: GPL-2.0

//! Sequences that are made for a condition.
//!
//! Pairs and triples that a seed draws meet it late or never: a freed block that is used again, an old time that is stored
//! after a newer one, a checkpoint between two calls, pages that somebody holds behind the end of a file.

use crate::op::Op;
use crate::stage::Kind;

/// Sequences for conditions that pairs would meet late: a reused block, an old time, a checkpoint between.
pub const DIRECTED: &[(Kind, &[Op])] = &[
    (
        Kind::Lived,
        &[Op::SetAttributes("/foo"), Op::Checkpoint, Op::Touch("/foo")],
    ),
    (Kind::Lived, &[Op::SetAttributes("/foo"), Op::Touch("/foo")]),
    (
        Kind::Lived,
        &[
            Op::SetAttributes("/foo"),
            Op::Forget("/foo"),
            Op::Touch("/foo"),
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::SetAttributes("/foo"),
            Op::SetAttributes("/foo"),
            Op::SetAttributes("/foo"),
        ],
    ),
    (
        Kind::Full,
        &[
            Op::Unlink("/many"),
            Op::Checkpoint,
            Op::Append("/bar", 20_000),
        ],
    ),
    (
        Kind::Full,
        &[
            Op::Unlink("/A/long"),
            Op::Append("/bar", 20_000),
            Op::Append("/bar", 20_000),
        ],
    ),
    (
        Kind::Quarantine,
        &[
            Op::Append("/bar", 20_000),
            Op::Append("/foo", 200),
            Op::Append("/bar", 20_000),
        ],
    ),
    (
        Kind::Full,
        &[
            Op::UnlinkOpen("/A/foo"),
            Op::CloseAll,
            Op::Append("/bar", 20_000),
        ],
    ),
    (
        Kind::Wrapped,
        &[
            Op::Symlink("/B/tall", 4095),
            Op::SetAttributes("/foo"),
            Op::Symlink("/A/middle", 113),
        ],
    ),
    (
        Kind::Groups,
        &[
            Op::Mkdir("/M"),
            Op::Rename("/foo", "/A/renamed"),
            Op::Freeze,
        ],
    ),
    // Blocks behind the end of a file whose pages somebody holds.
    (
        Kind::Lived,
        &[
            Op::Park("/foo", 1, 1),
            Op::MapWrite("/foo", 1),
            Op::Park("/foo", 0, 3),
            Op::Truncate("/foo", 50_001),
            Op::TruncateFinish("/foo"),
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::TruncateBegin("/foo", 100),
            Op::LetGo("/foo"),
            Op::Write("/foo", 12 * 4096 + 77, 3000),
            Op::Park("/foo", 12, 1),
            Op::TruncateFinish("/foo"),
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::TruncateBegin("/foo", 100),
            Op::GrowOver("/foo"),
            Op::Append("/foo", 200),
            Op::Unlink("/foo"),
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::TruncateBegin("/foo", 100),
            Op::Preallocate("/foo", 8, 4, true),
            Op::Truncate("/foo", 50_001),
            Op::Punch("/foo", 0, 100),
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::MapWrite("/A/pre", 4),
            Op::Park("/A/pre", 4, 1),
            Op::Preallocate("/foo", 8, 4, true),
            Op::TruncateFinish("/A/pre"),
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::TruncateBegin("/A/pre", 10_000),
            Op::ZeroRange("/A/pre", 2, 9),
        ],
    ),
    (
        Kind::Full,
        &[
            Op::Park("/foo", 0, 3),
            Op::Append("/bar", 20_000),
            Op::TruncateFinish("/foo"),
            Op::Append("/bar", 20_000),
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::Park("/A/foo", 2, 1),
            Op::UnlinkOpen("/A/foo"),
            Op::CloseAll,
        ],
    ),
    (
        Kind::Lived,
        &[
            Op::Park("/many", 20, 1),
            Op::TruncateBegin("/many", 4096),
            Op::LetGo("/many"),
            Op::ReadOnlyAndBack,
            Op::Remount,
        ],
    ),
    (
        Kind::Asynchronous,
        &[
            Op::Park("/foo", 0, 3),
            Op::TruncateBegin("/foo", 100),
            Op::Sync,
            Op::TruncateFinish("/foo"),
        ],
    ),
    (
        Kind::Asynchronous,
        &[Op::Write("/foo", 100, 5000), Op::Create("/new"), Op::Sync],
    ),
    (Kind::Lived, &[Op::Insert("/many", 250, 7)]),
    (
        Kind::Lived,
        &[Op::Insert("/many", 250, 7), Op::Collapse("/many", 101, 40)],
    ),
    (
        Kind::Full,
        &[
            Op::Collapse("/many", 101, 40),
            Op::Append("/bar", 20_000),
            Op::Insert("/A/foo", 1, 1),
        ],
    ),
];
