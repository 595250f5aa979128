// SPDX-License-Identifier: GPL-2.0

//! The engine beside its model, driven as the kernel glue drives it.

use crate::op::Op;
use crate::shift;
use crate::sound::assert_sound;
use crate::tree::{Content, Id, Node, Tree};
use ochre::engine::error::Error;
use ochre::engine::filesystem::{
    DirectoryEntry, Filesystem, Inode, MappingState, MountOptions, NewInode, PublishArgs,
    RenameArgs, SetAttributes, Times, WriteKind,
};
use ochre::engine::media::Media;
use ochre::engine::types::{FileBlock, FileKind, Ino, Timestamp, BLOCK_SIZE};
use ochre_sim::MemoryMedia;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

const IMAGE: u64 = 96 << 20;

/// Both of them, and what is open.
pub struct World<M: Media + Clone> {
    fs: Option<Filesystem<M>>,
    tree: Tree,
    inodes: HashMap<Id, Rc<Inode>>,
    open: Vec<Id>,
    clock: i64,
}

/// A name; a few short ones, one long.
fn name(number: u8) -> Vec<u8> {
    match number % 12 {
        11 => vec![b'x'; 255],
        n => format!("name-{n}").into_bytes(),
    }
}

impl<M: Media + Clone> World<M> {
    /// A fresh filesystem, on a medium made from an image.
    pub fn new(make: impl FnOnce(&MemoryMedia) -> M) -> Self {
        let media = make(&ochre_sim::image::formatted(IMAGE));
        let fs = Filesystem::mount(media, &MountOptions::default()).expect("mount");
        let mut world = Self {
            fs: Some(fs),
            tree: Tree::new(),
            inodes: HashMap::new(),
            open: Vec::new(),
            clock: 1_700_000_000_000_000_000,
        };
        world.get_root();
        world
    }

    fn get_root(&mut self) {
        let root = self.fs().iget(self.fs().root()).expect("root");
        self.inodes.insert(0, Rc::new(root));
    }

    pub fn fs(&self) -> &Filesystem<M> {
        self.fs.as_ref().expect("mounted")
    }

    pub fn inode(&self, id: Id) -> Rc<Inode> {
        Rc::clone(&self.inodes[&id])
    }

    fn now(&mut self) -> Timestamp {
        self.clock += 1_000_001;
        Timestamp(self.clock)
    }

    pub fn times(&mut self) -> Times {
        let now = Some(self.now());
        Times {
            atime: None,
            mtime: now,
            ctime: now,
        }
    }

    fn directory(&mut self, number: u8) -> Id {
        let all = self.tree.all(|c| matches!(c, Content::Directory(..)));
        all[usize::from(number) % all.len()]
    }

    fn file(&mut self, number: u8) -> Option<Id> {
        let mut all = self.tree.all(|c| matches!(c, Content::File(_)));
        all.extend(&self.open);
        all.sort_unstable();
        all.dedup();
        (!all.is_empty()).then(|| all[usize::from(number) % all.len()])
    }

