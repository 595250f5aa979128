// SPDX-License-Identifier: GPL-2.0

//! What waits for whom: `/sys/kernel/debug/ochre-DEVICE/layout`.
//!
//! What: counters of waits and of what was put off, and a line for each inode that the mount's
//! thread keeps for held pages.
//!
//! Hazard: the file may be read while the mount ends. Its data is shared, and the file goes first.

use crate::vfs::mapping::PageRange;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::{
    debugfs::{Dir, File},
    fmt, new_mutex,
    prelude::*,
    rbtree::RBTree,
    str::CString,
    sync::{Arc, Mutex},
    time::{Instant, Monotonic},
};

/// Held pages of an inode.
#[derive(Clone, Copy)]
struct Held {
    /// From the first to the last of them.
    pages: PageRange,
    /// How many are held.
    count: u64,
    /// It has no name.
    deleted: bool,
}

/// What is counted.
#[pin_data]
pub(crate) struct Counters {
    /// Sleeps for a held page.
    waits: AtomicU64,
    /// Who sleeps now.
    waiting: AtomicU64,
    /// The longest time that a call waited in one sleep after the other, in microseconds.
    longest: AtomicU64,
    /// Truncates that left held pages behind.
    truncates: AtomicU64,
    /// Held pages that were moved behind the end.
    parked: AtomicU64,
    /// How many inodes are in `held`.
    inodes: AtomicU64,
    #[pin]
    held: Mutex<RBTree<u64, Held>>,
}

impl Counters {
    /// All zero.
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                waits: AtomicU64::new(0),
                waiting: AtomicU64::new(0),
                longest: AtomicU64::new(0),
                truncates: AtomicU64::new(0),
                parked: AtomicU64::new(0),
                inodes: AtomicU64::new(0),
                held <- new_mutex!(RBTree::new(), "ochre_held"),
            }),
            GFP_KERNEL,
        )
    }

    /// The file, as long as the result lives. `device` is the device's name.
    pub(super) fn show(self: &Arc<Self>, device: &str) -> Result<Pin<KBox<File<Arc<Self>>>>> {
        let name = CString::try_from_fmt(fmt!("ochre-{device}"))?;
        let dir = Dir::new(&name);
        let file = dir.read_callback_file(c"layout", self.clone(), &print);
        KBox::pin_init(file, GFP_KERNEL)
    }

    /// A sleep that began at `start`, of a call that has been waiting since `since`.
    pub(super) fn sleep<R>(&self, since: Instant<Monotonic>, sleep: impl FnOnce() -> R) -> R {
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let result = sleep();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let time = u64::try_from(since.elapsed().as_nanos() / 1000).unwrap_or(0);
        self.longest.fetch_max(time, Ordering::Relaxed);
        result
    }

    /// A truncate left held pages behind.
    pub(super) fn truncated(&self) {
        self.truncates.fetch_add(1, Ordering::Relaxed);
    }

    /// A held page was moved behind the end.
    pub(super) fn parked(&self) {
        self.parked.fetch_add(1, Ordering::Relaxed);
    }

    /// These pages of the inode are held; without any, nothing is.
    pub(super) fn set_held(&self, ino: u64, pages: PageRange, count: u64, deleted: bool) {
        if count == 0 && self.inodes.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut held = self.held.lock();
        if count == 0 {
            if held.remove(&ino).is_some() {
                self.inodes.fetch_sub(1, Ordering::Relaxed);
            }
            return;
        }
        let value = Held {
            pages,
            count,
            deleted,
        };
        // Without memory a line is missing from the list.
        if let Ok(None) = held.try_create_and_insert(ino, value, GFP_KERNEL) {
            self.inodes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn print(counters: &Arc<Counters>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let held = counters.held.lock();
    let blocks: u64 = held.values().map(|held| held.count).sum();
    writeln!(f, "waits {}", get(&counters.waits))?;
    writeln!(f, "waiting {}", get(&counters.waiting))?;
    writeln!(f, "longest_wait_us {}", get(&counters.longest))?;
    writeln!(f, "deferred_truncates {}", get(&counters.truncates))?;
    writeln!(f, "parked_pages {}", get(&counters.parked))?;
    writeln!(f, "pending_inodes {}", get(&counters.inodes))?;
    writeln!(f, "pending_blocks {blocks}")?;
    for (ino, held) in held.iter() {
        writeln!(
            f,
            "inode {ino} {} pages {}-{} held {}",
            if held.deleted { "deleted" } else { "named" },
            held.pages.first,
            held.pages.end.saturating_sub(1),
            held.count
        )?;
    }
    Ok(())
}
