// SPDX-License-Identifier: GPL-2.0

//! The `address_space` of a DAX file: which of its pages processes have mapped.
//!
//! What: one entry of `i_pages` stands for a 4 KiB or a 2 MiB page of the medium that has been
//! faulted in since the entry was made, or for the zero page over a hole. [`InvalidateExclusive`]
//! (evidence for `invalidate_lock` held for write, which keeps faults out) unmaps ranges, looks
//! for pages that someone holds, and deletes entries. [`InvalidateShared`] is what a fault holds.
//!
//! Why busy pages matter: a page under I/O (an `O_DIRECT` read into the mapping, a `vmsplice`) has
//! a reference and no mapping any more. Deleting its entry and freeing its block would let the
//! device write into a block that is by then part of another file.
//!
//! Hazard: a 2 MiB entry that straddles the edge of a range is still mapped outside of it, where
//! the busy check does not unmap it; deleting it would split a folio that page tables still
//! point into. [`Mapping::entry_pages`] tells, so that a caller can round out. Its dirty mark goes
//! as well, for the bytes that stay too: write them back first.
//!
//! Hazard: the kernel's own check for busy pages takes a page for idle whose references all come from mappings,
//! as it has just unmapped them. On another CPU an `munmap` has cleared a 2 MiB page table entry,
//! and has not yet dropped the mapping's count and reference: there is nothing left to unmap, and
//! the folio would be split under that CPU (`WARN` in fs/dax.c; seen with six threads in less than
//! a minute). So [`InvalidateExclusive::busy_page`] looks for references of any kind.
//!
//! Hazard: where memory runs out in the middle of a fault (a memory cgroup at its limit is enough), the
//! tree of entries keeps the nodes that it had got by then, with no entry below them. So "no entry" is
//! told by the count of pages and not by the tree, and such nodes are freed with the last entry.
//!
//! C headers: `include/linux/pagemap.h`, `include/linux/dax.h`.

use crate::bindings::c;
use crate::testing::{self, Failure, Point, Protection, Taken};
use crate::vfs::dax_device::DaxDevice;
use crate::vfs::inode::INode;
use crate::vfs::FileSystem;
use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::error::to_result;
use kernel::prelude::*;

/// Bits of a page's size.
pub(crate) const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub(crate) const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// Pages in a 2 MiB page.
pub(crate) const PMD_PAGES: u64 = 512;

/// Entries are deleted in chunks of this many pages: the kernel does it with interrupts off.
const DELETE_CHUNK: u64 = 2 * PMD_PAGES;

/// Pages of a file: `first` up to, not including, `end`. `end` of `u64::MAX`: to the end of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRange {
    /// First page.
    pub(crate) first: u64,
    /// One past the last page.
    pub(crate) end: u64,
}

impl PageRange {
    /// All pages that a file can have.
    pub(crate) const ALL: Self = Self {
        first: 0,
        end: u64::MAX,
    };

    /// Nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.first >= self.end
    }

    /// First byte, as the kernel counts them.
    fn start(&self) -> i64 {
        i64::try_from(self.first.saturating_mul(PAGE_SIZE)).unwrap_or(i64::MAX)
    }

    /// Last byte (the calls of fs/dax.c take inclusive ends).
    fn last(&self) -> i64 {
        let end = self.end.saturating_mul(PAGE_SIZE);
        i64::try_from(end).map_or(i64::MAX, |end| end - 1)
    }
}

/// What C says of a page that is held, before it has.
const NOT_HELD: c::ochre_held = c::ochre_held {
    page: core::ptr::null_mut(),
    first: 0,
    pages: 0,
};

/// The pages of one file.
pub(crate) struct Mapping<'a, T: FileSystem> {
    inode: &'a INode<T>,
}

impl<T: FileSystem> Clone for Mapping<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: FileSystem> Copy for Mapping<'_, T> {}

impl<T: FileSystem> INode<T> {
    /// The pages of this file that are or were mapped.
    pub(crate) fn mapping(&self) -> Mapping<'_, T> {
        Mapping { inode: self }
    }
}

impl<'a, T: FileSystem> Mapping<'a, T> {
    fn as_ptr(&self) -> *mut c::address_space {
        // SAFETY: A reference to an inode is to a live one; `i_mapping` is set when it is made
        // and stays.
        unsafe { (*self.inode.as_ptr()).i_mapping }
    }

