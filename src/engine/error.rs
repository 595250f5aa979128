// SPDX-License-Identifier: GPL-2.0

//! What can go wrong, and the one place where it becomes an errno.

use crate::platform::AllocError;

/// A structure of the medium that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// Structure and fault, as in "directory leaf checksum".
    pub what: &'static str,
    /// Byte address on the device.
    pub address: u64,
}

impl core::fmt::Display for Corruption {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} at byte {:#x}", self.what, self.address)
    }
}

/// Why an operation of the engine failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such name.
    NotFound,
    /// The name exists.
    Exists,
    /// Not a directory.
    NotDirectory,
    /// A directory where none may be.
    IsDirectory,
    /// The directory has entries.
    NotEmpty,
    /// No free block, inode or orphan slot.
    NoSpace,
    /// No memory.
    NoMemory,
    /// A name, or a symbolic link's target, is too long.
    NameTooLong,
    /// The inode has as many links as it can have.
    TooManyLinks,
    /// The filesystem is mounted read-only, or became so after damage.
    ReadOnly,
    /// Mount: the journal has to be replayed, and the medium is write-protected.
    WriteProtected,
    /// The handle's inode is gone.
    Stale,
    /// The medium holds something that it must not hold.
    Corrupt(Corruption),
    /// The medium is too short for an access, or an asynchronous device did not flush.
    Io,
    /// The bytes at this address cannot be read: a memory failure, or a bad block.
    Unreadable(u64),
    /// A block of a file is lost. The rest of the file and of the filesystem are well.
    Poisoned,
    /// Past the largest file size.
    FileTooBig,
    /// An argument makes no sense.
    Invalid,
    /// Wait or take a smaller bite, then try again.
    Again,
    /// Ochre does not do this.
    Unsupported,
    /// The operation is not permitted on this inode (immutable, append-only).
    NotPermitted,
    /// One transaction cannot hold this much; the caller splits the work.
    TooLarge,
    /// Mount: no Ochre filesystem here.
    WrongType,
    /// Mount: the superblock is of a version that this code does not know.
    WrongVersion(u32),
    /// Mount: incompatible features that this code does not know.
    UnknownFeatures(u64),
    /// Mount: a repair was begun and not finished.
    UnfinishedRepair,
    /// Mount for writing: features that only permit reading.
    UnknownReadOnlyFeatures(u64),
    /// Mount: the filesystem has more blocks than the device.
    DeviceTooSmall {
        /// Blocks of the filesystem.
        filesystem: u64,
        /// Blocks of the device.
        device: u64,
    },
    /// Mkfs: fewer bytes than the smallest filesystem needs.
    TooSmall {
        /// Bytes of the device.
        size: u64,
        /// The least that is possible.
        minimum: u64,
    },
    /// Mkfs: more bytes than addresses in the journal reach.
    TooBig {
        /// Bytes of the device.
        size: u64,
        /// The most that is possible.
        maximum: u64,
    },
}

/// The engine's result.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

impl Error {
    /// Damage of `what` at byte `address`.
    pub const fn corrupt(what: &'static str, address: u64) -> Self {
        Self::Corrupt(Corruption { what, address })
    }

    /// The medium is not what it has to be: nothing is written to it any more.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt(_) | Self::Io | Self::Unreadable(_))
    }

    /// The positive Linux errno.
    pub const fn errno(&self) -> i32 {
        match self {
            Self::NotPermitted => 1,
            Self::NotFound => 2,
            Self::Io | Self::Unreadable(_) | Self::Poisoned => 5,
            Self::Again => 11,
            Self::NoMemory => 12,
            Self::Exists => 17,
            Self::NotDirectory => 20,
            Self::IsDirectory => 21,
            Self::Invalid
            | Self::WrongType
            | Self::WrongVersion(_)
            | Self::UnknownFeatures(_)
            | Self::DeviceTooSmall { .. }
            | Self::TooSmall { .. }
            | Self::TooBig { .. } => 22,
            Self::FileTooBig => 27,
            Self::NoSpace | Self::TooLarge => 28,
            Self::ReadOnly | Self::WriteProtected | Self::UnknownReadOnlyFeatures(_) => 30,
            Self::TooManyLinks => 31,
            Self::NameTooLong => 36,
            Self::NotEmpty => 39,
            Self::Unsupported => 95,
            Self::Stale => 116,
            Self::Corrupt(_) | Self::UnfinishedRepair => 117,
        }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotFound => "no such file or directory",
            Self::Exists => "file exists",
            Self::NotDirectory => "not a directory",
            Self::IsDirectory => "is a directory",
            Self::NotEmpty => "directory not empty",
            Self::NoSpace => "no space left on device",
            Self::NoMemory => "out of memory",
            Self::NameTooLong => "name too long",
            Self::TooManyLinks => "too many links",
            Self::ReadOnly => "read-only file system",
            Self::WriteProtected => {
                "it was not unmounted and its journal has to be replayed, but the device is write-protected: \
                 make it writable (blockdev --setrw) and mount it once, or mount a copy"
            }
            Self::Stale => "stale file handle",
            Self::Corrupt(c) => return write!(f, "damaged: {c}"),
            Self::Io => "input/output error",
            Self::Unreadable(address) => return write!(f, "memory failure: cannot read byte {address:#x} of the device"),
            Self::Poisoned => "memory failure in a block of the file",
            Self::FileTooBig => "file too large",
            Self::Invalid => "invalid argument",
            Self::Again => "resource temporarily unavailable",
            Self::Unsupported => "operation not supported",
            Self::NotPermitted => "operation not permitted",
            Self::TooLarge => "too much for one transaction",
            Self::WrongType => "not an Ochre filesystem",
            Self::WrongVersion(v) => return write!(f, "format version {v} is not known to this version of Ochre"),
            Self::UnknownFeatures(bits) => return write!(f, "incompatible features {bits:#x} are not known to this version of Ochre"),
            Self::UnfinishedRepair => "a repair of it was not finished; run fsck.ochre",
            Self::UnknownReadOnlyFeatures(bits) => {
                return write!(f, "features {bits:#x} are not known to this version of Ochre: it can be mounted read-only only");
            }
            Self::DeviceTooSmall { filesystem, device } => {
                return write!(f, "the filesystem has {filesystem} blocks of 4 KiB, the device only {device}");
            }
            Self::TooSmall { size, minimum } => return write!(f, "{size} bytes are too few: at least {minimum} are needed"),
            Self::TooBig { size, maximum } => return write!(f, "{size} bytes are too many: at most {maximum} can be used"),
        })
    }
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        Self::NoMemory
    }
}
