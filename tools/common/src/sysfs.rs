// SPDX-License-Identifier: GPL-2.0

//! What sysfs says about a block device: is it DAX-capable, and where does its memory start?
//!
//! `mkfs.ochre` needs the *phase*, the physical address of the device's first byte modulo 2 MiB, so
//! that allocation groups start on physical 2 MiB boundaries. libnvdimm publishes the physical
//! address in the `resource` attribute of the device under the disk: the pfn device of an fsdax
//! namespace (whose address is already behind the info block), or the namespace itself. A
//! partition adds its start sector.
//!
//! The root of the tree is a parameter, so that the tests can use a made-up one.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes in a sector, the unit of sysfs's `start` and `size`.
const SECTOR: u64 = 512;

/// The largest page that a mapping can use, and so the modulus of the phase.
pub const HUGE_PAGE: u64 = 2 << 20;

/// How libnvdimm presents the namespace under a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `fsdax`, called `memory` by older kernels: struct pages, so files can be mapped.
    Fsdax,
    /// `raw`: bare memory.
    Raw,
    /// `sector`, called `safe` in sysfs: a block translation table in between.
    Sector,
    /// A mode that these tools do not know, or none.
    Unknown,
}

/// A block device as sysfs describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockFacts {
    /// The kernel's name of the device, e.g. `pmem0p1`.
    pub name: String,
    /// The kernel's name of the whole disk, e.g. `pmem0`.
    pub disk: String,
    /// Whether this is a partition of `disk`.
    pub partition: bool,
    /// Whether the driver offers DAX on it.
    pub dax: bool,
    /// The libnvdimm namespace under it, e.g. `namespace0.0`.
    pub namespace: Option<String>,
    /// The mode of that namespace.
    pub mode: Mode,
    /// Physical address of the first byte of the device, when the kernel tells.
    pub physical: Option<u64>,
    /// Bytes of the device that the kernel knows cannot be read.
    pub bad: Vec<Range<u64>>,
}

impl BlockFacts {
    /// The physical address of the first byte, modulo 2 MiB.
    pub fn phase(&self) -> Option<u64> {
        self.physical.map(|address| address % HUGE_PAGE)
    }

    /// The command that turns the namespace into one that can be mapped.
    pub fn cure(&self) -> Option<String> {
        let namespace = self.namespace.as_deref()?;
        Some(format!(
            "ndctl create-namespace -f -e {namespace} -m fsdax -M mem -a 2M"
        ))
    }
}

/// The sysfs tree.
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::at("/sys")
    }
}

impl Sysfs {
    /// The tree mounted at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Describes the block device with this number; `None` if sysfs does not know it.
    pub fn describe(&self, major: u32, minor: u32) -> Option<BlockFacts> {
        let directory = self.root.join(format!("dev/block/{major}:{minor}"));
        let directory = fs::canonicalize(directory).ok()?;
        let name = file_name(&directory)?;
        let partition = directory.join("partition").exists();
        let disk = if partition {
            directory.parent()?.to_path_buf()
        } else {
            directory.clone()
        };
        let start = if partition {
            number(&directory.join("start"))? * SECTOR
        } else {
            0
        };
        let dax = number(&disk.join("queue/dax")) == Some(1);

        // `device` is the libnvdimm device that the pmem driver bound: a namespace, or the pfn or
        // btt device that claimed one and names it in its attribute `namespace`.
        let device = fs::canonicalize(disk.join("device")).ok();
        let (mut namespace, mut mode, mut physical) = (None, Mode::Unknown, None);
        if let Some(device) = device {
            let own_name = file_name(&device).unwrap_or_default();
            if own_name.starts_with("namespace") {
                namespace = Some(own_name.clone());
            } else {
                namespace = text(&device.join("namespace")).filter(|claimed| !claimed.is_empty());
            }
            mode = if own_name.starts_with("btt") {
                Mode::Sector
            } else {
                match text(&device.join("mode")).as_deref() {
                    Some("memory" | "fsdax" | "pmem" | "ram") => Mode::Fsdax,
                    Some("raw") => Mode::Raw,
                    Some("safe" | "sector") => Mode::Sector,
                    _ => Mode::Unknown,
                }
            };
            physical = number(&device.join("resource")).and_then(|base| base.checked_add(start));
        }
        Some(BlockFacts {
            name,
            disk: file_name(&disk)?,
            partition,
            dax,
            namespace,
            mode,
            physical,
            bad: bad_blocks(&directory, &disk, start),
        })
    }

    /// Whether the kernel was told to keep this device as it is (`blockdev --setro`).
    pub fn is_read_only(&self, major: u32, minor: u32) -> bool {
        let file = self.root.join(format!("dev/block/{major}:{minor}/ro"));
        number(&file) == Some(1)
    }

