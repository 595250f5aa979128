// SPDX-License-Identifier: GPL-2.0

//! A medium that knows what a power cut may leave.
//!
//! The rules are those of x86 persistent memory, at the grain of an aligned 8-byte word:
//!
//! * A store, ordinary or non-temporal, may reach the medium at any time after it was issued, or not at all.
//! * Stores to one cache line reach it in the order in which they were issued, if they are ordinary; a later one never
//!   without the earlier ones. Stores to different lines, and non-temporal ones, have no order.
//! * A store must have reached the medium once its line was written back after it (or it was non-temporal) and the *same CPU*
//!   then fenced, or a drain fenced all CPUs.
//!
//! On an asynchronous device ([`MemoryMedia::asynchronous`]) fences complete nothing: only a flush of the device does.
//!
//! So the medium keeps a durable image and, for each line with stores in flight, the list of those. A crash image is the
//! durable one plus, per line, some prefix of its ordinary stores and any of its non-temporal words.

use crate::memory::MemoryMedia;
use crate::seed::Random;
use ochre::engine::error::Result;
use ochre::engine::media::Media;
use ochre::platform::current_cpu;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One word in flight.
#[derive(Clone, Copy, Debug)]
struct Pending {
    address: u64,
    value: u64,
    through: bool,
    /// CPUs on which a fence completes it: those that wrote it back, or that stored it through.
    covered_by: u64,
}

#[derive(Clone, Default)]
struct Flight {
    /// By line number; in the order of issue.
    lines: BTreeMap<u64, Vec<Pending>>,
    fences: u64,
    stored: u64,
    written_back: u64,
}

/// Called before each fence, with the medium as it is then.
pub type Hook = Box<dyn FnMut(&SimMedia) + Send>;

/// A medium with stores in flight. Clones share it.
#[derive(Clone)]
pub struct SimMedia {
    /// What the CPUs see.
    visible: MemoryMedia,
    /// What a power cut leaves in any case.
    durable: MemoryMedia,
    flight: Arc<Mutex<Flight>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

/// What was counted since the medium was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Fences and drains.
    pub fences: u64,
    /// Bytes stored.
    pub stored: u64,
    /// Lines written back.
    pub written_back: u64,
}

impl SimMedia {
    /// A medium that holds what `image` holds, durably.
    pub fn new(image: &MemoryMedia) -> Self {
        Self {
            visible: image.snapshot(),
            durable: image.snapshot(),
            flight: Arc::default(),
            hook: Arc::default(),
        }
    }

    /// A copy in the same state, stores in flight included: a machine that restarts warm, with its caches.
    pub fn fork(&self) -> Self {
        Self {
            visible: self.visible.snapshot(),
            durable: self.durable.snapshot(),
            flight: Arc::new(Mutex::new(self.flight().clone())),
            hook: Arc::default(),
        }
    }

    /// Calls `hook` before each fence and drain, until another is set.
    pub fn on_fence(&self, hook: Option<Hook>) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Fences, bytes and lines so far.
    pub fn counts(&self) -> Counts {
        let f = self.flight();
        Counts {
            fences: f.fences,
            stored: f.stored,
            written_back: f.written_back,
        }
    }

    /// Groups of stores whose arrival is open: an ordinary line is one group of ordered stores, a non-temporal word one.
    pub fn pending_groups(&self) -> usize {
        self.flight().lines.values().map(|l| groups(l).len()).sum()
    }

    /// What a power cut leaves if nothing in flight arrives.
    pub fn durable(&self) -> MemoryMedia {
        self.durable.snapshot()
    }

    /// What a warm restart finds: all that was stored.
    pub fn visible(&self) -> MemoryMedia {
        self.visible.snapshot()
    }

    /// Images that a power cut now may leave. All of them if there are at most `limit`, else `limit` samples among which are
    /// the extremes: nothing arrives, everything does.
    pub fn crash_images(&self, random: &mut Random, limit: usize) -> Vec<MemoryMedia> {
        let open: Vec<Vec<Pending>> = self
            .flight()
            .lines
            .values()
            .flat_map(|l| groups(l))
            .collect();
        let total = open.iter().try_fold(1usize, |n, g| {
            n.checked_mul(g.len() + 1).filter(|n| *n <= limit)
        });
        match total {
            Some(total) => (0..total)
                .map(|mut number| {
                    self.image(&open, |g| {
                        let n = number % (g + 1);
                        number /= g + 1;
                        n
                    })
                })
                .collect(),
            None => {
                let mut images = vec![self.image(&open, |_| 0), self.image(&open, |g| g)];
                while images.len() < limit {
                    // Sometimes nearly all, sometimes nearly none.
                    let bias = random.below(8);
                    images.push(self.image(&open, |g| match random.below(8) {
                        x if x < bias => g,
                        7 => random.below(g as u64 + 1) as usize,
                        _ => 0,
                    }));
                }
                images
            }
        }
    }

