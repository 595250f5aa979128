// SPDX-License-Identifier: GPL-2.0

//! What a power cut left: the image is recovered by the engine, read as a whole, checked, and compared with the model.

use crate::model::{Id, Kind, Model};
use ochre::engine::error::Error;
use ochre::engine::filesystem::{DirectoryEntry, Filesystem, Inode, MappingState, MountOptions};
use ochre::engine::fsck;
use ochre::engine::media::Media;
use ochre::engine::types::{FileBlock, Ino};
use std::collections::BTreeMap;

/// What an inode holds.
pub enum Content {
    /// Bytes of a regular file.
    File(Vec<u8>),
    /// Names of a directory.
    Directory(BTreeMap<String, Ino>),
    /// A symbolic link's target.
    Symlink(String),
}

/// An inode.
pub struct Found {
    /// What it holds.
    pub content: Content,
    /// Link count.
    pub links: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
}

/// All that can be reached from the root.
pub struct Tree {
    root: Ino,
    inodes: BTreeMap<Ino, Found>,
}

const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

/// Recovers, reads, unmounts and checks.
pub fn recover<M: Media>(media: M) -> Result<Tree, String> {
    let said = |what: &'static str| move |error: Error| format!("{what}: {error:?}");
    let fs = Filesystem::mount(media, &MountOptions::default()).map_err(said("mount"))?;
    fs.finish_orphans().map_err(said("orphans"))?;
    let tree = Tree::read(&fs)?;
    fs.unmount().map_err(said("unmount"))?;
    check(fs.media())?;
    Ok(tree)
}

/// The full check finds nothing.
fn check<M: Media>(media: &M) -> Result<(), String> {
    struct First(Option<String>, usize);
    impl fsck::Observer for First {
        fn issue(&mut self, issue: &fsck::Issue) {
            self.1 += 1;
            self.0.get_or_insert_with(|| format!("{issue:?}"));
        }
    }
    let mut first = First(None, 0);
    let options = fsck::Options { unmounted: true };
    fsck::check(media, options, &mut first).map_err(|e| format!("check: {e:?}"))?;
    match first.0 {
        Some(issue) => Err(format!(
            "the check finds {} errors; the first: {issue}",
            first.1
        )),
        None => Ok(()),
    }
}

impl Tree {
    fn read<M: Media>(fs: &Filesystem<M>) -> Result<Self, String> {
        let mut inodes = BTreeMap::new();
        let mut todo = vec![fs.root()];
        while let Some(ino) = todo.pop() {
            if inodes.contains_key(&ino) {
                continue;
            }
            let said = |error: Error| format!("inode {ino}: {error:?}");
            let inode = fs.iget(ino).map_err(said)?;
            let attributes = inode.attributes();
            let mode = u32::from(attributes.mode);
            let content = match mode & 0o170_000 {
                DIRECTORY => {
                    let names = list(fs, &inode).map_err(said)?;
                    todo.extend(names.values());
                    Content::Directory(names)
                }
                SYMLINK => {
                    let mut target = ochre::platform::Vec::new();
                    fs.readlink(&inode, &mut target).map_err(said)?;
                    Content::Symlink(String::from_utf8_lossy(&target).into_owned())
                }
                _ => Content::File(bytes(fs, &inode).map_err(said)?),
            };
            let found = Found {
                content,
                links: attributes.nlink,
                mode: mode & 0o7777,
                uid: attributes.uid,
            };
            inodes.insert(ino, found);
        }
        Ok(Self {
            root: fs.root(),
            inodes,
        })
    }

    /// Which inode each node of the model is, following names; those that are not there are left out.
    fn pairs(&self, model: &Model) -> BTreeMap<Id, Ino> {
        let mut pairs = BTreeMap::from([(0, self.root)]);
        let mut todo = vec![(0, self.root)];
        while let Some((id, ino)) = todo.pop() {
            if let (Kind::Directory(names), Content::Directory(found)) =
                (&model.node(id).kind, &self.inodes[&ino].content)
            {
                for (name, id) in names {
                    if let Some(&ino) = found.get(name) {
                        if pairs.insert(*id, ino).is_none() {
                            todo.push((*id, ino));
                        }
                    }
                }
            }
        }
        pairs
    }

    /// The size of a file of the model, if it is here.
    pub fn size(&self, model: &Model, id: Id) -> Option<u64> {
        let ino = *self.pairs(model).get(&id)?;
        match &self.inodes.get(&ino)?.content {
            Content::File(bytes) => Some(bytes.len() as u64),
            _ => None,
        }
    }

