// SPDX-License-Identifier: GPL-2.0

//! Targets of symbolic links.

use super::*;

#[test]
fn a_block_of_a_target() {
    let sample = sample();
    let block = sample.tree_root(sample.long_link);
    sample.flip(block.address() + 100, 0);
    let ino = sample.long_link;
    finds_only(
        &sample,
        Issue::Node {
            ino,
            block,
            fault: NodeFault::Checksum,
        },
    );
    let sample = ochre_testkit::sample();
    sample.edit_node(block, |node| node[100] = 0);
    finds_only(&sample, Issue::SymlinkTarget { ino });
    let sample = ochre_testkit::sample();
    sample.edit_node(block, |node| {
        node[6..8].copy_from_slice(&4033u16.to_le_bytes())
    });
    finds_only(
        &sample,
        Issue::Node {
            ino,
            block,
            fault: NodeFault::Count,
        },
    );
}

#[test]
fn a_target_of_another_length() {
    let sample = sample();
    sample.edit(sample.long_link, |record| record.size = U64::new(4089));
    finds_only(
        &sample,
        Issue::SymlinkTarget {
            ino: sample.long_link,
        },
    );
}
