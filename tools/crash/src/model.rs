// SPDX-License-Identifier: GPL-2.0

//! What a filesystem should hold, in plain memory.
//!
//! A [`Tree`] is one state. Clones share their nodes, so that a sequence of calls can keep the state before and after each.
//! What a crash may leave open within one call (the words of an overwrite in place, the blocks of a punch that takes several
//! transactions) is said in the node itself: see [`Node::loose`], [`Node::loose_times`] and [`Node::partly`].

use ochre::engine::types::{FileKind, BLOCK_SIZE};
use std::collections::{hash_map::DefaultHasher, BTreeMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Number of a node.
pub type Id = usize;

/// The bytes of a block.
pub type Bytes = Arc<Vec<u8>>;

/// One block of a file; a block that is not there is a hole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// Allocated, reads as zeros.
    Unwritten,
    /// Written.
    Data(Bytes),
}

/// A file, directory or whatever else.
#[derive(Clone, Debug, Hash)]
pub struct Node {
    /// Link count.
    pub links: u32,
    /// Full mode.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Device number.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Access, modification and change time.
    pub times: [i64; 3],
    /// Names, of a directory.
    pub names: BTreeMap<Vec<u8>, Id>,
    /// Parent, of a directory.
    pub parent: Id,
    /// Target, of a symbolic link.
    pub target: Vec<u8>,
    /// Blocks, of a file.
    pub cells: Arc<BTreeMap<u64, Cell>>,
    /// Older contents of blocks: each word may still be one of these.
    pub loose: BTreeMap<u64, Vec<Bytes>>,
    /// Older times: each may still be there.
    pub loose_times: Vec<[i64; 3]>,
    /// Its blocks are not followed.
    pub opaque: bool,
    /// Blocks of this range may be holes although `cells` has them.
    pub partly: Option<(u64, u64)>,
}

impl Node {
    /// Something new without content.
    pub fn new(kind: FileKind, links: u32) -> Self {
        Self {
            links,
            mode: kind.mode_bits(),
            uid: 0,
            rdev: 0,
            size: 0,
            times: [0; 3],
            names: BTreeMap::new(),
            parent: 0,
            target: Vec::new(),
            cells: Arc::default(),
            loose: BTreeMap::new(),
            loose_times: Vec::new(),
            opaque: false,
            partly: None,
        }
    }

    /// What it is.
    pub fn kind(&self) -> FileKind {
        FileKind::from_mode(self.mode).unwrap_or(FileKind::Regular)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind() == FileKind::Directory
    }

    /// The blocks, to be changed.
    pub fn cells(&mut self) -> &mut BTreeMap<u64, Cell> {
        Arc::make_mut(&mut self.cells)
    }

    /// The bytes of a block; zeros for holes and unwritten ones.
    pub fn block(&self, block: u64) -> Vec<u8> {
        match self.cells.get(&block) {
            Some(Cell::Data(bytes)) => bytes.to_vec(),
            _ => vec![0; BLOCK_SIZE as usize],
        }
    }

    /// Changes bytes of written blocks.
    pub fn fill(&mut self, offset: u64, len: u64, byte: u8) {
        let mut at = offset;
        while at < offset + len {
            let block = at / BLOCK_SIZE;
            let stop = ((block + 1) * BLOCK_SIZE).min(offset + len);
            let mut bytes = self.block(block);
            let base = block * BLOCK_SIZE;
            bytes[(at - base) as usize..(stop - base) as usize].fill(byte);
            self.cells().insert(block, Cell::Data(Arc::new(bytes)));
            at = stop;
        }
    }

    /// Zeroes bytes where there are written blocks.
    pub fn zero(&mut self, offset: u64, end: u64) {
        let blocks: Vec<u64> = self
            .cells
            .range(offset / BLOCK_SIZE..end.div_ceil(BLOCK_SIZE))
            .filter(|(_, cell)| matches!(cell, Cell::Data(_)))
            .map(|(&b, _)| b)
            .collect();
        for block in blocks {
            let from = offset.max(block * BLOCK_SIZE);
            let to = end.min((block + 1) * BLOCK_SIZE);
            self.fill(from, to - from, 0);
        }
    }

