// SPDX-License-Identifier: GPL-2.0

//! A tree of files as people have them.
//!
//! Directories of about forty names, a few with thousands, eight levels deep; most files of some blocks in one piece, some in
//! several, some preallocated by the gigabyte, a few in thousands of fragments; symbolic links of which a tenth needs a block.
//! The first level has as many directories as asked for: they take turns through the groups, so that many spread the tree
//! over a large device.

use ochre::engine::error::Result;
use ochre::engine::filesystem::{Filesystem, Inode, MountOptions, NewInode, PublishArgs, Times};
use ochre::engine::media::Media;
use ochre::engine::mkfs::{mkfs, MkfsOptions};
use ochre::engine::types::{FileBlock, Timestamp, BLOCK_SIZE};
use ochre_sim::seed::Random;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Inodes, directories included.
    pub inodes: u64,
    /// Directories in the root.
    pub top: u64,
    /// Files that are unlinked while open, so that they stay on the orphan table.
    pub orphans: u64,
    /// For the random numbers.
    pub seed: u64,
}

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Directories.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Files in more than one piece.
    pub fragmented: u64,
    /// Files that were preallocated.
    pub preallocated: u64,
}

/// Makes an empty filesystem on all of `media`.
///
/// # Errors
///
/// Those of mkfs.
pub fn format<M: Media>(media: &M, seed: u64) -> Result {
    let mut random = Random::new(seed);
    let mut label = [0; 32];
    label[..5].copy_from_slice(b"scale");
    let options = MkfsOptions {
        size: media.size(),
        phase: 0,
        uuid: u128::from(random.next()).to_le_bytes(),
        label,
        secret: [random.next(), random.next()],
        hash_key: [random.next(), random.next()],
        lanes: None,
        time: Timestamp(1_700_000_000_000_000_000),
        owner: (0, 0),
    };
    mkfs(media, &options, |_, _| {}).map(|_| ())
}

/// Mounts for writing.
///
/// # Errors
///
/// Those of the mount.
pub fn mount<M: Media>(media: M) -> Result<Filesystem<M>> {
    Filesystem::mount(media, &MountOptions { read_only: false })
}

const WORDS: [&str; 40] = [
    "report", "main", "index", "image", "notes", "config", "lib", "test", "draft", "final",
    "backup", "photo", "Untitled", "module", "data", "cache", "session", "invoice", "README",
    "util", "server", "client", "old", "new", "copy", "2019", "2023", "holiday", "song", "video",
    "Makefile", "core", "thesis", "chapter", "figure", "table", "budget", "letter", "archive", "x",
];
const ENDINGS: [&str; 16] = [
    ".txt", ".rs", ".c", ".h", ".o", ".jpg", ".png", ".pdf", ".html", ".json", ".mp4", ".log",
    ".tar.gz", ".py", "", ".md",
];

struct Writer<'a, M: Media> {
    fs: &'a Filesystem<M>,
    random: Random,
    made: Made,
    now: i64,
    serial: u64,
}

