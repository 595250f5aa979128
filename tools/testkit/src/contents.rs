// SPDX-License-Identifier: GPL-2.0

//! What a filesystem shows to its users: every file by its number, with its names and bytes.
//!
//! It looks through the mounted engine, as a user does, and so it also tells whether the engine
//! accepts what is on the medium.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use ochre::engine::error::Error;
use ochre::engine::filesystem::data::MappingState;
use ochre::engine::filesystem::{Filesystem, MountOptions};
use ochre::engine::media::Media;
use ochre::engine::types::{FileBlock, FileKind, Ino, BLOCK_SIZE};

/// A file as its users see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub kind: FileKind,
    pub size: u64,
    /// A sum of its bytes, or of the target of a symbolic link; of a device its number.
    pub bytes: u64,
    /// Its paths, with the inode of the directory that holds the name.
    pub paths: Vec<(Ino, String)>,
}

/// All files that have a name, and the root.
pub fn contents<M: Media>(media: M) -> Result<BTreeMap<u64, Item>, Error> {
    let fs = Filesystem::mount(media, &MountOptions { read_only: true })?;
    let mut items = BTreeMap::new();
    let mut queue = vec![(fs.root(), String::new())];
    while let Some((dir, path)) = queue.pop() {
        let inode = fs.iget(dir)?;
        let mut names = Vec::new();
        fs.readdir(&inode, 0, &mut |entry| {
            names.push((entry.name.to_vec(), entry.ino, entry.kind));
            true
        })?;
        for (name, ino, kind) in names {
            let found = fs.lookup(&inode, &name)?;
            assert_eq!(found, ino, "readdir and lookup");
            let path = format!("{path}/{}", String::from_utf8_lossy(&name));
            let child = fs.iget(ino)?;
            assert_eq!(child.kind(), kind, "{path}");
            if let Some(item) = items.get_mut(&ino.0) {
                let item: &mut Item = item;
                item.paths.push((dir, path));
                continue;
            }
            let attributes = child.attributes();
            let mut hasher = DefaultHasher::new();
            match kind {
                FileKind::Directory => queue.push((ino, path.clone())),
                FileKind::Regular => file(&fs, &child, attributes.size, &mut hasher)?,
                FileKind::Symlink => {
                    let mut target = ochre::platform::Vec::new();
                    fs.readlink(&child, &mut target)?;
                    target.hash(&mut hasher);
                }
                _ => attributes.rdev.hash(&mut hasher),
            }
            let size = match kind {
                FileKind::Directory => 0,
                _ => attributes.size,
            };
            let item = Item {
                kind,
                size,
                bytes: hasher.finish(),
                paths: vec![(dir, path)],
            };
            items.insert(ino.0, item);
        }
    }
    Ok(items)
}

fn file<M: Media>(
    fs: &Filesystem<M>,
    inode: &ochre::engine::filesystem::Inode,
    size: u64,
    hasher: &mut DefaultHasher,
) -> Result<(), Error> {
    let end = FileBlock::after(size);
    let mut at = FileBlock(0);
    let mut bytes = vec![0; 4096];
    while at < end {
        let mapping = fs.map(inode, at, end.0 - at.0)?;
        if let MappingState::Written(block) = mapping.state {
            for number in 0..mapping.len {
                fs.media().read(block.plus(number).address(), &mut bytes)?;
                let left = size - (at.0 + number) * BLOCK_SIZE;
                let used = usize::try_from(left.min(BLOCK_SIZE)).expect("small");
                // Blocks of zeros are as good as holes.
                if bytes[..used].iter().any(|&byte| byte != 0) {
                    (at.0 + number, &bytes[..used]).hash(hasher);
                }
            }
        }
        at = at.plus(mapping.len);
    }
    Ok(())
}
