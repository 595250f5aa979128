// SPDX-License-Identifier: GPL-2.0

//! Moving all that lies behind a place of a file: what `collapse` and `insert` do to its extents.
//!
//! What: [`shift`] takes a range out of a file and closes the gap, or opens one, in one transaction. The tree is built anew
//! beside the old one ([`btree::build`]), from the leaf that holds the place on; the leaves before it are kept, the index
//! nodes are not. Extents that straddle the place are cut, neighbours that meet are joined.
//!
//! Why anew: the key of every extent behind the place changes, and of a file in many pieces they do not fit into a record. So
//! the record holds none of them: only the inode's new root, and the bits of the nodes that come and go. Neighbouring
//! nodes share an entry, so 1800 runs of old nodes (a quarter of a million extents and more) are what a file may have; with more
//! the call says that there is no space, and nothing has changed.
//!
//! # Hazard
//!
//! What lies behind the end of a file while a truncate is unfinished belongs to nobody but those who still hold its pages. It
//! must not move: a page is where its mapping entry says. It stays behind [`Plan::limit`].

use super::edit::{cut, joins};
use super::{seek, store_tree, tree_of, SIZE};
use crate::engine::btree::{self, build::Builder, Kind, Reader, Tree};
use crate::engine::error::{Error, Result};
use crate::engine::format::extent::{DiskExtent, Extent};
use crate::engine::format::inode::{
    InodeRecord, INLINE_EXTENTS, ROOT_EXTENT_TREE, ROOT_INLINE_EXTENTS,
};
use crate::engine::format::node::MAX_HEIGHT;
use crate::engine::media::Media;
use crate::engine::transaction::{Class, Transaction};
use crate::engine::types::{Block, FileBlock, Ino, Run};
use crate::platform::{yield_now, Vec};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

/// Runs of old nodes that one transaction frees at most: what may wait for a checkpoint, less some for others.
const MOST_RUNS: usize = 1800;

/// What goes where, in blocks of the file.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Nothing below this changes.
    pub from: u64,
    /// `from..source` is taken out; the same as `from`: nothing is.
    pub source: u64,
    /// What lies from `source` on begins here.
    pub target: u64,
    /// What lies from here on stays where it is.
    pub limit: u64,
    /// Where the blocks that are taken out begin from now on, behind `limit`, where there is a hole; `None`: they are freed.
    pub rescue: Option<u64>,
}

/// Shows `each` the extents in `from..to`, cut at its ends, in order.
pub fn for_each<R: Reader>(
    reader: &R,
    record: &InodeRecord,
    from: u64,
    to: u64,
    mut each: impl FnMut(&Extent) -> Result,
) -> Result {
    let corrupt = || Error::corrupt("extent of an inode", record.ino.get());
    let mut at = from;
    let mut bytes = Vec::new();
    let to = to.min(FileBlock::END.0);
    while at < to {
        let cursor = seek(reader, record, FileBlock(at))?;
        cursor.load(reader, record, cursor.count, &mut bytes)?;
        let mut low = cursor.floor;
        for disk in bytes.chunks_exact(SIZE) {
            let disk = DiskExtent::read_from_bytes(disk).map_err(|_| corrupt())?;
            let extent = Extent::from_disk(&disk);
            let end = extent.file_end().0;
            // Out of order, they would get two extents for one place.
            if extent.file_block.0 < low
                || end > cursor.limit
                || extent.len == 0
                || extent.block == Block::NONE
            {
                return Err(corrupt());
            }
            low = end;
            let part = cut(&extent, at, to);
            if part.len > 0 {
                each(&part)?;
            }
        }
        if cursor.limit <= at {
            return Err(corrupt());
        }
        at = cursor.limit;
        yield_now();
    }
    Ok(())
}

/// Carries out a plan on the draft of a record. `TooLarge`: the tree has too many nodes for one transaction.
pub fn shift<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    plan: &Plan,
) -> Result {
    // Nothing of the tree is changed in this transaction, so it is read past it.
    let volume = tx.volume();
    let old = *record;
    if plan.rescue.is_none() {
        free_range(tx, record, plan.from, plan.source)?;
    }
    let mut out = Output::new(volume, &old);
    let begin = out.keep_leaves(tx, &old, plan.from)?;
    let end = FileBlock::END.0;
    let mut copy = |out: &mut Output, from: u64, to: u64, target: u64| {
        for_each(volume, &old, from, to, |extent| {
            let file_block = FileBlock(extent.file_block.0 - from + target);
            out.push(
                tx,
                &Extent {
                    file_block,
                    ..*extent
                },
            )
        })
    };
    copy(&mut out, begin, plan.from, begin)?;
    copy(&mut out, plan.source, plan.limit, plan.target)?;
    match plan.rescue {
        None => copy(&mut out, plan.limit, end, plan.limit)?,
        Some(to) => {
            copy(&mut out, plan.limit, to, plan.limit)?;
            copy(&mut out, plan.from, plan.source, to)?;
            let behind = to + (plan.source - plan.from);
            copy(&mut out, behind, end, behind)?;
        }
    }
    out.finish(tx, record)?;
    free_nodes(tx, &old, record, begin)
}

/// Frees the blocks of `from..to`, whose extents the caller takes out of the tree.
fn free_range<M: Media>(
    tx: &mut Transaction<'_, M>,
    record: &mut InodeRecord,
    from: u64,
    to: u64,
) -> Result {
    let volume = tx.volume();
    let (mut runs, mut blocks): (Vec<Run>, u64) = (Vec::new(), 0);
    for_each(volume, record, from, to, |extent| {
        blocks += extent.len;
        match runs.last_mut() {
            Some(run) if run.end() == extent.block => run.len += extent.len,
            _ => runs.push(Run {
                start: extent.block,
                len: extent.len,
            })?,
        }
        Ok(())
    })?;
    tx.free_data(&runs)?;
    record.blocks = U64::new(record.blocks.get().saturating_sub(blocks));
    Ok(())
}

