// SPDX-License-Identifier: GPL-2.0

//! A DAX device: memory that lies behind a block device.
//!
//! What: [`DaxDevice`] takes the `struct dax_device` of a block device as its holder, shows where
//! its memory is mapped ([`DaxDevice::direct_range`]), and gives it back when it is dropped.
//!
//! Why: the medium below the filesystem must be *one* range of directly mapped memory, because
//! the engine addresses it by offset with plain loads and stores. A pmem namespace in fsdax mode
//! (or a partition of one) is such a range; a device-mapper stack may or may not be.
//!
//! Hazard: `fs_dax_get_by_bdev` says nothing but NULL when it refuses, and for a stripe set it
//! says nothing at all: `dax_direct_access` of page 0 succeeds, and the range that it returns ends
//! after the first chunk. A filesystem that looked at the start only would store the rest of its
//! blocks over whatever the kernel maps after the first leg. So the whole device is asked for, and
//! every answer is compared with where the memory has to continue.
//!
//! C header: `include/linux/dax.h`.

use super::memory_failure;
use crate::bindings::c;
use core::ptr::{self, NonNull};
use kernel::error::to_result;
use kernel::prelude::*;

const PAGE_SHIFT: u32 = 12;
const PAGE: u64 = 1 << PAGE_SHIFT;
const EHWPOISON: isize = c::EHWPOISON as isize;
/// For who makes an error of it.
pub(super) const EHWPOISON_NUMBER: c_int = c::EHWPOISON as c_int;

/// Where the memory of a device is mapped in the kernel.
///
/// # Invariants
///
/// `base` is the start of `len` bytes of memory that stay mapped for as long as the
/// [`DaxDevice`] lives that made this value.
#[derive(Clone, Copy)]
pub(crate) struct DirectRange {
    base: NonNull<u8>,
    len: u64,
    physical: u64,
}

impl DirectRange {
    /// First byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Physical address of the first byte.
    pub(crate) fn physical(&self) -> u64 {
        self.physical
    }
}

/// A DAX device that this mount holds.
///
/// # Invariants
///
/// * `device` is a live DAX device of which `holder` is the holder; both are released on drop.
/// * `bdev` is the block device it was found through. It is open for as long as the mount lives,
///   and the mount drops this value before it closes the device.
pub(crate) struct DaxDevice {
    device: NonNull<c::dax_device>,
    bdev: NonNull<c::block_device>,
    holder: NonNull<c_void>,
    /// Offset of the block device (a partition) in the DAX device, in bytes.
    start: u64,
    range: DirectRange,
    name: [u8; 32],
}

// SAFETY: All that is called on the C objects is thread-safe; the fields never change.
unsafe impl Send for DaxDevice {}
// SAFETY: As above.
unsafe impl Sync for DaxDevice {}

