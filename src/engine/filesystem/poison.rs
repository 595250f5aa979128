// SPDX-License-Identifier: GPL-2.0

//! Files with lost blocks.
//!
//! What: a block of a file that was hit by a memory failure cannot be read, and nothing is stored to it. Who maps, reads or
//! writes a file asks [`Filesystem::condition`] how far its mapping is good. A write of the whole block gets a new block, which
//! takes the lost one's place when it is published ([`WriteKind::Replace`]); so does a write to a block that was lost before
//! anything was written to it. The lost block is freed, like any other that leaves a file, but not handed out again.
//!
//! Why the new block is published like a write into a hole: until its bytes are durable the file keeps the lost block, so that
//! a crash in between leaves an error, and not zeros that nobody wrote.

use crate::engine::error::{Error, Result};
use crate::engine::filesystem::data::{Mapping, MappingState, WriteKind, WriteReservation};
use crate::engine::filesystem::Filesystem;
use crate::engine::inode::Inode;
use crate::engine::media::{About, Media};
use crate::engine::poison::Condition;
use crate::engine::types::{FileBlock, Ino, Run};
use crate::engine::volume::Lost;
use crate::platform::log;

/// Says at mount what is lost already.
pub(super) fn report<M: Media>(media: &M) {
    let lost = media.poison().map_or(0, |poison| poison.blocks());
    if lost > 0 {
        log::warn(format_args!(
            "{}{lost} blocks of 4 KiB are lost (bad blocks of the device, memory failures): files that they belong to give \
             errors there",
            About(media)
        ));
    }
}

impl<M: Media> Filesystem<M> {
    /// Notes that blocks were lost, says so in the log, and sees to it that they are not handed out any more. `page`: which
    /// block of which inode the first one is, if that is known.
    ///
    /// Lost metadata turns the filesystem read-only, and so does more that is lost than can be noted.
    pub fn lose(&self, run: Run, page: Option<(Ino, FileBlock)>) -> Result<()> {
        let lost = self.volume().lose(run);
        if lost == Ok(Lost::Known) {
            return Ok(());
        }
        let about = About(self.media());
        let (first, name) = (run.start, self.media().name());
        match page {
            Some((ino, at)) => log::error(format_args!(
                "{about}memory failure: block {first} is lost, which is block {} of inode {ino}; `ochre owner /dev/{name} \
                 block {first}` names the file",
                at.0
            )),
            None => log::error(format_args!(
                "{about}memory failure: {} blocks from block {first} on are lost; `ochre owner /dev/{name} block {first}` \
                 tells what they hold",
                run.len
            )),
        }
        lost.map(|_| ())
    }

    /// How far the blocks of a mapping are good, or how many of them, from the first on, are lost. A hole is good.
    #[inline]
    pub fn condition(&self, mapping: &Mapping) -> Result<Condition> {
        let (MappingState::Written(start) | MappingState::Unwritten(start)) = mapping.state else {
            return Ok(Condition::Intact(mapping.len));
        };
        let run = Run {
            start,
            len: mapping.len,
        };
        self.volume().condition(run)
    }

    /// Reserves blocks to take the place of lost ones.
    pub(super) fn reserve_in_place_of(
        &self,
        inode: &Inode,
        lost: &Mapping,
    ) -> Result<WriteReservation> {
        if lost.state == MappingState::Hole {
            return Err(Error::Invalid);
        }
        let run = self.reserve_run(inode, None, lost.start, lost.len)?;
        Ok(WriteReservation {
            start: lost.start,
            len: run.len,
            block: run.start,
            kind: WriteKind::Replace,
        })
    }
}
