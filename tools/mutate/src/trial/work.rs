// SPDX-License-Identifier: GPL-2.0

//! An ordinary workload: makes, writes, maps, moves, cuts and removes, where the damage is and beside it.

use super::walk::{Name, World};
use ochre::engine::error::Error;
use ochre::engine::filesystem::{
    Inode, MappingState, NewInode, PublishArgs, RenameArgs, SetAttributes, Times,
};
use ochre::engine::media::Media;
use ochre::engine::types::{FileBlock, FileKind, Ino, Run, Timestamp, BLOCK_SIZE};
use ochre_sim::seed::Random;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Operations on one image.
const OPERATIONS: u64 = 28;
const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

fn times() -> Times {
    Times {
        atime: None,
        mtime: Some(NOW),
        ctime: Some(NOW),
    }
}

fn new_inode(mode: u16, symlink: Option<&[u8]>) -> NewInode<'_> {
    NewInode {
        uid: 1,
        gid: 1,
        symlink,
        ..NewInode::new(mode, NOW)
    }
}

impl World<'_> {
    /// Works; every other operation on what the damage belongs to.
    pub fn work(&mut self, owners: &BTreeSet<Ino>, random: &mut Random) {
        let hurt: Vec<Rc<Inode>> = owners
            .iter()
            .filter_map(|ino| self.inodes.get(&ino.0).cloned())
            .collect();
        for number in 0..OPERATIONS {
            if self.fs.is_read_only() && number > 6 {
                break;
            }
            self.operation(&hurt, number, random);
        }
    }

    /// An inode of a kind: a damaged one or any.
    fn pick(&self, hurt: &[Rc<Inode>], kind: FileKind, random: &mut Random) -> Option<Rc<Inode>> {
        let fitting: Vec<&Rc<Inode>> = hurt
            .iter()
            .filter(|inode| inode.kind() == kind && self.is_live(inode))
            .collect();
        if !fitting.is_empty() && random.below(4) > 0 {
            return Some(fitting[random.below(fitting.len() as u64) as usize].clone());
        }
        let all: Vec<&Rc<Inode>> = self
            .inodes
            .values()
            .filter(|inode| inode.kind() == kind)
            .collect();
        (!all.is_empty()).then(|| all[random.below(all.len() as u64) as usize].clone())
    }

    /// It has not been removed: the number may be another inode's by now.
    fn is_live(&self, inode: &Rc<Inode>) -> bool {
        let known = self.inodes.get(&inode.ino().0);
        known.is_some_and(|known| Rc::ptr_eq(known, inode))
    }

    /// A name that leads to or stands in something damaged, or any.
    fn pick_name(&self, hurt: &[Rc<Inode>], random: &mut Random) -> Option<Name> {
        if self.names.is_empty() {
            return None;
        }
        if random.below(2) == 0 {
            let concerned = |name: &&Name| {
                hurt.iter()
                    .any(|i| i.ino() == name.ino || i.ino() == name.dir)
            };
            let fitting: Vec<&Name> = self.names.iter().filter(concerned).collect();
            if !fitting.is_empty() {
                return Some(fitting[random.below(fitting.len() as u64) as usize].clone());
            }
        }
        Some(self.names[random.below(self.names.len() as u64) as usize].clone())
    }

    fn operation(&mut self, hurt: &[Rc<Inode>], number: u64, random: &mut Random) {
        let file = self.pick(hurt, FileKind::Regular, random);
        let dir = self.pick(hurt, FileKind::Directory, random);
        match (random.below(14), file, dir) {
            (0 | 1, _, Some(dir)) => self.make(&dir, number, random),
            (2 | 3, Some(file), _) => self.write(&file, random),
            (4, Some(file), _) => self.truncate(&file, random),
            (5, Some(file), _) => {
                self.modified.insert(file.ino());
                let first = FileBlock(random.below(60));
                let done = self
                    .fs
                    .punch(&file, first, first.plus(1 + random.below(40)), &times());
                self.note("punch", done);
            }
            (6 | 7, Some(file), _) => self.fault(&file, random),
            (8, Some(file), _) => {
                self.modified.insert(file.ino());
                let start = FileBlock(random.below(90));
                let done = self
                    .fs
                    .preallocate(&file, start, 1 + random.below(20), None, &times());
                self.note("preallocate", done);
            }
            (9, ..) => self.remove(hurt, random),
            (10, _, Some(dir)) => self.rename(hurt, &dir, number, random),
            (11, Some(file), Some(dir)) => {
                self.modified.insert(file.ino());
                let name = format!("link {number}");
                let done = self.fs.link(&dir, name.as_bytes(), &file, NOW);
                if self.note("link", done).is_some() {
                    self.remember(&dir, name, file.ino());
                }
            }
            (12, Some(file), _) => {
                self.modified.insert(file.ino());
                let set = SetAttributes {
                    uid: Some(7),
                    times: times(),
                    ..SetAttributes::default()
                };
                let done = self.fs.set_attributes(&file, &set);
                self.note("set_attributes", done);
                let done = self.fs.touch(&file, &times(), true);
                self.note("touch", done);
            }
            _ => self.remove(hurt, random),
        }
    }

    fn remember(&mut self, dir: &Inode, name: String, ino: Ino) {
        self.names.push(Name {
            dir: dir.ino(),
            name: name.into_bytes(),
            ino,
        });
    }

    fn make(&mut self, dir: &Inode, number: u64, random: &mut Random) {
        let name = format!("made {number}{:x<1$}", "", random.below(60) as usize);
        let target = vec![b't'; 1 + random.below(400) as usize];
        let new = match random.below(5) {
            0 => new_inode(0o040755, None),
            1 => new_inode(0o120777, Some(&target)),
            _ => new_inode(0o100644, None),
        };
        let made = self.fs.create(dir, name.as_bytes(), &new);
        let Some(inode) = self.note("create", made) else {
            return;
        };
        let inode = Rc::new(inode);
        self.modified.insert(inode.ino());
        if self.inodes.insert(inode.ino().0, inode.clone()).is_some() {
            // The kernel's inode cache meets this, and says so.
            self.odd
                .push(("create: a number handed out twice", Error::Exists));
        }
        self.remember(dir, name, inode.ino());
        if inode.kind() == FileKind::Regular {
            self.write(&inode, random);
        }
    }

    fn write(&mut self, file: &Inode, random: &mut Random) {
        self.modified.insert(file.ino());
        let size = file.attributes().size;
        let start = match random.below(3) {
            0 => FileBlock(random.below(100)),
            1 => FileBlock::of(size.min(1 << 40)),
            _ => FileBlock(0),
        };
        let reserved = self
            .fs
            .reserve_write(file, start, 1 + random.below(12), size);
        let Some(reservation) = self.note("reserve_write", reserved) else {
            return;
        };
        let run = Run {
            start: reservation.block,
            len: reservation.len,
        };
        if !self.check_data("reserve_write", run) {
            self.fs.cancel(reservation);
            return;
        }
        let bytes = vec![b'W'; (run.len * BLOCK_SIZE) as usize];
        self.fs.media().store_through(run.start.address(), &bytes);
        let end = start.plus(run.len).offset();
        let args = PublishArgs {
            new_size: (end > size).then_some(end),
            times: times(),
        };
        let done = self.fs.publish(file, reservation, run.len, &args);
        self.note("publish", done);
    }

    fn truncate(&mut self, file: &Inode, random: &mut Random) {
        self.modified.insert(file.ino());
        let size = file.attributes().size;
        let new = match random.below(4) {
            0 => 0,
            1 => size / 2,
            2 => size.saturating_add(5000),
            _ => random.below(200_000),
        };
        let done = self.fs.truncate(file, new, &times());
        self.note("truncate", done);
    }

    fn fault(&mut self, file: &Inode, random: &mut Random) {
        self.modified.insert(file.ino());
        let found = self
            .fs
            .fault_allocate(file, FileBlock(random.below(110)), 1);
        let Some(mapping) = self.note("fault", found) else {
            return;
        };
        let MappingState::Written(start) = mapping.state else {
            self.problems.push(format!("a fault gave {mapping:?}"));
            return;
        };
        if self.check_data("fault", Run { start, len: 1 }) {
            self.fs
                .media()
                .store_u64(start.address() + 8 * random.below(512), 0x4d4d_4150);
        }
    }

    fn remove(&mut self, hurt: &[Rc<Inode>], random: &mut Random) {
        let Some(name) = self.pick_name(hurt, random) else {
            return;
        };
        let (Some(dir), Some(inode)) = (self.get(name.dir), self.get(name.ino)) else {
            return;
        };
        if dir.kind() != FileKind::Directory {
            return;
        }
        self.modified.insert(inode.ino());
        let done = if inode.kind() == FileKind::Directory {
            self.fs.rmdir(&dir, &name.name, &inode, NOW)
        } else {
            self.fs.unlink(&dir, &name.name, &inode, NOW)
        };
        if self.note("unlink", done).is_some() {
            self.names
                .retain(|n| n.dir != name.dir || n.name != name.name);
            if inode.attributes().nlink == 0 {
                self.inodes.remove(&inode.ino().0);
                let done = self.fs.evict(&inode);
                self.note("evict", done);
            }
        }
    }

    fn rename(&mut self, hurt: &[Rc<Inode>], to: &Inode, number: u64, random: &mut Random) {
        let Some(name) = self.pick_name(hurt, random) else {
            return;
        };
        let (Some(dir), Some(inode)) = (self.get(name.dir), self.get(name.ino)) else {
            return;
        };
        // The VFS would not let a directory become its own ancestor.
        if inode.kind() == FileKind::Directory || dir.kind() != FileKind::Directory {
            return;
        }
        self.modified.insert(inode.ino());
        let new_name = format!("moved {number}");
        let done = self.fs.rename(&RenameArgs {
            old_dir: &dir,
            old_name: &name.name,
            inode: &inode,
            new_dir: to,
            new_name: new_name.as_bytes(),
            target: None,
            exchange: false,
            time: NOW,
        });
        if self.note("rename", done).is_some() {
            self.names
                .retain(|n| n.dir != name.dir || n.name != name.name);
            self.remember(to, new_name, inode.ino());
        }
    }
}