    /// No page of this file has an entry.
    ///
    /// Not the kernel's `mapping_empty`: a fault that lacked memory may leave nodes without an entry in the tree, which
    /// nothing would take out any more.
    pub(crate) fn is_empty(&self) -> bool {
        // SAFETY: The mapping lives as long as its inode; others may change the count meanwhile.
        unsafe { (&raw const (*self.as_ptr()).nrpages).read_volatile() == 0 }
    }

    /// The tree of entries has nodes; or had a moment ago.
    pub(crate) fn has_nodes(&self) -> bool {
        // SAFETY: The mapping lives as long as its inode.
        unsafe { !c::ochre_mapping_empty(self.as_ptr()) }
    }

    /// Frees the nodes of the tree of entries if it has no entry: with such nodes an inode is no prey for memory reclaim, and
    /// at its end they would stay allocated. Nobody else may work on the tree.
    fn free_empty_nodes(&self) {
        if self.has_nodes() && self.is_empty() {
            // SAFETY: The tree is part of the live mapping, and the call locks what it needs. There is no entry in it, so that
            // nothing but nodes goes.
            unsafe { c::xa_destroy(&raw mut (*self.as_ptr()).i_pages) };
        }
    }

    /// How many pages the entry at `page` covers; 1 if there is none.
    pub(crate) fn entry_pages(&self, page: u64) -> u64 {
        // SAFETY: The xarray is part of the live mapping, and the call locks what it needs.
        let order = unsafe { c::xa_get_order(&raw mut (*self.as_ptr()).i_pages, page as usize) };
        1u64.checked_shl(order as u32).unwrap_or(1)
    }

    /// One of `pages` has an entry.
    pub(crate) fn has_entries(&self, pages: PageRange) -> bool {
        self.next_entry(pages.first, pages.end).is_some()
    }

    /// The first page at or after `page` and before `end` that has an entry.
    fn next_entry(&self, page: u64, end: u64) -> Option<u64> {
        let mut index = page as usize;
        // SAFETY: As above. The result is an entry's value, and is only compared with NULL.
        let entry = unsafe {
            c::xa_find(
                &raw mut (*self.as_ptr()).i_pages,
                &mut index,
                end.saturating_sub(1) as usize,
                c::XA_PRESENT,
            )
        };
        (!entry.is_null()).then_some(index as u64)
    }

    /// Drops clean entries of `pages` (the zero page, that is) and their page table entries.
    ///
    /// For a range that just got blocks, while everything that could put entries there is held
    /// off or will find the blocks.
    pub(crate) fn invalidate_clean(&self, pages: PageRange) {
        if pages.is_empty() || testing::without(Protection::Invalidate) {
            return;
        }
        // SAFETY: The mapping is live. That an entry was dirty (EBUSY) means that it is no zero
        // page, and stays.
        unsafe {
            c::invalidate_inode_pages2_range(
                self.as_ptr(),
                pages.first as usize,
                (pages.end - 1) as usize,
            )
        };
    }

    /// Flushes what was stored through mappings of the byte range, `last` included.
    pub(crate) fn write_back(&self, start: u64, last: u64) -> Result {
        if self.is_empty() {
            return Ok(());
        }
        // SAFETY: The mapping is live.
        to_result(unsafe {
            c::filemap_write_and_wait_range(
                self.as_ptr(),
                i64::try_from(start).unwrap_or(i64::MAX),
                i64::try_from(last).unwrap_or(i64::MAX),
            )
        })
    }

