// SPDX-License-Identifier: GPL-2.0

//! A volume: a medium with its superblock, keys, journal and allocator. All that transactions need.
//!
//! Opening one finds the superblock, repeats the journal if the volume was not closed, and marks it dirty before the first
//! change. It reads no group and no orphan, and allocates next to nothing for them, so that it takes no longer for a large
//! volume than for a small one; `tools/sim/tests/mount_cost.rs` holds it to that. Damage found later turns the volume read-only ([`Volume::fail`]): what is in memory may be wrong, so nothing
//! more is written from it.

mod poison;

use super::alloc::ag::Ag;
use super::alloc::chunks::record_offset;
use super::alloc::orphans::Orphan;
use super::alloc::policy::Purpose;
use super::alloc::slots::Effort;
use super::alloc::{AllocRequest, Allocator, Usage, Window};
use super::checksum::{Domain, Keys};
use super::directory::NameHash;
use super::error::{Error, Result};
use super::format::journal::Head;
use super::format::node::{BlockHeader, CHECKSUM_OFFSET};
use super::format::superblock::{CLEAN, DIRTY, RO_COMPAT, STATE_OFFSET};
use super::journal::{check_header, read_checkpoint, Journal};
use super::media::{About, Media};
use super::mutant::Mutant;
use super::recovery;
use super::superblock::{Geometry, SuperInfo};
use super::transaction::{Transaction, Workspace};
use super::types::*;
use super::verify::content::Rules;
use super::verify::{self, Expected};
use crate::platform::atomic::{AtomicBool, Ordering};
use crate::platform::{current_cpu, lock_class, log, yield_now, Box, Lender, Lent, SpinLock, Vec};

pub use poison::Lost;

/// A medium that holds a filesystem.
pub struct Volume<M: Media> {
    media: M,
    info: SuperInfo,
    keys: Keys,
    journal: Journal,
    alloc: Allocator,
    pool: Vec<SpinLock<Option<Box<Workspace>>>>,
    read_only: AtomicBool,
    failed: AtomicBool,
    /// What recovery did when this was opened.
    recovered: recovery::Summary,
}

impl<M: Media> Volume<M> {
    /// Opens a volume. Repeats the journal if it was not closed, also for `read_only`, in which case nothing else is
    /// written. A medium that is write-protected can be opened only `read_only` (`ReadOnly`), and only if no record is to be
    /// repeated (`WriteProtected`).
    pub fn open(media: M, read_only: bool) -> Result<Self> {
        let info = poison::load_superblock(&media)?;
        if media.is_write_protected() && !read_only {
            return Err(Error::ReadOnly);
        }
        if info.from_backup {
            log::warn(format_args!(
                "{}superblock is damaged: using the copy in block {}",
                About(&media),
                info.geometry.blocks - 1
            ));
        }
        if info.repairing() {
            return Err(Error::UnfinishedRepair);
        }
        let unknown = info.features[1] & !RO_COMPAT;
        if unknown != 0 && !read_only {
            return Err(Error::UnknownReadOnlyFeatures(unknown));
        }
        if media.phase() != info.phase {
            log::warn(format_args!(
                "{}made for a device at {:#x} modulo 2 MiB, this one is at {:#x}: no huge pages",
                About(&media),
                info.phase,
                media.phase()
            ));
        }
        let keys = Keys::new(info.secret)?;
        check_header(&media, &info, &keys)?;
        let (checkpoint, slot, recovered) = if info.clean {
            let (checkpoint, slot) = read_checkpoint(&media, &info.geometry, &keys)?;
            (checkpoint, slot, recovery::Summary::default())
        } else {
            recovery::run(&media, &info, &keys)?
        };
        let mut pool = Vec::with_capacity(info.geometry.lanes as usize)?;
        for _ in 0..info.geometry.lanes {
            pool.push(SpinLock::new(None, lock_class!("ochre_pool"))?)?;
        }
        let volume = Self {
            journal: Journal::new(info.geometry, checkpoint, slot)?,
            alloc: Allocator::new(&info)?,
            media,
            info,
            keys,
            pool,
            read_only: AtomicBool::new(read_only),
            failed: AtomicBool::new(false),
            recovered,
        };
        volume.check_fixed();
        if !volume.is_read_only() {
            if info.from_backup {
                volume.restore_primary();
            }
            volume.mark_dirty()?;
        }
        Ok(volume)
    }

