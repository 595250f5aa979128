// SPDX-License-Identifier: GPL-2.0

//! The calls that a workload consists of, as lines of text: the guest's program tests/trace/calls.rs carries them out, the
//! [model](crate::model) says what they should do.
//!
//! A file is named by its path below the mount point, or, where a descriptor will do, by `@slot` after an `open` or `tmpfile`.

use std::fmt;
use std::str::FromStr;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Mount,
    Umount,
    Create(String),
    Mkdir(String),
    Rmdir(String),
    Unlink(String),
    Link(String, String),
    /// Target, path.
    Symlink(String, String),
    Rename(String, String),
    Exchange(String, String),
    Chmod(String, u32),
    Chown(String, u32),
    Truncate(String, u64),
    /// File, offset, length, number of the pattern.
    Write(String, u64, u64, u64),
    /// File, mode, offset, length.
    Fallocate(String, u32, u64, u64),
    Fsync(String),
    /// Slot, path.
    Open(String, String),
    /// Slot, directory.
    Tmpfile(String, String),
    /// Slot, path.
    LinkFd(String, String),
    Close(String),
    /// Slot, length, with MAP_SYNC.
    Map(String, u64, bool),
    /// Slot, offset, value: one store of 8 bytes through the mapping.
    Store(String, u64, u64),
    /// Slot, offset, length: `clwb` of the lines, `sfence`.
    Flush(String, u64, u64),
    /// Slot, offset, length.
    Msync(String, u64, u64),
    Unmap(String),
    /// Key, slot, offset, length: the pages of a mapping go into a pipe, which holds them.
    Hold(String, String, u64, u64),
    /// Key: the pipe is closed.
    LetGo(String),
    /// Slot: one of each kind of instruction that the plugin has to know, on the first block of a mapping.
    Probe(String),
}

/// `fallocate`: keep the size.
pub const KEEP_SIZE: u32 = 1;
/// `fallocate`: punch a hole and keep the size.
pub const PUNCH: u32 = 3;
/// `fallocate`: take blocks out, and close the gap.
pub const COLLAPSE: u32 = 8;
/// `fallocate`: let a range read as zeros.
pub const ZERO: u32 = 0x10;
/// `fallocate`: let a range read as zeros, keep the size.
pub const ZERO_KEEP: u32 = ZERO | KEEP_SIZE;
/// `fallocate`: open a hole in the midst.
pub const INSERT: u32 = 0x20;

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount => write!(f, "mount"),
            Self::Umount => write!(f, "umount"),
            Self::Create(p) => write!(f, "create {p}"),
            Self::Mkdir(p) => write!(f, "mkdir {p}"),
            Self::Rmdir(p) => write!(f, "rmdir {p}"),
            Self::Unlink(p) => write!(f, "unlink {p}"),
            Self::Link(a, b) => write!(f, "link {a} {b}"),
            Self::Symlink(a, b) => write!(f, "symlink {a} {b}"),
            Self::Rename(a, b) => write!(f, "rename {a} {b}"),
            Self::Exchange(a, b) => write!(f, "exchange {a} {b}"),
            Self::Chmod(p, mode) => write!(f, "chmod {p} {mode}"),
            Self::Chown(p, uid) => write!(f, "chown {p} {uid}"),
            Self::Truncate(p, size) => write!(f, "truncate {p} {size}"),
            Self::Write(p, at, len, fill) => write!(f, "write {p} {at} {len} {fill}"),
            Self::Fallocate(p, mode, at, len) => write!(f, "fallocate {p} {mode} {at} {len}"),
            Self::Fsync(p) => write!(f, "fsync {p}"),
            Self::Open(s, p) => write!(f, "open {s} {p}"),
            Self::Tmpfile(s, p) => write!(f, "tmpfile {s} {p}"),
            Self::LinkFd(s, p) => write!(f, "linkfd {s} {p}"),
            Self::Close(s) => write!(f, "close {s}"),
            Self::Map(s, len, sync) => {
                write!(f, "map {s} {len} {}", if *sync { "sync" } else { "plain" })
            }
            Self::Store(s, at, value) => write!(f, "store {s} {at} {value}"),
            Self::Flush(s, at, len) => write!(f, "flush {s} {at} {len}"),
            Self::Msync(s, at, len) => write!(f, "msync {s} {at} {len}"),
            Self::Unmap(s) => write!(f, "unmap {s}"),
            Self::Hold(k, s, at, len) => write!(f, "hold {k} {s} {at} {len}"),
            Self::LetGo(k) => write!(f, "letgo {k}"),
            Self::Probe(s) => write!(f, "probe {s}"),
        }
    }
}

