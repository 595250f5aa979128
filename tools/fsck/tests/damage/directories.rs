// SPDX-License-Identifier: GPL-2.0

//! Names, parents, loops.

use super::*;

/// The leaf of the root directory, and for each slot the offset of its entry.
fn leaf(sample: &Sample) -> (Block, Vec<usize>) {
    assert_eq!(sample.record(sample.root).height, 1);
    let block = sample.tree_root(sample.root);
    let bytes = sample.media.bytes(block.address(), 4096);
    let count = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
    let offsets = (0..count).map(|slot| {
        usize::from(u16::from_le_bytes([
            bytes[208 + slot * 2],
            bytes[209 + slot * 2],
        ]))
    });
    (block, offsets.collect())
}

/// The slot of the entry with this name.
fn slot_of(sample: &Sample, name: &str) -> (Block, u32, usize) {
    let (block, offsets) = leaf(sample);
    let bytes = sample.media.bytes(block.address(), 4096);
    let is_it = |&offset: &usize| {
        let len = usize::from(bytes[offset + 16]);
        &bytes[offset + 18..offset + 18 + len] == name.as_bytes()
    };
    let slot = offsets.iter().position(is_it).expect("the name");
    (block, u32::try_from(slot).expect("small"), offsets[slot])
}

/// Damages the entry called `name` by `change`, which gets the leaf and the entry's offset.
#[track_caller]
fn entry(name: &str, fault: EntryFault, change: impl FnOnce(&mut [u8], usize, usize)) {
    let sample = sample();
    let (block, slot, offset) = slot_of(&sample, name);
    sample.edit_node(block, |leaf| {
        change(leaf, offset, usize::try_from(slot).expect("small"));
    });
    finds(
        &sample,
        Issue::Entry {
            dir: sample.root,
            block,
            slot,
            fault,
        },
    );
}

#[test]
fn each_part_of_an_entry() {
    entry("pipe", EntryFault::Place, |leaf, _, slot| {
        leaf[208 + slot * 2] = 3
    });
    entry("pipe", EntryFault::Place, |leaf, _, slot| {
        leaf[208 + slot * 2..210 + slot * 2].copy_from_slice(&4088u16.to_le_bytes());
    });
    entry("pipe", EntryFault::Place, |leaf, at, _| leaf[at + 16] = 255);
    entry("pipe", EntryFault::Name, |leaf, at, _| leaf[at + 18] = b'/');
    entry("pipe", EntryFault::Name, |leaf, at, _| leaf[at + 19] = 0);
    entry("pipe", EntryFault::Name, |leaf, at, _| leaf[at + 16] = 0);
    entry("pipe", EntryFault::Hash, |leaf, at, _| leaf[at + 18] = b'q');
    entry("pipe", EntryFault::Hash, |leaf, at, _| leaf[at + 5] ^= 1);
    entry("pipe", EntryFault::Fingerprint, |leaf, _, slot| {
        leaf[80 + slot] ^= 1
    });
    entry("pipe", EntryFault::Target, |leaf, at, _| leaf[at + 14] = 1);
    entry("pipe", EntryFault::Kind, |leaf, at, _| leaf[at + 17] = 8);
}

#[test]
fn one_name_twice() {
    // "file" and "pipe" have one length: one becomes the other, with all that belongs to it.
    let sample = sample();
    let (block, file, from) = slot_of(&sample, "file");
    let (_, pipe, to) = slot_of(&sample, "pipe");
    let slots = [file, pipe].map(|slot| usize::try_from(slot).expect("small"));
    sample.edit_node(block, |leaf| {
        leaf.copy_within(from..from + 24, to);
        leaf[80 + slots[1]] = leaf[80 + slots[0]];
    });
    let later = file.max(pipe);
    let fault = EntryFault::DuplicateKey;
    finds(
        &sample,
        Issue::Entry {
            dir: sample.root,
            block,
            slot: later,
            fault,
        },
    );
    // Another collision number, and the names are still the same.
    sample.edit_node(block, |leaf| leaf[to] ^= 1);
    let fault = EntryFault::DuplicateName;
    finds(
        &sample,
        Issue::Entry {
            dir: sample.root,
            block,
            slot: later,
            fault,
        },
    );
}