impl<M: Media> Writer<'_, M> {
    fn name(&mut self, file: bool) -> String {
        self.serial += 1;
        let word = |random: &mut Random| WORDS[random.below(40) as usize];
        let mut name = word(&mut self.random).to_owned();
        for _ in 0..self.random.below(3) {
            name.push(['-', '_', ' '][self.random.below(3) as usize]);
            name.push_str(word(&mut self.random));
        }
        // A serial number in base 36 makes it unique.
        name.push('-');
        let mut rest = self.serial;
        while rest != 0 {
            name.push(char::from_digit((rest % 36) as u32, 36).unwrap_or('0'));
            rest /= 36;
        }
        if file {
            name.push_str(ENDINGS[self.random.below(16) as usize]);
        }
        name
    }

    fn new_inode<'b>(&mut self, mode: u16, symlink: Option<&'b [u8]>) -> NewInode<'b> {
        self.now += 1_000_000;
        NewInode {
            uid: 1000,
            gid: 1000,
            symlink,
            ..NewInode::new(mode, Timestamp(self.now))
        }
    }

    fn directory(&mut self, parent: &Inode) -> Result<Inode> {
        let name = self.name(false);
        let new = self.new_inode(0o040755, None);
        self.made.directories += 1;
        self.fs.create(parent, name.as_bytes(), &new)
    }

    fn link(&mut self, parent: &Inode) -> Result {
        let len = match self.random.below(10) {
            0 => 200 + self.random.below(3000),
            _ => 5 + self.random.below(80),
        };
        let target: Vec<u8> = b"../some/where/else-"
            .iter()
            .copied()
            .cycle()
            .take(len as usize)
            .collect();
        let name = self.name(true);
        let new = self.new_inode(0o120777, Some(&target));
        self.fs.create(parent, name.as_bytes(), &new)?;
        self.made.symlinks += 1;
        Ok(())
    }

    /// Gives the file blocks as a write would; the bytes do not matter.
    fn write(&mut self, inode: &Inode, start: u64, blocks: u64) -> Result {
        let (mut at, end) = (start, start + blocks);
        while at < end {
            let reservation =
                self.fs
                    .reserve_write(inode, FileBlock(at), end - at, end * BLOCK_SIZE)?;
            let len = reservation.len;
            at += len;
            let args = PublishArgs {
                new_size: Some(at * BLOCK_SIZE - self.random.below(BLOCK_SIZE)),
                times: Times::default(),
            };
            self.fs.publish(inode, reservation, len, &args)?;
        }
        Ok(())
    }

    fn file(&mut self, parent: &Inode) -> Result {
        let name = self.name(true);
        let new = self.new_inode(0o100644, None);
        let inode = self.fs.create(parent, name.as_bytes(), &new)?;
        self.made.files += 1;
        match self.random.below(10_000) {
            0..=999 => {}
            // A large preallocated one.
            1000..=1002 => {
                let blocks = 1 << (12 + self.random.below(6));
                self.fs
                    .preallocate(&inode, FileBlock(0), blocks, None, &Times::default())?;
                self.made.preallocated += 1;
            }
            // Written here and there: hundreds to thousands of pieces.
            1003..=1005 => {
                for piece in 0..100 + self.random.below(2000) {
                    self.write(&inode, piece * 2, 1)?;
                }
                self.made.fragmented += 1;
            }
            1006..=1799 => {
                for piece in 0..2 + self.random.below(6) {
                    let blocks = 1 + self.random.below(8);
                    self.write(&inode, piece * 20, blocks)?;
                }
                self.made.fragmented += 1;
            }
            _ => {
                let blocks = 1 + self.random.below(12);
                self.write(&inode, 0, blocks)?;
            }
        }
        self.fs.evict(&inode)
    }

    /// Fills one directory; returns the directories in it.
    fn fill(&mut self, directory: &Inode, depth: u64, left: &mut u64) -> Result<Vec<Inode>> {
        let mut inside = Vec::new();
        let names = match self.random.below(400) {
            0 => 4000,
            1..=3 => 800,
            _ => 8 + self.random.below(56),
        };
        for _ in 0..names {
            if *left == 0 {
                break;
            }
            *left -= 1;
            match self.random.below(100) {
                0..=5 if depth < 8 => inside.push(self.directory(directory)?),
                6..=7 => self.link(directory)?,
                _ => self.file(directory)?,
            }
        }
        Ok(inside)
    }

    fn orphan(&mut self, root: &Inode) -> Result {
        let name = self.name(true);
        let new = self.new_inode(0o100600, None);
        let inode = self.fs.create(root, name.as_bytes(), &new)?;
        self.write(&inode, 0, 1)?;
        self.fs
            .unlink(root, name.as_bytes(), &inode, Timestamp(self.now))
    }
}

/// Fills a mounted filesystem.
///
/// # Errors
///
/// Those of the filesystem: no space, most likely.
pub fn populate<M: Media>(fs: &Filesystem<M>, plan: &Plan) -> Result<Made> {
    let root = fs.iget(fs.root())?;
    let mut writer = Writer {
        fs,
        random: Random::new(plan.seed),
        made: Made::default(),
        now: 1_700_000_000_000_000_000,
        serial: 0,
    };
    let mut left = plan.inodes;
    let mut top = Vec::new();
    for _ in 0..plan.top.min(left) {
        top.push(writer.directory(&root)?);
        left -= 1;
    }
    // Level by level, each directory once; when all are full before enough files are made, the first level gets more.
    let mut level: Vec<(Inode, u64)> = Vec::new();
    while left != 0 {
        if level.is_empty() {
            for directory in &top {
                let inside = writer.fill(directory, 1, &mut left)?;
                level.extend(inside.into_iter().map(|inode| (inode, 2)));
            }
            if top.is_empty() {
                let inside = writer.fill(&root, 0, &mut left)?;
                level.extend(inside.into_iter().map(|inode| (inode, 1)));
            }
        }
        let mut next = Vec::new();
        for (directory, depth) in level {
            let inside = writer.fill(&directory, depth, &mut left)?;
            next.extend(inside.into_iter().map(|inode| (inode, depth + 1)));
        }
        level = next;
    }
    for _ in 0..plan.orphans {
        writer.orphan(&root)?;
    }
    Ok(writer.made)
}