    /// Whether this is what the model says; else says where it is not.
    pub fn equals(&self, model: &Model) -> Result<(), String> {
        let mut pairs: BTreeMap<Id, Ino> = BTreeMap::new();
        let mut owners: BTreeMap<Ino, Id> = BTreeMap::new();
        let mut todo = vec![(String::from("/"), 0, self.root)];
        while let Some((path, id, ino)) = todo.pop() {
            let known = (pairs.insert(id, ino), owners.insert(ino, id));
            match known {
                (None, None) => {}
                (Some(i), Some(n)) if i == ino && n == id => continue,
                _ => return Err(format!("{path} is another name of a wrong file")),
            }
            let (node, found) = (model.node(id), &self.inodes[&ino]);
            let compare = |what: &str, is: u32, should: u32| {
                if is == should {
                    return Ok(());
                }
                Err(format!("{path} has {what} {is:o} (octal), not {should:o}"))
            };
            compare("link count", found.links, node.links)?;
            compare("mode", found.mode, node.mode)?;
            compare("owner", found.uid, node.uid)?;
            match (&node.kind, &found.content) {
                (Kind::File(file), Content::File(bytes)) => {
                    file.allows(bytes)
                        .map_err(|e| format!("{path} (inode {ino}): {e}"))?;
                }
                (Kind::Symlink(target), Content::Symlink(is)) if target == is => {}
                (Kind::Directory(names), Content::Directory(is)) => {
                    if !names.keys().eq(is.keys()) {
                        return Err(format!("{path} {}", difference(names, is)));
                    }
                    todo.extend(names.iter().zip(is.values()).map(|((name, id), ino)| {
                        (format!("{}/{name}", path.trim_end_matches('/')), *id, *ino)
                    }));
                }
                _ => return Err(format!("{path} is something else")),
            }
        }
        Ok(())
    }

    /// One line for each name: path, type, mode, links, owner, size or target, and the CRC-32 of a file's bytes.
    pub fn manifest(&self) -> String {
        let mut lines = Vec::new();
        let mut todo = vec![(String::from("."), self.root)];
        while let Some((path, ino)) = todo.pop() {
            let found = &self.inodes[&ino];
            let (kind, rest) = match &found.content {
                Content::Directory(names) => {
                    todo.extend(
                        names
                            .iter()
                            .map(|(name, ino)| (format!("{path}/{name}"), *ino)),
                    );
                    ('d', String::new())
                }
                Content::Symlink(target) => ('l', format!(" {target}")),
                Content::File(bytes) => ('f', format!(" {} {}", bytes.len(), crc32(bytes))),
            };
            lines.push(format!(
                "{path} {kind} {:o} {} {}{rest}\n",
                found.mode, found.links, found.uid
            ));
        }
        lines.sort();
        lines.concat()
    }
}

fn difference(should: &BTreeMap<String, Id>, is: &BTreeMap<String, Ino>) -> String {
    let lacks: Vec<_> = should.keys().filter(|n| !is.contains_key(*n)).collect();
    let extra: Vec<_> = is.keys().filter(|n| !should.contains_key(*n)).collect();
    format!("lacks {lacks:?} and has {extra:?} in excess")
}

/// CRC-32 as zlib and Python have it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ ((crc & 1) * 0xedb8_8320)
        })
    })
}

fn list<M: Media>(fs: &Filesystem<M>, directory: &Inode) -> Result<BTreeMap<String, Ino>, Error> {
    let mut names = BTreeMap::new();
    let mut emit = |entry: &DirectoryEntry<'_>| {
        names.insert(String::from_utf8_lossy(entry.name).into_owned(), entry.ino);
        true
    };
    fs.readdir(directory, 0, &mut emit)?;
    Ok(names)
}

fn bytes<M: Media>(fs: &Filesystem<M>, inode: &Inode) -> Result<Vec<u8>, Error> {
    let size = inode.attributes().size;
    let mut bytes = vec![0; size as usize];
    let mut at = 0;
    while at < size {
        let start = FileBlock::of(at);
        let mapping = fs.map(inode, start, FileBlock::after(size).0 - start.0)?;
        let stop = start.plus(mapping.len).offset().min(size);
        if let MappingState::Written(block) = mapping.state {
            fs.media()
                .read(block.address(), &mut bytes[at as usize..stop as usize])?;
        }
        at = stop;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksums_are_those_of_zlib() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }
}