/// Takes the one line that says why a device cannot be used.
pub(super) type Log<'a> = &'a dyn Fn(core::fmt::Arguments<'_>);

impl DaxDevice {
    /// Becomes the holder of the memory behind `bdev`; `operations` are told of its failures.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for a device without (usable) DAX, `EBUSY` when another holds it, `ENXIO` when
    /// it is going away; each with one line to `log` that says why and what to do.
    ///
    /// # Safety
    ///
    /// `bdev` is open and stays so until the result is dropped. `holder` is non-null, an address
    /// that nobody else uses as a holder until then.
    pub(super) unsafe fn open(
        bdev: NonNull<c::block_device>,
        holder: NonNull<c_void>,
        operations: &'static c::dax_holder_operations,
        log: Log<'_>,
    ) -> Result<Self> {
        let mut name = [0u8; 32];
        // SAFETY: `bdev` is open; the buffer is as long as said, and is NUL-terminated after.
        unsafe { c::ochre_bdev_name(bdev.as_ptr(), name.as_mut_ptr().cast(), name.len()) };
        let mut start = 0u64;
        // SAFETY: `bdev` is open, `holder` is ours alone, the operations are static.
        let device = unsafe {
            c::fs_dax_get_by_bdev(bdev.as_ptr(), &mut start, holder.as_ptr(), operations)
        };
        let Some(device) = NonNull::new(device) else {
            // SAFETY: `bdev` is open.
            let reason = unsafe { c::ochre_bdev_dax_refusal(bdev.as_ptr()) };
            return Err(refusal(reason, text_of(&name), log));
        };
        // SAFETY: `bdev` is open.
        let len = unsafe { c::ochre_bdev_bytes(bdev.as_ptr()) } & !(PAGE - 1);
        match direct_range(device, start, len) {
            // INVARIANT: `fs_dax_get_by_bdev` made `holder` the holder and took a reference.
            Ok(range) => Ok(Self {
                device,
                bdev,
                holder,
                start,
                range,
                name,
            }),
            Err(error) => {
                if error == unsupported() {
                    log(format_args!(
                        "its memory is not one directly mapped range (a device-mapper stack of several \
                         pieces?); use a namespace in fsdax mode itself, or a partition of one"
                    ));
                } else {
                    log(format_args!(
                        "cannot reach its memory: error {}",
                        -error.to_errno()
                    ));
                }
                // SAFETY: We are the holder, and give the reference back just once.
                unsafe { c::fs_put_dax(device.as_ptr(), holder.as_ptr()) };
                Err(error)
            }
        }
    }

    /// The block device's name, as in `/dev`.
    pub(crate) fn name(&self) -> &str {
        text_of(&self.name)
    }

    /// Where the block device's memory is.
    pub(crate) fn direct_range(&self) -> DirectRange {
        self.range
    }

    /// Whether stores are durable once they are written back and fenced: not so on virtio-pmem,
    /// where the host must be asked to sync.
    pub(crate) fn is_synchronous(&self) -> bool {
        // SAFETY: The device is live by the invariants.
        unsafe { c::dax_synchronous(self.device.as_ptr()) }
    }

    /// Asks the device to make durable what was written back. May sleep.
    pub(crate) fn flush(&self) -> Result {
        // SAFETY: The block device is open by the invariants.
        to_result(unsafe { c::blkdev_issue_flush(self.bdev.as_ptr()) })
    }

    /// Whether the block device is write-protected (`blockdev --setro`). Stores through the mapping would get through all the
    /// same.
    pub(crate) fn is_read_only(&self) -> bool {
        // SAFETY: The block device is open by the invariants.
        unsafe { c::ochre_bdev_read_only(self.bdev.as_ptr()) }
    }

    /// Calls `f` for each range, in bytes from the start of the block device, that the device lists as bad.
    pub(crate) fn bad_ranges(&self, mut f: impl FnMut(u64, u64)) {
        let (mut at, mut start, mut len) = (0, 0, 0);
        // SAFETY: The block device is open by the invariants; the results are addresses of locals.
        while unsafe { c::ochre_bdev_next_bad(self.bdev.as_ptr(), at, &mut start, &mut len) } {
            f(start, len);
            at = start + len;
        }
    }

    /// Some memory of this machine failed since it was started: pages of this device may be marked as bad.
    pub(crate) fn may_have_marks(&self) -> bool {
        memory_failure::any_seen()
    }

    /// Calls `f` with the address, in bytes from the start of the block device, of each page of a range that is marked as bad.
    pub(crate) fn marked_pages(&self, start: u64, end: u64, mut f: impl FnMut(u64)) {
        let base = self.range.physical >> PAGE_SHIFT;
        let end = base + (end.min(self.range.len) >> PAGE_SHIFT);
        let mut at = base + (start >> PAGE_SHIFT);
        while let Some(found) = memory_failure::next_marked(at, end) {
            f((found - base) << PAGE_SHIFT);
            at = found + 1;
        }
    }

    /// The C object.
    pub(super) fn as_ptr(&self) -> *mut c::dax_device {
        self.device.as_ptr()
    }

    /// The block device.
    pub(super) fn block_device(&self) -> *mut c::block_device {
        self.bdev.as_ptr()
    }

    /// Where the block device starts in the DAX device, in bytes: iomaps of DAX calls count from
    /// the start of the latter.
    pub(super) fn start(&self) -> u64 {
        self.start
    }
}

impl Drop for DaxDevice {
    fn drop(&mut self) {
        // SAFETY: By the invariants we are the holder; nothing uses the device after this.
        unsafe { c::fs_put_dax(self.device.as_ptr(), self.holder.as_ptr()) };
    }
}

/// A name up to its NUL.
fn text_of(name: &[u8; 32]) -> &str {
    CStr::from_bytes_until_nul(name)
        .ok()
        .and_then(|name| name.to_str().ok())
        .unwrap_or("?")
}

/// `EOPNOTSUPP`, which the kernel crate has no name for.
pub(super) fn unsupported() -> Error {
    Error::from_errno(-(c::EOPNOTSUPP as c_int))
}

/// Says why `fs_dax_get_by_bdev` refused.
fn refusal(reason: c::ochre_dax_refusal, name: &str, log: Log<'_>) -> Error {
    if reason == c::ochre_dax_refusal_OCHRE_DAX_NONE {
        if name.starts_with("pmem") {
            log(format_args!(
                "no DAX on this device: the namespace is in raw or sector mode. Cure (erases it): \
                 ndctl create-namespace -f -e NAMESPACE -m fsdax -M mem -a 2M"
            ));
        } else {
            log(format_args!(
                "not a pmem device: a block device without DAX cannot carry ochre"
            ));
        }
        unsupported()
    } else if reason == c::ochre_dax_refusal_OCHRE_DAX_UNALIGNED {
        log(format_args!(
            "the partition does not start and end on a 4 KiB boundary, which DAX needs"
        ));
        unsupported()
    } else {
        log(format_args!(
            "its memory is held by another filesystem or device-mapper target"
        ));
        EBUSY
    }
}

/// Walks the device and makes sure that it is one contiguous range.
///
/// Known bad blocks make `dax_direct_access` refuse every range that holds one; in recovery mode
/// it answers up to the bad block, so the walk goes on after it. `EOPNOTSUPP`: in pieces.
fn direct_range(device: NonNull<c::dax_device>, start: u64, len: u64) -> Result<DirectRange> {
    let first = start >> PAGE_SHIFT;
    let total = len >> PAGE_SHIFT;
    let mut base: *mut c_void = ptr::null_mut();
    let mut base_pfn = 0;
    let mut page = 0;
    while page < total {
        let mut address: *mut c_void = ptr::null_mut();
        let mut pfn = 0;
        let mut ask = |mode| {
            // SAFETY: The device is live; the lock keeps it so during the call. The results are
            // addresses of locals.
            unsafe {
                let id = c::dax_read_lock();
                let pages = c::dax_direct_access(
                    device.as_ptr(),
                    (first + page) as usize,
                    (total - page) as isize,
                    mode,
                    &mut address,
                    &mut pfn,
                );
                c::dax_read_unlock(id);
                pages
            }
        };
        let mut pages = ask(c::dax_access_mode_DAX_ACCESS);
        if pages == -EHWPOISON {
            pages = ask(c::dax_access_mode_DAX_RECOVERY_WRITE);
        }
        if pages < 0 {
            return Err(to_result(pages as c_int).err().unwrap_or(EIO));
        }
        if address.is_null() || pages == 0 {
            return Err(unsupported());
        }
        if page == 0 {
            base = address;
            base_pfn = pfn;
        } else if address != base.wrapping_byte_add((page << PAGE_SHIFT) as usize)
            || pfn != base_pfn + page as usize
        {
            return Err(unsupported());
        }
        page += pages as u64;
    }
    let base = NonNull::new(base.cast::<u8>()).ok_or(ENXIO)?;
    // INVARIANT: Just walked; the driver keeps its memory mapped while the device has references.
    Ok(DirectRange {
        base,
        len,
        physical: (base_pfn as u64) << PAGE_SHIFT,
    })
}