#[test]
fn a_key_outside_its_leaf() {
    let sample = sample();
    let root = sample.tree_root(sample.big);
    let child = sample.child(root, 1);
    // The second leaf becomes the first child, under the first one's bounds.
    let first = sample.child(root, 0);
    sample.edit_node(root, |node| {
        node[72..80].copy_from_slice(&child.0.to_le_bytes());
        node[88..96].copy_from_slice(&first.0.to_le_bytes());
    });
    let fault = EntryFault::Range;
    finds(
        &sample,
        Issue::Entry {
            dir: sample.big,
            block: child,
            slot: 0,
            fault,
        },
    );
}

#[test]
fn the_bitmap_and_the_heap() {
    let sample = sample();
    let (block, _) = leaf(&sample);
    sample.edit_node(block, |leaf| leaf[6] += 1);
    let fault = NodeFault::Count;
    finds_only(
        &sample,
        Issue::Node {
            ino: sample.root,
            block,
            fault,
        },
    );
    sample.edit_node(block, |leaf| {
        leaf[6] -= 1;
        leaf[58] += 8;
    });
    finds_only(
        &sample,
        Issue::DirectoryHeap {
            dir: sample.root,
            block,
        },
    );
}

#[test]
fn a_lost_name() {
    let sample = sample();
    let (block, slot, _) = slot_of(&sample, "null");
    let slot = usize::try_from(slot).expect("small");
    sample.edit_node(block, |leaf| {
        leaf[64 + slot / 8] &= !(1 << (slot % 8));
        leaf[6] -= 1;
    });
    finds(&sample, Issue::InodeUnreachable { ino: sample.device });
}

#[test]
fn a_wrong_parent() {
    let sample = sample();
    sample.edit(sample.deep, |record| record.parent.set(1));
    let issue = Issue::DirectoryParent {
        ino: sample.deep,
        stored: 1,
        found: sample.sub.0,
    };
    finds_only(&sample, issue);
}

/// Lets the only name in `big/sub`, "deep", lead to `target`.
fn retarget_deep(sample: &Sample, target: Ino) {
    let block = sample.tree_root(sample.sub);
    sample.edit_node(block, |leaf| {
        let at = usize::from(u16::from_le_bytes([leaf[208], leaf[209]]));
        leaf[at + 8..at + 16].copy_from_slice(&target.0.to_le_bytes());
    });
}

#[test]
fn a_directory_with_two_names() {
    let sample = sample();
    retarget_deep(&sample, sample.big);
    finds(&sample, Issue::DirectoryLinkedTwice { ino: sample.big });
    finds(&sample, Issue::InodeUnreachable { ino: sample.deep });
    let sample = ochre_testkit::sample();
    retarget_deep(&sample, sample.root);
    finds(&sample, Issue::DirectoryLinkedTwice { ino: sample.root });
}

#[test]
fn a_loop() {
    // "big" loses its name in the root and gets one in "big/sub".
    let sample = sample();
    let (block, slot, _) = slot_of(&sample, "big");
    let slot = usize::try_from(slot).expect("small");
    sample.edit_node(block, |leaf| {
        leaf[64 + slot / 8] &= !(1 << (slot % 8));
        leaf[6] -= 1;
    });
    retarget_deep(&sample, sample.big);
    let issues = sample.issues();
    let loops = issues
        .iter()
        .filter(|issue| matches!(issue, Issue::DirectoryLoop { .. }));
    assert_eq!(loops.count(), 1, "{issues:?}");
}

#[test]
fn no_root() {
    let sample = sample();
    sample.edit(sample.root, |record| record.mode.set(0o100644));
    finds(&sample, Issue::RootMissing);
    let sample = ochre_testkit::sample();
    sample.flip(sample.info.geometry.chunk_entry(0, 0) + 8, 1);
    finds(&sample, Issue::RootMissing);
}
