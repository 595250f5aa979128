// SPDX-License-Identifier: GPL-2.0

//! One damage to an image: which structure, what about it, and the bytes that do it.

use crate::field;
use crate::image::{word_at, Image, Kind, Structure};
use crate::shape;
use ochre::engine::checksum::{self, Domain};
use ochre::engine::format::inode::InodeRecord;
use ochre::engine::format::journal::RECORD_HEADER_WORDS;
use ochre::engine::format::superblock::CHECKED;
use ochre::engine::journal::{entries_sum, record_sum, record_word0};
use ochre::engine::media::Media;
use ochre::engine::types::Block;
use ochre::engine::verify::inode_sum;
use ochre_sim::seed::Random;
use std::fmt;
use zerocopy::FromBytes;

/// How a structure is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Fields take interesting values; the checksum is right again.
    Field,
    /// Order, duplicates, overlaps; the checksum is right again.
    Shape,
    /// Another structure's bytes, from here or from another filesystem.
    Copy,
    /// Bits flip, or bytes become noise; no checksum is made again.
    Noise,
}

impl Way {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Field => "field",
            Self::Shape => "shape",
            Self::Copy => "copy",
            Self::Noise => "noise",
        }
    }
}

/// A damage.
#[derive(Clone, Debug)]
pub struct Damage {
    /// What was damaged.
    pub kind: Kind,
    /// How.
    pub way: Way,
    /// Whose it was.
    pub owner: ochre::engine::types::Ino,
    /// One line about it.
    pub text: String,
    /// Address and bytes of each change.
    pub writes: Vec<(u64, Vec<u8>)>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Makes damages.
pub struct Mutator<'a> {
    image: &'a Image,
    /// Blocks of metadata of another filesystem.
    foreign: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    /// For an image; `foreign` are blocks to put where they do not belong.
    pub const fn new(image: &'a Image, foreign: &'a [Vec<u8>]) -> Self {
        Self { image, foreign }
    }

    /// A random damage to the filesystem on `media`, which is not changed.
    pub fn damage<M: Media>(&self, media: &M, random: &mut Random) -> Damage {
        let kinds = self.image.kinds();
        // A bit in a file's data is nobody's business but the file's.
        let kind = loop {
            let kind = kinds[random.below(kinds.len() as u64) as usize];
            if kind != Kind::Data || random.below(8) == 0 {
                break kind;
            }
        };
        self.damage_kind(media, kind, random)
    }

    /// As [`Self::damage`], of a structure of one kind, of which there is one.
    pub fn damage_kind<M: Media>(&self, media: &M, kind: Kind, random: &mut Random) -> Damage {
        let all: Vec<&Structure> = self
            .image
            .structures
            .iter()
            .filter(|s| s.kind == kind)
            .collect();
        let structure = all[random.below(all.len() as u64) as usize];
        let way = match random.below(20) {
            0..=9 => Way::Field,
            10..=14 => Way::Shape,
            15..=17 => Way::Copy,
            _ => Way::Noise,
        };
        self.damage_structure(media, structure, way, random)
    }

    /// Damages one structure in one way; where the way makes no sense for it, a field of it.
    pub fn damage_structure<M: Media>(
        &self,
        media: &M,
        structure: &Structure,
        way: Way,
        random: &mut Random,
    ) -> Damage {
        let mut bytes = vec![0; structure.len];
        // A place outside the medium stays zeros.
        let _ = media.read(structure.address, &mut bytes);
        let old = bytes.clone();
        let mut way = way;
        let text = match way {
            Way::Shape => shape::damage(structure.kind, &mut bytes, random),
            Way::Copy => self.copy(media, structure, &mut bytes, random),
            Way::Noise => Some(noise(&mut bytes, random)),
            Way::Field => None,
        };
        let text = text.unwrap_or_else(|| {
            way = Way::Field;
            self.fields(structure, &mut bytes, random)
        });
        if !matches!(way, Way::Noise | Way::Copy) {
            self.seal(structure, &mut bytes);
        }
        let place = match structure.owner.0 {
            0 => format!("{} {}", structure.kind.name(), structure.index),
            ino => format!("{} of inode {ino}", structure.kind.name()),
        };
        Damage {
            kind: structure.kind,
            way,
            owner: structure.owner,
            text: format!("{place} at byte {:#x}: {text}", structure.address),
            writes: differences(structure.address, &old, &bytes),
        }
    }

    fn fields(&self, structure: &Structure, bytes: &mut [u8], random: &mut Random) -> String {
        let mut said = Vec::new();
        let many = if random.below(3) == 0 { 2 } else { 1 };
        for _ in 0..many {
            let field = field::choose(structure.kind, bytes, random);
            let old = field.get(bytes);
            let new = field::value(self.image, structure, &field, old, random);
            field.put(bytes, new);
            said.push(format!("{} {old:#x} -> {new:#x}", field.name));
        }
        said.join(", ")
    }