    fn new_inode(&mut self, kind: FileKind) -> NewInode<'static> {
        NewInode {
            uid: 7,
            gid: 8,
            ..NewInode::new(kind.mode_bits() | 0o644, self.now())
        }
    }

    fn create(&mut self, dir: Id, name: &[u8], content: Content) {
        let kind = match content {
            Content::File(_) => FileKind::Regular,
            Content::Directory(..) => FileKind::Directory,
            Content::Symlink(_) => FileKind::Symlink,
        };
        let target = match &content {
            Content::Symlink(target) => Some(target.clone()),
            _ => None,
        };
        let new = self.new_inode(kind);
        let new = NewInode {
            symlink: target.as_deref(),
            ..new
        };
        let made = self.fs().create(&self.inode(dir), name, &new);
        if target.is_some_and(|t| t.len() > 4095) {
            assert_eq!(made.err(), Some(Error::NameTooLong));
            return;
        }
        if self.tree.names(dir).contains_key(name) {
            assert_eq!(made.err(), Some(Error::Exists));
            return;
        }
        let inode = made.expect("create");
        let links = if kind == FileKind::Directory { 2 } else { 1 };
        let id = self.tree.add(content, links);
        self.inodes.insert(id, Rc::new(inode));
        self.tree.names(dir).insert(name.to_vec(), id);
        if kind == FileKind::Directory {
            self.tree.node(dir).links += 1;
        }
    }

    /// A node without links and openers goes.
    fn drop_if_gone(&mut self, id: Id) {
        if self.tree.node(id).links == 0 && !self.open.contains(&id) {
            let inode = self.inodes.remove(&id).expect("inode");
            self.fs().evict(&inode).expect("evict");
            self.tree.nodes[id] = None;
        }
    }

    /// One call.
    pub fn apply(&mut self, op: &Op) {
        match *op {
            Op::Create(d, n) => {
                let dir = self.directory(d);
                self.create(dir, &name(n), Content::File(Vec::new()));
            }
            Op::Mkdir(d, n) => {
                let dir = self.directory(d);
                self.create(dir, &name(n), Content::Directory(Default::default(), dir));
            }
            Op::Symlink(d, n, len) => {
                let dir = self.directory(d);
                let target = vec![b'a' + (len % 26) as u8; usize::from(len)];
                self.create(dir, &name(n), Content::Symlink(target));
            }
            Op::Fill(d, count) => {
                let dir = self.directory(d);
                for n in 0..u32::from(count) {
                    let name = format!("filler-{n}-{:width$}", n, width = (n % 40) as usize);
                    self.create(
                        dir,
                        name.replace(' ', "_").as_bytes(),
                        Content::File(Vec::new()),
                    );
                }
            }
            Op::Tmpfile(d, n, link) => self.tmpfile(d, n, link),
            Op::Link(d, n, f) => self.link(d, n, f),
            Op::Remove(d, n) => self.remove(d, n),
            Op::Rename(a, b, c, d, exchange) => self.rename(a, b, c, d, exchange),
            Op::Open(f) => {
                if let Some(id) = self.file(f) {
                    if !self.open.contains(&id) {
                        self.open.push(id);
                    }
                }
            }
            Op::CloseAll => self.close_all(),
            Op::Write(f, offset, len) => {
                if let Some(id) = self.file(f) {
                    self.write(id, u64::from(offset), u64::from(len));
                }
            }
            Op::Truncate(f, size) => {
                if let Some(id) = self.file(f) {
                    let times = self.times();
                    let inode = self.inode(id);
                    self.fs()
                        .truncate(&inode, u64::from(size), &times)
                        .expect("truncate");
                    self.bytes(id).resize(size as usize, 0);
                }
            }
            Op::Punch(f, first, len) => {
                if let Some(id) = self.file(f) {
                    let times = self.times();
                    let (first, end) = (u64::from(first), u64::from(first) + u64::from(len));
                    let inode = self.inode(id);
                    let done = self
                        .fs()
                        .punch(&inode, FileBlock(first), FileBlock(end), &times);
                    done.expect("punch");
                    let bytes = self.bytes(id);
                    let from = bytes.len().min((first * BLOCK_SIZE) as usize);
                    let to = bytes.len().min((end * BLOCK_SIZE) as usize);
                    bytes[from..to].fill(0);
                }
            }
            Op::Preallocate(f, first, len, keep) => {
                if let Some(id) = self.file(f) {
                    let times = self.times();
                    let (first, len) = (u64::from(first), u64::from(len));
                    let size = (!keep).then_some((first + len) * BLOCK_SIZE);
                    let inode = self.inode(id);
                    let done = self
                        .fs()
                        .preallocate(&inode, FileBlock(first), len, size, &times);
                    done.expect("preallocate");
                    let bytes = self.bytes(id);
                    if let Some(size) = size {
                        let size = bytes.len().max(size as usize);
                        bytes.resize(size, 0);
                    }
                }
            }
            Op::Collapse(f, first, len) => {
                if let Some(id) = self.file(f) {
                    shift::collapse(self, id, u64::from(first), u64::from(len));
                }
            }
            Op::Insert(f, at, len) => {
                if let Some(id) = self.file(f) {
                    shift::insert(self, id, u64::from(at), u64::from(len));
                }
            }
            Op::ZeroRange(f, offset, len, keep) => {
                if let Some(id) = self.file(f) {
                    let end = u64::from(offset) + u64::from(len);
                    shift::zero_range(self, id, u64::from(offset), end, keep);
                }
            }
            Op::Shatter(f, count) => {
                // Every second block: one extent each.
                if let Some(id) = self.file(f) {
                    for n in 0..u64::from(count) {
                        self.write(id, 2 * n * BLOCK_SIZE, 64);
                    }
                }
            }
            Op::Fault(f, block) => {
                if let Some(id) = self.file(f) {
                    self.fault(id, u64::from(block));
                }
            }
            Op::Attributes(f, value) => {
                if let Some(id) = self.file(f) {
                    let times = self.times();
                    let inode = self.inode(id);
                    let set = SetAttributes {
                        uid: Some(value),
                        times,
                        ..SetAttributes::default()
                    };
                    self.fs()
                        .set_attributes(&inode, &set)
                        .expect("set_attributes");
                    self.fs().touch(&inode, &times, true).expect("touch");
                    assert_eq!(inode.attributes().uid, value);
                }
            }
            Op::Remount => self.remount(),
        }
    }

    pub fn bytes(&mut self, id: Id) -> &mut Vec<u8> {
        match &mut self.tree.node(id).content {
            Content::File(bytes) => bytes,
            other => panic!("no file: {other:?}"),
        }
    }

    fn tmpfile(&mut self, d: u8, n: u8, link: bool) {
        let new = self.new_inode(FileKind::Regular);
        let inode = Rc::new(self.fs().tmpfile(&new).expect("tmpfile"));
        let id = self.tree.add(Content::File(Vec::new()), 0);
        self.inodes.insert(id, Rc::clone(&inode));
        self.open.push(id);
        let dir = self.directory(d);
        if link && !self.tree.names(dir).contains_key(&name(n)) {
            let now = self.now();
            let done = self.fs().link(&self.inode(dir), &name(n), &inode, now);
            done.expect("link of a tmpfile");
            self.tree.node(id).links = 1;
            self.tree.names(dir).insert(name(n), id);
        }
    }

    fn link(&mut self, d: u8, n: u8, f: u8) {
        let dir = self.directory(d);
        let files = self.tree.all(|c| !matches!(c, Content::Directory(..)));
        if files.is_empty() {
            return;
        }
        let id = files[usize::from(f) % files.len()];
        let now = self.now();
        let done = self
            .fs()
            .link(&self.inode(dir), &name(n), &self.inode(id), now);
        if self.tree.names(dir).contains_key(&name(n)) {
            assert_eq!(done, Err(Error::Exists));
            return;
        }
        done.expect("link");
        self.tree.node(id).links += 1;
        self.tree.names(dir).insert(name(n), id);
    }

    /// A name of the directory, if it has any; else one that it has not.
    fn some_name(&mut self, dir: Id, n: u8) -> Vec<u8> {
        let names: Vec<_> = self.tree.names(dir).keys().cloned().collect();
        if names.is_empty() || n % 5 == 0 {
            return name(n);
        }
        names[usize::from(n) % names.len()].clone()
    }

    fn remove(&mut self, d: u8, n: u8) {
        let dir = self.directory(d);
        let name = self.some_name(dir, n);
        let found = self.fs().lookup(&self.inode(dir), &name);
        let Some(&id) = self.tree.names(dir).get(&name) else {
            assert_eq!(found, Err(Error::NotFound));
            return;
        };
        assert_eq!(found, Ok(self.inode(id).ino()));
        let now = self.now();
        let (parent, inode) = (self.inode(dir), self.inode(id));
        if self.tree.is_directory(id) {
            let done = self.fs().rmdir(&parent, &name, &inode, now);
            if !self.tree.names(id).is_empty() {
                assert_eq!(done, Err(Error::NotEmpty));
                return;
            }
            done.expect("rmdir");
            self.tree.node(id).links = 0;
            self.tree.node(dir).links -= 1;
        } else {
            self.fs()
                .unlink(&parent, &name, &inode, now)
                .expect("unlink");
            self.tree.node(id).links -= 1;
        }
        self.tree.names(dir).remove(&name);
        drop(inode);
        self.drop_if_gone(id);
    }

    fn rename(&mut self, a: u8, b: u8, c: u8, d: u8, exchange: bool) {
        let (old_dir, new_dir) = (self.directory(a), self.directory(c));
        let old_name = self.some_name(old_dir, b);
        let new_name = if d % 2 == 0 {
            name(d)
        } else {
            self.some_name(new_dir, d)
        };
        let Some(&id) = self.tree.names(old_dir).get(&old_name) else {
            return;
        };
        let target = self.tree.names(new_dir).get(&new_name).copied();
        // What the VFS refuses before a filesystem is asked.
        if self.tree.is_below(new_dir, id) || target == Some(id) {
            return;
        }
        if target.is_some_and(|t| self.tree.is_below(old_dir, t)) || (exchange && target.is_none())
        {
            return;
        }
        let now = self.now();
        let other = target.map(|t| self.inode(t));
        let (from, to, inode) = (self.inode(old_dir), self.inode(new_dir), self.inode(id));
        let done = self.fs().rename(&RenameArgs {
            old_dir: &from,
            old_name: &old_name,
            inode: &inode,
            new_dir: &to,
            new_name: &new_name,
            target: other.as_deref(),
            exchange,
            time: now,
        });
        let is_directory = self.tree.is_directory(id);
        if let (Some(target), false) = (target, exchange) {
            let over_directory = self.tree.is_directory(target);
            let wrong = match (is_directory, over_directory) {
                (false, true) => Some(Error::IsDirectory),
                (true, false) => Some(Error::NotDirectory),
                (true, true) if !self.tree.names(target).is_empty() => Some(Error::NotEmpty),
                _ => None,
            };
            if let Some(error) = wrong {
                assert_eq!(done, Err(error));
                return;
            }
            self.tree.node(target).links -= if over_directory { 2 } else { 1 };
            if over_directory {
                self.tree.node(new_dir).links -= 1;
            }
        }
        done.expect("rename");
        self.tree.names(old_dir).remove(&old_name);
        self.tree.names(new_dir).insert(new_name, id);
        self.move_parent(id, old_dir, new_dir);
        if let Some(target) = target {
            if exchange {
                self.tree.names(old_dir).insert(old_name, target);
                self.move_parent(target, new_dir, old_dir);
            } else {
                drop(other);
                self.drop_if_gone(target);
            }
        }
    }

    fn move_parent(&mut self, id: Id, from: Id, to: Id) {
        if let Content::Directory(_, parent) = &mut self.tree.node(id).content {
            *parent = to;
            self.tree.node(from).links -= 1;
            self.tree.node(to).links += 1;
        }
    }

    fn close_all(&mut self) {
        for id in std::mem::take(&mut self.open) {
            self.drop_if_gone(id);
        }
    }

    /// A write as the kernel glue does it: reserve, copy, zero the edges, publish.
    fn write(&mut self, id: Id, offset: u64, len: u64) {
        let inode = self.inode(id);
        let times = self.times();
        let fill = (self.clock / 1_000_001 % 251) as u8 + 1;
        let size = self.bytes(id).len() as u64;
        let fs = self.fs();
        if offset > size {
            fs.zero_tail(&inode, size).expect("zero_tail");
        }
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let start = FileBlock::of(at);
            let blocks = FileBlock::after(end).0 - start.0;
            let reserved = fs
                .reserve_write(&inode, start, blocks, end)
                .expect("reserve");
            assert!(reserved.len >= 1 && reserved.len <= blocks && reserved.start == start);
            let stop = start.plus(reserved.len).offset().min(end);
            let address = reserved.block.address();
            let media = fs.media();
            if reserved.kind != WriteKind::InPlace {
                media.zero_through(address, reserved.len * BLOCK_SIZE);
            }
            store(
                media,
                address + (at - start.offset()),
                (stop - at) as usize,
                fill,
            );
            let current = inode.attributes().size;
            let args = PublishArgs {
                new_size: (stop > current).then_some(stop),
                times,
            };
            let done = FileBlock::after(stop).0 - start.0;
            fs.publish(&inode, reserved, done, &args).expect("publish");
            at = stop;
        }
        let bytes = self.bytes(id);
        if bytes.len() < end as usize {
            bytes.resize(end as usize, 0);
        }
        bytes[offset as usize..end as usize].fill(fill);
    }

    /// A shared write fault inside the file, and a store.
    fn fault(&mut self, id: Id, block: u64) {
        let size = self.bytes(id).len() as u64;
        if size == 0 {
            return;
        }
        let block = block % FileBlock::after(size).0;
        let inode = self.inode(id);
        let mapping = self
            .fs()
            .fault_allocate(&inode, FileBlock(block), 1)
            .expect("fault");
        let MappingState::Written(at) = mapping.state else {
            panic!("{mapping:?}");
        };
        let len = BLOCK_SIZE.min(size - block * BLOCK_SIZE);
        store(self.fs().media(), at.address(), len as usize, 0xee);
        let from = (block * BLOCK_SIZE) as usize;
        self.bytes(id)[from..from + len as usize].fill(0xee);
    }

    /// Gets the inodes of all names again.
    fn load(&mut self, root: Id) {
        let mut todo = vec![root];
        while let Some(dir) = todo.pop() {
            let parent = self.inode(dir);
            for (name, id) in self.tree.names(dir).clone() {
                let ino = self
                    .fs()
                    .lookup(&parent, &name)
                    .expect("lookup after mount");
                if !self.inodes.contains_key(&id) {
                    let inode = self.fs().iget(ino).expect("iget");
                    self.inodes.insert(id, Rc::new(inode));
                    if self.tree.is_directory(id) {
                        todo.push(id);
                    }
                }
            }
        }
    }

    /// Compares everything, unmounts, checks, mounts, compares again.
    pub fn remount(&mut self) {
        self.close_all();
        self.compare();
        let ids: Vec<Id> = self.inodes.keys().copied().collect();
        for id in ids {
            let inode = self.inodes.remove(&id).expect("inode");
            self.fs()
                .evict(&inode)
                .expect("evict of an inode with links");
        }
        let fs = self.fs.take().expect("mounted");
        fs.unmount().expect("unmount");
        let media = fs.media().clone();
        drop(fs);
        assert_sound(&media, true);
        self.fs = Some(Filesystem::mount(media, &MountOptions::default()).expect("mount"));
        assert!(self.fs().next_orphan().is_none());
        self.get_root();
        self.load(0);
        self.compare();
    }

    /// What is in memory says what the model says, and the medium is sound between two calls.
    pub fn compare(&mut self) {
        assert_sound(self.fs().media(), false);
        for (id, node) in self.tree.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            let inode = self.inode(id);
            let number = |id: Id| self.inode(id).ino();
            compare_node(self.fs(), &inode, node, &number);
        }
    }

    /// A crash now: what was returned from is there, all of it and nothing else.
    pub fn compare_image(&self, image: MemoryMedia) {
        let fs = recovered(image);
        let root = fs.iget(fs.root()).expect("root");
        let mut numbers = HashMap::from([(0, root.ino())]);
        let mut todo = vec![(0, root)];
        let mut seen = Vec::new();
        while let Some((id, inode)) = todo.pop() {
            if let Content::Directory(names, _) =
                &self.tree.nodes[id].as_ref().expect("node").content
            {
                for (name, &child) in names {
                    let ino = fs.lookup(&inode, name).expect("name after a crash");
                    if numbers.insert(child, ino).is_none() {
                        todo.push((child, fs.iget(ino).expect("iget after a crash")));
                    }
                }
            }
            seen.push((id, inode));
        }
        for (id, inode) in &seen {
            let node = self.tree.nodes[*id].as_ref().expect("node");
            compare_node(&fs, inode, node, &|id| numbers[&id]);
        }
        finish(fs);
    }
}

