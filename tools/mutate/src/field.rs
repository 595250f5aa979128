// SPDX-License-Identifier: GPL-2.0

//! Fields of structures, and values that are worth putting into them.

use crate::image::{word_at, Image, Kind, Structure};
use ochre::engine::format::journal::Head;
use ochre::engine::types::Block;
use ochre_sim::seed::Random;

/// What a number means, and so which values are interesting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Any number.
    Number,
    /// The number of a block.
    Block,
    /// The number of an inode.
    Inode,
    /// How many of something there are.
    Count,
    /// A byte address divided by 8.
    Address,
}

/// Some bits of a little-endian word.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name, with the entry that it is of.
    pub name: String,
    /// The first byte within the structure.
    pub offset: usize,
    /// Bytes: 1, 2, 4 or 8.
    pub width: usize,
    /// The lowest bit.
    pub shift: u32,
    /// Bits.
    pub bits: u32,
    /// What it means.
    pub hint: Hint,
}

impl Field {
    fn new(name: impl Into<String>, offset: usize, width: usize, hint: Hint) -> Self {
        Self {
            name: name.into(),
            offset,
            width,
            shift: 0,
            bits: width as u32 * 8,
            hint,
        }
    }

    fn part(name: impl Into<String>, offset: usize, shift: u32, bits: u32, hint: Hint) -> Self {
        Self {
            shift,
            bits,
            ..Self::new(name, offset, 8, hint)
        }
    }

