// SPDX-License-Identifier: GPL-2.0

//! A walk through a whole filesystem that lists every live structure, and whose each block is.
//!
//! It reads sound images (what is to be damaged), so it is short: whoever wants to know what is wrong with one asks fsck.

use ochre::engine::checksum::Keys;
use ochre::engine::error::{Error, Result};
use ochre::engine::format::ag::{self, AgHeader, ChunkEntry};
use ochre::engine::format::extent::{DiskExtent, Extent};
use ochre::engine::format::inode::{
    InodeRecord, INLINE_EXTENTS, ROOT_DIRECTORY, ROOT_EXTENT_TREE, ROOT_INLINE_EXTENTS,
    ROOT_SYMLINK_BLOCKS,
};
use ochre::engine::format::journal::CHECKPOINT_OFFSETS;
use ochre::engine::format::node::BlockHeader;
use ochre::engine::media::Media;
use ochre::engine::recovery;
use ochre::engine::superblock::{self, SuperInfo};
use ochre::engine::types::{Block, FileKind, Ino, Run, BLOCK_SIZE};
use std::collections::{BTreeMap, HashMap};
use zerocopy::{FromBytes, IntoBytes};

/// What a structure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Block 0.
    Superblock,
    /// The last block.
    SuperblockCopy,
    /// Block 1, its first 64 bytes.
    JournalHeader,
    /// One of the two places for C.
    Checkpoint,
    /// A valid journal record.
    Record,
    /// An entry of the orphan table, used or not.
    OrphanEntry,
    /// A group's header, what its checksum covers.
    GroupHeader,
    /// The words behind it: free blocks, used inodes, chunks.
    GroupCounts,
    /// A group's bitmap.
    Bitmap,
    /// An entry of the chunk map.
    ChunkEntry,
    /// An inode record.
    Inode,
    /// An index node of an extent tree.
    ExtentIndex,
    /// A leaf of an extent tree.
    ExtentLeaf,
    /// An index node of a directory.
    DirectoryIndex,
    /// A leaf of a directory.
    DirectoryLeaf,
    /// A block of a symbolic link's target.
    Symlink,
    /// A block of file data.
    Data,
}

impl Kind {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Superblock => "superblock",
            Self::SuperblockCopy => "superblock copy",
            Self::JournalHeader => "journal header",
            Self::Checkpoint => "checkpoint slot",
            Self::Record => "journal record",
            Self::OrphanEntry => "orphan table entry",
            Self::GroupHeader => "group header",
            Self::GroupCounts => "group counts",
            Self::Bitmap => "block bitmap",
            Self::ChunkEntry => "chunk map entry",
            Self::Inode => "inode record",
            Self::ExtentIndex => "extent index node",
            Self::ExtentLeaf => "extent leaf",
            Self::DirectoryIndex => "directory index node",
            Self::DirectoryLeaf => "directory leaf",
            Self::Symlink => "symbolic link block",
            Self::Data => "file data",
        }
    }

    /// Whether it is a block that starts with a header.
    pub const fn is_node(self) -> bool {
        matches!(
            self,
            Self::ExtentIndex
                | Self::ExtentLeaf
                | Self::DirectoryIndex
                | Self::DirectoryLeaf
                | Self::Symlink
        )
    }
}

/// One live structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structure {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub address: u64,
    /// Its bytes.
    pub len: usize,
    /// The inode that it belongs to, or [`Ino::NONE`].
    pub owner: Ino,
    /// Group, slot or entry number, where it has one.
    pub index: u32,
    /// The group, for a chunk map entry; words of entries, for a record.
    pub extra: u32,
    /// The block that points to it.
    pub parent: Block,
}

/// What is known of an inode.
#[derive(Clone, Debug)]
pub struct Known {
    /// Where its record lies.
    pub address: u64,
    /// Its record.
    pub record: InodeRecord,
    /// Its kind.
    pub kind: FileKind,
    /// Its data.
    pub extents: Vec<Extent>,
    /// Its tree and symbolic link blocks.
    pub nodes: Vec<Block>,
}

/// What a block is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Data of an inode.
    Data(Ino),
    /// A tree or symbolic link block of an inode.
    Node(Ino, Kind),
    /// Inode records: group and chunk.
    Chunk(u32, u32),
}

/// A filesystem, taken apart.
pub struct Image {
    /// The superblock.
    pub info: SuperInfo,
    /// The keys of its checksums.
    pub keys: Keys,
    /// Every live structure.
    pub structures: Vec<Structure>,
    /// Every inode in use.
    pub inodes: BTreeMap<u64, Known>,
    /// Every block in use, but those of the groups' own metadata.
    pub uses: HashMap<u64, Use>,
    /// First block and inode numbers of each chunk: (group, chunk) to block.
    pub chunks: BTreeMap<(u32, u32), Block>,
}

