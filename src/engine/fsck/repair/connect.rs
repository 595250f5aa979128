// SPDX-License-Identifier: GPL-2.0

//! The sixth step: one tree of directories, and a name for everything.
//!
//! From the root the names of directories are followed: first such as the directory itself calls
//! its parent, then all. A directory that was reached has its name; every other name of it is
//! removed, and so are those that would close a loop. What was not reached hangs below directories
//! that have no name at all, or below a loop: these, and files without a name, are linked in
//! `/lost+found` as `#` and their number.
//!
//! An inode without a name and without links was being removed; it belongs to the orphan table.
//!
//! # Hazard
//!
//! A full filesystem may have no room for names. Then as many as fit are linked, and the others
//! stay as they are, which is said.

use core::fmt::Write;

use super::names::Names;
use super::{Action, Class, Repair};
use crate::engine::error::Result;
use crate::engine::format::inode::{InodeRecord, MAGIC};
use crate::engine::fsck::table::{CONNECTED, KNOWN, LOST, NAMED, ON_PATH, REWRITE, USED};
use crate::engine::media::Media;
use crate::engine::types::{u32_of, u64_of, usize_of, FileKind, Ino};
use crate::platform::{yield_now, Vec};

/// The index of the root directory: number 1 is the second record of the first chunk.
const ROOT: usize = 1;

/// A short name, made of a number.
#[derive(Clone, Copy)]
struct Label {
    bytes: [u8; 40],
    len: usize,
}

