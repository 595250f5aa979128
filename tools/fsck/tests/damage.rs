//! An image is damaged in one way, and the check must name that very thing.

mod support;

use ochre::engine::format::ag;
use ochre::engine::format::superblock::DIRTY;
use ochre::engine::fsck::{Copy, EntryFault, Issue, NodeFault};
use ochre::engine::types::{Block, FileBlock, Ino};
use support::{Sample, check, sample};
use zerocopy::little_endian::U64;

/// Checks, and fails unless `expected` is among the issues.
#[track_caller]
fn finds(sample: &Sample, expected: Issue) {
    let issues = sample.issues();
    assert!(issues.contains(&expected), "expected {expected:?} among {issues:#?}");
}

/// As [`finds`], and nothing else may be found.
#[track_caller]
fn finds_only(sample: &Sample, expected: Issue) {
    assert_eq!(sample.issues(), [expected]);
}

#[test]
fn the_sample_is_whole() {
    let sample = sample();
    let (issues, summary) = check(&sample.media);
    assert_eq!(issues, []);
    assert!(summary.complete);
    assert_eq!((summary.directories, summary.symlinks, summary.orphans), (4, 2, 1));
    assert_eq!(summary.files, 403);
    assert_eq!(summary.names, 8 + 401 + 1);
    assert!(summary.extents >= 602, "{summary:?}");
    let record = sample.record(sample.sparse);
    assert_eq!(record.height, 2, "the sample must have an index node of extents");
    assert!(sample.record(sample.big).height >= 2, "and one of names");
}

mod superblocks {
    use super::*;

    #[test]
    fn a_flipped_bit_in_the_primary() {
        let sample = sample();
        sample.flip(200, 3);
        let issues = sample.issues();
        assert_eq!(issues[0], Issue::SuperblockDamaged(Copy::Primary, "wrong checksum"));
        assert_eq!(issues.len(), 1, "{issues:?}");
    }

    #[test]
    fn a_flipped_bit_in_the_copy() {
        let sample = sample();
        sample.flip(Block(sample.info.geometry.blocks - 1).address() + 100, 0);
        finds_only(&sample, Issue::SuperblockDamaged(Copy::Backup, "wrong checksum"));
    }

    #[test]
    fn an_erased_primary_and_an_erased_copy() {
        let sample = sample();
        sample.media.damage(0, &[0; 440]);
        finds_only(&sample, Issue::SuperblockDamaged(Copy::Primary, "is missing"));
        let sample = support::sample();
        let copy = Block(sample.info.geometry.blocks - 1).address();
        sample.media.damage(copy, &[0; 512]);
        finds_only(&sample, Issue::SuperblockDamaged(Copy::Backup, "is missing"));
    }

    #[test]
    fn both_damaged_end_the_check() {
        let sample = sample();
        sample.flip(100, 0);
        sample.flip(Block(sample.info.geometry.blocks - 1).address() + 100, 0);
        let (issues, summary) = check(&sample.media);
        assert_eq!(issues.len(), 2);
        assert!(!summary.complete);
    }

    #[test]
    fn a_stale_copy() {
        let sample = sample();
        let mut other = sample.info;
        other.uuid[0] ^= 1;
        let copy = Block(sample.info.geometry.blocks - 1).address();
        sample.media.damage(copy, zerocopy::IntoBytes::as_bytes(&other.to_disk()));
        finds_only(&sample, Issue::SuperblocksDiffer);
    }

    #[test]
    fn a_geometry_that_cannot_be() {
        let sample = sample();
        let mut other = sample.info;
        other.geometry.ag_start = Block(other.geometry.ag_start.0 + 1);
        sample.media.damage(0, zerocopy::IntoBytes::as_bytes(&other.to_disk()));
        finds(&sample, Issue::Geometry("start of the groups"));
    }

    #[test]
    fn not_unmounted() {
        let sample = sample();
        sample.put_u64(448, DIRTY);
        finds_only(&sample, Issue::NotClean(DIRTY));
    }
}

mod journal {
    use super::*;

    #[test]
    fn the_header() {
        let sample = sample();
        sample.flip(sample.info.geometry.journal.address() + 30, 1);
        finds_only(&sample, Issue::JournalHeader("wrong checksum"));
        let sample = support::sample();
        sample.flip(sample.info.geometry.journal.address(), 1);
        finds_only(&sample, Issue::JournalHeader("wrong magic number"));
    }

