// SPDX-License-Identifier: GPL-2.0

//! Mounting, unmounting, and what concerns the whole.
//!
//! What: opens the device's memory, mounts the engine on it, and shows the root. Each way in which
//! a mount can fail has one message, with the name of the device.
//!
//! Orphans (files that were deleted while open when the machine went down) are finished in the
//! background: see [`background`](super::background).
//!
//! Hazard: the engine turns itself read-only when it meets damage. The VFS must learn of it, or
//! programs would go on opening files for writing and fail at the first write. [`remounted`] says
//! what may go back.

use super::debugfs::Counters;
use super::{engine_of, errno, failed, follow, iget, options, Mount, Ochre};
use crate::{
    engine::{
        filesystem::{Filesystem, MountOptions},
        types, Error as EngineError,
    },
    media::DaxMedia,
    platform::log,
    vfs::{
        fs_context::{self, Log, Parameter, Value},
        super_block::{self, New, Params, Statfs},
        INode, SuperBlock,
    },
};
use core::sync::atomic::{AtomicU8, Ordering};
use kernel::{prelude::*, seq_file::SeqFile, seq_print, sync::aref::ARef};

/// `statfs` magic: "Ochr".
const MAGIC: u32 = 0x4f63_6872;

/// Largest file for the VFS: whole blocks, so that the last page of such a file has one behind it.
const MAX_BYTES: i64 = (types::MAX_FILE_SIZE & !(types::BLOCK_SIZE - 1)) as i64;

/// Seconds that fit into 64 bits of nanoseconds.
const TIME_RANGE: (i64, i64) = (i64::MIN / 1_000_000_000, i64::MAX / 1_000_000_000);

impl fs_context::Operations for Ochre {
    const PARAMETERS: &'static [Parameter] = options::PARAMETERS;

    fn parse(options: &mut options::Options, token: u8, value: Value<'_>, log: &Log<'_>) -> Result {
        options::parse(options, token, value, log)
    }

    fn fill(
        mut new: New<'_, Self>,
        options: &options::Options,
        log: &Log<'_>,
    ) -> Result<ARef<INode<Self>>> {
        let device = new.open_dax(log)?;
        let media = DaxMedia::new(device).map_err(errno)?;
        let read_only = new.is_read_only();
        // Features that allow reading only are not worth failing for when nothing else was said.
        let engine = match Filesystem::mount(media, &MountOptions { read_only }) {
            Ok(engine) => engine,
            Err(error) => {
                explain(&error, log);
                return Err(errno(error));
            }
        };
        if engine.is_read_only() && !read_only {
            log.warn(format_args!("mounted read-only"));
            new.set_read_only();
        }
        let params = Params {
            magic: MAGIC,
            max_bytes: MAX_BYTES,
            max_links: types::MAX_LINKS,
            time_range: TIME_RANGE,
            uuid: engine.uuid(),
        };
        let root = engine.root();
        let layout = options.layout.unwrap_or(options::Layout::DEFAULT);
        let counters = Counters::new()?;
        let mount = Mount {
            engine,
            _debugfs: counters.show(new.id()).ok(),
            counters,
            layout: AtomicU8::new(layout as u8),
        };
        let sb = new.init(params, KBox::new(mount, GFP_KERNEL)?)?;
        let root = iget(sb, root).inspect_err(|error| {
            log.error(format_args!("cannot read the root directory: {error:?}"));
        })?;
        if !root.is_directory() {
            log.error(format_args!("the root is no directory"));
            return Err(EINVAL);
        }
        Ok(root)
    }

    fn reconfigure(
        sb: &SuperBlock<Self>,
        options: &options::Options,
        read_only: bool,
        log: &Log<'_>,
    ) -> Result {
        let changes = read_only != sb.is_read_only();
        if changes {
            remounted(sb, read_only, log)?;
        }
        // What was refused has changed nothing.
        if let Some(layout) = options.layout {
            sb.data().layout.store(layout as u8, Ordering::Relaxed);
        }
        if changes && !read_only {
            sb.work();
        }
        Ok(())
    }
}

fn remounted(sb: &SuperBlock<Ochre>, read_only: bool, log: &Log<'_>) -> Result {
    engine_of(sb).remount(read_only).map_err(|error| {
        if error == EngineError::ReadOnly {
            log.error(format_args!(
                "stays read-only: damage was found, or features that this version can only read; \
                 unmount and run fsck.ochre"
            ));
        } else {
            log.error(format_args!(
                "cannot change to read-{}: {error}",
                if read_only { "only" } else { "write" }
            ));
        }
        failed(sb, error)
    })
}

/// Says why the engine did not mount.
fn explain(error: &EngineError, log: &Log<'_>) {
    match error {
        EngineError::NoMemory => {}
        EngineError::WrongType => {
            log.error(format_args!("{error} (mkfs.ochre makes one)"));
        }
        _ => log.error(format_args!("{error}")),
    }
}

impl super_block::Operations for Ochre {
    fn put(data: KBox<Mount>) {
        if let Err(error) = data.engine.unmount() {
            log::error(format_args!(
                "unmount: {error}; the journal will be replayed at the next mount"
            ));
        }
    }

    fn sync(sb: &SuperBlock<Self>, wait: bool) -> Result {
        // What system calls did is durable already, except on asynchronous devices; without
        // `wait` there is nothing to start.
        if !wait || sb.is_read_only() {
            return Ok(());
        }
        engine_of(sb).sync().map_err(|error| failed(sb, error))
    }

    fn freeze(sb: &SuperBlock<Self>) -> Result {
        if sb.is_read_only() {
            return Ok(());
        }
        engine_of(sb).freeze().map_err(|error| failed(sb, error))
    }

    fn thaw(_sb: &SuperBlock<Self>) -> Result {
        Ok(())
    }

    fn statfs(sb: &SuperBlock<Self>) -> Result<Statfs> {
        let statfs = engine_of(sb).statfs();
        follow(sb);
        Ok(Statfs {
            blocks: statfs.blocks,
            free: statfs.free,
            available: statfs.available,
            inodes: statfs.inodes,
            free_inodes: statfs.free_inodes,
            uuid: statfs.uuid,
            name_max: types::MAX_NAME as u32,
        })
    }

    fn show_options(sb: &SuperBlock<Self>, out: &SeqFile) {
        seq_print!(
            out,
            ",dax=always,layout={}",
            super::defer::policy(sb).name()
        );
    }

    fn evict(inode: &INode<Self>) {
        let sb = inode.super_block();
        // In memory only: a freeze is nothing to it.
        super::engine(inode).leave_window(super::inner(inode));
        // An inode with names has little to give back, and memory reclaim comes here too, which a
        // frozen filesystem must not hold up. One without names has to wait.
        let _write = if inode.nlink() > 0 {
            match sb.try_start_internal_write() {
                Some(write) => write,
                None => return,
            }
        } else {
            sb.start_internal_write()
        };
        // An error leaves the inode on the orphan list: the next mount tries again.
        if let Err(error) = super::engine(inode).evict(super::inner(inode)) {
            let _ = failed(sb, error);
            log::warn(format_args!(
                "{}: inode {} cannot be freed now: {error}",
                sb.id(),
                inode.ino()
            ));
        }
    }
}
