// SPDX-License-Identifier: GPL-2.0

//! Walking a tree, of extents or of names, without recursion.

use zerocopy::FromBytes;

use crate::engine::checksum::Domain;
use crate::engine::error::Result;
use crate::engine::format::inode::InodeRecord;
use crate::engine::format::node::{
    BlockHeader, IndexEntry, HEADER_SIZE, INDEX_CAPACITY, MAX_HEIGHT,
};
use crate::engine::media::Media;
use crate::engine::types::{usize_of, Block, Ino, BLOCK_SIZE};
use crate::platform::Vec;

use super::{Check, Issue, NodeFault};

const NODE: usize = BLOCK_SIZE as usize;
const LEVELS: usize = MAX_HEIGHT as usize;

/// Whose tree it is, and where it starts.
pub(super) struct Owner {
    pub(super) ino: Ino,
    pub(super) generation: u32,
    pub(super) root: u64,
    pub(super) height: u8,
}

impl Owner {
    pub(super) fn of(ino: Ino, record: &InodeRecord) -> Self {
        let root = record
            .inline
            .first_chunk::<8>()
            .copied()
            .unwrap_or_default();
        Self {
            ino,
            generation: record.generation.get(),
            root: u64::from_le_bytes(root),
            height: record.height,
        }
    }
}

/// The magic numbers of a kind of tree.
pub(super) struct Kind {
    pub(super) index: u32,
    pub(super) leaf: u32,
}

/// A leaf that describes itself rightly.
pub(super) struct Leaf<'a> {
    pub(super) block: Block,
    pub(super) bytes: &'a [u8],
    pub(super) count: usize,
    /// The least key that may be in it.
    pub(super) low: u64,
    /// Its keys are below this.
    pub(super) high: u64,
}

/// What an index node is being asked for its children with.
#[derive(Clone, Copy, Default)]
struct Step {
    index: usize,
    count: usize,
    low: u64,
    high: u64,
}

