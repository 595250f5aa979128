// SPDX-License-Identifier: GPL-2.0

//! Calls that change names.

use super::World;
use crate::model::{Id, Node, Tree};
use ochre::engine::filesystem::{NewInode, RenameArgs};
use ochre::engine::types::FileKind;
use std::sync::Arc;

/// The parent's path and the last name.
fn split(path: &str) -> (&str, &[u8]) {
    let at = path.rfind('/').unwrap_or(0);
    (&path[..at], &path.as_bytes()[at + 1..])
}

impl World {
    /// Directory and name for something new; `None` if it cannot be made.
    pub(super) fn vacant(&self, path: &str) -> Option<(Id, Vec<u8>)> {
        let (parent, name) = split(path);
        let dir = self.tree.find(parent)?;
        let node = self.tree.get(dir);
        (node.is_directory() && !node.names.contains_key(name)).then(|| (dir, name.to_vec()))
    }

    pub(super) fn node(new: &NewInode<'_>, parent: Id) -> Node {
        let kind = FileKind::from_mode(new.mode).expect("kind");
        let links = if kind == FileKind::Directory { 2 } else { 1 };
        let target = new.symlink.unwrap_or_default().to_vec();
        Node {
            mode: new.mode,
            uid: new.uid,
            rdev: new.rdev,
            size: target.len() as u64,
            target,
            parent,
            times: [new.time.0; 3],
            ..Node::new(kind, links)
        }
    }

    pub(super) fn create(&mut self, path: &str, mode: u16, target: Option<Vec<u8>>) {
        let Some((dir, name)) = self.vacant(path) else {
            return;
        };
        let new = self.new_inode(mode, target.as_deref());
        let parent = self.inode(dir);
        let node = Self::node(&new, dir);
        let id = self.tree.nodes.len();
        let is_directory = node.is_directory();
        let made = self.call(
            Vec::new(),
            &[dir],
            |fs| fs.create(&parent, &name, &new),
            |tree| {
                tree.add(node);
                let parent = tree.edit(dir);
                parent.names.insert(name.clone(), id);
                parent.links += u32::from(is_directory);
            },
        );
        if let Some(inode) = made {
            self.inodes.insert(id, Arc::new(inode));
        }
    }

    pub(super) fn tmpfile(&mut self, path: Option<&str>) {
        let new = self.new_inode(FileKind::Regular.mode_bits() | 0o600, None);
        let node = Node {
            links: 0,
            ..Self::node(&new, 0)
        };
        let id = self.tree.nodes.len();
        let made = self.call(
            Vec::new(),
            &[],
            |fs| fs.tmpfile(&new),
            |tree| {
                tree.add(node);
            },
        );
        let Some(inode) = made else { return };
        self.inodes.insert(id, Arc::new(inode));
        self.open.push(id);
        self.write(id, 0, 6000);
        let Some(path) = path else { return };
        if let Some((dir, name)) = self.vacant(path) {
            self.add_link(dir, &name, id);
        }
        self.open.retain(|&i| i != id);
        self.drop_if_gone(id);
    }

    pub(crate) fn add_link(&mut self, dir: Id, name: &[u8], id: Id) {
        let time = self.now();
        let (parent, inode) = (self.inode(dir), self.inode(id));
        self.call(
            Vec::new(),
            &[dir, id],
            |fs| fs.link(&parent, name, &inode, time),
            |tree| {
                tree.edit(dir).names.insert(name.to_vec(), id);
                tree.edit(id).links += 1;
            },
        );
    }

    pub(super) fn link(&mut self, from: &str, to: &str) {
        let Some(id) = self.tree.find(from) else {
            return;
        };
        if let (Some((dir, name)), false) = (self.vacant(to), self.tree.get(id).is_directory()) {
            self.add_link(dir, &name, id);
        }
    }