impl Label {
    const EMPTY: Self = Self {
        bytes: [0; 40],
        len: 0,
    };

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Write for Label {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let place = self.bytes.get_mut(self.len..self.len + text.len());
        place
            .ok_or(core::fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

impl<M: Media> Repair<'_, M> {
    /// Makes the directories one tree.
    pub(super) fn connect(&mut self) -> Result {
        let edges = core::mem::take(&mut self.edges);
        self.reach(ROOT, ROOT);
        self.follow(&edges, ROOT, true)?;
        for index in 0..self.table.len() {
            if self.table.get(index).is(CONNECTED) {
                self.follow(&edges, index, false)?;
            }
        }
        let lost = self.find_lost(&edges)?;
        self.choose_names(&edges);
        for index in 0..self.table.len() {
            let entry = self.table.get(index);
            if entry.is_directory() && entry.is(REWRITE) && entry.is(KNOWN) {
                yield_now();
                if !self.rewrite_directory(index, &[], true)? {
                    let ino = self.table.ino(index);
                    self.act(Action::NoRoom { ino });
                }
            }
        }
        self.put_held()?;
        self.count_directories();
        if lost.is_empty() {
            return Ok(());
        }
        self.relink(&lost)
    }

    /// A directory hangs on the tree from now on, below the one at index `parent`.
    fn reach(&mut self, index: usize, parent: usize) {
        if let Some(entry) = self.table.get_mut(index) {
            entry.flags |= CONNECTED;
            entry.parent = u32_of(u64_of(parent) + 1);
        }
    }

    /// Follows names from a directory down. `noted`: only those that agree with the parent that is
    /// noted.
    fn follow(&mut self, edges: &[(u32, u32)], from: usize, noted: bool) -> Result {
        let mut queue: Vec<usize> = Vec::new();
        queue.push(from)?;
        while let Some(dir) = queue.pop() {
            let number = u32_of(u64_of(dir));
            let first = edges.partition_point(|edge| edge.0 < number);
            for &(holder, child) in edges.iter().skip(first) {
                if holder != number {
                    break;
                }
                let child = usize_of(u64::from(child));
                let entry = self.table.get(child);
                if entry.is(CONNECTED) || (noted && entry.parent != number + 1) {
                    continue;
                }
                self.reach(child, dir);
                queue.push(child)?;
            }
        }
        Ok(())
    }

    /// What has no name and is no orphan.
    fn find_lost(&mut self, edges: &[(u32, u32)]) -> Result<Vec<usize>> {
        let mut lost = Vec::new();
        for loops in [false, true] {
            for index in 0..self.table.len() {
                let entry = self.table.get(index);
                if !entry.is(USED) || !entry.is(KNOWN) || !entry.is_directory() {
                    continue;
                }
                if entry.is(CONNECTED) || (entry.is(NAMED) && !loops) {
                    continue;
                }
                let number = u32_of(u64_of(index));
                let at = edges.partition_point(|edge| edge.0 < number);
                let empty = edges.get(at).is_none_or(|edge| edge.0 != number);
                if entry.stored == 0 && !entry.is(NAMED) && empty && !self.has_names(index)? {
                    continue;
                }
                self.reach(index, ROOT);
                if let Some(entry) = self.table.get_mut(index) {
                    entry.flags |= LOST;
                    entry.parent = 0;
                }
                lost.push(index)?;
                self.follow(edges, index, false)?;
            }
        }
        for index in 0..self.table.len() {
            let entry = self.table.get(index);
            let file = entry.is(USED) && entry.is(KNOWN) && !entry.is_directory();
            if file && entry.found == 0 && entry.stored != 0 {
                lost.push(index)?;
            }
        }
        Ok(lost)
    }

    fn has_names(&mut self, index: usize) -> Result<bool> {
        let Some(record) = self.record(index) else {
            return Ok(false);
        };
        Ok(!self.names_of(index, &record, false)?.entries.is_empty())
    }

    /// Directories with names that go are to be written anew.
    fn choose_names(&mut self, edges: &[(u32, u32)]) {
        for &(dir, child) in edges {
            let child = usize_of(u64::from(child));
            let entry = self.table.get(child);
            if entry.is(CONNECTED) && entry.parent == dir + 1 && !entry.is(ON_PATH) && child != ROOT
            {
                if let Some(entry) = self.table.get_mut(child) {
                    entry.flags |= ON_PATH;
                }
            } else {
                self.rewrite_later(usize_of(u64::from(dir)));
            }
        }
    }

    /// Counts subdirectories.
    fn count_directories(&mut self) {
        for index in 0..self.table.len() {
            let entry = self.table.get(index);
            if index == ROOT || !entry.is_directory() || !entry.is(CONNECTED) || entry.parent == 0 {
                continue;
            }
            let parent = usize_of(u64::from(entry.parent)) - 1;
            if let Some(parent) = self.table.get_mut(parent) {
                parent.found = parent.found.saturating_add(1);
            }
        }
    }

    /// Gives names in `lost+found`.
    fn relink(&mut self, lost: &[usize]) -> Result {
        let Some(dir) = self.lost_found()? else {
            return self.not_relinked(lost);
        };
        let Some(names) = self.names(dir)? else {
            return self.not_relinked(lost);
        };
        let mut labels: Vec<Label> = Vec::new();
        for &index in lost {
            labels.push(self.label(&names, index))?;
        }
        drop(names);
        // The names of lost directories are kept when the directory is written.
        for &index in lost {
            if self.table.get(index).is_directory() {
                self.reach(index, dir);
            }
        }
        let mut done = 0;
        let mut batch = lost.len();
        while done < lost.len() && batch != 0 {
            self.observer
                .progress(Class::Links, u64_of(done), u64_of(lost.len()));
            let end = (done + batch).min(lost.len());
            let mut more: Vec<(&[u8], usize)> = Vec::new();
            let part = lost.get(done..end).unwrap_or_default();
            for (label, &index) in labels.iter().skip(done).zip(part) {
                more.push((label.bytes(), index))?;
            }
            if self.rewrite_directory(dir, &more, false)? {
                for &index in part {
                    self.relinked(dir, index);
                }
                done = end;
            } else {
                batch /= 2;
            }
        }
        self.not_relinked(lost.get(done..).unwrap_or_default())
    }

    fn relinked(&mut self, dir: usize, index: usize) {
        let ino = self.table.ino(index);
        let Some(entry) = self.table.get_mut(index) else {
            return;
        };
        entry.flags |= LOST;
        if entry.is_directory() {
            if let Some(dir) = self.table.get_mut(dir) {
                dir.found = dir.found.saturating_add(1);
            }
        } else {
            entry.found = 1;
        }
        self.act(Action::Relinked { ino });
    }

    fn not_relinked(&mut self, lost: &[usize]) -> Result {
        if lost.is_empty() || self.outcome.refused.is_some() {
            return Ok(());
        }
        for &index in lost {
            if let Some(entry) = self.table.get_mut(index) {
                entry.flags &= !(CONNECTED | LOST);
            }
        }
        let count = u64_of(lost.len());
        self.act(Action::NotRelinked { count });
        Ok(())
    }

    /// A name for an inode that `lost+found`, which has these, does not have yet.
    fn label(&self, names: &Names, index: usize) -> Label {
        let mut label = Label::EMPTY;
        let _ = write!(label, "#{}", self.table.ino(index));
        for number in 1..100 {
            if names.find(&self.hash, label.bytes()).is_none() {
                break;
            }
            label = Label::EMPTY;
            let _ = write!(label, "#{}-{number}", self.table.ino(index));
        }
        label
    }

    /// The names of a directory that was judged.
    fn names(&mut self, dir: usize) -> Result<Option<Names>> {
        match self.record(dir) {
            Some(record) => self.names_of(dir, &record, false).map(Some),
            None => Ok(None),
        }
    }

    /// `/lost+found`, made if need be; `None` if there is no room, or it was refused.
    fn lost_found(&mut self) -> Result<Option<usize>> {
        let mut label = Label::EMPTY;
        let _ = label.write_str("lost+found");
        let Some(names) = self.names(ROOT)? else {
            return Ok(None);
        };
        for number in 1..100 {
            match names.find(&self.hash, label.bytes()) {
                Some(index) if self.table.get(index).is_directory() => return Ok(Some(index)),
                Some(_) => {
                    label = Label::EMPTY;
                    let _ = write!(label, "lost+found-{number}");
                }
                None => break,
            }
        }
        let Some(index) = self.free_record()? else {
            return Ok(None);
        };
        let ino = self.table.ino(index);
        if !self.act(Action::LostFoundMade { ino }) {
            return Ok(None);
        }
        let generation = self.next_generation(index);
        let record = self.new_directory(ino, Ino::ROOT, generation, 0o700);
        self.put_record(index, &record)?;
        self.set_used(index, true)?;
        if let Some(entry) = self.table.get_mut(index) {
            entry.flags = USED | KNOWN;
            entry.kind = FileKind::Directory.to_disk();
            entry.stored = 2;
            entry.found = 0;
        }
        self.reach(index, ROOT);
        if !self.rewrite_directory(ROOT, &[(label.bytes(), index)], false)? {
            self.free_inode(index)?;
            return Ok(None);
        }
        if let Some(root) = self.table.get_mut(ROOT) {
            root.found = root.found.saturating_add(1);
        }
        Ok(Some(index))
    }

    /// A generation that the number has not had last.
    fn next_generation(&mut self, index: usize) -> u32 {
        let before = self.record(index);
        let before = before.filter(|record: &InodeRecord| record.magic.get() == MAGIC);
        before.map_or(1, |record| record.generation.get().wrapping_add(1))
    }

    /// The index of a record that is not in use.
    fn free_record(&mut self) -> Result<Option<usize>> {
        let free = (2..self.table.len()).find(|&index| {
            !self.table.get(index).is(USED)
                && self.table.ino(index) != Ino::NONE
                && self.table.address(index).is_some()
        });
        match free {
            Some(index) => Ok(Some(index)),
            None => self.add_chunk(),
        }
    }
}