    fn mask(&self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// The value in a structure's bytes.
    pub fn get(&self, bytes: &[u8]) -> u64 {
        let mut word = [0; 8];
        if let Some(from) = bytes.get(self.offset..self.offset + self.width) {
            word[..self.width].copy_from_slice(from);
        }
        u64::from_le_bytes(word) >> self.shift & self.mask()
    }

    /// Puts a value there; its low bits count.
    pub fn put(&self, bytes: &mut [u8], value: u64) {
        let Some(place) = bytes.get_mut(self.offset..self.offset + self.width) else {
            return;
        };
        let mut word = [0; 8];
        word[..self.width].copy_from_slice(place);
        let mask = self.mask() << self.shift;
        let new = u64::from_le_bytes(word) & !mask | (value << self.shift & mask);
        place.copy_from_slice(&new.to_le_bytes()[..self.width]);
    }
}

const SUPERBLOCK: &[(&str, usize, usize, Hint)] = &[
    ("magic", 0, 8, Hint::Number),
    ("version", 16, 4, Hint::Number),
    ("block size", 20, 4, Hint::Number),
    ("compatible features", 24, 8, Hint::Number),
    ("read-only features", 32, 8, Hint::Number),
    ("incompatible features", 40, 8, Hint::Number),
    ("uuid", 48, 8, Hint::Number),
    ("label", 64, 8, Hint::Number),
    ("blocks", 96, 8, Hint::Block),
    ("phase", 104, 8, Hint::Number),
    ("journal", 112, 8, Hint::Block),
    ("lanes", 120, 4, Hint::Count),
    ("segment blocks", 124, 4, Hint::Count),
    ("lane segments", 128, 4, Hint::Count),
    ("orphan slots", 132, 4, Hint::Count),
    ("orphan table", 136, 8, Hint::Block),
    ("first group", 144, 8, Hint::Block),
    ("group blocks", 152, 4, Hint::Count),
    ("groups", 156, 4, Hint::Count),
    ("root", 160, 8, Hint::Inode),
    ("secret", 176, 8, Hint::Number),
    ("hash key", 192, 8, Hint::Number),
    ("state", 448, 8, Hint::Number),
];

const INODE: &[(&str, usize, usize, Hint)] = &[
    ("magic", 0, 4, Hint::Number),
    ("mode", 4, 2, Hint::Number),
    ("root", 6, 1, Hint::Count),
    ("count", 7, 1, Hint::Count),
    ("ino", 16, 8, Hint::Inode),
    ("generation", 24, 4, Hint::Number),
    ("nlink", 28, 4, Hint::Count),
    ("flags", 44, 4, Hint::Number),
    ("size", 48, 8, Hint::Number),
    ("size", 48, 8, Hint::Count),
    ("blocks", 56, 8, Hint::Count),
    ("parent", 72, 8, Hint::Inode),
    ("rdev", 80, 8, Hint::Number),
    ("xattr block", 88, 8, Hint::Block),
    ("orphan", 96, 4, Hint::Count),
    ("height", 100, 1, Hint::Count),
    ("pending", 101, 1, Hint::Number),
    ("reserved", 104, 8, Hint::Number),
    ("atime", 120, 8, Hint::Number),
    ("mtime", 128, 8, Hint::Number),
    ("inline word 0", 144, 8, Hint::Block),
    ("inline word 1", 152, 8, Hint::Block),
];

const HEADER: &[(&str, usize, usize, Hint)] = &[
    ("magic", 0, 4, Hint::Number),
    ("level", 4, 2, Hint::Count),
    ("count", 6, 2, Hint::Count),
    ("count", 6, 2, Hint::Count),
    ("block", 16, 8, Hint::Block),
    ("owner", 24, 8, Hint::Inode),
    ("uuid", 32, 8, Hint::Number),
    ("generation", 48, 4, Hint::Number),
];

fn listed(list: &[(&str, usize, usize, Hint)], random: &mut Random) -> Field {
    let (name, offset, width, hint) = list[random.below(list.len() as u64) as usize];
    Field::new(name, offset, width, hint)
}

/// One of the fields of a structure whose content is `bytes`.
pub fn choose(kind: Kind, bytes: &[u8], random: &mut Random) -> Field {
    match kind {
        Kind::Superblock | Kind::SuperblockCopy => listed(SUPERBLOCK, random),
        Kind::JournalHeader => listed(
            &[
                ("magic", 0, 4, Hint::Number),
                ("lanes", 4, 4, Hint::Count),
                ("block", 16, 8, Hint::Block),
                ("uuid", 24, 8, Hint::Number),
            ],
            random,
        ),
        Kind::Checkpoint => Field::new("C", 0, 8, Hint::Count),
        Kind::Record => record(bytes, random),
        Kind::OrphanEntry => Field::new("inode", 0, 8, Hint::Inode),
        Kind::GroupHeader => listed(
            &[
                ("magic", 0, 4, Hint::Number),
                ("number", 4, 4, Hint::Count),
                ("block", 16, 8, Hint::Block),
                ("blocks", 24, 8, Hint::Count),
                ("uuid", 32, 8, Hint::Number),
            ],
            random,
        ),
        Kind::GroupCounts => listed(
            &[
                ("free blocks", 0, 8, Hint::Count),
                ("used inodes", 8, 8, Hint::Count),
                ("chunks", 16, 8, Hint::Count),
                ("chunks", 16, 8, Hint::Count),
            ],
            random,
        ),
        Kind::Bitmap => {
            // A word that says something, most of the time.
            let words = bytes.len() as u64 / 8;
            let mut word = random.below(words) as usize;
            for _ in 0..4 {
                if word_at(bytes, word * 8) != 0 && word >= 8 {
                    break;
                }
                word = random.below(words.min(64)) as usize;
            }
            Field::new(format!("word {word}"), word * 8, 8, Hint::Number)
        }
        Kind::ChunkEntry => listed(
            &[("start", 0, 4, Hint::Count), ("mask", 8, 8, Hint::Number)],
            random,
        ),
        Kind::Inode => inode(bytes, random),
        Kind::ExtentIndex | Kind::DirectoryIndex => index(bytes, random),
        Kind::ExtentLeaf => {
            if random.below(4) == 0 {
                return listed(HEADER, random);
            }
            let entry = random.below(live(bytes)) as usize;
            extent(entry, 64 + entry * 16, random)
        }
        Kind::DirectoryLeaf => directory_leaf(bytes, random),
        Kind::Symlink => {
            if random.below(3) > 0 {
                return listed(HEADER, random);
            }
            let at = 64 + random.below(live(bytes).min(4032)) as usize;
            Field::new(format!("byte {at}"), at, 1, Hint::Number)
        }
        Kind::Data => {
            let at = random.below(bytes.len() as u64 / 8) as usize * 8;
            Field::new(format!("byte {at}"), at, 8, Hint::Number)
        }
    }
}

/// The header's count, at least 1.
fn live(bytes: &[u8]) -> u64 {
    (word_at(bytes, 0) >> 48).clamp(1, 252)
}

fn inode(bytes: &[u8], random: &mut Random) -> Field {
    let (root, count) = (bytes.get(6).copied(), bytes.get(7).copied().unwrap_or(0));
    if root == Some(0) && count > 0 && random.below(2) == 0 {
        let entry = random.below(u64::from(count.min(7))) as usize;
        return extent(entry, 144 + entry * 16, random);
    }
    listed(INODE, random)
}

fn extent(entry: usize, at: usize, random: &mut Random) -> Field {
    match random.below(5) {
        0 => Field::part(
            format!("extent {entry}: file block"),
            at,
            20,
            44,
            Hint::Count,
        ),
        1 => Field::part(format!("extent {entry}: length"), at, 0, 20, Hint::Count),
        2 => Field::part(
            format!("extent {entry}: unwritten"),
            at + 8,
            0,
            1,
            Hint::Number,
        ),
        _ => Field::part(format!("extent {entry}: block"), at + 8, 1, 63, Hint::Block),
    }
}

fn index(bytes: &[u8], random: &mut Random) -> Field {
    if random.below(4) == 0 {
        return listed(HEADER, random);
    }
    let entry = random.below(live(bytes)) as usize;
    let at = 64 + entry * 16;
    if random.below(2) == 0 {
        Field::new(format!("entry {entry}: key"), at, 8, Hint::Count)
    } else {
        Field::new(format!("entry {entry}: child"), at + 8, 8, Hint::Block)
    }
}

/// The slots in use of a directory leaf and the offsets of their entries.
pub fn slots(bytes: &[u8]) -> Vec<(usize, usize)> {
    (0..128)
        .filter(|slot| word_at(bytes, 64 + slot / 64 * 8) >> (slot % 64) & 1 == 1)
        .map(|slot| {
            (
                slot,
                (word_at(bytes, 208 + slot / 4 * 8) >> (slot % 4 * 16) & 0xffff) as usize,
            )
        })
        .filter(|(_, offset)| *offset + 24 <= bytes.len())
        .collect()
}

fn directory_leaf(bytes: &[u8], random: &mut Random) -> Field {
    let slots = slots(bytes);
    if slots.is_empty() || random.below(4) == 0 {
        return match random.below(3) {
            0 => Field::new("heap start", 56, 2, Hint::Count),
            1 => Field::new("dead bytes", 58, 2, Hint::Count),
            _ => listed(HEADER, random),
        };
    }
    let (slot, at) = slots[random.below(slots.len() as u64) as usize];
    let name = |what: &str| format!("slot {slot}: {what}");
    match random.below(9) {
        0 => {
            let word = random.below(2) as usize;
            Field::new(
                format!("bitmap word {word}"),
                64 + word * 8,
                8,
                Hint::Number,
            )
        }
        1 => Field::new(name("fingerprint"), 80 + slot, 1, Hint::Number),
        2 => Field::new(name("offset"), 208 + slot * 2, 2, Hint::Count),
        3 => Field::new(name("key"), at, 8, Hint::Count),
        4 => Field::new(name("length of the name"), at + 16, 1, Hint::Count),
        5 => Field::new(name("kind"), at + 17, 1, Hint::Count),
        6 => Field::new(name("name"), at + 18, 1, Hint::Number),
        _ => Field::new(name("inode"), at + 8, 8, Hint::Inode),
    }
}

/// A record's header or the head of one of its entries.
fn record(bytes: &[u8], random: &mut Random) -> Field {
    if random.below(5) == 0 {
        return listed(
            &[
                ("magic", 0, 4, Hint::Number),
                ("words", 4, 4, Hint::Count),
                ("number", 8, 8, Hint::Count),
                ("flags", 24, 8, Hint::Number),
            ],
            random,
        );
    }
    let mut heads = Vec::new();
    let mut at = 32;
    while at + 8 <= bytes.len() {
        heads.push(at);
        at += 8 + Head::unpack(word_at(bytes, at)).content_words() * 8;
    }
    let number = random.below(heads.len().max(1) as u64) as usize;
    let at = heads.get(number).copied().unwrap_or(32);
    let name = |what: &str| format!("entry {number}: {what}");
    match random.below(5) {
        0 => Field::part(name("kind"), at, 0, 4, Hint::Count),
        1 => Field::part(name("length"), at, 4, 10, Hint::Count),
        2 | 3 => Field::part(name("address"), at, 14, 45, Hint::Address),
        _ => Field::new(
            name("first word"),
            (at + 8).min(bytes.len() - 8),
            8,
            Hint::Number,
        ),
    }
}

/// A value for `field` of `structure` that is not the old one, as far as its bits allow.
pub fn value(
    image: &Image,
    structure: &Structure,
    field: &Field,
    old: u64,
    random: &mut Random,
) -> u64 {
    for _ in 0..8 {
        let new = candidate(image, structure, field.hint, old, field.bits, random) & field.mask();
        if new != old {
            return new;
        }
    }
    old ^ 1
}

fn candidate(
    image: &Image,
    structure: &Structure,
    hint: Hint,
    old: u64,
    bits: u32,
    random: &mut Random,
) -> u64 {
    let max = u64::MAX >> (64 - bits);
    if random.below(10) < 6 {
        match hint {
            Hint::Block => return block(image, structure, random),
            Hint::Inode => return inode_number(image, structure, random),
            Hint::Address => {
                let block = block(image, structure, random) << 9;
                return block.wrapping_add(random.below(512));
            }
            Hint::Count | Hint::Number => {}
        }
    }
    const LIMITS: [u64; 22] = [
        1, 2, 3, 4, 6, 7, 8, 9, 16, 64, 127, 128, 129, 252, 253, 255, 256, 464, 512, 4088, 4096,
        4097,
    ];
    match random.below(12) {
        0 => 0,
        1 => max,
        2 => max >> 1,
        3 => (max >> 1) + 1,
        4 => old.wrapping_add(1),
        5 => old.wrapping_sub(1),
        6 | 7 => old ^ 1 << random.below(u64::from(bits)),
        8 => old.wrapping_mul(2),
        9 | 10 => LIMITS[random.below(LIMITS.len() as u64) as usize],
        _ => random.next(),
    }
}

/// A block that has no business here.
pub fn block(image: &Image, structure: &Structure, random: &mut Random) -> u64 {
    let g = &image.info.geometry;
    let own = Block::of(structure.address).0;
    let last = g.ag_count - 1;
    match random.below(16) {
        0 => own,
        1 => structure.parent.0,
        2..=5 => {
            let other = &image.structures[random.below(image.structures.len() as u64) as usize];
            Block::of(other.address).0
        }
        6 => g.journal.0 + random.below(8),
        7 => g.orphans.0,
        8 => g.ag_start.0 + random.below(300),
        9 => g.ag_base(last).0 + g.ag_blocks(last) - random.below(3),
        10 => g.blocks - 1 + random.below(3),
        11 => 0,
        12 => g.ag_base(last).0 + 511 + random.below(3),
        13 => 1 << (20 + random.below(44)),
        14 => own ^ 1 << random.below(12),
        _ => g.ag_start.0 + 512 + random.below(g.ag_blocks(0).saturating_sub(512).max(1)),
    }
}

/// An inode number that has no business here.
fn inode_number(image: &Image, structure: &Structure, random: &mut Random) -> u64 {
    match random.below(8) {
        0 => 0,
        1 => 1,
        2 => structure.owner.0,
        3 => u64::from(image.info.geometry.ag_count) << 22,
        4 => structure.owner.0 ^ 1 << random.below(24),
        _ => {
            let n = random.below(image.inodes.len().max(1) as u64) as usize;
            image.inodes.keys().nth(n).copied().unwrap_or(2)
        }
    }
}
