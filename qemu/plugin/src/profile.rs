// SPDX-License-Identifier: GPL-2.0

//! Which functions the instructions between two markers were run in: a tree of calls.
//!
//! QEMU calls back before each block of instructions. One that ends in a call lets the next one begin a function, one that begins at
//! a return address of the stack that is kept here ends one. So a function that is left by a jump counts as its caller's caller's,
//! and what was inlined as the function that it was inlined in: each block's address is given too, from which a reader with
//! symbols can tell them apart. For a machine of one CPU; interrupts count where they happen.
//!
//! # The file
//!
//! Lines, for each pair of markers: `row COUNT`; `node NUMBER PARENT ENTRY CALLS` for each place in the tree (0 is the process
//! itself); `code NODE BLOCK INSTRUCTIONS` for each block that ran there. Addresses are hexadecimal.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};

const KERNEL: u64 = 1 << 63;
/// Frames that are looked through for a return address.
const DEEP: usize = 16;

/// A block of instructions, as it was translated.
pub struct Block {
    pub start: u64,
    pub instructions: u64,
    /// It ends in a call that returns to this address.
    pub call: Option<u64>,
}

#[derive(Default)]
struct Node {
    parent: usize,
    entry: u64,
    calls: u64,
    children: HashMap<u64, usize>,
}

/// The tree of the row that runs.
pub struct Profile {
    out: BufWriter<File>,
    on: bool,
    nodes: Vec<Node>,
    at: usize,
    /// Return addresses, and the places in the tree that they lead back to.
    stack: Vec<(u64, usize)>,
    called: Option<u64>,
    counts: HashMap<(usize, u64), u64>,
}

impl Profile {
    /// Writes to a new file.
    pub fn create(path: &str) -> std::io::Result<Self> {
        Ok(Self {
            out: BufWriter::with_capacity(1 << 20, File::create(path)?),
            on: false,
            nodes: Vec::new(),
            at: 0,
            stack: Vec::new(),
            called: None,
            counts: HashMap::new(),
        })
    }

    /// A row begins.
    pub fn start(&mut self) {
        self.nodes = vec![Node::default()];
        self.at = 0;
        self.stack.clear();
        self.called = None;
        self.counts.clear();
        self.on = true;
    }

    /// A block runs.
    pub fn run(&mut self, block: &Block) {
        if !self.on {
            return;
        }
        let called = self.called.take().filter(|back| *back != block.start);
        if block.start < KERNEL {
            self.stack.clear();
            self.at = 0;
        } else if let Some(back) = called {
            self.stack.push((back, self.at));
            self.enter(block.start);
        } else if self.at == 0 {
            self.enter(block.start);
        } else if let Some(frame) = self.frame(block.start) {
            self.at = self.stack[frame].1;
            self.stack.truncate(frame);
        }
        *self.counts.entry((self.at, block.start)).or_default() += block.instructions;
        self.called = block.call;
    }

    fn frame(&self, back: u64) -> Option<usize> {
        let from = self.stack.len().saturating_sub(DEEP);
        let found = self.stack[from..].iter().rposition(|f| f.0 == back);
        found.map(|i| from + i)
    }

    fn enter(&mut self, entry: u64) {
        let new = self.nodes.len();
        let child = *self.nodes[self.at].children.entry(entry).or_insert(new);
        if child == new {
            self.nodes.push(Node {
                parent: self.at,
                entry,
                ..Node::default()
            });
        }
        self.nodes[child].calls += 1;
        self.at = child;
    }

    /// The row of `count` operations ends.
    pub fn end(&mut self, count: u64) {
        if !std::mem::take(&mut self.on) {
            return;
        }
        self.print(count).expect("writing the profile");
    }

    fn print(&mut self, count: u64) -> std::io::Result<()> {
        let out = &mut self.out;
        writeln!(out, "row {count}")?;
        for (i, n) in self.nodes.iter().enumerate() {
            writeln!(out, "node {i} {} {:x} {}", n.parent, n.entry, n.calls)?;
        }
        for ((node, block), n) in &self.counts {
            writeln!(out, "code {node} {block:x} {n}")?;
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(start: u64, instructions: u64, call: Option<u64>) -> Block {
        Block {
            start: start | KERNEL,
            instructions,
            call: call.map(|c| c | KERNEL),
        }
    }

    #[test]
    fn calls_returns_and_repeated_blocks() {
        let path = std::env::temp_dir().join(format!("ochre-profile-{}", std::process::id()));
        let mut p = Profile::create(path.to_str().unwrap()).unwrap();
        p.run(&block(9, 9, None));
        p.start();
        for _ in 0..2 {
            p.run(&Block {
                start: 1,
                instructions: 3,
                call: None,
            });
            p.run(&block(100, 5, Some(105)));
            p.run(&block(200, 7, Some(207)));
            p.run(&block(300, 1, None));
            // Out of both at once: the inner one was left by a jump.
            p.run(&block(105, 2, None));
        }
        p.end(2);
        p.end(2);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        let high = |at: u64| format!("{:x}", at | KERNEL);
        let mut expected = vec![
            "row 2".to_owned(),
            "node 0 0 0 0".to_owned(),
            format!("node 1 0 {} 2", high(100)),
            format!("node 2 1 {} 2", high(200)),
            format!("node 3 2 {} 2", high(300)),
            "code 0 1 6".to_owned(),
            format!("code 1 {} 10", high(100)),
            format!("code 1 {} 4", high(105)),
            format!("code 2 {} 14", high(200)),
            format!("code 3 {} 2", high(300)),
        ];
        expected.sort_unstable();
        assert_eq!(lines, expected);
    }
}
