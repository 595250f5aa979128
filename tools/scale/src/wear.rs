// SPDX-License-Identifier: GPL-2.0

//! The same work on filesystems of any size, ended in the ways whose mounts are compared.

use ochre::engine::error::{Error, Result};
use ochre::engine::filesystem::{Filesystem, Inode, NewInode, PublishArgs, Times};
use ochre::engine::media::Media;
use ochre::engine::types::{FileBlock, Timestamp, BLOCK_SIZE};

use crate::tree::{format, mount};
use crate::Sparse;

/// How a medium is left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Unmounted.
    Clean,
    /// Cut off in the middle of some hundred calls.
    Crashed,
    /// Cut off with 10,000 orphans, and each lane of the journal as full as it can be with records to replay.
    Full,
}

const TIME: Timestamp = Timestamp(1_700_000_000_000_000_000);

struct Worker<'a, M: Media> {
    fs: &'a Filesystem<M>,
    directories: Vec<Inode>,
    serial: u64,
}

impl<'a, M: Media> Worker<'a, M> {
    /// Starts with eight directories in the root: they lie in as many groups as there are, up to eight.
    fn new(fs: &'a Filesystem<M>) -> Result<Self> {
        let root = fs.iget(fs.root())?;
        let mut directories = Vec::new();
        for n in 0..8 {
            let name = format!("directory {n}");
            directories.push(fs.create(&root, name.as_bytes(), &new_inode(0o040755))?);
        }
        Ok(Self {
            fs,
            directories,
            serial: 0,
        })
    }

    /// One file of one block; `orphan`: it loses its name again, as one that is open.
    fn file(&mut self, orphan: bool) -> Result {
        let directory = &self.directories[self.serial as usize % 8];
        let name = format!("file {}", self.serial);
        self.serial += 1;
        let inode = self
            .fs
            .create(directory, name.as_bytes(), &new_inode(0o100644))?;
        let reservation = self.fs.reserve_write(&inode, FileBlock(0), 1, BLOCK_SIZE)?;
        let args = PublishArgs {
            new_size: Some(100),
            times: Times::default(),
        };
        self.fs.publish(&inode, reservation, 1, &args)?;
        if orphan {
            return self.fs.unlink(directory, name.as_bytes(), &inode, TIME);
        }
        self.fs.evict(&inode)
    }
}

fn new_inode(mode: u16) -> NewInode<'static> {
    NewInode::new(mode, TIME)
}

/// A medium of `size` bytes with a filesystem that did its work and was left in this state.
///
/// # Errors
///
/// Those of the filesystem.
pub fn worn(size: u64, state: State) -> Result<Sparse> {
    let media = Sparse::new(size);
    format(&media, 1)?;
    let fs = mount(media.clone())?;
    let mut worker = Worker::new(&fs)?;
    let orphans = match state {
        State::Full => 10_000,
        State::Clean | State::Crashed => 100,
    };
    for n in 0..2 * orphans {
        worker.file(n % 2 == 0)?;
    }
    if state == State::Clean {
        fs.unmount()?;
        return Ok(media);
    }
    // From here on no checkpoint moves, or there would be less to replay on one size than on the other.
    fs.freeze()?;
    let checkpoint = fs.volume().durable_checkpoint();
    let lanes = match state {
        State::Full => fs.volume().geometry().lanes as usize,
        State::Clean | State::Crashed => 1,
    };
    for lane in 0..lanes {
        ochre::platform::set_current_cpu(lane);
        for _ in 0..if state == State::Full { 300 } else { 100 } {
            worker.file(false)?;
        }
    }
    ochre::platform::set_current_cpu(0);
    if fs.volume().durable_checkpoint() != checkpoint {
        return Err(Error::Invalid);
    }
    Ok(media)
}
