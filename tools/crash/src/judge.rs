// SPDX-License-Identifier: GPL-2.0

//! Is this image what a crash may leave?
//!
//! It is mounted, which recovers it; orphans are finished; the full check must find nothing; and the tree must be one of the
//! states that the model allows. A share of the images is put to further use: files are made longer, so that what lies behind
//! their ends would show; something is created and removed; the filesystem is unmounted and checked once more.

use crate::arena::Arena;
use crate::model::{Bytes, Cell, Id, Node, Tree};
use ochre::engine::error::Error;
use ochre::engine::filesystem::{
    DirectoryEntry, Filesystem, Inode, MappingState, MountOptions, NewInode, Times,
};
use ochre::engine::fsck::{self, Issue, Observer};
use ochre::engine::media::Media;
use ochre::engine::types::{FileBlock, FileKind, Ino, Timestamp, BLOCK_SIZE};
use std::sync::Arc;

/// How far to go with an image.
#[derive(Clone, Copy, Debug, Default)]
pub struct Depth {
    /// Compare large files that no call has touched block by block, too.
    pub all_blocks: bool,
    /// Use it: grow files, create, remove.
    pub using: bool,
    /// Unmount it and check it again.
    pub unmount: bool,
    /// Mount it read-only before, and look at names and bytes then.
    pub read_only: bool,
    /// Look at it before its orphans are finished, too.
    pub early: bool,
}

/// Blocks of a file from which on it is only looked at block by block if a call has changed it.
const BULK: usize = 64;

#[derive(Default)]
struct Findings {
    first: Option<String>,
    count: usize,
}

impl Observer for Findings {
    fn issue(&mut self, issue: &Issue) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some(format!("{issue}"));
        }
    }
}

/// The full check; `Err` names the first finding.
pub fn check(arena: &Arena, unmounted: bool) -> Result<(), String> {
    let mut findings = Findings::default();
    let options = fsck::Options { unmounted };
    fsck::check(arena, options, &mut findings).map_err(|e| format!("the check fails: {e}"))?;
    match findings.first {
        Some(first) => Err(format!(
            "the check finds: {first} ({} in all)",
            findings.count
        )),
        None => Ok(()),
    }
}

/// Judges the image on the arena, which is changed by it. `base`: the state before all calls, to know what is untouched.
pub fn judge(arena: &Arena, base: &Tree, allowed: &[&Tree], depth: Depth) -> Result<(), String> {
    let text = |what: &'static str| move |e: Error| format!("{what} fails: {e}");
    let base = (!depth.all_blocks).then_some(base);
    let mut first = None;
    if depth.read_only {
        let options = MountOptions { read_only: true };
        let fs = Filesystem::mount(arena.clone(), &options).map_err(text("read-only mount"))?;
        let found = matching(&fs, base, allowed, true);
        first = Some(found.map_err(|fault| format!("read-only: {fault}"))?);
    }
    let fs = Filesystem::mount(arena.clone(), &MountOptions::default()).map_err(text("mount"))?;
    if depth.early {
        // What is looked at is put right on the way.
        let found = matching(&fs, base, allowed, false);
        first = Some(found.map_err(|fault| format!("before orphans are finished: {fault}"))?);
    }
    fs.finish_orphans().map_err(text("finishing orphans"))?;
    check(arena, false)?;
    let matched = match first {
        // It stays the state that it was.
        Some(number) => matching(&fs, base, &allowed[number..=number], false).map(|_| number)?,
        None => matching(&fs, base, allowed, false)?,
    };
    if fs.read_only_error() {
        return Err("it went read-only".into());
    }
    if depth.using {
        put_to_use(&fs, allowed[matched])?;
        check(arena, false).map_err(|e| format!("after use {e}"))?;
    }
    if depth.unmount {
        fs.unmount().map_err(text("unmount"))?;
        drop(fs);
        check(arena, true).map_err(|e| format!("after unmount {e}"))?;
    }
    Ok(())
}

/// The number of the state that the filesystem is in.
fn matching(
    fs: &Filesystem<Arena>,
    base: Option<&Tree>,
    allowed: &[&Tree],
    bytes_only: bool,
) -> Result<usize, String> {
    let comparison = Comparison {
        fs,
        base,
        bytes_only,
    };
    let mut faults = Vec::new();
    for (number, tree) in allowed.iter().enumerate() {
        match comparison.tree(tree) {
            Ok(()) => return Ok(number),
            Err(fault) => faults.push(format!("not state {number}: {fault}")),
        }
    }
    faults.dedup();
    Err(faults.join("; "))
}

