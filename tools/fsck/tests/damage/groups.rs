// SPDX-License-Identifier: GPL-2.0

//! Group headers, counters, bitmaps and chunk maps.

use super::*;

fn header(sample: &Sample) -> u64 {
    sample.info.geometry.ag_base(0).address()
}

#[test]
fn the_header() {
    let sample = sample();
    sample.flip(header(&sample) + 40, 2);
    finds_only(
        &sample,
        Issue::GroupHeader {
            ag: 0,
            fault: "wrong checksum",
        },
    );
    let sample = ochre_testkit::sample();
    sample.flip(header(&sample), 2);
    finds_only(
        &sample,
        Issue::GroupHeader {
            ag: 0,
            fault: "wrong magic number",
        },
    );
}

#[test]
fn the_counters() {
    let sample = sample();
    let at = header(&sample) + ag::FREE_BLOCKS_OFFSET;
    let counted = sample.u64_at(at);
    sample.put_u64(at, counted + 1);
    finds_only(
        &sample,
        Issue::GroupFreeBlocks {
            ag: 0,
            stored: counted + 1,
            counted,
        },
    );
    let sample = ochre_testkit::sample();
    let at = header(&sample) + ag::USED_INODES_OFFSET;
    let counted = sample.u64_at(at);
    sample.put_u64(at, 7);
    finds_only(
        &sample,
        Issue::GroupUsedInodes {
            ag: 0,
            stored: 7,
            counted,
        },
    );
}

#[test]
fn more_chunks_than_there_can_be() {
    let sample = sample();
    sample.put_u64(header(&sample) + ag::CHUNKS_OFFSET, 65537);
    finds(
        &sample,
        Issue::GroupChunks {
            ag: 0,
            chunks: 65537,
        },
    );
}

#[test]
fn fewer_chunks_than_there_are() {
    let sample = sample();
    let address = header(&sample) + ag::CHUNKS_OFFSET;
    let chunks = sample.u64_at(address);
    sample.put_u64(address, chunks - 1);
    finds(
        &sample,
        Issue::ChunkEntry {
            ag: 0,
            chunk: u32::try_from(chunks - 1).expect("small"),
            fault: "is behind the last one that is counted",
        },
    );
}

#[test]
fn a_chunk_entry() {
    let sample = sample();
    sample.flip(sample.info.geometry.chunk_entry(0, 1), 2);
    finds(
        &sample,
        Issue::ChunkEntry {
            ag: 0,
            chunk: 1,
            fault: "wrong check value",
        },
    );
}

#[test]
fn two_chunks_in_one_place() {
    let sample = sample();
    let entry = sample.info.geometry.chunk_entry(0, 1);
    let start = sample
        .media
        .bytes(sample.info.geometry.chunk_entry(0, 0), 4);
    let start: [u8; 4] = start.try_into().expect("4 bytes");
    let check = sample.keys.chunk(0, 1, u32::from_le_bytes(start));
    sample.media.damage(entry, &start);
    sample.media.damage(entry + 4, &check.to_le_bytes());
    let block = sample.info.geometry.ag_base(0).plus(512);
    finds(
        &sample,
        Issue::BlockShared {
            block,
            ino: Ino(64),
        },
    );
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
    finds(
        &sample,
        Issue::BlocksNotMarked {
            start: root,
            len: 1,
        },
    );
}

#[test]
fn the_end_of_the_last_bitmap() {
    let sample = sample();
    let word = sample
        .info
        .geometry
        .bitmap_word(0, sample.info.geometry.ag_blocks(0) + 64);
    sample.put_u64(word, 0);
    finds_only(&sample, Issue::BitmapEnd { ag: 0 });
}
