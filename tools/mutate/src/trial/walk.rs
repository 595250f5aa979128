// SPDX-License-Identifier: GPL-2.0

//! Reading everything of a mounted filesystem, as `ls -lR` and `cat` do.

use crate::cow::CowMedia;
use ochre::engine::error::Error;
use ochre::engine::filesystem::{Filesystem, Inode, MappingState};
use ochre::engine::media::Media;
use ochre::engine::types::{FileBlock, FileKind, Ino, Run, BLOCK_SIZE};
use ochre::platform::Vec as EngineVec;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Mappings that are looked at in one file.
const MOST_MAPPINGS: usize = 3000;
/// Names that are looked up in one directory.
const MOST_NAMES: usize = 1500;

/// A name that was met.
#[derive(Clone, Debug)]
pub struct Name {
    /// The directory.
    pub dir: Ino,
    /// The name.
    pub name: Vec<u8>,
    /// Where it leads.
    pub ino: Ino,
}

/// A mounted filesystem in use.
pub struct World<'a> {
    /// The filesystem.
    pub fs: &'a Filesystem<CowMedia>,
    /// One in-core inode for each number, as the kernel keeps them.
    pub inodes: BTreeMap<u64, Rc<Inode>>,
    /// Names that were met.
    pub names: Vec<Name>,
    /// The first error that speaks of the medium.
    pub error: Option<Error>,
    /// Other errors.
    pub odd: Vec<(&'static str, Error)>,
    /// What must not be.
    pub problems: Vec<String>,
    /// Inodes that the work has changed.
    pub modified: BTreeSet<Ino>,
}

impl<'a> World<'a> {
    /// Nothing was looked at yet.
    pub fn new(fs: &'a Filesystem<CowMedia>) -> Self {
        Self {
            fs,
            inodes: BTreeMap::new(),
            names: Vec::new(),
            error: None,
            odd: Vec::new(),
            problems: Vec::new(),
            modified: BTreeSet::new(),
        }
    }

    /// Takes a result apart; errors are noted.
    pub fn note<T>(&mut self, what: &'static str, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error @ (Error::Corrupt(_) | Error::Io)) => {
                if !self.fs.read_only_error() {
                    let text =
                        format!("{what} says \"{error}\", and the filesystem is still for writing");
                    self.problems.push(text);
                }
                self.error = self.error.or(Some(error));
                None
            }
            Err(Error::ReadOnly) if self.fs.is_read_only() => None,
            Err(error) => {
                self.odd.push((what, error));
                None
            }
        }
    }

    /// The inode of a number that a name gave.
    pub fn get(&mut self, ino: Ino) -> Option<Rc<Inode>> {
        if let Some(inode) = self.inodes.get(&ino.0) {
            return Some(inode.clone());
        }
        let found = self.fs.iget(ino);
        let inode = Rc::new(self.note("iget", found)?);
        self.inodes.insert(ino.0, inode.clone());
        Some(inode)
    }

    /// As a mount does: finishes what the orphan table names.
    pub fn orphans(&mut self) {
        let done = self.fs.finish_orphans();
        self.note("orphans", done);
    }

    /// Free space.
    pub fn statfs(&mut self) {
        let s = self.fs.statfs();
        if s.free > s.blocks || s.available > s.free {
            self.problems.push(format!("statfs: {s:?}"));
        }
    }

    /// Everything leaves memory.
    pub fn forget(&mut self) {
        for (_, inode) in std::mem::take(&mut self.inodes) {
            let done = self.fs.evict(&inode);
            self.note("evict", done);
        }
    }

    /// Reads everything that names lead to.
    pub fn walk(&mut self) {
        let mut todo = vec![self.fs.root()];
        let mut seen = BTreeSet::new();
        while let Some(ino) = todo.pop() {
            if !seen.insert(ino) {
                continue;
            }
            let Some(inode) = self.get(ino) else { continue };
            let _ = inode.attributes();
            match inode.kind() {
                FileKind::Directory => {
                    let from = self.names.len();
                    self.list(&inode);
                    todo.extend(self.names[from..].iter().map(|name| name.ino));
                }
                FileKind::Regular => self.read(&inode),
                FileKind::Symlink => {
                    let mut target = EngineVec::new();
                    let read = self.fs.readlink(&inode, &mut target);
                    if self.note("readlink", read).is_some()
                        && (target.is_empty() || target.len() > 4095)
                    {
                        self.problems
                            .push(format!("a target of {} bytes", target.len()));
                    }
                }
                _ => {}
            }
        }
    }

    fn list(&mut self, dir: &Inode) {
        let mut found = Vec::new();
        let mut last = 0;
        let mut disorder = false;
        let read = self.fs.readdir(dir, 0, &mut |entry| {
            disorder |= entry.cookie < last || entry.name.is_empty() || entry.name.contains(&b'/');
            last = entry.next;
            found.push(Name {
                dir: dir.ino(),
                name: entry.name.to_vec(),
                ino: entry.ino,
            });
            found.len() < 100_000
        });
        self.note("readdir", read);
        if disorder {
            self.problems.push(format!(
                "names of directory {} are no names, or in no order",
                dir.ino()
            ));
        }
        for name in found.iter().take(MOST_NAMES) {
            let looked_up = self.fs.lookup(dir, &name.name);
            if let Some(ino) = self.note("lookup", looked_up) {
                if let Some(child) = self.get(ino) {
                    let checked = self.fs.check_child(dir, &child);
                    self.note("check_child", checked);
                }
                if ino != name.ino {
                    self.odd.push(("lookup finds another", Error::NotFound));
                }
            }
        }
        self.names.append(&mut found);
    }

    /// Whether blocks are file data of a group.
    pub fn check_data(&mut self, what: &str, run: Run) -> bool {
        let inside = self.fs.volume().geometry().locate_run(run).is_some();
        if !inside {
            self.problems.push(format!(
                "{what}: blocks {} to {} are no data",
                run.start,
                run.end()
            ));
        }
        inside
    }

    /// Maps the whole file and reads the beginning of each piece.
    pub fn read(&mut self, inode: &Inode) {
        let mut at = FileBlock(0);
        let mut bytes = [0; BLOCK_SIZE as usize];
        for _ in 0..MOST_MAPPINGS {
            let found = self.fs.map(inode, at, FileBlock::END.0 - at.0);
            let Some(mapping) = self.note("map", found) else {
                return;
            };
            if mapping.start != at || mapping.len == 0 {
                self.problems.push(format!("map of {at:?}: {mapping:?}"));
                return;
            }
            if let MappingState::Written(start) | MappingState::Unwritten(start) = mapping.state {
                if self.check_data(
                    "map",
                    Run {
                        start,
                        len: mapping.len,
                    },
                ) {
                    let _ = self.fs.media().read(start.address(), &mut bytes);
                }
            }
            at = at.plus(mapping.len);
            if at >= FileBlock::END {
                return;
            }
        }
    }
}