/// Makes files longer and looks at what comes to light; creates and removes a file.
fn put_to_use(fs: &Filesystem<Arena>, tree: &Tree) -> Result<(), String> {
    let text = |e: Error| format!("use after recovery fails: {e}");
    let root = fs.iget(fs.root()).map_err(text)?;
    for (name, &id) in &tree.get(0).names {
        let node = tree.get(id);
        if node.kind() != FileKind::Regular || node.size % BLOCK_SIZE == 0 {
            continue;
        }
        let ino = fs.lookup(&root, name).map_err(text)?;
        let inode = fs.iget(ino).map_err(text)?;
        let end = node.size.next_multiple_of(BLOCK_SIZE);
        fs.truncate(&inode, end + 1, &Times::default())
            .map_err(text)?;
        let found = fs.map(&inode, FileBlock::of(node.size), 1).map_err(text)?;
        if let MappingState::Written(block) = found.state {
            let mut bytes = vec![0; BLOCK_SIZE as usize];
            fs.media().read(block.address(), &mut bytes).map_err(text)?;
            if bytes[(node.size % BLOCK_SIZE) as usize..]
                .iter()
                .any(|&b| b != 0)
            {
                return Err(format!(
                    "{} made longer shows bytes that nobody wrote",
                    String::from_utf8_lossy(name)
                ));
            }
        }
    }
    let new = NewInode::new(
        FileKind::Regular.mode_bits() | 0o600,
        Timestamp(1_900_000_000_000_000_000),
    );
    match fs.create(&root, b"after-the-crash", &new) {
        Ok(inode) => {
            match fs.fault_allocate(&inode, FileBlock(0), 1) {
                Ok(_) | Err(Error::NoSpace) => {}
                Err(error) => return Err(text(error)),
            }
            fs.unlink(&root, b"after-the-crash", &inode, new.time)
                .map_err(text)?;
            fs.evict(&inode).map_err(text)
        }
        Err(Error::NoSpace) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

struct Comparison<'a> {
    fs: &'a Filesystem<Arena>,
    base: Option<&'a Tree>,
    /// Not what lies behind the end of a file: a truncate may still have to free it.
    bytes_only: bool,
}

impl Comparison<'_> {
    /// Walks the filesystem and the model together.
    fn tree(&self, tree: &Tree) -> Result<(), String> {
        let fs = self.fs;
        let text = |e: Error| format!("reading the tree fails: {e}");
        let mut numbers: Vec<Ino> = vec![Ino::NONE; tree.nodes.len()];
        numbers[0] = fs.root();
        let mut todo: Vec<(Id, Inode)> = vec![(0, fs.iget(fs.root()).map_err(text)?)];
        let mut parents = Vec::new();
        while let Some((id, inode)) = todo.pop() {
            let node = tree.get(id);
            self.attributes(id, node, &inode)?;
            match node.kind() {
                FileKind::Regular => self.file(id, node, &inode)?,
                FileKind::Directory => {
                    parents.push((id, inode.parent()));
                    let (mut new, mut count) = (Vec::new(), 0);
                    let mut wrong = None;
                    let mut emit = |entry: &DirectoryEntry<'_>| {
                        count += 1;
                        match node.names.get(entry.name) {
                            None => wrong = Some(format!("there is {}", show(entry.name))),
                            Some(&child) => match numbers.get(child) {
                                Some(&Ino::NONE) => {
                                    numbers[child] = entry.ino;
                                    new.push((child, entry.ino));
                                }
                                Some(ino) if *ino != entry.ino => {
                                    wrong = Some(format!("{} is another inode", show(entry.name)));
                                }
                                _ => {}
                            },
                        }
                        wrong.is_none()
                    };
                    fs.readdir(&inode, 0, &mut emit).map_err(text)?;
                    if let Some(wrong) = wrong {
                        return Err(wrong);
                    }
                    if count != node.names.len() {
                        return Err(format!(
                            "{count} names in {} instead of {}",
                            inode.ino(),
                            node.names.len()
                        ));
                    }
                    for (child, ino) in new {
                        todo.push((child, fs.iget(ino).map_err(text)?));
                    }
                }
                FileKind::Symlink => {
                    let mut target = ochre::platform::Vec::new();
                    fs.readlink(&inode, &mut target).map_err(text)?;
                    if target[..] != node.target[..] {
                        return Err(format!("target of {}", inode.ino()));
                    }
                }
                _ => {}
            }
        }
        for (id, parent) in parents {
            if numbers[tree.get(id).parent] != parent {
                return Err(format!("parent of {}", numbers[id]));
            }
        }
        Ok(())
    }

    fn attributes(&self, id: Id, node: &Node, inode: &Inode) -> Result<(), String> {
        let found = inode.attributes();
        let differs = |what: &str, found: u64, expected: u64| {
            Err(format!(
                "{what} of inode {} (node {id}) is {found} instead of {expected}",
                inode.ino()
            ))
        };
        if found.nlink != node.links {
            return differs("link count", found.nlink.into(), node.links.into());
        }
        let sized = matches!(node.kind(), FileKind::Regular | FileKind::Symlink);
        if sized && found.size != node.size {
            return differs("size", found.size, node.size);
        }
        if found.mode != node.mode {
            return differs("mode", found.mode.into(), node.mode.into());
        }
        if found.uid != node.uid {
            return differs("owner", found.uid.into(), node.uid.into());
        }
        if found.rdev != node.rdev {
            return differs("device number", found.rdev, node.rdev);
        }
        let times = [found.atime.0, found.mtime.0, found.ctime.0];
        for (which, &time) in times.iter().enumerate() {
            let loose = node.loose_times.iter().any(|t| t[which] == time);
            if time != node.times[which] && !loose {
                let what = ["access time", "modification time", "change time"][which];
                return differs(what, time as u64, node.times[which] as u64);
            }
        }
        Ok(())
    }

    fn file(&self, id: Id, node: &Node, inode: &Inode) -> Result<(), String> {
        if node.opaque {
            return Ok(());
        }
        let end = node.cells.last_key_value().map_or(0, |(&b, _)| b + 1);
        let past = FileBlock(end.max(FileBlock::after(node.size).0) + 1);
        if !self.bytes_only {
            let found = self.fs.map(inode, past, FileBlock::END.0 - past.0);
            let found = found.map_err(|e| format!("map of {} fails: {e}", inode.ino()))?;
            if found.state != MappingState::Hole || found.len < FileBlock::END.0 - past.0 {
                let ino = inode.ino();
                return Err(format!("inode {ino} has blocks far behind its end"));
            }
        }
        if let Some(Some(before)) = self.base.and_then(|base| base.nodes.get(id)) {
            let untouched = Arc::ptr_eq(&before.cells, &node.cells) && node.partly.is_none();
            if untouched && node.cells.len() > BULK {
                return Ok(());
            }
        }
        let end = match self.bytes_only {
            true => FileBlock::after(node.size).0,
            false => past.0,
        };
        let mut at = 0;
        while at < end {
            let found = self
                .fs
                .map(inode, FileBlock(at), end - at)
                .map_err(|e| format!("map of {} fails: {e}", inode.ino()))?;
            for n in at..at + found.len {
                self.block(node, inode, n, found.state, n - at)?;
            }
            at += found.len;
        }
        Ok(())
    }

    /// Block `n` of a file, `skip` blocks into a mapping of this state.
    fn block(
        &self,
        node: &Node,
        inode: &Inode,
        n: u64,
        state: MappingState,
        skip: u64,
    ) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("block {n} of inode {} is {what}", inode.ino()));
        let cell = node.cells.get(&n);
        let partly = node
            .partly
            .is_some_and(|(first, end)| n >= first && n < end);
        match (state, cell) {
            (MappingState::Hole, None) => Ok(()),
            (MappingState::Hole, Some(_)) if partly => Ok(()),
            (MappingState::Hole, Some(_)) => wrong("a hole"),
            (MappingState::Unwritten(_), Some(Cell::Unwritten)) => Ok(()),
            (MappingState::Unwritten(_), _) => wrong("preallocated"),
            (MappingState::Written(block), Some(Cell::Data(expected))) => {
                let mut bytes = [0; BLOCK_SIZE as usize];
                let address = block.plus(skip).address();
                let read = self.fs.media().read(address, &mut bytes);
                let seen = node.size.saturating_sub(n * BLOCK_SIZE).min(BLOCK_SIZE) as usize;
                let none = Vec::new();
                let loose = node.loose.get(&n).unwrap_or(&none);
                if read.is_err() || !agrees(&bytes[..seen], expected, loose) {
                    return wrong("written with other bytes");
                }
                Ok(())
            }
            (MappingState::Written(_), _) => wrong("written"),
        }
    }
}

/// Whether each word is what is expected or something looser.
fn agrees(found: &[u8], expected: &[u8], loose: &[Bytes]) -> bool {
    if found == &expected[..found.len()] {
        return true;
    }
    found.chunks(8).enumerate().all(|(i, word)| {
        let range = i * 8..i * 8 + word.len();
        word == &expected[range.clone()] || loose.iter().any(|l| word == &l[range.clone()])
    })
}

fn show(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