    /// Names the programs' devices that stand on this one (device mapper, md, …).
    pub fn holders(&self, major: u32, minor: u32) -> Vec<String> {
        let directory = self.root.join(format!("dev/block/{major}:{minor}/holders"));
        let Ok(entries) = fs::read_dir(directory) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The loop device that has `file` as its backing file, if any.
    pub fn loop_device_of(&self, file: &Path) -> Option<String> {
        let file = fs::canonicalize(file).ok()?;
        for entry in fs::read_dir(self.root.join("block")).ok()?.flatten() {
            let backing = entry.path().join("loop/backing_file");
            if text(&backing).is_some_and(|path| Path::new(&path) == file) {
                return Some(entry.file_name().to_string_lossy().into_owned());
            }
        }
        None
    }
}

/// What the disk's list says of a device that begins at byte `start` of it.
fn bad_blocks(directory: &Path, disk: &Path, start: u64) -> Vec<Range<u64>> {
    let size = number(&directory.join("size")).map_or(u64::MAX, |sectors| sectors * SECTOR);
    let range = |line: &str| {
        let mut words = line.split_whitespace().map(|word| word.parse::<u64>().ok());
        let (first, count) = (words.next()??, words.next()??);
        let first = first.checked_mul(SECTOR)?;
        let end = first.checked_add(count.checked_mul(SECTOR)?)?;
        let inside = first.saturating_sub(start)..end.saturating_sub(start).min(size);
        (!inside.is_empty()).then_some(inside)
    };
    let list = text(&disk.join("badblocks")).unwrap_or_default();
    list.lines().filter_map(range).collect()
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// A number as sysfs writes it: decimal, or hexadecimal with `0x`.
fn number(path: &Path) -> Option<u64> {
    let text = text(path)?;
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        // An fsdax namespace: the disk's device is a pfn device.
        put(
            at,
            "devices/ndbus0/region0/pfn0.1/resource",
            "0x240200000\n",
        );
        put(at, "devices/ndbus0/region0/pfn0.1/mode", "memory\n");
        put(
            at,
            "devices/ndbus0/region0/pfn0.1/namespace",
            "namespace0.0\n",
        );
        put(
            at,
            "devices/ndbus0/region0/pfn0.1/block/pmem0/queue/dax",
            "1\n",
        );
        put(
            at,
            "devices/ndbus0/region0/pfn0.1/block/pmem0/pmem0p1/partition",
            "1\n",
        );
        put(
            at,
            "devices/ndbus0/region0/pfn0.1/block/pmem0/pmem0p1/start",
            "2056\n",
        );
        symlink(
            "../..",
            at.join("devices/ndbus0/region0/pfn0.1/block/pmem0/device"),
        )
        .unwrap();
        put(
            at,
            "devices/ndbus0/region0/pfn0.1/block/pmem0/badblocks",
            "8 1\n2064 16\n9999999 8\n",
        );
        put(
            at,
            "devices/ndbus0/region0/pfn0.1/block/pmem0/pmem0p1/size",
            "8192\n",
        );
        // A raw one.
        put(
            at,
            "devices/ndbus0/region1/namespace1.0/resource",
            "0x300001000\n",
        );
        put(at, "devices/ndbus0/region1/namespace1.0/mode", "raw\n");
        put(
            at,
            "devices/ndbus0/region1/namespace1.0/block/pmem1/queue/dax",
            "0\n",
        );
        symlink(
            "../..",
            at.join("devices/ndbus0/region1/namespace1.0/block/pmem1/device"),
        )
        .unwrap();
        put(at, "devices/virtual/block/loop3/queue/dax", "0\n");
        put(at, "devices/virtual/block/loop3/ro", "1\n");
        fs::create_dir_all(at.join("dev/block")).unwrap();
        for (number, target) in [
            ("259:0", "devices/ndbus0/region0/pfn0.1/block/pmem0"),
            ("259:1", "devices/ndbus0/region0/pfn0.1/block/pmem0/pmem0p1"),
            ("259:2", "devices/ndbus0/region1/namespace1.0/block/pmem1"),
            ("7:3", "devices/virtual/block/loop3"),
        ] {
            symlink(at.join(target), at.join("dev/block").join(number)).unwrap();
        }
        root
    }

    #[test]
    fn a_partition_of_an_fsdax_namespace() {
        let root = tree();
        let facts = Sysfs::at(root.path()).describe(259, 1).unwrap();
        assert_eq!(
            (facts.name.as_str(), facts.disk.as_str()),
            ("pmem0p1", "pmem0")
        );
        assert!(facts.partition && facts.dax);
        assert_eq!(facts.mode, Mode::Fsdax);
        assert_eq!(facts.namespace.as_deref(), Some("namespace0.0"));
        assert_eq!(facts.physical, Some(0x2_4020_0000 + 2056 * 512));
        assert_eq!(facts.phase(), Some(2056 * 512));
        // Of the disk's bad blocks those that are inside, counted from its own start.
        let inside = 4096..3 * 4096;
        assert_eq!(facts.bad, [inside]);
        let disk = Sysfs::at(root.path()).describe(259, 0).unwrap();
        assert_eq!(disk.bad.len(), 3);
        assert_eq!(disk.bad[0], 4096..4608);
    }

    #[test]
    fn a_raw_namespace_and_its_cure() {
        let root = tree();
        let facts = Sysfs::at(root.path()).describe(259, 2).unwrap();
        assert_eq!(facts.mode, Mode::Raw);
        assert!(!facts.dax);
        assert_eq!(facts.phase(), Some(0x1000));
        assert_eq!(
            facts.cure().unwrap(),
            "ndctl create-namespace -f -e namespace1.0 -m fsdax -M mem -a 2M"
        );
    }

    #[test]
    fn something_that_is_not_pmem() {
        let root = tree();
        let facts = Sysfs::at(root.path()).describe(7, 3).unwrap();
        assert_eq!(
            (facts.namespace, facts.physical, facts.dax),
            (None, None, false)
        );
        assert!(Sysfs::at(root.path()).describe(8, 0).is_none());
        assert!(Sysfs::at(root.path()).is_read_only(7, 3));
        assert!(!Sysfs::at(root.path()).is_read_only(259, 0));
    }
}
