// SPDX-License-Identifier: GPL-2.0

//! Opening what a tool works on: an image file, or a block device that nothing else uses.
//!
//! Every refusal is a variant of [`Refusal`] whose text names the thing and says what to do.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{fadvise, flock, major, minor, Advice, FlockOperation, OFlags};

use crate::mounts::Mounts;
use crate::sysfs::{BlockFacts, Mode, Sysfs};

/// What a tool is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look only; something else may be using the device.
    Inspect,
    /// Read a filesystem that must not change meanwhile.
    ReadExclusive,
    /// Write; nothing else may be using the device.
    Write,
}

/// Why a device or an image was not opened.
#[derive(Debug)]
pub enum Refusal {
    /// There is nothing with this name.
    Missing(PathBuf),
    /// It exists, but is neither a regular file nor a block device.
    WrongType(PathBuf, &'static str),
    /// The caller may not open it.
    NotPermitted(PathBuf, Access),
    /// It is mounted.
    Mounted(PathBuf, PathBuf),
    /// The kernel swaps to it.
    Swap(PathBuf),
    /// Device mapper, md or the like stands on it.
    Held(PathBuf, Vec<String>),
    /// Something that could not be found out has it open exclusively.
    Busy(PathBuf),
    /// The image file is the backing file of a loop device.
    LoopDevice(PathBuf, String),
    /// Another tool has locked the image file.
    Locked(PathBuf),
    /// The medium or its filesystem is read-only.
    ReadOnly(PathBuf),
    /// Any other error of the operating system.
    Other(PathBuf, io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => {
                write!(f, "{} does not exist; check the name (lsblk lists block devices)", path.display())
            }
            Self::WrongType(path, what) => {
                write!(f, "{} is {what}; give a block device or an image file", path.display())
            }
            Self::NotPermitted(path, Access::Write) => {
                write!(f, "no permission to write to {}; run this as root", path.display())
            }
            Self::NotPermitted(path, _) => {
                write!(f, "no permission to read {}; run this as root", path.display())
            }
            Self::Mounted(path, point) => write!(
                f,
                "{} is mounted on {}; unmount it first: umount {}",
                path.display(),
                point.display(),
                point.display()
            ),
            Self::Swap(path) => {
                let path = path.display();
                write!(f, "{path} is in use as swap; switch it off first: swapoff {path}")
            }
            Self::Held(path, holders) => write!(
                f,
                "{} is in use by {}; take that down first (lsblk {} shows it)",
                path.display(),
                holders.join(", "),
                path.display()
            ),
            Self::Busy(path) => write!(
                f,
                "{} is in use by another program or mount; stop that first (fuser -v {} and lsblk show who)",
                path.display(),
                path.display()
            ),
            Self::LoopDevice(path, name) => write!(
                f,
                "{} is in use as /dev/{name}; detach it first: losetup -d /dev/{name}",
                path.display()
            ),
            Self::Locked(path) => write!(
                f,
                "{} is being worked on by another mkfs.ochre or fsck.ochre; wait for that to end",
                path.display()
            ),
            Self::ReadOnly(path) => write!(
                f,
                "{} is read-only; make it writable first (blockdev --setrw, or remount its filesystem)",
                path.display()
            ),
            Self::Other(path, error) => write!(f, "cannot open {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Refusal {}

/// An open image file or block device.
#[derive(Debug)]
pub struct Device {
    /// The name that the user gave.
    pub path: PathBuf,
    /// The open file.
    pub file: File,
    /// Its size in bytes.
    pub size: u64,
    /// What sysfs says, for a block device that it knows.
    pub facts: Option<BlockFacts>,
    /// Whether this is a block device and not a file.
    pub is_block: bool,
}

impl Device {
    /// Bytes that the kernel knows cannot be read, as of now.
    pub fn bad_blocks(&self) -> Vec<Range<u64>> {
        let number = self.file.metadata().map(|metadata| metadata.rdev());
        let facts = number
            .ok()
            .filter(|_| self.is_block)
            .and_then(|number| Sysfs::default().describe(major(number), minor(number)));
        facts.map_or_else(Vec::new, |facts| facts.bad)
    }
}

/// Opens `path`. `create`, a size in bytes, makes or extends an image file.
///
/// # Errors
///
/// The reason for which it was not opened.
pub fn open(path: &Path, access: Access, create: Option<u64>) -> Result<Device, Refusal> {
    let writes = access == Access::Write;
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound && create.is_some() => None,
        Err(error) => return Err(classify(path, access, error)),
    };
    let is_block = metadata
        .as_ref()
        .is_some_and(|metadata| metadata.file_type().is_block_device());
    let mut numbers = None;
    if let Some(metadata) = &metadata {
        let kind = metadata.file_type();
        let wrong = |what| Err(Refusal::WrongType(path.to_owned(), what));
        match () {
            () if kind.is_dir() => return wrong("a directory"),
            () if kind.is_char_device() => return wrong("a character device"),
            () if kind.is_fifo() => return wrong("a fifo"),
            () if kind.is_socket() => return wrong("a socket"),
            () => {}
        }
        if is_block {
            numbers = Some((major(metadata.rdev()), minor(metadata.rdev())));
        }
        if access != Access::Inspect {
            refuse_users(path, numbers)?;
        }
        match numbers {
            // Some drivers refuse only the first write.
            Some((major, minor)) if writes && Sysfs::default().is_read_only(major, minor) => {
                return Err(Refusal::ReadOnly(path.to_owned()));
            }
            _ => {}
        }
    }
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(writes)
        .create(writes && !is_block && create.is_some());
    if is_block && access != Access::Inspect {
        options.custom_flags(OFlags::EXCL.bits() as i32);
    }
    let mut file = options
        .open(path)
        .map_err(|error| classify(path, access, error))?;
    let other = |error: io::Error| Refusal::Other(path.to_owned(), error);
    if is_block {
        // What the page cache holds may be older than what a mounted filesystem stored by DAX.
        fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| other(error.into()))?;
    } else if access != Access::Inspect {
        let lock = if writes {
            FlockOperation::NonBlockingLockExclusive
        } else {
            FlockOperation::NonBlockingLockShared
        };
        flock(&file, lock).map_err(|_| Refusal::Locked(path.to_owned()))?;
    }
    let mut size = file.seek(SeekFrom::End(0)).map_err(other)?;
    if let (Some(wanted), false) = (create, is_block) {
        if wanted > size {
            file.set_len(wanted).map_err(other)?;
            size = wanted;
        }
    }
    let facts = numbers.and_then(|(major, minor)| Sysfs::default().describe(major, minor));
    Ok(Device {
        path: path.to_owned(),
        file,
        size,
        facts,
        is_block,
    })
}

/// Says who uses the device or the image file, while there is a name for it.
fn refuse_users(path: &Path, numbers: Option<(u32, u32)>) -> Result<(), Refusal> {
    let mounts = Mounts::default();
    let sysfs = Sysfs::default();
    if let Some((major, minor)) = numbers {
        if let Some(point) = mounts.mount_point(major, minor) {
            return Err(Refusal::Mounted(path.to_owned(), point));
        }
        let holders = sysfs.holders(major, minor);
        if !holders.is_empty() {
            return Err(Refusal::Held(path.to_owned(), holders));
        }
    } else if let Some(name) = sysfs.loop_device_of(path) {
        return Err(Refusal::LoopDevice(path.to_owned(), name));
    }
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if mounts.is_swap(&real) {
        return Err(Refusal::Swap(path.to_owned()));
    }
    Ok(())
}

fn classify(path: &Path, access: Access, error: io::Error) -> Refusal {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => Refusal::Missing(path),
        io::ErrorKind::PermissionDenied => Refusal::NotPermitted(path, access),
        io::ErrorKind::ResourceBusy | io::ErrorKind::ExecutableFileBusy => Refusal::Busy(path),
        io::ErrorKind::ReadOnlyFilesystem => Refusal::ReadOnly(path),
        _ => Refusal::Other(path, error),
    }
}

/// Why the kernel could not mount an Ochre filesystem on this block device, and what would help.
pub fn not_mappable(device: &Device) -> Option<String> {
    if !device.is_block {
        return None;
    }
    let path = device.path.display();
    let Some(facts) = &device.facts else {
        return Some(format!(
            "{path} is not known to sysfs, so it cannot be told whether it is persistent memory; mount /sys"
        ));
    };
    if facts.dax {
        return None;
    }
    let Some(cure) = facts.cure() else {
        return Some(format!(
            "{path} is not persistent memory that can be mapped (no DAX); give a pmem device such as /dev/pmem0"
        ));
    };
    let namespace = facts.namespace.as_deref().unwrap_or_default();
    let state = match facts.mode {
        Mode::Raw => "in raw mode, which has no page structures to map",
        Mode::Sector => "in sector mode, which puts a translation table before the memory",
        Mode::Fsdax | Mode::Unknown => "in a mode that cannot be mapped",
    };
    Some(format!(
        "{path} is on {namespace}, which is {state}; convert it to fsdax (this erases it): {cure}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path, access: Access) -> Refusal {
        open(path, access, None).expect_err("must be refused")
    }

    #[test]
    fn names_what_is_wrong_with_a_path() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(
            refusal(&directory.path().join("none"), Access::Write),
            Refusal::Missing(_)
        ));
        assert!(matches!(
            refusal(directory.path(), Access::Write),
            Refusal::WrongType(_, "a directory")
        ));
        assert!(matches!(
            refusal(Path::new("/dev/null"), Access::Write),
            Refusal::WrongType(_, "a character device")
        ));
    }

