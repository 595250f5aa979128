// SPDX-License-Identifier: GPL-2.0

//! What lies at an address, in words.

use ochre::engine::format::ag::{BITMAP_BLOCK, CHUNK_MAP_BLOCK, METADATA_BLOCKS};
use ochre::engine::types::{Block, Ino, BLOCK_SIZE};

use crate::chunks::Chunks;
use crate::reader::Reader;

/// Fields of an inode record, by where they start.
const FIELDS: [(u64, &str); 25] = [
    (0, "magic"),
    (4, "mode"),
    (6, "root"),
    (8, "checksum"),
    (16, "number"),
    (24, "generation"),
    (28, "links"),
    (32, "owner"),
    (36, "group"),
    (40, "project"),
    (44, "flags"),
    (48, "size"),
    (56, "blocks"),
    (64, "creation time"),
    (72, "parent"),
    (80, "device"),
    (88, "attributes"),
    (96, "orphan slot"),
    (100, "height"),
    (104, "reserved"),
    (120, "access time"),
    (128, "modification time"),
    (136, "change time"),
    (144, "inline area"),
    (256, ""),
];

/// Knows which blocks hold inode records.
pub struct Places<'a> {
    reader: &'a Reader<'a>,
    chunks: Chunks,
}

impl<'a> Places<'a> {
    /// Reads the chunk maps.
    pub fn new(reader: &'a Reader<'a>) -> Result<Self, String> {
        Ok(Self {
            reader,
            chunks: Chunks::read(reader)?,
        })
    }

    /// The region of the device that a block is in.
    pub fn region(&self, number: u64) -> &'static str {
        match region(self.reader, number) {
            "data" if self.chunks.of(number).is_some() => "inode records",
            other => other,
        }
    }

    /// What `len` bytes from `address` are.
    pub fn bytes(&self, address: u64, len: u64) -> String {
        let g = &self.reader.info.geometry;
        let number = address / BLOCK_SIZE;
        let within = address % BLOCK_SIZE;
        if let Some((first, _)) = self.chunks.of(number) {
            let ino = Ino(first.0 + within / 256);
            return format!("inode {ino}: {}", fields(within % 256, len));
        }
        let region = self.region(number);
        match region {
            "orphan table" => format!(
                "orphan table, entry {}",
                (address - g.orphans.address()) / 8
            ),
            "group header" => {
                let ag = g.locate(Block(number)).map_or(0, |(ag, _)| ag);
                let field = match within {
                    64 => "free blocks",
                    72 => "used inodes",
                    80 => "number of chunks",
                    _ => "header",
                };
                format!("group {ag}: {field}")
            }
            "inode chunk map" => {
                let (ag, relative) = g.locate(Block(number)).unwrap_or_default();
                let entry = (relative - CHUNK_MAP_BLOCK) * 256 + within / 16;
                format!("group {ag}: chunk map, entry {entry}")
            }
            "data" => format!("block {number}, byte {within}"),
            other => format!("{other}, block {number}, byte {within}"),
        }
    }

    /// The first of the blocks that bits of a bitmap from `address` and `bit` stand for.
    pub fn bits(&self, address: u64, bit: usize) -> Option<Block> {
        let g = &self.reader.info.geometry;
        let (ag, relative) = g.locate(Block::of(address))?;
        let word = relative
            .checked_sub(BITMAP_BLOCK)
            .filter(|block| *block < 8)?
            * 512
            + address % BLOCK_SIZE / 8;
        Some(g.ag_base(ag).plus(word * 64 + bit as u64))
    }

    /// The inode that a bit of the chunk mask at `address` stands for.
    pub fn inode_bit(&self, address: u64, bit: usize) -> Option<Ino> {
        let g = &self.reader.info.geometry;
        let (ag, relative) = g.locate(Block::of(address))?;
        let block = relative
            .checked_sub(CHUNK_MAP_BLOCK)
            .filter(|block| *block < 256)?;
        let chunk = block * 256 + address % BLOCK_SIZE / 16;
        Some(Ino::from_parts(
            ag,
            u32::try_from(chunk).ok()?,
            u32::try_from(bit).ok()?,
        ))
    }
}

/// The names of the fields that `len` bytes from `at` touch.
fn fields(at: u64, len: u64) -> String {
    if len >= 256 {
        return "the whole record".to_owned();
    }
    let touched = FIELDS
        .windows(2)
        .filter(|pair| pair[0].0 < at + len && pair[1].0 > at)
        .map(|pair| pair[0].1);
    let touched: Vec<&str> = touched.collect();
    touched.join(", ")
}

/// The region of the device that a block is in, by its number alone.
fn region(reader: &Reader<'_>, number: u64) -> &'static str {
    let geometry = &reader.info.geometry;
    if number == 0 {
        return "superblock";
    }
    if number == geometry.blocks - 1 {
        return "copy of the superblock";
    }
    if number == geometry.journal.0 {
        return "journal header";
    }
    if number < geometry.orphans.0 {
        return "journal";
    }
    if number < geometry.orphans.0 + (u64::from(geometry.orphan_slots) * 8).div_ceil(BLOCK_SIZE) {
        return "orphan table";
    }
    if number < geometry.ag_start.0 {
        return "unused, before the first group";
    }
    match geometry.locate(Block(number)) {
        None => "unused end",
        Some((_, 0)) => "group header",
        Some((_, relative)) if relative < BITMAP_BLOCK + 8 => "block bitmap",
        Some((_, relative)) if relative < CHUNK_MAP_BLOCK => "reserved for the group",
        Some((_, relative)) if relative < CHUNK_MAP_BLOCK + 256 => "inode chunk map",
        Some((_, relative)) if relative < METADATA_BLOCKS => "reserved for the group",
        Some(_) => "data",
    }
}
