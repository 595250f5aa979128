// SPDX-License-Identifier: GPL-2.0

//! `docs/fsck.md` lists every issue with what the repair does about it.
//!
//! `OCHRE_BLESS=1` writes the table anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use ochre::engine::fsck::{Copy, EntryFault, Issue, NodeFault};
use ochre::engine::types::{Block, FileBlock, Ino};

/// One of each; those whose repair depends on the fault, with each fault.
fn all() -> Vec<(String, Issue)> {
    use Issue::*;
    let ino = Ino(1);
    let (block, file_block, fault) = (Block(1), FileBlock(1), "");
    let (stored, counted, ag) = (1, 2, 0);
    let mut issues = vec![
        SuperblockDamaged(Copy::Primary, fault),
        SuperblocksDiffer,
        Geometry(fault),
        UnfinishedRepair,
        NotClean(0),
        JournalHeader(fault),
        NoCheckpoint,
        GroupHeader { ag, fault },
        GroupFreeBlocks {
            ag,
            stored,
            counted,
        },
        GroupUsedInodes {
            ag,
            stored,
            counted,
        },
        GroupChunks { ag, chunks: 0 },
        ChunkEntry {
            ag,
            chunk: 0,
            fault,
        },
        BlocksLeaked {
            start: block,
            len: 1,
        },
        BlocksNotMarked {
            start: block,
            len: 1,
        },
        BitmapEnd { ag },
        BlockShared { block, ino },
        InodeUnreadable { ino },
        InodeMagic { ino },
        InodeChecksum { ino },
        InodeNumber { ino, found: 2 },
        InodeMode { ino, mode: 0 },
        InodeRoot { ino, root: 0 },
        InodeSize { ino, size: 0 },
        InodeBlocks {
            ino,
            stored,
            counted,
        },
        InodeField { ino, field: fault },
        InodeLinks {
            ino,
            stored: 1,
            counted: 2,
        },
        InodeUnreachable { ino },
        InodeZeroFree,
        RootMissing,
        Pointer { ino, block },
        TreeHeight { ino, height: 9 },
        ExtentLength { ino, file_block },
        ExtentParked { ino, file_block },
        ExtentOrder { ino, file_block },
        ExtentOverlap { ino, file_block },
        ExtentBounds {
            ino,
            file_block,
            block,
        },
        DirectoryHeap { dir: ino, block },
        DirectoryParent {
            ino,
            stored,
            found: 2,
        },
        DirectoryLinkedTwice { ino },
        DirectoryLoop { ino },
        OrphanNotEmpty { ino },
        SymlinkTarget { ino },
        OrphanUnreadable { slot: 0 },
        OrphanTarget { slot: 0, ino: 1 },
        OrphanSlot {
            ino,
            stored: 1,
            slot: 2,
        },
        OrphanMissing { ino, stored: 1 },
    ];
    use NodeFault as N;
    for fault in [
        N::Unreadable,
        N::Magic,
        N::Checksum,
        N::Number,
        N::Owner,
        N::Uuid,
        N::Generation,
        N::Level,
        N::Count,
        N::Order,
        N::Range,
    ] {
        issues.push(Node { ino, block, fault });
    }
    use EntryFault as E;
    for fault in [
        E::Place,
        E::Name,
        E::Hash,
        E::Range,
        E::Fingerprint,
        E::DuplicateKey,
        E::DuplicateName,
        E::Target,
        E::Kind,
    ] {
        issues.push(Entry {
            dir: ino,
            block,
            slot: 0,
            fault,
        });
    }
    let name = |issue: &Issue| match issue {
        Node { fault, .. } => format!("Node: {fault:?}"),
        Entry { fault, .. } => format!("Entry: {fault:?}"),
        other => other.name().to_owned(),
    };
    issues
        .into_iter()
        .map(|issue| (name(&issue), issue))
        .collect()
}

#[test]
fn every_issue_is_in_the_manual() {
    let source = include_str!("../../../src/engine/fsck/issue.rs");
    let known: BTreeSet<&str> = all().iter().map(|(_, issue)| issue.name()).collect();
    let named = source.lines().filter_map(|line| {
        let (_, name) = line.trim().strip_prefix("Self::")?.split_once("=> \"")?;
        // The other texts are sentences.
        name.strip_suffix("\",").filter(|name| !name.contains(' '))
    });
    let named: BTreeSet<&str> = named.collect();
    assert_eq!(known, named, "every variant has a line");

    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/fsck.md");
    let text = fs::read_to_string(&path).expect("docs/fsck.md");
    let head = "| issue | repair | safe |\n|---|---|---|\n";
    let (before, table) = text.split_once(head).expect("the table's head");
    let rows: String = all()
        .iter()
        .map(|(name, issue)| {
            let safe = if issue.is_safe() { "yes" } else { "" };
            format!("| `{name}` | {} | {safe} |\n", issue.remedy())
        })
        .collect();
    if std::env::var_os("OCHRE_BLESS").is_some() {
        fs::write(&path, format!("{before}{head}{rows}")).expect("docs/fsck.md");
    } else {
        assert_eq!(table, rows, "OCHRE_BLESS=1 writes it anew");
    }
}
