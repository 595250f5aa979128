// SPDX-License-Identifier: GPL-2.0

//! Walking a tree of which not everything can be believed.
//!
//! A node is used if it says that it is this block of this inode. With a right checksum it is
//! believed; with a wrong one that cannot be corrected it is *doubtful*: an index node may be
//! followed all the same, since its children speak for themselves, and the entries of a leaf are
//! judged one by one. Anything else is cut off.
//!
//! # Hazard
//!
//! A damaged index may lead to the same child 252 times, on each of seven levels. So each node is
//! visited once in a walk: the first walk takes only blocks that are not claimed, and claims them;
//! later ones take only claimed blocks, and give them back their mark when they end. What the first
//! walk refused, since something else had it, the later ones refuse by a list.

use zerocopy::FromBytes;

use super::correct::{self, Verdict};
use super::{Action, Repair};
use crate::engine::checksum::Domain;
use crate::engine::error::Result;
use crate::engine::format::node::{
    BlockHeader, IndexEntry, HEADER_SIZE, INDEX_CAPACITY, MAX_HEIGHT,
};
use crate::engine::fsck::tree::{Kind, Owner};
use crate::engine::media::Media;
use crate::engine::types::{usize_of, Block, Ino, BLOCK_SIZE};
use crate::platform::Vec;

/// Bytes of a node.
pub(super) const NODE: usize = BLOCK_SIZE as usize;
const LEVELS: usize = MAX_HEIGHT as usize;

/// A leaf that says that it belongs here.
pub(super) struct Leaf<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) count: usize,
    /// The least key that may be in it.
    pub(super) low: u64,
    /// Its keys are below this.
    pub(super) high: u64,
    /// Its checksum is right.
    pub(super) sound: bool,
}

/// What a walk met.
pub(super) struct Walked {
    /// Nodes that belong to the tree.
    pub(super) nodes: Vec<Block>,
    /// Something was wrong.
    pub(super) faults: bool,
}

/// How a node turned out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Sound,
    Doubtful,
    Lost,
}

/// An index node whose children are being visited.
#[derive(Clone, Copy, Default)]
struct Step {
    index: usize,
    count: usize,
    low: u64,
    high: u64,
}