    #[test]
    fn the_checkpoints() {
        let sample = sample();
        sample.flip(sample.info.geometry.journal.address() + 512, 0);
        assert_eq!(sample.issues(), [], "one of two slots may be torn");
        sample.flip(sample.info.geometry.journal.address() + 1024, 0);
        finds_only(&sample, Issue::NoCheckpoint);
    }
}

mod groups {
    use super::*;

    fn header(sample: &Sample) -> u64 {
        sample.info.geometry.ag_base(0).address()
    }

    #[test]
    fn the_header() {
        let sample = sample();
        sample.flip(header(&sample) + 40, 2);
        finds_only(&sample, Issue::GroupHeader { ag: 0, fault: "wrong checksum" });
        let sample = support::sample();
        sample.flip(header(&sample), 2);
        finds_only(&sample, Issue::GroupHeader { ag: 0, fault: "wrong magic number" });
    }

    #[test]
    fn the_counters() {
        let sample = sample();
        let at = header(&sample) + ag::FREE_BLOCKS_OFFSET;
        let counted = sample.u64_at(at);
        sample.put_u64(at, counted + 1);
        finds_only(&sample, Issue::GroupFreeBlocks { ag: 0, stored: counted + 1, counted });
        let sample = support::sample();
        let at = header(&sample) + ag::USED_INODES_OFFSET;
        let counted = sample.u64_at(at);
        sample.put_u64(at, 7);
        finds_only(&sample, Issue::GroupUsedInodes { ag: 0, stored: 7, counted });
    }

    #[test]
    fn more_chunks_than_there_can_be() {
        let sample = sample();
        sample.put_u64(header(&sample) + ag::CHUNKS_OFFSET, 65537);
        finds(&sample, Issue::GroupChunks { ag: 0, chunks: 65537 });
    }

    #[test]
    fn a_chunk_entry() {
        let sample = sample();
        sample.flip(sample.info.geometry.chunk_entry(0, 1), 2);
        finds(&sample, Issue::ChunkEntry { ag: 0, chunk: 1, fault: "wrong check value" });
    }

    #[test]
    fn two_chunks_in_one_place() {
        let sample = sample();
        let entry = sample.info.geometry.chunk_entry(0, 1);
        let start = sample.media.bytes(sample.info.geometry.chunk_entry(0, 0), 4);
        let start: [u8; 4] = start.try_into().expect("4 bytes");
        let check = sample.keys.chunk(0, 1, u32::from_le_bytes(start));
        sample.media.damage(entry, &start);
        sample.media.damage(entry + 4, &check.to_le_bytes());
        let block = sample.info.geometry.ag_base(0).plus(512);
        finds(&sample, Issue::BlockShared { block, ino: Ino(64) });
    }

    #[test]
    fn number_zero_is_free() {
        let sample = sample();
        sample.flip(sample.info.geometry.chunk_entry(0, 0) + 8, 0);
        finds(&sample, Issue::InodeZeroFree);
    }

    #[test]
    fn a_leaked_run() {
        let sample = sample();
        let block = sample.free_block();
        sample.toggle_mark(block);
        sample.toggle_mark(Block(block.0 - 1));
        let start = Block(block.0 - 1);
        finds(&sample, Issue::BlocksLeaked { start, len: 2 });
    }

    #[test]
    fn a_used_block_that_is_marked_free() {
        let sample = sample();
        let root = sample.tree_root(sample.sparse);
        sample.toggle_mark(root);
        finds(&sample, Issue::BlocksNotMarked { start: root, len: 1 });
    }

    #[test]
    fn the_end_of_the_last_bitmap() {
        let sample = sample();
        let word = sample.info.geometry.bitmap_word(0, sample.info.geometry.ag_blocks(0) + 64);
        sample.put_u64(word, 0);
        finds_only(&sample, Issue::BitmapEnd { ag: 0 });
    }
}

mod inodes {
    use super::*;

    #[test]
    fn a_flipped_bit() {
        let sample = sample();
        sample.flip(sample.record_address(sample.file) + 32, 0);
        finds_only(&sample, Issue::InodeChecksum { ino: sample.file });
    }

    #[test]
    fn a_changed_time_is_no_damage() {
        let sample = sample();
        sample.flip(sample.record_address(sample.file) + 128, 0);
        assert_eq!(sample.issues(), []);
    }

    #[test]
    fn no_record() {
        let sample = sample();
        sample.flip(sample.record_address(sample.device), 0);
        finds(&sample, Issue::InodeMagic { ino: sample.device });
    }

    #[test]
    fn another_record() {
        let sample = sample();
        sample.edit(sample.device, |record| record.ino.set(99));
        finds(&sample, Issue::InodeNumber { ino: sample.device, found: 99 });
    }