/// Mounts what a crash left, as the first mount after it does.
pub fn recovered(image: MemoryMedia) -> Filesystem<MemoryMedia> {
    let fs = Filesystem::mount(image, &MountOptions::default()).expect("mount after a crash");
    fs.finish_orphans().expect("orphans");
    fs
}

/// Unmounts and checks.
pub fn finish(fs: Filesystem<MemoryMedia>) {
    fs.unmount().expect("unmount");
    assert_sound(fs.media(), true);
}

fn compare_node<M: Media>(
    fs: &Filesystem<M>,
    inode: &Inode,
    node: &Node,
    number: &dyn Fn(Id) -> Ino,
) {
    let attributes = inode.attributes();
    assert_eq!(attributes.nlink, node.links, "links of {}", inode.ino());
    match &node.content {
        Content::File(bytes) => {
            assert_eq!(
                attributes.size,
                bytes.len() as u64,
                "size of {}",
                inode.ino()
            );
            assert!(read(fs, inode) == *bytes, "bytes of {}", inode.ino());
        }
        Content::Symlink(target) => {
            let mut read = ochre::platform::Vec::new();
            fs.readlink(inode, &mut read).expect("readlink");
            assert_eq!(&read[..], &target[..]);
        }
        Content::Directory(names, parent) => {
            let found = list(fs, inode);
            let expected: BTreeMap<_, _> = names
                .iter()
                .map(|(name, &id)| (name.clone(), number(id)))
                .collect();
            assert_eq!(found, expected, "names of {}", inode.ino());
            assert_eq!(inode.parent(), number(*parent));
        }
    }
}

