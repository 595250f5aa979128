// SPDX-License-Identifier: GPL-2.0

//! Makes a list of calls from a seed: one section for each part of the filesystem that stores to the medium in its own way.
//!
//! Every call of a list succeeds, and calls of threads that run at once are about different names, so that the state after them
//! does not depend on who was first.

use crate::call::{Call, COLLAPSE, INSERT, KEEP_SIZE, PUNCH, ZERO, ZERO_KEEP};
use crate::file::BLOCK;
use crate::model::{Kind, Model};
use ochre_sim::seed::Random;

mod held;

struct Maker {
    lines: Vec<String>,
    model: Model,
    random: Random,
    thread: usize,
    serial: u64,
}

/// A list of calls; `size` is about the number of calls of each of the ten sections, but for that with 2 MiB pages.
pub fn make(seed: u64, size: u64) -> String {
    let mut m = Maker {
        lines: vec![format!("# seed {seed}, size {size}")],
        model: Model::default(),
        random: Random::new(seed),
        thread: 0,
        serial: 0,
    };
    m.call(Call::Mount);
    for (name, section) in SECTIONS {
        m.lines.push(format!("# {name}"));
        section(&mut m, size);
    }
    m.call(Call::Umount);
    m.lines.join("\n") + "\n"
}

type Section = (&'static str, fn(&mut Maker, u64));

const SECTIONS: [Section; 10] = [
    ("names and attributes", |m, size| {
        m.call(Call::Mkdir("names".into()));
        (0..size).for_each(|_| m.metadata("names"));
        m.remove_all("names");
    }),
    ("appends", |m, size| m.appends("appends", size)),
    (
        "writes in place, into holes and through a mapping",
        |m, size| m.data("data", size),
    ),
    (
        "stores through MAP_SYNC, flushed by the process",
        |m, size| m.map_sync("sync", size),
    ),
    (
        "truncate, preallocate, punch, collapse, insert, zero",
        |m, size| m.holes("holes", size),
    ),
    ("held pages", |m, size| held::small(m, "held", size)),
    ("held 2 MiB pages", |m, size| {
        held::huge(m, "huge", size.div_ceil(3))
    }),
    ("files without a name", |m, size| m.orphans("orphans", size)),
    ("a remount", |m, _| {
        m.call(Call::Umount);
        m.call(Call::Mount);
    }),
    ("two processors", |m, size| m.two(size)),
];

impl Maker {
    fn call(&mut self, call: Call) {
        if let Err(error) = self.model.apply(&call) {
            unreachable!("the list is wrong: {call}: {error}");
        }
        self.lines.push(format!("{} {call}", self.thread));
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.below(n)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let i = self.below(from.len() as u64) as usize;
        from.get(i).cloned()
    }

    fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Paths below a directory, it included, that are of a kind.
    fn under(&self, top: &str, wanted: fn(&Kind) -> bool) -> Vec<String> {
        let inside = |path: &str| {
            path == top
                || path
                    .strip_prefix(top)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        let all = self.model.paths().into_iter();
        all.filter(|(path, id)| inside(path) && wanted(&self.model.node(*id).kind))
            .map(|(path, _)| path)
            .collect()
    }

    fn directories(&self, top: &str) -> Vec<String> {
        self.under(top, |k| matches!(k, Kind::Directory(_)))
    }

    fn files(&self, top: &str) -> Vec<String> {
        self.under(top, |k| matches!(k, Kind::File(_)))
    }

    fn is_empty(&self, directory: &str) -> bool {
        let id = self.model.find(directory);
        id.is_ok_and(
            |id| matches!(&self.model.node(id).kind, Kind::Directory(names) if names.is_empty()),
        )
    }

    /// A path that is free; its name is long now and then.
    fn new_path(&mut self, top: &str) -> String {
        let directory = self.pick(&self.directories(top)).unwrap_or(top.into());
        let serial = self.serial();
        let long = if self.below(8) == 0 {
            "x".repeat(self.below(200) as usize)
        } else {
            String::new()
        };
        format!("{directory}/n{serial}{long}")
    }

    fn metadata(&mut self, top: &str) {
        let new = self.new_path(top);
        let file = self.pick(&self.files(top));
        let directory = self.pick(&self.directories(top)).filter(|d| d != top);
        match (self.below(16), file, directory) {
            (0..=3, ..) | (_, None, None) => self.call(Call::Create(new)),
            (4 | 5, ..) => self.call(Call::Mkdir(new)),
            (6, ..) => {
                let long = if self.below(2) == 0 { 20 } else { 2000 };
                let target = "t".repeat(1 + self.random.below(long) as usize);
                self.call(Call::Symlink(target, new));
            }
            (7, Some(f), _) => self.call(Call::Link(f, new)),
            (8 | 9, Some(f), _) => self.call(Call::Rename(f, new)),
            (10, Some(f), _) => {
                let over = self.pick(&self.files(top)).unwrap_or(new);
                if self.model.find(&f) != self.model.find(&over) {
                    self.call(Call::Rename(f, over));
                }
            }
            (11, _, Some(d)) if !new.starts_with(&format!("{d}/")) => {
                self.call(Call::Rename(d, new))
            }
            (12, Some(f), Some(d)) if !f.starts_with(&format!("{d}/")) => {
                self.call(Call::Exchange(f, d))
            }
            (13, _, Some(d)) if self.is_empty(&d) => self.call(Call::Rmdir(d)),
            (14, Some(f), _) => {
                let mode = self.below(0o1000) as u32;
                self.call(Call::Chmod(f, mode));
            }
            (_, Some(f), _) if self.below(4) == 0 => {
                let uid = self.below(1 << 20) as u32;
                self.call(Call::Chown(f, uid));
            }
            (_, Some(f), _) => self.call(Call::Unlink(f)),
            (_, None, Some(d)) => self.call(Call::Chmod(d, 0o700)),
        }
    }

    /// Removes a directory and what is in it.
    fn remove_all(&mut self, top: &str) {
        let mut all = self.under(top, |_| true);
        // What is below comes after what is above.
        all.sort_unstable();
        for path in all.into_iter().rev() {
            let id = self.model.find(&path).unwrap_or(0);
            let call = match self.model.node(id).kind {
                Kind::Directory(_) => Call::Rmdir(path),
                _ => Call::Unlink(path),
            };
            self.call(call);
        }
    }

    fn size(&self, path: &str) -> u64 {
        self.model.file(path).map_or(0, |f| f.size())
    }

    fn write(&mut self, path: &str, offset: u64, len: u64) {
        let fill = self.serial();
        self.call(Call::Write(path.into(), offset, len, fill));
    }

    fn some_length(&mut self) -> u64 {
        match self.below(8) {
            0 => 1 + self.below(8),
            1 | 2 => 1 + self.below(1000),
            3 | 4 => 4096,
            5 | 6 => 1 + self.below(9000),
            _ => 1 + self.below(40_000),
        }
    }

    fn append(&mut self, path: &str) {
        let (size, len) = (self.size(path), self.some_length());
        if size > 150_000 {
            return self.call(Call::Truncate(path.into(), 0));
        }
        let gap = if self.below(6) == 0 {
            self.random.below(9000)
        } else {
            0
        };
        self.write(path, size + gap, len);
    }

    fn appends(&mut self, top: &str, size: u64) {
        self.call(Call::Mkdir(top.into()));
        let files: Vec<String> = (0..3).map(|i| format!("{top}/f{i}")).collect();
        files
            .iter()
            .for_each(|f| self.call(Call::Create(f.clone())));
        for _ in 0..size {
            let Some(f) = self.pick(&files) else { continue };
            if self.below(10) == 0 {
                self.call(Call::Fsync(f));
            } else {
                self.append(&f);
            }
        }
        self.remove_all(top);
    }

    /// A file of `len` bytes that is open at `slot` and mapped.
    fn mapped(&mut self, path: &str, slot: &str, len: u64, sync: bool) {
        self.call(Call::Create(path.into()));
        self.call(Call::Truncate(path.into(), len));
        self.call(Call::Open(slot.into(), path.into()));
        self.call(Call::Map(slot.into(), len, sync));
    }

    fn store(&mut self, slot: &str, len: u64) -> u64 {
        let at = self.below(len / 8) * 8;
        let value = self.random.next() | 1;
        self.call(Call::Store(slot.into(), at, value));
        at
    }

    fn data(&mut self, top: &str, size: u64) {
        const LEN: u64 = 32 << 10;
        self.call(Call::Mkdir(top.into()));
        let file = format!("{top}/plain");
        self.call(Call::Create(file.clone()));
        self.write(&file, 0, 60_000);
        self.call(Call::Truncate(file.clone(), 150_000));
        let shared = format!("{top}/mapped");
        self.mapped(&shared, "m", LEN, false);
        for _ in 0..size {
            match self.below(12) {
                0..=3 => {
                    let (at, len) = (self.below(140_000), self.some_length());
                    self.write(&file, at, len);
                }
                4 => self.call(Call::Fsync(shared.clone())),
                5 | 6 => {
                    let at = self.below(LEN / 4096) * 4096;
                    let len = (1 + self.random.below(3)) * 4096;
                    self.call(Call::Msync("m".into(), at, len.min(LEN - at)));
                }
                7 => {
                    let (at, len) = (self.below(LEN - 5000), 1 + self.random.below(5000));
                    self.write(&shared, at, len);
                }
                _ => drop(self.store("m", LEN)),
            }
        }
        self.call(Call::Unmap("m".into()));
        self.call(Call::Close("m".into()));
        self.remove_all(top);
    }

    fn map_sync(&mut self, top: &str, size: u64) {
        const LEN: u64 = 48 << 10;
        self.call(Call::Mkdir(top.into()));
        let file = format!("{top}/f");
        self.mapped(&file, "s", LEN, true);
        // The first store brings the block, so that the probe meets no fault.
        self.call(Call::Store("s".into(), 8, 1));
        self.call(Call::Probe("s".into()));
        for _ in 0..size {
            let at = self.store("s", LEN);
            if self.below(2) == 0 {
                let len = (1 + self.random.below(200)).min(LEN - at);
                self.call(Call::Flush("s".into(), at, len));
            }
        }
        self.call(Call::Unmap("s".into()));
        self.call(Call::Close("s".into()));
        self.remove_all(top);
    }

    fn holes(&mut self, top: &str, size: u64) {
        self.call(Call::Mkdir(top.into()));
        let file = format!("{top}/f");
        self.call(Call::Create(file.clone()));
        for _ in 0..size {
            let (at, len) = (self.below(100_000), 1 + self.random.below(50_000));
            match self.below(14) {
                0 | 1 => self.call(Call::Truncate(file.clone(), at)),
                2 => self.call(Call::Fallocate(file.clone(), 0, at, len)),
                3 => self.call(Call::Fallocate(file.clone(), KEEP_SIZE, at, len)),
                4 | 5 => self.call(Call::Fallocate(file.clone(), PUNCH, at, len)),
                6 | 7 => {
                    let (at, len) = (at / BLOCK * BLOCK, len.next_multiple_of(BLOCK));
                    if at + len < self.size(&file) {
                        self.call(Call::Fallocate(file.clone(), COLLAPSE, at, len));
                    }
                }
                8 | 9 => {
                    let (at, len) = (at / BLOCK * BLOCK, len.next_multiple_of(BLOCK));
                    let size = self.size(&file);
                    if at < size && size + len <= 300_000 {
                        self.call(Call::Fallocate(file.clone(), INSERT, at, len));
                    }
                }
                10 => self.call(Call::Fallocate(file.clone(), ZERO, at, len)),
                11 => self.call(Call::Fallocate(file.clone(), ZERO_KEEP, at, len)),
                _ => {
                    let len = self.some_length();
                    self.write(&file, at, len);
                }
            }
        }
        self.remove_all(top);
    }

    fn orphans(&mut self, top: &str, size: u64) {
        self.call(Call::Mkdir(top.into()));
        for i in 0..size / 8 {
            let file = format!("{top}/f{i}");
            let slot = format!("o{i}");
            match self.below(3) {
                0 => {
                    self.call(Call::Tmpfile(slot.clone(), top.into()));
                    self.append(&format!("@{slot}"));
                    if self.below(2) == 0 {
                        self.call(Call::LinkFd(slot.clone(), file));
                    }
                }
                kind => {
                    self.call(Call::Create(file.clone()));
                    self.append(&file);
                    self.call(Call::Open(slot.clone(), file.clone()));
                    if kind == 1 {
                        self.call(Call::Unlink(file));
                    } else {
                        let over = format!("{top}/over{i}");
                        self.call(Call::Create(over.clone()));
                        self.call(Call::Rename(over, file));
                    }
                }
            }
            self.append(&format!("@{slot}"));
            if self.below(3) == 0 {
                let at = self.below(4000);
                self.call(Call::Truncate(format!("@{slot}"), at));
            }
            self.call(Call::Close(slot));
        }
        self.remove_all(top);
    }

    /// Two threads, each with a directory of its own, and one for both in which the names are different.
    fn two(&mut self, size: u64) {
        let tops = ["one", "two", "both"];
        tops.iter()
            .for_each(|top| self.call(Call::Mkdir(top.to_string())));
        for (thread, top) in [(1, "one"), (2, "two")] {
            self.thread = thread;
            self.call(Call::Create(format!("{top}/data")));
        }
        for i in 0..size {
            for (thread, top) in [(1, "one"), (2, "two")] {
                self.thread = thread;
                match self.below(6) {
                    0..=2 => self.metadata(top),
                    3 | 4 => {
                        if let Some(f) = self.pick(&self.files(top)) {
                            self.append(&f);
                        }
                    }
                    _ => {
                        let name = format!("both/{top}{i}");
                        self.call(Call::Create(name.clone()));
                        if self.below(2) == 0 {
                            self.call(Call::Unlink(name));
                        }
                    }
                }
            }
        }
        self.thread = 0;
        tops.iter().for_each(|top| self.remove_all(top));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::parse;

    #[test]
    fn lists_are_made_from_a_seed_and_can_be_read() {
        for seed in 0..20 {
            let text = make(seed, 60);
            assert_eq!(text, make(seed, 60));
            let mut model = Model::default();
            for line in parse(&text).unwrap().into_iter().flatten() {
                model.apply(&line.call).unwrap();
            }
            assert_eq!(model.paths().len(), 1);
            // Held pages of both kinds are punched, truncated and grown over.
            assert!(text.matches(" hold ").count() >= 4);
        }
    }
}
