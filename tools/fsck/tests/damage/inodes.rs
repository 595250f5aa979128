// SPDX-License-Identifier: GPL-2.0

//! Inode records.

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
    finds(
        &sample,
        Issue::InodeNumber {
            ino: sample.device,
            found: 99,
        },
    );
}

#[test]
fn unreadable() {
    let sample = sample();
    sample
        .media
        .poison(sample.record_address(sample.device), 256);
    finds(&sample, Issue::InodeUnreadable { ino: sample.device });
}

#[test]
fn impossible_fields() {
    let with = |change: fn(&mut ochre::engine::format::inode::InodeRecord),
                ino: fn(&Sample) -> Ino,
                issue: fn(Ino) -> Issue| {
        let sample = sample();
        let ino = ino(&sample);
        sample.edit(ino, change);
        finds(&sample, issue(ino));
    };
    with(
        |r| r.mode.set(0o170000),
        |s| s.device,
        |ino| Issue::InodeMode {
            ino,
            mode: 0o170000,
        },
    );
    with(
        |r| r.root = 9,
        |s| s.file,
        |ino| Issue::InodeRoot { ino, root: 9 },
    );
    with(
        |r| r.root = 0,
        |s| s.sub,
        |ino| Issue::InodeRoot { ino, root: 0 },
    );
    with(
        |r| r.count = 8,
        |s| s.file,
        |ino| Issue::InodeRoot { ino, root: 0 },
    );
    with(
        |r| r.size.set(1 << 60),
        |s| s.file,
        |ino| Issue::InodeSize { ino, size: 1 << 60 },
    );
    with(
        |r| r.size.set(5),
        |s| s.big,
        |ino| Issue::InodeSize { ino, size: 5 },
    );
    with(
        |r| r.size.set(0),
        |s| s.short_link,
        |ino| Issue::InodeSize { ino, size: 0 },
    );
    with(
        |r| r.size.set(1),
        |s| s.device,
        |ino| Issue::InodeSize { ino, size: 1 },
    );
    with(
        |r| r.blocks.set(7),
        |s| s.file,
        |ino| Issue::InodeBlocks {
            ino,
            stored: 7,
            counted: 3,
        },
    );
    with(
        |r| r.pending = 1,
        |s| s.file,
        |ino| Issue::InodeField {
            ino,
            field: "kind of pending truncation",
        },
    );
    with(
        |r| r.rdev.set(7),
        |s| s.file,
        |ino| Issue::InodeField {
            ino,
            field: "device number",
        },
    );
    with(
        |r| r.xattr_block.set(7),
        |s| s.file,
        |ino| Issue::InodeField {
            ino,
            field: "block of extended attributes",
        },
    );
    with(
        |r| r.nlink.set(3),
        |s| s.file,
        |ino| Issue::InodeLinks {
            ino,
            stored: 3,
            counted: 2,
        },
    );
    with(
        |r| r.nlink.set(2),
        |s| s.sub,
        |ino| Issue::InodeLinks {
            ino,
            stored: 2,
            counted: 3,
        },
    );
    with(
        |r| r.inline[3] = 0,
        |s| s.short_link,
        |ino| Issue::SymlinkTarget { ino },
    );
    with(
        |r| r.height = 0,
        |s| s.sparse,
        |ino| Issue::TreeHeight { ino, height: 0 },
    );
    with(
        |r| r.height = 9,
        |s| s.big,
        |ino| Issue::TreeHeight { ino, height: 9 },
    );
}