impl<M: Media> Repair<'_, M> {
    /// Visits every leaf. `first`: claims the nodes, corrects them and says what is cut off.
    pub(super) fn walk(
        &mut self,
        owner: &Owner,
        kind: &Kind,
        first: bool,
        visit: &mut dyn FnMut(&mut Self, &Leaf<'_>) -> Result,
    ) -> Result<Walked> {
        let levels = usize::from(owner.height);
        let mut walked = Walked {
            nodes: Vec::new(),
            faults: false,
        };
        if levels == 0 || levels > LEVELS || owner.root == 0 {
            walked.faults = levels != 0 || owner.root != 0;
            return Ok(walked);
        }
        let mut nodes: Vec<u8> = Vec::new();
        nodes.resize(levels * NODE, 0)?;
        let mut lost = Vec::new();
        let mut steps = [Step::default(); LEVELS];
        let mut depth = 0;
        let mut next = Some((Block(owner.root), 0, u64::MAX));
        while let Some((block, low, high)) = next {
            let Some(bytes) = nodes.get_mut(depth * NODE..(depth + 1) * NODE) else {
                break;
            };
            let level = levels - depth - 1;
            let magic = if level == 0 { kind.leaf } else { kind.index };
            let node = self.visit_node(owner, block, (magic, level), first, bytes)?;
            walked.faults |= node != Node::Sound;
            if node == Node::Lost && first {
                lost.push(block)?;
            }
            if node != Node::Lost {
                walked.nodes.push(block)?;
                let count = header(bytes).map_or(0, |header| usize::from(header.count.get()));
                if level == 0 {
                    visit(
                        self,
                        &Leaf {
                            bytes,
                            count,
                            low,
                            high,
                            sound: node == Node::Sound,
                        },
                    )?;
                } else {
                    walked.faults |= !in_order(bytes, count, low, high);
                    if let Some(step) = steps.get_mut(depth) {
                        *step = Step {
                            index: 0,
                            count: count.min(INDEX_CAPACITY),
                            low,
                            high,
                        };
                    }
                    depth += 1;
                }
            }
            next = child(&nodes, &mut steps, &mut depth);
        }
        if !first {
            for &block in walked.nodes.iter() {
                self.claimed.set(block);
            }
        }
        if !lost.is_empty() {
            self.drop_lost(owner.ino, &lost, &walked.nodes)?;
        }
        Ok(walked)
    }

    /// Remembers nodes that are cut off. Several entries may lead to a node, and one of them rightly
    /// so, be it met before the others or behind them: such a node is not.
    fn drop_lost(&mut self, ino: Ino, lost: &[Block], nodes: &[Block]) -> Result {
        let mut kept = Vec::new();
        for &block in nodes {
            kept.push(block)?;
        }
        kept.sort_unstable();
        for &block in lost {
            if kept.binary_search(&block).is_err() {
                self.dropped.push((ino, block))?;
            }
        }
        Ok(())
    }

    /// Takes a node, if nothing else has it, and judges it.
    fn visit_node(
        &mut self,
        owner: &Owner,
        block: Block,
        (magic, level): (u32, usize),
        first: bool,
        bytes: &mut [u8],
    ) -> Result<Node> {
        let free = self.is_data(block, 1)
            && self.claimed.get(block) != first
            && (first || self.dropped.binary_search(&(owner.ino, block)).is_err());
        let mut node = Node::Lost;
        if free {
            node = self.judge_node(owner, block, (magic, level), first, bytes)?;
        }
        if node == Node::Lost {
            if first {
                let ino = owner.ino;
                self.act(Action::NodeDropped { ino, block });
            }
        } else if first {
            self.claimed.set(block);
        } else {
            self.claimed.clear(block);
        }
        Ok(node)
    }

    /// Reads a block and judges it; `first`: corrects it on the medium.
    pub(super) fn judge_node(
        &mut self,
        owner: &Owner,
        block: Block,
        (magic, level): (u32, usize),
        first: bool,
        bytes: &mut [u8],
    ) -> Result<Node> {
        let ino = owner.ino;
        if self.read(block.address(), bytes).is_err() {
            if first {
                self.unreadable.push(block)?;
            }
            return Ok(Node::Lost);
        }
        let verdict = correct::object(&self.keys, Domain::Node, bytes);
        let belongs = header(bytes).is_some_and(|header| {
            header.magic.get() == magic
                && header.block.get() == block.0
                && header.owner.get() == ino.0
                && header.uuid == self.info.uuid
                && header.generation.get() == owner.generation
                && usize::from(header.level.get()) == level
        });
        if !belongs {
            return Ok(Node::Lost);
        }
        match verdict {
            Verdict::Sound => Ok(Node::Sound),
            Verdict::Corrected => {
                if first && self.act(Action::NodeCorrected { ino, block }) {
                    self.put(block.address(), bytes)?;
                }
                Ok(Node::Sound)
            }
            Verdict::Damaged => {
                if first {
                    self.act(Action::NodeKept { ino, block });
                }
                Ok(Node::Doubtful)
            }
        }
    }
}

/// The header of a node.
pub(super) fn header(bytes: &[u8]) -> Option<BlockHeader> {
    Some(BlockHeader::read_from_prefix(bytes).ok()?.0)
}

fn entry(bytes: &[u8], index: usize) -> Option<IndexEntry> {
    let offset = usize_of(HEADER_SIZE).checked_add(index.checked_mul(16)?)?;
    Some(IndexEntry::read_from_prefix(bytes.get(offset..)?).ok()?.0)
}

/// Whether an index node's count and keys are right.
fn in_order(bytes: &[u8], count: usize, low: u64, high: u64) -> bool {
    let mut previous = low;
    (1..=INDEX_CAPACITY).contains(&count)
        && (1..count).all(|index| {
            let key = entry(bytes, index).map_or(0, |entry| entry.key.get());
            let right = key > previous && key < high;
            previous = key;
            right
        })
}

/// The next child of the lowest node that has one, with its bounds.
fn child(nodes: &[u8], steps: &mut [Step; LEVELS], depth: &mut usize) -> Option<(Block, u64, u64)> {
    while let Some(above) = depth.checked_sub(1) {
        let step = steps.get_mut(above)?;
        if step.index >= step.count {
            *depth = above;
            continue;
        }
        let bytes = nodes.get(above * NODE..*depth * NODE).unwrap_or_default();
        let high = match entry(bytes, step.index + 1) {
            Some(after) if step.index + 1 < step.count => after.key.get(),
            _ => step.high,
        };
        let this = entry(bytes, step.index)?;
        // A node's first key is not looked at: its bound is the parent's.
        let low = if step.index == 0 {
            step.low
        } else {
            this.key.get()
        };
        step.index += 1;
        return Some((Block(this.child.get()), low, high));
    }
    None
}
