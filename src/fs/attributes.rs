// SPDX-License-Identifier: GPL-2.0

//! `stat`, `chmod`, `chown`, `utimensat`, `chattr`, and times of access.
//!
//! Hazard: access times come in while others write to the same inode, with no lock held: the
//! engine stores them as single words (see design.md, section 4, on times).

use super::{engine, failed, file, inner, namei, timestamp, Ochre};
use crate::{
    engine::filesystem::{SetAttributes, Times},
    testing::{self, Point},
    vfs::{
        attributes::{self, Changed, Details},
        inode::{Flags, Locked},
        rwsem::Exclusive,
        INode,
    },
};
use kernel::prelude::*;

/// Sectors of 512 bytes in a block.
const SECTORS: u64 = 8;

impl attributes::Operations for Ochre {
    fn details(inode: &INode<Self>) -> Details {
        let now = inner(inode).attributes();
        Details {
            btime: now.btime.0,
            sectors: now.blocks.saturating_mul(SECTORS),
            attributes: namei::statx_flags(now.flags),
            attributes_mask: attributes::ATTRIBUTE_IMMUTABLE
                | attributes::ATTRIBUTE_APPEND
                | attributes::ATTRIBUTE_NODUMP,
        }
    }

    fn store(inode: Locked<'_, INode<Self>>, changed: Changed) -> Result {
        let (uid, gid) = inode.owner();
        let times = inode.times();
        let set = SetAttributes {
            mode: changed.mode().then(|| inode.mode()),
            uid: changed.uid().then_some(uid),
            gid: changed.gid().then_some(gid),
            times: Times {
                atime: changed.atime().then(|| timestamp(times.atime)),
                mtime: changed.mtime().then(|| timestamp(times.mtime)),
                ctime: changed.ctime().then(|| timestamp(times.ctime)),
            },
            ..SetAttributes::default()
        };
        engine(&inode)
            .set_attributes(inner(&inode), &set)
            .map_err(|error| failed(inode.super_block(), error))
    }

    const FLAGS: u32 = namei::FLAGS;

    fn flags(inode: &INode<Self>) -> u32 {
        inner(inode).attributes().flags & Self::FLAGS
    }

    fn set_flags(inode: Locked<'_, INode<Self>>, flags: u32) -> Result<Flags> {
        // What a later version may have set stays.
        let flags = inner(&inode).attributes().flags & !Self::FLAGS | flags;
        let set = SetAttributes {
            flags: Some(flags),
            times: Times {
                ctime: Some(timestamp(inode.times().ctime)),
                ..Times::default()
            },
            ..SetAttributes::default()
        };
        engine(&inode)
            .set_attributes(inner(&inode), &set)
            .map_err(|error| failed(inode.super_block(), error))?;
        Ok(namei::vfs_flags(flags))
    }

    fn set_size(inode: &mut Exclusive<'_, Self>, size: u64) -> Result {
        file::set_size(inode, size)
    }

    fn store_times(inode: &INode<Self>, access: bool) -> Result {
        testing::pause(Point::TimesChosen);
        let times = || {
            let times = inode.times();
            let (access, change) = match access {
                true => (Some(times.atime), None),
                false => (None, Some((times.mtime, times.ctime))),
            };
            Times {
                atime: access.map(timestamp),
                mtime: change.map(|(mtime, _)| timestamp(mtime)),
                ctime: change.map(|(_, ctime)| timestamp(ctime)),
            }
        };
        engine(inode)
            .touch_with(inner(inode), times, false)
            .map_err(|error| failed(inode.super_block(), error))
    }
}