    #[test]
    fn unreadable() {
        let sample = sample();
        sample.media.poison(sample.record_address(sample.device), 256);
        finds(&sample, Issue::InodeUnreadable { ino: sample.device });
    }

    #[test]
    fn impossible_fields() {
        let with = |change: fn(&mut ochre::engine::format::inode::InodeRecord), ino: fn(&Sample) -> Ino, issue: fn(Ino) -> Issue| {
            let sample = sample();
            let ino = ino(&sample);
            sample.edit(ino, change);
            finds(&sample, issue(ino));
        };
        with(|r| r.mode.set(0o170000), |s| s.device, |ino| Issue::InodeMode { ino, mode: 0o170000 });
        with(|r| r.root = 9, |s| s.file, |ino| Issue::InodeRoot { ino, root: 9 });
        with(|r| r.root = 0, |s| s.sub, |ino| Issue::InodeRoot { ino, root: 0 });
        with(|r| r.count = 8, |s| s.file, |ino| Issue::InodeRoot { ino, root: 0 });
        with(|r| r.size.set(1 << 60), |s| s.file, |ino| Issue::InodeSize { ino, size: 1 << 60 });
        with(|r| r.size.set(5), |s| s.big, |ino| Issue::InodeSize { ino, size: 5 });
        with(|r| r.size.set(0), |s| s.short_link, |ino| Issue::InodeSize { ino, size: 0 });
        with(|r| r.size.set(1), |s| s.device, |ino| Issue::InodeSize { ino, size: 1 });
        with(|r| r.blocks.set(7), |s| s.file, |ino| Issue::InodeBlocks { ino, stored: 7, counted: 3 });
        with(|r| r.rdev.set(7), |s| s.file, |ino| Issue::InodeField { ino, field: "device number" });
        with(|r| r.xattr_block.set(7), |s| s.file, |ino| Issue::InodeField { ino, field: "block of extended attributes" });
        with(|r| r.nlink.set(3), |s| s.file, |ino| Issue::InodeLinks { ino, stored: 3, counted: 2 });
        with(|r| r.nlink.set(2), |s| s.sub, |ino| Issue::InodeLinks { ino, stored: 2, counted: 3 });
        with(|r| r.inline[3] = 0, |s| s.short_link, |ino| Issue::SymlinkTarget { ino });
        with(|r| r.height = 0, |s| s.sparse, |ino| Issue::TreeHeight { ino, height: 0 });
        with(|r| r.height = 9, |s| s.big, |ino| Issue::TreeHeight { ino, height: 9 });
    }
}

mod extents {
    use super::*;

    /// Changes the words of extent `index` in the record of `file`.
    fn edit_inline(sample: &Sample, index: usize, position: u64, target: u64) {
        sample.edit(sample.file, |record| {
            record.inline[index * 16..index * 16 + 8].copy_from_slice(&position.to_le_bytes());
            record.inline[index * 16 + 8..index * 16 + 16].copy_from_slice(&target.to_le_bytes());
            record.count = record.count.max(u8::try_from(index + 1).expect("small"));
        });
    }

    fn words(sample: &Sample) -> (u64, u64) {
        let at = sample.record_address(sample.file) + 144;
        (sample.u64_at(at), sample.u64_at(at + 8))
    }

    #[test]
    fn an_empty_one() {
        let sample = sample();
        edit_inline(&sample, 0, 0, words(&sample).1);
        finds(&sample, Issue::ExtentLength { ino: sample.file, file_block: FileBlock(0) });
    }

    #[test]
    fn one_behind_the_largest_file() {
        let sample = sample();
        let last = (1 << 44) - 1;
        edit_inline(&sample, 0, last << 20 | 3, words(&sample).1);
        finds(&sample, Issue::ExtentLength { ino: sample.file, file_block: FileBlock(last) });
    }

    #[test]
    fn outside_the_data() {
        for block in [0, 513, sample().info.geometry.ag_base(0).0, 16383, 1 << 40] {
            let sample = sample();
            edit_inline(&sample, 0, 3, block << 1);
            let issue = Issue::ExtentBounds {
                ino: sample.file,
                file_block: FileBlock(0),
                block: Block(block),
            };
            finds(&sample, issue);
        }
    }