    /// Takes `invalidate_lock` for write: no fault runs, or starts, until it is dropped.
    pub(crate) fn lock_invalidate(&self) -> InvalidateExclusive<'a, T> {
        // SAFETY: The mapping is live. INVARIANT: Locked.
        unsafe { c::ochre_invalidate_lock(self.as_ptr()) };
        InvalidateExclusive {
            mapping: *self,
            deleted: Cell::new(false),
            _not_send: PhantomData,
        }
    }

    /// Takes `invalidate_lock` for read: what a fault finds in the file's extents stays true.
    pub(crate) fn lock_invalidate_shared(&self) -> InvalidateShared<'a, T> {
        // SAFETY: The mapping is live. INVARIANT: Locked.
        let take = || unsafe { c::ochre_invalidate_lock_shared(self.as_ptr()) };
        InvalidateShared {
            taken: Taken::unless_without(Protection::FaultLock, take),
            mapping: *self,
            _not_send: PhantomData,
        }
    }

    /// The first of `pages` that has a reference of any kind: see the second hazard at the top.
    pub(super) fn referenced_page(
        &self,
        device: &DaxDevice,
        pages: PageRange,
    ) -> Option<BusyPage<'a>> {
        if testing::without(Protection::LookForHolders) {
            return None;
        }
        let range = device.direct_range();
        let mut held = NOT_HELD;
        // SAFETY: The mapping is live; its pages are those of the device.
        let found = unsafe {
            c::ochre_dax_referenced_page(
                self.as_ptr(),
                pages.first as usize,
                pages.end.saturating_sub(1) as usize,
                (range.physical() >> PAGE_SHIFT) as usize,
                (range.len() >> PAGE_SHIFT) as usize,
                &mut held,
            )
        };
        if !found {
            return None;
        }
        // INVARIANT: A page of this file's device, which lives longer than the inode.
        NonNull::new(held.page).map(|page| BusyPage {
            page,
            pages: PageRange {
                first: held.first as u64,
                end: held.first as u64 + held.pages as u64,
            },
            _device: PhantomData,
        })
    }

    /// A page of an inode that is being evicted and that somebody still holds.
    pub(super) fn busy_page_at_evict(&self, device: &DaxDevice) -> Option<BusyPage<'a>> {
        if self.is_empty() {
            return None;
        }
        self.referenced_page(device, PageRange::ALL)
    }

    /// Drops every entry of an inode that is being evicted: nobody maps it, and nobody can; no
    /// page is held.
    pub(super) fn delete_all_at_evict(&self) {
        if testing::without(Protection::DeleteAtEvict) {
            return;
        }
        if !self.is_empty() {
            // SAFETY: The inode is live and, at evict, has no mapping and gets none.
            unsafe { c::dax_break_layout_final(self.inode.as_ptr()) };
        }
        self.free_empty_nodes();
    }
}

/// Evidence that this task holds `invalidate_lock` for read.
///
/// # Invariants
///
/// The lock of `mapping` is held for read, and is released on drop.
pub(crate) struct InvalidateShared<'a, T: FileSystem> {
    taken: Taken,
    mapping: Mapping<'a, T>,
    _not_send: PhantomData<*mut ()>,
}

impl<T: FileSystem> Drop for InvalidateShared<'_, T> {
    fn drop(&mut self) {
        if self.taken.yes() {
            // SAFETY: Held by the invariant.
            unsafe { c::ochre_invalidate_unlock_shared(self.mapping.as_ptr()) };
        }
    }
}

/// Evidence that this task holds `invalidate_lock` for write.
///
/// # Invariants
///
/// The lock of `mapping` is held for write, and is released on drop.
pub(crate) struct InvalidateExclusive<'a, T: FileSystem> {
    mapping: Mapping<'a, T>,
    /// Entries were deleted.
    deleted: Cell<bool>,
    _not_send: PhantomData<*mut ()>,
}

impl<'a, T: FileSystem> InvalidateExclusive<'a, T> {
    /// The page, which is that of `pfn`, is lost: signals who maps it, and unmaps it. `flags`: as `memory_failure` has them.
    pub(super) fn kill(&self, page: u64, pfn: u64, flags: c_int) -> Result {
        // SAFETY: The mapping is live; the caller has seen that the page is there, and the lock keeps it.
        to_result(unsafe {
            c::ochre_kill_mappers(self.mapping.as_ptr(), page as usize, pfn as usize, flags)
        })
    }