impl Image {
    /// Takes the image on `media` apart. Its journal is not replayed.
    ///
    /// # Errors
    ///
    /// What the engine says of a superblock that it cannot use; `Io` outside the medium.
    pub fn read<M: Media>(media: &M) -> Result<Self> {
        let info = superblock::load(media)?;
        let keys = Keys::new(info.secret)?;
        let mut image = Self {
            info,
            keys,
            structures: Vec::new(),
            inodes: BTreeMap::new(),
            uses: HashMap::new(),
            chunks: BTreeMap::new(),
        };
        image.whole_filesystem(media)?;
        for agno in 0..image.info.geometry.ag_count {
            image.group(media, agno)?;
        }
        Ok(image)
    }

    fn add(
        &mut self,
        kind: Kind,
        address: u64,
        len: usize,
        owner: Ino,
        index: u32,
    ) -> &mut Structure {
        let at = self.structures.len();
        self.structures.push(Structure {
            kind,
            address,
            len,
            owner,
            index,
            extra: 0,
            parent: Block::NONE,
        });
        &mut self.structures[at]
    }

    fn whole_filesystem<M: Media>(&mut self, media: &M) -> Result {
        let g = self.info.geometry;
        let none = Ino::NONE;
        self.add(Kind::Superblock, 0, 512, none, 0);
        self.add(
            Kind::SuperblockCopy,
            Block(g.blocks - 1).address(),
            512,
            none,
            0,
        );
        self.add(Kind::JournalHeader, g.journal.address(), 64, none, 0);
        for (slot, offset) in CHECKPOINT_OFFSETS.iter().enumerate() {
            let address = g.journal.address() + offset;
            self.add(Kind::Checkpoint, address, 16, none, slot as u32);
        }
        let mut buffer = recovery::record_buffer()?;
        let mut found = Vec::new();
        recovery::segments(&g, |segment| {
            recovery::walk_segment(media, &self.keys, segment, &mut buffer, |record, _| {
                found.push(record);
                Ok(())
            })
        })?;
        for record in found {
            let len = (record.words + 4) * 8;
            self.add(Kind::Record, record.address, len, none, 0).extra = record.words as u32;
        }
        for slot in 0..g.orphan_slots.min(8) {
            let ino = Ino(media.read_u64(g.orphan_slot(slot))?);
            self.add(Kind::OrphanEntry, g.orphan_slot(slot), 8, ino, slot);
        }
        Ok(())
    }

    fn group<M: Media>(&mut self, media: &M, agno: u32) -> Result {
        let g = self.info.geometry;
        let base = g.ag_base(agno);
        let mut bytes = [0; 88];
        media.read(base.address(), &mut bytes)?;
        let header = AgHeader::read_from_bytes(&bytes).map_err(|_| Error::Io)?;
        self.add(
            Kind::GroupHeader,
            base.address(),
            ag::CHECKED,
            Ino::NONE,
            agno,
        );
        let counts = base.address() + ag::FREE_BLOCKS_OFFSET;
        self.add(Kind::GroupCounts, counts, 24, Ino::NONE, agno);
        let words = g.ag_blocks(agno).div_ceil(64) as usize;
        self.add(
            Kind::Bitmap,
            g.bitmap_word(agno, 0),
            words * 8,
            Ino::NONE,
            agno,
        );
        for index in 0..header.chunks.get() as u32 {
            let address = g.chunk_entry(agno, index);
            self.add(Kind::ChunkEntry, address, 16, Ino::NONE, index)
                .extra = agno;
            let mut bytes = [0; 16];
            media.read(address, &mut bytes)?;
            let entry = ChunkEntry::read_from_bytes(&bytes).map_err(|_| Error::Io)?;
            let start = base.plus(u64::from(entry.start.get()));
            self.chunks.insert((agno, index), start);
            for n in 0..ag::CHUNK_BLOCKS {
                self.uses.insert(start.plus(n).0, Use::Chunk(agno, index));
            }
            for slot in (0..64).filter(|slot| entry.mask.get() >> slot & 1 == 1) {
                let ino = Ino::from_parts(agno, index, slot);
                if ino != Ino::NONE {
                    self.inode(media, ino, start.address() + u64::from(slot) * 256)?;
                }
            }
        }
        Ok(())
    }

