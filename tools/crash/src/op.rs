// SPDX-License-Identifier: GPL-2.0

//! The calls that sequences are made of: every call of the engine's facade, on a small namespace.
//!
//! The namespace of a populated filesystem (see [`crate::stage`]):
//!
//! | name | what |
//! |---|---|
//! | `/foo` | three blocks, a hole of two, one block and a half |
//! | `/bar` | one block and 100 bytes; also `/A/link` |
//! | `/many` | 300 extents (or 1500) in a tree of two levels |
//! | `/A/foo` | eight inline-size extents: a tree of one leaf |
//! | `/A/pre` | 16 preallocated blocks, size 12 blocks |
//! | `/A`, `/A/C`, `/B` | directories; the last two are empty |
//! | `/D` | a directory of two leaves: 63 long names of one file |
//! | `/sym`, `/A/long` | symbolic links: in the inode, in a block |

use std::mem::discriminant;

/// One call, or the few calls of one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `creat`.
    Create(&'static str),
    /// `mknod`: the type bits of the mode.
    Mknod(&'static str, u16),
    /// `mkdir`.
    Mkdir(&'static str),
    /// `symlink` with a target of this length.
    Symlink(&'static str, usize),
    /// `O_TMPFILE`, a write, `linkat`, close.
    TmpfileLink(&'static str),
    /// `O_TMPFILE`, a write; stays open.
    Tmpfile,
    /// `link`.
    Link(&'static str, &'static str),
    /// `unlink` of what nobody has open: evicted at once.
    Unlink(&'static str),
    /// `unlink` of what stays open.
    UnlinkOpen(&'static str),
    /// `rmdir`.
    Rmdir(&'static str),
    /// `rename`.
    Rename(&'static str, &'static str),
    /// `renameat2` with `RENAME_EXCHANGE`.
    Exchange(&'static str, &'static str),
    /// The last close of everything: unlinked files are evicted.
    CloseAll,
    /// `pwrite` at an offset.
    Write(&'static str, u64, u64),
    /// `write` with `O_APPEND`.
    Append(&'static str, u64),
    /// A write fault, stores through the mapping, `msync`.
    MapWrite(&'static str, u64),
    /// A write fault for 1 or 512 blocks.
    Fault(&'static str, u64, u64),
    /// `fallocate` of blocks; true: `FALLOC_FL_KEEP_SIZE`.
    Preallocate(&'static str, u64, u64, bool),
    /// `truncate`.
    Truncate(&'static str, u64),
    /// `truncate` in its two halves: the size, then the blocks.
    TruncateDeferred(&'static str, u64),
    /// The first half alone: blocks that somebody holds stay the file's until `TruncateFinish`, or the last close.
    TruncateBegin(&'static str, u64),
    /// The second half; blocks that were parked go, too.
    TruncateFinish(&'static str),
    /// `FALLOC_FL_PUNCH_HOLE` over a page that somebody holds: its blocks move behind the end, until `TruncateFinish`.
    Park(&'static str, u64, u64),
    /// Of what is pending behind the end all is let go but one block.
    LetGo(&'static str),
    /// The file grows over a pending block that cannot be moved.
    GrowOver(&'static str),
    /// A `pwrite` whose user pages cannot be read: bytes are copied, nothing is published.
    WriteAborted(&'static str, u64, u64),
    /// `FALLOC_FL_PUNCH_HOLE` of whole blocks.
    Punch(&'static str, u64, u64),
    /// `FALLOC_FL_COLLAPSE_RANGE`: first block, blocks.
    Collapse(&'static str, u64, u64),
    /// `FALLOC_FL_INSERT_RANGE`: first block, blocks.
    Insert(&'static str, u64, u64),
    /// `FALLOC_FL_ZERO_RANGE` of whole blocks that the file has; the size follows.
    ZeroRange(&'static str, u64, u64),
    /// Zeroing of bytes.
    Zero(&'static str, u64, u64),
    /// `chmod`, `chown`, `utimes` in one.
    SetAttributes(&'static str),
    /// A time update, fenced.
    Touch(&'static str),
    /// The inode leaves memory, as by reclaim, and is read again when it is next named.
    Forget(&'static str),
    /// The checkpoint moves.
    Checkpoint,
    /// `freeze`.
    Freeze,
    /// `sync`.
    Sync,
    /// Unmount and mount.
    Remount,
    /// Remount read-only, and read-write again.
    ReadOnlyAndBack,
    /// So many long symbolic links made and removed, on all CPUs in turn: lanes fill up. Not explored.
    Burn(usize),
}

use Op::*;

const FIFO: u16 = 0o010000;
const CHAR: u16 = 0o020000;
const SOCKET: u16 = 0o140000;
/// 4 KiB.
const B: u64 = 4096;

/// What sequences choose from.
pub const CATALOG: &[Op] = &[
    Create("/new"),
    Create("/A/new"),
    Create("/B/new"),
    Create("/D/new-name-of-some-length-that-may-split-a-leaf"),
    Mknod("/fifo", FIFO),
    Mknod("/A/dev", CHAR),
    Mknod("/B/socket", SOCKET),
    Mkdir("/M"),
    Mkdir("/A/M"),
    Mkdir("/B/M"),
    Symlink("/short", 20),
    Symlink("/A/middle", 113),
    Symlink("/B/tall", 4095),
    TmpfileLink("/A/tmp"),
    Tmpfile,
    Link("/foo", "/A/hard"),
    Link("/bar", "/bar2"),
    Link("/new", "/B/hard"),
    Unlink("/foo"),
    Unlink("/bar"),
    Unlink("/A/link"),
    Unlink("/many"),
    Unlink("/A/foo"),
    Unlink("/A/pre"),
    Unlink("/sym"),
    Unlink("/A/long"),
    Unlink("/new"),
    UnlinkOpen("/foo"),
    UnlinkOpen("/A/foo"),
    UnlinkOpen("/new"),
    Rmdir("/B"),
    Rmdir("/A/C"),
    Rmdir("/M"),
    Rename("/foo", "/renamed"),
    Rename("/foo", "/A/renamed"),
    Rename("/foo", "/bar"),
    Rename("/foo", "/A/foo"),
    Rename("/A/link", "/many"),
    Rename("/new", "/foo"),
    Rename("/A", "/A2"),
    Rename("/A/C", "/B"),
    Rename("/A/C", "/C2"),
    Rename("/A", "/B"),
    Rename("/sym", "/D/moved"),
    Rename("/B", "/D/B"),
    Exchange("/foo", "/bar"),
    Exchange("/foo", "/A/foo"),
    Exchange("/foo", "/A"),
    Exchange("/A/C", "/B"),
    Exchange("/A/C", "/bar"),
    CloseAll,
    Write("/foo", 100, 5000),
    Write("/foo", 8, 8),
    Write("/foo", 3 * B - 50, 2 * B),
    Write("/foo", 12 * B + 77, 3000),
    Write("/bar", 0, B),
    Write("/A/pre", 2 * B + 9, 2 * B),
    Write("/A/pre", 11 * B, 3 * B),
    Write("/A/foo", 5 * B, B),
    Write("/many", 301 * B, B),
    Write("/new", 0, 100),
    Write("/new", 0, 40 * B + 5),
    Append("/foo", 200),
    Append("/bar", 20_000),
    Append("/many", 3 * B),
    MapWrite("/foo", 1),
    MapWrite("/foo", 3),
    MapWrite("/A/pre", 4),
    Fault("/foo", 4, 1),
    Fault("/big", 512, 512),
    Fault("/big", 3, 1),
    Preallocate("/foo", 0, 10, true),
    Preallocate("/bar", 1, 12, false),
    Preallocate("/A/foo", 0, 20, false),
    Preallocate("/big", 512, 512, true),
    Truncate("/foo", 0),
    Truncate("/foo", 5000),
    Truncate("/foo", 50_001),
    Truncate("/bar", 4096),
    Truncate("/many", 0),
    Truncate("/many", 301 * B + 8),
    Truncate("/A/pre", 10_000),
    Truncate("/A/foo", 3 * B),
    TruncateDeferred("/foo", 4000),
    TruncateDeferred("/many", 100),
    TruncateDeferred("/A/foo", 0),
    TruncateBegin("/foo", 100),
    TruncateBegin("/many", 4096),
    TruncateFinish("/foo"),
    TruncateFinish("/many"),
    WriteAborted("/foo", 20_000, 30_000),
    WriteAborted("/A/pre", 5 * B, B),
    Punch("/foo", 1, 2),
    Punch("/foo", 0, 100),
    Punch("/many", 100, 900),
    Punch("/A/pre", 2, 5),
    Punch("/A/foo", 2, 3),
    Collapse("/foo", 0, 1),
    Collapse("/foo", 2, 3),
    Collapse("/many", 101, 40),
    Collapse("/many", 3, 2500),
    Collapse("/A/pre", 3, 5),
    Collapse("/A/foo", 2, 3),
    Insert("/foo", 1, 2),
    Insert("/bar", 0, 1),
    Insert("/many", 250, 7),
    Insert("/A/pre", 4, 3),
    Insert("/A/foo", 1, 1),
    ZeroRange("/foo", 0, 9),
    ZeroRange("/many", 10, 30),
    ZeroRange("/A/pre", 2, 9),
    Zero("/foo", 100, 300),
    Zero("/foo", 4000, 5000),
    SetAttributes("/foo"),
    SetAttributes("/A"),
    SetAttributes("/sym"),
    Touch("/foo"),
    Touch("/A"),
    Checkpoint,
    Freeze,
    Sync,
    Remount,
    ReadOnlyAndBack,
    TruncateBegin("/A/foo", 3 * B),
    TruncateBegin("/A/pre", 10_000),
    TruncateFinish("/A/foo"),
    TruncateFinish("/A/pre"),
    TruncateFinish("/bar"),
    Park("/foo", 12, 1),
    Park("/foo", 1, 1),
    Park("/foo", 0, 3),
    Park("/bar", 0, 1),
    Park("/many", 20, 1),
    Park("/A/foo", 2, 1),
    Park("/A/pre", 4, 1),
    LetGo("/foo"),
    LetGo("/many"),
    GrowOver("/foo"),
    GrowOver("/A/foo"),
    Preallocate("/foo", 8, 4, true),
    Forget("/foo"),
    Forget("/A"),
    Forget("/A/foo"),
];

impl Op {
    /// The paths that it names.
    pub fn paths(self) -> Vec<&'static str> {
        match self {
            Tmpfile | CloseAll | Checkpoint | Freeze | Sync | Remount | ReadOnlyAndBack
            | Burn(_) => Vec::new(),
            Link(a, b) | Rename(a, b) | Exchange(a, b) => vec![a, b],
            Create(a)
            | Mknod(a, _)
            | Mkdir(a)
            | Symlink(a, _)
            | TmpfileLink(a)
            | Unlink(a)
            | UnlinkOpen(a)
            | Rmdir(a)
            | SetAttributes(a)
            | Touch(a)
            | Forget(a)
            | Write(a, ..)
            | WriteAborted(a, ..)
            | Append(a, _)
            | MapWrite(a, _)
            | Fault(a, ..)
            | Preallocate(a, ..)
            | Truncate(a, _)
            | TruncateDeferred(a, _)
            | TruncateBegin(a, _)
            | TruncateFinish(a)
            | Park(a, ..)
            | LetGo(a)
            | GrowOver(a)
            | Punch(a, ..)
            | Collapse(a, ..)
            | Insert(a, ..)
            | ZeroRange(a, ..)
            | Zero(a, ..) => vec![a],
        }
    }

    /// What may have to be called before, so that this one finds something to do: a name, an open file, a pending block.
    pub fn needs(self) -> Option<Self> {
        match self {
            CloseAll => Some(UnlinkOpen("/foo")),
            TruncateFinish("/bar") => Some(Park("/bar", 0, 1)),
            TruncateFinish(path) | LetGo(path) | GrowOver(path) => {
                let begins = |op: &&Self| matches!(op, TruncateBegin(a, _) if *a == path);
                CATALOG.iter().find(begins).copied()
            }
            Park("/foo", 12, 1) => Some(Write("/foo", 12 * B + 77, 3000)),
            _ => match *self.paths().first()? {
                "/new" => Some(Create("/new")),
                "/M" => Some(Mkdir("/M")),
                _ => None,
            },
        }
    }

    /// Whether it has a path in common with another one.
    pub fn concerns(self, other: Self) -> bool {
        let theirs = other.paths();
        self.paths()
            .iter()
            .any(|a| theirs.iter().any(|b| same(a, b)))
    }

    /// Whether it makes an inode.
    fn creates(self) -> bool {
        matches!(
            self,
            Create(_) | Mknod(..) | Mkdir(_) | Symlink(..) | TmpfileLink(_) | Tmpfile
        )
    }

    /// Whether it can run in the midst of `other`: neither needs an inode that the other has locked, and not both make one.
    pub fn fits_into(self, other: Self) -> bool {
        let whole = |op| {
            matches!(
                op,
                CloseAll
                    | Forget(_)
                    | Remount
                    | ReadOnlyAndBack
                    | Burn(_)
                    | Freeze
                    | Sync
                    | Tmpfile
            )
        };
        if whole(self) || whole(other) || other == Checkpoint || (self.creates() && other.creates())
        {
            return false;
        }
        let (mine, theirs) = (self.paths(), other.paths());
        let mut ours = mine.iter().flat_map(|a| [*a, parent(a)]);
        let clash = |a: &str| {
            let other = theirs.iter().flat_map(|b| [*b, parent(b)]);
            other.into_iter().any(|b| same(a, b))
        };
        // Nor is anything moved that leads to it.
        let inside = |a: &&str| theirs.iter().any(|b| a.starts_with(&format!("{b}/")));
        !ours.any(clash) && !mine.iter().any(inside)
    }
}

/// The directory of a path.
pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

/// Whether two paths may lead to one inode: one has three names.
fn same(a: &str, b: &str) -> bool {
    let bar = |p: &str| ["/bar", "/A/link", "/bar2"].contains(&p);
    a == b || (bar(a) && bar(b))
}

/// The numbers of the catalog by calls: those of one kind of operation together.
pub fn calls() -> Vec<Vec<usize>> {
    let mut calls: Vec<Vec<usize>> = Vec::new();
    for (number, op) in CATALOG.iter().enumerate() {
        let kind = discriminant(op);
        match calls
            .iter_mut()
            .find(|c| discriminant(&CATALOG[c[0]]) == kind)
        {
            Some(call) => call.push(number),
            None => calls.push(vec![number]),
        }
    }
    calls
}

/// The number of an operation in the catalog.
pub fn number(op: Op) -> Option<usize> {
    CATALOG.iter().position(|o| *o == op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operation_needs_is_in_the_catalog() {
        let needs = CATALOG.iter().filter_map(|op| op.needs());
        assert!(needs.clone().count() > 10);
        assert!(needs.clone().all(|need| number(need).is_some()));
    }

    #[test]
    fn no_operation_is_there_twice() {
        for (i, op) in CATALOG.iter().enumerate() {
            assert_eq!(number(*op), Some(i), "{op:?}");
        }
    }
}