    /// Writes the primary superblock anew from what the copy said.
    fn restore_primary(&self) {
        if self.has_lost_superblock() {
            return;
        }
        use zerocopy::IntoBytes;
        let sb = SuperInfo {
            clean: false,
            ..self.info
        }
        .to_disk();
        self.media.store_through(0, sb.as_bytes());
        self.media.fence();
    }

    /// The medium.
    pub fn media(&self) -> &M {
        &self.media
    }

    /// What the superblock says.
    pub fn info(&self) -> &SuperInfo {
        &self.info
    }

    /// Where everything lies.
    pub fn geometry(&self) -> &Geometry {
        &self.info.geometry
    }

    /// The keys of all checksums.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What recovery did when this volume was opened.
    pub fn recovered(&self) -> recovery::Summary {
        self.recovered
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    // State.

    fn set_state(&self, state: u64) -> Result {
        if self.has_lost_superblock() {
            return Ok(());
        }
        self.media.store_u64(STATE_OFFSET, state);
        self.media.write_back(STATE_OFFSET, 8);
        self.media.fence();
        self.media.sync_device()
    }

    /// Before the first change after a clean close.
    pub fn mark_dirty(&self) -> Result {
        self.set_state(DIRTY)
    }

    /// Everything is in place: the next mount needs no recovery. No transaction may run.
    pub fn mark_clean(&self) -> Result {
        if self.recovered.ran {
            let settled = self
                .alloc
                .settle_counts(&self.media, &self.info, &self.keys);
            // The group that is damaged stays as it is, and the volume dirty.
            settled.inspect_err(|error| {
                if *error != Error::NoMemory {
                    self.fail(error);
                }
            })?;
            self.media.drain();
        }
        self.checkpoint()?;
        if self.failed() {
            return Ok(());
        }
        self.set_state(CLEAN)
    }

    /// Closes a volume that is about to go. Nothing is written if it is read-only.
    pub fn close(&self) -> Result {
        if self.read_only.load(Ordering::Relaxed) || self.failed() {
            return Ok(());
        }
        self.mark_clean()
    }

    /// Whether changes are refused.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed) || self.failed()
    }

    /// `UnknownReadOnlyFeatures` if this code may read the volume but not write it, `ReadOnly` if the medium is protected.
    pub fn check_writable(&self) -> Result {
        if self.media.is_write_protected() {
            return Err(Error::ReadOnly);
        }
        match self.info.features[1] & !RO_COMPAT {
            0 => Ok(()),
            unknown => Err(Error::UnknownReadOnlyFeatures(unknown)),
        }
    }