impl FromStr for Call {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let text = |i: usize| words.get(i).map(|w| w.to_string()).ok_or("too short");
        let number = |i: usize| -> Result<u64, String> {
            let word = words.get(i).ok_or("too short")?;
            word.parse().map_err(|e| format!("{word}: {e}"))
        };
        let small = |i: usize| number(i).map(|n| n as u32);
        Ok(match *words.first().unwrap_or(&"") {
            "mount" => Self::Mount,
            "umount" => Self::Umount,
            "create" => Self::Create(text(1)?),
            "mkdir" => Self::Mkdir(text(1)?),
            "rmdir" => Self::Rmdir(text(1)?),
            "unlink" => Self::Unlink(text(1)?),
            "link" => Self::Link(text(1)?, text(2)?),
            "symlink" => Self::Symlink(text(1)?, text(2)?),
            "rename" => Self::Rename(text(1)?, text(2)?),
            "exchange" => Self::Exchange(text(1)?, text(2)?),
            "chmod" => Self::Chmod(text(1)?, small(2)?),
            "chown" => Self::Chown(text(1)?, small(2)?),
            "truncate" => Self::Truncate(text(1)?, number(2)?),
            "write" => Self::Write(text(1)?, number(2)?, number(3)?, number(4)?),
            "fallocate" => Self::Fallocate(text(1)?, small(2)?, number(3)?, number(4)?),
            "fsync" => Self::Fsync(text(1)?),
            "open" => Self::Open(text(1)?, text(2)?),
            "tmpfile" => Self::Tmpfile(text(1)?, text(2)?),
            "linkfd" => Self::LinkFd(text(1)?, text(2)?),
            "close" => Self::Close(text(1)?),
            "map" => Self::Map(text(1)?, number(2)?, text(3)? == "sync"),
            "store" => Self::Store(text(1)?, number(2)?, number(3)?),
            "flush" => Self::Flush(text(1)?, number(2)?, number(3)?),
            "msync" => Self::Msync(text(1)?, number(2)?, number(3)?),
            "unmap" => Self::Unmap(text(1)?),
            "hold" => Self::Hold(text(1)?, text(2)?, number(3)?, number(4)?),
            "letgo" => Self::LetGo(text(1)?),
            "probe" => Self::Probe(text(1)?),
            other => return Err(format!("no such call: {other}")),
        })
    }
}

/// A line of a list: which thread makes which call. Thread 0 runs alone, the others beside each other.
#[derive(Clone, Debug)]
pub struct Line {
    /// Thread; the guest's program cares.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "only the guest's program needs it")
    )]
    pub thread: usize,
    /// Call.
    pub call: Call,
}

/// Reads a list; the number of a call is that of its line, from 0. Lines that begin with `#` are headings.
pub fn parse(text: &str) -> Result<Vec<Option<Line>>, String> {
    let line = |(number, text): (usize, &str)| {
        if text.starts_with('#') || text.trim().is_empty() {
            return Ok(None);
        }
        let parsed = || -> Result<Line, String> {
            let (thread, call) = text.split_once(' ').ok_or("too short")?;
            Ok(Line {
                thread: thread.parse().map_err(|e| format!("thread: {e}"))?,
                call: call.parse()?,
            })
        };
        let parsed = parsed().map_err(|e| format!("line {number} of the calls: {e}"))?;
        Ok(Some(parsed))
    };
    text.lines().enumerate().map(line).collect()
}

/// What write `fill` leaves at byte `at` of a file: never 0. As in tests/trace/calls.rs.
pub fn pattern(fill: u64, at: u64) -> u8 {
    let word = (at / 8).wrapping_add(fill.wrapping_mul(0x1_0001));
    let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 0x0101_0101_0101_0101;
    word.to_le_bytes()[(at % 8) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let p = || "d/f".to_string();
        let calls = [
            Call::Mount,
            Call::Symlink("t".into(), p()),
            Call::Write(p(), 1, 2, 3),
            Call::Fallocate("@1".into(), PUNCH, 4096, 8192),
            Call::Map("1".into(), 4096, true),
            Call::Store("1".into(), 8, u64::MAX),
            Call::Unmap("1".into()),
            Call::Hold("k".into(), "1".into(), 4096, 8192),
            Call::LetGo("k".into()),
        ];
        for call in calls {
            assert_eq!(call.to_string().parse(), Ok(call));
        }
        let list = parse("# heading\n2 create a\n").unwrap();
        assert!(list[0].is_none());
        assert_eq!(list[1].as_ref().unwrap().thread, 2);
        assert!(parse("1 write a b c d\n").unwrap_err().contains("line 0"));
    }

    #[test]
    fn patterns_are_never_zero() {
        assert!((0..10_000).all(|at| pattern(7, at) != 0));
        assert_ne!(pattern(1, 0), pattern(2, 0));
    }
}