    fn inode<M: Media>(&mut self, media: &M, ino: Ino, address: u64) -> Result {
        let mut bytes = [0; 256];
        media.read(address, &mut bytes)?;
        let record = InodeRecord::read_from_bytes(&bytes).map_err(|_| Error::Io)?;
        let Some(kind) = FileKind::from_mode(record.mode.get()) else {
            return Ok(());
        };
        self.add(Kind::Inode, address, 256, ino, ino.slot());
        let mut known = Known {
            address,
            record,
            kind,
            extents: Vec::new(),
            nodes: Vec::new(),
        };
        let word = |at: usize| Block(word_at(&record.inline, at));
        match record.root {
            ROOT_INLINE_EXTENTS => {
                for index in 0..usize::from(record.count).min(INLINE_EXTENTS) {
                    known.extents.push(extent_at(&record.inline, index * 16));
                }
            }
            ROOT_EXTENT_TREE | ROOT_DIRECTORY if word(0) != Block::NONE => {
                self.tree(media, ino, word(0), &mut known)?;
            }
            ROOT_SYMLINK_BLOCKS => {
                for block in [word(0), word(8)] {
                    if block != Block::NONE {
                        self.node(Kind::Symlink, ino, block, Block::NONE, &mut known);
                    }
                }
            }
            _ => {}
        }
        for extent in &known.extents {
            let address = extent.block.address();
            self.add(Kind::Data, address, BLOCK_SIZE as usize, ino, 0);
            for n in 0..extent.len {
                self.uses.insert(extent.block.plus(n).0, Use::Data(ino));
            }
        }
        self.inodes.insert(ino.0, known);
        Ok(())
    }

    fn node(&mut self, kind: Kind, ino: Ino, block: Block, parent: Block, known: &mut Known) {
        self.add(kind, block.address(), BLOCK_SIZE as usize, ino, 0)
            .parent = parent;
        self.uses.insert(block.0, Use::Node(ino, kind));
        known.nodes.push(block);
    }

    fn tree<M: Media>(&mut self, media: &M, ino: Ino, root: Block, known: &mut Known) -> Result {
        let directory = known.kind == FileKind::Directory;
        let mut todo = vec![(root, known.record.height, Block::NONE)];
        while let Some((block, height, parent)) = todo.pop() {
            let leaf = height <= 1;
            let kind = match (directory, leaf) {
                (true, true) => Kind::DirectoryLeaf,
                (true, false) => Kind::DirectoryIndex,
                (false, true) => Kind::ExtentLeaf,
                (false, false) => Kind::ExtentIndex,
            };
            self.node(kind, ino, block, parent, known);
            let mut bytes = [0; BLOCK_SIZE as usize];
            media.read(block.address(), &mut bytes)?;
            let (header, _) = BlockHeader::read_from_prefix(&bytes).map_err(|_| Error::Io)?;
            for entry in 0..usize::from(header.count.get()).min(252) {
                match kind {
                    Kind::ExtentLeaf => known.extents.push(extent_at(&bytes, 64 + entry * 16)),
                    Kind::DirectoryLeaf => {}
                    _ => {
                        let child = Block(word_at(&bytes, 64 + entry * 16 + 8));
                        todo.push((child, height - 1, block));
                    }
                }
            }
        }
        Ok(())
    }

    /// Kinds that this image has, each once.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.structures.iter().map(|s| s.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// The inodes whose data, trees or records lie in a run of blocks.
    pub fn owners(&self, run: Run) -> Vec<Ino> {
        let mut owners = Vec::new();
        let end = run
            .start
            .0
            .saturating_add(run.len)
            .min(self.info.geometry.blocks);
        for block in run.start.0..end {
            match self.uses.get(&block) {
                Some(Use::Data(ino) | Use::Node(ino, _)) => owners.push(*ino),
                Some(Use::Chunk(agno, index)) => {
                    owners.extend((0..64).map(|slot| Ino::from_parts(*agno, *index, slot)));
                }
                None => {}
            }
        }
        owners.sort_unstable();
        owners.dedup();
        owners
    }
}

/// The little-endian word at a place; 0 outside.
pub fn word_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
    word.map_or(0, u64::from_le_bytes)
}

/// The extent at a place.
pub fn extent_at(bytes: &[u8], at: usize) -> Extent {
    let mut disk = DiskExtent::read_from_bytes(&[0; 16]).expect("16 bytes");
    if let Some(from) = bytes.get(at..at + 16) {
        disk.as_mut_bytes().copy_from_slice(from);
    }
    Extent::from_disk(&disk)
}
