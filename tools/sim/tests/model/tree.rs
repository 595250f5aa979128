// SPDX-License-Identifier: GPL-2.0

//! What a filesystem should do, in a hash map.

use std::collections::BTreeMap;

/// Number of a node in the model.
pub type Id = usize;

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Bytes.
    File(Vec<u8>),
    /// Names, and the parent.
    Directory(BTreeMap<Vec<u8>, Id>, Id),
    /// A target.
    Symlink(Vec<u8>),
}

/// A file, directory or link.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it holds.
    pub content: Content,
    /// Names that lead to it.
    pub links: u32,
}

/// All nodes; 0 is the root.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Nodes by number; `None`: gone.
    pub nodes: Vec<Option<Node>>,
}

impl Tree {
    /// An empty root.
    pub fn new() -> Self {
        let root = Node {
            content: Content::Directory(BTreeMap::new(), 0),
            links: 2,
        };
        Self {
            nodes: vec![Some(root)],
        }
    }

    /// A node that is there.
    pub fn node(&mut self, id: Id) -> &mut Node {
        self.nodes[id].as_mut().expect("a node of the model")
    }

    /// Names of a directory that is there.
    pub fn names(&mut self, id: Id) -> &mut BTreeMap<Vec<u8>, Id> {
        match &mut self.node(id).content {
            Content::Directory(names, _) => names,
            other => panic!("no directory: {other:?}"),
        }
    }

    /// Whether this is a directory.
    pub fn is_directory(&mut self, id: Id) -> bool {
        matches!(self.node(id).content, Content::Directory(..))
    }

    /// All nodes of one kind that have a name.
    pub fn all(&self, wanted: fn(&Content) -> bool) -> Vec<Id> {
        let named = |node: &Node| node.links > 0 && wanted(&node.content);
        (0..self.nodes.len())
            .filter(|&id| self.nodes[id].as_ref().is_some_and(named))
            .collect()
    }

    /// Adds a node.
    pub fn add(&mut self, content: Content, links: u32) -> Id {
        self.nodes.push(Some(Node { content, links }));
        self.nodes.len() - 1
    }

    /// Whether `id` is `above` or lies below it.
    pub fn is_below(&mut self, mut id: Id, above: Id) -> bool {
        loop {
            if id == above {
                return true;
            }
            match self.node(id).content {
                Content::Directory(_, parent) if id != 0 => id = parent,
                _ => return false,
            }
        }
    }
}