    #[test]
    fn order_and_overlap() {
        let sample = sample();
        let (position, target) = words(&sample);
        assert_eq!(position, 3, "one extent of three blocks");
        let free = sample.free_block().0;
        edit_inline(&sample, 1, 2 << 20 | 1, free << 1);
        finds(&sample, Issue::ExtentOverlap { ino: sample.file, file_block: FileBlock(2) });
        edit_inline(&sample, 0, 5 << 20 | 3, target);
        finds(&sample, Issue::ExtentOrder { ino: sample.file, file_block: FileBlock(2) });
    }

    #[test]
    fn a_block_of_two_files() {
        let sample = sample();
        let other = sample.u64_at(sample.record_address(sample.orphan) + 152) >> 1;
        edit_inline(&sample, 1, 9 << 20 | 1, other << 1);
        let issues = sample.issues();
        let shared = issues.iter().any(|issue| {
            matches!(issue, Issue::BlockShared { block, .. } if block.0 == other)
        });
        assert!(shared, "{issues:?}");
    }
}

mod trees {
    use super::*;

    /// The root of the tree of extents, and its second leaf.
    fn nodes(sample: &Sample) -> (Block, Block) {
        let root = sample.tree_root(sample.sparse);
        (root, sample.child(root, 1))
    }

    #[track_caller]
    fn finds_in(sample: &Sample, block: Block, fault: NodeFault) {
        finds(sample, Issue::Node { ino: sample.sparse, block, fault });
    }

    #[test]
    fn a_flipped_bit_in_each_node() {
        let sample = sample();
        let (root, leaf) = nodes(&sample);
        sample.flip(root.address() + 4000, 5);
        finds_only(&sample, Issue::Node { ino: sample.sparse, block: root, fault: NodeFault::Checksum });
        sample.flip(root.address() + 4000, 5);
        sample.flip(leaf.address() + 52, 1);
        finds_only(&sample, Issue::Node { ino: sample.sparse, block: leaf, fault: NodeFault::Checksum });
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
            sample.edit_node(block, |node| node[6..8].copy_from_slice(&count.to_le_bytes()));
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
        let sample = support::sample();
        // The first extent of the second leaf moves in front of what the leaf may hold.
        sample.edit_node(leaf, |node| node[64..72].copy_from_slice(&(1u64 << 20 | 1).to_le_bytes()));
        finds_in(&sample, leaf, NodeFault::Range);
    }

    #[test]
    fn pointers() {
        let sample = sample();
        let (root, leaf) = nodes(&sample);
        sample.edit_node(root, |node| node[88..96].copy_from_slice(&3u64.to_le_bytes()));
        finds(&sample, Issue::Pointer { ino: sample.sparse, block: Block(3) });
        // A tree that leads back into itself ends.
        let sample = support::sample();
        sample.edit_node(root, |node| node[88..96].copy_from_slice(&root.0.to_le_bytes()));
        finds(&sample, Issue::BlockShared { block: root, ino: sample.sparse });
        finds(&sample, Issue::BlocksLeaked { start: leaf, len: 1 });
    }

    #[test]
    fn unreadable() {
        let sample = sample();
        let (_, leaf) = nodes(&sample);
        sample.media.poison(leaf.address() + 1000, 64);
        finds_in(&sample, leaf, NodeFault::Unreadable);
    }
}

mod directories {
    use super::*;