    /// For remount.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
    }

    /// Whether damage turned this volume read-only.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Says what is damaged, once, and turns the volume read-only.
    pub fn fail(&self, error: &Error) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            let about = About(&self.media);
            log::error(format_args!(
                "{about}{error}; the filesystem is read-only now"
            ));
        }
    }

    /// [`Self::fail`] if the result is an error.
    pub(super) fn check(&self, result: Result) {
        if let Err(error) = result {
            self.fail(&error);
        }
    }

    // The journal.

    /// Starts a transaction.
    pub fn begin(&self, purpose: Purpose) -> Result<Transaction<'_, M>> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let pooled = self.pool_slot().and_then(|slot| slot.lock().take());
        let work = match pooled {
            Some(work) => work,
            None => Box::new(Workspace::default())?,
        };
        Transaction::new(self, Lent::new(work, self), purpose)
    }

    fn pool_slot(&self) -> Option<&SpinLock<Option<Box<Workspace>>>> {
        self.pool
            .get(current_cpu() & self.pool.len().wrapping_sub(1))
    }

    /// Moves the checkpoint past all that was committed before, and so releases quarantined blocks. May sleep.
    pub fn checkpoint(&self) -> Result {
        let result = self.journal.checkpoint(&self.media, &self.keys, || {
            self.alloc.store_counts(&self.media)
        });
        self.checkpointed(result)
    }

    /// As [`Self::checkpoint`], called by a commit that finds its lane full.
    pub(super) fn make_room(&self) {
        let counts = || self.alloc.store_counts(&self.media);
        let result = if self.media.is_synchronous() {
            self.journal.checkpoint(&self.media, &self.keys, counts)
        } else {
            self.journal
                .checkpoint_exclusive(&self.media, &self.keys, counts)
        };
        let result = self.checkpointed(result);
        self.check(result);
    }

    fn checkpointed(&self, result: Result<Seq>) -> Result {
        let seq = result.inspect_err(|error| self.fail(error))?;
        self.alloc
            .release_quarantine(&self.media, &self.info.geometry, seq);
        Ok(())
    }

    /// Everything below this number is in place and will not be replayed.
    pub fn durable_checkpoint(&self) -> Seq {
        self.journal.durable()
    }

    /// The number that the next transaction gets.
    pub fn next_seq(&self) -> Seq {
        self.journal.next()
    }

    // Groups and allocation.

    /// Group `agno`, read if need be.
    pub fn group(&self, agno: u32) -> Result<&Ag> {
        self.alloc.group(&self.media, &self.info, &self.keys, agno)
    }

    /// How full the volume is.
    pub fn usage(&self) -> Result<Usage> {
        self.alloc.usage(&self.media, &self.info, &self.keys)
    }

    /// Takes blocks for data in memory. The quarantine is emptied and owned slots are broken before `NoSpace` is said.
    pub(super) fn take_data(&self, request: &AllocRequest) -> Result<(Run, Window)> {
        let take = |last| {
            self.alloc
                .take_data(&self.media, &self.info, &self.keys, request, last)
        };
        match take(false) {
            Err(Error::NoSpace) => {}
            other => return other,
        }
        if !self.alloc.quarantine.is_empty() {
            self.checkpoint()?;
            match take(false) {
                Err(Error::NoSpace) => {}
                other => return other,
            }
        }
        take(true)
    }

    /// As [`Self::take_data`], for metadata.
    pub(super) fn take_metadata(&self, agno: u32, count: u64, purpose: Purpose) -> Result<Run> {
        let take = || {
            self.alloc
                .take_metadata(&self.media, &self.info, &self.keys, agno, count, purpose)
        };
        match take() {
            Err(Error::NoSpace) if !self.alloc.quarantine.is_empty() => {
                self.checkpoint()?;
                take()
            }
            other => other,
        }
    }

    /// Takes `count` aligned blocks of one group for metadata.
    pub(super) fn take_metadata_in(&self, ag: &Ag, count: u64, purpose: Purpose) -> Result<Run> {
        let left = super::alloc::policy::left_over(ag.blocks, purpose, true);
        let mut s = ag.state.lock();
        if s.map.free().saturating_sub(left) < count {
            return Err(Error::NoSpace);
        }
        let at = s
            .map
            .find_small(count, count, 1, Effort::Broken)
            .ok_or(Error::NoSpace)?;
        s.map.take(at, count);
        Ok(Run {
            start: ag.base.plus(at),
            len: count,
        })
    }

    /// Reserves blocks for data that is to be written before a transaction publishes it. Gives them back when dropped.
    pub fn reserve(&self, request: &AllocRequest) -> Result<Reservation<'_, M>> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let (run, window) = self.take_data(request)?;
        Ok(Reservation {
            volume: self,
            run,
            window,
        })
    }

    /// Gives back blocks that were reserved, or detached from a [`Reservation`], and not published.
    pub fn release(&self, run: Run) {
        if run.len > 0 {
            self.alloc.give(&self.media, &self.info.geometry, run);
        }
    }

    /// Gives up a file's window, when the file is closed or goes out of the cache.
    pub fn release_window(&self, window: Window, owner: Ino) {
        self.alloc
            .release_window(&self.info.geometry, window, owner);
    }

    pub(super) fn reserve_quarantine(&self) -> Result {
        for _ in 0..16 {
            if self.alloc.quarantine.reserve() {
                return Ok(());
            }
            self.checkpoint()?;
            yield_now();
        }
        Err(Error::NoMemory)
    }

    /// Whether a checkpoint would make blocks available.
    pub(super) fn has_quarantine(&self) -> bool {
        !self.alloc.quarantine.is_empty()
    }

    pub(super) fn unreserve_quarantine(&self, n: usize) {
        if n > 0 {
            self.alloc.quarantine.unreserve(n);
        }
    }

    pub(super) fn give_inode(&self, ino: Ino) {
        if let Some(ag) = self.alloc.loaded(ino.ag()) {
            ag.state.lock().chunks.give(ino.chunk(), ino.slot());
        }
    }

    pub(super) fn take_orphan_slot(&self) -> Result<u32> {
        self.alloc
            .orphans
            .take(&self.media, &self.info.geometry)
            .inspect_err(|error| {
                if *error == Error::NoSpace {
                    log::warn(format_args!(
                        "{}the orphan table is full",
                        About(&self.media)
                    ));
                }
            })
    }

    pub(super) fn know_orphan_slot(&self, slot: u32) -> Result {
        self.alloc
            .orphans
            .know(&self.media, &self.info.geometry, slot)
    }

    pub(super) fn give_orphan_slot(&self, slot: u32) {
        self.alloc.orphans.give(slot);
    }

    /// The next orphan that stood in the table when the volume was opened and was not dealt with since.
    pub(super) fn next_orphan(&self) -> Result<Option<Orphan>> {
        self.alloc
            .orphans
            .next_left(&self.media, &self.info.geometry)
    }

    /// Takes an orphan of [`Self::next_orphan`]; false: it was dealt with meanwhile.
    pub(super) fn take_orphan(&self, orphan: Orphan) -> bool {
        self.alloc.orphans.take_left(orphan.slot())
    }

    /// Lets [`Self::next_orphan`] name an orphan once more.
    pub(super) fn leave_orphan(&self, orphan: Orphan) {
        self.alloc.orphans.leave(orphan.slot());
    }

    /// Entries of the orphan table.
    pub fn orphan_count(&self) -> u32 {
        self.info.geometry.orphan_slots
    }

    /// The inode in an entry of the orphan table, or [`Ino::NONE`].
    pub fn orphan_at(&self, slot: u32) -> Result<Ino> {
        if slot >= self.orphan_count() {
            return Err(Error::Invalid);
        }
        Ok(Ino(self
            .media
            .read_u64(self.info.geometry.orphan_slot(slot))?))
    }

    /// Where the record of a used inode lies. `Stale` if the number is not in use: this is looked up in the chunk map, for
    /// the bytes at a place that only arithmetic gives could be a user's that imitate a record.
    pub fn inode_address(&self, ino: Ino) -> Result<u64> {
        if ino.0 <= 1 && ino != Ino::ROOT || ino.ag() >= self.info.geometry.ag_count {
            return Err(Error::Stale);
        }
        let ag = self.group(ino.ag())?;
        if Mutant::TrustNumber.active() {
            return Ok(ag.base.address() + record_offset(ino.chunk() * 4, ino.slot()));
        }
        let offset = ag.state.lock().chunks.locate(ino).ok_or(Error::Stale)?;
        Ok(ag.base.address() + offset)
    }

    // Verification.

    pub(super) fn set_verified(&self, block: Block, yes: bool) {
        if let Some((agno, relative)) = self.info.geometry.locate(block) {
            if let Some(ag) = self.alloc.loaded(agno) {
                ag.set_verified(relative, yes);
            }
        }
    }

    /// Checks a metadata block: its header always, its sum at the first use in this mount. The block may not change
    /// meanwhile, and not be changed by the caller's own open transaction (use [`Transaction::verify_node`] there).
    pub fn verify_node(&self, block: Block, expected: &Expected) -> Result {
        self.verify_within(block, expected, None)
    }

    /// As [`Self::verify_node`]; at the first use the content of a tree's node is judged as well, which may hold the given
    /// keys, from and below.
    pub fn verify_within(
        &self,
        block: Block,
        expected: &Expected,
        keys: Option<(u64, u64)>,
    ) -> Result {
        let fault = Error::corrupt("metadata block number", block.address());
        let run = Run {
            start: block,
            len: 1,
        };
        let (agno, relative) = self.info.geometry.locate_run(run).ok_or(fault)?;
        let ag = self.group(agno)?;
        let verified = ag.is_verified(relative);
        if verified {
            // The sum was right, so only the pointer that led here can be wrong.
            let magic = self.media.read_u64(block.address())? & 0xffff_ffff;
            let owner = self
                .media
                .read_u64(block.address() + core::mem::offset_of!(BlockHeader, owner) as u64)?;
            if magic == u64::from(expected.magic) && owner == expected.owner.0 {
                return Ok(());
            }
        }
        let mut bytes = [0u8; 64];
        self.media.read(block.address(), &mut bytes)?;
        let header: BlockHeader = zerocopy::transmute!(bytes);
        // What is summed up already can differ from the header only in the sum, which an open transaction changes later.
        verify::header(&header, block, &self.info.uuid, expected)?;
        if verified {
            return Ok(());
        }
        self.verify_content(block, expected, keys)?;
        if !ag.all_used(relative, 1) {
            return Err(Error::corrupt(
                "metadata block that is marked as free",
                block.address(),
            ));
        }
        ag.set_verified(relative, true);
        Ok(())
    }

    /// The part of [`Self::verify_within`] that looks at the whole block.
    #[cold]
    fn verify_content(
        &self,
        block: Block,
        expected: &Expected,
        keys: Option<(u64, u64)>,
    ) -> Result {
        let mut bytes = Vec::new();
        bytes.resize(usize_of(BLOCK_SIZE), 0u8)?;
        self.media.read(block.address(), &mut bytes)?;
        let at = CHECKSUM_OFFSET as usize;
        let told = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
        if told.map(u64::from_le_bytes) != Some(self.keys.object(Domain::Node, &bytes, at)) {
            return Err(Error::corrupt(expected.checksum_fault(), block.address()));
        }
        let Some(keys) = keys else { return Ok(()) };
        match self.judge(|rules| rules.node(expected.magic, &bytes, block, keys)) {
            Some(fault) => Err(Error::corrupt(fault, block.address())),
            None => Ok(()),
        }
    }

    /// Whether the inline extents of a record make sense.
    pub(super) fn verify_extents(&self, bytes: &[u8], address: u64) -> Result {
        match self.judge(|rules| rules.extents(bytes, (0, u64::MAX))) {
            Some(fault) => Err(Error::corrupt(fault, address)),
            None => Ok(()),
        }
    }

    /// Lets `judge` judge by this volume's rules. Groups that were not read yet are not read for it.
    fn judge(
        &self,
        judge: impl FnOnce(&Rules<'_>) -> Option<&'static str>,
    ) -> Option<&'static str> {
        let in_use = |run: Run| {
            let place = self.info.geometry.locate_run(run);
            let ag = place.and_then(|(agno, relative)| Some((self.alloc.loaded(agno)?, relative)));
            ag.is_none_or(|(ag, relative)| ag.all_used(relative, run.len))
        };
        judge(&Rules {
            geometry: &self.info.geometry,
            hash: &NameHash::new(self.info.hash_key),
            in_use: &in_use,
        })
    }

    // Apply: called under a lane's lock.

    pub(super) fn apply_bits(&self, seq: Seq, head: Head, count: u64, metadata: bool) {
        let g = &self.info.geometry;
        let Some((agno, relative)) = bit_position(g, head) else {
            return;
        };
        let Some(ag) = self.alloc.loaded(agno) else {
            return;
        };
        let set = head.kind == super::format::journal::BITS_SET;
        let available = !metadata || Mutant::NoQuarantine.active();
        ag.apply_bits(&self.media, g, (relative, count), set, available, || {
            self.alloc.mark_dirty(agno)
        });
        if !set && metadata {
            for i in 0..count {
                ag.set_verified(relative + i, false);
            }
            let start = ag.base.plus(relative);
            if !available {
                self.alloc.quarantine.add(Run { start, len: count }, seq);
            }
        }
    }

    pub(super) fn apply_masks(&self, head: Head, masks: &[u64]) {
        let g = &self.info.geometry;
        let Some((agno, relative)) = masks_position(g, head) else {
            return;
        };
        let Some(ag) = self.alloc.loaded(agno) else {
            return;
        };
        ag.apply_masks(&self.media, head.address, relative, masks, || {
            self.alloc.mark_dirty(agno)
        });
    }

    pub(super) fn apply_inode(&self, head: Head) {
        let g = &self.info.geometry;
        let Some((agno, index)) = mask_position(g, head.address) else {
            return;
        };
        let Some(ag) = self.alloc.loaded(agno) else {
            return;
        };
        let set = head.kind == super::format::journal::INODE_SET;
        ag.apply_inode(&self.media, g, (index, head.length as u32), set, || {
            self.alloc.mark_dirty(agno)
        });
    }
}