    /// Unmaps `pages` of a file on `device`, and finds one that somebody still holds.
    pub(crate) fn busy_page(&self, device: &DaxDevice, pages: PageRange) -> Option<BusyPage<'a>> {
        if pages.is_empty() || self.mapping.is_empty() {
            return None;
        }
        self.unmap(pages);
        self.mapping.referenced_page(device, pages)
    }

    /// Takes `pages` out of all page tables, copies in private mappings apart.
    pub(crate) fn unmap(&self, pages: PageRange) {
        let count = pages.end.saturating_sub(pages.first);
        // SAFETY: The mapping is live, and our lock keeps new mappings out.
        unsafe {
            c::unmap_mapping_pages(
                self.mapping.as_ptr(),
                pages.first as usize,
                count as usize,
                false,
            )
        };
    }

    /// Unmaps `pages`, and deletes the entries of those that nobody holds. Each page that is held
    /// is shown to `held`; the first is the result.
    pub(crate) fn delete_idle(
        &self,
        device: &DaxDevice,
        pages: PageRange,
        mut held: impl FnMut(PageRange),
    ) -> Option<BusyPage<'a>> {
        if pages.is_empty() || self.mapping.is_empty() {
            return None;
        }
        self.unmap(pages);
        let mut first = None;
        let mut left = pages;
        while !left.is_empty() {
            let Some(busy) = self.mapping.referenced_page(device, left) else {
                self.delete_entries(left);
                break;
            };
            self.delete_entries(PageRange {
                first: left.first,
                end: busy.pages.first.max(left.first),
            });
            left.first = busy.pages.end;
            held(busy.pages);
            first = first.or(Some(busy));
        }
        first
    }

    /// Frees what faults that lacked memory have left in the tree of entries, if there is no entry.
    pub(crate) fn free_empty_nodes(&self) {
        self.mapping.free_empty_nodes();
    }

    /// Entries have been deleted since the lock was taken.
    pub(crate) fn has_deleted(&self) -> bool {
        self.deleted.get()
    }

    /// Deletes the entries of `pages`, of which [`Self::busy_page`] found none busy.
    pub(crate) fn delete_entries(&self, pages: PageRange) {
        if pages.is_empty() {
            return;
        }
        let mut first = pages.first;
        while let Some(found) = self.mapping.next_entry(first, pages.end) {
            // A 2 MiB entry may begin before the page it was found at: it goes as a whole.
            let found = found.max(first);
            let end = (found - found % DELETE_CHUNK + DELETE_CHUNK).min(pages.end);
            let chunk = PageRange { first: found, end };
            self.deleted.set(true);
            // SAFETY: The mapping is live, faults are held off, and the pages are idle.
            unsafe {
                c::dax_delete_mapping_range(self.mapping.as_ptr(), chunk.start(), chunk.last());
            }
            // SAFETY: No spin lock is held.
            unsafe { c::ochre_cond_resched() };
            if end >= pages.end {
                break;
            }
            first = end;
        }
    }

    /// Unmaps everything past `size`, copies in private mappings included; entries stay, since some
    /// of their pages are held. The inode's size is `size` already.
    pub(crate) fn unmap_copies_past(&self, size: u64) {
        let first = size.div_ceil(PAGE_SIZE).saturating_mul(PAGE_SIZE);
        let first = i64::try_from(first).unwrap_or(i64::MAX);
        if testing::without(Protection::UnmapCopies) {
            return;
        }
        // SAFETY: The mapping is live, and our lock keeps new mappings out. Length 0: to the end.
        unsafe { c::unmap_mapping_range(self.mapping.as_ptr(), first, 0, 1) };
    }

    /// Unmaps everything past `size`, copies in private mappings included.
    ///
    /// The entries there have been deleted, and the inode's size is `size` already, so that a
    /// fault that comes after sees it.
    pub(crate) fn unmap_past(&self, size: u64) {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        if testing::without(Protection::UnmapCopies) {
            return;
        }
        // SAFETY: The inode is live; its caller holds i_rwsem, and we the lock against faults.
        unsafe { c::truncate_pagecache(self.mapping.inode.as_ptr(), size) };
    }
}

/// The entry of a page that somebody holds, on its way to another place in the same file.
///
/// Why: a hole is to be punched over the page. The entry must go, or a fault would find the old
/// page there; it must not be deleted, since fs/dax.c then takes the folio apart under its holder.
/// At an index far behind the end of the file it is in nobody's way, and when the page is let go
/// it is deleted there like any other.
///
/// How, with `invalidate_lock` held for write and the page unmapped: lock the folio and store the
/// entry at the new index too ([`InvalidateExclusive::begin_move`]); the caller changes the file's
/// extents; then [`Move::finish`] takes the old entry away. The removal has to be that of
/// fs/dax.c, since it alone wakes those who wait for the entry; that it leaves the folio whole,
/// though it is still referenced, is due to a share count of two for the time of that call, with
/// `folio->mapping` cleared as fs/dax.c has it for shared folios. Last, the folio gets its mapping
/// back, with the new index.
///
/// Why the folio gets its mapping back at once, under the folio lock: a folio without mapping, of
/// which a pipe has the only reference, is one that FUSE takes from the pipe into its own page
/// cache (`fuse_check_folio`). It looks under the folio lock. `memory_failure` finds a folio's
/// entry by its mapping; in between it finds none and reports the page as busy.
pub(crate) struct Move<'l, 'a, T: FileSystem> {
    faults: &'l InvalidateExclusive<'a, T>,
    page: NonNull<c::page>,
    from: u64,
    to: u64,
    begun: bool,
}