    /// Takes blocks out.
    pub fn punch(&mut self, first: u64, end: u64) {
        self.cells().retain(|&b, _| b < first || b >= end);
        self.loose.retain(|&b, _| b < first || b >= end);
    }

    /// Gives each block another number, or none: it goes.
    pub fn renumber(&mut self, number: impl Fn(u64) -> Option<u64>) {
        fn moved<T: Clone>(
            map: &BTreeMap<u64, T>,
            number: &impl Fn(u64) -> Option<u64>,
        ) -> BTreeMap<u64, T> {
            let new = |(&b, value): (&u64, &T)| Some((number(b)?, value.clone()));
            map.iter().filter_map(new).collect()
        }
        self.cells = Arc::new(moved(&self.cells, &number));
        self.loose = moved(&self.loose, &number);
    }

    /// Lets the written blocks of a byte range keep what they hold now as something that may still be there.
    pub fn loosen(&mut self, offset: u64, end: u64) {
        let range = offset / BLOCK_SIZE..end.div_ceil(BLOCK_SIZE);
        for (&block, cell) in self.cells.range(range) {
            if let Cell::Data(bytes) = cell {
                self.loose.entry(block).or_default().push(bytes.clone());
            }
        }
    }
}

/// A whole state; node 0 is the root.
#[derive(Clone, Debug, Hash)]
pub struct Tree {
    /// By number; `None`: gone.
    pub nodes: Vec<Option<Arc<Node>>>,
}

impl Tree {
    /// An empty root.
    pub fn new() -> Self {
        let root = Node::new(FileKind::Directory, 2);
        Self {
            nodes: vec![Some(Arc::new(root))],
        }
    }

    /// A node that is there.
    pub fn get(&self, id: Id) -> &Node {
        self.nodes[id].as_ref().expect("a node of the model")
    }

    /// The same, to be changed.
    pub fn edit(&mut self, id: Id) -> &mut Node {
        Arc::make_mut(self.nodes[id].as_mut().expect("a node of the model"))
    }

    /// Adds a node.
    pub fn add(&mut self, node: Node) -> Id {
        self.nodes.push(Some(Arc::new(node)));
        self.nodes.len() - 1
    }

    /// The node behind a path like `/A/foo`.
    pub fn find(&self, path: &str) -> Option<Id> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        let mut id = 0;
        for part in parts {
            id = *self.get(id).names.get(part.as_bytes())?;
        }
        Some(id)
    }

    /// Whether `id` is `above` or lies below it.
    pub fn is_below(&self, mut id: Id, above: Id) -> bool {
        loop {
            if id == above {
                return true;
            }
            if id == 0 {
                return false;
            }
            id = self.get(id).parent;
        }
    }

    /// Nothing is open any more: everything was made durable.
    pub fn settle(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            if !node.loose.is_empty() || !node.loose_times.is_empty() {
                let node = Arc::make_mut(node);
                node.loose.clear();
                node.loose_times.clear();
            }
        }
    }

    /// Both of two changes of `before`; `None` if they concern the same node.
    pub fn merged(before: &Self, a: &Self, b: &Self) -> Option<Self> {
        let at = |tree: &Self, i: usize| tree.nodes.get(i).cloned().flatten();
        let same = |x: &Option<Arc<Node>>, y: &Option<Arc<Node>>| match (x, y) {
            (Some(x), Some(y)) => Arc::ptr_eq(x, y),
            (None, None) => true,
            _ => false,
        };
        let mut nodes = Vec::new();
        for i in 0..a.nodes.len().max(b.nodes.len()) {
            let (old, a, b) = (at(before, i), at(a, i), at(b, i));
            nodes.push(match (same(&old, &a), same(&old, &b)) {
                (_, true) => a,
                (true, false) => b,
                (false, false) => return None,
            });
        }
        Some(Self { nodes })
    }

    /// Names the state.
    pub fn name(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}
