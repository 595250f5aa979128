// SPDX-License-Identifier: GPL-2.0

//! What the filesystem should hold: a tree that the calls of a list are applied to as they return.

use crate::call::{pattern, Call, COLLAPSE, INSERT, KEEP_SIZE, PUNCH, ZERO, ZERO_KEEP};
use crate::file::{File, BLOCK};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Number of a node; 0 is the root.
pub type Id = usize;

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A regular file.
    File(File),
    /// Names.
    Directory(BTreeMap<String, Id>),
    /// A target.
    Symlink(String),
}

/// A file, directory or symbolic link.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it holds.
    pub kind: Kind,
    /// Link count.
    pub links: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
}

/// The tree. Cheap to clone: nodes are shared until they change.
#[derive(Clone, Debug)]
pub struct Model {
    nodes: BTreeMap<Id, Arc<Node>>,
    slots: BTreeMap<String, Id>,
    /// Whose pages each pipe holds.
    holders: BTreeMap<String, Id>,
    next: Id,
}

type Done<T = ()> = Result<T, String>;

impl Default for Model {
    fn default() -> Self {
        let root = Node {
            kind: Kind::Directory(BTreeMap::new()),
            links: 2,
            mode: 0o755,
            uid: 0,
        };
        Self {
            nodes: BTreeMap::from([(0, Arc::new(root))]),
            slots: BTreeMap::new(),
            holders: BTreeMap::new(),
            next: 1,
        }
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or((".", path))
}

impl Model {
    /// A node.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[&id]
    }

    fn change(&mut self, id: Id) -> &mut Node {
        Arc::make_mut(self.nodes.get_mut(&id).expect("a node of the model"))
    }

    /// The node of a path or slot.
    pub fn find(&self, path: &str) -> Done<Id> {
        if let Some(slot) = path.strip_prefix('@') {
            return self
                .slots
                .get(slot)
                .copied()
                .ok_or(format!("no slot {slot}"));
        }
        let mut id = 0;
        for part in path.split('/').filter(|p| *p != ".") {
            let Kind::Directory(names) = &self.node(id).kind else {
                return Err(format!("{path}: no directory"));
            };
            id = *names.get(part).ok_or(format!("{path}: not there"))?;
        }
        Ok(id)
    }

    /// The content of a regular file.
    pub fn file(&self, path: &str) -> Done<&File> {
        match &self.node(self.find(path)?).kind {
            Kind::File(file) => Ok(file),
            _ => Err(format!("{path}: no file")),
        }
    }

    fn change_file(&mut self, path: &str) -> Done<&mut File> {
        let id = self.find(path)?;
        match &mut self.change(id).kind {
            Kind::File(file) => Ok(file),
            _ => Err(format!("{path}: no file")),
        }
    }

    fn names(&mut self, directory: &str) -> Done<&mut BTreeMap<String, Id>> {
        let id = self.find(directory)?;
        match &mut self.change(id).kind {
            Kind::Directory(names) => Ok(names),
            _ => Err(format!("{directory}: no directory")),
        }
    }

    fn is_directory(&self, id: Id) -> bool {
        matches!(self.node(id).kind, Kind::Directory(_))
    }

    fn add(&mut self, kind: Kind, mode: u32) -> Id {
        let links = if matches!(kind, Kind::Directory(_)) {
            2
        } else {
            1
        };
        let id = self.next;
        self.next += 1;
        self.nodes.insert(
            id,
            Arc::new(Node {
                kind,
                links,
                mode,
                uid: 0,
            }),
        );
        id
    }

    fn enter(&mut self, path: &str, id: Id) -> Done {
        let (directory, name) = split(path);
        if self.names(directory)?.insert(name.into(), id).is_some() {
            return Err(format!("{path}: there already"));
        }
        let parent = self.find(directory)?;
        if self.is_directory(id) {
            self.change(parent).links += 1;
        }
        Ok(())
    }

    fn leave(&mut self, path: &str) -> Done<Id> {
        let (directory, name) = split(path);
        let id = self
            .names(directory)?
            .remove(name)
            .ok_or(format!("{path}: not there"))?;
        let parent = self.find(directory)?;
        if self.is_directory(id) {
            self.change(parent).links -= 1;
        }
        Ok(id)
    }

    fn unlink(&mut self, path: &str) -> Done {
        let id = self.leave(path)?;
        let gone = if self.is_directory(id) { 2 } else { 1 };
        self.change(id).links -= gone;
        self.forget(id);
        Ok(())
    }