/// Names, read in bites of three, from the cookie each time.
fn list<M: Media>(fs: &Filesystem<M>, dir: &Inode) -> BTreeMap<Vec<u8>, Ino> {
    let mut found = BTreeMap::new();
    let (mut last, mut cookie) = (1, 0);
    loop {
        let (mut left, mut next) = (3, cookie);
        let mut emit = |entry: &DirectoryEntry<'_>| {
            if left == 0 {
                return false;
            }
            left -= 1;
            assert!(entry.cookie > last && entry.next < 1 << 63);
            last = entry.cookie;
            next = entry.next;
            found.insert(entry.name.to_vec(), entry.ino);
            true
        };
        fs.readdir(dir, cookie, &mut emit).expect("readdir");
        if left == 3 {
            return found;
        }
        cookie = next;
    }
}

fn read<M: Media>(fs: &Filesystem<M>, inode: &Inode) -> Vec<u8> {
    let size = inode.attributes().size;
    let mut bytes = vec![0; size as usize];
    let mut at = 0;
    while at < size {
        let start = FileBlock::of(at);
        let max = FileBlock::after(size).0 - start.0;
        let mapping = fs.map(inode, start, max).expect("map");
        let stop = start.plus(mapping.len).offset().min(size);
        if let MappingState::Written(block) = mapping.state {
            let part = &mut bytes[at as usize..stop as usize];
            fs.media().read(block.address(), part).expect("read");
        }
        at = stop;
    }
    bytes
}

/// Stores bytes at any address.
fn store<M: Media>(media: &M, address: u64, len: usize, fill: u8) {
    let first = address / 8 * 8;
    let end = (address + len as u64).next_multiple_of(8);
    let mut bytes = vec![0; (end - first) as usize];
    media.read(first, &mut bytes).expect("read");
    bytes[(address - first) as usize..][..len].fill(fill);
    media.store_through(first, &bytes);
    media.fence();
}