impl<'a, T: FileSystem> InvalidateExclusive<'a, T> {
    /// Prepares to move the entry of a held page to page `to`, in a row of as many free pages.
    /// `EAGAIN`: something is locked just now. `EEXIST`: something is there.
    pub(crate) fn begin_move<'l>(
        &'l self,
        page: &BusyPage<'_>,
        to: u64,
    ) -> Result<Move<'l, 'a, T>> {
        if testing::fails(Failure::Move) {
            return Err(ENOMEM);
        }
        let (from, page) = (page.pages.first, page.page);
        // SAFETY: The mapping is live, our lock keeps faults out, and the page is the device's.
        to_result(unsafe {
            c::ochre_dax_move_begin(
                self.mapping.as_ptr(),
                from as usize,
                to as usize,
                page.as_ptr(),
            )
        })?;
        Ok(Move {
            faults: self,
            page,
            from,
            to,
            begun: true,
        })
    }
}

impl<T: FileSystem> Move<'_, '_, T> {
    /// The file's blocks have moved; the entry follows.
    pub(crate) fn finish(mut self) {
        self.begun = false;
        let _share = !testing::without(Protection::ShareWhileMoved);
        #[cfg(ochre_test)]
        // SAFETY: Sets a word.
        unsafe {
            c::ochre_test_share_while_moved(_share)
        };
        // SAFETY: Begun, and the lock has been held since.
        unsafe {
            c::ochre_dax_move_commit(
                self.faults.mapping.as_ptr(),
                self.from as usize,
                self.to as usize,
                self.page.as_ptr(),
            )
        };
    }
}

impl<T: FileSystem> Drop for Move<'_, '_, T> {
    fn drop(&mut self) {
        if self.begun {
            // SAFETY: Begun, and the lock has been held since.
            unsafe {
                c::ochre_dax_move_cancel(
                    self.faults.mapping.as_ptr(),
                    self.to as usize,
                    self.page.as_ptr(),
                )
            };
        }
    }
}

impl<T: FileSystem> Drop for InvalidateExclusive<'_, T> {
    fn drop(&mut self) {
        // SAFETY: Held by the invariant.
        unsafe { c::ochre_invalidate_unlock(self.mapping.as_ptr()) };
    }
}

/// A page that somebody holds.
///
/// # Invariants
///
/// `page` is the `struct page` of a device that stays for `'a`.
pub(crate) struct BusyPage<'a> {
    page: NonNull<c::page>,
    pages: PageRange,
    _device: PhantomData<&'a ()>,
}

impl BusyPage<'_> {
    /// Which pages of the file it is: one, or 512.
    pub(crate) fn pages(&self) -> PageRange {
        self.pages
    }

    /// The C object.
    pub(super) fn as_ptr(&self) -> NonNull<c::page> {
        self.page
    }

    /// Sleeps until the page is idle or the time is up, whatever comes.
    pub(super) fn sleep(&self, milliseconds: u32) {
        // SAFETY: The page is there by the invariant. The call reads its count.
        unsafe { c::ochre_sleep_page_busy(self.page.as_ptr(), milliseconds) };
    }

    /// Sleeps until the page is idle, but not for longer than `milliseconds`: a page that was
    /// faulted in again is held by its mapping, and nobody would wake us. `EINTR`: a fatal signal.
    pub(crate) fn wait(&self, milliseconds: u32) -> Result {
        let limit = match testing::without(Protection::WaitLimit) {
            true => u32::MAX / 2,
            false => milliseconds,
        };
        // SAFETY: The page is there by the invariant. The call reads its count.
        let result = match unsafe { c::ochre_wait_page_idle(self.page.as_ptr(), limit) } {
            error if error == EINTR.to_errno() => Err(EINTR),
            _ => Ok(()),
        };
        testing::pause(Point::WaitOver);
        result
    }
}
