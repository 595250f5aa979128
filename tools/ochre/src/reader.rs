// SPDX-License-Identifier: GPL-2.0

//! Reading structures by their place.

use ochre::engine::checksum::{Domain, Keys};
use ochre::engine::error::Error;
use ochre::engine::format::ag::{ChunkEntry, CHUNKS_OFFSET};
use ochre::engine::format::inode::InodeRecord;
use ochre::engine::format::node::BlockHeader;
use ochre::engine::media::Media;
use ochre::engine::superblock::{self, SuperInfo};
use ochre::engine::types::{Block, Ino};
use ochre_tools::image::Borrowed;
use zerocopy::FromBytes;

/// A block of 4 KiB.
pub type Bytes = [u8; 4096];

/// An image with a superblock that makes sense.
pub struct Reader<'a> {
    pub image: &'a dyn Media,
    pub info: SuperInfo,
    pub keys: Keys,
}

impl<'a> Reader<'a> {
    pub fn new(image: &'a dyn Media, name: &str) -> Result<Self, String> {
        let info = superblock::load(&Borrowed(image)).map_err(|error| match error {
            Error::WrongType => format!("{name} holds no Ochre filesystem"),
            other => format!("{name}: {other}; `ochre inspect {name} superblock` shows more"),
        })?;
        let keys = Keys::new(info.secret).map_err(|error| error.to_string())?;
        Ok(Self { image, info, keys })
    }

    pub fn block(&self, block: Block) -> Result<Box<Bytes>, String> {
        if block.0 >= self.info.geometry.blocks {
            return Err(format!(
                "there is no block {block}: the last one is {}",
                self.info.geometry.blocks - 1
            ));
        }
        let mut bytes = Box::new([0; 4096]);
        let read = self.image.read(block.address(), &mut bytes[..]);
        read.map_err(|error| format!("block {block}: {error}"))?;
        Ok(bytes)
    }

    pub fn word(&self, address: u64) -> Result<u64, String> {
        self.image
            .read_u64(address)
            .map_err(|error| format!("byte {address:#x}: {error}"))
    }

    /// Header of a metadata block, and whether its checksum is right.
    pub fn header(&self, bytes: &Bytes) -> Option<(BlockHeader, bool)> {
        let (header, _) = BlockHeader::read_from_prefix(bytes).ok()?;
        let right = self.keys.object(Domain::Node, bytes, 8) == header.checksum.get();
        Some((header, right))
    }

    /// What is wrong with a metadata block: with what it says of itself, given who leads to it and what should be there.
    pub fn faults(
        &self,
        block: Block,
        bytes: &Bytes,
        owner: Option<&InodeRecord>,
        level: Option<u16>,
    ) -> Vec<String> {
        let Some((header, right)) = self.header(bytes) else {
            return Vec::new();
        };
        let mut wrong = Vec::new();
        let mut note = |is: bool, what: String| {
            if is {
                wrong.push(format!("block {block}: {what}"));
            }
        };
        note(!right, "the checksum is wrong".to_owned());
        note(
            header.block.get() != block.0,
            format!("it says that it is block {}", header.block.get()),
        );
        note(
            header.uuid != self.info.uuid,
            "it belongs to another filesystem".to_owned(),
        );
        if let Some(owner) = owner {
            note(
                header.owner.get() != owner.ino.get(),
                format!("it says that it belongs to inode {}", header.owner.get()),
            );
            note(
                header.generation.get() != owner.generation.get(),
                "it belongs to an earlier use of the inode's number".to_owned(),
            );
        }
        if let Some(level) = level {
            note(
                header.level.get() != level,
                format!("its level is {}, not {level}", header.level.get()),
            );
        }
        wrong
    }

    /// Entry of the chunk map for an inode, if there is one.
    pub fn chunk(&self, ag: u32, chunk: u32) -> Result<Option<ChunkEntry>, String> {
        let geometry = &self.info.geometry;
        if ag >= geometry.ag_count {
            return Ok(None);
        }
        if u64::from(chunk) >= self.word(geometry.ag_base(ag).address() + CHUNKS_OFFSET)? {
            return Ok(None);
        }
        let mut bytes = [0; 16];
        let read = self.image.read(geometry.chunk_entry(ag, chunk), &mut bytes);
        read.map_err(|error| format!("chunk {chunk} of group {ag}: {error}"))?;
        Ok(ChunkEntry::read_from_bytes(&bytes).ok())
    }

    /// Address and record of an inode, and whether it is in use.
    pub fn inode(&self, ino: Ino) -> Result<(u64, InodeRecord, bool), String> {
        let entry = self.chunk(ino.ag(), ino.chunk())?;
        let entry = entry.ok_or_else(|| format!("there is no inode {ino}: no such chunk"))?;
        let base = self.info.geometry.ag_base(ino.ag());
        let block = base.plus(u64::from(entry.start.get()));
        let address = block.address() + u64::from(ino.slot()) * 256;
        let mut bytes = [0; 256];
        let read = self.image.read(address, &mut bytes);
        read.map_err(|error| format!("inode {ino}: {error}"))?;
        let record = InodeRecord::read_from_bytes(&bytes).map_err(|_| "inode".to_owned())?;
        Ok((address, record, entry.mask.get() >> ino.slot() & 1 != 0))
    }
}

/// The root of a record's tree.
pub fn root_of(record: &InodeRecord) -> Block {
    Block(
        record
            .inline
            .first_chunk::<8>()
            .map_or(0, |word| u64::from_le_bytes(*word)),
    )
}

/// The magic number of a block.
pub fn magic(bytes: &Bytes) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The count in the header of a block.
pub fn count(bytes: &Bytes) -> usize {
    usize::from(u16::from_le_bytes([bytes[6], bytes[7]]))
}

/// The blocks of a tree, parents before children, from low keys to high ones; index nodes are followed if they look like some.
/// Damage ends a branch, and `seen` bounds the walk.
pub fn nodes(reader: &Reader<'_>, record: &InodeRecord) -> Vec<(Block, Box<Bytes>)> {
    let mut found = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut pending = vec![(root_of(record), record.height)];
    while let Some((block, height)) = pending.pop() {
        if height == 0 || block == Block::NONE || !seen.insert(block.0) {
            continue;
        }
        let Ok(bytes) = reader.block(block) else {
            continue;
        };
        if height > 1 {
            for child in children(&bytes).into_iter().rev() {
                pending.push((child.1, height - 1));
            }
        }
        found.push((block, bytes));
    }
    found
}

/// Keys and children of an index node.
pub fn children(bytes: &Bytes) -> Vec<(u64, Block)> {
    let count = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
    let word = |bytes: &[u8]| {
        bytes
            .first_chunk::<8>()
            .map_or(0, |word| u64::from_le_bytes(*word))
    };
    let entries = bytes[64..].chunks_exact(16).take(count);
    entries
        .map(|entry| (word(entry), Block(word(&entry[8..]))))
        .collect()
}
