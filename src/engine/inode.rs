// SPDX-License-Identifier: GPL-2.0

//! Inodes in memory, and how their records change.
//!
//! What: an [`Inode`] holds a copy of its 256-byte record under a lock, the extent lock. An operation takes the lock as an
//! [`Edit`], changes the *draft* beside the record, and [`Edit::emit`] puts the words that differ into the transaction;
//! after the commit [`Edit::settle`] lets the draft become the record. An [`Edit`] that is dropped has done nothing.
//!
//! Why words: the record's fields that one operation changes are neighbours more often than not, 32 comparisons cost less
//! than one cache line written back, and no operation has to say what it changed.
//!
//! # Hazard
//!
//! Times are also changed by single stores outside transactions. If a transaction logged the words of the times that it
//! did *not* mean to change, a later replay would put old times back over newer ones. Only words that the draft changed
//! are logged; and a store outside a transaction waits until no replayable record holds times of this inode
//! (`times_seq` below the checkpoint).

use crate::engine::alloc::Window;
use crate::engine::error::{Error, Result};
use crate::engine::filesystem::attributes::{Attributes, Times};
use crate::engine::format::inode::{
    InodeRecord, RECORD_SIZE, ROOT_DIRECTORY, TIMES_END, TIMES_OFFSET,
};
use crate::engine::media::Media;
use crate::engine::transaction::{Object, Transaction};
use crate::engine::types::{u64_of, FileBlock, FileKind, Generation, Ino, Seq, Timestamp};
use crate::platform::atomic::{AtomicBool, Ordering};
use crate::platform::{lock_class, RwLock, RwLockReadGuard, RwLockWriteGuard, SpinLock};
use core::ops::Range;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::IntoBytes;

/// Bytes of a word.
const WORD: usize = 8;
/// Words of a record.
const WORDS: usize = RECORD_SIZE as usize / WORD;
const _: () = assert!(WORDS == 32, "a bit for each word");
/// Words that are compared at once: most of a record is the same.
const GROUP: usize = 4;

/// What the extent lock protects.
pub struct Core {
    /// As it is on the medium, or will be once the apply of a committed transaction is through. The checksum is stale.
    pub record: InodeRecord,
    /// What an operation makes of it.
    draft: InodeRecord,
    /// An operation has begun with the draft and did not commit it: it is no copy of the record.
    stale: bool,
    /// The words of the draft that differ, since [`Edit::emit`].
    changed: u32,
    /// Counts the changes of the record, so that what was looked up before can be known to hold still.
    pub version: u64,
    /// The last transaction that logged times.
    pub times_seq: Seq,
    /// Blocks beyond the size wait to be freed: a truncate is not finished, the orphan table holds the intent.
    pub truncating: bool,
    /// Nobody waits for those blocks any more: whoever wants the file to grow frees them first.
    pub resumable: bool,
    /// Such blocks in front of this one are zeroed: the file may grow over them.
    pub clean_to: FileBlock,
}

/// Where a directory is, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory that holds it.
    pub parent: Ino,
    /// Changes of the inode until then.
    version: u64,
}

impl Place {
    pub(crate) fn of(core: &Core) -> Self {
        Self {
            parent: Ino(core.record.parent.get()),
            version: core.version,
        }
    }
}

impl Core {
    /// The record as the operation under way makes it.
    pub(crate) fn draft(&mut self) -> &mut InodeRecord {
        &mut self.draft
    }
}

/// What is known of a file beside its record.
struct Aside {
    /// The slot that the file's blocks come from, if it has one of its own.
    window: Window,
    /// Preallocated blocks into which a write copies its bytes just now.
    converting: Range<FileBlock>,
    /// See [`Inode::widened`].
    widened: Range<FileBlock>,
}

/// An inode in memory.
pub struct Inode {
    ino: Ino,
    generation: Generation,
    kind: FileKind,
    address: u64,
    aside: SpinLock<Aside>,
    /// Whether `aside.widened` says something.
    widened: AtomicBool,
    core: RwLock<Core>,
}

impl Inode {
    /// From a verified record at byte `address`.
    pub fn new(ino: Ino, address: u64, record: &InodeRecord) -> Result<Self> {
        let kind = FileKind::from_mode(record.mode.get())
            .ok_or(Error::corrupt("type of an inode", address))?;
        let core = Core {
            record: *record,
            draft: *record,
            stale: false,
            changed: 0,
            version: 0,
            times_seq: Seq(0),
            truncating: record.orphan.get() != 0 && record.nlink.get() != 0,
            resumable: false,
            clean_to: FileBlock(0),
        };
        Ok(Self {
            ino,
            generation: Generation(record.generation.get()),
            kind,
            address,
            aside: SpinLock::new(
                Aside {
                    window: Window::NONE,
                    converting: FileBlock(0)..FileBlock(0),
                    widened: FileBlock(0)..FileBlock(0),
                },
                lock_class!("ochre_window"),
            )?,
            widened: AtomicBool::new(false),
            core: RwLock::new(core, lock_class!("ochre_inode"))?,
        })
    }

