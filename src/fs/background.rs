// SPDX-License-Identifier: GPL-2.0

//! What is finished while nobody waits for it: inodes whose pages somebody holds, and orphans.
//!
//! What: [`settle`](background::Operations::settle) drops the idle entries of an inode that would
//! have been evicted, or was closed, while a page of it was held, and what a truncate left behind
//! (see [`defer`]). [`work`](background::Operations::work)
//! finishes, one by one, the files that recovery found on the orphan table: mount takes no longer
//! with a terabyte of deleted files on it than without.
//!
//! Hazard: the orphan table is a list of numbers from the time of the mount. A file on it that has
//! a name (a truncate that was not finished) may have been opened, finished, deleted, and its
//! number given to a new file by the time that its turn comes. To load the number then would make
//! a second inode of the new file. So the inode cache is asked first, which shuts everyone else
//! out of this number, and only then the table: an orphan that was finished has given its slot back.
//!
//! Hazard: whoever looks for an inode that is being loaded, or evicted, waits for that, deaf to signals and with
//! the directory locked; a backup tool that has frozen the filesystem could neither read it nor thaw
//! it. So the thread waits for a thaw only while it has no such inode: it gives the half-made one up, or keeps the last
//! reference, and comes back.

use super::{defer, engine_of, failed, follow, layout, params, Ochre};
use crate::{
    engine::filesystem::Orphan,
    platform::log,
    testing::{self, Point},
    vfs::{
        background::{self, Settled},
        inode::Found,
        INode, SuperBlock,
    },
};
use kernel::prelude::*;

impl background::Operations for Ochre {
    fn settle(inode: &INode<Self>) -> Settled<'_> {
        match defer::settle(inode) {
            Settled::Done => {}
            other => return other,
        }
        let mut seen = defer::Seen::new();
        // Whoever has it open closes it again, and it comes back if it has to.
        let held = match inode.is_open() {
            true => None,
            false => layout::drop_entries(inode, &mut seen),
        };
        // Nothing, too: what was held at the last look may have gone by another way.
        seen.report(inode);
        if let Some(page) = held {
            return Settled::Held(page);
        }
        // The thread's reference may be the last: `drop_inode` would bring it back at once.
        let frozen = inode.nlink() == 0 && inode.super_block().try_start_internal_write().is_none();
        match frozen {
            true => Settled::Later,
            false => Settled::Done,
        }
    }

    fn work(sb: &SuperBlock<Self>) -> bool {
        // Not the super block's flag, which a remount clears only after it has told us.
        if engine_of(sb).is_read_only() {
            return false;
        }
        testing::pause(Point::Orphan);
        let orphan = engine_of(sb).next_orphan();
        // What cannot be read of the table has been said, and has turned the engine read-only.
        follow(sb);
        let Some(orphan) = orphan else {
            return false;
        };
        if let Err(error) = finish_orphan(sb, orphan) {
            log::warn(format_args!(
                "{}: orphan inode {}: {error:?}",
                sb.id(),
                orphan.ino.0
            ));
            // It stays on the medium's table, for the next mount.
            engine_of(sb).take_orphan(orphan);
        }
        true
    }
}

/// Finishes a truncate, or lets an inode without a name go: the last reference evicts it.
fn finish_orphan(sb: &SuperBlock<Ochre>, orphan: Orphan) -> Result {
    let engine = engine_of(sb);
    match sb.inode(orphan.ino.0)? {
        Found::New(new) => {
            let Some(write) = sb.try_start_internal_write() else {
                // Frozen. The next look at the table names it again, unless somebody was faster.
                drop(new);
                drop(sb.start_internal_write());
                return Ok(());
            };
            if engine.take_orphan(orphan) {
                let inode = engine
                    .iget_orphan(orphan.ino)
                    .map_err(|error| failed(sb, error))?;
                let params = params(engine, inode, None).inspect_err(|_| follow(sb))?;
                drop(write);
                drop(new.init(params));
            }
        }
        // Somebody was faster and finished it, unless that was while the mount was read-only.
        Found::Cached(inode) => {
            if engine.take_orphan(orphan) {
                sb.watch(&inode);
            }
        }
    }
    Ok(())
}