impl<M: Media> Lender<Workspace> for Volume<M> {
    /// Keeps a workspace for the next transaction.
    fn give_back(&self, work: Box<Workspace>) {
        if work.is_small() {
            let old = self.pool_slot().and_then(|slot| slot.lock().replace(work));
            drop(old);
        }
    }
}

/// Group and block that a bit entry starts at.
pub(super) fn bit_position(g: &Geometry, head: Head) -> Option<(u32, u64)> {
    use super::format::ag::BITMAP_BLOCK;
    let (agno, block) = g.locate(Block::of(head.address))?;
    let word =
        block.checked_sub(BITMAP_BLOCK).filter(|b| *b < 8)? * 512 + (head.address % BLOCK_SIZE) / 8;
    Some((agno, word * 64 + head.length as u64))
}

/// Group and block of the first word that a row of masks is for; `None` if the row leaves the bitmap.
pub(super) fn masks_position(g: &Geometry, head: Head) -> Option<(u32, u64)> {
    let (agno, start) = bit_position(g, Head { length: 0, ..head })?;
    let end = start.checked_add(u64_of(head.length).checked_mul(64)?)?;
    (head.length > 0 && end <= AG_BLOCKS).then_some((agno, start))
}

/// Group and chunk whose mask lies at `address`.
pub(super) fn mask_position(g: &Geometry, address: u64) -> Option<(u32, u32)> {
    use super::format::ag::{CHUNK_MAP_BLOCK, CHUNK_MASK_OFFSET};
    let (agno, block) = g.locate(Block::of(address))?;
    let block = block.checked_sub(CHUNK_MAP_BLOCK).filter(|b| *b < 256)?;
    let offset = block * BLOCK_SIZE + address % BLOCK_SIZE;
    (offset % 16 == CHUNK_MASK_OFFSET).then_some((agno, u32_of(offset / 16)))
}

/// Blocks that are taken in memory, for data that is written before it is published.
pub struct Reservation<'a, M: Media> {
    volume: &'a Volume<M>,
    run: Run,
    window: Window,
}

impl<M: Media> Reservation<'_, M> {
    /// The blocks.
    pub fn run(&self) -> Run {
        self.run
    }

    /// The file's window from now on.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Leaves the blocks to the caller, who publishes them with [`Transaction::adopt`] or gives them back with
    /// [`Volume::release`].
    pub fn detach(mut self) -> Run {
        let run = self.run;
        self.run.len = 0;
        run
    }
}

impl<M: Media> Drop for Reservation<'_, M> {
    fn drop(&mut self) {
        self.volume.release(self.run);
    }
}