    /// The leaf of the root directory, and for each slot the offset of its entry.
    fn leaf(sample: &Sample) -> (Block, Vec<usize>) {
        assert_eq!(sample.record(sample.root).height, 1);
        let block = sample.tree_root(sample.root);
        let bytes = sample.media.bytes(block.address(), 4096);
        let count = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
        let offsets = (0..count).map(|slot| {
            usize::from(u16::from_le_bytes([bytes[208 + slot * 2], bytes[209 + slot * 2]]))
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
        finds(&sample, Issue::Entry { dir: sample.root, block, slot, fault });
    }

    #[test]
    fn each_part_of_an_entry() {
        entry("pipe", EntryFault::Place, |leaf, _, slot| leaf[208 + slot * 2] = 3);
        entry("pipe", EntryFault::Place, |leaf, _, slot| {
            leaf[208 + slot * 2..210 + slot * 2].copy_from_slice(&4088u16.to_le_bytes());
        });
        entry("pipe", EntryFault::Place, |leaf, at, _| leaf[at + 16] = 255);
        entry("pipe", EntryFault::Name, |leaf, at, _| leaf[at + 18] = b'/');
        entry("pipe", EntryFault::Name, |leaf, at, _| leaf[at + 19] = 0);
        entry("pipe", EntryFault::Name, |leaf, at, _| leaf[at + 16] = 0);
        entry("pipe", EntryFault::Hash, |leaf, at, _| leaf[at + 18] = b'q');
        entry("pipe", EntryFault::Hash, |leaf, at, _| leaf[at + 5] ^= 1);
        entry("pipe", EntryFault::Fingerprint, |leaf, _, slot| leaf[80 + slot] ^= 1);
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
        finds(&sample, Issue::Entry { dir: sample.root, block, slot: later, fault });
        // Another collision number, and the names are still the same.
        sample.edit_node(block, |leaf| leaf[to] ^= 1);
        let fault = EntryFault::DuplicateName;
        finds(&sample, Issue::Entry { dir: sample.root, block, slot: later, fault });
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
        finds(&sample, Issue::Entry { dir: sample.big, block: child, slot: 0, fault });
    }

    #[test]
    fn the_bitmap_and_the_heap() {
        let sample = sample();
        let (block, _) = leaf(&sample);
        sample.edit_node(block, |leaf| leaf[6] += 1);
        let fault = NodeFault::Count;
        finds_only(&sample, Issue::Node { ino: sample.root, block, fault });
        sample.edit_node(block, |leaf| {
            leaf[6] -= 1;
            leaf[58] += 8;
        });
        finds_only(&sample, Issue::DirectoryHeap { dir: sample.root, block });
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
        let issue = Issue::DirectoryParent { ino: sample.deep, stored: 1, found: sample.sub.0 };
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
        let sample = support::sample();
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
        let loops = issues.iter().filter(|issue| matches!(issue, Issue::DirectoryLoop { .. }));
        assert_eq!(loops.count(), 1, "{issues:?}");
    }

    #[test]
    fn no_root() {
        let sample = sample();
        sample.edit(sample.root, |record| record.mode.set(0o100644));
        finds(&sample, Issue::RootMissing);
        let sample = support::sample();
        sample.flip(sample.info.geometry.chunk_entry(0, 0) + 8, 1);
        finds(&sample, Issue::RootMissing);
    }
}

mod orphans {
    use super::*;

    #[test]
    fn garbage_in_the_table() {
        let sample = sample();
        let slot = sample.info.geometry.orphan_slot(9);
        sample.put_u64(slot, 0x1234_5678);
        finds_only(&sample, Issue::OrphanTarget { slot: 9, ino: 0x1234_5678 });
    }

    #[test]
    fn the_wrong_slot() {
        let sample = sample();
        let stored = sample.record(sample.orphan).orphan.get();
        let slot = stored - 1;
        sample.edit(sample.orphan, |record| record.orphan.set(stored + 5));
        finds_only(&sample, Issue::OrphanSlot { ino: sample.orphan, stored: stored + 5, slot });
    }

    #[test]
    fn an_orphan_that_is_not_in_the_table() {
        let sample = sample();
        let stored = sample.record(sample.orphan).orphan.get();
        sample.put_u64(sample.info.geometry.orphan_slot(stored - 1), 0);
        finds(&sample, Issue::OrphanMissing { ino: sample.orphan, stored });
        finds(&sample, Issue::InodeUnreachable { ino: sample.orphan });
    }

    #[test]
    fn an_unlinked_directory_with_entries() {
        let sample = sample();
        sample.edit(sample.sub, |record| record.nlink.set(0));
        finds(&sample, Issue::OrphanNotEmpty { ino: sample.sub });
    }

    #[test]
    fn an_unreadable_table() {
        let sample = sample();
        sample.media.poison(sample.info.geometry.orphan_slot(0), 8);
        finds(&sample, Issue::OrphanUnreadable { slot: 0 });
    }
}

mod symlinks {
    use super::*;

    #[test]
    fn a_block_of_a_target() {
        let sample = sample();
        let block = sample.tree_root(sample.long_link);
        sample.flip(block.address() + 100, 0);
        let ino = sample.long_link;
        finds_only(&sample, Issue::Node { ino, block, fault: NodeFault::Checksum });
        let sample = support::sample();
        sample.edit_node(block, |node| node[100] = 0);
        finds_only(&sample, Issue::SymlinkTarget { ino });
        let sample = support::sample();
        sample.edit_node(block, |node| node[6..8].copy_from_slice(&4033u16.to_le_bytes()));
        finds_only(&sample, Issue::Node { ino, block, fault: NodeFault::Count });
    }

    #[test]
    fn a_target_of_another_length() {
        let sample = sample();
        sample.edit(sample.long_link, |record| record.size = U64::new(4089));
        finds_only(&sample, Issue::SymlinkTarget { ino: sample.long_link });
    }
}
