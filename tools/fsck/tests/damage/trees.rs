// SPDX-License-Identifier: GPL-2.0

//! Nodes of a tree, by way of a tree of extents.

use super::*;

/// The root of the tree of extents, and its second leaf.
fn nodes(sample: &Sample) -> (Block, Block) {
    let root = sample.tree_root(sample.sparse);
    (root, sample.child(root, 1))
}

#[track_caller]
fn finds_in(sample: &Sample, block: Block, fault: NodeFault) {
    finds(
        sample,
        Issue::Node {
            ino: sample.sparse,
            block,
            fault,
        },
    );
}

#[test]
fn a_flipped_bit_in_each_node() {
    let sample = sample();
    let (root, leaf) = nodes(&sample);
    sample.flip(root.address() + 4000, 5);
    finds_only(
        &sample,
        Issue::Node {
            ino: sample.sparse,
            block: root,
            fault: NodeFault::Checksum,
        },
    );
    sample.flip(root.address() + 4000, 5);
    sample.flip(leaf.address() + 52, 1);
    finds_only(
        &sample,
        Issue::Node {
            ino: sample.sparse,
            block: leaf,
            fault: NodeFault::Checksum,
        },
    );
}

#[test]
fn what_a_node_says_of_itself() {
    let cases: [(usize, &[u8], NodeFault); 6] = [
        (0, b"XXXX", NodeFault::Magic),
        (4, &[3, 0], NodeFault::Level),
        (16, &[1, 2, 3], NodeFault::Number),
        (24, &[7, 7], NodeFault::Owner),
        (32, &[9], NodeFault::Uuid),
        (48, &[0xff, 0xff], NodeFault::Generation),
    ];
    for (offset, bytes, fault) in cases {
        for second in [false, true] {
            let sample = sample();
            let (root, leaf) = nodes(&sample);
            let block = if second { leaf } else { root };
            sample.edit_node(block, |node| {
                node[offset..offset + bytes.len()].copy_from_slice(bytes);
            });
            finds_in(&sample, block, fault);
        }
    }
}

#[test]
fn counts() {
    for (count, leaf) in [(0u16, false), (253, false), (0, true), (253, true)] {
        let sample = sample();
        let (root, second) = nodes(&sample);
        let block = if leaf { second } else { root };
        sample.edit_node(block, |node| {
            node[6..8].copy_from_slice(&count.to_le_bytes())
        });
        finds_in(&sample, block, NodeFault::Count);
    }
}

#[test]
fn keys_out_of_order_and_out_of_range() {
    let sample = sample();
    let (root, leaf) = nodes(&sample);
    sample.edit_node(root, |node| {
        let (one, two) = (64 + 16, 64 + 32);
        let first: [u8; 16] = node[one..one + 16].try_into().expect("16 bytes");
        node.copy_within(two..two + 16, one);
        node[two..two + 16].copy_from_slice(&first);
    });
    finds_in(&sample, root, NodeFault::Order);
    let sample = ochre_testkit::sample();
    // The first extent of the second leaf moves in front of what the leaf may hold.
    sample.edit_node(leaf, |node| {
        node[64..72].copy_from_slice(&(1u64 << 20 | 1).to_le_bytes())
    });
    finds_in(&sample, leaf, NodeFault::Range);
}

#[test]
fn pointers() {
    let sample = sample();
    let (root, leaf) = nodes(&sample);
    sample.edit_node(root, |node| {
        node[88..96].copy_from_slice(&3u64.to_le_bytes())
    });
    finds(
        &sample,
        Issue::Pointer {
            ino: sample.sparse,
            block: Block(3),
        },
    );
    // A tree that leads back into itself ends.
    let sample = ochre_testkit::sample();
    sample.edit_node(root, |node| {
        node[88..96].copy_from_slice(&root.0.to_le_bytes())
    });
    finds(
        &sample,
        Issue::BlockShared {
            block: root,
            ino: sample.sparse,
        },
    );
    finds(
        &sample,
        Issue::BlocksLeaked {
            start: leaf,
            len: 1,
        },
    );
}

#[test]
fn unreadable() {
    let sample = sample();
    let (_, leaf) = nodes(&sample);
    sample.media.poison(leaf.address() + 1000, 64);
    finds_in(&sample, leaf, NodeFault::Unreadable);
}