/// The new tree, as far as it is built.
struct Output {
    tree: Tree,
    builder: Builder,
    /// The last extent, to which the next one may be joined.
    last: Option<Extent>,
}

impl Output {
    fn new<M: Media>(volume: &crate::engine::volume::Volume<M>, old: &InodeRecord) -> Self {
        let tree = tree_of(old, Kind::Extents);
        let near = match old.root {
            ROOT_EXTENT_TREE => tree.root,
            _ => btree::home(volume, Ino(old.ino.get())),
        };
        Self {
            tree,
            builder: Builder::new(near),
            last: None,
        }
    }

    /// Takes over the leaves that lie before block `from` entirely. Returns where they end.
    fn keep_leaves<M: Media>(
        &mut self,
        tx: &mut Transaction<'_, M>,
        old: &InodeRecord,
        from: u64,
    ) -> Result<u64> {
        let volume = tx.volume();
        let tree = tree_of(old, Kind::Extents);
        let mut at = 0;
        if old.root != ROOT_EXTENT_TREE {
            return Ok(at);
        }
        loop {
            let leaf = btree::descend(volume, &tree, at)?;
            if leaf.limit > from || leaf.limit <= at {
                return Ok(at);
            }
            self.builder
                .push_leaf(tx, &mut self.tree, leaf.floor, leaf.block)?;
            at = leaf.limit;
        }
    }

    fn push<M: Media>(&mut self, tx: &mut Transaction<'_, M>, extent: &Extent) -> Result {
        match &mut self.last {
            Some(last) if joins(last, extent) => {
                last.len += extent.len;
                Ok(())
            }
            last => match last.replace(*extent) {
                Some(done) => self.store(tx, &done),
                None => Ok(()),
            },
        }
    }

    fn store<M: Media>(&mut self, tx: &mut Transaction<'_, M>, extent: &Extent) -> Result {
        let mut entry = [0; SIZE];
        entry.copy_from_slice(extent.to_disk().as_bytes());
        self.builder
            .push(tx, &mut self.tree, extent.file_block.0, entry)
    }

    /// Lets the record have the new extents.
    fn finish<M: Media>(mut self, tx: &mut Transaction<'_, M>, record: &mut InodeRecord) -> Result {
        if let Some(last) = self.last.take() {
            self.store(tx, &last)?;
        }
        record.inline.fill(0);
        record.count = 0;
        let inline = self.builder.only_leaf();
        if let Some(extents) = inline.filter(|bytes| bytes.len() <= INLINE_EXTENTS * SIZE) {
            if let Some(place) = record.inline.get_mut(..extents.len()) {
                place.copy_from_slice(extents);
            }
            record.root = ROOT_INLINE_EXTENTS;
            record.count = u8::try_from(extents.len() / SIZE).unwrap_or(0);
            record.height = 0;
            return Ok(());
        }
        self.builder.finish(tx, &mut self.tree)?;
        record.root = ROOT_EXTENT_TREE;
        store_tree(record, &self.tree);
        Ok(())
    }
}

/// Frees the nodes of the old tree, but for the leaves before block `kept`.
fn free_nodes<M: Media>(
    tx: &mut Transaction<'_, M>,
    old: &InodeRecord,
    record: &mut InodeRecord,
    kept: u64,
) -> Result {
    if old.root != ROOT_EXTENT_TREE {
        return Ok(());
    }
    let volume = tx.volume();
    let tree = tree_of(old, Kind::Extents);
    let mut last = [Block::NONE; MAX_HEIGHT as usize];
    let mut freed = Freed {
        run: None,
        runs: 0,
        blocks: 0,
    };
    let mut at = 0;
    loop {
        let path = btree::path(volume, &tree, at)?;
        for (last, node) in last.iter_mut().zip(path.index_nodes()) {
            if *last != node {
                *last = node;
                freed.add(tx, node)?;
            }
        }
        if path.leaf.floor >= kept {
            freed.add(tx, path.leaf.block)?;
        }
        if path.leaf.limit == u64::MAX {
            break;
        }
        if path.leaf.limit <= at {
            return Err(Error::corrupt("bounds of an extent leaf", old.ino.get()));
        }
        at = path.leaf.limit;
        yield_now();
    }
    freed.flush(tx)?;
    record.blocks = U64::new(record.blocks.get().saturating_sub(freed.blocks));
    Ok(())
}

/// Nodes to be freed, neighbours together.
struct Freed {
    run: Option<Run>,
    runs: usize,
    blocks: u64,
}

impl Freed {
    fn add<M: Media>(&mut self, tx: &mut Transaction<'_, M>, block: Block) -> Result {
        self.blocks += 1;
        let geometry = tx.volume().geometry();
        if let Some(run) = &mut self.run {
            let longer = Run {
                start: run.start,
                len: run.len + 1,
            };
            if run.end() == block && geometry.locate_run(longer).is_some() {
                *run = longer;
                return Ok(());
            }
        }
        self.flush(tx)?;
        self.run = Some(Run {
            start: block,
            len: 1,
        });
        Ok(())
    }

    fn flush<M: Media>(&mut self, tx: &mut Transaction<'_, M>) -> Result {
        let Some(run) = self.run.take() else {
            return Ok(());
        };
        self.runs += 1;
        if self.runs > MOST_RUNS {
            return Err(Error::TooLarge);
        }
        tx.free(run, Class::Metadata)
    }
}