    /// Number.
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// Generation: differs between two uses of one number.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Kind; never changes.
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// Byte address of the record.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// A consistent copy of the attributes.
    pub fn attributes(&self) -> Attributes {
        let core = self.read();
        let record = &core.record;
        Attributes {
            mode: record.mode.get(),
            uid: record.uid.get(),
            gid: record.gid.get(),
            nlink: record.nlink.get(),
            size: record.size.get(),
            blocks: record.blocks.get(),
            rdev: record.rdev.get(),
            flags: record.flags.get(),
            project: record.project.get(),
            atime: Timestamp(record.atime.get()),
            mtime: Timestamp(record.mtime.get()),
            ctime: Timestamp(record.ctime.get()),
            btime: Timestamp(record.btime.get()),
        }
    }

    /// A directory's parent; of other inodes it means nothing.
    pub fn parent(&self) -> Ino {
        self.place().parent
    }

    /// Where a directory is; of other inodes it means nothing.
    pub fn place(&self) -> Place {
        Place::of(&self.read())
    }

    /// The slot that the file's blocks come from.
    pub(crate) fn window(&self) -> Window {
        self.aside.lock().window
    }

    /// Keeps what the last allocation said. What was kept until now is the result.
    pub(crate) fn replace_window(&self, window: Window) -> Window {
        core::mem::replace(&mut self.aside.lock().window, window)
    }

    /// Preallocated blocks into which a write copies its bytes just now: nobody else may zero or convert them.
    pub(crate) fn converting(&self) -> Range<FileBlock> {
        self.aside.lock().converting.clone()
    }

    /// Says which those are from now on. There is one write at a time, for the caller holds the file's `i_rwsem`.
    pub(crate) fn set_converting(&self, blocks: Range<FileBlock>) {
        self.aside.lock().converting = blocks;
    }

    /// Blocks that were made written on the way, without being asked for, when blocks for the extent tree were short. They
    /// hold zeros. A page of zeros that somebody has mapped there does not show what a later `write` stores, until it is
    /// unmapped: whoever has written, looks here before it returns.
    pub fn widened(&self) -> Option<Range<FileBlock>> {
        self.widened
            .load(Ordering::Acquire)
            .then(|| self.aside.lock().widened.clone())
    }

    /// Adds to [`Self::widened`].
    pub(crate) fn add_widened(&self, blocks: Range<FileBlock>) {
        let mut aside = self.aside.lock();
        let old = aside.widened.clone();
        aside.widened = if old.is_empty() {
            blocks
        } else {
            old.start.min(blocks.start)..old.end.max(blocks.end)
        };
        self.widened.store(true, Ordering::Release);
    }

    /// All of [`Self::widened`] was unmapped. The caller keeps faults out from before it looked there until now.
    pub fn forget_widened(&self) {
        let mut aside = self.aside.lock();
        aside.widened = FileBlock(0)..FileBlock(0);
        self.widened.store(false, Ordering::Release);
    }

    /// The transaction that made the inode, whose record holds its times.
    pub(crate) fn born_in(&mut self, seq: Seq) {
        // Not by its lock: the directory's, of the same class, is held until the commit is settled.
        self.core.get_mut().times_seq = seq;
    }

    /// No transaction from `next` on holds the times that were read with the record.
    pub(crate) fn settled_before(&mut self, next: Seq) {
        self.core.get_mut().times_seq = Seq(next.0.saturating_sub(1));
    }

    /// The record, not to be changed.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Core> {
        self.core.read()
    }

    /// The record, to be changed.
    pub(crate) fn edit(&self) -> Edit<'_> {
        self.edit_nested(0)
    }

    /// As [`Self::edit`], for the `order`-th of several inodes that are locked in ascending order of numbers.
    pub(crate) fn edit_nested(&self, order: u32) -> Edit<'_> {
        let mut core = if order == 0 {
            self.core.write()
        } else {
            self.core.write_nested(order)
        };
        if core::mem::replace(&mut core.stale, true) {
            core.draft = core.record;
        }
        debug_assert!(core.draft.as_bytes() == core.record.as_bytes());
        Edit { inode: self, core }
    }
}

/// An inode that is being changed; holds its extent lock.
pub(crate) struct Edit<'a> {
    inode: &'a Inode,
    core: RwLockWriteGuard<'a, Core>,
}