    /// Drops a node without names and openers.
    fn forget(&mut self, id: Id) {
        if self.node(id).links == 0 && !self.slots.values().any(|s| *s == id) {
            self.nodes.remove(&id);
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Done {
        let (source, target) = (self.find(from)?, self.find(to).ok());
        if Some(source) == target {
            return Err(format!("{from} and {to} are one file"));
        }
        if target.is_some() {
            self.unlink(to)?;
        }
        let id = self.leave(from)?;
        self.enter(to, id)
    }

    /// Applies a call that succeeded; returns what it should have returned.
    pub fn apply(&mut self, call: &Call) -> Done<i64> {
        match call {
            Call::Mount | Call::Umount | Call::Map(..) | Call::Unmap(_) => {}
            Call::Create(p) => {
                let id = self.add(Kind::File(File::default()), 0o644);
                self.enter(p, id)?;
            }
            Call::Mkdir(p) => {
                let id = self.add(Kind::Directory(BTreeMap::new()), 0o755);
                self.enter(p, id)?;
            }
            Call::Symlink(target, p) => {
                let id = self.add(Kind::Symlink(target.clone()), 0o777);
                self.enter(p, id)?;
            }
            Call::Rmdir(p) | Call::Unlink(p) => self.unlink(p)?,
            Call::Link(a, b) => {
                let id = self.find(a)?;
                self.change(id).links += 1;
                self.enter(b, id)?;
            }
            Call::Rename(a, b) => self.rename(a, b)?,
            Call::Exchange(a, b) => {
                let (x, y) = (self.leave(a)?, self.leave(b)?);
                self.enter(a, y)?;
                self.enter(b, x)?;
            }
            Call::Chmod(p, mode) => {
                let id = self.find(p)?;
                self.change(id).mode = *mode;
            }
            Call::Chown(p, uid) => {
                let id = self.find(p)?;
                self.change(id).uid = *uid;
            }
            Call::Truncate(p, size) => self.change_file(p)?.truncate(*size),
            Call::Write(p, at, len, fill) => {
                self.change_file(p)?
                    .write(*at, *len, |at| pattern(*fill, at));
                return Ok(*len as i64);
            }
            Call::Fallocate(p, PUNCH, at, len) => self.change_file(p)?.punch(*at, *len),
            Call::Fallocate(_, KEEP_SIZE, ..) => {}
            Call::Fallocate(p, COLLAPSE, at, len) => self.change_file(p)?.collapse(*at, *len),
            Call::Fallocate(p, INSERT, at, len) => self.change_file(p)?.insert(*at, *len),
            Call::Fallocate(p, mode @ (ZERO | ZERO_KEEP), at, len) => {
                self.change_file(p)?.zero(*at, *len, *mode == ZERO_KEEP)
            }
            Call::Fallocate(p, _, at, len) => {
                let file = self.change_file(p)?;
                file.truncate(file.size().max(at + len));
            }
            Call::Fsync(p) if self.is_directory(self.find(p)?) => {}
            Call::Fsync(p) => self.change_file(p)?.flush(0..u64::MAX),
            Call::Open(slot, p) => {
                let id = self.find(p)?;
                self.slots.insert(slot.clone(), id);
            }
            Call::Tmpfile(slot, _) => {
                let id = self.add(Kind::File(File::default()), 0o644);
                self.change(id).links = 0;
                self.slots.insert(slot.clone(), id);
            }
            Call::LinkFd(slot, p) => {
                let id = self.find(&format!("@{slot}"))?;
                self.change(id).links += 1;
                self.enter(p, id)?;
            }
            Call::Close(slot) => {
                let id = self.slots.remove(slot).ok_or(format!("no slot {slot}"))?;
                self.forget(id);
            }
            Call::Store(slot, at, value) => {
                self.change_file(&format!("@{slot}"))?.store(*at, *value)
            }
            Call::Flush(slot, at, len) => {
                self.change_file(&format!("@{slot}"))?
                    .flush(at / 64 * 64..(at + len).next_multiple_of(64));
            }
            Call::Hold(key, slot, at, len) => {
                let slot = format!("@{slot}");
                self.holders.insert(key.clone(), self.find(&slot)?);
                self.change_file(&slot)?.hold(key, *at, *len);
            }
            Call::LetGo(key) => {
                let id = self.holders.remove(key).ok_or(format!("no holder {key}"))?;
                if self.nodes.contains_key(&id) {
                    if let Kind::File(file) = &mut self.change(id).kind {
                        file.let_go(key);
                    }
                }
            }
            Call::Probe(slot) => {
                let file = self.change_file(&format!("@{slot}"))?;
                file.probe();
                file.flush(0..BLOCK);
            }
            Call::Msync(slot, at, len) => {
                self.change_file(&format!("@{slot}"))?
                    .flush(*at..(at + len).next_multiple_of(BLOCK));
            }
        }
        Ok(0)
    }

    /// The states in which a call that has not returned may leave the tree. `size` tells the size that a model's file has after
    /// the power cut, if it is there.
    pub fn in_flight(&self, call: &Call, size: &dyn Fn(&Self, Id) -> Option<u64>) -> Vec<Self> {
        let with = |path: &str, file: File| {
            let mut state = self.clone();
            state.change_file(path).map(|f| *f = file).map(|()| state)
        };
        match call {
            Call::Write(p, at, len, fill) => {
                let Ok(file) = self.file(p) else {
                    return vec![self.clone()];
                };
                let found = self.find(p).ok().and_then(|id| size(self, id)).unwrap_or(0);
                file.writing(*at, *len, *fill, found)
                    .into_iter()
                    .filter_map(|f| with(p, f).ok())
                    .collect()
            }
            Call::Fallocate(p, PUNCH, at, len) => {
                let Ok(file) = self.file(p) else {
                    return vec![self.clone()];
                };
                with(p, file.punching(*at, *len)).into_iter().collect()
            }
            Call::Fallocate(p, mode @ (ZERO | ZERO_KEEP), at, len) => {
                let Ok(file) = self.file(p) else {
                    return vec![self.clone()];
                };
                let states = file.zeroing(*at, *len, *mode == ZERO_KEEP);
                states.into_iter().filter_map(|f| with(p, f).ok()).collect()
            }
            Call::Probe(slot) => {
                let mut state = self.clone();
                let done = state.change_file(&format!("@{slot}")).map(File::probe);
                done.map(|()| state).into_iter().collect()
            }
            // Until it returns nothing is promised; that a word arrives is in the set of what it may hold already.
            Call::Fsync(_) | Call::Msync(..) | Call::Flush(..) => vec![self.clone()],
            call => {
                let mut after = self.clone();
                match after.apply(call) {
                    Ok(_) => vec![self.clone(), after],
                    Err(_) => vec![self.clone()],
                }
            }
        }
    }

    /// All nodes that can be reached by name: path and number.
    pub fn paths(&self) -> Vec<(String, Id)> {
        let mut all = vec![(String::new(), 0)];
        let mut at = 0;
        while at < all.len() {
            let (path, id) = all[at].clone();
            if let Kind::Directory(names) = &self.node(id).kind {
                let below = |name: &str| {
                    if path.is_empty() {
                        name.to_string()
                    } else {
                        format!("{path}/{name}")
                    }
                };
                all.extend(names.iter().map(|(name, id)| (below(name), *id)));
            }
            at += 1;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(calls: &[&str]) -> Model {
        let mut model = Model::default();
        for call in calls {
            model.apply(&call.parse().unwrap()).unwrap();
        }
        model
    }

    #[test]
    fn links_are_counted() {
        let m = after(&[
            "mkdir d",
            "mkdir d/e",
            "create f",
            "link f d/g",
            "rename d/e e",
            "rename f d/g2",
        ]);
        assert_eq!(m.node(0).links, 4);
        assert_eq!(m.node(m.find("d").unwrap()).links, 2);
        assert_eq!(m.node(m.find("d/g").unwrap()).links, 2);
        assert_eq!(m.find("d/g"), m.find("d/g2"));
    }

    #[test]
    fn an_unlinked_open_file_lives_until_it_is_closed() {
        let mut m = after(&["create f", "open 1 f", "unlink f", "write @1 0 10 1"]);
        assert_eq!(m.file("@1").unwrap().size(), 10);
        assert_eq!(m.paths().len(), 1);
        m.apply(&Call::Close("1".into())).unwrap();
        assert_eq!(m.nodes.len(), 1);
    }

    #[test]
    fn calls_in_flight_have_happened_or_not() {
        let m = after(&["create f", "create g"]);
        let states = m.in_flight(&Call::Rename("f".into(), "g".into()), &|_, _| None);
        assert_eq!(
            states.iter().map(|s| s.paths().len()).collect::<Vec<_>>(),
            [3, 2]
        );
    }
}