impl<M: Media> Check<'_, M> {
    /// Visits every leaf in the order of keys; returns the number of blocks that were claimed.
    pub(super) fn walk(
        &mut self,
        owner: &Owner,
        kind: &Kind,
        visit: &mut dyn FnMut(&mut Self, &Leaf<'_>) -> Result,
    ) -> Result<u64> {
        let levels = usize::from(owner.height);
        if levels == 0 && owner.root == 0 {
            return Ok(0);
        }
        if levels == 0 || levels > LEVELS || owner.root == 0 {
            self.report(Issue::TreeHeight {
                ino: owner.ino,
                height: owner.height,
            });
            return Ok(0);
        }
        let mut nodes: Vec<u8> = Vec::new();
        nodes.resize(levels * NODE, 0)?;
        let mut steps = [Step::default(); LEVELS];
        let mut depth = 0;
        let mut claimed = 0;
        let mut next = Some((Block(owner.root), 0, u64::MAX));
        loop {
            if let Some((block, low, high)) = next.take() {
                let magic = if depth + 1 == levels {
                    kind.leaf
                } else {
                    kind.index
                };
                let level = levels - depth - 1;
                let Some(bytes) = nodes.get_mut(depth * NODE..(depth + 1) * NODE) else {
                    break;
                };
                if self.claim(owner.ino, block) {
                    claimed += 1;
                    if let Some(header) = self.node(owner, block, magic, level, bytes) {
                        let count = usize::from(header.count.get());
                        if level == 0 {
                            visit(
                                self,
                                &Leaf {
                                    block,
                                    bytes,
                                    count,
                                    low,
                                    high,
                                },
                            )?;
                        } else if self.index_node(owner, block, bytes, count, low, high) {
                            if let Some(step) = steps.get_mut(depth) {
                                *step = Step {
                                    index: 0,
                                    count,
                                    low,
                                    high,
                                };
                            }
                            depth += 1;
                        }
                    }
                }
            }
            // The next child of the lowest node that has one.
            while depth > 0 && next.is_none() {
                let Some(step) = steps.get_mut(depth - 1) else {
                    break;
                };
                if step.index >= step.count {
                    depth -= 1;
                    continue;
                }
                let bytes = nodes
                    .get((depth - 1) * NODE..depth * NODE)
                    .unwrap_or_default();
                let high = match entry(bytes, step.index + 1) {
                    Some(after) if step.index + 1 < step.count => after.key.get(),
                    _ => step.high,
                };
                if let Some(this) = entry(bytes, step.index) {
                    // A node's first key is not looked at: its bound is the parent's.
                    let low = if step.index == 0 {
                        step.low
                    } else {
                        this.key.get()
                    };
                    next = Some((Block(this.child.get()), low, high));
                }
                step.index += 1;
            }
            if next.is_none() {
                break;
            }
        }
        Ok(claimed)
    }

    /// Reads a block and checks what it says of itself; `None`, after a report, if its content is
    /// not what was looked for.
    pub(super) fn node(
        &mut self,
        owner: &Owner,
        block: Block,
        magic: u32,
        level: usize,
        bytes: &mut [u8],
    ) -> Option<BlockHeader> {
        let ino = owner.ino;
        if self.media.read(block.address(), bytes).is_err() {
            self.report(Issue::Node {
                ino,
                block,
                fault: NodeFault::Unreadable,
            });
            return None;
        }
        let (header, _) = BlockHeader::read_from_prefix(bytes).ok()?;
        let fault = if header.magic.get() != magic {
            Some(NodeFault::Magic)
        } else if header.block.get() != block.0 {
            Some(NodeFault::Number)
        } else if header.owner.get() != ino.0 {
            Some(NodeFault::Owner)
        } else if header.uuid != self.shape.uuid {
            Some(NodeFault::Uuid)
        } else if header.generation.get() != owner.generation {
            Some(NodeFault::Generation)
        } else if usize::from(header.level.get()) != level {
            Some(NodeFault::Level)
        } else {
            None
        };
        let sound = self.shape.keys.object(Domain::Node, bytes, 8) == header.checksum.get();
        // With a wrong checksum a wrong field is a consequence, except that the magic number says
        // that this never was such a block.
        let named = match fault {
            Some(NodeFault::Magic) => fault,
            _ if !sound => Some(NodeFault::Checksum),
            _ => fault,
        };
        if let Some(fault) = named {
            self.report(Issue::Node { ino, block, fault });
        }
        fault.is_none().then_some(header)
    }

    /// Checks the keys of an index node; false if there are none to follow.
    fn index_node(
        &mut self,
        owner: &Owner,
        block: Block,
        bytes: &[u8],
        count: usize,
        low: u64,
        high: u64,
    ) -> bool {
        let ino = owner.ino;
        if count == 0 || count > INDEX_CAPACITY {
            self.report(Issue::Node {
                ino,
                block,
                fault: NodeFault::Count,
            });
            return false;
        }
        let mut previous = None;
        let (mut order, mut range) = (true, true);
        for index in 1..count {
            let Some(entry) = entry(bytes, index) else {
                break;
            };
            let key = entry.key.get();
            range &= key > low && key < high;
            order &= previous.is_none_or(|previous| previous < key);
            previous = Some(key);
        }
        if !order {
            self.report(Issue::Node {
                ino,
                block,
                fault: NodeFault::Order,
            });
        } else if !range {
            self.report(Issue::Node {
                ino,
                block,
                fault: NodeFault::Range,
            });
        }
        true
    }
}

fn entry(bytes: &[u8], index: usize) -> Option<IndexEntry> {
    let offset = usize_of(HEADER_SIZE).checked_add(index.checked_mul(16)?)?;
    Some(IndexEntry::read_from_prefix(bytes.get(offset..)?).ok()?.0)
}