impl<'a> Edit<'a> {
    /// The inode.
    pub(crate) fn inode(&self) -> &'a Inode {
        self.inode
    }

    /// The record as it was before.
    pub(crate) fn record(&self) -> &InodeRecord {
        &self.core.record
    }

    /// The record as it is to be.
    pub(crate) fn draft(&mut self) -> &mut InodeRecord {
        &mut self.core.draft
    }

    /// State beside the record.
    pub(crate) fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Puts the changed words into the transaction.
    pub(crate) fn emit<M: Media>(&mut self, tx: &mut Transaction<'_, M>) -> Result {
        let core = &mut *self.core;
        core.changed = differing(&core.record, &core.draft);
        emit(tx, self.inode.address, &core.draft, core.changed)
    }

    /// After the commit: what was the draft is the record.
    pub(crate) fn settle(&mut self, seq: Seq) {
        let core = &mut *self.core;
        if core.changed & TIMES != 0 {
            core.times_seq = seq;
        }
        let after: &[U64; WORDS] = zerocopy::transmute_ref!(&core.draft);
        let before: &mut [U64; WORDS] = zerocopy::transmute_mut!(&mut core.record);
        for word in bits(core.changed) {
            if let (Some(old), Some(new)) = (before.get_mut(word), after.get(word)) {
                *old = *new;
            }
        }
        core.stale = false;
        core.version = core.version.wrapping_add(1);
    }
}

/// Words of the times, as bits.
const TIMES: u32 = {
    let (first, end) = (TIMES_OFFSET / 8, TIMES_END / 8);
    ((1 << end) - 1) & !((1 << first) - 1)
};

/// The numbers of the bits that are set, rising.
fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (bit < 32).then_some(bit as usize)
    })
}

/// The words in which two records differ, as bits. Compared in place: copies would cost more than the comparison.
fn differing(old: &InodeRecord, new: &InodeRecord) -> u32 {
    let before: &[U64; WORDS] = zerocopy::transmute_ref!(old);
    let after: &[U64; WORDS] = zerocopy::transmute_ref!(new);
    let mut changed = 0;
    let groups = before.chunks_exact(GROUP).zip(after.chunks_exact(GROUP));
    for (group, (old, new)) in groups.enumerate() {
        let pairs = || old.iter().zip(new).map(|(old, new)| old.get() ^ new.get());
        if pairs().fold(0, |any, bits| any | bits) != 0 {
            for (word, bits) in pairs().enumerate() {
                changed |= u32::from(bits != 0) << ((group * GROUP + word) % WORDS);
            }
        }
    }
    // The checksum is the transaction's own affair.
    changed & !2
}

/// Puts the changed words of `new` into the transaction: the times as words that no checksum covers, the rest as changes of
/// the checksummed record.
fn emit<M: Media>(
    tx: &mut Transaction<'_, M>,
    address: u64,
    new: &InodeRecord,
    changed: u32,
) -> Result {
    for (part, in_times) in [(changed & !TIMES, false), (changed & TIMES, true)] {
        let mut rest = part;
        while rest != 0 {
            // The next run of words.
            let first = rest.trailing_zeros();
            let len = (rest >> first).trailing_ones();
            rest &= u32::MAX.checked_shl(first + len).unwrap_or(0);
            let (from, to) = (first as usize * WORD, (first + len) as usize * WORD);
            if let Some(bytes) = new.as_bytes().get(from..to) {
                if in_times {
                    tx.write_raw(address.saturating_add(u64_of(from)), bytes)?;
                } else {
                    tx.update(Object::Inode(address), u64_of(from), bytes)?;
                }
            }
        }
    }
    Ok(())
}

/// Writes a whole new record at `address`.
pub(crate) fn create_record<M: Media>(
    tx: &mut Transaction<'_, M>,
    address: u64,
    record: &InodeRecord,
) -> Result {
    tx.create_object(Object::Inode(address), record.as_bytes())
}

/// Applies the given times to a record.
pub(crate) fn set_times(record: &mut InodeRecord, times: &Times) {
    if let Some(time) = times.atime {
        record.atime = I64::new(time.0);
    }
    if let Some(time) = times.mtime {
        record.mtime = I64::new(time.0);
    }
    if let Some(time) = times.ctime {
        record.ctime = I64::new(time.0);
    }
}

/// New modification and change time.
pub(crate) fn set_changed(record: &mut InodeRecord, time: Timestamp) {
    record.mtime = I64::new(time.0);
    record.ctime = I64::new(time.0);
}

/// Adds links (or takes some off); the count stays within its bounds or the call fails.
pub(crate) fn add_links(record: &mut InodeRecord, links: i32) -> Result {
    let count = record.nlink.get().checked_add_signed(links);
    let fault = Error::corrupt("link count of an inode", record.ino.get());
    let count = count.ok_or(fault)?;
    if count == 1 && record.root == ROOT_DIRECTORY {
        // Its own name and its `.`: what is left of a directory that loses a child is 2 at least.
        return Err(fault);
    }
    if links > 0 && count > crate::engine::types::MAX_LINKS {
        return Err(Error::TooManyLinks);
    }
    record.nlink = U32::new(count);
    Ok(())
}