    /// Puts another structure of the same length there.
    fn copy<M: Media>(
        &self,
        media: &M,
        structure: &Structure,
        bytes: &mut [u8],
        random: &mut Random,
    ) -> Option<String> {
        if structure.kind.is_node() && !self.foreign.is_empty() && random.below(4) == 0 {
            let n = random.below(self.foreign.len() as u64) as usize;
            bytes.copy_from_slice(self.foreign[n].get(..bytes.len())?);
            return Some(format!("block {n} of another filesystem"));
        }
        let alike: Vec<&Structure> = self
            .image
            .structures
            .iter()
            .filter(|s| s.len == structure.len && s.address != structure.address)
            .collect();
        let from = alike.get(random.below(alike.len().max(1) as u64) as usize)?;
        media.read(from.address, bytes).ok()?;
        let mut text = format!("the {} at byte {:#x}", from.kind.name(), from.address);
        if structure.kind.is_node() || structure.kind == Kind::Inode {
            let adapt = random.below(4);
            if adapt > 0 {
                self.adapt(structure, bytes, adapt > 1);
                text += if adapt > 1 {
                    ", with number and owner made fit"
                } else {
                    ", with the number made fit"
                };
            }
        }
        Some(text)
    }

    /// Makes a copied structure say that it is in its place, and whose it is.
    fn adapt(&self, structure: &Structure, bytes: &mut [u8], owner: bool) {
        if structure.kind == Kind::Inode {
            bytes[16..24].copy_from_slice(&structure.owner.0.to_le_bytes());
        } else {
            bytes[16..24].copy_from_slice(&Block::of(structure.address).0.to_le_bytes());
            if owner {
                bytes[24..32].copy_from_slice(&structure.owner.0.to_le_bytes());
                if let Some(known) = self.image.inodes.get(&structure.owner.0) {
                    let generation = known.record.generation.get();
                    bytes[48..52].copy_from_slice(&generation.to_le_bytes());
                }
            }
        }
        self.seal(structure, bytes);
    }

    /// Makes the checksum of a structure right.
    pub fn seal(&self, structure: &Structure, bytes: &mut [u8]) {
        let keys = &self.image.keys;
        let (at, sum) = match structure.kind {
            Kind::Superblock | Kind::SuperblockCopy => {
                (8, checksum::superblock(bytes.get(..CHECKED).unwrap_or(&[])))
            }
            Kind::JournalHeader => (8, keys.object(Domain::JournalHeader, bytes, 8)),
            Kind::Checkpoint => (
                8,
                keys.checkpoint(structure.index as usize, word_at(bytes, 0)),
            ),
            Kind::Record => (16, self.record_sum(structure, bytes)),
            Kind::GroupHeader => (8, keys.object(Domain::AgHeader, bytes, 8)),
            Kind::ChunkEntry => {
                let start = word_at(bytes, 0) as u32;
                let check = keys.chunk(structure.extra, structure.index, start);
                bytes[4..8].copy_from_slice(&check.to_le_bytes());
                return;
            }
            Kind::Inode => match InodeRecord::read_from_bytes(bytes) {
                Ok(record) => (8, inode_sum(keys, &record)),
                Err(_) => return,
            },
            kind if kind.is_node() => (8, keys.object(Domain::Node, bytes, 8)),
            _ => return,
        };
        bytes[at..at + 8].copy_from_slice(&sum.to_le_bytes());
    }

    fn record_sum(&self, structure: &Structure, bytes: &[u8]) -> u64 {
        let words: Vec<u64> = bytes.chunks_exact(8).map(|b| word_at(b, 0)).collect();
        let said = (word_at(bytes, 0) >> 32) as usize;
        let entries = words.get(RECORD_HEADER_WORDS..).unwrap_or(&[]);
        let entries = entries.get(..said.min(entries.len())).unwrap_or(&[]);
        let sum = entries_sum(&self.image.keys, entries);
        let word0 = if words[0] as u32 == record_word0(0) as u32 {
            record_word0(said)
        } else {
            words[0]
        };
        record_sum(
            &self.image.keys,
            structure.address,
            word0,
            words[1],
            words[3],
            sum,
        )
    }
}

/// Bits that flip, or a stretch of noise.
fn noise(bytes: &mut [u8], random: &mut Random) -> String {
    let at = random.below(bytes.len() as u64) as usize;
    if random.below(2) == 0 {
        let bit = random.below(8);
        bytes[at] ^= 1 << bit;
        return format!("bit {bit} of byte {at} flipped");
    }
    let n = (1 + random.below(64) as usize).min(bytes.len() - at);
    for byte in &mut bytes[at..at + n] {
        *byte = random.next() as u8;
    }
    format!("{n} bytes of noise from byte {at} on")
}

/// The stretches in which two versions of the same bytes differ, in whole words where they can be.
fn differences(address: u64, old: &[u8], new: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut writes: Vec<(u64, Vec<u8>)> = Vec::new();
    for (n, (a, b)) in old.chunks(8).zip(new.chunks(8)).enumerate() {
        if a == b {
            continue;
        }
        let at = address + n as u64 * 8;
        match writes.last_mut() {
            Some((from, bytes)) if *from + bytes.len() as u64 == at => bytes.extend_from_slice(b),
            _ => writes.push((at, b.to_vec())),
        }
    }
    writes
}