    #[test]
    fn two_writers_of_one_image_exclude_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let first = open(&path, Access::Write, Some(1 << 20)).unwrap();
        assert_eq!(first.size, 1 << 20);
        assert!(matches!(refusal(&path, Access::Write), Refusal::Locked(_)));
        assert!(open(&path, Access::Inspect, None).is_ok());
        drop(first);
        let smaller = open(&path, Access::Write, Some(4096)).unwrap();
        assert_eq!(smaller.size, 1 << 20, "an image never shrinks");
    }

    fn block(facts: Option<BlockFacts>) -> Device {
        let file = File::open("/dev/null").unwrap();
        Device {
            path: "/dev/pmem7".into(),
            file,
            size: 0,
            facts,
            is_block: true,
        }
    }

    #[test]
    fn a_namespace_that_cannot_be_mapped_comes_with_its_cure() {
        let mut facts = BlockFacts {
            name: "pmem7".into(),
            disk: "pmem7".into(),
            partition: false,
            dax: false,
            namespace: Some("namespace7.0".into()),
            mode: Mode::Raw,
            physical: Some(0),
            bad: Vec::new(),
        };
        let text = not_mappable(&block(Some(facts.clone()))).unwrap();
        assert!(text.contains("raw mode"), "{text}");
        assert!(text.ends_with("ndctl create-namespace -f -e namespace7.0 -m fsdax -M mem -a 2M"));
        facts.mode = Mode::Sector;
        assert!(not_mappable(&block(Some(facts.clone())))
            .unwrap()
            .contains("sector mode"));
        facts.namespace = None;
        assert!(not_mappable(&block(Some(facts.clone())))
            .unwrap()
            .contains("no DAX"));
        facts.dax = true;
        assert_eq!(not_mappable(&block(Some(facts))), None);
        assert!(not_mappable(&block(None)).unwrap().contains("/sys"));
    }
}
