// SPDX-License-Identifier: GPL-2.0

//! Who uses a block device: mounts and swap areas, as `/proc/self` tells.

use std::fs;
use std::path::PathBuf;

/// The mount table and the list of swap areas, read when asked.
pub struct Mounts {
    proc: PathBuf,
}

impl Default for Mounts {
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl Mounts {
    /// A procfs at `proc`; the tests make one up.
    pub fn at(proc: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into() }
    }

    /// The directory on which the block device `major:minor` is mounted.
    pub fn mount_point(&self, major: u32, minor: u32) -> Option<PathBuf> {
        let table = fs::read(self.proc.join("self/mountinfo")).ok()?;
        let wanted = format!("{major}:{minor}");
        for line in table.split(|&byte| byte == b'\n') {
            let mut fields = line.split(|&byte| byte == b' ');
            if fields.nth(2) == Some(wanted.as_bytes()) {
                let point = fields.nth(1)?;
                return Some(PathBuf::from(
                    String::from_utf8_lossy(&unescape(point)).into_owned(),
                ));
            }
        }
        None
    }

    /// Whether the block device `major:minor` is mounted, and read-only wherever it is. A mount can be read-only while its
    /// filesystem is not: both have to be.
    pub fn is_read_only(&self, major: u32, minor: u32) -> bool {
        let Ok(table) = fs::read(self.proc.join("self/mountinfo")) else {
            return false;
        };
        let wanted = format!("{major}:{minor}");
        let mut found = false;
        for line in table.split(|&byte| byte == b'\n') {
            let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
            if fields.get(2) != Some(&wanted.as_bytes()) {
                continue;
            }
            found = true;
            let of_filesystem = fields.last().copied().unwrap_or_default();
            if !of_filesystem
                .split(|&byte| byte == b',')
                .any(|option| option == b"ro")
            {
                return false;
            }
        }
        found
    }

    /// Whether the kernel swaps to this device or file.
    pub fn is_swap(&self, path: &std::path::Path) -> bool {
        let Ok(table) = fs::read_to_string(self.proc.join("swaps")) else {
            return false;
        };
        table.lines().skip(1).any(|line| {
            line.split_whitespace()
                .next()
                .is_some_and(|name| std::path::Path::new(name) == path)
        })
    }
}

/// The kernel writes blanks, tabs, newlines and backslashes in a path as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'\\' {
            let digits = tail
                .get(..3)
                .and_then(|digits| std::str::from_utf8(digits).ok());
            if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
                plain.push(byte);
                rest = &tail[3..];
                continue;
            }
        }
        plain.push(first);
        rest = tail;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_mount_by_device_number() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("self")).unwrap();
        fs::write(
            proc.path().join("self/mountinfo"),
            "22 28 0:21 / /proc rw - proc proc rw\n\
             30 1 259:1 / /mnt/a\\040b rw,relatime shared:1 - ochre /dev/pmem0p1 rw,dax\n\
             31 1 259:1 / /mnt/view ro,relatime shared:1 - ochre /dev/pmem0p1 rw,dax\n\
             32 1 259:2 / /mnt/c ro,relatime shared:1 - ochre /dev/pmem0p2 ro,dax\n",
        )
        .unwrap();
        fs::write(
            proc.path().join("swaps"),
            "Filename Type Size Used Priority\n/dev/pmem1 partition 1 0 -2\n",
        )
        .unwrap();
        let mounts = Mounts::at(proc.path());
        assert_eq!(mounts.mount_point(259, 1), Some(PathBuf::from("/mnt/a b")));
        assert_eq!(mounts.mount_point(259, 0), None);
        assert!(!mounts.is_read_only(259, 1) && !mounts.is_read_only(259, 0));
        assert!(
            mounts.is_read_only(259, 2),
            "the filesystem, not only a view of it"
        );
        assert!(mounts.is_swap("/dev/pmem1".as_ref()));
        assert!(!mounts.is_swap("/dev/pmem".as_ref()));
    }
}