    pub(super) fn unlink(&mut self, path: &str, stays_open: bool) {
        let Some(id) = self.tree.find(path) else {
            return;
        };
        if self.tree.get(id).is_directory() {
            return;
        }
        let (parent, name) = split(path);
        let dir = self.tree.find(parent).expect("parent");
        let time = self.now();
        let (parent, inode) = (self.inode(dir), self.inode(id));
        self.always(
            &[dir, id],
            |fs| fs.unlink(&parent, name, &inode, time),
            |tree| {
                tree.edit(dir).names.remove(name);
                tree.edit(id).links -= 1;
            },
        );
        drop(inode);
        if stays_open && !self.open.contains(&id) {
            self.open.push(id);
        }
        self.drop_if_gone(id);
    }

    pub(super) fn rmdir(&mut self, path: &str) {
        let Some(id) = self.tree.find(path) else {
            return;
        };
        let node = self.tree.get(id);
        if !node.is_directory() || !node.names.is_empty() {
            return;
        }
        let (parent, name) = split(path);
        let dir = self.tree.find(parent).expect("parent");
        let time = self.now();
        let (parent, inode) = (self.inode(dir), self.inode(id));
        self.always(
            &[dir, id],
            |fs| fs.rmdir(&parent, name, &inode, time),
            |tree| {
                let parent = tree.edit(dir);
                parent.names.remove(name);
                parent.links -= 1;
                tree.edit(id).links = 0;
            },
        );
        self.drop_if_gone(id);
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, exchange: bool) {
        let (Some(id), (new_parent, new_name)) = (self.tree.find(from), split(to)) else {
            return;
        };
        let (old_parent, old_name) = split(from);
        let (Some(old_dir), Some(new_dir)) =
            (self.tree.find(old_parent), self.tree.find(new_parent))
        else {
            return;
        };
        let target = self.tree.find(to);
        let directory = |tree: &Tree, id: Id| tree.get(id).is_directory();
        // What the VFS refuses before a filesystem is asked, and what this model does not follow.
        let refused = !directory(&self.tree, new_dir)
            || target == Some(id)
            || self.tree.is_below(new_dir, id)
            || target.is_some_and(|t| self.tree.is_below(old_dir, t))
            || (exchange && target.is_none());
        let clash = target.is_some_and(|t| {
            !exchange
                && (directory(&self.tree, t) != directory(&self.tree, id)
                    || !self.tree.get(t).names.is_empty())
        });
        if refused || clash {
            return;
        }
        let time = self.now();
        let (a, b, inode) = (self.inode(old_dir), self.inode(new_dir), self.inode(id));
        let other = target.map(|t| self.inode(t));
        let mut touched = vec![old_dir, new_dir, id];
        touched.extend(target);
        touched.dedup();
        self.call(
            Vec::new(),
            &touched,
            |fs| {
                fs.rename(&RenameArgs {
                    old_dir: &a,
                    old_name,
                    inode: &inode,
                    new_dir: &b,
                    new_name,
                    target: other.as_deref(),
                    exchange,
                    time,
                })
            },
            |tree| rename(tree, (old_dir, old_name), (new_dir, new_name), exchange),
        );
        drop((inode, other));
        if let (Some(target), false) = (target, exchange) {
            self.drop_if_gone(target);
        }
    }
}

fn rename(tree: &mut Tree, from: (Id, &[u8]), to: (Id, &[u8]), exchange: bool) {
    let id = tree.get(from.0).names[from.1];
    let target = tree.get(to.0).names.get(to.1).copied();
    let is_directory = |tree: &Tree, id: Id| tree.get(id).is_directory();
    let move_to = |tree: &mut Tree, id: Id, old: Id, new: Id| {
        if is_directory(tree, id) && old != new {
            tree.edit(id).parent = new;
            tree.edit(old).links -= 1;
            tree.edit(new).links += 1;
        }
    };
    tree.edit(from.0).names.remove(from.1);
    tree.edit(to.0).names.insert(to.1.to_vec(), id);
    move_to(tree, id, from.0, to.0);
    let Some(target) = target else { return };
    if exchange {
        tree.edit(from.0).names.insert(from.1.to_vec(), target);
        move_to(tree, target, to.0, from.0);
    } else if is_directory(tree, target) {
        tree.edit(target).links = 0;
        tree.edit(to.0).links -= 1;
    } else {
        tree.edit(target).links -= 1;
    }
}