    /// The durable image plus the first `choose(length)` stores of each group.
    fn image(&self, open: &[Vec<Pending>], mut choose: impl FnMut(usize) -> usize) -> MemoryMedia {
        let image = self.durable.snapshot();
        for group in open {
            for p in group.iter().take(choose(group.len())) {
                image.store_u64(p.address, p.value);
            }
        }
        image
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issue(&self, address: u64, bytes: &[u8], through: bool) {
        self.visible.store(address, bytes);
        let cpu = 1 << (current_cpu() % 64);
        let mut f = self.flight();
        f.stored += bytes.len() as u64;
        for (i, word) in bytes.chunks_exact(8).enumerate() {
            let mut value = [0; 8];
            value.copy_from_slice(word);
            let address = address + i as u64 * 8;
            f.lines.entry(address / 64).or_default().push(Pending {
                address,
                value: u64::from_le_bytes(value),
                through,
                covered_by: if through { cpu } else { 0 },
            });
        }
    }

    fn before_fence(&self) {
        let hook = self
            .hook
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut hook) = hook {
            hook(self);
            self.hook
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(hook);
        }
    }

    fn complete(&self, cpus: u64) {
        self.before_fence();
        let mut f = self.flight();
        f.fences += 1;
        f.lines.retain(|_, line| {
            // Whatever is ordered before a store that must have arrived has arrived too.
            let last = line
                .iter()
                .rposition(|p| p.covered_by & cpus != 0 && !p.through);
            let mut i = 0;
            line.retain(|p| {
                let ordered = !p.through && last.is_some_and(|l| i <= l);
                let done = ordered || p.covered_by & cpus != 0;
                i += 1;
                if done {
                    self.durable.store_u64(p.address, p.value);
                }
                !done
            });
            !line.is_empty()
        });
    }
}

/// The groups of one line: its ordinary stores in order, and each non-temporal word with its own later stores.
fn groups(line: &[Pending]) -> Vec<Vec<Pending>> {
    let mut ordinary = Vec::new();
    let mut through: BTreeMap<u64, Vec<Pending>> = BTreeMap::new();
    for p in line {
        if p.through {
            through.entry(p.address).or_default().push(*p);
        } else {
            ordinary.push(*p);
        }
    }
    let mut all: Vec<_> = through.into_values().collect();
    if !ordinary.is_empty() {
        all.push(ordinary);
    }
    all
}

impl Media for SimMedia {
    fn size(&self) -> u64 {
        self.visible.size()
    }

    fn read(&self, address: u64, buffer: &mut [u8]) -> Result {
        self.visible.read(address, buffer)
    }

    fn read_u64(&self, address: u64) -> Result<u64> {
        self.visible.read_u64(address)
    }

    fn store(&self, address: u64, bytes: &[u8]) {
        self.issue(address, bytes, false);
    }

    fn store_u64(&self, address: u64, value: u64) {
        self.issue(address, &value.to_le_bytes(), false);
    }

    fn store_through(&self, address: u64, bytes: &[u8]) {
        self.issue(address, bytes, true);
    }

    fn zero(&self, address: u64, len: u64) {
        self.issue(address, &vec![0; len as usize], false);
    }

    fn zero_through(&self, address: u64, len: u64) {
        self.issue(address, &vec![0; len as usize], true);
    }

    fn write_back(&self, address: u64, len: u64) {
        let cpu = 1 << (current_cpu() % 64);
        let mut f = self.flight();
        let (first, last) = (address / 64, (address + len.max(1) - 1) / 64);
        f.written_back += last - first + 1;
        for (_, line) in f.lines.range_mut(first..=last) {
            for p in line {
                p.covered_by |= cpu;
            }
        }
    }

    fn fence(&self) {
        let cpus = 1 << (current_cpu() % 64);
        self.complete(if self.is_synchronous() { cpus } else { 0 });
    }

    fn drain(&self) {
        self.complete(if self.is_synchronous() { u64::MAX } else { 0 });
    }

    fn is_synchronous(&self) -> bool {
        self.visible.is_synchronous()
    }

    fn sync_device(&self) -> Result {
        if !self.is_synchronous() {
            self.before_fence();
            let lines = std::mem::take(&mut self.flight().lines);
            for p in lines.values().flatten() {
                self.durable.store_u64(p.address, p.value);
            }
        }
        Ok(())
    }

    fn phase(&self) -> u64 {
        self.visible.phase()
    }
}
